"""Reads the result files of a folder again, and trusts none of them unseen.

A file is read when it is whole, has the form that the scripts give it, and says nothing that
contradicts itself: `read_folder` gives the documents, and a line for each file that is not so.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from livecheck.core.checks import VERDICTS, Check, Exit, Status, worst
from livecheck.core.result_file import SCHEMA_VERSION
from livecheck.core.text import shorten
from livecheck.wire.metrics import SUMMARY_NAMES, level_metrics, parse_objective, summary

LARGEST_BYTES = 256 * 2**20  # an hour of a thousand streams; more would not fit into memory as JSON
LARGEST = 1e15  # no true figure is larger
LONGEST_TEXT = 2000
FAR_APART_H = 72.0  # between the first and the last of one test, where nobody says another age
SAME = 2e-3  # figures are saved rounded: so far may one recomputed be off, and a per mille
SAME_SHARE = 1e-5  # of a share, which has six digits: one error in a thousand is an error
OWN = "report"  # the script of report.py's own JSON, which may lie in the folder as well
OPENING = re.compile(r"\s*\{")
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """What a script saves: the names of its files, and how a report calls them."""

    script: str
    names: str  # a regular expression
    title: str
    fleet: bool = False


KINDS = (
    Kind("benchmark", "gateway_overhead", "Gateway Overhead"),
    Kind("benchmark", r"inference_[cr][0-9].*", "Inference"),
    Kind("benchmark", "capacity", "Capacity"),
    Kind("benchmark", "gateway_cost", "Gateway Cost"),
    Kind("test_openai_sdk", "openai_sdk_test", "OpenAI SDK"),
    Kind("test_scale_to_zero", "scale_to_zero", "Scale-to-Zero"),
    Kind("test_queue", "queue_behavior", "Queue Behavior"),
    Kind("test_cors", "cors", "CORS"),
    Kind("test_auth", "auth", "Authentication", fleet=True),
    Kind("test_model_routing", "model_routing", "Model Routing", fleet=True),
    Kind("test_workload_routing", "workload_routing", "Workload Routing", fleet=True),
    Kind("test_wol", "wol", "Wake-on-LAN", fleet=True),
)
STOPS = (Exit.USAGE, Exit.UNDECIDED, Exit.INTERRUPTED, Exit.TERMINATED)
LEVEL = re.compile(r"inference_(c(?=[0-9]+$)|r)([0-9]{1,9}(?:\.[0-9]{1,9})?(?:e[+-][0-9]{1,2})?)")


class Unusable(ValueError):
    """Why a file is not read, in a few words."""


@dataclass(frozen=True)
class Problem:
    """A file, or what several of them say together, that cannot be believed."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True)
class Saved:
    """One result document, as its script saved it. `name` is the file's, without `.json`."""

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

    @property
    def is_level(self) -> bool:
        return LEVEL.fullmatch(self.name) is not None

    @property
    def title(self) -> str:
        """As the guide's report heads it."""
        if self.is_level:
            return level_title(self.name)
        return self.kind.title if re.fullmatch(self.kind.names, self.name) else self.script

    @property
    def succeeded(self) -> list[Mapping[str, Any]]:
        """The records of a level that its figures are made of, in the order of sending."""
        good = [r for r in self.requests if r["error"] is None and not r["excluded"]]
        return sorted(good, key=lambda record: record.get("due_ms", record["sent_ms"]) or 0.0)


def level_title(name: str) -> str:
    match = LEVEL.fullmatch(name)
    assert match
    return f"Inference ({'concurrency' if match[1] == 'c' else 'rate'}={match[2]})"


def short_name(name: str) -> str:
    """A level as `c=4` or `r=2.5`, everything else by its name."""
    match = LEVEL.fullmatch(name)
    return f"{match[1]}={match[2]}" if match else name


def place(name: str) -> tuple[int, float, str]:
    """Where the guide has it: its steps in their order, levels from low to high."""
    level = LEVEL.fullmatch(name)
    for index, kind in enumerate(KINDS):
        if re.fullmatch(kind.names, name):
            return index, float(level[2]) if level else 0.0, name
    return len(KINDS), 0.0, name


@dataclass
class Folder:
    """The documents of a folder in the guide's order, and what is wrong with it."""

    path: Path
    documents: list[Saved] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, name: str) -> Saved | None:
        return next((each for each in self.documents if each.name == name), None)

    @property
    def levels(self) -> list[Saved]:
        return [each for each in self.documents if each.is_level]


