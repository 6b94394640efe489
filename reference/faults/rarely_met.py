"""What a check says in few situations: the warnings and failures that no other row provokes."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from aiohttp import web

from .answers import (
    APP,
    always_full,
    change_json,
    error_500,
    every_third_fails,
    instead,
    never_answer,
)
from .benchmark import BENCHMARK, FIND_CAPACITY, answer_late, answer_too_late
from .completion_forms import QUEUE_OF_TWO
from .completions import answer_text, when, when_given
from .conditions import Asked, after, every, no_streams, number_is, only
from .cors import CORS, ORIGIN, always, change_headers, is_preflight, without
from .fault import Fault
from .fleet_changes import names_model
from .model_routing import PERMISSIONS
from .model_routing import SCRIPT as ROUTING
from .openai_sdk import SDK, accept_everything, authorize
from .planting import all_of, around, nothing, on_events
from .scale_to_zero import COUNT_WORKERS, QUICK, SLEEPY
from .scale_to_zero import SCRIPT as SCALE
from .streams import lost_characters, reset
from .streams import no_content as no_text
from .thinking import HIDDEN_THOUGHTS
from .wol import ASLEEP, WOL, lists_runners

SHORT_TIMEOUT = ("--timeout", "2")
NUMBERS = itertools.count()
LEVEL = ("--inference-only",)
FULL_QUEUE = {**QUEUE_OF_TWO, "output_tokens": 1600}

_benchmark = functools.partial(Fault, script=BENCHMARK, arguments=LEVEL)
_cors = functools.partial(
    Fault,
    script=CORS,
    options={"cors_origins": ORIGIN},
    arguments=("--origin", ORIGIN, *SHORT_TIMEOUT),
)

_fleet = functools.partial(Fault, profile="fleet", arguments=SHORT_TIMEOUT)
_sdk = functools.partial(Fault, script=SDK)


def from_elsewhere(asked: Asked) -> bool:
    """Those of a page that is not the allowed one."""
    return asked.request.headers.get("Origin") not in (None, ORIGIN)


def is_unknown(asked: Asked) -> bool:
    return str(asked.fields.get("model")).startswith("no-such")


def says_stopped(fields: dict[str, Any]) -> None:
    fields["backend"]["status"] = "stopped"


def old_headers(response: web.StreamResponse, origin: str) -> None:
    response.headers["Access-Control-Allow-Headers"] = "authorization, content-type"


def fixed_origin(response: web.StreamResponse, origin: str) -> None:
    response.headers["Access-Control-Allow-Origin"] = ORIGIN
    response.headers.popall("Vary", None)


def no_content(fields: dict[str, Any]) -> dict[str, Any]:
    found = answer_text("")(fields)
    found["choices"][0]["message"] |= {"content": None, "reasoning_content": "Let me think."}
    return found


ROWS: tuple[Fault, ...] = (
    _benchmark(
        "some-fail-allowed",
        "every third answer is a 500, and half of them may fail",
        check="requests",
        status="WARN",
        install=every_third_fails,
        arguments=(*LEVEL, "--slo", "error_rate=50%"),
        says="within the 50.00% allowed",
    ),
    _benchmark(
        "some-thoughts-only",
        "in every second answer all tokens are thoughts that are not shown",
        check="requests",
        status="WARN",
        install=only(every(2), HIDDEN_THOUGHTS),
    ),
    _benchmark(
        "warm-up-fails",
        "the first request is answered with a 500",
        check="requests",
        status="WARN",
        install=only(number_is(1), error_500("backend")),
        says="warm-up",
    ),
    _benchmark(
        "late-for-objective",
        "every answer begins 200 ms late, which is more than the objective allows",
        check="slo:ttft_p50",
        install=around("backend", answer_late),
        arguments=(*LEVEL, "--slo", "ttft_p50=100ms"),
    ),
    _benchmark(
        "depth-500",
        "a short prompt, of which the tokens are to be counted, is answered with a 500",
        check="requests",
        install=error_500("backend"),
        arguments=(*LEVEL, "--depth", "200"),
        says="tokens were to be counted",
    ),
    _benchmark(
        "capacity-falls-silent",
        "after a level that keeps the objectives nothing is answered any more",
        check="capacity",
        status="WARN",
        install=only(after(8), around("backend", never_answer)),
        arguments=(*LEVEL, *FIND_CAPACITY, *SHORT_TIMEOUT),
        says="the levels between were not tried",
    ),
    _benchmark(
        "direct-fails",
        "some requests to the inference server itself fail",
        check="cost",
        status="WARN",
        install=only(every(7), error_500("backend")),
        arguments=(
            *LEVEL,
            *("--direct-url", "{inference_url}", "--direct-key", "{inference_api_key}"),
            *("--requests", "30", "--slo", "error_rate=60%"),
        ),
        says="requests to the inference server failed",
    ),
    _benchmark(
        "ping-late-once",
        "one /ping takes longer than a probe may",
        check="ping",
        status="WARN",
        install=only(number_is(4), around("ping", answer_too_late)),
        arguments=("--gateway-only",),
        says="probes took more than",
    ),
    _cors(
        "cors-silent",
        "requests are accepted and never answered",
        check="answer",
        install=around("all", never_answer),
    ),
    _cors(
        "cors-others-silent",
        "requests of a page that is not allowed are never answered",
        check="others",
        install=only(from_elsewhere, around("all", never_answer)),
    ),
    _cors(
        "cors-fixed-origin",
        "every page is sent the same allowed origin, and no Vary",
        check="vary",
        status="WARN",
        install=change_headers(always, fixed_origin),
    ),
    _cors(
        "cors-nothing-exposed",
        "no answer lets the page see its Retry-After",
        check="exposed",
        status="WARN",
        install=change_headers(always, without("Access-Control-Expose-Headers")),
    ),
    _cors(
        "cors-old-headers",
        "preflights allow the headers authorization and content-type alone",
        check="sdk_headers",
        status="WARN",
        install=change_headers(is_preflight, old_headers),
    ),
    Fault(
        "routing-unknown-hangs",
        "a request for an unknown model is never answered",
        ROUTING,
        "unknown_model",
        only(is_unknown, around("inference", never_answer)),
        "WARN",
        arguments=("--timeout", "3", "--only", "class", "unknown_model"),
        profile="fleet",
    ),
    Fault(
        "sdk-anybody",
        "anybody is served, also with a wrong key, and /health does not say whether that is meant",
        SDK,
        "wrong_key",
        all_of(authorize(accept_everything), instead("health", text="ok")),
        "WARN",
        arguments=("--only", "completion", "wrong_key"),
    ),
    Fault(
        "sdk-thoughts-alone",
        "an answer has thoughts and no content, though it has ended by itself",
        SDK,
        "completion",
        when(no_streams, no_content),
        "WARN",
        arguments=("--only", "completion"),
    ),
    Fault(
        "sdk-seed-ignored",
        "requests with the same seed get different answers",
        SDK,
        "seed",
        when_given("seed", lambda fields: answer_text(str(next(NUMBERS)))(fields)),
        "WARN",
        arguments=("--only", "completion", "seed"),
    ),
    Fault(
        "scale-counts-others",
        "the deployment never sleeps, and the count of workers says that it does",
        SCALE,
        "cold_start",
        only(after(6), change_json("health", says_stopped)),
        "WARN",
        {**SLEEPY, "idle_timeout": 0},
        (*QUICK, "--no-control", *COUNT_WORKERS),
    ),
    Fault(
        "scale-second-slow",
        "the first request after the cold start is as slow as that",
        SCALE,
        "warm_again",
        only(number_is(6), around("backend", answer_too_late)),
        "WARN",
        SLEEPY,
        (*QUICK, "--no-control", *COUNT_WORKERS),
    ),
    Fault(
        "scale-count-fails",
        "the command that counts the workers fails",
        SCALE,
        "workers",
        nothing,
        "WARN",
        SLEEPY,
        (*QUICK, "--no-control", "--workers-command", "false"),
    ),
    Fault(
        "wol-nameless-offline",
        "the answer names no model, and after it nobody is online",
        WOL,
        "registered",
        all_of(names_model(lambda place: ""), lists_runners(lambda runner: {"is_online": False})),
        "FAIL",
        ASLEEP,
        ("--timeout", "5"),
        "fleet",
        says="shows nobody online",
    ),
    Fault(
        "tools-never-answers",
        "requests with tools are never answered",
        "test_tools.py",
        "requests",
        around("backend", never_answer),
        options={"skills": "tools"},
        arguments=("--repeat", "1", *SHORT_TIMEOUT),
    ),
    Fault(
        "queue-health-silent",
        "/health has no figures of the queue while it is full",
        "test_queue.py",
        "health",
        only(after(1), instead("health", status=500)),
        options=FULL_QUEUE,
    ),
    Fault(
        "queue-metrics-silent",
        "/metrics is not answered any more",
        "test_queue.py",
        "metrics",
        only(after(1), instead("metrics", status=500)),
        options=FULL_QUEUE,
    ),
    _fleet(
        "auth-silent",
        "requests are accepted and never answered",
        script="test_auth.py",
        check="control",
        install=around("inference", never_answer),
    ),
    _fleet(
        "workload-silent",
        "requests are accepted and never answered",
        script="test_workload_routing.py",
        check="requests",
        install=around("inference", never_answer),
        arguments=("--requests", "4", *SHORT_TIMEOUT),
    ),
    _fleet(
        "routing-unknown-page",
        "a request for an unknown model gets a 200 with a web page",
        script=ROUTING,
        check="unknown_model",
        install=only(is_unknown, instead("inference", **APP)),
        arguments=("--only", "class", "unknown_model"),
        says="that is not a refusal",
    ),
    _fleet(
        "routing-admin-silent",
        "/admin/runners never answers",
        script=ROUTING,
        check="role_none",
        install=around("runners", never_answer),
        arguments=(*PERMISSIONS, *SHORT_TIMEOUT),
    ),
    _sdk(
        "sdk-lost-characters-all",
        "the text of streams has U+FFFD in place of a character",
        check="answers",
        status="WARN",
        install=on_events(lost_characters),
        arguments=("--only", "completion", "stream", "answers"),
    ),
    _sdk(
        "sdk-wire-reset",
        "streams end with a TCP reset after a few tokens",
        check="wire",
        install=on_events(reset),
        arguments=("--only", "completion", "wire"),
    ),
    _sdk(
        "sdk-pacing-empty",
        "streams have no content whose pace could be told",
        check="pacing",
        install=on_events(no_text),
        arguments=("--only", "completion", "pacing"),
    ),
    Fault(
        "queue-refuses-all",
        "every request of the burst is refused, although slots are free",
        "test_queue.py",
        "served",
        only(after(1), around("inference", always_full)),
        options=FULL_QUEUE,
    ),
    _cors(
        "cors-500",
        "every answer to the allowed page is a 500",
        check="answer",
        install=error_500("backend"),
    ),
)
