"""What became of a request: the one type for it, in every script.

An Answer reads the bytes and times of one reply. Each part is worked out when it is first asked
for, and only once: while requests run, that is nothing but the status. A request that got no answer
at all has an Answer as well, whose `failure` says why.
"""

from __future__ import annotations

import dataclasses
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from livecheck.core.json_value import MAX_JSON_BYTES, decode_or_none, number, pick
from livecheck.core.late_pattern import late_pattern
from livecheck.core.later import later
from livecheck.core.text import shorten
from livecheck.wire import compression, silence
from livecheck.wire.chunk_form import unfinished, whole_findings
from livecheck.wire.decode_figures import decode_figures, server_figures
from livecheck.wire.error_words import (
    error_in_place_of_completion,
    is_web_page,
    words_of,
    words_of_page,
    words_of_text,
)
from livecheck.wire.proxy import BARRED, DOUBTFUL
from livecheck.wire.shown_exchange import shown_exchange
from livecheck.wire.speculation import draft_figures
from livecheck.wire.spoken import content_in, thoughts_in
from livecheck.wire.thinking_figures import thinking_figures
from livecheck.wire.thoughts import Ending, Spent, spent
from livecheck.wire.wire import MAX_BYTES, Failure, Handshake, Reply, Request

with later():  # by `get_ready`
    from livecheck.wire import response_stream, sse, vectors

WORDS_LENGTH = 160  # characters of what a server said
WORDS_BYTES = 4096  # of a body, in which they are looked for
LARGE_BYTES = 16 << 10  # of a body: its JSON is not kept with each answer
HEADER_LENGTH = 40  # characters of a header's value
KEPT_BYTES = 16 << 10  # of a body whose answer was read, and is kept beside hundreds of others
KEPT_EVENTS = 10_000  # of its stream: their times
# what is read of the body when it is first asked for
OF_THE_BODY = ("completion", "words", "spent", "form", "stream_error", "is_web_page")
PAGE_BYTES = 64 << 10  # the same of a web page, which may begin with a long style sheet
# header fields in which proxies and frameworks say what went wrong, when there is no body
HEAD_WORDS = ("grpc-message", "x-error-message", "x-error", "x-amzn-errortype")
DESCRIPTION = late_pattern(r'error_description="([^"]*)"', re.IGNORECASE)  # RFC 6750, section 3
# how an API's error says that the server limits the number of requests
RATE_LIMIT = late_pattern(r"rate.?limit|throttl|quota", re.I)
TOO_MANY = late_pattern(r"too many requests", re.I)
# statuses of a server that has no room for a request now (529: Anthropic's API), and its words
BUSY = (503, 529)
SAYS_BUSY = late_pattern(
    r"\bbusy\b|\boverload|at (full )?capacity|queue[ _](is )?full|queue limit|concurren", re.I
)
# how OpenAI's reasoning models say in a 400 that so few tokens leave no room for an answer
NO_ROOM = late_pattern(r"max_(?:completion_)?tokens or model output limit", re.I)
OUTCOME = ("status", "error", "error_text")  # of a record: they stand before its times
ERROR_200 = "200, but an error in place of the answer"

# how an event stream begins: with a field, a comment, or nothing
EVENT_START = late_pattern(rb"(\xef\xbb\xbf)?\s*((data|event|id|retry|error)?:|$)")

# A stream with one of these complaints did not succeed; the first that applies names the error.
FATAL = {
    "flood": "flood",
    "error_event": "stream_error",
    "not_utf8": "malformed",
    "not_json": "malformed",
    "not_an_object": "malformed",
    "given_up": "stream_error",
    "cut_off": "truncated",
    "no_finish_reason": "truncated",
    "empty": "empty",
}


def ms(nanoseconds: float) -> float:
    """Nanoseconds as milliseconds, to the tenth of a microsecond."""
    return round(nanoseconds / 1e6, 4)


