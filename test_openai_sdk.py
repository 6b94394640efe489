#!/usr/bin/env python3
"""Does the openai Python package work against the deployment, unmodified?

Asks with the real SDK, as an application would (no retries), and looks at one stream on the wire,
where the SDK hides what it forgives. First the contract, then what else the deployment can do.

PASS: every part of the contract was kept, and no capability that the deployment offers is broken.
Cost: about 30 small requests one after the other, each answer up to --max-tokens (capabilities:
1 to 160 tokens). It wakes a sleeping worker. The user's own OPENAI_* settings are not used.

Examples:
    # the gate of a release: contract and capabilities
    python3 test_openai_sdk.py --url https://host:8000 --api-key sk-key
    # a reasoning model needs room to think before it answers
    python3 test_openai_sdk.py --url https://host:8000 --max-tokens 1000
    # the contract's streams alone, against llama.cpp's own server
    python3 test_openai_sdk.py --url http://127.0.0.1:8080 --only stream usage wire pacing
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import operator
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.text import shorten
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.connection import tls_context
from livecheck.wire.records import (
    is_rate_limit,
    make_records,
    outcome,
    read_streams,
    status_kind,
    words,
)

CONTRACT = (
    "completion",
    "stream",
    "usage",
    "wire",
    "pacing",
    "models",
    "wrong_key",
    "bad_request",
)
CAPABILITIES = (
    "embeddings",
    "stop",
    "n",
    "seed",
    "logprobs",
    "json_object",
    "json_schema",
    "tools",
    "unknown_model",
    "retrieve",
    "completions",
    "async",
)
CHECKS = CONTRACT + CAPABILITIES
CHAT = "chat.completions.create"
REFUSALS = (400, 404, 405, 422, 501)  # a clear "not here"
SHOWN = 120  # characters of a server's words
NO_KEY = "no-key"  # the SDK wants one, the deployment may not

PROMPT = "Write a short poem about the sea"
# OpenAI's own JSON mode wants the word JSON in the prompt; ours must not lead to JSON by chance
PROSE = "Write one sentence about the sea, in plain prose. JSON is not wanted."
QUESTION = "What is the weather in Paris? Use the tool."
SCHEMA = {
    "type": "object",
    "properties": {
        "zorble": {"type": "string", "enum": ["quaxil", "plimfet"]},
        "frint": {"type": "boolean"},
    },
    "required": ["zorble", "frint"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TOP_LOGPROBS = 2
# at least; with a reasoning model --max-tokens gives more
JSON_TOKENS = 160  # a small model is not brief
TOOL_TOKENS = 64

# A stream is one burst when its pieces come faster than any model writes, all at its end.
BURST_GAP_MS = 0.25
BURST_SHARE = 0.1  # of the request's time
BURST_TRIES = 3  # a busy machine may hold back one stream, a buffering proxy holds back all
LEAST_PIECES = 4  # fewer are no rhythm
LARGEST = 1e30  # no embedding has such a coordinate
SAME_VECTOR = 0.999  # cosine; the same text, computed twice


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("what to ask").add_argument
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    add(
        "--max-tokens",
        type=common.whole_number(8),
        default=64,
        metavar="N",
        help="longest answer (default %(default)s)",
    )
    return parser


# --- measure: one request of the SDK, bounded


@dataclass
class Answer:
    """What became of one call of the SDK, in plain data.

    `data` is the SDK's object as a dict; of a stream `chunks` are its events and `times_ms` when
    the SDK gave them. `error` is the exception's name or timeout, flood, "not asked"; `body` what
    the SDK made of an error's body.
    """

    check: str
    call: str
    status: int | None = None
    data: Any = None
    chunks: list[Any] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    spent_ms: float | None = None
    error: str | None = None
    text: str = ""
    body: Any = None
    retry_after: str | None = None
    resent: bool = False

    @property
    def limited(self) -> bool:
        """The key's rate limiter answered, not the endpoint."""
        codes = [pick(self.body, key) for key in ("code", "type")]
        return self.status == 429 and "rate_limit_exceeded" in codes

    @property
    def costly(self) -> bool:
        """The server hangs or floods: once is enough of that."""
        return self.error in ("timeout", "flood")


