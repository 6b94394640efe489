#!/usr/bin/env python3
"""Does the openai Python package work against the deployment, unmodified?

Calls the real SDK as an application would (without retries), and looks at one stream at the wire,
because the SDK silently accepts some broken streams. It checks the contract first, and then what
else the deployment can do.

PASS: every part of the contract is kept, and no capability that the deployment offers is broken.
Cost: about 30 small requests one after the other, each answer up to --max-tokens (capabilities:
1 to 160 tokens). It wakes a sleeping worker. The user's own OPENAI_* settings are not used.

Examples:
    # before a release: the contract and the capabilities
    python3 test_openai_sdk.py --url https://host:8000 --api-key sk-key
    # a reasoning model needs room to think before it answers
    python3 test_openai_sdk.py --url https://host:8000 --max-tokens 1000
    # only the streams of the contract, against llama.cpp's own server
    python3 test_openai_sdk.py --url http://127.0.0.1:8080 --only stream usage wire pacing
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.checks import undecided
from livecheck.core.json_value import as_line, figure_or_line, pick, pick_list, pick_text, quoted
from livecheck.core.text import plural
from livecheck.gateway import answer_parts as parts
from livecheck.gateway.openai_client import OpenAIClient, SdkCall, thoughts_in
from livecheck.wire import asking, chat
from livecheck.wire.answer import Answer, status_kind
from livecheck.wire.answer import records as answer_records
from livecheck.wire.wire import Request

REFUSALS = (400, 404, 405, 422, 501)  # how a server says clearly that it cannot do something
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")

PROMPT = "Write a short poem about the sea"
# OpenAI's own JSON mode demands the word JSON in the prompt; ours must not lead to JSON by chance
PROSE = "Write one sentence about the sea, in plain prose. JSON is not wanted."
WEATHER = "What is the weather in Paris? Use the tool."
NONSENSE_WORDS = ["quaxil", "plimfet"]  # names that no model writes by chance


def object_schema(**properties: Any) -> dict[str, Any]:
    """A JSON schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMA = object_schema(zorble={"type": "string", "enum": NONSENSE_WORDS}, frint={"type": "boolean"})
AS_JSON = {"type": "json_object"}
BY_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "zorbles", "strict": True, "schema": SCHEMA},
}
CITY = object_schema(city={"type": "string", "enum": ["Paris", "Rome"]})
GET_WEATHER = {"name": "get_weather", "description": "The weather in a city, now"}
TOOL = {"type": "function", "function": {**GET_WEATHER, "parameters": CITY}}
SEEDS = (11, 11, 12)
TOP_LOGPROBS = 2
SHORT_TOKENS = 16  # for an answer that only has to be there
STOP_TOKENS = 32  # for one with a word to stop at
# at least; with a reasoning model --max-tokens gives more
JSON_TOKENS = 160  # a small model is not brief
TOOL_TOKENS = 64

BURST_TRIES = 3  # a busy machine may hold back one stream, a buffering proxy holds back all
MAX_COORDINATE = 1e30  # no embedding has a larger one
SAME_VECTOR = 0.999  # cosine of the same text, computed twice


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("what to ask").add_argument
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    longest = "longest answer, in tokens (default %(default)s)"
    add("--max-tokens", type=common.whole_number(8), default=64, metavar="N", help=longest)
    return parser


# --- measure


@dataclass(frozen=True)
class Question:
    """A method of the SDK and its arguments; the model is added where it is missing."""

    method: str
    arguments: dict[str, Any]
    asynchronous: bool = False


def to_chat(prompt: str, max_tokens: int, asynchronous: bool = False, **more: Any) -> Question:
    messages = [{"role": "user", "content": prompt}]
    arguments = {"messages": messages, "max_tokens": max_tokens, **more}
    return Question("chat.completions.create", arguments, asynchronous)


