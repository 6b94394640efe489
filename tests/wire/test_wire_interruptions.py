"""What an interrupted exchange keeps, and that no exchange leaves anything behind."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

import pytest
from helpers.instrument import (
    DONE,
    GET,
    IS_LINUX,
    Crowd,
    descriptors,
    interrupt_after,
    interrupt_when,
    is_at_rest,
    kind,
    open_tls_wire,
    open_wire,
    run_alone,
    seconds,
    wait_until,
)
from helpers.raw_server import (
    CHUNKED,
    LAST_CHUNK,
    OK,
    Peer,
    RawServer,
    answer,
    chunk,
    event,
    keep_answering,
)

from livecheck.wire import connection
from livecheck.wire.wire import Reply, Request

# --- interrupted


def test_an_interruption_keeps_what_has_arrived(serve):
    def script(peer: Peer) -> None:
        while (body := peer.request()) is not None:
            if body == b"slow":
                peer.send(CHUNKED + chunk(event()))
                peer.wait_gone()
                return
            peer.send(OK)

    server = serve(script)
    requests = [GET] * 4 + [Request("POST", "/", b"slow")] * 2 + [GET] * 90
    with open_wire(server) as instrument:

        def slow_ones_have_begun() -> bool:
            return sum(bool(reply.reads) for reply in instrument.replies) == 6

        with pytest.raises(KeyboardInterrupt), interrupt_when(slow_ones_have_begun):
            instrument.exchange(requests, 2)
        replies = instrument.replies
        assert is_at_rest(instrument)
        assert [reply.status for reply in instrument.exchange([GET] * 5, 3)] == [200] * 5
    kinds = [kind(reply) for reply in replies]
    assert kinds == [None] * 4 + ["interrupted"] * 2
    assert all(reply.body == event() and reply.end_ns for reply in replies[4:])
    slow = [peer for peer in server.peers if peer.gone_ns]
    assert len(slow) >= 2


def test_connections_that_open_after_an_interruption_are_not_used(tls):
    """They were for requests that nobody waits for any more."""
    may_open = threading.Event()

    def script(peer: Peer) -> None:
        may_open.wait(10)
        peer.start_tls(tls)
        keep_answering(peer)

    with RawServer(script) as server, open_tls_wire(server) as instrument:
        with pytest.raises(KeyboardInterrupt), interrupt_when(lambda: len(server.peers) == 4):
            instrument.exchange([GET] * 4, 4)
        assert [kind(reply) for reply in instrument.replies] == ["interrupted"] * 4
        may_open.set()
        assert wait_until(lambda: len(instrument._pool.opener._opened) == 4)
        replies = instrument.exchange([GET] * 6, 2)
        assert [reply.status for reply in replies] == [200] * 6
        assert is_at_rest(instrument)
    assert server.requests == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interruptions_at_any_moment_leave_nothing_behind():
    """Between any two steps: the wire can still be used, and no descriptor is lost."""
    with RawServer(Crowd(0.001)) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 8, 8)
        before = descriptors()
        source = random.Random(7)
        for _ in range(40):
            with contextlib.suppress(KeyboardInterrupt), interrupt_after(source.random() * 0.03):
                instrument.exchange([GET] * 60, 8)
                time.sleep(0.05)  # so that the interruption always comes inside this block
            assert is_at_rest(instrument)
            for reply in instrument.replies:
                assert reply.failure is None or reply.failure.kind == "interrupted"
        replies = instrument.exchange([GET] * 30, 8)
        assert [reply.status for reply in replies] == [200] * 30
        assert wait_until(lambda: descriptors() <= before + 2 * 8)


# --- nothing is left behind


@pytest.mark.skipif(not IS_LINUX, reason="/proc")
def test_no_descriptor_is_lost(tls):
    def script(peer: Peer) -> None:
        match peer.request():
            case b"stall":
                peer.wait_gone()
            case b"cut":
                peer.send(OK[:-1])
            case b"reset":
                peer.reset()
            case b"garbage":
                peer.send(b"garbage")
            case _:
                peer.send(OK)
                keep_answering(peer)

    bodies = [b"stall", b"cut", b"reset", b"garbage", b"fine", b"cancel"]
    requests = [Request("POST", "/", body) for body in bodies]
    requests[-1] = Request("POST", "/", b"stall", cancel_after_s=0.05)
    with RawServer(script) as plain, RawServer(script, tls) as secure:
        before = descriptors()
        for _ in range(4):
            for server in (plain, secure):
                with open_wire(server, timeout_s=0.15) as instrument:
                    replies = instrument.exchange(requests * 3, 6)
                    assert is_at_rest(instrument)
                assert [kind(reply) for reply in replies[4::6]] == [None] * 3
        # the server closes its side when its threads notice
        assert wait_until(lambda: descriptors() <= before + 2), (before, descriptors())


def test_a_wire_can_be_closed_while_connections_are_being_opened():
    with RawServer(Peer.wait_gone) as server:
        before = threading.active_count()
        instrument = open_tls_wire(server, 0.8)

        def all_openers_are_busy() -> bool:
            return len(server.peers) == connection.MAX_OPENERS

        with pytest.raises(KeyboardInterrupt), interrupt_when(all_openers_are_busy):
            instrument.exchange([GET] * 50, 50)
        instrument.__exit__()
        instrument.__exit__()  # twice does no harm
        assert wait_until(lambda: threading.active_count() <= before, 5)
        assert len(server.peers) <= connection.MAX_OPENERS


def test_a_name_look_up_that_hangs_does_not_hold_up_the_exit():
    code = """
        import socket, time
        from livecheck.wire import wire
        socket.getaddrinfo = lambda *a, **k: time.sleep(60)
        with wire.Wire(wire.Target("http://model.test"), 0.3) as instrument:
            (reply,) = instrument.exchange([wire.Request("GET", "/")])
        print(reply.failure.kind)
    """
    started = time.monotonic()
    done = run_alone(code)
    assert done.stdout.strip() == "connect", done.stderr
    assert done.stderr == "" and time.monotonic() - started < 10


MISDEEDS = (
    lambda peer, _: peer.send(OK),
    lambda peer, _: peer.send(OK),
    lambda peer, _: peer.send(OK + b"surplus"),
    lambda peer, _: peer.send(answer(b"ok", "Connection: close")),
    lambda peer, _: (peer.send(OK), peer.reset()),
    lambda peer, _: (peer.send(OK), peer.sock.shutdown(socket.SHUT_WR)),
    lambda peer, _: (peer.send(CHUNKED + chunk(event())), peer.reset()),
    lambda peer, _: peer.send(CHUNKED, chunk(event()), chunk(DONE), LAST_CHUNK, gap_s=0.01),
    lambda peer, _: peer.reset(),
    lambda peer, _: peer.sock.shutdown(socket.SHUT_RDWR),
    lambda peer, _: time.sleep(0.2),
    lambda peer, _: peer.send(b"nonsense\r\n\r\n"),
    lambda peer, source: peer.send(OK[: source.randrange(len(OK))]),
)


def random_requests(source: random.Random, count: int) -> list[Request]:
    """Bodies of up to 1 MiB; some are cancelled after a while, or after some bytes."""
    return [
        Request("POST", "/", bytes(source.choice([0, 10, 1 << 20])), {}, after, size)
        for after, size in zip(
            source.choices([None, None, 0.05], k=count),
            source.choices([None, None, 9], k=count),
            strict=True,
        )
    ]


def assert_is_accounted_for(reply: Reply, timeout_s: float) -> None:
    """A reply is either good or has a failure, with its times, and ends in time."""
    is_good = reply.message.complete or reply.cancelled or reply.unterminated
    assert is_good is (reply.failure is None), reply
    assert kind(reply) in (None, "timeout", "truncated", "malformed", "connect", "tls")
    assert reply.end_ns and (reply.t0_ns or kind(reply) in ("connect", "tls"))
    if reply.t0_ns:
        assert seconds(reply) < timeout_s + 2


@pytest.mark.parametrize("seed", range(6))
def test_every_request_has_a_reply_whatever_the_server_does(serve, seed):
    """The server does everything wrong, in an order chosen at random."""
    source, timeout_s = random.Random(seed), 0.12

    def script(peer: Peer) -> None:
        if source.random() < 0.15:
            return
        while peer.request() is not None:
            source.choice(MISDEEDS)(peer, source)

    server = serve(script)
    requests = random_requests(source, 60)
    with open_wire(server, timeout_s=timeout_s) as instrument:
        for concurrency in (1, 5, 20):
            ended: list[Reply] = []
            replies = instrument.exchange(requests[: concurrency * 3], concurrency, ended.append)
            assert len(replies) == len(ended) == concurrency * 3
            assert is_at_rest(instrument)
            for reply in replies:
                assert_is_accounted_for(reply, timeout_s)
