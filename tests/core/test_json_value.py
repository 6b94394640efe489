"""Values out of JSON that a server sent, whatever it sent."""

from __future__ import annotations

from typing import Any

from livecheck.core.json_value import as_line, figure_or_line, pick, pick_list, pick_text, quoted

ANSWER: dict[str, Any] = {"choices": [{"index": 0, "text": "a"}], "usage": None}


def test_a_path_leads_to_a_value_or_to_nothing() -> None:
    assert pick(ANSWER, "choices", 0, "index") == 0
    for path in (("choices", 1), ("choices", "text"), ("usage", "total"), ("usage", 0), (0,)):
        assert pick(ANSWER, *path) is None


def test_a_value_of_another_type_is_an_empty_list_or_text() -> None:
    assert pick_list(ANSWER, "choices") == ANSWER["choices"]
    assert pick_text(ANSWER, "choices", 0, "text") == "a"
    assert (pick_list(ANSWER, "usage"), pick_text(ANSWER, "choices", 0, "index")) == ([], "")


def test_a_value_is_shown_on_one_short_line() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert as_line(deep) == "a deeply nested list"
    assert (quoted("a\nb"), quoted(None), len(quoted("a" * 99))) == ("'a b'", "None", 62)
    assert (figure_or_line(1.5), figure_or_line([1]), figure_or_line(None)) == (1.5, "[1]", None)
