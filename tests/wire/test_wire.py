"""The measuring instrument against servers that do every odd thing, over real sockets."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import random
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers.raw_server import (
    CHUNKED,
    LAST_CHUNK,
    OK,
    STREAM_HEAD,
    TO_THE_END,
    Peer,
    RawServer,
    answer,
    chunk,
    event,
    keep_answering,
)

from livecheck.wire import connection, wire
from livecheck.wire.metrics import percentile
from livecheck.wire.wire import Reply, Request, Target, Wire

ROOT = Path(__file__).parents[2]
LINUX = sys.platform == "linux"
GET = Request("GET", "/")
DONE = event("[DONE]")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert("127.0.0.1", "localhost", "model.test"))


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The authority is one of the system's."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@pytest.fixture(params=["plain", "tls"])
def serve(
    request: pytest.FixtureRequest, tls: ssl.SSLContext
) -> Iterator[Callable[..., RawServer]]:
    """Start a scripted server, once without and once with TLS."""
    with contextlib.ExitStack() as stack:

        def start(script: Callable[[Peer], object]) -> RawServer:
            return stack.enter_context(RawServer(script, tls if request.param == "tls" else None))

        yield start


def open_wire(server: RawServer, timeout_s: float = 10, **options: Any) -> Wire:
    return Wire(Target(server.url, verify=False), timeout_s, **options)


def ask(server: RawServer, request: Request = GET, timeout_s: float = 10) -> Reply:
    """The reply to one request on a wire of its own."""
    with open_wire(server, timeout_s) as instrument:
        (reply,) = instrument.exchange([request])
    return reply


def ask_script(script: Callable[[Peer], object], timeout_s: float = 10) -> Reply:
    with RawServer(script) as server:
        return ask(server, timeout_s=timeout_s)


def once(*parts: bytes, gap_s: float = 0, then: Callable[[Peer], object] | None = None) -> Any:
    """A script: one request, these bytes, then `then` or goodbye."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*parts, gap_s=gap_s)
        if then:
            then(peer)

    return script


def kind(reply: Reply) -> str | None:
    return reply.failure.kind if reply.failure else None


def seconds(reply: Reply) -> float:
    """From the send to the end."""
    assert reply.t0_ns is not None and reply.end_ns is not None
    return (reply.end_ns - reply.t0_ns) / 1e9


def is_at_rest(instrument: Wire) -> bool:
    """Nothing in flight, nothing watched but the opener's bell."""
    return not instrument._slots and len(instrument._selector.get_map()) == 1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# --- how many at once, and when


class Crowd:
    """Answers after a while, and notes how many requests were being served at once."""

    def __init__(self, busy_s: float = 0.02):
        self.busy_s, self.now, self.most = busy_s, 0, 0
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while peer.request() is not None:
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(self.busy_s)
            with self._lock:
                self.now -= 1
            peer.send(OK)


def test_a_closed_loop_keeps_exactly_n_in_flight_and_sends_all(serve):
    crowd = Crowd()
    server = serve(crowd)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 30, 5)
    assert crowd.most == 5
    assert len(replies) == server.requests == 30
    assert [reply.status for reply in replies] == [200] * 30
    assert all(reply.body == b"ok" and reply.failure is None for reply in replies)


def test_a_closed_loop_opens_one_connection_for_each_place(serve):
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 20, 4)
        again = instrument.exchange([GET] * 4, 4)
    assert len(server.peers) == 4
    assert sum(reply.handshake is not None for reply in replies) == 4
    assert all(reply.handshake is None and reply.failure is None for reply in again)


def test_more_places_than_requests_is_a_burst():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        assert len(instrument.exchange([GET] * 3, 100)) == 3
        assert len(server.peers) == 3


def test_no_requests_is_no_exchange():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        assert instrument.exchange([]) == []
        assert instrument.exchange([], 8) == []
        assert len(instrument.exchange([GET])) == 1


def test_a_burst_starts_all_together_once_every_connection_is_open(serve, monkeypatch):
    opened_ns: list[int] = []
    real = connection.connect

    def watched(*args: Any) -> connection.Connection:
        connection = real(*args)
        opened_ns.append(connection.opened_ns)
        return connection

    monkeypatch.setattr(connection, "connect", watched)
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 40, 40)
    first_sent = min(reply.t0_ns or 0 for reply in replies)
    assert len(opened_ns) == 40 and first_sent > max(opened_ns)
    assert max(reply.t0_ns or 0 for reply in replies) - first_sent < 1e9
    assert max(min(peer.asked_ns) for peer in server.peers) > first_sent


def test_one_slow_connection_holds_the_burst_back(tls):
    """Nothing is sent while a handshake is still under way."""
    slow_ns = 0

    def script(peer: Peer) -> None:
        nonlocal slow_ns
        if peer.number == 3:
            time.sleep(0.4)
            slow_ns = time.perf_counter_ns()
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        keep_answering(peer)

    with RawServer(script) as server:
        target = Target(server.url.replace("http", "https"), verify=False)
        with Wire(target, 10) as instrument:
            replies = instrument.exchange([GET] * 6, 6)
    assert [kind(reply) for reply in replies] == [None] * 6
    assert min(reply.t0_ns or 0 for reply in replies) > slow_ns > 0


def test_a_connection_closed_while_held_back_is_opened_again(tls):
    def script(peer: Peer) -> None:
        if peer.number == 0:
            time.sleep(0.3)
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        if 0 < peer.number < 3:
            return  # no patience with idle clients
        keep_answering(peer)

    with RawServer(script) as server:
        with Wire(Target(server.url.replace("http", "https"), verify=False), 10) as instrument:
            replies = instrument.exchange([GET] * 3, 3)
    assert [reply.status for reply in replies] == [200] * 3
    assert not any(reply.resent for reply in replies)
    assert len(server.peers) == 5


def test_failed_connections_do_not_hold_the_others_up(tls):
    def script(peer: Peer) -> None:
        if peer.number % 2:
            peer.reset()
            return
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        keep_answering(peer)

    with RawServer(script) as server:
        with Wire(Target(server.url.replace("http", "https"), verify=False), 10) as instrument:
            replies = instrument.exchange([GET] * 24, 8)
            assert is_at_rest(instrument)
    kinds = [kind(reply) for reply in replies]
    assert len(replies) == 24
    assert kinds.count("connect") >= 4 and kinds.count(None) + kinds.count("connect") == 24


def test_a_connection_that_hangs_costs_its_request_only(tls):
    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.wait_gone()
            return
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        keep_answering(peer)

    with RawServer(script) as server:
        with Wire(Target(server.url.replace("http", "https"), verify=False), 0.5) as instrument:
            started = time.monotonic()
            replies = instrument.exchange([GET] * 8, 4)
            assert time.monotonic() - started < 4
    kinds = [kind(reply) for reply in replies]
    assert kinds.count("connect") == 1 and kinds.count(None) == 7
    failed = next(reply for reply in replies if reply.failure)
    assert failed.t0_ns is None and "timed out" in failed.failure.text


