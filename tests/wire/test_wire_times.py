"""Arrival times are right, also when the reader is busy; many streams at once."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.instrument import (
    GET,
    IS_LINUX,
    ask,
    ask_script,
    is_at_rest,
    open_wire,
    run_alone,
    wait_until,
)
from helpers.raw_server import (
    CHUNKED,
    LAST_CHUNK,
    OK,
    Peer,
    RawServer,
    chunk,
    event,
    keep_answering,
)

from livecheck.wire import wire
from livecheck.wire.clock import SO_TIMESTAMPNS, TIMESPEC, Clock
from livecheck.wire.metrics import percentile
from livecheck.wire.wire import Reply, Request, Target, Wire

# --- clocks


def paced(peer: Peer) -> None:
    """Eight events, 30 ms apart."""
    peer.request()
    events = [chunk(event(str(number))) for number in range(8)]
    peer.send(CHUNKED, *events, LAST_CHUNK, gap_s=0.03)


def errors_ms(reply: Reply, peer: Peer) -> list[tuple[float, float]]:
    """For each read: ms since its send was begun, and since that returned."""
    assert wait_until(lambda: len(reply.stamps_ns) == len(peer.sent_ns))
    return [
        ((stamp - before) / 1e6, (stamp - after) / 1e6)
        for stamp, (before, after) in zip(reply.stamps_ns, peer.sent_ns, strict=True)
    ]


def busy_exchange(
    serve: Callable[[Callable[[Peer], object]], RawServer], **options: Any
) -> tuple[Reply, Peer]:
    """One stream, whose first event comes while the reading thread is busy, and lies for 100 ms.

    What keeps the thread busy is on_reply of another request; both wait for one another.
    """
    asked, busy, arrived = threading.Event(), threading.Event(), threading.Event()

    def quick_or_streamed(peer: Peer) -> None:
        if peer.request() == b"quick":
            asked.wait(5)
            peer.send(OK)
            return
        asked.set()
        busy.wait(5)
        peer.send(CHUNKED + chunk(event()))
        arrived.set()
        time.sleep(0.3)
        peer.send(LAST_CHUNK)

    def hold_up(reply: Reply) -> None:
        if reply.index == 0:
            busy.set()
            arrived.wait(5)
            time.sleep(0.1)

    server = serve(quick_or_streamed)
    requests = [Request("POST", "/", b"quick"), Request("POST", "/", b"streamed")]
    with open_wire(server, **options) as instrument:
        _, reply = instrument.exchange(requests, 2, hold_up)
    assert wait_until(lambda: any(len(peer.sent_ns) == 2 for peer in server.peers))
    return reply, next(peer for peer in server.peers if len(peer.sent_ns) == 2)


@pytest.mark.skipif(not IS_LINUX, reason="kernel receive times")
def test_arrival_times_are_right_although_the_reader_was_busy(serve):
    reply, peer = busy_exchange(serve)
    since_begun, since_done = errors_ms(reply, peer)[0]
    assert since_begun > -0.2 and since_done < 2
    assert reply.lag_ns[0] > 50e6  # and tells how long the bytes lay unread


def test_without_kernel_times_the_lag_shows_that_the_reader_was_busy(serve):
    reply, peer = busy_exchange(serve, kernel_stamps=False)
    since_begun, _ = errors_ms(reply, peer)[0]
    assert since_begun > 50  # too late, because the time was taken after the read
    assert reply.lag_ns[0] > 50e6
    assert reply.lag_ns[1] < 50e6  # before the next read the reader was waiting


def test_a_reader_that_gets_no_processor_does_not_seem_to_have_waited(serve, monkeypatch):
    def late_select(self: Any, timeout: float | None = None) -> Any:
        time.sleep(0.005)  # the processor is someone else's
        return select(self, timeout)

    select = selectors.DefaultSelector.select
    monkeypatch.setattr(selectors.DefaultSelector, "select", late_select)
    reply, _ = busy_exchange(serve, kernel_stamps=False)
    assert reply.lag_ns[0] > 50e6


def test_the_clock_is_named():
    with RawServer(keep_answering) as server:
        with open_wire(server, kernel_stamps=False) as instrument:
            assert instrument.clock == wire.USER_CLOCK
            (reply,) = instrument.exchange([GET])
            assert len(reply.stamps_ns) == len(reply.lag_ns) == len(reply.reads)
        if IS_LINUX:
            with open_wire(server) as instrument:
                assert instrument.clock == wire.KERNEL_CLOCK


def test_event_times_are_those_of_the_sends(serve):
    server = serve(paced)
    reply = ask(server)
    errors = errors_ms(reply, server.peers[0])
    assert min(begun for begun, _ in errors) > -0.2
    assert percentile([done for _, done in errors], 50) < 2
    assert list(reply.stamps_ns) == sorted(reply.stamps_ns)
    assert all(lag >= 0 for lag in reply.lag_ns)


def test_the_time_to_first_byte_is_that_of_the_server():
    reply = ask_script(lambda peer: (peer.request(), time.sleep(0.15), peer.send(OK)))
    assert reply.t0_ns is not None and reply.first_byte_ns is not None
    assert 0.15 <= (reply.first_byte_ns - reply.t0_ns) / 1e9 < 0.5


@pytest.mark.skipif(not IS_LINUX, reason="kernel receive times")
@pytest.mark.parametrize("step_s", [1, -1, 0.05, -0.05, 3600, -3600])
def test_a_wall_clock_that_steps_does_no_harm(step_s):
    """The offset is wrong by the step, as if the clock had stepped since its calibration."""

    def step(instrument: Wire, peers: list[Peer]) -> None:
        wait_until(lambda: bool(peers) and len(peers[0].sent_ns) >= 3)
        instrument._pool.clock.offset_ns -= int(step_s * 1e9)

    with RawServer(paced) as server, open_wire(server) as instrument:
        stepping = threading.Thread(target=step, args=(instrument, server.peers))
        stepping.start()
        (reply,) = instrument.exchange([GET])
        stepping.join()
        now_ns = time.perf_counter_ns()
    times = list(reply.stamps_ns)
    assert reply.t0_ns < times[0] and times == sorted(times) and times[-1] <= now_ns
    errors = errors_ms(reply, server.peers[0])
    assert min(begun for begun, _ in errors) > -51  # a small step back goes unnoticed for one event
    assert percentile([abs(done) for _, done in errors], 50) < 5
    assert sum(abs(done) > 20 for _, done in errors) <= 3


def test_the_clock_accepts_only_credible_times():
    clock = Clock()
    now = time.perf_counter_ns()

    def stamp(at_ns: int) -> list[tuple[int, int, bytes]]:
        wall = at_ns + clock.offset_ns
        return [(socket.SOL_SOCKET, SO_TIMESTAMPNS, TIMESPEC.pack(wall // 10**9, wall % 10**9))]

    sent = now - 10**9
    near = 10_000  # calibrating again moves a time by less than this
    assert clock.received_ns([], sent, now) == now
    assert clock.received_ns(stamp(now - 5000), sent, now) == now - 5000
    assert abs(clock.received_ns(stamp(now - 10**8 * 5), sent, now) - (now - 10**8 * 5)) < near
    assert clock.received_ns(stamp(sent - 10**6), sent, now) == now  # before the request was sent
    assert clock.received_ns(stamp(now + 10**9), sent, now) == now


# --- many streams: a server in a process of its own

STREAMER = r"""
import asyncio, sys, time
async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            asked = time.perf_counter_ns()
            await asyncio.sleep(TTFT_S)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for number in range(EVENTS):
                text = b"data: %d %d\n\n" % (time.perf_counter_ns(), asked)
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
                await asyncio.sleep(ITL_S)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def streamer(ttft_s: float = 0.1, itl_s: float = 0.05, events: int = 6) -> Iterator[str]:
    code = f"TTFT_S, ITL_S, EVENTS = {ttft_s}, {itl_s}, {events}\n{STREAMER}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def delays_ms(reply: Reply) -> list[float]:
    """Received minus sent, for each event that came in a read of its own."""
    marks, end, delays = dict(reply.marks), 0, []
    for text in reply.body.split(b"\n\n")[:-1]:
        end += len(text) + 2
        if end in marks and (end - len(text) - 2 in marks or not delays):
            delays.append((marks[end] - int(text.split()[1])) / 1e6)
    return delays


