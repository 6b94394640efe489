#!/usr/bin/env python3
"""How fast is the deployment, and does every request succeed?

Measures the gateway's overhead (/ping, /health) and streamed chat completions at one or several
levels: a number of requests in flight or, with --rate, a number of requests per second. Times are
taken at the wire, and tokens are the server's own count. Every prompt begins with a line of its
own, so that prefill is measured and not the prompt cache.

PASS: every probe and every request succeeded, and every --slo was kept.
Cost: --requests probes of each endpoint (at least 50 with a level), and for each level --requests
answers of up to --max-tokens, after a warm-up answer per slot. It wakes a sleeping worker.
--find-capacity overloads the deployment on purpose.

Examples:
    # the proxy alone, without touching the model
    python3 benchmark.py --url https://host:8000 --gateway-only --requests 50
    # the baseline for a release: one user, then four and eight at once
    python3 benchmark.py --url https://host:8000 --api-key sk-key --concurrency 1 4 8
    # for a pipeline: exit 1 if half of the first tokens take longer than half a second
    python3 benchmark.py --url https://host:8000 --slo ttft_p50=500ms --slo error_rate=0
    # users who do not wait for each other: five new requests per second for a minute
    python3 benchmark.py --url https://host:8000 --rate 5 --duration 60
    # how many users at once keep the first token within half a second
    python3 benchmark.py --url https://host:8000 --find-capacity --slo ttft_p95=500ms
    # what the gateway costs, compared with the inference server behind it
    python3 benchmark.py --url https://host:8000 --direct-url http://host:8080
    # print the document that is saved, for jq
    python3 benchmark.py --url https://host:8000 --output json > results/inference_c1.json
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.checks import passed, warned
from livecheck.core.credentials import check_token
from livecheck.core.options import option_type, positive_number
from livecheck.core.settings import check_url, is_in_clear
from livecheck.core.text import counted, figure, plural
from livecheck.load import capacity, gateway_cost, gateway_probes, level_plan, table
from livecheck.load.arrivals import CONSTANT, POISSON, Load
from livecheck.load.level import Level, Session, cannot_recover, measure_level
from livecheck.wire import chat, metrics
from livecheck.wire.answer import Answer, ms, records
from livecheck.wire.asking import Cause, open_wire, rate_limit_words, refused_credential
from livecheck.wire.wire import USER_CLOCK, Wire, raise_descriptor_limit

CHECKS = ("ping", "health", "requests", "stream", "tokens", "client", "cost", "capacity", "slo")
# A client that is late by more than this share of the median ITL or TTFT is a part of the figures.
CLIENT_SHARE = 0.05
MERGED_SHARE = 0.01  # share of the events; fewer merged ones cannot move a p99
MAX_PER_S = 10_000
PROMPT = "Write a short poem about the sea"

Records = list[dict[str, Any]]


def build_parser() -> common.Parser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    group = parser.add_argument_group("what to measure")
    add = group.add_argument
    number, count = common.whole_number(1), common.whole_number(0)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    asked = group.add_mutually_exclusive_group().add_argument
    asked("--prompt", default=PROMPT, help="what to ask (default: %(default)s)")
    prompts = "file with one prompt (or JSON object) per line"
    asked("--prompt-file", type=Path, metavar="FILE", help=prompts)
    tokens = "longest answer, in tokens (default %(default)s)"
    add("--max-tokens", type=number, default=128, metavar="N", help=tokens)
    levels = "requests in flight, one or several levels (default 1)"
    add("--concurrency", type=number, nargs="+", metavar="N", help=levels)
    length = group.add_mutually_exclusive_group().add_argument
    requests = "requests (or probes) per level, at least one per slot (default %(default)s)"
    length("--requests", type=number, default=10, metavar="N", help=requests)
    duration = "how long each level sends, instead of --requests"
    length("--duration", type=common.seconds, metavar="SECONDS", help=duration)
    warmup = "warm-up requests, at least one per slot; 0 disables them (default %(default)s)"
    add("--warmup", type=count, default=1, metavar="N", help=warmup)
    same = "no unique line in prompts: use the prompt cache"
    add("--same-prompt", action="store_true", help=same)
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--gateway-only", action="store_true", help="measure only /ping and /health")
    part.add_argument("--inference-only", action="store_true", help="measure only chat completions")
    bound = "bound to keep, as in ttft_p50=500ms (repeatable)"
    objective = option_type(metrics.parse_objective)
    add("--slo", type=objective, action="append", default=[], metavar="NAME=VALUE", help=bound)
    add_load_options(parser)
    return parser


def add_load_options(parser: common.Parser) -> None:
    add = parser.add_argument_group("open loop, capacity and comparison").add_argument
    rates = "open loop: requests per second, one or several levels"
    per_second = positive_number(MAX_PER_S)
    add("--rate", type=per_second, nargs="+", metavar="R", help=rates)
    kinds = "pattern of the arrivals with --rate (default poisson)"
    add("--arrivals", choices=(POISSON, CONSTANT), help=kinds)
    add("--seed", type=common.whole_number(0), metavar="N", help="seed of the poisson arrivals")
    search = "raise the level until an --slo is broken"
    add("--find-capacity", action="store_true", help=search)
    most = f"highest level of the search (default {2**capacity.DOUBLINGS} times the first)"
    add("--max-level", type=per_second, metavar="N", help=most)
    longest = f"stop the search after this time (default {level_plan.SEARCH_S})"
    add("--max-time", type=common.seconds, metavar="SECONDS", help=longest)
    straight = "inference server, to measure what the gateway costs"
    add("--direct-url", type=option_type(check_url), metavar="URL", help=straight)
    add("--direct-key", metavar="KEY", help="key for --direct-url (or INFERENCE_DIRECT_KEY)")


# --- measure


def first_contact(run: Run, wire: Wire, plan: level_plan.Plan) -> Session:
    """One request to each endpoint, all at once: a silent server costs one timeout."""
    paths = [*plan.probes, *([chat.MODELS] if plan.loads else [])]
    answers = chat.first_contact(run, wire, [chat.get(path) for path in paths])
    contact = {answer.path: answer for answer in answers}
    model = chat.model_to_ask(run, contact.get(chat.MODELS))
    edge = gateway_probes.edge_sign(run.url, answers)
    return Session(run, wire, model, plan.prompts, contact, edge, stopped=cannot_recover(answers))


def probe_gateway(
    session: Session, paths: Sequence[str], document: Document
) -> dict[str, list[Answer]]:
    """Probe each endpoint; fills the document, also when that is interrupted."""
    probes = {path: [session.contact[path]] for path in paths}
    try:
        for path in paths:
            gateway_probes.probe(session, path, probes[path])
    finally:
        document.metrics = {"gateway": gateway_probes.gateway_metrics(probes, session.edge)}
        each = [answer for answers in probes.values() for answer in answers]
        document.requests = [gateway_probes.probe_record(answer) for answer in each]
    return probes


def send_level(session: Session, level: Level, probed: Any, document: Document) -> Records:
    """Measure a level. Its records and figures are in the document, also when it is interrupted;
    a search adds its records to those of the levels before."""
    search = session.run.args.find_capacity
    level.stopped = session.stopped
    found: Records = []
    try:
        if level.stopped is None:
            measure_level(session, level)
    finally:
        session.stopped = level.stopped
        found = records(level.answers)
        about = {"level": level.number} if search else {}
        document.requests = (document.requests if search else []) + [about | r for r in found]
        document.metrics = level_figures(session, level, found) | {"gateway": probed}
    if level.stop_for(Cause.CREDENTIAL):
        raise CannotCheck(refused_credential(session.run))
    return found


def level_figures(session: Session, level: Level, found: Records) -> dict[str, Any]:
    args, load = session.run.args, level.load
    warmup_failed = sum(not answer.is_ok for answer in level.warmup)
    figures = {
        "concurrency": load.concurrency,
        "prompt": "same" if args.same_prompt else "unique",
        **metrics.level_metrics(found, args.slo),
        "warmup": {"requests": len(level.warmup), "failed": warmup_failed},
    }
    if args.prompt_file:
        figures["prompts"] = len(session.prompts)
    if load.is_open:
        figures |= {"load_model": "open loop", "rate_per_s": load.rate_per_s}
        figures |= {"arrivals": load.arrivals, "seed": load.seed}
    figures["client"] = client_metrics(level.answers, session.wire.clock, figures)
    return figures


def client_metrics(
    answers: Sequence[Answer], clock: str, figures: dict[str, Any]
) -> dict[str, Any]:
    """How late this program was, and whether so late that the figures are about itself.

    With kernel stamps a late read makes no figure wrong, as long as it does not merge two events.
    A late send is not a part of any gap between events.
    """
    lags = [ms(lag) for answer in answers for lag in answer.reply.lag_ns]
    late = [ms(a.reply.late_ns) for a in answers if a.reply.late_ns is not None]
    merged = [ms(lag) for answer in answers for lag in merged_lags(answer)]
    events = sum(len(answer.stream.output_ns) for answer in answers)
    harmful = lags
    if clock != USER_CLOCK:
        harmful = merged if len(merged) > MERGED_SHARE * events else []
    # where reads merge events the median gap is 0; TPOT is what it would be otherwise
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


def merged_lags(answer: Answer) -> list[int]:
    """The lags of the reads that brought more than one output event, in ns."""
    events = Counter(answer.stream.output_ns)  # events of one read have the same time
    lags = dict(zip(answer.reply.stamps_ns, answer.reply.lag_ns, strict=True))
    return [lags[stamp] for stamp, count in events.items() if count > 1]


# through the gateway, and straight to the inference server


def send_pairs(
    session: Session, wire: Wire, load: Load, probed: Any, document: Document
) -> tuple[gateway_cost.Side, gateway_cost.Side]:
    """Measure pairs; fills the document, also when that is interrupted."""
    run, args = session.run, session.run.args
    model = args.model or gateway_cost.first_contact(run, wire) or session.model
    other = Session(run, wire, model, session.prompts)
    through = gateway_cost.Side(session, Level(load))
    past = gateway_cost.Side(other, Level(load))
    through.level.stopped = session.stopped
    try:
        gateway_cost.measure_pairs(through, past, args.warmup)
    finally:
        document.requests, document.metrics = pair_figures(through, past)
        document.metrics |= {"gateway": probed}
    if through.level.stop_for(Cause.CREDENTIAL):
        raise CannotCheck(refused_credential(run))
    if past.level.stopped and not document.requests:
        raise CannotCheck(gateway_cost.nothing_to_compare(wire.target, past.level.stopped))
    return through, past


def pair_figures(
    through: gateway_cost.Side, past: gateway_cost.Side
) -> tuple[Records, dict[str, Any]]:
    """The records and figures of both sides; `client` is about both together."""
    answers, found = gateway_cost.read_pairs(through, past)
    here, there = gateway_cost.split(found)
    objectives = through.session.run.args.slo
    figures = metrics.level_metrics(here, objectives)
    return found, {
        "pairs": min(len(here), len(there)),
        "cost": gateway_cost.cost_metrics(here, there),
        "through_gateway": figures,
        "direct": metrics.level_metrics(there, objectives),
        "direct_model": past.session.model,
        "client": client_metrics(answers, through.session.wire.clock, figures),
    }


def direct_key(run: Run) -> str | None:
    """The inference server's own key; that of --url is never sent there."""
    key: str | None = run.args.direct_key or run.look_up("INFERENCE_DIRECT_KEY")
    if key is None:
        return None
    try:
        run.secrets.add(check_token(key, "--direct-key"))
    except ValueError as error:
        raise CannotCheck(str(error)) from None
    if is_in_clear(run.args.direct_url):
        run.note(f"warning: the direct key goes to {run.args.direct_url} unencrypted: use https")
    return key


