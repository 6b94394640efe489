"""Certificates, and scripted servers with and without TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from helpers.instrument import server_context
from helpers.raw_server import Peer, RawServer


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
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
