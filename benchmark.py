#!/usr/bin/env python3
"""How fast is the deployment, and does every request succeed?

Measures the gateway's overhead (/ping, /health) and streamed chat completions at one or several
levels: so many requests in flight or, with --rate, so many a second. Times are taken at the wire,
tokens are the server's own count, and prefill is measured, not the prompt cache: every prompt
starts with a line of its own.

PASS: every probe and request succeeded and every --slo was kept.
Cost: --requests probes of each endpoint (at least 50 beside a level), and for each level --requests
answers of up to --max-tokens, after a warm-up answer for each slot. It wakes a sleeping worker.
--find-capacity overloads the deployment on purpose.

Examples:
    # the proxy alone, without touching the model
    python3 benchmark.py --url https://host:8000 --gateway-only --requests 50
    # the baseline for a release: one user, then four and eight at once
    python3 benchmark.py --url https://host:8000 --api-key sk-key --concurrency 1 4 8
    # a gate: exit 1 if half of the first tokens take longer than half a second
    python3 benchmark.py --url https://host:8000 --slo ttft_p50=500ms --slo error_rate=0
    # users who do not wait for each other: five new requests a second for a minute
    python3 benchmark.py --url https://host:8000 --rate 5 --duration 60
    # how many users at once it takes before half a second is not kept any more
    python3 benchmark.py --url https://host:8000 --find-capacity --slo ttft_p95=500ms
    # what the gateway costs, beside the inference server behind it
    python3 benchmark.py --url https://host:8000 --direct-url http://host:8080
    # the same document that is saved, for jq
    python3 benchmark.py --url https://host:8000 --output json > results/inference_c1.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.credentials import check_token
from livecheck.core.settings import check_url, is_loopback
from livecheck.core.text import figure
from livecheck.load import capacity, gateway_cost, gateway_probes, table
from livecheck.load.arrivals import CONSTANT, POISSON, Load
from livecheck.load.level import Level, Session, Stop, hopeless, is_costly, measure_level
from livecheck.load.level_plan import (
    ONE_USER,
    SEARCH_S,
    Plan,
    level_size,
    load_at,
    make_plan,
    most_in_flight,
    result_names,
)
from livecheck.wire import metrics, sse, wire
from livecheck.wire import old_chat as chat
from livecheck.wire.records import counted_words, is_ok, make_records, ms, outcome, read_streams

CHECKS = (
    *("ping", "health", "requests", "stream", "tokens", "client", "cost", "capacity"),
    "slo",
)
CLIENT_SHARE = 0.05  # of the median ITL or TTFT: a client that late is part of the figures
MERGED_SHARE = 0.01  # of the events: fewer cannot move a p99
FASTEST_PER_S = 10_000


def build_parser() -> common.Parser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    group = parser.add_argument_group("what to measure")
    add = group.add_argument
    number, count = common.whole_number(1), common.whole_number(0)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    asked = group.add_mutually_exclusive_group().add_argument
    asked("--prompt", default="Write a short poem about the sea", help="what to ask (%(default)s)")
    asked("--prompt-file", type=Path, metavar="FILE", help="a prompt or JSON with messages a line")
    tokens = "longest answer (default %(default)s)"
    add("--max-tokens", type=number, default=128, metavar="N", help=tokens)
    levels = "requests in flight, one or several levels (default 1)"
    add("--concurrency", type=number, nargs="+", default=ONE_USER, metavar="N", help=levels)
    length = group.add_mutually_exclusive_group().add_argument
    requests = "for each level, at least one a slot; or probes (default %(default)s)"
    length("--requests", type=number, default=10, metavar="N", help=requests)
    duration = "of each level, instead of --requests"
    length("--duration", type=common.seconds, metavar="SECONDS", help=duration)
    warmup = "before each level, at least one a slot; 0 is 0 (default %(default)s)"
    add("--warmup", type=count, default=1, metavar="N", help=warmup)
    add("--same-prompt", action="store_true", help="let the prompt cache work: no unique line")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--gateway-only", action="store_true", help="only /ping and /health")
    part.add_argument("--inference-only", action="store_true", help="only chat completions")
    bound = "a bound to keep, as ttft_p50=500ms (repeatable)"
    add("--slo", type=objective, action="append", default=[], metavar="NAME=VALUE", help=bound)
    add_load_options(parser)
    return parser


def add_load_options(parser: common.Parser) -> None:
    add = parser.add_argument_group("how the load comes, and comparisons").add_argument
    rates = "open loop: requests a second, one or several levels"
    add("--rate", type=per_second, nargs="+", metavar="R", help=rates)
    kinds = "with --rate, how they come (default poisson)"
    add("--arrivals", choices=(POISSON, CONSTANT), help=kinds)
    add("--seed", type=common.whole_number(0), metavar="N", help="of the poisson arrivals")
    search = "raise the level until an --slo breaks"
    add("--find-capacity", action="store_true", help=search)
    most = f"highest level of the search (default {2**capacity.DOUBLINGS} times the first)"
    add("--max-level", type=per_second, metavar="N", help=most)
    longest = f"the search begins no request after that (default {SEARCH_S})"
    add("--max-time", type=common.seconds, metavar="SECONDS", help=longest)
    straight = "the inference server itself: what does the gateway cost?"
    add("--direct-url", type=base_url, metavar="URL", help=straight)
    add("--direct-key", metavar="KEY", help="its key (or INFERENCE_DIRECT_KEY)")


def objective(text: str) -> metrics.Objective:
    try:
        return metrics.parse_objective(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def per_second(text: str) -> float:
    """An argparse type: a positive number that a schedule can be made of."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value <= FASTEST_PER_S:  # nor NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0, or above {FASTEST_PER_S}")
    return value


