"""The faults that test_model_routing.py must notice."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..fleet_routing import Place
from ..hooks import Hooks
from ..token_verifier import User
from ..tokens import ADMIN, SPECIFIC
from .answers import DETAIL_200, error_200, instead, plain_text
from .conditions import every, only
from .fault import Fault, Install
from .fleet_changes import decide, is_class, lists_models, names_model, refuses, resolves
from .gateway_parts import FleetGateway
from .planting import nothing, on_events, on_gateway
from .streams import as_event, no_content, payload
from .thinking import HIDDEN_THOUGHTS

SCRIPT = "test_model_routing.py"
FAST, BIG = "class:fast", "class:big"
SMALL_MODEL, BIG_MODEL = "smollm2:135m", "smollm2:135m-big"
ONE_MODEL = {"models": "desk=small:1b;tower=small:1b"}
PERMISSIONS = ("--test-permissions",)


# --- changes to the gateway


def serves_unknown(matches: Callable[[object], bool]) -> Install:
    """Unknown models for which `matches` is true are answered by class:fast, without an error."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.resolve

        def resolve(user: User, model: object) -> str:
            unknown = matches(model) and not fleet.router.knows(str(model))
            return original(user, FAST if unknown else model)

        fleet.resolve = resolve

    return on_gateway(setup)


def mix_classes(hooks: Hooks) -> None:
    """Every third request for class:big is answered by class:fast."""
    count = itertools.count(1)

    def change(wanted: str) -> str:
        return FAST if wanted == BIG and next(count) % 3 == 0 else wanted

    resolves(change)(hooks)


def ignore_stream(fleet: FleetGateway) -> None:
    """The engine is always asked for a whole answer."""
    original = fleet.ask_engine

    async def ask_engine(request: Any, fields: dict[str, Any], place: Place) -> Any:
        return await original(request, {**fields, "stream": False}, place)

    fleet.ask_engine = ask_engine


async def class_in_first_chunk(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk of a stream names the class, the others the model."""
    first = True
    async for event in stream:
        fields = payload(event)
        yield as_event({**fields, "model": FAST}) if first and fields else event
        first = first and not fields


async def small_model_in_chunks(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All chunks of a stream name the small model."""
    async for event in stream:
        fields = payload(event)
        yield as_event({**fields, "model": SMALL_MODEL}) if fields else event


async def small_model_after_first_chunk(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk names the right model, all others the small one."""
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
    _class(
        "routing-error-200",
        "one answer in five is a 200 with an error",
        install=only(every(5), error_200("backend")),
    ),
    _class(
        "routing-refused-in-200",
        "one answer in five is a 200 with the JSON of a framework's error, as an event stream",
        install=only(every(5), DETAIL_200),
    ),
    _class("routing-no-big", "no runner has a big model", install=nothing, options=ONE_MODEL),
    _class(
        "routing-class-denied",
        "a user without roles may not ask for a class",
        install=refuses(403, "Forbidden", lambda user, model: is_class(model) and not user.roles),
    ),
    _class(
        "routing-class-as-model",
        "answers name the class instead of the model",
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
        "routing-hidden-thoughts",
        "all tokens of the answers are thoughts that are not shown",
        status="WARN",
        install=HIDDEN_THOUGHTS,
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
        install=mix_classes,
        status="WARN",
    ),
    _model(
        "routing-silently-other",
        "a request for the big model by its name is answered by the small one",
        install=resolves(lambda wanted: SMALL_MODEL if wanted == BIG_MODEL else wanted),
    ),
    _model(
        "routing-streams-other",
        "streams are answered by the small model, whole answers are not",
        install=on_events(small_model_in_chunks),
    ),
    _model(
        "routing-streams-turn",
        "streams end with another model than they begin with",
        install=on_events(small_model_after_first_chunk),
    ),
    _model(
        "routing-name-denied",
        "a user with the role model:specific may not ask for models by their names",
        install=decide("may_ask_specific", lambda user: False),
    ),
    _fault(
        "routing-list-broken",
        "/v1/models is a 500",
        check="listing",
        install=plain_text("models", 500),
    ),
    _fault(
        "routing-list-empty",
        "/v1/models lists nothing, as if an error prevented it",
        check="listing",
        install=instead("models", **EMPTY_LIST),
    ),
    _fault(
        "routing-list-short",
        "a model that answers is not listed",
        check="listing",
        install=lists_models(lambda fleet: [SMALL_MODEL]),
        status="WARN",
        arguments=("--model", BIG_MODEL),
    ),
    _fault(
        "routing-stream-ignored",
        "stream: true is ignored",
        check="stream",
        install=on_gateway(ignore_stream),
        status="WARN",
    ),
    _fault(
        "routing-stream-renamed",
        "the first chunk of a stream names the class",
        check="stream",
        install=on_events(class_in_first_chunk),
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
        "there is only one model, and it answers to any name",
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
        "a model for which the permission is missing is not found",
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
        "a user with the role model:specific may not ask for models by their names",
        check="role_specific",
        install=decide("may_ask_specific", lambda user: ADMIN in user.roles),
    ),
    _roles(
        "routing-role-unknown",
        "tokens with the role model:specific are refused as if they were forged",
        check="role_specific",
        install=refuses(401, "Unauthorized", lambda user, model: SPECIFIC in user.roles),
    ),
    _roles(
        "routing-admin-for-specific",
        "the admin API is open to the role model:specific",
        check="role_specific",
        install=decide("may_administer", lambda user: bool(user.roles & {ADMIN, SPECIFIC})),
    ),
    _roles(
        "routing-listed-in-vain",
        "a model is listed, but a request for it is a 500",
        check="role_specific",
        install=refuses(500, "model failed to load", lambda user, model: model == BIG_MODEL),
        status="WARN",
    ),
    _roles(
        "routing-admin-no-class",
        "an admin may not ask for a class",
        check="role_admin",
        install=refuses(403, "Forbidden", lambda user, model: ADMIN in user.roles),
    ),
    _roles(
        "routing-admin-no-api",
        "an admin may not use the admin API",
        check="role_admin",
        install=decide("may_administer", lambda user: False),
    ),
    _roles(
        "routing-admin-not-all",
        "an admin may not ask for models by their names, as in the real fleet",
        check="full_access",
        install=nothing,
        status="WARN",
    ),
)
