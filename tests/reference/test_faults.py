"""Every fault that can be planted in a deployment is noticed by the check that has to notice it."""

from __future__ import annotations

import importlib
import itertools
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.scripts import Finished, run_script
from helpers.warm_python import ROOT, warm_python

from reference import Deployment, running
from reference.faults import FAULTS, Fault

SIM = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
SETTINGS: dict[str, dict[str, object]] = {  # of each profile
    "gateway": {**SIM, "rate_limit": 0},
    "fleet": SIM,
}
BENCHMARK = "benchmark.py"
FEW_REQUESTS = ("--requests", 3, "--max-tokens", 8, "--timeout", 3)
# What a script is given with any fault.
ARGUMENTS: dict[str, tuple[object, ...]] = {BENCHMARK: FEW_REQUESTS}
LONGEST_BENCHMARK_S = 13.0  # its time-out is 3 s; several scripts start at once, so it may be slow
AT_ONCE = 6
# What the scripts and the deployments import, so that it is imported once; see `warm_python`.
MODULES = (
    *sorted({fault.script.removesuffix(".py") for fault in FAULTS}),
    *("openai", "openai.resources.chat", "openai.resources.embeddings", "requests"),
    *("reference.faults", "reference.fleet", "reference.gateway", "reference.sim"),
    *("reference.health_server", "reference.tokens"),
)


@dataclass
class Outcome:
    """What a script found in a deployment with a fault."""

    finished: Finished
    strict: Finished | None  # for a WARN: a second run with --strict
    spent_s: float


@pytest.fixture(scope="module", autouse=True)
def fast_starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nearly two thousand processes are started here: most of their time would go into imports."""
    with warm_python(tmp_path_factory.mktemp("python"), MODULES) as python:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", python)
            yield


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
    environment = {**deployment.environment, "PYTHONPATH": str(ROOT)}
    few = ARGUMENTS.get(script, ())
    return run_script(script, *target, *few, *given, env=environment, results=results)


def with_fault(fault: Fault, folder: Path) -> Outcome:
    """What its script finds; for a WARN, also with --strict."""
    with faulty(fault) as deployment:
        started = time.monotonic()
        finished = check_with(fault.script, deployment, folder / "results", *fault.arguments)
        spent_s = time.monotonic() - started
        if fault.status != "WARN":
            return Outcome(finished, None, spent_s)
        if "asleep" not in fault.options:
            return Outcome(finished, check_strictly(fault, deployment, folder), spent_s)
    # The first run has woken the deployment: the second one needs another that sleeps.
    with faulty(fault) as deployment:
        return Outcome(finished, check_strictly(fault, deployment, folder), spent_s)


def faulty(fault: Fault) -> AbstractContextManager[Deployment]:
    options = {**SETTINGS[fault.profile], **fault.options}
    return running(faults=[fault.name], profile=fault.profile, **options)


def check_strictly(fault: Fault, deployment: Deployment, folder: Path) -> Finished:
    return check_with(fault.script, deployment, folder / "strict", *fault.arguments, "--strict")


def interleaved(faults: Sequence[Fault]) -> list[Fault]:
    """One fault of each script in turn: some scripts mostly wait, others mostly compute."""
    by_script = [list(group) for _, group in itertools.groupby(faults, lambda fault: fault.script)]
    return [each for group in itertools.zip_longest(*by_script) for each in group if each]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """The runs of the selected faults, by name. Several run at once, because most of them wait."""
    wanted = [
        item.callspec.params["fault"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_the_fault_is_noticed"
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            fault.name: pool.submit(with_fault, fault, tmp_path_factory.mktemp(fault.name))
            for fault in interleaved(wanted)
        }
        pool.shutdown(cancel_futures=True)


def statuses(finished: Finished, check: str) -> set[str]:
    """The statuses of this check in all saved documents."""
    names = [path.stem for path in finished.results.glob("*.json")]
    checks = [each for name in names for each in finished.document(name)["checks"]]
    return {each["status"] for each in checks if each["name"] == check}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_is_noticed(fault: Fault, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[fault.name].result()
    assert statuses(outcome.finished, fault.check) == {fault.status}
    assert outcome.finished.code == (1 if fault.status == "FAIL" else 0)
    assert "Traceback" not in outcome.finished.everything
    if fault.script == BENCHMARK:
        assert outcome.spent_s < LONGEST_BENCHMARK_S
    if outcome.strict:
        assert outcome.strict.code == 1
        assert statuses(outcome.strict, fault.check) == {"FAIL"}


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_sound_deployment_passes(connection: str, tmp_path: Path) -> None:
    with running(**{**SETTINGS["gateway"], "connection": connection}) as deployment:
        finished = check_with(BENCHMARK, deployment, tmp_path / "results", "--concurrency", 1, 4)
    assert finished.code == 0
    for name in ("gateway_overhead", "inference_c1", "inference_c4"):
        for check in finished.document(name)["checks"]:
            # The check `client` is about this machine, which may be busy with other tests.
            assert check["status"] == "PASS" or check["name"] == "client", check


def test_every_fault_names_a_script_and_one_of_its_checks() -> None:
    for fault in FAULTS:
        checks = importlib.import_module(fault.script.removesuffix(".py")).CHECKS
        assert fault.check.partition(":")[0] in checks, fault.name
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
