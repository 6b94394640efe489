#!/usr/bin/env python3
"""Does the deployment queue what it can hold, and refuse the rest at once?

The limits C (served at once) and Q (waiting) come from /health or the options. One request; then
C + Q + --extra at once, long enough to overlap, while /health, /ping and /metrics are watched; a
retry after Retry-After; a client that hangs up while it is served, and one while it waits.

PASS: exactly the surplus was refused, at once and as the guide promises (503, Retry-After, JSON),
everything else was served whole and in its turn, every figure told of it, and no place was lost.
Cost: 3 * C + 2 * Q + --extra + 7 requests at the most; for 2 * C + Q + --extra + 2 of them answers
of --max-tokens (longer ones if these do not overlap). /ping, /health and /metrics are read up to
20 times a second. It wakes a sleeping worker and fills the queue: be alone on the deployment.

Examples:
    # limits read from /health
    python3 test_queue.py --url https://host:8000 --api-key sk-key
    # the guide's step 7: 4 at once, of which 1 is served, 2 wait and 1 is refused
    python3 test_queue.py --url https://host:8000 --max-concurrent 1 --max-queue 2
    # a slow model: shorter answers, and more time for the last in the queue
    python3 test_queue.py --url https://host:8000 --max-tokens 50 --timeout 600
    # only the overflow, as a gate
    python3 test_queue.py --url https://host:8000 --only refusals retry_after served
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.text import shorten
from livecheck.gateway.queue_state import METRICS, Look, Probe, Watch, read_health
from livecheck.wire import metrics, sse, wire
from livecheck.wire import old_chat as chat
from livecheck.wire.records import (
    classify,
    is_rate_limit,
    make_records,
    ms,
    outcome,
    read_streams,
    words,
)

OVERFLOW = ("refusals", "retry_after", "error_body", "refused_fast", "served", "concurrency")
BURST = ("burst", *OVERFLOW, "health", "metrics", "probes")
LEAVING = ("left_streaming", "left_queued", "order")
CHECKS = ("limits", "idle", "single", *BURST, "retry", *LEAVING)

PROMPT = "Write a very long story about the sea, in many chapters."
IDLE_WAIT_S = 60.0  # for others to leave, before the first request
ATTEMPTS = 3  # with twice the tokens each, until the answers are long enough
OVERLAP_S = 0.15  # all in flight together: far beyond the skew of their arrivals
JITTER_S = 0.05  # what two processes on busy machines add to a round trip
REFUSED_S = 1.0  # refusing needs no model: more than this is a wait as well
SETTLE_S = 10.0  # for the gauges to be 0 again, after the last answer
FREE_S = 30.0  # after which the place of someone who left is lost
PROMPT_S = 3.0  # to notice that a client hung up; llama.cpp looks after each token
SLOW_MS = 500.0  # beyond its idle time, for a probe: half of what Kubernetes allows it
WAIT_SHARE = 0.2  # error of queue_wait_seconds_total against the waits seen from here
BRIEF_S = 0.5  # an answer of which only that it comes matters
STREAMED_BYTES = 1000  # the head and a few tokens: in mid-stream
MOST_AT_ONCE = 1000
BAR = 52  # columns of the timeline


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("what to expect, and to ask").add_argument
    for option, metavar, least, default, text in (
        ("--max-concurrent", "N", 1, None, "requests served at once (default: as /health says)"),
        ("--max-queue", "N", 0, None, "requests that may wait, 0 is no limit (default: as above)"),
        ("--retry-after", "SECONDS", 0, 5, "what a refusal must carry (default %(default)s)"),
        ("--extra", "N", 1, 1, "requests more than there is room for (default %(default)s)"),
        ("--max-tokens", "N", 1, 200, "longest answer (default %(default)s)"),
    ):
        kind = common.whole_number(least)
        add(option, type=kind, default=default, metavar=metavar, help=text)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    return parser


# --- limits


@dataclass(frozen=True)
class Limits:
    """C and Q. `max_queue` 0: as many as there are may wait."""

    max_concurrent: int
    max_queue: int

    @property
    def room(self) -> int:
        """Requests that must be accepted at once; at least one of them waits."""
        return self.max_concurrent + (self.max_queue or 1)

    def burst(self, extra: int) -> int:
        """Requests at once that are so many too many."""
        return self.max_concurrent + self.max_queue + extra

    def waiting(self, accepted: int) -> int:
        """How many of so many accepted ones wait."""
        queued = max(0, accepted - self.max_concurrent)
        return min(queued, self.max_queue) if self.max_queue else queued

    def __str__(self) -> str:
        queue = f"{self.max_queue} may wait" if self.max_queue else "any number may wait"
        return f"{self.max_concurrent} served at once, {queue}"


def find_limits(args: argparse.Namespace, health: wire.Reply) -> tuple[Limits | None, Check]:
    """C and Q by option, else from /health; and whether that says what it should.

    CannotCheck when there is no /health and no option.
    """
    given = (args.max_concurrent, args.max_queue)
    limits = Limits(*given) if None not in given else None
    if health.failure is None and 400 <= (health.status or 0) < 500:
        if limits is None:
            reason = f"no limits to check, /health answered {health.status}"
            raise CannotCheck(f"{reason}: give --max-concurrent and --max-queue")
        return limits, Check("limits", Status.SKIP, f"{limits} (by option; there is no /health)")
    if health.failure or health.status != 200:
        return limits, Check("limits", Status.FAIL, f"/health: {outcome(health)}")
    said = read_health(health.body)
    if said.get("max_concurrent", 0) < 1 or "max_queue_size" not in said:
        detail = "/health answers 200 without queue.max_concurrent and queue.max_queue_size"
        return limits, Check("limits", Status.FAIL, detail)
    announced = Limits(int(said["max_concurrent"]), int(said["max_queue_size"]))
    limits = Limits(
        announced.max_concurrent if given[0] is None else given[0],
        announced.max_queue if given[1] is None else given[1],
    )
    if limits != announced:
        detail = f"/health announces {announced}; expected: {limits}"
        return limits, Check("limits", Status.FAIL, detail)
    return limits, Check("limits", Status.PASS, str(limits), dataclasses.asdict(limits))


# --- measure


@dataclass
class Batch:
    """Requests of one step, and what came back (of those in the background, what has ended)."""

    name: str
    answered: list[wire.Reply] = field(default_factory=list)
    background: Background | None = None

    @property
    def replies(self) -> list[wire.Reply]:
        if self.background is None:
            return self.answered
        return [each for each in list(self.background.replies) if each.end_ns]

    @property
    def streams(self) -> list[sse.Stream]:
        return read_streams(self.replies)

    @property
    def limited(self) -> wire.Reply | None:
        """The answer of the key's rate limiter, if it spoke."""
        return next((reply for reply in self.replies if is_rate_limit(reply)), None)


