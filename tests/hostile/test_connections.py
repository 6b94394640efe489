"""Whom the scripts connect to: only whom the operator has named, whatever a package may want.

An audit hook sees every connection, every look-up of a name and every process that is begun.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.hostile_server import HostileServer
from helpers.sound_answers import Fleet, Gateway

from hostile.commands import COMMANDS, KEY, PUBLIC_KEY, as_jwt
from hostile.run import environment_of, serving, words_of

AUDIT = Path(__file__).with_name("audit.py")
RUNPOD_HOSTS = {"api.runpod.io", "api.runpod.ai"}
OF_PYTHON = {"uname"}  # platform.platform() runs it, to name the machine in the results


@dataclass
class Seen:
    """What a run has begun: hosts with ports, names that were looked up, and programs."""

    code: int
    addresses: set[tuple[str, int]]
    names: set[str]
    programs: list[str]


def audited(words: Sequence[str], folder: Path, **environment: str) -> Seen:
    log = folder / "log"
    done = subprocess.run(
        [sys.executable, AUDIT, log, *words],
        cwd=folder,
        env={**environment_of(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    seen = Seen(done.returncode, set(), set(), [])
    for event, target in entries:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            # a socket of this machine has no host; None: it is connected already
            if isinstance(target, list):
                seen.addresses.add((target[0], target[1]))
        elif event.startswith("socket."):
            seen.names.add(target)
        else:
            seen.programs.append(str(target[0] if isinstance(target, list) else target))
    seen.programs = [each for each in seen.programs if each not in OF_PYTHON]
    return seen


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def assert_only(seen: Seen, urls: Iterable[str], programs: Iterable[str] = ()) -> None:
    assert seen.addresses == {address_of(url) for url in urls}
    assert seen.names <= {"127.0.0.1"}
    assert set(seen.programs) <= set(programs)


@pytest.mark.parametrize("name", COMMANDS)
def test_only_the_target_is_connected_to(name: str, tmp_path: Path) -> None:
    command = COMMANDS[name]
    with serving(command, tmp_path, None) as server:
        seen = audited(words_of(command, server, tmp_path), tmp_path)
    assert seen.code == 0
    assert_only(seen, [server.url], [str(tmp_path / "get-token")])
    assert bool(seen.programs) == command.is_fleet


def test_the_health_url_is_connected_to_where_it_is_given(tmp_path: Path) -> None:
    command = COMMANDS["test_scale_to_zero"]
    with serving(command, tmp_path, None) as server, HostileServer(Gateway(KEY)) as other:
        words = [*words_of(command, server, tmp_path), "--health-url", f"{other.url}/ping"]
        seen = audited(words, tmp_path)
    assert_only(seen, [server.url, other.url])
    assert all("authorization" not in call.headers for call in other.calls)


def test_the_direct_url_is_connected_to_where_it_is_given(tmp_path: Path) -> None:
    command = COMMANDS["benchmark"]
    with serving(command, tmp_path, None) as server, HostileServer(Gateway(KEY)) as other:
        words = [*words_of(command, server, tmp_path), "--direct-url", other.url]
        seen = audited(words, tmp_path)
    assert_only(seen, [server.url, other.url])
    assert all("authorization" not in call.headers for call in other.calls)


def test_the_issuer_of_a_token_is_asked_where_the_deployment_has_no_keys(tmp_path: Path) -> None:
    """Only for its public keys, and without a credential."""
    command = COMMANDS["test_auth"]
    issuer = HostileServer(Fleet({}, keys=[PUBLIC_KEY]))
    token = as_jwt([], 21, issuer.url)
    with issuer, HostileServer(Fleet({token: frozenset()})) as server:
        words = words_of(command, server, tmp_path)
        at = words.index("--token-binary")
        seen = audited([*words[:at], "--token", token], tmp_path)
    assert_only(seen, [server.url, issuer.url])
    assert {call.method for call in issuer.calls} == {"GET"}
    assert all("authorization" not in call.headers for call in issuer.calls)
    assert all(token not in call.path for call in issuer.calls)


def test_runpod_is_asked_only_with_its_option(tmp_path: Path) -> None:
    command = COMMANDS["test_scale_to_zero"]
    with serving(command, tmp_path, None) as server:
        words = [*words_of(command, server, tmp_path), "--runpod-endpoint", "abc"]
        seen = audited(words, tmp_path, RUNPOD_API_KEY="rpa_" + "0" * 40)
    assert seen.names - {"127.0.0.1"} <= RUNPOD_HOSTS
    assert seen.names & RUNPOD_HOSTS


def test_a_report_connects_to_nobody(tmp_path: Path) -> None:
    command = COMMANDS["test_cors"]
    with serving(command, tmp_path, None) as server:
        audited(words_of(command, server, tmp_path), tmp_path)
    (tmp_path / "log").unlink()
    root = Path(words_of(command, server, tmp_path)[0]).parent
    files = ["--html", "page.html", "--junit", "junit.xml"]
    seen = audited([str(root / "report.py"), "results", *files], tmp_path)
    assert (tmp_path / "page.html").exists()
    assert_only(seen, [])
