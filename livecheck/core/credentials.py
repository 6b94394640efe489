"""Where credentials come from, and how they stay out of everything that is shown or saved."""

from __future__ import annotations

import base64
import contextlib
import html
import itertools
import json
import math
import os
import re
import selectors
import shlex
import shutil
import signal
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

TOKEN_BINARY_TIMEOUT_S = 30.0
MAX_PRINTED = 64 << 10  # bytes of a token binary; no token is that long
REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 4  # replacing shorter strings would shred the text and hide nothing
MIN_PART_LENGTH = 12  # of a secret's beginning, as of one that a server shortens
PIECE_LENGTH = 16  # of a secret, from anywhere in it: no coincidence
# What a document is made of. A short credential may be a word of it: "PASS", "user".
VOCABULARY = {"status", "verdict", "script", "tool_version", "started_at", "name", "group"}
HARMLESS = re.compile(r"(?!sk-|eyJ)(.{0,20}|[a-z_]+(=.{0,20})?)")  # certainly no credential
LIKE_A_SECRET = re.compile(r"(?<![\w-])(eyJ|sk-)[\w.~+/=-]{8,}")  # a JWT, an API key


class CannotCheck(Exception):
    """Nothing can be said about the deployment: exit 3. The text is the line the operator reads."""


class Secrets:
    """Every credential of this run, and what was forged from one: `redact` takes them out."""

    def __init__(self) -> None:
        self._pieces: dict[int, set[str]] = {}  # by length: what is never shown

    def add(self, secret: str) -> str:
        for form in forms_of(secret):
            if len(form) >= MIN_SECRET_LENGTH:
                self._add_pieces(form)
            if "." in form:  # a JWT: a server may repeat one of its parts alone
                for part in form.split("."):
                    self._add_pieces(part[:PIECE_LENGTH], MIN_PART_LENGTH)
        return secret

    def _add_pieces(self, form: str, least: int = MIN_SECRET_LENGTH) -> None:
        """Add the form itself if it is short, else its beginnings and all pieces of one length."""
        begins = [form[:size] for size in range(MIN_PART_LENGTH, min(PIECE_LENGTH, len(form)))]
        pieces = [form[at : at + PIECE_LENGTH] for at in range(len(form) - PIECE_LENGTH + 1)]
        for piece in [*begins, *(pieces or [form])]:
            if len(piece) >= least:
                self._pieces.setdefault(len(piece), set()).add(piece)

    def redact(self, text: str, least: int = MIN_SECRET_LENGTH) -> str:
        """The text without any piece of a secret that has at least `least` characters."""
        hidden = bytearray(len(text))
        for size, pieces in self._pieces.items():
            if least <= size <= len(text):
                for at in range(len(text) - size + 1):
                    if text[at : at + size] in pieces:
                        hidden[at : at + size] = b"\1" * size
        if not any(hidden):
            return text
        runs = itertools.groupby(zip(hidden, text, strict=True), key=lambda pair: pair[0])
        return "".join(REDACTED if kept else "".join(c for _, c in run) for kept, run in runs)

    def redact_all(self, value: Any, least: int = MIN_SECRET_LENGTH) -> Any:
        """A value that JSON can hold, with every string in it redacted. In keys, and in the values
        of the keys in VOCABULARY, short secrets are left: they may be ordinary words."""
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None  # servers do send NaN
        if isinstance(value, str):  # the status of a check is one as well
            return self.redact(value, least)
        if isinstance(value, Mapping):
            return {
                self.redact(str(key), MIN_PART_LENGTH): self.redact_all(
                    item, MIN_PART_LENGTH if key in VOCABULARY else least
                )
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.redact_all(item, least) for item in value]
        return self.redact(str(value), least)


def forms_of(secret: str) -> set[str]:
    """How a server or a library may write it."""
    quoted = [urllib.parse.quote(secret, safe="/"), urllib.parse.quote(secret, safe="")]
    lower = [re.sub("%..", lambda match: match[0].lower(), form) for form in quoted]
    as_json = json.dumps(secret)[1:-1]
    forms = {secret, *quoted, *lower, as_json, as_json.replace("/", "\\/"), html.escape(secret)}
    if len(secret) >= PIECE_LENGTH:
        encoded = base64.b64encode(secret.encode()).decode()
        forms |= {secret.lower(), encoded.rstrip("=")}
    return forms


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
    who = shown_binary(command[0])
    try:
        # a session of its own, so that on a timeout whatever it started goes with it
        whole = [*command, *arguments]
        process = Popen(whole, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the command
        reason = error.strerror if isinstance(error, OSError) else "no command"
        raise CannotCheck(f"cannot run {who}: {reason}") from None
    try:
        out, err = read_printed(process, who)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0:
        raise CannotCheck(f"{who} ended with {process.returncode}: {last_words(out, err)}")
    lines = out.strip().splitlines()
    if len(lines) != 1:
        raise CannotCheck(f"{who} printed {len(lines)} lines, not just the token")
    try:
        return check_token(lines[0].strip(), who)
    except ValueError as error:
        raise CannotCheck(str(error)) from None


def shown_binary(name: str) -> str:
    """What to call it: by its name, unless that may be a credential in the wrong place."""
    # base64 has slashes as well, but hardly one to begin with
    is_path = name[:1] in "./~" and all(map(HARMLESS.fullmatch, name.split("/")))
    if is_path or HARMLESS.fullmatch(name) or shutil.which(name) or os.path.exists(name):
        return f"the token binary {name}"
    return "the token binary (not named here: it may be a credential)"


def read_printed(process: Popen[bytes], who: str) -> tuple[str, str]:
    """Its standard output and the end of its stderr, once it has ended. Raises CannotCheck."""
    assert process.stdout and process.stderr
    printed = {process.stdout: b"", process.stderr: b""}
    end_s = time.monotonic() + TOKEN_BINARY_TIMEOUT_S
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        for pipe in printed:
            selector.register(pipe, selectors.EVENT_READ, pipe)
        while selector.get_map():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise no_token(who)
            for key, _ in selector.select(left_s):
                data = os.read(key.fd, MAX_PRINTED)
                printed[key.data] = (printed[key.data] + data)[-MAX_PRINTED - 1 :]
                if not data:
                    selector.unregister(key.fileobj)
            if len(printed[process.stdout]) > MAX_PRINTED:
                raise CannotCheck(f"{who} printed more than {MAX_PRINTED >> 10} KB, not a token")
    try:
        process.wait(max(0.0, end_s - time.monotonic()))
    except TimeoutExpired:
        raise no_token(who) from None
    out, err = (data.decode(errors="replace") for data in printed.values())
    return out, err


def no_token(who: str) -> CannotCheck:
    return CannotCheck(f"{who} gave no token within {TOKEN_BINARY_TIMEOUT_S:g} s")


def last_words(out: str, err: str) -> str:
    """The last line of its stderr, without what it printed, and without what may be a token."""
    printed = Secrets()
    for word in out.split():
        printed.add(word)
    last = (err.strip().splitlines() or ["nothing on stderr"])[-1]
    return LIKE_A_SECRET.sub(REDACTED, printed.redact(last))[:200]


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
            options = "--token, --token-binary or SIMPLEAI_TEST_TOKEN"
            raise CannotCheck(f"No JWT token available: use {options}")
        return self._token
