#!/usr/bin/env python3
"""How fast is the deployment, and does every request succeed?

Measures the gateway's overhead (/ping, /health) and streamed chat completions at one or several
concurrency levels. Times are taken at the wire, tokens are the server's own count, and prefill is
measured, not the prompt cache: every prompt starts with a line of its own.

PASS: every probe and request succeeded and every --slo was kept.
Cost: --requests probes of each endpoint (50 at the least), and for each level --requests answers
of up to --max-tokens, after one warm-up answer for each slot. It wakes a sleeping worker.

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
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import chat
import common
import metrics
import sse
import wire
from common import CannotCheck, Check, Document, Run, Status
from records import is_rate_limit, make_records, ms, outcome, read_streams, timed_out, words

CHECKS = ("ping", "health", "requests", "stream", "tokens", "client", "slo")
LEAST_PROBES = 50  # in a full run: fewer would replace the guide's 50 by a poorer figure
CLIENT_SHARE = 0.05  # of the median ITL or TTFT: a client that late is part of the figures
MERGED_SHARE = 0.01  # of the events: fewer cannot move a p99
RATE_LIMIT = "the key's rate limit"
FEW = 100  # samples; the p99 of fewer lies between the two slowest
EDGES = ("via", "cf-ray", "x-amz-cf-id", "x-served-by", "x-vercel-id", "fly-request-id")


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    at_least = common.whole_number
    add = parser.add_argument_group("what to measure").add_argument
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    add("--prompt", default="Write a short poem about the sea", help="what to ask (%(default)s)")
    add(
        "--max-tokens",
        type=at_least(1),
        default=128,
        metavar="N",
        help="longest answer (%(default)s)",
    )
    add(
        "--concurrency",
        type=at_least(1),
        nargs="+",
        default=[1],
        metavar="N",
        help="requests in flight, one or several levels (default 1)",
    )
    add(
        "--requests",
        type=at_least(1),
        default=10,
        metavar="N",
        help="a level (default %(default)s)",
    )
    add(
        "--warmup",
        type=at_least(0),
        default=1,
        metavar="N",
        help="requests before each level, at least one a slot; 0 is 0 (default %(default)s)",
    )
    add("--same-prompt", action="store_true", help="let the prompt cache work: no unique line")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--gateway-only", action="store_true", help="only /ping and /health")
    part.add_argument("--inference-only", action="store_true", help="only chat completions")
    add(
        "--slo",
        type=objective,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a bound to keep, as ttft_p50=500ms (repeatable)",
    )
    return parser


def objective(text: str) -> metrics.Objective:
    try:
        return metrics.parse_objective(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# --- measure


@dataclass(frozen=True)
class Parts:
    """What this run measures, after all options that have a say in it."""

    gateway: bool
    inference: bool


@dataclass
class Contact:
    """What the first requests of a run found out about the deployment."""

    replies: dict[str, wire.Reply]
    model: str
    edge: str | None  # why the network cannot be told from the gateway
    hopeless: str | None  # why nothing more should be sent


@dataclass
class Level:
    """One concurrency level as it was measured."""

    concurrency: int
    warmup: list[wire.Reply] = field(default_factory=list)
    replies: list[wire.Reply] = field(default_factory=list)
    usage_refused: str | None = None  # the server's words about stream_options
    stopped: str | None = None  # why not all requests were sent
    answered: int = 0  # with 200 and to the end, warm-up included

    @property
    def limited(self) -> wire.Reply | None:
        """The answer of the key's rate limiter, if it spoke."""
        return next((r for r in self.warmup + self.replies if is_rate_limit(r)), None)


def make_contact(run: Run, instrument: wire.Wire, parts: Parts) -> Contact:
    """One request to each endpoint, all at once: a server that hangs costs one timeout."""
    args = run.args
    paths = ["/ping", "/health"] if parts.gateway else []
    paths += ["/v1/models"] if parts.inference else []
    replies = chat.meet(run, instrument, paths)
    model = args.model or chat.first_model(replies.get("/v1/models")) or chat.UNKNOWN_MODEL
    found = list(replies.values())
    return Contact(replies, model, edge(run.url, found), hopeless(found))