def questions(max_tokens: int) -> dict[str, list[Question]]:
    """What the SDK is asked for each check; `max_tokens` is the option."""
    json_tokens, tool_tokens = max(JSON_TOKENS, max_tokens), max(TOOL_TOKENS, max_tokens)
    with_usage = {"include_usage": True}
    tools: dict[str, Any] = {"temperature": 0, "tools": [TOOL], "tool_choice": "required"}
    logprobs: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    unknown_model = f"no-such-model-{secrets.token_hex(4)}"
    text = {"input": "test embedding input"}
    return {
        "completion": [to_chat(PROMPT, max_tokens)],
        "stream": [to_chat(PROMPT, max_tokens, stream=True)],
        "usage": [to_chat(PROMPT, SHORT_TOKENS, stream=True, stream_options=with_usage)],
        "models": [Question("models.list", {})],
        "wrong_key": [to_chat(PROMPT, 1)],
        "bad_request": [to_chat(PROMPT, 1, messages="not a list")],
        "embeddings": [  # the SDK asks for base64 by itself
            Question("embeddings.create", text),
            Question("embeddings.create", {**text, "encoding_format": "float"}),
        ],
        "stop": [to_chat(PROMPT, STOP_TOKENS, temperature=0)],
        "n": [to_chat(PROMPT, SHORT_TOKENS, n=2)],
        "seed": [to_chat(PROMPT, SHORT_TOKENS, temperature=1, seed=seed) for seed in SEEDS],
        "logprobs": [to_chat(PROMPT, SHORT_TOKENS, temperature=0, **logprobs)],
        "json_object": [to_chat(PROSE, json_tokens, temperature=0, response_format=AS_JSON)],
        "json_schema": [to_chat(PROSE, json_tokens, temperature=0, response_format=BY_SCHEMA)],
        "tools": [
            to_chat(WEATHER, tool_tokens, **tools),
            to_chat(WEATHER, tool_tokens, stream=True, **tools),
            to_chat(WEATHER, 1, temperature=0),  # how long the prompt is without the tool
        ],
        "unknown_model": [to_chat(PROMPT, 1, model=unknown_model)],
        "retrieve": [Question("models.retrieve", {})],
        "completions": [Question("completions.create", {"prompt": "The sea is", "max_tokens": 8})],
        "async": [
            to_chat(PROMPT, max_tokens, asynchronous=True),
            to_chat(PROMPT, max_tokens, asynchronous=True, stream=True),
        ],
    }


class Session:
    """Asks with the SDK and at the wire, one request after the other, until a reason to stop."""

    def __init__(self, asker: asking.Asker, client: OpenAIClient, listing: Answer) -> None:
        """`listing`: the answer of /v1/models at the first contact."""
        self.asker, self.client, self.listing = asker, client, listing
        args = asker.run.args
        self.model = chat.model_to_ask(asker.run, listing)
        self.stream = chat.completion(self.model, PROMPT, args.max_tokens)
        self.questions = questions(args.max_tokens)
        self.at_wire: dict[str, list[Answer]] = {}  # by check, in the order of sending
        asker.stopped = asking.reason_to_stop(listing, asking.COSTLY)

    def ask(
        self, check: str, asked: Sequence[Question] | None = None, key: str | None = None
    ) -> list[SdkCall]:
        """The calls for the questions of a check (or these), one after the other until one fails.

        The list is empty when there is a reason to stop. `key`: instead of the run's own.
        """
        calls: list[SdkCall] = []
        for each in self.questions[check] if asked is None else asked:
            if self.asker.stopped or (calls and calls[-1].error):
                break
            model = {} if each.method == "models.list" else {"model": self.model}
            arguments = {**model, **each.arguments}
            call = self.client.ask(check, each.method, arguments, key, each.asynchronous)
            self._look_at(call, own_key=key is None)
            calls.append(call)
        return calls

    def ask_at_wire(self, check: str, *requests: Request) -> list[Answer]:
        """The answers to requests that do not go through the SDK; none with a reason to stop."""
        return self.asker.ask(requests, keep=self.at_wire.setdefault(check, []).extend)

    def _look_at(self, call: SdkCall, own_key: bool) -> None:
        run = self.asker.run
        run.verbose(f"{call.check}: {call.method}: {call.outcome}")
        run.debug(f"  {as_line(call.data or call.chunks[:3] or call.error_body)}")
        self.asker.stopped = asking.reason_to_stop(call.answer)
        was_served = any(each.error is None for each in self.client.calls)
        if call.answer.status == 401 and own_key and not was_served and not self.asker.stopped:
            raise CannotCheck(asking.refused_credential(run))


