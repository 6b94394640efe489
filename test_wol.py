#!/usr/bin/env python3
"""Does a request to a sleeping fleet wake a runner, and is that very request answered?

Reads who is online, sends one small request and watches what becomes of it: the magic packet (with
--listen-wol), the runner coming online, the first output. Then it reads who is online again.

PASS: nobody was awake, the request was answered, somebody came online, and the model is listed from
then on. If a runner was awake there was nothing to wake: exit 3, or 0 with --allow-awake.
Cost: one answer of at most 16 tokens, N with --burst N, one more with --timing. It wakes a machine.
While it waits it reads the runner list twice a second, every 2 s after 10 s; `--only state` sends
no request. It ends within --timeout and 90 s, after what --wait-asleep allows; --timing adds
one request, which may take --timeout again.

Examples:
    # is somebody asleep, and does a request wake them?
    python3 test_wol.py --token-binary ./get-token
    # wait up to half an hour until nobody is awake, then wake them, with figures
    python3 test_wol.py --token-binary ./get-token --wait-asleep 1800 --timing
    # in the runners' own LAN, as root: hear the packet itself, and check whom it is for
    python3 test_wol.py --token-binary ./get-token --listen-wol --expect-mac 02:00:5e:00:00:01
    # eight requests at once at a sleeping fleet: each is served, one packet is sent
    python3 test_wol.py --token-binary ./get-token --burst 8 --listen-wol
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Run, Status
from livecheck.core.text import shorten
from livecheck.fleet import magic_packet
from livecheck.fleet import old_api as api
from livecheck.fleet.old_api import Entry, Runner, Unreadable
from livecheck.fleet.online import (
    Observer,
    State,
    came_online,
    is_same,
    listing,
    may_serve,
    names,
    retry_after,
)
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import (
    is_rate_limit,
    make_record,
    ms,
    number,
    outcome,
    read_stream,
    timed_out,
)

CHECKS = (
    "state",
    "request",
    "wake",
    "registered",
    "wol_sent",
    "packet",
    "woken_once",
    "timing",
)
PROMPT = "Say hello."
MAX_TOKENS = 16
READ_S = 5.0  # longest answer of the gateway's own lists, unless --timeout is less
POLL_S = 0.5  # between two looks at who is online, while a request waits
SOON_S = 10.0  # from then on
SLOW_POLL_S = 2.0  # is enough: a limit of 100 requests a minute is not to be used up by looking
KEPT = (
    100  # changes of who is online; a list that is another one each time must not fill the memory
)
NAMES = 100  # of a list, what is written down of it
MOST_AT_ONCE = 1000
CONFIRM_S = 1.0  # until "nobody is online" is read once more: some say so when they have an error
SETTLE_S = 5.0  # a machine that goes offline still takes its time to fall asleep
RENEW_S = 60.0  # while it waits for sleep: a token may not live as long as that
WATCH_ON_S = 60.0  # after a request that failed while a runner is being woken
UNSURE_S = 10.0  # the same, where it is not to be seen whether one is
AFTER_S = 3.0  # until the model that answered has to be listed
LOG_S = 5.0  # until the request has to be in the gateway's log
TICK_S = 0.1
LEAST_WAKE_S = 1.0  # no machine wakes sooner, whatever the lists say
FAST_S, MODERATE_S = 30.0, 60.0
TOGETHER_S = 1.0  # packets for one MAC within this time of the first belong to the same requests
REPEATS = 3  # so often a sender may repeat a packet, as nobody confirms it
WAITING = (408, 429)  # of 4xx, those that do not say that the request itself was wrong


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, timeout_s=120)
    add = parser.add_argument_group("wake-on-LAN").add_argument
    add(
        "--model",
        type=model_option,
        default="class:fast",
        metavar="NAME",
        help="class or model to ask for (default %(default)s)",
    )
    add("--timing", action="store_true", help="judge the time it took, ask once more when warm")
    add("--allow-awake", action="store_true", help="nothing to wake is fine: exit 0")
    add(
        "--wait-asleep",
        type=common.seconds,
        metavar="SECONDS",
        help="wait so long for the runners to fall asleep",
    )
    add(
        "--listen-wol",
        type=udp_port,
        nargs="?",
        const=magic_packet.PORT,
        metavar="PORT",
        help=f"hear the magic packet (UDP, default {magic_packet.PORT}: as root)",
    )
    add(
        "--expect-mac",
        type=mac_option,
        action="append",
        default=[],
        metavar="MAC",
        help="whom the packet must be for (repeatable)",
    )
    add("--burst", type=burst_option, metavar="N", help="N requests at once, not one")
    return parser


def model_option(text: str) -> str:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no model: write class:fast or a name")
    return text


def burst_option(text: str) -> int:
    count = common.whole_number(2)(text)
    if count > MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"{count} is too much, the most is {MOST_AT_ONCE}")
    return count


def udp_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give one from 1 to 65535")
    return int(text)


def mac_option(text: str) -> str:
    try:
        return magic_packet.parse_mac(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is {error}") from None


# --- measure: the request


@dataclass(frozen=True)
class Attempt:
    """One request for a completion and what became of it; times on the run's own clock.

    refused: the request itself was turned down, so that nobody had to be woken for it.
    """

    phase: str  # wake or warm
    answer: api.Answer
    sent_s: float | None
    first_output_s: float | None
    ended_s: float | None
    record: dict[str, Any]
    status: int = 0
    limited: str | None = None  # by the key's rate limit: its Retry-After
    denied: bool = False
    refused: bool = False
    timed_out: bool = False

    @property
    def served(self) -> bool:
        return self.answer.problem is None

    @property
    def said(self) -> str:
        """What was wrong with the answer."""
        problem = self.answer.problem or "nothing"
        wrong = self.status == 200 and not problem.startswith("200")
        return f"200, but {problem}" if wrong else problem

    @property
    def wait_s(self) -> float | None:
        """From this request to its first output, if it was served."""
        if not self.served or self.sent_s is None or self.first_output_s is None:
            return None
        return self.first_output_s - self.sent_s


def make_attempt(phase: str, reply: wire.Reply, start_ns: int) -> Attempt:
    def at_s(time_ns: int | None) -> float | None:
        return None if time_ns is None else (time_ns - start_ns) / 1e9

    answer, stream = api.read_answer(reply), read_stream(reply)
    first_ns = stream.output_ns[0] if stream.output_ns else None
    record = make_record(reply, stream, start_ns)
    if answer.problem is None and not stream.output_ns:  # not streamed: it all came at once
        first_ns = reply.end_ns
        whole_ms = ms((reply.end_ns or 0) - (reply.t0_ns or 0))
        record |= {"error": None, "error_text": None, "ttft_ms": whole_ms, "e2e_ms": whole_ms}
    status = reply.status or 0
    return Attempt(
        phase=phase,
        answer=answer,
        sent_s=at_s(reply.t0_ns),
        first_output_s=at_s(first_ns),
        ended_s=at_s(reply.end_ns),
        record={"kind": "chat", "phase": phase, **record, "model": answer.model},
        status=status,
        limited=retry_after(reply) if is_rate_limit(reply) else None,
        denied=api.is_denied(reply),
        refused=reply.failure is None and 300 <= status < 500 and status not in WAITING,
        timed_out=timed_out(reply),
    )


@dataclass(frozen=True)
class Packet:
    """A magic packet that was heard."""

    at_s: float
    sender: str
    packet: magic_packet.Packet


@dataclass
class Evidence:
    """All that was measured. `states` are records of the changes since the request was sent, which
    `see` adds; not the states themselves, as lists may be long."""

    model: str
    expected: Sequence[str] = ()  # MACs
    before: State | None = None
    waited_s: float | None = None  # for sleep
    states: list[dict[str, Any]] = field(default_factory=list)
    latest: State | None = None
    came: tuple[float, list[str]] | None = None  # when somebody new was first seen online, and who
    after: State | None = None
    attempts: list[Attempt] = field(default_factory=list)
    no_admin: str | None = None
    log_before: list[Entry] | None = None
    log_after: list[Entry] | None = None
    no_log: str | None = None
    listened: bool = False
    packets: list[Packet] = field(default_factory=list)
    other_datagrams: int = 0
    earlier_packets: int = 0  # before the request

    def see(self, state: State) -> None:
        """Take in who is online now, if that is news."""
        if self.latest is not None and self.latest.says_as(state):
            return
        self.latest = state
        if len(self.states) < KEPT:
            self.states.append(state_record(state))
        self.note_newcomers(state)

    def note_newcomers(self, state: State) -> None:
        if self.came is None and self.before is not None:
            came = came_online(self.before, state, self.model)
            self.came = (state.at_s, came) if came else None

    def of(self, phase: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.phase == phase]

    @property
    def wakers(self) -> list[Attempt]:
        """The requests that should wake a runner."""
        return self.of("wake")

    @property
    def strays(self) -> list[Attempt]:
        """Those that another model answered than the one that was asked for by its name. A name
        that nobody lists is no other model: it may be what the one that was asked calls itself."""
        other = [
            a
            for a in self.wakers
            if a.served and api.is_concrete(self.model) and named_other(a.answer, self.model)
        ]
        states = [state for state in (self.before, self.after) if state and other]
        known = set().union(*(state.offered for state in states))
        return [attempt for attempt in other if attempt.answer.model in known]

    @property
    def served(self) -> list[Attempt]:
        strays = self.strays
        return [each for each in self.wakers if each.served and each not in strays]

    @property
    def was_asleep(self) -> bool:
        return self.before is not None and self.before.asleep(self.model)

    @property
    def sent_s(self) -> float | None:
        return min((a.sent_s for a in self.wakers if a.sent_s is not None), default=None)

    @property
    def first(self) -> Attempt | None:
        """The request that was served first."""
        return min(self.served, key=lambda a: a.first_output_s or math.inf, default=None)

    @property
    def newcomers(self) -> tuple[float, list[str]] | None:
        """By when somebody was online who was not before, and who. The one that answered was online
        by then, though the next look came later."""
        if self.came is None:
            return None
        at_s, who = self.came
        first = self.first if self.was_asleep else None
        return min(at_s, first.first_output_s or at_s) if first else at_s, who

    @property
    def first_output_s(self) -> float | None:
        """Of the request that was served first, counted as all phases are: from the first one that
        was sent."""
        return self.since_sent(self.first)

    @property
    def slowest_s(self) -> float | None:
        waits = [wait for wait in map(self.since_sent, self.served) if wait is not None]
        return max(waits, default=None)

    def since_sent(self, attempt: Attempt | None) -> float | None:
        if attempt is None or attempt.first_output_s is None or self.sent_s is None:
            return None
        return attempt.first_output_s - self.sent_s

    @property
    def entries(self) -> list[Entry]:
        """What came into the gateway's log since the request: it, and others' if they may be it."""
        known = {entry.id for entry in self.log_before or ()}
        runners = {runner.id: runner for runner in (self.after and self.after.runners) or ()}
        models = {a.answer.model for a in self.served if a.answer.model}

        def is_anothers(entry: Entry) -> bool:  # served by a runner that has not what answered us
            runner = runners.get(entry.runner_id or "")
            able = runner is None or not models or any(may_serve(runner, m) for m in models)
            return not able

        new = [entry for entry in self.log_after or () if entry.id not in known]
        return [entry for entry in new if not is_anothers(entry)]

    @property
    def wol_logged(self) -> bool:
        return any(entry.wol_sent for entry in self.entries)

    @property
    def due_packets(self) -> list[Packet]:
        """Those that came since the request was sent."""
        sent_s = self.sent_s
        return [p for p in self.packets if sent_s is not None and p.at_s >= sent_s]

    @property
    def macs(self) -> set[str]:
        """Whom a packet may be for: those expected, else the runners that offer the model."""
        runners = (self.before and self.before.runners) or ()
        able = [runner for runner in runners if may_serve(runner, self.model)]
        return set(self.expected) or {mac for mac in map(mac_of, able) if mac}

    @property
    def fleet_macs(self) -> set[str]:
        runners = (self.before and self.before.runners) or ()
        return {mac for mac in map(mac_of, runners) if mac}

    @property
    def right_packets(self) -> list[Packet]:
        """Well-formed ones for such a MAC; for any MAC if none is known."""
        good, macs = [each for each in self.due_packets if each.packet.mac], self.macs
        return [each for each in good if not macs or each.packet.mac in macs]


def named_other(answer: api.Answer, model: str) -> bool:
    """Whether an answer carries the name of one model, and it is not this."""
    name = answer.model
    return name is not None and api.is_concrete(name) and not is_same(name, model)


def mac_of(runner: Runner) -> str | None:
    try:
        return magic_packet.parse_mac(runner.mac or "")
    except ValueError:
        return None


class Session:
    """Talks to the fleet and puts everything, with its time, into the evidence."""

    def __init__(self, run: Run, evidence: Evidence, stack: contextlib.ExitStack):
        args = run.args
        self.run, self.evidence = run, evidence
        self.start_ns = time.perf_counter_ns()
        self.listener = stack.enter_context(listening(args.listen_wol)) if args.listen_wol else None
        self.token = api.token_for(run, args.model)
        self.model = stack.enter_context(self.new_wire(args.timeout))
        self.lists = stack.enter_context(self.new_wire(min(READ_S, args.timeout)))
        self.contact = api.meet(run, self.lists, self.token)
        run.client["clock"] = self.lists.clock
        self.admin = api.Admin(run, self.lists)
        self.observer = self.new_observer(self.lists)
        self.renewed_s = 0.0

    def new_wire(self, timeout_s: float) -> wire.Wire:
        target = wire.Target(self.run.url, None, verify=not self.run.args.no_verify_ssl)
        return wire.Wire(target, timeout_s)

    def renew(self) -> None:
        """Fresh tokens, if there is a command that makes them."""
        self.renewed_s = self.now_s()
        if self.run.credentials.has_binary:
            self.token = api.token_for(self.run, self.run.args.model)
            self.admin = api.Admin(self.run, self.lists)
            self.observer = self.new_observer(self.lists)

    def new_observer(self, instrument: wire.Wire) -> Observer:
        return Observer(self.run, instrument, self.now_s, self.token, self.admin)

    def now_s(self) -> float:
        return (time.perf_counter_ns() - self.start_ns) / 1e9

    def ask(self, phase: str, count: int = 1) -> None:
        """So many requests at once; each is on record, however that ends."""
        run = self.run
        requests = [
            api.under(
                self.token,
                # a prompt nobody has seen: an answer out of a cache would wake nobody
                chat.completion(run.args.model, chat.unique(PROMPT), MAX_TOKENS),
            )
            for _ in range(count)
        ]
        try:
            self.model.exchange(requests, count, lambda reply: chat.show(run, reply))
        finally:
            for reply in self.model.replies:
                self.evidence.attempts.append(make_attempt(phase, reply, self.start_ns))
        refused = all(reply.status == 401 for reply in self.model.replies)
        if refused and phase == "wake":  # what was measured until a later one stays judged
            raise CannotCheck(chat.refused_credential(run))

    def read_log(self) -> list[Entry] | None:
        """The gateway's latest entries; None when it cannot be read, and then why."""
        count = api.LOG_PAGE + (self.run.args.burst or 1)
        try:
            return self.admin.log(per_page=count)
        except Unreadable as error:
            self.evidence.no_log = str(error)
            return None

    def take_packets(self) -> None:
        """What was heard until now, into the evidence."""
        if self.listener is None:
            return
        evidence = self.evidence
        evidence.listened, evidence.other_datagrams = True, self.listener.others
        evidence.earlier_packets = self.listener.earlier
        evidence.packets = [
            Packet((heard.at_ns - self.start_ns) / 1e9, heard.sender, heard.packet)
            for heard in list(self.listener.heard)
        ]


