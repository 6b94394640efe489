"""The comparison with a baseline: right intervals, hardly a false alarm, slowdowns are found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy
import pytest
from scipy import stats
from tools import power

from livecheck.report import baseline
from livecheck.report.baseline import Change, Finding
from livecheck.report.words import unclear_in_words

Chance = numpy.random.Generator


@pytest.fixture
def chance() -> Chance:
    return numpy.random.default_rng(7)


def share_of(count: int, hit: Callable[[], bool]) -> float:
    return sum(hit() for _ in range(count)) / count


# --- two runs


@pytest.mark.parametrize("requests", [10, 30])
def test_the_interval_of_a_median_holds_the_true_ratio_in_95_of_100(
    requests: int, chance: Chance
) -> None:
    def holds() -> bool:
        now, then = chance.normal(0.2, 0.1, requests), chance.normal(0, 0.1, requests)
        found = baseline.shift_of_medians(now, then)
        return found.low <= 0.2 <= found.high

    assert 0.92 <= share_of(800, holds) <= 0.98


@pytest.mark.parametrize("requests", [60, 200])
def test_the_interval_of_a_p95_holds_the_true_ratio_in_95_of_100(
    requests: int, chance: Chance
) -> None:
    def holds() -> bool:
        now, then = chance.normal(0.2, 0.1, requests), chance.normal(0, 0.1, requests)
        found = baseline.shift_of_quantile(now, then, 0.95)
        return found.low <= 0.2 <= found.high

    assert 0.91 <= share_of(500, holds) <= 0.99


def test_its_p_value_is_that_of_mann_and_whitney(
    chance: Chance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "inflation", lambda _: 1.0)
    now, then = chance.normal(0.6, 1, 30), chance.normal(0, 1, 25)
    told = stats.mannwhitneyu(now, then, alternative="greater", method="asymptotic").pvalue
    assert baseline.shift_of_medians(now, then).tail(0.0) == pytest.approx(told, rel=1e-6)


def test_quantiles_in_place_of_many_requests_say_the_same(
    chance: Chance, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, then = chance.normal(0.1, 0.3, 2000), chance.normal(0, 0.3, 1500)
    thinned = baseline.shift_of_medians(now, then)
    monkeypatch.setattr(baseline, "MAX_VALUES", 10_000)
    whole = baseline.shift_of_medians(now, then)
    assert thinned.estimate == pytest.approx(whole.estimate, abs=1e-3)
    assert thinned.low == pytest.approx(whole.low, abs=1e-3)


def test_too_few_requests_give_neither_a_bound_nor_a_finding() -> None:
    found = baseline.shift_of_medians(numpy.array([5.0, 5.1]), numpy.array([1.0, 1.1]))
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.tail(0.05) > baseline.ALPHA


def test_equal_values_have_no_shift() -> None:
    found = baseline.shift_of_medians(numpy.zeros(20), numpy.zeros(20))
    assert (found.low, found.estimate, found.high) == (0, 0, 0)


def test_requests_that_resemble_their_neighbours_count_for_fewer(chance: Chance) -> None:
    noise = chance.normal(size=400)
    drifting = [0.0]
    for each in noise:
        drifting.append(0.6 * drifting[-1] + each)
    assert 2.5 < baseline.inflation(numpy.array(drifting)) < 6  # (1 + r) / (1 - r) is 4
    assert share_of(200, lambda: baseline.inflation(chance.normal(size=30)) == 1) > 0.9
    assert baseline.inflation(numpy.zeros(30)) == 1


def test_holm_rejects_step_by_step() -> None:
    assert baseline.holm([0.001, 0.009, 0.02, 0.8], 0.025) == [True, False, False, False]
    assert baseline.holm([0.02, 0.001, 0.008], 0.025) == [True, True, True]
    assert baseline.holm([], 0.025) == []


# --- findings


def change_of(changes: list[Change], document: str, key: str, statistic: str = "p50") -> Change:
    found = [c for c in changes if (c.document, c.metric.key) == (document, key)]
    return next(each for each in found if each.metric.statistic == statistic)


def changes_of(noise: float, requests: int, *slower: tuple[int, str, float]) -> list[Change]:
    world = power.World(noise, requests, slower=slower)
    return power.report(world, 0.05, 1, numpy.random.default_rng(3))


def test_a_planted_slowdown_comes_first_and_only_what_contains_it_follows() -> None:
    changes = changes_of(0.03, 40, (4, "ttft", 1.4))
    worse = [(c.document, c.metric.key) for c in changes if c.finding is Finding.WORSE]
    assert worse[0] == ("inference_c4", "ttft_ms")
    follows = {("inference_c4", key) for key in ("ttft_ms", "e2e_ms", "output_tokens_per_s")}
    assert set(worse) <= follows


def test_slower_decoding_is_named_by_its_rate() -> None:
    changes = changes_of(0.03, 40, (8, "tpot", 1.4))
    assert (changes[0].document, changes[0].metric.key) == ("inference_c8", "tokens_per_s")
    assert changes[0].change == pytest.approx(1 / 1.4 - 1, abs=0.03)  # a rate goes down
    assert changes[0].worsening == pytest.approx(0.4, abs=0.04)  # by two fifths more time a token
    assert change_of(changes, "inference_c8", "ttft_ms").finding is not Finding.WORSE
    assert {c.document for c in changes if c.finding is Finding.WORSE} == {"inference_c8"}


def test_a_shorter_time_is_better() -> None:
    changes = changes_of(0.03, 40, (1, "ttft", 0.7))
    assert change_of(changes, "inference_c1", "ttft_ms").finding is Finding.BETTER
    assert not [each for each in changes if each.finding is Finding.WORSE]


def test_equal_systems_are_the_same_when_there_is_enough_data() -> None:
    assert {each.finding for each in changes_of(0.02, 60)} == {Finding.SAME}


def test_an_unclear_change_says_how_many_requests_would_decide() -> None:
    unclear = [each for each in changes_of(0.2, 20) if each.finding is Finding.UNCLEAR]
    asked = sorted(each.needed for each in unclear if each.metric.key == "ttft_ms" and each.needed)
    assert asked and 200 <= asked[len(asked) // 2] <= 500
    enough = power.World(0.2, 300)
    told = power.report(enough, 0.05, 1, numpy.random.default_rng(5))
    decided = [each.finding is Finding.SAME for each in told if each.metric.statistic == "p50"]
    assert sum(decided) / len(decided) >= 0.6  # four in five, on average


def test_a_change_that_is_worse_alone_but_not_among_all_says_so() -> None:
    """Its interval lies beyond the margin, but that happens by chance to one of so many."""
    ttft = change_of(changes_of(0.03, 40), "inference_c4", "ttft_ms")
    seen = dataclasses.replace(ttft, low=0.06, finding=Finding.UNCLEAR, comparisons=30)
    assert unclear_in_words(seen).endswith(
        ": worse, but not beyond doubt among 30 comparisons: add a baseline run"
    )
    rate = change_of(changes_of(0.03, 40), "inference_c4", "tokens_per_s")
    assert dataclasses.replace(rate, high=-0.06).is_worse_alone
    assert not dataclasses.replace(rate, high=-0.04).is_worse_alone
    assert "not enough data" in unclear_in_words(dataclasses.replace(seen, low=0.04))


def test_more_than_ten_thousand_requests_are_never_advised() -> None:
    noisy = [e for e in changes_of(1.5, 60) if e.finding is Finding.UNCLEAR]
    assert noisy and all(each.needed is None or each.needed <= 10_000 for each in noisy)
    (first, *_) = [each for each in noisy if each.needed is None and not each.is_worse_alone]
    assert "10000 requests in each run would not be enough" in unclear_in_words(first)


@pytest.mark.parametrize(
    ("name", "statistic", "floor"),
    [("ping", "p50", 0.5), ("health", "p50", 5), ("ping", "p95", 5), ("health", "p95", 50)],
)
def test_a_change_that_a_busy_machine_causes_in_a_probe_does_not_count(
    name: str, statistic: str, floor: float
) -> None:
    (found,) = [
        each
        for each in baseline.GATEWAY_METRICS
        if (each.key, each.statistic) == (f"{name}_net_ms", statistic)
    ]
    assert found.floor == pytest.approx(floor)


def test_a_p95_is_compared_from_60_requests_on() -> None:
    statistics = {each.metric.statistic for each in changes_of(0.02, 59)}
    assert statistics == {"p50", "run"}
    assert "p95" in {each.metric.statistic for each in changes_of(0.02, 60)}


# --- how often it is wrong: docs/report.md has the whole table


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_equal_systems_are_hardly_ever_called_worse(noise: float) -> None:
    assert power.rates(power.World(noise, 30), 0.05, sessions=1, reports=100).worse <= 0.05


def test_a_slowdown_of_20_percent_is_noticed_despite_10_percent_noise() -> None:
    """With one session it needs another one; one of 30 percent is called worse with three."""
    world = power.World(0.1, 30, slower=((4, "ttft", 1.2),))
    assert power.rates(world, 0.05, sessions=1, reports=100).noticed >= 0.9
    rates = power.rates(
        dataclasses.replace(world, slower=((4, "ttft", 1.3),)), 0.05, sessions=3, reports=60
    )
    assert rates.found >= 0.9
    assert rates.first >= 0.9


@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_sessions_that_differ_by_5_percent_give_hardly_a_false_alarm(sessions: int) -> None:
    """With one session as well: there, what the spread could explain needs another session."""
    found = power.rates(power.World(0.05, 30, spread=0.05), 0.05, sessions, reports=60)
    assert found.worse <= 0.05
    assert found.open > 0.05


def test_repeats_of_a_session_are_not_independent_runs() -> None:
    """Taken for sessions, five repeats that agree would call each other session worse."""
    world = power.World(0.05, 30, spread=0.05, repeat_spread=0.005)
    assert power.rates(world, 0.05, sessions=1, reports=40, repeats=5).worse <= 0.05


def test_a_large_slowdown_is_found_despite_the_spread_between_sessions() -> None:
    world = power.World(0.05, 30, spread=0.05, slower=((4, "ttft", 1.5),))
    assert power.rates(world, 0.05, sessions=1, reports=40).found >= 0.9
    assert power.rates(world, 0.05, sessions=3, reports=40).found >= 0.9


def test_requests_that_drift_give_no_false_alarm_and_hide_no_large_slowdown() -> None:
    drifting = power.World(0.05, 30, memory=0.6)
    assert power.rates(drifting, 0.05, sessions=1, reports=100).worse <= 0.05
    slow = power.World(0.03, 24, memory=0.6, slower=((4, "ttft", 1.2),))
    assert power.rates(slow, 0.05, sessions=1, reports=50).noticed >= 0.9


def test_the_interval_of_several_runs_includes_their_spread() -> None:
    def width(sessions: int, spread: float) -> float:
        world = power.World(0.02, 30, spread)
        changes = power.report(world, 0.05, sessions, numpy.random.default_rng(2))
        ttft = change_of(changes, "inference_c4", "ttft_ms")
        assert ttft.low is not None and ttft.high is not None
        return ttft.high - ttft.low

    assert width(3, 0.05) > 3 * width(3, 0.0)
    assert width(1, 0.05) < 2 * width(1, 0.0)


def test_no_number_of_requests_is_advised_where_the_runs_differ() -> None:
    world = power.World(0.02, 30, spread=0.1)
    changes = power.report(world, 0.05, 3, numpy.random.default_rng(2))
    ttft = change_of(changes, "inference_c4", "ttft_ms")
    assert ttft.finding in (Finding.UNCLEAR, Finding.SESSION) and ttft.needed is None


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_the_variance_of_a_quantile_is_that_of_scipy(share: float) -> None:
    for seed, count in enumerate((60, 61, 1000)):
        values = numpy.random.default_rng(seed).lognormal(0, 0.3, count)
        expected = float(stats.mstats.mjci(values, [share])[0]) ** 2
        assert baseline.variance_of_quantile(values, share) == pytest.approx(expected, rel=1e-6)
