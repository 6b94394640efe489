"""Every script in front of a rate limit, in the forms that gateways and proxies give it.

A reached limit says nothing about the deployment: nothing fails, what was not decided is a SKIP,
the asking ends, and the exit code is 3.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.fault_walk import SETTINGS, SOUND_CASES, check_with, statuses
from helpers.limiter import REFUSALS, limited

from reference import Deployment, running

# Requests that are served before the limit is reached. test_scale_to_zero.py sends only seven.
SERVED = {"test_scale_to_zero.py": (0, 3, 5)}
# How many requests a script may have in flight, which are all refused, beside the one or two that
# it sends before it knows: a burst, readings of a queue, the first contact.
AT_ONCE = {"benchmark.py": 3, "test_context.py": 4}
AT_ONCE |= {"test_queue.py": 8, "test_workload_routing.py": 8}
CASES = [
    (script, form, served)
    for script in SOUND_CASES
    if script != "test_rate_limit.py"  # it judges the limit
    for form in REFUSALS
    for served in SERVED.get(script, (0, 3, 10))
    # every form once, and one of each kind in all places; a server of which nothing but refusals
    # was seen is broken, unless it says 429
    if (form in ("litellm", "nginx-503") or served == 3) and (form, served) != ("nginx-503", 0)
]


@pytest.fixture(scope="module")
def deployments() -> Iterator[dict[str, Deployment]]:
    """A sound deployment for each script, started when it is first needed."""
    with ExitStack() as stack:

        class Started(dict[str, Deployment]):
            def __missing__(self, script: str) -> Deployment:
                case = SOUND_CASES[script]
                options = {**SETTINGS[case.profile], **case.settings}
                self[script] = stack.enter_context(running(**options))
                return self[script]

        yield Started()


@pytest.mark.parametrize(("script", "form", "served"), CASES)
def test_a_limit_is_no_verdict_and_ends_the_asking(
    script: str, form: str, served: int, deployments: dict[str, Deployment], tmp_path: Path
) -> None:
    arguments = shlex.split(SOUND_CASES[script].arguments)
    with limited(deployments[script], served, form) as (behind, limiter):
        finished = check_with(script, behind, tmp_path / "results", *arguments)
    assert finished.code == 3, finished.out + finished.err
    assert "FAIL" not in statuses(finished), finished.out
    assert limiter.refused > 0
    if served == 0:
        assert "PASS" not in statuses(finished), finished.out
    if form != "nginx-503":  # requests in flight together may be refused for other reasons
        assert limiter.refused <= AT_ONCE.get(script, 0) + 2, limiter.paths
    status, headers, _ = REFUSALS[form]
    wait = "Retry-After 42" if "Retry-After" in headers else "without Retry-After"
    said = " ".join((finished.out + finished.err).split())
    assert f"{status}" in said and wait in said
