#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "openai>=1.60,<4", "rich>=13.7,<16"]
# ///
"""Does the openai Python package work against the deployment, unmodified?

Calls the real SDK as an application would (without retries), and looks at one stream at the wire,
because the SDK silently accepts some broken streams. It checks the contract first, and then what
else the deployment can do.

PASS: every part of the contract is kept, and no capability that the deployment offers is broken.
Cost: 30 to 52 small requests one after the other, each answer up to --max-tokens (capabilities:
16 to 160 tokens). It wakes a sleeping worker. The user's own OPENAI_* settings are not used.

Examples:
    # before a release: the contract and the capabilities
    python3 test_openai_sdk.py --url https://host:8000 --api-key sk-key
    # a reasoning model needs room to think before it answers
    python3 test_openai_sdk.py --url https://host:8000 --max-tokens 1000
    # only the streams of the contract, against llama.cpp's own server
    python3 test_openai_sdk.py --url http://127.0.0.1:8080 --only stream usage wire pacing
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import contextlib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import common
from common import Check, Document, Run, Status
from livecheck.core.checks import undecided
from livecheck.core.json_value import (
    as_line,
    decode,
    figure_or_line,
    pick,
    pick_list,
    pick_text,
    quoted,
)
from livecheck.core.text import counted, plural
from livecheck.gateway import answer_parts as parts
from livecheck.gateway import characters, rhythm, sdk_records, sdk_responses
from livecheck.gateway.openai_client import UNREADABLE, OpenAIClient, SdkCall, unfinished
from livecheck.gateway.plans import plan_openai_sdk
from livecheck.gateway.refusal_words import refused_for
from livecheck.gateway.rhythm import Paced
from livecheck.gateway.sdk_failures import (
    MAY_BE_REFUSED,
    behind_failures,
    changed_its_mind,
    damaged_answers,
    failed_requests,
    is_refusal,
)
from livecheck.gateway.sdk_parameters import refused_words
from livecheck.gateway.sdk_questions import (
    DEFAULT_TOKENS,
    SEEDS,
    TOP_LOGPROBS,
    fits_schema,
)
from livecheck.gateway.sdk_session import ASK, Session, WrongKey, same_text_of
from livecheck.gateway.tool_calls import ToolCalls, streamed_tool_calls, whole_tool_calls
from livecheck.wire import asking, chat, chunk_form, sse
from livecheck.wire.answer import Answer, status_kind
from livecheck.wire.spoken import content_in, thoughts_in
from livecheck.wire.starvation import Starvation

# what an application meets that reads a stream with the SDK: kinds of sse.KINDS and FORM_KINDS
OF_TEXT = (
    *("given_up", "no_choices", "no_finish_reason", "said_twice", "early_finish"),
    *("finish_changes", "ids", "finish_dialect", "finish_repeated", "same_thoughts"),
)
# the same of a stream with tool calls; what else may be wrong with it is judged by `stream`
OF_CALLS = ("given_up", "said_twice", "early_finish", "finish_changes")
NO_CHOICES = "without a list of choices: clients of other languages fail on it"
# what a refusal of an unknown model may be about: a key may be for certain models only
ABOUT_MODEL = ("the model", "a permission")
BUFFERS = ". Look for a proxy that buffers, and turn that off for text/event-stream"
SAME_VECTOR = 0.999  # parts.cosine of the same text, computed twice


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_openai_sdk)
    add = parser.add_argument_group("what to ask").add_argument
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    longest = "longest answer, in tokens (default %(default)s)"
    add(
        "--max-tokens",
        type=common.whole_number(8),
        default=DEFAULT_TOKENS,
        metavar="N",
        help=longest,
    )
    return parser


# --- judge: calls that failed, tokens


def unanswered(name: str, *calls: SdkCall) -> Check | None:
    """The worst verdict on calls that have no answer to look at; None when all have one."""
    failed = [check_failed_call(name, call) for call in calls if call.error is not None]
    if name in CAPABILITIES and not failed:
        failed = [check_empty_answer(name, call) for call in calls if call.is_empty]
    return min(failed, key=lambda check: check.status is not Status.FAIL, default=None)


def check_empty_answer(name: str, call: SdkCall) -> Check:
    finish = figure_or_line(call.finish_reason)
    detail = f"the answer is empty: no content and no tool call, finish_reason {quoted(finish)}"
    return Check(name, Status.FAIL, detail, {"status": 200, "finish_reason": finish})


def only_thoughts(
    name: str, evidence: dict[str, Any], *calls: SdkCall, essential: bool = True
) -> Check | None:
    """The verdict on an answer whose tokens all went into thoughts; None when no call has one.

    What a check wants to see cannot be there then. `essential`: the check is a part of the
    contract; where the server itself says that these were thoughts, that is a warning.
    """
    found = next((call.spent for call in calls if call.spent), None)
    if found is None:
        return None
    detail = f"no content: {found.words()}"
    if essential and found.is_certain:
        return Check(name, Status.WARN, detail, evidence)
    return Check(name, Status.SKIP, f"cannot tell: {detail}", evidence, essential=essential)


def check_failed_call(name: str, call: SdkCall) -> Check:
    status, said = call.answer.status, call.error_text
    evidence = {"status": status, "error": call.error}
    may_be_refused = name in MAY_BE_REFUSED
    if call.answer.is_rate_limited:
        detail = asking.rate_limit_words(call.answer)
        return undecided(name, detail, evidence)
    if may_be_refused and changed_its_mind(call):
        detail = f"refused ({status} {said}), but the same request was not refused a second time"
        return Check(name, Status.FAIL, detail, evidence)
    if may_be_refused and is_refusal(call):
        return Check(name, Status.SKIP, f"refused: {status} {said}", evidence)
    detail = f"{status} {call.error}: {said}" if status else f"{call.error}: {said}"
    if status == 200 and call.error_body is not None:
        where = "inside the 200 stream" if call.chunks else "in place of the answer"
        detail = f"200, but an error {where}: {said}"
    elif status == 200 and not call.answer.failure:
        what = "no answer that the SDK can read" if call.error == UNREADABLE else call.error
        detail = f"200, but {what}: {said}"
    return Check(name, Status.FAIL, detail, evidence)


def verdict(
    name: str,
    problems: Sequence[str],
    good: str,
    evidence: dict[str, Any],
    doubts: Sequence[str] = (),
) -> Check:
    """FAIL with all the problems, else WARN with the doubts, else PASS with what is good."""
    if problems:
        return Check(name, Status.FAIL, "; ".join(problems), evidence)
    if doubts:
        return Check(name, Status.WARN, "; ".join(doubts), evidence)
    return Check(name, Status.PASS, good, evidence)


def usage_words(usage: Any) -> str:
    return "usage {prompt_tokens} + {completion_tokens} tokens".format(**parts.counts_of(usage))


# --- judge: the contract


def check_completion(call: SdkCall, name: str = "completion") -> Check:
    usage, finish, spent_ms = call.usage, call.finish_reason, call.answer.spent_ms
    problems = parts.usage_problems(usage, call.arguments["max_tokens"])
    if pick(call.message, "role") != "assistant":
        problems.append(f"role is {quoted(pick(call.message, 'role'))}, not 'assistant'")
    problems += filter(None, [unfinished(call)])
    seen = chunk_form.whole_findings(call.data)
    problems += [text for kind, text in seen if kind not in sse.ODDITIES]
    doubts = [text for kind, text in seen if kind in sse.ODDITIES]
    evidence = {
        **parts.counts_of(usage),
        "finish_reason": figure_or_line(finish),
        "spent_ms": spent_ms,
    }
    thoughts, content = thoughts_in(call.message), content_in(call.message)
    is_empty = pick(call.message, "content") in (None, "")  # else its type is named above
    if is_empty and not (content or thoughts or call.spent):
        count = parts.counts_of(usage)["completion_tokens"]
        problems.append(
            "the content is empty"
            + (f", of {count} tokens by usage" if parts.is_count(count) else "")
        )
    if not problems and (found := only_thoughts(name, evidence, call)):
        return found
    if not content and not problems:
        detail = f"{len(thoughts)} characters of thoughts and no content, finish_reason "
        detail += f"{as_line(finish)}: does it help to raise --max-tokens?"
        return Check(name, Status.WARN, detail, evidence)
    good = f"{quoted(content)}, finish_reason {as_line(finish)}, {usage_words(usage)}"
    return verdict(name, problems, f"{good}, {spent_ms:.0f} ms", evidence, doubts)


def check_stream(call: SdkCall, name: str = "stream") -> Check:
    deltas = [pick(c, "choices", 0, "delta") for c in call.spoken if pick_list(c, "choices")]
    pieces = [text for delta in deltas if (text := content_in(delta))]
    thoughts = [text for delta in deltas if (text := thoughts_in(delta))]
    reasons, spent_ms = call.finish_reasons, call.answer.spent_ms
    first = pick(deltas[0], "role") if deltas else None
    problems, doubts = stream_problems(call)
    if first != "assistant":
        problems.append(f"the first delta's role is {quoted(first)}, not 'assistant'")
    if foreign := sum(not parts.is_chunk(chunk) for chunk in call.chunks):
        doubts.append(
            f"the SDK takes {foreign} of {len(call.chunks)} events for chunks that are none: an "
            "application that reads the choices of each fails"
        )
    if call.progress.chunks:
        doubts.append(call.progress.words)
    evidence = {"pieces": len(pieces), "finish_reasons": reasons, "spent_ms": spent_ms}
    evidence |= {"thoughts": len(thoughts), "progress": len(call.progress.chunks)}
    if not problems and (found := only_thoughts(name, evidence, call)):
        return found
    if thoughts and len(pieces) < 2:
        doubts.append(few_words(pieces, thoughts, reasons))
    elif len(pieces) < 2:
        problems.append("all content is in one piece" if pieces else "the text is empty")
    good = f"{len(pieces)} pieces, one id, finish_reason {', '.join(reasons)}, "
    good += f"first chunk after {call.chunk_ms[0]:.0f} of {spent_ms:.0f} ms"
    return verdict(name, problems, good, evidence, doubts)


def few_words(pieces: Sequence[str], thoughts: Sequence[str], reasons: Sequence[str]) -> str:
    """What is said of a stream that has thoughts, and hardly any content after them."""
    said = f"{len(thoughts)} pieces of thoughts"
    if not pieces:
        ended = f"finish_reason {', '.join(reasons)}: does it help to raise --max-tokens?"
        return f"{said} and no content, {ended}"
    if chunk_form.finish_meaning(reasons[0] if reasons else "") == "length":
        return f"{said}, and one of content until max_tokens: raise --max-tokens"
    return f"{said}, and all content in one piece after them: {quoted(pieces[0])}"


def stream_problems(call: SdkCall) -> tuple[list[str], list[str]]:
    """What is wrong with the chunks of a stream, as the SDK gave them, and what is only odd.

    How they came over the wire and what strict clients demand is judged by `wire`.
    """
    found = findings(call, OF_TEXT)
    problems = [each.text for each in found if each.kind not in sse.ODDITIES]
    return problems, [each.text for each in found if each.kind in sse.ODDITIES]


def findings(call: SdkCall, kinds: Sequence[str]) -> list[sse.Complaint]:
    """Those of the wire's own reader, of these kinds."""
    times_ns = [int(at_ms * 1e6) for at_ms in call.chunk_ms]
    known: list[tuple[Any, int]] = [
        (chunk, at_ns)
        for chunk, at_ns in zip_longest(call.chunks, times_ns, fillvalue=0)
        if parts.is_chunk(chunk)
    ]
    stream = sse.read_chunks([chunk for chunk, _ in known], [at_ns for _, at_ns in known])
    return [each for each in stream.complaints + stream.form if each.kind in kinds]


