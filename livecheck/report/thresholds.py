"""The thresholds that a run has to keep: the guide's, changed by a file, and what becomes of them.

The file is TOML: a section for each result file, in it the objectives of `benchmark.py --slo`.

    required = ["gateway_overhead", "inference_c1"]  # instead of what the profile requires
    same_target = false            # the result files are of several deployments

    [gateway_overhead]
    ping_net_p99 = "5ms"
    [inference]                    # every level
    error_rate = "1%"
    [inference_c1]
    ttft_p50 = "800ms"
    tokens_per_s_mean = 10
    ttft_p95 = false               # not judged
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from livecheck.core.checks import Status
from livecheck.core.text import shorten
from livecheck.core.toml_file import UnreadableToml, read_toml
from livecheck.report.result_files import (
    LEVEL,
    ResultFile,
    has_own_work,
    kind_of,
    short_name,
    target_url,
)
from livecheck.wire import client_bound, client_error
from livecheck.wire.metrics import ANSWER, AT_LEAST, Objective, no_answer_words, parse_objective

OVERHEAD, EVERY_LEVEL = "gateway_overhead", "inference"
DEFAULTS: Mapping[str, Mapping[str, str]] = {  # the guide's table, step 8
    OVERHEAD: {"ping_net_p99": "5ms"},
    EVERY_LEVEL: {"error_rate": "0"},
    "inference_c1": {"ttft_p50": "500ms", "ttft_p95": "1000ms", "tokens_per_s_mean": "20"},
}
PROBES = ("ping_", "health_")  # objectives on probes, which are measured without the model
SHOWN = 40  # characters of a wrong word in the file
MAX_SHARE = 1e6  # of the target, also where the target is 0
REFUSALS = {"429", "503"}  # the errors by which a full queue refuses a request
MIN_SAMPLES = 5  # of a percentile, so that it is judged
SAMPLES_BEYOND = {"p95": 20, "p99": 100}  # with fewer samples, the percentile is about the slowest


class Verdict(str, Enum):
    """What becomes of a criterion. REPORTED: it is shown, but not judged."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    REPORTED = "REPORTED"


@dataclass(frozen=True)
class Criterion:
    """One thing that the verdict of a report depends on.

    subject: the name of the result file that it is about. name: what it is about, for people.
    target, value: texts with units. detail: what else there is to say.
    share: how much of the target is used up; above 1 it is missed.
    """

    subject: str
    name: str
    target: str
    value: str
    samples: int | None
    verdict: Verdict
    detail: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Limits:
    """How many requests the deployment at `url` takes: served at once, and waiting."""

    served: int
    waiting: int
    url: str


@dataclass(frozen=True)
class Thresholds:
    """Objectives by section and name (None: switched off), and what else the file says.

    set_by_file: (section, objective) of each line in the file, those with `false` among them.
    """

    sections: Mapping[str, Mapping[str, Objective | None]]
    set_by_file: frozenset[tuple[str, str]] = frozenset()
    required: tuple[str, ...] | None = None
    same_target: bool = True

    def objectives(self, name: str) -> list[Objective]:
        """Those of a result file. A level's own ones come before those for every level."""
        own = self.sections.get(name, {})
        general = self.sections.get(EVERY_LEVEL, {}) if LEVEL.fullmatch(name) else {}
        if has_own_work(name):  # no time or rate of theirs is like those of the other levels
            general = {key: each for key, each in general.items() if key == "error_rate"}
        others = [objective for key, objective in general.items() if key not in own]
        return [each for each in (*own.values(), *others) if each]

    @property
    def named_files(self) -> list[str]:
        """The result files for which the file sets an objective of their own."""
        named = {section for section, name in self.set_by_file if self.sections[section][name]}
        return sorted(named - {EVERY_LEVEL})


# --- the file


class MistakeInThresholds(ValueError):
    """What is wrong with the file of thresholds."""


def read_thresholds(path: Path | None) -> Thresholds:
    """The guide's, changed by a TOML file. Raises MistakeInThresholds."""
    content = load_toml(path) if path else {}
    try:
        return parse_thresholds(content)
    except ValueError as error:
        raise MistakeInThresholds(f"{path}: {error}") from None


def load_toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)[0]
    except UnreadableToml as error:
        raise MistakeInThresholds(str(error)) from None