@contextlib.contextmanager
def listening(port: int) -> Iterator[magic_packet.Listener]:
    """Hear magic packets; CannotCheck when the port cannot be had."""
    listener = magic_packet.Listener(port)
    try:
        listener.__enter__()
    except OSError as error:
        hint = "is another program listening there, one that does not share the port?"
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "ports below 1024 take root: sudo, or "
            hint += f"sysctl net.ipv4.ip_unprivileged_port_start={port}"
        reason = (error.strerror or str(error)).lower()
        raise CannotCheck(f"cannot listen on UDP port {port} ({reason}): {hint}") from None
    with contextlib.ExitStack() as stack:
        stack.push(listener.__exit__)
        yield listener


# --- measure: before, meanwhile, after


def read_before(session: Session) -> State:
    """Who is online; what is hard to believe is read once more."""
    state, model = session.observer.look(), session.run.args.model
    if state.asleep(model) or state.contradiction:
        time.sleep(CONFIRM_S)
        state = session.observer.look()
    return state


def wait_for_sleep(session: Session) -> State:
    """Who is online, as soon as that is nobody, or when the wait is over."""
    run, begun_s = session.run, session.now_s()
    state, limit_s, model = read_before(session), run.args.wait_asleep, run.args.model
    if limit_s is None or state.error or state.asleep(model):
        return state
    warn_of_expiry(session, limit_s)
    interval_s = min(5.0, max(SLOW_POLL_S, limit_s / 100))
    label = f"waiting up to {limit_s:g} s for sleep: {listing(state.serving(model))} online"
    with run.progress(label, math.ceil(limit_s / interval_s)) as step:
        while not state.asleep(model) and not state.is_useless:
            left_s = begun_s + limit_s - session.now_s()
            if left_s <= 0:
                break
            time.sleep(min(interval_s, left_s))
            if session.now_s() - session.renewed_s >= RENEW_S:
                session.renew()
            state = read_before(session)
            step()
    session.evidence.waited_s = session.now_s() - begun_s
    if state.asleep(model):
        run.note(f"asleep after {session.evidence.waited_s:.1f} s; {SETTLE_S:g} s more to settle")
        time.sleep(SETTLE_S)
        session.renew()
        state = session.observer.look()
    return state


