"""benchmark.py with other endpoints than chat completions, against an engine with known times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.bench import detail, quick, status
from helpers.hostile import Server, error, response
from helpers.scripts import run_script

from livecheck.report.result_files import read_folder
from reference import Deployment, responses, running
from reference.skills.played import spoken

TTFT_MS, ITL_MS = 40.0, 5.0
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
COUNTS = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
MODELS = response(200, {"object": "list", "data": [{"id": "scripted"}]})
RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    more: dict[str, Any] = {"endpoints": ("responses", "embeddings"), "rate_limit": 0}
    more |= {"prefix_cache": 64, "prefill_ms": 100}
    with running(engine="sim", ttft_ms=TTFT_MS, itl_ms=ITL_MS, **more) as deployment:
        yield deployment


def events() -> list[bytes]:
    told = responses.Response("scripted", spoken([" one", " two", " three"]))
    return [told.begin(), *told.deltas(), told.end(COUNTS)]


# --- the Responses API


def test_responses_have_the_same_figures_as_chat_completions(sim: Deployment) -> None:
    finished = quick(sim, "--endpoint", "responses", "--requests", 4, "--concurrency", 2)
    assert finished.code == 0, finished.everything
    document = finished.document("inference_c2_responses")
    figures = document["metrics"]
    assert figures["endpoint"] == "responses" and figures["succeeded"] == 4
    assert TTFT_MS <= figures["ttft_ms"]["min"] and figures["ttft_ms"]["p50"] < TTFT_MS + 1000
    assert figures["e2e_ms"]["min"] >= TTFT_MS + 7 * ITL_MS
    assert figures["output_tokens"]["p50"] == 8 and figures["token_sources"] == {"usage": 4}
    assert figures["prompt_tokens"]["p50"] == 8 and figures["cached_tokens"]["n"] == 4
    assert figures["itl_ms"]["n"] > 0
    assert "4 well-formed, each with a response.completed" in finished.out
    assert [len(each["event_ms"]) for each in document["requests"]] == [8] * 4
    folder = read_folder(finished.results)
    assert not folder.problems
    assert folder.files[0].title == "Inference (concurrency=2, endpoint=responses)"


def test_an_open_loop_and_conversations_ask_for_responses_too(sim: Deployment) -> None:
    finished = quick(sim, "--endpoint", "responses", "--rate", 20, "--requests", 5)
    assert finished.code == 0, finished.everything
    assert finished.document("inference_r20_responses")["metrics"]["succeeded"] == 5
    finished = quick(sim, "--endpoint", "responses", "--turns", 2, "--depth", 256)
    assert finished.code == 0, finished.everything
    figures = finished.document("inference_c1_d256_t2_responses")["metrics"]
    assert figures["by_turn"][1]["cached_tokens"]["p50"] > 240


@pytest.mark.parametrize("code", [404, 405, 501])
@pytest.mark.parametrize("warmup", [0, 1])
def test_a_server_without_the_endpoint_is_exit_3_with_one_line(code: int, warmup: int) -> None:
    with Server(answers={RESPONSES: error(code, "no such thing")}) as server:
        finished = quick(server, "--endpoint", "responses", "--warmup", warmup)
    assert finished.code == 3
    assert f"the server has no /v1/responses: {code} no such thing" in finished.err
    assert server.count(RESPONSES) == 1


CASES = {
    "no end": (lambda told: told[:-1], "truncated"),
    "failed": (
        lambda told: [*told[:-1], told[-1].replace(b"completed", b"failed")],
        "stream_error",
    ),
    "no output": (lambda told: [told[0], told[-1]], "empty"),
    "not JSON": (lambda told: [*told[:2], b"data: {oops\n\n", *told[2:]], "malformed"),
    "cut off": (lambda told: [*told[:3], b"event: response.out"], "truncated"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_response_is_a_failed_request(case: str) -> None:
    change, kind = CASES[case]
    with Server(answers={RESPONSES: STREAM + b"".join(change(events()))}) as server:
        finished = quick(server, "--endpoint", "responses")
    assert finished.code == 1
    records = finished.document("inference_c1_responses")["requests"]
    assert {each["error"] for each in records} == {kind}


def test_a_broken_order_is_named_and_measured_all_the_same() -> None:
    told = events()
    lost = told[1][told[1].index(b"event: response.output_text.delta") :]  # no item was added
    with Server(answers={RESPONSES: STREAM + told[0] + lost + b"".join(told[2:])}) as server:
        finished = quick(server, "--endpoint", "responses")
    assert finished.code == 1
    assert status(finished, "requests", "inference_c1_responses") == "PASS"
    assert "order: response.output_text.delta is about an item that was not added" in detail(
        finished, "stream", "inference_c1_responses"
    )


def test_what_is_asked_is_a_streamed_response() -> None:
    with Server(answers={RESPONSES: STREAM + b"".join(events())}) as server:
        finished = quick(server, "--endpoint", "responses", "--max-tokens", 17)
    assert finished.code == 0, finished.everything
    asked = server.to(RESPONSES)[0].fields
    assert (asked["stream"], asked["max_output_tokens"], asked["model"]) == (True, 17, "scripted")
    assert asked["input"][0]["role"] == "user" and "max_tokens" not in asked
    assert server.count() == 0  # no chat completion


def test_an_endpoint_is_not_compared_with_another_server() -> None:
    asked = ("--url", "http://127.0.0.1:9", "--direct-url", "http://127.0.0.1:9")
    finished = run_script("benchmark.py", *asked, "--endpoint", "responses")
    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)
