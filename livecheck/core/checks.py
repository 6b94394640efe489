"""Checks and their statuses, and the exit code that a pipeline acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class Exit(IntEnum):
    """What a pipeline acts on; `worst` knows the order of precedence."""

    OK = 0
    FAIL = 1
    USAGE = 2
    UNDECIDED = 3
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def is_interruption(self) -> bool:
        return self in (Exit.INTERRUPTED, Exit.TERMINATED)


PRECEDENCE = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.USAGE, Exit.FAIL, Exit.UNDECIDED, Exit.OK)
VERDICTS = {
    Exit.OK: "pass",
    Exit.FAIL: "fail",
    Exit.USAGE: "undecided",
    Exit.UNDECIDED: "undecided",
    Exit.INTERRUPTED: "interrupted",
    Exit.TERMINATED: "interrupted",
}


def worst(codes: Sequence[Exit]) -> Exit:
    """The exit code that wins: 130 (143) > 2 > 1 > 3 > 0."""
    return min(codes, key=PRECEDENCE.index, default=Exit.OK)


class Status(str, Enum):
    PASS = "PASS"
    FAIL = "FAIL"
    WARN = "WARN"
    SKIP = "SKIP"


@dataclass
class Check:
    """One promise and what was seen. `essential`: while it is a SKIP, the run is undecided."""

    name: str
    status: Status
    detail: str
    evidence: dict[str, Any] = field(default_factory=dict)
    essential: bool = False


def passed(name: str, detail: str, evidence: dict[str, Any] | None = None) -> Check:
    return Check(name, Status.PASS, detail, evidence or {})


def failed(name: str, detail: str, evidence: dict[str, Any] | None = None) -> Check:
    return Check(name, Status.FAIL, detail, evidence or {})


def warned(name: str, detail: str, evidence: dict[str, Any] | None = None) -> Check:
    return Check(name, Status.WARN, detail, evidence or {})


def skip(name: str, reason: str, evidence: dict[str, Any] | None = None) -> Check:
    return Check(name, Status.SKIP, reason, evidence or {})


def undecided(name: str, reason: str, evidence: dict[str, Any] | None = None) -> Check:
    """A SKIP that leaves the whole run undecided."""
    return Check(name, Status.SKIP, reason, evidence or {}, essential=True)


def exit_code_of(checks: Sequence[Check]) -> Exit:
    """The exit code of a run that was not ended early, from its checks."""
    if any(each.status is Status.FAIL for each in checks):
        return Exit.FAIL
    skipped = [each for each in checks if each.status is Status.SKIP]
    if len(skipped) == len(checks) or any(each.essential for each in skipped):
        return Exit.UNDECIDED  # nothing decided, or not what the script exists for
    return Exit.OK
