"""Whether a text contains itself, from how it was cut into pieces alone."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.wire import repeats

POEM = ["The", " sea", " keeps", " its", " time", ",", " wave", " after", " wave", "."]
ALL = "".join(POEM)
LOOP = [" ha"] * 40

REPEATED = {
    "cumulative": list(accumulate(POEM)),
    "cumulative, short": list(accumulate(POEM[:3])),
    "cumulative, in large steps": list(accumulate(["The sea", " keeps its", " time, wave", "."])),
    "cumulative, with steps that add nothing": ["The", "The sea", "The sea", "The sea keeps"],
    "cumulative, of a looping model": list(accumulate(LOOP)),
    "cumulative, with half a character at the end": [
        "The s",
        "The s\ufffd",
        "The s\u00e9a",
        "The s\u00e9as",
    ],
    "the whole text last": [*POEM, ALL],
    "the whole text last, stripped": [" The", *POEM[1:], ALL.strip()],
    "the last piece in the whole text": [*POEM[:-1], ALL],
    "the whole text of a looping model last": [*LOOP, "".join(LOOP)],
    "each piece twice": [each for each in POEM for _ in range(2)],
    "each character twice": [each for each in ALL for _ in range(2)],
}
SOUND = {
    "a poem": POEM,
    "nothing": [],
    "one piece": [ALL],
    "a loop": LOOP,
    "a loop of one character": ["a"] * 200,
    "a loop in growing pieces": [" ha", " ha ha", " ha ha ha", " ha ha ha ha"],
    "ha ha ha": ["ha", " ha", " ha", "!"],
    "a loop of two words": ["tick", " tock"] * 20,
    "words that come in pairs": ["tick", "tick", "tock", "tock"] * 10,
    "single characters": list(ALL),
    "characters in pairs": list("aabbccdd"),
    "powers of ten": ["1", "10", "100"],
    "growing white space": [" ", "  ", "    ", "        "],
    "two lines, the second from a proxy's buffer": [*POEM[:3], "The sea sleeps."],
    "a refrain, at the end": [*POEM, "The sea keeps its time."],
    "a loop, then the rest in one block": [*LOOP[:10], "".join(LOOP[:30])],
    "three pieces": ["I", " am", " here"],
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_text_that_contains_itself_is_found(name: str) -> None:
    assert repeats.said_again(REPEATED[name])


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_text_is_not_accused(name: str) -> None:
    assert repeats.said_again(SOUND[name]) is None


WORDS = st.lists(st.sampled_from([" a", " ha", "a", " the", "the", "\n", "1", " 1"]), max_size=60)


@given(WORDS, st.integers(1, 20))
@settings(max_examples=500, deadline=None, database=None)
def test_no_way_to_cut_a_text_of_few_words_is_taken_for_cumulative(
    words: list[str], size: int
) -> None:
    text = "".join(words)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert not repeats.grows(pieces)


def test_the_words_say_what_was_seen() -> None:
    assert repeats.said_again(REPEATED["cumulative"]) == (
        "each of 10 pieces repeats the text before it"
    )
    assert repeats.said_again(REPEATED["the whole text last"]) == (
        "the last of 11 pieces repeats the whole text before it"
    )
    assert repeats.said_again(REPEATED["each piece twice"]) == "each piece comes twice, 10 pairs"


@pytest.mark.parametrize(
    ("thoughts", "content", "expected"),
    [
        ("The answer is Paris.", " The answer is Paris.\n", True),
        ("Paris", "Paris", False),  # one word may be both
        ("", "", False),
        ("The answer is Paris.", "The answer is Rome.", False),
    ],
)
def test_thoughts_are_the_answer_if_more_than_a_word_is_the_same(
    thoughts: str, content: str, expected: bool
) -> None:
    assert repeats.is_same(thoughts, content) is expected


def test_a_long_text_takes_little_time() -> None:
    assert repeats.has_period("a" * 10**6)
    assert not repeats.has_period("a" * 1999 + "b" + "a" * 10**6)
