"""test_model_routing.py: its rules on answers made by hand; the script on fleets good and odd."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import hostile
from helpers.answers import answer_to
from helpers.hostile import Call, Server, event, response
from helpers.scripts import ROOT, Finished, SavedAs, run_script, start_script

import test_model_routing as routing
from common import Status
from livecheck.fleet import api
from livecheck.fleet.model_answers import Exchange, Listing, Question
from livecheck.fleet.roles import ADMIN, SPECIFIC
from livecheck.wire import chat
from reference import Deployment, running

SCRIPT = "test_model_routing.py"
SAVED = SavedAs("model_routing")
statuses, only, detail = SAVED.statuses, SAVED.only, SAVED.detail
SMALL, BIG = "small:1b", "big:70b"
CLASSES = {"class:fast": SMALL, "class:big": BIG}
QUICK: dict[str, Any] = {"profile": "fleet", "engine": "sim", "ttft_ms": 4, "output_tokens": 4}
ROLE_CHECKS = {"role_none", "role_specific", "role_admin"}


@pytest.fixture(scope="module")
def sound() -> Iterator[Deployment]:
    with running(**QUICK) as deployment:
        yield deployment


def check(deployment: Deployment, *arguments: object) -> Finished:
    """With the token and the token binary that the deployment exports."""
    return run_script(SCRIPT, *arguments, env=deployment.environment)


def token_of(*roles: str) -> str:
    """A JWT that nobody verifies."""
    parts = ({"alg": "RS256"}, {"sub": "me", "roles": list(roles)}, "sig5ecret")
    return ".".join(map(encoded, parts))


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


# --- fleets


def test_a_sound_fleet_passes_also_asleep_and_in_every_role() -> None:
    with running(**QUICK, asleep=True, boot_ms=300) as deployment:
        finished = check(deployment, "--test-permissions")
    assert finished.code == 0
    assert only("WARN", finished) == {"full_access"}
    assert only("PASS", finished) == set(routing.CHECKS) - {"model", "full_access"}
    assert "2 models (0 at first)" in detail(finished, "listing")
    fast = finished.document("model_routing")["metrics"]["models"]["class:fast"]
    assert (fast["requests"], fast["answered"]) == (6, 6)
    assert fast["first_ms"] > 300 > fast["p50_ms"]


def test_a_real_model_answers_for_its_class_and_by_its_name() -> None:
    with running(profile="fleet", engine="llama") as deployment:
        finished = check(deployment, "--models", "class:fast", "smollm2:135m-big")
    assert finished.code == 0
    assert set(statuses(finished).values()) == {"PASS"}


def test_the_guides_commands_run_as_they_are_printed() -> None:
    """Each with --url added; a token binary in the current folder."""
    os.symlink(ROOT / "reference" / "get-token", "get-token")
    names = "desk=llama3:8b,llama3:8b-big;tower=llama3:8b"
    with running(**QUICK, models=names) as deployment:
        secret = deployment.environment["SIMPLEAI_TEST_TOKEN"]
        for command in (
            "--model class:fast",
            "--model llama3:8b --token-binary ./get-token",
            "--models class:fast class:big",
            "--test-permissions",
            "--token-binary ./get-token --models class:fast class:big",
            f"--model class:fast --token {secret}",
        ):
            finished = check(deployment, "--url", deployment.url, *shlex.split(command))
            assert finished.code == 0, command
            assert secret not in finished.everything


def test_one_model_for_all_is_no_fault_where_there_is_one() -> None:
    same = "desk=small:1b-big;tower=small:1b-big"
    with running(**QUICK, models=same) as deployment:
        finished = check(deployment, "--model", "class:big")
    assert (finished.code, set(statuses(finished).values())) == (0, {"PASS"})


def test_the_reason_why_a_class_is_not_served_is_in_the_line() -> None:
    with running(**QUICK, models="desk=small:1b") as deployment:
        finished = check(deployment)
    assert (finished.code, only("FAIL", finished)) == (1, {"class"})
    text = detail(finished, "class")
    assert "class:big: 0 of 2 good: 2 times 500 No runners have models of class 'big'" in text
    assert "class:fast" not in text
    assert len(finished.document("model_routing")["requests"]) == 6 + 2 + 4


def test_a_token_without_the_role_fails_and_says_which_it_takes(sound: Deployment) -> None:
    env = {"SIMPLEAI_TEST_TOKEN": sound.environment["SIMPLEAI_TEST_TOKEN"]}
    finished = run_script(SCRIPT, "--url", sound.url, "--model", "smollm2:135m", env=env)
    assert (finished.code, only("FAIL", finished)) == (1, {"model"})
    assert "it needs the role model:specific, the token has no role" in detail(finished, "model")
    assert only("SKIP", finished) == {"stream", "unknown_model"}
    assert "only a token with the role model:specific" in detail(finished, "unknown_model")


def test_with_a_token_alone_the_roles_are_those_that_it_names(sound: Deployment) -> None:
    env = {"SIMPLEAI_TEST_TOKEN": sound.environment["SIMPLEAI_TEST_TOKEN"]}
    finished = run_script(SCRIPT, "--url", sound.url, "--test-permissions", env=env)
    assert finished.code == 0
    assert only("SKIP", finished) >= {"role_specific", "role_admin", "full_access"}
    assert statuses(finished)["role_none"] == "PASS"
    assert "has no role, not admin: --token-binary makes" in detail(finished, "role_admin")


def test_the_binary_that_ignores_the_role_accuses_nobody(sound: Deployment) -> None:
    token = sound.environment["SIMPLEAI_TEST_TOKEN"]
    Path("same").write_text(f"#!/bin/sh\necho {token}\n")
    Path("same").chmod(0o700)
    target = ("--url", sound.url, "--token-binary", "./same")
    finished = run_script(SCRIPT, *target, "--test-permissions")
    assert finished.code == 0
    assert only("SKIP", finished) >= {"role_specific", "role_admin", "full_access"}
    assert "asked for model:specific, the token binary gave a token with no role" in detail(
        finished, "role_specific"
    )


def test_the_output_fits_80_columns_and_json_is_the_saved_document() -> None:
    long = "a-rather-long-organisation-name/and-a-model-with-a-long-name-instruct-q4_k_m:8b"
    with running(**QUICK, models=f"desk={long},{long}-big") as deployment:
        text = check(deployment, "--test-permissions")
        as_json = check(deployment, "--output", "json", "--only", "class")
    assert (text.code, as_json.code) == (0, 0)
    assert max(map(len, text.out.splitlines())) <= 80
    assert json.loads(as_json.out) == as_json.document("model_routing")
    assert len(as_json.document("model_routing")["requests"]) == 12


def test_strict_makes_a_warning_fail(sound: Deployment) -> None:
    finished = check(sound, "--test-permissions", "--strict", "--only", "full_access")
    assert (finished.code, only("FAIL", finished)) == (1, {"full_access"})


@pytest.mark.parametrize(
    "arguments",
    [("--model", ""), ("--models",), ("--alias", "a"), ("--alias", "a="), ("--alias", "=b")],
)
def test_what_names_no_model_is_exit_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        routing.main(["--url", "http://127.0.0.1:9", *arguments])
    assert (ended.value.code, len(capsys.readouterr().err.splitlines())) == (2, 1)


# --- other servers


def spoken(call: Call, model: str | None) -> bytes:
    """A completion by this model, as a stream if that was asked for."""
    names = [model] if model else []
    return streamed(*names) if call.fields["stream"] else whole(*names)


def whole(*models: str) -> bytes:
    """A completion in one piece; it names its model, if any."""
    message = {"role": "assistant", "content": "yes"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    named = {"model": models[0]} if models else {}
    fields = {**hostile.WHOLE, **named, "choices": [choice]}
    return response(200, fields, content_type="application/json")


def streamed(*models: str) -> bytes:
    """A completion as a stream; each chunk names a model, if any."""
    chunks = [hostile.delta("yes", model=name) for name in models] or [hostile.delta("yes")]
    named = {"model": models[-1]} if models else {}
    return hostile.HEAD + b"".join(chunks) + hostile.delta(reason="stop", **named) + hostile.DONE


def refused(status: int, message: str) -> bytes:
    return hostile.error(status, message)


def fleet_of(
    odd: Callable[[Call, str], bytes | None] = lambda call, asked: None,
    denial: bytes = b"",
    models: tuple[str, ...] = (SMALL, BIG),
    **answers: Any,
) -> Server:
    """A small fleet with errors in OpenAI's form and no admin API; `odd` may answer first."""

    def chat(call: Call) -> None:
        asked = call.fields["model"]
        answer = odd(call, asked)
        if answer is None and asked in models and SPECIFIC not in claims(call):
            answer = denial or None
        if answer is None and (asked in models or asked in CLASSES):
            answer = spoken(call, CLASSES.get(asked, asked))
        call.send(answer or refused(404, f"model {asked} not found"))

    listing = response(200, {"object": "list", "data": [{"id": name} for name in models]})
    return Server(chat, {"/v1/models": listing, **answers})


