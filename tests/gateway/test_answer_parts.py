"""The parts of an answer, by themselves."""

from __future__ import annotations

import pytest

from livecheck.gateway.answer_parts import prompt_doubt


@pytest.mark.parametrize(
    ("streamed", "whole", "is_doubtful"),
    [
        (30, 15, True),
        (15, 15, False),
        (16, 15, False),  # a template may have the time in it
        (2, 15, False),  # the rest may have come from a cache
        (None, 15, False),
        (30, None, False),
        (True, 15, False),
    ],
)
def test_a_prompt_has_no_more_tokens_in_a_stream(
    streamed: object, whole: object, is_doubtful: bool
) -> None:
    found = prompt_doubt({"prompt_tokens": streamed}, {"prompt_tokens": whole})
    assert (found is not None) is is_doubtful