def edge(url: str, replies: Sequence[wire.Reply]) -> str | None:
    """Signs that the TCP handshake ended at something in front of the gateway."""
    if wire.Target(url).proxy:
        return "a proxy is in between"
    if (wire.Target(url).host).endswith(".proxy.runpod.net"):
        return "RunPod's proxy answers the handshake"
    for reply in replies:
        for name in EDGES:
            if reply.message.header(name):
                return f"an edge answers the handshake ({name} header)"
    return None


def probe(run: Run, instrument: wire.Wire, path: str) -> list[wire.Reply]:
    """Ask for `path` again and again, one at a time, each over a connection of its own."""
    args = run.args
    count = args.requests if args.gateway_only else max(args.requests, LEAST_PROBES)
    request = wire.Request("GET", path)
    instrument.exchange([request] * args.warmup, keep=False, on_reply=costly)
    with run.progress(f"{path}: {count} probes", count) as step:

        def on_reply(reply: wire.Reply) -> bool:
            step()
            chat.show(run, reply)
            return costly(reply)

        return instrument.exchange([request] * count, keep=False, on_reply=on_reply)


def costly(reply: wire.Reply) -> bool:
    """Whether the server hangs or floods: once is enough of that."""
    return reply.failure is not None and reply.failure.kind in ("timeout", "flood")


def chat_request(args: argparse.Namespace, model: str, usage: bool) -> wire.Request:
    """A streamed chat completion. Its first line is unique, so no prompt cache can know it."""
    prompt = args.prompt if args.same_prompt else chat.unique(args.prompt)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    return chat.completion(model, prompt, args.max_tokens, **more)


def measure_level(run: Run, instrument: wire.Wire, model: str, level: Level) -> None:
    """Warm up, then send the level's requests. `level` holds what there is, whatever happens."""
    args = run.args
    warmups = max(args.warmup, level.concurrency) if args.warmup else 0
    usage = level.usage_refused is None
    try:
        level.stopped = send(run, instrument, level, warmups, model, usage, "warm-up")
    finally:
        level.warmup = instrument.replies
    if warmups and level.stopped is None:
        level.stopped = hopeless(level.warmup)
    try:
        if level.stopped is None:
            level.stopped = send(run, instrument, level, args.requests, model, usage, "requests")
            level.replies = instrument.replies
    except BaseException:
        level.replies = instrument.replies
        raise
    first = (level.warmup + level.replies)[0]
    if usage and first.status in (400, 422):
        level.usage_refused = words(first)
        level.stopped = None
        measure_level(run, instrument, model, level)


def send(
    run: Run,
    instrument: wire.Wire,
    level: Level,
    count: int,
    model: str,
    usage: bool,
    label: str,
) -> str | None:
    """`count` requests in a closed loop. Returns why it stopped early, or None."""
    requests = [chat_request(run.args, model, usage) for _ in range(count)]
    reason: str | None = None
    with run.progress(f"concurrency {level.concurrency}: {count} {label}", count) as step:

        def on_reply(reply: wire.Reply) -> bool:
            nonlocal reason
            step()
            chat.show(run, reply)
            level.answered += reply.status == 200 and reply.failure is None
            reason = reason or reason_to_stop(reply, level.answered, usage)
            return reason is not None

        instrument.exchange(requests, level.concurrency, on_reply)
    return reason


def reason_to_stop(reply: wire.Reply, answered: int, usage: bool) -> str | None:
    """Why no further request should be sent after this answer."""
    if is_rate_limit(reply):
        return RATE_LIMIT
    if answered:
        return None
    if reply.status == 401:
        return "credential refused"
    if usage and reply.status in (400, 422):
        return "stream_options refused"
    return hopeless([reply])


def hopeless(replies: Sequence[wire.Reply]) -> str | None:
    """Why more requests would only cost more of the operator's time."""
    if replies and all(timed_out(reply) for reply in replies):
        return "nothing answered within the timeout"
    if replies and all(costly(reply) for reply in replies):
        return "the server does not stop sending"
    return None


# --- metrics


