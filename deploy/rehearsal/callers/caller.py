"""A caller on gRPC's C core for scripts/rehearse-cluster. README.md has what all three callers do alike."""

import base64
import collections
import json
import os
import pathlib
import threading
import time

import grpc


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.calls, self.slowest, self.failures = 0, 0.0, collections.Counter()

    def note(self, took, failure):
        with self.lock:
            self.calls += 1
            self.slowest = max(self.slowest, took)
            if failure:
                self.failures[failure] += 1

    def line(self):
        with self.lock:
            return json.dumps({"calls": self.calls, "slowest": self.slowest, "failures": self.failures})


def channel():
    options = [
        ("grpc.service_config", os.environ["SERVICE_CONFIG"]),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),  # calls are no data
        ("grpc.use_local_subchannel_pool", 1),  # channels of one process share their connections otherwise
    ]
    if not os.environ.get("TLS_DIR"):
        return grpc.insecure_channel(os.environ["TARGET"], options)
    folder = pathlib.Path(os.environ["TLS_DIR"])
    files = [(folder / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    return grpc.secure_channel(os.environ["TARGET"], grpc.ssl_channel_credentials(*files), options)


def call_on(tally, calls, pause):
    opened = channel()
    methods = [(opened.unary_unary(path), base64.b64decode(request)) for path, request in calls]
    while True:
        for method, request in methods:
            begun, failure = time.monotonic(), None
            try:
                method(request, timeout=10)
            except grpc.RpcError as error:
                failure = f"{error.code().name}: {error.details()}"
            tally.note(time.monotonic() - begun, failure)
            time.sleep(pause)


def main():
    tally, calls = Tally(), json.loads(os.environ["CALLS"])
    for _ in range(int(os.environ["CHANNELS"])):
        arguments = (tally, calls, int(os.environ["PAUSE_MS"]) / 1000)
        threading.Thread(target=call_on, args=arguments, daemon=True).start()
    while True:
        time.sleep(1)
        print(tally.line(), flush=True)


main()