def get_ready() -> None:
    """Have the modules there that read streams. They are not needed for the first contact, and to
    read them takes too long while streams run."""
    _ = sse.KINDS, response_stream.is_response_path, vectors.PATH


class Completion(NamedTuple):
    """An answer read as a chat completion, streamed or not.

    `problem`: why it is not one, in one line. `is_hidden`: every token went into reasoning that is
    not shown, as far as can be told: see `Answer.spent`.
    """

    model: str | None = None
    has_output: bool = False  # content, reasoning or a tool call
    problem: str | None = None
    fingerprint: str | None = None  # system_fingerprint
    is_hidden: bool = False


@dataclasses.dataclass(slots=True)
class Extract:
    """What a level needs of an answer when its bytes were read: numbers, times and few words.

    Times in ns as in `Answer`, which has all of this by the same names.
    """

    index: int
    is_excluded: bool
    begun_ns: int | None
    sent_ns: int | None
    due_ns: int | None
    ended_ns: int | None
    late_ns: int | None
    first_output_ns: int | None
    silence: silence.Silence | None
    lag_ns: Sequence[int]
    merged_lags_ns: Sequence[int]
    figures: dict[str, Any]

    @property
    def spent_ms(self) -> float | None:
        """From sending to the end of the answer, of a request that was sent and has ended."""
        sent, ended = self.sent_ns, self.ended_ns
        return ms(ended - sent) if sent is not None and ended is not None else None

    def record(self, start_ns: int) -> dict[str, Any]:
        """See `flat_record`."""
        return flat_record(self, start_ns)