def check_usage(call: SdkCall, *whole: SdkCall) -> Check:
    """`whole`: a whole answer to the same prompt, before the stream."""
    found = [pick(c, "usage") for c in call.chunks if isinstance(pick(c, "usage"), dict)]
    last = found[-1] if found else None
    evidence = {"chunks": len(call.chunks), **parts.counts_of(last)}
    if last is None:
        detail = f"include_usage is ignored: no usage in {len(call.chunks)} chunks"
        return Check("usage", Status.FAIL, detail, evidence)
    problems = parts.usage_problems(last, call.arguments["max_tokens"])
    if any(pick(each, "usage") for each in parts.without_choices(call.chunks)):
        problems.append(f"the chunk with the usage is {NO_CHOICES}")
    problems += [each.text for each in findings(call, ("ids",))]
    with_choices = (each for each in call.chunks if pick(each, "usage") and pick(each, "choices"))
    problems += dict.fromkeys(
        text for each in with_choices for text in chunk_form.chunk_problems(each)
    )
    doubts = [text for each in whole if (text := parts.prompt_doubt(last, each.usage))]
    return verdict("usage", problems, f"{usage_words(last)} in the stream", evidence, doubts)


def no_stream(name: str, answer: Answer) -> Check | None:
    """The verdict on an answer at the wire without a stream to look at; None when there is one."""
    if answer.is_rate_limited:
        return undecided(name, asking.rate_limit_words(answer))
    if answer.failure:
        return Check(name, Status.FAIL, f"{answer.failure.kind}: {answer.failure.text}")
    if answer.status != 200:
        evidence = {"status": answer.status, "error": status_kind(answer.status or 0)}
        return Check(name, Status.FAIL, f"{answer.status} {answer.words}".strip(), evidence)
    if answer.coding_problem:
        return Check(name, Status.FAIL, answer.coding_problem)
    if answer.not_a_stream:
        return Check(name, Status.FAIL, answer.not_a_stream.text)
    return None


