"""Requests for other endpoints than chat completions: the Responses API, and embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.address import API
from livecheck.wire.answer import Answer
from livecheck.wire.chat import ACCEPT_JSON, ACCEPT_STREAM, Messages
from livecheck.wire.request import MAX_BYTES, MAX_STREAM_BYTES, stream_bytes
from livecheck.wire.wire import Request

RESPONSES, EMBEDDINGS = f"{API}/responses", f"{API}/embeddings"
MISSING = (404, 405, 501)  # statuses of a server that has no such endpoint
BYTES_OF_VECTOR = 256 << 10  # of one, as JSON: 8,192 dimensions with up to 30 characters each


def response(model: str, messages: Messages, max_tokens: int) -> Request:
    """A streamed response to these messages."""
    asked = [as_input(message) for message in messages]
    fields = {"model": model, "input": asked, "max_output_tokens": max_tokens, "stream": True}
    body = json.dumps(fields).encode()
    bound = stream_bytes(max_tokens)
    return Request("POST", RESPONSES, body, ACCEPT_STREAM, stream_bytes=bound)


def as_input(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a chat as one of this API's input."""
    content = message.get("content")
    if message.get("role") == "assistant" and isinstance(content, str):
        content = [{"type": "text", "text": content}]  # llama.cpp takes no plain text here
    if isinstance(content, list):
        kind = "output_text" if message.get("role") == "assistant" else "input_text"
        is_text = [isinstance(e, dict) and e.get("type") == "text" for e in content]
        content = [
            {**part, "type": kind} if text else part
            for part, text in zip(content, is_text, strict=True)
        ]
    return {"type": "message", **message, "content": content}


def embeddings(model: str, inputs: Sequence[str]) -> Request:
    body = json.dumps({"model": model, "input": list(inputs)}).encode()
    bound = min(MAX_BYTES + BYTES_OF_VECTOR * len(inputs), MAX_STREAM_BYTES)
    return Request("POST", EMBEDDINGS, body, ACCEPT_JSON, answer_bytes=bound)


def missing(answer: Answer) -> str | None:
    """The line when a server has no such endpoint; None for any other answer."""
    if answer.failure or answer.status not in MISSING:
        return None
    return f"the server has no {answer.path}: {answer.status} {answer.words}".rstrip()