def test_replies_come_in_the_order_their_requests_were_begun():
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


def test_on_reply_can_stop_the_sending_and_the_running_ones_finish():
    begun: list[int] = []

    def stop(reply: Reply) -> bool:
        begun.append(len(instrument.replies))
        return reply.index == 5

    with RawServer(Crowd(0.03)) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 50, 4, stop)
        assert is_at_rest(instrument)
    assert 6 <= len(replies) == begun[-1] < 50
    assert begun[-4:] == [len(replies)] * 4  # the running ones came to their end
    assert [reply.status for reply in replies] == [200] * len(replies)
    assert server.requests == len(replies)


def test_on_reply_can_stop_at_the_first_failed_connection():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Wire(Target(url), 5) as instrument:
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


# --- connections: kept, not kept, closed meanwhile


def test_keep_false_opens_a_new_connection_each(serve):
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 6, 2, keep=False)
    assert len(server.peers) == 6
    assert all(reply.handshake and not reply.resent for reply in replies)


@pytest.mark.parametrize(
    "reply",
    [answer(b"ok", "Connection: close"), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    ids=["close", "HTTP/1.0"],
)
def test_a_connection_is_not_reused_where_the_server_says_close(reply):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply)
        peer.wait_gone(5)  # it would be there still

    with RawServer(script) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 4)
    assert len(server.peers) == 4 and server.requests == 4
    assert all(each.status == 200 and not each.resent for each in replies)


def test_an_idle_connection_the_server_closed_meanwhile_is_replaced(serve):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)

    server = serve(script)
    with open_wire(server) as instrument:
        instrument.exchange([GET])
        time.sleep(0.1)
        (reply,) = instrument.exchange([GET])
    assert reply.status == 200 and reply.handshake and not reply.resent
    assert server.requests == 2


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_kept_connection_that_closes_just_as_we_send_is_sent_again_once(serve, how):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        if peer.number == 0:
            peer.request()  # the second one came too late for this connection
            if how == "rst":
                peer.reset()
            return
        keep_answering(peer)

    server = serve(script)
    with open_wire(server) as instrument:
        first, second, third = instrument.exchange([GET] * 3)
    assert (first.resent, second.resent, third.resent) == (False, True, False)
    assert [reply.status for reply in (first, second, third)] == [200] * 3
    assert second.handshake and second.late_ns is None
    assert second.t0_ns > server.peers[0].asked_ns[1]  # counted from when it was sent anew
    assert len(server.peers) == 2


