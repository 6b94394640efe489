#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Does the deployment keep the context that it promises, for one request and for several at once?

Sends prompts of 10, 50 and 95 percent of the context, each with a number at its beginning, in its
middle and at its end, and asks for the three numbers; then one prompt that is too long. How many
tokens it sends is known from the server's own count of shorter prompts.

PASS: each prompt is counted in full, the model repeats the number at the beginning as well as the
one at the end, there is room for an answer, half of the context holds for each of --concurrency
requests at once, and what is too long is refused with a reason.
Cost: about 12 requests and, in prompt tokens, 3.2 times the context, half a context for each of
--concurrency requests. If a number is not repeated, it is two contexts more, or up to four and
again half a context for each of --concurrency requests. The answers have up to --max-tokens each. A
long context takes minutes without a GPU; after the first requests the script says how long. It
wakes a sleeping worker.

Examples:
    # the context that /v1/models or /props names
    python3 test_context.py --url https://host:8000 --api-key sk-key
    # the CONTEXT_SIZE that was deployed: is that what a request has?
    python3 test_context.py --url https://host:8000 --api-key sk-key --context 8192
    # a reasoning model needs room to think before it repeats the numbers
    python3 test_context.py --url https://host:8000 --max-tokens 1000
    # only what concerns one request
    python3 test_context.py --url https://host:8000 --skip together
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import common
from common import CannotCheck, Check, NoAccess, Run
from livecheck.core.checks import (
    failed,
    passed,
    skip,
    telling,
    undecided,
    warned,
    with_answers,
)
from livecheck.core.text import counted as count_texts
from livecheck.core.text import duration, listed, plural, shorten
from livecheck.gateway.burst import Limits
from livecheck.gateway.context_evidence import (
    BEYOND,
    HALF,
    LONG,
    PROBE,
    RATE,
    SHARES,
    SHORT,
    TOGETHER,
    Asked,
    Evidence,
    repeated,
)
from livecheck.gateway.context_prompt import ANSWER_TOKENS, make_prompt
from livecheck.gateway.context_size import (
    LEAST,
    Promise,
    limits_named,
    promise_of_models,
    promise_of_props,
    says_too_long,
    slots_of_props,
)
from livecheck.gateway.exact_test import Table, chance_of_so_few
from livecheck.gateway.plans import MORE_ALONE, MORE_TRIES, MOST_CONTEXTS, REPEATS, plan_context
from livecheck.wire import chat, form, notices
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.asking import Asker, Cause, fetch, open_wire, reason_to_stop
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.token_rate import Rate, find_rate, stalls

CHECKS = ("promise", "taken", "remembered", "room", "together", "beyond", form.NAME)
DEFAULT_TOKENS = 64  # twice what an answer with the three numbers has
MOST = 2_000_000  # tokens of context: a longer prompt takes hours, or the server is wrong
ABOUT_S = 10.0  # timeout of /health and /props
# The first prompts, in sentences of about nine tokens. The longest of them has to be well below the
# context, and long enough for the count of a sentence to be exact.
SHORTEST, FAR, LEAST_FAR = 8, 64, 16
FAR_SHARE, USUAL_BASE, USUAL_SENTENCE = 0.3, 150, 12
LIMIT = 0.01  # a loss under load whose chance is smaller than this is a FAIL
MOST_SLOTS = 64  # among which a context may be divided
SPARE = 8  # tokens between the end of an answer and the end of the context
FAILURES = {Cause.SILENT: "timeout", Cause.FLOOD: "flood"}  # of the first contact
PLACES = ("beginning", "middle", "end")


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, 600, plan=plan_context)
    add = parser.add_argument_group("what to check").add_argument
    size = "tokens that one request may have (default: what the deployment says)"
    add("--context", type=common.whole_number(LEAST, MOST), metavar="N", help=size)
    at_once = (
        f"requests at once with half a context each (default: its limit, at most {MOST_CONTEXTS})"
    )
    add("--concurrency", type=common.whole_number(1, 1000), metavar="C", help=at_once)
    longest = "longest answer, in tokens (default %(default)s)"
    number = common.whole_number(ANSWER_TOKENS)
    add("--max-tokens", type=number, default=DEFAULT_TOKENS, metavar="N", help=longest)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    return parser


# --- measure