def claims(call: Call) -> str:
    payload = call.headers["authorization"].partition(".")[2].partition(".")[0]
    return base64.urlsafe_b64decode(payload + "==").decode()


def ask(server: Server, *arguments: object, token: str = "sk-opaque", **options: Any) -> Finished:
    with server:
        target = ("--url", server.url, "--token", token)
        return run_script(SCRIPT, *target, *arguments, **options)


def test_json_errors_403_and_no_admin_api_are_as_good() -> None:
    server = fleet_of(denial=refused(403, "key not allowed to access model"))
    finished = ask(server, "--test-permissions", token=token_of())
    assert finished.code == 0
    assert statuses(finished)["role_none"] == "PASS"
    said = detail(finished, "role_none")
    assert "small:1b refused with 403; there is no /admin/runners (404)" in said


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]"])
def test_an_admin_api_that_gives_everybody_nothing_leaves_the_roles_undecided(body: bytes) -> None:
    empty = response(200, body, content_type="application/json")
    paths = {path: empty for path in api.ADMIN_PATHS}
    server = fleet_of(denial=refused(403, "no"), **paths)
    printed = "jwt(sub='me', roles=roles)"
    with server:
        finished = run_script(SCRIPT, "--url", server.url, *mint(printed), "--test-permissions")
    for name in ("role_none", "role_admin"):
        assert (name, statuses(finished)[name]) == (name, "SKIP")
        assert "/admin/runners not decided: " in detail(finished, name)
    assert finished.code == 0 or only("FAIL", finished) == {"role_specific"}


