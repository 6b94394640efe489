#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Is the key's rate limit kept: never more requests than it allows, and never fewer?

Uses the limit up, one request after the other, and tries to get around it; then it waits until the
window is over and sends more requests than are allowed all at once. Every refusal is read, and its
Retry-After is tried out.

PASS: exactly as many as the limit allows are served, whichever way they come; the others get a 429
that says when to come back, and that is true.
Cost: about 3 times the limit in requests for the list of models (for completions of one token, if
that list is not limited), and the time of two windows, 2 minutes by default; six windows if what
was seen has to be repeated. MEANWHILE THE KEY IS REFUSED TO EVERYBODY ELSE, so use a key of its
own. A key that others use as well cannot be judged: the line says so, and the exit code is 3.

Examples:
    # the guide's gateway: 100 requests a minute for each key
    python3 test_rate_limit.py --url https://host:8000 --api-key sk-key
    # another limit, and a second key that must not feel it
    python3 test_rate_limit.py --url https://host:8000 --limit 20 --window 10 --other-key sk-other
    # only completions are limited
    python3 test_rate_limit.py --url https://host:8000 --path /v1/chat/completions
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import common
from common import CannotCheck, Check, Run
from livecheck.core.checks import failed, passed, skip, telling, undecided, warned, with_answers
from livecheck.core.credentials import check_token
from livecheck.core.json_value import quoted
from livecheck.core.options import option_type
from livecheck.core.text import counted, listed, plural, shorten
from livecheck.gateway import limit_evidence as steps
from livecheck.gateway.limit_evidence import (
    PLAIN,
    Asked,
    Evidence,
    Fate,
    error_code,
    said_wait_s,
    sure_and_possible,
    turns,
)
from livecheck.gateway.limit_session import (
    AROUND_TRIES,
    OTHER_TRIES,
    TRIES,
    Ended,
    LimitSession,
    cost_words,
    count_of_bursts,
    is_let_around,
    ways_around,
)
from livecheck.gateway.plans import plan_rate_limit
from livecheck.gateway.retry_after import read_retry_after
from livecheck.wire import chat, dialect
from livecheck.wire.answer import Answer
from livecheck.wire.asking import open_wire, rate_limit_words
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.wire import Request

CHECKS = (
    *("one_by_one", "at_once", "window", "refusal", "retry_after"),
    *("charged", "dodges", "other_key", "probes", "counters"),
)
OTHER_KEY = "INFERENCE_OTHER_KEY"
CODE = "rate_limit_exceeded"  # in the error of the guide's gateway, as in OpenAI's
NOT_ASKED = "not asked"
MOST = 2000  # requests of a limit that this script tries: they are all sent at once
LEAST_COUNTED = 0.1  # of what was served: with a smaller share of it no gateway is content
COUNTED = ("at_once", "counters", "refusal", "retry_after")  # checks that need /metrics
# the checks for which a window has to be over
OVER_TIME = ("one_by_one", "at_once", "window", "retry_after", "charged", "counters")
ROWS = {  # of what is shown: a step, and what it is
    steps.ALONE: "one after the other",
    steps.NOW: "at once, after that",
    steps.AROUND: "beside ways around the limit",
    steps.HALF: "half a window later",
    steps.BURST: "at once, a window later",
    steps.PRESS: "at once, half a window later",
    steps.AGAIN: "at once, another time",
    steps.RESTED: "at once, after two windows",
    steps.CONTROL: "one after that burst",
    steps.EARLY: "half way to Retry-After",
    steps.PROOF: "after Retry-After",
}


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_rate_limit)
    add = parser.add_argument_group("the limit").add_argument
    limit = "requests that the key may send in a window (default %(default)s)"
    add("--limit", type=common.whole_number(1, MOST), default=100, metavar="N", help=limit)
    window = "length of the window (default %(default)g)"
    add("--window", type=common.seconds, default=60.0, metavar="SECONDS", help=window)
    path = f"what to ask for (default {chat.MODELS}, if that is limited)"
    add("--path", type=option_type(parse_path), metavar="PATH", help=path)
    other = f"another key, with a limit of its own (or {OTHER_KEY})"
    add("--other-key", metavar="KEY", help=other)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    return parser


