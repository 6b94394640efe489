"""Requests that follow from the reply to another one."""

from __future__ import annotations

import dataclasses
import time

from helpers.instrument import GET, is_at_rest, open_wire, refusing_url
from helpers.raw_server import RawServer, keep_answering

from livecheck.wire.conversation import Following
from livecheck.wire.wire import Reply, Request, Target, Wire

SLOW_S = 0.05  # to work out what follows


class Chain(Following):
    """`length` requests in each place, which say which one they follow."""

    def __init__(self, places: int, length: int, spent_s: float = 0.0):
        self.left, self.length, self.spent_s = places, length, spent_s
        self.depth: list[int] = []  # of each request
        self.follows: list[int | None] = []

    def following(self, last: Reply | None) -> Request | None:
        time.sleep(self.spent_s)
        depth = self.depth[last.index] + 1 if last is not None else 1
        if depth > self.length:
            last, depth = None, 1
        if last is None:
            if not self.left:
                return None
            self.left -= 1
        self.depth.append(depth)
        self.follows.append(None if last is None else last.index)
        return dataclasses.replace(GET, path=f"/{len(self.depth)}")


def test_each_place_goes_on_from_its_own_reply(serve):
    chain = Chain(places=6, length=3)
    with open_wire(serve(keep_answering)) as wire:
        replies = wire.exchange(chain, 2)
        assert is_at_rest(wire)
    assert len(replies) == 18 and all(reply.status == 200 for reply in replies)
    assert [reply.request.path for reply in replies] == [f"/{n}" for n in range(1, 19)]
    assert sorted(chain.depth) == [1] * 6 + [2] * 6 + [3] * 6
    for reply, before in zip(replies, chain.follows, strict=True):
        if before is not None:
            assert replies[before].end_ns <= reply.t0_ns


def test_what_it_takes_to_find_the_next_request_is_no_lag():
    with RawServer(keep_answering) as server, open_wire(server) as wire:
        replies = wire.exchange(Chain(places=1, length=4, spent_s=SLOW_S), 1)
    gaps_s = [(b.t0_ns - a.end_ns) / 1e9 for a, b in zip(replies, replies[1:], strict=False)]
    assert min(gaps_s) >= SLOW_S
    assert min(reply.late_ns for reply in replies[1:]) / 1e9 < SLOW_S / 2


def test_nothing_follows_once_it_is_to_stop():
    chain = Chain(places=5, length=5)
    with RawServer(keep_answering) as server, open_wire(server) as wire:
        replies = wire.exchange(chain, 2, on_reply=lambda reply: reply.index >= 3)
    assert 4 <= len(replies) <= 5


def test_a_place_that_could_not_connect_at_the_start_begins_anew():
    chain = Chain(places=4, length=3)
    with refusing_url() as url, Wire(Target(url), 5) as wire:
        replies = wire.exchange(chain, 2)
    assert [reply.failure.kind for reply in replies] == ["connect"] * 8
    assert chain.follows[:4] == [None] * 4 and sorted(chain.depth[4:]) == [2, 2, 3, 3]
