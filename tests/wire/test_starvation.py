"""The client knows how long it could not have looked."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from livecheck.wire import chat
from livecheck.wire.starvation import Starvation, client_lag_ms
from tests.helpers import answers
from tests.helpers.scripts import ROOT

STOPPED_S = 0.12
NEEDS_SIGSTOP = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
PAUSE = """
import os, signal, sys, time
pid = int(sys.argv[1])
time.sleep(0.05)
os.kill(pid, signal.SIGSTOP)
time.sleep(float(sys.argv[2]))
os.kill(pid, signal.SIGCONT)
"""
MEASURE = """
import sys, time
from livecheck.wire import chat
from livecheck.wire.starvation import Starvation
with Starvation() as starvation:
    print("ready", flush=True)
    start_ns = time.perf_counter_ns()
    time.sleep(0.5)
    end_ns = time.perf_counter_ns()
print(starvation.between_ms(start_ns, end_ns))
print(starvation.between_ms(end_ns + 1, end_ns + 10**9))
"""


def busy_ms(starvation: Starvation, seconds: float) -> float:
    """Keep the interpreter's lock for so long, in small steps of no thread's own."""
    start_ns = time.perf_counter_ns()
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(10 * seconds)
    try:
        while time.perf_counter_ns() < start_ns + seconds * 1e9:
            pass
    finally:
        sys.setswitchinterval(switch_s)
    return starvation.between_ms(start_ns, time.perf_counter_ns())


@NEEDS_SIGSTOP
def test_a_process_that_was_stopped_was_blind():
    command = [sys.executable, "-c", MEASURE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as measuring:
        assert measuring.stdout and measuring.stdout.readline() == "ready\n"
        pause = [sys.executable, "-c", PAUSE, str(measuring.pid), str(STOPPED_S)]
        subprocess.run(pause, check=True)
        within, after = map(float, measuring.communicate()[0].split())
    assert within > 0.8 * STOPPED_S * 1e3
    assert after < 0.5 * STOPPED_S * 1e3  # a busy machine may starve it a little


def test_a_program_that_is_busy_with_itself_was_blind():
    with Starvation() as starvation:
        assert busy_ms(starvation, 0.1) > 70


def test_no_more_than_the_time_that_was_asked_about():
    with Starvation() as starvation:
        busy_ms(starvation, 0.05)
        now_ns = time.perf_counter_ns()
        assert starvation.between_ms(now_ns - 1_000_000, now_ns) <= 1
        assert starvation.between_ms(now_ns, now_ns) == 0


def test_it_ends_its_thread():
    before = threading.active_count()
    with Starvation() as starvation:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert starvation.between_ms(0, 1) == 0


def test_the_lag_of_an_answer_is_blindness():
    answer = answers.answer(200)
    assert client_lag_ms([answer]) == 0 == client_lag_ms([])
    answer.reply.lag_ns[-1] = 12_500_000
    assert client_lag_ms([answer]) == 12.5
    with Starvation() as starvation:
        pass
    assert starvation.of(answer) == 12.5


def test_only_what_the_client_did_not_see_just_before_the_first_output_matters():
    found = answers.streamed(200, request=chat.completion("m", "hi", 4))
    first_ns = found.first_output_ns
    assert first_ns
    starvation = Starvation()
    starvation._ended.set()

    def after_ms(*spans):
        edges = zip(*spans, strict=True)
        edges_ns = [[first_ns + int(each * 1e6) for each in edge] for edge in edges]
        starvation._starts, starvation._ends = edges_ns or ([], [])
        return starvation.unseen_ms(found)

    assert after_ms() == 0
    assert after_ms((-150, -100)) == 0  # it ran afterwards, and would have read it
    assert after_ms((-60, 5)) == 70  # known to a tick of 10 ms
    assert after_ms((-150, -75), (-60, 5)) == 160  # 15 ms between them are no look
    assert after_ms((-900, 5)) == 200  # not before it was sent
    assert after_ms((40, 90)) == 0


def test_the_spans_of_a_long_run_are_not_gone_through_for_each_answer() -> None:
    starvation = Starvation()
    starvation._ended.set()
    for number in range(100_000):
        starvation._add(number * 1000, number * 1000 + 500)
        starvation._add(number * 1000 + 400, number * 1000 + 600)  # overlaps it
    begun = time.process_time()
    for number in range(20_000):
        assert starvation.between_ms(number * 1000, number * 1000 + 2000) == 0.0012
    assert time.process_time() - begun < 5
    assert len(starvation.spans()) == 100_000
