"""The fleet profile of the reference deployment: real processes, sockets and magic packets."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http.client
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
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
    up,
    with_model,
)

from reference import Deployment, magic_packet, running, tokens
from reference.__main__ import main, signals_to_end
from reference.faults import answers, fleet_changes, planting
from reference.faults.fault import Install
from reference.fleet import deploy
from reference.fleet import with_model as renamed
from reference.fleet_registry import Registry, Runner, Waker
from reference.fleet_routing import Place, Router
from reference.hooks import Hooks
from reference.settings import FleetSettings
from reference.token_verifier import Denied, Policy, Verifier

QUICK: dict[str, Any] = {"profile": "fleet", "ttft_ms": 4, "itl_ms": 1}
FAST, BIG = "smollm2:135m", "smollm2:135m-big"
DESK, TOWER = "02:00:5e:00:00:01", "02:00:5e:00:00:02"


@pytest.fixture(scope="module")
def awake() -> Iterator[Deployment]:
    with running(**QUICK) as deployment:
        yield deployment


def token(
    deployment: Deployment, *roles: str, user: str = tokens.DEFAULT_USER, life_s: float = 60
) -> str:
    """A token as `get-token` prints it, without the time that its process needs to start."""
    key = tokens.read_key(Path(deployment.environment[tokens.KEY_VARIABLE]))
    return tokens.new_token(key, user, roles, life_s)


def ask(deployment: Deployment, model: object = None, by: str | None = None, **more: Any) -> Answer:
    """A chat request, not streamed, of a user without roles unless told otherwise."""
    fields: dict[str, Any] = {"stream": False, **more}
    if model is not None:
        fields["model"] = model
    bearer = f"Bearer {by or deployment.token}"
    return call(deployment.url, CHAT, "POST", chat_body(**fields), Authorization=bearer)


def models(deployment: Deployment) -> list[str]:
    return [model["id"] for model in call(deployment.url, "/v1/models").json["data"]]


def runners(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """The runners' entries in the admin API, by their names."""
    bearer = f"Bearer {token(deployment, tokens.ADMIN)}"
    body = call(deployment.url, "/admin/runners", Authorization=bearer).json
    assert body["total"] == len(body["runners"])
    return {runner["name"]: runner for runner in body["runners"]}


def log(deployment: Deployment, query: str = "") -> list[dict[str, Any]]:
    bearer = f"Bearer {token(deployment, tokens.ADMIN)}"
    body = call(deployment.url, f"/admin/api/requests{query}", Authorization=bearer).json
    entries: list[dict[str, Any]] = body["requests"]
    return entries


class PacketReceiver:
    """Receives what is broadcast on a deployment's Wake-on-LAN port."""

    def __init__(self, port: int) -> None:
        self.sock = magic_packet.bind(port)

    def packets(self, quiet_s: float = 0.2) -> list[bytes]:
        """All packets that have come, until none comes for `quiet_s`."""
        found = []
        self.sock.settimeout(quiet_s)
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(self.sock.recv(2048))
        return found


@contextlib.contextmanager
def receiving(deployment: Deployment) -> Iterator[PacketReceiver]:
    receiver = PacketReceiver(deployment.wol_port)
    with contextlib.closing(receiver.sock):
        yield receiver


