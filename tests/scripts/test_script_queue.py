"""test_queue.py as an operator runs it, and its judgements on what cannot be staged.

What breaks a deployment is in reference/faults/queue.py; test_faults.py walks those rows.
"""

from __future__ import annotations

import importlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from helpers.answers import answer as made
from helpers.answers import streamed
from helpers.raw_server import Peer, RawServer, answer, keep_answering
from helpers.scripts import Finished, SavedAs, run_script, start_script

from livecheck.core.checks import Check
from livecheck.gateway.burst import Burst, Limits
from livecheck.wire.answer import Answer
from livecheck.wire.chat import completion
from livecheck.wire.wire import Reply, Request, Target, Wire
from reference import Deployment, running

NAME = "queue_behavior"
statuses = SavedAs(NAME).statuses
QUICK = {"engine": "sim", "ttft_ms": 4, "itl_ms": 2, "rate_limit": 0}
GUIDE = {**QUICK, "max_concurrent_requests": 1, "max_queue_size": 2}
queue: ModuleType = importlib.import_module("test_queue")


def check_queue(deployment: Deployment, *arguments: object) -> Finished:
    target = (
        "--url",
        deployment.url,
        *(["--api-key", deployment.api_key] * bool(deployment.api_key)),
    )
    return run_script("test_queue.py", *target, *arguments)


@pytest.fixture(scope="module")
def guide() -> Iterator[Deployment]:
    """The guide's deployment: one at once, two in the queue."""
    with running(**GUIDE) as deployment:
        yield deployment


# --- sound deployments


def test_the_guides_example_against_the_real_model_passes_in_every_check() -> None:
    with running(engine="llama", max_concurrent_requests=1, max_queue_size=2) as deployment:
        finished = check_queue(deployment, "--max-tokens", 32, "--edge-idle", 100)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"})
    assert tuple(statuses(finished)) == queue.CHECKS
    figures = finished.document(NAME)["metrics"]
    assert (figures["served"], figures["refused"], figures["failed"]) == (3, 1, 0)
    assert finished.check(NAME, "retry_after")["evidence"]["values"] == {"5": 1}


@pytest.mark.parametrize(
    ("settings", "arguments", "refused"),
    [
        ({"max_concurrent_requests": 2, "max_queue_size": 1}, ("--extra", 2, "--skip", "retry"), 2),
        (
            {"max_concurrent_requests": 2, "max_queue_size": 3, "connection": "keep-alive"},
            ("--skip", "retry"),
            1,
        ),
        ({"max_concurrent_requests": 8, "max_queue_size": 0, "auth_enabled": False}, (), 0),
    ],
    ids=["two and one", "keep-alive", "unlimited, no auth"],
)
def test_other_shapes_pass_as_well(
    settings: dict[str, object], arguments: tuple[object, ...], refused: int
) -> None:
    with running(**QUICK, **settings) as deployment:
        finished = check_queue(deployment, *arguments)
    assert finished.code == 0
    assert set(statuses(finished).values()) <= {"PASS", "SKIP"}
    assert finished.document(NAME)["metrics"]["refused"] == refused
    assert finished.check(NAME, "left_queued")["status"] == "PASS"


def test_the_text_ends_with_a_bar_for_each_request_in_80_columns(guide: Deployment) -> None:
    finished = check_queue(guide, "--skip", "retry", *queue.DISCONNECTING)
    rows = re.findall(r"^ +\d [░█×].*$", finished.out, re.MULTILINE)
    assert len(rows) == 4
    assert max(map(len, finished.out.splitlines())) <= 80
    assert [bool(re.search("░{10}", row)) for row in rows] == [False, True, True, False]
    assert rows[3].split()[1:3] == ["×", "503"]


def test_every_request_is_saved_with_its_step_and_no_two_have_one_number(
    guide: Deployment,
) -> None:
    finished = check_queue(guide, "--skip", "retry")
    saved = finished.document(NAME)["requests"]
    steps = [each["step"] for each in saved]
    assert steps.count("burst") == 4 and steps.count("refill") == 3
    assert {"single", "left_streaming", "holders", "queued", "left_queued"} <= set(steps)
    assert [each["index"] for each in saved] == list(range(len(saved)))
    cancelled = {each["step"] for each in saved if each["cancelled"]}
    assert cancelled == {"left_streaming", "left_queued", "beside"}


# --- limits


def test_limits_other_than_the_expected_ones_are_a_failure(guide: Deployment) -> None:
    finished = check_queue(guide, "--max-queue", 3, "--only", "limits")
    assert (finished.code, statuses(finished)) == (1, {"limits": "FAIL"})