def read_folder(path: Path, one_target: bool = True, far_apart_h: float = FAR_APART_H) -> Folder:
    """Every `*.json` of a folder, begun within `far_apart_h`.

    With `one_target` they have to be about the same deployment.
    """
    folder, copies = Folder(path), dict[str, set[str]]()
    try:
        files = sorted(each for each in path.iterdir() if each.name.endswith(".json"))
    except OSError as error:
        why = f"cannot be read ({error.strerror}): where did the scripts' --results go?"
        folder.problems.append(Problem(str(path), why))
        return folder
    for file in files:
        if is_own_output(file):
            continue
        try:
            content = load(file)
            if "levels" in content and "script" not in content:
                copies[file.name] = levels_in(content)
            elif content.get("script") != OWN:
                folder.documents.append(read(file, content))
        except Unusable as error:
            folder.problems.append(Problem(file.name, str(error)))
    folder.documents.sort(key=lambda each: place(each.name))
    folder.problems += disagreements(folder.documents, one_target, far_apart_h)
    for name, inside in copies.items():
        add_copies(folder, name, inside)
    return folder


def levels_in(content: Mapping[str, Any]) -> set[str]:
    """The names of the levels that --output json printed as one document. Raises Unusable."""
    return {level_name(each) for each in rows(content, "levels")}


def level_name(level: Mapping[str, Any]) -> str:
    if level.get("script") not in (None, "benchmark"):
        return str(level["script"])
    figures = level.get("metrics")
    for key, letter in (("rate_per_s", "r"), ("concurrency", "c")):
        value = figures.get(key) if isinstance(figures, dict) else None
        if is_number(value):
            return f"inference_{letter}{value:g}"
    return "gateway_overhead" if isinstance(figures, dict) and figures.get("gateway") else "level"


def add_copies(folder: Folder, name: str, inside: set[str]) -> None:
    """Several levels in one file are no result, but are those of the files beside it."""
    told = {each.name for each in folder.documents}
    told |= {each.name.removesuffix(".json") for each in folder.problems}
    alone = sorted(inside - told, key=place)
    if alone or not inside:
        text = f"holds {', '.join(alone) or 'no level'} without a file of its own: copy it too"
        folder.problems.append(Problem(name, text))
    else:
        folder.notes.append(f"{name} holds several levels, which have their own files")


def is_own_output(file: Path) -> bool:
    """Whether this program's stdout goes there: the shell empties it before anything is read."""
    try:
        return os.path.samestat(file.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):
        return False


# --- a file's text


