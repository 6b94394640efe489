"""What a report says of the steady window of a level, whatever stands in its place in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.report_here import run_here

from livecheck.core.text import figure
from livecheck.report.steady_window import precision_words, window_words

STEADY = {
    "share": 0.82,
    "requests": 26,
    "ttft_ms": {"p50": 60.4},
    "itl_ms": {"p50": 5.0},
    "tokens_per_s": {"p50": 190.0},
    "output_tokens_per_s": 1104.0,
    "requests_per_s": 34.9,
}
WORDS = (
    "Steady window: 82 % of the time, 26 whole requests: TTFT p50 60.40 ms, ITL p50 5.00 ms, "
    "Tokens/sec p50 190.0, output throughput 1104.0 tok/s, requests 34.90 per second"
)


def test_a_window_is_told_in_a_line() -> None:
    assert window_words({"steady": STEADY}) == WORDS
    assert window_words({}) is None, "a file of an earlier version"


@pytest.mark.parametrize(
    ("steady", "words"),
    [
        ({"share": None, "requests": None, "reason": "too few"}, "Steady window: none, too few"),
        ({}, "Steady window: none, not measured"),
        ({"share": "much", "requests": 3}, "Steady window: none, not measured"),
        ({"reason": "x" * 9000}, "Steady window: none, " + "x" * 197 + "..."),
        (
            {"share": 1, "requests": 2, "ttft_ms": [1]},
            "Steady window: 100 % of the time, 2 whole requests: nothing measured",
        ),
    ],
)
def test_a_window_that_is_not_there_or_damaged_breaks_nothing(steady: Any, words: str) -> None:
    assert window_words({"steady": steady}) == words


@pytest.mark.parametrize(("inside", "is_noted"), [(1104.0, True), (1.0, False), ("7", False)])
def test_each_form_of_the_report_tells_the_window(
    tmp_path: Path, inside: Any, is_noted: bool
) -> None:
    document = samples.level(4)
    document["metrics"]["steady"] = STEADY | {"output_tokens_per_s": inside}
    (tmp_path / "inference_c4.json").write_text(json.dumps(document))
    page = tmp_path / "page.html"
    finished = run_here(tmp_path, tmp_path, "--html", page)
    folded = " ".join(finished.out.split())
    whole = figure(document["metrics"]["output_tokens_per_s"])
    note = f"inference_c4: {whole} tok/s over the whole level, 1104.0 tok/s in its steady window"
    written = (tmp_path / "baseline_report.md").read_text()
    assert "Steady window: 82 % of the time" in written
    assert "Steady window: 82 % of the time" in page.read_text()
    for text in (folded, written, page.read_text()):
        assert (note in text) is is_noted


PRECISION = {
    "wanted_share": 0.05,
    "reached": True,
    "requests": 144,
    "ttft_ms": {"half_width_share": 0.031},
    "tokens_per_s": None,
}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, None),
        ([], None),
        ({"wanted_share": "5%"}, None),
        (
            PRECISION,
            "Precision: ±5 % reached with 144 requests: TTFT p50 ±3.1 %, Tokens/sec p50 not known",
        ),
        (
            {"wanted_share": 0.05, "ttft_ms": 3, "reached": "yes", "requests": "many"},
            "Precision: ±5 % not reached (not known) with requests that were not counted: "
            "TTFT p50 not known, Tokens/sec p50 not known",
        ),
    ],
)
def test_a_precision_is_told_whatever_stands_there(found: Any, words: str | None) -> None:
    assert precision_words({"precision": found}) == words


def test_a_precision_that_was_not_reached_is_a_note(tmp_path: Path) -> None:
    document = samples.level(4)
    document["metrics"]["precision"] = PRECISION | {"reached": False, "reason": "its time was over"}
    (tmp_path / "inference_c4.json").write_text(json.dumps(document))
    page = tmp_path / "page.html"
    finished = run_here(tmp_path, tmp_path, "--html", page)
    note = "inference_c4: Precision: ±5 % not reached (its time was over) with 144 requests"
    assert note in " ".join(finished.out.split())
    for text in ((tmp_path / "baseline_report.md").read_text(), page.read_text()):
        assert text.count("±5 % not reached") == 2, "beside the level's figures, and as a note"
