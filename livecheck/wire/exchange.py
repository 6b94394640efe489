"""One call of `Wire.exchange`: sends its requests, reads the answers, watches the deadlines.

One thread waits with a selector for all streams. While requests run, only what steering needs is
looked at: the status line, the end of the message, the limits on bytes and time. The subclasses
decide when a request begins: `ClosedLoop` when another one has ended, `OpenLoop` on a schedule.
"""

from __future__ import annotations

import contextlib
import gc
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from livecheck.core.late_pattern import late_pattern
from livecheck.wire.clock import LARGEST_LAG_NS, TIMESPEC
from livecheck.wire.connection import (
    ANCILLARY_SIZE,
    READ_SIZE,
    Connection,
    Failure,
    Pool,
    through_proxy,
    timed_out,
)
from livecheck.wire.dialect import Dialect
from livecheck.wire.http1 import WHOLE_CHUNKS, Message
from livecheck.wire.readiness import READ, WRITE, WRITE_ONLY
from livecheck.wire.request import MAX_BYTES, MAX_READS, Reply, Request

CHECK_S = 0.05  # how often deadlines are checked
CONNECT_GRACE_S = 0.1  # the thread that connects ends at the deadline, and knows more about it
CANCEL_CHECK_S = 0.002  # the same, while requests are to be cancelled at a given time
LEFT_OPEN_S = 0.5  # how long the end of the message may take after [DONE]
READS_BEFORE_END = 64  # of what lies unread, before a request is ended because of the time
# A server that closes an idle connection while we send does so within a round trip. When the
# connection breaks later than this after the send, the server had accepted the request.
CLOSE_RACE_S = 1.0
ARRIVALS_AT_ONCE = 64  # then answers are read, even when the schedule cannot be kept
# At the start of a closed loop all requests are sent as fast as possible. After so many of them,
# half a millisecond, what has come meanwhile is read.
SENDS_IN_A_ROW = 32
ENCODED_BEFORE = 10_000  # requests that are encoded before the first one is sent
# With so many requests in flight, a good answer that has ended is told of when nothing is to be
# read, or after this time: what is done with it delays the next request, and many may end at once.
MANY_AT_ONCE = 64
TOLD_AFTER_NS = 100_000_000
TOLD_IN_A_ROW = 8  # then it is looked whether there is something to read
SELECT_FD_LIMIT = 1024  # select() takes only descriptors below it

OnReply = Callable[[Reply], bool | None]
# A short piece of work, of about a millisecond; whether there may be more. It is told whether there
# is something to read or to send: then it does only what cannot wait.
SpareWork = Callable[[bool], bool]
# Called when everything is ready for the first request; waits, and returns when it begins (ns).
AtStart = Callable[[], int]
SPARE_NS = 3_000_000  # until the next arrival of an open loop, to do such a piece before it
Ancillary = Sequence[tuple[int, int, bytes]]
DONE_LINE = late_pattern(rb"[\r\n]data: ?\[DONE\]")  # a line of its own, not text inside of one


class Slot:
    """A place for one request in flight, and the connection it uses."""

    __slots__ = (
        *("connection", "deadline_ns", "is_between_chunks", "last_read_ns", "limit", "ready_ns"),
        *("reply", "searched_ns", "size", "stamp_ns", "unsent"),
    )

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.connection: Connection | None = None
        self.ready_ns: int | None = None  # since when the request could have been sent
        self.deadline_ns = 0
        self.last_read_ns = 0
        self.searched_ns = 0  # the read after which [DONE] was searched for
        self.stamp_ns = 0  # the time of the send, then of the last read
        self.size = 0  # bytes of the answer
        self.limit = MAX_BYTES  # with this many of them, something has to be decided
        self.is_between_chunks = False  # whether the next byte begins a chunk
        self.unsent: bytes | memoryview = b""


# what runs for each event of each stream does not look these up in a module
perf_counter_ns, unpack_stamp = time.perf_counter_ns, TIMESPEC.unpack_from

