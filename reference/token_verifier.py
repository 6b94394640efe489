"""Verifies the tokens of requests to the fleet. A fault weakens it by another `Policy`."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from .tokens import AUDIENCE, ISSUER, decoded, encoded, public_jwk

DISABLED_USERS = frozenset({"disabled"})
LEEWAY_S = 60  # as in the jsonwebtoken crate, which the real fleet uses
BASE64URL = re.compile("[A-Za-z0-9_-]*")


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


def is_canonical(segment: str) -> bool:
    """Whether this is base64url without padding or unused bits that are set (RFC 4648 3.5)."""
    return bool(BASE64URL.fullmatch(segment)) and encoded(decoded(segment)) == segment
