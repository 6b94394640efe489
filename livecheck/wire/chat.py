"""Requests for chat completions, and the first contact with a deployment."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.address import API
from livecheck.core.credentials import CannotCheck, NoAccess
from livecheck.core.run import Run
from livecheck.core.settings import FLEET
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer, get_ready
from livecheck.wire.api_base import find_base
from livecheck.wire.asking import (
    Cause,
    Stop,
    fetch,
    note_failures,
    rate_limit_words,
    show,
    take_note,
    unreachable,
)
from livecheck.wire.other_scheme import wrong_scheme
from livecheck.wire.proxy_doubt import confirm_passage, doubt_of_proxy
from livecheck.wire.redirect import moved
from livecheck.wire.request import EVENT_STREAM, stream_bytes
from livecheck.wire.wire import Request, Wire

ACCEPT_STREAM, ACCEPT_JSON = {"accept": EVENT_STREAM}, {"accept": "application/json"}
Messages = Sequence[Mapping[str, Any]]

# The target knows where the API is; requests name its paths as OpenAI does.
COMPLETIONS = f"{API}/chat/completions"
MODELS = f"{API}/models"
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
    headers = ACCEPT_STREAM if stream else ACCEPT_JSON
    body = json.dumps(content | more).encode()
    return Request("POST", COMPLETIONS, body, headers, stream_bytes=stream_bytes(max_tokens))


def get(path: str) -> Request:
    return Request("GET", path)


def with_credential(request: Request, token: str | None) -> Request:
    """The same request with this credential instead of the wire's own; None: without any."""
    header = f"Bearer {token}" if token else None
    headers = {**request.headers, "authorization": header}
    return dataclasses.replace(request, headers=headers, secret=token)


def unique(prompt: str) -> str:
    """The prompt behind a short line that no cache has seen."""
    return f"[{os.urandom(4).hex()}]\n{prompt}"


def first_contact(run: Run, wire: Wire, requests: Sequence[Request]) -> list[Answer]:
    """Send these requests once, all together, so that a silent server costs one timeout.

    The base URL of the API is found here, when the list of models is asked for and is not where it
    usually is: all wires to the deployment use it from then on, and the results name it.

    CannotCheck when no server can be reached, when it speaks TLS to an http:// URL, when it may be
    a proxy that answered, when a rate limit is reached already, when the address is redirected,
    when there is no API at the URL, or when this program is not let in. The results name the server
    as the first answer that has a Server header.
    """
    answers = [Answer(reply) for reply in wire.exchange(requests, len(requests))]
    get_ready()
    for answer in answers:
        take_note(run, answer, alone=len(requests) == 1)
        show(run, answer)
    note_failures(run, answers)
    if text := wrong_scheme(wire.target, answers):
        raise NoAccess(text)
    if all(answer.is_unreachable for answer in answers):
        raise NoAccess(unreachable(run.url, answers[0]))
    if text := doubt_of_proxy(wire.target, answers):
        raise CannotCheck(text)
    confirm_passage(answers)
    run.target["server"] = next(filter(None, (each.header("server") for each in answers)), None)
    if limited := next((each for each in answers if each.is_rate_limited), None):
        raise CannotCheck(rate_limit_words(limited))
    if len(requests) > 1 and (stop := confirm_limit(run, wire, answers)):
        raise CannotCheck(str(stop))
    if text := moved(wire.target, answers, MODELS) or not_let_in(run, answers):
        raise NoAccess(text)
    answers = [locate(run, wire, each) if each.path == MODELS else each for each in answers]
    return settle_root(run, wire, answers)


def not_let_in(run: Run, answers: Sequence[Answer]) -> str | None:
    """The line when none of these answers is the deployment's own: each refuses this program, or
    says that there is no such path."""
    if all(each.path == MODELS for each in answers):
        return None  # `locate` decides
    lines = [no_access(run, each) for each in answers if each.status not in (404, 405)]
    return lines[0] if lines and None not in lines else None


def locate(run: Run, wire: Wire, listing: Answer) -> Answer:
    """The list of models, from where the API is. CannotCheck: see first_contact.

    A key may have no right to list models, and be good for completions all the same: a 403 does not
    end the run of a gateway's check that was told which model to ask for.
    """
    listing = find_base(run, wire, listing, COMPLETIONS)
    run.target["api_base"] = wire.target.api_base
    is_needed = run.args.deployment is FLEET or getattr(run.args, "model", None) is None
    if (listing.status != 403 or is_needed) and (text := no_access(run, listing)):
        raise NoAccess(text)
    return listing


def confirm_limit(
    run: Run, wire: Wire, answers: Sequence[Answer], token: str | None = None
) -> Stop | None:
    """Whether a limit refused some of these requests, which were in flight together; None if not.

    A server that refuses requests at once is asked for its models, with nothing else in flight: a
    rate limit refuses that as well. `token`: instead of the wire's own. One request, and none at
    all unless an answer looks like that of a proxy's limit.
    """
    suspects = [answer for answer in answers if answer.looks_like_limit]
    if not suspects or any(answer.is_rate_limited for answer in answers):
        return None
    request = get(MODELS) if token is None else with_credential(get(MODELS), token)
    alone = fetch(run, wire, request)
    if not alone.is_rate_limited:
        return None
    for answer in suspects:
        answer.may_be_limit = True
    return Stop(Cause.RATE_LIMIT, rate_limit_words(alone))


def settle_root(run: Run, wire: Wire, answers: list[Answer]) -> list[Answer]:
    """The same answers, those of the deployment's own endpoints from where these are.

    A prefix with another version is the API's, and the deployment's own endpoints may be at the
    host itself. The fleet's scripts need them later, so that they look for /health here.
    """
    address = wire.target.address
    if address is None or address.other_root is None:
        return answers
    own = [each for each in answers if not each.path.startswith(f"{API}/")]
    if not own and run.args.deployment is FLEET:
        own = [fetch(run, wire, get("/health"))]
    if any(each.status != 404 for each in own):
        return answers
    first, address.root = address.root, address.other_root
    again = {id(each): fetch(run, wire, each.request) for each in own}
    if all(each.status == 404 for each in again.values()):
        address.root = first
        return answers
    run.target["url"] = run.url
    return [again.get(id(each), each) for each in answers]
