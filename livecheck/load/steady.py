"""The steady window of a level: the part of it in which the load is what the level asks for.

Pure: it follows from the records alone.

Closed loop of N: from the first to the last moment at which at least 95 % of N (rounded up) are in
flight. Before it the level fills up, after it the last requests run with fewer beside them, and are
served faster than N users would be. Between the two the number may be lower for the moment between
the end of a request and the beginning of the next one; `in_flight_mean` says how much that is. With
fewer than 80 % of N on average the load was another one, and there is no window: a client that was
stopped for a while has sent nothing in that time.

Open loop: from the end of the first request to the last moment at which one is due. Before it the
deployment fills up, because nothing that arrived has left yet; after it nothing arrives, and it
runs empty. Whether the number in flight is steady between them is up to the deployment: above its
capacity it grows for as long as requests arrive.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from livecheck.core.text import plural
from livecheck.wire import metrics
from livecheck.wire.metrics import Records, Span

SHARE = 0.95  # of the level's concurrency
# A request runs in the window when so much of its time lies in it: the first requests of a level
# are sent one after the other, within a few ms.
WHOLE_SHARE = 0.99
LEAST_MEAN = 0.8  # of the level's concurrency, on average over the window
LEAST = 2  # requests that a window must have, and at least one for each that is in flight
SERIES = ("ttft_ms", "tpot_ms", "tokens_per_s", "e2e_ms")


@dataclass(frozen=True)
class Window:
    """A window, in ms on the time scale of the records.

    found: the records of the requests that count in it. reason: why there is no such window; then
    there is nothing else to say.
    """

    start_ms: float = 0.0
    end_ms: float = 0.0
    found: Records = ()
    reason: str = ""

    @property
    def length_ms(self) -> float:
        return self.end_ms - self.start_ms


def window_of(records: Records, concurrency: int, is_open: bool) -> Window:
    """The steady window of a level with these records; of a search, with those of one level.

    In a closed loop the requests count that begin and end in it (up to 1 % of their time), in an
    open loop those that are due in it: there, to leave out those that end later would leave out the
    slow ones.
    """
    sent = [each for each in records if each["sent_ms"] is not None]
    if not sent:
        return Window(reason="no request was sent")
    return open_window(sent) if is_open else closed_window(sent, concurrency)


def closed_window(sent: Records, concurrency: int) -> Window:
    wanted = math.ceil(round(SHARE * concurrency, 9))
    steps = metrics.counts_over_time(spans_of(sent))
    full = [place for place, (_, count) in enumerate(steps) if count >= wanted]
    if not full:
        most = max(count for _, count in steps)
        return Window(reason=f"at most {most} of {concurrency} were in flight, {wanted} are needed")
    window = Window(steps[full[0]][0], steps[full[-1] + 1][0])
    if (mean := in_flight_mean(sent, window)) < LEAST_MEAN * concurrency:
        least = f"{LEAST_MEAN * concurrency:.3g} are needed"
        return Window(reason=f"only {mean:.3g} of {concurrency} in flight on average, {least}")
    found = [each for each in sent if runs_in(each, window)]
    when = f"{wanted} of {concurrency} were in flight"
    return judged(replace(window, found=found), concurrency, when)


def open_window(sent: Records) -> Window:
    start_ms = min(each["ended_ms"] for each in sent)
    end_ms = max(each["due_ms"] for each in sent)
    if end_ms <= start_ms:
        return Window(reason="the last request was due before the first one had ended")
    found = [each for each in sent if start_ms <= each["due_ms"] <= end_ms]
    return judged(Window(start_ms, end_ms, found), 1, "requests came and went")


def runs_in(record: Mapping[str, Any], window: Window) -> bool:
    return time_share(record, window) >= WHOLE_SHARE


def judged(window: Window, in_flight: int, when: str) -> Window:
    """The window, unless too few requests succeeded in it."""
    count, least = len(succeeded(window)), max(LEAST, in_flight)
    if count >= least:
        return window
    return Window(reason=f"only {plural(count, 'whole request')} while {when}, {least} are needed")


def spans_of(sent: Records) -> Iterable[Span]:
    """When each request was in flight. The time to open a connection for it belongs to it, because
    a user who connects is there; but nobody is there before the first request is sent."""
    first_ms = min(each["sent_ms"] for each in sent)
    for each in sent:
        connecting = (each.get("connect_ms") or 0.0) + (each.get("tls_ms") or 0.0)
        yield min(each["sent_ms"], max(first_ms, each["sent_ms"] - connecting)), each["ended_ms"]


def succeeded(window: Window) -> Records:
    return metrics.succeeded(window.found)


# --- its figures


def steady_metrics(records: Records, window: Window, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The part `steady` of a level's figures: where the window is, and its own figures.

    Latencies and rates of single requests are those of its requests. Throughputs are about the
    window: tokens that arrive in it (each event of an answer has the same share of its tokens), and
    requests, each with the share of its time that lies in it. `whole`: the figures of the level.
    Without a window all of them are None, and `reason` says why.
    """
    if window.reason:
        return no_window(window.reason)
    good = succeeded(window)
    has_all = len(good) == whole["succeeded"]  # then most of it is already computed
    return {
        "start_ms": round(window.start_ms, 3),
        "end_ms": round(window.end_ms, 3),
        "share": share_of(window, whole["wall_s"]),
        "in_flight_mean": in_flight_mean(records, window),
        "requests": len(good),
        **throughputs(records, window),
        **{key: whole[key] if has_all else summary_of(good, key) for key in SERIES},
        "itl_ms": whole["itl_ms"] if has_all else gaps_of(good),
    }


