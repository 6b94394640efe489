"""From result files to a verdict: what is required, what was kept, what got worse. Pure.

`build` gives a `Report`, from which the text, the Markdown, the HTML page, the JUnit file and the
JSON document are written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from livecheck.core.checks import VERDICTS, Exit, Status, worst
from livecheck.core.json_value import pick, pick_list
from livecheck.core.result_file import SCHEMA_VERSION
from livecheck.core.run import TOOL_VERSION, missing
from livecheck.core.text import shorten
from livecheck.report.baseline import (
    Change,
    Finding,
    about_steps,
    compare,
    differences,
    missing_metric,
)
from livecheck.report.result_files import (
    KINDS,
    LEVEL,
    LOAD_SCRIPTS,
    REPORT,
    Folder,
    ResultFile,
    guide_order,
    kind_of,
    short_name,
    target_url,
    title_of,
)
from livecheck.report.session_spread import SESSION_SPREAD
from livecheck.report.sessions import are_repeats, session_numbers
from livecheck.report.steady_window import notes_about_precision, notes_about_windows
from livecheck.report.thresholds import (
    OVERHEAD,
    Criterion,
    Limits,
    Thresholds,
    Verdict,
    find_limits,
    find_overload,
    has_only_refusals,
    judge_thresholds,
)
from livecheck.report.words import (
    NOT_DECIDED,
    change_in_words,
    margin_text,
    session_in_words,
    shown_within,
    unclear_in_words,
)
from livecheck.wire import client_bound, client_error
from livecheck.wire.metrics import no_rate_words

GATEWAY, FLEET = (
    tuple(kind.required for kind in KINDS if kind.required and kind.fleet is fleet)
    for fleet in (False, True)
)
AUTH = "auth"  # of either deployment
REQUIRED = {"gateway": GATEWAY, "fleet": FLEET, "all": GATEWAY + FLEET}
WORDS = {Exit.OK: "PASS", Exit.FAIL: "FAIL", Exit.UNDECIDED: NOT_DECIDED}
MAX_AHEAD_H = 0.25  # so much may two clocks differ
LENGTH_SHARE = 0.05  # answers that differ in length by more are not the same work
REQUIREMENTS = "requirements-report.txt"
OWN_REPEAT = "a repeat of this run, in the same session: take a run of an earlier session"
MAX_GATE_LINE = 160  # characters


@dataclass(frozen=True)
class Settings:
    """What the command line says. margin, session_spread: shares. max_age_h: of the oldest result
    file. allow_unclear: what a comparison cannot show for lack of data is reported, not judged."""

    profile: str | None = None
    margin: float = 0.05
    session_spread: float = SESSION_SPREAD
    allow_unclear: bool = False
    max_age_h: float = 72.0
    gpu: str | None = None
    model: str | None = None
    quant: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class About:
    """What was tested. None: the command line does not say it, nor do the results."""

    title: str
    profile: str
    gpu: str | None
    model: str | None
    quant: str | None
    urls: tuple[str, ...]
    measured_at: datetime | None


@dataclass(frozen=True)
class BaselineRun:
    """A run that is compared with. session: its number within the baseline, from 1 for the oldest.

    started_at, title: None when no usable file says it. verdict: of run.json, or else of its files.
    """

    path: str
    started_at: datetime | None
    title: str | None
    session: int
    verdict: str


@dataclass
class Comparison:
    """This run beside the baseline: the changes, the worst first, and a criterion for each file.

    runs: the baseline's, in the order of `folders`. session_spread: the share that is assumed.
    error: why nothing could be compared.
    """

    folders: list[Folder]
    runs: list[BaselineRun]
    margin: float
    session_spread: float
    changes: list[Change] = field(default_factory=list)
    criteria: list[Criterion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass
class Report:
    """A verdict and all that it is based on. Those who write it compute nothing.

    results: a criterion for each result file that is there or required.
    """

    about: About
    created_at: datetime
    folder: Folder
    results: list[Criterion]
    thresholds: list[Criterion]
    comparison: Comparison | None
    notes: list[str]

    @property
    def criteria(self) -> list[Criterion]:
        return [each for group in self._groups for each in group]

    @property
    def _groups(self) -> tuple[list[Criterion], ...]:
        compared = self.comparison.criteria if self.comparison else []
        return self.results, self.thresholds, compared

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
    def count(self) -> str:
        """How many criteria were met, and how many could not be decided, in words."""
        open_ = sum(each.verdict is Verdict.UNDECIDED for each in self.criteria)
        more = f" ({open_} not decided)" if open_ else ""
        return f"{self.passed} of {self.judged} criteria{more}"

    @property
    def worst(self) -> str:
        """The criterion that decided; after a PASS the one that came closest to its target."""
        for verdict in (Verdict.FAIL, Verdict.UNDECIDED):
            for group in self._groups:
                if chosen := [each for each in group if each.verdict is verdict]:
                    return in_words(max(chosen, key=lambda each: each.share or 0.0))
        close = [each for each in self.criteria if each.share is not None]
        return in_words(max(close, key=lambda each: each.share or 0.0)) if close else "none"

    @property
    def gate_line(self) -> str:
        line = f"[GATE] {self.about.title} {self.word}: {self.count}"
        return shorten(f"{line}, worst: {self.worst}", MAX_GATE_LINE)


def in_words(criterion: Criterion) -> str:
    """One criterion in the last line of the report; a threshold by its value and target."""
    if criterion.target.startswith(("≤", "≥", "0 %")) and criterion.value != "-":
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
    """Judge a folder, and compare it with the baseline's folders if there are any."""
    profile = settings.profile or find_profile(folder)
    # --profile wins over the file of thresholds: it is about this very report
    named = REQUIRED[settings.profile] if settings.profile else thresholds.required
    required = named or REQUIRED[profile]
    return Report(
        about=describe(folder, settings, profile),
        created_at=now,
        folder=folder,
        results=judge_results(folder, required, settings.max_age_h, now),
        thresholds=judge_thresholds(thresholds, folder.files, required, folder.names),
        comparison=compare_folders(folder, baselines, settings) if baselines else None,
        notes=[
            *folder.notes,
            *notes_about_client(folder.files),
            *notes_about_windows(folder.files),
            *notes_about_precision(folder.files),
        ],
    )