def test_sending_again_takes_a_new_connection_not_another_old_one():
    """A server that restarts: every kept connection goes at the next request."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        if peer.number < 4:
            peer.request()
            peer.reset()
            return
        keep_answering(peer)

    with RawServer(script) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 4, 4)
        replies = instrument.exchange([GET] * 2)
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].resent


def test_it_is_sent_again_only_once():
    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.request()
            peer.send(OK)
        peer.request()

    with RawServer(script) as server, open_wire(server) as instrument:
        _, second = instrument.exchange([GET] * 2)
    assert second.resent and kind(second) == "truncated"
    assert len(server.peers) == 2


def test_a_server_that_breaks_after_working_on_it_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(wire, "RACE_S", 0.2)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        time.sleep(0.4)  # crashed in the middle of the second

    with RawServer(script) as server, open_wire(server) as instrument:
        _, second = instrument.exchange([GET] * 2)
    assert kind(second) == "truncated" and not second.resent


def test_a_long_prompt_is_sent_again_whole():
    body = bytes(8 << 20)
    got: list[int] = []

    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.request()
            peer.send(OK)
            peer.sock.recv(1000)
            peer.reset()
            return
        while (received := peer.request()) is not None:
            got.append(len(received))
            peer.send(OK)

    post = Request("POST", "/", body)
    with RawServer(script) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET, post, GET])
    assert [reply.status for reply in replies] == [200] * 3
    assert replies[1].resent and got == [len(body), 0]
    assert len(server.peers) == 2  # and the new connection is kept


@pytest.mark.parametrize("how", ["fin", "rst", "at once"])
def test_a_fresh_connection_closed_without_an_answer_is_truncated(serve, how):
    def script(peer: Peer) -> None:
        if how != "at once":
            peer.request()
        if how == "rst":
            peer.reset()

    server = serve(script)
    reply = ask(server)
    assert kind(reply) == "truncated" and not reply.resent and reply.status is None
    assert len(server.peers) <= 2  # "at once" may have been seen before sending


def test_surplus_bytes_end_the_reuse_of_a_connection():
    with RawServer(lambda peer: keep_answering(peer, OK + b"surplus")) as server:
        with open_wire(server) as instrument:
            replies = instrument.exchange([GET] * 3)
    assert [reply.body for reply in replies] == [b"ok"] * 3
    assert len(server.peers) == 3 and not any(reply.resent for reply in replies)


# --- connecting fails


def test_connection_refused():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Wire(Target(url), 5) as instrument:
            replies = instrument.exchange([GET] * 10, 4)
    assert [(kind(reply), reply.failure.text) for reply in replies] == [
        ("connect", "connection refused")
    ] * 10
    assert all(reply.t0_ns is None and reply.end_ns for reply in replies)


def test_unknown_host(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with Wire(Target("http://no.such.host.test"), 5) as instrument:
        (reply,) = instrument.exchange([GET])
    assert (kind(reply), reply.failure.text) == ("connect", "unknown host no.such.host.test")


def test_a_host_name_that_is_none():
    with Wire(Target(f"http://{'a' * 70}.test"), 5) as instrument:
        assert kind(instrument.exchange([GET])[0]) == "connect"


def test_a_self_signed_certificate_is_refused_unless_told_otherwise(tls):
    with RawServer(keep_answering, tls) as server:
        with Wire(Target(server.url), 5) as instrument:
            (reply,) = instrument.exchange([GET])
        assert kind(reply) == "tls" and "certificate not accepted" in reply.failure.text
        assert ask(server).status == 200


@pytest.mark.usefixtures("trusted")
def test_a_trusted_certificate_is_accepted(tls):
    with RawServer(keep_answering, tls) as server, Wire(Target(server.url), 5) as instrument:
        (reply,) = instrument.exchange([GET])
    assert reply.status == 200 and reply.handshake and reply.handshake.tls_ns


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("names", "days", "words"),
    [(["other.test"], 9, "mismatch"), (["127.0.0.1"], -1, "expired")],
    ids=["wrong host", "expired"],
)
def test_a_certificate_that_does_not_fit_is_refused(authority, names, days, words):
    now = datetime.datetime.now(datetime.timezone.utc)
    since = now - datetime.timedelta(days=9)
    certificate = authority.issue_cert(
        *names, not_before=since, not_after=now + datetime.timedelta(days=days)
    )
    with RawServer(keep_answering, server_context(certificate)) as server:
        with Wire(Target(server.url), 5) as instrument:
            (reply,) = instrument.exchange([GET])
    assert kind(reply) == "tls" and words in reply.failure.text


def test_plain_http_where_https_was_expected():
    with RawServer(once(OK)) as server:
        with Wire(Target(server.url.replace("http", "https")), 1) as instrument:
            (reply,) = instrument.exchange([GET])
    assert kind(reply) in ("tls", "connect") and reply.t0_ns is None

    def speaks_first(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.send(answer(b"", status="400 Bad Request"))

    with RawServer(speaks_first) as server:
        with Wire(Target(server.url.replace("http", "https")), 5) as instrument:
            (reply,) = instrument.exchange([GET])
    assert kind(reply) == "tls" and reply.failure.text.startswith("TLS failed: ")


def test_https_where_plain_http_was_expected(tls):
    with RawServer(keep_answering, tls) as server:
        with Wire(Target(server.url.replace("https", "http")), 5) as instrument:
            (reply,) = instrument.exchange([GET])
    assert kind(reply) in ("truncated", "malformed")


def test_a_queue_of_connections_nobody_answers_ends_with_the_timeout(monkeypatch):
    """More than there are threads to open them; and the next exchange does not wait for them."""
    monkeypatch.setattr(connection, "MAX_OPENERS", 2)
    silent = threading.Event()
    silent.set()

    def script(peer: Peer) -> None:
        peer.sock.recv(1, socket.MSG_PEEK)
        if silent.is_set():
            peer.wait_gone()

    with RawServer(script) as server:
        with Wire(Target(server.url.replace("http", "https"), verify=False), 0.4) as instrument:
            started = time.monotonic()
            replies = instrument.exchange([GET] * 12, 12)
            assert 0.4 <= time.monotonic() - started < 1.5
            assert [kind(reply) for reply in replies] == ["connect"] * 12
            silent.clear()
            (reply,) = instrument.exchange([GET])  # a RST or EOF, at once
            assert "timed out" not in reply.failure.text
            assert len(server.peers) < 12  # given up ones were not tried any more


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch):
    real = connection.open_socket

    def slow(target: Target, address: str, timeout_s: float) -> socket.socket:
        if address == "::1":
            time.sleep(timeout_s)
            raise TimeoutError
        return real(target, address, timeout_s)

    both = [(0, 0, 0, "", ("::1", 0)), (0, 0, 0, "", ("127.0.0.1", 0))]
    found = socket.getaddrinfo

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        return both if host == "model.test" else found(host, *args, **options)

    with RawServer(keep_answering) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(connection, "open_socket", slow)
        with Wire(Target(f"http://model.test:{server.port}"), 1) as instrument:
            (reply,) = instrument.exchange([GET])
    assert reply.status == 200
    assert reply.handshake.connect_ns < 0.5e9  # of the address that answered


# --- time runs out


@pytest.mark.parametrize(
    "parts",
    [(), (CHUNKED + chunk(event()),), (answer()[:-1],), (b"HTTP/1.1 200",)],
    ids=["silence", "stall in mid-stream", "last byte missing", "stall in the head"],
)
def test_a_server_that_stops_ends_with_the_timeout(serve, parts):
    server = serve(once(*parts, then=Peer.wait_gone))
    started = time.monotonic()
    reply = ask(server, timeout_s=0.5)
    assert 0.5 <= time.monotonic() - started < 0.5 + 1.5  # connecting included
    assert kind(reply) == "timeout"
    assert seconds(reply) < 2
    assert b"".join(reply.reads) == b"".join(parts)
    assert wait_until(lambda: server.peers[0].gone_ns is not None)


def test_connecting_counts_into_the_timeout(tls):
    def script(peer: Peer) -> None:
        time.sleep(0.5)
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        peer.request()
        peer.wait_gone()

    with RawServer(script) as server:
        with Wire(Target(server.url.replace("http", "https"), verify=False), 1) as instrument:
            started = time.monotonic()
            (reply,) = instrument.exchange([GET])
            took = time.monotonic() - started
    assert kind(reply) == "timeout" and 0.95 < took < 1.45  # not 1.5: the handshake took 0.5


def test_a_trickle_that_never_ends():
    def drip(peer: Peer) -> None:
        while True:
            peer.send(chunk(b"."))
            time.sleep(0.01)

    reply = ask_script(once(CHUNKED, then=drip), timeout_s=0.5)
    assert kind(reply) == "timeout" and 0.45 < seconds(reply) < 2
    assert len(reply.body) > 5


def test_a_flood_is_capped(serve):
    block = chunk(bytes(1 << 20))

    def flood(peer: Peer) -> None:
        while True:
            peer.send(block)

    reply = ask(serve(once(CHUNKED, then=flood)), timeout_s=60)
    size = sum(map(len, reply.reads))
    assert kind(reply) == "flood" and "32 MB" in reply.failure.text
    assert 32 << 20 <= size < 33 << 20


# --- answers that are not what they say


def test_a_content_length_too_long_is_truncated():
    reply = ask_script(once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"))
    assert kind(reply) == "truncated" and reply.body == b"ok"
    assert "8 bytes before the announced content-length" in reply.failure.text


def test_a_content_length_too_short_leaves_a_surplus():
    reply = ask_script(once(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok", then=Peer.wait_gone))
    assert reply.failure is None and reply.body == b"o" and reply.message.surplus == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP/1.1 response"),
        (b"HTTP/1.1 abc\r\n\r\n", "not an HTTP/1.1 status line"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (80 << 10), "head over 64 KiB"),
        (CHUNKED + b"zz\r\n", "not a chunk size line"),
        (answer(b"ok", "Content-Length: 3"), "Content-Length given as 2 and as 3"),
    ],
    ids=["no HTTP", "status line", "endless head", "chunk size", "two lengths"],
)
def test_garbage_is_malformed_at_once(serve, data, words):
    reply = ask(serve(once(data, then=Peer.wait_gone)))
    assert kind(reply) == "malformed" and words in reply.failure.text
    assert seconds(reply) < 5


def test_interim_answers_are_passed_over(serve):
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server = serve(once(early, early + OK, OK, gap_s=0.05))
    reply = ask(server)
    assert reply.status == 200 and reply.body == b"ok" and reply.failure is None


def test_the_last_chunk_may_come_in_pieces(serve):
    pieces = [bytes([byte]) for byte in LAST_CHUNK]
    server = serve(once(CHUNKED + chunk(event()), *pieces, gap_s=0.02, then=Peer.wait_gone))
    reply = ask(server)
    assert reply.failure is None and reply.message.complete and not reply.unterminated
    assert reply.body == event()
    assert 0.09 <= seconds(reply) < 5


def test_an_answer_byte_by_byte_and_a_mark_for_each():
    text = "día".encode()
    data = CHUNKED + chunk(text[:2]) + chunk(text[2:]) + LAST_CHUNK
    reply = ask_script(once(*(bytes([byte]) for byte in data), gap_s=0.001))
    assert reply.body == text
    ends = [end for end, _ in reply.marks]
    times = [time_ns for _, time_ns in reply.marks]
    assert ends == sorted(set(ends)) and ends[-1] == len(text)
    assert times == sorted(times) and reply.t0_ns < times[0]


def test_a_stream_that_ends_with_the_connection(serve):
    reply = ask(serve(once(TO_THE_END, event(), DONE, gap_s=0.02)))
    assert reply.failure is None and not reply.unterminated and reply.message.framing == "close"
    assert reply.body == event() + DONE


def test_head_has_no_body_whatever_it_says():
    with RawServer(once(answer(b"")[:-4] + b"\r\nX: y\r\n\r\n")) as server:
        assert ask(server, Request("HEAD", "/")).failure is None


# --- what comes after [DONE]


@pytest.mark.parametrize(("framing", "space"), [("chunked", b" "), ("close", b" "), ("close", b"")])
def test_a_stream_left_open_after_done_ends_soon_and_is_no_failure(serve, framing, space):
    wrap = chunk if framing == "chunked" else bytes
    head = CHUNKED if framing == "chunked" else TO_THE_END
    done = b"data:" + space + b"[DONE]\n\n"
    server = serve(once(head + wrap(event()), wrap(done), then=Peer.wait_gone))
    started = time.monotonic()
    reply = ask(server)
    assert reply.failure is None and reply.unterminated
    assert 0.5 <= time.monotonic() - started < 3
    assert reply.end_ns == reply.stamps_ns[-1]  # the wait for more is not the server's
    assert reply.body.endswith(done)
    assert wait_until(lambda: server.peers[0].gone_ns is not None)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_done_then_gone_without_the_last_chunk_is_unterminated(serve, how):
    def leave(peer: Peer) -> None:
        if how == "rst":
            time.sleep(0.2)
            peer.reset()

    reply = ask(serve(once(CHUNKED + chunk(event()) + chunk(DONE), then=leave)))
    assert reply.failure is None and reply.unterminated


def test_a_stream_cut_before_done_is_truncated(serve):
    reply = ask(serve(once(CHUNKED + chunk(event()))))
    assert kind(reply) == "truncated" and not reply.unterminated


def test_text_that_talks_about_done_is_not_done():
    talk = event('{"content": "then comes data: [DONE]"}')

    def go_on(peer: Peer) -> None:
        time.sleep(0.8)
        peer.send(chunk(DONE) + LAST_CHUNK)

    reply = ask_script(once(CHUNKED + chunk(talk), then=go_on))
    assert reply.message.complete and not reply.unterminated and DONE in reply.body


def test_a_busy_client_does_not_miss_a_stream_left_open():
    """The program was stopped for longer than the look-out for it lasts."""

    def script(peer: Peer) -> None:
        body = peer.request()
        if body == b"quick":
            time.sleep(0.3)
            peer.send(OK)
        else:
            peer.send(CHUNKED + chunk(DONE))
        peer.wait_gone()

    requests = [Request("POST", "/", b"quick"), Request("POST", "/", b"stream")]

    def stop(reply: Reply) -> None:
        if reply.index == 0:
            time.sleep(1.2)

    with RawServer(script) as server, open_wire(server, timeout_s=6) as instrument:
        _, reply = instrument.exchange(requests, 2, stop)
    assert reply.failure is None and reply.unterminated


# --- giving up on purpose


@pytest.mark.parametrize("answering", [True, False])
def test_cancel_after_a_time(serve, answering):
    def drip(peer: Peer) -> None:
        def talk() -> None:
            with contextlib.suppress(OSError):
                while answering:
                    peer.send(chunk(event()), gap_s=0)
                    time.sleep(0.01)

        if answering:
            peer.send(CHUNKED)
            talk()
        peer.wait_gone()

    server = serve(once(then=drip))
    reply = ask(server, Request("GET", "/", cancel_after_s=0.2))
    assert reply.cancelled and reply.failure is None and not reply.message.complete
    assert bool(reply.reads) is answering
    assert seconds(reply) >= 0.15
    (peer,) = server.peers
    assert wait_until(lambda: peer.gone_ns is not None)
    assert 0.15 < (peer.gone_ns - reply.t0_ns) / 1e9 < 3


def test_cancel_at_a_size(serve):
    server = serve(
        once(CHUNKED, *[chunk(event())] * 100, gap_s=0.01, then=Peer.wait_gone),
    )
    reply = ask(server, Request("GET", "/", cancel_at_bytes=len(CHUNKED) + 40))
    assert reply.cancelled and reply.failure is None
    assert len(CHUNKED) + 40 <= sum(map(len, reply.reads)) < len(CHUNKED) + 400


def test_an_answer_quicker_than_its_cancellation_is_whole():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        request = Request("GET", "/", cancel_after_s=5, cancel_at_bytes=len(OK))
        replies = instrument.exchange([request] * 4, 2)
    assert not any(reply.cancelled for reply in replies)
    assert len(server.peers) == 2


def test_cancelled_requests_do_not_make_the_next_ones_late():
    def script(peer: Peer) -> None:
        while (body := peer.request()) is not None:
            if body == b"slow":
                peer.send(CHUNKED)
                peer.wait_gone()
                return
            peer.send(OK)

    slow = Request("POST", "/", b"slow", cancel_after_s=0.4)
    with RawServer(script) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 2, 2)  # two connections are kept
        cancelled, after = instrument.exchange([slow, GET])
    assert cancelled.cancelled and after.status == 200
    assert after.handshake is None and after.late_ns < 0.2e9


# --- large requests


@pytest.mark.parametrize("slowly", [True, False])
def test_a_large_prompt_gets_through(serve, slowly):
    body = os.urandom(1 << 20) * 20

    def script(peer: Peer) -> None:
        if slowly:
            time.sleep(0.3)
        got = peer.request()
        peer.send(answer(b"same" if got == body else b"different"))

    reply = ask(serve(script), Request("POST", "/", body), timeout_s=30)
    assert reply.body == b"same" and reply.failure is None


def test_a_large_prompt_nobody_reads_ends_with_the_timeout():
    with RawServer(lambda peer: time.sleep(5)) as server:
        reply = ask(server, Request("POST", "/", bytes(20 << 20)), timeout_s=0.5)
    assert kind(reply) == "timeout" and seconds(reply) < 2


@pytest.mark.parametrize("how", ["stays", "closes", "resets"])
def test_an_early_refusal_of_a_large_prompt_is_its_answer(how):
    def script(peer: Peer) -> None:
        peer.sock.recv(1 << 16)
        peer.send(answer(b"too large", "Connection: close", status="413 Too Large"))
        if how == "stays":
            peer.wait_gone()
        elif how == "closes":  # as servers do: leaving the rest unread makes it a reset
            time.sleep(0.1)
        else:
            time.sleep(0.1)
            peer.reset()

    with RawServer(script) as server:
        reply = ask(server, Request("POST", "/", bytes(20 << 20)))
    assert reply.status == 413 and reply.body == b"too large" and reply.failure is None


def test_a_broken_pipe_in_mid_prompt_does_not_lose_the_answer():
    """The connection breaks between looking for data and writing on."""
    with RawServer(once()) as server, open_wire(server) as instrument:
        ours, theirs = socket.socketpair()
        slot, reply = wire.Slot(), Reply(0, GET)
        instrument.exchange([])
        slot.reply, slot.unsent = reply, b"the rest"
        slot.connection = connection.Connection(ours, None, connection.Handshake(1, None, None))
        slot.connection.uses, slot.connection.watched = 1, True
        reply.t0_ns = slot.stamp_ns = time.perf_counter_ns()
        slot.deadline_ns = reply.t0_ns + int(5e9)
        instrument._slots = {slot}
        instrument._held = None
        instrument._selector.register(ours, 3, slot)
        theirs.sendall(answer(status="413 Too Large"))
        theirs.close()
        instrument._write(slot)
        while instrument._slots:
            instrument._turn()
    assert reply.status == 413 and reply.failure is None


# --- clocks


def paced(peer: Peer) -> None:
    """Eight events, 30 ms apart."""
    peer.request()
    events = [chunk(event(str(number))) for number in range(8)]
    peer.send(CHUNKED, *events, LAST_CHUNK, gap_s=0.03)


def quick_or_paced(peer: Peer) -> None:
    body = peer.request()
    if body == b"quick":
        peer.send(OK)
        return
    time.sleep(0.02)
    peer.send(CHUNKED + chunk(event()))
    time.sleep(0.3)
    peer.send(LAST_CHUNK)


def errors_ms(reply: Reply, peer: Peer) -> list[tuple[float, float]]:
    """For each read: ms since its send was begun, and since that returned."""
    assert wait_until(lambda: len(reply.stamps_ns) == len(peer.sent_ns))
    return [
        ((stamp - before) / 1e6, (stamp - after) / 1e6)
        for stamp, (before, after) in zip(reply.stamps_ns, peer.sent_ns, strict=True)
    ]


def busy_exchange(server: RawServer, **options: Any) -> tuple[Reply, Peer]:
    """One stream, while another's on_reply keeps the reading thread busy for 100 ms."""
    requests = [Request("POST", "/", b"quick"), Request("POST", "/", b"paced")]

    def dawdle(reply: Reply) -> None:
        if reply.index == 0:
            time.sleep(0.1)

    with open_wire(server, **options) as instrument:
        _, reply = instrument.exchange(requests, 2, dawdle)
    assert wait_until(lambda: any(len(peer.sent_ns) == 2 for peer in server.peers))
    return reply, next(peer for peer in server.peers if len(peer.sent_ns) == 2)