def test_without_health_and_options_there_is_nothing_to_check() -> None:
    def without_health(peer: Peer) -> None:
        while peer.request() is not None:
            is_health = b"/health" in peer.heads[-1]
            peer.send(answer(b"{}", status="404 Not Found" if is_health else "200 OK"))

    with RawServer(without_health) as server:
        finished = run_script("test_queue.py", "--url", server.url)
    assert finished.code == 3
    assert "--max-concurrent and --max-queue" in finished.err


@pytest.mark.parametrize("given", [(), ("--max-concurrent", 1)])
def test_a_gateway_that_says_nothing_about_a_queue_has_to_be_told_of(
    given: tuple[object, ...],
) -> None:
    with running(faults=["other-gateway"], **GUIDE) as deployment:
        finished = check_queue(deployment, *given)
    assert finished.code == 3
    assert "give --max-concurrent and --max-queue" in finished.err


def test_another_gateway_is_not_asked_for_the_guides_figures() -> None:
    limits = ("--max-concurrent", 1, "--max-queue", 2, "--only", "limits", "health", "metrics")
    with running(faults=["other-gateway"], **GUIDE) as deployment:
        finished = check_queue(deployment, *limits, "served")
    found = statuses(finished)
    assert found == {"limits": "SKIP", "served": "PASS", "health": "SKIP", "metrics": "SKIP"}


def test_without_a_queue_what_is_not_served_is_refused() -> None:
    limits = ("--max-concurrent", 1, "--max-queue", "none")
    with running(faults=["no-queue-of-one"], **GUIDE) as deployment:
        finished = check_queue(deployment, *limits, "--skip", "retry")
    assert (finished.code, statuses(finished)["left_queued"]) == (0, "SKIP")
    figures = finished.document(NAME)["metrics"]
    assert (figures["served"], figures["refused"], figures["max_queue"]) == (1, 1, None)


def test_probes_that_take_places_are_given_up_and_told() -> None:
    limits = ("--max-concurrent", 1, "--max-queue", 2, "--only", "refusals", "probes")
    with running(faults=["queued-probes"], **{**GUIDE, "itl_ms": 5}) as deployment:
        finished = check_queue(deployment, *limits)
    assert (finished.code, statuses(finished)) == (0, {"refusals": "PASS", "probes": "WARN"})
    assert "as completions are" in finished.check(NAME, "probes")["detail"]


def test_with_options_a_health_without_limits_fails_and_the_rest_is_checked() -> None:
    with running(faults=["health-no-queue"], **GUIDE) as deployment:
        arguments = ("--max-concurrent", 1, "--max-queue", 2, "--skip", "retry")
        finished = check_queue(deployment, *arguments)
    found = statuses(finished)
    assert finished.code == 1
    assert {name for name, status in found.items() if status == "FAIL"} == {"limits", "health"}
    assert found["left_queued"] == "PASS"  # /metrics tells, too


def test_more_than_can_be_sent_is_not_sent() -> None:
    health = answer(b'{"queue": {"max_concurrent": 1, "max_queue_size": 100000}}')
    with RawServer(lambda peer: keep_answering(peer, health)) as server:
        finished = run_script("test_queue.py", "--url", server.url)
    assert statuses(finished) == {"limits": "PASS"}
    assert (finished.code, finished.document(NAME)["requests"]) == (3, [])


# --- what cannot be decided is no pass


def test_answers_too_short_to_overlap_leave_it_undecided() -> None:
    with running(**{**GUIDE, "itl_ms": 0, "output_tokens": 5}) as deployment:
        finished = check_queue(deployment)
    assert finished.code == 3
    assert statuses(finished)["burst"] == "SKIP"
    assert finished.document(NAME)["metrics"]["attempts"] == 3


def test_answers_that_are_too_short_at_first_are_made_longer(guide: Deployment) -> None:
    arguments = ("--max-tokens", 30, "--skip", "retry", *queue.DISCONNECTING)
    finished = check_queue(guide, *arguments)
    assert finished.code == 0
    assert finished.document(NAME)["metrics"]["attempts"] > 1


def test_a_queue_that_takes_longer_than_the_timeout_is_said_before(guide: Deployment) -> None:
    finished = check_queue(guide, "--timeout", 5, "--extra", 30)
    assert finished.code == 3
    assert "--max-tokens" in finished.err


