#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Can agents use tools with the deployment: are calls whole, well-formed, and the same in streams?

Asks for tool calls in many scenarios, each streamed and not: one tool forced, one of three chosen,
two calls in one turn, none needed, none allowed, arguments of all kinds, the turn after a result,
a long argument, thoughts before the call. What the server does with calls is judged. What depends
on the model (the right tool, arguments that keep the schema) is counted, and judged with --slo.

PASS: there are calls, clients can read every one of them, and none is there that must not be.
Cost: 98 requests one after the other with the defaults. Most answers are short, six have 4 KB of
text. It wakes a sleeping worker. A deployment whose model calls nothing is asked 8 times.

Examples:
    # all of it, each scenario three times
    python3 test_tools.py --url https://host:8000 --api-key sk-key
    # a reasoning model needs room to think before it calls
    python3 test_tools.py --url https://host:8000 --max-tokens 4000
    # as a gate for a new model or engine
    python3 test_tools.py --url https://host:8000 --slo schema_accuracy=95% --slo right_tool=90%
    # one kind of call, often
    python3 test_tools.py --url https://host:8000 --scenarios required two --repeat 10
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import common
from common import Check, NoAccess, Run, Status
from livecheck.core.checks import failed, passed, skip, undecided, warned
from livecheck.core.json_value import quoted
from livecheck.core.options import option_type
from livecheck.core.text import counted, listed, plural, shorten
from livecheck.gateway import tool_calls, tool_questions
from livecheck.gateway.exact_test import Table, chance_of_so_few
from livecheck.gateway.plans import plan_tools
from livecheck.gateway.tool_answers import (
    ToolAnswer,
    arguments_of,
    read_answer,
    record,
    tokens_of,
)
from livecheck.gateway.tool_questions import AFTER, BY_NAME, FIRST, NAMES, NONE, REQUIRED, Scenario
from livecheck.wire import chat, form
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.asking import COSTLY, Asker, Stop, open_wire, reason_to_stop
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.shares import Bound, Share, parse_bound, share_of

CHECKS = (
    *("calls", "requests", "tool_choice", "arguments", "deltas", "same_shape", "finish_reason"),
    *("leaks", "known_tools", "ids", "result", "thinking", form.NAME, "slo"),
)
OLD_CALL = "a call as `function_call`, where who sends tools looks for `tool_calls`"
DEFAULT_TOKENS = 512  # of --max-tokens: a call has 20 to 60, unless a model thinks before it
DEFAULT_REPEAT = 3
RATES = ("schema_accuracy", "right_tool", "right_arguments", "uses_result", "both_calls")
NO_CALL = "there is no call to look at"
CHANCE = 0.01  # how likely a difference of streams and whole answers is that is taken for chance
TOLD_APART = 2  # answers of each form, at least, for a difference that may be by chance
NOT_CHOSEN = ("none", "result")  # scenarios in which the model has no tool to choose
# how servers say in a 500 that they do not do tools, as llama.cpp's without --jinja
ABOUT_TOOLS = re.compile(r"\btools?\b|function.?call|jinja|template", re.I)


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_tools)
    add = parser.add_argument_group("what to ask").add_argument
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    times = "how often each scenario is asked, streamed and not (default %(default)s)"
    number = common.whole_number(1)
    add("--repeat", type=number, default=DEFAULT_REPEAT, metavar="N", help=times)
    names = f"only these: {', '.join(NAMES)}"
    add("--scenarios", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=names)
    longest = "longest answer, in tokens; more for the long argument (default %(default)s)"
    tokens = common.whole_number(16)
    add("--max-tokens", type=tokens, default=DEFAULT_TOKENS, metavar="N", help=longest)
    bound = f"fail below this share, as in schema_accuracy=95%% (repeatable): {', '.join(RATES)}"
    share = option_type(lambda text: parse_bound(text, RATES))
    add("--slo", type=share, action="append", default=[], metavar="NAME=SHARE", help=bound)
    return parser


# --- measure


