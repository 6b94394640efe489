"""Calls are put together as applications do it, and what is wrong with them is named."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.gateway.tool_calls import (
    DELTAS,
    GAPS,
    IDS,
    TYPE,
    streamed_tool_calls,
    whole_tool_calls,
)

FIRST = {"index": 0, "id": "a", "function": {"name": "get_weather", "arguments": ""}}


def delta(arguments: Any = "{}", index: Any = 0, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, **more, "function": {"arguments": arguments, **name}}


def streamed(*deltas: Any) -> Any:
    return streamed_tool_calls([{"choices": [{"delta": {"tool_calls": [d]}}]} for d in deltas])


def kinds(found: Any) -> set[str]:
    return {problem.kind for problem in found.problems}


def test_deltas_are_joined_by_their_index() -> None:
    second = {**FIRST, "index": 1, "id": "b"}
    found = streamed(FIRST, second, delta('{"x', 1), delta("{}", 0), delta('": 1}', 1))
    assert [(call.id, call.arguments) for call in found.calls] == [("a", "{}"), ("b", '{"x": 1}')]
    assert found.problems == []


@pytest.mark.parametrize(
    "later",
    [
        delta(),
        delta(id=None, name=None),
        delta(id="", name="", type="function"),
        {"index": 0, "function": {}},
        {"index": 0},
    ],
)
def test_what_is_absent_or_empty_in_later_deltas_is_no_problem(later: Any) -> None:
    assert streamed(FIRST, later).problems == []


@pytest.mark.parametrize(
    ("later", "kind"),
    [
        (delta(id="a"), DELTAS),
        (delta(id="b"), DELTAS),
        (delta(name="get_weather"), DELTAS),
        (delta(name="_now"), DELTAS),
        (delta(index=None), DELTAS),
        (delta(index=True), DELTAS),
        (delta(index="0"), DELTAS),
        ("not an object", DELTAS),
        (delta({"city": "Paris"}), TYPE),
        (delta(index=2, id="b", name="get_time"), GAPS),
        (delta(index=1, name="get_time"), IDS),
    ],
)
def test_what_is_wrong_with_a_later_delta(later: Any, kind: str) -> None:
    assert kinds(streamed(FIRST, later)) == {kind}


@pytest.mark.parametrize("late", ["id", "name"])
def test_id_and_name_belong_in_the_first_delta(late: str) -> None:
    first = {"id": "a", "name": "get_weather"}
    value = first.pop(late)
    assert kinds(streamed(delta("", **first), delta(**{late: value}))) == {DELTAS}


def test_a_whole_call_has_an_id_and_a_text_as_arguments() -> None:
    good = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    bad = {"function": {"name": "f", "arguments": {}}}
    assert whole_tool_calls({"tool_calls": [good]}).problems == []
    assert kinds(whole_tool_calls({"tool_calls": [good, bad]})) == {IDS, TYPE}
    for nothing in (None, {}, {"tool_calls": None}, {"tool_calls": {}}):
        assert whole_tool_calls(nothing).calls == []