def warn_of_expiry(session: Session, limit_s: float) -> None:
    """Say so when a token that nobody can renew ends before the wait may."""
    expiry = number((api.claims(session.token or "") or {}).get("exp"))
    if expiry is not None and not session.run.credentials.has_binary:
        left_s = expiry - time.time()
        if left_s < limit_s:
            text = f"warning: the token ends in {max(0.0, left_s):.0f} s, within the wait"
            session.run.note(f"{text}; --token-binary makes new ones")


@contextlib.contextmanager
def watching(session: Session) -> Iterator[None]:
    """See in a thread who comes online meanwhile."""
    over, begun_s = threading.Event(), session.now_s()
    timeout_s = min(READ_S, session.run.args.timeout)

    def interval_s() -> float:
        return POLL_S if session.now_s() < begun_s + SOON_S else SLOW_POLL_S

    def watch() -> None:
        with session.new_wire(timeout_s) as instrument:
            observer = session.new_observer(instrument)
            observer.reason = session.observer.reason
            while not over.wait(interval_s()):
                state = observer.glance()
                if over.is_set():  # too late to be of use
                    return
                session.evidence.see(state)
                if state.is_useless:
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(TICK_S)  # a read that hangs is left to itself


def watch_on(session: Session) -> None:
    """After a request that failed before anybody was online: see whether somebody comes."""
    evidence = session.evidence
    known = any(a.status == 200 or a.refused or a.limited for a in evidence.wakers)
    if known or not evidence.was_asleep:
        return
    read_log_after(session)
    session.take_packets()
    length_s = WATCH_ON_S if is_waking(evidence) else UNSURE_S if not evidence.entries else 0.0
    limit_s = (evidence.sent_s or 0.0) + min(length_s, session.run.args.timeout)
    if session.now_s() < limit_s:
        session.run.note("it failed; watching on, in case a runner is still on its way")
    while evidence.newcomers is None and session.now_s() < limit_s:
        time.sleep(TICK_S)


