"""Every example in every case over each kind of connection, against the contract and against one another."""

import collections
import collections.abc
import dataclasses
import pathlib
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
    outcomes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # by call
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
    for call in ("create", "update"):
        compare(runs, call)
    return runs


def is_worth_it(case: Case, connection: Connection) -> bool:
    if case.stranger:
        return connection.mutual
    return not connection.only or case.name in connection.only


def perform(run: Run, binary: pathlib.Path, upstream: Gateway, certificates: Certificates) -> None:
    """A gateway of its own for each run, so that what one provokes (a spent quota, an open circuit) no other sees."""
    try:
        if not run.case.serving:
            run.outcomes = run.example.call(NOBODY, arguments(run, certificates))
        elif run.connection.tls:
            flags = run.case.gateway + certificates.gateway_flags(run.connection.mutual)
            with Gateway(binary, flags, upstream) as gateway:
                run.outcomes = run.example.call(gateway.address, arguments(run, certificates))
        else:
            with Gateway(binary, run.case.gateway) as gateway, Tap(gateway.address) as tap:
                run.outcomes = run.example.call(tap.address, arguments(run, certificates))
            run.problems += on_the_wire(run, tap)
    except Exception as error:  # shown in its cell of the table, and below it
        run.problems.append(f"{type(error).__name__}: {error}")
    for call, outcome in run.outcomes.items():
        run.problems += [f"{call}: {problem}" for problem in cases.problems(run.case, call, outcome)]
        run.problems += [f"{call}: {problem}" for problem in decisions.problems(run.case.name, call, outcome)]


def arguments(run: Run, certificates: Certificates) -> tuple[str, ...]:
    mutual = run.connection.mutual and not run.case.stranger
    tls = certificates.caller_flags(mutual) if run.connection.tls else ()
    gzip = ("--compression", "gzip") if run.connection.gzip else ()
    return (*tls, *gzip, *run.case.arguments)


def on_the_wire(run: Run, tap: Tap) -> collections.abc.Iterator[str]:
    if tap.streams not in run.case.streams:
        yield f"{tap.streams} streams were opened for two calls, {run.case.streams} are right"
    if run.case.name == "success":
        if tap.requests_compressed != {run.connection.gzip}:
            yield f"requests compressed: {tap.requests_compressed}"
        if run.connection.gzip and tap.replies_compressed != {True}:
            yield f"replies compressed: {tap.replies_compressed}"


def compare(runs: list[Run], call: str) -> None:
    """All languages must have seen the same; who differs from the most is wrong. So must have all connections, but where
    the gateway remembers: then those of `serve` and those of the sandbox, each among themselves."""
    for case in filter(lambda case: case.settled, CASES):
        of_case = [run for run in runs if run.case is case]
        if case.remembered:
            agree([run for run in of_case if run.connection.tls], call)
            agree([run for run in of_case if not run.connection.tls], call)
        else:
            agree(of_case, call)


def agree(runs: list[Run], call: str) -> None:
    right = [run for run in runs if not run.problems]
    seen = [(run, cases.steady(run.outcomes[call])) for run in right]
    counted = collections.Counter(repr(comparable(outcome)) for _, outcome in seen).most_common(1)
    for run, outcome in seen:
        if repr(comparable(outcome)) != counted[0][0]:
            run.problems.append(f"{call}: saw {outcome}\n    where most saw {counted[0][0]}")


def comparable(value: Any) -> Any:
    """Without the order of an object's keys, and with 2.0 as 2."""
    if isinstance(value, dict):
        return sorted((name, comparable(item)) for name, item in value.items())
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
