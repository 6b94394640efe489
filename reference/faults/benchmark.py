"""The faults that benchmark.py must notice."""

from __future__ import annotations

import functools
from collections.abc import Callable

from aiohttp import web

from ..hooks import Handler
from . import stream_texts as texts
from .answers import (
    APP,
    DETAIL_200,
    always_full,
    error_200,
    error_500,
    every_third_fails,
    instead,
    json_200,
    never_answer,
)
from .conditions import every, only, streams
from .fault import Fault, Install
from .planting import all_of, around, late, on_events, stream_header
from .progress import IN_EVERY_STREAM
from .streams import (
    HUGE_LINE,
    NOT_JSON,
    Events,
    change_chunks,
    changing_ids,
    cut,
    endless,
    error_event,
    error_in_named_event,
    finish,
    flood,
    insert,
    invalid_utf8,
    lost_characters,
    no_content,
    no_done,
    one_letter_each,
    reset,
    stall,
    usage_has_own_id,
    usage_with_null_choices,
    usage_without_choices,
    with_pings,
    without_field,
    wrong_usage,
)

BENCHMARK = "benchmark.py"
SHORT_TIMEOUT = ("--timeout", "2")  # for faults that only a time-out ends
FIND_CAPACITY = ("--find-capacity", "--slo", "ttft_p50=100ms", "--max-level", "2")
LATE_S = 0.2
TOO_LATE_S = 1.3  # later than Kubernetes waits for a probe
answer_late, answer_too_late = late(LATE_S), late(TOO_LATE_S)