def is_waking(evidence: Evidence) -> bool:
    """Whether anything tells that a runner is being woken."""
    return bool(evidence.due_packets) or evidence.wol_logged


def read_after(session: Session) -> None:
    """Who is online now: at once, or within a few seconds if the answer's model is not listed."""
    evidence, limit_s = session.evidence, session.now_s() + AFTER_S
    while True:
        evidence.after = session.observer.look()
        evidence.note_newcomers(evidence.after)
        settled = not evidence.served or check_registered(evidence).status is not Status.FAIL
        if settled or evidence.after.is_useless or session.now_s() >= limit_s:
            return
        time.sleep(POLL_S)


def read_log_after(session: Session) -> None:
    """The log, as soon as every request that was sent is in it, and the packet if one is due."""
    evidence, limit_s = session.evidence, session.now_s() + LOG_S
    while evidence.no_log is None:
        evidence.log_after = session.read_log()
        complete = len(evidence.entries) >= len(evidence.wakers)
        due = evidence.was_asleep and bool(evidence.served)
        if complete and (evidence.wol_logged or not due) or session.now_s() >= limit_s:
            return
        time.sleep(POLL_S)


def measure(session: Session) -> None:
    """Who is online, the request, who is online then; and what can be seen meanwhile."""
    run, evidence, args = session.run, session.evidence, session.run.args
    if session.contact.failure is not None:  # no use in asking on
        text = f"{chat.MODELS}: {outcome(session.contact, timed=False)}"
        evidence.before = State(session.now_s(), error=text, costly=True)
        return
    evidence.before = wait_for_sleep(session)
    evidence.no_admin = session.observer.reason
    if evidence.before.is_useless or args.only == ["state"]:
        return
    evidence.log_before = session.read_log()
    if session.listener is not None:
        session.listener.forget()
    run.note(asking(evidence, args))
    try:
        with watching(session):
            session.ask("wake", args.burst or 1)
            watch_on(session)
        if not any(attempt.limited for attempt in evidence.wakers):
            read_after(session)
            read_log_after(session)
            if args.timing and evidence.served:
                session.ask("warm")
    finally:
        session.take_packets()


def asking(evidence: Evidence, args: argparse.Namespace) -> str:
    """What is about to be done, in a line."""
    count = f"{args.burst} times at once" if args.burst else "once"
    state = evidence.before
    awake = state.serving(evidence.model) if state else []
    who = f"{nobody(evidence)} is online" if evidence.was_asleep else f"{listing(awake)} online"
    if state and state.error:
        who = "who is online is unknown"
    return f"{who}; asking {evidence.model} {count}: up to {args.timeout:g} s"


def nobody(evidence: Evidence) -> str:
    """Who sleeps: everybody, or all that have the model."""
    state = evidence.before
    others = state is not None and bool(state.online or state.models)
    if others and api.is_concrete(evidence.model):
        return f"nobody with {shorten(evidence.model, 40)}"
    return "nobody"


# --- judge


def undecided(name: str, reason: str) -> Check:
    return Check(name, Status.SKIP, reason, essential=True)


def limited_words(wait: str) -> str:
    """What there is to say about the key's rate limit."""
    return f"the key's rate limit spoke (429 rate_limit_exceeded, Retry-After {wait}): try later"


def check_state(evidence: Evidence) -> Check:
    """Who is online can be read, and the fleet's two lists agree."""
    state = evidence.before
    if state is None:
        return undecided("state", "the run ended before it was read")
    if state.limited is not None:
        return undecided("state", limited_words(state.limited))
    if state.error is not None:
        return Check("state", Status.FAIL, f"who is online cannot be read: {state.error}")
    numbers: dict[str, Any] = {
        "online": len(state.online) if state.runners is not None else None,
        "known": len(state.runners) if state.runners is not None else None,
        "models": len(state.models or ()),
    }
    detail = state_words(state, evidence.model)
    if state.runners is None and evidence.no_admin:
        detail += f"; who is behind it is not to be seen: {evidence.no_admin}"
    if state.contradiction:
        return Check("state", Status.WARN, state.contradiction, numbers)
    if evidence.was_asleep and state.runners and not evidence.served:
        able = [r for r in state.runners if may_serve(r, evidence.model) and not r.is_online]
        if not any(mac_of(runner) for runner in able):
            who = f"{names(able)} without a MAC address" if able else "no runner is known for it"
            return Check("state", Status.WARN, f"{detail}; {who}: nobody can be woken", numbers)
    return Check("state", Status.PASS, detail, numbers)


def state_words(state: State, model: str) -> str:
    """Who is online, and how that is known."""
    serving = state.serving(model)
    if state.runners is None:
        listed = listing(state.models or ()) or "no model"
        detail = f"{listed} listed by {chat.MODELS}"
        return detail if serving or not state.models else f"{detail}, not {shorten(model, 40)}"
    detail = f"{len(state.online)} of {len(state.runners)} runners online by {api.RUNNERS}"
    if state.online:
        detail += f": {names(state.online)}"
    if not serving and state.online:
        detail += f"; none of them offers {shorten(model, 40)}"
    return detail


