"""A level that is more than one core can measure: several processes send a part of it each.

They are forked before the run has threads, and wait. For a level each is told its part; it warms up
with its own connections, opens them, makes its requests and reports that it is ready. Then all are
told one moment at which to begin, on the clock that all processes of the machine share. What they
measured is merged by time into the level, as if one process had measured it.

No credential leaves the memory of these processes: they are no new programs, so there is no command
line and no environment in which it would stand.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import contextlib
import heapq
import mmap
import os
import selectors
import signal
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.load.arrivals import Prompt
from livecheck.load.channel import Channel, Message
from livecheck.load.client_delay import Client
from livecheck.load.examples import Examples
from livecheck.load.level import Level, Session, beside, measure_level
from livecheck.load.parts import part_of, warmup_of
from livecheck.load.process_count import busy_by, most_parts, processes_for
from livecheck.load.worker import Job, Outcome, Relay, Worker, serve, when
from livecheck.wire import dialect
from livecheck.wire.answer import Answer, Timed
from livecheck.wire.asking import Cause, Stop
from livecheck.wire.coding_check import take_over
from livecheck.wire.model_choice import CHOICE
from livecheck.wire.spool import Spool
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import USER_CLOCK

LEAD_NS = 20_000_000  # from the word to the start: each process has to hear it before
LOOK_S = 0.1  # between two looks at how far the processes are
ABANDON_S = 10.0  # to give up what is in flight takes far less
REAP_S = 2.0
STEP_BYTES = 8


@dataclass
class Process:
    """One of the processes, as the run sees it."""

    number: int
    pid: int
    channel: Channel
    is_ready: bool = False
    is_over: bool = False
    lost: str | None = None  # how it ended, if it did
    error: Exception | None = None
    outcome: Outcome | None = None

    def begin(self, job: Job) -> None:
        self.is_ready, self.is_over = False, self.lost is not None
        self.outcome = self.error = None
        if not self.is_over:
            self.channel.send("job", job)

    def is_gone(self) -> None:
        """The channel is closed: the process has ended, or is about to."""
        self.is_over = True
        self.lost = self.lost or self._how_it_ended()

    def _how_it_ended(self) -> str:
        end_s = time.perf_counter() + REAP_S
        while time.perf_counter() < end_s:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                code = os.waitstatus_to_exitcode(status)
                return f"was killed ({name_of(-code)})" if code < 0 else f"ended with code {code}"
            time.sleep(0.005)
        self.end()
        return "did not answer any more"

    def end(self) -> None:
        """Close the channel, which ends the process, and wait for that."""
        self.channel.close()
        if not self.pid:
            return
        end_s = time.perf_counter() + REAP_S
        while time.perf_counter() < end_s:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
                return
            time.sleep(0.002)
        self.kill()
        os.waitpid(self.pid, 0)
        self.pid = 0

    def kill(self) -> None:
        """End it now, unless it has ended: the number 0 would be all processes of the group."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)


