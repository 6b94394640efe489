"""The contract of every script (DESIGN.md), kept by each of them: run as an operator runs them."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from helpers.http_server import QuietHandler, QuietServer
from helpers.json_documents import texts_in
from helpers.scripts import PYTHON, ROOT, Finished, load_script, run_script, start_script
from helpers.signals import interrupt

import common

SCRIPTS = sorted(
    path.name
    for path in ROOT.glob("*.py")
    if path.name != "common.py" and "common.new_parser(" in path.read_text()
)
# options that keep a script short here, and do not change what is asked of it
BRIEF = {
    "benchmark.py": ["--requests", "2", "--max-tokens", "8"],
    "test_cors.py": ["--origin", "https://app.example"],
    "test_rate_limit.py": ["--limit", "5", "--window", "1"],
    "test_scale_to_zero.py": ["--idle-timeout", "1", "--cold-start-timeout", "5"],
}
SHARED = "--url --token --api-key --token-binary --timeout --ca-file --cert --cert-key"
SHARED += " --no-verify-ssl --verbose --debug --output --results --only --skip --strict --help"
SHARED += " --plan"
HEAVY = {
    "requests",
    "urllib3",
    "openai",
    "httpx",
    "httpx2",
    "scipy",
    "numpy",
    "matplotlib",
    "dotenv",
    "rich",
}
SECRET = "sk-T0p/5ecret+key=and\"more'&"

every_script = pytest.mark.parametrize("script", SCRIPTS)
# the command that runs the others, too
every_command = pytest.mark.parametrize("script", [*SCRIPTS, "run_all.py"])


def parser_of(script: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = load_script(script).build_parser()
    return parser


@pytest.mark.parametrize("script", [*SCRIPTS, "report.py", "run_all.py"])
def test_it_can_be_started_by_its_own_name(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text().startswith("#!/usr/bin/env python3\n")


def deployment_of(script: str) -> common.Deployment:
    deployment: common.Deployment = parser_of(script).get_default("deployment")
    return deployment


def brief(script: str) -> list[str]:
    return BRIEF.get(script, [])


def test_there_are_scripts_to_hold_to_the_contract() -> None:
    assert "benchmark.py" in SCRIPTS


# --- help and documentation


@every_command
def test_help_is_quick_and_imports_nothing_heavy(script: str) -> None:
    begun = time.monotonic()
    ended = subprocess.run(
        [PYTHON, "-X", "importtime", str(ROOT / script), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - begun < 10
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "argparse" in imported
    assert not {name.partition(".")[0] for name in imported} & HEAVY
    assert ended.returncode == 0


@every_command
def test_help_names_every_shared_option_and_fits_its_place(script: str) -> None:
    ended = run_script(script, "--help", env={"COLUMNS": "100"})
    assert (ended.code, ended.err) == (0, "")
    words = set(re.findall(r"(?<![\w-])--[a-z-]+", ended.out))
    assert set(SHARED.split()) <= words
    assert f"usage: {script}" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 120


@every_command
def test_help_leaves_no_results(script: str) -> None:
    assert not run_script(script, "--help").results.exists()


def examples(script: str) -> list[list[str]]:
    """The arguments of each command in the docstring, without what a shell would do itself."""
    _, _, text = (load_script(script).__doc__ or "").partition("Examples:\n")
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if script in words:
            end = next((n for n, word in enumerate(words) if word[0] in "|>&;"), len(words))
            commands.append(words[words.index(script) + 1 : end])
    return commands


@every_command
def test_every_example_of_the_docstring_parses(script: str) -> None:
    found = examples(script)
    assert found
    for arguments in found:
        parser_of(script).parse_args(arguments)


@every_command
def test_the_docstring_says_what_pass_means_and_what_it_costs(script: str) -> None:
    text = load_script(script).__doc__ or ""
    assert "PASS: " in text
    assert re.search(r"^(Cost|Costs|Wakes): ", text, re.MULTILINE)
    assert text.splitlines()[0].endswith("?")


@every_command
def test_nothing_in_a_script_looks_like_a_test_to_pytest(script: str) -> None:
    names = [name for name in vars(load_script(script)) if name.startswith(("test", "Test"))]
    assert not names


# --- the plan


@every_script
def test_the_plan_needs_no_deployment_and_sends_nothing(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_script(script).main(["--plan", *brief(script)]) == 0
    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == (f"{script}: this is a plan, nothing is sent", "")
    assert max(map(len, out.splitlines())) <= 100
    assert not Path("results").exists()


@every_script
def test_the_plan_as_json_says_the_same(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--token", SECRET, "--token-binary", "exit 1"]  # which is not run
    assert load_script(script).main(["--plan", "--output", "json", *told, *brief(script)]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["script"] == script.removesuffix(".py")
    assert plan["requests"] > 8  # those that any run may need besides its own
    assert plan["tokens_at_most"] > 0
    assert isinstance(plan["wakes"], str)
    assert 0 < plan["typical_s"] <= plan["at_most_s"]


# --- exit 2

MISTAKES = [
    ["--no-such-option"],
    ["--no-such-option", SECRET],
    ["stray"],
    ["--timeout", "0"],
    ["--timeout", "-1"],
    ["--timeout", "nan"],
    ["--timeout", "inf"],
    ["--timeout", "soon"],
    ["--timeout"],
    ["--output", "xml"],
    ["--only", "no-such-check"],
    ["--skip", "no-such-check"],
    ["--url", ""],
    ["--url", "host:8000"],
    ["--url", "ftp://host"],
    ["--url", "http://"],
    ["--url", "http://host:99999"],
    ["--url", "http://ho st"],
    ["--url", f"http://user:{quote(SECRET, safe='')}@host"],
    ["--token", ""],
    ["--token", "two words"],
    ["--token-binary", "'"],
    ["--results", "/dev/null/x"],
]


@every_command
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: " ".join(mistake)[:30])
def test_a_mistake_is_exit_2_and_one_line_on_stderr(
    script: str, mistake: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--url", "http://127.0.0.1:9", *mistake]
    with pytest.raises(SystemExit) as caught:
        load_script(script).main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"{script}: ")
    assert "5ecret" not in err
    assert not Path("results").exists() or not os.listdir("results")


@every_command
def test_a_mistake_is_exit_2_for_the_shell_too(script: str) -> None:
    ended = run_script(script, "--timeout", "nan")
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)


@every_script
def test_the_other_deployments_url_is_not_read(script: str) -> None:
    deployment = deployment_of(script)
    other = common.FLEET if deployment is common.GATEWAY else common.GATEWAY
    seen: list[str] = []
    args = parser_of(script).parse_args([])
    os.environ[other.url_variable] = "http://other.example"
    try:
        with common.run(args) as run:
            seen.append(run.url)
    except SystemExit as end:
        assert (end.code, deployment.default_url) == (2, None)
    finally:
        del os.environ[other.url_variable]
    assert seen in ([], [deployment.default_url])


# --- a deployment that is not there, or no use


@pytest.fixture
def closed_port() -> str:
    """A URL that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@every_script
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_refused_connection_is_exit_3_and_one_line_that_helps(
    script: str, output: str, closed_port: str
) -> None:
    ended = run_script(
        script, "--url", closed_port, "--token", SECRET, "--output", output, *brief(script)
    )
    said = [line for line in ended.err.splitlines() if line.startswith(f"{script}: ")]
    assert (ended.code, len(said)) == (3, 1)
    assert "refused" in said[0] and closed_port in said[0] and "--url" in said[0]
    is_sound(ended, output)
    assert has_no_access(ended)


