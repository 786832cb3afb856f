"""The decision table of docs/calling.md, applied by a program to what each language saw.

A row is known here by what a program can read: code, reason, `write`, whether the call is a create, and whether it had
a request_id. Each case says which row it must lead to, so that a change of an error, of the table or of its order shows.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

from cases import CREATES

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/calling.md"
NOTHING_HAPPENED = ("not_sent", "rejected")
QUOTAS = ("UPSTREAM_QUOTA_EXHAUSTED", "CALLER_QUOTA_EXHAUSTED")



@dataclasses.dataclass(frozen=True)
class Told:
    """What a program knows of a call that is over."""

    code: str
    reason: str
    write: str
    is_create: bool
    has_request_id: bool

    @property
    def nothing_happened(self) -> bool:
        return self.write in NOTHING_HAPPENED

    @property
    def unknown(self) -> bool:
        return self.write == "unknown"


# In the table's order: a short name, how its first cell begins, and what fits it.
ROWS: list[tuple[str, str, Callable[[Told], bool]]] = [
    ("done", "OK", lambda told: told.code == "OK"),
    ("applied", "any error with `write: applied`", lambda told: told.write == "applied"),
    ("correct it", "INVALID_ARGUMENT", lambda told: told.code == "INVALID_ARGUMENT"),
    (
        "repeat later",
        "`write: not_sent` or `rejected`, UNAVAILABLE",
        lambda told: told.nothing_happened and told.code == "UNAVAILABLE",
    ),
    ("tomorrow", "RESOURCE_EXHAUSTED", lambda told: told.code == "RESOURCE_EXHAUSTED" and told.reason in QUOTAS),
    ("in progress", "ABORTED, `REQUEST_IN_PROGRESS`", lambda told: told.reason == "REQUEST_IN_PROGRESS"),
    (
        "no such record, or there already",
        "NOT_FOUND, ALREADY_EXISTS or ABORTED",
        lambda told: told.write == "rejected" and told.code in ("NOT_FOUND", "ALREADY_EXISTS", "ABORTED"),
    ),
    ("alert", "any other `write: not_sent` or `rejected`", lambda told: told.nothing_happened),
    (
        "repeat by id",
        "`write: unknown`, and the call had a `request_id`",
        lambda told: told.unknown and told.has_request_id,
    ),
    ("repeat", "`write: unknown`, an update or a delete", lambda told: told.unknown and not told.is_create),
    ("look", "`write: unknown`, a create", lambda told: told.unknown),
    ("no details", "**no details**", lambda _: True),
]

# Which row each case leads to.
EXPECTED = {
    "success": "done",
    "reply lost": "done",
    "no ledger": "alert",
    "invalid request": "correct it",
    "sandbox-400": "correct it",
    "sandbox-401": "alert",
    "sandbox-404": "no such record, or there already",
    "sandbox-409": "no such record, or there already",
    "sandbox-429": "tomorrow",
    "sandbox-500": "repeat by id",
    "sandbox-503": "repeat later",
    "sandbox-slow": "repeat by id",
    "sandbox-drop": "repeat by id",
    "sandbox-garbage": "repeat by id",
    "sandbox-applied": "applied",
    "sandbox-refused": "alert",
    "no gateway": "no details",
    "no certificate": "no details",
}
EITHER = "caller's deadline"  # the gateway's answer or the client library's may be first


def problems(case: str, rpc: str, outcome: dict[str, Any]) -> list[str]:
    """Where a program that follows the table would do another thing than it should."""
    if case == EITHER:
        return []
    row, expected = row_of(rpc, outcome), EXPECTED[case]
    return [] if row == expected else [f"docs/calling.md leads to '{row}' and not to '{expected}': {outcome}"]


def row_of(rpc: str, outcome: dict[str, Any]) -> str:
    told = Told(
        code=outcome["code"],
        reason=outcome.get("reason") or "",
        write=outcome.get("write") or "",
        is_create=rpc in CREATES,
        has_request_id="request_id" in outcome,
    )
    return next(name for name, _, fits in ROWS if fits(told))


def page_problems() -> list[str]:
    """Where the page has other rows than these, or another order."""
    table = PAGE.read_text().split("| outcome |")[1].split("\n\n")[0]
    cells = [match[1] for match in re.finditer(r"^\| (.*?) \|", table, re.M)]
    if len(cells) != len(ROWS) or not all(cell.startswith(row[1]) for cell, row in zip(cells, ROWS, strict=False)):
        return [f"docs/calling.md has the rows {cells}"]
    return []
