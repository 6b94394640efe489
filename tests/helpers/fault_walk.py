"""Runs the scripts against deployments with planted faults, and against sound ones.

`cases` are pairs of a script and what is planted for it; `walk` runs them, several at once.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.locust import run_alone
from helpers.scripts import ROOT, Finished, run_script
from livecheck.wire import silence
from reference import Deployment, running
from reference.faults import CLOSED, SOUND, ClosedDoor, Fault, SoundVariant
from reference.faults.client_side import LOCUSTFILE, REPORT

SIM = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
SETTINGS: dict[str, dict[str, object]] = {  # of each profile
    "gateway": {**SIM, "rate_limit": 0},
    "fleet": SIM,
}
# What a script is given with any fault.
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "benchmark.py": ("--requests", 3, "--max-tokens", 8, "--timeout", 3)
}
AT_ONCE = 6
CODES = {"FAIL": 1, "WARN": 0, "SKIP": 3}  # the exit code that belongs to a status
# What the report says of a criterion, as the status of a check.
OF_VERDICT = {"UNDECIDED": "SKIP", "REPORTED": "PASS"}


@dataclass(frozen=True)
class SoundCase:
    """A script's arguments, and the settings of the sound deployment that it is right for.

    The arguments may name what the deployment exports, in lower case: {health_url}.
    """

    arguments: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> str:
        return str(self.settings.get("profile", "gateway"))


SOUND_CASES = {
    "benchmark.py": SoundCase("--concurrency 1 4 --requests 8 --max-tokens 16"),
    "test_openai_sdk.py": SoundCase(),
    "test_tools.py": SoundCase("--repeat 1 --slo schema_accuracy=95%", {"skills": "tools"}),
    "test_scale_to_zero.py": SoundCase(
        "--health-url {health_url} --idle-timeout 2.5 --probe-interval 0.2 --max-tokens 4",
        {"idle_timeout": 1, "load_ms": 800},
    ),
    "test_queue.py": SoundCase(
        "", {"max_concurrent_requests": 1, "max_queue_size": 2, "output_tokens": 1600}
    ),
    "test_cors.py": SoundCase(
        "--origin https://app.example", {"cors_origins": "https://app.example"}
    ),
    "test_concurrency.py": SoundCase("", {"skills": "repeat"}),
    "test_context.py": SoundCase("", {"skills": "context", "slots": 4, "context_size": 4096}),
    "test_rate_limit.py": SoundCase("--limit 5 --window 1", {"rate_limit": 5, "rate_window": 1}),
    "test_auth.py": SoundCase("", {"profile": "fleet"}),
    "test_model_routing.py": SoundCase(
        "--test-permissions --skip full_access", {"profile": "fleet"}
    ),
    "test_wol.py": SoundCase(
        "--wait-asleep 60 --listen-wol {wol_port} --burst 4 --timing",
        {"profile": "fleet", "asleep": True, "idle_timeout": 2, "boot_ms": 1500},
    ),
    "test_workload_routing.py": SoundCase(
        "--requests 20 --expect-runners 2 --analyze-timing", {"profile": "fleet"}
    ),
}


@dataclass
class Outcome:
    """What a script found in a deployment."""

    finished: Finished
    spent_s: float
    strict: Finished | None = None  # for a WARN: a second run with --strict


def check_with(script: str, deployment: Deployment, results: Path, *arguments: object) -> Finished:
    """`arguments` may name what the deployment exports, in lower case: "{wol_port}"."""
    exported = deployment.exported
    given = [str(each).format(**exported) for each in arguments]
    credential = ("--api-key", exported.get("inference_api_key"))
    if "token_binary" in exported:
        # What `get-token` runs. `test_fleet` tests that script itself.
        credential = ("--token-binary", shlex.join([sys.executable, "-m", "reference.tokens"]))
    target = ("--url", deployment.url, *credential)
    # The token binary reads its key's file from these variables.
    paths = [str(ROOT), *filter(None, [deployment.environment.get("PYTHONPATH")])]
    environment = {**deployment.environment, "PYTHONPATH": os.pathsep.join(paths)}
    if script == LOCUSTFILE:
        return run_alone(results, *("--host", *target[1:]), *given, **environment)
    return run_script(script, *target, *given, env=environment, results=results)


def timed(run: Callable[[], Finished]) -> Outcome:
    started = time.monotonic()
    finished = run()
    return Outcome(finished, time.monotonic() - started)


# --- faults


def with_fault(fault: Fault, folder: Path, strictly: bool = True) -> Outcome:
    """What its script finds; `strictly`: for a WARN, also with --strict."""
    given = (*ARGUMENTS.get(fault.script, ()), *fault.arguments)
    with faulty(fault) as deployment:
        if fault.measured_by:
            return timed(lambda: report_on(fault, deployment, folder / "results"))
        outcome = timed(lambda: check_with(fault.script, deployment, folder / "results", *given))
    if fault.status != "WARN" or not strictly:
        return outcome
    # The first run has woken the deployment, used up the limit, or met what comes only once: the
    # second one needs another.
    with faulty(fault) as deployment:
        outcome.strict = check_strictly(fault, deployment, folder, given)
        return outcome


def report_on(fault: Fault, deployment: Deployment, results: Path) -> Finished:
    """What report.py says of what another script has measured."""
    script, *arguments = fault.measured_by
    check_with(script, deployment, results, *arguments)
    told = run_script(REPORT, results, "--output", "json", *fault.arguments)
    return Finished(told.code, told.out, told.err, results)


def faulty(fault: Fault) -> AbstractContextManager[Deployment]:
    options = {**SETTINGS[fault.profile], **fault.options}
    return running(faults=[fault.name], profile=fault.profile, **options)


def check_strictly(
    fault: Fault, deployment: Deployment, folder: Path, given: Sequence[object]
) -> Finished:
    return check_with(fault.script, deployment, folder / "strict", *given, "--strict")


# --- sound deployments


def with_variant(script: str, variant: SoundVariant | ClosedDoor, folder: Path) -> Outcome:
    """What the script finds in a sound deployment, or behind a closed door."""
    case = SOUND_CASES[script]
    options = {**SETTINGS[case.profile], **case.settings, **variant.options}
    with running(faults=[variant.name], **options) as deployment:
        given = (*shlex.split(case.arguments), *variant.arguments)
        return timed(lambda: check_with(script, deployment, folder, *given))


SOUND_RUNS = [(script, variant) for variant in SOUND for script in variant.scripts]
CLOSED_RUNS = [(script, door) for door in CLOSED for script in door.scripts]


# --- all together


def interleaved(faults: Sequence[Fault]) -> list[Fault]:
    """One fault of each script in turn: some scripts mostly wait, others mostly compute."""
    by_script = [list(group) for _, group in itertools.groupby(faults, lambda fault: fault.script)]
    return [each for group in itertools.zip_longest(*by_script) for each in group if each]


@contextmanager
def at_once(
    runs: Iterable[tuple[str, Callable[[], Outcome]]],
) -> Iterator[dict[str, Future[Outcome]]]:
    """The outcomes of these runs, by name. Several run at once, because most of them wait."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(run) for name, run in runs}
        pool.shutdown(cancel_futures=True)