@dataclass(frozen=True)
class Answer:
    """One request's answer, times in s on one clock. `start_s`, `last_s`: first and last event."""

    index: int
    reply: wire.Reply
    error: tuple[str, str] | None
    sent_s: float
    end_s: float
    start_s: float | None
    last_s: float

    @property
    def spent_s(self) -> float:
        return self.end_s - self.sent_s


def read_answers(batch: Batch) -> list[Answer]:
    """The batch's answers, but for the ones that were never sent."""
    found = []
    for index, (reply, stream) in enumerate(zip(batch.replies, batch.streams, strict=True)):
        sent, end = reply.t0_ns or reply.end_ns or 0, reply.end_ns or reply.t0_ns or 0
        start = stream.output_ns[0] / 1e9 if stream.output_ns else None
        last = (stream.end_ns or end) / 1e9
        error = classify(reply, stream)
        found.append(Answer(index, reply, error, sent / 1e9, end / 1e9, start, last))
    return found


@dataclass
class Burst:
    """C + Q + extra at once: what became of each, and what the deployment said meanwhile."""

    limits: Limits
    extra: int
    served: list[Answer]
    refused: list[Answer]
    failed: list[Answer]
    looks: list[Look]
    before: Look | None  # at rest, the last one
    after: Look | None  # at rest again; the last one, if it never came to that
    idle: list[Look]  # some at rest before, to compare with
    round_trip_s: float
    limited: wire.Reply | None
    attempts: int = 1

    @property
    def everyone(self) -> list[Answer]:
        return self.served + self.refused + self.failed

    @property
    def all_sent_s(self) -> float:
        return max(each.sent_s for each in self.everyone)

    @property
    def skew_ms(self) -> float:
        return (self.all_sent_s - min(each.sent_s for each in self.everyone)) * 1e3

    @property
    def overlap_s(self) -> float:
        """How long all were in flight together: from the last send to the first end."""
        return min((each.last_s for each in self.served), default=math.inf) - self.all_sent_s

    @property
    def plateau(self) -> list[Look]:
        """The looks while every place was surely taken, and nobody had left yet."""
        start = self.all_sent_s + self.round_trip_s + JITTER_S
        end = self.all_sent_s + self.overlap_s
        return [a for a in self.looks if a.sent_ns / 1e9 >= start and a.end_ns / 1e9 <= end]

    @property
    def waits_s(self) -> list[float]:
        """How long each queued request waited: the k-th of them got its place when the k-th
        answer ended, whoever it was. Independent of how long a first token takes."""
        accepted = sorted(self.served + self.failed, key=lambda each: each.last_s)
        queued = max(0, len(accepted) - self.limits.max_concurrent)
        return [max(0.0, each.last_s - self.all_sent_s) for each in accepted[:queued]]


def sort_out(
    answers: Sequence[Answer], extra: int
) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """(served, refused, failed). A refusal is a 503 or a 429; for want of those, any other answer
    that is no 200, the quickest first."""
    served = [each for each in answers if each.error is None]
    answered = [a for a in answers if a.error and not a.reply.failure and a.reply.status != 200]
    refused = [each for each in answered if each.reply.status in (429, 503)]
    others = sorted((a for a in answered if a not in refused), key=lambda each: each.end_s)
    refused += others[: max(0, extra - len(refused))]
    failed = [each for each in answers if each not in served and each not in refused]
    return served, refused, failed


class Background(threading.Thread):
    """An exchange in a thread of its own, so that others can be staged around it."""

    def __init__(self, target: wire.Target, timeout_s: float, requests: Sequence[wire.Request]):
        super().__init__(name="background", daemon=True)  # Ctrl-C does not wait for it
        self._instrument = wire.Wire(target, timeout_s)
        self._requests, self._longest_s = requests, timeout_s + 5
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._instrument:
                self._instrument.exchange(self._requests, len(self._requests))
        except Exception as error:  # raised where the answers are collected
            self._error = error

    @property
    def replies(self) -> list[wire.Reply]:
        return self._instrument.replies

    @property
    def begun(self) -> int:
        """How many have begun to be answered."""
        return sum(1 for each in list(self.replies) if each.stamps_ns)

    def collect(self) -> None:
        """Wait until all have ended."""
        self.join(self._longest_s)
        if self._error:
            raise self._error


@dataclass
class Departure:
    """Somebody hung up at `left_s`, and when their place was seen free again.

    `visible`: whether any figure tells how many are served and wait. `unfit`: why nothing can be
    said. `lost`: what shows that the place is taken for good.
    """

    left_s: float = 0.0
    visible: bool = True
    free_s: float | None = None
    unfit: str | None = None
    lost: str | None = None
    limited: wire.Reply | None = None


@dataclass
class Measured:
    """All that a run finds out, step by step."""

    round_trip_s: float = 0.0
    answer_s: float = 0.0  # what an answer of --max-tokens takes from its first token on
    batches: list[Batch] = field(default_factory=list)
    burst: Burst | None = None
    streaming: Departure | None = None
    queued: Departure | None = None
    queue: list[Answer] = field(default_factory=list)  # two that waited, in the order sent


class Sender:
    """Sends the requests of this run; what comes back is in `measured`, whatever happens."""

    def __init__(self, run: Run, target: wire.Target, instrument: wire.Wire, watch: Watch):
        self.run, self.args, self.target = run, run.args, target
        self.instrument, self.watch = instrument, watch
        self.model = chat.UNKNOWN_MODEL
        self.measured = Measured()

    def request(self, tokens: int | None = None, **leave: Any) -> wire.Request:
        prompt = chat.unique(PROMPT)
        asked = chat.completion(self.model, prompt, tokens or self.args.max_tokens)
        return dataclasses.replace(asked, **leave)

    def send(self, name: str, requests: Sequence[wire.Request], label: str) -> Batch:
        """All of them at once."""
        batch = Batch(name)
        self.measured.batches.append(batch)
        with self.run.progress(label, len(requests)) as step:

            def on_reply(reply: wire.Reply) -> None:
                step()
                chat.show(self.run, reply)

            try:
                self.instrument.exchange(requests, len(requests), on_reply)
            finally:
                batch.answered = self.instrument.replies
        return batch

    def in_background(self, name: str, requests: Sequence[wire.Request]) -> Batch:
        """The same, without waiting for the answers: see `collect`."""
        batch = Batch(name, background=Background(self.target, self.args.timeout, requests))
        self.measured.batches.append(batch)
        return batch

    def tokens_for(self, seconds: float) -> int:
        """An answer that takes about so long, and no longer than --max-tokens."""
        most: int = self.args.max_tokens
        share = seconds / max(self.measured.answer_s, 1e-3)
        return min(most, max(8, math.ceil(share * most)))