def ask_pacing(session: Session) -> list[Answer]:
    """Streams at the wire until one is not a burst; the one of the check `wire` is the first."""
    streams = list(session.at_wire.get("wire", []))
    while len(streams) < BURST_TRIES and all(map(parts.is_burst, map(parts.rhythm, streams))):
        if not (more := session.ask_at_wire("pacing", session.stream)):
            break
        streams += more
    return streams


def ask_models(session: Session) -> list[SdkCall]:
    if session.listing.is_costly:  # a second one would cost as much time again
        return [SdkCall("models", "models.list", {}, session.listing)]
    return session.ask("models")


@dataclass
class WrongKey:
    """How the deployment treats a key that is valid nowhere; the last two only if it is served."""

    call: SdkCall
    is_key_given: bool  # whether this run has a key of its own
    status_without_key: int | None = None  # of the answer to a request without any key
    is_auth_enabled: Any = None  # what /health says of it


def ask_wrong_key(session: Session) -> list[WrongKey]:
    run = session.asker.run
    key = run.secrets.add(f"sk-wrong-{secrets.token_hex(16)}")
    found = [WrongKey(c, run.credentials.given) for c in session.ask("wrong_key", key=key)]
    if found and found[0].call.error is None:
        request = chat.completion(session.model, PROMPT, 1, stream=False)
        requests = [chat.with_credential(request, None), chat.get("/health")]
        for answer in session.ask_at_wire("wrong_key", *requests):
            if answer.path == "/health":
                found[0].is_auth_enabled = pick(answer.json, "authentication", "enabled")
            else:
                found[0].status_without_key = answer.status
    return found


def ask_embeddings(session: Session) -> list[SdkCall]:
    """As the SDK asks by itself (base64) and as floats, even when the first is refused."""
    asked = session.questions["embeddings"]
    return [call for each in asked for call in session.ask("embeddings", [each])]


def ask_stop(session: Session) -> list[SdkCall]:
    """The same answer twice, the second time with a word of the first to stop at."""
    calls = session.ask("stop")
    word = word_to_stop_at(calls[0].content) if calls else None
    if word is not None:
        stop = to_chat(PROMPT, STOP_TOKENS, temperature=0, stop=[word])
        calls += session.ask("stop", [stop])
    return calls


def word_to_stop_at(text: str) -> str | None:
    """The last word whose first place has text before and after it."""
    for word in reversed(text.split()[:-1]):
        before, _, after = text.partition(word)
        if before.strip() and after.strip() and len(word) > 1:
            return word
    return None


def ask_unknown_model(session: Session) -> list[SdkCall | Answer]:
    """The call, and the list of models: the verdict depends on how many are listed."""
    calls = session.ask("unknown_model")
    return [*calls, session.listing] if calls else []


# checks for which it is not enough to ask their questions one after the other
ASK: dict[str, Callable[[Session], Sequence[Any]]] = {
    "wire": lambda session: session.ask_at_wire("wire", session.stream),
    "pacing": ask_pacing,
    "models": ask_models,
    "wrong_key": ask_wrong_key,
    "embeddings": ask_embeddings,
    "stop": ask_stop,
    "unknown_model": ask_unknown_model,
}


# --- judge: calls that failed, tokens


def unanswered(name: str, *calls: SdkCall) -> Check | None:
    """The verdict on the first call that has no answer to look at; None when all have one."""
    failed = (check_failed_call(name, call) for call in calls if call.error is not None)
    return next(failed, None)


