"""What test_auth.py must notice."""

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
from ..hooks import Answer, Hooks
from ..tokens import ADMIN, SPECIFIC, User
from .fleet import decide, hs256_with_public_key, is_class, on_fleet, policy, refuses, with_fleet
from .parts import Fault, Install, around, nothing

AUTH = "test_auth.py"
AUTHORIZATION = "Authorization"
CHAT = "/v1/chat/completions"
LOCKED_AFTER = 20
LONG = 5000
ANYBODY = User("anybody")
Sort = Callable[[web.BaseRequest], object]


# --- answers to requests of one sort


def answered(sort: Sort, status: int, text: str = "planted", where: str = "all") -> Install:
    """Requests of this sort get this answer."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        if sort(request):
            return web.Response(status=status, text=text, headers={"Location": "/login"})
        return await answer(request)

    return around(where, wrapper)


def to_chat(sort: Sort) -> Sort:
    return lambda request: request.path == CHAT and sort(request)


def sent(request: web.BaseRequest) -> str:
    value: str = request.headers.get(AUTHORIZATION, "")
    return value


def has_none(request: web.BaseRequest) -> bool:
    return AUTHORIZATION not in request.headers


def header_of(request: web.BaseRequest) -> object:
    """The JOSE header that was sent, read carelessly."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(tokens.decoded(sent(request).partition(" ")[2].partition(".")[0]))
    return {}


def is_no_object(request: web.BaseRequest) -> bool:
    return not isinstance(header_of(request), dict)


def has_odd_kid(request: web.BaseRequest) -> bool:
    header = header_of(request)
    return isinstance(header, dict) and isinstance(header.get("kid"), list)


def locks_out(hooks: Hooks) -> None:
    """After so many refusals everybody is refused."""
    refusals = 0

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal refusals
        if refusals >= LOCKED_AFTER:
            return web.Response(status=401, text="Locked")
        response = await answer(request)
        refusals += response.status == 401
        return response

    hooks.around["all"].append(wrapper)


# --- who may come in


def lets_in(sort: Sort, user: User = ANYBODY) -> Install:
    """Requests of this sort need no token."""

    def setup(fleet: Any) -> None:
        sound = fleet.user
        fleet.user = lambda request: user if sort(request) else sound(request)

    return on_fleet(setup)


def trusts(trusted: Callable[[str, tokens.Verifier], bool]) -> Install:
    """A signature is not looked at when this says that the token can be trusted."""

    def setup(fleet: Any) -> None:
        verifier = fleet.verifier
        sound = verifier._check_signature

        def check(token: str, header: Any) -> None:
            if not trusted(token, verifier):
                sound(token, header)

        verifier._check_signature = check

    return on_fleet(setup)


def unsigned(token: str, verifier: tokens.Verifier) -> bool:
    return token.endswith(".")


def none_in_capitals(token: str, verifier: tokens.Verifier) -> bool:
    algorithm = json.loads(tokens.decoded(token.partition(".")[0])).get("alg")
    return algorithm != "none" and str(algorithm).lower() == "none"


def unsigned_without_kid(token: str, verifier: tokens.Verifier) -> bool:
    """No kid, no key, nothing to verify with."""
    header = json.loads(tokens.decoded(token.partition(".")[0]))
    return "kid" not in header and header.get("alg") == "none"


def believes_administrators(fleet: Any) -> None:
    """The admin API reads a token without verifying it."""
    sound = fleet.user

    def user(request: web.BaseRequest) -> User:
        if not request.path.startswith("/admin/"):
            found: User = sound(request)
            return found
        try:
            claims = json.loads(tokens.decoded(sent(request).split(".")[1]))
            return User(str(claims["sub"]), frozenset(claims["roles"]))
        except (LookupError, TypeError, ValueError):
            return User("nobody")

    fleet.user = user


def remembers_signatures(fleet: Any) -> None:
    """A signature that was good once is good, whatever it is under."""
    verifier = fleet.verifier
    sound, good = verifier._check_signature, set()

    def check(token: str, header: Any) -> None:
        signature = token.rpartition(".")[2]
        if signature not in good:
            sound(token, header)
            good.add(signature)

    verifier._check_signature = check


def key_matches(matches: Callable[[bytes, bytes], bool]) -> Install:
    """The GGUF gateway: another way to compare a key (sent, accepted)."""

    def setup(gateway: Any) -> None:
        sound = gateway._authorize

        def authorize(request: web.BaseRequest) -> None:
            key = sent(request).removeprefix("Bearer ").encode("utf-8", "surrogateescape")
            if not any(matches(key, accepted) for accepted in gateway.keys):
                sound(request)

        gateway._authorize = authorize

    return lambda hooks: hooks.setup.append(setup)