SlotPool = Pool[tuple[Slot, Reply]]


@dataclass(eq=False)
class Exchange:
    """The requests in flight and the replies of one call; base of the two load models."""

    pool: SlotPool
    timeout_s: float
    on_reply: OnReply | None  # sees each reply as it ends; True: no other request is begun
    reuse: bool  # False: a new connection for each request
    requests: Iterable[Request]
    dialect: Dialect
    in_spare_time: SpareWork | None = None
    at_start: AtStart | None = None

    def __post_init__(self) -> None:
        self.replies: list[Reply] = []
        self.slots: set[Slot] = set()
        self._clock, self._selector = self.pool.clock, self.pool.selector
        self._check_s = CHECK_S
        now_ns = time.perf_counter_ns()
        self._checked_ns = now_ns  # when the deadlines were last checked
        self._checked_before_ns = now_ns  # and the time before: then this program surely ran
        self._looked_ns = now_ns  # when the selector was last asked
        self._unread_since_ns = now_ns  # the bytes read next arrived at this time or later
        self._has_work = False  # whether there is some for spare time
        self._encoded: dict[int, bytes] = {}  # requests, by their identity
        self._untold: deque[Reply] = deque()  # good ones that have ended
        self._are_many = False  # whether so many requests are in flight that they may wait

    # what the load models do in their own way

    def run(self, concurrency: int) -> None:
        """Send the requests, at most `concurrency` in flight, until all are answered."""
        raise NotImplementedError

    def _next_request(self) -> tuple[int | None, Request] | None:
        """(when it is due, request); None: there is nothing to begin now."""
        raise NotImplementedError

    def _begin_no_more(self) -> None:
        raise NotImplementedError

    def _on_connected(self, slot: Slot) -> None:
        self._send(slot)

    def _on_free(self, slot: Slot) -> None:
        self._begin(slot)

    def _wait(self, now_ns: int) -> list[tuple[int, int]]:
        """What can be read or written; waits for it until the next check of the deadlines."""
        return self._selector.wait(self._check_s)

    def _has_time(self, now_ns: int) -> bool:
        """Whether no request has to be sent in the next few milliseconds."""
        return True

    # the event loop

    def _look(self, now_ns: int) -> list[tuple[int, int]]:
        """What can be read or written; waits for it if nothing is there yet."""
        if not self._clock.has_stamped:
            return self._look_twice()
        self._unread_since_ns, self._looked_ns = self._looked_ns, now_ns
        if not (self._has_work or self._untold):
            return self._wait(now_ns)
        is_idle = self._has_time(now_ns)
        events = self._selector.wait(0) if is_idle else self._wait(now_ns)
        is_busy = bool(events) or not is_idle
        if self._untold:
            self._tell_some(is_busy, now_ns)
        elif self.in_spare_time:
            self._has_work = self.in_spare_time(is_busy)
        return events

    def _look_twice(self) -> list[tuple[int, int]]:
        """The same without kernel stamps, where this is all that tells how long bytes can have lain
        unread: those that are there at once may have come right after the look before, those that
        are waited for came when the wait ended. The time that a call takes does not tell which: a
        process that gets no processor looks as if it waited.
        """
        self._tell_all()
        looked_before_ns = self._looked_ns
        at_once = self._selector.wait(0)
        if self.in_spare_time:
            now_ns = time.perf_counter_ns()
            is_urgent = bool(at_once) or not self._has_time(now_ns)
            if self.in_spare_time(is_urgent) and not is_urgent:
                looked_before_ns = now_ns
                at_once = self._selector.wait(0)
                self._looked_ns = time.perf_counter_ns()
                self._unread_since_ns = looked_before_ns
                return at_once
        events = at_once or self._wait(time.perf_counter_ns())
        self._looked_ns = time.perf_counter_ns()
        self._unread_since_ns = looked_before_ns if at_once else self._looked_ns
        return events

    def _handle_events(self) -> None:
        """Wait for something to happen, once, and deal with it."""
        now_ns = perf_counter_ns()
        if now_ns - self._checked_ns >= self._check_s * 1e9:
            self._leave_out(now_ns - self._checked_ns - int(2 * self._check_s * 1e9), now_ns)
            self._checked_before_ns, self._checked_ns = self._checked_ns, now_ns
            self._has_work = self.in_spare_time is not None  # perhaps: it is asked
            self._check_deadlines(now_ns)
        self._handle(self._look(now_ns))

    def _handle(self, events: list[tuple[int, int]]) -> None:
        data = self._selector.data
        for descriptor, how in events:
            slot = data.get(descriptor)
            if slot is None:  # there is none behind the socket that tells of opened connections
                self._collect_opened()
            elif how != WRITE_ONLY:
                self._read(slot)
            else:
                self._send_rest(slot)

    def _leave_out(self, lost_ns: int, now_ns: int) -> None:
        """Count no time in which this program did not look, because it was stopped or had no
        processor: a server may have waited for it then. Two checks are never further apart than
        twice their interval while it runs."""
        if lost_ns <= 0:
            return
        for slot in self.slots:
            slot.deadline_ns += lost_ns
            slot.last_read_ns = min(slot.last_read_ns + lost_ns, now_ns)

    def _read_first(self, slot: Slot, reply: Reply) -> bool:
        """Read what lies unread before a request is ended because of the time: it may have come in
        time, and this program may be late. Whether the request is still to be judged: not when it
        has ended, or is sent again."""
        for _ in range(READS_BEFORE_END):
            count = reply.read_count
            self._read(slot)
            if slot.reply is not reply or reply.read_count == count:
                break
        return slot.reply is reply and reply.t0_ns is not None

    def _check_deadlines(self, now_ns: int) -> None:
        """End what has to end although nothing arrives."""
        self._clock.calibrate_if_due(now_ns)
        for slot in list(self.slots):
            reply = slot.reply
            if reply is None or _is_under_way(slot, reply, now_ns):
                continue
            if reply.t0_ns is None:  # still connecting, or connected and waiting for the start
                over_ns = slot.deadline_ns + int(CONNECT_GRACE_S * 1e9)
                if slot.connection is None and now_ns > over_ns:
                    self._end(slot, timed_out(self.pool.target, self.timeout_s))
                continue
            if reply.read_count > MAX_READS:
                self._end(slot, Failure("flood", f"more than {MAX_READS:,} pieces of answer"))
            elif self._is_due(slot, reply, now_ns) and self._read_first(slot, reply):
                self._end_by_time(slot, reply, now_ns)

    def _is_due(self, slot: Slot, reply: Reply, now_ns: int) -> bool:
        """Whether the time may have come to end a request that was sent."""
        is_silent = now_ns - slot.last_read_ns >= LEFT_OPEN_S * 1e9
        is_searched = slot.searched_ns == slot.last_read_ns
        is_over = now_ns > slot.deadline_ns or _is_to_be_cancelled(reply, now_ns)
        return is_over or (is_silent and not is_searched)

    def _end_by_time(self, slot: Slot, reply: Reply, now_ns: int) -> None:
        """End a request whose time is over, with all that came of its answer."""
        if _is_to_be_cancelled(reply, now_ns):
            reply.cancelled = True
            self._end(slot)
        elif self._is_left_open(slot, now_ns):
            reply.unterminated = True
            self._end(slot)
        elif now_ns > slot.deadline_ns:
            self._end(slot, Failure("timeout", f"not finished after {self.timeout_s:g} s"))

    def _is_left_open(self, slot: Slot, now_ns: int) -> bool:
        """Whether the stream said [DONE] and then nothing: the server does not end the message."""
        assert slot.reply
        is_silent = now_ns - slot.last_read_ns >= LEFT_OPEN_S * 1e9
        if not is_silent or slot.searched_ns == slot.last_read_ns:
            return False
        slot.searched_ns = slot.last_read_ns  # search only once after each read
        slot.reply.add_waiting()
        return has_said_done(slot.reply)

    # the steps of a request: begin, connect, send, read, end

    def _begin(self, slot: Slot) -> None:
        """Give the slot its next request, or take it out of use."""
        following = self._next_request()
        if following is None:
            self._retire(slot)
            return
        due_ns, request = following
        if due_ns is not None:
            slot.ready_ns = max(due_ns, slot.ready_ns or 0)
        if request.cancel_after_s is not None:
            self._check_s = CANCEL_CHECK_S
        slot.reply = self._new_reply(len(self.replies), request, due_ns)
        self.replies.append(slot.reply)
        self._connect(slot)

    def _new_reply(self, index: int, request: Request, due_ns: int | None) -> Reply:
        secret = (request.secret or self.pool.target.token or "").encode()
        adapted, message = self.dialect.adapt(request), Message(request.method)
        proxy = self.pool.target.proxy
        return Reply(index, adapted, None, due_ns, message=message, secret=secret, proxy=proxy)

    def _connect(self, slot: Slot) -> None:
        assert slot.reply
        slot.deadline_ns = time.perf_counter_ns() + int(self.timeout_s * 1e9)
        if slot.connection is None and self.reuse and not slot.reply.resent:
            slot.connection = self.pool.take_idle()
        if slot.connection is not None:
            self._on_connected(slot)
        else:
            self.pool.opener.open((slot, slot.reply), slot.deadline_ns)

    def _collect_opened(self) -> None:
        """Use the connections that were opened meanwhile."""
        for (slot, reply), result in self.pool.opener.collect():
            if slot.reply is not reply:  # the request has timed out or was interrupted
                if isinstance(result, Connection):
                    result.close()
            elif isinstance(result, Failure):
                self._end(slot, result)
            else:
                reply.handshake = result.handshake
                if slot.ready_ns and reply.due_ns is None:
                    slot.ready_ns = result.opened_ns
                elif slot.ready_ns:
                    # The time of connecting is not the client's lag. The time before this program
                    # began to connect is.
                    slot.ready_ns += result.handshake.whole_ns
                slot.connection = result
                self._on_connected(slot)

    def _send(self, slot: Slot) -> None:
        self._prepare(slot)
        self._transmit(slot)
        self._watch_answer(slot)

    def _prepare(self, slot: Slot) -> None:
        """All that can be done before the request is sent."""
        reply, connection = slot.reply, slot.connection
        assert reply and connection
        data = self._encoded.pop(id(reply.request), b"")
        data = data or reply.request.encode(self.pool.target)
        slot.unsent = connection.tls.encrypt(data) if connection.tls else data
        slot.limit = min(reply.request.cancel_at_bytes or MAX_BYTES, MAX_BYTES)
        slot.size, slot.is_between_chunks = 0, False
        connection.uses += 1

    def _transmit(self, slot: Slot) -> None:
        """Send the request, or the beginning of a long one. Nothing comes between the time that is
        noted and the call that sends."""
        reply, connection, data = slot.reply, slot.connection, slot.unsent
        assert reply and connection
        send = connection.sock.send
        reply.t0_ns = slot.stamp_ns = time.perf_counter_ns()
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the read tells more: there is an answer, or why the connection broke
            sent = len(data)
        slot.unsent = memoryview(data)[sent:] if sent < len(data) else b""

    def _watch_answer(self, slot: Slot) -> None:
        """What is left to be done once the request was sent."""
        reply, connection = slot.reply, slot.connection
        assert reply and connection and reply.t0_ns
        slot.deadline_ns = reply.t0_ns + int(self.timeout_s * 1e9)
        if reply.handshake:
            # The time of a request includes connecting, when a connection was opened for it.
            slot.deadline_ns -= reply.handshake.connect_ns + (reply.handshake.tls_ns or 0)
        if slot.ready_ns is not None:
            reply.late_ns = reply.t0_ns - slot.ready_ns
        self.pool.watch(connection, slot)
        if slot.unsent:  # a long prompt: the rest is sent when the socket accepts it
            self._selector.modify(connection.sock, READ | WRITE)

    def _send_rest(self, slot: Slot) -> None:
        assert slot.connection
        try:
            slot.unsent = slot.unsent[slot.connection.sock.send(slot.unsent) :]
        except BlockingIOError:
            return
        except OSError:  # refused in the middle of the prompt: the answer can still be read
            slot.unsent = b""
        if not slot.unsent:
            self._selector.modify(slot.connection.sock, READ)

    def _read(self, slot: Slot) -> None:
        """Read once. This runs for each event of each stream: it does no more than it must."""
        connection, clock = slot.connection, self._clock
        assert connection
        try:
            data, ancillary, _, _ = connection.receive(READ_SIZE, ANCILLARY_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_broken(slot, error.strerror)
            return
        now_ns = perf_counter_ns()
        if not ancillary or not data or connection.tls:
            self._take_other(slot, data, ancillary, now_ns)
            return
        seconds, nanoseconds = unpack_stamp(ancillary[0][2])
        stamp_ns = seconds * 1_000_000_000 + nanoseconds - clock.offset_ns
        if not slot.stamp_ns <= stamp_ns <= now_ns < stamp_ns + LARGEST_LAG_NS:
            stamp_ns = clock.received_ns(ancillary, slot.stamp_ns, now_ns)
        clock.stamped_reads += 1
        self._take(slot, data, stamp_ns, now_ns, now_ns - stamp_ns)

    def _take(self, slot: Slot, data: bytes, stamp_ns: int, now_ns: int, lag_ns: int) -> None:
        """Keep what a read brought. Nearly always that is one whole chunk, which waits until
        somebody looks at the reply: to take in a hundred costs 0.1 ms."""
        reply, length = slot.reply, len(data)
        assert reply
        slot.last_read_ns, slot.stamp_ns = now_ns, stamp_ns
        slot.size += length
        if slot.is_between_chunks and slot.size < slot.limit:
            line, size = WHOLE_CHUNKS[length]
            if size and data.startswith(line) and data.endswith(b"\r\n"):
                reply.waiting += data, stamp_ns, lag_ns
                return
        self._take_in(slot, reply, data, stamp_ns, lag_ns)

    def _take_in(self, slot: Slot, reply: Reply, data: bytes, stamp_ns: int, lag_ns: int) -> None:
        """Read on in the message, and end the request with it, if that is to be."""
        message = reply.message
        if reply.waiting:
            message.pass_over(slot.size - len(data) - reply.size)
        is_complete = message.feed(data)
        if is_complete and reply.waiting:  # a thousand streams may end together: none has to wait
            reply.waiting += data, stamp_ns, lag_ns
        else:
            reply.add_waiting()
            reply.add(data, stamp_ns, lag_ns)
        slot.is_between_chunks = message.is_between_chunks
        if is_complete or message.error is not None or slot.size >= slot.limit:
            self._end_after_read(slot)

    def _take_other(self, slot: Slot, data: bytes, ancillary: Ancillary, now_ns: int) -> None:
        """What a read brought over TLS, without a stamp of the kernel, or at the end of the
        connection."""
        reply, connection, clock = slot.reply, slot.connection, self._clock
        assert connection
        tls = connection.tls
        stamp_ns = clock.received_ns(ancillary, slot.stamp_ns, now_ns)
        if not data:
            self._on_closed(slot)
            return
        if tls:
            data = tls.decrypt(data)
            if not data and (more := tls.take_unsent()):
                with contextlib.suppress(OSError):  # the next read tells why
                    connection.sock.send(more)
        if data and ancillary:
            clock.stamped_reads += 1
            self._take(slot, data, stamp_ns, now_ns, now_ns - stamp_ns)
        elif data:
            clock.unstamped_reads += 1
            self._take(slot, data, stamp_ns, now_ns, now_ns - self._unread_since_ns)
        if tls and tls.closed and slot.reply is reply:
            self._on_closed(slot)

    def _end_after_read(self, slot: Slot) -> None:
        """End the request if its message is complete, or broken, or too long."""
        assert slot.reply
        message = slot.reply.message
        if message.complete:
            self._end(slot)
        elif message.error is not None:
            self._end(slot, Failure("malformed", message.error))
        else:
            self._on_limit(slot)

    def _on_limit(self, slot: Slot) -> None:
        """The answer is long: cancel it, as the request wanted it; end it, if it is a flood; or let
        it go on, because its head says that it is a stream that was asked for."""
        assert slot.reply
        most, wanted = slot.reply.most_bytes, slot.reply.request.cancel_at_bytes
        size = slot.size
        if wanted and wanted <= most and size >= wanted:
            slot.reply.cancelled = True
            self._end(slot)
        elif size >= most:
            self._end(slot, Failure("flood", f"more than {most / (1 << 20):.3g} MB of answer"))
        else:
            slot.limit = min(wanted or most, most)

    def _on_closed(self, slot: Slot) -> None:
        """The server closed the connection: this ends the message, or cuts it off."""
        assert slot.reply
        slot.reply.add_waiting()
        message = slot.reply.message
        message.eof()
        if message.complete:
            self._end(slot)
        else:
            self._on_broken(slot, message.error)

    def _on_broken(self, slot: Slot, reason: str | None) -> None:
        """The connection ended before the message did."""
        reply, connection = slot.reply, slot.connection
        assert reply and reply.t0_ns and connection
        reply.add_waiting()
        if connection.tls and connection.tls.refusal:
            self._end(slot, Failure("tls", connection.tls.refusal))
            return
        # By the last check: while this program was stopped, the connection had long been broken.
        just_sent = self._checked_before_ns < reply.t0_ns + int(CLOSE_RACE_S * 1e9)
        if connection.uses > 1 and not reply.raw and just_sent and not reply.resent:
            # The server closed the idle connection just as we sent (RFC 9112, 9.3.1). That is not
            # a failure of the deployment: send again, on a new connection.
            reply.resent, reply.t0_ns, reply.late_ns, slot.ready_ns = True, None, None, None
            reply.message = Message(reply.request.method)
            self._close_connection(slot)
            self._connect(slot)
        elif has_said_done(reply):
            reply.unterminated = True
            self._end(slot)
        else:
            self._end(slot, Failure("truncated", (reason or "connection lost").lower()))

    def _end(self, slot: Slot, failure: Failure | None = None) -> None:
        """The request is over: keep or close its connection, then begin the next request."""
        reply, connection = slot.reply, slot.connection
        assert reply
        slot.is_between_chunks = False
        if failure or reply.status != 200 or not (self._are_many and self.on_reply):
            reply.add_waiting()  # else it is done when it is told of
        failure = failure or reply.refusal_of_proxy()
        reply.failure = through_proxy(failure, self.pool.target) if failure else None
        is_answered = failure is None and reply.stamps_ns
        reply.end_ns = slot.stamp_ns if is_answered else time.perf_counter_ns()
        reusable = self.reuse and not failure and not slot.unsent and reply.message.keep_alive
        if connection and not (reusable and connection.is_alive()):
            self._close_connection(slot)
        if reply.failure and reply.failure.kind == "flood":
            reply.keep_beginning()
        slot.reply, slot.unsent = None, b""
        slot.ready_ns = reply.end_ns if reply.message.complete else time.perf_counter_ns()
        if self.dialect.refuses(reply):
            slot.reply = self._new_reply(reply.index, reply.request, reply.due_ns)
            self.replies[reply.index] = slot.reply
            self._connect(slot)
            return
        if self.on_reply:
            self._untold.append(reply)
            if failure or reply.status != 200 or not self._are_many:
                self._tell_all()
        self._on_free(slot)

    # what becomes of it

    def _tell_some(self, is_busy: bool, now_ns: int) -> None:
        """Tell of some that have ended; of none while something is to be read, if it can wait."""
        if is_busy and now_ns < (self._untold[0].end_ns or 0) + TOLD_AFTER_NS:
            return
        for _ in range(min(TOLD_IN_A_ROW, len(self._untold))):
            self._tell()

    def _tell_all(self) -> None:
        while self._untold:
            self._tell()

    def _tell(self) -> None:
        self._has_work = True  # in spare time: perhaps
        reply = self._untold.popleft()
        reply.add_waiting()
        if self.on_reply and self.on_reply(reply):
            self._begin_no_more()

    def _close_connection(self, slot: Slot) -> None:
        connection, slot.connection = slot.connection, None
        if connection:
            self.pool.unwatch(connection)
            connection.close()

    def _retire(self, slot: Slot) -> None:
        """Take the slot out of use; its connection is kept for the next exchange."""
        self.slots.discard(slot)
        connection, slot.connection = slot.connection, None
        if connection:
            self.pool.unwatch(connection)
            self.pool.idle.append(connection)

    def _interrupt(self, slot: Slot) -> Reply | None:
        """Leave its request, which nobody waits for any more; the reply to it, if there was one."""
        reply, slot.reply = slot.reply, None  # a connection that is opened later is closed
        if reply is not None:
            reply.add_waiting()
            reply.failure = Failure("interrupted", "the run was interrupted")
            reply.end_ns = time.perf_counter_ns()
        self._close_connection(slot)
        return reply

    def abandon(self) -> None:
        """Leave nothing in flight, whatever ended the exchange."""
        if hasattr(gc, "unfreeze"):
            gc.unfreeze()
        for slot in self.slots:
            self._interrupt(slot)
        self.slots.clear()
        for reply in self.replies:  # that ended, and was not told of
            reply.add_waiting()
        # An interruption can come between any two steps, so a connection may still be watched.
        self.pool.close_watched()


class ClosedLoop(Exchange):
    """A number of requests in flight, the next one as soon as one has ended.

    The connections are opened first; then the first requests are sent, all together.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._source = iter(self.requests)
        self._has_started = False
        self._connected: list[Slot] = []  # waiting for the start
        self._free: list[Slot] = []  # waiting for it as well: their first request failed

    def run(self, concurrency: int) -> None:
        self._are_many = concurrency >= MANY_AT_ONCE
        slots = [Slot() for _ in range(concurrency)]
        self.slots.update(slots)
        for slot in slots:
            self._begin(slot)
        while self.slots:
            waiting = len(self._connected) + len(self._free)
            if not self._has_started and waiting == len(self.slots):
                self._start()
            else:
                self._handle_events()
        self._tell_all()

    def _start(self) -> None:
        """Each slot has its connection or has failed to get one: send the first requests, with
        nothing in between but to read what has come of the first of them."""
        self._has_started = True
        self._encode_all()
        for slot in self._connected:
            self._prepare(slot)
        if self._are_many and hasattr(gc, "freeze"):
            gc.freeze()  # else a collection looks at all there is, which takes ten milliseconds
        if self.at_start:
            self.at_start()
        for start in range(0, len(self._connected), SENDS_IN_A_ROW):
            some = self._connected[start : start + SENDS_IN_A_ROW]
            together = [slot for slot in some if self._is_open(slot)]
            for slot in together:
                self._transmit(slot)
            for slot in together:
                self._watch_answer(slot)
            self._handle(self._selector.wait(0))
        for slot in self._free:
            self._begin(slot)

    def _is_open(self, slot: Slot) -> bool:
        """Whether the connection can be used. The server may have closed it while others were still
        connecting: then another one is opened."""
        if slot.connection and slot.connection.is_alive():
            return True
        self._close_connection(slot)
        self._connect(slot)
        return False

    def _encode_all(self) -> None:
        """Encode the requests now, if they are known, and not while others are measured."""
        if self._connected and isinstance(self.requests, list):
            few = self.requests[:ENCODED_BEFORE]
            self._encoded = {id(each): each.encode(self.pool.target) for each in few}

    def _next_request(self) -> tuple[int | None, Request] | None:
        request = next(self._source, None)
        return None if request is None else (None, request)

    def _begin_no_more(self) -> None:
        self._source = iter(())

    def _on_connected(self, slot: Slot) -> None:
        if self._has_started:
            self._send(slot)
        else:
            self._connected.append(slot)

    def _on_free(self, slot: Slot) -> None:
        if self._has_started:
            self._begin(slot)
        else:
            self._free.append(slot)


@dataclass(eq=False)
class OpenLoop(Exchange):
    """Each request at its time, whatever the server does; late when too many are in flight."""

    due_s: Iterable[float] = ()  # after the start, ascending

    def __post_init__(self) -> None:
        super().__post_init__()
        self._arrivals: Iterator[tuple[int, Request]] = iter(())
        self._arriving: tuple[int, Request] | None = None  # the next one that is not due yet
        self._backlog: deque[tuple[int, Request]] = deque()  # due, but too many are in flight

    def run(self, concurrency: int) -> None:
        self._are_many = concurrency >= MANY_AT_ONCE
        start_ns = self.at_start() if self.at_start else time.perf_counter_ns()
        timed = zip(self.due_s, self.requests, strict=False)  # the shorter one decides
        self._arrivals = ((start_ns + int(due * 1e9), request) for due, request in timed)
        self._arriving = next(self._arrivals, None)
        while self._arriving or self.slots:
            self._begin_due(concurrency)
            self._handle_events()
        self._tell_all()

    def _begin_due(self, concurrency: int) -> None:
        """Begin the requests that are due, as long as there are free slots."""
        now_ns = time.perf_counter_ns()
        for _ in range(ARRIVALS_AT_ONCE):
            if not self._arriving or self._arriving[0] > now_ns:
                break
            self._backlog.append(self._arriving)
            self._arriving = next(self._arrivals, None)
        while self._backlog and len(self.slots) < concurrency:
            slot = Slot()
            self.slots.add(slot)
            self._begin(slot)

    def _next_request(self) -> tuple[int | None, Request] | None:
        return self._backlog.popleft() if self._backlog else None

    def _has_time(self, now_ns: int) -> bool:
        return self._arriving is None or self._arriving[0] > now_ns + SPARE_NS

    def _begin_no_more(self) -> None:
        self._arriving = None
        self._backlog.clear()

    def _wait(self, now_ns: int) -> list[tuple[int, int]]:
        """What can be read or written; waits for it until the next check or arrival."""
        if not self._arriving:
            return super()._wait(now_ns)
        left_s = min(self._check_s, max(0, self._arriving[0] - now_ns) / 1e9)
        # epoll waits for whole milliseconds. select() on its descriptor is exact.
        watched = self._selector.fileno()
        if 0 < watched < SELECT_FD_LIMIT:
            select.select([watched], [], [], left_s)
            left_s = 0
        return self._selector.wait(left_s)


def _is_to_be_cancelled(reply: Reply, now_ns: int) -> bool:
    """Whether the time has come at which a request was to be given up."""
    after_s = reply.request.cancel_after_s
    return after_s is not None and now_ns >= (reply.t0_ns or 0) + after_s * 1e9


def _is_under_way(slot: Slot, reply: Reply, now_ns: int) -> bool:
    """Whether there is nothing to look at: that is so for nearly all of a thousand streams."""
    return (
        reply.t0_ns is not None
        and now_ns < slot.last_read_ns + LEFT_OPEN_S * 1e9
        and now_ns <= slot.deadline_ns
        and reply.request.cancel_after_s is None
        and reply.read_count <= MAX_READS
    )


def has_said_done(reply: Reply) -> bool:
    """Whether the reply is an event stream and its last event says [DONE].

    A message that announced its length is not over before all of it has come.
    """
    tail = reply.raw[-200:]
    content_type = (reply.message.header("content-type") or "").lower()
    is_stream = content_type.startswith("text/event-stream") and reply.message.framing != "length"
    return is_stream and DONE_LINE.search(tail) is not None