def check_failed_call(name: str, call: SdkCall) -> Check:
    status, said = call.answer.status, call.error_text
    evidence = {"status": status, "error": call.error}
    # "async" sends requests of the contract, only by another client
    may_be_refused = name in CAPABILITIES and name != "async"
    if call.answer.is_rate_limited:
        detail = asking.rate_limit_words(call.answer)
        return undecided(name, detail, evidence)
    if may_be_refused and status in REFUSALS:
        return Check(name, Status.SKIP, f"refused: {status} {said}", evidence)
    detail = f"{status} {call.error}: {said}" if status else f"{call.error}: {said}"
    if status == 200 and call.error_body is not None:
        detail = f"an error inside the 200 stream: {said}"
    return Check(name, Status.FAIL, detail, evidence)


def verdict(name: str, problems: Sequence[str], good: str, evidence: dict[str, Any]) -> Check:
    """FAIL with all the problems, PASS with what is good when there are none."""
    if problems:
        return Check(name, Status.FAIL, "; ".join(problems), evidence)
    return Check(name, Status.PASS, good, evidence)


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def usage_problems(usage: Any, max_tokens: int) -> list[str]:
    """What is wrong with an account of tokens."""
    if not isinstance(usage, dict):
        return ["there is no usage"]
    problems = [f"{n} is {quoted(usage.get(n))}" for n in COUNTS if not is_count(usage.get(n))]
    if problems:
        return problems
    prompt, output, total = (usage[name] for name in COUNTS)
    if prompt + output != total:
        problems.append(f"usage does not add up: {prompt} + {output} is not {total}")
    if output > max_tokens:
        problems.append(f"{output} tokens, although max_tokens was {max_tokens}")
    return problems


def counts(usage: Any) -> dict[str, Any]:
    """What an account of tokens says, as far as it is one."""
    return {name: figure_or_line(pick(usage, name)) for name in COUNTS}


def usage_words(usage: Any) -> str:
    return "usage {prompt_tokens} + {completion_tokens} tokens".format(**counts(usage))


# --- judge: the contract


def check_completion(call: SdkCall, name: str = "completion") -> Check:
    usage, finish, spent_ms = call.usage, call.finish_reason, call.answer.spent_ms
    problems = usage_problems(usage, call.arguments["max_tokens"])
    if pick(call.message, "role") != "assistant":
        problems.append(f"role is {quoted(pick(call.message, 'role'))}, not 'assistant'")
    if not (isinstance(finish, str) and finish):
        problems.append(f"finish_reason is {quoted(finish)}")
    evidence = {**counts(usage), "finish_reason": figure_or_line(finish), "spent_ms": spent_ms}
    thoughts = thoughts_in(call.message)
    if not call.content and not thoughts:
        problems.append("the content is empty")
    if not call.content and not problems:
        detail = f"{len(thoughts)} characters of thoughts and no content: raise --max-tokens"
        return Check(name, Status.WARN, detail, evidence)
    good = f"{quoted(call.content)}, finish_reason {as_line(finish)}, {usage_words(usage)}"
    return verdict(name, problems, f"{good}, {spent_ms:.0f} ms", evidence)


def check_stream(call: SdkCall, name: str = "stream") -> Check:
    deltas = [pick(c, "choices", 0, "delta") for c in call.chunks if pick_list(c, "choices")]
    pieces = [text for delta in deltas if (text := pick(delta, "content"))]
    thoughts = [text for delta in deltas if (text := thoughts_in(delta))]
    reasons, spent_ms = call.finish_reasons, call.answer.spent_ms
    problems = stream_problems(call.chunks, deltas, reasons)
    evidence = {"pieces": len(pieces), "finish_reasons": reasons, "spent_ms": spent_ms}
    if thoughts and not pieces and not problems:
        detail = f"{len(thoughts)} pieces of thoughts and no content: raise --max-tokens"
        return Check(name, Status.WARN, detail, evidence)
    if len(pieces) < 2:
        problems.append("all content is in one piece" if pieces else "the text is empty")
    good = f"{len(pieces)} pieces, one id, finish_reason {', '.join(reasons)}, "
    good += f"first chunk after {call.chunk_ms[0]:.0f} of {spent_ms:.0f} ms"
    return verdict(name, problems, good, evidence)


