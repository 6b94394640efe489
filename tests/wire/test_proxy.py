"""The proxy between this machine and a deployment: which one, how it is asked, what it refuses."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from helpers.forward_proxy import ForwardProxy
from helpers.instrument import GET, ask, kind
from helpers.raw_server import Peer, RawServer, answer, keep_answering

from livecheck.core.credentials import CannotCheck
from livecheck.wire.answer import Answer
from livecheck.wire.proxy import Proxy, find_proxy
from livecheck.wire.proxy_doubt import doubt_of_proxy
from livecheck.wire.wire import Reply, Request, Target, Wire

URL = {"http": "http://model.test:8080", "https": "https://model.test:8443"}


def through(scheme: str = "http", timeout_s: float = 5, request: Request = GET) -> Reply:
    """The reply to a request that the environment's proxy gets."""
    with Wire(Target(URL[scheme], "secret"), timeout_s) as wire:
        (reply,) = wire.exchange([request])
    return reply


# --- how it is asked


def test_a_target_without_tls_is_asked_in_the_absolute_form(monkeypatch):
    with RawServer(keep_answering) as server, ForwardProxy(server.port) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        with Wire(Target("http://model.test/prefix", "secret"), 5) as wire:
            replies = wire.exchange([Request("POST", "/v1/chat?x=1", b"{}")] * 2)
        direct = ask(server)
    assert [reply.status for reply in replies] == [200, 200] and direct.status == 200
    assert proxy.asked == ["POST http://model.test/prefix/v1/chat?x=1"] * 2
    head = proxy.peers[0].heads[0]
    assert b"\r\nHost: model.test\r\n" in head
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwQHNz" in head  # user:p@ss
    assert server.peers[0].heads[0].startswith(b"POST /prefix/v1/chat?x=1 HTTP/1.1\r\n")
    assert all(reply.handshake.rtt_ns is None for reply in replies)


def test_a_path_that_is_sent_as_it_is_keeps_its_form(monkeypatch):
    monkeypatch.setenv("http_proxy", "proxy.test:3128")
    for path, line in (("//v1/../v1", "http://model.test:8080//v1/../v1"), ("*", "*")):
        sent = Request("OPTIONS", path, is_raw=True).encode(Target(URL["http"]))
        assert sent.startswith(f"OPTIONS {line} HTTP/1.1\r\n".encode())


@pytest.mark.usefixtures("trusted")
def test_a_target_with_tls_is_asked_through_a_tunnel(tls, monkeypatch):
    with RawServer(keep_answering, tls) as server, ForwardProxy(server.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        with Wire(Target(URL["https"], "secret"), 5) as wire:
            replies = wire.exchange([GET] * 3, 2)
    assert [reply.status for reply in replies] == [200] * 3
    assert all(reply.handshake.rtt_ns is None for reply in replies if reply.handshake)
    assert proxy.asked == ["CONNECT model.test:8443"] * 2
    head = proxy.peers[0].heads[0]
    assert b"Basic dXNlcjpwQHNz" in head and b"secret" not in head
    assert b"proxy-auth" not in server.peers[0].heads[0].lower()
    assert b"\r\nHost: model.test:8443\r\n" in server.peers[0].heads[0]


# --- what goes wrong on the way


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("407 Proxy Authentication Required", "put a user and password into all_proxy"),
        ("403 Forbidden", "does not let requests to model.test"),
        ("511 Network Authentication Required", "does not let requests to model.test"),
        ("503 Service Unavailable", "does not reach model.test"),
        ("502 Bad Gateway", "does not reach model.test"),
        ("500 Unable to connect", "does not reach model.test"),
        ("501 Not Implemented", "is it a proxy?"),
    ],
)
def test_what_the_proxy_refuses_names_it_and_its_words(scheme, status, words, monkeypatch):
    page = b"<html><title>no</title><p>the office says no</p></html>"
    refusal = answer(page, "Via: 1.1 office", "X-Squid-Error: ERR_SOME 0", status=status)
    with ForwardProxy(instead=refusal) as proxy:
        monkeypatch.setenv("all_proxy", proxy.url)
        reply = through(scheme)
    assert kind(reply) == "connect"
    said = f"{status[:3]} ERR_SOME 0, the office says no: "
    begins = f"the proxy 127.0.0.1:{proxy.port} answered {said}"
    assert reply.failure.text.startswith(begins) and words in reply.failure.text


