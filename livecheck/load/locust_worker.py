"""What a worker of Locust does: sends its users' requests over the wire, and tells the master.

Each user has one request in flight. One greenlet reads the streams of all of them (`HandedIn`);
what an answer means is worked out in its spare time, step by step, and goes to the master as
records, some of them in a message. A user begins its next request as soon as one has ended.

This module imports gevent and Locust: nothing but `locustfile.py` imports it.
"""

from __future__ import annotations

import contextlib
import gc
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult, Event
from locust.exception import StopUser

from livecheck.core.cleaning import Cleaner
from livecheck.core.credentials import CannotCheck
from livecheck.core.run import TOOL_VERSION, Run, reason_of
from livecheck.load import distributed
from livecheck.load.arrivals import Load, question
from livecheck.load.client_delay import Client, Delays, delay_metrics, record_of
from livecheck.load.level import Level, Session, chat_request
from livecheck.load.level import reason_of as level_reason
from livecheck.wire import chat, metrics
from livecheck.wire.answer import Answer
from livecheck.wire.asking import GONE, Cause, Stop, open_wire, take_note
from livecheck.wire.condensing import CANNOT_WAIT, Condenser
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.request import Reply
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import raise_descriptor_limit

# It runs a command of the system's the first time, and gevent does not like a fork beside threads.
PLATFORM = platform.platform(terse=True)
SEND_S = 0.25  # how often the master hears of a worker
# Answers are read while something is to be read only when so many bytes of them wait.
URGENT_BYTES = 32 << 20
LONGEST_END_S = 60.0  # to work out what is left when the users are gone takes far less
ENDLESS_S = 1e9  # the users decide how long a test is
STREAM = "stream"  # the type of the requests in Locust's statistics

Send = Callable[[dict[str, Any]], object]