def find_profile(folder: Folder) -> str:
    """The deployment whose files are there; the files of benchmark.py are of either.

    test_auth.py is for both as well: its result alone does not ask for those of the fleet, when it
    is about the gateway.
    """
    fleet = folder.names & set(FLEET)
    if not fleet or (fleet == {AUTH} and is_of_gateway(folder)):
        return "gateway"
    return "all" if has_gateway_files(folder) else "fleet"


def has_gateway_files(folder: Folder) -> bool:
    """Whether a file is there that only the gateway's scripts save."""
    kinds = filter(None, map(kind_of, folder.names))
    return any(not kind.fleet and kind.script not in LOAD_SCRIPTS for kind in kinds)


def is_of_gateway(folder: Folder) -> bool:
    """Whether the result of test_auth.py is about the deployment of the gateway's other files. With
    those of benchmark.py alone it is, if an API key was used: the fleet takes JWTs."""
    auth = folder.find(AUTH)
    others = {target_url(each) for each in folder.files if not each.kind.fleet}
    if auth is None or target_url(auth) not in others:
        return False
    return has_gateway_files(folder) or auth.metrics.get("credential") == "api_key"


def describe(folder: Folder, settings: Settings, profile: str) -> About:
    urls = dict.fromkeys(target_url(each) for each in folder.files)
    models = (each.target.get("model") for each in folder.files if not each.kind.fleet)
    model = settings.model or next((shorten(str(name), 80) for name in models if name), None)
    title = settings.title or model or next(iter(urls), str(folder.path))
    return About(
        title=shorten(title, 80),
        profile=profile,
        gpu=settings.gpu,
        model=model,
        quant=settings.quant,
        urls=tuple(urls),
        measured_at=min((each.started_at for each in folder.files), default=None),
    )


def notes_about_client(files: Sequence[ResultFile]) -> list[str]:
    found = ((each.name, client_error.words(find_client(each))) for each in files)
    return [
        f"{each.name}: client-bound, the figures include the client's delays: "
        f"{client_bound.advice(each.metrics)}"
        for each in files
        if client_bound.is_client_bound(each.metrics)
    ] + [
        f"{name}: client error on the machine that measured: {words}"
        for name, words in found
        if words
    ]


def find_client(file: ResultFile) -> object:
    """The figures about the measuring program; of a search, those of its last level."""
    levels = pick_list(file.metrics, "levels")
    return pick(levels[-1] if levels else file.metrics, "client")


# --- the result files

TARGET = "pass"  # the verdict that each script must have
LEVEL_CHECKS = ("requests", "stream", "tokens")
OTHER_CHECKS = {OVERHEAD: ("ping", "health"), "gateway_cost": ("cost",)}
OTHER_CHECKS |= dict.fromkeys(("capacity", "capacity_responses"), ("capacity",))


