"""The figures of a level as the lines of its block on the screen."""

from __future__ import annotations

import textwrap
from typing import Any

from livecheck.core.screen import WIDTH
from livecheck.core.text import figure
from livecheck.load import precision, table
from livecheck.load.server_metrics import server_lines
from livecheck.load.steady import words_of
from livecheck.load.turns import cache_words, turn_lines
from livecheck.wire import client_error, metrics, silence, speculation
from livecheck.wire.thinking_figures import source_words


def level_lines(figures: dict[str, Any]) -> list[str]:
    """The block of a level: a table of summaries, then what is one figure or a word."""
    at = f"concurrency {figures['concurrency']}"
    if "rate_per_s" in figures:
        at = f"{figures['rate_per_s']:g} requests/s"
    if "endpoint" in figures:
        at += f", {figures['endpoint']}"
    if "depth_tokens" in figures:
        at += f", depth {figures['depth_tokens']}"
    if "turns" in figures:
        at += f", {figures['turns']} turns"
    count = f"{figures['succeeded']} of {figures['requests']}"
    return [
        *textwrap.wrap(f"Inference at {at}: {count} requests succeeded", WIDTH),
        table.header(),
        table.row("TTFT [ms]", figures["ttft_ms"]),
        *table.optional_row("  due to sent [ms]", figures.get("due_to_sent_ms", {"n": 0})),
        *answer_row(figures),
        *prefill_rows(figures),
        table.row("ITL [ms]", figures["itl_ms"]),
        table.row("TPOT [ms]", figures["tpot_ms"]),
        table.row("decode rate [tok/s]", figures["tokens_per_s"]),
        *table.optional_row("  the server's own", figures["server_tokens_per_s"]),
        table.row("E2E latency [ms]", figures["e2e_ms"]),
        table.row("output tokens", table.whole(figures["output_tokens"])),
        *shown_rows(figures),
        *thinking_rows(figures),
        table.row("prompt tokens", table.whole(figures["prompt_tokens"])),
        *table.optional_row("  of them cached", table.whole(figures["cached_tokens"])),
        *table.optional_row("connect [ms]", figures["connect_ms"]),
        *table.optional_row("TLS [ms]", figures["tls_ms"]),
        *steady_rows(figures),
        *table.footnote(figures["ttft_ms"], figures["itl_ms"], figures["e2e_ms"]),
        *turn_lines(figures),
        *single_figures(figures),
        *server_lines(figures, figures),
    ]


def steady_rows(figures: dict[str, Any]) -> list[str]:
    """The figures of the steady window, where they are not those of the whole level."""
    window = figures["steady"]
    if not is_apart(figures):
        return []
    return [
        "  in the steady window:",
        table.row("TTFT [ms]", window["ttft_ms"]),
        table.row("ITL [ms]", window["itl_ms"]),
        table.row("decode rate [tok/s]", window["tokens_per_s"]),
        table.row("E2E latency [ms]", window["e2e_ms"]),
    ]


def is_apart(figures: dict[str, Any]) -> bool:
    """Whether a steady window was found that leaves some of the level's requests out."""
    inside: int | None = figures["steady"]["requests"]
    return inside is not None and inside != figures["succeeded"]


def steady_throughput(figures: dict[str, Any], key: str) -> str:
    """` (steady 105.9)`, behind the figure of the whole level."""
    value = figures["steady"][key]
    return f" (steady: {figure(value)})" if value is not None and is_apart(figures) else ""


def prefill_rows(figures: dict[str, Any]) -> list[str]:
    """How fast prompts were read, of a level with a depth."""
    if "prefill_tokens_per_s" not in figures:
        return []
    rows = [table.row("prefill [tok/s]", figures["prefill_tokens_per_s"])]
    return rows + table.optional_row("  the server's own", figures["server_prefill_tokens_per_s"])


def shown_rows(figures: dict[str, Any]) -> list[str]:
    """How many of the tokens were shown, where that is not all of them."""
    output, shown, hidden = (figures[f"{kind}_tokens"] for kind in ("output", "shown", "hidden"))
    if shown == output and not hidden["max"]:
        return []
    rows = [table.row("  shown", table.whole(shown))]
    return rows + table.optional_row("  hidden", table.whole(hidden))


