"""The time to the first token of an answer, and its tokens apart from those of its thoughts. Pure.

TTFT is the time to the first thought of a model that thinks. What a user waits for is the first
token of the answer: NVIDIA's AIPerf calls that time to first output token (TTFO), Artificial
Analysis time to first answer token. Here thoughts are output too, so it is the latter: TTFA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from livecheck.wire.token_counts import reasoning_tokens

if TYPE_CHECKING:
    from livecheck.wire.sse import Stream

# On average, up to which each event counts as one token: the marks that end thoughts are counted,
# and never shown, and an answer may be short.
TOKENS_PER_EVENT = 1.5
USAGE, EVENTS, TEXT = "usage", "events", "text"  # who says how many tokens were thoughts


def thinking_figures(
    stream: Stream, times_ms: Sequence[float], found: Mapping[str, Any]
) -> dict[str, Any]:
    """Of one answer: TTFA, and its tokens apart. `times_ms`: of its output events; `found`: its
    counts of tokens, as in its record. An answer without thoughts begins with its first output, and
    has no such counts."""
    thoughts, first = stream.thinking, times_ms[0] if times_ms else None
    if thoughts is not None:
        place = thoughts.answer_at
        first = times_ms[place] if place is not None and place < len(times_ms) else None
    tokens, source = thinking_tokens(stream, found, len(times_ms))
    answer = None
    if tokens is not None:
        counts = [found[key] for key in ("output_tokens", "shown_tokens")]
        whole = max((each for each in counts if each is not None), default=None)
        answer = max(0, whole - tokens) if whole is not None else None
        if any(each.startswith("apart") for each in found["token_doubts"]):
            answer = found["output_tokens"]  # which does not contain the thoughts
    return {
        "ttfa_ms": first,
        "thinking_tokens": tokens,
        "answer_tokens": answer,
        "thinking_source": source,
    }


def thinking_tokens(
    stream: Stream, found: Mapping[str, Any], events: int
) -> tuple[int | None, str | None]:
    """How many tokens were thoughts, and who says so: the server, else the events that carried
    them, else (where an event holds several tokens) their share of the text."""
    if named := reasoning_tokens(stream.usage or {}):
        return int(named), USAGE
    thoughts, shown = stream.thinking, found["shown_tokens"]
    if thoughts is None or shown is None:
        return None, None
    if shown <= TOKENS_PER_EVENT * events or not sum(stream.output_sizes):
        return min(thoughts.events, shown), EVENTS
    share = min(1.0, thoughts.size / sum(stream.output_sizes))
    return round(shown * share), TEXT


def summary_of(good: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the successful records of a level: in how many there are thoughts, in how many of these
    the answer never began, and who counted."""
    sources = [each for record in good if (each := record.get("thinking_source"))]
    return {
        "with_thoughts": sum(thinks(record) for record in good),
        "without_answer": sum(never_answers(record) for record in good),
        "thinking_sources": {name: sources.count(name) for name in dict.fromkeys(sources)},
    }


def thinks(record: Mapping[str, Any]) -> bool:
    """Whether thoughts were shown or counted before an answer."""
    if "ttfa_ms" not in record:  # of a version that did not measure it
        return False
    return record["ttfa_ms"] != record["ttft_ms"] or bool(record.get("thinking_tokens"))


def never_answers(record: Mapping[str, Any]) -> bool:
    """Whether there is output, but no beginning of an answer."""
    is_told = "ttfa_ms" in record
    return is_told and record["ttfa_ms"] is None and record["ttft_ms"] is not None


def least_ms(record: Mapping[str, Any]) -> float | None:
    """What TTFA is at least, of an answer that never began: the time to its last output, which was
    a thought. None of any other."""
    if not never_answers(record):
        return None
    times = record["event_ms"]
    return float(record["ttft_ms"] + (times[-1] - times[0] if len(times) else 0.0))


def source_words(sources: Mapping[str, int]) -> str:
    """Who counted the tokens of the thoughts, for people."""
    names = {
        USAGE: "the server (usage)",
        EVENTS: "the events that carried them",
        TEXT: "their share of the text",
    }
    return ", ".join(names.get(each, each) for each in sorted(sources)) or "-"
