"""A clean environment for every test; which tests have to run alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.scripts import restore_signals

OURS = ("INFERENCE_", "SIMPLEAI_", "TOKEN_BINARY", "RUNPOD_", "CORS_ORIGIN", "OPENAI_")
FOREIGN = ("PROXY", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT", "NO_COLOR")

# these measure times that a busy machine would spoil: `make test` runs them one after the other
ALONE = {
    "test_exact",
    "test_queueing",
    "test_script_benchmark",
    "test_script_benchmark_load",
    "test_script_queue",
    "test_wire",
    "test_wire_answers",
    "test_wire_connections",
    "test_wire_interruptions",
    "test_wire_open_loop",
    "test_wire_times",
}


def pytest_configure() -> None:
    restore_signals()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")
        if item.path.parent.name in ("scripts", "reference", "docs") or uses_reference(item):
            item.add_marker("deployment")


def uses_reference(item: pytest.Item) -> bool:
    """Whether the test's module starts deployments."""
    return isinstance(item, pytest.Function) and hasattr(item.module, "running")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No tokens, proxies, netrc or .env of the developer's; an empty folder to be in."""
    for name in list(os.environ):
        if name.upper().startswith(OURS) or any(word in name.upper() for word in FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
