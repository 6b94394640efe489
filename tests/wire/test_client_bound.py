"""What is said of a client-bound level, and which missed bounds may be the client's own doing."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.wire import client_bound
from livecheck.wire.metrics import parse_objective

DECODE = {"e2e_ms": {"p50": 1100.0}, "ttft_ms": {"p50": 100.0}}


def level(**client: Any) -> dict[str, Any]:
    return {**DECODE, "client": {"client_bound": True, "own_delay_ms": 10.0, **client}}


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({"processes_needed": 3, "cores": 8}, "measure it with --processes 3"),
        ({"processes_needed": 3, "cores": 2}, "on a machine with as many cores (here 2)"),
        ({"processes_needed": 3}, "--processes 3"),
        ({"processes_needed": None, "cores": 8}, "one that is less busy"),
        ({"processes_needed": "7; rm -rf", "cores": True}, "one that is less busy"),
    ],
)
def test_what_would_help(client: dict[str, Any], words: str) -> None:
    assert client_bound.advice({"client": client}).endswith(words)
    assert client_bound.words(level(**client)).startswith("the level is client-bound: measure")


def test_workers_of_locust_are_no_processes_of_the_benchmark() -> None:
    figures = {"client": {"processes_needed": 3}, "workers": [{"worker": 1}]}
    assert client_bound.advice(figures) == "measure it with 3 workers"
    figures["client"] = {"processes_needed": None}
    assert "with more workers, or with workers that are less busy" in client_bound.advice(figures)


@pytest.mark.parametrize("client", [None, "yes", [], {"client_bound": "true"}, {}])
def test_any_other_level_can_be_judged(client: Any) -> None:
    assert client_bound.words({"client": client}) == ""
    missed = parse_objective("ttft_p50=1ms")
    assert not client_bound.may_be_own_doing(missed, {"client": client}, 2.0)


@pytest.mark.parametrize(
    ("bound", "value", "is_own"),
    [
        ("ttft_p50=100ms", 119.0, True),  # within twice the delay
        ("ttft_p50=100ms", 121.0, False),
        ("tokens_per_s_mean=50", 49.5, True),  # 1,000 ms of decoding, of which 20 may be ours
        ("tokens_per_s_mean=50", 48.0, False),
        ("output_tokens_per_s=500", 495.0, True),
        ("error_rate=0", 0.5, False),
    ],
)
def test_a_miss_by_less_than_the_delay_may_be_our_own(
    bound: str, value: float, is_own: bool
) -> None:
    found = client_bound.may_be_own_doing(parse_objective(bound), level(), value)
    assert found == is_own


@pytest.mark.parametrize(
    ("bound", "value", "load", "is_own"),
    [
        ("output_tokens_per_s=500", 445.0, "closed loop", True),  # 120 of 1,000 ms may be ours
        ("output_tokens_per_s=500", 480.0, "open loop", False),  # they are in own_delay_ms there
        ("requests_per_s=5", 4.45, "closed loop", True),
        ("tokens_per_s_mean=50", 48.0, "closed loop", False),
        ("ttft_p50=100ms", 121.0, "closed loop", False),
    ],
)
def test_a_late_send_of_a_closed_loop_is_in_throughputs_alone(
    bound: str, value: float, load: str, is_own: bool
) -> None:
    figures = level(send_lag_ms={"p99": 100.0}) | {"load_model": load}
    found = client_bound.may_be_own_doing(parse_objective(bound), figures, value)
    assert found == is_own


def test_of_a_bound_for_every_request_each_of_them_counts() -> None:
    every = parse_objective("ttft=100ms")
    assert client_bound.may_be_own_doing(every, level(), 0.5, [90.0, 115.0])
    assert not client_bound.may_be_own_doing(every, level(), 0.5, [90.0, 125.0])
    assert not client_bound.may_be_own_doing(
        every, level(), 0.5, [90.0, None]
    )  # no delay does that


@pytest.mark.parametrize(
    ("rates", "is_own"),
    [
        ([49.5, 60.0], True),  # at most 2 % of 1,000 ms of decoding are ours
        ([48.0, 60.0], False),
        ([5.0, 6.0, 7.0], False),
        ([], False),  # nothing was measured that a delay could have made worse
    ],
)
def test_a_rate_for_every_request_has_a_lower_bound(rates: list[float], is_own: bool) -> None:
    every = parse_objective("tokens_per_s=50")
    assert client_bound.may_be_own_doing(every, level(), 0.5, rates) == is_own


def test_without_a_known_delay_nothing_is_certain() -> None:
    missed = parse_objective("ttft_p50=1ms")
    assert client_bound.may_be_own_doing(missed, level(own_delay_ms=None), 1e6)
