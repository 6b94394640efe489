"""A runner is killed while requests run, and revived later: what became of the requests.

`RunnerLoss` sends, runs the operator's two commands and looks at the fleet meanwhile; `Loss` has
what was found out, and the plain facts that follow from it. Nothing here is a verdict. Times in s
are on the clock of `time.perf_counter`.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.command_output import Command, NoOutput
from livecheck.core.run import Run
from livecheck.core.text import duration, listed, shorten
from livecheck.fleet import api
from livecheck.fleet.api import LogEntry, Unreadable
from livecheck.fleet.attribution import KnownRunners
from livecheck.fleet.busy_times import sent_ms
from livecheck.fleet.request_log import LAG_S, LogReader, has_failed
from livecheck.wire.answer import Answer
from livecheck.wire.asking import rate_limit_words, take_note
from livecheck.wire.background import Background
from livecheck.wire.wire import Request, Wire

COMMAND_S = 60.0  # for each of the two commands
LOAD = 0.5  # of what the runners that stay can serve: requests must not fail for another reason
PER_S = (0.5, 10.0)  # requests per second, at least and at most
MOST_AT_ONCE = 500
LOOK_S = 0.25  # between two looks at the fleet
ENOUGH = 10  # requests after --settle, and after the runner is back
JUDGED_S = 30.0  # for so many requests, at most, before the runner is revived
CLOCK_S = 0.2  # by how much the times of the log may be wrong here


class Ran(NamedTuple):
    """A command of the operator's: when it began and ended; why it did not do its work."""

    begun_s: float
    ended_s: float
    problem: str | None = None


class Visit(NamedTuple):
    """A request that reached a runner: its label, and when the request was sent."""

    runner: str
    sent_s: float
    failed: bool


class Sighting(NamedTuple):
    """Which runners were online, by their labels."""

    at_s: float
    online: frozenset[str]


