"""test_cors.py: its rules on answers made by hand, and the script on deployments good and odd."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from helpers.answers import answer
from helpers.http_server import QuietHandler, QuietServer
from helpers.scripts import Finished, SavedAs, run_script

import test_cors as cors
from common import Status
from livecheck.wire.asking import Cause, Stop
from livecheck.wire.wire import Failure, Request
from reference import Deployment, running

SCRIPT = "test_cors.py"
SAVED = SavedAs("cors")
statuses, only = SAVED.statuses, SAVED.only
ORIGIN = "https://app.example"
QUICK = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1, "rate_limit": 0}
WARNED = {"exposed", "sdk_headers"}  # what the gateway leaves out, sound as it is
GOOD = {
    "access-control-allow-origin": [ORIGIN],
    "access-control-allow-methods": ["GET, POST, OPTIONS"],
    "access-control-allow-headers": ["Authorization, Content-Type"],
    "vary": ["Origin"],
}


def check(deployment: Deployment, *arguments: object) -> Finished:
    target = ("--url", deployment.url)
    key = ("--api-key", deployment.api_key) if deployment.api_key else ()
    return run_script(SCRIPT, *target, *key, *arguments)


# --- deployments


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("auth", ["true", "false"])
def test_a_sound_allowlist_passes(connection: str, auth: str) -> None:
    options = {"cors_origins": ORIGIN, "connection": connection, "auth_enabled": auth}
    with running(**QUICK, **options) as deployment:
        finished = check(deployment, "--origin", ORIGIN)
    assert finished.code == 0
    assert only("WARN", finished) == WARNED
    assert only("PASS", finished) == set(cors.CHECKS) - WARNED - {"disabled"}
    assert ("no 401" in finished.out) == (auth == "false")


def test_any_page_allowed_passes_and_says_what_it_could_not_decide() -> None:
    with running(**QUICK, cors_origins="*") as deployment:
        finished = check(deployment, "--origin", ORIGIN)
    assert finished.code == 0
    assert only("SKIP", finished) == {"others", "vary"}


def test_a_real_model_behind_the_gateway_passes() -> None:
    with running("llama", cors_origins=ORIGIN, rate_limit=0) as deployment:
        finished = check(deployment, "--origin", ORIGIN)
    assert (finished.code, only("WARN", finished)) == (0, WARNED)


def test_the_engine_itself_is_found_to_let_everybody_in() -> None:
    """llama.cpp's own server sends any origin back and * for the headers."""
    with running("llama") as deployment:
        finished = run_script(SCRIPT, "--url", deployment.engine_url, "--origin", ORIGIN)
    assert finished.code == 1
    assert only("FAIL", finished) == {"headers", "others", "vary"}
    assert len(finished.check("cors", "others")["evidence"]["let_in"]) == 9


def test_no_cors_at_all_fails_and_passes_when_expected() -> None:
    with running(**QUICK) as deployment:
        missing = check(deployment, "--origin", ORIGIN)
        failed = only("FAIL", missing)
        expected = check(deployment, "--origin", ORIGIN, "--expect-disabled")
        anyone = check(deployment, "--expect-disabled")
    assert (missing.code, expected.code, anyone.code) == (1, 0, 0)
    assert failed == {"preflight_origin", "headers", "answer", "stream", "errors"}
    assert statuses(anyone) == {"disabled": "PASS"}


def test_an_origin_that_should_be_denied_is_asked_for() -> None:
    other = "https://staging.example"
    with running(**QUICK, cors_origins=[ORIGIN, other]) as deployment:
        unaware = check(deployment, "--origin", ORIGIN)
        aware = check(deployment, "--origin", ORIGIN, "--denied-origin", other)
        fails = only("FAIL", aware)
    assert (unaware.code, aware.code, fails) == (0, 1, {"others"})
    assert f"{other} (denied)" in aware.out.replace("\n      ", " ")


def test_an_origin_that_should_be_denied_is_not_when_any_is_allowed() -> None:
    with running(**QUICK, cors_origins="*") as deployment:
        finished = check(deployment, "--origin", ORIGIN, "--denied-origin", "https://no.example")
    assert (finished.code, only("FAIL", finished)) == (1, {"others"})
    assert "1 of 1" in finished.check("cors", "others")["detail"]


