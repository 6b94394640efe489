"""Where a script's settings come from: which variables, the `.env` file, a URL that can be used."""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Deployment:
    """Where the settings of one of the two deployments come from. They are never mixed."""

    url_variable: str
    token_variable: str
    binary_variable: str | None
    default_url: str | None
    needs_token: bool
    cert_variable: str
    cert_key_variable: str


GATEWAY = Deployment(
    url_variable="INFERENCE_URL",
    token_variable="INFERENCE_API_KEY",
    binary_variable=None,
    default_url=None,
    needs_token=False,
    cert_variable="INFERENCE_CERT",
    cert_key_variable="INFERENCE_CERT_KEY",
)
FLEET = Deployment(
    url_variable="SIMPLEAI_URL",
    token_variable="SIMPLEAI_TEST_TOKEN",
    binary_variable="TOKEN_BINARY",
    default_url="https://ai.lelloman.com",
    needs_token=True,
    cert_variable="SIMPLEAI_CERT",
    cert_key_variable="SIMPLEAI_CERT_KEY",
)


def read_settings(environment: Mapping[str, str] = os.environ) -> Callable[[str], str | None]:
    """A look-up by name: the environment, then `.env` in the current folder. Empty is not set."""
    file_values: dict[str, str | None] = {}
    if Path(".env").is_file():
        from dotenv import dotenv_values

        # interpolate=False: a credential with ${ in it is taken as it stands
        try:
            file_values = dict(dotenv_values(Path(".env"), interpolate=False))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read .env: {error}") from None

    def look_up(name: str) -> str | None:
        set_to = (environment.get(name) or "").strip()
        return set_to or (file_values.get(name) or "").strip() or None

    return look_up


def check_url(text: str) -> str:
    """The URL without a slash at its end.

    ValueError says what is wrong with it, without repeating it: it may be the key, misplaced.
    """
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("the URL has white space or control characters in it")
    if "@" in text:
        raise ValueError("the URL carries a user or password: use --token")
    if "?" in text or "#" in text:
        raise ValueError("the URL has a query or fragment: give the base URL only")
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("that is not a URL: write http://host:port or https://host")
    try:
        if "[" in parts.netloc:
            ipaddress.IPv6Address(parts.hostname)  # Python 3.10 takes any word in brackets
        usable = parts.port != 0  # .port itself raises ValueError beyond 65535
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("the URL has no usable host name") from None
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("the URL has no usable host or port")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def is_in_clear(url: str) -> bool:
    """Whether what is sent there crosses a network unencrypted."""
    return url.startswith("http:") and not is_loopback(url)


def is_loopback(url: str) -> bool:
    return is_loopback_host(urllib.parse.urlsplit(url).hostname or "")


def is_loopback_host(host: str) -> bool:
    """Whether it is this machine itself, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
