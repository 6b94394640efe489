"""Result files are read back whole and consistent, or not at all, with a line that says why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.samples import checked, failed, gateway, level, passed, sound, write
from helpers.scripts import run_script

from livecheck.core.checks import Exit
from livecheck.report.result_files import Folder, level_title, place, read_folder, short_name
from livecheck.wire.metrics import level_metrics, parse_objective, summary

Content = dict[str, Any]


def problems(folder: Path, **documents: Any) -> str:
    return "\n".join(str(each) for each in read_folder(write(folder, **documents)).problems)


def test_what_the_scripts_save_is_read(tmp_path: Path) -> None:
    folder = read_folder(sound(tmp_path))
    assert not folder.problems
    assert [each.name for each in folder.documents] == [
        "gateway_overhead",
        "inference_c1",
        "inference_c4",
        "openai_sdk_test",
        "scale_to_zero",
        "queue_behavior",
    ]


def test_levels_stand_in_their_order() -> None:
    names = ["inference_c16", "cors", "inference_c2", "inference_r0.5", "gateway_overhead"]
    assert sorted(names, key=place) == [
        "gateway_overhead",
        "inference_r0.5",
        "inference_c2",
        "inference_c16",
        "cors",
    ]
    assert short_name("inference_r0.5") == "r=0.5"
    assert level_title("inference_c16") == "Inference (concurrency=16)"


# --- files that are no results


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ('{"schema_version": 1, "script": "bench', "half-written"),
        ('{"schema_version": 1,', "half-written"),
        ("hello", "no JSON"),
        ("<html>", "no JSON"),
        ("[]", "no JSON object"),
        ("[" * 200_000, "nested too deeply"),
        ("12", "no JSON object"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "beyond all measure"),
        ('{"a": ' + "9" * 5000 + "}", "no number"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"name": "a package", "version": "1.0"}', "foreign"),
        ('{"schema_version": 2, "script": "benchmark"}', "schema_version 2"),
        ('{"schema_version": true, "script": "benchmark"}', "schema_version True"),
        ('{"schema_version": 1, "script": "benchmark"}', "tool_version is missing"),
        ('{"schema_version": 1, "script": ["a"]}', "script is"),
    ],
)
def test_what_is_no_result_is_named(text: str, said: str, tmp_path: Path) -> None:
    told = problems(tmp_path, inference_c1=text)
    assert told.startswith("inference_c1.json: ") and said in told
    assert len(told) < 200 and "\n" not in told


def test_no_encoding_but_utf_8_with_or_without_its_mark(tmp_path: Path) -> None:
    text = json.dumps(level(1))
    (tmp_path / "inference_c1.json").write_text(text, encoding="utf-8-sig")
    assert not read_folder(tmp_path).problems
    (tmp_path / "inference_c1.json").write_text(text, encoding="utf-16")
    assert "not UTF-8" in str(read_folder(tmp_path).problems[0])


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "cors.json").mkdir()
    (tmp_path / "auth.json").symlink_to("nowhere")
    os.mkfifo(tmp_path / "wol.json")
    told = {each.name: each.text for each in read_folder(tmp_path).problems}
    assert told["cors.json"] == told["wol.json"] == "not a regular file"
    assert "No such file" in told["auth.json"]


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "cors.json").open("wb") as file:
        file.truncate(10 * 2**30)  # a hole: it takes no room
    assert "too large" in str(read_folder(tmp_path).problems[0])


def test_the_report_s_own_json_may_lie_beside_the_results(tmp_path: Path) -> None:
    assert not problems(sound(tmp_path), report='{"schema_version": 1, "script": "report"}')


def test_several_levels_in_one_file_are_a_note(tmp_path: Path) -> None:
    both = {"levels": [level(1), level(4)]}
    folder = read_folder(write(tmp_path, all=both, inference_c1=level(1), inference_c4=level(4)))
    assert not folder.problems
    assert "several levels" in folder.notes[0]


def test_a_level_that_only_such_a_file_has_is_named(tmp_path: Path) -> None:
    both = {"levels": [level(1), level(8, errors=["500"] * 30)]}
    told = problems(tmp_path, all=both, inference_c1=level(1))
    assert told == "all.json: holds inference_c8 without a file of its own: copy it too"
    assert "not all objects" in problems(tmp_path, all={"levels": [1]}, inference_c1=level(1))


# --- contradictions within a file


def changed(document: Content, **values: Any) -> Content:
    return document | values


def with_figures(document: Content, **values: Any) -> Content:
    return document | {"metrics": document["metrics"] | values}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (lambda: changed(level(1), verdict="fail"), "verdict 'fail' and exit_code 0"),
        (lambda: changed(level(1), exit_code=1, verdict="fail"), "come to pass"),
        (lambda: changed(level(1), exit_code=7), "exit_code 7"),
        (lambda: changed(level(1), interrupted=True), "interrupted True"),
        (lambda: changed(level(1), error="cut off"), "stopped"),
        (lambda: changed(level(1), checks=[]), "0 checks come to undecided"),
        (
            lambda: changed(level(1, checks=(failed("requests"),)), exit_code=0, verdict="pass"),
            "FAIL in requests",
        ),
        (lambda: with_figures(level(1), concurrency=8), "measured at concurrency 8"),
        (lambda: level(1, options={"concurrency": [4]}), "run with --concurrency [4]"),
        (lambda: with_figures(level(1), requests=31), "requests 31, the requests 30"),
        (lambda: with_figures(level(1), succeeded=29), "succeeded 29"),
        (lambda: with_figures(level(1), ttft_ms=summary([1.0] * 30)), "ttft_ms.mean 1.0"),
        (lambda: with_figures(level(1), e2e_ms=None), "no e2e_ms"),
        (lambda: changed(level(1), requests=[{}]), "record"),
        (lambda: changed(level(1), requests=[1]), "not all objects"),
        (lambda: changed(level(1), started_at="yesterday"), "no time"),
        (lambda: changed(level(1), started_at="2026-01-01T00:00:00"), "no time zone"),
        (lambda: changed(level(1), duration_s=-1), "duration_s"),
        (lambda: changed(level(1), target=None), "target is missing"),
        (lambda: changed(level(1), checks=[{"status": "OK"}]), "status 'OK'"),
        (lambda: changed(level(1), script="test_cors"), "no result of test_cors.py"),
        (lambda: changed(level(1), script="k6"), "foreign"),
        (lambda: gateway(), "concurrency missing"),
    ],
)
def test_a_file_that_contradicts_itself_is_not_believed(
    document: Callable[[], Content], said: str, tmp_path: Path
) -> None:
    told = problems(tmp_path, inference_c1=document())
    assert told.startswith("inference_c1.json: ") and said in told


def touched(document: Content, key: str, **values: Any) -> Content:
    """With one summary that says something else."""
    return with_figures(document, **{key: document["metrics"][key] | values})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (lambda: touched(level(1), "ttft_ms", p95=1), "ttft_ms.p95 1, "),
        (lambda: touched(level(1), "tokens_per_s", mean=1000), "tokens_per_s.mean 1000"),
        (lambda: touched(level(1), "itl_ms", p99=1), "itl_ms.p99 1, "),
        (lambda: touched(level(1), "connect_ms", max=None), "connect_ms.max missing"),
        (lambda: with_figures(level(1), output_tokens_per_s=900), "output_tokens_per_s 900"),
        (lambda: with_figures(level(1), requests_per_s=900), "requests_per_s 900"),
        (lambda: with_figures(level(1), goodput_per_s=900), "goodput_per_s 900, the requests none"),
        (
            lambda: with_figures(level(1, requests=1000, errors=["500"]), error_rate=0),
            "error_rate 0, the requests 0.001",
        ),
    ],
)
def test_every_figure_that_a_threshold_can_be_on_is_made_again(
    document: Callable[[], Content], said: str, tmp_path: Path
) -> None:
    told = problems(tmp_path, inference_c1=document())
    assert told.startswith("inference_c1.json: contradictory: ") and said in told


def test_goodput_is_made_again_with_the_objectives_of_the_run(tmp_path: Path) -> None:
    document = level(1, options={"slo": ["ttft=100ms"]})
    figures = level_metrics(document["requests"], [parse_objective("ttft=100ms")])
    assert problems(tmp_path, inference_c1=with_figures(document, **figures)) == ""
    document["options"]["slo"] = ["ttft=1ms"]
    told = problems(tmp_path, inference_c1=with_figures(document, **figures))
    assert "goodput_per_s" in told


@pytest.mark.parametrize("key", ["ping_ms", "ping_net_ms", "health_net_ms"])
def test_so_are_those_of_the_gateway(key: str, tmp_path: Path) -> None:
    document = gateway(ping_ms=80)
    document["metrics"]["gateway"][key]["p99"] = 1.0
    assert f"{key}.p99 1.0" in problems(tmp_path, gateway_overhead=document)


def test_probes_are_counted_again(tmp_path: Path) -> None:
    document = gateway()
    document["requests"].pop()
    assert "health_ms.n 50, the requests 49" in problems(tmp_path, gateway_overhead=document)


@pytest.mark.parametrize(
    "stopped",
    [
        (Exit.INTERRUPTED, "interrupted"),
        (Exit.TERMINATED, "terminated"),
        (Exit.UNDECIDED, "cannot reach it"),
        (Exit.USAGE, "CORS_ORIGIN is no origin"),
    ],
)
@pytest.mark.parametrize("checks", [(), (passed(),), (failed(),)])
def test_a_run_that_ended_before_its_time_is_no_contradiction(
    stopped: tuple[Exit, str], checks: Any, tmp_path: Path
) -> None:
    document = samples.finished("test_cors", "cors", checks, stopped=stopped)
    assert problems(tmp_path, cors=document) == ""


def test_terminals_and_calendars_are_safe(tmp_path: Path) -> None:
    document = checked("cors", failed("evil", "\x1b[2J\x1b]0;x\x07 red\u202e"))
    document["started_at"] = "0001-01-01T00:00:00+23:59"
    assert "beyond all calendars" in problems(tmp_path, cors=document)
    document["started_at"] = "2026-01-01T00:00:00Z"
    folder = read_folder(write(tmp_path, cors=document))
    assert folder.documents[0].checks[0].detail.isprintable()


# --- contradictions between files


def test_one_report_is_about_one_deployment(tmp_path: Path) -> None:
    elsewhere = {"url": "http://elsewhere:8000", "model": "sea-7b", "server": None}
    told = problems(sound(tmp_path), cors=checked("cors", target=elsewhere))
    assert told == (
        "cors.json: contradictory: target http://elsewhere:8000, the others' is "
        "http://127.0.0.1:8000"
    )
    assert not read_folder(tmp_path, one_target=False).problems


def test_a_slash_at_the_end_is_no_other_target(tmp_path: Path) -> None:
    same = {"url": f"{samples.URL}/", "model": "sea-7b", "server": None}
    assert not problems(sound(tmp_path), cors=checked("cors", target=same))


def test_the_fleet_is_another_deployment(tmp_path: Path) -> None:
    target = {"url": "https://ai.example", "model": "class:fast", "server": None}
    documents = {name: checked(name, target=target) for name in samples.FLEET_SCRIPTS}
    assert not problems(sound(tmp_path), **documents)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"target": {"url": samples.URL, "model": "sky-70b"}}, "model sky-70b"),
        ({"tool_version": "9.0"}, "tool version 9.0"),
        ({"age": timedelta(hours=80)}, "begun 80 h before"),
    ],
)
def test_one_report_is_about_one_test(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    told = problems(sound(tmp_path), cors=checked("cors", **other))
    assert told.startswith("cors.json: contradictory: ") and said in told


def test_how_far_apart_one_test_may_be_can_be_said(tmp_path: Path) -> None:
    folder = sound(tmp_path, cors=checked("cors", age=timedelta(hours=80)))
    assert not read_folder(folder, far_apart_h=100).problems


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    folder: Folder = read_folder(tmp_path / "nowhere")
    assert "No such file" in str(folder.problems[0])


# --- the real thing


def test_a_run_that_could_not_reach_anything_is_read_as_undecided(tmp_path: Path) -> None:
    finished = run_script("benchmark.py", "--url", "http://127.0.0.1:9", "--concurrency", 1, 4)
    assert finished.code == 3
    folder = read_folder(finished.results)
    assert not folder.problems
    assert {each.exit_code for each in folder.documents} == {Exit.UNDECIDED}
    assert len(folder.documents) == 3
