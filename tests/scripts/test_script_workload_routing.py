"""test_workload_routing.py: its arithmetic, whom it takes for whom, and odd deployments."""

from __future__ import annotations

import argparse
import io
import itertools
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers.fleet_answers import MODEL, failed, served
from helpers.hostile import HEAD, Call, Server, delta, error, event, good_stream, response
from helpers.scripts import Finished, SavedAs, run_script, start_script

import test_workload_routing as workload
from common import Status
from livecheck.fleet import attribution, request_log, request_timing
from livecheck.fleet.api import Runner
from livecheck.fleet.attribution import Attribution, KnownRunners, Requests
from livecheck.wire.answer import Answer
from reference import Deployment, running

SCRIPT = "test_workload_routing.py"
QUICK = {"profile": "fleet", "engine": "sim", "ttft_ms": 10, "itl_ms": 1}
RESULT = "workload_routing"
SAVED = SavedAs(RESULT)
statuses, detail = SAVED.statuses, SAVED.detail
TOKEN = ("--token", "opaque-key")
DONE = b"data: [DONE]\n\n"


def run_here(*arguments: object, env: Mapping[str, str] | None = None) -> Finished:
    """Run the script in this process, which saves a start, and read the log more often."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        patch.setattr(request_log, "POLL_S", 0.05)
        patch.setattr(request_log, "LAG_S", 1.0)
        try:
            code: Any = workload.main([str(each) for each in arguments])
        except SystemExit as end:
            code = end.code
    return Finished(code, out.getvalue(), err.getvalue(), Path("results").absolute())


def check(deployment: Deployment, *arguments: object) -> Finished:
    return run_here(*arguments, env=deployment.environment)


def check_as_user(url: str, *arguments: object) -> Finished:
    return run_here("--url", url, *TOKEN, *arguments)


# --- a gateway made of what a test wants


@dataclass
class Gateway:
    """Answers like a fleet. `serve` says who serves the n-th request; `foreign`: who served the
    request of others that comes into the log with it."""

    serve: Callable[[int], str] = lambda number: "ab"[number % 2]
    header: str | None = None
    model: Callable[[str], str] = lambda runner: MODEL
    fields: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.05
    has_log: bool = True
    has_runners: bool = True
    has_times: bool = True  # in its log
    lag_s: float = 0.0
    per_page: int = 50
    foreign: Callable[[int], str | None] = lambda number: None

    def __post_init__(self) -> None:
        self.entries: list[tuple[float, dict[str, Any]]] = []
        self.count, self.ids = itertools.count(), itertools.count()

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
        skewed = begun + timedelta(hours=2, seconds=7)  # its clock is another one
        entry = {
            "id": f"entry-{next(self.ids)}",
            "timestamp": skewed.isoformat() if self.has_times else None,
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
        return run_here("--url", server.url, *arguments)


# --- sound deployments


@pytest.fixture(scope="module")
def sound() -> Iterator[Deployment]:
    with running(**QUICK) as deployment:
        yield deployment


def test_a_sound_fleet_passes_strictly(sound: Deployment) -> None:
    arguments = ("--requests", 20, "--expect-runners", 2, "--strict")
    finished = run_script(SCRIPT, *arguments, env=sound.environment)
    assert finished.code == 0
    assert set(statuses(finished).values()) == {"PASS"}
    metrics = finished.document(RESULT)["metrics"]
    assert metrics["source"] == "the request log"
    assert [row["runner"] for row in metrics["runners"]] in (["desk", "tower"], ["tower", "desk"])
    assert sum(row["requests"] for row in metrics["runners"]) == 20
    assert max(map(len, finished.out.splitlines())) <= 80


def test_one_by_one_shares_are_reported_and_only_failures_fail(sound: Deployment) -> None:
    finished = check(sound, "--sequential", "--requests", 5)
    assert finished.code == 0
    undecided = {"distribution": "SKIP", "idle": "SKIP"}
    assert statuses(finished) == {"requests": "PASS", **undecided, "form": "PASS"}
    assert "desk 5 (100 %)" in detail(finished, "distribution")


def test_timing_is_told_in_three_parts_with_what_it_says(sound: Deployment) -> None:
    finished = check(sound, "--analyze-timing", "--requests", 16, "--workers", 16)
    assert finished.code == 0
    for label in ("effective parallelism", "alone", "1 to 6", "7 to 12", "13 to 16"):
        assert f"  {label}" in finished.out
    # a busy machine starts some of the requests late
    assert re.search("mixed: of the first 1[0-6], about [2-6] at a time", finished.out)
    assert finished.document(RESULT)["metrics"]["timing"] == "mixed"


def test_without_the_admin_api_a_fleet_of_equal_runners_is_undecided(sound: Deployment) -> None:
    environment = {**sound.environment, "TOKEN_BINARY": ""}
    finished = run_here("--expect-runners", 2, env=environment)
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
    assert "the only runner online with small:1b" in detail(finished, "distribution")
    assert statuses(finished)["idle"] == "SKIP"


# --- who served


def test_the_log_tells_though_it_is_late_its_pages_short_and_its_clock_another(
    admin: tuple[str, str],
) -> None:
    finished = check_made_up(Gateway(lag_s=0.5, per_page=7), *admin, "--requests", 20)
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
            call.wait(0.4)
            page = [
                {"id": f"e{next(self.count)}", "model": MODEL, "latency_ms": 1, "runner_id": "a"}
                for _ in range(50)
            ]
            return call.send(response(status, {"requests": page}))

    begun = time.monotonic()
    finished = check_made_up(Slow(), *admin, "--timeout", 1)
    assert time.monotonic() - begun < 7
    assert finished.code == 3
    assert "PASS" not in (statuses(finished)["distribution"], statuses(finished)["idle"])


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


@pytest.mark.parametrize("unusable", [{"lag_s": 60}, {"has_times": False}])
def test_a_log_that_does_not_show_our_requests_is_not_believed(
    unusable: dict[str, Any], admin: tuple[str, str]
) -> None:
    finished = check_made_up(Gateway(**unusable), *admin)
    assert finished.code == 3
    assert finished.document(RESULT)["metrics"]["source"] == "the answer's model"
    assert "the request log does not show our requests" in detail(finished, "distribution")


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
    assert (
        "told by the request log" in absent.out
        and "no answer has the header X-Not-There" in absent.out
    )


def test_one_runner_by_header_fails_where_the_admin_api_knows_of_others(
    admin: tuple[str, str],
) -> None:
    gateway = Gateway(lambda number: "a", header="X-Runner-Id", has_log=False)
    finished = check_made_up(gateway, *admin)
    assert finished.code == 1
    assert statuses(finished)["distribution"] == "FAIL"
    assert "runner a got 10 of 10" in detail(finished, "distribution")
    assert "runner b could have served" in detail(finished, "distribution")


def test_one_runner_by_header_is_undecided_when_nobody_tells_of_others() -> None:
    gateway = Gateway(lambda number: "a", header="X-Runner-Id", has_log=False, has_runners=False)
    finished = check_made_up(gateway, *TOKEN)
    assert finished.code == 3
    assert "--expect-runners N tells how many there are" in detail(finished, "distribution")
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
    assert finished.document(RESULT)["metrics"]["source"] == "the request log"


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
    assert finished.document(RESULT)["metrics"]["source"] == "the request log"
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
    assert "X-Request is different on each answer" in own.out


def test_models_that_one_runner_has_all_are_no_two_runners(admin: tuple[str, str]) -> None:
    numbers = itertools.count()
    gateway = Gateway(
        lambda number: "a", model=lambda runner: (MODEL, "other")[next(numbers) % 2], has_log=False
    )
    finished = check_made_up(gateway, *admin, "--expect-runners", 2)
    assert finished.code == 3
    for name in ("distribution", "expect_runners"):
        assert "runner a alone could have given all these answers" in detail(finished, name)


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
    finished = run_here("--model", "smollm2:135m", env=environment)
    assert finished.code == 3
    assert "needs the role model:specific" in finished.err
    assert check(sound, "--model", "smollm2:135m").code == 0  # the binary gives it


def test_when_the_first_fails_no_other_is_sent() -> None:
    with Server(chat=error(500, "No runners available")) as server:
        finished = check_as_user(server.url)
        assert server.count() == 1
    assert finished.code == 1
    assert detail(finished, "requests") == (
        "1 of 1 failed: 500 No runners available; no other request was sent"
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
    assert "429 slow down, Retry-After 7" in detail(finished, "requests")


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
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workload.attribution, "attribute", interrupted)
    for name, value in sound.environment.items():
        monkeypatch.setenv(name, value)
    assert workload.main(["--requests", "4"]) == 130
    document = Finished(130, "", "", Path("results")).document(RESULT)
    assert len(document["requests"]) == 5


def test_a_check_that_needs_an_option_says_so() -> None:
    finished = run_here("--only", "expect_runners")
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert "--only expect_runners needs --expect-runners N" in finished.err


def test_more_runners_than_requests_cannot_be_expected() -> None:
    finished = run_here("--requests", 2, "--expect-runners", 3)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "option", [("--max-share", "0"), ("--max-share", "1.1"), ("--runner-header", "a b")]
)
def test_what_is_no_share_and_no_header_is_refused(option: tuple[str, str]) -> None:
    finished = run_here(*option)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)


# --- judges, on answers made by hand

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


def evidence_of(
    answers: list[Answer],
    found: Attribution | None,
    known: str,
    models: Iterable[str] = (MODEL,),
    **args: Any,
) -> workload.Evidence:
    """What a run has found out that got these answers, on a fleet with these runners online."""
    given = argparse.Namespace(**{**vars(ARGS), "requests": len(answers), **args})
    requests = Requests(given.model, [], answers)
    runners = [Runner(name, name, None, True, frozenset(models), None) for name in known]
    evidence = workload.Evidence(given, requests, known=KnownRunners(runners or None))
    evidence.attribution = found or attribution.attribute(requests, evidence.known, None, None)
    return evidence


def by_spans(
    spans: list[tuple[str, float, float]],
    known: str = "ab",
    limits: str | None = None,
    args: dict[str, Any] | None = None,
    output_ms: float | None = None,
    **more: Any,
) -> workload.Evidence:
    """Requests by who served them, when they were sent and ended. `output_ms`: how long before
    its end each has its first output; None: it has it 10 ms after it was sent."""
    names = tuple(name or None for name, _, _ in spans)
    answers = [
        served(sent, ended, 10.0 if output_ms is None else ended - sent - output_ms)
        for _, sent, ended in spans
    ]
    found = Attribution("a header", names, limits, **more)
    return evidence_of(answers, found, known, **(args or {}))


def together(names: str, **more: Any) -> workload.Evidence:
    return by_spans([(name, 0.0, 100.0) for name in names], **more)


def queued(at_a: int, at_b: int, b_ms: float, **more: Any) -> workload.Evidence:
    """At a one after the other, in 100 ms each; at b, in so many."""
    spans = [("a", 0.0, 100.0 * (n + 1)) for n in range(at_a)]
    return by_spans([*spans, *(("b", b_ms * n, b_ms * (n + 1)) for n in range(at_b))], **more)


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
            by_spans([("a", 10 * n, 10 * n + 10) for n in range(10)]),
            Status.SKIP,
            "never had two requests at once",
        ),
        (together("aaaaaaaaaa", others=Counter("bbb")), Status.SKIP, "had 3 requests of others"),
        (
            together("aaaaaaaaaa", others=Counter("b"), similar=Counter("b")),
            Status.SKIP,
            "between 9 and 10 of 10: others' requests that look the same",
        ),
        (
            together("bbbbbaaaaa", others=Counter("aaaaa"), similar=Counter("aaaaa")),
            Status.SKIP,
            "a served between 5 and 10 of 10",  # b's may have been others', and a's ours
        ),
        (
            together("aaaaaaaaaa", similar=Counter("b" * 500)),
            Status.SKIP,
            "between 0 and 10 of 10",
        ),
        (together("aaaaaaaa--"), Status.PASS, "- 2"),
        (
            together("aaaaabbbbb", limits="many alike", doubt="a has both"),
            Status.SKIP,
            "a has both",
        ),
        (together("aaaaaaaaaa", limits="many alike"), Status.SKIP, "but many alike"),
        (together("aaaaaabbbb", limits="many alike"), Status.PASS, "a 6"),
        (together("a" * 19 + "b", limits="many alike"), Status.SKIP, "but many alike"),
    ],
)
def test_shares_are_judged_by_what_is_known(
    case: workload.Evidence, status: Status, words: str
) -> None:
    found = workload.check_distribution(case)
    assert (found.status, words in found.detail) == (status, True), found.detail
    assert found.essential == (status is Status.SKIP)


def marked(marks: list[str], models: list[str], online: int = 2) -> workload.Evidence:
    pairs = zip(marks, models, strict=True)
    answers = [served(0, 100, fingerprint=mark, model=model) for mark, model in pairs]
    return evidence_of(answers, None, "ab"[:online], "mn")


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
    case: workload.Evidence, source: str, status: Status
) -> None:
    found = workload.check_distribution(case)
    assert (case.attribution.source.startswith(source), found.status) == (True, status), (
        found.detail
    )
    assert found.essential == (status is Status.SKIP)


def test_what_could_not_be_attributed_may_be_anybodys() -> None:
    spans = [("a", 0.0, 100.0)] * 8 + [("", 0.0, 100.0)] * 2
    found = workload.check_distribution(by_spans(spans))
    assert found.status is Status.SKIP
    assert "between 8 and 10 of 10: 2 could not be attributed" in found.detail


def test_a_runner_is_idle_when_it_waits_longer_than_a_request_beside_two() -> None:
    queue = [("a", 0.0, 100.0 * (n + 1)) for n in range(8)]
    spans = [*queue, ("b", 0.0, 100.0), ("b", 0.0, 200.0)]
    # all have their first output: they run beside each other, and nobody waits
    assert workload.check_idle(by_spans(spans)).status is Status.PASS
    found = workload.check_idle(by_spans(spans, output_ms=90.0))
    assert found.status is Status.WARN
    assert "b was idle for 500 ms while a had two or more requests" in found.detail


def test_a_gap_that_rounds_to_nothing_is_not_told() -> None:
    case = by_spans([("a", 0.0, 100.0), ("a", 0.0, 100.0), ("b", 0.4, 100.0)])
    assert workload.check_idle(case).detail == "no runner was idle while another had two requests"


@pytest.mark.parametrize(
    "case",
    [
        together("aaaaabbbbb"),
        # the last ones, on a slower machine: there a request takes as long
        by_spans([("a", 0.0, 100.0)] * 8 + [("b", 0.0, 900.0)] * 2),
        # it served others meanwhile
        together("aaaaaaaaaa", others=Counter("b")),
        # one request of those could have been its own
        by_spans([("a", 0.0, 100.0 * (n + 1)) for n in range(8)] + [("", 0.0, 800.0)]),
    ],
)
def test_a_runner_with_something_to_do_is_not_idle(case: workload.Evidence) -> None:
    assert workload.check_idle(case).status in (Status.PASS, Status.SKIP)


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
    answers = []
    for number in range(9):
        waited = 100 * (number // slots)
        answers.append(served(0, 100.0 + waited, 10.0 + waited))
    case = evidence_of(answers, Attribution("a header", ("a",) * 9), "ab")
    timing = request_timing.find_timing(case.served, case.alone)
    assert timing is not None
    told = request_timing.conclusion(timing, case.at_once, case.attribution)
    assert (timing.kind, words in told) == (kind, True)


def test_failures_are_counted_with_the_runner_that_failed() -> None:
    answers = [served(200, 300) for _ in range(3)] + [failed(200, 300) for _ in range(3)]
    case = evidence_of(answers, Attribution("the request log", tuple("aaabbb")), "ab")
    case.requests.sent_alone.append(served(0, 100))
    assert workload.check_requests(case).detail == "3 of 7 failed: 3 x 500 boom (by b)"


# --- a runner that dies


def lose(kill: str, revive: str, settle: object = 0.2) -> tuple[object, ...]:
    commands = ("--kill-command", kill, "--revive-command", revive)
    return (*TOKEN, *commands, "--settle", settle, "--revive-timeout", 10, "--requests", 6)


def one_less_between_the_commands(number: int) -> str:
    is_dead = Path("killed").exists() and not Path("revived").exists()
    return "a" if is_dead else "ab"[number % 2]


def test_where_no_list_tells_it_the_answers_show_who_died_and_came_back() -> None:
    gateway = Gateway(one_less_between_the_commands, header="X-Runner", has_runners=False)
    finished = check_made_up(gateway, *lose("touch killed", 'echo "$SIMPLEAI_URL" > revived'))
    assert finished.code == 0
    assert "b serves again: sent a request" in detail(finished, "revived")
    assert statuses(finished)["clean_errors"] == statuses(finished)["rerouted"] == "PASS"
    found = finished.document(RESULT)
    assert found["metrics"]["loss"]["killed"] == ["b"]
    assert {each["phase"] for each in found["requests"]} == {"alone", "measured", "loss"}
    assert found["options"]["kill_command"] == "(given)" and "touch killed" not in str(found)
    assert Path("revived").read_text().startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("kill", "words"),
    [
        ("echo no such runner >&2; exit 7", "ended with exit code 7: no such runner"),
        ("true", "no runner died, according to the header X-Runner"),
    ],
)
def test_a_kill_that_kills_nobody_decides_nothing(kill: str, words: str) -> None:
    finished = check_made_up(Gateway(header="X-Runner"), *lose(kill, "touch revived"))
    assert finished.code == 3
    assert Path("revived").exists()
    for name in workload.OF_LOSS:
        assert statuses(finished)[name] == "SKIP" and words in detail(finished, name)


def test_the_runner_is_revived_also_after_ctrl_c() -> None:
    with Server(everywhere=Gateway(header="X-Runner")) as server:
        options = lose("touch killed", "sleep 0.2; touch revived", settle=60)
        with start_script(SCRIPT, "--url", server.url, *options) as process:
            deadline_s = time.monotonic() + 30
            while not Path("killed").exists() and time.monotonic() < deadline_s:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 130
    assert Path("revived").exists()
