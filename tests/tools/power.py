"""How often does the comparison with a baseline find a slowdown, and how often a false one?

Not collected by pytest. Simulates whole reports: three levels of lognormal records, in which TTFT
and decoding vary by --noise and everything else follows from them, as in real ones.

Examples:
    python tests/tools/power.py                          # the first table of docs/report.md
    python tests/tools/power.py --table sessions         # the second one
    python tests/tools/power.py --table history          # changes in histories of releases
    python tests/tools/power.py --table trend            # benchmark.py's check `steady`
    python tests/tools/power.py --table precision        # its --precision
    python tests/tools/power.py --sessions 3 --spread 5  # three sessions that differ by 5 %
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
from livecheck.report.change_points import find_steps
from livecheck.report.history import ERROR
from livecheck.report.result_files import KINDS, ResultFile
from livecheck.wire import metrics
from tests.tools import power_of_load

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]

LEVELS = (1, 4, 8)
TTFT_MS, TPOT_MS, TOKENS = 100.0, 8.0, 24
GAP_NOISE = 0.2  # of the gaps of one answer
BETWEEN_REQUESTS_MS = 0.1
STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)
FIGURES = 10  # of a simulated history
LEVEL = ERROR / FIGURES
METRICS = {"ttft": "ttft_ms", "tpot": "tokens_per_s"}  # in which a planted slowdown is named


@dataclass(frozen=True)
class World:
    """What a simulated run is drawn from.

    noise: of a request; spread: between sessions; repeat_spread: between repeats of a session; all
    are sigmas of logarithms. is_shared: whether a session is as slow at one level as at another.
    memory: correlation of a request's noise with that of the request before. slower: factors by
    (level, "ttft" or "tpot").
    """

    noise: float
    requests: int
    spread: float = 0.0
    memory: float = 0.0
    slower: tuple[tuple[int, str, float], ...] = ()
    repeat_spread: float = 0.0
    is_shared: bool = True


def session(
    world: World, chance: numpy.random.Generator, name: str, repeats: int = 1, slow: bool = False
) -> list[list[ResultFile]]:
    """The repeats of one session, each a result file for each level."""
    planted = {(c, what): by for c, what, by in world.slower} if slow else {}
    state = draw_factors(world, world.spread, chance)
    found = []
    for repeat in range(repeats):
        own = draw_factors(world, world.repeat_spread, chance)
        files = []
        for level in LEVELS:
            keys = {what: (level, what) for what in METRICS}
            scale = {w: state[k] * own[k] * planted.get(k, 1.0) for w, k in keys.items()}
            rows = records(world, level, scale, chance)
            files.append(result_file(level, rows, Path(f"{name}-{repeat}")))
        found.append(files)
    return found


def draw_factors(
    world: World, spread: float, chance: numpy.random.Generator
) -> dict[tuple[int, str], float]:
    """By how much longer everything takes on this occasion: by level and part of a request."""
    shared = {what: chance.normal(0, spread) for what in METRICS}
    return {
        (level, what): math.exp(shared[what] if world.is_shared else chance.normal(0, spread))
        for level in LEVELS
        for what in METRICS
    }


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


def result_file(level: int, rows: Sequence[dict[str, Any]], folder: Path) -> ResultFile:
    wall_s = (max(r["ended_ms"] for r in rows) - min(r["sent_ms"] for r in rows)) / 1e3
    return ResultFile(
        name=f"inference_c{level}",
        path=folder / f"inference_c{level}.json",
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


def report(
    world: World, margin: float, sessions: int, chance: numpy.random.Generator, repeats: int = 1
) -> list[Change]:
    """The changes of one simulated report."""
    groups = [session(world, chance, f"session {i}", repeats) for i in range(sessions)]
    ((*now,),) = session(world, chance, "now", slow=True)
    runs = [(number, run) for number, group in enumerate(groups) for run in group]
    pairs = [(each, [run[i] for _, run in runs]) for i, each in enumerate(now)]
    return compare(pairs, margin, {run[0].path.parent: number for number, run in runs})


@dataclass
class Rates:
    """In which share of the simulated reports …"""

    worse: float  # … something is called worse
    open: float  # … nothing is, but something needs another session
    found: float  # … the planted slowdown is called worse
    first: float  # … it is named first
    noticed: float  # … the planted slowdown is called worse, or needs another session
    decided: float  # … every required metric is decided
    needed: int  # the median number of requests advised for those that are not


def rates(
    world: World, margin: float, sessions: int, reports: int, seed: int = 1, repeats: int = 1
) -> Rates:
    chance = numpy.random.default_rng(seed)
    planted = {(f"inference_c{level}", METRICS[what]) for level, what, _ in world.slower}
    outcomes, advice = [], []
    for _ in range(reports):
        changes = report(world, margin, sessions, chance, repeats)
        worse, waiting = (
            [(c.document, c.metric.key) for c in changes if c.finding is finding]
            for finding in (Finding.WORSE, Finding.SESSION)
        )
        unclear = [c for c in changes if c.finding is Finding.UNCLEAR and c.metric.required]
        advice += [c.needed for c in unclear if c.needed]
        outcomes.append(
            (
                bool(worse),
                bool(waiting) and not worse,
                planted <= {*worse},
                bool(planted & {*worse[:1]}),
                planted <= {*worse, *waiting},
                not unclear and not waiting,
            )
        )
    shares = [sum(column) / reports for column in zip(*outcomes, strict=True)]
    return Rates(*shares, needed=int(numpy.median(advice or [0])))


# --- the tables


def main() -> None:
    args = build_parser().parse_args()
    if args.table == "sessions":
        print_sessions(args)
    elif args.table == "history":
        print_history(args)
    elif args.table == "trend":
        power_of_load.print_trends(args.reports)
    elif args.table == "precision":
        power_of_load.print_precision(args.reports)
    else:
        print_requests(args)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add(
        "--table",
        choices=("requests", "sessions", "history", "trend", "precision"),
        default="requests",
    )
    add("--noise", type=float, nargs="+", default=[5, 10, 20, 30, 50])
    add("--requests", type=int, nargs="+", default=[10, 30, 100, 300])
    add("--margin", type=float, default=5.0)
    add("--slower", type=float, nargs="+", default=[20.0], help="per cent planted in TTFT at c=4")
    add("--sessions", type=int, nargs="+", default=[1], help="number of baseline sessions")
    add("--repeats", type=int, default=1, help="runs of each baseline session")
    add("--spread", type=float, nargs="+", default=[0.0], help="per cent between sessions")
    add("--repeat-spread", type=float, default=0.0, help="per cent between repeats of a session")
    add("--each-level", action="store_true", help="a spread of its own for each level")
    add("--memory", type=float, default=0.0, help="correlation with the request before")
    add("--reports", type=int, default=200)
    return parser


def print_requests(args: argparse.Namespace) -> None:
    """How many requests it takes."""
    slower, sessions, spread = args.slower[0], args.sessions[0], args.spread[0]
    print(f"{args.reports} reports a row, {sessions} baseline session(s), spread {spread:g} %")
    print(f"margin {args.margin:g} %: equal systems, then TTFT at c=4 slower by {slower:g} %\n")
    print("noise  requests  false alarms  all decided  needed  found  noticed  named first")
    for share in args.noise:
        for count in args.requests:
            a, *_, b = rates_of(args, World(share / 100, count, spread / 100), sessions, [slower])
            print(
                f"{share:4g} %  {count:8}  {a.worse:11.1%}  {a.decided:11.1%}  {a.needed:6}"
                f"  {b.found:5.1%}  {b.noticed:7.1%}  {b.first:11.1%}",
                flush=True,
            )


def print_sessions(args: argparse.Namespace) -> None:
    """What several sessions tell, with enough requests that their noise does not matter."""
    noise, count = 5, 60
    spreads = args.spread if args.spread != [0.0] else [1, 2, 5, 7.5, 10]
    slower = args.slower if len(args.slower) > 1 else [10, 20, 30, 50]
    numbers = args.sessions if len(args.sessions) > 1 else [1, 2, 3, 5]
    print(f"{args.reports} reports a row, {args.repeats} run(s) a session, noise {noise} %,")
    print(
        f"{count} requests, margin {args.margin:g} %: equal systems, then TTFT at c=4 slower by\n"
    )
    heads = "".join(f"  found {each:g} %" for each in slower)
    print(f"spread  sessions  false alarms  needs another{heads}  noticed {slower[0]:g} %")
    for spread in spreads:
        for number in numbers:
            a, *found = rates_of(args, World(noise / 100, count, spread / 100), number, slower)
            cells = "".join(f"  {each.found:10.1%}" for each in found)
            row = f"{spread:4g} %  {number:8}  {a.worse:12.1%}  {a.open:13.1%}{cells}"
            print(f"{row}  {found[0].noticed:12.1%}", flush=True)


def found_steps(
    chance: numpy.random.Generator, count: int, histories: int, size: float, *changes: int
) -> float:
    """In which share of the histories all these changes are found, and with none: something is.

    size: in standard deviations of a release.
    """
    hits = 0
    for _ in range(histories):
        levels = sum(size * (-1) ** i * (numpy.arange(count) >= e) for i, e in enumerate(changes))
        found = [e.index for e in find_steps((chance.normal(size=count) + levels).tolist(), LEVEL)]
        seen = all(any(abs(each - at) <= 1 for each in found) for at in changes)
        hits += seen if changes else bool(found)
    return hits / histories


def print_history(args: argparse.Namespace) -> None:
    """How often a change of level is found within one release, and how often a false one."""
    chance, many = numpy.random.default_rng(1), args.reports
    print(f"{many} histories a cell; the error of 5 % is shared by {FIGURES} figures; a change of")
    print("so many standard deviations of a release: in the middle; two releases ago; there and")
    print("back again\n\nreleases  false alarms  size  middle  last two  there and back")
    for count in (6, 10, 20, 30):
        false = 1 - (1 - found_steps(chance, count, 20 * many, 0.0)) ** FIGURES
        for size in (2.0, 3.0, 5.0):
            at = (count // 2,), (count - 2,), (count // 3, 2 * count // 3)
            middle, late, both = (found_steps(chance, count, many, size, *each) for each in at)
            cells = f"{middle:6.0%}  {late:8.0%}  {both:14.0%}"
            print(f"{count:8}  {false:12.1%}  {size:4g}  {cells}", flush=True)


def rates_of(
    args: argparse.Namespace, world: World, sessions: int, slower: Sequence[float]
) -> list[Rates]:
    """Those of equal systems, and of each slowdown in per cent."""
    even = replace(
        world,
        memory=args.memory,
        repeat_spread=args.repeat_spread / 100,
        is_shared=not args.each_level,
    )
    worlds = [even, *(replace(even, slower=((4, "ttft", 1 + e / 100),)) for e in slower)]
    margin, count = args.margin / 100, args.reports
    return [rates(each, margin, sessions, count, repeats=args.repeats) for each in worlds]


if __name__ == "__main__":
    main()
