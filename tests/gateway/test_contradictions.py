"""Figures of a queue that cannot be true are told from those that others' requests explain."""

from __future__ import annotations

import pytest
from helpers.answers import answer

from livecheck.gateway.burst import Limits
from livecheck.gateway.contradictions import (
    contradiction,
    contradiction_in_a_row,
    falls,
    impossible_figures,
    lasting_contradiction,
)
from livecheck.gateway.queue_state import Probe, Reading, read_probe

LIMITS = Limits(2, 3)


def reading(active: int, waiting: int, at_s: float = 0.0) -> Reading:
    health = Probe(200, 1.0, {"active": active, "waiting": waiting})
    return Reading(at_s, at_s + 0.01, health=health)


@pytest.mark.parametrize(
    ("active", "waiting", "is_untrue"),
    [
        (0, 0, False),
        (1, 0, False),
        (2, 3, False),
        (0, 3, True),  # nobody waits while a place is free
        (1, 1, True),
        (3, 0, True),  # more than C
        (2, 4, True),  # more than Q
    ],
)
def test_what_one_reading_says_may_be_true_or_not(
    active: int, waiting: int, is_untrue: bool
) -> None:
    assert bool(contradiction(reading(active, waiting), LIMITS)) is is_untrue


def test_any_number_may_wait_where_the_queue_has_no_bound_and_none_without_a_queue() -> None:
    assert contradiction(reading(2, 99), Limits(2, 0)) is None
    assert contradiction(reading(2, 1), Limits(2, None)) is not None


def test_requests_active_may_count_those_that_wait() -> None:
    figures = {"requests_active": 5.0, "queue_depth": 3.0}
    assert contradiction(Reading(0, 1, metrics_json=Probe(200, 1.0, figures)), LIMITS) is None


def test_the_announced_limits_count_before_those_of_the_options() -> None:
    figures = {"active": 4.0, "waiting": 0.0, "max_concurrent": 4.0, "max_queue_size": 0.0}
    assert contradiction(Reading(0, 1, health=Probe(200, 1.0, figures)), LIMITS) is None


def test_only_what_lasts_is_told() -> None:
    untrue = [reading(0, 3, each / 10) for each in range(60)]
    assert "60 readings over 6 s" not in str(lasting_contradiction(untrue[:40], LIMITS))
    assert "0 served and 3 waiting" in str(lasting_contradiction(untrue, LIMITS))
    handed_over = [*untrue[:30], reading(2, 3, 3.0), *untrue[31:]]
    assert lasting_contradiction(handed_over, LIMITS) is None


def test_two_readings_in_a_row_may_be_taken_while_a_place_is_handed_over() -> None:
    full, between = reading(2, 3), reading(1, 3)
    assert contradiction_in_a_row([full, between, between, full, between], LIMITS) is None
    assert contradiction_in_a_row([full, between, between, between], LIMITS) is not None


def test_a_negative_figure_is_no_count_and_is_named() -> None:
    body = {"queue": {"active": -1, "waiting": 0}}
    probe = read_probe("health", answer(body=body))
    assert probe.values == {"waiting": 0}
    assert impossible_figures([Reading(0, 1, health=probe)]) == ["/health: active is -1"]


def test_a_counter_that_falls_is_told_once() -> None:
    values = (3, 4, 0, 5, 0)
    probes = [Probe(200, 1.0, {"queue_rejections": value}) for value in values]
    found = falls([Reading(0, 1, metrics_json=probe) for probe in probes])
    assert found == ["/metrics (JSON): queue_rejections fell from 4 to 0"]