def check_wire(answer: Answer) -> Check:
    if failed := no_stream("wire", answer):
        return failed
    stream = answer.stream
    silent = answer.spent is not None and not stream.output_ns  # it has thoughts that are hidden
    problems = [e.text for e in stream.complaints if not (silent and e.kind == "empty")]
    problems += [each.text for each in stream.form if each.kind not in sse.ODDITIES]
    doubts = [each.text for each in stream.form if each.kind in sse.ODDITIES]
    if answer.reply.unterminated:
        problems.append("the message does not end after [DONE]")
    good = f"{stream.events} events, text/event-stream, each of them JSON, [DONE] at the end"
    evidence = {"events": stream.events, "bytes": len(answer.body)}
    return verdict("wire", problems, good, evidence, doubts)


def check_pacing(*streams: Paced, name: str = "pacing", hint: str = BUFFERS) -> Check:
    """Does a stream flow? `hint`: what to do if it was held back."""
    if failed := no_stream(name, last := streams[-1].answer):
        return failed
    if (problem := last.completion.problem) and not last.stream.output_ns:
        return Check(name, Status.FAIL, problem)
    if last.spent and not last.stream.output_ns:
        return Check(name, Status.SKIP, f"cannot tell: no token is shown: {last.spent.words()}")
    beats = [each.beat for each in streams]
    beat, evidence = beats[-1], {"streams": beats}
    count = f" ({beat['tokens']:g} tokens)" if (beat["tokens"] or 0) > 2 * beat["pieces"] else ""
    detail = f"{beat['pieces']} pieces{count} came in {plural(beat['reads'], 'read')}"
    if beat["pieces"] < rhythm.LEAST_PIECES and not beat["in_blocks"]:
        return Check(name, Status.SKIP, f"cannot tell: only {detail}", evidence)
    if beat["arrivals"] < beat["reads"]:
        detail += f" at {plural(beat['arrivals'], 'moment')}"
    detail += f", spread over {beat['over_ms']:.1f} of {beat['of_ms']:.1f} ms"
    if not rhythm.is_held_back(beat):
        if beat["in_blocks"] and rhythm.is_certain(beat):
            detail += ": the text comes in large blocks, as through a proxy that buffers"
            return Check(name, Status.WARN, detail, evidence)
        return Check(name, Status.PASS, detail, evidence)
    if (held := rhythm.certain_holds(beats)) < rhythm.CERTAIN:
        longest = max(max(each["unseen_ms"], each["starved_ms"]) for each in beats)
        detail = f"cannot tell: in {len(beats) - held} of {len(beats)} streams this program "
        detail += f"could not run for up to {longest:.0f} ms: repeat it on a less busy machine"
        return undecided(name, detail, evidence)
    how = "sent in one burst" if rhythm.is_burst(beat) else "sent in blocks, so that the text jumps"
    held_back = f"the stream was held back and {how}, {held} times out of {held}"
    return Check(name, Status.FAIL, f"{held_back}: {detail}{hint}", evidence)


