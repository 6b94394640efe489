"""How often does the comparison with a baseline find a slowdown, and how often a false one?

Not collected by pytest. Simulates whole reports: three levels of lognormal records, in which TTFT
and decoding vary by --noise and everything else follows from them, as in real ones.

Examples:
    python tests/tools/power.py                       # the table of docs/report.md
    python tests/tools/power.py --runs 3 --spread 5   # three baseline runs that differ by 5 %
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

sys.path.insert(0, str(Path(__file__).parents[2]))

from livecheck.core.checks import Exit
from livecheck.report.baseline import Change, Finding, compare
from livecheck.report.result_files import KINDS, ResultFile
from livecheck.wire import metrics

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]

LEVELS = (1, 4, 8)
TTFT_MS, TPOT_MS, TOKENS = 100.0, 8.0, 24
GAP_NOISE = 0.2  # of the gaps of one answer
BETWEEN_REQUESTS_MS = 0.1
STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)
METRICS = {"ttft": "ttft_ms", "tpot": "tokens_per_s"}  # in which a planted slowdown is named


@dataclass(frozen=True)
class World:
    """What a simulated run is drawn from.

    noise: of a request; spread: between runs; both are sigmas of logarithms. memory: correlation of
    a request's noise with that of the request before. slower: factors by (level, "ttft" or "tpot").
    """

    noise: float
    requests: int
    spread: float = 0.0
    memory: float = 0.0
    slower: tuple[tuple[int, str, float], ...] = ()


def run(world: World, chance: numpy.random.Generator, slow: bool = False) -> list[ResultFile]:
    """One run: a result file for each level."""
    factors = {(c, what): by for c, what, by in world.slower} if slow else {}
    own = {what: math.exp(chance.normal(0, world.spread)) for what in METRICS}
    found = []
    for level in LEVELS:
        scale = {what: own[what] * factors.get((level, what), 1.0) for what in own}
        found.append(result_file(level, records(world, level, scale, chance)))
    return found


def records(
    world: World, level: int, scale: dict[str, float], chance: numpy.random.Generator
) -> list[dict[str, Any]]:
    """Requests of a closed loop: each slot sends the next one when its last one ended."""
    ttft_ms = TTFT_MS * scale["ttft"] * noise(world, chance)
    tpot_ms = TPOT_MS * scale["tpot"] * noise(world, chance)
    gaps = chance.lognormal(0, GAP_NOISE, (world.requests, TOKENS - 1))
    gaps *= (tpot_ms / gaps.mean(axis=1))[:, None]
    times = numpy.cumsum(numpy.column_stack([ttft_ms, gaps]), axis=1)
    free_ms, found = [0.0] * level, []
    for index, own in enumerate(times.tolist()):
        slot = free_ms.index(min(free_ms))
        sent_ms = free_ms[slot]
        free_ms[slot] += own[-1] + BETWEEN_REQUESTS_MS
        found.append(record(index, sent_ms, free_ms[slot], own))
    return found


def noise(world: World, chance: numpy.random.Generator) -> Array:
    """Lognormal factors, each resembling the one before by the world's memory."""
    states = chance.normal(size=world.requests)
    fresh_share = math.sqrt(1 - world.memory**2)
    for index in range(1, world.requests if world.memory else 0):
        states[index] = world.memory * states[index - 1] + fresh_share * states[index]
    factors: Array = numpy.exp(world.noise * states)
    return factors


def record(index: int, sent_ms: float, ended_ms: float, times: list[float]) -> dict[str, Any]:
    decode_ms = times[-1] - times[0]
    return {
        "index": index,
        "error": None,
        "excluded": False,
        "sent_ms": sent_ms,
        "ended_ms": ended_ms,
        "ttft_ms": times[0],
        "e2e_ms": ended_ms - sent_ms,
        "tpot_ms": decode_ms / (TOKENS - 1),
        "tokens_per_s": 1e3 * (TOKENS - 1) / decode_ms,
        "output_tokens": TOKENS,
        "token_source": "usage",
        "event_ms": times,
    }