class Guard:
    """Bounds one request at a time: its whole time and the bytes of its answer.

    httpx bounds each read alone, so a server that sends a byte now and then is never too slow for
    it. Here the sockets are shut down when the time is over, and the body's pieces are counted.
    `failure` says that it stepped in, whatever the SDK made of that.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._sockets: list[socket.socket] = []
        self._begin()

    def _begin(self) -> None:
        self.failure: tuple[str, str] | None = None
        self.status: int | None = None
        self.content_type = ""
        self.opened = False  # a connection of its own; else one that had been kept
        self._size = 0
        self._deadline = time.monotonic() + self.timeout_s

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        self._begin()
        timer = threading.Timer(self.timeout_s, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def time_out(self) -> None:
        self.failure = self.failure or ("timeout", f"not finished after {self.timeout_s:g} s")

    def _expire(self) -> None:
        self.time_out()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                # past SSLSocket.shutdown, which takes TLS away under the reader's feet
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _count(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > wire.MAX_BYTES:
            self.failure = ("flood", f"more than {wire.MAX_BYTES >> 20} MB of answer")
        elif time.monotonic() > self._deadline:
            self.time_out()
        if self.failure:
            raise OverflowError(self.failure[1])  # only to end the reading
        return piece

    # httpx's own hooks: the same in httpx and httpx2

    def on_request(self, request: Any) -> None:
        request.extensions["trace"] = self._on_connect

    def _on_connect(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self.opened = True
            sock = info["return_value"].get_extra_info("socket")
            self._sockets = [each for each in self._sockets if each.fileno() >= 0] + [sock]

    def on_response(self, response: Any) -> None:
        self._note_head(response)
        read = response.iter_bytes

        def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in read(chunk_size):
                yield self._count(piece)

        response.iter_bytes = iter_bytes  # decoded pieces: a compressed flood is one too

    async def on_async_response(self, response: Any) -> None:
        self._note_head(response)
        read = response.aiter_bytes

        async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            async for piece in read(chunk_size):
                yield self._count(piece)

        response.aiter_bytes = aiter_bytes

    def _note_head(self, response: Any) -> None:
        self.status = response.status_code
        self.content_type = response.headers.get("content-type", "no type")


def forget_openai_settings() -> None:
    """Nothing that is meant for OpenAI's own service is read: keys, organisation, project, base
    URL, custom headers, logging. The SDK looks at these when it is imported and when a client is
    made."""
    for name in list(os.environ):
        if name.upper().startswith(("OPENAI_", "AZURE_OPENAI_")):
            del os.environ[name]


class Sdk:
    """The openai package and one client of each kind, for one target."""

    def __init__(self, target: wire.Target, timeout_s: float) -> None:
        forget_openai_settings()
        import openai

        self.openai = openai
        self.guard = Guard(timeout_s)
        self._settings: dict[str, Any] = {
            "base_url": f"{target.url}/v1",
            "api_key": target.token or NO_KEY,
            "max_retries": 0,
            "timeout": timeout_s,
        }
        self._http: dict[str, Any] = {
            "follow_redirects": False,
            "verify": tls_context(target.verify),  # the wire's own rules
            "proxy": target.proxy.geturl() if target.proxy else None,
            "trust_env": False,  # the proxy is chosen as the wire chooses it
        }
        hooks: dict[str, list[Any]] = {
            "request": [self.guard.on_request],
            "response": [self.guard.on_response],
        }
        http = openai.DefaultHttpxClient(**self._http, event_hooks=hooks)
        self.client = openai.OpenAI(**self._settings, http_client=http)

    def close(self) -> None:
        self.client.close()

    @property
    def version(self) -> str:
        return self.openai.__version__

    @property
    def http_library(self) -> str:
        name = type(self.client._client).__mro__[1].__module__.partition(".")[0]
        return f"{name} {getattr(sys.modules[name], '__version__', '')}".strip()

    # asking; whatever goes wrong while the answer is read goes into `answer`

    def ask(self, answer: Answer, arguments: dict[str, Any], key: str | None = None) -> None:
        client = self.client.with_options(api_key=key) if key else self.client
        function = operator.attrgetter(answer.call)(client)
        started = time.perf_counter()
        answer.error = "interrupted"  # unless it ends
        with self.guard.watch():
            self._attempt(answer, function, arguments, started)
            if self._lost_a_race(answer):
                answer.resent = True
                self._attempt(answer, function, arguments, started)
        self._finish(answer, started)

    def _attempt(
        self, answer: Answer, function: Any, arguments: dict[str, Any], started: float
    ) -> None:
        try:
            result = function(**arguments)
            if arguments.get("stream"):
                for chunk in result:
                    answer.times_ms.append(since_ms(started))
                    answer.chunks.append(plain(chunk))
            else:
                answer.data = plain(result)
            answer.error = None
        except Exception as error:  # the SDK lets through whatever it stumbles over
            self._note(answer, error)

    def _lost_a_race(self, answer: Answer) -> bool:
        """The server let go of a kept connection just as we sent (RFC 9112, 9.3.1): that is no
        failure of the deployment, and an application's retries hide it."""
        lost = answer.error == "APIConnectionError" and self.guard.status is None
        return lost and not self.guard.opened and not self.guard.failure

    def ask_async(self, pairs: Sequence[tuple[Answer, dict[str, Any]]]) -> None:
        """Each of these with the asynchronous client, one after the other."""
        asyncio.run(self._ask_async(pairs))

    async def _ask_async(self, pairs: Sequence[tuple[Answer, dict[str, Any]]]) -> None:
        hooks = {"response": [self.guard.on_async_response]}
        http = self.openai.DefaultAsyncHttpxClient(**self._http, event_hooks=hooks)
        async with self.openai.AsyncOpenAI(**self._settings, http_client=http) as client:
            for answer, arguments in pairs:
                function = operator.attrgetter(answer.call)(client)
                started = time.perf_counter()
                answer.error = "interrupted"
                with self.guard.watch():
                    attempt = self._attempt_async(answer, function, arguments, started)
                    try:
                        await asyncio.wait_for(attempt, self.guard.timeout_s)
                    except asyncio.TimeoutError:
                        self.guard.time_out()
                self._finish(answer, started)

    async def _attempt_async(
        self, answer: Answer, function: Any, arguments: dict[str, Any], started: float
    ) -> None:
        try:
            result = await function(**arguments)
            if arguments.get("stream"):
                async for chunk in result:
                    answer.times_ms.append(since_ms(started))
                    answer.chunks.append(plain(chunk))
            else:
                answer.data = plain(result)
            answer.error = None
        except Exception as error:
            self._note(answer, error)

    def _finish(self, answer: Answer, started: float) -> None:
        answer.spent_ms = since_ms(started)
        answer.status = answer.status or self.guard.status
        if self.guard.failure:
            answer.error, answer.text = self.guard.failure
        elif answer.error is None and isinstance(answer.data, str):
            answer.error = "no object"
            answer.text = f"Content-Type {self.guard.content_type}, {shown(answer.data)}"
        elif answer.error is None and not answer.times_ms and answer.data is None:
            answer.error = "no events"
            answer.text = f"Content-Type {self.guard.content_type}, no event in it"

    def _note(self, answer: Answer, error: Exception) -> None:
        openai = self.openai
        answer.error = type(error).__name__
        if isinstance(error, openai.APITimeoutError):
            self.guard.time_out()
        elif isinstance(error, openai.APIConnectionError):
            answer.text = one_line(error.__cause__ or error)
        elif isinstance(error, openai.APIStatusError):
            answer.status, answer.body = error.status_code, error.body
            answer.retry_after = error.response.headers.get("retry-after")
            answer.text = said(error)
        elif isinstance(error, openai.APIError):  # an error event inside a stream
            answer.body, answer.text = error.body, one_line(error.message)
        else:
            answer.text = one_line(error)


def plain(result: Any) -> Any:
    """An SDK object as nested dicts and lists, only what the server sent; others as they are."""
    if isinstance(result, str):
        return result  # what the SDK gives for an answer that is not JSON
    return result.to_dict(mode="python", warnings=False)


def since_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 3)


def one_line(value: object) -> str:
    """A server's or the SDK's words, however odd, as one short line."""
    try:
        return shorten(str(value), SHOWN)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def shown(value: object) -> str:
    """A server's value as evidence: text in quotes, other things as they are."""
    if isinstance(value, str):
        return repr(shorten(value, 60))
    return shorten(one_line(value), 60)


def brief(value: object) -> object:
    """The same for a result file: numbers stay numbers, None stays None."""
    simple = value is None or isinstance(value, (bool, int, float))
    return value if simple else one_line(value)


def said(error: Any) -> str:
    """What an error answer says: where a redirect leads, the message, or the body itself."""
    target = error.response.headers.get("location")
    if target and error.status_code < 400:
        return one_line(f"redirect to {target}")
    message = readable(error.body)
    return one_line(message or error.response.text)


def readable(body: object) -> str | None:
    """The message in an error's body as the SDK has it; None when it could not find one."""
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) and message else None


# --- measure: what is asked for each check


