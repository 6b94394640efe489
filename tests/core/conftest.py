"""A script of the tests, run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.probe import (
    URL,
    Body,
    Probe,
)
from helpers.scripts import Finished

import common
from common import GATEWAY


@pytest.fixture
def probe(capsys: pytest.CaptureFixture[str]) -> Probe:
    """Run the smallest script there can be, in this process: `probe(body, *arguments)`."""

    def go(body: Body, *arguments: str, deployment: common.Deployment = GATEWAY) -> Finished:
        parser = common.new_parser("probe.py", "Does it?", deployment, ("a", "b", "slo"))
        url = ["--url", URL] if "--url" not in arguments and deployment is GATEWAY else []
        capsys.readouterr()
        try:
            with common.run(parser.parse_args([*url, *arguments])) as run:
                body(run)
            code = int(run.exit_code)
        except SystemExit as end:
            code = int(end.code or 0)
        return Finished(code, *capsys.readouterr(), Path("results").absolute())

    return go
