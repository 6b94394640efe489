"""benchmark.py with other endpoints than chat completions, against an engine with known times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.bench import detail, quick, status
from helpers.hostile import Call, Server, error, response
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


def test_a_search_is_saved_under_the_name_of_its_endpoint(sim: Deployment) -> None:
    """So that one of chat completions and one of responses can lie in the same folder, and a report
    knows both."""
    search = ("--find-capacity", "--slo", "e2e_p50=30s", "--max-level", 2)
    finished = quick(sim, "--endpoint", "responses", *search)
    assert finished.code == 0, finished.everything
    assert finished.document("capacity_responses")["metrics"]["capacity"] == 2
    folder = read_folder(finished.results)
    assert not folder.problems and folder.files[0].title == "Capacity (endpoint=responses)"


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


# --- embeddings


def vectors(count: int, dimensions: int = 2, tokens: int = 7) -> bytes:
    vector = {"object": "embedding", "embedding": [0.5] * dimensions}
    data = [{**vector, "index": number} for number in range(count)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    content = {"object": "list", "model": "m", "data": data, "usage": usage}
    return response(200, content, content_type="application/json")


def test_embeddings_are_measured_by_request_and_by_input(sim: Deployment) -> None:
    asked = ("--endpoint", "embeddings", "--batch", 1, 16, "--concurrency", 1, 2, "--requests", 4)
    finished = quick(sim, *asked)
    assert finished.code == 0, finished.everything
    for batch in (1, 16):
        for concurrency in (1, 2):
            document = finished.document(f"embeddings_c{concurrency}_b{batch}")
            figures = document["metrics"]
            assert (figures["endpoint"], figures["batch"]) == ("embeddings", batch)
            assert figures["inputs"] == 4 * batch and figures["succeeded"] == 4
            assert figures["prompt_tokens"]["p50"] == 8 * batch  # the line, and seven words
            spent_ms = TTFT_MS + 8 * batch * 100 / 1e3
            assert spent_ms <= figures["e2e_ms"]["min"] < spent_ms + 1000
            per_s = 4 / figures["wall_s"]
            assert figures["requests_per_s"] == pytest.approx(per_s, rel=0.01)
            assert figures["inputs_per_s"] == pytest.approx(batch * per_s, rel=0.01)
            assert figures["prompt_tokens_per_s"] == pytest.approx(8 * batch * per_s, rel=0.01)
            assert not {"ttft_ms", "itl_ms", "tokens_per_s", "steady"} & set(figures)
            names = [check["name"] for check in document["checks"]]
            assert names == ["requests", "client"]
    assert "Embeddings at concurrency 2, batches of 16: 4 of 4" in finished.out
    folder = read_folder(finished.results)
    assert not folder.problems
    assert folder.files[0].title == "Embeddings (concurrency=1, batch=1)"


def test_each_input_has_a_line_of_its_own_and_the_model_is_one_for_embeddings() -> None:
    listed = {"object": "list", "data": [{"id": "chatty"}, {"id": "tiny-embed"}]}
    answers = {EMBEDDINGS: vectors(3), "/v1/models": response(200, listed)}
    with Server(answers=answers) as server:
        finished = quick(server, "--endpoint", "embeddings", "--batch", 3, "--prompt", "Hello")
    assert finished.code == 0, finished.everything
    asked = [call.fields for call in server.to(EMBEDDINGS)]
    assert {fields["model"] for fields in asked} == {"tiny-embed"}
    inputs = [text for fields in asked for text in fields["input"]]
    assert len(inputs) == len(set(inputs)) == 9
    assert {text.split("\n")[1] for text in inputs} == {"Hello"}


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (vectors(2), "malformed", "200, but 2 vectors for 3 inputs"),
        (vectors(0), "empty", "200, but 0 vectors for 3 inputs"),
        (vectors(3, dimensions=0), "empty", "0 vectors"),
        (response(200, b"<html>hello</html>", content_type="text/html"), "empty", "0 vectors"),
        (error(500, "no memory"), "5xx", "no memory"),
    ],
)
def test_as_many_vectors_as_inputs_have_to_come(answer: bytes, kind: str, says: str) -> None:
    with Server(answers={EMBEDDINGS: answer}) as server:
        finished = quick(server, "--endpoint", "embeddings", "--batch", 3)
    assert finished.code == 1
    records = finished.document("embeddings_c1_b3")["requests"]
    assert {each["error"] for each in records} == {kind}
    assert says in detail(finished, "requests", "embeddings_c1_b3")


def test_a_batch_may_be_large_and_a_flood_is_bounded() -> None:
    def flood(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b'{"data": [')
        while not call.over.is_set():
            call.send(b" " * 65536)

    large = vectors(64, dimensions=8192)
    assert len(large) > 2 << 20
    asked = ("--endpoint", "embeddings", "--batch")
    with Server(answers={EMBEDDINGS: large}) as server:
        finished = quick(server, *asked, 64)
    assert finished.code == 0, finished.everything
    assert finished.document("embeddings_c1_b64")["metrics"]["prompt_tokens"]["p50"] == 7
    with Server(answers={EMBEDDINGS: flood}) as server:
        finished = quick(server, *asked, 2)
    assert finished.code == 1 and "flood" in finished.out


@pytest.mark.parametrize(
    "others",
    [
        ("--endpoint", "responses", "--batch", "2"),
        *(
            ("--endpoint", "embeddings", *more)
            for more in (
                ("--slo", "ttft_p50=1s"),
                ("--rate", "2"),
                ("--depth", "512"),
                ("--turns", "2"),
                ("--batch", "5000"),
                ("--find-capacity", "--slo", "e2e_p50=1s"),
            )
        ),
    ],
    ids=" ".join,
)
def test_what_has_no_meaning_for_embeddings_is_exit_2(others: tuple[str, ...]) -> None:
    finished = run_script("benchmark.py", "--url", "http://127.0.0.1:9", *others)
    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)


def test_the_plan_knows_that_embeddings_write_nothing() -> None:
    def tokens(*options: object) -> int:
        asked = ("--url", "http://127.0.0.1:9", "--plan", "--output", "json", "--inference-only")
        finished = run_script("benchmark.py", *asked, *map(str, options))
        found: int = json.loads(finished.out)["tokens_at_most"]
        return found

    one, eight = (tokens("--endpoint", "embeddings", "--batch", n) for n in (1, 8))
    assert eight == 8 * one and one < tokens()
