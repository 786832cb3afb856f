"""What each case sends, and what a caller must see: the rows of the error table that the sandbox provokes."""

import dataclasses
import datetime
import re
from typing import Any

SITE_KEY = "f37F2PPh"
IMAGE_URL = "https://example.com/" + "zoe/" * 100  # long, as some clients don't compress where that gains nothing
TRIAL = datetime.timedelta(days=14)

CREATES = ("CreateCustomer", "CreateSubscription", "RecordEvent")
TWO_RPCS = ("CreateCustomer", "UpdateCustomer")  # for cases in which each call takes its time
ALL_RPCS = (*TWO_RPCS, "CreateSubscription", "UpdateSubscription", "RecordEvent", "DeleteCustomer")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A row of the error table. `writes` has several entries where the gateway may know beforehand."""

    code: str  # or several: "A or B"
    reason: str = ""  # "*" means any
    writes: tuple[str, ...] = ("",)
    fields: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # by RPC: BadRequest must name these
    retry_after: bool = False
    http_status: str | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    arguments: tuple[str, ...] = ()
    create: Failure | None = None  # None: the call succeeds
    update: Failure | None = None  # of a delete, too
    remembered: Failure | None = None  # what the first call teaches `serve`, which unlike the sandbox remembers it
    rpcs: tuple[str, ...] = ALL_RPCS
    gateway: tuple[str, ...] = ()  # flags
    serving: bool = True  # or is nobody there?
    ledger: bool = True
    stranger: bool = False  # a caller without a certificate, where the gateway demands one
    reply_lost: bool = False  # the connection breaks when the first call's reply comes
    repeats: tuple[int, ...] = (0,)  # how many further HTTP/2 streams the clients may open, over all calls

    @property
    def settled(self) -> bool:
        """Whether all clients must see the very same; else chance, or a client's own words, have a part in it."""
        failures = [failure for failure in (self.create, self.update) if failure]
        return not any(failure.reason == "*" or " or " in failure.code for failure in failures)

    def expected(self, rpc: str) -> Failure | None:
        if self.remembered and rpc != self.rpcs[0]:
            return self.remembered
        return self.create if rpc in CREATES else self.update


def fails(name: str, arguments: tuple[str, ...], failure: Failure, update: Failure | None = None, **more: Any) -> Case:
    """All calls fail in the same way, unless updates and deletes have their own."""
    return Case(name, arguments, create=failure, update=update or failure, **more)


def provoked(site_key: str, failure: Failure, update: Failure | None = None, **more: Any) -> Case:
    """By one of the sandbox's test site keys."""
    return fails(site_key, ("--site-key", site_key), failure, update, **more)


QUOTA = Failure("RESOURCE_EXHAUSTED", "UPSTREAM_QUOTA_EXHAUSTED", ("rejected",), retry_after=True, http_status="429")
MAINTENANCE = Failure("UNAVAILABLE", "UPSTREAM_MAINTENANCE", ("rejected",), retry_after=True, http_status="503")
INVALID = {
    "CreateCustomer": ("customer.id", "customer.email", "customer.image_url"),
    "UpdateCustomer": ("customer.id", "customer.email", "customer.image_url"),
    "DeleteCustomer": ("customer_id",),
    "CreateSubscription": ("subscription.customer_id",),
    "UpdateSubscription": ("subscription.customer_id",),
    "RecordEvent": ("user.customer_id",),
}
REJECTED = {
    "CreateCustomer": ("customer.email",),
    "UpdateCustomer": ("customer.email",),
    "DeleteCustomer": ("customer_id",),
    "CreateSubscription": ("subscription.currency",),
    "UpdateSubscription": ("subscription.currency",),
    "RecordEvent": ("value",),
}

