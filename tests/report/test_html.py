"""The page opens offline, shows what the report says, and a server's words cannot script it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

import pytest
from helpers.pages import assert_every_tag_is_closed, is_self_contained
from helpers.scripts import run_script

from livecheck.core.checks import Check, Exit, Status
from livecheck.report import html, plots, verdict
from livecheck.report.result_files import Folder, ResultFile, kind_of, read_folder
from livecheck.report.thresholds import read_thresholds
from livecheck.wire import client_bound
from reference import running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
PHONE_PX = 390
NASTY = '</style><script>alert("1")</script>'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs of two levels, and a real burst at a queue."""
    folder = tmp_path_factory.mktemp("page")
    levels = ("--inference-only", "--concurrency", 1, 2, "--requests", 5, "--max-tokens", 6)
    limits = {"max_concurrent_requests": 1, "max_queue_size": 2, "rate_limit": 0}
    with running(engine="sim", ttft_ms=20, itl_ms=4, **limits) as deployment:
        for name in ("then", "now"):
            saved = ("--results", folder / name)
            for _ in range(
                4
            ):  # on a busy machine a level may be about the client: none is compared
                run_script("benchmark.py", *levels, *saved, env=deployment.environment)
                files = read_folder(folder / name).files
                if not any(client_bound.is_client_bound(each.metrics) for each in files):
                    break
        burst = ("--only", "burst", "--max-tokens", 50)
        run_script("test_queue.py", *burst, *saved, env=deployment.environment)
    return folder


@pytest.fixture(scope="module")
def finished_report(results: Path) -> verdict.Report:
    """For tests that only read it."""
    return build(read_folder(results / "now"), read_folder(results / "then"))


@pytest.fixture(scope="module")
def page(finished_report: verdict.Report) -> str:
    return html.text(finished_report)


@pytest.fixture(scope="module")
def drawn(finished_report: verdict.Report) -> list[plots.Picture]:
    return plots.pictures(finished_report)


@pytest.fixture
def report(finished_report: verdict.Report) -> verdict.Report:
    """For tests that change it: a copy with lists of its own."""
    folder = dataclasses.replace(finished_report.folder, files=[*finished_report.folder.files])
    return dataclasses.replace(finished_report, folder=folder, notes=[*finished_report.notes])


def build(folder: Folder, *baselines: Folder) -> verdict.Report:
    settings = verdict.Settings(title="v1 <rc>", gpu="L40S & more")
    now = datetime.now(timezone.utc)
    return verdict.build(folder, baselines, read_thresholds(None), settings, now)


def result_file(name: str, metrics: dict[str, Any]) -> ResultFile:
    """A result of another script, with as much in it as a picture needs."""
    kind = kind_of(name)
    assert kind
    return ResultFile(
        name=name,
        path=Path(f"{name}.json"),
        kind=kind,
        script=kind.script,
        tool_version="1",
        exit_code=Exit.OK,
        error=None,
        started_at=datetime.now(timezone.utc),
        duration_s=1.0,
        target={},
        client={},
        options={},
        checks=[Check("wake", Status.PASS, NASTY)],
        metrics=metrics,
        requests=[],
    )


def ids(text: str) -> Iterator[str]:
    yield from re.findall(r'\bid="([^"]*)"', text)


# --- the page


def test_it_shows_the_verdict_every_criterion_and_every_check(
    finished_report: verdict.Report, page: str
) -> None:
    assert f"<strong>{finished_report.word}</strong>" in page
    assert "v1 &lt;rc&gt;" in page and "L40S &amp; more" in page
    for criterion in finished_report.criteria:
        assert escape(criterion.name) in page
    for each in finished_report.folder.files:
        for check in each.checks:
            assert f"<b>{escape(check.name)}</b>: {escape(check.detail)}" in page


def test_it_loads_nothing_from_elsewhere(page: str) -> None:
    assert is_self_contained(page)
    assert not re.findall(r'\b(?:src|href)="(?!#)', page)


def test_every_tag_is_closed_and_no_id_is_used_twice(page: str) -> None:
    assert_every_tag_is_closed(page)
    assert len(list(ids(page))) == len(set(ids(page)))


def test_what_a_server_said_stays_text(report: verdict.Report) -> None:
    report.folder.files = [result_file("wol", {})]
    report.notes.append(NASTY)
    text = html.text(report)
    assert NASTY not in text and "<script" not in text
    assert escape(NASTY) in text


