"""Every form of an address that leads to a sound deployment, and those that lead nowhere."""

from __future__ import annotations

import shlex
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers.fault_walk import ARGUMENTS, SETTINGS, SOUND_CASES, SoundCase, check_with
from helpers.front import Front, api_at
from helpers.instrument import server_context
from helpers.raw_server import Peer, RawServer, answer
from helpers.scripts import Finished, run_script

from reference import Deployment, running

BRIEF = {
    "test_openai_sdk.py": "--only completion stream models retrieve",
    "test_workload_routing.py": "--requests 4",
    "test_auth.py": "--only no_credentials malformed user admin",
    "test_model_routing.py": "",
    "test_wol.py": "--only state",
}
FORMS = {  # where the API is, and what is given as --url
    "endpoint pasted": ("/v1", "/v1/chat/completions"),
    "list pasted": ("/v1", "/v1/models/"),
    "another version": ("/api/paas/v4", "/api/paas/v4"),
    "another version and /v1": ("/api/paas/v4", "/api/paas/v4/v1"),
    "with /openai": ("/v1beta/openai", "/v1beta/openai"),
    "its endpoint pasted": ("/v1beta/openai", "/v1beta/openai/chat/completions"),
    "no version": ("/llm", "/llm"),
    "nothing at all": ("", "/"),
}
OFTEN = ("endpoint pasted", "another version", "nothing at all")
SLOW = ("test_scale_to_zero.py", "test_queue.py", "test_wol.py")
CASES = [
    (script, form)
    for script in SOUND_CASES
    for form in FORMS
    if script == "test_cors.py" or form in (OFTEN[1:2] if script in SLOW else OFTEN)
]


def case_of(script: str) -> SoundCase:
    case = SOUND_CASES[script]
    case = replace(case, arguments=BRIEF.get(script, case.arguments))
    return replace(case, settings={}) if script == "test_wol.py" else case


@pytest.fixture(scope="module")
def deployments() -> Iterator[Callable[[str], Deployment]]:
    """The sound deployment of a script, started once."""
    started: dict[str, Deployment] = {}
    with ExitStack() as stack:

        def of(script: str) -> Deployment:
            case = case_of(script)
            profile = SOUND_CASES[script].profile
            settings: dict[str, Any] = {**SETTINGS[profile], "profile": profile, **case.settings}
            key = repr(settings)
            if key not in started:
                started[key] = stack.enter_context(running(**settings))
            return started[key]

        yield of


def check_behind(front: Front, given: str, script: str, deployment: Deployment) -> Finished:
    """The script's last --url counts."""
    arguments = (*ARGUMENTS.get(script, ()), *shlex.split(case_of(script).arguments))
    url = ("--url", front.url + given)
    return check_with(script, deployment, Path("results").absolute(), *arguments, *url)


@pytest.mark.parametrize(("script", "form"), CASES, ids=lambda each: each.replace(" ", "-"))
def test_a_sound_deployment_is_not_accused_whatever_form_its_address_has(
    script: str, form: str, deployments: Callable[[str], Deployment]
) -> None:
    base, given = FORMS[form]
    deployment = deployments(script)
    with Front(deployment.url, api_at(base)) as front:
        finished = check_behind(front, given, script, deployment)
    assert finished.code == 0, finished.everything
    (path, *_) = finished.results.glob("*.json")
    assert finished.document(path.stem)["target"]["api_base"] == front.url + base


def test_the_usual_address_costs_no_request_more(
    deployments: Callable[[str], Deployment],
) -> None:
    deployment = deployments("test_cors.py")
    asked = []
    for given in ("", "/v1"):
        with Front(deployment.url, api_at("/v1")) as front:
            finished = check_behind(front, given, "test_cors.py", deployment)
        asked.append(front.asked)
        assert "as the base URL" not in finished.err
    assert asked[0][0] == "GET /v1/models" and "POST" not in "".join(asked[0][1:10])
    assert sorted(asked[0]) == sorted(asked[1])


def test_a_base_that_was_not_given_is_said_and_found_with_one_request_more(
    deployments: Callable[[str], Deployment],
) -> None:
    deployment = deployments("test_cors.py")
    with Front(deployment.url, api_at("/llm")) as front:
        finished = check_behind(front, "/llm", "test_cors.py", deployment)
    assert front.asked[:2] == ["GET /llm/v1/models", "GET /llm/models"]
    assert f"--url: taking {front.url}/llm as the base URL of the API" in finished.err


