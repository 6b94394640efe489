"""Every fault that can be planted in a deployment is noticed, by the check that has to."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.scripts import Finished, run_script

from reference import Deployment, running
from reference.faults import FAULTS, Fault

SIM = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
QUICK: dict[str, dict[str, object]] = {  # settings of each profile
    "gateway": {**SIM, "rate_limit": 0},
    "fleet": SIM,
}
BENCHMARK = "benchmark.py"
FEW = ("--requests", 3, "--max-tokens", 8, "--timeout", 3)
ALWAYS: dict[str, tuple[object, ...]] = {BENCHMARK: FEW}  # what a script is given with any fault
SPARE_S = 10.0  # several scripts start at once on what may be a busy machine
AT_ONCE = 4


@dataclass
class Outcome:
    """What a script made of a deployment with a fault."""

    finished: Finished
    strict: Finished | None  # the same with --strict, for what is only a warning
    spent_s: float


def check_with(script: str, deployment: Deployment, results: Path, *arguments: object) -> Finished:
    """`arguments` may name what the deployment exports, in lower case: "{wol_port}"."""
    exported = {name.lower(): value for name, value in deployment.environment.items()}
    given = [str(each).format(**exported) for each in arguments]
    credential = ("--api-key", exported.get("inference_api_key"))
    if "token_binary" in exported:
        credential = ("--token-binary", exported["token_binary"])
    target = ("--url", deployment.url, *credential, "--results", results)
    # the variables: the fleet's token binary takes its key from there
    finished = run_script(
        script, *target, *ALWAYS.get(script, ()), *given, env=deployment.environment
    )
    return Finished(finished.code, finished.out, finished.err, results)


def with_fault(fault: Fault, folder: Path) -> Outcome:
    """What its script says of it, for a warning also with --strict."""
    wakes = "asleep" in fault.options  # and is awake afterwards: the second run needs another
    with faulty(fault) as deployment:
        started = time.monotonic()
        finished = check_with(fault.script, deployment, folder / "results", *fault.arguments)
        spent_s = time.monotonic() - started
        if fault.status != "WARN":
            return Outcome(finished, None, spent_s)
        if not wakes:
            return Outcome(finished, check_strictly(fault, deployment, folder), spent_s)
    with faulty(fault) as deployment:
        return Outcome(finished, check_strictly(fault, deployment, folder), spent_s)


def faulty(fault: Fault) -> AbstractContextManager[Deployment]:
    options = {**QUICK[fault.profile], **fault.options}
    return running(faults=[fault.name], profile=fault.profile, **options)


def check_strictly(fault: Fault, deployment: Deployment, folder: Path) -> Finished:
    return check_with(fault.script, deployment, folder / "strict", *fault.arguments, "--strict")


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """The runs of the faults that were asked for, several at a time: most of each is waiting."""
    wanted = {
        item.callspec.params["fault"].name: item.callspec.params["fault"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_the_fault_is_noticed"
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(with_fault, fault, tmp_path_factory.mktemp(name))
            for name, fault in wanted.items()
        }
        pool.shutdown(cancel_futures=True)


def statuses(finished: Finished, check: str) -> set[str]:
    """What the check came out as, in any of the saved documents."""
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
        assert outcome.spent_s < 3 + SPARE_S
    if outcome.strict:
        assert outcome.strict.code == 1
        assert statuses(outcome.strict, fault.check) == {"FAIL"}


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_sound_deployment_passes(connection: str, tmp_path: Path) -> None:
    with running(**{**QUICK["gateway"], "connection": connection}) as deployment:
        finished = check_with(BENCHMARK, deployment, tmp_path / "results", "--concurrency", 1, 4)
    assert finished.code == 0
    for name in ("gateway_overhead", "inference_c1", "inference_c4"):
        for check in finished.document(name)["checks"]:
            # `client` is about this machine, which the other tests may keep busy
            assert check["status"] == "PASS" or check["name"] == "client", check


def test_every_fault_names_a_script_and_a_check_of_it() -> None:
    for fault in FAULTS:
        checks = importlib.import_module(fault.script.removesuffix(".py")).CHECKS
        assert fault.check.partition(":")[0] in checks, fault.name
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
