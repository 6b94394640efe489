"""The configuration of a live test: `live_test.toml`, read and checked before anything is sent.

A credential may not stand in it: the file names the variable or the command that has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livecheck.core.credentials import LIKE_A_SECRET
from livecheck.core.late_pattern import late_pattern
from livecheck.core.options import CREDENTIALS as OF_OPTIONS
from livecheck.core.text import shorten
from livecheck.core.toml_file import UnreadableToml, read_toml
from livecheck.suite.steps import ALL, NAMES, PROFILES, is_step

TABLES = ("gateway", "fleet", "script", "thresholds", "report")
KEYS = ("title", "profile", "only", "skip", *TABLES)
# Where a credential comes from, and what the deployment is called. The two names for the variable
# are one, as --api-key and --token are.
VARIABLES = ("api_key_variable", "token_variable")
TOKEN_COMMAND = "token_command"
NAME = "name"
SPECIAL = (*VARIABLES, TOKEN_COMMAND, NAME)
CREDENTIALS = {*OF_OPTIONS, "api_key", "password", "key"}
OURS = ("results", "output", "plan", "help", "config")  # run_all.py decides these itself
OF_REPORT = ("margin", "session_spread", "max_age", "gpu", "model_name", "quant")
VARIABLE = late_pattern(r"[A-Za-z_][A-Za-z0-9_]*")
OPTION = late_pattern(r"[a-z][a-z0-9_]*")
HEADER = late_pattern(r"\s*\[\s*([^\[\]]+?)\s*\]")
KEEP_OUT = "a credential may not stand here"
INSTEAD = "name the variable that has it (api_key_variable), or a command (token_command)"

Options = Mapping[str, Any]


class MistakeInConfig(ValueError):
    """What is wrong, in one line that names the file and, where it is known, the line in it."""


@dataclass(frozen=True)
class LiveTest:
    """What the file says; nothing of it, when there is no file.

    deployments: the options for "gateway" and "fleet". scripts: those of each script or step.
    thresholds: as in the file of report.py --thresholds. report: other options of report.py.
    """

    path: Path | None = None
    text: str = ""
    title: str | None = None
    profile: str | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    deployments: Mapping[str, Options] = field(default_factory=dict)
    scripts: Mapping[str, Options] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    report: Options = field(default_factory=dict)

    def mistake(self, words: str, *keys: str) -> MistakeInConfig:
        """The exception for a mistake at these keys, the outermost first."""
        return MistakeInConfig(place(self.path, self.text, keys) + words)


def read_live_test(path: Path | None) -> LiveTest:
    """Raises MistakeInConfig."""
    if path is None:
        return LiveTest()
    try:
        content, text = read_toml(path)
    except UnreadableToml as error:
        raise MistakeInConfig(str(error)) from None
    return parse_live_test(content, text, path)


def parse_live_test(content: Mapping[str, Any], text: str, path: Path) -> LiveTest:
    """Raises MistakeInConfig. `text` is where the line of a mistake is looked for."""
    plain = LiveTest(path, text)
    for key in content:
        if key not in KEYS:
            raise plain.mistake(f"unknown key {shown(key)}: known are {', '.join(KEYS)}", key)
        if key in TABLES and not isinstance(content[key], dict):
            raise plain.mistake(f"{key} must be a table, [{key}]", key)
    check_no_credential(plain, content)
    for name in ("gateway", "fleet"):
        check_options(plain, content.get(name, {}), name)
    for name, options in content.get("script", {}).items():
        if not is_step(name):
            known = f"known are {', '.join(NAMES)} and other levels, as inference_c16"
            raise plain.mistake(f"unknown script {shown(name)}: {known}", "script", name)
        if not isinstance(options, dict):
            raise plain.mistake(f"must be a table, [script.{name}]", "script", name)
        check_options(plain, options, "script", name)
    check_report(plain, content.get("report", {}))
    return LiveTest(
        path,
        text,
        title=read_text(plain, content, "title"),
        profile=read_profile(plain, content),
        only=read_steps(plain, content, "only"),
        skip=read_steps(plain, content, "skip"),
        deployments={name: content.get(name, {}) for name in PROFILES if name != ALL},
        scripts=content.get("script", {}),
        thresholds=content.get("thresholds", {}),
        report=content.get("report", {}),
    )


def shown(key: str) -> str:
    """A key of the file; it may be anything, also a credential."""
    return key if OPTION.fullmatch(key) and len(key) <= 40 else "(not a plain name)"


# --- what may stand in it


def check_no_credential(plain: LiveTest, content: Any, keys: Sequence[str] = ()) -> None:
    """Neither under a name that is made for one, nor anywhere by its form."""
    if isinstance(content, str) and LIKE_A_SECRET.search(content):
        raise plain.mistake(f"{KEEP_OUT}: {INSTEAD}", *keys)
    if isinstance(content, list):
        for each in content:
            check_no_credential(plain, each, keys)
    if isinstance(content, dict):
        for key, value in content.items():
            if LIKE_A_SECRET.search(key) or (key in CREDENTIALS and keys[:1] != ("thresholds",)):
                raise plain.mistake(f"{KEEP_OUT}: {INSTEAD}", *keys, key)
            check_no_credential(plain, value, (*keys, key))


def check_options(plain: LiveTest, options: Options, *keys: str) -> None:
    """The form of each option, and that of the keys about credentials. Whether a script has such an
    option is the script's own business."""
    for key, value in options.items():
        if not OPTION.fullmatch(key):
            raise plain.mistake(f"{shown(key)} is not the name of an option", *keys, key)
        if key in OURS:
            raise plain.mistake(f"{key} is decided by run_all.py itself", *keys, key)
        if key == NAME and len(keys) > 1:
            raise plain.mistake("a name belongs to [gateway] or [fleet]", *keys, key)
        if key in (*SPECIAL, "url") and not isinstance(value, str):
            raise plain.mistake(f"{key} must be a text", *keys, key)
        if key in VARIABLES and not VARIABLE.fullmatch(value):
            raise plain.mistake(f"{key} must be the name of a variable", *keys, key)
        if not is_value(value):
            what = "a text, a number, true, false, or a list of texts or numbers"
            raise plain.mistake(f"{key} must be {what}", *keys, key)


