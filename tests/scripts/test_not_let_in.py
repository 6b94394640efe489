"""Servers that do not let the scripts in, at the connection or by an answer; and what is no such
case: a refusal after something was served, of an origin, or of a role."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from helpers.fault_walk import SOUND_CASES
from helpers.hostile import CHAT, HEAD, Call, Server, error, first, good_stream, in_turn, response
from helpers.instrument import demanding
from helpers.raw_server import Peer, RawServer, answer
from helpers.scripts import Finished, run_script

KEY = "sk-given-key-0123456789"
MODELS = "/v1/models"
DENIED = error(403, "this key is not valid here", "invalid_api_key")
COMPLETION = response(
    200,
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "yes"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    content_type="application/json",
)
every_script = pytest.mark.parametrize("script", SOUND_CASES)


def run(script: str, url: str, *arguments: object) -> Finished:
    options = {"test_cors.py": ("--origin", "https://app.example")}.get(script, ())
    given = ("--url", url, "--token", KEY, "--timeout", 5, *options, *arguments)
    return run_script(script, *given)


def line_of(script: str, finished: Finished) -> str:
    """The one line of a script that could not check, and judged nothing."""
    assert finished.code == 3, finished.everything
    assert "FAIL" not in finished.out
    (line,) = [each for each in finished.err.splitlines() if each.startswith(f"{script}: ")]
    return line


# --- a client certificate


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def refuse(peer: Peer) -> None:
    while peer.request() is not None:
        peer.send(answer(b"{}", status="401 Unauthorized"))


@every_script
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_for_a_certificate_is_named_and_gets_the_one_that_is_given(
    script: str, version: ssl.TLSVersion, authority: trustme.CA
) -> None:
    leaf = authority.issue_cert("client.example")
    Path("client.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    with RawServer(refuse, tls=demanding(authority, version)) as server:
        without = run(script, server.url, "--no-verify-ssl")
        given = run(script, server.url, "--no-verify-ssl", "--cert", "client.pem")
    wanted = "(the server asks for a client certificate): give --cert FILE"
    assert wanted in line_of(script, without)
    assert "the API key was refused (401" in line_of(script, given)


def test_the_openai_package_shows_the_certificate_too(authority: trustme.CA) -> None:
    leaf = authority.issue_cert("client.example")
    Path("cert.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    Path("key.pem").write_bytes(leaf.private_key_pem.bytes())
    certificate = ("--cert", "cert.pem", "--cert-key", "key.pem", "--no-verify-ssl")
    tls = demanding(authority, ssl.TLSVersion.TLSv1_3)
    with Server(chat=COMPLETION, tls=tls) as server:
        finished = run("test_openai_sdk.py", server.url, *certificate, "--only", "completion")
    assert finished.check("openai_sdk_test", "completion")["status"] == "PASS"


def test_another_origin_is_not_shown_the_certificate(authority: trustme.CA) -> None:
    leaf = authority.issue_cert("client.example")
    Path("client.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    tls = demanding(authority, ssl.TLSVersion.TLSv1_2)
    given = ("--no-verify-ssl", "--cert", "client.pem", "--inference-only", "--requests", 1)
    with Server(tls=tls) as server, Server(tls=tls) as other:
        finished = run("benchmark.py", server.url, *given, "--direct-url", other.url)
    assert server.calls and not other.calls
    line = line_of("benchmark.py", finished)
    assert "(the server asks for a client certificate): that of --cert is for the origin" in line


# --- HTTP/2


SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"


@every_script
@pytest.mark.parametrize("frames", [SETTINGS + GOAWAY, GOAWAY], ids=["SETTINGS", "GOAWAY"])
def test_a_server_that_answers_with_frames_of_http_2_is_named(script: str, frames: bytes) -> None:
    def go(peer: Peer) -> None:
        peer.request()
        peer.send(frames)

    with RawServer(go) as server:
        line = line_of(script, run(script, server.url))
    assert f"{server.url} speaks HTTP/2 only" in line


# --- a 403 that is a verdict


def test_a_403_after_a_completion_was_served_is_a_failed_request() -> None:
    stream = HEAD + good_stream()
    with Server(chat=first(2, stream, DENIED)) as server:
        finished = run("benchmark.py", server.url, "--inference-only", "--requests", 3)
    check = finished.check("inference_c1", "requests")
    assert (finished.code, check["status"]) == (1, "FAIL")
    assert "403 this key is not valid here" in check["detail"]


def test_another_level_of_nothing_but_403_is_a_failure() -> None:
    stream = HEAD + good_stream()
    levels = ("--inference-only", "--requests", 2, "--concurrency", 1, 2)
    with Server(chat=first(3, stream, DENIED)) as server:
        finished = run("benchmark.py", server.url, *levels)
    assert finished.code == 1
    assert finished.check("inference_c1", "requests")["status"] == "PASS"
    assert finished.check("inference_c2", "requests")["status"] == "FAIL"


def test_a_key_that_may_not_list_models_may_be_good_for_completions() -> None:
    listing = error(403, "missing scope api.model.read")
    with Server(answers={MODELS: listing}) as server:
        named = run("benchmark.py", server.url, "--inference-only", "--model", "m")
        unnamed = run("benchmark.py", server.url, "--inference-only")
    assert named.code == 0
    assert "missing scope api.model.read" in line_of("benchmark.py", unnamed)


def test_one_health_endpoint_that_is_denied_is_a_failure() -> None:
    with Server(answers={"/ping": response(403, b"no")}) as server:
        finished = run("benchmark.py", server.url, "--gateway-only", "--requests", 2)
    assert finished.code == 1
    assert finished.check("gateway_overhead", "ping")["status"] == "FAIL"


def test_an_origin_that_is_refused_is_a_verdict_and_a_key_is_not() -> None:
    def of_origin(call: Call) -> None:
        refused = call.headers.get("origin") is not None
        call.send(response(403, b"Invalid CORS request") if refused else COMPLETION)

    with Server(chat=of_origin) as server:
        finished = run("test_cors.py", server.url)
    assert (finished.code, finished.check("cors", "answer")["status"]) == (1, "FAIL")
    with Server(chat=DENIED) as server:
        assert "(403 from " in line_of("test_cors.py", run("test_cors.py", server.url))


def test_a_deployment_that_refuses_everything_is_asked_for_little() -> None:
    with Server(everywhere=DENIED) as server:
        line = line_of("test_queue.py", run("test_queue.py", server.url))
    assert "this key is not valid here" in line
    assert server.count(CHAT) == 0


# --- a redirected health URL


def test_a_health_url_that_is_redirected_is_a_wrong_address() -> None:
    moved = response(301, b"", location="https://127.0.0.1:8443/ping")
    script = "test_scale_to_zero.py"
    with Server() as server, Server(everywhere=moved) as other:
        line = line_of(script, run(script, server.url, "--health-url", other.url))
    assert line.endswith("give --health-url https://127.0.0.1:8443/ping")
    assert [call.headers.get("authorization") for call in other.calls] == [None]


# --- the SDK's bad_request


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (error(400, "'messages' must be an array"), "PASS"),
        (error(422, "Input should be a valid list"), "PASS"),
        (error(400, "Bad Request"), "PASS"),
        (error(400, "Invalid API key"), "FAIL"),
        (error(400, "Permission denied"), "FAIL"),
        (error(400, "model m not found"), "FAIL"),
        (error(404, "not found"), "FAIL"),
        (error(415, "unsupported media type"), "FAIL"),
        (error(401, "who are you"), "FAIL"),
    ],
)
def test_a_bad_request_is_refused_for_its_mistake(refusal: bytes, status: str) -> None:
    def chat(call: Call) -> None:
        call.send(refusal if isinstance(call.fields["messages"], str) else COMPLETION)

    only = ("--only", "completion", "bad_request")
    with Server(chat=chat) as server:
        finished = run("test_openai_sdk.py", server.url, *only)
    assert finished.check("openai_sdk_test", "bad_request")["status"] == status


@pytest.mark.parametrize("served", [True, False])
def test_alone_it_is_asked_without_the_mistake_as_well(served: bool) -> None:
    refusal = error(400, "Bad Request")
    with Server(chat=in_turn(COMPLETION if served else refusal, refusal)) as server:
        finished = run("test_openai_sdk.py", server.url, "--only", "bad_request")
    check = finished.check("openai_sdk_test", "bad_request")
    assert (finished.code, check["status"]) == ((0, "PASS") if served else (3, "SKIP"))
    assert served or "so is the same request without the mistake" in check["detail"]
