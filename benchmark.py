#!/usr/bin/env python3
"""How fast is the deployment, and does every request succeed?

Measures the gateway's overhead (/ping, /health) and streamed chat completions at one or several
concurrency levels. Times are taken at the wire, tokens are the server's own count, and prefill is
measured, not the prompt cache: every prompt starts with a line of its own.

PASS: every probe and request succeeded and every --slo was kept.
Cost: --requests probes of each endpoint (at least 50 beside a level), and for each level --requests
answers of up to --max-tokens, after a warm-up answer for each slot. It wakes a sleeping worker.

Examples:
    # the proxy alone, without touching the model
    python3 benchmark.py --url https://host:8000 --gateway-only --requests 50
    # the baseline for a release: one user, then four and eight at once
    python3 benchmark.py --url https://host:8000 --api-key sk-key --concurrency 1 4 8
    # a gate: exit 1 if half of the first tokens take longer than half a second
    python3 benchmark.py --url https://host:8000 --slo ttft_p50=500ms --slo error_rate=0
    # the same document that is saved, for jq
    python3 benchmark.py --url https://host:8000 --output json > results/inference_c1.json
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import chat
import common
import metrics
import sse
import tables
import wire
from common import CannotCheck, Check, Document, Run, Status
from records import (
    is_ok,
    is_rate_limit,
    make_records,
    ms,
    outcome,
    read_streams,
    timed_out,
)

CHECKS = ("ping", "health", "requests", "stream", "tokens", "client", "slo")
PROBED = {"/ping": "ping", "/health": "health"}  # path -> its check and the name of its figures
LEAST_PROBES = 50  # beside a level: fewer would replace the guide's 50 by a poorer figure
CLIENT_SHARE = 0.05  # of the median ITL or TTFT: a client that late is part of the figures
MERGED_SHARE = 0.01  # of the events: fewer cannot move a p99
SILENT_AT_LEAST = 2  # time-outs in a row, and no fewer than slots: it will not answer any more


def build_parser() -> common.Parser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("what to measure").add_argument
    number, count = common.whole_number(1), common.whole_number(0)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    add("--prompt", default="Write a short poem about the sea", help="what to ask (%(default)s)")
    tokens = "longest answer (default %(default)s)"
    add("--max-tokens", type=number, default=128, metavar="N", help=tokens)
    levels = "requests in flight, one or several levels (default 1)"
    add("--concurrency", type=number, nargs="+", default=[1], metavar="N", help=levels)
    requests = "for each level, at least one a slot; or probes (default %(default)s)"
    add("--requests", type=number, default=10, metavar="N", help=requests)
    warmup = "before each level, at least one a slot; 0 is 0 (default %(default)s)"
    add("--warmup", type=count, default=1, metavar="N", help=warmup)
    add("--same-prompt", action="store_true", help="let the prompt cache work: no unique line")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--gateway-only", action="store_true", help="only /ping and /health")
    part.add_argument("--inference-only", action="store_true", help="only chat completions")
    bound = "a bound to keep, as ttft_p50=500ms (repeatable)"
    add("--slo", type=objective, action="append", default=[], metavar="NAME=VALUE", help=bound)
    return parser


def objective(text: str) -> metrics.Objective:
    try:
        return metrics.parse_objective(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# --- measure


class Stop(Enum):
    """Why nothing more is sent."""

    RATE_LIMIT = "the key's rate limit"
    CREDENTIAL = "the credential is refused"
    USAGE = "stream_options is refused"
    SILENT = "nothing answered within the timeout"
    FLOOD = "the server does not stop sending"


@dataclass(frozen=True)
class Parts:
    """What this run measures, after all options that have a say in it."""

    probes: list[str]  # paths
    levels: list[int]


@dataclass
class Session:
    """A run in progress: how to ask, and what was found out about the deployment."""

    run: Run
    instrument: wire.Wire
    met: dict[str, wire.Reply]  # the first answer of each path
    model: str
    edge: str | None  # why the network cannot be told from the gateway
    usage: bool = True  # ask for it with stream_options
    stopped: Stop | None = None


@dataclass
class Level:
    """One concurrency level as it was measured."""

    concurrency: int
    planned: int
    warmup: list[wire.Reply] = field(default_factory=list)
    replies: list[wire.Reply] = field(default_factory=list)
    stopped: Stop | None = None
    answered: int = 0  # with 200 and to the end, warm-up included
    silent: int = 0  # time-outs in a row

    @property
    def limited(self) -> wire.Reply | None:
        """The answer of the key's rate limiter, if it spoke."""
        return next((r for r in self.warmup + self.replies if is_rate_limit(r)), None)