def check_request(evidence: Evidence, timeout_s: float) -> Check:
    """Every request is answered, with content: also, and above all, the one that wakes."""
    wakers = evidence.wakers
    if not wakers:
        return undecided("request", "none was sent")
    limited = [attempt for attempt in wakers if attempt.limited]
    failed = [attempt for attempt in wakers if not attempt.served and not attempt.limited]
    numbers = {"requests": len(wakers), "served": len(evidence.served)}
    if strays := evidence.strays:
        return Check("request", Status.FAIL, stray_words(strays, evidence), numbers)
    if failed:
        detail = failure_words(failed, len(wakers), evidence, timeout_s)
        return Check("request", Status.FAIL, detail, numbers)
    if limited:
        return undecided("request", limited_words(limited[0].limited or "none"))
    first = evidence.first
    assert first
    model = shorten(first.answer.model or "an unnamed model", 60)
    whole = f"{len(wakers)} of {len(wakers)} answered" if len(wakers) > 1 else "answered"
    detail = f"{whole} by {model}, the first output after {show_s(evidence.first_output_s)}"
    if len(wakers) > 1:
        detail += f", the last one's after {show_s(evidence.slowest_s)}"
    if first.answer.hidden:
        detail += f"; all {MAX_TOKENS} tokens were reasoning that is not shown"
    return Check("request", Status.PASS, detail, numbers)


def stray_words(strays: Sequence[Attempt], evidence: Evidence) -> str:
    """Who answered instead of the model that was asked for."""
    others = list(dict.fromkeys(a.answer.model for a in strays if a.answer.model))
    count, sent = len(strays), len(evidence.wakers)
    which = f"{count} of {sent} answered" if sent > 1 else "answered"
    return f"asked for {shorten(evidence.model, 40)}, {which} by another model: {listing(others)}"


def failure_words(
    failed: Sequence[Attempt], sent: int, evidence: Evidence, timeout_s: float
) -> str:
    """What was said instead of an answer, and what to make of it."""
    kinds = Counter(attempt.said for attempt in failed)
    said = "; ".join(f"{text} (x{count})" if count > 1 else text for text, count in kinds.items())
    said = said.rstrip(".")
    detail = f"{len(failed)} of {sent} failed: {said}" if sent > 1 else said
    if any(attempt.denied for attempt in failed) and api.is_concrete(evidence.model):
        return f"{detail}; a model's name takes the role {api.SPECIFIC} (--token-binary)"
    awake = evidence.before.serving(evidence.model) if evidence.before else []
    if any(attempt.refused for attempt in failed):
        return detail
    if awake:
        detail += f"; listed online: {listing(awake)}"
        # unless it says that it has nobody for just this
        if evidence.model.removeprefix("class:") not in said:
            detail += ", asleep without having signed off?"
    elif came := evidence.newcomers:
        detail += f"; {listing(came[1])} came online {show_s(since(evidence, came[0]))} after it"
    elif any(attempt.timed_out for attempt in failed):
        detail += f"; if the machine takes that long: --timeout {max(180, 2 * timeout_s):g}"
    return detail


def check_wake(evidence: Evidence, allow_awake: bool) -> Check:
    """Nobody was awake, and the request woke somebody."""
    state, wakers = evidence.before, evidence.wakers
    if state is None or state.error is not None or not wakers:
        return undecided("wake", "not known whether anybody was awake")
    if evidence.strays and not evidence.served:
        return undecided("wake", "another model answered: whether this one wakes is not known")
    if not evidence.was_asleep:
        return check_wake_awake(evidence, allow_awake)
    if any(attempt.limited for attempt in wakers):
        return undecided("wake", "the key's rate limit stood in the way")
    check = check_wake_asleep(evidence)
    if check.status is Status.PASS and state.contradiction:
        return Check("wake", Status.WARN, f"{check.detail}; but before, {state.contradiction}")
    return check


def check_wake_asleep(evidence: Evidence) -> Check:
    """Nobody was online, and the request was sent."""
    state, wakers = evidence.before, evidence.wakers
    assert state
    came, first = evidence.newcomers, evidence.first
    if first is not None:
        return check_wake_served(evidence)
    if came is not None:
        detail = f"the request failed, but {listing(came[1])} came online "
        detail += f"{show_s(since(evidence, came[0]))} after it"
        return Check("wake", Status.PASS, detail)
    if all(attempt.refused for attempt in wakers):
        return undecided("wake", f"nobody was asked to wake: {wakers[0].said}")
    if state.runners and not any(may_serve(r, evidence.model) for r in state.runners):
        return undecided("wake", "no runner is known that could serve it: nobody to wake")
    if evidence.after is None or evidence.after.error is not None:
        return undecided("wake", "the request failed, and who is online cannot be read any more")
    spent = show_s(since(evidence, evidence.after.at_s))
    return Check("wake", Status.FAIL, f"nobody came online in {spent}; {clue(evidence)}")


def since(evidence: Evidence, at_s: float) -> float:
    """How long after the request."""
    return at_s - (evidence.sent_s or 0.0)


def clue(evidence: Evidence) -> str:
    """Where to look when nobody woke."""
    if evidence.right_packets:
        return "a packet was sent: is Wake-on-LAN on in the machine's firmware and system?"
    if evidence.due_packets:
        return "the packet that was sent could not wake it"
    if evidence.listened:
        return "no packet was heard: does the gateway send any?"
    if evidence.entries and not evidence.wol_logged:
        return "the gateway's log says that it sent no packet"
    if evidence.wol_logged:
        return "the gateway says it sent a packet: --listen-wol in the machine's LAN hears it"
    return "--listen-wol in the machine's LAN shows whether a packet was sent"


def check_wake_served(evidence: Evidence) -> Check:
    """Nobody was online, and the request was served: by somebody who came online for it?"""
    state, after, wait_s = evidence.before, evidence.after, evidence.first_output_s or 0.0
    assert state
    detail = f"{nobody(evidence)} was online; the first output came after {show_s(wait_s)}"
    numbers = {"first_output_s": round(wait_s, 4)}
    if wait_s < LEAST_WAKE_S:
        return check_wake_too_fast(state, evidence.model, detail, numbers)
    if came := evidence.newcomers:
        detail += f"; online now: {listing(came[1])}"
        return Check("wake", Status.PASS, detail, numbers)
    if evidence.wol_logged or evidence.right_packets:
        return Check("wake", Status.PASS, f"{detail}, and a packet was sent", numbers)
    if after is None or after.limited is not None:
        return undecided("wake", f"{detail}; the rate limit hides who is online now")
    if after.error is not None:
        return undecided("wake", f"{detail}; who is online cannot be read any more")
    detail += ", and yet nobody came online: was it only slow, and the list is stale?"
    return Check("wake", Status.WARN, detail, numbers)


def check_wake_too_fast(state: State, model: str, detail: str, numbers: dict[str, Any]) -> Check:
    """It answered sooner than any machine wakes: it was awake, and the list did not say so."""
    if state.runners is None and state.models:
        said = f"{shorten(model, 40)} is not listed by this name, and answered at once"
        return undecided("wake", f"not known whether it was asleep: {said}")
    source = api.RUNNERS if state.runners is not None else chat.MODELS
    detail += f": no machine wakes that fast. Is {source} stale?"
    return Check("wake", Status.WARN, detail, numbers)


