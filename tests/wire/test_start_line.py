"""`Wire.at_start`: everything is ready for the first request, and all begin at one moment."""

from __future__ import annotations

import time

import pytest
from helpers.instrument import GET, is_at_rest, open_wire
from helpers.raw_server import keep_answering

HELD_NS = 50_000_000


class StartLine:
    """Holds an exchange for HELD_NS, and remembers when it was asked and when that was over."""

    def __init__(self) -> None:
        self.asked_ns: list[int] = []
        self.start_ns = 0

    def wait(self) -> int:
        self.asked_ns.append(time.perf_counter_ns())
        time.sleep(HELD_NS / 1e9)
        self.start_ns = time.perf_counter_ns()
        return self.start_ns


def test_a_closed_loop_waits_with_open_connections(serve):
    line, server = StartLine(), serve(keep_answering)
    with open_wire(server) as instrument:
        instrument.at_start = line.wait
        replies = instrument.exchange([GET] * 12, 4)
    assert len(line.asked_ns) == 1 and len(replies) == 12
    opened = [reply for reply in replies if reply.handshake]
    assert len(opened) == 4
    assert all((reply.t0_ns or 0) >= line.start_ns for reply in replies)
    # connected while they waited: the first request of each slot is not late because of the wait
    assert min(reply.t0_ns or 0 for reply in replies) - line.start_ns < HELD_NS


def test_an_open_loop_is_due_from_that_moment_on(serve):
    line, server = StartLine(), serve(keep_answering)
    with open_wire(server) as instrument:
        instrument.at_start = line.wait
        replies = instrument.exchange([GET] * 3, 3, due_s=[0.0, 0.01, 0.02])
    due = [(reply.due_ns or 0) - line.start_ns for reply in replies]
    assert due == [0, 10_000_000, 20_000_000]


def test_who_gives_up_at_the_line_has_sent_nothing(serve):
    def give_up() -> int:
        raise ValueError("no start")

    server = serve(keep_answering)
    with open_wire(server) as instrument:
        instrument.at_start = give_up
        with pytest.raises(ValueError, match="no start"):
            instrument.exchange([GET] * 6, 3)
        assert server.requests == 0
        assert {each.failure.kind for each in instrument.replies if each.failure} == {"interrupted"}
        instrument.at_start = None
        assert len(instrument.exchange([GET])) == 1
        assert is_at_rest(instrument)