def mint(printed: str) -> tuple[str, str]:
    """The option for a token binary that prints this expression of `roles` and `jwt(claims)`."""
    Path("mint").write_text(
        f"#!{sys.executable}\n"
        "import base64, json, os, sys\n"
        "roles = [after for role, after in zip(sys.argv, sys.argv[1:]) if role == '--role']\n"
        "b64 = lambda part: base64.urlsafe_b64encode(json.dumps(part).encode()).decode()\n"
        "def jwt(**claims):\n"
        "    parts = {'alg': 'RS256'}, {'jti': os.getpid(), **claims}\n"
        "    return '.'.join(b64(part).rstrip('=') for part in parts) + '.c2ln'\n"
        f"print({printed})\n"
    )
    Path("mint").chmod(0o700)
    return "--token-binary", "./mint"


@pytest.mark.parametrize("printed", ["'sk-opaque-key'", "jwt(sub='me')", "jwt(roles=None)"])
def test_tokens_that_are_alike_for_every_role_accuse_nobody(printed: str) -> None:
    with fleet_of() as server:
        finished = run_script(SCRIPT, "--url", server.url, *mint(printed), "--test-permissions")
    assert finished.code == 0
    assert only("SKIP", finished) == ROLE_CHECKS | {"full_access"}
    assert "are alike, whatever the role" in detail(finished, "role_none")


def test_tokens_that_say_nothing_of_their_roles_are_believed_if_they_differ() -> None:
    def odd(call: Call, asked: str) -> bytes | None:
        if asked not in (SMALL, BIG):
            return None
        held = call.headers["authorization"].endswith("mo")
        return spoken(call, asked) if held else refused(403, "no")

    with fleet_of(odd) as server:
        printed = "'sk-key-' + '-'.join(role[:2] for role in roles)"  # no word of the output
        finished = run_script(SCRIPT, "--url", server.url, *mint(printed), "--test-permissions")
    assert finished.code == 0
    assert {statuses(finished)[name] for name in ("role_none", "role_specific")} == {"PASS"}
    assert "With model:specific (the token has unknown roles)" in finished.out


def test_keycloaks_roles_are_read_and_one_token_may_have_two() -> None:
    payload = {"sub": "me", "realm_access": {"roles": [ADMIN, SPECIFIC]}}
    token = f"{encoded({'alg': 'RS256'})}.{encoded(payload)}.{encoded('sig5ecret')}"
    runners = response(200, {"runners": []}, content_type="application/json")
    finished = ask(fleet_of(**{api.ADMIN_PATHS[0]: runners}), "--test-permissions", token=token)
    assert finished.code == 0
    assert {statuses(finished)[name] for name in ("role_specific", "role_admin")} == {"PASS"}
    assert "it has admin, model:specific" in detail(finished, "role_none")
    assert "the role model:specific as well" in detail(finished, "full_access")


def test_role_tokens_that_are_refused_while_the_basic_one_is_good_fail() -> None:
    def odd(call: Call, asked: str) -> bytes | None:
        return refused(401, "invalid token") if SPECIFIC in claims(call) else None

    with fleet_of(odd, denial=refused(403, "no")) as server:
        options = (*mint("jwt(roles=roles)"), "--test-permissions")
        finished = run_script(SCRIPT, "--url", server.url, *options)
    assert (finished.code, only("FAIL", finished)) == (1, {"role_specific"})
    assert "the token for model:specific is refused (401)" in detail(finished, "role_specific")
    assert "the token with model:specific is refused" in detail(finished, "unknown_model")


def test_streams_that_alone_are_refused_fail() -> None:
    def odd(call: Call, asked: str) -> bytes | None:
        return refused(401, "missing token") if call.fields["stream"] else None

    finished = ask(fleet_of(odd), "--model", "class:fast")
    assert (finished.code, only("FAIL", finished)) == (1, {"class"})
    assert "3 of 6 good: 3 times 401 missing token" in detail(finished, "class")


def test_nobody_there_is_not_busy_whatever_it_says_of_later() -> None:
    nobody = hostile.error(503, "No runners have models of class 'fast'", retry_after=30)
    finished = ask(fleet_of(lambda call, asked: nobody))
    assert (finished.code, only("FAIL", finished)) == (1, {"class"})
    assert "No runners have models of class 'fast'" in detail(finished, "class")


