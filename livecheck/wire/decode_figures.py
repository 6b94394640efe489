"""The figures of one stream: its tokens, and how fast those that were shown came. Pure.

A rate that cannot be told is None, and `no_rate` says why (a key of `NO_RATE`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from livecheck.core.json_value import number, pick
from livecheck.wire.output_arrivals import Arrivals, read_arrivals
from livecheck.wire.token_counts import count_tokens

if TYPE_CHECKING:
    from livecheck.wire import sse

LEAST_TOKENS = 10  # between two blocks: the count of fewer is wrong by more than a tenth
LEAST_ARRIVALS = 3  # of several tokens: the last one has what is left, and comes at the end
LEAST_BLOCKS = 4  # a block may come in two parts
AGREEMENT = 1.5  # a rate without the last block may be so many times the one with it, or less
SEVERAL_PER_EVENT = 1.2  # tokens: from here on an event's share is that of its text

# Why there is no rate, as it is saved and as it is said.
NO_OUTPUT, ONE_TOKEN, ONE_ARRIVAL = "no_output", "one_token", "one_arrival"
FEW_BLOCKS, UNEVEN_BLOCKS, WRONG_COUNT = "few_blocks", "uneven_blocks", "wrong_count"
NO_RATE = {
    NO_OUTPUT: "no output was shown",
    ONE_TOKEN: "there is no token after the first one",
    ONE_ARRIVAL: "all output came in one arrival",
    FEW_BLOCKS: "the output came in too few blocks to tell (longer answers would tell)",
    UNEVEN_BLOCKS: "the output came in groups that do not agree (longer answers would tell)",
    WRONG_COUNT: "the count of tokens does not fit the text that was shown",
}


class Rate(NamedTuple):
    """How fast the tokens after the first arrival came: so many in this time.

    `first`: tokens of the first arrival, of which no time tells anything. Without `steps` and
    `span_ms`, `problem` says why they cannot be told (a key of `NO_RATE`).
    """

    first: int | None = None
    steps: float | None = None
    span_ms: float | None = None
    problem: str | None = None

    @property
    def per_ms(self) -> float:
        return self.steps / self.span_ms if self.steps and self.span_ms else 0.0


def decode_figures(
    stream: sse.Stream, times_ms: Sequence[float], most: float | None = None
) -> dict[str, Any]:
    """Tokens, and how fast they came: `times_ms` are the arrivals of the output events, `most` is
    how many tokens were asked for at most."""
    tokens = count_tokens(stream, most)
    usage, timings = stream.usage or {}, stream.timings or {}
    arrivals = read_arrivals(times_ms, tokens.shown)
    rate = rate_of(stream, arrivals, tokens.shown)
    steps, span_ms = rate.steps, rate.span_ms
    return {
        "tpot_ms": round(span_ms / steps, 4) if steps and span_ms else None,
        "tokens_per_s": round(1e3 * steps / span_ms, 3) if steps and span_ms else None,
        "no_rate": rate.problem,
        "output_tokens": tokens.counted,
        "shown_tokens": tokens.shown,
        "hidden_tokens": tokens.hidden,
        "token_doubts": [f"{kind}: {text}" for kind, text in tokens.doubts],
        "first_tokens": rate.first,
        "token_source": tokens.source,
        "output_events": len(times_ms),
        "output_arrivals": arrivals.count,
        "prompt_tokens": number(usage.get("prompt_tokens")),
        "cached_tokens": cached_tokens(usage, timings),
    }


def rate_of(stream: sse.Stream, arrivals: Arrivals, tokens: int | None) -> Rate:
    """How fast `tokens` came, as far as the arrivals tell.

    An arrival says when the last of its tokens was there, so a rate is that of the tokens after the
    first arrival. Where arrivals bring several tokens, the last one is left out: it has what was
    left when the stream ended, and may have waited for more.
    """
    if not arrivals.count:
        return Rate(problem=NO_OUTPUT)
    if tokens is None:
        return Rate(problem=WRONG_COUNT)
    shares = shares_of(stream, arrivals, tokens)
    first = max(1, round(shares[0]))
    if arrivals.count == 1:
        return Rate(first, problem=ONE_ARRIVAL if arrivals.pieces > 1 else ONE_TOKEN)
    whole = _rate_until(arrivals.count - 1, first, arrivals, shares)
    if arrivals.are_grouped:
        return _rate_of_groups(whole, first, arrivals, shares)
    return whole if whole.steps else Rate(first, problem=ONE_TOKEN)


def _rate_until(last: int, first: int, arrivals: Arrivals, shares: Sequence[float]) -> Rate:
    """The rate of the tokens after the first arrival, up to the arrival of this number."""
    steps = max(0.0, sum(shares[: last + 1]) - first)
    return Rate(first, steps, arrivals.at_ms[last] - arrivals.at_ms[0])


def _rate_of_groups(whole: Rate, first: int, arrivals: Arrivals, shares: Sequence[float]) -> Rate:
    """The rate without the last arrival, if it agrees with that of all (`whole`)."""
    if arrivals.count < (LEAST_BLOCKS if arrivals.are_large else LEAST_ARRIVALS):
        return Rate(first, problem=FEW_BLOCKS)
    found = _rate_until(arrivals.count - 2, first, arrivals, shares)
    if not whole.steps:
        return Rate(first, problem=ONE_TOKEN)
    if not found.steps or (arrivals.are_large and found.steps < LEAST_TOKENS):
        return Rate(first, problem=FEW_BLOCKS)
    ratio = found.per_ms / whole.per_ms
    return found if 1 / AGREEMENT < ratio < AGREEMENT else Rate(first, problem=UNEVEN_BLOCKS)


def shares_of(stream: sse.Stream, arrivals: Arrivals, tokens: int) -> list[float]:
    """How many of the tokens each arrival brought: by its events, or by its text where an event
    holds several tokens."""
    events, sizes = sum(arrivals.events), stream.output_sizes
    if tokens <= SEVERAL_PER_EVENT * events or len(sizes) != events or not sum(sizes):
        return [tokens * each / events for each in arrivals.events]
    found, start = [], 0
    for each in arrivals.events:
        found.append(tokens * sum(sizes[start : start + each]) / sum(sizes))
        start += each
    return found


def cached_tokens(usage: dict[str, Any], timings: dict[str, Any]) -> float | None:
    """Prompt tokens that the server took from its cache, if it says so."""
    cached = number(pick(usage, "prompt_tokens_details", "cached_tokens"))
    return cached if cached is not None else number(timings.get("cache_n"))


def server_figures(timings: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp says of its own work. Its predicted_per_second counts one token more than
    there are intervals, so the rate is worked out anew, by our definition."""
    count, spent_ms = number(timings.get("predicted_n")), number(timings.get("predicted_ms"))
    steps = count - 1 if count and count > 1 and spent_ms else None
    return {
        "server_prompt_ms": number(timings.get("prompt_ms")),
        "server_predicted_ms": spent_ms,
        "server_predicted_tokens": count,
        "server_tokens_per_s": round(1e3 * steps / spent_ms, 3) if steps and spent_ms else None,
    }
