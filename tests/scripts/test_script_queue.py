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
from typing import Any

import pytest
from helpers.raw_server import Peer, RawServer, answer
from helpers.scripts import Finished, run_script, start_script

from livecheck.gateway import queue_state
from livecheck.wire.old_chat import completion
from livecheck.wire.wire import Reply, Request, Target, Wire
from reference import Deployment, running

NAME = "queue_behavior"
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


def statuses(finished: Finished) -> dict[str, str]:
    return {each["name"]: each["status"] for each in finished.document(NAME)["checks"]}


@pytest.fixture(scope="module")
def guide() -> Iterator[Deployment]:
    """The guide's deployment: one at once, two in the queue."""
    with running(**GUIDE) as deployment:
        yield deployment


# --- sound deployments


def test_the_guides_example_against_the_real_model_passes_in_every_check() -> None:
    with running(engine="llama", max_concurrent_requests=1, max_queue_size=2) as deployment:
        finished = check_queue(deployment, "--max-tokens", 64)
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
    finished = check_queue(guide, "--skip", "retry", *queue.LEAVING)
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
    assert {each["step"] for each in saved if each["cancelled"]} == {
        "left_streaming",
        "left_queued",
    }


# --- limits


def test_limits_other_than_the_expected_ones_are_a_failure(guide: Deployment) -> None:
    finished = check_queue(guide, "--max-queue", 3, "--only", "limits")
    assert (finished.code, statuses(finished)) == (1, {"limits": "FAIL"})


def test_without_health_and_options_there_is_nothing_to_check() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(b"{}", status="404 Not Found"))

    with RawServer(script) as server:
        finished = run_script("test_queue.py", "--url", server.url)
    assert finished.code == 3
    assert "--max-concurrent and --max-queue" in finished.err


def test_with_options_a_health_without_limits_fails_and_the_rest_is_checked() -> None:
    with running(faults=["health-no-queue"], **GUIDE) as deployment:
        arguments = ("--max-concurrent", 1, "--max-queue", 2, "--skip", "retry")
        finished = check_queue(deployment, *arguments)
    found = statuses(finished)
    assert finished.code == 1
    assert {name for name, status in found.items() if status == "FAIL"} == {"limits", "health"}
    assert found["left_queued"] == "PASS"  # /metrics tells, too


def test_more_than_can_be_sent_is_not_sent() -> None:
    with running(**{**QUICK, "max_queue_size": 100_000}) as deployment:
        finished = check_queue(deployment)
    assert (finished.code, finished.document(NAME)["requests"]) == (3, [])


# --- what cannot be decided is no pass


def test_answers_too_short_to_overlap_leave_it_undecided() -> None:
    with running(**{**GUIDE, "itl_ms": 0, "output_tokens": 5}) as deployment:
        finished = check_queue(deployment)
    assert finished.code == 3
    assert statuses(finished)["burst"] == "SKIP"
    assert finished.document(NAME)["metrics"]["attempts"] == 3


def test_answers_that_are_too_short_at_first_are_made_longer() -> None:
    with running(**{**GUIDE, "itl_ms": 5}) as deployment:
        arguments = ("--max-tokens", 20, "--skip", "retry", *queue.LEAVING)
        finished = check_queue(deployment, *arguments)
    assert finished.code == 0
    assert finished.document(NAME)["metrics"]["attempts"] > 1


def test_a_queue_that_takes_longer_than_the_timeout_is_said_before(guide: Deployment) -> None:
    finished = check_queue(guide, "--timeout", 1)
    assert finished.code == 3
    assert "--max-tokens" in finished.err


def test_the_keys_rate_limit_is_no_verdict() -> None:
    with running(**{**GUIDE, "rate_limit": 4}) as deployment:
        finished = check_queue(deployment)
    check = finished.check(NAME, "burst")
    assert (finished.code, check["status"], check["essential"]) == (3, "SKIP", True)
    assert "rate_limit_exceeded, Retry-After 60" in check["detail"]


@pytest.mark.parametrize("only", [("served",), ("limits", "served"), ("limits", "left_queued")])
def test_what_was_wanted_and_not_reached_is_undecided(only: tuple[str, ...]) -> None:
    with running(faults=["single-500"], **GUIDE) as deployment:
        finished = check_queue(deployment, "--only", *only)
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


@pytest.mark.parametrize("step", ["requests at once", "hangs up in the queue"])
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


