"""test_scale_to_zero.py against deployments that sleep, do not sleep, or sleep badly.

What is planted in the reference deployment is in the fault table (test_faults.py); here is what
sound ones look like, what counts workers, and what must not be believed.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import answers
from helpers.http_server import QuietHandler, QuietServer
from helpers.raw_server import RawServer, answer, keep_answering
from helpers.scripts import Finished, SavedAs, load_script, run_script, start_script

from common import Status
from livecheck.core.checks import Exit
from livecheck.gateway import worker_count
from livecheck.gateway.worker_count import (
    CannotRead,
    CommandSource,
    Reading,
    count_states,
    count_summary,
)
from reference import Deployment, running
from reference.faults.scale_to_zero import COUNT_WORKERS as COUNT

SCRIPT = "test_scale_to_zero.py"
NAME = "scale_to_zero"
SAVED = SavedAs(NAME)
statuses, detail = SAVED.statuses, SAVED.detail
SLEEPY: dict[str, object] = {"idle_timeout": 1.2, "load_ms": 600, "ttft_ms": 20, "itl_ms": 2}
QUICK = ("--idle-timeout", 2.5, "--probe-interval", 0.2, "--max-tokens", 4)
ONE_STREAM = (
    answers.event({"content": "hi"}) + answers.event({}, "stop") + b"data: [DONE]\n\n"
)  # a whole answer
KEY = "rpa-5ecret-of-the-control-plane"


script = load_script(SCRIPT)


@pytest.fixture(scope="module")
def sleepy() -> Iterator[Deployment]:
    """A sound deployment that sleeps soon."""
    with running(**SLEEPY, rate_limit=0) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def sleepless() -> Iterator[Deployment]:
    """One that never does."""
    with running(ttft_ms=20, itl_ms=1, rate_limit=0) as deployment:
        yield deployment


def arguments(deployment: Deployment, *more: object) -> list[str]:
    key = ("--api-key", deployment.api_key) if deployment.api_key else ()
    where = ("--url", deployment.url, "--health-url", deployment.health_url)
    return [str(each) for each in (*where, *key, *QUICK, *more)]


def check(deployment: Deployment, *more: object) -> Finished:
    return run_script(SCRIPT, *arguments(deployment, *more))


def decided(deployment: Deployment, *more: object) -> Finished:
    """The first run of three that decides: on a busy machine a first token comes so late that it
    may be a cold start, and the script says rightly that it cannot tell."""
    for _ in range(3):
        finished = check(deployment, *more)
        if finished.code != Exit.UNDECIDED:
            break
    return finished


# --- sound deployments

WITHOUT_COUNT = {
    "warm": "PASS",
    "workers": "SKIP",
    "scale_down": "PASS",
    "health": "PASS",
    "undisturbed": "SKIP",
    "cold_start": "PASS",
    "warm_again": "PASS",
    "form": "PASS",
}


@pytest.mark.parametrize(
    "options",
    [{"connection": "close"}, {"connection": "keep-alive", "auth_enabled": False}],
    ids=str,
)
def test_a_sound_deployment_passes_without_a_worker_count(options: dict[str, object]) -> None:
    with running(**{**SLEEPY, "idle_timeout": 0.6}, **options) as deployment:
        finished = check(deployment, "--idle-timeout", 1.5)
    assert (finished.code, statuses(finished)) == (0, WITHOUT_COUNT)
    assert "whole 1.5 s" in " ".join(finished.err.split())


def test_with_a_worker_count_everything_is_decided_and_the_wait_is_short(
    sleepy: Deployment,
) -> None:
    finished = check(sleepy, "--idle-timeout", 30, *COUNT)
    document = finished.document(NAME)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"})
    assert document["metrics"]["scale_down_s"] < 20
    assert document["metrics"]["cold_start_s"] > 0.6
    kinds = [record["kind"] for record in document["requests"]]
    assert kinds.count("chat") == 6
    # how many of the STAY_PROBES are sent depends on how long each count takes
    assert "still 0 workers after another" in detail(finished, "undisturbed")


class QuickSleeper(QuietServer):
    """Unloads its model after a short silence, and loads it again within 0.15 s."""

    def __init__(self) -> None:
        super().__init__(QuickSleeperHandler)
        self.used_s = 0.0


class QuickSleeperHandler(QuietHandler):
    server: QuickSleeper

    def do_GET(self) -> None:
        """/v1/models, and the health URL."""
        self.respond(b'{"data": [{"id": "m"}]}' if self.path == "/v1/models" else b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        is_asleep = time.monotonic() - self.server.used_s > 0.5
        time.sleep(0.15 if is_asleep else 0.0)
        self.server.used_s = time.monotonic()
        self.respond(ONE_STREAM, "text/event-stream")

    def respond(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class AskingHandler(QuickSleeperHandler):
    """A health URL that asks every model, as LiteLLM's does."""

    probes = 0

    def do_GET(self) -> None:
        AskingHandler.probes += self.path == "/health"
        listed = {"healthy_endpoints": [{"model": "m"}], "unhealthy_endpoints": []}
        is_health = self.path == "/health"
        self.respond(json.dumps(listed).encode() if is_health else b'{"data": [{"id": "m"}]}')