def test_an_empty_folder_has_a_page_too(tmp_path: Path) -> None:
    text = html.text(build(Folder(tmp_path)))
    assert "NOT DECIDED" in text and "<svg" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make browser` installs it")
def test_it_needs_no_scrolling_sideways_on_a_telephone(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page)
    measure = "document.title = this.contentDocument.documentElement.scrollWidth"
    frame = f'<iframe src="page.html" style="width:{PHONE_PX}px;border:0" onload="{measure}">'
    (tmp_path / "frame.html").write_text(f"<title>-</title>{frame}</iframe>")
    flags = "--headless --no-sandbox --disable-gpu --allow-file-access-from-files --dump-dom"
    command = [str(CHROMIUM), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}"]
    address = (tmp_path / "frame.html").as_uri()
    shown = subprocess.run([*command, address], capture_output=True, text=True, timeout=60)
    width = re.search(r"<title>(\d+)</title>", shown.stdout)
    assert width, shown.stdout[:500]
    assert int(width[1]) <= PHONE_PX


# --- pictures


def questions(pictures: list[plots.Picture]) -> list[str]:
    return [each.question for each in pictures]


def test_a_run_with_a_baseline_has_these_pictures(drawn: list[plots.Picture]) -> None:
    assert questions(drawn) == [
        "What changed since the baseline?",
        "How long until the first token?",
        "How long until the whole answer?",
        "What do more users do to the first token?",
        "How many tokens per second does it generate?",
        "Do the tokens come steadily?",
    ]


def test_the_other_scripts_have_pictures_too(report: verdict.Report) -> None:
    phases = {"worker_ms": 900.0, "first_byte_ms": None}
    cold = {"cold_start_s": 2.0, "cold_start": phases, "warm_ttft_ms": 50}
    woken = {"asleep_before": True, "packet_s": 0.01, "runner_online_s": 3, "first_output_s": 4.0}
    shares = [{"runner": NASTY, "share": 0.6, "share_low": 0.3, "share_high": 0.8}]
    shares += [{"runner": "tower", "share": 0.4, "share_low": None, "share_high": None}]
    report.folder.files = [
        result_file("scale_to_zero", cold),
        result_file("wol", woken),
        result_file("workload_routing", {"runners": shares}),
    ]
    report.comparison = None
    assert questions(plots.pictures(report)) == [
        "How long does a cold start take?",
        "Which runner served?",
        "How long does it take to wake a runner?",
    ]
    assert "<script" not in html.text(report)


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"cold_start_s": "soon", "cold_start": []},
        {"runners": "x"},
        {"runners": [1, {}, {"share": "a"}]},
    ],
)
def test_figures_of_another_form_make_no_picture(report: verdict.Report, metrics: Any) -> None:
    names = ("scale_to_zero", "wol", "workload_routing", "queue_behavior")
    report.folder.files = [result_file(name, metrics) for name in names]
    report.comparison = None
    assert plots.pictures(report) == []


def test_a_picture_is_one_svg_element_in_the_colours_of_the_page(
    drawn: list[plots.Picture],
) -> None:
    for each in drawn:
        root = ElementTree.fromstring(each.svg)
        assert root.tag.endswith("svg") and "viewBox" in root.attrib
        assert not {"width", "height"} & set(root.attrib)
        assert "#0101" not in each.svg and "var(--ink)" in each.svg
        for name in re.findall(r"var\(--([\w-]+)\)", each.svg):
            assert f"--{name}:" in html.STYLE


def test_no_marker_is_cut_at_the_edge(
    finished_report: verdict.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the slowest level."""
    figure = pytest.importorskip("matplotlib.figure")
    axes_of: dict[str, Any] = {}

    def draw(question: str, caption: str, plot: Any, *_: float) -> plots.Picture:
        axes_of[question] = axes = figure.Figure().add_subplot()
        plot(axes)
        return plots.Picture(question, caption, "")

    monkeypatch.setattr(plots, "draw", draw)
    captions = [each.caption for each in plots.pictures(finished_report)]
    latency = axes_of["What do more users do to the first token?"]
    highest = max(max(line.get_ydata()) for line in latency.get_lines())
    assert latency.get_ylim()[1] > 1.05 * highest
    assert any("Of the lowest and the highest level" in each for each in captions)


def test_the_baseline_is_drawn_beside_each_level(
    finished_report: verdict.Report, drawn: list[plots.Picture]
) -> None:
    picture = next(each for each in drawn if "first token" in each.question)
    assert "Dotted: the baseline." in picture.caption
    assert picture.svg.count("stroke-dasharray") == len(finished_report.folder.levels)


def test_of_many_levels_as_many_are_drawn_as_there_are_colours(
    finished_report: verdict.Report,
) -> None:
    level = finished_report.folder.levels[0]
    levels = [dataclasses.replace(level, name=f"inference_c{count}") for count in range(1, 12)]
    assert [each.name for each in plots.spread_out(levels)][:1] == ["inference_c1"]
    assert [each.name for each in plots.spread_out(levels)][-1:] == ["inference_c11"]
    assert len(plots.spread_out(levels)) == len(plots.SERIES)
