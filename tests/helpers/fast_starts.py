"""Scripts and deployments start in a tenth of the time, in the tests that need no Python of their
own; see `helpers.warm_python`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.scripts import ROOT
from helpers.warm_python import warm_python

# What the scripts and the deployments import, so that it is imported once.
MODULES = (
    *("benchmark", *sorted(path.stem for path in ROOT.glob("test_*.py"))),
    *("openai", "openai.resources.chat", "openai.resources.embeddings", "requests"),
    *("reference.faults", "reference.fleet", "reference.gateway", "reference.sim"),
    *("reference.health_server", "reference.tokens"),
)


@contextmanager
def fast_starts(python: str) -> Iterator[None]:
    """What is started with `sys.executable` is started with this Python."""
    usual = sys.executable
    sys.executable = python
    try:
        yield
    finally:
        sys.executable = usual


@contextmanager
def ready_python(folder: Path) -> Iterator[str]:
    """A Python that has imported all of this, for as long as the block runs."""
    with warm_python(folder, MODULES) as python:
        yield python
