"""The `/metrics` of the simulated engine, in the form that vLLM's server gives it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from .slots import Slots

LABELS = ("engine", "model_name")
# vLLM's buckets of the time to the first token, in seconds
BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0),
    *(7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)


class SimMetrics:
    """Requests and the use of the cache are read from `slots`: a place is a share of the cache."""

    def __init__(self, slots: Slots, model: str) -> None:
        self._slots, self._values = slots, ("0", model)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._ttft = Histogram(
            "vllm:time_to_first_token_seconds",
            "Time from the arrival of a request to its first token, in seconds.",
            LABELS,
            registry=self._registry,
            buckets=BUCKETS,
        ).labels(*self._values)
        self._counter("vllm:num_preemptions", "Preempted requests.")
        self._tokens = self._counter("vllm:generation_tokens", "Tokens of answers.")

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(name, help_text, LABELS, registry=self._registry).labels(*self._values)

    def count(self, ttft_s: float, tokens: int) -> None:
        """An answer has ended: the time from the arrival of its request to its first token, and how
        many it has."""
        self._ttft.observe(ttft_s)
        self._tokens.inc(tokens)

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client."""
        figures = {
            "vllm:num_requests_running": (self._slots.active, "Requests that are being served."),
            "vllm:num_requests_waiting": (self._slots.waiting, "Requests that wait."),
            "vllm:kv_cache_usage_perc": (
                self._slots.active / self._slots.max_active,
                "Share of the cache that is in use: 1 is all of it.",
            ),
        }
        for name, (value, help_text) in figures.items():
            family = GaugeMetricFamily(name, help_text, labels=LABELS)
            family.add_metric(self._values, value)
            yield family

    def as_text(self) -> bytes:
        return generate_latest(self._registry)
