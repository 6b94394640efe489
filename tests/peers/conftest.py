"""The servers, and a Python that starts the scripts quickly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from helpers.fast_starts import fast_starts
from helpers.peers import Peers


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """LiteLLM and llama.cpp start slowly: each is started by one worker of pytest-xdist only."""
    for item in items:
        if item.path.parent.name != "peers":
            continue
        slow = (name for name in ("litellm", "llama") if name in item.name)
        others = "locust" if item.path.stem == "test_locust" else "proxies"
        item.add_marker(pytest.mark.xdist_group(next(slow, others)))


@pytest.fixture(scope="session")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with contextlib.ExitStack() as stack:
        yield Peers(tmp_path_factory.mktemp("peers"), stack)


@pytest.fixture(scope="session", autouse=True)
def quick_scripts(python: str) -> Iterator[None]:
    """The scripts' imports are done once: they would take as long as the checks."""
    with fast_starts(python):
        yield
