"""text.py, history_text.py: the rows of a report in 80 columns, also with long names."""

from __future__ import annotations

from pathlib import Path

from helpers.report_here import report
from helpers.samples import gateway_folder, level

from livecheck.report.text import labelled


def test_a_label_that_is_too_long_for_its_column_has_a_line_of_its_own() -> None:
    assert list(labelled("short", 8, "PASS")) == ["short   PASS"]
    assert list(labelled("too long", 8, "PASS")) == ["too long", "        PASS"]


def test_a_level_with_a_long_name_keeps_the_columns(tmp_path: Path) -> None:
    found = level(1, seed=3)
    found["metrics"]["turns"] = 2
    found["options"] |= {"turns": 2}
    folder = gateway_folder(tmp_path, inference_c1_t2=found)
    lines = report(folder).out.splitlines()
    at = lines.index("  Inference (concurrency=1, turns=2)")
    (other,) = [each for each in lines if each.startswith("  OpenAI SDK ")]
    assert lines[at + 1].index("PASS") == other.index("PASS")
    assert all(len(line) <= 80 for line in lines if "[GATE]" not in line)
