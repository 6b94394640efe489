"""The users of a load shape."""

from __future__ import annotations

import pytest

from livecheck.load.stages import Stage, parse_stages, stage_at


def test_a_long_word_is_not_said_whole() -> None:
    with pytest.raises(ValueError, match="is not USERS:DURATION") as raised:
        parse_stages("8:" + "9" * 400 + "s")
    assert len(str(raised.value)) < 100


def test_stages_follow_each_other() -> None:
    stages = parse_stages("8:30s 32:1.5m,8:1h 0:2")
    assert stages == [Stage(8, 30), Stage(32, 90), Stage(8, 3600), Stage(0, 2)]
    assert [stage_at(stages, at) for at in (0, 29.9, 30, 119, 120, 3719, 3721.9, 3722)] == [
        *(8, 8, 32, 32, 8, 8, 0),
        None,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no stage"),
        ("8", "not USERS:DURATION"),
        ("8:0.5s", "one second"),
        ("8:30d", "not USERS:DURATION"),
        ("-8:30s", "not USERS:DURATION"),
        ("200000:30s", "too many"),
        ("0:30s", "no stage has a user"),
        (" ".join(["1:1s"] * 1001), "1001 stages"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_stages(text)
