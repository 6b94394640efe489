#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""How fast is the deployment, and does every request succeed?

Measures the gateway's overhead (/ping, /health) and streamed chat completions at one or several
levels: a number of requests in flight or, with --rate, a number of requests per second. Times are
taken at the wire, and tokens are the server's own count. Every prompt begins with a line of its
own, so that prefill is measured and not the prompt cache.

PASS: every probe and every request succeeded, and every --slo was kept.
Cost: --requests probes of each endpoint (at least 50 with a level; one or two where a probe is slow
or costs inference), and for each level --requests answers of up to --max-tokens, after a warm-up
answer per slot. It wakes a sleeping worker. --find-capacity overloads the deployment on purpose.

Examples:
    # the proxy alone, without touching the model
    python3 benchmark.py --url https://host:8000 --gateway-only --requests 50
    # the baseline for a release: one user, then four and eight at once
    python3 benchmark.py --url https://host:8000 --api-key sk-key --concurrency 1 4 8
    # for a pipeline: exit 1 if half of the first tokens take longer than half a second
    python3 benchmark.py --url https://host:8000 --slo ttft_p50=500ms --slo error_rate=0
    # users who do not wait for each other: five new requests per second for a minute
    python3 benchmark.py --url https://host:8000 --rate 5 --duration 60
    # as many requests as it takes to know the medians of TTFT and decode rate to 5 %
    python3 benchmark.py --url https://host:8000 --concurrency 4 --precision 5%
    # how many users at once keep the first token within half a second
    python3 benchmark.py --url https://host:8000 --find-capacity --slo ttft_p95=500ms
    # what the gateway costs, compared with the inference server behind it
    python3 benchmark.py --url https://host:8000 --direct-url http://host:8080
    # print the document that is saved, for jq
    python3 benchmark.py --url https://host:8000 --output json > results/inference_c1.json
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
from common import CannotCheck, Check, Document, NoAccess, Run, Status
from livecheck.core.address import read_address
from livecheck.core.checks import passed, warned, with_answers
from livecheck.core.credentials import check_token
from livecheck.core.later import later
from livecheck.core.options import option_type, positive_number
from livecheck.core.settings import is_in_clear
from livecheck.core.text import counted
from livecheck.load import (
    capacity,
    client_delay,
    depth,
    drift,
    embeddings,
    gateway_probes,
    level_plan,
    precision,
    self_check,
    server_metrics,
    turns,
)
from livecheck.load.arrivals import CHAT, CONSTANT, EMBEDDINGS, POISSON, RESPONSES, Load
from livecheck.load.client_delay import client_metrics
from livecheck.load.judging import (
    Fair,
    Records,
    allowed_errors,
    check_objective,
    check_pacing,
    check_stream,
    check_tokens,
    error_words,
    is_kept,
    reached,
    shown_nothing,
    unknown_words,
    values_of,
)
from livecheck.load.level import Level, Session, cannot_recover, measure_level
from livecheck.load.process_count import add_option, measured_by
from livecheck.load.steady import steady_metrics, window_of
from livecheck.wire import chat, client_bound, metrics, silence
from livecheck.wire.access import no_access
from livecheck.wire.asking import Cause, open_wire, rate_limit_words
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.prefill import prefill_metrics
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import Wire, raise_descriptor_limit

with later():  # after the first request, or not at all
    from livecheck.load import gateway_cost, level_text, plans

CHECKS = (
    *("ping", "health", "requests", "stream", "pacing", "tokens"),
    *("client", drift.NAME, "cost", "capacity", "slo", silence.NAME),
)
MAX_PER_S = 10_000
PROMPT = "Write a short poem about the sea"


def plan_of(args: Any) -> Any:
    return plans.plan_benchmark(args)