# --- what a role may do


async def fails_for_users(fleet: Any, answer: Answer, request: web.BaseRequest) -> Any:
    """The role is not looked for: it is missed."""
    if not fleet.user(request).roles:
        return web.Response(status=500, text="no such role")
    return await answer(request)


# --- refusals


def printable(request: web.BaseRequest) -> str:
    return sent(request).encode("ascii", "ignore").decode()[:LONG]


async def echoes(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    response = await answer(request)
    if response.status == 401:
        return web.Response(status=401, text=f"Invalid token: {printable(request)}")
    return response


async def echoes_in_head(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    response = await answer(request)
    if response.status == 401:
        error = f'Bearer error_description="{printable(request)}"'
        response.headers["WWW-Authenticate"] = error
    return response


async def echoes_end(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    response = await answer(request)
    if response.status == 401:
        return web.Response(status=401, text=f"Invalid token: ...{printable(request)[-60:]}")
    return response


async def routed_first(
    fleet: Any, answer: Answer, request: web.BaseRequest, status: object = None
) -> Any:
    """The token is looked at once a runner has been found."""
    from ..fleet import Refusal

    try:
        fleet.user(request)
    except Refusal as refusal:
        place = Place("class:fast")
        async with fleet.router.hold(place) as runner:
            told = {"model": place.model, "status": status or refusal.status, "latency_ms": 1}
            log = {"id": f"refused-{len(fleet.log.entries)}", "timestamp": "", **told}
            fleet.log.add({**log, "runner_id": runner.id, "wol_sent": place.wol_sent})
        raise
    return await answer(request)


# --- the faults

_auth = functools.partial(Fault, script=AUTH, profile="fleet")
_roles = functools.partial(_auth, arguments=("--only", "user", "specific", "admin"))
_key = functools.partial(Fault, script=AUTH, check="api_key")  # of the GGUF gateway

ROWS: tuple[Fault, ...] = (
    _auth(
        "auth-class-refused",
        "a user without roles may not use the classes",
        check="control",
        install=refuses(400, "Denied", lambda user, model: is_class(model) and not user.roles),
    ),
    _auth(
        "auth-broken",
        "every valid token is a 500",
        check="control",
        install=refuses(500, "No runners available", lambda user, model: True),
    ),
    _auth(
        "auth-locks-out",
        "after 20 refusals valid tokens are refused, too",
        check="control",
        install=locks_out,
    ),
    _auth(
        "auth-open",
        "no token is needed",
        check="no_credentials",
        install=lets_in(has_none),
    ),
    _auth(
        "auth-open-streams",
        "no token is needed for a stream",
        check="no_credentials",
        install=lets_in(lambda request: has_none(request) and "event" in request.headers["Accept"]),
    ),
    _auth(
        "auth-open-admin",
        "no token is needed for the admin API",
        check="no_credentials",
        install=lets_in(
            lambda request: has_none(request) and request.path.startswith("/admin/"),
            User("anybody", frozenset({ADMIN})),
        ),
    ),
    _auth(
        "auth-none-500",
        "a request without a token is a 500",
        check="no_credentials",
        install=answered(to_chat(has_none), 500),
    ),
    _auth(
        "auth-none-login",
        "a request without a token is redirected to a login page",
        check="no_credentials",
        install=answered(to_chat(has_none), 302),
    ),
    _auth(
        "auth-non-ascii-500",
        "a letter beyond ASCII in the header is a 500",
        check="malformed",
        install=answered(lambda request: not sent(request).isascii(), 500),
    ),
    _auth(
        "auth-long-500",
        "a long header is a 500",
        check="malformed",
        install=answered(lambda request: len(sent(request)) > LONG, 500),
    ),
    _auth(
        "auth-no-object-500",
        "a token whose segments are no objects is a 500",
        check="malformed",
        install=answered(to_chat(is_no_object), 500),
    ),
    _auth(
        "auth-garbage-422",
        "a token of one segment is a 422",
        check="malformed",
        install=answered(lambda request: sent(request) == "Bearer a", 422),
    ),
    _auth(
        "auth-empty-bearer",
        "Bearer without a token lets in",
        check="malformed",
        install=lets_in(lambda request: sent(request) == "Bearer"),
    ),
    _auth(
        "auth-any-scheme",
        "Basic is as good as Bearer",
        check="scheme",
        install=policy(schemes=("bearer", "basic")),
    ),
    _auth(
        "auth-signature-unchecked",
        "the signature is not looked at",
        check="signature",
        install=policy(signature=False),
    ),
    _auth(
        "auth-signature-optional",
        "a token without a signature is not looked at",
        check="signature",
        install=trusts(unsigned),
    ),
    _auth(
        "auth-signature-remembered",
        "a signature that was good once is good for any payload",
        check="payload",
        install=on_fleet(remembers_signatures),
    ),
    _auth(
        "auth-alg-none",
        "alg none is accepted",
        check="alg_none",
        install=policy(unsigned=True),
    ),
    _auth(
        "auth-alg-none-capitals",
        "alg none is accepted unless it is written just so",
        check="alg_none",
        install=trusts(none_in_capitals),
    ),
    _auth(
        "auth-alg-none-no-kid",
        "alg none is accepted where there is no kid",
        check="alg_none",
        install=trusts(unsigned_without_kid),
    ),
    _auth(
        "auth-admin-unverified",
        "the admin API does not verify the token that it reads",
        check="payload",
        install=on_fleet(believes_administrators),
    ),
    _auth(
        "auth-hs256-public-key",
        "HS256 with the public key is accepted",
        check="hmac",
        install=on_fleet(hs256_with_public_key),
    ),
    _auth(
        "auth-hs256-empty-key",
        "HS256 with an empty key is accepted",
        check="hmac",
        install=policy(hs256_secrets=(b"",)),
    ),
    _auth(
        "auth-hs256-guessed-key",
        "HS256 with a key that is easily guessed",
        check="hmac",
        install=policy(hs256_secrets=(b"secret",)),
    ),
    _auth(
        "auth-kid-path",
        "kid is the name of the key's file",
        check="header",
        install=policy(kid_is_path=True),
    ),
    _auth(
        "auth-jwk-trusted",
        "the key in the token's own header is trusted",
        check="header",
        install=policy(embedded_key=True),
    ),
    _auth(
        "auth-kid-list-500",
        "a kid that is a list is a 500",
        check="header",
        install=answered(has_odd_kid, 500),
    ),
    _key(
        "auth-key-prefix",
        "an API key's beginning is enough",
        install=key_matches(lambda key, accepted: len(key) > 8 and accepted.startswith(key)),
    ),
    _key(
        "auth-key-any-case",
        "an API key in any case",
        install=key_matches(lambda key, accepted: hmac.compare_digest(key.lower(), accepted)),
    ),
    _auth(
        "auth-bearer-case",
        "only Bearer with a capital B",
        check="bearer_case",
        status="WARN",
        install=policy(any_case=False, schemes=("Bearer",)),
    ),
    _auth(
        "auth-bearer-case-500",
        "bearer in lower case is a 500",
        check="bearer_case",
        install=answered(lambda request: sent(request).startswith("bearer "), 500),
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
        "for a user without roles there is no runner with class:big",
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
        "a model that is not permitted is a 500",
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
        install=with_fleet("runners", fails_for_users),
    ),
    _roles(
        "auth-specific-no-class",
        "with the role model:specific the classes are refused",
        check="specific:classes",
        install=refuses(400, "No", lambda user, model: is_class(model) and SPECIFIC in user.roles),
    ),
    _roles(
        "auth-specific-refused",
        "the role model:specific gives nothing",
        check="specific:models",
        install=decide("may_ask_specific", lambda user: False),
    ),
    _roles(
        "auth-specific-some-refused",
        "the role model:specific does not give every model",
        check="specific:models",
        install=refuses(403, "Not this one", lambda user, model: model.endswith("-big")),
    ),
    _roles(
        "auth-specific-admin",
        "the role model:specific gives the admin API",
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
        "a model that is not permitted to an admin is a 500",
        check="admin:models",
        install=refuses(500, "No", lambda user, model: not is_class(model) and ADMIN in user.roles),
    ),
    _roles(
        "auth-admin-refused",
        "the admin role gives no admin API",
        check="admin:admin_api",
        install=decide("may_administer", lambda user: False),
    ),
    _auth(
        "auth-echo",
        "a refusal repeats the token",
        check="echo",
        install=around("all", echoes),
    ),
    _auth(
        "auth-echo-head",
        "a refusal repeats the token in its WWW-Authenticate",
        check="echo",
        install=around("all", echoes_in_head),
    ),
    _auth(
        "auth-echo-end",
        "a refusal repeats the end of the token",
        check="echo",
        install=around("all", echoes_end),
    ),
    _auth(
        "auth-routed-first",
        "a request takes a runner's place before its token is looked at",
        check="cost",
        status="WARN",
        install=with_fleet("inference", routed_first),
    ),
    _auth(
        "auth-routed-first-error",
        "the same, and the log calls it an error",
        check="cost",
        status="WARN",
        install=with_fleet("inference", functools.partial(routed_first, status="error")),
    ),
    _auth(
        "auth-wakes",
        "a request without a token wakes a runner",
        check="cost",
        status="WARN",
        install=with_fleet("inference", routed_first),
        options={"asleep": True},
    ),
)
