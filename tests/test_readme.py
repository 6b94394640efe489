"""The README stays true: its commands parse, its options exist, its figures are defined."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT, run_script

from reference import running

README = (ROOT / "README.md").read_text()
SCRIPTS = sorted(
    path.name for path in ROOT.glob("*.py") if "new_parser(__file__" in path.read_text()
)
PARSERS = {name: importlib.import_module(name.removesuffix(".py")).build_parser for name in SCRIPTS}


def commands() -> Iterator[tuple[str, list[str]]]:
    """(script, arguments) of every command in a fenced shell block."""
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"(?:\.venv/bin/)?python3? (\w+\.py)(.*)", line):
                arguments = re.split(r" > | && |; |\s#", match[2])[0]
                yield match[1], shlex.split(arguments.replace("<", "").replace(">", ""))


@pytest.mark.parametrize(("script", "arguments"), list(commands()))
def test_every_command_parses(script: str, arguments: list[str]) -> None:
    PARSERS[script]().parse_args(arguments)


def test_there_are_commands_to_parse() -> None:
    assert len(list(commands())) >= 6


@pytest.mark.parametrize("script", PARSERS)
def test_every_option_is_mentioned(script: str) -> None:
    options = {name for action in all_actions(PARSERS[script]()) for name in action.option_strings}
    missing = [name for name in options - {"-h", "--help", "--verbose"} if f"{name}" not in README]
    assert not missing


def all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions


def test_links_inside_resolve() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors


def test_every_module_is_named() -> None:
    assert [path.name for path in ROOT.glob("*.py") if f"`{path.name}`" not in README] == []


def test_files_it_names_exist() -> None:
    for name in re.findall(r"`((?:tests/|reference/)?\w+\.py)`", README):
        assert (ROOT / name).exists(), name


def test_every_figure_of_the_output_is_defined() -> None:
    with running(engine="sim", ttft_ms=5, itl_ms=2) as deployment:
        run = run_script(
            "benchmark.py", "--requests", 3, "--max-tokens", 4, env=deployment.environment
        )
    documents = [run.document("inference_c1"), run.document("gateway_overhead")]
    keys = {key for document in documents for key in keys_of(document)}
    assert not [key for key in sorted(keys) if f"`{key}`" not in README]


def keys_of(document: dict[str, Any]) -> Iterator[str]:
    """The document's own keys, those of its metrics and of its request records."""
    yield from document
    yield from document["requests"][0]
    for check in document["checks"]:
        yield from [*check, *check["evidence"]]
    yield from document["metrics"]
    yield from document["metrics"]["gateway"]
    yield from document["metrics"].get("client", ())


def test_every_row_label_of_the_text_is_in_the_table() -> None:
    with running(engine="sim", ttft_ms=5, itl_ms=2) as deployment:
        run = run_script(
            "benchmark.py", "--requests", 3, "--max-tokens", 4, env=deployment.environment
        )
    rows = re.findall(r"^  +([A-Za-z/][\w /']*?)(?: \[[^\]]*\])?  +", run.out, re.MULTILINE)
    assert len(rows) > 15
    assert not [label for label in rows if label not in README]