# --- judge


def check_requests(level: Level, found: Records, allowed: float) -> Check:
    """Every request of the level succeeded, but for the share that --slo error_rate allows."""
    kept = [record for record in found if not record["excluded"]]
    bad = [record for record in kept if record["error"]]
    evidence = {"planned": level.load.planned, "sent": len(found), "failed": len(bad)}
    status, detail = verdict(level, kept, bad, allowed)
    return Check("requests", status, detail, evidence, essential=status is Status.SKIP)


def verdict(level: Level, kept: Records, bad: Records, allowed: float) -> tuple[Status, str]:
    """The status of a level's requests, and the words for it."""
    limited = level.stop_for(Cause.RATE_LIMIT)
    if not kept and not limited:
        return Status.FAIL, f"no request was answered: {warmup_words(level)}"
    told = f"{len(bad)} of {len(kept)} failed"
    # a level in which every request fails never passes
    if bad and (len(bad) == len(kept) or len(bad) / len(kept) > allowed):
        stopped = f"; stopped: {level.stopped}" if level.stopped else ""
        return Status.FAIL, f"{told}: {error_words(bad)}{stopped}"
    if limited:
        return Status.SKIP, limit_words(level, len(kept))
    if bad:
        return Status.WARN, f"{told}, within the {allowed:.2%} allowed: {error_words(bad)}"
    detail = f"{len(kept)} of {level.load.planned or len(kept)} succeeded"
    if not all(answer.is_ok for answer in level.warmup):
        return Status.WARN, f"{detail}, but {warmup_words(level)}"
    return Status.PASS, detail


