"""test_rate_limit.py: its rules on evidence made by hand, and the script on what it must not judge.

What is planted in the reference deployment is in the fault table (test_faults.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from helpers.answers import answer
from helpers.scripts import Finished, SavedAs, run_script

import test_rate_limit as script
from common import Check, Status
from livecheck.gateway import limit_evidence as steps
from livecheck.gateway.limit_evidence import Asked, Evidence, Fate, Proof, fate_of, read_counters
from livecheck.gateway.limit_session import (
    cost_words,
    duration_words,
    each_around,
    ways_around,
)
from livecheck.wire import chat
from livecheck.wire.wire import Failure, Request
from reference import Deployment, running

PASS, FAIL, WARN, SKIP = Status.PASS, Status.FAIL, Status.WARN, Status.SKIP
SAVED = SavedAs("rate_limit")
LIMIT, WINDOW_S = 10, 60.0
GET = Request("GET", chat.MODELS)
REFUSED = {"error": {"message": "Rate limit exceeded", "code": "rate_limit_exceeded"}}
PAGE = b"<html><head><title>503 Service Temporarily Unavailable</title></head></html>"
NO_ROOM = "Could not finish the message because max_tokens or model output limit was reached."
QUICK = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
OPTIONS = ("--limit", 5, "--window", 1)


class Made:
    """Evidence made by hand."""

    def __init__(self, **more: Any) -> None:
        self.evidence = Evidence(LIMIT, WINDOW_S, **more)
        self.turn = 0

    def add(
        self,
        step: str,
        at_s: float,
        served: int = 0,
        refused: int = 0,
        what: str = steps.PLAIN,
        status: int = 429,
        headers: Mapping[str, str] = {"Retry-After": "60"},  # noqa: B006 (never changed)
        body: object = REFUSED,
        new_turn: bool = True,
    ) -> Made:
        """So many requests at this time, 1 ms each, one after the other."""
        self.turn += new_turn
        kinds = [200] * served + [status] * refused
        for number, each in enumerate(kinds):
            sent_ns = int((1000 + at_s) * 1e9) + number * 1_000_000
            given = ({}, b"{}") if each == 200 else (headers, body)
            made = answer(each, *given, request=GET, sent_ns=sent_ns)
            self.evidence.asked.append(Asked(step, what, self.turn, made))
        return self

    def proof(self, shown: str, first: int, later: int | None = None, cut: bool = False) -> Made:
        def asked(status: int | None) -> Asked | None:
            return status and Asked(
                steps.PROOF, steps.PLAIN, 99, answer(status, {}, b"{}", request=GET)
            )

        one, two = asked(first), asked(later)
        assert one
        self.evidence.proofs.append(Proof(shown, float(shown), one, two, cut))
        return self

    def check(self, name: str) -> Check:
        return next(each for each in script.judge(self.evidence) if each.name == name)

    def status(self, name: str) -> Status:
        return self.check(name).status


def sound(first: int = LIMIT, burst: int = LIMIT, **more: Any) -> Made:
    """The limit is reached, and after a window a burst is sent; so many are served."""
    made = Made(**more).add(steps.ALONE, 0, first, 3).add(steps.HALF, 29, 0, 5)
    return made.add(steps.BURST, 62, burst, LIMIT + 5 - burst)


def nobody_else(made: Made, **more: float) -> Made:
    """The counters of the guide's gateway tell that nobody else uses it; `more` than that."""
    served, refused = made.evidence.count_success(), made.evidence.count_limited()
    counted = {"requests_success": served, "requests_total": served + refused}
    made.evidence.before = dict.fromkeys(counted, 0.0)
    made.evidence.after = {name: count + more.get(name, 0) for name, count in counted.items()}
    return made


# --- what became of a request


