"""How long a connection was silent, in which phase of an answer, and which edge would have cut it.

Proxies in front of a deployment close a connection on which nothing comes for a while: nginx and
AWS's ALB after 60 s, RunPod's proxy after about 100 s, Cloudflare after 125 s. Every byte ends a
silence: also a comment of an event stream (`: ping`), which servers send for that. Pure: no network
and no clock.
"""

from __future__ import annotations

import argparse
import operator
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from livecheck.core.checks import Check, passed, skip, warned
from livecheck.core.json_value import number
from livecheck.core.text import duration, plural
from livecheck.wire.request import Reply

if TYPE_CHECKING:
    from livecheck.wire.sse import Stream

NAME = "edge_idle"
KEYS = ("silence_ms", "silence_phase", "comments")  # of every record of an answer

# The phases of an answer in which it may be silent.
QUEUE, PREFILL, UNCLEAR = "queue", "prefill", "queue or prefill"
BETWEEN, AFTER = "between tokens", "after the last token"
COLD = "cold start"
BEFORE_OUTPUT = (QUEUE, PREFILL, UNCLEAR, COLD)

# A silence before the first token is one in the queue, if the prefill is at most this share of it.
PREFILL_SHARE = 0.5
KNOWN_EDGES = ((60, "nginx and AWS's ALB"), (100, "RunPod's proxy"), (125, "Cloudflare"))

Record = Mapping[str, Any]


class Silence(NamedTuple):
    """A time in which nothing came, on the clock of the reply, and the phase in which it was."""

    start_ns: int
    end_ns: int
    phase: str

    @property
    def ms(self) -> float:
        return round((self.end_ns - self.start_ns) / 1e6, 4)


# --- of one answer


def longest(reply: Reply, stream: Stream) -> Silence | None:
    """The longest time in which nothing came, from the sending to the end."""
    if reply.t0_ns is None:
        return None
    stamps, start_ns = reply.stamps_ns, reply.t0_ns
    end_ns = reply.end_ns or start_ns
    if not stamps:
        return Silence(start_ns, end_ns, UNCLEAR)
    found = [(start_ns, stamps[0]), (stamps[-1], end_ns)]
    if len(stamps) > 1:
        gaps = list(map(operator.sub, stamps[1:], stamps))
        place = gaps.index(max(gaps))
        found.append((stamps[place], stamps[place + 1]))
    start_ns, end_ns = max(found, key=lambda each: each[1] - each[0])
    return Silence(start_ns, max(start_ns, end_ns), phase_of(start_ns, end_ns, stream))


def phase_of(start_ns: int, end_ns: int, stream: Stream) -> str:
    """In which phase of an answer this silence was, as far as the answer itself tells."""
    output_ns = stream.output_ns
    if output_ns and end_ns > output_ns[0]:
        has_ended = start_ns >= output_ns[-1] and stream.finish_reason is not None
        return AFTER if has_ended else BETWEEN
    prefill_ms = number((stream.timings or {}).get("prompt_ms"))
    return UNCLEAR if prefill_ms is None else wait_or_prefill((end_ns - start_ns) / 1e6, prefill_ms)


def wait_or_prefill(silence_ms: float, prefill_ms: float) -> str:
    """Whether a silence before the first token was more of a wait or more of a prefill."""
    return QUEUE if prefill_ms <= PREFILL_SHARE * silence_ms else PREFILL


def figures(found: Silence | None, comments: int) -> dict[str, Any]:
    """What a record has of it."""
    values = (found.ms if found else None, found.phase if found else None, comments)
    return dict(zip(KEYS, values, strict=True))


# --- of many records


def tell_phases(records: Sequence[MutableMapping[str, Any]]) -> None:
    """Tell the wait from the prefill where the server does not tell how long that took: it took no
    longer than until the fastest first token. All prompts have to be of about the same length."""
    first_ms = [each for each in map(first_token_ms, records) if each is not None]
    for record in records:
        if record.get("silence_phase") == UNCLEAR and first_ms:
            record["silence_phase"] = wait_or_prefill(record["silence_ms"], min(first_ms))


def first_token_ms(record: Record) -> float | None:
    """From sending to the first token, of a request that succeeded."""
    if record["error"] is not None or record["ttft_ms"] is None:
        return None
    waited_ms = record["sent_ms"] - record["due_ms"] if "due_ms" in record else 0.0
    return float(record["ttft_ms"] - waited_ms)


def longest_of(records: Sequence[Record]) -> Record | None:
    """The record with the longest silence; None without any."""
    found = [each for each in records if each.get("silence_ms") is not None]
    return max(found, key=lambda each: float(each["silence_ms"]), default=None)