@dataclass
class Session:
    """Sends prompts and keeps what came. `streams`: whether they are streamed; a server that counts
    nothing in streams is asked without."""

    run: Run
    asker: Asker
    evidence: Evidence
    model: str
    chance: random.Random
    streams: bool = True

    def ask(self, phase: str, sentences: int, most: int = 0, count: int = 1) -> list[Asked]:
        """Ask with `count` prompts at once; what came is in the evidence, also when interrupted."""
        most = most or self.most(sentences)
        prompts = [make_prompt(sentences, self.chance) for _ in range(count)]
        more: dict[str, Any] = {"temperature": 0}
        if self.streams:
            more["stream_options"] = {"include_usage": True}
        requests = [
            chat.completion(self.model, prompt.text, most, self.streams, **more)
            for prompt in prompts
        ]
        found: list[Asked] = []

        def keep(answers: list[Answer]) -> None:
            for prompt, answer in zip(prompts, answers, strict=False):
                found.append(Asked(phase, prompt, most, answer))
            self.evidence.asked += found

        self.asker.ask(requests, count, keep=keep, name=lambda _: f"{phase}, {sentences} sentences")
        self.evidence.stopped = self.asker.stopped
        return found

    def most(self, sentences: int) -> int:
        """How many tokens the answer to such a prompt may have without leaving the context."""
        rate, args = self.evidence.rate, self.run.args
        assert rate
        used = rate.expected(sentences) + rate.unseen + rate.error_at(sentences) + SPARE
        room = self.evidence.size - used
        return int(max(1, min(args.max_tokens, room)))

    def refine(self) -> None:
        """Count by the longest prompts that were counted in full."""
        evidence = self.evidence
        whole = [a for a in evidence.good(RATE, SHORT, HALF) if not evidence.lacking(a)]
        counts = [counted for asked in whole if (counted := asked.counted)]
        evidence.rate = find_rate(counts) or evidence.rate

    @property
    def is_over(self) -> bool:
        return self.evidence.stopped is not None or self.evidence.untold is not None


def first_lengths(size: int) -> tuple[int, int, int]:
    """The sentences of the first prompts. The first one is neither the shortest nor the longest: a
    cache that it fills makes no difference between the others."""
    far = int((FAR_SHARE * size - USUAL_BASE) / USUAL_SENTENCE) // SHORTEST * SHORTEST
    far = min(FAR, max(LEAST_FAR, far))
    return (SHORTEST + far) // 2, SHORTEST, far


def find_rate_of(session: Session) -> None:
    """Find out how the server counts, with prompts of a few hundred tokens at most."""
    evidence = session.evidence
    lengths, most = first_lengths(evidence.size), 1
    (first,) = session.ask(RATE, lengths[0], most) or (None,)
    if first and first.answer.has_no_room:
        first.phase, most = PROBE, session.run.args.max_tokens
        (first,) = session.ask(RATE, lengths[0], most) or (None,)
    if first is None or session.is_over:
        return
    if first.answer.has_no_room:
        raise CannotCheck(f"the model cannot answer in {most} tokens: --max-tokens allows more")
    if text := no_access(session.run, first.answer):
        raise NoAccess(text)
    if first.counted is None and (first.trouble is None or first.refuses_usage):
        session.run.note("no count of tokens in a stream: asking without streaming")
        session.streams = False
        first.phase = PROBE
        session.ask(RATE, lengths[0], most)
    for length in lengths[1:]:
        session.ask(RATE, length, most)
    asked = evidence.of(RATE)
    if bad := [each for each in asked[-2:] if each.trouble]:
        evidence.untold = f"a short prompt is not answered: {bad[0].trouble}"
        return
    counts = [each.counted for each in asked if each.counted]
    evidence.rate = find_rate(counts)
    if evidence.rate is None and not session.is_over:
        seen = listed([f"{each.tokens:g} for {each.sentences} sentences" for each in counts])
        evidence.untold = "the server does not count the tokens of a prompt (usage.prompt_tokens: "
        evidence.untold += f"{seen or 'none'}), so nobody can tell what it reads"
        if stalls(counts):
            evidence.stalled, evidence.untold = seen, "short prompts are cut already"
    confirm_size(evidence)


def confirm_size(evidence: Evidence) -> None:
    """CannotCheck when half of the context has no room for the shortest prompt and its answer."""
    shortest = evidence.rate.expected(SHORTEST) if evidence.rate else 0.0
    if shortest + ANSWER_TOKENS > SHARES[HALF] * evidence.size:
        raise CannotCheck(
            f"a context of {evidence.size} tokens is too small to test: the shortest prompt has "
            f"{shortest:.0f} tokens here"
        )


