"""Requests as timelines: who waited, who served, in what order. Drawn from result files alone.

A timeline is an inline SVG without a fixed width: places are in percent and letters in pixels, so
that it is as wide as the page or the telephone. A bar shows its figures when it is pointed at or
tapped; for the keyboard and for screen readers a table says the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

from livecheck.core.text import duration, shorten
from livecheck.report.html_parts import escape, folded, plain_table
from livecheck.report.result_files import Folder, ResultFile, is_number

HINT = "Point at a bar, or tap it, for its figures."
MAX_BARS = 400  # of a timeline; a table has as many rows
MAX_LOOKED_AT, MAX_MARKS = 20_000, 200  # of the probes of a run, and drawn of them
MAX_LANES, MAX_GROUPS = 40, 30  # lanes of a group
ROW_PX, BAR_PX, HEAD_PX = 14, 9, 22  # of a lane, of the bar in it, of the line above a group
TOP_PX, AXIS_PX = 34, 34  # the lines for what is pointed at; the scale
TICKS = (1, 2, 2.5, 5, 10)
HEADROOM, ROOM_FOR_NOTES = 1.01, 1.12  # times the end, to the right edge
FEW = 5  # marks on the scale, about
NEAR = 8.0  # percent: labels that would touch each other on a telephone
RIGHT = 88.0  # percent: a label of a bar that ends later stands before its end

Records = Sequence[Mapping[str, Any]]
Named = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Bar:
    """One request, or one event: from `begin_s` on it waited, from `first_s` on output came.

    kind: the class of its colour. mark: it is a moment. note: one word beside it.
    """

    begin_s: float
    end_s: float
    kind: str
    what: str
    outcome: str
    first_s: float | None = None
    is_mark: bool = False
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Bars under one heading. is_stacked: a row for each; else those that fit share a row."""

    name: str
    bars: Sequence[Bar]
    is_stacked: bool = False


@dataclass(frozen=True)
class Timeline:
    question: str
    caption: str
    groups: Sequence[Group]


def timelines(folder: Folder) -> list[Timeline]:
    """All that the result files have the times for."""
    makers = {
        "queue_behavior": of_queue,
        "scale_to_zero": of_sleep,
        "concurrency": of_concurrency,
        "workload_routing": of_workload,
        "wol": of_wake,
    }
    found = ((folder.find(name), maker) for name, maker in makers.items())
    return [each for file, maker in found if file for each in maker(file)]


# --- from records to bars


def sent(record: Mapping[str, Any]) -> bool:
    return all(is_number(record.get(key)) for key in ("sent_ms", "ended_ms"))


def bar_of(record: Mapping[str, Any], what: str, kind: str = "") -> Bar:
    """The bar of a request whose record has `sent_ms` and `ended_ms`."""
    begin_s, end_s = record["sent_ms"] / 1e3, max(record["sent_ms"], record["ended_ms"]) / 1e3
    ttft_ms = record.get("ttft_ms")
    first_s = begin_s + ttft_ms / 1e3 if is_number(ttft_ms) and ttft_ms >= 0 else None
    return Bar(
        begin_s,
        end_s,
        kind or kind_of(record),
        what,
        outcome_of(record),
        None if first_s is None else min(first_s, end_s),
    )


def kind_of(record: Mapping[str, Any]) -> str:
    if record.get("cancelled") is True:
        return "muted"
    return "bad" if record.get("error") or record.get("status") != 200 else "series-1"


def outcome_of(record: Mapping[str, Any]) -> str:
    if record.get("cancelled") is True:
        return "hung up on purpose"
    status, error = record.get("status"), record.get("error")
    if error and status == 200:
        return f"200, {text(error)}"
    return text(status if status is not None else error or "no answer")


def text(value: object) -> str:
    return shorten(str(value), 40)


STEPS = {  # of the queue: those that are one story
    "left_streaming": "its client hangs up while it is served",
    "holders": "take all places",
    "queued": "wait in the queue",
    "left_queued": "its client hangs up while it waits",
    "queued_after": "sent after that",
    "refill": "take the places again",
    "retry": "once more, after Retry-After",
}


