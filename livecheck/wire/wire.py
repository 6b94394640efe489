"""The measuring instrument: sends requests, records when every byte of the answers came back.

One thread waits with a selector for all streams. A request leaves in one send, and `t0_ns` is that
moment; each read takes the kernel's own receive time where the system gives it (SO_TIMESTAMPNS), so
neither the scheduler nor this program's own work is in the figures. While requests run, only what
steering needs is looked at: the status line, the end of the message, a cap on bytes and time. What
the bytes mean is worked out afterwards. Nothing above this module knows sockets.

All times are nanoseconds of `time.perf_counter_ns()`.
"""

from __future__ import annotations

import contextlib
import errno
import re
import select
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property

from livecheck.wire.connection import READ_SIZE, Connection, Failure, Handshake, Opener, Target
from livecheck.wire.http1 import Message

__all__ = ["Failure", "Handshake", "Reply", "Request", "Target", "Wire"]

MAX_BYTES = 32 << 20  # of one answer; more is a flood
SCAN_S = 0.05  # how often deadlines are looked at
ARRIVALS_A_TURN = 64  # a schedule that cannot be kept must not keep the answers from being read
CANCEL_TICK_S = 0.002  # the same, while requests are to be cancelled at a given time
LEFT_OPEN_S = 0.5  # after [DONE], how long the rest of the message may take
RACE_S = 1.0  # a kept connection that breaks later than this after a send had taken the request
CALIBRATE_S = 0.1  # how often the wall clock's offset is measured again, in case it steps

SLEPT_NS = 100_000  # a select that took longer was waiting, not just looking
USER_AGENT = "live-inference-checks"

DONE = re.compile(rb"[\r\n]data: ?\[DONE\]")  # a line of its own, not text inside of one
TIMESPEC = struct.Struct("qq")
KERNEL_CLOCK = "kernel receive time (SO_TIMESTAMPNS)"
USER_CLOCK = "user space, after the read (perf_counter)"


@dataclass(frozen=True)
class Request:
    """What to send. `headers` are added to the usual ones or replace them; None leaves one out.

    A request with `cancel_after_s` is given up that long after it was sent, one with
    `cancel_at_bytes` as soon as so many bytes of the answer have come. `secret` is a credential in
    it other than the target's, to be blotted out of the answer.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    cancel_after_s: float | None = None
    cancel_at_bytes: int | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(eq=False)
class Reply:
    """One request's answer, as bytes and times; `handshake` when it opened a connection."""

    index: int
    request: Request
    t0_ns: int | None = None
    due_ns: int | None = None  # open loop: when it should have been sent
    late_ns: int | None = None  # how long the send left after it could have
    message: Message = field(default_factory=Message)
    handshake: Handshake | None = None
    failure: Failure | None = None
    end_ns: int | None = None
    cancelled: bool = False
    resent: bool = False  # the server had closed the kept connection: sent again on a new one
    secret: bytes = b""  # the credential it was sent with
    unterminated: bool = False  # [DONE] came, the end of the message did not
    reads: list[bytes] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)  # of each read: its last byte's arrival
    lag_ns: list[int] = field(default_factory=list)  # of each read: how long it lay before it

    @property
    def status(self) -> int | None:
        return self.message.status

    @property
    def first_byte_ns(self) -> int | None:
        return self.stamps_ns[0] if self.stamps_ns else None

    @cached_property
    def body(self) -> bytes:
        """The decoded body. Should the server echo the credential, it is blotted out."""
        return self.blotted(self.message.body(b"".join(self.reads)))

    def blotted(self, data: bytes) -> bytes:
        """The same bytes, as many of them, without the credential: before anyone shortens them
        and half of it gets by unrecognised."""
        return data.replace(self.secret, b"*" * len(self.secret)) if self.secret else data

    @cached_property
    def marks(self) -> list[tuple[int, int]]:
        """(body bytes so far, time) for each read that brought some."""
        ends, total = [], 0
        for data in self.reads:
            total += len(data)
            ends.append(total)
        return self.message.marks(ends, self.stamps_ns)


