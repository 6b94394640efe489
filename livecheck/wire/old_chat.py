"""How the scripts first meet a deployment, and how they ask it for a chat completion."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.wire import wire
from livecheck.wire.records import outcome

COMPLETIONS = "/v1/chat/completions"
MODELS = "/v1/models"
UNKNOWN_MODEL = "local-model"  # when the deployment lists none
# headers of what stands in front of a gateway and answers in its place
EDGES = ("via", "cf-ray", "x-amz-cf-id", "x-served-by", "x-vercel-id", "fly-request-id")


def completion(
    model: str, prompt: str, max_tokens: int, stream: bool = True, **more: Any
) -> wire.Request:
    """A request for a chat completion, streamed or not; `more` goes into its JSON as it is."""
    content = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": stream,
        **more,
    }
    accept = "text/event-stream" if stream else "application/json"
    return wire.Request("POST", COMPLETIONS, json.dumps(content).encode(), {"accept": accept})


def wants_stream(request: wire.Request) -> bool:
    """Whether a stream was asked for by this request that `completion` made."""
    return request.headers.get("accept") == "text/event-stream"


def unique(prompt: str) -> str:
    """The prompt behind a short line that no cache has seen."""
    return f"[{secrets.token_hex(4)}]\n{prompt}"


def meet(run: Run, instrument: wire.Wire, paths: Sequence[str]) -> dict[str, wire.Reply]:
    """The first contact: GET each path once, all together, so a server that hangs costs one
    timeout. The answers by path; CannotCheck when there is no deployment to be reached, or it
    refuses the credential."""
    requests = [wire.Request("GET", path) for path in paths]
    replies = instrument.exchange(requests, len(requests))
    for reply in replies:
        show(run, reply)
    if all(is_unreachable(reply) for reply in replies):
        raise CannotCheck(unreachable(run.url, replies[0].failure))
    run.target["server"] = next(filter(None, (r.message.header("server") for r in replies)), None)
    if any(reply.request.path == MODELS and reply.status == 401 for reply in replies):
        raise CannotCheck(refused_credential(run))
    return {reply.request.path: reply for reply in replies}


def first_model(reply: wire.Reply | None) -> str | None:
    """The first id that /v1/models lists."""
    try:
        name = json.loads(reply.body if reply else b"")["data"][0]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def is_unreachable(reply: wire.Reply) -> bool:
    """No connection, or one that was closed without a single byte: nobody speaks HTTP there."""
    failure = reply.failure
    if failure is None:
        return False
    return failure.kind in ("connect", "tls") or (failure.kind == "truncated" and not reply.reads)


def unreachable(url: str, failure: wire.Failure | None) -> str:
    text = failure.text if failure else "no answer"
    hint = "is the server up? try --url"
    if failure and failure.kind == "truncated":
        hint = "does it speak HTTP there, or is it https?"
    if failure and failure.kind == "tls":
        hint = "is it plain http? try an http:// URL"
        if "certificate" in failure.text:
            hint = "--no-verify-ssl accepts any certificate"
    return f"cannot reach {url} ({text}): {hint}"


def show(run: Run, reply: wire.Reply) -> None:
    """A line for --verbose, the beginning of the answer for --debug."""
    run.verbose(f"{reply.request.method} {reply.request.path}: {outcome(reply)}")
    run.debug(f"  {reply.body[:300]!r}")


def refused_credential(run: Run) -> str:
    """The line for a 401: what it concerns, and what to do."""
    deployment = run.args.deployment
    kind, article = ("JWT", "a") if deployment.binary_variable else ("API key", "an")
    given = f"the {kind} was refused" if run.credentials.given else f"{article} {kind} is needed"
    option = "--token" if deployment.binary_variable else "--api-key"
    return f"{given} (401 from {run.url}): use {option} or set {deployment.token_variable}"
