"""Pure: how many tokens of context a deployment says that one request may have, and what its words
say about a limit."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from livecheck.core.json_value import number, pick
from livecheck.core.late_pattern import late_pattern
from livecheck.wire.answer import WORDS_BYTES, Answer
from livecheck.wire.model_choice import entries_of

# Fields of an entry in the list of models. What a model was trained for (n_ctx_train, LM Studio's
# max_context_length) is more than what a request may have, so it comes last or not at all.
FIELDS: tuple[tuple[str, ...], ...] = (
    ("meta", "n_ctx"),  # llama.cpp: of one slot
    ("max_model_len",),  # vLLM, SGLang
    ("loaded_context_length",),  # LM Studio: of the model as it is loaded
    ("n_ctx",),
    ("context_length",),  # OpenRouter, Together
    ("context_window",),  # Groq
    ("context_size",),
    ("max_context_length",),  # Mistral
)
PROPS = ("default_generation_settings", "n_ctx")  # of llama.cpp's /props: of one slot
SLOTS = "total_slots"
LEAST_LIMIT = 128  # a number of tokens in an error; less may be anything
LEAST = 512  # less has no room for these prompts
# How servers say that a prompt is too long: llama.cpp, vLLM, SGLang, TGI, TensorRT-LLM, Ollama,
# LM Studio, TabbyAPI, LiteLLM and the large providers. The word "context" alone says nothing: that
# is also what a request or an error has.
SAYS_TOO_LONG = late_pattern(
    r"too (long|large|big|many tokens)|max_(model|seq|input|total|num|context)_?(len|tokens|length)"
    r"|context[ _-]?(length|size|window|limit|overflow)|maximum context"
    r"|(input|prompt|sequence)[ _]length|(input|prompt)s?\b.{0,20}overflow|context overflow"
    r"|(context|input|prompt|message|sequence|length|tokens?|body)s?\b.{0,60}"
    r"(exceed|maximum|\blimit|longer|greater|at most|must be <|more than|less than)"
    r"|(exceed|maximum|at most|limit of|longer than|reduce|shorten).{0,60}"
    r"(context|input|prompt|length|tokens?\b|bytes)",
    re.IGNORECASE | re.DOTALL,
)
A_NUMBER = late_pattern(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])|(?<![\d.,])\d{3,9}(?![\d.]\d)")


class Promise(NamedTuple):
    """So many tokens for one request, and where that is said."""

    tokens: int
    source: str


def promise_of_models(listing: Answer, model: str) -> Promise | None:
    """What the list of models says about this one."""
    entries = entries_of(listing)
    entry = next((each for each in entries if each["id"] == model), None)
    if entry is None and len(entries) == 1:
        entry = entries[0]  # the model has other names as well
    for path in FIELDS:
        tokens = number(pick(entry, *path))
        if tokens is not None and tokens >= 1:
            return Promise(int(tokens), f"{listing.path}: {'.'.join(path)}")
    return None


def promise_of_props(props: Answer) -> Promise | None:
    tokens = number(pick(said_by(props), *PROPS))
    if tokens is None or tokens < 1:
        return None
    return Promise(int(tokens), f"{props.path}: {PROPS[-1]}")


def slots_of_props(props: Answer) -> int | None:
    slots = number(pick(said_by(props), SLOTS))
    return int(slots) if slots is not None and slots >= 1 else None


def said_by(answer: Answer) -> Any:
    return answer.json if answer.is_ok else None


def says_too_long(answer: Answer) -> bool:
    """Whether an error says that the prompt is too long, in whichever words."""
    return SAYS_TOO_LONG.search(text_of(answer)) is not None


def limits_named(answer: Answer) -> list[int]:
    """The numbers in the words of an error that may be a limit of tokens."""
    words = answer.stream.error if answer.is_stream and answer.stream.error else answer.words
    found = (int(each.replace(",", "")) for each in A_NUMBER.findall(words))
    return [each for each in dict.fromkeys(found) if each >= LEAST_LIMIT]


def text_of(answer: Answer) -> str:
    error = answer.stream.error if answer.is_stream else None
    return f"{answer.body[:WORDS_BYTES].decode('utf-8', 'replace')} {error or ''}"
