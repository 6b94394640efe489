"""The openai Python package as a client whose requests are bounded and recorded.

The SDK is used as an application uses it, but without retries and without redirects. Its HTTP
library bounds each read alone; here the whole time of a request and the bytes of its answer are
bounded, as the wire bounds them. The package may be of version 1, 2 or 3 (httpx, later httpx2).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import operator
import os
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from livecheck.core.json_value import MAX_DIGITS, as_line, pick, pick_list, pick_text, quoted
from livecheck.core.text import shorten
from livecheck.gateway import characters, sdk_output
from livecheck.gateway.answer_parts import counts_of
from livecheck.gateway.same_text import Said
from livecheck.gateway.sdk_guard import Guard, Stopped, aside
from livecheck.gateway.sdk_output import Progress
from livecheck.wire import chunk_form, sse
from livecheck.wire.answer import Answer, ms
from livecheck.wire.dialect import REFUSED, Dialect
from livecheck.wire.error_words import error_in, error_in_place_of_completion
from livecheck.wire.spoken import content_in, thoughts_in
from livecheck.wire.thoughts import Spent
from livecheck.wire.tls import tls_context
from livecheck.wire.wire import Reply, Request, Target

CHAT = "chat.completions.create"
RESPONSES = "responses.create"
UNREADABLE = "unreadable"  # as SdkCall.error: the SDK fails inside on what came
NO_KEY = "no-key"  # the SDK demands a key; the deployment may not
UNFINISHED = ("given_up", "no_finish_reason")  # kinds of sse.KINDS
HAVE_CHOICES = ("chat.completions.create", "completions.create")


# --- what became of a call


@dataclass(eq=False)
class SdkCall:
    """One call of the SDK and what became of it.

    `answer` is what came over HTTP: status, headers, times, the body of an error, and the reason if
    there is no whole answer. Beside it stands what only the SDK knows.
    """

    check: str
    method: str  # such as "chat.completions.create"
    arguments: dict[str, Any]
    answer: Answer
    data: Any = None  # the object that the SDK made of the answer, as a dict
    chunks: list[Any] = field(default_factory=list)  # of a stream
    chunk_ms: list[float] = field(default_factory=list)  # when the SDK gave each, from the call on
    # name of the exception; UNREADABLE, "error object", "no object", "no events", "no choices",
    # "no message"
    sdk_error: str | None = None
    sdk_text: str = ""  # what the SDK says of it
    error_body: Any = None  # what the SDK made of an error's body
    is_damaged: bool = False  # whether the model's text has lost a character
    was_empty: bool = False  # `is_empty`, before the content was forgotten
    is_thinker: bool = False  # an answer before this one certainly was nothing but thoughts
    unfinished: str | None = None  # why nothing shows that the answer is complete
    again: SdkCall | None = None  # the same call, made once more because this one was refused

    @property
    def error(self) -> str | None:
        """The kind of the failure or the name of the SDK's error; None when the call succeeded."""
        return self.answer.failure_kind or self.sdk_error

    @property
    def error_text(self) -> str:
        """What the client, the SDK or the server says of the error; empty without an error."""
        if self.answer.failure:
            return self.answer.failure.text
        return (self.sdk_text or self.answer.words) if self.sdk_error else ""

    @property
    def error_message(self) -> str | None:
        """The message that an application finds in an error's body; None when it finds none."""
        return pick_text(self.error_body, "message") or None

    @property
    def outcome(self) -> str:
        """The call in a few words: `200 in 4 ms, 12 chunks`."""
        if self.error:
            return f"{self.answer.status or '-'} {self.error}: {self.error_text}"
        chunks = f", {len(self.chunks)} chunks" if self.chunks else ""
        return f"{self.answer.status} in {self.answer.spent_ms:.0f} ms{chunks}"

    # the parts of an answer

    @property
    def texts(self) -> str:
        """All that the model wrote in it: content and thoughts."""
        found = [self.message]
        found += [pick(chunk, "choices", 0, "delta") for chunk in self.spoken]
        return "".join(pick_text(each, "content") + thoughts_in(each) for each in found)

    @property
    def is_empty(self) -> bool:
        """Whether a whole chat answer has nothing in it, although its tokens were not spent."""
        is_cut = chunk_form.means_length(self.finish_reason)
        if self.error or self.message is None or is_cut or self.spent:
            return False
        if "stop" in self.arguments:  # the stop text may come at once
            return False
        has_more = pick_list(self.message, "tool_calls") or pick_text(self.message, "refusal")
        return not (self.texts or has_more)

    @property
    def message(self) -> Any:
        return pick(self.data, "choices", 0, "message")

    @property
    def content(self) -> str:
        return pick_text(self.message, "content")

    @cached_property
    def progress(self) -> Progress:
        """The chunks of a stream that only tell of progress."""
        return sdk_output.progress_in(self.chunks, self.chunk_ms)

    @cached_property
    def spent(self) -> Spent | None:
        """Whether all tokens went into thoughts. Few streams count their tokens: one that ends at
        max_tokens without a word is believed when the model is a thinker."""
        if self.error:
            return None
        found = sdk_output.spent_in(self.data, self.spoken, self.arguments)
        return found._replace(is_said=True) if found and self.is_thinker else found

    @property
    def spoken(self) -> list[Any]:
        """The chunks of a stream without those that only tell of progress."""
        told = self.progress.chunks
        return [chunk for index, chunk in enumerate(self.chunks) if index not in told]

    @property
    def streamed_content(self) -> str:
        return "".join(pick_text(c, "choices", 0, "delta", "content") for c in self.spoken)

    @property
    def said(self) -> Said:
        """The text of a chat answer, whole or streamed."""
        found = [self.message, *(pick(c, "choices", 0, "delta") for c in self.spoken)]
        content, thoughts = "".join(map(content_in, found)), "".join(map(thoughts_in, found))
        last = next(iter(self.finish_reasons[-1:]), self.finish_reason)
        finish = chunk_form.finish_meaning(last) if isinstance(last, str) else None
        return Said(thoughts, content, finish)

    @property
    def finish_reason(self) -> Any:
        return pick(self.data, "choices", 0, "finish_reason")

    @property
    def finish_reasons(self) -> list[str]:
        """All that a stream has, in its order."""
        found = [pick(chunk, "choices", 0, "finish_reason") for chunk in self.chunks]
        given = [as_line(reason) for reason in found if reason is not None]
        return [reason for reason in given if not chunk_form.is_placeholder(reason)]

    @property
    def usage(self) -> Any:
        """The server's account of tokens: of the object, or of a stream's last chunk."""
        last = pick(self.chunks[-1:], 0)
        return pick(self.data, "usage") or pick(last, "usage") or pick(last, "response", "usage")

    def forget_content(self) -> None:
        """Keep nothing of a large answer but its account of tokens, and what was found in it."""
        _ = self.progress, self.spent
        self.data = {"usage": counts_of(pick(self.data, "usage"))}
        self.chunks = [{"usage": counts_of(pick(chunk, "usage"))} for chunk in self.chunks[-1:]]
        self.error_body = None
        self.answer.let_go()