def check_compressed(*streams: Paced) -> Check:
    coding = streams[-1].answer.shown_header("content-encoding") or "none"
    hint = ". The request accepts gzip, as those of the SDK and of every browser do, and the "
    hint += f"answer has Content-Encoding {coding}: do not compress text/event-stream"
    check = check_pacing(*streams, name="compressed", hint=hint)
    check.evidence["content_encoding"] = coding
    if check.status in (Status.PASS, Status.WARN):
        check.detail += f", Content-Encoding {coding}"
    return check


def check_unicode(whole_call: SdkCall, stream_call: SdkCall) -> Check:
    name, whole, streamed = "unicode", whole_call.content, stream_call.streamed_content
    arrived = [characters.special_in(whole), characters.special_in(streamed)]
    is_forced = characters.is_by_schema(whole)
    evidence = {"by_schema": is_forced, "arrived": [len(each) for each in arrived]}
    problems = characters.problems(whole, streamed)
    if problems and not is_forced and characters.LOST in whole and characters.LOST in streamed:
        detail = f"{'; '.join(problems)}: written by the model, or lost by the server"
        return Check(name, Status.WARN, detail, evidence)
    both = whole_call, stream_call
    if not problems and (found := only_thoughts(name, evidence, *both, essential=False)):
        return found
    if not problems and not any(arrived):
        detail = "the model does not write such characters, and no schema makes it"
        return Check(name, Status.SKIP, detail, evidence)
    if not problems and arrived[0] != arrived[1]:
        detail = f"the two answers differ: {quoted(whole)}, as a stream {quoted(streamed)}"
        return Check(name, Status.SKIP, detail, evidence)
    good = f"{' '.join(arrived[0])} arrive undamaged, with and without a stream"
    return verdict(name, problems, good, evidence)


def check_same_text(*calls: SdkCall) -> Check:
    status, detail = same_text_of(calls)
    characters_of = [len(call.said.text) for call in calls]
    return Check("same_text", status, detail, {"characters": characters_of})


def check_models(call: SdkCall) -> Check:
    listed = pick(call.data, "data")
    if not isinstance(listed, list) or not listed:
        detail = (
            "no models are listed" if listed == [] else f"no list in 'data': {quoted(call.data)}"
        )
        return Check("models", Status.FAIL, detail)
    evidence = {"models": len(listed)}
    problems, doubts = [], []
    if nameless := [model for model in listed if not pick_text(model, "id")]:
        problems.append(f"{len(nameless)} of {len(listed)} without an id")
    if kinds := {as_line(pick(model, "object")) for model in listed} - {"model"}:
        problems.append(f"object is {quoted(', '.join(sorted(kinds)))}, not 'model'")
    if any(not isinstance(pick(model, "created"), int) for model in listed):
        doubts.append("created is not a whole number")
    if any(not isinstance(pick(model, "owned_by"), str) for model in listed):
        doubts.append("owned_by is not a text")
    if doubts and not problems:
        return Check("models", Status.WARN, "; ".join(doubts), evidence)
    good = f"{plural(len(listed), 'model')} listed: {quoted(pick(listed[0], 'id'))}"
    return verdict("models", problems, good, evidence)


def check_wrong_key(found: WrongKey) -> Check:
    name, call = "wrong_key", found.call
    evidence = {"status": call.answer.status, "anonymous_status": found.status_without_key}
    if call.error is None:
        return check_served_wrong_key(found, evidence)
    if call.error != "AuthenticationError":
        check = check_failed_call(name, call)
        if check.status is Status.FAIL:
            check.detail += "; expected 401 AuthenticationError"
        return check
    if found.is_served_without_key:
        detail = "a wrong key is refused (401), but a request without any key is served (200)"
        return Check(name, Status.FAIL, detail, evidence)
    if call.error_message is None:
        said = quoted(call.error_text)
        detail = f"401 AuthenticationError, but the SDK finds no message in it: {said}"
        return Check(name, Status.WARN, detail, evidence)
    return Check(name, Status.PASS, f"401 AuthenticationError: {call.error_text}", evidence)


