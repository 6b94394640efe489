"""The openai Python package as a client whose requests are bounded and recorded.

The SDK is used as an application uses it, but without retries and without redirects. Its HTTP
library bounds each read alone; here the whole time of a request and the bytes of its answer are
bounded, as the wire bounds them. The package may be of version 1, 2 or 3 (httpx, later httpx2).
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.json_value import as_line, pick, pick_text, quoted
from livecheck.wire.answer import Answer, ms
from livecheck.wire.connection import tls_context
from livecheck.wire.wire import MAX_BYTES, Failure, Reply, Request, Target

NO_KEY = "no-key"  # the SDK demands a key; the deployment may not
THOUGHTS = ("reasoning_content", "reasoning")  # the two names of a reasoning model's thoughts


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
    sdk_error: str | None = None  # name of the exception; "no object", "no events"
    sdk_text: str = ""  # what the SDK says of it
    error_body: Any = None  # what the SDK made of an error's body

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
    def message(self) -> Any:
        return pick(self.data, "choices", 0, "message")

    @property
    def content(self) -> str:
        return pick_text(self.message, "content")

    @property
    def finish_reason(self) -> Any:
        return pick(self.data, "choices", 0, "finish_reason")

    @property
    def finish_reasons(self) -> list[str]:
        """All that a stream has, in its order."""
        found = [pick(chunk, "choices", 0, "finish_reason") for chunk in self.chunks]
        return [as_line(reason) for reason in found if reason is not None]

    @property
    def usage(self) -> Any:
        """The server's account of tokens: of the object, or of a stream's last chunk."""
        return pick(self.data, "usage") or pick(self.chunks[-1:], 0, "usage")

    def forget_content(self) -> None:
        """Keep nothing of a large answer but its account of tokens."""
        self.data = {"usage": pick(self.data, "usage")}
        self.chunks = [{"usage": pick(chunk, "usage")} for chunk in self.chunks[-1:]]


def thoughts_in(message: Any) -> str:
    """The thoughts in a message or a delta of a reasoning model."""
    return next(filter(None, (pick_text(message, name) for name in THOUGHTS)), "")


# --- the bounds of a request


class Guard:
    """Bounds one request at a time, its whole time and the bytes of its answer, and fills a Reply.

    httpx bounds each read alone, so a server that sends a byte now and then is never too slow for
    it. Here the sockets are shut down when the time is over, and the pieces of the body are
    counted. The failure in the reply says that the guard stepped in, whatever the SDK made of that.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.opened = False  # whether the request opened a connection, and did not take a kept one
        self._reply = Reply(0, Request("", ""))
        self._sockets: list[socket.socket] = []
        self._pieces: list[bytes] = []  # of an error's body
        self._size = 0
        self._deadline_ns = 0

    @contextlib.contextmanager
    def watch(self, reply: Reply) -> Iterator[None]:
        """What is sent within the block is the request of `reply`."""
        self._reply, self.opened, self._pieces, self._size = reply, False, [], 0
        reply.t0_ns = time.perf_counter_ns()
        self._deadline_ns = reply.t0_ns + int(self.timeout_s * 1e9)
        timer = threading.Timer(self.timeout_s, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
            reply.end_ns = time.perf_counter_ns()
        finally:
            timer.cancel()
            timer.join()
            reply.body = reply.masked(b"".join(self._pieces))

    def time_out(self) -> None:
        text = f"not finished after {self.timeout_s:g} s"
        self._reply.failure = self._reply.failure or Failure("timeout", text)

    def _expire(self) -> None:
        self.time_out()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                # not SSLSocket.shutdown, which takes TLS away while another thread reads
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _count(self, piece: bytes, is_error: bool) -> bytes:
        self._size += len(piece)
        if self._size > MAX_BYTES:
            self._reply.failure = Failure("flood", f"more than {MAX_BYTES >> 20} MB of answer")
        elif time.perf_counter_ns() > self._deadline_ns:
            self.time_out()
        if self._reply.failure:
            raise OverflowError(self._reply.failure.text)  # it ends the reading, no more
        if is_error:
            self._pieces.append(piece)
        return piece

    # event hooks, which are the same in httpx and httpx2

    def on_request(self, request: Any) -> None:
        self._reply.request = Request(request.method, request.url.path)
        request.extensions["trace"] = self._on_connect

    async def on_async_request(self, request: Any) -> None:
        self._reply.request = Request(request.method, request.url.path)

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
                yield self._count(piece, not response.is_success)

        response.iter_bytes = iter_bytes  # decoded pieces: a compressed flood is a flood, too

    async def on_async_response(self, response: Any) -> None:
        self._note_head(response)
        read = response.aiter_bytes

        async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            async for piece in read(chunk_size):
                yield self._count(piece, not response.is_success)

        response.aiter_bytes = aiter_bytes

    def _note_head(self, response: Any) -> None:
        self._reply.message.status = response.status_code
        self._reply.message.headers = response.headers.multi_items()


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

    def __init__(self, target: Target, timeout_s: float) -> None:
        forget_openai_settings()
        import openai

        self.calls: list[SdkCall] = []
        self._openai, self._guard, self._token = openai, Guard(timeout_s), target.token or ""
        self._settings: dict[str, Any] = {
            "base_url": f"{target.url}/v1",
            "api_key": self._token or NO_KEY,
            "max_retries": 0,
            "timeout": timeout_s,
        }
        self._http: dict[str, Any] = {
            "follow_redirects": False,
            "verify": tls_context(target.verify),  # the rules of the wire
            "proxy": target.proxy.geturl() if target.proxy else None,
            "trust_env": False,  # the proxy is chosen as the wire chooses it
        }
        guard = self._guard
        hooks: Any = {"request": [guard.on_request], "response": [guard.on_response]}
        http = openai.DefaultHttpxClient(**self._http, event_hooks=hooks)
        self._client = openai.OpenAI(**self._settings, http_client=http)

    def close(self) -> None:
        self._client.close()

    @property
    def version(self) -> str:
        return self._openai.__version__

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
        """
        unsent = Request("SDK", method)  # until the guard sees what the SDK sends
        reply = Reply(len(self.calls), unsent, secret=(key or self._token).encode())
        call = SdkCall(check, method, arguments, Answer(reply))
        self.calls.append(call)
        try:
            if asynchronous:
                asyncio.run(self._ask_async(call))
            else:
                self._ask(call, key)
        except BaseException:
            reply.failure = Failure("interrupted", "the run was interrupted")
            raise
        self._look_at_form(call)
        return call

    def _ask(self, call: SdkCall, key: str | None) -> None:
        client = self._client.with_options(api_key=key) if key else self._client
        with self._guard.watch(call.answer.reply):
            self._attempt(call, client)
            if self._lost_a_race(call):
                call.answer.reply.resent = True
                call.sdk_error, call.sdk_text = None, ""
                self._attempt(call, client)

    def _attempt(self, call: SdkCall, client: Any) -> None:
        try:
            result = operator.attrgetter(call.method)(client)(**call.arguments)
            if call.arguments.get("stream"):
                for chunk in result:
                    self._note_chunk(call, chunk)
            else:
                call.data = plain(result)
        except Exception as error:  # the SDK lets through whatever goes wrong inside it
            self._note_error(call, error)

    async def _ask_async(self, call: SdkCall) -> None:
        guard = self._guard
        hooks: Any = {"request": [guard.on_async_request], "response": [guard.on_async_response]}
        http = self._openai.DefaultAsyncHttpxClient(**self._http, event_hooks=hooks)
        async with self._openai.AsyncOpenAI(**self._settings, http_client=http) as client:
            with guard.watch(call.answer.reply):
                try:
                    await asyncio.wait_for(self._attempt_async(call, client), guard.timeout_s)
                except asyncio.TimeoutError:
                    guard.time_out()

    async def _attempt_async(self, call: SdkCall, client: Any) -> None:
        try:
            result = await operator.attrgetter(call.method)(client)(**call.arguments)
            if call.arguments.get("stream"):
                async for chunk in result:
                    self._note_chunk(call, chunk)
            else:
                call.data = plain(result)
        except Exception as error:
            self._note_error(call, error)

    def _lost_a_race(self, call: SdkCall) -> bool:
        """Whether the server closed a kept connection at the moment of sending.

        That is not a failure of the deployment (RFC 9112, section 9.3.1), and the retries of an
        application hide it.
        """
        answer, lost = call.answer, call.sdk_error == "APIConnectionError"
        return lost and answer.status is None and not self._guard.opened and not answer.failure

    def _note_chunk(self, call: SdkCall, chunk: Any) -> None:
        call.chunk_ms.append(ms(time.perf_counter_ns() - (call.answer.sent_ns or 0)))
        call.chunks.append(plain(chunk))

    def _note_error(self, call: SdkCall, error: Exception) -> None:
        openai = self._openai
        call.sdk_error = type(error).__name__
        if isinstance(error, openai.APITimeoutError):
            self._guard.time_out()
        elif isinstance(error, openai.APIConnectionError):
            call.sdk_text = as_line(error.__cause__ or error)
        elif isinstance(error, openai.APIStatusError):
            call.error_body = error.body  # the answer has the words
        elif isinstance(error, openai.APIError):  # an error event inside a stream
            call.error_body, call.sdk_text = error.body, as_line(error.message)
        else:
            call.sdk_text = as_line(error)

    def _look_at_form(self, call: SdkCall) -> None:
        """A text in the place of an object, or a stream without events, is an error, too."""
        if call.error is not None:
            return
        kind = call.answer.shown_header("content-type") or "no type"
        if isinstance(call.data, str):
            call.sdk_error, call.sdk_text = "no object", f"Content-Type {kind}, {quoted(call.data)}"
        elif call.data is None and not call.chunks:
            call.sdk_error, call.sdk_text = "no events", f"Content-Type {kind}, no event in it"


def plain(result: Any) -> Any:
    """An object of the SDK as dicts and lists, with nothing but what the server sent.

    The SDK gives the text of an answer that is not JSON: it stays a text.
    """
    return result if isinstance(result, str) else result.to_dict(mode="python", warnings=False)
