"""What the master of Locust does: collects what the workers tell, judges it and saves it.

A test is a run of its own, also when several are started from the web page one after the other; the
worst of them is the exit code. This module imports gevent and Locust: nothing but `locustfile.py`
imports it.
"""

from __future__ import annotations

import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
from gevent.event import Event
from locust import LoadTestShape
from locust.runners import STATE_MISSING, MasterRunner

from livecheck.core.checks import Exit, worst
from livecheck.core.credentials import CannotCheck
from livecheck.core.result_file import Document
from livecheck.core.run import Run
from livecheck.load import distributed
from livecheck.load.level_text import level_lines
from livecheck.load.stages import Stage, stage_at

MESSAGE, FINISH = "live_checks", "live_checks_finish"  # from workers, and to them
# A worker whose users are gone works out its last answers. After so long without a word from any
# of them, nothing more is expected.
SILENT_S = 20.0
LONGEST_END_S = 120.0  # of the end of a test, when the process is to end
LOOK_S = 0.05
UNCHECKED = ("UNREACHABLE",)  # causes for which nothing can be said about the deployment


class LocustRun(Run):
    """A run that somebody started with Locust's command line."""

    def _command(self) -> str:
        return shlex.join(["locust", *getattr(self.args, "typed", ())])


class StagesShape(LoadTestShape):
    """The users of `--stages`, as Locust asks for them every second."""

    abstract = True  # Locust takes a shape of its own accord otherwise

    def __init__(self, stages: Sequence[Stage], spawn_rate: float | None):
        super().__init__()
        self._stages, self._spawn_rate = stages, spawn_rate

    def tick(self) -> tuple[int, float] | None:
        users = stage_at(self._stages, self.get_run_time())
        if users is None:
            return None
        return users, self._spawn_rate or max(users, 1)