def gateway_metrics(probes: dict[str, list[wire.Reply]], edge: str | None) -> dict[str, Any]:
    """Overhead in ms: each endpoint raw (t0 to first byte) and net of one network round trip.

    The round trip is that of the very connection's TCP handshake; a gateway cannot be faster
    than 0.
    """
    figures: dict[str, Any] = {"net_not_separable": edge}
    everything = [reply for replies in probes.values() for reply in replies]
    for path, replies in probes.items():
        good = [reply for reply in replies if reply.status == 200 and not reply.failure]
        name = path.strip("/")
        figures[f"{name}_ms"] = metrics.summary([ms(first_byte(reply)) for reply in good])
        net = [
            ms(max(0, first_byte(reply) - trip)) for reply in good if (trip := round_trip(reply))
        ]
        figures[f"{name}_net_ms"] = metrics.summary([] if edge else net)
    shakes = [reply.handshake for reply in everything if reply.handshake]
    figures["connect_ms"] = metrics.summary([ms(shake.connect_ns) for shake in shakes])
    figures["tls_ms"] = metrics.summary([ms(s.tls_ns) for s in shakes if s.tls_ns is not None])
    figures["round_trip_ms"] = metrics.summary([ms(s.rtt_ns) for s in shakes if s.rtt_ns])
    return figures


def first_byte(reply: wire.Reply) -> int:
    return (reply.first_byte_ns or 0) - (reply.t0_ns or 0)


def round_trip(reply: wire.Reply) -> int | None:
    return reply.handshake.rtt_ns if reply.handshake else None