def check_wake_awake(evidence: Evidence, allow_awake: bool) -> Check:
    """Somebody was online, so nothing had to be woken; unless that was not true."""
    state = evidence.before
    assert state
    awake = state.serving(evidence.model)
    what = "runner" if state.runners is not None else "model"
    detail = f"not exercised: {len(awake)} {what}{'s' * (len(awake) != 1)} online"
    if evidence.waited_s is not None:
        detail += f" after {evidence.waited_s:.0f} s of waiting for sleep"
    slow = (evidence.first_output_s or 0.0) >= LEAST_WAKE_S
    if evidence.newcomers and slow and is_waking(evidence):
        detail = f"{listing(awake)} was online, {listing(evidence.newcomers[1])} was woken"
        return Check("wake", Status.PASS, detail)
    if stale := stale_sign(evidence, state):
        detail = f"{listing(awake)} listed online, and yet {stale}: the list is stale"
        return Check("wake", Status.WARN, detail)
    if not allow_awake:
        detail += "; wait until they sleep (--wait-asleep), or --allow-awake"
    return Check("wake", Status.SKIP, detail, essential=not allow_awake)


def stale_sign(evidence: Evidence, state: State) -> str | None:
    """What says that somebody who is listed online was woken all the same."""
    listed = {mac for mac in map(mac_of, state.online) if mac}
    woken = next((p.packet.mac for p in evidence.due_packets if p.packet.mac in listed), None)
    if woken:
        return f"a packet was sent to wake {woken}"
    offline = [r for r in state.runners or () if not r.is_online and may_serve(r, evidence.model)]
    if state.runners is not None and not offline and evidence.wol_logged:
        return "wol_sent is in the log"
    return None


def check_registered(evidence: Evidence) -> Check:
    """The model that answered is listed, and a runner that offers it is online."""
    name, state = "registered", evidence.after
    if not evidence.served or state is None:
        who = "another model answered" if evidence.strays else "the request was not answered"
        return Check(name, Status.SKIP, who)
    if state.limited is not None:
        return Check(name, Status.SKIP, limited_words(state.limited))
    if state.error is not None:
        return Check(name, Status.FAIL, f"who is online cannot be read any more: {state.error}")
    models = list(dict.fromkeys(a.answer.model for a in evidence.served if a.answer.model))
    concrete = [model for model in models if api.is_concrete(model)]
    listed = listing(state.models or ()) or "nothing"
    if not concrete:
        return nameless(state)
    for model in concrete:
        if not any(is_same(model, each) for each in state.models or ()):
            return not_listed(evidence, state, model, f"{chat.MODELS} lists {listed}")
        if state.runners is not None and not any(may_serve(r, model) for r in state.online):
            who = names(state.online) or "nobody"
            said = f"{model} answered, but no runner that offers it is online by {api.RUNNERS}"
            return Check(name, Status.FAIL, f"{said} ({who} is)")
    gone = gone_runner(evidence)
    if gone:
        said = f"the log says that {gone} served it, which is offline by {api.RUNNERS}"
        return Check(name, Status.FAIL, said)
    return Check(name, Status.PASS, registered_words(concrete, state))


def nameless(state: State) -> Check:
    """An answer that names no model: somebody, at least, has to be listed."""
    name = "registered"
    if state.runners is not None and not state.online:
        said = f"the request was answered, but nobody is online by {api.RUNNERS}"
        return Check(name, Status.FAIL, said)
    if not state.models:
        return Check(name, Status.FAIL, f"the request was answered, but {chat.MODELS} is empty")
    return Check(name, Status.SKIP, "the answer names no model")


def not_listed(evidence: Evidence, state: State, model: str, but: str) -> Check:
    """A model answered under a name that /v1/models does not list: unless an alias explains it."""
    asked, said = evidence.model, f"{shorten(model, 40)} answered, but {but}"
    if asked in (state.models or ()):
        alias = f": is it an alias of {shorten(asked, 40)}?"
        return Check("registered", Status.WARN, said + alias)
    at_once = (evidence.first_output_s or 0.0) < LEAST_WAKE_S
    if is_same(model, asked) and at_once and state.runners is None and state.models:
        return Check("registered", Status.WARN, f"{said}: is it an alias of one of these?")
    return Check("registered", Status.FAIL, said)


def gone_runner(evidence: Evidence) -> str | None:
    """A runner that served by the log, and is not online; if the entries are surely ours."""
    after = evidence.after
    runners = {runner.id: runner for runner in (after.runners if after else None) or ()}
    if len(evidence.entries) != len(evidence.wakers):
        return None
    served = [runners[e.runner_id] for e in evidence.entries if e.runner_id in runners]
    return next((runner.name for runner in served if not runner.is_online), None)


def registered_words(models: Sequence[str], state: State) -> str:
    detail = f"{listing(models)} is in {chat.MODELS}"
    if state.runners is None:
        return detail
    online = [r for r in state.online if any(may_serve(r, model) for model in models)]
    return f"{detail}, {names(online)} online by {api.RUNNERS}"


def check_wol_sent(evidence: Evidence) -> Check:
    """The gateway's own log says that it sent a packet."""
    if evidence.no_log is not None:
        return Check("wol_sent", Status.SKIP, f"the log cannot be read: {evidence.no_log}")
    if evidence.log_before is None or evidence.log_after is None:
        return Check("wol_sent", Status.SKIP, "the log was not read")
    entries = evidence.entries
    sent = [entry for entry in entries if entry.wol_sent]
    unasked = bool(evidence.strays) and not evidence.served
    if not sent and (unasked or not evidence.was_asleep):
        return Check("wol_sent", Status.SKIP, "nobody had to be woken")
    numbers = {"entries": len(entries), "wol_sent": len(sent)}
    if not entries and not evidence.served:
        return Check("wol_sent", Status.SKIP, "the request failed, and is not in the log")
    if not entries and is_oldest_first(evidence.log_before, evidence.log_after):
        detail = "the log's first page is full, and does not begin with its newest entries"
        return Check("wol_sent", Status.SKIP, detail, numbers)
    if not entries:
        detail = f"the request is not in the log within {LOG_S:g} s of its end"
        return Check("wol_sent", Status.WARN, detail, numbers)
    detail = f"in {len(sent)} of {len(entries)} new entries of the log"
    if sent:
        return Check("wol_sent", Status.PASS, detail, numbers)
    if evidence.served or evidence.newcomers:
        detail += ": was it something else that woke the runner?"
    return Check("wol_sent", Status.WARN, detail, numbers)


