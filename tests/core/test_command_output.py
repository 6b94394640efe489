"""A command of the operator's costs a bounded time and amount of memory, whatever it does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from livecheck.core.command_output import MOST_PRINTED, Command, NoOutput, Printed


def test_what_a_command_prints_is_read_with_its_exit_code() -> None:
    found = Command("echo out; echo first >&2; echo last >&2; exit 3", 20).run()
    assert found == Printed("out\n", "first\nlast\n", 3)
    assert found.last_words == "last"
    assert Command(["sh", "-c", "kill -9 $$"], 20).run().code == -9
    assert Command("true", 20).run().last_words == "nothing on stderr"


def test_a_command_gets_its_variables_beside_those_of_this_program() -> None:
    assert Command('echo "$NAME"; test "$PATH"', 20, {"NAME": "x"}).run() == Printed("x\n", "", 0)


def test_as_much_as_is_allowed_is_kept_whole() -> None:
    assert len(Command(f"yes | head -c {MOST_PRINTED}", 20).run().out) == MOST_PRINTED
    with pytest.raises(NoOutput, match="more than 64 KB"):
        Command(f"yes | head -c {MOST_PRINTED + 1}", 20).run()


def test_of_stderr_only_the_end_is_kept() -> None:
    found = Command("yes | head -c 1000000 >&2; echo end >&2; echo 1", 20).run()
    assert (found.out, found.last_words, found.code) == ("1\n", "end", 0)
    assert len(found.err) <= MOST_PRINTED + 1


@pytest.mark.parametrize(
    "text", ["sleep 60", "exec >&- 2>&-; sleep 60", "yes >&2", "yes & sleep 60"]
)
def test_a_command_that_does_not_end_is_ended(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(NoOutput):
        Command(text, 0.5).run()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("text", ["sleep 60 & echo 1", "setsid sleep 3 & echo 1"])
def test_a_child_that_is_left_behind_holds_up_nobody(text: str) -> None:
    begun = time.monotonic()
    assert Command(text, 20).run().out == "1\n"
    assert time.monotonic() - begun < 2.5


def test_what_a_command_leaves_running_stays_if_it_is_to(tmp_path: Path) -> None:
    late = f"(sleep 0.3; touch {tmp_path}/{{}}) >/dev/null 2>&1 &"
    Command(late.format("ended"), 20).run()
    Command(late.format("stays"), 20, leaves_running=True).run()
    deadline_s = time.monotonic() + 20
    while not (tmp_path / "stays").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert [each.name for each in tmp_path.iterdir()] == ["stays"]


def test_a_run_can_be_ended_from_another_thread() -> None:
    command = Command("sleep 60", 60)
    threading.Timer(0.3, command.abandon).start()
    assert command.run().code == -9


def test_a_command_that_cannot_be_started_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError):
        Command(["/no/such/program"], 5).run()
    with pytest.raises(ValueError):
        Command(["a\0b"], 5).run()
