#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Does a request to a sleeping fleet wake a runner, and is that very request answered?

Reads who is online, sends one small request, and watches what becomes of it: the magic packet (with
--listen-wol), the runner that comes online, the first output. Then it reads again who is online.

PASS: nobody was awake, the request was answered, a runner came online, and its model is listed from
then on. If a runner was awake already, nothing could be woken: exit 3, or 0 with --allow-awake.
Cost: one answer of at most 16 tokens; N answers with --burst N; one more with --timing. It wakes a
machine. While the request waits, it reads the list of runners twice a second, after 10 s every 2 s.
`--only state` sends no request and wakes nothing. After the wait that --wait-asleep allows, the run
ends within --timeout and 90 s; --timing adds one request, which may take --timeout again.

Examples:
    # is everybody asleep, and does a request wake a runner?
    python3 test_wol.py --token-binary ./get-token
    # wait up to half an hour until nobody is awake, then wake a runner and judge the time
    python3 test_wol.py --token-binary ./get-token --wait-asleep 1800 --timing
    # in the runners' own LAN, as root: hear the packet itself, and check which MAC it is for
    python3 test_wol.py --token-binary ./get-token --listen-wol --expect-mac 02:00:5e:00:00:01
    # eight requests at once to a sleeping fleet: all are answered, and one packet is sent; without
    # --listen-wol, the gateway's own log is asked how many requests sent one
    python3 test_wol.py --token-binary ./get-token --burst 8 --listen-wol
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import common
from common import Check, NoAccess, Run, Status
from livecheck.core.checks import skip, telling, undecided
from livecheck.core.json_value import number
from livecheck.core.options import option_type
from livecheck.core.text import duration, listed, plural, shorten
from livecheck.fleet import api, magic_packet
from livecheck.fleet.jwt import claims
from livecheck.fleet.magic_packet import Heard
from livecheck.fleet.online import SLOW_POLL_S, Changes, Observer, State, macs, may_serve, names
from livecheck.fleet.plans import WAKE_TOKENS, plan_wol
from livecheck.fleet.roles import SPECIFIC, is_concrete, model_option, role_for
from livecheck.fleet.wake_evidence import MIN_WAKE_S, Evidence, is_refused, is_served, problem_of
from livecheck.wire import chat, form, notices
from livecheck.wire.answer import Answer, ms
from livecheck.wire.asking import Asker, open_wire, rate_limit_words

CHECKS = (
    *("state", "request", "wake", "registered", "wol_sent", "packet", "woken_once", "timing"),
    form.NAME,
)
PROMPT = "Say hello."
READ_S = 5.0  # longest answer of the gateway's own lists, unless --timeout is less
MAX_BURST = 1000
CONFIRM_S = 1.0  # until "nobody is online" is read again: a gateway in trouble may say so too
SETTLE_S = 5.0  # a machine that has gone offline still needs time to fall asleep
RENEW_S = 60.0  # so often new tokens are made while it waits for sleep: they may expire soon
WATCH_ON_S = 60.0  # after a request that failed while a runner is being woken
UNSURE_S = 10.0  # the same, where it cannot be seen whether one is
RELIST_S = 3.0  # within this time the model that answered has to be listed
LOG_S = 5.0  # within this time the request has to be in the gateway's log
RETRY_S = 0.5  # between two reads of either
TICK_S = 0.1
FAST_S, MODERATE_S = 30.0, 60.0  # the guide's figures for a wake
TOGETHER_S = 1.0  # packets for one MAC within this time of the first belong to the same requests
MISSED = "so many datagrams came to this port that some were not heard: who sends them?"
MAX_REPEATS = 3  # a sender may send a packet this often, as nobody confirms it


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, plan=plan_wol)
    add = parser.add_argument_group("wake-on-LAN").add_argument
    model = "class or model to ask for (default %(default)s)"
    wait = "wait up to this long until the runners are asleep"
    listen = f"UDP port to hear magic packets on (default {magic_packet.PORT}, needs root)"
    mac = "MAC address that the packet must be for (repeatable)"
    add("--model", type=model_option, default="class:fast", metavar="NAME", help=model)
    add("--timing", action="store_true", help="judge the time of the wake, and ask once more")
    add("--allow-awake", action="store_true", help="exit 0 when a runner was awake already")
    add("--wait-asleep", type=common.seconds, metavar="SECONDS", help=wait)
    port: dict[str, Any] = {"nargs": "?", "const": magic_packet.PORT, "metavar": "PORT"}
    add("--listen-wol", type=common.whole_number(1, 65535), help=listen, **port)
    address: dict[str, Any] = {"type": option_type(magic_packet.parse_mac), "metavar": "MAC"}
    add("--expect-mac", action="append", default=[], help=mac, **address)
    burst = common.whole_number(2, MAX_BURST)
    add("--burst", type=burst, metavar="N", help="send N requests at once instead of one")
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Raises ValueError for options that do not fit together."""
    if args.expect_mac and args.listen_wol is None:
        raise ValueError("--expect-mac needs --listen-wol: only a packet that is heard has a MAC")


# --- measure


class Session:
    """Talks to the fleet, and adds everything to the evidence."""

    def __init__(self, run: Run, evidence: Evidence, stack: contextlib.ExitStack):
        args = run.args
        self.run, self.evidence, self.listener = run, evidence, None
        if args.listen_wol:
            self.listener = stack.enter_context(magic_packet.listen(args.listen_wol))
        self.token = run.token(role=role_for(run, args.model))
        # no reason to stop: the requests of a burst are all sent at once
        self.asker = Asker(run, stack.enter_context(open_wire(run)), reason=lambda answer: None)
        self.lists = stack.enter_context(open_wire(run, timeout_s=min(READ_S, args.timeout)))
        self.contact = api.first_contact(run, self.lists, self.token)
        self.connect_admin()

    def connect_admin(self) -> None:
        self.admin = api.Admin(self.run, self.lists)
        self.observer = Observer(self.run, self.lists, self.token, self.admin)
        self.renewed_s = time.monotonic()

    def renew_tokens(self) -> None:
        """If there is a command that makes them."""
        self.renewed_s = time.monotonic()
        if self.run.credentials.has_binary:
            self.token = self.run.token(role=role_for(self.run, self.run.args.model))
            self.connect_admin()

    def ask(self, count: int, keep: Callable[[list[Answer]], object]) -> None:
        """Send `count` requests at once. Each prompt is new, so that no cache answers."""
        prompts = [chat.unique(PROMPT) for _ in range(count)]
        requests = [chat.completion(self.run.args.model, text, WAKE_TOKENS) for text in prompts]
        self.asker.ask([chat.with_credential(r, self.token) for r in requests], count, keep=keep)

    def read_log(self) -> list[api.LogEntry] | None:
        """The gateway's latest entries; None when they cannot be read."""
        try:
            return self.admin.log(per_page=api.LOG_PAGE + (self.run.args.burst or 1))
        except api.Unreadable as error:
            self.evidence.no_log = str(error)
            return None

    def collect_packets(self) -> None:
        if self.listener is not None:
            self.evidence.heard = list(self.listener.heard)
            self.evidence.packets_before = self.listener.forgotten
            self.evidence.other_datagrams = self.listener.other_datagrams
            self.evidence.has_missed_packets = self.listener.has_missed


