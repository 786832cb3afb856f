"""The client: how to connect, and how to make a call so that it neither hangs nor records anything twice."""

from pathlib import Path

import grpc

from onboardflow.customer.v1 import customer_pb2_grpc
from onboardflow.event.v1 import event_pb2_grpc
from onboardflow.subscription.v1 import subscription_pb2_grpc

# The channel repeats every call that fails with UNAVAILABLE, creates included. That is safe only because each request
# has a request_id and the gateway keeps a ledger: a gateway without one refuses the call with LEDGER_OFF.
SERVICE_CONFIG = Path(__file__).parent.parent / "service-config.json"

# A ping every 30 s, between calls too: a connection that has fallen silent is replaced before the next call needs it.
PINGS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without this, grpcio waits for a minute
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # without this, grpcio sends two and no more
]


def connect(target, ca=None, cert=None, key=None, compression="none"):
    """Sets up the channel.

    One serves the whole program: it balances over every address that the name has, reconnects by itself, and repeats
    failed calls as the service config says.
    """
    target = f"dns:///{target}"
    options = {
        "options": [("grpc.service_config", SERVICE_CONFIG.read_text()), *PINGS],
        "compression": {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}[compression],
    }
    if ca is None:
        return grpc.insecure_channel(target, **options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=Path(ca).read_bytes(),
        certificate_chain=Path(cert).read_bytes() if cert else None,
        private_key=Path(key).read_bytes() if key else None,
    )
    return grpc.secure_channel(target, credentials, **options)


class Client:
    """Has a stub for each service. They share one channel."""

    def __init__(self, channel, timeout):
        self._timeout = timeout
        customers = customer_pb2_grpc.CustomerServiceStub(channel)
        subscriptions = subscription_pb2_grpc.SubscriptionServiceStub(channel)
        events = event_pb2_grpc.EventServiceStub(channel)
        self._methods = {
            "CreateCustomer": customers.CreateCustomer,
            "UpdateCustomer": customers.UpdateCustomer,
            "DeleteCustomer": customers.DeleteCustomer,
            "CreateSubscription": subscriptions.CreateSubscription,
            "UpdateSubscription": subscriptions.UpdateSubscription,
            "RecordEvent": events.RecordEvent,
        }

    def call(self, rpc, request, call_id):
        """Returns the event that OnboardFlow recorded. A delete may have none: the event is empty then.

        The timeout, in seconds, holds for the call as a whole, repeats included. The gateway learns it too, and keeps
        it for its own call to OnboardFlow. The call id is the one under which the gateway logs the call.
        """
        return self._methods[rpc](request, timeout=self._timeout, metadata=[("x-request-id", call_id)]).event
