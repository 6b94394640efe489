"""The public keys that verify a deployment's tokens: asked for at the deployment or at the token's
issuer, read from a JWKS, and written in every form.

They are not secret. But where a token may choose the algorithm, a public key serves as the key of
an HMAC, which anybody can make.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import decode_or_none, pick, pick_list
from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet.jwt import Jwt, from_base64url
from livecheck.wire.answer import Answer
from livecheck.wire.asking import fetch, open_wire
from livecheck.wire.chat import get
from livecheck.wire.wire import Wire

Jwk = Mapping[str, Any]

JWKS = "/.well-known/jwks.json"
DISCOVERY = "/.well-known/openid-configuration"
TIMEOUT_S = 5.0  # the issuer is another server, and not the one to be checked
MAX_KEY_BITS = 16_384
MAX_KEY_TEXT = 8192  # characters of a number of a key, or of its certificate, in base64
MOST_KEYS = 1000  # of a JWKS
MAX_URL = 2000  # characters of a URL that a token or an issuer names
# DER of an AlgorithmIdentifier (RFC 8017, RFC 5480, RFC 8410), and the bytes of a coordinate
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
CURVES = {
    "P-256": (bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"), 32),
    "P-384": (bytes.fromhex("301006072a8648ce3d020106052b81040022"), 48),
    "P-521": (bytes.fromhex("301006072a8648ce3d020106052b81040023"), 66),
    "Ed25519": (bytes.fromhex("300506032b6570"), 32),
    "Ed448": (bytes.fromhex("300506032b6571"), 57),
}


# --- find, without sending a credential, and without asking twice


def find_public_keys(run: Run, wire: Wire, jwt: Jwt) -> list[dict[str, Any]]:
    """The keys in the deployment's own JWKS, else in that of the token's issuer; [] without any."""
    kid, issuer = jwt.header.get("kid"), jwt.payload.get("iss")
    answer = fetch(run, wire, get(JWKS))
    keys = read_jwks(answer.body, kid) if answer.is_ok else []
    if keys or not isinstance(issuer, str):
        return keys
    return read_jwks(ask_issuer(run, issuer.rstrip("/")), kid)


def ask_issuer(run: Run, issuer: str) -> bytes:
    """The JWKS that an OpenID provider names (OpenID Connect Discovery, section 4), else the one at
    the usual path; b"" when there is neither.

    It is asked for at the issuer and nowhere else: who answers there must not choose what else this
    machine connects to.
    """
    found = get_elsewhere(run, issuer + DISCOVERY)
    where = pick(found.json, "jwks_uri") if found and found.is_ok else None
    if not isinstance(where, str):
        where = issuer + JWKS
    elif not is_same_host(where, issuer):
        run.note(f"the issuer keeps its keys at {shorten(where)}, which is not asked")
        return b""
    answer = get_elsewhere(run, where)
    return answer.body if answer and answer.is_ok else b""


def is_same_host(url: str, other: str) -> bool:
    """Whether both URLs can be asked, and have the same scheme, host and port."""
    one, two = split_url(url), split_url(other)
    if one is None or two is None:
        return False
    return (one.scheme, one.netloc.lower()) == (two.scheme, two.netloc.lower())


def get_elsewhere(run: Run, url: str) -> Answer | None:
    """GET from another server, without a credential; None when this is not a URL, or one that is
    asked through a proxy which cannot be used."""
    parts = split_url(url)
    if parts is None:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        with open_wire(run, None, min(TIMEOUT_S, run.args.timeout), origin) as wire:
            return fetch(run, wire, get(path), f"GET {shorten(url)}")
    except CannotCheck as error:
        run.note(str(error))
        return None


def split_url(url: str) -> urllib.parse.SplitResult | None:
    """The parts of a URL that can be asked; None for anything else that a token may say."""
    if len(url) > MAX_URL or "@" in url:
        return None
    if not all(0x21 <= ord(character) <= 0x7E for character in url):
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        parts.netloc.encode("idna")
    except ValueError:  # which a UnicodeError is as well
        return None
    return parts if is_usable else None


# --- read


def read_jwks(data: bytes, kid: object = None) -> list[dict[str, Any]]:
    """The public keys in a JWKS (RFC 7517, section 5) that can be read.

    Only the keys with this `kid` when there are any; [] for anything that is not a JWKS. Of more
    than MOST_KEYS the rest is not looked at.
    """
    listed = pick_list(decode_or_none(data), "keys")
    keys = [key for key in listed if isinstance(key, dict)]
    named = [key for key in keys if kid is not None and key.get("kid") == kid]
    found = list(filter(is_usable, named[:MOST_KEYS]))
    return found or list(filter(is_usable, keys[:MOST_KEYS]))


def is_usable(jwk: Jwk) -> bool:
    try:
        return bool(public_key(jwk))
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def public_key(jwk: Jwk) -> bytes:
    """The key as SubjectPublicKeyInfo (RFC 5280, section 4.1).

    Raises ValueError, LookupError, TypeError or AttributeError for what is not a public key.
    """
    if jwk["kty"] == "RSA":
        return key_info(RSA_ENCRYPTION, rsa_key(jwk))
    name, size = CURVES[jwk["crv"]]
    is_ec = jwk["kty"] == "EC"
    coordinates = [number_of(jwk, each) for each in ("xy" if is_ec else "x")]
    if max(map(len, coordinates)) > size:
        raise ValueError("not a point of this curve")
    point = b"".join(each.rjust(size, b"\0") for each in coordinates)
    return key_info(name, b"\x04" + point if is_ec else point)  # RFC 5480, 2.2; RFC 8410, 4


def number_of(jwk: Jwk, name: str) -> bytes:
    """A number of the key, as its bytes. ValueError for one that is longer than any key's."""
    if len(jwk[name]) > MAX_KEY_TEXT:
        raise ValueError(f"{name} is too long for a key")
    return from_base64url(jwk[name])


