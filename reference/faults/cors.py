"""The faults that test_cors.py must notice."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from ..hooks import Handler
from .answers import DETAIL_200
from .conditions import only, streams
from .fault import Fault, Install
from .gateway_parts import GgufGateway
from .planting import around, nothing, on_gateway

CORS = "test_cors.py"
ORIGIN = "https://app.example"
LATE_S = 1.1  # for a preflight
ALLOW_ORIGIN = "Access-Control-Allow-Origin"

Condition = Callable[[web.BaseRequest, web.StreamResponse], bool]
Change = Callable[[web.StreamResponse, str], None]


@dataclasses.dataclass(frozen=True)
class CorsFault(Fault):
    """A row for test_cors.py.

    browser: one `fetch` of a page shows the fault, so a test can compare a browser's verdict.
    credentials: that fetch has to ask for credentials.
    """

    browser: bool = True
    credentials: bool = False


# --- conditions: which answers are changed


def is_preflight(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return request.method == "OPTIONS"


def is_stream(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return not isinstance(response, web.Response)


def is_error(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return response.status >= 400


def is_whole_answer(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    others = is_preflight, is_stream, is_error
    return not any(applies(request, response) for applies in others)


def always(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return True


# --- changes of these answers


def change_headers(applies: Condition, change: Change) -> Install:
    """Change these answers after the gateway has added its headers; `change` gets the origin."""

    def setup(gateway: GgufGateway) -> None:
        original = gateway.add_headers

        def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
            original(request, response)
            origin = request.headers.get("Origin")
            if origin is not None and applies(request, response):
                change(response, origin)

        gateway.add_headers = add_headers

    return on_gateway(setup)


def without(name: str) -> Change:
    def change(response: web.StreamResponse, origin: str) -> None:
        response.headers.popall(name, None)

    return change


def with_headers(**headers: str) -> Change:
    """Other CORS headers for an allowed origin, which replaces {}. `Allow_Origin` stands for
    `Access-Control-Allow-Origin`, and so on."""

    def change(response: web.StreamResponse, origin: str) -> None:
        if ALLOW_ORIGIN in response.headers:
            for name, value in headers.items():
                full = "Access-Control-" + name.replace("_", "-")
                response.headers[full] = value.format(origin)

    return change


def repeat_origin(response: web.StreamResponse, origin: str) -> None:
    for value in response.headers.getall(ALLOW_ORIGIN, []):
        response.headers.add(ALLOW_ORIGIN, value)


def reflect_origin(response: web.StreamResponse, origin: str) -> None:
    response.headers[ALLOW_ORIGIN] = origin
    response.headers["Vary"] = "Origin"


def preflight_status(status: int, **headers: str) -> Install:
    """Preflights have this status, with all the headers that they should have."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if request.method == "OPTIONS" and "Authorization" not in request.headers:
            response.set_status(status)
            response.headers.update(headers)
        return response

    return around("all", wrapper)


