"""Which URL, credential and other settings a run has: options, environment, `.env`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.probe import (
    PASS,
    URL,
    Probe,
    found_url,
    judged,
    read,
)
from helpers.scripts import run_script

import common
from common import FLEET, GATEWAY
from livecheck.core.address import read_address
from livecheck.core.settings import is_loopback, read_settings

# --- the URL


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://host", "http://host"),
        ("https://host:8000/", "https://host:8000"),
        ("http://host/v1", "http://host"),
        ("http://host/v1/", "http://host"),
        ("http://host//v1//", "http://host"),
        ("http://host/api/v1", "http://host/api"),
        ("http://host/rev1", "http://host/rev1"),
        ("HTTPS://Host", "https://Host"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("http://[::1]", "http://[::1]"),
        ("http://127.0.0.1:65535", "http://127.0.0.1:65535"),
    ],
)
def test_a_url_is_brought_to_its_base(text: str, base: str) -> None:
    assert read_address(text).root == base


BAD_URLS = [
    "",
    "host",
    "host:8000",
    "ftp://host",
    "//host",
    "http:/host",
    "http://",
    "http://:8000",
    "http://host:0",
    "http://host:65536",
    "http://host:-1",
    "http://host:x",
    "http://host ",
    "http://ho st",
    "http://host\n",
    "http://host\x00",
    "http://host\u00a0",
    "http://[::1",
    "http://[x]",
    "http://a..b",
    f"http://{'a' * 64}.com",
    "http://host?x=1",
    "http://host/#x",
]


@pytest.mark.parametrize("text", BAD_URLS)
def test_a_malformed_url_is_exit_2_and_one_line(probe: Probe, text: str) -> None:
    ended = probe(judged(PASS), "--url", text)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert not ended.results.exists()


@pytest.mark.parametrize(
    "text",
    [
        "http://user:5ecret@host",
        "http://5ecret@host",
        "user:5ecret@host:80",
        "http://user:5ecret/x@host",
        "http://[5ecret@host",
        "http://host?key=5ecret",
        "http://host/#5ecret",
    ],
)
def test_a_credential_inside_the_url_is_refused_and_not_shown(probe: Probe, text: str) -> None:
    ended = probe(judged(PASS), "--url", text)
    assert ended.code == 2
    assert "5ecret" not in ended.everything


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:1", True),
        ("http://localhost:1", True),
        ("http://LOCALHOST", True),
        ("http://a.localhost", True),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost.example.org", False),
        ("http://10.0.0.1", False),
        ("http://[::2]", False),
    ],
)
def test_loopback_is_told_from_other_hosts(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


# --- where settings come from


def test_the_option_wins_over_the_environment_over_dotenv(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("SIMPLEAI_URL=http://dotenv\n")
    assert found_url(probe, deployment=FLEET) == "http://dotenv"
    monkeypatch.setenv("SIMPLEAI_URL", "http://environment")
    assert found_url(probe, deployment=FLEET) == "http://environment"
    assert found_url(probe, "--url", "http://option", deployment=FLEET) == "http://option"


def test_the_fleet_has_the_default_url_of_its_guide(probe: Probe) -> None:
    assert found_url(probe, deployment=FLEET) == "https://ai.lelloman.com"


def test_the_gateway_has_no_default_url(capsys: pytest.CaptureFixture[str]) -> None:
    args = common.new_parser("probe.py", "", GATEWAY, ()).parse_args([])
    with pytest.raises(SystemExit, match="2"), common.run(args):
        pass
    assert "INFERENCE_URL" in capsys.readouterr().err


def test_the_fleet_does_not_read_the_gateways_settings(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERENCE_URL", "http://gateway")
    monkeypatch.setenv("INFERENCE_API_KEY", "sk-gateway")
    assert found_url(probe, deployment=FLEET) == "https://ai.lelloman.com"
    ended = probe(lambda run: run.token(), deployment=FLEET)
    assert ended.code == 3
    assert "No JWT token available" in ended.err


def test_the_gateway_does_not_read_the_fleets_settings(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLEAI_TEST_TOKEN", "jwt-fleet")
    monkeypatch.setenv("TOKEN_BINARY", "echo jwt-fleet")
    seen, body = read(lambda run: run.token())
    assert (probe(body).code, seen) == (0, [None])
    monkeypatch.setenv("SIMPLEAI_URL", "http://fleet")
    run = run_script("benchmark.py")
    assert run.code == 2
    assert "INFERENCE_URL" in run.err


@pytest.mark.parametrize("deployment", [GATEWAY, FLEET])
def test_openai_variables_are_never_used(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, deployment: common.Deployment
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://openai")
    seen, body = read(lambda run: (run.url, run.credentials.given))
    probe(body, deployment=deployment)
    assert seen == [(deployment.default_url or URL, False)]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=plain", "plain"),
        ("NAME=a$b${c}d$(e)", "a$b${c}d$(e)"),
        ("NAME='single $x'", "single $x"),
        ('NAME="double"', "double"),
        ("export NAME=exported", "exported"),
        ("NAME= spaces ", "spaces"),
        ("NAME=", None),
        ("NAME=''", None),
        ("NAME", None),
        ("# NAME=comment", None),
    ],
)
def test_dotenv_values_are_taken_as_they_stand(line: str, value: str | None) -> None:
    Path(".env").write_text(line + "\n")
    assert read_settings({})("NAME") == value


def test_an_empty_variable_is_not_set() -> None:
    Path(".env").write_text("NAME=dotenv\n")
    assert read_settings({"NAME": " "})("NAME") == "dotenv"


def test_dotenv_is_not_needed_without_an_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dotenv", None)
    assert read_settings({"NAME": "x"})("NAME") == "x"


def test_a_missing_dotenv_is_one_line_and_exit_3(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("INFERENCE_API_KEY=sk-1234\n")
    monkeypatch.setitem(sys.modules, "dotenv", None)
    ended = probe(judged(PASS))
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert "pip install" in ended.err


def test_a_dotenv_that_is_no_text_is_exit_2(probe: Probe) -> None:
    Path(".env").write_bytes(b"INFERENCE_API_KEY=\xff\xfe\n")
    ended = probe(judged(PASS))
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