def test_a_refused_password_is_not_called_a_missing_one(monkeypatch):
    with ForwardProxy(user="user:right") as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:wrong@127.0.0.1:{proxy.port}")
        reply = through()
    assert "it refuses the user and password in http_proxy" in reply.failure.text
    assert "wrong" not in reply.failure.text


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there(scheme, monkeypatch):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("ALL_PROXY", f"http://{name}")
        reply = through(scheme)
    text = f"the proxy {name} cannot be reached (connection refused)"
    assert (kind(reply), reply.failure.text) == ("connect", text)


def test_an_unknown_host_is_that_of_the_proxy(monkeypatch):
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    reply = through()
    assert "the proxy proxy.test:3128 cannot be reached (unknown host proxy.test)" in (
        reply.failure.text
    )


def speaks_something_else(peer: Peer) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    peer.wait_gone(5)


@pytest.mark.parametrize(
    ("scheme", "instead", "failure"),
    [
        ("http", speaks_something_else, "malformed"),
        ("https", speaks_something_else, "connect"),
        ("http", Peer.wait_gone, "timeout"),
        ("https", Peer.wait_gone, "connect"),
        ("http", Peer.request, "truncated"),
        ("https", Peer.request, "connect"),
        ("https", answer(b"", status="405 Method Not Allowed"), "connect"),
    ],
)
def test_what_is_no_proxy_is_named(scheme, instead, failure, monkeypatch):
    with ForwardProxy(instead=instead) as other:
        monkeypatch.setenv("all_proxy", other.url)
        target = Target(URL[scheme])
        with Wire(target, 0.5) as wire:
            (reply,) = wire.exchange([GET])
        doubt = doubt_of_proxy(target, [Answer(reply)])
    assert kind(reply) == failure
    assert reply.failure.text.count(f"proxy 127.0.0.1:{other.port}") == 1
    assert (doubt is not None) == (scheme == "http")


def test_a_certificate_behind_a_proxy_names_the_proxy(tls, monkeypatch):
    """It may be that of the proxy, which looks into what it passes on."""
    with RawServer(keep_answering, tls) as server, ForwardProxy(server.port) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        reply = through("https")
    assert kind(reply) == "tls" and "certificate not accepted" in reply.failure.text
    assert reply.failure.text.endswith(f"(through the proxy 127.0.0.1:{proxy.port})")


@pytest.mark.parametrize(
    ("status", "body", "is_doubtful"),
    [
        ("502 Bad Gateway", b"<html>bad gateway</html>", True),
        ("504 Gateway Timeout", b"", True),
        ("403 Forbidden", b"blocked by the office", True),
        ("503 Service Unavailable", b'{"error": {"message": "loading"}}', False),
        ("500 Internal Server Error", b"<html>oh</html>", False),
        ("404 Not Found", b"<html>not here</html>", False),
    ],
)
def test_an_error_that_may_be_the_proxys_decides_nothing(status, body, is_doubtful, monkeypatch):
    def refuse(peer: Peer) -> None:
        peer.request()
        peer.send(answer(body, "Connection: close", status=status))

    with RawServer(refuse) as server, ForwardProxy(server.port) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        found = Answer(through())
        doubt = doubt_of_proxy(Target(URL["http"]), [found])
    assert found.failure is None and found.status == int(status[:3])
    assert (doubt is not None) == is_doubtful
    assert ("proxy" in found.words) == (is_doubtful or b"<html>" in body)
    if doubt:
        assert "no_proxy=model.test" in doubt and f"127.0.0.1:{proxy.port}" in doubt


# --- which one


def proxy_of(url: str) -> str | None:
    proxy = Target(url).proxy
    return proxy.name if proxy else None


