"""The Responses API and embeddings of the simulated engine, beside chat completions.

It has them with the setting `endpoints`; without it these paths are a 404, as with older engines.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .skills.played import Played, Refused

RESPONSES, EMBEDDINGS = "responses", "embeddings"
ENDPOINTS = (RESPONSES, EMBEDDINGS)
DIMENSIONS = 8
_numbers = itertools.count(1)

Fields = Mapping[str, Any]


# --- requests


def as_chat(fields: Fields) -> dict[str, Any]:
    """The same request as one for a chat completion. Raises Refused."""
    limit = fields.get("max_output_tokens")
    found: dict[str, Any] = {"messages": messages_of(fields), "stream": fields.get("stream")}
    if limit is not None:
        found["max_tokens"] = limit
    if tools := fields.get("tools"):
        found["tools"] = [{"type": "function", "function": each} for each in tools]
        found["tool_choice"] = fields.get("tool_choice", "auto")
    return found


def messages_of(fields: Fields) -> list[dict[str, Any]]:
    asked = fields.get("input")
    if isinstance(asked, str) and asked:
        asked = [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked or not all(isinstance(e, dict) for e in asked):
        raise Refused("'input' must be a text, or an array with at least one message")
    found = [{"role": each.get("role"), "content": text_of(each.get("content"))} for each in asked]
    if instructions := fields.get("instructions"):
        found.insert(0, {"role": "system", "content": instructions})
    return found


def text_of(content: object) -> str:
    if not isinstance(content, list):
        return str(content or "")
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


# --- answers


def new_id(kind: str) -> str:
    return f"{kind}_{next(_numbers):08d}"


def usage(counts: Fields) -> dict[str, Any]:
    """The account of tokens of a chat completion, in this API's names."""
    cached = counts.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }


class Response:
    """One response: as a whole, or event by event."""

    def __init__(self, model: str, played: Played) -> None:
        self.played = played
        self._about = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "error": None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        self._sequence = itertools.count()
        self._done: list[dict[str, Any]] = []  # the items that are done

    def whole(self, counts: Fields | None = None, output: Sequence[Fields] | None = None) -> Any:
        is_cut = self.played.finish_reason == "length"
        status = "in_progress" if counts is None else "incomplete" if is_cut else "completed"
        return {
            **self._about,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut and counts else None,
            "output": list(items_of(self.played.message) if output is None else output),
            "usage": None if counts is None else usage(counts),
        }

    def event(self, kind: str, **fields: Any) -> bytes:
        name = f"response.{kind}"
        content = {"type": name, "sequence_number": next(self._sequence), **fields}
        return f"event: {name}\ndata: {json.dumps(content, separators=(',', ':'))}\n\n".encode()

    def begin(self) -> bytes:
        parts = (
            self.event(kind, response=self.whole(output=())) for kind in ("created", "in_progress")
        )
        return b"".join(parts)

    def deltas(self) -> Iterator[bytes]:
        """The events of each token; those that open and close items come with the next token."""
        item: Told | None = None
        for delta in self.played.deltas:
            before, kind, ident = b"", kind_of(delta), ident_of(delta)
            if item is None or (kind, ident) != (item.kind, item.ident):
                before = self._close(item) if item else b""
                item = Told(kind, ident, delta, len(self._done))
                before += self._open(item)
            yield before + self._piece(item, delta)
        self._last = item

    def end(self, counts: Fields) -> bytes:
        tail = self._close(self._last) if self._last else b""
        is_cut = self.played.finish_reason == "length"
        kind = "incomplete" if is_cut else "completed"
        return tail + self.event(kind, response=self.whole(counts, self._done))

    _last: Told | None = None

    def _open(self, item: Told) -> bytes:
        found = self.event("output_item.added", output_index=item.index, item=item.as_added())
        if item.kind == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            found += self.event("content_part.added", **item.place, content_index=0, part=part)
        return found

    def _piece(self, item: Told, delta: Fields) -> bytes:
        text = piece_of(delta)
        item.text += text
        if not text:
            return b""
        return self.event(f"{item.base}.delta", **item.place, **item.part, delta=text)

    def _close(self, item: Told) -> bytes:
        whole = {"arguments" if item.kind == "function_call" else "text": item.text}
        found = self.event(f"{item.base}.done", **item.place, **item.part, **whole)
        if item.kind == "message":
            part = {"type": "output_text", "text": item.text, "annotations": []}
            found += self.event("content_part.done", **item.place, content_index=0, part=part)
        self._done.append(item.as_done())
        return found + self.event("output_item.done", output_index=item.index, item=item.as_done())


