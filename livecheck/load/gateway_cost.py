"""What does the gateway cost? The same requests through it, and straight to the inference server.

One request is in flight at a time, once through the gateway and once directly, in turn. So a drift
affects both sides alike, and so do the traces that the previous request leaves. The cost is the
median of the differences of the pairs; its interval is a percentile bootstrap over the pairs (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, passed, undecided, warned
from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.core.text import counted, figure
from livecheck.load import table
from livecheck.load.level import Level, Session, chat_request, reason_of
from livecheck.wire import chat
from livecheck.wire.answer import Answer, records
from livecheck.wire.asking import Asker, Cause, Stop, fetch
from livecheck.wire.metrics import percentile
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

Record = dict[str, Any]


@dataclass
class Side:
    """One of the two ways to the model. The n-th answer of its level belongs to the n-th pair."""

    session: Session
    level: Level


# --- measure


def first_contact(run: Run, wire: Wire) -> str | None:
    """The model of the inference server. CannotCheck when it cannot be asked."""
    answer = fetch(run, wire, chat.get(chat.MODELS))
    if answer.failure and answer.is_unreachable:
        why = f"cannot reach {wire.target.url} ({answer.failure.text})"
        raise CannotCheck(f"{why}: is that the inference server? see --direct-url")
    if answer.status == 401:
        raise CannotCheck(refused(wire.target))
    return chat.first_model(answer)


def refused(target: Target) -> str:
    """The line for a 401 of the inference server."""
    if target.token:
        return f"the direct key was refused (401 from {target.url}): see --direct-key"
    return f"the inference server asks for a key (401 from {target.url}): use --direct-key"


def measure_pairs(gateway: Side, direct: Side, warmups: int) -> None:
    """Warm both sides up, then send the pairs."""
    for side in (gateway, direct):
        for number in range(warmups):
            warm_up(side, number)
    load = gateway.level.load
    count = load.planned
    amount = f"{count} pairs" if count is not None else f"pairs for {load.duration_s:g} s"
    with gateway.session.run.progress(f"gateway and direct: {amount}", count) as step:
        for number in load.numbers():
            for side in (gateway, direct):
                if gateway.level.stopped or direct.level.stopped:
                    return
                send(side, number, side.level.answers)
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
    asker = Asker(session.run, session.wire, reason_of(side.level, session.usage))
    asker.ask([chat_request(session, number)], keep=answers.extend)


def nothing_to_compare(target: Target, stopped: Stop) -> str:
    """The line for an inference server that did not answer a single request of a pair."""
    if stopped.cause is Cause.CREDENTIAL:
        return refused(target)
    return f"there is nothing to compare with at {target.url}: {stopped}"


def read_pairs(through: Side, past: Side) -> tuple[list[Answer], list[Record]]:
    """The answers of both sides, and their records on one scale of time."""
    answers = through.level.answers + past.level.answers
    numbers = [(GATEWAY, number) for number in range(len(through.level.answers))]
    numbers += [(DIRECT, number) for number in range(len(past.level.answers))]
    both = zip(numbers, records(answers), strict=True)
    return answers, [{"side": side, **record, "index": number} for (side, number), record in both]


def split(found: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records of the gateway, and those of the inference server."""
    here, there = ([r for r in found if r["side"] == side] for side in (GATEWAY, DIRECT))
    return here, there


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
    chance, count = random.Random(seed), len(values)
    medians = [percentile(chance.choices(values, k=count), 50) for _ in range(RESAMPLES)]
    low, high = percentile(medians, 2.5) - spare, percentile(medians, 97.5) + spare
    return round(low, 4), round(high, 4)


# --- judge


def check_cost(
    figures: Mapping[str, Any], pairs: int, failed: Sequence[Record], stopped: Stop | None
) -> Check:
    """There are enough pairs to tell the cost. `failed`: the failures of the inference server."""
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
    one, other = through.session.model, past.session.model
    if one != other:
        shown += table.entry("models", f"the names differ: gateway {one}, direct {other}")
    return shown