@dataclass
class Loss:
    """What was found out.

    served_before: the runners that served before. source: what tells who served, in words; None
    when nothing does. limited: the words of a rate limit that ended it. is_over: all was tried.
    """

    settle_s: float
    revive_s: float
    served_before: frozenset[str] = frozenset()
    source: str | None = None
    killed: Ran | None = None
    revived: Ran | None = None
    answers: list[Answer] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    limited: str | None = None
    is_over: bool = False

    @property
    def killed_s(self) -> float:
        """When the kill command began."""
        return self.killed.begun_s if self.killed else 0.0

    @property
    def sent_since_online(self) -> int:
        """How many requests were sent since the dead runners were online again."""
        since_s = (self.revived.begun_s if self.revived else 0.0) + (self.online_again_s or 0.0)
        return sum(sent_s(each) > since_s for each in self.answers)

    @property
    def settled_s(self) -> float:
        """From when on no request may reach the dead runner."""
        return (self.killed.ended_s if self.killed else 0.0) + self.settle_s

    @property
    def dead(self) -> list[str]:
        """The runners that were killed, as far as anything tells. Others may go to sleep meanwhile.

        First those whose requests failed, and that served nothing more: of these, the ones that
        went offline, if there are any. Else whichever went offline first between the two commands,
        of those that served before; where no list shows that, those that served nothing more while
        others did; or else any that went offline first.
        """
        if self.killed is None:
            return []
        gone = self._gone()
        known = {name for name in gone if name in self.served_before}
        failing = self._failing()
        if failing:
            return sorted(failing & known or failing)
        if known or not (served := self._served_meanwhile()):
            return first_of({name: gone[name] for name in known or gone})
        return sorted(self.served_before - served) or first_of(gone)

    @property
    def _meanwhile_s(self) -> tuple[float, float]:
        """From the end of the kill command to the beginning of the revive command."""
        end_s = self.revived.begun_s if self.revived else time.perf_counter()
        return (self.killed.ended_s if self.killed else 0.0), end_s

    def _gone(self) -> dict[str, float]:
        """Who was online before the kill command, and when each was first seen offline after it."""
        end_s = self._meanwhile_s[1]
        before = [each.online for each in self.sightings if each.at_s <= self.killed_s]
        during = [each for each in self.sightings if self.killed_s < each.at_s <= end_s]
        found: dict[str, float] = {}
        for each in during:
            for name in (before or [frozenset()])[-1] - each.online:
                found.setdefault(name, each.at_s)
        return found

    def _served_meanwhile(self) -> set[str]:
        begin_s, end_s = self._meanwhile_s
        return {
            each.runner
            for each in self.visits
            if not each.failed and begin_s + CLOCK_S < each.sent_s < end_s - CLOCK_S
        }

    def _failing(self) -> set[str]:
        """Those that served before, and of which requests failed from the kill on or shortly
        before; none that was sent after it was served."""
        end_s = self._meanwhile_s[1]
        failed = {each.runner for each in self.visits if each.failed and each.sent_s < end_s}
        return (failed & self.served_before) - self._served_meanwhile()

    @property
    def hit(self) -> list[Answer]:
        """The requests that were not served, and ended after the kill command began."""
        bad = [each for each in self.answers if each.completion.problem and not each.is_excluded]
        return [each for each in bad if is_after(each, self.killed_s)]

    @property
    def last_hit_s(self) -> float | None:
        """How long after the kill command began the last request was sent that was hit, of those
        that were sent before the revival; 0 when all of them were sent before it."""
        if not (self.killed and self.hit):
            return None
        end_s = self.revived.begun_s if self.revived else float("inf")
        sent = [at_s for each in self.hit if (at_s := sent_s(each)) < end_s]
        return max(at_s - self.killed.begun_s for at_s in [self.killed.begun_s, *sent])

    def is_late(self, at_s: float, error_s: float = 0.0) -> bool:
        """Whether a request of this time was sent after --settle and before the revival."""
        end_s = self.revived.begun_s if self.revived else float("inf")
        return self.settled_s + error_s < at_s < end_s - error_s

    @property
    def late(self) -> list[Answer]:
        return [each for each in self.answers if self.is_late(sent_s(each))]

    @property
    def late_visits(self) -> list[Visit]:
        """The requests that went to a dead runner after --settle."""
        dead = self.dead
        found = [each for each in self.visits if each.runner in dead and each.failed]
        return [each for each in found if self.is_late(each.sent_s, CLOCK_S)]

    @property
    def online_again_s(self) -> float | None:
        """How long after the revive command began all the dead runners were online; None when that
        was not seen."""
        if self.revived is None or not (dead := self.dead):
            return None
        seen = [each for each in self.sightings if each.at_s > self.revived.begun_s]
        times = [each.at_s for each in seen if each.online.issuperset(dead)]
        if not times:
            return None
        seen_s = times[0] - self.revived.begun_s  # it may have served before anybody looked
        return seen_s if self.served_again_s is None else min(seen_s, self.served_again_s)

    @property
    def served_again_s(self) -> float | None:
        """How long after the revive command began each of them had been sent a request that it
        served; None when that was not seen."""
        if self.revived is None or not (dead := self.dead):
            return None
        firsts = []
        for name in dead:
            own = [each for each in self.visits if each.runner == name and not each.failed]
            after = [each.sent_s for each in own if each.sent_s > self.revived.begun_s]
            if not after:
                return None
            firsts.append(min(after))
        return max(firsts) - self.revived.begun_s


def first_of(gone: Mapping[str, float]) -> list[str]:
    """Those that went first: another one may fall asleep after them."""
    first_s = min(gone.values(), default=0.0)
    return sorted(name for name, at_s in gone.items() if at_s == first_s)


def sent_s(answer: Answer) -> float:
    return sent_ms(answer) / 1e3


def is_after(answer: Answer, at_s: float) -> bool:
    """Whether it had not ended yet at this time."""
    return answer.ended_ns is None or answer.ended_ns / 1e9 > at_s


def is_clean_error(answer: Answer) -> bool:
    """Whether every client takes it for an error: a whole answer with a status that says so, or an
    error event in a stream, which has no other way to say it. A client that reads a stream takes a
    200 with an error as JSON for an answer without a word: it has no line that begins with `data:`.
    """
    if answer.failure is not None:
        return False
    if (answer.status or 0) >= 400:
        return True
    error = answer.stream_error if answer.wants_stream and answer.stream.events else None
    return error is not None and error.kind == "stream_error"