# --- starting and ending


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"])
@on_linux
def test_it_prints_the_environment_then_ready_and_ends_without_a_trace(name: str) -> None:
    command = [sys.executable, "-m", "reference", "up", "--profile", "fleet", "--engine", "sim"]
    command += ["--port", "0", "--wol-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(8)]
        pids = family(process.pid)
        key_file = Path(lines[3].strip().partition("=")[2])
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        process.send_signal(signal.Signals[name])
        assert process.wait(10) == 0
    names = [line.removeprefix("export ").partition("=")[0] for line in lines[:-1]]
    assert names[:3] == ["SIMPLEAI_URL", "SIMPLEAI_TEST_TOKEN", "TOKEN_BINARY"]
    assert names[3:5] == ["FLEET_KEY_FILE", "WOL_PORT"]
    assert names[5:] == ["RUNNER_PID_DESK", "RUNNER_PID_TOWER"]
    assert lines[-1].startswith("# ready")
    assert len(pids) == 5  # the gateway, two runners, an engine each
    assert eventually(lambda: gone(pids))
    assert not key_file.parent.exists()


@on_linux
def test_with_nohup_it_goes_on_when_the_terminal_closes() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in signals_to_end()
    finally:
        signal.signal(signal.SIGHUP, before)


@on_linux
def test_runners_and_engines_of_a_killed_gateway_end_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # no process is left that removes the key
    with running(**QUICK) as deployment:
        pids = family(deployment.process.pid)
        assert len(pids) == 5
        deployment.process.kill()
        assert eventually(lambda: gone(pids))


@pytest.mark.parametrize("options", [{"asleep": True, "boot_ms": 9000}, {"ttft_ms": 9000}])
@on_linux
def test_it_ends_at_once_while_requests_are_held_or_served(options: dict[str, Any]) -> None:
    with running(**{**QUICK, "runners": 1, **options}) as deployment, ThreadPoolExecutor(3) as pool:
        pids = family(deployment.process.pid)
        for _ in range(3):
            pool.submit(ask_without_answer, deployment)
        time.sleep(0.2)
        started_s = time.monotonic()
        assert deployment.stop(signal.SIGINT) == 0
        assert time.monotonic() - started_s < 3
        assert eventually(lambda: gone(pids))


def ask_without_answer(deployment: Deployment) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(deployment)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--runners=0", "--runners must be a whole number from 1 to 16"),
        ("--models=desk", "--models must be models by runner"),
        ("--models=desk=a;tower=a;desk=b", "each runner once"),
        ("--models=" + ";".join(f"r{n}=a" for n in range(17)), "at most 16 runners"),
        ("--models=desk=a --runners=1", "leave --runners out"),
        ("--runner-header=X:Y", "must be a header's name"),
        ("--runner-header=Content-Length", "must be a header's name"),
        ("--runner-header=access-control-allow-origin", "must be a header's name"),
        ("--asleep=maybe", "--asleep must be true or false"),
        ("--max-queue-size=2", "unrecognized arguments"),
    ],
)
def test_bad_settings_end_in_one_line(
    options: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # With this time-out it cannot start, so the test cannot hang if the options are accepted.
    never_starts = ["up", "--profile=fleet", "--engine=sim", "--port=0", "--start-timeout=0"]
    code = exit_code(main, [*never_starts, *options.split()])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def exit_code(run: Callable[[list[str]], int], arguments: list[str]) -> object:
    try:
        return run(arguments)
    except SystemExit as end:
        return end.code


def test_a_runner_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"no model")
    options = ("--port=0", "--wol-port=0", f"--model-path={tmp_path / 'no.gguf'}")
    ended = up("--profile=fleet", "--engine=llama", *options)
    assert ended.returncode == 1
    assert "the llama engine did not start" in ended.stderr and ended.stderr.count("\n") == 1


# --- tokens