def test_a_health_url_that_costs_inference_is_probed_once_and_nothing_is_decided() -> None:
    server = QuickSleeper()
    server.RequestHandlerClass = AskingHandler
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = ("--url", server.url, "--health-url", "/health", *QUICK)
        # a count of 0 workers, after it has shown one
        script_ = 'f=$TMPDIR/seen; test -e "$f" && echo 0 || { touch "$f"; echo 1; }'
        finished = run_script(
            *(SCRIPT, *given, "--workers-command", script_),
            env={"TMPDIR": tempfile.mkdtemp()},
        )
        server.shutdown()
    found = statuses(finished)
    assert (finished.code, AskingHandler.probes) == (3, 1), finished.out
    assert (found["health"], found["scale_down"], found["undisturbed"]) == ("WARN", "SKIP", "SKIP")
    assert "1 model" in detail(finished, "health")


def test_a_worker_that_may_have_slept_and_woken_quickly_is_not_accused() -> None:
    with QuickSleeper() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = ("--url", server.url, "--health-url", "/ping", *QUICK)
        finished = run_script(SCRIPT, *given, "--idle-timeout", 1)
        server.shutdown()
    assert (finished.code, statuses(finished)["scale_down"]) == (3, "SKIP"), finished.out
    assert statuses(finished)["cold_start"] == "SKIP"
    assert "cannot tell" in detail(finished, "scale_down")
    assert "--workers-command" in detail(finished, "scale_down")


def test_a_real_model_passes() -> None:
    with running(engine="llama", idle_timeout=1.5) as deployment:
        finished = check(deployment, "--idle-timeout", 30, *COUNT)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"}), finished.out
    assert finished.document(NAME)["metrics"]["cold_start"]["server_prompt_ms"] > 0


def test_only_the_first_check_takes_no_wait(sleepless: Deployment) -> None:
    begun = time.monotonic()
    finished = check(sleepless, "--only", "warm", "--idle-timeout", 900)
    assert (finished.code, statuses(finished)) == (0, {"warm": "PASS"})
    assert time.monotonic() - begun < 30


# --- the health URL


def test_no_credential_goes_to_the_health_url_and_pong_is_fine(sleepy: Deployment) -> None:
    with RawServer(pong) as server:
        finished = check(sleepy, "--health-url", server.url)
        heads = [head for peer in server.peers for head in peer.heads]
    assert finished.code == 0
    assert heads and all(head.startswith(b"GET /ping ") for head in heads)
    assert not [head for head in heads if b"authorization" in head.lower()]


def pong(peer: Any) -> None:
    keep_answering(peer, answer(b"pong"))


def test_a_health_url_where_nothing_listens_fails_and_says_so(sleepless: Deployment) -> None:
    with RawServer(pong) as server:
        closed = server.url
    quick = ("--no-control", "--idle-timeout", 0.5)
    finished = check(sleepless, "--health-url", closed, *quick)
    assert (finished.code, statuses(finished)["health"]) == (1, "FAIL")
    assert "--health-url" in detail(finished, "health")


@pytest.mark.parametrize(
    ("target", "given", "probed"),
    [
        ("http://host:8000", None, "http://host:8001/ping"),
        ("https://host", None, "https://host:8001/ping"),
        ("https://host:8000/base", None, "https://host:8001/ping"),
        ("http://[::1]:8000", None, "http://[::1]:8001/ping"),
        ("https://x-8000.proxy.runpod.net", None, "https://x-8001.proxy.runpod.net/ping"),
        ("https://x-8888.proxy.runpod.net", None, "https://x-8888.proxy.runpod.net:8001/ping"),
        ("http://host:8000", "https://other", "https://other/ping"),
        ("http://host:8000", "https://other/health", "https://other/health"),
        ("http://host:8000", "/ping", "http://host:8000/ping"),
    ],
)
def test_where_the_health_url_is(target: str, given: str | None, probed: str) -> None:
    assert script.health_url(target, given) == probed