@pytest.mark.skipif(not LINUX, reason="kernel receive times")
def test_a_busy_reader_still_gets_the_times_right(serve):
    reply, peer = busy_exchange(serve(quick_or_paced))
    since_begun, since_done = errors_ms(reply, peer)[0]
    assert since_begun > -0.2 and since_done < 2
    assert reply.lag_ns[0] > 50e6  # and says how long the bytes lay there


def test_without_kernel_times_the_lag_tells(serve):
    reply, peer = busy_exchange(serve(quick_or_paced), kernel_stamps=False)
    since_begun, _ = errors_ms(reply, peer)[0]
    assert since_begun > 50  # late, as it must be
    assert reply.lag_ns[0] > 50e6
    assert reply.lag_ns[1] < 50e6  # the next read came out of a sleep


def test_the_clock_is_named():
    with RawServer(keep_answering) as server:
        with open_wire(server, kernel_stamps=False) as instrument:
            assert instrument.clock == wire.USER_CLOCK
            (reply,) = instrument.exchange([GET])
            assert len(reply.stamps_ns) == len(reply.lag_ns) == len(reply.reads)
        if LINUX:
            with open_wire(server) as instrument:
                assert instrument.clock == wire.KERNEL_CLOCK


def test_event_times_are_those_of_the_sends(serve):
    server = serve(paced)
    reply = ask(server)
    errors = errors_ms(reply, server.peers[0])
    assert min(begun for begun, _ in errors) > -0.2
    assert percentile([done for _, done in errors], 50) < 2
    assert reply.stamps_ns == sorted(reply.stamps_ns)
    assert all(lag >= 0 for lag in reply.lag_ns)


