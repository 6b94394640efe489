"""Where credentials come from, and how they stay out of everything that is shown or saved."""

from __future__ import annotations

import contextlib
import html
import json
import math
import os
import re
import shlex
import signal
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

TOKEN_BINARY_TIMEOUT_S = 30.0
REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 4  # replacing shorter strings would shred the text and hide nothing
MIN_PART_LENGTH = 12  # of a secret whose end was cut off, as by a server that shortens its words


class CannotCheck(Exception):
    """Nothing can be said about the deployment: exit 3. The text is the line the operator reads."""


class Secrets:
    """Every credential of this run, and what was forged from one: `redact` takes them out."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def add(self, secret: str) -> str:
        quoted = [urllib.parse.quote(secret, safe="/"), urllib.parse.quote(secret, safe="")]
        lower = [re.sub("%..", lambda match: match[0].lower(), form) for form in quoted]
        as_json = json.dumps(secret)[1:-1]
        escaped = [as_json, as_json.replace("/", "\\/"), html.escape(secret)]
        for form in (secret, *quoted, *lower, *escaped):
            if len(form) >= MIN_SECRET_LENGTH:
                self._known.add(form)
        return secret

    def redact(self, text: str) -> str:
        for secret in sorted(self._known, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return self._redact_parts(text)

    def _redact_parts(self, text: str) -> str:
        """Without the beginnings of secrets; of those that begin alike, the longest."""
        heads = {each[:MIN_PART_LENGTH] for each in self._known if len(each) > MIN_PART_LENGTH}
        for head in heads:
            at = text.find(head)
            while at >= 0:
                length = max(len(os.path.commonprefix([each, text[at:]])) for each in self._known)
                text = text[:at] + REDACTED + text[at + length :]
                at = text.find(head, at + len(REDACTED))
        return text

    def redact_all(self, value: Any) -> Any:
        """The same as JSON can carry it, with every string in it redacted."""
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None  # servers do send NaN
        if isinstance(value, str):  # the status of a check is one as well
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self.redact(str(key)): self.redact_all(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.redact_all(item) for item in value]
        return self.redact(str(value))


def check_token(token: str, source: str) -> str:
    """ValueError unless the token can stand in a header line."""
    if not token:
        raise ValueError(f"the token from {source} is empty")
    if any(not 0x21 <= ord(character) <= 0x7E for character in token):
        raise ValueError(f"the token from {source} has white space or non-ASCII characters in it")
    return token


def call_token_binary(command: Sequence[str], arguments: Sequence[str]) -> str:
    """Run the operator's token command and return the one line it prints.

    Raises CannotCheck, never with anything of its standard output in the text.
    """
    name = command[0]
    try:
        # a session of its own, so that on a timeout whatever it started goes with it
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CannotCheck(f"cannot run the token binary {name}: {error.strerror}") from None
    try:
        out, err = process.communicate(timeout=TOKEN_BINARY_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CannotCheck(
            f"the token binary {name} gave no token within {TOKEN_BINARY_TIMEOUT_S:g} s"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lines = out.strip().splitlines()
    if process.returncode != 0:
        printed = Secrets()
        for word in out.split():
            printed.add(word)
        last = printed.redact((err.strip().splitlines() or ["nothing on stderr"])[-1])[:200]
        raise CannotCheck(f"the token binary {name} ended with {process.returncode}: {last}")
    if len(lines) != 1:
        raise CannotCheck(f"the token binary {name} printed {len(lines)} lines, not just the token")
    try:
        return check_token(lines[0].strip(), f"the token binary {name}")
    except ValueError as error:
        raise CannotCheck(str(error)) from None


class Credentials:
    """The operator's token, or the command that makes one for a role or user.

    ValueError for a command that cannot be read.
    """

    def __init__(self, token: str | None, command: str | None, needed: bool, secrets: Secrets):
        self._token, self._needed, self._secrets = token, needed, secrets
        try:
            self._binary = shlex.split(command or "")
        except ValueError as error:
            raise ValueError(f"the token binary cannot be read as a command: {error}") from None
        if command is not None and not self._binary:
            raise ValueError("--token-binary is empty")

    @property
    def given(self) -> bool:
        """Whether there is any credential to try."""
        return bool(self._token or self._binary)

    @property
    def has_binary(self) -> bool:
        """Whether a token can be had for any role and user."""
        return bool(self._binary)

    def token(self, role: str | None = None, user: str | None = None) -> str | None:
        """A credential; None only where the deployment may do without. CannotCheck otherwise."""
        asked = [*(["--user", user] if user else []), *(["--role", role] if role else [])]
        if asked and not self._binary:
            raise CannotCheck(f"a token for {' '.join(asked)} takes --token-binary")
        if self._binary and (asked or self._token is None):
            return self._secrets.add(call_token_binary(self._binary, asked))
        if self._token is None and self._needed:
            raise CannotCheck(
                "No JWT token available: use --token, --token-binary or SIMPLEAI_TEST_TOKEN"
            )
        return self._token
