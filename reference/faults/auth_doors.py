"""Ways past the credential that test_auth.py must notice: other spellings, other endpoints.

Each is planted in the gateway whose credential is an API key (names with `key`) or in the fleet's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from ..hooks import Handler
from ..token_verifier import User
from ..tokens import ADMIN
from .fault import Fault, Install
from .gateway_parts import FleetGateway, GgufGateway
from .planting import all_of, around, around_with_gateway, on_gateway

CHAT = "/v1/chat/completions"
RUNNERS = "/admin/runners"
LET_IN = "let_in"  # what a request has that needs no credential any more
ANYBODY = User("anybody", frozenset({ADMIN}))
LOCAL = "127.0.0.1"
Condition = Callable[[web.BaseRequest], object]
Rewrite = Callable[[web.BaseRequest], str | None]


# --- who needs no credential


def without_credential(applies: Condition) -> Install:
    """The requests for which `applies` is true need none, at either gateway."""

    def setup(gateway: Any) -> None:
        if hasattr(gateway, "authorize"):
            open_gateway(gateway, applies)
        else:
            open_fleet(gateway, applies)

    return on_gateway(setup)


def open_gateway(gateway: GgufGateway, applies: Condition) -> None:
    original = gateway.authorize

    def authorize(request: web.BaseRequest) -> None:
        if not applies(request):
            original(request)

    gateway.authorize = authorize


def open_fleet(fleet: FleetGateway, applies: Condition) -> None:
    original = fleet.user
    fleet.user = lambda request: ANYBODY if applies(request) else original(request)


def reached_by(rewrite: Rewrite, method: str = "POST") -> Install:
    """The requests for which `rewrite` gives a path are served as that path, without a credential.

    The guard looks at what was sent, the router at what it means.
    """

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        path = rewrite(request)
        if path is not None:
            request = request.clone(method=method, rel_url=path)
            request[LET_IN] = True
        return await handler(request)

    return all_of(around("all", wrapper), without_credential(lambda each: LET_IN in each))


def raw(request: web.BaseRequest) -> str:
    """The path as it was sent."""
    return request.raw_path


def chat_at(applies: Callable[[str], object]) -> Install:
    """A raw path for which `applies` is true is one to the completions."""

    def rewrite(request: web.BaseRequest) -> str | None:
        return CHAT if raw(request) != CHAT and applies(raw(request)) else None

    return reached_by(rewrite)


def resolved(path: str) -> str:
    """The path without its dot segments."""
    parts: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def unquoted(path: str) -> str:
    return re.sub("%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), path)


def believes(name: str, *values: str) -> Install:
    """A header that only a proxy should set is believed: with any value, or with one of these."""

    def applies(request: web.BaseRequest) -> bool:
        value = request.headers.get(name)
        return value is not None and (not values or value in values)

    return without_credential(applies)


def by_original_url(request: web.BaseRequest) -> str | None:
    """The guard looks at the path, the router at X-Original-URL."""
    return request.headers.get("X-Original-URL") if request.path == "/health" else None


def runners_of_a_user(request: web.BaseRequest) -> bool:
    return request.path == RUNNERS and "X-Forwarded-User" in request.headers


def by_override(request: web.BaseRequest) -> str | None:
    named = request.headers.get("X-HTTP-Method-Override")
    return CHAT if request.method == "GET" and named == "POST" and request.path == CHAT else None


def claims_to_be_a_preflight(request: web.BaseRequest) -> bool:
    return "Access-Control-Request-Method" in request.headers


# --- the credential


def header_has(matches: Callable[[str, str], bool]) -> Install:
    """The API key is looked for in the values of all Authorization headers, one after another."""

    def setup(gateway: GgufGateway) -> None:
        original = gateway.authorize

        def authorize(request: web.BaseRequest) -> None:
            sent = [
                value.partition(" ")[2] for value in request.headers.getall("Authorization", [])
            ]
            keys = [key.decode() for key in gateway.keys]
            if not any(matches(value, key) for value in sent for key in keys):
                original(request)

        gateway.authorize = authorize

    return on_gateway(setup)


def key_in_query(gateway: GgufGateway) -> None:
    """A key is accepted as ?key=, as Google's API has it."""
    keys = [key.decode() for key in gateway.keys]
    open_gateway(gateway, lambda request: request.query.get("key") in keys)


def has_same_ends(value: str, key: str) -> bool:
    """As where keys are compared in the form in which they are shown: `sk-1…9f2c`."""
    return len(value) == len(key) and (value[:6], value[-4:]) == (key[:6], key[-4:])


def first_word(value: str, key: str) -> bool:
    return value.split(" ")[0] == key


