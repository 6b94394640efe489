"""`--server-metrics`: what the server itself says of its load while a level is measured.

It is read once a second, in a thread and over a connection of its own, and worked out after the
level: while streams run, only the few lines that are needed are taken out of each answer. A
/metrics that is missing, slow or too large ends the reading, never the level.
"""

from __future__ import annotations

import contextlib
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from livecheck.core.run import Run
from livecheck.core.screen import WIDTH
from livecheck.core.settings import check_url
from livecheck.core.text import figure, shorten
from livecheck.load import table
from livecheck.wire import engine_metrics, metrics
from livecheck.wire.answer import Answer
from livecheck.wire.asking import open_wire
from livecheck.wire.connection import Target
from livecheck.wire.engine_metrics import GAUGES, Reading
from livecheck.wire.wire import Request, Wire

AUTO, PATH = "auto", "/metrics"
HELP = f"the server's own figures beside ours: URL of its /metrics, or {AUTO}"
EVERY_S, FIRST_S = 1.0, 0.5  # between two readings of a level; until the first one
READ_S = 2.0  # for one reading: a platform's scrape has 10 s, but the level's end waits for it
SETTLE_S = 0.2  # after a level: some servers count a request when its answer is over
MOST_BYTES = 256 << 10  # of a /metrics; a vLLM with one model has 60 KB
MOST_FAILED = 3  # readings in a row; then the rest of the level is not read
MOST_KEPT = 7200  # readings of a level, two hours; of a longer one every second, fourth … is kept
NONE_WITHIN = "no reading fell into the level: it is too short, or the server was too slow"
FALLEN = (
    "a counter fell while the level ran: the server was restarted, or several servers answer at "
    "this URL in turn. So its counters and its TTFT are unknown"
)
DIGITS = 5  # of a summary: of a cache it is a share
ACCEPT = {"accept": "text/plain; version=0.0.4"}


def option(text: str) -> str:
    """The value of --server-metrics. ValueError says what is wrong with it."""
    if text == AUTO:
        return text
    url = check_url(text)
    return url if urlsplit(url).path else url + PATH


def add_option(add: Callable[..., Any], kind: Callable[..., Any]) -> None:
    """`kind` makes a type of an option of a function."""
    add("--server-metrics", type=kind(option), metavar=f"URL|{AUTO}", help=HELP)


# --- measure


@dataclass(frozen=True)
class Source:
    """Where the metrics are, and whose they are."""

    url: str
    target: Target
    engine: str

    @property
    def request(self) -> Request:
        return Request("GET", urlsplit(self.url).path, headers=ACCEPT, is_raw=True)


@dataclass
class Watched:
    """What was read of one level: (time, the lines that are needed).

    `has_begin`: the first of them was read before the first request. `has_end`: the last of them
    was read after the last answer. `problem`: why nothing more was read, in a few words.
    """

    source: Source
    readings: list[tuple[int, bytes]]
    has_begin: bool = False
    has_end: bool = False
    failed: int = 0
    problem: str | None = None


def find_source(run: Run, targets: Sequence[Target]) -> Source | None:
    """Where metrics that are known can be read, by --server-metrics; None, and a note, when they
    cannot. `targets`: the likeliest one first. Only the own origin of a target is shown its
    credential."""
    wanted: str | None = run.args.server_metrics
    if wanted is None:
        return None
    urls = [wanted] if wanted != AUTO else [root_of(each) + PATH for each in targets]
    problems: list[str] = []
    found: list[Source] = []
    for url in dict.fromkeys(urls):
        token = next((t.token for t in targets if origin(t.url) == origin(url)), None)
        source = try_source(run, url, token)
        if isinstance(source, Source):
            found.append(source)
        else:
            problems.append(f"{shorten(url, 80)}: {source}")
    found.sort(key=lambda each: each.engine == engine_metrics.GATEWAY)
    if not found:
        run.note(f"server metrics: not available: {'; '.join(problems)}")
        return None
    run.note(f"server metrics: those of {found[0].engine} at {shorten(found[0].url, 80)}")
    return found[0]


def try_source(run: Run, url: str, token: str | None) -> Source | str:
    """The source, or why it is none."""
    limit_s = min(READ_S, run.args.timeout)
    with open_wire(run, token, limit_s, url="/".join(url.split("/")[:3])) as wire:
        source = Source(url, wire.target, "")
        answer = Answer(wire.exchange([source.request])[0])
    if not answer.is_ok:
        return shorten(answer.outcome(), 120)
    if len(answer.body) > MOST_BYTES:
        size = f"{len(answer.body) >> 10} KB are too many to read each second"
        return f"{size}, at most {MOST_BYTES >> 10} KB"
    reading = engine_metrics.read(engine_metrics.needed(answer.body))
    if reading is None:
        return "no metrics of vLLM, llama.cpp or the guide's gateway"
    return Source(url, wire.target, reading.engine)


def origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def root_of(target: Target) -> str:
    return (target.address.root if target.address else target.url).rstrip("/")