def test_the_variables_of_the_environment(monkeypatch):
    monkeypatch.setenv("all_proxy", "http://all.test")
    assert proxy_of("http://model.test") == proxy_of("https://model.test") == "all.test:80"
    monkeypatch.setenv("HTTP_PROXY", "upper.test:3128")
    assert proxy_of("http://model.test") == "upper.test:3128"
    monkeypatch.setenv("http_proxy", "http://[fd00::1]:3128/")
    assert proxy_of("http://model.test") == "[fd00::1]:3128"
    assert Target("http://model.test").proxy.variable == "http_proxy"
    assert proxy_of("https://model.test") == "all.test:80"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.53", "[::1]", "x.localhost"])
def test_this_machine_is_never_asked_through_a_proxy(host, monkeypatch):
    monkeypatch.setenv("all_proxy", "http://proxy.test")
    assert proxy_of(f"http://{host}:8000") is proxy_of(f"https://{host}:8000") is None


@pytest.mark.parametrize(
    ("entries", "past", "through"),
    [
        ("*", ["http://model.test", "http://10.0.0.1"], []),
        ("model.test", ["http://model.test", "http://a.model.test"], ["http://amodel.test"]),
        (".model.test", ["http://model.test", "http://a.b.model.test"], ["http://other.test"]),
        ("*.model.test, x", ["http://a.model.test", "http://x"], ["http://other.test"]),
        ("MODEL.test", ["http://Model.TEST"], []),
        ("model.test:8000", ["http://model.test:8000"], ["http://model.test"]),
        ("model.test:443", ["https://model.test"], ["http://model.test"]),
        ("10.0.0.7", ["http://10.0.0.7:8000"], ["http://10.0.0.70", "http://110.0.0.7"]),
        ("10.0.0.0/8", ["http://10.200.3.4"], ["http://11.0.0.1", "http://ten.test"]),
        ("10.1.2.3/16", ["http://10.1.200.3"], ["http://10.2.0.1"]),
        ("fd00::/8", ["http://[fd12::7]:8000"], ["http://[2001:db8::1]", "http://10.0.0.1"]),
        (
            "fd00::7 [fd00::8]:80",
            ["http://[fd00::7]:9", "http://[fd00::8]"],
            ["http://[fd00::8]:9"],
        ),
        ("10.0.0.0/99, ,/", [], ["http://10.0.0.1", "http://model.test"]),
    ],
)
def test_no_proxy(entries, past, through, monkeypatch):
    monkeypatch.setenv("all_proxy", "http://proxy.test")
    monkeypatch.setenv("NO_PROXY", entries)
    assert [url for url in past if proxy_of(url)] == []
    assert [url for url in through if not proxy_of(url)] == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("socks5://user:secret@proxy.test:1080", "a SOCKS proxy, which is not supported"),
        ("socks5h://proxy.test:1080", "a SOCKS proxy"),
        ("https://user:secret@proxy.test:3128", "asked over https, which is not supported"),
        ("http://", "not the URL of a proxy"),
        ("http://proxy.test:port", "not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_with_what_to_do(url, words, monkeypatch):
    monkeypatch.setenv("https_proxy", url)
    with pytest.raises(CannotCheck, match=words) as raised:
        _ = Target("https://model.test").proxy
    assert "https_proxy" in str(raised.value) and "no_proxy=model.test" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_password_is_in_the_url_for_another_library_and_nowhere_else():
    proxy = Proxy("proxy.test", 3128, "http_proxy", ("h", 80), True, "user:p%40ss")
    assert proxy.url() == "http://user:p%40ss@proxy.test:3128"
    assert proxy.url("fd00::1") == "http://user:p%40ss@[fd00::1]:3128"
    assert proxy.authorization == "Basic dXNlcjpwQHNz"
    assert "p@ss" in proxy.secrets and "dXNlcjpwQHNz" in proxy.secrets
    assert "p@ss" not in repr(proxy) and "p%40ss" not in repr(proxy) + proxy.name
    assert find_proxy("http", "model.test", 80) is None
