"""Pure: what the Retry-After of a refusal says (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from livecheck.core.late_pattern import late_pattern
from livecheck.wire.answer import Answer

SECONDS = late_pattern(r"[0-9]{1,9}")
FRACTION = late_pattern(r"[0-9]{1,9}\.[0-9]{1,9}")
DATE_STEP_S = 1.0  # a date has whole seconds, so that the time until it may be so much longer


@dataclass(frozen=True)
class RetryAfter:
    """`shown`: the header as it came, None if it did not. `wait_s`: how long to wait, as it says;
    None where it is missing or means nothing. `is_valid`: whether it has one of the two forms that
    the standard has; a number with a fraction means something, and is not valid."""

    shown: str | None
    wait_s: float | None = None
    is_valid: bool = False
    is_date: bool = False

    @property
    def certain_s(self) -> float | None:
        """How long to wait so that what it says is over for certain."""
        return None if self.wait_s is None else self.wait_s + (DATE_STEP_S if self.is_date else 0)


def read_retry_after(answer: Answer) -> RetryAfter:
    """What it says at the time of the answer. A date is compared with the answer's own Date: the
    clocks of the two machines may differ."""
    value = answer.header("retry-after")
    if value is None:
        return RetryAfter(None)
    shown, text = answer.shown_header("retry-after"), value.strip()
    if SECONDS.fullmatch(text):
        return RetryAfter(shown, float(text), True)
    if FRACTION.fullmatch(text):
        return RetryAfter(shown, float(text))
    due, sent = _date(text), _date(answer.header("date") or "")
    if due is None:
        return RetryAfter(shown)
    wait_s = None if sent is None else max(0.0, (due - sent).total_seconds())
    return RetryAfter(shown, wait_s, True, True)


def _date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110, section 5.6.7), which is always in UTC."""
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):  # TypeError: Python 3.10 and earlier
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