class Told:
    """An item of the output while it is told."""

    def __init__(self, kind: str, ident: object, delta: Fields, index: int) -> None:
        self.kind, self.ident, self.index, self.text = kind, ident, index, ""
        self.id = new_id({"message": "msg", "reasoning": "rs"}.get(kind, "fc"))
        first = (delta.get("tool_calls") or [{}])[0]
        self.name = first.get("function", {}).get("name", "")
        self.call_id = first.get("id", "")

    @property
    def base(self) -> str:
        bases = {"message": "output_text", "reasoning": "reasoning_text"}
        return bases.get(self.kind, "function_call_arguments")

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}

    @property
    def part(self) -> dict[str, Any]:
        return {} if self.kind == "function_call" else {"content_index": 0}

    def as_added(self) -> dict[str, Any]:
        return {
            **item(self.kind, "", self.name, self.call_id),
            "id": self.id,
            "status": "in_progress",
        }

    def as_done(self) -> dict[str, Any]:
        done = item(self.kind, self.text, self.name, self.call_id)
        return {**done, "id": self.id, "status": "completed"}


def item(kind: str, text: str, name: str = "", call_id: str = "") -> dict[str, Any]:
    if kind == "function_call":
        return {"type": kind, "name": name, "call_id": call_id, "arguments": text}
    if kind == "reasoning":
        thoughts = [{"type": "reasoning_text", "text": text}] if text else []
        return {"type": kind, "summary": [], "content": thoughts}
    parts = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    return {"type": kind, "role": "assistant", "content": parts}


def items_of(message: Fields) -> Iterator[dict[str, Any]]:
    """The items of a chat completion's message."""
    done = {"status": "completed"}
    if thoughts := message.get("reasoning_content"):
        yield {**item("reasoning", thoughts), "id": new_id("rs"), **done}
    if text := message.get("content"):
        yield {**item("message", text), "id": new_id("msg"), **done}
    for call in message.get("tool_calls", ()):
        function = call["function"]
        fields = item("function_call", function["arguments"], function["name"], call["id"])
        yield {**fields, "id": new_id("fc"), **done}


def kind_of(delta: Fields) -> str:
    if delta.get("tool_calls"):
        return "function_call"
    return "reasoning" if delta.get("reasoning_content") else "message"


def ident_of(delta: Fields) -> object:
    """Which call a delta belongs to."""
    return delta["tool_calls"][0]["index"] if delta.get("tool_calls") else None


def piece_of(delta: Fields) -> str:
    if calls := delta.get("tool_calls"):
        return str(calls[0].get("function", {}).get("arguments", ""))
    return str(delta.get("reasoning_content") or delta.get("content") or "")


# --- embeddings


def embeddings(model: str, fields: Fields) -> dict[str, Any]:
    """A vector for each input. Raises Refused."""
    given = fields.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(e, str) for e in texts):
        raise Refused("'input' must be a text, or an array of texts")
    is_base64 = fields.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = vector_of(text)
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
        entry = {"object": "embedding", "index": index}
        data.append({**entry, "embedding": packed if is_base64 else vector})
    tokens = sum(len(text.split()) or 1 for text in texts)
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": counts}


def vector_of(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()[:DIMENSIONS]
    found = [(byte - 127.5) / 127.5 for byte in digest]
    length = sum(each * each for each in found) ** 0.5
    return [round(each / length, 6) for each in found]
