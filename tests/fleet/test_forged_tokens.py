"""forge.py: every variant is what its name says, and no sound verifier takes it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from livecheck.fleet import forged_tokens
from reference import tokens

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key()
CLAIMS = {"sub": "ann", "roles": ["reader"], "exp": 4_000_000_000}
RSA_TOKEN = jwt.encode(CLAIMS, KEY, algorithm="RS256", headers={"kid": "one"})
SECRET = "k" * 32
HMAC_TOKEN = jwt.encode(CLAIMS, SECRET, algorithm="HS256")
GROUPS = {
    "signature": forged_tokens.signature_variants,
    "payload": forged_tokens.payload_variants,
    "unsigned": forged_tokens.unsigned_variants,
    "hmac": forged_tokens.hmac_variants,
    "header": forged_tokens.header_variants,
}


def parsed(token: str) -> forged_tokens.Jwt:
    found = forged_tokens.read_jwt(token)
    assert found
    return found


def variants(token: str) -> list[forged_tokens.Variant]:
    return [each for make in GROUPS.values() for each in make(parsed(token))]


def named(found: list[forged_tokens.Variant], name: str) -> forged_tokens.Variant:
    return next(each for each in found if each.name == name)


def is_taken(token: str, key: Any, algorithm: str) -> bool:
    try:
        jwt.decode(token, key, algorithms=[algorithm])
    except jwt.InvalidTokenError:
        return False
    return True


@pytest.mark.parametrize(
    ("token", "key", "algorithm"), [(RSA_TOKEN, PUBLIC, "RS256"), (HMAC_TOKEN, SECRET, "HS256")]
)
def test_a_sound_verifier_takes_the_token_and_none_of_its_variants(
    token: str, key: Any, algorithm: str
) -> None:
    assert is_taken(token, key, algorithm)
    taken = [each.name for each in variants(token) if is_taken(each.token, key, algorithm)]
    assert taken == []


@pytest.mark.parametrize("token", [RSA_TOKEN, HMAC_TOKEN])
def test_variants_have_names_of_their_own_and_a_rule_each(token: str) -> None:
    found = variants(token)
    assert len({each.token for each in found}) == len(found)
    for make in GROUPS.values():
        names = [each.name for each in make(parsed(token))]
        assert len(set(names)) == len(names)
    assert all(each.basis.startswith("RFC ") for each in found)
    assert not [each for each in found if each.token in repr(each)]


def test_only_the_payload_group_edits_claims() -> None:
    for name, make in GROUPS.items():
        for each in make(parsed(RSA_TOKEN)):
            kept = each.token.split(".")[1] == RSA_TOKEN.split(".")[1]
            assert kept == (name != "payload"), each.name


def test_the_payload_is_edited_as_the_name_says() -> None:
    found = {
        each.name: parsed(each.token).payload
        for each in forged_tokens.payload_variants(parsed(RSA_TOKEN))
    }
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
    token = f"{forged_tokens.segment({'alg': 'RS256'})}.{forged_tokens.segment(claims)}.AAAA"
    for each in forged_tokens.payload_variants(parsed(token)):
        assert json.loads(forged_tokens.decode(each.token.split(".")[1])) != claims


def test_a_signature_is_changed_in_its_bytes_not_in_its_padding_bits() -> None:
    own = parsed(RSA_TOKEN).signature
    for each in forged_tokens.signature_variants(parsed(RSA_TOKEN)):
        if each.token.count(".") == 2:
            assert parsed(each.token).signature != own, each.name


def test_a_second_token_lends_its_signature_and_its_payload() -> None:
    other = jwt.encode({**CLAIMS, "roles": ["admin"]}, KEY, algorithm="RS256")
    found = forged_tokens.signature_variants(parsed(RSA_TOKEN), other)
    assert named(found, "from another token").token.split(".")[2] == other.split(".")[2]
    assert named(found, "under another token").token.split(".")[1] == other.split(".")[1]
    assert not any(is_taken(each.token, PUBLIC, "RS256") for each in found)
    assert len(forged_tokens.signature_variants(parsed(RSA_TOKEN), RSA_TOKEN)) == len(found) - 2


def test_the_own_keys_signature_holds_under_the_key_that_the_token_brings() -> None:
    token = named(
        forged_tokens.header_variants(parsed(HMAC_TOKEN)), "a key of its own in jwk"
    ).token
    brought = jwt.PyJWK.from_dict(parsed(token).header["jwk"], algorithm="RS256").key
    assert is_taken(token, brought, "RS256")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_an_hmac_holds_under_the_key_in_its_name() -> None:
    word = "your-256-bit-secret"
    found = forged_tokens.hmac_variants(parsed(RSA_TOKEN))
    assert is_taken(named(found, f"the key '{word}'").token, word, "HS256")
    own = forged_tokens.hmac_variants(parsed(jwt.encode(CLAIMS, word, algorithm="HS512")))
    assert is_taken(named(own, f"the key '{word}'").token, word, "HS512")


@pytest.mark.parametrize("bits", [1024, 2048, 3072])
def test_public_keys_are_written_as_openssl_writes_them(bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    forms = dict(forged_tokens.key_forms(tokens.public_jwk(key)))
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    spki, pkcs1 = (
        serialization.PublicFormat.SubjectPublicKeyInfo,
        serialization.PublicFormat.PKCS1,
    )
    assert forms["PEM"] == key.public_bytes(pem, spki)
    assert forms["PKCS#1 PEM"] == key.public_bytes(pem, pkcs1)
    assert forms["DER"] == key.public_bytes(der, spki)
    assert forms["PEM without its last newline"] + b"\n" == forms["PEM"]


KEYS = {
    **{f"P-{curve().key_size}": ec.generate_private_key(curve()).public_key() for curve in CURVES},
    "Ed25519": ed25519.Ed25519PrivateKey.generate().public_key(),
    "Ed448": ed448.Ed448PrivateKey.generate().public_key(),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_on_curves_are_written_as_openssl_writes_them(name: str) -> None:
    writer = jwt.algorithms.ECAlgorithm if name[0] == "P" else jwt.algorithms.OKPAlgorithm
    jwk = {**writer.to_jwk(KEYS[name], as_dict=True), "kid": "one"}
    assert forged_tokens.read_jwks(json.dumps({"keys": [jwk]}).encode()) == [jwk]
    forms = dict(forged_tokens.key_forms(jwk))
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    assert forms["PEM"] == KEYS[name].public_bytes(pem, info)
    assert forms["DER"] == KEYS[name].public_bytes(der, info)
    assert forms["PEM of Windows"].splitlines() == forms["PEM"].splitlines()
    assert forged_tokens.read_jwks(json.dumps({"keys": [{**jwk, "x": "A" * 200}]}).encode()) == []


def test_the_certificate_of_a_jwk_is_a_form_of_its_key() -> None:
    jwk = {**tokens.public_jwk(PUBLIC), "x5c": ["AAEC", "later"]}
    forms = dict(forged_tokens.key_forms(jwk))
    assert forms["its certificate"].splitlines()[1] == b"AAEC"
    for odd in (7, [], [7], ["!"], [""], None):
        assert "its certificate" not in dict(forged_tokens.key_forms({**jwk, "x5c": odd}))


def test_the_highest_roles_are_in_what_is_sent_to_the_admin_api() -> None:
    edited, unsigned = forged_tokens.highest_variants(parsed(RSA_TOKEN))
    for each in (edited, unsigned):
        assert parsed(each.token).payload["roles"] == ["reader", "admin", "model:specific"]
    assert edited.token.split(".")[2] == RSA_TOKEN.split(".")[2]
    assert parsed(unsigned.token).header["alg"] == "none"


def test_a_variant_is_signed_with_each_form_of_the_public_key() -> None:
    jwk = tokens.public_jwk(PUBLIC)
    found = {
        each.name: each.token for each in forged_tokens.hmac_variants(parsed(RSA_TOKEN), [jwk])
    }
    assert {f"the public key as PEM, {name}" for name in forged_tokens.OTHER_HASHES} < set(found)
    assert parsed(found["the public key as PEM, hs256"]).header["alg"] == "hs256"
    for form, secret in forged_tokens.key_forms(jwk):
        message, _, signature = found[f"the public key as {form}"].rpartition(".")
        digest = hmac.new(secret, message.encode(), hashlib.sha256).digest()
        assert forged_tokens.decode(signature) == digest


def test_the_key_of_the_tokens_kid_is_taken_from_a_jwks_or_all_that_can_be_read() -> None:
    jwk = tokens.public_jwk(PUBLIC)
    keys = [{"kty": "EC"}, {**jwk, "kid": "one"}, {**jwk, "kid": "two"}, {**jwk, "n": "!"}, 7]
    data = json.dumps({"keys": keys}).encode()
    assert [key["kid"] for key in forged_tokens.read_jwks(data, "two")] == ["two"]
    assert [key["kid"] for key in forged_tokens.read_jwks(data, "no")] == ["one", "two"]


def test_a_key_is_nearly_the_key_in_every_variant() -> None:
    found = forged_tokens.key_variants("sk-aBc0")
    assert "SK-AbC0" in {each.token for each in found}
    assert "sk-aBc" in {each.token for each in found}
    assert not {"", "sk-aBc0"} & {each.token for each in found}
    assert [each.token for each in forged_tokens.key_variants("0")] == ["00", "1"]


def test_headers_without_a_token_can_be_sent_and_end_no_line() -> None:
    found = [*forged_tokens.malformed_headers(), *forged_tokens.odd_headers()]
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert not set("\r\n") & set(each.token)
        each.token.encode("latin-1")


@given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_any_text_is_read_as_a_token_or_as_none(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", f"{'[' * 3000}.e30.e30"):
        found = forged_tokens.read_jwt(token)
        if found:
            variants(token)


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps({"keys": value}).encode()
    )
)
def test_any_bytes_are_read_as_a_jwks_or_as_none(data: bytes) -> None:
    assert forged_tokens.read_jwks(data) == []
