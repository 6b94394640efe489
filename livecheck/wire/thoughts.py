"""Answers that never came to the point: all their tokens went into thoughts, up to max_tokens.

A reasoning model thinks before it answers, and its thoughts count as tokens. With a small
max_tokens they use up all of them: the answer has no content, and that is no fault of the
deployment. Most servers show the thoughts, some only count them. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from livecheck.core.json_value import number, pick
from livecheck.wire import spoken
from livecheck.wire.chunk_form import finish_meaning
from livecheck.wire.token_counts import reasoning_tokens

OPTION = "--max-tokens"  # of most commands
NEARLY_ALL = 0.9  # of the tokens: a few more may be marks around the thoughts


class Spent(NamedTuple):
    """All tokens of an answer went into thoughts.

    `tokens`: as the server counts them, None if it does not. `is_shown`: the thoughts are in the
    answer. `is_said`: the server says itself how many tokens were thoughts. Where neither is so,
    the text may as well have been lost on its way.
    """

    tokens: int | None
    is_shown: bool
    is_said: bool = False

    @property
    def is_certain(self) -> bool:
        return self.is_shown or self.is_said

    def words(self, option: str | None = OPTION) -> str:
        """What happened, and what to do. `option`: of the command, to raise; None: it has none."""
        many = "all tokens" if self.tokens is None else f"all {self.tokens} tokens"
        text = f"{many} went into thoughts"
        if not self.is_shown:
            text += " (reasoning that is not shown)"
        if not self.is_certain:
            text += ", or were lost"
        return text if option is None else f"{text}: raise {option}"


class Ending(NamedTuple):
    """How an answer ended. `timings`: the figures that llama.cpp sends. `asked`: its max_tokens."""

    finish_reason: object
    usage: object
    timings: object = None
    asked: float | None = None


def spent(text: str, thoughts: str, ending: Ending, is_stream: bool) -> Spent | None:
    """Whether all tokens of an answer went into thoughts; None when not, or when nothing says so.

    `text`: for the user; `thoughts`: what is shown of them. That nothing at all is shown has to be
    explained by the server's count. A stream that nobody counts is explained by its end alone.
    llama.cpp shows the thoughts: where nothing is in its answer, the text was lost.
    """
    if text.strip() and not spoken.is_unfinished_thought(text):
        return None
    count = number(pick(ending.usage, "completion_tokens"))
    if not is_cut(ending.finish_reason, count, ending.asked):
        return None
    tokens = int(count) if count else None
    if text.strip() or thoughts:
        return Spent(tokens, is_shown=True)
    if beside := tokens_beside(ending.usage):
        return Spent(int(beside), is_shown=False, is_said=True)
    hidden = reasoning_tokens(ending.usage) if isinstance(ending.usage, dict) else None
    if tokens and hidden is not None:
        is_said = hidden >= NEARLY_ALL * tokens
        return Spent(tokens, is_shown=False, is_said=True) if is_said else None
    is_explained = tokens is not None or (is_stream and count is None)
    return Spent(tokens, is_shown=False) if is_explained and not ending.timings else None


def tokens_beside(usage: object) -> float:
    """How many tokens the total has besides those of the prompt, where none are of the answer:
    Gemini counts its thoughts so. 0 when there is no such count."""
    prompt, total = number(pick(usage, "prompt_tokens")), number(pick(usage, "total_tokens"))
    has_answer = bool(number(pick(usage, "completion_tokens")))
    if has_answer or prompt is None or total is None:
        return 0.0
    return max(0.0, total - prompt)


def is_cut(reason: object, tokens: float | None, asked: float | None) -> bool:
    """Whether an answer ended at max_tokens: it says so, or it has as many tokens and does not say
    that anything else ended it."""
    meaning = finish_meaning(reason) if isinstance(reason, str) and reason else "stop"
    if meaning == "length":
        return True
    return meaning == "stop" and bool(tokens and asked) and (tokens or 0) >= (asked or 0)