def parse_path(text: str) -> str:
    """ValueError unless it is a path."""
    if not text.startswith("/") or not text.isprintable() or not text.isascii() or " " in text:
        raise ValueError(f"{quoted(text)} is not a path: write one as {chat.MODELS}")
    return text


def prepare(args: argparse.Namespace) -> None:
    """ValueError for a key that cannot be one."""
    if args.other_key is not None:
        check_token(args.other_key, "--other-key")


# --- measure


def other_key_of(run: Run, token: str | None) -> str | None:
    key: str | None = run.args.other_key or run.look_up(OTHER_KEY)
    if key is None:
        return None
    try:
        run.secrets.add(check_token(key, OTHER_KEY))
    except ValueError as error:
        raise CannotCheck(str(error)) from None
    if key == token:
        raise CannotCheck("the other key is the key itself: give --other-key another one")
    return key


def question_for(path: str, model: str) -> Callable[[], Request]:
    """What is asked again and again: as cheap as the path allows."""
    if path.endswith(chat.COMPLETIONS.rpartition("/v1")[2]):
        return lambda: chat.completion(model, "Say yes.", 1, stream=False)
    return lambda: chat.get(path)


def is_unlimited(evidence: Evidence) -> bool:
    """Whether nothing was refused, although it should have been."""
    asked = evidence.of(steps.ALONE, steps.NOW)
    return evidence.has(steps.NOW) and all(each.fate is Fate.SERVED for each in asked)


def ask_while_refused(session: LimitSession) -> None:
    """What has to be tried while the limit is reached."""
    wants = session.run.wants
    if wants("dodges"):
        session.ask_around()
    if session.other_key and wants("other_key"):
        session.ask_other_again()
    if wants("probes"):
        session.ask_probes()


def ask_all(session: LimitSession) -> None:
    """All steps. Raises Ended."""
    run, evidence = session.run, session.evidence
    if session.other_key and run.wants("other_key"):
        session.ask_other()
    session.ask_alone()
    if not evidence.count(steps.ALONE):
        raise CannotCheck(why_none(evidence))
    if not evidence.count(steps.ALONE, Fate.REFUSED) and not evidence.is_slow:
        if evidence.troubles:
            return
        session.ask_at_once_now()
        if is_unlimited(evidence):
            return
    is_reached = not evidence.is_slow
    if is_reached:
        ask_while_refused(session)
    if not any(map(run.wants, OVER_TIME)):
        return
    if is_reached:
        session.ask_at_half()
    session.ask_burst()
    if not is_reached:
        if session.one(steps.CONTROL).fate is Fate.REFUSED:
            ask_while_refused(session)
    elif evidence.is_early:
        session.press()
    if run.wants("at_once"):
        session.repeat_bursts()
    if run.wants("retry_after"):
        session.prove_retry_after()


def why_none(evidence: Evidence) -> str:
    """The line that ends the run when not a single request was served."""
    first = evidence.of(steps.ALONE)[0]
    if first.is_limit:
        return rate_limit_words(first.answer)
    return f"{evidence.path} is not served ({first.outcome}): --path asks for something else"


def measure_path(session: LimitSession) -> None:
    """All that is found out about one path. What was asked is kept, also when interrupted."""
    evidence, run = session.evidence, session.run
    if any(map(run.wants, COUNTED)):
        evidence.before = session.read_counters()
    try:
        ask_all(session)
        session.read_counters_at_last()
    except Ended:
        pass
    evidence.earlier += len(dialect.of_run(run).refused)  # each was a request that was refused


def measure(run: Run) -> None:
    args, document = run.args, run.document("rate_limit")
    token = run.token()
    other = other_key_of(run, token)
    evidence = Evidence(args.limit, args.window, args.path or chat.MODELS)
    run.note_wrapped(cost_words(args.limit, evidence.surplus, args.window))
    before: list[Asked] = []
    with open_wire(run, token) as wire:
        (contact,) = chat.first_contact(run, wire, [chat.get(chat.MODELS)])
        before.append(Asked(steps.CONTACT, PLAIN, 0, contact))

        def ask() -> None:
            is_cheap = evidence.path == chat.MODELS
            model = run.target["model"] = None if is_cheap else model_to_ask(run, contact)
            question = question_for(evidence.path, model or "")
            ways = ways_around(token, is_short=question().body is None)
            measure_path(LimitSession(run, wire, evidence, question, ways, other))

        try:
            ask()
            if args.path is None and is_unlimited(evidence):
                run.note_wrapped(f"{chat.MODELS} is not limited: asking for completions instead")
                before += evidence.asked
                evidence = Evidence(args.limit, args.window, chat.COMPLETIONS)
                ask()
        finally:
            document.requests = records([*before, *evidence.asked])
            document.metrics = metrics(evidence)
    document.add(*judge(evidence))
    run.show(lines(evidence, run.url), document.checks)


