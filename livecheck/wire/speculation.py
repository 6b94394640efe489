"""Several tokens at once: how many, how many of them a draft had right, and what that means. Pure.

With speculative decoding (Leviathan et al. 2023) an engine drafts some tokens cheaply and checks
all of them in one step, so that each step gives one token more than were accepted. llama.cpp tells
of each answer how many it drafted and accepted (`draft_n`, `draft_n_accepted` in its `timings`).
The tokens of a step are sent together, in one event or in several, so the time between two arrivals
(ITL) is that of a step, and only the time of a token (TPOT) compares with other runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.json_value import number
from livecheck.core.text import plural

SEVERAL = 1.2  # tokens in an arrival on average; fewer are a pause of the network now and then
NOTABLE = 0.5  # tokens, by which what comes at once is more than an event
STEP = 8  # no engine decodes more in a step: more are blocks, which the check `pacing` is about


def draft_figures(timings: Mapping[str, Any]) -> dict[str, float | None]:
    """How many tokens were drafted for an answer, and accepted; None where it is not said."""
    return {
        "draft_tokens": number(timings.get("draft_n")),
        "draft_accepted_tokens": number(timings.get("draft_n_accepted")),
    }


def summary_of(good: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Of the successful records of a level."""
    drafted = [each for record in good if (each := drafts_of(record)) is not None]
    proposed, accepted = (
        (sum(column) for column in zip(*drafted, strict=True)) if drafted else (0, 0)
    )
    return {
        "draft_tokens": proposed if drafted else None,
        "draft_accepted_tokens": accepted if drafted else None,
        "acceptance_rate": round(accepted / proposed, 4) if proposed else None,
        "tokens_per_event": tokens_in_each(good, "output_events"),
        "tokens_per_arrival": tokens_in_each(good, "output_arrivals"),
    }


def drafts_of(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """(drafted, accepted) of an answer; None when that is not said, or cannot be."""
    drafted, accepted = record.get("draft_tokens"), record.get("draft_accepted_tokens")
    if drafted is None or accepted is None or contradicts(record):
        return None
    return drafted, accepted


def contradicts(record: Mapping[str, Any]) -> bool:
    """Whether more of a draft was accepted than there was of it."""
    drafted, accepted = record.get("draft_tokens"), record.get("draft_accepted_tokens")
    return drafted is not None and accepted is not None and accepted > drafted


def tokens_in_each(good: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Shown tokens per event or arrival of a level. The end token of an answer is not among them:
    it is counted, and never sent."""
    pairs = [(record.get("shown_tokens"), record.get(key)) for record in good]
    known = [(tokens, count) for tokens, count in pairs if tokens is not None and count]
    if not known:
        return None
    tokens = sum(tokens - 1 if tokens > count else tokens for tokens, count in known)
    mean: float = tokens / sum(count for _, count in known)
    return round(mean, 3)


def at_once(figures: Mapping[str, Any]) -> float | None:
    """How many tokens a step of the engine sends, where ITL is therefore not the time of a token;
    None where that is not so, or not known.

    In a client-bound level events may have come together because this program was late: then only
    what is in one event counts.
    """
    is_late = (figures.get("client") or {}).get("client_bound")
    tokens = figures.get("tokens_per_event" if is_late else "tokens_per_arrival")
    is_step = isinstance(tokens, (int, float)) and SEVERAL < tokens <= STEP
    return float(tokens) if is_step and tokens else None


def itl_words(tokens: float) -> str:
    """Why a bound on ITL is not judged."""
    count = f"{tokens:.1f} tokens come at once on average"
    return f"{count}, so ITL is the time of as many: put the bound on TPOT"


def words(figures: Mapping[str, Any]) -> str | None:
    """`3.1 in an event, 6.2 at once: compare TPOT, not ITL`; None where there is one at a time."""
    event, step = figures.get("tokens_per_event"), at_once(figures)
    if step is None:
        return None
    event = event or 0.0
    told = [f"{event:.1f} tokens in an event"] if event > SEVERAL else []
    told += [] if told and step - event < NOTABLE else [f"{step:.1f} tokens at once"]
    return f"{', '.join(told)}: compare TPOT, not ITL"


def draft_words(figures: Mapping[str, Any]) -> str | None:
    """`62.5 % of 1,280 draft tokens`; None when the server tells nothing."""
    proposed, share = figures.get("draft_tokens"), figures.get("acceptance_rate")
    if proposed is None or share is None:
        return None
    return f"{100 * share:.1f} % of {proposed:,.0f} draft tokens"


def problems(good: Sequence[Mapping[str, Any]]) -> list[str]:
    """What cannot be true in what the server tells of its drafts."""
    wrong = [record for record in good if contradicts(record)]
    if not wrong:
        return []
    accepted, drafted = wrong[0]["draft_accepted_tokens"], wrong[0]["draft_tokens"]
    example = f"as {accepted:g} of {drafted:g}"
    return [f"more draft tokens accepted than drafted in {plural(len(wrong), 'answer')}, {example}"]
