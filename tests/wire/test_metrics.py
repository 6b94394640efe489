"""metrics.py: percentiles on fixed lists, summaries, objectives, a level's figures."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.wire.metrics import (
    PER_REQUEST,
    SCALARS,
    SERIES,
    SUMMARY_NAMES,
    Objective,
    gaps,
    known_objectives,
    level_metrics,
    parse_objective,
    percentile,
    summary,
)

many = settings(max_examples=200, deadline=None, database=None)
TIMES = st.floats(min_value=0, max_value=1e7, allow_nan=False)
LISTS = st.lists(TIMES, min_size=1, max_size=50)
RANKS = st.floats(min_value=0, max_value=100, allow_nan=False)

# --- percentiles


@pytest.mark.parametrize(
    ("values", "p", "expected"),
    [
        ([7], 0, 7),
        ([7], 99, 7),
        ([1, 2], 50, 1.5),
        ([1, 2, 3], 50, 2),
        ([3, 1, 2], 50, 2),
        ([1, 2, 3, 4], 50, 2.5),
        ([0, 10], 90, 9),
        ([10, 20, 30, 40, 50], 25, 20),
        ([10, 20, 30, 40, 50], 90, 46),
        ([10, 20, 30, 40, 50], 100, 50),
        ([10, 20, 30, 40, 50], 0, 10),
        (range(1, 102), 99, 100),
        (range(101), 95, 95),
        ([5, 5, 5, 5], 99, 5),
    ],
)
def test_percentiles_of_fixed_lists(values: list[float], p: float, expected: float) -> None:
    assert percentile(values, p) == expected


def test_the_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError):
        percentile([], 50)


def test_the_list_is_left_as_it_was() -> None:
    values = [3.0, 1.0, 2.0]
    percentile(values, 50)
    assert values == [3.0, 1.0, 2.0]


@given(LISTS, RANKS)
@many
def test_a_percentile_lies_between_the_least_and_the_greatest(
    values: list[float], p: float
) -> None:
    slack = 1e-9 * max(values)  # one rounding of the interpolation
    assert min(values) - slack <= percentile(values, p) <= max(values) + slack


@given(LISTS, RANKS, RANKS)
@many
def test_percentiles_grow_with_p(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    slack = 1e-9 * max(values)
    assert percentile(values, low) <= percentile(values, high) + slack


@given(st.lists(TIMES, min_size=2, max_size=50))
@many
def test_percentiles_are_those_of_the_statistics_module(values: list[float]) -> None:
    theirs = statistics.quantiles(values, n=100, method="inclusive")
    ours = [percentile(values, p) for p in range(1, 100)]
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)


# --- summaries


def test_a_summary_of_nothing_is_none_and_not_0() -> None:
    assert summary([]) == {**dict.fromkeys(SUMMARY_NAMES), "n": 0}


def test_a_summary_of_a_fixed_list() -> None:
    assert summary([10, 20, 30, 40, 50]) == {
        "mean": 30.0,
        "p50": 30.0,
        "p90": 46.0,
        "p95": 48.0,
        "p99": 49.6,
        "min": 10,
        "max": 50,
        "n": 5,
    }


def test_a_summary_of_one_value_is_that_value() -> None:
    assert summary([1.5]) == {**dict.fromkeys(SUMMARY_NAMES, 1.5), "n": 1}


def test_a_measured_0_stays_0() -> None:
    assert summary([0.0]) == {**dict.fromkeys(SUMMARY_NAMES, 0), "n": 1}


@given(LISTS)
@many
def test_every_summary_is_in_order(values: list[float]) -> None:
    figures: dict[str, Any] = summary(values)
    ordered = [figures[name] for name in ("min", "p50", "p90", "p95", "p99", "max")]
    assert ordered == sorted(ordered)
    assert figures["min"] <= figures["mean"] <= figures["max"]
    assert figures["n"] == len(values)


# --- objectives: good ones

EVERY_STATISTIC = [f"{series}_{statistic}" for series in SERIES for statistic in SUMMARY_NAMES]


@pytest.mark.parametrize("name", [*EVERY_STATISTIC, *SCALARS, *PER_REQUEST])
def test_every_known_objective_can_be_given_and_read_back(name: str) -> None:
    rate = "per_s" in name or name == "error_rate"
    objective = parse_objective(f"{name}={'0.5' if rate else '500ms'}")
    assert objective.limit == (0.5 if rate else 500)
    assert objective.per_request is (name in PER_REQUEST)
    assert parse_objective(str(objective)) == objective


@pytest.mark.parametrize(
    ("in_one_arrival", "p99_ms", "is_unknown"),
    [(5, 20.0, False), (6, 20.0, True), (6, 90.0, False), (10, None, True)],
)
def test_gaps_of_fewer_than_half_of_the_answers_do_not_show_that_a_bound_is_kept(
    in_one_arrival: int, p99_ms: float | None, is_unknown: bool
) -> None:
    figures = {"succeeded": 10, "no_rate": {"one_arrival": in_one_arrival, "uneven_blocks": 4}}
    why = parse_objective("itl_p99=50ms").why_unknown(figures | {"itl_ms": {"p99": p99_ms}})
    assert (why is not None) == is_unknown


@pytest.mark.parametrize(
    ("text", "limit", "upper"),
    [
        ("ttft_p50=500ms", 500, True),
        ("ttft_p50=0.5s", 500, True),
        ("ttft_p50=.5s", 500, True),
        ("ttft_p50=1.001s", 1001, True),
        ("ttft_p50=500000us", 500, True),
        ("ttft_p50=500MS", 500, True),
        ("ttft_p50= 500 ms ", 500, True),
        ("ttft_p50=0ms", 0, True),
        ("ping_p99=5ms", 5, True),
        ("ping_net_p99=5ms", 5, True),
        ("health_net_max=1s", 1000, True),
        ("tokens_per_s_mean=20", 20, False),
        ("tokens_per_s_p50=20tok/s", 20, False),
        ("output_tokens_per_s=20tok/s", 20, False),
        ("requests_per_s=2/s", 2, False),
        ("goodput_per_s=1.5", 1.5, False),
        ("error_rate=0", 0, True),
        ("error_rate=0.01", 0.01, True),
        ("error_rate=1%", 0.01, True),
        ("error_rate=100%", 1, True),
        ("error_rate=1", 1, True),
    ],
)
def test_values_and_units_of_objectives(text: str, limit: float, upper: bool) -> None:
    objective = parse_objective(text)
    assert (objective.limit, objective.upper) == (limit, upper)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ttft_p50=1ms", "ms"),
        ("tokens_per_s_mean=1", "tok/s"),
        ("output_tokens_per_s=1", "tok/s"),
        ("requests_per_s=1", "/s"),
        ("error_rate=0", ""),
    ],
)
def test_every_objective_knows_its_unit(text: str, unit: str) -> None:
    assert parse_objective(text).unit == unit


# --- objectives: bad ones


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "=5ms",
        "ttft_p50",
        "ttft_p50=",
        "ttft_p50=x",
        "ttft_p50=500",  # no unit: seconds or milliseconds?
        "ttft_p50=5m",
        "ttft_p50=5min",
        "ttft_p50=5%",
        "ttft_p50=5tok/s",
        "ttft_p50=-5ms",
        "ttft_p50=+5ms",
        "ttft_p50=1,5s",
        "ttft_p50=1e3ms",
        "ttft_p50=nan",
        "ttft_p50=inf",
        "ttft_p50=.ms",
        "ttft_p50=5ms5",
        "ttft_p51=5ms",
        "ttft_median=5ms",
        "ttft_p50 =5ms",
        "TTFT_p50=5ms",
        "itl=5ms",  # of which gap?
        "ping=5ms",
        "nothing_p50=5ms",
        "p50=5ms",
        "tokens_per_s_mean=20ms",
        "tokens_per_s_mean=20%",
        "requests_per_s=",
        "output_tokens=5",
        "goodput=5",
        "error_rate=2",
        "error_rate=101%",
        "error_rate=1ms",
        "error_rate=-1%",
        "error_rate_p50=1%",
    ],
)
def test_a_bad_objective_is_an_error_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_objective(text)
    assert len(str(caught.value).splitlines()) == 1


@given(st.text(max_size=30))
@many
def test_no_text_makes_an_objective_crash(text: str) -> None:
    for candidate in (text, f"ttft_p50={text}", f"{text}=5ms"):
        try:
            assert math.isfinite(parse_objective(candidate).limit)
        except ValueError:
            pass


def test_an_objective_beyond_all_numbers_is_an_error() -> None:
    with pytest.raises(ValueError):
        parse_objective(f"ttft_p50={'9' * 400}ms")


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown objective 'x'") as caught:
        parse_objective("x=1")
    for name in (*SERIES, *SCALARS, *PER_REQUEST):
        assert name in str(caught.value)
        assert name in known_objectives()


# --- objectives: kept or missed


def test_a_latency_is_an_upper_bound_and_the_bound_itself_is_kept() -> None:
    objective = parse_objective("ttft_p50=500ms")
    assert [objective.holds(value) for value in (499, 500, 500.001)] == [True, True, False]


def test_a_throughput_is_a_lower_bound_and_the_bound_itself_is_kept() -> None:
    objective = parse_objective("tokens_per_s_mean=20")
    assert [objective.holds(value) for value in (19.999, 20, 21)] == [False, True, True]


@pytest.mark.parametrize("text", ["ttft_p50=5ms", "tokens_per_s_mean=0", "error_rate=1"])
def test_what_was_not_measured_keeps_no_bound(text: str) -> None:
    assert parse_objective(text).holds(None) is False


def test_an_objective_finds_its_figure() -> None:
    figures = {"ttft_ms": {"p50": 3}, "gateway": {"ping_ms": {"p99": 1.5}}, "error_rate": 0}
    values = [
        parse_objective(text).value(figures)
        for text in ("ttft_p50=1ms", "ping_p99=1ms", "error_rate=0", "ping_net_p99=1ms")
    ]
    assert values == [3, 1.5, 0, None]


@pytest.mark.parametrize("figures", [{}, {"gateway": None}, {"gateway": {"ping_ms": {}}}])
def test_a_figure_that_is_not_there_is_none(figures: dict[str, Any]) -> None:
    assert parse_objective("ping_p99=1ms").value(figures) is None


# --- a level's figures


def record(**changes: Any) -> dict[str, Any]:
    """A request of 100 ms: 5 tokens in 5 events, 10 ms apart, the first after 60 ms."""
    usual = {
        "error": None,
        "excluded": False,
        "sent_ms": 0.0,
        "ended_ms": 100.0,
        "ttft_ms": 60.0,
        "tpot_ms": 10.0,
        "tokens_per_s": 100.0,
        "e2e_ms": 100.0,
        "output_tokens": 5,
        "token_source": "usage",
        "prompt_tokens": 7,
        "cached_tokens": None,
        "server_tokens_per_s": None,
        "connect_ms": None,
        "tls_ms": None,
        "retry_after_s": None,
        "event_ms": [60.0, 70.0, 80.0, 90.0, 100.0],
    }
    assert set(changes) <= set(usual)
    return {**usual, **changes}


def failed(kind: str = "503", **changes: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("ttft_ms", "tpot_ms", "tokens_per_s", "e2e_ms", "output_tokens"))
    return record(**{**nothing, "prompt_tokens": None, "event_ms": [], "error": kind, **changes})


def test_gaps_are_between_neighbours() -> None:
    assert gaps([1, 3, 6]) == [2, 3]
    assert gaps([1]) == gaps([]) == []


def test_the_figures_of_one_request() -> None:
    figures = level_metrics([record()])
    assert (figures["requests"], figures["succeeded"], figures["error_rate"]) == (1, 1, 0)
    assert figures["wall_s"] == 0.1
    assert figures["output_tokens_per_s"] == 50
    assert figures["requests_per_s"] == 10
    assert figures["ttft_ms"]["p50"] == 60
    assert (figures["itl_ms"]["n"], figures["itl_ms"]["mean"]) == (4, 10)
    assert figures["cached_tokens"] == summary([])


def test_throughput_is_over_the_wall_time_of_the_level() -> None:
    records = [record(), record(sent_ms=50.0, ended_ms=400.0), record(ended_ms=200.0)]
    figures = level_metrics(records)
    assert (figures["wall_s"], figures["requests_per_s"]) == (0.4, 7.5)
    assert figures["output_tokens_per_s"] == 37.5


def test_failed_requests_are_counted_and_in_no_percentile() -> None:
    slow = failed("timeout", ttft_ms=9999.0, e2e_ms=9999.0, output_tokens=99, event_ms=[0, 9999])
    figures = level_metrics([record(), slow, failed(), failed()])
    assert (figures["requests"], figures["succeeded"]) == (4, 1)
    assert (figures["error_rate"], figures["errors"]) == (0.75, {"timeout": 1, "503": 2})
    for name in ("ttft_ms", "e2e_ms", "itl_ms", "output_tokens", "tpot_ms", "tokens_per_s"):
        assert figures[name] == level_metrics([record()])[name]


def test_all_failed_is_null_and_not_0() -> None:
    figures = level_metrics([failed(), failed()])
    assert figures["error_rate"] == 1
    for name in ("output_tokens_per_s", "requests_per_s", "goodput_per_s"):
        assert figures[name] is None
    for name in ("ttft_ms", "itl_ms", "tpot_ms", "tokens_per_s", "e2e_ms", "output_tokens"):
        assert figures[name] == summary([])


@pytest.mark.parametrize("records", [[], [failed("interrupted", excluded=True, sent_ms=None)]])
def test_a_level_without_any_counted_request_knows_nothing(records: list[Any]) -> None:
    figures = level_metrics(records)
    assert (figures["requests"], figures["error_rate"], figures["wall_s"]) == (0, None, None)
    assert figures["ttft_ms"] == summary([])


def test_excluded_requests_are_neither_counted_nor_failed() -> None:
    figures = level_metrics([record(), failed("429", excluded=True, retry_after_s=3)])
    assert (figures["requests"], figures["error_rate"], figures["errors"]) == (1, 0, {})


def test_retry_after_is_listed_once_each_in_order() -> None:
    waits = [failed(retry_after_s=wait) for wait in (5, 1, 5, None)]
    assert level_metrics(waits)["retry_after_s"] == [1, 5]


def test_connections_of_failed_requests_are_in_no_figure_either() -> None:
    figures = level_metrics([record(connect_ms=1.0), failed(connect_ms=3.0)])
    assert (figures["connect_ms"]["n"], figures["connect_ms"]["mean"]) == (1, 1)


def test_with_nothing_but_failures_goodput_is_unknown_not_0() -> None:
    assert level_metrics([failed()], [parse_objective("ttft=1s")])["goodput_per_s"] is None


def test_requests_without_a_token_count_are_not_counted_as_0_tokens() -> None:
    figures = level_metrics([record(), record(output_tokens=None)])
    assert (figures["output_tokens"]["n"], figures["output_tokens"]["mean"]) == (1, 5)


def goodput(*objectives: str) -> Any:
    records = [record(), record(ttft_ms=600.0), record(e2e_ms=5000.0), failed()]
    return level_metrics(records, [parse_objective(each) for each in objectives])["goodput_per_s"]


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ([], None),
        (["ttft_p50=1ms", "error_rate=0"], None),  # bounds for a level, not for a request
        (["ttft=10s"], 30),
        (["ttft=500ms"], 20),
        (["ttft=500ms", "e2e=1s"], 10),
        (["tokens_per_s=1000"], 0),
    ],
)
def test_goodput_counts_the_requests_that_kept_every_bound(
    objectives: list[str], expected: float | None
) -> None:
    assert goodput(*objectives) == expected


def test_a_request_with_an_unknown_figure_keeps_no_bound() -> None:
    one_token = record(tpot_ms=None, output_tokens=1, event_ms=[60.0])
    figures = level_metrics([one_token], [parse_objective("tpot=1s")])
    assert figures["goodput_per_s"] == 0


@given(st.lists(st.sampled_from([record(), failed(), failed("429", excluded=True)]), max_size=20))
@many
def test_counts_add_up_whatever_came(records: list[dict[str, Any]]) -> None:
    figures = level_metrics(records)
    assert figures["succeeded"] + sum(figures["errors"].values()) == figures["requests"]
    assert figures["ttft_ms"]["n"] == figures["succeeded"]
    json.dumps(figures, allow_nan=False)


def test_an_objective_is_written_as_it_is_given() -> None:
    assert isinstance(parse_objective("ttft_p50=500ms"), Objective)
    assert str(parse_objective("ttft_p50=0.5s")) == "ttft_p50=500ms"
    assert str(parse_objective("error_rate=1%")) == "error_rate=0.01"


@pytest.mark.parametrize("failed", [1, 7, 29, 145, 570])
def test_a_share_of_exactly_as_many_failures_as_allowed_is_kept(failed: int) -> None:
    """0.7 / 100 is less than 7 / 1000."""
    objective = parse_objective(f"error_rate={failed / 10}%")
    assert objective.holds(failed / 1000)
    assert not objective.holds((failed + 1) / 1000)
