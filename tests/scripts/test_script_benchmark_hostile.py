"""benchmark.py against servers that cannot be checked, are hostile, or want the credential."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time

import pytest
import trustme
from helpers.bench import KEY, SPARE_S, SUMMARY, bench, detail, level, quick, status
from helpers.hostile import (
    CHAT,
    DONE,
    HEAD,
    Answer,
    Call,
    Server,
    delta,
    error,
    event,
    first,
    good_stream,
    hang,
    in_turn,
    response,
    usage,
)
from helpers.scripts import Finished

from reference import Deployment

# --- could not check: exit 3


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def assert_undecided(finished: Finished, hint: str, name: str = "inference_c1") -> None:
    """Exit 3, one line that says what to do next, and a saved document that says the same."""
    assert finished.code == 3
    said = [line for line in finished.err.splitlines() if line.startswith("benchmark.py: ")]
    assert len(said) == 1 and hint in said[0]
    document = finished.document(name)
    assert (document["verdict"], document["exit_code"]) == ("undecided", 3)
    assert hint in document["error"]
    assert json.loads(finished.out) == document


@pytest.mark.parametrize("part", ["--inference-only", "--gateway-only"])
def test_a_refused_connection_is_exit_3(part: str) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    finished = bench(url, part, "--output", "json")
    name = "gateway_overhead" if part == "--gateway-only" else "inference_c1"
    assert_undecided(finished, "connection refused", name)
    assert "try --url" in finished.err and url in finished.err


def test_an_unknown_host_is_exit_3() -> None:
    finished = bench("http://no-such-host.invalid", "--inference-only", "--output", "json")
    assert_undecided(finished, "unknown host no-such-host.invalid")


def test_a_self_signed_certificate_is_exit_3_unless_verification_is_off(
    self_signed: ssl.SSLContext,
) -> None:
    with Server(tls=self_signed) as server:
        assert_undecided(quick(server, "--output", "json", "--api-key", KEY), "--no-verify-ssl")
        accepted = quick(server, "--no-verify-ssl", "--api-key", KEY)
    assert accepted.code == 0
    assert level(accepted)["metrics"]["tls_ms"]["n"] == 2
    assert re.search(r"^  TLS \[ms\] +2 ", accepted.out, re.MULTILINE)
    assert server.count() == 3, "nothing was sent where the certificate was refused"


def test_a_plain_http_port_addressed_as_https_is_exit_3(sim: Deployment) -> None:
    finished = quick(sim.url.replace("http:", "https:"), "--output", "json")
    assert_undecided(finished, "try an http:// URL")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [((), "an API key is needed"), (("--api-key", KEY), "the API key was refused")],
    ids=["no key", "wrong key"],
)
def test_a_401_is_exit_3(sim: Deployment, arguments: tuple[str, ...], hint: str) -> None:
    finished = bench(sim.url, "--output", "json", *arguments)
    assert_undecided(finished, hint)
    assert "INFERENCE_API_KEY" in finished.err
    assert KEY not in finished.everything


def test_a_401_from_the_completions_alone_is_exit_3() -> None:
    with Server(chat=error(401, "who are you?", "invalid_api_key")) as server:
        finished = quick(server, "--output", "json", "--api-key", KEY)
    assert_undecided(finished, "the API key was refused")
    assert server.count() == 1


def test_another_level_is_not_left_to_be_believed(sim: Deployment) -> None:
    """An older result of the same name does not outlive a run that came to nothing."""
    assert quick(sim).code == 0
    assert level(quick(f"http://127.0.0.1:{unused_port()}"))["verdict"] == "undecided"


# --- hostile servers: exit 1, in time, no traceback, no key


def endless(call: Call) -> None:
    call.send(HEAD)
    while not call.over.is_set():
        call.send(delta("x"), gap_s=0.01)


def flood(call: Call) -> None:
    call.send(HEAD)
    piece = delta("x") * 10_000
    while not call.over.is_set():
        call.send(piece)


def stall(call: Call) -> None:
    call.send(HEAD + delta() + delta("x"))
    call.wait()


def drip(call: Call) -> None:
    """A head that never ends, a byte at a time: no silence to notice."""
    call.send(b"HTTP/1.1 200 OK\r\n")
    while not call.over.is_set():
        call.send(b"x", gap_s=0.05)


def reset(call: Call) -> None:
    call.send(HEAD + delta("x"))
    call.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


LONG = HEAD.replace(b"Connection: close", b"Content-Length: 1000000")
SHORT = HEAD.replace(b"Connection: close", b"Content-Length: 60")
NOT_UTF8 = delta("@@").replace(b"@@", b"\xc3\x28\xff")
HUGE_LINE = b'data: {"choices": [{"delta": {"content": "' + b"x" * (10 << 20) + b"\n\n"

HOSTILE: dict[str, tuple[Answer, str]] = {  # what the server does, the kind of error
    "never answers": (hang, "timeout"),
    "stalls": (stall, "timeout"),
    "endless stream": (endless, "timeout"),
    "endless head": (drip, "timeout"),
    "flood": (flood, "flood"),
    "10 MB line": (HEAD + delta("x") + HUGE_LINE + DONE, "flood"),
    "invalid UTF-8": (HEAD + NOT_UTF8 + delta(reason="stop") + DONE, "malformed"),
    "invalid JSON": (HEAD + delta("x") + b"data: {oops\n\n" + good_stream(), "malformed"),
    "deep JSON": (HEAD + b"data: " + b"[" * 100_000 + b"\n\n" + good_stream(), "malformed"),
    "no object": (HEAD + b"data: 7\n\n" + good_stream(), "malformed"),
    "Content-Length too long": (LONG + good_stream(), "truncated"),
    "Content-Length too short": (SHORT + good_stream(), "truncated"),
    "Content-Length no number": (LONG.replace(b"1000000", b"many") + good_stream(), "malformed"),
    "bad chunk": (
        HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked") + b"zz\r\nhello",
        "malformed",
    ),
    "HTML with 200": (response(200, b"<html>welcome", content_type="text/html"), "malformed"),
    "empty 200": (response(200), "malformed"),
    "closes at once": (b"", "truncated"),
    "half a head": (b"HTTP/1.1 200 O", "truncated"),
    "garbage": (b"\x00\xff\x16garbage" * 100, "malformed"),
    "huge head": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "malformed"),
    "interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "truncated"),
    "connection reset": (reset, "truncated"),
    "cut off": (HEAD + delta("x") + delta("y"), "truncated"),
    "no finish_reason": (HEAD + delta("x") + usage(1) + DONE, "truncated"),
    "no output": (HEAD + delta() + delta(reason="stop") + DONE, "empty"),
    "error event": (HEAD + delta("x") + event({"error": {"message": "oom"}}), "stream_error"),
    "switches protocols": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "truncated"),
    "204": (response(204), "2xx"),
}


def failed_kinds(finished: Finished) -> set[str]:
    """The kinds of error in the records; of the warm-up's when nothing further was sent."""
    document = level(finished)
    warmup = re.search(r"warm-up requests failed: (\w+)", detail(finished, "requests"))
    return {each["error"] for each in document["requests"]} | ({warmup[1]} if warmup else set())


