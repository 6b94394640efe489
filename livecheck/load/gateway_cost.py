"""What does the gateway cost? The same requests through it, and straight to the inference server.

One request is in flight at a time, once through the gateway and once directly, in turn. So a drift
affects both sides alike, and so do the traces that the previous request leaves. The cost is the
median of the differences of the pairs; its interval is a percentile bootstrap over the pairs (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, passed, undecided, warned
from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.core.text import counted, figure
from livecheck.load import table
from livecheck.load.client_delay import records_of
from livecheck.load.level import KEPT_BYTES, Level, Session, chat_request, reason_of
from livecheck.load.record import Record
from livecheck.load.server_metrics import server_lines, watching
from livecheck.wire import chat
from livecheck.wire.access import LINES, Refusal, refusal_of, said_by
from livecheck.wire.answer import Answer, first_begun_ns
from livecheck.wire.api_base import find_base
from livecheck.wire.asking import Asker, Cause, Stop, fetch, rate_limit_words
from livecheck.wire.condensing import Condenser
from livecheck.wire.connection import CERTIFICATE_WANTED
from livecheck.wire.metrics import no_rate_words, percentile
from livecheck.wire.model_choice import first_for_chat
from livecheck.wire.other_scheme import wrong_scheme
from livecheck.wire.redirect import is_redirect, redirect_line
from livecheck.wire.wire import Target, Wire

LEAST_PAIRS = 20  # with fewer the interval says little
LEAST_FOR_INTERVAL = 6  # differences; the extremes of five hold the median in only 94 %
RESAMPLES = 4000
ACCURACY_MS = 0.1  # two equal deployments differ by nearly as much: no interval is narrower
GATEWAY, DIRECT = "gateway", "direct"
COSTS = {
    "ttft_ms": "TTFT [ms]",
    "e2e_ms": "E2E latency [ms]",
    "tokens_per_s": "decode rate [tok/s]",
}


@dataclass
class Side:
    """One of the two ways to the model. The n-th answer of its level belongs to the n-th pair."""

    session: Session
    level: Level


# --- measure


def first_contact(run: Run, wire: Wire) -> str | None:
    """The model of the inference server. CannotCheck when it cannot be asked."""
    answer = fetch(run, wire, chat.get(chat.MODELS))
    if text := wrong_scheme(wire.target, [answer]):
        raise CannotCheck(f"--direct-url: {text}")
    if answer.failure and answer.is_unreachable:
        why = f"cannot reach {wire.target.url} ({answer.failure.text})"
        hint = "is that the inference server? see --direct-url"
        if CERTIFICATE_WANTED in answer.failure.text:
            hint = "that of --cert is for the origin of --url only; see --direct-url"
        raise CannotCheck(f"{why}: {hint}")
    if answer.is_rate_limited:
        raise CannotCheck(f"{wire.target.url}: {rate_limit_words(answer)}")
    if is_redirect(answer):
        raise CannotCheck(redirect_line(wire.target, answer, "--direct-url"))
    answer = find_base(run, wire, answer, chat.COMPLETIONS, "--direct-url")
    if text := refused(wire.target, answer):
        raise CannotCheck(text)
    return first_for_chat(answer)


def refused(target: Target, answer: Answer) -> str | None:
    """The line for an inference server that does not let this program in; None when it does."""
    refusal, said = refusal_of(answer), said_by(answer, target.url)
    if refusal is None:
        return None
    if refusal is not Refusal.CREDENTIAL:
        return f"--direct-url: {LINES[refusal](answer, target.url)}"
    if target.token:
        return f"the direct key was refused ({said}): see --direct-key"
    return f"the inference server asks for a key ({said}): use --direct-key"


def measure_pairs(gateway: Side, direct: Side, warmups: int) -> None:
    """Warm both sides up, then send the pairs."""
    for side in (gateway, direct):
        for number in range(warmups):
            warm_up(side, number)
    load = gateway.level.load
    count = load.planned
    condenser = Condenser(KEPT_BYTES)
    amount = f"{count} pairs" if count is not None else f"pairs for {load.duration_s:g} s"
    session = gateway.session
    keep = gateway.level.keep_watched
    watch = watching(session.metrics_source, session.wire.timeout_s, keep)
    with session.run.progress(f"gateway and direct: {amount}", count) as step, watch:
        for number in load.numbers():
            for side in (gateway, direct):
                if gateway.level.stopped or direct.level.stopped:
                    return
                send(side, number, side.level.answers)
                condenser.add(side.level.answers[-1])
            condenser.finish()
            step()


def warm_up(side: Side, number: int) -> None:
    """One request that does not count; once more if the server refuses stream_options."""
    if side.level.stopped:
        return
    send(side, number, side.level.warmup)
    if side.level.stop_for(Cause.USAGE):
        side.session.usage, side.level.stopped = False, None
        side.level.warmup.pop()
        send(side, number, side.level.warmup)


def send(side: Side, number: int, answers: list[Answer]) -> None:
    """One request. Its answer is added to `answers`, also when it is interrupted."""
    session = side.session
    asker = Asker(session.run, session.wire, reason_of(side.level, session))
    asker.ask([chat_request(session, number)], keep=answers.extend)


def nothing_to_compare(target: Target, level: Level) -> str:
    """The line for an inference server that did not answer a single request of a pair."""
    if level.refused and (text := refused(target, level.refused)):
        return text
    return f"there is nothing to compare with at {target.url}: {level.stopped}"


def read_pairs(through: Side, past: Side) -> tuple[list[Answer], list[Record]]:
    """The answers of both sides, and their records on one scale of time."""
    answers = through.level.answers + past.level.answers
    for each in (through, past):
        for answer in each.level.answers:
            each.level.examples.look(answer)
    numbers = [(GATEWAY, number) for number in range(len(through.level.answers))]
    numbers += [(DIRECT, number) for number in range(len(past.level.answers))]
    clocks = {each.session.wire.clock for each in (through, past)}
    clock = clocks.pop() if len(clocks) == 1 else None
    start_ns, starvation = first_begun_ns(answers) or 0, through.session.starvation
    records = records_of(answers, start_ns, starvation, clock=clock)
    found = []
    for (side, number), record in zip(numbers, records, strict=True):
        found.append(record.copy(side=side))
        found[-1]["index"] = number
    return answers, found


def split(found: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records of the gateway, and those of the inference server."""
    here, there = ([r for r in found if r["side"] == side] for side in (GATEWAY, DIRECT))
    return here, there