def parse_thresholds(content: Mapping[str, Any]) -> Thresholds:
    sections: dict[str, dict[str, Objective | None]] = {
        section: {name: parse_line(section, name, value) for name, value in values.items()}
        for section, values in DEFAULTS.items()
    }
    same_target = content.get("same_target", True)
    if not isinstance(same_target, bool):
        raise ValueError("same_target must be true or false")
    set_by_file = set()
    for section, values in content.items():
        if section in ("required", "same_target"):
            continue
        check_section(section, values)
        for name, value in values.items():
            set_by_file.add((section, name))
            sections.setdefault(section, {})[name] = parse_value(section, name, value)
    required = read_required(content.get("required"))
    return Thresholds(sections, frozenset(set_by_file), required, same_target)


def check_section(section: str, values: Any) -> None:
    if section not in (OVERHEAD, EVERY_LEVEL) and not LEVEL.fullmatch(section):
        known = f"required, same_target, [{OVERHEAD}], [{EVERY_LEVEL}] and [{EVERY_LEVEL}_c<N>]"
        raise ValueError(f"unknown key {shorten(section, SHOWN)}: known are {known}")
    if not isinstance(values, dict):
        raise ValueError(f"{section} must be a section, [{section}]")


def parse_value(section: str, name: str, value: Any) -> Objective | None:
    """A number, a text in the form of --slo, or false: then the objective is switched off."""
    if value is False:
        try:  # an unknown objective is a mistake; a time takes "1ms", all else "1"
            parse_line(section, name, "1ms")
        except ValueError:
            parse_line(section, name, "1")
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        expected = "a number, a text such as 500ms, or false"
        raise ValueError(f"[{section}] {shorten(name, SHOWN)} must be {expected}")
    return parse_line(section, name, value if isinstance(value, str) else f"{value:.15g}")


def parse_line(section: str, name: str, value: str) -> Objective:
    """The objective, if the files of this section measure what it is about."""
    try:
        objective = parse_objective(f"{name}={value}")
    except ValueError as error:
        raise ValueError(f"[{section}] {shorten(name, SHOWN)}: {error}") from None
    if objective.per_request:
        raise ValueError(f"[{section}] {name} needs a statistic, for example {name}_p95")
    is_probe = name.startswith(PROBES)
    if not name.startswith("connect_") and is_probe is not (section == OVERHEAD):
        right = OVERHEAD if is_probe else f"{EVERY_LEVEL}_c1"
        raise ValueError(f"[{section}] {name} is not measured there: it belongs in [{right}]")
    return objective


def read_required(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(e, str) for e in value):
        raise ValueError('required must be a list of result files, for example ["cors"]')
    for name in value:
        if not kind_of(name):
            raise ValueError(f"required names {shorten(name, SHOWN)}, which no script saves")
    return tuple(dict.fromkeys(value))


# --- judge


def judge_thresholds(
    thresholds: Thresholds,
    files: Sequence[ResultFile],
    required: Sequence[str],
    there: Collection[str] = (),
) -> list[Criterion]:
    """Every threshold on the files that are there, and on those that should be. `there`: the
    names of all files that are there, also of those that cannot be used.

    The deployment's limits excuse errors from the guide's threshold, not from one of the file's.
    """
    limits = find_limits(files)
    present = {each.name: each for each in files}
    names = [each.name for each in files if each.is_level or each.name == OVERHEAD]
    names += [name for name in required if name not in names and thresholds.objectives(name)]
    names += [name for name in thresholds.named_files if name not in names]
    found = []
    for name in names:
        for objective in thresholds.objectives(name):
            file, own = present.get(name), (name, objective.name)
            is_wanted = name in required or own in thresholds.set_by_file
            if file and own not in thresholds.set_by_file and is_missing(file, objective):
                found += [judge_not_promised(objective, file)] if is_wanted else []
            elif file is None:
                found.append(judge_missing(objective, name, name in there))
            # no threshold on an endpoint that was not probed, unless it is wanted
            elif is_wanted or not why_skipped(file, objective):
                explicit = {own, (EVERY_LEVEL, objective.name)} & thresholds.set_by_file
                found.append(judge_one(objective, file, None if explicit else limits))
    return found


def why_skipped(file: ResultFile, objective: Objective) -> str:
    """Why the endpoint of this objective was not probed; "" when it was."""
    endpoint = objective.name.partition("_")[0]
    found = [e for e in file.checks if e.name == endpoint and e.status is Status.SKIP]
    return found[0].detail if found else ""