def stream_problems(chunks: Sequence[Any], deltas: Sequence[Any], reasons: list[str]) -> list[str]:
    """What is wrong with the chunks of a stream, as the SDK gave them."""
    problems = []
    ids = {as_line(pick(chunk, "id")) for chunk in chunks}
    if len(ids) != 1:
        problems.append(f"{len(ids)} different ids in {len(chunks)} chunks")
    elif not pick_text(chunks[0], "id"):
        problems.append(f"the id is {quoted(pick(chunks[0], 'id'))}")
    first = pick(deltas[0], "role") if deltas else None
    if first != "assistant":
        problems.append(f"the first delta's role is {quoted(first)}, not 'assistant'")
    if len(reasons) != 1:
        problems.append(f"{len(reasons)} finish_reasons, expected exactly one")
    else:
        has_ended = [pick(chunk, "choices", 0, "finish_reason") is not None for chunk in chunks]
        after = chunks[has_ended.index(True) + 1 :]
        if any(pick(chunk, "choices", 0, "delta", "content") for chunk in after):
            problems.append("content follows after the finish_reason")
    return problems


def check_usage(call: SdkCall) -> Check:
    found = [pick(c, "usage") for c in call.chunks if isinstance(pick(c, "usage"), dict)]
    last = found[-1] if found else None
    evidence = {"chunks": len(call.chunks), **counts(last)}
    if last is None:
        detail = f"include_usage is ignored: no usage in {len(call.chunks)} chunks"
        return Check("usage", Status.FAIL, detail, evidence)
    problems = usage_problems(last, call.arguments["max_tokens"])
    return verdict("usage", problems, f"{usage_words(last)} in the stream", evidence)


def no_stream(name: str, answer: Answer) -> Check | None:
    """The verdict on an answer at the wire without a stream to look at; None when there is one."""
    if answer.is_rate_limited:
        return undecided(name, asking.rate_limit_words(answer))
    if answer.failure:
        return Check(name, Status.FAIL, f"{answer.failure.kind}: {answer.failure.text}")
    if answer.status != 200:
        evidence = {"status": answer.status, "error": status_kind(answer.status or 0)}
        return Check(name, Status.FAIL, f"{answer.status} {answer.words}".strip(), evidence)
    return None


def check_wire(answer: Answer) -> Check:
    if failed := no_stream("wire", answer):
        return failed
    stream = answer.stream
    harmless = "empty" if stream.reasoning and not stream.text else None  # it has thoughts
    problems = [each.text for each in stream.complaints if each.kind != harmless]
    if answer.reply.unterminated:
        problems.append("the message does not end after [DONE]")
    good = f"{stream.events} events, text/event-stream, each of them JSON, [DONE] at the end"
    return verdict("wire", problems, good, {"events": stream.events, "bytes": len(answer.body)})


def check_pacing(*answers: Answer) -> Check:
    if failed := no_stream("pacing", answers[-1]):
        return failed
    beats = [parts.rhythm(answer) for answer in answers]
    beat, evidence = beats[-1], {"streams": beats}
    detail = f"{beat['pieces']} pieces came in {plural(beat['reads'], 'read')}"
    if beat["pieces"] < parts.LEAST_PIECES:
        return Check("pacing", Status.SKIP, f"cannot tell: only {detail}", evidence)
    detail += f", spread over {beat['over_ms']:.1f} of {beat['of_ms']:.1f} ms"
    held_back, times = "the stream was held back and sent in one burst", len(beats)
    problems = [f"{held_back}, {times} times out of {times}: {detail}"]
    return verdict("pacing", problems if parts.is_burst(beat) else [], detail, evidence)


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
    if call.error_message is None:
        said = quoted(call.error_text)
        detail = f"401 AuthenticationError, but the SDK finds no message in it: {said}"
        return Check(name, Status.WARN, detail, evidence)
    return Check(name, Status.PASS, f"401 AuthenticationError: {call.error_text}", evidence)