def name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Processes:
    """The processes of a run: forked at `__enter__`, which gives what measures a level; gone after
    `__exit__`."""

    def __init__(self, run: Run, token: str | None, prompts: Sequence[Prompt], count: int):
        self._run, self._token, self._prompts, self._count = run, token, prompts, count
        self.all: list[Process] = []
        self.steps = memoryview(mmap.mmap(-1, STEP_BYTES * max(1, count))).cast("Q")

    def __enter__(self) -> Callable[[Session, Level], None]:
        try:
            for number in range(self._count):
                INTERRUPTION.postpone()
                try:
                    self._fork(number)
                finally:
                    INTERRUPTION.resume()
        except OSError as error:  # too many processes, or no memory
            if self._run.args.processes is not None:
                self.__exit__()
                why = f"cannot start {self._count} processes: {error.strerror}"
                raise CannotCheck(why) from None
        return self.measure

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.end()

    def _fork(self, number: int) -> None:
        ours, theirs = Channel.pair()
        pid = os.fork()
        if pid:
            theirs.close()
            self.all.append(Process(number, pid, ours))
            return
        try:
            INTERRUPTION.forked()
            for other in (ours, *(each.channel for each in self.all)):
                other.close()  # else nobody would notice the end of the run
            be_silent()
            relay = Relay(theirs, self.steps, number)
            serve(Worker(self._run, self._token, self._prompts, theirs, relay))
        finally:
            os._exit(1)

    def measure(self, session: Session, level: Level) -> None:
        """Measure a level with as many processes as --processes says, or as it needs. Raises
        CannotCheck when one of them is lost, after the level has what the others have measured."""
        wanted, most = session.run.args.processes, min(len(self.all), most_parts(level.load))
        if most < 2:
            measure_level(session, level)
        elif wanted is None:
            measure_level(session, level, lambda: self._divide_if_needed(session, level, most))
        else:
            self._divide(session, level, most)

    def _divide_if_needed(self, session: Session, level: Level, most: int) -> bool:
        """After the warm-up: whether the level was measured by several processes."""
        busy = busy_by(level.load, level.warmup, level.client)
        count = processes_for(busy, most)
        if busy is None or count < 2:
            return False
        session.run.note(
            f"{level.load.title}: one process would use {busy.share:.0%} of a core "
            f"({busy.words()}), so {count} processes measure this level (--processes 1: one does)"
        )
        session.wire.close_idle()
        self._divide(session, level, count)
        return True

    def _divide(self, session: Session, level: Level, count: int) -> None:
        """With so many; once more if the server refuses stream_options."""
        while True:
            Division(session, level, self.all[:count], self.steps).measure()
            if not level.stop_for(Cause.USAGE):
                return
            session.usage = False


