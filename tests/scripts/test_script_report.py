"""report.py as an operator runs it: from folders of results to an exit code and files."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.report_here import as_json, gate_line, report, report_process, run_here, verdicts
from helpers.samples import (
    failed,
    fleet_folder,
    gateway_folder,
    level,
    overhead,
    passed,
    queue,
    result,
    write_results,
)
from helpers.scripts import ROOT, start_script
from lxml import etree

import report as report_module
from livecheck.core.checks import Check, Exit, Status
from livecheck.core.result_file import to_json
from livecheck.report import junit, markdown, text, verdict
from livecheck.report.result_files import KINDS, read_folder
from livecheck.report.thresholds import read_thresholds

SCHEMA = etree.XMLSchema(etree.parse(ROOT / "tests" / "report" / "data" / "jenkins-junit.xsd"))


# --- the decision


def test_a_good_run_passes(tmp_path: Path) -> None:
    finished = report_process(gateway_folder(tmp_path))
    assert finished.code == 0, finished.out
    assert gate_line(finished).startswith("[GATE] sea-7b PASS: 12 of 12 criteria, worst: ")
    assert finished.err == f"saved {tmp_path}/baseline_report.md\n"


def test_it_fits_a_terminal_and_ends_with_one_line_for_a_log(tmp_path: Path) -> None:
    long = "a detail that goes on and on " * 20
    folder = gateway_folder(tmp_path / "now", cors=result("cors", failed("others", long)))
    finished = report(folder, "--baseline", gateway_folder(tmp_path / "old", inference_c4=level(4)))
    *lines, last = finished.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert last.startswith("[GATE] sea-7b FAIL: ") and len(last) <= 160


REQUIRED = [kind.required for kind in KINDS if kind.required and not kind.fleet]


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_required_result_it_is_undecided(name: str, tmp_path: Path) -> None:
    finished = report(gateway_folder(tmp_path, **{name: None}))
    assert finished.code == 3
    assert f"no {name}.json: run " in finished.out
    assert "NOT DECIDED" in gate_line(finished)


def test_an_empty_folder_is_undecided(tmp_path: Path) -> None:
    assert report(tmp_path).code == 3
    nowhere = report(tmp_path / "nowhere")
    assert nowhere.code == 3 and "No such file" in nowhere.out
    assert "worst: Result files: " in gate_line(nowhere)  # the cause, and not what follows from it
    assert not nowhere.results.exists()


@pytest.mark.parametrize(
    "name", ["openai_sdk_test", "scale_to_zero", "queue_behavior", "cors", "tools"]
)
def test_a_result_that_failed_fails_the_report(name: str, tmp_path: Path) -> None:
    document = result(name, passed("one"), failed("two", "503 after 4 ms"), failed("three"))
    finished = report(gateway_folder(tmp_path, **{name: document}))
    assert finished.code == 1
    assert "two: 503 after 4 ms; also three" in finished.out
    assert "two: 503 after 4 ms" in gate_line(finished)


UNDECIDED = {
    "interrupted": {"stopped": (Exit.INTERRUPTED, "interrupted: what was measured is saved")},
    "unreachable": {"stopped": (Exit.UNDECIDED, "cannot reach http://host (refused)")},
    "a clock is wrong": {"age": timedelta(hours=-2)},
    "run with --only": {"options": {"only": ["completion"]}},
    "run with --skip": {"options": {"skip": ["stream", "usage"]}},
}


@pytest.mark.parametrize("why", UNDECIDED)
def test_with_a_result_that_decides_nothing_it_is_undecided(why: str, tmp_path: Path) -> None:
    document = result("openai_sdk_test", **UNDECIDED[why])
    content = as_json(gateway_folder(tmp_path, openai_sdk_test=document))
    assert content["exit_code"] == 3
    assert verdicts(content)["openai_sdk_test"] == "UNDECIDED"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"skip": ["requests"]}, "run with --skip requests"),
        ({"only": ["client"]}, "run with --only client"),
        ({"skip": ["ping", "client", "slo"]}, ""),
        ({"only": ["requests", "stream", "tokens"]}, ""),
    ],
)
def test_a_level_needs_only_its_own_checks(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    content = as_json(gateway_folder(tmp_path, inference_c1=level(1, options=options)))
    (found,) = [each for each in content["documents"] if each["subject"] == "inference_c1"]
    assert (found["detail"], content["exit_code"]) == (said, 3 if said else 0)


def test_with_an_essential_skip_it_is_undecided_in_the_words_of_the_script(tmp_path: Path) -> None:
    skipped = Check("scale_down", Status.SKIP, "no worker count", essential=True)
    finished = report(gateway_folder(tmp_path, scale_to_zero=result("scale_to_zero", skipped)))
    assert finished.code == 3
    assert "scale_down: no worker count" in finished.out


def test_a_failure_outweighs_what_is_undecided(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path, cors=result("cors", failed()), scale_to_zero=None)
    assert report(folder).code == 1


def test_a_result_older_than_max_age_is_not_used(tmp_path: Path) -> None:
    old = {"age": timedelta(hours=60)}
    folder = gateway_folder(tmp_path, scale_to_zero=result("scale_to_zero", **old))
    assert report(folder).code == 0
    finished = report(folder, "--max-age", 48)
    assert finished.code == 3
    assert "60 h old, --max-age is 48: run test_scale_to_zero.py again" in finished.out


def test_max_age_is_also_the_longest_time_between_two_results(tmp_path: Path) -> None:
    folder = gateway_folder(
        tmp_path, scale_to_zero=result("scale_to_zero", age=timedelta(hours=100))
    )
    assert report(folder).code == 3
    assert report(folder, "--max-age", 200).code == 0


def test_refusals_beyond_the_deployment_s_limits_are_not_a_failure(tmp_path: Path) -> None:
    refused = level(8, errors=["503"] * 5)
    folder = gateway_folder(tmp_path, inference_c8=refused, queue_behavior=queue(1, 2))
    content = as_json(folder)
    assert content["exit_code"] == 0
    assert verdicts(content)["inference_c8"] == "REPORTED"
    write_results(folder, inference_c8=level(8, errors=["503"] * 4 + ["timeout"]))
    assert report(folder).code == 1
    write_results(folder, inference_c8=refused, queue_behavior=queue(4, 4))
    assert report(folder).code == 1


@pytest.mark.parametrize(
    "text", ["", '{"schema_version": 1,', "[]", '{"a": NaN}', '{"name": "k6", "version": 3}']
)
@pytest.mark.parametrize("name", ["inference_c1", "something_else"])
def test_files_that_cannot_be_read_are_named(name: str, text: str, tmp_path: Path) -> None:
    finished = report(gateway_folder(tmp_path, **{name: text}))
    assert finished.code == 3
    body = finished.out.removesuffix(gate_line(finished) + "\n")
    assert body.count(f"{name}.json: ") == 1


def test_results_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    other = result("cors", target={"url": "http://other:8000", "model": "sea-7b"})
    finished = report(gateway_folder(tmp_path, cors=other))
    assert finished.code == 3
    assert "cors.json: contradictory: its target is http://other:8000" in " ".join(
        finished.out.split()
    )
    thresholds = tmp_path / "verdict.toml"
    thresholds.write_text("same_target = false")
    assert report(tmp_path, "--thresholds", thresholds).code == 0


# --- profiles


def test_the_profile_follows_from_the_files(tmp_path: Path) -> None:
    assert as_json(gateway_folder(tmp_path / "a"))["about"]["profile"] == "gateway"
    assert as_json(fleet_folder(tmp_path / "b"))["about"]["profile"] == "fleet"
    both = as_json(fleet_folder(gateway_folder(tmp_path / "c")))
    assert (both["about"]["profile"], both["exit_code"]) == ("all", 0)
    measured = as_json(fleet_folder(tmp_path / "d", inference_c1=level(1)))
    assert (measured["about"]["profile"], measured["exit_code"]) == ("fleet", 0)


def auth(credential: str, url: str = samples.URL) -> dict[str, Any]:
    target = {"url": url, "model": "sea-7b", "server": None}
    return result("auth", figures={"credential": credential}, target=target)


@pytest.mark.parametrize(
    ("made", "content", "profile"),
    [
        (gateway_folder, auth("api_key"), "gateway"),
        (gateway_folder, auth("jwt"), "gateway"),  # of a gateway that takes JWTs
        (gateway_folder, auth("jwt", "http://fleet:8080"), "all"),
        (gateway_folder, "{}", "all"),  # nobody knows what it is about
    ],
)
def test_the_result_of_test_auth_may_be_of_the_gateway(
    tmp_path: Path, made: Any, content: Any, profile: str
) -> None:
    folder = made(tmp_path, auth=content)
    report_ = as_json(folder)
    assert report_["about"]["profile"] == profile
    assert report_["exit_code"] == (0 if profile == "gateway" else 3)


@pytest.mark.parametrize(("credential", "profile"), [("api_key", "gateway"), ("jwt", "fleet")])
def test_beside_the_benchmark_the_kind_of_credential_decides(
    tmp_path: Path, credential: str, profile: str
) -> None:
    folder = write_results(tmp_path, inference_c1=level(1), auth=auth(credential))
    assert as_json(folder)["about"]["profile"] == profile


def test_a_failed_auth_of_the_gateway_is_a_failure(tmp_path: Path) -> None:
    broken = result("auth", failed(), figures={"credential": "api_key"})
    assert report(gateway_folder(tmp_path, auth=broken)).code == 1


def test_a_deployment_without_ping_can_pass_and_the_guides_gateway_cannot(tmp_path: Path) -> None:
    missing = Check("ping", Status.SKIP, "there is no /ping (404)", {"missing": True})
    other = overhead(probes=0, checks=(missing, passed("health")))
    finished = report(gateway_folder(tmp_path / "a", gateway_overhead=other))
    assert finished.code == 0 and "not promised by this deployment" in finished.out
    lost = overhead(probes=0, checks=(failed("ping"), passed("health")))
    assert report(gateway_folder(tmp_path / "b", gateway_overhead=lost)).code == 1
    neither = (missing, Check("health", Status.SKIP, "there is no /health (404)"))
    nothing = overhead(probes=0, checks=neither)
    assert report(gateway_folder(tmp_path / "c", gateway_overhead=nothing)).code == 3


def test_a_threshold_on_a_damaged_file_does_not_say_that_there_is_none(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path)
    (folder / "inference_c1.json").write_text('{"schema_version": 1, "script": "bench')
    finished = report(folder)
    assert finished.code == 3 and "inference_c1.json: half-written" in finished.out
    assert "inference_c1.json cannot be used" in finished.out
    (folder / "inference_c1.json").unlink()
    assert "there is no inference_c1.json" in report(folder).out
    assert "there is no" not in finished.out


def test_a_profile_sets_what_is_required(tmp_path: Path) -> None:
    folder = fleet_folder(tmp_path)
    assert report(folder, "--profile", "fleet").code == 0
    assert report(folder, "--profile", "gateway").code == 3
    assert report(folder, "--profile", "all").code == 3
    (folder / "wol.json").unlink()
    assert report(folder, "--profile", "fleet").code == 3


def test_a_file_of_thresholds_sets_what_is_required_and_what_is_enough(tmp_path: Path) -> None:
    folder = write_results(tmp_path, inference_c1=level(1, ttft_ms=700))
    thresholds = tmp_path / "verdict.toml"
    thresholds.write_text('required = ["inference_c1"]\n[inference_c1]\nttft_p50 = "800ms"\n')
    assert report(folder).code == 1
    assert report(folder, "--thresholds", thresholds).code == 0


def test_profile_on_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    folder = write_results(tmp_path, cors=result("cors"))
    thresholds = tmp_path / "verdict.toml"
    thresholds.write_text('required = ["cors"]')
    assert report(folder, "--thresholds", thresholds).code == 0
    finished = report(folder, "--thresholds", thresholds, "--profile", "fleet")
    assert finished.code == 3 and "no wol.json" in finished.out


# --- what it writes


def test_the_markdown_has_the_form_of_the_guide(tmp_path: Path) -> None:
    arguments = ("--gpu", "L40S", "--model-name", "Sea 7B", "--quant", "Q4_K_M")
    folder = gateway_folder(
        tmp_path, cors=result("cors"), scale_to_zero=result("scale_to_zero", failed())
    )
    finished = report(folder, *arguments, "--title", "v1.0.0-rc.1", "--output", "markdown")
    saved = (folder / "baseline_report.md").read_text()
    assert finished.out == saved
    for line in (
        "## Performance Baseline — v1.0.0-rc.1",
        "- GPU: L40S",
        "- Model: Sea 7B (Q4_K_M)",
        "### Gateway Overhead",
        "### Inference (concurrency=1)",
        "### Inference (concurrency=4)",
        "### OpenAI SDK: PASS",
        "### Scale-to-Zero: FAIL",
        "### Queue Behavior: PASS",
        "### CORS: PASS",
    ):
        assert line in saved.splitlines()
    assert "- /ping p50: 1." in saved and "- Tokens/sec mean: 12" in saved
    assert "- Total latency p50: " in saved and "- TTFT p50: " in saved


def test_the_results_of_the_fleet_are_in_the_markdown(tmp_path: Path) -> None:
    report(fleet_folder(tmp_path))
    saved = (tmp_path / "baseline_report.md").read_text()
    for title in ("Authentication", "Model Routing", "Workload Routing", "Wake-on-LAN"):
        assert f"### {title}: PASS" in saved


HOSTILE = "<b>&\"'|]]>`x` \x00\x1b[31m \ud800 \u202e 漢"


def test_what_a_server_said_stays_text(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path, cors=result("cors", failed("others", HOSTILE)))
    finished = report(folder, "--junit", tmp_path / "junit.xml", "--title", "<i>&`|")
    assert finished.code == 1
    assert "\x1b" not in finished.everything and "\x00" not in finished.everything
    root = validated(tmp_path / "junit.xml")
    assert "漢" in root.xpath("string(//failure/@message)")
    markdown = (tmp_path / "baseline_report.md").read_text()
    assert "\\<b\\>" in markdown and "<b>" not in markdown.replace("\\<b", "").split("[GATE]")[0]


def validated(path: Path) -> Any:
    document = etree.parse(path)
    SCHEMA.assertValid(document)
    return document.getroot()


def test_junit_has_a_suite_for_each_result_and_a_case_for_each_check(tmp_path: Path) -> None:
    checks = (
        passed("one"),
        failed("two", "503 after 4 ms"),
        Check("three", Status.SKIP, "404"),
        Check("four", Status.WARN, "late"),
    )
    now = gateway_folder(
        tmp_path / "now",
        cors=result("cors", *checks),
        scale_to_zero=None,
        inference_c4=level(4, ttft_ms=250, seed=4),
    )
    report(now, "--baseline", gateway_folder(tmp_path / "old"), "--junit", tmp_path / "junit.xml")
    root = validated(tmp_path / "junit.xml")
    suites = {each.get("name"): each for each in root}
    assert set(suites) == {
        "gateway_overhead",
        "inference_c1",
        "inference_c4",
        "openai_sdk_test",
        "queue_behavior",
        "cors",
        "results",
        "thresholds",
        "baseline",
    }
    cors = suites["cors"]
    counts = {key: cors.get(key) for key in ("tests", "failures", "skipped", "errors")}
    assert counts == {"tests": "4", "failures": "1", "skipped": "1", "errors": "0"}
    assert cors.xpath("testcase[@name='two']/failure/@message") == ["503 after 4 ms"]
    assert cors.xpath("testcase[@name='three']/skipped/@message") == ["404"]
    assert cors.xpath("testcase[@name='four']/system-out/text()") == ["WARN: late"]
    assert float(cors.get("time")) >= 0
    assert suites["results"].xpath("testcase/error/@message")[0].startswith("no scale_to_zero")
    assert "TTFT p50" in suites["baseline"].xpath("testcase/failure/@message")[0]


def test_what_is_undecided_is_an_error_in_junit(tmp_path: Path) -> None:
    folder = gateway_folder(
        tmp_path, cors=result("cors", stopped=(Exit.INTERRUPTED, "interrupted"))
    )
    edge = overhead(ping_ms=50, edge="an edge")
    report(write_results(folder, gateway_overhead=edge), "--junit", tmp_path / "junit.xml")
    root = validated(tmp_path / "junit.xml")
    assert root.xpath("testsuite[@name='cors']/testcase[@name='verdict']/error")
    assert root.xpath("testsuite[@name='thresholds']/testcase/error")
    assert root.get("errors") == "2"


def test_json_can_be_redirected_into_the_folder_that_is_read(tmp_path: Path) -> None:
    """The shell has made the file, empty, before anything is read."""
    folder = gateway_folder(tmp_path)
    command = f"{sys.executable} {ROOT}/report.py {folder} --output json > {folder}/report.json"
    for _ in range(2):
        assert os.waitstatus_to_exitcode(os.system(command)) == 0
    assert json.loads((folder / "report.json").read_text())["verdict"] == "pass"


def test_a_page_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    finished = report(gateway_folder(tmp_path), "--html", tmp_path / "page.html")
    assert finished.code == 0, finished.err
    assert "<html" in (tmp_path / "page.html").read_text()


def test_a_file_that_cannot_be_written_is_named_and_ends_with_exit_3(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path)
    finished = report(folder, "--junit", tmp_path / "nowhere" / "junit.xml")
    assert finished.code == 3 and finished.err.endswith("directory: exit 3\n")
    assert "cannot write" in finished.err and "No such file" in finished.err


def test_links_and_pipes_are_written_to_and_stay_what_they_are(tmp_path: Path) -> None:
    folder, link, pipe = gateway_folder(tmp_path / "now"), tmp_path / "link.xml", tmp_path / "pipe"
    (tmp_path / "real.xml").write_text("x" * 100_000)
    link.symlink_to("real.xml")
    os.mkfifo(pipe)
    assert report(folder, "--junit", link).code == 0
    assert link.is_symlink() and validated(tmp_path / "real.xml") is not None
    nobody_reads = report(folder, "--junit", pipe)
    assert nobody_reads.code == 3 and pipe.is_fifo()
    command = f"cat {pipe} > {tmp_path}/heard & sleep .2; "
    command += f"{sys.executable} {ROOT}/report.py {folder} --junit {pipe} && wait"
    assert os.waitstatus_to_exitcode(os.system(command)) == 0
    assert pipe.is_fifo() and validated(tmp_path / "heard") is not None


def test_a_reader_may_close_the_pipe_early(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path)
    assert os.system(f"{sys.executable} {ROOT}/report.py {folder} | true") == 0
    assert (folder / "baseline_report.md").exists()


# --- the command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--margin", "0"],
        ["--margin", "nan"],
        ["--max-age", "-1"],
        ["--profile", "k8s"],
        ["--output", "xml"],
        ["--thresholds", "nowhere.toml"],
        ["--url", "http://host"],
        ["a", "b"],
        ["--baseline"],
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str]) -> None:
    finished = run_here(Path(), *arguments)
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith("report.py: ") and finished.err.count("\n") == 1


def test_thresholds_with_a_mistake_are_exit_2(tmp_path: Path) -> None:
    (tmp_path / "verdict.toml").write_text("[inference_c1]\nttft_p5 = '1s'\n")
    finished = report(gateway_folder(tmp_path), "--thresholds", tmp_path / "verdict.toml")
    assert finished.code == 2
    assert "[inference_c1] ttft_p5" in finished.err and finished.err.count("\n") == 1


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    command = f"{sys.executable} -X importtime {ROOT}/report.py --help > help.txt 2> imports.txt"
    assert os.system(command) == 0
    imported = {line.rpartition("|")[2].strip() for line in Path("imports.txt").open()}
    assert "argparse" in imported
    assert not imported & {"numpy", "scipy", "matplotlib", "requests", "openai"}
    assert "RESULTS_DIR" in Path("help.txt").read_text()


def test_its_examples_parse() -> None:
    examples = report_module.__doc__.partition("Examples:")[2]
    commands = [line.split() for line in examples.splitlines() if "python3" in line]
    assert len(commands) == 4
    for _, _, *arguments in commands:
        report_module.build_parser().parse_args(arguments)


def test_ctrl_c_is_exit_130(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "verdict.toml")  # reading it waits for a writer
    with start_script("report.py", tmp_path, "--thresholds", tmp_path / "verdict.toml") as process:
        with (tmp_path / "verdict.toml").open("wb"):
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


# --- whatever the files contain

STRANGE = (None, True, -1, 0, 1e14, 3.5, "x", "", [], {}, [1], {"a": 1}, "\x1b\ud800", [None])


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a document, at most four steps down."""
    if place:
        yield place
    if isinstance(value, (dict, list)) and len(place) < 4:
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            yield from places(child, (*place, key))


