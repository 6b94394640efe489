"""A level whose requests several workers sent: their messages become one document. Pure.

Each worker has a clock of its own, which starts at its own first request; times of two of them are
never compared. The process that collects them (the master) knows only when their messages came, by
its own clock. So a record names its `worker`, a rate is the sum of each worker's own
(`metrics.level_metrics`), and whether they ran at the same time is judged by receipt.

A worker says how many requests it has begun with each message, so that the loss of one that does
not come back can be told: what it had begun, minus what came of it.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.checks import Check, Status, passed, undecided, warned
from livecheck.core.text import listed, plural
from livecheck.load import steady
from livecheck.load.client_delay import fair_figures, told_of
from livecheck.load.judging import (
    Records,
    allowed_errors,
    check_objective,
    check_pacing,
    check_stream,
    check_tokens,
    error_words,
    shown_nothing,
)
from livecheck.load.record import Record
from livecheck.wire import metrics

HELLO, RECORDS, END, STOP = "hello", "records", "end", "stop"  # kinds of messages
BATCH_RECORDS = 50  # of a message, at most
BATCH_EVENTS = 10_000  # with so many events a message is full: it has some 100 KB
MAX_KEYS = 100  # of a record
# Workers that were not there for so much of the test, in all and as a share, make the sum of their
# rates a figure of no moment.
APART_S = 2.0
APART_SHARE = 0.1
# what the figures are made of: a record without it is of another version
NEEDED = frozenset(
    ("index", "error", "error_text", "excluded", "sent_ms", "ended_ms", "event_ms", "ttft_ms")
    + ("tpot_ms", "tokens_per_s", "e2e_ms", "output_tokens", "token_source", "complaints")
    + ("hidden_tokens", "token_doubts", "output_events", "starved_ms", "starved_ttft_ms")
    + ("server_predicted_tokens",)
)
Message = Mapping[str, Any]


@dataclass
class Part:
    """What one worker has said of one test. Receipt times are the master's, in seconds."""

    number: int  # the first worker that was heard is 1
    name: str
    about: dict[str, Any] = field(default_factory=dict)  # its hello
    begun: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    end: dict[str, Any] | None = None
    seen: set[int] = field(default_factory=set)  # the indices of its records

    @property
    def lost(self) -> int:
        """Requests that it had begun, as far as it could say, and of which no record came."""
        return max(0, self.begun - len(self.seen))


@dataclass
class Collection:
    """The records of one test, from all its workers."""

    test: str  # its name: what is said of another one, also of another master, is left out
    parts: dict[str, Part] = field(default_factory=dict)
    records: Records = field(default_factory=list)
    repeated: int = 0  # records that had come already
    damaged: int = 0  # what no worker of this version says
    stopped: tuple[str, str] | None = None  # the first reason of a worker to stop: (cause, words)

    def take(self, name: str, message: Message, now_s: float) -> None:
        """Take in what a worker said. `name`: its own; `now_s`: when it came."""
        if message.get("test") != self.test:
            return
        part = self.part_of(name)
        part.first_s = now_s if part.first_s is None else part.first_s
        part.last_s = now_s
        part.begun = max(part.begun, whole(message.get("begun")))
        kind = message.get("kind")
        if kind == HELLO:
            part.about = dict(message)
        elif kind == RECORDS:
            self._add(part, message.get("records"))
        elif kind == END:
            part.end = dict(message)
        elif kind == STOP:
            said = str(message.get("cause")), str(message.get("text"))
            self.stopped = self.stopped or said
        else:
            self.damaged += 1

    def part_of(self, name: str) -> Part:
        """What a worker has said; one that was told to begin has a part, though it said nothing."""
        if name not in self.parts:
            self.parts[name] = Part(len(self.parts) + 1, name)
        return self.parts[name]

    def _add(self, part: Part, found: object) -> None:
        if not isinstance(found, Iterable):
            self.damaged += 1
            return
        for each in found:
            record = read_record(each, part.number)
            if record is None:
                self.damaged += 1
            elif record["index"] in part.seen:
                self.repeated += 1
            else:
                part.seen.add(record["index"])
                self.records.append(record)

    def is_whole(self, gone: Iterable[str] = ()) -> bool:
        """Whether all that will come has come; `gone`: workers that will say nothing more."""
        missing = set(gone)
        return all(part.end is not None or name in missing for name, part in self.parts.items())

    @property
    def ordered(self) -> list[Part]:
        return sorted(self.parts.values(), key=lambda part: part.number)


def whole(value: object) -> int:
    """A count that a worker gave; 0 when it is not one."""
    return value if isinstance(value, int) and value >= 0 else 0


def read_record(found: object, worker: int) -> Record | None:
    """A record as it came in a message; None when it is not one."""
    if not isinstance(found, Mapping) or len(found) > MAX_KEYS or not found.keys() >= NEEDED:
        return None
    if not isinstance(found["index"], int):
        return None
    try:
        times = array("d", found["event_ms"])
    except (TypeError, ValueError):
        return None
    return Record({"worker": worker, **found, "event_ms": times})