# --- judge


def statuses_of(asked: Sequence[Asked]) -> str:
    return counted(each.outcome for each in asked)


def trouble(name: str, asked: Sequence[Asked], evidence: Evidence) -> Check | None:
    """FAIL when some requests were neither served nor refused, though so many at once can be; a
    SKIP when it may be that they cannot."""
    bad = [each for each in asked if each.fate is Fate.TROUBLE]
    if not bad:
        return None
    detail = f"{len(bad)} of {plural(len(asked), 'request')} were neither served nor refused"
    detail += f" with a 429: {statuses_of(bad)}"
    if not all(map(evidence.is_of_load, bad)):
        return failed(name, detail)
    detail += "; too slow, or too small a queue, for so many at once: use --path for something "
    detail += "quicker, or a key with a smaller --limit"
    return undecided(name, detail) if name == "at_once" else skip(name, detail)


def check_one_by_one(evidence: Evidence, kinds: Sequence[str]) -> Check:
    """As many as the limit allows are served, then they are refused."""
    name, limit = "one_by_one", evidence.limit
    asked, served = evidence.of(steps.ALONE), evidence.count(steps.ALONE)
    if not asked:
        return not_decided(name, evidence)
    seen = f"{served} served of {len(asked)}, one after the other"
    facts = {"served": served, "sent": len(asked), "limit": limit}
    if bad := trouble(name, asked, evidence):
        bad.detail = f"after {served} served: {bad.detail}"
        return bad
    if is_unlimited(evidence):
        more = evidence.count(steps.NOW)
        detail = f"{seen}, and {more} more at once: no request was refused, the limit is {limit}"
        return failed(name, detail, facts)
    if evidence.is_slow:
        took_s = asked[-1].span.ended_s - asked[0].span.sent_s
        return skip(name, f"{seen} in {took_s:.3g} s: too slowly to reach the limit", facts)
    if served > limit:
        if kinds:
            return passed(name, f"{seen}, the limit is {limit}: {why_more(kinds)}", facts)
        return failed(name, f"{seen}, expected {limit}: no limiter may let so many pass", facts)
    if served >= limit - evidence.earlier:  # what was sent before may have taken places
        counts = "" if served == limit else f", and {limit - served} before them"
        return passed(name, f"{seen}{counts}; the limit is {limit}", facts)
    detail = f"{seen}, expected {limit}: the key was used before this script began, others use it,"
    return skip(name, f"{detail} or fewer are allowed", facts)


def why_more(kinds: Sequence[str]) -> str:
    """What explains more than the limit in a short time, or places that come back early."""
    return f"as with a {' or a '.join(kinds)}"


def check_at_once(evidence: Evidence, kinds: Sequence[str]) -> Check:
    """Exactly as many as the limit allows are served, when more are sent at once."""
    name, limit, bursts = "at_once", evidence.limit, count_of_bursts(evidence)
    asked = evidence.of(*steps.BURSTS)
    if is_unlimited(evidence):
        return failed(name, f"all {evidence.count(steps.NOW)} were served, the limit is {limit}")
    if not bursts:
        return not_decided(name, evidence)
    each = " and then ".join(map(str, bursts.values()))
    seen = f"{each} served of {len(evidence.of(steps.BURST))} at once"
    facts = {"served": bursts, "sent": len(evidence.of(steps.BURST)), "limit": limit}
    if not kinds and max(bursts.values()) > limit:
        return failed(name, f"{seen}, expected {limit}: no limiter may let so many pass", facts)
    if bad := trouble(name, asked, evidence):
        return bad
    first = bursts[steps.BURST]
    if first == limit:
        return passed(name, f"{seen}, after a window without any", facts)
    if first > limit:
        if evidence.stopped:
            return not_decided(name, evidence)
        if not any(evidence.count(step, Fate.REFUSED) for step in bursts):
            detail = f"{seen}, expected {limit}: the answers took so long that it may be right"
            return undecided(name, detail, facts)
        return passed(name, f"{seen}, the limit is {limit}: {why_more(kinds)}", facts)
    return check_shortage(evidence, seen, facts)


