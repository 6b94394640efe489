"""The open loop: requests on a schedule."""

from __future__ import annotations

import itertools
import statistics
import time

import pytest
from helpers.instrument import (
    GET,
    Crowd,
    interrupt_after,
    is_at_rest,
    kind,
    open_tls_wire,
    open_wire,
    refusing_url,
)
from helpers.raw_server import (
    OK,
    Peer,
    RawServer,
    keep_answering,
)

from livecheck.wire.wire import Reply, Target, Wire


def waits_ms(replies: list[Reply]) -> list[float]:
    """From when each request was due until it was sent."""
    return [((reply.t0_ns or 0) - (reply.due_ns or 0)) / 1e6 for reply in replies]


def test_requests_are_sent_when_they_are_due(serve):
    due_s = [0.0, 0.05, 0.1, 0.1, 0.1004, 0.1009, 0.25]
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        instrument.exchange([GET] * 7, 7)  # leaves seven idle connections
        replies = instrument.exchange([GET] * 7, 100, due_s=due_s)
        assert is_at_rest(instrument)
    start_ns = replies[0].due_ns or 0
    assert [round(((r.due_ns or 0) - start_ns) / 1e9, 6) for r in replies] == due_s
    assert min(waits_ms(replies)) >= 0
    assert statistics.median(waits_ms(replies)) < 5, "the timer must be finer than milliseconds"
    assert [reply.status for reply in replies] == [200] * 7


def test_a_slow_server_does_not_slow_down_the_arrivals(serve):
    crowd = Crowd(0.2)
    server = serve(crowd)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 12, 100, due_s=[0.01 * n for n in range(12)])
    assert crowd.most == 12
    assert max(waits_ms(replies)) < 150


def test_requests_beyond_the_concurrency_wait_and_this_is_not_the_lag_of_the_client():
    crowd = Crowd(0.05)
    with RawServer(crowd) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 2, 2)  # leaves two idle connections: no race of opening them
        replies = instrument.exchange([GET] * 6, 2, due_s=[0.0] * 6)
    assert crowd.most == 2
    waits = waits_ms(replies)
    assert waits == sorted(waits), "first come, first served"
    assert min(waits[2:4]) >= 45 and min(waits[4:]) >= 90
    assert statistics.median((reply.late_ns or 0) / 1e6 for reply in replies) < 20


def test_connecting_is_part_of_the_wait_but_not_of_the_lag_of_the_client(tls):
    def script(peer: Peer) -> None:
        time.sleep(0.2)
        peer.start_tls(tls)
        keep_answering(peer)

    with RawServer(script) as server, open_tls_wire(server) as instrument:
        replies = instrument.exchange([GET] * 3, 3, due_s=[0.0, 0.1, 0.2])
    assert min(waits_ms(replies)) >= 200
    assert min((reply.late_ns or 0) / 1e6 for reply in replies) < 100


def test_a_client_that_is_held_up_has_a_lag():
    def hold_up(reply: Reply) -> None:
        if reply.index == 0:
            time.sleep(0.3)

    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 2, 5, hold_up, due_s=[0.0, 0.1])
    assert (replies[1].late_ns or 0) / 1e6 > 150
    assert waits_ms(replies)[1] > 150


def test_on_reply_can_end_an_endless_open_loop():
    ticks = (0.005 * number for number in itertools.count())
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        endless = itertools.repeat(GET)
        replies = instrument.exchange(endless, 5, lambda r: r.index == 9, due_s=ticks)
        assert is_at_rest(instrument)
    assert 10 <= len(replies) < 30
    assert [kind(reply) for reply in replies] == [None] * len(replies)


def test_answers_are_read_although_the_schedule_cannot_be_kept():
    """More requests are due than can be begun. The answers are read, and on_reply can stop it."""
    ticks = (number / 1e6 for number in itertools.count())
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        started = time.monotonic()
        replies = instrument.exchange(itertools.repeat(GET), 2, lambda r: r.index > 20, due_s=ticks)
    assert 21 <= len(replies) < 40
    assert time.monotonic() - started < 5


def test_a_refused_connection_costs_only_its_own_request():
    with refusing_url() as url, Wire(Target(url), 5) as instrument:
        replies = instrument.exchange([GET] * 5, 2, due_s=[0.02 * n for n in range(5)])
    assert [kind(reply) for reply in replies] == ["connect"] * 5
    assert all(reply.due_ns and reply.t0_ns is None for reply in replies)


def test_requests_that_hang_end_with_the_timeout_in_an_open_loop():
    with RawServer(Peer.wait_gone) as server, open_wire(server, timeout_s=0.25) as instrument:
        started = time.monotonic()
        replies = instrument.exchange([GET] * 4, 4, due_s=[0.0, 0.05, 0.1, 0.15])
    assert [kind(reply) for reply in replies] == ["timeout"] * 4
    assert 0.35 < time.monotonic() - started < 3


def test_an_interrupted_open_loop_keeps_what_has_arrived(serve):
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        with pytest.raises(KeyboardInterrupt), interrupt_after(0.18):
            instrument.exchange(itertools.repeat(GET), 4, due_s=itertools.count(0, 0.05))
        assert is_at_rest(instrument)
        assert 3 <= len(instrument.replies) <= 8
        assert instrument.exchange([GET])[0].status == 200


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_request_is_sent_again_when_the_idle_connection_closes_when_it_is_due(serve, how):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        if how == "rst":
            peer.reset()

    server = serve(script)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 2, 4, due_s=[0.0, 0.1])
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[1].resent and replies[1].due_ns
