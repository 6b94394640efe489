"""A server that knows when it sent each event: the truth that a client's figures are held against.

It streams chat completions at a set pace from one thread, and notes when the kernel received each
request and when it sent each event, by the clock of `time.perf_counter_ns`, which all processes of
a machine share. `GET /truth` tells what was noted since the last time, and forgets it. It needs
nothing but Python.

Examples:
    python -m reference.truth --port 9100 --ttft-ms 100 --itl-ms 20 --tokens 128
    python -m reference.truth --spread together              # all streams at once, as in a batch
    python -m reference.truth --cert reference/loopback.pem  # with TLS
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import os
import selectors
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Sequence

from .process import announce, raise_descriptor_limit
from .truth_answers import (
    MOST_BODY,
    MOST_HEAD,
    BadRequest,
    Noted,
    Pieces,
    Request,
    Task,
    json_response,
    models,
    read_task,
    take_request,
    whole_answer,
)

CHAT = "/v1/chat/completions"
CALM = ("/ping", "/health", "/v1/health")  # paths that are answered with 200
SPREADS = ("asked", "even", "together")
GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly however many there are
SO_TIMESTAMPNS = 35  # Linux's number, also that of the control message; Python has no name for it
TIMESPEC = struct.Struct("qq")
CALIBRATE_NS = 100_000_000  # how often the wall clock is compared with ours again
READ_BYTES = 1 << 16
MOST_UNREAD = 2 * (MOST_HEAD + MOST_BODY)  # bytes of requests that have to wait for their turn
SENDS_AT_ONCE = 64  # before sockets are looked at again
MOST_NOTED = 4_000_000  # events in memory; what is over is counted, and not noted
SELECT_NS = 3_000_000  # a selector waits for whole milliseconds; the rest is slept
NAP_NS = 1_000_000  # while nothing is read


class Clock:
    """`perf_counter_ns`, and the kernel's receive times in it."""

    def __init__(self) -> None:
        self.has_stamps = sys.platform == "linux"
        self._offset_ns = self._calibrated_ns = 0

    def received_ns(self, ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, bool]:
        """When the bytes of this read came, and whether the kernel said so."""
        now_ns = time.perf_counter_ns()
        if not ancillary:
            return now_ns, False
        if now_ns - self._calibrated_ns > CALIBRATE_NS:
            self._calibrate()
        seconds, nanoseconds = TIMESPEC.unpack_from(ancillary[0][2])
        stamp_ns = seconds * 1_000_000_000 + nanoseconds - self._offset_ns
        return (stamp_ns, True) if stamp_ns <= now_ns else (now_ns, False)

    def _calibrate(self) -> None:
        tightest_ns = sys.maxsize
        for _ in range(20):
            before_ns, wall_ns, after_ns = (
                time.perf_counter_ns(),
                time.time_ns(),
                time.perf_counter_ns(),
            )
            if after_ns - before_ns < tightest_ns:
                tightest_ns = after_ns - before_ns
                self._offset_ns = wall_ns - (before_ns + after_ns) // 2
        self._calibrated_ns = after_ns


class Connection:
    """One client: what it sent, what it has not taken yet, and the answer that it gets."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.received = bytearray()
        self.stamp = (0, False)  # of the last read: `Clock.received_ns`
        self.waiting = bytearray()  # what the system did not take at once
        self.stream: Stream | None = None
        self.closes = False  # after what is waiting has been sent
        self.is_open = True
        self._tls: ssl.SSLObject | None = None
        if tls:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._in, self._out, server_side=True)

    def decrypt(self, data: bytes) -> None:
        """Take what came from the network."""
        if self._tls is None:
            self.received += data
            return
        self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            while plain := self._tls.read(READ_BYTES):
                self.received += plain
        self.push(self._out.read())  # of the handshake

    def send(self, data: bytes) -> bool:
        """Whether the system took all of it at once."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._out.read()
        return self.push(data)

    def push(self, data: bytes) -> bool:
        """The same for bytes that are as they cross the network."""
        if self.waiting:
            self.waiting += data
            return False
        if not data:
            return True
        try:
            count = self.sock.send(data)
        except BlockingIOError:
            count = 0
        if count == len(data):
            return True
        self.waiting += data[count:]
        return False


class Stream:
    """An answer that is being sent: token `next` is due at `first_ns + next * itl_ns`."""

    def __init__(
        self, connection: Connection, noted: Noted, task: Task, pieces: Pieces | None
    ) -> None:
        self.connection, self.noted, self.task, self.pieces = connection, noted, task, pieces
        self.first_ns = self.itl_ns = self.next = 0

    @property
    def due_ns(self) -> int:
        return self.first_ns + self.next * self.itl_ns


