"""Of two ids in a stream, the line says which is the odd one."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.wire.chunk_ids import Ids

USAGE: dict[str, Any] = {"id": "u", "choices": [], "usage": {"total_tokens": 1}}


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ("aaa", None),
        ("", None),
        ("aab", "2 different ids in 3 chunks: 'a' in 2, 'b' in the last"),
        ("baa", "2 different ids in 3 chunks: 'a' in 2, 'b' in the first"),
        ("aabaa", "2 different ids in 5 chunks: 'a' in 4, 'b' in chunk 3"),
        ("aaabb", "2 different ids in 5 chunks: 'a' in 3, 'b' in chunks 4 to 5"),
        ("aababaa", "2 different ids in 7 chunks: 'a' in 5, 'b' in 2 of them, from chunk 3 on"),
        ("abc", "3 different ids in 3 chunks: each has its own"),
        ("aabcd", "4 different ids in 5 chunks: 'a' in 2, 'b' in chunk 3, 'c' in chunk 4 and 1"),
        ("a-a", "1 of 3 chunks have no id, chunk 2"),
        ("--", "2 of 2 chunks have no id"),
        ("aau", "2 different ids in 3 chunks: 'a' in 2, 'u' in the chunk with the usage"),
    ],
)
def test_the_odd_one_is_named(ids: str, words: str | None) -> None:
    found = Ids()
    for each in ids:
        found.add(USAGE if each == "u" else {"id": each.strip("-"), "choices": [{}]})
    problem = found.problem
    assert problem == words if words is None else problem and problem.startswith(words), problem


def test_an_id_that_is_no_text_is_none() -> None:
    found = Ids()
    found.add({"id": 7})
    assert found.problem == "1 of 1 chunks have no id"


def test_chunks_of_another_sender_at_the_beginning_can_be_forgotten() -> None:
    found = Ids()
    for ident in ("p", "", "a", "a", "b"):
        found.add({"id": ident, "choices": [{}]})
    found.forget(["p", ""])
    assert found.problem == "2 different ids in 3 chunks: 'a' in 2, 'b' in the last"
