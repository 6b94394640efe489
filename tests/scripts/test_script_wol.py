"""test_wol.py against fleets that sleep, are awake, or are no fleets at all; and what it judges by.

What is planted in the reference fleet is in the fault table (test_faults.py); here is what sound
ones look like, and what must not be believed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.hostile import (
    CHAT,
    DONE,
    HEAD,
    WHOLE,
    Call,
    Server,
    delta,
    good_stream,
    hang,
    in_turn,
    response,
    usage,
)
from helpers.scripts import PYTHON, ROOT, Finished, SavedAs, load_script, run_script, start_script
from helpers.wake import (
    DESK,
    NAS,
    TOWER,
    asleep,
    failed,
    heard,
    log_entries,
    ns,
    runner,
    served,
    state,
)

from common import Status
from livecheck.fleet import api, magic_packet, online, wake_evidence
from livecheck.fleet.online import State
from livecheck.wire.asking import Cause, Stop
from reference import Deployment, running

SCRIPT = "test_wol.py"
NAME = "wol"
SAVED = SavedAs(NAME)
statuses, detail = SAVED.statuses, SAVED.detail
SIM: dict[str, Any] = {"profile": "fleet", "ttft_ms": 4, "itl_ms": 1}
MODELS = "/v1/models"


script = load_script(SCRIPT)
MIN_WAKE_S = 0.3
SHORT_WAITS = (
    (script, "CONFIRM_S", 0.1),
    (script, "SETTLE_S", 0.3),
    (script, "RETRY_S", 0.1),
    (script, "SLOW_POLL_S", 0.5),
    (script, "MIN_WAKE_S", MIN_WAKE_S),
    (wake_evidence, "MIN_WAKE_S", MIN_WAKE_S),
    (online, "POLL_S", 0.1),
)
BOOT_MS = 500  # longer than MIN_WAKE_S

RunHere = Callable[..., Finished]


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[RunHere]:
    """Runs the script in this process, with its waits made short."""
    for module, name, value in SHORT_WAITS:
        monkeypatch.setattr(module, name, value)

    def run(*arguments: object, env: Mapping[str, str] | None = None) -> Finished:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        try:
            code = script.main([str(each) for each in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return Finished(code, out, err, Path("results").absolute())

    yield run


@pytest.fixture(scope="module")
def awake() -> Iterator[Deployment]:
    with running(**SIM) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def sleeping() -> Iterator[Deployment]:
    """A fleet that is asleep for all tests here: no runner has booted before they end."""
    with running(**SIM, asleep=True, boot_ms=600_000) as deployment:
        yield deployment


# --- a fleet


def test_a_sleeping_fleet_is_woken_by_one_packet_and_serves_all_who_wait() -> None:
    with running(**SIM, asleep=True, boot_ms=1200) as deployment:
        options = ("--listen-wol", deployment.wol_port, "--expect-mac", DESK.upper())
        more = ("--burst", 4, "--timing", "-v", "--debug")
        finished = run_script(SCRIPT, *options, *more, env=deployment.environment)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"}), finished.out
    assert set(statuses(finished)) == set(script.CHECKS)
    found = finished.document(NAME)["metrics"]
    assert (found["packets"], found["served"]) == ({DESK: 1}, 4)
    assert 0 < found["packet_s"] < 1.2 < found["runner_online_s"] <= found["first_output_s"]
    assert found["warm_first_output_s"] < 1.2
    assert "eyJ" not in finished.everything  # no JWT, neither the user's nor the admin's
    assert max(map(len, finished.out.splitlines())) <= 80


def test_without_an_admin_token_the_list_of_models_has_to_do(run_here: RunHere) -> None:
    with running(**SIM, asleep=True, boot_ms=BOOT_MS) as deployment:
        finished = run_here("--url", deployment.url, "--token", deployment.token)
    passed = {name: "PASS" for name in ("state", "request", "wake", "registered", "form")}
    assert (finished.code, statuses(finished)) == (0, {**passed, "wol_sent": "SKIP"})
    assert "no admin token" in detail(finished, "state")


def test_awake_there_is_nothing_to_wake(awake: Deployment, run_here: RunHere) -> None:
    finished = run_here(env=awake.environment)
    assert (finished.code, statuses(finished)["request"]) == (3, "PASS")
    assert "nothing to wake: 2 runners online" in detail(finished, "wake")
    finished = run_here("--allow-awake", "--timing")
    skipped = [name for name, status in statuses(finished).items() if status == "SKIP"]
    assert (finished.code, skipped) == (0, ["wake", "wol_sent", "timing"])
    finished = run_here("--wait-asleep", 1)
    assert finished.code == 3
    assert "after 1 s of waiting" in detail(finished, "wake")


def test_a_token_that_ends_before_the_wait_is_told_of(awake: Deployment, run_here: RunHere) -> None:
    binary = [awake.token_binary, "--expires-in", "-5"]  # within the fleet's leeway
    environment = {**os.environ, **awake.environment}
    token = subprocess.check_output(binary, env=environment, text=True).strip()
    finished = run_here("--url", awake.url, "--token", token, "--wait-asleep", 1)
    assert finished.code == 3
    assert "the token expires in 0 s" in finished.err


def test_it_waits_until_nobody_is_awake(run_here: RunHere) -> None:
    with running(**SIM, idle_timeout=3, boot_ms=BOOT_MS) as deployment:
        begun = time.monotonic()
        finished = run_here("--wait-asleep", 30, env=deployment.environment)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"}), finished.out
    assert time.monotonic() - begun < 25
    assert finished.document(NAME)["metrics"]["waited_for_sleep_s"] < 10


def test_who_is_awake_does_not_count_if_the_model_is_another_ones(run_here: RunHere) -> None:
    layout = "desk=smollm2:135m;tower=smollm2:135m-big"
    with running(**SIM, asleep=True, models=layout, boot_ms=BOOT_MS) as deployment:
        finished = run_here("--model", "smollm2:135m-big", env=deployment.environment)
        assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"}), finished.out
        assert "online now: tower" in detail(finished, "wake")
        finished = run_here("--model", "class:fast")
        assert (finished.code, statuses(finished)["wake"]) == (0, "PASS"), finished.out
        assert detail(finished, "wake") == "tower was online, desk was woken"


def test_a_packet_for_a_machine_that_was_not_expected_is_a_failure(run_here: RunHere) -> None:
    with running(**SIM, asleep=True) as deployment:
        options = ("--listen-wol", deployment.wol_port, "--expect-mac", TOWER)
        finished = run_here(*options, env=deployment.environment)
    assert (finished.code, statuses(finished)["packet"]) == (1, "FAIL")
    assert DESK in detail(finished, "packet") and TOWER in detail(finished, "packet")


def test_only_the_state_sends_no_request_and_wakes_nothing(
    sleeping: Deployment, run_here: RunHere
) -> None:
    finished = run_here("--only", "state", env=sleeping.environment)
    assert (finished.code, statuses(finished)) == (0, {"state": "PASS"})
    assert run_here("--only", "state").document(NAME)["metrics"]["asleep_before"]


def test_a_model_that_nobody_has_is_no_fault_of_the_wake(
    sleeping: Deployment, run_here: RunHere
) -> None:
    finished = run_here("--model", "nobodys:70b", env=sleeping.environment)
    assert finished.code == 1
    assert (statuses(finished)["request"], statuses(finished)["wake"]) == ("FAIL", "SKIP")
    assert "nobodys:70b" in detail(finished, "request")


def test_an_interrupted_wake_is_on_record(sleeping: Deployment) -> None:
    with start_script(SCRIPT, env=sleeping.environment) as process:
        assert process.stderr
        asked = next(line for line in process.stderr if "asking" in line)
        time.sleep(1.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert "nobody is online" in asked
    saved = json.loads(Path("results/wol.json").read_text())
    kinds = [record["kind"] for record in saved["requests"]]
    assert (process.returncode, saved["interrupted"], kinds.count("chat")) == (130, True, 1)
    assert kinds.count("state") >= 2


# --- the port


def test_a_port_that_others_do_not_share_is_exit_3_before_anything_is_sent() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, Server() as server:
        sock.bind(("", 0))
        port = sock.getsockname()[1]
        finished = run_script(SCRIPT, "--url", server.url, "--token", "x", "--listen-wol", port)
    said = [line for line in finished.err.splitlines() if line.startswith("test_wol.py: ")]
    assert (finished.code, len(said), server.calls) == (3, 1, [])
    assert f"UDP port {port}" in said[0] and "another program" in said[0]


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="Linux's low ports")
def test_a_low_port_takes_root_and_says_so() -> None:
    command = [PYTHON, str(ROOT / SCRIPT), "--token", "x", "--listen-wol"]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("no setpriv to give up root's right to low ports with")
        drop = "-net_bind_service"
        command = ["setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}", *command]
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if limit.exists() and int(limit.read_text()) <= magic_packet.PORT:
        pytest.skip("this machine gives low ports to everybody")
    finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert finished.returncode == 3
    assert "cannot listen on UDP port 9 (permission denied)" in finished.stderr
    assert "sudo" in finished.stderr


def test_a_mac_to_expect_takes_somebody_who_listens(run_here: RunHere) -> None:
    finished = run_here("--expect-mac", DESK)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert "--listen-wol" in finished.err


@pytest.mark.parametrize(
    "mistake",
    [
        ("--expect-mac", "02:00"),
        ("--listen-wol", "0"),
        ("--listen-wol", "70000"),
        ("--burst", "1"),
        ("--burst", "1001"),
        ("--model", ""),
        ("--model", "a\nb"),
        ("--wait-asleep", "0"),
    ],
    ids=repr,
)
def test_a_mistake_is_exit_2(mistake: tuple[str, str], run_here: RunHere) -> None:
    finished = run_here(*mistake)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        "--token YOUR_JWT_TOKEN",
        "--token-binary ./get-token --model llama3:8b",
        "--timing --token YOUR_JWT_TOKEN",
        "-v --token YOUR_JWT_TOKEN",
        "--debug --token YOUR_TOKEN",
        "--token-binary ./get-token",
        "--no-verify-ssl",
        "--timeout 180",
    ],
)
def test_the_guides_commands_parse(arguments: str) -> None:
    assert script.build_parser().parse_args(arguments.split()).burst is None


# --- other sound deployments


def models(*names: str) -> bytes:
    return response(200, {"object": "list", "data": [{"id": name} for name in names]})


def test_a_gateway_with_other_ways_is_not_accused(run_here: RunHere) -> None:
    """Its list takes a key, a web page stands where the admin API would be, `stream` is ignored,
    and all the model says is reasoning."""

    def listed(call: Call) -> None:
        known = call.headers.get("authorization") == "Bearer sk-opaque"
        call.send(models("big-one") if known else response(401))

    message = {"role": "assistant", "content": None, "reasoning_content": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    whole = {**WHOLE, "model": "big-one", "choices": [choice]}
    answers = {MODELS: listed, api.RUNNERS: response(200, b"<html>", content_type="text/html")}
    chat = response(200, whole, content_type="application/json")
    with Server(chat=chat, answers=answers) as server:
        arguments = ("--url", server.url, "--token", "sk-opaque", "--allow-awake", "--strict")
        finished = run_here(*arguments)
    assert (finished.code, "FAIL" in statuses(finished).values()) == (0, False), finished.out
    assert statuses(finished)["registered"] == "PASS"


def test_an_admin_api_that_is_a_web_page_is_none(run_here: RunHere) -> None:
    page = response(200, b"<!doctype html>", content_type="text/html")
    stream = HEAD + good_stream().replace(b'"choices"', b'"model": "m", "choices"')
    with Server(chat=stream, answers={MODELS: models("m"), api.RUNNERS: page}) as server:
        binary = ("--token-binary", "sh -c 'echo t0ken'")
        finished = run_here("--url", server.url, *binary, "--allow-awake")
    assert finished.code == 0, finished.out
    assert "/admin/runners answered 200" in detail(finished, "state")
    assert "FAIL" not in statuses(finished).values()


def test_the_keys_rate_limit_is_no_verdict(run_here: RunHere) -> None:
    limited = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
    chat = response(429, limited, content_type="application/json", retry_after=7)
    with Server(chat=chat, answers={MODELS: models()}) as server:
        finished = run_here("--url", server.url, "--token", "sk-opaque")
    assert (finished.code, statuses(finished)["request"]) == (3, "SKIP")
    assert "Retry-After 7" in detail(finished, "request")
    assert server.count(CHAT) == 1


LIMITED = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
LIMIT_REACHED = Stop(Cause.RATE_LIMIT, "the rate limit is reached")
LIMIT = response(429, LIMITED, content_type="application/json", retry_after=60)


def test_the_rate_limit_on_the_lists_is_no_verdict(run_here: RunHere) -> None:
    with Server(everywhere=LIMIT) as server:
        finished = run_here("--url", server.url, "--token", "sk-opaque")
        assert (server.count(MODELS), server.count(CHAT)) == (1, 0)
    assert (finished.code, statuses(finished)) == (3, {})
    assert "Retry-After 60" in finished.err


PAGE = b"<html><head><title>502 Bad Gateway</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (response(502, PAGE, content_type="text/html"), "FAIL"),
        (response(404, PAGE, content_type="text/html"), "PASS"),
        (response(302, b"", location="/login"), "PASS"),
    ],
    ids=["502", "404", "302"],
)
def test_an_error_page_is_not_the_lack_of_an_admin_api(
    answer: bytes, status: str, run_here: RunHere
) -> None:
    with Server(answers={MODELS: models("m"), api.RUNNERS: answer}) as server:
        binary = ("--token-binary", "sh -c 'echo t0ken'")
        finished = run_here("--url", server.url, *binary, "--only", "state")
    assert statuses(finished) == {"state": status}, finished.out


def test_a_log_that_is_written_late_is_waited_for(run_here: RunHere) -> None:
    """Another's entry, of a runner without the model, comes before ours."""
    seen: dict[str, Any] = {"awake": False, "log": []}

    def served(call: Call) -> None:
        call.wait(0.5)
        entry = {"id": "theirs", "model": "m", "status": 200, "runner_id": "tower"}
        seen.update(awake=True, log=[entry])
        call.send(HEAD + delta("hi", model="m") + delta(reason="stop", model="m") + DONE)
        call.wait(0.3)
        seen["log"] = [{**entry, "id": "ours", "runner_id": "desk", "wol_sent": True}, entry]

    def answer(call: Call) -> None:
        known = [("desk", seen["awake"], "m"), ("tower", True, "other")]
        keys = ("id", "is_online", "available_models")
        machines = [dict(zip(keys, (n, on, [m]), strict=True)) for n, on, m in known]
        if call.path == CHAT:
            served(call)
        elif call.path == api.RUNNERS:
            call.send(response(200, {"runners": machines}))
        elif call.path == MODELS:
            call.send(models("other", *["m"] * seen["awake"]))
        else:
            call.send(response(200, {"requests": seen["log"]}))

    with Server(everywhere=answer) as server:
        binary = ("--token-binary", "sh -c 'echo t0ken'", "--model", "m", "--strict")
        finished = run_here("--url", server.url, *binary)
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"}), finished.out