def allowed_errors(objectives: Sequence[metrics.Objective]) -> float:
    """The share of requests that may fail: --slo error_rate, else none."""
    return min((each.limit for each in objectives if each.name == "error_rate"), default=0.0)


def limit_words(level: Level, count: int) -> str:
    """The line for a level that the rate limit ended, or did not let begin."""
    if not level.rate_limited:
        return f"not run: {Cause.RATE_LIMIT.value}"
    planned = level.load.planned
    of_all = "" if planned is None else f" of {planned}"
    return f"stopped after {count}{of_all} requests: {rate_limit_words(level.rate_limited)}"


def error_words(bad: Records) -> str:
    """Each kind of error once, with its count and the first words for it."""
    counts = Counter(record["error"] for record in bad)
    texts = {record["error"]: record["error_text"] for record in reversed(bad)}
    return "; ".join(f"{kind} x{count} ({texts[kind]})" for kind, count in counts.most_common())


def warmup_words(level: Level) -> str:
    """What went wrong before the level's own requests."""
    if outcomes := [answer.outcome() for answer in level.warmup if not answer.is_ok]:
        of_all = f"{len(outcomes)} of {len(level.warmup)}"
        return f"{of_all} warm-up requests failed: {counted(outcomes)}"
    return str(level.stopped) if level.stopped else "nothing was sent"