class Session:
    """Everything asked in this run, one request at a time, and why nothing more is asked."""

    def __init__(self, run: Run, instrument: wire.Wire, sdk: Sdk, listing: wire.Reply) -> None:
        self.run, self.instrument, self.sdk, self.listing = run, instrument, sdk, listing
        self.model: str = run.args.model or chat.first_model(listing) or chat.UNKNOWN_MODEL
        self.models = items(as_json(listing), "data")
        self.max_tokens: int = run.args.max_tokens
        self.stopped: str | None = None
        if is_costly(listing):
            self.stopped = f"{chat.MODELS} hangs or floods ({outcome(listing)})"
        self.answers: list[Answer] = []
        self.replies: list[tuple[str, wire.Reply]] = []
        self._served = False

    def ask(self, check: str, call: str, key: str | None = None, **arguments: Any) -> Answer:
        answer = self._new_answer(check, call)
        if not self.stopped:
            self.sdk.ask(answer, arguments, key)
            self._learn(answer, own_key=key is None)
        return answer

    def chat(self, check: str, prompt: str = PROMPT, max_tokens: int = 16, **more: Any) -> Answer:
        return self.ask(check, CHAT, **self._chat(prompt, max_tokens), **more)

    def chat_async(self, check: str) -> list[Answer]:
        """A completion and a stream with the asynchronous client."""
        answers = [self._new_answer(check, CHAT) for _ in range(2)]
        if not self.stopped:
            arguments = self._chat(PROMPT, self.max_tokens)
            self.sdk.ask_async(
                [(answers[0], arguments), (answers[1], {**arguments, "stream": True})]
            )
            for answer in answers:
                self._learn(answer)
        return answers

    def _chat(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return {"model": self.model, "messages": messages, "max_tokens": max_tokens}

    def _new_answer(self, check: str, call: str) -> Answer:
        answer = Answer(check, call)
        if self.stopped:
            answer.error, answer.text = "not asked", self.stopped
        self.answers.append(answer)
        return answer

    def send(self, check: str, request: wire.Request) -> wire.Reply | None:
        """The same past the SDK, at the wire; None when nothing more is asked."""
        if self.stopped:
            return None
        try:
            self.instrument.exchange([request])
        finally:
            self.replies += [(check, reply) for reply in self.instrument.replies]
        reply = self.instrument.replies[0]
        chat.show(self.run, reply)
        if is_rate_limit(reply):
            self._stop_for_limit(words(reply), reply.message.header("retry-after"))
        elif is_costly(reply):
            self.stopped = f"the server hangs or floods ({outcome(reply)})"
        return reply

    def _learn(self, answer: Answer, own_key: bool = True) -> None:
        """What an answer means for those to come."""
        self.run.verbose(f"{answer.check}: {answer.call}: {in_words(answer)}")
        self.run.debug(f"  {one_line(answer.data or answer.chunks[:3] or answer.body)}")
        if answer.limited:
            self._stop_for_limit(answer.text, answer.retry_after)
        elif answer.costly:
            self.stopped = f"the server hangs or floods ({answer.check}: {answer.text})"
        elif answer.status == 401 and own_key and not self._served:
            raise CannotCheck(chat.refused_credential(self.run))
        self._served |= answer.error is None

    def let_go(self, check: str) -> None:
        """The check is decided: of its answers keep the account only, they may be large."""
        for answer in self.answers:
            if answer.check == check:
                answer.data = {"usage": pick(answer.data, "usage")}
                answer.chunks = [{"usage": pick(chunk, "usage")} for chunk in answer.chunks[-1:]]

    def _stop_for_limit(self, text: str, retry_after: str | None) -> None:
        wait = f"Retry-After {retry_after} s" if retry_after else "no Retry-After"
        self.stopped = f"the key's rate limit: 429 {text} ({wait})"


def is_costly(reply: wire.Reply) -> bool:
    return reply.failure is not None and reply.failure.kind in ("timeout", "flood")


def in_words(answer: Answer) -> str:
    if answer.error:
        return f"{answer.status or '-'} {answer.error}: {answer.text}"
    pieces = f", {len(answer.chunks)} chunks" if answer.chunks else ""
    return f"{answer.status} in {answer.spent_ms:.0f} ms{pieces}"


def ask_completion(session: Session) -> Answer:
    return session.chat("completion", max_tokens=session.max_tokens)


def ask_stream(session: Session) -> Answer:
    return session.chat("stream", max_tokens=session.max_tokens, stream=True)


def ask_usage(session: Session) -> Answer:
    options = {"include_usage": True}
    return session.chat("usage", stream=True, stream_options=options)


def ask_wire(session: Session) -> wire.Reply | str:
    """One stream as bytes, or why it was not asked for."""
    request = chat.completion(session.model, PROMPT, session.max_tokens)
    return session.send("wire", request) or session.stopped or ""


def ask_pacing(session: Session) -> list[wire.Reply] | str:
    """Streams until one comes piece by piece; the one of the wire check counts."""
    replies = [reply for check, reply in session.replies if check == "wire"]
    while len(replies) < BURST_TRIES and all(is_burst(rhythm(reply)) for reply in replies):
        request = chat.completion(session.model, PROMPT, session.max_tokens)
        reply = session.send("pacing", request)
        if reply is None:
            break
        replies.append(reply)
    return replies or session.stopped or ""


def ask_models(session: Session) -> Answer:
    failure = session.listing.failure
    if failure and is_costly(session.listing):  # once is enough of that
        return Answer("models", "models.list", error=failure.kind, text=failure.text)
    return session.ask("models", "models.list")


@dataclass
class WrongKey:
    """How the deployment treats a key that nobody gave out, and a request without any."""

    answer: Answer
    key_given: bool
    # asked for only if the wrong key was served: the status without a key, and /health's word
    anonymous: int | None = None
    auth_enabled: bool | None = None


def ask_wrong_key(session: Session) -> WrongKey:
    key = session.run.secrets.add(f"sk-wrong-{secrets.token_hex(16)}")
    messages = [{"role": "user", "content": PROMPT}]
    answer = session.ask(
        "wrong_key", CHAT, key, model=session.model, messages=messages, max_tokens=1
    )
    seen = WrongKey(answer, session.run.credentials.given)
    if answer.error is None:
        request = chat.completion(session.model, PROMPT, 1, stream=False)
        headers = {**request.headers, "authorization": None}
        bare = wire.Request("POST", chat.COMPLETIONS, request.body, headers)
        if reply := session.send("wrong_key", bare):
            seen.anonymous = reply.status
        if health := session.send("wrong_key", wire.Request("GET", "/health")):
            seen.auth_enabled = pick(as_json(health), "authentication", "enabled")
    return seen


def ask_bad_request(session: Session) -> Answer:
    return session.ask(
        "bad_request", CHAT, model=session.model, messages="not a list", max_tokens=1
    )


def ask_embeddings(session: Session) -> list[Answer]:
    """As the SDK asks by itself (base64), and as floats."""
    arguments = {"model": session.model, "input": "test embedding input"}
    by_default = session.ask("embeddings", "embeddings.create", **arguments)
    arguments["encoding_format"] = "float"
    return [by_default, session.ask("embeddings", "embeddings.create", **arguments)]


def ask_stop(session: Session) -> list[Answer]:
    """The same answer twice, the second time to end at a word of the first."""
    free = session.chat("stop", max_tokens=32, temperature=0)
    word = pick_word(content_of(free))
    if free.error or word is None:
        return [free]
    return [free, session.chat("stop", max_tokens=32, temperature=0, stop=[word])]


def ask_n(session: Session) -> Answer:
    return session.chat("n", n=2)


def ask_seed(session: Session) -> list[Answer]:
    """Twice with one seed, once with another, all at a high temperature."""
    answers = []
    for seed in (11, 11, 12):
        answers.append(session.chat("seed", temperature=1, seed=seed))
        if answers[-1].error:
            break
    return answers


def ask_logprobs(session: Session) -> Answer:
    return session.chat("logprobs", temperature=0, logprobs=True, top_logprobs=TOP_LOGPROBS)


def ask_json_object(session: Session) -> Answer:
    form = {"type": "json_object"}
    room = max(JSON_TOKENS, session.max_tokens)
    return session.chat("json_object", PROSE, room, temperature=0, response_format=form)


def ask_json_schema(session: Session) -> Answer:
    schema = {"name": "zorbles", "strict": True, "schema": SCHEMA}
    form = {"type": "json_schema", "json_schema": schema}
    room = max(JSON_TOKENS, session.max_tokens)
    return session.chat("json_schema", PROSE, room, temperature=0, response_format=form)


def ask_tools(session: Session) -> list[Answer]:
    """With a tool that must be called, not streamed and streamed; and how long the prompt is
    without it."""
    more = {"temperature": 0, "tools": [TOOL], "tool_choice": "required"}
    room = max(TOOL_TOKENS, session.max_tokens)
    whole = session.chat("tools", QUESTION, room, **more)
    if whole.error:
        return [whole]
    streamed = session.chat("tools", QUESTION, room, stream=True, **more)
    return [whole, streamed, session.chat("tools", QUESTION, 1, temperature=0)]


def ask_unknown_model(session: Session) -> Answer:
    messages = [{"role": "user", "content": PROMPT}]
    name = f"no-such-model-{secrets.token_hex(4)}"
    return session.ask("unknown_model", CHAT, model=name, messages=messages, max_tokens=1)


def ask_retrieve(session: Session) -> Answer:
    return session.ask("retrieve", "models.retrieve", model=session.model)


def ask_completions(session: Session) -> Answer:
    call = "completions.create"
    return session.ask("completions", call, model=session.model, prompt="The sea is", max_tokens=8)


def ask_async(session: Session) -> list[Answer]:
    return session.chat_async("async")


# --- judge: what is in an answer


def pick(value: Any, *path: str | int) -> Any:
    """The value at the end of a path of keys and indices, None when the way there is not."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def items(value: Any, *path: str | int) -> list[Any]:
    """The list at the end of a path, empty when there is none."""
    found = pick(value, *path)
    return found if isinstance(found, list) else []


def content_of(answer: Answer) -> str:
    return text_of(pick(answer.data, "choices", 0, "message", "content"))


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def finish_of(answer: Answer) -> Any:
    return pick(answer.data, "choices", 0, "finish_reason")


def thoughts_in(message: Any) -> str:
    """A reasoning model's thoughts, under one of the two names in use."""
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := pick(message, key), str) and text:
            return text
    return ""