@pytest.mark.parametrize(("answer", "kind"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_server_is_a_failure_in_time(answer: Answer, kind: str) -> None:
    timeout_s = 1.5 if kind == "timeout" else 6
    with Server(chat=answer) as server:
        started = time.monotonic()
        finished = quick(server, "--timeout", timeout_s, "--api-key", KEY)
        spent_s = time.monotonic() - started
    assert finished.code == 1
    assert status(finished, "requests") == "FAIL"
    assert failed_kinds(finished) == {kind}
    assert level(finished)["metrics"]["ttft_ms"] == dict.fromkeys(SUMMARY, None) | {"n": 0}
    assert KEY not in finished.everything
    assert spent_s < timeout_s + SPARE_S


@pytest.mark.parametrize("name", ["never answers", "flood", "garbage"])
def test_a_server_that_is_hostile_everywhere_is_a_failure_in_time(name: str) -> None:
    with Server(everywhere=HOSTILE[name][0]) as server:
        started = time.monotonic()
        finished = bench(server, "--requests", 2, "--timeout", 2, "--api-key", KEY)
        spent_s = time.monotonic() - started
    assert finished.code == 1
    found = {check["name"]: check["status"] for check in level(finished)["checks"]}
    assert found["ping"] == found["health"] == found["requests"] == "FAIL"
    assert spent_s < 2 + SPARE_S


def test_where_every_connection_is_closed_at_once_there_is_nothing_to_check() -> None:
    with Server(everywhere=HOSTILE["closes at once"][0]) as server:
        finished = bench(server, "--requests", 2, "--timeout", 2)
    assert finished.code == 3
    assert "does it speak HTTP there" in finished.err


@pytest.mark.parametrize("where", ["message", "location"])
def test_control_characters_of_a_server_do_not_reach_the_terminal(where: str) -> None:
    red = "\x1b[31mred\x07"
    answer = error(500, red) if where == "message" else response(302, b"", location=red)
    with Server(chat=answer) as server:
        finished = quick(server, "--verbose")
    assert finished.code == 1
    shown = (finished.out + finished.err).replace("\n", "")
    assert [character for character in shown if not character.isprintable()] == []


def test_a_gateway_that_goes_silent_after_the_first_contact_ends_in_time() -> None:
    ok = response(200)
    silent = {"/ping": first(1, ok, hang), "/health": first(1, ok, hang)}
    with Server(answers=silent) as server:
        finished = bench(server, "--gateway-only", "--warmup", 0, "--timeout", 1)
    assert finished.code == 1
    assert server.count("/ping") == server.count("/health") == 2


def failures() -> list[tuple[str, Answer]]:
    """One answer for each kind of error that a request can end with."""
    kinds = ("timeout", "truncated", "malformed", "empty", "stream_error", "flood")
    answers = {kind: answer for answer, kind in reversed(HOSTILE.values()) if kind in kinds}
    pairs = [(kind, answers[kind]) for kind in kinds]
    statuses = {"4xx": 404, "503": 503, "5xx": 502, "3xx": 304}
    return pairs + [(kind, error(code, f"said {code}")) for kind, code in statuses.items()]


def test_every_kind_of_error_is_shown_and_in_no_percentile() -> None:
    good = HEAD + good_stream(3)
    answers = [answer for _, answer in failures()]
    with Server(chat=in_turn(good, good, *answers, good)) as server:
        finished = quick(server, "--requests", 12, "--timeout", 4)
    assert finished.code == 1
    document = level(finished)
    figures = document["metrics"]
    assert figures["errors"] == {kind: 1 for kind, _ in failures()}
    assert (figures["requests"], figures["succeeded"]) == (12, 2)
    assert figures["error_rate"] == pytest.approx(10 / 12, abs=1e-6)
    for key in ("ttft_ms", "e2e_ms", "output_tokens"):
        assert figures[key]["n"] == 2
    assert figures["itl_ms"]["n"] == 0  # each answer came in one arrival
    shown = " ".join(finished.out.split())
    for kind, _ in failures():
        assert f"{kind} x1" in shown
    assert "10 of 12 failed" in detail(finished, "requests")


# --- the credential


def echo(call: Call) -> None:
    call.send(error(500, "you sent " + call.headers.get("authorization", "nothing")))


def echo_at_the_cut(call: Call) -> None:
    """Whoever shortens the text before the key is taken out shows half of it."""
    call.send(error(500, "y" * 130 + call.headers.get("authorization", "")))


def echo_escaped(call: Call) -> None:
    key = "".join(f"\\u{ord(each):04x}" for each in call.headers.get("authorization", ""))
    body = b'{"error": {"message": "%s"}}' % key.encode()
    call.send(response(500, body, content_type="application/json"))


def echo_in_stream(call: Call) -> None:
    key = call.headers.get("authorization", "")
    call.send(HEAD + delta(key) + event({"error": {"message": key}, "choices": []}) + DONE)


def echo_as_event(call: Call) -> None:
    call.send(HEAD + b"data: " + call.headers.get("authorization", "").encode() + b"\n\n")


def echo_in_headers(call: Call) -> None:
    key = call.headers.get("authorization", "")
    call.send(response(307, b"", location=f"http://127.0.0.1:9/?k={key}", retry_after=key))


def echo_everywhere(call: Call) -> None:
    key = call.headers.get("authorization", "")
    body = {"data": [{"id": key}], key: key, "error": {"message": key, "code": key}}
    call.send(response(200, body, server=key, content_type=key, via=key))


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (echo, "text"),
        (echo_at_the_cut, "text"),
        (echo_escaped, "text"),
        (echo_in_stream, "text"),
        (echo_in_stream, "json"),
        (echo_as_event, "text"),
        (echo_in_headers, "text"),
        (echo_everywhere, "json"),
    ],
)
def test_a_server_that_echoes_the_key_does_not_get_it_into_any_output(
    answer: Answer, output: str
) -> None:
    with Server(chat=answer, answers={"/v1/models": echo_everywhere}) as server:
        finished = quick(server, "--api-key", KEY, "--debug", "--output", output)
    assert finished.code == 1
    assert server.to(CHAT)[0].headers["authorization"] == f"Bearer {KEY}"
    for part in (KEY, KEY[:12]):
        assert part not in finished.everything


@pytest.mark.parametrize("code", [301, 307])
def test_a_redirect_is_a_failure_that_names_the_target_and_is_not_followed(code: int) -> None:
    with Server() as other:
        target = f"{other.url}/elsewhere"
        away = response(code, b"", location=target)
        with Server(chat=away, answers={"/ping": away}) as server:
            finished = bench(server, "--requests", 2, "--api-key", KEY)
    assert finished.code == 1
    for check in ("ping", "requests"):
        assert status(finished, check) == "FAIL"
        assert f"{code} redirect to {target}" in detail(finished, check)
    assert status(finished, "health") == "PASS"
    assert level(finished)["metrics"]["errors"] == {"3xx": 2}
    assert other.connections == 0, "nothing, and no key, went to the other server"


def test_the_key_goes_to_the_target_only_in_its_header() -> None:
    with Server() as server:
        finished = bench(server, "--requests", 2, "--api-key", KEY)
    assert finished.code == 0
    assert all(KEY not in call.path and KEY.encode() not in call.body for call in server.calls)
    assert KEY not in finished.everything