def test_the_keys_rate_limit_is_no_verdict() -> None:
    with running(**{**QUICK, "rate_limit": 8}, cors_origins=ORIGIN) as deployment:
        finished = check(deployment, "--origin", ORIGIN)
    assert finished.code == 3
    found = finished.check("cors", "answer")
    assert (found["status"], found["essential"]) == ("SKIP", True)
    assert "per minute, Retry-After 60" in found["detail"]
    assert not only("FAIL", finished)


def test_a_wrong_key_is_exit_3() -> None:
    with running(**QUICK, cors_origins=ORIGIN) as deployment:
        finished = run_script(
            SCRIPT, "--url", deployment.url, "--token", "sk-no", "--origin", ORIGIN
        )
    assert finished.code == 3
    assert "the API key was refused" in finished.err


def test_strict_makes_the_warnings_fail() -> None:
    with running(**QUICK, cors_origins=ORIGIN) as deployment:
        finished = check(deployment, "--origin", ORIGIN, "--strict")
    assert (finished.code, only("FAIL", finished)) == (1, WARNED)


def test_preflights_alone_leave_the_model_alone() -> None:
    with running(**QUICK, cors_origins=ORIGIN) as deployment:
        finished = check(deployment, "--origin", ORIGIN, "--only", "preflight", "headers")
    assert finished.code == 0
    assert {each["method"] for each in finished.document("cors")["requests"]} == {"OPTIONS", "GET"}


def test_the_output_fits_80_columns_and_json_is_the_saved_document() -> None:
    origin = "https://a-rather-long-name-for-a-web-page.some-department.example:8443"
    with running(**QUICK, cors_origins=origin) as deployment:
        text = check(deployment, "--origin", origin)
        as_json = check(deployment, "--origin", origin, "--output", "json")
    assert (text.code, as_json.code) == (0, 0)
    assert json.loads(as_json.out) == as_json.document("cors")
    assert max(map(len, text.out.splitlines())) <= 80
    assert deployment.api_key not in text.everything + as_json.everything


# --- where the origin comes from


def test_without_an_origin_it_asks_for_one_and_sends_nothing() -> None:
    finished = run_script(SCRIPT, "--url", "http://127.0.0.1:9")
    assert finished.code == 3
    assert "--origin" in finished.err and "CORS_ORIGIN" in finished.err
    assert "refused" not in finished.err


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_the_origin_comes_from_the_environment_too(where: str) -> None:
    setting = {"CORS_ORIGIN": ORIGIN}
    if where == ".env":
        Path(".env").write_text(f"CORS_ORIGIN={ORIGIN}\n")
    with running(**QUICK, cors_origins=ORIGIN) as deployment:
        env = {**deployment.environment, **(setting if where == "environment" else {})}
        finished = run_script(SCRIPT, "--only", "preflight", "preflight_origin", env=env)
    assert finished.code == 0
    assert ORIGIN in finished.out