def base_url(text: str) -> str:
    try:
        return check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# --- measure


def meet(run: Run, instrument: wire.Wire, plan: Plan) -> Session:
    """One request to each endpoint, all at once: a server that hangs costs one timeout."""
    paths = [*plan.probes, *([chat.MODELS] if plan.loads else [])]
    met = chat.meet(run, instrument, paths)
    model = run.args.model or chat.first_model(met.get(chat.MODELS)) or chat.UNKNOWN_MODEL
    replies = list(met.values())
    edge = gateway_probes.edge(run.url, replies)
    return Session(run, instrument, met, model, plan.prompts, edge, stopped=hopeless(replies))


# --- metrics


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


def check_requests(level: Level, records: Sequence[dict[str, Any]], allowed: float) -> Check:
    """Every request of the level succeeded, but for the share that --slo error_rate allows."""
    counted = [record for record in records if not record["excluded"]]
    failed = [record for record in counted if record["error"]]
    evidence = {"planned": level.load.planned, "sent": len(records), "failed": len(failed)}
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
    detail = f"{len(counted)} of {level.load.planned or len(counted)} succeeded"
    if not all(is_ok(reply) for reply in level.warmup):
        return Status.WARN, f"{detail}, but {warmup_words(level)}"
    return Status.PASS, detail


