"""benchmark.py as an operator runs it: argv in, exit code, both outputs and files out."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.bench import KEY, SPARE_S, SUMMARY, bench, detail, level, quick, status
from helpers.hostile import (
    CHAT,
    DONE,
    HEAD,
    Answer,
    Call,
    Server,
    delta,
    error,
    event,
    first,
    good_stream,
    hang,
    in_turn,
    response,
    timings,
    usage,
)
from helpers.scripts import Finished, run_script

import benchmark
from livecheck.wire import metrics
from reference import Deployment, running

SOMEWHERE = ("--url", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    "arguments",
    [
        (*SOMEWHERE, "--concurrency", "0"),
        (*SOMEWHERE, "--concurrency", "4", "x"),
        (*SOMEWHERE, "--requests", "-1"),
        (*SOMEWHERE, "--requests", "0"),
        (*SOMEWHERE, "--requests", "1.5"),
        (*SOMEWHERE, "--warmup", "-1"),
        (*SOMEWHERE, "--max-tokens", "0"),
        (*SOMEWHERE, "--timeout", "0"),
        (*SOMEWHERE, "--timeout", "nan"),
        (*SOMEWHERE, "--slo", "speed_p50=5ms"),
        (*SOMEWHERE, "--slo", "ttft_p42=5ms"),
        (*SOMEWHERE, "--slo", "ttft_p50=500"),
        (*SOMEWHERE, "--slo", "ttft_p50"),
        (*SOMEWHERE, "--slo", "ttft_p50=fast"),
        (*SOMEWHERE, "--slo", "tokens_per_s_mean=20ms"),
        (*SOMEWHERE, "--slo", "error_rate=2"),
        (*SOMEWHERE, "--gateway-only", "--inference-only"),
        (*SOMEWHERE, "--only", "speed"),
        (*SOMEWHERE, "--output", "xml"),
        (*SOMEWHERE, "--colour"),
        ("--url", "host:8000"),
        ("--url", "ftp://host"),
        ("--url", "http://"),
        (),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_costs_exit_2_and_one_line(arguments: tuple[str, ...]) -> None:
    finished = run_script("benchmark.py", *arguments)
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith("benchmark.py: ")
    assert finished.err.count("\n") == 1
    assert not finished.results.exists()


# --- what is sent


@pytest.mark.parametrize(
    ("warmup", "concurrency", "expected"),
    [(0, 1, 0), (0, 4, 0), (1, 1, 1), (1, 4, 4), (2, 1, 2), (5, 4, 5)],
)
def test_warm_ups_are_at_least_one_a_slot_and_0_is_0(
    warmup: int, concurrency: int, expected: int
) -> None:
    with Server() as server:
        arguments = ("--warmup", warmup, "--concurrency", concurrency, "--requests", 5)
        finished = quick(server, *arguments)
    assert finished.code == 0
    assert server.count() == expected + 5
    document = level(finished, concurrency)
    assert document["metrics"]["warmup"] == {"requests": expected, "failed": 0}
    assert len(document["requests"]) == 5


def test_every_prompt_has_a_line_of_its_own_the_warm_up_too() -> None:
    with Server() as server:
        finished = quick(server, "--concurrency", 1, 2, "--prompt", "Say hello")
    lines, prompts = zip(*(call.prompt.split("\n") for call in server.to(CHAT)), strict=True)
    assert len(set(lines)) == len(lines) == 1 + 2 + 2 + 2
    assert set(prompts) == {"Say hello"}
    assert max(map(len, lines)) <= 16
    assert "unique" in finished.out and level(finished)["metrics"]["prompt"] == "unique"


def test_with_same_prompt_all_prompts_are_the_operators_and_the_output_says_so() -> None:
    with Server() as server:
        finished = quick(server, "--same-prompt", "--prompt", "Say hello")
    assert {call.prompt for call in server.to(CHAT)} == {"Say hello"}
    assert "a prompt cache may save the prefill" in finished.out
    assert level(finished)["metrics"]["prompt"] == "same"


def test_the_request_is_a_streamed_completion_that_asks_for_usage() -> None:
    with Server() as server:
        quick(server, "--max-tokens", 17)
    fields = server.to(CHAT)[0].fields
    assert fields["stream"] is True and fields["max_tokens"] == 17
    assert fields["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("models", "arguments", "expected"),
    [
        (response(200, {"data": [{"id": "alpha"}, {"id": "beta"}]}), (), "alpha"),
        (response(200, {"data": [{"id": "alpha"}]}), ("--model", "own"), "own"),
        (response(404), (), "local-model"),
        (response(500), (), "local-model"),
        (response(200, {"data": []}), (), "local-model"),
        (response(200, {"data": [{"id": 7}]}), (), "local-model"),
        (response(200, b"<html>"), (), "local-model"),
        (response(200, b'{"data":' * 50_000), (), "local-model"),
    ],
)
def test_the_model_is_the_first_listed_else_local_model(
    models: Answer, arguments: tuple[str, ...], expected: str
) -> None:
    with Server(answers={"/v1/models": models}) as server:
        finished = quick(server, *arguments)
    assert finished.code == 0
    # Without a list of models, an empty request has asked first whether there are completions.
    assert {call.fields["model"] for call in server.to(CHAT) if call.fields} == {expected}
    assert level(finished)["target"]["model"] == expected


def test_url_and_key_come_from_the_environment_and_from_dotenv(sim: Deployment) -> None:
    few = ("--inference-only", "--requests", 1, "--max-tokens", 4)
    settings = {"INFERENCE_URL": sim.url, "INFERENCE_API_KEY": sim.api_key}
    assert run_script("benchmark.py", *few, env=settings).code == 0
    Path(".env").write_text(f"INFERENCE_URL={sim.url}/v1\nINFERENCE_API_KEY={sim.api_key}\n")
    assert run_script("benchmark.py", *few).code == 0
    wrong = run_script("benchmark.py", *few, env={"INFERENCE_API_KEY": KEY})
    assert wrong.code == 3, "the environment wins over .env"


def test_gateway_only_sends_no_completion() -> None:
    with Server() as server:
        finished = bench(server, "--gateway-only", "--requests", 7, "--warmup", 2)
    assert finished.code == 0
    assert {call.path for call in server.calls} == {"/ping", "/health", "/metrics"}
    assert server.count("/ping") == server.count("/health") == 1 + 2 + 7
    assert finished.document("gateway_overhead")["metrics"]["gateway"]["ping_ms"]["n"] == 7
    assert not (finished.results / "inference_c1.json").exists()


def test_inference_only_probes_nothing() -> None:
    with Server() as server:
        finished = quick(server)
    assert {call.path for call in server.calls} == {"/v1/models", CHAT}
    assert not (finished.results / "gateway_overhead.json").exists()
    assert level(finished)["metrics"]["gateway"] is None


def test_a_full_run_probes_at_least_50_times() -> None:
    with Server() as server:
        finished = bench(server, "--requests", 2)
    assert level(finished)["metrics"]["gateway"]["ping_ms"]["n"] == 50
    assert status(finished, "ping") == status(finished, "health") == "PASS"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--only", "requests"), {"requests", "slo:ttft_p50"}),  # a given bound is meant
        (("--only", "requests", "tokens"), {"requests", "tokens", "slo:ttft_p50"}),
        (("--skip", "client", "slo"), {"requests", "stream", "pacing", "tokens"}),
    ],
)
def test_only_and_skip_choose_the_checks(
    arguments: tuple[str, ...], expected: set[str], sim: Deployment
) -> None:
    finished = quick(sim, *arguments, "--slo", "ttft_p50=9s")
    assert {check["name"] for check in level(finished)["checks"]} == expected


def test_when_all_fail_no_allowance_makes_it_a_pass() -> None:
    with Server(chat=response(500)) as server:
        finished = quick(server, "--slo", "error_rate=100%")
    assert finished.code == 1 and status(finished, "requests") == "FAIL"


def test_a_level_gets_a_request_for_each_of_its_slots(sim: Deployment) -> None:
    finished = quick(sim, "--concurrency", 5, "--requests", 2)
    assert len(finished.document("inference_c5")["requests"]) == 5


def test_a_server_that_stops_answering_costs_two_time_outs_not_all() -> None:
    left = iter(range(2))  # the warm-up and the first request

    def answer(call: Call) -> None:
        if next(left, None) is None:
            call.wait()
        call.send(HEAD + good_stream())

    with Server(chat=answer) as server:
        started = time.monotonic()
        finished = quick(server, "--timeout", 1, "--requests", 9)
    assert finished.code == 1
    assert time.monotonic() - started < 2 + SPARE_S


def test_only_ping_needs_no_completion_and_only_requests_no_probe() -> None:
    with Server() as server:
        assert bench(server, "--only", "ping", "--requests", 2).code == 0
        assert server.count() == 0
    with Server() as server:
        assert bench(server, "--only", "requests", "--requests", 2).code == 0
        assert server.count("/ping") == 0


# --- tokens and events


def refuses_stream_options(then: bytes, code: int = 400) -> Callable[[Call], None]:
    def answer(call: Call) -> None:
        refused = "stream_options" in call.fields
        call.send(error(code, "unknown field stream_options") if refused else then)

    return answer


@pytest.mark.parametrize(
    ("stream", "source", "count"),
    [
        (good_stream(3, usage(7)), "usage", 7),
        (good_stream(3, timings(6)), "timings", 6),
        (good_stream(3, b""), "events", 3),
        (good_stream(3, usage(7) + timings(6)), "usage", 7),
        (good_stream(3, usage(None) + timings(6)), "timings", 6),
    ],
    ids=["usage", "timings", "events", "both", "empty usage"],
)
def test_tokens_come_from_usage_else_timings_else_events(
    stream: bytes, source: str, count: int
) -> None:
    with Server(chat=HEAD + stream) as server:
        finished = quick(server)
    assert finished.code == 0
    records = level(finished)["requests"]
    assert {(each["token_source"], each["output_tokens"]) for each in records} == {(source, count)}
    assert {each["output_events"] for each in records} == {3}
    line = re.search(r"^  tokens counted by +(.*)", finished.out, re.MULTILINE)
    assert line and source in line[1]


@pytest.mark.parametrize(("warmup", "code"), [(0, 400), (1, 422), (3, 400)])
def test_a_server_that_refuses_stream_options_is_asked_once_without(warmup: int, code: int) -> None:
    with Server(chat=refuses_stream_options(HEAD + good_stream(3, timings(3)), code)) as server:
        finished = quick(server, "--warmup", warmup)
    assert finished.code == 0
    assert server.count() == 1 + warmup + 2
    assert sum("stream_options" in call.fields for call in server.to(CHAT)) == 1
    assert "timings" in detail(finished, "tokens") and "stream_options" in detail(
        finished, "tokens"
    )
    assert level(finished)["metrics"]["errors"] == {}


def test_a_400_that_stays_is_a_failure() -> None:
    with Server(chat=error(400, "max_tokens is too large")) as server:
        finished = quick(server)
    assert finished.code == 1
    assert level(finished)["metrics"]["errors"] == {"4xx": 2}
    assert "max_tokens is too large" in detail(finished, "requests")


@pytest.mark.parametrize(
    ("stream", "wanted", "words"),
    [
        (good_stream(3, usage(3) + timings(5)), "WARN", "usage and timings disagree"),
        (good_stream(9, usage(6)), "WARN", "more events than tokens"),
        (good_stream(9, usage(3)), "WARN", "fewer tokens are counted than the text has"),
        (good_stream(9, usage(11)), "WARN", "more than max_tokens, as 11 of 8"),
        (good_stream(3, b""), "WARN", "events were counted"),
        (good_stream(3, usage(7)), "PASS", "14 output tokens"),
        (good_stream(3, usage(3) + timings(3)), "PASS", "6 output tokens"),
    ],
)
def test_doubtful_token_counts_are_a_warning(stream: bytes, wanted: str, words: str) -> None:
    with Server(chat=HEAD + stream) as server:
        finished = quick(server)
        strict = quick(server, "--strict", "--skip", "client")
    assert (finished.code, strict.code) == (0, 1 if wanted == "WARN" else 0)
    assert words in detail(strict, "tokens")
    assert status(strict, "tokens") == ("FAIL" if wanted == "WARN" else "PASS")


@pytest.mark.parametrize(
    "counts",
    [
        [-5, 0, True, "7", "many", [3], {"n": 3}, 1.5, 10**30, "nan"],
        [10**400, "inf"],
    ],
    ids=["odd", "infinite"],
)
def test_counts_that_cannot_be_true_break_neither_the_run_nor_its_output(
    counts: list[object],
) -> None:
    streams = [HEAD + good_stream(3, usage(each) + timings(each, each)) for each in counts]
    with Server(chat=in_turn(*streams)) as server:
        finished = quick(server, "--warmup", 0, "--requests", len(counts))
    assert finished.code == 0
    assert level(finished)["metrics"]["ttft_ms"]["n"] == len(counts)


@pytest.mark.parametrize(
    "waits",
    [["5", "soon", "", "7"], ["5", "nan", "inf", "9" * 400, "7"]],
    ids=["odd", "infinite"],
)
def test_every_retry_after_that_is_a_number_is_reported(waits: list[str]) -> None:
    answers = [error(503, "busy", retry_after=wait) for wait in waits]
    with Server(chat=in_turn(*answers)) as server:
        finished = quick(server, "--warmup", 0, "--requests", len(waits))
    assert finished.code == 1
    figures = level(finished)["metrics"]
    assert (figures["errors"], figures["retry_after_s"]) == ({"503": len(waits)}, [5, 7])
    assert "(Retry-After 5 s, 7 s)" in " ".join(finished.out.split())


def test_a_delta_with_only_a_role_is_not_the_first_token() -> None:
    def late(call: Call) -> None:
        call.send(HEAD + delta())
        call.wait(0.3)
        call.send(good_stream(3))

    with Server(chat=late) as server:
        finished = quick(server)
    assert level(finished)["metrics"]["ttft_ms"]["min"] >= 300


def test_reasoning_is_output() -> None:
    def thinking(call: Call) -> None:
        thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hmm"}}]}
        call.send(HEAD + event(thought))
        call.wait(0.5)
        call.send(good_stream(3, usage(4)))

    with Server(chat=thinking) as server:
        finished = quick(server)
    assert level(finished)["metrics"]["ttft_ms"]["max"] < 400
    assert {each["output_events"] for each in level(finished)["requests"]} == {4}


def test_a_stream_without_done_or_with_the_wrong_content_type_is_a_breach_with_figures() -> None:
    body = good_stream(3).replace(DONE, b"")
    with Server(chat=response(200, body, content_type="application/json")) as server:
        finished = quick(server)
    assert (finished.code, status(finished, "stream")) == (1, "FAIL")
    assert "content_type" in detail(finished, "stream") and "no_done" in detail(finished, "stream")
    assert status(finished, "requests") == "PASS"
    assert level(finished)["metrics"]["ttft_ms"]["n"] > 0


# --- errors


def test_a_connection_that_is_refused_later_is_an_error_of_the_kind_connect() -> None:
    with Server() as server:

        def last(call: Call) -> None:
            call.send(HEAD + good_stream())
            server.__exit__()

        server._answers[CHAT] = first(2, HEAD + good_stream(), last)
        finished = quick(server, "--requests", 4)
    assert finished.code == 1
    assert level(finished)["metrics"]["errors"] == {"connect": 2}


@pytest.mark.parametrize(
    ("slo", "code", "word"), [("0", 1, "FAIL"), ("49%", 1, "FAIL"), ("50%", 0, "WARN")]
)
def test_failed_requests_are_exit_1_beyond_the_error_rate_that_is_allowed(
    slo: str, code: int, word: str
) -> None:
    answers = in_turn(*[HEAD + good_stream(), error(500, "planted")] * 20)
    with Server(chat=answers) as server:
        arguments = ("--warmup", 0, "--requests", 4, "--slo", f"error_rate={slo}")
        finished = quick(server, *arguments, "--skip", "client")
    assert finished.code == code
    assert status(finished, "requests") == word
    assert "5xx x2 (500 planted)" in detail(finished, "requests")
    assert level(finished)["metrics"]["error_rate"] == 0.5


def test_a_single_failed_request_is_exit_1() -> None:
    good = HEAD + good_stream()
    with Server(chat=in_turn(good, good, error(500, "planted"), good)) as server:
        finished = quick(server, "--requests", 10)
    assert finished.code == 1
    assert detail(finished, "requests") == "1 of 10 failed: 5xx x1 (500 planted)"


def test_when_all_fail_the_figures_are_null_and_not_zero() -> None:
    with Server(chat=error(500, "planted")) as server:
        finished = quick(server)
    assert finished.code == 1
    figures = level(finished)["metrics"]
    for key in ("ttft_ms", "itl_ms", "tpot_ms", "tokens_per_s", "e2e_ms", "output_tokens"):
        assert figures[key] == dict.fromkeys(SUMMARY, None) | {"n": 0}
    for key in ("output_tokens_per_s", "requests_per_s", "goodput_per_s"):
        assert figures[key] is None
    assert (figures["error_rate"], figures["succeeded"]) == (1, 0)
    assert re.search(r"^  TTFT \[ms\] +0( +-){7}$", finished.out, re.MULTILINE)


# --- the key's rate limit


def requests_total(deployment: Deployment) -> int:
    with urllib.request.urlopen(f"{deployment.url}/metrics") as answer:
        counters: dict[str, Any] = json.load(answer)["gateway"]
    total: int = counters["requests_total"]
    return total


def test_the_keys_rate_limit_stops_the_run_and_is_no_verdict() -> None:
    with running(engine="sim", ttft_ms=1, itl_ms=1, rate_limit=5) as deployment:
        finished = quick(deployment, "--requests", 20, "--concurrency", 1, 2)
        assert requests_total(deployment) == 6, "the models, a warm-up, three, and the refused one"
    assert finished.code == 3
    assert status(finished, "requests") == "SKIP"
    for words in ("429 Rate limit exceeded", "Retry-After 60", "3 of 20"):
        assert words in detail(finished, "requests")
    figures = level(finished)["metrics"]
    assert (figures["requests"], figures["succeeded"], figures["errors"]) == (3, 3, {})
    assert status(finished, "requests", "inference_c2") == "SKIP"
    assert "not run" in detail(finished, "requests", "inference_c2")
    assert level(finished, 2)["requests"] == []


def test_after_a_level_where_nothing_answered_the_next_ones_are_not_tried() -> None:
    with Server(chat=hang) as server:
        finished = quick(server, "--concurrency", 1, 2, "--timeout", 1)
    assert finished.code == 1
    assert server.count() == 1
    for name in ("inference_c1", "inference_c2"):
        assert status(finished, "requests", name) == "FAIL"
        assert finished.document(name)["verdict"] == "fail"


def test_a_429_of_another_form_is_a_rate_limit_as_well() -> None:
    with Server(chat=error(429, "queue is full", "queue_full", retry_after=2)) as server:
        finished = quick(server)
        assert server.count(CHAT) == 1
    assert (finished.code, status(finished, "requests")) == (3, "SKIP")
    assert "429 queue is full, Retry-After 2" in detail(finished, "requests")


# --- objectives

LOOSE = [
    *(f"{name}_{which}=30s" for name in ("ttft", "itl", "tpot", "e2e") for which in ("p50", "max")),
    *(f"{name}_p99=30s" for name in ("ping", "ping_net", "health", "health_net", "connect")),
    *("tokens_per_s_mean=0.1", "tokens_per_s_p50=0.1tok/s", "error_rate=0", "error_rate=5%"),
    *("output_tokens_per_s=0.1", "requests_per_s=0.1/s"),
    *("ttft=30s", "tpot=30s", "e2e=30s", "tokens_per_s=0.1", "goodput_per_s=0.1"),
]
TIGHT = [
    *("ttft_p50=1us", "ttft_p95=0.001ms", "itl_mean=.000001s", "ping_p99=1us", "ttft=1us"),
    *("tokens_per_s_mean=1000000", "output_tokens_per_s=1000000", "goodput_per_s=1000"),
]


def slos(texts: list[str]) -> list[str]:
    return [argument for text in texts for argument in ("--slo", text)]


def slo_checks(finished: Finished, name: str = "inference_c1") -> dict[str, dict[str, Any]]:
    checks = finished.document(name)["checks"]
    return {each["name"][4:]: each for each in checks if each["name"].startswith("slo:")}


def test_objectives_of_every_form_that_are_kept_are_a_pass(sim: Deployment) -> None:
    finished = bench(sim, "--requests", 3, "--max-tokens", 32, *slos(LOOSE))
    assert finished.code == 0
    found = slo_checks(finished)
    assert set(found) == {text.partition("=")[0] for text in LOOSE}
    assert {check["status"] for check in found.values()} == {"PASS"}
    assert level(finished)["metrics"]["goodput_per_s"] > 0


def test_every_missed_objective_is_a_fail_line_and_exit_1(sim: Deployment) -> None:
    finished = bench(sim, "--requests", 3, "--max-tokens", 32, *slos(TIGHT))
    assert finished.code == 1
    for text in TIGHT:
        assert f"FAIL  slo:{text.partition('=')[0]}: " in finished.out
    assert status(finished, "requests") == "PASS"
    assert level(finished)["metrics"]["goodput_per_s"] == 0


@pytest.mark.parametrize(
    ("part", "slo", "name"),
    [
        ("--inference-only", "ping_p99=5s", "inference_c1"),
        ("--gateway-only", "ttft_p50=5s", "gateway_overhead"),
        ("--gateway-only", "error_rate=1", "gateway_overhead"),
        ("--gateway-only", "ttft=5s", "gateway_overhead"),
    ],
)
def test_an_objective_on_what_was_not_measured_is_missed(
    part: str, slo: str, name: str, sim: Deployment
) -> None:
    finished = bench(sim, part, "--requests", 2, "--max-tokens", 4, "--slo", slo)
    assert finished.code == 1
    check = slo_checks(finished, name)[slo.partition("=")[0]]
    assert check["status"] == "FAIL"


def test_behind_an_edge_the_network_is_not_separable_from_the_gateway() -> None:
    edge = response(200, b"", via="1.1 edge")
    with Server(answers={"/ping": edge, "/health": edge}) as server:
        slo = ("--slo", "ping_net_p99=5s", "--slo", "ping_p99=5s")
        finished = bench(server, "--gateway-only", "--requests", 3, *slo)
    assert finished.code == 1
    found = slo_checks(finished, "gateway_overhead")
    assert (found["ping_net_p99"]["status"], found["ping_p99"]["status"]) == ("FAIL", "PASS")
    assert "not separable" in found["ping_net_p99"]["detail"]
    figures = finished.document("gateway_overhead")["metrics"]["gateway"]
    assert figures["ping_net_ms"] == dict.fromkeys(SUMMARY, None) | {"n": 0}
    assert re.search("net of network +not separable: an edge", finished.out)


# --- the gateway


def test_a_404_on_ping_is_no_such_endpoint_and_no_failure() -> None:
    with Server(answers={"/ping": response(404)}) as server:
        finished = bench(server, "--requests", 2)
    assert finished.code == 0
    assert status(finished, "ping") == "SKIP"
    assert detail(finished, "ping") == "there is no /ping (404)"
    assert status(finished, "health") == "PASS"


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_the_guides_gateway_has_both_endpoints(path: str) -> None:
    name, figures = path[1:], {"gateway": {"metrics": {"requests_total": 1}, "queue_depth": 0}}
    others = {"/ping": response(200), "/health": response(200, figures)}
    answers = {**others, "/metrics": response(200, figures), path: response(404)}
    with Server(answers=answers) as server:
        finished = bench(server, "--gateway-only", "--requests", 2)
    assert (finished.code, status(finished, name, "gateway_overhead")) == (1, "FAIL")
    assert "the guide's gateway" in detail(finished, name, "gateway_overhead")


LITELLM = {
    "healthy_endpoints": [{"model": "a"}, {"model": "b"}],
    "unhealthy_endpoints": [],
    "healthy_count": 2,
    "unhealthy_count": 0,
}


def test_a_health_url_that_asks_every_model_is_probed_once() -> None:
    with Server(answers={"/health": response(200, LITELLM)}) as server:
        finished = bench(server, "--gateway-only", "--requests", 50)
    assert (finished.code, server.count("/health")) == (0, 1)
    assert status(finished, "health", "gateway_overhead") == "WARN"
    assert "2 models" in detail(finished, "health", "gateway_overhead")
    assert server.count("/ping") > 50


def after(seconds: float) -> Callable[[Call], None]:
    def late(call: Call) -> None:
        call.wait(seconds)
        call.send(response(200))

    return late


@pytest.mark.parametrize(
    ("path", "spent_s", "count", "words"),
    [
        ("/health", 1.2, 2, "Kubernetes gives up"),
        ("/health", 0.25, 2, "may ask a model"),
        ("/ping", 1.2, 2, "Kubernetes gives up"),
        ("/ping", 0.15, 1 + 1 + 5, "5 of 5 answered 200"),  # slow, but it is only measured
    ],
)
def test_a_slow_probe_is_not_repeated(path: str, spent_s: float, count: int, words: str) -> None:
    with Server(answers={path: after(spent_s)}) as server:
        finished = bench(server, "--gateway-only", "--requests", 5)
    assert finished.code == 0
    assert words in detail(finished, path[1:], "gateway_overhead")
    assert server.count(path) == count


def test_a_health_url_that_is_slow_once_is_probed_as_usual() -> None:
    slow_once = first(1, after(1.2), response(200))
    with Server(answers={"/health": slow_once}) as server:
        finished = bench(server, "--gateway-only", "--requests", 5, "--warmup", 0)
    assert status(finished, "health", "gateway_overhead") == "PASS"
    assert server.count("/health") == 1 + 1 + 5


@pytest.mark.parametrize(
    ("each_probe", "each_look", "verdict", "probes"),
    [
        (5, 0, "WARN", 2),
        (0, 0, "PASS", 2 + 4),
        (0, 3, "PASS", 2 + 4),  # somebody else uses the model: nobody knows whose tokens they are
    ],
)
def test_the_deployments_own_count_of_tokens_tells_what_a_probe_costs(
    each_probe: int, each_look: int, verdict: str, probes: int
) -> None:
    tokens = {"counted": 0}

    def health(call: Call) -> None:
        tokens["counted"] += each_probe
        call.send(response(200))

    def count(call: Call) -> None:
        tokens["counted"] += each_look
        text = f'# HELP x\nvllm:generation_tokens_total{{model_name="m"}} {tokens["counted"]}.0\n'
        call.send(response(200, text.encode()))

    with Server(answers={"/health": health, "/metrics": count}) as server:
        finished = bench(server, "--gateway-only", "--requests", 4, "--warmup", 0)
    assert (finished.code, server.count("/health")) == (0, probes)
    assert status(finished, "health", "gateway_overhead") == verdict
    if verdict == "WARN":
        assert "counted 5 tokens" in detail(finished, "health", "gateway_overhead")


def test_a_rate_limit_of_the_probes_is_no_verdict() -> None:
    with Server(answers={"/ping": first(4, response(200), response(429))}) as server:
        finished = bench(server, "--gateway-only", "--requests", 20)
    assert (finished.code, status(finished, "ping", "gateway_overhead")) == (3, "SKIP")
    assert server.count("/ping") == 5


def test_without_any_endpoint_of_the_gateway_nothing_was_decided() -> None:
    with Server(everywhere=response(404)) as server:
        assert bench(server, "--gateway-only").code == 3


def test_some_failed_probes_are_a_failure_and_in_no_percentile() -> None:
    flaky = in_turn(*[response(200), response(500)] * 50)
    with Server(answers={"/ping": flaky}) as server:
        finished = bench(server, "--gateway-only", "--requests", 10, "--warmup", 0)
    assert finished.code == 1
    document = finished.document("gateway_overhead")
    assert "5 of 10 probes failed: 500 (x5)" in detail(finished, "ping", "gateway_overhead")
    assert document["metrics"]["gateway"]["ping_ms"]["n"] == 5
    assert status(finished, "health", "gateway_overhead") == "PASS"


def test_a_slow_ping_is_measured_and_the_round_trip_taken_off() -> None:
    def slow(call: Call) -> None:
        call.wait(0.05)
        call.send(response(200))

    with Server(answers={"/ping": slow}) as server:
        finished = bench(server, "--gateway-only", "--requests", 5)
    figures = finished.document("gateway_overhead")["metrics"]["gateway"]
    assert 50 <= figures["ping_ms"]["min"] <= figures["ping_ms"]["p50"] < 150
    assert figures["ping_ms"]["p50"] - 10 < figures["ping_net_ms"]["p50"]
    assert figures["ping_net_ms"]["p50"] < figures["ping_ms"]["p50"]
    assert figures["health_ms"]["p50"] < 50
    assert figures["connect_ms"]["n"] == figures["round_trip_ms"]["n"] == 10


# --- numbers


def test_the_figures_of_a_server_with_known_times_are_true() -> None:
    with running(engine="sim", ttft_ms=50, itl_ms=20, rate_limit=0) as deployment:
        finished = quick(deployment, "--requests", 6, "--max-tokens", 12, "--concurrency", 1, 3)
    assert finished.code == 0
    for concurrency in (1, 3):
        figures = level(finished, concurrency)["metrics"]
        assert 50 <= figures["ttft_ms"]["min"] <= figures["ttft_ms"]["p50"] < 80
        assert 19.5 < figures["itl_ms"]["p50"] < 25
        assert 19.5 < figures["tpot_ms"]["p50"] < 25
        assert 40 < figures["tokens_per_s"]["p50"] < 51.3
        assert 270 <= figures["e2e_ms"]["min"] <= figures["e2e_ms"]["p50"] < 330
        assert figures["output_tokens"]["mean"] == 12
        own = figures["server_tokens_per_s"]["p50"]
        assert figures["tokens_per_s"]["p50"] == pytest.approx(own, rel=0.05)
    c1, c3 = (level(finished, each)["metrics"]["output_tokens_per_s"] for each in (1, 3))
    assert 2 < c3 / c1 < 3.3


@pytest.mark.parametrize("framing", ["close", "chunked"])
def test_the_first_token_is_stamped_when_it_comes_however_the_stream_is_framed(
    framing: str,
) -> None:
    head = HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunked = framing == "chunked"

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data

    def slow(call: Call) -> None:
        call.send((head if chunked else HEAD) + chunk(delta("x")))
        call.wait(0.5)
        call.send(chunk(good_stream(2, usage(3))) + (b"0\r\n\r\n" if chunked else b""))

    with Server(chat=slow) as server:
        finished = quick(server)
    figures = level(finished)["metrics"]
    assert finished.code == 0
    assert figures["ttft_ms"]["max"] < 400
    assert figures["e2e_ms"]["min"] >= 500
    assert figures["itl_ms"]["max"] >= 490


def test_the_figures_can_be_computed_again_from_the_saved_records(sim: Deployment) -> None:
    finished = quick(sim, "--requests", 5, "--slo", "ttft=30s")
    document = level(finished)
    again = metrics.level_metrics(document["requests"], [metrics.parse_objective("ttft=30s")])
    assert {key: document["metrics"][key] for key in again} == json.loads(json.dumps(again))
    for record in document["requests"]:
        assert len(record["event_ms"]) == record["output_events"] == 8
        assert record["event_ms"] == sorted(record["event_ms"])
        assert record["ttft_ms"] == record["event_ms"][0] > 0
        assert record["e2e_ms"] >= record["event_ms"][-1]


# --- this program itself


@pytest.mark.parametrize(("bound", "word"), [(True, "WARN"), (False, "PASS")])
def test_a_client_that_could_not_keep_up_is_a_warning(bound: bool, word: str) -> None:
    figures = {"lag_ms": metrics.summary([5.0]), "send_lag_ms": metrics.summary([0.1])}
    client = {**figures, "merged_reads": 1, "starved_ms": 0.0, "client_bound": bound}
    client |= {"processes": 1, "processes_needed": 2 if bound else None, "cores": 8}
    check = benchmark.check_client({"succeeded": 1, "client": client})
    assert check and check.status.value == word
    assert ("client-bound" in check.detail) == bound
    assert ("measure it with --processes 2" in check.detail) == bound


def test_where_nothing_succeeded_nothing_is_said_of_the_client() -> None:
    assert (
        benchmark.check_client({"succeeded": 0, "client": {"lag_ms": metrics.summary([])}}) is None
    )