def of_queue(file: ResultFile) -> Iterator[Timeline]:
    found = [each for each in file.requests if sent(each)]
    if burst := [each for each in found if each.get("step") == "burst"]:
        begin_ms = min(each["sent_ms"] for each in burst)
        moved = [shifted(each, begin_ms) for each in burst]
        moved.sort(key=lambda each: (each["status"] != 200, first_of(each), each["ended_ms"]))
        bars = [bar_of(each, f"request {n}") for n, each in enumerate(moved, 1)]
        bars = [replace(bar, note=bar.outcome) for bar in bars]
        is_cut = len(bars) > MAX_LANES
        which = f"the first {MAX_LANES} of {len(bars)} requests" if is_cut else "each request"
        yield Timeline(
            "Who waited, who was refused?",
            f"A bar for {which} of the burst, in the order in which they were served: pale "
            "until its first token (queue and prefill), full while tokens come. Red: a refusal or "
            "a failure, which should be at the very left.",
            [Group("the burst", bars[:MAX_LANES], is_stacked=True)],
        )
    others = [each for each in found if str(each.get("step")) in STEPS]
    if groups := by_group(others, lambda each: STEPS[str(each["step"])]):
        yield Timeline(
            "Who got the places of those who left?",
            "Pale: the request waits; full: its tokens come; grey: this script hung up on purpose. "
            "A place is free again when a pale bar turns full.",
            groups,
        )


def shifted(record: Mapping[str, Any], begin_ms: float) -> dict[str, Any]:
    about = {key: record.get(key) for key in ("status", "error", "ttft_ms", "cancelled")}
    times = {key: record[key] - begin_ms for key in ("sent_ms", "ended_ms")}
    return about | times


def first_of(record: Mapping[str, Any]) -> float:
    ttft_ms = record.get("ttft_ms")
    return float(record["sent_ms"] + (ttft_ms if is_number(ttft_ms) else 0.0))


def by_group(found: Records, name_of: Named, kind: Named | None = None) -> list[Group]:
    """The requests under their headings, in the order in which each began; times from the first."""
    kept = sorted(found, key=lambda each: float(each["sent_ms"]))[:MAX_BARS]
    begin_ms = min((each["sent_ms"] for each in kept), default=0.0)
    bars: dict[str, list[Bar]] = {}
    for number, each in enumerate(kept, 1):
        moved = shifted(each, begin_ms)
        named = bars.setdefault(name_of(each), [])
        named.append(bar_of(moved, f"request {number}", kind(each) if kind else ""))
    return [Group(name, each) for name, each in list(bars.items())[:MAX_GROUPS]]


def of_workload(file: ResultFile) -> Iterator[Timeline]:
    found = [each for each in file.requests if sent(each)]
    for phase, question in (("measured", "Who served, and who was idle?"), ("loss", LOST)):
        own = [each for each in found if each.get("phase") == phase]
        if not own:
            continue
        groups = by_group(own, lambda each: text(each.get("runner") or "runner not known"))
        yield Timeline(
            question,
            "The requests of each runner, in the order of sending. Pale: no output yet; full: its "
            "output comes; red: it failed. Rows that are free while another runner has pale bars "
            "are a queue beside an idle machine.",
            sorted(groups, key=lambda each: each.name),
        )


LOST = "What became of the requests when a runner died?"
TOGETHER = ("together", "cancelled", "after")


def of_concurrency(file: ResultFile) -> Iterator[Timeline]:
    found = [each for each in file.requests if sent(each)]
    together = [each for each in found if each.get("step") in TOGETHER]
    if not together:
        return
    names = {"together": "several at once", "cancelled": "cancelled", "after": "after these"}

    def kind(record: Mapping[str, Any]) -> str:
        if record.get("right") is False or record.get("crossed") is True:
            return "bad"
        return "good" if record.get("right") is True else kind_of(record)

    groups = by_group(together, lambda each: names[each["step"]], kind)
    wrong = sum(kind(each) == "bad" for each in together)
    yield Timeline(
        "Which answers were wrong, and what ran beside them?",
        "Rows are requests at the same time. Green: a right answer; red: a wrong one, none, or one "
        "with a word of another request; grey: this script hung up on purpose; blue: not judged. "
        f"Red are {wrong} of {len(together)}.",
        groups,
    )


