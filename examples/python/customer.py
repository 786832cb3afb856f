"""Tells OnboardFlow about a customer, through onboardflow-gateway: one call for each RPC that it names.

client.py is the part to copy: the channel, the deadline, and what is repeated. failure.py reads the gateway's error
details, and messages.py has a request for each RPC. This file is only the command line.
"""

import argparse
import sys
import uuid

import grpc

import messages
from client import Client, connect
from failure import Failure
from report import Report

REQUESTS = {
    "CreateCustomer": messages.create_customer,
    "UpdateCustomer": messages.update_customer,
    "DeleteCustomer": messages.delete_customer,
    "CreateSubscription": messages.create_subscription,
    "UpdateSubscription": messages.update_subscription,
    "RecordEvent": messages.record_event,
}


def arguments():
    parser = argparse.ArgumentParser(description="Tells OnboardFlow about a customer.")
    parser.add_argument("rpcs", nargs="*", metavar="RPC", help=f"{', '.join(REQUESTS)}; default: the first two")
    parser.add_argument("--target", default="127.0.0.1:50051", help="gateway's host:port")
    parser.add_argument("--tls-ca", help="PEM of the CA that signed the gateway's certificate; turns TLS on")
    parser.add_argument("--tls-cert", help="PEM of our own certificate, for mTLS")
    parser.add_argument("--tls-key", help="PEM of its key")
    parser.add_argument("--compression", choices=["none", "gzip"], default="none")
    parser.add_argument("--timeout", type=float, default=5, help="seconds that a call may take, repeats included")
    parser.add_argument("--site-key", default="f37F2PPh", help="OnboardFlow site key")
    parser.add_argument("--customer-id", default="cus_123XYZ")
    parser.add_argument("--email", default="zoe@example.com", help="customer's email address")
    parser.add_argument("--image-url", help="URL of the customer's picture")
    parser.add_argument("--json", action="store_true", help="print a line of JSON per call")
    args = parser.parse_args()
    if unknown := set(args.rpcs) - REQUESTS.keys():
        parser.error(f"no such RPC: {', '.join(unknown)}")
    return args


def main():
    args = arguments()
    ok = True
    with connect(args.target, args.tls_ca, args.tls_cert, args.tls_key, args.compression) as channel:
        client = Client(channel, args.timeout)
        for rpc in args.rpcs or ["CreateCustomer", "UpdateCustomer"]:
            # Names this write in each attempt at it, those of the channel too. Store it where your own program may
            # repeat the write later.
            request_id = str(uuid.uuid4())
            call_id = str(uuid.uuid4())
            report = Report(rpc, call_id, request_id)
            try:
                report.event = client.call(rpc, REQUESTS[rpc](args, request_id), call_id)
            except grpc.RpcError as error:
                report.failure = Failure.of(error)
                ok = False
            report.print(args.json)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
