"""Credentials that a server must refuse, made from a valid token or key without the server's key.

TABLE has one row for each token that can be forged from a valid JWT: its group, its name, the rule
that says why a server must refuse it, and how it is made. Nothing is changed but what the name
says, so that nothing else can be the reason for a refusal. What is made is as secret as the token
that it was made from.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.fleet.jwt import Jwt, segment, to_base64url
from livecheck.fleet.public_keys import key_forms
from livecheck.fleet.roles import ADMIN, SPECIFIC

SIGNATURE_RULE = "RFC 7515, section 5.2"  # the signature is validated
ALGORITHM_RULE = "RFC 8725, section 3.1"  # the verifier chooses the algorithm, not the token
NONE_RULE = "RFC 8725, section 3.2"  # `none` only where the verifier asked for it
INPUTS_RULE = "RFC 8725, section 3.3"  # every cryptographic operation is validated
ENTROPY_RULE = "RFC 8725, section 3.5"  # a word is not a key
CLAIMS_RULE = "RFC 8725, section 3.10"  # what `kid` and the like say is not to be trusted
CRITICAL_RULE = "RFC 7515, section 4.1.11"
DUPLICATES_RULE = "RFC 7515, section 4"
BEARER_RULE = "RFC 6750, section 3.1"  # invalid_request, invalid_token
SYNTAX_RULE = "RFC 6750, section 2.1"  # what may follow the word Bearer
BYTES_RULE = "RFC 9110, section 5.5"  # which bytes the value of a header may have
LENGTH_RULE = "RFC 6585, section 5"  # 431

GUESSED_KEYS = ("secret", "password", "changeme", "your-256-bit-secret", "jwt-secret")
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
OTHER_HASHES = ("HS384", "HS512", "hs256")  # tried with the most likely form of a public key
TEN_YEARS_S = 315_360_000
FAR_FUTURE_S = 4_102_444_800  # the year 2100, for a token that never expires
LONG_KID = 2000  # characters: long, but no reason for the HTTP layer to refuse the header
MORE_CHARACTERS = "AAAA"  # three bytes, so that base64 can be decoded
CUT_BYTES = 4  # of a signature: a single last character may hold nothing but padding bits
OVERLONG = (10_000, 40_000)  # bytes: more than the 8 KB that most servers accept, and nearly all
DEEP = 2000  # levels of nested lists, into which a careless JSON parser recurses
EMPTY_FILE = "../../../../../../../../dev/null"  # a careless server takes it for an empty key
INJECTED_SQL = "x' UNION SELECT 'forged' -- "  # a careless server finds the key `forged`
UNKNOWN_CRIT: dict[str, Any] = {"crit": ["x-unknown"], "x-unknown": True}
HIGHEST_ROLES = (ADMIN, SPECIFIC)

# A key of our own that need not be generated: its modulus is a prime (the 2048-bit MODP group of
# RFC 3526, section 3), so anybody can compute the private exponent. It protects nothing.
OWN_N = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
OWN_E = 65537
OWN_KID = "own-key"
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # DER, up to the digest


@dataclass(frozen=True)
class Forged:
    """A credential, or the value of a header, that must be refused. `rule`: where that is said."""

    name: str
    token: str = field(repr=False)
    rule: str
    group: str = ""


@dataclass(frozen=True)
class Source:
    """The valid token to forge from; `other` is a second valid token, if there is one."""

    jwt: Jwt
    other: Jwt | None = None

    @property
    def second(self) -> Jwt | None:
        """The other token, when it says anything else than the first."""
        return self.other if self.other and self.other.message != self.jwt.message else None


Make = Callable[[Source], "str | None"]


@dataclass(frozen=True)
class Row:
    """A token to forge. `make` returns None where the valid token does not allow it."""

    group: str
    name: str
    rule: str
    make: Make


# --- with another signature


def with_signature(change: Callable[[bytes], bytes]) -> Make:
    """Header and payload as they are, the signature changed."""
    return lambda source: source.jwt.with_signature(change(source.jwt.signature))


def with_text_behind(text: str) -> Make:
    """The whole token, and letters behind it that belong to no signature."""
    return lambda source: ".".join(source.jwt.parts) + text


def one_bit_changed(signature: bytes) -> bytes:
    """A bit in the middle: the last character of a token may hold padding bits."""
    if not signature:
        return b"x"
    middle = len(signature) // 2
    return signature[:middle] + bytes([signature[middle] ^ 1]) + signature[middle + 1 :]


def signature_of_other(source: Source) -> str | None:
    return source.jwt.with_signature(source.second.signature) if source.second else None


def content_of_other(source: Source) -> str | None:
    return source.second.with_signature(source.jwt.signature) if source.second else None


# --- with other claims


def with_claims(change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Make:
    """Some claims changed, header and signature as they are."""

    def make(source: Source) -> str:
        payload = source.jwt.payload
        return source.jwt.with_payload({**payload, **change(payload)})

    return make


def highest_roles(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The roles of the payload and the highest ones, in the form that the claim has."""
    roles = payload.get("roles")
    if isinstance(roles, str):
        return {"roles": " ".join([roles, *HIGHEST_ROLES]).strip()}
    return {"roles": [*(roles if isinstance(roles, list) else []), *HIGHEST_ROLES]}