def of_wake(file: ResultFile) -> Iterator[Timeline]:
    """Times from the request that should wake a runner."""
    asked = [e for e in file.requests if e.get("kind") == "chat" and is_number(e.get("at_s"))]
    if not asked:
        return
    begin_s = min(each["at_s"] for each in asked)
    yield Timeline(
        "What happened while a runner woke?",
        "Seconds since the first request. Pale: it waits for its first token; full: its tokens "
        "come; red: it failed. Above: the magic packets that were heard, and who was online when "
        "that changed.",
        [
            Group("magic packets", marks_of(file, "packet", begin_s, packet_mark)),
            Group("online", with_notes(marks_of(file, "state", begin_s, state_mark))),
            Group("requests", [timed_bar(each, begin_s) for each in asked[:MAX_BARS]]),
        ],
    )


def timed_bar(record: Mapping[str, Any], begin_s: float) -> Bar:
    """The bar of a request that has its time in seconds, and its own length in ms."""
    at_s = record["at_s"] - begin_s
    lasted = record.get("e2e_ms")
    if not is_number(lasted) and sent(record):
        lasted = record["ended_ms"] - record["sent_ms"]
    end_s = at_s + max(0.0, lasted) / 1e3 if is_number(lasted) else at_s
    ttft_ms = record.get("ttft_ms")
    first_s = min(end_s, at_s + ttft_ms / 1e3) if is_number(ttft_ms) else None
    phase = text(record.get("phase") or "request")
    return Bar(at_s, end_s, kind_of(record), phase, outcome_of(record), first_s)