def probe_record(reply: wire.Reply) -> dict[str, Any]:
    answered = reply.status is not None and reply.t0_ns is not None
    handshake = reply.handshake
    return {
        "path": reply.request.path,
        "status": reply.status,
        "error": reply.failure.text if reply.failure else None,
        "ttfb_ms": ms(first_byte(reply)) if answered else None,
        "connect_ms": ms(handshake.connect_ns) if handshake else None,
        "tls_ms": ms(handshake.tls_ns) if handshake and handshake.tls_ns is not None else None,
        "round_trip_ms": ms(handshake.rtt_ns) if handshake and handshake.rtt_ns else None,
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
    bound = exceeds(harmful, figures["itl_ms"]["p50"]) or exceeds(
        harmful, figures["ttft_ms"]["p50"]
    )
    return {
        "lag_ms": metrics.summary(lags),
        "send_lag_ms": metrics.summary(late),
        "merged_reads": len(merged),
        "client_bound": bound or exceeds(late, figures["ttft_ms"]["p50"]),
    }


def exceeds(lags_ms: Sequence[float], median_ms: float | None) -> bool:
    """Whether lags like these are a noticeable part of a figure with this median."""
    if not lags_ms or not median_ms:
        return False
    return metrics.percentile(lags_ms, 99) > CLIENT_SHARE * median_ms


def merged_lags(reply: wire.Reply, stream: sse.Stream) -> list[int]:
    """The lags of the reads that brought more than one output event, in ns."""
    events = Counter(stream.output_ns)  # events of one read share its stamp
    lags = dict(zip(reply.stamps_ns, reply.lag_ns, strict=True))
    return [lags[stamp] for stamp, count in events.items() if count > 1]


# --- judge


def check_probes(path: str, replies: Sequence[wire.Reply], figures: dict[str, Any]) -> Check:
    name = path.strip("/")
    if replies and all(reply.status == 404 for reply in replies):
        return Check(name, Status.SKIP, f"404: no such endpoint here ({path})")
    failed = [reply for reply in replies if reply.failure or reply.status != 200]
    if failed:
        kinds = Counter(
            reply.failure.text if reply.failure else f"{reply.status} {words(reply)}".strip()
            for reply in failed
        )
        said = "; ".join(f"{text} (x{count})" for text, count in kinds.most_common(3))
        return Check(name, Status.FAIL, f"{len(failed)} of {len(replies)} probes failed: {said}")
    summary = figures[f"{name}_ms"]
    detail = f"{len(replies)} of {len(replies)} answered 200, p99 {summary['p99']:.2f} ms"
    net = figures[f"{name}_net_ms"]["p99"]
    if net is not None:
        detail += f", net of the network {net:.2f} ms"
    return Check(name, Status.PASS, detail)


def check_requests(
    level: Level, records: Sequence[dict[str, Any]], planned: int, allowed: float
) -> Check:
    """Every request of the level succeeded, but for the share that --slo error_rate allows."""
    counted = [record for record in records if not record["excluded"]]
    failed = [record for record in counted if record["error"]]
    evidence = {"sent": len(records), "failed": len(failed), "planned": planned}
    if not counted and level.stopped != RATE_LIMIT:
        said = warmup_words(level)
        return Check("requests", Status.FAIL, f"no request was answered: {said}", evidence)
    if counted and len(failed) / len(counted) > allowed:
        detail = f"{len(failed)} of {len(counted)} failed: {error_words(failed)}"
        if level.stopped:
            detail += f"; stopped there: {level.stopped}"
        return Check("requests", Status.FAIL, detail, evidence)
    if level.stopped == RATE_LIMIT:
        wait = level.limited and level.limited.message.header("retry-after")
        detail = (
            f"stopped by {RATE_LIMIT} after {len(counted)} of {planned} requests (429 "
            f"rate_limit_exceeded, Retry-After {wait}): wait, or raise it for this key"
        )
        if not level.limited:
            detail = f"not run: {RATE_LIMIT} was reached before"
        return Check("requests", Status.SKIP, detail, evidence, essential=True)
    if failed:
        detail = f"{len(failed)} of {len(counted)} failed, within the {allowed:.2%} allowed: "
        return Check("requests", Status.WARN, detail + error_words(failed), evidence)
    detail = f"{len(counted)} of {planned} succeeded"
    if any(reply.failure or reply.status != 200 for reply in level.warmup):
        return Check("requests", Status.WARN, f"{detail}, but {warmup_words(level)}", evidence)
    return Check("requests", Status.PASS, detail, evidence)


def error_words(failed: Sequence[dict[str, Any]]) -> str:
    """Each kind of error once, with its count and the first words for it."""
    counts = Counter(record["error"] for record in failed)
    texts = {record["error"]: record["error_text"] for record in reversed(failed)}
    return "; ".join(f"{kind} x{count} ({texts[kind]})" for kind, count in counts.most_common())


def warmup_words(level: Level) -> str:
    failed = [reply for reply in level.warmup if reply.failure or reply.status != 200]
    texts = Counter(outcome(reply) for reply in failed)
    said = "; ".join(f"{text} (warm-up, x{count})" for text, count in texts.most_common(3))
    return said or level.stopped or "nothing was sent"


def check_stream(records: Sequence[dict[str, Any]]) -> Check | None:
    """The streams that gave an answer were well-formed, too."""
    answered = [record for record in records if not record["error"]]
    if not answered:
        return None
    kinds = Counter(text for record in answered for text in record["complaints"])
    if not kinds:
        return Check("stream", Status.PASS, f"{len(answered)} well-formed, each with its [DONE]")
    said = "; ".join(f"{text} (x{count})" for text, count in kinds.most_common(3))
    return Check("stream", Status.WARN, said)


def check_tokens(level: Level, records: Sequence[dict[str, Any]]) -> Check | None:
    """The token count can be trusted: its sources agree."""
    answered = [record for record in records if not record["error"]]
    if not answered:
        return None
    sources = Counter(record["token_source"] for record in answered)
    named = " and ".join(f"{name}" for name, _ in sources.most_common())
    problems = []
    differing = [r for r in answered if disagree(r)]
    if differing:
        first = differing[0]
        problems.append(
            f"usage and timings disagree in {len(differing)}, as {first['output_tokens']} and "
            f"{first['server_predicted_tokens']} tokens"
        )
    many = [r for r in answered if r["output_events"] > r["output_tokens"]]
    if many:
        problems.append(
            f"more events than tokens in {len(many)}, as {many[0]['output_events']} events for "
            f"{many[0]['output_tokens']} tokens"
        )
    if "events" in sources:
        problems.append(f"the server gives no count: events were counted in {sources['events']}")
    if level.usage_refused is not None:
        named += " (the server refuses stream_options)"
    if problems:
        return Check("tokens", Status.WARN, f"from {named}; " + "; ".join(problems))
    total = int(sum(record["output_tokens"] for record in answered))
    return Check("tokens", Status.PASS, f"{total} output tokens, from {named}")


def disagree(record: dict[str, Any]) -> bool:
    other = record["server_predicted_tokens"]
    return other is not None and other != record["output_tokens"]


def check_client(figures: dict[str, Any]) -> Check | None:
    """This program kept up with the server."""
    lag, late = figures["lag_ms"], figures["send_lag_ms"]
    if not lag["n"]:
        return None
    detail = f"lag p99 {lag['p99']:.2f} ms, {figures['merged_reads']} reads merged events"
    if late["n"]:
        detail += f", sends late by p99 {late['p99']:.2f} ms"
    if figures["client_bound"]:
        return Check("client", Status.WARN, f"client-bound: {detail}; use a faster or idler client")
    return Check("client", Status.PASS, detail)


def check_objectives(
    objectives: Sequence[metrics.Objective],
    figures: dict[str, Any],
    records: Sequence[dict[str, Any]] = (),
    limited: bool = False,
) -> list[Check]:
    """Each --slo; one on something that was not measured is missed as well."""
    checks = [check_objective(wanted, figures, records) for wanted in objectives]
    if limited and not figures["requests"]:  # it was the rate limit that left nothing to measure
        for check in checks:
            check.status, check.essential = Status.SKIP, True
    return checks


def check_objective(
    wanted: metrics.Objective, figures: dict[str, Any], records: Sequence[dict[str, Any]]
) -> Check:
    name, unit = f"slo:{wanted.name}", wanted.unit
    bound = f"{'at most' if wanted.upper else 'at least'} {wanted.limit:g} {unit}".strip()
    if wanted.per_request:
        good = [record for record in records if record["error"] is None]
        missed = [record for record in good if not wanted.holds(record[wanted.key])]
        detail = f"{len(good) - len(missed)} of {len(good)} requests kept {bound}"
        return Check(name, Status.FAIL if missed or not good else Status.PASS, detail)
    value = wanted.value(figures)
    if value is None:
        edge = (figures.get("gateway") or {}).get("net_not_separable")
        reason = f": not separable, {edge}" if "_net_" in wanted.name and edge else ""
        return Check(name, Status.FAIL, f"not measured in this run{reason} (wanted {bound})")
    status = Status.PASS if wanted.holds(value) else Status.FAIL
    return Check(name, status, f"{value:g} {unit}".strip() + f", wanted {bound}")


# --- report

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "min", "max")


