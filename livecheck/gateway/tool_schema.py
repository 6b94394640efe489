"""Whether a value keeps a JSON schema: the few words of it that our own tools use. Pure.

That is `type`, `properties`, `required`, `enum` and `items`. Other properties than those of the
schema are allowed, as in JSON Schema itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livecheck.core.json_value import quoted


def schema_problem(
    value: Any, schema: Mapping[str, Any], place: str = "the arguments"
) -> str | None:
    """Why a value does not keep the schema, in words; None when it does."""
    wanted = schema.get("type")
    if isinstance(wanted, str) and not is_of_type(value, wanted):
        return f"{place}: {quoted(value)} is not of type {wanted}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place}: {quoted(value)} is not one of the values that are allowed"
    if isinstance(value, dict):
        return object_problem(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        found = (schema_problem(each, schema["items"], f"an item of {place}") for each in value)
        return next(filter(None, found), None)
    return None


def object_problem(value: dict[str, Any], schema: Mapping[str, Any], place: str) -> str | None:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{place}: {name} is missing"
    for name, part in properties.items():
        if name in value and (problem := schema_problem(value[name], part, name)):
            return problem
    return None


def is_of_type(value: Any, name: str) -> bool:
    """Whether it has this type of JSON Schema; 2.0 is an integer there, and true is no number."""
    if name in ("integer", "number"):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and (name == "number" or value == int_or_none(value))
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(value, types[name])


def int_or_none(value: float) -> int | None:
    try:
        return int(value)
    except (ValueError, OverflowError):  # NaN, infinity
        return None