def measure(run: Run) -> None:
    """Wake a runner, judge what was seen, and save and show it."""
    document, evidence = run.document("wol"), Evidence(run.args.model, run.args.expect_mac)
    run.target["model"] = run.args.model
    with contextlib.ExitStack() as stack:
        session = Session(run, evidence, stack)
        try:
            ask_fleet(session)
        finally:
            document.requests, document.metrics = records(evidence), metrics(evidence)
    document.add(*judge(evidence, run.args))
    run.show(lines(evidence, run.url), document.checks)


def ask_fleet(session: Session) -> None:
    """Read who is online, as long as that may be waited for, then wake a runner."""
    run, evidence, args = session.run, session.evidence, session.run.args
    if session.contact.failure is not None:  # each further read would cost as much
        error = f"{chat.MODELS}: {session.contact.outcome()}"
        evidence.before = State(time.perf_counter_ns(), error=error)
        return
    evidence.before = state = wait_for_sleep(session)
    evidence.no_admin = session.observer.no_admin
    if state.stop or args.only == ["state"]:
        return
    evidence.log_before = session.read_log()
    if session.listener is not None:
        session.listener.forget()
    run.note(announcement(evidence, args))
    try:
        wake(session, state)
    finally:
        session.collect_packets()


def wake(session: Session, before: State) -> None:
    """Send the requests, and watch what happens until they are answered and after that."""
    run, evidence, args = session.run, session.evidence, session.run.args
    evidence.changes = Changes(before, args.model, evidence.start_ns)
    with session.observer.watching(evidence.changes.add):
        session.ask(args.burst or 1, evidence.answers.extend)
        refusals = [api.no_access(run, answer, args.model) for answer in evidence.answers]
        if refusals and None not in refusals:
            raise NoAccess(str(refusals[0]))
        chat.confirm_limit(run, session.lists, evidence.answers, session.token)
        watch_on(session)
    if not any(answer.is_rate_limited for answer in evidence.answers):
        read_after(session)
        if evidence.after and evidence.after.rate_limit:
            evidence.no_log = evidence.after.rate_limit
            return
        read_log_after(session)
        if args.timing and evidence.served:
            session.ask(1, evidence.warm.extend)


def read_before(session: Session) -> State:
    """Who is online. What may be the answer of a gateway in trouble is read once more."""
    state = session.observer.read()
    if state.is_asleep(session.evidence.model) or state.contradiction:
        time.sleep(CONFIRM_S)
        state = session.observer.read()
    return state


def wait_for_sleep(session: Session) -> State:
    """Who is online, as soon as that is nobody, or when the wait is over."""
    run, begun_s, model = session.run, time.monotonic(), session.evidence.model
    state, limit_s = read_before(session), run.args.wait_asleep
    if limit_s is None or state.error or state.is_asleep(model):
        return state
    warn_of_expiry(session, limit_s)
    interval_s = min(5.0, max(SLOW_POLL_S, limit_s / 100))
    awake = listed(state.online_for(model))
    label = f"waiting up to {limit_s:g} s until nobody is online; online now: {awake}"
    with run.progress(label, math.ceil(limit_s / interval_s)) as step:
        while not state.is_asleep(model) and not state.stop:
            left_s = begun_s + limit_s - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(interval_s, left_s))
            if time.monotonic() - session.renewed_s >= RENEW_S:
                session.renew_tokens()
            state = read_before(session)
            step()
    session.evidence.waited_s = waited_s = time.monotonic() - begun_s
    if state.is_asleep(model):
        run.note(f"nobody is online after {waited_s:.1f} s; {SETTLE_S:g} s more to fall asleep")
        time.sleep(SETTLE_S)
        session.renew_tokens()
        state = session.observer.read()
    return state


