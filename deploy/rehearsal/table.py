"""What came of each act: calls and failures of every caller, and the verdict."""

import collections
import time

from cluster import Failed, until

QUIET = 15  # seconds without a failure after which callers have recovered


class Table:
    def __init__(self):
        self.rows, self.callers = [], []

    def act(self, name, callers, do, recovers_within=None):
        """Does something under load. No call may fail; where pods or nodes die, none after the time that is allowed."""
        before, begun = callers.counts(), time.monotonic()
        do()
        took = time.monotonic() - begun
        if recovers_within:
            took += self.recovered(callers, recovers_within)
        else:
            time.sleep(QUIET)  # what the end of the act did to the callers shows a little later
        counts = callers.since(before)
        self.note(name, took, counts, bool(recovers_within))

    def recovered(self, callers, within):
        seen, quiet = None, time.monotonic()

        def calm():
            nonlocal seen, quiet
            now = sum(count.failures.total() for count in callers.counts().values())
            if now != seen:
                seen, quiet = now, time.monotonic()
            return time.monotonic() - quiet > QUIET

        return until(calm, within + QUIET, "callers fail no more") - QUIET

    def note(self, name, took, counts, may_fail):
        self.callers = list(counts)
        self.rows.append((name, took, counts, may_fail))
        failures = sum((count.failures for count in counts.values()), collections.Counter())
        calls = sum(count.calls for count in counts.values())
        print(f"{name}: {took:.0f} s, {calls} calls, {failures.total()} failed", flush=True)
        for failure, times in failures.most_common(5):
            print(f"    {times} times {failure}", flush=True)

    def print(self):
        print("\n" + f"{'':28}{'seconds':>8}" + "".join(f"{name:>17}" for name in self.callers))
        calls = failed = 0
        for name, took, counts, _ in self.rows:
            cells = "".join(f"{count.calls:>10} / {count.failures.total():<4}" for count in counts.values())
            print(f"{name:28}{took:>8.0f}{cells}")
            calls += sum(count.calls for count in counts.values())
            failed += sum(count.failures.total() for count in counts.values())
        print(f"calls / failed: {calls} / {failed} in all")

    def verdict(self):
        for name, _, counts, may_fail in self.rows:
            failed = sum(count.failures.total() for count in counts.values())
            if failed and not may_fail:
                raise Failed(f"{name}: {failed} calls failed")
            if not all(count.calls for count in counts.values()):
                raise Failed(f"{name}: a caller made no call")
