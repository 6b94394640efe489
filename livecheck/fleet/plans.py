"""What each script of the fleet would send, by its options: the estimates of --plan.

The figures at the top are those that the scripts themselves go by. What only one script needs is
imported in its function: --help of the others stays quick.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from typing import TYPE_CHECKING

from livecheck.core.options import is_wanted
from livecheck.core.plan import Plan, ask, notes, prompt_tokens, start, wait

if TYPE_CHECKING:
    from livecheck.fleet.credential_questions import Question

RUNNER = "a sleeping runner"
ADMIN_READS = "besides, who is online is read from the admin API and from the list of models"

WORDS = 32  # tokens at most of one of the fixed prompts here

# test_auth.py
NAMED = 4  # models asked for by name with the role for it: each may have to be loaded
MAX_KEYS = 2  # of a JWKS, when none of them has the kid of the token
WATCH_S = 2.0  # how long a sleeping fleet is watched after requests that must be refused
WAIT_S = 2.0  # before the valid credential is asked with once more
MAX_WAIT_S = 10.0  # when the server says how long to wait

AT_ONCE = 2
MOST_CONTROLS = 12  # questions with the valid credential
READS = 16  # of the list of models, of who is online, of the log and of public keys, at most
FORGED_ELSEWHERE = 4  # tokens with the highest roles, where these count

# test_model_routing.py
ROUNDS = 3  # a class may have several models: each round asks once whole, once streamed
MAX_MODELS = 8  # that model:specific is tried with: each may have to be loaded
ANSWER_TOKENS = 32  # some models think before they answer

# test_wol.py
WAKE_TOKENS = 16
WAKE_S = 30.0  # assumed here: a machine that starts and loads a model
AFTERWARDS_S = 90.0  # within which a run ends, after --wait-asleep and --timeout

# test_workload_routing.py
ALONE_TIMES = 3  # requests one after the other, to know how long one takes


# --- test_auth.py


def plan_auth(args: argparse.Namespace) -> Plan:
    """With a JWT and a token for each role: that is when most is asked."""
    from livecheck.fleet import credential_questions as questions
    from livecheck.fleet.api import ADMIN_PATHS, CLASSES

    tokens, prompt = questions.MAX_TOKENS, prompt_tokens(questions.PROMPT)
    asked = Counter({"hmac": FORGED_ELSEWHERE}) + Counter(groups_of_forged())
    asked += Counter(each.group for each in questions_of_auth())
    is_about_all = not {"echo", "cost"}.isdisjoint(args.only or ())
    refused = sum(
        count
        for group, count in asked.items()
        if is_wanted(args, group) or (is_about_all and group not in args.skip)
    )
    roles = 3 * (len(CLASSES) + len(ADMIN_PATHS)) + NAMED + 2
    # any of them may be let in by mistake, or be asked once more because the server was busy
    twice = ask(2 * refused, args.timeout, 0, 0, AT_ONCE, usual=refused)
    written = Plan(tokens_at_most=2 * refused * (tokens + prompt))
    told = "with an API key instead of a JWT there are fewer. Most requests have no valid "
    told += "credential, and a sound server refuses them without asking a model"
    return (
        start()
        + ask(READS, args.timeout, usual=4)
        + ask(MOST_CONTROLS, args.timeout, tokens, prompt, usual=4)
        + ask(2 * roles, args.timeout, tokens, prompt, usual=roles)
        + wait(0.0, WATCH_S + 4 * WAIT_S + MOST_CONTROLS * MAX_WAIT_S)
        + (twice + written)
        + notes(told, wakes=RUNNER)
    )


def questions_of_auth() -> list[Question]:
    """Everything that must be refused, but for what is forged from a token; with a stand-in for
    the token, the models and the deployment."""
    from livecheck.fleet import credential_questions as questions
    from livecheck.fleet.api import CLASSES
    from livecheck.wire.wire import Target

    token, model, target = "x" * 64, "model", Target("https://host.example:65535")
    ways = questions.other_spellings(model, target, "user", True, 1.0)
    return [
        *questions.without_credential([*CLASSES, model]),
        *questions.malformed(model),
        *questions.other_schemes(model, token),
        *questions.optional_forms(model, token),
        *questions.two_headers(model, token),
        *questions.trailing_text(model, token),
        *(each for way in ways.values() for each in way),
        *questions.other_endpoints(model, 1.0),
    ]


def groups_of_forged() -> list[str]:
    """The group of each token that may be forged."""
    from livecheck.fleet import forged_tokens, public_keys

    forms = len(public_keys.FORMS) + len(public_keys.RSA_FORMS) + 2  # and a certificate's two
    of_keys = MAX_KEYS * (forms + len(forged_tokens.OTHER_HASHES))
    return [*(row.group for row in forged_tokens.TABLE), *["hmac"] * of_keys]


# --- test_model_routing.py


def plan_model_routing(args: argparse.Namespace) -> Plan:
    from livecheck.fleet.api import ADMIN_PATHS, CLASSES

    models = dict.fromkeys([args.model, *args.models] if args.model else args.models or CLASSES)
    prompt = prompt_tokens(args.model or "") + WORDS
    count = 2 * ROUNDS * len(models)
    unknown = sum(is_wanted(args, name) for name in ("unknown_model", "unknown_class"))
    control = len(models) + len(CLASSES) + 1 if unknown else 0
    total = start() + ask(2, args.timeout)
    total += ask(count, args.timeout, ANSWER_TOKENS, prompt, usual_tokens=WORDS)
    total += ask(control, args.timeout, ANSWER_TOKENS, prompt, usual=0)
    total += ask(2 * unknown, args.timeout, usual_tokens=0)
    total += Plan(tokens_at_most=2 * unknown * (ANSWER_TOKENS + prompt))
    if args.test_permissions:
        asked = 3 * (len(CLASSES) + 1) + MAX_MODELS - 1 + 1
        total += ask(asked, args.timeout, ANSWER_TOKENS, prompt, usual=asked - 6)
        total += ask(3 * len(ADMIN_PATHS), args.timeout)
    return total + notes(wakes=f"{RUNNER} for each model, and loads the models")


# --- test_wol.py


def plan_wol(args: argparse.Namespace) -> Plan:
    wait_s, count = args.wait_asleep or 0.0, args.burst or 1
    total = start() + ask(1, args.timeout) + wait(0.0, wait_s) + notes(ADMIN_READS)
    if args.only == ["state"]:
        return total + wait(1.0, AFTERWARDS_S)
    prompt = WORDS + prompt_tokens("")
    total += ask(count, args.timeout, WAKE_TOKENS, prompt, at_once=count)
    total += wait(WAKE_S, AFTERWARDS_S)
    if args.timing:
        total += ask(1, args.timeout, WAKE_TOKENS, prompt)
    if wait_s:
        total += notes("--wait-asleep is not in the typical time")
    return total + notes(wakes=RUNNER)


# --- test_workload_routing.py


def plan_workload(args: argparse.Namespace) -> Plan:
    from livecheck.fleet.request_log import LAG_S

    at_once = 1 if args.sequential else min(args.workers, args.requests)
    alone = ALONE_TIMES if args.analyze_timing and not args.sequential else 1
    prompt, tokens = WORDS + prompt_tokens(""), args.max_tokens
    total = start() + ask(2, args.timeout, usual=1)
    total += ask(alone, args.timeout, tokens, prompt)
    total += ask(args.requests, args.timeout, tokens, prompt, at_once)
    # the log is read for --timeout at most, and the list of runners three times
    total += wait(1.0, 2 * LAG_S + 4 * args.timeout) + notes(ADMIN_READS)
    if args.kill_command:
        total += plan_loss(args, at_once, tokens + prompt)
    return total + notes(wakes=f"{RUNNER}, and loads all runners")


def plan_loss(args: argparse.Namespace, at_once: int, each: int) -> Plan:
    """A runner is killed and revived, while requests are sent."""
    from livecheck.fleet import runner_loss as loss

    usual_s = args.settle + loss.ENOUGH / loss.PER_S[1] + WAKE_S
    most_s = args.timeout + 2 * loss.COMMAND_S + args.settle + loss.JUDGED_S + args.revive_timeout
    count = at_once + math.ceil(loss.PER_S[1] * (most_s + 1)) + at_once
    told = "the runner that --kill-command kills comes back soon in the typical time"
    return Plan(count, count * each, usual_s, most_s + args.timeout, notes=(told,))
