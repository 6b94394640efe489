"""Characters of several bytes: whether they come whole, and what became of those that do not.

A tokenizer splits such a character over several tokens, so a server that turns each token into text
by itself damages it, mostly in streams alone. A proxy or a gateway can also read UTF-8 as another
encoding, or cut it between two reads.
"""

from __future__ import annotations

import json
from typing import Any

from livecheck.core.json_value import decode_or_none, pick, quoted

LOST = "\N{REPLACEMENT CHARACTER}"
# A new emoji and a rare ideograph, which tokenizers split; a dash and a letter of two bytes.
SAMPLE = "\N{MELTING FACE} \u9f9c \N{EM DASH} \N{LATIN SMALL LETTER E WITH ACUTE}"
SPECIAL = [char for char in SAMPLE if not char.isascii()]
FIELD = "text"
PROMPT = f"Repeat this line exactly, and write nothing else: {SAMPLE}"


def value_of(content: str) -> str:
    """The text in an answer, which may be JSON with the text in FIELD."""
    value = pick(decode_or_none(content), FIELD)
    return value if isinstance(value, str) else content


def is_by_schema(content: str) -> bool:
    """Whether an answer is JSON with FIELD: then nothing but the sample may be in it."""
    return value_of(content) != content


def special_in(text: str) -> list[str]:
    """Which of the special characters are in a text."""
    return [char for char in SPECIAL if char in text]


def problems(whole: str, streamed: str) -> list[str]:
    """What is wrong with the special characters in two answers to the same request."""
    in_whole, in_stream = damage(whole), damage(streamed)
    found = []
    if in_whole:
        found.append(f"the whole answer has {in_whole}")
    if in_stream:
        found.append(f"the stream has {in_stream}")
    if len(found) == 1:
        found[0] += f" (the {'stream' if in_whole else 'whole answer'} does not)"
    if not found and (missing := vanished(whole, streamed)):
        found.append(f"{' '.join(missing)} is missing in the stream")
    if not found and (missing := vanished(streamed, whole)):
        found.append(f"{' '.join(missing)} is missing in the whole answer")
    if not found and keeps_schema(whole) != keeps_schema(streamed):
        kept, other, wrong = "whole answer", "stream", streamed
        if keeps_schema(streamed):
            kept, other, wrong = other, kept, whole
        if is_near(wrong):
            found.append(f"the {other} is {quoted(wrong)}, while the {kept} keeps the schema")
    return found


def keeps_schema(content: str) -> bool:
    """Whether an answer is JSON that has the sample and nothing else."""
    return is_by_schema(content) and value_of(content) == SAMPLE


def is_near(content: str) -> bool:
    """Whether an answer is made of the sample, with pieces lost, doubled or out of order: a server
    that keeps no schema in one of the two lets the model write whatever it likes."""
    allowed = set(json.dumps({FIELD: SAMPLE}, ensure_ascii=False))
    return bool(content) and set(content) <= allowed and bool(special_in(content))


def damage(content: str) -> str | None:
    """What happened to characters in an answer, in a few words; None when nothing shows."""
    text = value_of(content)
    if count := text.count(LOST):
        return f"U+FFFD, the mark of a lost character, {count} times"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "halves of characters (lone surrogates), which Python cannot encode"
    if not text.strip("? ") and (text.strip() or is_by_schema(content)):
        return f"nothing but {quoted(text)} in place of {SAMPLE!r}"
    for char in SPECIAL:
        if found := next((form for form in misread(char) if form in text), None):
            return f"{quoted(found)} in place of {char!r}: UTF-8 read as another encoding"
        if escaped(char) in text.lower():
            return f"{escaped(char)} in place of {char!r}: escaped twice"
    return None


def vanished(one: str, other: str) -> list[str]:
    """The special characters that are in one answer and certainly should be in the other.

    Two answers may differ. They are the same text if both keep the schema, or if nothing else
    differs.
    """
    missing = [char for char in special_in(one) if char not in other]
    is_same = is_by_schema(one) and is_by_schema(other)
    return missing if is_same or ascii_of(one) == ascii_of(other) else []


def ascii_of(text: str) -> str:
    """What is left of a text without other characters and without white space."""
    return "".join(char for char in text if char.isascii() and not char.isspace())


def misread(char: str) -> list[str]:
    """The character when its UTF-8 is taken for one of the encodings of one byte."""
    code = char.encode()
    return [code.decode("latin-1"), code.decode("cp1252", "ignore")]


def escaped(char: str) -> str:
    r"""Its escape sequence in JSON, such as `\u2014`."""
    return json.dumps(char).strip('"')


def is_damaged(text: str, was_cut: bool) -> bool:
    """Whether a text has lost a character; the last one may be, when the answer `was_cut` there."""
    return LOST in (text.rstrip(LOST) if was_cut else text)


def schema_of_sample() -> dict[str, Any]:
    """A response_format that allows nothing but the sample."""
    field = {"type": "string", "enum": [SAMPLE]}
    schema = {
        "type": "object",
        "properties": {FIELD: field},
        "required": [FIELD],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "line", "strict": True, "schema": schema},
    }