@pytest.mark.parametrize(
    "mistake",
    [
        ("--health-url", "host:8001"),
        ("--health-url", "http://me:pw@host"),
        ("--health-url", "http://host/ping?key=1"),
        ("--runpod-endpoint", "../x"),
        ("--probe-interval", "0"),
        ("--idle-timeout", "nan"),
        ("--max-tokens", "0"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_exit_2_and_one_line(
    mistake: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(["--url", "http://127.0.0.1:9", *mistake])
    assert (caught.value.code, len(capsys.readouterr().err.splitlines())) == (2, 1)


# --- the workers command


def command(text: str, timeout_s: float = 20) -> CommandSource:
    return CommandSource(text, timeout_s, {"INFERENCE_URL": "http://target"})


@pytest.mark.parametrize(
    ("text", "count"), [("echo 3", 3), ("printf ' 0 '", 0), ('test "$INFERENCE_URL" && echo 1', 1)]
)
def test_the_command_is_run_by_the_shell(text: str, count: int) -> None:
    assert command(text).read() == (count, {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo trouble >&2; exit 3", "ended with exit code 3: trouble"),
        ("no-such-command-here", "ended with exit code 127"),
        ("true", "printed ''"),
        ("echo none", "printed 'none"),
        ("echo -1", "printed '-1"),
        ("echo 1 2", "printed '1 2"),
        ("echo \u00b2", "printed"),
    ],
)
def test_what_is_not_a_count_is_never_0(text: str, why: str) -> None:
    with pytest.raises(CannotRead, match=why):
        command(text).read()


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "late"
    begun = time.monotonic()
    with pytest.raises(CannotRead, match="within 0.3 s"):
        command(f"(sleep 1; touch {shlex.quote(str(mark))}) & sleep 60", 0.3).read()
    assert time.monotonic() - begun < 10
    time.sleep(1.2)
    assert not mark.exists()


def test_a_command_that_prints_without_end_is_ended() -> None:
    begun = time.monotonic()
    with pytest.raises(CannotRead, match="printed more than 64 KB"):
        command("yes", 60).read()
    assert command("yes noise | head -c 900000 >&2; echo 2", 60).read() == (2, {})
    assert time.monotonic() - begun < 20


def test_what_a_command_leaves_behind_does_not_hold_up_its_count(tmp_path: Path) -> None:
    mark = tmp_path / "late"
    begun = time.monotonic()
    text = f"(sleep 2; touch {shlex.quote(str(mark))}) & echo 3"
    assert command(text, 60).read() == (3, {})
    assert time.monotonic() - begun < 2
    time.sleep(2.2)
    assert not mark.exists()


def test_a_count_that_cannot_be_read_is_a_warning_and_the_next_request_decides(
    sleepy: Deployment,
) -> None:
    finished = check(sleepy, "--workers-command", "echo s0rry; exit 1")
    found = statuses(finished)
    assert (finished.code, found["workers"], found["scale_down"]) == (0, "WARN", "PASS")
    assert found["undisturbed"] == "SKIP"
    assert "s0rry" not in json.dumps(finished.document(NAME)["options"])


def test_a_command_that_always_says_0_proves_nothing(sleepless: Deployment) -> None:
    quick = ("--no-control", "--idle-timeout", 1)
    finished = decided(sleepless, "--workers-command", "echo 0", *quick)
    found = statuses(finished)
    assert (finished.code, found["workers"], found["scale_down"]) == (1, "WARN", "FAIL")


# --- RunPod's control planes


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ({"workers": [], "summary": {"running": 0, "idle": 0, "total": 0}}, 0),
        ({"workers": [{}], "summary": {"running": 0, "idle": 1, "total": 1}}, 1),
        ({"summary": {"total": 0}}, 0),
    ],
)
def test_the_newer_api_counts_by_its_total(content: object, count: int) -> None:
    assert count_summary(content)[0] == count


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"summary": None},
        {"summary": {"running": 0}},
        {"summary": {"total": None}},
        {"summary": {"total": -1}},
        {"summary": {"total": 0}, "workers": [{}]},
    ],
)
def test_a_total_that_is_missing_or_contradicted_is_no_count(content: object) -> None:
    with pytest.raises(worker_count.Misread):
        count_summary(content)


