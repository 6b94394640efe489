"""A result file is used when it is complete and consistent; else a line says what is wrong."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.samples import failed, gateway_folder, level, overhead, passed, result, write_results
from helpers.scripts import run_script

from livecheck.core.checks import Exit
from livecheck.core.result_file import to_json
from livecheck.report.documents import Allowance
from livecheck.report.result_files import guide_order, read_folder, short_name, title_of
from livecheck.report.verdict import verdict_of_run
from livecheck.wire.metrics import level_metrics, parse_objective, summary

Content = dict[str, Any]


def problems(folder: Path, **results: Any) -> str:
    return "\n".join(str(each) for each in read_folder(write_results(folder, **results)).problems)


def test_what_the_scripts_save_is_read(tmp_path: Path) -> None:
    folder = read_folder(gateway_folder(tmp_path))
    assert not folder.problems
    assert [each.name for each in folder.files] == [
        "gateway_overhead",
        "inference_c1",
        "inference_c4",
        "openai_sdk_test",
        "scale_to_zero",
        "queue_behavior",
    ]


def test_levels_are_in_ascending_order() -> None:
    names = ["inference_c16", "cors", "inference_c2", "inference_r0.5", "gateway_overhead"]
    assert sorted(names, key=guide_order) == [
        "gateway_overhead",
        "inference_r0.5",
        "inference_c2",
        "inference_c16",
        "cors",
    ]
    assert short_name("inference_r0.5") == "r=0.5"
    assert (
        short_name("inference_c1_d512_t3_responses") == "c=1 depth=512 turns=3 endpoint=responses"
    )
    assert title_of("inference_c16", "") == "Inference (concurrency=16)"


# --- files that are not results


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ('{"schema_version": 1, "script": "bench', "half-written"),
        ('{"schema_version": 1,', "half-written"),
        ("hello", "not JSON"),
        ("<html>", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 200_000, "nested too deeply"),
        ("12", "not a JSON object"),
        ('{"a": NaN}', "NaN, which is not a number"),
        ('{"a": 1e999}', "a number above 1e+15"),
        ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"name": "a package", "version": "1.0"}', "foreign"),
        ('{"schema_version": 2, "script": "benchmark"}', "schema_version 2"),
        ('{"schema_version": true, "script": "benchmark"}', "schema_version True"),
        ('{"schema_version": 1, "script": "benchmark"}', "tool_version is missing"),
        ('{"schema_version": 1, "script": ["a"]}', "script is"),
    ],
)
def test_a_file_that_is_not_a_result_is_named(text: str, said: str, tmp_path: Path) -> None:
    told = problems(tmp_path, inference_c1=text)
    assert told.startswith("inference_c1.json: ") and said in told
    assert len(told) < 200 and "\n" not in told


def test_only_utf_8_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    text = json.dumps(level(1))
    (tmp_path / "inference_c1.json").write_text(text, encoding="utf-8-sig")
    assert not read_folder(tmp_path).problems
    (tmp_path / "inference_c1.json").write_text(text, encoding="utf-16")
    assert "not UTF-8" in str(read_folder(tmp_path).problems[0])


def test_folders_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "cors.json").mkdir()
    (tmp_path / "auth.json").symlink_to("nowhere")
    os.mkfifo(tmp_path / "wol.json")
    (tmp_path / "queue_behavior.json").symlink_to("wol.json")
    (tmp_path / "scale_to_zero.json").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("capacity.json")  # in the current folder, because such a name may not be long
        told = {each.name: each.text for each in read_folder(tmp_path).problems}
    assert "No such file" in told.pop("auth.json")
    assert len(told) == 5 and set(told.values()) == {"not a regular file"}


def test_a_file_that_becomes_a_pipe_while_it_is_opened_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "wol.json")
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda *_, **__: regular)
    assert str(read_folder(tmp_path).problems[0]) == "wol.json: not a regular file"


@pytest.mark.parametrize(
    ("allowance", "said"),
    [
        (Allowance(bytes=30_000), "over 128 MB in all"),
        (Allowance(records=90), "over 100000 requests in all"),
        (Allowance(checks=2), "over 10000 checks in all"),
        (Allowance(kept_bytes=4000), "over 4 MB in all besides their requests"),
    ],
)
def test_all_files_together_have_a_limit(allowance: Allowance, said: str, tmp_path: Path) -> None:
    told = read_folder(gateway_folder(tmp_path), allowance=allowance).problems
    assert said in str(told[0]) and len(told) < 6


def test_a_folder_of_a_hundred_thousand_files_is_not_read(tmp_path: Path) -> None:
    for index in range(150):
        (tmp_path / f"{index}.json").touch()
    (told,) = read_folder(tmp_path).problems
    assert "holds over 100 .json files" in str(told)


@pytest.mark.parametrize("form", ["one line", "indented", "a line for each request"])
def test_a_result_may_be_formatted_in_any_way(form: str, tmp_path: Path) -> None:
    made = {"one line": json.dumps, "indented": partial(json.dumps, indent=2)}.get(form, to_json)
    text = made(
        level(1) | {"target": {"url": 'http://h/"\\[{', "model": "漢字 😀", "server": None}}
    )
    assert not problems(tmp_path, inference_c1=text)
    assert read_folder(tmp_path).files[0].target["model"] == "漢字 😀"


@pytest.mark.parametrize("end", range(1, 60))
def test_wherever_a_file_ends_too_early_it_is_half_written(end: int, tmp_path: Path) -> None:
    text = '{"a": {"b": ["c\\"", 1.5, true, {}]}, "requests": [{"d": null}, {"e": "}"}]}'
    told = problems(tmp_path, cors=text[:end])
    assert told.startswith("cors.json: half-written JSON (line 1: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": ' * 60 + "1" + "}" * 60, "nested too deeply"),
        ('{"a": [' + "[]," * 60_000 + "1]}", "more parts"),
        ('{"a": {' + ",".join(f'"{i}":1' for i in range(101_000)) + "}}", "more parts"),
        ("{" + ",".join(f'"{i}":1' for i in range(300)) + "}", "more than 200 keys"),
        ('{"a": "' + "x" * 9_000_000 + '"}', "larger than any"),
        ('{"a": 1} x', "there is more after the end"),
        ('{"a" 1}', ": is missing"),
        ('{"a": 1,}', "not JSON"),
        ('{"a": [1,]}', "not JSON"),
        ('{"requests": [1,]}', "not JSON"),
        ('{"a": 1]', "} is missing"),
        ("{a: 1}", "a name in double quotes is missing"),
        ('{"a": [[1e999]]}', "a number above 1e+15"),
        ('{"requests": [{"a": 1, "a": 2}]}', "twice"),
        ('{"requests": [{"a": NaN}]}', "NaN"),
    ],
)
def test_each_piece_of_a_file_has_a_limit(text: str, said: str, tmp_path: Path) -> None:
    told = problems(tmp_path, cors=text)
    assert told.startswith("cors.json: ") and said in told and len(told) < 200


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "cors.json").open("wb") as file:
        file.truncate(10 * 2**30)  # a hole: it takes no room on the disk
    assert "too large" in str(read_folder(tmp_path).problems[0])


def test_the_json_of_report_py_may_be_in_the_folder(tmp_path: Path) -> None:
    own = '{"schema_version": 1, "script": "report"}'
    assert not problems(gateway_folder(tmp_path), report=own)


def test_levels_with_a_work_of_their_own_are_known_in_a_list_too(tmp_path: Path) -> None:
    deep, usual = level(1), level(1)
    deep["metrics"] |= {"depth_tokens": 512, "turns": 3, "endpoint": "responses"}
    files = {"inference_c1": usual, "inference_c1_d512_t3_responses": deep}
    folder = read_folder(write_results(tmp_path, all={"levels": [deep, usual]}, **files))
    assert not folder.problems and "several levels" in folder.notes[0]
    files["inference_c1_d513"] = files.pop("inference_c1_d512_t3_responses")
    assert "measured with depth '512'" in problems(tmp_path / "other", **files)


def test_a_file_that_repeats_several_levels_is_a_note(tmp_path: Path) -> None:
    both = {"levels": [level(1), level(4)]}
    results = {"all": both, "inference_c1": level(1), "inference_c4": level(4)}
    folder = read_folder(write_results(tmp_path, **results))
    assert not folder.problems
    assert "several levels" in folder.notes[0]


def test_a_level_that_only_such_a_file_has_is_named(tmp_path: Path) -> None:
    both = {"levels": [level(1), level(8, errors=["500"] * 30)]}
    told = problems(tmp_path, all=both, inference_c1=level(1))
    assert told == "all.json: holds inference_c8 without a file of its own: add that file"
    assert "not all objects" in problems(tmp_path, all={"levels": [1]}, inference_c1=level(1))


# --- contradictions within a file


def changed(content: Content, **values: Any) -> Content:
    return content | values


def with_figures(content: Content, **values: Any) -> Content:
    return content | {"metrics": content["metrics"] | values}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: changed(level(1), verdict="fail"), "verdict 'fail' and exit_code 0"),
        (lambda: changed(level(1), exit_code=1, verdict="fail"), "result in pass"),
        (lambda: changed(level(1), exit_code=7), "exit_code 7"),
        (lambda: changed(level(1), interrupted=True), "interrupted True"),
        (lambda: changed(level(1), error="cut off"), "ended early"),
        (lambda: changed(level(1), checks=[]), "result in undecided (0 without FAIL)"),
        (
            lambda: changed(level(1, checks=(failed("requests"),)), exit_code=0, verdict="pass"),
            "FAIL in requests",
        ),
        (lambda: with_figures(level(1), concurrency=8), "measured at concurrency 8"),
        (lambda: level(1, options={"concurrency": [4]}), "run with --concurrency [4]"),
        (lambda: with_figures(level(1), requests=31), "requests 31, the requests give 30"),
        (lambda: with_figures(level(1), succeeded=29), "succeeded 29"),
        (lambda: with_figures(level(1), ttft_ms=summary([1.0] * 30)), "ttft_ms.mean 1.0"),
        (lambda: with_figures(level(1), e2e_ms=None), "no e2e_ms"),
        (lambda: changed(level(1), requests=[{}]), "record"),
        (lambda: changed(level(1), requests=[1]), "not all objects"),
        (lambda: changed(level(1), started_at="yesterday"), "not a time"),
        (lambda: changed(level(1), started_at="2026-01-01T00:00:00"), "no time zone"),
        (lambda: changed(level(1), duration_s=-1), "duration_s"),
        (lambda: changed(level(1), target=None), "target is missing"),
        (lambda: changed(level(1), checks=[{"status": "OK"}]), "status 'OK'"),
        (lambda: changed(level(1), script="test_cors"), "test_cors.py saves no file of this name"),
        (lambda: changed(level(1), script="k6"), "foreign"),
        (lambda: overhead(), "concurrency missing"),
    ],
)
def test_a_file_that_contradicts_itself_is_not_used(
    make: Callable[[], Content], said: str, tmp_path: Path
) -> None:
    told = problems(tmp_path, inference_c1=make())
    assert told.startswith("inference_c1.json: ") and said in told


def with_summary(content: Content, key: str, **values: Any) -> Content:
    """With one summary that says something else."""
    return with_figures(content, **{key: content["metrics"][key] | values})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: with_summary(level(1), "ttft_ms", p95=1), "ttft_ms.p95 1, "),
        (lambda: with_summary(level(1), "tokens_per_s", mean=1000), "tokens_per_s.mean 1000"),
        (lambda: with_summary(level(1), "itl_ms", p99=1), "itl_ms.p99 1, "),
        (lambda: with_summary(level(1), "connect_ms", max=None), "connect_ms.max missing"),
        (lambda: with_figures(level(1), output_tokens_per_s=900), "output_tokens_per_s 900"),
        (lambda: with_figures(level(1), requests_per_s=900), "requests_per_s 900"),
        (
            lambda: with_figures(level(1), goodput_per_s=900),
            "goodput_per_s 900, the requests give nothing",
        ),
        (
            lambda: with_figures(level(1, requests=1000, errors=["500"]), error_rate=0),
            "error_rate 0, the requests give 0.001",
        ),
    ],
)
def test_every_figure_that_can_have_a_threshold_is_computed_again(
    make: Callable[[], Content], said: str, tmp_path: Path
) -> None:
    told = problems(tmp_path, inference_c1=make())
    assert told.startswith("inference_c1.json: contradictory: ") and said in told


def test_goodput_is_computed_again_with_the_objectives_of_the_run(tmp_path: Path) -> None:
    content = level(1, options={"slo": ["ttft=100ms"]})
    figures = level_metrics(content["requests"], [parse_objective("ttft=100ms")])
    assert problems(tmp_path, inference_c1=with_figures(content, **figures)) == ""
    content["options"]["slo"] = ["ttft=1ms"]
    told = problems(tmp_path, inference_c1=with_figures(content, **figures))
    assert "goodput_per_s" in told


@pytest.mark.parametrize("key", ["ping_ms", "ping_net_ms", "health_net_ms"])
def test_the_gateway_s_figures_are_computed_again(key: str, tmp_path: Path) -> None:
    content = overhead(ping_ms=80)
    content["metrics"]["gateway"][key]["p99"] = 1.0
    assert f"{key}.p99 1.0" in problems(tmp_path, gateway_overhead=content)


def test_probes_are_counted_again(tmp_path: Path) -> None:
    content = overhead()
    content["requests"].pop()
    told = problems(tmp_path, gateway_overhead=content)
    assert "health_ms.n 50, the requests give 49" in told


@pytest.mark.parametrize(
    "stopped",
    [
        (Exit.INTERRUPTED, "interrupted"),
        (Exit.TERMINATED, "terminated"),
        (Exit.UNDECIDED, "cannot reach it"),
        (Exit.USAGE, "CORS_ORIGIN is not an origin"),
    ],
)
@pytest.mark.parametrize("checks", [(), (passed(),), (failed(),)])
def test_a_run_that_ended_early_is_not_a_contradiction(
    stopped: tuple[Exit, str], checks: Any, tmp_path: Path
) -> None:
    content = samples.script_result("test_cors", "cors", checks, stopped=stopped)
    assert problems(tmp_path, cors=content) == ""


def test_control_characters_and_impossible_times_do_no_harm(tmp_path: Path) -> None:
    content = result("cors", failed("evil", "\x1b[2J\x1b]0;x\x07 red\u202e"))
    content["started_at"] = "0001-01-01T00:00:00+23:59"
    assert "before the year 1" in problems(tmp_path, cors=content)
    content["started_at"] = "2026-01-01T00:00:00Z"
    folder = read_folder(write_results(tmp_path, cors=content))
    assert folder.files[0].checks[0].detail.isprintable()


# --- contradictions between files


def test_one_report_is_about_one_deployment(tmp_path: Path) -> None:
    elsewhere = {"url": "http://elsewhere:8000", "model": "sea-7b", "server": None}
    told = problems(gateway_folder(tmp_path), cors=result("cors", target=elsewhere))
    assert told == (
        "cors.json: contradictory: its target is http://elsewhere:8000, the others have "
        "http://127.0.0.1:8000"
    )
    assert not read_folder(tmp_path, one_target=False).problems


def test_each_other_deployment_is_named_with_its_own_files(tmp_path: Path) -> None:
    def at(url: str) -> dict[str, Any]:
        return {"target": {"url": url, "model": "sea-7b", "server": None}}

    names = {"cors": "http://a:1", "openai_sdk_test": "http://b:1", "scale_to_zero": "http://a:1"}
    others = {name: result(name, **at(url)) for name, url in names.items()}
    found = read_folder(gateway_folder(tmp_path, **others)).problems
    assert sorted((each.name, each.text.partition(", the others")[0]) for each in found) == [
        ("openai_sdk_test.json", "contradictory: its target is http://b:1"),
        ("scale_to_zero.json, cors.json", "contradictory: their target is http://a:1"),
    ]


def test_a_slash_at_the_end_does_not_make_another_target(tmp_path: Path) -> None:
    same = {"url": f"{samples.URL}/", "model": "sea-7b", "server": None}
    assert not problems(gateway_folder(tmp_path), cors=result("cors", target=same))


def test_the_fleet_may_have_another_target_than_the_gateway(tmp_path: Path) -> None:
    target = {"url": "https://ai.example", "model": "class:fast", "server": None}
    results = {name: result(name, target=target) for name in samples.FLEET_SCRIPTS}
    assert not problems(gateway_folder(tmp_path), **results)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"target": {"url": samples.URL, "model": "sky-70b"}}, "model is sky-70b"),
        ({"tool_version": "9.0"}, "tool version is 9.0"),
        ({"age": timedelta(hours=80)}, "started 80 h before"),
    ],
)
def test_one_report_is_about_one_test(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    told = problems(gateway_folder(tmp_path), cors=result("cors", **other))
    assert told.startswith("cors.json: contradictory: ") and said in told


def test_the_longest_time_of_one_test_can_be_set(tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path, cors=result("cors", age=timedelta(hours=80)))
    assert not read_folder(folder, max_span_h=100).problems


def test_a_folder_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    assert "No such file" in str(read_folder(tmp_path / "nowhere").problems[0])


# --- real files


def test_a_run_that_could_not_reach_its_target_is_read_as_undecided() -> None:
    finished = run_script("benchmark.py", "--url", "http://127.0.0.1:9", "--concurrency", 1, 4)
    assert finished.code == 3
    folder = read_folder(finished.results)
    assert not folder.problems
    assert {each.exit_code for each in folder.files} == {Exit.UNDECIDED}
    assert len(folder.files) == 3


def test_a_run_with_a_file_that_cannot_be_used_has_not_passed(tmp_path: Path) -> None:
    """Nobody knows what was in it; a failure of the others stays one."""
    folder = gateway_folder(tmp_path)
    assert verdict_of_run(read_folder(folder)) == "pass"
    (folder / "cors.json").write_text('{"schema_version": 1, "script": "co')
    assert verdict_of_run(read_folder(folder)) == "undecided"
    write_results(folder, openai_sdk_test=result("openai_sdk_test", failed()))
    assert verdict_of_run(read_folder(folder)) == "fail"
