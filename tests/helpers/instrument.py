"""Short forms for tests that let the measuring instrument talk to a scripted server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trustme

from helpers.raw_server import OK, Peer, RawServer, event
from livecheck.wire.wire import Reply, Request, Target, Wire

ROOT = Path(__file__).parents[2]
IS_LINUX = sys.platform == "linux"
GET = Request("GET", "/")
DONE = event("[DONE]")


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def demanding(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    """What a server has that demands a certificate of this authority."""
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


def open_wire(server: RawServer, timeout_s: float = 10, **options: Any) -> Wire:
    return Wire(Target(server.url, verify=False), timeout_s, **options)


def open_tls_wire(server: RawServer, timeout_s: float = 10) -> Wire:
    """For a plain RawServer whose script begins TLS itself, when it wants to."""
    return Wire(Target(server.url.replace("http", "https"), verify=False), timeout_s)


def ask(server: RawServer, request: Request = GET, timeout_s: float = 10) -> Reply:
    """The reply to one request on a wire of its own."""
    with open_wire(server, timeout_s) as instrument:
        (reply,) = instrument.exchange([request])
    return reply


def ask_script(script: Callable[[Peer], object], timeout_s: float = 10) -> Reply:
    with RawServer(script) as server:
        return ask(server, timeout_s=timeout_s)


def once(*parts: bytes, gap_s: float = 0, then: Callable[[Peer], object] | None = None) -> Any:
    """A script: read one request, send these bytes, then do `then` or close the connection."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*parts, gap_s=gap_s)
        if then:
            then(peer)

    return script


class Crowd:
    """A script that answers after `busy_s`, and counts how many requests it serves at once."""

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


def kind(reply: Reply) -> str | None:
    return reply.failure.kind if reply.failure else None


def seconds(reply: Reply) -> float:
    """From the send to the end."""
    assert reply.t0_ns is not None and reply.end_ns is not None
    return (reply.end_ns - reply.t0_ns) / 1e9


def is_at_rest(instrument: Wire) -> bool:
    """Every request has ended, and the selector watches nothing but the opener's wake-up socket."""
    has_ended = all(reply.end_ns for reply in instrument.replies)
    return has_ended and len(instrument._pool.selector.sockets) == 1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def run_alone(
    code: str, *arguments: object, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a small program that uses the instrument, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@contextlib.contextmanager
def refusing_url() -> Iterator[str]:
    """A URL on loopback that refuses connections: its port is bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def interrupt_after(delay_s: float) -> contextlib.AbstractContextManager[None]:
    """Ctrl-C inside the block, `delay_s` after its begin."""
    return _interrupt(lambda left: left.wait(delay_s))


def interrupt_when(condition: Callable[[], bool]) -> contextlib.AbstractContextManager[None]:
    """Ctrl-C inside the block, as soon as the condition holds."""
    return _interrupt(lambda left: wait_until(lambda: left.is_set() or condition()))


@contextlib.contextmanager
def _interrupt(wait: Callable[[threading.Event], object]) -> Iterator[None]:
    main = threading.main_thread().ident
    assert main is not None
    left = threading.Event()  # the block has ended

    def strike() -> None:
        wait(left)
        if not left.is_set():
            signal.pthread_kill(main, signal.SIGINT)

    # A program that was started in the background ignores SIGINT, and so would these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=strike)
    try:
        thread.start()
        yield
    finally:
        left.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
