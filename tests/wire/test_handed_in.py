"""Requests that are handed in one by one while an exchange runs."""

from __future__ import annotations

import time

import pytest
from helpers.raw_server import OK, Peer, RawServer

from livecheck.wire.request import Reply
from livecheck.wire.wire import Request, Target, Wire

pytestmark = pytest.mark.timeout(30)
GET = Request("GET", "/ping")


def answers_all(peer: Peer) -> None:
    while peer.request() is not None:
        peer.send(OK)


def answers_the_first(peer: Peer) -> None:
    peer.request()
    if peer.number == 0:
        peer.send(OK)
    peer.request()


def test_a_user_asks_again_when_its_answer_has_come() -> None:
    with RawServer(answers_all) as server, Wire(Target(server.url), 5) as wire:
        ended: list[Reply] = []

        def on_reply(reply: Reply) -> None:
            ended.append(reply)
            if len(ended) < 10:
                exchange.give(GET, reply.end_ns)
            elif len(ended) == 11:  # the other user's last one has come as well
                exchange.end()

        exchange = wire.handed_in(on_reply, lambda is_urgent: False)
        given = [exchange.give(GET), exchange.give(GET)]
        exchange.run()
        exchange.abandon()
    assert given == [0, 1]
    assert sorted(reply.index for reply in ended) == list(range(11))
    assert all(reply.status == 200 and reply.failure is None for reply in ended)
    assert len(server.peers) <= 3  # connections are kept
    late = [reply.late_ns for reply in ended if reply.late_ns is not None]
    assert len(late) == 9
    assert all(0 <= each < 1e9 for each in late)


def test_a_request_that_is_withdrawn_was_interrupted() -> None:
    with RawServer(answers_the_first) as server, Wire(Target(server.url), 5) as wire:
        ended: list[Reply] = []

        def on_reply(reply: Reply) -> None:
            ended.append(reply)
            if reply.failure is None:
                exchange.withdraw(other if reply.index == first else first)
                exchange.end()

        exchange = wire.handed_in(on_reply, lambda is_urgent: False)
        first, other = exchange.give(GET), exchange.give(GET)  # whichever is accepted first
        begun_s = time.perf_counter()
        exchange.run()
        exchange.abandon()
    assert time.perf_counter() - begun_s < 4
    assert [reply.failure.kind if reply.failure else None for reply in ended] == [
        None,
        "interrupted",
    ]
    assert not exchange.slots


def test_withdrawing_what_has_ended_does_nothing() -> None:
    with RawServer(answers_all) as server, Wire(Target(server.url), 5) as wire:
        ended: list[Reply] = []

        def on_reply(reply: Reply) -> None:
            ended.append(reply)
            exchange.end()

        exchange = wire.handed_in(on_reply, lambda is_urgent: False)
        index = exchange.give(GET)
        exchange.run()
        exchange.withdraw(index)
        exchange.abandon()
    assert len(ended) == 1
    assert ended[0].failure is None
