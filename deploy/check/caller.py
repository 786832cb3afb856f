"""A caller on gRPC's C core (Python, C++, Ruby, PHP, …), for rehearse.go, which starts it and reads its tally.

Reads from standard input one JSON object: target, service_config, options, threads and the two requests, encoded.
Calls create and update in turn until standard input ends, then prints what it saw. Replies are not decoded: a call
that failed says so by itself, and what arrived is counted behind the gateway.
"""

import base64
import collections
import json
import sys
import threading
import time

import grpc


def main():
    task = json.loads(sys.stdin.readline())
    calls = [(path, base64.b64decode(request)) for path, request in task["calls"]]
    options = [("grpc.service_config", task["service_config"]), *task["options"].items()]
    tally = {"calls": 0, "slowest": 0.0, "failures": collections.Counter()}
    lock, stop = threading.Lock(), threading.Event()

    def call_on():
        # Channels of one process share their connections unless told not to.
        channel = grpc.insecure_channel(task["target"], [*options, ("grpc.use_local_subchannel_pool", 1)])
        methods = [(channel.unary_unary(path), request) for path, request in calls]
        n = 0
        while not stop.is_set():
            method, request = methods[n % len(methods)]
            n += 1
            begun, failure = time.monotonic(), None
            try:
                method(request, timeout=10)
            except grpc.RpcError as error:
                failure = f"{error.code().name}: {error.details()}"
            with lock:
                tally["calls"] += 1
                tally["slowest"] = max(tally["slowest"], time.monotonic() - begun)
                if failure:
                    tally["failures"][failure] += 1
            time.sleep(0.01)
        channel.close()

    threads = [threading.Thread(target=call_on) for _ in range(task["threads"])]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    json.dump(tally, sys.stdout)


main()
