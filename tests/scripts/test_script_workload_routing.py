"""test_workload_routing.py: its arithmetic, whom it takes for whom, and odd deployments."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers.hostile import HEAD, Call, Server, delta, error, event, good_stream, response
from helpers.scripts import Finished, run_script, start_script

import test_workload_routing as workload
from common import Status
from livecheck.fleet import old_api as api
from livecheck.fleet.old_api import Entry, Runner
from reference import Deployment, running

SCRIPT = "test_workload_routing.py"
QUICK = {"profile": "fleet", "engine": "sim", "ttft_ms": 10, "itl_ms": 1}
RESULT = "workload_routing"
TOKEN = ("--token", "opaque-key")
MODEL = "small:1b"
DONE = b"data: [DONE]\n\n"


def check(deployment: Deployment, *arguments: object) -> Finished:
    return run_script(SCRIPT, *arguments, env=deployment.environment)


def check_as_user(url: str, *arguments: object) -> Finished:
    return run_script(SCRIPT, "--url", url, *TOKEN, *arguments)


def statuses(finished: Finished) -> dict[str, str]:
    return {each["name"]: each["status"] for each in finished.document(RESULT)["checks"]}


def detail(finished: Finished, name: str) -> str:
    text: str = finished.check(RESULT, name)["detail"]
    return text


# --- a gateway made of what a test wants


@dataclass
class Gateway:
    """Answers like a fleet. `serve` says who serves the n-th request; `times`: what a log's
    timestamp is of; `foreign`: others' entries that come into it with each request of ours."""

    serve: Callable[[int], str] = lambda number: "ab"[number % 2]
    header: str | None = None
    model: Callable[[str], str] = lambda runner: MODEL
    fields: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.05
    has_log: bool = True
    has_runners: bool = True
    times: str | None = "begin"
    lag_s: float = 0.0
    per_page: int = 50
    foreign: Callable[[int], str | None] = lambda number: None

    def __post_init__(self) -> None:
        self.entries: list[tuple[float, dict[str, Any]]] = []
        self.count = itertools.count()

    def __call__(self, call: Call) -> None:
        path, _, query = call.path.partition("?")
        if path == "/v1/models":
            call.send(response(200, {"data": [{"id": MODEL}]}))
        elif path == "/v1/chat/completions":
            self.chat(call)
        elif path == "/admin/runners" and self.has_runners:
            call.send(response(200, {"runners": [a_runner(name) for name in "ab"]}))
        elif path == "/admin/api/requests" and self.has_log:
            call.send(response(200, {"requests": self.page(query)}))
        else:
            call.send(response(404, b"Not found"))

    def chat(self, call: Call) -> None:
        number, begun = next(self.count), datetime.now(timezone.utc)
        runner = self.serve(number)
        call.wait(self.delay_s)
        name = self.model(runner)
        parts = [delta(model=name, **self.fields), delta(" one"), delta(reason="stop")]
        head = HEAD
        if self.header:
            head = HEAD.replace(b"\r\n\r\n", f"\r\n{self.header}: {runner}\r\n\r\n".encode())
        self.log(runner, begun, name)
        if other := self.foreign(number):
            self.log(other, begun, name)
        call.send(head + b"".join(parts) + b"data: [DONE]\n\n")

    def log(self, runner: str, begun: datetime, model: str) -> None:
        ended = datetime.now(timezone.utc)
        moment = {"begin": begun, "end": ended, None: None}[self.times]
        skewed = moment and moment + timedelta(hours=2, seconds=7)  # its clock is another one
        entry = {
            "id": f"entry-{len(self.entries)}",
            "timestamp": skewed and skewed.isoformat(),
            "model": model,
            "status": "success",
            "latency_ms": round((ended - begun).total_seconds() * 1e3),
            "runner_id": runner,
            "wol_sent": False,
        }
        self.entries.append((time.monotonic() + self.lag_s, entry))

    def page(self, query: str) -> list[dict[str, Any]]:
        page = int(query.partition("page=")[2].partition("&")[0])
        shown = [entry for since, entry in self.entries if since <= time.monotonic()][::-1]
        return shown[(page - 1) * self.per_page : page * self.per_page]


def a_runner(name: str, online: bool = True, model: str = MODEL) -> dict[str, Any]:
    models = {"loaded_models": [model], "available_models": []}
    return {"id": name, "name": f"runner {name}", "is_online": online, **models}


@pytest.fixture
def admin(tmp_path: Path) -> tuple[str, str]:
    """A token binary, whose tokens a made-up gateway does not look at."""
    script = tmp_path / "get-token"
    script.write_text("#!/bin/sh\necho any-token\n")
    script.chmod(0o755)
    return "--token-binary", str(script)


def check_made_up(gateway: Gateway, *arguments: object) -> Finished:
    with Server(everywhere=gateway) as server:
        return run_script(SCRIPT, "--url", server.url, *arguments)


# --- sound deployments


