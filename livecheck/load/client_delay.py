"""How late this program was in a level, and what of the level's figures may be its own delay."""

from __future__ import annotations

import itertools
import math
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from livecheck.core.text import plural
from livecheck.load.cores import cores
from livecheck.load.record import Record
from livecheck.wire import metrics
from livecheck.wire.answer import Timed, ms
from livecheck.wire.starvation import TICK_S, Starvation
from livecheck.wire.wire import KERNEL_CLOCK, USER_CLOCK

# A client that is late by more than this share of the median gap or TTFT is a part of the figures.
CLIENT_SHARE = 0.05
LEAST_LATE = 5  # reads or sends, before the client is called too slow
SENDING_NS = 1_000_000  # sending a request takes far less
MERGED_SHARE = 0.01  # share of the events; fewer merged ones cannot move a p99

# Of a core. A process that used so little was not slowed down by its own work; one that uses half
# has time left for what comes at the same moment.
LEAST_CPU_SHARE, GOOD_CPU_SHARE = 0.25, 0.5
OTHERS_SHARE = 0.1  # starved, of the level; above it, others had the processor
# Starved, of the level: above it, the level is about this program. An ordinary run with two busy
# programs beside it on two cores waits for a processor for less: 2 to 9 % were measured, and 19 %
# once with five others.
MOST_STARVED_SHARE = 0.2
LEAST_STARVED_MS = 100.0  # one wait is a large share of a level that lasts some milliseconds
THROUGHPUTS = ("output_tokens_per_s", "requests_per_s", "goodput_per_s")

WORTH_A_WORD = 0.01  # share of a level

TimesLater = Callable[[Timed], "array[float] | partial[array[float]]"]


@dataclass
class Client:
    """What this program itself did for a level. With several processes: the busiest one's times.

    `clock`, `starvation`: those of the processes together; None where the run's own ones count.
    """

    processes: int = 1
    cpu_s: float | None = None
    wall_s: float | None = None
    clock: str | None = None
    starvation: Starvation | None = None
    _began: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        """The time of the processor and of the clock count from now on."""
        self._began = time.process_time(), time.perf_counter()

    def end(self) -> None:
        cpu_s, wall_s = self._began
        self.cpu_s, self.wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s

    @property
    def cpu_share(self) -> float | None:
        """How much of a core it used while requests ran."""
        if self.cpu_s is None or not self.wall_s:
            return None
        return self.cpu_s / self.wall_s


@dataclass
class Delays:
    """What the answers of a level tell of this program, in ms."""

    lags_ns: array[int] = field(default_factory=lambda: array("q"))
    late: list[float] = field(default_factory=list)
    late_merges: list[float] = field(default_factory=list)
    gaps: array[float] = field(default_factory=lambda: array("d"))  # between arrivals of output
    merged: int = 0
    events: int = 0
    begun_ns: int | None = None  # of the first request
    ended_ns: int | None = None  # of the last one

    @property
    def whole_ms(self) -> float:
        """From the first request to the end of the last; 0 without any."""
        return ms((self.ended_ns or 0) - (self.begun_ns or 0))

    @property
    def lags(self) -> array[float]:
        """How long the bytes of each read lay unread."""
        return array("d", [lag / 1e6 for lag in self.lags_ns])

    def add(self, answer: Timed) -> None:
        self.lags_ns.extend(array("q", answer.lag_ns))
        if answer.late_ns is not None:
            self.late.append(ms(answer.late_ns))
        self.merged += len(answer.merged_lags_ns)
        self.events += len(answer.figures["event_ms"])
        self.late_merges += late_merges_ms(answer)
        self.gaps.extend(metrics.output_gaps(answer.figures))
        if (begun := answer.begun_ns) is not None:
            self.begun_ns = begun if self.begun_ns is None else min(begun, self.begun_ns)
        if (ended := answer.ended_ns) is not None:
            self.ended_ns = ended if self.ended_ns is None else max(ended, self.ended_ns)


def client_metrics(
    answers: Iterable[Timed],
    clock: str,
    figures: Mapping[str, Any],
    starvation: Starvation,
    client: Client | None = None,
) -> dict[str, Any]:
    """How late this program was, and whether so late that the figures are about itself.

    With kernel stamps a late read makes no figure wrong, as long as it does not merge two events.
    A late send is not a part of any gap between events, and in a closed loop of no time at all,
    because all count from the send: there it makes the load less by its share of the time that a
    request takes. In an open loop times count from when it was due. Events that came together
    because the server sent them so are merged, too: the lag of their reads is small beside the time
    from one arrival of that answer to the next, while a client that is too slow reads late again
    and again. A client that could not run for a noticeable share of the level has asked for less
    than the level is about, however early it then read what had come.
    """
    client = client or Client()
    clock, starvation = client.clock or clock, client.starvation or starvation
    found = Delays()
    for answer in answers:
        found.add(answer)
    ttft_ms, e2e_ms = figures["ttft_ms"]["p50"], figures["e2e_ms"]["p50"]
    is_open = figures["load_model"] == "open loop"
    medians_ms = (ttft_ms, ttft_ms if is_open else e2e_ms)
    return delay_metrics(found, clock, medians_ms, starvation, client, is_open=is_open)