def now_s() -> float:
    return time.perf_counter_ns() / 1e9


def in_ns(seconds: float) -> int:
    return int(seconds * 1e9)


def is_idle(look: Look) -> bool:
    return look.busy == (0, 0)


def any_look(look: Look) -> bool:
    return True


def wait_until_idle(sender: Sender, longest_s: float) -> Look | None:
    """The first look that shows nobody served and nobody waiting, None if none can tell.

    CannotCheck when somebody is there all that time.
    """
    watch, begun = sender.watch, time.perf_counter_ns()
    first = watch.first(any_look, begun, sender.args.timeout)
    if first is None or first.busy is None or is_idle(first):
        return first
    sender.run.note(f"waiting until the deployment is idle, up to {longest_s:g} s")
    found = watch.first(is_idle, begun, longest_s)
    if found is None:
        served, waiting = watch.looks[-1].busy or first.busy
        raise CannotCheck(
            f"not idle in {longest_s:g} s: {served} served and {waiting} waiting, none of them "
            "ours: ask whose they are, or try again later"
        )
    return found


def measure_single(sender: Sender) -> Answer:
    """One request, alone: how long an answer takes, and the way to the gateway."""
    batch, measured = sender.send("single", [sender.request()], "one request"), sender.measured
    answer = read_answers(batch)[0]
    if answer.reply.status == 401:
        raise CannotCheck(chat.refused_credential(sender.run))
    if answer.start_s is not None:
        measured.answer_s = answer.last_s - answer.start_s
    measured.round_trip_s = round_trip(sender.watch.looks, answer.reply)
    sender.watch.interval_s = min(1.0, max(0.05, measured.answer_s / 20))
    return answer


def round_trip(looks: Sequence[Look], reply: wire.Reply) -> float:
    """To the gateway and back, in s: by an idle /ping, which no edge in between answers."""
    pings = [look.ping.spent_ms for look in looks if look.ping.spent_ms and not look.ping.trouble]
    shake = reply.handshake
    network = (shake.rtt_ns or shake.connect_ns) / 1e9 if shake else 0.0
    return max(network, metrics.percentile(pings, 50) / 1e3 if pings else 0.0)


def expect_duration(sender: Sender, limits: Limits) -> float:
    """How long the last in the queue waits for its whole answer, in s; CannotCheck if too long."""
    args, count = sender.args, limits.burst(sender.args.extra)
    rounds = math.ceil(count / limits.max_concurrent)
    lasts_s: float = rounds * sender.measured.answer_s
    if lasts_s > args.timeout:
        raise CannotCheck(
            f"the last of {count} requests would take about {lasts_s:.0f} s, --timeout is "
            f"{args.timeout:g}: give more, or a smaller --max-tokens"
        )
    return lasts_s


def measure_burst(sender: Sender, limits: Limits) -> Burst:
    """All at once, and again with longer answers until they overlap. The last time counts."""
    args, count = sender.args, limits.burst(sender.args.extra)
    lasts_s = expect_duration(sender, limits)
    for attempt in range(ATTEMPTS):
        before = wait_until_idle(sender, SETTLE_S)
        label = f"{count} requests at once, about {lasts_s * 2**attempt:.0f} s"
        requests = [sender.request(args.max_tokens << attempt) for _ in range(count)]
        batch = sender.send("burst", requests, label)
        burst = gather(sender, limits, batch, before)
        burst.attempts = attempt + 1
        sender.measured.burst = burst
        if batch.limited or burst.failed or overlapped(burst):
            break
    return burst


def gather(sender: Sender, limits: Limits, batch: Batch, before: Look | None) -> Burst:
    """The burst's answers, and the looks until the gauges are at rest again."""
    watch, answers = sender.watch, read_answers(batch)
    started_ns = in_ns(min(each.sent_s for each in answers))
    ended_ns = in_ns(max(each.end_s for each in answers))
    after = watch.first(at_rest, ended_ns, SETTLE_S)
    looks = list(watch.looks)
    single_s = read_answers(sender.measured.batches[0])[0].sent_s
    return Burst(
        limits,
        sender.args.extra,
        *sort_out(answers, sender.args.extra if limits.max_queue else 0),
        looks=[each for each in looks if each.end_ns >= started_ns and each.sent_ns <= ended_ns],
        before=before,
        after=after or (looks[-1] if looks else None),
        idle=[each for each in looks if each.end_ns / 1e9 <= single_s],
        round_trip_s=sender.measured.round_trip_s,
        limited=batch.limited,
    )


def at_rest(look: Look) -> bool:
    """Whether every gauge there is says 0."""
    gauges = [look.health.values.get("active"), look.health.values.get("waiting")]
    gauges += [each.values.get("queue_depth") for each in (look.json, look.text)]
    return not any(gauges)


def overlapped(burst: Burst) -> bool:
    """Whether all were in flight together, and long enough for somebody to look."""
    if burst.overlap_s < max(OVERLAP_S, 4 * burst.round_trip_s):
        return False
    visible = any(look.health.values or look.json.values for look in burst.looks)
    return bool(burst.plateau) or not visible


def measure_retry(sender: Sender, burst: Burst) -> Batch:
    """One request, when a refused client may come again and everybody else is done."""
    refusal = max(burst.refused, key=lambda each: each.end_s)
    announced, expected = retry_after(refusal.reply), sender.args.retry_after
    wait_s = expected if announced is None else min(announced, expected)
    left_s = refusal.end_s + wait_s - now_s()
    if left_s > 0:
        sender.run.note(f"waiting {left_s:.1f} s, as Retry-After says")
        time.sleep(left_s)
    return sender.send("retry", [sender.request(sender.tokens_for(BRIEF_S))], "a retry")


def retry_after(reply: wire.Reply) -> int | None:
    """The header's value if it is a valid number of seconds (RFC 9110, section 10.2.3)."""
    text = reply.message.header("retry-after") or ""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


