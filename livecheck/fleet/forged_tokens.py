"""From one valid credential to those that a server must refuse.

Pure, and without any key of the server's: a token in, named variants out, each with the rule that
says why it must be refused; and headers that carry no token at all. A header or payload is never
edited but for what the name says, so that nothing else can be the reason. What comes out is as
secret as what went in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SIGNATURE_RULE = "RFC 7515, section 5.2"  # JWS signature validation
ALGORITHM_RULE = "RFC 8725, section 3.1"  # the caller says which algorithms, not the token
NONE_RULE = "RFC 8725, section 3.2"  # `none` only where that was asked for
INPUTS_RULE = "RFC 8725, section 3.3"  # every cryptographic operation is validated
ENTROPY_RULE = "RFC 8725, section 3.5"  # no words as keys
CLAIMS_RULE = "RFC 8725, section 3.10"  # `kid` and its like are somebody's claims
CRITICAL_RULE = "RFC 7515, section 4.1.11"
DUPLICATES_RULE = "RFC 7515, section 4"
BEARER_RULE = "RFC 6750, section 3.1"  # invalid_request, invalid_token
BYTES_RULE = "RFC 9110, section 5.5"  # what a field's value may hold
LENGTH_RULE = "RFC 6585, section 5"  # 431

GUESSES = ("secret", "password", "changeme", "your-256-bit-secret", "jwt-secret")
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
OTHER_HASHES = ("HS384", "HS512", "hs256")  # for the likeliest form of a public key
TEN_YEARS_S = 315_360_000
FAR_FUTURE_S = 4_102_444_800  # the year 2100, for a token that never expires
LONG_KID = 2000  # long, but no reason for the HTTP layer to refuse the header
CUT_BYTES = 4  # of a signature; a single last character may hold nothing but padding bits
OVERLONG = (10_000, 40_000)  # beyond the 8 KB that most servers take, and beyond nearly all
DEEP = 2000  # levels that a careless parser of JSON recurses into
MAX_KEY_BITS = 16_384
HIGHEST_ROLES = ("admin", "model:specific")

# A key of our own that needs no making: with a prime for its modulus (the 2048-bit MODP group of
# RFC 3526, section 3) the private exponent is known to everybody. It signs nothing of worth.
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
# DER: the DigestInfo of SHA-256 up to the digest, and rsaEncryption as an AlgorithmIdentifier
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
CURVES = {  # AlgorithmIdentifier (RFC 5480, RFC 8410), bytes of a coordinate
    "P-256": (bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"), 32),
    "P-384": (bytes.fromhex("301006072a8648ce3d020106052b81040022"), 48),
    "P-521": (bytes.fromhex("301006072a8648ce3d020106052b81040023"), 66),
    "Ed25519": (bytes.fromhex("300506032b6570"), 32),
    "Ed448": (bytes.fromhex("300506032b6571"), 57),
}


@dataclass(frozen=True)
class Variant:
    """A credential that must be refused. `basis` is where that is said."""

    name: str
    token: str = field(repr=False)
    basis: str


@dataclass(frozen=True)
class Jwt:
    """A signed token's parts as they were sent, and what is in them."""

    header: dict[str, Any]
    payload: dict[str, Any]
    parts: tuple[str, str, str] = field(repr=False)

    @property
    def message(self) -> str:
        return f"{self.parts[0]}.{self.parts[1]}"

    @property
    def signature(self) -> bytes:
        return decode(self.parts[2])


def read_jwt(token: str) -> Jwt | None:
    """The token's parts, nothing verified; None when it is no signed JWT: an opaque key."""
    parts = token.split(".")
    try:
        header, payload, _ = (decode(part) for part in parts)
        objects = json.loads(header), json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(each, dict) for each in objects):
        return None
    return Jwt(objects[0], objects[1], (parts[0], parts[1], parts[2]))


# --- segments


