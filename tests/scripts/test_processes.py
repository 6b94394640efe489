"""benchmark.py --processes: several processes measure a level as if one had."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.bench import bench, detail, level, quick, status
from helpers.hostile import CHAT, HEAD, Server, first, good_stream, hang
from helpers.scripts import Finished, start_script

from livecheck.load.process_count import cores
from reference import Deployment, running

pytestmark = pytest.mark.skipif(cores() < 2, reason="two cores and Linux are needed")
GOOD = HEAD + good_stream()
SLOW: dict[str, Any] = {"engine": "sim", "ttft_ms": 100, "itl_ms": 50, "slots": 8, "rate_limit": 0}
LONG = ("--inference-only", "--requests", 400, "--max-tokens", 64, "--concurrency", 8)


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    with running(engine="sim", ttft_ms=40, itl_ms=5, slots=8, rate_limit=0) as deployment:
        yield deployment


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    """Whether it is a process that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def started(
    deployment: Deployment, *arguments: object, credential: str = "--api-key"
) -> subprocess.Popen[str]:
    """benchmark.py with two processes, while it measures its level."""
    secret = deployment.api_key if credential == "--api-key" else f"echo {deployment.api_key}"
    process = start_script(
        *("benchmark.py", "--url", deployment.url, credential, secret),
        *("--processes", 2, *arguments),
    )
    assert process.stderr
    while "requests" not in (line := process.stderr.readline()):
        assert line, "it ended before its level"
    time.sleep(1)
    return process


def exact(
    measured: Callable[[], dict[str, Any]], is_exact: Callable[[list[dict[str, Any]]], bool]
) -> dict[str, Any]:
    """A document whose records have the times that they should have. A busy machine, which keeps
    processes from running, gets three attempts."""
    for _ in range(3):
        if is_exact((document := measured())["requests"]):
            return document
    sent = [each["sent_ms"] for each in document["requests"]]
    pytest.fail(f"three times not the right times, the last time sent at {sent} ms")


def ended(process: subprocess.Popen[str]) -> Finished:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    return Finished(process.returncode, out, err, Path("results").absolute())


# --- the same as one process


def documents_of(sim: Deployment) -> list[dict[str, Any]]:
    """Of one process, and of two."""
    found = []
    for count in (1, 2):
        options = ("--concurrency", 5, "--requests", 33, "--max-tokens", 16)
        finished = quick(sim, *options, "--processes", count)
        assert finished.code == 0, finished.out + finished.err
        found.append(level(finished, 5))
    return found


def test_two_processes_measure_what_one_does(sim: Deployment) -> None:
    documents = documents_of(sim)
    one, two = (document["metrics"] for document in documents)
    for key in ("concurrency", "requests", "succeeded", "prompt", "error_rate"):
        assert one[key] == two[key]
    assert one["output_tokens"] == two["output_tokens"]
    assert one["warmup"] == two["warmup"] == {"requests": 5, "failed": 0}
    assert (one["client"]["processes"], two["client"]["processes"]) == (1, 2)
    assert two["client"]["clock"] == one["client"]["clock"]
    assert documents[0].keys() == documents[1].keys()
    assert documents[0]["requests"][0].keys() == documents[1]["requests"][0].keys()


@pytest.mark.alone
def test_times_are_those_of_one_process(sim: Deployment) -> None:
    """The engine has a set pace; a busy machine, which makes times longer, gets three attempts."""
    for _ in range(3):
        one, two = (document["metrics"] for document in documents_of(sim))
        apart = {key: abs(one[key]["p50"] - two[key]["p50"]) for key in ("ttft_ms", "itl_ms")}
        if apart["ttft_ms"] < 3 and apart["itl_ms"] < 0.3:
            return
    pytest.fail(f"the medians are {apart} ms apart")


@pytest.mark.alone
def test_records_are_merged_by_time_and_begin_together(sim: Deployment) -> None:
    """Six begin at once, and the next one when one of them has ended."""
    options = ("--concurrency", 6, "--requests", 30, "--max-tokens", 32, "--processes", 2)
    document = exact(
        lambda: level(quick(sim, *options), 6), lambda records: records[5]["sent_ms"] < 20
    )
    records = document["requests"]
    assert [each["index"] for each in records] == list(range(30))
    sent = [each["sent_ms"] for each in records]
    assert sent == sorted(sent) and min(sent) == 0
    assert sent[5] < min(each["ended_ms"] for each in records) <= sent[6]
    spans = [(each["sent_ms"], each["ended_ms"]) for each in records]
    most = max(sum(a <= moment < b for a, b in spans) for moment in sent)
    assert most == 6