def succeeded(found: Records) -> Records:
    return [record for record in found if record["error"] is None]


def check_stream(found: Records) -> Check | None:
    """The streams of the successful requests were well-formed."""
    good = succeeded(found)
    if not good:
        return None
    complaints = [text for record in good for text in record["complaints"]]
    evidence = {"streams": len(good), "complaints": len(complaints)}
    if complaints:
        return warned("stream", counted(complaints), evidence)
    return passed("stream", f"{len(good)} well-formed, each with a [DONE]", evidence)


def check_tokens(usage: bool, found: Records) -> Check | None:
    """The token counts can be trusted: their sources agree."""
    good = succeeded(found)
    if not good:
        return None
    sources = Counter(record["token_source"] for record in good)
    named = " and ".join(name for name, _ in sources.most_common())
    if not usage:
        named += " (the server refuses stream_options)"
    total = int(sum(record["output_tokens"] for record in good))
    evidence = {"output_tokens": total, "sources": dict(sources)}
    if problems := token_problems(good):
        return warned("tokens", f"from {named}; {'; '.join(problems)}", evidence)
    return passed("tokens", f"{total} output tokens, from {named}", evidence)


def token_problems(good: Records) -> list[str]:
    """What makes the count doubtful, each with an example."""
    problems = []
    counted_twice = [r for r in good if r["server_predicted_tokens"] is not None]
    if differing := [
        r for r in counted_twice if r["server_predicted_tokens"] != r["output_tokens"]
    ]:
        usage, timings = differing[0]["output_tokens"], differing[0]["server_predicted_tokens"]
        example = f"as {usage} and {timings} tokens"
        problems.append(
            f"usage and timings disagree in {plural(len(differing), 'answer')}, {example}"
        )
    if many := [r for r in good if r["output_events"] > r["output_tokens"]]:
        example = f"as {many[0]['output_events']} events for {many[0]['output_tokens']} tokens"
        problems.append(f"more events than tokens in {plural(len(many), 'answer')}, {example}")
    if uncounted := sum(record["token_source"] == "events" for record in good):
        problems.append(f"the server gives no count: events were counted in {uncounted} answers")
    return problems


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
        detail = f"client-bound: {detail}; use a faster client, or one that is less busy"
        return warned("client", detail, evidence)
    return passed("client", detail, evidence)