def is_models_preflight(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return request.method == "OPTIONS" and request.path == "/v1/models"


async def answer_preflights_late(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    if request.method == "OPTIONS":
        await asyncio.sleep(LATE_S)
    return await handler(request)


def also_allows(matches: Callable[[str, str], object]) -> Install:
    """An origin for which `matches(origin, allowed)` is true is allowed, too."""

    def setup(gateway: GgufGateway) -> None:
        original = gateway.cors_headers

        def cors_headers(origin: str | None) -> dict[str, str]:
            for allowed in gateway.settings.cors_origins:
                if origin is not None and matches(origin, allowed):
                    return {**original(allowed), ALLOW_ORIGIN: origin}
            return original(origin)

        gateway.cors_headers = cors_headers

    return on_gateway(setup)


def same(origin: str, allowed: str, *parts: str) -> bool:
    """Whether these parts of the two URLs are equal."""
    one, other = urlsplit(origin), urlsplit(allowed)
    return all(getattr(one, part) == getattr(other, part) for part in parts)


def has_host_prefix(origin: str, allowed: str) -> bool:
    host = urlsplit(allowed).hostname or ""
    return same(origin, allowed, "scheme", "port") and urlsplit(origin).netloc.startswith(host)


def has_host_suffix(origin: str, allowed: str) -> bool:
    return same(origin, allowed, "scheme") and origin.endswith(urlsplit(allowed).netloc)


def is_subdomain(origin: str, allowed: str) -> bool:
    return origin.endswith(f".{urlsplit(allowed).netloc}")


def has_prefix(origin: str, allowed: str) -> bool:
    return origin.startswith(allowed)


# --- the faults

_cors = functools.partial(
    CorsFault,
    script=CORS,
    options={"cors_origins": ORIGIN},
    arguments=("--origin", ORIGIN),
)
_others = functools.partial(_cors, check="others")
LISTED = "http://app.example:3000"  # with a port

ROWS: tuple[CorsFault, ...] = (
    _cors(
        "cors-refused-in-200",
        "streams are a 200 whose event stream is the JSON of a framework's error",
        check="stream",
        install=only(streams, DETAIL_200),
        browser=False,
    ),
    _cors(
        "cors-preflight-needs-key",
        "a preflight without a key gets a 401",
        check="preflight",
        install=preflight_status(401),
    ),
    _cors(
        "cors-preflight-redirects",
        "a preflight is redirected",
        check="preflight",
        install=preflight_status(307, Location="/v1/chat/completions/"),
    ),
    _cors(
        "cors-preflight-405",
        "a preflight gets a 405: OPTIONS is not supported",
        check="preflight",
        install=preflight_status(405),
    ),
    _cors(
        "cors-preflight-bare",
        "answers to preflights have no Access-Control-Allow-Origin",
        check="preflight_origin",
        install=change_headers(is_preflight, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-answer-bare",
        "whole answers have no Access-Control-Allow-Origin",
        check="answer",
        install=change_headers(is_whole_answer, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-models-preflight",
        "the preflight for the list of models has no Access-Control-Allow-Origin",
        check="answer",
        install=change_headers(is_models_preflight, without(ALLOW_ORIGIN)),
        browser=False,  # its page asks for completions only
    ),
    _cors(
        "cors-preflight-late",
        "a preflight takes more than a second",
        check="preflight",
        status="WARN",
        install=around("all", answer_preflights_late),
        arguments=("--origin", ORIGIN, "--only", "preflight"),
        browser=False,  # a browser waits
    ),
    _cors(
        "cors-stream-bare",
        "streams have no Access-Control-Allow-Origin",
        check="stream",
        install=change_headers(is_stream, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-errors-bare",
        "errors have no Access-Control-Allow-Origin",
        check="errors",
        install=change_headers(is_error, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-doubled",
        "Access-Control-Allow-Origin comes twice, as if a proxy added its own",
        check="answer",
        install=change_headers(always, repeat_origin),
    ),
    _cors(
        "cors-list",
        "Access-Control-Allow-Origin is a list of two origins",
        check="preflight_origin",
        install=change_headers(always, with_headers(Allow_Origin="{}, https://www.example")),
    ),
    _cors(
        "cors-wrong-origin",
        "one fixed origin is allowed, and it is not the page's",
        check="preflight_origin",
        install=change_headers(always, with_headers(Allow_Origin="https://www.example")),
    ),
    _cors(
        "cors-trailing-slash",
        "the allowed origin has a slash at its end",
        check="preflight_origin",
        install=change_headers(always, with_headers(Allow_Origin="{}/")),
    ),
    _cors(
        "cors-no-post",
        "POST is not among the allowed methods",
        check="methods",
        install=change_headers(is_preflight, with_headers(Allow_Methods="GET, OPTIONS")),
        browser=False,  # browsers allow POST without asking, because it is safelisted
    ),
    _cors(
        "cors-methods-no-list",
        "the allowed methods are not separated by commas",
        check="methods",
        install=change_headers(is_preflight, with_headers(Allow_Methods="GET POST OPTIONS")),
    ),
    _cors(
        "cors-no-authorization",
        "authorization is not among the allowed headers",
        check="headers",
        install=change_headers(is_preflight, with_headers(Allow_Headers="Content-Type")),
    ),
    _cors(
        "cors-any-header",
        "the allowed headers are *, which does not include authorization",
        check="headers",
        install=change_headers(is_preflight, with_headers(Allow_Headers="*")),
    ),
    _cors(
        "cors-no-content-type",
        "content-type is not among the allowed headers",
        check="headers",
        install=change_headers(is_preflight, with_headers(Allow_Headers="Authorization")),
    ),
    _cors(
        "cors-headers-no-list",
        "the allowed headers are not separated by commas",
        check="headers",
        install=change_headers(
            is_preflight, with_headers(Allow_Headers="Authorization; Content-Type")
        ),
    ),
    _cors(
        "cors-any-with-credentials",
        "the origin * is allowed together with credentials",
        check="credentials",
        install=change_headers(always, with_headers(Allow_Origin="*", Allow_Credentials="true")),
        credentials=True,
    ),
    _others(
        "cors-reflects",
        "any origin is allowed: it is sent back as it came",
        install=also_allows(lambda origin, allowed: True),
    ),
    _others(
        "cors-reflects-on-answers",
        "any origin is allowed, except on preflights",
        install=change_headers(lambda *both: not is_preflight(*both), reflect_origin),
    ),
    _others(
        "cors-reflects-on-streams",
        "any origin is allowed on streams, as if the engine added the header",
        install=change_headers(is_stream, reflect_origin),
        browser=False,  # without a key a page gets no stream, and with a key it needs a preflight
    ),
    _others(
        "cors-prefix",
        "a host is allowed that only begins like the allowed one",
        install=also_allows(has_host_prefix),
    ),
    _others(
        "cors-prefix-port",
        "an origin is allowed that only begins like the allowed one",
        install=also_allows(has_prefix),
        options={"cors_origins": LISTED},
        arguments=("--origin", LISTED),
        browser=False,  # it needs a server on a port with one more digit
    ),
    _others(
        "cors-suffix",
        "an origin is allowed that only ends like the allowed one",
        install=also_allows(has_host_suffix),
    ),
    _others(
        "cors-unescaped-dot",
        "the dots of the allowed origin match any letter",
        install=also_allows(lambda origin, allowed: re.fullmatch(allowed, origin)),
    ),
    _others(
        "cors-any-scheme",
        "http is allowed where only https should be",
        install=also_allows(lambda origin, allowed: same(origin, allowed, "netloc")),
    ),
    _others(
        "cors-any-port",
        "any port of the allowed host is allowed",
        install=also_allows(lambda origin, allowed: same(origin, allowed, "scheme", "hostname")),
    ),
    _others(
        "cors-null",
        "the origin null is allowed, which any sandboxed frame has",
        install=also_allows(lambda origin, allowed: origin == "null"),
    ),
    _others(
        "cors-subdomain",
        "any subdomain of the allowed host is allowed",
        status="WARN",
        install=also_allows(is_subdomain),
        browser=False,  # a warning: a browser lets the page in
    ),
    _others(
        "cors-localhost",
        "any page of localhost is allowed as well",
        status="WARN",
        install=also_allows(lambda origin, allowed: urlsplit(origin).hostname == "localhost"),
        browser=False,  # as above
    ),
    _cors(
        "cors-no-vary",
        "answers have no Vary: Origin",
        check="vary",
        install=change_headers(always, without("Vary")),
        browser=False,  # it needs a cache and two pages
    ),
    _cors(
        "cors-not-disabled",
        "CORS is enabled where it should be disabled",
        check="disabled",
        install=nothing,
        arguments=("--origin", ORIGIN, "--expect-disabled"),
        browser=False,  # only the expectation is wrong
    ),
)
