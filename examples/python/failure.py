"""What the gateway says about a failed call, beyond its code."""

from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass
class Failure:
    """A status with its google.rpc details.

    One without an ErrorInfo was not made by the gateway (the deadline passed here, say, or the gateway couldn't be
    reached), so it doesn't tell what became of the write.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""  # ErrorInfo.reason: INVALID_REQUEST, UPSTREAM_MAINTENANCE, …
    metadata: dict[str, str] = field(default_factory=dict)  # ErrorInfo.metadata: write, http_status, request_id
    violations: list[tuple[str, str]] = field(default_factory=list)  # BadRequest: field and description
    retry_after: timedelta | None = None  # RetryInfo

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Failure":
        failure = cls(error.code(), error.details() or "")
        try:
            status = rpc_status.from_call(error)
        except ValueError:  # Code and details disagree: the deadline passed here while the gateway's answer came in.
            status = None
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                failure.reason, failure.metadata = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                failure.violations = [(v.field, v.description) for v in bad.field_violations]
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                failure.retry_after = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToTimedelta()
        return failure

    @property
    def write(self) -> str:
        """What became of the write: not_sent, rejected, unknown or applied."""
        return self.metadata.get("write", "")