def statuses(finished: Finished, check: str | None = None) -> set[str]:
    """The statuses of this check, or of all checks, in all saved documents."""
    return {each["status"] for each in checks_of(finished) if check in (None, each["name"])}


def checks_of(finished: Finished) -> list[dict[str, Any]]:
    names = [path.stem for path in finished.results.glob("*.json")]
    return [each for name in names for each in finished.document(name)["checks"]]


def criteria_of(finished: Finished) -> list[dict[str, Any]]:
    """The thresholds of a report, in the form of checks."""
    return [
        {
            "name": f"thresholds:{each['name']}",
            "status": OF_VERDICT.get(each["verdict"], each["verdict"]),
            "detail": each["detail"],
        }
        for each in json.loads(finished.out)["thresholds"]
    ]


def told_of(fault: Fault, outcome: Outcome) -> list[dict[str, Any]]:
    """What the check that must notice has said."""
    found = criteria_of if fault.measured_by else checks_of
    return [each for each in found(outcome.finished) if each["name"] == fault.check]


def statuses_of(fault: Fault, outcome: Outcome) -> set[str]:
    return {each["status"] for each in told_of(fault, outcome)}


def is_noticed(fault: Fault, outcome: Outcome) -> bool:
    """Whether the check that must notice says so, with the exit code that belongs to it."""
    is_told = any(fault.says in each["detail"] for each in told_of(fault, outcome))
    is_status = statuses_of(fault, outcome) == {fault.status}
    return outcome.finished.code == CODES[fault.status] and is_status and is_told


def is_told(script: str, door: ClosedDoor, outcome: Outcome) -> bool:
    """Whether the script judged nothing, ended with exit code 3, and said why in one line."""
    lines = [each for each in outcome.finished.err.splitlines() if each.startswith(f"{script}: ")]
    told = len(lines) == 1 and door.says in lines[0]
    return outcome.finished.code == 3 and told and "FAIL" not in statuses(outcome.finished)


def without_silence(finished: Finished) -> list[str]:
    """The records that do not say how long their answer was silent, by file and keys. Probes of a
    health URL (`ttfb_ms`) and what the SDK has read itself (`resent`) need not."""
    return [
        f"{path.stem}: {sorted(record)}"
        for path in finished.results.glob("*.json")
        for record in finished.document(path.stem)["requests"]
        if "status" in record and not {"ttfb_ms", "resent"} & set(record)
        if not set(silence.KEYS) <= set(record)
    ]


def is_accused(outcome: Outcome) -> bool:
    """Whether anything failed in a sound deployment, or could not be decided."""
    return outcome.finished.code != 0 or "FAIL" in statuses(outcome.finished)