def test_the_rate_limit_while_it_waits_hides_who_woke(run_here: RunHere) -> None:
    def served(call: Call) -> None:
        call.wait(0.5)
        call.send(HEAD + delta("hi", model="m") + delta(reason="stop", model="m") + DONE)

    answers = {MODELS: in_turn(*[models()] * 3, LIMIT)}
    with Server(chat=served, answers=answers) as server:
        finished = run_here("--url", server.url, "--token", "sk-opaque")
    assert (finished.code, statuses(finished)["wake"]) == (3, "SKIP"), finished.out
    assert "Retry-After 60" in detail(finished, "registered")
    assert server.count(MODELS) == 5  # it does not go on asking: the last is the one afterwards


def test_reasoning_that_is_not_shown_is_an_answer(run_here: RunHere) -> None:
    stream = HEAD + delta(model="m") + delta(reason="length", model="m") + usage(16) + DONE
    with Server(chat=stream, answers={MODELS: models("m")}) as server:
        arguments = ("--url", server.url, "--token", "sk-opaque", "--allow-awake")
        finished = run_here(*arguments)
    assert (finished.code, statuses(finished)["request"]) == (0, "WARN"), finished.out
    said = "all 16 tokens went into thoughts (reasoning that is not shown)"
    assert said in detail(finished, "request")


