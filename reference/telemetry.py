"""What the GGUF gateway counts, and the two forms in which `/metrics` shows it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics

from .slots import Slots

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TOTAL = "_total"
HELP = {
    "requests_total": "API requests received",
    "requests_success": "API requests answered completely, with a status below 400",
    "requests_error": "API requests refused, failed or abandoned",
    "requests_active": "Inference requests being served",
    "requests_authenticated": "API requests with an accepted key",
    "requests_unauthorized": "API requests without an accepted key",
    "bytes_sent": "Body bytes of API answers",
    "queue_depth": "Requests waiting for a place",
    "queue_rejections": "Requests refused because the queue was full",
    "queue_wait_seconds_total": "Time that requests have waited in the queue",
    "uptime_seconds": "Time since the gateway started",
}


@dataclass(eq=False)  # it needs the hash of an object: the registry keeps it in a dict
class Counters:
    """Counts since the start. What concerns the queue is read from `slots`."""

    slots: Slots
    requests_total: int = 0
    requests_success: int = 0
    requests_error: int = 0
    requests_authenticated: int = 0
    requests_unauthorized: int = 0
    bytes_sent: int = 0
    started_s: float = field(default_factory=time.monotonic)

    def as_dict(self) -> dict[str, float]:
        """All figures under their documented names, in their documented order."""
        return {
            "requests_total": self.requests_total,
            "requests_success": self.requests_success,
            "requests_error": self.requests_error,
            "requests_active": self.slots.active,
            "requests_authenticated": self.requests_authenticated,
            "requests_unauthorized": self.requests_unauthorized,
            "bytes_sent": self.bytes_sent,
            "queue_depth": self.slots.waiting,
            "queue_rejections": self.slots.rejections,
            "queue_wait_seconds_total": round(self.slots.waited_s, 6),
            "uptime_seconds": round(time.monotonic() - self.started_s, 3),
        }

    def as_text(self, accept: str) -> tuple[bytes, str]:
        """Prometheus text, or OpenMetrics if `accept` asks for it, and its content type."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call, unused-ignore]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(registry), TEXT_TYPE

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client. Figures without `_total` in their name become gauges,
        because the library would append it to a counter's name, which is documented without."""
        for name, value in self.as_dict().items():
            kind = CounterMetricFamily if name.endswith(TOTAL) else GaugeMetricFamily
            yield kind(f"gateway_{name}", HELP[name], value=value)


def wants_text(accept: str) -> bool:
    return "text/plain" in accept or "application/openmetrics-text" in accept