@pytest.fixture(scope="module")
def sound() -> Iterator[Deployment]:
    with running(**QUICK) as deployment:
        yield deployment


def test_a_sound_fleet_passes_strictly(sound: Deployment) -> None:
    finished = check(sound, "--requests", 20, "--expect-runners", 2, "--strict")
    assert finished.code == 0
    assert set(statuses(finished).values()) == {"PASS"}
    metrics = finished.document(RESULT)["metrics"]
    assert metrics["source"] == "the admin log"
    assert [row["runner"] for row in metrics["runners"]] in (["desk", "tower"], ["tower", "desk"])
    assert sum(row["requests"] for row in metrics["runners"]) == 20
    assert max(map(len, finished.out.splitlines())) <= 80


def test_one_by_one_shares_are_reported_and_only_failures_fail(sound: Deployment) -> None:
    finished = check(sound, "--sequential", "--requests", 5)
    assert finished.code == 0
    assert statuses(finished) == {"requests": "PASS", "distribution": "SKIP", "idle": "SKIP"}
    assert "desk 5 (100 %)" in detail(finished, "distribution")


def test_timing_is_told_in_three_parts_with_what_it_says(sound: Deployment) -> None:
    finished = check(sound, "--analyze-timing", "--requests", 16, "--workers", 16)
    assert finished.code == 0
    for label in ("effective parallelism", "alone", "1 to 6", "7 to 12", "13 to 16"):
        assert f"  {label}" in finished.out
    assert re.search("mixed: of the first 1[56], about [345] at a time", finished.out)
    assert finished.document(RESULT)["metrics"]["timing"] == "mixed"


def test_without_the_admin_api_a_fleet_of_equal_runners_is_undecided(sound: Deployment) -> None:
    environment = {**sound.environment, "TOKEN_BINARY": ""}
    finished = run_script(SCRIPT, "--expect-runners", 2, env=environment)
    assert finished.code == 3
    assert statuses(finished)["requests"] == "PASS"
    for name in ("distribution", "expect_runners"):
        assert statuses(finished)[name] == "SKIP"
        assert "cannot be told apart" in detail(finished, name)
    assert "no admin token: --token-binary makes one" in detail(finished, "distribution")


def test_a_single_runner_has_nothing_to_distribute() -> None:
    with running(**QUICK, runners=1) as deployment:
        allowed = check(deployment, "--max-share", 1)
        finished = check(deployment)
    assert (allowed.code, finished.code) == (0, 3)
    assert "desk is the only runner online" in detail(finished, "distribution")


def test_a_fleet_that_sleeps_is_woken_and_who_still_sleeps_is_named() -> None:
    with running(**QUICK, asleep=True) as deployment:
        finished = check(deployment)
    assert finished.code == 3
    assert statuses(finished)["requests"] == "PASS"
    assert "desk is the only runner online; offline: tower" in detail(finished, "distribution")


def test_a_fleet_that_wakes_too_slowly_says_what_to_do() -> None:
    with running(**QUICK, asleep=True, boot_ms=20000) as deployment:
        finished = check(deployment, "--timeout", 1)
    assert finished.code == 3
    assert "the fleet slept and did not wake in 1 s" in finished.err


def test_runners_with_other_models_are_not_blamed_for_being_idle() -> None:
    with running(**QUICK, models="desk=small:1b;tower=large:70b-big") as deployment:
        finished = check(deployment)
    assert finished.code == 3
    assert "the only one online with small:1b" in detail(finished, "distribution")
    assert statuses(finished)["idle"] == "SKIP"


# --- who served


@pytest.mark.parametrize("times", ["begin", "end", None])
def test_the_log_tells_whatever_its_times_are_of(times: str | None, admin: tuple[str, str]) -> None:
    gateway = Gateway(times=times, lag_s=0.5, per_page=7)
    finished = check_made_up(gateway, *admin, "--requests", 20)
    assert finished.code == 0
    rows = finished.document(RESULT)["metrics"]["runners"]
    assert {row["runner"]: row["requests"] for row in rows} == {"runner a": 10, "runner b": 10}
    assert finished.document(RESULT)["metrics"]["requests_of_others"] == {}


def test_others_requests_that_look_like_ours_leave_it_undecided(admin: tuple[str, str]) -> None:
    gateway = Gateway(serve=lambda number: "a", foreign=lambda number: "b" if number % 2 else None)
    finished = check_made_up(gateway, *admin)
    assert finished.code == 3
    assert "others' requests that look the same in the log: 5" in detail(finished, "distribution")
    assert sum(finished.document(RESULT)["metrics"]["requests_of_others"].values()) == 5


def test_others_requests_do_not_make_a_runner_that_was_expected(admin: tuple[str, str]) -> None:
    gateway = Gateway(serve=lambda number: "a", foreign=lambda number: "b")
    finished = check_made_up(gateway, *admin, "--expect-runners", 2)
    assert finished.code == 3
    assert "look the same in the log: 10" in detail(finished, "expect_runners")