class Worker:
    """One test, in one process. `send` takes a message to the master."""

    def __init__(self, environment: Any, run: Run, send: Send, test: str):
        self.environment, self.run, self.test = environment, run, test
        self._send = send
        self._stack = contextlib.ExitStack()
        self._waiting: dict[int, AsyncResult] = {}  # users, by the index of their request
        self._numbers: dict[int, int] = {}  # of the requests that are recorded, by their index
        self._begun = 0  # recorded requests
        self._warmups = [0, 0]  # sent, failed
        self._origin_ns: int | None = None  # when the first of them began
        self._batch: list[dict[str, Any]] = []
        self._delays, self._client = Delays(), Client()
        self._ttfts, self._e2es = list[float](), list[float]()  # ms, of requests without an error
        self._stopped: Stop | None = None
        self._is_ready = self._is_over = False
        self._ended = Event()
        self._has_woken = False  # whether a user can go on, and has not yet
        self._cleaner = Cleaner(run.secrets)

    # the test

    def begin(self) -> None:
        """Find the deployment, and get ready for users. CannotCheck: it cannot be asked."""
        run, args = self.run, self.run.args
        raise_descriptor_limit(args.concurrency[0])
        self._wire = self._stack.enter_context(open_wire(run, run.token()))
        self._starvation = self._stack.enter_context(Starvation())
        listing = chat.first_contact(run, self._wire, [chat.get(chat.MODELS)])[0]
        model = model_to_ask(run, listing)
        prompts = [question(args.prompt)]
        self.session = Session(run, self._wire, model, prompts, self._starvation)
        self._level = Level(Load(args.concurrency[0], None, ENDLESS_S))
        self._reason = level_reason(self._level, self.session)
        if args.warmup:
            self._warm_up()
        # eager, so that Locust's statistics follow
        self._condenser = Condenser(int(URGENT_BYTES / CANNOT_WAIT), self._take, is_eager=True)
        self.exchange = self._wire.handed_in(self._on_reply, self._spare_work)
        # Locust's own objects are many: to look through all of them takes the collector 40 ms, in
        # which nothing is read.
        gc.collect()
        gc.freeze()
        self._client.begin()
        self._reader = gevent.spawn(self._read)
        self._teller = gevent.spawn(self._tell_again)
        self._is_ready = True
        self._tell(distributed.HELLO, **self._about())

    def _warm_up(self) -> None:
        """The worker's own first request tells whether the server takes stream_options."""
        for _ in range(2):
            answer = Answer(self._wire.exchange([chat_request(self.session)])[0])
            self._warmups[0] += 1
            self._warmups[1] += not answer.is_ok
            if answer.status not in (400, 422) or not self.session.usage:
                return
            self.session.usage = False

    def _about(self) -> dict[str, Any]:
        return {
            "model": self.session.model,
            "server": self.run.target["server"],
            "api_base": self.run.target["api_base"],
            "clock": self._wire.clock,
            "python": platform.python_version(),
            "platform": PLATFORM,
            "tool_version": TOOL_VERSION,
        }

    def _read(self) -> None:
        try:
            self.exchange.run()
        except Exception as error:
            self.run.debug_trace(error)
            self._stop(Stop(Cause.FAILING, reason_of(error, self.run)[1]))

    def finish(self) -> None:
        """The users are gone: work out what is left, and tell it."""
        if self._is_over:
            self._ended.wait(LONGEST_END_S)  # who returns may end the process
            return
        self._is_over = True
        told: dict[str, Any] = {}
        try:
            if self._is_ready:
                told = self._finish()
        except Exception as error:  # the master must not wait for ever
            self.run.debug_trace(error)
            self._stop(Stop(Cause.FAILING, reason_of(error, self.run)[1]))
        finally:
            self._tell(distributed.END, **told)
            self._stack.close()
            self._ended.set()

    def _finish(self) -> dict[str, Any]:
        self._client.end()
        gc.unfreeze()
        for index in list(self._waiting):
            self.exchange.withdraw(index)
        self.exchange.end()
        self._reader.join()
        self._teller.kill()
        self.exchange.abandon()
        while self._condenser.work(is_urgent=False):
            gevent.sleep(0)  # the master must go on hearing that this worker is alive
        self._condenser.finish()
        self._flush()
        # users are a closed loop: a late send makes the load less by its share of the E2E latency
        ttft_ms, e2e_ms = (metrics.summary(each)["p50"] for each in (self._ttfts, self._e2es))
        clock, delays, own = self._wire.clock, self._delays, (self._starvation, self._client)
        client = delay_metrics(delays, clock, (ttft_ms, e2e_ms), *own, is_open=False)
        sent, failed = self._warmups
        told = {"client": client, "usage": self.session.usage}
        return told | {"warmup_requests": sent, "warmup_failed": failed}

    # what users do

    @property
    def is_asking(self) -> bool:
        """Whether requests are sent: the test has not ended, and nothing has stopped it."""
        return not (self._stopped or self._is_over)

    def ask(self, ready_ns: int | None = None, is_warmup: bool = False) -> int | None:
        """Send one request and wait until it has ended. When the next one could be sent (ns); of
        `ready_ns` the send may be late. Raises StopUser when nothing more is to be sent."""
        if not self.is_asking:
            raise StopUser()
        request = chat_request(self.session)
        waiter = AsyncResult()
        index = self.exchange.give(request, ready_ns)
        self._waiting[index] = waiter
        if not is_warmup:
            if self._origin_ns is None:
                self._origin_ns = time.perf_counter_ns()
            self._numbers[index], self._begun = self._begun, self._begun + 1
        try:
            found: int | None = waiter.get()
        except BaseException:  # Locust ends a user with GreenletExit
            self.exchange.withdraw(index)
            raise
        return found

    # what came

    def _spare_work(self, is_urgent: bool) -> bool:
        """A user whose request has ended comes first, because its next one could be sent."""
        if self._has_woken:
            self._has_woken = False
            gevent.sleep(0)
            return True
        return self._condenser.work(is_urgent)

    def _on_reply(self, reply: Reply) -> None:
        """It has ended: its user goes on at once, and it is read when there is time."""
        answer = Answer(reply)
        take_note(self.run, answer, alone=False)
        if reply.index in self._numbers:
            self._condenser.add(answer)
        else:
            self._warmups[0] += 1
            self._warmups[1] += not answer.is_ok
            self.exchange.replies[reply.index] = GONE
        stop = None if answer.is_excluded and not answer.is_rate_limited else self._reason(answer)
        if stop and stop.cause is Cause.USAGE:
            self.session.usage, self._level.stopped = False, None
        elif stop:
            self._stop(stop)
        if waiter := self._waiting.pop(reply.index, None):
            self._has_woken = True
            is_kept = reply.message.complete and reply.end_ns is not None
            waiter.set(reply.end_ns if is_kept else time.perf_counter_ns())

    def _stop(self, stop: Stop) -> None:
        if self._stopped is None:
            self._stopped = stop
            self._tell(distributed.STOP, cause=stop.cause.name, text=str(stop))

    def _take(self, answer: Answer) -> None:
        """A condensed answer becomes a record, and a part of Locust's statistics."""
        index = answer.reply.index
        record = dict(
            record_of(answer, self._origin_ns or 0, self._starvation, None, self._wire.clock)
        )
        record["index"] = self._numbers.pop(index)
        self.exchange.replies[index] = GONE
        if not answer.is_excluded:  # while users are stopped reads are late, and in no figure
            self._delays.add(answer)
        if record["error"] is None:
            for name, found in (("ttft_ms", self._ttfts), ("e2e_ms", self._e2es)):
                if record[name] is not None:
                    found.append(record[name])
        self._count(record, answer.reply.size)
        record["event_ms"] = list(record["event_ms"])
        self._batch.append(record)
        events = sum(len(each["event_ms"]) for each in self._batch)
        if len(self._batch) >= distributed.BATCH_RECORDS or events >= distributed.BATCH_EVENTS:
            self._flush()

    def _count(self, record: dict[str, Any], size: int) -> None:
        """Locust's statistics: E2E counts as the request; TTFT and ITL stand beside it, and are
        not in the sum of all requests."""
        if record["error"] == "interrupted":
            return
        error = record["error"]
        if error:
            words = self.run.secrets.redact(str(record["error_text"]))
            error = f"{error}: {words}"
        self.environment.events.request.fire(
            request_type=STREAM,
            name="E2E",
            response_time=record["e2e_ms"] or record["ended_ms"] - (record["sent_ms"] or 0.0),
            response_length=size,
            exception=error,
            context={},
        )
        if error:
            return
        stats = self.environment.stats
        if record["ttft_ms"] is not None:
            stats.get("TTFT", STREAM).log(record["ttft_ms"], 0)
        between = stats.get("ITL", STREAM)
        for gap in metrics.output_gaps(record):
            between.log(gap, 0)

    # what the master hears

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        cleaned = self._cleaner.document({"requests": batch})["requests"]
        self._tell(distributed.RECORDS, records=list(cleaned))

    def _tell(self, kind: str, **more: Any) -> None:
        self._send({"kind": kind, "test": self.test, "begun": self._begun, **more})

    def _tell_again(self) -> None:
        while True:
            gevent.sleep(SEND_S)
            self._flush()


def settings_of_worker(args: Any) -> None:
    """A worker saves nothing: its records go to the master."""
    args.results = Path(tempfile.gettempdir())


def begin_worker(environment: Any, run: Run, send: Send, test: str) -> Worker:
    """A worker that is ready; one that cannot ask tells so, and its users end at once."""
    worker = Worker(environment, run, send, test)
    try:
        worker.begin()
    except CannotCheck as error:
        # Locust has its own name for this option
        worker._stop(Stop(Cause.UNREACHABLE, str(error).replace("--url", "--host")))
    except OSError as error:
        worker._stop(Stop(Cause.UNREACHABLE, str(error.strerror)))
    return worker
