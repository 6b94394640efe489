"""redaction.py: no piece of a credential survives, and what is no credential does."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.core.redaction import Secrets

JWTS = [f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIi{name}.5ignature{name}" for name in ("Ann", "Bob", "Ann2")]


FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "quoted": lambda secret: quote(secret, safe=""),
    "quoted path": quote,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON of PHP": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "inside": lambda secret: f"Bearer {secret}.",
}
TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=4, max_size=60)


@pytest.mark.parametrize("form", FORMS)
@given(secret=TOKENS, before=st.text(max_size=5), after=st.text(max_size=5))
@settings(max_examples=100, deadline=None, database=None)
def test_no_form_of_a_secret_survives(form: str, secret: str, before: str, after: str) -> None:
    secrets = Secrets()
    assert secrets.add(secret) == secret
    text = FORMS[form](secret)
    assert "[redacted]" in secrets.redact(f"{before}{text}{after}")
    assert secrets.redact(text) in (FORMS[form]("[redacted]"), "[redacted]", "Bearer [redacted].")


@given(st.lists(TOKENS, min_size=1, max_size=3), st.text(max_size=40))
@settings(max_examples=100, deadline=None, database=None)
def test_text_without_secrets_is_left_alone(tokens: list[str], text: str) -> None:
    secrets = Secrets()
    for each in tokens:
        secrets.add(each)
    hidden = secrets._pieces | secrets._wholes | secrets._short
    if not any(piece in text.lower() or piece in text for piece in hidden):
        assert secrets.redact(text) == text


@pytest.mark.parametrize("jwt", JWTS)
@pytest.mark.parametrize("length", [12, 30, 40, None])
def test_a_cut_off_token_is_redacted_though_others_begin_alike(
    jwt: str, length: int | None
) -> None:
    secrets = Secrets()
    for each in JWTS:
        secrets.add(each)
    assert secrets.redact(f"bad token {jwt[:length]}") == "bad token [redacted]"


def test_every_occurrence_is_redacted() -> None:
    secrets = Secrets()
    secrets.add("5ecret-5ecret-5ecret")
    text = "5ecret-5ecret-5ecret"
    assert "5ecret" not in secrets.redact(f"{text}{text[:14]} {text}")


def test_a_string_too_short_to_hide_is_left_alone() -> None:
    secrets = Secrets()
    secrets.add("abc")
    assert secrets.redact("abcdef") == "abcdef"


LONG = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQZmFrZXBheWxvYWQ.c2lnbmF0dXJlLW9mLWFsbC10aGlz"


@pytest.mark.parametrize("piece", [LONG[:40], LONG[30:60], LONG[-16:], LONG[21:33], LONG.lower()])
def test_a_piece_of_a_long_secret_is_redacted(piece: str) -> None:
    secrets = Secrets()
    secrets.add(LONG)
    assert secrets.redact(f"Bad token *{piece}, sorry") == "Bad token *[redacted], sorry"


def test_a_forged_half_does_not_leave_the_other_half_of_the_key() -> None:
    secrets = Secrets()
    for key in ("sk-01234567", "sk-0123456789abcdef"):
        secrets.add(key)
    assert secrets.redact("Bad key sk-0123456789abcd!") == "Bad key [redacted]!"


def test_a_secret_in_base64_is_redacted() -> None:
    secrets = Secrets()
    secrets.add(LONG)
    text = base64.b64encode(LONG.encode()).decode()
    assert secrets.redact(f"Bad token {text}").rstrip("=") == "Bad token [redacted]"


KEY = "sk-9fQ2/Zx+7bLm&Tr"


@pytest.mark.parametrize("length", range(8, len(KEY) + 1))
@pytest.mark.parametrize("form", FORMS)
def test_every_piece_of_eight_characters_is_redacted(form: str, length: int) -> None:
    secrets = Secrets()
    secrets.add(KEY)
    text = FORMS[form](KEY).removeprefix("Bearer ").removesuffix(".")
    for at in range(len(text) - length + 1):
        assert secrets.redact(f"<{text[at : at + length]}>") == "<[redacted]>"


@pytest.mark.parametrize("name", ["", "a:", "ab:", "user:"])
def test_a_secret_in_base64_behind_a_name_is_redacted(name: str) -> None:
    secrets = Secrets()
    secrets.add(KEY)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        left = secrets.redact(encode(f"{name}{KEY}".encode()).decode()).replace("[redacted]", "")
        assert len(left.rstrip("=")) <= 8 + len(name)


@pytest.mark.parametrize("text", ["local-model", "24 requests in inference_c4", "invalid_api_key"])
def test_ordinary_words_are_left_though_a_credential_has_them_in_it(text: str) -> None:
    secrets = Secrets()
    for key in ("local-model-key", "my-requests-inference_c-key", "invalid_api_key-1"):
        secrets.add(key)
    assert secrets.redact(text) == text
    assert secrets.redact("the local-model-key") == "the [redacted]"
    assert secrets.redact("...l-model-key") == "...[redacted]"


def test_what_the_operator_gave_as_the_url_is_no_secret() -> None:
    secrets = Secrets(["https://llm-gateway.example", "https://host/sk-whole-of-it"])
    secrets.add("llm-gateway-key-7")
    secrets.add("sk-whole-of-it")
    assert secrets.redact("https://llm-gateway.example") == "https://llm-gateway.example"
    assert secrets.redact("https://host/sk-whole-of-it") == "https://host/[redacted]"


def test_two_hundred_long_tokens_and_a_text_of_one_megabyte_take_little_time() -> None:
    secrets = Secrets()
    for number in range(200):
        secrets.add(f"eyJhbGciOiJIUzI1NiJ9.{'payload' * 90}.{number:0300}")
    assert secrets.redact("word " * 200_000) == "word " * 200_000
