"""What was found out about a runner that died, and the verdicts of test_workload_routing.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from helpers import answers as made
from helpers import hostile
from helpers.fleet_answers import REQUEST, STREAM, failed, ns, served

import test_workload_routing as workload
from livecheck.core.checks import Status
from livecheck.fleet import runner_loss
from livecheck.fleet.runner_loss import Loss, Pace, Ran, Sighting, Visit
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Failure

BOTH, ONE = frozenset({"desk", "tower"}), frozenset({"desk"})


def at(seconds: float) -> float:
    """A time on the clock of the answers; the kill command runs from 10 s to 11 s, the revive
    command from 20 s to 21 s."""
    return ns(seconds * 1e3) / 1e9


def loss(answers: Sequence[Answer] = (), visits: Sequence[Visit] = (), **more: Any) -> Loss:
    fields: dict[str, Any] = {
        "served_before": BOTH,
        "source": "the request log",
        "killed": Ran(at(10), at(11)),
        "revived": Ran(at(20), at(21)),
        "answers": list(answers),
        "visits": list(visits),
        "sightings": [Sighting(at(9), BOTH), Sighting(at(12), ONE), Sighting(at(23), BOTH)],
        **more,
    }
    return Loss(3.0, 60.0, **fields)


def good(sent_s: float) -> Answer:
    return served(sent_s * 1e3, sent_s * 1e3 + 500)


def bad(sent_s: float) -> Answer:
    return failed(sent_s * 1e3, sent_s * 1e3 + 5)


def busy(sent_s: float) -> Answer:
    return failed(sent_s * 1e3, sent_s * 1e3 + 5, 503, "no room")


def stream(*pieces: bytes, headers: dict[str, str] = STREAM, **more: Any) -> Answer:
    """A stream that was asked for before the kill."""
    times = [(100.0 * number, piece) for number, piece in enumerate(pieces, 1)]
    return made.answer(
        headers=headers, request=REQUEST, pieces=times, sent_ns=ns(9900), spent_ms=900, **more
    )


JSON = {"content-type": "application/json"}
ERROR = b'data: {"error": {"message": "the runner died"}}\n\n'


def test_the_dead_runner_is_the_one_that_went_offline() -> None:
    assert loss().dead == ["tower"]
    assert loss(sightings=[]).dead == []  # nothing tells


def test_a_runner_that_served_nothing_before_may_go_for_a_reason_of_its_own() -> None:
    three = [Sighting(at(9), BOTH | {"attic"}), Sighting(at(12), ONE)]
    assert loss(sightings=three).dead == ["tower"]
    assert loss(sightings=three, served_before=frozenset()).dead == ["attic", "tower"]
    only_attic = [three[0], Sighting(at(12), BOTH)]
    assert loss(sightings=only_attic).dead == ["attic"]  # none of the others can be the one
    visits = [Visit("desk", at(13), False)]
    assert loss(sightings=only_attic, visits=visits).dead == ["tower"]


def test_without_a_list_it_is_the_one_that_served_nothing_more() -> None:
    visits = [Visit("desk", at(each), False) for each in (9, 13, 14)]
    visits += [Visit("tower", at(9), False), Visit("tower", at(13), True)]
    assert loss(visits=visits, sightings=[]).dead == ["tower"]


def failed_visit(runner: str, sent_s: float) -> Visit:
    return Visit(runner, at(sent_s), True)


def test_a_runner_that_falls_asleep_by_itself_is_not_the_killed_one() -> None:
    all_three, two = BOTH | {"attic"}, frozenset({"desk", "attic"})
    at_once = [Sighting(at(9), all_three), Sighting(at(12), ONE)]
    first = [Sighting(at(9), all_three), Sighting(at(12), two), Sighting(at(14), ONE)]
    fields: dict[str, Any] = {"served_before": all_three}
    assert loss(sightings=first, **fields).dead == ["tower"]
    assert loss(sightings=at_once, **fields).dead == ["attic", "tower"]  # nothing tells them apart
    visits = [failed_visit("tower", 9.9), Visit("desk", at(13), False)]
    assert loss(sightings=at_once, visits=visits, **fields).dead == ["tower"]
    asleep = [Sighting(at(9), all_three), Sighting(at(12), BOTH)]
    kept = [failed_visit("tower", 12), Visit("desk", at(13), False)]
    assert loss(sightings=asleep, visits=kept, **fields).dead == ["tower"]  # still shown as online
    served = [*visits, failed_visit("desk", 12)]  # once, and it served after that
    assert loss(sightings=at_once, visits=served, **fields).dead == ["tower"]


def test_it_is_counted_how_long_requests_were_hit() -> None:
    found = loss([good(9.5), bad(10.5), bad(12.5), good(12.7), bad(20.4)])
    assert len(found.hit) == 3
    assert found.last_hit_s == pytest.approx(2.5)
    assert loss([bad(9.9965)]).hit and loss([bad(9.9965)]).last_hit_s == 0.0
    assert not loss([bad(9.9)]).hit  # that was over before
    assert loss([good(12)]).last_hit_s is None


@pytest.mark.parametrize(
    ("answer", "is_clean"),
    [
        (bad(12), True),
        (stream(hostile.delta("one"), ERROR), True),
        (stream(hostile.delta("one"), ERROR + hostile.DONE), True),
        (stream(hostile.delta("one")), False),  # it looks complete
        (stream(b'{"error": {"message": "the runner died"}}'), False),
        (stream(b'{"error": {"message": "died"}}', headers=JSON), False),
        (stream(failure=Failure("closed", "closed without an answer")), False),
        (stream(failure=Failure("malformed", "not HTTP")), False),
        (stream(hostile.delta("one"), failure=Failure("truncated", "cut")), False),
        (stream(hostile.delta("one"), failure=Failure("timeout", "silent")), False),
    ],
)
def test_a_clean_error_is_one_that_every_client_takes_for_an_error(
    answer: Answer, is_clean: bool
) -> None:
    assert runner_loss.is_clean_error(answer) is is_clean
    check = workload.check_clean_errors(loss([good(9), answer]))
    assert check.status is (Status.PASS if is_clean else Status.FAIL)


LATE = [good(15), good(16)]


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (loss([bad(13.9), *LATE]), Status.PASS, "all 2 that were sent later than 3 s"),
        (loss([bad(14.1), *LATE]), Status.FAIL, "1 of 3 that were sent later than 3 s"),
        (loss([busy(14.1), *LATE]), Status.SKIP, "may be too few"),
        (loss([busy(14.1), bad(15.1)]), Status.FAIL, "2 of 2 that were sent later"),
        (loss([busy(15)], [Visit("tower", at(15), True)]), Status.FAIL, "went to tower"),
        (loss(LATE, [Visit("tower", at(15), True)]), Status.FAIL, "went to tower"),
        (loss(LATE, [Visit("tower", at(13), True)]), Status.PASS, "all 2"),
        (loss(LATE, [Visit("tower", at(19.9), True)]), Status.PASS, "all 2"),  # the clocks differ
        (loss([bad(12)]), Status.SKIP, "no request was sent later"),
    ],
)
def test_from_the_settle_time_on_no_request_may_go_to_the_dead_runner(
    found: Loss, status: Status, words: str
) -> None:
    check = workload.check_rerouted(found)
    assert check.status is status and words in check.detail


NEVER = [Sighting(at(9), BOTH), Sighting(at(12), ONE), Sighting(at(80), ONE)]


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (loss(visits=[Visit("tower", at(24), False)]), Status.PASS, "online 3.0 s and sent"),
        (loss([good(24)]), Status.WARN, "got none of 1 request since"),
        (loss(source=None), Status.PASS, "nothing tells whether it serves"),
        (loss(sightings=NEVER), Status.FAIL, "did not come back within 60 s"),
        (loss(revived=Ran(at(20), at(21), "ended with exit code 1")), Status.SKIP, "exit code 1"),
        (loss(sightings=[]), Status.SKIP, "not known which runner"),
    ],
)
def test_the_runner_has_to_come_back(found: Loss, status: Status, words: str) -> None:
    check = workload.check_revived(found)
    assert check.status is status and words in check.detail


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (loss(killed=Ran(at(10), at(11), "did not end within 60 s")), "the kill command did not"),
        (loss([good(12)], sightings=[]), "no runner died, according to the request log"),
        (loss(limited="the rate limit is reached"), "the rate limit is reached"),
        (loss([bad(12)]), None),
    ],
)
def test_without_a_dead_runner_nothing_is_judged(found: Loss, words: str | None) -> None:
    reason = workload.nothing_lost(found)
    assert (reason is None) if words is None else (reason and words in reason)


def test_the_pace_is_one_that_the_other_runners_can_keep() -> None:
    pace = Pace.after(count=40, wall_s=5.0, at_once=10, runners=2)
    assert (pace.per_s, pace.group) == (2.0, 2)
    due_s = pace.due_s()
    assert [next(due_s) for _ in range(14)] == [0.0] * 10 + [1.0, 1.0, 2.0, 2.0]
    assert Pace.after(1, 60.0, 1, 1).per_s == 0.5
    assert Pace.after(1000, 1.0, 1, 4) == Pace(1, 1, 10.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kill-command", "true"],
        ["--revive-command", "true"],
        ["--only", "rerouted"],
    ],
)
def test_the_two_commands_need_each_other(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="need"):
        workload.check_options(workload.build_parser().parse_args(arguments))


def test_the_commands_are_not_saved() -> None:
    given = ["--kill-command", "kill secret", "--revive-command", "revive secret"]
    args = workload.build_parser().parse_args(given)
    assert workload.check_options(args) == ("kill secret", "revive secret")
    assert args.kill_command == args.revive_command == "(given)"
