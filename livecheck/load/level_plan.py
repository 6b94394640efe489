"""What a run of benchmark.py measures: its options, checked against each other, become levels."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from livecheck.core.credentials import check_token
from livecheck.core.options import is_wanted
from livecheck.load import capacity, drift, embeddings, gateway_cost, precision, self_check
from livecheck.load.arrivals import (
    CHAT,
    EMBEDDINGS,
    POISSON,
    SEED,
    Load,
    Prompt,
    question,
    read_prompts,
)
from livecheck.load.gateway_probes import PROBED
from livecheck.load.process_count import check_processes, kept_ready
from livecheck.wire import silence
from livecheck.wire.metrics import SCALARS

MAX_IN_FLIGHT = 1000  # of an open loop: so many that hardly any request has to wait
MOST_REQUESTS = 1_000_000
SEARCH_PER_SLOT = 4  # requests of a level of the search; with fewer, begin and end prevail
SEARCH_ARRIVALS_S = 20  # the same for an open loop: a queue needs time to grow
SEARCH_S = 1800
MAX_TIME = "--max-time needs --find-capacity or --precision"


@dataclass(frozen=True)
class Scope:
    """What this run measures."""

    probes: list[str]  # paths
    loads: list[Load]
    prompts: list[Prompt]


def find_scope(args: argparse.Namespace) -> Scope:
    """What --gateway-only, --inference-only, --only and --skip leave to be measured.

    ValueError: they leave nothing, or options contradict each other, or the prompt file is broken.
    """
    if args.only and args.slo:
        args.only.append("slo")  # a bound on the command line is always checked
    silence.check_option(args)
    check_options(args)
    set_defaults(args)
    check_processes(args, args.concurrency)
    probes = [path for path, check in PROBED.items() if is_wanted(args, check)]
    names = ["requests", "stream", "pacing", "tokens", "client", drift.NAME]
    names += ["capacity"] if args.find_capacity else []
    names += ["cost"] if args.direct_url else []
    streams = any(is_wanted(args, name) for name in names) and not args.gateway_only
    prompts = read_prompts(args.prompt_file) if args.prompt_file else [question(args.prompt)]
    scope = Scope(
        [] if args.inference_only else probes, make_loads(args) if streams else [], prompts
    )
    if args.self_check and not scope.loads:
        raise ValueError("--self-check is about requests to the model, and none is measured")
    if not (scope.probes or scope.loads):
        raise ValueError("--only and --skip leave nothing to measure")
    return scope


def check_options(args: argparse.Namespace) -> None:
    """ValueError: options contradict each other, or one lacks another that it needs."""
    rate, search, compare = args.rate, args.find_capacity, args.direct_url
    levels = rate or args.concurrency or [1]
    # figures that get worse as soon as more requests come than are served
    grows = any(each.name.startswith(("ttft", "ttfa", "e2e")) for each in args.slo)
    throughput = any(each.name in SCALARS and not each.upper for each in args.slo)
    model = rate or search or compare or args.duration or args.prompt_file
    model = model or args.depth or args.turns or args.endpoint != CHAT or args.server_metrics
    # more than can be kept in memory
    too_many = max(rate or [0]) * (args.duration or 0) > MOST_REQUESTS
    most = f"more than {MOST_REQUESTS} requests per level: lower --rate or --duration"
    slots = "--rate takes one --concurrency, the most requests in flight"
    bounds = "--find-capacity cannot use a bound on throughput: low levels break it"
    contradictions = (
        (most, too_many),
        (slots, rate and len(args.concurrency or []) > 1),
        ("--arrivals needs --rate", args.arrivals and not rate),
        ("--seed needs --rate", args.seed is not None and not rate),
        ("--max-level needs --find-capacity", args.max_level and not search),
        (MAX_TIME, args.max_time and not (search or args.precision)),
        ("--find-capacity needs an --slo", search and not args.slo),
        ("a search with --rate needs an --slo on ttft, ttfa or e2e", search and rate and not grows),
        (bounds, search and throughput),
        ("--find-capacity takes one level, the first one", search and len(levels) > 1),
        ("--direct-key needs --direct-url", args.direct_key is not None and not compare),
        ("--direct-url compares at concurrency 1", compare and (rate or search or levels != [1])),
        ("--gateway-only sends no requests to the model", args.gateway_only and model),
        *own_work_contradictions(args),
        *embeddings.contradictions(args),
        ("--endpoint cannot be used with --direct-url", args.endpoint != CHAT and compare),
        *precision_contradictions(args),
        ("--edge-idle is about requests to the model", args.gateway_only and args.edge_idle),
        (self_check.MISSING, args.self_check and not self_check.is_possible()),
    )
    for words, applies in contradictions:
        if applies:
            raise ValueError(words)
    if args.direct_key is not None:
        check_token(args.direct_key, "--direct-key")


def own_work_contradictions(args: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """Each with whether it applies: some options make the prompts themselves, for closed loops."""
    others = ("rate", "find_capacity", "direct_url", "prompt_file", "same_prompt")
    for own in ("depth", "turns"):
        for other in others:
            words = f"--{own} cannot be used with --{other.replace('_', '-')}"
            yield words, getattr(args, own) and getattr(args, other)


def precision_contradictions(args: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """Each with whether it applies: a level ends by its precision only in a closed loop."""
    why = {
        "rate": "use --duration: the arrivals of an open loop are known before it begins",
        "find_capacity": "its levels have the length that the search needs",
        "direct_url": "a comparison has an interval of its own",
        "gateway_only": "it is about requests to the model",
        "turns": "each turn has medians of its own",
    }
    for other, words in why.items():
        name = f"--{other.replace('_', '-')}"
        yield (
            f"--precision cannot be used with {name}: {words}",
            args.precision and getattr(args, other),
        )
    divided = args.precision and (args.processes or 1) > 1
    yield "--processes cannot divide levels of --precision", divided


def set_defaults(args: argparse.Namespace) -> None:
    """Set the defaults that depend on other options, so that they are saved with the results."""
    if args.rate:
        args.arrivals = args.arrivals or POISSON
        args.seed = SEED if args.seed is None else args.seed
    args.concurrency = args.concurrency or [MAX_IN_FLIGHT if args.rate else 1]
    if args.precision:
        args.max_time, args.processes = args.max_time or precision.LONGEST_S, 1
    if args.find_capacity:
        start = (args.rate or args.concurrency)[0]
        args.max_time = args.max_time or SEARCH_S
        args.max_level = args.max_level or start * 2**capacity.DOUBLINGS
        if args.max_level < start or not (args.rate or args.max_level % 1 == 0):
            raise ValueError(f"--max-level: give a level of at least {start:g}")


def make_loads(args: argparse.Namespace) -> list[Load]:
    """The levels, each once."""
    count = None if args.duration else args.requests
    if args.direct_url:
        pairs = count and max(count, gateway_cost.LEAST_PAIRS)
        return [Load(1, pairs, args.duration)]
    same = {"endpoint": args.endpoint}
    if args.endpoint == EMBEDDINGS:
        return [
            Load(level, requests_of(args, level), args.duration, batch=batch, **same)
            for batch in dict.fromkeys(args.batch or [1])
            for level in dict.fromkeys(args.concurrency)
        ]
    if args.rate:
        (most,) = args.concurrency
        rates = {f"{rate:g}": rate for rate in args.rate}.values()
        open_loop = (args.arrivals, args.seed)
        return [Load(most, count, args.duration, rate, *open_loop, **same) for rate in rates]
    longest_s = args.max_time if args.precision else args.duration
    own = {"turns": args.turns, "precision": args.precision, **same}
    return [
        Load(level, requests_of(args, level), longest_s, depth=depth, **own)
        for depth in dict.fromkeys(args.depth or [None])
        for level in dict.fromkeys(args.concurrency)
    ]


def requests_of(args: argparse.Namespace, slots: int) -> int | None:
    """How many requests a closed loop has: at least one per slot; with --turns whole conversations,
    at least one per slot. None when only its duration or its precision decides."""
    if args.duration or args.precision:
        return None
    turns: int = args.turns or 1
    conversations: int = max(math.ceil(args.requests / turns), slots)
    return conversations * turns


def result_names(args: argparse.Namespace, loads: Sequence[Load]) -> list[str]:
    if not loads:
        return []
    if args.find_capacity:
        return ["capacity" if args.endpoint == CHAT else f"capacity_{args.endpoint}"]
    return ["gateway_cost"] if args.direct_url else [load.name for load in loads]


def most_in_flight(args: argparse.Namespace, loads: Sequence[Load]) -> int:
    """How many sockets one process may have open at once."""
    at_once = [min(load.concurrency, load.planned or load.concurrency) for load in loads]
    most = max(at_once, default=1)
    if args.find_capacity:
        most = int(args.concurrency[0] if args.rate else args.max_level)
    return math.ceil(most / (args.processes or 1))


def processes_kept_ready(args: argparse.Namespace, scope: Scope) -> int:
    """How many processes are made before the run begins, in case that a level needs them."""
    tokens = max(prompt.max_tokens or args.max_tokens for prompt in scope.prompts)
    return kept_ready(args, scope.loads, tokens)


# --- the levels of a search


def load_at(args: argparse.Namespace, first: Load, number: float) -> Load:
    """A level of the search, with enough requests for a verdict."""
    least = math.ceil(number * (SEARCH_ARRIVALS_S if first.is_open else SEARCH_PER_SLOT))
    count = None if args.duration else max(args.requests, least)
    if first.is_open:
        return replace(first, rate_per_s=number, requests=count)
    return replace(first, concurrency=int(number), requests=count)


def level_size(first: Load) -> str:
    """How much a level of the search sends, in words."""
    if first.duration_s is not None:
        return f"{first.duration_s:g} s"
    if first.is_open:
        return f"{SEARCH_ARRIVALS_S} s of arrivals"
    return f"{SEARCH_PER_SLOT} requests per slot, at least {first.requests}"
