"""Runs callers of several languages, grpcurl and ghz against the real binary with its sandbox.

  clients   every example of examples/, built as its README says, makes all six RPCs in every case that the sandbox
            provokes: plaintext and mTLS, compressed and not. Each must see what the contract says, and all must see the
            same, field by field. What they see must lead to the right row of docs/calling.md's table.
  readme    the commands that the examples' READMEs print
  grpcurl   the current release and an old one that knows reflection v1alpha only
  mesh      a real Envoy with Istio's default retries in front: what OnboardFlow sees of one call that fails
  load      ghz, a few seconds on several connections, with no failed call

Prints a table, and below it what is wrong. Exit codes: 0 all right, 1 something is wrong, 69 something is missing.
"""

import argparse
import functools
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import clients
import decisions
import mesh
import tools
from cases import CASES
from examples import EXAMPLES, ROOT, Example
from gateway import Certificates, Gateway, has_tls

PARTS = ("clients", "readme", "grpcurl", "mesh", "load")
README_ADDRESS = "127.0.0.1:50051"


class Report:
    """What was found out: rows of marks, and the problems behind each ✗."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.missing: list[str] = []
        self.passed = self.failed = 0

    def mark(self, title: str, problems: list[str]) -> str:
        self.passed += not problems
        self.failed += bool(problems)
        self.problems += [f"{title}\n    {problem}" for problem in problems]
        return "✗" if problems else "✓"

    def print_problems(self) -> None:
        for problem in self.problems:
            print(f"\n✗ {problem}")
        for missing in self.missing:
            print(f"\nNOT RUN: {missing}")

    def exit_code(self, allow_missing: bool) -> int:
        if self.problems:
            return 1
        return 69 if self.missing and not allow_missing else 0


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the gateways are stopped then too
    started = time.monotonic()
    binary = options.gateway or build_gateway()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        examples = []
        if {"clients", "readme"} & set(options.parts):
            examples = build(present(options.languages, report), report)
        if "clients" in options.parts:
            print(f"decision table     {report.mark('the rows of docs/calling.md', decisions.page_problems())}")
            print_clients(clients.run_all(binary, examples, pathlib.Path(folder)), examples, binary, report)
        if "readme" in options.parts:
            try_readmes(binary, examples, report)
        if "grpcurl" in options.parts:
            try_grpcurl(binary, Certificates(pathlib.Path(folder)), report)
        if "mesh" in options.parts:
            try_mesh(binary, pathlib.Path(folder), report)
        if "load" in options.parts:
            try_load(binary, options.seconds, report)
    report.print_problems()
    print(f"\nin {time.monotonic() - started:.0f} s")
    print(f"interop: {report.passed} passed, {report.failed} failed, {len(report.missing)} skipped")
    return report.exit_code(options.allow_missing)


def arguments() -> argparse.Namespace:
    names = [example.name for example in EXAMPLES]
    parser = argparse.ArgumentParser(
        prog="scripts/interop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help="which parts; default: all")
    parser.add_argument("--languages", nargs="+", choices=names, default=names)
    parser.add_argument("--allow-missing", action="store_true", help="a missing toolchain or tool is no failure")
    parser.add_argument("--gateway", type=pathlib.Path, help="the binary; default: what 'cargo build --release' makes")
    parser.add_argument("--seconds", type=int, default=5, help="how long ghz calls")
    options = parser.parse_args()
    options.parts = options.parts or PARTS
    return options


def build_gateway() -> pathlib.Path:
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    return ROOT / "target/release/onboardflow-gateway"


def present(names: list[str], report: Report) -> list[Example]:
    """The examples whose toolchains are here."""
    wanted = [example for example in EXAMPLES if example.name in names]
    for example in wanted:
        if example.missing:
            report.missing.append(f"{example.name}: no {', '.join(example.missing)} on this machine")
    return [example for example in wanted if not example.missing]


def build(examples: list[Example], report: Report) -> list[Example]:
    """Builds each, and returns those that could be."""
    built = []
    for example in examples:
        started = time.monotonic()
        failure = example.build()
        mark = report.mark(f"building {example.name}", [failure] if failure is not None else [])
        print(f"building {example.name:<9} {mark}  {time.monotonic() - started:.0f} s", flush=True)
        if failure is None:
            built.append(example)
    return built


def print_clients(runs: list[clients.Run], examples: list[Example], binary: pathlib.Path, report: Report) -> None:
    connections = clients.connections_of(binary)
    left_out = [connection.name for connection in clients.CONNECTIONS if connection not in connections]
    if left_out:
        report.missing.append(f"{', '.join(left_out)}: this gateway has no TLS")
    print(f"\nEach cell: {' · '.join(connection.name for connection in connections)}\n")
    print(f"{'':<18}", *(f"{example.name:<8}" for example in examples))
    for case in CASES:
        cells = []
        for example in examples:
            marks = ""
            for connection in connections:
                of_cell = [r for r in runs if (r.case, r.example, r.connection) == (case, example, connection)]
                title = f"{case.name}, {example.name}, {connection.name}"
                marks += "".join(report.mark(title, run.problems) for run in of_cell) or " "
            cells.append(f"{marks:<8}")
        print(f"{case.name:<18}", *cells)


def try_readmes(binary: pathlib.Path, examples: list[Example], report: Report) -> None:
    try:
        with Gateway(binary, address=README_ADDRESS), ThreadPoolExecutor(2) as pool:
            found = list(pool.map(attempt(Example.try_readme), examples))
    except RuntimeError as error:
        found = [[f"a sandbox on {README_ADDRESS}, which the READMEs name: {error}"]] * len(examples)
    marks = [
        report.mark(f"README of {example.name}", problems) for example, problems in zip(examples, found, strict=True)
    ]
    print(f"{'README':<18}", *(f"{mark:<8}" for mark in marks))


def try_grpcurl(binary: pathlib.Path, certificates: Certificates, report: Report) -> None:
    print()
    for program in ("grpcurl", "grpcurl-v1alpha"):
        if missing := tools.missing((program, "buf")):
            report.missing += missing
            continue
        check = attempt(functools.partial(tools.grpcurl_problems, program, binary))
        marks = report.mark(f"{program}, plaintext", check(None))
        if has_tls(binary):
            marks += report.mark(f"{program}, mTLS", check(certificates))
        print(f"{program:<18} {marks}  {', '.join(tools.GRPCURL)}, descriptors")
    if not tools.missing(("grpcurl",)):
        mark = report.mark("grpcurl, no request_id", attempt(tools.unnamed_write_problems)(binary))
        print(f"{'no request_id':<18} {mark}  rows of docs/calling.md: {', '.join(tools.WITHOUT_REQUEST_ID.values())}")


def try_mesh(binary: pathlib.Path, folder: pathlib.Path, report: Report) -> None:
    if missing := tools.missing(("envoy", "grpcurl")):
        report.missing += missing
        return
    print(f"\n{'behind Envoy':<18} {'call':<16} requests at OnboardFlow")
    for fault, method, calls, bound, problems in mesh.rows(binary, folder):
        mark = report.mark(f"behind Envoy, {fault}, {method}", problems)
        print(f"{fault:<18} {method:<16} {mark} {calls}, at most {bound}")


def try_load(binary: pathlib.Path, seconds: int, report: Report) -> None:
    if missing := tools.missing(("ghz",)):
        report.missing += missing
        return
    figures, problems = tools.load(binary, seconds)
    print(f"\n{'load':<18} {report.mark('load', problems)}  {figures}")


def attempt(check: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """The check's problems, and its own failure as one more."""

    def attempted(argument: object) -> list[str]:
        try:
            return check(argument)
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]

    return attempted


if __name__ == "__main__":
    sys.exit(main())