def judge_results(
    folder: Folder, required: Sequence[str], max_age_h: float, now: datetime
) -> list[Criterion]:
    """What each script said, what is missing, and what cannot be believed."""
    limits = find_limits(folder.files)
    found = [
        judge_file(each, each.name in required, limits, max_age_h, now) for each in folder.files
    ]
    present = {each.name for each in folder.files}
    missing = [name for name in required if name not in present]
    found += [judge_missing(name, folder) for name in missing]
    # the line about a missing file already tells its problem
    told = {f"{name}.json" for name in missing}
    found += [
        Criterion(each.name, "Result files", "-", "-", None, Verdict.UNDECIDED, str(each))
        for each in folder.problems
        if each.name not in told
    ]
    unreadable = str(folder.path)  # first, because everything else follows from it
    return sorted(found, key=lambda each: (each.subject != unreadable, guide_order(each.subject)))


def judge_file(
    file: ResultFile, is_required: bool, limits: Limits | None, max_age_h: float, now: datetime
) -> Criterion:
    verdict, why = verdict_of(file, limits)
    if verdict is Verdict.PASS:
        incomplete = why_incomplete(file) if is_required else None
        if reason := incomplete or why_untimely(file, max_age_h, now):
            verdict, why = Verdict.UNDECIDED, reason
    counts = Counter(each.status for each in file.checks)
    value = ", ".join(f"{counts[each]} {each.value}" for each in Status if counts[each])
    count = len(file.checks)
    return Criterion(file.name, file.title, TARGET, value or "-", count, verdict, why)


def verdict_of(file: ResultFile, limits: Limits | None) -> tuple[Verdict, str]:
    """What the script decided, in its own words where something is wrong."""
    if file.exit_code is Exit.OK:
        return Verdict.PASS, ""
    failed = [each for each in file.checks if each.status is Status.FAIL]
    if failed:
        said = f"{failed[0].name}: {failed[0].detail}"
        if file.exit_code is not Exit.FAIL:
            return Verdict.FAIL, f"{said} ({file.error})"
        if has_only_refusals(file, limits):
            return Verdict.REPORTED, f"{said}; not judged: {find_overload(file, limits)}"
        others = ", ".join(each.name for each in failed[1:])
        return Verdict.FAIL, f"{said}; also {others}" if others else said
    skipped = [each for each in file.checks if each.status is Status.SKIP]
    skipped.sort(key=lambda each: not each.essential)
    said = f"{skipped[0].name}: {skipped[0].detail}" if skipped else "nothing was decided"
    return Verdict.UNDECIDED, file.error or said


def why_incomplete(file: ResultFile) -> str | None:
    """The option that left a required check out of this file.

    In benchmark.py, --only and --skip are about several files, and the checks `slo` and `client`
    are not about a promise of the deployment.
    """
    matters: Sequence[str] | None = None
    if file.script in LOAD_SCRIPTS:
        matters = LEVEL_CHECKS if file.is_level else OTHER_CHECKS.get(file.name, ())
    only, skip = (as_list(file.options.get(key)) for key in ("only", "skip"))
    if only and (matters is None or set(matters) - set(only)):
        return f"run with --only {shorten(' '.join(only), 60)}"
    gone = [each for each in skip if matters is None or each in matters]
    return f"run with --skip {shorten(' '.join(gone), 60)}" if gone else None


def as_list(option: object) -> list[str]:
    """--only or --skip, as it was saved."""
    if isinstance(option, list):
        return [str(each) for each in option]
    return [str(option)] if option else []


def why_untimely(file: ResultFile, max_age_h: float, now: datetime) -> str | None:
    hours = (now - file.started_at).total_seconds() / 3600
    if hours > max_age_h:
        return f"{hours:.0f} h old, --max-age is {max_age_h:g}: run {file.script}.py again"
    if hours < -MAX_AHEAD_H:
        return f"started {-hours:.1f} h in the future: is a clock wrong?"
    return None


def judge_missing(name: str, folder: Folder) -> Criterion:
    """A result that is required and not there, or not usable."""
    problem = next((each for each in folder.problems if each.name == f"{name}.json"), None)
    kind = kind_of(name)
    assert kind
    why = str(problem) if problem else f"no {name}.json: run {kind.script}.py"
    return Criterion(name, title_of(name, name), TARGET, "-", None, Verdict.UNDECIDED, why)


# --- the baseline


