"""Parameters that a model refuses by their names, which test_openai_sdk.py must notice."""

from __future__ import annotations

from .answers import MAX_TOKENS_REFUSED, TEMPERATURE_REFUSED
from .fault import Fault, Install


def row(name: str, breaks: str, install: Install) -> Fault:
    script, check = "test_openai_sdk.py", "parameters"
    return Fault(name, breaks, script, check, install, "WARN", arguments=("--only", check))


ROWS: tuple[Fault, ...] = (
    row(
        "sdk-max-tokens",
        "max_tokens is refused: the model wants max_completion_tokens",
        MAX_TOKENS_REFUSED,
    ),
    row("sdk-temperature", "a temperature is refused", TEMPERATURE_REFUSED),
)