def is_oldest_first(before: Sequence[Entry], after: Sequence[Entry]) -> bool:
    """Whether the log's first page is full, and so can show nothing new."""
    if len(before) < api.LOG_PAGE or [e.id for e in before] != [e.id for e in after]:
        return False
    first_s, last_s = after[0].at_s, after[-1].at_s
    return first_s is None or last_s is None or first_s <= last_s


def check_packet(evidence: Evidence) -> Check:
    """A magic packet was on the wire, well-formed, for a runner's MAC."""
    packets = evidence.due_packets
    bad = [each for each in packets if each.packet.problem]
    good = [each for each in packets if each.packet.mac]
    counts = Counter(each.packet.mac or "" for each in good)
    numbers = {"packets": dict(counts), "malformed": len(bad)}
    if not evidence.wakers:
        return Check("packet", Status.SKIP, "no request was sent")
    if not evidence.was_asleep and not packets:
        return Check("packet", Status.SKIP, "nobody had to be woken, and no packet was heard")
    right = evidence.right_packets
    if bad and not right:
        detail = f"{size_words(bad[0])}: {bad[0].packet.problem}"
        return Check("packet", Status.FAIL, f"malformed, {detail}", numbers)
    if not good:
        return nothing_heard(evidence, numbers)
    heard = ", ".join(f"{packets_words(count)} for {mac}" for mac, count in counts.items())
    if not right:
        return for_another(evidence, heard, numbers)
    detail = f"{heard}, {size_words(right[0])}, {show_s(since(evidence, right[0].at_s))} after "
    detail += "the request"
    if odd := next((each for each in right if each.packet.oddity), None):
        return Check("packet", Status.WARN, f"{detail}: {odd.packet.oddity}", numbers)
    if bad:
        detail += f"; and {len(bad)} malformed: {bad[0].packet.problem}"
        return Check("packet", Status.WARN, detail, numbers)
    return Check("packet", Status.PASS, detail, numbers)


def for_another(evidence: Evidence, heard: str, numbers: dict[str, Any]) -> Check:
    """Packets for other machines only. A neighbour's, if ours woke without one to be heard."""
    macs = " or ".join(sorted(evidence.macs)[:4])
    whose = "the expected" if evidence.expected else "the runner's"
    woke = bool(evidence.served or evidence.newcomers)
    strange = not any(p.packet.mac in evidence.fleet_macs for p in evidence.due_packets)
    if woke and strange and not evidence.expected:
        detail = f"none for {macs} was heard, and yet it woke; {heard}: somebody else's?"
        return Check("packet", Status.WARN, detail, numbers)
    detail = f"for the wrong machine: {heard}, {whose} MAC is {macs}"
    return Check("packet", Status.FAIL, detail, numbers)


def packets_words(count: int) -> str:
    return f"{count} packet{'s' * (count != 1)}"


def size_words(heard: Packet) -> str:
    password = " with a password" if heard.packet.has_password else ""
    return f"{heard.packet.size} bytes{password} from {heard.sender}"


def nothing_heard(evidence: Evidence, numbers: dict[str, Any]) -> Check:
    """A sleeping fleet and no packet."""
    others = evidence.other_datagrams
    also = f" ({others} other datagrams were)" if others else ""
    if evidence.served or evidence.newcomers:
        detail = f"none was heard{also}, and yet somebody woke: sent in another segment, by a "
        detail += "bouncer there, or to another port?"
        return Check("packet", Status.WARN, detail, numbers)
    if any(attempt.refused or attempt.limited for attempt in evidence.wakers):
        return Check("packet", Status.SKIP, "the request was refused: nobody had to be woken")
    detail = f"none was heard{also}, and nobody woke"
    if evidence.wol_logged:
        detail += ", though the gateway says it sent one: to the right network and port?"
    return Check("packet", Status.FAIL, detail, numbers)


def check_woken_once(evidence: Evidence) -> Check:
    """Many requests that wait for the same runner wake it once. The log cannot tell: each of them
    may say wol_sent. A sender may repeat a packet, as nobody confirms it, or wake every machine
    that offers the model; but if there are about as many packets as requests, each sends its own.
    """
    name, count = "woken_once", len(evidence.wakers)
    if not evidence.wakers:
        return Check(name, Status.SKIP, "no request was sent")
    if not evidence.was_asleep:
        return Check(name, Status.SKIP, "nobody had to be woken")
    if not evidence.listened:
        return Check(name, Status.SKIP, "only the packets can be counted: --listen-wol")
    if not evidence.right_packets:
        return Check(name, Status.SKIP, "no packet for it was heard")
    packets = counted_packets(evidence)
    most, wakes = max(packets.values()), sum(n if n > REPEATS else 1 for n in packets.values())
    for_whom = listing(list(packets)) if len(packets) < 3 else f"{len(packets)} machines"
    detail = f"{packets_words(sum(packets.values()))} for {for_whom}, {count} requests at once"
    numbers = {"packets": dict(packets), "most_packets": most, "requests": count}
    if most > REPEATS and wakes >= max(2, count - 1):
        return Check(name, Status.WARN, f"{detail}: each request sends its own", numbers)
    return Check(name, Status.PASS, detail, numbers)


def counted_packets(evidence: Evidence) -> Counter[str]:
    """How many there were for each machine soon after the first one for it."""
    packets = evidence.right_packets
    begun_s = {each.packet.mac: each.at_s for each in reversed(packets)}
    early = [p for p in packets if p.at_s <= begun_s[p.packet.mac] + TOGETHER_S]
    return Counter(each.packet.mac or "" for each in early)