def warn_of_expiry(session: Session, limit_s: float) -> None:
    """Say so when a token that cannot be renewed may expire during the wait."""
    expiry = number((claims(session.token or "") or {}).get("exp"))
    if expiry is not None and not session.run.credentials.has_binary:
        left_s = expiry - time.time()
        if left_s < limit_s:
            text = f"warning: the token expires in {max(0.0, left_s):.0f} s, during the wait"
            session.run.note(f"{text}; --token-binary makes new ones")


def announcement(evidence: Evidence, args: argparse.Namespace) -> str:
    count = f"{args.burst} times at once" if args.burst else "once"
    state, who = evidence.before, "it is not known who is online"
    if evidence.was_asleep:
        who = f"{nobody(evidence)} is online"
    elif state and not state.error:
        who = f"online: {listed(state.online_for(evidence.model))}"
    return f"{who}; asking {evidence.model} {count}, for up to {args.timeout:g} s"


def watch_on(session: Session) -> None:
    """After a request that failed before anybody was online: see whether a runner still comes."""
    evidence = session.evidence
    is_known = any(a.status == 200 or is_refused(a) or a.is_rate_limited for a in evidence.answers)
    if is_known or not evidence.was_asleep:
        return
    read_log_after(session)
    session.collect_packets()
    unsure_s = 0.0 if evidence.log_entries else UNSURE_S
    length_s = WATCH_ON_S if evidence.shows_waking else unsure_s
    left_s = min(length_s, session.run.args.timeout) - evidence.since_s(time.perf_counter_ns())
    end_s = time.monotonic() + left_s
    if left_s > 0:
        session.run.note("the request failed; still watching, because a runner may be starting")
    while evidence.newcomers is None and time.monotonic() < end_s:
        time.sleep(TICK_S)


def read_after(session: Session) -> None:
    """Who is online now; again for a few seconds while what answered is not listed."""
    evidence, end_s = session.evidence, time.monotonic() + RELIST_S
    while True:
        evidence.after = state = session.observer.read()
        if evidence.changes:
            evidence.changes.look_for_newcomers(state)
        is_settled = not evidence.served or evidence.is_listed(state)
        if is_settled or state.stop or time.monotonic() >= end_s:
            return
        time.sleep(RETRY_S)


def read_log_after(session: Session) -> None:
    """The log, as soon as every request is in it, and the packet when one must have been sent."""
    evidence, end_s = session.evidence, time.monotonic() + LOG_S
    while evidence.no_log is None:
        evidence.log_after = session.read_log()
        is_complete = len(evidence.log_entries) >= len(evidence.answers)
        needs_packet = evidence.was_asleep and bool(evidence.served)
        is_settled = is_complete and (evidence.is_wol_logged or not needs_packet)
        if is_settled or time.monotonic() >= end_s:
            return
        time.sleep(RETRY_S)


# --- judge


def judge(evidence: Evidence, args: argparse.Namespace) -> list[Check]:
    """All checks. Those that need an option are there when it was given, or --only names them."""
    checks = [
        check_state(evidence),
        check_request(evidence, args.timeout),
        check_wake(evidence, args.allow_awake),
        check_registered(evidence),
        check_wol_sent(evidence),
    ]
    optional = (
        ("packet", evidence.heard is not None, check_packet, "needs --listen-wol"),
        ("woken_once", args.burst, check_woken_once, "needs --burst N: there was one request"),
        ("timing", args.timing, check_timing, "needs --timing"),
    )
    for name, is_given, check, reason in optional:
        if is_given:
            checks.append(check(evidence))
        elif name in (args.only or ()):
            checks.append(undecided(name, reason))
    shown = telling([*evidence.answers, *evidence.warm], lambda each: not is_served(each))
    checks = [each.shown_by(shown) for each in checks]
    return [*checks, form.check_form([*evidence.answers, *evidence.warm])]


def nobody(evidence: Evidence) -> str:
    """Who sleeps: everybody, or all that have the model."""
    state = evidence.before
    has_others = state is not None and bool(state.online or state.models)
    if has_others and is_concrete(evidence.model):
        return f"nobody with {shorten(evidence.model, 40)}"
    return "nobody"


def check_state(evidence: Evidence) -> Check:
    """Who is online can be read, and the fleet's two lists agree."""
    state = evidence.before
    if state is None:
        return undecided("state", "the run ended before the lists were read")
    if state.rate_limit:
        return undecided("state", state.rate_limit)
    if state.error is not None:
        return Check("state", Status.FAIL, f"cannot read who is online: {state.error}")
    numbers: dict[str, Any] = {"online": None, "known": None, "models": len(state.models or ())}
    if state.runners is not None:
        numbers |= {"online": len(state.online), "known": len(state.runners)}
    detail = state.words(evidence.model)
    if state.runners is None and evidence.no_admin:
        detail += f"; the runners behind it are not shown: {evidence.no_admin}"
    if state.contradiction:
        return Check("state", Status.WARN, state.contradiction, numbers)
    if evidence.was_asleep and state.runners and not evidence.served:
        asleep = [each for each in state.runners if not each.is_online]
        able = [runner for runner in asleep if may_serve(runner, evidence.model)]
        if not macs(able):
            detail += f"; no MAC address is known of {names(able) or 'any runner of the model'}"
            return Check("state", Status.WARN, f"{detail}: nobody can be woken", numbers)
    return Check("state", Status.PASS, detail, numbers)