def check_served_wrong_key(found: WrongKey, evidence: dict[str, Any]) -> Check:
    """A wrong key was served: is authentication off, or broken?"""
    status, without_key = Status.FAIL, found.status_without_key
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


def check_bad_request(call: SdkCall) -> Check:
    name, status = "bad_request", call.answer.status
    if call.error is None:
        return Check(name, Status.FAIL, "messages was a string, but the answer is 200")
    if not 400 <= (status or 0) < 500 or call.answer.is_rate_limited:
        return check_failed_call(name, call)
    evidence = {"status": status, "error": call.error}
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
    problems = {problem for each in vectors if (problem := vector_problem(each))}
    evidence = {"dimensions": [len(each) if isinstance(each, list) else None for each in vectors]}
    if not problems and not (likeness := cosine(*vectors)) >= SAME_VECTOR:
        problems.add(f"base64 and float disagree: cosine {likeness:.3f}")
    good = f"{evidence['dimensions'][0]} dimensions, base64 and float agree"
    return verdict(name, sorted(problems), good, evidence)


def vector_problem(vector: object) -> str | None:
    if not isinstance(vector, list) or not vector:
        return "no vector in the answer"
    # NaN is not below the limit either
    if not all(isinstance(x, (int, float)) and abs(x) < MAX_COORDINATE for x in vector):
        return "a value in the vector is not a finite number"
    return None if any(vector) else f"all {len(vector)} dimensions are zero"


def cosine(one: list[float], other: list[float]) -> float:
    """-1 to 1; 0 for vectors of different length."""
    if len(one) != len(other):
        return 0.0
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.hypot(*one) / math.hypot(*other)


def check_stop(*calls: SdkCall) -> Check:
    """`calls`: the whole answer, and the same that has to stop at a word of it."""
    name = "stop"
    free, limited = calls[0], calls[-1]
    if len(calls) < 2:
        detail = f"the answer is too short to stop in it: {quoted(free.content)}"
        return Check(name, Status.SKIP, detail)
    word, text, finish = limited.arguments["stop"][0], limited.content, limited.finish_reason
    evidence = {"stop": word, "finish_reason": figure_or_line(finish)}
    evidence["characters"] = [len(free.content), len(text)]
    if text.partition(word)[2].strip():
        status, detail = Status.WARN, f"ignored: the text goes on after {word!r}"
    elif word in text:
        status, detail = Status.FAIL, f"the stop text {word!r} is in the answer"
    elif finish == "stop":
        status, detail = Status.PASS, f"ends before {word!r}, finish_reason stop"
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
    elif not all(pick(each, "content") or thoughts_in(each) for each in messages):
        problems.append("n=2 gave a choice without content")
    return verdict("n", problems, "two choices, indices 0 and 1", evidence)


def check_seed(*calls: SdkCall) -> Check:
    first, again, other = (call.content for call in calls)
    if first != again:
        detail = f"ignored: seed {SEEDS[0]} gave {quoted(first[:30])} and {quoted(again[:30])}"
        return Check("seed", Status.WARN, detail)
    if first == other:
        return Check("seed", Status.SKIP, "cannot tell: another seed gives the same answer, too")
    return Check("seed", Status.PASS, "the same seed gives the same answer, another one does not")