class Server(QuietServer):
    """A server that answers everything in one way and remembers what it was asked."""

    request_queue_size = 64

    def __init__(self, answer: Callable[[Handler], None]):
        super().__init__(Handler)
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.arrived = threading.Event()
        self.closing = threading.Event()


class Handler(QuietHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.path, headers))
        self.server.arrived.set()
        self.server.answer(self)

    do_POST = do_OPTIONS = do_HEAD = do_PUT = do_DELETE = do_GET

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def echo(status: int) -> Callable[[Handler], None]:
    """Every credential that came is sent back in every form, with this status."""

    def answer(handler: Handler) -> None:
        got = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        forms = [got, quote(got), quote(got, safe=""), json.dumps(got)]
        body = json.dumps({"error": {"message": f"who is {' '.join(forms)}", "code": got}})
        headers = {"Content-Type": "application/json", "Server": got, "Retry-After": "7"}
        location = {"Location": f"http://127.0.0.1:9/{quote(got, safe='')}"} if status < 400 else {}
        handler.reply(status, body.encode(), headers | location)

    return answer


def html(handler: Handler) -> None:
    got = handler.headers.get("Authorization", "")
    handler.reply(200, f"<html>{got}</html>".encode(), {"Content-Type": "text/html"})


def nothing(handler: Handler) -> None:
    handler.close_connection = True