def header() -> str:
    return f"  {'':19}{'n':>6}" + "".join(f"{name:>{width(name)}}" for name in COLUMNS)


def width(column: str) -> int:
    return 8 if column == "min" else 7  # the column before may carry a star


def row(label: str, summary: dict[str, Any]) -> str:
    """One line of a table; a p99 of few samples is marked with a star."""
    cells = {name: f"{figure(summary[name]):>{width(name)}}" for name in COLUMNS}
    if 0 < summary["n"] < FEW:
        cells["p99"] += "*"
        cells["min"] = cells["min"][1:]
    return f"  {label:19}{summary['n']:>6}" + "".join(cells.values())


def figure(value: float | None) -> str:
    """At most six characters, as exact as that allows."""
    if value is None:
        return "-"
    if abs(value) >= 999_999.5:
        return f"{value:.0e}"
    if isinstance(value, int):
        return str(value)
    digits = 2 if abs(value) < 100 else 1 if abs(value) < 10_000 else 0
    return f"{value:.{digits}f}"


def whole(summary: dict[str, Any]) -> dict[str, Any]:
    """The same figures without decimals: half a token is of no use to a reader."""
    return {name: None if value is None else round(value) for name, value in summary.items()}


def gateway_lines(figures: dict[str, Any], counts: dict[str, int]) -> list[str]:
    each = ", ".join(f"{count} x {path}" for path, count in counts.items())
    lines = [f"Gateway overhead: {each}, each over a connection of its own", header()]
    for name in ("ping", "health"):
        if not figures[f"{name}_ms"]["n"]:
            lines.append(f"  /{name}: no answer to measure")
            continue
        lines.append(row(f"/{name} [ms]", figures[f"{name}_ms"]))
        if figures["net_not_separable"] is None:
            lines.append(row("  net of network", figures[f"{name}_net_ms"]))
    lines.append(row("connect [ms]", figures["connect_ms"]))
    if figures["tls_ms"]["n"]:
        lines.append(row("TLS [ms]", figures["tls_ms"]))
    lines.append(row("round trip [ms]", figures["round_trip_ms"]))
    if figures["net_not_separable"]:
        lines.append(f"  net of network: not separable, {figures['net_not_separable']}")
    return lines + footnote(figures["ping_ms"])