# --- figures


def figures_of(
    collection: Collection, concurrency: int, objectives: Sequence[metrics.Objective]
) -> dict[str, Any]:
    """The figures of the level; `concurrency` is the most users that there were."""
    parts = collection.ordered
    ends = [part.end for part in parts if part.end]
    return {
        "concurrency": concurrency,
        "prompt": "unique",
        **metrics.level_metrics(collection.records, objectives),
        "steady": steady_of_workers(collection.records),
        "warmup": {
            "requests": sum(whole(end.get("warmup_requests")) for end in ends),
            "failed": sum(whole(end.get("warmup_failed")) for end in ends),
        },
        "client": client_figures(parts),
        "workers": [part_figures(part) for part in parts],
    }


def steady_of_workers(records: Records) -> dict[str, Any]:
    """The steady windows of all workers together: throughputs are the sum of each one's own.

    Each worker has its own window, in which at least 95 % of the most requests that it had in
    flight were so. `start_ms` and `end_ms` count from the start of each by its own clock: between
    them every worker was in its window. Without a window of one of them there is none.
    """
    windows = {}
    for worker in sorted({record["worker"] for record in records}):
        own = [each for each in records if each["worker"] == worker and each["sent_ms"] is not None]
        most = metrics.most_at_once((each["sent_ms"], each["ended_ms"]) for each in own)
        windows[worker] = own, steady.window_of(own, most, is_open=False)
    reasons = [f"worker {n}: {window.reason}" for n, (_, window) in windows.items()]
    lacking = [
        text for text, (_, each) in zip(reasons, windows.values(), strict=True) if each.reason
    ]
    if lacking or not windows:
        return steady.no_window("; ".join(lacking[:3]) or "no request was sent")
    return steady.joined(list(windows.values()))


def part_figures(part: Part) -> dict[str, Any]:
    """One worker. `heard_s`: from its first message to its last, by the master's clock."""
    client = (part.end or {}).get("client") or {}
    return {
        "worker": part.number,
        "name": part.name,
        "begun": part.begun,
        "records": len(part.seen),
        "lost": part.lost,
        "ended": part.end is not None,
        "heard_s": None if part.first_s is None else round(part.last_s - part.first_s, 3),
        "clock": client.get("clock") or part.about.get("clock"),
        "client_bound": client.get("client_bound"),
        "lag_p99_ms": (client.get("lag_ms") or {}).get("p99"),
    }


def client_figures(parts: Sequence[Part]) -> dict[str, Any]:
    """How late the workers were: summaries of the one that was latest, sums of counts.

    `processes_needed`: how many workers would do, if those that were too slow are divided as they
    say; None when their own work was not what kept them.
    """
    known = [part.end["client"] for part in parts if part.end and part.end.get("client")]
    clocks = dict.fromkeys(str(each["clock"]) for each in known)
    none = metrics.summary([])
    slow = [each for each in known if each["client_bound"]]
    needed = [each.get("processes_needed") for each in slow]
    told = [count for count in needed if count is not None]
    divided = len(known) - len(slow) + sum(told)
    return {
        "clock": "; ".join(clocks) or None,
        "processes": len(known),
        "cpu_share": largest(known, "cpu_share"),
        "lag_ms": latest(known, "lag_ms") if known else none,
        "send_lag_ms": latest(known, "send_lag_ms") if known else none,
        "merged_reads": sum(each["merged_reads"] for each in known),
        "arrival_gap_ms": smallest(known, "arrival_gap_ms"),
        "starved_ms": largest(known, "starved_ms") or 0.0,
        "starved_share": largest(known, "starved_share") or 0.0,
        "client_bound": bool(slow),
        "own_delay_ms": largest(known, "own_delay_ms"),
        "processes_needed": divided if slow and len(told) == len(needed) else None,
    }


def latest(known: Sequence[Mapping[str, Any]], name: str) -> Any:
    """The summary with the highest p99."""
    return max((each[name] for each in known), key=lambda found: found["p99"] or 0.0)


