"""Opening connections to the target, with the times of it: TCP, TLS, through a proxy or not."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

MAX_OPENERS = 32  # threads that open connections
READ_SIZE = 1 << 16
SO_TIMESTAMPNS = 35  # Linux's number, also that of the control message; Python has no name for it
TCP_INFO_RTT_OFFSET = 68  # tcpi_rtt in struct tcp_info, microseconds (linux/tcp.h)

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Where requests go. `url` is a base URL: scheme, host, perhaps port and path."""

    url: str
    token: str | None = None
    verify: bool = True

    @cached_property
    def parts(self) -> urllib.parse.SplitResult:
        return urllib.parse.urlsplit(self.url)

    @property
    def is_tls(self) -> bool:
        return self.parts.scheme == "https"

    @cached_property
    def host(self) -> str:
        return (self.parts.hostname or "").encode("idna").decode()

    @cached_property
    def port(self) -> int:
        return self.parts.port or (443 if self.is_tls else 80)

    @cached_property
    def proxy(self) -> urllib.parse.SplitResult | None:
        """The proxy the environment asks for; never for this machine itself."""
        if self.host in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(self.host):
            return None
        proxy = urllib.request.getproxies().get(self.parts.scheme)
        return urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}") if proxy else None


@dataclass(frozen=True)
class Failure:
    """Why there is no whole answer.

    connect, tls, timeout, truncated, flood, malformed, interrupted.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Handshake:
    """What opening a connection took. `rtt_ns`: one round trip; None behind a proxy.
    `before_ns`: looking up the name, and addresses that did not answer."""

    connect_ns: int
    tls_ns: int | None
    rtt_ns: int | None
    before_ns: int = 0

    @property
    def whole_ns(self) -> int:
        return self.before_ns + self.connect_ns + (self.tls_ns or 0)


class Connection:
    """An open, non-blocking connection to the target."""

    def __init__(self, sock: socket.socket, tls: Tls | None, handshake: Handshake):
        self.sock, self.tls, self.handshake = sock, tls, handshake
        self.opened_ns = time.perf_counter_ns()
        self.uses = 0
        self.watched = False  # by the wire's selector
        sock.setblocking(False)

    def is_alive(self) -> bool:
        """Whether the server still holds an idle connection open, as far as one can know."""
        try:
            # over TLS a session ticket may be waiting; anything else unasked for ends the reuse
            while data := self.sock.recv(READ_SIZE, 0 if self.tls else socket.MSG_PEEK):
                if self.tls is None or self.tls.decrypt(data):
                    return False
        except BlockingIOError:
            return self.tls is None or not self.tls.closed
        except OSError:
            pass
        return False

    def close(self) -> None:
        self.sock.close()


class Tls:
    """TLS over a socket we read ourselves: an SSLSocket has no recvmsg, hence no kernel times."""

    def __init__(self, context: ssl.SSLContext, host: str):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.closed = False

    def handshake(self, sock: socket.socket) -> None:
        """On a blocking socket with a timeout. Raises OSError (ssl.SSLError is one)."""
        while True:
            try:
                self._object.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                data = sock.recv(READ_SIZE)
                if not data:
                    raise ConnectionResetError(errno.ECONNRESET, "closed during TLS") from None
                self._incoming.write(data)
        sock.sendall(self._outgoing.read())

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """The plain bytes that have come so far; b"" with `closed` set at the peer's goodbye."""
        self._incoming.write(data)
        plain = b""
        try:
            while piece := self._object.read(READ_SIZE):
                plain = plain + piece if plain else piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # close_notify, or an alert: either way nothing more will come
            self.closed = True
        return plain


def tls_context(verify: bool) -> ssl.SSLContext:
    """urllib3's settings; the system's certificates and those that requests would use."""
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_default_certs()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def open_socket(target: Target, address: str, timeout_s: float) -> socket.socket:
    """A TCP connection to this address, or to the proxy. Raises OSError."""
    from urllib3.connection import HTTPConnection
    from urllib3.exceptions import HTTPError
    from urllib3.util import make_headers

    proxy = target.proxy
    port = (proxy.port or 8080) if proxy else target.port
    connection = HTTPConnection(address, port, timeout=timeout_s)
    if proxy:
        user = f"{proxy.username}:{proxy.password or ''}" if proxy.username else ""
        headers = make_headers(proxy_basic_auth=urllib.parse.unquote(user) or None)
        connection.set_tunnel(target.host, target.port, headers)
    try:
        connection.connect()
    except HTTPError as error:
        cause = error.__cause__ or error.__context__
        raise cause if isinstance(cause, OSError) else OSError(str(error)) from None
    return connection.sock


def round_trip_ns(sock: socket.socket, connect_ns: int) -> int:
    """The kernel's own measure of the TCP handshake; elsewhere what connecting took."""
    if sys.platform == "linux":
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        if len(info) >= TCP_INFO_RTT_OFFSET + 4:
            return int(struct.unpack_from("I", info, TCP_INFO_RTT_OFFSET)[0]) * 1000
    return connect_ns