def is_missing(file: ResultFile, objective: Objective) -> bool:
    """Whether benchmark.py found that the deployment has no such endpoint, and does not promise it:
    of the guide's gateway it says FAIL."""
    endpoint = objective.name.partition("_")[0]
    found = [e for e in file.checks if e.name == endpoint and e.status is Status.SKIP]
    return any(each.evidence.get("missing") is True for each in found)


def judge_not_promised(objective: Objective, file: ResultFile) -> Criterion:
    """The guide's threshold on an endpoint that another deployment need not have."""
    why = f"not promised by this deployment: {why_skipped(file, objective)}"
    label, target = label_of(objective, file.name), shown_target(objective)
    return Criterion(file.name, label, target, "-", None, Verdict.REPORTED, why)


def judge_missing(objective: Objective, name: str, is_there: bool) -> Criterion:
    """A threshold on a file that is not there, or that `is_there` and cannot be used."""
    why = f"{name}.json cannot be used" if is_there else f"there is no {name}.json"
    label, target = label_of(objective, name), shown_target(objective)
    return Criterion(name, label, target, "-", None, Verdict.UNDECIDED, why)


def judge_one(objective: Objective, file: ResultFile, limits: Limits | None) -> Criterion:
    name = file.name
    label, target = label_of(objective, name), shown_target(objective)
    value, samples = objective.value(file.metrics), count_samples(objective, file)
    if value is None:
        return judge_unmeasured(objective, file, samples)
    if unknown := objective.why_unknown(file.metrics):
        return Criterion(name, label, target, "-", samples, Verdict.UNDECIDED, unknown)
    shown, share = with_unit(objective, value), share_of_target(objective, value)
    if objective.name != "error_rate" and (why := client_bound.words(file.metrics)):
        return Criterion(name, label, target, shown, samples, Verdict.UNDECIDED, why)
    if objective.name == "error_rate" and (overload := find_overload(file, limits)):
        why = f"not judged: {overload}"
        return Criterion(name, label, target, shown, samples, Verdict.REPORTED, why)
    notes = (
        value_with_network(objective, file),
        at_least_words(objective, file.metrics),
        about_samples(objective, samples or 0),
        client_error.limit_words(file.metrics.get("client"), objective.key),
    )
    detail = "; ".join(note for note in notes if note)
    if is_percentile(objective) and (samples or 0) < MIN_SAMPLES:
        return Criterion(name, label, target, shown, samples, Verdict.UNDECIDED, detail)
    verdict = Verdict.PASS if objective.holds(value) else Verdict.FAIL
    return Criterion(name, label, target, shown, samples, verdict, detail, share)


def is_percentile(objective: Objective) -> bool:
    return (objective.statistic or "").startswith("p")


def at_least_words(objective: Objective, figures: Mapping[str, Any]) -> str:
    """A note where the value is only what was seen of answers that never began."""
    words = no_answer_words(figures)
    return f"it is longer than that: {words}" if objective.is_at_least(figures) else ""


def about_samples(objective: Objective, count: int) -> str:
    """A note when a percentile has too few samples to say what it seems to say."""
    statistic = objective.statistic or ""
    if is_percentile(objective) and count < MIN_SAMPLES:
        return f"{count} samples are too few for a {statistic}: at least {MIN_SAMPLES}, better 30"
    if count < SAMPLES_BEYOND.get(statistic, 0):
        return f"of {count} samples the {statistic} is close to the slowest"
    return ""


def judge_unmeasured(objective: Objective, file: ResultFile, samples: int | None) -> Criterion:
    """A figure that is missing: undecided, unless the one with the network in it is good enough."""
    gateway = file.metrics.get("gateway") or {}
    label, target = label_of(objective, file.name), shown_target(objective)
    why = why_skipped(file, objective) or objective.why_unknown(file.metrics) or "not measured"
    larger = including_network(objective)
    if larger and (reason := gateway.get("net_not_separable")):
        why = f"not separable from the network: {reason}"
        if (value := larger.value(file.metrics)) is not None:
            shown, samples = with_unit(objective, value), count_samples(larger, file)
            if larger.holds(value) and (samples or 0) >= MIN_SAMPLES:
                why, share = "kept even with the network", share_of_target(objective, value)
                return Criterion(file.name, label, target, shown, samples, Verdict.PASS, why, share)
            why += f"; with the network {shown}"
    return Criterion(file.name, label, target, "-", samples, Verdict.UNDECIDED, why)


