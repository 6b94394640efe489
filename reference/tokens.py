"""The fleet's tokens: JWTs signed with RS256, the JWKS to check them with, and who checks.

`reference/get-token` runs this module. It signs with the private key in FLEET_KEY_FILE, which
the deployment made when it started and removes when it ends.

Examples:
    reference/get-token                                      # a user without roles
    reference/get-token --user ann --role admin --role model:specific
    reference/get-token --expires-in -300                    # one that expired 5 minutes ago
    reference/get-token --user disabled                      # a user who may not come in
"""

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
LEEWAY_S = 60  # as in the jsonwebtoken crate
SEGMENT = re.compile("[A-Za-z0-9_-]*")
# What the checks of PyJWT are given besides: which claims there must be.
REQUIRED = ["exp", "iss", "aud", "sub"]


# --- keys


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def write_key(key: rsa.RSAPrivateKey, path: Path) -> None:
    """As PEM, readable by its owner only."""
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
    """The public key as JWK; its kid is the thumbprint (RFC 7638)."""
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


# --- giving them out


def new_token(
    key: rsa.RSAPrivateKey, user: str, roles: Sequence[str], expires_in_s: float = LIFE_S
) -> str:
    now_s = int(time.time())
    # One that is already over was given out before it was.
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


# --- checking them


@dataclass(frozen=True)
class User:
    name: str
    roles: frozenset[str] = frozenset()


class Denied(Exception):
    """No user is behind this request: 401, or 403 for one who is known and locked out."""

    def __init__(self, reason: str, status: int = 401) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Policy:
    """What is asked of a token. The defaults are sound; each field is there to be broken.

    schemes: accepted, in lower case, whatever the case they are sent in (unless `any_case`).
    bare_key, query_token: also accept a token without a scheme, or as `?access_token=`.
    strict_text: refuse base64url with padding, foreign characters or stray bits in it.
    signature: check it at all. unsigned: accept `alg` none, in any spelling.
    hs256_secrets: keys HS256 is accepted with (b"": the empty one).
    any_kid: a kid nobody knows stands for the key there is.
    kid_is_path: a kid with a slash is a file's name, and HS256 with its content accepted.
    embedded_key: a key in the token's own `jwk` header is trusted.
    expiry, issuer, audience, critical: check `exp` (and `nbf`), `iss`, `aud`, refuse `crit`.
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
    """Finds the user behind a request's credential. Replace `policy` to weaken it."""

    def __init__(self, key: rsa.RSAPublicKey, policy: Policy | None = None) -> None:
        self.key = key
        self.kid = public_jwk(key)["kid"]
        self.policy = policy or Policy()

    def user(self, authorization: str | None, query: Mapping[str, str]) -> User:
        """The user, from the value of the Authorization header; Denied when there is none."""
        claims = self.claims(self.credential(authorization, query))
        roles = claims.get("roles")
        roles = roles if isinstance(roles, list) else []
        user = User(str(claims["sub"]), frozenset(role for role in roles if isinstance(role, str)))
        if user.name in self.policy.disabled:
            raise Denied("User is disabled", 403)
        return user

    def credential(self, authorization: str | None, query: Mapping[str, str]) -> str:
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
        """The claims of a token that holds; Denied for any other."""
        try:
            header = self._header(token)
            if self.policy.signature:
                self._check_signature(token, header)
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
            raise ValueError("an extension nobody here understands")
        return header

    def _check_signature(self, token: str, header: Mapping[str, Any]) -> None:
        """ValueError unless one of the accepted ways of signing holds; sound: only RS256."""
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
        # PyJWT only judges whole tokens; under a header of our own it judges the claims alone.
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
    """The bytes of base64url text; what does not belong there is passed over."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def is_canonical(segment: str) -> bool:
    return bool(SEGMENT.fullmatch(segment)) and encoded(decoded(segment)) == segment


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
    parser.add_argument("command", nargs="?", choices=["token"], help="may be left out")
    parser.add_argument("--user", default=DEFAULT_USER, help=f"the `sub` claim ({DEFAULT_USER})")
    parser.add_argument("--role", action="append", default=[], help="repeatable (none)")
    parser.add_argument(
        "--expires-in", type=seconds, default=LIFE_S, metavar="SECONDS", help=f"life ({LIFE_S})"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    path = os.environ.get(KEY_VARIABLE)
    if not path:
        print(f"get-token: {KEY_VARIABLE} is not set: is the fleet up?", file=sys.stderr)
        return 1
    try:
        key = read_key(Path(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not an RSA key"
        print(f"get-token: {KEY_VARIABLE} {path}: {reason}: is the fleet up?", file=sys.stderr)
        return 1
    print(new_token(key, args.user, args.role, args.expires_in))
    return 0


if __name__ == "__main__":
    sys.exit(main())
