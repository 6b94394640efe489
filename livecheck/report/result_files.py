"""Reads the result files of a folder, and checks each of them before it is used.

A result file is used when it is complete, has the form that the scripts give it, and does not
contradict itself. `read_folder` gives these files, and a line about each of the others.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import statistics
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from livecheck.core.checks import VERDICTS, Check, Exit, Status, exit_code_of, worst
from livecheck.core.late_pattern import late_pattern
from livecheck.core.result_file import SCHEMA_VERSION
from livecheck.core.text import shorten
from livecheck.report.documents import MAX_FILES, Allowance, Record, read_document
from livecheck.report.exchanges import Exchange, read_exchanges
from livecheck.report.json_pieces import Unusable
from livecheck.wire.metrics import (
    AT_LEAST,
    AT_MOST,
    SCALARS,
    SUMMARY_NAMES,
    level_metrics,
    output_gaps,
    parse_objective,
    percentile,
    summary,
)

MAX_TEXT = 2000  # characters of a text that is shown
MAX_SPAN_H = 72.0  # from the first file of a test to the last, unless --max-age says otherwise
TOLERANCE = 2e-3  # figures are saved rounded: a recomputed one may differ by this or by 1 in 1000
SHARE_TOLERANCE = 1e-5  # a share is saved with six digits, and one error in 1000 has to show
RUN_FILE = "run.json"  # of run_all.py
REPORT = "report"  # the script that report.py's own JSON names; that file may lie in the folder too
LOAD_SCRIPTS = ("benchmark", "locustfile")  # whose levels are of either deployment
NO_RESULTS = (REPORT, "run_all")  # and run.json, which run_all.py keeps in the folder of its run
EARLY_ENDS = (Exit.USAGE, Exit.UNDECIDED, Exit.INTERRUPTED, Exit.TERMINATED)
# `inference_c4`, `inference_r2.5`, and what stands behind them where the work is another one
LEVEL = late_pattern(
    r"inference_(c(?=[0-9]+(?:_|$))|r)([0-9]{1,9}(?:\.[0-9]{1,9})?(?:e[+-][0-9]{1,2})?)"
    r"(?:_d([0-9]{1,9}))?(?:_t([0-9]{1,4}))?(?:_(responses))?"
)
EMBEDDINGS = re.compile(r"embeddings_c([0-9]{1,9})_b([0-9]{1,9})")
WORK = {3: "depth", 4: "turns", 5: "endpoint"}  # the groups of it that say which work a level has
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """What a script saves: the names of its files, and the heading that they get in a report.

    required: the file that a full test of the deployment must have; None: it may be left out.
    """

    script: str
    names: str  # a regular expression
    title: str
    required: str | None = None
    fleet: bool = False


KINDS = (  # in the order of the guide's steps
    Kind("benchmark", "gateway_overhead", "Gateway Overhead", "gateway_overhead"),
    Kind("benchmark", r"inference_[cr][0-9].*", "Inference", "inference_c1"),
    Kind("locustfile", r"inference_c[0-9]+", "Inference"),
    Kind("benchmark", EMBEDDINGS.pattern, "Embeddings"),
    Kind("benchmark", "capacity", "Capacity"),
    Kind("benchmark", "capacity_responses", "Capacity (endpoint=responses)"),
    Kind("benchmark", "gateway_cost", "Gateway Cost"),
    Kind("test_openai_sdk", "openai_sdk_test", "OpenAI SDK", "openai_sdk_test"),
    Kind("test_scale_to_zero", "scale_to_zero", "Scale-to-Zero", "scale_to_zero"),
    Kind("test_queue", "queue_behavior", "Queue Behavior", "queue_behavior"),
    Kind("test_context", "context", "Context"),
    Kind("test_cors", "cors", "CORS"),
    Kind("test_concurrency", "concurrency", "Concurrency"),
    Kind("test_rate_limit", "rate_limit", "Rate Limit"),
    Kind("test_tools", "tools", "Tools"),
    Kind("test_auth", "auth", "Authentication", "auth", fleet=True),
    Kind("test_model_routing", "model_routing", "Model Routing", "model_routing", fleet=True),
    Kind(
        "test_workload_routing",
        "workload_routing",
        "Workload Routing",
        "workload_routing",
        fleet=True,
    ),
    Kind("test_wol", "wol", "Wake-on-LAN", "wol", fleet=True),
)


@dataclass(frozen=True)
class Problem:
    """A file that cannot be believed, or several that contradict each other."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True)
