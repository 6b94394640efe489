"""Opens connections to the target, directly or through a proxy, and measures how long that took.

`Pool` holds what outlives one exchange: the idle connections, the threads that open new ones, the
selector that watches those in use.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from livecheck.wire.clock import SO_TIMESTAMPNS, Clock

MAX_OPENERS = 32  # threads that open connections
READ_SIZE = 1 << 16
ANCILLARY_SIZE = 64  # enough for one time stamp
HAS_RECVMSG = hasattr(socket.socket, "recvmsg")  # not on Windows
TCP_INFO_RTT_OFFSET = 68  # tcpi_rtt in struct tcp_info, microseconds (linux/tcp.h)
TCP_INFO_SIZE = 104
LEAST_TIMEOUT_S = 0.01  # a socket's time-out of 0 would mean non-blocking

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Where requests go. `url` is a base URL: scheme, host, and port and path if there are any.

    `token` is sent as a bearer token. `verify=False` accepts any TLS certificate.
    """

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
        """The proxy that the environment asks for; never one for this machine itself."""
        if self.host in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(self.host):
            return None
        proxy = urllib.request.getproxies().get(self.parts.scheme)
        return urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}") if proxy else None


@dataclass(frozen=True)
class Failure:
    """Why there is no whole answer. `text` is for people.

    `kind` is connect, tls, timeout, truncated, flood, malformed or interrupted.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Handshake:
    """How long it took to open a connection."""

    connect_ns: int  # TCP, and the proxy's CONNECT if there is a proxy
    tls_ns: int | None  # None: without TLS
    rtt_ns: int | None  # one round trip; None behind a proxy
    before_ns: int = 0  # looking up the name, and trying addresses that did not answer

    @property
    def whole_ns(self) -> int:
        """All of it together."""
        return self.before_ns + self.connect_ns + (self.tls_ns or 0)


class Connection:
    """An open, non-blocking connection to the target."""

    def __init__(self, sock: socket.socket, tls: Tls | None, handshake: Handshake):
        self.sock, self.tls, self.handshake = sock, tls, handshake
        self.opened_ns = time.perf_counter_ns()
        self.uses = 0  # requests that were sent over it
        self.watched = False  # by the pool's selector
        sock.setblocking(False)

    def is_alive(self) -> bool:
        """Whether the server still holds an idle connection open, as far as one can know."""
        try:
            # Over TLS a session ticket may be waiting. Any other bytes that nobody asked for mean
            # that the connection cannot be used again.
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
    """TLS over a socket that we read ourselves: an SSLSocket cannot give kernel receive times,
    because it has no recvmsg."""

    def __init__(self, context: ssl.SSLContext, host: str):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.closed = False  # the peer will not send anything more

    def handshake(self, sock: socket.socket) -> None:
        """Needs a blocking socket with a time-out. Raises OSError (ssl.SSLError is one)."""
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
        """The plain bytes of what has arrived. Sets `closed` when the peer has ended TLS."""
        self._incoming.write(data)
        plain = b""
        try:
            while piece := self._object.read(READ_SIZE):
                plain = plain + piece if plain else piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # close_notify or an alert: nothing more will arrive
            self.closed = True
        return plain


def tls_context(verify: bool) -> ssl.SSLContext:
    """urllib3's settings, with the system's certificates and those that requests would use."""
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
    """A TCP connection to the target, or through its proxy. Raises OSError.

    `address` is one of the target's addresses, or of the proxy's if there is one.
    """
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
    """The kernel's own measure of a round trip; where there is none, the time of connecting."""
    if sys.platform == "linux":
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        if len(info) >= TCP_INFO_RTT_OFFSET + 4:
            return int(struct.unpack_from("I", info, TCP_INFO_RTT_OFFSET)[0]) * 1000
    return connect_ns


def connect(
    target: Target, context: ssl.SSLContext | None, timeout_s: float, kernel_stamps: bool
) -> Connection:
    """Open a connection and measure how long that takes. `context` is for TLS. Raises OSError."""
    begun_ns = time.perf_counter_ns()
    deadline_s = begun_ns / 1e9 + timeout_s
    sock, started_ns = open_any_address(target, deadline_s)
    connect_ns, before_ns = time.perf_counter_ns() - started_ns, started_ns - begun_ns
    try:
        rtt_ns = None if target.proxy else round_trip_ns(sock, connect_ns)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kernel_stamps:
            with contextlib.suppress(OSError):  # a sandbox may refuse it: reads have no stamps then
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if context is None:
            return Connection(sock, None, Handshake(connect_ns, None, rtt_ns, before_ns))
        sock.settimeout(max(LEAST_TIMEOUT_S, deadline_s - time.perf_counter()))
        tls, tls_begun_ns = Tls(context, target.host), time.perf_counter_ns()
        tls.handshake(sock)
        tls_ns = time.perf_counter_ns() - tls_begun_ns
        return Connection(sock, tls, Handshake(connect_ns, tls_ns, rtt_ns, before_ns))
    except BaseException:
        sock.close()
        raise