class Watch(threading.Thread):
    """Reads from `begin` to `end`, beside the requests of a level."""

    def __init__(self, source: Source, timeout_s: float):
        super().__init__(name="server-metrics", daemon=True)  # Ctrl-C does not wait for it
        self.watched = Watched(source, [])
        self._wire = Wire(source.target, min(READ_S, timeout_s))
        self._ended = threading.Event()
        self._step, self._count, self._failed_in_a_row = 1, 0, 0
        self._is_silent = False  # whether the latest reading took all its time, in vain

    def begin(self) -> None:
        """Read once, before the first request of the level is sent."""
        self.watched.has_begin = self._try_to_read()
        if self._is_silent:  # every further reading would cost as much time again
            self._give_up(TimeoutError(f"no answer in {self._wire.timeout_s:g} s"))
        if self.watched.problem:
            return
        try:
            self.start()
        except RuntimeError as error:  # the system gives no more threads
            self._give_up(error)

    def run(self) -> None:
        due_s = time.monotonic() + FIRST_S
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            self._try_to_read()
            if self.watched.problem:
                return
            while due_s <= time.monotonic():
                due_s += EVERY_S

    def end(self, is_interrupted: bool) -> Watched:
        """Read once more, unless there is no time for it."""
        self._ended.set()
        if self.ident is not None:
            self.join(0.1 if is_interrupted else self._wire.timeout_s + 1.0)
        if is_interrupted or self.is_alive():
            return self.watched
        if self._is_silent:
            self._give_up(TimeoutError(f"no answer in {self._wire.timeout_s:g} s"))
        if not self.watched.problem:
            time.sleep(SETTLE_S)
            self.watched.has_end = self._try_to_read(is_last=True)
        self._wire.close_idle()
        return self.watched

    def _try_to_read(self, is_last: bool = False) -> bool:
        """Whether there is one more reading. Whatever goes wrong here ends the reading alone: the
        level has nothing to do with it."""
        before, begun_s = len(self.watched.readings), time.monotonic()
        try:
            self._read(is_last)
        except Exception as error:
            self._give_up(error)
        is_read = len(self.watched.readings) > before
        self._is_silent = not is_read and time.monotonic() - begun_s >= self._wire.timeout_s
        return is_read

    def _give_up(self, error: Exception) -> None:
        why = shorten(str(error), 120) or type(error).__name__
        self.watched.problem = self.watched.problem or f"not read to the end: {why}"

    def _read(self, is_last: bool = False) -> None:
        (reply,) = self._wire.exchange([self.watched.source.request])
        self._wire.replies = []
        answer, watched = Answer(reply), self.watched
        lines = b""
        if answer.is_ok and len(answer.body) <= MOST_BYTES:
            lines = engine_metrics.needed(answer.body)
        if not lines:
            watched.failed += 1
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= MOST_FAILED and not watched.problem:
                why = "too large" if answer.is_ok else shorten(answer.outcome(), 120)
                watched.problem = f"not read to the end: {MOST_FAILED} times in a row {why}"
            return
        self._failed_in_a_row = 0
        self._count += 1
        if not is_last and self._count % self._step and self._count > 1:
            return
        read_ns = reply.first_byte_ns or reply.end_ns or time.perf_counter_ns()
        watched.readings.append((read_ns, lines))
        if len(watched.readings) > MOST_KEPT and not is_last:
            del watched.readings[1::2]
            self._step *= 2


@contextlib.contextmanager
def watching(
    source: Source | None, timeout_s: float, keep: Callable[[Watched], None]
) -> Iterator[None]:
    """Read beside what is done inside; `keep` gets what was read."""
    if source is None:
        yield
        return
    watch = Watch(source, timeout_s)
    is_whole = False
    try:
        watch.begin()
        yield
        is_whole = True
    finally:
        keep(watch.end(is_interrupted=not is_whole))


# --- figures


def server_figures(watched: Watched, start_ns: int) -> dict[str, Any]:
    """The server's figures of a level that began at `start_ns`. Differences are those between the
    readings before its first request and after its last answer: None where one of both is missing,
    or where a counter fell in between. The summaries are of the others."""
    found = [(at_ns, engine_metrics.read(lines)) for at_ns, lines in watched.readings]
    readings = [(at_ns, reading) for at_ns, reading in found if reading is not None]
    end_ns = found[-1][0] if watched.has_end and found else None
    within = [each for each in readings if each[0] > start_ns and each[0] != end_ns]
    first = found[0][1] if watched.has_begin and found else None
    last = found[-1][1] if watched.has_end and found else None
    problem = watched.problem or missing_words(first, last)
    if engine_metrics.has_fallen([reading for _, reading in readings]):
        first = last = None
        problem = watched.problem or FALLEN
    return {
        "url": watched.source.url,
        "engine": watched.source.engine,
        "problem": problem,
        "readings": len(watched.readings),
        "failed_readings": watched.failed + len(found) - len(readings),
        **{name: metrics.summary(values_of(within, name), DIGITS) for name in GAUGES},
        **growths(first, last),
        "ttft_ms": ttft_figures(first, last),
        "samples": {
            "at_s": [round((at_ns - start_ns) / 1e9, 3) for at_ns, _ in within],
            **{name: columns(within, name) for name in (*GAUGES, engine_metrics.PREEMPTIONS)},
        },
    }


