"""Waiting while nothing is asked of the model: when it looks, and when it ends."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from livecheck.gateway.idle_wait import Session, ticks, wait_in_silence
from livecheck.gateway.sleep_evidence import Evidence, Wait
from livecheck.gateway.worker_count import Workers


def test_a_row_of_zeros_that_has_just_begun_is_not_cut_off_by_the_limit() -> None:
    seen = iter([1, 1, 0, 0, 0])

    class Source:
        name = "test"

        def read(self) -> tuple[int | None, dict[str, float]]:
            return next(seen), {}

        def abandon(self) -> None:
            pass

    class Run:
        def __init__(self) -> None:
            self.args = argparse.Namespace(probe_interval=0.1)

        def note_wrapped(self, text: str) -> None:
            pass

        @contextlib.contextmanager
        def progress(self, label: str, total: int) -> Iterator[Callable[[], None]]:
            yield lambda: None

    unused: Any = None
    session = Session(Run(), unused, unused, "", Workers([Source()]), Evidence())
    wait = Wait(0.0, 0.2, probed=False)
    wait_in_silence(session, wait, "", lambda wait: wait.zero_s is not None)
    assert [reading.count for reading in wait.readings] == [1, 1, 0, 0, 0]


def test_ticks_come_at_once_in_steps_and_at_the_end() -> None:
    begun = time.monotonic()
    times = [time.monotonic() - begun for _ in ticks(0.25, 0.1)]
    assert len(times) == 4
    assert all(at >= due for at, due in zip(times, (0, 0.1, 0.2, 0.25), strict=True))
