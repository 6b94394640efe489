"""Plants every fault, sound variant and closed door, and prints what the scripts say of them.

    python tests/tools/fault_matrix.py                  all, in about seven minutes on two cores
    python tests/tools/fault_matrix.py test_queue.py    one script

A row: script, what is planted, exit code, what the check in question said, seconds, and whether
that is right. The last line counts: `detected D/N, false alarms A/M, closed doors named C/K`. A
fault is detected when the check that has to notice it says FAIL (exit 1), WARN (exit 0) or SKIP
(exit 3), as the fault's row demands. A false alarm is a sound deployment in which anything fails or
the exit code is not 0. A closed door is named when the exit code is 3 and the one line says what it
has to say.

Exit code 1 if a fault is missed, a sound deployment is accused, or a closed door is not named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers import fault_walk  # noqa: E402
from helpers.fast_starts import fast_starts, ready_python  # noqa: E402
from helpers.fault_walk import (  # noqa: E402
    Outcome,
    is_accused,
    is_noticed,
    is_told,
    statuses,
    statuses_of,
)
from helpers.locust import LOCUST  # noqa: E402

from reference.faults import FAULTS, ClosedDoor, Fault, SoundVariant  # noqa: E402

SCRIPTS = sorted({*fault_walk.SOUND_CASES, *(fault.script for fault in FAULTS)})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help="only these scripts")
    scripts = parser.parse_args().scripts or SCRIPTS
    if unknown := set(scripts) - set(SCRIPTS):
        parser.error(f"there is no script {min(unknown)}; there are {', '.join(SCRIPTS)}")
    if fault_walk.LOCUSTFILE in scripts and not LOCUST.is_file():
        parser.error("Locust is not installed: make .venv/locust/ready")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ready_python(folder) as python, fast_starts(python):
            missed, faults = walk_faults(scripts, folder)
            alarms, sound = walk_sound(scripts, folder)
            unnamed, doors = walk_doors(scripts, folder)
    print(
        f"\ndetected {faults - missed}/{faults}, false alarms {alarms}/{sound}, "
        f"closed doors named {doors - unnamed}/{doors} ({time.monotonic() - started:.0f} s)"
    )
    return 1 if missed or alarms or unnamed else 0


def walk_faults(scripts: Sequence[str], folder: Path) -> tuple[int, int]:
    """The number of faults that are missed, and of all."""
    faults = [fault for fault in FAULTS if fault.script in scripts]
    missed = 0
    runs: list[tuple[str, Callable[[], Outcome]]] = [
        (each.name, partial(fault_walk.with_fault, each, folder / each.name, strictly=False))
        for each in fault_walk.interleaved(faults)
    ]
    with fault_walk.at_once(runs) as outcomes:
        for fault in sorted(faults, key=lambda each: each.script):
            outcome = outcomes[fault.name].result()
            is_right = is_noticed(fault, outcome)
            missed += not is_right
            show(fault.script, fault.name, outcome, said(fault, outcome), is_right)
    return missed, len(faults)


def said(fault: Fault, outcome: Outcome) -> str:
    """What the check that has to notice says, and what it should say where that differs."""
    found = "/".join(sorted(statuses_of(fault, outcome))) or "not decided"
    expected = "" if found == fault.status else f", expected {fault.status}"
    return f"{fault.check}: {found}{expected}"


def runs_of(
    wanted: Sequence[tuple[str, SoundVariant | ClosedDoor]], folder: Path
) -> list[tuple[str, Callable[[], Outcome]]]:
    """The runs of these scripts against these deployments, each with its name."""
    return [
        (
            f"{script} {each.name}",
            partial(fault_walk.with_variant, script, each, folder / script / each.name),
        )
        for script, each in wanted
    ]


def walk_doors(scripts: Sequence[str], folder: Path) -> tuple[int, int]:
    """The number of closed doors that are not named, and of all."""
    wanted = [each for each in fault_walk.CLOSED_RUNS if each[0] in scripts]
    unnamed = 0
    with fault_walk.at_once(runs_of(wanted, folder)) as outcomes:
        for script, door in sorted(wanted, key=lambda each: each[0]):
            outcome = outcomes[f"{script} {door.name}"].result()
            is_right = is_told(script, door, outcome)
            unnamed += not is_right
            show(script, door.name, outcome, "closed: " + door.says[:24], is_right)
    return unnamed, len(wanted)


def walk_sound(scripts: Sequence[str], folder: Path) -> tuple[int, int]:
    """The number of sound deployments that are accused, and of all."""
    wanted = [each for each in fault_walk.SOUND_RUNS if each[0] in scripts]
    alarms = 0
    with fault_walk.at_once(runs_of(wanted, folder)) as outcomes:
        for script, variant in sorted(wanted, key=lambda each: each[0]):
            outcome = outcomes[f"{script} {variant.name}"].result()
            accused = is_accused(outcome)
            alarms += accused
            show(script, variant.name, outcome, accusation(outcome), not accused)
    return alarms, len(wanted)


def accusation(outcome: Outcome) -> str:
    return "a check failed" if "FAIL" in statuses(outcome.finished) else "sound: nothing failed"


def show(script: str, name: str, outcome: Outcome, said: str, is_right: bool) -> None:
    mark = "" if is_right else "   <-- WRONG"
    code, spent_s = outcome.finished.code, outcome.spent_s
    print(f"{script:25} {name:32} exit {code}  {said:32} {spent_s:5.1f} s{mark}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