def raise_descriptor_limit(streams: int) -> None:
    """Let this process hold `streams` sockets. OSError says why it cannot."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = streams + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OSError(
            errno.EMFILE,
            f"{streams} streams need {needed} file descriptors, the hard limit is {hard}: "
            "raise it (ulimit -Hn) or use less concurrency",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


# --- clock


class Clock:
    """Kernel receive times (wall clock) on the scale of perf_counter_ns."""

    def __init__(self) -> None:
        self.offset_ns = 0
        self.calibrate()

    def calibrate(self) -> None:
        """Measure the offset between the two clocks by the tightest of a few tries."""
        self.calibrated_ns = time.perf_counter_ns()
        tightest = 1 << 62
        for _ in range(20):
            before = time.perf_counter_ns()
            wall = time.time_ns()
            after = time.perf_counter_ns()
            if after - before < tightest:
                tightest = after - before
                self.offset_ns = wall - (before + after) // 2

    def received_ns(
        self, ancillary: Sequence[tuple[int, int, bytes]], after_ns: int, now_ns: int
    ) -> int:
        """When the read's last byte came: the kernel's word if it is credible, else `now_ns`.

        Not before `after_ns`, the send or the read before: a byte is there once those in front of
        it are (a lost packet comes again later than its successors).
        """
        if not ancillary:
            return now_ns
        whole, part = TIMESPEC.unpack_from(ancillary[0][2])
        wall = whole * 1_000_000_000 + part
        stamp: int = wall - self.offset_ns
        if after_ns <= stamp <= now_ns < stamp + 100_000_000:
            return stamp
        self.calibrate()  # the past, the future or a lag of 100 ms: has the wall clock stepped?
        stamp = wall - self.offset_ns
        return stamp if after_ns <= stamp <= now_ns else now_ns


# --- the wire


class Slot:
    """One place for a request in flight, and the connection it uses."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.connection: Connection | None = None
        self.ready_ns: int | None = None  # since when the next request could have left
        self.deadline_ns = 0
        self.heard_ns = 0  # the last read
        self.judged_ns = 0  # the read after which it was asked whether the stream was left open
        self.stamp_ns = 0  # the time of the send, then of the last read
        self.size = 0  # bytes of the answer so far
        self.limit = MAX_BYTES  # and how many may come
        self.unsent: bytes | memoryview = b""


