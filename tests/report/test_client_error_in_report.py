"""What a report says of --self-check: beside the figures and the thresholds that it limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.report_here import run_here

CHECK: dict[str, Any] = {
    "concurrency": 4,
    "tls": False,
    "ttft_error_ms": {"p50": 0.007, "p99": 0.022, "p99_9": 0.03, "n": 8},
    "event_error_ms": {"p50": 0.006, "p99": 0.014, "p99_9": 0.02, "n": 256},
    "client_bound": False,
    "problem": None,
}
WORDS = "TTFT 7 µs p50, 22 µs p99; events 6 µs p50, 14 µs p99 (at 4 in flight)"


def report_of(folder: Path, document: dict[str, Any], name: str) -> tuple[str, str, str]:
    """What it shows: as text, as Markdown and as page, each on one line."""
    (folder / f"{name}.json").write_text(json.dumps(document))
    page = folder / "page.html"
    done = run_here(folder, folder, "--html", page)
    forms = done.out, (folder / "baseline_report.md").read_text(), page.read_text()
    text, markdown, html = (" ".join(form.split()) for form in forms)
    return text, markdown, html


def test_each_form_says_it_beside_what_it_limits(tmp_path: Path) -> None:
    document = samples.level(1)
    document["metrics"]["client"]["self_check"] = CHECK
    text, markdown, html = report_of(tmp_path, document, "inference_c1")
    for form in (text, markdown, html):
        assert "inference\\_c1: client error" in form or "inference_c1: client error" in form
        assert WORDS in form
        assert "client error 22 µs (p99)" in form  # of the threshold for TTFT
    assert f"- Client error: {WORDS}" in markdown
    assert f"<p>Client error: {WORDS}</p>" in html


def test_of_a_search_the_highest_level_says_it(tmp_path: Path) -> None:
    figures = {"client": {"self_check": CHECK}}
    document = samples.level(1)
    document["metrics"] = {"levels": [{"client": {}}, figures]}
    text, *_ = report_of(tmp_path, document, "capacity")
    assert f"capacity: client error on the machine that measured: {WORDS}" in text


@pytest.mark.parametrize("found", [7, [], {"concurrency": "x"}, {"problem": "x" * 5000}])
def test_a_damaged_file_breaks_nothing(tmp_path: Path, found: Any) -> None:
    document = samples.level(1)
    document["metrics"]["client"]["self_check"] = found
    text, *_ = report_of(tmp_path, document, "inference_c1")
    assert "Traceback" not in text and len(text) < 9000
