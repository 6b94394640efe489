"""Each script's page says which faults it is known to find, and what it cannot see."""

from __future__ import annotations

import pytest
from tools import fault_pages

every_script = pytest.mark.parametrize("script", fault_pages.SCRIPTS)


@every_script
def test_the_page_says_what_the_script_is_known_to_find(script: str) -> None:
    text = fault_pages.page(script).read_text()
    assert text == fault_pages.with_section(script), "run python tests/tools/fault_pages.py"


@every_script
def test_the_page_says_what_the_script_cannot_see(script: str) -> None:
    assert "\n## What it cannot see\n" in fault_pages.page(script).read_text()