def proxy_on_one_way(through: Side, past: Side) -> str | None:
    """What makes the two ways differ beside the gateway; None when no proxy does."""
    proxies = {
        "the gateway": through.session.wire.target.proxy,
        "the inference server": past.session.wire.target.proxy,
    }
    names = {which: proxy.name if proxy else None for which, proxy in proxies.items()}
    if len(set(names.values())) == 1:
        return None
    seen = [f"{which} is asked through the proxy {name}" for which, name in names.items() if name]
    return f"the cost is not that of the gateway alone: {' and '.join(seen)}"


# --- metrics


def cost_metrics(gateway: Sequence[Record], direct: Sequence[Record]) -> dict[str, Any]:
    """For each figure the medians of both sides and the median of the differences of the pairs."""
    both = zip(gateway, direct, strict=False)
    good = [(a, b) for a, b in both if a["error"] is None and b["error"] is None]
    # E2E latencies can be compared only where both answers have the same length
    alike = [(a, b) for a, b in good if a["output_tokens"] == b["output_tokens"]]
    return {key: difference(key, alike if key == "e2e_ms" else good) for key in COSTS}


def difference(key: str, pairs: Sequence[tuple[Record, Record]]) -> dict[str, Any]:
    values = [(a[key], b[key]) for a, b in pairs if None not in (a[key], b[key])]
    gaps = [one - other for one, other in values]
    spare = ACCURACY_MS if key.endswith("_ms") else 0.0
    low, high = interval(gaps, spare) if len(gaps) >= LEAST_FOR_INTERVAL else (None, None)
    return {
        "gateway": middle([one for one, _ in values]),
        "direct": middle([other for _, other in values]),
        "cost": middle(gaps),
        "low": low,
        "high": high,
        "n": len(gaps),
    }