def ask_alone(session: Session) -> None:
    """Prompts of 10, 50 and 95 percent, one after the other."""
    evidence, size = session.evidence, session.evidence.size
    for phase in (SHORT, HALF):
        rate = evidence.rate
        assert rate
        sentences = max(SHORTEST, rate.sentences_for(SHARES[phase] * size))
        for _ in range(REPEATS):
            session.ask(phase, sentences)
        found = evidence.of(phase)
        bad = [each for each in found if each.trouble or evidence.lacking(each)]
        if bad and len(bad) == len(found):
            evidence.untold = f"prompts of {percent_of(phase)} were not read in full"
        if session.is_over:
            return
        session.refine()
        if phase == SHORT:
            announce(session)
    ask_long(session)


def ask_long(session: Session) -> None:
    """The longest prompt that leaves room for an answer; again where a number is not repeated."""
    evidence, rate = session.evidence, session.evidence.rate
    assert rate
    sentences = rate.sentences_for(SHARES[LONG] * evidence.size)
    while sentences > SHORTEST and rate.expected(sentences) + rate.error_at(sentences) > (
        evidence.size - SPARE
    ):
        sentences -= 1
    (asked,) = session.ask(LONG, sentences) or (None,)
    if asked is None or session.is_over:
        return
    if asked.is_refused and asked.most > 1:
        session.ask(LONG, sentences, 1)
    elif asked.found[0] is False and held_control(evidence):
        for _ in range(MORE_TRIES):
            session.ask(LONG, sentences)


def ask_beyond(session: Session) -> None:
    """One prompt that is longer than the context, whatever the error of the count is."""
    evidence, rate = session.evidence, session.evidence.rate
    assert rate
    sentences = rate.sentences_for(SHARES[BEYOND] * evidence.size) + 1
    while rate.expected(sentences) - rate.error_at(sentences) < evidence.size + SPARE:
        sentences += max(1, sentences // 50)
    session.ask(BEYOND, sentences, session.run.args.max_tokens)


def announce(session: Session) -> None:
    """Tell the operator how much follows, and how long it will take."""
    evidence, run = session.evidence, session.run
    shares = REPEATS * SHARES[HALF] + SHARES[LONG] + SHARES[BEYOND] * run.wants("beyond")
    alone, together = shares * evidence.size, 0.0
    if run.wants("together") and evidence.concurrency > 1:
        together = SHARES[HALF] * evidence.concurrency * evidence.size
    spent = [a for a in evidence.good(SHORT) if a.answer.spent_ms and a.counted]
    rates = [a.counted.tokens / (a.answer.spent_ms or 1) for a in spent if a.counted]
    spent_s = (alone + together) / statistics.median(rates) / 1e3 if rates else None
    pace = "" if spent_s is None else f", about {max(1, spent_s):,.0f} s"
    more = MORE_TRIES * SHARES[LONG] * evidence.size
    if together:
        more += together + MORE_ALONE * SHARES[HALF] * evidence.size
    run.note_wrapped(
        f"about {alone + together:,.0f} prompt tokens follow{pace} at the pace of the short "
        f"prompts; up to {more:,.0f} more if a number is not repeated"
    )


def ask_all(session: Session) -> None:
    evidence, run = session.evidence, session.run
    with run.progress(f"prompts of up to {evidence.size} tokens", 4) as step:
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("taken", lambda: find_rate_of(session)),
            ("taken", lambda: ask_alone(session)),
            ("together", lambda: ask_together(session)),
            ("beyond", lambda: ask_beyond(session)),
        )
        for name, ask in steps:
            if not session.is_over and (name == "taken" or run.wants(name)):
                ask()
            step()


def ask_together(session: Session) -> None:
    """Half of the context for each of several requests at once; more of them, and more alone, where
    that can show whether it is the load that makes the model lose the beginning."""
    evidence = session.evidence
    half, count = evidence.good(HALF), evidence.concurrency
    if count == 1 or not half:
        return
    sentences = half[0].prompt.sentences
    session.ask(TOGETHER, sentences, count=count)
    if session.is_over or (more := more_alone(evidence)) is None:
        return
    for _ in range(more):
        (alone,) = session.ask(HALF, sentences) or (None,)
        if session.is_over or alone is None or not alone.found[0]:
            return
    session.ask(TOGETHER, sentences, count=count)


def table_of_loss(evidence: Evidence) -> Table:
    """How often the beginning of half a context is repeated, alone and together."""
    alone, together = (repeated(evidence.good(phase), 0) for phase in (HALF, TOGETHER))
    return Table(*alone, *together)