# --- the client


def forget_openai_settings() -> None:
    """Take everything out of the environment that is meant for OpenAI's own service.

    That is: keys, organisation, project, base URL, custom headers, logging. The SDK looks at these
    when it is imported and when a client is made.
    """
    for name in list(os.environ):
        if name.upper().startswith(("OPENAI_", "AZURE_OPENAI_")):
            del os.environ[name]


class OpenAIClient:
    """The openai package and its client for one target. `calls` has every call that was begun."""

    def __init__(self, target: Target, timeout_s: float, dialect: Dialect | None = None) -> None:
        """`dialect`: how the model's parameters are called."""
        forget_openai_settings()
        self.calls: list[SdkCall] = []
        self.dialect = dialect or Dialect()
        self._openai = aside(partial(importlib.import_module, "openai"))
        self._token = target.token or ""
        self._settings: dict[str, Any] = {
            "base_url": target.api_base,
            "api_key": self._token or NO_KEY,
            "max_retries": 0,
            "timeout": timeout_s,
        }
        self._http: dict[str, Any] = {
            "follow_redirects": False,
            "verify": tls_context(target),  # the rules of the wire
            "proxy": proxy_url(target),
            "trust_env": False,  # the proxy is chosen as the wire chooses it
        }
        self._target, self._timeout_s = target, timeout_s
        self._guard, self._client = self._new_client()

    def _new_client(self) -> tuple[Guard, Any]:
        guard = Guard(self._target, self._timeout_s)
        hooks: Any = {"request": [guard.on_request], "response": [guard.on_response]}
        http = self._openai.DefaultHttpxClient(**self._http, event_hooks=hooks)
        return guard, self._openai.OpenAI(**self._settings, http_client=http)

    def close(self) -> None:
        self._client.close()

    @property
    def version(self) -> str:
        return str(self._openai.__version__)

    def has(self, method: str) -> bool:
        """Whether this version of the package has such a method."""
        try:
            return callable(operator.attrgetter(method)(self._client))
        except AttributeError:
            return False

    @property
    def http_library(self) -> str:
        """Its name and version: `httpx 0.28.1`."""
        name = type(self._client._client).__mro__[1].__module__.partition(".")[0]
        return f"{name} {getattr(sys.modules[name], '__version__', '')}".strip()

    def ask(
        self,
        check: str,
        method: str,
        arguments: dict[str, Any],
        key: str | None = None,
        asynchronous: bool = False,
    ) -> SdkCall:
        """Call a method of the SDK. Whatever goes wrong with the answer stands in the SdkCall.

        `key` takes the place of the target's own key; `asynchronous`: by the asynchronous client.
        A call that is refused because of a parameter's name is made once more the other way.
        """
        unsent = Request("SDK", method)  # until the guard sees what the SDK sends
        secret, proxy = (key or self._token).encode(), self._target.proxy
        reply = Reply(len(self.calls), unsent, secret=secret, proxy=proxy)
        call = SdkCall(check, method, arguments, Answer(reply))
        self.calls.append(call)
        work = partial(self._run_async, call) if asynchronous else partial(self._ask, call, key)
        wants_stream = bool(arguments.get("stream"))
        tokens = arguments.get("max_tokens") or arguments.get("max_output_tokens", 0)
        if not self._guard.run(reply, work, wants_stream, tokens):
            self._guard, self._client = self._new_client()  # the old one is still busy
        if self._is_refused_name(call):
            self.calls.pop()
            return self.ask(check, method, arguments, key, asynchronous)
        self._look_at_form(call)
        call.is_thinker = any(each.spent and each.spent.is_certain for each in self.calls[:-1])
        reasons = (call.finish_reason, *call.finish_reasons)
        was_cut = any(map(chunk_form.means_length, reasons))
        call.was_empty = call.is_empty
        call.unfinished = unfinished(call)
        call.is_damaged = characters.is_damaged(call.texts, was_cut)
        return call

    def _ask(self, call: SdkCall, key: str | None) -> None:
        client = self._client.with_options(api_key=key) if key else self._client
        self._attempt(call, client)
        if self._lost_a_race(call):
            call.answer.reply.resent = True
            call.sdk_error, call.sdk_text = None, ""
            self._attempt(call, client)

    def _attempt(self, call: SdkCall, client: Any) -> None:
        guard = self._guard
        try:
            result = operator.attrgetter(call.method)(client)(**self._sent(call))
            if not call.arguments.get("stream"):
                call.data = plain(result)
                return
            with result:
                for chunk in result:
                    self._note_chunk(call, chunk, guard)
        except Stopped:
            pass  # the guard has noted why
        except Exception as error:  # the SDK lets through whatever goes wrong inside it
            self._note_error(call, error, guard)

    def _run_async(self, call: SdkCall) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # by the guard, which has noted why
            asyncio.run(self._ask_async(call, self._guard))

    async def _ask_async(self, call: SdkCall, guard: Guard) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task
        # Nothing is printed of what the SDK or its HTTP library leave behind.
        loop.set_exception_handler(lambda _loop, _context: None)
        guard.cancel = partial(cancel_soon, loop, task)
        hooks: Any = {"request": [guard.on_async_request], "response": [guard.on_async_response]}
        http = self._openai.DefaultAsyncHttpxClient(**self._http, event_hooks=hooks)
        async with self._openai.AsyncOpenAI(**self._settings, http_client=http) as client:
            await self._attempt_async(call, client, guard)

    async def _attempt_async(self, call: SdkCall, client: Any, guard: Guard) -> None:
        try:
            result = await operator.attrgetter(call.method)(client)(**self._sent(call))
            if not call.arguments.get("stream"):
                call.data = plain(result)
                return
            async with result:
                async for chunk in result:
                    self._note_chunk(call, chunk, guard)
        except Stopped:
            pass
        except Exception as error:
            self._note_error(call, error, guard)

    def _sent(self, call: SdkCall) -> dict[str, Any]:
        """The arguments as this model takes them."""
        is_known = call.method in (CHAT, RESPONSES)
        return self.dialect.fields(call.arguments) if is_known else call.arguments

    def _is_refused_name(self, call: SdkCall) -> bool:
        """Whether the parameter that was refused can be sent in another way from now on."""
        is_refusal = call.answer.status in REFUSED and not call.answer.failure
        if call.method != CHAT or not is_refusal:
            return False
        return self.dialect.learn(self._sent(call), call.answer.body)

    def _lost_a_race(self, call: SdkCall) -> bool:
        """Whether the server closed a kept connection at the moment of sending.

        That is not a failure of the deployment (RFC 9112, section 9.3.1), and the retries of an
        application hide it.
        """
        answer, lost = call.answer, call.sdk_error == "APIConnectionError"
        return lost and answer.status is None and not self._guard.opened and not answer.failure

    def _note_chunk(self, call: SdkCall, chunk: Any, guard: Guard) -> None:
        guard.note_event()
        call.chunk_ms.append(ms(time.perf_counter_ns() - (call.answer.sent_ns or 0)))
        call.chunks.append(plain(chunk))

    def _note_error(self, call: SdkCall, error: Exception, guard: Guard) -> None:
        openai = self._openai
        call.sdk_error = type(error).__name__
        if isinstance(error, openai.APITimeoutError):
            guard.time_out()
        elif isinstance(error, openai.APIConnectionError):
            text, proxy = as_line(error.__cause__ or error), self._target.proxy
            call.sdk_text = proxy.in_words(text) if proxy else text
            if type(error.__cause__).__name__ == "DecodingError":
                call.sdk_error = UNREADABLE
                call.sdk_text = f"the SDK cannot decode the body ({call.sdk_text})"
        elif isinstance(error, openai.APIStatusError):
            call.error_body = error.body  # the answer has the words
        elif isinstance(error, openai.APIError):  # an error event inside a stream
            call.error_body, call.sdk_text = error.body, as_line(error.message)
        else:  # what goes wrong inside the SDK, when it takes the answer for what it is not
            name = call.sdk_error
            is_deep = name == "RecursionError"
            call.sdk_error, call.sdk_text = UNREADABLE, "the SDK can make no object of it"
            call.sdk_text += f", it is nested too deeply ({name})" if is_deep else ""

    def _look_at_form(self, call: SdkCall) -> None:
        """The SDK takes much for an answer that is none, and says little of what it cannot read."""
        if call.answer.failure or call.answer.status != 200:
            return
        if not call.error:
            call.sdk_error = form_problem(call)
        is_completion = call.method in HAVE_CHOICES
        find_error = error_in_place_of_completion if is_completion else error_in
        if (error := find_error(call.answer.json)) is not None:
            call.sdk_error, call.sdk_text = "error object", ""  # the answer has the words
            call.error_body = error
        elif call.sdk_error and not isinstance(call.answer.json, dict) and not call.chunks:
            call.sdk_text = self._what_came(call)
        elif call.sdk_error == UNREADABLE and not call.chunks:
            call.sdk_text += f": {quoted(call.answer.words)}"

    def _what_came(self, call: SdkCall) -> str:
        """What a 200 is that the SDK can make nothing of."""
        answer, coding = call.answer, shorten(self._guard.coding, 40)
        kind = answer.shown_header("content-type") or "no type"
        if coding:
            why = call.sdk_text if call.sdk_error == UNREADABLE else "the SDK cannot read it"
            return f"Content-Encoding {coding}, Content-Type {kind}: {why}"
        said = quoted(answer.words) if answer.words else "nothing in it"
        return f"{'a web page, ' if answer.is_web_page else ''}Content-Type {kind}, {said}"