def answer_row(figures: dict[str, Any]) -> list[str]:
    """The time to the first token of the answer, where it is not that of the first token."""
    return [table.row("TTFA [ms]", figures["ttfa_ms"])] if figures["with_thoughts"] else []


def thinking_rows(figures: dict[str, Any]) -> list[str]:
    """The tokens of thoughts and answers apart, where there are thoughts."""
    rows = table.optional_row("  thinking", table.whole(figures["thinking_tokens"]))
    return rows + table.optional_row("  answer", table.whole(figures["answer_tokens"]))


def single_figures(figures: dict[str, Any]) -> list[str]:
    """A figure or some words each; one that has none here has no line (`table.entry`)."""
    share, goodput = figures["error_rate"], figures["goodput_per_s"]
    entries = {
        "note": metrics.no_rate_words(figures),
        "output throughput": f"{figure(figures['output_tokens_per_s'])} tok/s"
        + steady_throughput(figures, "output_tokens_per_s"),
        "request throughput": f"{figure(figures['requests_per_s'])} requests/s"
        + steady_throughput(figures, "requests_per_s"),
        "goodput": ""
        if goodput is None
        else f"{figure(goodput)} requests/s" + goodput_share(figures),
        "error rate": ("-" if share is None else f"{share:.1%}") + errors_in(figures),
        "longest silence": silence.words(figures),
        "wall time": f"{figure(figures['wall_s'])} s",
        "steady window": words_of(figures["steady"], figures["wall_s"]),
        "precision": precision.words_of(figures["precision"]) if "precision" in figures else "",
        "load": load_words(figures),
        "prompt": prompt_words(figures),
        "prompt cache": cache_words(figures) if "turns" in figures else "",
        "tokens counted by": token_sources(figures["token_sources"]),
        "thoughts": thoughts_words(figures) if figures["with_thoughts"] else "",
        "tokens at once": speculation.words(figures) or "",
        "draft accepted": speculation.draft_words(figures) or "",
        "clock": figures["client"]["clock"],
        "client error": client_error.words(figures["client"]) or "",
    }
    return [line for label, text in entries.items() for line in table.entry(label, text)]


def load_words(figures: dict[str, Any]) -> str:
    if "rate_per_s" not in figures:
        return f"{figures['load_model']}, {figures['concurrency']} in flight"
    most, ceiling = figures.get("most_in_flight", 0), figures["concurrency"]
    arrivals = f"{figures['arrivals']} arrivals, {figures['rate_per_s']:g} per second"
    in_flight = f"at most {most} in flight"
    if most == ceiling:
        in_flight += " (the limit: some requests had to wait)"
    return f"{figures['load_model']}, {arrivals}, {in_flight}; times count from when each was due"


def prompt_words(figures: dict[str, Any]) -> str:
    if "turns" in figures:
        return "unique in turn 1; from then on the whole conversation, with the answers that came"
    words = "unique each time: prefill is measured, not a prompt cache"
    if figures["prompt"] == "same":
        words = "the same each time: a prompt cache may save the prefill"
    return f"{figures['prompts']} in turn; {words}" if "prompts" in figures else words


def goodput_share(figures: dict[str, Any]) -> str:
    share = figures.get("goodput_share")
    return "" if share is None else f", {share:.1%} of all requests"


def errors_in(figures: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} x{count}" for kind, count in figures["errors"].items())
    waits = ", ".join(f"{wait:g} s" for wait in figures["retry_after_s"])
    return (f" {kinds}" if kinds else "") + (f" (Retry-After {waits})" if waits else "")


def thoughts_words(figures: dict[str, Any]) -> str:
    """In how many answers there are thoughts, and who counted their tokens."""
    words = f"in {figures['with_thoughts']} of {figures['succeeded']} answers"
    if figures["without_answer"]:
        words += f", in {figures['without_answer']} of them no answer came after them"
    if figures["thinking_sources"]:
        words += f"; tokens counted by {source_words(figures['thinking_sources'])}"
    return words


def token_sources(sources: dict[str, int]) -> str:
    names = {"usage": "the server (usage)", "timings": "the server (timings)", "events": "events"}
    return ", ".join(names[source] for source in sorted(sources)) or "-"
