"""The smallest script there can be, to test the run itself with."""

from __future__ import annotations

from collections.abc import Callable

import common
from common import Check, Run, Status
from helpers.scripts import Finished

URL = "http://127.0.0.1:9"
TOKEN = "sk-T0p/5ecret+key=and\"more'&"
PASS, FAIL, WARN, SKIP = (Check("a", each, "seen") for each in Status)

Body = Callable[[Run], object]
Probe = Callable[..., Finished]


def judged(*checks: Check) -> Body:
    """The body of a script that comes to these checks."""

    def body(run: Run) -> None:
        document = run.document("probe")
        document.add(*(Check(**vars(check)) for check in checks))

    return body


def raising(error: BaseException) -> Body:
    def body(run: Run) -> None:
        run.document("probe").add(Check(**vars(FAIL)))
        raise error

    return body


def read(what: Callable[[Run], object]) -> tuple[list[object], Body]:
    """Where to find, after the run, what `what(run)` was."""
    seen: list[object] = []
    return seen, lambda run: (seen.append(what(run)), judged(PASS)(run))


def found_url(probe: Probe, *arguments: str, deployment: common.Deployment) -> object:
    seen, body = read(lambda run: run.url)
    ended = probe(body, *arguments, deployment=deployment)
    return seen[0] if seen else ended.code
