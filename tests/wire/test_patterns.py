"""No regular expression is slow on what a server may send: its time grows with the text alone."""

from __future__ import annotations

import time

import pytest

from livecheck.wire import error_words, progress_words, sse
from livecheck.wire.answer import EVENT_START

SIZE = 1 << 20
MOST_S = 5.0  # for each; what grows with the square of the text takes an hour
UNITS = ["<", "<!--", "<title", "<title>", "<script>", "</script ", "&#", "&#9", "data:", "event: "]
UNITS += [
    "error:",
    " ",
    "\n",
    "\r\n",
    "\n ",
    "event: \n",
    "x",
    ". ",
    ".",
    "loading ",
    "<svg <",
    "-- >",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_megabyte_of_the_same_is_read_at_once(unit: str) -> None:
    text = unit * (SIZE // len(unit)) + "\0"
    begun_s = time.process_time()
    error_words.words_of_page(text, 500)
    error_words.words_of_text(text)
    error_words.is_web_page(text.encode())
    EVENT_START.match(text.encode())
    sse.read_stream("text/event-stream", text.encode())
    for begins in (progress_words.begin, progress_words.is_filling, progress_words.is_closing):
        begins(text)
    progress_words.are_more_dots(text)
    assert time.process_time() - begun_s < MOST_S


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<html><!-- x --><b>Bad</b> gateway</html>", "Bad  gateway"),
        ("<style>a > b</style><p>Text", "Text"),
        ("<title>Only this</title>", "Only this"),
        ("<script>no end <p>but words", "no end  but words"),
        ("a &lt; b <", "a < b <"),
        (f"&#{'9' * 5000};", f"&#{'9' * 5000};"),
    ],
)
def test_the_words_of_a_page_are_those_that_it_shows(page: str, words: str) -> None:
    assert error_words.words_of_page(page) == words