def build_parser() -> common.Parser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_of)
    group = parser.add_argument_group("what to measure")
    add = group.add_argument
    number, count = common.whole_number(1), common.whole_number(0)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
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
    # as text: argparse takes a given 10 for the default, and lets --duration stand beside it
    length("--requests", type=number, default="10", metavar="N", help=requests)
    duration = "how long each level sends, instead of --requests"
    length("--duration", type=common.seconds, metavar="SECONDS", help=duration)
    share = option_type(precision.parse_share)
    length("--precision", type=share, metavar="SHARE", help=precision.HELP)
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
    add("--edge-idle", type=common.seconds, metavar="SECONDS", help=silence.OPTION_HELP)
    add_option(add)
    server_metrics.add_option(add, option_type)
    add_load_options(parser)
    add_work_options(parser)
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
    longest = "stop the search, or a level of --precision, after this time (default: "
    longest += f"{level_plan.SEARCH_S} for the search, {precision.LONGEST_S} for a level)"
    add("--max-time", type=common.seconds, metavar="SECONDS", help=longest)
    straight = "inference server, to measure what the gateway costs"
    add("--direct-url", type=option_type(read_address), metavar="URL", help=straight)
    add("--direct-key", metavar="KEY", help="key for --direct-url (or INFERENCE_DIRECT_KEY)")
    own = "measure first, on loopback, how wrong this program's own figures are"
    add("--self-check", action="store_true", help=own)


def add_work_options(parser: common.Parser) -> None:
    add = parser.add_argument_group("other work for the model").add_argument
    tokens = "tokens of the prompt, one or several: how fast is it read?"
    size = common.whole_number(depth.LEAST, depth.MOST)
    add("--depth", type=size, nargs="+", metavar="N", help=tokens)
    talks = "conversations of N turns: how fast is a cached prompt answered?"
    which = "endpoint to measure (default %(default)s)"
    add("--endpoint", choices=(CHAT, RESPONSES, EMBEDDINGS), default=CHAT, help=which)
    inputs = "inputs of each request for embeddings, one or several (default 1)"
    batch = common.whole_number(1, embeddings.MOST_INPUTS)
    add("--batch", type=batch, nargs="+", metavar="N", help=inputs)
    add("--turns", type=common.whole_number(2, turns.MOST), metavar="N", help=talks)


# --- measure


def check_self(run: Run, loads: Sequence[Load]) -> dict[int, dict[str, Any]]:
    """How wrong the figures of this program are, at the concurrencies of the levels."""
    if not (run.args.self_check and loads):
        return {}
    numbers = self_check.concurrencies(loads, run.args.max_level)
    is_tls = run.url.startswith("https:")
    found = self_check.measure(numbers, is_tls, run.args.processes, run.note)
    if run.args.find_capacity or run.args.direct_url:  # they show no block of a level
        for line in self_check.lines(found):
            run.say(line)
    return found


def first_contact(run: Run, wire: Wire, scope: level_plan.Scope, starvation: Starvation) -> Session:
    """One request to each endpoint, all at once: a silent server costs one timeout."""
    paths = [*scope.probes, *([chat.MODELS] if scope.loads else [])]
    more = [gateway_probes.METRICS] if scope.probes else []  # whether tokens are counted
    answers = chat.first_contact(run, wire, [chat.get(path) for path in [*paths, *more]])
    contact, answers = {answer.path: answer for answer in answers}, answers[: len(paths)]
    listing, is_other = contact.get(chat.MODELS), run.args.endpoint == EMBEDDINGS
    own = embeddings.model_for(listing) if is_other and not run.args.model else None
    model = own or model_to_ask(run, listing)
    edge = gateway_probes.edge_sign(run.url, answers)
    session = Session(run, wire, model, scope.prompts, starvation, contact, edge)
    session.stopped = cannot_recover(answers)
    if scope.loads and not run.args.direct_url:
        session.metrics_source = server_metrics.find_source(run, [wire.target])
    return session


