"""Every script through a proxy, and in front of one that does not let it through."""

from __future__ import annotations

import shlex
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_walk import ARGUMENTS, SETTINGS, SOUND_CASES, check_with
from helpers.forward_proxy import ForwardProxy
from helpers.raw_server import Peer, answer
from helpers.scripts import Finished, run_script

from reference import Deployment, running
from reference.faults import dead_addresses

USER = "office-user:office-password"
every_script = pytest.mark.parametrize("script", SOUND_CASES)


@pytest.fixture(scope="module")
def deployments() -> Iterator[Callable[[str], Deployment]]:
    """The sound deployment of a script, started once."""
    started: dict[str, Deployment] = {}
    with ExitStack() as stack:

        def of(script: str) -> Deployment:
            profile = SOUND_CASES[script].profile
            own = dead_addresses.OPTIONS.get(script, {})
            settings: dict[str, Any] = {**SETTINGS[profile], "profile": profile, **own}
            if repr(settings) not in started:
                started[repr(settings)] = stack.enter_context(running(**settings))
            return started[repr(settings)]

        yield of


def behind_proxy(script: str, deployment: Deployment, *more: object) -> Finished:
    """The script, with a name for the deployment that only a proxy knows; the last --url counts."""
    arguments = (*ARGUMENTS.get(script, ()), *shlex.split(dead_addresses.ARGUMENTS[script]))
    port = urllib.parse.urlsplit(deployment.url).port
    url = ("--url", f"http://model.test:{port}")
    return check_with(script, deployment, Path("results").absolute(), *arguments, *url, *more)