class ResultFile:
    """One result file, as its script saved it. `name` is the file's name without `.json`."""

    name: str
    path: Path
    kind: Kind
    script: str
    tool_version: str
    exit_code: Exit
    error: str | None
    started_at: datetime
    duration_s: float
    target: Mapping[str, Any]
    client: Mapping[str, Any]
    options: Mapping[str, Any]
    checks: Sequence[Check]
    metrics: Mapping[str, Any]
    requests: Sequence[Mapping[str, Any]]
    command: str = ""  # that repeats the run
    exchanges: Sequence[Exchange] = ()
    has_exchanges: bool = False  # whether the script that saved it keeps them

    @property
    def is_level(self) -> bool:
        return LEVEL.fullmatch(self.name) is not None

    @property
    def title(self) -> str:
        """The heading that the guide's report gives it."""
        return title_of(self.name, self.script)

    @cached_property
    def succeeded(self) -> list[Mapping[str, Any]]:
        """The records that a level's figures are made of, in the order of sending."""
        good = [r for r in self.requests if r["error"] is None and not r["excluded"]]
        return sorted(good, key=lambda record: record.get("due_ms", record["sent_ms"]) or 0.0)

    @cached_property
    def itl_ms(self) -> list[float]:
        """The median gap between the arrivals of each answer, in the order of sending."""
        between = (output_gaps(record) for record in self.succeeded)
        return [percentile(each, 50) for each in between if each]

    @cached_property
    def streams(self) -> list[Mapping[str, Any]]:
        """The answers with the shortest TTFT, the median one and the longest, to be drawn."""
        found = [r for r in self.succeeded if r["event_ms"] and r["ttft_ms"] is not None]
        found.sort(key=lambda record: record["ttft_ms"])
        return [found[0], found[len(found) // 2], found[-1]] if len(found) > 3 else found

    def median_tokens(self, key: str) -> float | None:
        """The median of a count of tokens over the requests that have one; None without any."""
        counts = [r[key] for r in self.succeeded if is_number(r.get(key)) and r[key]]
        return statistics.median(counts) if counts else None


def kind_of(name: str) -> Kind | None:
    return next((kind for kind in KINDS if re.fullmatch(kind.names, name)), None)


def title_of(name: str, otherwise: str) -> str:
    """The heading of a result file by its name: `Inference (concurrency=4)`, `CORS`."""
    if level := LEVEL.fullmatch(name):
        load = f"{'concurrency' if level[1] == 'c' else 'rate'}={level[2]}"
        work = [f", {words}={level[group]}" for group, words in WORK.items() if level[group]]
        return f"Inference ({load}{''.join(work)})"
    if batch := EMBEDDINGS.fullmatch(name):
        return f"Embeddings (concurrency={batch[1]}, batch={batch[2]})"
    kind = kind_of(name)
    return kind.title if kind else otherwise


def short_name(name: str) -> str:
    """A level as `c=4`, `r=2.5` or `c=4 depth=4096`, everything else by its name."""
    level = LEVEL.fullmatch(name)
    if not level:
        return name
    work = [f" {words}={level[group]}" for group, words in WORK.items() if level[group]]
    return f"{level[1]}={level[2]}{''.join(work)}"


def work_of(figures: Mapping[str, Any], group: int) -> str | None:
    """What the figures of a level say of its work, as its name has it."""
    value = figures.get({3: "depth_tokens", 4: "turns", 5: "endpoint"}[group])
    if isinstance(value, str):
        return value[:20]
    return f"{value:d}" if type(value) is int else None


def has_own_work(name: str) -> bool:
    """Whether a level asks for another work than the usual prompts, as long ones: what is expected
    of every level is not expected of it, except that its requests succeed."""
    level = LEVEL.fullmatch(name)
    return level is not None and any(level[group] for group in WORK)


def guide_order(name: str) -> tuple[Any, ...]:
    """A sort key: the guide's steps in their order, levels from low to high, those with a work of
    their own behind the others."""
    level, kind = LEVEL.fullmatch(name), kind_of(name)
    work = [(level[group] or "").rjust(9) for group in WORK] if level else []
    place = KINDS.index(kind) if kind else len(KINDS)
    return place, work, float(level[2]) if level else 0.0, name


@dataclass(frozen=True)
class RunFile:
    """What run_all.py saves about the run whose results lie in the same folder.

    session: the same for the repeats of one invocation; repeat: which of them. deployment: its name
    or URL, for each profile. verdict: None while the run is not finished.
    """

    session: str
    repeat: int
    started_at: datetime
    title: str | None
    url: str | None
    model: str | None
    deployment: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    verdict: str | None


@dataclass
class Folder:
    """The result files of a folder in the guide's order, and what is wrong with the others.

    run: what run_all.py says about the run; None when it was not started by that script.
    """

    path: Path
    files: list[ResultFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    run: RunFile | None = None

    @property
    def started_at(self) -> datetime | None:
        """When the run began; None without a usable result."""
        return min((each.started_at for each in self.files), default=None)

    def find(self, name: str) -> ResultFile | None:
        return next((each for each in self.files if each.name == name), None)

    @property
    def names(self) -> set[str]:
        """Of all its result files, also of those that cannot be used."""
        unusable = {each.name.removesuffix(".json") for each in self.problems}
        return unusable | {each.name for each in self.files}

    @property
    def levels(self) -> list[ResultFile]:
        return [each for each in self.files if each.is_level]


def read_folder(
    path: Path,
    one_target: bool = True,
    max_span_h: float = MAX_SPAN_H,
    allowance: Allowance | None = None,
) -> Folder:
    """Every `*.json` of a folder. They have to belong to one test: started within `max_span_h`
    hours and, with `one_target`, of the same deployment. `allowance`: that of the whole report."""
    folder, level_lists = Folder(path), dict[str, set[str]]()
    allowance = allowance or Allowance()
    for each in list_files(folder):
        if is_own_output(each):
            continue
        try:
            content = read_document(each, allowance)
            if each.name == RUN_FILE:
                folder.run = read_run(content)
            elif "levels" in content and "script" not in content:
                level_lists[each.name] = {level_name(e) for e in get_objects(content, "levels")}
            elif content.get("script") not in NO_RESULTS:
                folder.files.append(read_content(each, content))
        except Unusable as error:
            folder.problems.append(Problem(each.name, str(error)))
    folder.files.sort(key=lambda file: guide_order(file.name))
    folder.problems += contradictions(folder.files, one_target, max_span_h)
    for name, levels in level_lists.items():
        judge_level_list(folder, name, levels)
    return folder


def list_files(folder: Folder) -> list[Path]:
    """The paths of its `*.json`; none, and a problem, when it cannot be read or has too many."""
    advice = "give the folder that the scripts wrote to"
    try:
        with os.scandir(folder.path) as entries:
            found = (each.name for each in entries if each.name.endswith(".json"))
            names = sorted(itertools.islice(found, MAX_FILES + 1))
    except OSError as error:
        why = f"cannot be read ({error.strerror}): {advice}"
        folder.problems.append(Problem(str(folder.path), why))
        return []
    if len(names) > MAX_FILES:
        why = f"holds over {MAX_FILES} .json files, which are not all results: {advice}"
        folder.problems.append(Problem(str(folder.path), why))
        return []
    return [folder.path / name for name in names]


def level_name(level: Mapping[str, Any]) -> str:
    """The name of the result file that holds this entry of benchmark.py's `{"levels": […]}`."""
    if level.get("script") not in (None, "benchmark"):
        return str(level["script"])
    figures = level.get("metrics")
    for key, letter in (("rate_per_s", "r"), ("concurrency", "c")):
        value = figures.get(key) if isinstance(figures, dict) else None
        if is_number(value):
            assert isinstance(figures, dict)
            if "batch" in figures:
                return f"embeddings_c{value:g}_b{brief(figures['batch'])}"
            depth, turns, endpoint = (work_of(figures, group) for group in WORK)
            work = (f"_d{depth}" if depth else "") + (f"_t{turns}" if turns else "")
            work += f"_{endpoint}" if endpoint else ""
            return f"inference_{letter}{value:g}{work}"
    return "gateway_overhead" if isinstance(figures, dict) and figures.get("gateway") else "level"


def judge_level_list(folder: Folder, name: str, levels: set[str]) -> None:
    """Several levels in one file, as --output json prints them, only repeat the files beside it."""
    alone = sorted(levels - folder.names, key=guide_order)
    if alone or not levels:
        text = f"holds {', '.join(alone) or 'no level'} without a file of its own: add that file"
        folder.problems.append(Problem(name, text))
    else:
        folder.notes.append(f"{name} holds several levels, which have their own files")


def is_own_output(path: Path) -> bool:
    """Whether stdout goes into this file: the shell empties it before anything is read."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):
        return False


# --- from JSON to a ResultFile


def read_content(path: Path, content: Mapping[str, Any]) -> ResultFile:
    """A result file whose form and content hold together. Raises Unusable."""
    version = content.get("schema_version")
    if "schema_version" not in content or "script" not in content:
        raise Unusable("foreign: JSON, but not a result file of these scripts")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise Unusable(f"schema_version {brief(version)}, but this report reads {SCHEMA_VERSION}")
    name, script = path.name.removesuffix(".json"), get_text(content, "script")
    file = ResultFile(
        name=name,
        path=path,
        kind=find_kind(name, script),
        script=script,
        tool_version=get_text(content, "tool_version"),
        exit_code=read_exit_code(content),
        error=get_text(content, "error") if content.get("error") is not None else None,
        started_at=read_time(get(content, "started_at", str)),
        duration_s=get_duration(content, "duration_s"),
        target=get(content, "target", dict),
        client=get(content, "client", dict),
        options=get(content, "options", dict),
        checks=[read_check(each) for each in get_objects(content, "checks")],
        metrics=get(content, "metrics", dict),
        requests=get_objects(content, "requests"),
        command=shorten(str(content.get("command") or ""), MAX_TEXT),
        exchanges=read_exchanges(content.get("exchanges")),
        has_exchanges="exchanges" in content,
    )
    verify_verdict(file, content)
    verify_figures(file)
    release_events(file)
    return file


def get(content: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = content.get(key)
    if not isinstance(value, kind):
        raise Unusable(f"its {key} is {brief(value)}, which is not what a script saves")
    return value


def get_text(content: Mapping[str, Any], key: str) -> str:
    """One printable line: control characters of a server's words would steer the terminal."""
    return shorten(get(content, key, str), MAX_TEXT)


def get_objects(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found: list[Any] = get(content, key, list)
    if not all(isinstance(each, (dict, Record)) for each in found):
        raise Unusable(f"its {key} are not all objects")
    return found


def get_duration(content: Mapping[str, Any], key: str) -> float:
    value = content.get(key)
    if not is_number(value) or value < 0:
        raise Unusable(f"its {key} is {brief(value)}, not a number of at least 0")
    return float(value)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def brief(value: Any) -> str:
    """A value as a message shows it."""
    return "missing" if value is None else shorten(repr(value), 40)


def read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(re.sub("Z$", "+00:00", text))  # Python 3.10 does not know Z
    except ValueError:
        raise Unusable(f"its started_at is {brief(text)}, which is not a time") from None
    if time.tzinfo is None:
        raise Unusable("its started_at has no time zone")
    try:
        return time.astimezone(timezone.utc)
    except OverflowError:
        raise Unusable("its started_at is before the year 1 or after 9999") from None


def read_check(row: Mapping[str, Any]) -> Check:
    status = row.get("status")
    if not isinstance(status, str) or status not in Status.__members__:
        raise Unusable(f"one of its checks has the status {brief(status)}")
    evidence = row.get("evidence")
    return Check(
        name=shorten(get(row, "name", str), 80),
        status=Status(status),
        detail=get_text(row, "detail"),
        evidence=evidence if isinstance(evidence, dict) else {},
        essential=row.get("essential") is True,
    )


def read_exit_code(content: Mapping[str, Any]) -> Exit:
    code = content.get("exit_code")
    if type(code) is not int or code not in {int(each) for each in Exit}:
        raise Unusable(f"exit_code {brief(code)}, which none of these scripts ends with")
    return Exit(code)


def find_kind(name: str, script: str) -> Kind:
    """The kind of file that the script saves under this name. Raises Unusable."""
    kinds = [kind for kind in KINDS if kind.script == script]
    if not kinds:
        raise Unusable(f"foreign: saved by {brief(script)}, which is not one of these scripts")
    named = [kind for kind in kinds if re.fullmatch(kind.names, name)]
    # a run that ended before its first result file saves one under the script's own name
    if not named and name != script:
        raise Unusable(f"contradictory: {script}.py saves no file of this name")
    if name.startswith("inference_") and not LEVEL.fullmatch(name):
        raise Unusable("contradictory: no level has this name")
    return (named or kinds)[0]


def read_run(content: Mapping[str, Any]) -> RunFile:
    """What run_all.py says about its run. Raises Unusable."""
    version, repeat = content.get("schema_version"), content.get("repeat")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise Unusable(f"schema_version {brief(version)}, but this report reads {SCHEMA_VERSION}")
    if type(repeat) is not int or repeat < 0:
        raise Unusable(f"its repeat is {brief(repeat)}, not a whole number of at least 0")
    names = ("title", "url", "model", "verdict")
    texts = {e: None if content.get(e) is None else get_text(content, e) for e in names}
    verdict = texts["verdict"] = texts["verdict"] and texts["verdict"].lower()
    if verdict not in (None, *VERDICTS.values()):
        raise Unusable(f"its verdict is {brief(verdict)}, which no run ends with")
    session = get_text(content, "session")
    if not session:
        raise Unusable("its session is empty")
    return RunFile(
        session=session,
        repeat=repeat,
        started_at=read_time(get(content, "started_at", str)),
        deployment=get(content, "deployment", dict) if "deployment" in content else None,
        settings=get(content, "settings", dict) if "settings" in content else {},
        **texts,
    )


# --- contradictions within a file


def verify_verdict(file: ResultFile, content: Mapping[str, Any]) -> None:
    """Exit code, verdict and checks say the same. Raises Unusable."""
    code, verdict = file.exit_code, content.get("verdict")
    if verdict != VERDICTS[code]:
        raise Unusable(f"contradictory: verdict {brief(verdict)} and exit_code {int(code)}")
    is_interrupted = code.is_interruption
    if content.get("interrupted") is not is_interrupted:
        said = brief(content.get("interrupted"))
        raise Unusable(f"contradictory: interrupted {said} and verdict {verdict}")
    if "error" not in content:
        raise Unusable("damaged: it does not say whether the run ended early (error)")
    expected = exit_code_of(file.checks)
    if file.error is None and code is not expected:
        failed = [each.name for each in file.checks if each.status is Status.FAIL]
        seen = f"FAIL in {', '.join(failed[:3])}" if failed else f"{len(file.checks)} without FAIL"
        said = f"verdict {verdict}, but its checks result in {VERDICTS[expected]}"
        raise Unusable(f"contradictory: {said} ({seen})")
    if file.error is not None and code not in {worst([each, expected]) for each in EARLY_ENDS}:
        raise Unusable(f"contradictory: verdict {verdict}, but it ended early: {brief(file.error)}")


def verify_figures(file: ResultFile) -> None:
    """The figures follow from the records. Raises Unusable."""
    if file.error is not None and not file.metrics:
        return  # it ended before it measured anything
    if file.is_level:
        verify_level(file)
    elif file.name == "gateway_overhead":
        verify_gateway(file)


def release_events(file: ResultFile) -> None:
    """Let the times of the events go, which are most of a file, except those that are drawn."""
    drawn = {id(each) for each in file.streams} if file.is_level and file.itl_ms else set()
    for record in file.requests:
        if isinstance(record, Record) and id(record) not in drawn:
            record.forget_events()


SUMMARIES = ("ttft_ms", "tpot_ms", "tokens_per_s", "itl_ms", "e2e_ms", "connect_ms")
RECORD_WORDS = ("no_rate", "thinking_source")
# of a request's record, which has no itl_ms: it has the times of its events
RECORD_NUMBERS = {"sent_ms", "ended_ms", "output_tokens", *SUMMARIES} - {"itl_ms"}


DRAFTS = ("draft_tokens", "draft_accepted_tokens")
AT_ONCE = ("tokens_per_event", "tokens_per_arrival")
OPTIONAL_NUMBERS = ("due_ms", "shown_tokens", *DRAFTS, "output_events", "output_arrivals")
# of versions that have them, and figures of a record as well
LATER_SUMMARIES = ("ttfa_ms", AT_LEAST, AT_MOST, "thinking_tokens", "answer_tokens")
LATER_COUNTS = ("with_thoughts", "without_answer", *DRAFTS, "acceptance_rate", *AT_ONCE)


def verify_level(file: ResultFile) -> None:
    verify_load(file)
    for record in file.requests:
        verify_record(record)
    saved, found = file.metrics, recompute(file)
    if not isinstance(saved.get("gateway"), (dict, type(None))):
        raise Unusable("its figures of the gateway are not what benchmark.py saves")
    for key in ("requests", "succeeded", "most_in_flight"):
        if key in found:
            verify_figure(key, saved.get(key), found[key])
    if (saved.get("no_rate") or {}) != found["no_rate"]:
        raise Unusable("contradictory: its no_rate is not what the requests give")
    for key in (*SUMMARIES, *(each for each in LATER_SUMMARIES if each in saved)):
        verify_summary(saved, key, found.get(key) or summary([]))
    for key in (each for each in LATER_COUNTS if each in saved):
        verify_figure(key, saved[key], found[key])
    for key in ("prefill_tokens_per_s", "first_turn_ttft_ms", "later_turns_ttft_ms"):
        if key in saved:
            get_summary(saved, key)
    for key in SCALARS:
        if not is_figure(saved.get(key)):
            raise Unusable(f"its {key} is {brief(saved[key])}, not a number")
        tolerance = SHARE_TOLERANCE if key == "error_rate" else TOLERANCE
        verify_figure(key, saved.get(key), found[key], tolerance)


def recompute(file: ResultFile) -> Mapping[str, Any]:
    """The level's figures, computed from its records again. Raises Unusable."""
    try:
        objectives = [parse_objective(each) for each in file.options.get("slo") or ()]
        return level_metrics(file.requests, objectives)
    except (TypeError, AttributeError, ValueError) as error:
        why = shorten(str(error), 60)
        raise Unusable(f"its figures cannot be computed from its records ({why})") from None


def verify_load(file: ResultFile) -> None:
    """The level is the one that the file's name and the options say."""
    level = LEVEL.fullmatch(file.name)
    assert level
    is_rate, named = level[1] == "r", float(level[2])
    key, option = ("rate_per_s", "rate") if is_rate else ("concurrency", "concurrency")
    measured, asked = file.metrics.get(key), file.options.get(option)
    if not is_number(measured) or not math.isclose(measured, named, rel_tol=1e-5):
        raise Unusable(f"contradictory: named {file.name}, measured at {key} {brief(measured)}")
    if not isinstance(asked, list) or measured not in asked:
        raise Unusable(f"contradictory: named {file.name}, run with --{option} {brief(asked)}")
    for group, words in WORK.items():
        if level[group] != (found := work_of(file.metrics, group)):
            raise Unusable(
                f"contradictory: named {file.name}, measured with {words} {brief(found)}"
            )


def verify_record(record: Mapping[str, Any]) -> None:
    """A request's record has what the figures and the comparison use."""
    events, error = record.get("event_ms"), record.get("error")
    if not (
        all(key in record and is_figure(record[key]) for key in RECORD_NUMBERS)
        and all(is_figure(record.get(key)) for key in (*OPTIONAL_NUMBERS, *LATER_SUMMARIES))
        and all(isinstance(record.get(key), (str, type(None))) for key in RECORD_WORDS)
        and isinstance(events, array)
        and isinstance(record.get("excluded"), bool)
        and (error is None or isinstance(error, str))
        and "error" in record
    ):
        raise Unusable("one of its records is not what benchmark.py saves of a request")


def verify_gateway(file: ResultFile) -> None:
    figures = file.metrics.get("gateway")
    if not isinstance(figures, dict):
        raise Unusable("its metrics have no figures of the gateway")
    for key in figures:
        if key.endswith("_ms"):
            get_summary(figures, key)
    good = [e for e in file.requests if e.get("status") == 200 and e.get("error") is None]
    for name in ("ping", "health"):
        own = [each for each in good if each.get("path") == f"/{name}"]
        if not all(is_number(e.get("ttfb_ms")) and is_figure(e.get("round_trip_ms")) for e in own):
            raise Unusable(f"one of its records is not what benchmark.py saves of a /{name} probe")
        if f"{name}_ms" in figures or any(e.get("path") == f"/{name}" for e in file.requests):
            separable = [e for e in own if e.get("round_trip_ms") is not None]
            if figures.get("net_not_separable"):
                separable = []
            net = [max(0.0, each["ttfb_ms"] - each["round_trip_ms"]) for each in separable]
            verify_summary(figures, f"{name}_ms", summary([each["ttfb_ms"] for each in own]))
            verify_summary(figures, f"{name}_net_ms", summary(net))
    if "connect_ms" in figures:
        handshakes = [e["connect_ms"] for e in good if is_number(e.get("connect_ms"))]
        verify_summary(figures, "connect_ms", summary(handshakes))


def verify_summary(figures: Mapping[str, Any], key: str, found: Mapping[str, Any]) -> None:
    """The saved summary equals the recomputed one. Raises Unusable."""
    saved = get_summary(figures, key)
    for name in ("n", *SUMMARY_NAMES):
        verify_figure(f"{key}.{name}", saved[name], found[name])


def get_summary(figures: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A saved summary with all that a report shows of it. Raises Unusable."""
    saved = figures.get(key)
    if not isinstance(saved, dict):
        raise Unusable(f"its metrics have no {key}")
    if not all(name in saved and is_figure(saved[name]) for name in (*SUMMARY_NAMES, "n")):
        raise Unusable(f"its {key} is not a summary with {', '.join(('n', *SUMMARY_NAMES))}")
    return saved


def is_figure(value: Any) -> bool:
    """A measured number, or None for what was not measured."""
    return value is None or is_number(value) and value >= 0


def verify_figure(
    name: str, saved: object, found: float | None, tolerance: float = TOLERANCE
) -> None:
    if saved is None and found is None:
        return
    if is_number(saved) and found is not None:
        if math.isclose(saved, found, rel_tol=1e-3, abs_tol=tolerance):
            return
    seen = "nothing" if found is None else f"{found:g}"
    text = f"metrics say {name} {brief(saved)}, the requests give {seen}"
    raise Unusable(f"contradictory: {text}")


# --- contradictions between files


def contradictions(
    files: Sequence[ResultFile], one_target: bool, max_span_h: float
) -> list[Problem]:
    """What keeps these files from being one test of one deployment."""
    found = differing("tool version", [(each, each.tool_version) for each in files])
    for fleet in (False, True):
        same_side = [each for each in files if each.kind.fleet is fleet]
        about = same_side if one_target else [e for e in same_side if e.script in LOAD_SCRIPTS]
        found += differing("target", [(each, target_url(each)) for each in about])
        if not fleet:
            models = [(each, each.target.get("model")) for each in about]
            found += differing("model", [(each, str(name)) for each, name in models if name])
    apart = too_far_apart(files, max_span_h)
    return [*found, apart] if apart else found


def target_url(file: ResultFile) -> str:
    return shorten(str(file.target.get("url")), 200).rstrip("/")


def differing(what: str, values: Sequence[tuple[ResultFile, str]]) -> list[Problem]:
    """The files that say something else than most; those that say the same stand together."""
    said = [value for _, value in values]
    usual = max(dict.fromkeys(said), key=said.count, default="")
    found = []
    for other in dict.fromkeys(value for value in said if value != usual):
        names = [f"{file.name}.json" for file, value in values if value == other]
        whose = "its" if len(names) == 1 else "their"
        text = f"{whose} {what} is {shorten(other, 80)}, the others have {shorten(usual, 80)}"
        found.append(Problem(", ".join(names), f"contradictory: {text}"))
    return found


def too_far_apart(files: Sequence[ResultFile], max_span_h: float) -> Problem | None:
    if not files:
        return None
    first = min(files, key=lambda each: each.started_at)
    last = max(files, key=lambda each: each.started_at)
    hours = (last.started_at - first.started_at).total_seconds() / 3600
    if hours <= max_span_h:
        return None
    text = f"contradictory: started {hours:.0f} h before {last.name}.json, but one test takes"
    return Problem(f"{first.name}.json", f"{text} {max_span_h:g} h at most (--max-age)")