def check_timing(evidence: Evidence) -> Check:
    """How long the wake took, and whether the fleet is quick from then on."""
    wait_s, warm = evidence.first_output_s, next(iter(evidence.of("warm")), None)
    if warm and warm.status == 401:
        detail = f"the request after it was refused: {warm.said}; has the token ended?"
        return Check("timing", Status.WARN, detail)
    if warm and not warm.served and not warm.limited:
        detail = f"the request after it failed: {warm.said}"
        return Check("timing", Status.FAIL, detail)
    if wait_s is None:
        return Check("timing", Status.SKIP, "no answer to time")
    warm_s = warm.wait_s if warm else None
    beside = f"; warm {show_s(warm_s)}" if warm_s is not None else ""
    if not evidence.was_asleep:
        detail = f"no wake to time: the first output came after {show_s(wait_s)}"
        return Check("timing", Status.SKIP, detail + beside)
    numbers = {"cold_start_s": round(wait_s, 4), "warm_s": warm_s and round(warm_s, 4)}
    pace, status = "fast", Status.PASS
    if wait_s >= FAST_S:
        pace = "moderate"
    if wait_s > MODERATE_S:
        pace, status = "slow", Status.WARN
    limits = f"under {FAST_S:g} s is fast, to {MODERATE_S:g} s moderate"
    detail = f"{pace}: the first output after {show_s(wait_s)}{beside} ({limits})"
    return Check("timing", status, detail, numbers)


def judge(evidence: Evidence, args: argparse.Namespace) -> list[Check]:
    """All verdicts; on what only an option asks for, when it is given or --only names it."""
    checks = [
        check_state(evidence),
        check_request(evidence, args.timeout),
        check_wake(evidence, args.allow_awake),
        check_registered(evidence),
        check_wol_sent(evidence),
    ]
    named = args.only or ()
    if evidence.listened:
        checks.append(check_packet(evidence))
    elif "packet" in named:
        checks.append(undecided("packet", "nobody listened: --listen-wol"))
    if args.burst:
        checks.append(check_woken_once(evidence))
    elif "woken_once" in named:
        checks.append(undecided("woken_once", "there was one request: --burst N"))
    if args.timing:
        checks.append(check_timing(evidence))
    elif "timing" in named:
        checks.append(undecided("timing", "not asked for: --timing"))
    return checks


# --- report


def show_s(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value >= 0.9995 else f"{value * 1e3:.0f} ms"


def row(label: str, at_s: float | None, note: str = "") -> str:
    return f"  {label:18}{show_s(at_s):>9}  {shorten(note, 49)}".rstrip()


def lines(evidence: Evidence, url: str) -> list[str]:
    """The phases, counted from the request."""
    rows = [shorten(f"Waking {evidence.model} at {url}", 80)]
    state, first = evidence.before, evidence.first
    if state is not None and state.error is None:
        rows.append(shorten(f"Before: {state_words(state, evidence.model)}", 80))
    heard: dict[str, Packet] = {}
    for each in evidence.due_packets:
        heard.setdefault(each.packet.mac or "malformed", each)
    for mac, each in list(heard.items())[:4]:
        rows.append(row("packet heard", since(evidence, each.at_s), f"{mac}, {size_words(each)}"))
    if came := evidence.newcomers:
        rows.append(row("runner online", since(evidence, came[0]), listing(came[1])))
    if first is not None:
        rows.append(
            row("first output", evidence.first_output_s, shorten(first.answer.model or "", 50))
        )
        if len(evidence.served) > 1:
            note = f"of {len(evidence.served)} requests"
            rows.append(row("last first output", evidence.slowest_s, note))
    ends = [since(evidence, a.ended_s) for a in evidence.wakers if a.ended_s is not None]
    if ends:
        failed = sum(not attempt.served for attempt in evidence.wakers)
        note = f"{failed} of {len(ends)} failed" if failed else ""
        if strays := evidence.strays:
            note = f"{len(strays)} of {len(ends)} by another model"
        rows.append(row("end", max(ends), note))
    for attempt in evidence.of("warm"):
        rows.append(row("warm first output", attempt.wait_s, "the request after it"))
    return rows


def metrics(evidence: Evidence) -> dict[str, Any]:
    """The phases in seconds from the request; null for what was not to be seen."""
    came, state = evidence.newcomers, evidence.before
    packets = [each for each in evidence.due_packets if each.packet.mac]
    warm = next((a.wait_s for a in evidence.of("warm")), None)
    known = state is not None and state.error is None
    return {
        "asleep_before": evidence.was_asleep if known else None,
        "runners_online_before": len(state.online) if state and state.runners is not None else None,
        "waited_for_sleep_s": rounded(evidence.waited_s),
        "requests": len(evidence.wakers),
        "served": len(evidence.served),
        "packet_s": rounded(since(evidence, packets[0].at_s)) if packets else None,
        "packets": dict(Counter(each.packet.mac for each in packets))
        if evidence.listened
        else None,
        "packets_before": evidence.earlier_packets if evidence.listened else None,
        "runner_online_s": rounded(since(evidence, came[0])) if came else None,
        "first_output_s": rounded(evidence.first_output_s),
        "slowest_first_output_s": rounded(evidence.slowest_s),
        "warm_first_output_s": rounded(warm),
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def records_of(evidence: Evidence) -> list[dict[str, Any]]:
    """Everything that was sent, read and heard, in its order."""
    ends = [state_record(state) for state in (evidence.before, evidence.after) if state is not None]
    found: list[dict[str, Any]] = [
        {**attempt.record, "index": index, "at_s": rounded(attempt.sent_s)}
        for index, attempt in enumerate(evidence.attempts)
    ]
    found += [*ends, *evidence.states]
    found += [
        {"kind": "packet", "at_s": rounded(each.at_s), "sender": each.sender, **vars(each.packet)}
        for each in evidence.packets
    ]
    return sorted(found, key=lambda record: float(record["at_s"] or 0.0))


def state_record(state: State) -> dict[str, Any]:
    online = None if state.runners is None else brief([each.name for each in state.online])
    return {
        "kind": "state",
        "at_s": rounded(state.at_s),
        "online": online,
        "models": None if state.models is None else brief(state.models),
        "error": state.error,
    }


def brief(names: Sequence[str]) -> list[str]:
    """The first of these names, and how many more there are."""
    kept = [shorten(name, 100) for name in names[:NAMES]]
    return kept + [f"and {len(names) - NAMES} more"] * (len(names) > NAMES)


# --- run


def check_fleet(run: Run) -> None:
    document, evidence = run.document("wol"), Evidence(run.args.model, run.args.expect_mac)
    run.target["model"] = run.args.model
    with contextlib.ExitStack() as stack:
        session = Session(run, evidence, stack)
        try:
            measure(session)
        finally:
            document.requests = records_of(evidence)
            document.metrics = metrics(evidence)
    document.add(*judge(evidence, run.args))
    run.show(lines(evidence, run.url), document)


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.expect_mac and args.listen_wol is None:
        parser.error("--expect-mac takes --listen-wol: only a packet that was heard has a MAC")
    with common.run(args) as run:
        check_fleet(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