def connect(
    target: Target, context: ssl.SSLContext | None, timeout_s: float, stamps: bool
) -> Connection:
    """Open a connection and take the times of it. Raises OSError."""
    begun_ns = time.perf_counter_ns()
    deadline = begun_ns / 1e9 + timeout_s
    host = (target.proxy.hostname or "") if target.proxy else target.host
    # resolved here, so that looking the name up is not in the connect time
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for others in range(len(addresses) - 1, -1, -1):
        # an address that does not answer leaves the others their share of the time
        share_s = (deadline - time.perf_counter()) / (others + 1)
        started = time.perf_counter_ns()
        try:
            sock = open_socket(target, addresses[-1 - others], max(0.01, share_s))
            break
        except OSError:
            if not others:
                raise
    connect_ns, before_ns = time.perf_counter_ns() - started, started - begun_ns
    try:
        rtt = None if target.proxy else round_trip_ns(sock, connect_ns)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stamps:
            with contextlib.suppress(OSError):  # refused, as by a sandbox: reads come unstamped
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if context is None:
            return Connection(sock, None, Handshake(connect_ns, None, rtt, before_ns))
        sock.settimeout(max(0.01, deadline - time.perf_counter()))
        tls, begun = Tls(context, target.host), time.perf_counter_ns()
        tls.handshake(sock)
        handshake = Handshake(connect_ns, time.perf_counter_ns() - begun, rtt, before_ns)
        return Connection(sock, tls, handshake)
    except BaseException:
        sock.close()
        raise


def explain(error: OSError, target: Target) -> Failure:
    """Why a connection could not be opened, in words an operator can act on."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure("tls", f"certificate not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return Failure("tls", f"TLS failed: {(error.reason or str(error)).replace('_', ' ')}")
    if isinstance(error, socket.gaierror):
        return Failure("connect", f"unknown host {target.host}")
    if isinstance(error, TimeoutError):
        return Failure("connect", "connecting timed out")
    return Failure("connect", (error.strerror or str(error)).lower())


class Opener(Generic[T]):
    """Threads that open connections while the selector's thread goes on reading."""

    def __init__(self, target: Target, stamps: bool):
        self._target, self._stamps = target, stamps
        self._context: ssl.SSLContext | None = None
        self._wanted: queue.SimpleQueue[tuple[T, int] | None] = queue.SimpleQueue()
        self._closed = False
        self._opened: deque[tuple[T, Connection | Failure]] = deque()
        self._threads = self._asked = 0  # asked for, and not collected yet
        self.wakes, self._bell = socket.socketpair()  # readable when a connection is there
        self.wakes.setblocking(False)

    def open(self, ticket: T, deadline_ns: int) -> None:
        """Ask for a connection; `collect` gives it back with the same ticket.

        Nobody waits for it any more after the deadline.
        """
        import urllib3.connection  # noqa: F401  (now, or the first connection would be timed with it)

        if self._target.is_tls and self._context is None:
            self._context = tls_context(self._target.verify)  # one for all: building it is dear
        self._asked += 1
        if self._threads < min(self._asked, MAX_OPENERS):
            self._threads += 1
            # daemons: one that hangs in a name look-up must not hold up the exit
            threading.Thread(target=self._work, daemon=True).start()
        self._wanted.put((ticket, deadline_ns))

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            ticket, deadline_ns = wanted
            left_s = (deadline_ns - time.perf_counter_ns()) / 1e9
            self._opened.append((ticket, self._connect(left_s)))
            with contextlib.suppress(OSError):
                self._bell.send(b".")
            if self._closed:
                self._throw_away()

    def _connect(self, timeout_s: float) -> Connection | Failure:
        if timeout_s <= 0 or self._closed:  # it waited too long behind others
            return Failure("connect", "connecting timed out")
        try:
            return connect(self._target, self._context, timeout_s, self._stamps)
        except OSError as error:
            return explain(error, self._target)
        except Exception as error:  # a thread that dies silently would hang the run
            return Failure("connect", f"{type(error).__name__}: {error}")

    def collect(self) -> list[tuple[T, Connection | Failure]]:
        with contextlib.suppress(BlockingIOError):
            self.wakes.recv(4096)
        opened = [self._opened.popleft() for _ in range(len(self._opened))]
        self._asked -= len(opened)
        return opened

    def close(self) -> None:
        self._closed = True
        for _ in range(self._threads):
            self._wanted.put(None)
        self._throw_away()
        self._bell.close()
        self.wakes.close()

    def _throw_away(self) -> None:
        """Close what nobody will collect."""
        with contextlib.suppress(IndexError):
            while True:
                _, result = self._opened.popleft()
                if isinstance(result, Connection):
                    result.close()