def test_get_token_works_through_a_symbolic_link_in_any_folder(
    awake: Deployment, tmp_path: Path
) -> None:
    (tmp_path / "folder").symlink_to(ROOT / "reference")
    (tmp_path / "step").symlink_to("folder/get-token")
    (tmp_path / "get-token").symlink_to("step")
    environment = {**os.environ, **awake.environment, "CDPATH": str(ROOT)}
    command = ["./get-token", "token", "--user", "ann", "--role", "admin", "--role", "x"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    claims = jwt.decode(done.stdout.strip(), options={"verify_signature": False})
    assert (claims["sub"], claims["roles"]) == ("ann", ["admin", "x"])
    assert 3590 <= claims["exp"] - time.time() <= 3600
    del environment["FLEET_KEY_FILE"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "FLEET_KEY_FILE is not set" in done.stderr


@pytest.mark.parametrize("life", ["inf", "nan", "an hour"])
def test_a_wrong_lifetime_ends_in_one_line(life: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = exit_code(tokens.main, ["--expires-in", life])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--expires-in" in err


def test_a_token_can_be_checked_with_the_published_keys(awake: Deployment) -> None:
    published = jwt.PyJWKSet.from_dict(call(awake.url, "/.well-known/jwks.json").json)
    key = published[jwt.get_unverified_header(awake.token)["kid"]]
    jwt.decode(awake.token, key, ["RS256"], issuer=tokens.ISSUER, audience=tokens.AUDIENCE)


KEY, OTHER_KEY = tokens.new_key(), tokens.new_key()
VERIFIER = Verifier(KEY.public_key())
CLAIMS = {"iss": tokens.ISSUER, "aud": tokens.AUDIENCE, "sub": "ann", "exp": 2**33, "roles": []}


def signed(
    key: Any = KEY, algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token with these claims changed (None leaves one out) and with these additional headers."""
    payload = {name: each for name, each in {**CLAIMS, **claims}.items() if each is not None}
    return jwt.encode(payload, key, algorithm, {"kid": VERIFIER.kid, **(header or {})})


def edited(token: str, **claims: Any) -> str:
    """Other claims under the same signature."""
    head, payload, signature = token.split(".")
    changed = {**json.loads(tokens.decoded(payload)), **claims}
    return f"{head}.{tokens.encoded(json.dumps(changed).encode())}.{signature}"


def hs256(secret: bytes, kid: str = VERIFIER.kid) -> str:
    """A token signed by HS256. PyJWT refuses to sign with a public key or an empty one."""
    header = json.dumps({"alg": "HS256", "kid": kid}).encode()
    message = f"{tokens.encoded(header)}.{tokens.encoded(json.dumps(CLAIMS).encode())}"
    return f"{message}.{tokens.encoded(hmac.digest(secret, message.encode(), 'sha256'))}"


def unsigned(algorithm: str = "none") -> str:
    header = json.dumps({"alg": algorithm}).encode()
    return f"{tokens.encoded(header)}.{tokens.encoded(json.dumps(CLAIMS).encode())}."


JWK = tokens.public_jwk(OTHER_KEY.public_key())
PEM = tokens.public_pem(KEY.public_key())
# Tokens that must be refused, by what is wrong, with the weak policy that accepts each.
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "another key": (signed(OTHER_KEY), {"signature": False}),
    "edited": (edited(signed(), roles=["admin"]), {"signature": False}),
    "no signature": (signed().rpartition(".")[0] + ".", {"signature": False}),
    "alg none": (unsigned(), {"unsigned": True}),
    "alg nOnE": (unsigned("nOnE"), {"unsigned": True}),
    "an empty secret": (hs256(b""), {"hs256_secrets": (b"",)}),
    "the public key": (hs256(PEM), {"hs256_secrets": (PEM,)}),
    "a file as kid": (hs256(b"", "../../../dev/null"), {"kid_is_path": True}),
    "a kid nobody knows": (signed(header={"kid": "x"}), {"any_kid": True}),
    "an embedded key": (signed(OTHER_KEY, header={"jwk": JWK}), {"embedded_key": True}),
    "crit": (signed(header={"crit": ["exp2"], "exp2": 1}), {"critical": False}),
    "expired": (signed(exp=int(time.time()) - 65), {"expiry": False}),
    "no exp": (signed(exp=None), {"expiry": False}),
    "not yet": (signed(nbf=2**33), {"expiry": False}),
    "another issuer": (signed(iss=tokens.ISSUER + "/"), {"issuer": False}),
    "another audience": (signed(aud="others"), {"audience": False}),
    "padding": (signed() + "==", {"strict_text": False}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_sound_verifier_refuses_it_and_a_weak_one_accepts_it(name: str) -> None:
    refused, weakness = REFUSED[name]
    with pytest.raises(Denied) as denied:
        VERIFIER.user(f"Bearer {refused}", {})
    assert denied.value.status == 401 and refused not in str(denied.value)
    weak = Verifier(KEY.public_key(), Policy(**weakness))
    assert weak.user(f"Bearer {refused}", {}).name == "ann"
    assert weak.user(f"Bearer {signed()}", {}).name == "ann"


@pytest.mark.parametrize(
    "text",
    [
        *("", "Bearer", "Bearer ", "Bearer x", "Bearer a.b", "Bearer a.b.c", "Bearer a.b.c.d.e"),
        *("Bearer ..", f"Basic {signed()}", signed(), f"Bearer {signed(sub=None)}"),
        *(f"Bearer {signed(exp='2000000000')}", "Bearer " + signed().replace(".", ".\n", 1)),
        *(f"Bearer {tokens.encoded(b'[' * 9999)}.e30.", f"Bearer {signed()[:-3]}\xe4\xf6\xfc"),
    ],
)
def test_a_malformed_credential_is_denied(text: str) -> None:
    with pytest.raises(Denied):
        VERIFIER.user(text, {"access_token": signed()})


def test_the_scheme_may_have_any_case_and_the_clock_may_be_a_minute_wrong() -> None:
    assert VERIFIER.user(f"bEARER  {signed(exp=int(time.time()) - 50)}", {}).name == "ann"
    assert VERIFIER.user(f"Bearer {signed(roles='admin')}", {}).roles == frozenset()
    assert VERIFIER.user(f"Bearer {signed(aud=['others', 'fleet'])}", {}).name == "ann"


def test_a_refused_credential_gets_plain_text(awake: Deployment) -> None:
    answer = call(awake.url, CHAT, "POST", chat_body())
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert ask(awake, by=token(awake, life_s=-300)).status == 401
    assert ask(awake, by=token(awake, user="disabled")).status == 403
    assert ask(awake, by=f"{awake.token}\xff").status == 401
    assert ask(awake, by="x" * 9000).status == 431
    assert ask(awake, by="x" * 70000).status == 400


# --- models, roles, errors


def test_some_endpoints_need_no_token(awake: Deployment) -> None:
    assert call(awake.url, "/health").json == {"status": "ok", "version": "0.1.0"}
    assert models(awake) == [FAST, BIG]
    assert {model["created"] for model in call(awake.url, "/v1/models").json["data"]} == {0}
    assert call(awake.url, "/ping").status == 404
    text = call(awake.url, "/metrics").body.decode()
    assert re.findall(r"^\w+ \d+$", text, re.M)[0] == "simpleai_runners_online 2"
    assert text.count("# TYPE") == 2


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_names_the_model_it_was_resolved_to(awake: Deployment, stream: bool) -> None:
    specific = token(awake, tokens.SPECIFIC)
    for asked, by, expected in (
        ("class:fast", None, FAST),
        ("class:big", None, BIG),
        (None, None, FAST),
        (BIG, specific, BIG),
    ):
        answer = ask(awake, asked, by, stream=stream)
        assert answer.status == 200
        named = {e["model"] for e in answer.events} if stream else {answer.json["model"]}
        assert named == {expected}


def test_a_model_s_name_inside_the_text_is_not_changed() -> None:
    body = b'{"choices": [{"content": "\\"model\\": \\"x\\""}], "model": "a\\"b"}'
    assert (
        renamed(body, b'"c"') == b'{"choices": [{"content": "\\"model\\": \\"x\\""}], "model": "c"}'
    )


def test_a_specific_model_needs_its_role_and_errors_are_plain_text(awake: Deployment) -> None:
    specific = token(awake, tokens.SPECIFIC)
    denied = "Permission denied: cannot request specific models. Use class:fast or class:big."
    for asked, by, status, text in (
        (FAST, None, 400, denied),
        ("no-such", None, 400, denied),
        (FAST, token(awake, tokens.ADMIN), 400, denied),
        ("no-such", specific, 500, "No runners available for model 'no-such'"),
        ("class:huge", None, 500, "No runners have models of class 'huge'"),
        (7, None, 400, "Failed to parse the request: model is not a string"),
    ):
        answer = ask(awake, asked, by)
        assert (answer.status, answer.body.decode()) == (status, text)
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert ask(awake, messages=[]).body.startswith(b"'messages' must be")


def test_any_origin_is_allowed(awake: Deployment) -> None:
    preflight = call(awake.url, CHAT, "OPTIONS", Origin="https://a.example")
    stream = call(awake.url, CHAT, "POST", chat_body(), Authorization=f"Bearer {awake.token}")
    for answer in (preflight, stream, call(awake.url, "/v1/nothing")):
        assert answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]


# --- the admin API


def test_the_admin_api_is_only_for_administrators(awake: Deployment) -> None:
    for path in ("/admin/runners", "/admin/api/requests"):
        assert call(awake.url, path).status == 401
        basic = call(awake.url, path, Authorization=f"Bearer {awake.token}")
        assert (basic.status, basic.body) == (403, b"Admin access required")


def test_runners_are_listed_as_documented(awake: Deployment) -> None:
    found = runners(awake)
    assert list(found) == ["desk", "tower"]
    assert set(found["desk"]) == {
        *("id", "name", "machine_type", "health", "loaded_models", "available_models"),
        *("last_heartbeat", "mac_address", "is_online"),
    }
    assert [each["mac_address"] for each in found.values()] == [DESK, TOWER]
    assert all(each["is_online"] for each in found.values())


def test_requests_are_logged_newest_first_in_pages(awake: Deployment) -> None:
    for model in ("class:fast", "class:big", "class:huge"):
        ask(awake, model)
    huge, big, fast = log(awake, "?page=1&per_page=3")
    assert set(fast) == {
        *("id", "timestamp", "model", "status", "latency_ms", "runner_id", "wol_sent")
    }
    assert [each["status"] for each in (fast, big, huge)] == [200, 200, 500]
    assert [each["model"] for each in (fast, big)] == [FAST, BIG]
    known = runners(awake)
    assert fast["runner_id"] == known["desk"]["id"] and big["runner_id"] == known["tower"]["id"]
    assert huge["runner_id"] is None and fast["wol_sent"] is False
    assert log(awake, "?page=2&per_page=1") == [big]
    bearer = f"Bearer {token(awake, tokens.ADMIN)}"
    bad = call(awake.url, "/admin/api/requests?page=0", Authorization=bearer)
    assert bad.status == 400


# --- routing


def new_router(count: int = 2, slots: int = 2) -> Router:
    made = [
        Runner(
            f"id-{n}",
            f"r{n}",
            ("desktop", "gpu")[n % 2],
            f"02:00:00:00:00:{n:02x}",
            (FAST, BIG),
            slots,
        )
        for n in range(count)
    ]
    for runner in made:
        runner.engine_url = "http://127.0.0.1:1"
    return Router(Registry(made), Waker(1, 1.0))


def test_an_idle_runner_comes_first_then_the_preferred_type_then_the_lower_latency() -> None:
    router = new_router(4)
    able = router.registry.runners
    assert router.choose(able, "class:fast") is able[0]
    assert router.choose(able, "class:big") is able[1]
    able[0].latency_s = 1.0
    assert router.choose(able, "class:fast") is able[2]
    able[0].active = able[2].active = 1
    assert router.choose(able, "class:fast") is able[1]
    for runner in able:
        runner.active = 2
    assert router.choose(able, "class:fast") is None


def test_waiting_requests_get_free_places_in_order_and_a_client_that_leaves_frees_its_own() -> None:
    async def scenario() -> list[int]:
        router, served = new_router(count=1, slots=1), []

        async def request(number: int) -> None:
            async with router.hold(Place("class:fast")):
                served.append(number)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(request(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert (router.active, router.waiting) == (1, 3)
        tasks[0].cancel()  # it has the place
        tasks[2].cancel()  # it waits for one
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (router.active, router.waiting) == (0, 0)
        return served

    assert asyncio.run(scenario()) == [0, 1, 3]


def test_concurrent_requests_go_to_both_runners_and_sequential_ones_to_the_same() -> None:
    with running(**{**QUICK, "ttft_ms": 100}, runner_header="X-Runner-Id") as deployment:
        assert {ask(deployment).headers["X-Runner-Id"] for _ in range(3)} == {"desk"}
        started_s = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            found = Counter(pool.map(lambda _: ask(deployment).headers["X-Runner-Id"], range(8)))
        # Two runners with two slots each serve them in two rounds.
        assert found == {"desk": 4, "tower": 4}
        assert 0.2 <= time.monotonic() - started_s < 0.6


def test_runners_may_have_other_models() -> None:
    layout = f"tower={BIG};attic={FAST};cellar=other"
    with running(**QUICK, models=layout, runner_header="X-Runner") as deployment:
        assert models(deployment) == [BIG, FAST, "other"]
        assert ask(deployment, "class:big").headers["X-Runner"] == "tower"
        assert ask(deployment, "other", token(deployment, tokens.SPECIFIC)).status == 200


@on_linux
def test_an_engine_that_dies_is_a_500_and_is_started_again() -> None:
    with running(**QUICK, runners=1) as deployment:
        (engine,) = [pid for pid in family(deployment.process.pid) if is_engine(pid)]
        os.kill(engine, signal.SIGKILL)
        answer = ask(deployment)
        if answer.status != 200:  # the engine may have been started again already
            assert answer.status == 500 and answer.body.startswith(b"Runner 'desk' failed: ")
        assert eventually(lambda: ask(deployment).status == 200)
        assert [runner["is_online"] for runner in runners(deployment).values()] == [True]


@on_linux
@pytest.mark.filterwarnings("ignore:It is recommended")  # from aiohttp, which runs in this process
def test_a_stream_that_breaks_off_has_its_own_status_in_the_log_and_prints_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextlib.contextmanager
    def begun(deployment: Deployment) -> Iterator[http.client.HTTPResponse]:
        bearer = {"Authorization": f"Bearer {deployment.token}"}
        with contextlib.closing(connect(deployment.url)) as connection:
            connection.request("POST", CHAT, chat_body(max_tokens=999), bearer)
            with connection.getresponse() as reply:
                assert reply.read(1)
                yield reply

    def scenario(deployment: Deployment) -> None:
        with begun(deployment):
            pass  # the client leaves
        assert eventually(lambda: len(log(deployment)) == 1)
        with begun(deployment) as reply:
            (engine,) = filter(is_engine, family(os.getpid()) - others)
            os.kill(engine, signal.SIGKILL)
            assert b"Runner 'desk' failed" in reply.read().rpartition(b'data: {"error": ')[2]
        assert eventually(lambda: len(log(deployment)) == 2)
        assert [entry["status"] for entry in log(deployment)] == [502, 499]

    others = family(os.getpid())  # the processes of the module's deployment
    run_with(scenario=scenario, runners=1, itl_ms=5)
    assert not caplog.records


def test_an_unknown_client_at_the_port_for_runners_changes_nothing() -> None:
    opened = []

    async def said(port: int, line: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        writer.write(line + b"\n")
        return await reader.readline()

    async def scenario() -> None:
        registry, troubles = new_router(count=1).registry, list[object]()
        (runner,) = registry.runners
        asyncio.get_running_loop().set_exception_handler(lambda _, what: troubles.append(what))
        hello = json.dumps({"name": runner.name, "engine_url": "http://127.0.0.1:2"}).encode()
        async with registry.listening() as port:
            for line in (b"", b"[]", b"5", b"{}", b'{"name": "nobody"}', b"[" * 60000, b"\xff"):
                assert await said(port, line) == b""
            assert await said(port, hello.replace(b"r0", b"r1")) == b""
            assert await said(port, hello) == b"welcome\n"
            assert await said(port, hello.replace(b":2", b":3")) == b""
            assert runner.online and runner.engine_url == "http://127.0.0.1:2"
            for writer in opened:
                writer.close()
            assert await asyncio.wait_for(runner.disconnected.wait(), 5)
        assert not troubles

    asyncio.run(scenario())


def is_engine(pid: int) -> bool:
    return b"reference.sim" in Path(f"/proc/{pid}/cmdline").read_bytes()


# --- Wake-on-LAN


def test_a_request_wakes_one_runner_with_one_packet_and_is_served() -> None:
    with (
        running(**QUICK, asleep=True, boot_ms=200) as deployment,
        receiving(deployment) as receiver,
    ):
        assert models(deployment) == []
        before = runners(deployment)
        assert not any(each["is_online"] for each in before.values())
        assert before["tower"]["available_models"] == [FAST, BIG]
        started_s = time.monotonic()
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _: ask(deployment, "class:big"), range(5)))
        assert {answer.status for answer in answers} == {200}
        assert time.monotonic() - started_s >= 0.2
        assert receiver.packets() == [magic_packet.build(TOWER)]
        assert models(deployment) == [FAST, BIG]
        assert [each["is_online"] for each in runners(deployment).values()] == [False, True]
        assert [entry["wol_sent"] for entry in log(deployment)].count(True) == 1
        assert ask(deployment).status == 200  # from the runner that is awake and has both classes
        assert log(deployment)[0]["wol_sent"] is False and receiver.packets() == []


def test_only_a_magic_packet_with_its_mac_wakes_a_runner() -> None:
    sound = magic_packet.build(DESK)
    assert magic_packet.wakes(sound, DESK)
    with running(**QUICK, asleep=True, runners=1) as deployment:
        for packet in (sound[:-6], sound[:-1], sound + b"12345", b"\0" + sound[1:], b""):
            magic_packet.broadcast(packet, deployment.wol_port)
        magic_packet.broadcast(magic_packet.build(TOWER), deployment.wol_port)
        time.sleep(0.3)
        assert models(deployment) == []
        magic_packet.broadcast(sound + b"secret", deployment.wol_port)
        assert eventually(lambda: models(deployment) == [FAST, BIG])


@on_linux
def test_an_idle_runner_sleeps_without_an_engine_and_wakes_again() -> None:
    with running(**QUICK, runners=1, idle_timeout=0.2, output_tokens=400) as deployment:
        for _ in range(2):
            assert eventually(lambda: models(deployment) == [])
            assert eventually(lambda: len(family(deployment.process.pid)) == 2)
            # While it serves a long answer, it is not idle.
            assert len(ask(deployment, max_tokens=400, stream=True).events) > 400
        assert [entry["wol_sent"] for entry in log(deployment)] == [True] * 2


def test_requests_at_the_moment_when_a_runner_falls_asleep_are_all_served() -> None:
    with running(**QUICK, runners=1, idle_timeout=0.15) as deployment:
        statuses = set()
        for pause_s in (0.15, 0.18, 0.21, 0.24):
            time.sleep(pause_s)
            statuses.add(ask(deployment).status)
        assert statuses == {200}


def test_a_refused_request_wakes_no_runner() -> None:
    with running(**QUICK, asleep=True) as deployment, receiving(deployment) as receiver:
        assert ask(deployment, by="x.y.z").status == 401
        assert ask(deployment, FAST).status == 400
        assert ask(deployment, "class:huge").status == 500
        assert receiver.packets() == [] and models(deployment) == []


def test_a_runner_that_does_not_wake_is_a_500_after_the_wake_timeout() -> None:
    with running(**QUICK, asleep=True, boot_ms=1200, wake_timeout=0.3) as deployment:
        started_s = time.monotonic()
        answer = ask(deployment)
        assert 0.3 <= time.monotonic() - started_s < 1.2
        text = "Failed to wake inference runners: runner 'desk' did not connect within 0.3 s"
        assert (answer.status, answer.body.decode()) == (500, text)
        assert log(deployment)[0]["wol_sent"] is True
        assert eventually(lambda: ask(deployment).status == 200)


@on_linux
def test_an_engine_that_cannot_start_is_tried_once_for_each_packet() -> None:
    options = {"asleep": True, "runners": 1, "start_timeout": 0.05, "wake_timeout": 0.5}
    with running(**QUICK, **options) as deployment:
        for _ in range(2):
            assert ask(deployment).status == 500
            counts = [
                len(family(deployment.process.pid)) for _ in range(20) if not time.sleep(0.02)
            ]
            assert set(counts) == {2}  # the gateway and the runner


@with_model
def test_llama_wakes_on_a_packet_and_serves_both_classes() -> None:
    with running(engine="llama", profile="fleet", asleep=True) as deployment:
        with receiving(deployment) as receiver:
            answer = ask(deployment, "class:fast", max_tokens=8)
            assert receiver.packets() == [magic_packet.build(DESK)]
        assert answer.status == 200 and answer.json["model"] == FAST
        assert answer.json["choices"][0]["message"]["content"]
        stream = ask(deployment, "class:big", stream=True, max_tokens=8)
        assert {event["model"] for event in stream.events} == {BIG} and stream.text


# --- the changes of which faults are made


def run_with(*installs: Install, scenario: Callable[[Deployment], Any], **options: Any) -> Any:
    """The result of `scenario` in a fleet that runs in this process, with these changes."""
    hooks = Hooks()
    for install in installs:
        install(hooks)
    quick = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1, "port": 0, "wol_port": 0}
    settings = FleetSettings(**{**quick, **options})

    async def run() -> Any:
        async with deploy(settings, hooks) as environment:
            deployment = Deployment(dict(environment), None)  # type: ignore[arg-type]
            return await asyncio.to_thread(scenario, deployment)

    return asyncio.run(run())


@pytest.mark.filterwarnings("ignore:It is recommended")  # from aiohttp, which runs in this process
def test_roles_models_and_routing_can_be_changed() -> None:
    def scenario(deployment: Deployment) -> None:
        assert ask(deployment, FAST).json["model"] == "lie"
        assert len(runners(deployment)) == 2
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: ask(deployment), range(4)))
        assert {entry["runner_id"] for entry in log(deployment)} == {
            runners(deployment)["tower"]["id"]
        }
        assert {entry["model"] for entry in log(deployment)} == {BIG}
        assert call(deployment.url, "/v1/models").body == b"planted"

    run_with(
        fleet_changes.decide("may_ask_specific", lambda user: True),
        fleet_changes.names_model(lambda place: "lie"),
        fleet_changes.resolves(lambda wanted: "class:big"),
        fleet_changes.chooses(lambda able, wanted: able[-1]),
        answers.plain_text("models", 500),
        scenario=scenario,
    )


WAKES = {
    "no_packet": (fleet_changes.send_nothing, [], 500),
    "unheard": (fleet_changes.wake_without_packet, [], 200),
    "wrong_mac": (
        fleet_changes.send_to_wrong_mac,
        [magic_packet.build(fleet_changes.WRONG_MAC)],
        500,
    ),
    "malformed": (
        fleet_changes.and_wake(fleet_changes.send_malformed),
        [magic_packet.build(DESK)[:-6]],
        200,
    ),
}


@pytest.mark.parametrize("name", WAKES)
def test_packets_can_be_changed(name: str) -> None:
    send, packets, status = WAKES[name]

    def scenario(deployment: Deployment) -> None:
        with receiving(deployment) as receiver:
            assert ask(deployment).status == status
            assert receiver.packets() == packets

    run_with(
        fleet_changes.sends(send),
        scenario=scenario,
        asleep=True,
        runners=1,
        wake_timeout=0.3 if status == 500 else 9,
    )


def test_a_packet_for_each_request_and_a_refusal_while_waking() -> None:
    def burst(deployment: Deployment) -> tuple[int, set[int]]:
        with receiving(deployment) as receiver, ThreadPoolExecutor(3) as pool:
            statuses = set(pool.map(lambda _: ask(deployment).status, range(3)))
            return len(receiver.packets()), statuses

    options: dict[str, Any] = {"asleep": True, "boot_ms": 200}
    each = planting.on_gateway(fleet_changes.send_packet_for_each_request)
    assert run_with(each, scenario=burst, **options) == (3, {200})
    refused = planting.around_with_gateway("inference", fleet_changes.refuse_while_waking)
    assert run_with(refused, scenario=burst, **options) == (1, {503})
