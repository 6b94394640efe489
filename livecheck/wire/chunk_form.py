"""The form of a chat completion that OpenAI's API promises, and where an answer departs from it.

What counts is what a client does that was generated from OpenAI's published description, in which
`id`, `object`, `created`, `model` and `choices` are required: one in Go, Rust, Java or TypeScript
fails on a field that is missing or of another type, where Python reads on. Known additions of real
servers are not departures: Azure's chunks about its content filter have an empty id and no choice,
or a choice without a delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livecheck.core.json_value import pick
from livecheck.core.text import shorten
from livecheck.wire import repeats, spoken

CHUNK, WHOLE, LEGACY = "chat.completion.chunk", "chat.completion", "text_completion"
COMPLETE = ("stop", "length", "tool_calls", "function_call", "content_filter")
# What other APIs say in their place, in lower case, and what it means in OpenAI's.
DIALECTS = {
    **dict.fromkeys(("eos", "eos_token", "end_turn", "end_of_turn", "complete", "done"), "stop"),
    **dict.fromkeys(("stop_sequence", "stop_token", "stop_word", "pause_turn"), "stop"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "model_length", "max_length"), "length"),
    **dict.fromkeys(("tool_use", "tool_call", "tool-calls"), "tool_calls"),
    **dict.fromkeys(("safety", "sensitive", "refusal", "content-filter"), "content_filter"),
    **{reason: reason for reason in COMPLETE},  # in capital letters
}
# What stands in every chunk but the last, where OpenAI's API has null; in lower case
PLACEHOLDERS = ("", "null", "none")
# Azure's fields about its content filter: of a chunk, of a choice
PROMPT_NOTES = ("prompt_filter_results", "prompt_annotations")
CHOICE_NOTES = ("content_filter_results", "content_filter_offsets", "content_filter_result")
SAME_THOUGHTS = "the content is the same text as the thoughts"
TEXTS = ("content", "reasoning_content", "reasoning", "refusal")  # of a delta or a message


# --- finish reasons


def finish_meaning(reason: str) -> str | None:
    """Which of OpenAI's finish reasons it is or stands for; None: the answer was given up."""
    return reason if reason in COMPLETE else DIALECTS.get(reason.lower())


def means_length(reason: object) -> bool:
    """Whether an answer with this finish reason ended at max_tokens."""
    return isinstance(reason, str) and finish_meaning(reason) == "length"


def is_placeholder(reason: str) -> bool:
    """Whether a text stands in the place of null: it ends nothing."""
    return reason.lower() in PLACEHOLDERS


def given_up(reason: str) -> str | None:
    """What is wrong with an answer that ended like this; None for one that is complete."""
    if finish_meaning(reason) is not None:
        return None
    return f"finish_reason is {named(reason)}: the answer was given up, not finished"


def unfinished(choice: Mapping[str, Any]) -> str | None:
    """Why the choice of a whole answer is not complete; None when it is.

    Null means "not yet", as in a stream. A server that has no such field at all says nothing of how
    the answer ended: that is a breach of the form, and the end of the JSON is the end.
    """
    if "finish_reason" not in choice:
        return None
    reason = choice["finish_reason"]
    if isinstance(reason, str) and not is_placeholder(reason):
        return given_up(reason)
    return f"finish_reason is {named(reason)}: nothing shows that the answer is complete"


def dialect(reason: str) -> str | None:
    """What is odd about the finish reason of a complete answer; None for OpenAI's own words."""
    meaning = finish_meaning(reason)
    if reason in COMPLETE or meaning is None:
        return None
    return f"finish_reason is {named(reason)}, where OpenAI's API says {meaning!r}"


# --- chunks


