"""A JSON document, read piece by piece, so that a large one does not fill the memory. Pure.

A parsed document takes up to 30 times the memory of its text (`[[],[],…]`), and a document of a few
gigabytes may well claim to be a result file. So the outer objects and lists are walked through
here, and the `json` module reads one value after the other: a request's record, a check, all
figures together. Each value is bounded before it is read, and the caller keeps of it what it needs.
"""

from __future__ import annotations

import codecs
import json
from array import array
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import shorten

MAX_VALUE_BYTES = 8 << 20  # a record of ten minutes at 1000 tokens a second has 5.4 MB of times
MAX_BRACKETS, MAX_TEXTS = 50_000, 100_000  # of one value; parsed, they take 20 MB at most
# Brackets, texts and quotation marks within texts, of a document: 45,000 records have 2.3 million.
MAX_TOKENS = 3_000_000
MAX_KEYS = 200  # of the document's own object; a result file has 16
MAX_DEPTH = 50  # a result file has 6
MAX_NUMBER = 1e15  # no script measures a larger figure
MAX_DIGITS = 19  # of a whole number
QUOTE, OPENING = ord('"'), b"[{"
CHUNK_BYTES = 1 << 16
SPACE = late_pattern(rb"[ \t\n\r]*")
SCALAR = late_pattern(rb"[^ \t\n\r,:\[\]{}]*")
TOKEN = late_pattern(rb'"[^"\\]*"|["\[\]{}]')  # a text without escapes in one step
T = TypeVar("T")


class Unusable(ValueError):
    """Why a file is not used, in a few words."""


class Pieces:
    """Walks through one document. Whatever is wrong with it raises Unusable.

    What `members` and `items` announce has to be read, by `value`, `members` or `items`, before
    they are asked for the next.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._at = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        self._tokens = 0
        self.size = 0  # bytes of the value that was read last
        check_encoding(data)

    @property
    def next(self) -> str:
        """The first character of what comes next; "" at the end."""
        match = SPACE.match(self._data, self._at)
        self._at = match.end() if match else self._at
        return chr(self._data[self._at]) if self._at < len(self._data) else ""

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next."""
        self._take("{")
        seen = set[str]()
        while self.next != "}" or seen:
            if self.next not in ('"', ""):
                self._fail("a name in double quotes is missing")
            key = self.value()
            if key in seen:
                raise Unusable("contradictory: one object has the same key twice")
            seen.add(key)
            if len(seen) > MAX_KEYS:
                raise Unusable(f"it has more than {MAX_KEYS} keys, which no script saves")
            self._take(":")
            yield key
            if self.next != ",":
                break
            self._take(",")
        self._take("}")

    def items(self) -> Iterator[int]:
        """The positions in the list that comes next."""
        self._take("[")
        count = 0
        while self.next != "]" or count:
            yield count
            count += 1
            if self.next != ",":
                break
            self._take(",")
        self._take("]")

    def value(self) -> Any:
        """What comes next, parsed; its numbers are finite, its keys unique.

        A list of nothing but numbers under the key `event_ms` becomes an array of doubles.
        """
        begin = self._at if self.next else len(self._data)
        self.skip(MAX_BRACKETS, MAX_TEXTS)
        self.size = self._at - begin
        if self.size > MAX_VALUE_BYTES:
            raise Unusable("one of its values is larger than any of a result file")
        try:
            found = json.loads(
                self._data[begin : self._at].decode(),
                parse_constant=refuse_constant,
                parse_int=parse_whole_number,
                object_pairs_hook=as_object,
            )
        except json.JSONDecodeError as error:
            self._at = begin + len(error.doc[: error.pos].encode())
            self._fail(error.msg)
        return harmless(found)

    def skip(self, most_brackets: int = MAX_TOKENS, most_texts: int = MAX_TOKENS) -> None:
        """Go to the end of what comes next."""
        if self.next not in tuple('[{"'):
            self._skip_word()
            return
        data, find = self._data, TOKEN.search
        depth = brackets = texts = 0
        while token := find(data, self._at):
            self._at, mark = token.end(), data[token.start()]
            if mark == QUOTE:
                texts += 1
                if token.end() - token.start() == 1:  # it has escapes, or no end
                    self._skip_text()
            else:
                brackets += 1
                depth += 1 if mark in OPENING else -1
            if depth > MAX_DEPTH:
                raise Unusable("nested too deeply to be a result file")
            if brackets > most_brackets or texts > most_texts:
                raise Unusable("one of its values has more parts than any of a result file")
            if depth == 0:
                break
        else:
            self._at = len(data)
            self._fail("it ends within a value")
        self._count(brackets + texts)

    def finish(self) -> None:
        """Nothing may follow."""
        if self.next:
            self._fail("there is more after the end of the object")

    def _skip_word(self) -> None:
        """Go to the end of a number, `true`, `false` or `null`."""
        if not self.next:
            self._fail("it ends before a value")
        match = SCALAR.match(self._data, self._at)
        self._at = max(match.end() if match else 0, self._at + 1)

    def _skip_text(self) -> None:
        """From behind a quotation mark to behind the one that ends the text."""
        while True:
            end = self._data.find(b'"', self._at)
            if end < 0:
                self._at = len(self._data)
                self._fail("it ends within a text")
            before = self._data[self._at : end]
            self._at = end + 1
            if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
                return
            self._count(1)  # a quotation mark within the text

    def _count(self, tokens: int) -> None:
        self._tokens += tokens
        if self._tokens > MAX_TOKENS:
            raise Unusable("it has more parts than any result file")

    def _take(self, char: str) -> None:
        if self.next != char:
            self._fail(f"{char} is missing")
        self._at += 1

    def _fail(self, why: str) -> NoReturn:
        line = self._data.count(b"\n", 0, self._at) + 1
        is_half = self._data.lstrip()[:1] == b"{" and self._at >= len(self._data.rstrip())
        what = "half-written JSON" if is_half else "not JSON"
        raise Unusable(f"{what} (line {line}: {shorten(why, 60)})")


def check_encoding(data: bytes) -> None:
    """Raise Unusable unless it is UTF-8. In chunks: the whole text can take four times as much."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for begin in range(0, len(data), CHUNK_BYTES):
            decoder.decode(data[begin : begin + CHUNK_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Unusable("not UTF-8, as a result file is") from None


# --- values


def refuse_constant(word: str) -> Any:
    raise Unusable(f"it holds {word}, which is not a number in JSON")


def parse_whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Unusable(f"it holds a number of {len(digits)} digits, which no script measures")
    return within_bounds(int(digits))


def within_bounds(number: T) -> T:
    if not abs(number) <= MAX_NUMBER:  # type: ignore[arg-type]
        raise Unusable(f"it holds a number above {MAX_NUMBER:g}, which no script measures")
    return number


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {key: harmless(value) for key, value in pairs}
    if len(found) < len(pairs):
        raise Unusable("contradictory: one object has the same key twice")
    times = found.get("event_ms")
    if isinstance(times, list) and set(map(type, times)) <= {int, float}:
        found["event_ms"] = array("d", times)  # a quarter of the memory
    return found


def harmless(value: Any) -> Any:
    """The value if its numbers are within bounds; those of its objects have been looked at."""
    if isinstance(value, float):
        return within_bounds(value)
    if isinstance(value, list):
        if value and set(map(type, value)) == {float}:  # a long list of times: in one step
            within_bounds(max(value)), within_bounds(min(value))
            return value
        return [harmless(each) for each in value]
    return value
