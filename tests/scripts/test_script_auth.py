"""test_auth.py: its rules on answers made by hand; the script on deployments good and odd.

What breaks a deployment is in reference/faults/auth.py; test_faults.py walks those rows.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.answers import answer_to
from helpers.hostile import CHAT, HEAD, Call, Server, error, good_stream, hang, in_turn, response
from helpers.scripts import Finished, SavedAs, run_script

import test_auth as auth
from common import Status
from livecheck.fleet import api, forged_tokens
from livecheck.fleet import credential_questions as questions
from livecheck.fleet.credential_questions import Exchange, Question
from livecheck.fleet.jwt import read_jwt, segment, to_base64url
from livecheck.fleet.public_keys import key_forms
from livecheck.fleet.roles import ADMIN, SPECIFIC, Identity
from reference import Deployment, running, tokens

SCRIPT = "test_auth.py"
SAVED = SavedAs("auth")
statuses, only, detail = SAVED.statuses, SAVED.only, SAVED.detail
SIM: dict[str, Any] = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
QUICK = {**SIM, "profile": "fleet"}
KEY = "sk-0123456789abcdef"
MODEL = "small:1b"
ROLE_CHECKS = {
    "user": {"user:classes", "user:models", "user:admin_api"},
    "specific": {"specific:classes", "specific:models", "specific:admin_api"},
    "admin": {"admin:classes", "admin:models", "admin:admin_api"},
}
REFUSALS = {"no_credentials", "malformed", "scheme", *auth.FORGED}
AROUND = {*auth.WAYS_AROUND, auth.ENDPOINTS}
ALWAYS = {"control", *auth.OPTIONAL_FORMS, *AROUND, "echo", "cost"}


@pytest.fixture(scope="module")
def sound() -> Iterator[Deployment]:
    with running(**QUICK) as deployment:
        yield deployment


def check(deployment: Deployment, *arguments: object) -> Finished:
    """With the token and the token binary that the deployment exports."""
    return run_script(SCRIPT, *arguments, env=deployment.environment)


def token_of(deployment: Deployment, *roles: str, expires_in_s: float = 600) -> str:
    key = tokens.read_key(Path(deployment.environment[tokens.KEY_VARIABLE]))
    return tokens.new_token(key, "ann", roles, expires_in_s)


def with_token(deployment: Deployment, token: str, *arguments: object) -> Finished:
    """With this token alone."""
    return run_script(SCRIPT, "--url", deployment.url, "--token", token, *arguments)


# --- the reference deployments


def test_a_sound_fleet_passes_for_every_role(sound: Deployment) -> None:
    finished = check(sound)
    assert finished.code == 0
    assert only("WARN", finished) == {"admin:models"}
    assert "Full access" in detail(finished, "admin:models").replace("\n", " ")
    assert only("SKIP", finished) == {"api_key"}
    roles = set().union(*ROLE_CHECKS.values()) - {"admin:models"}
    assert only("PASS", finished) == REFUSALS | ALWAYS | roles
    assert len(finished.document("auth")["requests"]) <= 380
    variants = finished.check("auth", "hmac")["evidence"]["variants"]
    assert {each["status"] for each in variants} == {401}
    assert "the public key as PEM" in {each["name"] for each in variants}


def test_a_token_alone_is_held_to_the_role_in_its_payload(sound: Deployment) -> None:
    finished = with_token(sound, sound.token)
    assert (finished.code, only("WARN", finished)) == (0, set())
    assert only("SKIP", finished) == {"api_key", "specific", "admin", "cost"}
    assert only("PASS", finished) == REFUSALS | ALWAYS - {"cost"} | ROLE_CHECKS["user"]
    assert len(finished.document("auth")["requests"]) <= 360


def test_a_token_with_roles_is_no_basic_users(sound: Deployment) -> None:
    finished = with_token(sound, token_of(sound, ADMIN))
    assert (finished.code, only("WARN", finished)) == (0, {"admin:models"})
    assert only("SKIP", finished) == {"api_key", "user", "specific"}
    assert "it has admin" in detail(finished, "user")
    both = with_token(sound, token_of(sound, ADMIN, SPECIFIC), "--strict")
    assert (both.code, only("SKIP", both)) == (0, {"api_key", "user"})
    assert "specific:admin_api" not in statuses(both)


def test_an_expired_token_is_exit_3_and_said_to_be(sound: Deployment) -> None:
    finished = with_token(sound, token_of(sound, expires_in_s=-3600))
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "refused (401" in finished.err and "exp is in the past" in finished.err


def test_only_what_is_asked_for_is_sent(sound: Deployment) -> None:
    finished = check(sound, "--only", "user", "scheme")
    assert finished.code == 0
    assert set(statuses(finished)) == ROLE_CHECKS["user"] | {"scheme"}
    groups = {record["group"] for record in finished.document("auth")["requests"]}
    assert groups == {"control", "user", "scheme"}


def test_a_chosen_model_takes_the_role(sound: Deployment) -> None:
    finished = check(sound, "--model", "smollm2:135m-big", "--only", "user", "specific")
    assert finished.code == 0
    assert detail(finished, "specific:models") == "smollm2:135m-big: 200"
    missing = check(sound, "--model", "no-such:1b", "--only", "specific")
    assert (missing.code, only("FAIL", missing)) == (1, {"specific:models"})
    assert "/v1/models does not list no-such:1b" in detail(missing, "specific:models")


def test_a_class_takes_no_role_and_is_exit_2(sound: Deployment) -> None:
    finished = check(sound, "--model", "class:fast")
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert "name a model, not a class" in finished.err


def test_a_sleeping_fleet_is_not_woken_by_refusals() -> None:
    with running(**QUICK, asleep=True) as deployment:
        finished = check(deployment)
    assert (finished.code, only("WARN", finished)) == (0, {"admin:models"})
    assert "no runner was woken" in detail(finished, "cost")


def test_a_real_model_behind_one_runner_passes() -> None:
    options = {"engine": "llama", "profile": "fleet", "models": "desk=small:1b"}
    with running(**options) as deployment:
        finished = check(deployment, "--timeout", 60)
    assert (finished.code, only("FAIL", finished)) == (0, set())
    assert "No runners have models of class 'big'" in detail(finished, "user:classes")


def test_an_api_key_gets_what_applies_to_it() -> None:
    with running(**SIM, rate_limit=0) as deployment:
        finished = with_token(deployment, deployment.api_key, "--strict")
    assert finished.code == 0
    assert only("SKIP", finished) == {*auth.FORGED, *auth.ROLES, "cost"}
    applies = {"no_credentials", "malformed", "scheme", "api_key"}
    assert only("PASS", finished) == applies | ALWAYS - {"cost"}
    assert "says nothing about roles" in detail(finished, "user")


def test_the_rate_limit_is_no_verdict() -> None:
    with running(**SIM, rate_limit=3) as deployment:
        finished = with_token(deployment, deployment.api_key)
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "per minute, Retry-After 60" in finished.out.replace("\n     ", "")


# --- token binaries


def binary(folder: Path, script: str) -> Path:
    path = folder / "give-token"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_binary_that_ignores_the_role_leaves_the_roles_undecided(
    sound: Deployment, tmp_path: Path
) -> None:
    command = binary(tmp_path, f"echo {sound.token}")
    finished = run_script(SCRIPT, "--url", sound.url, "--token-binary", command)
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "a token with no role" in detail(finished, "specific")
    assert {"specific", "admin"} < only("SKIP", finished)


def test_a_binary_that_knows_no_roles_leaves_them_undecided(
    sound: Deployment, tmp_path: Path
) -> None:
    lines = f'[ $# = 0 ] && echo {sound.token} && exit\necho "no such role" >&2; exit 1'
    finished = run_script(SCRIPT, "--url", sound.url, "--token-binary", binary(tmp_path, lines))
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "no such role" in detail(finished, "admin")
    assert statuses(finished)["user:models"] == "PASS"


def test_a_binary_whose_own_user_has_roles_leaves_the_basic_user_undecided(
    sound: Deployment, tmp_path: Path
) -> None:
    command = binary(tmp_path, f"echo {token_of(sound, ADMIN)}")
    finished = run_script(
        SCRIPT, "--url", sound.url, "--token-binary", command, "--only", "user", "admin"
    )
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "gives without a role is not a basic user's" in detail(finished, "user")


@pytest.mark.parametrize("token", [KEY, "a JWT"])
def test_a_token_that_says_nothing_about_roles_is_not_held_to_one(
    token: str, tmp_path: Path
) -> None:
    token = token if token == KEY else jwt_of(sub="ann")
    with Server(guarded(token)) as server:
        alone = check_server(server, token, "--only", "user", "scheme")
        assert "says nothing about roles" in detail(alone, "user")
        command = binary(tmp_path, f"echo {token}")
        made = run_script(SCRIPT, "--url", server.url, "--token-binary", command)
    assert (made.code, only("FAIL", made)) == (1, {"user:models"})
    assert "the same token as without a role" in detail(made, "specific")
    assert "the same token as without a role" in detail(made, "admin")


# --- other servers

COMPLETION = response(200, {"model": MODEL, "choices": [{"message": {"content": "yes"}}]})
REFUSED = response(401, b"Unauthorized")


def jwt_of(secret: bytes = b"unguessable", **claims: object) -> str:
    message = f"{segment({'alg': 'HS256', 'kid': 'one'})}.{segment(claims)}"
    return f"{message}.{to_base64url(hmac.digest(secret, message.encode(), 'sha256'))}"


def sent(call: Call) -> str:
    return call.headers.get("authorization", "")


def is_bearer(call: Call, token: str) -> bool:
    scheme, _, value = sent(call).partition(" ")
    return scheme.lower() == "bearer" and value == token


def guarded(
    token: str,
    answer: bytes | Callable[[Call], None] = COMPLETION,
    refusal: bytes | Callable[[Call], None] = REFUSED,
) -> Callable[[Call], None]:
    """The answer for who has the token, the refusal for all others."""

    def reply(call: Call) -> None:
        chosen = answer if is_bearer(call, token) else refusal
        call.send(chosen) if isinstance(chosen, bytes) else chosen(call)

    return reply


def check_server(server: Server, token: str, *arguments: object) -> Finished:
    return run_script(SCRIPT, "--url", server.url, "--token", token, "--timeout", 5, *arguments)


def by_model(answers: dict[str, bytes], other: bytes) -> Callable[[Call], None]:
    return lambda call: call.send(answers.get(call.fields["model"], other))


@pytest.mark.parametrize(
    "unknown",
    [
        error(404, "The model `class:fast` does not exist.", "model_not_found"),
        error(400, "Invalid model name passed in model=class:fast"),
        error(401, "key not allowed to access model class:fast"),
    ],
    ids=["vLLM", "LiteLLM", "LiteLLM key"],
)
def test_a_server_that_knows_no_classes_is_asked_for_a_model_it_lists(unknown: bytes) -> None:
    models = guarded(KEY, response(200, {"data": [{"id": MODEL}]}))
    completions = guarded(KEY, by_model({MODEL: COMPLETION}, unknown))
    with Server(completions, {"/v1/models": models}) as server:
        finished = check_server(server, KEY)
    assert (finished.code, only("FAIL", finished)) == (0, set())
    assert finished.document("auth")["target"]["model"] == MODEL
    assert "small:1b for the API key" in detail(finished, "control")


@pytest.mark.parametrize(
    "unknown",
    [
        error(400, "Invalid model name passed in model=class:fast"),
        error(422, "class:fast: unbekanntes Modell"),
        response(400, {"error": {"message": "nein", "param": "model"}}),
    ],
)
def test_a_server_with_jwts_that_knows_no_classes_is_asked_for_a_model_it_lists(
    unknown: bytes,
) -> None:
    token = jwt_of(sub="ann", roles=[])
    models = guarded(token, response(200, {"data": [{"id": MODEL}]}))
    completions = guarded(token, by_model({MODEL: COMPLETION}, unknown))
    with Server(completions, {"/v1/models": models}) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (0, set())
    assert "has no classes and roles" in detail(finished, "user")


@pytest.mark.parametrize("open_model", ["class:big", MODEL])
@pytest.mark.parametrize("needs_jwt", [False, True])
def test_each_kind_of_model_has_to_be_guarded(open_model: str, needs_jwt: bool) -> None:
    """Open to who has no credential, or to who has any JWT at all."""
    token = jwt_of(sub="ann", roles=[SPECIFIC])

    def careless(call: Call) -> None:
        let_in = read_jwt(sent(call).removeprefix("Bearer ")) or not needs_jwt
        call.send(COMPLETION if call.fields["model"] == open_model and let_in else REFUSED)

    models = response(200, {"data": [{"id": MODEL}]})
    with Server(guarded(token, refusal=careless), {"/v1/models": models}) as server:
        finished = check_server(server, token)
    failed = "payload" if needs_jwt else "no_credentials"
    assert (finished.code, only("FAIL", finished)) == (1, {failed})
    assert open_model in detail(finished, failed)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
def test_another_endpoint_that_is_open_for_a_models_name_fails(path: str) -> None:
    token = jwt_of(sub="ann", roles=[SPECIFIC])
    answers: dict[str, Any] = {
        "/v1/models": response(200, {"data": [{"id": MODEL}]}),
        path: by_model({MODEL: response(200, b"data: {}\n\n")}, error(404, "no such model")),
    }
    with Server(guarded(token), answers) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (1, {"no_credentials"})
    assert f"{path} of {MODEL}" in detail(finished, "no_credentials")


def test_an_admin_api_that_gives_anybody_a_list_is_no_web_page() -> None:
    token = jwt_of(sub="ann", roles=[])
    answers = dict.fromkeys(api.ADMIN_PATHS, response(200, [{"id": "r1"}]))
    with Server(guarded(token), answers) as server:
        finished = check_server(server, token, "--only", "no_credentials", "user")
    assert {"no_credentials", "user:admin_api"} < only("FAIL", finished)


def test_a_front_end_that_refuses_in_its_own_way_passes() -> None:
    token = jwt_of(sub="ann", roles=[SPECIFIC])
    login = response(302, location="/login")
    answers: dict[str, Any] = {
        "/v1/models": response(200, {"data": [{"id": MODEL}]}),
        "/v1/embeddings": error(501, "This server does not support embeddings"),
        **dict.fromkeys(api.ADMIN_PATHS, login),
    }
    too_long = response(413, b"<html><title>413</title>Too large</html>")

    def refuse(call: Call) -> None:
        call.send(too_long if len(sent(call)) > 8000 else REFUSED)

    with Server(guarded(token, refusal=refuse), answers) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (0, set())
    assert statuses(finished)["specific:admin_api"] == "SKIP"


PAGE = b"<html><head><title>503 Busy</title></head><body><h1>503 Busy</h1>nginx</body></html>"


def test_a_server_that_is_busy_is_asked_again_and_accused_of_nothing() -> None:
    token = jwt_of(sub="ann", roles=[SPECIFIC])
    busy = error(503, "Busy", retry_after=0.1)
    with Server(
        guarded(token, in_turn(COMPLETION, busy, COMPLETION), refusal=busy),
        {"/v1/models": response(200, {"data": [{"id": MODEL}]})},
    ) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert statuses(finished)["control"] == "PASS"
    assert "4 of 10 variants not decided" in detail(finished, "no_credentials")
    assert "(503 Busy" in detail(finished, "no_credentials")


def test_the_page_of_a_proxy_that_limits_requests_ends_the_asking() -> None:
    token = jwt_of(sub="ann", roles=[SPECIFIC])
    busy = response(503, PAGE, content_type="text/html", retry_after=7)
    with Server(
        guarded(token, COMPLETION, refusal=busy),
        {"/v1/models": response(200, {"data": [{"id": MODEL}]})},
    ) as server:
        finished = check_server(server, token)
        assert server.count() <= 1 + auth.AT_ONCE
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "(503 Busy nginx, Retry-After 7)" in detail(finished, "no_credentials")


def test_an_address_that_is_locked_out_costs_little_and_is_said() -> None:
    token = jwt_of(sub="ann", roles=[])
    count = iter(range(1000))

    def ban(call: Call) -> None:
        if next(count) == 12:
            server.__exit__()
        call.send(REFUSED)

    with Server(guarded(token, refusal=ban)) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (1, {"control"})
    assert "no longer after" in detail(finished, "control")
    assert "connection refused" in detail(finished, "control").lower()
    assert only("PASS", finished) <= {"no_credentials"}


def test_a_key_made_of_words_is_not_found_in_the_servers_own() -> None:
    key = "authorization-key"
    refusal = response(401, b"Missing authorization header")
    with Server(guarded(key, refusal=refusal)) as server:
        finished = check_server(server, key)
    assert (finished.code, statuses(finished)["echo"]) == (0, "PASS")


def test_a_fleet_that_refuses_with_a_403_in_json_passes() -> None:
    token = jwt_of(sub="ann", roles=[])
    denied = error(403, "You may not use this model")
    answers = dict.fromkeys(api.CLASSES, COMPLETION)
    page = response(200, b"<html>app</html>")
    paths = {"/v1/models": response(200, {"data": [{"id": MODEL}]})}
    for path in api.ADMIN_PATHS:  # any path gives the same web page
        paths[path] = page
    with Server(guarded(token, by_model(answers, denied)), paths) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (0, set())
    assert statuses(finished)["user:models"] == "PASS"
    assert statuses(finished)["user:admin_api"] == "SKIP"


def test_a_gateway_without_an_admin_api_leaves_that_open() -> None:
    token = jwt_of(sub="ann", roles=[ADMIN, SPECIFIC])
    models = response(200, {"data": [{"id": MODEL}]})
    with Server(guarded(token), {"/v1/models": models}) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (0, set())
    assert only("SKIP", finished) == {"api_key", "user", "admin:admin_api", "cost"}


def test_a_server_that_only_streams_passes() -> None:
    token = jwt_of(sub="ann", roles=[SPECIFIC])
    with Server(guarded(token, HEAD + good_stream())) as server:
        finished = check_server(server, token)
    assert (finished.code, only("FAIL", finished)) == (0, set())


def closes_on_odd_bytes(call: Call) -> None:
    value = sent(call)
    if not value.isascii() or not value.isprintable() or len(value) > 8000:
        return
    call.send(REFUSED)


def test_an_http_layer_that_closes_on_bytes_no_header_may_have_passes() -> None:
    with Server(guarded(KEY, refusal=closes_on_odd_bytes)) as server:
        finished = check_server(server, KEY)
    assert (finished.code, statuses(finished)["malformed"]) == (0, "PASS")
    assert "6 x closed" in detail(finished, "malformed")


def test_a_server_that_closes_on_a_wrong_key_fails() -> None:
    with Server(guarded(KEY, refusal=lambda call: None)) as server:
        finished = check_server(server, KEY)
    assert finished.code == 1
    assert only("FAIL", finished) == {
        "no_credentials",
        "malformed",
        "scheme",
        "api_key",
        "bare_token",
        "trailing_text",
    }


def test_an_answer_that_is_cut_is_no_refusal_of_odd_bytes() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"
    with Server(guarded(KEY, refusal=half)) as server:
        finished = check_server(server, KEY)
    variants = finished.check("auth", "malformed")["evidence"]["variants"]
    assert (finished.code, statuses(finished)["malformed"]) == (1, "FAIL")
    cut = [each for each in variants if each["error"] == "truncated"]
    assert len(cut) == len(variants) - 1  # ?api_key= is another path for this server
    assert f"but {len(cut)} not answered" in detail(finished, "malformed")


def test_a_server_that_hangs_on_wrong_keys_costs_one_timeout() -> None:
    begun = time.monotonic()
    with Server(guarded(KEY, refusal=hang)) as server:
        finished = check_server(server, KEY, "--timeout", "1.5")
    assert time.monotonic() - begun < 10
    assert (finished.code, only("FAIL", finished)) == (1, {"no_credentials"})
    assert only("PASS", finished) == set()


def test_a_server_that_hangs_at_once_fails_the_control() -> None:
    with Server(everywhere=hang) as server:
        finished = check_server(server, KEY, "--timeout", "1.5")
    assert (finished.code, only("FAIL", finished)) == (1, {"control"})
    assert only("PASS", finished) == set()


def test_a_control_that_times_out_says_that_a_machine_may_have_to_wake() -> None:
    with Server(hang) as server:
        finished = check_server(server, KEY, "--timeout", "1.5")
    assert (finished.code, only("FAIL", finished)) == (1, {"control"})
    assert "--timeout 180" in detail(finished, "control")


def test_a_limit_on_wrong_keys_is_no_verdict() -> None:
    count = iter(range(1000))

    def limited(call: Call) -> None:
        call.send(REFUSED if next(count) < 10 else error(429, "Slow down", retry_after=30))

    with Server(guarded(KEY, refusal=limited)) as server:
        finished = check_server(server, KEY)
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "(429 Slow down, Retry-After 30)" in detail(finished, "malformed")


def test_the_public_key_of_the_tokens_issuer_is_tried() -> None:
    """The deployment has no JWKS of its own; its issuer has, where its discovery says."""
    jwk = tokens.public_jwk(tokens.new_key().public_key())
    secret = key_forms(jwk)["PKCS#1 PEM"]
    where: dict[str, Any] = {"/keys?v=2": response(200, {"keys": [jwk]})}
    with Server(answers=where) as issuer:
        token = jwt_of(iss=issuer.url, sub="ann", roles=[])
        where["/.well-known/openid-configuration"] = response(
            200, {"jwks_uri": f"{issuer.url}/keys?v=2"}
        )
        issuer._answers.update(where)

        def confused(call: Call) -> None:
            message, _, signature = sent(call).removeprefix("Bearer ").rpartition(".")
            digest = hmac.digest(secret, message.encode("latin-1"), hashlib.sha256)
            call.send(COMPLETION if signature == to_base64url(digest) else REFUSED)

        with Server(guarded(token, refusal=confused)) as server:
            finished = check_server(server, token, "--only", "hmac")
        assert not [call for call in issuer.calls if sent(call)]
    assert (finished.code, only("FAIL", finished)) == (1, {"hmac"})
    assert "1 of 20 variants accepted: the public key as PKCS#1 PEM" in detail(finished, "hmac")


@pytest.mark.parametrize("issuer", ["not a url", "ftp://x", "http://[", "https://a b/\r\nX: y", 7])
def test_an_issuer_that_is_no_url_is_not_asked(issuer: object) -> None:
    token = jwt_of(iss=issuer, sub="ann")
    with Server(guarded(token)) as server:
        finished = check_server(server, token, "--only", "hmac")
    assert finished.code == 0
    assert "no JWKS" not in detail(finished, "hmac")  # HS256 has no public key


def echo_all(call: Call) -> None:
    """Everything that came, whole and in parts, in head and body."""
    value = sent(call).encode("ascii", "ignore").decode()[:6000]
    parts = [value, *value.replace(" ", ".").split("."), call.path]
    body = json.dumps({"error": {"message": " | ".join(parts)}}).encode()
    call.send(response(401, body, www_authenticate=f'Bearer x="{value[:3000]}"'))


def test_nothing_of_a_token_or_forged_from_one_is_shown_or_saved() -> None:
    token = jwt_of(sub="ann-with-a-long-name", roles=[SPECIFIC])
    with Server(guarded(token, refusal=echo_all)) as server:
        finished = check_server(server, token, "-v", "--debug")
    assert only("FAIL", finished) == {"echo"}
    harmless = {each.token for each in forged_tokens.malformed_headers()}
    headers = {sent(call) for call in server.to(CHAT)} - harmless
    parts = {part for text in headers for part in text.split(".")[1:] if len(part) >= 16}
    assert len(parts) > 15
    assert not [part for part in parts if part in finished.everything]
    shown = [line for line in finished.err.splitlines() if line.startswith("signature, cut short")]
    assert "401" in shown[0]


def test_a_server_that_guards_every_path_and_method_passes() -> None:
    with Server(everywhere=guarded(KEY)) as server:
        finished = check_server(server, KEY, "--only", *AROUND)
        elsewhere = [call for call in server.calls if call.path not in (CHAT, "/v1/models")]
    assert (finished.code, only("PASS", finished)) == (0, AROUND)
    assert len(elsewhere) > 100
    assert not any(KEY in str(call.headers) for call in elsewhere)


def test_a_server_that_is_silent_on_one_method_is_left_and_leaves_that_undecided() -> None:
    begun = time.monotonic()

    def silent(call: Call) -> None:
        hang(call) if call.method == "QUERY" else call.send(REFUSED)

    with Server(guarded(KEY, refusal=silent)) as server:
        finished = check_server(server, KEY, "--only", *AROUND, "--timeout", "2")
    assert time.monotonic() - begun < 20
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "1 of 20 variants not decided: QUERY" in detail(finished, "other_methods")
    assert only("PASS", finished) == AROUND - {"other_methods"}


def test_a_limit_on_so_many_refusals_leaves_the_other_checks_decided() -> None:
    count = iter(range(1000))

    def limited(call: Call) -> None:
        call.send(REFUSED if next(count) < 80 else error(429, "Slow down", retry_after=30))

    with Server(guarded(KEY, refusal=limited)) as server:
        finished = check_server(server, KEY)
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert {"malformed", "api_key", "no_credentials"} < only("PASS", finished)
    assert "429 Slow down, Retry-After 30" in detail(finished, "proxy_headers")


def test_a_proxy_that_is_busy_for_a_moment_is_asked_again() -> None:
    busy = iter([response(503, PAGE, content_type="text/html")] * 3)

    def sometimes(call: Call) -> None:
        call.send(next(busy, REFUSED))

    with Server(guarded(KEY, refusal=sometimes)) as server:
        finished = check_server(server, KEY, "--only", "proxy_headers")
    assert (finished.code, only("PASS", finished)) == (0, {"proxy_headers"})


def test_a_firewall_that_locks_out_for_unusual_paths_is_no_failure() -> None:
    blocked = response(403, b"<html><h1>403 Blocked</h1></html>", content_type="text/html")
    seen = []

    def firewall(call: Call) -> None:
        seen.extend([call.path] * (".." in call.path))
        call.send(blocked if seen else COMPLETION if is_bearer(call, KEY) else REFUSED)

    with Server(everywhere=firewall) as server:
        finished = check_server(server, KEY)
    assert (finished.code, only("FAIL", finished)) == (3, set())
    assert "a firewall may have locked this machine out" in detail(finished, "control")
    assert statuses(finished)["malformed"] == "PASS"
    assert statuses(finished)["other_paths"] == "SKIP"


def test_ways_around_mean_nothing_when_the_key_is_not_served_after_them() -> None:
    served = in_turn(COMPLETION, COMPLETION, COMPLETION, REFUSED)
    with Server(guarded(KEY, answer=served)) as server:
        finished = check_server(server, KEY, "--only", "other_paths")
    assert (finished.code, only("SKIP", finished)) == (3, {"other_paths"})
    assert "the valid credential is no longer served" in detail(finished, "other_paths")


# --- rules


RESPONSES = {200: COMPLETION, 401: REFUSED, 403: response(403, b"Forbidden")}


def exchange(
    group: str, status: int | None, name: str = "x", said: str = "", failure: str | None = None
) -> Exchange:
    """A question of this group, answered with this status, or not at all."""
    request = questions.completion("class:fast", "a-token")
    answer = RESPONSES.get(status, response(status, said.encode())) if status else b""
    return Exchange(Question(group, name, request), answer_to(request, answer, failure))


def evidence_of(*exchanges: Exchange) -> auth.Evidence:
    nobody = {name: Identity(role) for name, role in auth.ROLES.items()}
    return auth.Evidence(True, nobody, exchanges=list(exchanges))


def test_refusals_prove_nothing_unless_the_control_is_served_after_them() -> None:
    before, refused = exchange("control", 200), exchange("payload", 401)
    for after, status in ((200, Status.PASS), (401, Status.SKIP), (500, Status.SKIP)):
        evidence = evidence_of(before, refused, exchange("control", after))
        assert auth.check_refused("payload", evidence).status is status
    assert auth.check_refused("payload", evidence_of(before, refused)).essential


def test_what_was_accepted_fails_whatever_came_after() -> None:
    evidence = evidence_of(
        exchange("control", 200), exchange("payload", 200), exchange("control", 401)
    )
    assert auth.check_refused("payload", evidence).status is Status.FAIL
    assert auth.check_control(evidence).status is Status.FAIL


def test_a_token_that_expires_during_the_run_is_no_failure() -> None:
    evidence = evidence_of(exchange("control", 200), exchange("control", 401))
    evidence.has_expired = True
    found = auth.check_control(evidence)
    assert (found.status, found.essential) == (Status.SKIP, True)


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_class_that_no_runner_has_is_no_refusal_unless_another_role_is_served(
    status: int,
) -> None:
    refused = exchange("user", status, "class:big", "No runners have models")
    evidence = evidence_of(exchange("control", 200), refused)
    assert auth.judge_classes([refused], evidence, "user").status is Status.SKIP
    evidence.exchanges.append(exchange("admin", 200, "class:big"))
    assert auth.judge_classes([refused], evidence, "user").status is Status.FAIL


def test_an_answer_that_is_late_is_not_called_a_refusal() -> None:
    late = exchange("user", None, failure="timeout")
    finding = auth.judge_classes([late], evidence_of(late), "user")
    assert (finding.status, "refused" in finding.text) == (Status.FAIL, False)
    assert "--timeout 180" in finding.text


def test_checks_skipped_in_a_row_for_one_reason_are_one_line() -> None:
    skipped = [auth.Check(name, Status.SKIP, "why") for name in "ab"]
    other = auth.Check("c", Status.SKIP, "else")
    assert [each.name for each in auth.shown([*skipped, other])] == ["a, b", "c"]