def test_time_to_first_byte_is_the_servers():
    reply = ask_script(lambda peer: (peer.request(), time.sleep(0.15), peer.send(OK)))
    assert reply.t0_ns is not None and reply.first_byte_ns is not None
    assert 0.15 <= (reply.first_byte_ns - reply.t0_ns) / 1e9 < 0.5


@pytest.mark.skipif(not LINUX, reason="kernel receive times")
@pytest.mark.parametrize("step_s", [1, -1, 0.05, -0.05, 3600, -3600])
def test_a_wall_clock_that_steps_does_no_harm(step_s):
    """The offset is wrong by the step, as if the clock had stepped since it was measured."""

    def shift(instrument: Wire, peers: list[Peer]) -> None:
        wait_until(lambda: bool(peers) and len(peers[0].sent_ns) >= 3)
        instrument._clock.offset_ns -= int(step_s * 1e9)

    with RawServer(paced) as server, open_wire(server) as instrument:
        mischief = threading.Thread(target=shift, args=(instrument, server.peers))
        mischief.start()
        (reply,) = instrument.exchange([GET])
        mischief.join()
        now_ns = time.perf_counter_ns()
    times = reply.stamps_ns
    assert reply.t0_ns < times[0] and times == sorted(times) and times[-1] <= now_ns
    errors = errors_ms(reply, server.peers[0])
    assert min(begun for begun, _ in errors) > -51  # a small step back may hide for one event
    assert percentile([abs(done) for _, done in errors], 50) < 5
    assert sum(abs(done) > 20 for _, done in errors) <= 3


