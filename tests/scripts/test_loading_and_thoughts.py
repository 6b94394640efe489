"""What all commands make of loading messages, and of answers that are nothing but thoughts."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import hostile
from helpers.bench import detail, level, quick, status
from helpers.hostile import DONE, HEAD, Call, Server, delta, event, good_stream, response, usage
from helpers.scripts import SavedAs, run_script
from helpers.sdk import DOCUMENT, run_sdk

from reference import running

WAIT_S = 0.6
SDK_SAVED = SavedAs(DOCUMENT)
THOUGHTS = "all 8 tokens went into thoughts"
HIDDEN = delta() + delta(reason="length")


def counted(tokens: int, reasoning: int | None = None) -> bytes:
    details = {} if reasoning is None else {"reasoning_tokens": reasoning}
    counts: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": tokens}
    counts |= {"total_tokens": 5 + tokens, "completion_tokens_details": details}
    return event({**hostile.ENVELOPE, "choices": [], "usage": counts})


def queued(call: Call) -> None:
    """A place in a queue, as content of a chunk like any other; then the answer."""
    call.send(HEAD + delta("Position in queue: 2\n"))
    call.wait(WAIT_S)
    call.send(delta(), *(delta(f" word{n}") for n in range(4)), gap_s=0.03)
    call.send(delta(reason="stop") + usage(4) + DONE)


# --- progress


def test_the_first_token_of_the_benchmark_is_not_a_loading_message() -> None:
    with Server(chat=queued) as server:
        finished = quick(server)
    assert (finished.code, status(finished, "stream")) == (0, "WARN"), finished.out
    told = "1 event before the first token only told of progress: 'Position in queue: 2'"
    assert told in detail(finished, "stream")
    document = level(finished)
    assert document["metrics"]["ttft_ms"]["min"] >= WAIT_S * 1e3
    assert document["metrics"]["itl_ms"]["max"] < WAIT_S * 1e3
    for record in document["requests"]:
        assert (record["progress_events"], record["output_events"]) == (1, 4)


def test_a_pause_after_thoughts_is_no_progress() -> None:
    thought = event(
        {
            **hostile.ENVELOPE,
            "choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}],
        }
    )

    def thinking(call: Call) -> None:
        call.send(HEAD + thought)
        call.wait(WAIT_S)
        call.send(good_stream(4, usage(5)))

    with Server(chat=thinking) as server:
        finished = quick(server)
    assert level(finished)["metrics"]["ttft_ms"]["max"] < WAIT_S * 1e3
    assert {each["progress_events"] for each in level(finished)["requests"]} == {0}


@pytest.mark.parametrize("variant", ["loading-messages", "blank-messages"])
def test_a_cold_start_is_seen_behind_its_loading_messages(variant: str) -> None:
    sleepy: dict[str, Any] = {"idle_timeout": 1.2, "load_ms": 800, "ttft_ms": 20, "itl_ms": 2}
    options = ("--idle-timeout", 2.5, "--probe-interval", 0.2, "--max-tokens", 4)
    saved = SavedAs("scale_to_zero")
    with running(engine="sim", **sleepy, rate_limit=0, faults=[variant]) as deployment:
        target = ("--url", deployment.url, "--health-url", deployment.health_url)
        environment = deployment.environment
        finished = run_script("test_scale_to_zero.py", *target, *options, env=environment)
    assert (finished.code, saved.statuses(finished)["scale_down"]) == (0, "PASS"), finished.out
    assert finished.document("scale_to_zero")["metrics"]["cold_start_s"] >= 0.8
    assert "only told of progress" in saved.detail(finished, "cold_start")


def test_the_first_output_of_a_woken_runner_is_not_a_loading_message() -> None:
    saved, boot_s = SavedAs("wol"), 1.4
    fleet: dict[str, Any] = {"profile": "fleet", "engine": "sim", "ttft_ms": 4, "itl_ms": 1}
    fleet |= {"asleep": True, "boot_ms": boot_s * 1e3}
    with running(**fleet, faults=["loading-messages"]) as deployment:
        finished = run_script("test_wol.py", "--timing", env=deployment.environment)
    assert (finished.code, saved.statuses(finished)["wake"]) == (0, "PASS"), finished.out
    assert finished.document("wol")["metrics"]["first_output_s"] >= boot_s
    assert "llama-swap loading model" in saved.detail(finished, "request")


def test_the_sdk_warns_of_progress() -> None:
    with Server(chat=queued) as server:
        finished = run_sdk(server.url, "--only", "stream", "wire", "pacing")
    assert SDK_SAVED.statuses(finished) == {"stream": "WARN", "wire": "WARN", "pacing": "PASS"}
    for name in ("stream", "wire"):
        assert "only told of progress: 'Position in queue: 2'" in SDK_SAVED.detail(finished, name)


# --- thoughts


@pytest.mark.parametrize(
    ("count", "words"),
    [(counted(8, 8), ": raise --max-tokens"), (usage(8), ", or were lost: raise --max-tokens")],
)
def test_a_benchmark_without_a_first_token_is_undecided(count: bytes, words: str) -> None:
    with Server(chat=HEAD + HIDDEN + count + DONE) as server:
        finished = quick(server, "--slo", "ttft_p50=1s", "--slo", "ttft=1s")
    assert finished.code == 3, finished.out
    for name in ("requests", "slo:ttft_p50", "slo:ttft"):
        assert status(finished, name) == "SKIP"
        assert f"{THOUGHTS} (reasoning that is not shown){words}" in detail(finished, name)
    figures = level(finished)["metrics"]
    assert (figures["ttft_ms"]["n"], figures["error_rate"]) == (0, 0)
    assert figures["e2e_ms"]["n"] == figures["succeeded"] > 0


def test_no_capacity_is_found_without_a_first_token() -> None:
    with Server(chat=HEAD + HIDDEN + counted(8, 8) + DONE) as server:
        finished = quick(server, "--find-capacity", "--slo", "ttft_p50=1s")
    assert (finished.code, status(finished, "capacity", "capacity")) == (3, "SKIP"), finished.out
    assert THOUGHTS in detail(finished, "capacity", "capacity")


def test_a_benchmark_with_some_answers_of_thoughts_gives_the_figures_of_the_others() -> None:
    silent = HEAD + HIDDEN + counted(8, 8) + DONE
    chat = hostile.in_turn(*[HEAD + good_stream(4), silent] * 50)
    with Server(chat=chat) as server:
        finished = quick(server, "--slo", "ttft=5s")
    assert (finished.code, status(finished, "requests")) == (0, "WARN"), finished.out
    assert status(finished, "slo:ttft") == "PASS"
    assert THOUGHTS in detail(finished, "requests")
    assert level(finished)["metrics"]["ttft_ms"]["n"] > 0


def test_lost_text_is_not_taken_for_thoughts() -> None:
    """llama.cpp shows its thoughts, and says how many tokens it has written."""
    with Server(chat=HEAD + HIDDEN + usage(8) + hostile.timings(8) + DONE) as server:
        finished = quick(server)
    assert (finished.code, status(finished, "requests")) == (1, "FAIL")
    assert "carried output" in detail(finished, "requests")


def test_thoughts_that_are_shown_are_measured() -> None:
    def thought(text: str) -> bytes:
        choice = {"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}
        return event({**hostile.ENVELOPE, "choices": [choice]})

    stream = delta() + thought("Let") + thought(" me") + delta(reason="length") + usage(2) + DONE
    with Server(chat=HEAD + stream) as server:
        finished = quick(server)
    assert (finished.code, status(finished, "requests")) == (0, "PASS")
    assert "all 2 tokens went into thoughts: raise --max-tokens" in detail(finished, "requests")
    assert level(finished)["metrics"]["ttft_ms"]["n"] > 0


def test_the_first_token_of_the_answer_is_timed_beside_the_first_thought() -> None:
    """The engine sends a token every 10 ms, and the first four are thoughts."""
    bounds = ("--slo", "ttfa_p50=30s", "--slo", "ttfa_p95=1ms", "--slo", "ttfa=30s")
    with running(
        engine="sim", ttft_ms=30, itl_ms=10, rate_limit=0, faults=["shown-reasoning"]
    ) as deployment:
        finished = quick(deployment, "--max-tokens", 12, *bounds)
    document = level(finished)
    figures, records = document["metrics"], document["requests"]
    for record in records:
        assert record["ttfa_ms"] == record["event_ms"][4] > record["ttft_ms"]
        assert (record["thinking_tokens"], record["answer_tokens"]) == (4, 8)
        assert record["thinking_source"] == "usage"
    assert 70 <= figures["ttfa_ms"]["p50"] < 700
    assert (figures["with_thoughts"], figures["without_answer"]) == (2, 0)
    assert figures["thinking_tokens"]["mean"], figures["answer_tokens"]["mean"] == (4, 8)
    assert [status(finished, f"slo:{name}") for name in ("ttfa_p50", "ttfa")] == ["PASS"] * 2
    assert status(finished, "slo:ttfa_p95") in ("FAIL", "SKIP")  # SKIP: on a very busy machine
    assert "TTFA [ms]" in finished.out and "in 2 of 2 answers" in finished.out
    report = run_script("report.py", str(finished.results), "--output", "markdown")
    assert "- TTFA p50: " in report.out


def test_without_thoughts_nothing_is_said_of_them() -> None:
    with running(engine="sim", ttft_ms=4, itl_ms=4, rate_limit=0) as deployment:
        finished = quick(deployment)
    figures = level(finished)["metrics"]
    assert figures["ttfa_ms"] == figures["ttft_ms"]
    assert figures["thinking_tokens"]["n"] == figures["with_thoughts"] == 0
    assert "TTFA" not in finished.out and "thinking" not in finished.out


def test_a_bound_on_answers_that_never_begin_is_undecided() -> None:
    bounds = ("--slo", "ttfa_p50=30s", "--slo", "ttfa=30s")
    with running(
        engine="sim", ttft_ms=4, itl_ms=4, rate_limit=0, faults=["thoughts-only"]
    ) as deployment:
        finished = quick(deployment, *bounds)
    assert finished.code == 3
    for name in ("slo:ttfa_p50", "slo:ttfa"):
        assert status(finished, name) == "SKIP"
        assert "raise --max-tokens" in detail(finished, name)


def test_a_bound_that_the_thoughts_alone_break_is_missed() -> None:
    """Each answer thinks for 28 ms and never begins: TTFA is longer than 10 ms."""
    bounds = ("--slo", "ttfa_p50=10ms", "--slo", "ttfa=10ms", "--slo", "ttfa_p95=30s")
    with running(
        engine="sim", ttft_ms=14, itl_ms=2, rate_limit=0, faults=["thoughts-only"]
    ) as deployment:
        finished = quick(deployment, "--requests", 6, *bounds)
    assert finished.code == 1
    assert [status(finished, f"slo:{name}") for name in ("ttfa_p50", "ttfa")] == ["FAIL"] * 2
    assert detail(finished, "slo:ttfa_p50").startswith("at least ")
    assert "in 6 of 6 answers all tokens went" in detail(finished, "slo:ttfa_p50")
    assert detail(finished, "slo:ttfa").startswith("0.0% of the requests")
    assert status(finished, "slo:ttfa_p95") == "SKIP"
    figures = level(finished)["metrics"]
    assert figures["ttfa_at_least_ms"]["min"] >= 28 and figures["ttfa_at_least_ms"]["n"] == 6
    assert figures["ttfa_at_most_ms"]["p50"] is None
    limits = finished.results.parent / "limits.toml"
    limits.write_text('[inference_c1]\nttfa_p50 = "10ms"\n')
    report = run_script("report.py", str(finished.results), "--thresholds", str(limits))
    assert "it is longer than that: in 6 of 6 answers" in " ".join(report.out.split())
    assert "contradictory" not in report.out


def whole(call: Call, message: dict[str, Any], reasoning: int | None) -> bytes:
    tokens = call.fields["max_tokens"]
    counts: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": tokens}
    counts["total_tokens"] = 5 + tokens
    if reasoning is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": tokens}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    envelope = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return response(200, {**envelope, "choices": [choice], "usage": counts})


CONTENT = ("stop", "n", "json_object", "json_schema", "logprobs", "seed", "tools")


def test_the_sdk_skips_what_thoughts_leave_no_room_for() -> None:
    def hides(call: Call) -> None:
        """As OpenAI's own: thoughts are counted in whole answers, and streams count nothing."""
        if call.fields.get("stream"):
            call.send(HEAD + HIDDEN + DONE)
        else:
            call.send(whole(call, {"role": "assistant", "content": ""}, reasoning=0))

    names = ("completion", "stream", "wire", "pacing", "unicode", "async", *CONTENT)
    with Server(chat=hides) as server:
        finished = run_sdk(server.url, "--only", *names)
    found = SDK_SAVED.statuses(finished)
    assert finished.code == 0, finished.out
    contract = {"completion", "stream", "async"}
    assert {name for name in names if found[name] == "WARN"} == {*contract, "n", "tools"}
    assert found["wire"] == "PASS"
    for name in ("pacing", "unicode", *set(CONTENT) - {"n", "tools"}):
        assert found[name] == "SKIP", name
        assert "raise --max-tokens" in SDK_SAVED.detail(finished, name), name


