"""forged_tokens.py: each forged token is what its name says, and no sound verifier accepts it."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from livecheck.fleet import forged_tokens
from livecheck.fleet.forged_tokens import Forged, Source
from livecheck.fleet.jwt import Jwt, from_base64url, read_jwt, segment
from livecheck.fleet.public_keys import key_forms
from reference import tokens

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key()
CLAIMS = {"sub": "ann", "roles": ["reader"], "exp": 4_000_000_000}
RSA_TOKEN = jwt.encode(CLAIMS, KEY, algorithm="RS256", headers={"kid": "one"})
SECRET = "k" * 32
HMAC_TOKEN = jwt.encode(CLAIMS, SECRET, algorithm="HS256")
GROUPS = ("signature", "payload", "alg_none", "hmac", "header")


def parsed(token: str) -> Jwt:
    found = read_jwt(token)
    assert found
    return found


def forged(token: str, group: str = "", other: str | None = None) -> list[Forged]:
    """All that is forged from a token, or one group of it."""
    found = forged_tokens.from_jwt(Source(parsed(token), parsed(other) if other else None))
    return [each for each in found if group in ("", each.group)]


def named(found: list[Forged], name: str) -> str:
    return next(each.token for each in found if each.name == name)


def is_accepted(token: str, key: Any, algorithm: str) -> bool:
    try:
        jwt.decode(token, key, algorithms=[algorithm])
    except jwt.InvalidTokenError:
        return False
    return True


@pytest.mark.parametrize(
    ("token", "key", "algorithm"), [(RSA_TOKEN, PUBLIC, "RS256"), (HMAC_TOKEN, SECRET, "HS256")]
)
def test_a_sound_verifier_accepts_the_token_and_nothing_that_is_forged_from_it(
    token: str, key: Any, algorithm: str
) -> None:
    assert is_accepted(token, key, algorithm)
    accepted = [each.name for each in forged(token) if is_accepted(each.token, key, algorithm)]
    assert accepted == []


@pytest.mark.parametrize("token", [RSA_TOKEN, HMAC_TOKEN])
def test_forged_tokens_have_names_of_their_own_and_a_rule_each(token: str) -> None:
    found = forged(token)
    assert {each.group for each in found} == set(GROUPS)
    assert len({each.token for each in found}) == len(found)
    assert len({(each.group, each.name) for each in found}) == len(found)
    assert all(each.rule.startswith("RFC ") for each in found)
    assert not [each for each in found if each.token in repr(each)]


def test_only_the_payload_group_edits_claims() -> None:
    for each in forged(RSA_TOKEN):
        kept = each.token.split(".")[1] == RSA_TOKEN.split(".")[1]
        assert kept == (each.group != "payload"), each.name


def test_the_payload_is_edited_as_the_name_says() -> None:
    found = {each.name: parsed(each.token).payload for each in forged(RSA_TOKEN, "payload")}
    assert found["roles raised to admin"]["roles"] == ["reader", "admin", "model:specific"]
    assert found["exp years later"]["exp"] > CLAIMS["exp"]
    assert found["another sub"]["sub"] == "admin"
    assert all(
        {**payload, "roles": 0, "exp": 0, "sub": 0} == {**CLAIMS, "roles": 0, "exp": 0, "sub": 0}
        for payload in found.values()
    )


@pytest.mark.parametrize(
    "claims", [{}, {"exp": 1e999, "roles": None}, {"exp": True, "roles": "a b"}]
)
def test_odd_claims_are_edited_too(claims: dict[str, Any]) -> None:
    token = f"{segment({'alg': 'RS256'})}.{segment(claims)}.AAAA"
    for each in forged(token, "payload"):
        assert json.loads(from_base64url(each.token.split(".")[1])) != claims


def test_a_signature_is_changed_in_its_bytes_not_in_its_padding_bits() -> None:
    own = parsed(RSA_TOKEN).signature
    for each in forged(RSA_TOKEN, "signature"):
        if each.token.count(".") == 2:
            assert parsed(each.token).signature != own, each.name


def test_a_second_token_lends_its_signature_and_its_payload() -> None:
    other = jwt.encode({**CLAIMS, "roles": ["admin"]}, KEY, algorithm="RS256")
    found = forged(RSA_TOKEN, "signature", other)
    assert named(found, "taken from another token").split(".")[2] == other.split(".")[2]
    assert named(found, "put under another token").split(".")[1] == other.split(".")[1]
    assert not any(is_accepted(each.token, PUBLIC, "RS256") for each in found)
    assert len(forged(RSA_TOKEN, "signature", RSA_TOKEN)) == len(found) - 2


def test_a_token_without_a_kid_is_not_sent_as_it_is() -> None:
    names = {each.name for each in forged(HMAC_TOKEN)}
    assert {"without kid", "alg none, without kid"}.isdisjoint(names)
    assert HMAC_TOKEN not in {each.token for each in forged(HMAC_TOKEN)}


def test_the_own_keys_signature_holds_under_the_key_that_the_token_brings() -> None:
    token = named(forged(HMAC_TOKEN), "jwk brings its own key")
    brought = jwt.PyJWK.from_dict(parsed(token).header["jwk"], algorithm="RS256").key
    assert is_accepted(token, brought, "RS256")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_an_hmac_holds_under_the_key_in_its_name() -> None:
    word = "your-256-bit-secret"
    found = forged(RSA_TOKEN, "hmac")
    assert is_accepted(named(found, f"the key '{word}'"), word, "HS256")
    own = forged(jwt.encode(CLAIMS, word, algorithm="HS512"), "hmac")
    assert is_accepted(named(own, f"the key '{word}'"), word, "HS512")


def test_the_highest_roles_are_in_what_is_sent_to_the_admin_api() -> None:
    edited, unsigned = forged_tokens.with_highest_roles(parsed(RSA_TOKEN))
    for each in (edited, unsigned):
        assert parsed(each.token).payload["roles"] == ["reader", "admin", "model:specific"]
    assert edited.token.split(".")[2] == RSA_TOKEN.split(".")[2]
    assert parsed(unsigned.token).header["alg"] == "none"


def test_a_token_is_signed_with_each_form_of_the_public_key() -> None:
    jwk = tokens.public_jwk(PUBLIC)
    made = forged_tokens.from_jwt(Source(parsed(RSA_TOKEN)), [jwk])
    found = {each.name: each.token for each in made if each.group == "hmac"}
    assert {f"the public key as PEM, {name}" for name in forged_tokens.OTHER_HASHES} < set(found)
    assert parsed(found["the public key as PEM, hs256"]).header["alg"] == "hs256"
    for form, secret in key_forms(jwk).items():
        message, _, signature = found[f"the public key as {form}"].rpartition(".")
        digest = hmac.new(secret, message.encode(), hashlib.sha256).digest()
        assert from_base64url(signature) == digest


def test_each_forged_key_is_nearly_the_key() -> None:
    found = forged_tokens.from_key("sk-aBc0")
    assert "SK-AbC0" in {each.token for each in found}
    assert "sk-aBc" in {each.token for each in found}
    assert not {"", "sk-aBc0"} & {each.token for each in found}
    assert {each.token for each in forged_tokens.from_key("0")} == {"00", "1"}


def test_headers_without_a_token_can_be_sent_and_end_no_line() -> None:
    found = [*forged_tokens.malformed_headers(), *forged_tokens.odd_headers()]
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert not set("\r\n") & set(each.token)
        each.token.encode("latin-1")
