"""What benchmark.py would send, by its options: the estimate of --plan."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from livecheck.core.plan import (
    FIRST_S,
    PREFILL_S,
    TEMPLATE_TOKENS,
    TOKEN_S,
    WORKER,
    Plan,
    ask,
    notes,
    prompt_tokens,
    start,
    wait,
)
from livecheck.load import capacity, depth, level_plan, precision, self_check, server_metrics
from livecheck.load.arrivals import Load, Prompt
from livecheck.load.gateway_probes import LEAST_PROBES
from livecheck.load.process_count import kept_ready, most_parts
from livecheck.load.turns import GO_ON_TOKENS
from livecheck.wire.health_cost import COUNT_S

# The fastest deployment that a closed loop with --duration is planned for.
FAST_FIRST_S, FAST_TOKEN_S = 0.02, 0.001
SIGMAS = 5  # by which random arrivals may take longer than their rate says
DOUBTS = 5  # requests at most to settle whether the probe of an endpoint costs inference


def plan_benchmark(args: argparse.Namespace) -> Plan:
    # a file of prompts may be a pipe, which can be read only once
    scope = getattr(args, "prepared", None) or level_plan.find_scope(args)
    contact = len(scope.probes) + bool(scope.loads) + bool(scope.probes)
    total = start() + ask(contact, args.timeout, at_once=max(1, contact), usual=contact)
    for _ in scope.probes:
        total += plan_probes(args)
    if args.self_check:
        total += plan_self_check(self_check.concurrencies(scope.loads, args.max_level))
    if args.server_metrics:
        total += plan_server_metrics(args, len(scope.loads))
    size = sizes(args, scope.prompts)
    if args.depth and scope.loads:
        total += ask(depth.COUNTING, args.timeout, size[0], size[1] + min(args.depth), usual=2)
    if args.find_capacity:
        return total + plan_search(args, scope.loads[0], size)
    if args.direct_url and scope.loads:
        return total + plan_pairs(args, scope.loads[0], size)
    for load in scope.loads:
        total += plan_level(args, load, size)
    if scope.loads:  # a server that refuses stream_options is warmed up once more
        slots = 1 if args.rate else scope.loads[0].concurrency
        total += ask(slots, args.timeout, at_once=slots, usual=0)
    return total + notes(wakes=WORKER) if scope.loads else total


def plan_server_metrics(args: argparse.Namespace, levels: int) -> Plan:
    """The readings while a level runs take no time of it; those before and after do."""
    each_s = server_metrics.SETTLE_S, 3 * server_metrics.READ_S + 1.0
    found = wait(levels * each_s[0], levels * each_s[1] + 2 * server_metrics.READ_S)
    where = "/metrics" if args.server_metrics == server_metrics.AUTO else args.server_metrics
    return found + notes(f"{where} is read once a second while a level runs (--server-metrics)")


def plan_self_check(numbers: Sequence[int]) -> Plan:
    """Nothing of it reaches the deployment."""
    count = len(numbers)
    found = wait(count * self_check.TYPICAL_S, count * self_check.LONGEST_S)
    told = "--self-check sends requests on loopback, to a server of its own, before the levels: "
    return found + notes(f"{told}none of them reaches the deployment")


def sizes(args: argparse.Namespace, prompts: Sequence[Prompt]) -> tuple[int, int]:
    """The tokens at most of an answer, and of a prompt."""
    written = max(prompt.max_tokens or args.max_tokens for prompt in prompts)
    read = max(prompt_tokens(json.dumps(prompt.messages)) for prompt in prompts)
    return written, read


def plan_probes(args: argparse.Namespace) -> Plan:
    """The probes of an endpoint, one after the other."""
    count = args.requests if args.gateway_only else max(args.requests, LEAST_PROBES)
    doubts = ask(DOUBTS, args.timeout, usual=0) + wait(0.0, 2 * COUNT_S)
    return doubts + ask(args.warmup + count, args.timeout)


def plan_level(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """The warm-up of a level, and its requests."""
    if load.depth:
        deep = math.ceil(load.depth * (1 + depth.MARGIN)) + TEMPLATE_TOKENS
        return plan_at_depth(args, load, (size[0], max(size[1], deep)))
    return plan_requests(args, load, size)


def plan_at_depth(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """The same, with the time to read long prompts."""
    found = plan_requests(args, load, size)
    spent_s = found.requests * size[1] * PREFILL_S if load.duration_s is None else 0.0
    return replace(found, typical_s=found.typical_s + spent_s)


def plan_requests(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    if load.batch:
        size = 0, load.batch * size[1]
    tokens, prompt = size
    warmup = plan_warmup(args, load, size)
    if load.is_open:
        return warmup + plan_arrivals(args, load, size)
    if load.turns:
        size = tokens, prompt + math.ceil((load.turns - 1) * (tokens + GO_ON_TOKENS) / 2)
    if load.requests is not None:
        return warmup + ask(load.requests, args.timeout, *size, load.concurrency)
    if load.precision is not None:
        return warmup + plan_precision(args, load, size)
    return warmup + plan_duration(args, load, size)


def plan_precision(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """A level that ends when its medians are exact: usually soon, at the latest by its time."""
    found = plan_duration(args, load, size)
    usual = precision.usual_requests(load.concurrency)
    typical = ask(usual, args.timeout, *size, load.concurrency)
    told = (
        f"{load.title}: ends as soon as its medians are within {100 * (load.precision or 0):.3g} %"
    )
    return replace(
        found,
        typical_s=min(found.typical_s, typical.typical_s),
        notes=(*found.notes, f"{told}, or after --max-time ({args.max_time:g} s)"),
    )


def plan_warmup(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """Each process has a warm-up of its own; where one process may turn out to be too few, that is
    known after its warm-up only."""
    from livecheck.load.parts import warmup_of  # here: no other run needs it

    def by(count: int) -> Plan:
        asked = [warmup_of(args.warmup, load, place, count) for place in range(count)]
        slots = count if load.is_open else load.concurrency
        usual = sum(asked) if args.processes is not None or count == 1 else 0
        return ask(sum(asked), args.timeout, *size, slots, usual=usual)

    most = min(kept_ready(args, [load], size[0]), most_parts(load))
    if args.processes is not None or most < 2:
        return by(max(most, 1))
    return by(1) + by(most)


def plan_arrivals(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """An open loop: the last request is due at a known time, and waits for a place at most."""
    count, rate_per_s = load.requests, load.rate_per_s or 1.0
    if count is None:
        count = load.planned or 0
    due_s = load.duration_s or count / rate_per_s
    late_s = 0.0 if load.duration_s else SIGMAS * math.sqrt(count) / rate_per_s
    one = ask(count, args.timeout, *size, load.concurrency)
    answer_s = FIRST_S + size[0] * TOKEN_S
    return replace(one, typical_s=due_s + answer_s, at_most_s=due_s + late_s + one.at_most_s)


def plan_duration(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """A closed loop that ends by time: only the deployment decides how many requests there are."""
    tokens, duration_s = size[0], load.duration_s or 0.0
    each = math.ceil(duration_s / (FAST_FIRST_S + tokens * FAST_TOKEN_S)) + 1
    found = ask(each * load.concurrency, args.timeout, *size, load.concurrency)
    told = f"{load.title}: how many requests fit into {duration_s:g} s is estimated, with answers "
    told += f"of {1 / FAST_TOKEN_S:,.0f} tokens per second"
    longest_s = duration_s + args.timeout
    return replace(found, typical_s=duration_s, at_most_s=longest_s, notes=(told,))


def plan_pairs(args: argparse.Namespace, load: Load, size: tuple[int, int]) -> Plan:
    """Each request once through the gateway and once directly, one after the other."""
    contact = ask(2, args.timeout, usual=1)
    warmup = ask(2 * args.warmup + 2, args.timeout, *size, usual=2 * args.warmup)
    if load.requests is None:
        pairs = plan_duration(args, load, size)
        pairs = replace(pairs, at_most_s=pairs.at_most_s + args.timeout)
    else:
        pairs = ask(2 * load.requests, args.timeout, *size)
    return contact + warmup + pairs + notes(wakes=WORKER)


def plan_search(args: argparse.Namespace, first: Load, size: tuple[int, int]) -> Plan:
    """The search for the capacity: the path with the most requests, within --max-time."""
    start_at = first.rate_per_s or first.concurrency
    search = capacity.Search(start_at, args.max_level, whole=not first.is_open)

    @lru_cache(None)
    def level_at(number: float) -> Plan:
        return plan_level(args, level_plan.load_at(args, first, number), size)

    @lru_cache(None)
    def most(kept: float, broken: float | None) -> Plan:
        """What follows at most, when these are the highest kept and the lowest broken level."""
        number = search.after(kept, broken)
        if number is None:
            return Plan()
        ways = (most(number, broken), most(kept, number))
        return level_at(number) + max(ways, key=lambda plan: plan.requests)

    found = most(0, None)
    for _ in range(capacity.MOST_REPEATS + 1):
        found += replace(level_at(args.max_level), typical_s=0.0)
    words = "the search overloads the deployment on purpose, and ends after "
    told = f"{words}--max-time ({args.max_time:g} s)"
    return replace(
        found,
        typical_s=min(args.max_time, found.typical_s),
        at_most_s=args.max_time + args.timeout,
        wakes=f"{WORKER}, and overloads it",
        notes=tuple(dict.fromkeys([*found.notes, told])),
    )
