"""processes.py: a process that has ended is not waited for, asked or killed."""

from __future__ import annotations

import os
from typing import Any

import pytest

from livecheck.load.channel import Channel
from livecheck.load.processes import Process


def gone() -> Process:
    ours, theirs = Channel.pair()
    pid = os.fork()
    if not pid:
        os._exit(0)
    theirs.close()
    process = Process(0, pid, ours)
    process.is_gone()
    return process


def test_a_process_that_has_ended_stays_over_in_the_next_level() -> None:
    process = gone()
    assert (process.lost, process.pid) == ("ended with code 0", 0)
    job: Any = None
    process.begin(job)
    assert process.is_over and not process.is_ready


def test_a_process_that_has_ended_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is 0 then, which would be every process of the group: also this one."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    process = gone()
    process.kill()
    assert killed == []
    process.pid = 12345
    process.kill()
    assert killed == [12345]