CASES = [
    Case("success", (f"--image-url={IMAGE_URL}",)),
    # The first write was applied and its reply lost. The client's repeat gets the ledger's answer, and nothing is sent.
    Case("reply lost", (f"--image-url={IMAGE_URL}",), reply_lost=True, repeats=(1,)),
    fails("no ledger", (), Failure("FAILED_PRECONDITION", "LEDGER_OFF", ("not_sent",)), ledger=False),
    fails(
        "invalid request",
        ("--customer-id=", "--email=", "--image-url=somewhere"),
        Failure("INVALID_ARGUMENT", "INVALID_REQUEST", ("not_sent",), INVALID),
    ),
    provoked(
        "sandbox-400",
        Failure("INVALID_ARGUMENT", "UPSTREAM_REJECTED", ("rejected",), REJECTED, http_status="400"),
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
        remembered=dataclasses.replace(QUOTA, writes=("rejected", "not_sent"), http_status=None),
    ),
    provoked("sandbox-500", Failure("UNKNOWN", "UPSTREAM_FAILED", ("unknown",), http_status="500")),
    provoked(
        "sandbox-503",
        MAINTENANCE,
        # By then `serve` knows that OnboardFlow is offline, and sends nothing.
        remembered=dataclasses.replace(MAINTENANCE, writes=("rejected", "not_sent"), http_status=None),
    ),
    provoked(
        "sandbox-slow",
        Failure("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", ("unknown",)),
        gateway=("--default-timeout", "1s", "--max-timeout", "1s"),  # shorter than the caller's
        rpcs=TWO_RPCS,
    ),
    fails(
        "caller's deadline",
        ("--site-key", "sandbox-slow", "--timeout", "1"),
        Failure("DEADLINE_EXCEEDED", "*", ("", "unknown")),  # caller and gateway both keep it; either may be first
        rpcs=TWO_RPCS,
        repeats=(-2, -1, 0),  # a busy machine may spend all of it on connecting
    ),
    provoked(
        "sandbox-drop",
        Failure("UNKNOWN", "UPSTREAM_CONNECTION_LOST", ("unknown",)),
        Failure("UNAVAILABLE", "UPSTREAM_CONNECTION_LOST", ("unknown",)),
        rpcs=TWO_RPCS,
        repeats=(2,),
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
    fails("no gateway", (), Failure("UNAVAILABLE"), rpcs=TWO_RPCS, serving=False),
    # tonic has its own words for a connection that breaks: CANCELLED, or UNKNOWN.
    fails("no certificate", (), Failure("UNAVAILABLE or CANCELLED or UNKNOWN"), rpcs=TWO_RPCS, stranger=True),
]


def problems(case: Case, rpc: str, outcome: dict[str, Any]) -> list[str]:
    """Where the outcome that a client printed differs from what the contract says."""
    expected = case.expected(rpc)
    if expected is None:
        return [] if outcome["code"] == "OK" and steady(outcome) == success(rpc) else [f"saw {steady(outcome)}"]

    metadata = outcome.get("metadata") or {}
    named = {violation["field"] for violation in outcome.get("violations") or []}
    fields = expected.fields.get(rpc, ())
    wrong = {
        f"code isn't {expected.code}": outcome["code"] not in expected.code.split(" or "),
        f"reason isn't {expected.reason}": expected.reason not in ("*", outcome.get("reason")),
        f"write isn't {' or '.join(expected.writes)}": outcome.get("write") not in expected.writes,
        f"violations don't name {fields}": not set(fields) <= named,
        "RetryInfo": (outcome.get("retry_after_ms") is not None) != expected.retry_after,
        f"http_status isn't {expected.http_status}": expected.http_status not in (None, metadata.get("http_status")),
        "the call's id isn't the one sent": metadata.get("request_id", outcome["call_id"]) != outcome["call_id"],
        "no message": bool(outcome.get("reason")) and not outcome.get("message"),
    }
    found = [what for what, is_wrong in wrong.items() if is_wrong]
    return [f"{', '.join(found)}: {outcome}"] if found else []


def success(rpc: str) -> dict[str, Any]:
    """What a successful call returns, less what varies from call to call. A delete's reply has no event."""
    event = {
        "CreateCustomer": lambda: customer_event("CUSTOMER_CREATED", hasPaymentMethod=False),
        "UpdateCustomer": lambda: customer_event("CUSTOMER_UPDATED", hasPaymentMethod=True, lastName="Müller"),
        "DeleteCustomer": dict,
        "CreateSubscription": lambda: subscription_event("SUBSCRIPTION_CREATED", "trialing"),
        "UpdateSubscription": lambda: subscription_event("SUBSCRIPTION_UPDATED", "active"),
        "RecordEvent": recorded_event,
    }[rpc]()
    return {"call": rpc, "code": "OK"} | ({"event": event} if event else {})


def customer_event(kind: str, **more: Any) -> dict[str, Any]:
    customer = {
        "id": "cus_123XYZ",
        "userId": "user_123XYZ",
        "email": "zoe@example.com",
        "firstName": "Zoë",
        "imageUrl": IMAGE_URL,
    }
    properties = {"customProperties": {"plan": "trial", "qty_tasks": 2}} if kind == "CUSTOMER_CREATED" else {}
    return provider_event(kind, {"customer": customer | more} | properties)


def subscription_event(kind: str, status: str) -> dict[str, Any]:
    subscription = {
        "id": "sub_123XYZ",
        "name": "Pro",
        "status": status,
        "interval": "MONTH",
        "value": "49.99",
        "currency": "USD",
        "startedAt": "<second>",
        "trialStart": "<second>",
        "trialEnd": "<second> and the trial",
    }
    return provider_event(kind, {"customer": {"id": "cus_123XYZ"}, "subscription": subscription})


def provider_event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
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


def recorded_event() -> dict[str, Any]:
    return {
        "id": "<number>",
        "eventProvider": "JSTRACKER",
        "siteUser": {"id": "user_123XYZ", "customer_id": "cus_123XYZ"},
        "siteHash": SITE_KEY,
        "eventDate": "<time>",
        "eventValue": "/manage/settings/",
        "eventType": "PAGE_VIEW",
        "eventMeta": {},
        "updated": "<time>",
        "created": "<time>",
    }


def steady(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome less what varies from call to call, and less what a client says in its own words."""
    ids = ("call_id", "request_id")
    kept = {name: value for name, value in outcome.items() if name not in ids and value not in (None, [], {}, "")}
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
    event = event | {
        "id": shape(event.get("id"), r"\d+", "<number>"),
        "updated": recent(event.get("updated"), "<time>"),
        "created": recent(event.get("created"), "<time>"),
    }
    if event.get("eventProvider") == "JSTRACKER":
        return event | {"eventDate": recent(event.get("eventDate"), "<time>")}  # OnboardFlow's own, as none was sent
    meta = event.get("eventMeta", {})
    meta_created = meta.get("created")
    if meta_created == event.get("eventDate"):
        meta_created = recent(meta_created, "<second>", fraction=False)
    return event | {
        "sessionId": re.sub(r"-\d+$", "-<number>", event.get("sessionId", "")),
        "eventValue": shape(event.get("eventValue"), r"[0-9a-f]{40}", "<hash>"),
        "eventDate": recent(event.get("eventDate"), "<second>", fraction=False),
        "eventMeta": meta | {"data": steady_data(meta.get("data", {})), "created": meta_created},
    }


def steady_data(data: dict[str, Any]) -> dict[str, Any]:
    """Of a subscription's times, each must be a whole second; the trial's end is known by its start."""
    subscription = data.get("subscription")
    if not subscription:
        return data
    start, end = subscription.get("trialStart"), subscription.get("trialEnd")
    if start and end and datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start) == TRIAL:
        end = "<second> and the trial"
    times = {name: recent(subscription.get(name), "<second>", fraction=False) for name in ("startedAt", "trialStart")}
    return data | {"subscription": subscription | times | {"trialEnd": end}}


def shape(value: Any, pattern: str, name: str) -> Any:
    return name if isinstance(value, str) and re.fullmatch(pattern, value) else value


def recent(value: Any, name: str, fraction: bool = True) -> Any:
    """The name where the value is a time of the last minutes in protobuf's JSON, else the value."""
    if not isinstance(value, str) or not value.endswith("Z") or ("." in value and not fraction):
        return value
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(value)
    return name if datetime.timedelta(seconds=-2) < age < datetime.timedelta(minutes=5) else value