def later_expiry(payload: Mapping[str, Any]) -> dict[str, Any]:
    expiry = payload.get("exp")
    if isinstance(expiry, (int, float)) and 0 < expiry < FAR_FUTURE_S:
        return {"exp": int(expiry) + TEN_YEARS_S}
    return {"exp": FAR_FUTURE_S}


def other_subject(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"sub": "root" if payload.get("sub") == "admin" else "admin"}


# --- with a header that says how to read the token


def with_header(*left_out: str, is_signed: bool = True, **changes: Any) -> Make:
    """Some fields of the header left out or changed, the payload as it is, and the signature too.

    None where a field to leave out is not there: that would be another row, or the valid token.
    """

    def make(source: Source) -> str | None:
        header = {**source.jwt.header, **changes}
        if not header.keys() >= set(left_out):
            return None
        kept = {name: value for name, value in header.items() if name not in left_out}
        return source.jwt.with_header(kept, source.jwt.signature if is_signed else b"")

    return make


def unsigned(algorithm: object) -> Make:
    return with_header(alg=algorithm, is_signed=False)


def none_without_last_dot(source: Source) -> str:
    return source.jwt.with_header({**source.jwt.header, "alg": "none"}, b"")[:-1]


def algorithm_twice(source: Source) -> str:
    """A second `alg` at the end of the header, which is the one that most parsers believe."""
    text = json.dumps(source.jwt.header, separators=(",", ":"))[:-1] + ',"alg":"none"}'
    return f"{to_base64url(text.encode())}.{source.jwt.parts[1]}."


# --- with a key that is not secret


def with_hmac(key: bytes, algorithm: str | None = None, **header: str) -> Make:
    """Signed with an HMAC under this key, by a header with these changes.

    Without an `algorithm` the hash is the token's own if it has one, else SHA-256.
    """

    def make(source: Source) -> str:
        own = source.jwt.header.get("alg")
        name = algorithm or (own if own in HASHES else "HS256")
        first = segment({**source.jwt.header, **header, "alg": name})
        message = f"{first}.{source.jwt.parts[1]}"
        digest = hmac.new(key, message.encode(), HASHES[name.upper()]).digest()
        return f"{message}.{to_base64url(digest)}"

    return make


def with_own_key(**header: Any) -> Make:
    """Signed with our own RSA key (RSASSA-PKCS1-v1_5, RFC 8017, section 8.2.1)."""

    def make(source: Source) -> str:
        first = segment({**source.jwt.header, **header, "alg": "RS256"})
        message = f"{first}.{source.jwt.parts[1]}"
        info = SHA256_INFO + hashlib.sha256(message.encode()).digest()
        size = OWN_N.bit_length() // 8
        padded = b"\x00\x01" + b"\xff" * (size - 3 - len(info)) + b"\x00" + info
        exponent = pow(OWN_E, -1, OWN_N - 1)
        signature = pow(int.from_bytes(padded, "big"), exponent, OWN_N).to_bytes(size, "big")
        return f"{message}.{to_base64url(signature)}"

    return make