def verify_part_of_token(part: Callable[[str], str]) -> Install:
    """The fleet verifies only this part of what was sent."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.verifier.credential

        def credential(authorization: str | None, query: Any) -> str:
            scheme, _, rest = (authorization or "").partition(" ")
            return original(f"{scheme} {part(rest)}" if rest else authorization, query)

        fleet.verifier.credential = credential  # type: ignore[method-assign]

    return on_gateway(setup)


def three_segments(token: str) -> str:
    return ".".join(token.split(".")[:3])


def the_last_header(fleet: FleetGateway) -> None:
    """Of several Authorization headers the last one counts."""
    original = fleet.user

    def user(request: web.BaseRequest) -> User:
        sent = request.headers.getall("Authorization", [])
        if len(sent) > 1:
            return fleet.verifier.user(sent[-1], request.query)
        return original(request)

    fleet.user = user


# --- other endpoints


def page(path: str, content: object, method: str = "POST") -> Install:
    """Everybody gets this JSON there."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        if (request.method, request.path) != (method, path):
            return await handler(request)
        if isinstance(content, str):
            return web.Response(text=content)
        return web.json_response(content)

    return around("all", wrapper)


async def settings_page(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """The engine's settings, which anybody can read, have the key in them."""
    if request.path == "/get_server_info":
        return web.json_response({"server_args": {"api_key": gateway.keys[0].decode()}})
    return await handler(request)


SLOTS = [{"id": 0, "n_ctx": 4096, "is_processing": True, "prompt": "somebody's secret"}]
FILES = {"data": [{"id": "file-1", "object": "file", "filename": "a.jsonl", "purpose": "batch"}]}
PROPS = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 1, "model_path": "/m.gguf"}
LLAMA_ANSWER = {"content": " yes", "stop": True, "tokens_predicted": 1}
OLLAMA_ANSWER = {"model": "m", "message": {"role": "assistant", "content": "yes"}, "done": True}
TGI_ANSWER = [{"generated_text": " yes"}]
MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "yes"}]}
EMBEDDING = [{"index": 0, "embedding": [[0.1, 0.2]]}]
SCORES = {"data": [{"index": 0, "score": 0.7}]}
TOKEN_IDS = {"request_id": "r", "choices": [{"index": 0, "token_ids": [5]}]}
SPENT = 'litellm_spend_metric_total{end_user="ann",hashed_api_key="88dc",model="m"} 0.5\n'


# --- the faults

_fleet = functools.partial(Fault, script="test_auth.py", profile="fleet")
_key = functools.partial(Fault, script="test_auth.py", profile="gateway")


def _around(check: str, name: str, breaks: str, install: Install, is_key: bool = False) -> Fault:
    kind = _key if is_key else _fleet
    only = ("--only", "no_credentials", check)
    return kind(f"auth-{name}", breaks, check=check, install=install, arguments=only)


_path = functools.partial(_around, "other_paths")
_method = functools.partial(_around, "other_methods")
_header = functools.partial(_around, "proxy_headers")
_endpoint = functools.partial(_around, "other_endpoints")

