"""Verdicts on a level that hold however its requests were sent. Pure: from records and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from livecheck.core.checks import Check, Status, undecided
from livecheck.load.record import Record
from livecheck.wire import client_bound, form, metrics
from livecheck.wire.client_bound import may_be_own_doing

Records = list[Record]
Fair = tuple[dict[str, Any], Records]  # figures and records without this program's own delay


def allowed_errors(objectives: Sequence[metrics.Objective]) -> float:
    """The share of requests that may fail: --slo error_rate, else none."""
    return min((each.limit for each in objectives if each.name == "error_rate"), default=0.0)


def error_words(bad: Records) -> str:
    """Each kind of error once, with its count and the first words for it."""
    counts = Counter(record["error"] for record in bad)
    texts = {record["error"]: record["error_text"] for record in reversed(bad)}
    return "; ".join(f"{kind} x{count} ({texts[kind]})" for kind, count in counts.most_common())


def shown_nothing(found: Records) -> Records:
    """The successful requests in whose answers no token is shown: all of them were thoughts."""
    return [each for each in found if is_silent(each)]


def is_silent(record: Record) -> bool:
    return bool(record.get("thoughts_only")) and record["ttft_ms"] is None


def succeeded(found: Records) -> Records:
    return [record for record in found if record["error"] is None]


def check_stream(found: Records) -> Check | None:
    """The streams of the successful requests were well-formed. One with a complaint can be read
    all the same, so that there are figures."""
    good = succeeded(found)
    if not good:
        return None
    complaints = [text for record in good for text in record["complaints"]]
    evidence = {"streams": len(good), "complaints": len(complaints)}
    words = f"{len(good)} well-formed, each with a [DONE]"
    return form.judge("stream", complaints, words, evidence)


def check_objective(
    wanted: metrics.Objective,
    figures: dict[str, Any],
    found: Records,
    limited: bool = False,
    fair: Callable[[], Fair] | None = None,
) -> Check:
    """One --slo. It is also missed when its figure was not measured, unless the rate limit of the
    key (`limited`) left nothing to measure: then it is undecided. So it is when the streams do not
    tell the figure, or when it is kept by the figures without this program's own delay (`fair`)
    alone."""
    bound = f"{'at most' if wanted.upper else 'at least'} {wanted.limit:g} {wanted.unit}".strip()
    value = reached(wanted, figures, found)
    evidence = {"value": value, "limit": wanted.limit, "unit": wanted.unit or "share"}
    name = f"slo:{wanted.name}"
    if why := unknown_words(wanted, figures, found, value):
        return undecided(name, f"cannot tell: {why} (expected {bound})", evidence)
    if value is None:
        edge = (figures.get("gateway") or {}).get("net_not_separable")
        reason = f": not separable, {edge}" if "_net_" in wanted.name and edge else ""
        silent = shown_nothing(succeeded(found))
        if silent and not reason:
            reason = f": {silent[0]['thoughts_only']}"
        is_open = limited or bool(silent)
        status = Status.SKIP if is_open else Status.FAIL
        detail = f"not measured in this run{reason} (expected {bound})"
        return Check(name, status, detail, evidence, essential=is_open)
    status = Status.PASS if is_kept(wanted, value) else Status.FAIL
    own_value = reached(wanted, *fair()) if fair and status is Status.FAIL else None
    if own_value is not None and is_kept(wanted, own_value):
        return undecided(name, undecided_words(wanted, value, bound), evidence)
    if status is Status.FAIL and may_be_own_doing(wanted, figures, value, values_of(wanted, found)):
        why = f", but {client_bound.words(figures)}"
        return undecided(name, undecided_words(wanted, value, bound, why), evidence)
    if wanted.per_request:
        evidence["unit"] = "share of requests"
        return Check(name, status, f"{value:.1%} of the requests kept {bound}", evidence)
    detail = f"{value:g} {wanted.unit}".strip() + f", expected {bound}"
    return Check(name, status, detail, evidence)


STARVED = (
    ", but this program could not run for a part of that time; repeat it on a less busy machine"
)


def undecided_words(wanted: metrics.Objective, value: float, bound: str, why: str = STARVED) -> str:
    measured = f"{value:.1%} of the requests" if wanted.per_request else f"{value:g} {wanted.unit}"
    return f"cannot tell: {measured.strip()} (expected {bound}){why}"


def values_of(wanted: metrics.Objective, found: Records) -> list[float]:
    """What each request reached, of a bound for every request."""
    values = [record[wanted.key] for record in succeeded(found)] if wanted.per_request else []
    return [each for each in values if each is not None]


def reached(wanted: metrics.Objective, figures: dict[str, Any], found: Records) -> float | None:
    """The figure that an objective is about, or the share of requests that kept its bound, of those
    that tell it."""
    if not wanted.per_request:
        return wanted.value(figures)
    good = succeeded(found)
    if wanted.name != "e2e":  # where nothing is shown there is no such figure
        good = [record for record in good if not is_silent(record)]
    good = [record for record in good if not wanted.is_unknown(record)]
    return sum(wanted.holds(r[wanted.key]) for r in good) / len(good) if good else None


def unknown_words(
    wanted: metrics.Objective, figures: dict[str, Any], found: Records, value: float | None
) -> str | None:
    """Why the streams do not tell whether an objective is kept; None when they do."""
    if not wanted.per_request:
        return wanted.why_unknown(figures)
    is_known = not any(wanted.is_unknown(record) for record in succeeded(found))
    is_broken = value is not None and value < 1
    return None if is_known or is_broken else wanted.words_if_unknown(figures)


def is_kept(wanted: metrics.Objective, value: float | None) -> bool:
    return value == 1 if wanted.per_request else wanted.holds(value)