@pytest.mark.alone
def test_arrivals_are_dealt_out_and_come_when_they_are_due(sim: Deployment) -> None:
    options = ("--rate", 50, "--arrivals", "constant", "--requests", 31, "--processes", 2)

    def measured() -> dict[str, Any]:
        finished = quick(sim, *options)
        assert finished.code == 0, finished.out
        return finished.document("inference_r50")

    def are_in_time(records: list[dict[str, Any]]) -> bool:
        return 0 <= statistics.median(each["sent_ms"] - each["due_ms"] for each in records) < 10

    document = exact(measured, are_in_time)
    due = [each["due_ms"] for each in document["requests"]]
    assert due == pytest.approx([20.0 * number for number in range(31)], abs=0.001)
    assert document["metrics"]["client"]["processes"] == 2


@pytest.mark.alone
def test_a_duration_counts_from_the_common_start(sim: Deployment) -> None:
    options = ("--concurrency", 4, "--duration", 1, "--max-tokens", 8, "--processes", 2)

    def end_in_time(records: list[dict[str, Any]]) -> bool:
        """One takes 40 + 8 * 5 ms, or a little more."""
        return 800 < records[-1]["sent_ms"] < 1050 and len(records) in range(24, 53)

    document = exact(lambda: level(bench(sim, "--inference-only", *options), 4), end_in_time)
    assert document["metrics"]["error_rate"] == 0


def test_a_level_with_one_slot_has_one_process(sim: Deployment) -> None:
    options = ("--concurrency", 1, 3, "--requests", 3, "--processes", 2)
    finished = quick(sim, *options)
    found = {n: level(finished, n)["metrics"]["client"]["processes"] for n in (1, 3)}
    assert found == {1: 1, 3: 2}


def test_each_prompt_of_a_file_is_asked_as_often_as_by_one(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"prompt number {number}\n" for number in range(5)))
    with Server() as server:
        options = ("--concurrency", 3, "--requests", 10, "--warmup", 0, "--processes", 2)
        finished = quick(server, "--prompt-file", prompts, *options)
        asked = [json.loads(call.body) for call in server.to(CHAT)]
    assert finished.code == 0, finished.out
    texts = [each["messages"][0]["content"].splitlines()[-1] for each in asked]
    assert sorted(texts) == sorted(f"prompt number {number}" for number in [*range(5)] * 2)


def test_objectives_and_the_edge_are_judged_for_all_together(sim: Deployment) -> None:
    options = ("--concurrency", 4, "--requests", 8, "--processes", 2, "--edge-idle", 30)
    finished = quick(sim, *options, "--slo", "ttft_p95=1ms", "--slo", "error_rate=0")
    assert finished.code == 1
    assert status(finished, "slo:ttft_p95", "inference_c4") == "FAIL"
    assert status(finished, "slo:error_rate", "inference_c4") == "PASS"
    assert status(finished, "edge_idle", "inference_c4") == "PASS"
    assert len(level(finished, 4)["exchanges"]) >= 1


def test_a_search_divides_each_of_its_levels(sim: Deployment) -> None:
    options = ("--find-capacity", "--slo", "e2e_p95=10s", "--max-level", 4, "--concurrency", 2)
    finished = quick(sim, *options, "--processes", 2)
    assert finished.code == 0, finished.out + finished.err
    document = finished.document("capacity")
    assert document["metrics"]["capacity"] == 4
    assert {each["level"] for each in document["requests"]} == {2, 4}


# --- what one of them meets stops all


def test_a_rate_limit_that_one_meets_stops_all() -> None:
    with running(engine="sim", ttft_ms=5, itl_ms=1, slots=8, rate_limit=20) as deployment:
        finished = quick(
            deployment, "--concurrency", 4, "--requests", 400, "--processes", 2, "--warmup", 4
        )
    assert finished.code == 3
    assert status(finished, "requests", "inference_c4") == "SKIP"
    assert "Retry-After" in detail(finished, "requests", "inference_c4")
    assert len(level(finished, 4)["requests"]) < 30


def test_a_refused_credential_is_one_line_and_exit_3(sim: Deployment) -> None:
    finished = bench(
        sim.url,
        *("--api-key", "sk-wrong-key-of-nobody", "--inference-only", "--concurrency", 4),
        *("--processes", 2, "--timeout", 10),
    )
    assert finished.code == 3
    assert "sk-wrong-key-of-nobody" not in finished.everything