def encode(data: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(segment: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def segment(content: Mapping[str, Any]) -> str:
    return encode(json.dumps(content, separators=(",", ":")).encode())


def joined(header: Mapping[str, Any], payload: str, signature: bytes) -> str:
    return f"{segment(header)}.{payload}.{encode(signature)}"


# --- variants of a JWT


def signature_variants(jwt: Jwt, other: str | None = None) -> list[Variant]:
    """The content as it was, under a signature that is not its own. `other`: a second token that
    is valid."""
    signed, message = jwt.signature, jwt.message
    middle = len(signed) // 2
    changed = (
        signed[:middle] + bytes([signed[middle] ^ 1]) + signed[middle + 1 :] if signed else b"x"
    )
    found = [
        Variant("one bit changed", f"{message}.{encode(changed)}", SIGNATURE_RULE),
        Variant("cut short", f"{message}.{encode(signed[:-CUT_BYTES])}", SIGNATURE_RULE),
        Variant("removed", f"{message}.", SIGNATURE_RULE),
        Variant("removed with its dot", message, SIGNATURE_RULE),
        # CVE-2022-21449: zeros are a valid ECDSA signature to who forgets to look at them
        Variant("all zeros", f"{message}.{encode(bytes(len(signed)))}", INPUTS_RULE),
        Variant("by another key", sign_rs256(jwt.header, jwt.parts[1]), SIGNATURE_RULE),
    ]
    second = read_jwt(other) if other else None
    if second and second.message != message:
        of_other = f"{message}.{second.parts[2]}"
        found.append(Variant("from another token", of_other, SIGNATURE_RULE))
        swapped = f"{second.message}.{jwt.parts[2]}"
        found.append(Variant("under another token", swapped, SIGNATURE_RULE))
    return found


def payload_variants(jwt: Jwt) -> list[Variant]:
    """Claims edited, header and signature kept."""
    roles, expiry = jwt.payload.get("roles"), jwt.payload.get("exp")
    subject = "root" if jwt.payload.get("sub") == "admin" else "admin"
    later = FAR_FUTURE_S
    if isinstance(expiry, (int, float)) and 0 < expiry < FAR_FUTURE_S:
        later = int(expiry) + TEN_YEARS_S
    edits: dict[str, dict[str, Any]] = {
        "roles raised to admin": {"roles": raised(roles)},
        "exp years later": {"exp": later},
        "another sub": {"sub": subject},
    }
    return [
        Variant(
            name,
            f"{jwt.parts[0]}.{segment({**jwt.payload, **edit})}.{jwt.parts[2]}",
            SIGNATURE_RULE,
        )
        for name, edit in edits.items()
    ]


def highest_variants(jwt: Jwt) -> tuple[Variant, Variant]:
    """With every role there is: edited under the signature as it was, and unsigned."""
    payload = segment({**jwt.payload, "roles": raised(jwt.payload.get("roles"))})
    unsigned = joined({**jwt.header, "alg": "none"}, payload, b"")
    return (
        Variant(
            "roles raised to admin", f"{jwt.parts[0]}.{payload}.{jwt.parts[2]}", SIGNATURE_RULE
        ),
        Variant("alg none, roles raised", unsigned, NONE_RULE),
    )


def raised(roles: object) -> object:
    """The roles claim in its own form, with more in it."""
    if isinstance(roles, str):
        return " ".join([roles, *HIGHEST_ROLES]).strip()
    return [*(roles if isinstance(roles, list) else []), *HIGHEST_ROLES]


def unsigned_variants(jwt: Jwt) -> list[Variant]:
    """The content as it was, and a header that says it is not signed."""
    payload, signed = jwt.parts[1], jwt.signature
    without = {name: value for name, value in jwt.header.items() if name != "alg"}
    spellings = [
        Variant(f"alg {name}", joined({**jwt.header, "alg": name}, payload, b""), NONE_RULE)
        for name in ("none", "None", "NONE", "nOnE")
    ]
    none = {**jwt.header, "alg": "none"}
    nameless = {name: value for name, value in none.items() if name != "kid"}
    return [
        *spellings,
        # no kid, no key, nothing to verify with
        *(
            [Variant("alg none, no kid", joined(nameless, payload, b""), NONE_RULE)]
            if "kid" in none
            else []
        ),
        Variant("alg none, signature kept", joined(none, payload, signed), NONE_RULE),
        Variant("alg none, no last dot", joined(none, payload, b"")[:-1], NONE_RULE),
        Variant("alg empty", joined({**jwt.header, "alg": ""}, payload, b""), ALGORITHM_RULE),
        Variant("alg null", joined({**jwt.header, "alg": None}, payload, b""), ALGORITHM_RULE),
        Variant("no alg", joined(without, payload, b""), ALGORITHM_RULE),
        Variant("alg twice, none last", twice(jwt, payload), DUPLICATES_RULE),
    ]


def twice(jwt: Jwt, payload: str) -> str:
    """The header's text with a second `alg` at its end, which most parsers believe."""
    text = json.dumps(jwt.header, separators=(",", ":"))[:-1] + ',"alg":"none"}'
    return f"{encode(text.encode())}.{payload}."


def hmac_variants(jwt: Jwt, public_keys: Sequence[Mapping[str, Any]] = ()) -> list[Variant]:
    """Signed with HMAC: with nothing, with a word, and with what is public (the JWKS's keys)."""
    found = [
        Variant("an empty key", sign_hmac(jwt, b""), ENTROPY_RULE),
        *(
            Variant(f"the key {word!r}", sign_hmac(jwt, word.encode()), ENTROPY_RULE)
            for word in GUESSES
        ),
    ]
    for jwk in public_keys:
        forms = key_forms(jwk)
        found += [public_variant(jwt, form, secret) for form, secret in forms]
        form, secret = forms[0]
        found += [public_variant(jwt, form, secret, name) for name in OTHER_HASHES]
    return found


def public_variant(jwt: Jwt, form: str, secret: bytes, algorithm: str | None = None) -> Variant:
    name = f"the public key as {form}" + (f", {algorithm}" if algorithm else "")
    return Variant(name, sign_hmac(jwt, secret, algorithm=algorithm), ALGORITHM_RULE)


def header_variants(jwt: Jwt) -> list[Variant]:
    """What the token says of its own key and of how it is to be read."""
    header, payload, signed = jwt.header, jwt.parts[1], jwt.signature
    without = {name: value for name, value in header.items() if name != "kid"}
    kidless = Variant("no kid", joined(without, payload, signed), SIGNATURE_RULE)
    no_file = {**header, "kid": "../../../../../../../../dev/null"}
    chosen = {**header, "kid": "x' UNION SELECT 'forged' -- "}
    own = {**header, "alg": "RS256", "kid": OWN_KID, "jwk": own_jwk()}
    critical = {**header, "crit": ["x-unknown"], "x-unknown": True}
    kids: dict[str, Any] = {"unknown": "no-such-key", "a number": 7, "a list": ["a"]}
    kids["very long"] = "k" * LONG_KID
    return [
        Variant("kid names an empty file", sign_hmac(jwt, b"", no_file), CLAIMS_RULE),
        Variant("kid injects SQL", sign_hmac(jwt, b"forged", chosen), CLAIMS_RULE),
        *([kidless] if "kid" in header else []),  # else it may be the valid token itself
        *(
            Variant(f"kid {name}", joined({**header, "kid": kid}, payload, signed), SIGNATURE_RULE)
            for name, kid in kids.items()
        ),
        # CVE-2018-0114
        Variant("a key of its own in jwk", sign_rs256(own, payload), CLAIMS_RULE),
        Variant("crit names the unknown", joined(critical, payload, signed), CRITICAL_RULE),
    ]


# --- variants of an opaque key


def key_variants(key: str) -> list[Variant]:
    """Keys that are nearly the key."""
    last = "0" if key[-1] != "0" else "1"
    near = {
        "without its last character": key[:-1],
        "its first half": key[: len(key) // 2],
        "with one character more": key + "0",
        "with another last character": key[:-1] + last,
        "in the other case": key.swapcase(),
    }
    return [
        Variant(name, text, BEARER_RULE) for name, text in near.items() if text not in ("", key)
    ]


# --- headers without a token


def malformed_headers() -> list[Variant]:
    """Values of an Authorization header that HTTP has nothing against."""
    texts = {
        "nothing": "",
        "no token": "Bearer",
        "spaces for a token": "Bearer     ",
        "a random word": f"Bearer {secrets.token_urlsafe(32)}",
        "two words": "Bearer one two",
        "a list": "Bearer one, Bearer two",
        "no base64": "Bearer !!!.???.###",
        "two dots": "Bearer ..",
        "one segment": "Bearer a",
        "two segments": "Bearer a.b",
        "three segments": "Bearer a.b.c",
        "four segments": "Bearer a.b.c.d",
        "five segments": "Bearer a.b.c.d.e",
    }
    for name, data in {
        "segments of JSON null": b"null",
        "segments of a JSON list": b"[1]",
        "segments of no UTF-8": b"\xff\xfe{",
        "segments of nested lists": b"[" * DEEP,
    }.items():
        texts[name] = f"Bearer {encode(data)}.{encode(data)}.{encode(b'x' * 32)}"
    return [Variant(name, value, BEARER_RULE) for name, value in texts.items()]


def odd_headers() -> list[Variant]:
    """Values that the HTTP layer may refuse by itself, as latin-1."""
    return [
        Variant("a letter beyond ASCII", "Bearer tok\xe9n", BYTES_RULE),
        Variant("bytes of no UTF-8", "Bearer \xff\xfe\x80", BYTES_RULE),
        Variant("a NUL", "Bearer a\x00b", BYTES_RULE),
        Variant("a control character", "Bearer a\x7fb", BYTES_RULE),
        *(Variant(f"{size // 1000} kB", f"Bearer {'x' * size}", LENGTH_RULE) for size in OVERLONG),
    ]


# --- signing


def sign_hmac(
    jwt: Jwt,
    secret: bytes,
    header: Mapping[str, Any] | None = None,
    algorithm: str | None = None,
) -> str:
    """The token's content under HMAC: with its own hash if it has one, else SHA-256."""
    own = jwt.header.get("alg")
    name = algorithm or (own if own in HASHES else "HS256")
    message = f"{segment({**(header or jwt.header), 'alg': name})}.{jwt.parts[1]}"
    signed = hmac.new(secret, message.encode(), HASHES[name.upper()]).digest()
    return f"{message}.{encode(signed)}"


def sign_rs256(header: Mapping[str, Any], payload: str) -> str:
    """Under our own key (RSASSA-PKCS1-v1_5, RFC 8017, section 8.2.1)."""
    message = f"{segment({**header, 'alg': 'RS256'})}.{payload}"
    info = SHA256_INFO + hashlib.sha256(message.encode()).digest()
    size = OWN_N.bit_length() // 8
    padded = b"\x00\x01" + b"\xff" * (size - 3 - len(info)) + b"\x00" + info
    exponent = pow(OWN_E, -1, OWN_N - 1)
    signed = pow(int.from_bytes(padded, "big"), exponent, OWN_N).to_bytes(size, "big")
    return f"{message}.{encode(signed)}"


def own_jwk() -> dict[str, str]:
    n = encode(OWN_N.to_bytes(OWN_N.bit_length() // 8, "big"))
    return {"kty": "RSA", "n": n, "e": encode(OWN_E.to_bytes(3, "big")), "kid": OWN_KID}


# --- public keys


def read_jwks(data: bytes, kid: object = None) -> list[dict[str, Any]]:
    """The public keys in a JWKS (RFC 7517, section 5); only that of this `kid` if it is there."""
    try:
        keys = json.loads(data)["keys"]
        usable = [key for key in keys if isinstance(key, dict) and is_usable(key)]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    return [key for key in usable if kid is not None and key.get("kid") == kid] or usable


def is_usable(jwk: Mapping[str, Any]) -> bool:
    try:
        return bool(public_key(jwk))
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def public_key(jwk: Mapping[str, Any]) -> bytes:
    """The key as SubjectPublicKeyInfo (RFC 5280, section 4.1). Raises ValueError, and what comes
    of reading a JWK that is none."""
    if jwk["kty"] == "RSA":
        return spki(RSA_ENCRYPTION, rsa_key(jwk))
    name, size = CURVES[jwk["crv"]]
    coordinates = [decode(jwk["x"]), *([decode(jwk["y"])] if jwk["kty"] == "EC" else [])]
    if max(map(len, coordinates)) > size:
        raise ValueError("no point of this curve")
    point = b"".join(each.rjust(size, b"\0") for each in coordinates)
    return spki(name, b"\x04" + point if jwk["kty"] == "EC" else point)  # RFC 5480, 2.2; RFC 8410


def rsa_key(jwk: Mapping[str, Any]) -> bytes:
    """As PKCS#1 has it (RFC 8017, appendix A.1.1)."""
    n, e = (int.from_bytes(decode(jwk[name]), "big") for name in ("n", "e"))
    if not 0 < e < n < 1 << MAX_KEY_BITS:
        raise ValueError("no RSA key")
    return der(0x30, der_integer(n) + der_integer(e))


def key_forms(jwk: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """(what it is, bytes) of a usable key in every form in which it may lie on a server, the
    likeliest first."""
    whole = public_key(jwk)
    text = pem("PUBLIC KEY", whole)
    forms = [
        ("PEM", text),
        ("PEM without its last newline", text[:-1]),
        ("PEM of Windows", text.replace(b"\n", b"\r\n")),
        ("DER", whole),
        ("DER in base64", base64.b64encode(whole)),
        ("JSON", json.dumps(jwk).encode()),
        ("JSON without spaces", json.dumps(jwk, separators=(",", ":")).encode()),
    ]
    if jwk["kty"] == "RSA":
        pkcs1 = pem("RSA PUBLIC KEY", rsa_key(jwk))
        forms += [
            ("PKCS#1 PEM", pkcs1),
            ("PKCS#1 PEM without its last newline", pkcs1[:-1]),
            ("its modulus", decode(jwk["n"])),
            ("the JWK's n", jwk["n"].encode()),
        ]
    return forms + certificate_forms(jwk.get("x5c"))


def certificate_forms(chain: object) -> list[tuple[str, bytes]]:
    """The first certificate of an x5c (RFC 7517, section 4.7), if there is one."""
    try:
        first = chain[0] if isinstance(chain, list) else ""
        data = base64.b64decode(first, validate=True)
    except (ValueError, LookupError, TypeError):
        return []
    text = pem("CERTIFICATE", data)
    return [("its certificate", text), ("its certificate's x5c", first.encode())] if data else []


def spki(algorithm: bytes, key: bytes) -> bytes:
    return der(0x30, algorithm + der(0x03, b"\x00" + key))


def der(tag: int, content: bytes) -> bytes:
    """Tag, length, content (X.690, section 8.1)."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def der_integer(value: int) -> bytes:
    """One byte more than needed where the first would begin with a 1: integers have a sign."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def pem(label: str, data: bytes) -> bytes:
    """RFC 7468."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
