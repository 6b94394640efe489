"""What test_cors.py must notice."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..hooks import Answer
from .parts import Fault, Install, nothing

CORS = "test_cors.py"
ORIGIN = "https://app.example"
ALLOW_ORIGIN = "Access-Control-Allow-Origin"
ALLOW_METHODS = "Access-Control-Allow-Methods"
ALLOW_HEADERS = "Access-Control-Allow-Headers"
ALLOW_CREDENTIALS = "Access-Control-Allow-Credentials"

Concerns = Callable[[web.BaseRequest, web.StreamResponse], bool]
Change = Callable[[web.StreamResponse, str], None]


@dataclasses.dataclass(frozen=True)
class CorsFault(Fault):
    """browser: a single `fetch` of a page shows it, so a browser's verdict can be compared.
    credentials: if that fetch asks for credentials, too."""

    browser: bool = True
    credentials: bool = False


# --- which answers


def to_preflight(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return request.method == "OPTIONS"


def a_stream(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return not isinstance(response, web.Response)


def an_error(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return response.status >= 400


def a_whole_answer(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    others = to_preflight, a_stream, an_error
    return not any(concerns(request, response) for concerns in others)


def anything(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    return True


# --- what is done to them


def on(concerns: Concerns, change: Change) -> Install:
    """Change these answers, once the gateway has added its headers; `change` gets the origin."""

    def setup(gateway: Any) -> None:
        sound = gateway._dress

        def dress(request: web.BaseRequest, response: web.StreamResponse) -> None:
            sound(request, response)
            origin = request.headers.get("Origin")
            if origin is not None and concerns(request, response):
                change(response, origin)

        gateway._dress = dress

    return lambda hooks: hooks.setup.append(setup)


def without(name: str) -> Change:
    def change(response: web.StreamResponse, origin: str) -> None:
        response.headers.popall(name, None)

    return change


def saying(**headers: str) -> Change:
    """These headers for the allowed page, {} being its origin; `Allow_Origin` for short."""

    def change(response: web.StreamResponse, origin: str) -> None:
        if ALLOW_ORIGIN in response.headers:
            for name, value in headers.items():
                full = "Access-Control-" + name.replace("_", "-")
                response.headers[full] = value.format(origin)

    return change


def twice(response: web.StreamResponse, origin: str) -> None:
    for value in response.headers.getall(ALLOW_ORIGIN, []):
        response.headers.add(ALLOW_ORIGIN, value)


def reflected(response: web.StreamResponse, origin: str) -> None:
    response.headers[ALLOW_ORIGIN] = origin
    response.headers["Vary"] = "Origin"


def preflight_status(status: int, **headers: str) -> Install:
    """Preflights end like this, with all the headers they should have."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(request)
        if request.method == "OPTIONS" and "Authorization" not in request.headers:
            response.set_status(status)
            response.headers.update(headers)
        return response

    return lambda hooks: hooks.around["all"].append(wrapper)


def also_allowed(matches: Callable[[str, str], object]) -> Install:
    """Origins that match an allowed one (origin, allowed) are answered as that one is."""

    def setup(gateway: Any) -> None:
        sound = gateway._cors

        def cors(origin: str | None) -> dict[str, str]:
            for allowed in gateway.settings.cors_origins:
                if origin is not None and matches(origin, allowed):
                    return {**sound(allowed), ALLOW_ORIGIN: origin}
            headers: dict[str, str] = sound(origin)
            return headers

        gateway._cors = cors

    return lambda hooks: hooks.setup.append(setup)


def same(origin: str, allowed: str, *parts: str) -> bool:
    one, other = urlsplit(origin), urlsplit(allowed)
    return all(getattr(one, part) == getattr(other, part) for part in parts)


def begins_alike(origin: str, allowed: str) -> bool:
    host = urlsplit(allowed).hostname or ""
    return same(origin, allowed, "scheme", "port") and urlsplit(origin).netloc.startswith(host)


def ends_alike(origin: str, allowed: str) -> bool:
    return same(origin, allowed, "scheme") and origin.endswith(urlsplit(allowed).netloc)


