"""The decision table of docs/calling.md, applied by a program to what each language saw.

A row is known here by what a program can read: code, reason, `write`, and whether the call is a create. Each case says
which row it must lead to, so that a change of an error, of the table or of its order shows.
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/calling.md"
NOTHING_HAPPENED = ("not_sent", "rejected")
QUOTAS = ("UPSTREAM_QUOTA_EXHAUSTED", "CALLER_QUOTA_EXHAUSTED")

Fits = Callable[[str, str, str, str], bool]  # code, reason, write, call

# In the table's order: a short name, how its first cell begins, and what fits it.
ROWS: list[tuple[str, str, Fits]] = [
    ("done", "OK", lambda code, *_: code == "OK"),
    ("applied", "any error with `write: applied`", lambda _c, _r, write, _: write == "applied"),
    ("correct it", "INVALID_ARGUMENT", lambda code, *_: code == "INVALID_ARGUMENT"),
    (
        "repeat later",
        "`write: not_sent` or `rejected`, UNAVAILABLE",
        lambda code, _r, write, _: code == "UNAVAILABLE" and write in NOTHING_HAPPENED,
    ),
    ("tomorrow", "RESOURCE_EXHAUSTED", lambda code, reason, *_: code == "RESOURCE_EXHAUSTED" and reason in QUOTAS),
    ("under way", "ABORTED, `REQUEST_IN_PROGRESS`", lambda _c, reason, *_: reason == "REQUEST_IN_PROGRESS"),
    (
        "no such record, or there already",
        "NOT_FOUND, ALREADY_EXISTS or ABORTED",
        lambda code, _r, write, _: code in ("NOT_FOUND", "ALREADY_EXISTS", "ABORTED") and write == "rejected",
    ),
    ("alert", "any other `write: not_sent` or `rejected`", lambda _c, _r, write, _: write in NOTHING_HAPPENED),
    ("repeat by id", "`write: unknown`, and the call had a `request_id`", lambda *_: False),  # these callers have none
    (
        "repeat",
        "`write: unknown`, an update or a delete",
        lambda _c, _r, write, call: (write, call) == ("unknown", "update"),
    ),
    ("look", "`write: unknown`, a create", lambda _c, _r, write, call: (write, call) == ("unknown", "create")),
    ("no details", "**no details**", lambda *_: True),
]

# Which row each case leads to: a create's, and an update's where that is another one.
EXPECTED: dict[str, tuple[str, ...]] = {
    "success": ("done",),
    "invalid request": ("correct it",),
    "sandbox-400": ("correct it",),
    "sandbox-401": ("alert",),
    "sandbox-404": ("no such record, or there already",),
    "sandbox-409": ("no such record, or there already",),
    "sandbox-429": ("tomorrow",),
    "sandbox-500": ("look", "repeat"),
    "sandbox-503": ("repeat later",),
    "sandbox-slow": ("look", "repeat"),
    "sandbox-drop": ("look", "repeat"),
    "sandbox-garbage": ("look", "repeat"),
    "sandbox-applied": ("applied",),
    "sandbox-refused": ("alert",),
    "no gateway": ("no details",),
    "no certificate": ("no details",),
}
EITHER = "caller's deadline"  # the gateway's answer or the client library's may be first


def problems(case: str, call: str, outcome: dict[str, Any]) -> list[str]:
    """Where a program that follows the table would do another thing than it should."""
    if case == EITHER:
        return []
    told = (outcome["code"], outcome.get("reason") or "", outcome.get("write") or "", call)
    row = next(name for name, _, fits in ROWS if fits(*told))
    expected = EXPECTED[case][-1 if call == "update" else 0]
    return [] if row == expected else [f"docs/calling.md leads to '{row}' and not to '{expected}': {told}"]


def page_problems() -> list[str]:
    """Where the page has other rows than these, or another order."""
    table = PAGE.read_text().split("| outcome |")[1].split("\n\n")[0]
    cells = [match[1] for match in re.finditer(r"^\| (.*?) \|", table, re.M)]
    if len(cells) != len(ROWS) or not all(cell.startswith(row[1]) for cell, row in zip(cells, ROWS, strict=False)):
        return [f"docs/calling.md has the rows {cells}"]
    return []