def proxy_url(target: Target) -> str | None:
    """The proxy as the SDK's HTTP library wants it, by an address that answers."""
    proxy = target.proxy
    return proxy.url(target.hosts.at(proxy.host, proxy.port).way_round) if proxy else None


def form_problem(call: SdkCall) -> str | None:
    """What an answer lacks that the SDK made an object of; None if it can be looked at."""
    is_stream, found = bool(call.arguments.get("stream")), call.chunks or [call.data]
    if is_stream and not call.chunks:
        return "no events"
    if not is_stream and not isinstance(call.data, dict):
        return "no object"
    if call.method not in HAVE_CHOICES:
        return None
    if not any(pick_list(each, "choices") for each in found):
        return "no choices"
    is_chat = call.method.startswith("chat.") and not is_stream
    return "no message" if is_chat and not isinstance(call.message, dict) else None


def unfinished(call: SdkCall) -> str | None:
    """Why nothing shows that an answer is complete; None when something does, or there is none."""
    if call.error or call.method not in HAVE_CHOICES:
        return None
    if call.chunks:
        stream = sse.read_chunks([chunk for chunk in call.chunks if isinstance(chunk, dict)])
        return next((e.text for e in stream.complaints if e.kind in UNFINISHED), None)
    choices = [each for each in pick_list(call.data, "choices") if isinstance(each, dict)]
    return next(filter(None, map(chunk_form.unfinished, choices)), None)


def plain(result: Any) -> Any:
    """An object of the SDK as dicts and lists, with nothing but what the server sent.

    The SDK gives what is not a JSON object as it is: a text, a list, None.
    """
    if hasattr(result, "to_dict"):
        result = result.to_dict(mode="python", warnings=False)
    shorten_integers(result)
    return result


def shorten_integers(value: Any) -> None:
    """Make the long integers in dicts and lists floats, as `json_value.decode` does."""
    left = [value]
    while left:
        holder = left.pop()
        if isinstance(holder, dict):
            fields: Any = holder.items()
        elif isinstance(holder, list):
            fields = enumerate(holder)
        else:
            continue
        for key, each in fields:
            if isinstance(each, (dict, list)):
                left.append(each)
            elif type(each) is int and abs(each) >= 10**MAX_DIGITS:
                holder[key] = as_float(each)


def as_float(figure: int) -> float:
    try:
        return float(figure)
    except OverflowError:
        return math.inf if figure > 0 else -math.inf


def cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """From another thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(task.cancel)
