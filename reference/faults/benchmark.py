"""What benchmark.py must notice."""

from __future__ import annotations

import asyncio
import functools

from aiohttp import web

from ..hooks import Answer
from .parts import (
    HUGE_LINE,
    NOT_JSON,
    Fault,
    around,
    busy,
    cut,
    endless,
    error_500,
    every_third,
    flood,
    header,
    insert,
    instead,
    invalid_utf8,
    never,
    no_content,
    no_done,
    on_events,
    one_letter_each,
    only_error,
    reset,
    stall,
    wrong_usage,
)

BENCHMARK = "benchmark.py"
SHORT = ("--timeout", "2")  # for faults that only a time-out ends

SEARCH = ("--find-capacity", "--slo", "ttft_p50=100ms", "--max-level", "2")
LATE_S = 0.2


async def late(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(LATE_S)
    return await answer(request)


_benchmark = functools.partial(Fault, script=BENCHMARK, check="requests")

ROWS: tuple[Fault, ...] = (
    Fault("ping-500", "/ping answers 500", BENCHMARK, "ping", error_500("ping")),
    Fault(
        "ping-hangs",
        "/ping never answers",
        BENCHMARK,
        "ping",
        around("ping", never),
        arguments=SHORT,
    ),
    Fault("health-500", "/health answers 500", BENCHMARK, "health", error_500("health")),
    _benchmark("inference-500", "the engine's answer is a 500", install=error_500("backend")),
    _benchmark(
        "inference-502-empty",
        "502 with an empty body: the engine is dead",
        install=instead("backend", status=502),
    ),
    _benchmark(
        "inference-503-always",
        "503 queue_full, though nobody is served",
        install=busy("backend"),
    ),
    _benchmark("some-fail", "every third request is a 500", install=every_third),
    _benchmark(
        "html-200",
        "200 with an HTML page",
        install=instead("backend", text="<html>welcome</html>", content_type="text/html"),
    ),
    _benchmark(
        "never-answers",
        "the request is accepted and never answered",
        install=around("backend", never),
        arguments=SHORT,
    ),
    _benchmark(
        "wrong-content-length",
        "the stream promises more bytes than it has",
        install=header("Content-Length", "1000000"),
        arguments=SHORT,
    ),
    _benchmark(
        "late-answers",
        "every answer begins 200 ms late, which is more than the objective allows",
        check="capacity",
        install=around("backend", late),
        arguments=SEARCH,
    ),
    _benchmark("stream-cut", "ends cleanly after a few tokens", install=on_events(cut)),
    _benchmark("stream-reset", "TCP reset after a few tokens", install=on_events(reset)),
    _benchmark(
        "stream-stalls",
        "silence after a few tokens, connection open",
        install=on_events(stall),
        arguments=SHORT,
    ),
    _benchmark(
        "stream-endless",
        "tokens for ever, at a normal pace",
        install=on_events(endless),
        arguments=SHORT,
    ),
    _benchmark(
        "flood",
        "events for ever, as fast as they can be read",
        install=on_events(flood),
        arguments=SHORT,
    ),
    _benchmark(
        "stream-error-event",
        "an error object inside the 200 stream, then [DONE]",
        install=on_events(only_error),
    ),
    _benchmark(
        "stream-not-json",
        "one event in the midst is no JSON",
        install=on_events(functools.partial(insert, NOT_JSON)),
    ),
    _benchmark(
        "stream-huge-line",
        "one event in the midst is a line of 10 MB",
        install=on_events(functools.partial(insert, HUGE_LINE)),
    ),
    _benchmark(
        "stream-invalid-utf8",
        "the text is not UTF-8",
        install=on_events(invalid_utf8),
    ),
    _benchmark(
        "stream-empty",
        "a role and a finish_reason, no content",
        install=on_events(no_content),
    ),
    _benchmark(
        "no-done",
        "the stream lacks its [DONE]",
        check="stream",
        status="WARN",
        install=on_events(no_done),
    ),
    _benchmark(
        "wrong-content-type",
        "the stream is called application/json",
        check="stream",
        status="WARN",
        install=header("Content-Type", "application/json"),
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
        "one event for each letter: more events than tokens",
        check="tokens",
        status="WARN",
        install=on_events(one_letter_each),
    ),
)
