"""A question and its answer as evidence: bounded, and nothing in it that lets anybody in."""

from __future__ import annotations

from livecheck.wire.answer import Answer
from livecheck.wire.request import Reply, Request
from livecheck.wire.shown_exchange import KEPT_BYTES, MAX_HEADERS, MAX_VALUE, NOT_KEPT

KEY = "sk-T0p-5ecret-0123456789"


def exchange_of(request: Request, body: bytes = b"", **headers: str) -> dict[str, object]:
    reply = Reply(0, request, t0_ns=1_000_000, end_ns=3_500_000, secret=KEY.encode())
    reply.message.status = 503
    reply.message.headers = [(name.replace("_", "-"), value) for name, value in headers.items()]
    reply.__dict__["body"] = reply.masked(body)
    return Answer(reply).exchange


def test_what_was_asked_and_answered() -> None:
    headers = {"Retry_After": "5", "Server": "nginx", "Set_Cookie": "a=b", "Etag": "x"}
    found = exchange_of(Request("POST", "/v1/x", b'{"a": 1}'), b"busy\nnow", **headers)
    assert (found["asked"], found["question"], found["answer"]) == (
        "POST /v1/x",
        '{"a": 1}',
        "busy\nnow",
    )
    assert (found["status"], found["spent_ms"]) == (503, 2.5)
    assert found["headers"] == {"retry-after": "5", "server": "nginx"}


def test_headers_that_hold_a_credential_have_only_their_name() -> None:
    secret = {"authorization": f"Bearer {KEY}", "x-api-key": "a false one", "cookie": "c"}
    request = Request("GET", "/", headers={**secret, "origin": "https://a.example", "accept": None})
    found = exchange_of(request)["sent_headers"]
    assert found == {
        "authorization": NOT_KEPT,
        "x-api-key": NOT_KEPT,
        "cookie": NOT_KEPT,
        "origin": "https://a.example",
        "accept": "(left out)",
    }


def test_the_credential_it_was_sent_with_is_masked_in_head_and_body() -> None:
    found = exchange_of(Request("GET", "/"), f"no {KEY}".encode(), X_Echo=KEY)
    assert KEY not in repr(found)


def test_whatever_comes_it_is_bounded() -> None:
    headers = {f"X-{number}": "v" * 9000 for number in range(1000)}
    found = exchange_of(Request("POST", "/", b"q" * 10**6), b"\xff" * 10**6, **headers)
    shown = found["headers"]
    assert isinstance(shown, dict) and len(shown) == MAX_HEADERS
    assert max(map(len, shown.values())) <= MAX_VALUE
    assert len(str(found["question"])) < 2100 and "left out" in str(found["question"])
    assert len(str(found["answer"])) <= 4 * KEPT_BYTES  # each byte that is no character is spelled
    assert found["answer_bytes"] == 10**6
