"""What several tests of the scripts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reference import Deployment, running


@pytest.fixture(scope="session")
def sim() -> Iterator[Deployment]:
    """A sound deployment that is as quick as can be."""
    with running(engine="sim", ttft_ms=4, itl_ms=1, rate_limit=0) as deployment:
        yield deployment