def counts_tokens_for(where: str) -> Install:
    """Each request to this endpoint asks the model, and /metrics counts the tokens, as vLLM's."""
    tokens = 0

    async def ask_model(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal tokens
        tokens += 5
        return await handler(request)

    async def metrics(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f'vllm:generation_tokens_total{{engine="0"}} {tokens}.0\n')

    return all_of(around(where, ask_model), around("metrics", metrics))


_benchmark = functools.partial(Fault, script=BENCHMARK, check="requests")
_quickly = functools.partial(_benchmark, arguments=SHORT_TIMEOUT)
_stream = functools.partial(_benchmark, check="stream")

Changes = tuple[tuple[str, str, Callable[[Events], Events]], ...]  # names, what is broken, how
FAILED: Changes = (  # nothing shows that such an answer is whole
    ("given-up-error", "streams end with the finish_reason error", finish("error")),
    ("reason-empty", "streams end with an empty finish_reason", finish("")),
    (
        "reason-first",
        "the finish_reason of a stream comes with its first text, and none at its end",
        texts.reason_first,
    ),
)
BREACHES: Changes = (  # such a stream can be read, so that there are figures
    (
        "reason-everywhere",
        "each event of a stream has the finish_reason stop",
        texts.reason_everywhere,
    ),
    (
        "reason-changes",
        "streams end with the finish_reason stop, then with length",
        texts.ends_with("stop", "length"),
    ),
    (
        "reason-null-text",
        "events have the text null as finish_reason, where it should be null",
        texts.unfinished_as("null"),
    ),
    (
        "usage-chunk-null",
        "the chunk with the usage has null in place of its choices",
        change_chunks(usage_with_null_choices),
    ),
    (
        "cumulative",
        "each event of a stream has all the text before it once more",
        texts.cumulative,
    ),
    (
        "text-again",
        "the last event with text has the whole text once more",
        texts.whole_text_last,
    ),
    ("events-twice", "each event with text comes twice", texts.each_twice),
    (
        "thoughts-too",
        "the text of a stream is in its content and in its reasoning_content",
        texts.as_thoughts_too,
    ),
    ("content-parts", "the content of events is a list of parts", texts.content_as(texts.as_parts)),
    ("content-number", "the content of events is a number", texts.content_as(len)),
)
ODDITIES: Changes = (
    (
        "reason-twice",
        "the finish_reason of a stream comes twice",
        texts.ends_with("length", "length"),
    ),
    (
        "thoughts-copied",
        "the content of a stream is the same text as the thoughts before it",
        texts.thoughts_first(copies=True),
    ),
)

ROWS: tuple[Fault, ...] = (
    _benchmark("ping-500", "/ping answers 500", check="ping", install=error_500("ping")),
    _quickly(
        "ping-hangs", "/ping never answers", check="ping", install=around("ping", never_answer)
    ),
    _benchmark("health-500", "/health answers 500", check="health", install=error_500("health")),
    _benchmark(
        "ping-404",
        "the guide's gateway has no /ping any more",
        check="ping",
        install=instead("ping", status=404),
    ),
    _benchmark(
        "health-404",
        "the guide's gateway has no /health any more",
        check="health",
        install=instead("health", status=404),
    ),
    _benchmark(
        "stream-refused-in-200",
        "streams are a 200 whose event stream is the JSON of a framework's error",
        install=only(streams, DETAIL_200),
    ),
    _benchmark(
        "ping-app",
        "the guide's gateway answers /ping with the page of a web application",
        check="ping",
        install=instead("ping", **APP),
    ),
    _benchmark(
        "health-app",
        "/health is the page of a web application",
        check="health",
        status="WARN",
        install=all_of(instead("health", **APP), instead("metrics", **APP)),
    ),
    _benchmark(
        "ping-too-late",
        "/ping needs longer than a probe may take",
        check="ping",
        status="WARN",
        install=around("ping", answer_too_late),
    ),
    _benchmark(
        "health-too-late",
        "/health needs longer than a probe may take",
        check="health",
        status="WARN",
        install=around("health", answer_too_late),
    ),
    _benchmark(
        "health-late",
        "/health needs as long as a short answer of a model",
        check="health",
        status="WARN",
        install=around("health", answer_late),
    ),
    _benchmark(
        "health-asks-models",
        "/health asks every model for an answer, and lists those that gave one, as LiteLLM's does",
        check="health",
        status="WARN",
        install=json_200("health", {"healthy_endpoints": [{"model": "m"}]}),
    ),
    _benchmark(
        "health-costs-tokens",
        "/health asks the model, which /metrics counts",
        check="health",
        status="WARN",
        install=counts_tokens_for("health"),
    ),
    _benchmark(
        "ping-costs-tokens",
        "/ping asks the model, which /metrics counts",
        check="ping",
        status="WARN",
        install=counts_tokens_for("ping"),
    ),
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
    _benchmark(
        "error-200",
        "every third answer is a 200 with an error",
        install=only(every(3), error_200("backend")),
    ),
    _benchmark(
        "lost-characters",
        "the text of a stream has U+FFFD in place of a character",
        check="stream",
        status="WARN",
        install=on_events(lost_characters),
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
        "stream-progress",
        "streams begin with a place in a queue, as content",
        check="stream",
        status="WARN",
        install=IN_EVERY_STREAM,
    ),
    _benchmark(
        "no-done",
        "streams have no [DONE]",
        check="stream",
        install=on_events(no_done),
    ),
    _benchmark(
        "usage-chunk-bare",
        "the chunk with the usage has no choices",
        check="stream",
        install=on_events(change_chunks(usage_without_choices)),
    ),
    _benchmark(
        "created-missing",
        "the chunks of a stream have no created",
        check="stream",
        install=on_events(without_field("created")),
    ),
    _benchmark(
        "ids-change",
        "every chunk has another id",
        check="stream",
        install=on_events(changing_ids),
    ),
    _benchmark(
        "usage-id",
        "the chunk with the usage has an id of its own",
        check="stream",
        install=on_events(usage_has_own_id),
    ),
    _benchmark(
        "given-up",
        "streams end with the finish_reason abort",
        install=on_events(finish("abort")),
    ),
    _benchmark(
        "dialect",
        "streams end with the finish_reason eos",
        check="stream",
        status="WARN",
        install=on_events(finish("eos")),
    ),
    *(_benchmark(name, breaks, install=on_events(change)) for name, breaks, change in FAILED),
    *(_stream(name, breaks, install=on_events(change)) for name, breaks, change in BREACHES),
    *(_stream(name, breaks, install=on_events(c), status="WARN") for name, breaks, c in ODDITIES),
    _benchmark(
        "stream-pings",
        "streams have events of the name ping",
        check="stream",
        status="WARN",
        install=on_events(with_pings),
    ),
    _benchmark(
        "stream-named-error",
        "the error in a stream is an event with a name of its own",
        install=on_events(error_in_named_event),
    ),
    _benchmark(
        "wrong-content-type",
        "streams have the content type application/json",
        check="stream",
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