def check_request(evidence: Evidence, timeout_s: float) -> Check:
    """Every request is answered with content; above all the one that wakes a runner."""
    answers, sent = evidence.answers, len(evidence.answers)
    if not answers:
        return undecided("request", "no request was sent")
    limited = [answer for answer in answers if answer.is_rate_limited]
    failed = [a for a in answers if not is_served(a) and not a.is_rate_limited]
    numbers = {"requests": sent, "served": len(evidence.served)}
    if evidence.by_another_model:
        return Check("request", Status.FAIL, another_model_words(evidence), numbers)
    if failed:
        return Check("request", Status.FAIL, failure_words(failed, evidence, timeout_s), numbers)
    if limited:
        return undecided("request", rate_limit_words(limited[0]))
    first = evidence.first_served
    assert first
    model = shorten(first.completion.model or "an unnamed model", 60)
    whole = f"{sent} of {sent} answered" if sent > 1 else "answered"
    detail = f"{whole} by {model}; the first output came after {in_words(evidence.first_output_s)}"
    if sent > 1:
        detail += f", that of the last answer after {in_words(evidence.slowest_output_s)}"
    detail += notices.beside([first], option=None)
    if notices.unexplained(answers):
        return undecided("request", f"cannot tell: {detail}", numbers)
    status = Status.WARN if notices.silent(answers) else Status.PASS
    return Check("request", status, detail, numbers)


def another_model_words(evidence: Evidence) -> str:
    found, sent = evidence.by_another_model, len(evidence.answers)
    models = listed(list(dict.fromkeys(answer.completion.model or "" for answer in found)))
    which = f"{len(found)} of {sent} answered" if sent > 1 else "answered"
    return f"asked for {shorten(evidence.model, 40)}, {which} by another model: {models}"


def failure_words(failed: Sequence[Answer], evidence: Evidence, timeout_s: float) -> str:
    """What was said instead of an answer, and what it may mean."""
    sent = len(evidence.answers)
    kinds = Counter(map(problem_of, failed))
    said = "; ".join(f"{text} (x{count})" if count > 1 else text for text, count in kinds.items())
    said = said.rstrip(".")
    detail = f"{len(failed)} of {sent} failed: {said}" if sent > 1 else said
    if any(answer.is_denied for answer in failed) and is_concrete(evidence.model):
        return f"{detail}; asking for a model by name needs the role {SPECIFIC} (--token-binary)"
    if any(map(is_refused, failed)):
        return detail
    if awake := evidence.before.online_for(evidence.model) if evidence.before else []:
        detail += f"; listed as online: {listed(awake)}"
        # a server that names the class says that it has nobody for just this class
        is_explained = evidence.model.removeprefix("class:") in said
        return detail if is_explained else f"{detail}; did a runner fall asleep unnoticed?"
    if came := evidence.newcomers:
        return f"{detail}; {listed(came.names)} came online {after_request(evidence, came.at_ns)}"
    if any(answer.timed_out for answer in failed):
        return f"{detail}; if the machine needs longer, use --timeout {max(180, 2 * timeout_s):g}"
    return detail


def check_wake(evidence: Evidence, allow_awake: bool) -> Check:
    """Nobody was awake, and the request woke a runner."""
    state, answers = evidence.before, evidence.answers
    if state is None or state.error is not None or not answers:
        return undecided("wake", "it is not known whether anybody was awake")
    if evidence.by_another_model and not evidence.served:
        return undecided("wake", "another model answered: it is not known whether this one wakes")
    if not evidence.was_asleep:
        return check_wake_awake(evidence, state, allow_awake)
    if limited := next((answer for answer in answers if answer.is_rate_limited), None):
        return undecided("wake", rate_limit_words(limited))
    check_asleep = check_wake_served if evidence.served else check_wake_failed
    check = check_asleep(evidence, state)
    if check.status is Status.PASS and state.contradiction:
        return Check(
            "wake", Status.WARN, f"{check.detail}; but before the request, {state.contradiction}"
        )
    return check


def check_wake_failed(evidence: Evidence, state: State) -> Check:
    """Nobody was online, and the request was not served."""
    if came := evidence.newcomers:
        detail = f"the request failed, but {listed(came.names)} came online "
        return Check("wake", Status.PASS, detail + after_request(evidence, came.at_ns))
    if all(map(is_refused, evidence.answers)):
        return undecided("wake", f"the request was refused: {problem_of(evidence.answers[0])}")
    if state.runners and not any(may_serve(each, evidence.model) for each in state.runners):
        return undecided("wake", "no known runner has the model: there is nobody to wake")
    if evidence.after is None or evidence.after.error is not None:
        return undecided("wake", "the request failed, and who is online now cannot be read")
    spent = in_words(evidence.since_s(evidence.after.at_ns))
    return Check("wake", Status.FAIL, f"nobody came online in {spent}; {where_to_look(evidence)}")


