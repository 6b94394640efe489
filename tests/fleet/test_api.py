"""What is read of the fleet's admin API."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.answers import answer

from livecheck.fleet import api


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01 00:00:01", 1.0),
        ("1970-01-01T00:00:01.500000000Z", 1.5),
        ("1970-01-01T01:00:01.25+01:00", 1.25),
        ("yesterday", None),
        ("1970-13-01T00:00:01Z", None),
        ("1970-01-01T00:00:01+99:99", None),
        ("0000-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:01Z" + " " * 100_000, None),
        (1e300, None),
        (17, None),
        (None, None),
    ],
)
def test_times_in_a_log_are_read_as_rust_and_others_write_them(
    text: object, seconds: float | None
) -> None:
    assert api.read_time(text) == seconds


@pytest.mark.parametrize("zone", ["+23:59", "-23:59"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_time_at_the_end_of_the_calendar_is_read_or_not_and_never_fails(
    day: str, zone: str
) -> None:
    found = api.read_time(f"{day}T23:59:59{zone}")
    assert found is None or abs(found) < 1e12


LONG = "x" * 10_000
ODD: tuple[Any, ...] = (
    None,
    True,
    17,
    1e300,
    float("inf"),
    "",
    LONG,
    [],
    {},
    [LONG] * 9,
    {"a": LONG},
)


@pytest.mark.parametrize("odd", ODD, ids=lambda each: type(each).__name__)
def test_whatever_a_field_has_an_entry_is_short(odd: Any) -> None:
    names = ("name", "machine_type", "is_online", "mac_address", "loaded_models")
    fields = {"id": "r1", **dict.fromkeys(names, odd)}
    (runner,) = api.read_runners(answer(200, {}, {"runners": [fields]}))
    assert len(repr(runner)) < 2000
    names = ("model", "status", "latency_ms", "runner_id", "wol_sent", "timestamp")
    fields = {"id": odd if odd is not None else 1, **dict.fromkeys(names, odd)}
    (entry,) = api.read_log(answer(200, {}, {"requests": [fields]}))
    assert len(repr(entry)) < 2000


def test_a_list_that_is_longer_than_any_true_one_is_not_read() -> None:
    entries = [{"id": str(number)} for number in range(api.MOST_ENTRIES + 1)]
    read = {
        "runners": api.read_runners,
        "requests": api.read_log,
        "data": api.listed_models,
    }
    for key, reader in read.items():
        assert len(reader(answer(200, {}, {key: entries[:-1]}))) == api.MOST_ENTRIES
        with pytest.raises(api.Unreadable, match="at most 10,000 are read"):
            reader(answer(200, {}, {key: entries}))


def test_of_many_names_the_first_are_saved_and_the_rest_is_counted() -> None:
    assert api.first_names(["a", "b"]) == ["a", "b"]
    found = api.first_names([LONG] * 1000)
    assert (len(found), found[-1], len(found[0])) == (101, "and 900 more", 100)