class Wire:
    """Sends requests to one target; keeps the connections that the server keeps.

    `replies` holds the answers of the last `exchange`, also when that was interrupted.
    """

    def __init__(self, target: Target, timeout_s: float, kernel_stamps: bool = True):
        stamps = kernel_stamps and sys.platform == "linux"
        self.target, self.timeout_s = target, timeout_s
        self._stamped = self._unstamped = 0  # reads, with and without a kernel stamp
        self._stamps = stamps
        self.replies: list[Reply] = []
        self._clock = Clock()
        self._opener: Opener[tuple[Slot, Reply]] = Opener(target, stamps)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._opener.wakes, selectors.EVENT_READ)
        self._idle: list[Connection] = []

    @property
    def clock(self) -> str:
        """Where arrival times come from, by what the reads until now have brought."""
        few = 100 * self._unstamped <= self._stamped  # the first packets may go without
        return KERNEL_CLOCK if self._stamps and few else USER_CLOCK

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        self._selector.close()
        self._opener.close()

    def exchange(
        self,
        requests: Iterable[Request],
        concurrency: int = 1,
        on_reply: Callable[[Reply], bool | None] | None = None,
        keep: bool = True,
        due_s: Iterable[float] | None = None,
    ) -> list[Reply]:
        """Closed loop: `concurrency` requests in flight, the next on completion, until all are
        answered. With a concurrency of len(requests) it is a burst: all at once.
        The connections are opened before the first request is sent.

        Open loop, with `due_s`: each request is due so many seconds (ascending) after the start,
        whatever the server does. It takes a kept connection or opens one then. Those that find
        `concurrency` in flight wait their turn; `due_ns` tells how long.

        Requests and times are taken one by one, as they are needed: they need not be countable.
        `on_reply` sees each answer as it ends; once it returns True no other request is begun.
        `keep=False`: a new connection for each request. Every request that was begun gets a Reply,
        in the order they were begun. Raises OSError when there are not enough file descriptors.
        """
        if isinstance(requests, Sized):
            concurrency = min(concurrency, len(requests))
        raise_descriptor_limit(concurrency)
        self.replies = []
        self._source, self._on_reply, self._keep = iter(requests), on_reply, keep
        self._scanned_ns = self._since_ns = self._looked_ns = time.perf_counter_ns()
        self._tick_s = SCAN_S
        self._opening = 0
        self._parked: list[Slot] = []  # could not connect before the start
        self._backlog: deque[tuple[int, Request]] = deque()  # due, and beyond the concurrency
        self._slots: set[Slot] = set()
        self._held: list[Slot] | None = None  # connected, waiting for the common start
        self._arrivals: Iterator[tuple[int, Request]] | None = None
        self._arriving: tuple[int, Request] | None = None
        try:
            if due_s is None:
                self._keep_busy(concurrency)
            else:
                self._keep_time(due_s, concurrency)
        finally:
            self._abandon()
        return self.replies

    def _keep_busy(self, concurrency: int) -> None:
        """The closed loop."""
        self._held = []
        slots = [Slot() for _ in range(concurrency)]
        self._slots = set(slots)
        for slot in slots:
            self._begin(slot)
        while self._slots:
            if self._held is not None and not self._opening:
                self._release()
            else:
                self._turn()

    def _keep_time(self, due_s: Iterable[float], concurrency: int) -> None:
        """The open loop."""
        start_ns = time.perf_counter_ns()
        timed = zip(due_s, self._source, strict=False)  # the shorter one decides
        self._arrivals = ((start_ns + int(due * 1e9), request) for due, request in timed)
        self._arriving = next(self._arrivals, None)
        while self._arriving or self._slots:
            self._admit(concurrency)
            self._turn()

    def _admit(self, concurrency: int) -> None:
        """Begin what is due, as far as there is room."""
        now_ns = time.perf_counter_ns()
        for _ in range(ARRIVALS_A_TURN):
            if not self._arriving or not self._arrivals or self._arriving[0] > now_ns:
                break
            self._backlog.append(self._arriving)
            self._arriving = next(self._arrivals, None)
        while self._backlog and len(self._slots) < concurrency:
            slot = Slot()
            self._slots.add(slot)
            self._begin(slot)

    def _take(self) -> tuple[int | None, Request] | None:
        """The next request, with the time it is due in an open loop."""
        if self._arrivals is not None:
            return self._backlog.popleft() if self._backlog else None
        request = next(self._source, None)
        return None if request is None else (None, request)

    def _take_no_more(self) -> None:
        self._source, self._arriving = iter(()), None
        self._backlog.clear()

    def _release(self) -> None:
        """Every first connection is open, or has failed: off they go."""
        held, self._held = self._held or [], None
        for slot in held:
            if slot.connection and slot.connection.is_alive():
                self._send(slot)
            else:  # a short-tempered server: it closed while others were still connecting
                self._drop(slot)
                self._connect(slot)
        for slot in self._parked:
            self._begin(slot)

    def _turn(self) -> None:
        asked_ns = time.perf_counter_ns()
        ready = self._look(asked_ns)
        woke_ns = time.perf_counter_ns()
        # Without a kernel stamp, since when can the data have been lying there? Since we woke,
        # if we slept; if there was no sleep, since the last time we looked.
        self._since_ns = woke_ns if woke_ns - asked_ns > SLEPT_NS else self._looked_ns
        self._looked_ns = woke_ns
        for key, mask in ready:
            if key.data is None:
                self._take_opened()
            elif mask & selectors.EVENT_READ:
                self._read(key.data)
            else:
                self._write(key.data)
        now_ns = time.perf_counter_ns()
        if now_ns - self._scanned_ns >= self._tick_s * 1e9:
            self._scanned_ns = now_ns
            self._scan(now_ns)

    def _look(self, now_ns: int) -> list[tuple[selectors.SelectorKey, int]]:
        """What can be read or written; waits for it until the next tick or arrival."""
        if not self._arriving:
            return self._selector.select(self._tick_s)
        left_s = min(self._tick_s, max(0, self._arriving[0] - now_ns) / 1e9)
        watched: int = getattr(self._selector, "fileno", int)()
        if 0 < watched < 1024:  # epoll rounds up to milliseconds, select() on its descriptor not
            select.select([watched], [], [], left_s)
            left_s = 0
        return self._selector.select(left_s)

    # a request's way: begin, connect, send, read, end

    def _begin(self, slot: Slot) -> None:
        """Give the slot its next request, or retire it."""
        taken = self._take()
        if taken is None:
            self._retire(slot)
            return
        due_ns, request = taken
        if due_ns is not None:
            slot.ready_ns = max(due_ns, slot.ready_ns or 0)
        if request.cancel_after_s is not None:
            self._tick_s = CANCEL_TICK_S
        secret = (request.secret or self.target.token or "").encode()
        message = Message(request.method)
        slot.reply = Reply(len(self.replies), request, None, due_ns, message=message, secret=secret)
        self.replies.append(slot.reply)
        self._connect(slot)

    def _connect(self, slot: Slot) -> None:
        slot.deadline_ns = time.perf_counter_ns() + int(self.timeout_s * 1e9)
        fresh = not self._keep or (slot.reply and slot.reply.resent)
        while slot.connection is None and self._idle and not fresh:
            connection = self._idle.pop()
            if connection.is_alive():
                slot.connection = connection
            else:
                connection.close()
        if slot.connection is not None:
            self._send_or_hold(slot)
        elif slot.reply:
            self._opening += 1
            self._opener.open((slot, slot.reply), slot.deadline_ns)

    def _take_opened(self) -> None:
        for (slot, reply), result in self._opener.collect():
            if slot.reply is not reply:  # given up meanwhile
                if isinstance(result, Connection):
                    result.close()
                continue
            self._opening -= 1
            if isinstance(result, Failure):
                self._end(slot, result)
            else:
                reply.handshake = result.handshake
                if slot.ready_ns and reply.due_ns is None:
                    slot.ready_ns = result.opened_ns
                elif slot.ready_ns:  # what this program took to get there stays its own
                    slot.ready_ns += result.handshake.whole_ns
                slot.connection = result
                self._send_or_hold(slot)

    def _send_or_hold(self, slot: Slot) -> None:
        if self._held is None:
            self._send(slot)
        else:
            self._held.append(slot)

    def _send(self, slot: Slot) -> None:
        reply, connection = slot.reply, slot.connection
        assert reply and connection
        data = encode(self.target, reply.request)
        if connection.tls:
            data = connection.tls.encrypt(data)
        if not connection.watched:
            connection.watched = True
            self._selector.register(connection.sock, selectors.EVENT_READ, slot)
        connection.uses += 1
        slot.size = 0
        slot.limit = min(reply.request.cancel_at_bytes or MAX_BYTES, MAX_BYTES)
        reply.t0_ns = slot.stamp_ns = time.perf_counter_ns()
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # what can be read tells more: an answer, or why the connection broke
            sent = len(data)
        # connecting is part of the request's time, for the request that had to
        spent = reply.handshake.connect_ns + (reply.handshake.tls_ns or 0) if reply.handshake else 0
        slot.deadline_ns = reply.t0_ns + int(self.timeout_s * 1e9) - spent
        if slot.ready_ns is not None:
            reply.late_ns = reply.t0_ns - slot.ready_ns
        slot.unsent = memoryview(data)[sent:]
        if slot.unsent:  # a long prompt: the rest goes when the socket takes it
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._selector.modify(connection.sock, both, slot)

    def _write(self, slot: Slot) -> None:
        assert slot.connection
        try:
            slot.unsent = slot.unsent[slot.connection.sock.send(slot.unsent) :]
        except BlockingIOError:
            return
        except OSError:  # refused in mid-prompt: the answer can still be read
            slot.unsent = b""
        if not slot.unsent:
            self._selector.modify(slot.connection.sock, selectors.EVENT_READ, slot)

    def _read(self, slot: Slot) -> None:
        connection, reply = slot.connection, slot.reply
        assert connection and reply
        try:
            data, ancillary = receive(connection.sock)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(slot, error.strerror)
            return
        now_ns = time.perf_counter_ns()
        stamp_ns = self._clock.received_ns(ancillary, slot.stamp_ns, now_ns)
        tls = connection.tls
        if not data:
            self._closed(slot)
            return
        if tls:
            data = tls.decrypt(data)
        if data:
            reply.reads.append(data)
            reply.stamps_ns.append(stamp_ns)
            if ancillary:
                self._stamped += 1
                reply.lag_ns.append(now_ns - stamp_ns)
            else:
                self._unstamped += 1
                reply.lag_ns.append(now_ns - self._since_ns)
            slot.heard_ns, slot.stamp_ns = now_ns, stamp_ns
            slot.size += len(data)
            if reply.message.feed(data):
                self._end(slot)
            elif reply.message.error is not None:
                self._end(slot, Failure("malformed", reply.message.error))
            elif slot.size >= slot.limit:
                self._end_overfull(slot)
        if tls and tls.closed and slot.reply is reply:
            self._closed(slot)

    def _closed(self, slot: Slot) -> None:
        """The server closed the connection: the end of the message, or a cut."""
        assert slot.reply
        message = slot.reply.message
        message.eof()
        if message.complete:
            self._end(slot)
        else:
            self._broken(slot, message.error)

    def _end_overfull(self, slot: Slot) -> None:
        if slot.limit < MAX_BYTES:
            self._cancel(slot)
        else:
            self._end(slot, Failure("flood", f"more than {MAX_BYTES >> 20} MB of answer"))

    def _broken(self, slot: Slot, reason: str | None) -> None:
        reply, connection = slot.reply, slot.connection
        assert reply and reply.t0_ns and connection
        raced = time.perf_counter_ns() < reply.t0_ns + int(RACE_S * 1e9)
        if connection.uses > 1 and slot.size == 0 and raced and not reply.resent:
            # the server let go of the kept connection just as we sent (RFC 9112, 9.3.1):
            # that is no failure of the deployment
            reply.resent, reply.t0_ns, reply.late_ns, slot.ready_ns = True, None, None, None
            reply.message = Message(reply.request.method)
            self._drop(slot)
            self._connect(slot)
        elif is_done(reply):
            self._end_unterminated(slot)
        else:
            self._end(slot, Failure("truncated", (reason or "connection lost").lower()))

    def _end_unterminated(self, slot: Slot) -> None:
        assert slot.reply
        slot.reply.unterminated = True
        self._end(slot)

    def _cancel(self, slot: Slot) -> None:
        assert slot.reply
        slot.reply.cancelled = True
        self._end(slot)

    def _end(self, slot: Slot, failure: Failure | None = None) -> None:
        """The request is over: let go of the connection or keep it, then the next request."""
        reply, connection = slot.reply, slot.connection
        assert reply
        reply.failure = failure
        whole = failure is None and reply.stamps_ns
        reply.end_ns = reply.stamps_ns[-1] if whole else time.perf_counter_ns()
        reusable = self._keep and not failure and not slot.unsent and reply.message.keep_alive
        if connection and not (reusable and connection.is_alive()):
            self._drop(slot)
        slot.reply, slot.unsent = None, b""
        slot.ready_ns = reply.end_ns if reply.message.complete else time.perf_counter_ns()
        if self._on_reply and self._on_reply(reply):
            self._take_no_more()
        if self._held is None:
            self._begin(slot)
        else:
            self._parked.append(slot)

    def _detach(self, slot: Slot) -> Connection | None:
        connection, slot.connection = slot.connection, None
        if connection and connection.watched:
            connection.watched = False
            with contextlib.suppress(KeyError):  # interrupted before it was registered
                self._selector.unregister(connection.sock)
        return connection

    def _drop(self, slot: Slot) -> None:
        if connection := self._detach(slot):
            connection.close()

    def _retire(self, slot: Slot) -> None:
        self._slots.discard(slot)
        if connection := self._detach(slot):
            self._idle.append(connection)

    # what has to happen even when nothing arrives

    def _scan(self, now_ns: int) -> None:
        if now_ns - self._clock.calibrated_ns > CALIBRATE_S * 1e9:
            self._clock.calibrate()
        for slot in list(self._slots):
            reply = slot.reply
            if reply is None:
                continue
            if reply.t0_ns is None:  # connecting, or connected and held for the common start
                if slot.connection is None and now_ns > slot.deadline_ns:
                    self._opening -= 1
                    self._end(slot, Failure("connect", "connecting timed out"))
                continue
            cancel_after_s = reply.request.cancel_after_s
            if cancel_after_s is not None and now_ns >= reply.t0_ns + int(cancel_after_s * 1e9):
                self._cancel(slot)
            elif self._is_left_open(slot, now_ns):
                self._end_unterminated(slot)
            elif now_ns > slot.deadline_ns:
                self._end(slot, Failure("timeout", f"not finished after {self.timeout_s:g} s"))

    def _is_left_open(self, slot: Slot, now_ns: int) -> bool:
        """The stream said [DONE], and then nothing: the server does not end the message."""
        assert slot.reply
        if slot.judged_ns == slot.heard_ns or now_ns - slot.heard_ns < LEFT_OPEN_S * 1e9:
            return False
        slot.judged_ns = slot.heard_ns  # once in a silence
        return is_done(slot.reply)

    def _abandon(self) -> None:
        """Nothing is left in flight, whatever ended the exchange."""
        for slot in self._slots:
            reply, slot.reply = slot.reply, None  # None: a connection that comes late is not wanted
            if reply is not None:
                reply.failure = Failure("interrupted", "the run was interrupted")
                reply.end_ns = time.perf_counter_ns()
            self._drop(slot)
        self._slots = set()
        # an interruption strikes between any two steps: whatever is still watched goes as well
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Slot) and isinstance(key.fileobj, socket.socket):
                self._selector.unregister(key.fileobj)
                key.fileobj.close()