def test_a_malformed_origin_in_the_environment_is_exit_2() -> None:
    finished = run_script(SCRIPT, "--url", "http://127.0.0.1:9", env={"CORS_ORIGIN": "app.example"})
    assert finished.code == 2
    assert "CORS_ORIGIN" in finished.err and len(finished.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("https://App.example", "https://app.example"),
        ("https://app.example/", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("app.example", "https://host"),
        ("https://app.example/page", "https://host"),
        ("https://app.example:99999", "https://host"),
        ("https://app.example\r\nX-Evil: 1", "https://host"),
        ("https://app.example\n", "https://app.example"),
        ("*", "https://host"),
        ("null", "https://host"),
        ("", "https://host"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(text: str, written: str) -> None:
    with pytest.raises(ValueError, match=f"write {written}"):
        cors.parse_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        ORIGIN,
        "http://localhost:3000",
        "http://[::1]:3000",
        "capacitor://localhost",
        "http://10.0.0.1",
    ],
)
def test_origins_of_all_kinds_have_others_that_browsers_could_send(text: str) -> None:
    assert cors.parse_origin(text) == text
    pages = cors.other_pages(text, [])
    kinds = [kind for kind, _ in pages]
    assert {"reflected", "scheme", "port", "null"} <= set(kinds)
    for kind, origin in pages:
        assert origin != text
        assert kind == "null" or cors.parse_origin(origin) == origin


def test_the_look_alikes_of_an_origin() -> None:
    assert dict(cors.other_pages("http://app.example:3000", ["https://no.example"])) == {
        "reflected": "https://other-site.example",
        "prefix": "http://app.example:30001",  # and app.example.other-site.example before it
        "suffix": "http://notapp.example:3000",
        "dot": "http://appxexample:3000",
        "scheme": "https://app.example:3000",
        "port": "http://app.example:61443",
        "null": "null",
        "subdomain": "http://other.app.example:3000",
        "localhost": "http://localhost:3000",
        "denied": "https://no.example",
    }


# --- the rules, on answers made by hand


def asked(
    name: str, page: str = cors.ALLOWED, status: int | None = 200, headers: Any = None, **more: Any
) -> cors.Asked:
    """A question and the answer to it, with GOOD headers for the allowed page."""
    origin = ORIGIN if page == cors.ALLOWED else "https://other-site.example"
    given = (GOOD if origin == ORIGIN else {}) if headers is None else headers
    request = Request("GET", "/", headers={"origin": origin})
    return cors.Asked(
        cors.Question(name, page, request), answer(status, given, request=request, **more)
    )


def seen(**changed: Mapping[str, Any]) -> cors.Evidence:
    """The answers of a sound deployment; what is `changed`, by question, is changed."""
    stream = {**GOOD, "content-type": ["text/event-stream"]}
    usual: dict[str, dict[str, Any]] = {
        "preflight": {"status": 204},
        "sdk": {"status": 204},
        "stream": {"headers": stream},
        "401": {"status": 401},
        "404": {"status": 404},
        "400": {"status": 400},
    }
    names = ("preflight", "sdk", "models", "answer", "stream", "401", "404", "400")
    allowed = [
        asked(name, **{**usual.get(name, {}), **changed.get(f"p_{name}", {})}) for name in names
    ]
    others = [
        asked(name, "reflected", **changed.get("others", {})) for name in ("preflight", "models")
    ]
    return cors.Evidence(ORIGIN, allowed + others)


def verdicts(found: cors.Evidence) -> dict[str, Status]:
    return {check.name: check.status for check in (judge(found) for judge in cors.JUDGES)}


def failing(found: cors.Evidence) -> set[str]:
    return {name for name, status in verdicts(found).items() if status is Status.FAIL}


def headers(**changed: str | list[str] | None) -> dict[str, dict[str, list[str]]]:
    """GOOD ones but for these: a value, several, or None for none."""
    made = dict(GOOD)
    for name, value in changed.items():
        full = name.replace("_", "-")
        full = full if full == "vary" else f"access-control-{full}"
        made[full] = [] if value is None else [value] if isinstance(value, str) else value
    return {"headers": made}


def test_nothing_fails_for_sound_answers() -> None:
    found = verdicts(seen())
    # answers made by hand have no body whose form could be looked at
    unusual = {name for name, status in found.items() if status is not Status.PASS}
    assert unusual == WARNED | {"form"}


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_a_preflight_that_passes(status: int) -> None:
    assert not failing(seen(p_preflight={"status": status}))


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 405, 500, 503])
def test_any_other_status_is_not(status: int) -> None:
    assert failing(seen(p_preflight={"status": status})) == {"preflight"}


@pytest.mark.parametrize(
    "allow_origin",
    [
        None,
        "https://app.example/",
        "https://APP.example",
        "http://app.example",
        "https://app.example, https://www.example",
        "https://app.example https://www.example",
        "null",
        "",
        [ORIGIN, ORIGIN],
        ["*", "*"],
        [ORIGIN, "*"],
    ],
)
@pytest.mark.parametrize(
    ("probe", "name"),
    [
        ("preflight", "preflight_origin"),
        ("answer", "answer"),
        ("models", "answer"),
        ("404", "errors"),
    ],
)
def test_anything_but_the_origin_once_keeps_the_page_out(
    allow_origin: Any, probe: str, name: str
) -> None:
    assert failing(seen(**{f"p_{probe}": headers(allow_origin=allow_origin)})) >= {name}


