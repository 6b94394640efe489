"""The command line of each step: what is run, and what an operator would type for it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livecheck.core.options import HIDDEN_VALUES
from livecheck.suite.steps import Step

ROOT = Path(__file__).resolve().parents[2]
REPEATED = {"slo", "denied_origin", "expect_mac", "alias"}  # one value each time that it is given
# Options that say where something is, or how it is reached, and not what is measured: two runs that
# differ only in these are comparable.
PLACES = {
    *("url", "health_url", "direct_url", "ca_file", "cert", "cert_key", "no_verify_ssl"),
    *("runpod_endpoint", "listen_wol", "verbose", "debug"),
    *HIDDEN_VALUES,
}


@dataclass(frozen=True)
class Access:
    """Where the deployment of a step is, and its credential.

    url: None when no setting names one, which is enough for a plan. name: what the operator calls
    the deployment. environment: variables for the script, with the credential among them.
    binary: a command that prints the credential, when it has to be an option; binary_shown: how
    that is shown, as a word for a shell.
    """

    url: str | None
    name: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    binary: str | None = field(default=None, repr=False)
    binary_shown: str = '"$TOKEN_BINARY"'


@dataclass(frozen=True)
class Command:
    """A step with its options. Nothing that is shown or saved of it has a credential in it."""

    step: Step
    access: Access
    options: Mapping[str, Any]

    @property
    def file(self) -> str:
        return f"{self.step.script}.py"

    def words(self, *more: object) -> list[str]:
        """What is run: the interpreter, the script, and its arguments."""
        binary = ["--token-binary", self.access.binary] if self.access.binary else []
        rest = [*binary, *arguments(self.options), *map(str, more)]
        return [sys.executable, str(ROOT / self.file), *self._url(), *rest]

    def shown(self, *more: object) -> str:
        """The same as a line for a shell. The credential comes from the environment, and in the
        place of a command in which one may stand there is COMMAND."""
        script = os.path.relpath(ROOT / self.file)
        words = ["python3", script if not script.startswith("..") else str(ROOT / self.file)]
        line = shlex.join([*words, *self._url()])
        binary = f" --token-binary {self.access.binary_shown}" if self.access.binary else ""
        options = {n: "COMMAND" if n in HIDDEN_VALUES else v for n, v in self.options.items()}
        return f"{line}{binary} {shlex.join([*arguments(options), *map(str, more)])}".rstrip()

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.access.environment}

    def _url(self) -> list[str]:
        return ["--url", self.access.url] if self.access.url else []

    def settings(self) -> dict[str, Any]:
        """The options that make two runs comparable."""
        return {name: self.options[name] for name in sorted(self.options) if name not in PLACES}


def arguments(options: Mapping[str, Any]) -> list[str]:
    """The options as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        values = [as_word(each) for each in value] if isinstance(value, (list, tuple)) else None
        if value is True:
            words.append(option)
        elif values is not None and name in REPEATED:
            words += [word for each in values for word in joined(option, each)]
        elif values is not None:
            words += [option, *values]
        else:
            words += joined(option, as_word(value))
    return words


def joined(option: str, value: str) -> list[str]:
    """An option and its value; in one word where the value looks like an option."""
    return [f"{option}={value}"] if value.startswith("-") else [option, value]


def as_word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def left_out(step: Step, options: Mapping[str, Any], look_up: Any) -> str | None:
    """Why a step is not run: what it needs is not given. None when it can run."""
    if step.needs is None or step.needs in options:
        return None
    if step.variable and look_up(step.variable):
        return None
    return f"give {step.hint} or {step.needs} = … under [script.{step.name}]" if step.hint else ""
