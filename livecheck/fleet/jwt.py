"""Reading a JSON Web Token, and putting one together from its parts.

Nothing is verified here: a signature is copied or left out, never checked.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Jwt:
    """A signed token (RFC 7519): its three parts as they were sent, and what is in them."""

    header: dict[str, Any]
    payload: dict[str, Any]
    parts: tuple[str, str, str] = field(repr=False)

    @property
    def message(self) -> str:
        """What the signature is made over."""
        return f"{self.parts[0]}.{self.parts[1]}"

    @property
    def signature(self) -> bytes:
        return from_base64url(self.parts[2])

    def with_signature(self, signature: bytes) -> str:
        """The same header and payload, byte by byte, with this signature."""
        return f"{self.message}.{to_base64url(signature)}"

    def with_payload(self, payload: Mapping[str, Any]) -> str:
        """The same header and signature, byte by byte, around this payload."""
        return f"{self.parts[0]}.{segment(payload)}.{self.parts[2]}"

    def with_header(self, header: Mapping[str, Any], signature: bytes) -> str:
        """The same payload, byte by byte, with this header and signature."""
        return f"{segment(header)}.{self.parts[1]}.{to_base64url(signature)}"


def read_jwt(token: str) -> Jwt | None:
    """The parts of a token; None when it is not a signed JWT, as an opaque API key."""
    parts = token.split(".")
    try:
        header, payload, _ = (from_base64url(part) for part in parts)
        objects = json.loads(header), json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(each, dict) for each in objects):
        return None
    return Jwt(objects[0], objects[1], (parts[0], parts[1], parts[2]))


def claims(token: str) -> dict[str, Any] | None:
    """The payload of a JWT (RFC 7519, section 3); None when the token is not a JWT."""
    jwt = read_jwt(token)
    return jwt.payload if jwt else None


def segment(content: Mapping[str, Any]) -> str:
    """A JSON object as a part of a token."""
    return to_base64url(json.dumps(content, separators=(",", ":")).encode())


def to_base64url(data: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes in a text of base64url, padded or not. Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
