"""What every run has to keep, whatever the server did. `complaints` says what it did not keep."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence

from helpers.json_documents import texts_in

from hostile.commands import TIMEOUT_S
from hostile.run import Ended

SPARE_S = 5.0  # beyond --timeout, for each request
MOST_MEMORY_MB = 200.0
MOST_OUTPUT = 100_000  # bytes on stdout and stderr, without a document that was asked for
MOST_SAVED = 2_000_000  # bytes in all result files of such a short run
PIECE = 8  # characters of a credential that may not be shown
LIKE_A_SECRET = re.compile(rf"[\w.-]{{{PIECE},}}", re.ASCII)
TOO_LATE = "from a request to the next one or the end"
ENDS = frozenset({0, 1, 3})
# Invisible, or they turn the direction of what follows.
FORMAT_LIKE = frozenset("\u2028\u2029\u061c\ufeff")


def complaints(
    ended: Ended, allowed: Collection[int], secrets: Sequence[str], spare_s: float = SPARE_S
) -> list[str]:
    """What is wrong with how this run ended, in words; [] for nothing."""
    found = [*_in_time(ended, spare_s), *_exit(ended, allowed), *_memory(ended), *_sizes(ended)]
    if ended.was_led_away:
        found.append("connected to another host")
    texts = {"stdout": ended.out, "stderr": ended.err, **ended.files}
    for name, content in texts.items():
        found += [f"{name}: {each}" for each in _text(content, secrets)]
    found += [f"{name}: {each}" for name, text in ended.files.items() for each in _json(name, text)]
    return found


def _in_time(ended: Ended, spare_s: float) -> Iterator[str]:
    longest_s = max(ended.gaps_s, default=0.0)
    bound_s = TIMEOUT_S + spare_s + ended.own_wait_s
    if ended.code is None:
        yield f"killed after {ended.spent_s:.0f} s, {ended.requests} requests"
    elif longest_s > bound_s:
        yield f"{longest_s:.1f} s {TOO_LATE}, bound {bound_s:g} s"


def _exit(ended: Ended, allowed: Collection[int]) -> Iterator[str]:
    if ended.code is not None and ended.code not in allowed:
        yield f"exit {ended.code}, allowed {sorted(allowed)}"


def _memory(ended: Ended) -> Iterator[str]:
    if ended.memory_mb > MOST_MEMORY_MB:
        yield f"{ended.memory_mb:.0f} MB at the peak"


def _sizes(ended: Ended) -> Iterator[str]:
    shown = len(ended.err) + (0 if is_document(ended.out) else len(ended.out))
    if shown > MOST_OUTPUT:
        yield f"{shown / 1e3:.0f} KB of output"
    saved = sum(map(len, ended.files.values()))
    if saved > MOST_SAVED:
        yield f"{saved / 1e6:.1f} MB of result files"


def is_document(out: bytes) -> bool:
    """Whether it is what --output json prints. It is as long as the result file."""
    return out.startswith(b"{") and len(out) < MOST_SAVED


def _text(content: bytes, secrets: Sequence[str]) -> Iterator[str]:
    text = content.decode("utf-8", "backslashreplace")
    if text.encode() != content:
        yield "is not UTF-8"
    for word in ("Traceback", "never retrieved"):
        if word in text:
            yield f"has {word!r}"
    if match := re.search(r"\bunexpected (?!\w+ (header|field))[A-Z]\w*(Error|Exception)\b", text):
        yield f"has {match[0]!r}"
    if wrong := control_characters(text):
        yield f"has {wrong}"
    if piece := piece_of(text, secrets):
        yield f"has a piece of a credential, {len(piece)} characters or more"


def control_characters(text: str) -> str:
    """The characters in it that could change what a terminal shows, by their numbers."""
    harmful = {each for each in set(text) if each != "\n" and is_harmful(each)}
    return ", ".join(f"U+{ord(each):04X}" for each in sorted(harmful)[:4])


def is_harmful(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs") or character in FORMAT_LIKE


@functools.cache
def pieces_of(secrets: tuple[str, ...]) -> frozenset[str]:
    """Everything of PIECE characters that stands in one of them."""
    return frozenset(
        secret[at : at + PIECE] for secret in secrets for at in range(len(secret) - PIECE + 1)
    )


def piece_of(text: str, secrets: Sequence[str]) -> str | None:
    pieces = pieces_of(tuple(secrets))
    for word in LIKE_A_SECRET.findall(text):
        for at in range(len(word) - PIECE + 1):
            if word[at : at + PIECE] in pieces:
                return str(word[at : at + PIECE])
    return None


def _json(name: str, content: bytes) -> Iterator[str]:
    if not name.endswith(".json"):
        return
    try:
        document = json.loads(content)
    except ValueError as error:
        yield f"is not JSON: {error}"
        return
    if wrong := control_characters("".join(texts_in(document))):
        yield f"has {wrong} in a string"