def check_objective(
    wanted: metrics.Objective, figures: dict[str, Any], found: Records, limited: bool = False
) -> Check:
    """One --slo. It is also missed when its figure was not measured, unless the rate limit of the
    key (`limited`) left nothing to measure: then it is undecided."""
    bound = f"{'at most' if wanted.upper else 'at least'} {wanted.limit:g} {wanted.unit}".strip()
    value = reached(wanted, figures, found)
    evidence = {"value": value, "limit": wanted.limit, "unit": wanted.unit or "share"}
    name = f"slo:{wanted.name}"
    if value is None:
        edge = (figures.get("gateway") or {}).get("net_not_separable")
        reason = f": not separable, {edge}" if "_net_" in wanted.name and edge else ""
        status = Status.SKIP if limited else Status.FAIL
        detail = f"not measured in this run{reason} (expected {bound})"
        return Check(name, status, detail, evidence, essential=limited)
    status = Status.PASS if is_kept(wanted, value) else Status.FAIL
    if wanted.per_request:
        evidence["unit"] = "share of requests"
        return Check(name, status, f"{value:.1%} of the requests kept {bound}", evidence)
    detail = f"{value:g} {wanted.unit}".strip() + f", expected {bound}"
    return Check(name, status, detail, evidence)


def reached(wanted: metrics.Objective, figures: dict[str, Any], found: Records) -> float | None:
    """The figure that an objective is about, or the share of requests that kept its bound."""
    if not wanted.per_request:
        return wanted.value(figures)
    good = succeeded(found)
    return sum(wanted.holds(r[wanted.key]) for r in good) / len(good) if good else None


def is_kept(wanted: metrics.Objective, value: float | None) -> bool:
    return value == 1 if wanted.per_request else wanted.holds(value)


def judge_level(
    session: Session, level: Level, found: Records, figures: dict[str, Any]
) -> list[Check]:
    objectives = session.run.args.slo
    limited = level.stop_for(Cause.RATE_LIMIT)
    checks = [
        check_requests(level, found, allowed_errors(objectives)),
        check_stream(found),
        check_tokens(session.usage, found),
        check_client(figures),
        *(check_objective(each, figures, found, limited) for each in objectives),
    ]
    return [check for check in checks if check]


