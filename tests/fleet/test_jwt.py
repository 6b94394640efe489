"""jwt.py: tokens are read as they were sent, and put together byte by byte."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livecheck.fleet import forged_tokens
from livecheck.fleet.jwt import claims, from_base64url, read_jwt, segment, to_base64url

HEADER, PAYLOAD = {"alg": "RS256", "kid": "one"}, {"sub": "ann", "roles": ["reader"]}
SIGNATURE = b"\x00\xff signature"
TOKEN = f"{segment(HEADER)}.{segment(PAYLOAD)}.{to_base64url(SIGNATURE)}"


def test_a_token_is_read_into_its_parts() -> None:
    jwt = read_jwt(TOKEN)
    assert jwt
    assert (jwt.header, jwt.payload, jwt.signature) == (HEADER, PAYLOAD, SIGNATURE)
    assert f"{jwt.message}.{to_base64url(SIGNATURE)}" == TOKEN
    assert TOKEN.split(".")[2] not in repr(jwt)


@pytest.mark.parametrize(
    "token", ["", "sk-key", "a.b", "a.b.c", "e30.e30", "e30.W10.", "e30.e30.!"]
)
def test_what_is_not_a_signed_jwt_is_none(token: str) -> None:
    assert (read_jwt(token), claims(token)) == (None, None)


def test_one_part_is_replaced_and_the_others_stay_byte_by_byte() -> None:
    header, payload = (to_base64url(text) for text in (b'{ "alg": "RS256" }', b'{ "sub": "ann" }'))
    spaced = f"{header}.{payload}.AAAA"
    jwt = read_jwt(spaced)
    assert jwt
    first, second, third = spaced.split(".")
    assert jwt.with_signature(b"") == f"{first}.{second}."
    assert jwt.with_payload({"sub": "bob"}) == f"{first}.{segment({'sub': 'bob'})}.{third}"
    assert jwt.with_header({}, b"\0\0\0") == f"e30.{second}.{third}"


@given(st.binary())
def test_base64url_has_no_padding_and_is_read_with_and_without_it(data: bytes) -> None:
    text = to_base64url(data)
    assert "=" not in text
    assert from_base64url(text) == data
    assert from_base64url(base64.urlsafe_b64encode(data).decode().rstrip("=")) == data


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_any_text_is_read_as_a_token_or_as_none(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", f"{'[' * 3000}.e30.e30"):
        found = read_jwt(token)
        if found:
            forged_tokens.from_jwt(forged_tokens.Source(found))
