"""Sound deployments with unusual paths: nobody is let in by another spelling, or elsewhere."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from urllib.parse import unquote

from aiohttp import web

from ..hooks import Handler
from .fault import Install, SoundVariant
from .planting import around


def instead_of_404(answer: Callable[[], web.StreamResponse], under: str = "/") -> Install:
    """What this gives stands in the place of a 404; below /v1/ only where `under` says so."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        is_meant = under == "/v1/" or not request.path.startswith("/v1/")
        return answer() if response.status == 404 and is_meant else response

    return around("all", wrapper)


def web_page() -> web.StreamResponse:
    return web.Response(text="<!doctype html><title>App</title>", content_type="text/html")


def looks_generated() -> web.StreamResponse:
    """It has the keys of an engine's answer, but any path has it."""
    return web.json_response({"content": "nothing here", "stop": True, "tokens": [], "id": 0})


def plain_path(request: web.BaseRequest) -> str:
    """The path that is meant, for a server that reads it generously."""
    path = posixpath.normpath(unquote(request.raw_path.partition("?")[0]).lower())
    return "/" + path.replace("\\", "/").strip("/").removesuffix(".json").partition(";")[0]


async def resolve_first(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    path = plain_path(request)
    is_known = path in ("/v1/chat/completions", "/v1/models", "/admin/runners")
    return await handler(request.clone(rel_url=path) if is_known else request)


async def redirect_first(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    path = plain_path(request)
    if path != request.path and path == "/v1/chat/completions":
        return web.Response(status=308, headers={"Location": path})
    return await handler(request)


ROWS: tuple[SoundVariant, ...] = (
    SoundVariant(
        "page-for-any-path",
        "a path that does not exist gives a web page",
        ("test_auth.py",),
        instead_of_404(web_page, "/v1/"),
    ),
    SoundVariant(
        "json-for-any-path",
        "a path that does not exist gives JSON that looks like an engine's answer",
        ("test_auth.py",),
        instead_of_404(looks_generated),
    ),
    SoundVariant(
        "resolves-paths",
        "a path is read generously, and then the token is asked for",
        ("test_auth.py",),
        around("all", resolve_first),
    ),
    SoundVariant(
        "redirects-paths",
        "another spelling of a path is redirected",
        ("test_auth.py",),
        around("all", redirect_first),
    ),
)