def including_network(objective: Objective) -> Objective | None:
    """The same bound for the time as it was measured; None when it is about that time already."""
    measured = str(objective).replace("_net_", "_")
    return parse_objective(measured) if "_net_" in objective.name else None


def value_with_network(objective: Objective, file: ResultFile) -> str:
    """A note with the time as it was measured; "" when nothing was subtracted from it."""
    larger = including_network(objective)
    value = larger.value(file.metrics) if larger else None
    return "" if value is None else f"with the network {with_unit(objective, value)}"


def count_samples(objective: Objective, file: ResultFile) -> int | None:
    key = AT_LEAST if objective.key == ANSWER and AT_LEAST in file.metrics else objective.key
    for figures in (file.metrics, file.metrics.get("gateway") or {}):
        found = figures.get(key)
        if isinstance(found, Mapping) and isinstance(found.get("n"), int):
            return int(found["n"])
    count = file.metrics.get("requests")
    return count if isinstance(count, int) else None


# --- the deployment's limits


def find_limits(files: Sequence[ResultFile]) -> Limits | None:
    """The limits that test_queue.py found or was told, when it has both."""
    for file in files:
        served, waiting = (file.metrics.get(key) for key in ("max_concurrent", "max_queue"))
        if file.script == "test_queue" and isinstance(served, int) and isinstance(waiting, int):
            return Limits(served, waiting, target_url(file)) if min(served, waiting) > 0 else None
    return None


def find_overload(file: ResultFile, limits: Limits | None) -> str | None:
    """Why some of a level's requests may be refused."""
    figures = file.metrics
    in_flight = figures.get("most_in_flight", figures.get("concurrency"))  # open and closed loop
    if not (file.is_level and limits and isinstance(in_flight, int)):
        return None
    total = limits.served + limits.waiting
    if target_url(file) != limits.url or in_flight <= total:
        return None
    parts = f"{limits.served} served at once, {limits.waiting} waiting"
    return f"{in_flight} in flight, but the deployment takes {total} ({parts})"


def has_only_refusals(file: ResultFile, limits: Limits | None) -> bool:
    """A level beyond the deployment's limits whose only failure is that some were refused."""
    if not find_overload(file, limits):
        return False
    failed = {each.name for each in file.checks if each.status is Status.FAIL}
    errors = {record["error"] for record in file.requests if record["error"] is not None}
    return failed == {"requests"} and errors <= REFUSALS and bool(file.succeeded)


# --- how a threshold is shown

LABELS = {
    "ping": "/ping",
    "ping_net": "/ping net of network",
    "health": "/health",
    "health_net": "/health net of network",
    "ttft": "TTFT",
    "ttfa": "TTFA",
    "itl": "ITL",
    "tpot": "TPOT",
    "e2e": "E2E latency",
    "connect": "connect",
    "tokens_per_s": "decode rate",
    "error_rate": "error rate",
    "output_tokens_per_s": "output throughput",
    "requests_per_s": "request throughput",
    "goodput_per_s": "goodput",
}


def label_of(objective: Objective, file: str) -> str:
    """`c=1 TTFT p95`, `/ping net of network p99`."""
    series = objective.name.removesuffix(f"_{objective.statistic}")
    parts = [LABELS.get(series, series), objective.statistic or ""]
    if LEVEL.fullmatch(file):
        parts.insert(0, short_name(file))
    return " ".join(parts).rstrip()


def shown_target(objective: Objective) -> str:
    if objective.name == "error_rate" and not objective.limit:
        return "0 %"
    return f"{'≤' if objective.upper else '≥'} {with_unit(objective, objective.limit)}"


def with_unit(objective: Objective, value: float) -> str:
    if objective.name == "error_rate":
        return f"{100 * value:.2f} %" if value else "0 %"
    digits = f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{digits} {objective.unit}"


def share_of_target(objective: Objective, value: float) -> float | None:
    """How much of the target is used up; None for a target of 0 that is kept."""
    part, whole = (value, objective.limit) if objective.upper else (objective.limit, value)
    if part == whole == 0:
        return None
    return min(part / whole, MAX_SHARE) if whole else MAX_SHARE
