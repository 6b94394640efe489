#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Are the answers as right when requests run together as when each runs alone?

Asks questions that only the one request can answer: repeat these made-up words, count on, pick from
a list. First it finds out which of them the model can answer at all, and asks these one after the
other. Then it sends as many at once as the deployment serves, streamed and not, in three rounds of
different lengths, so that places change hands. At last it cancels answers in mid-stream and
looks for something of them in the answers that follow.

PASS: no answer holds a word of another request, and not fewer answers are right together than
alone. The models are not judged: a weak one is asked only what it can do.
Cost: about 100 requests with the usual 8 at once, each of at most 96 tokens. All of them count for
a key's rate limit, and it keeps the deployment busy. It wakes a sleeping worker.

Examples:
    # as many at once as /health says, else 8
    python3 test_concurrency.py --url https://host:8000 --api-key sk-key
    # more than that, which nobody has to promise
    python3 test_concurrency.py --url https://host:8000 --concurrency 32
    # a model that thinks before it answers
    python3 test_concurrency.py --url https://host:8000 --max-tokens 1024
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import os.path
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import common
from common import CannotCheck, Check, NoAccess, Run
from livecheck.core.checks import failed, passed, skip, undecided, warned
from livecheck.core.json_value import pick, quoted
from livecheck.core.text import counted, plural, shorten
from livecheck.gateway import characters
from livecheck.gateway.burst import Limits
from livecheck.gateway.exact_test import Table, chance_of_so_few
from livecheck.gateway.own_questions import KINDS, Question, Questions, foreign
from livecheck.gateway.plans import (
    ASKED_AGAIN,
    AT_ONCE,
    COMPARISONS,
    FOR_EACH_PLACE,
    LEAST_IN_ROUND,
    LONG_TOKENS,
    ROUNDS,
    SENDINGS,
    TRIALS,
    TRIED_AT_MOST,
    plan_concurrency,
)
from livecheck.wire import chat, dialect, form, notices
from livecheck.wire.access import no_access
from livecheck.wire.answer import BUSY, Answer
from livecheck.wire.answer import records as answer_records
from livecheck.wire.asking import Asker, Cause, Stop, open_wire, reason_to_stop
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.spoken import without_thoughts
from livecheck.wire.wire import Request

OF_ROUNDS = ("answered", "crosstalk", "correct", "same_text", "characters")
CHECKS = ("alone", *OF_ROUNDS, "leftovers", form.NAME)
MOST_AT_ONCE = 32  # of our own accord, whatever /health says
LENGTHS = (1 / 3, 2 / 3, 1)  # of --max-tokens, in turn
LEAST_TOKENS = 24  # of an answer: a right one has fewer, with nearly any tokenizer
LEAST_CANCELLED_BYTES = 600  # of the answer: its head, and the first event or two
LIMIT = 0.01  # a chance that is smaller than this is a FAIL
CERTAIN = 0.0001  # of a larger one than this, all is asked once more before it is believed
PAUSE_S = 0.5  # before it is sent again
SEED = 1
TEXT_LENGTH = 60  # characters of an answer in a line
SAVED_LENGTH = 160  # in the results
CROWDED = ("together", "cancelled", "after")  # steps in which several requests run


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_concurrency)
    add = parser.add_argument_group("what to ask").add_argument
    number = common.whole_number
    at_once = f"requests at once (default: as /health says, at most {MOST_AT_ONCE}, else {AT_ONCE})"
    add("--concurrency", type=number(2, 256), metavar="N", help=at_once)
    alone = "questions asked one by one, to compare with (default %(default)s)"
    add("--alone", type=number(4, 1000), default=20, metavar="N", help=alone)
    tokens = "tokens of an answer at most (default %(default)s)"
    add("--max-tokens", type=number(16), default=96, metavar="N", help=tokens)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    return parser


# --- measure


@dataclass(frozen=True)
class Task:
    """A question, and the request that asks it."""

    question: Question
    request: Request