def more_alone(evidence: Evidence) -> int | None:
    """How many prompts more have to be asked alone, so that as great a loss in one more round
    together is too great for chance. None: nothing is lost, it is clear already, or so many cannot
    show it."""
    if any(each.trouble for each in evidence.of(TOGETHER)) or not held_control(evidence):
        return None
    right, asked, other_right, other_asked = table = table_of_loss(evidence)
    if other_right == other_asked or right < asked or chance_of_so_few([table]) < LIMIT:
        return None
    for more in range(MORE_ALONE + 1):
        hoped = Table(right + more, asked + more, 2 * other_right, 2 * other_asked)
        if chance_of_so_few([hoped]) < LIMIT:
            return more
    return None


def find_promise(run: Run, token: str | None, listing: Answer, model: str) -> Evidence:
    """How large the context is, and how many requests are served at once, as the deployment says
    it where the options do not. CannotCheck where nobody says how large it is."""
    args = run.args
    said, at_once = promise_of_models(listing, model), args.concurrency
    with open_wire(run, token, min(ABOUT_S, args.timeout)) as wire:
        if at_once is None:
            limits = Limits.announced_by(fetch(run, wire, chat.get("/health")))
            at_once = limits.max_concurrent if limits else None
        if said is None or at_once is None:
            props = fetch(run, wire, chat.get("/props"))
            said = said or promise_of_props(props)
            at_once = at_once or slots_of_props(props)
    serves = at_once
    if args.concurrency is None:
        at_once = min(MOST_CONTEXTS, serves or MOST_CONTEXTS)
    if args.context:
        promised = Promise(args.context, "--context")
        return Evidence(promised, said, at_once, args.timeout, serves=serves)
    if said is None:
        raise CannotCheck(
            "how large is the context of one request? Neither the list of models nor /props says "
            "it: give --context"
        )
    if not LEAST <= said.tokens <= MOST:
        text = f"{said.source} promises {said.tokens:,} tokens, and this script can test a context "
        raise CannotCheck(f"{text}of {LEAST:,} to {MOST:,}: --context says another one")
    return Evidence(said, None, at_once, args.timeout, serves=serves)


def measure(run: Run) -> None:
    document, token = run.document("context"), run.token()
    with open_wire(run, token) as wire:
        (listing,) = chat.first_contact(run, wire, [chat.get(chat.MODELS)])
        model = model_to_ask(run, listing)
        run.target["model"] = model
        if (stopped := reason_to_stop(listing)) and stopped.cause in FAILURES:
            document.add(failed("taken", str(stopped), {"error": FAILURES[stopped.cause]}))
            run.show([], document.checks)
            return
        evidence = find_promise(run, token, listing, model)
        session = Session(run, Asker(run, wire), evidence, model, random.Random())
        try:
            ask_all(session)
        finally:
            document.requests, document.metrics = records(evidence), metrics(evidence)
    document.add(*judge(evidence))
    run.show(lines(evidence, run.url), document.checks)


# --- judge


def percent_of(phase: str) -> str:
    return f"{100 * SHARES[phase]:.0f} %"


def not_told(name: str, evidence: Evidence) -> Check:
    """A check whose prompts were not sent, or have no answer that tells anything."""
    reason = evidence.stopped or evidence.untold or "there is no answer to judge"
    return undecided(name, f"not decided: {reason}")


def check_promise(evidence: Evidence) -> Check:
    """The operator and the deployment mean the same context."""
    (tokens, source), said = evidence.promise, evidence.said
    facts = {"context_tokens": tokens}
    if said is None or said.tokens == tokens:
        more = ", and the deployment says the same" if said else ""
        return passed("promise", f"{tokens} tokens for one request ({source}){more}", facts)
    detail = f"{tokens} tokens ({source}), but {said.source} says {said.tokens}"
    if said.tokens > tokens:
        return passed("promise", f"{detail}, which is more", facts)
    return warned("promise", f"{detail}{divided(tokens, [said.tokens])}", facts)


