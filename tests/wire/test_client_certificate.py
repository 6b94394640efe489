"""A server that asks for a client certificate, with one and without, in both versions of TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from helpers.instrument import GET, demanding, kind, server_context
from helpers.raw_server import OK, Peer, RawServer, keep_answering

from livecheck.core.certificate import ClientCertificate
from livecheck.wire.tls import asks_for_certificate
from livecheck.wire.wire import Reply, Target, Wire

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
both_versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def client(authority: trustme.CA) -> ClientCertificate:
    Path("client.pem").write_bytes(
        authority.issue_cert("client.example").private_key_and_cert_chain_pem.bytes()
    )
    return ClientCertificate("client.pem")


def ask(
    context: ssl.SSLContext | None,
    certificate: ClientCertificate | None = None,
    script: Callable[[Peer], object] = keep_answering,
) -> Reply:
    with RawServer(script, tls=context) as server:
        url = server.url.replace("http:", "https:")
        with Wire(Target(url, verify=False, certificate=certificate), 5) as wire:
            return wire.exchange([GET])[0]


@both_versions
def test_it_is_shown_the_certificate(authority: trustme.CA, version: ssl.TLSVersion) -> None:
    reply = ask(demanding(authority, version), client(authority))
    assert (kind(reply), reply.status) == (None, 200)


@both_versions
def test_without_one_the_failure_says_what_the_server_asks_for(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    reply = ask(demanding(authority, version))
    assert reply.failure and reply.failure.kind == "tls"
    assert reply.failure.text == "the server asks for a client certificate"


@both_versions
def test_one_of_another_authority_is_refused(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    reply = ask(demanding(authority, version), client(trustme.CA()))
    assert reply.failure and reply.failure.kind == "tls"
    assert reply.failure.text.startswith("the server refuses the client certificate (")


@both_versions
def test_a_server_that_needs_none_is_not_accused(
    authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    context = demanding(authority, version)
    context.verify_mode = ssl.CERT_OPTIONAL
    assert ask(context).status == 200


def test_one_that_asks_and_then_hangs_up_asks_for_a_certificate(authority: trustme.CA) -> None:
    """Some balancers close without an alert."""
    context = demanding(authority, ssl.TLSVersion.TLSv1_2)

    def script(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(peer.sock.recv(1 << 16))
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        peer.send(outgoing.read())
        peer.sock.recv(1 << 16)

    reply = ask(None, script=script)
    assert reply.failure and reply.failure.text == "the server asks for a client certificate"


def test_a_server_may_ask_for_it_after_the_request(authority: trustme.CA) -> None:
    """Apache does so, where a certificate is needed for some paths only (RFC 8446, 4.6.2)."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    authority.configure_trust(context)
    context.verify_mode, context.post_handshake_auth = ssl.CERT_REQUIRED, True
    seen: list[object] = []

    def script(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        while peer.request() is not None:
            seen.append(peer.sock.getpeercert())
            peer.sock.verify_client_post_handshake()
            peer.sock.settimeout(0.5)
            peer.sock.write(b"")  # sends the request for the certificate
            with contextlib.suppress(TimeoutError):
                peer.sock.read(1)
            seen.append(peer.sock.getpeercert())
            peer.send(OK)

    context.minimum_version = ssl.TLSVersion.TLSv1_3
    reply = ask(context, client(authority), script)
    assert (kind(reply), reply.status) == (None, 200)
    assert not seen[0] and seen[1]


def test_a_handshake_that_fails_for_another_reason_is_not_about_certificates(
    authority: trustme.CA,
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA")  # the certificate has no RSA key
    reply = ask(context)
    assert reply.failure and reply.failure.kind in ("tls", "connect")
    assert "certificate" not in reply.failure.text


def test_a_server_that_offers_only_http_2_is_named() -> None:
    def script(peer: Peer) -> None:  # the alert no_application_protocol (RFC 7301, section 3.2)
        peer.sock.recv(1 << 16)
        peer.send(b"\x15\x03\x03\x00\x02\x02\x78")

    reply = ask(None, script=script)
    assert reply.failure and "HTTP/2 only" in reply.failure.text


@pytest.mark.parametrize(
    ("received", "asked"),
    [
        (b"", False),
        (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00" + b"\x16\x03\x03\x00\x04\x0d\x00\x00\x00", True),
        (b"\x16\x03\x03\x00\x08\x02\x00\x00\x00\x0d\x00\x00\x00", True),
        (b"\x16\x03\x03\x00\x08\x02\x00\x00\x04\x0d\x00\x00\x00", False),  # inside another message
        (b"\x17\x03\x03\x00\x04\x0d\x00\x00\x00", False),  # encrypted
        (b"\x16\x03\x03", False),
    ],
)
def test_a_request_for_a_certificate_is_found_in_the_records(received: bytes, asked: bool) -> None:
    assert asks_for_certificate(received) is asked