def check_shortage(evidence: Evidence, seen: str, facts: dict[str, Any]) -> Check:
    """Fewer were served than the limit allows, although nothing was sent for a window."""
    name, limit, bursts = "at_once", evidence.limit, count_of_bursts(evidence)
    seen = f"{seen}, expected {limit}"
    again, rested = bursts.get(steps.AGAIN), bursts.get(steps.RESTED)
    if again is not None and again >= limit:
        detail = f"{seen}: the first time something else had taken places"
        return passed(name, detail, facts)
    if rested is not None and rested >= limit:
        detail = f"{seen}; all of them after two windows: the window before counts in part, as"
        return passed(name, f"{detail} with a sliding counter", facts)
    if rested is None:
        return not_decided(name, evidence)
    if evidence.is_early and is_steady(evidence):
        least = min(bursts.values())
        detail = f"{seen}; places come back little by little: the limiter lets a burst of {least}"
        return warned(name, f"{detail} pass, so that a client that sends {limit} is refused", facts)
    if evidence.others is False:
        detail = f"{seen}, though nobody else was served meanwhile: the limit is lower"
        return failed(name, detail, facts)
    most = max(bursts.values())
    detail = f"{seen}: others use the key, or the limit is lower (--limit {most}?)"
    return undecided(name, detail, facts)


def is_steady(evidence: Evidence) -> bool:
    """Whether all bursts were served as by one bucket: they differ by no more than the places that
    come back during a burst, and by one that was nearly there."""
    bursts = [evidence.of(step) for step in count_of_bursts(evidence)]
    times_s = [
        max(each.span.ended_s for each in burst) - min(each.span.sent_s for each in burst)
        for burst in bursts
    ]
    counts = count_of_bursts(evidence).values()
    return max(counts) - min(counts) <= 1 + max(times_s) * evidence.limit / evidence.window_s


def check_window(evidence: Evidence, kinds: Sequence[str]) -> Check:
    """The places come back when the window is over, not before and not later."""
    name, window = "window", f"{evidence.window_s:g} s"
    half, bursts = evidence.of(steps.HALF), count_of_bursts(evidence)
    if not half or not bursts:
        return not_decided(name, evidence)
    served, first = evidence.count(steps.HALF), bursts[steps.BURST]
    facts = {"served_at_half": served, "sent_at_half": len(half)}
    most = max(evidence.count(steps.ALONE), *bursts.values())
    if not kinds and most <= evidence.limit:
        detail = f"{served} of {len(half)} were served again after {evidence.half_s:.3g} s, and"
        detail += f" {evidence.count(steps.PRESS)} so long after the burst of {first}: the window"
        return failed(name, f"{detail} is shorter than {window}", facts)
    if bad := trouble(name, half, evidence):
        return bad
    if served:
        why = why_more(kinds) if kinds else "the limit is not kept"
        detail = f"{served} of {len(half)} were served again after {evidence.half_s:.3g} s"
        return passed(name, f"{detail}: {why}", facts)
    if first:
        detail = f"all refused after {evidence.half_s:.3g} s, {first} served after {window}"
        return passed(name, detail, facts)
    if evidence.others is False and not evidence.count(steps.BURST, Fate.TROUBLE):
        later = f", {bursts[steps.AGAIN]} after another one" if steps.AGAIN in bursts else ""
        detail = f"none was served after {window} without any{later}, though nobody else was"
        return failed(name, f"{detail}: the window is longer", facts)
    return skip(name, f"none was served after {window}: others use the key, or it is longer", facts)


