"""benchmark.py's load models, its search for the capacity and its comparison with the inference
server, as an operator runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.bench import bench, detail, quick, status
from helpers.hostile import (
    CHAT,
    HEAD,
    Call,
    Server,
    delta,
    error,
    first,
    good_stream,
    hang,
    in_turn,
    response,
    usage,
)
from helpers.scripts import Finished, start_script

from reference import Deployment, running

KEY, DIRECT_KEY = "sk-gatewayGATEWAY0123456789", "sk-directDIRECT0123456789"
GOOD = HEAD + good_stream()


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    with running(engine="sim", ttft_ms=40, itl_ms=2, slots=3, rate_limit=0) as deployment:
        yield deployment


class OneAtATime:
    """A server that works on one request after the other, each for so long."""

    def __init__(self, busy_s: float):
        self._busy_s, self._lock = busy_s, threading.Lock()

    def __call__(self, call: Call) -> None:
        with self._lock:
            time.sleep(self._busy_s)
        call.send(GOOD)


def figures(finished: Finished, name: str) -> dict[str, Any]:
    found: dict[str, Any] = finished.document(name)["metrics"]
    return found


# --- open loop


def test_an_open_loop_shows_the_waiting_that_a_closed_loop_hides() -> None:
    """Twenty a second, of which ten are served: the last one waits for all before it."""
    with Server(chat=OneAtATime(0.1)) as server:
        open_loop = quick(server, "--rate", 20, "--arrivals", "constant", "--requests", 10)
        closed = quick(server, "--requests", 10)
    assert (open_loop.code, closed.code) == (0, 0)
    slow, fast = figures(open_loop, "inference_r20"), figures(closed, "inference_c1")
    assert slow["ttft_ms"]["mean"] >= 100 + 50 * 4.5 - 1, "whoever is served first"
    assert fast["ttft_ms"]["p50"] < 200


def test_times_count_from_when_a_request_was_due(sim: Deployment) -> None:
    finished = quick(sim, "--rate", 50, "--requests", 25, "--seed", 4)
    document = finished.document("inference_r50")
    numbers, records = document["metrics"], document["requests"]
    assert (numbers["load_model"], numbers["rate_per_s"]) == ("open loop", 50)
    assert (numbers["arrivals"], numbers["seed"], numbers["concurrency"]) == ("poisson", 4, 1000)
    assert [record["due_ms"] for record in records] == sorted(r["due_ms"] for r in records)
    assert records[0]["due_ms"] == 0 and numbers["due_to_sent_ms"]["n"] == 25
    for record in records:
        assert record["sent_ms"] >= record["due_ms"]
        wait = record["sent_ms"] - record["due_ms"] + record["connect_ms"]
        assert record["ttft_ms"] == record["event_ms"][0] >= 39 + min(wait, 1)
        assert record["due_ms"] + record["e2e_ms"] == pytest.approx(record["ended_ms"], abs=0.01)
    assert 1 < numbers["most_in_flight"] <= 25
    again = quick(sim, "--rate", 50, "--requests", 25, "--seed", 4)
    due = [
        [r["due_ms"] for r in each.document("inference_r50")["requests"]]
        for each in (finished, again)
    ]
    assert due[0] == due[1]
    assert "open loop, poisson arrivals, 50 per second" in finished.out
    assert "  due to sent [ms]" in finished.out


def test_beyond_the_ceiling_requests_wait_and_the_wait_counts() -> None:
    with Server(chat=OneAtATime(0.05)) as server:
        few = ("--rate", 100, "--arrivals", "constant", "--requests", 6, "--concurrency", 1)
        finished = quick(server, *few)
    numbers = figures(finished, "inference_r100")
    assert numbers["most_in_flight"] == 1
    assert "at most 1 in flight (the limit: some requests had to wait)" in " ".join(
        finished.out.split()
    )
    assert numbers["due_to_sent_ms"]["max"] >= 5 * 50 - 50
    assert numbers["ttft_ms"]["max"] >= 6 * 50 - 50


def test_several_rates_are_several_levels_each_with_its_result(sim: Deployment) -> None:
    finished = quick(sim, "--rate", 20, 12.5, 20, "--requests", 3, "--output", "json")
    levels = json.loads(finished.out)["levels"]
    assert [each["metrics"]["rate_per_s"] for each in levels] == [20, 12.5]
    assert levels == [finished.document("inference_r20"), finished.document("inference_r12.5")]
    assert sorted(path.name for path in finished.results.glob("*.json")) == [
        "inference_r12.5.json",
        "inference_r20.json",
    ]


def test_an_open_loop_warms_up_one_at_a_time() -> None:
    with Server() as server:
        finished = quick(server, "--rate", 50, "--requests", 3, "--warmup", 2)
    assert server.count() == 2 + 3
    assert figures(finished, "inference_r50")["warmup"] == {"requests": 2, "failed": 0}


def test_a_client_whose_own_delay_shows_in_the_figures_is_client_bound() -> None:
    """A first token within a millisecond: less than this program needs to open a connection."""
    with Server() as server:
        finished = quick(server, "--rate", 100, "--requests", 30)
    assert finished.code == 0
    assert status(finished, "client", "inference_r100") == "WARN"
    assert "client-bound" in detail(finished, "client", "inference_r100")
    assert figures(finished, "inference_r100")["client"]["send_lag_ms"]["n"] == 30


def test_a_server_that_hangs_costs_an_open_loop_its_schedule_and_a_time_out_at_most() -> None:
    with Server(chat=first(1, GOOD, hang)) as server:
        started = time.monotonic()
        long = ("--rate", 20, "--duration", 60, "--timeout", 1)
        finished = bench(server, "--inference-only", *long)
        spent_s = time.monotonic() - started
    assert finished.code == 1 and spent_s < 10
    assert "the server does not answer in time" in detail(finished, "requests", "inference_r20")
    assert server.count() < 60


def test_the_keys_rate_limit_ends_an_open_loop() -> None:
    with running(engine="sim", ttft_ms=1, itl_ms=1, rate_limit=5) as deployment:
        finished = quick(deployment, "--rate", 50, "--requests", 40)
    assert finished.code == 3
    assert status(finished, "requests", "inference_r50") == "SKIP"
    assert "Retry-After 60" in detail(finished, "requests", "inference_r50")


def test_without_the_new_options_a_result_has_no_new_keys(sim: Deployment) -> None:
    document = quick(sim).document("inference_c1")
    new = {"rate_per_s", "due_to_sent_ms", "most_in_flight", "goodput_share", "prompts", "seed"}
    assert not new & set(document["metrics"])
    assert not {"due_ms", "level", "side"} & set(document["requests"][0])


# --- a duration


def test_a_duration_ends_the_sending_and_what_runs_is_finished(sim: Deployment) -> None:
    finished = bench(
        sim, "--inference-only", "--duration", 1, "--concurrency", 2, "--max-tokens", 8
    )
    document = finished.document("inference_c2")
    records = document["requests"]
    assert finished.code == 0 and 8 <= len(records) <= 2 + 2 * 1000 / 54
    assert all(record["error"] is None for record in records)
    assert max(record["sent_ms"] for record in records) < 1100
    assert 950 < max(record["ended_ms"] for record in records) < 1600
    check = finished.check("inference_c2", "requests")
    assert check["detail"] == f"{len(records)} of {len(records)} succeeded"
    assert check["evidence"]["planned"] is None
    assert "concurrency 2: requests for 1 s" in finished.err


def test_requests_that_run_at_the_end_are_cut_after_the_timeout_and_counted() -> None:
    with Server(chat=first(3, GOOD, hang)) as server:
        arguments = ("--inference-only", "--duration", 0.5, "--concurrency", 3, "--warmup", 0)
        finished = bench(server, *arguments, "--timeout", 1)
    assert finished.code == 1
    numbers = figures(finished, "inference_c3")
    assert numbers["errors"] == {"timeout": 3} and numbers["succeeded"] == 3


def test_an_open_loop_for_a_duration_has_the_arrivals_of_that_time(sim: Deployment) -> None:
    finished = bench(
        sim,
        "--inference-only",
        "--rate",
        40,
        "--arrivals",
        "constant",
        "--duration",
        0.5,
        "--max-tokens",
        4,
    )
    records = finished.document("inference_r40")["requests"]
    assert [record["due_ms"] for record in records] == pytest.approx([25 * n for n in range(20)])


@pytest.mark.parametrize("good", [0, 5])
def test_a_duration_of_nothing_but_failures_ends_before_its_time(good: int) -> None:
    with Server(chat=first(good, GOOD, error(500, "planted"))) as server:
        started = time.monotonic()
        finished = bench(server, "--inference-only", "--duration", 60, "--concurrency", 4)
    assert finished.code == 1
    assert time.monotonic() - started < 30
    assert "every request fails" in detail(finished, "requests", "inference_c4")


# --- prompts from a file


def test_prompts_come_in_order_and_again_from_the_start() -> None:
    Path("prompts.txt").write_text("one\ntwo\nthree\n")
    with Server() as server:
        finished = quick(server, "--prompt-file", "prompts.txt", "--requests", 5)
    assert finished.code == 0
    asked = [call.prompt.split("\n") for call in server.to(CHAT)]
    assert [text for _, text in asked] == ["one", "one", "two", "three", "one", "two"]
    assert len({line for line, _ in asked}) == 6, "each has a line of its own"
    assert figures(finished, "inference_c1")["prompts"] == 3
    assert finished.document("inference_c1")["options"]["prompt_file"] == "prompts.txt"
    assert "3 in turn; unique each time" in finished.out


def test_messages_and_their_max_tokens_are_sent_as_they_stand() -> None:
    talk = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    lines = [{"messages": talk, "max_tokens": 3}, {"messages": talk[1:]}]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with Server() as server:
        arguments = ("--prompt-file", "prompts.jsonl", "--same-prompt", "--warmup", 0)
        assert quick(server, *arguments, "--max-tokens", 9).code == 0
    fields = [call.fields for call in server.to(CHAT)]
    assert [each["messages"] for each in fields] == [talk, talk[1:]]
    assert [each["max_tokens"] for each in fields] == [3, 9]
    assert all(each["stream"] is True for each in fields)


def test_a_broken_prompt_file_is_exit_2_and_names_the_line() -> None:
    Path("prompts.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n{"no"\n')
    with Server() as server:
        finished = quick(server, "--prompt-file", "prompts.jsonl")
        both = quick(server, "--prompt-file", "prompts.jsonl", "--prompt", "Hi")
    assert (finished.code, both.code, server.connections) == (2, 2, 0)
    assert "prompts.jsonl, line 2: it is not JSON" in finished.err and finished.err.count("\n") == 1


# --- goodput


def test_goodput_counts_what_kept_every_bound_of_all_requests() -> None:
    def slow(call: Call) -> None:
        call.wait(0.4)
        call.send(GOOD)

    answers = in_turn(*[GOOD, GOOD, slow, error(500, "planted")] * 2)
    with Server(chat=answers) as server:
        slos = ("--slo", "ttft=200ms", "--slo", "e2e=5s", "--slo", "error_rate=50%")
        finished = quick(server, "--warmup", 0, "--requests", 8, *slos)
    numbers = figures(finished, "inference_c1")
    assert numbers["goodput_share"] == 0.5
    assert numbers["goodput_per_s"] == pytest.approx(4 / numbers["wall_s"], abs=0.001)
    assert "requests/s, 50.0% of all requests" in finished.out
    assert "66.7% of the requests kept" in detail(finished, "slo:ttft")


# --- the capacity


def capacity(finished: Finished) -> dict[str, Any]:
    return finished.check("capacity", "capacity")


SEARCH = ("--inference-only", "--find-capacity", "--max-tokens", 20)


def test_the_search_finds_how_many_the_engine_serves_at_once(sim: Deployment) -> None:
    """Three slots, 78 ms each: four users wait a third of that on average."""
    finished = bench(sim, *SEARCH, "--slo", "ttft_mean=55ms", "--slo", "error_rate=0")
    check = capacity(finished)
    assert (finished.code, check["status"], check["evidence"]["capacity"]) == (0, "PASS", 3)
    assert check["detail"].startswith("highest level that keeps the SLOs: 3 (TTFT mean 4")
    assert "≤ 55 ms); at 4: TTFT mean " in check["detail"]
    document = finished.document("capacity")
    tried = document["metrics"]["levels"]
    assert [each["level"] for each in tried] == [1, 2, 4, 3]
    assert [each["within_slos"] for each in tried] == [True, True, False, True]
    assert {record["level"] for record in document["requests"]} == {1, 2, 3, 4}
    assert len(document["requests"]) == sum(each["requests"] for each in tried)
    assert [path.stem for path in finished.results.glob("*.json")] == ["capacity"]
    assert "at most" in finished.err and "1800 s" in finished.err, "said in advance"


def test_the_search_by_rate_finds_what_the_engine_serves_a_second(sim: Deployment) -> None:
    """Three slots, 78 ms each: 38 a second, less what the objective leaves for waiting."""
    arrivals = ("--rate", 16, "--duration", 1, "--arrivals", "constant", "--max-level", 64)
    finished = bench(sim, *SEARCH, *arrivals, "--slo", "ttft_p95=200ms")
    check = capacity(finished)
    assert finished.code == 0 and check["status"] == "PASS"
    assert 26 <= check["evidence"]["capacity"] <= 56
    assert finished.document("capacity")["metrics"]["capacity_unit"] == "requests/s"


def test_where_the_first_level_breaks_the_objectives_the_run_fails(sim: Deployment) -> None:
    finished = bench(sim, *SEARCH, "--slo", "ttft_p50=10ms")
    assert (finished.code, capacity(finished)["status"]) == (1, "FAIL")
    assert "no level keeps the SLOs: at 1: TTFT p50 4" in capacity(finished)["detail"]


def test_failing_requests_break_a_level_too() -> None:
    """It refuses whoever is the third at once."""
    inside, lock = [0], threading.Lock()

    def answer(call: Call) -> None:
        with lock:
            inside[0] += 1
            full = inside[0] > 2
        time.sleep(0.05)
        call.send(error(503, "busy", "queue_full") if full else GOOD)
        with lock:
            inside[0] -= 1

    with Server(chat=answer) as server:
        finished = bench(server, *SEARCH, "--slo", "ttft_p95=9s", "--warmup", 0)
    assert finished.code == 0 and capacity(finished)["evidence"]["capacity"] == 2
    assert "at 3: " in capacity(finished)["detail"]
    assert "failed: 503" in capacity(finished)["detail"]


def test_the_highest_level_may_be_within_the_objectives(sim: Deployment) -> None:
    finished = bench(sim, *SEARCH, "--slo", "ttft_p50=9s", "--max-level", 2)
    assert (finished.code, capacity(finished)["evidence"]["capacity"]) == (0, 2)
    assert "--max-level ended the search" in capacity(finished)["detail"]


def test_a_search_whose_time_is_over_says_what_it_knows(sim: Deployment) -> None:
    started = time.monotonic()
    long = ("--duration", 1.2, "--max-time", 2, "--slo", "ttft_p50=9s")
    finished = bench(sim, *SEARCH, *long)
    assert time.monotonic() - started < 10
    assert (finished.code, capacity(finished)["status"]) == (0, "WARN")
    assert "kept at 1 at least" in capacity(finished)["detail"]
    assert "the time for all levels is over" in capacity(finished)["detail"]
    levels = {record["level"] for record in finished.document("capacity")["requests"]}
    assert levels == {1, 2}, "what was measured of the last level is kept"


def test_a_server_that_falls_silent_ends_the_search() -> None:
    # level 1: a warm-up and ten; level 2: two warm-ups and three
    with Server(chat=first(16, GOOD, hang)) as server:
        started = time.monotonic()
        finished = bench(server, *SEARCH, "--slo", "ttft_p95=9s", "--timeout", 1)
    assert time.monotonic() - started < 12
    assert (finished.code, capacity(finished)["status"]) == (0, "WARN")
    assert "the server does not answer in time" in capacity(finished)["detail"]
    assert capacity(finished)["evidence"]["capacity"] == 1


def test_the_keys_rate_limit_leaves_the_capacity_undecided() -> None:
    with running(engine="sim", ttft_ms=1, itl_ms=1, rate_limit=20) as deployment:
        finished = bench(deployment, *SEARCH, "--slo", "ttft_p95=9s")
    assert (finished.code, capacity(finished)["status"]) == (3, "SKIP")
    assert "429 Rate limit exceeded" in capacity(finished)["detail"]


# --- past the gateway


def compare(gateway: Server | Deployment, url: str, *arguments: object) -> Finished:
    """Three pairs (20, if nothing else is said, is the least), no warm-up."""
    few = ("--inference-only", "--direct-url", url, "--max-tokens", 4, "--timeout", 3)
    return bench(gateway, *few, *arguments)


def test_the_same_requests_go_both_ways_in_turn_and_each_side_gets_its_own_key() -> None:
    order: list[str] = []

    def noting(name: str) -> Any:
        def answer(call: Call) -> None:
            order.append(name)
            call.send(GOOD)

        return answer

    with Server(chat=noting("g")) as gateway, Server(chat=noting("d")) as engine:
        keys = ("--api-key", KEY, "--direct-key", DIRECT_KEY)
        finished = compare(gateway, engine.url, *keys, "--prompt", "Say hello", "--debug")
    assert finished.code == 0
    assert "".join(order) == "gd" + "gd" * 20
    for server, key, other in ((gateway, KEY, DIRECT_KEY), (engine, DIRECT_KEY, KEY)):
        assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {key}"}
        assert not [call for call in server.calls if other in str(call.headers)]
    asked = [
        call.fields | {"messages": call.prompt.partition("\n")[2]}
        for call in gateway.to(CHAT) + engine.to(CHAT)
    ]
    assert asked[0]["messages"] == "Say hello" and all(each == asked[0] for each in asked)
    assert KEY not in finished.everything and DIRECT_KEY not in finished.everything
    document = finished.document("gateway_cost")
    assert document["options"]["direct_url"] == engine.url
    assert "direct_key" not in document["options"]
    assert [r["side"] for r in document["requests"]] == ["gateway"] * 20 + ["direct"] * 20
    assert [r["index"] for r in document["requests"]] == [*range(20), *range(20)]
    assert document["metrics"]["pairs"] == document["metrics"]["cost"]["ttft_ms"]["n"] == 20


def test_without_a_key_of_its_own_the_inference_server_gets_none() -> None:
    with Server() as gateway, Server() as engine:
        finished = compare(gateway, engine.url, "--api-key", KEY)
        env = {"INFERENCE_DIRECT_KEY": DIRECT_KEY}
        with_key = bench(gateway, "--inference-only", "--direct-url", engine.url, env=env)
    assert (finished.code, with_key.code) == (0, 0)
    sent = [call.headers.get("authorization") for call in engine.calls]
    assert set(sent[: len(sent) // 2]) == {None}
    assert set(sent[len(sent) // 2 :]) == {f"Bearer {DIRECT_KEY}"}
    assert DIRECT_KEY not in with_key.everything


def test_a_redirect_of_the_inference_server_is_not_followed() -> None:
    with Server() as gateway, Server() as other:
        away = response(307, b"", location=f"{other.url}/v1")
        with Server(everywhere=away) as engine:
            finished = compare(gateway, engine.url, "--direct-key", DIRECT_KEY)
    assert finished.code == 3 and other.connections == 0
    assert "GET /v1/models is redirected (307) to" in finished.err
    assert "give the API's as --direct-url" in finished.err


def cost_of(gateway: Deployment, direct: Deployment) -> dict[str, Any]:
    finished = compare(gateway, direct.url, "--direct-key", direct.api_key, "--requests", 30)
    assert finished.code == 0
    assert "median of 30 pairs: TTFT " in detail(finished, "cost", "gateway_cost")
    assert "  TTFT [ms]              30 " in finished.out
    cost: dict[str, Any] = figures(finished, "gateway_cost")["cost"]["ttft_ms"]
    return cost


@pytest.mark.parametrize("planted", [0, 5])
def test_a_planted_delay_of_the_gateway_is_found_and_no_delay_is_none(planted: int) -> None:
    """Two deployments that are alike but for the delay; a busy machine gets three attempts."""
    engine = {"engine": "sim", "ttft_ms": 20, "itl_ms": 2, "rate_limit": 0}
    with running(delay_ms=planted, **engine) as gateway, running(**engine) as direct:
        for _ in range(3):
            cost = cost_of(gateway, direct)
            assert cost["low"] <= cost["cost"] <= cost["high"]
            if abs(cost["cost"] - planted) <= 0.5 and cost["low"] <= planted <= cost["high"]:
                return
    pytest.fail(f"{planted} ms were measured as {cost}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (response(401), "asks for a key (401"),
        (response(403, b"who are you?"), "asks for a key (403 from "),
        (response(403, b"<html>no", server="cloudflare"), "--direct-url: an edge (cloudflare)"),
        (b"", "is that the inference server?"),
    ],
    ids=["401", "403", "edge", "closed at once"],
)
def test_an_inference_server_that_cannot_be_asked_is_exit_3(answer: bytes, words: str) -> None:
    with Server() as gateway, Server(everywhere=answer) as engine:
        finished = compare(gateway, engine.url, "--api-key", KEY)
    assert finished.code == 3
    assert words in finished.err and engine.url in finished.err
    assert finished.document("gateway_cost")["verdict"] == "undecided"


def test_an_inference_server_that_hangs_is_no_failure_of_the_gateway() -> None:
    with Server() as gateway, Server(chat=hang) as engine:
        started = time.monotonic()
        finished = compare(gateway, engine.url, "--timeout", 1)
        later = first(8, GOOD, hang)
        engine._answers[CHAT] = later
        cut_off = compare(gateway, engine.url, "--timeout", 1)
        assert time.monotonic() - started < 15
    assert finished.code == 3 and "the server does not answer in time" in finished.err
    assert cut_off.code == 0
    assert status(cut_off, "requests", "gateway_cost") == "PASS"
    assert status(cut_off, "cost", "gateway_cost") == "WARN"
    assert "requests to the inference server failed" in detail(cut_off, "cost", "gateway_cost")


def test_a_gateway_that_fails_is_a_failure() -> None:
    broken = in_turn(GOOD, GOOD, *[GOOD, error(502, "planted")] * 20)
    with Server(chat=broken) as gateway, Server() as engine:
        finished = compare(gateway, engine.url)
    assert finished.code == 1
    assert status(finished, "requests", "gateway_cost") == "FAIL"
    assert "planted" in detail(finished, "requests", "gateway_cost")
    assert figures(finished, "gateway_cost")["cost"]["ttft_ms"]["n"] == 11


def test_objectives_beside_a_comparison_are_those_of_the_way_through_the_gateway() -> None:
    def slow(call: Call) -> None:
        call.wait(0.1)
        call.send(GOOD)

    with Server() as gateway, Server(chat=slow) as engine:
        finished = compare(gateway, engine.url, "--slo", "ttft_p50=90ms")
    assert finished.code == 0
    assert status(finished, "slo:ttft_p50", "gateway_cost") == "PASS"


def test_one_side_that_refuses_stream_options_is_asked_without() -> None:
    def picky(call: Call) -> None:
        call.send(error(400, "unknown field") if "stream_options" in call.fields else GOOD)

    with Server() as gateway, Server(chat=picky) as engine:
        finished = compare(gateway, engine.url)
    assert finished.code == 0
    assert ["stream_options" in call.fields for call in engine.to(CHAT)] == [True] + [False] * 21
    assert all("stream_options" in call.fields for call in gateway.to(CHAT))


def test_two_names_for_the_model_are_said() -> None:
    listed = {"/v1/models": response(200, {"data": [{"id": "other"}]})}
    with Server() as gateway, Server(answers=listed) as engine:
        finished = compare(gateway, engine.url)
    assert "the names differ: gateway scripted, direct other" in finished.out
    assert {call.fields["model"] for call in engine.to(CHAT)} == {"other"}


def test_answers_of_different_lengths_do_not_blur_the_whole_time() -> None:
    long = HEAD + b"".join([delta(), *[delta("x")] * 9, delta(reason="stop"), usage(9)])
    long += b"data: [DONE]\n\n"
    with Server() as gateway, Server(chat=in_turn(GOOD, *[GOOD, long] * 20)) as engine:
        finished = compare(gateway, engine.url)
    cost = figures(finished, "gateway_cost")["cost"]
    assert (cost["ttft_ms"]["n"], cost["e2e_ms"]["n"]) == (20, 10)


# --- interruption


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("--rate", "20", "--duration", "60"), "inference_r20"),
        (("--duration", "60"), "inference_c1"),
        (("--find-capacity", "--duration", "60", "--slo", "ttft_p95=9s"), "capacity"),
        (("--direct-url", "{url}", "--duration", "60"), "gateway_cost"),
    ],
)
def test_ctrl_c_saves_what_was_measured(arguments: tuple[str, ...], name: str) -> None:
    with Server() as server:
        options = [each.format(url=server.url) for each in arguments]
        process = start_script("benchmark.py", "--url", server.url, "--inference-only", *options)
        server.wait_for(12)
        process.send_signal(signal.SIGINT)
        _, err = communicate(process)
    assert process.returncode == 130 and "Traceback" not in err
    document = json.loads(Path(f"results/{name}.json").read_text())
    assert document["verdict"] == "interrupted"
    assert len([each for each in document["requests"] if each["error"] is None]) >= 9


def communicate(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=30)
    finally:
        process.kill()
