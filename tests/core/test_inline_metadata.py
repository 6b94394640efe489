"""Each command says in a comment what it needs (PEP 723), so that `uv run` needs no set-up."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from helpers.scripts import PYTHON, ROOT

# https://packaging.python.org/en/latest/specifications/inline-script-metadata
BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
# locustfile.py is read by `locust`, which has an environment of its own
NOT_COMMANDS = {"common.py", "locustfile.py"}
COMMANDS = sorted({path.name for path in ROOT.glob("*.py")} - NOT_COMMANDS)
ALL = ("requirements.txt", "requirements-report.txt")
STARTS_OTHERS = ("run_all.py",)  # with its own Python
# report.py shows no bar, reads no settings and opens no connection
NEVER_CALLED = {
    ("report.py", f"livecheck.{name}")
    for name in ("core.screen", "core.settings", "wire.connection")
}
# the distribution of what is imported, where that has another name, or comes with it
DISTRIBUTIONS = {
    "urllib3": "requests",
    "certifi": "requests",
    "dotenv": "python-dotenv",
    "numpy": "scipy",
    "tomllib": "tomli",
}


def requirements(*files: str) -> dict[str, str]:
    """The lines of these files, by the name of the distribution."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    return {name_in(line): line for line in lines if line and line[0] not in "#-"}


def name_in(requirement: str) -> str:
    found = re.match(r"[\w-]+", requirement)
    assert found
    return found[0]


def metadata(command: str) -> dict[str, Any]:
    blocks = [each for each in BLOCK.finditer((ROOT / command).read_text())]
    assert [each["type"] for each in blocks] == ["script"]
    lines = [line[2:] for line in blocks[0]["content"].splitlines()]
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    found: dict[str, Any] = toml.loads("\n".join(lines))
    return found


# --- what a command imports, and what that imports


@lru_cache(None)
def imports_of(path: Path, deep: bool) -> list[str]:
    return list(imports(ast.parse(path.read_text()), deep))


def imports(tree: ast.AST, deep: bool) -> Iterator[str]:
    """The names of the modules that are imported in this syntax tree; `deep`: also in functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not deep:
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Call) or not isinstance(node, ast.stmt):
            yield from imported_by_name(node)
        yield from imports(node, deep)


def imported_by_name(node: ast.AST) -> Iterator[str]:
    """The texts in a call of `importlib.import_module`, which may be in one of `partial`."""
    if isinstance(node, ast.Call) and "import_module" in ast.unparse(node):
        texts = [each for each in ast.walk(node) if isinstance(each, ast.Constant)]
        yield from (each.value for each in texts if isinstance(each.value, str))


def needs(command: str) -> set[str]:
    """The distributions that the command, and what it imports, may import."""
    found, seen, left = set(), set(), [command.removesuffix(".py")]
    while left:
        name = left.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in seen or not path.is_file():
            top = name.partition(".")[0]
            found.add(DISTRIBUTIONS.get(top, top))
            continue
        seen.add(name)
        # an estimate of a plan imports what only the one command has that it is of
        is_deep = path.name != "plans.py" and (command, name) not in NEVER_CALLED
        left += imports_of(path, is_deep)
    return found & set(requirements(*ALL))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_what_it_needs_and_nothing_else(command: str) -> None:
    known = requirements(*ALL)
    needed = set(known) if command in STARTS_OTHERS else needs(command)
    expected = [line for name, line in known.items() if name in needed]
    assert sorted(metadata(command)["dependencies"]) == sorted(expected)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_the_oldest_python(command: str) -> None:
    assert metadata(command)["requires-python"] == ">=3.10"
    assert 'target-version = "py310"' in (ROOT / "pyproject.toml").read_text()


def test_everything_in_the_requirements_is_needed_by_a_command() -> None:
    named = {line for command in COMMANDS for line in metadata(command)["dependencies"]}
    assert named == set(requirements(*ALL).values())


def test_the_report_needs_nothing_that_is_only_for_sending(tmp_path: Path) -> None:
    hidden = {"dotenv", "rich", "urllib3", "requests", "openai"}
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({hidden!r}))
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["report.py", {str(tmp_path)!r}]
runpy.run_path({str(ROOT / "report.py")!r}, run_name="__main__")
"""
    command = [PYTHON, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in ended.stderr and "no module" not in ended.stderr
    assert "NOT DECIDED" in ended.stdout  # nothing was measured