def delay_metrics(
    found: Delays,
    clock: str,
    medians_ms: tuple[float | None, float | None],
    starvation: Starvation,
    client: Client,
    *,
    is_open: bool,
) -> dict[str, Any]:
    """The same from the delays of all answers. `medians_ms`: that of TTFT, and that of the time
    that a late send is a share of. `is_open`: an open loop, where it is a part of the times."""
    lags = found.lags
    harmful: Sequence[float] = lags
    if clock != USER_CLOCK:
        harmful = found.late_merges
        harmful = harmful if len(harmful) > MERGED_SHARE * found.events else []
    gap = metrics.percentile(found.gaps, 50) if found.gaps else None
    ttft, late_in_ms = medians_ms
    bound = exceeds(harmful, gap) or exceeds(harmful, ttft) or exceeds(found.late, late_in_ms)
    starved, share = starved_ms(found, starvation), client.cpu_share
    starved_share = starved / found.whole_ms if found.whole_ms else 0.0
    bound = bound or starved_share > MOST_STARVED_SHARE
    return {
        "clock": clock,
        "processes": client.processes,
        "cpu_share": None if share is None else round(share, 3),
        "lag_ms": metrics.summary(lags),
        "send_lag_ms": metrics.summary(found.late),
        "merged_reads": found.merged,
        "arrival_gap_ms": None if gap is None else round(gap, 3),
        "starved_ms": round(starved, 3),
        "starved_share": round(starved_share, 3),
        "client_bound": bound,
        "own_delay_ms": own_delay_ms(found, clock, is_open),
        "processes_needed": processes_needed(client, starved) if bound else None,
        "cores": cores(),
    }


def processes_needed(client: Client, starved: float) -> int | None:
    """How many processes would do for a level that this many were too slow for. None when it was
    not their own work that kept them: something else had the processor, or stopped them."""
    share, wall_s = client.cpu_share, client.wall_s
    if share is None or not wall_s or share < LEAST_CPU_SHARE:
        return None
    if starved > OTHERS_SHARE * wall_s * 1e3:
        return None
    return max(client.processes + 1, math.ceil(client.processes * share / GOOD_CPU_SHARE))


def own_delay_ms(found: Delays, clock: str, is_open: bool) -> float | None:
    """How much of a time may be this program's own delay: the p99 of what can be in one. 0 when
    nothing can; None when no read was timed."""
    reads = found.lags if clock == USER_CLOCK else found.late_merges
    own = [metrics.percentile(each, 99) for each in (reads, found.late if is_open else []) if each]
    return round(max(own, default=0.0), 3) if own or found.lags_ns else None


def exceeds(lags_ms: Sequence[float], median_ms: float | None) -> bool:
    """Whether lags like these are a noticeable part of a figure with this median. A few that are
    late happen to any program on a busy machine."""
    if not lags_ms or median_ms is None:
        return False
    most_ms = CLIENT_SHARE * median_ms
    are_few = sum(lag > most_ms for lag in lags_ms) < LEAST_LATE
    return not are_few and metrics.percentile(lags_ms, 99) > most_ms


def late_merges_ms(answer: Timed) -> list[float]:
    """The lags of the reads that merged events, of those that were late for this answer's pace."""
    if not answer.merged_lags_ns:
        return []
    usual_ms = arrival_gap_ms(answer) or answer.spent_ms or 0.0
    lags = [ms(lag) for lag in answer.merged_lags_ns]
    return [lag for lag in lags if lag > CLIENT_SHARE * usual_ms]


def arrival_gap_ms(answer: Timed) -> float | None:
    """The median time from one arrival of output to the next; what came together is one arrival.
    None when there are not two."""
    found = metrics.output_gaps(answer.figures)
    return metrics.percentile(found, 50) if found else None


def starved_ms(found: Delays, starvation: Starvation) -> float:
    """How long this program could not run, from the first request to the end of the last."""
    begun, ended = found.begun_ns, found.ended_ns
    return starvation.between_ms(begun, ended) if begun is not None and ended is not None else 0.0


def records_of(
    answers: Iterable[Timed],
    start_ns: int,
    starvation: Starvation,
    times_later: TimesLater | None = None,
    clock: str | None = None,
) -> list[Record]:
    """The records of the answers, each with how long this program could not look meanwhile, how
    much of that was before the first output and after it, and how much in the longest silence.

    `start_ns`: the time that is 0 in them. `times_later`: how to read the `event_ms` of an answer
    when they are asked for. `clock`: what the times of arrival come from.
    """
    return [
        record_of(each, start_ns, starvation.watching(each), times_later, clock) for each in answers
    ]


def record_of(
    answer: Timed,
    start_ns: int,
    starvation: Starvation,
    times_later: TimesLater | None,
    clock: str | None,
) -> Record:
    record = answer.record(start_ns)
    if times_later:
        record["event_ms"] = times_later(answer)
    record["starved_ms"] = round(starvation.of(answer), 3)
    record["starved_ttft_ms"] = round(starved_at_first_ms(answer, starvation, clock), 3)
    record["starved_decode_ms"] = round(starvation.in_decode(answer), 3)
    record["starved_silence_ms"] = round(starvation.in_silence(answer), 3)
    return Record(record)


