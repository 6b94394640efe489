"""`uv run SCRIPT` works in a fresh copy of the commands, with nothing set up.

It fetches packages from the index, which are kept in .venv/uv.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from helpers.scripts import ROOT

from reference import Deployment, running

UV = Path(sys.executable).with_name("uv")
# uv reads none of pip's settings: the same index and the same authorities are used here
OF_PIP = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
LEFT_OUT = ("VIRTUAL_ENV", "PYTHONPATH")

pytestmark = pytest.mark.skipif(not UV.exists(), reason="no uv: make setup")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with running(engine="sim", ttft_ms=4, itl_ms=1, rate_limit=0) as found:
        yield found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The commands and what they share, as a clone has them."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for path in (*ROOT.glob("*.py"), ROOT / "pyproject.toml"):
        shutil.copy(path, folder)
    shutil.copytree(ROOT / "livecheck", folder / "livecheck")
    return folder


@lru_cache(None)
def of_pip() -> dict[str, str]:
    """pip's settings, from its files and its environment, as uv calls them."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = re.findall(r"(?m)^[\w:]+\.([\w-]+)='(.*)'$", listed)
    return {OF_PIP[name]: value for name, value in settings if name in OF_PIP}


def uv_run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in LEFT_OUT}
    environment |= of_pip()
    environment |= {"UV_CACHE_DIR": str(ROOT / ".venv" / "uv"), "UV_PYTHON": sys.executable}
    command = [str(UV), "run", *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("benchmark.py", "--requests 2 --max-tokens 4"),
        ("test_openai_sdk.py", "--only models completion"),
    ],
)
def test_a_command_runs_where_nothing_is_set_up(
    script: str, arguments: str, deployment: Deployment, copy: Path
) -> None:
    target = ("--url", deployment.url, "--api-key", deployment.api_key)
    ended = uv_run(copy, script, *target, *arguments.split())
    assert ended.returncode == 0, ended.stderr
    assert "PASS (exit 0)" in ended.stdout
    assert list((copy / "results").glob("*.json"))