@pytest.mark.parametrize(("control", "code"), [(502, 3), (None, 0)])
def test_a_refusal_counts_only_where_something_is_answered(control: int | None, code: int) -> None:
    def odd(call: Call, asked: str) -> bytes | None:
        good = asked == BIG and control is None  # no class is: it is a single server
        return None if good else refused(502, "bad gateway")

    server = fleet_of(odd, models=(BIG,), denial=b"")
    options = ("--only", "unknown_model", "unknown_class")
    finished = ask(server, *options, token=token_of(SPECIFIC))
    status = "SKIP" if control else "PASS"
    assert (finished.code, set(statuses(finished).values())) == (code, {status})
    requests = finished.document("model_routing")["requests"]
    assert [r["part"] for r in requests] == ["control"] * 3 + ["unknown"] * 4


def test_an_unknown_model_that_is_held_is_a_warning_and_the_roles_are_tried() -> None:
    def holds(call: Call, asked: str) -> bytes | None:
        call.wait(30) if asked == routing.UNKNOWN_MODEL else None
        return None

    server = fleet_of(holds, denial=refused(403, "no"))
    finished = ask(server, "--timeout", "1", "--test-permissions", token=token_of())
    assert (finished.code, only("WARN", finished)) == (0, {"unknown_model"})
    assert "a longer --timeout would show" in detail(finished, "unknown_model")
    assert statuses(finished)["role_none"] == "PASS"


@pytest.mark.parametrize("counts", [True, False])
def test_hidden_reasoning_is_a_warning(counts: bool) -> None:
    """Few streams count their tokens: they are believed after a whole answer that did."""
    usage = {"usage": {"completion_tokens": 32}} if counts else {}

    def thinks(call: Call, asked: str) -> bytes | None:
        choice = {"message": {"content": ""}, "finish_reason": "length"}
        if asked != "class:fast":
            return None
        if call.fields["stream"]:
            return hostile.HEAD + hostile.delta(reason="length", model=SMALL) + hostile.DONE
        return response(200, {"model": SMALL, "choices": [choice], **usage})

    finished = ask(fleet_of(thinks), "--model", "class:fast")
    assert statuses(finished)["class"] == ("WARN" if counts else "FAIL")
    if counts:
        said = "in 6 of 6 answers, all 32 tokens went into thoughts (reasoning that is not shown)"
        assert said in detail(finished, "class")


def test_a_connection_that_fails_is_not_tried_again() -> None:
    server = fleet_of()
    gone = response(200, {"object": "list", "data": [{"id": SMALL}]})

    def closes(call: Call) -> None:
        server.__exit__()
        call.send(gone)

    server._answers["/v1/models"] = closes
    finished = ask(server)
    assert (finished.code, only("FAIL", finished)) == (1, {"class"})
    assert len(finished.document("model_routing")["requests"]) == 1


def test_model_specific_is_tried_with_many_models_and_the_line_says_with_how_many() -> None:
    models = tuple(f"model-{number}" for number in range(10))

    def odd(call: Call, asked: str) -> bytes | None:
        if asked in CLASSES:
            return spoken(call, models[0])
        return refused(403, "no permission") if asked == "model-6" else None

    options = ("--test-permissions", "--only", "role_specific")
    finished = ask(fleet_of(odd, models=models), *options, token=token_of(SPECIFIC))
    assert (finished.code, only("FAIL", finished)) == (1, {"role_specific"})
    good = ask(fleet_of(models=models), *options, token=token_of(SPECIFIC))
    assert "8 of 10 listed models asked for by name" in detail(good, "role_specific")


def test_an_opaque_key_says_nothing_of_roles_and_the_rest_is_decided() -> None:
    finished = ask(fleet_of(), "--test-permissions")
    assert finished.code == 0
    assert only("SKIP", finished) == ROLE_CHECKS | {"full_access"}


def test_a_page_for_people_is_no_admin_api() -> None:
    page = response(200, b"<!doctype html><title>Fleet</title>", content_type="text/html")
    paths = {path: page for path in api.ADMIN_PATHS}
    server = fleet_of(denial=refused(400, "permission denied"), **paths)
    finished = ask(server, "--test-permissions", token=token_of())
    assert (finished.code, statuses(finished)["role_none"]) == (0, "PASS")


def test_thinking_without_content_is_an_answer() -> None:
    def thinks(call: Call, asked: str) -> bytes | None:
        if asked != "class:fast":
            return None
        delta = {"reasoning_content": "Hm."}
        one = {"index": 0, "finish_reason": "length"}
        whole = [{**one, "message": {"content": None, **delta}}]
        if not call.fields["stream"]:
            return response(200, {**hostile.WHOLE, "model": SMALL, "choices": whole})
        chunk = {**hostile.ENVELOPE, "model": SMALL, "choices": [{**one, "delta": delta}]}
        return hostile.HEAD + event(chunk) + hostile.DONE

    finished = ask(fleet_of(thinks), "--model", "class:fast")
    assert (finished.code, only("FAIL", finished)) == (0, set())


