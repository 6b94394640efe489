"""An answer of the embeddings endpoint, read as far as a benchmark needs it. Pure.

Of its vectors only the number is looked at, and whether there is something in each: what they are
worth is the question of test_openai_sdk.py. A large body is searched, not parsed: as JSON it would
take twenty times its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from typing import Any

from livecheck.core.json_value import MAX_JSON_BYTES, decode_or_none, pick, pick_list
from livecheck.core.text import plural
from livecheck.wire import sse
from livecheck.wire.connection import Failure

PATH = "/embeddings"
# the beginning of a vector with something in it: a list of numbers, or base64
BEGIN = re.compile(rb'"embedding"\s*:\s*(?:\[\s*[-0-9]|"[A-Za-z0-9+/])')
TOKENS = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,12})\b')


def is_vectors_path(path: str) -> bool:
    return path.endswith(PATH)


def read_stream(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> sse.Stream:
    """It is none: no output, and `events` is the number of its vectors."""
    found = sse.Stream()
    if len(body) <= MAX_JSON_BYTES:
        content = decode_or_none(body)
        found.events = sum(map(has_vector, pick_list(content, "data")))
        usage = pick(content, "usage")
        found.usage = usage if isinstance(usage, dict) else None
    else:
        found.events = sum(1 for _ in BEGIN.finditer(body))
        if told := TOKENS.search(body):
            found.usage = {"prompt_tokens": int(told[1])}
    return found


def reading_steps(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> Generator[None, None, sse.Stream]:
    """The same for a program that reads in steps: it is one."""
    yield
    return read_stream(content_type, body, marks)


def has_vector(entry: Any) -> bool:
    found = pick(entry, "embedding")
    return isinstance(found, (list, str)) and bool(found)


def problem(stream: sse.Stream, asked: bytes | None) -> Failure | None:
    """Why an answer with status 200 is not what was asked for; None when it is."""
    try:
        inputs = pick(json.loads(asked or b""), "input")  # our own
    except ValueError:
        inputs = None
    count = len(inputs) if isinstance(inputs, list) else 1
    if stream.events == count:
        return None
    seen = f"{plural(stream.events, 'vector')} for {plural(count, 'input')}"
    return Failure("empty" if not stream.events else "malformed", f"200, but {seen}")