@dataclass
class Evidence:
    """All that came back. `stopped`: why the rest was not asked. `control`: the answer to a
    question without tools, which is asked when there were no calls."""

    answers: list[ToolAnswer] = field(default_factory=list)
    stopped: Stop | None = None
    control: Answer | None = None
    longer: Answer | None = None

    @property
    def judged(self) -> list[ToolAnswer]:
        """All but the answer of a rate limit."""
        return [each for each in self.answers if not each.is_limit]

    @property
    def usable(self) -> list[ToolAnswer]:
        """Whole completions, which were not cut off."""
        return [each for each in self.judged if each.is_usable]

    @property
    def calling(self) -> list[ToolAnswer]:
        """Those of them that have calls."""
        return [each for each in self.usable if each.calls]

    def of(self, *names: str) -> list[ToolAnswer]:
        """The usable answers of these scenarios."""
        return [each for each in self.usable if each.scenario.name in names]


@dataclass
class Session:
    asker: Asker
    model: str
    max_tokens: int
    evidence: Evidence = field(default_factory=Evidence)
    own_id: str = ""  # of the deployment's first call: its template takes this form

    def ask(self, scenario: Scenario, streamed: bool, is_greedy: bool) -> None:
        """Ask once. CannotCheck when the first answer says that this program is not let in."""
        call_id = self.own_id or tool_questions.SPARE_ID
        request = scenario.request(self.model, self.max_tokens, streamed, call_id, is_greedy)
        for answer in self.asker.ask([request], name=lambda _: scenario.name):
            if not self.evidence.answers and (text := no_access(self.asker.run, answer)):
                raise NoAccess(text)
            found = read_answer(scenario, answer, call_id)
            answer.let_go()
            self.evidence.answers.append(found)
            ids = [call.id for call in found.calls if call.id]
            self.own_id = self.own_id or next(iter(ids), "")
        self.evidence.stopped = self.asker.stopped

    def ask_without_tools(self) -> None:
        """Ask the first question without its tool."""
        for answer in self.asker.ask([tool_questions.control(self.model)]):
            self.evidence.control = answer
        self.evidence.stopped = self.asker.stopped

    def ask_with_longer_result(self) -> None:
        """Ask the turn after a result once more, when the tool says more."""
        if self.asker.stopped or not (asked := self.evidence.of("result")):
            return
        request = tool_questions.with_longer_result(self.model, asked[-1].asked_id)
        for answer in self.asker.ask([request]):
            self.evidence.longer = answer
        self.evidence.stopped = self.asker.stopped

    def is_done_with(self, scenario: Scenario) -> bool:
        """Whether all answers to it were cut off until now: asking again costs much, and shows
        nothing."""
        found = [each for each in self.evidence.answers if each.scenario is scenario]
        return bool(found) and all(each.is_cut or each.spent for each in found)


def ask_all(session: Session, chosen: Sequence[Scenario], repeat: int) -> None:
    """Ask everything. Where the first scenarios bring no call, the others are not asked."""
    first = [each for each in chosen if each.name in FIRST]
    others = [each for each in chosen if each not in first]
    label = f"{plural(len(chosen), 'scenario')}, each {plural(repeat, 'time')} whole and streamed"
    with session.asker.run.progress(label, 2 * repeat * len(chosen)) as step:
        for scenario in first:
            ask_both(session, scenario, step)
        if first and not session.evidence.calling:
            session.ask_without_tools()
            return
        # the long ones last: on a slow machine one may take longer than --timeout, which ends all
        for is_long in (False, True):
            for number in range(repeat):
                for scenario in chosen if number else others:
                    if bool(scenario.more_tokens) is is_long:
                        ask_both(session, scenario, step, is_greedy=number == 0)
    session.ask_with_longer_result()


def ask_both(
    session: Session, scenario: Scenario, step: Callable[[], object], is_greedy: bool = True
) -> None:
    """Ask once whole and once streamed, unless asking again shows nothing."""
    is_shown = session.is_done_with(scenario)
    for streamed in (False, True):
        if session.asker.stopped is None and not is_shown:
            session.ask(scenario, streamed, is_greedy)
        step()