def begins_with(origin: str, allowed: str) -> bool:
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
        "cors-preflight-needs-key",
        "a preflight without a key is a 401",
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
        "OPTIONS is not allowed",
        check="preflight",
        install=preflight_status(405),
    ),
    _cors(
        "cors-preflight-bare",
        "no Access-Control-Allow-Origin on preflights",
        check="preflight_origin",
        install=on(to_preflight, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-answer-bare",
        "no Access-Control-Allow-Origin on answers",
        check="answer",
        install=on(a_whole_answer, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-stream-bare",
        "no Access-Control-Allow-Origin on streams",
        check="stream",
        install=on(a_stream, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-errors-bare",
        "no Access-Control-Allow-Origin on errors",
        check="errors",
        install=on(an_error, without(ALLOW_ORIGIN)),
    ),
    _cors(
        "cors-doubled",
        "Access-Control-Allow-Origin twice: a proxy adds its own",
        check="answer",
        install=on(anything, twice),
    ),
    _cors(
        "cors-list",
        "Access-Control-Allow-Origin is a comma list",
        check="preflight_origin",
        install=on(anything, saying(Allow_Origin="{}, https://www.example")),
    ),
    _cors(
        "cors-wrong-origin",
        "another origin than the page's is allowed, to all",
        check="preflight_origin",
        install=on(anything, saying(Allow_Origin="https://www.example")),
    ),
    _cors(
        "cors-trailing-slash",
        "the allowed origin ends in a slash",
        check="preflight_origin",
        install=on(anything, saying(Allow_Origin="{}/")),
    ),
    _cors(
        "cors-no-post",
        "POST is not among the methods",
        check="methods",
        install=on(to_preflight, saying(Allow_Methods="GET, OPTIONS")),
        browser=False,  # they let POST pass unasked: it is safelisted
    ),
    _cors(
        "cors-methods-no-list",
        "the methods are no comma list",
        check="methods",
        install=on(to_preflight, saying(Allow_Methods="GET POST OPTIONS")),
    ),
    _cors(
        "cors-no-authorization",
        "authorization is not among the headers",
        check="headers",
        install=on(to_preflight, saying(Allow_Headers="Content-Type")),
    ),
    _cors(
        "cors-any-header",
        "* for the headers, which does not cover authorization",
        check="headers",
        install=on(to_preflight, saying(Allow_Headers="*")),
    ),
    _cors(
        "cors-no-content-type",
        "content-type is not among the headers",
        check="headers",
        install=on(to_preflight, saying(Allow_Headers="Authorization")),
    ),
    _cors(
        "cors-headers-no-list",
        "the headers are no comma list",
        check="headers",
        install=on(to_preflight, saying(Allow_Headers="Authorization; Content-Type")),
    ),
    _cors(
        "cors-any-with-credentials",
        "* together with credentials",
        check="credentials",
        install=on(anything, saying(Allow_Origin="*", Allow_Credentials="true")),
        credentials=True,
    ),
    _others(
        "cors-reflects",
        "any origin is allowed: sent back as it came",
        install=also_allowed(lambda origin, allowed: True),
    ),
    _others(
        "cors-reflects-on-answers",
        "any origin is sent back, but not on preflights",
        install=on(lambda *both: not to_preflight(*both), reflected),
    ),
    _others(
        "cors-reflects-on-streams",
        "any origin is sent back on streams: the engine's own header",
        install=on(a_stream, reflected),
        browser=False,  # without a key no page gets a stream, with one it needs a preflight
    ),
    _others("cors-prefix", "the host need only begin alike", install=also_allowed(begins_alike)),
    _others(
        "cors-prefix-port",
        "the origin need only begin alike",
        install=also_allowed(begins_with),
        options={"cors_origins": LISTED},
        arguments=("--origin", LISTED),
        browser=False,  # needs a server on the port that has one more digit
    ),
    _others("cors-suffix", "the origin need only end alike", install=also_allowed(ends_alike)),
    _others(
        "cors-unescaped-dot",
        "the origin is a pattern, with its dots",
        install=also_allowed(lambda origin, allowed: re.fullmatch(allowed, origin)),
    ),
    _others(
        "cors-any-scheme",
        "http is as good as https",
        install=also_allowed(lambda origin, allowed: same(origin, allowed, "netloc")),
    ),
    _others(
        "cors-any-port",
        "any port will do",
        install=also_allowed(lambda origin, allowed: same(origin, allowed, "scheme", "hostname")),
    ),
    _others(
        "cors-null",
        "null is allowed: any sandboxed frame",
        install=also_allowed(lambda origin, allowed: origin == "null"),
    ),
    _cors(
        "cors-no-vary",
        "no Vary: Origin",
        check="vary",
        install=on(anything, without("Vary")),
        browser=False,  # it takes a cache and two pages
    ),
    _cors(
        "cors-not-disabled",
        "CORS is on where it should be off",
        check="disabled",
        install=nothing,
        arguments=("--origin", ORIGIN, "--expect-disabled"),
        browser=False,  # nothing is wrong but the expectation
    ),
)
