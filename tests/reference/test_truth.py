"""The truth server tells what really happened, and costs a bounded amount whatever it is sent."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers.plain_client import CHAT, ROOT, chat_body, eventually

TTFT_MS, ITL_MS = 30, 10


@contextlib.contextmanager
def truth(*options: object) -> Iterator[str]:
    """A truth server on a free port; gives its URL."""
    command = [sys.executable, "-m", "reference.truth", "--until-eof"]
    command += map(str, ("--ttft-ms", TTFT_MS, "--itl-ms", ITL_MS, *options))
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        assert process.stdin and process.stdout
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.stdin.close()  # which ends it
            assert process.wait(5) == 0


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    context = ssl._create_unverified_context()
    return http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=10, context=context
    )


def ask(url: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with contextlib.closing(connect(url)) as connection:
        connection.request("POST" if body else "GET", path, body, {"X-Request-Id": "mine"})
        reply = connection.getresponse()
        return reply.status, reply.read()


def told(url: str) -> Any:
    return json.loads(ask(url, "/truth")[1])


def events(body: bytes) -> list[Any]:
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert lines.pop() == b"[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("tls", [False, True])
def test_it_tells_when_it_sent_each_token(tls: bool) -> None:
    with truth(*(("--cert", ROOT / "reference/loopback.pem") if tls else ())) as url:
        before_ns = time.perf_counter_ns()
        _, body = ask(url, CHAT, chat_body(5, stream_options={"include_usage": True}))
        after_ns = time.perf_counter_ns()
        (request,) = told(url)["requests"]
    found = events(body)
    in_events = [int(each["sent_ns"]) for each in found if "sent_ns" in each]
    assert request["sent_ns"] == in_events and len(in_events) == 5
    assert {each["id"] for each in found} == {request["id"]}
    assert request["client_id"] == "mine"
    assert found[-1]["usage"]["completion_tokens"] == 5
    times = [before_ns, request["received_ns"], *in_events, request["ended_ns"], after_ns]
    assert times == sorted(times)
    assert request["is_stamped"] == (sys.platform == "linux")
    first_ms = (in_events[0] - request["received_ns"]) / 1e6
    assert TTFT_MS <= first_ms < TTFT_MS + 200
    for number, sent_ns in enumerate(in_events):  # never before its time
        assert sent_ns >= request["received_ns"] + (TTFT_MS + number * ITL_MS) * 1e6


def test_it_forgets_what_it_has_told() -> None:
    with truth() as url:
        ask(url, CHAT, chat_body(2))
        assert len(told(url)["requests"]) == 1
        assert told(url) == {"first_request_ns": None, "forgotten_requests": 0, "requests": []}


def test_it_tells_when_the_first_request_came() -> None:
    with truth() as url:
        before_ns = time.perf_counter_ns()
        status, models = ask(url, "/v1/models")
        ask(url, "/health")
        assert status == 200 and json.loads(models)["data"][0]["id"] == "truth"
        assert before_ns < told(url)["first_request_ns"] < time.perf_counter_ns()


def test_streams_go_together_as_in_a_batch() -> None:
    with truth("--spread", "together", "--itl-ms", 400) as url:
        for _ in range(2):
            time.sleep(0.03)
            ask(url, CHAT, chat_body(1))
        for request in told(url)["requests"]:  # on a step, and at most a step after it was asked
            assert request["sent_ns"][0] % 400_000_000 < 200_000_000
            first_ns = request["sent_ns"][0] - request["received_ns"]
            assert TTFT_MS <= first_ns / 1e6 < TTFT_MS + 400 + 200


def test_streams_are_spread_over_the_gap() -> None:
    with truth("--spread", "even", "--itl-ms", 1000) as url:
        for _ in range(4):
            ask(url, CHAT, chat_body(1))
        found = told(url)["requests"]
        first = sorted((each["sent_ns"][0] - each["received_ns"]) / 1e6 for each in found)
        gaps = [later - sooner for sooner, later in zip(first, first[1:], strict=False)]
        assert len(found) == 4 and min(gaps) > 60 and first[-1] < TTFT_MS + 1000 + 500


def test_an_answer_that_is_no_stream() -> None:
    with truth() as url:
        status, body = ask(url, CHAT, chat_body(3, stream=False))
        answer = json.loads(body)
    assert status == 200 and answer["usage"]["completion_tokens"] == 3
    assert len(answer["choices"][0]["message"]["content"].split()) == 3


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"x" * 20_000, 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", 400),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 18\r\n\r\n"
            + b'{"max_tokens": -1}',
            400,
        ),
    ],
)
def test_what_it_cannot_answer(sent: bytes, status: int) -> None:
    with truth() as url, raw(url) as sock:
        sock.sendall(sent)
        assert sock.recv(100).split()[1] == b"%d" % status


def test_two_requests_of_a_connection_one_after_the_other() -> None:
    body = chat_body(1)
    request = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
    with truth() as url, raw(url) as sock:
        sock.sendall(request + request[:30])
        time.sleep(0.1)
        sock.sendall(request[30:].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while data := sock.recv(1 << 16):
            received += data
        assert received.count(b"[DONE]") == 2 and len(told(url)["requests"]) == 2


def test_a_client_that_leaves_or_does_not_read_disturbs_no_other() -> None:
    body = chat_body(20_000)
    head = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body))
    with truth("--itl-ms", 0.01) as url:
        with raw(url) as gone, raw(url) as lazy:
            gone.sendall(head + body)
            gone.recv(10)
            gone.close()
            lazy.sendall(head + body)
            time.sleep(0.3)
            assert len(events(ask(url, CHAT, chat_body(3))[1])) == 5
            assert eventually(lambda: any(each["blocked"] for each in told(url)["requests"]))


def test_requests_without_end_cost_no_memory() -> None:
    body = chat_body(50_000)
    head = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body))
    with truth() as url, raw(url) as sock:
        sock.sendall(head + body)
        with pytest.raises(OSError):
            for _ in range(200):  # 200 MB behind a request that takes minutes
                sock.sendall(b"x" * (1 << 20))


@contextlib.contextmanager
def raw(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10) as sock:
        yield sock


def test_wrong_options_are_one_line() -> None:
    """Each names the option, and the file if there is one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for options, words in (
            (["--itl-ms", "-1"], "--itl-ms"),
            (["--spread", "odd"], "--spread"),
            (["--port", "99999"], "--port"),
            (["--port", str(taken.getsockname()[1])], "cannot listen on the port of --port"),
            (["--cert", "nowhere.pem"], "cannot use --cert nowhere.pem: No such file"),
            (["--cert", "README.md"], "cannot use --cert README.md"),
            (["--cpu", "99999"], "--cpu 99999"),
        ):
            command = [sys.executable, "-m", "reference.truth", *options]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
            assert done.returncode == 2 and "Traceback" not in done.stderr, options
            assert words in done.stderr.splitlines()[-1]