def compare_folders(folder: Folder, given: Sequence[Folder], settings: Settings) -> Comparison:
    runs, margin = describe_baseline(given), settings.margin
    found = Comparison(list(given), runs, margin, settings.session_spread)
    found.criteria = [
        undecided("baseline", f"{each.path}: {OWN_REPEAT}", margin)
        for each in given
        if are_repeats(folder, each)
    ]
    baselines = [each for each in given if not are_repeats(folder, each)]
    pairs = find_pairs(folder, baselines, found)
    sessions = {e.path: run.session for e, run in zip(given, runs, strict=True)}
    try:
        found.changes = compare(pairs, margin, sessions, settings.session_spread)
    except ModuleNotFoundError as error:
        found.error = missing(error, REQUIREMENTS)
        found.criteria = [undecided("baseline", found.error, margin)]
        return found
    found.criteria += [
        judge_changes(now.name, found.changes, settings, missing_metric(now, then))
        for now, then in pairs
    ]
    found.criteria += list(judge_baseline_problems(baselines, margin))
    found.criteria.sort(key=lambda each: guide_order(each.subject))
    known = {each.subject for each in found.criteria}
    found.notes += [
        f"{each.name} is not in the baseline: there is nothing to compare it with"
        if is_compared(each.name)
        else f"{each.name} is not compared: only levels (inference_…) and {OVERHEAD} are"
        for each in folder.files
        if each.script in LOAD_SCRIPTS and each.name not in known
    ]
    return found


def describe_baseline(folders: Sequence[Folder]) -> list[BaselineRun]:
    return [
        BaselineRun(
            path=str(each.path),
            started_at=each.started_at,
            title=each.run.title if each.run else None,
            session=number,
            verdict=verdict_of_run(each),
        )
        for each, number in zip(folders, session_numbers(folders), strict=True)
    ]


def verdict_of_run(folder: Folder) -> str:
    """What run_all.py said of it; otherwise the worst verdict of its files. One that cannot be used
    decides nothing."""
    if folder.run and folder.run.verdict:
        return folder.run.verdict
    codes = [each.exit_code for each in folder.files]
    if folder.problems or not codes:
        codes.append(Exit.UNDECIDED)
    return VERDICTS[worst(codes)]


def find_pairs(
    folder: Folder, baselines: Sequence[Folder], found: Comparison
) -> list[tuple[ResultFile, list[ResultFile]]]:
    """The files that can be compared, with the same file of each baseline run that has it; for the
    others a criterion in `found` says why they cannot."""
    pairs: list[tuple[ResultFile, list[ResultFile]]] = []
    for name in names_to_compare(baselines):
        now, then = folder.find(name), [e for e in (b.find(name) for b in baselines) if e]
        if now is None:
            why = "in the baseline, but not in this run"
            found.criteria.append(undecided(name, why, found.margin))
        elif reason := why_not_comparable(now, then):
            found.criteria.append(undecided(name, reason, found.margin))
        else:
            pairs.append((now, then))
            found.notes += cautions(now, then)
            found.notes += about_steps(now, then)
            if len(then) < len(baselines):
                count = f"{len(then)} of the {len(baselines)} baseline runs"
                found.notes.append(f"{name} is only in {count}")
    return pairs


def names_to_compare(baselines: Sequence[Folder]) -> list[str]:
    """The levels and the overhead of the baseline; what only this run has is new."""
    names = {each.name for baseline in baselines for each in baseline.files}
    return sorted(filter(is_compared, names), key=guide_order)


def is_compared(name: str) -> bool:
    return name == OVERHEAD or LEVEL.fullmatch(name) is not None


def why_not_comparable(now: ResultFile, then: Sequence[ResultFile]) -> str | None:
    for file in (now, *then):
        whose = "this run's result" if file is now else f"the result in {file.path.parent}"
        if file.exit_code not in (Exit.OK, Exit.FAIL):
            return f"{whose} is {VERDICTS[file.exit_code]}: {file.error or 'see its checks'}"
        if file.is_level and not file.succeeded:
            return f"{whose} has no request that succeeded"
        if file.is_level and (why := client_bound.words(file.metrics)):
            return f"of {whose} {why}"
    for each in then:
        if different := differences(now, each):
            return f"not comparable with {each.path.parent}: {'; '.join(different)}"
    starts = {each.started_at for each in (now, *then)}
    if len(starts) < 1 + len(then):
        return "the same run is given twice: a run cannot be its own baseline"
    return None


def judge_baseline_problems(baselines: Sequence[Folder], margin: float) -> Iterator[Criterion]:
    """What in the baseline's folders cannot be used, or is missing from them."""
    for baseline in baselines:
        problems = [str(problem) for problem in baseline.problems]
        if not (problems or names_to_compare([baseline])):
            problems = ["holds no result of benchmark.py that could be compared"]
        for each in problems:
            yield undecided("baseline", f"{baseline.path}: {each}", margin)


