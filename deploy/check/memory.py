"""The memory of a pod: the program with the arguments and settings of the production overlay, under load."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

from installation import bytes_of
from manifests import ROOT

KEY = "0123456789abcdef0123456789abcdef01234567"  # made up
LATENCY = 2  # seconds: so long that all calls of a round are in flight at once
ROUNDS = 3
CUSTOMER = {"id": "cus_123XYZ", "user_id": "user_123XYZ", "email": "test@onboardflow.com", "has_payment_method": True}
REQUEST = {"site_key": "f37F2PPh", "event_date": "2020-03-01T00:00:00Z", "customer": CUSTOMER}
# HTTP/2's preface, and a SETTINGS frame without settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def problems(installation, binary):
    """The worst that the settings let in (every connection, and every call, each with the largest reply) fits the request.
    Prints what docs/kubernetes.md#sizing shows."""
    resources, settings = installation.container["resources"], installation.settings
    request = bytes_of(resources["requests"]["memory"]) / 2**20
    most, admitted = (int(settings[f"ONBOARDFLOW_MAX_{what}"]) for what in ("CONNECTIONS", "IN_FLIGHT"))
    largest = bytes_of(settings["ONBOARDFLOW_MAX_RESPONSE_BYTES"])
    loads = [(1, 0, 0), (8, 64, 0), (8, admitted, 0), (most, 0, 0), (most, admitted, largest)]
    print(f"{'connections':>11} {'in flight':>9} {'reply KiB':>9} {'RSS MiB':>8} {'peak MiB':>8}")
    for connections, in_flight, reply in loads:
        resident, peak, failed = measure(installation, binary, connections, in_flight, reply)
        print(f"{connections:>11} {in_flight:>9} {reply >> 10 or '':>9} {resident:>8.1f} {peak:>8.1f}", flush=True)
        if peak > request:
            yield f"{peak:.1f} MiB with {connections} connections and {in_flight} calls in flight is over {request:.0f} MiB"
        if failed:
            yield f"with {connections} connections and {in_flight} calls in flight {failed} calls failed"


def measure(installation, binary, connections, in_flight, reply):
    with contextlib.ExitStack() as ends:
        upstream = ends.enter_context(onboardflow(reply))
        port, admin, process = started(installation, binary, upstream, ends)
        calling = min(connections, in_flight)
        for _ in range(connections - calling):
            ends.enter_context(idle(port))
        failed = call(port, calling, in_flight) if in_flight else 0
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10).read().decode()
        assert "onboardflow_gateway" in metrics
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        resident, peak = (int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024 for field in ("VmRSS", "VmHWM"))
        return resident, peak, failed


@contextlib.contextmanager
def onboardflow(size):
    """A slow OnboardFlow, whose replies have a field that nobody knows, as long as is wanted."""
    filler = f'"filler":"{"x" * max(size - 2048, 0)}",'  # leaves room for the rest: the limit is met and not passed

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            write = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            customer = CUSTOMER | {"id": write["customer_id"]}
            meta = {"data": {"customer": customer}, "type": "CUSTOMER_UPDATED", "created": write["event_date"]}
            data = {"id": 1, "event_type": "PROVIDER_EVENT", "site_hash": write["site_key"], "event_meta": meta}
            reply = json.dumps({"success": True, "data": data | {"event_date": write["event_date"] * 1000}})
            body = (reply[0] + filler + reply[1:]).encode()
            time.sleep(LATENCY)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 1024
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def started(installation, binary, upstream, ends):
    """The process, as the kubelet would start it, but for addresses of this machine."""
    folder = pathlib.Path(ends.enter_context(tempfile.TemporaryDirectory()))
    (folder / "token").write_text(KEY)
    mounted = {mount["mountPath"]: str(folder) for mount in installation.container["volumeMounts"]}
    arguments = installation.container["args"]
    for path, here in mounted.items():
        arguments = [argument.replace(path + "/", here + "/") for argument in arguments]
    ours = {"LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0", "UPSTREAM_URL": upstream}
    environment = installation.settings | {f"ONBOARDFLOW_{name}": value for name, value in ours.items()}
    log = ends.enter_context((folder / "log").open("w+"))
    process = subprocess.Popen([os.path.abspath(binary), *arguments], env=environment, stdout=log, stderr=log)
    ends.callback(process.wait)
    ends.callback(process.kill)
    for _ in range(200):
        lines = [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.endswith("}")]
        ports = {line["message"]: line["address"].rpartition(":")[2] for line in lines if "address" in line}
        if "serving" in ports:
            return ports["serving"], ports["admin port"], process
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the program did not start:\n{lines}")


def idle(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(HELLO)
    connection.recv(64)  # the server's settings: it has taken the connection
    return connection


def call(port, connections, in_flight):
    """Calls in rounds, by ghz. The number of those that failed."""
    command = [ROOT / ".tools/bin/ghz", "--insecure", "--format=json", "--timeout=60s", f"--connections={connections}"]
    command += [f"--concurrency={in_flight}", f"--total={in_flight * ROUNDS}", f"--data={json.dumps(REQUEST)}"]
    command += ["--call=onboardflow.customer.v1.CustomerService/UpdateCustomer", f"127.0.0.1:{port}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    answered = json.loads(ran.stdout)["statusCodeDistribution"].get("OK", 0)
    return in_flight * ROUNDS - answered
