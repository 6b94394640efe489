"""test_cors.py's verdict is a browser's: headless Chromium tries what its checks are about.

One Chromium serves the whole file. A page of ours asks this test for work, tries the deployment
with `fetch` as itself and, in frames, as other sites, and says what it could read. All host names
lead to this machine (--host-resolver-rules), and the pages' port speaks TLS as well, so that a
page can have any origin.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers.http_server import QuietHandler, QuietServer
from helpers.scripts import Finished, run_script

from reference import Deployment, running
from reference.faults.cors import ROWS, CorsFault

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
NO_BROWSER = "NOT CHECKED AGAINST A BROWSER: no Chromium found, `make browser` installs it"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--ignore-certificate-errors "
    # As the Fetch standard has it, * does not stand for `authorization`. Chromium 156 knows that
    # rule, but leaves it off unless told otherwise.
    "--enable-features=CorsNonWildcardRequestHeadersSupport"
)
QUICK = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1, "rate_limit": 0}
START_S = 60.0
ANSWER_S = 45.0
OWN = ("answer", "stream", "errors")
ASKED_ONLY_BY_US = {"subdomain", "localhost"}  # the browser has no pages on them
PREFLIGHT = ("preflight", "preflight_origin", "methods", "headers", "credentials")
CHAT = "/v1/chat/completions"

PAGE = """<!doctype html><script>
const sdk = Object.fromEntries(
  'arch lang os package-version retry-count runtime runtime-version timeout'.split(' ')
  .map(name => ['x-stainless-' + name, '1']));

async function read(job, path, body, headers) {
  const init = {mode: 'cors', cache: 'no-store', headers: headers || {}};
  init.credentials = job.credentials ? 'include' : 'same-origin';
  if (body) {
    init.method = 'POST';
    init.body = JSON.stringify(body);
    init.headers = {'content-type': 'application/json', ...init.headers};
  }
  try {
    const answer = await fetch(job.url + path, init);
    await answer.text();
    return answer.status;
  } catch (error) {
    return null;
  }
}

function chat(job, stream) {
  const messages = [{role: 'user', content: 'Say yes.'}];
  return {model: job.model, messages, max_tokens: 2, stream};
}

async function asItself(job) {
  const key = {authorization: 'Bearer ' + job.key};
  return {
    answer: await read(job, job.chat, chat(job, false), key),
    stream: await read(job, job.chat, chat(job, true), key),
    models: await read(job, '/v1/models', null, key),
    e401: await read(job, job.chat, chat(job, false), {authorization: 'Bearer wrong'}),
    e404: await read(job, '/v1/not-there', null, key),
    e400: await read(job, job.chat, {messages: 'no list'}, key),
    sdk: await read(job, job.chat, chat(job, false), {...key, ...sdk}),
  };
}

async function asAnother(job) {
  const key = {authorization: 'Bearer ' + job.key};
  return {
    origin: self.origin,
    answer: await read(job, job.chat, chat(job, false), key),
    simple: await read(job, '/v1/models', null, {}),
  };
}

function inFrame(job, kind, base) {
  return new Promise(done => {
    const frame = document.createElement('iframe');
    addEventListener('message', function heard(event) {
      if (event.source !== frame.contentWindow) return;
      removeEventListener('message', heard);
      frame.remove();
      done(event.data);
    });
    const path = kind === 'null' ? '/sandboxed#' : '/frame#';
    frame.src = base + path + encodeURIComponent(JSON.stringify(job));
    document.documentElement.append(frame);
  });
}

async function work() {
  for (;;) {
    const job = await (await fetch('/job', {cache: 'no-store'})).json();
    if (!job) continue;
    const result = {own: await asItself(job), others: {}};
    for (const [kind, base] of job.pages) result.others[kind] = await inFrame(job, kind, base);
    await fetch('/result', {method: 'POST', body: JSON.stringify(result)});
  }
}

if (location.pathname === '/') work();
else asAnother(JSON.parse(decodeURIComponent(location.hash.slice(1))))
  .then(result => parent.postMessage(result, '*'));
</script>"""


# --- the pages


class Handler(QuietHandler):
    server: Pages

    def do_GET(self) -> None:
        if self.path == "/job":
            self.server.alive.set()
            try:
                job = self.server.jobs.get(timeout=5)
            except queue.Empty:
                job = None
            self.reply("application/json", json.dumps(job))
        elif self.path == "/sandboxed":
            self.reply("text/html", PAGE, {"Content-Security-Policy": "sandbox allow-scripts"})
        else:
            self.reply("text/html", PAGE)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.results.put(json.loads(body))
        self.reply("text/plain", "")

    def reply(self, kind: str, text: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        length = str(len(text.encode()))
        named = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": length}
        for name, value in {**named, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


class Pages(QuietServer):
    """The page under every host name, in the clear and with TLS; work for it, and its results."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(Handler)
        self.context = context
        self.jobs: queue.Queue[Any] = queue.Queue()
        self.results: queue.Queue[Any] = queue.Queue()
        self.alive = threading.Event()  # the page has asked for work

    def finish_request(self, request: Any, client_address: Any) -> None:
        if request.recv(1, socket.MSG_PEEK) != b"\x16":  # a TLS handshake begins so
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


