"""Prints a token of the reference fleet: a JWT, signed with RS256.

The private key is read from the file FLEET_KEY_FILE. The fleet makes the key when it starts and
removes it when it ends.

Examples:
    reference/get-token                                      # a user without roles
    reference/get-token --user ann --role admin --role model:specific
    reference/get-token --expires-in -300                    # a token that expired 5 minutes ago
    reference/get-token --user disabled                      # a user who is locked out
"""

# The gateway uses this module, too: for the public keys (JWKS) and to verify tokens.

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

try:
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
except ImportError as error:
    if __name__ != "__main__":
        raise
    raise SystemExit(f"get-token: {error}: pip install -r requirements-dev.txt") from None

KEY_VARIABLE = "FLEET_KEY_FILE"
ISSUER = "https://login.fleet.example"
AUDIENCE = "fleet"
DEFAULT_USER = "tester"
DISABLED_USERS = frozenset({"disabled"})
ADMIN = "admin"
SPECIFIC = "model:specific"
KEY_BITS = 2048
LIFE_S = 3600
LEEWAY_S = 60  # as in the jsonwebtoken crate, which the real fleet uses
BASE64URL = re.compile("[A-Za-z0-9_-]*")


# --- keys


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def write_key(key: rsa.RSAPrivateKey, path: Path) -> None:
    """Write the key as PEM, in a new file that only its owner can read."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def read_key(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")
    return key


def public_jwk(key: rsa.RSAPublicKey) -> dict[str, str]:
    """The public key as a JWK. Its kid is the thumbprint of the key (RFC 7638)."""
    numbers = key.public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    parts = {
        "e": encoded(numbers.e.to_bytes(3, "big")),
        "kty": "RSA",
        "n": encoded(numbers.n.to_bytes(size, "big")),
    }
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return {**parts, "kid": encoded(digest), "use": "sig", "alg": "RS256"}


def jwks(key: rsa.RSAPublicKey) -> dict[str, Any]:
    return {"keys": [public_jwk(key)]}


def public_pem(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# --- signing tokens


def new_token(
    key: rsa.RSAPrivateKey, user: str, roles: Sequence[str], expires_in_s: float = LIFE_S
) -> str:
    """A signed token. A negative `expires_in_s` gives one that has expired already."""
    now_s = int(time.time())
    # A token that has expired was issued before it expired.
    issued_s = min(now_s, int(now_s + expires_in_s))
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "iat": issued_s,
        "exp": int(now_s + expires_in_s),
        "roles": list(roles),
    }
    kid = public_jwk(key.public_key())["kid"]
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})


# --- verifying tokens


@dataclass(frozen=True)
class User:
    name: str
    roles: frozenset[str] = frozenset()


class Denied(Exception):
    """A request is not accepted: 401, or 403 for a user who is known and locked out."""

    def __init__(self, reason: str, status: int = 401) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Policy:
    """What a token must fulfil. The defaults are sound; a fault weakens one of the fields.

    schemes: the accepted schemes, in lower case.
    any_case: accept a scheme in upper or lower case; else exactly as in `schemes`.
    bare_key: accept a token without a scheme.
    query_token: accept a token in the query parameter `access_token`.
    strict_text: refuse base64url with padding, other characters or unused bits that are set.
    signature: check the signature.
    unsigned: accept the algorithm `none`, in upper or lower case.
    hs256_secrets: accept HS256 with one of these keys; b"" is the empty key.
    any_kid: accept an unknown kid and use the known key.
    kid_is_path: read a kid that contains a slash as the name of a file that has the HS256 key.
    embedded_key: trust a key in the token's own `jwk` header.
    expiry: check `exp` and `nbf`. issuer: check `iss`. audience: check `aud`.
    critical: refuse a token whose header has `crit` (RFC 7515 4.1.11).
    disabled: users who are refused with 403.
    """

    schemes: tuple[str, ...] = ("bearer",)
    any_case: bool = True
    bare_key: bool = False
    query_token: bool = False
    strict_text: bool = True
    signature: bool = True
    unsigned: bool = False
    hs256_secrets: tuple[bytes, ...] = ()
    any_kid: bool = False
    kid_is_path: bool = False
    embedded_key: bool = False
    expiry: bool = True
    issuer: bool = True
    audience: bool = True
    critical: bool = True
    disabled: frozenset[str] = DISABLED_USERS


class Verifier:
    """Finds the user who sent a request. A fault weakens it by another `policy`."""

    def __init__(self, key: rsa.RSAPublicKey, policy: Policy | None = None) -> None:
        self.key = key
        self.kid = public_jwk(key)["kid"]
        self.policy = policy or Policy()

    def user(self, authorization: str | None, query: Mapping[str, str]) -> User:
        """The user, from the value of the Authorization header. Raises Denied."""
        claims = self.claims(self.credential(authorization, query))
        roles = claims.get("roles")
        roles = roles if isinstance(roles, list) else []
        user = User(str(claims["sub"]), frozenset(role for role in roles if isinstance(role, str)))
        if user.name in self.policy.disabled:
            raise Denied("User is disabled", 403)
        return user

    def credential(self, authorization: str | None, query: Mapping[str, str]) -> str:
        """The token as it was sent. Raises Denied when there is none."""
        if self.policy.query_token and "access_token" in query:
            return query["access_token"]
        if not authorization:
            raise Denied("Missing authorization header")
        scheme, _, token = authorization.strip().partition(" ")
        if self.policy.any_case:
            scheme = scheme.lower()
        if scheme in self.policy.schemes and token.strip():
            return token.strip()
        if self.policy.bare_key and not token:
            return authorization.strip()
        raise Denied("Missing bearer token")

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a valid token. Raises Denied for any other token."""
        try:
            header = self._header(token)
            if self.policy.signature:
                self.check_signature(token, header)
            return self._checked_claims(token)
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError, RecursionError):
            raise Denied("Invalid token") from None

    def _header(self, token: str) -> dict[str, Any]:
        segments = token.split(".")
        if len(segments) != 3:
            raise ValueError("not three segments")
        if self.policy.strict_text and not all(map(is_canonical, segments)):
            raise ValueError("not base64url")
        header = json.loads(decoded(segments[0]))
        if not isinstance(header, dict):
            raise ValueError("the header is not an object")
        if self.policy.critical and "crit" in header:
            raise ValueError("crit names an extension that is not supported")
        return header

    def check_signature(self, token: str, header: Mapping[str, Any]) -> None:
        """Raises ValueError unless the signature is valid. A sound policy accepts only RS256."""
        message, _, signature = token.rpartition(".")
        signed, policy = decoded(signature), self.policy
        algorithm, kid = str(header.get("alg")), header.get("kid")
        if policy.unsigned and algorithm.lower() == "none":
            return
        if algorithm == "HS256" and any(
            hmac.compare_digest(hmac.digest(secret, message.encode(), "sha256"), signed)
            for secret in self._secrets(kid)
        ):
            return
        if algorithm != "RS256":
            raise ValueError("an algorithm that is not accepted")
        if kid != self.kid and not (policy.any_kid or policy.embedded_key):
            raise ValueError("an unknown kid")
        method = jwt.get_algorithm_by_name("RS256")
        if not method.verify(message.encode(), self._key(header), signed):
            raise ValueError("a wrong signature")

    def _secrets(self, kid: object) -> tuple[bytes, ...]:
        if self.policy.kid_is_path and isinstance(kid, str) and "/" in kid:
            with open("/" + kid.lstrip("./"), "rb") as file:
                return (*self.policy.hs256_secrets, file.read(4096))
        return self.policy.hs256_secrets

    def _key(self, header: Mapping[str, Any]) -> Any:
        if self.policy.embedded_key and isinstance(header.get("jwk"), dict):
            return jwt.PyJWK.from_dict(header["jwk"], algorithm="RS256").key
        return self.key

    def _checked_claims(self, token: str) -> dict[str, Any]:
        policy = self.policy
        body: dict[str, Any] = json.loads(decoded(token.split(".")[1]))
        names = {"exp": policy.expiry, "iss": policy.issuer, "aud": policy.audience, "sub": True}
        if policy.expiry and not isinstance(body.get("exp"), (int, float)):
            raise ValueError("exp is not a number")
        # PyJWT checks whole tokens only. With an unsigned header around them, it checks the claims
        # alone; the signature was checked before.
        unsigned = jwt.encode(body, "", algorithm="none")
        return jwt.decode(
            unsigned,
            options={
                "verify_signature": False,
                "verify_exp": policy.expiry,
                "verify_nbf": policy.expiry,
                "verify_iss": policy.issuer,
                "verify_aud": policy.audience,
                "verify_sub": True,
                "require": [name for name, wanted in names.items() if wanted],
            },
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=LEEWAY_S,
        )


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(segment: str) -> bytes:
    """The bytes of base64url text. Other characters are ignored."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def is_canonical(segment: str) -> bool:
    """Whether this is base64url without padding or unused bits that are set (RFC 4648 3.5)."""
    return bool(BASE64URL.fullmatch(segment)) and encoded(decoded(segment)) == segment


# --- get-token


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"get-token: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)


def seconds(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="get-token",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=["token"], help="may be omitted")
    parser.add_argument(
        "--user", default=DEFAULT_USER, help=f"claim `sub` of the token ({DEFAULT_USER})"
    )
    parser.add_argument(
        "--role", action="append", default=[], help="a role of the user, repeatable (none)"
    )
    parser.add_argument(
        "--expires-in",
        type=seconds,
        default=LIFE_S,
        metavar="SECONDS",
        help=f"lifetime, negative for an expired token ({LIFE_S})",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    path = os.environ.get(KEY_VARIABLE)
    if not path:
        print(f"get-token: {KEY_VARIABLE} is not set: is the fleet running?", file=sys.stderr)
        return 1
    try:
        key = read_key(Path(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not an RSA key"
        print(f"get-token: {KEY_VARIABLE} {path}: {reason}: is the fleet running?", file=sys.stderr)
        return 1
    print(new_token(key, args.user, args.role, args.expires_in))
    return 0


if __name__ == "__main__":
    sys.exit(main())
