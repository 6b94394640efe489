"""From result files to a decision: what is required, what was kept, what got worse. Pure.

`build` gives a `Report`: everything that the text, the Markdown, the JSON, the JUnit file and the
page are written from.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from livecheck.core.checks import VERDICTS, Exit, Status, worst
from livecheck.core.result_file import SCHEMA_VERSION
from livecheck.core.run import TOOL_VERSION
from livecheck.core.text import shorten
from livecheck.report import thresholds as criteria_of
from livecheck.report.baseline import UNHEARD_OF, Change, Finding, compare, differences, one_sided
from livecheck.report.result_files import (
    KINDS,
    LEVEL,
    OWN,
    Folder,
    Problem,
    Saved,
    level_title,
    place,
    short_name,
    target_url,
)
from livecheck.report.thresholds import Criterion, Limits, Thresholds, Verdict, failing
from livecheck.wire.metrics import percentile

GATEWAY = (
    "gateway_overhead",
    "inference_c1",
    "openai_sdk_test",
    "scale_to_zero",
    "queue_behavior",
)
FLEET = ("auth", "model_routing", "workload_routing", "wol")
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "gateway": GATEWAY,
    "fleet": FLEET,
    "all": (*GATEWAY, *FLEET),
}
WORDS = {Exit.OK: "PASS", Exit.FAIL: "FAIL", Exit.UNDECIDED: "NOT DECIDED"}
AHEAD_H = 0.25  # two clocks may differ so much
LENGTH_SHARE = 0.05  # of the output tokens: so much longer answers are other work
INSTALL = "pip install -r requirements-report.txt"
LONGEST_LINE = 160


@dataclass(frozen=True)
class Settings:
    """What the operator says of a report. max_age_h: of the oldest result file."""

    profile: str | None = None
    margin: float = 0.05
    max_age_h: float = 72.0
    gpu: str | None = None
    model: str | None = None
    quant: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class About:
    """What was tested. None: nobody said, and the results do not tell."""

    title: str
    profile: str
    gpu: str | None
    model: str | None
    quant: str | None
    urls: tuple[str, ...]
    measured_at: datetime | None


@dataclass
class Comparison:
    """This run beside the baseline's: every change, the worst first, and a criterion a document.

    error: why there is no comparison at all.
    """

    folders: list[Folder]
    margin: float
    changes: list[Change] = field(default_factory=list)
    criteria: list[Criterion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def paths(self) -> str:
        return ", ".join(str(each.path) for each in self.folders)


@dataclass
class Report:
    """A decision and all it rests on. Writers take it as it is and compute nothing."""

    about: About
    created_at: datetime
    folder: Folder
    documents: list[Criterion]
    thresholds: list[Criterion]
    comparison: Comparison | None
    notes: list[str]

    @property
    def criteria(self) -> list[Criterion]:
        compared = self.comparison.criteria if self.comparison else []
        return [*self.documents, *self.thresholds, *compared]

    @property
    def exit_code(self) -> Exit:
        codes = {Verdict.FAIL: Exit.FAIL, Verdict.UNDECIDED: Exit.UNDECIDED}
        return worst([codes.get(each.verdict, Exit.OK) for each in self.criteria])

    @property
    def word(self) -> str:
        return WORDS[self.exit_code]

    @property
    def passed(self) -> int:
        return sum(each.verdict is Verdict.PASS for each in self.criteria)

    @property
    def judged(self) -> int:
        return sum(each.verdict is not Verdict.REPORTED for each in self.criteria)

    @property
    def worst(self) -> str:
        """What the verdict hangs on; of a pass, what came closest to its bound."""
        for verdict in (Verdict.FAIL, Verdict.UNDECIDED):
            for group in (self.documents, self.thresholds, compared(self.comparison)):
                for each in failing(group, verdict):
                    return in_words(each)
        close = [each for each in self.criteria if each.share is not None]
        return in_words(max(close, key=lambda each: each.share or 0.0)) if close else "none"

    @property
    def gate_line(self) -> str:
        line = f"[GATE] {self.about.title} {self.word}: {self.passed} of {self.judged} criteria"
        return shorten(f"{line}, worst: {self.worst}", LONGEST_LINE)


def compared(comparison: Comparison | None) -> list[Criterion]:
    return comparison.criteria if comparison else []


def in_words(criterion: Criterion) -> str:
    """One criterion in a line of a log."""
    if criterion.target[0] in "≤≥0" and criterion.value != "-":
        return f"{criterion.name} {criterion.value} ({criterion.target})"
    return f"{criterion.name}: {criterion.detail or criterion.value}"


# --- build


def build(
    folder: Folder,
    baselines: Sequence[Folder],
    thresholds: Thresholds,
    settings: Settings,
    now: datetime,
) -> Report:
    """Judge a folder, and compare it with the baseline's where there is one."""
    profile = settings.profile or find_profile(folder)
    # the command line is about this very report
    named = REQUIRED[settings.profile] if settings.profile else thresholds.required
    required = named or REQUIRED[profile]
    limits = criteria_of.limits_of(folder.documents)
    comparison = compare_folders(folder, baselines, settings.margin) if baselines else None
    return Report(
        about=describe(folder, settings, profile),
        created_at=now,
        folder=folder,
        documents=judge_documents(folder, required, limits, settings.max_age_h, now),
        thresholds=criteria_of.judge(thresholds, folder.documents, required),
        comparison=comparison,
        notes=[*folder.notes, *remarks(folder.documents)],
    )