def limit_words(level: Level, counted: int) -> str:
    if not level.limited:
        return f"not run: {Stop.RATE_LIMIT.value} was reached before"
    wait = level.limited.message.header("retry-after")
    planned = level.load.planned
    of_all = f"{counted} of {planned}" if planned is not None else f"{counted}"
    return (
        f"stopped by {Stop.RATE_LIMIT.value} after {of_all} requests (429 "
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


def level_lines(figures: dict[str, Any]) -> list[str]:
    """The block of a level: a table of summaries, then what is one figure or a word."""
    at = f"concurrency {figures['concurrency']}"
    if "rate_per_s" in figures:
        at = f"{figures['rate_per_s']:g} requests/s"
    title = f"Inference at {at}: {figures['succeeded']} of "
    return [
        f"{title}{figures['requests']} requests succeeded",
        table.header(),
        table.row("TTFT [ms]", figures["ttft_ms"]),
        *table.optional_row("  due to sent [ms]", figures.get("due_to_sent_ms", {"n": 0})),
        table.row("ITL [ms]", figures["itl_ms"]),
        table.row("TPOT [ms]", figures["tpot_ms"]),
        table.row("decode rate [tok/s]", figures["tokens_per_s"]),
        *table.optional_row("  the server's own", figures["server_tokens_per_s"]),
        table.row("E2E latency [ms]", figures["e2e_ms"]),
        table.row("output tokens", table.whole(figures["output_tokens"])),
        table.row("prompt tokens", table.whole(figures["prompt_tokens"])),
        *table.optional_row("  of them cached", table.whole(figures["cached_tokens"])),
        *table.optional_row("connect [ms]", figures["connect_ms"]),
        *table.optional_row("TLS [ms]", figures["tls_ms"]),
        *table.footnote(figures["ttft_ms"], figures["itl_ms"], figures["e2e_ms"]),
        *single_figures(figures),
    ]


def single_figures(figures: dict[str, Any]) -> list[str]:
    shown, share = figure, figures["error_rate"]
    entries = {
        "output throughput": f"{shown(figures['output_tokens_per_s'])} tok/s",
        "request throughput": f"{shown(figures['requests_per_s'])} requests/s",
        "goodput": f"{shown(figures['goodput_per_s'])} requests/s" + goodput_share(figures),
        "error rate": ("-" if share is None else f"{share:.1%}") + errors_in(figures),
        "wall time": f"{shown(figures['wall_s'])} s",
        "load": load_words(figures),
        "prompt": prompt_words(figures),
        "tokens counted by": token_sources(figures["token_sources"]),
        "clock": figures["client"]["clock"],
    }
    if figures["goodput_per_s"] is None:
        del entries["goodput"]
    return [line for label, text in entries.items() for line in table.entry(label, text)]


PROMPTS = {
    "same": "the same each time: the prompt cache may save the prefill",
    "unique": "unique each time: prefill is measured, not a cache",
}


def load_words(figures: dict[str, Any]) -> str:
    if "rate_per_s" not in figures:
        return f"{figures['load_model']}, {figures['concurrency']} in flight"
    most, ceiling = figures.get("most_in_flight", 0), figures["concurrency"]
    arrivals = f"{figures['arrivals']} arrivals, {figures['rate_per_s']:g} a second"
    in_flight = f"{most} in flight at most" + (": the ceiling, some waited" * (most == ceiling))
    return f"{figures['load_model']}, {arrivals}, {in_flight}; times count from when each was due"


def prompt_words(figures: dict[str, Any]) -> str:
    words = PROMPTS[figures["prompt"]]
    return f"{figures['prompts']} in turn; {words}" if "prompts" in figures else words


def goodput_share(figures: dict[str, Any]) -> str:
    share = figures.get("goodput_share")
    return "" if share is None else f", {share:.1%} of all requests"


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
                    gateway_probes.probe(session, path)
                finally:
                    probes[path] = session.instrument.replies
    finally:
        figures = gateway_probes.gateway_metrics(probes, session.edge)
        document.metrics = {"gateway": figures}
        document.requests = [
            gateway_probes.probe_record(r) for each in probes.values() for r in each
        ]
    checks = [
        gateway_probes.check_probes(path, replies, figures) for path, replies in probes.items()
    ]
    document.add(*checks)
    if document.main:
        document.add(*(check_objective(each, document.metrics) for each in session.run.args.slo))
    lines = gateway_probes.gateway_lines(
        figures, {path: len(each) for path, each in probes.items()}
    )
    finish(session.run, document, lines, document.checks)
    return checks


def take(session: Session, level: Level, probed: Any, keep: Keep) -> None:
    """Measure a level; `keep` gets its records and figures, whatever happens."""
    level.stopped = session.stopped
    try:
        if level.stopped is None:
            measure_level(session, level)
    finally:
        session.stopped = level.stopped
        streams = read_streams(level.replies)
        records = make_records(level.replies, streams)
        figures = level_figures(session, level, records)
        client = client_metrics(level.replies, streams, session.instrument.clock, figures)
        keep(records, figures | {"client": client, "gateway": probed})
    if level.stopped is Stop.CREDENTIAL:
        raise CannotCheck(chat.refused_credential(session.run))


Records = list[dict[str, Any]]
Keep = Callable[[Records, dict[str, Any]], None]


def inference(session: Session, level: Level, document: Document, probed: Any) -> None:
    """Measure, judge and report one level; fills its document."""

    def keep(records: Records, figures: dict[str, Any]) -> None:
        document.requests, document.metrics = records, figures

    take(session, level, probed, keep)
    checks = judge_level(session, level, document.requests, document.metrics)
    document.add(*checks)
    finish(session.run, document, level_lines(document.metrics), checks)


def level_figures(
    session: Session, level: Level, records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    args, load = session.run.args, level.load
    failed = sum(not is_ok(reply) for reply in level.warmup)
    figures = {
        "concurrency": load.concurrency,
        "prompt": "same" if args.same_prompt else "unique",
        **metrics.level_metrics(records, args.slo),
        "warmup": {"requests": len(level.warmup), "failed": failed},
    }
    if args.prompt_file:
        figures["prompts"] = len(session.prompts)
    if load.is_open:
        figures |= {"load_model": "open loop", "rate_per_s": load.rate_per_s}
        figures |= {"arrivals": load.arrivals, "seed": load.seed}
    return figures


def judge_level(
    session: Session, level: Level, records: Records, figures: dict[str, Any]
) -> list[Check]:
    objectives = session.run.args.slo
    allowed = min((each.limit for each in objectives if each.name == "error_rate"), default=0.0)
    limited = level.stopped is Stop.RATE_LIMIT
    found = [
        check_requests(level, records, allowed),
        check_stream(records),
        check_tokens(session.usage, records),
        check_client(figures),
        *(check_objective(each, figures, records, limited) for each in objectives),
    ]
    return [check for check in found if check]


# the search for the capacity


def find_capacity(session: Session, first: Load, document: Document, probed: Any) -> None:
    """Raise the level until the objectives break, judge and report that; fills its document."""
    run, args = session.run, session.run.args
    start = first.rate_per_s or first.concurrency
    search = capacity.Search(start, args.max_level, whole=not first.is_open)
    for line in capacity.forecast(search, level_size(first), args.max_time, args.timeout):
        run.note(line)
    for line in capacity.head(search):
        run.say(line)
    end_s = time.perf_counter() + args.max_time
    try:
        while not search.ended and (number := search.next_level()) is not None:
            try_level(session, Level(load_at(args, first, number), end_s), search, document, probed)
    finally:
        document.metrics = search.metrics()
    checks = [*judge_search(session, search, document.requests), capacity.check_capacity(search)]
    document.add(*checks)
    finish(run, document, [], checks)


def try_level(
    session: Session, level: Level, search: capacity.Search, document: Document, probed: Any
) -> None:
    """One level of the search: measured, decided, shown."""
    number = level.load.rate_per_s or level.load.concurrency
    kept: list[tuple[Records, dict[str, Any]]] = []

    def keep(records: Records, figures: dict[str, Any]) -> None:
        document.requests += [{"level": number, **record} for record in records]
        kept.append((records, figures))

    take(session, level, probed, keep)
    records, figures = kept[0]
    if level.stopped is Stop.RATE_LIMIT:
        search.limited, search.ended = True, limit_words(level, len(records))
    elif level.stopped:
        search.ended = level.stopped.value
    if level.stopped not in (Stop.RATE_LIMIT, Stop.TIME):
        broken, good = decide(session, level, records, figures)
        search.trials.append(capacity.Trial(number, figures, broken, good))
        for line in capacity.trial_lines(search.trials[-1]):
            session.run.say(line)


def decide(
    session: Session, level: Level, records: Records, figures: dict[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """The objectives a level breaks, and those it keeps, in words."""
    broken: dict[str, str] = {}
    kept: dict[str, str] = {}
    for check in judge_level(session, level, records, figures):
        if check.name == "requests" and check.status is Status.FAIL:
            broken["requests"] = check.detail
    for each in session.run.args.slo:
        check = check_objective(each, figures, records)
        words = capacity.figure_words(each, check.evidence["value"])
        (kept if check.status is Status.PASS else broken)[each.name] = words
    return broken, kept


def judge_search(session: Session, search: capacity.Search, records: Records) -> list[Check]:
    """What can be said of all levels together."""
    bound = [each for each in search.trials if each.figures["client"]["client_bound"]]
    client = None
    for trial in (bound or search.trials)[-1:]:
        client = check_client(trial.figures)
        if client:
            client.detail = f"at {trial.level:g}: {client.detail}"
    found = [check_stream(records), check_tokens(session.usage, records), client]
    return [check for check in found if check]


# through the gateway and past it


def compare(session: Session, load: Load, document: Document, probed: Any) -> None:
    """Measure what the gateway costs, judge and report it; fills its document."""
    run, args = session.run, session.run.args
    target = wire.Target(args.direct_url, direct_key(run), verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        model = args.model or gateway_cost.meet(run, instrument) or session.model
        other = Session(run, instrument, {}, model, session.prompts)
        through, past = (
            gateway_cost.Side(session, Level(load)),
            gateway_cost.Side(other, Level(load)),
        )
        through.level.stopped = session.stopped
        try:
            gateway_cost.measure(through, past, args.warmup)
        finally:
            document.requests, document.metrics = comparison(through, past)
            document.metrics |= {"gateway": probed}
    if through.level.stopped is Stop.CREDENTIAL:
        raise CannotCheck(chat.refused_credential(run))
    if past.level.stopped and not document.requests:
        raise CannotCheck(gateway_cost.useless(target, past.level.stopped))
    checks = judge_comparison(through, past, document.requests, document.metrics)
    document.add(*checks)
    finish(run, document, gateway_cost.lines(through, past, document.metrics), checks)


def comparison(
    through: gateway_cost.Side, past: gateway_cost.Side
) -> tuple[Records, dict[str, Any]]:
    """The records and figures of both sides; the client's are those of both together."""
    replies, streams, records = gateway_cost.read(through, past)
    here, there = gateway_cost.split(records)
    objectives = through.session.run.args.slo
    figures = metrics.level_metrics(here, objectives)
    clock = through.session.instrument.clock
    return records, {
        "pairs": min(len(here), len(there)),
        "cost": gateway_cost.cost_metrics(here, there),
        "through_gateway": figures,
        "direct": metrics.level_metrics(there, objectives),
        "direct_model": past.session.model,
        "client": client_metrics(replies, streams, clock, figures),
    }


def judge_comparison(
    through: gateway_cost.Side, past: gateway_cost.Side, records: Records, figures: dict[str, Any]
) -> list[Check]:
    here, there = gateway_cost.split(records)
    side = figures["through_gateway"] | {key: figures[key] for key in ("client", "gateway")}
    failed = [record for record in there if record["error"]]
    return [
        *judge_level(through.session, through.level, here, side),
        gateway_cost.check_cost(figures["cost"], len(there), failed, past.level.stopped),
    ]


def direct_key(run: Run) -> str | None:
    """The inference server's own key; that of --url is never sent there."""
    key: str | None = run.args.direct_key or run.look_up("INFERENCE_DIRECT_KEY")
    if key is None:
        return None
    try:
        run.secrets.add(check_token(key, "--direct-key"))
    except ValueError as error:
        raise CannotCheck(str(error)) from None
    if run.args.direct_url.startswith("http:") and not is_loopback(run.args.direct_url):
        run.note(f"warning: the direct key goes to {run.args.direct_url} unencrypted: use https")
    return key


# the whole of it


def finish(run: Run, document: Document, lines: Sequence[str], checks: Sequence[Check]) -> None:
    """Show the figures, and of the document's checks those that are not on the screen yet."""
    for line in [*lines, ""]:
        run.say(line)
    for check in document.checks:
        if check in checks:
            run.say_check(check)
    run.say()
    document.finish()


def measure(run: Run, plan: Plan) -> None:
    args = run.args
    # begun before the first contact: should that fail, no older result is left to be believed
    before = run.document("gateway_overhead", main=not plan.loads) if plan.probes else None
    documents = [run.document(name) for name in result_names(args, plan.loads)]
    try:
        wire.raise_descriptor_limit(most_in_flight(args, plan.loads))
    except OSError as error:
        raise CannotCheck(str(error.strerror)) from None
    target = wire.Target(run.url, run.token(), verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        session = meet(run, instrument, plan)
        run.target["model"] = session.model if plan.loads else None
        checks = gateway(session, plan.probes, before) if before else []
        probed = before.metrics["gateway"] if before else None
        for load, document in zip(plan.loads, documents, strict=True):
            document.start()
            document.add(*checks)
            if args.find_capacity:
                find_capacity(session, load, document, probed)
            elif args.direct_url:
                compare(session, load, document, probed)
            else:
                inference(session, Level(load), document, probed)
            run.client["clock"] = instrument.clock


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.only and args.slo:
        args.only.append("slo")  # a bound that was given is meant
    try:
        plan = make_plan(args)
    except ValueError as error:
        parser.error(str(error))
    with common.run(args) as run:
        measure(run, plan)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