def damaged(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with one thing in it missing, or replaced by something strange."""
    copied = json.loads(json.dumps(document))
    *way, last = chance.choice(list(places(copied)))
    inside = copied
    for key in way:
        inside = inside[key]
    if isinstance(inside, dict) and chance.random() < 0.3:
        del inside[last]
    else:
        inside[last] = chance.choice(STRANGE)
    return copied


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_gives_a_verdict_and_no_traceback(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    results = {
        "gateway_overhead": overhead(probes=3),
        "inference_c1": level(1, requests=4),
        "queue_behavior": queue(1, 2),
        "cors": result("cors"),
    }
    old = write_results(
        tmp_path / "old", **results | {"inference_c1": level(1, requests=4, seed=2)}
    )
    thresholds, settings = read_thresholds(None), verdict.Settings()
    for _ in range(60):
        name = chance.choice(list(results))
        now = write_results(tmp_path / "now", **results | {name: damaged(results[name], chance)})
        for folder, baseline in ((now, old), (old, now)):
            made = verdict.build(
                read_folder(folder),
                [read_folder(baseline)],
                thresholds,
                settings,
                datetime.now(timezone.utc),
            )
            texts = [*text.lines(made), markdown.text(made), junit.text(made)]
            assert "".join(texts) and to_json(verdict.as_dict(made))
