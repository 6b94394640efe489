"""What test_model_routing.py must notice."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..fleet_routing import Place
from ..hooks import Hooks
from ..tokens import ADMIN, SPECIFIC, User
from .fleet import decide, is_class, names_model, on_fleet, plain, refuses, resolves
from .parts import Fault, Install, as_event, instead, no_content, nothing, on_events, payload

SCRIPT = "test_model_routing.py"
FAST, BIG = "class:fast", "class:big"
SMALL_MODEL, BIG_MODEL = "smollm2:135m", "smollm2:135m-big"
ONE_MODEL = {"models": "desk=small:1b;tower=small:1b"}
PERMISSIONS = ("--test-permissions",)


# --- what is done


def serves_unknown(matches: Callable[[object], bool]) -> Install:
    """What nobody has is answered as class:fast, silently."""

    def setup(fleet: Any) -> None:
        sound = fleet.resolve

        def resolve(user: User, model: object) -> str:
            unknown = matches(model) and not fleet.router.knows(str(model))
            wanted: str = sound(user, FAST if unknown else model)
            return wanted

        fleet.resolve = resolve

    return on_fleet(setup)


def mixes_classes(hooks: Hooks) -> None:
    """Every third request for class:big is answered by class:fast."""
    count = itertools.count(1)
    mixed = resolves(lambda it: FAST if it == BIG and next(count) % 3 == 0 else it)
    mixed(hooks)


def ignores_stream(fleet: Any) -> None:
    sound = fleet._backend

    async def backend(request: Any, fields: dict[str, Any], place: Place) -> Any:
        return await sound(request, {**fields, "stream": False}, place)

    fleet._backend = backend


def lists_only(model: str) -> Install:
    return on_fleet(lambda fleet: setattr(fleet.registry, "models", lambda: [model]))


async def named_twice(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk of a stream names the class, the others the model."""
    first = True
    async for event in stream:
        fields = payload(event)
        yield as_event({**fields, "model": FAST}) if first and fields else event
        first = first and not fields