def check_refusal(evidence: Evidence, _: Sequence[str]) -> Check:
    """A refusal is a 429 with the error of OpenAI's API. What the guide's gateway promises of it
    nobody else has to keep: clients look at the status."""
    name, refused = "refusal", evidence.refusals
    if not refused:
        return not_decided(name, evidence, "no request was refused")
    other = [each for each in refused if each.answer.status not in (429, 503)]
    if other:
        return failed(name, f"refused with {statuses_of(other)}, expected 429")
    proxied = [each for each in refused if each.answer.status == 503]
    if proxied:
        detail = f"refused with {statuses_of(proxied)}, expected 429: clients take a 503 for a"
        detail += " failure of the server (nginx: limit_req_status 429)"
        return promised(name, evidence, detail)
    plain = [each for each in refused if not isinstance(each.answer.json, dict)]
    if plain:
        kind = plain[0].answer.shown_header("content-type") or "missing"
        detail = f"429, and no JSON (Content-Type {kind}): {statuses_of(plain)}"
        return promised(name, evidence, f"{detail}; clients cannot read why")
    codes = [error_code(each.answer) for each in refused]
    bad = [shorten(str(code), 40) for code in codes if code != CODE]
    if bad:
        detail = f"429, JSON with error.code {counted(bad)}, expected {CODE}"
        return promised(name, evidence, detail)
    said = refused[0].answer.words
    return passed(name, f"{plural(len(refused), 'refusal')}: 429, JSON, {CODE}: {said}")


def promised(
    name: str, evidence: Evidence, detail: str, facts: dict[str, Any] | None = None
) -> Check:
    """A promise that the guide's gateway makes is not kept: a FAIL for it, for others a WARN."""
    if evidence.is_of_guide:
        return failed(name, f"{detail}; the guide's gateway promises otherwise", facts)
    return warned(name, detail, facts)


def check_retry_after(evidence: Evidence, _: Sequence[str]) -> Check:
    """Each refusal says when to come back; whoever comes then is served."""
    name, refused = "retry_after", evidence.refusals
    if not refused:
        return not_decided(name, evidence, "no request was refused")
    said = [read_retry_after(each.answer) for each in refused]
    shown = counted(str(each.shown) for each in said)
    facts = {"values": dict(Counter(str(each.shown) for each in said).most_common(9))}
    if bad := [each for each in said if each.shown is not None and not each.is_valid]:
        detail = f"Retry-After {bad[0].shown!r} is neither a whole number of seconds nor a date"
        return failed(name, f"{detail}: some clients fail on it", facts)
    missing = sum(1 for each in said if each.shown is None)
    if missing:
        detail = f"no Retry-After in {missing} of {plural(len(said), 'refusal')}: clients guess"
        return promised(name, evidence, f"{detail} when to come back", facts)
    return check_proofs(evidence, shown, facts)


def check_proofs(evidence: Evidence, shown: str, facts: dict[str, Any]) -> Check:
    """What came of the requests that were sent when Retry-After said so."""
    name, proofs = "retry_after", evidence.proofs
    if not proofs:
        return not_decided(name, evidence, f"Retry-After {shown}, which was not tried out")
    last = proofs[-1]
    if bad := trouble(name, [last.first], evidence):
        if any(map(evidence.is_of_load, evidence.of(*steps.BURSTS))):  # it is busy with those
            return skip(name, f"after a burst that was too much for it, {bad.detail}")
        return bad
    facts["waited_s"] = round(last.waited_s, 3)
    has_all = evidence.count(steps.BURST) >= evidence.limit  # so that nobody else takes places
    if last.is_cut and last.is_kept and (has_all or last.waited_s > evidence.window_s):
        detail = f"Retry-After {last.shown}, and a request after {last.waited_s:.3g} s was served:"
        return warned(name, f"{detail} clients wait longer than they need to", facts)
    if last.is_cut and not last.is_kept:
        detail = f"Retry-After {last.shown}, longer than a window, was not tried out"
        return not_decided(name, evidence, detail)
    if last.is_kept:
        first = f"; {len(proofs) - 1} try before was refused" if len(proofs) > 1 else ""
        detail = f"Retry-After {shown}; a request after {last.waited_s:.3g} s was served{first}"
        return passed(name, detail, facts)
    if all(each.is_nearly_kept for each in proofs):
        detail = f"Retry-After {last.shown}: refused then, served a second later"
        return warned(name, f"{detail} (rounded down?)", facts)
    if len(proofs) < TRIES or not (has_all or evidence.others is False):
        detail = f"Retry-After {last.shown}: refused then, but others may have taken the places"
        return not_decided(name, evidence, detail)
    detail = f"Retry-After {last.shown}: refused {last.waited_s:.3g} s later, and still after a"
    return failed(name, f"{detail} second more, {len(proofs)} times", facts)