def divided(size: int, named: Sequence[int]) -> str:
    """A hint, where a context that is named is a whole part of the one that was promised."""
    parts = range(2, MOST_SLOTS + 1)
    found = next((each for each in named if size % each == 0 and size // each in parts), None)
    if found is None:
        return ""
    return f"; that is {size} divided by {size // found}: is the context shared by the slots?"


def trouble_words(asked: Asked, evidence: Evidence) -> str:
    """What became of a prompt that was not answered."""
    if asked.answer.status == 413:
        return f"{asked.trouble}: a limit on the length of a body is below the context"
    return f"{asked.trouble}{divided(evidence.size, limits_named(asked.answer))}"


def excuse(asked: Asked, evidence: Evidence) -> str | None:
    """Why a prompt without an answer says nothing about the context; None: it does."""
    if asked.is_busy:
        return f"the deployment was busy ({asked.trouble}): run it when nobody else uses it"
    longest_s = evidence.longest_s(asked)
    if asked.answer.timed_out and longest_s > evidence.timeout_s:
        return (
            f"no whole answer in {evidence.timeout_s:g} s, and such a prompt may take "
            f"{longest_s:.0f} s here: raise --timeout"
        )
    return None


def judge_trouble(name: str, asked: Sequence[Asked], evidence: Evidence) -> Check | None:
    """The verdict on prompts that should have been answered, and were not."""
    bad = [each for each in asked if each.trouble]
    accused = [each for each in bad if excuse(each, evidence) is None]
    if accused:
        first = accused[0]
        phase = percent_of(first.phase) if first.share else "short prompts"
        same, tried = ([a for a in each if a.phase == first.phase] for each in (accused, asked))
        told = count_texts(trouble_words(each, evidence) for each in same)
        detail = f"{phase}: {len(same)} of {len(tried)} not answered: {told}"
        return failed(name, detail, {"status": first.answer.status})
    if bad:
        return undecided(name, f"not decided: {excuse(bad[0], evidence)}")
    return None


def short_words(asked: Asked, evidence: Evidence) -> str:
    """By how much the count of a prompt is short."""
    assert asked.counted and evidence.rate
    error = evidence.rate.error_at(asked.prompt.sentences)
    return (
        f"{percent_of(asked.phase)}: about {evidence.expected(asked):.0f} tokens were sent (±"
        f"{error:.0f}), and {asked.counted.tokens:g} are counted"
    )


def check_taken(evidence: Evidence) -> Check:
    """Prompts up to 95 percent of the context are answered, and counted in full."""
    if evidence.stalled:
        detail = f"prompt_tokens do not grow with the prompt ({evidence.stalled}): it is cut, and "
        return failed("taken", f"{detail}nothing says so")
    asked = evidence.of(RATE, SHORT, HALF, LONG)
    refused = [each for each in evidence.of(LONG) if each.is_refused]
    if evidence.good(LONG):  # it was answered with less room for the answer: see check_room
        asked = [each for each in asked if each not in refused]
    if cut := [each for each in asked if evidence.lacking(each)]:
        worst = max(cut, key=evidence.lacking)
        facts = {"sent_tokens": evidence.expected(worst), "lacking": evidence.lacking(worst)}
        detail = f"{short_words(worst, evidence)}: the prompt is cut, and nothing says so"
        return failed("taken", detail, facts)
    if trouble := judge_trouble("taken", asked, evidence):
        return trouble
    if evidence.rate is None or not evidence.good(LONG):
        return not_told("taken", evidence)
    parts = []
    for phase in (SHORT, HALF, LONG):
        counts = [each.counted for each in evidence.good(phase)]
        if None in counts:
            detail = f"{percent_of(phase)}: the answer has no usage.prompt_tokens"
            return undecided("taken", f"not decided: {detail}")
        parts.append(f"{counts[-1].tokens:g}" if counts[-1] else "")
    last = evidence.good(LONG)[-1]
    error = evidence.rate.error_at(last.prompt.sentences)
    detail = f"{', '.join(parts)} tokens counted at 10, 50 and 95 %, as many as were sent"
    return passed("taken", f"{detail} (±{error:.0f})")


def held_control(evidence: Evidence, place: int = 0) -> bool:
    """Whether the model has repeated the number at this place of each short prompt."""
    control = evidence.good(SHORT)
    return bool(control) and all(each.found[place] for each in control)


def cannot_show(name: str, reason: str, asked: Sequence[Asked], evidence: Evidence) -> Check:
    """The verdict where the model does not show what it remembers: the count may be that of a
    gateway which has not looked whether the engine reads everything."""
    if evidence.are_read(asked):
        return skip(name, f"{reason}; the engine has read all of it (timings)")
    return undecided(name, reason)


def check_remembered(evidence: Evidence) -> Check:
    """The beginning of a long prompt is there when the model answers."""
    name, control, found = "remembered", evidence.good(SHORT), evidence.good(LONG)
    if not control:
        return not_told(name, evidence)
    held = [place for place in range(3) if held_control(evidence, place)]
    if not {0, 2} <= set(held):
        seen = sum(repeated(control, place)[0] for place in range(3))
        reason = f"cannot tell: at 10 % the model repeats {seen} of {3 * len(control)} numbers"
        said = notices.of_thoughts([each.answer for each in control])
        if said and not seen:
            return undecided(name, f"not decided: at 10 % no number is repeated; {said}")
        more = said or "a small model cannot show this"
        return cannot_show(name, f"{reason}; {more}", found, evidence)
    if not found:
        return not_told(name, evidence)
    times = {place: repeated(found, place) for place in held}
    told = ", ".join(f"{PLACES[place]} {n} of {of}" for place, (n, of) in times.items() if of)
    facts = {"repeated": {PLACES[place]: n for place, (n, _) in times.items()}}
    detail, (first, tries), (last, _) = f"repeated at 95 %: {told}", times[0], times[2]
    if tries == 0:
        reason = "cannot tell: the answers at 95 % end before they come to the numbers"
        said = notices.of_thoughts([each.answer for each in found])
        more = said or f"{plural(found[0].most, 'token')} at most"
        return cannot_show(name, f"{reason}; {more}", found, evidence)
    if all(n == of for n, of in times.values()):
        return passed(name, detail, facts)
    if first or not last or tries <= MORE_TRIES:
        why = "the model is weak, or text is lost"
        if evidence.are_read(found):
            why = "the engine has read all of it (timings), so the model is weak"
        return warned(name, f"{detail}; at 10 % each time: {why}", facts)
    return judge_loss(name, detail, facts, evidence)


def judge_loss(name: str, detail: str, facts: dict[str, Any], evidence: Evidence) -> Check:
    """The beginning is lost every time, and the end never. Is it the model or the deployment?"""
    if evidence.are_read(evidence.good(LONG)):
        why = "the engine has read all of it (timings), so it is the model that cannot"
    elif evidence.prefill_grew:
        why = "the prefill took as long as it should for all of it, so the model cannot"
    elif evidence.edge is None:
        why = "numbers are also lost that are nearer than others, so the model is weak"
    else:
        per_sentence = evidence.rate.per_sentence if evidence.rate else 0.0
        near, far = (per_sentence * each for each in evidence.edge)
        why = f"everything up to {near:.0f} tokens from the end is repeated, and nothing from "
        return failed(name, f"{detail}; {why}{far:.0f} on: the beginning is dropped", facts)
    return warned(name, f"{detail}; {why}", facts)


def check_room(evidence: Evidence) -> Check:
    """A prompt of 95 percent leaves room for an answer."""
    name, asked = "room", evidence.of(LONG)
    good = evidence.good(LONG)
    if not good:
        return not_told(name, evidence)
    refused = [each for each in asked if each.is_refused]
    if refused:
        first, sent = refused[0], evidence.expected(refused[0])
        detail = f"about {sent:.0f} tokens and {first.most} for the answer are refused, though "
        detail += f"both fit ({first.trouble}); {plural(good[0].most, 'token')} is answered"
        return warned(name, detail)
    empty = [each for each in good if each.says_nothing]
    if not empty:
        most = max(good, key=lambda each: each.output_tokens)
        detail = f"the answer at 95 % has {most.output_tokens:g} of at most {most.most} tokens"
        return passed(name, detail, {"output_tokens": most.output_tokens})
    detail = f"{len(empty)} of {len(good)} answers at 95 % are empty, finish_reason "
    detail += shorten(str(empty[0].finish_reason), 40)
    if empty[0].output_tokens >= 1:
        return warned(name, f"{detail}: {empty[0].output_tokens:g} tokens are counted, none shown")
    if any(each.says_nothing for each in evidence.good(SHORT)):
        return skip(name, f"{detail}, as at 10 %: the model says nothing")
    if len(empty) < len(good) or any(each.finish_reason == "stop" for each in empty):
        return warned(name, f"{detail}: the model says nothing, or there is no room for it")
    return failed(name, f"{detail}: there is no room for a single token")


def check_together(evidence: Evidence) -> Check:
    """Half of the context holds for each of several requests at once."""
    name, asked, count = "together", evidence.of(TOGETHER), evidence.concurrency
    if count == 1:
        return skip(name, "one request is served at once (--concurrency asks for more)")
    if cut := [each for each in asked if evidence.lacking(each)]:
        detail = f"{len(cut)} of {len(asked)} at once are cut: {short_words(cut[0], evidence)}"
        return failed(name, f"{detail}; alone they are not")
    if trouble := judge_trouble(name, asked, evidence):
        return trouble
    if len(asked) < count:
        return not_told(name, evidence)
    counts = [each.counted.tokens for each in asked if each.counted]
    if len(counts) < len(asked):
        return undecided(name, "not decided: some answers have no usage.prompt_tokens")
    more = f" (it serves {evidence.serves})" if (evidence.serves or 0) > count else ""
    return judge_load(name, f"{count} at once{more}, each {min(counts):g} tokens or more", evidence)


def judge_load(name: str, detail: str, evidence: Evidence) -> Check:
    """Is the beginning lost more often together than alone, so that it cannot be the model?"""
    table, asked = table_of_loss(evidence), evidence.of(TOGETHER)
    chance = chance_of_so_few([table])
    first, tries = table.other_right, table.other_asked
    is_weak = 2 * table.right <= table.asked
    if not tries or not held_control(evidence) or (is_weak and chance >= LIMIT):
        reason = f"{detail}; whether they are remembered, this model cannot show"
        return cannot_show(name, reason, asked, evidence)
    alone = "all" if table.right == table.asked else f"{table.right} of {table.asked}"
    detail += f"; the beginning is repeated by {first} of {tries}, alone by {alone}"
    if first == tries:
        return passed(name, detail)
    detail += f" (the chance of so few: {chance:.2g})"
    facts = {"chance": chance, **table._asdict()}
    lost = [each for each in asked if each.found[0] is False]
    if evidence.are_read(asked):
        return warned(name, f"{detail}; the engine has read all of them (timings)", facts)
    if chance < LIMIT and 2 * repeated(lost, 2)[0] >= len(lost):
        detail += ", and the end is: the beginning is dropped under load"
        return failed(name, detail, facts)
    detail += "; the model may be too weak, or text is lost (a larger --concurrency can tell)"
    return warned(name, detail, facts)


def check_beyond(evidence: Evidence) -> Check:
    """What is longer than the context is refused with a reason, or read in full all the same."""
    name, asked = "beyond", evidence.of(BEYOND)
    if not asked:
        return not_told(name, evidence)
    answer, one = asked[0].answer, asked[0]
    sent = f"about {evidence.expected(one):.0f} tokens"
    facts = {"status": answer.status, "sent_tokens": evidence.expected(one)}
    if one.trouble is None:
        return judge_served(name, one, sent, facts, evidence)
    if reason := excuse(one, evidence):
        return undecided(name, f"not decided: {reason}", facts)
    told = f"{sent}: {one.trouble}"
    if not one.is_refused:
        return failed(name, f"{told}: expected a 4xx that names the limit", facts)
    if answer.status == 200:
        return warned(name, f"{told}: the refusal comes inside of a 200 stream", facts)
    if evidence.size in limits_named(answer):
        return passed(name, f"{told}; it names the limit of {evidence.size}", facts)
    if says_too_long(answer):
        return passed(name, f"{told}; it says that the prompt is too long", facts)
    return warned(name, f"{told}; it does not say that the prompt is too long", facts)


def judge_served(
    name: str, asked: Asked, sent: str, facts: dict[str, Any], evidence: Evidence
) -> Check:
    """The verdict on a prompt that is longer than the context, and was answered."""
    counted = asked.counted
    if counted is None:
        return undecided(name, "not decided: 200 without usage.prompt_tokens", facts)
    told = f"{sent}: 200, {counted.tokens:g} are counted"
    if evidence.lacking(asked):
        return failed(name, f"{told}: the prompt is cut, and nothing says so", facts)
    if asked.is_cut and asked.says_nothing and not asked.output_tokens:
        expected = "expected a 4xx that names the limit"
        return failed(name, f"{told}, and no token of an answer has room: {expected}", facts)
    kept, tries = repeated(evidence.good(LONG), 0)
    is_strong = held_control(evidence) and 0 < kept == tries
    is_lost = is_strong and asked.found[0] is False
    if asked.found[0] or (asked.is_cut and not is_lost):
        return passed(name, f"{told}: more than promised has room", facts)
    if is_lost and asked.found[2] and not evidence.is_read(asked):
        return failed(name, f"{told}, but the beginning is not repeated: it is dropped", facts)
    return warned(name, f"{told}; whether all of it was read, this model cannot show", facts)


def check_form(evidence: Evidence) -> Check:
    return form.check_form(each.answer for each in evidence.asked)


JUDGES = (
    check_promise,
    check_taken,
    check_remembered,
    check_room,
    check_together,
    check_beyond,
    check_form,
)


OF_CHECK = {  # the phases that a check looks at
    "taken": (RATE, SHORT, HALF, LONG),
    "remembered": (LONG, SHORT),
    "room": (LONG,),
    "together": (TOGETHER,),
    "beyond": (BEYOND,),
}


def behind(name: str, evidence: Evidence) -> list[Answer]:
    """The answers that a check rests on: what was refused, cut or lost, if anything was."""
    asked = evidence.of(*OF_CHECK.get(name, ()))
    wrong = telling(asked, lambda a: a.trouble or evidence.lacking(a) or a.found[0] is False)
    return [each.answer for each in wrong]


def judge(evidence: Evidence) -> list[Check]:
    checks = [check(evidence) for check in JUDGES]
    return with_answers(checks, lambda name: behind(name, evidence))


# --- show


def figures(asked: Asked, evidence: Evidence) -> dict[str, Any]:
    """What one prompt tells, as it is saved and shown."""
    rate = evidence.rate
    return {
        "phase": asked.phase,
        "sentences": asked.prompt.sentences,
        "sent_tokens": round(evidence.expected(asked), 1) if rate else None,
        "prompt_tokens": asked.counted.tokens if asked.counted else None,
        "cached_tokens": asked.counted.cached if asked.counted else None,
        "prefill_ms": asked.prefill_ms,
        "prefill_tokens_per_s": asked.tokens_per_s,
        "server_prefill_ms": asked.server_prefill_ms,
        "server_prefill_tokens_per_s": asked.server_tokens_per_s,
        "found": list(asked.found),
    }


def records(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            **figures(asked, evidence),
            "max_tokens": asked.most,
            "status": asked.answer.status,
            "error": asked.answer.failure_kind,
            "error_text": asked.trouble,
            "rate_limited": asked.answer.is_rate_limited,
            "finish_reason": shorten(str(asked.finish_reason or ""), 40) or None,
            "output_tokens": asked.output_tokens,
            "spent_ms": asked.answer.spent_ms,
            **asked.answer.silence_figures,
        }
        for asked in evidence.asked
    ]


def metrics(evidence: Evidence) -> dict[str, Any]:
    rate: Rate | None = evidence.rate
    depths = {}
    for phase in (SHORT, HALF, LONG, BEYOND):
        if good := evidence.good(phase):
            depths[phase] = figures(good[-1], evidence)
    return {
        "context_tokens": evidence.size,
        "source": evidence.promise.source,
        "tokens_per_sentence": round(rate.per_sentence, 3) if rate else None,
        "count_error_tokens": round(rate.error, 2) if rate else None,
        "concurrency": evidence.concurrency,
        "depths": depths,
    }


def pace(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} tok/s" if value < 99_999.5 else f"{value / 1e3:.0f}k tok/s"


def row(asked: Asked, evidence: Evidence) -> str:
    label = f"{percent_of(asked.phase)}{' together' if asked.phase == TOGETHER else ''}"
    sent = f"{evidence.expected(asked):.0f}"
    if asked.trouble:
        return f"  {label:14}{sent:>8}  {shorten(asked.trouble, 54)}"
    counted = f"{asked.counted.tokens:g}" if asked.counted else "-"
    marks = "".join({True: "+", False: "-", None: "?"}[each] for each in asked.found)
    times = f"{duration(asked.prefill_ms):>11}{pace(asked.tokens_per_s):>12}"
    return f"  {label:14}{sent:>8}{counted:>9}{times}{pace(asked.server_tokens_per_s):>14}  {marks}"


def lines(evidence: Evidence, url: str) -> list[str]:
    """A line for each prompt. A number was repeated (+), was not (-), or had no room (?)."""
    rows = [shorten(f"A context of {evidence.size} tokens at {url}", 80)]
    if evidence.rate is None:
        return rows
    titles = f"{'sent':>8}{'counted':>9}{'1st token':>11}{'prefill':>12}{'server':>14}"
    rows.append(f"  {'':14}{titles}  numbers")
    shown = evidence.of(SHORT, HALF, LONG, TOGETHER, BEYOND)
    rows += [row(asked, evidence) for asked in shown]
    return [*rows, "  numbers: at the beginning, in the middle, at the end; + repeated, - not"]


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