@pytest.mark.parametrize(
    ("status", "body", "method", "expected"),
    [
        (200, b"{}", "GET", Fate.SERVED),
        (429, b"", "GET", Fate.REFUSED),
        (503, PAGE, "GET", Fate.REFUSED),
        (503, {"error": {"message": "Server busy", "code": "queue_full"}}, "POST", Fate.SERVED),
        (503, {"error": {"message": "Service at capacity"}}, "POST", Fate.SERVED),
        (503, {"error": {"message": "Too many concurrent requests"}}, "POST", Fate.SERVED),
        (503, {"error": {"message": "Too many requests"}}, "POST", Fate.REFUSED),
        (503, b"Queue limit reached", "POST", Fate.SERVED),
        (503, PAGE, "POST", Fate.REFUSED),
        (400, {"error": {"message": NO_ROOM}}, "POST", Fate.SERVED),
        (400, {"error": {"message": "max_tokens is too large"}}, "POST", Fate.REFUSED),
        (503, {"error": {"message": "loading"}}, "GET", Fate.TROUBLE),
        (503, {"error": {"message": "loading"}}, "POST", Fate.TROUBLE),
        (403, b"", "GET", Fate.REFUSED),
        (500, b"", "GET", Fate.TROUBLE),
        (502, b"", "POST", Fate.TROUBLE),
    ],
)
def test_a_full_queue_has_passed_the_limit(
    status: int, body: object, method: str, expected: Fate
) -> None:
    assert fate_of(answer(status, body=body, request=Request(method, "/v1/x"))) is expected


def test_no_whole_answer_is_neither() -> None:
    assert fate_of(answer(None, failure=Failure("timeout", "silent"))) is Fate.TROUBLE


def test_a_success_that_nobody_can_read_is_none() -> None:
    page = Asked(steps.ALONE, steps.PLAIN, 1, answer(200, body=b"<html>", request=GET))
    assert (page.fate, page.outcome) == (Fate.TROUBLE, "200, but no JSON")
    assert fate_of(answer(200, body=b"pong", request=Request("GET", "/v1/x"))) is Fate.SERVED


# --- how many are served


def test_a_limit_that_is_kept_passes() -> None:
    made = sound()
    for name in ("one_by_one", "at_once", "window", "refusal", "charged"):
        assert made.status(name) is PASS, made.check(name)


def test_the_list_of_models_may_have_been_the_first_request() -> None:
    assert sound(first=LIMIT - 1).status("one_by_one") is PASS
    assert sound(first=LIMIT - 2).status("one_by_one") is SKIP
    assert sound(first=LIMIT - 2, earlier=2).status("one_by_one") is PASS


def test_one_more_than_the_limit_is_too_many() -> None:
    made = sound(LIMIT + 1, LIMIT + 1)
    assert (made.status("one_by_one"), made.status("at_once")) == (FAIL, FAIL)


def test_a_window_that_turns_over_in_a_burst_is_right_once() -> None:
    made = sound(burst=LIMIT + 5)
    assert made.add(steps.AGAIN, 142, LIMIT, 5).status("at_once") is PASS
    made = sound(burst=LIMIT + 5)
    assert made.add(steps.AGAIN, 142, LIMIT + 5).status("at_once") is FAIL


def test_one_more_at_once_is_right_for_a_bucket_that_fills_up() -> None:
    made = Made().add(steps.ALONE, 0, LIMIT + 1, 3).add(steps.HALF, 29, 4, 1)
    made.add(steps.BURST, 91, LIMIT + 1, 4).add(steps.AGAIN, 172, LIMIT + 1, 4)
    assert (made.status("one_by_one"), made.status("at_once")) == (PASS, PASS)


def test_a_second_burst_after_half_a_window_is_too_much_for_every_kind() -> None:
    made = Made().add(steps.ALONE, 0, LIMIT, 3).add(steps.HALF, 29, 5)
    made.add(steps.BURST, 90, LIMIT, 5).add(steps.PRESS, 118, LIMIT)
    assert (made.status("at_once"), made.status("window")) == (PASS, FAIL)


def test_fewer_are_a_fault_only_if_nobody_else_was_served() -> None:
    def shortage() -> Made:
        made = sound(6, 6)
        return made.add(steps.AGAIN, 124, 6, 9).add(steps.RESTED, 246, 6, 9)

    assert nobody_else(shortage()).status("at_once") is FAIL
    found = shortage().check("at_once")
    assert (found.status, found.essential) == (SKIP, True)
    assert "--limit 6" in found.detail


def test_a_window_before_that_counts_in_part_is_right() -> None:
    made = nobody_else(sound(burst=4).add(steps.AGAIN, 124, 5, 10).add(steps.RESTED, 246, LIMIT, 5))
    assert (made.status("at_once"), made.status("charged")) == (PASS, SKIP)


def test_a_bucket_that_is_smaller_than_the_limit_is_a_warning() -> None:
    made = Made().add(steps.ALONE, 0, 6, 3).add(steps.HALF, 29, 4)
    made.add(steps.BURST, 91, 6, 9).add(steps.AGAIN, 153, 6, 9).add(steps.RESTED, 275, 6, 9)
    assert nobody_else(made).status("at_once") is WARN


