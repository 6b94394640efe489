"""The openai package as a bounded client: a hostile server costs its timeout, and no more.

The client is tried by the script that uses it, with the SDK's oldest and newest major.
"""

from __future__ import annotations

import gzip
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from helpers.hostile import HEAD, Call, Server, hang, response
from helpers.raw_server import Peer, RawServer, answer
from helpers.sdk import DOCUMENT, capable, completion, run_sdk

from livecheck.gateway.openai_client import Guard
from livecheck.wire.wire import Failure, Reply, Request


def test_a_guard_that_was_not_needed_leaves_no_trace() -> None:
    guard = Guard(0.05)
    first, second = (Reply(index, Request("POST", "/v1")) for index in range(2))
    with guard.watch(first):
        pass
    time.sleep(0.1)
    assert first.failure is None
    with guard.watch(second):
        time.sleep(0.1)
    assert second.failure == Failure("timeout", "not finished after 0.05 s")
    assert first.failure is None


def test_a_connection_that_ends_as_the_next_request_leaves_is_no_failure() -> None:
    """llama.cpp closes its connection after a stream without saying so before."""
    fields = completion({"max_tokens": 8})
    whole = answer(json.dumps(fields).encode(), "Content-Type: application/json")

    def once(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(whole)
            peer.request()  # taken, and never answered

    with RawServer(once) as server:
        finished = run_sdk(server.url, "--only", "completion", "seed")
    assert finished.code == 0, finished.out
    requests = finished.document(DOCUMENT)["requests"]
    assert [each["resent"] for each in requests] == [False, True, True, True]


# --- hostile servers


def trickle_head(call: Call) -> None:
    call.send(b"HTTP/1.1 200 OK\r\n", *[b"X-More: 1\r\n"] * 100, gap_s=0.2)


def trickle_body(call: Call) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    call.send(head, *[b" "] * 100, gap_s=0.2)


def comments(call: Call) -> None:
    call.send(HEAD, *[b": still here\n\n"] * 100, gap_s=0.2)


def bomb(call: Call) -> None:
    """64 MB of blanks in 64 KB."""
    body = gzip.compress(b" " * (64 << 20), 9)
    headers = {"content_type": "application/json", "content_encoding": "gzip"}
    call.send(response(200, body, **headers))


def deep(call: Call) -> None:
    body = b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    call.send(response(200, body, content_type="application/json"))


def redirect(call: Call) -> None:
    call.send(response(307, location="http://127.0.0.1:9/elsewhere"))


HOSTILE: dict[str, tuple[Callable[[Call], None], str, str]] = {
    "never": (hang, "completion", "timeout: not finished after 1 s"),
    "head": (trickle_head, "completion", "timeout: not finished after 1 s"),
    "body": (trickle_body, "completion", "timeout: not finished after 1 s"),
    "comments": (comments, "stream", "timeout: not finished after 1 s"),
    "bomb": (bomb, "completion", "flood: more than 32 MB"),
    "deep": (deep, "completion", "RecursionError"),
    "redirect": (redirect, "completion", "307 APIStatusError: redirect to http://127.0.0.1:9/else"),
}


@pytest.mark.parametrize(
    ("hostile", "major"),
    [*((name, 3) for name in HOSTILE), *((name, 1) for name in ("body", "bomb"))],
)
def test_a_hostile_server_costs_its_timeout_and_is_a_fail_with_a_reason(
    hostile: str, major: int
) -> None:
    chat, check, reason = HOSTILE[hostile]
    timeout_s = 10 if hostile in ("bomb", "deep") else 1
    with Server(chat=chat) as server:
        begun = time.monotonic()
        finished = run_sdk(
            server.url, "--only", check, "tools", "--timeout", timeout_s, major=major
        )
        spent_s = time.monotonic() - begun
    assert finished.code == 1
    found = finished.check(DOCUMENT, check)
    assert (found["status"], reason in found["detail"]) == ("FAIL", True), found
    assert spent_s < timeout_s + 8  # starting Python and the SDK on a busy machine included
    assert "Traceback" not in finished.everything


def test_tls_is_verified_unless_told_otherwise_and_bounded_as_well(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with Server(everywhere=capable, tls=tls) as server:
        strict = run_sdk(server.url, "--only", "completion")
        lenient = run_sdk(server.url, "--only", "completion", "stream", "--no-verify-ssl")
    assert (strict.code, lenient.code) == (3, 0)
    assert "--no-verify-ssl" in strict.err
    with Server(chat=trickle_body, tls=tls) as server:
        arguments = ("--only", "completion", "--no-verify-ssl", "--timeout", 1)
        hung = run_sdk(server.url, *arguments)
    assert "timeout: not finished after 1 s" in hung.check(DOCUMENT, "completion")["detail"]


def test_the_async_client_is_bounded_too() -> None:
    with Server(chat=trickle_body) as server:
        finished = run_sdk(server.url, "--only", "async", "--timeout", 1)
    assert "without stream: 200 timeout: not finished after 1 s" in finished.out
