"""Whatever lies in a folder of results: a true exit code, little memory, and harmless output."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import markdown_it
import pytest
from helpers import damaged_results as damaged
from helpers.damaged_results import (
    DAMAGES,
    HUGE,
    IN_A_NAME,
    MARK,
    Damage,
    Ended,
    good_folder,
    judge,
    mutations,
    run_damaged,
    strange_text,
    strings,
    with_mark,
)
from helpers.measured import Cost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree, html

import report
from livecheck.core.result_file import to_json
from livecheck.report import html as page
from livecheck.report import junit, markdown, text, verdict
from livecheck.report.result_files import read_folder
from livecheck.report.thresholds import read_thresholds

EXAMPLES = int(os.environ.get("REPORT_EXAMPLES", "60"))


def run_here(*arguments: object) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = report.main([str(each) for each in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(Cost(code, 0.0, 0.0, 0.0), out.getvalue(), err.getvalue())


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_a_damage_is_named_and_never_a_pass(damage: Damage, tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "results")
    damage.plant(folder)
    ended = run_here(folder, "--junit", tmp_path / "junit.xml")
    assert list(judge(ended, damage)) == []
    etree.parse(tmp_path / "junit.xml")
    content = json.loads(run_here(folder, "--output", "json").out)
    assert content["exit_code"] == ended.code


@pytest.mark.parametrize("name", ["200 MB of lists", "30 MB of faces", "30 MB of numbers"])
def test_a_huge_file_costs_little_memory(name: str, tmp_path: Path) -> None:
    (damage,) = [each for each in HUGE if each.name == name]
    assert run_damaged(damage, tmp_path) == []


def test_a_damage_of_the_baseline_leaves_the_report_undecided(tmp_path: Path) -> None:
    now, old = good_folder(tmp_path / "now"), good_folder(tmp_path / "old")
    for damage in DAMAGES[:8]:
        shutil.rmtree(old)
        damage.plant(good_folder(old))
        ended = run_here(now, "--baseline", old)
        assert ended.code == 3 and not list(strange_text(ended.out))
    assert run_here(now, "--baseline", now).code == 3


# --- random damages


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_a_random_mutation_never_makes_a_pass_of_a_damaged_result(
    seed: int, tmp_path: Path
) -> None:
    folder, chance = good_folder(tmp_path / "results"), random.Random(seed)
    path = mutations(chance, folder)
    ended = run_here(folder, "--output", chance.choice(["text", "json", "markdown"]))
    told = f"{seed}: {path.name}"
    assert ended.code in damaged.ENDS - {2}, told
    assert [*strange_text(ended.out), *strange_text(ended.err)] == [], told
    if ended.code == 0:
        assert is_good(path), told


def is_good(path: Path) -> bool:
    """Whether the file still says that its script has passed, read by another reader."""
    content = json.loads(path.read_text())
    said = (content["verdict"], content["exit_code"], content["interrupted"], content["error"])
    statuses = {each["status"] for each in content["checks"]}
    started = datetime.fromisoformat(content["started_at"])
    age_h = (datetime.now(timezone.utc) - started).total_seconds() / 3600
    return (
        content["schema_version"] == 1
        and said == ("pass", 0, False, None)
        and "PASS" in statuses <= {"PASS", "WARN", "SKIP"}
        and -1 < age_h < 73
        and isinstance(content["requests"], list)
    )


# --- strange text


def build(folder: Path, baseline: Path, title: str | None = None) -> verdict.Report:
    asked = verdict.Settings(title=title, gpu=title, model=title, quant=title)
    now = datetime.now(timezone.utc)
    old = [read_folder(baseline)]
    return verdict.build(read_folder(folder), old, read_thresholds(None), asked, now)


def rendered(source: str) -> Any:
    """Markdown as GitHub shows it, with HTML allowed."""
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return html.fromstring(f"<div>{parser.render(source)}</div>")


def form_of(source: str) -> list[str]:
    """The elements of a page without those of the text in it."""
    return [each.tag for each in rendered(source).iter() if each.tag not in ("code",)]


def check_markdown(made: verdict.Report) -> None:
    source = markdown.text(made)
    tree = rendered(source)
    assert list(strange_text(source.replace("<script>", ""))) == []
    comments = list(tree.iter(etree.Comment))  # they keep text from becoming a reference
    assert {each.text for each in comments} <= {" "}
    tags = {each.tag for each in tree.iter(etree.Element)}
    ours = "div h2 h3 ul li p strong code table thead tbody tr th td details summary"
    assert tags <= set(ours.split()), tags
    assert len(source) <= markdown.MAX_CHARACTERS
    for table in tree.iter("table"):
        assert len({len(row) for row in table.iter("tr")}) == 1
    assert len(list(tree.iter("strong"))) == 1  # the verdict's


def check_forms(made: verdict.Report) -> None:
    said = "\n".join(text.lines(made))
    assert list(strange_text(said.replace("<script>", ""))) == []
    check_markdown(made)
    xml = junit.text(made)
    etree.fromstring(xml.encode())
    assert list(strange_text(xml)) == []
    document = to_json(verdict.as_dict(made))
    json.loads(document)
    assert list(strange_text(document.replace("<script>", ""))) == []


def check_page(made: verdict.Report) -> None:
    shown = page.text(made)
    assert list(strange_text(shown)) == []
    tree = html.document_fromstring(shown.encode())
    assert not tree.xpath("//script | //iframe | //img | //@onerror | //@onload")
    assert {each[0] for each in tree.xpath("//a/@href")} <= {"#"}  # to other parts of the page


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "pictures", lambda _: [])  # a second each: drawn once, below


FILES = ("inference_c1", "gateway_overhead", "queue_behavior", "workload_routing")


def folder_with_words(folder: Path) -> Path:
    """Good results with every kind of text that a report reads."""
    good_folder(folder)
    for name, figures in EXTRA.items():
        path = folder / f"{name}.json"
        content = json.loads(path.read_text())
        content["metrics"] |= figures
        path.write_text(json.dumps(content))
    return folder


EXTRA: dict[str, dict[str, Any]] = {
    "workload_routing": {
        "runners": [{"runner": "tower $x_{", "share": 0.5}, {"runner": "box", "share": 0.5}]
    },
    "cors": {"client": {"client_bound": True}},
}


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("name", FILES)
def test_no_text_of_a_result_file_can_change_the_form_of_a_report(
    name: str, tmp_path: Path
) -> None:
    """One text or key after the other."""
    folder, old = (folder_with_words(tmp_path / each) for each in ("now", "old"))
    path = folder / f"{name}.json"
    content = json.loads(path.read_text())
    content["requests"] = content["requests"][:1]
    seen = set()
    for place in strings(json.loads(path.read_text())):
        kind = tuple("*" if isinstance(key, int) else key for key in place)
        if kind in seen:  # one entry of a list stands for all
            continue
        seen.add(kind)
        path.write_text(json.dumps(with_mark(json.loads((old / path.name).read_text()), place)))
        check_forms(build(folder, old))
    assert len(seen) > 20


def marked_everywhere(folder: Path) -> None:
    """Every text that a file may have otherwise without being refused."""
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        for check in content["checks"]:
            check["name"] += MARK
            check["detail"] += MARK
        content["target"]["model"] += MARK
        content["target"]["url"] += MARK
        content["tool_version"] += MARK
        for record in content["requests"]:
            record["token_source"] = f"{record.get('token_source')}{MARK}"
        if path.stem == "gateway_overhead":
            content["metrics"]["gateway"]["net_not_separable"] = MARK
            for name in ("ping", "health"):
                summary = content["metrics"]["gateway"][f"{name}_net_ms"]
                summary.update(dict.fromkeys(summary), n=0)
        path.write_text(json.dumps(content))


def test_all_texts_together_cannot_either(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder, old = (folder_with_words(tmp_path / each) for each in ("now", f"old{IN_A_NAME}"))
    marked_everywhere(folder)
    marked_everywhere(old)
    (folder / f"{IN_A_NAME}.json").write_text("{}")
    made = build(folder, old, MARK)
    assert "net of the network: not separable, " in markdown.text(made)
    check_forms(made)
    check_page(made)


@pytest.mark.parametrize(
    "begin",
    [
        "# a",
        "- a",
        "+ a",
        "1. a",
        "1) a",
        "---",
        "===",
        "> a",
        "```",
        "* a",
        "    a",
        "| a |",
        "~~~",
        "_a_",
        "~~a~~",
        "&amp;",
        "![a](b)",
        "<b>",
        "\\",
    ],
)
def test_an_entry_of_the_markdown_begins_with_its_text(begin: str) -> None:
    (entry,) = rendered(markdown.item(begin)).iter("li")
    assert list(entry.iter(etree.Element)) == [entry]
    assert entry.text_content() == begin.strip()


@pytest.mark.parametrize("option", ["--title", "--gpu", "--model-name", "--quant"])
def test_options_are_foreign_text_too(option: str, tmp_path: Path) -> None:
    folder = good_folder(tmp_path)
    for form in ("text", "json", "markdown"):
        ended = run_here(folder, option, f"{MARK}\udcff", "--output", form)
        assert ended.code == 0
        assert list(strange_text(ended.out.replace("<script>", ""))) == []


WRONG: dict[str, Callable[[Path], Sequence[object]]] = {
    "thresholds that are not there": lambda folder: ("--thresholds", folder / "\x1b[31m\u202e"),
    "a baseline that is not there": lambda folder: ("--baseline", folder / "\x1b[31m\u202e"),
    "a file in no folder": lambda folder: ("--junit", folder / "\x1b[31m\u202e" / "x"),
    "a file that is a folder": lambda folder: ("--html", folder),
    "thresholds without end": lambda folder: ("--thresholds", "/dev/zero"),
    "a number of 5000 digits": lambda folder: ("--thresholds", toml(folder, f"a = {'9' * 5000}")),
    "a name of a section": lambda folder: (
        "--thresholds",
        toml(folder, '["\\u001b\\u202e"]\na = 1'),
    ),
    "nested thresholds": lambda folder: ("--thresholds", toml(folder, "a = " + "[" * 20_000)),
}


def toml(folder: Path, content: str) -> Path:
    (folder / "verdict.toml").write_text(content)
    return folder / "verdict.toml"


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_path_is_one_line_and_no_pass(what: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = run_here(good_folder(tmp_path / "a"), *WRONG[what](tmp_path))
    assert ended.code in (2, 3)
    assert [*strange_text(ended.out), *strange_text(ended.err)] == []
    assert re.match(r"report\.py: |saved ", ended.err) and ended.err.count("\n") <= 2