@pytest.mark.parametrize("status", [200, 500])
def test_a_log_that_costs_time_is_given_up(status: int, admin: tuple[str, str]) -> None:
    class Slow(Gateway):
        def __call__(self, call: Call) -> None:
            if not call.path.startswith("/admin/api/requests"):
                return super().__call__(call)
            call.wait(0.8)
            page = [
                {"id": f"e{next(self.count)}", "model": MODEL, "latency_ms": 1, "runner_id": "a"}
                for _ in range(50)
            ]
            return call.send(response(status, {"requests": page}))

    begun = time.monotonic()
    finished = check_made_up(Slow(), *admin, "--timeout", 2)
    assert time.monotonic() - begun < 8
    assert finished.code == 3
    assert "PASS" not in (statuses(finished)["distribution"], statuses(finished)["idle"])


def test_of_a_log_with_huge_pages_only_so_many_entries_are_looked_at() -> None:
    numbers = itertools.count()

    def serve(call: Call) -> None:
        page = [{"id": f"e{next(numbers)}"} for _ in range(4000)]
        call.send(response(200, {"requests": page}))

    with Server(everywhere=serve) as server:
        target = workload.wire.Target(server.url, None)
        with workload.wire.Wire(target, 5) as instrument:
            run = argparse.Namespace(
                credentials=argparse.Namespace(has_binary=True),
                token=lambda role: "any-token",
                verbose=lambda text: None,
                debug=lambda text: None,
            )
            book = workload.Book(api.Admin(run, instrument))  # type: ignore[arg-type]
            assert len(book.wait_for(10, {MODEL})) == 1010


def test_a_machine_that_is_much_slower_may_serve_few(admin: tuple[str, str]) -> None:
    """One queue, one request at a time on each: nobody is idle while another waits."""
    free, turn = ["b", "a"], threading.Condition()

    class Unequal(Gateway):
        def chat(self, call: Call) -> None:
            begun = datetime.now(timezone.utc)
            with turn:
                turn.wait_for(lambda: free)
                runner = max(free) if len(free) > 1 else free[0]
                free.remove(runner)
            call.wait({"a": 0.03, "b": 0.9}[runner])
            with turn:
                free.append(runner)
                turn.notify()
            self.log(runner, begun, MODEL)
            call.send(HEAD + delta(" one", model=MODEL) + delta(reason="stop") + DONE)

    finished = check_made_up(Unequal(), *admin, "--requests", 30)
    assert finished.code == 0
    assert "runner b had work while runner a had two or more" in detail(finished, "distribution")


def test_a_log_that_does_not_show_our_requests_is_not_believed(admin: tuple[str, str]) -> None:
    finished = check_made_up(Gateway(lag_s=60), *admin)
    assert finished.code == 3
    assert finished.document(RESULT)["metrics"]["source"] == "the answer's model"


def test_a_header_tells_without_any_admin_api() -> None:
    gateway = Gateway(header="X-Backend-Server", has_log=False, has_runners=False)
    finished = check_made_up(gateway, *TOKEN, "--expect-runners", 2)
    assert finished.code == 0
    assert "told by the header X-Backend-Server" in finished.out


def test_a_header_of_the_operators_own_comes_first(sound: Deployment) -> None:
    gateway = Gateway(header="X-Litellm-Model-Id", has_log=False, has_runners=False)
    finished = check_made_up(gateway, *TOKEN, "--runner-header", "x-litellm-model-id")
    assert finished.code == 0
    assert "told by the header X-Litellm-Model-Id" in finished.out
    absent = check(sound, "--runner-header", "X-Not-There")
    assert absent.code == 0
    assert "told by the admin log" in absent.out and "X-Not-There is on no answer" in absent.out


def test_one_runner_by_header_fails_where_the_admin_api_knows_of_others(
    admin: tuple[str, str],
) -> None:
    gateway = Gateway(lambda number: "a", header="X-Runner-Id", has_log=False)
    finished = check_made_up(gateway, *admin)
    assert finished.code == 1
    assert statuses(finished)["distribution"] == "FAIL"
    assert "runner a got 10 of 10" in detail(finished, "distribution")
    assert "runner b could have" in detail(finished, "distribution")


def test_one_runner_by_header_is_undecided_when_nobody_tells_of_others() -> None:
    gateway = Gateway(lambda number: "a", header="X-Runner-Id", has_log=False, has_runners=False)
    finished = check_made_up(gateway, *TOKEN)
    assert finished.code == 3
    assert "--expect-runners N says so" in detail(finished, "distribution")
    expected = check_made_up(gateway, *TOKEN, "--expect-runners", 2)
    assert expected.code == 1
    assert "1 of 2 expected" in detail(expected, "expect_runners")