class Browser:
    """A page of the allowed origin in a running Chromium, and the sites of the other pages."""

    def __init__(self, pages: Pages, elsewhere: Pages) -> None:
        self.pages = pages
        self.origin = f"http://app.example:{pages.port}"
        self.others = {
            "reflected": f"http://other-site.example:{pages.port}",
            "prefix": f"http://app.example.other-site.example:{pages.port}",
            "suffix": f"http://notapp.example:{pages.port}",
            "dot": f"http://appxexample:{pages.port}",
            "scheme": f"https://app.example:{pages.port}",
            "port": f"http://app.example:{elsewhere.port}",
            "null": self.origin,
        }

    def try_out(self, url: str, key: str, credentials: bool = False) -> dict[str, Any]:
        """What the page and the others could read there: a status, or None for nothing."""
        job = {
            "url": url,
            "key": key,
            "model": "sim",
            "chat": CHAT,
            "credentials": credentials,
            "pages": list(self.others.items()),
        }
        self.pages.jobs.put(job)
        result: dict[str, Any] = self.pages.results.get(timeout=ANSWER_S)
        return result


def find_chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(NO_BROWSER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("app.example").configure_cert(context)
    folder = tmp_path_factory.mktemp("chromium")
    with Pages(context) as pages, Pages(context) as elsewhere:
        for server in (pages, elsewhere):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        made = Browser(pages, elsewhere)
        command = [chromium, *FLAGS.split(), f"--user-data-dir={folder}"]
        command += ["--host-resolver-rules=MAP * 127.0.0.1", made.origin]
        with browsing(command, folder):
            if not pages.alive.wait(START_S):
                pytest.fail(f"{chromium} opens no page: {(folder / 'log').read_text()[-500:]}")
            yield made
        for server in (pages, elsewhere):
            server.shutdown()


@contextlib.contextmanager
def browsing(command: list[str], folder: Path) -> Iterator[None]:
    """The browser runs; its words go to a file, its settings to an empty folder."""
    environment = {**os.environ, "HOME": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# --- the two verdicts


def both(
    browser: Browser, deployment: Deployment, credentials: bool = False
) -> tuple[Finished, dict[str, Any]]:
    """The script's run and what the browser could read."""
    url, key = deployment.url, deployment.api_key
    target = ("--url", url, "--api-key", key, "--origin", browser.origin)
    return run_script("test_cors.py", *target), browser.try_out(url, key, credentials)


def ours(finished: Finished) -> dict[str, Any]:
    """What the page can read and who else is let in, as our checks have it."""
    checks = {each["name"]: each for each in finished.document("cors")["checks"]}
    failed = {name for name, each in checks.items() if each["status"] == "FAIL"}
    passes = not failed & set(PREFLIGHT)
    let_in = checks["others"]["evidence"].get("let_in", {})
    return {
        **{name: passes and name not in failed for name in OWN},
        "sdk": passes and "answer" not in failed and checks["sdk_headers"]["status"] == "PASS",
        "let_in": {name.partition("(")[2].rstrip(")") for name in let_in} - ASKED_ONLY_BY_US,
    }


def browsers(result: dict[str, Any]) -> dict[str, Any]:
    """The same as the browser has it."""
    own, others = result["own"], result["others"]
    return {
        "answer": (own["answer"], own["models"]) == (200, 200),
        "stream": own["stream"] == 200,
        "errors": (own["e401"], own["e404"], own["e400"]) == (401, 404, 400),
        "sdk": own["sdk"] == 200,
        "let_in": {kind for kind, got in others.items() if got["answer"] or got["simple"]},
    }


def test_a_browser_agrees_that_a_sound_deployment_is_sound(browser: Browser) -> None:
    with running(**QUICK, cors_origins=[browser.origin]) as deployment:
        finished, result = both(browser, deployment)
    assert finished.code == 0
    assert browsers(result) == ours(finished)
    assert all(browsers(result)[name] for name in OWN)


def test_the_other_pages_are_what_they_are_called(browser: Browser) -> None:
    with running(**QUICK, cors_origins=["*"]) as deployment:
        result = browser.try_out(deployment.url, deployment.api_key)
    origins = {kind: got["origin"] for kind, got in result["others"].items()}
    assert origins == {**browser.others, "null": "null"}
    assert browsers(result)["let_in"] == set(browser.others)


def test_a_browser_agrees_that_nothing_works_where_cors_is_off(browser: Browser) -> None:
    with running(**QUICK) as deployment:
        finished, result = both(browser, deployment)
    assert finished.code == 1
    assert browsers(result) == ours(finished)
    assert not any(browsers(result).values())


def test_a_browser_agrees_about_the_engine_itself(browser: Browser) -> None:
    """llama.cpp's own server: lets other pages read, and its * keeps the key out."""
    with running("llama") as deployment:
        url = deployment.engine_url
        finished = run_script("test_cors.py", "--url", url, "--origin", browser.origin)
        result = browser.try_out(url, "none")
    assert finished.code == 1
    assert browsers(result) == ours(finished)
    assert browsers(result)["let_in"] == set(browser.others)


@pytest.mark.parametrize("fault", [row for row in ROWS if row.browser], ids=lambda row: row.name)
def test_a_browser_agrees_about_the_fault(browser: Browser, fault: CorsFault) -> None:
    settings = {**QUICK, **fault.options, "cors_origins": browser.origin}
    with running(faults=[fault.name], **settings) as deployment:
        finished, result = both(browser, deployment, fault.credentials)
    assert finished.code == 1
    assert browsers(result) == ours(finished)
    sound = all(browsers(result)[name] for name in OWN) and not browsers(result)["let_in"]
    assert not sound