# two who hang up


def leave_streaming(sender: Sender) -> Departure:
    """A client that hangs up after a few tokens."""
    found = sender.measured.streaming = Departure()
    if trouble := unsettled(sender):
        found.unfit = trouble
        return found
    asked = sender.request(cancel_at_bytes=STREAMED_BYTES)
    batch = sender.send("left_streaming", [asked], "a client that hangs up in mid-stream")
    answer = read_answers(batch)[0]
    found.limited, found.left_s = batch.limited, answer.end_s
    if not answer.reply.cancelled or answer.reply.status != 200:
        found.unfit = f"it was over before it could leave ({outcome(answer.reply)})"
    else:
        # a gateway that does not notice works on until the answer would have ended
        wait_until_free(sender, found, answer.end_s + sender.measured.answer_s)
    return found


def unsettled(sender: Sender) -> str | None:
    """Who is still there after the last step, None when nobody is or nothing tells."""
    begun = time.perf_counter_ns()
    look = sender.watch.first(lambda each: each.busy in (None, (0, 0)), begun, SETTLE_S)
    if look is None:
        served, waiting = sender.watch.looks[-1].busy or (0, 0)
        return f"the steps before have left {served} served and {waiting} waiting"
    return None


def wait_until_free(sender: Sender, found: Departure, ended_s: float) -> None:
    """Until the figures say that nobody is there, at most FREE_S after `ended_s`."""
    watch, begun = sender.watch, time.perf_counter_ns()
    look = watch.first(any_look, begun, sender.args.timeout)
    found.visible = look is not None and look.busy is not None
    if not found.visible:
        return
    free = watch.first(is_idle, begun, PROMPT_S)
    if free is None:
        longest_s = max(0.0, ended_s + FREE_S - now_s())
        sender.run.note(f"waiting up to {longest_s:.0f} s for the place of who left")
        free = watch.first(is_idle, begun, longest_s)
    if free is None:
        served, waiting = watch.looks[-1].busy or (0, 0)
        found.lost = (
            f"still {served} served and {waiting} waiting {FREE_S:g} s after every answer ended"
        )
    elif found.free_s is None:
        found.free_s = free.end_ns / 1e9


@dataclass
class Stage:
    """All places are held, one waits, another waits and leaves, a third comes after."""

    holders: Batch
    lasts_s: float  # until the first place gets free, about
    first: Batch | None = None
    leaver: Batch | None = None
    second: Batch | None = None

    @property
    def backgrounds(self) -> list[Background]:
        batches = (self.holders, self.first)
        return [each.background for each in batches if each and each.background]

    @property
    def limited(self) -> wire.Reply | None:
        batches = (self.holders, self.first, self.leaver, self.second)
        return next((each.limited for each in batches if each and each.limited), None)


def leave_queued(sender: Sender, limits: Limits) -> None:
    """A client that hangs up while it waits. Again with longer answers if they were too short."""
    ended_s = 0.0
    for attempt in range(ATTEMPTS):
        found = sender.measured.queued = Departure()
        if trouble := unsettled(sender):
            found.unfit = trouble
            return
        stage = take_places(sender, limits, attempt)
        begun = stage.backgrounds[0].begun
        if begun < limits.max_concurrent:
            found.unfit = f"only {begun} of {limits.max_concurrent} requests were served at once"
            blame(sender.measured.streaming, found.unfit)
            return
        play(sender, limits, stage, found)
        ended_s = review(sender, stage, found)
        if found.limited or not found.unfit:
            break
    if not (found.limited or found.unfit):
        wait_until_free(sender, found, ended_s)