def no_window(reason: str) -> dict[str, Any]:
    """The part `steady` where there is no window."""
    nothing = ("start_ms", "end_ms", "share", "in_flight_mean", "requests")
    rates = ("output_tokens_per_s", "requests_per_s")
    series = {key: metrics.summary([]) for key in (*SERIES, "itl_ms")}
    return {**dict.fromkeys(nothing), **dict.fromkeys(rates), **series, "reason": reason}


def joined(windows: Sequence[tuple[Records, Window]]) -> dict[str, Any]:
    """The part `steady` of several clients, each with its records and its window on its own clock:
    rates and counts are sums, latencies those of all requests that count."""
    good = [record for _, window in windows for record in succeeded(window)]
    own = [throughputs(records, window) for records, window in windows]
    rates: dict[str, float | None] = {}
    for key in ("output_tokens_per_s", "requests_per_s"):
        known = [each[key] for each in own]
        lacks = any(value is None for value in known)
        rates[key] = None if lacks else round(math.fsum(value or 0.0 for value in known), 3)
    walls = [
        max(r["ended_ms"] for r in found) - min(r["sent_ms"] for r in found) for found, _ in windows
    ]
    shares = [
        share_of(window, wall / 1e3) for (_, window), wall in zip(windows, walls, strict=True)
    ]
    return {
        "start_ms": round(max(window.start_ms for _, window in windows), 3),
        "end_ms": round(min(window.end_ms for _, window in windows), 3),
        "share": min((share for share in shares if share is not None), default=None),
        "in_flight_mean": round(sum(in_flight_mean(*each) for each in windows), 3),
        "requests": len(good),
        **rates,
        **{key: summary_of(good, key) for key in SERIES},
        "itl_ms": gaps_of(good),
    }


def summary_of(good: Records, key: str) -> dict[str, Any]:
    return metrics.summary([each[key] for each in good if each.get(key) is not None])


def gaps_of(good: Records) -> dict[str, Any]:
    found = array("d", (gap for record in good for gap in metrics.output_gaps(record)))
    return metrics.summary(found)


def share_of(window: Window, wall_s: float | None) -> float | None:
    return round(min(1.0, window.length_ms / 1e3 / wall_s), 6) if wall_s else None


def in_flight_mean(records: Records, window: Window) -> float:
    """How many requests were in flight in the window, on average over its time."""
    spans = spans_of([each for each in records if each["sent_ms"] is not None])
    return round(sum(overlap_ms(span, window) for span in spans) / window.length_ms, 3)


def overlap_ms(span: Span, window: Window) -> float:
    return max(0.0, min(span[1], window.end_ms) - max(span[0], window.start_ms))


def throughputs(records: Records, window: Window) -> dict[str, float | None]:
    """Tokens and requests a second of the window; None when those of a request are not known."""
    if window.reason:
        return {"output_tokens_per_s": None, "requests_per_s": None}
    good = metrics.succeeded(records)
    per_s = 1e3 / window.length_ms
    inside = [(each, time_share(each, window)) for each in good]
    tokens = [tokens_inside(each, share, window) for each, share in inside if share]
    known = [count for count in tokens if count is not None]
    total = math.fsum(known) if len(known) == len(tokens) else 0.0
    return {
        "output_tokens_per_s": round(total * per_s, 3) or None,
        "requests_per_s": round(sum(share for _, share in inside) * per_s, 3),
    }


def time_share(record: Mapping[str, Any], window: Window) -> float:
    """The share of a request's time that lies in the window."""
    begin_ms, end_ms = record["sent_ms"], record["ended_ms"]
    inside_ms = overlap_ms((begin_ms, end_ms), window)
    return inside_ms / (end_ms - begin_ms) if inside_ms else 0.0


def tokens_inside(record: Mapping[str, Any], share: float, window: Window) -> float | None:
    """The tokens of an answer that arrive in the window; None when its tokens are not known."""
    tokens = metrics.tokens_of(record)
    if tokens is not None and share == 1:  # then the times of its events are not needed
        return tokens if record["ttft_ms"] is not None else 0.0
    events = record["event_ms"]
    if not len(events):
        return 0.0
    return None if tokens is None else tokens * events_inside(record, events, window)


def events_inside(record: Mapping[str, Any], events: Sequence[float], window: Window) -> float:
    """The share of an answer's output events that arrive in the window."""
    zero_ms = record.get("due_ms", record["sent_ms"])
    before = bisect_right(events, window.start_ms - zero_ms)
    return (bisect_right(events, window.end_ms - zero_ms) - before) / len(events)


# --- in words


def words_of(steady: Mapping[str, Any], wall_s: float | None) -> str:
    """`0.12 to 9.34 s of 10.2 s (90 %), 33 whole requests, 7.98 in flight on average`, or why there
    is none."""
    if steady["start_ms"] is None:
        return f"none: {steady['reason']}"
    begin_s, end_s = steady["start_ms"] / 1e3, steady["end_ms"] / 1e3
    whole = f" of {wall_s:.2f} s" if wall_s else ""
    share = f" ({100 * steady['share']:.0f} %)" if steady["share"] is not None else ""
    count = plural(steady["requests"], "whole request")
    in_flight = f"{steady['in_flight_mean']:.3g} in flight on average"
    return f"{begin_s:.2f} to {end_s:.2f} s{whole}{share}, {count}, {in_flight}"
