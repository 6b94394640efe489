"""Bytes that hostile servers send: huge, deep, wrong and harmful ones. Each is made once."""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

FLOOD = 31 << 20  # bytes: less than what a stream may have, far more than any other answer
MILLION = 1_000_000
DEEP = 100_000

# What a terminal, a log or a table must not get as it is. The names say what they are.
HARMFUL = {
    "ESC": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "C1": "\x9b31mred\x9d0;title\x9c",
    "direction": "\u202eevil\u202c\u2066x\u2069\u200f",
    "invisible": "a\u200bb\ufeffc\U000e0041\u00add",
    "NUL": "a\x00b\x7fc\x08",
    "lines": "one\ntwo\r\nthree\u2028four\x0bfive\x85six",
    "surrogate": "\ud800x\udfff",
}
# What Unicode says of these names is shown in no message, so that one row is one line.
RAW_VALUES = {  # JSON texts that take the place of a value
    "null": b"null",
    "true": b"true",
    "minus one": b"-1",
    "zero": b"0",
    "half": b"0.5",
    "1e999": b"1e999",
    "-1e999": b"-1e999",
    "NaN": b"NaN",
    "19 digits": b"9223372036854775808",
    "4,300 digits": b"9" * 4300,
    "5,000 digits": b"9" * 5000,
    "empty text": b'""',
    "a word": b'"word"',
    "a number as text": b'"7"',
    "empty object": b"{}",
    "empty list": b"[]",
    "list of numbers": b"[1,2,3]",
    "nested object": b'{"a":{"b":[{}]}}',
    "deep list": b"[" * 2000 + b"]" * 2000,
    "100 KB text": b'"' + b"long " * 20_000 + b'"',
    "bad escape": b'"\\u12"',
    **{name: json.dumps(text).encode() for name, text in HARMFUL.items()},
}


@functools.cache
def flood(kind: str) -> bytes:
    """31 MB of one kind; the bodies end properly."""
    return FLOODS[kind]()


def repeated(begin: bytes, piece: bytes, end: bytes, size: int = FLOOD) -> bytes:
    return begin + piece * (size // len(piece)) + end


FLOODS: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"x" * FLOOD,
    "a JSON text": lambda: repeated(b'"', b"x", b'"'),
    "empty lists": lambda: repeated(b"[", b"[],", b"[]]"),
    "empty objects": lambda: repeated(b'{"data":[', b"{},", b"{}]}"),
    "numbers": lambda: repeated(b'{"data":[', b"1,", b"1]}"),
    "white space": lambda: b" " * FLOOD + b"{}",
    "models": lambda: repeated(b'{"object":"list","data":[', b'{"id":"m"},', b'{"id":"m"}]}'),
    "one model's name": lambda: repeated(b'{"data":[{"id":"', b"m", b'"}]}'),
    "one digit string": lambda: repeated(b'{"data":', b"7", b"}"),
    "an error": lambda: repeated(b'{"error":{"message":"', b"no ", b'"}}'),
    "escapes": lambda: repeated(b'{"error":{"message":"', b"\\u001b", b'"}}'),
    "HTML": lambda: repeated(b"<!DOCTYPE html><html><title>", b"<b>x</b>", b"</html>"),
    "lines": lambda: b"\n" * FLOOD,
    "keys": lambda: b"{" + b",".join(b'"k%d":0' % n for n in range(2_000_000)) + b"}",
}
SMALL_BODIES: dict[str, bytes] = {  # in place of a JSON answer
    "nothing": b"",
    "null": b"null",
    "a number": b"7",
    "a text": b'"text"',
    "a list": b"[]",
    "a list of lists": b"[[],[[]]]",
    "an empty object": b"{}",
    "not JSON": b"{oops",
    "half JSON": b'{"object": "list", "data": [{"id": "si',
    "two documents": b"{}{}",
    "NaN": b"NaN",
    "4,300 digits": b"9" * 4300,
    "5,000 digits": b"-" + b"9" * 5000,
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep and closed": b"[" * DEEP + b"]" * DEEP,
    "NUL bytes": b"\0" * 2000,
    "invalid UTF-8": b'{"id": "\xff\xfe\xc3\x28", "data": [{"id": "\x80"}]}',
    "overlong UTF-8": b'{"data": [{"id": "\xc0\x80\xed\xa0\x80"}]}',
    "BOM": b'\xef\xbb\xbf{"data": []}',
    "UTF-16": '{"data": [{"id": "m"}]}'.encode("utf-16"),
    "UTF-32": '{"data": [{"id": "m"}]}'.encode("utf-32"),
    "HTML": b"<!DOCTYPE html><html><title>\x1b[31mWelcome\x9b</title>hello</html>",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>',
    "binary": bytes(range(256)) * 20,
    "a key twice": b'{"data": [], "data": 7, "choices": 1, "choices": []}',
    "100,000 models": b'{"data":[' + b",".join(b'{"id":"m%d"}' % n for n in range(55_000)) + b"]}",
    "100,000 objects": b'{"data":[' + b"{}," * 300_000 + b"{}]}",
    "1 MB of a name": b'{"data":[{"id":"' + b"m" * 1_000_000 + b'"}]}',
    "an error in a 200": b'{"error": {"message": "boom\\u001b[31m", "code": "\\u202ex"}}',
}


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value that is no container itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if isinstance(item, (dict, list)) and item:
            yield from leaves(item)
        else:
            yield value, key


