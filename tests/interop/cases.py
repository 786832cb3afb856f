"""What each case sends, and what a caller must see: the rows of the error table that the sandbox provokes."""

import dataclasses
import datetime
import re
from typing import Any

SITE_KEY = "f37F2PPh"
IMAGE_URL = "https://example.com/" + "zoe/" * 100  # long, as some clients don't compress where that gains nothing


@dataclasses.dataclass(frozen=True)
class Failure:
    """A row of the error table. `writes` has several entries where the gateway may know beforehand."""

    code: str  # or several: "A or B"
    reason: str = ""  # "*" means any
    writes: tuple[str, ...] = ("",)
    fields: tuple[str, ...] = ()  # that BadRequest must name, whatever else it names
    retry_after: bool = False
    http_status: str | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    arguments: tuple[str, ...] = ()
    create: Failure | None = None  # None: the call succeeds
    update: Failure | None = None
    gateway: tuple[str, ...] = ()  # flags
    serving: bool = True  # or is nobody there?
    stranger: bool = False  # a caller without a certificate, where the gateway demands one
    remembered: bool = False  # does the first call teach `serve`, which unlike the sandbox remembers, about the second?
    streams: tuple[int, ...] = (2,)  # how many HTTP/2 streams both calls together may open: two, and the retries

    @property
    def settled(self) -> bool:
        """Whether all clients must see the very same; else chance, or a client's own words, have a part in it."""
        failures = [failure for failure in (self.create, self.update) if failure]
        return not any(failure.reason == "*" or " or " in failure.code for failure in failures)


def fails(name: str, arguments: tuple[str, ...], failure: Failure, update: Failure | None = None, **more: Any) -> Case:
    """Both calls fail in the same way, unless an update has its own."""
    return Case(name, arguments, create=failure, update=update or failure, **more)


def provoked(site_key: str, failure: Failure, update: Failure | None = None, **more: Any) -> Case:
    """By one of the sandbox's test site keys."""
    return fails(site_key, ("--site-key", site_key), failure, update, **more)


QUOTA = Failure("RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA_EXHAUSTED", ("rejected",), retry_after=True, http_status="429")
MAINTENANCE = Failure("UNAVAILABLE", "UPSTREAM_MAINTENANCE", ("rejected",), retry_after=True, http_status="503")

CASES = [
    Case("success", (f"--image-url={IMAGE_URL}",)),
    fails(
        "invalid request",
        ("--customer-id=", "--email=", "--image-url=somewhere"),
        Failure(
            "INVALID_ARGUMENT",
            "INVALID_REQUEST",
            ("not_sent",),
            fields=("customer.id", "customer.email", "customer.image_url"),
        ),
    ),
    provoked(
        "sandbox-400",
        Failure("INVALID_ARGUMENT", "UPSTREAM_REJECTED", ("rejected",), ("customer.email",), http_status="400"),
    ),
    provoked("sandbox-401", Failure("INTERNAL", "UPSTREAM_CREDENTIALS_REJECTED", ("rejected",), http_status="401")),
    provoked("sandbox-404", Failure("NOT_FOUND", "UPSTREAM_NOT_FOUND", ("rejected",), http_status="404")),
    provoked(
        "sandbox-409",
        Failure("ALREADY_EXISTS", "UPSTREAM_CONFLICT", ("rejected",), http_status="409"),
        Failure("ABORTED", "UPSTREAM_CONFLICT", ("rejected",), http_status="409"),
    ),
    provoked(
        "sandbox-429",
        QUOTA,
        # By then `serve` knows that the day's quota is spent, and sends nothing.
        dataclasses.replace(QUOTA, writes=("rejected", "not_sent"), http_status=None),
        remembered=True,
    ),
    provoked("sandbox-500", Failure("UNKNOWN", "UPSTREAM_FAILED", ("unknown",), http_status="500")),
    provoked(
        "sandbox-503",
        MAINTENANCE,
        # By then `serve` knows that OnboardFlow is offline, and sends nothing.
        dataclasses.replace(MAINTENANCE, writes=("rejected", "not_sent"), http_status=None),
        remembered=True,
        streams=(2, 4),  # a create is never repeated; an update is, but by a client that heeds RetryInfo not so soon
    ),
    provoked(
        "sandbox-slow",
        Failure("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", ("unknown",)),
        gateway=("--default-timeout", "1s", "--max-timeout", "1s"),  # shorter than the caller's
    ),
    fails(
        "caller's deadline",
        ("--site-key", "sandbox-slow", "--timeout", "1"),
        Failure("DEADLINE_EXCEEDED", "*", ("", "unknown")),  # caller and gateway both keep it; either may be first
        streams=(0, 1, 2),  # a busy machine may spend all of it on connecting
    ),
    provoked(
        "sandbox-drop",
        Failure("UNKNOWN", "UPSTREAM_CONNECTION_LOST", ("unknown",)),
        Failure("UNAVAILABLE", "UPSTREAM_CONNECTION_LOST", ("unknown",)),
        streams=(4,),
    ),
    provoked(
        "sandbox-garbage",
        Failure("INTERNAL", "UPSTREAM_REPLY_UNREADABLE", ("unknown",), http_status="200"),
    ),
    provoked(
        "sandbox-applied",
        Failure("INTERNAL", "UPSTREAM_REPLY_UNREADABLE", ("applied",), http_status="200"),
    ),
    provoked("sandbox-refused", Failure("FAILED_PRECONDITION", "UPSTREAM_REJECTED", ("rejected",), http_status="200")),
    fails("no gateway", (), Failure("UNAVAILABLE"), serving=False),
    # tonic has its own words for a connection that breaks: CANCELLED, or UNKNOWN.
    fails("no certificate", (), Failure("UNAVAILABLE or CANCELLED or UNKNOWN"), stranger=True),
]