def test_a_stream_that_ends_at_max_tokens_without_a_word_is_undecided(run_here: RunHere) -> None:
    stream = HEAD + delta(model="m") + delta(reason="length", model="m") + DONE
    with Server(chat=stream, answers={MODELS: models("m")}) as server:
        arguments = ("--url", server.url, "--token", "sk-opaque", "--allow-awake")
        finished = run_here(*arguments)
    assert (finished.code, statuses(finished)["request"]) == (3, "SKIP"), finished.out


# --- deployments that are no use


def test_a_list_that_hangs_costs_one_timeout_and_nothing_else_is_asked(run_here: RunHere) -> None:
    with Server(answers={MODELS: hang}) as server:
        begun = time.monotonic()
        finished = run_here("--url", server.url, "--token", "x", "--timeout", 1)
    assert time.monotonic() - begun < 6
    assert (finished.code, statuses(finished)["state"], len(server.calls)) == (1, "FAIL", 1)


def test_a_list_that_hangs_later_ends_the_watch(run_here: RunHere) -> None:
    answers = {MODELS: in_turn(*[models()] * 3, hang)}
    with Server(chat=hang, answers=answers) as server:
        begun = time.monotonic()
        finished = run_here("--url", server.url, "--token", "x", "--timeout", 1)
    assert time.monotonic() - begun < 12
    assert (finished.code, statuses(finished)["request"]) == (1, "FAIL")
    assert statuses(finished)["wake"] == "SKIP"  # who is online cannot be read any more