def where_to_look(evidence: Evidence) -> str:
    """What may be the reason when nobody woke."""
    if evidence.packets.for_targets:
        return "a packet was sent: is Wake-on-LAN enabled in the machine's firmware and system?"
    if evidence.packets.heard:
        return "the packet that was sent could not wake it"
    if evidence.heard is not None:
        return "no packet was heard: does the gateway send any?"
    if evidence.is_wol_logged:
        return "the log says that a packet was sent: --listen-wol in the machine's LAN hears it"
    if evidence.log_entries:
        return "the gateway's log says that it sent no packet"
    return "--listen-wol in the machine's LAN shows whether a packet was sent"


def check_wake_served(evidence: Evidence, state: State) -> Check:
    """Nobody was online, and the request was served: by a runner that came online for it?"""
    after, wait_s = evidence.after, evidence.first_output_s or 0.0
    detail = f"{nobody(evidence)} was online; the first output came after {in_words(wait_s)}"
    numbers = {"first_output_s": round(wait_s, 4)}
    if wait_s < MIN_WAKE_S:
        return check_too_fast(evidence, state, detail, numbers)
    if came := evidence.newcomers:
        detail += f"; online now: {listed(came.names)}"
        return Check("wake", Status.PASS, detail, numbers)
    if evidence.is_wol_logged or evidence.packets.for_targets:
        return Check("wake", Status.PASS, f"{detail}, and a packet was sent", numbers)
    if after is None or after.error is not None:
        reason = (after.rate_limit or after.error) if after else "the run ended before"
        return undecided("wake", f"{detail}; cannot read who is online now: {reason}")
    detail += ", but nobody came online: was a runner awake and slow, and the list out of date?"
    return Check("wake", Status.WARN, detail, numbers)


def check_too_fast(evidence: Evidence, state: State, detail: str, numbers: dict[str, Any]) -> Check:
    """It answered sooner than a machine wakes: it was awake, and the list did not say so."""
    if state.runners is None and state.models:
        said = f"{shorten(evidence.model, 40)} is not listed by this name, and answered at once"
        return undecided("wake", f"it is not known whether it was asleep: {said}")
    source = api.RUNNERS if state.runners is not None else chat.MODELS
    detail += f". No machine wakes so fast: is {source} out of date?"
    return Check("wake", Status.WARN, detail, numbers)


def check_wake_awake(evidence: Evidence, state: State, allow_awake: bool) -> Check:
    """Somebody was online, so nobody had to be woken; unless the list was wrong."""
    awake, came = state.online_for(evidence.model), evidence.newcomers
    is_slow = (evidence.first_output_s or 0.0) >= MIN_WAKE_S
    if came and is_slow and evidence.shows_waking:
        detail = f"{listed(awake)} was online, {listed(came.names)} was woken"
        if state.runners is not None and is_concrete(evidence.model) and len(evidence.answers) == 1:
            detail += f", although the first offers {shorten(evidence.model, 40)} as well; the "
            detail += f"request waited {in_words(evidence.first_output_s)} for it"
            return Check("wake", Status.WARN, detail)
        return Check("wake", Status.PASS, detail)
    if sign := sign_of_sleep(evidence, state):
        detail = f"listed as online: {listed(awake)}; but {sign}: the list is out of date"
        return Check("wake", Status.WARN, detail)
    what = "runner" if state.runners is not None else "model"
    detail = f"nothing to wake: {plural(len(awake), what)} online"
    if evidence.waited_s is not None:
        detail += f", after {evidence.waited_s:.0f} s of waiting for sleep"
    if not allow_awake:
        detail += "; --wait-asleep waits until they sleep, --allow-awake accepts this"
    return Check("wake", Status.SKIP, detail, essential=not allow_awake)


def sign_of_sleep(evidence: Evidence, state: State) -> str | None:
    """What says that a runner that is listed as online had to be woken."""
    woken = [each.packet.mac for each in evidence.packets.heard if each.packet.mac]
    if mac := next((mac for mac in woken if mac in macs(state.online)), None):
        return f"a packet was sent to wake {mac}"
    asleep = [each for each in state.runners or () if not each.is_online]
    may_wake = any(may_serve(runner, evidence.model) for runner in asleep)
    if state.runners is not None and not may_wake and evidence.is_wol_logged:
        return "the log has wol_sent"
    return None


def check_registered(evidence: Evidence) -> Check:
    """The model that answered is listed, and a runner that offers it is online."""
    name, state = "registered", evidence.after
    if not evidence.served or state is None:
        is_other = bool(evidence.by_another_model)
        return skip(name, "another model answered" if is_other else "the request was not answered")
    if state.rate_limit:
        return undecided(name, state.rate_limit)
    if state.error is not None:
        return Check(name, Status.FAIL, f"cannot read who is online now: {state.error}")
    if not evidence.models_that_answered:
        return check_registered_nameless(state)
    for model in evidence.models_that_answered:
        if not state.lists(model):
            return check_not_listed(evidence, state, model)
        if not state.has_runner_for(model):
            said = f"{shorten(model, 40)} answered, but {api.RUNNERS} shows no runner of it online"
            return Check(name, Status.FAIL, f"{said}; online: {names(state.online) or 'nobody'}")
    if gone := evidence.offline_runner(state):
        said = f"the log says that {gone} served it, but {api.RUNNERS} shows {gone} offline"
        return Check(name, Status.FAIL, said)
    return Check(name, Status.PASS, registered_words(evidence, state))


