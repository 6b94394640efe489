"""public_keys.py: keys are read from a JWKS, and written as openssl writes them."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from livecheck.fleet.public_keys import MOST_KEYS, is_same_host, key_forms, read_jwks
from reference import tokens

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
PUBLIC = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
INFO = serialization.PublicFormat.SubjectPublicKeyInfo
PKCS1 = serialization.PublicFormat.PKCS1
KEYS = {
    **{f"P-{curve().key_size}": ec.generate_private_key(curve()).public_key() for curve in CURVES},
    "Ed25519": ed25519.Ed25519PrivateKey.generate().public_key(),
    "Ed448": ed448.Ed448PrivateKey.generate().public_key(),
}


@pytest.mark.parametrize("bits", [1024, 2048, 3072])
def test_public_keys_are_written_as_openssl_writes_them(bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    forms = key_forms(tokens.public_jwk(key))
    assert next(iter(forms)) == "PEM"
    assert forms["PEM"] == key.public_bytes(PEM, INFO)
    assert forms["PKCS#1 PEM"] == key.public_bytes(PEM, PKCS1)
    assert forms["DER"] == key.public_bytes(DER, INFO)
    assert forms["PEM without its last newline"] + b"\n" == forms["PEM"]


@pytest.mark.parametrize("name", KEYS)
def test_keys_on_curves_are_written_as_openssl_writes_them(name: str) -> None:
    writer = jwt.algorithms.ECAlgorithm if name[0] == "P" else jwt.algorithms.OKPAlgorithm
    jwk = {**writer.to_jwk(KEYS[name], as_dict=True), "kid": "one"}
    assert read_jwks(json.dumps({"keys": [jwk]}).encode()) == [jwk]
    forms = key_forms(jwk)
    assert forms["PEM"] == KEYS[name].public_bytes(PEM, INFO)
    assert forms["DER"] == KEYS[name].public_bytes(DER, INFO)
    assert forms["PEM of Windows"].splitlines() == forms["PEM"].splitlines()
    assert read_jwks(json.dumps({"keys": [{**jwk, "x": "A" * 200}]}).encode()) == []


def test_the_certificate_of_a_jwk_is_a_form_of_its_key() -> None:
    jwk = {**tokens.public_jwk(PUBLIC), "x5c": ["AAEC", "later"]}
    assert key_forms(jwk)["its certificate"].splitlines()[1] == b"AAEC"
    for odd in (7, [], [7], ["!"], [""], None):
        assert "its certificate" not in key_forms({**jwk, "x5c": odd})


def test_the_key_of_the_tokens_kid_is_taken_from_a_jwks_or_all_that_can_be_read() -> None:
    jwk = tokens.public_jwk(PUBLIC)
    keys = [{"kty": "EC"}, {**jwk, "kid": "one"}, {**jwk, "kid": "two"}, {**jwk, "n": "!"}, 7]
    data = json.dumps({"keys": keys}).encode()
    assert [key["kid"] for key in read_jwks(data, "two")] == ["two"]
    assert [key["kid"] for key in read_jwks(data, "no")] == ["one", "two"]


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps({"keys": value}).encode()
    )
)
def test_any_bytes_are_read_as_a_jwks_or_as_none(data: bytes) -> None:
    assert read_jwks(data) == []


def test_of_a_hundred_thousand_keys_the_right_one_is_found_and_few_are_looked_at() -> None:
    good = {**tokens.public_jwk(PUBLIC), "kid": "mine"}
    keys = [{"kty": "RSA", "n": "AQAB", "e": "AQ"}] * 20_000
    data = json.dumps({"keys": [*keys, good]}).encode()
    assert len(data) < 1 << 20
    assert read_jwks(data, "mine") == [good]
    assert len(read_jwks(data, "another")) == MOST_KEYS


@pytest.mark.parametrize("name", ["n", "e", "x5c"])
def test_a_key_of_a_megabyte_is_no_key_and_its_certificate_is_left_out(name: str) -> None:
    jwk = tokens.public_jwk(PUBLIC)
    huge = "A" * (900 << 10)
    found = read_jwks(
        json.dumps({"keys": [{**jwk, name: [huge] if name == "x5c" else huge}]}).encode()
    )
    assert bool(found) == (name == "x5c")
    for key in found:
        assert "its certificate" not in key_forms(key)


@pytest.mark.parametrize(
    ("url", "is_same"),
    [
        ("https://issuer.example/keys", True),
        ("https://ISSUER.example/keys?v=2", True),
        ("http://issuer.example/keys", False),
        ("https://issuer.example:8443/keys", False),
        ("https://other.example/keys", False),
        ("https://issuer.example.other/keys", False),
        ("https://issuer.example@other.example/keys", False),
        ("http://169.254.169.254/latest", False),
        ("file:///etc/passwd", False),
        ("https://issuer.example/" + "x" * 5000, False),
    ],
)
def test_the_keys_of_an_issuer_are_asked_for_at_the_issuer_alone(url: str, is_same: bool) -> None:
    assert is_same_host(url, "https://issuer.example/realm") == is_same