def test_a_name_that_the_runner_has_for_it_is_told_by_an_alias() -> None:
    def path(call: Call, asked: str) -> bytes | None:
        return spoken(call, "/models/small.gguf") if asked in (SMALL, "class:fast") else None

    arguments = ("--models", SMALL, "class:fast")
    without = ask(fleet_of(path), *arguments)
    fails, hint = only("FAIL", without), detail(without, "model")
    told = ask(fleet_of(path), *arguments, "--alias", f"{SMALL}=/models/small.gguf")
    assert (without.code, fails, told.code) == (1, {"model", "class"}, 0)
    assert f"--alias {SMALL}=/models/small.gguf" in hint


def test_a_model_that_is_called_like_a_class_is_told_by_an_alias() -> None:
    def virtual(call: Call, asked: str) -> bytes | None:
        return spoken(call, asked) if asked in CLASSES else None

    models = tuple(CLASSES)
    without = ask(fleet_of(virtual, models=models))
    hint = detail(without, "class")
    aliases = [word for name in CLASSES for word in ("--alias", f"{name}={name}")]
    told = ask(fleet_of(virtual, models=models), *aliases)
    assert (without.code, told.code) == (1, 0)
    assert "use --alias class:fast=class:fast" in hint


@pytest.mark.parametrize("status", [400, 403, 404, 422, 500])
@pytest.mark.parametrize("words", ["permission denied", "Modell unbekannt", ""])
def test_an_unknown_model_is_refused_whatever_status_and_words_it_has(
    status: int, words: str
) -> None:
    def unknown(call: Call, asked: str) -> bytes | None:
        return None if asked in (SMALL, *CLASSES) else refused(status, words)

    finished = ask(fleet_of(unknown), "--models", SMALL, *CLASSES, token=token_of())
    assert finished.code == 0
    assert statuses(finished)["unknown_model"] == statuses(finished)["unknown_class"] == "PASS"


def test_a_class_with_an_alias_is_answered_by_that_model_only() -> None:
    arguments = ("--model", "class:fast", "--alias")
    assert ask(fleet_of(), *arguments, f"class:fast={SMALL}").code == 0
    finished = ask(fleet_of(), *arguments, f"class:fast={BIG}")
    assert finished.code == 1
    assert f"answered by {SMALL}, not by {BIG} as --alias says" in detail(finished, "class")


def test_a_hanging_class_costs_one_timeout_and_the_rest_is_not_asked() -> None:
    def hangs(call: Call, asked: str) -> bytes | None:
        call.wait(30) if asked == "class:big" else None
        return None

    begun = time.monotonic()
    finished = ask(fleet_of(hangs), "--timeout", "1", "--test-permissions", token=token_of())
    assert time.monotonic() - begun < 10
    assert (finished.code, only("FAIL", finished)) == (1, {"class"})
    assert "not finished after 1 s; a runner that has to wake may take longer" in detail(
        finished, "class"
    )
    assert only("SKIP", finished) >= {"unknown_model", "unknown_class", *ROLE_CHECKS}
    assert len(finished.document("model_routing")["requests"]) == 7


def test_a_list_that_hangs_costs_one_timeout() -> None:
    begun = time.monotonic()
    finished = ask(fleet_of(**{"/v1/models": hostile.hang}), "--timeout", "1")
    assert time.monotonic() - begun < 10
    assert (finished.code, only("FAIL", finished)) == (1, {"listing"})
    assert finished.check("model_routing", "class")["essential"]
    assert finished.document("model_routing")["requests"] == []


def test_an_unknown_model_that_is_redirected_or_reset_is_not_refused() -> None:
    def moved(call: Call, asked: str) -> bytes | None:
        if asked == routing.UNKNOWN_CLASS:
            return b"HTTP/1.1 "
        elsewhere = response(307, location="http://127.0.0.1:9/elsewhere")
        return elsewhere if asked == routing.UNKNOWN_MODEL else None

    finished = ask(fleet_of(moved))
    assert (finished.code, only("FAIL", finished)) == (1, {"unknown_model", "unknown_class"})
    assert "that is not a refusal" in detail(finished, "unknown_model")


def test_the_rate_limit_is_no_verdict() -> None:
    def limited(call: Call, asked: str) -> bytes | None:
        limit = hostile.error(429, "slow down", "rate_limit_exceeded", retry_after=60)
        return limit if asked == "class:big" else None

    finished = ask(fleet_of(limited))
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "429 slow down, Retry-After 60" in detail(finished, "class")


def test_a_busy_fleet_is_no_verdict_but_no_pass_either() -> None:
    busy = hostile.error(503, "busy", "queue_full", retry_after=5)
    finished = ask(fleet_of(lambda call, asked: busy))
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "it is busy (503 busy, Retry-After 5): try again" in detail(finished, "class")


@pytest.mark.parametrize("status", [401, 403])
def test_a_credential_that_is_refused_for_completions_only_is_exit_3(status: int) -> None:
    finished = ask(fleet_of(lambda call, asked: refused(status, "no")))
    assert finished.code == 3
    assert "the API key was refused" in finished.err and f"({status} from " in finished.err