def marks_of(
    file: ResultFile, kind: str, begin_s: float, mark: Callable[[Mapping[str, Any], float], Bar]
) -> list[Bar]:
    """A mark for each record of this kind; of very many those that are bad, as far as there is
    room, and some of the others."""
    found = [e for e in file.requests if e.get("kind") == kind and is_number(e.get("at_s"))]
    marks = [mark(each, max(0.0, each["at_s"] - begin_s)) for each in found[:MAX_LOOKED_AT]]
    bad = [each for each in marks if each.kind == "bad"][:MAX_MARKS]
    good = [each for each in marks if each.kind != "bad"]
    shown = [*bad, *good[:: 1 + len(good) // MAX_MARKS]]
    return sorted(shown, key=lambda each: each.begin_s)


def packet_mark(record: Mapping[str, Any], at_s: float) -> Bar:
    said = text(record.get("mac") or "malformed")
    return Bar(at_s, at_s, "series-2", "packet", said, is_mark=True)


def state_mark(record: Mapping[str, Any], at_s: float) -> Bar:
    names = record.get("online")
    who = ", ".join(map(text, names)) if isinstance(names, (list, tuple)) else ""
    return Bar(at_s, at_s, "series-3", "online", who or "nobody", is_mark=True)


def probe_mark(record: Mapping[str, Any], at_s: float) -> Bar:
    kind = "bad" if record.get("error") or record.get("status") != 200 else "good"
    spent_ms = record.get("spent_ms")
    after = f" after {duration(spent_ms)}" if is_number(spent_ms) else ""
    return Bar(at_s, at_s, kind, "probe", outcome_of(record) + after, is_mark=True)


def with_notes(marks: Sequence[Bar]) -> list[Bar]:
    """Each with its outcome beside it, where that is another one than before."""
    before = ["", *(each.outcome for each in marks)]
    return [
        replace(each, note=each.outcome) if each.outcome != said else each
        for each, said in zip(marks, before, strict=False)
    ]


def of_sleep(file: ResultFile) -> Iterator[Timeline]:
    asked = [e for e in file.requests if e.get("kind") == "chat" and is_number(e.get("at_s"))]
    if len(asked) < 2:
        return
    counted = [e for e in file.requests if e.get("kind") == "workers" and is_number(e.get("at_s"))]
    yield Timeline(
        "When did the worker sleep and wake?",
        "Seconds since the run began. Requests: pale until the first token, full while tokens "
        "come, red if they failed. Workers: how many were counted, and until when. Probes of the "
        "health URL: green 200, red anything else.",
        [
            Group("requests", [timed_bar(each, 0.0) for each in asked[:MAX_BARS]]),
            Group("workers", list(islice(spans_of(counted), MAX_BARS))),
            Group("probes of the health URL", marks_of(file, "health", 0.0, probe_mark)),
        ],
    )


def spans_of(counted: Records) -> Iterator[Bar]:
    """How long each count of workers lasted."""
    for count, group in groupby(counted, key=lambda each: each.get("count")):
        own = list(group)
        known = is_number(count)
        kind = "muted" if not known else "series-3" if count else "open"
        said = f"{count:g}" if is_number(count) else "not known"
        yield Bar(own[0]["at_s"], own[-1]["at_s"], kind, "workers", said, note=said)


# --- drawing


def picture(timeline: Timeline, number: int) -> Iterator[str]:
    """The figure: heading, SVG, how to read it, and the same as a table."""
    yield f'<figure class="timeline"><h3>{escape(timeline.question)}</h3>'
    yield from svg(timeline, f"t{number}")
    yield f"<figcaption>{escape(timeline.caption)}</figcaption>"
    rows = (row for group in timeline.groups for row in table_rows(group))
    columns = ("What", "Which", "Begins", "First output", "Ends", "Outcome")
    yield from folded("The same as a table", plain_table(columns, rows))
    yield "</figure>"


def table_rows(group: Group) -> Iterator[list[str]]:
    for each in group.bars:
        first = seconds(each.first_s) if each.first_s is not None else "-"
        end = "-" if each.is_mark else seconds(each.end_s)
        yield [group.name, each.what, seconds(each.begin_s), first, end, each.outcome]


def seconds(value: float) -> str:
    return f"{value:.3f} s"


class Scale:
    """Places of times, in percent of the width."""

    def __init__(self, end_s: float):
        self.end_s = end_s if 0 < end_s < math.inf else 1.0

    def at(self, time_s: float) -> float:
        return round(min(100.0, max(0.0, 100 * time_s / self.end_s)), 3)

    def ticks(self) -> Iterator[float]:
        rough = self.end_s / FEW
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * each for each in TICKS if power * each >= rough * 0.999)
        yield from (step * n for n in range(int(self.end_s / step) + 1))


def svg(timeline: Timeline, own: str) -> Iterator[str]:
    end_s = max((bar.end_s for group in timeline.groups for bar in group.bars), default=0.0)
    has_notes = any(bar.note for group in timeline.groups for bar in group.bars)
    scale = Scale(end_s * (ROOM_FOR_NOTES if has_notes else HEADROOM))
    body: list[str] = []
    at_px = TOP_PX
    for group in timeline.groups:
        if group.bars:
            body.append(f'<text class="head" x="0" y="{at_px + 14}">{escape(group.name)}</text>')
            lanes = stacked(group.bars) if group.is_stacked else packed(group.bars)
            for bar, lane in lanes:
                body.append(drawn(bar, at_px + HEAD_PX + lane * ROW_PX, scale))
            at_px += HEAD_PX + ROW_PX * (1 + max(lane for _, lane in lanes)) + 4
    height = at_px + AXIS_PX
    yield f'<svg class="line" role="img" width="100%" height="{height}" '
    yield f'aria-labelledby="{own}-t {own}-d"><title id="{own}-t">{escape(timeline.question)}'
    yield f'</title><desc id="{own}-d">{escape(timeline.caption)}</desc>'
    yield f'<text class="hint" x="0" y="12">{HINT}</text>'
    yield from axis(scale, TOP_PX, at_px)
    yield from body
    yield "</svg>"


def axis(scale: Scale, top_px: int, bottom_px: int) -> Iterator[str]:
    for tick in scale.ticks():
        x = scale.at(tick)
        anchor = ' text-anchor="end"' if x > 95 else ' text-anchor="middle"' if x > 2 else ""
        yield f'<line class="grid" x1="{x}%" x2="{x}%" y1="{top_px}" y2="{bottom_px}"/>'
        yield f'<text class="tick" x="{x}%" y="{bottom_px + 14}"{anchor}>{tick:g} s</text>'


def stacked(bars: Sequence[Bar]) -> list[tuple[Bar, int]]:
    return [(bar, lane) for lane, bar in enumerate(bars)]


def packed(bars: Iterable[Bar]) -> list[tuple[Bar, int]]:
    """Each bar in the first lane that is free when it begins, so that the lanes show how many were
    there at once. What finds no lane shares the last one."""
    ends: list[float] = []
    placed = []
    for bar in sorted(bars, key=lambda each: each.begin_s):
        if bar.is_mark:
            placed.append((bar, 0))
            continue
        free = (lane for lane, end_s in enumerate(ends) if end_s <= bar.begin_s)
        lane = next(free, min(len(ends), MAX_LANES - 1))
        if lane == len(ends):
            ends.append(bar.end_s)
        else:
            ends[lane] = max(ends[lane], bar.end_s)
        placed.append((bar, lane))
    return placed


def drawn(bar: Bar, y: int, scale: Scale) -> str:
    """A bar, or the mark of a moment, with its figures: as a tooltip, and as a line at the top for
    who taps it."""
    first, second = figures_of(bar)
    parts = [
        f'<g class="bar {bar.kind}" tabindex="-1"><title>{escape(f"{first} {second}")}</title>'
    ]
    left, right = scale.at(bar.begin_s), scale.at(bar.end_s)
    if bar.is_mark:
        parts.append(f'<circle cx="{left}%" cy="{y + 5}" r="4"/>')
    else:
        begin = right if bar.first_s is None else scale.at(bar.first_s)
        failed = bar.first_s is None
        width = f"max({round(right - left, 3)}%, 3px)"
        pale = "full" if failed else "pale"
        rect = f'<rect y="{y}" height="{BAR_PX}"'
        parts.append(f'{rect} class="{pale}" x="{left}%" style="width:{width}"/>')
        if not failed:
            parts.append(f'{rect} x="{begin}%" width="{round(right - begin, 3)}%"/>')
    if bar.note:
        parts.append(note(bar.note, left if bar.is_mark else right, y))
    for line, text_px in ((first, 12), (second, 27)):
        parts.append(f'<text class="tip" x="0" y="{text_px}">{escape(line)}</text>')
    return "".join(parts) + "</g>"


def note(said: str, x: float, y: int) -> str:
    shift, anchor = (-6, ' text-anchor="end"') if x > RIGHT else (6, "")
    return f'<text class="note" x="{x}%" dx="{shift}" y="{y + 9}"{anchor}>{escape(said)}</text>'


def figures_of(bar: Bar) -> tuple[str, str]:
    """Two short lines."""
    if bar.is_mark:
        return f"{bar.what}: {bar.outcome}", f"at {seconds(bar.begin_s)}"
    first = f"{bar.what}: {bar.outcome}"
    times = f"{seconds(bar.begin_s)} to {seconds(bar.end_s)}"
    if bar.first_s is not None:
        times += f", first output after {duration((bar.first_s - bar.begin_s) * 1e3)}"
    return first, times


# --- where the requests behind a check are in a run


@dataclass(frozen=True)
class Strip:
    """own: number, begin and length in ms, and outcome of each request behind a check. others: when
    the other kept ones were sent."""

    own: Sequence[tuple[int, float | None, float | None, str]]
    others: Sequence[float]
    duration_ms: float


def strip(found: Strip, own: str) -> Iterator[str]:
    """One line for the whole measurement, with a mark for each request."""
    placed = [(number, at, spent or 0.0) for number, at, spent, _ in found.own if at is not None]
    if not placed:
        return
    last = max(found.duration_ms, *(at + spent for _, at, spent in placed))
    scale = Scale(last * HEADROOM / 1e3)
    title = "When these requests were sent, from the beginning of the measurement to its end"
    said = "; ".join(f"request {n} at {at / 1e3:.3f} s" for n, at, _ in placed)
    yield '<p class="muted label">When, in seconds since the measurement began:</p>'
    yield f'<svg class="line strip" role="img" width="100%" height="52" aria-labelledby="{own}-t '
    yield f'{own}-d"><title id="{own}-t">{title}</title><desc id="{own}-d">{escape(said)}</desc>'
    yield from axis(scale, 14, 32)
    for at in found.others:
        x = scale.at(at / 1e3)
        yield f'<line class="other" x1="{x}%" x2="{x}%" y1="18" y2="30"/>'
    for _, at, spent in placed:
        left, width = scale.at(at / 1e3), round(100 * spent / 1e3 / scale.end_s, 3)
        yield f'<rect x="{left}%" y="18" height="12" style="width:max({width}%, 4px)"/>'
    for left, numbers in labels((scale.at(at / 1e3), number) for number, at, _ in placed):
        anchor = ' text-anchor="end"' if left > 95 else ""
        yield f'<text class="tick" x="{left}%" y="12"{anchor}>{", ".join(map(str, numbers))}</text>'
    yield "</svg>"


def labels(placed: Iterable[tuple[float, int]]) -> list[tuple[float, list[int]]]:
    """The numbers, those that are too near to each other at one place."""
    found: list[tuple[float, list[int]]] = []
    for left, number in sorted(placed):
        if found and left - found[-1][0] < NEAR:
            found[-1][1].append(number)
        else:
            found.append((left, [number]))
    return found