@pytest.mark.parametrize(
    ("values", "good"),
    [
        (None, True),  # safelisted
        ("POST", True),
        ("get, post", True),
        ("*", True),
        (["GET", "POST"], True),
        (" , POST,", True),  # empty elements are to be ignored: RFC 9110, section 5.6.1
        ("GET, OPTIONS", False),
        ("", False),
        ("GET POST", False),
    ],
)
def test_methods(values: Any, good: bool) -> None:
    found = failing(seen(p_preflight=headers(allow_methods=values)))
    assert found == (set() if good else {"methods"})


@pytest.mark.parametrize(
    ("values", "good"),
    [
        ("authorization,content-type", True),
        (["AUTHORIZATION", "x-other, CONTENT-TYPE"], True),
        ("*, authorization", True),
        ("authorization, x-ok", False),
        ("*", False),
        ("content-type", False),
        ("authorization; content-type", False),
        ("x-authorization, content-type", False),
        (None, False),
    ],
)
def test_headers(values: Any, good: bool) -> None:
    found = failing(seen(p_preflight=headers(allow_headers=values)))
    assert found == (set() if good else {"headers"})


@pytest.mark.parametrize(
    ("origin", "credentials", "good"),
    [
        ("*", "true", False),
        ("*", "false", True),
        ("*", "TRUE", True),  # not the word that counts
        (ORIGIN, "true", True),
    ],
)
def test_credentials(origin: str, credentials: str, good: bool) -> None:
    changed = headers(allow_origin=origin, allow_credentials=credentials)
    assert ("credentials" in failing(seen(p_answer=changed))) is not good


@pytest.mark.parametrize("value", ["https://other-site.example", "*"])
def test_another_page_that_is_let_in(value: str) -> None:
    assert failing(seen(others=headers(allow_origin=value))) == {"others"}


@pytest.mark.parametrize(
    ("vary", "good"),
    [
        ("origin", True),
        ("Accept-Encoding, Origin", True),
        (["Accept", "Origin"], True),
        ("*", True),
        (None, False),
        ("Accept", False),
        ("X-Origin", False),
    ],
)
def test_vary(vary: Any, good: bool) -> None:
    found = failing(seen(p_models=headers(vary=vary)))
    assert found == (set() if good else {"vary"})


def test_an_origin_that_is_sent_to_everybody_varies_with_nothing() -> None:
    found = verdicts(seen(p_models=headers(vary=None), others=headers(vary=None)))
    assert (found["vary"], found["others"]) == (Status.WARN, Status.PASS)


def test_what_a_page_may_see_of_a_refusal() -> None:
    shown = headers(expose_headers="X-Request-Id, Retry-After")
    changed = {f"p_{probe}": shown for probe in ("answer", "401", "404", "400")}
    for probe in ("401", "404", "400"):
        changed[f"p_{probe}"] = {**shown, "status": int(probe)}
    assert verdicts(seen(**changed))["exposed"] is Status.PASS
    changed["p_401"] = {"status": 401}
    assert verdicts(seen(**changed))["exposed"] is Status.WARN


@pytest.mark.parametrize(
    "value", ["*", ",".join(cors.SDK_HEADERS), ", ".join(cors.SDK_HEADERS).title()]
)
def test_the_headers_of_the_javascript_sdk(value: str) -> None:
    covered = {"status": 204, **headers(allow_headers=value)}
    assert verdicts(seen(p_sdk=covered))["sdk_headers"] is Status.PASS
    assert verdicts(seen(p_sdk={**covered, "status": 403}))["sdk_headers"] is Status.WARN


@pytest.mark.parametrize("probe", ["preflight", "answer", "stream", "404"])
def test_an_answer_that_breaks_off_is_a_fail(probe: str) -> None:
    broken = {f"p_{probe}": {"failure": Failure("truncated", "connection closed"), "status": None}}
    assert failing(seen(**broken)) == {{"404": "errors"}.get(probe, probe)}


def test_no_stream_where_one_was_asked_for_is_a_fail() -> None:
    plain = {"headers": {**GOOD, "content-type": ["application/json"]}}
    assert failing(seen(p_stream=plain)) == {"stream"}


