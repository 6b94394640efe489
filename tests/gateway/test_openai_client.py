"""The openai package as a bounded client: a hostile server costs its timeout, and no more.

The client is tried by the script that uses it, with the SDK's oldest and newest major.
"""

from __future__ import annotations

import gzip
import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from helpers.hostile import HEAD, Call, Server, delta, hang, response
from helpers.instrument import IS_LINUX, server_context
from helpers.raw_server import Peer, RawServer, answer
from helpers.sdk import DOCUMENT, capable, completion, run_sdk, sdk_folder

from livecheck.gateway.sdk_guard import Guard
from livecheck.wire.wire import Failure, Reply, Request, Target
from reference.faults import dead_addresses


def test_a_guard_that_was_not_needed_leaves_no_trace() -> None:
    guard = Guard(Target("http://127.0.0.1"), 0.05)
    first, second = (Reply(index, Request("POST", "/v1")) for index in range(2))
    assert guard.run(first, lambda: None)
    time.sleep(0.1)
    assert first.failure is None
    assert guard.run(second, lambda: time.sleep(0.1))
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
    body = b'{"choices": ' + b"[" * 15_000 + b"]" * 15_000 + b"}"
    call.send(response(200, body, content_type="application/json"))


def brackets(call: Call) -> None:
    """The SDK would make 2 KB of each, in 0.1 ms."""
    body = b'{"choices": [' + b"{}," * 300_000 + b"{}]}"
    call.send(response(200, body, content_type="application/json"))


def nested(call: Call) -> None:
    """64 MB of blanks in a few hundred bytes."""
    body = gzip.compress(gzip.compress(b" " * (64 << 20), 9), 9)
    headers = {"content_type": "application/json", "content_encoding": "gzip, gzip"}
    call.send(response(200, body, **headers))


def events(call: Call) -> None:
    call.send(HEAD, *[delta("x") * 1000] * 1000)


def slow_charset(call: Call) -> None:
    """Python takes hours for this, without a look at a signal."""
    body = b"a" * 1_000_000 + b"-" + b"b" * 1000
    call.send(response(500, body, content_type="text/plain; charset=punycode"))


def redirect(call: Call) -> None:
    call.send(response(307, location="http://127.0.0.1:9/elsewhere"))


HOSTILE: dict[str, tuple[Callable[[Call], None], str, str]] = {
    "never": (hang, "completion", "timeout: not finished after 1 s"),
    "head": (trickle_head, "completion", "timeout: not finished after 1 s"),
    "body": (trickle_body, "completion", "timeout: not finished after 1 s"),
    "comments": (comments, "stream", "timeout: not finished after 1 s"),
    "bomb": (bomb, "completion", "flood: more than 1 MB"),
    "deep": (deep, "completion", "that the SDK can read: Content-Type application"),
    "brackets": (brackets, "completion", "flood: more than 20000 objects and lists"),
    "nested": (nested, "completion", "Content-Encoding gzip, gzip: the body is compressed several"),
    "events": (events, "stream", "flood: more than 1.06 MB"),
    "slow charset": (slow_charset, "completion", "500 InternalServerError"),
    "redirect": (redirect, "completion", "307 APIStatusError: redirect to http://127.0.0.1:9/else"),
}


@pytest.mark.parametrize(
    ("hostile", "major"),
    [
        *((name, 3) for name in HOSTILE),
        *((name, 1) for name in ("body", "bomb", "nested", "brackets", "events")),
    ],
)
def test_a_hostile_server_costs_its_timeout_and_is_a_fail_with_a_reason(
    hostile: str, major: int
) -> None:
    chat, check, reason = HOSTILE[hostile]
    timeout_s = 1 if "timeout" in reason else 20
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


def test_the_sdk_trusts_a_private_authority_as_the_wire_does(tmp_path: Path) -> None:
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(file))
    only = ("--only", "completion", "async")
    with Server(everywhere=capable, tls=tls) as server:
        option = run_sdk(server.url, *only, "--ca-file", file)
        variable = run_sdk(server.url, *only, env={"SSL_CERT_FILE": str(file)})
    assert (option.code, variable.code) == (0, 0)


def test_the_async_client_is_bounded_too() -> None:
    with Server(chat=trickle_body) as server:
        finished = run_sdk(server.url, "--only", "async", "--timeout", 1)
    assert "without stream: 200 timeout: not finished after 1 s" in finished.out


# --- names with several addresses


@pytest.mark.skipif(not IS_LINUX, reason="127.0.0.2 is an address of Linux alone")
@pytest.mark.parametrize("major", [1, 3])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_address_is_a_warning_and_not_the_servers_failure(
    scheme: str, major: int, tmp_path: Path
) -> None:
    """The SDK waits for it on every connection; here its requests go to the one that answers."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = server_context(authority.issue_cert("model.test")) if scheme == "https" else None
    folders = [sdk_folder(major), dead_addresses.NAMES]
    environment = {
        "REFERENCE_NAMES": "model.test=127.0.0.2,127.0.0.1",
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }
    with Server(everywhere=capable, tls=tls) as server:
        port = int(server.url.rpartition(":")[2])
        dead_addresses.do_not_answer("127.0.0.2", port)
        checks = (
            "--only",
            *"completion stream async addresses".split(),
            "--ca-file",
            tmp_path / "ca.pem",
        )
        url = f"{scheme}://model.test:{port}"
        finished = run_sdk(url, *checks, "--timeout", 20, env=environment)
    assert finished.code == 0, finished.everything
    found = {each["name"]: each for each in finished.document(DOCUMENT)["checks"]}
    assert found.pop("addresses")["status"] == "WARN"
    assert {each["status"] for each in found.values()} == {"PASS"}
    assert finished.document(DOCUMENT)["duration_s"] < 8
    assert {call.headers["host"] for call in server.calls} == {f"model.test:{port}"}
