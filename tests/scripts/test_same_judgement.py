"""Every command judges the same answer alike: whether it failed, and whether its form is right.

Each oddity is planted in a deployment, and each command asks for completions there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import fault_walk
from helpers.scripts import Finished

from reference import running

PASS, FAIL, WARN, SKIP = "PASS", "FAIL", "WARN", "SKIP"
ORIGIN = "https://app.example"


class Command(NamedTuple):
    """How a command is run, and its checks: of whether a request succeeded, and of its form."""

    arguments: str
    requests: str
    forms: tuple[str, ...] = ("form",)


COMMANDS = {
    "benchmark.py": Command(
        "--inference-only --requests 2 --max-tokens 16 --only requests stream",
        "requests",
        ("stream",),
    ),
    "test_openai_sdk.py": Command("--only stream wire answers", "answers", ("stream", "wire")),
    "test_queue.py": Command("--max-tokens 16 --only single form", "single"),
    "test_scale_to_zero.py": Command("--health-url /ping --only warm form", "warm"),
    "test_cors.py": Command(f"--origin {ORIGIN} --only form", ""),
    "test_model_routing.py": Command("--model sim --only model form", "model"),
    "test_workload_routing.py": Command(
        "--model sim --requests 4 --only requests form", "requests"
    ),
    "test_wol.py": Command("--model sim --allow-awake --only request form", "request"),
}
SETTINGS = {
    **fault_walk.SETTINGS["gateway"],
    **{"max_concurrent_requests": 1, "max_queue_size": 20, "cors_origins": ORIGIN},
}
# The name of a fault: does a request succeed, and is the form of its answer right?
ODDITIES = {
    "plain": (PASS, PASS),
    # given up, or nothing shows that it is whole
    "given-up": (FAIL, SKIP),
    "reason-empty": (FAIL, SKIP),
    "reason-first": (FAIL, SKIP),
    "stream-error-event": (FAIL, SKIP),
    # a breach of the protocol that leaves the text readable
    "created-missing": (PASS, FAIL),
    "no-done": (PASS, FAIL),
    "ids-change": (PASS, FAIL),
    "wrong-content-type": (PASS, FAIL),
    "reason-everywhere": (PASS, FAIL),
    "reason-changes": (PASS, FAIL),
    "cumulative": (PASS, FAIL),
    "content-parts": (PASS, FAIL),
    # odd, and no client fails
    "dialect": (PASS, WARN),
    "reason-twice": (PASS, WARN),
    "stream-pings": (PASS, WARN),
    "lost-characters": (PASS, WARN),
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_all_commands_say_the_same(oddity: str, tmp_path: Path) -> None:
    with running(faults=[oddity], **SETTINGS) as deployment:

        def run(script: str) -> Finished:
            arguments = COMMANDS[script].arguments.split()
            return fault_walk.check_with(script, deployment, tmp_path / script, *arguments)

        finished = {script: run(script) for script in COMMANDS}  # in turn: they count requests
    found = {script: said(COMMANDS[script], each) for script, each in finished.items()}
    expected = {script: expected_of(command, oddity) for script, command in COMMANDS.items()}
    assert found == expected, "\n".join(each.out for each in finished.values())


def expected_of(command: Command, oddity: str) -> tuple[str | None, str]:
    requests, form = ODDITIES[oddity]
    if command.requests:
        return requests, form
    return None, FAIL if requests == FAIL else form  # it has one check for both


def said(command: Command, finished: Finished) -> tuple[str | None, str]:
    """The status of the requests, and the worst one of the checks of the form: SKIP when the
    requests failed, so that no form was looked at."""
    status = partial(fault_walk.statuses, finished)
    requests = None
    if command.requests:  # WARN is about more than success: a lost character, in `answers`
        requests = FAIL if FAIL in status(command.requests) else PASS
    forms = set().union(*map(status, command.forms))
    worst = next((each for each in (FAIL, WARN, PASS) if each in forms), SKIP)
    return requests, SKIP if requests == FAIL else worst