def starved_at_first_ms(answer: Timed, starvation: Starvation, clock: str | None = None) -> float:
    """How much too late the first output may have been seen; if this program could not run when
    its request was about to be sent, all that it could not run counts.

    A kernel's time is late only where packets lay there together, so by no more than the time in
    which this program could not run: that is known to a tick, by which it may be noted too late.
    """
    begun, first = answer.begun_ns, answer.first_output_ns
    if begun is None or first is None:
        return 0.0
    if starvation.between_ms(begun, begun + SENDING_NS) > SENDING_NS / 2e6:
        return starvation.between_ms(begun, first)
    unseen_ms = starvation.unseen_ms(answer)
    if clock != KERNEL_CLOCK or not unseen_ms:
        return unseen_ms
    starved = starvation.between_ms(begun, first + int(TICK_S * 1e9))
    return min(unseen_ms, starved, starvation.of(answer))


# --- what would have been measured if none of that time had passed


def fair_figures(
    found: Sequence[Record], figures: Mapping[str, Any], objectives: Sequence[metrics.Objective]
) -> tuple[dict[str, Any], list[Record]]:
    """The figures and records of a level without this program's own delay. Throughputs are those of
    the time in which it ran: for the rest of the level it may have sent nothing."""
    own = cleared(found)
    fair = metrics.level_metrics(own, objectives)
    ran_s = max(0.0, (figures["wall_s"] or 0.0) - figures["client"]["starved_ms"] / 1e3)
    for key in THROUGHPUTS:
        if fair[key] is not None and fair["wall_s"] > ran_s:
            fair[key] = fair[key] * fair["wall_s"] / ran_s if ran_s else math.inf
    return fair, own


def told_of(client: Mapping[str, Any], is_bound: bool) -> tuple[str, dict[str, Any]]:
    """What is said of how late this program was, and the evidence for it."""
    lag, merged = client["lag_ms"]["p99"], client["merged_reads"]
    evidence = {"lag_p99_ms": lag, "merged_reads": merged}
    evidence |= {key: client[key] for key in ("starved_ms", "processes", "processes_needed")}
    what = "merged events" if is_bound else "brought several events"
    return f"lag p99 {lag:.2f} ms, {plural(merged, 'read')} {what}{starved_words(client)}", evidence


def asked_for_less(figures: Mapping[str, Any]) -> bool:
    """Whether a closed loop had fewer requests in flight than it asks for, for a noticeable part of
    it, because this program could not run. That such a level keeps a bound says nothing. In an open
    loop it does, because times count from when a request was due."""
    client = figures["client"]
    is_starved = client["starved_share"] > MOST_STARVED_SHARE
    long_enough = client["starved_ms"] > LEAST_STARVED_MS
    return bool(figures["load_model"] == "closed loop" and is_starved and long_enough)


def starved_words(client: Mapping[str, Any]) -> str:
    """`, could not run for 2.32 s (58 % of the level)`; "" when that is not worth a word."""
    share, starved = client.get("starved_share") or 0.0, client["starved_ms"]
    if share < WORTH_A_WORD:
        return ""
    time = f"{starved / 1e3:.2f} s" if starved >= 10 else f"{starved:.1f} ms"
    return f", this program could not run for {time} ({share:.0%} of the level)"


def cleared(found: Sequence[Record]) -> list[Record]:
    """The records without what may be this program's own delay (`starved_ms`).

    A bound that is broken by these figures as well is broken by the server. Times get shorter, and
    the longest gaps between events first; rates of a single request do not: to see its first output
    late makes a rate higher, not lower.
    """
    return [without_delay(record) for record in found]


def without_delay(record: Record) -> Record:
    delay = record["starved_ms"]
    if not delay:
        return record
    changed = record.copy()
    first_ms = record["starved_ttft_ms"]
    for name, own in (("ttft_ms", first_ms), ("ttfa_ms", delay), ("e2e_ms", delay)):
        if record.get(name) is not None:
            changed[name] = max(0.0, record[name] - own)
    changed["event_ms"] = partial(times_without, record, delay)
    changed["ended_ms"] = max(record["sent_ms"] or 0.0, record["ended_ms"] - delay)
    return changed


def times_without(record: Record, delay: float) -> array[float]:
    """Its `event_ms` with so much less time between them."""
    times = record["event_ms"]
    gaps = shortened(metrics.gaps(times), delay)
    return array("d", itertools.accumulate([*times[:1], *gaps]))


def shortened(gaps: Sequence[float], delay: float) -> list[float]:
    """The gaps with the delay taken off the longest of them, until it is used up."""
    left = list(gaps)
    for index in sorted(range(len(left)), key=lambda n: -left[n]):
        taken = min(left[index], delay)
        left[index] -= taken
        delay -= taken
        if delay <= 0:
            break
    return left