@pytest.mark.parametrize(
    ("counts", "burst_s", "expected"),
    [((6, 7, 6), 0, WARN), ((6, 8, 6), 0, FAIL), ((6, 8, 7), 9, WARN), ((5, 9, 6), 9, FAIL)],
)
def test_places_that_come_back_during_a_burst_go_to_it(
    counts: tuple[int, int, int], burst_s: float, expected: Status
) -> None:
    """A place comes back every 6 s; others on the same key take more, or fewer, than that."""
    made = Made().add(steps.ALONE, 0, 6, 3).add(steps.HALF, 29, 4)
    for step, at_s, count in zip(steps.BURSTS, (91, 172, 304), counts, strict=True):
        made.add(step, at_s, count - 1, LIMIT - count)
        made.add(step, at_s + burst_s, 1, 5, new_turn=False)
    assert nobody_else(made).status("at_once") is expected


def test_just_as_many_missing_as_were_refused_means_that_refusals_count() -> None:
    made = sound(burst=LIMIT - 5).add(steps.AGAIN, 124, LIMIT, 5)
    assert (made.status("charged"), made.status("at_once")) == (WARN, PASS)
    assert nobody_else(made).status("charged") is FAIL
    assert nobody_else(made, requests_success=5).status("charged") is SKIP
    made = sound(burst=LIMIT - 4).add(steps.AGAIN, 124, LIMIT, 5)
    assert made.status("charged") is SKIP


def test_none_after_a_whole_window_means_that_it_is_longer() -> None:
    made = sound(burst=0).add(steps.AGAIN, 124, LIMIT, 5)
    assert made.status("window") is SKIP
    assert nobody_else(made).status("window") is FAIL


def test_answers_that_take_longer_than_the_window_decide_nothing() -> None:
    made = sound()
    made.evidence.asked = [each for each in made.evidence.asked if each.step != steps.BURST]
    for number in range(LIMIT + 5):
        slow = answer(200, body=b"{}", request=GET, sent_ns=int(1062e9) + number, spent_ms=70_000)
        made.evidence.asked.append(Asked(steps.BURST, steps.PLAIN, 9, slow))
    found = made.check("at_once")
    assert (found.status, found.essential) == (SKIP, True)


def loaded(status: int | None, waited_s: float, method: str = "POST", alone: int = LIMIT) -> Made:
    """Completions that take 5 s each, and then 15 at once, of which 3 end with trouble."""
    made, request = Made(), Request(method, "/v1/x")

    def add(step: str, status: int | None, turn: int, spent_s: float, count: int = 1) -> None:
        failure = Failure("timeout", "silent") if status is None else None
        for _ in range(count):
            one = answer(status, request=request, failure=failure, spent_ms=spent_s * 1e3)
            made.evidence.asked.append(Asked(step, steps.PLAIN, turn, one))

    for number in range(alone):
        add(steps.ALONE, 200, number, 5.0)
    add(steps.BURST, 200, 99, 20.0, LIMIT - 3)
    add(steps.BURST, 429, 99, 0.01, 5)
    add(steps.BURST, status, 99, waited_s, 3)
    return made


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (loaded(503, 0.1), SKIP),
        (loaded(503, 0.1, method="GET"), FAIL),
        (loaded(500, 0.1), FAIL),
        (loaded(502, 60), FAIL),
        (loaded(504, 60), SKIP),
        (loaded(504, 76), FAIL),  # 15 times 5 s are over
        (loaded(None, 60), SKIP),
        (loaded(None, 120), FAIL),
        (loaded(None, 60, alone=0), FAIL),
    ],
)
def test_too_many_at_once_for_a_slow_deployment_is_no_fault_of_its_limit(
    made: Made, status: Status
) -> None:
    found = made.check("at_once")
    assert (found.status, found.essential) == (status, status is SKIP), found
    assert ("smaller --limit" in found.detail) is (status is SKIP)


# --- what the refusals say


