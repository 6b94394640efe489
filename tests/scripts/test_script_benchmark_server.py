"""benchmark.py --server-metrics: what the server says of itself, beside a level."""

from __future__ import annotations

import json

import pytest
from helpers.bench import KEY, detail, level, quick, status
from helpers.hostile import Call, Server
from helpers.scripts import run_script

from reference import running

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
METRICS = PLAIN + b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n"
SLOTS = 2


def test_an_engines_figures_stand_beside_ours() -> None:
    """Four at once for an engine with two places: two run there, and two wait there."""
    with running(
        engine="sim", slots=SLOTS, max_concurrent_requests=8, ttft_ms=50, itl_ms=10, rate_limit=0
    ) as deployment:
        engine = deployment.exported["engine_url"]
        arguments = ("--concurrency", 4, "--requests", 24, "--max-tokens", 24)
        finished = quick(deployment, *arguments, "--server-metrics", engine)
    figures = level(finished, 4)["metrics"]
    own, ttft = figures["server_metrics"], figures["server_metrics"]["ttft_ms"]
    assert finished.code == 0 and own["engine"] == "vLLM" and own["problem"] is None
    assert own["url"] == f"{engine}/metrics"
    assert own["running_requests"]["max"] == SLOTS and own["cache_usage"]["max"] == 1
    assert own["waiting_requests"]["max"] == 2
    assert own["preemptions"] == 0
    assert own["readings"] == own["running_requests"]["n"] + 2 >= 4
    assert len(own["samples"]["at_s"]) == own["running_requests"]["n"]
    # the 24 requests of the level and not its warm-up, without the gateway and the network
    assert ttft["n"] == 24
    assert 50 <= ttft["mean"] <= figures["ttft_ms"]["mean"] + 1
    assert ttft["p50_low"] <= ttft["p50"] <= ttft["p50_high"]
    said = " ".join(finished.out.split())
    assert "The server's own figures, of vLLM" in said
    assert "Only ours has the queue of a gateway and the network in it" in said
    page = finished.results / "page.html"
    report = run_script(
        *("report.py", str(finished.results), "--output", "markdown", "--html", str(page))
    )
    assert "Figures of vLLM itself: at most 2 running, at most 2 waiting" in report.out
    assert "What did the server say meanwhile?" in page.read_text()


def test_several_processes_are_watched_by_one() -> None:
    with running(engine="sim", ttft_ms=20, itl_ms=10, rate_limit=0) as deployment:
        engine = deployment.exported["engine_url"]
        arguments = ("--concurrency", 4, "--processes", 2, "--requests", 96, "--max-tokens", 16)
        finished = quick(deployment, *arguments, "--server-metrics", engine)
    figures = level(finished, 4)["metrics"]
    own = figures["server_metrics"]
    assert own["ttft_ms"]["n"] == figures["succeeded"]  # nothing of the warm-up
    assert own["readings"] == own["running_requests"]["n"] + 2 >= 3
    assert own["running_requests"]["max"] == 4


def test_auto_asks_the_deployment_itself() -> None:
    with running(engine="sim", ttft_ms=20, itl_ms=10, rate_limit=0) as deployment:
        finished = quick(deployment, "--server-metrics", "auto", "--max-tokens", 64)
    own = level(finished)["metrics"]["server_metrics"]
    assert (finished.code, own["engine"]) == (0, "the gateway")
    assert own["url"] == f"{deployment.url}/metrics" and own["ttft_ms"] is None
    assert "server metrics: those of the gateway" in finished.err


def test_auto_of_a_comparison_prefers_the_engine() -> None:
    with running(engine="sim", ttft_ms=4, itl_ms=4, rate_limit=0) as deployment:
        direct = ("--direct-url", deployment.exported["engine_url"])
        finished = quick(deployment, *direct, "--server-metrics", "auto")
    own = finished.document("gateway_cost")["metrics"]["server_metrics"]
    assert own["engine"] == "vLLM" and own["ttft_ms"]["n"] == 40  # both ways lead there


@pytest.mark.parametrize("fault", ["metrics-missing", "metrics-strange", "metrics-large"])
def test_metrics_that_cannot_be_read_are_one_line_and_no_failure(fault: str) -> None:
    with running(engine="sim", ttft_ms=4, itl_ms=4, rate_limit=0, faults=[fault]) as deployment:
        finished = quick(deployment, "--server-metrics", "auto")
    assert finished.code == 0
    (line,) = [each for each in finished.err.splitlines() if "server metrics" in each]
    assert "not available" in line
    assert "server_metrics" not in level(finished)["metrics"]


def test_the_key_goes_to_the_targets_own_origin_alone() -> None:
    with Server(answers={"/metrics": METRICS}) as server, Server(everywhere=METRICS) as other:
        key = ("--api-key", KEY)
        own = quick(server, *key, "--server-metrics", "auto")
        foreign = quick(server, *key, "--server-metrics", other.url)
    assert own.code == foreign.code == 0
    assert {call.headers.get("authorization") for call in server.to("/metrics")} == {
        f"Bearer {KEY}"
    }
    assert other.count("/metrics") >= 3
    assert all("authorization" not in call.headers for call in other.calls)
    assert all("text/plain" in call.headers["accept"] for call in other.calls)


def test_a_server_that_stops_to_answer_its_metrics_spoils_no_level() -> None:
    def once(call: Call) -> None:
        if server.count("/metrics") == 1:
            call.send(METRICS)
        else:
            call.wait()

    with Server(answers={"/metrics": once}) as server:
        finished = quick(server, "--server-metrics", "auto")
    own = level(finished)["metrics"]["server_metrics"]
    assert (finished.code, status(finished, "requests")) == (0, "PASS")
    assert own["failed_readings"] >= 1 and own["running_requests"]["n"] == 0


def test_drafts_are_told_by_the_server_as_well() -> None:
    counts = iter(range(0, 10_000, 100))

    def drafts(call: Call) -> None:
        count = next(counts)
        name = "vllm:spec_decode_num"
        text = f"{name}_draft_tokens_total {count}\n{name}_accepted_tokens_total {count // 2}\n"
        call.send(PLAIN + text.encode())

    with Server(answers={"/metrics": drafts}) as server:
        finished = quick(server, "--server-metrics", "auto")
    own = level(finished)["metrics"]["server_metrics"]
    assert own["acceptance_rate"] == 0.5
    assert f"50.0 % of {own['draft_tokens']:.0f} draft tokens" in " ".join(finished.out.split())
    assert "draft" not in detail(finished, "tokens")


def test_the_plan_tells_of_the_readings() -> None:
    plan = run_script(
        *("benchmark.py", "--url", "http://localhost:1", "--plan", "--output", "json"),
        *("--server-metrics", "auto"),
    )
    assert any("once a second" in note for note in json.loads(plan.out)["notes"])


def test_it_is_about_levels() -> None:
    finished = run_script(
        *("benchmark.py", "--url", "http://localhost:1", "--gateway-only"),
        *("--server-metrics", "auto"),
    )
    assert finished.code == 2 and "--gateway-only" in finished.err