@pytest.mark.parametrize(
    ("states", "count"),
    [
        ({"idle": 0, "running": 0}, 0),
        ({"idle": 0, "running": 0, "ready": 0, "throttled": 0}, 0),
        ({"idle": 0, "running": 2}, 2),
        ({"idle": 1, "running": 0, "initializing": 1}, 1),
        ({"idle": 1, "running": 0}, None),
        ({"idle": 0, "running": 0, "ready": 1}, None),
        ({"idle": 0, "running": 0, "throttled": 1}, None),
    ],
)
def test_the_older_api_decides_only_what_it_says_clearly(
    states: dict[str, int], count: int | None
) -> None:
    assert count_states({"jobs": {}, "workers": states}) == (count, states)


@pytest.mark.parametrize("states", [None, {}, {"idle": 0}, {"running": 0}, {"idle": "x"}])
def test_a_state_that_is_missing_proves_nothing(states: object) -> None:
    with pytest.raises(worker_count.Misread):
        count_states({"workers": states})


class ControlPlane(QuietServer):
    """Both of RunPod's APIs, telling of a reference deployment."""

    def __init__(self, deployment: Deployment, statuses: dict[str, int]):
        super().__init__(ControlPlaneHandler)
        self.health = f"{deployment.url}/health"
        self.statuses = statuses  # by path, where it is not 200
        self.asked: list[tuple[str, str | None]] = []

    def running(self) -> int:
        with urllib.request.urlopen(self.health, timeout=10) as reply:
            return int(json.load(reply)["backend"].get("status") != "stopped")


class ControlPlaneHandler(QuietHandler):
    server: ControlPlane

    def do_GET(self) -> None:
        server, authorization = self.server, self.headers["Authorization"]
        server.asked.append((self.path, authorization))
        count = server.running()
        listed = [{"id": "w", "status": "RUNNING"}] * count
        states = {"running": count, "idle": 0, "initializing": 0}
        content = {
            "/v2/serverless/abc/workers": {
                "workers": listed,
                "summary": {**states, "total": count},
            },
            "/v2/abc/health": {"jobs": {"inQueue": 0}, "workers": {**states, "idle": 1 - count}},
        }[self.path]
        body = json.dumps({**content, "echo": authorization}).encode()
        self.send_response(server.statuses.get(self.path, 200))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def control_plane(deployment: Deployment, **statuses: int) -> Iterator[ControlPlane]:
    paths = {"workers": "/v2/serverless/abc/workers", "health": "/v2/abc/health"}
    server = ControlPlane(deployment, {paths[name]: code for name, code in statuses.items()})
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run_here(
    monkeypatch: pytest.MonkeyPatch, plane: ControlPlane, capsys: Any, arguments: list[str]
) -> Finished:
    """The script in this process, with RunPod's hosts replaced."""
    monkeypatch.setattr(script, "RUNPOD_WORKERS", plane.url)
    monkeypatch.setattr(script, "RUNPOD_HEALTH", plane.url)
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    code = script.main(arguments)
    out, err = capsys.readouterr()
    return Finished(code, out, err, Path("results").absolute())


