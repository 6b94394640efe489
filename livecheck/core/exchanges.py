"""The requests behind the failures and warnings of a result file: what was asked and answered.

A check names the answers that its verdict rests on (`Check.shown_by`); where it names none, those
stand for it that failed meanwhile. Nothing is made of an answer before a check has failed, so that
measuring is not touched; and of a document so few are kept that hostile answers fill no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from livecheck.core.checks import Answered, Check, Exchange, Status

MAX_EXCHANGES = 40  # of a document
MAX_NOTED = 3  # answers that failed while checks were measured that name none
NAMED, MEANWHILE = "named", "failed_meanwhile"  # why an exchange stands beside a check


class Noted:
    """The first answers of a run that failed since checks were decided the last time."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def add(self, answer: Answered) -> None:
        if len(self.exchanges) < MAX_NOTED:
            self.exchanges.append(answer.exchange)

    def add_exchange(self, exchange: Exchange) -> None:
        """One that another process has noted."""
        if len(self.exchanges) < MAX_NOTED:
            self.exchanges.append(exchange)

    def clear(self) -> None:
        self.exchanges = []


class Exchanges:
    """What one document keeps: exchanges, and of each the checks that rest on it."""

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self._kept: dict[int, tuple[Exchange, dict[str, str]]] = {}  # by the exchange's identity

    def take(self, checks: Sequence[Check]) -> None:
        """Keep what the failures and warnings among these checks rest on: first one exchange of
        each, the failures before the warnings, then the others while there is room."""
        bad = [check for check in checks if check.status in (Status.FAIL, Status.WARN)]
        bad.sort(key=lambda each: each.status is Status.WARN)
        found = [(check, self._behind(check)) for check in bad]
        for place in range(max((len(some) for _, some in found), default=0)):
            for check, some in found:
                if place < len(some):
                    self._keep(check, some[place])
        self._noted.clear()

    def _behind(self, check: Check) -> list[Exchange]:
        return check.exchanges or self._noted.exchanges

    def _keep(self, check: Check, found: Exchange) -> None:
        if id(found) not in self._kept and len(self._kept) == MAX_EXCHANGES:
            return
        _, checks = self._kept.setdefault(id(found), (found, {}))
        checks[check.name] = NAMED if check.exchanges else MEANWHILE

    def as_list(self, started_ns: int) -> list[dict[str, Any]]:
        """In the order of sending; times in ms from `started_ns` on."""
        kept = sorted(self._kept.values(), key=lambda each: each[0]["sent_ns"] or started_ns)
        return [
            {"index": index, "checks": checks, **times_from(started_ns, found)}
            for index, (found, checks) in enumerate(kept)
        ]


def times_from(started_ns: int, exchange: Exchange) -> dict[str, Any]:
    sent_ns = exchange["sent_ns"]
    at_ms = None if sent_ns is None else round((sent_ns - started_ns) / 1e6, 3)
    return {"at_ms": at_ms, **{key: each for key, each in exchange.items() if key != "sent_ns"}}
