"""report.py beside a baseline: what is compared, and what a change is called."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.report_here import as_json, gate_line, report, report_process
from helpers.samples import (
    gateway_folder,
    level,
    write_results,
)
from helpers.scripts import run_script
from lxml import etree

from livecheck.core.checks import Exit
from livecheck.wire import metrics
from reference import running


def test_the_gate_line_names_the_worst_change_that_counts(tmp_path: Path) -> None:
    """Not a larger one that is only noise, and not that of the first level."""
    slow, wild = level(4, 70, ttft_ms=260, seed=8), level(8, 70, ttft_ms=216, seed=18)
    for record in wild["requests"][3::20]:
        for key in ("ttft_ms", "e2e_ms"):
            record[key] *= 5
    wild["metrics"] |= metrics.level_metrics(wild["requests"])
    old = {"inference_c4": level(4, 70, 200, seed=7), "inference_c8": level(8, 70, 200, seed=17)}
    now = gateway_folder(tmp_path / "now", inference_c4=slow, inference_c8=wild)
    finished = report(now, "--baseline", gateway_folder(tmp_path / "old", **old))
    assert finished.code == 1
    assert "worst: c=4 against the baseline: TTFT p50 +30" in gate_line(finished)


def without_rate(document: dict[str, Any]) -> dict[str, Any]:
    for record in document["requests"]:
        record["tokens_per_s"] = record["tpot_ms"] = None
    document["metrics"] |= metrics.level_metrics(document["requests"])
    return document


def in_steps(document: dict[str, Any]) -> dict[str, Any]:
    """Each of the 16 events has three tokens."""
    for record in document["requests"]:
        events = len(record["event_ms"])
        record |= {"output_events": events, "output_arrivals": events}
        record |= {"output_tokens": 3 * events, "shown_tokens": 3 * events}
    document["metrics"] |= metrics.level_metrics(document["requests"])
    return document


@pytest.mark.parametrize("which", [("now",), ("old",), ("now", "old")])
def test_the_time_of_a_step_is_not_compared_with_that_of_a_token(
    which: tuple[str, ...], tmp_path: Path
) -> None:
    documents = {name: level(4, seed=seed) for name, seed in (("now", 5), ("old", 6))}
    for name in which:
        in_steps(documents[name])
    now, old = (
        gateway_folder(tmp_path / name, inference_c4=documents[name]) for name in ("now", "old")
    )
    comparison = as_json(now, "--baseline", old)["baseline"]
    compared = {e["metric"] for e in comparison["changes"] if e["document"] == "inference_c4"}
    assert "tpot_ms" in compared and "itl_ms" not in compared
    said = "inference_c4: ITL is not compared, TPOT is: up to 2.9 tokens come at once"
    assert any(said in note for note in comparison["notes"])


@pytest.mark.parametrize("gone", ["now", "old"])
def test_a_figure_that_only_one_run_has_is_undecided(gone: str, tmp_path: Path) -> None:
    documents = {name: level(4, seed=seed) for name, seed in (("now", 5), ("old", 6))}
    without_rate(documents[gone])
    now, old = (
        gateway_folder(tmp_path / name, inference_c4=documents[name]) for name in ("now", "old")
    )
    finished = report(now, "--baseline", old)
    assert finished.code == 3
    assert "no decode rate p50 in " in gate_line(finished)


def test_another_prompt_in_the_same_file_is_not_compared(tmp_path: Path) -> None:
    documents = [level(4, seed=5), level(4, seed=6), level(4, seed=7)]
    for document, tokens in zip(documents, (200, 209, 220), strict=True):
        for record in document["requests"]:
            record["prompt_tokens"] = tokens
    now, near, far = (
        gateway_folder(tmp_path / str(index), inference_c4=document)
        for index, document in enumerate(documents)
    )
    assert report(now, "--baseline", near).code == 0
    finished = report(now, "--baseline", far)
    assert finished.code == 3 and "prompt tokens 200 here, 220 there" in " ".join(
        finished.out.split()
    )


def test_fewer_runs_of_one_level_are_a_note(tmp_path: Path) -> None:
    runs = [gateway_folder(tmp_path / f"old{i}", inference_c4=level(4, seed=i)) for i in (2, 3)]
    (runs[0] / "inference_c4.json").unlink()
    finished = report(gateway_folder(tmp_path / "now"), "--baseline", *runs)
    assert "inference_c4 is only in 1 of the 2 baseline runs" in " ".join(finished.out.split())


def test_a_slower_release_fails_and_says_by_how_much(tmp_path: Path) -> None:
    old, now = (
        gateway_folder(tmp_path / "old"),
        gateway_folder(tmp_path / "now", inference_c1=level(1, ttft_ms=125)),
    )
    finished = report(now, "--baseline", old)
    assert finished.code == 1
    rows = [line for line in finished.out.splitlines() if "WORSE" in line]
    assert rows[0].split()[:3] == ["c=1", "TTFT", "p50"]
    assert "TTFT p50 +25" in gate_line(finished)


def test_the_same_release_is_the_same(tmp_path: Path) -> None:
    old = gateway_folder(
        tmp_path / "old", inference_c1=level(1, seed=8), inference_c4=level(4, seed=8)
    )
    now = gateway_folder(tmp_path / "now", inference_c4=level(4, seed=5))
    finished = report(now, "--baseline", old)
    assert finished.code == 0, finished.out
    assert "one baseline session: the intervals show only the noise within it" in finished.out


def baseline_runs(folder: Path, *days_ago: float, ttft_ms: float = 100) -> list[Path]:
    """Runs of one release, made so many days ago, and alike but for noise."""
    found = []
    for i, days in enumerate(days_ago, 10):
        age = timedelta(days=days)
        levels = {f"inference_c{c}": level(c, 30, ttft_ms, seed=i, age=age) for c in (1, 4)}
        found.append(write_results(folder / f"old{i}", **levels))
    return found


def run_file(session: str, repeat: int = 0, **other: object) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat()
    about = {"session": session, "repeat": repeat, "started_at": now, "title": "v1", **other}
    return {"schema_version": 1, "verdict": "pass", "settings": {}, **about}


def test_several_sessions_of_a_baseline_are_one_baseline(tmp_path: Path) -> None:
    runs = baseline_runs(tmp_path, 1, 2, 3)
    now = gateway_folder(tmp_path / "now", inference_c4=level(4, seed=5))
    content = as_json(now, "--baseline", runs[0], runs[1], "--baseline", runs[2])
    assert content["exit_code"] == 0
    assert {change["sessions"] for change in content["baseline"]["changes"]} == {3}
    assert [each["session"] for each in content["baseline"]["runs"]] == [3, 2, 1]
    said = "3 baseline sessions: the intervals include the spread between sessions"
    assert said in report(now, "--baseline", *runs).out


@pytest.mark.parametrize("shared", ["the hour", "the session of run.json"])
def test_repeats_are_one_session(shared: str, tmp_path: Path) -> None:
    days = (1, 1.01, 1.02) if shared == "the hour" else (1, 2, 3)
    runs = baseline_runs(tmp_path, *days)
    if shared != "the hour":
        for repeat, each in enumerate(runs):
            write_results(each, run=run_file("s-1", repeat))
    now = gateway_folder(tmp_path / "now", inference_c4=level(4, seed=5))
    content = as_json(now, "--baseline", *runs)
    assert {(c["runs"], c["sessions"]) for c in content["baseline"]["changes"]} == {(3, 1)}
    assert {each["session"] for each in content["baseline"]["runs"]} == {1}
    assert "one baseline session of 3 runs: the int" in report(now, "--baseline", *runs).out


def test_what_the_spread_between_sessions_could_explain_needs_another_session(
    tmp_path: Path,
) -> None:
    """In every form, and with an exit code that is neither a pass nor a failure."""
    (old,) = baseline_runs(tmp_path, 1)
    levels = {"inference_c1": level(1, ttft_ms=112), "inference_c4": level(4, seed=5)}
    now = gateway_folder(tmp_path / "now", **levels)
    junit_xml, page = tmp_path / "junit.xml", tmp_path / "page.html"
    finished = report(now, "--baseline", old, "--junit", junit_xml, "--html", page)
    out = " ".join(finished.out.split())
    assert finished.code == 3 and "+1 session" in out
    assert "needs another session: sessions of the same system may differ by 5 %" in out
    assert max(map(len, finished.out.splitlines()[:-1])) <= 80
    assert "needs another session" in (now / "baseline_report.md").read_text()
    assert "needs another session" in page.read_text()
    errors = etree.parse(junit_xml).xpath("//testsuite[@name='baseline']//error/@type")
    assert "needs another session" in errors
    content = as_json(now, "--baseline", old)
    worst = content["baseline"]["changes"][0]
    assert (worst["finding"], worst["metric"]) == ("needs another session", "ttft_ms")
    assert report(now, "--baseline", old, "--session-spread", 1).code == 1
    others = baseline_runs(tmp_path / "more", 2, 3, 4)
    assert report(now, "--baseline", old, *others).code == 1


def test_a_repeat_of_this_run_is_not_a_baseline(tmp_path: Path) -> None:
    (old,) = baseline_runs(tmp_path, 0.01)
    now = gateway_folder(tmp_path / "now", inference_c4=level(4, seed=5))
    for repeat, each in enumerate((old, now)):
        write_results(each, run=run_file("s-1", repeat))
    finished = report(now, "--baseline", old)
    assert finished.code == 3 and "a repeat of this run" in " ".join(finished.out.split())


def test_the_report_says_which_runs_are_the_baseline(tmp_path: Path) -> None:
    old, older = baseline_runs(tmp_path, 1, 2)
    write_results(old, run=run_file("s-2", title="v1.3", verdict="fail"))
    now = gateway_folder(tmp_path / "now", inference_c4=level(4, seed=5))
    out = "".join(report(now, "--baseline", old, older).out.split())  # a long path is wrapped
    assert re.search(rf"{old}:[\d-]{{10}}\d\d:\d\dUTC,FAIL,session2,v1.3", out)
    assert re.search(rf"{older}:.{{18}},PASS,session1", out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"session": None}, "its session is missing"),
        ({"session": ""}, "its session is empty"),
        ({"repeat": -1}, "its repeat is -1"),
        ({"started_at": "yesterday"}, "which is not a time"),
        ({"verdict": "fine"}, "which no run ends with"),
        ({"settings": []}, "its settings is []"),
    ],
)
def test_a_damaged_run_json_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = gateway_folder(tmp_path, run={**run_file("s-1"), **change})
    finished = report(folder)
    assert finished.code == 3 and said in " ".join(finished.out.split())


def test_with_too_few_requests_it_is_undecided_and_says_how_many(tmp_path: Path) -> None:
    noisy = {"requests": 10, "noise": 0.2}
    old = gateway_folder(tmp_path / "old", inference_c1=level(1, seed=2, **noisy))
    now = gateway_folder(tmp_path / "now", inference_c1=level(1, **noisy))
    finished = report(now, "--baseline", old)
    assert finished.code == 3
    assert "requests in each run would be" in finished.out
    assert report(now, "--baseline", old, "--margin", 60).code == 0


def test_the_margin_can_be_set(tmp_path: Path) -> None:
    old, now = (
        gateway_folder(tmp_path / "old"),
        gateway_folder(tmp_path / "now", inference_c1=level(1, ttft_ms=125)),
    )
    steady = ("--session-spread", 1)
    assert report(now, "--baseline", old, *steady, "--margin", 20).code == 1
    assert report(now, "--baseline", old, "--margin", 20).code == 3
    assert report(now, "--baseline", old, "--margin", 30).code == 0


DIFFERENT = {
    "model": (
        {"target": {"url": samples.URL, "model": "sky-70b"}},
        "model sea-7b here, sky-70b there",
    ),
    "prompt": ({"options": {"prompt": "Ho"}}, "prompt Hi here, Ho there"),
    "max_tokens": ({"options": {"max_tokens": 99}}, "--max-tokens 16 here, 99 there"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_run_of_something_else_is_not_compared(what: str, tmp_path: Path) -> None:
    options, said = DIFFERENT[what]
    old = write_results(tmp_path / "old", inference_c1=level(1, seed=3, **options))
    content = as_json(gateway_folder(tmp_path / "now"), "--baseline", old)
    assert content["exit_code"] == 3
    assert content["baseline"]["changes"] == []
    assert said in content["baseline"]["criteria"][0]["detail"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("load_model", "open loop", "load model closed loop here, open loop there"),
        ("prompt", "same", "prompts unique here, same there"),
    ],
)
def test_another_load_is_not_compared(key: str, value: str, said: str, tmp_path: Path) -> None:
    document = level(1, seed=3)
    document["metrics"][key] = value
    content = as_json(
        gateway_folder(tmp_path / "now"),
        "--baseline",
        write_results(tmp_path / "old", inference_c1=document),
    )
    assert content["exit_code"] == 3
    assert said in content["baseline"]["criteria"][0]["detail"]


def test_another_way_to_count_tokens_is_not_compared(tmp_path: Path) -> None:
    document = level(1, seed=3)
    for record in document["requests"]:
        record["token_source"] = "events"
    old = write_results(tmp_path / "old", inference_c1=document)
    content = as_json(gateway_folder(tmp_path / "now"), "--baseline", old)
    assert content["exit_code"] == 3
    assert "token source usage here, events there" in content["baseline"]["criteria"][0]["detail"]


def bad_baselines(folder: Path) -> list[tuple[Sequence[object], str]]:
    stopped = level(1, seed=2, stopped=(Exit.INTERRUPTED, "interrupted"))
    old = gateway_folder(folder / "old")
    return [
        ([folder / "nowhere"], "No such file"),
        ([write_results(folder / "empty")], "no result of benchmark.py"),
        ([write_results(folder / "half", inference_c1='{"a":')], "half-written"),
        ([write_results(folder / "cut", inference_c1=stopped)], "is interrupted"),
        (
            [gateway_folder(folder / "more", inference_c8=level(8))],
            "in the baseline, but not in this run",
        ),
        ([old, old], "the same run is given twice"),
        ([folder / "now"], "the same run is given twice"),
    ]


@pytest.mark.parametrize("index", range(7))
def test_with_an_unusable_baseline_it_is_undecided(index: int, tmp_path: Path) -> None:
    now = gateway_folder(tmp_path / "now", inference_c4=level(4, seed=7))
    folders, said = bad_baselines(tmp_path)[index]
    finished = report(now, "--baseline", *folders)
    assert finished.code == 3
    assert said in " ".join(finished.out.split())


def test_what_a_reader_of_the_comparison_should_know_is_a_note(tmp_path: Path) -> None:
    """Longer answers, another clock, a level that is new."""
    longer = level(1, seed=2, client={"clock": "user space"})
    for record in longer["requests"]:
        record["output_tokens"] = 20
    longer["metrics"] |= metrics.level_metrics(longer["requests"])
    old = gateway_folder(tmp_path / "old", inference_c1=longer, inference_c4=None)
    finished = report(gateway_folder(tmp_path / "now"), "--baseline", old)
    out = " ".join(finished.out.split())
    assert "has answers of 20 tokens, this run of 16" in out
    assert "was measured with another clock" in out
    assert "inference_c4 is not in the baseline" in out


def test_a_search_for_the_capacity_is_said_to_be_not_compared(tmp_path: Path) -> None:
    """Also where the baseline has one."""
    found = samples.script_result("benchmark", "capacity", [samples.passed("capacity")])
    old = gateway_folder(tmp_path / "old", capacity=found)
    now = gateway_folder(tmp_path / "now", inference_c1=level(1, seed=2), capacity=found)
    out = " ".join(report(now, "--baseline", old).out.split())
    assert "note: capacity is not compared: only levels (inference_…)" in out
    assert "capacity is not in the baseline" not in out


def test_without_its_packages_all_but_the_comparison_and_the_plots_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install."""
    for name in ("scipy", "numpy", "matplotlib"):
        (tmp_path / "hidden").mkdir(exist_ok=True)
        (tmp_path / "hidden" / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('no', name={name!r})"
        )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    folder = gateway_folder(tmp_path / "now")
    finished = report_process(folder, "--junit", tmp_path / "junit.xml")
    assert finished.code == 0 and (tmp_path / "junit.xml").exists()
    compared = report_process(folder, "--baseline", gateway_folder(tmp_path / "old"))
    assert compared.code == 3
    assert "pip install -r requirements-report.txt" in " ".join(compared.out.split())
    page = report_process(folder, "--html", tmp_path / "page.html")
    assert page.code == 0
    assert "There are no plots: no module matplotlib" in (tmp_path / "page.html").read_text()