def hang(handler: Handler) -> None:
    handler.server.closing.wait(60)
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff garbage \r\n\r\n" * 20)
    handler.close_connection = True


def strange_json(handler: Handler) -> None:
    """Lone surrogates, NaN and infinity in everything that is JSON."""
    text = (
        '{"data": [{"id": "\\ud800"}], "error": {"message": "\\ud83d \\u0000"}, "x": [NaN, 1e999]}'
    )
    handler.reply(200, text.encode(), {"Content-Type": "application/json"})


ANSWERS: dict[str, Callable[[Handler], None]] = {
    **{str(status): echo(status) for status in (302, 401, 403, 404, 429, 500, 503)},
    "html": html,
    "nothing": nothing,
    "garbage": garbage,
    "strange json": strange_json,
}


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Handler], None]], Server]]:
    """Start a server that answers everything like this."""
    started: list[Server] = []

    def start(answer: Callable[[Handler], None]) -> Server:
        server = Server(answer)
        started.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    yield start
    for server in started:
        server.closing.set()
        server.shutdown()
        server.server_close()


def is_sound(ended: Finished, output: str) -> None:
    """What holds however a run ended: no traceback, no credential, one JSON document."""
    assert "Traceback" not in ended.everything
    assert "unexpected" not in ended.err
    assert "5ecret" not in ended.everything
    if output == "json":
        document = json.loads(ended.out, parse_constant=pytest.fail)
        levels = document.get("levels", [document])
        assert ended.code in [each["exit_code"] for each in levels]
    for path in ended.results.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
        assert path.with_suffix(".log").exists()
    assert not [path for path in ended.results.iterdir() if path.suffix not in (".json", ".log")]


def has_no_access(ended: Finished) -> bool:
    """Whether the results say that the other scripts need not be tried."""
    return any(json.loads(path.read_text())["no_access"] for path in ended.results.glob("*.json"))


