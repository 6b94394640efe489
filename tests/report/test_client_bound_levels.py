"""report.py never uses a client-bound level quietly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.report_here import as_json, report
from helpers.samples import gateway_folder, level


def bound(concurrency: int, errors: tuple[str, ...] = (), **client: Any) -> dict[str, Any]:
    found = level(concurrency, client_bound=True, errors=errors)
    found["metrics"]["client"] |= client
    return found


def test_its_thresholds_are_undecided_and_the_line_says_what_would_do(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path, inference_c1=bound(1, processes_needed=3, cores=8))
    content = as_json(folder)
    assert content["exit_code"] == 3
    own = [each for each in content["thresholds"] if each["subject"] == "inference_c1"]
    words = {each["name"]: (each["verdict"], each["detail"]) for each in own}
    undecided = [found for name, found in words.items() if "rror" not in name]
    why = "the level is client-bound: measure it with --processes 3"
    assert undecided == [("UNDECIDED", why)] * 3
    assert [found[0] for name, found in words.items() if "rror" in name] == ["PASS"]
    assert all(each["value"] != "-" for each in own), "the figures are shown all the same"


def test_errors_count_all_the_same(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path, inference_c1=bound(1, errors=("5xx",)))
    assert report(folder).code == 1


def test_where_it_cannot_be_told_no_number_is_named(tmp_path: Path) -> None:
    finished = report(gateway_folder(tmp_path, inference_c1=bound(1, processes_needed=None)))
    out = " ".join(finished.out.split())
    assert finished.code == 3 and "--processes" not in out
    assert "inference_c1: client-bound" in out and "one that is less busy" in out


@pytest.mark.parametrize("whose", ["now", "old"])
def test_it_is_compared_with_no_baseline(whose: str, tmp_path: Path) -> None:
    """c4 has no thresholds but that of its errors, so that only the comparison is undecided."""
    pair = {each: tmp_path / each for each in ("now", "old")}
    for name, path in pair.items():
        is_bound = name == whose
        there = bound(4, processes_needed=2, cores=8) if is_bound else level(4, seed=5)
        gateway_folder(path, inference_c1=level(1, seed=1 + is_bound), inference_c4=there)
    content = as_json(pair["now"], "--baseline", pair["old"])
    found = {each["subject"]: each for each in content["baseline"]["criteria"]}
    assert content["exit_code"] == 3
    assert found["inference_c4"]["verdict"] == "UNDECIDED"
    assert "is client-bound: measure it with --processes 2" in found["inference_c4"]["detail"]
    assert {each["document"] for each in content["baseline"]["changes"]} & {"inference_c1"}
    assert not {each["document"] for each in content["baseline"]["changes"]} & {"inference_c4"}