def test_a_runner_that_comes_after_the_request_was_refused_is_seen(run_here: RunHere) -> None:
    answers = {MODELS: in_turn(*[models()] * 5, models("late"))}
    with Server(chat=response(503, b"waking up"), answers=answers) as server:
        finished = run_here("--url", server.url, "--token", "x")
    assert (finished.code, statuses(finished)["wake"]) == (1, "PASS")
    assert "503 waking up" in detail(finished, "request")
    assert "late came online" in detail(finished, "wake")


def test_a_refused_name_says_which_role_is_missing(run_here: RunHere) -> None:
    refusal = response(400, b"Permission denied: cannot request specific models.")
    with Server(chat=refusal, answers={MODELS: models()}) as server:
        arguments = ("--url", server.url, "--token", "x", "--model", "llama3:8b")
        finished = run_here(*arguments)
    assert (finished.code, statuses(finished)["wake"]) == (1, "SKIP")
    assert "model:specific" in detail(finished, "request")


def test_a_401_for_the_request_is_the_credentials(run_here: RunHere) -> None:
    with Server(chat=response(401, b"no"), answers={MODELS: models()}) as server:
        finished = run_here("--url", server.url, "--token", "x")
    assert finished.code == 3
    assert "401" in finished.err and "--token" in finished.err