def test_the_sdk_cannot_tell_lost_text_from_thoughts_that_are_only_counted() -> None:
    def loses(call: Call) -> None:
        if call.fields.get("stream"):
            call.send(HEAD + HIDDEN + DONE)
        else:
            call.send(whole(call, {"role": "assistant", "content": ""}, reasoning=None))

    with Server(chat=loses) as server:
        finished = run_sdk(server.url, "--only", "completion", "stream")
    assert (finished.code, SDK_SAVED.only("SKIP", finished)) == (3, {"completion", "stream"})


def test_json_that_has_not_begun_is_not_ignored() -> None:
    def thinks(call: Call) -> None:
        call.send(whole(call, {"role": "assistant", "content": "<think>\nThe user"}, None))

    with Server(chat=thinks) as server:
        finished = run_sdk(server.url, "--only", "completion", "json_object")
    assert SDK_SAVED.statuses(finished) == {"completion": "WARN", "json_object": "SKIP"}


def test_more_tokens_reach_the_short_answers_as_well() -> None:
    asked: list[int] = []

    def notes(call: Call) -> None:
        asked.append(call.fields["max_tokens"])
        call.send(whole(call, {"role": "assistant", "content": "the sea is wide"}, None))

    with Server(chat=notes) as server:
        run_sdk(server.url, "--only", "stop", "n", "seed", "logprobs", "--max-tokens", 500)
    assert set(asked) == {500}


def test_a_queue_cannot_be_watched_without_a_first_token() -> None:
    with Server(chat=HEAD + HIDDEN + counted(8, 8) + DONE) as server:
        limits = ("--max-concurrent", 1, "--max-queue", 2)
        finished = run_script("test_queue.py", "--url", server.url, *limits)
    assert (finished.code, THOUGHTS in finished.err) == (3, True), finished.everything


def test_a_cold_start_cannot_be_timed_without_a_first_token() -> None:
    saved = SavedAs("scale_to_zero")
    with Server(chat=HEAD + HIDDEN + counted(8, 8) + DONE) as server:
        finished = run_script("test_scale_to_zero.py", "--url", server.url)
    assert (finished.code, saved.statuses(finished)["warm"]) == (3, "SKIP"), finished.out
    assert f"{THOUGHTS} (reasoning that is not shown): raise --max-tokens" in saved.detail(
        finished, "warm"
    )