def check_registered_nameless(state: State) -> Check:
    """An answer that names no model: somebody, at least, has to be listed."""
    said = "the request was answered, but"
    if state.runners is not None and not state.online:
        return Check("registered", Status.FAIL, f"{said} {api.RUNNERS} shows nobody online")
    if not state.models:
        return Check("registered", Status.FAIL, f"{said} {chat.MODELS} is empty")
    return skip("registered", "the answer names no model")


def check_not_listed(evidence: Evidence, state: State, model: str) -> Check:
    """A model answered under a name that /v1/models does not list: is it an alias?"""
    models = listed(state.models or ()) or "nothing"
    said = f"{shorten(model, 40)} answered, but {chat.MODELS} lists {models}"
    if alias := evidence.alias_of(model, state):
        return Check("registered", Status.WARN, f"{said}: is it an alias of {alias}?")
    return Check("registered", Status.FAIL, said)


def registered_words(evidence: Evidence, state: State) -> str:
    models = evidence.models_that_answered
    detail = f"{chat.MODELS} lists {listed(models)}"
    if state.runners is None:
        return detail
    online = [r for r in state.online if any(may_serve(r, model) for model in models)]
    return f"{detail}, {api.RUNNERS} shows {names(online)} online"


def check_wol_sent(evidence: Evidence) -> Check:
    """The gateway's own log says that it sent a packet."""
    name, entries = "wol_sent", evidence.log_entries
    if evidence.no_log is not None:
        return skip(name, f"the log cannot be read: {evidence.no_log}")
    if evidence.log_before is None or evidence.log_after is None:
        return skip(name, "the log was not read")
    sent = evidence.wol_logged
    is_other = bool(evidence.by_another_model) and not evidence.served
    if not sent and (is_other or not evidence.was_asleep):
        return skip(name, "nobody had to be woken")
    numbers = {"entries": len(entries), "wol_sent": sent}
    if not entries and not evidence.served:
        return skip(name, "the request failed, and is not in the log")
    if not entries and evidence.shows_old_log:
        detail = "the log's first page is full, and does not show the newest entries"
        return skip(name, detail, numbers)
    if not entries:
        detail = f"the request is not in the log within {LOG_S:g} s of its end"
        return Check(name, Status.WARN, detail, numbers)
    detail = f"set in {sent} of {len(entries)} new entries of the log"
    if sent and evidence.is_wake_needless:
        return Check(name, Status.WARN, detail + needless_words(evidence), numbers)
    if sent:
        return Check(name, Status.PASS, detail, numbers)
    if evidence.served or evidence.newcomers:
        detail += ": did something else wake the runner?"
    return Check(name, Status.WARN, detail, numbers)


def needless_words(evidence: Evidence) -> str:
    """A packet was sent, and the request did not need any."""
    awake = listed(evidence.before.online_for(evidence.model)) if evidence.before else "nobody"
    detail = f", although {awake} was online, and the first output came after "
    return f"{detail}{in_words(evidence.first_output_s)}: why was a packet sent?"


def check_packet(evidence: Evidence) -> Check:
    """A well-formed magic packet for a runner's MAC was on the network."""
    packets, name = evidence.packets, "packet"
    bad, right = packets.malformed, packets.for_targets
    counts = magic_packet.by_mac(packets.heard)
    numbers = {"packets": magic_packet.named_counts(packets.heard), "malformed": len(bad)}
    if not evidence.answers:
        return skip(name, "no request was sent")
    if not evidence.was_asleep and not packets.heard:
        return skip(name, "nobody had to be woken, and no packet was heard")
    if not right and evidence.has_missed_packets:
        return skip(name, f"not decided: {MISSED}", numbers)
    if bad and not right:
        detail = f"malformed packet, {bad[0].words}: {bad[0].packet.problem}"
        return Check(name, Status.FAIL, detail, numbers)
    if not counts:
        return check_nothing_heard(evidence, numbers)
    heard = listed([f"{plural(count, 'packet')} for {mac}" for mac, count in counts.items()], 4)
    if not right:
        return check_other_machines(evidence, heard, numbers)
    detail = f"{heard}, {right[0].words}, {after_request(evidence, right[0].at_ns)}"
    if odd := next((each.packet.oddity for each in right if each.packet.oddity), None):
        return Check(name, Status.WARN, f"{detail}: {odd}", numbers)
    if bad:
        detail += f"; and {len(bad)} malformed: {bad[0].packet.problem}"
        return Check(name, Status.WARN, detail, numbers)
    if others := evidence.strangers_woken:
        detail = f"{heard}; {listed(others)} was sent a packet too, and does not offer the model"
        return Check(name, Status.WARN, detail, numbers)
    if evidence.is_wake_needless:
        return Check(name, Status.WARN, detail + needless_words(evidence), numbers)
    return Check(name, Status.PASS, detail, numbers)