def problems(case: Case, call: str, outcome: dict[str, Any]) -> list[str]:
    """Where the outcome that a client printed differs from what the contract says."""
    expected = case.create if call == "create" else case.update
    if expected is None:
        return [] if outcome["code"] == "OK" and steady(outcome) == success(call) else [f"saw {steady(outcome)}"]

    metadata = outcome.get("metadata") or {}
    named = {violation["field"] for violation in outcome.get("violations") or []}
    wrong = {
        f"code isn't {expected.code}": outcome["code"] not in expected.code.split(" or "),
        f"reason isn't {expected.reason}": expected.reason not in ("*", outcome.get("reason")),
        f"write isn't {' or '.join(expected.writes)}": outcome.get("write") not in expected.writes,
        f"violations don't name {expected.fields}": not set(expected.fields) <= named,
        "RetryInfo": (outcome.get("retry_after_ms") is not None) != expected.retry_after,
        f"http_status isn't {expected.http_status}": expected.http_status not in (None, metadata.get("http_status")),
        "the request id isn't the one sent": metadata.get("request_id", outcome["request_id"]) != outcome["request_id"],
        "no message": bool(outcome.get("reason")) and not outcome.get("message"),
    }
    found = [what for what, is_wrong in wrong.items() if is_wrong]
    return [f"{', '.join(found)}: {outcome}"] if found else []


def success(call: str) -> dict[str, Any]:
    """What a successful call returns, less what varies from call to call."""
    customer = {
        "id": "cus_123XYZ",
        "userId": "user_123XYZ",
        "email": "zoe@example.com",
        "firstName": "Zoë",
        "imageUrl": IMAGE_URL,
    }
    if call == "create":
        data = {
            "customer": customer | {"hasPaymentMethod": False},
            "customProperties": {"plan": "trial", "qty_tasks": 2},
        }
    else:
        data = {"customer": customer | {"lastName": "Müller", "hasPaymentMethod": True}}
    kind = "CUSTOMER_CREATED" if call == "create" else "CUSTOMER_UPDATED"
    event = {
        "id": "<number>",
        "eventProvider": "API",
        "siteUser": {},
        "siteHash": SITE_KEY,
        "sessionId": f"{SITE_KEY}-<number>",
        "eventDate": "<second>",
        "eventValue": "<hash>",
        "eventType": "PROVIDER_EVENT",
        "eventMeta": {"data": data, "type": kind, "created": "<second>"},
        "updated": "<time>",
        "created": "<time>",
    }
    return {"call": call, "code": "OK", "event": event}


def steady(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome less what varies from call to call, and less what a client says in its own words."""
    kept = {name: value for name, value in outcome.items() if name != "request_id" and value not in (None, [], {}, "")}
    if "event" in kept:
        kept["event"] = steady_event(kept["event"])
    if "metadata" in kept:
        kept["metadata"] = {name: value for name, value in kept["metadata"].items() if name != "request_id"}
    if kept.get("retry_after_ms", 0) > 60_000:
        kept["retry_after_ms"] = "<more than a minute>"  # of a quota known to be spent, less with every moment
    if "reason" not in kept:
        kept.pop("message", None)  # not the gateway's
    return kept


def steady_event(event: dict[str, Any]) -> dict[str, Any]:
    """Each value that varies, by its shape where it has the right one."""
    meta = event.get("eventMeta", {})
    shapes = {
        "id": shape(event.get("id"), r"\d+", "<number>"),
        "sessionId": re.sub(r"-\d+$", "-<number>", event.get("sessionId", "")),
        "eventValue": shape(event.get("eventValue"), r"[0-9a-f]{40}", "<hash>"),
        "eventDate": recent(event.get("eventDate"), "<second>", fraction=False),
        "updated": recent(event.get("updated"), "<time>"),
        "created": recent(event.get("created"), "<time>"),
    }
    meta_created = meta.get("created")
    if meta_created == event.get("eventDate"):
        meta_created = recent(meta_created, "<second>", fraction=False)
    return event | shapes | {"eventMeta": meta | {"created": meta_created}}


def shape(value: Any, pattern: str, name: str) -> Any:
    return name if isinstance(value, str) and re.fullmatch(pattern, value) else value


def recent(value: Any, name: str, fraction: bool = True) -> Any:
    """The name where the value is a time of the last minutes in protobuf's JSON, else the value."""
    if not isinstance(value, str) or not value.endswith("Z") or ("." in value and not fraction):
        return value
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(value)
    return name if datetime.timedelta(seconds=-2) < age < datetime.timedelta(minutes=5) else value
