"""benchmark.py on a real engine: llama.cpp that thinks, that speculates, and its own metrics."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.bench import detail, level, quick, status
from helpers.scripts import Finished

from reference import running

TOKENS = 32


def measured(options: dict[str, Any], *arguments: object) -> Finished:
    with running(engine="llama", slots=2, rate_limit=0, **options) as deployment:
        engine = deployment.exported["engine_url"]
        few = ("--requests", 3, "--max-tokens", TOKENS, "--timeout", 60)
        finished = quick(deployment, *few, *(str(each).format(engine=engine) for each in arguments))
    assert finished.code == 0, finished.out
    return finished


def test_a_model_that_thinks() -> None:
    document = level(measured({"thinking_tokens": 8}))
    assert document["metrics"]["with_thoughts"] == 3
    for record in document["requests"]:
        assert record["ttft_ms"] < record["ttfa_ms"] < record["e2e_ms"]
        assert 1 <= record["thinking_tokens"] <= 9  # its budget, and what ends it
        assert record["thinking_tokens"] + record["answer_tokens"] == record["output_tokens"]
        assert record["thinking_source"] in ("events", "text")


def test_a_model_that_speculates_and_what_it_says_of_that_itself() -> None:
    finished = measured({"draft_tokens": 3}, "--server-metrics", "{engine}")
    figures = level(finished)["metrics"]
    own = figures["server_metrics"]
    assert figures["draft_tokens"] > 0
    assert 0 <= figures["draft_accepted_tokens"] <= figures["draft_tokens"]
    assert own["engine"] == "llama.cpp"
    # both are about the same requests, of which nobody else has sent any
    assert own["draft_tokens"] == figures["draft_tokens"]
    assert own["acceptance_rate"] == pytest.approx(figures["acceptance_rate"], abs=1e-4)
    assert status(finished, "tokens") == "PASS", detail(finished, "tokens")


def test_what_a_model_says_of_its_load() -> None:
    arguments = ("--server-metrics", "{engine}", "--concurrency", 4, "--requests", 8)
    own = level(measured({"max_concurrent_requests": 4}, *arguments), 4)["metrics"][
        "server_metrics"
    ]
    assert own["engine"] == "llama.cpp" and own["problem"] is None
    assert own["running_requests"]["max"] == 2  # its slots
    assert own["waiting_requests"]["max"] in (1, 2)  # the others wait in the engine
    assert own["ttft_ms"] is None  # llama.cpp has no histogram
