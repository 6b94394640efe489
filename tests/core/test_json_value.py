"""Values out of JSON that a server sent, whatever it sent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from livecheck.core.json_value import (
    MAX_JSON_BYTES,
    as_line,
    decode,
    figure_or_line,
    number,
    pick,
    pick_list,
    pick_text,
    quoted,
)

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


@pytest.mark.parametrize("value", [None, True, "x", -1, float("nan"), 1e13, [], "1e400"])
def test_what_is_not_a_figure_is_none(value: object) -> None:
    assert number(value) is None


def test_json_of_others_is_read_as_json_loads_does():
    for text in ('{"a": [1, -2, 3.5, null, true, "é"]}', "12", '"\\ud83d"', "[NaN]"):
        assert repr(decode(text)) == repr(json.loads(text))
        assert repr(decode(text.encode())) == repr(json.loads(text))
    assert decode(b"\xef\xbb\xbf[1]") == [1]


def test_integers_of_others_are_bounded():
    assert decode("[999999999999999999, -999999999999999999]") == [10**18 - 1, 1 - 10**18]
    large = decode(f"[{'9' * 19}, -{'9' * 19}, {'9' * 5000}, -{'9' * 500_000}]")
    assert large == [1e19, -1e19, math.inf, -math.inf]
    assert all(isinstance(each, float) for each in large)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", "[1]x", b"[" * 100_000, '{"a":' * 100_000, b"[1]\0"),
        pytest.param(b'"' + b"a" * MAX_JSON_BYTES + b'"', id="large"),
        pytest.param("[" + " " * MAX_JSON_BYTES + "]", id="large text"),
    ],
)
def test_what_cannot_be_read_is_one_kind_of_error(data):
    with pytest.raises(ValueError):
        decode(data)


def test_nan_is_refused_where_it_is_asked_for():
    for text in ("[NaN]", "[Infinity]", "[-Infinity]"):
        with pytest.raises(ValueError, match="is not a JSON number"):
            decode(text, allow_nan=False)