def meet(run: Run, instrument: wire.Wire, parts: Parts) -> Session:
    """One request to each endpoint, all at once: a server that hangs costs one timeout."""
    paths = [*parts.probes, *([chat.MODELS] if parts.levels else [])]
    met = chat.meet(run, instrument, paths)
    model = run.args.model or chat.first_model(met.get(chat.MODELS)) or chat.UNKNOWN_MODEL
    replies = list(met.values())
    return Session(run, instrument, met, model, edge(run.url, replies), stopped=hopeless(replies))


def edge(url: str, replies: Sequence[wire.Reply]) -> str | None:
    """Signs that the TCP handshake ended at something in front of the gateway."""
    if wire.Target(url).proxy:
        return "a proxy is in between"
    if (wire.Target(url).host).endswith(".proxy.runpod.net"):
        return "RunPod's proxy answers the handshake"
    for reply in replies:
        for name in chat.EDGES:
            if reply.message.header(name):
                return f"an edge answers the handshake ({name} header)"
    return None


def probe(session: Session, path: str) -> list[wire.Reply]:
    """Ask for `path` again and again, one at a time, each over a connection of its own."""
    args, instrument = session.run.args, session.instrument
    count = args.requests if args.gateway_only else max(args.requests, LEAST_PROBES)
    request = wire.Request("GET", path)
    instrument.exchange([request] * args.warmup, keep=False, on_reply=is_costly)
    instrument.replies = []
    with session.run.progress(f"{path}: {count} probes", count) as step:

        def on_reply(reply: wire.Reply) -> bool:
            step()
            chat.show(session.run, reply)
            return is_costly(reply)

        return instrument.exchange([request] * count, keep=False, on_reply=on_reply)


def is_costly(reply: wire.Reply) -> bool:
    """Whether the server hangs or floods: once is enough of that."""
    return reply.failure is not None and reply.failure.kind in ("timeout", "flood")


def chat_request(session: Session) -> wire.Request:
    """A streamed chat completion. Its first line is unique, so no prompt cache can know it."""
    args = session.run.args
    prompt = args.prompt if args.same_prompt else chat.unique(args.prompt)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if session.usage else {}
    return chat.completion(session.model, prompt, args.max_tokens, **more)


def measure_level(session: Session, level: Level) -> None:
    """Warm up, then send the level's requests; once more if the server refuses stream_options."""
    warmups = max(session.run.args.warmup, level.concurrency) if session.run.args.warmup else 0
    while True:
        level.stopped = None
        send(session, level, level.warmup, warmups, "warm-up")
        if level.stopped is None:
            level.stopped = hopeless(level.warmup)
        if level.stopped is None:
            send(session, level, level.replies, level.planned, "requests")
        if level.stopped is not Stop.USAGE:
            return
        session.usage = False


def send(session: Session, level: Level, replies: list[wire.Reply], count: int, label: str) -> None:
    """`count` requests in a closed loop; `replies` gets what was begun, whatever happens."""
    requests = [chat_request(session) for _ in range(count)]
    title = f"concurrency {level.concurrency}: {count} {label}"
    with session.run.progress(title, count) as step:

        def on_reply(reply: wire.Reply) -> bool:
            step()
            chat.show(session.run, reply)
            level.answered += is_ok(reply)
            level.silent = level.silent + 1 if timed_out(reply) else 0
            level.stopped = level.stopped or reason_to_stop(level, reply, session.usage)
            return level.stopped is not None

        try:
            session.instrument.exchange(requests, level.concurrency, on_reply)
        finally:
            replies[:] = session.instrument.replies