def is_filter_note(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk is only about Azure's content filter, not a part of the answer."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    if not choices:
        return chunk.get("id") == "" or any(name in chunk for name in PROMPT_NOTES)
    return all(_is_filter_choice(choice) for choice in choices)


def _is_filter_choice(choice: object) -> bool:
    if not isinstance(choice, dict) or choice.get("delta"):
        return False
    return any(name in choice for name in CHOICE_NOTES) and not choice.get("finish_reason")


def chunk_problems(chunk: Mapping[str, Any]) -> list[str]:
    """The fields of a chunk that a strict client cannot read. That `choices` is not a list, and
    what is wrong with ids, `sse` says itself."""
    if _is_usual(chunk) or is_filter_note(chunk):
        return []
    choices = chunk.get("choices")
    known = (
        [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []
    )
    is_legacy = any("text" in choice and "delta" not in choice for choice in known)
    found = _envelope_problems(chunk, (CHUNK, LEGACY) if is_legacy else (CHUNK,))
    for choice in known:
        found += _choice_problems(choice)
        if not is_legacy:
            found += _delta_problems(choice.get("delta"))
    return found


def _is_usual(chunk: Mapping[str, Any]) -> bool:
    """Whether it is one of the chunks that nearly every event has: a part of the content of one
    choice, all in order. This is only quicker than to look for what may be wrong."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return False
    choice, usage = choices[0], chunk.get("usage")
    delta, reason = choice.get("delta"), choice.get("finish_reason")
    return (
        chunk.get("object") == CHUNK
        and type(chunk.get("created")) is int
        and isinstance(chunk.get("model"), str)
        and (usage is None or isinstance(usage, dict))
        and type(choice.get("index")) is int
        and (reason is None or isinstance(reason, str))
        and isinstance(delta, dict)
        and len(delta) == 1
        and isinstance(delta.get("content"), str)
    )


def _envelope_problems(fields: Mapping[str, Any], objects: tuple[str, ...]) -> list[str]:
    found = []
    if fields.get("object") not in objects:
        found.append(f"object is {_shown(fields, 'object')}, not {objects[0]!r}")
    if type(fields.get("created")) is not int:
        found.append(f"created is {_shown(fields, 'created')}, not a whole number")
    if not isinstance(fields.get("model"), str):
        found.append(f"model is {_shown(fields, 'model')}, not a text")
    if not isinstance(fields.get("usage"), (dict, type(None))):
        found.append(f"usage is {_shown(fields, 'usage')}, not an object")
    return found


def _choice_problems(choice: Mapping[str, Any]) -> list[str]:
    found = []
    if type(choice.get("index")) is not int:
        found.append(f"the index of a choice is {_shown(choice, 'index')}, not a whole number")
    if not isinstance(choice.get("finish_reason"), (str, type(None))):
        found.append(f"finish_reason is {_shown(choice, 'finish_reason')}, not a text")
    return found


def _delta_problems(delta: object) -> list[str]:
    if not isinstance(delta, dict):
        return ["a choice has no delta" if delta is None else f"delta is {named(delta)}"]
    found = []
    if delta.get("role") not in (None, "assistant", ""):
        found.append(f"role is {_shown(delta, 'role')}, not 'assistant'")
    return found + _text_problems(delta)


def _text_problems(fields: Mapping[str, Any]) -> list[str]:
    """The texts of a delta or of a message that are not texts."""
    wrong = [name for name in TEXTS if not isinstance(fields.get(name), (str, type(None)))]
    return [f"{name} is {_shown(fields, name)}, not a text" for name in wrong]


# --- whole answers


def whole_problems(fields: object) -> list[str]:
    """The fields of an answer without streaming that a strict client cannot read. Its role and
    usage are looked at where they are needed."""
    if not isinstance(fields, dict):
        return []
    found = _envelope_problems(fields, (WHOLE,))
    if not (isinstance(fields.get("id"), str) and fields["id"]):
        found.append(f"id is {_shown(fields, 'id')}")
    choices = fields.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            found += _choice_problems(choice)
            found += [] if "finish_reason" in choice else ["finish_reason is missing"]
            message = choice.get("message")
            found += _text_problems(message) if isinstance(message, dict) else []
    return found


def whole_findings(fields: object) -> list[tuple[str, str]]:
    """All that an operator may want to know of the form of a whole answer: the kinds are those of
    `sse.FORM_KINDS`."""
    found = [("form", problem) for problem in whole_problems(fields)]
    choices = fields.get("choices") if isinstance(fields, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        reason, message = pick(choice, "finish_reason"), pick(choice, "message")
        oddity = dialect(reason) if isinstance(reason, str) else None
        found += [("finish_dialect", oddity)] if oddity else []
        if repeats.is_same(spoken.thoughts_in(message), spoken.content_in(message)):
            found.append(("same_thoughts", SAME_THOUGHTS))
    return found


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return named(fields[name]) if name in fields else "missing"


def named(value: object) -> str:
    """A foreign value inside a line for people: a text in quotes, others by their type."""
    return shorten(repr(value) if isinstance(value, str) else _plain(value), 40)


def _plain(value: object) -> str:
    """A foreign value in JSON's words, as far as it is short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, (int, float)) else f"of type {type(value).__name__}"
