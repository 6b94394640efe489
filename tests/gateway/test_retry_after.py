"""What a Retry-After says, in each form that servers give it."""

from __future__ import annotations

import pytest
from helpers.answers import answer

from livecheck.gateway.retry_after import RetryAfter, read_retry_after

DATE = "Mon, 30 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "wait_s", "is_valid"),
    [
        ("60", 60.0, True),
        ("0", 0.0, True),
        ("0.6", 0.6, False),
        ("soon", None, False),
        ("-1", None, False),
        ("60s", None, False),
        ("", None, False),
        ("1e9", None, False),
        ("9" * 400, None, False),
        ("Mon, 99 Nov 2026 10:00:00 GMT", None, False),
    ],
)
def test_a_number_has_only_digits(value: str, wait_s: float | None, is_valid: bool) -> None:
    found = read_retry_after(answer(429, {"Retry-After": value, "Date": DATE}))
    assert (found.wait_s, found.is_valid, found.is_date) == (wait_s, is_valid, False)


def test_a_date_counts_from_the_servers_own_date() -> None:
    later = "Mon, 30 Nov 2026 10:00:42 GMT"
    found = read_retry_after(answer(429, {"Retry-After": later, "Date": DATE}))
    assert (found.wait_s, found.certain_s, found.is_valid, found.is_date) == (42, 43, True, True)


def test_a_date_that_is_over_is_no_wait() -> None:
    found = read_retry_after(answer(429, {"Retry-After": DATE, "Date": DATE}))
    assert (found.wait_s, found.certain_s) == (0, 1)


def test_without_a_date_of_the_server_nobody_knows_how_long_to_wait() -> None:
    found = read_retry_after(answer(429, {"Retry-After": DATE}))
    assert (found.wait_s, found.certain_s, found.is_valid) == (None, None, True)


def test_a_missing_one_says_nothing() -> None:
    assert read_retry_after(answer(429)) == RetryAfter(None)