def probe_gateway(
    session: Session, paths: Sequence[str], document: Document
) -> list[gateway_probes.Probes]:
    """Probe each endpoint; fills the document, also when that is interrupted."""
    probes = [gateway_probes.Probes(path, [session.contact[path]]) for path in paths]
    try:
        for endpoint in probes:
            gateway_probes.probe(session, endpoint)
    finally:
        found = {endpoint.path: endpoint.answers for endpoint in probes}
        document.metrics = {"gateway": gateway_probes.gateway_metrics(found, session.edge)}
        session.fair_probes = gateway_probes.fair_metrics(session, found)
        each = [answer for answers in found.values() for answer in answers]
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
            (session.measure or measure_level)(session, level)
    finally:
        session.stopped = level.stopped
        # of many answers it takes seconds, and nothing of them is to be lost
        interruption.INTERRUPTION.postpone()
        try:
            found = level.records(session.starvation, session.wire.clock)
            # else prompts may differ in length, so in their prefill
            if len(session.prompts) == 1 and not level.load.turns:
                silence.tell_phases(found)
            if search:
                found = [record.copy(level=level.number) for record in found]
            document.requests = [*(document.requests if search else []), *found]
            document.metrics = level_figures(session, level, found) | {"gateway": probed}
            document.metrics |= server_metrics.of_level(level.server, level.begun_ns)
        finally:
            interruption.INTERRUPTION.resume()
    if level.refused and (text := no_access(session.run, level.refused)):
        raise NoAccess(text)
    if level.stop_for(Cause.ENDPOINT):
        raise CannotCheck(str(level.stopped))
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
    if load.endpoint != CHAT:
        figures["endpoint"] = load.endpoint
    if load.depth:
        figures |= {"depth_tokens": load.depth, **prefill_metrics(found)}
    if load.turns:
        figures |= turns.turn_metrics(found, load.turns)
    if args.prompt_file:
        figures["prompts"] = len(session.prompts)
    if load.is_open:
        figures |= {"load_model": "open loop", "rate_per_s": load.rate_per_s}
        figures |= {"arrivals": load.arrivals, "seed": load.seed}
    if load.batch:
        figures = embeddings.figures_of(figures, load)
        timed = figures | {"ttft_ms": figures["e2e_ms"]}  # the whole answer comes at once
        figures["client"] = client_metrics(
            level.all_answers(), session.wire.clock, timed, session.starvation, level.client
        )
        return figures
    figures |= level.precision_metrics()
    window = window_of(found, load.concurrency, load.is_open)
    sent = (load.concurrency, load.is_open, len(session.prompts), level.client.processes)
    trend = drift.trend_metrics(found, window, *sent)
    figures["steady"] = {**steady_metrics(found, window, figures), "trend": trend}
    figures["client"] = client_metrics(
        level.all_answers(), session.wire.clock, figures, session.starvation, level.client
    ) | self_check.for_level(session.self_checks, load, figures.get("most_in_flight"))
    return figures


# through the gateway, and straight to the inference server


def send_pairs(
    session: Session, wire: Wire, load: Load, probed: Any, document: Document
) -> tuple[gateway_cost.Side, gateway_cost.Side]:
    """Measure pairs; fills the document, also when that is interrupted."""
    run, args = session.run, session.run.args
    model = gateway_cost.first_contact(run, wire)
    model = args.model or model or session.model
    other = Session(run, wire, model, session.prompts, session.starvation, is_direct=True)
    through = gateway_cost.Side(session, Level(load))
    past = gateway_cost.Side(other, Level(load))
    through.level.stopped = session.stopped
    try:
        gateway_cost.measure_pairs(through, past, args.warmup)
    finally:
        document.requests, document.metrics = pair_figures(through, past)
        document.metrics |= {"gateway": probed}
        document.metrics |= server_metrics.of_level(through.level.server, through.level.begun_ns)
    if through.level.refused and (text := no_access(run, through.level.refused)):
        raise NoAccess(text)
    if past.level.stopped and not document.requests:
        raise CannotCheck(gateway_cost.nothing_to_compare(wire.target, past.level))
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
        "client": client_metrics(
            answers, through.session.wire.clock, figures, through.session.starvation
        )
        | self_check.for_level(through.session.self_checks, through.level.load),
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
    url = run.args.direct_url.root
    if is_in_clear(url):
        run.note(f"warning: the direct key goes to {url} unencrypted: use https")
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
    if text := depth.refusal(level.load.depth, kept) or turns.refusal(kept):
        return Status.SKIP, text
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
    if thoughts := [record for record in kept if record.get("thoughts_only")]:
        detail += f"; in {len(thoughts)} of them {thoughts[0]['thoughts_only']}"
    if len(silent := shown_nothing(kept)) == len(kept):
        return Status.SKIP, f"no first token to measure: {detail}"
    if silent:
        return Status.WARN, detail
    if not all(answer.is_ok for answer in level.warmup):
        return Status.WARN, f"{detail}, but {warmup_words(level)}"
    return Status.PASS, detail


