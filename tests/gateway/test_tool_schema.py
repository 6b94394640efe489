"""The few words of JSON Schema that our own tools use."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.gateway.tool_questions import BOOK, LIGHT, PLAN, SCENARIOS
from livecheck.gateway.tool_schema import schema_problem


def problem(tool: Any, value: Any) -> str | None:
    return schema_problem(value, tool["function"]["parameters"])


def test_what_is_asked_for_keeps_the_schema() -> None:
    for scenario in SCENARIOS:
        for name, arguments in zip(scenario.expected, scenario.arguments or (), strict=False):
            assert schema_problem(arguments, scenario.schemas[name]) is None


GUEST = {"name": "Ada"}


@pytest.mark.parametrize(
    ("tool", "value"),
    [
        (BOOK, None),
        (BOOK, [1]),
        (BOOK, {}),
        (BOOK, {"guest": {}, "seats": 4, "outside": True}),
        (BOOK, {"guest": "Ada", "seats": 4, "outside": True}),
        (BOOK, {"guest": GUEST, "seats": "4", "outside": True}),
        (BOOK, {"guest": GUEST, "seats": 4.5, "outside": True}),
        (BOOK, {"guest": GUEST, "seats": True, "outside": True}),
        (BOOK, {"guest": GUEST, "seats": float("inf"), "outside": True}),
        (BOOK, {"guest": GUEST, "seats": 4, "outside": "yes"}),
        (PLAN, {"days": "monday"}),
        (PLAN, {"days": ["monday", "Friday"]}),
        (LIGHT, {"room": "hall", "mode": ["dim"]}),
    ],
)
def test_what_does_not_keep_the_schema(tool: Any, value: Any) -> None:
    assert problem(tool, value)


@pytest.mark.parametrize("more", [{}, {"unasked": 1}])
def test_other_properties_are_allowed(more: Any) -> None:
    assert problem(BOOK, {"guest": GUEST, "seats": 4.0, "outside": False, **more}) is None