def check_served_wrong_key(found: WrongKey, evidence: dict[str, Any]) -> Check:
    """A wrong key was served: is authentication off, or broken?"""
    status, without_key = Status.FAIL, found.status_without_key
    if found.limited:
        return undecided("wrong_key", f"a wrong key is served (200); without a key {found.limited}")
    if without_key != 200:
        detail = f"a wrong key is served (200), a request without a key is not ({without_key})"
    elif found.is_auth_enabled:
        detail = "anybody is served (200), but /health says that authentication is enabled"
    elif found.is_key_given and found.is_auth_enabled is None:
        status = Status.WARN
        detail = "anybody is served (200), also without a key: the key you gave is not checked"
    else:
        status, detail = Status.SKIP, "authentication is off: 200 without a key"
    return Check("wrong_key", status, detail, evidence)


def check_bad_request(call: SdkCall, control: SdkCall | None = None) -> Check:
    """`control`: the same request without the mistake, where no other one has shown that such
    requests are served. A refusal means nothing when they are refused as well."""
    name, status = "bad_request", call.answer.status
    if call.error is None:
        return Check(name, Status.FAIL, "messages was a string, but the answer is 200")
    if not 400 <= (status or 0) < 500 or call.answer.is_rate_limited:
        return check_failed_call(name, call)
    evidence = {"status": status, "error": call.error}
    if control and control.error:
        detail = f"{status} {call.error}, but so is the same request without the mistake"
        return undecided(name, f"{detail}: {control.outcome}", evidence)
    if status not in (400, 422):
        detail = f"{status} {call.error}: {call.error_text}; expected 400 or 422 about messages"
        return Check(name, Status.FAIL, detail, evidence)
    if what := refused_for(call):
        detail = f"{status} {call.error}: {call.error_text}; that is about {what}, not about "
        return Check(name, Status.FAIL, f"{detail}messages, which is a string", evidence)
    if call.error_message is None:
        said = quoted(call.error_text)
        detail = f"{status} {call.error}, but not a JSON error that the SDK can read: {said}"
        return Check(name, Status.FAIL, detail, evidence)
    return Check(name, Status.PASS, f"{status} {call.error}: {call.error_text}", evidence)


# --- judge: capabilities


def check_embeddings(*calls: SdkCall) -> Check:
    name = "embeddings"
    if failed := unanswered(name, *calls):
        floats_work = len(calls) == 2 and calls[1].error is None
        if floats_work and failed.status is Status.SKIP:
            failed.status = Status.FAIL
            failed.detail = f"floats work, but base64, the SDK's default, is {failed.detail}"
        return failed
    vectors = [pick(call.data, "data", 0, "embedding") for call in calls]
    problems = {problem for each in vectors if (problem := parts.vector_problem(each))}
    evidence = {"dimensions": [len(each) if isinstance(each, list) else None for each in vectors]}
    if not problems and not (likeness := parts.cosine(*vectors)) >= SAME_VECTOR:
        problems.add(f"base64 and float disagree: parts.cosine {likeness:.3f}")
    good = f"{evidence['dimensions'][0]} dimensions, base64 and float agree"
    return verdict(name, sorted(problems), good, evidence)


def check_stop(*calls: SdkCall) -> Check:
    """`calls`: the whole answer, and the same that has to stop at a word of it, in both forms."""
    name, free = "stop", calls[0]
    if len(calls) < 2 and (found := only_thoughts(name, {}, free, essential=False)):
        return found
    if len(calls) < 2:
        detail = f"the answer is too short to stop in it: {quoted(free.content)}"
        return Check(name, Status.SKIP, detail)
    each_form = [stopped_at(free, limited) for limited in calls[1:]]
    is_kept = each_form[0].status is Status.PASS
    for check in each_form[1:]:
        check.detail = f"as a stream: {check.detail}"
        if check.status is Status.WARN and is_kept:  # only one of the two forms ignores it
            check.status = Status.FAIL
    by_weight = (Status.FAIL, Status.WARN, Status.PASS, Status.SKIP)
    return min(each_form, key=lambda check: by_weight.index(check.status))


def stopped_at(free: SdkCall, limited: SdkCall) -> Check:
    """Whether one answer stopped at the word; `free`: the one without it."""
    name, word, text = "stop", limited.arguments["stop"][0], limited.said.content
    finish = next(iter(limited.finish_reasons[-1:]), limited.finish_reason)
    evidence = {"stop": word, "finish_reason": figure_or_line(finish)}
    evidence["characters"] = [len(free.content), len(text)]
    if text.partition(word)[2].strip():
        status, detail = Status.WARN, f"ignored: the text goes on after {word!r}"
    elif word in text:
        status, detail = Status.FAIL, f"the stop text {word!r} is in the answer"
    elif isinstance(finish, str) and chunk_form.finish_meaning(finish) == "stop":
        status, detail = Status.PASS, f"ends before {word!r}, finish_reason {finish}"
    elif text.strip() == free.content.partition(word)[0].strip():
        status = Status.FAIL
        detail = f"ends before {word!r}, but finish_reason is {quoted(finish)}, not 'stop'"
    else:
        status, detail = Status.SKIP, f"the model did not write {word!r} this time"
    return Check(name, status, detail, evidence)