MARK = "@@here@@"


def replaced(document: bytes, raw: bytes, wanted: Callable[[Any, Any], bool]) -> bytes:
    """The JSON document with `raw` in the place of each leaf that is `wanted(key, value)`."""
    content = json.loads(document)
    for container, key in leaves(content):
        if wanted(key, container[key]):
            container[key] = MARK
    return json.dumps(content).encode().replace(f'"{MARK}"'.encode(), raw)


def in_every_key(document: bytes, raw: bytes) -> bytes:
    """The JSON document with `raw` (a JSON text of a string) in front of each key."""
    content = json.loads(document)
    content[MARK] = 1
    return json.dumps(content).encode().replace(f'"{MARK}"'.encode(), raw)


def is_text(key: Any, value: Any) -> bool:
    return isinstance(value, str)


def is_number(key: Any, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_under(name: str) -> Callable[[Any, Any], bool]:
    return lambda key, value: key == name


@functools.cache
def bomb(size: int, times: int = 1) -> bytes:
    """Zeros, so many bytes of them, in gzip `times` over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = b"\0" * (1 << 20)
    data = b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()
    for _ in range(times - 1):
        data = gzip.compress(data, 9)
    return data


@functools.cache
def small_events(kind: str) -> bytes:
    """A million of them, in one stream."""
    piece = SMALL_EVENTS[kind]
    return piece * min(MILLION, FLOOD // len(piece))


SMALL_EVENTS = {
    "empty data lines": b"data:\n\n",
    "comments": b":\n",
    "comment events": b": ping\n\n",
    "line ends": b"\n",
    "carriage returns": b"\r",
    "empty objects": b"data: {}\n\n",
    "nulls": b"data: null\n\n",
    "not JSON": b"data: {\n\n",
    "empty choices": b'data: {"choices":[]}\n\n',
    "empty deltas": b'data: {"choices":[{"index":0,"delta":{}}]}\n\n',
    "one letter": b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    "other fields": b"id: 1\nretry: 5\nevent: x\n",
    "DONE": b"data: [DONE]\n\n",
    "errors": b'data: {"error":{"message":"no"}}\n\n',
    "data lines of one event": b"data: x\n",
    "tool calls": b'data: {"choices":[{"delta":{"tool_calls":[{"index":7}]}}]}\n\n',
    "choices of many numbers": b'data: {"choices":[{"index":999999,"delta":{"content":"a"}}]}\n\n',
}
