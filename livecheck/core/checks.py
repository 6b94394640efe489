"""Checks and their statuses, and the exit code that a pipeline acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

# Checks that every script has. They are about all answers and connections of a run together, and
# appear only where there is something to say: they do not decide what a script exists for.
CONTENT_ENCODING = "content_encoding"
ADDRESSES = "addresses"  # those of the host in the URL: whether they answer
OF_ALL_ANSWERS = (CONTENT_ENCODING, ADDRESSES)


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
    own = [each for each in checks if each.name not in OF_ALL_ANSWERS] or checks
    skipped = [each for each in own if each.status is Status.SKIP]
    if len(skipped) == len(own) or any(each.essential for each in skipped):
        return Exit.UNDECIDED  # nothing decided, or not what the script exists for
    return Exit.OK