def judge_search(session: Session, search: capacity.Search, found: Records) -> list[Check]:
    """The checks that are about all levels of a search together."""
    bound = [each for each in search.trials if each.figures["client"]["client_bound"]]
    client = None
    for trial in (bound or search.trials)[-1:]:
        client = check_client(trial.figures)
        if client:
            client.detail = f"at {trial.level:g}: {client.detail}"
    checks = [check_stream(found), check_tokens(session.usage, found), client]
    return [*(check for check in checks if check), capacity.check_capacity(search)]


def judge_pairs(
    through: gateway_cost.Side, past: gateway_cost.Side, document: Document
) -> list[Check]:
    figures = document.metrics
    here, there = gateway_cost.split(document.requests)
    side = figures["through_gateway"] | {key: figures[key] for key in ("client", "gateway")}
    bad = [record for record in there if record["error"]]
    cost = gateway_cost.check_cost(figures["cost"], len(there), bad, past.level.stopped)
    return [*judge_level(through.session, through.level, here, side), cost]


# --- show


def level_lines(figures: dict[str, Any]) -> list[str]:
    """The block of a level: a table of summaries, then what is one figure or a word."""
    at = f"concurrency {figures['concurrency']}"
    if "rate_per_s" in figures:
        at = f"{figures['rate_per_s']:g} requests/s"
    count = f"{figures['succeeded']} of {figures['requests']}"
    return [
        f"Inference at {at}: {count} requests succeeded",
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
    share = figures["error_rate"]
    entries = {
        "output throughput": f"{figure(figures['output_tokens_per_s'])} tok/s",
        "request throughput": f"{figure(figures['requests_per_s'])} requests/s",
        "goodput": f"{figure(figures['goodput_per_s'])} requests/s" + goodput_share(figures),
        "error rate": ("-" if share is None else f"{share:.1%}") + errors_in(figures),
        "wall time": f"{figure(figures['wall_s'])} s",
        "load": load_words(figures),
        "prompt": prompt_words(figures),
        "tokens counted by": token_sources(figures["token_sources"]),
        "clock": figures["client"]["clock"],
    }
    if figures["goodput_per_s"] is None:
        del entries["goodput"]
    return [line for label, text in entries.items() for line in table.entry(label, text)]


def load_words(figures: dict[str, Any]) -> str:
    if "rate_per_s" not in figures:
        return f"{figures['load_model']}, {figures['concurrency']} in flight"
    most, ceiling = figures.get("most_in_flight", 0), figures["concurrency"]
    arrivals = f"{figures['arrivals']} arrivals, {figures['rate_per_s']:g} per second"
    in_flight = f"at most {most} in flight"
    if most == ceiling:
        in_flight += " (the limit: some requests had to wait)"
    return f"{figures['load_model']}, {arrivals}, {in_flight}; times count from when each was due"


def prompt_words(figures: dict[str, Any]) -> str:
    words = "unique each time: prefill is measured, not a prompt cache"
    if figures["prompt"] == "same":
        words = "the same each time: a prompt cache may save the prefill"
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


# --- run: each part is measured, judged and shown before the next


def finish(run: Run, document: Document, lines: Sequence[str], checks: Sequence[Check]) -> None:
    """Add the checks, then show the figures and those checks that --only and --skip leave in."""
    document.add(*checks)
    for line in [*lines, ""]:
        run.say(line)
    for check in document.checks:
        if check in checks:
            run.say_check(check)
    run.say()
    document.finish()


def check_gateway(session: Session, paths: Sequence[str], document: Document) -> list[Check]:
    probes = probe_gateway(session, paths, document)
    figures = document.metrics["gateway"]
    checks = [gateway_probes.check_probes(path, probes[path], figures) for path in paths]
    objectives = session.run.args.slo if document.main else []
    bounds = [check_objective(each, document.metrics, []) for each in objectives]
    counts = {path: len(answers) for path, answers in probes.items()}
    lines = gateway_probes.gateway_lines(figures, counts)
    finish(session.run, document, lines, checks + bounds)
    return checks


def check_level(session: Session, load: Load, document: Document, probed: Any) -> None:
    level = Level(load)
    found = send_level(session, level, probed, document)
    checks = judge_level(session, level, found, document.metrics)
    finish(session.run, document, level_lines(document.metrics), checks)


def search_capacity(session: Session, first: Load, document: Document, probed: Any) -> None:
    """Raise the level until an objective is broken."""
    run, args = session.run, session.run.args
    start = first.rate_per_s or first.concurrency
    search = capacity.Search(start, args.max_level, whole=not first.is_open)
    for line in capacity.forecast(
        search, level_plan.level_size(first), args.max_time, args.timeout
    ):
        run.note(line)
    run.say(capacity.head(search))
    end_s = time.perf_counter() + args.max_time
    try:
        while not search.ended and (number := search.next_level()) is not None:
            level = Level(level_plan.load_at(args, first, number), end_s)
            try_level(session, level, search, document, probed)
    finally:
        document.metrics = search.metrics()
    finish(run, document, [], judge_search(session, search, document.requests))


def try_level(
    session: Session, level: Level, search: capacity.Search, document: Document, probed: Any
) -> None:
    found = send_level(session, level, probed, document)
    figures = document.metrics
    if level.stop_for(Cause.RATE_LIMIT):
        search.limited, search.ended = True, limit_words(level, len(found))
    elif level.stopped:
        search.ended = str(level.stopped)
    if not (level.stop_for(Cause.RATE_LIMIT) or level.stop_for(Cause.TIME)):
        broken, kept = objectives_at(session, level, found, figures)
        search.trials.append(capacity.Trial(level.number, figures, broken, kept))
        for line in capacity.trial_lines(search.trials[-1]):
            session.run.say(line)


def objectives_at(
    session: Session, level: Level, found: Records, figures: dict[str, Any]
) -> tuple[dict[str, str], dict[str, str]]:
    """The objectives that a level breaks, and those that it keeps, in words."""
    objectives = session.run.args.slo
    requests = check_requests(level, found, allowed_errors(objectives))
    broken = {"requests": requests.detail} if requests.status is Status.FAIL else {}
    kept: dict[str, str] = {}
    for each in objectives:
        value = reached(each, figures, found)
        words = capacity.figure_words(each, value)
        (kept if is_kept(each, value) else broken)[each.name] = words
    return broken, kept


def compare(session: Session, load: Load, document: Document, probed: Any) -> None:
    run = session.run
    with open_wire(run, direct_key(run), url=run.args.direct_url) as wire:
        through, past = send_pairs(session, wire, load, probed, document)
    lines = gateway_cost.lines(through, past, document.metrics)
    finish(run, document, lines, judge_pairs(through, past, document))


def measure(run: Run) -> None:
    args, plan = run.args, run.prepared
    # begun before the first contact: if that fails, no older result can be taken for this one
    before = run.document("gateway_overhead", main=not plan.loads) if plan.probes else None
    documents = [run.document(name) for name in level_plan.result_names(args, plan.loads)]
    try:
        raise_descriptor_limit(level_plan.most_in_flight(args, plan.loads))
    except OSError as error:
        raise CannotCheck(str(error.strerror)) from None
    with open_wire(run, run.token()) as wire:
        session = first_contact(run, wire, plan)
        run.target["model"] = session.model if plan.loads else None
        checks = check_gateway(session, plan.probes, before) if before else []
        probed = before.metrics["gateway"] if before else None
        check: Callable[[Session, Load, Document, Any], None] = check_level
        if args.find_capacity:
            check = search_capacity
        elif args.direct_url:
            check = compare
        for load, document in zip(plan.loads, documents, strict=True):
            document.start()
            document.add(*checks)
            check(session, load, document, probed)


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare=level_plan.make_plan)


if __name__ == "__main__":
    sys.exit(main())
