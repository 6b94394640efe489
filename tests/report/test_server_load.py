"""server_load.py: what a result file says of the server, whatever stands in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from helpers import samples
from helpers.report_here import as_json, report

from livecheck.report.server_load import BINS, in_flight, load_words
from livecheck.report.server_load import samples as read

SAVED: dict[str, Any] = {
    "url": "http://h/metrics",
    "engine": "vLLM",
    "problem": None,
    "readings": 4,
    "failed_readings": 0,
    "running_requests": {"n": 2, "max": 4.0},
    "waiting_requests": {"n": 2, "max": 12.0},
    "cache_usage": {"n": 2, "max": 0.875},
    "preemptions": 3,
    "acceptance_rate": 0.625,
    "ttft_ms": {"n": 24, "mean": 85.2, "p50": 90.0, "p50_low": 80.0, "p50_high": 100.0},
    "samples": {"at_s": [0.5, 1.5], "running_requests": [2, 4], "waiting_requests": []},
}


class File:
    """As much of a result file as is looked at."""

    def __init__(self, saved: Any, requests: Any = ()):
        self.metrics, self.requests = {"server_metrics": saved}, requests


def test_the_words_for_it() -> None:
    expected = (
        "Figures of vLLM itself: at most 4 running, at most 12 waiting, cache up to 88 % full, "
        "3 preemptions, 62.5 % of the draft tokens accepted, its TTFT 85.20 ms on average, without "
        "gateway and network"
    )
    assert load_words({"server_metrics": SAVED}) == expected
    assert load_words({}) is None
    words = load_words({"server_metrics": SAVED | {"problem": "a counter fell"}})
    assert words == f"{expected}; a counter fell"


def test_readings_before_and_after_a_short_level_are_not_called_nothing() -> None:
    nothing = {"engine": "vLLM", "readings": 2, "samples": {"at_s": []}}
    words = load_words({"server_metrics": nothing})
    assert words is not None and "no reading fell into the level (2 readings)" in words
    assert "nothing was read" in str(load_words({"server_metrics": {**nothing, "readings": 0}}))


def test_the_readings_over_time() -> None:
    file: Any = File(SAVED)
    assert read(file, "running_requests") == [(0.5, 2), (1.5, 4)]
    assert read(file, "waiting_requests") == read(file, "cache_usage") == []


def test_requests_in_flight_are_averaged() -> None:
    spans = [(0, 500), (500.001, 1000), (0, 1000)]
    file: Any = File(SAVED, [{"sent_ms": a, "ended_ms": b} for a, b in spans])
    points = in_flight(file)
    assert len(points) == BINS + 1
    assert [count for _, count in points] == pytest.approx([2.0] * (BINS + 1), abs=0.01)
    nothing: Any = File(SAVED, [{"sent_ms": None, "ended_ms": 1.0}])
    assert in_flight(nothing) == []


GARBAGE = (None, 7, "text", [], {}, [None], {"max": "x"}, {"at_s": 3}, float("inf"))


@pytest.mark.parametrize("key", [None, *SAVED])
@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_anything_may_stand_in_its_place(key: str | None, garbage: Any) -> None:
    saved = copy.deepcopy(SAVED)
    if key is None:
        saved = garbage
    else:
        saved[key] = garbage
    file: Any = File(saved)
    assert load_words(file.metrics) is None or "\n" not in (load_words(file.metrics) or "")
    for name in ("running_requests", "cache_usage"):
        assert all(len(point) == 2 for point in read(file, name))


def test_the_report_shows_it(tmp_path: Any) -> None:
    document = samples.level(4)
    document["metrics"]["server_metrics"] = SAVED
    folder = samples.gateway_folder(tmp_path, inference_c4=document)
    page = tmp_path / "page.html"
    assert "at most 12 waiting" in report(folder, "--output", "markdown", "--html", page).out
    assert "What did the server say meanwhile?" in page.read_text()
    as_json(folder)