def test_a_403_for_one_role_alone_is_a_verdict() -> None:
    def odd(call: Call, asked: str) -> bytes | None:
        return None if ADMIN in claims(call) else refused(403, "not with this role")

    with fleet_of(odd) as server:
        finished = run_script(SCRIPT, "--url", server.url, *mint("jwt(roles=roles)"))
    assert finished.code == 1
    assert "3 of 6" not in finished.out and "not with this role" in detail(finished, "class")


def test_what_was_measured_until_an_interruption_is_saved() -> None:
    def hangs(call: Call, asked: str) -> bytes | None:
        call.wait(30) if asked == "class:big" else None
        return None

    with fleet_of(hangs) as server:
        with start_script(SCRIPT, "--url", server.url, "--token", token_of()) as process:
            server.wait_for(7)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    finished = Finished(process.returncode, out, err, Path("results").absolute())
    assert finished.code == 130
    saved = finished.document("model_routing")
    assert (saved["interrupted"], len(saved["requests"])) == (True, 7)
    assert saved["metrics"]["models"]["class:fast"]["answered"] == 6


def test_no_token_of_any_role_is_shown_when_all_are_echoed() -> None:
    def echoes(call: Call, asked: str) -> bytes | None:
        return response(403, {"error": call.headers["authorization"]})

    Path("mint").write_text(
        '#!/bin/sh\ncase "$*" in *admin*) echo sk-adm-5ecret;; *specific*) echo sk-spc-5ecret;;'
        " *) echo sk-usr-5ecret;; esac\n"
    )
    Path("mint").chmod(0o700)
    with fleet_of(echoes) as server:
        target = ("--url", server.url, "--token-binary", "./mint")
        finished = run_script(SCRIPT, *target, "--models", SMALL, "--test-permissions", "--debug")
    assert finished.code == 3
    sent = {call.headers.get("authorization") for call in server.calls}
    assert sent == {f"Bearer sk-{who}-5ecret" for who in ("usr", "spc", "adm")}
    assert "5ecret" not in finished.everything


# --- the rules, on answers made by hand


PAGE = response(200, {"runners": [], "requests": []})  # of the admin API
EMPTY = response(200, {"model": SMALL, "choices": [{"message": {"content": ""}}]})


def exchange(
    asked: str,
    part: str = routing.ROUTING,
    answer: bytes = b"",
    *,
    stream: bool = False,
    failure: str | None = None,
    roles: Sequence[str] = (),
    credential: int = 0,
) -> Exchange:
    """A question for a model or a path, and this answer to it."""
    is_path = asked in api.ADMIN_PATHS
    request = chat.get(asked) if is_path else chat.completion(asked, "yes?", 4, stream)
    question = Question(part, asked, list(roles), credential)
    return Exchange(question, answer_to(request, answer, failure))


def answered(
    asked: str, part: str = routing.ROUTING, models: Sequence[str] | None = None, **about: Any
) -> Exchange:
    """An answer by the model that should give it, or by these: several in a stream."""
    if asked in api.ADMIN_PATHS:
        return exchange(asked, part, PAGE, **about)
    names = [CLASSES.get(asked, asked)] if models is None else models
    if len(names) > 1:
        return exchange(asked, part, streamed(*names), stream=True, **about)
    return exchange(asked, part, whole(*names), **about)


def denied(asked: str, part: str = routing.ROUTING, status: int = 400, **about: Any) -> Exchange:
    return exchange(asked, part, response(status, b"Permission denied"), **about)


def failed(asked: str, part: str = routing.ROUTING, status: int = 500, **about: Any) -> Exchange:
    return exchange(asked, part, response(status, b"no"), **about)


def evidence_of(*exchanges: Exchange, **more: Any) -> routing.Evidence:
    """Both classes were asked for, and answered as they should but for what is given."""
    asked = more.pop("asked", list(CLASSES))
    usual = [answered(model) for model in asked for _ in range(6)]
    given = {(each.question.part, each.asked) for each in exchanges}
    kept = [each for each in usual if (each.question.part, each.asked) not in given]
    listing = Listing([[SMALL, BIG]])
    return routing.Evidence(asked, exchanges=[*kept, *exchanges], listing=listing, **more)


Judge = Callable[[routing.Evidence], routing.Check]


def status_of(judge: Judge, *exchanges: Exchange, **more: Any) -> str:
    return judge(evidence_of(*exchanges, **more)).status.value


def role_of(role: str) -> Judge:
    return lambda evidence: routing.check_role(role, evidence)


def unknown_model(evidence: routing.Evidence) -> routing.Check:
    return routing.check_unknown("unknown_model", evidence)


def test_nothing_is_wrong_with_sound_answers() -> None:
    found = evidence_of()
    for judge in (routing.check_class, routing.check_classes_differ, routing.check_listing):
        assert judge(found).status is Status.PASS


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (whole(BIG), True),  # a class may have several models
        (whole(), False),
        (whole("class:fast"), False),
        (whole("other:1b"), False),
        (EMPTY, False),
        (response(500, b"no"), False),
    ],
)
def test_an_answer_to_a_class(answer: bytes, good: bool) -> None:
    five = [answered("class:fast") for _ in range(5)]
    status = status_of(routing.check_class, *five, exchange("class:fast", answer=answer))
    assert status == ("PASS" if good else "FAIL")


