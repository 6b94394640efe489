"""The commands of the operators' guide for the fleet do what they promise, as printed there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.scripts import ROOT

from reference import Deployment, running

SUITE = (
    "python test_wol.py --token-binary ./get-token",
    "python test_model_routing.py --token-binary ./get-token --models class:fast class:big",
    "python test_workload_routing.py --token-binary ./get-token --requests 20",
    "python test_auth.py --token-binary ./get-token",
)
WITH_A_TOKEN = (
    "python test_model_routing.py --model class:fast --token YOUR_TOKEN",
    "python test_wol.py --debug --token YOUR_TOKEN",
    "python test_auth.py -v --token YOUR_TOKEN",
    "python test_wol.py --timing --token YOUR_TOKEN",
)
MODEL_ROUTING = (
    "python test_model_routing.py --model class:fast",
    "python test_model_routing.py --models class:fast class:big",
    "python test_model_routing.py --test-permissions",
)
WORKLOAD_ROUTING = (
    "python test_workload_routing.py --requests 10",
    "python test_workload_routing.py --model class:fast --requests 20",
    "python test_workload_routing.py --sequential --requests 15",
    "python test_workload_routing.py --analyze-timing",
)
FLEET = {"profile": "fleet", "engine": "sim", "ttft_ms": 20, "itl_ms": 2}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Deployment]:
    with running(**FLEET) as deployment:
        yield deployment


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A folder with the scripts and ./get-token in it, as the guide has them."""
    for script in ROOT.glob("test_*.py"):
        (tmp_path / script.name).symlink_to(script)
    (tmp_path / "get-token").symlink_to(ROOT / "reference" / "get-token")
    return tmp_path


def type_in(shell: Path, command: str, fleet: Deployment, **settings: str) -> tuple[int, str]:
    """The command with --url added: its exit code, and all that it printed."""
    words = shlex.split(command.replace("YOUR_TOKEN", fleet.token))
    assert words[0] == "python"
    keys = {name: fleet.environment[name] for name in ("FLEET_KEY_FILE",)}
    done = subprocess.run(
        [sys.executable, *words[1:], "--url", fleet.url],
        cwd=shell,
        env={**os.environ, **keys, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_the_complete_suite_passes_on_a_fleet_that_sleeps_at_first(shell: Path) -> None:
    with running(**FLEET, asleep=True) as fleet:
        for command in SUITE:
            code, printed = type_in(shell, command, fleet)
            if "workload" in command:  # one runner is awake: nothing to share with
                assert code in (0, 3), printed
            else:
                assert code == 0, printed


def test_the_complete_suite_passes_on_a_fleet_that_is_awake(shell: Path, fleet: Deployment) -> None:
    codes = [type_in(shell, command, fleet)[0] for command in SUITE]
    assert codes == [3, 0, 0, 0]  # nobody slept, so nobody was woken: not a pass


@pytest.mark.parametrize("command", WITH_A_TOKEN)
def test_a_token_on_the_command_line_is_enough(
    shell: Path, fleet: Deployment, command: str
) -> None:
    code, printed = type_in(shell, command, fleet)
    assert code == (3 if "test_wol" in command else 0), printed
    assert fleet.token not in printed
    assert all(part not in printed for part in fleet.token.split("."))


@pytest.mark.parametrize("command", MODEL_ROUTING)
def test_a_token_in_the_environment_is_enough(shell: Path, fleet: Deployment, command: str) -> None:
    code, printed = type_in(shell, command, fleet, SIMPLEAI_TEST_TOKEN=fleet.token)
    assert code == 0, printed


@pytest.mark.parametrize("command", WORKLOAD_ROUTING)
def test_the_binary_in_the_environment_tells_who_served(
    shell: Path, fleet: Deployment, command: str
) -> None:
    code, printed = type_in(shell, command, fleet, TOKEN_BINARY="./get-token")
    assert code == 0, printed
    assert "desk" in printed and "tower" in printed


def test_without_an_admin_token_nobody_can_tell_who_served(shell: Path, fleet: Deployment) -> None:
    code, printed = type_in(shell, WORKLOAD_ROUTING[0], fleet, SIMPLEAI_TEST_TOKEN=fleet.token)
    assert code == 3
    assert "--token-binary makes one" in printed


def test_a_specific_model_is_asked_for_with_the_role_it_takes(
    shell: Path, fleet: Deployment
) -> None:
    command = "python test_model_routing.py --model smollm2:135m --token-binary ./get-token"
    assert type_in(shell, command, fleet)[0] == 0