def check_n(call: SdkCall) -> Check:
    choices = pick_list(call.data, "choices")
    indices = [figure_or_line(pick(choice, "index")) for choice in choices]
    evidence = {"indices": indices}
    if len(choices) == 1:
        return Check("n", Status.WARN, "ignored: n=2 gave one choice", evidence)
    problems = []
    messages = [pick(choice, "message") for choice in choices]
    if sorted(map(str, indices)) != ["0", "1"]:
        problems.append(f"n=2 gave {len(choices)} choices, their indices are {indices}")
    elif not all(content_in(each) or thoughts_in(each) for each in messages):
        if found := only_thoughts("n", evidence, call, essential=False):
            return found
        problems.append("n=2 gave a choice without content")
    return verdict("n", problems, "two choices, indices 0 and 1", evidence)


def check_seed(*calls: SdkCall) -> Check:
    first, again, other = (call.texts for call in calls)  # with the thoughts
    if not (first and again) and (found := only_thoughts("seed", {}, *calls, essential=False)):
        return found
    if first != again:
        detail = f"ignored: seed {SEEDS[0]} gave {quoted(first[:30])} and {quoted(again[:30])}"
        return Check("seed", Status.WARN, detail)
    if first == other:
        return Check("seed", Status.SKIP, "cannot tell: another seed gives the same answer, too")
    return Check("seed", Status.PASS, "the same seed gives the same answer, another one does not")


def check_logprobs(call: SdkCall) -> Check:
    name = "logprobs"
    given = pick(call.data, "choices", 0, "logprobs")
    if not call.texts and (found := only_thoughts(name, {}, call, essential=False)):
        return found
    if given is None:
        return Check(name, Status.WARN, "ignored: no logprobs in the answer")
    tokens, problems = pick_list(given, "content"), []
    if not tokens:
        problems.append("logprobs without a list of tokens in 'content'")
    if wrong := [v for each in tokens if not parts.is_logprob(v := pick(each, "logprob"))]:
        count = f"{len(wrong)} of {len(tokens)}"
        problems.append(f"{count} are not the logarithm of a probability: {quoted(wrong[0])}")
    if any(len(pick_list(token, "top_logprobs")) != TOP_LOGPROBS for token in tokens):
        problems.append(f"not {TOP_LOGPROBS} top_logprobs for each token")
    has_thoughts = thoughts_in(call.message)  # their tokens are in the list, too
    if tokens and not has_thoughts and not parts.joins(tokens, call.content):
        problems.append("the tokens together are not the content")
    good = f"{len(tokens)} tokens, together the content, {TOP_LOGPROBS} alternatives each"
    return verdict(name, problems, good, {"tokens": len(tokens)})


def check_json(name: str, call: SdkCall, fits: Callable[[Any], bool]) -> Check:
    """What came of a response_format; `fits` says whether the value is what was asked for."""
    text, finish = call.content.strip(), call.finish_reason
    evidence = {"finish_reason": figure_or_line(finish), "characters": len(text)}
    if found := only_thoughts(name, evidence, call, essential=False):
        return found  # not ignored: nothing has been written yet
    if not text:
        what = "only thoughts" if thoughts_in(call.message) else "no content"
        detail = f"{what}, finish_reason {quoted(finish)}: does the model write JSON?"
        return Check(name, Status.SKIP, detail, evidence)
    if not text.startswith(("{", "[", "`")):
        return Check(name, Status.WARN, f"ignored: the answer is {quoted(text)}", evidence)
    try:
        value = decode(text)
    except ValueError:
        if chunk_form.means_length(finish):
            detail = f"the JSON is not finished after {len(text)} characters, at max_tokens"
            return Check(name, Status.SKIP, detail, evidence)
        return Check(name, Status.FAIL, f"not valid JSON: {quoted(text)}", evidence)
    if not fits(value):
        return Check(name, Status.FAIL, f"not what was asked for: {quoted(text)}", evidence)
    return Check(name, Status.PASS, quoted(text), evidence)


def check_json_schema(call: SdkCall) -> Check:
    return check_json("json_schema", call, fits_schema)


def check_tools(*calls: SdkCall) -> Check:
    """`calls`: with the tool, the same as a stream, and without the tool."""
    name = "tools"
    whole, streamed, bare = calls
    both_calls = whole, streamed
    both = whole_tool_calls(whole.message), streamed_tool_calls(streamed.chunks)
    made = [len(each.calls) for each in both]
    reasons = [figure_or_line(whole.finish_reason), *dict.fromkeys(streamed.finish_reasons)]
    prompts = [figure_or_line(pick(each.usage, "prompt_tokens")) for each in (whole, bare)]
    evidence = {"calls": made, "prompt_tokens": prompts, "finish_reasons": reasons}
    if made == [0, 0] and prompts[0] == prompts[1]:
        detail = f"ignored: the prompt has {prompts[0]} tokens with and without the tool"
        return Check(name, Status.WARN, detail, evidence)
    if made == [0, 0] and (found := only_thoughts(name, evidence, *both_calls, essential=False)):
        return found
    if made == [0, 0]:
        detail = "the model does not call the tool, although it must"
        return Check(name, Status.SKIP, detail, evidence)
    if any(map(chunk_form.means_length, reasons)):
        return Check(name, Status.SKIP, "the answer ended at max_tokens", evidence)
    problems = tool_problems(*both)
    problems += [each.text for each in findings(streamed, OF_CALLS)]
    problems += filter(None, [unfinished(whole)])
    if len(reasons) != 2 or reasons[0] != reasons[1]:
        in_stream = ", ".join(streamed.finish_reasons) or None
        problems.append(f"finish_reason {reasons[0]} without stream, {in_stream} in the stream")
    if not problems and reasons[0] != "tool_calls":
        detail = f"called, but finish_reason is {quoted(reasons[0])}, not 'tool_calls'"
        return Check(name, Status.WARN, detail, evidence)
    good = "the tool is called in the same way with and without a stream"
    return verdict(name, problems, good, evidence)


