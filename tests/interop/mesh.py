"""A sidecar that repeats: a real Envoy with Istio's default retry policy between a caller and the gateway.

Behind it stands an OnboardFlow that fails every call in one way, and counts. A create must reach it once, and an update
at most `--max-attempts` times, however often the sidecar repeats the call.
"""

import contextlib
import dataclasses
import http.server
import json
import pathlib
import subprocess
import threading
import time

from gateway import Gateway, free_address, is_taken
from tools import REQUEST, SERVICE, TOOLS

MAX_ATTEMPTS = 3  # the gateway's default
KEY = "0" * 40
START_SECONDS = 20
CALL_SECONDS = 30

# https://istio.io/latest/docs/concepts/traffic-management/#retries: what a sidecar does where nobody configured it.
RETRY_POLICY = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 2,
}

# What OnboardFlow answers: a status, or none where it closes the connection.
FAULTS: dict[str, int | None] = {"503": 503, "502": 502, "500": 500, "429": 429, "no answer": None}


@dataclasses.dataclass
class OnboardFlow:
    """Fails every call in the same way, and counts them."""

    status: int | None
    calls: int = 0

    def __enter__(self) -> "OnboardFlow":
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def fail(self) -> None:
                owner.calls += 1
                self.rfile.read(int(self.headers.get("content-length", 0)))
                if owner.status is None:
                    self.close_connection = True
                    return
                self.send_response(owner.status)
                self.send_header("content-length", "0")
                self.end_headers()

            do_POST = do_PUT = do_DELETE = fail  # noqa: N815 (http.server's names)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.rest_address = f"127.0.0.1:{self.server.server_port}"
        self.token = KEY
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Envoy:
    """A sidecar of the gateway, from when it accepts connections."""

    def __init__(self, target: str, folder: pathlib.Path):
        self.address = free_address()
        self.configuration = folder / f"envoy-{self.address.rpartition(':')[2]}.json"
        self.configuration.write_text(json.dumps(configuration(self.address, target)))
        self.log = self.configuration.with_suffix(".log")

    def __enter__(self) -> "Envoy":
        command = [TOOLS / "envoy", "-c", self.configuration, "--use-dynamic-base-id", "--concurrency", "1"]
        command += ["--log-level", "warning", "--log-path", self.log]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not is_taken(self.address):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"Envoy isn't up:\n{self.log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def configuration(listen: str, target: str) -> dict[str, object]:
    """What Istio gives a sidecar, as far as it bears on a gRPC call."""
    virtual_host = {
        "name": "gateway",
        "domains": ["*"],
        "include_request_attempt_count": True,
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "gateway", "retry_policy": RETRY_POLICY}}],
    }
    manager = {
        "@type": extension("filters.network.http_connection_manager", "HttpConnectionManager"),
        "stat_prefix": "inbound",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [virtual_host]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": extension("filters.http.router", "Router")}}
        ],
    }
    manager_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "gateway",
        "type": "STATIC",
        "connect_timeout": "2s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {
            "cluster_name": "gateway",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(target)}}]}],
        },
    }
    listener = {"name": "inbound", "address": address(listen), "filter_chains": [{"filters": [manager_filter]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def extension(name: str, message: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}.v3.{message}"


def address(text: str) -> dict[str, object]:
    host, port = text.rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}


def seen_by_onboardflow(binary: pathlib.Path, folder: pathlib.Path, status: int | None, method: str) -> tuple[int, str]:
    """How many requests one call became, and what the caller was told."""
    with contextlib.ExitStack() as started:
        upstream = started.enter_context(OnboardFlow(status))
        gateway = started.enter_context(Gateway(binary, upstream=upstream))
        sidecar = started.enter_context(Envoy(gateway.address, folder))
        command = [TOOLS / "grpcurl", "-plaintext", "-max-time", str(CALL_SECONDS), "-d", json.dumps(REQUEST)]
        ran = subprocess.run(
            [*command, sidecar.address, f"{SERVICE}/{method}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CALL_SECONDS + 10,
        )
        return upstream.calls, ran.stdout


def rows(binary: pathlib.Path, folder: pathlib.Path) -> list[tuple[str, str, int, int, list[str]]]:
    """A row for each fault and method: the fault, the method, the requests seen, their bound, and what is wrong."""
    found = []
    for fault, status in FAULTS.items():
        for method, bound in (("CreateCustomer", 1), ("UpdateCustomer", MAX_ATTEMPTS)):
            calls, printed = seen_by_onboardflow(binary, folder, status, method)
            problems = []
            if not 1 <= calls <= bound:
                problems.append(f"OnboardFlow saw {calls} requests, not 1 to {bound}; the caller was told:\n{printed}")
            if "google.rpc.ErrorInfo" not in printed:
                problems.append(f"the caller was told nothing that a program can read:\n{printed}")
            found.append((fault, method, calls, bound, problems))
    return found
