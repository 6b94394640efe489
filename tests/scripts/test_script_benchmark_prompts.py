"""benchmark.py with prompts that it makes itself (`--depth`, `--turns`), against known times."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from helpers.bench import bench, detail, quick, status
from helpers.hostile import (
    CHAT,
    DONE,
    ENVELOPE,
    HEAD,
    Call,
    Server,
    delta,
    error,
    event,
    good_stream,
    in_turn,
    usage,
)
from helpers.scripts import run_script

from livecheck.report.result_files import read_folder
from reference import Deployment, running

GOOD = HEAD + good_stream()
TTFT_MS, PREFILL_MS = 20.0, 100.0  # of 1,000 tokens


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    more = {"prefill_ms": PREFILL_MS, "prefix_cache": 64, "rate_limit": 0}
    with running(engine="sim", ttft_ms=TTFT_MS, itl_ms=2, **more) as deployment:
        yield deployment


@pytest.mark.alone
def test_depth_gives_prompts_of_that_length_and_their_prefill_rate(sim: Deployment) -> None:
    finished = quick(sim, "--depth", 512, 2048, "--requests", 4, "--concurrency", 1, 2)
    assert finished.code == 0, finished.everything
    for depth in (512, 2048):
        for concurrency in (1, 2):
            figures = finished.document(f"inference_c{concurrency}_d{depth}")["metrics"]
            prompt, ttft_ms = figures["prompt_tokens"]["p50"], figures["ttft_ms"]["p50"]
            assert depth - 12 <= prompt <= depth and figures["cached_tokens"]["max"] == 0
            assert figures["depth_tokens"] == depth
            expected_ms = TTFT_MS + prompt * PREFILL_MS / 1e3
            assert expected_ms <= ttft_ms < expected_ms + 1000
            rate = figures["prefill_tokens_per_s"]["p50"]
            assert 0.5 < rate * ttft_ms / (1e3 * prompt) < 2  # medians of two to four
            fastest = 1e3 * prompt / figures["ttft_ms"]["min"]
            assert figures["prefill_tokens_per_s"]["max"] == pytest.approx(fastest, rel=0.02)
            assert figures["server_prefill_tokens_per_s"]["p50"] >= 0.99 * rate
            assert figures["tokens_per_s"]["n"] >= 1  # held back on a busy machine: no rate
    assert "Inference at concurrency 2, depth 2048: 4 of 4" in finished.out
    assert "Medians by depth" in finished.out and len(finished.out.split("its own")) == 2


def test_levels_at_a_depth_are_read_by_the_report(sim: Deployment) -> None:
    finished = quick(sim, "--depth", 256, "--output", "json")
    document = json.loads(finished.out)
    assert document == finished.document("inference_c1_d256")
    folder = read_folder(finished.results)
    assert not folder.problems and [each.is_level for each in folder.files] == [True]
    assert folder.files[0].title == "Inference (concurrency=1, depth=256)"
    report = run_script("report.py", finished.results)
    assert "Inference (concurrency=1, depth=256)" in report.out


def test_no_prompt_of_a_depth_begins_like_another(sim: Deployment) -> None:
    def answer(call: Call) -> None:
        words, tokens = len(call.prompt.split()), {"completion_tokens": 3, "total_tokens": 0}
        counts = {**ENVELOPE, "choices": [], "usage": {"prompt_tokens": words, **tokens}}
        call.send(HEAD + good_stream(counted=event(counts)))

    with Server(answer) as server:
        finished = quick(server, "--depth", 300)
    assert finished.code == 0, finished.everything
    prompts = [call.prompt for call in server.to(CHAT)]
    lengths = [len(prompt.split()) for prompt in prompts]
    assert len({prompt.split("\n")[0] for prompt in prompts}) == len(prompts) == 2 + 1 + 2
    assert lengths[0] < lengths[1] < 200 and all(280 < each <= 300 for each in lengths[2:])


def test_a_depth_without_room_is_undecided_and_the_others_are_measured() -> None:
    more = {"context_size": 2048, "slots": 1, "skills": ("context",)}
    with running(engine="sim", ttft_ms=5, itl_ms=1, rate_limit=0, **more) as deployment:
        finished = quick(deployment, "--depth", 4096, 256)
    assert finished.code == 3
    said = detail(finished, "requests", "inference_c1_d4096")
    assert "prompts of 4,096 tokens are refused, 2 of 2: 400 request (" in said
    assert status(finished, "requests", "inference_c1_d256") == "PASS"


def test_a_server_that_counts_no_prompts_cannot_be_asked_at_a_depth() -> None:
    with Server() as server:
        finished = quick(server, "--depth", 4096)
    assert finished.code == 3
    assert "the server does not count the tokens of prompts" in finished.err


def test_a_server_that_fails_when_it_has_to_count_fails() -> None:
    with Server(error(500, "no memory")) as server:
        finished = quick(server, "--depth", 4096)
    assert finished.code == 1
    said = " ".join(finished.out.split())
    assert "of which the tokens were to be counted, failed: 500 no memory" in said


@pytest.mark.parametrize(
    "others",
    [
        ("--rate", "1"),
        ("--find-capacity", "--slo", "ttft_p50=1s"),
        ("--same-prompt",),
        ("--direct-url", "http://127.0.0.1:9"),
        ("--gateway-only",),
    ],
    ids=" ".join,
)
def test_depth_is_for_closed_loops_with_prompts_of_its_own(others: tuple[str, ...]) -> None:
    finished = run_script("benchmark.py", "--url", "http://127.0.0.1:9", "--depth", "512", *others)
    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)


def test_the_plan_knows_what_a_depth_costs() -> None:
    finished = bench("http://127.0.0.1:9", "--plan", "--depth", 4096, "--output", "json")
    plan = json.loads(finished.out)
    assert plan["tokens_at_most"] > 11 * 4096
    shallow = bench("http://127.0.0.1:9", "--plan", "--output", "json")
    assert plan["requests"] == json.loads(shallow.out)["requests"] + 4


# --- conversations


def test_turns_tell_cached_prompts_from_uncached_ones(sim: Deployment) -> None:
    asked = ("--turns", 3, "--depth", 512, "--requests", 5, "--concurrency", 2)
    finished = quick(sim, *asked)
    assert finished.code == 0, finished.everything
    figures = finished.document("inference_c2_d512_t3")["metrics"]
    assert (figures["turns"], figures["conversations"], figures["requests"]) == (3, 2, 6)
    first, second, third = figures["by_turn"]
    assert [each["requests"] for each in (first, second, third)] == [2, 2, 2]
    prompt = first["prompt_tokens"]["p50"]
    assert first["cached_tokens"]["max"] == 0 == first["cached_share"]
    # an answer of 8 words, which the server has said itself, and what the user says now
    assert second["cached_tokens"]["p50"] == prompt + 8
    assert third["cached_tokens"]["p50"] == second["prompt_tokens"]["p50"] + 8
    assert second["cached_share"] == pytest.approx((prompt + 8) / (prompt + 10), abs=1e-3)
    assert first["ttft_ms"]["min"] >= TTFT_MS + prompt * PREFILL_MS / 1e3 > TTFT_MS + 49
    assert TTFT_MS <= second["ttft_ms"]["min"] < first["ttft_ms"]["min"]
    assert figures["first_turn_ttft_ms"] == first["ttft_ms"]
    assert figures["later_turns_ttft_ms"]["n"] == 4
    assert figures["prefill_tokens_per_s"]["n"] == 2
    assert "by turn" in finished.out and "of the prompt tokens from turn 2 on came" in finished.out
    places = [
        (r["conversation"], r["turn"])
        for r in finished.document("inference_c2_d512_t3")["requests"]
    ]
    assert sorted(places) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    folder = read_folder(finished.results)
    assert not folder.problems
    assert folder.files[0].title == "Inference (concurrency=2, depth=512, turns=3)"


def test_each_turn_sends_all_that_was_said_before_it() -> None:
    words = iter(range(1000))

    def answer(call: Call) -> None:
        call.send(
            HEAD + delta() + delta(f"word{next(words)}") + delta(None, "stop") + usage(1) + DONE
        )

    with Server(answer) as server:
        finished = quick(server, "--turns", 3, "--requests", 6, "--warmup", 0, "--prompt", "Hello")
    assert finished.code == 0, finished.everything
    asked = [call.fields["messages"] for call in server.to(CHAT)]
    assert [len(messages) for messages in asked] == [1, 3, 5, 1, 3, 5]
    for first in (0, 3):
        one, two, three = asked[first : first + 3]
        assert one[0]["content"].endswith("]\nHello")
        assert two[:1] == one and three[:3] == two
        assert [two[1], three[3]] == [
            {"role": "assistant", "content": f"word{number}"} for number in (first, first + 1)
        ]
        assert two[2]["role"] == three[4]["role"] == "user"
    assert asked[0] != asked[3]
    assert "not told by the server" in finished.out


def test_a_failed_turn_ends_its_conversation_and_the_others_go_on() -> None:
    failing = in_turn(GOOD, error(500, "no memory"), GOOD)
    with Server(failing) as server:
        finished = quick(server, "--turns", 2, "--requests", 6, "--warmup", 0)
    assert finished.code == 1
    figures = finished.document("inference_c1_t2")["metrics"]
    assert [each["succeeded"] for each in figures["by_turn"]] == [3, 2]
    assert [len(call.fields["messages"]) for call in server.to(CHAT)] == [1, 3, 1, 3, 1, 3]


def test_long_answers_are_gone_on_from_and_measured_as_they_came() -> None:
    """Of an answer of more than 1 MB the bytes are let go of once it was read: it is read once."""
    long = HEAD + good_stream(8000)
    assert len(long) > 1 << 20
    with Server(long) as server:
        asked = ("--turns", 2, "--requests", 4, "--max-tokens", 8192, "--warmup", 0)
        finished = quick(server, *asked)
        turns = [call.fields["messages"] for call in server.to(CHAT)]
    assert finished.code == 0, finished.everything
    document = finished.document("inference_c1_t2")
    for record in document["requests"]:
        assert (record["status"], record["error"], record["output_tokens"]) == (200, None, 8000)
        assert len(record["event_ms"]) == 8000 and 0 < record["ttft_ms"] < record["e2e_ms"]
    assert [len(each) for each in turns] == [1, 3, 1, 3]
    assert turns[1][1]["content"].endswith(" word7999")


def test_a_conversation_that_outgrows_the_context_is_undecided() -> None:
    def answer(call: Call) -> None:
        is_long = len(call.fields["messages"]) > 3
        call.send(error(400, "the request exceeds the context size") if is_long else GOOD)

    with Server(answer) as server:
        finished = quick(server, "--turns", 4, "--requests", 4)
    assert finished.code == 3
    said = detail(finished, "requests", "inference_c1_t4")
    assert "1 of 3 requests are refused, from turn 3 on: 400 the request exceeds" in said


def test_conversations_end_with_their_duration() -> None:
    with Server(GOOD) as server:
        asked = ("--turns", 50, "--duration", 1, "--concurrency", 2)
        finished = bench(server, "--inference-only", "--max-tokens", 8, *asked)
    assert finished.code == 0, finished.everything
    figures = finished.document("inference_c2_t50")["metrics"]
    assert figures["by_turn"][0]["requests"] == figures["conversations"] >= 2
    assert figures["wall_s"] < 5


@pytest.mark.parametrize(
    "others", [("--rate", "1"), ("--same-prompt",), ("--gateway-only",), ("--processes", "2")]
)
def test_turns_are_for_closed_loops(others: tuple[str, ...]) -> None:
    finished = run_script("benchmark.py", "--url", "http://127.0.0.1:9", "--turns", "3", *others)
    assert (finished.code, finished.out, finished.err.count("\n")) == (2, "", 1)


def test_the_plan_knows_that_conversations_grow() -> None:
    def tokens(*options: object) -> int:
        finished = bench("http://127.0.0.1:9", "--plan", "--output", "json", *options)
        found: int = json.loads(finished.out)["tokens_at_most"]
        return found

    assert tokens("--turns", 5) > 10 * 2 * 128 + tokens()