def reason_to_stop(level: Level, reply: wire.Reply, usage: bool) -> Stop | None:
    """Why no further request should be sent after this answer."""
    if is_rate_limit(reply):
        return Stop.RATE_LIMIT
    if level.silent >= max(level.concurrency, SILENT_AT_LEAST):
        return Stop.SILENT
    if level.answered:
        return None
    if reply.status == 401:
        return Stop.CREDENTIAL
    if usage and reply.status in (400, 422):
        return Stop.USAGE
    return hopeless([reply])


def hopeless(replies: Sequence[wire.Reply]) -> Stop | None:
    """Why more requests would only cost more of the operator's time."""
    if replies and all(timed_out(reply) for reply in replies):
        return Stop.SILENT
    if replies and all(is_costly(reply) for reply in replies):
        return Stop.FLOOD
    return None


# --- metrics


def gateway_metrics(probes: dict[str, list[wire.Reply]], edge: str | None) -> dict[str, Any]:
    """Overhead in ms: each endpoint raw (t0 to first byte) and net of one network round trip.

    The round trip is that of the very connection's TCP handshake; a gateway cannot be faster
    than 0. Probes that failed are in none of it.
    """
    figures: dict[str, Any] = {"net_not_separable": edge}
    shakes: list[wire.Handshake] = []
    for path, replies in probes.items():
        good = [reply for reply in replies if is_ok(reply)]
        raw = [(first_byte(reply), round_trip(reply)) for reply in good]
        net = [ms(max(0, spent - trip)) for spent, trip in raw if trip is not None]
        figures[f"{PROBED[path]}_ms"] = metrics.summary([ms(spent) for spent, _ in raw])
        figures[f"{PROBED[path]}_net_ms"] = metrics.summary([] if edge else net)
        shakes += [reply.handshake for reply in good if reply.handshake]
    figures["connect_ms"] = metrics.summary([ms(shake.connect_ns) for shake in shakes])
    figures["tls_ms"] = metrics.summary([ms(s.tls_ns) for s in shakes if s.tls_ns is not None])
    trips = [ms(shake.rtt_ns) for shake in shakes if shake.rtt_ns is not None]
    figures["round_trip_ms"] = metrics.summary(trips)
    return figures


def first_byte(reply: wire.Reply) -> int:
    return (reply.first_byte_ns or 0) - (reply.t0_ns or 0)


def round_trip(reply: wire.Reply) -> int | None:
    return reply.handshake.rtt_ns if reply.handshake else None


def probe_record(reply: wire.Reply) -> dict[str, Any]:
    answered = reply.status is not None and reply.t0_ns is not None
    shake = reply.handshake
    return {
        "path": reply.request.path,
        "status": reply.status,
        "error": reply.failure.text if reply.failure else None,
        "ttfb_ms": ms(first_byte(reply)) if answered else None,
        "connect_ms": ms(shake.connect_ns) if shake else None,
        "tls_ms": ms(shake.tls_ns) if shake and shake.tls_ns is not None else None,
        "round_trip_ms": ms(shake.rtt_ns) if shake and shake.rtt_ns is not None else None,
    }


