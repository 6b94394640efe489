"""The faults that benchmark.py must notice."""

from __future__ import annotations

import asyncio
import functools

from aiohttp import web

from ..hooks import Handler
from .answers import always_full, error_500, every_third_fails, instead, never_answer
from .fault import Fault
from .planting import around, on_events, stream_header
from .streams import (
    HUGE_LINE,
    NOT_JSON,
    cut,
    endless,
    error_event,
    flood,
    insert,
    invalid_utf8,
    no_content,
    no_done,
    one_letter_each,
    reset,
    stall,
    wrong_usage,
)

BENCHMARK = "benchmark.py"
SHORT_TIMEOUT = ("--timeout", "2")  # for faults that only a time-out ends
FIND_CAPACITY = ("--find-capacity", "--slo", "ttft_p50=100ms", "--max-level", "2")
LATE_S = 0.2


async def answer_late(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(LATE_S)
    return await handler(request)


_benchmark = functools.partial(Fault, script=BENCHMARK, check="requests")
_quickly = functools.partial(_benchmark, arguments=SHORT_TIMEOUT)

ROWS: tuple[Fault, ...] = (
    _benchmark("ping-500", "/ping answers 500", check="ping", install=error_500("ping")),
    _quickly(
        "ping-hangs", "/ping never answers", check="ping", install=around("ping", never_answer)
    ),
    _benchmark("health-500", "/health answers 500", check="health", install=error_500("health")),
    _benchmark("inference-500", "every answer is a 500", install=error_500("backend")),
    _benchmark(
        "inference-502-empty",
        "every answer is a 502 with an empty body, as if the engine were dead",
        install=instead("backend", status=502),
    ),
    _benchmark(
        "inference-503-always",
        "every answer is a 503 queue_full although no request is served",
        install=around("backend", always_full),
    ),
    _benchmark("some-fail", "every third answer is a 500", install=every_third_fails),
    _benchmark(
        "html-200",
        "every answer is a 200 with an HTML page",
        install=instead("backend", text="<html>welcome</html>", content_type="text/html"),
    ),
    _quickly(
        "never-answers",
        "requests are accepted and never answered",
        install=around("backend", never_answer),
    ),
    _quickly(
        "wrong-content-length",
        "the Content-Length of a stream is larger than the stream",
        install=stream_header("Content-Length", "1000000"),
    ),
    _benchmark(
        "late-answers",
        "every answer begins 200 ms late, which is more than the objective allows",
        check="capacity",
        install=around("backend", answer_late),
        arguments=FIND_CAPACITY,
    ),
    _benchmark("stream-cut", "streams end after a few tokens", install=on_events(cut)),
    _benchmark(
        "stream-reset", "streams end with a TCP reset after a few tokens", install=on_events(reset)
    ),
    _quickly(
        "stream-stalls",
        "streams are silent after a few tokens, and the connection stays open",
        install=on_events(stall),
    ),
    _quickly(
        "stream-endless",
        "streams never end; tokens come at a normal pace",
        install=on_events(endless),
    ),
    _quickly(
        "flood",
        "streams never end; events come as fast as they can be read",
        install=on_events(flood),
    ),
    _benchmark(
        "stream-error-event",
        "streams with status 200 contain an error object, then [DONE]",
        install=on_events(error_event),
    ),
    _benchmark(
        "stream-not-json",
        "one event in the middle of a stream is not JSON",
        install=on_events(functools.partial(insert, NOT_JSON)),
    ),
    _benchmark(
        "stream-huge-line",
        "one event in the middle of a stream is a line of 10 MB",
        install=on_events(functools.partial(insert, HUGE_LINE)),
    ),
    _benchmark(
        "stream-invalid-utf8",
        "the text of a stream is not valid UTF-8",
        install=on_events(invalid_utf8),
    ),
    _benchmark(
        "stream-empty",
        "streams have a role and a finish_reason, but no content",
        install=on_events(no_content),
    ),
    _benchmark(
        "no-done",
        "streams have no [DONE]",
        check="stream",
        status="WARN",
        install=on_events(no_done),
    ),
    _benchmark(
        "wrong-content-type",
        "streams have the content type application/json",
        check="stream",
        status="WARN",
        install=stream_header("Content-Type", "application/json"),
    ),
    _benchmark(
        "usage-wrong",
        "usage counts three tokens too many",
        check="tokens",
        status="WARN",
        install=on_events(wrong_usage),
    ),
    _benchmark(
        "split-events",
        "streams have one event for each letter: more events than tokens",
        check="tokens",
        status="WARN",
        install=on_events(one_letter_each),
    ),
)