def test_a_proxy_that_names_itself_does_not_hide_the_log(admin: tuple[str, str]) -> None:
    class Behind(Gateway):
        def chat(self, call: Call) -> None:
            sound = call.send
            call.send = lambda *parts: sound(  # type: ignore[method-assign]
                *(
                    part.replace(b"\r\n\r\n", b"\r\nX-Served-By: edge-7\r\n\r\n", 1)
                    for part in parts
                )
            )
            super().chat(call)

    finished = check_made_up(Behind(), *admin)
    assert finished.code == 0
    assert finished.document(RESULT)["metrics"]["source"] == "the admin log"


class Headed(Gateway):
    """Adds headers of its own to the n-th answer."""

    more: Callable[[int], str] = staticmethod(lambda number: "")
    place = 0

    def chat(self, call: Call) -> None:
        sound, self.place = call.send, self.place + 1
        added = f"\r\n{self.more(self.place)}\r\n\r\n".encode()

        def send(*parts: bytes) -> None:
            sound(*(part.replace(b"\r\n\r\n", added, 1) for part in parts))

        call.send = send  # type: ignore[method-assign]
        super().chat(call)


def headed(more: Callable[[int], str], **fields: Any) -> Headed:
    gateway = Headed(has_log=False, **fields)
    gateway.more = more
    return gateway


def test_where_runners_are_listed_a_header_that_names_no_such_is_none_of_them(
    admin: tuple[str, str],
) -> None:
    gateway = headed(lambda n: f"X-Worker-Id: {n % 2}")
    gateway.has_log = True
    finished = check_made_up(gateway, *admin)
    assert finished.document(RESULT)["metrics"]["source"] == "the admin log"
    gateway.has_log = False
    finished = check_made_up(gateway, *admin)
    assert (finished.code, statuses(finished)["distribution"]) == (3, "SKIP")
    assert "X-Worker-Id" not in finished.out


@pytest.mark.parametrize("sign", ["Via: 1.1 varnish", "CF-Ray: 1-FRA", "Fastly-Debug-Path: x"])
def test_machines_of_a_network_in_front_are_no_runners(sign: str) -> None:
    gateway = headed(lambda n: f"{sign}\r\nX-Served-By: cache-{n % 3}", has_runners=False)
    finished = check_made_up(gateway, *TOKEN, "--expect-runners", 2)
    assert finished.code == 3
    assert "PASS" not in (statuses(finished)["distribution"], statuses(finished)["expect_runners"])


def test_a_number_of_the_request_names_no_runner() -> None:
    gateway = headed(lambda n: f"X-Instance-Id: {n}\r\nX-Request: {n}", has_runners=False)
    finished = check_made_up(gateway, *TOKEN, "--requests", 3, "--expect-runners", 2)
    assert (finished.code, statuses(finished)["expect_runners"]) == (3, "SKIP")
    own = check_made_up(gateway, *TOKEN, "--runner-header", "X-Request")
    assert own.code == 3
    assert "X-Request is another on each answer" in own.out


def test_models_that_one_runner_has_all_are_no_two_runners(admin: tuple[str, str]) -> None:
    numbers = itertools.count()
    gateway = Gateway(
        lambda number: "a", model=lambda runner: (MODEL, "other")[next(numbers) % 2], has_log=False
    )
    finished = check_made_up(gateway, *admin, "--expect-runners", 2)
    assert finished.code == 3
    for name in ("distribution", "expect_runners"):
        assert "runner a alone could have been all of them" in detail(finished, name)


def test_two_models_tell_two_runners_apart_but_not_how_many_have_each() -> None:
    gateway = Gateway(model=lambda runner: f"model-{runner}", has_log=False, has_runners=False)
    finished = check_made_up(gateway, *TOKEN, "--expect-runners", 2)
    assert finished.code == 0
    assert "runners with the same model cannot be told apart" in finished.out
    gateway.serve = lambda number: "b" if number % 21 == 20 else "a"
    gateway.count = itertools.count()
    skewed = check_made_up(gateway, *TOKEN, "--requests", 20)
    assert skewed.code == 3
    assert statuses(skewed)["distribution"] == "SKIP"


def test_one_model_is_neither_a_pass_nor_a_fail() -> None:
    finished = check_made_up(Gateway(has_log=False, has_runners=False), *TOKEN)
    assert finished.code == 3
    assert "FAIL" not in statuses(finished).values()
    assert "runners with the same model cannot be told apart" in detail(finished, "distribution")


def test_a_fingerprint_tells_more_than_one_model() -> None:
    class Marked(Gateway):
        def chat(self, call: Call) -> None:
            self.fields = {"system_fingerprint": "fp_1"}
            super().chat(call)

    finished = check_made_up(Marked(has_log=False, has_runners=False), *TOKEN)
    assert finished.code == 3
    assert "system_fingerprint" in detail(finished, "distribution")


# --- answers that are none


def test_a_server_that_ignores_stream_is_read_all_the_same() -> None:
    message = {"role": "assistant", "content": "one two"}
    content = {"model": MODEL, "choices": [{"index": 0, "message": message}]}

    def chat(call: Call) -> None:
        call.wait(0.5)
        call.send(response(200, content, content_type="application/json", x_runner=call.prompt[1]))

    with Server(chat=chat) as server:
        finished = check_as_user(server.url, "--analyze-timing")
    assert statuses(finished)["requests"] == "PASS"
    assert "in parallel" in finished.out