def test_what_was_not_asked_is_not_decided() -> None:
    found = cors.Evidence(ORIGIN, [], Stop(Cause.RATE_LIMIT, "the rate limit"))
    for judge in cors.JUDGES:
        assert judge(found).status is Status.SKIP
    assert sum(judge(found).essential for judge in cors.JUDGES) >= 9


# --- a server that does as it is told


class Odd(QuietServer):
    """`answer` decides about each request: status and headers, or None to hang."""

    def __init__(self, answer: Callable[[str, str], tuple[int, dict[str, str]] | None]) -> None:
        super().__init__(OddHandler)
        self.answer = answer
        self.closing = Event()
        self.asked: list[tuple[str, str]] = []


class OddHandler(QuietHandler):
    server: Odd

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        answer = self.server.answer(self.command, self.path)
        if answer is None:
            self.server.closing.wait(30)
            return
        status, sent = answer
        wanted = json.loads(body).get("stream") if body and status == 200 else False
        kind, text = "application/json", b'{"data": []}'
        if wanted:
            kind, text = "text/event-stream", b"data: [DONE]\n\n"
        self.send_response(status)
        own = {"Content-Type": kind, "Content-Length": str(len(text))}
        for name, value in {**own, **sent}.items():
            self.send_header(name, value)
        self.end_headers()
        if status != 204:
            self.wfile.write(text)

    do_POST = do_OPTIONS = do_GET


@pytest.fixture
def odd() -> Iterator[Callable[..., Odd]]:
    servers: list[Odd] = []

    def start(answer: Callable[[str, str], tuple[int, dict[str, str]] | None]) -> Odd:
        server = Odd(answer)
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


EVERYTHING = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Expose-Headers": "*",
}


def test_a_generous_server_gives_no_cause_to_warn(odd: Callable[..., Odd]) -> None:
    server = odd(lambda method, path: (204 if method == "OPTIONS" else 200, EVERYTHING))
    finished = run_script(SCRIPT, "--url", server.url, "--origin", ORIGIN, "--strict")
    assert finished.code == 0
    assert only("SKIP", finished) == {"errors", "others", "vary", "form"}


def test_a_busy_deployment_is_undecided(odd: Callable[..., Odd]) -> None:
    busy = {**EVERYTHING, "Retry-After": "5"}
    server = odd(lambda method, path: (503, busy) if method == "POST" else (200, EVERYTHING))
    finished = run_script(SCRIPT, "--url", server.url, "--origin", ORIGIN)
    assert finished.code == 3
    assert "Retry-After 5" in finished.check("cors", "answer")["detail"]


@pytest.mark.parametrize(
    ("method", "name"), [("OPTIONS", "preflight"), ("POST", "answer"), ("GET", "answer")]
)
def test_a_server_that_hangs_costs_one_timeout(
    method: str, name: str, odd: Callable[..., Odd]
) -> None:
    server = odd(lambda asked, path: None if asked == method else (200, EVERYTHING))
    started = time.monotonic()
    finished = run_script(SCRIPT, "--url", server.url, "--origin", ORIGIN, "--timeout", 2)
    assert time.monotonic() - started < 2 + 8  # and the start of a process on a busy machine
    assert (finished.code, statuses(finished)[name]) == (1, "FAIL")
    assert len([each for each in server.asked if each[0] == method]) == 1


def test_a_completion_that_wants_a_key_is_exit_3_though_the_models_do_not(
    odd: Callable[..., Odd],
) -> None:
    server = odd(lambda method, path: (401 if method == "POST" else 200, EVERYTHING))
    finished = run_script(SCRIPT, "--url", server.url, "--origin", ORIGIN)
    assert finished.code == 3
    assert "an API key is needed" in finished.err
    assert finished.document("cors")["requests"]


def test_a_header_without_end_or_sense_is_only_quoted_in_part(odd: Callable[..., Odd]) -> None:
    wild = {**EVERYTHING, "Access-Control-Allow-Origin": "\x1b[31m" + "x" * 3000}
    server = odd(lambda method, path: (200, wild))
    finished = run_script(SCRIPT, "--url", server.url, "--origin", ORIGIN)
    assert finished.code == 1
    assert "\x1b[31m" not in finished.out
    assert max(len(each["detail"]) for each in finished.document("cors")["checks"]) < 700