# --- judges


def test_a_wake_with_nothing_wrong_passes() -> None:
    evidence = asleep(heard=heard(10.1))
    checks = [
        script.check_state(evidence),
        script.check_request(evidence, 120),
        script.check_wake(evidence, False),
        script.check_registered(evidence),
        script.check_packet(evidence),
        script.check_timing(evidence),
    ]
    assert {each.status for each in checks} == {Status.PASS}
    assert script.metrics(evidence)["runner_online_s"] == 1.5


@pytest.mark.parametrize(
    ("wait_s", "word", "status"),
    [(29.9, "fast", "PASS"), (30.0, "moderate", "PASS"), (60.0, "moderate", "PASS")]
    + [(60.1, "slow", "WARN")],
)
def test_the_time_is_fast_moderate_or_slow(wait_s: float, word: str, status: str) -> None:
    found = script.check_timing(asleep(answers=[served(wait_s)], warm=[served(0.1)]))
    assert (found.status, found.detail.partition(":")[0]) == (status, word)
    assert "warm 100 ms" in found.detail


def test_a_machine_without_a_mac_cannot_be_woken() -> None:
    refused = [failed(500, "no")]
    mute = state(9.0, (runner(mac=None),), ())
    assert script.check_state(asleep(before=mute, answers=refused)).status is Status.WARN
    assert script.check_state(asleep(before=mute)).status is Status.PASS  # it could
    assert script.check_state(asleep(answers=refused)).status is Status.PASS