def says_something(message: Any) -> bool:
    return bool(pick(message, "content") or thoughts_in(message))


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def usage_problems(usage: Any, max_tokens: int) -> list[str]:
    """What is wrong with an account of tokens."""
    if not isinstance(usage, dict):
        return ["no usage"]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    problems = [f"{n} is {shown(usage.get(n))}" for n in names if not is_count(usage.get(n))]
    if problems:
        return problems
    prompt, output, total = (usage[name] for name in names)
    if prompt + output != total:
        problems.append(f"usage does not add up: {prompt} + {output} is not {total}")
    if output > max_tokens:
        problems.append(f"{output} tokens, max_tokens was {max_tokens}")
    return problems


def counts(usage: Any) -> dict[str, Any]:
    """What an account of tokens says, as far as it is one."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: brief(pick(usage, name)) for name in names}


def usage_words(usage: Any) -> str:
    return f"usage {usage['prompt_tokens']} + {usage['completion_tokens']} tokens"


def unanswered(name: str, answer: Answer, capability: bool = False) -> Check | None:
    """The verdict when there is no answer to look at."""
    if answer.error is None:
        return None
    evidence = {"status": answer.status, "error": answer.error}
    if answer.error == "not asked":
        return not_asked(name, answer.text)
    if answer.limited:
        wait = f"Retry-After {answer.retry_after} s" if answer.retry_after else "no Retry-After"
        detail = f"the key's rate limit: 429 {answer.text} ({wait})"
        return Check(name, Status.SKIP, detail, evidence, essential=True)
    detail = f"{answer.error}: {answer.text}"
    if answer.body is not None and answer.status == 200:
        detail = f"an error inside the 200 stream: {answer.text}"
    elif answer.status:
        detail = f"{answer.status} {detail}"
    if capability and answer.status in REFUSALS:
        return Check(name, Status.SKIP, f"refused: {answer.status} {answer.text}", evidence)
    return Check(name, Status.FAIL, detail, evidence)


def not_asked(name: str, reason: str) -> Check:
    return Check(name, Status.SKIP, f"not asked: {reason}", essential=True)


def verdict(name: str, problems: Sequence[str], good: str, evidence: dict[str, Any]) -> Check:
    if problems:
        return Check(name, Status.FAIL, "; ".join(problems), evidence)
    return Check(name, Status.PASS, good, evidence)


# --- judge: the contract


def check_completion(answer: Answer, max_tokens: int, name: str = "completion") -> Check:
    if unread := unanswered(name, answer):
        return unread
    message, usage = pick(answer.data, "choices", 0, "message"), pick(answer.data, "usage")
    finish, content = finish_of(answer), content_of(answer)
    problems = usage_problems(usage, max_tokens)
    if pick(message, "role") != "assistant":
        problems.append(f"role is {shown(pick(message, 'role'))}, not 'assistant'")
    if not (isinstance(finish, str) and finish):
        problems.append(f"finish_reason is {shown(finish)}")
    evidence = {**counts(usage), "finish_reason": brief(finish), "spent_ms": answer.spent_ms}
    thoughts = thoughts_in(message)
    if not content and not thoughts:
        problems.append("the content is empty")
    if problems or content:
        good = f"{shown(content)}, finish_reason {finish}, "
        good += "" if problems else f"{usage_words(usage)}, {answer.spent_ms:.0f} ms"
        return verdict(name, problems, good, evidence)
    detail = f"{len(thoughts)} characters of thoughts and no content: raise --max-tokens"
    return Check(name, Status.WARN, detail, evidence)


def check_stream(answer: Answer, name: str = "stream") -> Check:
    if unread := unanswered(name, answer):
        return unread
    deltas = [pick(c, "choices", 0, "delta") for c in answer.chunks if items(c, "choices")]
    pieces = [text for delta in deltas if (text := pick(delta, "content"))]
    thoughts = [text for delta in deltas if (text := thoughts_in(delta))]
    reasons = finish_reasons(answer.chunks)
    problems = stream_problems(answer.chunks, deltas, reasons)
    evidence = {"pieces": len(pieces), "finish_reasons": reasons, "spent_ms": answer.spent_ms}
    if thoughts and not pieces and not problems:
        detail = f"{len(thoughts)} pieces of thoughts and no content: raise --max-tokens"
        return Check(name, Status.WARN, detail, evidence)
    if len(pieces) < 2:
        problems.append("the text is empty" if not pieces else "all content in a single piece")
    good = f"{len(pieces)} pieces, one id, finish_reason {', '.join(reasons)}, "
    good += f"first chunk after {answer.times_ms[0]:.0f} of {answer.spent_ms:.0f} ms"
    return verdict(name, problems, good, evidence)


def finish_reasons(chunks: Sequence[Any]) -> list[str]:
    found = [pick(chunk, "choices", 0, "finish_reason") for chunk in chunks]
    return [one_line(reason) for reason in found if reason is not None]


def stream_problems(chunks: Sequence[Any], deltas: Sequence[Any], reasons: list[str]) -> list[str]:
    """What is wrong with a stream's chunks, as the SDK gave them."""
    problems = []
    ids = {one_line(pick(chunk, "id")) for chunk in chunks}
    if len(ids) != 1:
        problems.append(f"{len(ids)} different ids in {len(chunks)} chunks")
    elif not (pick(chunks[0], "id") and isinstance(pick(chunks[0], "id"), str)):
        problems.append(f"the id is {shown(pick(chunks[0], 'id'))}")
    first = pick(deltas[0], "role") if deltas else None
    if first != "assistant":
        problems.append(f"the first delta's role is {shown(first)}, not 'assistant'")
    if len(reasons) != 1:
        problems.append(f"{len(reasons)} finish_reasons, wanted exactly one")
    elif says_more(chunks):
        problems.append("content after the finish_reason")
    return problems


