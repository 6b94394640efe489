"""What a run has to keep: the guide's thresholds, a file that changes them, and their judgement.

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

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from livecheck.core.checks import Status
from livecheck.report.result_files import KINDS, LEVEL, Saved, short_name, target_url
from livecheck.wire.metrics import Objective, parse_objective

GATEWAY, LEVELS = "gateway_overhead", "inference"
DEFAULTS: Mapping[str, Mapping[str, str]] = {  # the guide's table, step 8
    GATEWAY: {"ping_net_p99": "5ms"},
    LEVELS: {"error_rate": "0"},
    "inference_c1": {"ttft_p50": "500ms", "ttft_p95": "1000ms", "tokens_per_s_mean": "20"},
}
PROBES = ("ping_", "health_")  # what is measured without the model, and judged where it is
FAR = 1e6  # times the target: beyond, and where the target is 0
REFUSALS = {"429", "503"}  # how a full queue answers
LEAST = 5  # samples of a percentile that is judged at all
TELLING = {"p95": 20, "p99": 100}  # samples from which on one lies above


class Verdict(str, Enum):
    """What a criterion comes to. REPORTED: said, and not judged."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    REPORTED = "REPORTED"


@dataclass(frozen=True)
class Criterion:
    """One line of the verdict.

    subject: the result file it is about. name: for people, the level in it. target, value: with
    their units.
    detail: what else there is to say. share: of the target that is used up; above 1 it is missed.
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
    """What the deployment at `url` holds: requests served at once and waiting; None: any number."""

    served: int
    waiting: int | None
    url: str

    def hold(self, in_flight: int) -> bool:
        return self.waiting is None or in_flight <= self.served + self.waiting

    def __str__(self) -> str:
        return f"{self.served} served at once and {self.waiting} waiting"


@dataclass(frozen=True)
class Thresholds:
    """Objectives by section, and what the file says besides. `asked`: sections of the file."""

    sections: Mapping[str, Sequence[Objective]]
    asked: frozenset[tuple[str, str]] = frozenset()
    required: tuple[str, ...] | None = None
    same_target: bool = True

    def of(self, name: str) -> list[Objective]:
        """Those of a result file; of a level, what is said of all levels and not of it."""
        own = list(self.sections.get(name, ()))
        if not LEVEL.fullmatch(name):
            return own
        named = {each.name for each in own} | self.dropped(name)
        return own + [e for e in self.sections.get(LEVELS, ()) if e.name not in named]

    @property
    def wanted(self) -> list[str]:
        """The result files that the file sets objectives for."""
        kept = {(name, each.name) for name, own in self.sections.items() for each in own}
        return sorted({section for section, _ in self.asked & kept if section != LEVELS})

    def dropped(self, name: str) -> set[str]:
        """What the file switches off for this section."""
        kept = {each.name for each in self.sections.get(name, ())}
        return {objective for section, objective in self.asked if section == name} - kept


# --- the file


def read_thresholds(path: Path | None) -> Thresholds:
    """The guide's, changed by a TOML file. ValueError says what is wrong with the file."""
    content = load(path) if path else {}
    sections = {name: dict(values) for name, values in DEFAULTS.items()}
    required, same_target = content.pop("required", None), content.pop("same_target", True)
    if not isinstance(same_target, bool):
        raise ValueError(f"{path}: same_target must be true or false")
    asked = set()
    for section, values in content.items():
        check_section(path, section, values)
        for name, value in values.items():
            asked.add((section, name))
            sections.setdefault(section, {})
            if value is False:
                check_name(path, section, name)
                sections[section].pop(name, None)
            else:
                sections[section][name] = as_text(path, section, name, value)
    return Thresholds(
        {name: parse(path, name, values) for name, values in sections.items()},
        frozenset(asked),
        read_required(path, required),
        same_target,
    )


