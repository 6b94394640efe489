"""The gateway profile of the reference deployment: real processes, real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers.plain_client import (
    CHAT,
    ROOT,
    Answer,
    call,
    chat_body,
    connect,
    eventually,
    family,
    gone,
    on_linux,
    rss_mib,
    up,
    with_model,
)

from reference import Deployment, StartError, running
from reference.engine_client import Reply, events
from reference.faults import CLOSED, FAULTS, SOUND

ORIGIN = "https://app.example"


def chat(deployment: Deployment, max_tokens: int = 4, **more: Any) -> Answer:
    body = chat_body(max_tokens, **more)
    bearer = f"Bearer {deployment.api_key}"
    return call(deployment.url, CHAT, "POST", body, Authorization=bearer)


def send_chat(deployment: Deployment, max_tokens: int) -> socket.socket:
    """Send a chat request. The caller reads the answer or closes the socket."""
    parts = urlsplit(deployment.url)
    sock = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
    body = chat_body(max_tokens)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {deployment.api_key}\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def queue(deployment: Deployment) -> dict[str, int]:
    found: dict[str, int] = call(deployment.url, "/health").json["queue"]
    return found


@pytest.fixture(scope="module")
def plain() -> Iterator[Deployment]:
    with running(rate_limit=0, cors_origins=[ORIGIN], ttft_ms=30, itl_ms=10) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def short_queue() -> Iterator[Deployment]:
    """The queue of the guide: one request is served at a time, two may wait."""
    limits: dict[str, Any] = {"max_concurrent_requests": 1, "max_queue_size": 2}
    with running(ttft_ms=20, itl_ms=10, rate_limit=0, **limits) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[Deployment]:
    """No key, any origin, connections that stay open, answers of 5 tokens."""
    options: dict[str, Any] = {"auth_enabled": False, "cors_origins": "*", "output_tokens": 5}
    with running(connection="keep-alive", ttft_ms=5, itl_ms=1, **options) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def sleepy() -> Iterator[Deployment]:
    """The engine is stopped after 0.4 s without requests and needs 0.4 s to start."""
    with running(idle_timeout=0.4, load_ms=400, ttft_ms=5, itl_ms=5) as deployment:
        yield deployment


# --- starting and ending


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@on_linux
def test_it_prints_the_environment_then_ready_and_ends_without_a_trace(number: int) -> None:
    command = [sys.executable, "-m", "reference", "up", "--engine", "sim"]
    command += ["--port", "0", "--health-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        pids = family(process.pid)
        process.send_signal(number)
        assert process.wait(10) == 0
    assert re.fullmatch(r"export INFERENCE_URL=http://127\.0\.0\.1:\d+\n", lines[0])
    assert re.fullmatch(r"export INFERENCE_API_KEY=sk-\w+\n", lines[1])
    assert re.fullmatch(r"export HEALTH_URL=http://127\.0\.0\.1:\d+\n", lines[2])
    assert re.fullmatch(r"export INFERENCE_OTHER_KEY=sk-\w+\n", lines[4])
    assert lines[5].startswith("# ready")
    assert len(pids) == 3  # gateway, engine, health server
    assert eventually(lambda: gone(pids))


@on_linux
def test_the_children_of_a_killed_gateway_end_as_well() -> None:
    with running() as deployment:
        pids = family(deployment.process.pid)
        deployment.process.kill()
        assert eventually(lambda: gone(pids))


@on_linux
def test_it_ends_at_once_while_a_request_is_served() -> None:
    with running() as deployment, contextlib.closing(send_chat(deployment, 200)) as sock:
        sock.recv(1000)
        pids = family(deployment.process.pid)
        started_s = time.monotonic()
        assert deployment.stop(signal.SIGINT) == 0
        assert time.monotonic() - started_s < 3
        assert gone(pids)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--port", "x", "--port must be a whole number from 0 to 65535, not 'x'"),
        ("--max-queue-size", "-1", "--max-queue-size must be a whole number of at least 0"),
        ("--idle-timeout", "nan", "--idle-timeout must be a number"),
        ("--auth-enabled", "perhaps", "--auth-enabled must be true or false"),
        ("--engine", "vllm", "--engine must be llama or sim"),
        ("--connection", "upgrade", "--connection must be close or keep-alive"),
        ("--model-path", "/nowhere.gguf", "--model-path must be an existing file"),
        ("--fault", "no-such", "no fault 'no-such'"),
        ("--profile", "moon", "invalid choice: 'moon'"),
        ("--no-such-option", "1", "unrecognized arguments"),
    ],
)
def test_bad_options_end_in_one_line_and_exit_2(option: str, value: str, words: str) -> None:
    ended = up("--engine=sim", f"{option}={value}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_bad_variable_is_named_and_an_option_wins_over_it() -> None:
    ended = up(MAX_QUEUE_SIZE="many")
    assert ended.returncode == 2
    assert ended.stderr.startswith("reference: MAX_QUEUE_SIZE must be a whole number")
    ended = up("--max-queue-size=-2", MAX_QUEUE_SIZE="2")
    assert "--max-queue-size" in ended.stderr


def test_a_bad_key_is_not_shown() -> None:
    ended = up("--engine=sim", "--api-keys=sk-geheim-ä")
    assert ended.returncode == 2
    assert "geheim" not in ended.stderr


@pytest.mark.parametrize("option", ["port", "health_port"])
def test_a_port_in_use_is_one_line_and_exit_1(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flag = f"--{option.replace('_', '-')}"
        ports = {"--port": "0", "--health-port": "0", flag: str(port)}
        ended = up("--engine=sim", *[f"{name}={value}" for name, value in ports.items()])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"port {port}" in ended.stderr
    assert flag in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_running_says_why_it_cannot_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(StartError, match="engine did not start"):
        with running(engine="llama", model_path=broken):
            pass


def test_settings_in_the_environment_do_not_reach_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_REQUESTS", "3")
    monkeypatch.setenv("AUTH_ENABLED", "false")
    with running(slots=5) as deployment:
        assert queue(deployment)["max_concurrent"] == 5
        assert deployment.api_key.startswith("sk-")


# --- the gateway's own endpoints


def test_ping_needs_no_key_and_is_empty(plain: Deployment) -> None:
    answer = call(plain.url, "/ping")
    assert (answer.status, answer.body) == (200, b"")


def test_health_has_the_documented_fields(plain: Deployment) -> None:
    health = call(plain.url, "/health").json
    assert list(health) == ["status", "code", "backend", "gateway", "queue", "authentication"]
    assert (health["status"], health["code"], health["backend"]) == ("ok", 200, {"status": "ok"})
    assert list(health["gateway"]["metrics"]) == [
        "requests_total",
        "requests_success",
        "requests_error",
        "requests_active",
        "requests_authenticated",
        "requests_unauthorized",
        "bytes_sent",
        "queue_depth",
        "queue_rejections",
        "queue_wait_seconds_total",
        "uptime_seconds",
    ]
    assert list(health["queue"]) == ["max_concurrent", "max_queue_size", "active", "waiting"]
    assert health["queue"]["max_queue_size"] == 0
    assert health["authentication"] == {"enabled": True}


def test_metrics_are_json_unless_the_client_accepts_text(plain: Deployment) -> None:
    for accept in ("*/*", "application/json", "text/html"):
        assert "requests_total" in call(plain.url, "/metrics", Accept=accept).json["gateway"]
    figures = call(plain.url, "/metrics").json["gateway"]
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        answer = call(plain.url, "/metrics", Accept=accept)
        assert answer.headers["Content-Type"].startswith(accept.partition(";")[0])
        samples = re.findall(r"^gateway_(\w+) [\d.e+-]+$", answer.body.decode(), re.MULTILINE)
        assert samples == list(figures)


def test_requests_are_counted(plain: Deployment) -> None:
    def figures() -> dict[str, float]:
        found: dict[str, float] = call(plain.url, "/metrics").json["gateway"]
        return found

    before = figures()
    sent = len(chat(plain).body)
    call(plain.url, "/v1/models")
    after = figures()
    grown = {name: after[name] - before[name] for name in after}
    assert (grown["requests_total"], grown["requests_success"], grown["requests_error"]) == (
        2,
        1,
        1,
    )
    assert (grown["requests_authenticated"], grown["requests_unauthorized"]) == (1, 1)
    assert grown["bytes_sent"] >= sent


def test_the_health_server_answers_any_path(plain: Deployment) -> None:
    for path in ("/ping", "/", "/anything?at=all"):
        answer = call(plain.health_url, path)
        assert (answer.status, answer.body) == (200, b"")


# --- refusals


@pytest.mark.parametrize("credential", ["", "Bearer", "Bearer sk-wrong", "Basic {key}", "{key}"])
def test_a_wrong_key_is_a_401(plain: Deployment, credential: str) -> None:
    sent = credential.format(key=plain.api_key)
    answer = call(plain.url, CHAT, "POST", chat_body(), Authorization=sent)
    assert answer.status == 401
    assert answer.json["error"]["code"] == "invalid_api_key"
    assert plain.api_key not in answer.body.decode()


def test_a_part_of_the_key_is_a_401(plain: Deployment) -> None:
    answer = call(plain.url, "/v1/models", Authorization=f"Bearer {plain.api_key[:-1]}")
    assert answer.status == 401


def test_without_authentication_no_key_is_needed(open_to_all: Deployment) -> None:
    assert open_to_all.api_key == ""
    assert call(open_to_all.url, "/v1/models").status == 200


def test_keys_can_be_chosen_and_each_has_its_own_rate_limit() -> None:
    with running(api_keys=["sk-one", "sk-two"], rate_limit=3) as deployment:
        assert deployment.api_key == "sk-one"

        def ask(key: str) -> Answer:
            return call(deployment.url, "/v1/models", Authorization=f"Bearer {key}")

        assert ask("sk-three").status == 401
        assert [ask("sk-one").status for _ in range(4)] == [200, 200, 200, 429]
        assert ask("sk-two").status == 200
        assert call(deployment.url, "/ping").status == 200
        refused = ask("sk-one")
        assert refused.headers["Retry-After"] == "60"
        assert refused.json["error"]["code"] == "rate_limit_exceeded"


def test_an_error_has_the_form_of_openai_s_api(plain: Deployment) -> None:
    bearer = f"Bearer {plain.api_key}"

    def ask(path: str, method: str = "POST", body: bytes | None = b"{}", **more: str) -> Answer:
        return call(plain.url, path, method, body, Authorization=bearer, **more)

    answers = [
        (404, ask("/nothing")),
        (404, ask("/v1/nothing")),
        (404, ask(CHAT, "DELETE")),
        (400, ask(CHAT, body=b"no JSON")),
        (400, ask(CHAT, body=b'{"messages": "a string"}')),
        (400, ask(CHAT, body=None)),
        (413, ask(CHAT, body=b" " * (10 * 2**20 + 1))),
        (414, ask("/v1/models?" + "x" * 9000, "GET", None)),
        (431, ask("/v1/models", "GET", None, X_Long="x" * 9000)),
    ]
    for status, answer in answers:
        assert answer.status == status
        assert isinstance(answer.json["error"]["message"], str)


def test_a_malformed_http_request_is_a_400(plain: Deployment) -> None:
    parts = urlsplit(plain.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as sock:
        sock.sendall(b"what is this\r\n\r\n")
        answer = sock.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_a_silent_engine_is_a_504_with_an_integer_code() -> None:
    with running(ttft_ms=10_000, request_timeout=0.2) as deployment:
        answer = chat(deployment, stream=False)
        assert (answer.status, answer.json["error"]["code"]) == (504, 504)


# --- the queue


def test_one_request_is_served_two_wait_and_the_next_is_refused_at_once(
    short_queue: Deployment,
) -> None:
    sockets = []
    for number in range(3):
        sockets.append(send_chat(short_queue, 30))
        assert eventually(lambda: sum_of_queue(short_queue) == len(sockets)), number
    assert queue(short_queue) == {
        "max_concurrent": 1,
        "max_queue_size": 2,
        "active": 1,
        "waiting": 2,
    }
    started_s = time.monotonic()
    refused = chat(short_queue)
    assert time.monotonic() - started_s < 0.5
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert refused.json == {
        "error": {
            "message": "Server busy, try again later",
            "type": "server_error",
            "code": "queue_full",
        }
    }
    assert call(short_queue.url, "/ping").status == 200
    ended = read_all(sockets)
    assert sorted(ended) == ended  # first in, first out
    figures = call(short_queue.url, "/metrics").json["gateway"]
    assert (figures["queue_depth"], figures["requests_active"]) == (0, 0)
    assert figures["queue_rejections"] >= 1
    assert figures["queue_wait_seconds_total"] > 0.6  # one waited 0.3 s, the other one 0.6 s


def sum_of_queue(deployment: Deployment) -> int:
    now = queue(deployment)
    return now["active"] + now["waiting"]


def read_all(sockets: list[socket.socket]) -> list[float]:
    """Read every stream to its end. Returns when each ended, in the order of the sockets."""
    ended_s = [0.0] * len(sockets)

    def read(index: int) -> None:
        with contextlib.closing(sockets[index]) as sock, sock.makefile("rb") as answer:
            assert answer.read().endswith(b"data: [DONE]\n\n")
        ended_s[index] = time.monotonic()

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(sockets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ended_s)
    return ended_s


def test_a_client_that_leaves_frees_its_place_in_the_queue(short_queue: Deployment) -> None:
    active = send_chat(short_queue, 250)
    assert eventually(lambda: queue(short_queue)["active"] == 1)
    leaving, staying = send_chat(short_queue, 250), None
    assert eventually(lambda: queue(short_queue)["waiting"] == 1)
    staying = send_chat(short_queue, 5)
    assert eventually(lambda: queue(short_queue)["waiting"] == 2)
    leaving.close()
    assert eventually(lambda: queue(short_queue)["waiting"] == 1, 0.5)
    active.recv(100)
    active.close()  # its answer would have taken 2 s more
    started_s = time.monotonic()
    read_all([staying])
    assert time.monotonic() - started_s < 1.5
    assert eventually(lambda: sum_of_queue(short_queue) == 0, 0.5)


def test_a_client_that_leaves_frees_the_engine() -> None:
    with running(slots=1, max_concurrent_requests=2, ttft_ms=10, itl_ms=20) as deployment:
        with contextlib.closing(send_chat(deployment, 250)) as sock:
            sock.recv(100)
        started_s = time.monotonic()
        chat(deployment, 1)  # the first request would have used the only slot for 5 s
        assert time.monotonic() - started_s < 2


# --- CORS


def test_an_allowed_origin_gets_its_headers_on_every_answer(plain: Deployment) -> None:
    bearer = f"Bearer {plain.api_key}"
    answers = [
        call(plain.url, CHAT, "OPTIONS", Origin=ORIGIN, Access_Control_Request_Method="POST"),
        call(plain.url, CHAT, "POST", chat_body(), Origin=ORIGIN, Authorization=bearer),
        call(plain.url, CHAT, "POST", chat_body(), Origin=ORIGIN),
        call(plain.url, "/nothing", Origin=ORIGIN),
        call(plain.url, "/ping", Origin=ORIGIN),
    ]
    assert [answer.status for answer in answers] == [204, 200, 401, 404, 200]
    for answer in answers:
        assert answer.headers.get_all("Access-Control-Allow-Origin") == [ORIGIN]
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
        assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
        assert answer.headers["Access-Control-Max-Age"] == "86400"
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", f"{ORIGIN}.evil.example", "null", ""])
def test_other_origins_get_no_cors_header(plain: Deployment, origin: str) -> None:
    headers: dict[str, Any] = {"Origin": origin} if origin else {}
    for method, path in (("OPTIONS", CHAT), ("GET", "/ping"), ("GET", "/v1/models")):
        answer = call(plain.url, path, method, **headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_star_allows_every_origin(open_to_all: Deployment) -> None:
    answer = call(open_to_all.url, "/ping", Origin="https://any.example")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


# --- framing


def test_by_default_every_answer_closes_the_connection_and_no_stream_is_chunked(
    plain: Deployment,
) -> None:
    stream = chat(plain)
    answers = [stream, call(plain.url, "/ping"), call(plain.url, "/nothing"), call(plain.url, CHAT)]
    for answer in answers:
        assert answer.headers["Connection"] == "close"
        assert "Transfer-Encoding" not in answer.headers
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert "Content-Length" not in stream.headers
    assert stream.body.endswith(b"data: [DONE]\n\n")


def test_with_keep_alive_streams_are_chunked_and_connections_reused(
    open_to_all: Deployment,
) -> None:
    with contextlib.closing(connect(open_to_all.url)) as connection:
        for _ in range(3):
            connection.request("POST", CHAT, chat_body())
            sock = connection.sock
            reply = connection.getresponse()
            assert reply.headers["Transfer-Encoding"] == "chunked"
            assert reply.read().endswith(b"data: [DONE]\n\n")
            assert connection.sock is sock


# --- an engine that is idle, silent or dead


def engine_is_stopped(deployment: Deployment) -> bool:
    """Whether only the gateway and the health server run, and `/health` reports it."""
    processes = family(deployment.process.pid)
    return len(processes) == 2 and call(deployment.url, "/health").json["status"] == "error"


@on_linux
def test_an_idle_engine_is_stopped_and_only_inference_starts_it(sleepy: Deployment) -> None:
    assert chat(sleepy).status == 200
    assert call(sleepy.url, "/health").json["status"] == "ok"
    assert eventually(lambda: engine_is_stopped(sleepy))
    for _ in range(3):
        assert call(sleepy.url, "/ping").status == 200
        assert call(sleepy.url, "/health").json["status"] == "error"
        assert call(sleepy.url, "/metrics").status == 200
        assert call(sleepy.health_url, "/ping").status == 200
        models = call(sleepy.url, "/v1/models", Authorization=f"Bearer {sleepy.api_key}")
        assert [model["id"] for model in models.json["data"]] == ["sim"]
        refused = call(sleepy.url, CHAT, "POST", chat_body(), Authorization="Bearer no")
        assert refused.status == 401
    assert engine_is_stopped(sleepy)
    started_s = time.monotonic()
    assert chat(sleepy).status == 200
    cold_s = time.monotonic() - started_s
    started_s = time.monotonic()
    assert chat(sleepy).status == 200
    assert 0.4 < cold_s
    assert time.monotonic() - started_s < 0.3
    assert call(sleepy.url, "/health").json["status"] == "ok"


@on_linux
def test_a_long_answer_keeps_the_engine_running(sleepy: Deployment) -> None:
    answer = chat(sleepy, 100)  # 0.5 s, while an idle engine is stopped after 0.4 s
    assert answer.text.count(" ") == 100


def test_requests_that_start_the_engine_together_are_all_served(sleepy: Deployment) -> None:
    assert eventually(lambda: call(sleepy.url, "/health").json["status"] == "error")
    sockets = [send_chat(sleepy, 3) for _ in range(6)]
    sockets.pop(0).close()  # its request began the start, which must go on without it
    read_all(sockets)


@on_linux
def test_an_engine_that_dies_breaks_its_streams_and_is_started_again() -> None:
    with running(ttft_ms=5, itl_ms=10) as deployment:
        with contextlib.closing(send_chat(deployment, 250)) as sock, sock.makefile("rb") as answer:
            sock.recv(100)
            os.kill(engine_pid(deployment), signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                assert not answer.read().endswith(b"data: [DONE]\n\n")
        # The gateway may notice the end of the stream before that of the process: then the first
        # answer is a 502.
        assert eventually(lambda: chat(deployment).status == 200)


def engine_pid(deployment: Deployment) -> int:
    for pid in family(deployment.process.pid):
        if b"reference.sim" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no engine")


# --- the simulated engine


def test_sim_keeps_its_times_and_reports_them() -> None:
    with running(ttft_ms=100, itl_ms=20) as deployment:
        started_s = time.monotonic()
        answer = chat(deployment, 11, stream_options={"include_usage": True})
        took_s = answer.ended_s - started_s
    *_, finish, last = answer.events
    timings = last["timings"]
    assert answer.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert finish["choices"][0]["finish_reason"] == "length"
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 4, "completion_tokens": 11, "total_tokens": 15}
    assert (timings["predicted_n"], timings["prompt_n"], timings["cache_n"]) == (11, 4, 0)
    assert 100 <= timings["prompt_ms"] < 150
    assert 170 < timings["predicted_ms"] < 250  # ten intervals; the first may come late
    assert 0.3 <= took_s < 0.6


def test_sim_ends_at_the_limit_or_by_itself(plain: Deployment, open_to_all: Deployment) -> None:
    limited = chat(plain, 3, stream=False).json
    assert limited["choices"][0]["finish_reason"] == "length"
    assert limited["usage"]["completion_tokens"] == 3
    complete = chat(open_to_all, 100, stream=False).json
    assert complete["choices"][0]["finish_reason"] == "stop"
    assert complete["usage"]["completion_tokens"] == 5
    newer_option = chat(open_to_all, 100, max_completion_tokens=2)
    assert len(newer_option.events) == 4  # role, two tokens, finish_reason


def test_sim_serves_as_many_at_once_as_it_has_slots() -> None:
    with running(slots=2, max_concurrent_requests=8, ttft_ms=100, itl_ms=1) as deployment:
        started_s = time.monotonic()
        read_all([send_chat(deployment, 1) for _ in range(4)])
        assert 0.2 <= time.monotonic() - started_s < 0.4


# --- faults


def test_the_fault_table_is_sound() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    listed = subprocess.run(
        [sys.executable, "-m", "reference", "faults"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    names = {each.name for each in (*FAULTS, *SOUND, *CLOSED)}
    assert {line.split()[0] for line in listed} == names


HOSTILE_FAULTS = ["never-answers", "stream-stalls", "stream-endless", "flood", "stream-huge-line"]


@pytest.mark.parametrize("name", HOSTILE_FAULTS)
def test_with_a_hostile_fault_the_gateway_still_answers_and_ends(name: str) -> None:
    with running(faults=[name], ttft_ms=1, itl_ms=1) as deployment:
        sockets = [send_chat(deployment, 20) for _ in range(2)]
        assert eventually(lambda: queue(deployment)["active"] > 0 or name == "stream-huge-line")
        sockets.pop().close()
        assert call(deployment.url, "/ping").status == 200
        started_s = time.monotonic()
        assert deployment.stop() == 0
        assert time.monotonic() - started_s < 3
        sockets.pop().close()


def test_the_fault_stream_reset_resets_the_connection() -> None:
    with running(faults=["stream-reset"], ttft_ms=1, itl_ms=1) as deployment:
        with contextlib.closing(send_chat(deployment, 20)) as sock:
            with pytest.raises(ConnectionResetError):
                while sock.recv(4096):
                    pass


def test_two_faults_can_be_planted_together() -> None:
    with running(faults=["ping-500", "no-done"], ttft_ms=1, itl_ms=1) as deployment:
        assert call(deployment.url, "/ping").status == 500
        assert not chat(deployment).body.endswith(b"data: [DONE]\n\n")


# --- the client of the engine


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n"
)
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!"
UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\nhello!"


@pytest.mark.parametrize("message", [CHUNKED, SIZED, UNTIL_END])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_engine_s_answer_is_read_in_pieces_of_any_size(message: bytes, size: int) -> None:
    reply = Reply()
    for start in range(0, len(message), size):
        assert not reply.complete
        reply.feed(message[start : start + size])
    reply.feed_end()
    assert (reply.status, reply.complete, drain(reply)) == (200, True, b"hello!")


def drain(reply: Reply) -> bytes:
    """The body of a complete reply, read without an event loop."""
    reading = reply.read()
    try:
        reading.send(None)
    except StopIteration as done:
        body: bytes = done.value
        return body
    raise AssertionError("the body is not complete")


def test_a_chunked_answer_that_ends_too_early_is_an_error() -> None:
    reply = Reply()
    reply.feed(CHUNKED[:-3])
    reply.feed_end()
    with pytest.raises(Exception, match="closed the connection"):
        drain(reply)


def test_events_are_found_in_a_stream_split_anywhere() -> None:
    stream = b'data: {"a": 1}\n\n: comment\n\ndata: [DONE]\n\n'

    async def pieces(size: int) -> Any:
        for start in range(0, len(stream), size):
            yield stream[start : start + size]

    async def collect(size: int) -> list[bytes]:
        return [event async for event in events(pieces(size))]

    for size in (1, 2, 5, 100):
        reading = collect(size)
        with pytest.raises(StopIteration) as done:
            reading.send(None)
        assert done.value.value == [part + b"\n\n" for part in stream.split(b"\n\n")[:-1]]


# --- the real model


@with_model
@on_linux
def test_llama_serves_eight_at_once_in_bounded_memory() -> None:
    with running(engine="llama") as deployment:
        answer = chat(deployment, 3, stream=False).json
        assert answer["usage"]["completion_tokens"] == 3
        assert answer["timings"]["predicted_n"] == 3
        read_all([send_chat(deployment, 16) for _ in range(8)])
        assert rss_mib(family(deployment.process.pid)) < 1500
        models = call(
            deployment.url, "/v1/models", Authorization=f"Bearer {deployment.api_key}"
        ).json
        assert "smollm2" in models["data"][0]["id"]
        pids = family(deployment.process.pid)
    assert gone(pids)
