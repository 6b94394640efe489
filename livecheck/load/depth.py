"""Prompts of a wanted number of tokens (`--depth`), and what is shown of their levels.

Only the server knows how many tokens a text has. It is asked to count two short prompts; all others
have the same form, so these two foretell their counts (`wire/token_rate.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from livecheck.core.checks import Check, Status
from livecheck.core.credentials import CannotCheck, NoAccess
from livecheck.core.text import figure
from livecheck.load import table
from livecheck.load.arrivals import CHAT, Prompt, question
from livecheck.load.level import Session, chat_request
from livecheck.load.turns import TOO_LONG
from livecheck.wire import chat, endpoints
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.asking import fetch, rate_limit_words
from livecheck.wire.decode_figures import cached_tokens
from livecheck.wire.filler import USUAL_TOKENS, filler
from livecheck.wire.token_rate import Counted, Rate, find_rate

LEAST, MOST = 64, 4_000_000  # tokens of a prompt
# Sentences of the two prompts that are counted: the longer one has some 600 tokens, or half of the
# least depth. The farther they are apart, the less the error of a count matters.
LEAST_FAR, MOST_FAR, NEAR_SHARE = 4, 64, 8
COUNT_TOKENS = 16  # of their answers; reasoning models refuse to answer in very few
COUNTING = 4  # requests for it at most: each prompt once more without stream_options
MARGIN = 0.03  # by which a prompt may have more tokens than wanted, at most: see `token_rate`
HEADS = ("depth", "in flight", "prompt", "TTFT [ms]", "prefill", "its own", "decode")
WIDTHS = (9, 11, 9, 12, 12, 12, 12)


class DepthPrompts:
    """Makes prompts of so many tokens, by the server's own count (`rate`). Each one is made unique
    when it is sent, by its first line, so that no prefix of it is in a cache."""

    def __init__(self, rate: Rate, asked: str):
        self._rate, self._asked = rate, asked
        self._made: dict[int, Prompt] = {}

    def prompt(self, tokens: int) -> Prompt:
        if tokens not in self._made:
            self._made[tokens] = long_prompt(self._rate.sentences_for(tokens), self._asked)
        return self._made[tokens]


def long_prompt(sentences: int, asked: str) -> Prompt:
    """So many sentences, then what is asked."""
    import random

    text = " ".join(filler(sentences, random.Random(sentences)))
    return question(f"{text}\n\n{asked}")


def count_prompts(session: Session, depths: Sequence[int]) -> DepthPrompts | Check:
    """Let the server count two prompts. A failed check when it does not answer them.

    CannotCheck when it counts nothing, or when the question alone is longer than the least depth;
    NoAccess when it does not let this program in.
    """
    asked = session.run.args.prompt
    far = max(LEAST_FAR, min(MOST_FAR, min(depths) // (2 * USUAL_TOKENS)))
    counts = []
    for sentences in (max(1, far // NEAR_SHARE), far):
        answer = ask_to_count(session, long_prompt(sentences, asked))
        if answer.is_rate_limited:
            raise CannotCheck(rate_limit_words(answer))
        if text := no_access(session.run, answer):
            raise NoAccess(text)
        if session.endpoint != CHAT and (text := endpoints.missing(answer)):
            raise CannotCheck(text)
        if problem := answer.completion.problem:
            detail = f"a short prompt, of which the tokens were to be counted, failed: {problem}"
            return Check("requests", Status.FAIL, detail).shown_by([answer])
        counts += [counted] if (counted := count_in(answer, sentences)) else []
    rate = find_rate(counts)
    if rate is None:
        said = ", ".join(f"{each.tokens:g}" for each in counts) or "nothing"
        raise CannotCheck(
            f"--depth: the server does not count the tokens of prompts (usage.prompt_tokens: {said}"
            "), so none of a wanted length can be made"
        )
    if (least := rate.expected(0)) > min(depths):
        raise CannotCheck(
            f"--depth: the question alone has {least:.0f} tokens here: give a larger depth"
        )
    return DepthPrompts(rate, asked)


def ask_to_count(session: Session, prompt: Prompt) -> Answer:
    """A short answer to it; without a stream, if the server refuses stream_options."""
    short = Prompt(prompt.messages, min(COUNT_TOKENS, session.run.args.max_tokens))
    if session.usage:
        answer = fetch(session.run, session.wire, chat_request(session, prompt=short))
        if answer.status not in (400, 422):
            return answer
        session.usage = False
    asked = chat.completion(session.model, short.unique(), short.max_tokens or 1, stream=False)
    return fetch(session.run, session.wire, asked)


def count_in(answer: Answer, sentences: int) -> Counted | None:
    if answer.is_stream:
        figures = answer.figures
        tokens, cached = figures["prompt_tokens"], figures["cached_tokens"]
    else:
        usage = answer.json.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        tokens, cached = usage.get("prompt_tokens"), cached_tokens(usage, {})
    is_count = isinstance(tokens, (int, float)) and not isinstance(tokens, bool)
    return Counted(sentences, tokens, cached or 0.0) if is_count else None


def refusal(depth: int | None, found: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a level at a depth says nothing: the server refuses each prompt of that length."""
    if depth is None or not found or any(each["status"] not in TOO_LONG for each in found):
        return None
    said = found[0]["error_text"]
    return f"prompts of {depth:,} tokens are refused, {len(found)} of {len(found)}: {said}"


# --- show


def table_lines(levels: Iterable[Mapping[str, Any]]) -> list[str]:
    """Depth against figures, from the metrics of the levels: medians."""
    rows = [cells(each) for each in levels if each.get("depth_tokens")]
    if not rows:
        return []
    lines = table.columns((HEADS, *rows), WIDTHS)
    return ["Medians by depth: prompts in tokens, rates in tokens per second", *lines, ""]


def cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("prefill_tokens_per_s", "server_prefill_tokens_per_s", "tokens_per_s")
    first = figures["by_turn"][0] if "by_turn" in figures else figures
    prompt = first["prompt_tokens"]["p50"]
    return (
        f"{figures['depth_tokens']}",
        f"{figures['concurrency']}",
        "-" if prompt is None else f"{prompt:.0f}",
        figure(first["ttft_ms"]["p50"]),
        *(figure(figures[name]["p50"]) for name in names),
    )
