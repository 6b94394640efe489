"""test_concurrency.py: its rules on answers made by hand, and the script on a model, or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from helpers.answers import answer, streamed
from helpers.scripts import Finished, SavedAs, run_script

import test_concurrency as concurrency
from common import Check, Exit, Status
from livecheck.core.checks import exit_code_of
from livecheck.wire.answer import Answer
from livecheck.wire.asking import Cause, Stop
from livecheck.wire.request import Request
from livecheck.wire.wire import Failure
from reference import Deployment, running
from reference.skills import repeating
from test_concurrency import Asked, Evidence, Question, Task

SCRIPT = "test_concurrency.py"
SAVED = SavedAs("concurrency")
only = SAVED.only
QUICK = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1, "rate_limit": 0}
FEW = ("--concurrency", "3", "--alone", "4", "--max-tokens", "48")
STREAM = {"accept": "text/event-stream"}
Says = Callable[[str], Answer]  # what comes in the place of the right answer


def check(deployment: Deployment, *arguments: object, timeout_s: float = 90) -> Finished:
    target = ("--url", deployment.url, "--api-key", deployment.api_key)
    return run_script(SCRIPT, *target, *arguments, timeout_s=timeout_s)


# --- made by hand


def text(said: str, spent_ms: float = 1.0) -> Answer:
    return streamed(1.0, texts=[said], request=REQUEST, gap_ms=spent_ms)


def whole(message: dict[str, str], reason: str = "stop") -> Answer:
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return answer(body={"model": "m", "choices": [choice]}, request=Request("POST", "/"))


REQUEST = Request("POST", "/v1/chat/completions", b"{}", STREAM)


def refused(_: str) -> Answer:
    return answer(503, {}, {"error": {"message": "full"}}, request=REQUEST)


def too_late(_: str) -> Answer:
    return answer(None, request=REQUEST, failure=Failure("timeout", "not finished after 2 s"))


def ask(
    evidence: Evidence, step: str, questions: Sequence[Question], says: Says = text
) -> list[Asked]:
    found = []
    for question in questions:
        right = "".join(repeating.answer({"messages": question.messages}) or [])
        found.append(Asked(step, Task(question, REQUEST), says(right)))
    evidence.asked += found
    return found


def again(evidence: Evidence, step: str, known: Sequence[Asked], says: Says = text) -> None:
    """The same tasks once more."""
    made = ask(evidence, step, [each.question for each in known], says)
    for one, other in zip(made, known, strict=True):
        one.task = other.task


def compared(
    together: Says = text, alone: Says = text, count: int = 12, kinds: tuple[str, ...] = ("repeat",)
) -> Evidence:
    """A run in which the answers alone and together are these."""
    evidence = Evidence(kinds=kinds, at_once=[4])
    ask(evidence, "trial", evidence.questions.mixed(kinds, 4))
    known = ask(evidence, "alone", evidence.questions.mixed(kinds, 8), alone)
    again(evidence, "again", known[:3], alone)
    again(evidence, "together", known[:4], together)
    ask(evidence, "together", evidence.questions.mixed(kinds, count - 4), together)
    return evidence


def status_of(found: Check) -> str:
    return found.status.value


def test_a_sound_run_passes_every_check() -> None:
    evidence = compared()
    cancelled = ask(evidence, "cancelled", evidence.questions.mixed(["count"], 2))
    for each in cancelled:
        each.answer.reply.cancelled = True
    ask(evidence, "after", evidence.questions.mixed(["count"], 2))
    checks = concurrency.judge(evidence)
    assert {status_of(each) for each in checks} == {"PASS"}, checks
    assert [each.name for each in checks] == list(concurrency.CHECKS)


def test_an_answer_with_a_word_of_another_request_is_crosstalk() -> None:
    evidence = compared()
    other = next(iter(evidence.questions.owners))
    assert status_of(concurrency.check_crosstalk(evidence)) == "PASS"
    ask(evidence, "together", evidence.questions.mixed(["pick"], 1), lambda own: text(own + other))
    found = concurrency.check_crosstalk(evidence)
    assert status_of(found) == "FAIL" and found.evidence["crossed"] == 1
    assert other in found.detail and "0 alone, 1 together" in found.detail
    owner = next(each for each in evidence.asked if other in each.question.words)
    assert found.exchanges == [evidence.asked[-1].answer.exchange, owner.answer.exchange]


@pytest.mark.parametrize("place", ["reasoning_content", "content"])
def test_it_is_crosstalk_in_thoughts_and_in_whole_answers_too(place: str) -> None:
    evidence = compared()
    other = next(iter(evidence.questions.owners))
    message = {"role": "assistant", "content": "x", place: f"<think>they said {other}</think>x"}
    ask(evidence, "alone", evidence.questions.mixed(["pick"], 1), lambda own: whole(message))
    assert status_of(concurrency.check_crosstalk(evidence)) == "FAIL"


def test_crosstalk_is_a_failure_although_a_rate_limit_ended_the_run() -> None:
    evidence = compared()
    evidence.stopped = Stop(Cause.RATE_LIMIT, "the rate limit is reached")
    assert status_of(concurrency.check_crosstalk(evidence)) == "SKIP"
    words = list(evidence.questions.owners)
    ask(evidence, "together", evidence.questions.mixed(["pick"], 1), lambda own: text(words[0]))
    assert status_of(concurrency.check_crosstalk(evidence)) == "FAIL"


@pytest.mark.parametrize(
    ("together", "alone", "status"),
    [
        (lambda own: text("!!!!"), text, "FAIL"),
        (lambda own: text(""), text, "FAIL"),
        (lambda own: text("!!!!"), lambda own: text("no idea"), "SKIP"),  # wrong alone as well
        (text, lambda own: text("no idea"), "PASS"),
        (lambda own: text(f"<think>what? {own}</think>I do not know"), text, "FAIL"),
        (lambda own: text(f"<think>hm</think> It is {own.upper()}."), text, "PASS"),
    ],
)
def test_fewer_right_answers_together_are_a_failure(
    together: Says, alone: Says, status: str
) -> None:
    assert status_of(concurrency.check_correct(compared(together, alone))) == status


def test_a_few_wrong_answers_are_chance() -> None:
    evidence = compared(count=20)
    ask(evidence, "together", evidence.questions.mixed(["repeat"], 2), lambda own: text("no"))
    found = concurrency.check_correct(evidence)
    assert status_of(found) == "PASS" and found.evidence["together_right"] == 20


def test_where_so_few_can_show_nothing_it_is_not_decided() -> None:
    evidence = compared(count=4)
    ask(evidence, "together", evidence.questions.mixed(["repeat"], 1), lambda own: text("no"))
    assert status_of(concurrency.check_correct(evidence)) == "PASS"  # 4 of 5
    evidence.asked = [each for each in evidence.asked if each.step != "together"]
    ask(evidence, "together", evidence.questions.mixed(["repeat"], 2), lambda own: text("no"))
    found = concurrency.check_correct(evidence)  # 0 of 2, and 8 of 8 alone: 1 in 45
    assert status_of(found) == "SKIP" and found.essential
    evidence.asked = [each for each in evidence.asked if each.step != "together"]
    ask(evidence, "together", evidence.questions.mixed(["repeat"], 2))
    assert status_of(concurrency.check_correct(evidence)) == "PASS"  # none is wrong


def test_refused_requests_are_neither_right_nor_wrong() -> None:
    evidence = compared()
    ask(evidence, "together", evidence.questions.mixed(["repeat"], 5), refused)
    evidence.at_once.append(2)
    assert status_of(concurrency.check_correct(evidence)) == "PASS"
    found = concurrency.check_answered(evidence)
    assert status_of(found) == "PASS" and "5 more were refused (503 full)" in found.detail
    assert "2 at once were sent, not 4" in found.detail


def test_when_most_are_refused_nothing_is_decided() -> None:
    evidence = compared(refused)
    checks = concurrency.judge(evidence)
    assert exit_code_of(checks) is Exit.UNDECIDED
    assert not [each for each in checks if each.status is Status.FAIL]


@pytest.mark.parametrize("status", [503, 529])
def test_a_503_to_a_request_that_is_alone_is_a_failure(status: int) -> None:
    said = {"error": {"message": "the model has crashed"}}
    evidence = compared(alone=lambda own: answer(status, {}, said, request=REQUEST))
    assert status_of(concurrency.check_answered(evidence)) == "FAIL"


@pytest.mark.parametrize(
    ("status", "words"),
    [(503, "Server busy"), (529, "Overloaded"), (503, "the queue is full"), (503, "at capacity")],
)
def test_a_server_that_says_it_is_busy_refuses_also_what_is_alone(status: int, words: str) -> None:
    said = {"error": {"message": words}}
    alone = compared(alone=lambda own: answer(status, {}, said, request=REQUEST))
    checks = concurrency.judge(alone)
    assert exit_code_of(checks) is Exit.UNDECIDED
    assert not [each for each in checks if each.status is Status.FAIL]


def test_answers_that_waited_for_others_are_not_too_late() -> None:
    slow = compared(alone=partial(text, spent_ms=900))
    ask(slow, "together", slow.questions.mixed(["repeat"], 1), too_late)
    assert status_of(concurrency.check_answered(dataclasses.replace(slow, timeout_s=60))) == "FAIL"
    found = concurrency.check_answered(dataclasses.replace(slow, timeout_s=2))
    assert status_of(found) == "SKIP" and found.essential
    assert "give a larger --timeout" in found.detail


def test_answers_that_waited_for_others_are_not_wrong() -> None:
    evidence = compared(too_late, partial(text, spent_ms=900))
    found = concurrency.check_correct(dataclasses.replace(evidence, timeout_s=60))
    assert status_of(found) == "FAIL"
    slow = dataclasses.replace(evidence, timeout_s=2)
    found = concurrency.check_correct(slow)
    assert status_of(found) == "SKIP" and found.essential and "12 more" in found.detail
    assert not [each for each in concurrency.judge(slow) if each.status is Status.FAIL]
    # what came in time is judged all the same
    ask(slow, "together", slow.questions.mixed(["repeat"], 8), lambda own: text("!!!!"))
    found = concurrency.check_correct(slow)
    assert status_of(found) == "FAIL" and "0 of 8 right together" in found.detail


def test_another_text_is_a_warning_unless_it_changes_alone_as_well() -> None:
    found = concurrency.check_same_text(compared(lambda own: text(f"{own} indeed")))
    assert status_of(found) == "WARN" and found.evidence["differ"] == 4
    numbers = iter(range(1000))
    unsteady = compared(*[lambda own: text(f"{own} {next(numbers)}")] * 2)
    assert status_of(concurrency.check_same_text(unsteady)) == "SKIP"
    sampled = dataclasses.replace(compared(lambda own: text(f"{own} indeed")), is_greedy=False)
    assert status_of(concurrency.check_same_text(sampled)) == "SKIP"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (partial(text, "caf\ufffd au lait"), "WARN"),
        (partial(whole, {"content": "caf\ufffd au lait"}), "WARN"),
        (partial(whole, {"content": "half a character\ufffd"}, "length"), "PASS"),  # cut there
        (partial(whole, {"content": "caf\u00e9"}), "PASS"),
    ],
)
def test_lost_characters_are_a_warning(said: Callable[[], Answer], status: str) -> None:
    assert status_of(concurrency.check_characters(compared(lambda own: said()))) == status


def test_a_word_of_a_cancelled_request_is_a_leftover_and_no_crosstalk() -> None:
    evidence = compared()
    cancelled = ask(evidence, "cancelled", evidence.questions.mixed(["count"], 1))
    cancelled[0].answer.reply.cancelled = True
    left = cancelled[0].question.words[0]
    ask(evidence, "after", evidence.questions.mixed(["count"], 1), lambda own: text(left + own))
    assert status_of(concurrency.check_leftovers(evidence)) == "FAIL"
    assert status_of(concurrency.check_crosstalk(evidence)) == "PASS"


def test_what_ended_before_it_was_cancelled_leaves_nothing_and_its_words_are_crosstalk() -> None:
    evidence = compared()
    ended = ask(evidence, "cancelled", evidence.questions.mixed(["count"], 2))
    word = ended[0].question.words[0]
    ask(evidence, "after", evidence.questions.mixed(["count"], 1), lambda own: text(own + word))
    assert status_of(concurrency.check_leftovers(evidence)) == "SKIP"
    assert status_of(concurrency.check_crosstalk(evidence)) == "FAIL"


# --- the script


def test_a_model_that_can_answer_nothing_leaves_all_undecided() -> None:
    with running(**QUICK) as deployment:
        finished = check(deployment, *FEW)
    assert finished.code == 3
    assert only("PASS", finished) == {"answered", "characters", "form"}
    assert "the model can answer none of the questions" in finished.out


@pytest.mark.timeout(400)
def test_llama_cpp_answers_together_as_well_as_alone() -> None:
    with running(engine="llama", rate_limit=0, slots=2) as deployment:
        brief = ("--concurrency", 2, "--alone", 8, "--max-tokens", 24)
        finished = check(deployment, *brief, timeout_s=250)
    # a small model may be wrong alone by chance: then there is too little to compare
    assert finished.code in (0, 3), finished.out
    found = only("PASS", finished)
    assert found >= {"alone", "answered", "crosstalk", "leftovers", "form"}, finished.out
    assert not only("FAIL", finished), finished.out


def test_as_many_at_once_as_health_says() -> None:
    with running(**QUICK, skills="repeat", max_concurrent_requests=1) as deployment:
        finished = check(deployment, *FEW[2:], "--only", "correct", "leftovers")
    assert finished.code == 0 and "of two at once, one waits" in finished.err
    assert finished.document("concurrency")["metrics"]["at_once"] == [2, 2, 2]


def test_at_a_rate_limit_nothing_is_accused() -> None:
    with running(**{**QUICK, "rate_limit": 24}, skills="repeat") as deployment:
        finished = check(deployment, *FEW)
    assert finished.code == 3 and not only("FAIL", finished)
    assert "the rate limit is reached" in finished.out