def middle(values: Sequence[float]) -> float | None:
    return round(percentile(values, 50), 4) if values else None


def interval(values: Sequence[float], spare: float = 0.0, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the median, from the medians of resamples. `spare` is added at both
    ends: all values together may be wrong by that much."""
    import random

    chance, count = random.Random(seed), len(values)
    medians = [percentile(chance.choices(values, k=count), 50) for _ in range(RESAMPLES)]
    low, high = percentile(medians, 2.5) - spare, percentile(medians, 97.5) + spare
    return round(low, 4), round(high, 4)


# --- judge


def check_cost(
    figures: Mapping[str, Any],
    pairs: int,
    failed: Sequence[Record],
    stopped: Stop | None,
    doubt: str | None = None,
) -> Check:
    """There are enough pairs to tell the cost. `failed`: the failures of the inference server.
    `doubt`: what else the ways differ in."""
    ttft = figures["ttft_ms"]
    evidence = {"pairs": ttft["n"], "cost_ms": ttft["cost"], "direct_failed": len(failed)}
    evidence |= {"low_ms": ttft["low"], "high_ms": ttft["high"]}
    said = counted(f"{record['error']} ({record['error_text']})" for record in failed)
    trouble = f"{len(failed)} of {pairs} requests to the inference server failed: {said}"
    if ttft["low"] is None:
        why = trouble if failed else stopped or "see the requests"
        detail = f"only {ttft['n']} pairs, at least {LEAST_FOR_INTERVAL} are needed: {why}"
        return undecided("cost", detail, evidence)
    detail = f"median of {ttft['n']} pairs: {cost_words(figures)} (95 % intervals)"
    if failed:
        return warned("cost", f"{trouble}; {detail}", evidence)
    if doubt:
        return warned("cost", f"{detail}; {doubt}", evidence)
    return passed("cost", detail, evidence)


def cost_words(figures: Mapping[str, Any]) -> str:
    """`TTFT +0.8 ms (0.6 to 1.0), …`."""
    names = ("TTFT", "ms"), ("E2E", "ms"), ("decode rate", "tok/s")
    texts = []
    for each, (name, unit) in zip(figures.values(), names, strict=True):
        if each["low"] is not None:
            between = f"({each['low']:.2f} to {each['high']:.2f})"
            texts.append(f"{name} {each['cost']:+.2f} {unit} {between}")
    return ", ".join(texts)


# --- show


def lines(through: Side, past: Side, metrics: Mapping[str, Any]) -> list[str]:
    figures = metrics["cost"]
    names = ("n", "gateway", "direct", "cost")
    head = "".join(f"{name:>{width}}" for name, width in zip(names, (6, 10, 10, 10), strict=True))
    shown = [f"Cost of the gateway: {metrics['pairs']} pairs, through it and past it in turn"]
    shown.append(f"  {'':{table.LABEL}}{head}   95 % interval")
    for key, title in COSTS.items():
        each = figures[key]
        cells = "".join(f"{figure(each[name]):>10}" for name in names[1:])
        between = f"{figure(each['low'])} to {figure(each['high'])}"
        shown.append(f"  {title:{table.LABEL}}{each['n']:>6}{cells}   {between}")
    for side, name in (("through_gateway", "gateway"), ("direct", "direct")):
        if words := no_rate_words(metrics[side]):
            shown += table.entry("note", f"{name}: {words}")
    one, other = through.session.model, past.session.model
    if one != other:
        shown += table.entry("models", f"the names differ: gateway {one}, direct {other}")
    return shown + server_lines(metrics, metrics["through_gateway"])
