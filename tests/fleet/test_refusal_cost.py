"""request_log.py: what the log tells of refusals, and what may be somebody else's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from livecheck.fleet import api, request_log
from livecheck.fleet.request_log import RefusalCost


class Log:
    """In place of the admin API: the pages of a request log, the newest entry first."""

    def __init__(self, *entries: api.LogEntry):
        self.entries = list(entries)
        self.wire = SimpleNamespace(timeout_s=30.0)

    def log(self, page: int = 1) -> list[api.LogEntry]:
        if not self.entries:
            raise api.Unreadable("the log answered 403")
        return self.entries[(page - 1) * api.LOG_PAGE : page * api.LOG_PAGE]


def entries(count: int, status: str = "200", first: int = 0) -> list[api.LogEntry]:
    numbers = range(first, first + count)
    return [api.LogEntry(str(each), "m", status, 1.0, "r1", False) for each in reversed(numbers)]


@pytest.mark.parametrize(
    ("status", "runner", "woken", "charged"),
    [
        ("401", "r1", False, True),
        ("403 Forbidden", None, True, True),
        ("Unauthorized", "r1", False, True),
        ("401", None, False, False),
        ("200", "r1", True, False),
        ("error: connection refused", "r1", False, False),
        (None, "r1", True, False),
    ],
)
def test_a_refusal_in_the_log_counts_when_it_came_to_a_runner(
    status: str | None, runner: str | None, woken: bool, charged: bool
) -> None:
    entry = api.LogEntry("1", "class:fast", status, 1.0, runner, woken)
    assert bool(request_log.cost_of(entry)) == charged


def test_entries_with_a_runner_that_nobody_was_served_for_are_counted() -> None:
    def unserved(count: int, refused: int) -> int:
        return request_log.count_unserved(entries(count, "error"), refused, served=1)

    assert unserved(11, refused=10) == 10
    assert unserved(5, refused=10) == 0  # somebody else's, or the control's
    assert unserved(9, refused=0) == 0


def test_only_what_is_new_in_the_log_counts_also_on_its_later_pages() -> None:
    log: Any = Log(*entries(60))
    cost = RefusalCost()
    cost.start(log)
    log.entries[:0] = entries(70, "401", 60)
    cost.finish(refused=70, served=0)
    assert (len(cost.charged), cost.unserved, cost.problem) == (70, 70, None)
    assert set(cost.charged) == {"a 401 with runner r1"}


def test_a_log_that_cannot_be_read_is_a_problem_and_costs_nothing() -> None:
    log: Any = Log()
    cost = RefusalCost()
    cost.start(log)
    cost.finish(refused=9, served=0)
    assert (cost.charged, cost.unserved, cost.problem) == ([], 0, "the log answered 403")
