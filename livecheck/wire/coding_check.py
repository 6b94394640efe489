"""The check `content_encoding` of every script: compression that nobody asked for, or that clients
fail on.

An answer is only noted while requests run; what its bytes mean is looked at when the run ends. The
check appears where something is wrong, or where --only asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from livecheck.core.checks import CONTENT_ENCODING, Check, failed, passed, warned
from livecheck.core.run import Run
from livecheck.core.text import listed, plural
from livecheck.wire.answer import Answer
from livecheck.wire.compression import GZIP_START

MOST_KEPT = 50  # answers with something to look at: more of them say nothing new
MOST_OF_ONE = 5  # the same for each request
LARGEST_KEPT_BYTES = 1 << 20  # of what came; larger ones are looked at at once, and not kept
HEAD_BYTES = 8192  # the head of an answer, and the beginning of its body


Reasons = dict[str, dict[str, None]]  # of each reason the requests that it is about, in order


@dataclass
class Codings:
    """The answers of a run: how many there were, how many are compressed, and some of these.

    `problems`, `doubts`: what is known to be wrong, each with the requests that it is about.
    """

    looked_at: int = 0
    compressed: int = 0
    found: list[Answer] = field(default_factory=list)
    problems: Reasons = field(default_factory=dict)
    doubts: Reasons = field(default_factory=dict)
    examples: list[Answer] = field(default_factory=list)  # of these; problems before doubts
    _kept: Counter[str] = field(default_factory=Counter)  # by request

    def note(self, answer: Answer) -> None:
        self.looked_at += 1
        if not may_be_compressed(answer):
            return
        self.compressed += 1
        name = name_of(answer)
        if len(self.found) < MOST_KEPT and self._kept[name] < MOST_OF_ONE:
            self._kept[name] += 1
            if answer.reply.size > LARGEST_KEPT_BYTES:
                self.look_at(answer)
            else:
                self.found.append(answer)

    def take(self, other: Codings) -> None:
        """Take in what another process has seen."""
        self.looked_at += other.looked_at
        self.compressed += other.compressed
        self.found += other.found[: MOST_KEPT - len(self.found)]
        for mine, theirs in ((self.problems, other.problems), (self.doubts, other.doubts)):
            for reason, names in theirs.items():
                mine.setdefault(reason, {}).update(names)
        self.examples += other.examples[: MOST_OF_ONE - len(self.examples)]

    def look_at(self, answer: Answer) -> None:
        """Find out what is wrong. What was decoded for it is not kept."""
        decoded, name = answer.reply.decode(), name_of(answer)
        if decoded and decoded.problem:
            self.problems.setdefault(decoded.problem, {})[name] = None
        elif decoded and decoded.doubt:
            self.doubts.setdefault(decoded.doubt, {})[name] = None
        if decoded and (decoded.problem or decoded.doubt) and len(self.examples) < MOST_OF_ONE:
            self.examples.append(answer)

    def judge(self, is_asked_for: bool) -> Check | None:
        """FAIL: clients fail on a body. WARN: it is compressed although the request accepts none.
        None where there is nothing to say."""
        while self.found:
            self.look_at(self.found.pop(0))
        evidence = {"answers": self.looked_at, "compressed": self.compressed}
        if self.problems:
            return failed(CONTENT_ENCODING, in_words(self.problems), evidence).shown_by(
                self.examples
            )
        if self.doubts:
            return warned(CONTENT_ENCODING, in_words(self.doubts), evidence).shown_by(self.examples)
        good = f"{plural(self.looked_at, 'answer')}, {self.compressed} of them compressed, as asked"
        return passed(CONTENT_ENCODING, good, evidence) if is_asked_for else None


def may_be_compressed(answer: Answer) -> bool:
    """Whether it is worth a look: the head says so, or the body begins like gzip."""
    reply = answer.reply
    if reply.message.header("content-encoding"):
        return True
    return GZIP_START in reply.raw[:HEAD_BYTES]


def name_of(answer: Answer) -> str:
    return f"{answer.request.method} {answer.path}"


def in_words(reasons: Reasons) -> str:
    return "; ".join(f"{listed(list(names))}: {reason}" for reason, names in reasons.items())


def note_coding(run: Run, answer: Answer) -> None:
    """Remember an answer of the deployment for the check."""
    codings_of(run).note(answer)


def take_over(run: Run, codings: Codings) -> None:
    """The same for what another process has seen of the deployment."""
    codings_of(run).take(codings)


def codings_of(run: Run) -> Codings:
    """What the run knows; it is judged when the run ends."""
    codings: Codings = run.notes.setdefault(CONTENT_ENCODING, Codings())
    run.late_checks[CONTENT_ENCODING] = judge_of(run, codings)
    return codings


def judge_of(run: Run, codings: Codings) -> Callable[[], Check | None]:
    return lambda: codings.judge(CONTENT_ENCODING in (run.args.only or ()))