def limit_words(level: Level, count: int) -> str:
    """The line for a level that the rate limit ended, or did not let begin."""
    if not level.rate_limited:
        return f"not run: {Cause.RATE_LIMIT.value}"
    planned = level.load.planned
    of_all = "" if planned is None else f" of {planned}"
    return f"stopped after {count}{of_all} requests: {rate_limit_words(level.rate_limited)}"


def warmup_words(level: Level) -> str:
    """What went wrong before the level's own requests."""
    if outcomes := [answer.outcome() for answer in level.warmup if not answer.is_ok]:
        of_all = f"{len(outcomes)} of {len(level.warmup)}"
        return f"{of_all} warm-up requests failed: {counted(outcomes)}"
    return str(level.stopped) if level.stopped else "nothing was sent"


def check_client(figures: dict[str, Any]) -> Check | None:
    """This program kept up with the server."""
    client = figures["client"]
    if not figures["succeeded"]:
        return None
    detail, evidence = client_delay.told_of(client, client["client_bound"])
    if (late := client["send_lag_ms"]["p99"]) is not None:
        evidence["send_lag_p99_ms"] = late
        detail += f", send lag p99 {late:.2f} ms"
    if client["client_bound"]:
        detail = f"client-bound: {detail}; {client_bound.advice(figures)}"
        return warned("client", detail, evidence)
    return passed("client", detail, evidence)


def fair_figures(session: Session, found: Records, figures: dict[str, Any]) -> Fair:
    """The figures and records of a level without this program's own delay."""
    fair, own = client_delay.fair_figures(found, figures, session.run.args.slo)
    return fair | {"gateway": session.fair_probes}, own


def judge_level(
    session: Session, level: Level, found: Records, figures: dict[str, Any]
) -> list[Check]:
    objectives, wanted = session.run.args.slo, session.run.args.only or ()
    limited = level.stop_for(Cause.RATE_LIMIT)
    fair = functools.cache(lambda: fair_figures(session, found, figures))
    bounds = [check_objective(each, figures, found, limited, fair) for each in objectives]
    requests = check_requests(level, found, allowed_errors(objectives))
    if level.load.batch:
        checks = [requests, check_client(figures), *bounds]
        return with_answers((check for check in checks if check), level.behind)
    checks = [
        requests,
        check_stream(found, "[DONE]" if level.load.endpoint == CHAT else "response.completed"),
        check_pacing(found, figures["client"]["client_bound"]),
        check_tokens(session.usage, found),
        check_client(figures),
        drift.check_steady(figures, drift.NAME in wanted),
        *bounds,
        check_edge(session, found, figures["client"]["client_bound"]),
    ]
    return with_answers((check for check in checks if check), level.behind)


def check_edge(session: Session, found: Records, client_bound: bool) -> Check | None:
    """The edge of --edge-idle would have cut no stream."""
    patience_s = session.run.args.edge_idle
    if patience_s is None:
        return None
    seen = silence.lost_words(found, patience_s)
    return silence.check_edge(found, patience_s, seen, client_bound)


