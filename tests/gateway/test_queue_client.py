"""Requests sent by a thread of their own."""

from __future__ import annotations

import threading

import pytest
from helpers.raw_server import OK, Peer, RawServer, keep_answering

from livecheck.wire.background import Background
from livecheck.wire.chat import get
from livecheck.wire.wire import Target, Wire


def test_answers_that_have_ended_are_there_before_all_have() -> None:
    release, first_is_out = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        if peer.heads[-1].startswith(b"GET /slow"):
            release.wait(20)
        peer.send(OK)
        first_is_out.set()

    with RawServer(script) as server:
        background = Background(Wire(Target(server.url), 30), 30, [get("/slow"), get("/quick")])
        assert first_is_out.wait(20)
        while not background.answers:
            background.join(0.01)
        assert [answer.path for answer in background.answers] == ["/quick"]
        assert background.begun == 1
        release.set()
        answers = background.collect()
    assert [answer.path for answer in answers] == ["/slow", "/quick"]
    assert all(answer.is_ok for answer in answers)
    assert background.answers == answers  # the same objects: each is read only once


def test_what_ends_the_thread_is_raised_where_the_answers_are_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exchange(*_: object, **__: object) -> None:
        raise OSError("too few file descriptors")

    monkeypatch.setattr("livecheck.wire.background.Wire.exchange", exchange)
    with RawServer(keep_answering) as server:
        background = Background(Wire(Target(server.url), 5), 5, [get("/")])
        with pytest.raises(OSError, match="too few"):
            background.collect()
