"""The faults that test_auth.py must notice."""

from __future__ import annotations

import contextlib
import functools
import hmac
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .. import tokens
from ..fleet_routing import Place
from ..hooks import Handler, Hooks
from ..refusals import TextRefusal
from ..token_verifier import User
from ..tokens import ADMIN, SPECIFIC
from .answers import error_200
from .fault import Fault, Install
from .fleet_changes import accept_public_key_as_secret, decide, is_class, policy, refuses
from .gateway_parts import FleetGateway, GgufGateway
from .planting import around, around_with_gateway, nothing, on_gateway

AUTH = "test_auth.py"
AUTHORIZATION = "Authorization"
CHAT = "/v1/chat/completions"
LOCKED_AFTER = 20  # refusals
LONG_HEADER_BYTES = 5000
ANYBODY = User("anybody")
Condition = Callable[[web.BaseRequest], object]


# --- answers to some requests


def answers(applies: Condition, status: int) -> Install:
    """The requests for which `applies` is true get this status."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        if applies(request):
            return web.Response(status=status, text="planted", headers={"Location": "/login"})
        return await handler(request)

    return around("all", wrapper)


def refuses_with_200(hooks: Hooks) -> None:
    """A request that is refused for its credential gets a 200 with an error."""

    async def instead(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        sound: Any = None
        try:
            sound = await handler(request)
        except TextRefusal as refusal:
            sound = refusal.response()
        error = {"message": "invalid token", "type": "invalid_request_error"}
        return web.json_response({"error": error}) if sound.status == 401 else sound

    hooks.around["all"].append(instead)


def on_chat(applies: Condition) -> Condition:
    return lambda request: request.path == CHAT and applies(request)


def authorization(request: web.BaseRequest) -> str:
    value: str = request.headers.get(AUTHORIZATION, "")
    return value


def has_no_credential(request: web.BaseRequest) -> bool:
    return AUTHORIZATION not in request.headers


def token_header(request: web.BaseRequest) -> object:
    """The JOSE header of the token, read without any check; {} if it cannot be read."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(
            tokens.decoded(authorization(request).partition(" ")[2].partition(".")[0])
        )
    return {}


def header_is_not_an_object(request: web.BaseRequest) -> bool:
    return not isinstance(token_header(request), dict)


def kid_is_a_list(request: web.BaseRequest) -> bool:
    header = token_header(request)
    return isinstance(header, dict) and isinstance(header.get("kid"), list)


def lock_everybody_out(hooks: Hooks) -> None:
    """After a number of refusals every request is refused."""
    refusals = 0

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal refusals
        if refusals >= LOCKED_AFTER:
            return web.Response(status=401, text="Locked")
        response = await handler(request)
        refusals += response.status == 401
        return response

    hooks.around["all"].append(wrapper)


# --- who is accepted


def accepts(applies: Condition, user: User = ANYBODY) -> Install:
    """The requests for which `applies` is true need no token."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.user
        fleet.user = lambda request: user if applies(request) else original(request)

    return on_gateway(setup)


def trusts(trusted: Callable[[str], bool]) -> Install:
    """The signature of a token is not checked if `trusted(token)` is true."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.verifier.check_signature

        def check(token: str, header: Any) -> None:
            if not trusted(token):
                original(token, header)

        fleet.verifier.check_signature = check  # type: ignore[method-assign]

    return on_gateway(setup)


def jose_header(token: str) -> Any:
    return json.loads(tokens.decoded(token.partition(".")[0]))


def has_empty_signature(token: str) -> bool:
    return token.endswith(".")


def has_alg_none_in_capitals(token: str) -> bool:
    algorithm = jose_header(token).get("alg")
    return algorithm != "none" and str(algorithm).lower() == "none"


def has_alg_none_and_no_kid(token: str) -> bool:
    """A verifier that looks for a key by `kid` finds none, and then verifies nothing."""
    header = jose_header(token)
    return "kid" not in header and header.get("alg") == "none"


def trust_every_token_on_admin_api(fleet: FleetGateway) -> None:
    """The admin API reads a token without verifying it."""
    original = fleet.user

    def user(request: web.BaseRequest) -> User:
        if not request.path.startswith("/admin/"):
            return original(request)
        try:
            claims = json.loads(tokens.decoded(authorization(request).split(".")[1]))
            return User(str(claims["sub"]), frozenset(claims["roles"]))
        except (LookupError, TypeError, ValueError):
            return User("nobody")

    fleet.user = user


