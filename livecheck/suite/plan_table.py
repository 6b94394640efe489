"""The plan of a whole run, as a table and as JSON; and what is said of it before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from livecheck.core.plan import in_words
from livecheck.suite.estimates import Estimate, total
from livecheck.suite.estimates import as_dict as estimate_as_dict
from livecheck.suite.session import Wanted

ROW = "{:19} {:>9} {:>11} {:>9} {:>9}  {}"


def lines(wanted: Wanted) -> Iterator[str]:
    """A row for each step, its command below it, and the total."""
    yield "This is a plan, nothing is sent. Requests and tokens (prompts and answers) are bounds."
    yield ""
    yield ROW.format("script", "requests", "tokens", "typical", "longest", "wakes or loads")
    found = total(wanted.estimates)
    for command, estimate in zip(wanted.running, wanted.estimates, strict=True):
        yield row(command.step.name, estimate)
        yield f"    $ {command.shown()}"
    yield row(f"total of {len(wanted.running)}", replace(found, wakes="all of these"))
    if wanted.repeats > 1:
        rest_s = wanted.cooldown_s * (wanted.repeats - 1)
        typical = in_words(found.typical_s * wanted.repeats + rest_s)
        yield f"{wanted.repeats} runs and the waits between them: {typical}"
    yield ""
    yield "The longest time is that of a deployment whose every answer comes just before --timeout."
    yield from left_out(wanted)


def row(name: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return ROW.format(name, *("-",) * 4, "not known").rstrip()
    figures = f"{estimate.requests:,}", f"{estimate.tokens_at_most:,}"
    times = in_words(estimate.typical_s), in_words(estimate.at_most_s)
    return ROW.format(name, *figures, *times, estimate.wakes or "nothing")


def left_out(wanted: Wanted) -> Iterator[str]:
    for name, why in wanted.left_out.items():
        if why:
            yield f"left out: {name}: {why}"


def as_dict(wanted: Wanted) -> dict[str, Any]:
    """The sum under the same keys as in the plan of one script, and each step."""
    steps = [
        {"name": command.step.name, "script": command.file, "command": command.shown()}
        | estimate_as_dict(estimate)
        for command, estimate in zip(wanted.running, wanted.estimates, strict=True)
    ]
    sums = estimate_as_dict(total(wanted.estimates))
    gone = [{"name": name, "why": why} for name, why in wanted.left_out.items() if why]
    about = {"script": "run_all", **sums, "repeats": wanted.repeats}
    return {**about, "steps": steps, "left_out": gone}


def before(wanted: Wanted, long_s: float | None) -> Iterator[str]:
    """What is said first: what is left out, and on a terminal that the run is a long one.

    long_s: from which time on that is said; None: never.
    """
    typical_s = total(wanted.estimates).typical_s * wanted.repeats
    typical_s += wanted.cooldown_s * (wanted.repeats - 1)
    if long_s is not None and typical_s > long_s:
        pairs = zip(wanted.running, wanted.estimates, strict=True)
        known = [(each.typical_s, command.step.name) for command, each in pairs if each]
        text = f"This takes about {in_words(typical_s)}"
        if known:
            longest_s, name = max(known)
            text += f", of which {name} takes {in_words(longest_s)} (--skip {name} leaves it out)"
        yield f"{text}. Ctrl-C ends it, --resume goes on."
    yield from left_out(wanted)
