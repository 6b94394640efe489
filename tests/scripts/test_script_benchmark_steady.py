"""What benchmark.py says about the steady state of a level, as an operator runs it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.bench import bench, level
from helpers.hostile import HEAD, Call, Server, error, good_stream
from helpers.scripts import start_script

from reference import Deployment, running

TTFT_MS, ITL_MS, TOKENS = 80, 10, 13
LONG_MS = TTFT_MS + (TOKENS - 1) * ITL_MS


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    times = {"ttft_ms": TTFT_MS, "itl_ms": ITL_MS}
    with running(engine="sim", slots=4, rate_limit=0, **times) as deployment:
        yield deployment


def test_a_level_has_figures_of_its_steady_window(sim: Deployment) -> None:
    """Four slots and 22 requests: five rounds, and a sixth with two."""
    arguments = ("--concurrency", 4, "--requests", 22, "--max-tokens", TOKENS)
    finished = bench(sim, "--inference-only", *arguments)
    figures = level(finished, 4)["metrics"]
    steady = figures["steady"]
    assert 0 <= steady["start_ms"] < 2 * LONG_MS
    assert 4 * LONG_MS <= steady["end_ms"] < 1e3 * figures["wall_s"] - LONG_MS / 2
    assert steady["end_ms"] - steady["start_ms"] == pytest.approx(
        1e3 * figures["wall_s"] * steady["share"], rel=1e-3
    )
    assert 10 <= steady["requests"] < 22
    assert 2 < steady["in_flight_mean"] <= 4
    assert TTFT_MS - 1 <= steady["ttft_ms"]["p50"] < 2 * TTFT_MS
    assert 0.7 * ITL_MS < steady["itl_ms"]["p50"] < 3 * ITL_MS
    for key in ("output_tokens_per_s", "requests_per_s"):
        assert steady[key] > figures[key], "the tail is not in it"
    assert steady["output_tokens_per_s"] < 4 * TOKENS / LONG_MS * 1e3
    assert "in the steady window:" in finished.out
    assert f"(steady: {steady['output_tokens_per_s']:.1f})" in finished.out


def test_a_small_level_says_that_it_has_no_steady_window(sim: Deployment) -> None:
    """Eight in flight, of which four are served at once: when the first ends, there are seven."""
    arguments = ("--concurrency", 8, "--requests", 8, "--max-tokens", 4)
    finished = bench(sim, "--inference-only", *arguments)
    steady = level(finished, 8)["metrics"]["steady"]
    assert steady["requests"] is None and "are needed" in steady["reason"]
    assert "steady window       none: only" in finished.out
    assert "in the steady window:" not in finished.out


def test_only_steady_says_why_it_cannot_tell(sim: Deployment) -> None:
    finished = bench(sim, "--only", "steady", "--requests", 3, "--max-tokens", 4)
    assert finished.code == 3
    check = finished.check("inference_c1", "steady")
    assert check["status"] == "SKIP"
    assert check["detail"].startswith("cannot tell: 3 requests in the steady window, about 26")


def test_a_short_level_has_no_check_of_its_steady_state(sim: Deployment) -> None:
    finished = bench(sim, "--inference-only", "--requests", 3, "--max-tokens", 4)
    assert "steady" not in {each["name"] for each in level(finished)["checks"]}
    assert level(finished)["metrics"]["steady"]["trend"] == {"ttft_ms": None, "tokens_per_s": None}


def test_a_file_of_short_then_long_prompts_is_not_a_trend(tmp_path: Path) -> None:
    """Five prompts, each answered later than the one before, eight times in turn."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"{'long ' * n}question\n" for n in range(5)))

    def by_length(call: Call) -> None:
        text = json.loads(call.body)["messages"][0]["content"]
        time.sleep(0.02 + 0.03 * text.count("long"))
        call.send(HEAD + good_stream())

    with Server(chat=by_length) as server:
        arguments = ("--prompt-file", prompts, "--requests", 40, "--only", "steady")
        finished = bench(server, *arguments, "--warmup", 0)
    found = finished.check("inference_c1", "steady")
    assert found["status"] != "WARN", found["detail"]
    assert finished.document("inference_c1")["metrics"]["prompts"] == 5
    if found["status"] == "PASS":  # else this machine was so busy that requests are left out
        assert 25 <= found["evidence"]["ttft_ms"]["points"] <= 39


