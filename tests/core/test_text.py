"""Text for people: what a terminal would act on is seen instead."""

from __future__ import annotations

import unicodedata

import pytest

from livecheck.core.text import shorten, visible

SEEN = {
    "\x1b[31m": r"\x1b[31m",
    "\x9b31m": r"\x9b31m",
    "a\0b": r"a\x00b",
    "a\r\nb\tc": r"a\x0d\x0ab\x09c",
    "a\u2028b\u2029c\x85": r"a\u2028b\u2029c\x85",
    "\u202eabc\u2066\u200f\u061c": r"\u202eabc\u2066\u200f\u061c",
    "k\u200be\ufeffy\u00ad": r"k\u200be\ufeffy\xad",
    "a\U000e0041": r"a\U000e0041",
    "\ud83d": r"\ud83d",
    "\ud83d\ude00": "\N{GRINNING FACE}",
}


@pytest.mark.parametrize("text", SEEN)
def test_what_is_not_seen_is_spelled(text: str) -> None:
    assert visible(text) == SEEN[text]
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize(
    "text", ["plain", "żółć", "日本語", "a\u00a0b\u3000c", "\ufffd", "e\u0301"]
)
def test_everything_else_is_left_as_it_is(text: str) -> None:
    assert visible(text) is text


def test_no_control_or_format_character_is_left() -> None:
    """But those that are seen themselves, such as the Arabic sign for a number."""
    seen = {chr(each) for each in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2)}
    seen |= {chr(each) for each in (0x110BD, 0x110CD, *range(0x13430, 0x13440))}
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category in ("Cc", "Cf", "Zl", "Zp", "Cs") and chr(code) not in seen:
            assert visible(chr(code)) != chr(code), hex(code)


def test_a_shortened_text_is_one_line_that_is_short() -> None:
    assert shorten(" a\n\tb \x1b ") == r"a b \x1b"
    assert len(shorten("\0" * 1000, 50)) == 50
    assert shorten("\ufffd") == "\ufffd"