def take_places(sender: Sender, limits: Limits, attempt: int) -> Stage:
    """Every place is held. Of several holders one is done sooner: so the places get free one
    after the other, and the order in the queue shows."""
    count, tokens = limits.max_concurrent, sender.args.max_tokens << attempt
    lengths = [max(8, tokens // 2) if count > 1 else tokens, *[tokens] * (count - 1)]
    sender.run.note(f"{count} to take every place, then a client that hangs up in the queue")
    holders = sender.in_background("holders", [sender.request(length) for length in lengths])
    stage = Stage(holders, lengths[0] / sender.args.max_tokens * sender.measured.answer_s)
    # a lost place keeps one of them waiting: the same grace as for who left
    deadline_s = now_s() + min(sender.args.timeout, FREE_S + sender.measured.answer_s)
    thread = stage.backgrounds[0]
    while thread.begun < count and thread.is_alive() and now_s() < deadline_s:
        time.sleep(0.005)
    return stage


def blame(streaming: Departure | None, reason: str) -> None:
    """The figures said that the first departure's place was free, but nobody gets it."""
    if streaming and not (streaming.unfit or streaming.limited):
        streaming.lost = f"afterwards {reason}"


def play(sender: Sender, limits: Limits, stage: Stage, found: Departure) -> None:
    """The queue's part while the holders are served, until all answers have ended."""
    trip_s, lasts_s = sender.measured.round_trip_s, stage.lasts_s
    short = sender.tokens_for(BRIEF_S)
    if limits.max_queue != 1:  # with room for one only, that one is who leaves
        stage.first = sender.in_background("queued", [sender.request(short)])
        time.sleep(min(0.3, lasts_s / 10) + trip_s)
    asked = sender.request(short, cancel_after_s=min(1.0, lasts_s / 10) + trip_s)
    stage.leaver = sender.send("left_queued", [asked], "  one hangs up in the queue")
    found.left_s = read_answers(stage.leaver)[0].end_s
    see_it_gone(sender, stage, found)
    stage.second = sender.send("queued_after", [sender.request(short)], "  another comes")
    for each in stage.backgrounds:
        each.collect()


def see_it_gone(sender: Sender, stage: Stage, found: Departure) -> None:
    """Whether the queue gets shorter by who left, before anybody else leaves it."""
    others, longest_s = 1 if stage.first else 0, min(PROMPT_S, stage.lasts_s * 0.4)

    def is_gone(look: Look) -> bool:
        return look.busy is not None and look.busy[1] <= others

    gone = sender.watch.first(is_gone, in_ns(found.left_s), longest_s)
    if gone and not stage.holders.replies:  # none has ended
        found.free_s = gone.end_ns / 1e9


def review(sender: Sender, stage: Stage, found: Departure) -> float:
    """Whether the play went as written, and what it says about the queue's order; when all
    answers had ended, in s."""
    assert stage.leaver and stage.second
    held, second = read_answers(stage.holders), read_answers(stage.second)[0]
    leaver = read_answers(stage.leaver)[0]
    waited = read_answers(stage.first) if stage.first else []
    found.limited = stage.limited
    first_end_s = min(each.last_s for each in held)
    if not leaver.reply.cancelled:
        found.unfit = f"it did not wait ({outcome(leaver.reply)})"
    elif leaver.start_s is not None:
        found.unfit = "it was served at once, though every place was taken"
    elif leaver.end_s > first_end_s:
        found.unfit = "the answers were too short to hang up in between"
    elif waited and second.sent_s + JITTER_S < first_end_s:
        sender.measured.queue = [*waited, second]
    return max(each.end_s for each in (*held, *waited, second))


def refill(sender: Sender, limits: Limits, found: Departure) -> None:
    """As many as there is room for, at once: proof by use that no place is lost."""
    requests = [sender.request(sender.tokens_for(BRIEF_S)) for _ in range(limits.room)]
    label = f"{len(requests)} at once, as many as there is room for"
    batch = sender.send("refill", requests, label)
    bad = [each for each in read_answers(batch) if each.error]
    if bad and not batch.limited:
        kinds = Counter(f"{each.reply.status or each.error[0]}" for each in bad if each.error)
        found.lost = (
            f"afterwards {len(bad)} of {len(requests)} at once were not served ({tally(kinds)})"
        )


# --- judge


def tally(counts: Counter[str]) -> str:
    """Each once, with its count."""
    return ", ".join(f"{name} x{count}" for name, count in counts.most_common(4))


def rate_limited(name: str, reply: wire.Reply) -> Check:
    wait = reply.message.header("retry-after")
    detail = (
        f"stopped by the key's rate limit (429 rate_limit_exceeded, Retry-After {wait}): "
        "wait, or raise it for this key"
    )
    return Check(name, Status.SKIP, detail, {"retry_after": wait}, essential=True)


def check_idle(look: Look | None) -> Check:
    if look is None or look.busy is None:
        return Check("idle", Status.SKIP, "neither /health nor /metrics tells who is there")
    return Check("idle", Status.PASS, "0 served and 0 waiting before the first request")


def check_single(answer: Answer) -> Check:
    if is_rate_limit(answer.reply):
        return rate_limited("single", answer.reply)
    if answer.error:
        return Check("single", Status.FAIL, f"{answer.error[0]}: {answer.error[1]}")
    ttft_s = (answer.start_s or 0) - answer.sent_s
    detail = f"200, whole after {answer.spent_s:.2f} s, the first token after {ttft_s:.2f} s"
    return Check("single", Status.PASS, detail, {"e2e_s": round(answer.spent_s, 3)})


def check_burst(burst: Burst) -> Check:
    """The requests were in flight together, so what became of them says something."""
    count = len(burst.everyone)
    if burst.limited:
        return rate_limited("burst", burst.limited)
    if not burst.served or burst.failed or overlapped(burst):
        detail = f"{count} requests sent within {burst.skew_ms:.1f} ms"
        if burst.served:
            detail += f", {max(0.0, burst.overlap_s):.2f} s all in flight together"
        return Check("burst", Status.PASS, detail)
    detail = (
        f"undecidable: {count} requests were in flight together for {burst.overlap_s:.2f} s "
        f"only, even the {burst.attempts}. time: give a larger --max-tokens"
    )
    return Check("burst", Status.SKIP, detail, essential=True)


def check_refusals(burst: Burst) -> Check:
    expected = burst.extra if burst.limits.max_queue else 0
    counts = Counter(str(each.reply.status) for each in burst.refused)
    said = f"{len(burst.refused)} of {len(burst.everyone)} refused"
    said += f" ({tally(counts)})" if counts else ""
    evidence = {"expected": expected, "refused": dict(counts)}
    if len(burst.refused) != expected or set(counts) - {"503"}:
        wanted = f"{expected} x 503" if expected else "none"
        return Check("refusals", Status.FAIL, f"{said}, expected {wanted}", evidence)
    return Check("refusals", Status.PASS, said, evidence)


def check_retry_after(burst: Burst, expected: int) -> Check:
    values = Counter(str(each.reply.message.header("retry-after")) for each in burst.refused)
    wrong = [each for each in burst.refused if retry_after(each.reply) is None]
    evidence = {"expected_s": expected, "values": dict(values)}
    if wrong:
        text = wrong[0].reply.message.header("retry-after")
        reason = "no Retry-After" if text is None else f"Retry-After {shorten(text, 40)!r}"
        detail = f"{reason} in {len(wrong)} of {len(burst.refused)}, expected {expected}"
        return Check("retry_after", Status.FAIL, detail + " (whole seconds)", evidence)
    if any(retry_after(each.reply) != expected for each in burst.refused):
        detail = f"Retry-After {tally(values)}, expected {expected}"
        return Check("retry_after", Status.FAIL, detail, evidence)
    return Check("retry_after", Status.PASS, f"Retry-After {tally(values)}", evidence)


def check_error_body(burst: Burst) -> Check:
    for each in burst.refused:
        error = read_error(each.reply.body)
        if error is None:
            said = shorten(each.reply.body[:400].decode("utf-8", "replace"), 60)
            detail = f"no JSON with error.message in a {each.reply.status}: {said!r}"
            return Check("error_body", Status.FAIL, detail)
    kind = burst.refused[0].reply.message.header("content-type") or "missing"
    said = words(burst.refused[0].reply)
    if "json" not in kind.lower():
        return Check("error_body", Status.WARN, f"JSON, but Content-Type is {kind}")
    code = (read_error(burst.refused[0].reply.body) or {}).get("code")
    return Check("error_body", Status.PASS, f"JSON, code {code}: {said}")


def read_error(body: bytes) -> dict[str, Any] | None:
    """The `error` object of OpenAI's error answers, if it has a message."""
    try:
        error = json.loads(body)["error"]
        return error if isinstance(error["message"], str) and error["message"] else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def check_refused_fast(burst: Burst) -> Check:
    worst_s = max(each.spent_s for each in burst.refused)
    limit_s = REFUSED_S + burst.round_trip_s
    status = Status.PASS if worst_s <= limit_s else Status.FAIL
    detail = f"after {worst_s * 1e3:.0f} ms at the latest, {REFUSED_S:g} s allowed"
    return Check("refused_fast", status, detail, {"slowest_ms": round(worst_s * 1e3, 1)})


def check_served(burst: Burst) -> Check:
    accepted = burst.served + burst.failed
    queued = burst.limits.waiting(len(accepted))
    said = f"{len(burst.served)} of {len(accepted)} accepted requests were served whole"
    if burst.failed:
        texts = Counter(f"{each.error[0]}: {each.error[1]}" for each in burst.failed if each.error)
        detail = f"{said}; {tally(texts)}"
        return Check("served", Status.FAIL, detail)
    if not accepted:
        return Check("served", Status.FAIL, "no request was accepted")
    longest_s = max(each.spent_s for each in accepted)
    detail = f"{said}, {queued} of them from the queue, the last after {longest_s:.2f} s"
    return Check("served", Status.PASS, detail)


def check_concurrency(burst: Burst) -> Check:
    """Never more than C at once, as far as their tokens show; what a round trip explains, one
    answer's end overtaken by the next one's beginning, is not counted."""
    slack_s = burst.round_trip_s + JITTER_S
    spans = [
        (each.start_s + slack_s, each.last_s)
        for each in burst.served + burst.failed
        if each.start_s is not None
    ]
    most, allowed = most_at_once(spans), burst.limits.max_concurrent
    evidence = {"at_once": most, "allowed": allowed}
    if most > allowed:
        detail = f"{most} were generating at once, {allowed} allowed"
        return Check("concurrency", Status.FAIL, detail, evidence)
    if not most:
        detail = "not to be seen: the answers came in one piece each"
        return Check("concurrency", Status.SKIP, detail, evidence)
    return Check("concurrency", Status.PASS, f"{most} at once, {allowed} allowed", evidence)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of the spans of time overlap at the most; those that are none do not count."""
    true = [(start, end) for start, end in spans if start < end]
    # at the same moment the end comes first
    steps = sorted([(start, 1) for start, _ in true] + [(end, -1) for _, end in true])
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def check_health(burst: Burst) -> Check:
    """/health told how many were served and waited, and then that nobody is left."""
    readings = [
        (a, a.health.values) for a in burst.looks if {"active", "waiting"} <= set(a.health.values)
    ]
    statuses = {look.health.status for look in burst.looks if look.health.trouble}
    if not readings:
        if statuses and all(code and 400 <= code < 500 for code in statuses):
            return Check("health", Status.SKIP, "there is no /health here")
        trouble = next((a.health.trouble for a in burst.looks if a.health.trouble), None)
        reason = trouble or "200 without queue.active and queue.waiting"
        return Check("health", Status.FAIL, f"/health during the burst: {reason}")
    limits, accepted = burst.limits, len(burst.served + burst.failed)
    wanted = (min(accepted, limits.max_concurrent), limits.waiting(accepted))
    seen = tuple(int(max(v[name] for _, v in readings)) for name in ("active", "waiting"))
    evidence = {"readings": len(readings), "active": seen[0], "waiting": seen[1]}
    detail = f"up to {seen[0]} active and {seen[1]} waiting in {len(readings)} readings"
    if seen[0] > wanted[0] or seen[1] > wanted[1]:
        return Check(
            "health", Status.FAIL, f"{detail}, at most {wanted[0]} and {wanted[1]} fit", evidence
        )
    if seen != wanted:
        told = any(look in burst.plateau for look, _ in readings)
        status = Status.FAIL if told else Status.SKIP
        detail += f", expected {wanted[0]} and {wanted[1]}"
        return Check("health", status, detail, evidence, essential=not told)
    rest = burst.after.health.values if burst.after else {}
    if rest.get("active") or rest.get("waiting"):
        left = f"{rest.get('active'):g} active and {rest.get('waiting'):g} waiting"
        return Check(
            "health", Status.FAIL, f"still {left} {SETTLE_S:g} s after the last answer", evidence
        )
    return Check("health", Status.PASS, f"{detail}, 0 and 0 after", evidence)


def check_metrics(burst: Burst) -> Check:
    """Both forms of /metrics have the queue's three figures, and they are right."""
    before, after = burst.before, burst.after
    if before is None or after is None:
        return Check("metrics", Status.FAIL, "/metrics was not answered at all")
    if after.json.status == 404 and after.health.status == 404:
        return Check("metrics", Status.SKIP, "there is no /metrics here, nor /health")
    problems = []
    for form, one, other in (
        ("JSON", before.json, after.json),
        ("Prometheus", before.text, after.text),
    ):
        problems += form_problems(form, one, other, burst)
    problems += disagreements(before) or disagreements(after)
    evidence = {"before": before.json.values, "after": after.json.values}
    if problems:
        return Check("metrics", Status.FAIL, "; ".join(problems), evidence)
    grown = growth(before.json, after.json)
    detail = (
        f"both forms: queue_depth {depth(burst):g}, then 0; queue_rejections "
        f"+{grown['queue_rejections']:g}; queue_wait_seconds_total "
        f"+{grown['queue_wait_seconds_total']:.2f} ({sum(burst.waits_s):.2f} s seen from here)"
    )
    return Check("metrics", Status.PASS, detail, evidence)


def growth(before: Probe, after: Probe) -> dict[str, float]:
    return {name: after.values[name] - before.values[name] for name in METRICS}


def depth(burst: Burst) -> float:
    """The deepest queue the two forms have shown."""
    values = [p.values.get("queue_depth", 0) for a in burst.looks for p in (a.json, a.text)]
    return max(values, default=0)


def form_problems(form: str, before: Probe, after: Probe, burst: Burst) -> list[str]:
    """What one form lacks, or has wrong."""
    if after.trouble:
        return [f"{form}: {after.trouble}"]
    missing = [name for name in METRICS if name not in before.values or name not in after.values]
    if missing:
        return [f"{form} lacks {', '.join(missing)}"]
    problems, grown = [], growth(before, after)
    wanted = sum(1 for each in burst.refused if each.reply.status == 503)
    if grown["queue_rejections"] != wanted:
        problems.append(f"{form}: queue_rejections +{grown['queue_rejections']:g}, not +{wanted}")
    waited_s, seen_s = grown["queue_wait_seconds_total"], sum(burst.waits_s)
    allowed_s = WAIT_SHARE * seen_s + (JITTER_S + burst.round_trip_s) * (1 + len(burst.waits_s))
    if abs(waited_s - seen_s) > allowed_s:
        problems.append(
            f"{form}: queue_wait_seconds_total +{waited_s:.2f}, {seen_s:.2f} s seen from here"
        )
    if after.values["queue_depth"]:
        left = f"{after.values['queue_depth']:g} {SETTLE_S:g} s after the last answer"
        problems.append(f"{form}: queue_depth still {left}")
    return problems + depth_problems(form, burst)


def depth_problems(form: str, burst: Burst) -> list[str]:
    """queue_depth while every place was taken."""
    wanted = burst.limits.waiting(len(burst.served + burst.failed))
    probes = [look.json if form == "JSON" else look.text for look in burst.plateau]
    seen = [probe.values["queue_depth"] for probe in probes if "queue_depth" in probe.values]
    if seen and max(seen) != wanted:
        return [f"{form}: queue_depth {max(seen):g} while {wanted} waited"]
    return []


def disagreements(look: Look) -> list[str]:
    """Where the two forms differ, asked at the same moment and with nothing going on."""
    found = []
    for name in METRICS:
        one, other = look.json.values.get(name), look.text.values.get(name)
        if one is not None and other is not None and abs(one - other) > 0.01 + 1e-3 * one:
            found.append(f"{name} is {one:g} in JSON and {other:g} in Prometheus text")
    return found


def check_probes(burst: Burst) -> Check:
    """/ping and /health were about as quick as without the burst."""
    problems, parts, evidence = [], [], {}
    for name in ("ping", "health"):
        probes = [getattr(look, name) for look in burst.looks]
        quiet = [getattr(look, name).spent_ms for look in burst.idle]
        bad = [p.trouble for p in probes if p.trouble and not (p.status and 400 <= p.status < 500)]
        spent = [p.spent_ms for p in probes if p.spent_ms is not None]
        if bad:
            problems.append(f"/{name} failed {len(bad)} of {len(probes)} times: {bad[0]}")
        elif spent:
            base = [each for each in quiet if each is not None]
            usual, now = metrics.percentile(base or [0], 50), metrics.percentile(spent, 90)
            evidence[f"{name}_p90_ms"] = round(now, 2)
            parts.append(f"/{name} p90 {now:.1f} ms ({usual:.1f} when idle)")
            if now - usual > SLOW_MS:
                problems.append(f"/{name} is slow: p90 {now:.0f} ms, {usual:.1f} when idle")
    if problems:
        return Check("probes", Status.WARN, "; ".join(problems), evidence)
    return Check(
        "probes", Status.PASS if parts else Status.SKIP, "; ".join(parts) or "none", evidence
    )


def check_retry(batch: Batch, wait_s: int) -> Check:
    answer = read_answers(batch)[0]
    if batch.limited:
        return rate_limited("retry", batch.limited)
    if answer.error:
        detail = f"{wait_s} s after the refusal, and nobody else there: {answer.error[1]}"
        return Check("retry", Status.FAIL, detail)
    detail = f"served after {answer.spent_s:.2f} s, {wait_s} s or more after the refusal"
    return Check("retry", Status.PASS, detail)


def check_left(name: str, found: Departure | None, round_trip_s: float) -> Check:
    """Who hung up does not keep their place."""
    if found and found.limited:
        return rate_limited(name, found.limited)
    if found is None or (found.unfit and not found.lost):
        reason = found.unfit if found else "the step before failed"
        return Check(name, Status.SKIP, f"not tried: {reason}", essential=True)
    if found.lost:
        return Check(name, Status.FAIL, f"the place is not free again: {found.lost}")
    if not found.visible or found.free_s is None:
        return Check(
            name, Status.PASS, "the place was used again (no figure tells when it was free)"
        )
    late_s = found.free_s - found.left_s
    evidence = {"free_after_s": round(late_s, 3)}
    if late_s > PROMPT_S + round_trip_s:
        return Check(name, Status.WARN, f"the place is freed late: after {late_s:.1f} s", evidence)
    return Check(name, Status.PASS, f"the place was free again after {late_s:.2f} s", evidence)


def check_order(queue: Sequence[Answer], limits: Limits, slack_s: float) -> Check:
    """Of two in the queue the one that came first was served first."""
    if limits.max_queue == 1:
        return Check("order", Status.SKIP, "a queue of one has no order")
    if len(queue) < 2 or any(each.error or each.start_s is None for each in queue):
        return Check("order", Status.SKIP, "there were no two in the queue to compare")
    first, second = (each.start_s or 0.0 for each in queue)
    apart = f"{abs(second - first):.2f} s"
    if second < first - slack_s:
        detail = f"not first in, first out: the second one in the queue began {apart} earlier"
        return Check("order", Status.WARN, detail)
    return Check("order", Status.PASS, f"first in, first out: they began {apart} apart")


# --- report


def timeline(burst: Burst) -> list[str]:
    """One bar a request: waiting, generating, refused; those served first on top."""
    begun = min(each.sent_s for each in burst.everyone)
    span = max(each.end_s for each in burst.everyone) - begun or 1e-9

    def column(time_s: float) -> int:
        return min(BAR, max(0, round((time_s - begun) / span * BAR)))

    lines = [f"{len(burst.everyone)} at once, {span:.2f} s: ░ waiting  █ generating  × refused"]
    for each in sorted(burst.served + burst.failed, key=lambda a: (a.start_s or a.end_s, a.index)):
        start, end = column(each.start_s or each.end_s), column(each.last_s)
        bar = "░" * start + ("█" * max(1, end - start) if each.start_s else "")
        word = f"{each.reply.status} {each.spent_s:.2f} s" if not each.error else each.error[0]
        lines.append(f"{each.index + 1:>4} {bar[: BAR + 1]:<{BAR + 1}} {word[:20]}")
    for each in burst.refused:
        bar = "░" * max(0, column(each.end_s) - 1) + "×"
        word = f"{each.reply.status} {each.spent_s * 1e3:.0f} ms"
        lines.append(f"{each.index + 1:>4} {bar:<{BAR + 1}} {word}")
    return lines


def make_rows(measured: Measured) -> list[dict[str, Any]]:
    """A record for each request of each step, times on one scale."""
    batches = measured.batches
    replies = [reply for batch in batches for reply in batch.replies]
    names = [batch.name for batch in batches for _ in batch.replies]
    rows = []
    for number, (name, reply, record) in enumerate(
        zip(names, replies, make_records(replies, read_streams(replies)), strict=True)
    ):
        if reply.cancelled:  # on purpose
            record |= {"error": None, "error_text": None, "excluded": True}
        rows.append({"step": name, **record, "index": number, "cancelled": reply.cancelled})
    return rows


def make_metrics(measured: Measured, looks: Sequence[Look]) -> dict[str, Any]:
    burst = measured.burst
    figures: dict[str, Any] = {
        "round_trip_ms": round(measured.round_trip_s * 1e3, 3),
        "answer_s": round(measured.answer_s, 3),
        "looks": len(looks),
    }
    if burst:
        figures |= {
            "max_concurrent": burst.limits.max_concurrent,
            "max_queue": burst.limits.max_queue,
            "served": len(burst.served),
            "refused": len(burst.refused),
            "failed": len(burst.failed),
            "attempts": burst.attempts,
            "overlap_s": round(burst.overlap_s, 3) if burst.served else None,
            "queue_wait_s": [round(each, 3) for each in burst.waits_s],
            "readings": [reading(look, burst) for look in burst.looks],
        }
    for name, found in (("streaming", measured.streaming), ("queued", measured.queued)):
        free = found.free_s - found.left_s if found and found.free_s is not None else None
        figures[f"left_{name}_free_after_s"] = round(free, 3) if free is not None else None
    return figures


def reading(look: Look, burst: Burst) -> dict[str, Any]:
    begun_ns = in_ns(min(each.sent_s for each in burst.everyone))
    return {
        "sent_ms": ms(look.sent_ns - begun_ns),
        "ping_ms": look.ping.spent_ms,
        "health_ms": look.health.spent_ms,
        "active": look.health.values.get("active"),
        "waiting": look.health.values.get("waiting"),
        "queue_depth": look.json.values.get("queue_depth"),
    }


# --- run


class Findings:
    """Takes checks into the document, and onto the screen as soon as they are known."""

    def __init__(self, run: Run, document: Document):
        self.run, self.document = run, document

    def add(self, *checks: Check) -> None:
        known = len(self.document.checks)
        self.document.add(*checks)
        for check in self.document.checks[known:]:
            self.run.say_check(check)

    def close(self, cause: Check) -> None:
        """What was wanted and could not be tried; `cause` says why, unless it is among those
        left out: then each of them has to."""
        if self.run.wants(cause.name):
            return
        known = {check.name for check in self.document.checks}
        detail = f"not tried: {cause.detail}"
        left = [name for name in CHECKS if name not in known]
        self.add(*(Check(name, Status.SKIP, detail, essential=True) for name in left))


def go_through(sender: Sender, limits: Limits, findings: Findings) -> Check | None:
    """Step by step, each judged before the next. Returns the check that leaves no sense in
    going on, if one does."""
    wanted = {name for name in CHECKS if sender.run.wants(name)}
    findings.add(check_idle(wait_until_idle(sender, IDLE_WAIT_S)))
    if wanted <= {"limits", "idle"}:
        return None
    answer = measure_single(sender)
    single = check_single(answer)
    findings.add(single)
    if answer.error:
        return single
    if wanted & {*BURST, "retry"}:
        burst = measure_burst(sender, limits)
        overlap = check_burst(burst)
        findings.add(overlap)
        if overlap.status is Status.SKIP:
            return overlap
        judge_burst(sender, burst, findings)
    if wanted & set(LEAVING):
        go_and_leave(sender, limits, findings)
    return None


def judge_burst(sender: Sender, burst: Burst, findings: Findings) -> None:
    """Every check of the burst, and the retry."""
    args = sender.args
    findings.add(check_refusals(burst))
    if burst.refused:
        findings.add(check_retry_after(burst, args.retry_after), check_error_body(burst))
        findings.add(check_refused_fast(burst))
    else:
        names = ("retry_after", "error_body", "refused_fast", "retry")
        findings.add(*(Check(name, Status.SKIP, "nothing was refused") for name in names))
    findings.add(check_served(burst), check_concurrency(burst), check_health(burst))
    findings.add(check_metrics(burst), check_probes(burst))
    if burst.refused and sender.run.wants("retry"):
        findings.add(check_retry(measure_retry(sender, burst), args.retry_after))


def go_and_leave(sender: Sender, limits: Limits, findings: Findings) -> None:
    """The two who hang up, then everybody once more."""
    measured, slack_s = sender.measured, sender.measured.round_trip_s + JITTER_S
    streaming = leave_streaming(sender)
    if not (streaming.lost or streaming.limited):
        leave_queued(sender, limits)
    queued = measured.queued
    if queued and not (queued.lost or queued.unfit or queued.limited):
        refill(sender, limits, queued)
    for name, found in (("left_streaming", streaming), ("left_queued", queued)):
        findings.add(check_left(name, found, measured.round_trip_s))
    findings.add(check_order(measured.queue, limits, slack_s))


def probe_target(run: Run, token: str | None) -> wire.Target:
    """Who watches needs no key at the gateway, and then does not use up its rate limit."""
    anonymous = wire.Target(run.url, None, verify=not run.args.no_verify_ssl)
    with wire.Wire(anonymous, run.args.timeout) as instrument:
        paths = ("/health", "/metrics")
        replies = instrument.exchange([wire.Request("GET", path) for path in paths], len(paths))
    refused = any(reply.status in (401, 403) for reply in replies)
    return dataclasses.replace(anonymous, token=token) if refused else anonymous


def measure(run: Run) -> None:
    args = run.args
    findings = Findings(run, run.document("queue_behavior"))
    target = wire.Target(run.url, run.token(), verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        replies = chat.meet(run, instrument, ("/health", chat.MODELS))
        limits, check = find_limits(args, replies["/health"])
        findings.add(check)
        if limits is None:
            findings.close(check)
            return
        if limits.burst(args.extra) > MOST_AT_ONCE:
            raise CannotCheck(f"{limits}: more than this check sends at once ({MOST_AT_ONCE})")
        with Watch(probe_target(run, target.token), args.timeout) as watch:
            sender = Sender(run, target, instrument, watch)
            sender.model = args.model or chat.first_model(replies[chat.MODELS]) or sender.model
            run.target["model"] = sender.model
            follow(sender, limits, findings)


def follow(sender: Sender, limits: Limits, findings: Findings) -> None:
    """Go through it all; what was found out until the end, or until an interruption, is kept."""
    run, measured, document = sender.run, sender.measured, findings.document
    try:
        if cause := go_through(sender, limits, findings):
            findings.close(cause)
    finally:
        document.requests = make_rows(measured)
        document.metrics = make_metrics(measured, sender.watch.looks)
    if measured.burst:
        for line in ("", *timeline(measured.burst), ""):
            run.say(line)


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