# --- show


def loss_lines(loss: Loss) -> list[str]:
    """What the loss of a runner has cost."""

    def line(label: str, value_s: float | None, since: str) -> str:
        shown = duration(None if value_s is None else value_s * 1e3)
        return f"    {label:22}{shown:>9}  since the {since} command began"

    hit = f"{len(loss.hit)} of {len(loss.answers)}"
    return [
        f"  killed: {listed(loss.dead) if loss.dead else 'not known which runner'}",
        f"    {'requests hit':22}{hit:>9}",
        line("no more were hit", loss.last_hit_s, "kill"),
        line("online again", loss.online_again_s, "revive"),
        line("serves again", loss.served_again_s, "revive"),
    ]


def loss_figures(loss: Loss) -> dict[str, Any]:
    return {
        "killed": api.first_names(loss.dead),
        "source": loss.source,
        "requests": len(loss.answers),
        "hit": len(loss.hit),
        "settle_s": loss.settle_s,
        "last_hit_s": rounded(loss.last_hit_s),
        "online_again_s": rounded(loss.online_again_s),
        "served_again_s": rounded(loss.served_again_s),
    }


def rounded(value_s: float | None) -> float | None:
    return None if value_s is None else round(value_s, 3)


# --- who served


class Source:
    """What tells which runner a request reached: a response header, or else the request log."""

    def __init__(
        self,
        known: KnownRunners,
        header: str | None,
        log: LogReader | None,
        clock_ahead_ms: float | None,
    ):
        self.known, self.header = known, header
        self._log = log if header is None and clock_ahead_ms is not None else None
        self._ahead_s = (clock_ahead_ms or 0.0) / 1e3

    @property
    def words(self) -> str | None:
        if self.header:
            return f"the header {self.header.title()}"
        return "the request log" if self._log else None

    def visits(self, answers: Sequence[Answer]) -> list[Visit]:
        """As far as the answers that have ended, or the log, tell them."""
        if self.header:
            named = [(each, each.shown_header(self.header, api.NAME_LENGTH)) for each in answers]
            return [
                Visit(self.known.label(name), sent_s(each), bool(each.completion.problem))
                for each, name in named
                if name
            ]
        try:
            entries = self._log.read_new(len(answers)) if self._log else []
        except Unreadable:
            self._log = None
            return []
        return [visit for entry in entries if (visit := self._visit(entry))]

    def _visit(self, entry: LogEntry) -> Visit | None:
        if entry.runner_id is None or entry.at_s is None:
            return None
        label = self.known.label(entry.runner_id)
        return Visit(label, entry.at_s - self._ahead_s, has_failed(entry))


# --- measure