class Master:
    """All tests of one process that collects."""

    def __init__(self, environment: Any):
        self.environment = environment
        self.exit_code = Exit.OK
        self.interrupted: type[BaseException] | None = None  # by a signal, while a test ran
        self.run: Run | None = None
        self.test = ""  # the name of the test that runs, or ran last
        self._is_ending = False
        self._ended = Event()  # whether the test is saved; at first there is none
        self._ended.set()

    def begin(self, run: Run) -> None:
        """A test starts; `run` has its settings."""
        self.test = secrets.token_hex(8)
        self.run, self.interrupted = run, None
        self._ended.clear()
        self.collection = distributed.Collection(self.test)
        if isinstance(runner := self.environment.runner, MasterRunner):
            for client in runner.clients.ready:
                self.collection.part_of(client.id)
        # begun before anything is sent: no older result can be taken for this one
        self.document = run.document(f"inference_c{run.args.concurrency[0]}")
        self.document.start()

    def take(self, name: str, message: Mapping[str, Any]) -> None:
        """A worker said something."""
        if self.run is None:
            return
        before = self.collection.stopped
        self.collection.take(name, message, time.monotonic())
        if self.collection.stopped and not before:
            self.run.note(f"stopping: {self.collection.stopped[1]}")
            gevent.spawn(self._stop_test)

    def _stop_test(self) -> None:
        runner = self.environment.runner
        if self.is_headless:
            runner.quit()
        else:
            runner.stop()

    # the end

    def finish(self) -> None:
        """The users are told to stop: wait for what the workers still have, judge and save it."""
        run = self.run
        if run is None or self._is_ending:
            return
        self._is_ending = True
        try:
            self._wait_for_workers()
        except KeyboardInterrupt:  # once more: what has come until now is what there is
            self.interrupted = KeyboardInterrupt
        self.run, self._is_ending = None, False
        error: BaseException | None = self.interrupted() if self.interrupted else None
        try:
            self._fill(run, self.document)
        except Exception as caught:
            error = error or caught
        run.end(error)
        self.exit_code = worst([self.exit_code, run.exit_code])
        self._ended.set()
        runner = self.environment.runner
        if self.is_headless and isinstance(runner, MasterRunner) and runner.worker_count <= 0:
            gevent.spawn(runner.quit)  # nobody is left to go on: Locust itself would wait for ever

    def end_test(self) -> None:
        """Stop the test that runs, if one does, and wait until it is saved."""
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            runner.stop(send_stop_to_client=False)
        else:
            runner.stop()
        self._ended.wait(LONGEST_END_S)
        if self.is_headless and not self.test:
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])

    @property
    def is_headless(self) -> bool:
        return bool(self.environment.parsed_options.headless)

    def _wait_for_workers(self) -> None:
        runner, heard_s, heard = self.environment.runner, time.monotonic(), -1
        if not isinstance(runner, MasterRunner):
            return
        runner.send_message(FINISH, {"test": self.test})
        while not self.collection.is_whole(self._gone(runner)):
            said = sum(part.begun + len(part.seen) for part in self.collection.parts.values())
            if said != heard:
                heard, heard_s = said, time.monotonic()
            if time.monotonic() - heard_s > SILENT_S + (self.environment.stop_timeout or 0):
                return
            gevent.sleep(LOOK_S)

    def _gone(self, runner: Any) -> set[str]:
        """Workers that will say nothing more: Locust has not heard of them for some seconds."""
        here = {client.id for client in runner.clients.all if client.state != STATE_MISSING}
        return set(self.collection.parts) - here

    def _fill(self, run: Run, document: Document) -> None:
        """Figures, verdicts and the lines for them. CannotCheck: a worker could not ask at all."""
        found, args = self.collection, run.args
        document.requests = found.records
        document.metrics = distributed.figures_of(found, args.concurrency[0], args.slo)
        document.metrics["prompt"] = "same" if args.same_prompt else "unique"
        if args.stages:
            document.metrics["stages"] = [vars(stage) for stage in args.stages]
        self._name_target(run)
        if found.stopped and found.stopped[0] in UNCHECKED and not found.records:
            raise CannotCheck(found.stopped[1])
        document.add(*distributed.judge(found, document.metrics, args.slo))
        if not found.records:
            run.show([], document.checks)
            return
        run.say()
        run.show([*level_lines(document.metrics), *worker_lines(document.metrics)], document.checks)

    def _name_target(self, run: Run) -> None:
        """The target and the clients are those that the workers named."""
        abouts = [part.about for part in self.collection.ordered if part.about]
        if not abouts:
            return
        for key in ("model", "server", "api_base"):
            run.target[key] = next((each[key] for each in abouts if each.get(key)), None)
        run.client["clock"] = abouts[0].get("clock")
        run.client["workers"] = len(abouts)

    def note_users(self, user_count: int, **_: Any) -> None:
        """So many users there are now. The web page can change that while a test runs: then the
        file is named after the most."""
        if self.run is not None and user_count > self.run.args.concurrency[0]:
            self.run.args.concurrency = [user_count]
            self.document.name = f"inference_c{user_count}"

    def note_signal(self, kind: type[BaseException]) -> None:
        """A signal came: if a test runs, it is interrupted."""
        if self.run is not None and self.environment.runner.state not in ("stopping", "stopped"):
            self.interrupted = kind


def worker_lines(figures: Mapping[str, Any]) -> list[str]:
    """A line for each worker."""
    lines = []
    for each in figures["workers"]:
        lag = "-" if each["lag_p99_ms"] is None else f"{each['lag_p99_ms']:.2f} ms"
        lost = f", {each['lost']} lost" if each["lost"] else ""
        counts = f"{each['records']} of {each['begun']} requests{lost}"
        lines.append(f"worker {each['worker']}: {counts}, lag p99 {lag}")
    return lines


def typed_words(words: Sequence[str] | None = None) -> list[str]:
    """Locust's command line without a credential."""
    kept, skip = [], False
    for word in sys.argv[1:] if words is None else words:
        if skip:
            skip = False
        elif word.partition("=")[0] in ("--api-key", "--token"):
            skip = "=" not in word
        else:
            kept.append(word)
    return kept
