"""report.py --history: releases in order of time, their changes, and what is left out and why."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers.damaged_results import DAMAGES, strange_text
from helpers.pages import assert_every_tag_is_closed, is_self_contained
from helpers.report_here import run_here
from helpers.samples import START, level, overhead, result, write_results

from livecheck.core.checks import passed
from livecheck.report.history import binomial_below, order_interval

NASTY = '</style><script>alert("1")</script>'


def as_json(*arguments: object) -> dict[str, Any]:
    finished = run_here(Path(), "--history", *arguments, "--output", "json")
    assert finished.code == 0, finished.err
    content: dict[str, Any] = json.loads(finished.out)
    return content


def figure_of(content: dict[str, Any], label: str) -> dict[str, Any]:
    (found,) = [each for each in content["figures"] if each["label"] == label]
    return found


def release(
    folder: Path,
    number: int,
    ttft_ms: float = 100.0,
    repeat: int = 0,
    named: str | None = None,
    **about: Any,
) -> Path:
    """One run of a release, made so many weeks after the first one."""
    age = timedelta(weeks=40 - number) - timedelta(minutes=repeat)
    run = {
        "schema_version": 1,
        "session": f"s{number}",
        "repeat": repeat,
        "started_at": (START - age).isoformat(),
        "title": f"v1.{number}",
        "verdict": "pass",
        "deployment": {"gateway": named},
    }
    seed = 100 * repeat + number
    return write_results(
        folder / f"{number:02}-{repeat}",
        inference_c1=level(1, 20, ttft_ms, seed=seed, age=age, **about),
        run=run,
    )


def history(folder: Path, figures: Sequence[float]) -> Path:
    """Releases with these TTFTs, and noise of 1 %."""
    chance = random.Random(1)
    for number, ttft_ms in enumerate(figures):
        release(folder, number, ttft_ms * chance.lognormvariate(0, 0.01))
    return folder


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven releases, slower by a fifth from the seventh on."""
    return history(tmp_path_factory.mktemp("history"), [100.0] * 6 + [120.0] * 5)


# --- what it finds


def test_a_client_bound_level_is_left_out_with_its_reason(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        path = release(tmp_path, number)
        if number == 2:
            file = path / "inference_c1.json"
            content = json.loads(file.read_text())
            content["metrics"]["client"] |= {"client_bound": True, "processes_needed": 3}
            file.write_text(json.dumps(content))
    content = as_json(tmp_path)
    assert len(figure_of(content, "c=1 TTFT p50")["points"]) == 2
    left_out = json.dumps(content["left_out"])
    assert "client-bound: measure it with --processes 3" in left_out


def test_a_slower_release_is_marked_where_it_begins(slower: Path) -> None:
    content = as_json(slower)
    assert [each["title"] for each in content["releases"]] == [f"v1.{i}" for i in range(11)]
    ttft = figure_of(content, "c=1 TTFT p50")
    (change,) = ttft["changes"]
    assert content["releases"][change["release"]]["title"] == "v1.6"
    assert change["change"] == pytest.approx(0.2, abs=0.02) and change["worsening"] > 0
    assert ttft["threshold"] == {"name": "ttft_p50", "limit": 500.0}
    assert figure_of(content, "c=1 decode rate p50")["changes"] == []


def test_a_small_change_is_not_marked(slower: Path) -> None:
    assert figure_of(as_json(slower, "--margin", 30), "c=1 TTFT p50")["changes"] == []


def test_each_point_has_the_interval_of_its_requests(slower: Path) -> None:
    for point in figure_of(as_json(slower), "c=1 TTFT p50")["points"]:
        assert point["low"] < point["value"] < point["high"] < 1.1 * point["value"]
        assert point["of_repeats"] is False


def test_repeats_of_a_session_are_one_point_with_their_range(tmp_path: Path) -> None:
    release(tmp_path, 1)
    for repeat, ttft_ms in enumerate((100.0, 104.0, 102.0)):
        release(tmp_path, 2, ttft_ms, repeat)
    content = as_json(tmp_path)
    assert [len(each["folders"]) for each in content["releases"]] == [1, 3]
    _, last = figure_of(content, "c=1 TTFT p50")["points"]
    assert last["of_repeats"] is True
    assert (last["low"], last["high"]) == pytest.approx((100, 104), rel=0.02)
    assert last["value"] == pytest.approx(102, rel=0.01)


def test_folders_may_be_given_one_by_one_and_a_link_is_not_a_release(tmp_path: Path) -> None:
    first, second = release(tmp_path, 1), release(tmp_path, 2)
    (tmp_path / "latest").symlink_to(second)
    assert len(as_json(tmp_path)["releases"]) == 2
    assert len(as_json(second, first)["releases"]) == 2


def test_the_gateway_is_in_it_too(tmp_path: Path) -> None:
    for number in (1, 2):
        age = timedelta(weeks=40 - number)
        write_results(release(tmp_path, number), gateway_overhead=overhead(age=age))
    labels = [each["label"] for each in as_json(tmp_path)["figures"]]
    assert labels[:3] == ["/ping p50, net", "/ping p99, net", "/health p50, net"]


# --- what it leaves out


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"target": {"url": "http://127.0.0.1:8000", "model": "sky-70b"}}, "model sky-70b here"),
        ({"target": {"url": "http://10.0.0.1", "model": "sea-7b"}}, "another deployment: http://1"),
        ({"options": {"max_tokens": 99}}, "--max-tokens 99 here, 16 there"),
    ],
)
def test_what_measured_something_else_is_left_out(
    about: dict[str, Any], said: str, tmp_path: Path
) -> None:
    release(tmp_path, 1, named="other", **about)
    release(tmp_path, 2)
    release(tmp_path, 3)
    content = as_json(tmp_path)
    assert [each["title"] for each in content["releases"]] == ["v1.2", "v1.3"]
    (left_out,) = content["left_out"]
    assert said in left_out["why"] and left_out["folder"].endswith("01-0")
    assert said in " ".join(run_here(Path(), "--history", tmp_path).out.split())