def check_other_machines(evidence: Evidence, heard: str, numbers: dict[str, Any]) -> Check:
    """Only packets for other machines. If ours woke all the same, they are somebody else's."""
    targets = " or ".join(sorted(evidence.packets.targets)[:4])
    fleet = macs((evidence.before and evidence.before.runners) or ())
    is_foreign = not any(each.packet.mac in fleet for each in evidence.packets.heard)
    if (evidence.served or evidence.newcomers) and is_foreign and not evidence.expected_macs:
        detail = f"a runner woke, but no packet for {targets} was heard"
        detail += f"; {heard}, perhaps for somebody else's machine"
        return Check("packet", Status.WARN, detail, numbers)
    whose = "the expected" if evidence.expected_macs else "the runner's"
    detail = f"wrong machine: {heard}, but {whose} MAC is {targets}"
    return Check("packet", Status.FAIL, detail, numbers)


def check_nothing_heard(evidence: Evidence, numbers: dict[str, Any]) -> Check:
    """The fleet slept, and no packet was heard."""
    others = plural(evidence.other_datagrams, "other datagram")
    detail = "no packet was heard" + (f" ({others} came)" if evidence.other_datagrams else "")
    if evidence.served or evidence.newcomers:
        detail += ", and yet a runner woke: was one sent by a relay in another network segment, "
        return Check("packet", Status.WARN, f"{detail}or to another port?", numbers)
    if any(is_refused(answer) or answer.is_rate_limited for answer in evidence.answers):
        return skip("packet", "the request was refused: nobody had to be woken")
    detail += ", and nobody woke"
    if evidence.is_wol_logged:
        detail += ", but the log says that one was sent: to the right network and port?"
    return Check("packet", Status.FAIL, detail, numbers)


def check_woken_once(evidence: Evidence) -> Check:
    """Many requests that wait for the same runner wake it once.

    The packets that are heard tell it; where none is heard, the gateway's own log does.
    """
    name = "woken_once"
    if not evidence.answers:
        return skip(name, "no request was sent")
    if not evidence.was_asleep:
        return skip(name, "nobody had to be woken")
    if evidence.packets.for_targets:
        return check_packets_once(evidence)
    return check_logged_once(evidence)


def check_packets_once(evidence: Evidence) -> Check:
    """By the packets. A sender may repeat one, as nobody confirms it, or wake every machine that
    offers the model; but with about as many packets as requests, each request sends its own."""
    name, count = "woken_once", len(evidence.answers)
    packets = evidence.packets.sent_together(TOGETHER_S)
    most = max(packets.values())
    wakes = sum(number if number > MAX_REPEATS else 1 for number in packets.values())
    for_whom = listed(list(packets)) if len(packets) < 3 else f"{len(packets)} machines"
    total = plural(sum(packets.values()), "packet")
    detail = f"{total} for {for_whom} and {count} requests at once"
    numbers = {
        "packets": dict(packets.most_common(magic_packet.MAX_NAMED)),
        "most_packets": most,
        "requests": count,
    }
    numbers |= {"wol_sent": evidence.wol_logged if evidence.is_log_complete else None}
    if most > MAX_REPEATS and wakes >= max(2, count - 1):
        return Check(name, Status.WARN, f"{detail}: each request sends a packet", numbers)
    if evidence.has_missed_packets:
        return skip(name, f"not decided: {detail}, but {MISSED}", numbers)
    if evidence.own_wol_logged > sum(packets.values()):
        detail += (
            f"; the log has wol_sent in {evidence.wol_logged} entries, and more than was heard"
        )
    return Check(name, Status.PASS, detail, numbers)


def check_logged_once(evidence: Evidence) -> Check:
    """By the log. It does not tell for whom a packet was, but how many requests sent one."""
    name, count, entries = "woken_once", len(evidence.answers), len(evidence.log_entries)
    numbers = {"requests": count, "entries": entries, "wol_sent": evidence.wol_logged}
    detail = f"the log has wol_sent in {evidence.wol_logged} of {entries} new entries"
    if evidence.own_wol_logged > 1:
        detail += f", for {count} requests at once: each of these seems to send a packet"
        if evidence.heard is None:
            detail += "; --listen-wol counts the packets"
        return Check(name, Status.WARN, detail, numbers)
    if evidence.is_log_complete and evidence.wol_logged == 1:
        return Check(name, Status.PASS, f"{detail}, for {count} requests at once", numbers)
    if evidence.heard is not None:
        return skip(name, f"no packet for a runner of the model was heard, and {detail}", numbers)
    reason = evidence.no_log or detail
    return skip(name, f"needs --listen-wol, or a log that tells: {reason}", numbers)


def check_timing(evidence: Evidence) -> Check:
    """How long the wake took, and whether the fleet is fast from then on."""
    wait_s, warm = evidence.first_output_s, next(iter(evidence.warm), None)
    if warm and warm.status == 401:
        detail = f"the next request was refused: {problem_of(warm)}; has the token expired?"
        return Check("timing", Status.WARN, detail)
    if warm and not is_served(warm) and not warm.is_rate_limited:
        return Check("timing", Status.FAIL, f"the next request failed: {problem_of(warm)}")
    if wait_s is None:
        return skip("timing", "there is no answer to time")
    warm_s = evidence.warm_output_s
    beside = f"; warm {in_words(warm_s)}" if warm_s is not None else ""
    if not evidence.was_asleep:
        detail = f"nobody was woken: the first output came after {in_words(wait_s)}"
        return skip("timing", detail + beside)
    numbers = {"cold_start_s": round(wait_s, 4), "warm_s": warm_s and round(warm_s, 4)}
    if warm and warm.is_rate_limited:
        return undecided("timing", f"cold {in_words(wait_s)}; warm: {rate_limit_words(warm)}")
    pace = "fast" if wait_s < FAST_S else "moderate" if wait_s <= MODERATE_S else "slow"
    limits = f"under {FAST_S:g} s is fast, up to {MODERATE_S:g} s moderate"
    detail = f"{pace}: the first output came after {in_words(wait_s)}{beside} ({limits})"
    return Check("timing", Status.WARN if pace == "slow" else Status.PASS, detail, numbers)


