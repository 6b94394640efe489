"""A check that is made of several findings."""

from __future__ import annotations

import pytest

from common import Status
from livecheck.fleet.findings import Finding, merge

PASS, WARN, FAIL, SKIP = Status.PASS, Status.WARN, Status.FAIL, Status.SKIP


@pytest.mark.parametrize(
    ("parts", "status", "text"),
    [
        ([PASS, PASS], PASS, "part 0; part 1"),
        ([PASS, SKIP], SKIP, "part 0; part 1"),
        ([WARN, SKIP], SKIP, "part 0; part 1"),
        ([FAIL, SKIP, PASS], FAIL, "part 0"),
        ([PASS, WARN], WARN, "part 1"),
        ([PASS, None], PASS, "part 0; part 1"),
        ([None], SKIP, "part 0"),
        ([], SKIP, ""),
    ],
)
def test_a_part_that_was_not_decided_leaves_the_check_undecided_unless_one_has_failed(
    parts: list[Status | None], status: Status, text: str
) -> None:
    findings = [Finding(each, f"part {number}") for number, each in enumerate(parts)]
    check = merge("role", findings)
    assert (check.status, check.detail) == (status, text)