def judge_search(session: Session, search: capacity.Search, found: Records) -> list[Check]:
    """The checks that are about all levels of a search together."""
    bound = [each for each in search.trials if each.figures["client"]["client_bound"]]
    client = None
    for trial in (bound or search.trials)[-1:]:
        client = check_client(trial.figures)
        if client:
            client.detail = f"at {trial.level:g}: {client.detail}"
    checks = [check_stream(found), check_pacing(found, bool(bound))]
    checks += [check_tokens(session.usage, found), client]
    checks += [check_edge(session, found, bool(bound))]
    return [*(check for check in checks if check), capacity.check_capacity(search)]


def judge_pairs(
    through: gateway_cost.Side, past: gateway_cost.Side, document: Document
) -> list[Check]:
    figures = document.metrics
    here, there = gateway_cost.split(document.requests)
    side = figures["through_gateway"] | {key: figures[key] for key in ("client", "gateway")}
    bad = [record for record in there if record["error"]]
    doubt = gateway_cost.proxy_on_one_way(through, past)
    cost = gateway_cost.check_cost(figures["cost"], len(there), bad, past.level.stopped, doubt)
    return [*judge_level(through.session, through.level, here, side), cost]


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
    stopped, gateway = session.stopped, gateway_probes.guides_gateway(session.contact)
    checks = [gateway_probes.check_probes(each, figures, gateway, stopped) for each in probes]
    objectives = session.run.args.slo if document.main else []
    limited = stopped is not None and stopped.cause is Cause.RATE_LIMIT
    bounds = [check_objective(each, document.metrics, [], limited) for each in objectives]
    counts = {each.path: len(each.answers) for each in probes}
    lines = gateway_probes.gateway_lines(figures, counts)
    # Most servers have neither endpoint: their levels decide, if there are any.
    is_missing = all(check.evidence.get("missing") for check in checks)
    document.is_incidental = is_missing and not session.run.args.gateway_only
    if is_missing and session.run.args.gateway_only:
        leave_undecided(checks)
    finish(session.run, document, lines, checks + bounds)
    return checks


def leave_undecided(checks: Sequence[Check]) -> None:
    """Nothing was probed, so that a doubt about what answers decides nothing either."""
    for check in checks:
        check.status = Status.SKIP if check.status is Status.WARN else check.status


def check_level(session: Session, load: Load, document: Document, probed: Any) -> None:
    level = Level(load)
    found = send_level(session, level, probed, document)
    checks = judge_level(session, level, found, document.metrics)
    show = embeddings.lines if load.batch else level_text.level_lines
    finish(session.run, document, show(document.metrics), checks)


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
    finish(run, document, [], judge_search(session, search, list(document.requests)))


def try_level(
    session: Session, level: Level, search: capacity.Search, document: Document, probed: Any
) -> None:
    run, found = session.run, send_level(session, level, probed, document)
    figures = document.metrics
    if level.stop_for(Cause.RATE_LIMIT):
        search.is_undecided, search.ended = True, limit_words(level, len(found))
    elif level.stopped:
        search.ended = str(level.stopped)
    elif found and len(silent := shown_nothing(found)) == len(found):
        search.ended = silent[0]["thoughts_only"]
        return
    if not (level.stop_for(Cause.RATE_LIMIT) or level.stop_for(Cause.TIME)):
        broken, kept = objectives_at(session, level, found, figures)
        why = own_doing_at(session, broken, found, figures)
        if not broken and client_delay.asked_for_less(figures):
            why = client_bound.words(figures)
        if why and figures["client"]["processes_needed"]:
            search.is_undecided, search.ended = True, f"at {level.number:g} {why}"
            return
        fair = fair_figures(session, found, figures)
        is_fair = broken and objectives_at(session, level, found, *fair)[0]
        if why or (broken and not is_fair):
            search.repeat(level.number)
            if not search.ended:
                run.note(f"at {level.number:g} this program could not run: it is tried again")
            others = [each for each in document.requests if each["level"] != level.number]
            document.requests = others  # its own say nothing
            return
        if not broken and (why := unknown_at(session, found, figures)):
            search.is_undecided, search.ended = True, f"at {level.number:g} {why}"
            return
        search.trials.append(capacity.Trial(level.number, figures, broken, kept))
        for line in capacity.trial_lines(search.trials[-1]):
            run.say(line)