def footnote(*summaries: dict[str, Any]) -> list[str]:
    if any(0 < summary["n"] < FEW for summary in summaries):
        return [f"  * of fewer than {FEW} samples: close to the slowest one, no real p99"]
    return []


def level_lines(
    level: Level,
    figures: dict[str, Any],
    records: Sequence[dict[str, Any]],
    args: argparse.Namespace,
) -> list[str]:
    title = f"Inference at concurrency {level.concurrency}: {figures['succeeded']} of "
    lines = [title + f"{figures['requests']} requests succeeded", header()]
    lines.append(row("TTFT [ms]", figures["ttft_ms"]))
    lines.append(row("ITL [ms]", figures["itl_ms"]))
    lines.append(row("TPOT [ms]", figures["tpot_ms"]))
    lines.append(row("decode rate [tok/s]", figures["tokens_per_s"]))
    if figures["server_tokens_per_s"]["n"]:
        lines.append(row("  the server's own", figures["server_tokens_per_s"]))
    lines.append(row("E2E latency [ms]", figures["e2e_ms"]))
    lines.append(row("output tokens", whole(figures["output_tokens"])))
    lines.append(row("prompt tokens", whole(figures["prompt_tokens"])))
    if figures["cached_tokens"]["n"]:
        lines.append(row("  of them cached", whole(figures["cached_tokens"])))
    if figures["connect_ms"]["n"]:
        lines.append(row("connect [ms]", figures["connect_ms"]))
    if figures["tls_ms"]["n"]:
        lines.append(row("TLS [ms]", figures["tls_ms"]))
    lines += footnote(figures["ttft_ms"], figures["itl_ms"], figures["e2e_ms"])
    rate, each_s = figures["output_tokens_per_s"], figures["requests_per_s"]
    lines.append(
        f"  {'output throughput':20}{figure(rate):>9} tok/s over {figure(figures['wall_s'])} s"
    )
    lines.append(f"  {'request throughput':20}{figure(each_s):>9} requests/s")
    if figures["goodput_per_s"] is not None:
        lines.append(f"  {'goodput':20}{figure(figures['goodput_per_s']):>9} requests/s")
    share = figures["error_rate"]
    rate_line = f"  {'error rate':20}{'-' if share is None else f'{share:.1%}':>9}"
    lines += textwrap.wrap(rate_line + errors_in(figures), 80, subsequent_indent=" " * 22)
    lines.append(f"  {'prompt':20}{prompt_kind(args)}")
    lines.append(f"  {'tokens counted by':20}{token_sources(records)}")
    return lines


def errors_in(figures: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} x{count}" for kind, count in figures["errors"].items())
    waits = ", ".join(f"{wait:g} s" for wait in figures["retry_after_s"])
    return (f" {kinds}" if kinds else "") + (f" (Retry-After {waits})" if waits else "")


def prompt_kind(args: argparse.Namespace) -> str:
    if args.same_prompt:
        return "the same each time: the prompt cache may save the prefill"
    return "unique each time: prefill is measured, not a cache"


def token_sources(records: Sequence[dict[str, Any]]) -> str:
    sources = {record["token_source"] for record in records if record["error"] is None}
    names = {"usage": "the server (usage)", "timings": "the server (timings)", "events": "events"}
    return ", ".join(names[source] for source in sorted(sources - {None})) or "-"


# --- run