def largest(known: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return max((each[name] for each in known if each.get(name) is not None), default=None)


def smallest(known: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return min((each[name] for each in known if each.get(name) is not None), default=None)


# --- verdicts


def judge(
    collection: Collection, figures: Mapping[str, Any], objectives: Sequence[metrics.Objective]
) -> list[Check]:
    """The checks of the level."""
    found, limited = collection.records, is_limited(collection)
    ends = [part.end for part in collection.ordered if part.end]
    usage = all(end.get("usage") is not False for end in ends)
    fair = functools.cache(lambda: fair_figures(found, figures, objectives))
    checks = [
        check_workers(collection),
        check_requests(collection, allowed_errors(objectives)),
        check_stream(found),
        check_pacing(found, figures["client"]["client_bound"]),
        check_tokens(usage, found),
        check_client(collection, figures),
        *(check_objective(each, dict(figures), found, limited, fair) for each in objectives),
    ]
    return [check for check in checks if check]


def is_limited(collection: Collection) -> bool:
    """Whether the rate limit ended the test."""
    return collection.stopped is not None and collection.stopped[0] == "RATE_LIMIT"


def check_workers(collection: Collection) -> Check:
    """Every request that a worker began has its record, and the workers ran at the same time."""
    parts = collection.ordered
    evidence = {
        "workers": len(parts),
        "records": len(collection.records),
        "lost": sum(part.lost for part in parts),
        "repeated": collection.repeated,
        "damaged": collection.damaged,
    }
    if not parts:
        return undecided("workers", "no worker has begun: is one connected?", evidence)
    if problems := loss_words(collection):
        detail = f"{'; '.join(problems)}; the figures lack that: repeat the test"
        return undecided("workers", detail, evidence)
    told = f"{plural(len(parts), 'worker')}, {plural(len(collection.records), 'record')}"
    if words := apart_words(parts):
        return warned("workers", f"{told}, but {words}", evidence)
    models = {str(part.about.get("model")) for part in parts}
    if len(models) > 1:
        return warned(
            "workers",
            f"{told}, but of several models ({listed(sorted(models))}): give --model",
            evidence,
        )
    return passed("workers", f"{told}, each request counted once", evidence)


def loss_words(collection: Collection) -> list[str]:
    """What is missing, worker by worker."""
    words = []
    for part in collection.ordered:
        lost = plural(part.lost, "request")
        if part.end is None:
            who = f"worker {part.number} ({part.name})"
            count = f"at least {lost} of the {part.begun} that it had begun are lost"
            told = count if part.begun else "nothing of it has come"
            words.append(f"{who} ended without a word: {told}")
        elif part.lost:
            words.append(f"worker {part.number} ({part.name}): {lost} of {part.begun} are lost")
    if collection.damaged:
        words.append(f"{plural(collection.damaged, 'record')} of another version of this program")
    return words


def apart_words(parts: Sequence[Part]) -> str | None:
    """How much of the test not all workers were there, where that is much. The start of a worker is
    its first message, so both are known to the time that a message takes."""
    busy = [part for part in parts if part.seen]
    if len(busy) < 2:
        return None
    begun, ended = [part.first_s or 0.0 for part in busy], [part.last_s for part in busy]
    whole_s = max(ended) - min(begun)
    apart_s = whole_s - max(0.0, min(ended) - max(begun))
    if apart_s <= max(APART_S, APART_SHARE * whole_s):
        return None
    return (
        f"not all of them ran for {apart_s:.1f} s of {whole_s:.1f} s, so that the sum of their "
        "rates is too high"
    )


def check_requests(collection: Collection, allowed: float) -> Check:
    """Every request succeeded, but for the share that --slo error_rate allows."""
    kept = [record for record in collection.records if not record["excluded"]]
    bad = [record for record in kept if record["error"]]
    cut = [record for record in collection.records if record["error"] == "interrupted"]
    evidence = {"sent": len(collection.records), "failed": len(bad), "interrupted": len(cut)}
    status, detail = verdict(collection, kept, bad, allowed)
    if cut:
        detail += f"; {plural(len(cut), 'request')} in flight at the end, not counted"
    return Check("requests", status, detail, evidence, essential=status is Status.SKIP)


def verdict(
    collection: Collection, kept: Records, bad: Records, allowed: float
) -> tuple[Status, str]:
    stopped = f"; stopped: {collection.stopped[1]}" if collection.stopped else ""
    told = f"{len(bad)} of {len(kept)} failed"
    if bad and (len(bad) == len(kept) or len(bad) / len(kept) > allowed):
        return Status.FAIL, f"{told}: {error_words(bad)}{stopped}"
    if is_limited(collection):
        words = collection.stopped[1] if collection.stopped else ""
        return Status.SKIP, f"stopped after {plural(len(kept), 'request')}: {words}"
    if not kept:
        return Status.SKIP, f"no request was answered{stopped}"
    if bad:
        return Status.WARN, f"{told}, within the {allowed:.2%} allowed: {error_words(bad)}"
    detail = f"{len(kept)} of {len(kept)} succeeded"
    if len(silent := shown_nothing(kept)) == len(kept):
        return Status.SKIP, f"no first token to measure: {silent[0]['thoughts_only']}"
    return Status.PASS, detail


def check_client(collection: Collection, figures: Mapping[str, Any]) -> Check | None:
    """The workers kept up with the server."""
    client = figures["client"]
    if not figures["succeeded"] or client["lag_ms"]["p99"] is None:
        return None
    names = [
        str(part.number)
        for part in collection.ordered
        if ((part.end or {}).get("client") or {}).get("client_bound")
    ]
    detail, evidence = told_of(client, bool(names))
    if names:
        which = f"client-bound: worker {', '.join(names)}"
        needed = client["processes_needed"]
        advice = f"use {needed} workers" if needed else "use more workers, or less busy ones"
        return warned("client", f"{which}: {detail}; {advice}", evidence)
    return passed("client", detail, evidence)