def measure(run: Run) -> None:
    args, document = run.args, run.document("tools")
    if args.only and args.slo:
        args.only.append("slo")  # a bound on the command line is always checked
    with open_wire(run, run.token()) as wire:
        asker = Asker(run, wire)
        (contact,) = chat.first_contact(run, wire, [chat.get(chat.MODELS)])
        session = Session(asker, model_to_ask(run, contact), args.max_tokens)
        run.target["model"] = session.model
        asker.stopped = session.evidence.stopped = reason_to_stop(contact)
        try:
            ask_all(session, [BY_NAME[name] for name in dict.fromkeys(args.scenarios)], args.repeat)
        finally:
            document.requests = list(map(record, session.evidence.answers))
            document.metrics = metrics(session.evidence)
    document.add(*judge(session.evidence, asker.answers, args.slo))
    run.show(lines(session.evidence, session.model), document.checks)


# --- judge: what depends on the model


def rates(evidence: Evidence) -> dict[str, Share]:
    """How often the model did what a capable one does, among the answers that show it."""
    chosen = [a for a in evidence.usable if not (a.scenario.is_forced or is_not_chosen(a))]
    known = [
        (a, call) for a in evidence.calling for call in a.calls if call.name in a.scenario.schemas
    ]
    exact = [a for a in evidence.calling if a.scenario.arguments and a.is_right_tool]
    said = evidence.of("result")
    return {
        "schema_accuracy": share_of(answer.fits(call) for answer, call in known),
        "right_tool": share_of(each.is_right_tool for each in chosen),
        "right_arguments": share_of(each.is_exact for each in exact),
        "uses_result": share_of(each.scenario.result in each.content for each in said),
        "both_calls": share_of(len(each.calls) == 2 for each in evidence.of("two")),
    }


def is_not_chosen(answer: ToolAnswer) -> bool:
    """Whether no tool had to be chosen for it."""
    return answer.scenario.name in NOT_CHOSEN


def check_bound(bound: Bound, evidence: Evidence) -> Check:
    """One --slo."""
    name, share = f"slo:{bound.name}", rates(evidence)[bound.name]
    facts = {"limit": bound.least, **share.as_dict()}
    expected = f"expected at least {100 * bound.least:g} %"
    if share.value is None:
        return undecided(name, f"not measured in this run ({expected})", facts)
    if bound.holds(share):
        return passed(name, f"{share}, {expected}", facts)
    return failed(name, f"{share}, {expected}", facts).shown_by(a.answer for a in evidence.usable)


# --- judge: what the server does


Findings = list[tuple[ToolAnswer, str]]


def told(found: Findings) -> str:
    """The most frequent of these findings, each with the first scenario in which it was seen."""
    first: dict[str, str] = {}
    for answer, text in found:
        first.setdefault(text, answer.where)
    return counted(f"{text} ({first[text]})" for _, text in found)


def settle(name: str, breaches: Findings, oddities: Findings, good: str, of: int) -> Check:
    """FAIL for breaches, else WARN for oddities, else PASS in the words of `good`."""
    facts = {"answers": of, "breaches": len(breaches), "oddities": len(oddities)}
    bad = breaches or oddities
    if not bad:
        return passed(name, good, facts)
    judged = failed if breaches else warned
    return judged(name, told(bad), facts).shown_by(each.answer for each, _ in bad)


def check_calls(evidence: Evidence) -> Check:
    """Are there calls at all? Without them nothing is decided."""
    name, calling = "calls", evidence.calling
    wanted = [each for each in evidence.usable if each.scenario.expected]
    facts = {"calls": sum(len(each.calls) for each in calling), "answers": len(evidence.judged)}
    if not calling:
        return undecided(name, why_no_calls(evidence), facts)
    count = sum(bool(each.calls) for each in wanted)
    detail = f"{count} of {plural(len(wanted), 'answer')} that should have a call have one"
    return passed(name, detail, facts)


def why_no_calls(evidence: Evidence) -> str:
    answers = evidence.judged
    if not answers:
        return "no request with tools was answered"
    errors = [each.error for each in answers if each.error]
    if len(errors) == len(answers):
        good = "; without tools it is answered" if is_control_good(evidence) else ""
        return f"every request with tools fails: {counted(errors)}{good}"
    as_text = [each for each in answers if each.markers or each.call_as_text]
    if as_text:
        detail = f"{plural(len(as_text), 'answer')} with a call in the text, none as a call"
        return f"{detail}: has the server a parser for the calls of this model?"
    spent = [each.spent for each in answers if each.spent]
    if spent:
        return f"no calls, and in {plural(len(spent), 'answer')} {spent[0].words()}"
    if all(each.is_cut for each in answers if not each.error):
        return f"no calls: {plural(len(answers), 'answer')} ended at max_tokens (--max-tokens)"
    count = evidence.control and tokens_of(evidence.control)
    if count is not None and count in [each.prompt_tokens for each in answers]:
        detail = f"the tools are ignored: the prompt has {count} tokens with and without the tool"
        return f"{detail}; does the chat template of the model know tools?"
    return f"the model calls no tool in {plural(len(answers), 'answer')}, although it must"


