"""Trouble around a run: a bad token command, a bad results folder, a bad standard output.

The server is sound. Each run is judged as one against a hostile server is (judge.py).
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from helpers.plain_client import eventually, gone

from hostile.commands import ADMIN_TOKEN, BASIC_TOKEN, COMMANDS, SECRETS, Command
from hostile.judge import complaints
from hostile.run import Ended, Pythons, run_words, serving, words_of

LIMIT_S = 50.0  # a token command may take 30 s
Change = Callable[[Path], object]


def run_in(
    folder: Path,
    command: Command,
    pythons: Pythons,
    before: Change = lambda folder: None,
    meanwhile: Change | None = None,
    stdout: int | None = None,
    options: Collection[str] = (),
) -> Ended:
    """Run the command in this folder, which is changed `before` and `meanwhile`."""
    with serving(command, folder, None) as server:
        words = [*words_of(command, server, folder), *options]
        before(folder)
        if meanwhile:
            threading.Thread(target=meanwhile, args=(folder,), daemon=True).start()
        return run_words(words, folder, pythons, LIMIT_S, server, 32.0, stdout)


def assert_in_order(ended: Ended, *codes: int) -> None:
    assert complaints(ended, codes, SECRETS) == [], (ended.out + ended.err)[-600:]


# --- the token command


def script(text: str) -> Change:
    """The token command runs these lines of shell."""
    return lambda folder: (folder / "get-token").write_text(f"#!/bin/sh\n{text}\n")


def no_program(folder: Path) -> None:
    (folder / "get-token").unlink()


def a_folder(folder: Path) -> None:
    no_program(folder)
    (folder / "get-token").mkdir()


def not_executable(folder: Path) -> None:
    (folder / "get-token").chmod(0o600)


TOKEN_COMMANDS: dict[str, Change] = {
    "floods stdout": script("exec yes"),
    "floods stderr": script("exec yes >&2"),
    "floods both": script("yes & exec yes >&2"),
    "prints nothing": script("exit 0"),
    "prints two lines": script(f"echo {BASIC_TOKEN}; echo {ADMIN_TOKEN}"),
    "prints the token to stderr and fails": script(f"echo no {BASIC_TOKEN} >&2; exit 3"),
    "prints the end of the token and fails": script(f"echo no {BASIC_TOKEN[-14:]} >&2; exit 3"),
    "fails with escape sequences": script(r"printf '\033[31mred\007\302\233x\n' >&2; exit 1"),
    "prints escape sequences": script(r"printf '\033[31mred\n'"),
    "prints NUL": script(r"printf 'a\000b\n'"),
    "prints 8-bit bytes": script(r"printf '\377\376\n'"),
    "prints a long line": script("head -c 50000 /dev/zero | tr '\\0' a"),
    "fails with a long line": script("head -c 50000 /dev/zero | tr '\\0' a >&2; exit 1"),
    "ends by a signal": script("kill -9 $$"),
    "closes its output and stays": script("exec >&- 2>&-; sleep 2; exit 1"),
    "is gone": no_program,
    "is a folder": a_folder,
    "is not executable": not_executable,
    "is no program": lambda folder: (folder / "get-token").write_bytes(b"\x7fELF garbage"),
}


@pytest.mark.parametrize("name", TOKEN_COMMANDS)
def test_a_bad_token_command_is_exit_3(name: str, tmp_path: Path, pythons: Pythons) -> None:
    fleets = [each for each in COMMANDS.values() if each.is_fleet]
    command = fleets[len(name) % len(fleets)]
    ended = run_in(tmp_path, command, pythons, TOKEN_COMMANDS[name])
    assert_in_order(ended, 3)
    assert ended.spent_s < 20


def test_a_token_command_that_leaves_a_child_behind_is_used(
    tmp_path: Path, pythons: Pythons
) -> None:
    """The child holds the output open, and is ended."""
    child = script(f"sleep 300 & echo $! > child; echo {BASIC_TOKEN}")
    ended = run_in(tmp_path, COMMANDS["test_workload_routing"], pythons, child)
    assert_in_order(ended, 0, 1, 3)
    assert ended.spent_s < 20
    assert eventually(lambda: gone({int((tmp_path / "child").read_text())}))


# --- the folder of the results


def a_file(folder: Path) -> None:
    (folder / "results").write_text("not a folder")


def read_only(folder: Path) -> None:
    (folder / "results").mkdir(mode=0o500)


def a_dangling_link(folder: Path) -> None:
    (folder / "results").symlink_to(folder / "nowhere" / "else")


def a_loop(folder: Path) -> None:
    (folder / "results").symlink_to(folder / "results")


def a_device(folder: Path) -> None:
    (folder / "results").symlink_to("/dev/null")


@pytest.mark.parametrize("change", [a_file, read_only, a_dangling_link, a_loop, a_device])
def test_a_folder_that_cannot_take_results_is_a_mistake_in_the_command_line(
    change: Change, tmp_path: Path, pythons: Pythons
) -> None:
    if change is read_only and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    ended = run_in(tmp_path, COMMANDS["test_cors"], pythons, change)
    if change is a_dangling_link:
        assert_in_order(ended, 0, 2)  # it may be made
    else:
        assert_in_order(ended, 2)
        assert ended.requests == 0


def a_link_to_a_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "results").symlink_to(folder / "elsewhere")


def test_a_link_to_a_folder_is_followed(tmp_path: Path, pythons: Pythons) -> None:
    ended = run_in(tmp_path, COMMANDS["test_cors"], pythons, a_link_to_a_folder)
    assert_in_order(ended, 0)
    assert set(ended.files) == {"cors.json", "cors.log"}


def occupied(folder: Path) -> None:
    """Where the result file should be, there is a folder."""
    (folder / "results" / "cors.json").mkdir(parents=True)


def test_a_result_that_cannot_be_saved_is_exit_3(tmp_path: Path, pythons: Pythons) -> None:
    ended = run_in(tmp_path, COMMANDS["test_cors"], pythons, occupied)
    assert_in_order(ended, 3)
    assert b"cors.json" in ended.err


def removed_later(folder: Path) -> None:
    end_s = time.monotonic() + 10
    while not (folder / "results").exists() and time.monotonic() < end_s:
        time.sleep(0.01)
    time.sleep(0.1)
    shutil.rmtree(folder / "results", ignore_errors=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_is_gone_in_mid_run(name: str, tmp_path: Path, pythons: Pythons) -> None:
    """It is made again, or the run says that nothing was saved."""
    if name == "test_openai_sdk":
        pytest.skip("its end is that of the others, and it takes long")
    ended = run_in(tmp_path, COMMANDS[name], pythons, meanwhile=removed_later)
    assert_in_order(ended, 0, 3)
    assert ended.files or ended.code == 3


def test_a_full_disk_is_exit_3(tmp_path: Path, pythons: Pythons) -> None:
    """A limit on the size of files stands for it: writing fails in the same place."""
    limited = tmp_path / "limited.py"
    root = Path(__file__).parents[2]
    limited.write_text(
        "import resource, runpy, sys\n"
        f"sys.path.insert(0, {str(root)!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = COMMANDS["test_cors"]
    with serving(command, tmp_path, None) as server:
        words = words_of(command, server, tmp_path)
        pythons.of(command.script)
        ended = run_words(
            [str(limited), *words], tmp_path, pythons, LIMIT_S, server, 32.0, warm=command.script
        )
    assert_in_order(ended, 3)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_two_runs_into_one_folder_leave_whole_files(tmp_path: Path, pythons: Pythons) -> None:
    command = COMMANDS["test_cors"]
    results = tmp_path / "results"
    ends: list[Ended] = []

    def run_one(number: int) -> None:
        own = tmp_path / f"{number}"
        own.mkdir()
        (own / "results").symlink_to(results)
        ends.append(run_in(own, command, pythons))

    results.mkdir()
    threads = [threading.Thread(target=run_one, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(ends) == 4
    for ended in ends:
        assert_in_order(ended, 0)
    assert {path.name for path in results.iterdir()} == {"cors.json", "cors.log"}


# --- standard output


@pytest.mark.parametrize("options", [(), ("--output", "json"), ("-v",)], ids=str)
@pytest.mark.parametrize("name", ["test_cors", "test_model_routing", "benchmark"])
def test_a_full_standard_output_does_not_end_the_measuring(
    name: str, options: tuple[str, ...], tmp_path: Path, pythons: Pythons
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        ended = run_in(tmp_path, COMMANDS[name], pythons, stdout=full, options=options)
    finally:
        os.close(full)
    assert_in_order(ended, 3)
    assert b"standard output" in ended.err
    assert any(name.endswith(".json") for name in ended.files)


@pytest.mark.parametrize("options", [(), ("--output", "json"), ("-v",)], ids=str)
@pytest.mark.parametrize("name", ["test_cors", "test_model_routing", "benchmark"])
def test_a_pipe_that_nobody_reads(
    name: str, options: tuple[str, ...], tmp_path: Path, pythons: Pythons
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = run_in(tmp_path, COMMANDS[name], pythons, stdout=writing, options=options)
    finally:
        os.close(writing)
    assert_in_order(ended, 0, 3)
    assert any(name.endswith(".json") for name in ended.files)


# --- the command that counts workers

WORKERS_COMMANDS = {
    "floods": "yes",
    "floods stderr": "yes >&2",
    "hangs": "sleep 300",
    "prints escape sequences": r"printf '\033[31m5\n'",
    "fails with escape sequences": r"printf '\033[31m\302\233red\n' >&2; exit 4",
    "prints a huge number": "head -c 5000 /dev/zero | tr '\\0' 9",
    "prints nothing": "true",
    "leaves a child behind": "sleep 300 & echo 1",
}


@pytest.mark.parametrize("name", WORKERS_COMMANDS)
def test_a_bad_workers_command(name: str, tmp_path: Path, pythons: Pythons) -> None:
    command = COMMANDS["test_scale_to_zero"]
    options = ("--workers-command", WORKERS_COMMANDS[name])
    ended = run_in(tmp_path, command, pythons, options=options)
    assert_in_order(ended, 0, 1, 3)
    assert stat.S_ISDIR((tmp_path / "results").stat().st_mode)
