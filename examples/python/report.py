"""Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages."""

import json

from google.protobuf import json_format

FATE = {
    "not_sent": "nothing was written",
    "rejected": "nothing was written",
    "applied": "it was written all the same: don't repeat it",
}


def text(call, request_id, event, failure):
    if event:
        print(f"{call}: {event.event_meta.type}, event {event.id}" if event.id else f"{call}: done")
        return
    print(f"{call} failed: {failure.code.name}: {failure.message}")
    if failure.reason:
        print(f"  reason: {failure.reason}")
    for field, description in failure.violations:
        print(f"  {field}: {description}")
    print(f"  {FATE.get(failure.write, 'it may have been written: look in the pages of OnboardFlow before you repeat a create')}")
    if failure.retry_after is not None:
        print(f"  worth another try after {failure.retry_after}")


def as_json(call, request_id, event, failure):
    line = {"call": call, "request_id": request_id}
    if event:
        line |= {"code": "OK", "event": json_format.MessageToDict(event)}
    else:
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
    print(json.dumps(line, ensure_ascii=False))