# --- --precision


def test_a_level_goes_on_until_its_medians_are_exact() -> None:
    """The answers are so slow that what else this machine does is a small part of their time."""
    arguments = ("--concurrency", 4, "--precision", "30%", "--max-time", 60, "--max-tokens", 3)
    with running(engine="sim", slots=4, rate_limit=0, ttft_ms=250, itl_ms=25) as deployment:
        finished = bench(deployment, "--inference-only", *arguments)
    document = level(finished, 4)
    found, records = document["metrics"]["precision"], document["requests"]
    assert finished.code == 0
    assert found["reached"] and found["looks"] >= 1 and found["requests"] >= 64
    assert found["requests"] + 4 <= len(records) < 2 * found["requests"], "it ended soon after"
    for key in ("ttft_ms", "tokens_per_s"):
        assert found[key]["half_width_share"] <= 0.3
        assert found[key]["low"] <= document["metrics"][key]["p50"] <= found[key]["high"]
    assert "precision           ±30 % reached with" in finished.out
    assert "concurrency 4: requests until ±30 %, for at most 60 s" in finished.err
    options = document["options"]
    assert (options["precision"], options["max_time"]) == (0.3, 60)


def test_a_level_that_is_not_exact_in_time_says_so(sim: Deployment) -> None:
    arguments = ("--precision", "0.05", "--max-time", 3, "--max-tokens", 3)
    finished = bench(sim, "--inference-only", *arguments)
    found = level(finished)["metrics"]["precision"]
    assert finished.code == 0
    assert not found["reached"] and found["reason"] == "its time of 3 s was over"
    assert 0 < found["requests"] < 64 and found["ttft_ms"] is None
    assert "±5 % not reached (its time of 3 s was over)" in " ".join(finished.out.split())


def test_a_level_of_nothing_but_failures_ends_at_once_and_says_why() -> None:
    with Server(chat=error(500, "planted")) as server:
        finished = bench(server, "--inference-only", "--precision", "5%", "--max-time", 60)
    found = level(finished)["metrics"]["precision"]
    assert finished.code == 1
    assert (found["reached"], found["requests"]) == (False, 0)
    assert found["reason"] == "every request fails"


def test_an_interrupted_level_does_not_blame_its_time(sim: Deployment, tmp_path: Path) -> None:
    arguments = ("--inference-only", "--precision", "5%", "--max-time", 60, "--max-tokens", 4)
    target = ("--url", sim.url, "--api-key", sim.api_key)
    process = start_script("benchmark.py", *target, *arguments, "--results", tmp_path)
    assert process.stderr
    while "requests until" not in (line := process.stderr.readline()):
        assert line, "it ended before its level"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    found = json.loads((tmp_path / "inference_c1.json").read_text())["metrics"]["precision"]
    assert not found["reached"] and found["reason"] == "it was interrupted"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--find-capacity", "--slo", "ttft_p50=1s"), "--precision cannot be used with --find-cap"),
        (("--rate", 5), "--precision cannot be used with --rate: use --duration"),
        (("--direct-url", "http://h"), "--precision cannot be used with --direct-url"),
        (("--gateway-only",), "--precision cannot be used with --gateway-only"),
        (("--turns", 2), "--precision cannot be used with --turns"),
        (("--processes", 2), "--processes cannot divide levels of --precision"),
        (("--requests", 5), "not allowed with"),
        (("--requests", 10), "not allowed with"),  # although that is the default
        (("--precision", "90%"), "a share from 0.5% to 50%, as in 5%"),
    ],
)
def test_where_precision_makes_no_sense_a_line_says_why(more: tuple[object, ...], why: str) -> None:
    finished = bench("http://127.0.0.1:9", "--precision", "5%", *more)
    assert finished.code == 2
    assert why in finished.err and len(finished.err.strip().splitlines()) == 1


def test_a_time_limit_alone_is_refused() -> None:
    finished = bench("http://127.0.0.1:9", "--max-time", 5)
    assert finished.code == 2
    assert "--max-time needs --find-capacity or --precision" in finished.err


def test_the_plan_says_when_a_level_ends_at_the_latest() -> None:
    finished = bench("http://127.0.0.1:9", "--precision", "5%", "--plan", "--inference-only")
    words = " ".join(finished.out.split())
    assert "ends as soon as its medians are within 5 %, or after --max-time (600 s)" in words
