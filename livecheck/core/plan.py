"""What a run would send, and how long it would take: `--plan` tells it, and sends nothing.

An estimate is made of the options alone. `requests`, `tokens_at_most` and `at_most_s` are bounds;
`typical_s` says how long it takes with a deployment that is awake and writes FIRST_S and TOKEN_S.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

from livecheck.core.checks import Exit
from livecheck.core.result_file import to_json
from livecheck.core.screen import WIDTH, Screen, open_streams

FIRST_S = 0.5  # until the first token of an answer
TOKEN_S = 0.02  # for each token after it: 50 tokens per second
SHORT_S = 0.05  # for an answer without a model: a list, a refusal, a probe
PREFILL_S = 0.0005  # for each token of a long prompt: 2,000 tokens per second
START_S = 0.5  # of the program itself, to begin and to save
SLACK_S = 15.0  # the same on a busy machine, with the look-up of names
# More requests than are planned: the API is looked for at another base URL, a parameter that the
# model refuses is left out and the request sent again, a rate limit is confirmed.
SPARE_REQUESTS = 8
WORKER = "a sleeping worker"  # what a request wakes where there is no fleet
TEMPLATE_TOKENS = 64  # what a chat template adds to a prompt, at most


@dataclass(frozen=True)
class Plan:
    """What is sent, and how long that takes; `+` is one after the other.

    requests: at most. Reads by which a deployment is only watched are not among them; `notes` tell
    of them. tokens_at_most: of prompts and answers together. typical_s, at_most_s: in seconds; the
    bound holds when each answer comes just before its time-out. wakes: what is woken, or loaded.
    notes: what else is to be known, such as what was assumed because only the deployment tells it.
    """

    requests: int = 0
    tokens_at_most: int = 0
    typical_s: float = 0.0
    at_most_s: float = 0.0
    wakes: str | None = None
    notes: tuple[str, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            self.requests + other.requests,
            self.tokens_at_most + other.tokens_at_most,
            self.typical_s + other.typical_s,
            self.at_most_s + other.at_most_s,
            self.wakes or other.wakes,
            (*self.notes, *other.notes),
        )


def start() -> Plan:
    """What every run has besides its own questions."""
    return Plan(SPARE_REQUESTS, 0, START_S, SLACK_S)


def ask(
    count: int,
    timeout_s: float,
    tokens: int = 0,
    prompt: int = 0,
    at_once: int = 1,
    usual: int | None = None,
    usual_tokens: int | None = None,
) -> Plan:
    """`count` requests at most, and usually `usual` of them.

    `tokens`: of each answer at most, 0 for one without a model; `usual_tokens`: of a typical one.
    `prompt`: tokens of each prompt at most. `at_once`: how many are in flight.
    """
    typical = count if usual is None else usual
    written = tokens if usual_tokens is None else usual_tokens
    each_s = FIRST_S + written * TOKEN_S if tokens else SHORT_S
    rounds = math.ceil(typical / at_once)
    most_s = math.ceil(count / at_once) * timeout_s
    return Plan(count, count * (tokens + prompt), rounds * each_s, most_s)


def wait(usual_s: float, most_s: float | None = None) -> Plan:
    """A time in which nothing is asked."""
    return Plan(typical_s=usual_s, at_most_s=usual_s if most_s is None else most_s)


def notes(*texts: str, wakes: str | None = None) -> Plan:
    return Plan(wakes=wakes, notes=texts)


def prompt_tokens(text: str) -> int:
    """A bound for the tokens of a prompt: each has a byte at least."""
    return len(text.encode("utf-8", "replace")) + TEMPLATE_TOKENS


# --- show


def in_words(seconds: float) -> str:
    """`4 s`, `2 min`, `1 h 5 min`: rounded up, as nobody plans by fractions of a second."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def lines(script: str, plan: Plan) -> list[str]:
    """The plan as --plan shows it."""
    rows = {
        "requests at most": f"{plan.requests:,}",
        "tokens at most": f"{plan.tokens_at_most:,} (prompts and answers)",
        "wakes or loads": plan.wakes or "nothing",
        "typical time": in_words(plan.typical_s),
        "longest time": f"{in_words(plan.at_most_s)}, if each answer comes just before --timeout",
    }
    found = [f"{script}.py: this is a plan, nothing is sent"]
    for name, text in [*rows.items(), *(("note", each) for each in plan.notes)]:
        head = f"  {name:18}"
        found += textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    return found


def as_dict(script: str, plan: Plan) -> dict[str, object]:
    """The plan as --plan --output json prints it."""
    return {
        "script": script,
        "requests": plan.requests,
        "tokens_at_most": plan.tokens_at_most,
        "wakes": plan.wakes,
        "typical_s": round(plan.typical_s, 1),
        "at_most_s": round(plan.at_most_s, 1),
        "notes": list(plan.notes),
    }


def show(script: str, plan: Plan, output: str) -> Exit:
    """Print the plan. Exit 3 when standard output cannot be written to."""
    open_streams(output)
    screen = Screen(str, "text", verbose=False, debug=False)
    if output == "json":
        screen.write_out(to_json(as_dict(script, plan)))
    for line in lines(script, plan) if output == "text" else ():
        screen.say(line)
    return Exit.UNDECIDED if screen.stdout_problem else Exit.OK