def check_charged(evidence: Evidence, _: Sequence[str]) -> Check:
    """Requests that were refused do not take places: a client that asks again is not shut out."""
    name, limit, bursts = "charged", evidence.limit, count_of_bursts(evidence)
    burst = evidence.of(steps.BURST)
    if not burst:
        return not_decided(name, evidence)
    start_s = min(each.span.sent_s for each in burst)
    before = [e for e in evidence.of_key if e.fate is Fate.REFUSED and e.turn < burst[0].turn]
    spans = [each.span for each in before]
    sure, possible = sure_and_possible(spans, start_s - evidence.window_s, start_s)
    facts = {"refused_before": sure, "served": bursts}
    first, again = bursts[steps.BURST], bursts.get(steps.AGAIN)
    if not sure:
        return skip(name, "no request was refused within a window before the burst", facts)
    seen = f"{first} of {limit} served, {plural(sure, 'refusal')} within the window before"
    if first >= limit:
        return passed(name, seen, facts)
    missing = limit - first
    is_exact = again is not None and again >= limit and sure <= missing <= possible
    if is_exact and missing > 1 and not evidence.others:
        detail = f"{seen}; {again} served after a window without refusals: refusals take places"
        detail += ", and a client that asks again is shut out for ever"
        if evidence.others is False:
            return failed(name, detail, facts)
        return warned(name, f"{detail}; or others have used the key just so often", facts)
    return skip(name, f"{seen}: it is not known what has taken the places", facts)


def check_dodges(evidence: Evidence, _: Sequence[str]) -> Check:
    """No other form of the request is served while the plain one is refused."""
    name, tries = "dodges", turns(evidence.of(steps.AROUND, what=None))
    if not tries:
        return not_decided(name, evidence)
    found: dict[str, list[list[Asked]]] = {}
    for turn in tries:
        found.setdefault(next(each.what for each in turn if each.what != PLAIN), []).append(turn)
    let_in = [way for way, each in found.items() if is_way_around(each, evidence)]
    facts = {way: counted(e.outcome for turn in each for e in turn if e.what == way)
             for way, each in found.items()}  # fmt: skip
    if let_in:
        detail = f"served with {listed(let_in, len(found))}, while the plain request was refused"
        return failed(name, detail, facts)
    blind = [way for way, each in found.items() if not has_told(each)]
    if len(blind) == len(found):
        return skip(name, "plain requests were served as well: not decided", facts)
    unknown = [way for way, each in found.items() if is_unknown(each, way)]
    more = f"; not accepted as a key: {listed(unknown, 5)}" if unknown else ""
    return passed(name, f"none of {len(found) - len(blind)} ways around it is served{more}", facts)


def is_way_around(tries: Sequence[Sequence[Asked]], evidence: Evidence) -> bool:
    """Whether the changed requests were served at each try, and no plain one, and more of them
    than there are places which a token bucket gets back meanwhile."""
    limit, changed = evidence.limit, [e for turn in tries for e in turn if e.what != PLAIN]
    served = sum(each.fate is Fate.SERVED for each in changed)
    earlier = [e for e in evidence.refusals if e.turn < tries[0][0].turn]
    since_s = max((each.span.sent_s for each in earlier or tries[0]), default=0.0)
    spent_s = max(each.span.ended_s for turn in tries for each in turn) - since_s
    if served <= 1 + spent_s * limit / evidence.window_s or len(tries) < AROUND_TRIES:
        return False
    return all(is_let_around(turn, number, limit) for number, turn in enumerate(tries))


def has_told(tries: Sequence[Sequence[Asked]]) -> bool:
    """Whether a plain request beside it was refused."""
    return any(e.fate is Fate.REFUSED for turn in tries for e in turn if e.what == PLAIN)


