"""A question and its answer as the evidence of a check: bounded, and without credentials of ours.

It is made after a check has failed, never while requests run. What stands in it is cleaned once
more when it is saved (core/cleaning.py): other credentials are taken out there, and control
characters are made visible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from livecheck.core.cleaning import MAX_LINES, Lines
from livecheck.core.late_pattern import late_pattern
from livecheck.wire.request import Reply, Request

KEPT_BYTES = 2 * MAX_LINES  # a credential that is cut off in the middle is in the second half
TAIL = 500  # characters from the end of a long question
MAX_HEADERS, MAX_VALUE = 24, 200  # header fields, and characters of the value of one
NOT_KEPT = "(not kept)"
# Header fields of a request that hold a credential.
SECRET = late_pattern(r"authorization|cookie|key|token|secret|credential|password", re.IGNORECASE)
# Of an answer, what tells who answered, in which form, and what to do next.
TELLING = late_pattern(
    r"access-control-.*|allow|age|alt-svc|cache-control|cf-.*|connection|content-.*|date|grpc-.*"
    r"|keep-alive|location|openai-.*|proxy-.*|retry-after|server|server-timing|transfer-encoding"
    r"|upgrade|vary|via|warning|www-authenticate|x-.*",
    re.IGNORECASE,
)


def shown_exchange(reply: Reply, body: bytes) -> dict[str, Any]:
    """What was asked and what came; `sent_ns` is on the clock of perf_counter, the rest in ms.
    `body`: of the answer, decoded, with the credential it was sent with masked."""
    request, sent_ns, first_ns = reply.request, reply.t0_ns, reply.first_byte_ns
    failure = reply.failure
    return {
        "sent_ns": sent_ns,
        "first_byte_ms": since(sent_ns, first_ns),
        "spent_ms": since(sent_ns, reply.end_ns),
        "asked": f"{request.method} {request.path}"[:KEPT_BYTES],
        "sent_headers": sent_headers(request),
        "question": shortened(request.body),
        "status": reply.status,
        "error": failure.kind if failure else None,
        "error_text": failure.text if failure else None,
        "cancelled": reply.cancelled,
        "headers": shown_headers(reply, reply.message.headers),
        "answer": Lines(body[:KEPT_BYTES].decode("utf-8", "backslashreplace")),
        "answer_bytes": reply.body_size,
    }


def since(sent_ns: int | None, at_ns: int | None) -> float | None:
    return None if sent_ns is None or at_ns is None else round((at_ns - sent_ns) / 1e6, 3)


def sent_headers(request: Request) -> dict[str, str]:
    """Those that a question has beside the usual ones; a repeated one has its values joined. Of a
    credential nothing is kept, be it a false one."""
    found = {name.lower(): value for name, value in request.headers.items()}
    for name, value in request.repeated:
        found[name.lower()] = ", ".join(filter(None, (found.get(name.lower()), value)))
    shown = list(found.items())[:MAX_HEADERS]
    return {name: "(left out)" if value is None else hidden(name, value) for name, value in shown}


def hidden(name: str, value: str) -> str:
    return NOT_KEPT if SECRET.search(name) else value[:MAX_VALUE]


def shown_headers(reply: Reply, headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Those of an answer that tell something, with the credential masked; a repeated one has its
    values joined."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if not TELLING.fullmatch(key[:MAX_VALUE]) or "cookie" in key:
            continue
        if key not in found and len(found) == MAX_HEADERS:
            continue
        value = reply.masked(value.encode("utf-8", "replace")).decode("utf-8", "replace")
        found[key] = f"{found[key]}, {value}"[:MAX_VALUE] if key in found else value[:MAX_VALUE]
    return found


def shortened(body: bytes | None) -> Lines | None:
    """The beginning and the end of a question; of None nothing is known."""
    if body is None:
        return None
    if len(body) <= MAX_LINES:
        return Lines(body.decode("utf-8", "backslashreplace"))
    most = MAX_LINES - TAIL - 100
    head, tail = (part.decode("utf-8", "replace") for part in (body[:most], body[-TAIL:]))
    left = len(body) - most - TAIL
    return Lines(f"{head}\n({left} of {len(body)} bytes left out)\n{tail}")
