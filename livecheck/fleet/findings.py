"""Checks that are made of several findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, Status


@dataclass(frozen=True)
class Finding:
    """The result of one part of a check."""

    status: Status
    text: str


WORST_FIRST = (Status.FAIL, Status.SKIP, Status.WARN, Status.PASS)


def merge(name: str, findings: Sequence[Finding], **about: Any) -> Check:
    """The check that its parts make: the worst status, and the words of all parts that matter.

    A part that is a SKIP counts only when the check is essential, or when no part was decided.
    """
    decided = [each for each in findings if each.status is not Status.SKIP]
    counting = findings if about.get("essential") or not decided else decided
    status = min((each.status for each in counting), key=WORST_FIRST.index)
    bad = [each for each in findings if each.status in (Status.FAIL, Status.WARN)]
    telling = bad if bad and status is not Status.SKIP else findings
    return Check(name, status, "; ".join(each.text for each in telling), **about)