def test_reasoning_alone_is_content() -> None:
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}
    with Server(
        chat=HEAD + event(thought) + delta(reason="length") + b"data: [DONE]\n\n"
    ) as server:
        finished = check_as_user(server.url)
    assert statuses(finished)["requests"] == "PASS"


def test_a_role_that_is_missing_is_not_the_fleets_fault(sound: Deployment) -> None:
    environment = {**sound.environment, "TOKEN_BINARY": ""}
    finished = run_script(SCRIPT, "--model", "smollm2:135m", env=environment)
    assert finished.code == 3
    assert "takes the role model:specific" in finished.err
    assert check(sound, "--model", "smollm2:135m").code == 0  # the binary gives it


def test_when_the_first_fails_no_other_is_sent() -> None:
    with Server(chat=error(500, "No runners available")) as server:
        finished = check_as_user(server.url)
        assert server.count() == 1
    assert finished.code == 1
    assert detail(finished, "requests") == (
        "1 of 1 failed: 500 No runners available; nothing else was asked"
    )


def test_the_rate_limit_is_no_verdict() -> None:
    limited = error(429, "slow down", "rate_limit_exceeded", retry_after=7)
    lock, count = threading.Lock(), itertools.count()

    def chat(call: Call) -> None:
        with lock:
            number = next(count)
        call.send(limited if number > 4 else HEAD + good_stream())

    with Server(chat=chat) as server:
        finished = check_as_user(server.url, "--workers", 1)
        assert server.count() == 6
    assert finished.code == 3
    assert "FAIL" not in statuses(finished).values()
    assert "rate_limit_exceeded, Retry-After 7" in detail(finished, "requests")


@pytest.mark.parametrize("workers", [1, 3])
def test_after_a_timeout_nothing_more_is_sent(workers: int) -> None:
    lock, count = threading.Lock(), itertools.count()

    def chat(call: Call) -> None:
        with lock:
            number = next(count)
        call.wait() if number else call.send(HEAD + good_stream())

    begun = time.monotonic()
    with Server(chat=chat) as server:
        finished = check_as_user(server.url, "--workers", workers, "--timeout", 1)
        assert server.count() <= 1 + 2 * workers
    assert time.monotonic() - begun < 10
    assert finished.code == 1
    assert "timeout" in detail(finished, "requests")


def test_an_interruption_in_the_midst_keeps_what_was_measured(admin: tuple[str, str]) -> None:
    gateway = Gateway(serve=lambda number: "a", delay_s=0.05)
    slow = threading.Event()

    def everywhere(call: Call) -> None:
        if call.path.endswith("/completions") and server.count() > 5:
            slow.set()
            call.wait()
        gateway(call)

    with Server(everywhere=everywhere) as server:
        arguments = ("--url", server.url, *admin, "--workers", "2")
        with start_script(SCRIPT, *arguments) as process:
            assert slow.wait(30)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
    document = Finished(130, "", "", Path("results")).document(RESULT)
    assert document["interrupted"]
    assert sum(each["error"] is None for each in document["requests"]) >= 4


def test_an_interruption_while_it_is_worked_out_who_served_keeps_all(
    sound: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seen: workload.Seen) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workload, "find_source", interrupted)
    for name, value in sound.environment.items():
        monkeypatch.setenv(name, value)
    assert workload.main(["--requests", "4"]) == 130
    document = Finished(130, "", "", Path("results")).document(RESULT)
    assert len(document["requests"]) == 5


def test_a_check_that_needs_an_option_says_so() -> None:
    finished = run_script(SCRIPT, "--only", "expect_runners")
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert "--only expect_runners takes --expect-runners N" in finished.err


def test_more_runners_than_requests_cannot_be_expected() -> None:
    finished = run_script(SCRIPT, "--requests", 2, "--expect-runners", 3)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "option", [("--max-share", "0"), ("--max-share", "1.1"), ("--runner-header", "a b")]
)
def test_what_is_no_share_and_no_header_is_refused(option: tuple[str, str]) -> None:
    finished = run_script(SCRIPT, *option)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)


# --- the arithmetic


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (19, 20, 0.7639, 0.9911),
    ],
)
def test_the_interval_of_a_share_is_wilsons(
    count: int, total: int, low: float, high: float
) -> None:
    assert workload.wilson(count, total) == pytest.approx((low, high), abs=5e-5)


def test_pairs_have_the_least_sum_of_differences() -> None:
    numbers = random.Random(7)
    for _ in range(200):
        short = [numbers.randint(0, 30) for _ in range(numbers.randint(0, 4))]
        long = [numbers.randint(0, 30) for _ in range(numbers.randint(len(short), 6))]
        best = min(
            sum(abs(a - b) for a, b in zip(short, some, strict=True))
            for some in itertools.permutations(long, len(short))
        )
        for mine, theirs in ((short, long), (long, short)):
            pairs = workload.align(mine, theirs)
            assert sum(abs(mine[a] - theirs[b]) for a, b in pairs) == best
            assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(short)


