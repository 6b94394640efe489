"""Requests over time: who waited, who served, in what order; the same for those who cannot see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.damaged_results import strange_text
from lxml import html as lxml_html

from livecheck.report.result_files import Folder, read_folder
from livecheck.report.timeline import (
    MAX_BARS,
    MAX_LANES,
    Bar,
    Scale,
    Timeline,
    packed,
    picture,
    timelines,
)

NASTY = '"><script>alert(1)</script>\x1b[2J'


def request(sent_ms: float, ttft_ms: float | None, ended_ms: float, **more: Any) -> dict[str, Any]:
    times = {"sent_ms": sent_ms, "ttft_ms": ttft_ms, "ended_ms": ended_ms}
    return {"status": 200, "error": None, **times, **more}


QUEUE = [
    request(0, 50, 400, step="single"),
    request(500, 900, 1900, step="burst"),
    request(500, 100, 1000, step="burst"),
    request(501, None, 505, step="burst", status=503, error="503"),
    request(2000, 20, 2100, step="left_streaming", cancelled=True),
    request(2200, 400, 2700, step="queued_after"),
]
WORKLOAD = [
    request(0, 5, 100, phase="alone", runner=None),
    request(200, 5, 300, phase="measured", runner="desk"),
    request(200, 150, 400, phase="measured", runner="desk"),
    request(200, 5, 250, phase="measured", runner="tower"),
    request(200, None, 900, phase="loss", runner=None, status=None, error="timeout"),
]
CONCURRENCY = [
    request(0, None, 10, step="alone", right=True),
    request(20, None, 40, step="together", right=True),
    request(20, None, 50, step="together", right=False),
    request(20, None, 60, step="together", right=True, crossed=True),
    request(70, None, 80, step="cancelled", cancelled=True, right=None),
]
WOL = [
    {"kind": "state", "at_s": 1.0, "online": [], "models": []},
    {"kind": "packet", "at_s": 1.5, "mac": "02:00:5e:00:00:01"},
    {"kind": "chat", "phase": "wake", "at_s": 1.4, **request(1400, 3000, 5000, e2e_ms=3600)},
    {"kind": "state", "at_s": 4.0, "online": ["desk"], "models": ["a"]},
]
SLEEP = [
    {"kind": "chat", "phase": "first", "at_s": 0.1, **request(100, 40, 200, e2e_ms=100)},
    {"kind": "workers", "at_s": 0.2, "count": 1},
    {"kind": "health", "at_s": 0.3, "status": 503, "error": "503", "spent_ms": 2.0},
    {"kind": "workers", "at_s": 3.0, "count": 0},
    {"kind": "chat", "phase": "cold", "at_s": 4.0, **request(4000, 900, 5000, e2e_ms=1000)},
]


def folder_of(path: Path, **records: list[dict[str, Any]]) -> Folder:
    results = {name: samples.result(name, requests=own) for name, own in records.items()}
    samples.write_results(path, **results)
    found = read_folder(path)
    assert not found.problems
    return found


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, Timeline]:
    found = timelines(
        folder_of(
            tmp_path,
            queue_behavior=QUEUE,
            workload_routing=WORKLOAD,
            concurrency=CONCURRENCY,
            wol=WOL,
            scale_to_zero=SLEEP,
        )
    )
    return {each.question: each for each in found}


def bars(timeline: Timeline) -> dict[str, list[Bar]]:
    return {group.name: list(group.bars) for group in timeline.groups}


def test_the_burst_shows_who_was_served_first_and_who_was_refused(
    drawn: dict[str, Timeline],
) -> None:
    first, second, refused = bars(drawn["Who waited, who was refused?"])["the burst"]
    assert (first.first_s, first.end_s) == (0.1, 0.5)
    assert (second.first_s, second.end_s) == (0.9, 1.4)
    assert (refused.kind, refused.outcome, refused.first_s) == ("bad", "503", None)


def test_a_place_that_became_free_is_shown_beside_who_left(drawn: dict[str, Timeline]) -> None:
    left, after = bars(drawn["Who got the places of those who left?"]).values()
    assert (left[0].kind, left[0].outcome) == ("muted", "hung up on purpose")
    assert after[0].begin_s == pytest.approx(0.2)


def test_requests_stand_under_the_runner_that_served_them(drawn: dict[str, Timeline]) -> None:
    served = bars(drawn["Who served, and who was idle?"])
    assert {name: len(own) for name, own in served.items()} == {"desk": 2, "tower": 1}
    (lost,) = bars(drawn["What became of the requests when a runner died?"]).values()
    assert (lost[0].kind, lost[0].outcome) == ("bad", "timeout")


def test_wrong_answers_and_those_with_words_of_others_are_red(drawn: dict[str, Timeline]) -> None:
    found = drawn["Which answers were wrong, and what ran beside them?"]
    assert [bar.kind for bar in bars(found)["several at once"]] == ["good", "bad", "bad"]
    assert "Red are 2 of 4." in found.caption


def test_a_wake_counts_from_the_request(drawn: dict[str, Timeline]) -> None:
    found = bars(drawn["What happened while a runner woke?"])
    assert found["magic packets"][0].begin_s == pytest.approx(0.1)
    assert [each.outcome for each in found["online"]] == ["nobody", "desk"]
    assert found["requests"][0].first_s == pytest.approx(3.0)


def test_a_sleep_shows_workers_probes_and_requests(drawn: dict[str, Timeline]) -> None:
    found = bars(drawn["When did the worker sleep and wake?"])
    assert [each.outcome for each in found["workers"]] == ["1", "0"]
    assert found["probes of the health URL"][0].kind == "bad"


def test_who_cannot_see_it_gets_a_name_a_description_and_a_table(
    drawn: dict[str, Timeline],
) -> None:
    for number, each in enumerate(drawn.values()):
        tree = lxml_html.document_fromstring("".join(picture(each, number)))
        (svg,) = tree.xpath("//svg")
        named = svg.get("aria-labelledby").split()
        assert [tree.get_element_by_id(name).tag for name in named] == ["title", "desc"]
        count = sum(len(group.bars) for group in each.groups)
        assert len(tree.xpath("//details//tbody/tr")) == count == len(tree.xpath("//g"))
        assert all(g.xpath("title") for g in tree.xpath("//g"))
        assert tree.xpath("//th[@scope='col']")


def test_text_of_a_result_stays_text(tmp_path: Path) -> None:
    records = [request(0, 1, 2, phase="measured", runner=NASTY, status=NASTY, error=NASTY)]
    text = "".join(
        part
        for n, each in enumerate(timelines(folder_of(tmp_path, workload_routing=records)))
        for part in picture(each, n)
    )
    assert "<script" not in text and list(strange_text(text)) == []


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"sent_ms": "soon", "ended_ms": None},
        {"sent_ms": 5, "ended_ms": 1, "ttft_ms": -3, "step": "burst"},
        {"sent_ms": 1e15, "ended_ms": 1e15, "step": ["burst"], "phase": "measured", "runner": {}},
        {"sent_ms": 0, "ended_ms": 0, "step": "burst", "status": [], "error": {}, "ttft_ms": 1e15},
        {"kind": "chat", "at_s": -1e15, "e2e_ms": "x"},
        {"kind": "state", "at_s": 1, "online": "all"},
        {"kind": "workers", "at_s": 1, "count": []},
    ],
)
def test_records_of_another_form_do_no_harm(tmp_path: Path, record: dict[str, Any]) -> None:
    names = ("queue_behavior", "workload_routing", "concurrency", "wol", "scale_to_zero")
    own = [record, *WOL, *SLEEP, record]
    for each in timelines(folder_of(tmp_path, **dict.fromkeys(names, own))):
        lxml_html.document_fromstring("".join(picture(each, 0)))


def test_of_very_many_requests_a_bounded_number_is_drawn(tmp_path: Path) -> None:
    many = [request(n, 1, n + 5, phase="measured", runner=f"r{n}") for n in range(3000)]
    probes = [{"kind": "health", "at_s": n / 9, "status": n % 2 * 200} for n in range(3000)]
    folder = folder_of(tmp_path, workload_routing=many, scale_to_zero=[*SLEEP, *probes])
    for each in timelines(folder):
        assert sum(len(group.bars) for group in each.groups) <= 2 * MAX_BARS
        assert len("".join(picture(each, 0))) < 1_000_000


def test_rows_show_how_many_were_there_at_once() -> None:
    def bar(begin_s: float, end_s: float) -> Bar:
        return Bar(begin_s, end_s, "good", "", "")

    assert [lane for _, lane in packed([bar(0, 2), bar(1, 3), bar(2, 4), bar(3, 5)])] == [
        0,
        1,
        0,
        1,
    ]
    assert max(lane for _, lane in packed([bar(0, 9)] * 100)) == MAX_LANES - 1


@pytest.mark.parametrize("end_s", [0.0, 1e-9, 0.012, 7.3, 3600.0, 1e12])
def test_a_scale_has_a_few_marks(end_s: float) -> None:
    scale = Scale(end_s)
    assert 3 <= len(list(scale.ticks())) <= 12
    assert all(0 <= scale.at(tick) <= 100 for tick in scale.ticks())
