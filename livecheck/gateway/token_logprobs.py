"""The tokens that come with `logprobs`: whether their figures can be true, and their text."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from livecheck.core.json_value import pick_list, pick_text


def is_logprob(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0


def joins(tokens: Sequence[Any], content: str) -> bool:
    """Whether the tokens together are the content.

    The marker of the end may count as one of them, and white space at both ends may be missing. A
    character may be split over several tokens: then their bytes tell.
    """
    texts = [pick_text(token, "token") for token in tokens]
    codes = [pick_list(token, "bytes") for token in tokens]
    for count in (len(tokens), len(tokens) - 1):
        forms = ["".join(texts[:count])]
        with contextlib.suppress(ValueError, TypeError):
            forms.append(b"".join(map(bytes, codes[:count])).decode("utf-8", "replace"))
        if whole_characters(content) in map(whole_characters, forms):
            return True
    return False


def whole_characters(text: str) -> str:
    """The text without characters that were cut in two, and without white space at its ends."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "").strip()
