"""docs/reference.md stays true: it names every setting and every module."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from helpers.scripts import ROOT

from reference.__main__ import profiles
from reference.settings import add_options

PAGE = (ROOT / "docs/reference.md").read_text()


@pytest.mark.parametrize("profile", profiles())
def test_every_setting_is_on_the_page(profile: str) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser, profiles()[profile].settings)
    options = {name for action in parser._actions for name in action.option_strings}
    assert [name for name in options if f"`{name}`" not in PAGE] == []


def test_every_module_is_on_the_page_and_no_other() -> None:
    folder = ROOT / "reference"
    modules = {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}
    named = set(re.findall(r"`(\w+\.py)`", PAGE))
    faults = {path.name for path in folder.glob("faults/*.py")}
    scripts = {path.name for path in Path(ROOT).glob("*.py")}
    assert modules <= named
    assert named <= modules | faults | scripts
