"""What happens to clients that stay is told, with the time since another one disconnected."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.answers import SENT_NS, answer, event, streamed

from livecheck.gateway.bystanders import (
    Bystander,
    ended_suddenly,
    harm,
    idle_place,
    too_many_at_once,
)
from livecheck.wire.answer import Answer

SENT_S = SENT_NS / 1e9
KIND = {"content-type": "text/event-stream"}


def complete(first_s: float, last_s: float, tokens: int = 10, reason: str = "length") -> Answer:
    last = event({}, reason, usage={"completion_tokens": tokens}) + b"data: [DONE]\n\n"
    pieces = [(1e3 * first_s, event({"content": "x"})), (1e3 * last_s, last)]
    return answer(200, KIND, pieces=pieces, spent_ms=1e3 * last_s)


def with_ids(*ids: str) -> Answer:
    pieces = [(1.0, event({"content": "x"}).replace(b'"1"', f'"{each}"'.encode())) for each in ids]
    last = event({}, "stop").replace(b'"1"', f'"{ids[-1]}"'.encode()) + b"data: [DONE]\n\n"
    return answer(200, KIND, pieces=[*pieces, (2.0, last)])


def told(*answers: Answer, usual: Answer | None = None, left_s: float = 1.0) -> str:
    stayed: Sequence[Bystander] = [Bystander(each, 10, waited=True) for each in answers]
    return str(harm(stayed, SENT_S + left_s, usual or complete(0, 1)))


def test_whoever_got_a_complete_answer_has_not_suffered() -> None:
    assert told(complete(0.1, 2.0), complete(2.1, 3.0)) == "None"


def test_an_answer_that_is_refused_or_broken_off_is_told_with_the_time() -> None:
    assert "(503: 503" in told(complete(0, 2), answer(503, spent_ms=1500))
    assert "0.50 s after another client had disconnected" in told(answer(503, spent_ms=1500))
    assert "before another client disconnected" in told(answer(503, spent_ms=500))


def test_the_answer_of_a_rate_limit_is_not_harm() -> None:
    assert told(answer(429)) == "None"


def test_more_tokens_than_asked_for_are_another_clients_answer() -> None:
    assert "asked for 10 tokens and got 50" in told(complete(0, 2, tokens=50))


def test_an_id_that_changes_is_harm_unless_it_always_does() -> None:
    assert "the id of another answer" in told(with_ids("a", "b"), usual=with_ids("c"))
    assert told(with_ids("a", "b"), usual=with_ids("c", "d")) == "None"
    assert told(with_ids("a", "a"), usual=with_ids("c")) == "None"


def test_an_answer_that_ends_at_once_and_early_is_suspicious() -> None:
    usual = complete(0, 2, tokens=100)
    early = Bystander(complete(0.1, 1.1, tokens=20, reason="stop"), 100)
    assert "20 of 100 tokens" in str(ended_suddenly([early], SENT_S + 1.0, usual))
    assert ended_suddenly([early], SENT_S + 0.2, usual) is None  # much later
    short = complete(0, 1, tokens=20, reason="stop")
    assert ended_suddenly([early], SENT_S + 1.0, short) is None  # the model always ends early


def test_two_places_that_become_free_for_one_are_seen() -> None:
    answers = [complete(0, 2.0), complete(1.0, 2.5), complete(1.1, 2.6)]
    assert "3 answers were generated at once" in str(too_many_at_once(answers, 2, 0.05))
    assert too_many_at_once(answers, 3, 0.05) is None


def test_a_place_that_nobody_has_is_seen() -> None:
    holder, ahead = complete(0, 2.0), complete(2.1, 3.0)
    found = idle_place([holder], [ahead], complete(5.0, 6.0), 0.1)
    assert found and round(found[1] - found[0], 3) == 1.9
    assert idle_place([holder], [ahead], complete(3.05, 4.0), 0.1) is None
    assert idle_place([holder], [ahead], streamed(None), 0.1) is None