def is_control_good(evidence: Evidence) -> bool:
    """Whether the question without tools was answered."""
    found = evidence.control
    return found is not None and (found.completion.problem is None or found.spent is not None)


def is_refusal(answer: ToolAnswer) -> bool:
    """Whether the server says that it does not do this."""
    is_error = answer.error is not None and (answer.status or 0) >= 500
    return answer.is_refused or (is_error and bool(ABOUT_TOOLS.search(answer.error or "")))


def check_requests(evidence: Evidence) -> Check:
    """Does every request get an answer? The turns after a result are judged by `result`."""
    name, stopped = "requests", evidence.stopped
    answers = [each for each in evidence.judged if each.scenario.name not in AFTER]
    bad = [each for each in answers if each.error is not None]
    if not answers and stopped and stopped.cause in COSTLY:
        return failed(name, str(stopped))
    if not answers:
        return skip(name, "nothing was asked")
    if len(bad) == len(answers) and all(map(is_refusal, bad)) and is_control_good(evidence):
        return skip(name, f"every request with tools is refused: {counted(errors_of(bad))}")
    refused = {each.scenario.name for each in bad}
    refused -= {each.scenario.name for each in answers if not each.is_refused}
    if refused == {each.scenario.name for each in answers}:
        refused = set()  # it refuses everything, also a question without tools
    breaches = [(each, each.error or "") for each in bad if each.scenario.name not in refused]
    breaches += [(a, OLD_CALL) for a in answers if a.is_old_call]
    oddities = [(each, f"refused: {each.error}") for each in bad if each.scenario.name in refused]
    empty = [each for each in answers if each.is_empty and not each.is_old_call]
    oddities += [(each, "empty: neither text nor a call") for each in empty]
    good = f"{plural(len(answers), 'request')} answered"
    if rest := len(evidence.judged) - len(answers):
        good += f"; {rest} more with the result of a call are judged by `result`"
    return settle(name, breaches, oddities, good, len(answers))


def errors_of(answers: Iterable[ToolAnswer]) -> list[str]:
    return [each.error for each in answers if each.error]


def check_tool_choice(evidence: Evidence) -> Check:
    """`none` brings no call, `required` one, and a named tool is the one that is called."""
    name, calling = "tool_choice", evidence.calling
    answers = [a for a in evidence.usable if a.scenario.is_forced or a.scenario.choice == NONE]
    breaches = [
        (a, "a call, although tool_choice is none")
        for a in calling
        if a in answers and a.scenario.choice == NONE
    ]
    if not answers or not (calling or breaches):
        return skip(name, NO_CALL if answers else "no answer to a request with a tool_choice")
    oddities: Findings = []
    for each in answers:
        named = each.scenario.named
        if each.scenario.is_forced and not each.calls:
            oddities.append((each, "no call, although tool_choice forces one"))
        elif named and any(call.name != named for call in each.calls):
            made = quoted(each.calls[0].name)
            oddities.append((each, f"tool_choice names {named!r}, but {made} is called"))
    good = f"kept in {plural(len(answers), 'answer')}"
    return settle(name, breaches, oddities, good, len(answers))


def check_arguments(evidence: Evidence) -> Check:
    """Are arguments a text with a JSON object? Whether it keeps the schema is the model's part."""
    name, calling = "arguments", evidence.calling
    if not calling:
        return skip(name, NO_CALL)
    breaches: Findings = []
    oddities: Findings = []
    for each in calling:
        breaches += [(each, p.text) for p in each.found.problems if p.kind == tool_calls.TYPE]
        for call in each.calls:
            value = arguments_of(each, call)
            if value is None:
                breaches.append((each, f"not JSON: {quoted(call.arguments)}"))
            elif isinstance(value, str):
                oddities.append((each, f"JSON inside of a JSON text: {quoted(call.arguments)}"))
            elif not isinstance(value, dict):
                oddities.append((each, f"not a JSON object: {quoted(call.arguments)}"))
    count = sum(len(each.calls) for each in calling)
    return settle(
        name, breaches, oddities, f"JSON objects in {plural(count, 'call')}", len(calling)
    )