def test_thousands_of_requests_are_matched_in_seconds() -> None:
    numbers = random.Random(7)
    mine = [numbers.random() for _ in range(4000)]
    theirs = [each + numbers.random() / 1e4 for each in mine] + [2.0] * 100
    begun = time.monotonic()
    assert len(workload.align(mine, theirs)) == 4000
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01 00:00:01", 1.0),
        ("1970-01-01T00:00:01.500000000Z", 1.5),
        ("1970-01-01T01:00:01.25+01:00", 1.25),
        ("yesterday", None),
        ("1970-13-01T00:00:01Z", None),
        ("1970-01-01T00:00:01+99:99", None),
        (17, None),
        (None, None),
    ],
)
def test_times_in_a_log_are_read_as_rust_and_others_write_them(
    text: object, seconds: float | None
) -> None:
    assert api.read_time(text) == seconds


# --- judges, on records made by hand

ARGS = argparse.Namespace(
    model="class:fast",
    requests=10,
    workers=10,
    sequential=False,
    analyze_timing=False,
    runner_header=None,
    expect_runners=None,
    max_share=0.9,
)


def a_record(index: int, sent: float, ended: float, **more: Any) -> workload.Record:
    fields: dict[str, Any] = {
        "index": index,
        "phase": workload.MEASURED,
        "status": 200,
        "error": None,
        "error_text": None,
        "excluded": False,
        "sent_ms": sent,
        "ended_ms": ended,
        "ttft_ms": 10.0,
        "e2e_ms": ended - sent,
        "round_trip_ms": 0.0,
        "model": MODEL,
        "system_fingerprint": None,
        "headers": {},
    }
    return workload.Record(**{**fields, **more})


def a_case(
    spans: list[tuple[str, float, float]], known: str = "ab", limits: str | None = None, **more: Any
) -> workload.Case:
    """Requests by who served them, when they were sent and ended."""
    records = [a_record(n, sent, ended) for n, (_, sent, ended) in enumerate(spans)]
    args = argparse.Namespace(**{**vars(ARGS), "requests": len(spans), **more.pop("args", {})})
    runners = [Runner(name, name, None, True, frozenset({MODEL}), None) for name in known]
    seen = workload.Seen(args, records, runners=runners or None)
    names = tuple(name or None for name, _, _ in spans)
    return workload.Case(seen, workload.Source("a header", names, limits, **more))


def together(names: str, **more: Any) -> workload.Case:
    return a_case([(name, 0.0, 100.0) for name in names], **more)


def queued(at_a: int, at_b: int, b_ms: float, **more: Any) -> workload.Case:
    """At a one after the other, in 100 ms each; at b, in so many."""
    spans = [("a", 0.0, 100.0 * (n + 1)) for n in range(at_a)]
    return a_case([*spans, *(("b", b_ms * n, b_ms * (n + 1)) for n in range(at_b))], **more)


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        (together("aaaaabbbbb"), Status.PASS, "a 5 (50 %), b 5 (50 %)"),
        (together("aaaaaaaaab"), Status.PASS, "a 9 (90 %)"),
        (together("aaaaaaaaaa"), Status.FAIL, "a got 10 of 10"),
        (queued(19, 1, 100), Status.FAIL, "a got 19 of 20 (95 %"),
        (queued(19, 1, 100, known=""), Status.FAIL, "b could have"),
        # the slower machine had work all the time; with a third one that had none
        (queued(19, 1, 1900), Status.PASS, "b had work while a had two or more"),
        (queued(38, 2, 1890), Status.PASS, "(latency p50: a 1.95 s, b 1.89 s)"),
        (queued(19, 1, 1900, known="abc"), Status.FAIL, "b and c could have"),
        (together("aaaaaaaaaa", known=""), Status.SKIP, "nothing tells whether there are others"),
        (together("aaaaaaaaaa", known="a"), Status.SKIP, "a is the only runner online"),
        (together("aaaaa"), Status.SKIP, "by chance in 6 % of runs with 2 runners"),
        (together("aaaaa", known="abc"), Status.FAIL, "b and c could have"),
        (together("aaaaaaaaaa", args={"max_share": 1.0}), Status.PASS, "a 10 (100 %)"),
        (queued(7, 3, 100, args={"max_share": 0.6}), Status.FAIL, "at most 60 % allowed"),
        (
            a_case([("a", 10 * n, 10 * n + 10) for n in range(10)]),
            Status.SKIP,
            "never had two requests at once",
        ),
        (together("aaaaaaaaaa", others=Counter("bbb")), Status.SKIP, "had 3 requests of others"),
        (
            together("aaaaaaaaaa", others=Counter("b"), rivals=Counter("b")),
            Status.SKIP,
            "between 9 and 10 of 10: others' requests that look the same",
        ),
        (
            together("aaaaaaaaaa", rivals=Counter("b" * 500)),
            Status.SKIP,
            "between 0 and 10 of 10",
        ),
        (together("aaaaaaaa--"), Status.PASS, "- 2"),
        (
            together("aaaaabbbbb", limits="many alike", doubt="a has both"),
            Status.SKIP,
            "a has both",
        ),
        (together("aaaaaaaaaa", limits="many alike"), Status.SKIP, "and many alike"),
        (together("aaaaaabbbb", limits="many alike"), Status.PASS, "a 6"),
        (together("a" * 19 + "b", limits="many alike"), Status.SKIP, "but many alike"),
    ],
)
def test_shares_are_judged_by_what_is_known(
    case: workload.Case, status: Status, words: str
) -> None:
    found = workload.check_distribution(case)
    assert (found.status, words in found.detail) == (status, True), found.detail
    assert found.essential == (status is Status.SKIP)