def tool_problems(whole: ToolCalls, streamed: ToolCalls) -> list[str]:
    """What is wrong with calls of our tool, and whether the two answers disagree."""
    problems = whole.texts + streamed.texts
    for call in whole.calls + streamed.calls:
        if call.name != "get_weather":
            problems.append(f"calls {quoted(call.name)}, which is not among the tools")
        try:
            city = pick(decode(call.arguments), "city")
        except ValueError:
            problems.append(f"arguments are not JSON: {quoted(call.arguments)}")
            continue
        if not isinstance(city, str):
            problems.append(f"the city is missing in arguments: {quoted(call.arguments)}")
    if [call.name for call in whole.calls] != [call.name for call in streamed.calls]:
        made = f"{len(whole.calls)} calls without stream, {len(streamed.calls)} in the stream"
        problems.append(made)
    return problems


def check_unknown_model(call: SdkCall, listing: Answer) -> Check:
    name, status, model = "unknown_model", call.answer.status, pick(call.data, "model")
    known = pick(listing.json, "data") if listing.is_ok else None
    listed = len(known) if isinstance(known, list) and known else None
    evidence = {"status": status, "served_by": figure_or_line(model), "listed": listed}
    if call.error is None and listed is None:
        detail = f"any name is accepted, {quoted(model)} answers; how many models there are is "
        return Check(name, Status.SKIP, f"{detail}not known: {listing.outcome()}", evidence)
    if call.error is None and listed != 1:
        detail = f"ignored: {quoted(model)} answers instead, one of {listed} listed"
        return Check(name, Status.WARN, detail, evidence)
    if call.error is None:
        detail = f"any name is accepted, {quoted(model)} answers: the server has one model"
        return Check(name, Status.PASS, detail, evidence)
    is_about_model = refused_for(call) in (None, *ABOUT_MODEL) or call.answer.is_page
    if status in (400, 404, 422) and is_about_model:  # whatever words it has, or none
        return Check(name, Status.PASS, f"{status} {call.error}: {call.error_text}", evidence)
    return check_failed_call(name, call)


def check_retrieve(call: SdkCall) -> Check:
    found, model = pick(call.data, "id"), call.arguments["model"]
    evidence = {"id": figure_or_line(found)}
    problems = [f"asked for {quoted(model)}, got the id {quoted(found)}"] if found != model else []
    return verdict("retrieve", problems, f"{quoted(found)} is found by its name", evidence)


def check_completions(call: SdkCall) -> Check:
    text, finish = pick(call.data, "choices", 0, "text"), call.finish_reason
    if not text and (found := only_thoughts("completions", {}, call, essential=False)):
        return found
    kind, problems = pick(call.data, "object"), []
    if kind != "text_completion":
        problems.append(f"object is {quoted(kind)}, not 'text_completion'")
    if not isinstance(text, str):
        problems.append(f"the choice has no text ({quoted(text)})")
    if not (isinstance(finish, str) and finish):
        problems.append(f"finish_reason is {quoted(finish)}")
    good = f"{quoted(text)}, finish_reason {as_line(finish)}"
    return verdict("completions", problems, good, {"finish_reason": figure_or_line(finish)})


def check_async(whole: SdkCall, streamed: SdkCall | None = None) -> Check:
    name = "async"
    check = unanswered(name, whole) or check_completion(whole, name)
    part = "without stream"
    if streamed and check.status is Status.PASS:
        check, part = unanswered(name, streamed) or check_stream(streamed, name), "as a stream"
    if check.status is not Status.PASS or not streamed:
        check.detail = f"{part}: {check.detail}"
        return check
    evidence = {"spent_ms": [whole.answer.spent_ms, streamed.answer.spent_ms]}
    return Check(name, Status.PASS, f"a completion, and a stream of {check.detail}", evidence)


# --- judge: all answers


def check_answers(asked: int, failed: Sequence[str], damaged: Sequence[str]) -> Check:
    """Did every request of the run succeed, but those that had to be refused?

    `failed`: the check and the error of each that did not. `damaged`: the checks whose answers
    have characters that were lost.
    """
    evidence = {"asked": asked, "failed": len(failed), "damaged": len(damaged)}
    if not asked:
        return Check(ANSWERS, Status.SKIP, "no other check has asked for anything", evidence)
    if failed:
        detail = f"{len(failed)} of {plural(asked, 'request')} failed: {counted(failed)}"
        return Check(ANSWERS, Status.FAIL, detail, evidence)
    if damaged:
        lost = f"U+FFFD, the mark of a lost character, is in {plural(len(damaged), 'answer')}"
        detail = f"{lost}: {counted(damaged)}"
        return Check(ANSWERS, Status.WARN, detail, evidence)
    detail = f"{plural(asked, 'request')}; none failed, but for what is refused rightly"
    return Check(ANSWERS, Status.PASS, detail, evidence)