def check_logprobs(call: SdkCall) -> Check:
    name = "logprobs"
    given = pick(call.data, "choices", 0, "logprobs")
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
    if not text.startswith(("{", "[", "`")):
        return Check(name, Status.WARN, f"ignored: the answer is {quoted(text)}", evidence)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if finish == "length":
            detail = f"the JSON is not finished after {len(text)} characters, at max_tokens"
            return Check(name, Status.SKIP, detail, evidence)
        return Check(name, Status.FAIL, f"not valid JSON: {quoted(text)}", evidence)
    if not fits(value):
        return Check(name, Status.FAIL, f"not what was asked for: {quoted(text)}", evidence)
    return Check(name, Status.PASS, quoted(text), evidence)


def check_json_schema(call: SdkCall) -> Check:
    return check_json("json_schema", call, fits_schema)


def fits_schema(value: Any) -> bool:
    """Whether a value keeps SCHEMA."""
    if not isinstance(value, dict) or set(value) != {"zorble", "frint"}:
        return False
    return value["zorble"] in NONSENSE_WORDS and isinstance(value["frint"], bool)


def check_tools(*calls: SdkCall) -> Check:
    """`calls`: with the tool, the same as a stream, and without the tool."""
    name = "tools"
    whole, streamed, bare = calls
    both = parts.whole_tool_calls(whole.message), parts.streamed_tool_calls(streamed.chunks)
    made = [len(each.calls) for each in both]
    reasons = [figure_or_line(whole.finish_reason), *streamed.finish_reasons]
    prompts = [figure_or_line(pick(each.usage, "prompt_tokens")) for each in (whole, bare)]
    evidence = {"calls": made, "prompt_tokens": prompts, "finish_reasons": reasons}
    if made == [0, 0] and prompts[0] == prompts[1]:
        detail = f"ignored: the prompt has {prompts[0]} tokens with and without the tool"
        return Check(name, Status.WARN, detail, evidence)
    if made == [0, 0]:
        detail = "the model does not call the tool, although it must"
        return Check(name, Status.SKIP, detail, evidence)
    if "length" in reasons:
        return Check(name, Status.SKIP, "the answer ended at max_tokens", evidence)
    problems = tool_problems(*both)
    if len(reasons) != 2 or reasons[0] != reasons[1]:
        in_stream = ", ".join(streamed.finish_reasons) or None
        problems.append(f"finish_reason {reasons[0]} without stream, {in_stream} in the stream")
    if not problems and reasons[0] != "tool_calls":
        detail = f"called, but finish_reason is {quoted(reasons[0])}, not 'tool_calls'"
        return Check(name, Status.WARN, detail, evidence)
    good = "the tool is called in the same way with and without a stream"
    return verdict(name, problems, good, evidence)


def tool_problems(whole: parts.ToolCalls, streamed: parts.ToolCalls) -> list[str]:
    """What is wrong with calls of our tool, and whether the two answers disagree."""
    problems = whole.problems + streamed.problems
    for call in whole.calls + streamed.calls:
        if call.name != "get_weather":
            problems.append(f"calls {quoted(call.name)}, which is not among the tools")
        try:
            city = pick(json.loads(call.arguments), "city")
        except (ValueError, RecursionError):
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
    listed = len(pick_list(listing.json, "data"))
    evidence = {"status": status, "served_by": figure_or_line(model), "listed": listed}
    if call.error is None and listed > 1:
        detail = f"ignored: {quoted(model)} answers instead, one of {listed} listed"
        return Check(name, Status.WARN, detail, evidence)
    if call.error is None:
        detail = f"any name is accepted, {quoted(model)} answers: the server has one model"
        return Check(name, Status.PASS, detail, evidence)
    if status in (400, 404, 422) and call.error_message:
        return Check(name, Status.PASS, f"{status} {call.error}: {call.error_text}", evidence)
    return check_failed_call(name, call)


def check_retrieve(call: SdkCall) -> Check:
    found, model = pick(call.data, "id"), call.arguments["model"]
    evidence = {"id": figure_or_line(found)}
    problems = [f"asked for {quoted(model)}, got the id {quoted(found)}"] if found != model else []
    return verdict("retrieve", problems, f"{quoted(found)} is found by its name", evidence)


def check_completions(call: SdkCall) -> Check:
    text, finish = pick(call.data, "choices", 0, "text"), call.finish_reason
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


