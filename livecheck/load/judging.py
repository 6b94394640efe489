"""Verdicts on a level that hold however its requests were sent. Pure: from records and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from livecheck.core.checks import Check, Status, passed, skip, undecided, warned
from livecheck.core.text import plural
from livecheck.load.record import Record
from livecheck.wire import client_bound, form, metrics, speculation
from livecheck.wire.client_bound import may_be_own_doing
from livecheck.wire.output_arrivals import STEP, Arrivals, read_arrivals

# Share of the streams: a busy machine holds one back now and then.
HELD_SHARE = 0.1

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


def check_stream(found: Records, end: str = "[DONE]") -> Check | None:
    """The streams of the successful requests were well-formed. One with a complaint can be read
    all the same, so that there are figures."""
    good = succeeded(found)
    if not good:
        return None
    complaints = [text for record in good for text in record["complaints"]]
    evidence = {"streams": len(good), "complaints": len(complaints)}
    words = f"{len(good)} well-formed, each with a {end}"
    return form.judge("stream", complaints, words, evidence)


def check_pacing(found: Records, client_bound: bool) -> Check | None:
    """The streams flow: their output does not come in blocks, many tokens at once and seldom."""
    good = [record for record in succeeded(found) if record["event_ms"]]
    if not good:
        return None
    certain, held, count, is_short = None, 0, 0, True
    for record in good:
        arrivals = arrivals_of(record)
        count += arrivals.count
        is_short = is_short and arrivals.are_grouped and arrivals.pieces <= STEP
        held += arrivals.are_blocks
        if arrivals.are_blocks and not (certain or client_bound):
            certain = None if may_be_own_delay(record, arrivals) else record
    evidence = {"streams": len(good), "held_back": held}
    evidence |= {"events": sum(r["output_events"] for r in good), "arrivals": count}
    came = f"{evidence['events']} events came in {plural(count, 'arrival')}"
    if held <= HELD_SHARE * len(good):
        if is_short:
            return Check("pacing", Status.SKIP, f"too short to tell: {came}", evidence)
        return passed("pacing", f"{came}, in {plural(len(good), 'stream')}", evidence)
    if certain is None:
        detail = f"cannot tell: {came}, but this program was late itself (see the check client)"
        return Check("pacing", Status.SKIP, detail, evidence)
    words = held_words(certain, arrivals_of(certain))
    detail = f"held back in blocks in {held} of {len(good)} streams, {words}"
    return warned("pacing", f"{detail}: look for a proxy that buffers", evidence)


def arrivals_of(record: Record) -> Arrivals:
    return read_arrivals(record["event_ms"], metrics.tokens_of(record))


def may_be_own_delay(record: Record, arrivals: Arrivals) -> bool:
    """Whether this program could not run for as long as the output needed for an arrival."""
    times = arrivals.at_ms
    usual_ms = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else times[0]
    return bool(record["starved_ms"] >= usual_ms)


def held_words(record: Record, arrivals: Arrivals) -> str:
    """`as 128 events in 7 arrivals (128 tokens, 2.1 arrivals a second)`."""
    tokens, per_s = metrics.tokens_of(record), arrivals.per_s
    more = [f"{tokens} tokens"] if tokens else []
    more += [f"{per_s:.2g} arrivals a second"] if per_s else []
    count = f"{plural(record['output_events'], 'event')} in {plural(arrivals.count, 'arrival')}"
    return f"as {count}" + (f" ({', '.join(more)})" if more else "")


def check_tokens(usage: bool, found: Records) -> Check | None:
    """The token counts can be trusted: their sources agree."""
    good = succeeded(found)
    if not good:
        return None
    good = [record for record in good if record["output_tokens"] is not None]
    if not good:
        return skip("tokens", "the server gives no count, and shows no token")
    sources = Counter(record["token_source"] for record in good)
    named = " and ".join(name for name, _ in sources.most_common())
    if not usage:
        named += " (the server refuses stream_options)"
    total = int(sum(record["output_tokens"] for record in good))
    hidden = sum(record["hidden_tokens"] or 0 for record in good)
    evidence = {"output_tokens": total, "hidden_tokens": hidden, "sources": dict(sources)}
    of_them = f" ({hidden} hidden ones, in no rate)" if hidden else ""
    if problems := token_problems(good):
        return warned("tokens", f"from {named}{of_them}; {'; '.join(problems)}", evidence)
    return passed("tokens", f"{total} output tokens{of_them}, from {named}", evidence)


def token_problems(good: Records) -> list[str]:
    """What makes the count doubtful, each with an example."""
    doubts = [doubt.partition(": ")[::2] for record in good for doubt in record["token_doubts"]]
    first = {kind: text for kind, text in reversed(doubts)}
    counts = Counter(kind for kind, _ in doubts)
    problems = [f"{text} (in {plural(counts[kind], 'answer')})" for kind, text in first.items()]
    counted_twice = [r for r in good if r["server_predicted_tokens"] is not None]
    if differing := [
        r for r in counted_twice if r["server_predicted_tokens"] != r["output_tokens"]
    ]:
        usage, timings = differing[0]["output_tokens"], differing[0]["server_predicted_tokens"]
        example = f"as {usage} and {timings} tokens"
        problems.append(
            f"usage and timings disagree in {plural(len(differing), 'answer')}, {example}"
        )
    pairs = [(r["output_events"], metrics.tokens_of(r)) for r in good]
    if many := [(events, tokens) for events, tokens in pairs if tokens and events > tokens]:
        example = f"as {many[0][0]} events for {many[0][1]} tokens"
        problems.append(f"more events than tokens in {plural(len(many), 'answer')}, {example}")
    problems += speculation.problems(good)
    by_events = [record for record in good if record["token_source"] == "events"]
    if uncounted := sum(not record["token_doubts"] for record in by_events):
        problems.append(f"the server gives no count: events were counted in {uncounted} answers")
    return problems


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
        reason, is_open = why_unmeasured(wanted, figures, found)
        is_open = is_open or limited
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
    if wanted.is_at_least(figures):
        detail = f"at least {detail}: {metrics.no_answer_words(figures)}"
    return Check(name, status, detail, evidence)


def why_unmeasured(
    wanted: metrics.Objective, figures: dict[str, Any], found: Records
) -> tuple[str, bool]:
    """Words for it, which may be none; and whether the answers were nothing but thoughts, so that
    nothing can be said of the bound."""
    silent = shown_nothing(succeeded(found))
    edge = (figures.get("gateway") or {}).get("net_not_separable")
    if "_net_" in wanted.name and edge:
        return f": not separable, {edge}", bool(silent)
    return (f": {silent[0]['thoughts_only']}", True) if silent else ("", False)


STARVED = (
    ", but this program could not run for a part of that time; repeat it on a less busy machine"
)


def undecided_words(wanted: metrics.Objective, value: float, bound: str, why: str = STARVED) -> str:
    measured = f"{value:.1%} of the requests" if wanted.per_request else f"{value:g} {wanted.unit}"
    return f"cannot tell: {measured.strip()} (expected {bound}){why}"


def values_of(wanted: metrics.Objective, found: Records) -> list[float | None]:
    """What each request reached, of a bound for every request; None where it reached nothing, so
    that it has not kept the bound."""
    return [wanted.value_of(record) for record in judged(wanted, found)]


def judged(wanted: metrics.Objective, found: Records) -> Records:
    """The requests that a bound for every request is about, and that tell whether they keep it."""
    good = succeeded(found) if wanted.per_request else []
    if wanted.name != "e2e":  # where nothing is shown there is no such figure
        good = [record for record in good if not is_silent(record)]
    return [record for record in good if not wanted.is_unknown(record)]


def reached(wanted: metrics.Objective, figures: dict[str, Any], found: Records) -> float | None:
    """The figure that an objective is about, or the share of requests that kept its bound, of those
    that tell it."""
    if not wanted.per_request:
        return wanted.value(figures)
    values = values_of(wanted, found)
    return sum(map(wanted.holds, values)) / len(values) if values else None


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
