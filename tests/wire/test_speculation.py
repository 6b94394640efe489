"""speculation.py: several tokens at once, and what a server tells of its drafts."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.wire import speculation
from livecheck.wire.metrics import parse_objective


def record(tokens: int | None, events: int, arrivals: int | None = None, **more: Any) -> Any:
    counts = {"shown_tokens": tokens, "output_events": events}
    return {**counts, "output_arrivals": events if arrivals is None else arrivals, **more}


def drafts(drafted: int, accepted: int) -> dict[str, int]:
    return {"draft_tokens": drafted, "draft_accepted_tokens": accepted}


@pytest.mark.parametrize(
    ("records", "in_event", "at_once"),
    [
        ([record(64, 64)], 1.0, 1.0),
        ([record(65, 64)], 1.0, 1.0),  # an end token
        ([record(5, 4)] * 10, 1.0, 1.0),
        ([record(63, 31)], 2.0, 2.0),
        ([record(63, 62, 31)], 1.0, 2.0),
        ([record(4, 8)], 0.5, 0.5),
        ([record(None, 8), record(8, 8)], 1.0, 1.0),
        ([record(None, 8)], None, None),
        ([record(0, 0)], None, None),
        ([], None, None),
    ],
)
def test_tokens_at_once(records: list[Any], in_event: float, at_once: float) -> None:
    found = speculation.summary_of(records)
    assert (found["tokens_per_event"], found["tokens_per_arrival"]) == (in_event, at_once)


def test_the_acceptance_rate_is_that_of_all_drafts_together() -> None:
    found = speculation.summary_of([record(8, 8, **drafts(10, 5)), record(8, 8, **drafts(30, 3))])
    assert (found["draft_tokens"], found["draft_accepted_tokens"]) == (40, 8)
    assert found["acceptance_rate"] == 0.2
    assert speculation.draft_words(found) == "20.0 % of 40 draft tokens"


def test_without_drafts_there_is_no_rate_and_not_0() -> None:
    found = speculation.summary_of([record(8, 8)])
    assert found["draft_tokens"] is found["acceptance_rate"] is None
    assert speculation.draft_words(found) is None
    nothing = speculation.summary_of([record(8, 8, **drafts(0, 0))])
    assert (nothing["draft_tokens"], nothing["acceptance_rate"]) == (0, None)


def test_what_contradicts_itself_is_named_and_in_no_rate() -> None:
    good = [record(8, 8, **drafts(10, 5)), record(8, 8, **drafts(5, 10))]
    assert speculation.summary_of(good)["acceptance_rate"] == 0.5
    (said,) = speculation.problems(good)
    assert said == "more draft tokens accepted than drafted in 1 answer, as 10 of 5"
    assert speculation.problems(good[:1]) == []


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ({"draft_n": 15, "draft_n_accepted": 9}, drafts(15, 9)),
        ({"draft_n": "many"}, {"draft_tokens": None, "draft_accepted_tokens": None}),
        ({}, {"draft_tokens": None, "draft_accepted_tokens": None}),
    ],
)
def test_what_llama_cpp_tells_of_an_answer(timings: dict[str, Any], expected: Any) -> None:
    assert speculation.draft_figures(timings) == expected


def level(itl_p50: float, in_event: float, arrival: float, is_late: bool = False) -> dict[str, Any]:
    tokens = {"tokens_per_event": in_event, "tokens_per_arrival": arrival}
    return {"itl_ms": {"p50": itl_p50}, **tokens, "client": {"client_bound": is_late}}


@pytest.mark.parametrize(
    ("figures", "tokens"),
    [
        (level(30, 1.0, 1.0), None),
        (level(30, 3.0, 3.0), 3.0),
        (level(30, 1.0, 3.0), 3.0),
        (level(30, 1.0, 3.0, is_late=True), None),  # this program was late, and read several
        (level(30, 3.0, 6.0, is_late=True), 3.0),
        (level(30, 24.0, 24.0), None),  # blocks: the check `pacing` is about them
        ({}, None),
        ({"tokens_per_arrival": None}, None),
    ],
)
def test_which_levels_send_the_tokens_of_a_step(figures: Any, tokens: float | None) -> None:
    assert speculation.at_once(figures) == tokens
    assert (speculation.words(figures) is None) is (tokens is None)


@pytest.mark.parametrize(
    ("limit_ms", "is_told"),
    [(40, True), (30, True), (29, False), (10, False), (9, True)],
)
def test_a_bound_on_itl_is_told_only_if_a_token_breaks_it_as_well(
    limit_ms: int, is_told: bool
) -> None:
    """Three tokens in 30 ms: a bound of 9 ms is broken, one of 10 to 29 ms may be kept."""
    why = parse_objective(f"itl_p50={limit_ms}ms").why_unknown(level(30, 3.0, 3.0))
    assert (why is None) is is_told
    assert why is None or "put the bound on TPOT" in why