def says_more(chunks: Sequence[Any]) -> bool:
    """Whether content follows the chunk with the finish_reason."""
    ended = False
    for chunk in chunks:
        if ended and pick(chunk, "choices", 0, "delta", "content"):
            return True
        ended = ended or pick(chunk, "choices", 0, "finish_reason") is not None
    return False


def check_usage(answer: Answer, max_tokens: int = 16) -> Check:
    if unread := unanswered("usage", answer):
        return unread
    found = [pick(c, "usage") for c in answer.chunks if isinstance(pick(c, "usage"), dict)]
    evidence = {"chunks": len(answer.chunks), **counts(found[-1] if found else None)}
    if not found:
        detail = f"include_usage was ignored: no usage in {len(answer.chunks)} chunks"
        return Check("usage", Status.FAIL, detail, evidence)
    problems = usage_problems(found[-1], max_tokens)
    good = "" if problems else f"{usage_words(found[-1])} in the stream"
    return verdict("usage", problems, good, evidence)


def wire_failure(name: str, reply: wire.Reply | str) -> Check | None:
    """The verdict when there is no stream to look at."""
    if isinstance(reply, str):
        return not_asked(name, reply)
    if is_rate_limit(reply):
        wait = reply.message.header("retry-after")
        detail = f"the key's rate limit: 429 {words(reply)} (Retry-After {wait or 'missing'})"
        return Check(name, Status.SKIP, detail, essential=True)
    if reply.failure:
        return Check(name, Status.FAIL, f"{reply.failure.kind}: {reply.failure.text}")
    if reply.status != 200:
        kind = status_kind(reply.status or 0)
        detail = f"{reply.status} {words(reply)}".strip()
        return Check(name, Status.FAIL, detail, {"status": reply.status, "error": kind})
    return None


def check_wire(reply: wire.Reply | str) -> Check:
    if failed := wire_failure("wire", reply):
        return failed
    assert isinstance(reply, wire.Reply)
    stream = read_streams([reply])[0]
    problems = [complaint.text for complaint in stream.complaints]
    if stream.reasoning and not stream.text:
        problems = [c.text for c in stream.complaints if c.kind != "empty"]
    if reply.unterminated:
        problems.append("the message does not end after [DONE]")
    good = f"{stream.events} events, text/event-stream, every one JSON, [DONE] last"
    return verdict("wire", problems, good, {"events": stream.events, "bytes": len(reply.body)})