@dataclass
class Asked:
    """A task and its answer. `step`: trial, alone, again, together, cancelled or after.

    What is needed of the answer is taken from it at once; then most of its bytes are let go.
    """

    step: str
    task: Task
    answer: Answer
    text: str = field(init=False)  # for the user
    said: str = field(init=False)  # all of it, the thoughts as well, in whichever form they came
    size: int = field(init=False)  # bytes that came
    was_cut: bool = field(init=False)  # by max_tokens
    is_utf8: bool = field(init=False, default=True)
    has_timings: bool = field(init=False)  # as llama.cpp sends them

    def __post_init__(self) -> None:
        answer = self.answer
        text, thoughts = answer.said if answer.status == 200 else ("", "")
        self.said = f"{thoughts}\n{text}".strip()
        self.text, self.size = without_thoughts(text), answer.reply.size
        content = None if answer.is_stream else answer.json
        reason = answer.stream.finish_reason if answer.is_stream else None
        self.was_cut = (reason or pick(content, "choices", 0, "finish_reason")) == "length"
        self.has_timings = bool(answer.stream.timings or pick(content, "timings"))
        if answer.is_ok and self.is_whole:
            try:
                answer.body.decode()
            except UnicodeDecodeError:
                self.is_utf8 = False
        answer.let_go()

    @property
    def question(self) -> Question:
        return self.task.question

    @property
    def is_whole(self) -> bool:
        return not self.answer.reply.cancelled

    @property
    def is_refused(self) -> bool:
        """Whether there was no room for it: a 503 or 529 while others ran, or one that says when to
        come again, or that the server is busy."""
        answer = self.answer
        if answer.status not in BUSY or answer.failure is not None:
            return False
        says_so = answer.retry_after_s is not None or answer.says_busy
        return self.step in CROWDED or says_so

    @property
    def counts(self) -> bool:
        """Whether it says how right the answers are."""
        status = self.answer.status or 0
        is_too_long = self.step == "cancelled" and 400 <= status < 500  # for the model's context
        is_left_out = self.is_refused or self.answer.is_excluded or is_too_long
        return self.is_whole and not is_left_out

    @property
    def problem(self) -> str | None:
        """Why there is no answer that could be right or wrong; None when there is one, be it
        empty."""
        answer = self.answer
        if not self.counts:
            return None
        if answer.is_stream and answer.stream_error and answer.stream_error.kind == "empty":
            return None
        found = answer.completion
        is_silent = answer.is_ok and not answer.is_stream and found.problem == NO_CONTENT
        return None if is_silent else found.problem

    @property
    def is_right(self) -> bool:
        return self.counts and self.problem is None and self.question.is_right(self.text)


NO_CONTENT = "200, but without content"


@dataclass
class Evidence:
    """All that was asked and answered, and why no more was.

    `at_once`: with how many requests at once each round began. `kinds`: the questions that the
    model can answer.
    """

    questions: Questions = field(default_factory=Questions)
    asked: list[Asked] = field(default_factory=list)
    kinds: tuple[str, ...] = ()
    at_once: list[int] = field(default_factory=list)
    stopped: Stop | None = None
    timeout_s: float = float("inf")  # of one request
    is_greedy: bool = True  # the model takes the temperature 0

    def of(self, *steps: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.step in steps]

    def counted(self, *steps: str) -> list[Asked]:
        return [asked for asked in self.of(*steps) if asked.counts]

    @property
    def cut(self) -> list[Asked]:
        """Those that were cancelled in mid-stream: they may leave something behind."""
        return [asked for asked in self.of("cancelled") if not asked.is_whole]

    @property
    def refused(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.is_refused]

    @property
    def in_turn_s(self) -> float:
        """How long the requests of a round would take if they were served one after the other."""
        alone_ms = [each.answer.answer_ms or 0 for each in self.counted("trial", "alone")]
        return max(alone_ms, default=0) / 1e3 * max(self.at_once, default=1)

    def waited(self, asked: Asked) -> bool:
        """Whether it came too late, and may only have waited for its turn."""
        is_late = asked.step in CROWDED and asked.answer.timed_out
        return is_late and self.in_turn_s >= self.timeout_s

    def table(self, kind: str) -> Table:
        """The right answers to this kind of questions, alone and together; without those that may
        only have waited."""
        alone, together = (
            [
                asked.is_right
                for asked in self.counted(step)
                if asked.question.kind == kind and not self.waited(asked)
            ]
            for step in ("alone", "together")
        )
        return Table(sum(alone), len(alone), sum(together), len(together))

    @property
    def tables(self) -> list[Table]:
        return [self.table(kind) for kind in self.kinds]

    @property
    def chance(self) -> float:
        """How likely it is that so few are right together, if that makes no difference."""
        return chance_of_so_few(self.tables)