def test_a_deployment_with_a_name_may_move(tmp_path: Path) -> None:
    moved = {"url": "http://10.0.0.1", "model": "sea-7b"}
    release(tmp_path, 1, named="staging", target=moved)
    release(tmp_path, 2, named="staging")
    assert len(as_json(tmp_path)["releases"]) == 2


@pytest.mark.parametrize("damage", DAMAGES[::4], ids=lambda damage: damage.name)
def test_a_damaged_file_is_named_and_the_others_are_shown(damage: Any, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        release(tmp_path, number)
    damage.plant(tmp_path / "02-0")
    page = tmp_path / "page.html"
    finished = run_here(Path(), "--history", tmp_path, "--html", page)
    assert finished.code in (0, 2), finished.err
    assert list(strange_text(finished.out)) == []
    if finished.code == 0:
        assert "v1.1" in finished.out and "v1.3" in finished.out


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = release(tmp_path, number, target={"url": "http://h", "model": NASTY})
        run = json.loads((folder / "run.json").read_text()) | {"title": NASTY + "\x1b[2J"}
        (folder / "run.json").write_text(json.dumps(run))
    page = tmp_path / "page.html"
    for form in ("text", "json", "markdown"):
        finished = run_here(Path(), "--history", tmp_path, "--html", page, "--output", form)
        assert finished.code == 0 and "\x1b" not in finished.everything
    assert "<script" not in page.read_text() and "\x1b" not in page.read_text()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nowhere"], "nowhere cannot be read (No such file or directory)"),
        (["empty"], "no run in"),
        (["01-0"], "a history takes two releases, and there is 1"),
        (["bad"], "no result that could be used: "),
    ],
)
def test_without_two_releases_it_says_why_in_one_line(
    names: list[str], said: str, tmp_path: Path
) -> None:
    release(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "bad", inference_c1='{"a":')
    finished = run_here(Path(), "--history", *(tmp_path / name for name in names))
    assert finished.code == 2 and finished.out == ""
    assert said in finished.err and finished.err.count("\n") == 1


def test_releases_without_a_common_figure_are_one_line(tmp_path: Path) -> None:
    """Also where the newest run has nothing that a history shows."""
    write_results(tmp_path / "a", gateway_overhead=overhead(age=timedelta(weeks=3)))
    write_results(tmp_path / "b", inference_c1=level(1, 20, 100.0, seed=1, age=timedelta(weeks=2)))
    write_results(tmp_path / "c", cors=result("cors", passed("vary", "")))
    finished = run_here(Path(), "--history", tmp_path)
    assert finished.code == 2 and finished.out == "" and finished.err.count("\n") == 1
    for week in (4, 5):
        age = timedelta(weeks=week)
        write_results(tmp_path / f"old-{week}", gateway_overhead=overhead(age=age))
    assert run_here(Path(), "--history", tmp_path).code in (0, 2)


@pytest.mark.parametrize("option", [["--baseline", "x"], ["--junit", "x"], ["--profile", "all"]])
def test_an_option_about_one_run_is_refused(option: list[str], slower: Path) -> None:
    finished = run_here(Path(), "--history", slower, *option)
    assert finished.code == 2 and f"{option[0]} is about one run" in finished.err
    assert run_here(Path(), slower, "--history", slower).code == 2


# --- the forms


def test_the_text_fits_a_terminal(slower: Path) -> None:
    out = run_here(Path(), "--history", slower).out
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"from v1\.6 on, c=1 TTFT p50: .* ms, \+\d\d\.\d %, worse", out)


def test_markdown_has_a_row_for_each_figure(slower: Path) -> None:
    out = run_here(Path(), "--history", slower, "--output", "markdown").out
    assert out.startswith("## Performance History")
    assert "| c=1 TTFT p50 |" in out and "| v1.6 |" in out


@pytest.fixture(scope="module")
def page(slower: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "history.html"
    assert run_here(Path(), "--history", slower, "--html", path).code == 0
    return path.read_text()


def test_the_page_has_a_plot_and_a_table_for_each_figure(page: str, slower: Path) -> None:
    count = len(as_json(slower)["figures"])
    assert page.count('role="img" aria-label="') == page.count("<figure>") == count
    assert page.count("<details>") == count
    assert page.count('<circle class="point') == 11 * count
    assert "worse</text>" in page


def test_the_page_loads_nothing_and_every_tag_is_closed(page: str) -> None:
    assert is_self_contained(page)
    assert_every_tag_is_closed(page)


# --- intervals


def test_the_interval_of_a_median_is_the_textbooks() -> None:
    """Of 10 values the 2nd and the 9th, of 20 the 6th and the 15th (Conover 1999, table A3)."""
    assert order_interval(list(range(1, 11)), 0.5) == (2, 9)
    assert order_interval(list(range(1, 21)), 0.5) == (6, 15)
    assert order_interval([1.0, 2.0, 3.0], 0.5) == (None, None)
    assert order_interval(list(range(1, 31)), 0.95)[1] is None


def test_many_samples_are_as_normal_as_they_should_be() -> None:
    exact, normal = binomial_below(1000, 0.5), binomial_below(1001, 0.5)
    assert exact[480] == pytest.approx(normal[480], abs=0.01)
