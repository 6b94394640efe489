"""How wrong this program's figures are: what it reported, minus what the truth server noted.

Pure. A record and a note are matched by the id of the answer. `reference/truth.py` notes when it
received a request and when it sent each token, by a clock that all processes of a machine share.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.json_value import pick, pick_text
from livecheck.core.text import figure, shorten
from livecheck.wire.metrics import percentile

KEY = "self_check"  # in the figures `client` of a level, with --self-check


@dataclass
class Errors:
    """Reported minus true, in ms; positive: reported too late.

    `ttft_ms`: of each request. `event_ms`: of each of its tokens, the time since the request was
    sent. `gap_ms`: of each time between two tokens of a request. `unmatched`: requests that failed,
    that only one side knows, or of which both do not know the same tokens. `inexact`: requests of
    which the truth itself is not exact, because this machine did not take an event at once.
    """

    ttft_ms: array[float] = field(default_factory=lambda: array("d"))
    event_ms: array[float] = field(default_factory=lambda: array("d"))
    gap_ms: array[float] = field(default_factory=lambda: array("d"))
    unmatched: int = 0
    inexact: int = 0


def compare(records: Iterable[Mapping[str, Any]], notes: Sequence[Mapping[str, Any]]) -> Errors:
    """The errors of these records. `notes`: what `GET /truth` says of each request; those that have
    no record (a warm-up) count nowhere."""
    by_id = {note["id"]: note for note in notes}
    found = Errors()
    for record in records:
        note = by_id.get(record["answer_id"])
        times = record["event_ms"]
        if note is None or record["error"] or len(times) != len(note["sent_ns"]) or not times:
            found.unmatched += 1
        elif note["blocked"]:
            found.inexact += 1
        else:
            add(found, times, true_ms(note))
    return found


def true_ms(note: Mapping[str, Any]) -> list[float]:
    """When each token was sent, since the request was received."""
    return [(sent_ns - note["received_ns"]) / 1e6 for sent_ns in note["sent_ns"]]


def add(found: Errors, reported: Sequence[float], true: Sequence[float]) -> None:
    errors = [at - truth for at, truth in zip(reported, true, strict=True)]
    found.ttft_ms.append(errors[0])
    found.event_ms.extend(errors)
    found.gap_ms.extend(b - a for a, b in zip(errors, errors[1:], strict=False))


def summary(errors_ms: Sequence[float]) -> dict[str, float | int | None]:
    """`p50`: the median error. `p99`, `p99_9`: of its size, whichever its sign; all None without
    errors. `n`: how many there are."""
    if not errors_ms:
        return {"p50": None, "p99": None, "p99_9": None, "n": 0}
    sizes = array("d", map(abs, errors_ms))
    figures = (percentile(errors_ms, 50), percentile(sizes, 99), percentile(sizes, 99.9))
    p50, p99, p99_9 = (round(each, 4) for each in figures)
    return {"p50": p50, "p99": p99, "p99_9": p99_9, "n": len(errors_ms)}


# --- words, for a level and for the report, which reads them from a file


def words(client: object) -> str | None:
    """What the figures `client` of a level say of --self-check; None without it.

    `TTFT 8 µs p50, 20 µs p99; events 6 µs p50, 11 µs p99 (at 8 in flight)`
    """
    if (found := pick(client, KEY)) is None:
        return None
    number = pick(found, "concurrency")
    at = f"at {number} in flight" if isinstance(number, int) else "at this concurrency"
    if problem := pick_text(found, "problem"):
        return f"not known {at}: {shorten(problem)}"
    times = "; ".join(
        f"{name} {error(pick(found, key, 'p50'))} p50, {error(pick(found, key, 'p99'))} p99"
        for name, key in (("TTFT", "ttft_error_ms"), ("events", "event_error_ms"))
    )
    had = pick(found, "level_in_flight")
    if isinstance(had, int) and had != number:
        at += f", the level had at most {had}"
    notes = [at] + ["TLS"] * (pick(found, "tls") is True)
    notes += ["client-bound"] * (pick(found, "client_bound") is True)
    notes += ["the server's own delay included"] * (pick(found, "kernel_times") is False)
    return f"{times} ({', '.join(notes)})"


def limit_words(client: object, key: str) -> str:
    """How exact a figure of this key can be, by --self-check; "" when that is not known."""
    of = {"ttft_ms": "ttft_error_ms", "itl_ms": "event_error_ms", "e2e_ms": "event_error_ms"}
    size = pick(client, KEY, of.get(key, ""), "p99")
    return f"client error {error(size)} (p99)" if isinstance(size, (int, float)) else ""


def error(value_ms: object) -> str:
    """A time of less than a millisecond in microseconds."""
    if not isinstance(value_ms, (int, float)):
        return "-"
    return f"{value_ms * 1e3:.0f} µs" if abs(value_ms) < 1 else f"{figure(float(value_ms))} ms"
