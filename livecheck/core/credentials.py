"""Where credentials come from, and how they stay out of everything that is shown or saved."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from livecheck.core.command_output import Command, NoOutput
from livecheck.core.late_pattern import late_pattern
from livecheck.core.redaction import REDACTED, Secrets

TOKEN_BINARY_TIMEOUT_S = 30.0
MAX_LINE = 64 << 10  # characters of a token that is read from a line; a JWT has some thousands
MAX_LAST_WORDS = 4000  # characters of its stderr that are looked through
HARMLESS = late_pattern(r"(?!sk-|eyJ)(.{0,20}|[a-z_]+(=.{0,20})?)")  # certainly no credential
LIKE_A_JWT = late_pattern(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")  # its header is a JSON object in base64
LIKE_A_SECRET = late_pattern(r"(?<![\w-])(eyJ|sk-)[\w.~+/=-]{8,}")  # a JWT, an API key
# A part of a token that nobody knows yet: letters of both cases and digits, without a space
LIKE_A_PIECE = late_pattern(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{8,}")


class CannotCheck(Exception):
    """Nothing can be said about the deployment: exit 3. The text is the line the operator reads."""


class NoAccess(CannotCheck):
    """Nor could any other command say something: nothing answers, or nobody is let in."""


def token_of_stdin() -> str:
    """The first line of standard input. ValueError when it is longer than any token."""
    line = sys.stdin.readline(MAX_LINE + 1) if sys.stdin else ""
    if len(line) > MAX_LINE:
        raise ValueError(f"the token from standard input has more than {MAX_LINE >> 10} KB")
    return line


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
        out, err, code = Command([*command, *arguments], TOKEN_BINARY_TIMEOUT_S).run()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the command
        reason = error.strerror if isinstance(error, OSError) else "no command"
        raise CannotCheck(f"cannot run {who}: {reason}") from None
    except NoOutput as problem:
        raise CannotCheck(f"{who} gave no token: it {problem}") from None
    if code != 0:
        raise CannotCheck(f"{who} ended with {code}: {last_words(out, err)}")
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


def last_words(out: str, err: str) -> str:
    """The last line of its stderr, without what it printed, and without what may be a token."""
    printed = Secrets()
    for word in out.split():
        printed.add(word)
    last = (err.strip().splitlines() or ["nothing on stderr"])[-1]
    last = LIKE_A_SECRET.sub(REDACTED, printed.redact(last[:MAX_LAST_WORDS]))
    return LIKE_A_PIECE.sub(REDACTED, last)[:200]


class Credentials:
    """The operator's token, or the command that makes one for a role or user.

    ValueError for a command that cannot be read.
    """

    def __init__(self, token: str | None, command: str | None, needed: bool, secrets: Secrets):
        self._token, self._needed, self._secrets = token, needed, secrets
        self._latest = token  # what was handed out last
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
    def kind(self) -> str:
        """What the latest credential is by its form: a JWT, or anything else."""
        return "JWT" if LIKE_A_JWT.fullmatch(self._latest or "") else "API key"

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
            self._latest = self._secrets.add(call_token_binary(self._binary, asked))
            return self._latest
        self._latest = self._token
        if self._token is None and self._needed:
            options = "--token, --token-binary or SIMPLEAI_TEST_TOKEN"
            raise NoAccess(f"No JWT token available: use {options}")
        return self._token