def rhythm(reply: wire.Reply) -> dict[str, Any]:
    """How a stream's output came: pieces, reads that brought them, times in ms."""
    times = read_streams([reply])[0].output_ns
    gaps = [(after - before) / 1e6 for before, after in zip(times, times[1:], strict=False)]
    whole = ((reply.end_ns or 0) - (reply.t0_ns or 0)) / 1e6
    return {
        "pieces": len(times),
        "reads": len(set(times)),
        "over_ms": round((times[-1] - times[0]) / 1e6, 3) if times else None,
        "of_ms": round(whole, 3),
        "median_gap_ms": round(sorted(gaps)[len(gaps) // 2], 3) if gaps else None,
    }


def is_burst(beat: dict[str, Any]) -> bool:
    if beat["pieces"] < LEAST_PIECES:
        return False
    late = beat["over_ms"] < BURST_SHARE * beat["of_ms"]
    return bool(late and beat["median_gap_ms"] < BURST_GAP_MS)


def check_pacing(replies: list[wire.Reply] | str) -> Check:
    last = replies if isinstance(replies, str) else replies[-1]
    if failed := wire_failure("pacing", last):
        return failed
    beats = [rhythm(reply) for reply in replies if isinstance(reply, wire.Reply)]
    beat = beats[-1]
    detail = f"{beat['pieces']} pieces in {beat['reads']} reads"
    if beat["pieces"] < LEAST_PIECES:
        return Check("pacing", Status.SKIP, f"{detail}: too few to tell", {"streams": beats})
    detail += f" over {beat['over_ms']:.1f} of {beat['of_ms']:.1f} ms"
    if is_burst(beat):
        detail = f"held back and sent in one burst, {len(beats)} times of {len(beats)}: {detail}"
        return Check("pacing", Status.FAIL, detail, {"streams": beats})
    return Check("pacing", Status.PASS, detail, {"streams": beats})


def check_models(answer: Answer) -> Check:
    if unread := unanswered("models", answer):
        return unread
    listed = pick(answer.data, "data")
    if not isinstance(listed, list):
        return Check("models", Status.FAIL, f"no list in 'data': {shown(answer.data)}")
    if not listed:
        return Check("models", Status.FAIL, "no models listed")
    names = [pick(model, "id") for model in listed]
    evidence = {"models": len(listed)}
    problems, doubts = [], []
    if bad := [name for name in names if not (isinstance(name, str) and name)]:
        problems.append(f"{len(bad)} of {len(names)} without an id")
    if kinds := {one_line(pick(m, "object")) for m in listed} - {"model"}:
        problems.append(f"object is {shown(', '.join(sorted(kinds)))}, not 'model'")
    if any(not isinstance(pick(m, "created"), int) for m in listed):
        doubts.append("created is no whole number")
    if any(not isinstance(pick(m, "owned_by"), str) for m in listed):
        doubts.append("owned_by is no text")
    if doubts and not problems:
        return Check("models", Status.WARN, "; ".join(doubts), evidence)
    return verdict("models", problems, f"{len(listed)} listed: {shown(names[0])}", evidence)


def check_wrong_key(seen: WrongKey) -> Check:
    name, answer = "wrong_key", seen.answer
    evidence = {"status": answer.status, "anonymous_status": seen.anonymous}
    if answer.error is None:
        return check_served(seen, evidence)
    if answer.error != "AuthenticationError":
        found = unanswered(name, answer) or Check(name, Status.FAIL, "")
        if found.status is Status.FAIL:
            found.detail = f"wanted 401 AuthenticationError, got {found.detail}"
        return found
    if readable(answer.body) is None:
        detail = f"401 AuthenticationError, but the SDK finds no message: {shown(answer.text)}"
        return Check(name, Status.WARN, detail, evidence)
    return Check(name, Status.PASS, f"401 AuthenticationError: {answer.text}", evidence)


def check_served(seen: WrongKey, evidence: dict[str, Any]) -> Check:
    """A wrong key was served: is authentication off, or broken?"""
    if seen.anonymous != 200:
        detail = f"a wrong key was served (200), a request without any was not ({seen.anonymous})"
        return Check("wrong_key", Status.FAIL, detail, evidence)
    if seen.auth_enabled:
        detail = "a wrong key was served (200), and none at all; /health says auth is enabled"
        return Check("wrong_key", Status.FAIL, detail, evidence)
    if seen.key_given and seen.auth_enabled is None:
        detail = "any key is served, and none at all: you gave one, but nobody looks at it"
        return Check("wrong_key", Status.WARN, detail, evidence)
    return Check("wrong_key", Status.SKIP, "authentication is off: 200 without a key", evidence)


def check_bad_request(answer: Answer) -> Check:
    name = "bad_request"
    if answer.error is None:
        return Check(name, Status.FAIL, "messages was a string, and the answer 200")
    if answer.limited or answer.error == "not asked" or not 400 <= (answer.status or 0) < 500:
        return unanswered(name, answer) or Check(name, Status.FAIL, answer.text)
    evidence = {"status": answer.status, "error": answer.error}
    if readable(answer.body) is None:
        detail = f"{answer.status} {answer.error}, but no JSON error that the SDK can read: "
        return Check(name, Status.FAIL, detail + shown(answer.text), evidence)
    return Check(name, Status.PASS, f"{answer.status} {answer.error}: {answer.text}", evidence)


# --- judge: capabilities


def check_embeddings(answers: Sequence[Answer]) -> Check:
    name = "embeddings"
    by_default, as_floats = answers
    verdicts = [unanswered(name, answer, capability=True) for answer in answers]
    if verdicts[0] and not verdicts[1] and verdicts[0].status is Status.SKIP:
        detail = f"floats work, but what the SDK asks by itself (base64) is {verdicts[0].detail}"
        return Check(name, Status.FAIL, detail, verdicts[0].evidence)
    if failed := verdicts[0] or verdicts[1]:
        return failed
    vectors = [pick(answer.data, "data", 0, "embedding") for answer in answers]
    problems = [problem for each in vectors if (problem := vector_problem(each))]
    evidence = {"dimensions": [len(each) if isinstance(each, list) else None for each in vectors]}
    if not problems and not (likeness := cosine(*vectors)) >= SAME_VECTOR:
        problems.append(f"base64 and float disagree: cosine {likeness:.3f}")
    good = f"{evidence['dimensions'][0]} dimensions, base64 and float agree"
    return verdict(name, sorted(set(problems)), good, evidence)


def vector_problem(vector: object) -> str | None:
    if not isinstance(vector, list) or not vector:
        return "no vector in the answer"
    if not all(isinstance(x, (int, float)) and abs(x) < LARGEST for x in vector):  # nor NaN
        return "the vector holds something that is no finite number"
    return None if any(vector) else f"all {len(vector)} dimensions are zero"


def cosine(one: list[float], other: list[float]) -> float:
    """-1 to 1; 0 for vectors of different length."""
    if len(one) != len(other):
        return 0.0
    return (
        sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
    )


def pick_word(text: str) -> str | None:
    """A word with text on both sides of its first occurrence, as far back as there is one."""
    for word in reversed(text.split()[:-1]):
        before, _, after = text.partition(word)
        if before.strip() and after.strip() and len(word) > 1:
            return word
    return None


def check_stop(answers: Sequence[Answer]) -> Check:
    name = "stop"
    for answer in answers:
        if unread := unanswered(name, answer, capability=True):
            return unread
    free = content_of(answers[0])
    if len(answers) < 2:
        return Check(name, Status.SKIP, f"the answer is too short to stop in: {shown(free)}")
    word, text, finish = pick_word(free) or "", content_of(answers[1]), finish_of(answers[1])
    evidence = {"stop": word, "finish_reason": brief(finish)}
    evidence["characters"] = [len(free), len(text)]
    if word in text:
        if text.partition(word)[2].strip():
            detail = f"ignored: the text goes on after {word!r}"
            return Check(name, Status.WARN, detail, evidence)
        return Check(name, Status.FAIL, f"the stop text {word!r} is in the answer", evidence)
    honoured = text.strip() == free.partition(word)[0].strip()
    if finish == "stop":
        return Check(name, Status.PASS, f"ends before {word!r}, finish_reason stop", evidence)
    if honoured:
        detail = f"ends before {word!r}, but finish_reason is {shown(finish)}, not 'stop'"
        return Check(name, Status.FAIL, detail, evidence)
    return Check(name, Status.SKIP, f"the model never came to {word!r}", evidence)


def check_n(answer: Answer) -> Check:
    if unread := unanswered("n", answer, capability=True):
        return unread
    choices = items(answer.data, "choices")
    indices = [brief(pick(choice, "index")) for choice in choices]
    evidence = {"indices": indices}
    if len(choices) == 1:
        return Check("n", Status.WARN, "ignored: n=2 gave one choice", evidence)
    problems = []
    if sorted(map(str, indices)) != ["0", "1"]:
        problems.append(f"n=2 gave {len(choices)} choices, their indices are {indices}")
    elif not all(says_something(pick(choice, "message")) for choice in choices):
        problems.append("n=2 gave a choice without content")
    return verdict("n", problems, "two choices, indices 0 and 1", evidence)


def check_seed(answers: Sequence[Answer]) -> Check:
    for answer in answers:
        if unread := unanswered("seed", answer, capability=True):
            return unread
    first, again, other = map(content_of, answers)
    if first != again:
        detail = f"ignored: seed 11 gave {shown(first[:30])} and {shown(again[:30])}"
        return Check("seed", Status.WARN, detail)
    if first == other:
        return Check("seed", Status.SKIP, "the answer is the same with any seed: cannot tell")
    return Check("seed", Status.PASS, "equal seeds give equal answers, another one another")


def check_logprobs(answer: Answer) -> Check:
    name = "logprobs"
    if unread := unanswered(name, answer, capability=True):
        return unread
    given = pick(answer.data, "choices", 0, "logprobs")
    if given is None:
        return Check(name, Status.WARN, "ignored: no logprobs in the answer")
    tokens = items(given, "content")
    evidence = {"tokens": len(tokens)}
    problems = []
    if not tokens:
        problems.append("logprobs without a list of tokens in 'content'")
    if wrong := [t for t in tokens if not is_logprob(pick(t, "logprob"))]:
        problems.append(f"{len(wrong)} of {len(tokens)} are no logarithm of a probability: ")
        problems[-1] += shown(pick(wrong[0], "logprob"))
    if any(len(items(token, "top_logprobs")) != TOP_LOGPROBS for token in tokens):
        problems.append(f"not {TOP_LOGPROBS} top_logprobs for each token")
    thinking = thoughts_in(pick(answer.data, "choices", 0, "message"))  # among the tokens, too
    if tokens and not thinking and not joins(tokens, content_of(answer)):
        problems.append("the tokens do not join to the content")
    good = f"{len(tokens)} tokens that join to the content, {TOP_LOGPROBS} alternatives each"
    return verdict(name, problems, good, evidence)


def is_logprob(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0


def joins(tokens: Sequence[Any], content: str) -> bool:
    """Whether the tokens are the content. The end marker may be counted as one, white space at
    the ends trimmed, and a character be split over tokens: then their bytes tell."""
    texts = [text if isinstance(text := pick(t, "token"), str) else "" for t in tokens]
    codes = [items(token, "bytes") for token in tokens]
    for count in (len(tokens), len(tokens) - 1):
        forms = ["".join(texts[:count])]
        with contextlib.suppress(ValueError, TypeError):
            forms.append(b"".join(map(bytes, codes[:count])).decode("utf-8", "replace"))
        if whole_characters(content) in map(whole_characters, forms):
            return True
    return False


def whole_characters(text: str) -> str:
    """Without what was cut off in the midst of a character, and without white space around."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "").strip()


def check_json(name: str, answer: Answer, fits: Callable[[Any], bool]) -> Check:
    """What came of a response_format; `fits` says whether the value is what was asked for."""
    if unread := unanswered(name, answer, capability=True):
        return unread
    text, finish = content_of(answer).strip(), finish_of(answer)
    evidence = {"finish_reason": brief(finish), "characters": len(text)}
    if not text.startswith(("{", "[", "`")):
        return Check(name, Status.WARN, f"ignored: the answer is {shown(text)}", evidence)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if finish == "length":
            detail = f"the model does not come to an end: {len(text)} characters of JSON"
            return Check(name, Status.SKIP, detail, evidence)
        return Check(name, Status.FAIL, f"no valid JSON: {shown(text)}", evidence)
    if not fits(value):
        return Check(name, Status.FAIL, f"not what was asked for: {shown(text)}", evidence)
    return Check(name, Status.PASS, shown(text), evidence)


def check_json_object(answer: Answer) -> Check:
    return check_json("json_object", answer, lambda value: isinstance(value, dict))


def check_json_schema(answer: Answer) -> Check:
    return check_json("json_schema", answer, fits_schema)


def fits_schema(value: Any) -> bool:
    """SCHEMA, by hand."""
    enum = ("quaxil", "plimfet")
    whole = isinstance(value, dict) and set(value) == {"zorble", "frint"}
    return whole and value["zorble"] in enum and isinstance(value["frint"], bool)


@dataclass
class ToolCalls:
    """The tool calls of one answer, and what is wrong with their form."""

    calls: list[tuple[str, str]]  # name, arguments
    finish: Any
    problems: list[str]


def whole_calls(answer: Answer) -> ToolCalls:
    found, problems = [], []
    for call in items(answer.data, "choices", 0, "message", "tool_calls"):
        name, arguments = pick(call, "function", "name"), pick(call, "function", "arguments")
        if not (isinstance(pick(call, "id"), str) and pick(call, "id")):
            problems.append("a tool call without an id")
        if not isinstance(arguments, str):
            problems.append(f"arguments is a {type(arguments).__name__}, not a string")
        found.append((one_line(name), arguments if isinstance(arguments, str) else "{}"))
    return ToolCalls(found, brief(finish_of(answer)), problems)


def streamed_calls(answer: Answer) -> ToolCalls:
    """The calls put together from the stream's deltas, as an application does."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    problems = []
    for chunk in answer.chunks:
        for call in items(chunk, "choices", 0, "delta", "tool_calls"):
            index = pick(call, "index")
            if not isinstance(index, int):
                problems.append("a tool call's delta has no index")
                continue
            names[index] = names.get(index, "") + text_of(pick(call, "function", "name"))
            more = text_of(pick(call, "function", "arguments"))
            arguments[index] = arguments.get(index, "") + more
    reasons = finish_reasons(answer.chunks)
    found = [(names[index], arguments[index]) for index in sorted(names)]
    return ToolCalls(found, reasons[0] if len(reasons) == 1 else reasons, sorted(set(problems)))


def call_problems(calls: Sequence[tuple[str, str]]) -> list[str]:
    """What is wrong with calls of our tool."""
    problems = []
    for name, arguments in calls:
        if name != "get_weather":
            problems.append(f"calls {shown(name)}, which is not among the tools")
        try:
            city = pick(json.loads(arguments), "city")
        except (ValueError, RecursionError):
            problems.append(f"arguments are no JSON: {shown(arguments)}")
            continue
        if not isinstance(city, str):
            problems.append(f"arguments lack the city: {shown(arguments)}")
    return problems


def check_tools(answers: Sequence[Answer]) -> Check:
    name = "tools"
    for answer in answers:
        if unread := unanswered(name, answer, capability=True):
            return unread
    whole, streamed = whole_calls(answers[0]), streamed_calls(answers[1])
    prompts = [brief(pick(answers[i].data, "usage", "prompt_tokens")) for i in (0, 2)]
    made, reasons = [len(whole.calls), len(streamed.calls)], [whole.finish, streamed.finish]
    evidence = {"calls": made, "prompt_tokens": prompts, "finish_reasons": reasons}
    if made == [0, 0]:
        if prompts[0] == prompts[1]:
            detail = f"ignored: the prompt has {prompts[0]} tokens with and without the tool"
            return Check(name, Status.WARN, detail, evidence)
        return Check(name, Status.SKIP, "the model calls no tool, though it must", evidence)
    if "length" in reasons:
        return Check(name, Status.SKIP, "the model does not come to an end", evidence)
    problems = whole.problems + streamed.problems + call_problems(whole.calls)
    problems += call_problems(streamed.calls)
    if [n for n, _ in whole.calls] != [n for n, _ in streamed.calls]:
        problems.append(f"{made[0]} calls not streamed, {made[1]} streamed")
    if whole.finish != streamed.finish:
        problems.append(f"finish_reason {reasons[0]} not streamed, {reasons[1]} streamed")
    if not problems and whole.finish != "tool_calls":
        detail = f"called, but finish_reason is {shown(whole.finish)}, not 'tool_calls'"
        return Check(name, Status.WARN, detail, evidence)
    return verdict(name, problems, "called, the same streamed and not streamed", evidence)


def check_unknown_model(answer: Answer, listed: int) -> Check:
    name = "unknown_model"
    evidence = {
        "status": answer.status,
        "served_by": brief(pick(answer.data, "model")),
        "listed": listed,
    }
    if answer.error is None:
        by = shown(pick(answer.data, "model"))
        if listed > 1:
            detail = f"ignored: {by} answers in its place, one of {listed} listed"
            return Check(name, Status.WARN, detail, evidence)
        detail = f"any name will do, {by} answers: a single-model server, as the guide says"
        return Check(name, Status.PASS, detail, evidence)
    if answer.status in (400, 404, 422) and readable(answer.body):
        return Check(name, Status.PASS, f"{answer.status} {answer.error}: {answer.text}", evidence)
    return unanswered(name, answer, capability=True) or Check(name, Status.FAIL, answer.text)


def check_retrieve(answer: Answer, model: str) -> Check:
    if unread := unanswered("retrieve", answer, capability=True):
        return unread
    found = pick(answer.data, "id")
    evidence = {"id": brief(found)}
    if found != model:
        detail = f"asked for {shown(model)}, got id {shown(found)}"
        return Check("retrieve", Status.FAIL, detail, evidence)
    return Check("retrieve", Status.PASS, f"{shown(found)} by its name", evidence)


def check_completions(answer: Answer) -> Check:
    if unread := unanswered("completions", answer, capability=True):
        return unread
    text, finish = pick(answer.data, "choices", 0, "text"), finish_of(answer)
    kind = pick(answer.data, "object")
    problems = []
    if kind != "text_completion":
        problems.append(f"object is {shown(kind)}, not 'text_completion'")
    if not isinstance(text, str):
        problems.append(f"the choice has no text ({shown(text)})")
    if not (isinstance(finish, str) and finish):
        problems.append(f"finish_reason is {shown(finish)}")
    good = f"{shown(text)}, finish_reason {finish}"
    return verdict("completions", problems, good, {"finish_reason": brief(finish)})


def check_async(answers: Sequence[Answer], max_tokens: int) -> Check:
    whole = check_completion(answers[0], max_tokens, "async")
    streamed = check_stream(answers[1], "async")
    for part, found in (("not streamed", whole), ("streamed", streamed)):
        if found.status is not Status.PASS:
            found.detail = f"{part}: {found.detail}"
            return found
    evidence = {"spent_ms": [answer.spent_ms for answer in answers]}
    return Check("async", Status.PASS, f"a completion, and a stream of {streamed.detail}", evidence)


# --- run


def steps(session: Session) -> dict[str, Callable[[], Check]]:
    """For each check: ask, then judge."""
    tokens, model = session.max_tokens, session.model
    listed = len(session.models)
    return {
        "completion": lambda: check_completion(ask_completion(session), tokens),
        "stream": lambda: check_stream(ask_stream(session)),
        "usage": lambda: check_usage(ask_usage(session)),
        "wire": lambda: check_wire(ask_wire(session)),
        "pacing": lambda: check_pacing(ask_pacing(session)),
        "models": lambda: check_models(ask_models(session)),
        "wrong_key": lambda: check_wrong_key(ask_wrong_key(session)),
        "bad_request": lambda: check_bad_request(ask_bad_request(session)),
        "embeddings": lambda: check_embeddings(ask_embeddings(session)),
        "stop": lambda: check_stop(ask_stop(session)),
        "n": lambda: check_n(ask_n(session)),
        "seed": lambda: check_seed(ask_seed(session)),
        "logprobs": lambda: check_logprobs(ask_logprobs(session)),
        "json_object": lambda: check_json_object(ask_json_object(session)),
        "json_schema": lambda: check_json_schema(ask_json_schema(session)),
        "tools": lambda: check_tools(ask_tools(session)),
        "unknown_model": lambda: check_unknown_model(ask_unknown_model(session), listed),
        "retrieve": lambda: check_retrieve(ask_retrieve(session), model),
        "completions": lambda: check_completions(ask_completions(session)),
        "async": lambda: check_async(ask_async(session), tokens),
    }


def first_contact(run: Run, instrument: wire.Wire, sdk: Sdk) -> Session:
    """Who is there, and with which models."""
    listing = chat.meet(run, instrument, [chat.MODELS])[chat.MODELS]
    session = Session(run, instrument, sdk, listing)
    run.target["model"] = session.model
    return session


def as_json(reply: wire.Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def header(session: Session, count: int) -> str:
    sdk = session.sdk
    return f"openai {sdk.version} on {sdk.http_library}, {count} checks with {session.model}"


def totals(session: Session) -> dict[str, Any]:
    """What the run asked for, as far as the answers tell."""
    asked = [answer for answer in session.answers if answer.error != "not asked"]
    usages = [pick(answer.data, "usage") for answer in asked]
    usages += [pick(answer.chunks[-1:], 0, "usage") for answer in asked]
    spent = [answer.spent_ms for answer in asked if answer.spent_ms is not None]
    tokens = {"prompt_tokens": 0, "completion_tokens": 0}
    for usage in usages:
        for name in tokens:
            value = pick(usage, name)
            tokens[name] += value if is_count(value) else 0
    return {
        "requests": len(asked) + len(session.replies),
        **tokens,
        "longest_ms": max(spent, default=None),
    }


def record(answer: Answer) -> dict[str, Any]:
    return {
        "check": answer.check,
        "call": answer.call,
        "status": answer.status,
        "error": answer.error,
        "error_text": answer.text or None,
        "resent": answer.resent,
        "spent_ms": answer.spent_ms,
        **counts(pick(answer.data, "usage") or pick(answer.chunks[-1:], 0, "usage")),
        "event_ms": answer.times_ms,
    }


def records_of(session: Session) -> list[dict[str, Any]]:
    """The SDK's requests, then those at the wire."""
    replies = [reply for _, reply in session.replies]
    at_wire = make_records(replies, read_streams(replies))
    named = zip(session.replies, at_wire, strict=True)
    asked = [answer for answer in session.answers if answer.error != "not asked"]
    return [record(answer) for answer in asked] + [
        {"check": check, "call": "wire", **fields} for (check, _), fields in named
    ]


def decide(run: Run, document: Document, session: Session) -> None:
    """Check after check, each on the screen as soon as it is decided."""
    wanted = [name for name in CHECKS if run.wants(name)]
    run.say(header(session, len(wanted)))
    decided = steps(session)
    for title, names in (("Contract", CONTRACT), ("Capabilities", CAPABILITIES)):
        if not set(names) & set(wanted):
            continue
        run.say(f"\n{title}")
        for name in names:
            if name in wanted:
                check = decided[name]()
                session.let_go(name)
                document.add(check)
                run.say_check(check)


def measure(run: Run) -> None:
    document = run.document("openai_sdk_test")
    target = wire.Target(run.url, run.token(), verify=not run.args.no_verify_ssl)
    with contextlib.ExitStack() as stack:
        instrument = stack.enter_context(wire.Wire(target, run.args.timeout))
        sdk = stack.enter_context(contextlib.closing(Sdk(target, run.args.timeout)))
        run.client |= {"openai": sdk.version, "http_library": sdk.http_library}
        session = first_contact(run, instrument, sdk)
        try:
            decide(run, document, session)
        finally:
            document.requests = records_of(session)
            document.metrics = totals(session)
            run.client["clock"] = instrument.clock
        figures = document.metrics
        run.say(
            f"\n{figures['requests']} requests, {figures['prompt_tokens']} tokens read and "
            f"{figures['completion_tokens']} written by the server's count"
        )
        document.finish()


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