ROWS: tuple[Fault, ...] = (
    _path(
        "path-two-slashes",
        "a path that begins with two slashes needs no token",
        chat_at(lambda path: path == "/" + CHAT),
    ),
    _path(
        "key-path-slashes-inside",
        "a path with two slashes in it needs no key",
        chat_at(lambda path: path.replace("//", "/") == CHAT),
        is_key=True,
    ),
    _path(
        "path-slash-at-end",
        "a path with a slash at its end needs no token",
        chat_at(lambda path: path.rstrip("/") == CHAT),
    ),
    _path(
        "key-path-encoded",
        "a path with an encoded letter needs no key",
        chat_at(lambda path: unquoted(path) == CHAT),
        is_key=True,
    ),
    _path(
        "path-encoded-twice",
        "a path with a letter that is encoded twice needs no token",
        chat_at(lambda path: unquoted(path) != CHAT and unquoted(unquoted(path)) == CHAT),
    ),
    _path(
        "key-path-dots",
        "a path that leads out of a folder and back needs no key",
        chat_at(lambda path: ".." in path and resolved(path) == CHAT),
        is_key=True,
    ),
    _path(
        "path-out-of-public",
        "a path that begins with /public/ needs no token, also when it leads out of there",
        chat_at(lambda path: path.startswith("/public/") and resolved(path) == CHAT),
    ),
    _path(
        "path-any-case",
        "a path in capitals needs no token",
        chat_at(lambda path: path.lower() == CHAT),
    ),
    _path(
        "key-path-json",
        "a path that ends in .json needs no key",
        chat_at(lambda path: path == f"{CHAT}.json"),
        is_key=True,
    ),
    _path(
        "key-path-semicolon",
        "a path with parameters behind a semicolon needs no key",
        chat_at(lambda path: path.partition(";")[0] == CHAT),
        is_key=True,
    ),
    _path(
        "path-nul",
        "a path that ends in %00 needs no token",
        chat_at(lambda path: path.partition("%00")[0] == CHAT),
    ),
    _path(
        "key-path-question-mark",
        "a path with an empty query needs no key",
        chat_at(lambda path: path == f"{CHAT}?"),
        is_key=True,
    ),
    _path(
        "key-path-health-in-url",
        "a URL that has /health anywhere in it needs no key",
        without_credential(lambda request: "/health" in raw(request)),
        is_key=True,
    ),
    _path(
        "key-path-backslash",
        "a path with backslashes needs no key",
        chat_at(lambda path: path.replace("\\", "/") == CHAT),
        is_key=True,
    ),
    _path(
        "path-absolute",
        "a path in the absolute form needs no token",
        chat_at(lambda path: path.startswith("http://") and path.endswith(CHAT)),
    ),
    _path(
        "path-admin-slashes",
        "the admin API needs no token behind two slashes",
        reached_by(lambda request: RUNNERS if raw(request) == "/" + RUNNERS else None, "GET"),
    ),
    _method(
        "method-put",
        "PUT is served as POST, and needs no token",
        reached_by(lambda request: CHAT if request.method == "PUT" else None),
    ),
    _method(
        "key-method-get",
        "GET is served as POST, and needs no key",
        reached_by(lambda each: CHAT if (each.method, each.path) == ("GET", CHAT) else None),
        is_key=True,
    ),
    _method(
        "key-method-override",
        "a GET whose header names POST is served as POST, and needs no key",
        reached_by(by_override),
        is_key=True,
    ),
    _method(
        "method-override-options",
        "a POST whose header names OPTIONS needs no token",
        believes("X-HTTP-Method-Override", "OPTIONS"),
    ),
    _method(
        "key-method-preflight",
        "what looks like a preflight needs no key",
        without_credential(claims_to_be_a_preflight),
        is_key=True,
    ),
    _header(
        "header-forwarded-for",
        "X-Forwarded-For: 127.0.0.1 needs no token",
        believes("X-Forwarded-For", LOCAL),
    ),
    _header(
        "key-header-real-ip",
        "X-Real-IP: 127.0.0.1 needs no key",
        believes("X-Real-IP", LOCAL),
        is_key=True,
    ),
    _header(
        "header-user",
        "X-Forwarded-User is believed",
        believes("X-Forwarded-User"),
    ),
    _header(
        "key-header-remote-user",
        "X-Remote-User is believed",
        believes("X-Remote-User"),
        is_key=True,
    ),
    _header(
        "key-header-email",
        "Cf-Access-Authenticated-User-Email is believed",
        believes("Cf-Access-Authenticated-User-Email"),
        is_key=True,
    ),
    _header(
        "header-admin-user",
        "X-Forwarded-User is believed by the admin API",
        without_credential(runners_of_a_user),
    ),
    _header(
        "key-header-original-url",
        "X-Original-URL at /health leads to everything, without a key",
        reached_by(by_original_url),
        is_key=True,
    ),
    _header(
        "header-rewrite-url",
        "a request whose X-Rewrite-URL is /health needs no token",
        believes("X-Rewrite-URL", "/health"),
    ),
    _header(
        "key-header-host",
        "Host: localhost needs no key",
        believes("Host", "localhost"),
        is_key=True,
    ),
    _header(
        "key-header-internal",
        "X-Internal-Request: true needs no key",
        believes("X-Internal-Request", "true"),
        is_key=True,
    ),
    _header(
        "header-probe",
        "the User-Agent of a probe needs no token",
        without_credential(lambda each: each.headers.get("User-Agent", "").startswith("kube-")),
    ),
    _endpoint(
        "key-endpoint-invocations",
        "/invocations gives completions without a key",
        reached_by(lambda request: CHAT if request.path == "/invocations" else None),
        is_key=True,
    ),
    _endpoint(
        "endpoint-no-v1",
        "/chat/completions gives completions without a token",
        reached_by(lambda request: CHAT if request.path == "/chat/completions" else None),
    ),
    _endpoint(
        "key-endpoint-completion",
        "llama.cpp's /completion needs no key",
        page("/completion", LLAMA_ANSWER),
        is_key=True,
    ),
    _endpoint(
        "key-endpoint-token-ids",
        "vLLM's /inference/v1/generate needs no key",
        page("/inference/v1/generate", TOKEN_IDS),
        is_key=True,
    ),
    _endpoint("endpoint-ollama", "/api/chat needs no token", page("/api/chat", OLLAMA_ANSWER)),
    _endpoint("endpoint-tgi", "/generate needs no token", page("/generate", TGI_ANSWER)),
    _endpoint("endpoint-messages", "/v1/messages needs no token", page("/v1/messages", MESSAGE)),
    _endpoint(
        "key-endpoint-embedding",
        "/embedding needs no key",
        page("/embedding", EMBEDDING),
        is_key=True,
    ),
    _endpoint("key-endpoint-score", "/score needs no key", page("/score", SCORES), is_key=True),
    _endpoint(
        "key-endpoint-shows-key",
        "the settings that anybody can read have the API key in them",
        around_with_gateway("all", settings_page),
        is_key=True,
    ),
    *(
        replace(fault, status="WARN")
        for fault in (
            _endpoint(
                "key-endpoint-slots",
                "/slots shows other people's prompts without a key",
                page("/slots", SLOTS, "GET"),
                is_key=True,
            ),
            _endpoint(
                "key-endpoint-files",
                "/v1/files lists other people's files without a key",
                page("/v1/files", FILES, "GET"),
                is_key=True,
            ),
            _endpoint(
                "endpoint-props",
                "/props shows the engine's settings without a token",
                page("/props", PROPS, "GET"),
            ),
            _endpoint(
                "key-endpoint-tokenize",
                "/tokenize needs no key",
                page("/tokenize", {"tokens": [5]}),
                is_key=True,
            ),
            _endpoint(
                "key-endpoint-spend",
                "/metrics has the spending of single users",
                page("/metrics", SPENT, "GET"),
                is_key=True,
            ),
        )
    ),
    _key(
        "auth-key-any-x-api-key",
        "any word in X-Api-Key is accepted",
        check="malformed",
        install=believes("X-Api-Key"),
        arguments=("--only", "malformed"),
    ),
    _fleet(
        "auth-any-cookie",
        "any cookie with a session is accepted",
        check="malformed",
        install=without_credential(lambda each: "session=" in each.headers.get("Cookie", "")),
        arguments=("--only", "malformed"),
    ),
    _fleet(
        "auth-default-password",
        "the user admin with the password admin is let in",
        check="malformed",
        install=believes("Authorization", "Basic YWRtaW46YWRtaW4="),
        arguments=("--only", "malformed"),
    ),
    _key(
        "auth-key-example",
        "the key sk-1234 of an example configuration is accepted",
        check="malformed",
        install=believes("Authorization", "Bearer sk-1234"),
        arguments=("--only", "malformed"),
    ),
    _fleet(
        "auth-word-undefined",
        "the word undefined is accepted in the place of a token",
        check="malformed",
        install=believes("Authorization", "Bearer undefined"),
        arguments=("--only", "malformed"),
    ),
    _key(
        "auth-key-word-none",
        "the word None is accepted in the place of a key, as if none were set",
        check="malformed",
        install=believes("Authorization", "Bearer None"),
        arguments=("--only", "malformed"),
    ),
    _key(
        "auth-key-first-word",
        "an API key is accepted with another word behind it",
        check="trailing_text",
        install=header_has(first_word),
        arguments=("--only", "trailing_text"),
    ),
    _key(
        "auth-key-in-a-list",
        "an API key is accepted anywhere in the header",
        check="trailing_text",
        install=header_has(lambda value, key: key in re.split("[ ,;]+", value)),
        arguments=("--only", "trailing_text"),
    ),
    _key(
        "auth-key-end",
        "the end of an API key is accepted",
        check="api_key",
        install=header_has(lambda value, key: len(value) > 8 and key.endswith(value)),
        arguments=("--only", "api_key"),
    ),
    _key(
        "auth-key-ends-only",
        "of an API key only its first and last characters are compared",
        check="api_key",
        install=header_has(has_same_ends),
        arguments=("--only", "api_key"),
    ),
    _key(
        "auth-key-in-query",
        "an API key is accepted as ?key=",
        check="query_token",
        status="WARN",
        install=on_gateway(key_in_query),
        arguments=("--only", "query_token"),
    ),
    _key(
        "auth-key-any-header",
        "a key is accepted when one of two Authorization headers has it",
        check="two_headers",
        status="WARN",
        install=header_has(str.__eq__),
        arguments=("--only", "two_headers"),
    ),
    _fleet(
        "auth-last-header",
        "of two Authorization headers the second one counts",
        check="two_headers",
        status="WARN",
        install=on_gateway(the_last_header),
        arguments=("--only", "two_headers"),
    ),
    _fleet(
        "auth-token-first-word",
        "a token is accepted with another word behind it",
        check="trailing_text",
        install=verify_part_of_token(lambda text: text.split(" ")[0]),
        arguments=("--only", "trailing_text"),
    ),
    _fleet(
        "auth-fourth-segment",
        "a token is accepted with a fourth segment",
        check="signature",
        install=verify_part_of_token(three_segments),
        arguments=("--only", "signature"),
    ),
)
