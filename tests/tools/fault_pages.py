"""Writes into each script's page in docs/ which planted faults the script is known to find.

    python tests/tools/fault_pages.py

The section ends the page. `tests/docs/test_fault_pages.py` fails when a page is out of date.
"""

from __future__ import annotations

import sys
import textwrap
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from reference.faults import FAULTS, SOUND  # noqa: E402

TITLE = "## What it is known to find"
WIDTH = 120  # columns, as in the rest of docs/
SCRIPTS = sorted({fault.script for fault in FAULTS})


NOTES = {"FAIL": "", "WARN": " (WARN)", "SKIP": " (undecided)"}
PAGES = {"locustfile": "distributed"}  # those that are not named after their script


def section(script: str) -> str:
    """The section of this script's page: for each check, what is wrong in the planted faults."""
    faults = [fault for fault in FAULTS if fault.script == script]
    sound = sum(script in variant.scripts for variant in SOUND)
    noun = "deployment" if sound == 1 else "deployments"
    about = (
        f"`make faults` plants these {len(faults)} faults, one at a time, and the check named here "
        "must notice each: with FAIL, or with WARN where that is written."
    )
    if any(fault.status == "SKIP" for fault in faults):
        about += " Where it says *undecided*, the exit code must be 3."
    if sound:
        about += f" It also runs the script against {sound} sound {noun}, "
        about += "in which nothing may fail."
    lines = [TITLE, "", *textwrap.wrap(about, WIDTH), ""]
    by_check: dict[str, list[str]] = defaultdict(list)
    for fault in faults:
        by_check[fault.check].append(fault.breaks + NOTES[fault.status])
    for check in sorted(by_check):
        item = f"- `{check}`: {'; '.join(by_check[check])}"
        lines += textwrap.wrap(
            item, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(lines) + "\n"


def page(script: str) -> Path:
    name = script.removesuffix(".py")
    return ROOT / "docs" / f"{PAGES.get(name, name)}.md"


def with_section(script: str) -> str:
    """The text of the page, with the section as it has to be."""
    before, _, _ = page(script).read_text().partition(TITLE)
    return f"{before.rstrip()}\n\n{section(script)}"


def main() -> None:
    for script in SCRIPTS:
        page(script).write_text(with_section(script))


if __name__ == "__main__":
    main()
