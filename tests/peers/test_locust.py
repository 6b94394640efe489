"""locustfile.py in Locust itself: one master and two workers on loopback."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import fault_walk
from helpers.locust import LOCUST, LONGEST_S, Swarm, checks_of, swarm
from helpers.peer_programs import free_port
from helpers.scripts import ROOT, run_script

from livecheck.wire import client_error
from reference import Deployment, running
from reference.faults import FAULTS, Fault

KEY = "sk-locust-0123456789abcdef"
COUNTED = "stream   E2E"  # in Locust's table, once requests have ended
TOKENS, ITL_MS = 24, 20
OF_LOCUST = [fault for fault in FAULTS if fault.script == fault_walk.LOCUSTFILE]


def test_locust_is_installed() -> None:
    """A test that is skipped where it is missing would prove nothing."""
    assert LOCUST.is_file(), "make peers-install puts it there"


@pytest.fixture(scope="module")
def truth() -> Iterator[str]:
    """A server that knows when it sent each event, with 100 ms to the first token."""
    pace = ("--ttft-ms", "100", "--itl-ms", str(ITL_MS), "--until-eof")
    command = [sys.executable, "-m", "reference.truth", *pace]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout and server.stdin
        yield server.stdout.readline().decode().split()[-1]
        server.stdin.close()


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    with running(engine="sim", ttft_ms=40, itl_ms=10, slots=8, rate_limit=0, api_keys=KEY) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Swarm]:
    with swarm(tmp_path) as found:
        yield found


def told(url: str) -> list[dict[str, Any]]:
    """What the truth server noted of each request since the last time."""
    with urllib.request.urlopen(f"{url}/truth", timeout=30) as answer:
        notes: list[dict[str, Any]] = json.load(answer)["requests"]
        return notes


def median_errors(document: dict[str, Any], notes: list[dict[str, Any]]) -> tuple[float, float]:
    """Reported minus true, in ms: of the TTFT of each request, and of each gap between tokens."""
    found = client_error.compare(good(document), notes)
    assert found.unmatched == 0
    return statistics.median(found.ttft_ms), statistics.median(found.gap_ms)


def good(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in document["requests"] if each["error"] is None]


def test_each_request_counts_once_and_the_times_are_true(here: Swarm, truth: str) -> None:
    """Both against the truth, because a busy machine makes the server late, and not the client."""
    users = ("-u", 8, "-r", 8, "-t", "5s", "--max-tokens", TOKENS)
    master = here.master(2, "--headless", *users, "--host", truth)
    workers = [here.worker(1), here.worker(2)]
    assert master.wait(LONGEST_S) == 0, here.output()
    assert [worker.wait(LONGEST_S) for worker in workers] == [0, 0]
    document, notes = here.document("inference_c8"), told(truth)
    records = document["requests"]
    warmups = document["metrics"]["warmup"]["requests"]
    assert warmups == 10  # one for each user, and one for each worker
    assert len(records) + warmups == len(notes)  # the server's own count
    assert len({each["answer_id"] for each in good(document)}) == len(good(document))
    assert {each["worker"] for each in records} == {1, 2}
    assert all(each["error"] in (None, "interrupted") for each in records)
    assert set(checks_of(document).values()) <= {"PASS", "WARN"}  # a busy machine: client
    assert (document["script"], document["verdict"]) == ("locustfile", "pass")

    ttft_ms, gap_ms = median_errors(document, notes)
    found = run_script(
        "benchmark.py",
        *("--url", truth, "--inference-only", "--concurrency", 8, "--requests", 24),
        *("--max-tokens", TOKENS, "--processes", 1),
    )
    its_ttft_ms, its_gap_ms = median_errors(found.document("inference_c8"), told(truth))
    assert abs(ttft_ms - its_ttft_ms) < 1
    assert abs(gap_ms - its_gap_ms) < 1
    assert document["metrics"]["itl_ms"]["p50"] == pytest.approx(ITL_MS, abs=1)

    report = run_script("report.py", here.folder / "results", "--output", "json")
    assert "inference_c8" in report.out
    problems = json.loads(report.out)
    assert "contradictory" not in json.dumps(problems)


def test_a_killed_worker_is_told_with_what_it_had_begun(here: Swarm, truth: str) -> None:
    users = ("-u", 4, "-r", 4, "-t", "7s", "--max-tokens", TOKENS)
    master = here.master(2, "--headless", *users, "--host", truth)
    killed, other = here.worker(1), here.worker(2)
    here.wait_for(COUNTED)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    told(truth)
    assert master.wait(LONGEST_S) == 3, here.output()
    assert other.wait(LONGEST_S) == 0
    document = here.document("inference_c4")
    check = next(each for each in document["checks"] if each["name"] == "workers")
    assert (check["status"], check["essential"]) == ("SKIP", True)
    assert "ended without a word" in check["detail"]
    lost = [each for each in document["metrics"]["workers"] if not each["ended"]]
    assert len(lost) == 1
    assert lost[0]["lost"] == lost[0]["begun"] - lost[0]["records"]
    assert checks_of(document)["requests"] == "PASS"
    assert document["verdict"] == "undecided"


def test_ctrl_c_saves_what_there_is_and_no_key_is_anywhere(here: Swarm, sim: Deployment) -> None:
    """The master has no key, and each worker its own; one is given by an option."""
    users = ("-u", 4, "-r", 4, "--max-tokens", 8, "--slo", "ttft_p50=10s")
    master = here.master(2, "--headless", "--loglevel", "DEBUG", *users, "--host", sim.url)
    workers = [here.worker(each, INFERENCE_API_KEY=KEY) for each in (1, 2)]
    here.wait_for(COUNTED)
    master.send_signal(signal.SIGINT)
    assert master.wait(LONGEST_S) == 130, here.output()
    assert [worker.wait(LONGEST_S) for worker in workers] == [0, 0]
    document = here.document("inference_c4")
    assert document["interrupted"]
    assert good(document)
    cut = [each for each in document["requests"] if each["error"] == "interrupted"]
    assert all(each["excluded"] for each in cut)
    assert document["metrics"]["error_rate"] == 0
    assert checks_of(document)["workers"] == "PASS"
    assert KEY not in here.everything
    assert KEY[:12] not in here.everything


def test_ctrl_c_in_the_terminal_reaches_all_processes_at_once(here: Swarm, sim: Deployment) -> None:
    ports = ("--master-port", here.port, "--master-bind-port", here.port, "--processes", 2)
    users = ("-u", 4, "-r", 4, "--max-tokens", 8, "--api-key", KEY)
    local = here.start("--headless", *ports, *users, "--host", sim.url, name="master")
    here.wait_for(COUNTED)
    os.killpg(local.pid, signal.SIGINT)
    assert local.wait(LONGEST_S) == 130, here.output()
    document = here.document("inference_c4")
    assert checks_of(document)["workers"] == "PASS"
    assert len({each["worker"] for each in good(document)}) == 2


def test_ctrl_c_before_the_workers_are_there_is_one_line(here: Swarm, sim: Deployment) -> None:
    """Locust itself waits for them without expecting it."""
    master = here.master(2, "--headless", "-u", 2, "--host", sim.url)
    here.wait_for("Waiting for workers")
    master.send_signal(signal.SIGINT)
    assert master.wait(LONGEST_S) == 130, here.output()
    assert "locust: interrupted before the test began" in here.output()
    assert "Traceback" not in here.output()


def test_one_process_follows_the_stages_of_a_load_shape(here: Swarm, sim: Deployment) -> None:
    shape = ("--stages", "1:2s 3:3s", "--max-tokens", 8, "--warmup", 0, "--api-key", KEY)
    local = here.start("--headless", "--host", sim.url, *shape, name="master")
    assert local.wait(LONGEST_S) == 0, here.output()
    document = here.document("inference_c3")
    assert document["metrics"]["stages"] == [
        {"users": 1, "duration_s": 2.0},
        {"users": 3, "duration_s": 3.0},
    ]
    assert document["metrics"]["warmup"]["requests"] == 0
    spans = sorted((each["sent_ms"], each["ended_ms"]) for each in good(document))
    early = [span for span in spans if span[1] < 1000]
    assert all(a[1] <= b[0] for a, b in zip(early, early[1:], strict=False))  # one user
    assert document["metrics"]["steady"]["in_flight_mean"] > 2
    assert KEY not in here.everything
    assert "--api-key" not in document["command"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--slo", "ttft=fast", "--max-tokens", "0"), 2, "--"),
        (("--stages", "8"), 2, "USERS:DURATION"),
        ((), 3, "cannot reach"),
    ],
)
def test_mistakes_and_closed_doors(
    here: Swarm, words: tuple[str, ...], code: int, says: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    local = here.start("--headless", "-t", "5s", "--host", url, *words, name="master")
    assert local.wait(LONGEST_S) == code, here.output()
    assert says in here.output()
    assert "Traceback" not in here.output()


def test_a_failing_deployment_fails(here: Swarm) -> None:
    with running(engine="sim", faults=["some-fail"], rate_limit=0, api_keys=KEY) as broken:
        users = ("--headless", "-u", 2, "-r", 2, "-t", "4s", "--max-tokens", 4)
        local = here.start(*users, "--host", broken.url, "--api-key", KEY, name="master")
        assert local.wait(LONGEST_S) == 1, here.output()
    document = here.document("inference_c2")
    assert checks_of(document)["requests"] == "FAIL"


@pytest.mark.parametrize("fault", OF_LOCUST, ids=lambda fault: fault.name)
def test_the_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    outcome = fault_walk.with_fault(fault, tmp_path, strictly=False)
    assert fault_walk.is_noticed(fault, outcome), outcome.finished.out