def result_file(level: int, rows: Sequence[dict[str, Any]]) -> ResultFile:
    wall_s = (max(r["ended_ms"] for r in rows) - min(r["sent_ms"] for r in rows)) / 1e3
    return ResultFile(
        name=f"inference_c{level}",
        path=Path("simulated.json"),
        kind=KINDS[1],
        script="benchmark",
        tool_version="0",
        exit_code=Exit.OK,
        error=None,
        started_at=STARTED,
        duration_s=wall_s,
        target={},
        client={},
        options={},
        checks=[],
        metrics={
            "load_model": "closed loop",
            "output_tokens_per_s": len(rows) * TOKENS / wall_s,
            "ttft_ms": metrics.summary([row["ttft_ms"] for row in rows]),
        },
        requests=rows,
    )


def report(world: World, margin: float, runs: int, chance: numpy.random.Generator) -> list[Change]:
    """The changes of one simulated report."""
    then = [run(world, chance) for _ in range(runs)]
    now = run(world, chance, slow=True)
    pairs = [(each, [old[i] for old in then]) for i, each in enumerate(now)]
    return compare(pairs, margin)


@dataclass
class Rates:
    """In which share of the simulated reports …"""

    worse: float  # … something is called worse
    found: float  # … the planted slowdown is called worse
    first: float  # … it is named first
    decided: float  # … every required metric is decided
    needed: int  # the median number of requests advised for those that are not


def rates(world: World, margin: float, runs: int, reports: int, seed: int = 1) -> Rates:
    chance = numpy.random.default_rng(seed)
    planted = [(f"inference_c{level}", METRICS[what]) for level, what, _ in world.slower]
    outcomes, advice = [], []
    for _ in range(reports):
        changes = report(world, margin, runs, chance)
        worse = [(c.document, c.metric.key) for c in changes if c.finding is Finding.WORSE]
        unclear = [c for c in changes if c.finding is Finding.UNCLEAR and c.metric.required]
        advice += [c.needed for c in unclear if c.needed]
        is_found, is_first = set(planted) <= set(worse), worse[:1] == planted[:1]
        outcomes.append((bool(worse), is_found, is_first, not unclear))
    shares = [sum(column) / reports for column in zip(*outcomes, strict=True)]
    return Rates(*shares, needed=int(numpy.median(advice or [0])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--noise", type=float, nargs="+", default=[5, 10, 20, 30, 50])
    parser.add_argument("--requests", type=int, nargs="+", default=[10, 30, 100, 300])
    parser.add_argument("--margin", type=float, default=5.0)
    parser.add_argument(
        "--slower", type=float, default=20.0, help="per cent planted in TTFT at c=4"
    )
    parser.add_argument("--runs", type=int, default=1, help="number of baseline runs")
    parser.add_argument("--spread", type=float, default=0.0, help="per cent between runs")
    parser.add_argument(
        "--memory", type=float, default=0.0, help="correlation with the request before"
    )
    parser.add_argument("--reports", type=int, default=200)
    args = parser.parse_args()
    print(f"{args.reports} reports a row, {args.runs} baseline run(s), margin {args.margin:g} %:")
    print(f"equal systems, then TTFT at c=4 slower by {args.slower:g} %\n")
    print("noise  requests  false alarms  all decided  needed  found  named first")
    planted = ((4, "ttft", 1 + args.slower / 100),)
    for share in args.noise:
        for count in args.requests:
            even = World(share / 100, count, args.spread / 100, args.memory)
            slow = replace(even, slower=planted)
            a = rates(even, args.margin / 100, args.runs, args.reports)
            b = rates(slow, args.margin / 100, args.runs, args.reports)
            print(
                f"{share:4g} %  {count:8}  {a.worse:11.1%}  {a.decided:11.1%}  {a.needed:6}"
                f"  {b.found:5.1%}  {b.first:11.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
