"""Levels of the embeddings endpoint: batches of inputs, requests and inputs a second."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from livecheck.core.json_value import pick, pick_list, pick_text
from livecheck.core.later import later
from livecheck.core.text import figure
from livecheck.load.arrivals import EMBEDDINGS, Load, Prompt
from livecheck.wire import endpoints
from livecheck.wire.answer import Answer
from livecheck.wire.request import Request

with later():  # what is shown at the end
    from livecheck.load import level_text, table

MOST_INPUTS = 2048  # of a request: OpenAI's API takes no more
# The figures of a level that have no stream in them.
KEPT = (
    *("load_model", "requests", "succeeded", "wall_s", "e2e_ms", "connect_ms", "tls_ms"),
    *("requests_per_s", "error_rate", "errors", "retry_after_s", "prompt_tokens"),
    *("goodput_per_s", "goodput_share", "concurrency", "prompt", "prompts", "warmup"),
)
OF_STREAMS = ("ttft", "ttfa", "itl", "tpot", "tokens_per_s", "output_tokens")  # objectives
# Options about streams, or about prompts of a chat.
NOT_WITH = (
    *("rate", "find_capacity", "depth", "turns", "precision", "processes", "edge_idle"),
    *("server_metrics",),
)


def contradictions(args: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """Each with whether it applies."""
    is_here = args.endpoint == EMBEDDINGS
    yield "--batch needs --endpoint embeddings", args.batch and not is_here
    for name in NOT_WITH:
        words = f"--endpoint embeddings cannot be used with --{name.replace('_', '-')}"
        yield words, is_here and getattr(args, name, None)
    for each in args.slo:
        words = f"--endpoint embeddings has no streams, so no {each.name}"
        yield words, is_here and each.name.startswith(OF_STREAMS)


def model_for(listing: Answer | None) -> str | None:
    """The first listed model whose name says that it makes embeddings; None without one."""
    listed = pick_list(listing.json, "data") if listing else []
    names = [pick_text(entry, "id") for entry in listed]
    return next((name for name in names if "embed" in name.lower()), None)


def request_of(
    model: str, prompts: Sequence[Prompt], number: int, batch: int, same: bool
) -> Request:
    """The request of this number: `batch` inputs, each with a line of its own unless `same`."""
    first = number * batch
    chosen = [prompts[(first + place) % len(prompts)] for place in range(batch)]
    texts = [text_of(each.messages if same else each.unique()) for each in chosen]
    return endpoints.embeddings(model, texts)


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """What all messages say, as one text."""
    found: list[str] = []
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        found += [text for part in parts if isinstance(text := pick(part, "text"), str)]
    return "\n".join(found)


def figures_of(figures: Mapping[str, Any], load: Load) -> dict[str, Any]:
    """A level's figures without those of streams, and those of its inputs."""
    batch, per_s = load.batch or 1, figures["requests_per_s"]
    found = {name: figures[name] for name in KEPT if name in figures}
    tokens, count = figures["prompt_tokens"], figures["succeeded"]
    whole = tokens["mean"] * tokens["n"] if tokens["n"] else None
    known = whole is not None and tokens["n"] == count and figures["wall_s"]
    return {
        "endpoint": load.endpoint,
        "batch": batch,
        **found,
        "inputs": batch * count,
        "inputs_per_s": None if per_s is None else round(batch * per_s, 3),
        "prompt_tokens_per_s": round(whole / figures["wall_s"], 3) if known and whole else None,
    }


def lines(figures: Mapping[str, Any]) -> list[str]:
    """The block of such a level."""
    at = f"concurrency {figures['concurrency']}, batches of {figures['batch']}"
    count = f"{figures['succeeded']} of {figures['requests']}"
    share, tokens = figures["error_rate"], figures["prompt_tokens_per_s"]
    entries = {
        "input throughput": f"{figure(figures['inputs_per_s'])} inputs/s",
        "request throughput": f"{figure(figures['requests_per_s'])} requests/s",
        "tokens read": f"{figure(tokens)} tok/s",
        "error rate": ("-" if share is None else f"{share:.1%}")
        + level_text.errors_in(dict(figures)),
        "wall time": f"{figure(figures['wall_s'])} s",
        "load": level_text.load_words(dict(figures)),
        "clock": figures["client"]["clock"],
    }
    return [
        f"Embeddings at {at}: {count} requests succeeded",
        table.header(),
        table.row("E2E latency [ms]", figures["e2e_ms"]),
        *table.optional_row("tokens per request", table.whole(figures["prompt_tokens"])),
        *table.optional_row("connect [ms]", figures["connect_ms"]),
        *table.optional_row("TLS [ms]", figures["tls_ms"]),
        *table.footnote(figures["e2e_ms"]),
        *(line for label, text in entries.items() for line in table.entry(label, text)),
    ]
