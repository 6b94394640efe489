"""How exact are the figures of benchmark.py on this machine? `make fidelity`

It runs benchmark.py, as a process of its own on one processor, against the truth server
(reference/truth.py) on another one, and compares what each record reports with what was true. The
table has a row for each number of streams, without and with TLS:

    tok/s           what each stream really got
    TTFT            reported minus true, of each request, in µs
    events          the same for the arrival of each token since its request was sent
                    p50 is the median of the differences; p99 and p99.9 are those of their size
    CPU             processor time of the whole client process (start, warm-up, report) for each
                    1,000 events that it received, in ms
    MB              its peak of memory
    first           from the start of the process to its first request, in s
    client-bound    the client itself says that it was too slow at this level

Example:
    python tests/tools/fidelity.py --streams 64 256 --repeat 3
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from livecheck.load.truth_trial import Outcome, Trial, TrialError, run, separate_processors
from livecheck.wire import client_error

STREAMS = (1, 8, 64, 256, 1000)
TTFT_MS, ITL_MS, TOKENS = 100.0, 20.0, 64
# The truth server, written in Python, sends so many events a second on one processor. More would
# make it late, which is in no error (a time is taken when an event is sent), but not the work that
# the row tells of.
MOST_PER_S, MOST_TLS_PER_S = 50_000, 25_000
LEAST_REQUESTS = 4
KINDS = {"plain": False, "tls": True}


@dataclass
class Row:
    """One level as it was measured; times of errors in µs."""

    trial: Trial
    outcome: Outcome
    errors: client_error.Errors

    @property
    def is_client_bound(self) -> bool:
        return bool(self.outcome.document["metrics"]["client"]["client_bound"])

    @property
    def per_s(self) -> float:
        """The tokens per second that a stream really got, at the median."""
        sent = [note["sent_ns"] for note in self.outcome.truth["requests"]]
        rates = [(len(ns) - 1) / (ns[-1] - ns[0]) * 1e9 for ns in sent if len(ns) > 1]
        return statistics.median(rates) if rates else 0.0

    @property
    def cpu_ms(self) -> float | None:
        """For each 1,000 events."""
        cpu_s = self.outcome.cpu_s
        return None if cpu_s is None else cpu_s / self.outcome.events * 1e6

    def figures(self) -> dict[str, float | None]:
        ttft, event = map(client_error.summary, (self.errors.ttft_ms, self.errors.event_ms))
        return {
            "ttft_p50_us": micro(ttft["p50"]),
            "ttft_p99_us": micro(ttft["p99"]),
            "event_p50_us": micro(event["p50"]),
            "event_p99_us": micro(event["p99"]),
            "event_p99_9_us": micro(event["p99_9"]),
            "cpu_ms": self.cpu_ms,
            "peak_mb": self.outcome.peak_mb,
            "first_s": self.outcome.to_first_request_s,
        }


def micro(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms * 1e3


def trial_of(streams: int, tls: bool, args: argparse.Namespace) -> Trial:
    """Two requests for each stream, the first of all streams at once."""
    itl_ms = max(args.itl_ms, streams * 1e3 / (MOST_TLS_PER_S if tls else MOST_PER_S))
    options = ("--processes", str(args.processes)) if args.processes else ()
    requests = max(LEAST_REQUESTS, 2 * streams)
    return Trial(
        streams,
        requests,
        args.tokens,
        TTFT_MS,
        itl_ms,
        tls,
        args.spread,
        options,
        timeout_s=60 + 3 * args.tokens * itl_ms / 1e3 * LEAST_REQUESTS,
    )


def measure(trial: Trial, clients: int) -> Row:
    server_on, client_on = separate_processors(clients)
    if client_on and clients == 1:
        client_on = {min(client_on)}
    outcome = run(trial, server_on, client_on)
    errors = client_error.compare(outcome.document["requests"], outcome.truth["requests"])
    return Row(trial, outcome, errors)


# --- show

HEAD = (
    "                          TTFT [µs]          events [µs]       CPU [ms]     MB  first",
    "         streams  tok/s    p50     p99    p50     p99    p99.9    /1,000            [s]",
)


def line(rows: Sequence[Row]) -> str:
    """The medians of the repeats of one level."""
    trial = rows[0].trial
    each = [row.figures() for row in rows]
    found = {name: median([row[name] for row in each]) for name in each[0]}
    kind = "TLS" if trial.tls else "plain"
    widths = {"ttft_p50_us": 7, "ttft_p99_us": 8, "event_p50_us": 7, "event_p99_us": 8}
    widths |= {"event_p99_9_us": 9, "cpu_ms": 10, "peak_mb": 7, "first_s": 7}
    cells = (cell(found[name], width, name) for name, width in widths.items())
    per_s = statistics.median(row.per_s for row in rows)
    head = f"{kind:7}  {trial.concurrency:7}  {per_s:5.0f}"
    return head + "".join(cells) + remarks(rows)


def median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def cell(value: float | None, width: int, name: str) -> str:
    if value is None:
        return f"{'-':>{width}}"
    digits = 2 if name == "first_s" else 1 if abs(value) < 99.95 and name != "peak_mb" else 0
    return f" {value:{width - 1},.{digits}f}"


def remarks(rows: Sequence[Row]) -> str:
    """What has to be known about a level, behind its figures."""
    bound = sum(row.is_client_bound for row in rows)
    lost = sum(row.errors.unmatched + row.errors.inexact for row in rows)
    words = [f"client-bound in {bound} of {len(rows)}"] if bound else []
    words += [f"{lost} requests not compared"] if lost else []
    stamped = all(note["is_stamped"] for row in rows for note in row.outcome.truth["requests"])
    words += [] if stamped else ["no kernel time of the requests"]
    return f"  {'; '.join(words)}" if words else ""


def machine() -> str:
    """The machine in words, as far as the system tells."""
    import os
    import platform

    name = platform.processor() or platform.machine()
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    names = [row.partition(":")[2].strip() for row in told.splitlines() if "model name" in row]
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {names[0] if names else name}, {system}"


def table(args: argparse.Namespace) -> Iterator[str]:
    yield f"What benchmark.py reported minus what was true: {date.today()}, {machine()}"
    yield from HEAD
    for tls in (KINDS[kind] for kind in args.kinds):
        for streams in args.streams:
            trial = trial_of(streams, tls, args)
            try:
                yield line([measure(trial, args.processes or 1) for _ in range(args.repeat)])
            except TrialError as error:
                yield f"{'TLS' if tls else 'plain':7}  {streams:7}  not measured: {error}"


def new_parser(manual: str | None, streams: Sequence[int]) -> argparse.ArgumentParser:
    """With the options that the tools of this kind have in common."""
    parser = argparse.ArgumentParser(
        description=manual, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Any = parser.add_argument
    add("--streams", type=int, nargs="+", default=streams, metavar="N", help="requests in flight")
    add("--repeat", type=int, default=1, metavar="N", help="show the medians of so many runs")
    return parser


def build_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, STREAMS)
    add: Any = parser.add_argument
    add("--tokens", type=int, default=TOKENS, metavar="N", help="events of each answer")
    gap = "time between two events of a stream; longer where there are many streams"
    add("--itl-ms", type=float, default=ITL_MS, metavar="MS", help=gap)
    spread = "when the streams send: reference/truth.py explains it (default even)"
    add("--spread", choices=("asked", "even", "together"), default="even", help=spread)
    add("--processes", type=int, metavar="N", help="--processes of benchmark.py")
    add("--kinds", nargs="+", choices=KINDS, default=tuple(KINDS), help="without TLS, with it")
    return parser


def main() -> None:
    # so that what was started is ended too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for text in table(build_parser().parse_args()):
        print(text, flush=True)


if __name__ == "__main__":
    main()
