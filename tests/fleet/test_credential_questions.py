"""credential_questions.py: a credential is found in an answer in whatever form it is repeated."""

from __future__ import annotations

import base64

import pytest
from helpers.answers import answer_to
from helpers.hostile import response
from hypothesis import given
from hypothesis import strategies as st

from livecheck.fleet.api import RUNNERS
from livecheck.fleet.credential_questions import ABSENT, Exchange, Question, has_echo, has_piece
from livecheck.wire.wire import Request

SECRET = "sk/0123456789abcdefghijklmnopqrstuvwxyz"


def echoes(said: bytes, secret: str | None = SECRET, least: int = 8) -> bool:
    return has_echo(answer_to(Request("GET", "/", secret=secret), said), least)


@pytest.mark.parametrize(
    "said",
    [
        response(401, f"no such key: {SECRET}".encode()),
        response(401, f"no such key: {SECRET[5:35]}...".encode()),
        response(401, SECRET.upper().encode()),
        response(401, base64.b64encode(SECRET.encode())),
        response(401, SECRET.replace("/", "%2F").encode()),
        response(401, www_authenticate=f'Bearer error="{SECRET}"'),
        b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % each for each in SECRET.encode())
        + b"0\r\n\r\n",
    ],
)
def test_the_credential_is_found_in_head_and_body_whole_and_in_pieces(said: bytes) -> None:
    assert echoes(said)
    assert not echoes(said, secret="sk-another-key-of-the-same-length")


def test_short_pieces_and_short_credentials_are_no_echo() -> None:
    assert not echoes(response(401, SECRET[:20].encode()))
    assert not echoes(response(401, b"user"), secret="user")
    assert not echoes(response(401, b"user"), secret=None)
    assert echoes(response(401, b"username"), secret="username")
    assert not echoes(response(401, b"username"), secret="username", least=16)


@pytest.mark.parametrize(
    ("body", "is_let_in"), [(b'{"runners": []}', True), (b'{"ok": true}', False), (b"pong", False)]
)
def test_a_success_at_any_path_is_not_the_admin_api(body: bytes, is_let_in: bool) -> None:
    """Some servers answer 200 to whatever they do not know."""
    request = Request("GET", RUNNERS)
    question = Question("no_credentials", RUNNERS, request, allowed=ABSENT)
    exchange = Exchange(question, answer_to(request, response(200, body)))
    assert (exchange.is_accepted, exchange.is_refused) == (is_let_in, not is_let_in)


WORDS = st.text("abc", max_size=60)


@given(WORDS, st.integers(1, 30), st.sets(st.text("abc", min_size=30, max_size=30), max_size=3))
def test_a_piece_is_found_wherever_it_begins(text: str, size: int, whole: set[str]) -> None:
    sought = {each[:size] for each in whole}
    assert has_piece(text, sought, size) == any(each in text for each in sought)
    for each in sought:
        assert has_piece(text + each + text, sought, size)
