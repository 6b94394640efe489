"""server_metrics.py: what is read beside a level, whom it is asked of, and what it costs."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import Any

import pytest
from helpers.hostile import Answer, Call, Server, response

from livecheck.load import server_metrics
from livecheck.load.server_metrics import Source, Watched, server_figures, watching
from livecheck.wire.wire import Target

SECOND_NS = 1_000_000_000
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"


def lines(running: float, drafted: float = 0, accepted: float = 0, ttft: str = "") -> bytes:
    return (
        f"vllm:num_requests_running {running}\nvllm:kv_cache_usage_perc {running / 10}\n"
        f"vllm:spec_decode_num_draft_tokens_total {drafted}\n"
        f"vllm:spec_decode_num_accepted_tokens_total {accepted}\n{ttft}"
    ).encode()


def buckets(*counts: int, total_s: float) -> str:
    name = "vllm:time_to_first_token_seconds"
    bounds = ("0.02", "0.04", "+Inf")
    found = [f'{name}_bucket{{le="{b}"}} {c}' for b, c in zip(bounds, counts, strict=True)]
    return "\n".join([*found, f"{name}_sum {total_s}", ""])


def source(url: str = "http://localhost:1") -> Source:
    return Source(f"{url}/metrics", Target(url), "vLLM")


def watched(*readings: tuple[float, bytes]) -> Watched:
    found = [(round(at_s * SECOND_NS), each) for at_s, each in readings]
    return Watched(source(), found, has_begin=True, has_end=True)


# --- figures


def test_the_figures_of_a_level_are_those_between_its_first_request_and_its_last_answer() -> None:
    found = server_figures(
        watched(
            (9.9, lines(0, 100, 50, buckets(5, 9, 9, total_s=1.0))),
            (10.5, lines(2, 150, 75)),
            (11.5, lines(4, 180, 90)),
            (12.2, lines(0, 200, 90, buckets(5, 19, 19, total_s=1.3))),
        ),
        10 * SECOND_NS,
    )
    assert found["samples"]["at_s"] == [0.5, 1.5]
    assert found["samples"]["running_requests"] == [2, 4]
    assert found["samples"]["waiting_requests"] == []
    assert (found["running_requests"]["mean"], found["running_requests"]["n"]) == (3, 2)
    assert found["cache_usage"]["max"] == 0.4
    assert found["waiting_requests"]["n"] == 0 and found["preemptions"] is None
    assert (found["draft_tokens"], found["draft_accepted_tokens"]) == (100, 40)
    assert found["acceptance_rate"] == 0.4
    ttft = {"n": 10, "mean": 30.0, "p50": 30.0, "p50_low": 20.0, "p50_high": 40.0}
    assert found["ttft_ms"] == ttft


def test_without_a_reading_after_the_end_the_last_one_is_of_the_level() -> None:
    found = watched((9.9, lines(0)), (10.5, lines(2)), (11.5, lines(4)))
    found.has_end = False
    assert server_figures(found, 10 * SECOND_NS)["samples"]["running_requests"] == [2, 4]


@pytest.mark.parametrize(
    ("missing", "words"),
    [("has_begin", "not read before the first request"), ("has_end", "after the last answer")],
)
def test_a_part_of_a_level_tells_no_difference(missing: str, words: str) -> None:
    """Its first or last reading failed: the others are of its middle."""
    first, last = (lines(0, n, n, buckets(n, n, n, total_s=1.0 * n)) for n in (100, 200))
    found = watched((10.5, first), (11.5, lines(2, 150, 150)), (12.5, last))
    setattr(found, missing, False)
    figures = server_figures(found, 10 * SECOND_NS)
    assert figures["draft_tokens"] is figures["acceptance_rate"] is figures["ttft_ms"] is None
    assert words in figures["problem"] and figures["running_requests"]["n"] >= 2


def test_a_restart_leaves_no_difference() -> None:
    first = lines(0, 100, 50, buckets(5, 9, 9, total_s=1.0))
    last = lines(0, 20, 10, buckets(1, 1, 1, total_s=0.1))
    found = server_figures(watched((9.9, first), (12.2, last)), 10 * SECOND_NS)
    assert found["draft_tokens"] is found["acceptance_rate"] is found["ttft_ms"] is None
    assert "the server was restarted, or several servers" in found["problem"]


def test_a_restart_between_two_readings_leaves_no_difference_although_the_counters_grew() -> None:
    """Also where the readings come from several servers in turn, behind one URL."""
    counts = (100, 5, 200)
    readings = [(9.9 + n, lines(1, count, count / 2)) for n, count in enumerate(counts)]
    found = server_figures(watched(*readings), 10 * SECOND_NS)
    assert found["draft_tokens"] is found["acceptance_rate"] is None
    assert found["problem"] == server_metrics.FALLEN and found["running_requests"]["max"] == 1


def test_nothing_that_was_read_is_nothing_and_not_0() -> None:
    found = server_figures(watched(), 0)
    assert found["running_requests"]["n"] == found["readings"] == 0
    assert found["draft_tokens"] is found["ttft_ms"] is None


# --- options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", "auto"),
        ("http://h:1", "http://h:1/metrics"),
        ("http://h:1/", "http://h:1/metrics"),
        ("https://h/deep/metrics", "https://h/deep/metrics"),
    ],
)
def test_what_the_option_takes(given: str, expected: str) -> None:
    assert server_metrics.option(given) == expected


@pytest.mark.parametrize("given", ["", "yes", "h:1/metrics", "http://u:p@h/", "http://h/?a=b"])
def test_what_the_option_refuses(given: str) -> None:
    with pytest.raises(ValueError):
        server_metrics.option(given)


# --- beside a level


def during(answer: Answer, seconds: float) -> tuple[Watched, float, int]:
    """(what was read, how long the level and its end took, how many readings were asked for)."""
    found: list[Watched] = []
    with Server(answers={"/metrics": answer}) as server:
        began_s = time.monotonic()
        with watching(source(server.url), 5.0, found.append):
            time.sleep(seconds)
        spent_s, count = time.monotonic() - began_s, server.count("/metrics")
    return found[0], spent_s, count


def test_it_is_read_before_each_second_and_after() -> None:
    found, _, count = during(PLAIN + lines(1), 2.0)
    assert count == len(found.readings) == 4  # before, after 0.5 and 1.5 s, and at the end
    assert (found.failed, found.problem) == (0, None)
    assert found.readings[0][1] == lines(1).strip()


@pytest.mark.parametrize(
    "answer",
    [response(500, {"error": "no"}), PLAIN + b"nothing", PLAIN + lines(1) + b"#" * 300_000],
    ids=["500", "other", "large"],
)
def test_what_cannot_be_read_is_given_up_after_three_readings(answer: bytes) -> None:
    found, _, count = during(answer, 2.8)
    assert count == found.failed == 3 and not found.readings
    assert found.problem is not None and "3 times in a row" in found.problem


def test_a_silent_server_costs_one_reading_and_no_more() -> None:
    def say_nothing(call: Call) -> None:
        call.wait()

    found, spent_s, count = during(say_nothing, 0.8)
    assert spent_s < 0.8 + server_metrics.READ_S + 1.0
    assert count == found.failed == 1 and not found.readings
    assert found.problem == "not read to the end: no answer in 2 s"


def test_a_server_that_falls_silent_is_not_asked_again_at_the_end() -> None:
    def once(call: Call) -> None:
        if server.count("/metrics") > 1:
            call.wait()
        else:
            call.send(PLAIN + lines(1))

    kept: list[Watched] = []
    with Server(answers={"/metrics": once}) as server:
        began_s = time.monotonic()
        with watching(source(server.url), 5.0, kept.append):
            time.sleep(0.8)  # the second reading begins after 0.5 s
        spent_s, count = time.monotonic() - began_s, server.count("/metrics")
    assert count == 2 and spent_s < 0.8 + server_metrics.READ_S + 1.0
    assert kept[0].has_begin and not kept[0].has_end
    assert kept[0].problem == "not read to the end: no answer in 2 s"


def test_a_first_reading_that_fails_is_missing() -> None:
    def answer(call: Call) -> None:
        call.send(response(500) if len(server.calls) == 1 else PLAIN + lines(1, 50))

    found: list[Watched] = []
    with Server(answers={"/metrics": answer}) as server:
        with watching(source(server.url), 5.0, found.append):
            time.sleep(0.8)
    assert (found[0].has_begin, found[0].has_end, found[0].failed) == (False, True, 1)
    assert len(found[0].readings) == 2 and not found[0].problem


@pytest.mark.parametrize("good", [0, 1, 2])
def test_any_error_of_a_reading_ends_the_reading_alone(
    good: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    needed, count = server_metrics.engine_metrics.needed, itertools.count()

    def break_later(body: bytes) -> bytes:
        if next(count) >= good:
            raise ZeroDivisionError("broken")
        return needed(body)

    monkeypatch.setattr(server_metrics.engine_metrics, "needed", break_later)
    found, _, asked = during(PLAIN + lines(1), 1.7)
    assert (len(found.readings), asked) == (good, good + 1)
    assert found.problem == "not read to the end: broken" and not found.has_end
    assert "Traceback" not in capfd.readouterr().err


def test_a_thread_that_cannot_be_started_is_no_error_of_the_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Server(answers={"/metrics": PLAIN + lines(1)}) as server:
        found: list[Watched] = []
        with monkeypatch.context() as patched:
            patched.setattr(server_metrics.Watch, "start", refuse)
            with watching(source(server.url), 5.0, found.append):
                pass
    assert found[0].problem == "not read to the end: can't start new thread"


def test_after_an_interruption_nobody_waits() -> None:
    def say_nothing(call: Call) -> None:
        call.wait(0.3 if count() < 2 else None)

    found: list[Watched] = []
    with Server(answers={"/metrics": say_nothing}) as server:

        def count() -> int:
            return server.count("/metrics")

        began_s = 0.0
        with pytest.raises(KeyboardInterrupt):
            with watching(source(server.url), 5.0, found.append):
                time.sleep(0.7)
                began_s = time.monotonic()
                raise KeyboardInterrupt
        assert time.monotonic() - began_s < 0.6
    assert len(found) == 1


def test_without_a_source_nothing_is_read() -> None:
    found: list[Watched] = []
    with watching(None, 5.0, found.append):
        pass
    assert found == []


def test_the_figures_can_be_saved() -> None:
    json.dumps(server_figures(watched((1.0, lines(1)), (2.0, lines(2))), SECOND_NS))


def test_a_level_of_many_hours_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_metrics, "MOST_KEPT", 4)
    with Server(answers={"/metrics": PLAIN + lines(1)}) as server:
        watch = server_metrics.Watch(source(server.url), 5.0)
        read: Any = watch._read
        for _ in range(20):
            read()
        read(is_last=True)
        times = [at_ns for at_ns, _ in watch.watched.readings]
    assert len(times) <= 6 and times == sorted(times)


def test_the_use_of_a_cache_is_shown_as_percentages_of_so_many_readings() -> None:
    read = watched((9.9, lines(0)), (10.5, lines(2)), (11.5, lines(4)), (12.2, lines(0)))
    figures = {"server_metrics": server_figures(read, 10 * SECOND_NS)}
    nothing = {"mean": None, "p50": None, "n": 0}
    shown = server_metrics.server_lines(figures, {"ttft_ms": nothing})
    row = next(line for line in shown if "cache in use [%]" in line)
    assert row.replace("cache in use [%]", "").split()[:2] == ["2", "30.00"]


def test_readings_that_nothing_can_be_taken_from_are_failed_ones() -> None:
    read = watched((9.9, lines(0)), (10.5, b"vllm:num_requests_running x"), (12.2, lines(0)))
    read.failed = 2
    found = server_figures(read, 10 * SECOND_NS)
    assert (found["readings"], found["failed_readings"]) == (3, 3)
