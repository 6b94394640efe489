"""Warm Pythons for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostile.run import Pythons


@pytest.fixture(scope="session")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pythons]:
    with Pythons(tmp_path_factory.mktemp("pythons")) as found:
        yield found
