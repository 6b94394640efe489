"""cleaning.py: whatever is in a document or a line, it can be saved and shown."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from livecheck.core.checks import Exit, Status
from livecheck.core.cleaning import Cleaner, clean_line
from livecheck.core.redaction import Secrets
from livecheck.core.result_file import to_json


def cleaned(secrets: Secrets, value: Any) -> Any:
    return Cleaner(secrets).document({"metrics": value})["metrics"]


def saved(value: Any, key: str = "metrics") -> Any:
    """The value as it is read again from a result file."""
    return json.loads(to_json(Cleaner(Secrets()).document({key: value})))[key]


HOSTILE = {
    "escape": "a\x1b[31mb\x1b]0;title\x07",
    "C1": "a\x9b31mb\x85",
    "bidi": "a\u202eb\u2066c\u200f",
    "NUL": "a\0b",
    "lines": "a\r\nb\nFAIL  c\u2028d\u2029e",
    "zero width": "s\u200bk\u2060-\ufefft",
    "tags": "a\U000e0041\U000e0042",
    "surrogate": "a\ud83d b",
    "long": "x" * 3_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_line_is_visible_and_short(name: str) -> None:
    line = clean_line(HOSTILE[name], str)
    assert line.isprintable() and len(line) <= 1000
    assert clean_line(line, str) == line


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_and_keys_of_a_document_are_visible_and_short(name: str) -> None:
    text = HOSTILE[name]
    found = saved({text: [text, {"a": (text,)}], "name": text})
    whole = json.dumps(found, ensure_ascii=False)
    assert whole.isprintable() and len(whole) < 4 * 1100


NUMBERS = {
    10**17: 10**17,
    -(10**17): -(10**17),
    10**30: 1e30,
    10**4300: None,
    math.nan: None,
    -math.inf: None,
    True: True,
    Exit.FAIL: 1,
    1.5: 1.5,
}


@pytest.mark.parametrize("number", NUMBERS, ids=lambda each: str(type(each)))
def test_every_number_can_be_saved(number: float) -> None:
    assert saved([number]) == [NUMBERS[number]]


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


def test_what_json_does_not_have_is_text() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert saved([Path("x"), b"y", Status.PASS, Unspeakable(), {1: {2}}]) == [
        "x",
        "b'y'",
        "PASS",
        "(a Unspeakable)",
        {"1": [2]},
    ]
    assert "too deep" in json.dumps(saved(circle))


def test_figures_and_requests_are_kept_whole() -> None:
    times = [0.5] * 50_000
    assert saved([{"event_ms": times}, *[{"n": 1}] * 30_000], "requests")[0] == {"event_ms": times}
    assert len(saved([{"n": 1}] * 30_000, "requests")) == 30_000
    assert saved(times) == times


def test_what_a_server_can_make_long_is_counted_and_cut() -> None:
    assert saved(["m"] * 1500)[-1] == "500 more"
    assert saved({str(each): 1 for each in range(1500)})["left_out"] == 500
    assert saved([{"id": 1}] * 20_005)[-1] == {"left_out": 5}


def test_the_whole_of_a_file_is_bounded_when_every_request_has_long_words() -> None:
    records = [{"error": "x" * 100_000, "said": "y" * 100_000}] * 10_000
    text = to_json(Cleaner(Secrets()).document({"requests": records}))
    assert len(text) < 5_000_000


def test_redaction_reaches_keys_and_values_of_any_depth() -> None:
    secrets = Secrets()
    secrets.add("5ecret-token")
    value = {"5ecret-token": [("5ecret-token", 1), {"a": "x5ecret-tokeny"}], "n": None, "b": True}
    value["f"] = 1.5
    wanted = {"[redacted]": [["[redacted]", 1], {"a": "x[redacted]y"}], "n": None, "b": True}
    assert cleaned(secrets, value) == {**wanted, "f": 1.5}


def test_a_short_credential_does_not_shred_what_a_document_is_made_of() -> None:
    secrets = Secrets()
    for word in ("PASS", "user", "error"):
        secrets.add(word)
    value = {"status": "PASS", "name": "user:models", "detail": "Bad user PASS", "error": "error"}
    wanted = {"detail": "Bad [redacted] [redacted]", "error": "[redacted]"}
    assert cleaned(secrets, value) == {**value, **wanted}


def test_an_object_that_json_cannot_hold_is_redacted_as_its_text(run_secret: Secrets) -> None:
    assert cleaned(run_secret, Path("/tmp/5ecret/x")) == "/tmp/[redacted]/x"
    assert cleaned(run_secret, os.environ.__class__) == str(os.environ.__class__)


@pytest.fixture
def run_secret() -> Secrets:
    secrets = Secrets()
    secrets.add("5ecret")
    return secrets
