"""What the metrics of an inference server say of its load, its cache and its own TTFT. Pure.

vLLM (docs.vllm.ai, "Metrics"), llama.cpp (`llama-server --metrics`) and the guide's gateway name
the same things differently. A metric that a server has several times (one for each engine or model)
is added up; of the use of caches the fullest one counts.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from livecheck.core.json_value import number
from livecheck.core.late_pattern import late_pattern
from livecheck.wire.prometheus import Sample, read_samples

RUNNING, WAITING, CACHE = "running_requests", "waiting_requests", "cache_usage"
PREEMPTIONS, DRAFTED, ACCEPTED = "preemptions", "draft_tokens", "draft_accepted_tokens"
GAUGES, COUNTERS = (RUNNING, WAITING, CACHE), (PREEMPTIONS, DRAFTED, ACCEPTED)
VLLM, LLAMA, GATEWAY = "vLLM", "llama.cpp", "the gateway"
NAMES = {  # whose metric it is, and what it says
    "vllm:num_requests_running": (VLLM, RUNNING),
    "vllm:num_requests_waiting": (VLLM, WAITING),
    "vllm:kv_cache_usage_perc": (VLLM, CACHE),
    "vllm:gpu_cache_usage_perc": (VLLM, CACHE),  # until version 0.10
    "vllm:num_preemptions_total": (VLLM, PREEMPTIONS),
    "vllm:spec_decode_num_draft_tokens_total": (VLLM, DRAFTED),
    "vllm:spec_decode_num_accepted_tokens_total": (VLLM, ACCEPTED),
    "llamacpp:requests_processing": (LLAMA, RUNNING),
    "llamacpp:requests_deferred": (LLAMA, WAITING),
    "llamacpp:kv_cache_usage_ratio": (LLAMA, CACHE),  # older versions
    "llamacpp:spec_decode_num_draft_tokens_total": (LLAMA, DRAFTED),
    "llamacpp:spec_decode_num_accepted_tokens_total": (LLAMA, ACCEPTED),
    "gateway_requests_active": (GATEWAY, RUNNING),
    "gateway_queue_depth": (GATEWAY, WAITING),
}
TTFT = "vllm:time_to_first_token_seconds"  # a histogram
PARTS = (f"{TTFT}_bucket", f"{TTFT}_sum", f"{TTFT}_count")
# One engine has 23 buckets; of very many engines the rest is left out, with its lines.
MOST_LINES, LINE_BYTES = 2000, 1000
LINES = late_pattern(
    rb"^(?:%s)[ {][^\n]{1,%d}$"
    % (b"|".join(re.escape(name.encode()) for name in (*NAMES, *PARTS)), LINE_BYTES),
    re.MULTILINE,
)


@dataclass(frozen=True)
class Histogram:
    """Cumulative counts by their upper bounds (seconds, ascending, the last one infinite)."""

    bounds: Sequence[float]
    counts: Sequence[float]
    total_s: float

    @property
    def count(self) -> float:
        return self.counts[-1] if self.counts else 0.0


@dataclass(frozen=True)
class Reading:
    """What one answer of /metrics says. `figures`: by the names above, those that are there."""

    engine: str
    figures: dict[str, float] = field(default_factory=dict)
    ttft: Histogram | None = None


def needed(body: bytes) -> bytes:
    """The lines that are needed of a /metrics, which may have thousands of others. It takes about a
    millisecond for 100 KB, because it runs while streams are measured."""
    found = itertools.islice(LINES.finditer(body), MOST_LINES)
    return b"\n".join(match[0] for match in found)


def read(lines: bytes) -> Reading | None:
    """What these lines say (see `needed`); None when nothing, or nothing that can be read.

    Where metrics of several kinds of servers are at one place, the engine's are taken.
    """
    exposition = read_samples(lines)
    if exposition.problem:
        return None
    by_engine: defaultdict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in exposition.samples:
        engine, figure = NAMES.get(sample.name, ("", ""))
        value = number(sample.value)
        most = 1.0 if figure == CACHE else math.inf  # a share of the cache
        if engine and value is not None and 0 <= value <= most:
            by_engine[engine][figure].append(value)
    ttft = read_histogram(exposition.samples)
    engines = [each for each in (VLLM, LLAMA, GATEWAY) if each in by_engine]
    if not engines:
        return Reading(VLLM, {}, ttft) if ttft else None
    values = by_engine[engines[0]]
    figures = {name: max(v) if name == CACHE else math.fsum(v) for name, v in values.items()}
    return Reading(engines[0], figures, ttft)


def read_histogram(samples: Sequence[Sample]) -> Histogram | None:
    """The server's own TTFT, of all engines and models together; None without one."""
    counts: defaultdict[float, float] = defaultdict(float)
    total_s = 0.0
    for name, labels, value in samples:
        if name == PARTS[0] and math.isfinite(value) and (bound := as_bound(labels)) is not None:
            counts[bound] += value
        elif name == PARTS[1] and math.isfinite(value):
            total_s += value
    bounds = sorted(counts)
    if not bounds or not math.isinf(bounds[-1]):
        return None
    return Histogram(bounds, [counts[each] for each in bounds], total_s)


def as_bound(labels: dict[str, str]) -> float | None:
    """The upper bound of a bucket; None for anything else."""
    text = labels.get("le", "")
    try:
        bound = float(text) if len(text) < 40 else math.nan
    except ValueError:
        return None
    return bound if bound > 0 else None


def has_fallen(readings: Sequence[Reading]) -> bool:
    """Whether a counter is less in one of these, in order of time, than in the one before it."""
    return any(
        after < before
        for first, then in itertools.pairwise(map(counts_of, readings))
        for before, after in ((first[name], then[name]) for name in first.keys() & then.keys())
    )


def counts_of(reading: Reading) -> dict[str, float]:
    """What only grows while a server runs."""
    found = {name: reading.figures[name] for name in COUNTERS if name in reading.figures}
    return found | ({TTFT: reading.ttft.count} if reading.ttft else {})


def grown(first: Histogram, last: Histogram) -> Histogram | None:
    """What was counted between the two; None after a restart, or when their buckets differ."""
    if list(first.bounds) != list(last.bounds):
        return None
    counts = [b - a for a, b in zip(first.counts, last.counts, strict=True)]
    is_ascending = all(a <= b for a, b in itertools.pairwise([0.0, *counts]))
    return Histogram(last.bounds, counts, last.total_s - first.total_s) if is_ascending else None


def quantile(found: Histogram, share: float) -> tuple[float | None, float, float | None]:
    """(value, lower and upper bound of its bucket) in seconds, by linear interpolation in the
    bucket as Prometheus's histogram_quantile has it. In the last bucket, which has no end, both the
    value and its upper bound are None. ValueError for an empty histogram."""
    if found.count <= 0:
        raise ValueError("no quantile of no values")
    rank, low_s, before = share * found.count, 0.0, 0.0
    for bound_s, count in zip(found.bounds, found.counts, strict=True):
        if count >= rank and count > before:
            if math.isinf(bound_s):
                return None, low_s, None
            value_s = low_s + (bound_s - low_s) * (rank - before) / (count - before)
            return value_s, low_s, bound_s
        low_s, before = bound_s, count
    return None, low_s, None