def undecided(name: str, why: str, margin: float) -> Criterion:
    return Criterion(name, against(name), aim(margin), "-", None, Verdict.UNDECIDED, why)


def against(name: str) -> str:
    return "baseline" if name == "baseline" else f"{short_name(name)} against the baseline"


def aim(margin: float) -> str:
    return f"nothing worse by {margin_text(margin)}"


def judge_changes(
    name: str, changes: Sequence[Change], settings: Settings, missing: str | None
) -> Criterion:
    """The changes of one result file as one criterion. It is left undecided by a required metric
    that is unclear, and by any that needs another session: that one may well be slower.

    missing: a required metric that not all runs have, in words.
    """
    own = [each for each in changes if each.document == name]  # the worst first
    counts = Counter(each.finding for each in own)
    value = ", ".join(f"{counts[each]} {each.value}" for each in Finding if counts[each])
    decided = [each for each in own if each.finding is not Finding.UNCLEAR]
    most = max(decided or own, key=lambda each: each.worsening / each.margin, default=None)
    verdict, why = Verdict.PASS, change_in_words(most) if most else ""
    unclear = [e for e in own if e.finding is Finding.UNCLEAR and e.metric.required]
    if counts[Finding.WORSE]:
        most = own[0]
        verdict, why = Verdict.FAIL, change_in_words(most)
    elif counts[Finding.SESSION]:
        most = own[0]
        verdict, why = Verdict.UNDECIDED, session_in_words(most, settings.session_spread)
    elif missing:
        verdict, why = Verdict.UNDECIDED, missing
    elif unclear:
        verdict = Verdict.REPORTED if settings.allow_unclear else Verdict.UNDECIDED
        why = unclear_in_words(unclear[0]) + wider_margin(unclear)
    elif not own:
        verdict, why = Verdict.UNDECIDED, "there is nothing to compare"
    share = most.worsening / most.margin if most else None
    target = aim(settings.margin)
    return Criterion(name, against(name), target, value, len(own), verdict, why, share)


def wider_margin(unclear: Sequence[Change]) -> str:
    """The margin at which all of these would be the same, if it is less than 100 %."""
    highs = [each.worsening_high for each in unclear]
    most = max(1.0 if high is None else high for high in highs)
    return f"; it would be decided with --margin {math.ceil(most * 100 + 0.01)}" if most < 1 else ""


def cautions(now: ResultFile, then: Sequence[ResultFile]) -> list[str]:
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
        found += answers_of_other_length(now, each, where) if now.is_level else []
    if why := no_rate_words(now.metrics) if now.is_level else "":
        found.append(f"{now.name}: {why}: these answers have no part in the comparison of rates")
    return found


def answers_of_other_length(now: ResultFile, then: ResultFile, where: str) -> list[str]:
    here, there = (each.median_tokens("output_tokens") for each in (now, then))
    if not here or not there or abs(here / there - 1) <= LENGTH_SHARE:
        return []
    text = f"has answers of {there:g} tokens, this run of {here:g}: E2E measures different work"
    return [f"{where} {text}"]


# --- as JSON


def as_dict(report: Report) -> dict[str, Any]:
    """The report as one JSON document."""
    content: dict[str, Any] = shown_within(raw_dict(report))
    return content


def raw_dict(report: Report) -> dict[str, Any]:
    measured_at, comparison = report.about.measured_at, report.comparison
    return {
        "schema_version": SCHEMA_VERSION,
        "script": REPORT,
        "tool_version": TOOL_VERSION,
        "verdict": VERDICTS[report.exit_code],
        "exit_code": int(report.exit_code),
        "gate": report.gate_line,
        "created_at": report.created_at.isoformat(timespec="seconds"),
        "about": {
            **asdict(report.about),
            "measured_at": measured_at.isoformat(timespec="seconds") if measured_at else None,
        },
        "passed": report.passed,
        "judged": report.judged,
        "documents": [asdict(each) for each in report.results],
        "thresholds": [asdict(each) for each in report.thresholds],
        "baseline": comparison_as_dict(comparison) if comparison else None,
        "notes": report.notes,
    }


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "folders": [str(each.path) for each in comparison.folders],
        "runs": [run_as_dict(each) for each in comparison.runs],
        "margin": comparison.margin,
        "session_spread": comparison.session_spread,
        "error": comparison.error,
        "criteria": [asdict(each) for each in comparison.criteria],
        "changes": [change_as_dict(each) for each in comparison.changes],
        "notes": comparison.notes,
    }


def run_as_dict(run: BaselineRun) -> dict[str, Any]:
    time = run.started_at
    return {**asdict(run), "started_at": time.isoformat(timespec="seconds") if time else None}


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
