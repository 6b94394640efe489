"""Which scripts run, in which order, and with which options."""

from __future__ import annotations

import re

from helpers.scripts import ROOT, load_script

from livecheck.report.result_files import kind_of
from livecheck.suite.commands import Access, Command, arguments
from livecheck.suite.steps import (
    ALL,
    FLEET,
    GATEWAY,
    NAMES,
    SCRIPTS,
    STEPS,
    options_of,
    selected,
    with_other_levels,
)


def names(
    profile: str = GATEWAY, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
) -> list[str]:
    return [each.name for each in selected(STEPS, profile, only, skip)]


def test_what_wakes_nobody_is_first_and_what_refuses_the_key_is_last() -> None:
    order = names()
    assert (order[0], order[-1]) == ("gateway_overhead", "test_rate_limit")
    assert order[-2] == "test_scale_to_zero"  # nothing but that comes after the idle wait
    assert order.index("test_queue") > order.index("inference_c1")
    assert names(FLEET)[0] == "test_wol"  # while the fleet may still be asleep


def test_a_command_in_which_a_credential_may_stand_is_not_shown() -> None:
    step = next(each for each in STEPS if each.name == "test_workload_routing")
    options = {"kill_command": "ssh tower kill secret", "requests": 4}
    command = Command(step, Access("http://h"), options)
    assert "--kill-command COMMAND --requests 4" in command.shown()
    assert "ssh tower kill secret" in command.words()


def test_every_script_has_a_step_but_the_commands_that_run_or_judge_others() -> None:
    commands = {path.stem for path in ROOT.glob("*.py") if "def build_parser(" in path.read_text()}
    assert commands - {"run_all", "report"} == set(SCRIPTS)
    assert names(ALL) == [*names(GATEWAY), *names(FLEET)]


def test_every_step_is_a_command_that_its_script_takes_and_leaves_a_known_result() -> None:
    for step in STEPS:
        load_script(f"{step.script}.py").build_parser().parse_args(arguments(step.options))
        assert kind_of(step.result), step


def test_a_script_is_chosen_by_its_own_name_or_by_that_of_a_step() -> None:
    assert names(only=("benchmark",), skip=("inference_c8", "gateway_cost")) == [
        "gateway_overhead",
        "inference_c1",
        "inference_c4",
    ]
    assert names(only=("test_queue", "inference_c8")) == ["inference_c8", "test_queue"]
    assert names(FLEET, only=("test_queue",)) == []


def test_other_levels_come_behind_the_guides_from_less_load_to_more() -> None:
    found = [each.name for each in with_other_levels({"inference_c32", "inference_r5", *NAMES})]
    at = found.index("inference_c8")
    assert found[at + 1 : at + 3] == ["inference_c32", "inference_r5"]
    found = [each.name for each in with_other_levels({"inference_c16", "inference_c2"})]
    assert found[at + 1 : at + 3] == ["inference_c2", "inference_c16"]


def test_a_level_with_a_work_of_its_own_has_the_options_for_it() -> None:
    wanted = {"inference_c4_d8000_t5_responses", "inference_r2_responses", "inference_c1_d512"}
    steps = {each.name: each.options for each in with_other_levels(wanted) if each.name in wanted}
    assert wanted == set(steps)
    both = steps["inference_c4_d8000_t5_responses"]
    assert (both["concurrency"], both["depth"], both["turns"]) == (4, 8000, 5)
    assert both["endpoint"] == "responses" == steps["inference_r2_responses"]["endpoint"]
    assert steps["inference_c1_d512"]["depth"] == 512 and "turns" not in steps["inference_c1_d512"]


def test_options_of_the_operator_change_those_of_the_guide() -> None:
    (step,) = selected(STEPS, GATEWAY, ("inference_c4",), ())
    found = options_of(step, {"max_tokens": 8}, {"prompt_file": "prompts.jsonl", "warmup": False})
    assert "prompt" not in found and "warmup" not in found
    assert (found["max_tokens"], found["concurrency"]) == (8, 4)
    assert "requests" not in options_of(step, {"duration": 60})
    assert "requests" not in options_of(step, {"precision": "5%"})
    found = options_of(step, {"duration": 60}, {"precision": "5%"})  # that of the step wins
    assert found["precision"] == "5%" and not {"requests", "duration"} & set(found)
    (rate,) = (each for each in with_other_levels({"inference_r5"}) if each.name == "inference_r5")
    assert "duration" not in options_of(rate, {"requests": 40})


def test_options_become_words() -> None:
    words = arguments(
        {"slo": ["ttft_p50=1s", "error_rate=0"], "strict": True, "models": ["a", "b"]}
    )
    assert words == [
        "--slo",
        "ttft_p50=1s",
        "--slo",
        "error_rate=0",
        "--strict",
        "--models",
        "a",
        "b",
    ]
    assert arguments({"prompt": "-x", "rate": 2.5}) == ["--prompt=-x", "--rate", "2.5"]


def test_the_page_names_every_step() -> None:
    page = (ROOT / "docs" / "run_all.md").read_text()
    assert [name for name in names(ALL) if not re.search(rf"`{name}`", page)] == []
