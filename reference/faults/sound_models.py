"""Sound deployments whose list has models that cannot chat, classes, or a model more than once."""

from __future__ import annotations

import json
from typing import Any

from .answers import MAX_TOKENS_REFUSED, NO_ROOM, change_json, instead
from .conditions import Asked, only
from .fault import FLEET, GATEWAY, Install, SoundVariant
from .gateway_parts import FleetGateway
from .planting import all_of, on_gateway


def listed_first(name: str, **hints: Any) -> Install:
    """The list begins with this model, which refuses to chat as Ollama says it."""

    def change(fields: dict[str, Any]) -> None:
        if isinstance(listed := fields.get("data"), list) and listed:
            listed.insert(0, {**listed[0], "id": name, **hints})

    def is_asked(asked: Asked) -> bool:
        return asked.fields.get("model") == name

    error = {"error": {"message": f'"{name}" does not support chat', "type": "api_error"}}
    refusal = instead(
        "backend", status=400, text=json.dumps(error), content_type="application/json"
    )
    return all_of(change_json("models", change), only(is_asked, refusal))


def least_tokens(most: int) -> Install:
    """A model that thinks first: it refuses to answer in fewer tokens, in OpenAI's words."""

    def is_too_few(asked: Asked) -> bool:
        return int(asked.fields.get("max_completion_tokens", most)) < most

    refusal = instead("backend", status=400, text=NO_ROOM, content_type="application/json")
    return all_of(only(is_too_few, refusal), MAX_TOKENS_REFUSED)


def lists_classes(fleet: FleetGateway) -> None:
    models = fleet.registry.models
    fleet.registry.models = lambda: ["class:fast", "class:big", *models()]  # type: ignore[method-assign]


def lists_for_each_runner(fleet: FleetGateway) -> None:
    registry = fleet.registry
    registry.models = lambda: [m for each in registry.online for m in each.models]  # type: ignore[method-assign]


ROWS: tuple[SoundVariant, ...] = (
    SoundVariant(
        "embeddings-first",
        "the first of the listed models is for embeddings, as its name tells",
        GATEWAY,
        listed_first("bge-m3"),
    ),
    SoundVariant(
        "fleet-embeddings-first",
        "the first of the fleet's models is for embeddings, as its entry tells",
        ("test_auth.py", "test_model_routing.py"),
        listed_first("vectors", task="embed"),
    ),
    SoundVariant(
        "classes-listed",
        "/v1/models lists the classes too, also when no runner is online",
        FLEET,
        on_gateway(lists_classes),
    ),
    SoundVariant(
        "each-runners-models",
        "/v1/models lists a model once for each runner that has it",
        FLEET,
        on_gateway(lists_for_each_runner),
    ),
    SoundVariant(
        "least-tokens",
        "the model takes max_completion_tokens only, and cannot answer in a single one",
        ("test_context.py",),
        least_tokens(16),
    ),
    SoundVariant(
        "vectors-first",
        "the first of the listed models is for embeddings, as its entry tells",
        GATEWAY,
        listed_first("vectors", capabilities=["embedding"]),
    ),
)