def load(path: Path) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content: dict[str, Any] = toml.loads(path.read_bytes().decode())
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no TOML: not UTF-8") from None
    except (toml.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    return content


def check_section(path: Path | None, section: str, values: Any) -> None:
    if section not in (GATEWAY, LEVELS) and not LEVEL.fullmatch(section):
        known = f"required, same_target, [{GATEWAY}], [{LEVELS}], [{LEVELS}_c<N>]"
        raise ValueError(f"{path}: unknown key {section}: known are {known}")
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {section} must be a section, [{section}]")


def as_text(path: Path | None, section: str, name: str, value: Any) -> str:
    """A value as --slo has it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        kind = "a number, a text such as 500ms, or false"
        raise ValueError(f"{path}: [{section}] {name} must be {kind}")
    return value if isinstance(value, str) else f"{value:.15g}"


def check_name(path: Path | None, section: str, name: str) -> None:
    """A name that is only switched off has to be one as well."""
    for value in ("1ms", "1"):
        try:
            return check_place(path, section, parse_objective(f"{name}={value}"))
        except ValueError as error:
            problem = error
    raise ValueError(f"{path}: [{section}] {name}: {problem}")


def parse(path: Path | None, section: str, values: Mapping[str, str]) -> list[Objective]:
    found = []
    for name, value in values.items():
        try:
            objective = parse_objective(f"{name}={value}")
        except ValueError as error:
            raise ValueError(f"{path}: [{section}] {name}: {error}") from None
        check_place(path, section, objective)
        found.append(objective)
    return found


def check_place(path: Path | None, section: str, objective: Objective) -> None:
    """The objective is one of what this section's files measure."""
    name = objective.name
    if objective.per_request:
        raise ValueError(f"{path}: [{section}] {name} needs a statistic, as {name}_p95")
    if name.startswith("connect_") or name.startswith(PROBES) is (section == GATEWAY):
        return
    other = GATEWAY if name.startswith(PROBES) else f"{LEVELS}_c1"
    raise ValueError(f"{path}: [{section}] {name} is not measured there but in [{other}]")


def read_required(path: Path | None, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(e, str) for e in value):
        raise ValueError(f"{path}: required must be a list of result files, as cors")
    for name in value:
        if not any(re.fullmatch(kind.names, name) for kind in KINDS):
            raise ValueError(f"{path}: required names {name}, which no script saves")
    return tuple(dict.fromkeys(value))


# --- judge


def judge(
    thresholds: Thresholds, documents: Sequence[Saved], required: Sequence[str]
) -> list[Criterion]:
    """Every threshold on what is there, and on what should be.

    The deployment's limits excuse errors from the guide's threshold, not from one of the file's.
    """
    limits = limits_of(documents)
    present = {each.name: each for each in documents}
    names = [each.name for each in documents if each.is_level or each.name == GATEWAY]
    names += [name for name in required if name not in names and thresholds.of(name)]
    names += [name for name in thresholds.wanted if name not in names]
    found = []
    for name in names:
        for objective in thresholds.of(name):
            document = present.get(name)
            wanted = name in required or (name, objective.name) in thresholds.asked
            if document is None or applies(document, objective, wanted):
                explicit = {(name, objective.name), (LEVELS, objective.name)} & thresholds.asked
                held = None if explicit else limits
                found.append(judge_one(objective, name, document, held))
    return found


def applies(document: Saved, objective: Objective, wanted: bool) -> bool:
    """Not to an endpoint that this deployment does not have, unless somebody asks for it."""
    return wanted or not skipped(document, objective)


def skipped(document: Saved, objective: Objective) -> str:
    """Why the endpoint it is about was not probed."""
    endpoint = objective.name.partition("_")[0]
    found = [e for e in document.checks if e.name == endpoint and e.status is Status.SKIP]
    return found[0].detail if found else ""


def judge_one(
    objective: Objective, name: str, document: Saved | None, limits: Limits | None
) -> Criterion:
    label, target = title(objective, name), shown_target(objective)
    if document is None:
        why = f"no {name}.json"
        return Criterion(name, label, target, "-", None, Verdict.UNDECIDED, why)
    value, samples = objective.value(document.metrics), samples_of(objective, document)
    if value is None:
        return unmeasured(objective, document, samples)
    shown, share = show(objective, value), used_up(objective, value)
    if objective.name == "error_rate" and (over := overload(document, limits)):
        return Criterion(name, label, target, shown, samples, Verdict.REPORTED, over)
    detail = "; ".join(filter(None, (raw(objective, document), few(objective, samples))))
    if is_percentile(objective) and (samples or 0) < LEAST:
        return Criterion(name, label, target, shown, samples, Verdict.UNDECIDED, detail)
    verdict = Verdict.PASS if objective.holds(value) else Verdict.FAIL
    return Criterion(name, label, target, shown, samples, verdict, detail, share)


def is_percentile(objective: Objective) -> bool:
    return (objective.statistic or "").startswith("p")


def few(objective: Objective, samples: int | None) -> str:
    """How little a percentile of so few samples says; "" where it is one."""
    count = samples or 0
    if is_percentile(objective) and count < LEAST:
        return f"{count} samples are no {objective.statistic}: at least {LEAST}, better 30"
    if count < TELLING.get(objective.statistic or "", 0):
        return f"of {count} samples: close to the slowest"
    return ""


def unmeasured(objective: Objective, document: Saved, samples: int | None) -> Criterion:
    """A figure that is not there: undecided, unless it can be no worse than one that is."""
    gateway = document.metrics.get("gateway") or {}
    label, target = title(objective, document.name), shown_target(objective)
    why = skipped(document, objective) or "not measured"
    if edge := "_net_" in objective.name and gateway.get("net_not_separable"):
        with_network = parse_objective(str(objective).replace("_net_", "_"))
        value = with_network.value(document.metrics)
        why = f"not separable from the network: {edge}"
        if value is not None:
            shown, samples = show(objective, value), samples_of(with_network, document)
            if with_network.holds(value) and (samples or 0) >= LEAST:
                why, share = "even with the network in it", used_up(objective, value)
                return Criterion(
                    document.name, label, target, shown, samples, Verdict.PASS, why, share
                )
            why += f"; with it {shown}"
    return Criterion(document.name, label, target, "-", samples, Verdict.UNDECIDED, why)


def raw(objective: Objective, document: Saved) -> str:
    """Beside a figure net of the network, the one that was measured."""
    if "_net_" not in objective.name:
        return ""
    with_network = parse_objective(str(objective).replace("_net_", "_"))
    value = with_network.value(document.metrics)
    return f"raw {show(objective, value)}" if value is not None else ""


def samples_of(objective: Objective, document: Saved) -> int | None:
    for place in (document.metrics, document.metrics.get("gateway") or {}):
        found = place.get(objective.key)
        if isinstance(found, Mapping) and isinstance(found.get("n"), int):
            return int(found["n"])
    count = document.metrics.get("requests")
    return count if isinstance(count, int) else None


def limits_of(documents: Sequence[Saved]) -> Limits | None:
    """What test_queue.py found or was told, if it came that far."""
    for document in documents:
        served, waiting = (document.metrics.get(k) for k in ("max_concurrent", "max_queue"))
        if document.script == "test_queue" and isinstance(served, int) and served > 0:
            bounded = waiting if isinstance(waiting, int) and waiting > 0 else None
            return Limits(served, bounded, target_url(document))
    return None


def overload(document: Saved, limits: Limits | None) -> str | None:
    """Why a level may be refused a part of its requests."""
    figures = document.metrics
    in_flight = figures.get("most_in_flight", figures.get("concurrency"))  # open and closed loop
    if not (document.is_level and limits and isinstance(in_flight, int)):
        return None
    if target_url(document) != limits.url or limits.hold(in_flight):
        return None
    return f"{in_flight} in flight is more than it holds: {limits}"


def only_refusals(document: Saved, limits: Limits | None) -> bool:
    """A level beyond the deployment's limits whose only failure is that some were refused."""
    if not overload(document, limits):
        return False
    failed = {each.name for each in document.checks if each.status is Status.FAIL}
    errors = {record["error"] for record in document.requests if record["error"] is not None}
    return failed == {"requests"} and errors <= REFUSALS and bool(document.succeeded)


# --- words

NAMES = {
    "ping": "/ping",
    "ping_net": "/ping net of network",
    "health": "/health",
    "health_net": "/health net of network",
    "ttft": "TTFT",
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


def title(objective: Objective, document: str) -> str:
    series = objective.name.removesuffix(f"_{objective.statistic}")
    level = short_name(document) if LEVEL.fullmatch(document) else ""
    return " ".join(filter(None, (level, NAMES.get(series, series), objective.statistic)))


def shown_target(objective: Objective) -> str:
    if objective.name == "error_rate" and not objective.limit:
        return "0 %"
    return f"{'≤' if objective.upper else '≥'} {show(objective, objective.limit)}"


def show(objective: Objective, value: float) -> str:
    if objective.name == "error_rate":
        return f"{value:.2%}" if value else "0 %"
    digits = f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{digits} {objective.unit}"


def used_up(objective: Objective, value: float) -> float | None:
    """How much of the bound is used up; None where nothing may be used."""
    part, whole = (value, objective.limit) if objective.upper else (objective.limit, value)
    if part == whole == 0:
        return None
    return min(part / whole, FAR) if whole else FAR


def failing(criteria: Sequence[Criterion], verdict: Verdict) -> Iterator[Criterion]:
    """Those of a verdict, the furthest from its target first."""
    chosen = [each for each in criteria if each.verdict is verdict]
    yield from sorted(chosen, key=lambda each: -(each.share or 0.0))
