"""Reads a TOML file of the operator's, within bounds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from livecheck.core.text import shorten

MAX_BYTES = 64 << 10  # a file with a line for each setting has a few KB


class UnreadableToml(ValueError):
    """What is wrong with the file: one line, which names it."""


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The content of the file, and its text. Raises UnreadableToml.

    Unlike a result file it may be a pipe, `<(…)` of a shell, and its writer is waited for.
    """
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableToml(f"cannot read {path} ({error.strerror})") from None
    if len(data) > MAX_BYTES:
        raise UnreadableToml(f"{path} has more than {MAX_BYTES >> 10} KB")
    try:
        text = data.decode()
        return toml.loads(text), text
    except UnicodeDecodeError:
        raise UnreadableToml(f"{path} is not TOML: it is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # also of a number with too many digits
        raise UnreadableToml(f"{path} is not TOML: {shorten(str(error))}") from None
