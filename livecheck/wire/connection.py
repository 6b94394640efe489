"""Opens connections to the target, directly or through a proxy, and measures how long that took.

`Pool` holds what outlives one exchange: the idle connections, the threads that open new ones, the
selector that watches those in use.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from livecheck.core.address import API, Address
from livecheck.core.certificate import ClientCertificate
from livecheck.wire.clock import SO_TIMESTAMPNS, Clock
from livecheck.wire.hosts import Hosts
from livecheck.wire.look_up import Unreachable, failed_words, late_words
from livecheck.wire.proxy import Proxy, find_proxy, open_tunnel
from livecheck.wire.readiness import READ, Readiness

if TYPE_CHECKING:  # to import it takes 7 ms, which only a run over TLS pays
    import ssl

    from livecheck.wire.tls import Tls

MAX_OPENERS = 32  # threads that open connections
READ_SIZE = 1 << 16
ANCILLARY_SIZE = 64  # enough for one time stamp
HAS_RECVMSG = hasattr(socket.socket, "recvmsg")  # not on Windows
TCP_INFO_RTT_OFFSET = 68  # tcpi_rtt in struct tcp_info, microseconds (linux/tcp.h)
TCP_INFO_SIZE = 104
LEAST_TIMEOUT_S = 0.01  # a socket's time-out of 0 would mean non-blocking

TLS_CLOSED = "closed during the TLS handshake"  # as by a server that does not speak TLS
TLS_SILENT = "the TLS handshake timed out"
CERTIFICATE_WANTED = "the server asks for a client certificate"
CERTIFICATE_REFUSED = "the server refuses the client certificate"
NO_HTTP_1 = "the server offers no HTTP/1.1 over TLS, so it may speak HTTP/2 only"
T = TypeVar("T")
# of socket.recvmsg
Receive = Callable[[int, int], tuple[bytes, list[tuple[int, int, bytes]], int, Any]]


@dataclass(frozen=True)
class Target:
    """Where requests go. `url` is a base URL: scheme, host, and port and path if there are any.

    `token` is sent as a bearer token. `verify=False` accepts any TLS certificate; `ca_file` has
    more authorities to trust. `address` knows where the API is; without one it is at /v1 below the
    URL. All targets of a run share it: when the first contact finds the API elsewhere, all know.
    They share `hosts` as well: which addresses of a host answer. `certificate` is shown to a server
    that asks for one.
    """

    url: str
    token: str | None = None
    verify: bool = True
    ca_file: str | None = None
    address: Address | None = field(default=None, compare=False)
    hosts: Hosts = field(default_factory=Hosts, compare=False, repr=False)
    certificate: ClientCertificate | None = None

    @cached_property
    def parts(self) -> urllib.parse.SplitResult:
        return urllib.parse.urlsplit(self.url)

    @property
    def api_base(self) -> str:
        """The base URL of the API, as an SDK wants it."""
        return self.address.base if self.address else f"{self.url}{API}"

    def path_of(self, path: str) -> str:
        """The path to ask for: one that begins with /v1 is the API's."""
        if self.address is None:
            return self.parts.path + path
        if path.startswith(f"{API}/"):
            return urllib.parse.urlsplit(self.address.base).path + path.removeprefix(API)
        return urllib.parse.urlsplit(self.address.root).path + path

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
    def proxy(self) -> Proxy | None:
        """The proxy that the environment asks for. CannotCheck when it cannot be used."""
        try:
            return find_proxy(self.parts.scheme, self.host, self.port)
        except UnicodeError:
            return None  # not a name that a host can have: connecting says so

    @property
    def host_and_port(self) -> str:
        """As a Host header has it: without the port that the scheme has anyway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


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
        self.receive = receiver(sock)  # reads once
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


def open_socket(target: Target, deadline_s: float) -> tuple[socket.socket, int]:
    """A TCP connection to the target, or through its proxy, and when it was begun: the time before
    that went into looking up the name and waiting for addresses that do not answer.

    Raises OSError.
    """
    proxy = target.proxy
    if proxy is None:
        attempt = target.hosts.at(target.host, target.port).connect(deadline_s)
        return attempt.sock, attempt.started_ns
    try:
        attempt = target.hosts.at(proxy.host, proxy.port).connect(deadline_s)
    except OSError as error:
        reason = plain_reason(error, proxy.host)
        raise Unreachable(f"the proxy {proxy.name} cannot be reached ({reason})") from None
    try:
        if not proxy.forwards:
            open_tunnel(attempt.sock, proxy, deadline_s)
    except BaseException:
        attempt.sock.close()
        raise
    return attempt.sock, attempt.started_ns


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
    sock, started_ns = open_socket(target, deadline_s)
    connect_ns, before_ns = time.perf_counter_ns() - started_ns, started_ns - begun_ns
    try:
        rtt_ns = None if target.proxy else round_trip_ns(sock, connect_ns)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kernel_stamps:
            with contextlib.suppress(OSError):  # a sandbox may refuse it: reads have no stamps then
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if context is None:
            return Connection(sock, None, Handshake(connect_ns, None, rtt_ns, before_ns))
        from livecheck.wire.tls import Tls

        sock.settimeout(max(LEAST_TIMEOUT_S, deadline_s - time.perf_counter()))
        tls = Tls(context, target.host, target.certificate is not None)
        tls_begun_ns = time.perf_counter_ns()
        tls.handshake(sock)
        tls_ns = time.perf_counter_ns() - tls_begun_ns
        return Connection(sock, tls, Handshake(connect_ns, tls_ns, rtt_ns, before_ns))
    except BaseException:
        sock.close()
        raise


def explain(error: OSError, target: Target) -> Failure:
    """Why a connection could not be opened, in words an operator can act on."""
    failure = None
    if target.is_tls:
        from livecheck.wire import tls

        failure = tls.explain(error)
    return through_proxy(failure or Failure("connect", plain_reason(error, target.host)), target)


def plain_reason(error: OSError, host: str) -> str:
    """Why there is no connection to this host."""
    if isinstance(error, socket.gaierror):
        return failed_words(host, error)
    if isinstance(error, Unreachable):
        return str(error)
    if error.strerror in (TLS_CLOSED, TLS_SILENT):
        return error.strerror
    if isinstance(error, TimeoutError):
        return "connecting timed out"
    return (error.strerror or str(error)).lower()


def through_proxy(failure: Failure, target: Target) -> Failure:
    """The same, with the name of the proxy that lies in between."""
    if target.proxy is None or failure.kind == "interrupted":
        return failure
    return Failure(failure.kind, target.proxy.in_words(failure.text))


def timed_out(target: Target, timeout_s: float) -> Failure:
    """Why there is no connection when the time is over."""
    proxy = target.proxy
    host, port = (proxy.host, proxy.port) if proxy else (target.host, target.port)
    is_looking_up = target.hosts.at(host, port).look_ups.is_under_way
    text = late_words(host, timeout_s) if is_looking_up else "connecting timed out"
    return through_proxy(Failure("connect", text), target)


def receiver(sock: socket.socket) -> Receive:
    """What reads once: given how many bytes at most, it returns the bytes, and the control messages
    with the kernel's receive time if it gives one. It raises OSError."""
    if HAS_RECVMSG:
        return sock.recvmsg
    return lambda size, _: (sock.recv(size), [], 0, None)


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
        if self._target.is_tls and self._context is None:
            from livecheck.wire.tls import tls_context

            self._context = tls_context(self._target)  # once: it takes 35 ms
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
            return timed_out(self._target, timeout_s)
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
        self.selector: Readiness[Any] = Readiness()
        self.selector.register(self.opener.wake_socket, READ, None)
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
        """Let the selector tell when something can be read; `data` belongs to it."""
        if not connection.watched:
            connection.watched = True
            self.selector.register(connection.sock, READ, data)

    def unwatch(self, connection: Connection) -> None:
        if connection.watched:
            connection.watched = False
            with contextlib.suppress(KeyError):  # interrupted before it was registered
                self.selector.unregister(connection.sock)

    def close_watched(self) -> None:
        """Close every connection in use."""
        for sock in list(self.selector.sockets.values()):
            if sock is not self.opener.wake_socket:
                self.selector.unregister(sock)
                sock.close()

    def close(self) -> None:
        for connection in self.idle:
            connection.close()
        self.idle.clear()
        self.selector.close()
        self.opener.close()
