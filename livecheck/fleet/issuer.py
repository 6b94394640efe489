"""Where the public keys of a token are published: by the deployment, or by the token's issuer.

No credential is sent, and nothing is asked twice.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet.jwt import Jwt
from livecheck.fleet.public_keys import read_jwks
from livecheck.wire.answer import Answer
from livecheck.wire.asking import open_wire, show
from livecheck.wire.chat import get
from livecheck.wire.wire import Wire

JWKS = "/.well-known/jwks.json"
DISCOVERY = "/.well-known/openid-configuration"
TIMEOUT_S = 5.0  # the issuer is another server, and not the one to be checked


def find_public_keys(run: Run, wire: Wire, jwt: Jwt) -> list[dict[str, Any]]:
    """The keys in the deployment's own JWKS, else in that of the token's issuer; [] without any."""
    kid, issuer = jwt.header.get("kid"), jwt.payload.get("iss")
    answer = Answer(wire.exchange([get(JWKS)])[0])
    show(run, answer)
    keys = read_jwks(answer.body, kid) if answer.is_ok else []
    if keys or not isinstance(issuer, str):
        return keys
    return read_jwks(ask_issuer(run, issuer.rstrip("/")), kid)


def ask_issuer(run: Run, issuer: str) -> bytes:
    """The JWKS that an OpenID provider names (OpenID Connect Discovery, section 4), else the one at
    the usual path; b"" when there is neither."""
    found = get_elsewhere(run, issuer + DISCOVERY)
    content = found.json if found and found.is_ok else None
    where = content.get("jwks_uri") if isinstance(content, dict) else None
    answer = get_elsewhere(run, where if isinstance(where, str) else issuer + JWKS)
    return answer.body if answer and answer.is_ok else b""


def get_elsewhere(run: Run, url: str) -> Answer | None:
    """GET from another server, without a credential; None when this is not a URL."""
    parts = split_url(url)
    if parts is None:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    origin = f"{parts.scheme}://{parts.netloc}"
    with open_wire(run, None, min(TIMEOUT_S, run.args.timeout), origin) as wire:
        answer = Answer(wire.exchange([get(path)])[0])
    show(run, answer, f"GET {shorten(url)}")
    return answer


def split_url(url: str) -> urllib.parse.SplitResult | None:
    """The parts of a URL that can be asked; None for anything else that a token may say."""
    if not all(0x21 <= ord(character) <= 0x7E for character in url) or "@" in url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        parts.netloc.encode("idna")
    except ValueError:  # which a UnicodeError is as well
        return None
    return parts if is_usable else None
