"""benchmark.py: rates on streams that come in blocks or count tokens that nobody sees."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from helpers.bench import detail, level, quick, status
from helpers.scripts import Finished, run_script

from reference import running

ITL_MS = 10
TRUE_RATE = 1e3 / ITL_MS
MISSED = ("--slo", "tokens_per_s_mean=120", "--slo", "tpot_p50=8ms")  # by the true rate
LONG = ("--max-tokens", 128, "--warmup", 0)


def measured(fault: str, *arguments: object, itl_ms: float = ITL_MS) -> Finished:
    with running(
        engine="sim", ttft_ms=4, itl_ms=itl_ms, rate_limit=0, faults=[fault]
    ) as deployment:
        engine = deployment.exported["engine_url"]
        given = [str(each).format(engine=engine) for each in arguments]
        return quick(deployment, *given)


def statuses(finished: Finished, names: Sequence[str]) -> list[str]:
    return [status(finished, name) for name in names]


@pytest.mark.parametrize("fault", ["blocks-4k", "blocks-written-singly", "large-events"])
def test_the_rate_of_blocks_is_the_true_one(fault: str) -> None:
    finished = measured(fault, *LONG, *MISSED)
    figures = level(finished)["metrics"]
    assert figures["tokens_per_s"]["mean"] == pytest.approx(TRUE_RATE, rel=0.1)
    assert figures["itl_ms"]["p50"] > 10 * ITL_MS
    assert finished.code == 1
    checks = ("slo:tokens_per_s_mean", "slo:tpot_p50", "pacing")
    assert statuses(finished, checks) == ["FAIL", "FAIL", "WARN"]
    assert "arrivals" in detail(finished, "pacing")


def test_a_rate_that_blocks_do_not_tell_is_null_and_everything_says_why() -> None:
    finished = measured("blocks-16k", *LONG, "--slo", "tokens_per_s_mean=1", "--slo", "tpot=1s")
    document, reason = level(finished), "the output came in too few blocks to tell"
    assert finished.code == 3
    assert document["metrics"]["tokens_per_s"]["mean"] is None
    assert document["metrics"]["goodput_per_s"] is None
    assert all(record["no_rate"] == "few_blocks" for record in document["requests"])
    for check in ("slo:tokens_per_s_mean", "slo:tpot"):
        assert status(finished, check) == "SKIP" and reason in detail(finished, check)
    assert reason in " ".join(finished.out.split())
    report = run_script("report.py", str(finished.results), "--output", "json")
    rows = {each["name"]: each for each in json.loads(report.out)["thresholds"]}
    rate = rows["c=1 decode rate mean"]
    assert rate["verdict"] == "UNDECIDED" and reason in rate["detail"]
    assert reason in (finished.results / "baseline_report.md").read_text()


def test_no_level_keeps_a_bound_that_cannot_be_told() -> None:
    search = ("--find-capacity", "--slo", "tokens_per_s_p50=1", "--max-level", 2)
    finished = measured("blocks-16k", *LONG, *search)
    assert finished.code == 3
    assert status(finished, "capacity", "capacity") == "SKIP"
    assert "too few blocks" in detail(finished, "capacity", "capacity")


def test_no_gateway_is_faster_than_its_engine() -> None:
    finished = measured("blocks-4k", *LONG, "--direct-url", "{engine}", itl_ms=4)
    cost = finished.document("gateway_cost")["metrics"]["cost"]
    assert cost["tokens_per_s"]["gateway"] == pytest.approx(250, rel=0.1)
    assert abs(cost["tokens_per_s"]["cost"]) < 25
    assert cost["ttft_ms"]["cost"] > 50


def test_hidden_tokens_are_in_no_rate() -> None:
    finished = measured("hidden-reasoning", "--max-tokens", 24, *MISSED)
    document = level(finished)
    assert document["metrics"]["tokens_per_s"]["mean"] == pytest.approx(TRUE_RATE, rel=0.1)
    assert document["metrics"]["output_tokens_per_s"] < TRUE_RATE * 1.1
    for record in document["requests"]:
        kinds = ("output_tokens", "shown_tokens", "hidden_tokens")
        assert [record[kind] for kind in kinds] == [424, 24, 400]
    assert statuses(finished, ("slo:tokens_per_s_mean", "tokens")) == ["FAIL", "PASS"]
    assert "800 hidden ones" in detail(finished, "tokens")


def test_hidden_tokens_that_nobody_names_leave_no_rate() -> None:
    bounds = ("--slo", "tokens_per_s_mean=1", "--slo", "output_tokens_per_s=1")
    finished = measured("hidden-tokens", "--max-tokens", 24, *bounds)
    assert finished.code == 3
    for check in ("slo:tokens_per_s_mean", "slo:output_tokens_per_s"):
        assert status(finished, check) == "SKIP"
        assert "does not fit the text" in detail(finished, check)
    assert level(finished)["metrics"]["output_tokens_per_s"] is None


# --- several tokens in a step


def test_an_engine_that_speculates_is_compared_by_its_tokens() -> None:
    """Steps of 4, 1, 3, 2, 4 and 4 tokens, three drafted in each: 64 tokens in 22 events."""
    bounds = ("--slo", f"itl_p50={2 * ITL_MS}ms", "--slo", "tpot_p50=1s")
    finished = measured("speculative", "--max-tokens", 64, "--warmup", 0, *bounds)
    figures, records = level(finished)["metrics"], level(finished)["requests"]
    assert [record["output_events"] for record in records] == [22, 22]
    assert [record["draft_tokens"] for record in records] == [66, 66]
    assert figures["acceptance_rate"] == pytest.approx(42 / 66, abs=1e-3)
    assert figures["tokens_per_event"] == pytest.approx(63 / 22, abs=1e-2)
    assert figures["tokens_per_s"]["mean"] == pytest.approx(TRUE_RATE, rel=0.15)
    assert statuses(finished, ("tokens", "slo:tpot_p50")) == ["PASS"] * 2
    assert status(finished, "pacing") != "WARN"  # SKIP: this program was late itself
    assert status(finished, "slo:itl_p50") == "SKIP"
    assert "put the bound on TPOT" in detail(finished, "slo:itl_p50")
    said = " ".join(finished.out.split())
    assert "2.9 tokens in an event: compare TPOT, not ITL" in said
    assert "63.6 % of 132 draft tokens" in said
    report = run_script("report.py", str(finished.results), "--output", "markdown")
    assert "63.6 % of 132 draft tokens accepted" in report.out and "- TPOT p50: " in report.out