def check_deltas(evidence: Evidence) -> Check:
    """Do the deltas of a stream join to calls: each with an index, id and name once, at first?"""
    name = "deltas"
    streams = [a for a in evidence.usable if a.streamed and (a.calls or a.found.problems)]
    if not streams:
        return skip(name, "there is no streamed call to look at")

    def of(kind: str) -> Findings:
        return [(a, p.text) for a in streams for p in a.found.problems if p.kind == kind]

    good = f"the deltas join to whole calls in {plural(len(streams), 'stream')}"
    return settle(name, of(tool_calls.DELTAS), of(tool_calls.GAPS), good, len(streams))


class Difference(NamedTuple):
    """What is not the same streamed and not, whether that is more than chance explains, and the
    answers in which it is seen."""

    text: str
    is_certain: bool
    answers: Sequence[ToolAnswer]


class Compared(NamedTuple):
    """In how many answers of each form something holds. Each scenario has its own table."""

    tables: list[Table]

    @property
    def is_certain(self) -> bool:
        """Whether chance explains no such difference, in whichever direction."""
        swapped = [Table(*each[2:], *each[:2]) for each in self.tables]
        return 2 * min(map(chance_of_so_few, (self.tables, swapped))) < CHANCE

    @property
    def is_worse_streamed(self) -> bool:
        right, asked, other_right, other_asked = self.sums
        return other_right * asked < right * other_asked

    @property
    def sums(self) -> list[int]:
        return [sum(numbers) for numbers in zip(*self.tables, strict=True)] or [0, 0, 0, 0]

    def __str__(self) -> str:
        right, asked, other_right, other_asked = self.sums
        return f"{right} of {asked} whole answers and {other_right} of {other_asked} streams"


def both_forms(answers: Iterable[ToolAnswer]) -> tuple[list[ToolAnswer], list[ToolAnswer]]:
    """The whole ones and the streamed ones."""
    found = list(answers)
    return [a for a in found if not a.streamed], [a for a in found if a.streamed]


def by_scenario(answers: Iterable[ToolAnswer]) -> dict[Scenario, list[ToolAnswer]]:
    found: dict[Scenario, list[ToolAnswer]] = {}
    for each in answers:
        found.setdefault(each.scenario, []).append(each)
    return found


def compared(answers: Sequence[ToolAnswer], holds: Callable[[ToolAnswer], bool]) -> Compared:
    tables = []
    for same in by_scenario(answers).values():
        whole, streamed = ([holds(each) for each in of_form] for of_form in both_forms(same))
        tables.append(Table(sum(whole), len(whole), sum(streamed), len(streamed)))
    return Compared(tables)


def check_same_shape(evidence: Evidence) -> Check:
    """Are calls the same streamed and not? What chance explains too is a WARN at most."""
    name, calling = "same_shape", evidence.calling
    forms = {a.streamed for a in evidence.usable if a.scenario.expected}
    if not calling or len(forms) < 2:
        return skip(name, NO_CALL if not calling else "there is no answer of the other form")
    found = [
        *lost_calls(evidence),
        *lost_thoughts(evidence),
        *other_reasons(evidence),
        *other_numbers(evidence),
        *other_arguments(evidence),
        *garbled_arguments(evidence),
    ]
    certain = [each for each in found if each.is_certain]
    facts = {"answers": len(calling), "differences": len(certain)}
    facts |= {"oddities": len(found) - len(certain)}
    if said := certain or found:
        judged = failed if certain else warned
        check = judged(name, listed([each.text for each in said], limit=160), facts)
        both = both_forms(said[0].answers)
        return check.shown_by(of_form[0].answer for of_form in both if of_form)
    seen = f"streamed and whole, calls are the same: {plural(len(calling), 'answer')} with calls"
    return passed(name, seen, facts)