class TruthServer:
    def __init__(self, listener: socket.socket, args: argparse.Namespace) -> None:
        self._listener, self._args = listener, args
        self._tls = tls_context(args.cert, args.key) if args.cert else None
        self._ttft_ns, self._itl_ns = int(args.ttft_ms * 1e6), int(args.itl_ms * 1e6)
        self._clock, self._selector = Clock(), selectors.DefaultSelector()
        self._due: list[tuple[int, int, Stream]] = []  # a heap; the number keeps it comparable
        self._count = self._events = self._forgotten = 0
        self._first_ns: int | None = None  # when the first request came, /truth excepted
        self._noted: list[Noted] = []
        self._run = os.urandom(4).hex()
        self.has_ended = False

    def serve(self) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        while not self.has_ended:
            self._send_what_is_due()
            for key, mask in self._wait():
                if key.data is None:
                    self._accept()
                elif key.data == "parent":
                    self.has_ended = not os.read(0, READ_BYTES)
                else:
                    self._attend(key.data, mask)

    def end_with_parent(self) -> None:
        """End when standard input does; not if that is a file."""
        with contextlib.suppress(PermissionError, OSError, ValueError):
            self._selector.register(0, selectors.EVENT_READ, "parent")

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._due:
            return self._selector.select()
        left_ns = self._due[0][0] - time.perf_counter_ns()
        if left_ns > SELECT_NS:
            return self._selector.select((left_ns - SELECT_NS) // 1_000_000 / 1e3 or 1e-3)
        if left_ns > 0:
            time.sleep(min(left_ns, NAP_NS) / 1e9)
        return self._selector.select(0)

    # connections

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # none is left, or there is no descriptor for it
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, self._tls)
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _attend(self, connection: Connection, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                self._read(connection)
            if mask & selectors.EVENT_WRITE and connection.is_open:
                data, connection.waiting = bytes(connection.waiting), bytearray()
                connection.push(data)
                self._settle(connection)
        except (OSError, ssl.SSLError):
            self._close(connection)

    def _read(self, connection: Connection) -> None:
        if self._clock.has_stamps:
            data, ancillary, _, _ = connection.sock.recvmsg(READ_BYTES, 64)
        else:
            data, ancillary = connection.sock.recv(READ_BYTES), []
        if not data:
            self._close(connection)
            return
        connection.stamp = self._clock.received_ns(ancillary)
        connection.decrypt(data)
        if len(connection.received) > MOST_UNREAD:
            self._close(connection)
            return
        self._answer_next(connection)

    def _answer_next(self, connection: Connection) -> None:
        while connection.is_open and connection.stream is None and not connection.closes:
            try:
                request = take_request(connection.received)
                if request is None:
                    break
                self._answer(connection, request)
            except BadRequest as error:
                connection.closes = True
                message = {"error": {"message": error.text, "type": "invalid_request_error"}}
                connection.send(json_response(error.status, message, closes=True))
        self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Watch for room if something waits; close if nothing does and that was the last."""
        if not connection.is_open:
            return
        if connection.closes and not connection.waiting and connection.stream is None:
            self._close(connection)
            return
        mask = selectors.EVENT_READ
        mask |= selectors.EVENT_WRITE if connection.waiting else 0
        if self._selector.get_key(connection.sock).events != mask:
            self._selector.modify(connection.sock, mask, connection)

    def _close(self, connection: Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            self._selector.unregister(connection.sock)
            connection.sock.close()

    # requests

    def _answer(self, connection: Connection, request: Request) -> None:
        connection.closes = request.closes
        if (request.method, request.path) == ("GET", "/truth"):
            connection.send(json_response(200, self._tell(), request.closes))
            return
        self._first_ns = self._first_ns or connection.stamp[0]
        if (request.method, request.path) == ("POST", CHAT):
            self._begin(connection, request)
        elif request.path == "/v1/models":
            connection.send(json_response(200, models(), request.closes))
        elif request.path in CALM:
            connection.send(json_response(200, {"status": "ok"}, request.closes))
        else:
            message = {"error": {"message": "not found", "type": "not_found_error"}}
            connection.send(json_response(404, message, request.closes))

    def _begin(self, connection: Connection, request: Request) -> None:
        task = read_task(request.body, self._args.tokens)
        self._count += 1
        ident = f"chatcmpl-{self._run}-{self._count}"
        noted = Noted(ident, request.headers.get("x-request-id", "")[:100], *connection.stamp)
        if self._events + task.tokens > MOST_NOTED:
            self._forgotten += 1
        else:
            self._noted.append(noted)
            self._events += task.tokens
        pieces = Pieces(ident, task, request.closes) if task.stream else None
        stream = connection.stream = Stream(connection, noted, task, pieces)
        stream.first_ns, stream.itl_ns = self._begins_ns(noted.received_ns), self._itl_ns
        due_ns = stream.due_ns if task.stream else stream.due_ns + task.tokens * self._itl_ns
        heapq.heappush(self._due, (due_ns, self._count, stream))

    def _begins_ns(self, received_ns: int) -> int:
        """When the first token is due: `asked`, counted from each request alone; `even`, up to one
        gap later, so that the tokens of all streams are spread over it; `together`, with the next
        step that all streams share."""
        first_ns = received_ns + self._ttft_ns
        if self._args.spread == "even":
            first_ns += int(self._count * GOLDEN % 1 * self._itl_ns)
        elif self._args.spread == "together" and self._itl_ns:
            first_ns += -first_ns % self._itl_ns
        return first_ns

    # sending

    def _send_what_is_due(self) -> None:
        due, clock = self._due, time.perf_counter_ns
        for _ in range(SENDS_AT_ONCE):
            if not due or due[0][0] > clock():
                return
            due_ns, number, stream = due[0]
            if not stream.connection.is_open:
                heapq.heappop(due)
                continue
            try:
                is_last = self._send_next(stream, due_ns)
            except (OSError, ssl.SSLError):
                self._close(stream.connection)
                is_last = True
            if is_last:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (stream.due_ns, number, stream))

    def _send_next(self, stream: Stream, due_ns: int) -> bool:
        """Send the token that is due, or the end; whether that was the end."""
        noted, connection, pieces = stream.noted, stream.connection, stream.pieces
        if pieces is None or stream.next == stream.task.tokens:
            self._end(stream)
            return True
        before = pieces.before[stream.next % len(pieces.before)]
        if stream.next == 0:
            before = pieces.head + before
        now_ns = time.perf_counter_ns()
        is_taken = connection.send(b"%b%019d%b" % (before, now_ns, pieces.after))
        noted.sent_ns.append(now_ns)
        if now_ns - due_ns > noted.late_ns:
            noted.late_ns = now_ns - due_ns
        if not is_taken:
            noted.blocked += 1
            self._settle(connection)
        stream.next += 1
        return False

    def _end(self, stream: Stream) -> None:
        connection = stream.connection
        end = stream.pieces.end if stream.pieces else None
        if end is None:
            answer = whole_answer(stream.noted.id, stream.task)
            end = json_response(200, answer, connection.closes)
        stream.noted.ended_ns = time.perf_counter_ns()
        connection.send(end)
        connection.stream = None
        self._answer_next(connection)

    def _tell(self) -> dict[str, object]:
        """What was noted; only streams that have not ended stay noted."""
        told: dict[str, object] = {
            "first_request_ns": self._first_ns,
            "forgotten_requests": self._forgotten,
            "requests": [each.as_dict() for each in self._noted],
        }
        running = {id(stream.noted) for _, _, stream in self._due}
        self._noted = [each for each in self._noted if id(each) in running]
        self._events = sum(s.task.tokens for _, _, s in self._due)
        self._first_ns, self._forgotten = None, 0
        return told


def tls_context(cert: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def port_number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError("a port from 0 to 65535 is expected")
    return value


def number_ms(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3_600_000:
        raise argparse.ArgumentTypeError("a time in ms, from 0 on, is expected")
    return value


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference.truth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--port",
        type=port_number,
        default=0,
        metavar="N",
        help="port on 127.0.0.1 (default: a free one)",
    )
    ttft = "time to the first token (default %(default)g)"
    add("--ttft-ms", type=number_ms, default=100.0, metavar="MS", help=ttft)
    gap = "time between two tokens (default %(default)g)"
    add("--itl-ms", type=number_ms, default=20.0, metavar="MS", help=gap)
    tokens = "tokens of an answer that the request does not limit (default %(default)s)"
    add("--tokens", type=int, default=128, metavar="N", help=tokens)
    spread = "asked: each stream counts from its own request (default); even: the tokens of all "
    spread += "streams are spread over the gap; together: all streams send at the same moment"
    add("--spread", choices=SPREADS, default="asked", help=spread)
    add("--cert", metavar="FILE", help="serve TLS with this certificate (PEM)")
    add("--key", metavar="FILE", help="its key, if not in --cert")
    add("--cpu", type=int, metavar="N", help="run on this processor alone (Linux)")
    end = "also end when standard input ends"
    add("--until-eof", action="store_true", help=end)
    return parser


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":  # connections inherit it: a request may come before its accept
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    return listener


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes. 2: it cannot begin, and one line names the option to change."""
    args = build_parser().parse_args(argv)
    what = f"cannot run on the processor of --cpu {args.cpu}"
    try:
        if args.cpu is not None:
            os.sched_setaffinity(0, {args.cpu})
        raise_descriptor_limit()
        what = f"cannot listen on the port of --port {args.port}"
        listener = listen(args.port)
        what = f"cannot use --cert {args.cert}" + (f" and --key {args.key}" if args.key else "")
        server = TruthServer(listener, args)
    except (OSError, OverflowError, AttributeError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "strerror", None) or error
        print(f"reference.truth: {what}: {why}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    gc.disable()  # a collection would make events late; there are no cycles that grow
    if args.until_eof:
        server.end_with_parent()
    scheme = "https" if args.cert else "http"
    announce(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