class RunnerLoss:
    """Sends requests at a steady pace, while a runner is killed and revived."""

    def __init__(self, run: Run, wire: Wire, admin: api.Admin, source: Source, loss: Loss):
        self.run, self.admin, self.source, self.loss = run, admin, source, loss
        self._wire = wire
        self._ended = threading.Event()
        self._noted = 0
        loss.source = source.words

    def measure(self, kill: str, revive: str, question: Callable[[], Request], pace: Pace) -> None:
        """Fill the loss. The revive command is run whatever happens once the kill command was."""
        timeout_s, half = self.run.args.timeout, (pace.at_once + 1) // 2
        most = min(MOST_AT_ONCE, pace.at_once + int(pace.per_s * timeout_s) + 1)
        requests, due_s = self._requests(question), pace.due_s()
        load = Background(self._wire, timeout_s, requests, most, keep=False, due_s=due_s)
        try:
            self._look(load)
            self._wait(load, timeout_s, lambda: load.begun >= half, LOOK_S / 10)
            try:
                self.loss.killed = self._command(kill)
                if self.loss.killed.problem is None:
                    longest_s = self.loss.settle_s + JUDGED_S
                    self._wait(load, longest_s, lambda: self._sent_late(load) >= ENOUGH)
            finally:
                self._revive(revive)
            if not (self.loss.killed.problem or self.loss.limited):
                self._await_return(load, pace)
        finally:
            self._ended.set()
            self.loss.answers = load.collect()
            self.loss.visits = self.source.visits(self.loss.answers) or self.loss.visits
        self.loss.is_over = True

    def _requests(self, question: Callable[[], Request]) -> Iterator[Request]:
        while not self._ended.is_set():
            yield question()

    def _command(self, command: str) -> Ran:
        begun_s, problem = time.perf_counter(), None
        own = Command(command, COMMAND_S, {"SIMPLEAI_URL": self.run.url}, leaves_running=True)
        try:
            printed = own.run()
            if printed.code:
                problem = f"ended with exit code {printed.code}: {shorten(printed.last_words)}"
        except NoOutput as error:
            problem = str(error)
        except (OSError, ValueError):
            problem = "is not a command"
        return Ran(begun_s, time.perf_counter(), problem)

    def _revive(self, command: str) -> None:
        """Also when the run is interrupted: a signal waits for it."""
        INTERRUPTION.postpone()
        try:
            self.loss.revived = self._command(command)
        finally:
            INTERRUPTION.resume()

    def _sent_late(self, load: Background) -> int:
        return sum(each > self.loss.settled_s for each in load.sent_s)

    def _look(self, load: Background) -> None:
        """Who is online, where the admin API tells it; whether a rate limit ends this."""
        try:
            runners = self.admin.runners()
        except Unreadable:
            pass
        else:
            online = frozenset(self.source.known.label(r.id) for r in runners if r.is_online)
            self.loss.sightings.append(Sighting(time.perf_counter(), online))
        answers = load.answers
        for answer in answers[self._noted :]:
            take_note(self.run, answer, alone=False)
        self._noted = len(answers)
        limited = next((each for each in answers if each.is_rate_limited), None)
        self.loss.limited = rate_limit_words(limited) if limited else None

    def _wait(
        self,
        load: Background,
        longest_s: float,
        is_over: Callable[[], bool],
        interval_s: float = LOOK_S,
    ) -> None:
        """Look at the fleet again and again until it is over, or the load has ended."""
        end_s = time.perf_counter() + longest_s
        while not is_over() and time.perf_counter() < end_s and load.is_alive():
            time.sleep(interval_s)
            self._look(load)
            if self.loss.limited:
                return

    def _await_return(self, load: Background, pace: Pace) -> None:
        """Until the dead runners serve again; once they are online, a while longer at most."""
        loss, more_s = self.loss, 2 * ENOUGH / pace.per_s + LAG_S
        loss.visits = self.source.visits(load.answers)

        def has_returned() -> bool:
            online_s = loss.online_again_s
            if online_s is not None or self.source.header:
                loss.visits = self.source.visits(load.answers) or loss.visits
            if loss.served_again_s is not None or not loss.dead:
                return True
            spent_s = time.perf_counter() - (loss.revived.begun_s if loss.revived else 0.0)
            return online_s is not None and spent_s > online_s + more_s

        self._wait(load, loss.revive_s, has_returned)


@dataclass(frozen=True)
class Pace:
    """How fast requests are sent: `at_once` of them together, before the kill, and then `per_s` per
    second: `group` of them together, so that each runner is needed, also one that is preferred
    less."""

    at_once: int
    group: int
    per_s: float

    @classmethod
    def after(cls, count: int, wall_s: float, at_once: int, runners: int) -> Pace:
        """So fast that one runner less can serve it (LOAD): `count` requests took `wall_s` with so
        many runners."""
        least, most = PER_S
        share = LOAD * (runners - 1) / runners if runners > 1 else LOAD / 2
        per_s = min(most, max(least, share * count / wall_s)) if wall_s else least
        return cls(at_once, min(at_once, max(2, runners)), per_s)

    def due_s(self) -> Iterator[float]:
        """When each request is due."""
        yield from itertools.repeat(0.0, self.at_once)
        for number in itertools.count(1):
            yield from itertools.repeat(number * self.group / self.per_s, self.group)
