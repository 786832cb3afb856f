"""Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages."""

import json
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from failure import Failure


@dataclass
class Report:
    """A call, with the event that it recorded or its failure."""

    rpc: str
    call_id: str
    request_id: str
    event: Any = None
    failure: Failure | None = None

    def print(self, as_json):
        if as_json:
            print(json.dumps(self.line(), ensure_ascii=False))
        elif self.failure:
            self.print_failure(self.failure)
        else:
            event = f", event {self.event.id}" if self.event.id else ""  # a delete's reply may have none
            print(f"{self.rpc}: done{event}")

    def print_failure(self, failure):
        print(f"{self.rpc} failed: {failure.code.name}: {failure.message}")
        if failure.reason:
            print(f"  reason: {failure.reason}")
        for field, description in failure.violations:
            print(f"  {field}: {description}")
        if failure.write in ("not_sent", "rejected"):
            print("  nothing was written")
        elif failure.write == "applied":
            print("  it was written: do not repeat it")
        else:
            print(f"  it may have been written: repeat it only with the same request_id, {self.request_id}")
        if failure.retry_after is not None:
            print(f"  try again after {failure.retry_after}")

    def line(self):
        line = {"call": self.rpc, "call_id": self.call_id, "request_id": self.request_id}
        failure = self.failure
        if failure is None:
            return line | {"code": "OK", "event": json_format.MessageToDict(self.event)}
        line |= {
            "code": failure.code.name,
            "message": failure.message,
            "reason": failure.reason,
            "write": failure.write,
            "metadata": failure.metadata,
            "violations": [{"field": field, "description": text} for field, text in failure.violations],
        }
        if failure.retry_after is not None:
            line["retry_after_ms"] = int(failure.retry_after.total_seconds() * 1000)
        return line
