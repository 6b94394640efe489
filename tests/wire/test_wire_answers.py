"""Answers that come too slowly, are broken or have no end; cancelled and large requests."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time

import pytest
from helpers.instrument import (
    DONE,
    GET,
    ask,
    ask_script,
    kind,
    once,
    open_tls_wire,
    open_wire,
    seconds,
    wait_until,
)
from helpers.raw_server import (
    CHUNKED,
    LAST_CHUNK,
    OK,
    STREAM_HEAD,
    TO_THE_END,
    Peer,
    RawServer,
    answer,
    chunk,
    event,
    keep_answering,
)

from livecheck.wire import connection, exchange
from livecheck.wire.answer import Answer
from livecheck.wire.clock import Clock
from livecheck.wire.dialect import Dialect
from livecheck.wire.readiness import READ, WRITE
from livecheck.wire.wire import MAX_BYTES, Failure, Reply, Request, Target

# --- reads


def test_every_read_is_kept_however_the_chunks_were_cut():
    one, two = chunk(event()), chunk(event("two"))
    looks_whole = b"%x\r\n%b\r\n" % (len(two), two)  # a chunk that has another one inside
    pieces = (
        *(CHUNKED, one, two, one, two[:9], two[9:], one + two, one, looks_whole[:4]),
        *(looks_whole[4:-2], looks_whole[-2:], one, two + one[:1], one[1:], one, LAST_CHUNK),
    )
    with RawServer(once(*pieces, gap_s=0.01)) as server:
        reply = ask(server)
    assert reply.message.complete and reply.failure is None
    assert b"".join(reply.reads) == b"".join(pieces)
    assert reply.waiting == [] and reply.read_count == len(reply.reads) > len(pieces) / 2
    assert list(reply.stamps_ns) == sorted(reply.stamps_ns) and min(reply.lag_ns) >= 0
    events = [event(), event("two"), event(), event("two"), event(), event("two"), event()]
    events += [two, event(), event("two"), event(), event()]
    assert reply.body == b"".join(events)


# --- time-outs


@pytest.mark.parametrize(
    "parts",
    [(), (CHUNKED + chunk(event()),), (answer()[:-1],), (b"HTTP/1.1 200",)],
    ids=["silence", "stops in the stream", "last byte missing", "stops in the head"],
)
def test_a_server_that_stops_ends_with_the_timeout(serve, parts):
    server = serve(once(*parts, then=Peer.wait_gone))
    started = time.monotonic()
    reply = ask(server, timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started < 0.3 + 1.5  # connecting is included
    assert kind(reply) == "timeout"
    assert seconds(reply) < 2
    assert b"".join(reply.reads) == b"".join(parts)
    assert wait_until(lambda: server.peers[0].gone_ns is not None)


def test_connecting_is_part_of_the_timeout(tls):
    def script(peer: Peer) -> None:
        time.sleep(0.4)
        peer.start_tls(tls)
        peer.request()
        peer.wait_gone()

    with RawServer(script) as server, open_tls_wire(server, 0.6) as instrument:
        started = time.monotonic()
        (reply,) = instrument.exchange([GET])
        took_s = time.monotonic() - started
    assert kind(reply) == "timeout" and 0.55 < took_s < 0.95  # not 1.0: the handshake took 0.4


def test_an_endless_trickle_ends_with_the_timeout():
    def drip(peer: Peer) -> None:
        while True:
            peer.send(chunk(b"."))
            time.sleep(0.01)

    reply = ask_script(once(CHUNKED, then=drip), timeout_s=0.3)
    assert kind(reply) == "timeout" and 0.25 < seconds(reply) < 1.8
    assert len(reply.body) > 5


STREAM_REQUEST = Request("POST", "/", b"{}", {"accept": "text/event-stream"})
HEADS = {
    "a stream that was asked for": (STREAM_REQUEST, STREAM_HEAD, 32),
    "a stream under a wrong name": (STREAM_REQUEST, b"HTTP/1.1 200 OK\r\n", 32),
    "a stream that was not asked for": (GET, STREAM_HEAD, 1),
    "an error": (STREAM_REQUEST, STREAM_HEAD.replace(b"200", b"500"), 1),
    "JSON": (STREAM_REQUEST, STREAM_HEAD.replace(b"text/event-stream", b"application/json"), 1),
    "interim answers": (STREAM_REQUEST, None, 1),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_flood_ends_at_the_bytes_that_such_an_answer_may_have(serve, case):
    request, head, most_mb = HEADS[case]
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000
    block = interim if head is None else chunk(bytes(1 << 18))

    def flood(peer: Peer) -> None:
        while True:
            peer.send(block)

    script = once(b"" if head is None else head + chunked, then=flood)
    answered = Answer(ask(serve(script), request, timeout_s=60))
    size = answered.reply.size
    assert answered.failure == Failure("flood", f"more than {most_mb} MB of answer")
    assert most_mb << 20 <= size < (most_mb << 20) + (1 << 18)
    assert answered.json is None


@pytest.mark.parametrize("at_bytes", [1 << 16, 3 << 20])
def test_a_request_is_cancelled_at_the_bytes_it_names(serve, at_bytes):
    def go_on(peer: Peer) -> None:
        while True:
            peer.send(chunk(bytes(1 << 12)))

    chunked = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    request = dataclasses.replace(STREAM_REQUEST, cancel_at_bytes=at_bytes)
    reply = ask(serve(once(chunked, then=go_on)), request, timeout_s=60)
    assert reply.cancelled and reply.failure is None
    assert at_bytes <= reply.size < at_bytes + (1 << 18)


# --- broken answers


def test_an_answer_shorter_than_its_content_length_is_truncated():
    reply = ask_script(once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"))
    assert kind(reply) == "truncated" and reply.body == b"ok"
    assert "8 bytes before the announced content-length" in reply.failure.text


def test_an_answer_longer_than_its_content_length_has_a_surplus():
    reply = ask_script(once(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok", then=Peer.wait_gone))
    assert reply.failure is None and reply.body == b"o" and reply.message.surplus == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP/1.1 response"),
        (b"HTTP/1.1 abc\r\n\r\n", "not an HTTP/1.1 status line"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (80 << 10), "head over 64 KiB"),
        (CHUNKED + b"zz\r\n", "not a chunk size line"),
        (answer(b"ok", "Content-Length: 3"), "Content-Length given as 2 and as 3"),
    ],
    ids=["no HTTP", "status line", "endless head", "chunk size", "two lengths"],
)
def test_garbage_ends_the_request_without_delay(serve, data, words):
    reply = ask(serve(once(data, then=Peer.wait_gone)))
    assert kind(reply) == "malformed" and words in reply.failure.text
    assert seconds(reply) < 5


def test_interim_answers_are_skipped(serve):
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server = serve(once(early, early + OK, OK, gap_s=0.05))
    reply = ask(server)
    assert reply.status == 200 and reply.body == b"ok" and reply.failure is None


def test_the_last_chunk_may_come_in_pieces(serve):
    pieces = [bytes([byte]) for byte in LAST_CHUNK]
    server = serve(once(CHUNKED + chunk(event()), *pieces, gap_s=0.02, then=Peer.wait_gone))
    reply = ask(server)
    assert reply.failure is None and reply.message.complete and not reply.unterminated
    assert reply.body == event()
    assert 0.09 <= seconds(reply) < 5


def test_an_answer_that_comes_byte_by_byte_has_a_mark_for_each_byte():
    text = "día".encode()
    data = CHUNKED + chunk(text[:2]) + chunk(text[2:]) + LAST_CHUNK
    reply = ask_script(once(*(bytes([byte]) for byte in data), gap_s=0.001))
    assert reply.body == text
    ends = [end for end, _ in reply.marks]
    times = [time_ns for _, time_ns in reply.marks]
    assert ends == sorted(set(ends)) and ends[-1] == len(text)
    assert times == sorted(times) and reply.t0_ns < times[0]


def test_a_stream_may_end_with_the_connection(serve):
    reply = ask(serve(once(TO_THE_END, event(), DONE, gap_s=0.02)))
    assert reply.failure is None and not reply.unterminated and reply.message.framing == "close"
    assert reply.body == event() + DONE


def test_the_answer_to_head_has_no_body_whatever_its_headers_say():
    with RawServer(once(answer(b"")[:-4] + b"\r\nX: y\r\n\r\n")) as server:
        assert ask(server, Request("HEAD", "/")).failure is None


# --- what comes after [DONE]


@pytest.mark.parametrize(("framing", "space"), [("chunked", b" "), ("close", b" "), ("close", b"")])
def test_a_stream_left_open_after_done_ends_soon_and_is_not_a_failure(
    serve, framing, space, monkeypatch
):
    monkeypatch.setattr(exchange, "LEFT_OPEN_S", 0.2)
    wrap = chunk if framing == "chunked" else bytes
    head = CHUNKED if framing == "chunked" else TO_THE_END
    done = b"data:" + space + b"[DONE]\n\n"
    server = serve(once(head + wrap(event()), wrap(done), then=Peer.wait_gone))
    started = time.monotonic()
    reply = ask(server)
    assert reply.failure is None and reply.unterminated
    assert 0.2 <= time.monotonic() - started < 3
    assert reply.end_ns == reply.stamps_ns[-1]  # without the time of waiting for more
    assert reply.body.endswith(done)
    assert wait_until(lambda: server.peers[0].gone_ns is not None)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_stream_closed_after_done_without_the_last_chunk_is_unterminated(serve, how):
    def leave(peer: Peer) -> None:
        if how == "rst":
            time.sleep(0.05)
            peer.reset()

    reply = ask(serve(once(CHUNKED + chunk(event()) + chunk(DONE), then=leave)))
    assert reply.failure is None and reply.unterminated


def test_a_stream_cut_before_done_is_truncated(serve):
    reply = ask(serve(once(CHUNKED + chunk(event()))))
    assert kind(reply) == "truncated" and not reply.unterminated


def test_text_that_mentions_done_does_not_end_the_stream(monkeypatch):
    monkeypatch.setattr(exchange, "LEFT_OPEN_S", 0.1)
    text = event('{"content": "then comes data: [DONE]"}')

    def go_on(peer: Peer) -> None:
        time.sleep(0.3)
        peer.send(chunk(DONE) + LAST_CHUNK)

    reply = ask_script(once(CHUNKED + chunk(text), then=go_on))
    assert reply.message.complete and not reply.unterminated and DONE in reply.body


def test_a_busy_client_notices_a_stream_left_open(monkeypatch):
    """The program was held up for longer than the end of the message may take."""
    monkeypatch.setattr(exchange, "LEFT_OPEN_S", 0.1)

    def script(peer: Peer) -> None:
        body = peer.request()
        if body == b"quick":
            time.sleep(0.05)
            peer.send(OK)
        else:
            peer.send(CHUNKED + chunk(DONE))
        peer.wait_gone()

    requests = [Request("POST", "/", b"quick"), Request("POST", "/", b"stream")]

    def hold_up(reply: Reply) -> None:
        if reply.index == 0:
            time.sleep(0.3)

    with RawServer(script) as server, open_wire(server, timeout_s=3) as instrument:
        _, reply = instrument.exchange(requests, 2, hold_up)
    assert reply.failure is None and reply.unterminated


# --- a client that is stopped, between a look and the next check of the deadlines


@pytest.fixture
def stopped_for(monkeypatch):
    """Lets the loop stop for so many seconds, once, after it has read something."""

    def stop(pause_s: float) -> None:
        original, is_over = exchange.Exchange._handle_events, []

        def handle(self) -> None:
            original(self)
            if not is_over and any(slot.reply and slot.reply.raw for slot in self.slots):
                is_over.append(time.sleep(pause_s))

        monkeypatch.setattr(exchange.Exchange, "_handle_events", handle)

    return stop


def test_the_end_that_lies_unread_in_a_stopped_client_is_not_missing(stopped_for):
    stopped_for(exchange.LEFT_OPEN_S + 0.3)
    slowly = once(CHUNKED + chunk(event()) + chunk(DONE), LAST_CHUNK, gap_s=0.1)
    reply = ask_script(slowly)
    assert reply.message.complete and not reply.unterminated and reply.failure is None


def test_an_answer_that_came_while_the_client_was_stopped_has_not_timed_out(serve, stopped_for):
    stopped_for(0.7)
    reply = ask(serve(once(CHUNKED + chunk(event()), chunk(DONE), LAST_CHUNK)), timeout_s=0.3)
    assert reply.message.complete and reply.failure is None


def test_a_server_has_its_time_although_the_client_was_stopped(serve, stopped_for):
    """As one whose next bytes wait for this program to read the ones before."""
    stopped_for(0.6)
    reply = ask(
        serve(once(CHUNKED + chunk(event()), chunk(DONE) + LAST_CHUNK, gap_s=0.7)), timeout_s=0.4
    )
    assert reply.message.complete and reply.failure is None


def test_an_answer_that_came_before_it_was_cancelled_is_whole(serve, stopped_for):
    stopped_for(0.5)
    script = once(CHUNKED + chunk(event()), chunk(DONE) + LAST_CHUNK, gap_s=0.05)
    reply = ask(serve(script), Request("GET", "/", cancel_after_s=0.2))
    assert reply.message.complete and not reply.cancelled


# --- cancelled requests


@pytest.mark.parametrize("is_streaming", [True, False])
def test_cancel_after_a_time(serve, is_streaming):
    def answer_until_cancelled(peer: Peer) -> None:
        if is_streaming:
            peer.send(CHUNKED)
            with contextlib.suppress(OSError):
                while True:
                    peer.send(chunk(event()))
                    time.sleep(0.01)
        peer.wait_gone()

    server = serve(once(then=answer_until_cancelled))
    reply = ask(server, Request("GET", "/", cancel_after_s=0.2))
    assert reply.cancelled and reply.failure is None and not reply.message.complete
    assert bool(reply.reads) is is_streaming
    assert seconds(reply) >= 0.15
    (peer,) = server.peers
    assert wait_until(lambda: peer.gone_ns is not None)
    assert 0.15 < (peer.gone_ns - reply.t0_ns) / 1e9 < 3


def test_cancel_at_a_size(serve):
    server = serve(
        once(CHUNKED, *[chunk(event())] * 100, gap_s=0.01, then=Peer.wait_gone),
    )
    reply = ask(server, Request("GET", "/", cancel_at_bytes=len(CHUNKED) + 40))
    assert reply.cancelled and reply.failure is None
    assert len(CHUNKED) + 40 <= sum(map(len, reply.reads)) < len(CHUNKED) + 400


def test_a_request_that_is_cancelled_where_a_flood_begins_is_no_flood():
    """What it has brought until then is looked at: such as a log that is open to everybody."""
    with RawServer(lambda peer: keep_answering(peer, answer(bytes(4 * MAX_BYTES)))) as server:
        reply = ask(server, Request("GET", "/", cancel_at_bytes=MAX_BYTES))
    assert reply.cancelled and reply.failure is None


def test_an_answer_that_ends_before_its_cancellation_is_whole():
    with RawServer(keep_answering) as server, open_wire(server) as instrument:
        request = Request("GET", "/", cancel_after_s=5, cancel_at_bytes=len(OK))
        replies = instrument.exchange([request] * 4, 2)
    assert not any(reply.cancelled for reply in replies)
    assert len(server.peers) == 2


def test_cancelled_requests_do_not_make_the_next_ones_late():
    def script(peer: Peer) -> None:
        while (body := peer.request()) is not None:
            if body == b"slow":
                peer.send(CHUNKED)
                peer.wait_gone()
                return
            peer.send(OK)

    slow = Request("POST", "/", b"slow", cancel_after_s=0.3)
    with RawServer(script) as server, open_wire(server) as instrument:
        instrument.exchange([GET] * 2, 2)  # leaves two idle connections
        cancelled, after = instrument.exchange([slow, GET])
    assert cancelled.cancelled and after.status == 200
    assert after.handshake is None and after.late_ns < 0.15e9


# --- large requests


@pytest.mark.parametrize("slowly", [True, False])
def test_a_large_prompt_is_sent_whole(serve, slowly):
    body = os.urandom(1 << 20) * 20

    def script(peer: Peer) -> None:
        if slowly:
            time.sleep(0.2)
        got = peer.request()
        peer.send(answer(b"same" if got == body else b"different"))

    reply = ask(serve(script), Request("POST", "/", body), timeout_s=30)
    assert reply.body == b"same" and reply.failure is None


def test_a_large_prompt_that_nobody_reads_ends_with_the_timeout():
    with RawServer(lambda peer: time.sleep(5)) as server:
        reply = ask(server, Request("POST", "/", bytes(20 << 20)), timeout_s=0.3)
    assert kind(reply) == "timeout" and seconds(reply) < 2


@pytest.mark.parametrize("how", ["stays", "closes", "resets"])
def test_an_early_refusal_of_a_large_prompt_is_its_answer(how):
    def script(peer: Peer) -> None:
        peer.sock.recv(1 << 16)
        peer.send(answer(b"too large", "Connection: close", status="413 Too Large"))
        if how == "stays":
            peer.wait_gone()
        elif how == "closes":  # with unread bytes, so the client gets a reset
            time.sleep(0.1)
        else:
            time.sleep(0.1)
            peer.reset()

    with RawServer(script) as server:
        reply = ask(server, Request("POST", "/", bytes(20 << 20)))
    assert reply.status == 413 and reply.body == b"too large" and reply.failure is None


def test_a_broken_pipe_in_the_middle_of_a_prompt_does_not_lose_the_answer():
    """The connection breaks between looking for data and writing the rest."""
    ours, theirs = socket.socketpair()
    with RawServer(once()) as server:
        pool = connection.Pool(Target(server.url), Clock())
        running = exchange.ClosedLoop(pool, 5, None, True, [], Dialect())
        slot, reply = exchange.Slot(), Reply(0, GET)
        slot.reply, slot.unsent = reply, b"the rest"
        slot.connection = connection.Connection(ours, None, connection.Handshake(1, None, None))
        slot.connection.uses, slot.connection.watched = 1, True
        reply.t0_ns = slot.stamp_ns = time.perf_counter_ns()
        slot.deadline_ns = reply.t0_ns + int(5e9)
        running.slots.add(slot)
        pool.selector.register(ours, READ | WRITE, slot)
        theirs.sendall(answer(status="413 Too Large"))
        theirs.close()
        running._send_rest(slot)
        running.run(0)
        pool.close()
    assert reply.status == 413 and reply.failure is None


def test_the_content_type_of_a_stream_may_have_any_case():
    head = STREAM_HEAD.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8")
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    reply = ask_script(once(head + chunk(DONE), then=Peer.wait_gone), timeout_s=4)
    assert reply.unterminated and reply.failure is None