# --- real runs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of benchmark.py: old, same, and two that are slower by two fifths at c=4."""
    folder, port = tmp_path_factory.mktemp("planted"), free_port()

    def measure(names: Sequence[str], *levels: int, **slower: int) -> None:
        sim = {"ttft_ms": 100, "itl_ms": 10, "rate_limit": 0, "port": port, **slower}
        with running(engine="sim", **sim) as deployment:
            for name in names:
                load = ("--concurrency", *levels, "--requests", 32, "--max-tokens", 8)
                arguments = ("--inference-only", *load, "--results", folder / name)
                run_script("benchmark.py", *arguments, env=deployment.environment)

    measure(("old", "same"), 2, 4)
    for name in ("ttft", "decode"):
        shutil.copytree(folder / "same", folder / name)
    measure(("ttft",), 4, ttft_ms=140)
    measure(("decode",), 4, itl_ms=14)
    return folder


def worse(folder: Path, name: str) -> list[tuple[str, str]]:
    # the same machine within a minute: by far steadier than sessions of different days
    content = as_json(folder / name, "--baseline", folder / "old", "--session-spread", 3)
    changes = content["baseline"]["changes"]
    return [(c["document"], c["metric"]) for c in changes if c["finding"] == "worse"]


@pytest.mark.alone
def test_a_deployment_that_did_not_change_is_not_called_worse(planted: Path) -> None:
    assert worse(planted, "same") == []


@pytest.mark.alone
def test_a_planted_ttft_comes_first_and_only_what_contains_it_follows(planted: Path) -> None:
    found = worse(planted, "ttft")
    assert found[0] == ("inference_c4", "ttft_ms")
    keys = ("ttft_ms", "e2e_ms", "output_tokens_per_s")
    assert set(found) <= {("inference_c4", key) for key in keys}


@pytest.mark.alone
def test_a_planted_decode_rate_comes_first_and_only_what_contains_it_follows(planted: Path) -> None:
    found = worse(planted, "decode")
    assert found[0] == ("inference_c4", "tokens_per_s")
    keys = ("tokens_per_s", "tpot_ms", "itl_ms", "e2e_ms", "output_tokens_per_s")
    assert set(found) <= {("inference_c4", key) for key in keys}