@pytest.mark.parametrize(
    ("status", "body", "expected", "of_guide"),
    [
        (429, REFUSED, PASS, PASS),
        (429, {"error": {"message": "slow down", "code": "429"}}, WARN, FAIL),
        (429, {"error": "slow down"}, WARN, FAIL),
        (429, b"slow down", WARN, FAIL),
        (503, PAGE, WARN, FAIL),
        (403, REFUSED, FAIL, FAIL),
    ],
)
def test_a_refusal_is_a_429_with_the_code(
    status: int, body: object, expected: Status, of_guide: Status
) -> None:
    """The guide's gateway promises it; a proxy in front of it promises nothing."""
    made = Made().add(steps.ALONE, 0, LIMIT, 3, status=status, body=body)
    assert made.status("refusal") is expected
    assert nobody_else(made).status("refusal") is of_guide
    if status != 403:  # which it does not count as an accepted key
        assert nobody_else(made, requests_total=-3).status("refusal") is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("soon", FAIL), ("-1", FAIL), ("0.5", FAIL), (None, WARN), ("60", SKIP)]
)
def test_retry_after_has_one_of_two_forms(value: str | None, expected: Status) -> None:
    headers = {} if value is None else {"Retry-After": value}
    made = Made().add(steps.ALONE, 0, LIMIT, 3, headers=headers)
    assert made.status("retry_after") is expected
    if value is None:
        assert nobody_else(made).status("retry_after") is FAIL


@pytest.mark.parametrize(
    ("proofs", "expected"),
    [
        ([("60", 200)], PASS),
        ([("60", 429, 429), ("60", 200)], PASS),
        ([("60", 429, 200)], WARN),
        ([("60", 429, 429)], SKIP),
        ([("60", 429, 429), ("60", 429, 429)], FAIL),
        ([("90", 200, None, True)], WARN),
        ([("90", 429, None, True)], SKIP),
        ([("60", 500)], FAIL),
    ],
)
def test_whoever_comes_back_then_is_served(proofs: Sequence[Any], expected: Status) -> None:
    made = sound()
    for each in proofs:
        made.proof(*each)
    assert made.status("retry_after") is expected


def test_served_half_way_to_retry_after_is_a_warning_where_nobody_else_takes_places() -> None:
    def half_way(burst: int) -> Made:
        made = sound(burst=burst).proof("60", 200)
        made.evidence.proofs = [
            dataclasses.replace(each, waited_s=30.0, is_cut=True) for each in made.evidence.proofs
        ]
        return made

    assert half_way(LIMIT).status("retry_after") is WARN
    assert half_way(LIMIT - 3).status("retry_after") is PASS


# --- ways around it, the other key, the probes, the counters


def around(*served: int, plain: int = 0, step_s: float = 0.1) -> Status:
    """So many of 3 changed requests are served at each try; at the last one so many plain ones."""
    made = Made().add(steps.ALONE, 0, LIMIT, 3)
    for number, each in enumerate(served, 1):
        at_s, last = number * step_s, plain if number == len(served) else 0
        made.add(steps.AROUND, at_s, each, 3 - each, what="X-Forwarded-For")
        made.add(steps.AROUND, at_s + 0.01, last, 3 - last, new_turn=False)
    return made.status("dodges")


def test_a_way_around_is_one_that_is_served_each_time_while_the_plain_request_is_refused() -> None:
    assert each_around(LIMIT) == 3
    assert around(3, 3, 3) is FAIL
    assert around(3, 3, 2) is PASS
    assert around(3, 3, 3, plain=1) is PASS
    assert around(3, 3) is PASS
    assert around(1) is PASS
    assert around(3, plain=3) is SKIP


def test_a_way_around_is_served_more_often_than_places_come_back() -> None:
    assert around(3, 3, 3, step_s=18.0) is PASS  # 9 places, and one that was nearly there


def test_a_small_limit_of_a_way_around_may_be_used_up_by_the_last_try() -> None:
    made = Made().add(steps.ALONE, 0, 5, 3)
    made.evidence.limit = 5
    for number, served in enumerate((2, 2, 1), 1):
        made.add(steps.AROUND, number / 10, served, 2 - served, what="X-Forwarded-For")
        made.add(steps.AROUND, number / 10, 0, 2, new_turn=False)
    assert made.status("dodges") is FAIL


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        *[([200, 200], PASS), ([429], SKIP), ([401], SKIP), ([200], SKIP)],
        *[([200, 429], SKIP), ([200, 429, 429, 429], FAIL), ([200, 429, 200], PASS)],
        *[([200, 500, 500, 500], SKIP), ([200, 429, 429, 500], SKIP)],
    ],
)
def test_the_other_key_is_served_all_the_time(statuses: list[int], expected: Status) -> None:
    made = sound()
    for status in statuses:
        made.add(steps.OTHER, 5, 0, 1, what="other key", status=status)
    assert made.status("other_key") is expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(200, b"", PASS), (404, b"", PASS), (429, REFUSED, FAIL), (503, PAGE, FAIL), (503, {}, PASS)],
)
def test_probes_are_not_limited(status: int, body: object, expected: Status) -> None:
    made = sound().add(steps.PROBES, 5, 0, 1, what="/ping", status=status, body=body)
    assert made.status("probes") is expected