def rsa_key(jwk: Jwk) -> bytes:
    """The key in the form of PKCS#1 (RFC 8017, appendix A.1.1)."""
    n, e = (int.from_bytes(number_of(jwk, name), "big") for name in ("n", "e"))
    if not 0 < e < n < 1 << MAX_KEY_BITS:
        raise ValueError("not an RSA key")
    return der(0x30, der_integer(n) + der_integer(e))


# --- written in every form in which a server may keep it


def rsa_pem(jwk: Jwk) -> bytes:
    return pem("RSA PUBLIC KEY", rsa_key(jwk))


def whole_pem(jwk: Jwk) -> bytes:
    return pem("PUBLIC KEY", public_key(jwk))


# One row for each form, the most likely first.
FORMS: dict[str, Callable[[Jwk], bytes]] = {
    "PEM": whole_pem,
    "PEM without its last newline": lambda jwk: whole_pem(jwk)[:-1],
    "PEM of Windows": lambda jwk: whole_pem(jwk).replace(b"\n", b"\r\n"),
    "DER": public_key,
    "DER in base64": lambda jwk: base64.b64encode(public_key(jwk)),
    "JSON": lambda jwk: json.dumps(jwk).encode(),
    "JSON without spaces": lambda jwk: json.dumps(jwk, separators=(",", ":")).encode(),
}
RSA_FORMS: dict[str, Callable[[Jwk], bytes]] = {
    "PKCS#1 PEM": rsa_pem,
    "PKCS#1 PEM without its last newline": lambda jwk: rsa_pem(jwk)[:-1],
    "its modulus": lambda jwk: from_base64url(jwk["n"]),
    "the JWK's n": lambda jwk: str(jwk["n"]).encode(),
}


def key_forms(jwk: Jwk) -> dict[str, bytes]:
    """A usable key in each form that applies to it, by the name of the form."""
    rows = FORMS | (RSA_FORMS if jwk["kty"] == "RSA" else {})
    return {name: write(jwk) for name, write in rows.items()} | certificate_forms(jwk.get("x5c"))


def certificate_forms(chain: object) -> dict[str, bytes]:
    """The first certificate of an x5c (RFC 7517, section 4.7), if there is one."""
    try:
        first = chain[0] if isinstance(chain, list) else ""
        first = "" if len(first) > MAX_KEY_TEXT else first
        data = base64.b64decode(first, validate=True)
    except (ValueError, LookupError, TypeError):
        return {}
    if not data:
        return {}
    return {"its certificate": pem("CERTIFICATE", data), "its certificate's x5c": first.encode()}


def key_info(algorithm: bytes, key: bytes) -> bytes:
    """A SubjectPublicKeyInfo: the algorithm, and the key as a bit string."""
    return der(0x30, algorithm + der(0x03, b"\x00" + key))


def der(tag: int, content: bytes) -> bytes:
    """Tag, length, content (X.690, section 8.1)."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def der_integer(value: int) -> bytes:
    """With a zero byte in front where the first bit would be 1: that bit is the sign."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def pem(label: str, data: bytes) -> bytes:
    """RFC 7468."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
