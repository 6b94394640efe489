"""Sound deployments whose API is not at /v1, or has no list of models."""

from __future__ import annotations

from aiohttp import web

from ..hooks import Handler
from .answers import instead
from .fault import Install, SoundVariant
from .planting import around


def api_at(base: str) -> Install:
    """The API is below this path, and no longer at /v1."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if path.startswith(f"{base}/"):
            return await handler(request.clone(rel_url="/v1" + path.removeprefix(base)))
        if path.startswith("/v1/"):
            return web.Response(status=404, text="404 page not found")
        return await handler(request)

    return around("all", wrapper)


ROWS: tuple[SoundVariant, ...] = (
    SoundVariant(
        "api-at-v4",
        "the API is at /api/paas/v4",
        ("benchmark.py", "test_openai_sdk.py", "test_queue.py", "test_cors.py"),
        api_at("/api/paas/v4"),
        arguments=("--url", "{inference_url}/api/paas/v4"),
    ),
    SoundVariant(
        "fleet-api-at-v1beta",
        "the API is at /v1beta/openai, and the endpoint was pasted",
        ("test_auth.py", "test_model_routing.py", "test_workload_routing.py"),
        api_at("/v1beta/openai"),
        arguments=("--url", "{simpleai_url}/v1beta/openai/chat/completions"),
    ),
    SoundVariant(
        "no-model-list",
        "there is no list of models",
        ("benchmark.py", "test_queue.py", "test_cors.py"),
        instead("models", status=404),
    ),
)