CONTRACT: dict[str, Callable[..., Check]] = {
    "completion": check_completion,
    "stream": check_stream,
    "usage": check_usage,
    "wire": check_wire,
    "pacing": check_pacing,
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
    "async": check_async,
}
CHECKS = (*CONTRACT, *CAPABILITIES)
# the functions above that look at failed calls, too; the others get only calls with an answer
JUDGE_ERRORS = "wire pacing wrong_key bad_request embeddings unknown_model async".split()


def judge(name: str, found: Sequence[Any]) -> Check:
    """The verdict on all that was asked for one check."""
    failed = None if name in JUDGE_ERRORS else unanswered(name, *found)
    return failed or (CONTRACT | CAPABILITIES)[name](*found)


# --- show


def metrics(session: Session) -> dict[str, Any]:
    """What the run asked for, as far as the answers tell."""
    calls = session.client.calls
    spent = [spent for call in calls if (spent := call.answer.spent_ms) is not None]

    def total(name: str) -> int:
        return sum(count for call in calls if is_count(count := pick(call.usage, name)))

    return {
        "requests": len(calls) + len(session.asker.answers),
        "prompt_tokens": total("prompt_tokens"),
        "completion_tokens": total("completion_tokens"),
        "longest_ms": max(spent, default=None),
    }


def record(call: SdkCall) -> dict[str, Any]:
    return {
        "check": call.check,
        "call": call.method,
        "status": call.answer.status,
        "error": call.error,
        "error_text": call.error_text or None,
        "resent": call.answer.reply.resent,
        "spent_ms": call.answer.spent_ms,
        **counts(call.usage),
        "event_ms": call.chunk_ms,
    }


def records(session: Session) -> list[dict[str, Any]]:
    """The calls of the SDK, then the requests at the wire."""
    checks = [check for check, answers in session.at_wire.items() for _ in answers]
    at_wire = answer_records([each for found in session.at_wire.values() for each in found])
    rows = [{"check": c, "call": "wire"} | r for c, r in zip(checks, at_wire, strict=True)]
    return [record(call) for call in session.client.calls] + rows


def ask_and_judge(session: Session, name: str) -> Check:
    """Ask all that a check needs, then judge it, and keep nothing of large answers."""
    found = ASK[name](session) if name in ASK else session.ask(name)
    reason = f"not asked: {session.asker.stopped}"
    check = judge(name, found) if found else undecided(name, reason)
    for call in session.client.calls:
        if call.check == name:
            call.forget_content()
    return check


def decide(run: Run, document: Document, session: Session) -> None:
    """Check after check, each on the screen as soon as it is decided."""
    client, wanted = session.client, sum(run.wants(name) for name in CHECKS)
    about = f"openai {client.version} on {client.http_library}"
    run.say(f"{about}, {wanted} checks with {session.model}")
    for title, judges in (("Contract", CONTRACT), ("Capabilities", CAPABILITIES)):
        chosen = list(filter(run.wants, judges))
        if chosen:
            run.say(f"\n{title}")
        for name in chosen:
            run.decide(document, ask_and_judge(session, name))


def measure(run: Run) -> None:
    document = run.document("openai_sdk_test")
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(asking.open_wire(run, run.token()))
        client = OpenAIClient(wire.target, run.args.timeout)
        stack.enter_context(contextlib.closing(client))
        run.client |= {"openai": client.version, "http_library": client.http_library}
        listing = chat.first_contact(run, wire, [chat.get(chat.MODELS)])[0]
        session = Session(asking.Asker(run, wire), client, listing)
        run.target["model"] = session.model
        try:
            decide(run, document, session)
        finally:
            document.requests = records(session)
            document.metrics = metrics(session)
        total = "{requests} requests, {prompt_tokens} tokens read and {completion_tokens} written"
        run.say(f"\n{total.format(**document.metrics)} by the server's count")
        document.finish()


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    sys.exit(main())