def test_the_keys_rate_limit_is_no_verdict() -> None:
    with running(**{**GUIDE, "rate_limit": 4}) as deployment:
        finished = check_queue(deployment)
    check = finished.check(NAME, "burst")
    assert (finished.code, check["status"], check["essential"]) == (3, "SKIP", True)
    assert "per minute, Retry-After 60" in check["detail"]


@pytest.fixture(scope="module")
def failing() -> Iterator[Deployment]:
    """Every chat completion is a 500."""
    with running(faults=["single-500"], **GUIDE) as deployment:
        yield deployment


@pytest.mark.parametrize("only", [("served",), ("limits", "served"), ("limits", "left_queued")])
def test_what_was_wanted_and_not_reached_is_undecided(
    only: tuple[str, ...], failing: Deployment
) -> None:
    finished = check_queue(failing, "--only", *only)
    assert finished.code == 3
    assert statuses(finished)[only[-1]] == "SKIP"


def test_whoever_is_there_already_is_waited_for_and_then_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], guide: Deployment
) -> None:
    monkeypatch.setattr(queue, "IDLE_WAIT_S", 0.5)
    target = Target(guide.url, guide.api_key)
    with Wire(target, 60) as other:
        request = completion("sim", "hello", 256)
        slow = threading.Thread(target=other.exchange, args=([request] * 6, 3))
        slow.start()
        time.sleep(0.2)
        code = queue.main(["--url", guide.url, "--api-key", guide.api_key])
        slow.join()
    assert code == 3
    assert "1 served and 2 waiting" in capsys.readouterr().err


def test_others_who_leave_in_time_do_not_disturb(guide: Deployment) -> None:
    with Wire(Target(guide.url, guide.api_key), 60) as other:
        slow = threading.Thread(
            target=other.exchange, args=([completion("sim", "hello", 256)] * 2, 2)
        )
        slow.start()
        finished = check_queue(guide, "--only", "idle", "single", "refusals")
        slow.join()
    assert (finished.code, statuses(finished)["idle"]) == (0, "PASS")


# --- interruption


@pytest.mark.parametrize("step", ["requests at once", "disconnects in the queue"])
def test_an_interruption_in_the_midst_keeps_what_was_measured(step: str, guide: Deployment) -> None:
    target = ("--url", guide.url, "--api-key", guide.api_key, "--skip", "retry")
    with start_script("test_queue.py", *target) as process:
        assert process.stderr
        for line in process.stderr:
            if step in line:
                break
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - begun < 5
    document = Finished(130, "", "", Path("results").absolute()).document(NAME)
    assert document["interrupted"] and document["requests"][0]["step"] == "single"
    assert document["checks"][2]["name"] == "single"


# --- judging


def served(first_s: float, last_s: float) -> Answer:
    """A streamed answer with its first token and its last event at these times after sending."""
    return streamed(1e3 * first_s, gap_ms=1e3 * (last_s - first_s) / 2)


def judged(*answers: Answer) -> str:
    """How many were generated at once, where one is allowed."""
    check: Check = queue.check_concurrency(Burst(Limits(1, 2), 1, list(answers)))
    return check.status.value


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), ("0", 0), ("5s", None), ("1.5", None), ("-5", None), ("", None), ("٥", None),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("9" * 5000, None)],
)  # fmt: skip
def test_retry_after_is_a_whole_number_of_seconds(value: str, seconds: int | None) -> None:
    found = Reply(0, Request("POST", "/"))
    found.message.headers.append(("Retry-After", value))
    assert queue.retry_after_s(Answer(found)) == seconds


@pytest.mark.parametrize(
    ("announced", "seconds", "said"),
    [
        ("5", 5, "as Retry-After says"),
        ("2", 2, "as Retry-After says"),
        ("30", 5, "and not 30 s as the refusal says"),
        (None, 5, "the refusal has no valid Retry-After"),
    ],
)
def test_the_wait_before_the_retry_is_explained_by_what_came(
    announced: str | None, seconds: int, said: str
) -> None:
    headers = {"retry-after": announced} if announced else {}
    burst = Burst(Limits(1, 2), 1, [made(503, headers)])
    wait_s, why = queue.time_to_retry(burst, 5)
    assert (wait_s, said in why) == (seconds, True)


def test_the_next_answers_first_token_may_overtake_the_last_ones_end() -> None:
    assert judged(served(0.1, 1.0), served(0.98, 2.0)) == "PASS"
    assert judged(served(0.1, 1.0), served(0.8, 2.0)) == "FAIL"


def test_answers_in_one_piece_do_not_show_how_many_are_generated_at_once() -> None:
    assert judged(served(1.0, 1.0), served(1.0, 1.0)) == "SKIP"