def is_unknown(tries: Sequence[Sequence[Asked]], way: str) -> bool:
    """Whether the deployment does not take a credential in this form."""
    return all(e.answer.status in (400, 401, 403) for t in tries for e in t if e.what == way)


def check_other_key(evidence: Evidence, _: Sequence[str]) -> Check:
    """Another key is served while this one is refused."""
    name, asked = "other_key", evidence.of(steps.OTHER, what=None)
    if not asked:
        return skip(name, f"there is no other key to try: --other-key or {OTHER_KEY}")
    first, *later = asked
    if first.fate is not Fate.SERVED:
        return skip(name, f"the other key is not served even before: {first.outcome}")
    if not later:
        return not_decided(name, evidence)
    if any(each.fate is Fate.SERVED for each in later):
        return passed(name, "served with the other key, while this one was refused")
    if len(later) < OTHER_TRIES or not all(each.is_limit for each in later):
        detail = f"the other key was not served, once this one was refused: {statuses_of(later)}"
        return skip(name, f"{detail}; that is not the answer of a limit each time")
    detail = "refused with the other key as well, once this one had reached its limit: "
    return failed(name, f"{detail}{statuses_of(later)}: the limit is not the key's own")


def check_probes(evidence: Evidence, _: Sequence[str]) -> Check:
    """/ping and /health answer while the key is refused: platforms take them for signs of life."""
    name, asked = "probes", evidence.of(steps.PROBES, what=None)
    if not asked:
        return not_decided(name, evidence)
    limited = [each for each in asked if each.fate is Fate.REFUSED and each.is_limit]
    if limited:
        detail = "; ".join(f"{each.what}: {each.outcome}" for each in limited[:2])
        return failed(name, f"{detail}, while the key is refused: they must not be limited")
    by_path = {each.what: each.answer.status or each.answer.failure_kind for each in asked}
    seen = ", ".join(f"{path} {status}" for path, status in by_path.items())
    return passed(name, f"not limited: {seen}")


def check_counters(evidence: Evidence, _: Sequence[str]) -> Check:
    """What /metrics counts agrees with what was sent."""
    name, served = "counters", evidence.count_success()
    if evidence.before is None:
        return skip(name, "/metrics does not count requests as the guide's gateway does")
    if evidence.after is None:
        return not_decided(name, evidence, "/metrics did not answer at the end")
    refused = evidence.count_limited()
    grown = {each: evidence.growth(each) for each in steps.COUNTERS}
    least = {"requests_success": served, "requests_authenticated": served}
    least["requests_total"] = served
    facts: dict[str, Any] = {"grown": grown, "served": served, "refused": refused}
    if evidence.is_many:
        detail = "/metrics does not agree with itself: several gateways, each with its own count?"
        return skip(name, detail, facts)
    if not any(grown.values()):
        return skip(name, f"/metrics does not count requests to {evidence.path}", facts)
    for counter, expected in least.items():
        if (growth := grown[counter]) is not None and 0 < growth < expected:
            detail = f"{counter} +{growth:g}, but {expected} were served"
            if growth < expected * LEAST_COUNTED:
                return failed(name, detail, facts)
            return warned(name, f"{detail} (or several gateways, each with its own count)", facts)
    errors = grown["requests_error"]
    if errors is not None and errors < refused and not evidence.is_in_front:
        detail = f"requests_error +{errors:g}, but {refused} were refused: the limit does not show"
        return warned(name, f"{detail} in /metrics", facts)
    seen = ", ".join(f"{n} +{value:g}" for n, value in grown.items() if value is not None)
    others = " (others asked it meanwhile, or it counts more)" if evidence.others else ""
    if evidence.is_in_front:
        others += "; something in front refuses, and is not counted"
    return passed(name, f"{seen}; {served} served and {refused} refused here{others}", facts)


OF_CHECK = {  # the steps that a check looks at
    "one_by_one": (steps.ALONE, steps.NOW),
    "at_once": (*steps.BURSTS, steps.NOW),
    "window": (steps.HALF, steps.PRESS, steps.BURST),
    "charged": (steps.BURST, steps.AGAIN),
    "dodges": (steps.AROUND,),
    "other_key": (steps.OTHER,),
    "probes": (steps.PROBES,),
}
JUDGES = (
    check_one_by_one,
    check_at_once,
    check_window,
    check_refusal,
    check_retry_after,
    check_charged,
    check_dodges,
    check_other_key,
    check_probes,
    check_counters,
)