def test_a_deployment_without_a_list_of_models_is_found_by_an_empty_request(
    deployments: Callable[[str], Deployment],
) -> None:
    def place(path: str) -> str | None:
        return None if path.endswith("/models") else path

    deployment = deployments("test_cors.py")
    with Front(deployment.url, place) as front:
        finished = check_behind(front, "", "test_cors.py", deployment)
    assert finished.code == 0, finished.everything
    assert front.asked[:3] == ["GET /v1/models", "GET /models", "POST /v1/chat/completions"]


def test_the_inference_server_has_an_address_of_its_own(
    deployments: Callable[[str], Deployment],
) -> None:
    deployment = deployments("benchmark.py")
    engine = deployment.environment["ENGINE_URL"]
    with Front(engine, api_at("/api/v3")) as front:
        given = ("--direct-url", f"{front.url}/api/v3/chat/completions", "--requests", 6)
        arguments = (*given, "--max-tokens", 4, "--inference-only")
        finished = check_with("benchmark.py", deployment, Path("results").absolute(), *arguments)
        wrong = ("--direct-url", f"{front.url}/elsewhere", "--model", "m")
        lost = check_with("benchmark.py", deployment, Path("lost").absolute(), *wrong)
    assert finished.code == 0, finished.everything
    assert f"--direct-url: taking {front.url}/api/v3" in finished.err
    assert lost.code == 3 and f"{front.url}/elsewhere/v1 (404)" in lost.err
    assert "as in --direct-url" in lost.err


# --- wrong addresses are never a verdict


def undecided(script: str, url: str, *arguments: object) -> str:
    """The one line of a script that could not check; it has judged nothing."""
    options = {"test_cors.py": ("--origin", "https://app.example")}.get(script, ())
    finished = run_script(script, "--url", url, "--token", "sk-given-key", *options, *arguments)
    assert finished.code == 3, finished.everything
    assert "FAIL" not in finished.out
    (line,) = [each for each in finished.err.splitlines() if each.startswith(f"{script}: ")]
    return line


every_script = pytest.mark.parametrize("script", SOUND_CASES)


@every_script
@pytest.mark.parametrize("page", ["text/plain", "text/html"])
def test_an_address_without_an_api_is_exit_3_with_what_was_tried(script: str, page: str) -> None:
    # a web site, or nothing
    status, seen = ("200 OK", "a web page") if page == "text/html" else ("404 Not Found", "404")
    asked: list[bytes] = []

    def site(peer: Peer) -> None:
        while peer.request() is not None:
            asked.append(peer.heads[-1].partition(b" HTTP")[0])
            peer.send(answer(b"<html>hello</html>", f"Content-Type: {page}", status=status))

    with RawServer(site) as server:
        line = undecided(script, f"{server.url}/portal")
    assert f"{server.url}/portal/v1 ({seen}), {server.url}/portal ({seen})" in line
    own = (b"/ping", b"/health", b"/metrics")
    assert len([each for each in asked if not each.endswith(own)]) == 4


@every_script
@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests"])
def test_a_server_that_answers_alike_everywhere_is_asked_once(script: str, status: str) -> None:
    asked: list[bytes] = []

    def alike(peer: Peer) -> None:
        while peer.request() is not None:
            asked.append(peer.heads[-1].partition(b" HTTP")[0])
            peer.send(answer(b"no", status=status))

    with RawServer(alike) as server:
        line = undecided(script, f"{server.url}/portal")
    assert status[:3] in line and "tried" not in line
    assert len([each for each in asked if b"models" in each]) == 1


@every_script
@pytest.mark.parametrize(
    "reply",
    [
        answer(b"Client sent an HTTP request to an HTTPS server.\n", status="400 Bad Request"),
        answer(
            b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head>"
            b"<body><h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port</body>",
            "Content-Type: text/html",
            status="400 Bad Request",
        ),
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"",
    ],
    ids=["Go", "nginx", "alert", "closes"],
)
def test_http_to_a_tls_port_is_exit_3_and_names_the_https_url(
    script: str, reply: bytes, tls: ssl.SSLContext
) -> None:
    requests = []

    def port(peer: Peer) -> None:
        if peer.sock.recv(1, 2) == b"\x16":  # MSG_PEEK: TLS begins so
            peer.start_tls(tls)
        elif peer.request() is not None:
            requests.append(peer.heads[-1])
            peer.send(reply)

    with RawServer(port) as server:
        line = undecided(script, server.url)
    assert f"use {server.url.replace('http', 'https')}" in line
    assert len(requests) <= 4  # all of the first contact


