"""interruption.py: what signals do to a command, from its first line to its last."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from helpers.probe import URL
from helpers.scripts import ROOT, Finished

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
CODES = {INT: 130, TERM: 143, HUP: 143}
# `{early}` stands for the time of the imports, `{body}` for what the run measures, and `{late}` for
# what is done when it is saved.
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import livecheck.core.interruption as interruption
interruption.begin_command()
import os, threading, time
{early}
import common
from common import Check, Status
from livecheck.core import run as run_module

def ready():
    os.write(2, b"ready\\n")

def pause(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)

{late}

def measure(run):
    document = run.document("probe")
    document.add(Check("a", Status.PASS, "seen"))
{body}

def main():
    return common.main(common.new_parser(__file__, "Does it?", common.GATEWAY, ("a",)), measure)

interruption.end_with(main)
"""
QUICK = "interruption.PATIENCE_S = 0.3"
Command = Callable[..., list[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Write a command; how to start it."""

    def write(body: str = "pass", early: str = "", late: str = "") -> list[str]:
        path = tmp_path / "probe.py"
        indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
        text = SCRIPT.format(root=str(ROOT), body=indented, early=early, late=late)
        path.write_text(text)
        return [sys.executable, str(path), "--url", URL]

    return write


def signalled(words: Sequence[str], *signals: int, gap_s: float = 0.0) -> Finished:
    """Send the signals when the command says that it is ready."""
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr and run.stderr.readline() == "ready\n"
        for number in signals:
            run.send_signal(number)
            time.sleep(gap_s)
        out, err = run.communicate(timeout=60)
    assert "Traceback" not in err and "ignored" not in err, err
    return Finished(run.returncode, out, err, Path("results").absolute())


WORDS = [(INT, "interrupted"), (TERM, "terminated"), (HUP, "terminated")]


@pytest.mark.parametrize(("number", "word"), WORDS)
@pytest.mark.parametrize("early", ["pause(60)", "try: pause(60)\nexcept BaseException: pause(60)"])
def test_before_a_run_is_open_a_signal_ends_the_command_at_once(
    command: Command, early: str, number: int, word: str
) -> None:
    early = "def pause(seconds): time.sleep(seconds)\nos.write(2, b'ready\\n')\n" + early
    ended = signalled(command(early=early), number)
    assert (ended.code, ended.out, ended.err) == (CODES[number], "", f"probe.py: {word}\n")
    assert not ended.results.exists()


PAIRS = [(INT, INT), (TERM, TERM), (INT, TERM), (TERM, INT), (HUP, INT)]
WAYS = [(INT,), (TERM,), (HUP,), *PAIRS, (INT,) * 20]


@pytest.mark.parametrize("signals", WAYS, ids=lambda signals: "-".join(map(str, signals)))
def test_while_it_measures_the_results_are_saved_and_marked(
    command: Command, signals: tuple[int, ...]
) -> None:
    ended = signalled(command("ready(); pause(60)"), *signals)
    # which of two that are sent at once comes first, the kernel decides
    assert ended.code in {CODES[each] for each in signals}
    document = ended.document("probe")
    assert (document["exit_code"], document["interrupted"]) == (ended.code, True)


SWALLOWED = {
    "twice": "ready()\nfor _ in (1, 2):\n  try: pause(60)\n  except BaseException: pass\npause(60)",
    "once": "ready()\ntry: pause(60)\nexcept BaseException: pass",
    "another exception": "ready()\ntry: pause(60)\nexcept BaseException: raise ValueError",
    "a finalizer": "class A:\n  def __del__(self): ready(); pause(1)\nA()\npause(60)",
    "finally": "def f():\n  try: ready(); pause(60)\n  finally: return\nf()\npause(60)",
}


@pytest.mark.parametrize("how", SWALLOWED)
def test_an_exception_that_is_swallowed_comes_again(command: Command, how: str) -> None:
    ended = signalled(command(f"{QUICK}\n{SWALLOWED[how]}"), INT)
    assert (ended.code, ended.document("probe")["exit_code"]) == (130, 130)


def test_tidying_up_is_not_disturbed_by_more_signals(command: Command) -> None:
    body = "try:\n  ready(); pause(60)\nfinally:\n  pause(0.5); document.metrics['tidied'] = 1"
    ended = signalled(command(body), INT, INT, TERM, gap_s=0.1)
    assert (ended.code, ended.document("probe")["metrics"]) == (130, {"tidied": 1})


SLOW = """
save = run_module.write_atomically
def slowly(path, text):
    if path.suffix != ".try":
        ready(); pause(0.5)
    save(path, text)
run_module.write_atomically = slowly
"""


@pytest.mark.parametrize("signals", WAYS, ids=lambda signals: "-".join(map(str, signals)))
def test_when_it_saves_signals_change_nothing(command: Command, signals: tuple[int, ...]) -> None:
    ended = signalled(command(late=SLOW), *signals)
    assert (ended.code, ended.document("probe")["verdict"]) == (0, "pass")
    assert sorted(path.name for path in ended.results.iterdir()) == ["probe.json", "probe.log"]


def test_a_thread_that_never_ends_does_not_hold_up_the_end(command: Command) -> None:
    body = "threading.Thread(target=time.sleep, args=(300,)).start()\nready()"
    assert signalled(command(body)).code == 0


def test_a_terminal_that_is_closed_loses_nothing(command: Command) -> None:
    """As when a connection breaks: the kernel sends SIGHUP, and nothing can be written any more."""
    words = command("document.metrics['seen'] = 1; ready(); pause(60)")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    document = json.loads(Path("results/probe.json").read_text())
    assert (document["interrupted"], document["metrics"]) == (True, {"seen": 1})


@pytest.mark.parametrize("number", [INT, HUP])
def test_a_signal_that_was_ignored_stays_ignored(command: Command, number: int) -> None:
    """A shell starts a job in the background so, and `nohup` a command."""
    words = command("ready(); pause(0.5)")
    ignoring = f"import os, signal, sys; signal.signal({int(number)}, signal.SIG_IGN)"
    start = [sys.executable, "-c", f"{ignoring}; os.execv(sys.argv[1], sys.argv[1:])", *words]
    assert signalled(start, number).code == 0


def test_the_handlers_of_a_process_that_imports_a_command_are_left_alone() -> None:
    """Tests, and whoever calls `main(argv)`."""
    code = f"""
import json, signal, sys
sys.path.insert(0, {str(ROOT)!r})
def handlers(): return [str(signal.getsignal(each)) for each in (1, 2, 14, 15)]
before = handlers()
import test_cors
imported = handlers()
test_cors.main(["--url", "http://127.0.0.1:9", "--output", "json", "--origin", "https://a.b"])
print("\\n" + json.dumps([before == imported, before == handlers()]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(ended.stdout.splitlines()[-1]) == [True, True], ended.stderr


def test_exit_codes_are_known_where_sigchld_is_ignored(command: Command) -> None:
    body = """import subprocess
code = subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode
document.add(Check("code", Status.PASS if code == 3 else Status.FAIL, f"it was {code}"))"""
    ignored = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    start = f"{ignored}; import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", start, *command(body)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