async def named_otherwise(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Streams are served by another model than whole answers."""
    async for event in stream:
        fields = payload(event)
        yield as_event({**fields, "model": SMALL_MODEL}) if fields else event


async def turns_other(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk names the model that was asked for, all others the small one."""
    first = True
    async for event in stream:
        fields = payload(event)
        yield as_event({**fields, "model": SMALL_MODEL}) if fields and not first else event
        first = first and not fields


# --- the faults

_fault = functools.partial(Fault, script=SCRIPT, profile="fleet")
_class = functools.partial(_fault, check="class")
_model = functools.partial(_fault, check="model", arguments=("--model", BIG_MODEL))
_roles = functools.partial(_fault, arguments=PERMISSIONS)
EMPTY_LIST = {"text": '{"object": "list", "data": []}', "content_type": "application/json"}

ROWS: tuple[Fault, ...] = (
    _class("routing-no-big", "no runner has a big model", install=nothing, options=ONE_MODEL),
    _class(
        "routing-class-denied",
        "who has no role may not ask for a class",
        install=refuses(403, "Forbidden", lambda user, model: is_class(model) and not user.roles),
    ),
    _class(
        "routing-class-as-model",
        "answers name the class, not the model",
        install=names_model(lambda place: place.wanted),
    ),
    _class(
        "routing-unlisted-answer",
        "answers name a model that is not listed",
        install=names_model(lambda place: f"{place.model}.gguf"),
    ),
    _class(
        "routing-nameless",
        "answers name no model",
        install=names_model(lambda place: ""),
    ),
    _class(
        "routing-empty-streams",
        "streams have no content",
        install=on_events(no_content),
    ),
    _fault(
        "routing-one-for-all",
        "class:big is answered by the small model",
        check="classes_differ",
        install=resolves(lambda wanted: FAST if wanted == BIG else wanted),
    ),
    _fault(
        "routing-classes-mixed",
        "some requests for class:big are answered by the small model",
        check="classes_differ",
        install=mixes_classes,
        status="WARN",
    ),
    _model(
        "routing-silently-other",
        "asked for by its name, the big model is replaced by the small one",
        install=resolves(lambda wanted: SMALL_MODEL if wanted == BIG_MODEL else wanted),
    ),
    _model(
        "routing-streams-other",
        "streams are answered by the small model",
        install=on_events(named_otherwise),
    ),
    _model(
        "routing-streams-turn",
        "streams go on with another model than they begin with",
        install=on_events(turns_other),
    ),
    _model(
        "routing-name-denied",
        "model:specific may not ask for models by their names",
        install=decide("may_ask_specific", lambda user: False),
    ),
    _fault(
        "routing-list-broken",
        "/v1/models is a 500",
        check="listing",
        install=plain("models", 500),
    ),
    _fault(
        "routing-list-empty",
        "/v1/models lists nothing, as it does when an error keeps it from it",
        check="listing",
        install=instead("models", **EMPTY_LIST),
    ),
    _fault(
        "routing-list-short",
        "a model that answers is not listed",
        check="listing",
        install=lists_only(SMALL_MODEL),
        status="WARN",
        arguments=("--model", BIG_MODEL),
    ),
    _fault(
        "routing-stream-ignored",
        "stream: true is ignored",
        check="stream",
        install=on_fleet(ignores_stream),
        status="WARN",
    ),
    _fault(
        "routing-stream-renamed",
        "the first chunk of a stream names the class",
        check="stream",
        install=on_events(named_twice),
        status="WARN",
        arguments=("--model", SMALL_MODEL, "--alias", f"{SMALL_MODEL}={FAST}"),
    ),
    _fault(
        "routing-unknown-model",
        "an unknown model is answered by another one",
        check="unknown_model",
        install=serves_unknown(lambda model: not is_class(model)),
    ),
    _fault(
        "routing-unknown-class",
        "an unknown class is answered",
        check="unknown_class",
        install=serves_unknown(is_class),
    ),
    _fault(
        "routing-any-name",
        "one model, and it answers to any name",
        check="unknown_model",
        install=serves_unknown(lambda model: not is_class(model)),
        status="WARN",
        options=ONE_MODEL,
        arguments=("--model", "small:1b"),
    ),
    _roles(
        "routing-names-for-all",
        "any user may ask for models by their names",
        check="role_none",
        install=decide("may_ask_specific", lambda user: True),
    ),
    _roles(
        "routing-admin-for-all",
        "the admin API is open to any user",
        check="role_none",
        install=decide("may_administer", lambda user: True),
    ),
    _roles(
        "routing-hidden-models",
        "models that one may not ask for are not found",
        check="role_none",
        install=refuses(
            404,
            "model not found",
            lambda user, model: not is_class(model) and SPECIFIC not in user.roles,
        ),
        status="WARN",
    ),
    _roles(
        "routing-role-powerless",
        "model:specific may not ask for models by their names",
        check="role_specific",
        install=decide("may_ask_specific", lambda user: ADMIN in user.roles),
    ),
    _roles(
        "routing-role-unknown",
        "tokens with a role are refused as if they were forged",
        check="role_specific",
        install=refuses(401, "Unauthorized", lambda user, model: SPECIFIC in user.roles),
    ),
    _roles(
        "routing-admin-for-specific",
        "the admin API is open to model:specific",
        check="role_specific",
        install=decide("may_administer", lambda user: bool(user.roles & {ADMIN, SPECIFIC})),
    ),
    _roles(
        "routing-listed-in-vain",
        "a model is listed and cannot be asked for",
        check="role_specific",
        install=refuses(500, "model failed to load", lambda user, model: model == BIG_MODEL),
        status="WARN",
    ),
    _roles(
        "routing-admin-no-class",
        "admin may not ask for a class",
        check="role_admin",
        install=refuses(403, "Forbidden", lambda user, model: ADMIN in user.roles),
    ),
    _roles(
        "routing-admin-no-api",
        "admin may not use the admin API",
        check="role_admin",
        install=decide("may_administer", lambda user: False),
    ),
    _roles(
        "routing-admin-not-all",
        "admin may not ask for models by their names: the real one is like that",
        check="full_access",
        install=nothing,
        status="WARN",
    ),
)