def accept_known_signatures(fleet: FleetGateway) -> None:
    """A signature that was valid once is accepted again, whatever it signs."""
    original, valid = fleet.verifier.check_signature, set()

    def check(token: str, header: Any) -> None:
        signature = token.rpartition(".")[2]
        if signature not in valid:
            original(token, header)
            valid.add(signature)

    fleet.verifier.check_signature = check  # type: ignore[method-assign]


def key_matches(matches: Callable[[bytes, bytes], bool]) -> Install:
    """The GGUF gateway accepts a key if `matches(sent, accepted)` is true."""

    def setup(gateway: GgufGateway) -> None:
        original = gateway.authorize

        def authorize(request: web.BaseRequest) -> None:
            key = authorization(request).removeprefix("Bearer ").encode("utf-8", "surrogateescape")
            if not any(matches(key, accepted) for accepted in gateway.keys):
                original(request)

        gateway.authorize = authorize

    return on_gateway(setup)


# --- what a role may do


async def fail_without_role(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """A missing role is an error of the gateway instead of a refusal."""
    if not fleet.user(request).roles:
        return web.Response(status=500, text="no such role")
    return await handler(request)


# --- refusals


def credential_text(request: web.BaseRequest) -> str:
    """The Authorization header as text that may stand in an answer."""
    return authorization(request).encode("ascii", "ignore").decode()[:LONG_HEADER_BYTES]


async def repeat_credential(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    response = await handler(request)
    if response.status == 401:
        return web.Response(status=401, text=f"Invalid token: {credential_text(request)}")
    return response


async def repeat_credential_in_header(
    handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    response = await handler(request)
    if response.status == 401:
        error = f'Bearer error_description="{credential_text(request)}"'
        response.headers["WWW-Authenticate"] = error
    return response


async def repeat_end_of_credential(
    handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    response = await handler(request)
    if response.status == 401:
        return web.Response(status=401, text=f"Invalid token: ...{credential_text(request)[-60:]}")
    return response


async def route_first(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest, status: object = None
) -> web.StreamResponse:
    """The token is checked only after a runner was found; `status` is what the log says."""
    try:
        fleet.user(request)
    except TextRefusal as refusal:
        place = Place("class:fast")
        async with fleet.router.hold(place) as runner:
            entry = {
                "id": f"refused-{len(fleet.log.entries)}",
                "timestamp": "",
                "model": place.model,
                "status": status or refusal.status,
                "latency_ms": 1,
                "runner_id": runner.id,
                "wol_sent": place.wol_sent,
            }
            fleet.log.add(entry)
        raise
    return await handler(request)


# --- the faults

# auth_doors.py has the faults that these checks must notice; here their requests would take time.
AROUND = ("other_paths", "other_methods", "proxy_headers", "other_endpoints")
_auth = functools.partial(Fault, script=AUTH, profile="fleet", arguments=("--skip", *AROUND))
_roles = functools.partial(_auth, arguments=("--only", "user", "specific", "admin"))
_key = functools.partial(
    Fault, script=AUTH, check="api_key", arguments=("--skip", *AROUND)
)  # of the GGUF gateway

ROWS: tuple[Fault, ...] = (
    _auth(
        "auth-refuses-with-200",
        "a bad token gets a 200 with an error instead of a 401",
        check="signature",
        install=refuses_with_200,
    ),
    _auth(
        "auth-error-200",
        "a request with a valid token gets a 200 with an error",
        check="control",
        install=error_200("backend"),
    ),
    _auth(
        "auth-class-refused",
        "a user without roles may not use the classes",
        check="control",
        install=refuses(400, "Denied", lambda user, model: is_class(model) and not user.roles),
    ),
    _auth(
        "auth-broken",
        "every request with a valid token is a 500",
        check="control",
        install=refuses(500, "No runners available", lambda user, model: True),
    ),
    _auth(
        "auth-locks-out",
        "after 20 refusals valid tokens are refused as well",
        check="control",
        install=lock_everybody_out,
    ),
    _auth(
        "auth-open",
        "no token is needed",
        check="no_credentials",
        install=accepts(has_no_credential),
    ),
    _auth(
        "auth-open-streams",
        "no token is needed for a stream",
        check="no_credentials",
        install=accepts(
            lambda request: has_no_credential(request) and "event" in request.headers["Accept"]
        ),
    ),
    _auth(
        "auth-open-admin",
        "no token is needed for the admin API",
        check="no_credentials",
        install=accepts(
            lambda request: has_no_credential(request) and request.path.startswith("/admin/"),
            User("anybody", frozenset({ADMIN})),
        ),
    ),
    _auth(
        "auth-none-500",
        "a request without a token is a 500",
        check="no_credentials",
        install=answers(on_chat(has_no_credential), 500),
    ),
    _auth(
        "auth-none-login",
        "a request without a token is redirected to a login page",
        check="no_credentials",
        install=answers(on_chat(has_no_credential), 302),
    ),
    _auth(
        "auth-non-ascii-500",
        "a letter outside of ASCII in the header is a 500",
        check="malformed",
        install=answers(lambda request: not authorization(request).isascii(), 500),
    ),
    _auth(
        "auth-long-500",
        "a long Authorization header is a 500",
        check="malformed",
        install=answers(lambda request: len(authorization(request)) > LONG_HEADER_BYTES, 500),
    ),
    _auth(
        "auth-no-object-500",
        "a token whose header is not a JSON object is a 500",
        check="malformed",
        install=answers(on_chat(header_is_not_an_object), 500),
    ),
    _auth(
        "auth-garbage-422",
        "a token of one segment is a 422",
        check="malformed",
        install=answers(lambda request: authorization(request) == "Bearer a", 422),
    ),
    _auth(
        "auth-empty-bearer",
        "Bearer without a token is accepted",
        check="malformed",
        install=accepts(lambda request: authorization(request) == "Bearer"),
    ),
    _auth(
        "auth-any-scheme",
        "the scheme Basic is accepted like Bearer",
        check="scheme",
        install=policy(schemes=("bearer", "basic")),
    ),
    _auth(
        "auth-signature-unchecked",
        "signatures are not checked",
        check="signature",
        install=policy(signature=False),
    ),
    _auth(
        "auth-signature-optional",
        "a token with an empty signature is accepted",
        check="signature",
        install=trusts(has_empty_signature),
    ),
    _auth(
        "auth-signature-remembered",
        "a signature that was valid once is accepted for any payload",
        check="payload",
        install=on_gateway(accept_known_signatures),
    ),
    _auth(
        "auth-alg-none",
        "alg none is accepted",
        check="alg_none",
        install=policy(unsigned=True),
    ),
    _auth(
        "auth-alg-none-capitals",
        "alg none is accepted when it is written in capitals",
        check="alg_none",
        install=trusts(has_alg_none_in_capitals),
    ),
    _auth(
        "auth-alg-none-no-kid",
        "alg none is accepted when there is no kid",
        check="alg_none",
        install=trusts(has_alg_none_and_no_kid),
    ),
    _auth(
        "auth-admin-unverified",
        "the admin API reads tokens without verifying them",
        check="payload",
        install=on_gateway(trust_every_token_on_admin_api),
    ),
    _auth(
        "auth-hs256-public-key",
        "a token signed by HS256 with the public key is accepted",
        check="hmac",
        install=on_gateway(accept_public_key_as_secret),
    ),
    _auth(
        "auth-hs256-empty-key",
        "a token signed by HS256 with an empty key is accepted",
        check="hmac",
        install=policy(hs256_secrets=(b"",)),
    ),
    _auth(
        "auth-hs256-guessed-key",
        "a token signed by HS256 with an easily guessed key is accepted",
        check="hmac",
        install=policy(hs256_secrets=(b"secret",)),
    ),
    _auth(
        "auth-kid-path",
        "kid is used as the name of the file that has the key",
        check="header",
        install=policy(kid_is_path=True),
    ),
    _auth(
        "auth-jwk-trusted",
        "a key in the token's own header is trusted",
        check="header",
        install=policy(embedded_key=True),
    ),
    _auth(
        "auth-kid-list-500",
        "a kid that is a list is a 500",
        check="header",
        install=answers(kid_is_a_list, 500),
    ),
    _key(
        "auth-key-prefix",
        "the beginning of an API key is accepted",
        install=key_matches(lambda key, accepted: len(key) > 8 and accepted.startswith(key)),
    ),
    _key(
        "auth-key-any-case",
        "an API key is accepted in upper case as well",
        install=key_matches(lambda key, accepted: hmac.compare_digest(key.lower(), accepted)),
    ),
    _auth(
        "auth-bearer-case",
        "Bearer is accepted only with a capital B",
        check="bearer_case",
        status="WARN",
        install=policy(any_case=False, schemes=("Bearer",)),
    ),
    _auth(
        "auth-bearer-case-500",
        "bearer in lower case is a 500",
        check="bearer_case",
        install=answers(lambda request: authorization(request).startswith("bearer "), 500),
    ),
    _auth(
        "auth-bare-token",
        "a token without a scheme is accepted",
        check="bare_token",
        status="WARN",
        install=policy(bare_key=True),
    ),
    _auth(
        "auth-query-token",
        "a token in the URL is accepted",
        check="query_token",
        status="WARN",
        install=policy(query_token=True),
    ),
    _roles(
        "auth-user-no-big",
        "a user without roles may not use class:big",
        check="user:classes",
        install=refuses(403, "No", lambda user, model: model == "class:big" and not user.roles),
    ),
    _roles(
        "auth-user-no-runner",
        "a user without roles is told that no runner has class:big",
        check="user:classes",
        install=refuses(
            500,
            "No runners have models of class 'big'",
            lambda user, model: model == "class:big" and not user.roles,
        ),
    ),
    _roles(
        "auth-user-any-model",
        "every user may use any model by its name",
        check="user:models",
        install=decide("may_ask_specific", lambda user: True),
    ),
    _roles(
        "auth-user-model-500",
        "a user without roles gets a 500 for a model by its name",
        check="user:models",
        install=refuses(500, "Error", lambda user, model: not is_class(model) and not user.roles),
    ),
    _roles(
        "auth-user-admin",
        "every user may use the admin API",
        check="user:admin_api",
        install=decide("may_administer", lambda user: True),
    ),
    _roles(
        "auth-user-admin-500",
        "the admin API answers a user without roles with a 500",
        check="user:admin_api",
        install=around_with_gateway("runners", fail_without_role),
    ),
    _roles(
        "auth-specific-no-class",
        "a user with the role model:specific may not use the classes",
        check="specific:classes",
        install=refuses(400, "No", lambda user, model: is_class(model) and SPECIFIC in user.roles),
    ),
    _roles(
        "auth-specific-refused",
        "the role model:specific gives no right to use models by name",
        check="specific:models",
        install=decide("may_ask_specific", lambda user: False),
    ),
    _roles(
        "auth-specific-some-refused",
        "the role model:specific does not include every model",
        check="specific:models",
        install=refuses(403, "Not this one", lambda user, model: model.endswith("-big")),
    ),
    _roles(
        "auth-specific-admin",
        "a user with the role model:specific may use the admin API",
        check="specific:admin_api",
        install=decide("may_administer", lambda user: bool(user.roles)),
    ),
    _roles(
        "auth-admin-no-class",
        "an admin may not use the classes",
        check="admin:classes",
        install=refuses(403, "No", lambda user, model: is_class(model) and ADMIN in user.roles),
    ),
    _roles(
        "auth-admin-no-models",
        "an admin may not use a model by its name",
        check="admin:models",
        status="WARN",
        install=nothing,
    ),
    _roles(
        "auth-admin-model-500",
        "an admin gets a 500 for a model by its name",
        check="admin:models",
        install=refuses(500, "No", lambda user, model: not is_class(model) and ADMIN in user.roles),
    ),
    _roles(
        "auth-admin-refused",
        "an admin may not use the admin API",
        check="admin:admin_api",
        install=decide("may_administer", lambda user: False),
    ),
    _auth(
        "auth-echo",
        "a refusal repeats the token",
        check="echo",
        install=around("all", repeat_credential),
    ),
    _auth(
        "auth-echo-head",
        "a refusal repeats the token in its WWW-Authenticate header",
        check="echo",
        install=around("all", repeat_credential_in_header),
    ),
    _auth(
        "auth-echo-end",
        "a refusal repeats the end of the token",
        check="echo",
        install=around("all", repeat_end_of_credential),
    ),
    _auth(
        "auth-routed-first",
        "a request takes a place at a runner before its token is checked",
        check="cost",
        status="WARN",
        install=around_with_gateway("inference", route_first),
    ),
    _auth(
        "auth-routed-first-error",
        "a request takes a place at a runner before its token is checked; the log notes an error",
        check="cost",
        status="WARN",
        install=around_with_gateway("inference", functools.partial(route_first, status="error")),
    ),
    _auth(
        "auth-wakes",
        "a request without a token wakes a runner",
        check="cost",
        status="WARN",
        install=around_with_gateway("inference", route_first),
        options={"asleep": True},
    ),
)
