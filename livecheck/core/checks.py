"""Checks and their statuses, and the exit code that a pipeline acts on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import islice
from typing import Any, Protocol, TypeVar

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


T = TypeVar("T")
Exchange = Mapping[str, Any]  # a question and its answer, bounded: see wire/shown_exchange.py
MAX_OF_CHECK = 4  # exchanges that are shown for one check
LOOKED_AT = 500  # answers among which these are chosen


class Answered(Protocol):
    """A request and what became of it; those of one `kind` would show a reader the same."""

    @property
    def exchange(self) -> Exchange: ...

    @property
    def kind(self) -> str: ...


@dataclass
class Check:
    """One promise and what was seen. `essential`: while it is a SKIP, the run is undecided.

    `exchanges`: what was asked and answered, of the requests that a failure or a warning rests on.
    """

    name: str
    status: Status
    detail: str
    evidence: dict[str, Any] = field(default_factory=dict)
    essential: bool = False
    exchanges: list[Exchange] = field(default_factory=list, repr=False, compare=False)

    def shown_by(self, answers: Iterable[Answered | None]) -> Check:
        """The same check, with the answers that show what it says; the most telling ones first.
        Of many, those are kept that differ in kind. None stands for a request without an answer."""
        if self.status in (Status.FAIL, Status.WARN):
            found = [each for each in islice(answers, LOOKED_AT) if each is not None]
            self.exchanges = [each.exchange for each in differing(found)[:MAX_OF_CHECK]]
        return self


def with_answers(
    checks: Iterable[Check], behind: Callable[[str], Iterable[Answered | None]]
) -> list[Check]:
    """The same checks. A failure or a warning that names no answers gets those that `behind` tells
    for its name."""
    found = list(checks)
    for check in found:
        if check.status in (Status.FAIL, Status.WARN) and not check.exchanges:
            check.shown_by(behind(check.name))
    return found


def differing(answers: Sequence[Answered]) -> list[Answered]:
    """The same answers, but first one of each kind."""
    first = {each.kind: each for each in reversed(answers)}
    chosen = {id(each) for each in first.values()}
    return sorted(answers, key=lambda each: id(each) not in chosen)


def telling(found: Iterable[T], is_wrong: Callable[[T], object]) -> list[T]:
    """Those in which something is wrong; all of them where that is in none."""
    everything = list(found)
    return [each for each in everything if is_wrong(each)] or everything


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