def test_the_clock_takes_only_credible_times():
    clock = wire.Clock()
    now = time.perf_counter_ns()

    def stamp(at_ns: int) -> list[tuple[int, int, bytes]]:
        wall = at_ns + clock.offset_ns
        return [(1, 35, wire.TIMESPEC.pack(wall // 10**9, wall % 10**9))]

    sent = now - 10**9
    near = 10_000  # calibrating again moves a stamp by as little
    assert clock.received_ns([], sent, now) == now
    assert clock.received_ns(stamp(now - 5000), sent, now) == now - 5000
    assert abs(clock.received_ns(stamp(now - 10**8 * 5), sent, now) - (now - 10**8 * 5)) < near
    assert clock.received_ns(stamp(sent - 10**6), sent, now) == now  # before it was asked for
    assert clock.received_ns(stamp(now + 10**9), sent, now) == now


# --- many streams: a server in a process of its own

STREAMER = r"""
import asyncio, sys, time
async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            asked = time.perf_counter_ns()
            await asyncio.sleep(TTFT_S)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for number in range(EVENTS):
                text = b"data: %d %d\n\n" % (time.perf_counter_ns(), asked)
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
                await asyncio.sleep(ITL_S)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def streamer(ttft_s: float = 0.1, itl_s: float = 0.05, events: int = 6) -> Iterator[str]:
    code = f"TTFT_S, ITL_S, EVENTS = {ttft_s}, {itl_s}, {events}\n{STREAMER}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def delays_ms(reply: Reply) -> list[float]:
    """Received minus sent, for each event that came in a read of its own."""
    marks, end, delays = dict(reply.marks), 0, []
    for text in reply.body.split(b"\n\n")[:-1]:
        end += len(text) + 2
        if end in marks and (end - len(text) - 2 in marks or not delays):
            delays.append((marks[end] - int(text.split()[1])) / 1e6)
    return delays


def test_a_burst_of_256_streams():
    with streamer() as url, Wire(Target(url), 30) as instrument:
        replies = instrument.exchange([GET] * 256, 256)
        assert is_at_rest(instrument)
        again = instrument.exchange([GET] * 256, 256)
    assert all(reply.handshake is None for reply in again)
    for reply in [*replies, *again]:
        assert reply.failure is None and reply.body.count(b"data: ") == 6
        asked = int(reply.body.split()[2])
        assert reply.t0_ns < asked < reply.first_byte_ns
        assert reply.stamps_ns == sorted(reply.stamps_ns)
        assert 0.1 <= (reply.first_byte_ns - reply.t0_ns) / 1e9 < 5
    sends = [reply.t0_ns for reply in replies]
    assert max(sends) - min(sends) < 1e9


@pytest.mark.skipif(not LINUX, reason="kernel receive times")
def test_a_hogged_interpreter_does_not_move_the_times():
    """Another thread holds the interpreter for tens of milliseconds at a time."""
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            sum(range(1_500_000))  # one call, no switch inside
            time.sleep(0.001)

    with streamer(itl_s=0.1, events=8) as url, Wire(Target(url), 30) as instrument:
        thread = threading.Thread(target=hog)
        thread.start()
        replies = instrument.exchange([GET] * 4, 4)
        stop.set()
        thread.join()
    delays = [delay for reply in replies for delay in delays_ms(reply)]
    lags = [lag / 1e6 for reply in replies for lag in reply.lag_ns]
    assert len(delays) >= 8 and min(delays) > -0.2
    assert percentile(delays, 50) < 2
    assert percentile(lags, 90) > 5


def run_alone(code: str, *arguments: object, timeout_s: float = 60) -> subprocess.CompletedProcess:
    """A small program that uses wire.py, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


BURST_WITH_LIMITS = """
    import resource, sys
    from livecheck.wire import wire
    url, soft, hard, streams = sys.argv[1], *map(int, sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with wire.Wire(wire.Target(url), 30) as instrument:
        replies = instrument.exchange([wire.Request("GET", "/")] * streams, streams)
    print(len(replies), sum(reply.failure is None for reply in replies))
"""


def test_the_soft_descriptor_limit_is_raised():
    pytest.importorskip("resource")
    with streamer(events=1) as url:
        done = run_alone(BURST_WITH_LIMITS, url, 64, 2048, 300)
    assert done.stdout.split() == ["300", "300"], done.stderr


def test_a_hard_descriptor_limit_too_low_is_said():
    pytest.importorskip("resource")
    done = run_alone(BURST_WITH_LIMITS, "http://127.0.0.1:9", 64, 128, 300)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("OSError")
    assert "300 streams" in last and "hard limit is 128" in last


# --- interrupted


@contextlib.contextmanager
def interrupt_after(delay_s: float) -> Iterator[None]:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(delay_s, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def test_an_interruption_keeps_what_there_is(serve):
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
        with pytest.raises(KeyboardInterrupt), interrupt_after(0.7):
            instrument.exchange(requests, 2)
        replies = instrument.replies
        assert is_at_rest(instrument)
        assert [reply.status for reply in instrument.exchange([GET] * 5, 3)] == [200] * 5
    kinds = [kind(reply) for reply in replies]
    assert kinds == [None] * 4 + ["interrupted"] * 2
    assert all(reply.body == event() and reply.end_ns for reply in replies[4:])
    slow = [peer for peer in server.peers if peer.gone_ns]
    assert len(slow) >= 2


def test_connections_that_come_after_an_interruption_are_not_used(tls):
    """They were for requests that nobody waits for any more."""
    opened = threading.Event()

    def script(peer: Peer) -> None:
        opened.wait(10)
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        keep_answering(peer)

    with RawServer(script) as server:
        with Wire(Target(server.url.replace("http", "https"), verify=False), 10) as instrument:
            with pytest.raises(KeyboardInterrupt), interrupt_after(0.3):
                instrument.exchange([GET] * 4, 4)
            assert [kind(reply) for reply in instrument.replies] == ["interrupted"] * 4
            opened.set()
            time.sleep(0.3)  # they are open now
            replies = instrument.exchange([GET] * 6, 2)
            assert [reply.status for reply in replies] == [200] * 6
            assert is_at_rest(instrument)
    assert server.requests == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interruptions_at_any_moment_leave_nothing_behind():
    """Struck between any two steps: the wire goes on, and no descriptor is lost."""
    with RawServer(Crowd(0.001)) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 8, 8)
        before = descriptors()
        source = random.Random(7)
        for _ in range(40):
            with contextlib.suppress(KeyboardInterrupt), interrupt_after(source.random() * 0.03):
                instrument.exchange([GET] * 60, 8)
                time.sleep(0.05)  # wherever it strikes, it strikes inside
            assert is_at_rest(instrument)
            for reply in instrument.replies:
                assert reply.failure is None or reply.failure.kind == "interrupted"
        replies = instrument.exchange([GET] * 30, 8)
        assert [reply.status for reply in replies] == [200] * 30
        assert wait_until(lambda: descriptors() <= before + 2 * 8)


# --- nothing is left behind


@pytest.mark.skipif(not LINUX, reason="/proc")
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
                with open_wire(server, timeout_s=0.2) as instrument:
                    replies = instrument.exchange(requests * 3, 6)
                    assert is_at_rest(instrument)
                assert [kind(reply) for reply in replies[4::6]] == [None] * 3
        # the server's side of the connections goes when its threads see them closed
        assert wait_until(lambda: descriptors() <= before + 2), (before, descriptors())


def test_closing_while_connections_are_being_opened():
    opening = threading.Event()

    def script(peer: Peer) -> None:
        opening.set()
        peer.wait_gone()

    with RawServer(script) as server:
        before = threading.active_count()
        instrument = Wire(Target(server.url.replace("http", "https"), verify=False), 1.0)
        with pytest.raises(KeyboardInterrupt), interrupt_after(0.3):
            instrument.exchange([GET] * 50, 50)
        instrument.close()
        instrument.close()  # twice does no harm
        assert wait_until(lambda: threading.active_count() <= before, 5)
        assert len(server.peers) <= connection.MAX_OPENERS


def test_a_hanging_name_look_up_does_not_hold_up_the_end():
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


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_server_does_every_request_is_accounted_for(serve, seed):
    """The state machine against a server that does everything wrong at random."""
    source = random.Random(seed)
    deeds = [
        lambda peer: peer.send(OK),
        lambda peer: peer.send(OK),
        lambda peer: peer.send(OK + b"surplus"),
        lambda peer: peer.send(answer(b"ok", "Connection: close")),
        lambda peer: (peer.send(OK), peer.reset()),
        lambda peer: (peer.send(OK), peer.sock.shutdown(socket.SHUT_WR)),
        lambda peer: (peer.send(CHUNKED + chunk(event())), peer.reset()),
        lambda peer: peer.send(CHUNKED, chunk(event()), chunk(DONE), LAST_CHUNK, gap_s=0.01),
        lambda peer: peer.reset(),
        lambda peer: peer.sock.shutdown(socket.SHUT_RDWR),
        lambda peer: time.sleep(0.5),
        lambda peer: peer.send(b"nonsense\r\n\r\n"),
        lambda peer: peer.send(OK[: source.randrange(len(OK))]),
    ]

    def script(peer: Peer) -> None:
        if source.random() < 0.15:
            return
        while peer.request() is not None:
            source.choice(deeds)(peer)

    server = serve(script)
    requests = [
        Request("POST", "/", bytes(source.choice([0, 10, 1 << 20])), {}, after, size)
        for after, size in zip(
            source.choices([None, None, 0.05], k=60),
            source.choices([None, None, 9], k=60),
            strict=True,
        )
    ]
    with open_wire(server, timeout_s=0.3) as instrument:
        for concurrency in (1, 5, 20):
            ended: list[Reply] = []
            replies = instrument.exchange(requests[: concurrency * 3], concurrency, ended.append)
            assert len(replies) == len(ended) == concurrency * 3
            assert is_at_rest(instrument)
            for reply in replies:
                good = reply.message.complete or reply.cancelled or reply.unterminated
                assert good is (reply.failure is None), reply
                assert kind(reply) in (None, "timeout", "truncated", "malformed", "connect", "tls")
                assert reply.end_ns and (reply.t0_ns or kind(reply) in ("connect", "tls"))
                if reply.t0_ns:
                    assert seconds(reply) < 0.3 + 2


# --- proxies, addresses, headers


class Proxy:
    """A CONNECT proxy that leads every name to the same server."""

    def __init__(self, port: int, status: str = "200 Connection established"):
        self.port, self.status = port, status

    def __call__(self, peer: Peer) -> None:
        peer.request()
        peer.send(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if not self.status.startswith("200"):
            return
        with socket.create_connection(("127.0.0.1", self.port)) as behind:
            back = threading.Thread(target=self._pump, args=(behind, peer.sock), daemon=True)
            back.start()
            self._pump(peer.sock, behind)
            back.join(5)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_through_a_proxy(scheme, tls, monkeypatch):
    context = tls if scheme == "https" else None
    with RawServer(keep_answering, context) as server, RawServer(Proxy(server.port)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        with Wire(Target(f"{scheme}://model.test:8443", "secret"), 5) as instrument:
            replies = instrument.exchange([GET] * 3, 2)
        direct = ask(server)
    assert [reply.status for reply in replies] == [200] * 3
    assert all(reply.handshake.rtt_ns is None for reply in replies if reply.handshake)
    assert direct.status == 200  # never through a proxy to this machine
    assert len(proxy.peers) == 2
    (head,) = proxy.peers[0].heads
    assert head.startswith(b"CONNECT model.test:8443 HTTP/1.")
    assert b"Basic dXNlcjpwQHNz" in head  # user:p@ss
    assert b"secret" not in head
    assert b"\r\nHost: model.test:8443\r\n" in server.peers[0].heads[0]


def test_a_proxy_that_refuses(monkeypatch):
    with RawServer(Proxy(9, "403 Forbidden")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with Wire(Target("http://model.test"), 5) as instrument:
            (reply,) = instrument.exchange([GET])
    assert kind(reply) == "connect" and "403 forbidden" in reply.failure.text


def test_a_proxy_that_is_not_there(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Wire(Target("http://model.test"), 5) as instrument:
        (reply,) = instrument.exchange([GET])
    assert kind(reply) == "connect" and "refused" in reply.failure.text


def test_ipv6():
    try:
        server = RawServer(keep_answering, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert ask(server).status == 200
    head = server.peers[0].heads[0]
    assert f"Host: [::1]:{server.port}".encode() in head


def test_the_round_trip_is_that_of_the_handshake():
    with RawServer(keep_answering) as server:
        handshake = ask(server).handshake
    assert handshake and handshake.tls_ns is None
    assert 0 < handshake.rtt_ns < 50e6 and 0 < handshake.connect_ns < 1e9


def encoded(url: str, request: Request, token: str | None = None) -> tuple[str, dict[str, str]]:
    head, _, _ = wire.encode(Target(url, token), request).partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    names = [field.split(": ")[0] for field in fields]
    assert len(names) == len(set(names))
    return line, dict(field.split(": ", 1) for field in fields)


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://h", "GET /ping HTTP/1.1", "h"),
        ("http://h:80", "GET /ping HTTP/1.1", "h"),
        ("http://h:443", "GET /ping HTTP/1.1", "h:443"),
        ("https://h:443", "GET /ping HTTP/1.1", "h"),
        ("https://h:8443/a/b", "GET /a/b/ping HTTP/1.1", "h:8443"),
        ("http://[::1]:8000", "GET /ping HTTP/1.1", "[::1]:8000"),
        ("http://bücher.test", "GET /ping HTTP/1.1", "xn--bcher-kva.test"),
    ],
)
def test_request_line_and_host(url, line, host):
    got_line, headers = encoded(url, Request("GET", "/ping"))
    assert (got_line, headers["Host"]) == (line, host)


def test_headers_as_usual_replaced_and_left_out():
    _, headers = encoded("http://h", Request("POST", "/", b"{}"), "secret")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Length"] == "2" and headers["Content-Type"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    changes = {"AUTHORIZATION": None, "accept": "text/event-stream", "Origin": "http://o"}
    _, headers = encoded("http://h", Request("POST", "/", b"", changes), "secret")
    assert "Authorization" not in headers and headers["Accept"] == "text/event-stream"
    assert headers["Origin"] == "http://o" and headers["Content-Length"] == "0"
    assert "Content-Length" not in encoded("http://h", Request("GET", "/"))[1]


def test_what_is_sent_arrives_as_it_is():
    target = "/v1/chat?x=1"
    with RawServer(keep_answering) as server:
        wired = Target(server.url + "/prefix", "secret")
        with Wire(wired, 5) as instrument:
            instrument.exchange([Request("POST", target, b"{}", {"x-test": "1"})])
    head = server.peers[0].heads[0]
    assert head.startswith(b"POST /prefix/v1/chat?x=1 HTTP/1.1\r\n")
    assert b"\r\nX-Test: 1" in head and b"\r\nAuthorization: Bearer secret" in head


def test_the_proxy_of_the_environment(monkeypatch):
    monkeypatch.setenv("https_proxy", "proxy.test:3128")
    monkeypatch.setenv("no_proxy", "inside.test")
    proxy = Target("https://model.test").proxy
    assert isinstance(proxy, urllib.parse.SplitResult)
    assert (proxy.hostname, proxy.port) == ("proxy.test", 3128)
    assert Target("https://inside.test").proxy is None
    assert Target("http://model.test").proxy is None
    assert Target("https://localhost").proxy is None


def test_streams_with_a_head_of_their_own_are_looked_at_whatever_the_case():
    head = STREAM_HEAD.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8")
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    reply = ask_script(once(head + chunk(DONE), then=Peer.wait_gone), timeout_s=4)
    assert reply.unterminated and reply.failure is None


# --- open loop: on a schedule


def waits_ms(replies: list[Reply]) -> list[float]:
    """From the moment each was due to its send."""
    return [((reply.t0_ns or 0) - (reply.due_ns or 0)) / 1e6 for reply in replies]


def test_on_a_schedule_requests_leave_when_they_are_due(serve):
    due_s = [0.0, 0.05, 0.1, 0.1, 0.1004, 0.1009, 0.25]
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        instrument.exchange([GET] * 7, 7)  # connections to take
        replies = instrument.exchange([GET] * 7, 100, due_s=due_s)
        assert is_at_rest(instrument)
    start_ns = replies[0].due_ns or 0
    assert [round(((r.due_ns or 0) - start_ns) / 1e9, 6) for r in replies] == due_s
    assert min(waits_ms(replies)) >= 0
    assert statistics.median(waits_ms(replies)) < 5, "a timer of whole milliseconds is not enough"
    assert [reply.status for reply in replies] == [200] * 7


def test_a_slow_server_does_not_slow_the_arrivals(serve):
    crowd = Crowd(0.3)
    server = serve(crowd)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 12, 100, due_s=[0.02 * n for n in range(12)])
    assert crowd.most == 12
    assert max(waits_ms(replies)) < 200


def test_beyond_the_concurrency_the_wait_counts_and_is_not_the_clients():
    crowd = Crowd(0.05)
    with RawServer(crowd) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 6, 2, due_s=[0.0] * 6)
    assert crowd.most == 2
    waits = waits_ms(replies)
    assert waits == sorted(waits), "first come, first served"
    assert min(waits[2:4]) >= 45 and min(waits[4:]) >= 90
    assert statistics.median((reply.late_ns or 0) / 1e6 for reply in replies) < 20


def test_connecting_is_part_of_the_wait_but_not_of_the_lag(tls):
    def script(peer: Peer) -> None:
        time.sleep(0.2)
        peer.sock = tls.wrap_socket(peer.sock, server_side=True)
        keep_answering(peer)

    with RawServer(script) as server:
        target = Target(server.url.replace("http", "https"), verify=False)
        with Wire(target, 10) as instrument:
            replies = instrument.exchange([GET] * 3, 3, due_s=[0.0, 0.1, 0.2])
    assert min(waits_ms(replies)) >= 200
    assert min((reply.late_ns or 0) / 1e6 for reply in replies) < 100


def test_a_client_that_is_held_up_has_a_lag():
    def busy(reply: Reply) -> None:
        if reply.index == 0:
            time.sleep(0.3)

    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 2, 5, busy, due_s=[0.0, 0.1])
    assert (replies[1].late_ns or 0) / 1e6 > 150
    assert waits_ms(replies)[1] > 150


def test_an_open_loop_without_end_is_ended_by_on_reply():
    ticks = (0.005 * number for number in itertools.count())
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        endless = itertools.repeat(GET)
        replies = instrument.exchange(endless, 5, lambda r: r.index == 9, due_s=ticks)
        assert is_at_rest(instrument)
    assert 10 <= len(replies) < 30
    assert [kind(reply) for reply in replies] == [None] * len(replies)


def test_a_closed_loop_takes_requests_as_long_as_there_are_any():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        assert len(instrument.exchange((GET for _ in range(7)), 3)) == 7
        assert len(instrument.exchange(iter([GET]), 3)) == 1
        assert instrument.exchange(iter(()), 3) == []
        assert instrument.exchange(iter(()), 3, due_s=[0.0]) == []
        assert instrument.exchange([GET], 3, due_s=[]) == []


def test_a_schedule_nobody_could_keep_still_reads_the_answers():
    """More arrivals than can be begun: those answered are seen, and may stop it."""
    ticks = (number / 1e6 for number in itertools.count())
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        started = time.monotonic()
        replies = instrument.exchange(itertools.repeat(GET), 2, lambda r: r.index > 20, due_s=ticks)
    assert 21 <= len(replies) < 40
    assert time.monotonic() - started < 5


def test_a_refused_connection_costs_its_request_only_and_no_time_of_others():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Wire(Target(f"http://127.0.0.1:{nobody.getsockname()[1]}"), 5) as instrument:
            replies = instrument.exchange([GET] * 5, 2, due_s=[0.02 * n for n in range(5)])
    assert [kind(reply) for reply in replies] == ["connect"] * 5
    assert all(reply.due_ns and reply.t0_ns is None for reply in replies)


def test_requests_that_hang_end_with_the_timeout_in_an_open_loop():
    with RawServer(Peer.wait_gone) as server, open_wire(server, timeout_s=0.4) as instrument:
        started = time.monotonic()
        replies = instrument.exchange([GET] * 4, 4, due_s=[0.0, 0.05, 0.1, 0.15])
    assert [kind(reply) for reply in replies] == ["timeout"] * 4
    assert 0.5 < time.monotonic() - started < 3


def test_an_interrupted_open_loop_keeps_what_there_is(serve):
    server = serve(keep_answering)
    with open_wire(server) as instrument:
        with interrupt_after(0.3), pytest.raises(KeyboardInterrupt):
            instrument.exchange(itertools.repeat(GET), 4, due_s=itertools.count(0, 0.05))
        assert is_at_rest(instrument)
        assert 3 <= len(instrument.replies) <= 8
        assert instrument.exchange([GET])[0].status == 200


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_kept_connection_that_closes_just_as_we_send_is_sent_again_when_due(serve, how):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        if how == "rst":
            peer.reset()

    server = serve(script)
    with open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 2, 4, due_s=[0.0, 0.2])
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[1].resent and replies[1].due_ns
