"""What refused requests cost a fleet, as far as its own request log tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from livecheck.fleet.api import LOG_PAGE, Admin, LogEntry, Unreadable

MAX_PAGES = 4  # of the log
REFUSAL_WORDS = re.compile(r"\b40[13]\b|unauthori[sz]ed|forbidden|denied", re.IGNORECASE)


@dataclass
class RefusalCost:
    """What is new in the request log after requests that must be refused.

    `charged`: what each refusal cost that reached a runner. `unserved`: how many entries have
    a runner that no served request accounts for. `problem`: why the log could not be read.
    """

    charged: list[str] = field(default_factory=list)
    unserved: int = 0
    problem: str | None = None
    known: set[str] = field(default_factory=set)  # ids of the entries from before

    def start(self, admin: Admin) -> None:
        """Read the log before the requests."""
        try:
            self.known = {entry.id for entry in admin.log()}
        except Unreadable as error:
            self.problem = str(error)

    def finish(self, admin: Admin, refused: int, served: int) -> None:
        """Read the log after so many requests were refused, and so many served."""
        if self.problem:
            return
        try:
            entries = new_entries(admin, self.known)
        except Unreadable as error:
            self.problem = str(error)
            return
        self.charged = [cost for entry in entries if (cost := cost_of(entry))]
        self.unserved = count_unserved(entries, refused, served)


def new_entries(admin: Admin, known: set[str]) -> list[LogEntry]:
    """The entries of the log whose ids are not known yet, the newest first. Raises Unreadable."""
    found: list[LogEntry] = []
    for page in range(1, MAX_PAGES + 1):
        fresh = [entry for entry in admin.log(page) if entry.id not in known]
        found += fresh
        if len(fresh) < LOG_PAGE:
            break
    return found


def cost_of(entry: LogEntry) -> str | None:
    """What this entry says that a refusal cost; None for any other entry.

    A request that failed in another way is not counted: it may be somebody else's.
    """
    if not REFUSAL_WORDS.search(entry.status or ""):
        return None
    if entry.wol_sent:
        return f"a {entry.status} with wol_sent"
    return f"a {entry.status} with runner {entry.runner_id}" if entry.runner_id else None


def count_unserved(entries: Sequence[LogEntry], refused: int, served: int) -> int:
    """How many entries have a runner beyond the requests that were served, whatever the log calls
    their status. 0 when they may be somebody else's: fewer than half of what was refused."""
    reached = {entry.id for entry in entries if entry.runner_id or entry.wol_sent}
    beyond = len(reached) - served
    return beyond if refused and beyond >= refused / 2 else 0