def client_metrics(
    replies: Sequence[wire.Reply],
    streams: Sequence[sse.Stream],
    clock: str,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """How late this program was, and whether so late that the figures are about itself.

    With kernel stamps a late read falsifies nothing, as long as it does not merge two events;
    a late send is no part of any gap between events.
    """
    lags = [ms(lag) for reply in replies for lag in reply.lag_ns]
    late = [ms(reply.late_ns) for reply in replies if reply.late_ns is not None]
    pairs = zip(replies, streams, strict=True)
    merged = [ms(lag) for reply, stream in pairs for lag in merged_lags(reply, stream)]
    events = sum(len(stream.output_ns) for stream in streams)
    harmful = lags
    if clock != wire.USER_CLOCK:
        harmful = merged if len(merged) > MERGED_SHARE * events else []
    # a median gap of 0 is what merging leaves; TPOT is what the gaps would be without
    ttft, gap = figures["ttft_ms"]["p50"], figures["itl_ms"]["p50"] or figures["tpot_ms"]["p50"]
    bound = exceeds(harmful, gap) or exceeds(harmful, ttft) or exceeds(late, ttft)
    return {
        "clock": clock,
        "lag_ms": metrics.summary(lags),
        "send_lag_ms": metrics.summary(late),
        "merged_reads": len(merged),
        "client_bound": bound,
    }


def exceeds(lags_ms: Sequence[float], median_ms: float | None) -> bool:
    """Whether lags like these are a noticeable part of a figure with this median."""
    if not lags_ms or median_ms is None:
        return False
    return metrics.percentile(lags_ms, 99) > CLIENT_SHARE * median_ms


def merged_lags(reply: wire.Reply, stream: sse.Stream) -> list[int]:
    """The lags of the reads that brought more than one output event, in ns."""
    events = Counter(stream.output_ns)  # events of one read share its stamp
    lags = dict(zip(reply.stamps_ns, reply.lag_ns, strict=True))
    return [lags[stamp] for stamp, count in events.items() if count > 1]


# --- judge


def check_probes(path: str, replies: Sequence[wire.Reply], figures: dict[str, Any]) -> Check:
    """Every probe answered 200."""
    name = PROBED[path]
    failed = [reply for reply in replies if not is_ok(reply)]
    figure = {key: figures[f"{name}{key}"]["p99"] for key in ("_ms", "_net_ms")}
    evidence = {"probes": len(replies), "failed": len(failed)}
    evidence |= {"p99_ms": figure["_ms"], "p99_net_ms": figure["_net_ms"]}
    if replies and all(reply.status == 404 for reply in replies):
        return Check(name, Status.SKIP, f"404: no such endpoint here ({path})", evidence)
    if failed:
        said = counted_words(outcome(reply, timed=False) for reply in failed)
        detail = f"{len(failed)} of {len(replies)} probes failed: {said}"
        return Check(name, Status.FAIL, detail, evidence)
    detail = f"{len(replies)} of {len(replies)} answered 200, p99 {figure['_ms']:.2f} ms"
    if figure["_net_ms"] is not None:
        detail += f", net of the network {figure['_net_ms']:.2f} ms"
    return Check(name, Status.PASS, detail, evidence)


def check_requests(level: Level, records: Sequence[dict[str, Any]], allowed: float) -> Check:
    """Every request of the level succeeded, but for the share that --slo error_rate allows."""
    counted = [record for record in records if not record["excluded"]]
    failed = [record for record in counted if record["error"]]
    evidence = {"planned": level.planned, "sent": len(records), "failed": len(failed)}
    share = len(failed) / len(counted) if counted else 0.0
    status, detail = verdict(level, counted, failed, share, allowed)
    return Check("requests", status, detail, evidence, essential=status is Status.SKIP)


def verdict(
    level: Level,
    counted: Sequence[dict[str, Any]],
    failed: Sequence[dict[str, Any]],
    share: float,
    allowed: float,
) -> tuple[Status, str]:
    """What the requests of a level come to, and the words for it."""
    limited = level.stopped is Stop.RATE_LIMIT
    if not counted and not limited:
        return Status.FAIL, f"no request was answered: {warmup_words(level)}"
    if failed and (share > allowed or share == 1):
        told = f"{len(failed)} of {len(counted)} failed: {error_words(failed)}"
        return Status.FAIL, told + (f"; stopped: {level.stopped.value}" if level.stopped else "")
    if limited:
        return Status.SKIP, limit_words(level, len(counted))
    if failed:
        told = f"{len(failed)} of {len(counted)} failed, within the {allowed:.2%} allowed"
        return Status.WARN, f"{told}: {error_words(failed)}"
    detail = f"{len(counted)} of {level.planned} succeeded"
    if not all(is_ok(reply) for reply in level.warmup):
        return Status.WARN, f"{detail}, but {warmup_words(level)}"
    return Status.PASS, detail


def limit_words(level: Level, counted: int) -> str:
    if not level.limited:
        return f"not run: {Stop.RATE_LIMIT.value} was reached before"
    wait = level.limited.message.header("retry-after")
    return (
        f"stopped by {Stop.RATE_LIMIT.value} after {counted} of {level.planned} requests (429 "
        f"rate_limit_exceeded, Retry-After {wait}): wait, or raise it for this key"
    )


def error_words(failed: Sequence[dict[str, Any]]) -> str:
    """Each kind of error once, with its count and the first words for it."""
    counts = Counter(record["error"] for record in failed)
    texts = {record["error"]: record["error_text"] for record in reversed(failed)}
    return "; ".join(f"{kind} x{count} ({texts[kind]})" for kind, count in counts.most_common())


def warmup_words(level: Level) -> str:
    """What went wrong before the level's own requests."""
    failed = [reply for reply in level.warmup if not is_ok(reply)]
    if failed:
        said = counted_words(outcome(reply, timed=False) for reply in failed)
        return f"{len(failed)} of {len(level.warmup)} warm-up requests failed: {said}"
    return level.stopped.value if level.stopped else "nothing was sent"


def counted_words(texts: Iterable[str]) -> str:
    """The most frequent of these texts, each once with its count."""
    return "; ".join(f"{text} (x{count})" for text, count in Counter(texts).most_common(3))


def succeeded(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["error"] is None]


def check_stream(records: Sequence[dict[str, Any]]) -> Check | None:
    """The streams that gave an answer were well-formed, too."""
    good = succeeded(records)
    if not good:
        return None
    complaints = [text for record in good for text in record["complaints"]]
    evidence = {"streams": len(good), "complaints": len(complaints)}
    if complaints:
        return Check("stream", Status.WARN, counted_words(complaints), evidence)
    detail = f"{len(good)} well-formed, each with its [DONE]"
    return Check("stream", Status.PASS, detail, evidence)


def check_tokens(usage: bool, records: Sequence[dict[str, Any]]) -> Check | None:
    """The token count can be trusted: its sources agree."""
    good = succeeded(records)
    if not good:
        return None
    sources = Counter(record["token_source"] for record in good)
    named = " and ".join(name for name, _ in sources.most_common())
    if not usage:
        named += " (the server refuses stream_options)"
    total = int(sum(record["output_tokens"] for record in good))
    evidence = {"output_tokens": total, "sources": dict(sources)}
    if problems := token_problems(good):
        return Check("tokens", Status.WARN, f"from {named}; {'; '.join(problems)}", evidence)
    return Check("tokens", Status.PASS, f"{total} output tokens, from {named}", evidence)


def token_problems(good: Sequence[dict[str, Any]]) -> list[str]:
    """What makes the count doubtful, each with an example."""
    problems = []
    if differing := [record for record in good if counts_differ(record)]:
        first = differing[0]
        problems.append(
            f"usage and timings disagree in {len(differing)}, as {first['output_tokens']} and "
            f"{first['server_predicted_tokens']} tokens"
        )
    if many := [r for r in good if r["output_events"] > r["output_tokens"]]:
        problems.append(
            f"more events than tokens in {len(many)}, as {many[0]['output_events']} events for "
            f"{many[0]['output_tokens']} tokens"
        )
    if uncounted := sum(record["token_source"] == "events" for record in good):
        problems.append(f"the server gives no count: events were counted in {uncounted}")
    return problems


def counts_differ(record: dict[str, Any]) -> bool:
    other = record["server_predicted_tokens"]
    return other is not None and other != record["output_tokens"]


def check_client(figures: dict[str, Any]) -> Check | None:
    """This program kept up with the server."""
    client, lag = figures["client"], figures["client"]["lag_ms"]["p99"]
    if not figures["succeeded"]:
        return None
    evidence = {"lag_p99_ms": lag, "merged_reads": client["merged_reads"]}
    detail = f"lag p99 {lag:.2f} ms, {client['merged_reads']} reads merged events"
    if (late := client["send_lag_ms"]["p99"]) is not None:
        evidence["send_lag_p99_ms"] = late
        detail += f", send lag p99 {late:.2f} ms"
    if client["client_bound"]:
        detail = f"client-bound: {detail}; use a faster or idler client"
        return Check("client", Status.WARN, detail, evidence)
    return Check("client", Status.PASS, detail, evidence)


def check_objective(
    wanted: metrics.Objective,
    figures: dict[str, Any],
    records: Sequence[dict[str, Any]] = (),
    limited: bool = False,
) -> Check:
    """One --slo; missed as well when it is on something that was not measured.

    Unless it was the key's rate limit that left nothing to measure: that is undecided.
    """
    bound = f"{'at most' if wanted.upper else 'at least'} {wanted.limit:g} {wanted.unit}".strip()
    value = kept_share(wanted, records) if wanted.per_request else wanted.value(figures)
    evidence = {"value": value, "limit": wanted.limit, "unit": wanted.unit or "share"}
    name = f"slo:{wanted.name}"
    if value is None:
        edge = (figures.get("gateway") or {}).get("net_not_separable")
        reason = f": not separable, {edge}" if "_net_" in wanted.name and edge else ""
        status = Status.SKIP if limited else Status.FAIL
        detail = f"not measured in this run{reason} (wanted {bound})"
        return Check(name, status, detail, evidence, essential=limited)
    if wanted.per_request:
        evidence["unit"] = "share of requests"
        status = Status.PASS if value == 1 else Status.FAIL
        return Check(name, status, f"{value:.1%} of the requests kept {bound}", evidence)
    status = Status.PASS if wanted.holds(value) else Status.FAIL
    detail = f"{value:g} {wanted.unit}".strip() + f", wanted {bound}"
    return Check(name, status, detail, evidence)


def kept_share(wanted: metrics.Objective, records: Sequence[dict[str, Any]]) -> float | None:
    """The share of successful requests that kept the bound; None without any."""
    good = succeeded(records)
    return sum(wanted.holds(r[wanted.key]) for r in good) / len(good) if good else None


# --- report


def gateway_lines(figures: dict[str, Any], counts: dict[str, int]) -> list[str]:
    each = ", ".join(f"{count} x {path}" for path, count in counts.items())
    lines = [f"Gateway overhead, each probe over its own connection: {each}", tables.header()]
    for path in counts:
        summary, net = (figures[f"{PROBED[path]}{key}"] for key in ("_ms", "_net_ms"))
        if not summary["n"]:
            lines.append(f"  {path}: no answer to measure")
            continue
        lines.append(tables.row(f"{path} [ms]", summary))
        lines += optional_row("  net of network", net)
    lines.append(tables.row("connect [ms]", figures["connect_ms"]))
    lines += optional_row("TLS [ms]", figures["tls_ms"])
    lines.append(tables.row("round trip [ms]", figures["round_trip_ms"]))
    if figures["net_not_separable"]:
        lines += tables.entry("net of network", f"not separable: {figures['net_not_separable']}")
    return lines + footnote(*(figures[f"{PROBED[path]}_ms"] for path in counts))


def optional_row(label: str, summary: dict[str, Any]) -> list[str]:
    return [tables.row(label, summary)] if summary["n"] else []


def footnote(*summaries: dict[str, Any]) -> list[str]:
    return [tables.NOTE] if any(tables.is_few(summary) for summary in summaries) else []


def level_lines(figures: dict[str, Any]) -> list[str]:
    """The block of a level: a table of summaries, then what is one figure or a word."""
    title = f"Inference at concurrency {figures['concurrency']}: {figures['succeeded']} of "
    return [
        f"{title}{figures['requests']} requests succeeded",
        tables.header(),
        tables.row("TTFT [ms]", figures["ttft_ms"]),
        tables.row("ITL [ms]", figures["itl_ms"]),
        tables.row("TPOT [ms]", figures["tpot_ms"]),
        tables.row("decode rate [tok/s]", figures["tokens_per_s"]),
        *optional_row("  the server's own", figures["server_tokens_per_s"]),
        tables.row("E2E latency [ms]", figures["e2e_ms"]),
        tables.row("output tokens", tables.whole(figures["output_tokens"])),
        tables.row("prompt tokens", tables.whole(figures["prompt_tokens"])),
        *optional_row("  of them cached", tables.whole(figures["cached_tokens"])),
        *optional_row("connect [ms]", figures["connect_ms"]),
        *optional_row("TLS [ms]", figures["tls_ms"]),
        *footnote(figures["ttft_ms"], figures["itl_ms"], figures["e2e_ms"]),
        *single_figures(figures),
    ]


def single_figures(figures: dict[str, Any]) -> list[str]:
    shown, share = tables.figure, figures["error_rate"]
    entries = {
        "output throughput": f"{shown(figures['output_tokens_per_s'])} tok/s",
        "request throughput": f"{shown(figures['requests_per_s'])} requests/s",
        "goodput": f"{shown(figures['goodput_per_s'])} requests/s",
        "error rate": ("-" if share is None else f"{share:.1%}") + errors_in(figures),
        "wall time": f"{shown(figures['wall_s'])} s",
        "load": f"{figures['load_model']}, {figures['concurrency']} in flight",
        "prompt": PROMPTS[figures["prompt"]],
        "tokens counted by": token_sources(figures["token_sources"]),
        "clock": figures["client"]["clock"],
    }
    if figures["goodput_per_s"] is None:
        del entries["goodput"]
    return [line for label, text in entries.items() for line in tables.entry(label, text)]


PROMPTS = {
    "same": "the same each time: the prompt cache may save the prefill",
    "unique": "unique each time: prefill is measured, not a cache",
}


def errors_in(figures: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} x{count}" for kind, count in figures["errors"].items())
    waits = ", ".join(f"{wait:g} s" for wait in figures["retry_after_s"])
    return (f" {kinds}" if kinds else "") + (f" (Retry-After {waits})" if waits else "")


def token_sources(sources: dict[str, int]) -> str:
    names = {"usage": "the server (usage)", "timings": "the server (timings)", "events": "events"}
    return ", ".join(names[source] for source in sorted(sources)) or "-"


# --- run


def gateway(session: Session, paths: Sequence[str], document: Document) -> list[Check]:
    """Measure, judge and report the gateway's overhead; fills its document."""
    probes: dict[str, list[wire.Reply]] = {path: [session.met[path]] for path in paths}
    try:
        for path, replies in probes.items():
            if not (is_costly(replies[0]) or replies[0].status == 404):
                session.instrument.replies = []
                try:
                    probe(session, path)
                finally:
                    probes[path] = session.instrument.replies
    finally:
        figures = gateway_metrics(probes, session.edge)
        document.metrics = {"gateway": figures}
        document.requests = [probe_record(r) for replies in probes.values() for r in replies]
    checks = [check_probes(path, replies, figures) for path, replies in probes.items()]
    document.add(*checks)
    if document.main:
        document.add(*(check_objective(each, document.metrics) for each in session.run.args.slo))
    lines = gateway_lines(figures, {path: len(each) for path, each in probes.items()})
    finish(session.run, document, lines, document.checks)
    return checks


def inference(session: Session, level: Level, document: Document, overhead: Any) -> None:
    """Measure, judge and report one level; fills its document."""
    run, level.stopped = session.run, session.stopped
    try:
        if level.stopped is None:
            measure_level(session, level)
    finally:
        session.stopped = level.stopped
        streams = read_streams(level.replies)
        document.requests = make_records(level.replies, streams)
        document.metrics = level_figures(session, level, document.requests)
        client = client_metrics(level.replies, streams, session.instrument.clock, document.metrics)
        document.metrics |= {"client": client, "gateway": overhead}
    if level.stopped is Stop.CREDENTIAL:
        raise CannotCheck(chat.refused_credential(run))
    checks = judge_level(session, level, document)
    document.add(*checks)
    finish(run, document, level_lines(document.metrics), checks)


def level_figures(
    session: Session, level: Level, records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    args = session.run.args
    failed = sum(not is_ok(reply) for reply in level.warmup)
    return {
        "concurrency": level.concurrency,
        "prompt": "same" if args.same_prompt else "unique",
        **metrics.level_metrics(records, args.slo),
        "warmup": {"requests": len(level.warmup), "failed": failed},
    }


def judge_level(session: Session, level: Level, document: Document) -> list[Check]:
    objectives, records = session.run.args.slo, document.requests
    allowed = min((each.limit for each in objectives if each.name == "error_rate"), default=0.0)
    limited = level.stopped is Stop.RATE_LIMIT
    found = [
        check_requests(level, records, allowed),
        check_stream(records),
        check_tokens(session.usage, records),
        check_client(document.metrics),
        *(check_objective(each, document.metrics, records, limited) for each in objectives),
    ]
    return [check for check in found if check]


def finish(run: Run, document: Document, lines: Sequence[str], checks: Sequence[Check]) -> None:
    """Show the figures, and of the document's checks those that are not on the screen yet."""
    for line in [*lines, ""]:
        run.say(line)
    for check in document.checks:
        if check in checks:
            run.say_check(check)
    run.say()
    document.finish()


def choose_parts(args: argparse.Namespace) -> Parts:
    """What --gateway-only, --inference-only, --only and --skip leave. ValueError: nothing."""
    probes = [path for path, check in PROBED.items() if common.wants(args, check)]
    streams = any(common.wants(args, name) for name in ("requests", "stream", "tokens", "client"))
    levels = list(dict.fromkeys(args.concurrency))
    parts = Parts(
        [] if args.inference_only else probes, levels if streams and not args.gateway_only else []
    )
    if not (parts.probes or parts.levels):
        raise ValueError("--only and --skip leave nothing to measure")
    return parts


def measure(run: Run, parts: Parts) -> None:
    args = run.args
    # begun before the first contact: should that fail, no older result is left to be believed
    before = run.document("gateway_overhead", main=not parts.levels) if parts.probes else None
    documents = [run.document(f"inference_c{level}") for level in parts.levels]
    try:
        wire.raise_descriptor_limit(max(parts.levels, default=1))
    except OSError as error:
        raise CannotCheck(str(error.strerror)) from None
    target = wire.Target(run.url, run.token(), verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        session = meet(run, instrument, parts)
        run.target["model"] = session.model if parts.levels else None
        checks = gateway(session, parts.probes, before) if before else []
        overhead = before.metrics["gateway"] if before else None
        for concurrency, document in zip(parts.levels, documents, strict=True):
            document.start()
            document.add(*checks)
            level = Level(concurrency, planned=max(args.requests, concurrency))
            inference(session, level, document, overhead)
            run.client["clock"] = instrument.clock


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.only and args.slo:
        args.only.append("slo")  # a bound that was given is meant
    try:
        parts = choose_parts(args)
    except ValueError as error:
        parser.error(str(error))
    with common.run(args) as run:
        measure(run, parts)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