def test_a_model_that_answers_under_another_name_than_it_is_listed_by() -> None:
    alias = {"answers": [served(model="m-q4")]}
    assert script.check_registered(asleep(**alias)).status is Status.FAIL
    named = dataclasses.replace(asleep(**alias), model="m")
    assert script.check_registered(named).status is Status.WARN
    nameless = asleep(answers=[served(model=None)])
    assert script.check_registered(nameless).status is Status.SKIP


def burst(count: int, *at_s: float, **more: Any) -> Any:
    answers = [served() for _ in range(count)]
    return script.check_woken_once(asleep(answers=answers, heard=heard(*at_s, **more)))


def test_a_repeated_packet_is_not_one_for_each_request() -> None:
    at_once = [10.1 + n / 100 for n in range(8)]
    assert burst(8, *at_once).status is Status.WARN
    assert burst(8, *at_once[:7]).status is Status.WARN
    assert burst(4, *at_once[:4]).status is Status.WARN
    assert burst(8, 10.1, 10.2, 10.3).status is Status.PASS
    assert burst(3, *at_once[:3]).status is Status.PASS  # as senders do that repeat it
    assert burst(4, 10.1, 10.6, 11.1, 11.6).status is Status.PASS
    assert script.check_woken_once(asleep()).status is Status.SKIP


def test_packets_for_all_runners_are_counted_together() -> None:
    pair = state(9.0, (runner(), runner("tower", mac=TOWER)), ())
    at_once = [10.1 + n / 100 for n in range(8)]
    each = heard(*at_once[::2]) + heard(*at_once[1::2], mac=TOWER)
    both = {"before": pair, "answers": [served() for _ in range(8)]}
    assert script.check_woken_once(asleep(heard=each, **both)).status is Status.WARN
    one_each = heard(10.1) + heard(10.11, mac=TOWER)
    assert script.check_woken_once(asleep(heard=one_each, **both)).status is Status.PASS
    foreign = heard(*[10.1] * 9, mac=NAS)
    assert script.check_woken_once(asleep(heard=foreign, **both)).status is Status.SKIP


def logged(requests: int, sent: int, entries: int | None = None, **more: Any) -> Any:
    """The verdict when nothing was heard: `sent` of the log's new entries have wol_sent."""
    count = requests if entries is None else entries
    found = log_entries(count)
    log = [dataclasses.replace(e, wol_sent=n < sent) for n, e in enumerate(found)]
    fields = {"log_before": [], "log_after": log, **more}
    answers = [served() for _ in range(requests)]
    return script.check_woken_once(asleep(answers=answers, **fields))


def test_the_log_tells_how_often_when_nobody_listens() -> None:
    each = logged(4, 4)
    assert (each.status, "wol_sent in 4 of 4" in each.detail) == (Status.WARN, True)
    assert logged(4, 2).status is Status.WARN
    assert logged(4, 4, heard=[]).status is Status.WARN  # a relay sends them
    assert logged(4, 1).status is Status.PASS
    assert logged(4, 0).status is Status.SKIP
    assert logged(4, 1, entries=3).status is Status.SKIP  # the fourth may have sent one as well
    assert logged(4, 2, entries=6).status is Status.SKIP  # those two may be somebody else's
    assert logged(4, 4, entries=6).status is Status.WARN  # two of them at most
    unread = logged(4, 4, entries=0, no_log="403")
    assert (unread.status, "403" in unread.detail) == (Status.SKIP, True)
    # what was heard is better evidence than the log, which may note each request that waited
    waited = logged(4, 4, heard=heard(10.1))
    assert (waited.status, "more than was heard" in waited.detail) == (Status.PASS, True)