def check_parameters(refused: dict[str, str], call: SdkCall) -> Check:
    name, evidence = "parameters", {"refused": refused}
    if refused:
        return Check(name, Status.WARN, refused_words(refused), evidence)
    good = Check(name, Status.PASS, "max_tokens and temperature 0 are taken", evidence)
    return unanswered(name, call) or good


def check_responses(*calls: SdkCall | str) -> Check:
    """`calls`: see `ask_responses`; or why the package cannot ask."""
    if told := [each for each in calls if isinstance(each, str)]:
        return Check(sdk_responses.NAME, Status.SKIP, told[0])
    made = [each for each in calls if isinstance(each, SdkCall)]
    if failed := unanswered(sdk_responses.NAME, *made):
        return failed
    problems, doubts, good = sdk_responses.findings(made)
    evidence = {"asked": len(made), "events": [len(call.chunks) for call in made if call.chunks]}
    return verdict(sdk_responses.NAME, problems, good, evidence, doubts)


CONTRACT: dict[str, Callable[..., Check]] = {
    "completion": check_completion,
    "stream": check_stream,
    "usage": check_usage,
    "wire": check_wire,
    "pacing": check_pacing,
    "compressed": check_compressed,
    "unicode": check_unicode,
    "same_text": check_same_text,
    "models": check_models,
    "wrong_key": check_wrong_key,
    "bad_request": check_bad_request,
}
CAPABILITIES: dict[str, Callable[..., Check]] = {
    "embeddings": check_embeddings,
    "stop": check_stop,
    "n": check_n,
    "seed": check_seed,
    "logprobs": check_logprobs,
    "json_object": lambda call: check_json("json_object", call, lambda v: isinstance(v, dict)),
    "json_schema": check_json_schema,
    "tools": check_tools,
    "unknown_model": check_unknown_model,
    "retrieve": check_retrieve,
    "completions": check_completions,
    "responses": check_responses,
    "async": check_async,
    "parameters": check_parameters,
}
ANSWERS = "answers"  # looks at what all the others asked
CHECKS = (*CONTRACT, *CAPABILITIES, ANSWERS)
# the functions above that look at failed calls, too; the others get only calls with an answer
JUDGE_ERRORS = (
    "wire pacing compressed wrong_key bad_request embeddings unknown_model async parameters "
    "responses"
).split()


def judge(name: str, found: Sequence[Any]) -> Check:
    """The verdict on all that was asked for one check."""
    failed = None if name in JUDGE_ERRORS else unanswered(name, *found)
    return failed or (CONTRACT | CAPABILITIES)[name](*found)


# --- run


def ask_and_judge(session: Session, name: str) -> Check:
    """Ask all that a check needs, then judge it, and keep nothing of large answers."""
    found = ASK[name](session) if name in ASK else session.ask(name)
    reason = f"not asked: {session.asker.stopped}"
    check = judge(name, found) if found else undecided(name, reason)
    check.shown_by(session.behind(name))
    for call in session.client.calls:
        if call.check == name:
            call.forget_content()
    if name != "wire":  # its stream is the first one of `pacing`
        session.forget_bytes()
    return check


def decide(run: Run, document: Document, session: Session) -> None:
    """Check after check, each on the screen as soon as it is decided."""
    client, wanted = session.client, sum(run.wants(name) for name in CHECKS)
    about = f"openai {client.version} on {client.http_library}"
    run.say(f"{about}, {wanted} checks with {session.model}")
    for title, judges in (("Contract", CONTRACT), ("Capabilities", CAPABILITIES)):
        chosen = list(filter(run.wants, judges))
        if chosen:
            run.say()
            run.say(title)
        for name in chosen:
            run.decide(document, ask_and_judge(session, name))
    if run.wants(ANSWERS):
        asked = len(session.client.calls) + len(session.asker.answers)
        failed = failed_requests(client.calls, session.at_wire, session.listing)
        damaged = damaged_answers(client.calls, session.at_wire)
        run.say()
        run.say("All answers")
        check = check_answers(asked, failed, damaged)
        run.decide(document, check.shown_by(behind_failures(client.calls, session.at_wire)))


def measure(run: Run) -> None:
    document = run.document("openai_sdk_test")
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(asking.open_wire(run, run.token()))
        listing = chat.first_contact(run, wire, [chat.get(chat.MODELS)])[0]
        client = OpenAIClient(wire.target, run.args.timeout, wire.dialect)
        stack.enter_context(contextlib.closing(client))
        run.client |= {"openai": client.version, "http_library": client.http_library}
        starvation = stack.enter_context(Starvation())
        session = Session(asking.Asker(run, wire), client, listing, starvation)
        run.target["model"] = session.model
        try:
            decide(run, document, session)
        finally:
            document.requests = sdk_records.records(session)
            document.metrics = sdk_records.metrics(session)
        total = "{requests} requests, {prompt_tokens} tokens read and {completion_tokens} written"
        run.say()
        run.say(f"{total.format(**document.metrics)} by the server's count")
        document.finish()


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
