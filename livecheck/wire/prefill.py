"""How fast prompts were read, from the records of requests. Pure.

The prefill rate of a request is what the server had to read of its prompt, by time to first token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.wire.metrics import succeeded, summary

Records = Sequence[Mapping[str, Any]]


def tokens_read(record: Mapping[str, Any]) -> float | None:
    """The prompt tokens that were not in the server's cache, as the server counts them; None where
    it does not count, or not so that both counts fit each other."""
    prompt, cached = record.get("prompt_tokens"), record.get("cached_tokens") or 0
    return prompt - cached if prompt is not None and prompt > cached else None


def prefill_rate(record: Mapping[str, Any], spent: str = "ttft_ms") -> float | None:
    """Tokens per second. `spent`: the time in which they were read; that of `server_prompt_ms` is
    the server's own."""
    tokens, spent_ms = tokens_read(record), record.get(spent)
    return 1e3 * tokens / spent_ms if tokens and spent_ms else None


def prefill_metrics(records: Records) -> dict[str, Any]:
    """The rates of the successful requests of a level; of conversations their first turns, which
    alone have nothing in the cache."""
    good = [record for record in succeeded(records) if record.get("turn", 1) == 1]

    def rates(spent: str) -> list[float]:
        return [rate for each in good if (rate := prefill_rate(each, spent)) is not None]

    return {
        "prefill_tokens_per_s": summary(rates("ttft_ms")),
        "server_prefill_tokens_per_s": summary(rates("server_prompt_ms")),
    }