class Answer:
    """One request and what became of it. Times in ns are on the clock of `time.perf_counter_ns`."""

    def __init__(self, reply: Reply):
        self.reply = reply
        self.may_be_limit = False  # a 503 that `asking.recognise_limit` takes for a limit

    def let_go(self) -> None:
        """Work out what the answer says as a completion and in words, then forget the bytes of it
        but for the beginning of its body, and whatever was parsed of them.

        For answers that are kept by the hundred: each may have a megabyte, which is 20 MB as JSON.
        The `json` of a body of more than KEPT_BYTES is None afterwards: ask for it before.
        """
        stream, _ = self.stream, self.silence  # it needs the time of each read
        for name in OF_THE_BODY:
            getattr(self, name)  # it is kept from now on
        self.__dict__.pop("_json", None)
        if len(self.body) <= KEPT_BYTES:
            return
        self.__dict__["_json"] = None
        self.__dict__["stream"] = self.reply.stream = dataclasses.replace(
            stream,
            text=stream.text[:KEPT_BYTES],
            reasoning=stream.reasoning[:KEPT_BYTES],
            output_ns=stream.output_ns[:KEPT_EVENTS],
            output_ends=stream.output_ends[:KEPT_EVENTS],
            output_sizes=stream.output_sizes[:KEPT_EVENTS],
        )
        self.reply.let_go(KEPT_BYTES)
        self.__dict__.pop("_decoded", None)  # made again of what is left
        _large_json.cache_clear()

    # what was asked

    @property
    def request(self) -> Request:
        return self.reply.request

    @property
    def path(self) -> str:
        """The path without its query."""
        return self.request.path.partition("?")[0]

    @property
    def wants_stream(self) -> bool:
        """Whether a stream was asked for, by a request that `chat.completion` made."""
        return self.request.wants_stream

    @cached_property
    def most_tokens(self) -> float | None:
        """How many tokens a completion may have by its request; None when that sets no limit."""
        try:
            asked = json.loads(self.request.body or b"")  # our own, however long the prompt is
        except ValueError:
            return None
        names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
        found = (number(pick(asked, name)) for name in names)
        return next((each for each in found if each is not None), None)

    # what came

    @property
    def status(self) -> int | None:
        return self.reply.status

    @property
    def failure(self) -> Failure | None:
        """Why there is no whole answer; None when there is one, whatever its status."""
        return self.reply.failure

    @property
    def failure_kind(self) -> str | None:
        """The kind of failure when there is no whole answer."""
        return self.failure.kind if self.failure else None

    def header(self, name: str) -> str | None:
        """The value of a header as the server sent it: not for people before it is shortened."""
        return self.reply.message.header(name)

    def shown_header(self, name: str, limit: int = HEADER_LENGTH) -> str | None:
        """The value of a header for people and results; None when there is no such header."""
        value = self.header(name)
        return None if value is None else self.shown(value, limit)

    def shown(self, text: str, limit: int = HEADER_LENGTH) -> str:
        """A text of the server's: printable, of bounded length, without the credential."""
        masked = self.reply.masked(text.encode("latin-1", "replace")).decode("latin-1")
        return shorten(masked, limit)

    @property
    def content_type(self) -> str:
        """In lower case; empty when the server names none."""
        return (self.header("content-type") or "").lower()

    @property
    def body(self) -> bytes:
        """As the server meant it: decoded, also where the request asked for no compression."""
        return self._decoded.body if self._decoded else self.reply.body

    @property
    def coding_problem(self) -> str | None:
        """Why clients fail on the compression of the body; None when they do not."""
        return self._decoded.problem if self._decoded else None

    @cached_property
    def _decoded(self) -> compression.Decoded | None:
        """The body of a compressed answer; None of any other."""
        found = self.reply.decoded
        return found._replace(body=self.reply.masked(found.body)) if found else None

    @property
    def json(self) -> Any:
        """The body as JSON; None when it is not JSON, or a flood."""
        if "_json" in self.__dict__:
            return self._json
        if self.failure_kind == "flood" or len(self.body) > MAX_JSON_BYTES:
            return None
        return _large_json(self.body) if len(self.body) > LARGE_BYTES else self._json

    @cached_property
    def _json(self) -> Any:
        return decode_or_none(self.body)

    @cached_property
    def stream(self) -> sse.Stream:
        """The body read as an event stream: once for each reply, of which a large one keeps only
        the beginning afterwards. All answers of the same reply have the same stream."""
        if self.reply.stream is not None:
            kept: sse.Stream = self.reply.stream
            return kept
        kind, body, marks = self._stream_parts
        found: sse.Stream = self._reader.read_stream(kind, body, marks)
        if len(body) > MAX_BYTES or self.failure_kind == "flood":
            self.reply.keep_beginning()
            self.__dict__.pop("_decoded", None)  # made again of what is left
        self.reply.stream = found
        return found

    @property
    def _reader(self) -> Any:
        """The module that reads its kind of streams."""
        if vectors.is_vectors_path(self.path):
            return vectors
        return response_stream if response_stream.is_response_path(self.path) else sse

    @property
    def _stream_parts(self) -> tuple[str | None, bytes, Sequence[tuple[int, int]]]:
        # 32 MB of small events take long, and help nobody.
        body = b"" if self.failure_kind == "flood" else self.body
        marks = self._decoded.marks if self._decoded else self.reply.marks
        return self.shown_header("content-type"), body, marks

    def condensing(self, look: Callable[[Answer], object] | None = None) -> Iterator[None]:
        """Work out, step by step, what records and verdicts need of an answer that has ended; then
        let go of its bytes, texts and times. A step takes about a millisecond.

        What was worked out stays as it is. Of the body nothing is left when it was a good stream,
        else WORDS_BYTES, and of longer JSON only of which type it was. `look` is called before.
        """
        if self.wants_stream or vectors.is_vectors_path(self.path):
            if self.reply.stream is None:
                self.reply.stream = yield from self._reader.reading_steps(*self._stream_parts)
            yield
            _ = self.figures, self.merged_lags_ns
            yield
        if look:
            look(self)
        self._let_go()

    def condense(self, look: Callable[[Answer], object] | None = None) -> None:
        """All of `condensing` at once."""
        for _ in self.condensing(look):
            pass

    def _let_go(self) -> None:
        is_read = self.wants_stream and self.stream_error is None
        if not is_read:
            _ = self.words, self.is_web_page
        if len(self.body) > WORDS_BYTES:
            content = self.json if self.body.lstrip()[:1] in (b"{", b"[", b'"') else None
            kept = type(content)() if isinstance(content, (dict, list, str)) else None
            self.__dict__["_json"] = kept
            _large_json.cache_clear()
        self.reply.condense(0 if is_read else WORDS_BYTES)
        self.__dict__.pop("_decoded", None)  # made again of what is left
        if self.reply.stream is not None:
            sse.condense(self.reply.stream)

    def read_if_large(self) -> None:
        """Read a large stream at once, and let its bytes go, before many of them are kept."""
        if self.wants_stream and self.reply.size > MAX_BYTES:
            _ = self.stream

    # what it means

    @property
    def is_ok(self) -> bool:
        """Whether there is a whole answer with status 200."""
        return self.status == 200 and self.failure is None

    @property
    def timed_out(self) -> bool:
        return self.failure_kind == "timeout"

    @property
    def is_costly(self) -> bool:
        """Whether the server was silent or did not stop sending: once is enough of that."""
        return self.failure_kind in ("timeout", "flood")

    @property
    def is_unreachable(self) -> bool:
        """No connection, or one that was closed without a byte: no HTTP server is there."""
        return self.failure_kind in ("connect", "tls") or self.is_closed_at_once

    @property
    def has_form_of_proxy(self) -> bool:
        """Whether it is an error that proxies have, and not in the form that an API gives its
        own."""
        return self.status in DOUBTFUL and not isinstance(self.json, dict)

    @property
    def is_barred(self) -> bool:
        """Whether the proxy in between did not let the request through."""
        return self.failure_kind == "connect" and self.status in BARRED

    @property
    def is_closed_at_once(self) -> bool:
        """Whether the connection was closed without a byte."""
        return self.failure_kind == "truncated" and not self.reply.size

    @property
    def is_excluded(self) -> bool:
        """Whether it says nothing of the deployment: a reached rate limit, an interruption."""
        return self.is_rate_limited or self.failure_kind == "interrupted"

    @property
    def is_rate_limited(self) -> bool:
        """Whether a rate limit answered, so that nothing is said about what was asked.

        That is any 429, whatever its body says: gateways and the proxies in front of them have many
        forms for it. It is also a 503 that cannot be told from one (`may_be_limit`).
        """
        return self.status == 429 or self.may_be_limit

    @property
    def looks_like_limit(self) -> bool:
        """Whether a 503 has the form in which proxies refuse one request too many.

        nginx (limit_req, limit_conn) and HAProxy send a web page. An API that fails sends an error
        of its own, as JSON or in plain text, which counts only when it speaks of too many requests.
        """
        if self.status != 503 or self.failure is not None:
            return False
        return self.is_page or self.names_rate_limit or bool(TOO_MANY.search(self.words))

    @property
    def names_rate_limit(self) -> bool:
        """Whether the body of an error says that a rate limit is reached."""
        text = self.body[:WORDS_BYTES].decode("utf-8", "replace")
        return not self.is_page and RATE_LIMIT.search(text) is not None

    @property
    def says_busy(self) -> bool:
        """Whether the words of an error say that too many requests are being served already."""
        return SAYS_BUSY.search(self.words) is not None

    @property
    def has_no_room(self) -> bool:
        """Whether a model has worked, and the tokens that it was allowed were too few to answer."""
        is_refused = self.status == 400 and self.request.method == "POST"
        return is_refused and NO_ROOM.search(self.words) is not None

    @property
    def is_page(self) -> bool:
        """Whether the body is a web page, as proxies send in the place of an answer."""
        return self.body[:WORDS_BYTES].lstrip().startswith(b"<")

    @cached_property
    def is_web_page(self) -> bool:
        """Whether the body is HTML, as a web site sends for any path."""
        return is_web_page(self.body)

    @property
    def is_denied(self) -> bool:
        """Permission refused: a 403, or the fleet's own 400 that says so."""
        if self.failure is not None:
            return False
        says_so = self.status == 400 and b"permission" in self.body[:2000].lower()
        return self.status == 403 or says_so

    @cached_property
    def words(self) -> str:
        """What the server said in an answer that is not a success: one printable line. Behind a
        proxy that may have said it itself, with the name of the proxy."""
        proxy, said = self.reply.proxy, self._said
        if proxy is None or not proxy.forwards:
            return said
        is_doubtful = self.has_form_of_proxy or self.is_web_page
        return proxy.in_words(said or "without words") if is_doubtful else said

    @cached_property
    def _said(self) -> str:
        location = self.header("location")
        if location and self.status and 300 <= self.status < 400:
            target = self.reply.masked(location.encode()).decode()
            return shorten(f"redirect to {target}", WORDS_LENGTH)
        if self.says_error:
            return shorten(words_of(self.json), WORDS_LENGTH)
        if self.is_page:
            page = self.body[:PAGE_BYTES].decode("utf-8", "replace")
            return shorten(words_of_page(page, self.status), WORDS_LENGTH)
        text = self.body[:WORDS_BYTES].decode("utf-8", "replace")
        return shorten(words_of_text(text) or self._words_of_head, WORDS_LENGTH)

    @property
    def says_error(self) -> bool:
        """Whether the body is JSON that says what went wrong."""
        if self.status is not None and 200 <= self.status < 300:
            is_string = isinstance(self.json, str)
            return is_string or error_in_place_of_completion(self.json) is not None
        return isinstance(self.json, (dict, list, str))

    @property
    def _words_of_head(self) -> str:
        """What the head of an answer without a body says in a field for it."""
        for name in HEAD_WORDS:
            if value := self.header(name):
                return self.shown(value, WORDS_LENGTH)
        challenge = DESCRIPTION.search(self.header("www-authenticate") or "")
        return self.shown(challenge[1], WORDS_LENGTH) if challenge else ""

    def outcome(self, timed: bool = False) -> str:
        """The answer in a few words: `503 in 4.0 ms Server busy`. Untimed, equal ones are equal."""
        if self.failure:
            return f"{self.failure.kind}: {self.failure.text}"
        spent = f" in {self.spent_ms or 0.0:.1f} ms" if timed else ""
        said = f" {self.words}".rstrip() if self.status != 200 else ""
        return f"{self.status}{spent}{said}"

    # as a completion

    @cached_property
    def stream_error(self) -> Failure | None:
        """Why the streamed completion that was asked for did not succeed; None when it did.

        Kinds: those of `Failure` but `tls` (which is `connect`), `429`, `503`, `4xx`, `5xx` and so
        on, `malformed`, `truncated`, `stream_error`, `empty`.
        """
        if self.failure is not None:
            kind = "connect" if self.failure.kind == "tls" else self.failure.kind
            return Failure(kind, self.failure.text)
        status = self.status or 0
        if status != 200:
            return Failure(status_kind(status), f"{status} {self.words}".strip())
        if self.coding_problem:
            return Failure("malformed", f"200, but {self.coding_problem}")
        if vectors.is_vectors_path(self.path):
            return vectors.problem(self.stream, self.request.body)
        if self.not_a_stream:
            return self.not_a_stream
        wrong = {each.kind: each.text for each in self.stream.complaints}
        found = next((kind for kind in FATAL if kind in wrong), None)
        if found is None or (found == "empty" and self.spent):
            return None
        why = f"; {self.spent.words(None)}" if found == "no_finish_reason" and self.spent else ""
        return Failure(FATAL[found], f"{wrong[found]}{why}")

    @cached_property
    def not_a_stream(self) -> Failure | None:
        """What came in a 200 in the place of the stream that was asked for; None when events came,
        the beginning of one, or nothing."""
        if self.stream.output_ns:
            return None
        if error_in_place_of_completion(self.json) is not None:
            return Failure("stream_error", f"{ERROR_200}: {self.words}")
        kind = self.shown_header("content-type")
        is_other = not self.content_type.startswith("text/event-stream")
        if not is_other and (self.stream.events or EVENT_START.match(self.body)):
            return None
        what = f"Content-Type is {kind or 'missing'}" if is_other else "it has no events"
        if isinstance(pick(self.json, "choices", 0, "message"), dict):
            what += ", and the whole answer came at once"
        elif self.words:
            what += f", {'a web page' if self.is_web_page else 'it says'}: {self.words}"
        return Failure("malformed", f"200, but no event stream: {what}")

    @property
    def complaints(self) -> list[sse.Complaint]:
        """What was wrong with a stream that can be used all the same."""
        found = [each for each in self.stream.complaints if each.kind not in FATAL]
        found += self.stream.form
        if self.reply.unterminated:
            found.append(sse.Complaint("unterminated", "the message does not end after [DONE]"))
        return found

    @cached_property
    def form(self) -> list[sse.Complaint]:
        """Where an answer that can be used departs from the form that OpenAI's API promises."""
        if self.is_stream:
            return self.complaints
        return [sse.Complaint(kind, text) for kind, text in whole_findings(self.json)]

    @property
    def is_stream(self) -> bool:
        """Whether to read it as a stream: one was asked for, and the answer is not JSON.

        Some servers ignore `stream` and send the whole answer as JSON; others send events as JSON.
        """
        return self.wants_stream and ("json" not in self.content_type or self.stream.events > 0)

    @cached_property
    def completion(self) -> Completion:
        """The answer as a chat completion, in whichever of the two forms it came."""
        if not self.is_ok:
            return Completion(problem=self.outcome())
        found = self._streamed_completion() if self.is_stream else self._whole_completion()
        if found.problem is None and not found.has_output:
            return found._replace(problem="200, but without content")
        return found

    @property
    def said(self) -> tuple[str, str]:
        """The text for the user and the thoughts, in whichever of the two forms it came. Thoughts
        that are marked by tags are in the text."""
        if self.is_stream:
            return self.stream.text, self.stream.reasoning
        message = pick(self.json, "choices", 0, "message")
        return content_in(message), thoughts_in(message)

    @cached_property
    def spent(self) -> Spent | None:
        """Whether all tokens of the answer went into thoughts; None when not."""
        asked = self.most_tokens
        if self.is_stream:
            stream = self.stream
            if stream.output_ns and not (stream.text or stream.reasoning):
                return None  # tool calls
            ending = Ending(stream.finish_reason, stream.usage, stream.timings, asked)
            return spent(stream.text, stream.reasoning, ending, is_stream=True)
        content, choice = self.json, pick(self.json, "choices", 0)
        message = pick(choice, "message")
        if not isinstance(message, dict) or message.get("tool_calls"):
            return None
        text, thoughts = content_in(message), thoughts_in(message)
        usage, timings = content.get("usage"), content.get("timings")
        ending = Ending(choice.get("finish_reason"), usage, timings, asked)
        return spent(text, thoughts, ending, is_stream=False)

    @property
    def _is_hidden(self) -> bool:
        """Whether they went into thoughts that are not shown."""
        return self.spent is not None and not self.spent.is_shown

    def _streamed_completion(self) -> Completion:
        stream, error, is_hidden = self.stream, self.stream_error, self._is_hidden
        has_output = bool(stream.output_ns) or is_hidden
        problem = error.text if error else None
        return Completion(stream.model, has_output, problem, stream.fingerprint, is_hidden)

    def _whole_completion(self) -> Completion:
        if self.coding_problem:
            return Completion(problem=f"200, but {self.coding_problem}")
        content, choice = self.json, pick(self.json, "choices", 0)
        if error_in_place_of_completion(content) is not None:
            return Completion(problem=f"{ERROR_200}: {self.words}")
        message = pick(choice, "message")
        if not isinstance(message, dict):
            what = "a web page: " if self.is_web_page else ""
            said = f"{what}{self.words}" or "nothing"
            return Completion(problem=f"200, but no chat completion: {said}")
        pieces = content_in(message), thoughts_in(message), message.get("tool_calls")
        model, mark = text_or_none(content.get("model")), content.get("system_fingerprint")
        has_output, problem = any(pieces) or self._is_hidden, None
        if has_output or choice.get("finish_reason"):  # else there is no content to be complete
            choices = [each for each in content["choices"] if isinstance(each, dict)]
            problem = next(filter(None, map(unfinished, choices)), None)
        return Completion(model, has_output, problem, text_or_none(mark), self._is_hidden)

    # times

    @property
    def handshake(self) -> Handshake | None:
        """What connecting took, for the request that opened a connection."""
        return self.reply.handshake

    @property
    def sent_ns(self) -> int | None:
        return self.reply.t0_ns

    @property
    def ended_ns(self) -> int | None:
        return self.reply.end_ns

    @property
    def begun_ns(self) -> int | None:
        """Where its times count from: when it was sent; in an open loop, when it was due."""
        return self.reply.t0_ns if self.reply.due_ns is None else self.reply.due_ns

    @property
    def index(self) -> int:
        """The number of its request, in the order in which they were begun."""
        return self.reply.index

    @property
    def due_ns(self) -> int | None:
        """When it should have been sent, in an open loop."""
        return self.reply.due_ns

    @property
    def late_ns(self) -> int | None:
        """From when it could have been sent until it was sent."""
        return self.reply.late_ns

    @property
    def lag_ns(self) -> Sequence[int]:
        """How long the bytes of each read lay unread."""
        return self.reply.lag_ns

    @property
    def first_output_ns(self) -> int | None:
        """Arrival of the first event that carries output."""
        return self.stream.output_ns[0] if self.stream.output_ns else None

    @cached_property
    def merged_lags_ns(self) -> list[int]:
        """How long the bytes of each read lay unread that brought more than one output event."""
        output_ns = self.stream.output_ns
        if len(set(output_ns)) == len(output_ns):  # events of one read have the same time
            return []
        events = Counter(output_ns)
        merged = {stamp for stamp, count in events.items() if count > 1}
        lags = dict(zip(self.reply.stamps_ns, self.reply.lag_ns, strict=True))
        return [lags[stamp] for stamp in events if stamp in merged]

    @property
    def first_output_ms(self) -> float | None:
        """From sending to the first event that carries output."""
        sent, first = self.sent_ns, self.first_output_ns
        return ms(first - sent) if sent is not None and first is not None else None

    @property
    def spent_ms(self) -> float | None:
        """From sending to the end of the answer, of a request that was sent and has ended."""
        sent, ended = self.sent_ns, self.ended_ns
        return ms(ended - sent) if sent is not None and ended is not None else None

    @property
    def answer_ms(self) -> float | None:
        """`spent_ms` of a whole answer."""
        return None if self.failure else self.spent_ms

    @property
    def first_byte_ms(self) -> float | None:
        """From sending to the first byte of the answer."""
        sent, first = self.sent_ns, self.reply.first_byte_ns
        return ms(first - sent) if sent is not None and first is not None else None

    @property
    def retry_after_s(self) -> float | None:
        """Retry-After as a number of seconds; None when it is missing or not a number."""
        return number(self.header("retry-after"))

    @cached_property
    def silence(self) -> silence.Silence | None:
        """The longest time in which nothing came; None for a request that was not sent."""
        return silence.longest(self.reply, self.stream)

    @property
    def silence_figures(self) -> dict[str, Any]:
        """The longest silence, its phase and the comments, as every record of an answer has them
        (`silence.KEYS`)."""
        return silence.figures(self.silence, self.stream.comments)

    # as it is saved

    @cached_property
    def exchange(self) -> dict[str, Any]:
        """The question and the answer, for a check that rests on it (`Check.shown_by`)."""
        return shown_exchange(self.reply, self.body)

    @property
    def kind(self) -> str:
        """What it has in common with others that would show a reader the same."""
        return f"{self.request.method} {self.path[:40]} {self.status} {self.failure_kind}"

    @property
    def extract(self) -> Extract:
        """What a level needs of it."""
        return Extract(
            self.index,
            self.is_excluded,
            self.begun_ns,
            self.sent_ns,
            self.due_ns,
            self.ended_ns,
            self.late_ns,
            self.first_output_ns,
            self.silence,
            self.lag_ns,
            self.merged_lags_ns,
            self.figures,
        )

    def record(self, start_ns: int) -> dict[str, Any]:
        """See `flat_record`. It needs nothing that `let_go` has forgotten."""
        return flat_record(self, start_ns)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """What a record has besides the times that count from the first request."""
        error, stream, reply = self.stream_error, self.stream, self.reply
        zero = self.begun_ns if self.begun_ns is not None else reply.end_ns or 0
        # as `ms`, in half the time
        before_ns = zero - 50
        times = array("d", [(stamp - before_ns) // 100 / 1e4 for stamp in stream.output_ns])
        found = decode_figures(stream, times, self.most_tokens)
        return {
            "status": self.status,
            "error": error.kind if error else None,
            "error_text": error.text if error else None,
            "ttft_ms": times[0] if times else None,
            "e2e_ms": ms(reply.end_ns - zero) if reply.end_ns and not error else None,
            **found,
            **thinking_figures(stream, times, found),
            "finish_reason": stream.finish_reason,
            "answer_id": stream.id,
            **handshake_figures(reply.handshake),
            **self.silence_figures,
            "late_ms": ms(reply.late_ns) if reply.late_ns is not None else None,
            "retry_after_s": self.retry_after_s,
            **server_figures(stream.timings or {}),
            **draft_figures(stream.timings or {}),
            "complaints": [f"{each.kind}: {each.text}" for each in self.complaints],
            "progress_events": stream.progress,
            "thoughts_only": self.spent.words() if self.spent else None,
            "event_ms": times,
        }


def records(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """A record for each answer; the time at which the first request began is 0."""
    start_ns = first_begun_ns(answers) or 0
    return [answer.record(start_ns) for answer in answers]


def first_begun_ns(answers: Iterable[Answer]) -> int | None:
    """When the first of these requests began; None when none of them did."""
    begun = (answer.begun_ns for answer in answers)
    return min((each for each in begun if each is not None), default=None)


Timed = Answer | Extract  # what tells when an answer came


def flat_record(answer: Timed, start_ns: int) -> dict[str, Any]:
    """The answer as it is saved, times in ms: `sent_ms` and `ended_ms` from `start_ns` on, the
    others (`event_ms` as well) from the beginning of the request."""
    begun, sent, ended, due = answer.begun_ns, answer.sent_ns, answer.ended_ns, answer.due_ns
    zero = begun if begun is not None else ended or start_ns
    return {
        "index": answer.index,
        **({} if due is None else {"due_ms": ms(due - start_ns)}),
        **{name: answer.figures[name] for name in OUTCOME},
        "excluded": answer.is_excluded,
        "sent_ms": ms(sent - start_ns) if sent is not None else None,
        "ended_ms": ms((ended or zero) - start_ns),
        **answer.figures,
    }


def status_kind(status: int) -> str:
    """The kind of error that a status stands for: `429`, `503`, `4xx` …"""
    return str(status) if status in (429, 503) else f"{status // 100}xx"


@lru_cache(maxsize=1)
def _large_json(body: bytes) -> Any:
    """The JSON of a large body, which takes many times its size: only that of the last one is
    kept."""
    return decode_or_none(body)


def text_or_none(value: object) -> str | None:
    """A text that is not empty; None for anything else that a server may send in its place."""
    return value if isinstance(value, str) and value else None


def handshake_figures(handshake: Handshake | None) -> dict[str, Any]:
    tls_ns = handshake.tls_ns if handshake else None
    return {
        "connect_ms": ms(handshake.connect_ns) if handshake else None,
        "tls_ms": ms(tls_ns) if tls_ns is not None else None,
    }