def find_profile(folder: Folder) -> str:
    """The deployment whose files are there; benchmark.py's are of either."""
    names = {each.name for each in folder.documents}
    names |= {each.name.removesuffix(".json") for each in folder.problems}
    fleet = bool(names & set(FLEET))
    gateway = bool(names & {"openai_sdk_test", "scale_to_zero", "queue_behavior", "cors"})
    return ("all" if gateway else "fleet") if fleet else "gateway"


def describe(folder: Folder, settings: Settings, profile: str) -> About:
    urls = dict.fromkeys(target_url(each) for each in folder.documents)
    models = (each.target.get("model") for each in folder.documents if not each.kind.fleet)
    model = settings.model or next((shorten(str(name), 80) for name in models if name), None)
    times = [each.started_at for each in folder.documents]
    title = settings.title or settings.model or model or next(iter(urls), str(folder.path))
    return About(
        title=shorten(title, 80),
        profile=profile,
        gpu=settings.gpu,
        model=model,
        quant=settings.quant,
        urls=tuple(urls),
        measured_at=min(times, default=None),
    )


def remarks(documents: Sequence[Saved]) -> list[str]:
    """What a reader of the figures should know."""
    found = []
    for document in documents:
        client = document.metrics.get("client")
        if isinstance(client, Mapping) and client.get("client_bound") is True:
            found.append(f"{document.name}: client-bound, the figures are about the client too")
    return found


# --- the documents

PASSING = "pass"
LEVEL_CHECKS = ("requests", "stream", "tokens")
OTHER_CHECKS = {
    "gateway_overhead": ("ping", "health"),
    "capacity": ("capacity",),
    "gateway_cost": ("cost",),
}


def judge_documents(
    folder: Folder,
    required: Sequence[str],
    limits: Limits | None,
    max_age_h: float,
    now: datetime,
) -> list[Criterion]:
    """What each script said, what is missing, and what cannot be believed."""
    found = [
        judge_document(each, each.name in required, limits, max_age_h, now)
        for each in folder.documents
    ]
    present = {each.subject for each in found}
    missing = [name for name in required if name not in present]
    found += [absent(name, folder) for name in missing]
    # a file that was read has a line of its own, and one more for what it contradicts
    told = {f"{name}.json" for name in missing}
    found += [untold(each) for each in folder.problems if each.name not in told]
    nowhere = str(folder.path)  # where the folder cannot be read, all else follows from that
    return sorted(found, key=lambda each: (each.subject != nowhere, place(each.subject)))


def judge_document(
    document: Saved, is_required: bool, limits: Limits | None, max_age_h: float, now: datetime
) -> Criterion:
    verdict, why = verdict_of(document, limits)
    if verdict is Verdict.PASS:
        if is_required and (left_out := incomplete(document)):
            verdict, why = Verdict.UNDECIDED, left_out
        elif late := untimely(document, max_age_h, now):
            verdict, why = Verdict.UNDECIDED, late
    counts = Counter(each.status.value for each in document.checks)
    value = ", ".join(f"{counts[each.value]} {each.value}" for each in Status if counts[each.value])
    checks = len(document.checks)
    return Criterion(document.name, document.title, PASSING, value or "-", checks, verdict, why)


