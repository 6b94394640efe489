"""The messages of several workers become one level: each request once, every loss told."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.samples import record

from livecheck.core.checks import Check, Exit, Status, exit_code_of
from livecheck.load import distributed
from livecheck.load.distributed import END, HELLO, NEEDED, RECORDS, STOP, Collection
from livecheck.wire import metrics

CLIENT = {
    "clock": "a clock",
    "lag_ms": metrics.summary([0.1]),
    "send_lag_ms": metrics.summary([0.2]),
    "merged_reads": 1,
    "arrival_gap_ms": 10.0,
    "starved_ms": 3.0,
    "client_bound": False,
}


MORE = {
    "complaints": [],
    "token_doubts": [],
    "hidden_tokens": None,
    "output_events": 16,
    "starved_ms": 0.0,
    "starved_ttft_ms": 0.0,
    "server_predicted_tokens": None,
}


def request(index: int, **changes: Any) -> dict[str, Any]:
    """A request of 210 ms with 16 tokens; those of one user follow each other."""
    return {**record(index, 210.0 * index, 60.0, 10.0), **MORE, **changes}


def says(kind: str, begun: int = 0, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "test": "t", "begun": begun, **more}


def collected(*said: tuple[str, float, dict[str, Any]]) -> Collection:
    """What came: (worker, when, message)."""
    found = Collection("t")
    for name, at_s, message in said:
        found.take(name, message, at_s)
    return found


def whole_test(clients: dict[str, dict[str, Any]] | None = None) -> Collection:
    """Two workers with four requests each, who ran for ten seconds."""
    found = Collection("t")
    for name in ("a", "b"):
        client = CLIENT | (clients or {}).get(name, {})
        found.take(name, says(HELLO, model="m"), 0.0)
        found.take(name, says(RECORDS, 4, records=[request(n) for n in range(4)]), 5.0)
        found.take(name, says(END, 4, client=client, warmup_requests=2), 10.0)
    return found


def checks_of(found: Collection, *slo: str) -> dict[str, Check]:
    objectives = [metrics.parse_objective(each) for each in slo]
    figures = distributed.figures_of(found, 2, objectives)
    return {check.name: check for check in distributed.judge(found, figures, objectives)}


def test_each_request_counts_once_and_the_rate_is_the_sum() -> None:
    found = whole_test()
    found.take("a", says(RECORDS, 4, records=[request(0)]), 9.0)  # again
    figures = distributed.figures_of(found, 2, [])
    assert figures["requests"] == figures["succeeded"] == 8
    assert found.repeated == 1
    assert figures["wall_s"] == pytest.approx(0.84)
    assert figures["requests_per_s"] == pytest.approx(2 * 4 / 0.84, abs=1e-3)
    assert figures["steady"]["requests_per_s"] == pytest.approx(2 * 4 / 0.84, abs=1e-3)
    assert figures["steady"]["requests"] == 8
    assert figures["warmup"] == {"requests": 4, "failed": 0}
    assert [each["worker"] for each in figures["workers"]] == [1, 2]
    assert figures["client"]["merged_reads"] == 2
    checks = checks_of(found, "ttft_p50=100ms")
    assert {check.status for check in checks.values()} == {Status.PASS}
    assert exit_code_of(list(checks.values())) is Exit.OK


def test_what_a_killed_worker_had_begun_is_told() -> None:
    found = collected(
        ("a", 0.0, says(HELLO)),
        ("b", 0.0, says(HELLO)),
        ("a", 1.0, says(RECORDS, 3, records=[request(0)])),
        ("b", 1.0, says(RECORDS, 1, records=[request(0)])),
        ("b", 2.0, says(END, 1, client=CLIENT)),
    )
    assert not found.is_whole()
    assert found.is_whole(gone=["a"])
    check = checks_of(found)["workers"]
    assert check.status is Status.SKIP
    assert check.essential
    assert "worker 1 (a) ended without a word: at least 2 requests of the 3" in check.detail
    assert check.evidence["lost"] == 2


def test_a_worker_that_never_spoke_is_told() -> None:
    found = whole_test()
    found.part_of("c")
    check = checks_of(found)["workers"]
    assert check.status is Status.SKIP
    assert "worker 3 (c) ended without a word: nothing of it has come" in check.detail


def test_records_that_were_lost_on_the_way_are_told() -> None:
    found = collected(
        ("a", 0.0, says(HELLO)),
        ("a", 1.0, says(RECORDS, 3, records=[request(0), request(2)])),
        ("a", 2.0, says(END, 3, client=CLIENT)),
    )
    check = checks_of(found)["workers"]
    assert check.status is Status.SKIP
    assert "1 request of 3 are lost" in check.detail


def test_workers_that_did_not_run_at_the_same_time_are_told() -> None:
    found = whole_test()
    for name, at_s in (("c", 8.0), ("d", 8.0)):
        found.take(name, says(HELLO, model="m"), at_s)
        found.take(name, says(RECORDS, 1, records=[request(0)]), at_s)
        found.take(name, says(END, 1, client=CLIENT), at_s + 10.0)
    check = checks_of(found)["workers"]
    assert check.status is Status.WARN
    assert "not all of them ran for 16.0 s of 18.0 s" in check.detail


def test_a_short_difference_is_no_reason_to_warn() -> None:
    found = whole_test()
    found.take("c", says(HELLO, model="m"), 1.9)
    found.take("c", says(RECORDS, 1, records=[request(0)]), 2.0)
    found.take("c", says(END, 1, client=CLIENT), 10.0)
    assert checks_of(found)["workers"].status is Status.PASS


def test_workers_that_asked_different_models_are_told() -> None:
    found = whole_test()
    found.parts["b"].about["model"] = "other"
    check = checks_of(found)["workers"]
    assert check.status is Status.WARN
    assert "m, other" in check.detail


def test_what_another_test_says_is_left_out() -> None:
    found = whole_test()
    found.take("a", says(RECORDS, 9, records=[request(7)]) | {"test": "other"}, 9.0)
    assert len(found.records) == 8
    assert checks_of(found)["workers"].status is Status.PASS


@pytest.mark.parametrize(
    "damaged",
    [
        says("something"),
        says(RECORDS, 4, records=None),
        says(RECORDS, 4, records=["no record"]),
        says(RECORDS, 4, records=[{"index": 9}]),
        says(RECORDS, 4, records=[request(9, event_ms="times")]),
        says(RECORDS, 4, records=[request(9) | {f"k{n}": 1 for n in range(100)}]),
    ],
)
def test_what_is_not_of_this_version_is_counted_and_never_an_error(damaged: dict[str, Any]) -> None:
    found = whole_test()
    found.take("a", damaged, 9.0)
    assert found.damaged == 1
    assert len(found.records) == 8
    assert checks_of(found)["workers"].status is Status.SKIP


@pytest.mark.parametrize("changes", [{}, {"ttft_ms": None, "event_ms": []}, {"error": "503"}])
def test_a_record_that_is_taken_has_all_that_is_judged(changes: dict[str, Any]) -> None:
    found = Collection("t")
    least = {key: value for key, value in request(0, **changes).items() if key in NEEDED}
    found.take("a", says(RECORDS, 1, records=[least]), 1.0)
    found.take("a", says(END, 1, client=CLIENT), 2.0)
    assert not found.damaged
    assert checks_of(found, "ttft_p50=100ms", "e2e=1s")["workers"].status is Status.PASS


def test_requests_in_flight_at_the_end_are_not_failures() -> None:
    cut = {"error": "interrupted", "error_text": "x", "excluded": True, "event_ms": []}
    found = whole_test()
    found.take("a", says(RECORDS, 5, records=[request(4, **cut)]), 9.0)
    check = checks_of(found)["requests"]
    assert check.status is Status.PASS
    assert "8 of 8 succeeded; 1 request in flight at the end, not counted" in check.detail


def test_failures_fail_unless_they_are_allowed() -> None:
    bad = {"error": "503", "error_text": "busy", "event_ms": []}
    found = whole_test()
    found.take("a", says(RECORDS, 5, records=[request(4, **bad)]), 9.0)
    check = checks_of(found)["requests"]
    assert check.status is Status.FAIL
    assert "1 of 9 failed: 503 x1 (busy)" in check.detail
    assert checks_of(found, "error_rate=20%")["requests"].status is Status.WARN


def test_a_rate_limit_decides_nothing() -> None:
    found = whole_test()
    words = "the rate limit is reached (429): wait"
    found.take("b", says(STOP, 4, cause="RATE_LIMIT", text=words), 9.0)
    check = checks_of(found)["requests"]
    assert (check.status, check.essential) == (Status.SKIP, True)
    assert words in check.detail


def test_one_worker_that_was_too_slow_makes_the_level_client_bound() -> None:
    late = {"client_bound": True, "lag_ms": metrics.summary([7.0])}
    found = whole_test({"b": late})
    figures = distributed.figures_of(found, 2, [])
    assert figures["client"]["client_bound"]
    assert figures["client"]["lag_ms"]["p99"] == 7.0
    check = checks_of(found)["client"]
    assert check.status is Status.WARN
    assert "client-bound: worker 2" in check.detail


def test_no_worker_is_undecided() -> None:
    checks = checks_of(Collection("t"))
    assert exit_code_of(list(checks.values())) is Exit.UNDECIDED


def test_the_steady_window_of_workers_is_the_time_that_all_of_them_share() -> None:
    """Worker b has two users, of whom one begins late and ends early."""
    found = whole_test()
    late = [request(n, sent_ms=210.0 * n + 100, ended_ms=210.0 * n + 310) for n in range(3)]
    both = [{**each, "index": n} for n, each in enumerate([*map(request, range(4)), *late])]
    found.take("c", says(HELLO, model="m"), 2.0)
    found.take("c", says(RECORDS, 7, records=both), 5.0)
    found.take("c", says(END, 7, client=CLIENT), 10.0)
    figures = distributed.figures_of(found, 4, [])
    assert [each["heard_s"] for each in figures["workers"]] == [10, 10, 8]
    steady = figures["steady"]
    assert (steady["start_ms"], steady["end_ms"]) == (99.9, 730)  # connecting takes 0.1 ms
    assert steady["share"] == pytest.approx(630.1 / 840, abs=1e-3)
    assert steady["requests"] == 4 + 4 + 5


def test_each_slow_worker_says_by_how_many_it_is_to_be_replaced() -> None:
    slow = {"client_bound": True, "processes_needed": 3}
    found = distributed.figures_of(whole_test({"a": slow}), 2, [])["client"]
    assert (found["processes"], found["processes_needed"]) == (2, 4)
    found = distributed.figures_of(whole_test({"a": slow, "b": slow}), 2, [])["client"]
    assert found["processes_needed"] == 6
    unknown = {"client_bound": True, "processes_needed": None}
    found = distributed.figures_of(whole_test({"a": slow, "b": unknown}), 2, [])["client"]
    assert found["processes_needed"] is None


def test_as_many_errors_as_are_allowed_are_no_failure() -> None:
    found = Collection("t")
    bad = {"error": "5xx", "error_text": "500"}
    records = [request(n, **(bad if n < 7 else {})) for n in range(1000)]
    found.take("a", says(RECORDS, 1000, records=records), 0.0)
    found.take("a", says(END, 1000, client=CLIENT), 1.0)
    assert checks_of(found, "error_rate=0.7%")["requests"].status is Status.WARN
    assert checks_of(found, "error_rate=0.6%")["requests"].status is Status.FAIL
