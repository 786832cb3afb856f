"""The tools that know a gateway by reflection alone: grpcurl, of now and of the time of v1alpha, and ghz."""

import contextlib
import json
import pathlib
import subprocess
import tempfile

import decisions
from gateway import Certificates, Gateway

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / ".tools/bin"
SERVICE = "onboardflow.customer.v1.CustomerService"
REQUEST = {
    "site_key": "f37F2PPh",
    "event_date": "2020-03-01T00:00:00Z",
    "customer": {
        "id": "cus_123XYZ",
        "user_id": "user_123XYZ",
        "email": "test@onboardflow.com",
        "first_name": "Joe",
        "has_payment_method": True,
    },
    "custom_properties": {"plan": "trial", "seats": 3},
}

# What is asked of grpcurl, and what its answer must hold.
GRPCURL = {
    "list": (["list"], [SERVICE, "grpc.health.v1.Health"]),
    "describe": (["describe", SERVICE], ["rpc CreateCustomer", "Safe to repeat"]),  # with the comments
    "describe a message": (
        ["describe", "onboardflow.customer.v1.Customer"],
        ["optional bool has_payment_method = 7", "an update without it would turn a true into false"],
    ),
    "call": ([f"{SERVICE}/CreateCustomer"], ['"type": "CUSTOMER_CREATED"', '"eventDate": "2020-03-01T00:00:00Z"']),
    "error details": (
        [f"{SERVICE}/UpdateCustomer"],
        [
            "InvalidArgument",
            "google.rpc.ErrorInfo",
            '"INVALID_REQUEST"',
            '"not_sent"',
            "google.rpc.BadRequest",
            '"customer.email"',
        ],
    ),
    "health": (["grpc.health.v1.Health/Check"], ['"status": "SERVING"']),
}
GRPCURL_DATA = {"call": REQUEST, "error details": {"site_key": "f37F2PPh", "customer": {}}}

# The rows of docs/calling.md for writes of unknown outcome that have no request_id, as those of examples/ all do.
WITHOUT_REQUEST_ID = {"CreateCustomer": "look", "UpdateCustomer": "repeat"}


def missing(programs: tuple[str, ...]) -> list[str]:
    lacking = [program for program in programs if not (TOOLS / program).exists()]
    return [f"{program}: not in .tools/bin; 'scripts/tools {program}' installs it" for program in lacking]


def grpcurl_problems(program: str, binary: pathlib.Path, certificates: Certificates | None) -> list[str]:
    """Over mTLS where there are certificates, else in plaintext."""
    problems = []
    with contextlib.ExitStack() as started:
        gateway = started.enter_context(Gateway(binary))
        if certificates:
            flags = certificates.gateway_flags(mutual=True)
            gateway = started.enter_context(Gateway(binary, flags, upstream=gateway))
        grpcurl = [str(TOOLS / program), *grpcurl_connection(certificates)]
        for name, (asked, wanted) in GRPCURL.items():
            data = ["-d", json.dumps(GRPCURL_DATA[name])] if name in GRPCURL_DATA else []
            printed = output_of([*grpcurl, *data, gateway.address, *asked], 20)
            problems += [
                f"{name}: no {text!r} in:\n{printed}" for text in wanted if compact(text) not in compact(printed)
            ]
        return problems + descriptor_problems([*grpcurl, gateway.address])


def unnamed_write_problems(binary: pathlib.Path) -> list[str]:
    """What a write without a request_id leads to, when its outcome is unknown."""
    problems = []
    with Gateway(binary) as gateway:
        for rpc, expected in WITHOUT_REQUEST_ID.items():
            data = json.dumps(REQUEST | {"site_key": "sandbox-500"})
            command = [str(TOOLS / "grpcurl"), "-plaintext", "-format-error", "-d", data, gateway.address]
            printed = output_of([*command, f"{SERVICE}/{rpc}"], 20)
            status = json.loads(printed)
            info = status["details"][0]
            outcome = {"code": str(status["code"]), "reason": info["reason"], "write": info["metadata"]["write"]}
            row = decisions.row_of(rpc, outcome)
            if row != expected:
                problems.append(f"{rpc}: docs/calling.md leads to '{row}' and not to '{expected}': {printed}")
    return problems


def descriptor_problems(grpcurl: list[str]) -> list[str]:
    """What reflection serves must be the committed contract, comments included."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as file:
        output_of([*grpcurl[:1], "-protoset-out", file.name, *grpcurl[1:], "describe", SERVICE], 20)
        command = [str(ROOT / "scripts/check-contract"), "--compare", file.name]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return [f"descriptors: {ran.stdout}{ran.stderr}"] if ran.returncode != 0 else []


def grpcurl_connection(certificates: Certificates | None) -> list[str]:
    if certificates is None:
        return ["-plaintext"]
    ca, caller = certificates.ca, certificates.client
    return ["-cacert", f"{ca}.pem", "-cert", f"{caller}.pem", "-key", f"{caller}.key"]


def compact(text: str) -> str:
    """Old releases print details on one line, without the spaces."""
    return "".join(text.split())


def load(binary: pathlib.Path, seconds: int) -> tuple[str, list[str]]:
    """Calls from ghz on eight connections. The figures, and what went wrong."""
    with Gateway(binary, ("--log", "warn")) as gateway:
        command = [str(TOOLS / "ghz"), "--insecure", "--format", "json", "--call", f"{SERVICE}/CreateCustomer"]
        command += ["--connections", "8", "--concurrency", "64", "--duration-stop", "wait"]
        printed = output_of([*command, "-z", f"{seconds}s", "-d", json.dumps(REQUEST), gateway.address], seconds + 30)
    try:
        report = json.loads(printed)
    except ValueError:
        return "", [f"ghz printed:\n{printed}"]
    figures = (
        f"{report['count']} calls in {report['total'] / 1e9:.1f} s, {report['rps']:.0f} a second, on 8 connections"
    )
    if report["statusCodeDistribution"].keys() != {"OK"} or report.get("errorDistribution"):
        return figures, [f"not all OK: {report['statusCodeDistribution']} {report.get('errorDistribution')}"]
    return figures, []


def output_of(command: list[str], seconds: int) -> str:
    ran = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
    )
    return ran.stdout