def incomplete(document: Saved) -> str | None:
    """The option that kept a check out of this document. benchmark.py's --only and --skip are
    about several documents, and its bounds (`slo`) and `client` about no promise."""
    matters: Sequence[str] | None = None
    if document.script == "benchmark":
        matters = LEVEL_CHECKS if document.is_level else OTHER_CHECKS.get(document.name, ())
    only, skip = (as_list(document.options.get(key)) for key in ("only", "skip"))
    if only and (matters is None or set(matters) - set(only)):
        return f"run with --only {shorten(' '.join(only), 60)}"
    gone = [each for each in skip if matters is None or each in matters]
    return f"run with --skip {shorten(' '.join(gone), 60)}" if gone else None


def as_list(option: object) -> list[str]:
    """--only or --skip as saved."""
    if isinstance(option, list):
        return [str(each) for each in option]
    return [str(option)] if option else []


def verdict_of(document: Saved, limits: Limits | None) -> tuple[Verdict, str]:
    """What the script decided, in its own words where something is wrong."""
    if document.exit_code is Exit.OK:
        return Verdict.PASS, ""
    failed = [each for each in document.checks if each.status is Status.FAIL]
    if document.exit_code is Exit.FAIL and failed:
        said = f"{failed[0].name}: {failed[0].detail}"
        if criteria_of.only_refusals(document, limits):
            return Verdict.REPORTED, f"{said}; not judged, more than it holds: {limits}"
        others = [each.name for each in failed[1:]]
        return Verdict.FAIL, said + (f"; also {', '.join(others)}" if others else "")
    if failed:  # and then it was interrupted
        return Verdict.FAIL, f"{failed[0].name}: {failed[0].detail} ({document.error})"
    open_ones = [each for each in document.checks if each.status is Status.SKIP and each.essential]
    open_ones += [each for each in document.checks if each.status is Status.SKIP]
    said = f"{open_ones[0].name}: {open_ones[0].detail}" if open_ones else "nothing was decided"
    return Verdict.UNDECIDED, document.error or said


def untimely(document: Saved, max_age_h: float, now: datetime) -> str | None:
    hours = (now - document.started_at).total_seconds() / 3600
    if hours > max_age_h:
        return f"{hours:.0f} h old, --max-age is {max_age_h:g}: run {document.script}.py again"
    if hours < -AHEAD_H:
        return f"begun {-hours:.1f} h from now: is a clock wrong?"
    return None


def absent(name: str, folder: Folder) -> Criterion:
    """A result that is required and not there, or not in a state to be read."""
    kind = next(kind for kind in KINDS if re.fullmatch(kind.names, name))
    title = level_title(name) if LEVEL.fullmatch(name) else kind.title
    bad = [each for each in folder.problems if each.name == f"{name}.json"]
    why = str(bad[0]) if bad else f"no {name}.json: run {kind.script}.py"
    return Criterion(name, title, PASSING, "-", None, Verdict.UNDECIDED, why)


def untold(problem: Problem) -> Criterion:
    return Criterion(problem.name, "Result files", "-", "-", None, Verdict.UNDECIDED, str(problem))


# --- the baseline