def marked(marks: list[str], models: list[str], online: int = 2) -> workload.Case:
    records = [
        a_record(n, 0, 100, system_fingerprint=mark, model=model)
        for n, (mark, model) in enumerate(zip(marks, models, strict=True))
    ]
    known = [Runner(name, name, None, True, frozenset("mn"), None) for name in "ab"[:online]]
    seen = workload.Seen(ARGS, records, runners=known)
    return workload.Case(seen, workload.find_source(seen))


@pytest.mark.parametrize(
    ("case", "source", "status"),
    [
        (marked(["f", "g"] * 5, ["m"] * 10), "system_fingerprint", Status.PASS),
        (marked(["f", "g"] * 5, ["m", "n"] * 5), "system_fingerprint", Status.SKIP),
        (marked(["f", "g", "h"], ["m"] * 3), "the answer's model", Status.SKIP),
        (marked(["f", "g"] * 5, ["m"] * 10, 1), "the answer's model, which one", Status.SKIP),
        (marked(["f", "g"] * 5, ["unlisted"] * 10, 1), "system_fingerprint", Status.SKIP),
    ],
)
def test_fingerprints_that_one_runner_could_make_are_no_pass(
    case: workload.Case, source: str, status: Status
) -> None:
    found = workload.check_distribution(case)
    assert (case.source.name.startswith(source), found.status) == (True, status), found.detail
    assert found.essential == (status is Status.SKIP)


def test_what_could_not_be_attributed_may_be_anybodys() -> None:
    spans = [("a", 0.0, 100.0)] * 8 + [("", 0.0, 100.0)] * 2
    found = workload.check_distribution(a_case(spans))
    assert found.status is Status.SKIP
    assert "between 8 and 10 of 10: 2 could not be attributed" in found.detail


def test_a_runner_is_idle_when_it_waits_longer_than_a_request_beside_two() -> None:
    queue = [("a", 0.0, 100.0 * (n + 1)) for n in range(8)]
    case = a_case([*queue, ("b", 0.0, 100.0), ("b", 0.0, 200.0)])
    # all have their first output: they run beside each other, and nobody waits
    assert workload.check_idle(case).status is Status.PASS
    records = [dataclasses.replace(r, ttft_ms=r.spent_ms - 90) for r in case.seen.records]
    case.seen.records = records
    found = workload.check_idle(case)
    assert found.status is Status.WARN
    assert "b idle for 500 ms while a had two or more" in found.detail


def test_a_gap_that_rounds_to_nothing_is_not_told() -> None:
    case = a_case([("a", 0.0, 100.0), ("a", 0.0, 100.0), ("b", 0.4, 100.0)])
    assert workload.check_idle(case).detail == "no runner was idle while another had two requests"


@pytest.mark.parametrize(
    ("counts", "rivals", "surely"),
    [("aaabb", "", 2), ("aaabb", "b", 2), ("aaaab", "b", 2), ("aaaab", "a", 1), ("ab", "abc", 1)],
)
def test_what_may_be_others_does_not_count_as_served(counts: str, rivals: str, surely: int) -> None:
    source = workload.Source("the log", tuple(counts), rivals=Counter(rivals))
    # of all that look like ours, as many as are others' may be the smaller runners'
    assert workload.surely_served(source) == surely


@pytest.mark.parametrize(
    "case",
    [
        together("aaaaabbbbb"),
        # the last ones, on a slower machine: there a request takes as long
        a_case([("a", 0.0, 100.0)] * 8 + [("b", 0.0, 900.0)] * 2),
        # it served others meanwhile
        together("aaaaaaaaaa", others=Counter("b")),
        # one request of those could have been its own
        a_case([("a", 0.0, 100.0 * (n + 1)) for n in range(8)] + [("", 0.0, 800.0)]),
    ],
)
def test_a_runner_with_something_to_do_is_not_idle(case: workload.Case) -> None:
    assert workload.check_idle(case).status in (Status.PASS, Status.SKIP)


