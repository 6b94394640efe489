"""make fidelity: how exact benchmark.py is, and that the table shows a client that is slow."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.plain_client import family, on_linux
from tools import fidelity

from livecheck.load import truth_trial
from livecheck.load.truth_trial import Trial
from livecheck.wire import client_error

TRIAL = Trial(concurrency=2, requests=4, tokens=40, ttft_ms=50, itl_ms=5)


def errors_of(trial: Trial) -> tuple[client_error.Errors, truth_trial.Outcome]:
    outcome = truth_trial.run(trial, *truth_trial.separate_processors())
    return client_error.compare(outcome.document["requests"], outcome.truth["requests"]), outcome


def test_the_figures_of_a_client_that_is_left_alone() -> None:
    errors, outcome = errors_of(TRIAL)
    assert (len(errors.ttft_ms), errors.unmatched) == (4, 0)
    assert len(errors.event_ms) == 4 * 40 and len(errors.gap_ms) == 4 * 39
    assert abs(client_error.summary(errors.event_ms)["p50"] or 0) < 2
    # 2 requests of the warm-up are measured too
    assert outcome.events == 6 * 40
    assert outcome.cpu_s is None or 0.05 < outcome.cpu_s < 30
    assert outcome.peak_mb is None or 10 < outcome.peak_mb < 500


@on_linux
def test_the_memory_of_this_process_is_not_that_of_the_client() -> None:
    ours = bytearray(os.urandom(1 << 20) * 300)
    with truth_trial.process([sys.executable, "-c", "import time; time.sleep(0.5)"], ".") as other:
        _, peak_mb = truth_trial.wait(other, 10)
    assert len(ours) > 300e6 and peak_mb and 3 < peak_mb < 100


@on_linux
def test_a_planted_delay_of_the_client_is_in_the_table() -> None:
    """A client that is stopped for 60 ms again and again reads several events at once; the kernel
    keeps the time of the last, so that those before it are reported too late."""
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.03):
            for pid in family(os.getpid()) - {os.getpid()}:
                with contextlib.suppress(OSError):  # it has just ended
                    if b"benchmark.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGSTOP)
                        time.sleep(0.06)
                        os.kill(pid, signal.SIGCONT)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        errors, _ = errors_of(TRIAL)
    finally:
        stop.set()
        disturbing.join()
    assert (client_error.summary(errors.event_ms)["p99"] or 0) > 20


def arguments(*argv: str) -> argparse.Namespace:
    return fidelity.build_parser().parse_args(argv)


def test_the_table() -> None:
    head, *_, row = fidelity.table(arguments("--streams", "2", "--tokens", "8", "--kinds", "plain"))
    assert re.match(r"What benchmark.py reported minus what was true: \d{4}-\d\d-\d\d, ", head)
    cells = row.split()
    assert cells[:2] == ["plain", "2"] and 20 < float(cells[2]) < 60
    assert all(re.fullmatch(r"-?[\d.,]+", cell) for cell in cells[3:11])


def test_many_streams_are_slower_so_that_the_truth_stays_exact() -> None:
    trial = fidelity.trial_of(1000, True, arguments())
    assert 1e3 / trial.itl_ms == 25 and trial.requests == 2000
    assert fidelity.trial_of(64, False, arguments()).itl_ms == 20


def test_a_level_that_cannot_be_measured_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise truth_trial.TrialError("the client did not end within 1 s")

    monkeypatch.setattr(fidelity, "run", fail)
    *_, row = fidelity.table(arguments("--streams", "2", "--kinds", "tls"))
    assert row.split(maxsplit=2)[2] == "not measured: the client did not end within 1 s"