def compare_folders(folder: Folder, baselines: Sequence[Folder], margin: float) -> Comparison:
    found = Comparison(list(baselines), margin)
    pairs: list[tuple[Saved, list[Saved]]] = []
    for name in names_to_compare(baselines):
        now, then = folder.find(name), [e for e in (b.find(name) for b in baselines) if e]
        if refusal := reason_not_to(now, then):
            found.criteria.append(open_criterion(name, refusal, margin))
        elif now and then:
            pairs.append((now, then))
            found.notes += cautions(now, then)
            if len(then) < len(baselines):
                have = f"{len(then)} of the {len(baselines)} baseline runs have it"
                found.notes.append(f"{name}: only {have}")
    try:
        found.changes = compare(pairs, margin)
    except ModuleNotFoundError as error:
        found.error = f"no module {error.name}: {INSTALL}"
        found.criteria = [open_criterion("baseline", found.error, margin)]
        return found
    found.criteria += [
        judge_changes(now.name, found.changes, margin, one_sided(now, then)) for now, then in pairs
    ]
    found.criteria += problems_of(baselines, margin)
    found.notes += [
        f"{each.name} is not in the baseline: nothing to compare it with"
        for each in folder.documents
        if each.script == "benchmark" and each.name not in {e.subject for e in found.criteria}
    ]
    found.criteria.sort(key=lambda each: place(each.subject))
    if not pairs and not found.criteria:
        why = "no result of benchmark.py in both"
        found.criteria = [open_criterion("baseline", why, margin)]
    return found


def names_to_compare(baselines: Sequence[Folder]) -> list[str]:
    """The baseline's levels and its overhead; what only this run has is new."""
    documents = [each for baseline in baselines for each in baseline.documents]
    names = {each.name for each in documents if each.is_level or each.name == "gateway_overhead"}
    return sorted(names, key=place)


def reason_not_to(now: Saved | None, then: Sequence[Saved]) -> str | None:
    """Why these cannot be compared, None if they can."""
    if now is None:
        return "in the baseline, but not in this run"
    for document, whose in ((now, "this run's"), *((each, place_of(each)) for each in then)):
        if document.exit_code not in (Exit.OK, Exit.FAIL):
            return (
                f"{whose} is {VERDICTS[document.exit_code]}: {document.error or 'see its checks'}"
            )
        if document.is_level and not document.succeeded:
            return f"{whose} has no request that succeeded"
    for each in then:
        if different := differences(now, each):
            return f"not comparable with {each.path.parent}: {'; '.join(different)}"
    starts = [each.started_at for each in (now, *then)]
    if len(set(starts)) < len(starts):
        return "the same run twice: a run is no baseline of itself"
    return None


def place_of(document: Saved) -> str:
    return f"that in {document.path.parent}"


def problems_of(baselines: Sequence[Folder], margin: float) -> list[Criterion]:
    """What in the baseline's folders could not be read, or belongs to nothing that was."""
    found = []
    for baseline in baselines:
        texts = [str(problem) for problem in baseline.problems]
        if not (texts or names_to_compare([baseline])):
            texts = ["holds no result of benchmark.py"]
        found += [open_criterion("baseline", f"{baseline.path}: {e}", margin) for e in texts]
    return found


def open_criterion(name: str, why: str, margin: float) -> Criterion:
    return Criterion(name, against(name), aim(margin), "-", None, Verdict.UNDECIDED, why)


def against(name: str) -> str:
    return "baseline" if name == "baseline" else f"{short_name(name)} against the baseline"


def aim(margin: float) -> str:
    return f"nothing worse by {margin * 100:.3g} %"


def judge_changes(
    name: str, changes: Sequence[Change], margin: float, missing: str | None = None
) -> Criterion:
    """A document's changes as one criterion; those that are not required cannot leave it open.

    missing: a required metric that is not in all runs, in words.
    """
    own = [each for each in changes if each.document == name]
    counts = Counter(each.finding for each in own)
    value = ", ".join(f"{counts[each]} {each.value}" for each in Finding if counts[each])
    clear = [each for each in own if each.finding is not Finding.UNCLEAR]
    most = max(clear or own, key=lambda each: each.worsening / each.margin, default=None)
    verdict, why = Verdict.PASS, change_in_words(most) if most else ""
    unclear = [e for e in own if e.finding is Finding.UNCLEAR and e.metric.required]
    if counts[Finding.WORSE]:
        most = own[0]  # the worst comes first
        verdict, why = Verdict.FAIL, change_in_words(most)
    elif missing:
        verdict, why = Verdict.UNDECIDED, missing
    elif unclear or not own:
        verdict = Verdict.UNDECIDED
        why = unclear_in_words(unclear[0]) + way_out(unclear) if unclear else "nothing to compare"
    share = most.worsening / most.margin if most else None
    return Criterion(name, against(name), aim(margin), value, len(own), verdict, why, share)


