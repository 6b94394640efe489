"""Gateways that queue as the guide asks, but whose /health and /metrics are not the guide's."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..hooks import Handler
from ..refusals import queue_full
from ..slots import QueueFull, Slots
from .fault import Install
from .planting import all_of, around, around_with_gateway, on_gateway

ENGINE_METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="sim"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="sim"} 3.0
"""


async def status_ok(_: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"status": "ok"})


async def nothing_in_it(_: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def engine_metrics(_: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=ENGINE_METRICS)


async def not_found(_: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"error": {"message": "File Not Found"}}, status=404)


async def in_the_queue(
    gateway: Any, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """As a proxy that queues every request, whatever its path."""
    try:
        async with gateway.slots.place():
            return await handler(request)
    except QueueFull:
        return queue_full().response()


class NoQueue(Slots):
    """What is not served at once is refused."""

    async def _acquire(self) -> None:
        if self.active >= self.max_active:
            self.rejections += 1
            raise QueueFull
        self.active += 1


def no_queue(gateway: Any) -> None:
    slots = NoQueue(gateway.slots.max_active, gateway.slots.max_waiting)
    gateway.slots = gateway.counters.slots = slots


OF_LLAMA = all_of(around("health", status_ok), around("metrics", not_found))
OF_VLLM = all_of(around("health", nothing_in_it), around("metrics", engine_metrics))
WITHOUT_QUEUE = all_of(OF_LLAMA, on_gateway(no_queue))
QUEUES_PROBES: Install = all_of(
    OF_LLAMA, *(around_with_gateway(where, in_the_queue) for where in ("ping", "health"))
)