@pytest.mark.parametrize(
    ("success", "errors", "expected"),
    [
        *[(20, 13, PASS), (25, 13, PASS), (20, 0, WARN), (0, 0, SKIP)],
        *[(19, 13, WARN), (2, 13, WARN), (1, 13, FAIL), (-1, 13, SKIP)],
    ],
)
def test_counters_agree_with_what_was_sent(success: int, errors: int, expected: Status) -> None:
    made = sound()
    made.evidence.before = {"requests_success": 5, "requests_error": 1}
    made.evidence.after = {"requests_success": 5 + success, "requests_error": 1 + errors}
    assert made.status("counters") is expected


def test_gateways_with_a_count_each_are_not_accused() -> None:
    made = sound()
    made.evidence.before = {"requests_success": 0}
    made.evidence.after = {"requests_success": 1}
    made.evidence.at_rest = [{"requests_success": 1}, {"requests_success": 1}]
    assert made.status("counters") is FAIL
    made.evidence.at_rest.append({"requests_success": 19})
    found = made.check("counters")
    assert found.status is SKIP and "several gateways" in found.detail
    assert made.evidence.others is None


def test_counters_are_read_in_both_forms() -> None:
    figures = {"gateway": {"requests_success": 4, "requests_error": -1, "uptime_seconds": 3}}
    text = b"# TYPE gateway_requests_success gauge\ngateway_requests_success 4\n"
    assert read_counters(answer(200, body=figures)) == {"requests_success": 4}
    assert read_counters(answer(200, body=text)) == {"requests_success": 4}
    assert read_counters(answer(404, body=figures)) is None
    assert read_counters(answer(200, body=b"vllm:requests 3\n")) is None


# --- words


def test_what_it_costs_is_said_in_advance() -> None:
    assert cost_words(100, 10, 60).startswith("this takes about 2 min, at most 6 min")
    assert [duration_words(each) for each in (2.5, 89, 125, 360)] == [
        *("2.5 s", "89 s", "2 min 5 s", "6 min")
    ]


def test_each_way_around_says_whose_credential_is_in_it() -> None:
    for name, change in ways_around("sk-key").items():
        changed = change(chat.get(chat.MODELS))
        has_key = "sk-key" in str(changed.headers)
        assert (changed.secret == "sk-key") is has_key, name


# --- the script


@pytest.fixture(scope="module")
def limited() -> Iterator[Deployment]:
    with running(**QUICK, rate_limit=5, rate_window=30) as deployment:
        yield deployment


def credential_of(deployment: Deployment) -> dict[str, str]:
    return {"Authorization": f"Bearer {deployment.api_key}"}


def run(deployment: Deployment, *arguments: object, **more: Any) -> Finished:
    target = ("--url", deployment.url, "--api-key", deployment.api_key)
    return run_script("test_rate_limit.py", *target, *OPTIONS, *arguments, **more)


def test_the_other_key_is_never_shown_or_saved(limited: Deployment) -> None:
    other = limited.environment["INFERENCE_OTHER_KEY"]
    finished = run(limited, "--other-key", other, "--only", "other_key", "--debug")
    assert (finished.code, SAVED.statuses(finished)) == (0, {"other_key": "PASS"})
    assert other not in finished.everything
    assert "other_key" not in finished.document("rate_limit")["options"]


def test_a_key_that_is_used_up_already_is_not_judged(limited: Deployment) -> None:
    for _ in range(6):
        requests.get(f"{limited.url}/v1/models", headers=credential_of(limited), timeout=10)
    finished = run(limited)
    assert finished.code == 3
    assert "the rate limit is reached (429" in finished.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--path", "models"), "is not a path"),
        (("--limit", "0"), "the least is 1"),
        (("--limit", "9999"), "the most is 2000"),
        (("--other-key", "two words"), "white space"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(["--url", "http://127.0.0.1:9", "--results", str(tmp_path), *arguments])
    assert (caught.value.code, words in capsys.readouterr().err) == (2, True)


def test_a_path_that_is_not_served_decides_nothing(sim: Deployment) -> None:
    finished = run(sim, "--path", "/v1/not-there")
    assert finished.code == 3
    assert "/v1/not-there is not served (404" in finished.err