def change_in_words(change: Change) -> str:
    interval = f"{percent(change.low)} to {percent(change.high)}"
    return f"{change.label} {short_name(change.document)} {percent(change.change)} ({interval})"


def unclear_in_words(change: Change) -> str:
    margin = f"{change.margin * 100:.3g} %"
    what = f"{change.label} {percent(change.change)}: not enough data to see {margin}"
    if change.is_beyond_alone:
        doubt = f"worse, not beyond doubt over {change.comparisons} comparisons"
        return f"{change.label} {percent(change.change)}: {doubt}: add a baseline run"
    if not math.isfinite(change.noise):
        return f"{what}: {change.samples} requests tell nothing"
    if change.needed is None:
        if not change.spread:
            return f"{what}, {UNHEARD_OF} requests in each run would not be"
        return f"{what}: the runs differ too much among themselves"
    return f"{what}, {change.needed} requests in each run would be"


def way_out(unclear: Sequence[Change]) -> str:
    """The margin at which all of these would be the same, if there is one worth the name."""
    highs = [each.worsening_high for each in unclear]
    most = max(1.0 if high is None else high for high in highs)
    return f"; --margin {math.ceil(most * 100 + 0.01)} is decided" if most < 1 else ""


def percent(share: float | None) -> str:
    """A change with its sign; a question mark for what is not bounded."""
    return "?" if share is None else f"{share:+.1%}".replace("%", " %")


def cautions(now: Saved, then: Sequence[Saved]) -> list[str]:
    """What does not forbid a comparison, but should be known."""
    found = []
    for each in then:
        where = f"{now.name}: {each.path.parent}"
        if each.started_at > now.started_at:
            found.append(f"{where} is newer than this run")
        if each.exit_code is Exit.FAIL:
            found.append(f"{where} failed its own checks")
        if each.tool_version != now.tool_version:
            found.append(f"{where} was measured by version {each.tool_version}")
        if each.client.get("clock") != now.client.get("clock"):
            found.append(f"{where} was measured with another clock")
        found += longer_answers(now, each, where) if now.is_level else []
    return found


def longer_answers(now: Saved, then: Saved, where: str) -> list[str]:
    lengths = [[r["output_tokens"] for r in e.succeeded if r["output_tokens"]] for e in (now, then)]
    if not all(lengths):
        return []
    here, there = (percentile(each, 50) for each in lengths)
    if abs(here / there - 1) <= LENGTH_SHARE:
        return []
    return [f"{where} has answers of {there:g} tokens, this run of {here:g}: E2E is other work"]


# --- as JSON


def as_dict(report: Report) -> dict[str, Any]:
    """The report as one JSON document."""
    comparison = report.comparison
    about = asdict(report.about)
    measured_at = report.about.measured_at
    return {
        "schema_version": SCHEMA_VERSION,
        "script": OWN,
        "tool_version": TOOL_VERSION,
        "verdict": VERDICTS[report.exit_code],
        "exit_code": int(report.exit_code),
        "gate": report.gate_line,
        "created_at": report.created_at.isoformat(timespec="seconds"),
        "about": {
            **about,
            "urls": list(report.about.urls),
            "measured_at": measured_at.isoformat(timespec="seconds") if measured_at else None,
        },
        "passed": report.passed,
        "judged": report.judged,
        "documents": [asdict(each) for each in report.documents],
        "thresholds": [asdict(each) for each in report.thresholds],
        "baseline": comparison_as_dict(comparison) if comparison else None,
        "notes": report.notes,
    }


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "folders": [str(each.path) for each in comparison.folders],
        "margin": comparison.margin,
        "error": comparison.error,
        "criteria": [asdict(each) for each in comparison.criteria],
        "changes": [change_as_dict(each) for each in comparison.changes],
        "notes": comparison.notes,
    }


def change_as_dict(change: Change) -> dict[str, Any]:
    metric = change.metric
    content = {k: v for k, v in vars(change).items() if k not in ("metric", "finding")}
    content["noise"] = change.noise if math.isfinite(change.noise) else None
    return {
        "metric": metric.key,
        "statistic": metric.statistic,
        "unit": metric.unit,
        "required": metric.required,
        "finding": change.finding.value,
        **content,
    }
