"""Every example in every case over each kind of connection, against the contract and against one another."""

import collections
import collections.abc
import dataclasses
import pathlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cases
import decisions
from cases import CASES, Case
from examples import Example
from gateway import Certificates, Gateway, has_tls
from tap import Tap

NOBODY = "127.0.0.1:1"  # a port that nothing listens on
PARALLEL = 3


@dataclasses.dataclass(frozen=True)
class Connection:
    name: str
    tls: bool = False
    mutual: bool = False
    gzip: bool = False
    only: tuple[str, ...] = ()  # the cases worth a run; none means all


CONNECTIONS = [
    Connection("plaintext"),
    Connection("plaintext, gzip", gzip=True),
    Connection("TLS", tls=True, only=("success", "invalid request")),
    Connection("mTLS", tls=True, mutual=True),
    Connection("mTLS, gzip", tls=True, mutual=True, gzip=True),
]


@dataclasses.dataclass
class Run:
    """One example, one case, one kind of connection."""

    example: Example
    case: Case
    connection: Connection
    outcomes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # by RPC
    problems: list[str] = dataclasses.field(default_factory=list)


def connections_of(binary: pathlib.Path) -> list[Connection]:
    """Those that this build of the gateway can serve."""
    return [connection for connection in CONNECTIONS if has_tls(binary) or not connection.tls]


def run_all(binary: pathlib.Path, examples: list[Example], folder: pathlib.Path) -> list[Run]:
    certificates = Certificates(folder)
    runs = [
        Run(example, case, connection)
        for case in CASES
        for connection in connections_of(binary)
        if is_worth_it(case, connection)
        for example in examples
    ]
    with Gateway(binary) as upstream, ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda run: perform(run, binary, upstream, certificates), runs))
    for case in CASES:
        compare(case, [run for run in runs if run.case is case])
    return runs


def is_worth_it(case: Case, connection: Connection) -> bool:
    if case.stranger:
        return connection.mutual
    if case.reply_lost:
        return not connection.tls  # only there can a tap see a reply come
    if not case.ledger:
        return connection.tls  # the sandbox keeps one always
    return not connection.only or case.name in connection.only


def perform(run: Run, binary: pathlib.Path, upstream: Gateway, certificates: Certificates) -> None:
    """A gateway of its own for each run, so that what one provokes (a spent quota, an open circuit) no other sees."""
    try:
        if not run.case.serving:
            run.outcomes = run.example.call(NOBODY, arguments(run, certificates), run.case.rpcs)
        elif run.connection.tls:
            with Gateway(binary, serve_flags(run, certificates), upstream) as gateway:
                run.outcomes = run.example.call(gateway.address, arguments(run, certificates), run.case.rpcs)
        else:
            with Gateway(binary, run.case.gateway) as gateway, Tap(gateway.address, run.case.reply_lost) as tap:
                run.outcomes = run.example.call(tap.address, arguments(run, certificates), run.case.rpcs)
            run.problems += on_the_wire(run, tap)
            run.problems += in_the_record(run)
    except Exception as error:  # shown in its cell of the table, and below it
        run.problems.append(f"{type(error).__name__}: {error}")
    for rpc, outcome in run.outcomes.items():
        run.problems += [f"{rpc}: {problem}" for problem in cases.problems(run.case, rpc, outcome)]
        run.problems += [f"{rpc}: {problem}" for problem in decisions.problems(run.case.name, rpc, outcome)]


def serve_flags(run: Run, certificates: Certificates) -> tuple[str, ...]:
    tls = certificates.gateway_flags(run.connection.mutual)
    with tempfile.NamedTemporaryFile(dir=certificates.folder, suffix=".db", delete=False) as file:
        ledger = ("--ledger", f"sqlite:{file.name}") if run.case.ledger else ()
    return (*run.case.gateway, *tls, *ledger)


def arguments(run: Run, certificates: Certificates) -> tuple[str, ...]:
    mutual = run.connection.mutual and not run.case.stranger
    tls = certificates.caller_flags(mutual) if run.connection.tls else ()
    gzip = ("--compression", "gzip") if run.connection.gzip else ()
    return (*tls, *gzip, *run.case.arguments)


def on_the_wire(run: Run, tap: Tap) -> collections.abc.Iterator[str]:
    repeats = tap.streams - len(run.case.rpcs)
    if repeats not in run.case.repeats:
        yield f"{tap.streams} streams for {len(run.case.rpcs)} calls: {repeats} repeats, and not {run.case.repeats}"
    if run.case.name == "success":
        if (True in tap.requests_compressed) != run.connection.gzip:  # a client may leave out small ones
            yield f"requests compressed: {tap.requests_compressed}"
        if run.connection.gzip and tap.replies_compressed != {True}:
            yield f"replies compressed: {tap.replies_compressed}"


def in_the_record(run: Run) -> collections.abc.Iterator[str]:
    """The sandbox numbers what it records. So a create that it saw twice leaves a gap before the next event."""
    created, updated = (run.outcomes[rpc].get("event", {}).get("id") for rpc in ("CreateCustomer", "UpdateCustomer"))
    if run.case.reply_lost and created and updated and int(updated) != int(created) + 1:
        yield f"OnboardFlow saw the create more than once: its event is {created}, and the update's {updated}"


def compare(case: Case, runs: list[Run]) -> None:
    """All languages and all connections must have seen the same; who differs from the most is wrong. If the gateway
    remembers, `serve` and the sandbox may differ from each other."""
    if not case.settled:
        return
    of_serve, of_sandbox = ([run for run in runs if run.connection.tls is tls] for tls in (True, False))
    for group in (of_serve, of_sandbox) if case.remembered else (runs,):
        for rpc in case.rpcs:
            agree([run for run in group if not run.problems], rpc)


def agree(runs: list[Run], rpc: str) -> None:
    seen = [(run, cases.steady(run.outcomes[rpc])) for run in runs]
    counted = collections.Counter(repr(comparable(outcome)) for _, outcome in seen).most_common(1)
    for run, outcome in seen:
        if repr(comparable(outcome)) != counted[0][0]:
            run.problems.append(f"{rpc}: saw {outcome}\n    where most saw {counted[0][0]}")


def comparable(value: Any) -> Any:
    """Without the order of an object's keys, and with 2.0 as 2."""
    if isinstance(value, dict):
        return sorted((name, comparable(item)) for name, item in value.items())
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