@every_script
@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_the_server_answers_it_is_no_pass_and_no_credential_shows(
    script: str, answer: str, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    server = serve(ANSWERS[answer])
    arguments = ["--url", server.url, "--token", SECRET, "--timeout", "5", "--debug", "-v"]
    ended = run_script(script, *arguments, "--output", "json", *brief(script))
    assert ended.code in (1, 3)
    is_sound(ended, "json")
    asked = [headers.get("authorization", "") for _, headers in server.asked]
    assert f"Bearer {SECRET}" in asked


@every_script
def test_a_refused_credential_is_exit_3_and_says_what_to_do(
    script: str, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    ended = run_script(script, "--url", serve(echo(401)).url, "--token", SECRET, *brief(script))
    said = [line for line in ended.err.splitlines() if line.startswith(f"{script}: ")]
    assert (ended.code, len(said)) == (3, 1)
    assert "401" in said[0] and "--" in said[0]
    is_sound(ended, "text")
    assert has_no_access(ended)


@every_script
def test_openai_variables_are_sent_nowhere(
    script: str, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    server, theirs = serve(echo(404)), serve(echo(404))
    env = {"OPENAI_API_KEY": "sk-openai-5ecret", "OPENAI_BASE_URL": f"{theirs.url}/v1"}
    ended = run_script(script, "--url", server.url, "--timeout", "5", *brief(script), env=env)
    assert ended.code in (1, 3)
    assert not theirs.asked
    assert not [headers for _, headers in server.asked if "5ecret" in str(headers)]


@every_script
def test_netrc_is_not_consulted(
    script: str, tmp_path: Path, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password 5ecret\n")
    (tmp_path / ".netrc").chmod(0o600)
    server = serve(echo(404))
    run_script(script, "--url", server.url, "--timeout", "5", *brief(script))
    assert not [headers for _, headers in server.asked if "basic" in str(headers).lower()]


@every_script
def test_a_redirect_is_not_followed_to_another_origin(
    script: str, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    other = serve(echo(200))
    headers = {"Location": f"{other.url}/elsewhere"}
    server = serve(lambda handler: handler.reply(307, b"", headers))
    arguments = ["--url", server.url, "--token", SECRET, "--timeout", "5"]
    ended = run_script(script, *arguments, *brief(script))
    assert (ended.code in (1, 3), other.asked) == (True, [])
    is_sound(ended, "text")


# --- what a server says is data

FOREIGN = "a\x1b[31mb\x9b31mc\u202ed\u2066e\0f\ng\rh\u2028i\u200bj\ufeffk\U000e0041l\x7f"
LONG = FOREIGN + "x" * 100_000
# Every field that a script reads, filled with FOREIGN; a new one is one more row.
FIELDS: dict[str, object] = {
    "id": LONG,
    "object": LONG,
    "model": LONG,
    "system_fingerprint": LONG,
    "usage": {LONG: LONG, "prompt_tokens": LONG, "completion_tokens": 10**400},
    "timings": {LONG: LONG, "predicted_n": LONG},
    "error": {"message": LONG, "type": LONG, "code": LONG, "param": LONG},
    "detail": LONG,
    "message": LONG,
    "status": LONG,
    "data": [{"id": LONG, "object": LONG, "owned_by": LONG, "embedding": LONG}] * 3,
    "models": [{"id": LONG, "name": LONG, "model": LONG}, LONG],
    "runners": [{"id": LONG, "name": LONG, "models": [LONG], "status": LONG, "mac": LONG}],
    "requests": [{"id": LONG, "model": LONG, "runner": LONG, "status": LONG, "wol_sent": LONG}],
    "entries": [{"id": LONG, "model": LONG, "runner_id": LONG}],
    "keys": [{"kid": LONG, "kty": LONG, "alg": LONG}],
    "queue": {LONG: LONG, "active": LONG},
    "active": LONG,
    "choices": [
        {
            "index": LONG,
            "finish_reason": LONG,
            "text": LONG,
            "message": {
                "role": LONG,
                "content": LONG,
                "reasoning_content": LONG,
                "tool_calls": [{"id": LONG, "type": LONG, "function": {"name": LONG}}],
            },
            "delta": {"role": LONG, "content": LONG},
        }
    ],
}
HEADERS = (
    "Server Retry-After Content-Type Content-Encoding Location WWW-Authenticate Via Date Allow"
    " X-Request-Id X-Runner-Id X-Served-By X-Model X-Idle-Timeout X-Queue-Depth"
    " Access-Control-Allow-Origin Access-Control-Allow-Methods Access-Control-Allow-Headers"
    " Access-Control-Max-Age Access-Control-Allow-Credentials X-RateLimit-Remaining"
).split()
IN_A_LINE = "text/event-stream\x1b[31ma\x9b31mb\x7fc\x01d\x85e" + "x" * 2000


def in_body(status: int) -> Callable[[Handler], None]:
    body = json.dumps(FIELDS).encode()
    return lambda handler: handler.reply(status, body, {"Content-Type": "application/json"})


def in_stream(handler: Handler) -> None:
    events = b"".join(
        b"data: " + json.dumps({name: value}).encode() + b"\n\n" for name, value in FIELDS.items()
    )
    whole = b"data: " + json.dumps(FIELDS).encode() + b"\n\nevent: \x1b[31m\xc2\x9b\ndata: x\n\n"
    handler.reply(200, events + whole, {"Content-Type": "text/event-stream"})


def in_head(status: int) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        lines = [f"HTTP/1.1 {status} {IN_A_LINE}", *(f"{name}: {IN_A_LINE}" for name in HEADERS)]
        head = "\r\n".join([*lines, "Content-Length: 2", "", "{}"])
        handler.wfile.write(head.encode("latin-1"))
        handler.close_connection = True

    return answer


SPOKEN: dict[str, Callable[[Handler], None]] = {
    "body 200": in_body(200),
    "body 400": in_body(400),
    "body 503": in_body(503),
    "stream": in_stream,
    "head 200": in_head(200),
    "head 307": in_head(307),
    "head 429": in_head(429),
    "head 503": in_head(503),
}


@every_script
@pytest.mark.parametrize("answer", SPOKEN)
def test_nothing_that_a_server_says_reaches_the_terminal_or_a_file_as_it_is(
    script: str, answer: str, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    server = serve(SPOKEN[answer])
    arguments = ["--url", server.url, "--token", SECRET, "--timeout", "3", "--debug", "-v"]
    ended = run_script(script, *arguments, *brief(script))
    assert ended.code in (1, 3)
    is_sound(ended, "text")
    assert [each for each in ended.everything if not each.isprintable() and each != "\n"] == []
    assert len(ended.everything) < 1_000_000
    for path in ended.results.glob("*.json"):
        assert all(text.isprintable() for text in texts_in(json.loads(path.read_text())))


# --- what cannot be written


@every_script
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_standard_output_that_is_full_is_named_and_the_results_are_saved(
    script: str, serve: Callable[[Callable[[Handler], None]], Server]
) -> None:
    server = serve(echo(404))
    words = [sys.executable, str(ROOT / script), "--url", server.url, "--token", SECRET]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*words, "--timeout", "5", "--output", "json", *brief(script)],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=90,
            check=False,
        )
    assert ended.returncode in (1, 3)
    assert ended.stderr.count("cannot write to standard output: No space left on device") == 1
    is_sound(Finished(ended.returncode, "", ended.stderr, Path("results").absolute()), "text")


# --- interruption


@pytest.mark.parametrize("script", [*SCRIPTS, "report.py", "run_all.py"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_very_beginning_is_one_line(
    script: str, number: int, closed_port: str, tmp_path: Path
) -> None:
    options = [] if script == "report.py" else ["--url", closed_port, *brief(script)]
    outcome = interrupt([script, *options], 0.0, [number], tmp_path)
    assert outcome.problems() == []
    assert (outcome.code, outcome.was_early) == (128 + number, True)


@every_script
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_saved_and_marked(
    script: str,
    number: int,
    code: int,
    serve: Callable[[Callable[[Handler], None]], Server],
) -> None:
    server = serve(hang)
    arguments = ["--url", server.url, "--token", SECRET, "--timeout", "60", "--output", "json"]
    with start_script(script, *arguments, *brief(script)) as process:
        assert server.arrived.wait(30)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    ended = Finished(process.returncode, out, err, Path("results").absolute())
    assert ended.code == code
    is_sound(ended, "json")
    saved = [json.loads(path.read_text()) for path in ended.results.glob("*.json")]
    assert {each["exit_code"] for each in saved if each["interrupted"]} == {code}