@every_script
def test_a_sound_deployment_is_not_accused_through_a_proxy(
    script: str, deployments: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy(user=USER) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{USER}@127.0.0.1:{proxy.port}")
        finished = behind_proxy(script, deployments(script))
    assert finished.code == 0, finished.everything
    assert finished.err.count(f"is asked through the proxy 127.0.0.1:{proxy.port}") == 1
    assert "office-password" not in finished.everything
    (path, *_) = finished.results.glob("*.json")
    assert finished.document(path.stem)["target"]["proxy"] == f"127.0.0.1:{proxy.port}"
    assert len(proxy.asked) > 2 and all(" http://model.test:" in each for each in proxy.asked)


def test_the_network_cannot_be_taken_off_through_a_proxy(
    deployments: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy(via=False) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        finished = run_script(
            "benchmark.py",
            *("--url", behind_url(deployments("benchmark.py")), "--gateway-only"),
            *("--api-key", deployments("benchmark.py").api_key, "--requests", 5),
        )
    assert finished.code == 0, finished.everything
    assert f"not separable: the proxy 127.0.0.1:{proxy.port} is in between" in finished.out


def test_the_cost_of_a_proxy_is_not_taken_for_that_of_the_gateway(
    deployments: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = deployments("benchmark.py")
    with ForwardProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        direct = ("--direct-url", deployment.engine_url, "--requests", 6)
        finished = behind_proxy("benchmark.py", deployment, *direct)
    cost = finished.check("gateway_cost", "cost")
    assert (finished.code, cost["status"]) == (0, "WARN"), finished.everything
    seen = f"the gateway is asked through the proxy 127.0.0.1:{proxy.port}"
    assert f"the cost is not that of the gateway alone: {seen}" in cost["detail"]


def behind_url(deployment: Deployment) -> str:
    return f"http://model.test:{urllib.parse.urlsplit(deployment.url).port}"


def test_each_url_follows_the_rules_of_its_own_host(
    deployments: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "test_scale_to_zero.py"
    with ForwardProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        finished = behind_proxy(script, deployments(script))  # --health-url is on this machine
    assert finished.code == 0, finished.everything
    health_port = urllib.parse.urlsplit(deployments(script).health_url).port
    assert not any(f":{health_port}" in each for each in proxy.asked)


# --- what the proxy refuses is never a verdict about the deployment


def undecided(script: str, *arguments: object) -> str:
    """The one line of a script that could not check; it has judged nothing."""
    options = {"test_cors.py": ("--origin", "https://app.example")}.get(script, ())
    given = ("--url", "http://model.test:8000", "--token", "sk-given-key", *options, *arguments)
    finished = run_script(script, *given)
    assert finished.code == 3, finished.everything
    assert "FAIL" not in finished.out
    (line,) = [each for each in finished.err.splitlines() if each.startswith(f"{script}: ")]
    return line


PAGE = b"<html><title>blocked</title><p>blocked by the office</p></html>"
REFUSALS = {
    "login": answer(PAGE, "Proxy-Authenticate: Basic", status="407 Proxy Auth Required"),
    "squid": answer(PAGE, "X-Squid-Error: ERR_CONNECT_FAIL 111", status="503 Unavailable"),
    "blocked": answer(PAGE, "Connection: close", status="403 Forbidden"),
    "gateway": answer(PAGE, "Connection: close", "Via: 1.1 x", status="502 Bad Gateway"),
}


@every_script
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_a_proxy_refuses_is_exit_3_and_names_it(
    script: str, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy(instead=REFUSALS[refusal]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        line = undecided(script)
    assert f"127.0.0.1:{proxy.port}" in line and "blocked by the office" in line
    assert "http_proxy" in line


@every_script
def test_a_proxy_that_is_not_there_is_exit_3_and_named(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("http_proxy", f"http://{USER}@{name}")
        line = undecided(script)
    assert f"the proxy {name} cannot be reached (connection refused)" in line
    assert "no_proxy=model.test" in line and "office-password" not in line


@every_script
def test_a_proxy_that_is_silent_is_exit_3_and_named(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy(instead=Peer.wait_gone) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        line = undecided(script, "--timeout", "1")
    assert f"127.0.0.1:{proxy.port}" in line


@every_script
def test_a_socks_proxy_is_exit_3_and_one_line(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", f"socks5h://{USER}@127.0.0.1:1080")
    line = undecided(script)
    assert "all_proxy names a SOCKS proxy" in line and "office" not in line


def test_a_web_server_in_the_place_of_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with ForwardProxy(instead=answer(PAGE, "Connection: close", status="404 Not Found")) as other:
        monkeypatch.setenv("http_proxy", other.url)
        line = undecided("test_openai_sdk.py")
    assert f"(through the proxy 127.0.0.1:{other.port})" in line


class FailingProxy(ForwardProxy):
    """It passes on what is asked for with GET, and nothing else."""

    refusal = b""

    def _forward(self, peer: Peer, method: str, target: str, body: bytes) -> None:
        if method == "GET":
            super()._forward(peer, method, target, body)
        else:
            peer.send(self.refusal)


def test_a_proxy_that_loses_the_deployment_is_named(
    deployments: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FailingProxy() as proxy:
        proxy.refusal = REFUSALS["squid"]
        monkeypatch.setenv("http_proxy", proxy.url)
        finished = behind_proxy("test_openai_sdk.py", deployments("test_openai_sdk.py"))
    assert finished.code == 1
    detail = finished.check("openai_sdk_test", "completion")["detail"]
    said = "503 ERR_CONNECT_FAIL 111, blocked by the office"
    assert f"the proxy 127.0.0.1:{proxy.port} answered {said}" in detail


@pytest.mark.parametrize("script", ["test_openai_sdk.py", "benchmark.py", "test_cors.py"])
def test_a_proxy_that_bars_completions_is_exit_3(
    script: str, deployments: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FailingProxy() as proxy:
        proxy.refusal = answer(PAGE, "Server: squid/6.9", status="403 Forbidden")
        monkeypatch.setenv("http_proxy", proxy.url)
        finished = behind_proxy(script, deployments(script))
    assert finished.code == 3, finished.everything
    assert f"the proxy 127.0.0.1:{proxy.port} answered 403 blocked by the office" in finished.err
    assert "no_proxy=model.test" in finished.err and "FAIL" not in finished.out


def test_a_page_of_the_proxy_in_the_place_of_a_probe_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = answer(PAGE, "Content-Type: text/html", "Connection: close")
    with ForwardProxy(instead=page) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        finished = run_script(
            "benchmark.py", "--url", "http://model.test", "--gateway-only", "--requests", 2
        )
    detail = finished.check("gateway_overhead", "ping")["detail"]
    assert f"(through the proxy 127.0.0.1:{proxy.port})" in detail