def open_any_address(target: Target, deadline_s: float) -> tuple[socket.socket, int]:
    """A connection to the first address that answers, and when it was begun. Raises OSError.

    The name is looked up here and not by urllib3, so that the look-up is not in the connect time.
    """
    host = (target.proxy.hostname or "") if target.proxy else target.host
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    while True:
        # An address that does not answer must leave time for the others.
        share_s = (deadline_s - time.perf_counter()) / len(addresses)
        started_ns = time.perf_counter_ns()
        try:
            return open_socket(target, addresses.pop(0), max(LEAST_TIMEOUT_S, share_s)), started_ns
        except OSError:
            if not addresses:
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


def receive(sock: socket.socket) -> tuple[bytes, Sequence[tuple[int, int, bytes]]]:
    """One read: the bytes, and the control messages with the kernel's receive time if it gives
    one. Raises OSError."""
    if HAS_RECVMSG:
        data, ancillary, _, _ = sock.recvmsg(READ_SIZE, ANCILLARY_SIZE)
        return data, ancillary
    return sock.recv(READ_SIZE), ()


class Opener(Generic[T]):
    """Threads that open connections while the selector's thread goes on reading."""

    def __init__(self, target: Target, kernel_stamps: bool):
        self._target, self._kernel_stamps = target, kernel_stamps
        self._context: ssl.SSLContext | None = None
        self._wanted: queue.SimpleQueue[tuple[T, int] | None] = queue.SimpleQueue()
        self._closed = False
        self._opened: deque[tuple[T, Connection | Failure]] = deque()
        self._threads = 0
        self._pending = 0  # asked for and not collected yet
        # `wake_socket` becomes readable when a connection can be collected.
        self.wake_socket, self._wake_sender = socket.socketpair()
        self.wake_socket.setblocking(False)

    def open(self, ticket: T, deadline_ns: int) -> None:
        """Ask for a connection; `collect` returns it with the same ticket.

        After the deadline it is not opened any more.
        """
        import urllib3.connection  # noqa: F401  (imported now, outside the time of connecting)

        if self._target.is_tls and self._context is None:
            self._context = tls_context(self._target.verify)  # once: it takes 35 ms
        self._pending += 1
        if self._threads < min(self._pending, MAX_OPENERS):
            self._threads += 1
            # Daemons: a thread that hangs in a name look-up must not hold up the exit.
            threading.Thread(target=self._work, daemon=True).start()
        self._wanted.put((ticket, deadline_ns))

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            ticket, deadline_ns = wanted
            left_s = (deadline_ns - time.perf_counter_ns()) / 1e9
            self._opened.append((ticket, self._connect(left_s)))
            with contextlib.suppress(OSError):
                self._wake_sender.send(b".")
            if self._closed:
                self._close_uncollected()

    def _connect(self, timeout_s: float) -> Connection | Failure:
        if timeout_s <= 0 or self._closed:  # others before it took too long
            return Failure("connect", "connecting timed out")
        try:
            return connect(self._target, self._context, timeout_s, self._kernel_stamps)
        except OSError as error:
            return explain(error, self._target)
        except Exception as error:  # a thread that ends silently would make the run hang
            return Failure("connect", f"{type(error).__name__}: {error}")

    def collect(self) -> list[tuple[T, Connection | Failure]]:
        """(ticket, connection or why there is none) for each one that came since the last call."""
        with contextlib.suppress(BlockingIOError):
            self.wake_socket.recv(4096)
        opened = [self._opened.popleft() for _ in range(len(self._opened))]
        self._pending -= len(opened)
        return opened

    def close(self) -> None:
        self._closed = True
        for _ in range(self._threads):
            self._wanted.put(None)
        self._close_uncollected()
        self._wake_sender.close()
        self.wake_socket.close()

    def _close_uncollected(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                _, result = self._opened.popleft()
                if isinstance(result, Connection):
                    result.close()


class Pool(Generic[T]):
    """The connections to one target: idle ones, those being opened, and those in use.

    T is what the user of the pool attaches to a connection that is being opened.
    """

    def __init__(self, target: Target, clock: Clock):
        self.target, self.clock = target, clock
        self.opener: Opener[T] = Opener(target, clock.kernel_stamps)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.opener.wake_socket, selectors.EVENT_READ)
        self.idle: list[Connection] = []

    def take_idle(self) -> Connection | None:
        """An idle connection that the server has not closed; None: open a new one."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_alive():
                return connection
            connection.close()
        return None

    def watch(self, connection: Connection, data: object) -> None:
        """Let the selector tell when something can be read; its key carries `data`."""
        if not connection.watched:
            connection.watched = True
            self.selector.register(connection.sock, selectors.EVENT_READ, data)

    def unwatch(self, connection: Connection) -> None:
        if connection.watched:
            connection.watched = False
            with contextlib.suppress(KeyError):  # interrupted before it was registered
                self.selector.unregister(connection.sock)

    def close_watched(self) -> None:
        """Close every connection in use."""
        for sock in [key.fileobj for key in self.selector.get_map().values()]:
            if isinstance(sock, socket.socket) and sock is not self.opener.wake_socket:
                self.selector.unregister(sock)
                sock.close()

    def close(self) -> None:
        for connection in self.idle:
            connection.close()
        self.idle.clear()
        self.selector.close()
        self.opener.close()
