"""Checks that are made of several findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, Status


@dataclass(frozen=True)
class Finding:
    """The result of one part of a check; without a status it only tells how much was looked at."""

    status: Status | None
    text: str


WORST_FIRST = (Status.FAIL, Status.SKIP, Status.WARN, Status.PASS)


def merge(name: str, findings: Sequence[Finding], **about: Any) -> Check:
    """The check that its parts make: the worst status, and the words of all parts that matter.

    A part that was not decided leaves the whole undecided, unless another part has failed.
    """
    statuses = [each.status for each in findings if each.status is not None]
    status = min(statuses, key=WORST_FIRST.index, default=Status.SKIP)
    bad = [each for each in findings if each.status in (Status.FAIL, Status.WARN)]
    telling = bad if bad and status is not Status.SKIP else findings
    return Check(name, status, "; ".join(each.text for each in telling), **about)
