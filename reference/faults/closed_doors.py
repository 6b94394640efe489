"""Deployments that let the scripts in nowhere: a refused key, an edge, a login, a moved address.

Nothing can be said about the deployment then: each script ends with exit code 3 and one line that
names what refuses.
"""

from __future__ import annotations

import json

from aiohttp import web

from ..hooks import Handler
from .answers import instead
from .fault import FLEET, GATEWAY, ClosedDoor, Install
from .planting import around

ALL = GATEWAY + FLEET
LIMIT = ("test_rate_limit.py",)  # it asks for the list of models alone
SOME = ("benchmark.py", "test_openai_sdk.py", "test_auth.py")
BENCHMARK = ("benchmark.py",)
GATEWAY_ONLY = ("--gateway-only",)


def refuses(where: str, status: int, message: str, **more: object) -> Install:
    """An error as OpenAI's API has them."""
    error = {"message": message, "type": "invalid_request_error", **more}
    return instead(
        where,
        status=status,
        text=json.dumps({"error": error}),
        content_type="application/json",
    )


def page(status: int, text: str, server: str = "nginx") -> Install:
    """A web page, as what stands in front of a deployment sends it."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Server": server}
        return web.Response(status=status, text=text, headers=headers, content_type="text/html")

    return around("all", wrapper)


def leads(status: int, to: str) -> Install:
    """Every request is redirected: to this place, where {path} is the path that was asked for."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        location = to.replace("{path}", request.path)
        return web.Response(status=status, headers={"Location": location})

    return around("all", wrapper)