def test_runpods_apis_count_and_their_key_goes_nowhere_else(
    sleepy: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with control_plane(sleepy) as plane:
        given = arguments(sleepy, "--runpod-endpoint", "abc", "--idle-timeout", 30, "--debug")
        with RawServer(pong) as health:
            finished = run_here(monkeypatch, plane, capsys, [*given, "--health-url", health.url])
            heads = b"".join(head for peer in health.peers for head in peer.heads)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"}), finished.out
    assert {path for path, _ in plane.asked} == {"/v2/serverless/abc/workers", "/v2/abc/health"}
    assert {key for _, key in plane.asked} == {f"Bearer {KEY}"}
    assert "running 0, idle 1" in " ".join(finished.err.split())  # raw states, as they came
    assert KEY.encode() not in heads
    assert "5ecret" not in finished.everything


def test_a_refusal_by_one_api_is_a_warning_and_the_other_is_used(
    sleepy: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with control_plane(sleepy, health=401) as plane:
        given = arguments(sleepy, "--runpod-endpoint", "abc", "--idle-timeout", 30)
        finished = run_here(monkeypatch, plane, capsys, given)
    found = statuses(finished)
    assert (finished.code, found["workers"], found["scale_down"]) == (0, "WARN", "PASS")
    assert "401" in detail(finished, "workers") and "RunPod v2" in detail(finished, "workers")
    assert "5ecret" not in finished.everything


def test_states_that_decide_nothing_leave_it_to_the_next_request(
    sleepy: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with control_plane(sleepy, workers=500) as plane:
        given = arguments(sleepy, "--runpod-endpoint", "abc")
        finished = run_here(monkeypatch, plane, capsys, given)
    found = statuses(finished)
    assert (finished.code, found["workers"], found["scale_down"]) == (0, "WARN", "PASS")
    assert "only a worker count could tell" in detail(finished, "scale_down")


def test_without_runpods_key_nothing_is_asked() -> None:
    finished = run_script(SCRIPT, "--url", "http://127.0.0.1:9", "--runpod-endpoint", "abc")
    assert finished.code == 3
    assert "RUNPOD_API_KEY" in finished.err


# --- silence


def test_no_connection_to_the_model_stays_open_in_the_silence(sleepless: Deployment) -> None:
    with RawServer(lasting) as server:
        quick = ("--idle-timeout", 0.6, "--probe-interval", 0.1, "--no-control")
        given = ("--url", server.url, "--health-url", sleepless.health_url)
        with start_script(SCRIPT, *given, *quick) as process:
            assert process.stderr
            until(process.stderr.readline, "no requests to the model")
            time.sleep(0.3)
            open_ones = [peer for peer in server.peers if peer.gone_ns is None]
            process.communicate(timeout=60)
        assert len(server.peers) > script.WARM_REQUESTS
        assert not open_ones


def lasting(peer: Any) -> None:
    """Keeps every connection open that the client does not close."""
    keep_answering(peer, answer(ONE_STREAM, "Content-Type: text/event-stream"))


# --- limits, refusals, interruptions


@pytest.mark.parametrize(
    ("per_minute", "undecided"), [(3, {"warm"}), (5, {"scale_down", "cold_start"})]
)
def test_the_keys_rate_limit_is_no_verdict(per_minute: int, undecided: set[str]) -> None:
    with running(ttft_ms=20, itl_ms=1, rate_limit=per_minute) as deployment:
        finished = check(deployment)
    assert finished.code == 3
    for name in undecided:
        assert statuses(finished)[name] == "SKIP"
        assert "Retry-After 60" in detail(finished, name)


def test_a_key_that_only_the_model_refuses_is_exit_3() -> None:
    with RawServer(only_models) as server:
        finished = run_script(SCRIPT, "--url", server.url, "--api-key", "sk-wrong", *QUICK)
    assert finished.code == 3
    assert "401" in finished.err


def only_models(peer: Any) -> None:
    while peer.request() is not None:
        listed = peer.heads[-1].startswith(b"GET /v1/models ")
        peer.send(answer(b'{"data": [{"id": "m"}]}') if listed else answer(status="401 No"))


def test_an_interrupted_wait_keeps_what_was_measured(sleepy: Deployment) -> None:
    given = arguments(sleepy, "--idle-timeout", 900, "--output", "json")
    with start_script(SCRIPT, *given) as process:
        assert process.stderr
        lines = until(process.stderr.readline, "no requests to the model")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    document = json.loads(out)
    phases = [record.get("phase") for record in document["requests"]]
    assert (process.returncode, document["interrupted"]) == (130, True)
    assert phases.count("first") == 1 and phases.count("warm") == script.WARM_REQUESTS
    assert any(record["kind"] == "health" for record in document["requests"])
    # before a wait of more than a minute: what may come
    assert "worst case from here: 46 minutes" in lines


def until(read_line: Callable[[], str], words: str) -> str:
    lines = ""
    while words not in lines:
        line = read_line()
        assert line, lines
        lines += line
    return lines


# --- judging


def waited(*counts: int | None, probed: bool = True) -> Any:
    readings = [Reading(float(at), count, "test") for at, count in enumerate(counts)]
    wait = script.Wait(0.0, 10.0, probed, ended_s=float(len(counts)))
    wait.readings = readings
    return wait


@pytest.mark.parametrize(
    ("counts", "zero_s", "awake"),
    [
        ((1, 0, 0, 0), 1.0, False),
        ((1, 0, 0), None, True),  # too few
        ((1, 0, None, 0, 0), None, False),  # a failed reading is not 0: nothing is decided
        ((1, 0, 1, 0, 1), None, True),
        ((1, 1, 1, None), None, True),
        ((None, None, None), None, False),
        ((), None, False),
    ],
)
def test_zero_takes_several_readings_in_a_row(
    counts: tuple[int | None, ...], zero_s: float | None, awake: bool
) -> None:
    wait = waited(*counts)
    assert (wait.zero_s, wait.awake) == (zero_s, awake)


def answered(phase: str, ttft_ms: float | None) -> Any:
    return script.Asked(phase, answers.streamed(ttft_ms))


def test_a_zero_that_wakes_as_fast_as_warm_is_a_warning() -> None:
    trial = script.Trial(waited(1, 0, 0, 0), cold=answered("cold", 25.0))
    found = script.check_cold_start([trial], [20.0, 21.0], 300.0)
    assert found.status is Status.WARN and "does the count see" in found.detail


def test_warm_only_after_a_while_is_a_warning() -> None:
    evidence = script.Evidence([answered("warm", 20.0), answered("after", 900.0)])
    assert script.check_warm_again(evidence).status is Status.FAIL
    evidence.asked.append(answered("after", 22.0))
    assert script.check_warm_again(evidence).status is Status.WARN


def probed(at_s: float, status: int, headers: dict[str, str]) -> Any:
    return script.Probe(at_s, answers.answer(status, headers))


NONE: dict[str, str] = {}
CLOUD = {"CF-Ray": "1"}


@pytest.mark.parametrize(
    ("probes", "counts", "status"),
    [
        ([(0.5, 200, NONE), (2.5, 200, NONE)], (1, 1, 0, 0, 0), "PASS"),
        ([(0.5, 200, NONE), (2.5, 502, CLOUD)], (1, 1, 0, 0, 0), "WARN"),  # asleep, and an edge
        ([(0.5, 502, CLOUD), (2.5, 502, CLOUD)], (1, 1, 0, 0, 0), "FAIL"),  # awake as well
        ([(0.5, 200, NONE), (2.5, 502, NONE)], (1, 1, 0, 0, 0), "FAIL"),  # nobody knows whose 502
        ([(0.5, 200, NONE), (2.5, 502, CLOUD)], (), "FAIL"),  # no count proves zero
        ([(0.5, 200, NONE), (2.5, 302, NONE)], (1, 1, 0, 0, 0), "FAIL"),
        ([(0.5, 204, NONE), (2.5, 200, NONE)], (1, 1, 0, 0, 0), "FAIL"),
    ],
)
def test_only_the_platform_may_answer_for_a_worker_that_is_not_there(
    probes: list[tuple[float, int, dict[str, str]]], counts: tuple[int, ...], status: str
) -> None:
    wait = waited(*counts)
    wait.probes = [probed(*each) for each in probes]
    found = script.check_health([script.Trial(wait)], "https://host:8001/ping")
    assert found.status.value == status, found.detail


def test_runpods_proxy_is_known_by_its_name() -> None:
    wait = waited(1, 1, 0, 0, 0)
    wait.probes = [probed(0.5, 200, NONE), probed(2.5, 404, NONE)]
    found = script.check_health([script.Trial(wait)], "https://x-8001.proxy.runpod.net/ping")
    assert found.status is Status.WARN


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (waited(1, 0, 0, 0, probed=False), "the probes keep it awake"),
        (waited(1, 1, 1, 1, probed=False), "it did not scale down"),
    ],
)
def test_the_control_says_whose_fault_it_is(control: Any, words: str) -> None:
    trials = [script.Trial(waited(1, 1, 1, 1)), script.Trial(control)]
    found = script.check_scale_down(trials, [20.0])
    assert found.status is Status.FAIL and words in found.detail


def waking(ttft_ms: float, blind_ms: float = 0.0, probed: bool = True) -> Any:
    """A wait without a count, and the request after it."""
    cold = answered("cold", ttft_ms)
    cold.blind_ms = blind_ms
    return script.Trial(waited(probed=probed), cold=cold)


@pytest.mark.parametrize(
    ("trials", "status", "words"),
    [
        ([waking(1000)], "PASS", "scaled down within"),
        ([waking(30)], "FAIL", "still awake"),  # no worker starts in 10 ms
        ([waking(200)], "SKIP", "woke within 180 ms"),
        ([waking(200), waking(210, probed=False)], "SKIP", "woke within 180 ms"),
        ([waking(200), waking(30, probed=False)], "FAIL", "did not scale down in 10 s either"),
        ([waking(200), waking(1500, probed=False)], "FAIL", "the probes keep it awake"),
        ([waking(400), waking(500, probed=False)], "SKIP", "cannot tell"),  # both may have slept
        ([waking(1000, blind_ms=900)], "SKIP", "this program could not run for 900 ms"),
    ],
)
def test_what_cannot_be_told_without_a_count_is_no_verdict(
    trials: list[Any], status: str, words: str
) -> None:
    found = script.check_scale_down(trials, [20.0, 22.0])
    assert (found.status.value, words in found.detail) == (status, True), found.detail
    assert found.essential is (status == "SKIP")


def told(wait_ms: float, prefill_ms: float, blind_ms: float = 0.0) -> Any:
    """The same from a server that tells how long its prefill took; a warm request waits 5 ms."""
    trial = waking(wait_ms + prefill_ms, blind_ms)
    trial.cold.answer.stream.timings = {"prompt_ms": prefill_ms}
    trial.warm_wait_ms = 5.0
    return trial


@pytest.mark.parametrize(
    ("trial", "status"),
    [
        (told(5, 100), "FAIL"),  # a slow prefill wakes nobody
        (told(5, 1000), "FAIL"),
        (told(150, 15), "SKIP"),
        (told(500, 15), "PASS"),
        (told(500, 15, blind_ms=200), "SKIP"),
    ],
)
def test_where_the_server_tells_its_prefill_the_rest_decides(trial: Any, status: str) -> None:
    found = script.check_scale_down([trial], [20.0, 200.0, 500.0])
    assert found.status.value == status, found.detail


def in_time(at_s: float, spent_ms: float, blind_ms: float = 0.0, **headers: str) -> Any:
    return script.Probe(at_s, answers.answer(200, headers, spent_ms=spent_ms), blind_ms)


@pytest.mark.parametrize(
    ("probes", "status", "words"),
    [
        ([in_time(0.5, 900), in_time(1, 20)], "PASS", "2 probes, all 200"),
        ([in_time(0.5, 20), in_time(1, 8000)], "FAIL", "1 of 2 probes took more than 1 s"),
        ([in_time(0.5, 1300, blind_ms=400), in_time(1, 20)], "SKIP", "could not run"),
        ([in_time(0.5, 1300, blind_ms=200), in_time(1, 20)], "FAIL", "gives up"),
        # the way behind a proxy is as long as the fastest answer, but no longer than the limit
        ([in_time(0.5, 1100, Via="x"), in_time(1, 200, Via="x")], "PASS", "2 probes"),
        ([in_time(0.5, 8000, Via="x"), in_time(1, 8000, Via="x")], "FAIL", "2 of 2"),
    ],
)
def test_a_probe_that_takes_longer_than_a_platform_allows_fails(
    probes: list[Any], status: str, words: str
) -> None:
    wait = waited()
    wait.probes = probes
    found = script.check_health([script.Trial(wait)], "https://host:8001/ping")
    assert (found.status.value, words in found.detail) == (status, True), found.detail


def test_a_failed_cold_request_without_a_count_leaves_it_undecided() -> None:
    trial = script.Trial(waited(), cold=answered("cold", None))
    found = script.check_scale_down([trial], [20.0])
    assert (found.status, found.essential) == (Status.SKIP, True)
    assert script.check_cold_start([trial], [20.0], 300.0).status is Status.FAIL


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([200, 200, 503, 503], "the first 2.0 s after the start: none was good after that"),
        ([200, 503, 503, 200], "the first 1.0 s after the start: the later ones were good"),
        ([503, 503, 200], ""),  # from the beginning
        ([200, 503, 200, 503], ""),
    ],
)
def test_a_health_url_that_goes_away_in_the_middle_is_named(statuses: list[int], said: str) -> None:
    probes = [probed(float(at), status, {}) for at, status in enumerate(statuses)]
    bad = [probe for probe in probes if probe.answer.status == 503]
    words = script.when_words(probes, bad)
    assert said in words and bool(said) == bool(words)
