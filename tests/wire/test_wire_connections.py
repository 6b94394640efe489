"""Connections: kept, closed by the server, impossible to open; addresses, headers."""

from __future__ import annotations

import datetime
import socket
import threading
import time

import pytest
from helpers.instrument import (
    GET,
    ask,
    kind,
    once,
    open_tls_wire,
    open_wire,
    refusing_url,
    server_context,
)
from helpers.raw_server import (
    OK,
    Peer,
    RawServer,
    answer,
    keep_answering,
)

from livecheck.wire import connection, exchange
from livecheck.wire.wire import Reply, Request, Target, Wire

# --- kept, not kept, closed by the server


def test_keep_false_opens_a_new_connection_for_each_request(serve):
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
def test_a_connection_is_not_used_again_when_the_server_says_close(reply):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply)
        peer.wait_gone(5)  # the connection could still be used

    with RawServer(script) as server, open_wire(server) as instrument:
        replies = instrument.exchange([GET] * 4)
    assert len(server.peers) == 4 and server.requests == 4
    assert all(each.status == 200 and not each.resent for each in replies)


def test_an_idle_connection_that_the_server_has_closed_is_replaced(serve):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)

    server = serve(script)
    with open_wire(server) as instrument:
        instrument.exchange([GET])
        time.sleep(0.05)
        (reply,) = instrument.exchange([GET])
    assert reply.status == 200 and reply.handshake and not reply.resent
    assert server.requests == 2


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_request_is_sent_again_when_the_idle_connection_closes_just_then(serve, how):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        if peer.number == 0:
            peer.request()  # the second request comes too late for this connection
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
    assert second.t0_ns > server.peers[0].asked_ns[1]  # counted from when it was sent again
    assert len(server.peers) == 2


def test_a_request_is_sent_again_on_a_new_connection_not_on_an_idle_one():
    """A server that restarts closes every idle connection at its next request."""

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


def test_a_request_is_sent_again_only_once():
    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.request()
            peer.send(OK)
        peer.request()

    with RawServer(script) as server, open_wire(server) as instrument:
        _, second = instrument.exchange([GET] * 2)
    assert second.resent and kind(second) == "truncated"
    assert len(server.peers) == 2


def test_a_request_that_the_server_has_worked_on_is_not_sent_again(monkeypatch):
    monkeypatch.setattr(exchange, "CLOSE_RACE_S", 0.1)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        time.sleep(0.2)  # it breaks while it works on the second request

    with RawServer(script) as server, open_wire(server) as instrument:
        _, second = instrument.exchange([GET] * 2)
    assert kind(second) == "truncated" and not second.resent


def test_all_of_a_long_prompt_is_sent_again():
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
    assert len(server.peers) == 2  # and the new connection is used again


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


def test_a_connection_with_surplus_bytes_is_not_used_again():
    with RawServer(lambda peer: keep_answering(peer, OK + b"surplus")) as server:
        with open_wire(server) as instrument:
            replies = instrument.exchange([GET] * 3)
    assert [reply.body for reply in replies] == [b"ok"] * 3
    assert len(server.peers) == 3 and not any(reply.resent for reply in replies)


# --- connecting fails


def test_connection_refused():
    with refusing_url() as url, Wire(Target(url), 5) as instrument:
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


def test_a_host_name_that_is_not_valid():
    with Wire(Target(f"http://{'a' * 70}.test"), 5) as instrument:
        assert kind(instrument.exchange([GET])[0]) == "connect"


def test_a_self_signed_certificate_is_refused_unless_verify_is_false(tls):
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
        with Wire(Target(server.url.replace("http", "https")), 0.3) as instrument:
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


def test_connections_that_nobody_answers_end_with_the_timeout(monkeypatch):
    """Also more than there are threads to open them. The next exchange does not wait for them."""
    monkeypatch.setattr(connection, "MAX_OPENERS", 2)
    silent = threading.Event()
    silent.set()

    def script(peer: Peer) -> None:
        peer.sock.recv(1, socket.MSG_PEEK)
        if silent.is_set():
            peer.wait_gone()

    with RawServer(script) as server:
        with open_tls_wire(server, 0.3) as instrument:
            started = time.monotonic()
            replies = instrument.exchange([GET] * 12, 12)
            assert 0.3 <= time.monotonic() - started < 1.4
            assert [kind(reply) for reply in replies] == ["connect"] * 12
            silent.clear()
            (reply,) = instrument.exchange([GET])  # RST or EOF, without delay
            assert "timed out" not in reply.failure.text
            assert len(server.peers) < 12  # those that had timed out were not opened any more


# --- addresses, headers


def test_a_server_with_an_ipv6_address():
    try:
        server = RawServer(keep_answering, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert ask(server).status == 200
    head = server.peers[0].heads[0]
    assert f"Host: [::1]:{server.port}".encode() in head


def test_the_round_trip_is_measured_when_the_connection_opens():
    with RawServer(keep_answering) as server:
        handshake = ask(server).handshake
    assert handshake and handshake.tls_ns is None
    assert 0 < handshake.rtt_ns < 50e6 and 0 < handshake.connect_ns < 1e9


def encoded(url: str, request: Request, token: str | None = None) -> tuple[str, dict[str, str]]:
    head, _, _ = request.encode(Target(url, token)).partition(b"\r\n\r\n")
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


def test_headers_can_be_replaced_and_left_out():
    _, headers = encoded("http://h", Request("POST", "/", b"{}"), "secret")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Length"] == "2" and headers["Content-Type"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    changes = {"AUTHORIZATION": None, "accept": "text/event-stream", "Origin": "http://o"}
    _, headers = encoded("http://h", Request("POST", "/", b"", changes), "secret")
    assert "Authorization" not in headers and headers["Accept"] == "text/event-stream"
    assert headers["Origin"] == "http://o" and headers["Content-Length"] == "0"
    assert "Content-Length" not in encoded("http://h", Request("GET", "/"))[1]


def test_the_server_gets_what_is_sent():
    target = "/v1/chat?x=1"
    with RawServer(keep_answering) as server:
        wired = Target(server.url + "/prefix", "secret")
        with Wire(wired, 5) as instrument:
            instrument.exchange([Request("POST", target, b"{}", {"x-test": "1"})])
    head = server.peers[0].heads[0]
    assert head.startswith(b"POST /prefix/v1/chat?x=1 HTTP/1.1\r\n")
    assert b"\r\nX-Test: 1" in head and b"\r\nAuthorization: Bearer secret" in head


def test_what_is_sent_again_is_not_ended_by_the_time_of_the_first_send(monkeypatch):
    """Just when it was to be cancelled, it is found that the idle connection had been closed."""
    slot, reply = exchange.Slot(), Reply(0, GET, t0_ns=1)
    slot.reply = reply
    loop = object.__new__(exchange.ClosedLoop)
    monkeypatch.setattr(loop, "_read", lambda _: setattr(reply, "t0_ns", None))
    assert not loop._read_first(slot, reply)