def answers(status: int, text: str = "", **headers: str) -> Install:
    """Every answer is this one, in plain text."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return around("all", wrapper)


BLOCKED = "<html><title>Attention Required! | Cloudflare</title><h1>Sorry, you have been blocked"
LOGIN = (
    '<!doctype html><title>Sign in</title><form>User <input name="user"> Password '
    '<input name="secret" type="password"></form>'
)
NO_CERTIFICATE = (
    "<html><head><title>400 No required SSL certificate was sent</title></head><body><center>"
    "<h1>400 Bad Request</h1></center><center>No required SSL certificate was sent</center></body>"
)

CLOSED: tuple[ClosedDoor, ...] = (
    # the credential
    ClosedDoor(
        "denied-403",
        "every answer is a 403 that refuses the key",
        (*ALL, *LIMIT),
        "was refused, or may not do this (403",
        refuses("all", 403, "This key is not valid here", code="invalid_api_key"),
    ),
    ClosedDoor(
        "denied-403-models-open",
        "the models are listed, and every completion is a 403",
        ALL,
        "was refused, or may not do this (403",
        refuses("inference", 403, "This key is not valid here"),
    ),
    ClosedDoor(
        "denied-403-gateway-only",
        "the health endpoints answer 403 to everybody",
        BENCHMARK,
        "was refused, or may not do this (403",
        refuses("all", 403, "Forbidden"),
        arguments=GATEWAY_ONLY,
    ),
    ClosedDoor(
        "denied-400-no-db",
        "a wrong key is a 400, as of LiteLLM's proxy without a database",
        SOME,
        "No connected db.",
        refuses("all", 400, "No connected db.", code="400"),
    ),
    ClosedDoor(
        "denied-400-google",
        "a wrong key is a 400, as of Google's API",
        SOME,
        "API key not valid",
        refuses("all", 400, "API key not valid. Please pass a valid API key.", code=400),
    ),
    ClosedDoor(
        "denied-200-error",
        "a wrong key is a 200 with an error in it",
        (*GATEWAY, "test_workload_routing.py"),
        "was refused (200",
        refuses("inference", 200, "who are you?", code=401),
    ),
    ClosedDoor(
        "denied-200-stream",
        "a wrong key is a stream with an error in it",
        ("benchmark.py", "test_queue.py", "test_workload_routing.py"),
        "was refused (200",
        instead(
            "inference",
            text='data: {"error": {"message": "Invalid API key", "code": 401}}\n\n',
            content_type="text/event-stream",
        ),
    ),
    # what stands in front
    ClosedDoor(
        "denied-edge",
        "every answer is a 403 page of an edge",
        (*ALL, *LIMIT),
        "an edge (cloudflare) in front of the API refuses this program",
        page(403, BLOCKED, "cloudflare"),
    ),
    ClosedDoor(
        "denied-edge-gateway-only",
        "the health endpoints answer with a 403 page of an edge",
        BENCHMARK,
        "an edge (cloudflare) in front of the API refuses this program",
        page(403, BLOCKED, "cloudflare"),
        arguments=GATEWAY_ONLY,
    ),
    ClosedDoor(
        "denied-edge-code",
        "every answer is the short refusal of an edge, in plain text",
        SOME,
        "an edge (cloudflare) in front of the API refuses this program",
        answers(403, "error code: 1020", Server="cloudflare"),
    ),
    ClosedDoor(
        "denied-nginx",
        "every answer is a 403 page of a web server",
        SOME,
        "a web server or firewall (nginx) in front of the API refuses",
        page(403, "<html><h1>403 Forbidden</h1><hr>nginx</html>"),
    ),
    ClosedDoor(
        "denied-firewall-200",
        "every answer is a 200 with the page of a firewall",
        SOME,
        "in front of the API refuses this program",
        page(200, "<html>The requested URL was rejected. Your support ID is: 17</html>", "BigIP"),
    ),
    ClosedDoor(
        "denied-402",
        "every answer says that the account has no credit",
        SOME,
        "look at its credit",
        refuses("all", 402, "Insufficient Balance"),
    ),
    ClosedDoor(
        "denied-403-quota",
        "every completion is a 403 about the quota of the account",
        SOME,
        "look at its credit",
        refuses("inference", 403, "You exceeded your current quota", code="insufficient_quota"),
    ),
    ClosedDoor(
        "denied-407",
        "a proxy asks for a password",
        SOME,
        "a proxy on the way asks for its own user and password",
        answers(407, "Proxy Authentication Required"),
    ),
    ClosedDoor(
        "denied-451",
        "every answer says that the law forbids it",
        SOME,
        "may not be used from here",
        answers(451, "Unavailable For Legal Reasons"),
    ),
    ClosedDoor(
        "denied-login-page",
        "every answer is a 200 with a page to log in",
        (*SOME, "test_cors.py"),
        "a page to log in answers in the place of the API",
        page(200, LOGIN),
    ),
    ClosedDoor(
        "denied-no-certificate",
        "every answer is nginx's page for a client without a certificate",
        SOME,
        "the server asks for a client certificate",
        page(400, NO_CERTIFICATE),
    ),
    ClosedDoor(
        "denied-426",
        "every answer demands HTTP/2",
        SOME,
        "may speak HTTP/2 only (426",
        answers(426, "Upgrade Required", Upgrade="h2c"),
    ),
    ClosedDoor(
        "denied-505",
        "every answer says that HTTP/1.1 is not supported",
        SOME,
        "may speak HTTP/2 only (505",
        answers(505, "HTTP Version Not Supported"),
    ),
    # another address
    ClosedDoor(
        "moved-https",
        "everything is redirected to https",
        (*ALL, *LIMIT),
        "give --url https://deployment.example",
        leads(308, "https://deployment.example{path}"),
    ),
    ClosedDoor(
        "moved-gateway-only",
        "the health endpoints are redirected to another host",
        BENCHMARK,
        "give --url https://deployment.example/llm",
        leads(301, "https://deployment.example/llm{path}"),
        arguments=GATEWAY_ONLY,
    ),
    ClosedDoor(
        "moved-login",
        "everything is redirected to a page to log in",
        (*ALL, *LIMIT),
        "a page to log in",
        leads(302, "/oauth2/start?rd={path}"),
    ),
    ClosedDoor(
        "moved-slash",
        "every path is redirected to itself with a slash at its end",
        SOME,
        "which is the same address again",
        leads(307, "{path}/"),
    ),
)