class Session:
    """Asks the questions of one run; `evidence` has what came back, also when it is interrupted."""

    def __init__(self, asker: Asker, model: str, at_once: int):
        self.asker, self.model, self.at_once = asker, model, at_once
        self.args = asker.run.args
        self.evidence = Evidence(timeout_s=self.args.timeout)
        # tasks until now: forms and lengths go on in turn, so that no step has more easy ones
        self._made = 0

    def tasks(self, kinds: Sequence[str], count: int) -> list[Task]:
        """New questions of these kinds in turn; each kind streamed and not, short and long."""
        found = []
        for index, question in enumerate(self.evidence.questions.mixed(kinds, count)):
            turn = (self._made + index) // len(kinds)
            share = LENGTHS[turn // 2 % len(LENGTHS)]
            tokens = max(
                min(LEAST_TOKENS, self.args.max_tokens), round(share * self.args.max_tokens)
            )
            found.append(self.task(question, tokens, stream=turn % 2 == 0))
        self._made += count
        return found

    def task(self, question: Question, tokens: int, stream: bool = True, **more: Any) -> Task:
        settings = {"temperature": 0, "seed": SEED, **more}
        request = chat.completion(self.model, question.messages, tokens, stream, **settings)
        return Task(question, request)

    def ask(self, step: str, tasks: Sequence[Task], at_once: int = 1) -> list[Asked]:
        """The answers to these tasks; they are in the evidence as well."""
        found: list[Asked] = []

        def keep(answers: list[Answer]) -> None:
            found.extend(Asked(step, *pair) for pair in zip(tasks, answers, strict=False))
            self.evidence.asked += found

        requests = [task.request for task in tasks]
        label = f"{len(tasks)} questions, {WORDS[step]}" if len(tasks) > 1 else None
        self.asker.ask(requests, at_once, label=label, total=len(tasks), keep=keep)
        self.evidence.stopped = self.asker.stopped
        return found


WORDS = {
    "trial": "to see what the model can answer",
    "alone": "one by one",
    "again": "once more",
    "together": "several at once",
    "after": "once more, because there was no room",
}


def find_kinds(session: Session) -> tuple[str, ...]:
    """The kinds of questions that the model can answer: more than half of those that were tried.
    A small model may have bad luck with the first ones. CannotCheck when it lets nobody in."""
    tasks = session.tasks(KINDS, TRIALS * len(KINDS))
    first = session.ask("trial", tasks[:1])
    if first and (text := no_access(session.asker.run, first[0].answer)):
        raise NoAccess(text)
    session.ask("trial", tasks[1:])
    found = kinds_shown(session.evidence)
    for _ in range(TRIED_AT_MOST - 1):
        if found or not any(asked.is_right for asked in session.evidence.of("trial")):
            break
        session.ask("trial", session.tasks(KINDS, TRIALS * len(KINDS)))
        found = kinds_shown(session.evidence)
    return found


def kinds_shown(evidence: Evidence) -> tuple[str, ...]:
    """The kinds of which more than half of the trials were answered right."""
    tried = evidence.of("trial")
    asked = Counter(each.question.kind for each in tried)
    right = Counter(each.question.kind for each in tried if each.is_right)
    return tuple(kind for kind in KINDS if 2 * right[kind] > asked[kind])


def ask_alone(session: Session) -> list[Task]:
    tasks = session.tasks(session.evidence.kinds, session.args.alone)
    session.ask("alone", tasks)
    return tasks


def ask_together(session: Session, known: Sequence[Task]) -> None:
    """Three rounds. The first one begins with the questions that were asked alone."""
    for number in range(ROUNDS):
        count = max(LEAST_IN_ROUND, FOR_EACH_PLACE * session.at_once)
        tasks = list(known[:count]) if number == 0 else []
        tasks += session.tasks(session.evidence.kinds, count - len(tasks))
        ask_round(session, tasks)


def ask_round(session: Session, tasks: Sequence[Task]) -> None:
    """All of these questions. Those for which there was no room are asked again, and half as many
    at once."""
    for _ in range(SENDINGS):
        session.evidence.at_once.append(session.at_once)
        asked = session.ask("together", tasks, session.at_once)
        tasks = [each.task for each in asked if each.is_refused]
        if not tasks or session.asker.stopped:
            return
        session.at_once = max(2, session.at_once // 2)
        time.sleep(PAUSE_S)


def compare(session: Session) -> None:
    """The same kinds of questions alone and together; twice when the first time leaves a doubt."""
    for attempt in range(COMPARISONS):
        tasks = ask_alone(session)
        if attempt == 0:
            session.ask("again", tasks[:ASKED_AGAIN])
        ask_together(session, tasks)
        if session.asker.stopped or not CERTAIN < session.evidence.chance < LIMIT:
            return


def ask_after_cancelled(session: Session) -> None:
    """Half of the places have answers that are cancelled in mid-stream, and as soon as one is, the
    next question follows: so many that each place has one."""
    evidence, count = session.evidence, session.at_once
    kind = "count" if "count" in evidence.kinds else evidence.kinds[-1]
    sizes = [a.size for a in evidence.counted("trial", "alone") if is_long(a, kind)]
    half = max(LEAST_CANCELLED_BYTES, min(sizes, default=0) // 2)
    caches = any(asked.has_timings for asked in evidence.asked)  # else the option may be refused
    tokens = session.args.max_tokens
    cancelled, after = [], []
    for question in evidence.questions.mixed([kind], (count + 1) // 2):
        task = session.task(question, max(tokens, LONG_TOKENS))
        cancelled.append(replace(task, request=replace(task.request, cancel_at_bytes=half)))
    for index, question in enumerate(evidence.questions.mixed([kind], count)):
        more = {"cache_prompt": index % 2 == 0} if caches else {}
        after.append(session.task(question, tokens, stream=index // 2 % 2 == 0, **more))
    ask_in_turn(session, cancelled, after)


def is_long(asked: Asked, kind: str) -> bool:
    """Whether it is a stream of the length that streams of this kind usually have."""
    return asked.question.kind == kind and asked.answer.is_stream and asked.problem is None


def ask_in_turn(session: Session, cancelled: Sequence[Task], after: Sequence[Task]) -> None:
    """The tasks that are cancelled, and those that follow them at once; these once more if there
    was no room while places became free."""
    count = len(after)
    steps = ["cancelled"] * len(cancelled) + ["after"] * count

    def keep(answers: list[Answer]) -> None:
        session.evidence.asked += map(Asked, steps, [*cancelled, *after], answers)

    label = f"{plural(len(cancelled), 'answer')} to be cancelled, and {count} after that"
    requests = [task.request for task in (*cancelled, *after)]
    session.asker.ask(requests, count, label=label, total=len(requests), keep=keep)
    session.evidence.stopped = session.asker.stopped
    refused = [a.task for a in session.evidence.of("after") if a.is_refused]
    if refused and not session.asker.stopped:
        time.sleep(PAUSE_S)
        session.ask("after", refused, count)


def how_many(run: Run, health: Answer | None) -> int:
    """How many requests to send at once. CannotCheck when the deployment never has two."""
    if run.args.concurrency:
        return int(run.args.concurrency)
    limits = Limits.announced_by(health) if health else None
    if limits is None:
        return AT_ONCE
    if limits.max_concurrent == 1:
        if limits.may_wait(1) == 0:
            raise CannotCheck(
                "the deployment has room for one request only (/health), so that no two are ever "
                "there together: raise its limit, or give --concurrency"
            )
        run.note("the deployment serves one request at a time: of two at once, one waits")
    if limits.max_concurrent > MOST_AT_ONCE:
        run.note(
            f"the deployment serves {limits.max_concurrent} requests at once: {MOST_AT_ONCE} are "
            "sent, --concurrency sends more"
        )
    return max(2, min(limits.max_concurrent, MOST_AT_ONCE))


def measure(run: Run) -> None:
    document = run.document("concurrency")
    with open_wire(run, run.token()) as wire:
        asker = Asker(run, wire)
        paths = [chat.MODELS] if run.args.concurrency else [chat.MODELS, "/health"]
        contact = chat.first_contact(run, wire, [chat.get(path) for path in paths])
        model = run.target["model"] = model_to_ask(run, contact[0])
        session = Session(asker, model, how_many(run, contact[1] if contact[1:] else None))
        evidence = session.evidence
        asker.stopped = evidence.stopped = reason_to_stop(contact[0])
        try:
            ask_all(session)
        finally:
            evidence.is_greedy = "temperature" not in dialect.of_run(run).refused
            document.requests = records(evidence)
            document.metrics = metrics(evidence)
    document.add(*judge(evidence))
    run.show(lines(evidence, run.url), document.checks)


def ask_all(session: Session) -> None:
    run = session.asker.run
    session.evidence.kinds = find_kinds(session)
    if not session.evidence.kinds:
        return
    if any(run.wants(name) for name in OF_ROUNDS):
        compare(session)
    if run.wants("leftovers"):
        ask_after_cancelled(session)


# --- judge


def check_alone(evidence: Evidence) -> Check:
    """Which questions the model can answer at all, when nothing else runs."""
    tried = evidence.counted("trial")
    asked = Counter(each.question.kind for each in tried)
    right = Counter(each.question.kind for each in tried if each.is_right)
    found = {kind: {"right": right[kind], "asked": asked[kind]} for kind in KINDS}
    said = ", ".join(f"{kind} {right[kind]} of {asked[kind]}" for kind in KINDS)
    if evidence.kinds:
        left_out = [kind for kind in KINDS if kind not in evidence.kinds]
        words = f"; {' and '.join(left_out)} left out" if left_out else ""
        return passed("alone", f"right answers: {said}{words}", found)
    if evidence.stopped:
        return undecided("alone", f"not decided: {evidence.stopped}", found)
    if not tried:
        return undecided("alone", f"no question was answered{refusals(evidence)}", found)
    answers = [each.answer for each in tried]
    example = next((each for each in tried if each.problem is None and each.text), None)
    words = f", as {shorten(example.text, TEXT_LENGTH)!r}" if example else ""
    detail = f"the model can answer none of the questions, not even alone ({said}{words})"
    return undecided("alone", f"{detail}: nothing to compare{notices.beside(answers)}", found)


def check_answered(evidence: Evidence) -> Check:
    """Every request gets an answer, unless there is no room for it."""
    name, stopped = "answered", evidence.stopped
    if not evidence.asked:
        if stopped and stopped.cause in (Cause.SILENT, Cause.FLOOD):
            return failed(name, str(stopped))
        return undecided(name, f"not decided: {stopped or 'nothing was asked'}")
    tried = [each for each in evidence.asked if each.counts]
    bad = [each for each in tried if each.problem]
    facts = {"asked": len(tried), "failed": len(bad), "refused": len(evidence.refused)}
    if bad:
        detail = f"{len(bad)} of {len(tried)} requests failed ({in_steps(bad)}): "
        detail += counted(each.problem or "" for each in bad)
        if wait := explained_wait(bad, evidence):
            return undecided(name, f"{detail}; {wait}", facts)
        return failed(name, detail, facts).shown_by(each.answer for each in bad)
    if not tried or len(evidence.counted("together")) < len(evidence.refused):
        return undecided(name, f"most requests were refused{refusals(evidence)}", facts)
    if stopped:
        return undecided(name, f"not decided: {stopped}", facts)
    return passed(name, f"{plural(len(tried), 'request')}{refusals(evidence)}", facts)


def explained_wait(bad: Sequence[Asked], evidence: Evidence) -> str | None:
    """The line for answers that came too late and may only have waited for their turn: a deployment
    that serves one after the other, and says so nowhere, is slow and sound."""
    if not all(evidence.waited(each) for each in bad):
        return None
    return (
        f"one after the other they would take about {evidence.in_turn_s:.0f} s: "
        "give a larger --timeout or a smaller --concurrency"
    )


def refusals(evidence: Evidence) -> str:
    """What to say of the requests for which there was no room."""
    if not (found := evidence.refused):
        return ""
    said = f"; {len(found)} more were refused ({found[0].answer.outcome()})"
    if evidence.at_once and evidence.at_once[-1] < evidence.at_once[0]:
        said += f", so that {evidence.at_once[-1]} at once were sent, not {evidence.at_once[0]}"
    return said


def in_steps(found: Iterable[Asked]) -> str:
    """How many of them were alone and how many together."""
    alone = Counter(each.step not in CROWDED for each in found)
    return f"{alone[True]} alone, {alone[False]} together"


def not_compared(name: str, evidence: Evidence) -> Check | None:
    """The verdict when nothing was asked together, or not all of it."""
    if not evidence.kinds:
        return skip(name, "the model can answer none of the questions")
    if evidence.stopped:
        return undecided(name, f"not decided: {evidence.stopped}")
    if not evidence.counted("together"):
        return undecided(name, f"no two requests were answered together{refusals(evidence)}")
    return None


def check_crosstalk(evidence: Evidence) -> Check:
    """No answer holds a word that only another request knows."""
    name = "crosstalk"
    left = {word for each in evidence.cut for word in each.question.words}
    owners = evidence.questions.owners
    mine = {word: owner for word, owner in owners.items() if word not in left}  # no leftovers
    found = [(a, words) for a in evidence.asked if (words := foreign(a.said, a.question, mine))]
    facts = {"answers": len(evidence.counted(*WORDS)), "crossed": len(found)}
    if found:
        asked, words = found[0]
        detail = f"{len(found)} of {facts['answers']} answers hold a word of another request "
        detail += (
            f"({in_steps(each for each, _ in found)}): {ask_words(asked.question)} was answered "
        )
        detail += f"{answer_words(asked)}, and {words[0]} is of {ask_words(owners[words[0]])}"
        return failed(name, detail, facts).shown_by(with_owners(found, evidence))
    if missing := not_compared(name, evidence):
        return missing
    return passed(name, f"no word of another request in {facts['answers']} answers", facts)


def with_owners(found: Sequence[tuple[Asked, list[str]]], evidence: Evidence) -> Iterator[Answer]:
    """The answers that hold another request's word, each followed by that other request's own."""
    for asked, words in found:
        yield asked.answer
        owner = evidence.questions.owners[words[0]]
        others = [each for each in evidence.asked if each.question is owner]
        others.sort(key=lambda each: each.step != asked.step)  # first what ran at the same time
        yield from (each.answer for each in others[:1])


def ask_words(question: Question) -> str:
    """What was asked, for people."""
    return quoted(str(question.messages[-1]["content"]))


def answer_words(asked: Asked) -> str:
    """The beginning of an answer, for people."""
    return asked.problem or quoted(asked.said[:TEXT_LENGTH])


def check_correct(evidence: Evidence) -> Check:
    """Not fewer answers are right together than alone."""
    name, tables, chance = "correct", evidence.tables, evidence.chance
    right, asked, other_right, other_asked = map(
        sum, zip(*tables or [Table(0, 0, 0, 0)], strict=True)
    )
    facts = {"alone_right": right, "alone": asked}
    facts |= {"together_right": other_right, "together": other_asked}
    said = f"{other_right} of {other_asked} right together, {right} of {asked} alone"
    is_certain = chance < (CERTAIN if evidence.stopped else LIMIT)
    if is_certain:
        detail = f"{said}: the chance of so few is {chance:.2g}{example_of_wrong(evidence)}"
        wrong = (each.answer for each in wrong_together(evidence))
        return failed(name, detail, {**facts, "chance": chance}).shown_by(wrong)
    if missing := not_compared(name, evidence):
        return missing
    if not asked:
        return undecided(name, "nothing was answered alone to compare with", facts)
    if late := [each for each in evidence.counted("together") if evidence.waited(each)]:
        detail = f"not decided: {said}, and {len(late)} more came too late"
        return undecided(name, f"{detail}; {explained_wait(late, evidence)}", facts)
    worst = [table._replace(other_right=0) for table in tables]
    if other_right < other_asked and chance_of_so_few(worst) >= LIMIT:
        detail = f"not decided: {said}; chance could explain it even if all were wrong"
        return undecided(name, detail, facts)
    if other_right < other_asked:
        said += f" (the chance of so few: {chance:.2g})"
    return passed(name, said, {**facts, "chance": chance})


def wrong_together(evidence: Evidence) -> list[Asked]:
    """The wrong answers among those that ran together, without those that only waited."""
    tried = [each for each in evidence.counted("together") if not evidence.waited(each)]
    return [each for each in tried if not each.is_right]


def example_of_wrong(evidence: Evidence) -> str:
    """One of the wrong answers among those that ran together."""
    wrong = wrong_together(evidence)
    if not wrong:
        return ""
    return f"; {ask_words(wrong[0].question)} was answered {answer_words(wrong[0])}"


def check_same_text(evidence: Evidence) -> Check:
    """At temperature 0 the same request has the same text, alone and together."""
    name = "same_text"
    if missing := not_compared(name, evidence):
        return skip(name, missing.detail)
    again, pairs = (text_pairs(evidence, step) for step in ("again", "together"))
    unsteady = [pair for pair in again if pair[0] != pair[1]]
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    facts = {"pairs": len(pairs), "differ": len(differ), "differ_alone": len(unsteady)}
    if not evidence.is_greedy:
        return skip(name, "the model does not take the temperature 0", facts)
    if not pairs:
        return skip(name, "no request was answered both alone and together", facts)
    if unsteady:
        detail = f"{len(unsteady)} of {len(again)} texts differ alone as well: cannot tell"
        return skip(name, detail, facts)
    if differ:
        same = evidence.of("alone", "together")
        shown = [next(a.answer for a in same if a.text == text) for text in differ[0]]
        one, other = differ[0]
        detail = f"{len(differ)} of {len(pairs)} texts at temperature 0 differ, as "
        start = max(0, len(os.path.commonprefix([one, other])) - TEXT_LENGTH // 2)
        one, other = (quoted(text[start : start + TEXT_LENGTH]) for text in (one, other))
        detail += f"{one} alone and {other} together: "
        detail += "other requests in its batch may change how the engine rounds"
        return warned(name, detail, facts).shown_by(shown)
    return passed(name, f"{plural(len(pairs), 'text')} at temperature 0, the same together", facts)


def text_pairs(evidence: Evidence, step: str) -> list[tuple[str, str]]:
    """The texts of the same requests, alone and in this step."""
    good = [each for each in evidence.counted("alone", step) if each.problem is None]
    alone = {id(each.task): each.text for each in good if each.step == "alone"}
    others = [each for each in good if each.step == step and id(each.task) in alone]
    return [(alone[id(each.task)], each.text) for each in others]


def check_characters(evidence: Evidence) -> Check:
    """No answer has lost a character on its way."""
    name = "characters"
    whole = [each for each in evidence.asked if each.counts and each.answer.is_ok]
    if not whole:
        return skip(name, "there is no answer to look at")
    broken = [each for each in whole if not each.is_utf8]
    lost = [each for each in whole if characters.is_damaged(each.said, each.was_cut)]
    facts = {"answers": len(whole), "lost": len(lost), "not_utf8": len(broken)}
    parts = []
    if lost:
        sample = quoted(lost[0].said[:TEXT_LENGTH])
        parts.append(f"{len(lost)} have U+FFFD in them ({in_steps(lost)}), as {sample}")
    if broken:
        parts.append(f"{len(broken)} are not UTF-8 ({in_steps(broken)})")
    if parts:
        detail = f"of {plural(len(whole), 'answer')}, {'; '.join(parts)}"
        return warned(name, detail, facts).shown_by(each.answer for each in lost + broken)
    return passed(name, f"{plural(len(whole), 'answer')} without U+FFFD, all of them UTF-8", facts)


def check_leftovers(evidence: Evidence) -> Check:
    """An answer that was cancelled leaves nothing in the one that gets its place."""
    name = "leftovers"
    cancelled = evidence.cut
    after = [each for each in evidence.counted("after") if each.problem is None]
    owners = {w: each.question for each in cancelled for w in each.question.words}
    found = [(each, w) for each in after if (w := foreign(each.said, each.question, owners))]
    facts = {"cancelled": len(cancelled), "after": len(after), "with_leftovers": len(found)}
    if found:
        asked, words = found[0]
        detail = f"{len(found)} of {len(after)} answers hold a word of a request that was cancelled"
        detail += f": {ask_words(asked.question)} was answered {answer_words(asked)}, and "
        detail = f"{detail}{words[0]} is of {ask_words(owners[words[0]])}"
        return failed(name, detail, facts).shown_by(each.answer for each, _ in found)
    if not evidence.kinds:
        return skip(name, "the model can answer none of the questions")
    if evidence.stopped:
        return undecided(name, f"not decided: {evidence.stopped}", facts)
    if not cancelled:
        return skip(name, "each answer had ended before it could be cancelled", facts)
    if not after:
        return undecided(name, f"no request after them was answered{refusals(evidence)}", facts)
    detail = f"no word of {plural(len(cancelled), 'cancelled request')} in the "
    return passed(name, f"{detail}{plural(len(after), 'answer')} that followed", facts)


JUDGES: tuple[Callable[[Evidence], Check], ...] = (
    check_alone,
    check_answered,
    check_crosstalk,
    check_correct,
    check_same_text,
    check_characters,
    check_leftovers,
)


def judge(evidence: Evidence) -> list[Check]:
    whole = [each.answer for each in evidence.asked if each.is_whole]
    return [*(check(evidence) for check in JUDGES), form.check_form(whole)]


# --- show


def metrics(evidence: Evidence) -> dict[str, Any]:
    kinds = {kind: evidence.table(kind)._asdict() for kind in evidence.kinds}
    return {
        "at_once": evidence.at_once,
        "kinds": kinds,
        "chance": evidence.chance if evidence.kinds else None,
        "refused": len(evidence.refused),
    }


def records(evidence: Evidence) -> list[dict[str, Any]]:
    at_wire = answer_records([each.answer for each in evidence.asked])
    return [
        {
            "index": index,
            "step": each.step,
            "kind": each.question.kind,
            "streamed": each.answer.wants_stream,
            "status": each.answer.status,
            "error": each.answer.failure_kind if each.is_whole else None,
            "error_text": each.problem,
            "rate_limited": each.answer.is_rate_limited,
            "cancelled": not each.is_whole,
            "sent_ms": row["sent_ms"],
            "ended_ms": row["ended_ms"],
            **each.answer.silence_figures,
            "right": each.is_right if each.counts and not evidence.waited(each) else None,
            "crossed": bool(foreign(each.said, each.question, evidence.questions.owners)),
            "text": shorten(each.text, SAVED_LENGTH),
        }
        for index, (each, row) in enumerate(zip(evidence.asked, at_wire, strict=True))
    ]


def lines(evidence: Evidence, url: str) -> list[str]:
    """A line for each kind of questions."""
    at_once = evidence.at_once[0] if evidence.at_once else None
    title = f"Right answers alone and with {at_once} requests at once" if at_once else "Answers"
    rows = [shorten(f"{title}, {url}", 80)]
    tried = evidence.counted("trial")
    for kind in KINDS:
        mine = [each.is_right for each in tried if each.question.kind == kind]
        row = f"  {kind:8} at first {sum(mine)} of {len(mine)}"
        if kind in evidence.kinds:
            table = evidence.table(kind)
            row += f"   alone {table.right} of {table.asked}"
            row += f"   together {table.other_right} of {table.other_asked}"
        else:
            row += "   left out"
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
