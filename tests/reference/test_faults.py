"""Every fault that can be planted in a deployment is noticed by the check that has to notice it.
No script accuses a deployment that is only unusual."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from helpers import fault_walk
from helpers.fault_walk import Outcome, is_accused, is_noticed, is_told, statuses
from helpers.scripts import ROOT

from common import OF_ALL_ANSWERS
from reference import running
from reference.faults import CLOSED, FAULTS, SOUND, ClosedDoor, Fault, SoundVariant

BENCHMARK = "benchmark.py"
# Locust is not installed for `make test`: see tests/peers/test_locust.py.
HERE = [fault for fault in FAULTS if fault.script != fault_walk.LOCUSTFILE]
LONGEST_BENCHMARK_S = 13.0  # its time-out is 3 s; several scripts start at once, so it may be slow

Outcomes = dict[str, Future[Outcome]]


def selected(request: pytest.FixtureRequest, test: str, *names: str) -> list[tuple[object, ...]]:
    """The parameters `names` of each selected case of this test."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    cases = [item.callspec.params for item in items if item.originalname == test]
    return [tuple(case[name] for name in names) for case in cases]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """The runs of the selected faults, by name."""
    found = selected(request, "test_the_fault_is_noticed", "fault")
    wanted = fault_walk.interleaved([each for (each,) in found if isinstance(each, Fault)])
    # --strict makes a FAIL of every WARN in one place: one row of each check shows it.
    warned = {(each.script, each.check): each for each in wanted if each.status == "WARN"}
    runs = []
    for each in wanted:
        folder, strictly = tmp_path_factory.mktemp(each.name), each in warned.values()
        runs.append((each.name, partial(fault_walk.with_fault, each, folder, strictly)))
    with fault_walk.at_once(runs) as outcomes:
        yield outcomes


@pytest.mark.parametrize("fault", HERE, ids=lambda fault: fault.name)
def test_the_fault_is_noticed(fault: Fault, outcomes: Outcomes, tmp_path: Path) -> None:
    outcome = outcomes[fault.name].result()
    is_late = fault.script == BENCHMARK and outcome.spent_s >= LONGEST_BENCHMARK_S
    if is_late or not is_noticed(fault, outcome):
        # Many deployments share the processors here. One that gets none at the wrong moment does
        # not always do what is planted in it, or takes long, so that a fault has a second chance.
        outcome = fault_walk.with_fault(fault, tmp_path)
    assert is_noticed(fault, outcome), outcome.finished.out
    assert "Traceback" not in outcome.finished.everything
    if fault.script == BENCHMARK:
        assert outcome.spent_s < LONGEST_BENCHMARK_S
    if outcome.strict:
        assert outcome.strict.code == 1
        assert statuses(outcome.strict, fault.check) == {"FAIL"}


@pytest.fixture(scope="module")
def sound_outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """The runs of the selected sound variants, by script and name."""
    tests = (
        "test_nothing_fails_in_a_deployment_that_is_only_unusual",
        "test_behind_a_closed_door_nothing_is_judged",
    )
    runs = []
    cases = [case for test in tests for case in selected(request, test, "script", "variant")]
    for script, variant in cases:
        assert isinstance(script, str) and isinstance(variant, (SoundVariant, ClosedDoor))
        folder = tmp_path_factory.mktemp("sound")
        run = partial(fault_walk.with_variant, script, variant, folder)
        runs.append((f"{script} {variant.name}", run))
    with fault_walk.at_once(runs) as outcomes:
        yield outcomes


def name_of(each: str | SoundVariant | ClosedDoor) -> str:
    return each if isinstance(each, str) else each.name


@pytest.mark.parametrize(("script", "variant"), fault_walk.SOUND_RUNS, ids=name_of)
def test_nothing_fails_in_a_deployment_that_is_only_unusual(
    script: str, variant: SoundVariant, sound_outcomes: Outcomes
) -> None:
    outcome = sound_outcomes[f"{script} {variant.name}"].result()
    assert not is_accused(outcome), outcome.finished.out
    assert fault_walk.without_silence(outcome.finished) == []


@pytest.mark.parametrize(("script", "variant"), fault_walk.CLOSED_RUNS, ids=name_of)
def test_behind_a_closed_door_nothing_is_judged(
    script: str, variant: ClosedDoor, sound_outcomes: Outcomes
) -> None:
    outcome = sound_outcomes[f"{script} {variant.name}"].result()
    assert is_told(script, variant, outcome), outcome.finished.everything
    assert "Traceback" not in outcome.finished.everything


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_sound_deployment_passes(connection: str, tmp_path: Path) -> None:
    settings = {**fault_walk.SETTINGS["gateway"], "connection": connection}
    with running(**settings) as deployment:
        levels = ("--requests", 3, "--max-tokens", 8, "--concurrency", 1, 4)
        finished = fault_walk.check_with(BENCHMARK, deployment, tmp_path / "results", *levels)
    assert finished.code == 0
    for name in ("gateway_overhead", "inference_c1", "inference_c4"):
        for check in finished.document(name)["checks"]:
            # These two are about this machine as well, which may be busy with other tests.
            assert check["status"] == "PASS" or check["name"] in ("client", "pacing"), check


def checks_of_script(script: str) -> tuple[str, ...]:
    if script == fault_walk.REPORT:
        return ("thresholds",)
    if script == fault_walk.LOCUSTFILE:  # Locust itself is not there
        found = re.search(r"^CHECKS = (.+)$", (ROOT / script).read_text(), re.MULTILINE)
        assert found
        return tuple(ast.literal_eval(found[1]))
    return tuple(importlib.import_module(script.removesuffix(".py")).CHECKS)


def test_every_fault_names_a_script_and_one_of_its_checks() -> None:
    for fault in FAULTS:
        checks = (*checks_of_script(fault.script), *OF_ALL_ANSWERS)
        assert fault.check.partition(":")[0] in checks, fault.name
    names = [each.name for each in (*FAULTS, *SOUND, *CLOSED)]
    assert len(set(names)) == len(names)