@every_script
@pytest.mark.parametrize("closes", [True, False])
def test_https_to_a_plain_port_is_exit_3_and_says_so(script: str, closes: bool) -> None:
    def plain(peer: Peer) -> None:
        peer.sock.recv(1 << 16)
        if not closes:
            peer.send(answer(b"Bad request", status="400 Bad Request"))

    with RawServer(plain) as server:
        line = undecided(script, server.url.replace("http", "https"))
    assert "http:// URL" in line


@every_script
def test_a_redirect_of_everything_to_https_is_a_wrong_address(script: str) -> None:
    def moved(peer: Peer) -> None:
        while peer.request() is not None:
            path = peer.heads[-1].split(b" ")[1].decode()
            location = f"Location: https://127.0.0.1:8443{path}"
            peer.send(answer(b"", location, status="308 Permanent Redirect"))

    with RawServer(moved) as server:
        line = undecided(script, server.url)
    assert "is redirected (308) to https://127.0.0.1:8443/" in line
    assert line.endswith("give --url https://127.0.0.1:8443")


def test_a_health_url_with_the_wrong_scheme_is_not_the_deployments_fault(
    deployments: Callable[[str], Deployment],
) -> None:
    script = "test_scale_to_zero.py"
    refusal = answer(b"Client sent an HTTP request to an HTTPS server.", status="400 Bad Request")

    def go(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(refusal)

    with RawServer(go) as server:
        arguments = (*shlex.split(case_of(script).arguments), "--health-url", server.url)
        place = Path("results").absolute()
        finished = check_with(script, deployments(script), place, *arguments)
    health = finished.check("scale_to_zero", "health")
    assert (finished.code, health["status"]) == (3, "SKIP")
    assert f"--health-url: {server.url}/ping speaks TLS" in health["detail"]


# --- a certificate of a private authority


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert("127.0.0.1"))


@every_script
def test_a_private_authority_is_trusted_when_its_file_is_given(
    script: str, authority: trustme.CA, tls: ssl.SSLContext
) -> None:
    authority.cert_pem.write_to_path("ca.pem")

    def refuse(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(answer(b"{}", status="401 Unauthorized"))

    with RawServer(refuse, tls=tls) as server:
        strange = undecided(script, server.url)
        trusted = undecided(script, server.url, "--ca-file", "ca.pem")
    assert "certificate not accepted" in strange
    assert "--ca-file FILE or SSL_CERT_FILE" in strange and "--no-verify-ssl" in strange
    assert "the API key was refused (401" in trusted


def test_openssls_variables_are_honoured_and_those_of_requests_are_not(
    authority: trustme.CA, tls: ssl.SSLContext
) -> None:
    file, folder = Path("ca.pem").absolute(), Path("authorities").absolute()
    authority.cert_pem.write_to_path(str(file))
    folder.mkdir()
    hashed = ["openssl", "x509", "-hash", "-noout", "-in", str(file)]
    name = subprocess.run(hashed, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{name}.0").write_bytes(file.read_bytes())

    def refuse(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(answer(b"{}", status="401 Unauthorized"))

    told = {}
    with RawServer(refuse, tls=tls) as server:
        for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
            value = folder if variable.endswith("DIR") else file
            env = {variable: str(value)}
            arguments = ("--url", server.url, "--gateway-only")
            told[variable] = run_script("benchmark.py", *arguments, env=env).err
    accepted = {name for name, text in told.items() if "certificate not accepted" not in text}
    assert accepted == {"SSL_CERT_FILE", "SSL_CERT_DIR"}


@every_script
@pytest.mark.parametrize("file", ["no-such-file", "empty.pem", "."])
def test_a_file_without_certificates_is_exit_2_and_one_line(script: str, file: str) -> None:
    Path("empty.pem").write_text("nothing\n")
    finished = run_script(script, "--url", "https://127.0.0.1:9", "--ca-file", file)
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert "--ca-file" in finished.err
