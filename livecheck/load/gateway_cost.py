"""What does the gateway cost? The same requests through it and straight to the inference server.

One request in flight, now this way, now that: what drifts hits both alike, and so does what the
request before leaves behind. The cost is the median of the pairs' differences; its interval is a
percentile bootstrap over the pairs (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, Status
from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.core.text import figure
from livecheck.load import table
from livecheck.load.level import Level, Session, Stop, chat_request, note
from livecheck.wire import old_chat as chat
from livecheck.wire import sse, wire
from livecheck.wire.metrics import percentile
from livecheck.wire.records import counted_words, make_records, read_streams

LEAST_PAIRS = 20  # with fewer the interval says little
LEAST_FOR_INTERVAL = 6  # differences; the extremes of five hold the median in 94 % only
RESAMPLES = 4000
ACCURACY_MS = 0.1  # two equal deployments differ by nearly as much: no interval claims more
GATEWAY, DIRECT = "gateway", "direct"
COSTS = {
    "ttft_ms": "TTFT [ms]",
    "e2e_ms": "E2E latency [ms]",
    "tokens_per_s": "decode rate [tok/s]",
}


Record = dict[str, Any]


@dataclass
class Side:
    """One of the two ways to the model; the replies of its level are numbered as the pairs are."""

    session: Session
    level: Level


# --- measure


def meet(run: Run, instrument: wire.Wire) -> str | None:
    """The inference server's model; CannotCheck when it cannot be asked."""
    (reply,) = instrument.exchange([wire.Request("GET", chat.MODELS)])
    chat.show(run, reply)
    target = instrument.target
    if reply.failure and chat.is_unreachable(reply):
        why = f"cannot reach {target.url} ({reply.failure.text})"
        raise CannotCheck(f"{why}: is that the inference server? see --direct-url")
    if reply.status == 401:
        raise CannotCheck(refused(target))
    return chat.first_model(reply)


def refused(target: wire.Target) -> str:
    if target.token:
        return f"the direct key was refused (401 from {target.url}): see --direct-key"
    return f"the inference server asks for a key (401 from {target.url}): use --direct-key"


def measure(gateway: Side, direct: Side, warmups: int) -> None:
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
                send(side, number, side.level.replies)
            step()


def warm_up(side: Side, number: int) -> None:
    """One request that does not count; once more if the server refuses stream_options."""
    if side.level.stopped:
        return
    send(side, number, side.level.warmup)
    if side.level.stopped is Stop.USAGE:
        side.session.usage, side.level.stopped = False, None
        side.level.warmup.pop()
        send(side, number, side.level.warmup)


def send(side: Side, number: int, replies: list[wire.Reply]) -> None:
    """One request; its answer is in `replies` whatever happens."""
    instrument = side.session.instrument
    try:
        instrument.exchange([chat_request(side.session, number)])
    finally:
        replies += instrument.replies
    for reply in instrument.replies:
        chat.show(side.session.run, reply)
        note(side.level, reply, side.session.usage)


def useless(target: wire.Target, stopped: Stop) -> str:
    """The line when the inference server gave nothing to compare with."""
    if stopped is Stop.CREDENTIAL:
        return refused(target)
    return f"nothing to compare with at {target.url}: {stopped.value}"


def read(through: Side, past: Side) -> tuple[list[wire.Reply], list[sse.Stream], list[Record]]:
    """Both sides' answers, what they said, and their records on one scale of time."""
    here, there = through.level.replies, past.level.replies
    streams = read_streams(here + there)
    records = []
    for place, record in enumerate(make_records(here + there, streams)):
        side, number = (GATEWAY, place) if place < len(here) else (DIRECT, place - len(here))
        records.append({"side": side, **record, "index": number})
    return here + there, streams, records


def split(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The gateway's and the inference server's."""
    here, there = ([r for r in records if r["side"] == side] for side in (GATEWAY, DIRECT))
    return here, there


# --- metrics


def cost_metrics(gateway: Sequence[Record], direct: Sequence[Record]) -> dict[str, Any]:
    """For each figure the medians of both sides and that of the pairs' differences."""
    both = [(one, other) for one, other in zip(gateway, direct, strict=False)]
    good = [pair for pair in both if pair[0]["error"] is None and pair[1]["error"] is None]
    # the whole time can only be compared where both answers are of the same length
    alike = [pair for pair in good if pair[0]["output_tokens"] == pair[1]["output_tokens"]]
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
    """Where the median lies with 95 % confidence, the middle of the medians of resamples; wider
    by what the values may all be wrong."""
    chance, count = random.Random(seed), len(values)
    medians = [percentile(chance.choices(values, k=count), 50) for _ in range(RESAMPLES)]
    low, high = percentile(medians, 2.5) - spare, percentile(medians, 97.5) + spare
    return round(low, 4), round(high, 4)


# --- judge


def check_cost(
    figures: Mapping[str, Any], pairs: int, failed: Sequence[Record], stopped: Stop | None
) -> Check:
    """There are enough pairs to tell the cost. `failed`: the inference server's failures."""
    ttft = figures["ttft_ms"]
    evidence = {"pairs": ttft["n"], "cost_ms": ttft["cost"], "direct_failed": len(failed)}
    evidence |= {"low_ms": ttft["low"], "high_ms": ttft["high"]}
    said = counted_words(f"{record['error']} ({record['error_text']})" for record in failed)
    trouble = f"{len(failed)} of {pairs} requests to the inference server failed: {said}"
    if ttft["low"] is None:
        why = trouble if failed else stopped.value if stopped else "see the requests"
        detail = f"{ttft['n']} pairs, of {LEAST_FOR_INTERVAL} at least: {why}"
        return Check("cost", Status.SKIP, detail, evidence, essential=True)
    detail = f"median of {ttft['n']} pairs: {cost_words(figures)} (95 % intervals)"
    if failed:
        return Check("cost", Status.WARN, f"{trouble}; {detail}", evidence)
    return Check("cost", Status.PASS, detail, evidence)


def cost_words(figures: Mapping[str, Any]) -> str:
    """`TTFT +0.8 ms (0.6 to 1.0), …`."""
    names = ("TTFT", "ms"), ("E2E", "ms"), ("decode rate", "tok/s")
    texts = []
    for each, (name, unit) in zip(figures.values(), names, strict=True):
        if each["low"] is not None:
            between = f"({each['low']:.2f} to {each['high']:.2f})"
            texts.append(f"{name} {each['cost']:+.2f} {unit} {between}")
    return ", ".join(texts)


# --- report


def lines(through: Side, past: Side, metrics: Mapping[str, Any]) -> list[str]:
    figures = metrics["cost"]
    names = ("n", "gateway", "direct", "cost")
    head = "".join(f"{name:>{width}}" for name, width in zip(names, (6, 10, 10, 10), strict=True))
    shown = [f"The gateway's cost: {metrics['pairs']} pairs, through it and past it, in turn"]
    shown.append(f"  {'':{table.LABEL}}{head}   95 % interval")
    for key, title in COSTS.items():
        each = figures[key]
        cells = "".join(f"{figure(each[name]):>10}" for name in names[1:])
        between = f"{figure(each['low'])} to {figure(each['high'])}"
        shown.append(f"  {title:{table.LABEL}}{each['n']:>6}{cells}   {between}")
    one, other = through.session.model, past.session.model
    if one != other:
        shown += table.entry("models", f"not the same name: gateway {one}, direct {other}")
    return shown
