"""The client: how to connect, and how to make each call so that it neither hangs nor records a customer twice."""

import time
from pathlib import Path

import grpc

from failure import Failure
from onboardflow.customer.v1 import customer_pb2, customer_pb2_grpc

SERVICE_CONFIG = Path(__file__).parent.parent / "service-config.json"

# Bounds a create's tries, the first one included.
MAX_ATTEMPTS = 3


def connect(target, ca=None, cert=None, key=None, compression="none"):
    """Sets up the channel.

    One serves the whole program: it balances over every address that the name has, reconnects by itself, and repeats a
    failed update (not a create), as the service config says.
    """
    target = f"dns:///{target}"
    options = {
        "options": [("grpc.service_config", SERVICE_CONFIG.read_text())],
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
    """Creates, updates and deletes customers.

    The timeout, in seconds, holds for a call as a whole. The gateway learns it too, and keeps it for its own call to
    OnboardFlow. The request id is what the gateway logs a call under.
    """

    def __init__(self, channel, timeout):
        self._api = customer_pb2_grpc.CustomerServiceStub(channel)
        self._timeout = timeout

    def create(self, request: customer_pb2.CreateCustomerRequest, request_id) -> customer_pb2.CustomerEvent:
        """Records a new customer.

        A create isn't idempotent, so the service config has no retries for it; it is repeated here, and only where the
        gateway says that nothing was written.
        """
        deadline = time.monotonic() + self._timeout
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._api.CreateCustomer(
                    request, timeout=deadline - time.monotonic(), metadata=[("x-request-id", request_id)]
                ).event
            except grpc.RpcError as error:
                failure = Failure.of(error)
                fits = time.monotonic() + failure.wait < deadline
                if attempt == MAX_ATTEMPTS or not failure.nothing_written or not fits:
                    raise
                time.sleep(failure.wait)

    def update(self, request: customer_pb2.UpdateCustomerRequest, request_id) -> customer_pb2.CustomerEvent:
        """Records a changed customer. The same update twice does no harm, so the channel itself repeats it."""
        return self._api.UpdateCustomer(request, timeout=self._timeout, metadata=[("x-request-id", request_id)]).event

    def delete(self, request: customer_pb2.DeleteCustomerRequest, request_id) -> customer_pb2.CustomerEvent:
        """Removes a customer. One that is gone stays gone, so the channel itself repeats it.

        The event is empty where OnboardFlow's reply has none.
        """
        return self._api.DeleteCustomer(request, timeout=self._timeout, metadata=[("x-request-id", request_id)]).event
