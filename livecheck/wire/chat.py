"""Requests for chat completions, and the first contact with a deployment."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import pick
from livecheck.core.run import Run
from livecheck.wire.answer import Answer
from livecheck.wire.asking import refused_credential, show, unreachable
from livecheck.wire.wire import Request, Wire

Messages = Sequence[Mapping[str, Any]]

COMPLETIONS = "/v1/chat/completions"
MODELS = "/v1/models"
UNKNOWN_MODEL = "local-model"  # what to ask for when the deployment lists no model
# headers of what stands in front of a gateway and may answer in its place
EDGE_HEADERS = ("via", "cf-ray", "x-amz-cf-id", "x-served-by", "x-vercel-id", "fly-request-id")


def completion(
    model: str, prompt: str | Messages, max_tokens: int, stream: bool = True, **more: Any
) -> Request:
    """A request for a chat completion, streamed or not; `more` goes into its JSON as it is.

    `prompt`: what the user says, or all messages.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    content = {"model": model, "messages": messages, "max_tokens": max_tokens, "stream": stream}
    accept = "text/event-stream" if stream else "application/json"
    return Request("POST", COMPLETIONS, json.dumps(content | more).encode(), {"accept": accept})


def get(path: str) -> Request:
    return Request("GET", path)


def with_credential(request: Request, token: str | None) -> Request:
    """The same request with this credential instead of the wire's own; None: without any."""
    header = f"Bearer {token}" if token else None
    headers = {**request.headers, "authorization": header}
    return dataclasses.replace(request, headers=headers, secret=token)


def unique(prompt: str) -> str:
    """The prompt behind a short line that no cache has seen."""
    return f"[{secrets.token_hex(4)}]\n{prompt}"


def first_contact(run: Run, wire: Wire, requests: Sequence[Request]) -> list[Answer]:
    """Send these requests once, all together, so that a silent server costs one timeout.

    CannotCheck when no server can be reached, or /v1/models refuses the credential. The results
    name the server as the first answer that has a Server header.
    """
    answers = [Answer(reply) for reply in wire.exchange(requests, len(requests))]
    for answer in answers:
        show(run, answer)
    if all(answer.is_unreachable for answer in answers):
        raise CannotCheck(unreachable(run.url, answers[0]))
    run.target["server"] = next(filter(None, (each.header("server") for each in answers)), None)
    if any(answer.path == MODELS and answer.status == 401 for answer in answers):
        raise CannotCheck(refused_credential(run))
    return answers


def first_model(answer: Answer | None) -> str | None:
    """The first id that /v1/models lists."""
    name = pick(answer.json, "data", 0, "id") if answer else None
    return name if isinstance(name, str) else None


def model_to_ask(run: Run, listing: Answer | None) -> str:
    """--model, else the first model that /v1/models lists, else a name of our own."""
    return run.args.model or first_model(listing) or UNKNOWN_MODEL