def summary_of(records: Sequence[Record]) -> dict[str, Any]:
    """The longest silence of all records, its phase, and how many comments came."""
    worst = longest_of(records)
    return {
        "longest_silence_ms": worst["silence_ms"] if worst else None,
        "longest_silence_phase": worst["silence_phase"] if worst else None,
        "comments": sum(each.get("comments") or 0 for each in records),
    }


def words(summary: Mapping[str, Any]) -> str:
    """`74.2 s, queue; 3 comments; nginx and AWS's ALB cut after 60 s by default`; "-" when nothing
    was sent."""
    longest_ms = summary["longest_silence_ms"]
    if longest_ms is None:
        return "-"
    parts = [f"{duration(longest_ms)}, {summary['longest_silence_phase']}"]
    if comments := summary["comments"]:
        parts.append(plural(comments, "comment"))
    parts += [
        f"{who} cut after {limit_s} s by default"
        for limit_s, who in KNOWN_EDGES
        if longest_ms > limit_s * 1e3
    ]
    return "; ".join(parts)


# --- the verdict


def check_edge(
    records: Sequence[Record], patience_s: float, seen: str = "", client_bound: bool = False
) -> Check:
    """Would an edge that cuts after `patience_s` of silence have cut any of these requests?

    What it cuts is known for sure only where this program could look all that time
    (`starved_silence_ms`, `client_bound`). `seen`: what a client behind that edge would have seen.
    """
    kept = [each for each in records if not each["excluded"] and each["silence_ms"] is not None]
    if not kept:
        return skip(NAME, "no answer to look at")
    over = [each for each in kept if each["silence_ms"] > patience_s * 1e3]
    cut = [] if client_bound else [each for each in over if is_surely_longer(each, patience_s)]
    told = summary_of(kept)
    evidence = {"patience_s": patience_s, "requests": len(kept), "cut": len(cut), **told}
    if not over:
        detail = f"no silence of more than {patience_s:g} s in {plural(len(kept), 'request')}"
        return passed(NAME, f"{detail}, the longest {words(told)}", evidence)
    if not cut:
        detail = f"cannot tell: {duration(told['longest_silence_ms'])} without a byte, but this "
        detail += "program could not run for a part of that time; repeat it on a less busy machine"
        return skip(NAME, detail, evidence)
    return warned(NAME, cut_words(kept, cut, patience_s, seen), evidence)


def is_surely_longer(record: Record, patience_s: float) -> bool:
    """Whether a silence was too long, whatever this program could not see of it."""
    return bool(record["silence_ms"] - (record.get("starved_silence_ms") or 0) > patience_s * 1e3)


def cut_words(kept: Sequence[Record], cut: Sequence[Record], patience_s: float, seen: str) -> str:
    """The line of a WARN: how many would have been cut, in which phases, and what to do."""
    phases = Counter(str(each["silence_phase"]) for each in cut)
    named = ", ".join(
        phase if len(phases) == 1 else f"{phase} x{count}" for phase, count in phases.most_common()
    )
    worst = longest_of(cut)
    told = summary_of(kept)["comments"]
    detail = f"an edge that cuts after {patience_s:g} s of silence would have cut {len(cut)} of "
    detail += f"{plural(len(kept), 'request')}: {named}, up to "
    detail += f"{duration(worst['silence_ms'] if worst else None)} without a byte"
    detail += f" ({plural(told, 'comment')} came)" if told else ""
    detail += f"; {seen}" if seen else ""
    return f"{detail}; raise its timeout, or let the server send comments meanwhile"


def lost_words(records: Sequence[Record], patience_s: float) -> str:
    """What clients behind the edge would have seen of these requests, which were answered here."""
    cut = [each for each in records if each["error"] is None and _is_cut(each, patience_s)]
    if not cut:
        return ""
    silent = sum(each["silence_phase"] in BEFORE_OUTPUT for each in cut)
    parts = [f"a 504 or a closed connection in place of {silent}"] if silent else []
    parts += [f"the beginning alone of {len(cut) - silent}"] if len(cut) > silent else []
    answered = sum(each["error"] is None and not each["excluded"] for each in records)
    return f"its clients would have seen {' and '.join(parts)} of {plural(answered, 'answer')}"


def _is_cut(record: Record, patience_s: float) -> bool:
    is_known = not record["excluded"] and record["silence_ms"] is not None
    return is_known and is_surely_longer(record, patience_s)


# --- the option


OPTION_HELP = "warn when an edge that cuts after this silence would have cut an answer"


def check_option(args: argparse.Namespace) -> None:
    """An edge on the command line is always checked. ValueError for the check without its edge."""
    if NAME in (args.only or ()) and args.edge_idle is None:
        raise ValueError(f"--only {NAME} needs --edge-idle SECONDS")
    if args.only and args.edge_idle is not None:
        args.only.append(NAME)
