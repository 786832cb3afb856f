"""Creates, updates or deletes a customer through onboardflow-gateway.

client.py is the part to copy: the channel, the deadline, the request id, and what may be repeated. failure.py reads the
gateway's error details. This file is only the command line.
"""

import argparse
import sys
import uuid

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

import report
from client import Client, connect
from failure import Failure
from onboardflow.customer.v1 import customer_pb2


def arguments():
    parser = argparse.ArgumentParser(description="Creates, updates or deletes a customer.")
    parser.add_argument("calls", nargs="*", metavar="create|update|delete", help="which calls; default: create, update")
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
    if unknown := set(args.calls) - {"create", "update", "delete"}:
        parser.error(f"no call is named {', '.join(unknown)}: create, update, delete")
    return args


def create_request(args):
    """A customer who has just started a trial."""
    request = customer_pb2.CreateCustomerRequest(
        site_key=args.site_key, event_date=now(), customer=customer_of(args, has_payment_method=False)
    )
    request.custom_properties.update({"plan": "trial", "qty_tasks": 2})
    return request


def update_request(args):
    """The same customer after adding a payment method.

    An update carries the customer whole: what it leaves out is unset.
    """
    return customer_pb2.UpdateCustomerRequest(
        site_key=args.site_key,
        event_date=now(),
        customer=customer_of(args, last_name="Müller", has_payment_method=True),
    )


def delete_request(args):
    """The customer has left."""
    return customer_pb2.DeleteCustomerRequest(
        site_key=args.site_key, customer_id=args.customer_id, user_id="user_123XYZ"
    )


def customer_of(args, **more):
    return customer_pb2.Customer(
        id=args.customer_id,
        user_id="user_123XYZ",
        email=args.email,
        first_name="Zoë",
        image_url=args.image_url or None,
        **more,
    )


def now():
    timestamp = Timestamp()
    timestamp.GetCurrentTime()
    return timestamp


def main():
    args = arguments()
    show = report.as_json if args.json else report.text
    ok = True
    with connect(args.target, args.tls_ca, args.tls_cert, args.tls_key, args.compression) as channel:
        client = Client(channel, args.timeout)
        calls = {
            "create": lambda request_id: client.create(create_request(args), request_id),
            "update": lambda request_id: client.update(update_request(args), request_id),
            "delete": lambda request_id: client.delete(delete_request(args), request_id),
        }
        for call in args.calls or ["create", "update"]:
            request_id = str(uuid.uuid4())
            try:
                show(call, request_id, calls[call](request_id), None)
            except grpc.RpcError as error:
                show(call, request_id, None, Failure.of(error))
                ok = False
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