def test_requests_that_follow_each_other_are_not_at_once() -> None:
    assert workload.most_at_once([a_record(0, 0, 10), a_record(1, 10, 20)]) == 1
    assert workload.most_at_once([a_record(0, 0, 10.5), a_record(1, 10, 20)]) == 2
    late = [a_record(n, 9.0 * n, 9.0 * n + 10, round_trip_ms=4.0) for n in range(3)]
    assert workload.most_at_once(late) == 1  # on the way, not there


@pytest.mark.parametrize(
    ("slots", "kind", "words"),
    [
        (1, "queued", "queued on one runner (a)"),
        (3, "mixed", "about 3 at a time"),
        (9, "parallel", "none waited"),
    ],
)
def test_the_first_outputs_tell_how_many_were_served_at_once(
    slots: int, kind: str, words: str
) -> None:
    case = together("a" * 9)
    records = [
        dataclasses.replace(
            r, ttft_ms=10.0 + 100 * (r.index // slots), e2e_ms=100.0 + 100 * (r.index // slots)
        )
        for r in case.seen.records
    ]
    case.seen.records = records
    timing = workload.find_timing(case)
    assert timing is not None
    assert (timing.kind, words in workload.conclusion(case, timing)) == (kind, True)


def an_entry(number: int, at_s: float, latency_ms: float, runner: str | None, **more: Any) -> Entry:
    fields = {"model": MODEL, "status": "200", "wol_sent": False, **more}
    return Entry(id=f"e{number}", latency_ms=latency_ms, runner_id=runner, at_s=at_s, **fields)


def test_failures_are_laid_at_the_door_of_the_runner_that_failed() -> None:
    records = [a_record(-1, 0, 100, phase=workload.ALONE)]
    records += [a_record(n, 200, 300) for n in range(3)]
    records += [
        a_record(n, 200, 300, error="5xx", error_text="500 boom", e2e_ms=None, ttft_ms=None)
        for n in range(3, 6)
    ]
    first = an_entry(0, 1000.0, 100, "a")
    entries = [an_entry(n + 1, 1000.2, 100, "a") for n in range(3)]
    entries += [an_entry(n + 1, 1000.2, 100, "b", status="500") for n in range(3, 6)]
    seen = workload.Seen(ARGS, records, first=first, entries=entries[::-1])
    source = workload.by_log(seen)
    assert source is not None
    assert source.runners == ("a", "a", "a", "b", "b", "b")
    found = workload.check_requests(workload.Case(seen, source))
    assert found.detail == "3 of 7 failed: 3 x 500 boom (by b)"


def test_entries_of_others_are_told_by_time_and_latency() -> None:
    records = [a_record(-1, 0, 100, phase=workload.ALONE)]
    records += [a_record(n, 1000.0 * (n + 1), 1000.0 * (n + 1) + 100) for n in range(4)]
    first = an_entry(0, 500.0, 98, "a")
    ours = [an_entry(n + 1, 501.0 + n, 98, "ab"[n % 2]) for n in range(4)]
    others = [an_entry(7, 501.5, 98, "b"), an_entry(8, 502.0, 500, "b"), an_entry(9, 503, 98, None)]
    other_model = an_entry(10, 501.0, 98, "b", model="large:70b")
    entries = [*others, *ours, other_model]
    source = workload.by_log(workload.Seen(ARGS, records, first=first, entries=entries))
    assert source is not None
    assert source.runners == ("a", "b", "a", "b")
    assert (source.others, source.rivals) == (Counter(b=3), Counter())


def test_of_two_that_end_together_the_latency_tells_which_is_which() -> None:
    records = [a_record(-1, 0, 100, phase=workload.ALONE)]
    records += [a_record(0, 1000, 2000), a_record(1, 1900, 2001), a_record(2, 1800, 2100)]
    first = an_entry(0, 500.0, 100, "a")
    entries = [
        an_entry(1, 501.0, 1001, "a"),
        an_entry(2, 501.9, 100, "b"),
        an_entry(3, 501.8, 300, "c"),
    ]
    source = workload.by_log(workload.Seen(ARGS, records, first=first, entries=entries))
    assert source is not None
    assert source.runners == ("a", "b", "c")


def test_a_log_of_first_outputs_is_understood() -> None:
    records = [a_record(-1, 0, 1000, phase=workload.ALONE)]
    spread = [(0.0, 10.0, 900.0), (0.0, 400.0, 500.0), (600.0, 30.0, 700.0)]
    records += [
        a_record(n, 2000 + sent, 2000 + sent + end, ttft_ms=start)
        for n, (sent, start, end) in enumerate(spread)
    ]
    first = an_entry(0, 50.0, 10, "a")
    entries = [
        an_entry(n + 1, 52.0 + sent / 1e3, start, "abc"[n])
        for n, (sent, start, _) in enumerate(spread)
    ]
    source = workload.by_log(workload.Seen(ARGS, records, first=first, entries=entries[::-1]))
    assert source is not None
    assert source.runners == ("a", "b", "c")
