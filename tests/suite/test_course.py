"""One run of all steps, with scripts of a few lines in the place of the real ones."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livecheck.core.checks import Exit
from livecheck.core.plan import Plan
from livecheck.core.screen import Screen
from livecheck.suite.commands import Access, Command
from livecheck.suite.course import Course, StepState
from livecheck.suite.display import Lines, Table
from livecheck.suite.estimates import Estimate
from livecheck.suite.run_folder import RunFolder
from livecheck.suite.steps import Step

# What every script of these tests can use: save a result file, whose first lines are those given.
PROLOGUE = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1])
def save(name, **head):
    lines = ["{", *(f' {json.dumps(key)}: {json.dumps(head[key])},' for key in head), ' "x": 1}']
    (folder / f"{name}.json").write_text("\\n".join(lines))
"""


@dataclass(frozen=True)
class Fake(Command):
    """A command whose script is this text."""

    text: str = ""

    def words(self, *more: object) -> list[str]:
        return [sys.executable, "-c", PROLOGUE + self.text, *map(str, more)]


def step(name: str, text: str, url: str = "http://here") -> StepState:
    estimate = Estimate(**{key: getattr(Plan(), key) for key in Estimate.__dataclass_fields__})
    return StepState(Fake(Step(name, name, "gateway"), Access(url), {}, text), estimate, name)


def screen() -> Screen:
    return Screen(str, "text", verbose=False, debug=False)


def course(tmp_path: Path, *steps: StepState) -> Course:
    own = screen()
    return Course(RunFolder.create(tmp_path, "run"), list(steps), {}, Lines(own), own.clean)


def saved(ran: Course) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((ran.folder.path / "run.json").read_text())["steps"]
    return loaded


def test_a_step_that_fails_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    failing = "print('FAIL  a: it is broken,'); print('      all of it'); print('PASS  b: fine')\n"
    failing += "print('FAIL (exit 1): 1 FAIL, 1 PASS'); save('cors'); sys.exit(1)"
    ran = course(tmp_path, step("one", failing), step("two", "sys.exit(0)"))
    ran.run()
    one, two = ran.steps
    assert (one.exit_code, two.exit_code, ran.exit_code) == (Exit.FAIL, Exit.OK, Exit.FAIL)
    assert one.findings == ["FAIL  a: it is broken,", "      all of it"]
    assert (one.said, one.results, one.verdict) == ("1 FAIL, 1 PASS", ["cors"], "fail")
    assert [each["state"] for each in saved(ran)] == ["done", "done"]


def test_a_failure_that_the_report_passes_does_not_count(tmp_path: Path) -> None:
    ran = course(tmp_path, step("one", "sys.exit(1)"), step("two", "sys.exit(0)"))
    ran.run()
    ran.report_code = Exit.OK
    assert ran.exit_code is Exit.OK
    ran.report_code = Exit.UNDECIDED
    assert ran.exit_code is Exit.FAIL


def test_when_nobody_is_let_in_the_other_steps_of_that_deployment_are_not_run(
    tmp_path: Path,
) -> None:
    refused = "save('cors', error='the key was refused', no_access=True); sys.exit(3)"
    steps = step("one", refused), step("two", ""), step("three", "", "http://there")
    ran = course(tmp_path, *steps)
    ran.run()
    assert [each.state for each in ran.steps] == ["done", "not run", "done"]
    assert ran.steps[1].why == "not tried: the key was refused"
    assert ran.exit_code is Exit.UNDECIDED


def test_a_step_that_meets_a_rate_limit_is_run_once_more(tmp_path: Path) -> None:
    limited = "known = (folder / 'cors.json').exists()\n"
    limited += "save('cors', rate_limit_wait_s=None if known else 0.1)\nsys.exit(0 if known else 3)"
    for_days = "save('tools', rate_limit_wait_s=86400); sys.exit(3)"
    ran = course(tmp_path, step("one", limited), step("two", for_days))
    ran.run()
    assert [each.exit_code for each in ran.steps] == [Exit.OK, Exit.UNDECIDED]


def test_a_script_that_ends_in_another_way_decides_nothing(tmp_path: Path) -> None:
    killed = "import os; os.kill(os.getpid(), 9)"
    ran = course(tmp_path, step("one", killed), step("two", "sys.exit(77)"))
    ran.run()
    assert [each.exit_code for each in ran.steps] == [Exit.UNDECIDED] * 2
    assert [each.said for each in ran.steps] == ["ended by signal 9", "ended with exit code 77"]


def test_what_the_results_say_of_the_deployment_is_kept(tmp_path: Path) -> None:
    text = "save('cors', target={'model': 'm', 'server': 's', 'url': 'u'})"
    ran = course(tmp_path, step("one", text))
    ran.run()
    assert ran.targets == {"model": "m", "server": "s"}


def test_an_interruption_stops_the_script_which_saves_what_it_has(tmp_path: Path) -> None:
    text = """
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    save("cors")
    sys.exit(130)
"""
    ran = course(tmp_path, step("one", text), step("two", ""))
    ran.display.begin(ran.steps)
    ran.start(ran.steps[0])
    assert ran.current
    while "ready" not in (ran.current.read(0.1) or ()):
        pass
    ran.interrupt(signal.SIGINT)
    ran.end(Exit.INTERRUPTED)
    one, two = saved(ran)
    assert (one["state"], one["exit_code"], one["results"]) == ("interrupted", 130, ["cors"])
    assert (two["state"], two["why"]) == ("not run", "the run was interrupted before")


def test_a_child_that_holds_the_output_open_does_not_hold_up_the_run(tmp_path: Path) -> None:
    text = "import subprocess; print('last'); subprocess.Popen(['sleep', '20'])"
    ran = course(tmp_path, step("one", text))
    ran.run()
    assert ran.steps[0].said == "last" and (ran.steps[0].duration_s or 99) < 15


def test_what_was_done_is_taken_over_and_nothing_else(tmp_path: Path) -> None:
    done = {"state": "done", "exit_code": 1, "results": ["cors"], "duration_s": 2, "said": "1 FAIL"}
    one, two = step("one", ""), step("two", "")
    one.restore(done)
    two.restore({**done, "state": "interrupted", "exit_code": 130})
    assert (one.state, one.exit_code, two.state) == ("done", Exit.FAIL, "not run")
    two.restore({**done, "exit_code": "damaged"})
    assert two.state == "not run"


def test_the_table_has_a_line_for_each_step(tmp_path: Path) -> None:
    own = screen()
    steps = [step("one", "print('FAIL  a: broken'); sys.exit(1)"), step("two", "print('so far')")]
    table = Table(own)
    ran = Course(RunFolder.create(tmp_path, "run"), steps, {}, table, own.clean)
    ran.run()
    with table.console.capture() as shown:
        table.console.print(table.table())
    lines = [line.split() for line in shown.get().splitlines()]
    assert lines[0][:2] == ["FAIL", "one"] and lines[0][-3:] == ["FAIL", "a:", "broken"]
    assert lines[1][:2] == ["PASS", "two"] and lines[1][-2:] == ["so", "far"]
    assert any(line.startswith("FAIL        one") for line in own.lines)
