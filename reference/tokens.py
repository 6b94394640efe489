"""Prints a token of the reference fleet: a JWT, signed with RS256.

The private key is read from the file FLEET_KEY_FILE. The fleet makes the key when it starts and
removes it when it ends.

Examples:
    reference/get-token                                      # a user without roles
    reference/get-token --user ann --role admin --role model:specific
    reference/get-token --expires-in -300                    # a token that expired 5 minutes ago
    reference/get-token --user disabled                      # a user who is locked out
"""

# Scripts run this for every token that they need, so it starts fast: it signs with `cryptography`
# alone. PyJWT is used in token_verifier.py, which only the gateway needs.

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

try:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError as error:
    if __name__ != "__main__":
        raise
    raise SystemExit(f"get-token: {error}: pip install -r requirements-dev.txt") from None

KEY_VARIABLE = "FLEET_KEY_FILE"
ISSUER = "https://login.fleet.example"
AUDIENCE = "fleet"
DEFAULT_USER = "tester"
ADMIN = "admin"
SPECIFIC = "model:specific"
KEY_BITS = 2048
LIFE_S = 3600


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
    header = {"alg": "RS256", "kid": public_jwk(key.public_key())["kid"], "typ": "JWT"}
    message = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    signature = key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{message}.{encoded(signature)}"


# --- base64url


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(segment: str) -> bytes:
    """The bytes of base64url text. Other characters are ignored."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


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