def test_a_burst_of_256_streams():
    with streamer() as url, Wire(Target(url), 30) as instrument:
        replies = instrument.exchange([GET] * 256, 256)
        assert is_at_rest(instrument)
        again = instrument.exchange([GET] * 256, 256)
    assert all(reply.handshake is None for reply in again)
    for reply in [*replies, *again]:
        assert reply.failure is None and reply.body.count(b"data: ") == 6
        asked = int(reply.body.split()[2])
        assert reply.t0_ns < asked < reply.first_byte_ns
        assert list(reply.stamps_ns) == sorted(reply.stamps_ns)
        assert 0.1 <= (reply.first_byte_ns - reply.t0_ns) / 1e9 < 5
    sends = [reply.t0_ns for reply in replies]
    assert max(sends) - min(sends) < 1e9


@pytest.mark.skipif(not IS_LINUX, reason="kernel receive times")
def test_arrival_times_are_right_although_another_thread_holds_the_interpreter():
    """It holds it for tens of milliseconds at a time."""
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            sum(range(1_500_000))  # one call, no switch inside
            time.sleep(0.001)

    with streamer(itl_s=0.1, events=8) as url, Wire(Target(url), 30) as instrument:
        thread = threading.Thread(target=hog)
        thread.start()
        replies = instrument.exchange([GET] * 4, 4)
        stop.set()
        thread.join()
    delays = [delay for reply in replies for delay in delays_ms(reply)]
    lags = [lag / 1e6 for reply in replies for lag in reply.lag_ns]
    assert len(delays) >= 8 and min(delays) > -0.2
    assert percentile(delays, 50) < 2
    assert percentile(lags, 90) > 5


BURST_WITH_LIMITS = """
    import resource, sys
    from livecheck.wire import wire
    url, soft, hard, streams = sys.argv[1], *map(int, sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with wire.Wire(wire.Target(url), 30) as instrument:
        replies = instrument.exchange([wire.Request("GET", "/")] * streams, streams)
    print(len(replies), sum(reply.failure is None for reply in replies))
"""


def test_the_soft_descriptor_limit_is_raised():
    pytest.importorskip("resource")
    with streamer(events=1) as url:
        done = run_alone(BURST_WITH_LIMITS, url, 64, 2048, 300)
    assert done.stdout.split() == ["300", "300"], done.stderr


def test_a_hard_descriptor_limit_that_is_too_low_is_an_error():
    pytest.importorskip("resource")
    done = run_alone(BURST_WITH_LIMITS, "http://127.0.0.1:9", 64, 128, 300)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("OSError")
    assert "300 streams" in last and "hard limit is 128" in last