def test_a_silent_server_costs_one_time_out() -> None:
    with Server(chat=first(4, GOOD, hang)) as server:
        began_s = time.monotonic()
        options = ("--concurrency", 4, "--requests", 40, "--timeout", 2, "--processes", 2)
        finished = quick(server, *options)
        spent_s = time.monotonic() - began_s
    assert finished.code == 1 and spent_s < 12
    assert "does not answer in time" in detail(finished, "requests", "inference_c4")
    assert server.count() <= 4 + 4 + 3, "each time-out but the last one lets one more begin"


# --- ends before its time


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("whole_group", [False, True], ids=["parent", "group"])
def test_an_interruption_saves_what_all_have_measured(
    number: signal.Signals, code: int, whole_group: bool
) -> None:
    with running(**SLOW) as deployment, started(deployment, *LONG) as process:
        workers = children(process.pid)
        assert len(workers) == 2
        for pid in [*(workers if whole_group else []), process.pid]:
            os.kill(pid, number)
        finished = ended(process)
    assert finished.code == code, finished.err
    assert not any(map(is_there, workers))
    document = level(finished, 8)
    kinds = {each["error"] for each in document["requests"]}
    assert document["interrupted"] and "interrupted" in kinds
    assert len(document["requests"]) >= 8 and document["metrics"]["client"]["processes"] == 2


def test_a_killed_process_is_reported_and_what_the_others_measured_is_saved() -> None:
    with running(**SLOW) as deployment, started(deployment, *LONG) as process:
        workers = children(process.pid)
        os.kill(workers[1], signal.SIGKILL)
        finished = ended(process)
    assert finished.code == 3, finished.err
    words = "process 2 of 2 was killed (SIGKILL): 200 requests are lost"
    assert words in finished.err
    document = level(finished, 8)
    assert words in document["error"] and document["exit_code"] == 3
    assert len(document["requests"]) >= 4
    assert not any(map(is_there, workers))


def test_no_process_outlives_the_run_that_is_killed() -> None:
    with running(**SLOW) as deployment, started(deployment, *LONG) as process:
        workers = children(process.pid)
        process.kill()
        process.communicate()
        end_s = time.monotonic() + 5
        while any(map(is_there, workers)) and time.monotonic() < end_s:
            time.sleep(0.02)
        assert not any(map(is_there, workers))


def test_no_credential_is_in_a_command_line_or_an_environment_of_a_process() -> None:
    with running(**SLOW) as deployment:
        key = deployment.api_key
        with started(deployment, *LONG, credential="--token-binary") as process:
            workers = children(process.pid)
            own = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            for pid in workers:
                assert Path(f"/proc/{pid}/cmdline").read_bytes() == own  # forked: no other program
                assert key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            process.terminate()
            finished = ended(process)
    assert len(workers) == 2 and key not in finished.everything


# --- the options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--processes", 0), "--processes"),
        (("--processes", 10_000), "this program may use"),
        (("--processes", 2), "no level has two requests in flight"),
        (("--processes", 2, "--gateway-only"), "--gateway-only sends no requests to the model"),
        (("--processes", 2, "--direct-url", "http://127.0.0.1:9"), "one request at a time"),
    ],
)
def test_what_makes_no_sense_is_a_mistake(arguments: tuple[object, ...], words: str) -> None:
    finished = bench("http://127.0.0.1:9", *arguments)
    assert finished.code == 2 and words in finished.err
    assert len(finished.err.strip().splitlines()[-1]) < 200


def test_deep_prompts_are_known_to_all(sim: Deployment) -> None:
    options = ("--concurrency", 4, "--requests", 4, "--processes", 2, "--depth", 300)
    finished = quick(sim, *options)
    assert finished.code == 0, finished.out + finished.err
    document = finished.document("inference_c4_d300")
    assert document["metrics"]["client"]["processes"] == 2
    prompts = [each["prompt_tokens"] for each in document["requests"]]
    assert len(prompts) == 4 and min(prompts) > 200


def test_without_a_warm_up_none_is_announced(sim: Deployment) -> None:
    options = ("--concurrency", 2, "--requests", 4, "--processes", 2, "--warmup", 0)
    finished = quick(sim, *options)
    assert finished.code == 0, finished.out + finished.err
    assert "2 processes begin" in finished.err and "warm up" not in finished.err
