"""With how many processes a level is measured: what --processes says, or what one core can do.

Where --processes does not say it, the warm-up tells: how long one process works for one read, and
how many reads a second there were in its busiest moments. A level that would keep one core busier
than MOST_CPU_SHARE is divided, over no more cores than this program may use.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from livecheck.core.options import whole_number
from livecheck.core.run import Run
from livecheck.load.arrivals import Load, Prompt
from livecheck.load.client_delay import GOOD_CPU_SHARE, Client
from livecheck.load.cores import can_divide, cores
from livecheck.load.level import Level, Session, measure_level
from livecheck.wire.answer import Answer

MOST_CPU_SHARE = 0.6  # of a core, by the reads of the busiest moments
MOMENT_NS = 100_000_000
# A core takes more than these, also if a stream has some hundred events a second; up to here no
# process is kept ready, since that takes 20 ms.
STREAMS_OF_A_CORE = 256
EVENTS_OF_A_CORE = 25_000  # a second
MOST = 64  # processes that are kept ready without being asked for


class Busy(NamedTuple):
    """How busy the reading of a level would keep one core."""

    reads_per_s: float  # in the busiest moments
    cpu_s_per_read: float

    @property
    def share(self) -> float:
        return self.reads_per_s * self.cpu_s_per_read

    def words(self) -> str:
        per_read = self.cpu_s_per_read * 1e6
        return f"{self.reads_per_s:,.0f} reads/s, {per_read:.0f} µs of work for each"


def add_option(add: Callable[..., object]) -> None:
    words = "processes that share each level (default: one, or as many as it needs)"
    add("--processes", type=whole_number(1), metavar="N", help=words)


def check_processes(args: argparse.Namespace, levels: Sequence[float]) -> None:
    """ValueError: --processes makes no sense on this system, or with the other options."""
    count = args.processes
    if count is None or count == 1:
        return
    most = max(levels, default=1) if not (args.rate or args.find_capacity) else count
    few = f"--processes {count}: this program may use {cores()} of the cores"
    system = "--processes needs Linux: elsewhere, processes do not share one clock to start by"
    contradictions = (
        ("--gateway-only sends no requests to the model", args.gateway_only),
        ("--direct-url sends one request at a time: --processes cannot divide", args.direct_url),
        ("--processes cannot divide levels of --turns", args.turns),
        (system, not can_divide()),
        (few, count > cores()),
        (f"--processes {count}: no level has two requests in flight to divide", most < 2),
    )
    for words, applies in contradictions:
        if applies:
            raise ValueError(words)


def measured_by(
    run: Run, token: str | None, prompts: Sequence[Prompt], count: int
) -> AbstractContextManager[Callable[[Session, Level], None]]:
    """What measures a level, while so many processes (`kept_ready`) are there for it."""
    if not count:
        return nullcontext(measure_level)
    from livecheck.load.processes import Processes  # here: most runs need none

    return Processes(run, token, prompts, count)


def most_parts(load: Load) -> int:
    """Into how many parts a load can be divided, so that each has a slot and a request.
    Conversations are not divided: each turn follows from the answer before. Neither are batches of
    inputs: one process has enough to do them."""
    if load.turns or load.batch:
        return 1
    return max(1, min(load.concurrency, load.planned or load.concurrency))


def kept_ready(args: argparse.Namespace, loads: Sequence[Load], tokens: int) -> int:
    """How many processes the run forks before it begins: as many as a level may need; 0 where one
    process does it all. `tokens`: of the longest answer."""
    most = max((most_in_level(args, load) for load in loads), default=1)
    if args.direct_url or args.turns or args.processes == 1 or most < 2:
        return 0
    if args.processes is not None:
        return int(min(args.processes, most))
    streams = max((streams_of(args, load, tokens) for load in loads), default=0.0)
    wanted = min(math.ceil(streams), most, MOST)
    return min(wanted, cores()) if args.warmup and wanted > 1 and cores() > 1 else 0


def most_in_level(args: argparse.Namespace, load: Load) -> int:
    if args.find_capacity:  # its levels grow
        return int(load.concurrency if load.is_open else args.max_level)
    return most_parts(load)


def streams_of(args: argparse.Namespace, load: Load, tokens: int) -> float:
    """How many cores the load may keep busy, by its size alone: far too many."""
    if load.rate_per_s is not None:
        rate = args.max_level if args.find_capacity else load.rate_per_s
        return float(rate * tokens / EVENTS_OF_A_CORE)
    return most_in_level(args, load) / STREAMS_OF_A_CORE


def busy_by(load: Load, warmup: Sequence[Answer], client: Client) -> Busy | None:
    """How busy a core would be, by the warm-up of the level in one process. None: it tells
    nothing."""
    reads = sum(len(answer.reply.ends) for answer in warmup)
    if not reads or not client.cpu_s:
        return None
    if load.rate_per_s is not None:  # one answer after the other: its level has more at once
        return Busy(load.rate_per_s * reads / len(warmup), client.cpu_s / reads)
    return Busy(busiest_per_s(warmup), client.cpu_s / reads)


def busiest_per_s(answers: Iterable[Answer]) -> float:
    moments = Counter(stamp // MOMENT_NS for answer in answers for stamp in answer.reply.stamps_ns)
    return max(moments.values(), default=0) / (MOMENT_NS / 1e9)


def processes_for(busy: Busy | None, at_most: int) -> int:
    """How many processes a level needs; 1 when one can do it."""
    if busy is None or busy.share <= MOST_CPU_SHARE:
        return 1
    return max(1, min(at_most, math.ceil(busy.share / GOOD_CPU_SHARE)))
