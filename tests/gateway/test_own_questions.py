"""Questions that only one request can answer: what is right, and whose word is whose."""

from __future__ import annotations

import random

import pytest

from livecheck.gateway import own_questions
from livecheck.gateway.own_questions import KINDS, Questions, foreign
from reference.skills import repeating

WORDS = ["tamikute", "relunoba"]


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("tamikute relunoba", True),
        ('Sure: "Tamikute, Relunoba".', True),
        ("Repeat: tamikute relunoba", True),
        ("relunoba tamikute", False),
        ("tamikute", False),
        ("tamikuterelunoba", False),
        ("", False),
    ],
)
def test_words_are_repeated_in_their_order(text: str, is_right: bool) -> None:
    assert own_questions.repeats(text, WORDS) is is_right


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("tamikute 5, tamikute 6, tamiku", True),
        ("tamikute 3, tamikute 4, tamikute 5, tamikute 6", True),  # from what was asked on
        ("**TAMIKUTE** 5\n**TAMIKUTE** 6", True),
        ("tamikute 5", False),
        ("tamikute 6, tamikute 7", False),
        ("relunoba 5, relunoba 6", False),
        ("5, 6, 7", False),
        (f"tamikute {'9' * 5000}", False),
    ],
)
def test_a_count_goes_on_where_it_stopped(text: str, is_right: bool) -> None:
    assert own_questions.counts(text, "tamikute", 5, 2) is is_right


def test_the_whole_list_is_not_a_choice() -> None:
    assert own_questions.picks("It is Relunoba.", WORDS, "relunoba")
    assert not own_questions.picks("red: tamikute, blue: relunoba", WORDS, "relunoba")
    assert not own_questions.picks("neither", WORDS, "relunoba")


@pytest.mark.parametrize("kind", KINDS)
def test_the_simulated_model_answers_every_question(kind: str) -> None:
    for question in Questions(random.Random(1)).mixed([kind], 20):
        tokens = repeating.answer({"messages": question.messages})
        assert tokens and question.is_right("".join(tokens))


def test_a_word_belongs_to_one_question_and_a_wrong_syllable_to_none() -> None:
    questions = Questions(random.Random(1))
    made = questions.mixed(KINDS, 300)
    words = [word for each in made for word in each.words]
    assert len(set(words)) == len(words) == len(questions.owners)
    for word in words[:20]:
        near = {word[:at] + other + word[at + 2 :] for at in (0, 2, 4, 6) for other in ("ba", "zu")}
        assert near.isdisjoint(set(words) - {word})


def test_only_words_of_others_are_foreign() -> None:
    questions = Questions(random.Random(1))
    mine, other = questions.mixed(["repeat"], 2)
    text = f"{' '.join(mine.words)}, XX{other.words[0].upper()}"
    assert foreign(text, mine, questions.owners) == [other.words[0]]
    assert foreign("moravike telusani", mine, questions.owners) == []  # of the examples