def missing_words(first: Reading | None, last: Reading | None) -> str | None:
    """Why there are no differences, in a level in which the reading did not end early."""
    if first and last:
        return None
    when = "before the first request" if first is None else "after the last answer"
    return f"not read {when}, so that its counters and its TTFT are unknown"


def of_level(watched: Watched | None, start_ns: int) -> dict[str, Any]:
    """What a level's metrics have of it, if it was read."""
    return {"server_metrics": server_figures(watched, start_ns)} if watched else {}


Readings = Sequence[tuple[int, Reading]]


def values_of(readings: Readings, name: str) -> list[float]:
    return [reading.figures[name] for _, reading in readings if name in reading.figures]


def columns(readings: Readings, name: str) -> list[float | None]:
    """The figure in each reading; an empty list for one that the server does not have."""
    values = [reading.figures.get(name) for _, reading in readings]
    return values if any(value is not None for value in values) else []


def growths(first: Reading | None, last: Reading | None) -> dict[str, float | None]:
    """By how much the counters have grown; None for one that is not there."""
    found: dict[str, float | None] = {}
    for name in engine_metrics.COUNTERS:
        before, after = (each.figures.get(name) if each else None for each in (first, last))
        is_known = before is not None and after is not None and after >= before
        found[name] = (after or 0) - (before or 0) if is_known else None
    drafted, accepted = (found[name] for name in (engine_metrics.DRAFTED, engine_metrics.ACCEPTED))
    is_told = drafted and accepted is not None and accepted <= drafted
    found["acceptance_rate"] = round((accepted or 0) / drafted, 4) if is_told and drafted else None
    return found


def ttft_figures(first: Reading | None, last: Reading | None) -> dict[str, Any] | None:
    """The server's own TTFT in ms between two readings; None without a histogram, or when nothing
    was counted. `p50` is interpolated between the bounds of its bucket, `p50_low` and `p50_high`;
    None where that bucket has no end."""
    if not (first and last and first.ttft and last.ttft):
        return None
    found = engine_metrics.grown(first.ttft, last.ttft)
    if found is None or not found.count:
        return None
    value, low, high = (in_ms(each) for each in engine_metrics.quantile(found, 0.5))
    mean = in_ms(found.total_s / found.count) if found.total_s >= 0 else None
    return {"n": round(found.count), "mean": mean, "p50": value, "p50_low": low, "p50_high": high}


def in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 3)


# --- show


def server_lines(metrics_of: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The server's own figures among these, beside ours of the same requests."""
    found = metrics_of.get("server_metrics")
    if not found:
        return []
    share = {name: scaled(value, name) for name, value in found[engine_metrics.CACHE].items()}
    rows = [
        *table.optional_row("running requests", found[engine_metrics.RUNNING]),
        *table.optional_row("waiting requests", found[engine_metrics.WAITING]),
        *table.optional_row("cache in use [%]", share),
    ]
    entries = {
        "its own TTFT": ttft_words(found["ttft_ms"], ours["ttft_ms"]),
        "preemptions": "" if not found["preemptions"] else f"{found['preemptions']:g}",
        "draft accepted": accepted_words(found),
        "note": found["problem"] or ("" if found["samples"]["at_s"] else NONE_WITHIN),
    }
    count = f"{found['readings']} readings"
    head = f"The server's own figures, of {found['engine']} at {shorten(found['url'], 60)}: {count}"
    lines = textwrap.wrap(head, WIDTH, subsequent_indent="  ")
    lines += [table.header(), *rows] if rows else []
    return lines + [line for k, text in entries.items() if text for line in table.entry(k, text)]


def scaled(value: float | None, name: str) -> float | None:
    return value if value is None or name == "n" else 100 * value


def ttft_words(own: Mapping[str, Any] | None, ours: Mapping[str, Any]) -> str:
    """`mean 85.2 ms, p50 about 90 ms (in a bucket from 80 to 100 ms), of 24 requests; ours: …`."""
    if own is None:
        return ""
    value = f"p50 over {figure(own['p50_low'])} ms"
    if own["p50"] is not None:
        bucket = f"{figure(own['p50_low'])} to {figure(own['p50_high'])} ms"
        value = f"p50 about {figure(own['p50'])} ms (in a bucket from {bucket})"
    told = f"mean {figure(own['mean'])} ms, {value}, of {own['n']} requests; ours: mean "
    told += f"{figure(ours['mean'])} ms, p50 {figure(ours['p50'])} ms, of {ours['n']}"
    return f"{told}. Only ours has the queue of a gateway and the network in it"


def accepted_words(found: Mapping[str, Any]) -> str:
    if found["acceptance_rate"] is None:
        return ""
    return f"{100 * found['acceptance_rate']:.1f} % of {found['draft_tokens']:,.0f} draft tokens"