def not_decided(name: str, evidence: Evidence, reason: str = NOT_ASKED) -> Check:
    """A SKIP; it leaves the run undecided where the script exists for it, or something ended it."""
    if evidence.stopped:
        return undecided(name, f"not decided: {evidence.stopped}")
    if evidence.is_slow and reason == NOT_ASKED:
        reason = "not asked: the answers come too slowly to keep the limit used up"
    return undecided(name, reason) if name == "at_once" else skip(name, reason)


def behind(name: str, evidence: Evidence) -> list[Answer]:
    """The answers that a check rests on: what was neither served nor refused comes first, then
    what was served last."""
    if name == "refusal":
        return [each.answer for each in telling(evidence.refusals, is_other_refusal)]
    if name == "retry_after":
        odd = [e for e in evidence.refusals if not read_retry_after(e.answer).is_valid]
        proofs = [each.first for each in evidence.proofs[::-1]]
        return [each.answer for each in odd or [*proofs, *evidence.refusals]]
    found = evidence.of(*OF_CHECK.get(name, ()), what=None)[::-1]
    if name in ("other_key", "probes"):
        found.sort(key=lambda each: not each.is_limit)
    else:
        order = (Fate.TROUBLE, Fate.SERVED, Fate.REFUSED)
        found.sort(key=lambda each: (order.index(each.fate), each.what == PLAIN))
    return [each.answer for each in found]


def is_other_refusal(asked: Asked) -> bool:
    """Whether it is not the refusal that the guide promises."""
    return asked.answer.status != 429 or error_code(asked.answer) != CODE


def judge(evidence: Evidence) -> list[Check]:
    kinds = evidence.kinds
    checks = [check(evidence, kinds) for check in JUDGES]
    return with_answers(checks, lambda name: behind(name, evidence))


# --- show


def metrics(evidence: Evidence) -> dict[str, Any]:
    waits = [wait for each in evidence.refusals if (wait := said_wait_s(each)) is not None]
    refused = [e.answer.spent_ms for e in evidence.refusals if e.answer.spent_ms is not None]
    return {
        "path": evidence.path,
        "limit": evidence.limit,
        "window_s": evidence.window_s,
        "kinds": evidence.kinds if evidence.refusals else [],
        "served_alone": evidence.count(steps.ALONE) if evidence.has(steps.ALONE) else None,
        "served_at_once": count_of_bursts(evidence),
        "refused": len(evidence.refusals),
        "retry_after_max_s": max(waits, default=None),
        "refusal_max_ms": max(refused, default=None),
    }


def records(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    start_s = min((each.span.sent_s for each in asked), default=0.0)
    return [
        {
            "step": each.step,
            "what": each.what,
            "path": each.answer.path,
            "at_s": round(each.span.sent_s - start_s, 4),
            "status": each.answer.status,
            "error": each.answer.failure_kind,
            "error_text": None if each.fate is Fate.SERVED else each.outcome,
            "fate": each.fate.value,
            "answer_ms": each.answer.first_byte_ms,
            **each.answer.silence_figures,
            "retry_after": each.answer.shown_header("retry-after"),
        }
        for each in asked
    ]


def lines(evidence: Evidence, url: str) -> list[str]:
    """A row for each step."""
    what = f"{evidence.limit} requests in {evidence.window_s:g} s, {evidence.path}"
    rows = [shorten(f"{what} at {url}", 80)]
    rows.append(f"  {'':32}{'at':>8}  sent  served  refused  failed")
    start_s = min((each.span.sent_s for each in evidence.asked), default=0.0)
    for step in dict.fromkeys(each.step for each in evidence.asked):
        asked, label = evidence.of(step), ROWS.get(step)
        if asked and label:
            at_s = min(each.span.sent_s for each in asked) - start_s
            served, refused, bad = (evidence.count(step, fate) for fate in Fate)
            row = f"  {label:32}{at_s:6.1f} s{len(asked):6}{served:8}{refused:9}{bad:8}"
            rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare)


if __name__ == "__main__":
    interruption.end_with(main)