def be_silent() -> None:
    """The standard streams are those of the run, and nothing is to be written there twice."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)


class Division:
    """One level, while several processes measure it."""

    def __init__(
        self, session: Session, level: Level, processes: Sequence[Process], steps: memoryview
    ):
        self._session, self._level, self._steps = session, level, steps
        self._processes = processes
        self._notes: set[str] = set()  # each is told once, whoever says it first

    def measure(self) -> None:
        level, count = self._level, len(self._processes)
        level.stopped, level.warmup, level.answers = None, [], []
        level.examples = Examples()
        for process in self._processes:
            process.begin(self._job(process.number))
        try:
            warmup = self._warmup_count()
            what = "warm up" if warmup else "begin"
            self._watch(f"{count} processes {what}", warmup, self._all_are_ready)
            with beside(self._session, level):
                self._start()
                planned = level.load.planned
                told = "requests" if planned is None else f"{planned} requests"
                self._watch(f"{told}, by {count} processes", planned, self._all_are_over)
        finally:
            INTERRUPTION.postpone()
            try:
                self._abandon()
                self._collect()
            finally:
                INTERRUPTION.resume()
        self._raise_errors()

    def _job(self, place: int) -> Job:
        session, run, level = self._session, self._session.run, self._level
        return Job(
            load=level.load,
            place=place,
            of=len(self._processes),
            end_s=level.end_s,
            model=session.model,
            usage=session.usage,
            warmup=run.args.warmup,
            api_base=run.address.base,
            learnt=dialect.of_run(run).learnt,
            has_served=run.has_served,
            has_completed=run.has_completed,
            choice=run.notes.get(CHOICE),
            deep=session.deep,
        )

    def _warmup_count(self) -> int:
        count, asked = len(self._processes), self._session.run.args.warmup
        return sum(warmup_of(asked, self._level.load, place, count) for place in range(count))

    # while it runs

    def _all_are_ready(self) -> bool:
        return all(each.is_ready or each.is_over for each in self._processes)

    def _all_are_over(self) -> bool:
        return all(each.is_over for each in self._processes)

    def _start(self) -> None:
        """All begin at one moment, unless one of them cannot."""
        if self._level.stopped is None and not any(each.is_over for each in self._processes):
            start_ns = time.perf_counter_ns() + LEAD_NS
            for process in self._processes:
                process.channel.send("go", start_ns)
        elif any(each.lost or each.error for each in self._processes):
            self._abandon()
        else:
            self._stop_others(self._level.stopped or Stop(Cause.FAILING), None)

    def _watch(self, what: str, total: int | None, is_done: Callable[[], bool]) -> None:
        with self._session.run.progress(f"{self._level.load.title}: {what}", total) as step:
            shown = sum(self._steps)
            while not is_done():
                self._listen(LOOK_S)
                while shown < sum(self._steps):
                    shown += 1
                    step()

    def _listen(self, wait_s: float) -> None:
        """Deal with what the processes say, for so long at most; one message of each."""
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                if not process.is_over:
                    selector.register(process.channel, selectors.EVENT_READ, process)
            for key, _ in selector.select(wait_s):
                self._hear(key.data)

    def _hear(self, process: Process) -> None:
        message = receive(process)
        if message is None:
            process.is_gone()
            self._abandon_in_flight()
        elif message.kind == "note":
            self._tell(message.content)
        elif message.kind == "ready":
            process.is_ready = True
        elif message.kind == "stop":
            self._stop_others(message.content, process)
        elif message.kind == "over":
            process.is_over, process.error = True, message.content
            if process.error:
                self._abandon_in_flight()

    def _tell(self, text: str) -> None:
        run = self._session.run
        if text not in self._notes or run.args.verbose or run.args.debug:
            self._notes.add(text)
            run.note(text)

    def _stop_others(self, why: Stop, by: Process | None) -> None:
        if self._level.stopped is None:
            self._level.stop(why)
        for process in self._processes:
            if process is not by and not process.is_over:
                process.channel.send("stop", why)

    def _abandon_in_flight(self) -> None:
        for process in self._processes:
            if not process.is_over:
                process.channel.send("abandon")

    def _abandon(self) -> None:
        """Let those that still measure give up at once, and wait until they have."""
        if self._all_are_over():
            return
        self._abandon_in_flight()
        end_s = time.perf_counter() + ABANDON_S
        while not self._all_are_over():
            self._listen(LOOK_S)
            if time.perf_counter() > end_s:
                for process in self._processes:
                    if not process.is_over:
                        process.kill()

    # when it is over

    def _collect(self) -> None:
        """Put what they have measured into the level, in the order of time."""
        level = self._level
        folder, tell = self._session.run.args.results, self._session.run.note
        level.spool = Spool(folder, tell, level.examples.look)
        there = [each for each in self._processes if self._take_outcome(each)]
        owners, places = array("H"), {each.number: Places() for each in there}
        streams = [owned(each.number, answers_of(each)) for each in there]
        for index, (_, number, place, answer) in enumerate(heapq.merge(*streams)):
            owners.append(number)
            places[number].put(place, index)
            keep(level, answer, index)
        for process in there:
            assert process.outcome
            level.examples.take(process.outcome.examples, places[process.number].at)
        level.client = client_of(there, owners, len(self._processes))

    def _take_outcome(self, process: Process) -> bool:
        """Whether it tells what became of its part; what it has learnt is taken over."""
        while process.outcome is None and not process.lost:
            message = receive(process)
            if message is None:
                process.is_gone()
            elif message.kind == "outcome":
                process.outcome = message.content
            elif message.kind == "note":
                self._tell(message.content)
        found, run, level = process.outcome, self._session.run, self._level
        if found is None:
            return False
        level.warmup += found.warmup
        level.succeeded += found.succeeded
        run.has_served |= found.has_served
        run.has_completed |= found.has_completed
        if found.rate_limit_wait_s is not None:
            run.rate_limit_wait_s = max(found.rate_limit_wait_s, run.rate_limit_wait_s or 0.0)
        dialect.of_run(run).adopt(found.learnt)
        if dialect.of_run(run).refused:
            run.target["parameters"] = dialect.of_run(run).as_record()
        if found.choice and CHOICE in run.notes:
            run.notes[CHOICE].has_chatted |= found.choice.has_chatted
        if found.codings:
            take_over(run, found.codings)
        for exchange in found.noted:
            run.noted.add_exchange(exchange)
        return True

    def _raise_errors(self) -> None:
        """CannotCheck if a process was lost: what it has measured is missing."""
        for process in self._processes:
            if process.lost:
                count = len(self._processes)
                planned = part_of(self._level.load, process.number, count).planned
                what = "what it measured is" if planned is None else f"{planned} requests are"
                raise CannotCheck(
                    f"process {process.number + 1} of {count} {process.lost}: {what} lost, and the "
                    "level was stopped; what the others have measured is saved"
                )
        for process in self._processes:
            if process.error:
                raise process.error


def receive(process: Process) -> Message | None:
    """The next message of a process, whole."""
    INTERRUPTION.postpone()
    try:
        return process.channel.receive()
    finally:
        INTERRUPTION.resume()


def answers_of(process: Process) -> Iterator[Timed]:
    """Its answers, as they come over the channel; an end of the process ends them."""
    while not process.lost:
        message = receive(process)
        if message is None:
            process.is_gone()
        elif message.kind == "end":
            return
        elif message.kind == "answers":
            yield from message.content


def owned(number: int, answers: Iterator[Timed]) -> Iterator[tuple[int, int, int, Timed]]:
    """(when it began, the number of the process, its index there, answer): no two are equal
    before the answer, so that they can be merged."""
    for answer in answers:
        yield when(answer), number, answer.index, answer


def keep(level: Level, answer: Timed, index: int) -> None:
    """Put an answer into the level, with the number that it has there."""
    if isinstance(answer, Answer):
        answer.reply.index = index
        level.answers.append(answer)
    else:
        answer.index = index
        assert level.spool
        level.spool.keep(answer)


class Places:
    """Which number a request has in the whole level, by its number in the part of a process."""

    def __init__(self) -> None:
        self._found = array("I")  # 4 bytes for a request

    def put(self, place: int, index: int) -> None:
        self._found.extend([0] * (place + 1 - len(self._found)))
        self._found[place] = index

    def at(self, place: int) -> int:
        return self._found[place] if place < len(self._found) else place


def client_of(processes: Sequence[Process], owners: Sequence[int], count: int) -> Client:
    """What the processes together tell of this program: the busiest one's times."""
    found = Client(processes=count)
    outcomes = {each.number: each.outcome for each in processes if each.outcome}
    for outcome in outcomes.values():
        one = Client(cpu_s=outcome.cpu_s, wall_s=outcome.wall_s)
        if (one.cpu_share or 0.0) >= (found.cpu_share or 0.0):
            found.cpu_s, found.wall_s = one.cpu_s, one.wall_s
    clocks = [each.clock for each in outcomes.values()]
    if clocks:
        found.clock = USER_CLOCK if USER_CLOCK in clocks else clocks[0]
        lost = {n: Starvation.found_elsewhere(each.lost) for n, each in outcomes.items()}
        found.starvation = Starvations(lost, owners)
    return found


class Starvations(Starvation):
    """What several processes could not see: each answer was read by one of them."""

    def __init__(self, parts: dict[int, Starvation], owners: Sequence[int]):
        super().__init__()
        self._ended.set()
        self._parts, self._owners = parts, owners

    def watching(self, answer: Timed) -> Starvation:
        return self._parts[self._owners[answer.index]]

    def between_ms(self, start_ns: int, end_ns: int) -> float:
        """Of the one that could run least."""
        found = (each.between_ms(start_ns, end_ns) for each in self._parts.values())
        return max(found, default=0.0)