@pytest.mark.parametrize(
    ("named", "aliases", "good"),
    [
        (SMALL, {}, True),
        (BIG, {}, False),
        (None, {}, False),
        ("small:1B", {}, False),
        ("small", {}, False),
        ("small.gguf", {SMALL: ["x", "small.gguf"]}, True),
        (SMALL, {SMALL: ["small.gguf"]}, True),
        ("small.gguf", {BIG: ["small.gguf"]}, False),
    ],
)
def test_an_answer_to_a_name(named: str | None, aliases: Any, good: bool) -> None:
    six = [answered(SMALL, models=[named] if named else [])] * 6
    status = status_of(routing.check_model, *six, asked=[SMALL], aliases=aliases)
    assert status == ("PASS" if good else "FAIL")


def test_a_stream_that_goes_on_with_another_model_is_a_wrong_answer() -> None:
    six = [answered(SMALL, models=[SMALL, BIG])] * 6
    check = routing.check_model(evidence_of(*six, asked=[SMALL]))
    assert check.status is Status.FAIL
    assert f"answered by {SMALL}, then by {BIG}" in check.detail


def test_a_class_whose_model_is_listed_by_another_name_gets_a_hint() -> None:
    six = [answered("class:fast", models=["small.gguf"])] * 6
    assert "--alias class:fast=small.gguf" in routing.check_class(evidence_of(*six)).detail


@pytest.mark.parametrize(
    ("fast", "big", "listed", "status"),
    [
        ([SMALL], [BIG], [SMALL, BIG], "PASS"),
        ([SMALL], [SMALL], [SMALL, BIG], "FAIL"),
        ([SMALL, BIG], [BIG, SMALL], [SMALL, BIG], "FAIL"),
        ([SMALL, BIG], [BIG], [SMALL, BIG], "WARN"),
        ([SMALL], [SMALL], [SMALL], "SKIP"),
        ([SMALL], [SMALL], [SMALL, "nomic-embed-text", "baai/bge-m3"], "SKIP"),
        ([SMALL], [SMALL], [SMALL, "class:fast"], "SKIP"),
        ([SMALL], [], [SMALL, BIG], "SKIP"),
        ([SMALL], [BIG], [], "PASS"),
    ],
)
def test_two_classes(fast: list[str], big: list[str], listed: list[str], status: str) -> None:
    exchanges = [answered("class:fast", models=[name]) for name in fast]
    exchanges += [answered("class:big", models=[name]) for name in big]
    listing = Listing([listed])
    found = routing.Evidence(list(CLASSES), exchanges=exchanges, listing=listing)
    assert routing.check_classes_differ(found).status.value == status


def test_two_classes_that_are_meant_to_be_one() -> None:
    exchanges = [answered(name, models=[SMALL]) for name in CLASSES]
    aliases = {name: [SMALL] for name in CLASSES}
    assert status_of(routing.check_classes_differ, *exchanges, aliases=aliases) == "PASS"


def test_a_token_refused_in_mid_run_leaves_the_class_undecided() -> None:
    refusals = [failed("class:big", status=401)] * 2
    check = routing.check_class(evidence_of(*refusals))
    assert (check.status, check.essential) == (Status.SKIP, True)
    assert "the token is refused (401)" in check.detail


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([failed("x", status=404), failed("x", status=500)], "PASS"),
        ([failed("x", status=404), answered("x")], "FAIL"),
        ([exchange("x", answer=response(200, b"nope")), failed("x")], "FAIL"),
        ([exchange("x", failure="timeout")], "WARN"),
        ([failed("x", status=302)] * 2, "FAIL"),
        ([denied("x")] * 2, "SKIP"),
        ([denied("x", roles=[SPECIFIC])] * 2, "PASS"),
        ([denied("x"), answered("x")], "FAIL"),
        ([failed("x", status=401)] * 2, "SKIP"),
        ([failed("x", status=401, credential=1)] * 2, "SKIP"),
        ([failed("x", status=401), failed("x", status=404)], "PASS"),
        ([], "SKIP"),
    ],
)
def test_an_unknown_model(answers: list[Exchange], status: str) -> None:
    part, asked = routing.UNKNOWN, routing.UNKNOWN_MODEL
    questions = [replace(each.question, part=part, asked=asked) for each in answers]
    pairs = zip(questions, answers, strict=True)
    exchanges = [Exchange(question, each.answer) for question, each in pairs]
    assert status_of(unknown_model, *exchanges) == status


NONE, USER = routing.NO_ROLE, [answered(name, routing.NO_ROLE) for name in CLASSES]
PATHS = api.ADMIN_PATHS
API = [denied(path, NONE, status=403) for path in PATHS]