def receive(sock: socket.socket) -> tuple[bytes, Sequence[tuple[int, int, bytes]]]:
    """One read, with the kernel's receive time where there is one."""
    if hasattr(sock, "recvmsg"):
        data, ancillary, _, _ = sock.recvmsg(READ_SIZE, 64)
        return data, ancillary
    return sock.recv(READ_SIZE), ()


def is_done(reply: Reply) -> bool:
    """Whether an event stream has said [DONE], its message otherwise unfinished.

    A message that announced its length is not over before that.
    """
    tail = b"".join(reply.reads[-3:])[-200:]
    kind = (reply.message.header("content-type") or "").lower()
    streams = kind.startswith("text/event-stream") and reply.message.framing != "length"
    return streams and DONE.search(tail) is not None


def encode(target: Target, request: Request) -> bytes:
    """The request as it goes over the wire (RFC 9112, section 3)."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    default_port = 443 if target.is_tls else 80
    headers: dict[str, str | None] = {
        "host": host if target.port == default_port else f"{host}:{target.port}",
        "user-agent": USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
    }
    if target.token:
        headers["authorization"] = f"Bearer {target.token}"
    if request.body is not None:
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(request.body))
    headers |= {name.lower(): value for name, value in request.headers.items()}
    lines = [f"{request.method} {target.parts.path}{request.path} HTTP/1.1"]
    lines += [f"{name.title()}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (request.body or b"")