def test_a_machine_woken_although_one_that_offers_the_model_was_online_is_a_warning() -> None:
    desk, tower = runner(online=True), runner("tower", mac=TOWER)
    fields = {
        "before": state(9.0, (desk, tower), ("m",)),
        "states": [state(11.5, (desk, runner("tower", online=True, mac=TOWER)))],
        "after": state(13.0, (desk, runner("tower", online=True, mac=TOWER)), ("m",)),
        "heard": heard(10.1, mac=TOWER),
    }
    assert script.check_wake(asleep(**fields), False).status is Status.PASS  # a class: who knows
    named = dataclasses.replace(asleep(**fields), model="m")
    assert script.check_wake(named, False).status is Status.WARN


def test_packets_from_before_the_request_are_not_the_gateways() -> None:
    assert script.check_packet(asleep(heard=heard(9.5))).status is Status.WARN
    assert "no packet was heard" in script.check_packet(asleep(heard=heard(9.5))).detail


def test_a_list_that_was_empty_by_mistake_is_no_sleep() -> None:
    def seen(wait_s: float, *states: State) -> Any:
        before, after = state(9.0, None, ()), state(13.0, None, ("m",))
        answers = [served(wait_s)]
        return asleep(before=before, states=[*states], after=after, answers=answers)

    assert script.check_wake(seen(0.3), False).status is Status.WARN
    assert script.check_wake(seen(3.0), False).status is Status.PASS
    still_empty = state(10.2, None, ())
    assert script.check_wake(seen(0.3, still_empty), False).status is Status.WARN


def test_no_machine_wakes_at_once_whatever_the_admin_api_says() -> None:
    fast = asleep(answers=[served(0.3)], heard=heard(10.1))
    assert script.check_wake(fast, False).status is Status.WARN
    assert "is /admin/runners out of date" in script.check_wake(fast, False).detail


def test_a_wake_takes_somebody_who_came_online_or_was_sent_a_packet() -> None:
    still = state(13.0, (runner(),), ("m",))
    assert script.check_wake(asleep(states=[], after=still), False).status is Status.WARN
    packet = asleep(states=[], after=still, heard=heard(10.1))
    assert script.check_wake(packet, False).status is Status.PASS
    hidden = asleep(states=[], after=state(13.0, error="429", stop=LIMIT_REACHED))
    found = script.check_wake(hidden, False)
    assert (found.status, found.essential) == (Status.SKIP, True)
    assert "rate limit" in found.detail


def test_lists_that_contradict_each_other_keep_a_wake_from_passing() -> None:
    found = script.check_wake(asleep(before=state(9.0, (runner(),), ("m",))), False)
    assert (found.status, "but before" in found.detail) == (Status.WARN, True)


def test_another_model_in_place_of_the_one_that_sleeps_is_a_failure() -> None:
    small = dataclasses.replace(runner("desk", online=True), models=frozenset({"small"}))
    big = dataclasses.replace(runner("tower", mac=TOWER), models=frozenset({"big"}))
    before = state(9.0, (small, big), ("small",))
    after = dataclasses.replace(before, at_ns=ns(13.0))
    stray = {"before": before, "states": [], "after": after}
    stray["answers"] = [served(model="small")]
    evidence = asleep("big", **stray)
    request, wake = script.check_request(evidence, 120), script.check_wake(evidence, False)
    assert (request.status, "small" in request.detail) == (Status.FAIL, True)
    assert (wake.status, wake.essential) == (Status.SKIP, True)
    assert script.check_registered(evidence).status is Status.SKIP
    stray["answers"] = [served(model="big-q4")]  # what it calls itself
    assert script.check_request(asleep("big", **stray), 120).status is Status.PASS