def objectives_at(
    session: Session,
    level: Level,
    found: Records,
    figures: dict[str, Any],
    own: Records | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """The objectives that a level breaks, and those that it keeps, in words; those that it does not
    tell are in neither. `own`: the records that the figures are made of, where these are not the
    ones `found`."""
    objectives = session.run.args.slo
    requests = check_requests(level, found, allowed_errors(objectives))
    broken = {"requests": requests.detail} if requests.status is Status.FAIL else {}
    kept: dict[str, str] = {}
    for each in objectives:
        records = found if own is None else own
        value = reached(each, figures, records)
        if unknown_words(each, figures, records, value):
            continue
        words = capacity.figure_words(each, value)
        (kept if is_kept(each, value) else broken)[each.name] = words
    return broken, kept


def own_doing_at(
    session: Session,
    broken: dict[str, str],
    found: Records,
    figures: dict[str, Any],
) -> str | None:
    """Why what a level breaks may be this program's own doing; None when it is the server's."""
    for each in session.run.args.slo:
        value = reached(each, figures, found)
        if each.name in broken and not client_bound.may_be_own_doing(
            each, figures, value, values_of(each, found)
        ):
            return None
    if not broken or "requests" in broken:
        return None
    return client_bound.words(figures) or None


def unknown_at(session: Session, found: Records, figures: dict[str, Any]) -> str | None:
    """Why a level does not tell whether it keeps an objective; None when it tells all of them."""
    for each in session.run.args.slo:
        if why := unknown_words(each, figures, found, reached(each, figures, found)):
            return f"it cannot be told whether {each} is kept: {why}"
    return None


def compare(session: Session, load: Load, document: Document, probed: Any) -> None:
    run = session.run
    with open_wire(run, direct_key(run), url=run.args.direct_url) as wire:
        targets = [wire.target, session.wire.target]
        session.metrics_source = server_metrics.find_source(run, targets)
        through, past = send_pairs(session, wire, load, probed, document)
    lines = gateway_cost.lines(through, past, document.metrics)
    finish(run, document, lines, judge_pairs(through, past, document))


def measure(run: Run) -> None:
    args, scope = run.args, run.prepared
    # begun before the first contact: if that fails, no older result can be taken for this one
    before = run.document("gateway_overhead", main=not scope.loads) if scope.probes else None
    documents = [run.document(name) for name in level_plan.result_names(args, scope.loads)]
    try:
        raise_descriptor_limit(level_plan.most_in_flight(args, scope.loads))
    except OSError as error:
        raise CannotCheck(str(error.strerror)) from None
    token, count = run.token(), level_plan.processes_kept_ready(args, scope)
    with (
        measured_by(run, token, scope.prompts, count) as measure_one,
        open_wire(run, token) as wire,
        Starvation() as starvation,
    ):
        session = first_contact(run, wire, scope, starvation)
        session.measure = measure_one
        if session.stopped is None:  # so that a closed door is told first
            session.self_checks = check_self(run, scope.loads)
        run.target["model"] = session.model if scope.loads else None
        checks = check_gateway(session, scope.probes, before) if before else []
        probed = before.metrics["gateway"] if before else None
        check: Callable[[Session, Load, Document, Any], None] = check_level
        if args.find_capacity:
            check = search_capacity
        elif args.direct_url:
            check = compare
        found = depth.count_prompts(session, args.depth) if args.depth and scope.loads else None
        session.deep = None if isinstance(found, Check) else found
        for load, document in zip(scope.loads, documents, strict=True):
            document.start()
            document.add(*checks)
            if isinstance(found, Check):
                finish(run, document, [], [found])
            else:
                check(session, load, document, probed)
        for line in depth.table_lines(each.metrics for each in documents):
            run.say(line)


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare=level_plan.find_scope)


if __name__ == "__main__":
    interruption.end_with(main)
