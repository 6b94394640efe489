"""How many tokens an answer has, who counted them, and how many of them were shown. Pure.

`usage.completion_tokens` counts what the model wrote. Some of that may never be shown: reasoning
that a gateway keeps back. OpenAI's API names it (`completion_tokens_details.reasoning_tokens`,
contained in `completion_tokens`); others do not name it, count it beside `completion_tokens`, or
count the prompt as well, or leave out reasoning that is shown. A rate needs the tokens that were
shown, so a count is believed only if it fits the text that came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from livecheck.core.json_value import number, pick
from livecheck.core.text import plural

if TYPE_CHECKING:
    from livecheck.wire import sse

SPARE_TOKENS = 4  # that a count may have beside the text: its end, markers between its parts
# A token of European text has 3 to 5 bytes. Fewer than 2 on average are digits and the like, one
# token in each event; with several tokens in an event they are not all in the text.
LEAST_BYTES = 2
USUAL_BYTES = 3  # fewer are doubtful: it may be code, another language, or hidden tokens
ASCII_SHARE = 0.9  # of the bytes: in other scripts a token may be a single byte of a character
TOKENS_PER_EVENT = 1.5
MOST_BYTES = 12  # of a token, on average, where each event has less than one


class TokenCount(NamedTuple):
    """The tokens of one answer.

    counted: the server's count, else the number of output events; `source` says whose it is
    (`usage`, `timings`, `events`). shown: those in the text that was sent; None when that cannot be
    told. hidden: reasoning that was counted and not sent; None when the server does not name it.
    doubts: what is odd about the count, as (kind, words).
    """

    counted: int | None
    source: str | None
    shown: int | None
    hidden: int | None
    doubts: tuple[tuple[str, str], ...] = ()


def count_tokens(stream: sse.Stream, most: float | None = None) -> TokenCount:
    """`most`: how many were asked for at most (`max_tokens`)."""
    events = len(stream.output_ns)
    count = number(pick(stream.usage, "completion_tokens"))
    is_zero = count == 0 and bool(events)
    if count is None or is_zero:
        found = _count_without_usage(stream, events)
        if not is_zero:
            return found
        text = f"usage counts 0 tokens, but output came ({plural(events, 'event')})"
        return found._replace(doubts=(("zero", text), *found.doubts))
    return _count_by_usage(stream, int(count), events, most)


def _count_without_usage(stream: sse.Stream, events: int) -> TokenCount:
    if (count := number(pick(stream.timings, "predicted_n"))) is not None and (count or not events):
        return _checked(stream, TokenCount(int(count), "timings", int(count), None), events)
    if not events:
        return TokenCount(None, None, None, None)
    return TokenCount(events, "events", events, None)


def _count_by_usage(stream: sse.Stream, count: int, events: int, most: float | None) -> TokenCount:
    usage: Mapping[str, Any] = stream.usage or {}
    prompt, total = number(usage.get("prompt_tokens")), number(usage.get("total_tokens"))
    doubts: list[tuple[str, str]] = []
    written = count  # what the model wrote, shown or not
    if prompt and _contains_prompt(count, prompt, total, most, events):
        written = count - int(prompt)
        text = f"usage counts the prompt as output, as {count} with a prompt of {prompt:g}"
        doubts.append(("prompt", text))
    reasoning = reasoning_tokens(usage)
    others = written - int(reasoning or 0)
    if reasoning and (others < 0 or total == (prompt or 0) + count + reasoning):
        text = f"completion_tokens do not contain the reasoning, as {count} beside {reasoning:g}"
        doubts.append(("apart", text))
        others, written = written, written + int(reasoning)
    # Each event has a token at least: where there are more events, the reasoning is among them.
    is_shown = bool(stream.reasoning) or events > others + SPARE_TOKENS
    shown = written if is_shown else others
    hidden = None if reasoning is None else written - shown
    found = _checked(stream, TokenCount(count, "usage", shown, hidden, tuple(doubts)), events)
    if most is None or found.doubts or shown <= most:
        return found
    text = f"usage counts more than max_tokens, as {shown} of {most:g}"
    return found._replace(doubts=(("limit", text),))


def _contains_prompt(
    count: int, prompt: float, total: float | None, most: float | None, events: int
) -> bool:
    """Whether the count is the total, or more than was asked for and right without the prompt: one
    token in each event (and the end), or as many as were asked for."""
    rest = count - prompt
    is_right = rest in (events, events + 1, most)
    is_too_many = most is not None and count > most
    return rest >= events and (total == count or (is_too_many and is_right))


def reasoning_tokens(usage: Mapping[str, Any]) -> float | None:
    """As OpenAI's API names them, or as SGLang does; None when the server does not say."""
    found = number(pick(usage, "completion_tokens_details", "reasoning_tokens"))
    return found if found is not None else number(usage.get("reasoning_tokens"))


def _checked(stream: sse.Stream, found: TokenCount, events: int) -> TokenCount:
    """The count, without `shown` where it does not fit the text."""
    size, shown = sum(stream.output_sizes), found.shown or 0
    if not events:
        return found._replace(shown=0, hidden=shown + (found.hidden or 0))
    example = f"as {plural(shown, 'token')} for {plural(size, 'byte')}"
    if events > shown + SPARE_TOKENS and size > MOST_BYTES * shown:
        kind, text = "few", "fewer tokens are counted than the text has"
    elif not can_hold(stream, shown):
        kind, text = "hidden", "more tokens are counted than the text can hold"
    elif not can_hold(stream, shown, USUAL_BYTES):
        text = f"the text is short for so many tokens, {example} in {plural(events, 'event')}"
        return found._replace(doubts=(*found.doubts, ("short", f"{text}: are some hidden?")))
    else:
        return found
    doubts = (*found.doubts, (kind, f"{text}, {example}"))
    return found._replace(shown=None, hidden=None, doubts=doubts)


def can_hold(stream: sse.Stream, tokens: int, least_bytes: float = LEAST_BYTES) -> bool:
    """Whether the output that was sent can be so many tokens. `least_bytes`: of each, on average,
    where an event holds several."""
    events, size = len(stream.output_ns), sum(stream.output_sizes)
    if tokens <= events + SPARE_TOKENS:
        return True
    if tokens > size + SPARE_TOKENS:
        return False
    text = stream.text + stream.reasoning
    is_ascii = sum(each.isascii() for each in text) >= ASCII_SHARE * len(text)
    return not (is_ascii and tokens > TOKENS_PER_EVENT * events and size < least_bytes * tokens)