# --- show


def in_words(seconds: float | None) -> str:
    return duration(None if seconds is None else seconds * 1e3)


def after_request(evidence: Evidence, at_ns: int) -> str:
    return f"{in_words(evidence.since_s(at_ns))} after the request"


def lines(evidence: Evidence, url: str) -> list[str]:
    """The phases, counted from the request."""
    state, first, came = evidence.before, evidence.first_served, evidence.newcomers
    rows = [shorten(f"Waking {evidence.model} at {url}", 80)]
    if state is not None and state.error is None:
        rows.append(shorten(f"Before: {state.words(evidence.model)}", 80))
    heard: dict[str, Heard] = {}
    for each in evidence.packets.heard:
        heard.setdefault(each.packet.mac or "malformed", each)
    for mac, each in list(heard.items())[:4]:
        rows.append(row("packet heard", evidence.since_s(each.at_ns), f"{mac}, {each.words}"))
    if came:
        rows.append(row("runner online", evidence.since_s(came.at_ns), listed(came.names)))
    if first is not None:
        rows.append(row("first output", evidence.first_output_s, first.completion.model or ""))
    if len(evidence.served) > 1:
        note = f"of {len(evidence.served)} requests"
        rows.append(row("last first output", evidence.slowest_output_s, note))
    ends = [answer.ended_ns for answer in evidence.answers if answer.ended_ns is not None]
    if ends:
        rows.append(row("end", evidence.since_s(max(ends)), end_words(evidence, len(ends))))
    if evidence.warm:
        rows.append(row("warm first output", evidence.warm_output_s, "the request after it"))
    return rows


def row(label: str, at_s: float | None, note: str = "") -> str:
    return f"  {label:18}{in_words(at_s):>9}  {shorten(note, 49)}".rstrip()


def end_words(evidence: Evidence, ended: int) -> str:
    if others := evidence.by_another_model:
        return f"{len(others)} of {ended} by another model"
    failed = sum(not is_served(answer) for answer in evidence.answers)
    return f"{failed} of {ended} failed" if failed else ""


def metrics(evidence: Evidence) -> dict[str, Any]:
    """The phases in seconds from the request; null for what was not seen."""
    came, state = evidence.newcomers, evidence.before
    packets, listened = evidence.packets.well_formed, evidence.heard is not None
    is_known = state is not None and state.error is None
    return {
        "asleep_before": evidence.was_asleep if is_known else None,
        "runners_online_before": len(state.online) if state and state.runners is not None else None,
        "waited_for_sleep_s": rounded(evidence.waited_s),
        "requests": len(evidence.answers),
        "served": len(evidence.served),
        "packet_s": rounded(evidence.since_s(packets[0].at_ns)) if packets else None,
        "packets": magic_packet.named_counts(packets) if listened else None,
        "packets_before": evidence.packets_before if listened else None,
        "runner_online_s": rounded(evidence.since_s(came.at_ns)) if came else None,
        "first_output_s": rounded(evidence.first_output_s),
        "slowest_first_output_s": rounded(evidence.slowest_output_s),
        "warm_first_output_s": rounded(evidence.warm_output_s),
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def records(evidence: Evidence) -> list[dict[str, Any]]:
    """Everything that was sent, read and heard, in its order."""
    start_ns = evidence.start_ns
    asked = [("wake", each) for each in evidence.answers] + [("warm", e) for e in evidence.warm]
    found = [chat_record(n, phase, each, start_ns) for n, (phase, each) in enumerate(asked)]
    found += [each.record(start_ns) for each in (evidence.before, evidence.after) if each]
    found += evidence.changes.records if evidence.changes else []
    found += [each.record(start_ns) for each in evidence.heard or ()]
    return sorted(found, key=lambda record: float(record["at_s"] or 0.0))


def chat_record(index: int, phase: str, answer: Answer, start_ns: int) -> dict[str, Any]:
    record, sent_ns = answer.record(start_ns), answer.sent_ns
    if is_served(answer) and answer.first_output_ns is None:  # it was not streamed
        spent_ms = ms((answer.ended_ns or 0) - (sent_ns or 0))
        record |= {"error": None, "error_text": None, "ttft_ms": spent_ms, "e2e_ms": spent_ms}
    at_s = None if sent_ns is None else rounded((sent_ns - start_ns) / 1e9)
    model = api.short_text(answer.completion.model)
    more = {"model": model, "index": index, "at_s": at_s}
    return {"kind": "chat", "phase": phase, **record, **more}


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare=check_options)


if __name__ == "__main__":
    interruption.end_with(main)
