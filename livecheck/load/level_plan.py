"""What a run of benchmark.py measures: its options checked against each other, made into levels."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from livecheck.core.credentials import check_token
from livecheck.core.options import is_wanted
from livecheck.load import capacity, gateway_cost
from livecheck.load.arrivals import POISSON, SEED, Load, Prompt, question, read_prompts
from livecheck.load.gateway_probes import PROBED
from livecheck.wire.metrics import SCALARS

ONE_USER = [1]  # the default; what was given is another list, be it equal
CEILING = 1000  # in flight in an open loop: enough to be none
MOST_REQUESTS = 1_000_000
SEARCH_A_SLOT = 4  # requests of a level of the search: fewer a slot are mostly beginning and end
SEARCH_ARRIVALS_S = 20  # or in an open loop: what is too much needs time to pile up
SEARCH_S = 1800


@dataclass(frozen=True)
class Plan:
    """What this run measures, after all options that have a say in it."""

    probes: list[str]  # paths
    loads: list[Load]
    prompts: list[Prompt]


def make_plan(args: argparse.Namespace) -> Plan:
    """What --gateway-only, --inference-only, --only and --skip leave. ValueError: nothing, or
    options that do not go together, or a broken prompt file."""
    check_options(args)
    set_defaults(args)
    probes = [path for path, check in PROBED.items() if is_wanted(args, check)]
    parts = ("requests", "stream", "tokens", "client")
    parts += ("capacity",) * args.find_capacity + ("cost",) * bool(args.direct_url)
    streams = any(is_wanted(args, name) for name in parts) and not args.gateway_only
    prompts = read_prompts(args.prompt_file) if args.prompt_file else [question(args.prompt)]
    plan = Plan([] if args.inference_only else probes, make_loads(args) if streams else [], prompts)
    if not (plan.probes or plan.loads):
        raise ValueError("--only and --skip leave nothing to measure")
    return plan


def check_options(args: argparse.Namespace) -> None:
    """ValueError: options that contradict each other, or lack what they need."""
    rate, search, compare = args.rate, args.find_capacity, args.direct_url
    levels = rate or args.concurrency
    # what cannot stay as it is where more comes than is served
    grows = any(each.name.startswith(("ttft", "e2e")) for each in args.slo)
    throughput = any(each.name in SCALARS and not each.upper for each in args.slo)
    model = rate or search or compare or args.duration or args.prompt_file
    contradictions = (
        (f"more than {MOST_REQUESTS} requests a level: less --rate or --duration", too_many(args)),
        ("--rate takes one --concurrency, the most in flight", rate and len(args.concurrency) > 1),
        ("--arrivals goes with --rate", args.arrivals and not rate),
        ("--seed goes with --rate", args.seed is not None and not rate),
        ("--max-level goes with --find-capacity", args.max_level and not search),
        ("--max-time goes with --find-capacity", args.max_time and not search),
        ("--find-capacity needs an --slo to break", search and not args.slo),
        ("a search with --rate needs an --slo on ttft or e2e", search and rate and not grows),
        ("--find-capacity: a low level breaks a bound on throughput", search and throughput),
        ("--find-capacity takes one level to begin with", search and len(levels) > 1),
        ("--direct-key goes with --direct-url", args.direct_key is not None and not compare),
        ("--direct-url compares at concurrency 1", compare and (rate or search)),
        ("--direct-url compares at concurrency 1", compare and args.concurrency != ONE_USER),
        ("--gateway-only sends no requests to a model", args.gateway_only and model),
    )
    for words, applies in contradictions:
        if applies:
            raise ValueError(words)
    if args.direct_key is not None:
        check_token(args.direct_key, "--direct-key")


def too_many(args: argparse.Namespace) -> bool:
    """Whether a level would be more than can be kept in memory."""
    return bool(max(args.rate or [0]) * (args.duration or 0) > MOST_REQUESTS)


def set_defaults(args: argparse.Namespace) -> None:
    """The defaults that depend on other options, so that they are saved with the result."""
    if args.rate:
        args.arrivals = args.arrivals or POISSON
        args.seed = SEED if args.seed is None else args.seed
        if args.concurrency is ONE_USER:
            args.concurrency = [CEILING]
    if args.find_capacity:
        start = (args.rate or args.concurrency)[0]
        args.max_time = args.max_time or SEARCH_S
        args.max_level = args.max_level or start * 2**capacity.DOUBLINGS
        if args.max_level < start or not (args.rate or args.max_level % 1 == 0):
            raise ValueError(f"--max-level: a level from {start:g} on")


def make_loads(args: argparse.Namespace) -> list[Load]:
    """The levels, each once."""
    count = None if args.duration else args.requests
    if args.direct_url:
        pairs = count and max(count, gateway_cost.LEAST_PAIRS)
        return [Load(1, pairs, args.duration)]
    if args.rate:
        (most,) = args.concurrency
        rates = {f"{rate:g}": rate for rate in args.rate}.values()
        open_loop = (args.arrivals, args.seed)
        return [Load(most, count, args.duration, rate, *open_loop) for rate in rates]
    levels = dict.fromkeys(args.concurrency)
    return [Load(level, count and max(count, level), args.duration) for level in levels]


def result_names(args: argparse.Namespace, loads: Sequence[Load]) -> list[str]:
    if not loads:
        return []
    if args.find_capacity:
        return ["capacity"]
    return ["gateway_cost"] if args.direct_url else [load.name for load in loads]


def most_in_flight(args: argparse.Namespace, loads: Sequence[Load]) -> int:
    """How many sockets it may take at once."""
    if args.find_capacity:
        return int(args.concurrency[0] if args.rate else args.max_level)
    at_once = [min(load.concurrency, load.planned or load.concurrency) for load in loads]
    return max(at_once, default=1)


# --- the levels of a search


def load_at(args: argparse.Namespace, first: Load, number: float) -> Load:
    """A level of the search; what is measured in a hurry decides nothing."""
    if first.is_open:
        count = max(args.requests, math.ceil(number * SEARCH_ARRIVALS_S))
        return replace(first, rate_per_s=number, requests=None if args.duration else count)
    count = max(args.requests, SEARCH_A_SLOT * int(number))
    return replace(first, concurrency=int(number), requests=None if args.duration else count)


def level_size(first: Load) -> str:
    if first.duration_s is not None:
        return f"{first.duration_s:g} s"
    if first.is_open:
        return f"{SEARCH_ARRIVALS_S} s of arrivals"
    return f"{SEARCH_A_SLOT} requests a slot, {first.requests} at least"