def test_a_name_that_is_not_listed_is_not_known_to_sleep() -> None:
    listed = state(9.0, None, ("llama3-8b",))
    fields = {"before": listed, "states": [], "after": dataclasses.replace(listed, at_ns=ns(13.0))}
    fields["answers"] = [served(0.2, "llama3")]
    evidence = asleep("llama3", **fields)
    wake = script.check_wake(evidence, False)
    assert (wake.status, wake.essential) == (Status.SKIP, True)
    assert "not listed by this name" in wake.detail
    assert script.check_registered(evidence).status is Status.WARN


def test_an_answer_without_a_name_needs_somebody_who_is_listed() -> None:
    nameless = {"answers": [served(model="class:fast")], "states": []}
    for after in (state(13.0, (runner(),), ()), state(13.0, None, ())):
        found = script.check_registered(asleep(after=after, **nameless))
        assert found.status is Status.FAIL, found


def test_a_neighbours_packet_is_not_a_wrong_one_if_ours_woke() -> None:
    assert script.check_packet(asleep(heard=heard(10.1, mac=NAS))).status is Status.WARN
    expected = asleep(expected_macs=[TOWER], heard=heard(10.1, mac=NAS))
    assert script.check_packet(expected).status is Status.FAIL
    slept = asleep(answers=[failed(500, "no")], states=[], after=None, heard=heard(10.1, mac=NAS))
    assert script.check_packet(slept).status is Status.FAIL


def test_a_packet_for_a_runner_without_the_model_is_for_the_wrong_machine() -> None:
    big = dataclasses.replace(runner("tower", mac=TOWER), models=frozenset({"big"}))
    answers = [failed(500, "no")]
    fields = {"before": state(9.0, (runner(), big), ()), "states": [], "after": None}
    found = script.check_packet(asleep("big", answers=answers, **fields, heard=heard(10.1)))
    assert (found.status, "wrong machine" in found.detail) == (Status.FAIL, True)


def test_who_wakes_all_machines_has_no_stale_list() -> None:
    tower = runner("tower", online=True, mac=TOWER)
    before, after = state(9.0, (runner(), tower), ("m",)), (runner(online=True), tower)
    fields = {"before": before, "states": [state(11.0, after)], "after": state(13.0, after, ("m",))}
    packets = heard(10.1) + heard(10.1, mac=TOWER)
    found = script.check_wake(asleep(heard=packets, **fields), False)
    assert (found.status, "desk was woken" in found.detail) == (Status.PASS, True)


def test_a_token_that_ended_before_the_warm_request_undoes_nothing() -> None:
    found = script.check_timing(asleep(warm=[failed(401, "token expired")]))
    assert (found.status, "has the token expired" in found.detail) == (Status.WARN, True)


def test_a_log_that_shows_its_oldest_first_says_nothing() -> None:
    full = log_entries(api.LOG_PAGE, at_s=1.0)
    found = script.check_wol_sent(asleep(log_before=full, log_after=full))
    assert found.status is Status.SKIP
    newest = [dataclasses.replace(e, at_s=99.0 - n) for n, e in enumerate(full)]
    found = script.check_wol_sent(asleep(log_before=newest, log_after=newest))
    assert (found.status, "not in the log" in found.detail) == (Status.WARN, True)


def test_phases_of_a_burst_count_from_its_first_request() -> None:
    late = served(1.1, sent_s=10.4)  # its first output: 11.5
    seen = [state(11.45, (runner(online=True),))]
    found = script.metrics(asleep(answers=[served(9.0), late], states=seen))
    assert (found["runner_online_s"], found["first_output_s"]) == (1.45, 1.5)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"heard": heard(10.1)}, "firmware"),
        ({"heard": heard(10.1, mac=TOWER)}, "could not wake"),
        ({"heard": []}, "no packet was heard"),
        ({}, "--listen-wol"),
    ],
)
def test_a_wake_that_failed_says_where_to_look(seen: dict[str, Any], words: str) -> None:
    still = state(13.0, (runner(),), ())
    answers = [failed(500, "Failed to wake inference runners")]
    found = script.check_wake(asleep(states=[], after=still, answers=answers, **seen), False)
    assert (found.status, words in found.detail) == (Status.FAIL, True), found.detail
