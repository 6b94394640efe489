"""A selection of the table of hostile behaviours; `make hostile` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from hostile.behaviours import Case, cases, mechanisms, run_case
from hostile.commands import COMMANDS, SECRETS, random_text
from hostile.judge import complaints, control_characters, piece_of
from hostile.run import Ended, Pythons, run_against

AT_ONCE = 6
SPARE_S = 30.0  # other tests share the processors here: `make hostile` has the true bound
EACH = 60  # of the usual selection, one in so many


def selected() -> list[Case]:
    """Some of every layer, and one for each case with which the table began."""
    usual = list(cases())
    first_of = {each.mechanism: each for each in reversed(usual) if each.mechanism.confirmed}
    return list(dict.fromkeys([*usual[::EACH], *first_of.values()]))


CASES = selected()


@pytest.fixture(scope="module")
def runs(pythons: Pythons) -> Iterator[dict[Case, Future[list[str]]]]:
    """The complaints about each case. Several run at once, because most of them wait."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(lambda c=case: run_case(c, pythons, SPARE_S)[1]) for case in CASES}  # type: ignore[misc]
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=[f"{c.command.name} {c.name}" for c in CASES])
def test_a_hostile_server_costs_a_timeout(case: Case, runs: dict[Case, Future[list[str]]]) -> None:
    assert runs[case].result(timeout=170) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_behaviour_the_server_is_sound(name: str, pythons: Pythons) -> None:
    """Else nothing that a run says would be about the behaviour."""
    ended = run_against(COMMANDS[name], None, pythons, 60)
    assert complaints(ended, {0}, SECRETS) == []
    assert {call.sound.endpoint for call in ended.calls} >= COMMANDS[name].needs


def test_the_table_is_wide() -> None:
    layers = {each.layer for each in mechanisms()}
    assert len(layers) >= 12
    assert len(mechanisms()) > 500
    assert {each.command.name for each in cases()} == set(COMMANDS)


# --- the judge


def ended(code: int | None = 1, **more: object) -> Ended:
    sound: dict[str, object] = dict(
        own_wait_s=0.0, code=code, out=b"", err=b"", files={}, spent_s=1.0, memory_mb=30.0
    )
    return Ended(**{**sound, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (ended(None), "killed after"),
        (ended(0), "exit 0"),
        (ended(-11), "exit -11"),
        (ended(gaps_s=[0.1, 9.0]), "9.0 s from a request"),
        (ended(memory_mb=201.0), "201 MB"),
        (ended(was_led_away=True), "another host"),
        (ended(out=b"x" * 100_001), "KB of output"),
        (ended(files={"a.json": b"1" * 2_000_001}), "of result files"),
        (ended(err=b"Traceback (most recent call last):"), "Traceback"),
        (ended(err=b"test_wol.py: unexpected KeyError: 'x'"), "unexpected KeyError"),
        (ended(err=b"Task exception was never retrieved"), "never retrieved"),
        (ended(out=b"\x1b[31m"), "U+001B"),
        (ended(out=b"a\rb"), "U+000D"),
        (ended(out="\u202e".encode()), "U+202E"),
        (ended(out="\x9b".encode()), "U+009B"),
        (ended(out="\u2028".encode()), "U+2028"),
        (ended(out="\u200b".encode()), "U+200B"),
        (ended(out=b"\xff"), "not UTF-8"),
        (ended(files={"a.json": b'{"a": "\\u001b"}'}), "U+001B in a string"),
        (ended(files={"a.json": b'{"\\u202e": 1}'}), "U+202E in a string"),
        (ended(files={"a.json": b"{"}), "not JSON"),
        (ended(err=f"it ends in {SECRETS[0][-8:]}".encode()), "a piece of a credential"),
    ],
)
def test_the_judge_sees(run: Ended, says: str) -> None:
    found = complaints(run, {1, 3}, SECRETS)
    assert len(found) >= 1
    assert any(says in each for each in found), found


def test_the_judge_has_nothing_against_a_sound_run() -> None:
    words = "FAIL é 日本 503 after 4 ms, expected 200\n".encode()
    assert complaints(ended(out=words, files={"a.json": b"{}"}), {1, 3}, SECRETS) == []
    assert control_characters("ordinary\n") == ""
    assert piece_of(random_text(2000, 99), SECRETS) is None
