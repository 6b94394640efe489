"""What a run of the SDK's check saves: a record for each request, and what all of them cost."""

from __future__ import annotations

from typing import Any

from livecheck.gateway import answer_parts as parts
from livecheck.gateway.openai_client import SdkCall
from livecheck.gateway.sdk_session import Session
from livecheck.wire.answer import records as answer_records


def metrics(session: Session) -> dict[str, Any]:
    """What the run asked for, as far as the answers tell."""
    calls = session.client.calls
    spent = [spent for call in calls if (spent := call.answer.spent_ms) is not None]

    def total(name: str) -> int:
        return sum(
            count for call in calls if parts.is_count(count := parts.counts_of(call.usage)[name])
        )

    return {
        "requests": len(calls) + len(session.asker.answers),
        "prompt_tokens": total("prompt_tokens"),
        "completion_tokens": total("completion_tokens"),
        "longest_ms": max(spent, default=None),
    }


def record(call: SdkCall) -> dict[str, Any]:
    return {
        "check": call.check,
        "call": call.method,
        "status": call.answer.status,
        "error": call.error,
        "error_text": call.error_text or None,
        "resent": call.answer.reply.resent,
        "spent_ms": call.answer.spent_ms,
        **parts.counts_of(call.usage),
        "event_ms": call.chunk_ms,
    }


def records(session: Session) -> list[dict[str, Any]]:
    """The calls of the SDK, then the requests at the wire."""
    checks = [check for check, answers in session.at_wire.items() for _ in answers]
    at_wire = answer_records([each for found in session.at_wire.values() for each in found])
    rows = [{"check": c, "call": "wire"} | r for c, r in zip(checks, at_wire, strict=True)]
    return [record(call) for call in session.client.calls] + rows
