"""What of a level's figures may be this program's own delay, and what is the server's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers.answers import answer, event
from helpers.scripts import load_script

from livecheck.core.checks import Status
from livecheck.load.client_delay import (
    arrival_gap_ms,
    asked_for_less,
    cleared,
    client_metrics,
    exceeds,
    fair_figures,
    records_of,
    shortened,
    starved_at_first_ms,
    starved_words,
)
from livecheck.load.judging import check_objective
from livecheck.load.record import Record
from livecheck.wire import chat
from livecheck.wire.answer import Answer, records
from livecheck.wire.metrics import level_metrics, parse_objective
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import KERNEL_CLOCK, USER_CLOCK
from tests.helpers import blocks

CHAT = chat.completion("m", "hi", 100)
EVENTS = {"content-type": "text/event-stream"}


def in_groups(size: int, count: int, gap_ms: float, lag_ms: float) -> Answer:
    """A stream of `count` events, `size` in each read, and each read so late."""
    reads = [(10 + gap_ms * n, event({"content": "a"}) * size) for n in range(count // size)]
    end_ms = reads[-1][0] + gap_ms
    last = event({}, "stop", usage={"completion_tokens": count}) + b"data: [DONE]\n\n"
    found = answer(200, EVENTS, request=CHAT, pieces=[*reads, (end_ms, last)], spent_ms=end_ms)
    found.reply.lag_ns = [int(lag_ms * 1e6)] * len(found.reply.lag_ns)
    return found


def client_of(found: Answer) -> dict[str, Any]:
    figures = level_metrics(records([found]))
    with Starvation() as starvation:
        return client_metrics([found], KERNEL_CLOCK, figures, starvation)


def test_lags_are_noticeable_when_they_are_a_part_of_the_figure() -> None:
    assert exceeds([0.1] * 50 + [5.0] * 50, median_ms=20)
    assert not exceeds([0.1] * 100, median_ms=20)
    assert not exceeds([], median_ms=20)
    assert not exceeds([5.0], median_ms=None)


@pytest.mark.parametrize(
    ("load_model", "starved_share", "starved_ms", "asked_less"),
    [
        ("closed loop", 0.6, 600.0, True),
        ("closed loop", 0.1, 600.0, False),
        ("closed loop", 0.6, 5.0, False),  # of a level of a few milliseconds
        ("open loop", 0.6, 600.0, False),
    ],
)
def test_a_level_with_fewer_requests_than_it_asks_for(
    load_model: str, starved_share: float, starved_ms: float, asked_less: bool
) -> None:
    client = {"starved_share": starved_share, "starved_ms": starved_ms}
    assert asked_for_less({"load_model": load_model, "client": client}) == asked_less


def test_events_that_the_server_sends_together_do_not_bind_the_client() -> None:
    client = client_of(in_groups(4, 100, gap_ms=40, lag_ms=0.2))
    assert client["merged_reads"] == 25
    assert client["arrival_gap_ms"] == 40
    assert not client["client_bound"]


def test_blocks_that_are_written_event_by_event_do_not_bind_the_client() -> None:
    times = blocks.spread(blocks.groups(blocks.written(97, 100), 20), 0.3)
    pieces = [(at, event({"content": "a"})) for at in times]
    pieces.append((times[-1], event({}, "stop") + b"data: [DONE]\n\n"))
    found = answer(200, EVENTS, request=CHAT, pieces=pieces, spent_ms=times[-1])
    found.reply.lag_ns = [200_000] * len(found.reply.lag_ns)
    client = client_of(found)
    assert client["arrival_gap_ms"] == pytest.approx(20e3 / 97, rel=0.01)
    assert not client["client_bound"]


def test_a_client_that_reads_late_again_and_again_is_bound() -> None:
    assert client_of(in_groups(4, 100, gap_ms=40, lag_ms=8))["client_bound"]


def late_by(late_ms: float, due_ms: float | None = None) -> dict[str, Any]:
    """The client that sends each of ten requests so late. TTFT is 10 ms, E2E 2 s."""
    found = [in_groups(1, 50, gap_ms=40, lag_ms=0.1) for _ in range(10)]
    for each in found:
        each.reply.late_ns = int(late_ms * 1e6)
        if due_ms is not None and each.reply.t0_ns:
            each.reply.due_ns = each.reply.t0_ns - int(due_ms * 1e6)
    figures = level_metrics(records(found))
    with Starvation() as starvation:
        return client_metrics(found, KERNEL_CLOCK, figures, starvation)


def test_a_late_send_of_a_closed_loop_makes_the_load_less_and_no_time_longer() -> None:
    assert not late_by(20)["client_bound"]  # 1 % of the time that a request takes
    late = late_by(200)
    assert late["client_bound"] and late["send_lag_ms"]["p99"] == 200
    assert late["own_delay_ms"] == 0, "times count from the send"


def test_in_an_open_loop_a_late_send_is_a_part_of_the_ttft() -> None:
    late = late_by(20, due_ms=20)
    assert late["client_bound"] and late["own_delay_ms"] == 20
    assert not late_by(0.5, due_ms=0.5)["client_bound"]


def test_what_came_together_is_one_arrival() -> None:
    assert arrival_gap_ms(in_groups(4, 40, gap_ms=40, lag_ms=0)) == 40
    assert arrival_gap_ms(in_groups(40, 40, gap_ms=40, lag_ms=0)) is None


def test_by_the_kernels_time_a_first_output_is_late_by_no_more_than_was_lost() -> None:
    """Waits of 1 ms for a processor, one in each tick of 10 ms, in the 10 ms before it."""
    found = in_groups(1, 50, gap_ms=40, lag_ms=0.1)
    begun, first = found.begun_ns, found.first_output_ns
    assert begun and first
    spans = [(begun + n * 10**7 + 8 * 10**6, begun + n * 10**7 + 9 * 10**6) for n in range(50)]
    starvation = Starvation.found_elsewhere(spans)
    assert starved_at_first_ms(found, starvation, USER_CLOCK) == 10  # they are near enough to it
    assert starved_at_first_ms(found, starvation, KERNEL_CLOCK) == 2
    (record,) = records_of([found], begun, starvation, clock=KERNEL_CLOCK)
    assert record["starved_ttft_ms"] <= record["starved_ms"]
    assert starved_at_first_ms(found, Starvation.found_elsewhere([]), KERNEL_CLOCK) == 0


@pytest.mark.parametrize(("starved_ms", "told"), [(3.64, "for 3.6 ms (4%"), (36.4, "0.04 s (4%")])
def test_a_short_time_that_was_lost_is_not_told_as_none(starved_ms: float, told: str) -> None:
    assert told in starved_words({"starved_share": 0.04, "starved_ms": starved_ms})


def test_what_was_lost_before_the_first_output_is_not_lost_of_the_others() -> None:
    text, last = event({"content": "a"}), event({}, "stop") + b"data: [DONE]\n\n"
    pieces = [(60, text), (120, text + last)]
    found = answer(200, EVENTS, request=CHAT, pieces=pieces, spent_ms=120)
    begun, first = found.begun_ns, found.first_output_ns
    assert begun and first
    before = (begun + 10**6, begun + 5 * 10**6)
    after = (first + 20 * 10**6, first + 50 * 10**6)
    for spans, lost in (([before], 0), ([before, after], 30)):
        (record,) = records_of([found], begun, Starvation.found_elsewhere(spans))
        assert record["starved_decode_ms"] == lost
        assert record["starved_ms"] == lost + 4


def test_a_fair_throughput_is_that_of_the_time_in_which_the_client_ran() -> None:
    stream = in_groups(1, 19, gap_ms=10, lag_ms=0)
    found = records_of([stream], stream.begun_ns or 0, Starvation.found_elsewhere([]))
    figures = level_metrics(found) | {"client": {"starved_ms": 100.0}}
    bounds = [parse_objective(f"requests_per_s={limit}") for limit in (9, 11)]
    kept, missed = (
        check_objective(each, figures, found, fair=lambda: fair_figures(found, figures, []))
        for each in bounds
    )
    assert figures["requests_per_s"] == 5  # one in 200 ms, of which the client ran for 100
    assert (kept.status, missed.status) == (Status.SKIP, Status.FAIL)


RECORD: dict[str, Any] = {
    "sent_ms": 0.0,
    "ended_ms": 200.0,
    "ttft_ms": 100.0,
    "e2e_ms": 200.0,
    "event_ms": [100.0, 110.0, 190.0, 200.0],
    "starved_ms": 60.0,
    "starved_ttft_ms": 5.0,
}


def test_a_cleared_record_has_none_of_the_clients_own_delay() -> None:
    (record,) = cleared([Record(RECORD)])
    assert (record["ttft_ms"], record["e2e_ms"], record["ended_ms"]) == (95, 140, 140)
    assert list(record["event_ms"]) == [100, 110, 130, 140]
    undelayed = Record(RECORD | {"starved_ms": 0.0})
    assert cleared([undelayed]) == [undelayed]


@pytest.mark.parametrize(
    ("gaps", "delay", "expected"),
    [
        ([10.0, 80.0, 10.0], 60, [10, 20, 10]),
        ([10.0, 20.0], 25, [5, 0]),
        ([10.0], 99, [0]),
        ([], 5, []),
    ],
)
def test_the_longest_gaps_are_shortened_first(
    gaps: list[float], delay: float, expected: list[float]
) -> None:
    assert shortened(gaps, delay) == expected


@pytest.mark.parametrize(("value", "word"), [(105.0, "SKIP"), (150.0, "FAIL"), (99.0, "PASS")])
def test_a_bound_that_the_clients_own_delay_may_break_is_undecided(value: float, word: str) -> None:
    """The reads were 5 ms late: 105 ms may have been 95, 150 ms cannot have been 100."""
    figures = {"ttft_ms": {"p50": value}, "succeeded": 9}
    client = {"client_bound": True, "own_delay_ms": 5.0, "processes_needed": 2, "cores": 2}
    check = check_objective(parse_objective("ttft_p50=100ms"), {**figures, "client": client}, [])
    assert check.status.value == word
    assert ("but the level is client-bound: measure it with --processes 2" in check.detail) == (
        word == "SKIP"
    )
    assert check.essential == (word == "SKIP")


def test_a_few_late_sends_do_not_make_a_client_too_slow() -> None:
    assert not exceeds([0.1] * 20 + [90.0] * 4, 100.0)
    assert exceeds([0.1] * 20 + [90.0] * 5, 100.0)


@pytest.mark.parametrize(
    ("value", "broken", "is_own"),
    [(105.0, {"ttft_p50": "x"}, True), (150.0, {"ttft_p50": "x"}, False), (99.0, {}, False)]
    + [(105.0, {"ttft_p50": "x", "requests": "5 of 9 failed"}, False)],
)
def test_a_search_does_not_take_the_clients_own_delay_for_the_capacity(
    value: float, broken: dict[str, str], is_own: bool
) -> None:
    args = SimpleNamespace(slo=[parse_objective("ttft_p50=100ms")])
    session: Any = SimpleNamespace(run=SimpleNamespace(args=args))
    client = {"client_bound": True, "own_delay_ms": 5.0, "processes_needed": 2, "cores": 2}
    figures = {"ttft_ms": {"p50": value}, "succeeded": 9, "client": client}
    own_doing_at = load_script("benchmark.py").own_doing_at
    assert bool(own_doing_at(session, broken, [], figures)) == is_own