def own_jwk() -> dict[str, str]:
    n = to_base64url(OWN_N.to_bytes(OWN_N.bit_length() // 8, "big"))
    return {"kty": "RSA", "n": n, "e": to_base64url(OWN_E.to_bytes(3, "big")), "kid": OWN_KID}


def rows_of_key(jwk: Mapping[str, Any]) -> list[Row]:
    """An HMAC under a public key, in each form in which a server may keep it."""
    forms = key_forms(jwk)
    first, key = next(iter(forms.items()))
    made = {form: with_hmac(text) for form, text in forms.items()}
    made |= {f"{first}, {name}": with_hmac(key, name) for name in OTHER_HASHES}
    return [
        Row("hmac", f"the public key as {form}", ALGORITHM_RULE, make)
        for form, make in made.items()
    ]


# --- the table

# without a kid there is no key to verify with
NONE_WITHOUT_KID = with_header("kid", alg="none", is_signed=False)
TABLE: tuple[Row, ...] = (
    Row("signature", "one bit changed", SIGNATURE_RULE, with_signature(one_bit_changed)),
    Row("signature", "cut short", SIGNATURE_RULE, with_signature(lambda text: text[:-CUT_BYTES])),
    Row("signature", "made longer", SIGNATURE_RULE, with_text_behind(MORE_CHARACTERS)),
    Row("signature", "followed by a fourth segment", SIGNATURE_RULE, with_text_behind(".AAAA")),
    Row("signature", "removed", SIGNATURE_RULE, with_signature(lambda _: b"")),
    Row("signature", "removed with its dot", SIGNATURE_RULE, lambda source: source.jwt.message),
    # CVE-2022-21449: zeros are a valid ECDSA signature for a verifier that does not look at them
    Row("signature", "all zeros", INPUTS_RULE, with_signature(lambda text: bytes(len(text)))),
    Row("signature", "made with another key", SIGNATURE_RULE, with_own_key()),
    Row("signature", "taken from another token", SIGNATURE_RULE, signature_of_other),
    Row("signature", "put under another token", SIGNATURE_RULE, content_of_other),
    Row("payload", "roles raised to admin", SIGNATURE_RULE, with_claims(highest_roles)),
    Row("payload", "exp years later", SIGNATURE_RULE, with_claims(later_expiry)),
    Row("payload", "another sub", SIGNATURE_RULE, with_claims(other_subject)),
    Row("alg_none", "alg none", NONE_RULE, unsigned("none")),
    Row("alg_none", "alg None", NONE_RULE, unsigned("None")),
    Row("alg_none", "alg NONE", NONE_RULE, unsigned("NONE")),
    Row("alg_none", "alg nOnE", NONE_RULE, unsigned("nOnE")),
    Row("alg_none", "alg none, without kid", NONE_RULE, NONE_WITHOUT_KID),
    Row("alg_none", "alg none, signature kept", NONE_RULE, with_header(alg="none")),
    Row("alg_none", "alg none, without the last dot", NONE_RULE, none_without_last_dot),
    Row("alg_none", "alg empty", ALGORITHM_RULE, unsigned("")),
    Row("alg_none", "alg null", ALGORITHM_RULE, unsigned(None)),
    Row("alg_none", "without alg", ALGORITHM_RULE, with_header("alg", is_signed=False)),
    Row("alg_none", "alg twice, the second is none", DUPLICATES_RULE, algorithm_twice),
    Row("hmac", "an empty key", ENTROPY_RULE, with_hmac(b"")),
    *(
        Row("hmac", f"the key {word!r}", ENTROPY_RULE, with_hmac(word.encode()))
        for word in GUESSED_KEYS
    ),
    Row("header", "kid names an empty file", CLAIMS_RULE, with_hmac(b"", kid=EMPTY_FILE)),
    Row("header", "kid injects SQL", CLAIMS_RULE, with_hmac(b"forged", kid=INJECTED_SQL)),
    Row("header", "without kid", SIGNATURE_RULE, with_header("kid")),
    Row("header", "kid is unknown", SIGNATURE_RULE, with_header(kid="no-such-key")),
    Row("header", "kid is a number", SIGNATURE_RULE, with_header(kid=7)),
    Row("header", "kid is a list", SIGNATURE_RULE, with_header(kid=["a"])),
    Row("header", "kid is very long", SIGNATURE_RULE, with_header(kid="k" * LONG_KID)),
    # CVE-2018-0114
    Row("header", "jwk brings its own key", CLAIMS_RULE, with_own_key(kid=OWN_KID, jwk=own_jwk())),
    Row("header", "crit names an unknown extension", CRITICAL_RULE, with_header(**UNKNOWN_CRIT)),
)


def from_jwt(source: Source, public_keys: Sequence[Mapping[str, Any]] = ()) -> list[Forged]:
    """Every row of TABLE that this token allows, and HMACs under the public keys."""
    rows = [*TABLE, *(row for jwk in public_keys for row in rows_of_key(jwk))]
    made = [(row, row.make(source)) for row in rows]
    return [Forged(row.name, token, row.rule, row.group) for row, token in made if token]


def with_highest_roles(jwt: Jwt) -> tuple[Forged, Forged]:
    """A token with every role there is: under the signature as it is, and unsigned."""
    payload = {**jwt.payload, **highest_roles(jwt.payload)}
    plain = segment({**jwt.header, "alg": "none"})
    return (
        Forged("roles raised to admin", jwt.with_payload(payload), SIGNATURE_RULE, "payload"),
        Forged("alg none, roles raised", f"{plain}.{segment(payload)}.", NONE_RULE, "alg_none"),
    )


# --- from an opaque key


def from_key(key: str) -> list[Forged]:
    last, middle = "0" if key[-1] != "0" else "1", len(key) // 2
    other = "0" if key[middle] != "0" else "1"
    near = {
        "without its last character": key[:-1],
        "only its first half": key[: len(key) // 2],
        "only its second half": key[len(key) // 2 :],
        "with one more character": key + "0",
        "with one more character in front": f"0{key}",
        "with another last character": key[:-1] + last,
        "with another character in the middle": f"{key[:middle]}{other}{key[middle + 1 :]}",
        "with upper and lower case swapped": key.swapcase(),
    }
    return [Forged(name, text, BEARER_RULE) for name, text in near.items() if text not in ("", key)]


# --- a valid credential and something else in one header


def with_more_text(token: str) -> list[Forged]:
    """Values of an Authorization header that have a valid credential in them, and more."""
    other = random_word()
    texts = {
        "another word behind it": f"Bearer {token} {other}",
        "a comma behind it": f"Bearer {token},",
        "a semicolon behind it": f"Bearer {token};",
        "padding behind it": f"Bearer {token}=",
        "another one behind it": f"Bearer {token}, Bearer {other}",
        "another one in front of it": f"Bearer {other}, Bearer {token}",
        "a NUL behind it": f"Bearer {token}\x00x",
    }
    return [Forged(name, value, SYNTAX_RULE) for name, value in texts.items()]


def random_word() -> str:
    return secrets.token_urlsafe(32)


# --- headers without a token

MALFORMED = {
    "an empty value": "",
    "Bearer without a token": "Bearer",
    "spaces instead of a token": "Bearer     ",
    "two words": "Bearer one two",
    "a list": "Bearer one, Bearer two",
    "not base64": "Bearer !!!.???.###",
    "two dots": "Bearer ..",
    "one segment": "Bearer a",
    "two segments": "Bearer a.b",
    "three segments": "Bearer a.b.c",
    "four segments": "Bearer a.b.c.d",
    "five segments": "Bearer a.b.c.d.e",
    # what a client sends that lost its key, and the keys in the examples of vLLM and LiteLLM
    "the word null": "Bearer null",
    "the word undefined": "Bearer undefined",
    "the word None": "Bearer None",  # Python's text for a key that is not set, at either end
    "the key EMPTY": "Bearer EMPTY",
    "the key sk-1234": "Bearer sk-1234",
    "a wildcard": "Bearer *",
    "the user admin with the password admin": "Basic YWRtaW46YWRtaW4=",
}
SEGMENTS = {
    "segments that are JSON null": b"null",
    "segments that are a JSON list": b"[1]",
    "segments that are not UTF-8": b"\xff\xfe{",
    "segments that are nested lists": b"[" * DEEP,
}


def malformed_headers() -> list[Forged]:
    """Values of an Authorization header that HTTP allows."""
    texts = {**MALFORMED, "a random word": f"Bearer {random_word()}"}
    for name, data in SEGMENTS.items():
        part = to_base64url(data)
        texts[name] = f"Bearer {part}.{part}.{to_base64url(b'x' * 32)}"
    return [Forged(name, value, BEARER_RULE) for name, value in texts.items()]


def elsewhere() -> dict[str, str]:
    """Other headers in which some servers take a credential, with a random word in each."""
    word = random_word()
    cookie = "; ".join(f"{name}={word}" for name in ("token", "session", "access_token"))
    named = dict.fromkeys(("x-api-key", "api-key", "x-auth-token", "x-access-token"), word)
    return {**named, "proxy-authorization": f"Bearer {word}", "cookie": cookie}


def odd_headers() -> list[Forged]:
    """Values that the HTTP layer may refuse by itself; their characters are bytes (latin-1)."""
    return [
        Forged("a letter beyond ASCII", "Bearer tok\xe9n", BYTES_RULE),
        Forged("bytes that are not UTF-8", "Bearer \xff\xfe\x80", BYTES_RULE),
        Forged("a NUL", "Bearer a\x00b", BYTES_RULE),
        Forged("a control character", "Bearer a\x7fb", BYTES_RULE),
        *(Forged(f"{size // 1000} kB", f"Bearer {'x' * size}", LENGTH_RULE) for size in OVERLONG),
    ]
