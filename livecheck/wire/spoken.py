"""What a message, or a delta of a stream, says: the text for the user, and the thoughts before it.

OpenAI's API has `content` and `refusal`. Thoughts have no place in it, and servers have several for
them: `reasoning_content` (DeepSeek, vLLM, llama.cpp), `reasoning` (OpenRouter, newer vLLM),
`thinking` (Ollama), parts of the content (Mistral), or tags around the first part of the text.
"""

from __future__ import annotations

import re
from typing import Any

from livecheck.core.json_value import pick, pick_list, pick_text
from livecheck.core.late_pattern import late_pattern

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
MOST_PARTS = 10_000  # of the content of one message or delta
THOUGHT_PARTS = ("thinking", "reasoning")  # types of parts of the content
# How the thoughts begin where they are a part of the text, and how they end.
OPENING = late_pattern(
    r"\s*(<(?P<tag>think|thinking|thought|thoughts|reasoning|seed:think)>|\[THINK\]|◁think▷"
    r"|<\|channel\|?>\s*(analysis|thought))",
    re.IGNORECASE,
)
CLOSING = late_pattern(
    r"</(think|thinking|thought|thoughts|reasoning|seed:think)>|\[/THINK\]|◁/think▷"
    r"|<\|channel\|>final|<channel\|>",
    re.IGNORECASE,
)


def content_in(message: Any) -> str:
    """The text for the user: the content, or what stands there in its place, a refusal."""
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    text = content if isinstance(content, str) else _text_in(content)
    return text or pick_text(message, "refusal")


def thoughts_in(message: Any) -> str:
    """The thoughts: of the first field that has some, because some servers fill two of them."""
    if not isinstance(message, dict):
        return ""
    for name in THOUGHT_FIELDS:
        if name in message and (text := pick_text(message, name)):
            return text
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    return "".join(map(_text_of, filter(_is_thought, content[:MOST_PARTS])))


def has_tool_call(message: Any) -> bool:
    """Whether a tool call has a name or arguments. An id or an index says nothing."""
    functions = [pick(call, "function") for call in pick_list(message, "tool_calls")]
    return any(pick_text(f, key) for f in functions for key in ("name", "arguments"))


def is_unfinished_thought(text: str) -> bool:
    """Whether a text for the user is nothing but thoughts: it begins with their tag, and ends
    before they do."""
    return OPENING.match(text) is not None and CLOSING.search(text) is None


def without_thoughts(text: str) -> str:
    """A text for the user without the thoughts that stand before it, between tags or before one
    that ends them. Empty when the thoughts do not end."""
    if is_unfinished_thought(text):
        return ""
    return CLOSING.split(text)[-1] if CLOSING.search(text) else text


def _text_in(value: object) -> str:
    """The text in content that is of another type: a number, or parts that have a `text`. Thoughts
    among the parts are not for the user."""
    texts, left = [], [value]  # no recursion: a server may nest lists as deep as it likes
    for _ in range(MOST_PARTS):
        if not left:
            break
        part = left.pop()
        if isinstance(part, list):
            left += reversed(part)
        elif isinstance(part, dict):
            left.append(None if _is_thought(part) else part.get("text"))
        elif isinstance(part, (str, int, float)) and not isinstance(part, bool):
            texts.append(str(part))
    return "".join(texts)


def _is_thought(part: Any) -> bool:
    return pick(part, "type") in THOUGHT_PARTS


def _text_of(part: Any) -> str:
    """Mistral's part has a list of parts with text, others have the text itself."""
    inner = pick(part, "thinking")
    if isinstance(inner, list):
        return "".join(pick_text(each, "text") for each in inner)
    return inner if isinstance(inner, str) else pick_text(part, "text")