@pytest.mark.parametrize(
    ("exchanges", "status"),
    [
        ([*USER, denied(SMALL, NONE), *API], "PASS"),
        ([*USER, denied(SMALL, NONE, status=403)], "PASS"),
        ([*USER, answered(SMALL, NONE), *API], "FAIL"),
        ([*USER, failed(SMALL, NONE, 500), *API], "WARN"),
        ([*USER, failed(SMALL, NONE, 404)], "WARN"),
        ([USER[0], denied("class:big", NONE), denied(SMALL, NONE)], "FAIL"),
        ([USER[0], failed("class:big", NONE, 500), denied(SMALL, NONE)], "SKIP"),
        ([*USER, denied(SMALL, NONE), *(failed(path, NONE, 404) for path in PATHS)], "PASS"),
        ([*USER, denied(SMALL, NONE), *(failed(path, NONE, 500) for path in PATHS)], "SKIP"),
        ([*USER, denied(SMALL, NONE), API[0], failed(PATHS[1], NONE, 200)], "SKIP"),
        ([USER[0], failed("class:big", NONE, 401), denied(SMALL, NONE)], "FAIL"),
        ([*USER, denied(SMALL, NONE), answered(api.ADMIN_PATHS[1], NONE)], "FAIL"),
        ([failed(name, NONE, 401) for name in (*CLASSES, SMALL)], "SKIP"),
        ([], "SKIP"),
    ],
)
def test_a_user_without_roles(exchanges: list[Exchange], status: str) -> None:
    assert status_of(role_of(NONE), *exchanges) == status


def test_the_admin_api_is_not_for_the_other_role() -> None:
    named = [answered(SMALL, SPECIFIC)]
    for roles, status in (([SPECIFIC], "FAIL"), ([ADMIN, SPECIFIC], "PASS")):
        opened = [answered(path, SPECIFIC, roles=roles) for path in api.ADMIN_PATHS]
        assert status_of(role_of(SPECIFIC), *named, *opened) == status


@pytest.mark.parametrize(
    ("good", "later", "status"),
    [
        ([], [], "SKIP"),  # never good, and no other is
        ([200], [], "SKIP"),  # expired
        ([], [404], "FAIL"),  # good after all
        ([200], [200], "FAIL"),
        ([], [503], "SKIP"),  # that may come from what stands in front
    ],
)
def test_a_refused_token(good: list[int], later: list[int], status: str) -> None:
    found = routing.Evidence(["class:fast"], exchanges=[failed("x", "x", each) for each in good])
    found.exchanges += [failed("class:fast", status=401)] * 2
    found.exchanges += [failed("x", "x", each) for each in later]
    assert routing.check_class(found).status.value == status


@pytest.mark.parametrize(
    ("of_name", "status"),
    [
        (answered(SMALL, SPECIFIC), "PASS"),
        (answered(SMALL, SPECIFIC, models=[SMALL, BIG]), "FAIL"),
        (denied(SMALL, SPECIFIC), "FAIL"),
        (failed(SMALL, SPECIFIC, 401), "FAIL"),
        (answered(SMALL, SPECIFIC, models=[BIG]), "FAIL"),
        (failed(SMALL, SPECIFIC, 500), "WARN"),
    ],
)
def test_the_role_for_models_by_name(of_name: Exchange, status: str) -> None:
    classes = [answered(name, SPECIFIC) for name in CLASSES]
    assert status_of(role_of(SPECIFIC), *classes, of_name) == status


def test_where_nothing_is_answered_no_role_is_judged() -> None:
    for role, judge in ((NONE, role_of(NONE)), (SPECIFIC, role_of(SPECIFIC))):
        exchanges = [failed(asked, role, 502) for asked in (*CLASSES, SMALL)]
        listing = Listing([[SMALL]])
        found = routing.Evidence(list(CLASSES), exchanges=exchanges, listing=listing)
        assert judge(found).status is Status.SKIP


@pytest.mark.parametrize(
    ("classes", "pages", "role", "access"),
    [
        (answered, answered, "PASS", "PASS"),
        (denied, answered, "FAIL", "WARN"),
        (answered, denied, "FAIL", "WARN"),
        (answered, failed, "SKIP", "SKIP"),
    ],
)
def test_the_role_of_administrators(classes: Any, pages: Any, role: str, access: str) -> None:
    by_name = {"PASS": answered, "WARN": denied, "SKIP": failed}[access]
    exchanges = [classes(name, ADMIN) for name in CLASSES]
    exchanges += [pages(path, ADMIN) for path in api.ADMIN_PATHS]
    exchanges += [by_name(SMALL, ADMIN)]
    assert status_of(role_of(ADMIN), *exchanges) == role
    assert status_of(routing.check_full_access, *exchanges) == access


def test_the_roles_are_tried_with_models_that_are_known_to_answer() -> None:
    one = answered("class:fast", models=["small.gguf"])
    found = routing.Evidence(["class:fast", "gone:1b"], {SMALL: ["small.gguf"]}, [one])
    found.listing = Listing([["nomic-embed-text", BIG, SMALL]])
    assert found.to_name == [SMALL, BIG, "gone:1b"]