def load(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises Unusable."""
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise Unusable("not a regular file")
        if about.st_size > LARGEST_BYTES:
            raise Unusable(f"too large to be a result ({about.st_size / 2**20:.0f} MB)")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("not UTF-8: no result file of these scripts") from None
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None
    if not text.strip():
        raise Unusable("empty: was the script ended before it could save?")
    try:
        content = parse(text)
    except json.JSONDecodeError as error:
        half = OPENING.match(text) and error.pos >= len(text.rstrip())
        what = "half-written JSON" if half or "Unterminated" in error.msg else "no JSON"
        raise Unusable(f"{what} (line {error.lineno}: {error.msg})") from None
    except RecursionError:
        raise Unusable("nested too deeply to be a result") from None
    if not isinstance(content, dict):
        raise Unusable("holds no JSON object: no result file of these scripts")
    return content


def parse(text: str) -> Any:
    """JSON with true numbers only, and each key once. Raises JSONDecodeError and Unusable."""
    return json.loads(
        text,
        parse_constant=no_number,
        parse_float=lambda digits: bounded(float(digits)),
        parse_int=lambda digits: bounded(int(digits)) if len(digits) < 20 else no_number("that"),
        object_pairs_hook=unique,
    )


def no_number(text: str) -> Any:
    raise Unusable(f"{text} is no number in it that JSON knows or a script measures")


def bounded(number: T) -> T:
    if not abs(number) <= LARGEST:  # type: ignore[arg-type]
        raise Unusable("a number in it is beyond all measure")
    return number


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unusable("contradictory: the same key twice in one object")
    return found


# --- the form of a document


def read(file: Path, content: Mapping[str, Any]) -> Saved:
    """A document with everything in its place. Raises Unusable."""
    version = content.get("schema_version")
    if "schema_version" not in content or "script" not in content:
        raise Unusable("foreign: JSON, but not a result of these scripts")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise Unusable(f"schema_version {brief(version)}, this report reads {SCHEMA_VERSION}")
    script = plain(take(content, "script", str))
    document = Saved(
        name=file.name.removesuffix(".json"),
        path=file,
        kind=find_kind(file.name.removesuffix(".json"), script),
        script=script,
        tool_version=plain(take(content, "tool_version", str)),
        exit_code=read_exit(content),
        error=plain(take(content, "error", str)) if content.get("error") is not None else None,
        started_at=read_time(take(content, "started_at", str)),
        duration_s=positive(content, "duration_s"),
        target=take(content, "target", dict),
        client=take(content, "client", dict),
        options=take(content, "options", dict),
        checks=[read_check(each) for each in rows(content, "checks")],
        metrics=take(content, "metrics", dict),
        requests=rows(content, "requests"),
    )
    check_verdict(document, content)
    check_content(document)
    return document


def take(content: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = content.get(key)
    if not isinstance(value, kind):
        raise Unusable(f"its {key} is {brief(value)}: not what a script saves")
    return value


def rows(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found: list[Any] = take(content, key, list)
    if not all(isinstance(each, dict) for each in found):
        raise Unusable(f"its {key} are not all objects")
    return found


def positive(content: Mapping[str, Any], key: str) -> float:
    value = content.get(key)
    if not is_number(value) or value < 0:
        raise Unusable(f"its {key} is {brief(value)}, not a number of at least 0")
    return float(value)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def brief(value: Any) -> str:
    return "missing" if value is None else shorten(repr(value), 40)


def plain(text: str) -> str:
    """One printable line: a server's words must not steer a terminal."""
    return shorten(text, LONGEST_TEXT)


def read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(re.sub("Z$", "+00:00", text))  # Python 3.10 knows no Z
    except ValueError:
        raise Unusable(f"its started_at is {brief(text)}: no time") from None
    if time.tzinfo is None:
        raise Unusable("its started_at has no time zone")
    try:
        return time.astimezone(timezone.utc)
    except OverflowError:
        raise Unusable("its started_at is beyond all calendars") from None


def read_check(row: Mapping[str, Any]) -> Check:
    word = row.get("status")
    if not isinstance(word, str) or word not in {each.value for each in Status}:
        raise Unusable(f"a check with the status {brief(word)}")
    name, detail = shorten(take(row, "name", str), 80), plain(take(row, "detail", str))
    evidence = row.get("evidence") if isinstance(row.get("evidence"), dict) else {}
    return Check(name, Status(word), detail, evidence or {}, row.get("essential") is True)


def read_exit(content: Mapping[str, Any]) -> Exit:
    code = content.get("exit_code")
    if type(code) is not int or code not in {int(each) for each in Exit}:
        raise Unusable(f"exit_code {brief(code)} is none of these scripts'")
    return Exit(code)


def find_kind(name: str, script: str) -> Kind:
    """What the file must be by its script. Raises Unusable when its name says something else."""
    kinds = [kind for kind in KINDS if kind.script == script]
    if not kinds:
        raise Unusable(f"foreign: of a script {brief(script)} that is not known here")
    named = [kind for kind in kinds if re.fullmatch(kind.names, name)]
    if not named and name != script:  # a run that ended before it began a document says so there
        raise Unusable(f"contradictory: no result of {script}.py has this name")
    if name.startswith("inference_") and not LEVEL.fullmatch(name):
        raise Unusable("contradictory: no level has this name")
    return (named or kinds)[0]


# --- contradictions within a document


def check_verdict(document: Saved, content: Mapping[str, Any]) -> None:
    """Exit code, verdict and checks tell the same story. Raises Unusable."""
    code, verdict = document.exit_code, content.get("verdict")
    if verdict != VERDICTS[code]:
        raise Unusable(f"contradictory: verdict {brief(verdict)} and exit_code {int(code)}")
    stopped = (Exit.INTERRUPTED, Exit.TERMINATED)
    if content.get("interrupted") is not (code in stopped):
        raise Unusable(f"contradictory: interrupted {brief(content.get('interrupted'))}, {verdict}")
    expected = exit_of(document.checks)
    if document.error is None and code is not expected:
        failed = [each.name for each in document.checks if each.status is Status.FAIL]
        said = f"FAIL in {', '.join(failed[:3])}" if failed else f"{len(document.checks)} checks"
        raise Unusable(f"contradictory: verdict {verdict}, but {said} come to {VERDICTS[expected]}")
    if document.error is not None and code not in {worst([each, expected]) for each in STOPS}:
        raise Unusable(f"contradictory: verdict {verdict}, but stopped: {brief(document.error)}")


def exit_of(checks: Sequence[Check]) -> Exit:
    """What checks come to in a run that went to its end; see documents.Document.exit_code."""
    if any(each.status is Status.FAIL for each in checks):
        return Exit.FAIL
    skipped = [each for each in checks if each.status is Status.SKIP]
    undecided = len(skipped) == len(checks) or any(each.essential for each in skipped)
    return Exit.UNDECIDED if undecided else Exit.OK


def check_content(document: Saved) -> None:
    """The figures are those of the records. Raises Unusable."""
    if document.error is not None and not document.metrics:
        return  # stopped before it measured anything
    if document.is_level:
        check_level(document)
    elif document.name == "gateway_overhead":
        check_gateway(document)


SUMMARIES = "ttft_ms tpot_ms tokens_per_s itl_ms e2e_ms connect_ms".split()
SCALARS = "error_rate output_tokens_per_s requests_per_s goodput_per_s".split()
LEVEL_NUMBERS = (
    "sent_ms ended_ms ttft_ms e2e_ms tpot_ms tokens_per_s output_tokens connect_ms".split()
)
# what a level's figures are made of besides, and no threshold can be on
UNJUDGED = "token_source server_tokens_per_s tls_ms retry_after_s prompt_tokens cached_tokens"


def check_level(document: Saved) -> None:
    check_load(document)
    for record in document.requests:
        check_record(record)
    figures = document.metrics
    if not isinstance(figures.get("gateway"), (dict, type(None))):
        raise Unusable("its figures of the gateway are not what benchmark.py saves")
    found = recomputed(document)
    for key in ("requests", "succeeded", "most_in_flight"):
        if key in found:
            same(figures, key, found[key])
    for key in SUMMARIES:
        check_summary(figures, key, found[key])
    for key in SCALARS:
        if not is_figure(figures.get(key)):
            raise Unusable(f"its {key} is {brief(figures[key])}, not a number")
        same(figures, key, found[key], within=SAME_SHARE if key == "error_rate" else SAME)


def recomputed(document: Saved) -> Mapping[str, Any]:
    """The level's figures, made of its records once more. Raises Unusable."""
    used = (*LEVEL_NUMBERS, "error", "excluded", "event_ms", "due_ms")
    unjudged = dict.fromkeys(UNJUDGED.split())
    records = [
        {**unjudged, **{key: each[key] for key in used if key in each}}
        for each in document.requests
    ]
    try:
        objectives = [parse_objective(each) for each in document.options.get("slo") or ()]
        return level_metrics(records, objectives)
    except (TypeError, AttributeError, ValueError) as error:
        raise Unusable(
            f"no figures can be made of its records ({shorten(str(error), 60)})"
        ) from None


def check_load(document: Saved) -> None:
    """The level is the one that the file's name and the options say."""
    match = LEVEL.fullmatch(document.name)
    assert match
    is_rate, said = match[1] == "r", float(match[2])
    key, option = ("rate_per_s", "rate") if is_rate else ("concurrency", "concurrency")
    measured, asked = document.metrics.get(key), document.options.get(option)
    if not is_number(measured) or not math.isclose(measured, said, rel_tol=1e-5):
        raise Unusable(f"contradictory: named {document.name}, measured at {key} {brief(measured)}")
    if not isinstance(asked, list) or measured not in asked:
        raise Unusable(f"contradictory: named {document.name}, run with --{option} {brief(asked)}")


def check_record(record: Mapping[str, Any]) -> None:
    """What the figures and the comparison take from a request's record is there."""
    events, error = record.get("event_ms"), record.get("error")
    if not (
        all(key in record and is_figure(record[key]) for key in LEVEL_NUMBERS)
        and is_figure(record.get("due_ms"))
        and isinstance(events, list)
        and all(is_number(each) for each in events)
        and isinstance(record.get("excluded"), bool)
        and (error is None or isinstance(error, str))
        and "error" in record
    ):
        raise Unusable("a request's record in it is not what benchmark.py saves")


def check_gateway(document: Saved) -> None:
    figures = document.metrics.get("gateway")
    if not isinstance(figures, dict):
        raise Unusable("its metrics have no figures of the gateway")
    for key in figures:
        if key.endswith("_ms"):
            find_summary(figures, key)
    for path, key in (("/ping", "ping_ms"), ("/health", "health_ms")):
        probes = [each for each in document.requests if each.get("path") == path]
        good = [each for each in probes if each.get("status") == 200 and each.get("error") is None]
        times = [(each.get("ttfb_ms"), each.get("round_trip_ms")) for each in good]
        if not all(is_number(spent) and is_figure(trip) for spent, trip in times):
            raise Unusable(f"a probe's record of {path} in it is not what benchmark.py saves")
        if probes or key in figures:
            check_summary(figures, key, summary([each["ttfb_ms"] for each in good]))
            edge = figures.get("net_not_separable")
            net = [max(0.0, spent - trip) for spent, trip in times if trip is not None]
            check_summary(figures, key.replace("_ms", "_net_ms"), summary([] if edge else net))
    check_connects(document, figures)


def check_connects(document: Saved, figures: Mapping[str, Any]) -> None:
    """The times of all the handshakes, which a threshold can be on as well."""
    if "connect_ms" in figures:
        good = [e for e in document.requests if e.get("status") == 200 and e.get("error") is None]
        values = [e["connect_ms"] for e in good if is_number(e.get("connect_ms"))]
        check_summary(figures, "connect_ms", summary(values))


def check_summary(figures: Mapping[str, Any], key: str, found: Mapping[str, Any]) -> None:
    """A saved summary is the one found. Raises Unusable."""
    saved = find_summary(figures, key)
    for name in ("n", *SUMMARY_NAMES):
        same(saved, name, found[name], f"{key}.{name}")


def find_summary(figures: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A summary with all that a report shows of it. Raises Unusable."""
    saved = figures.get(key)
    if not isinstance(saved, dict):
        raise Unusable(f"its metrics have no {key}")
    if not all(name in saved and is_figure(saved[name]) for name in (*SUMMARY_NAMES, "n")):
        raise Unusable(f"its {key} is no summary")
    return saved


def is_figure(value: Any) -> bool:
    """A measured number, or None for what was not measured."""
    return value is None or is_number(value) and value >= 0


def same(
    figures: Mapping[str, Any], key: str, found: float | None, name: str = "", within: float = SAME
) -> None:
    saved = figures.get(key)
    if saved is None and found is None:
        return
    if is_number(saved) and found is not None:
        if math.isclose(saved, found, rel_tol=1e-3, abs_tol=within):
            return
    said = "none" if found is None else f"{found:g}"
    raise Unusable(f"contradictory: metrics say {name or key} {brief(saved)}, the requests {said}")


# --- contradictions between documents


def disagreements(
    documents: Sequence[Saved], one_target: bool, far_apart_h: float
) -> list[Problem]:
    """What keeps these documents from being one test of one deployment."""
    found = [differs("tool version", [(each, each.tool_version) for each in documents])]
    for fleet in (False, True):
        same_side = [each for each in documents if each.kind.fleet is fleet]
        about = same_side if one_target else [e for e in same_side if e.script == "benchmark"]
        found.append(differs("target", [(each, target_url(each)) for each in about]))
        if not fleet:
            models = [(each, each.target.get("model")) for each in about]
            found.append(differs("model", [(each, str(name)) for each, name in models if name]))
    return [problem for problem in (*found, far_apart(documents, far_apart_h)) if problem]


def target_url(document: Saved) -> str:
    return shorten(str(document.target.get("url")), 200).rstrip("/")


def differs(what: str, values: Sequence[tuple[Saved, str]]) -> Problem | None:
    """The documents that say something else than most."""
    said = [value for _, value in values]
    if len(set(said)) < 2:
        return None
    usual = max(dict.fromkeys(said), key=said.count)
    others = [(each, value) for each, value in values if value != usual]
    names = ", ".join(f"{each.name}.json" for each, _ in others)
    text = f"contradictory: {what} {shorten(others[0][1], 80)}, the others' is {shorten(usual, 80)}"
    return Problem(names, text)


def far_apart(documents: Sequence[Saved], most_h: float) -> Problem | None:
    if not documents:
        return None
    first = min(documents, key=lambda each: each.started_at)
    last = max(documents, key=lambda each: each.started_at)
    hours = (last.started_at - first.started_at).total_seconds() / 3600
    if hours <= most_h:
        return None
    text = f"contradictory: begun {hours:.0f} h before {last.name}.json, one test takes at most "
    return Problem(f"{first.name}.json", f"{text}{most_h:g} h (--max-age): run it again")
