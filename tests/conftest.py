"""A clean environment for every test; which tests have to run alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fast_starts import fast_starts, ready_python
from helpers.scripts import restore_signals

OURS = ("INFERENCE_", "SIMPLEAI_", "TOKEN_BINARY", "RUNPOD_", "CORS_ORIGIN", "OPENAI_")
FOREIGN = ("PROXY", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT", "NO_COLOR")

# The files whose tests start a script or a deployment very often, and need nothing of a new Python.
STARTED_OFTEN = {
    *("test_addresses", "test_contract", "test_cors_browser", "test_faults", "test_guide"),
    *("test_limits", "test_readme"),
    *("test_loading_and_thoughts", "test_sick_endpoints"),
    *("test_not_let_in", "test_proxies", "test_same_judgement", "test_what_came"),
    *("test_script_auth", "test_script_benchmark", "test_script_benchmark_hostile"),
    *("test_script_benchmark_load", "test_script_benchmark_output"),
    *("test_script_benchmark_rates", "test_script_cors", "test_script_model_routing"),
    *("test_script_queue", "test_script_scale_to_zero", "test_script_wol"),
    "test_script_workload_routing",
}
# these measure times that a busy machine would spoil: `make test` runs them apart from the others
ALONE = {
    "test_clients",
    "test_demo",
    "test_exact",
    "test_fidelity",
    "test_queueing",
    "test_script_benchmark",
    "test_script_benchmark_load",
    "test_script_benchmark_output",
    "test_script_queue",
    "test_self_check",
    "test_wire",
    "test_wire_answers",
    "test_wire_connections",
    "test_wire_interruptions",
    "test_wire_open_loop",
    "test_wire_times",
}
# These send gigabytes, or wait for many time-outs: `make hostile` runs them.
HOSTILE = {"test_damaged_results", "test_fleet_floods", "test_sick_endpoints", "test_surroundings"}
# These take longest: with several workers they begin first.
LONGEST = ("test_faults", "test_fleet", "test_cors_browser", "test_script_openai_sdk")

DEPLOYED = (
    "scripts",
    "reference",
    "docs",
    "peers",
    "hostile",
)  # folders whose tests start deployments


def pytest_configure() -> None:
    restore_signals()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")
        if item.path.stem in HOSTILE:
            item.add_marker("hostile")
        if item.path.parent.name == "peers":
            item.add_marker("peers")
        if item.path.parent.name in DEPLOYED or uses_reference(item):
            item.add_marker("deployment")
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def uses_reference(item: pytest.Item) -> bool:
    """Whether the test's module starts deployments."""
    return isinstance(item, pytest.Function) and hasattr(item.module, "running")


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Python that starts quickly; each worker of pytest-xdist has one."""
    with ready_python(tmp_path_factory.mktemp("python")) as python:
        yield python


@pytest.fixture(scope="module", autouse=True)
def starts(request: pytest.FixtureRequest) -> Iterator[None]:
    """How the module's tests start scripts and deployments."""
    if request.path.stem not in STARTED_OFTEN:
        yield
        return
    with fast_starts(request.getfixturevalue("python")):
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No tokens, proxies, netrc or .env of the developer's; an empty folder to be in."""
    for name in list(os.environ):
        if name.upper().startswith(OURS) or any(word in name.upper() for word in FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
