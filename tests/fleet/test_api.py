"""What is read of the fleet's admin API."""

from __future__ import annotations

import pytest

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
        (17, None),
        (None, None),
    ],
)
def test_times_in_a_log_are_read_as_rust_and_others_write_them(
    text: object, seconds: float | None
) -> None:
    assert api.read_time(text) == seconds