def lost_calls(evidence: Evidence) -> Iterator[Difference]:
    """Whether calls of one form seem to be lost: the same questions, and fewer calls in it."""
    wanted = [each for each in evidence.usable if each.scenario.expected]
    found = compared(wanted, lambda each: bool(each.calls))
    right, asked, other_right, other_asked = found.sums
    is_none = not right or not other_right
    is_often = max(right, other_right) >= TOLD_APART and min(asked, other_asked) >= TOLD_APART
    if found.is_certain or (is_none and is_often):
        yield Difference(f"there are calls in {found}", found.is_certain, wanted)


def lost_thoughts(evidence: Evidence) -> Iterator[Difference]:
    """Whether the thoughts of one form seem to be lost, of those answers that have calls."""
    found = compared(evidence.calling, lambda each: bool(each.thoughts))
    right, asked, other_right, other_asked = found.sums
    if min(asked, other_asked) < TOLD_APART:
        return
    if (right == asked and not other_right) or (other_right == other_asked and not right):
        yield Difference(
            f"thoughts stand beside calls in {found}", found.is_certain, evidence.calling
        )


def other_reasons(evidence: Evidence) -> Iterator[Difference]:
    """Beside a call that was forced by name, OpenAI says `stop`, and others say `tool_calls`."""
    for scenario, answers in by_scenario(evidence.calling).items():
        whole, streamed = both_forms(answers)
        reasons = [{each.meaning for each in of_form} for of_form in (whole, streamed)]
        if whole and streamed and not scenario.named and not reasons[0] & reasons[1]:
            said = [quoted(of_form[0].finish_reason) for of_form in (whole, streamed)]
            text = f"{scenario.name}: finish_reason is {said[0]}, in streams {said[1]}"
            yield Difference(text, True, answers)


def other_numbers(evidence: Evidence) -> Iterator[Difference]:
    """Whether the answers of one form have more calls."""
    calling = [each for each in evidence.calling if each.scenario.expected]
    found = compared(calling, lambda each: len(each.calls) == len(each.scenario.expected))
    if found.is_certain:
        yield Difference(f"there are as many calls as asked for in {found}", True, calling)
        return
    for scenario, answers in by_scenario(evidence.calling).items():
        whole, streamed = ([len(each.calls) for each in of_form] for of_form in both_forms(answers))
        if min(len(whole), len(streamed)) >= TOLD_APART and not set(whole) & set(streamed):
            most = [plural(max(each), "call") for each in (whole, streamed)]
            text = f"{scenario.name}: {most[0]} in each whole answer, {most[1]} in each stream"
            yield Difference(text, False, answers)


def other_arguments(evidence: Evidence) -> Iterator[Difference]:
    """Whether arguments are damaged in one form: the model writes the same ones in both."""
    known = [a for a in evidence.calling if a.scenario.arguments and a.is_right_tool]
    found = compared(known, lambda each: each.is_exact)
    if not found.is_certain:
        return
    bad = [a for a in known if a.streamed is found.is_worse_streamed and not a.is_exact]
    shown = shorten(bad[0].calls[0].arguments, 60)
    text = f"arguments are exact in {found}: {shown} ({bad[0].where})"
    yield Difference(text, True, known)


def garbled_arguments(evidence: Evidence) -> Iterator[Difference]:
    """U+FFFD in arguments: bytes that were no character. Once, it may be the model's own."""
    for scenario, answers in by_scenario(evidence.calling).items():
        whole, streamed = ([each.is_garbled for each in of_form] for of_form in both_forms(answers))
        if any(whole) or any(streamed):
            counts = f"{sum(whole)} of {len(whole)} whole answers and {sum(streamed)} of"
            text = f"{scenario.name}: U+FFFD in the arguments of {counts} {len(streamed)} streams"
            is_one = any(whole) != any(streamed) and min(len(whole), len(streamed)) >= TOLD_APART
            is_certain = is_one and sum(whole + streamed) >= TOLD_APART
            yield Difference(text, is_certain, answers)


