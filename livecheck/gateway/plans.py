"""What each script of the gateway would send, by its options: the estimates of --plan.

The figures at the top are those that the scripts themselves go by. What only one script needs is
imported in its function: --help of the others stays quick.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from livecheck.core.options import is_wanted
from livecheck.core.plan import (
    FIRST_S,
    PREFILL_S,
    TOKEN_S,
    WORKER,
    Plan,
    ask,
    notes,
    prompt_tokens,
    start,
    wait,
)

if TYPE_CHECKING:
    from livecheck.gateway.burst import Limits
    from livecheck.gateway.limit_evidence import Evidence


# test_concurrency.py
AT_ONCE = 8  # where /health does not say it
TRIALS = 4  # questions of each kind to begin with
TRIED_AT_MOST = 2  # times so many, when the first ones show no kind that the model can answer
ROUNDS = 3
FOR_EACH_PLACE = 2  # questions in a round: the second one gets the place of one that has ended
LEAST_IN_ROUND = 8
ASKED_AGAIN = 2  # of those asked alone: is the text the same each time?
LONG_TOKENS = 256  # of an answer that is to be cancelled, unless --max-tokens is more
SENDINGS = 3  # of what was refused because there was no room
COMPARISONS = 2  # the second one when the first leaves a doubt

# test_context.py
USUAL_CONTEXT = 32_768  # assumed here, where only the deployment says how large it is
# Requests at once, where the deployment serves more or does not say how many: each of them costs
# half a context of prefill, and a context that is divided by the slots shows in a single one.
MOST_CONTEXTS = 8
REPEATS = 2  # prompts of 10 and of 50 percent
MORE_TRIES = 2  # of 95 percent, when the first number was not repeated
MORE_ALONE = 4  # at most, of 50 percent, when the first number is lost only together
SHORT_PROMPTS = 5  # to see how the tokens are counted; two of them only where streams count none
SHORT_PROMPT_TOKENS = 1000  # of each of these, at most
COUNT_ERROR = 1.02  # by which a prompt may be longer than it was meant to be

# test_cors.py
MOST_PAGES = 10  # made up from the origin
PREFLIGHTS = ("preflight", "preflight_origin", "methods", "headers", "sdk_headers")

# test_queue.py
IDLE_WAIT_S = 60.0  # for the requests of others to end, before the first one of ours
USUAL_LIMITS = (1, 2)  # assumed here, as in the guide, where only /health says them
FIRST_STEPS = ("limits", "idle", "single")
DISCONNECTING = ("left_streaming", "left_queued", "order")

# test_scale_to_zero.py
WARM_REQUESTS = 3  # after the first, which may be cold
AFTER_REQUESTS = 3  # at most, after the cold one: the second and third only if it is slow
STAY_PROBES = 12  # probes at zero workers: a minute by default
ANSWER_S = 10.0  # timeout of the health URL and the control planes, unless --timeout is less


def leaves_only(args: argparse.Namespace, *names: str) -> bool:
    """Whether --only names nothing but these checks."""
    return args.only is not None and set(args.only) <= set(names)


# --- test_concurrency.py


def plan_concurrency(args: argparse.Namespace) -> Plan:
    from livecheck.gateway.own_questions import EXAMPLES, KINDS

    at_once, timeout_s, tokens = args.concurrency or AT_ONCE, args.timeout, args.max_tokens
    prompt = max(prompt_tokens(json.dumps(each)) for each in EXAMPLES.values()) + 2 * 96
    total = start() + ask(2, timeout_s, at_once=2)
    tried = TRIALS * len(KINDS)
    total += ask(TRIED_AT_MOST * tried, timeout_s, tokens, prompt, usual=tried)
    if not leaves_only(args, "alone", "leftovers"):
        for number in range(COMPARISONS):
            total += plan_comparison(args, at_once, prompt, is_usual=number == 0)
    if is_wanted(args, "leftovers"):
        cancelled, long = (at_once + 1) // 2, max(tokens, LONG_TOKENS)
        total += ask(cancelled, timeout_s, long, prompt, at_once)
        total += ask(2 * at_once, timeout_s, tokens, prompt, at_once, usual=at_once)
    if args.concurrency is None:
        told = f"{AT_ONCE} requests at once are assumed, unless /health says another limit"
        total += notes(told)
    return total + notes(wakes=f"{WORKER}, and keeps the deployment busy")


def plan_comparison(args: argparse.Namespace, at_once: int, prompt: int, is_usual: bool) -> Plan:
    """The same questions alone and together. What is refused for want of room is sent again."""
    timeout_s, tokens, usual = args.timeout, args.max_tokens, None if is_usual else 0
    alone = args.alone + (ASKED_AGAIN if is_usual else 0)
    count = ROUNDS * max(LEAST_IN_ROUND, FOR_EACH_PLACE * at_once)
    refused = ask((SENDINGS - 1) * count, timeout_s, at_once=max(1, at_once // 2), usual=0)
    return (
        ask(alone, timeout_s, tokens, prompt, usual=usual)
        + ask(count, timeout_s, tokens, prompt, at_once, usual)
        + refused
    )


# --- test_context.py


def plan_context(args: argparse.Namespace) -> Plan:
    from livecheck.gateway import context_evidence as phases

    size = args.context or USUAL_CONTEXT
    at_once = args.concurrency or MOST_CONTEXTS
    total = start() + ask(3, args.timeout)
    short, tokens = SHORT_PROMPTS + 1, args.max_tokens  # where a single token is too few
    total += ask(short, args.timeout, tokens, SHORT_PROMPT_TOKENS, usual=3, usual_tokens=1)

    def prompts(phase: str, count: int, usual: int | None = None, together: int = 1) -> Plan:
        length = math.ceil(COUNT_ERROR * phases.SHARES[phase] * size)
        typical = count if usual is None else usual
        asked = ask(count, args.timeout, args.max_tokens, length, together, usual)
        return asked + wait(typical * length * PREFILL_S, 0.0)

    total += prompts(phases.SHORT, REPEATS) + prompts(phases.HALF, REPEATS)
    total += prompts(phases.LONG, 1 + MORE_TRIES, usual=1)
    if is_wanted(args, "together") and at_once > 1:
        total += prompts(phases.TOGETHER, 2 * at_once, usual=at_once, together=at_once)
        total += prompts(phases.HALF, MORE_ALONE, usual=0)
    if is_wanted(args, "beyond"):
        total += prompts(phases.BEYOND, 1)
    if args.context is None:
        told = f"a context of {size:,} tokens is assumed: the deployment says it, or --context"
        total += notes(told)
    if args.concurrency is None:
        total += notes(f"{at_once} requests at once are assumed, the most without --concurrency")
    return total + notes(wakes=f"{WORKER}, and fills its whole context")


# --- test_cors.py


def plan_cors(args: argparse.Namespace) -> Plan:
    pages = MOST_PAGES + len(args.denied_origin)
    total = start() + ask(1 + 5 + 2 * pages, args.timeout)
    if leaves_only(args, *PREFLIGHTS):
        return total
    return total + ask(6, args.timeout, 4, prompt_tokens("Say yes.")) + notes(wakes=WORKER)


# --- test_openai_sdk.py


def plan_openai_sdk(args: argparse.Namespace) -> Plan:
    from livecheck.gateway.rhythm import MOST_STREAMS
    from livecheck.gateway.sdk_failures import MAY_BE_REFUSED
    from livecheck.gateway.sdk_questions import PROMPT, SHORT_TOKENS, STOP_TOKENS, questions

    timeout_s, poem = args.timeout, prompt_tokens(PROMPT)
    total = start() + ask(1, timeout_s)

    def more(check: str, count: int, usual: int, tokens: int) -> Plan:
        if not is_wanted(args, check):
            return Plan()
        return ask(count, timeout_s, tokens, poem, usual=usual)

    for check, asked in questions(args.max_tokens).items():
        for each in asked if is_wanted(args, check) else ():
            most = each.arguments.get("max_tokens") or each.arguments.get("max_output_tokens", 0)
            written = most * each.arguments.get("n", 1)
            total += ask(1, timeout_s, written, prompt_tokens(json.dumps(each.arguments)))
            if check in MAY_BE_REFUSED:  # what was refused is asked once more
                total += ask(1, timeout_s, usual=0)
            # without a schema; again where texts differ
            if check in ("unicode", "same_text", "responses"):
                total += ask(1, timeout_s, written, poem, usual=0)
    return (
        total
        + more("wire", 1, 1, args.max_tokens)
        + more("pacing", MOST_STREAMS, 1, args.max_tokens)
        + more("compressed", MOST_STREAMS, 1, args.max_tokens)
        + more("wrong_key", 2, 1, SHORT_TOKENS)
        + more("bad_request", 1, 0, SHORT_TOKENS)
        + more("stop", 2, 2, max(STOP_TOKENS, args.max_tokens))
        + notes(wakes=WORKER)
    )


# --- test_queue.py


def plan_queue(args: argparse.Namespace) -> Plan:
    from livecheck.gateway.burst import Limits
    from livecheck.gateway.disconnection import SETTLE_S
    from livecheck.gateway.queue_client import PROMPT

    of_guide = USUAL_LIMITS
    concurrent = of_guide[0] if args.max_concurrent is None else args.max_concurrent
    queue = of_guide[1] if args.max_queue is None else args.max_queue
    limits = Limits(concurrent, queue if isinstance(queue, int) else None)
    timeout_s, tokens, prompt = args.timeout, args.max_tokens, prompt_tokens(PROMPT)
    total = start() + ask(4, timeout_s, at_once=4) + wait(0.0, 2 * IDLE_WAIT_S)
    told = "besides, /ping, /health and /metrics are read up to 20 times per second"
    if None in (args.max_concurrent, args.max_queue):
        total += notes(f"{limits} are assumed where /health does not say otherwise")
    if leaves_only(args, *FIRST_STEPS[:2]):
        return total + ask(1, timeout_s, tokens, prompt, usual=0) + notes(told, wakes=WORKER)
    total += ask(2, timeout_s, tokens, prompt, usual=1) + wait(0.2, SETTLE_S)
    if not leaves_only(args, *FIRST_STEPS, *DISCONNECTING):
        total += plan_burst(args, limits, prompt)
    if any(is_wanted(args, name) for name in DISCONNECTING):
        total += plan_disconnections(args, limits, prompt)
    return total + notes(told, wakes=f"{WORKER}, and fills the queue")


def plan_burst(args: argparse.Namespace, limits: Limits, prompt: int) -> Plan:
    """More requests at once than fit, again with longer answers; and one after Retry-After."""
    from livecheck.gateway.disconnection import ATTEMPTS, SETTLE_S

    count, tokens, total = limits.at_once(args.extra), args.max_tokens, Plan()
    for attempt in range(ATTEMPTS):
        usual = 0 if attempt else None
        total += ask(count, args.timeout, tokens * 2**attempt, prompt, count, usual)
        total += wait(0.0, 2 * SETTLE_S)
    rounds = math.ceil((count - args.extra) / limits.max_concurrent)
    total += wait((rounds - 1) * (FIRST_S + tokens * TOKEN_S), 0.0)
    later = ask(2, args.timeout, tokens, prompt, usual=1, usual_tokens=8)
    return total + later + wait(args.retry_after)


def plan_disconnections(args: argparse.Namespace, limits: Limits, prompt: int) -> Plan:
    """Clients that disconnect while they are served and while they wait; each again with longer
    answers where they were too short. At the end every place is used."""
    from livecheck.gateway import disconnection as steps

    timeout_s, most, total = args.timeout, limits.max_concurrent, Plan()
    free_s = steps.SETTLE_S + steps.NOTICE_S + steps.FREE_S
    again = math.ceil((timeout_s + steps.FREE_S) / steps.ASK_AGAIN_S)
    for attempt in range(steps.ATTEMPTS):
        tokens, usual = args.max_tokens * 2**attempt, 0 if attempt else None
        total += ask(1, timeout_s, tokens, prompt, usual=usual) + wait(0.0, free_s)
        if limits.max_queue is None:  # whether the place is free shows only when one asks
            total += Plan(requests=again, tokens_at_most=tokens + prompt)
            total += wait(0.0, timeout_s + steps.FREE_S)
        else:
            total += ask(most + 3, timeout_s, tokens, prompt, most + 3, usual)
            total += wait(0.0, 2 * timeout_s + free_s)
        total += ask(most + 2, timeout_s, tokens, prompt, most + 2, usual)
        total += wait(0.0, timeout_s + free_s)
    room = limits.room
    told = "where no figure tells how many wait, a refused client asks again five times per second"
    return total + ask(room, timeout_s, args.max_tokens, prompt, room, usual_tokens=8) + notes(told)


# --- test_rate_limit.py


def plan_rate_limit(args: argparse.Namespace) -> Plan:
    from livecheck.gateway.limit_evidence import Evidence
    from livecheck.wire import chat

    path = args.path or chat.MODELS
    evidence = Evidence(args.limit, args.window, path)
    is_completion = path.endswith(chat.COMPLETIONS.rpartition("/v1")[2])
    total = start() + ask(1, args.timeout)
    if args.path is None:  # where the list of models is not limited, completions are asked for
        total += plan_use_up(args, evidence, 0) + notes(
            "completions of one token are asked for if the list of models is not limited"
        )
    total += plan_limit(args, evidence, tokens=1 if is_completion or args.path is None else 0)
    wakes = WORKER if is_completion else None
    if args.path is None:
        wakes = f"{WORKER}, if the list of models is not limited"
    uses = "the key's rate limit is used up: meanwhile nobody else can use the key"
    return total + notes(uses, wakes=wakes)


def plan_limit(args: argparse.Namespace, evidence: Evidence, tokens: int) -> Plan:
    """All steps with one path. The usual count is that of a fixed or sliding window."""
    from livecheck.gateway import limit_session as steps

    limit, timeout_s = args.limit, args.timeout
    prompt = prompt_tokens("Say yes.") if tokens else 0
    ways, each, burst = len(steps.ways_around("key", tokens == 0)), steps.each_around(limit), limit
    burst += evidence.surplus
    others = 1 + steps.OTHER_TRIES + steps.PINGS + 1 + steps.AT_HALF + 1 + 4 * steps.TRIES
    around = ways * steps.AROUND_TRIES * 2 * each
    total = plan_use_up(args, evidence, tokens)
    total += ask(around, timeout_s, tokens, prompt, 2 * each, usual=0)
    total += ask(others, timeout_s, tokens, prompt, usual=0)
    total += ask(4 * burst, timeout_s, tokens, prompt, burst, usual=0)
    total += ask(6 + steps.READINGS, timeout_s, usual=0)
    typical_s = (limit + around / each) * 0.01
    return total + wait(typical_s + 2 * args.window, 6 * (args.window + evidence.margin_s))


def plan_use_up(args: argparse.Namespace, evidence: Evidence, tokens: int) -> Plan:
    """One after the other until the limit is reached; then all at once where it was not. Places
    that come back meanwhile, and a window that ends, allow as many again."""
    from livecheck.gateway import limit_session as steps

    prompt = prompt_tokens("Say yes.") if tokens else 0
    count = 3 * args.limit + 2 * evidence.surplus + steps.IN_A_ROW
    longest_s = 2 * args.window + (steps.IN_A_ROW + 2) * args.timeout
    return Plan(count, count * (tokens + prompt)) + wait(0.0, longest_s)


# --- test_scale_to_zero.py


def plan_scale_to_zero(args: argparse.Namespace) -> Plan:
    from livecheck.gateway.idle_wait import PROMPT
    from livecheck.gateway.sleep_evidence import ZERO_READINGS

    timeout_s, cold_s, tokens = args.timeout, args.cold_start_timeout, args.max_tokens
    prompt, probe_s = prompt_tokens(PROMPT), min(ANSWER_S, args.timeout)
    counts = bool(args.workers_command or args.runpod_endpoint)
    idle_s, stay_s = args.idle_timeout, STAY_PROBES * args.probe_interval if counts else 0.0
    total = start() + ask(1, timeout_s)
    total += ask(1, cold_s, tokens, prompt) + ask(WARM_REQUESTS, timeout_s, tokens, prompt)
    later = ("workers", "scale_down", "health", "undisturbed", "cold_start", "warm_again")
    if not any(is_wanted(args, name) for name in (*later, "edge_idle")):
        return total + notes(wakes=WORKER)
    rows_s = ZERO_READINGS * args.probe_interval  # a row of zeros that has just begun is not cut
    probes = math.ceil((idle_s + stay_s + rows_s) / args.probe_interval) + 5
    total += Plan(requests=probes) + wait(idle_s + stay_s, idle_s + stay_s + rows_s + 5 * probe_s)
    total += ask(2, cold_s, tokens, prompt, usual=1, usual_tokens=0)
    if not args.no_control:
        total += wait(0.0, idle_s + rows_s + probe_s)
    total += ask(AFTER_REQUESTS, timeout_s, tokens, prompt, usual=1)
    told = "a cold start is not in the typical time"
    return total + notes(told, wakes=f"{WORKER}, and lets it fall asleep")


# --- test_tools.py

FORMS = 2  # streamed and not
USUAL_CALL = 60  # tokens of an answer with a call, from a model that does not think before it


def plan_tools(args: argparse.Namespace) -> Plan:
    from livecheck.gateway import tool_questions as asked

    total = start() + ask(1, args.timeout)
    for name in dict.fromkeys(args.scenarios):
        scenario = asked.BY_NAME[name]
        request = scenario.request("", args.max_tokens, True, asked.SPARE_ID)
        prompt = prompt_tokens((request.body or b"").decode())
        tokens = args.max_tokens + scenario.more_tokens
        usual = min(tokens, scenario.more_tokens or USUAL_CALL)
        total += ask(FORMS * args.repeat, args.timeout, tokens, prompt, usual_tokens=usual)
    is_after = "result" in args.scenarios
    control = ask(
        1 + is_after, args.timeout, asked.CONTROL_TOKENS, prompt_tokens(""), usual=is_after
    )
    return total + control + notes(wakes=WORKER)
