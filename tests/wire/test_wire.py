"""The closed loop: how many requests are in flight, when they are sent, what on_reply can do."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest
from helpers.instrument import (
    GET,
    Crowd,
    is_at_rest,
    kind,
    open_tls_wire,
    open_wire,
    refusing_url,
)
from helpers.raw_server import (
    Peer,
    RawServer,
    answer,
    keep_answering,
)

from livecheck.wire import connection
from livecheck.wire.wire import Reply, Request, Target, Wire


def test_a_closed_loop_keeps_exactly_n_requests_in_flight_and_sends_all(serve):
    crowd = Crowd()
    server = serve(crowd)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 30, 5)
    assert crowd.most == 5
    assert len(replies) == server.requests == 30
    assert [reply.status for reply in replies] == [200] * 30
    assert all(reply.body == b"ok" and reply.failure is None for reply in replies)


def test_a_closed_loop_opens_one_connection_for_each_request_in_flight(serve):
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 20, 4)
        again = instrument.exchange([GET] * 4, 4)
    assert len(server.peers) == 4
    assert sum(reply.handshake is not None for reply in replies) == 4
    assert all(reply.handshake is None and reply.failure is None for reply in again)


def test_a_concurrency_above_the_number_of_requests_is_a_burst():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        assert len(instrument.exchange([GET] * 3, 100)) == 3
        assert len(server.peers) == 3


def test_without_requests_there_are_no_replies():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        assert instrument.exchange([]) == []
        assert instrument.exchange([], 8) == []
        assert len(instrument.exchange([GET])) == 1


def test_a_burst_is_sent_when_every_connection_is_open(serve, monkeypatch):
    opened_ns: list[int] = []
    real = connection.connect

    def connect(*args: Any) -> connection.Connection:
        opened = real(*args)
        opened_ns.append(opened.opened_ns)
        return opened

    monkeypatch.setattr(connection, "connect", connect)
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 40, 40)
    first_sent = min(reply.t0_ns or 0 for reply in replies)
    assert len(opened_ns) == 40 and first_sent > max(opened_ns)
    assert max(reply.t0_ns or 0 for reply in replies) - first_sent < 1e9
    assert max(min(peer.asked_ns) for peer in server.peers) > first_sent


def test_a_burst_waits_for_a_slow_connection(tls):
    """Nothing is sent while a handshake is still under way."""
    slow_ns = 0

    def script(peer: Peer) -> None:
        nonlocal slow_ns
        if peer.number == 3:
            time.sleep(0.2)
            slow_ns = time.perf_counter_ns()
        peer.start_tls(tls)
        keep_answering(peer)

    with RawServer(script) as server, open_tls_wire(server) as instrument:
        replies = instrument.exchange([GET] * 6, 6)
    assert [kind(reply) for reply in replies] == [None] * 6
    assert min(reply.t0_ns or 0 for reply in replies) > slow_ns > 0


def test_a_connection_that_is_closed_before_the_start_is_opened_again(tls):
    impatient = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        if peer.number == 0:
            for _ in range(2):
                impatient.acquire(timeout=10)
            time.sleep(0.05)  # until both have closed
        peer.start_tls(tls)
        if 0 < peer.number < 3:  # these close the connection because no request comes
            impatient.release()
            return
        keep_answering(peer)

    with RawServer(script) as server, open_tls_wire(server) as instrument:
        replies = instrument.exchange([GET] * 3, 3)
    assert [reply.status for reply in replies] == [200] * 3
    assert not any(reply.resent for reply in replies)
    assert len(server.peers) == 5


def test_the_others_do_not_wait_for_failed_connections(tls):
    def script(peer: Peer) -> None:
        if peer.number % 2:
            peer.reset()
            return
        peer.start_tls(tls)
        keep_answering(peer)

    with RawServer(script) as server, open_tls_wire(server) as instrument:
        replies = instrument.exchange([GET] * 24, 8)
        assert is_at_rest(instrument)
    kinds = [kind(reply) for reply in replies]
    assert len(replies) == 24
    assert kinds.count("connect") >= 4 and kinds.count(None) + kinds.count("connect") == 24


def test_a_connection_that_hangs_costs_only_its_own_request(tls):
    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.wait_gone()
            return
        peer.start_tls(tls)
        keep_answering(peer)

    with RawServer(script) as server, open_tls_wire(server, 0.4) as instrument:
        started = time.monotonic()
        replies = instrument.exchange([GET] * 8, 4)
        assert time.monotonic() - started < 4
    kinds = [kind(reply) for reply in replies]
    assert kinds.count("connect") == 1 and kinds.count(None) == 7
    failed = next(reply for reply in replies if reply.failure)
    assert failed.t0_ns is None and "timed out" in failed.failure.text


def test_replies_are_in_the_order_in_which_their_requests_were_begun():
    def script(peer: Peer) -> None:
        while (body := peer.request()) is not None:
            time.sleep(0.06 if body == b"0" else 0.005)
            peer.send(answer(body))

    ended: list[int] = []
    requests = [Request("POST", "/", b"%d" % number) for number in range(12)]
    with RawServer(script) as server, open_wire(server) as instrument:
        replies = instrument.exchange(requests, 3, lambda reply: ended.append(reply.index))
    assert [reply.body for reply in replies] == [b"%d" % number for number in range(12)]
    assert [reply.index for reply in replies] == list(range(12))
    assert sorted(ended) == list(range(12)) and ended != sorted(ended)


def test_on_reply_can_stop_the_sending_and_requests_in_flight_finish():
    begun: list[int] = []

    def stop(reply: Reply) -> bool:
        begun.append(len(instrument.replies))
        return reply.index == 5

    with RawServer(Crowd(0.03)) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 50, 4, stop)
        assert is_at_rest(instrument)
    assert 6 <= len(replies) == begun[-1] < 50
    assert begun[-4:] == [len(replies)] * 4  # those in flight came to their end
    assert [reply.status for reply in replies] == [200] * len(replies)
    assert server.requests == len(replies)


def test_with_many_in_flight_each_reply_is_told_once():
    told = []
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 200, 64, on_reply=lambda each: told.append(each))
    assert sorted(each.index for each in told) == list(range(200))
    assert len(replies) == 200


def test_with_many_in_flight_on_reply_stops_the_sending_soon():
    with RawServer(Crowd(busy_s=0.3)) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 640, 64, on_reply=lambda _: True)
    assert 64 <= len(replies) <= 128  # one more in each slot, at the most
    assert all(reply.status == 200 for reply in replies)


def test_the_collector_looks_at_all_objects_again_afterwards():
    frozen = []
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 64, 64, lambda _: frozen.append(gc.get_freeze_count()))
    assert min(frozen) > 0
    assert gc.get_freeze_count() == 0


def test_on_reply_can_stop_at_the_first_failed_connection():
    with refusing_url() as url, Wire(Target(url), 5) as instrument:
        replies = instrument.exchange([GET] * 50, 4, lambda reply: True)
    assert [kind(reply) for reply in replies] == ["connect"] * 4


def test_an_exception_in_on_reply_leaves_the_wire_usable():
    def fail(reply: Reply) -> None:
        raise RuntimeError("in the middle")

    with RawServer(Crowd()) as server, open_wire(server) as instrument:
        with pytest.raises(RuntimeError, match="in the middle"):
            instrument.exchange([GET] * 9, 3, fail)
        assert is_at_rest(instrument)
        assert sum(reply.failure is None for reply in instrument.replies) == 1
        assert [reply.status for reply in instrument.exchange([GET] * 9, 3)] == [200] * 9


def test_requests_may_come_from_an_iterator_of_unknown_length():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        assert len(instrument.exchange((GET for _ in range(7)), 3)) == 7
        assert len(instrument.exchange(iter([GET]), 3)) == 1
        assert instrument.exchange(iter(()), 3) == []
        assert instrument.exchange(iter(()), 3, due_s=[0.0]) == []
        assert instrument.exchange([GET], 3, due_s=[]) == []
