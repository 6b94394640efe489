"""With how many processes a level is measured, where nobody says it."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.scripts import load_script

from livecheck.load import cores, process_count
from livecheck.load.arrivals import Load
from livecheck.load.client_delay import Client, processes_needed
from livecheck.load.process_count import Busy, busy_by, kept_ready, processes_for
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Reply, Request
from reference import running


def answer(start_ns: int, gap_ns: int, reads: int) -> Answer:
    reply = Reply(0, Request("POST", "/v1/chat/completions"), t0_ns=0)
    for number in range(reads):
        reply.add(b"x", start_ns + number * gap_ns, 0)
    return Answer(reply)


def options(**changed: Any) -> argparse.Namespace:
    usual = {"processes": None, "find_capacity": False, "max_level": None, "direct_url": None}
    usual |= {"turns": None}
    return argparse.Namespace(**{**usual, "warmup": 1, **changed})


def test_the_busiest_moment_of_the_warm_up_decides() -> None:
    """100 streams of 50 reads a second each: 5,000 a second, however long the wait before was."""
    streams = [answer(10**9 + n * 10_000, 20_000_000, 100) for n in range(100)]
    busy = busy_by(Load(100, 100), streams, Client(cpu_s=1.0, wall_s=9.0))
    assert busy and busy.reads_per_s == 5000 and busy.cpu_s_per_read == 1e-4
    assert busy.share == pytest.approx(0.5)


def test_an_open_loop_has_what_its_rate_and_its_answers_say() -> None:
    busy = busy_by(Load(9, 9, rate_per_s=30.0), [answer(0, 10, 200)], Client(cpu_s=0.01, wall_s=1))
    assert busy and busy.reads_per_s == 6000


def test_a_warm_up_without_answers_tells_nothing() -> None:
    assert busy_by(Load(9, 9), [], Client(cpu_s=1.0, wall_s=1.0)) is None
    assert busy_by(Load(9, 9), [answer(0, 1, 1)], Client()) is None
    assert processes_for(None, 8) == 1


@pytest.mark.parametrize(
    ("share", "at_most", "count"),
    [(0.1, 8, 1), (0.6, 8, 1), (0.7, 8, 2), (1.9, 8, 4), (1.9, 2, 2), (5.0, 1, 1)],
)
def test_a_core_is_left_time_for_what_comes_at_once(share: float, at_most: int, count: int) -> None:
    assert processes_for(Busy(10_000, share / 10_000), at_most) == count


def test_small_levels_keep_no_process_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_count, "cores", lambda: 8)
    assert kept_ready(options(), [Load(8, 8), Load(256, 256)], 128) == 0
    assert kept_ready(options(), [Load(1000, 10, rate_per_s=5.0)], 128) == 0
    assert kept_ready(options(), [Load(1000, 1000)], 128) == 4
    assert kept_ready(options(), [Load(5000, 5000)], 128) == 8
    assert kept_ready(options(), [Load(1000, 1000, rate_per_s=200.0)], 128) == 2
    assert kept_ready(options(warmup=0), [Load(1000, 1000)], 128) == 0
    assert kept_ready(options(processes=1), [Load(1000, 1000)], 128) == 0
    assert kept_ready(options(processes=3), [Load(8, 8)], 128) == 3
    search = options(find_capacity=True, max_level=1024)
    assert kept_ready(search, [Load(4, 16)], 128) == 4


def test_on_one_core_nothing_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_count, "cores", lambda: 1)
    assert kept_ready(options(), [Load(1000, 1000)], 128) == 0


@pytest.mark.parametrize(
    ("processes", "share", "starved_ms", "needed"),
    [
        (1, 0.9, 0.0, 2),
        (2, 0.95, 0.0, 4),
        (1, 0.3, 0.0, 2),
        (1, 0.1, 0.0, None),  # it was not its own work
        (1, 0.9, 5000.0, None),  # others had the processor
    ],
)
def test_how_many_would_do_is_told_where_it_was_the_work(
    processes: int, share: float, starved_ms: float, needed: int | None
) -> None:
    client = Client(processes=processes, cpu_s=10 * share, wall_s=10.0)
    assert processes_needed(client, starved_ms) == needed


@pytest.mark.skipif(cores.cores() < 2, reason="two cores and Linux are needed")
@pytest.mark.parametrize("forbidden", [False, True])
def test_a_level_that_is_too_much_for_one_is_divided(
    forbidden: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The bounds are lowered, so that any level is too much."""
    monkeypatch.setattr(process_count, "MOST_CPU_SHARE", 0.0)
    monkeypatch.setattr(process_count, "GOOD_CPU_SHARE", 1e-6)
    monkeypatch.setattr(process_count, "STREAMS_OF_A_CORE", 1)
    with running(engine="sim", ttft_ms=20, itl_ms=2, slots=4, rate_limit=0) as deployment:
        code = load_script("benchmark.py").main(
            [
                *("--url", deployment.url, "--api-key", deployment.api_key, "--inference-only"),
                *("--concurrency", "4", "--requests", "8", "--max-tokens", "8"),
                *("--results", str(tmp_path), *(("--processes", "1") if forbidden else ())),
            ]
        )
    err = capsys.readouterr().err
    assert code == 0
    assert ("so 2 processes measure this level (--processes 1: one does)" in err) is not forbidden
    assert ("2 processes warm up" in err) is not forbidden


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (("--processes", "2"), 3, "cannot start 2 processes: Resource temporarily unavailable"),
        ((), 0, "concurrency 4: 4 requests"),  # nobody has asked for more than one
    ],
)
def test_a_system_that_starts_no_process(
    asked: tuple[str, ...],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(process_count, "cores", lambda: 2)
    monkeypatch.setattr(process_count, "can_divide", lambda: True)
    monkeypatch.setattr(process_count, "STREAMS_OF_A_CORE", 1)
    with running(engine="sim", ttft_ms=5, itl_ms=1, slots=4, rate_limit=0) as deployment:
        monkeypatch.setattr(os, "fork", refuse)
        options = ["--concurrency", "4", "--requests", "4", "--max-tokens", "4", *asked]
        access = ["--url", deployment.url, "--api-key", deployment.api_key, "--inference-only"]
        found = load_script("benchmark.py").main([*access, *options, "--results", str(tmp_path)])
        monkeypatch.undo()
    assert (found, words in capsys.readouterr().err) == (code, True)