def check_finish_reason(evidence: Evidence) -> Check:
    """`tool_calls` beside calls, and nowhere else.

    Beside a call that is forced by its name OpenAI's API says `stop` (vLLM does the same on
    purpose); beside `required` it has done so for a while, and its guide still tells of it.
    """
    name, answers = "finish_reason", evidence.usable
    breaches: Findings = []
    oddities: Findings = []
    for each in answers:
        if not each.calls and each.meaning == "tool_calls":
            breaches.append((each, "'tool_calls', but there is no call"))
        if not each.calls or each.meaning == "tool_calls":
            continue
        if each.meaning == "stop" and each.scenario.named:
            continue
        text = f"{quoted(each.finish_reason)} beside a call, not 'tool_calls'"
        is_odd = each.meaning == "stop" and each.scenario.choice == REQUIRED
        (oddities if is_odd else breaches).append((each, text))
    if not evidence.calling and not breaches:
        return skip(name, NO_CALL)
    good = f"right in {plural(len(answers), 'answer')}"
    return settle(name, breaches, oddities, good, len(answers))


def check_leaks(evidence: Evidence) -> Check:
    """Is no part of a call in the text? In its thoughts a model may talk about calls."""
    name, answers = "leaks", evidence.usable
    if not answers:
        return skip(name, "there is no answer to look at")
    breaches = [(a, f"{quoted(a.markers[0])} in the content") for a in answers if a.markers]
    oddities = [
        (each, f"a call of {each.call_as_text} as text in the content")
        for each in answers
        if each.call_as_text and not each.markers
    ]
    good = f"no marks of calls in the text of {plural(len(answers), 'answer')}"
    return settle(name, breaches, oddities, good, len(answers))


def check_known_tools(evidence: Evidence) -> Check:
    name, calling = "known_tools", evidence.calling
    if not calling:
        return skip(name, NO_CALL)
    breaches = [
        (each, f"calls {quoted(call.name)}, which is not among the tools")
        for each in calling
        for call in each.calls
        if call.name not in each.scenario.schemas
    ]
    count = sum(len(each.calls) for each in calling)
    good = f"{plural(count, 'call')} of tools that are there"
    return settle(name, breaches, [], good, len(calling))


def check_ids(evidence: Evidence) -> Check:
    """Has each call an id that no other call of its conversation has? Results are given to it."""
    name, calling = "ids", evidence.calling
    if not calling:
        return skip(name, NO_CALL)
    breaches: Findings = []
    for each in calling:
        breaches += [(each, p.text) for p in each.found.problems if p.kind == tool_calls.IDS]
        ids = [call.id for call in each.calls if call.id]
        if len(set(ids)) < len(ids):
            breaches.append((each, "two calls of an answer have the same id"))
        if each.scenario.previous and each.asked_id in ids:
            breaches.append((each, "the id of an earlier call of the conversation comes again"))
    good = f"each call has an id of its own, in {plural(len(calling), 'answer')}"
    return settle(name, breaches, [], good, len(calling))


def check_result(evidence: Evidence) -> Check:
    """Can the conversation go on after a tool's result?"""
    name = "result"
    answers = [each for each in evidence.judged if each.scenario.name in AFTER]
    if not answers or not evidence.calling:
        return skip(name, "not asked" if not answers else NO_CALL)
    bad = [(each, each.error) for each in answers if each.error]
    refused = refused_for_a_reason(evidence)
    breaches = [(each, error) for each, error in bad if each.scenario not in refused]
    oddities = [(each, f"refused: {error}") for each, error in bad if each.scenario in refused]
    oddities += [(each, "empty: neither text nor a call") for each in answers if each.is_empty]
    breaches += unread_results(evidence)
    good = f"{plural(len(answers), 'turn')} after a result got an answer"
    share = rates(evidence)["uses_result"]
    good += f"; {share} mention what the tool has said" if share.of else ""
    return settle(name, breaches, oddities, good, len(answers))


def unread_results(evidence: Evidence) -> Findings:
    """The turns after a result whose prompt is no shorter than where the tool says more: the result
    does not reach the model. Nothing is claimed of a server that counts every prompt alike, and of
    an empty answer nothing but that it is empty."""
    longer = evidence.longer and tokens_of(evidence.longer)
    counts = {each.prompt_tokens for each in evidence.judged if each.prompt_tokens}
    if not longer or len(counts) < 2:
        return []
    told = [each for each in evidence.of("result") if not each.is_empty]
    found = [each for each in told if each.prompt_tokens == longer]
    text = f"the prompt has {longer} tokens, whatever the tool has said: the model does not read it"
    return [(each, text) for each in found]