def is_value(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(is_value(e) and not isinstance(e, (list, bool)) for e in value)
    return isinstance(value, (str, int, float))


def check_report(plain: LiveTest, options: Options) -> None:
    for key, value in options.items():
        if key not in OF_REPORT:
            words = f"unknown key {shown(key)}: known are {', '.join(OF_REPORT)}"
            raise plain.mistake(words, "report", key)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise plain.mistake(f"{key} must be a text or a number", "report", key)


def read_text(plain: LiveTest, content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise plain.mistake(f"{key} must be a text", key)
    return value


def read_profile(plain: LiveTest, content: Mapping[str, Any]) -> str | None:
    value = read_text(plain, content, "profile")
    if value is not None and value not in PROFILES:
        raise plain.mistake(f"profile must be one of {', '.join(PROFILES)}", "profile")
    return value


def read_steps(plain: LiveTest, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise plain.mistake(f'{key} must be a list of scripts, as in ["test_queue"]', key)
    for each in value:
        if not is_step(each):
            raise plain.mistake(f"{key} names an unknown script {shown(each)}", key)
    return tuple(value)


# --- where it stands


def place(path: Path | None, text: str, keys: Sequence[str]) -> str:
    """`live_test.toml, line 7: `, or without the line when it cannot be told."""
    number = find_line(text, keys)
    return f"{path}, line {number}: " if number else f"{path}: "


def find_line(text: str, keys: Sequence[str]) -> int | None:
    """The line of the last of these keys, the outermost of which are tables. None: not found."""
    wanted, table = list(keys), [""]
    for number, line in enumerate(text.splitlines(), 1):
        if match := HEADER.match(line):
            table = parts_of(match[1])
            here = table
        else:
            here = [*table, *parts_of(line.partition("=")[0])] if "=" in line else []
        here = [part for part in here if part]
        if wanted and here[: len(wanted)] == wanted:
            return number
    return None


def parts_of(key: str) -> list[str]:
    """A dotted key, part by part."""
    return [part.strip(" \t\"'") for part in key.split(".")]


def message_for(text: str, live_test: LiveTest, names: Sequence[str]) -> MistakeInConfig | None:
    """A script's own words about one of its options, at the line of the file that gives it."""
    for name in re.findall(r"--([a-z][a-z0-9-]*)", text):
        key = name.replace("-", "_")
        for keys in (*(("script", each, key) for each in names), ("gateway", key), ("fleet", key)):
            if find_line(live_test.text, keys):
                return live_test.mistake(shorten(text, 300), *keys)
    return None