def gateway(
    run: Run, instrument: wire.Wire, contact: Contact, document: Document
) -> tuple[dict[str, Any], list[Check]]:
    """Measure, judge and report the gateway's overhead; fills its document."""
    probes: dict[str, list[wire.Reply]] = {}
    figures: dict[str, Any] = {}
    try:
        for path in ("/ping", "/health"):
            first = contact.replies[path]
            settled = costly(first) or first.status == 404
            probes[path] = [first] if settled else []
            if not settled:
                try:
                    probe(run, instrument, path)
                finally:
                    probes[path] = instrument.replies
    finally:
        figures = gateway_metrics(probes, contact.edge)
        document.metrics = {"gateway": figures}
        document.requests = [probe_record(r) for replies in probes.values() for r in replies]
    checks = [check_probes(path, replies, figures) for path, replies in probes.items()]
    document.add(*checks)
    for line in gateway_lines(figures, {path: len(each) for path, each in probes.items()}):
        run.say(line)
    if document.main:
        document.add(*check_objectives(run.args.slo, document.metrics))
    finish(run, document, document.checks)
    return figures, checks


def inference(
    run: Run,
    instrument: wire.Wire,
    contact: Contact,
    document: Document,
    level: Level,
    before: dict[str, Any],
) -> None:
    """Measure, judge and report one level; fills its document."""
    args = run.args
    try:
        if level.stopped is None:
            measure_level(run, instrument, contact.model, level)
    finally:
        streams = read_streams(level.replies)
        records = make_records(level.replies, streams)
        figures = metrics.level_metrics(records, args.slo)
        client = client_metrics(level.replies, streams, instrument.clock, figures)
        failed = sum(1 for reply in level.warmup if reply.failure or reply.status != 200)
        document.requests = records
        document.metrics = {
            "concurrency": level.concurrency,
            "prompt": "same" if args.same_prompt else "unique",
            **figures,
            "warmup": {"requests": len(level.warmup), "failed": failed},
            "client": client,
            "gateway": before or None,
        }
    if level.stopped == "credential refused":
        raise CannotCheck(chat.refused_credential(run))
    allowed = min((o.limit for o in args.slo if o.name == "error_rate"), default=0.0)
    found = [
        check_requests(level, records, args.requests, allowed),
        check_stream(records),
        check_tokens(level, records),
        check_client(client),
        *check_objectives(args.slo, document.metrics, records, level.stopped == RATE_LIMIT),
    ]
    own = [check for check in found if check]
    document.add(*own)
    for line in level_lines(level, figures, records, args):
        run.say(line)
    run.say(f"  {'clock':20}{instrument.clock}")
    finish(run, document, own)


def finish(run: Run, document: Document, own: Sequence[Check]) -> None:
    """The verdicts that are not on the screen yet, and the document is done."""
    run.say()
    for check in document.checks:
        if check in own:
            run.say_check(check)
    run.say()
    document.finish()


def choose_parts(run: Run) -> Parts:
    """Which parts --gateway-only, --inference-only, --only and --skip leave."""
    args = run.args
    probes = any(run.wants(name) for name in ("ping", "health"))
    streams = any(run.wants(name) for name in ("requests", "stream", "tokens", "client"))
    parts = Parts(probes and not args.inference_only, streams and not args.gateway_only)
    if not (parts.gateway or parts.inference):
        raise CannotCheck("the options leave nothing to measure: see --only and --skip")
    return parts


def measure(run: Run) -> None:
    args, parts = run.args, choose_parts(run)
    levels = list(dict.fromkeys(args.concurrency)) if parts.inference else []
    # begun before the first contact: should that fail, no older result is left to be believed
    overhead = run.document("gateway_overhead", main=not levels) if parts.gateway else None
    documents = [run.document(f"inference_c{level}") for level in levels]
    target = wire.Target(run.url, run.token(), verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        contact = make_contact(run, instrument, parts)
        run.target["model"] = contact.model if levels else None
        figures: dict[str, Any] = {}
        checks: list[Check] = []
        if overhead:
            figures, checks = gateway(run, instrument, contact, overhead)
        stopped, refused = contact.hopeless, None
        for concurrency, document in zip(levels, documents, strict=True):
            document.start()
            document.add(*checks)
            level = Level(concurrency, usage_refused=refused, stopped=stopped)
            inference(run, instrument, contact, document, level, figures)
            stopped, refused = level.stopped, level.usage_refused


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