def refused_for_a_reason(evidence: Evidence) -> list[Scenario]:
    """The turns after a result that are always refused, and not because of the result: the call
    before it, which this program made up, has no thoughts, or `choice` is refused as well."""
    others = {each.error for each in evidence.judged if each.scenario.name == "choice"}

    def is_sound(answer: ToolAnswer) -> bool:
        return answer.is_refused and (answer.wants_thoughts or answer.error in others)

    turns = by_scenario(each for each in evidence.judged if each.scenario.name in AFTER)
    return [scenario for scenario, answers in turns.items() if all(map(is_sound, answers))]


def check_thinking(evidence: Evidence) -> Check:
    """Do thoughts and calls stay apart?"""
    name, answers = "thinking", evidence.usable
    thinking = [
        each
        for each in answers
        if each.thoughts or (each.has_tags and each.calls) or each.is_lost_in_thoughts
    ]
    if not thinking:
        return skip(name, "no thoughts are shown")
    oddities = [
        (a, "tags of thoughts in the content beside a call")
        for a in thinking
        if a.has_tags and a.calls
    ]
    oddities += [
        (a, f"{quoted(a.markers_in_thoughts[0])} in the thoughts, and no call")
        for a in thinking
        if a.is_lost_in_thoughts
    ]
    count = sum(bool(each.thoughts and each.calls) for each in thinking)
    good = f"thoughts apart from the call in {plural(count, 'answer')}"
    return settle(name, [], oddities, good, len(thinking))


JUDGES = (
    check_calls,
    check_requests,
    check_tool_choice,
    check_arguments,
    check_deltas,
    check_same_shape,
    check_finish_reason,
    check_leaks,
    check_known_tools,
    check_ids,
    check_result,
    check_thinking,
)


def judge(evidence: Evidence, answers: Sequence[Answer], bounds: Sequence[Bound]) -> list[Check]:
    """All checks. Where the asking was stopped, only what is wrong is decided."""
    checks = [check(evidence) for check in JUDGES]
    checks += [form.check_form(answers)]
    checks += [check_bound(bound, evidence) for bound in bounds]
    if (stopped := evidence.stopped) is None:
        return checks
    is_open = (Status.PASS, Status.SKIP)
    reason = f"not decided: {stopped}"
    return [undecided(c.name, reason, c.evidence) if c.status in is_open else c for c in checks]


# --- show


def metrics(evidence: Evidence) -> dict[str, Any]:
    answers = evidence.judged
    return {
        "requests": len(evidence.answers) + sum(map(bool, (evidence.control, evidence.longer))),
        "calls": sum(len(each.calls) for each in evidence.calling),
        "cut": sum(each.is_cut for each in answers),
        "failed": sum(each.error is not None for each in answers),
        **{name: share.as_dict() for name, share in rates(evidence).items()},
    }


def lines(evidence: Evidence, model: str) -> list[str]:
    """A line for each scenario: how many answers it got, and how many of them were right."""
    rows = [f"Tools, asked of {model}", f"  {'':14}{'answers':>9}{'cut':>6}{'called':>9}"]
    rows[-1] += f"{'right tool':>13}{'schema kept':>14}{'exact':>8}"
    for scenario in dict.fromkeys(each.scenario for each in evidence.judged):
        rows.append(row(scenario, [a for a in evidence.judged if a.scenario is scenario]))
    for name, share in rates(evidence).items():
        if share.of:
            rows.append(f"  {name:18}{share}")
    return rows


def row(scenario: Scenario, answers: Sequence[ToolAnswer]) -> str:
    usable = [each for each in answers if each.is_usable]
    calls = [(each, call) for each in usable for call in each.calls]
    cut = sum(each.error is None and not each.is_usable for each in answers)
    kept = f"{sum(each.fits(call) for each, call in calls)} of {len(calls)}" if calls else "-"
    called = sum(bool(each.calls) for each in usable)
    right = sum(each.is_right_tool for each in usable)
    exact = sum(each.is_right_tool and each.is_exact for each in usable)
    shown = str(exact) if scenario.arguments else "-"
    good = sum(each.error is None for each in answers)
    text = f"  {scenario.name:14}{f'{good} of {len(answers)}':>9}{cut:>6}{called:>9}"
    return f"{text}{right:>13}{kept:>14}{shown:>8}"


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