def reply(headers: dict[str, str] | None = None, status: int = 503) -> Reply:
    found = Reply(0, Request("POST", "/"))
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    found.message.feed(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{head}\r\n".encode())
    return found


def an_answer(start_s: float | None, last_s: float, sent_s: float = 0.0, **more: Any) -> Any:
    given = {"index": 0, "reply": reply(status=200), "error": None, "end_s": last_s, **more}
    return queue.Answer(sent_s=sent_s, start_s=start_s, last_s=last_s, **given)


def a_burst(served: list[Any], limits: Any, refused: tuple[Any, ...] = ()) -> Any:
    given = {"looks": [], "before": None, "after": None, "idle": [], "limited": None}
    return queue.Burst(limits, 1, served, list(refused), [], round_trip_s=0.0, **given)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), ("0", 0), ("5s", None), ("1.5", None), ("-5", None), ("", None), ("٥", None),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("9" * 5000, None)],
)  # fmt: skip
def test_retry_after_is_a_whole_number_of_seconds(value: str, seconds: int | None) -> None:
    found = Reply(0, Request("POST", "/"))
    found.message.headers.append(("Retry-After", value))
    assert queue.retry_after(found) == seconds


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(0, 1)], 1),
        ([(0, 1), (1, 2)], 1),
        ([(0, 2), (1, 3), (2.5, 4)], 2),
        ([(0, 2), (3, 1)], 1),
    ],
)
def test_spans_that_overlap_are_counted(spans: list[tuple[float, float]], most: int) -> None:
    assert queue.most_at_once(spans) == most


def test_the_next_answers_first_token_may_overtake_the_last_ones_end() -> None:
    served = [an_answer(0.1, 1.0), an_answer(0.98, 2.0)]
    assert queue.check_concurrency(a_burst(served, queue.Limits(1, 2))).status == "PASS"
    served = [an_answer(0.1, 1.0), an_answer(0.8, 2.0)]
    assert queue.check_concurrency(a_burst(served, queue.Limits(1, 2))).status == "FAIL"


def test_answers_in_one_piece_do_not_show_how_many_are_generated_at_once() -> None:
    served = [an_answer(1.0, 1.0), an_answer(1.0, 1.0)]
    assert queue.check_concurrency(a_burst(served, queue.Limits(1, 2))).status == "SKIP"


def test_a_queued_request_waits_until_as_many_have_ended_as_are_in_front() -> None:
    served = [an_answer(0, 3.0), an_answer(0, 1.0), an_answer(0, 2.0)]
    assert a_burst(served, queue.Limits(1, 2)).waits_s == [1.0, 2.0]
    assert a_burst(served, queue.Limits(3, 0)).waits_s == []


def test_another_status_counts_as_refused_only_for_want_of_a_503() -> None:
    late, early = (
        an_answer(None, end, error=("5xx", "x"), reply=reply(status=500)) for end in (2.0, 1.0)
    )
    busy = an_answer(None, 1.5, error=("503", "x"), reply=reply(status=503))
    assert queue.sort_out([late, early], 1) == ([], [early], [late])
    assert queue.sort_out([late, early, busy], 1) == ([], [busy], [late, early])


# --- gauges


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b'{"queue": 5}', b'{"queue": {"active": "x"}}', b"[" * 10**5],
)
def test_what_is_not_there_is_no_figure(body: bytes) -> None:
    assert queue_state.read_health(body) == {}
    assert queue_state.read_json(body) == {}
    assert queue_state.read_text(body) == {}


def test_prometheus_text_is_read_with_labels_comments_and_time_stamps() -> None:
    text = (
        b"# HELP gateway_queue_depth requests waiting\n# TYPE gateway_queue_depth gauge\n"
        b'gateway_queue_depth{pod="a b"} 2.0 1700000000\n'
        b"gateway_queue_rejections 1\nother_queue_wait_seconds_total 9\n"
        b"gateway_queue_wait_seconds_total 1.5e0\ngateway_queue_depth_max NaN\n"
    )
    wanted = {"queue_depth": 2, "queue_rejections": 1, "queue_wait_seconds_total": 1.5}
    assert queue_state.read_text(text) == wanted


def test_the_probes_need_no_key_where_the_deployment_asks_for_none() -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            heads.append(peer.heads[-1])
            peer.send(answer(b"{}"))

    with RawServer(script) as server, queue_state.Watch(Target(server.url), 5) as watch:
        assert watch.first(lambda look: True, 0, 5)
    assert heads and not any(b"authorization" in head.lower() for head in heads)


def test_a_hanging_probe_does_not_hold_up_the_end() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.wait_gone(20)

    begun = time.monotonic()
    with RawServer(script) as server, queue_state.Watch(Target(server.url), 60):
        time.sleep(0.1)
    assert time.monotonic() - begun < 3
