"""Runners, roles and the admin API: what the four checks of the fleet share.

A request carries its own token here (`under`), since one run speaks in several roles. What a server
sends is read into plain records; what cannot be read raises Unreadable, so that a failed read is
never taken for an empty list.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet.jwt import read_jwt
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import classify, is_ok, number, outcome, read_stream, words

CLASSES = ("class:fast", "class:big")
SPECIFIC = "model:specific"  # the role that may ask for a model by its name
ADMIN = "admin"
RUNNERS = "/admin/runners"
LOG_PAGE = 50  # requests on a page of the log
LOG = "/admin/api/requests?page={page}&per_page={per_page}"
OUTPUT = ("content", "reasoning_content", "reasoning", "tool_calls")  # of a message
# RFC 3339; Python 3.10 itself reads neither Z nor nine decimals, as Rust writes them
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
NAME_LENGTH = 60  # what of a server's name for something is shown


class Unreadable(Exception):
    """The server's answer does not say what was asked; the text says what came instead."""


# --- models and roles


def is_concrete(model: str) -> bool:
    """Whether this is the name of one model, not of a class of them."""
    return not model.startswith("class:")


def roles_in(token: str) -> frozenset[str] | None:
    """The roles in a JWT's own payload (read, not verified); None for a token that says nothing of
    them: an opaque key, a JWT without such a claim. It is a list or words in a text, and may be
    in `realm_access`, where Keycloak has it."""
    payload = claims(token) or {}
    realm = payload.get("realm_access")
    roles = payload.get("roles", realm.get("roles") if isinstance(realm, dict) else None)
    if roles is None:
        return None
    return frozenset(map(str, roles.split() if isinstance(roles, str) else as_list(roles)))


def claims(token: str) -> dict[str, Any] | None:
    """The payload of a JWT (RFC 7519, section 3), unverified; None when it is no JWT."""
    jwt = read_jwt(token)
    return jwt.payload if jwt else None


def token_for(run: Run, model: str) -> str | None:
    """The credential to ask for this model with: a concrete one takes a role of its own."""
    return run.token(role=role_for(run, model))


def role_for(run: Run, model: str) -> str | None:
    """The role to ask the token binary for, where there is one."""
    return SPECIFIC if is_concrete(model) and run.credentials.has_binary else None


def under(token: str | None, request: wire.Request) -> wire.Request:
    """The same request with this credential, whatever the target's own is."""
    header = f"Bearer {token}" if token else None
    headers = {**request.headers, "authorization": header}
    return dataclasses.replace(request, headers=headers, secret=token)


def meet(run: Run, instrument: wire.Wire, token: str | None) -> wire.Reply:
    """The first contact: /v1/models, under this token. CannotCheck when there is no deployment to
    be reached, or it refuses the credential."""
    (reply,) = instrument.exchange([under(token, wire.Request("GET", chat.MODELS))])
    chat.show(run, reply)
    if chat.is_unreachable(reply):
        raise CannotCheck(chat.unreachable(run.url, reply.failure))
    run.target["server"] = reply.message.header("server")
    if reply.status == 401:
        raise CannotCheck(chat.refused_credential(run))
    return reply


# --- answers


@dataclass(frozen=True)
class Answer:
    """A chat completion, streamed or not. `problem`: why it is none, in one line."""

    model: str | None = None
    has_output: bool = False  # content, reasoning or a tool call
    problem: str | None = None
    fingerprint: str | None = None  # system_fingerprint
    hidden: bool = False  # the output was counted, and not shown: reasoning


def read_answer(reply: wire.Reply) -> Answer:
    """What a request for a completion was answered with."""
    if not is_ok(reply):
        return Answer(problem=outcome(reply, timed=False))
    answer = _read_stream(reply) if is_stream(reply) else _read_json(reply)
    if answer.problem is None and not answer.has_output:
        return dataclasses.replace(answer, problem="200, but without content")
    return answer


def is_stream(reply: wire.Reply) -> bool:
    """Whether to read it as a stream: one was asked for, and no JSON came in its place (some
    servers ignore `stream`)."""
    kind = (reply.message.header("content-type") or "").lower()
    return chat.wants_stream(reply.request) and "json" not in kind


def _read_stream(reply: wire.Reply) -> Answer:
    stream = read_stream(reply)
    error = classify(reply, stream)
    hidden = not stream.output_ns and _is_hidden(stream.finish_reason, stream.usage)
    if hidden and error and error[0] == "empty":
        error = None
    problem = error[1] if error else None
    has_output = bool(stream.output_ns) or hidden
    return Answer(stream.model, has_output, problem, stream.fingerprint, hidden)


def _read_json(reply: wire.Reply) -> Answer:
    try:
        content = json.loads(reply.body)
        choice = content["choices"][0]
        pieces = [choice["message"].get(name) for name in OUTPUT]
        hidden = not any(pieces) and _is_hidden(choice.get("finish_reason"), content.get("usage"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Answer(problem=f"200, but no chat completion: {words(reply) or 'nothing'}")
    model, fingerprint = _text(content.get("model")), _text(content.get("system_fingerprint"))
    return Answer(model, any(pieces) or hidden, None, fingerprint, hidden)


def _is_hidden(finish_reason: object, usage: object) -> bool:
    """Whether all tokens that were allowed went into reasoning that the server keeps to itself."""
    counts = usage if isinstance(usage, dict) else {}
    return finish_reason == "length" and bool(number(counts.get("completion_tokens")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def is_denied(reply: wire.Reply) -> bool:
    """Permission refused: a 403, or the fleet's own 400 that says so."""
    if reply.failure is not None:
        return False
    spoken = reply.status == 400 and b"permission" in reply.body[:2000].lower()
    return reply.status == 403 or spoken


def listed_models(reply: wire.Reply) -> list[str]:
    """The ids of /v1/models, in its order; [] when it says that there are none."""
    data = content_of(reply, "/v1/models").get("data")
    if not isinstance(data, list):
        raise Unreadable(f"/v1/models has no list of models: {words(reply)}")
    names = [_text(entry.get("id")) if isinstance(entry, dict) else None for entry in data]
    if None in names:
        raise Unreadable(f"/v1/models lists a model without an id: {words(reply)}")
    return [name for name in names if name]


def content_of(reply: wire.Reply, where: str) -> dict[str, Any]:
    """The JSON object in an answer; Unreadable says what is there in its place."""
    if not is_ok(reply):
        raise Unreadable(f"{where} answered {outcome(reply, timed=False)}")
    try:
        content = json.loads(reply.body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Unreadable(f"{where} answered no JSON object: {words(reply)}")
    return content


# --- the admin API


@dataclass(frozen=True)
class Runner:
    """A machine of the fleet as the admin API tells of it."""

    id: str
    name: str
    machine_type: str | None
    is_online: bool
    models: frozenset[str]  # loaded or available
    mac: str | None

    def offers(self, models: Collection[str]) -> bool:
        return not self.models.isdisjoint(models)


@dataclass(frozen=True)
class Entry:
    """One request in the gateway's own log."""

    id: str
    model: str | None
    status: str | None
    latency_ms: float | None
    runner_id: str | None
    wol_sent: bool
    at_s: float | None = None  # its timestamp, in seconds since 1970 by the server's clock


def read_runners(reply: wire.Reply) -> list[Runner]:
    """All runners the gateway knows, asleep or not. Raises Unreadable."""
    entries = _entries(reply, "/admin/runners", "runners")
    return [_runner(entry) for entry in entries]


def _runner(entry: Mapping[str, Any]) -> Runner:
    names = [*as_list(entry.get("loaded_models")), *as_list(entry.get("available_models"))]
    models = (
        name.get("id") or name.get("name") if isinstance(name, dict) else name for name in names
    )
    return Runner(
        id=str(entry["id"]),
        name=shorten(str(entry.get("name") or entry["id"]), NAME_LENGTH),
        machine_type=_text(entry.get("machine_type")),
        is_online=entry.get("is_online") is True,
        models=frozenset(model for model in models if isinstance(model, str)),
        mac=_text(entry.get("mac_address")),
    )


def read_log(reply: wire.Reply) -> list[Entry]:
    """A page of the request log, in the server's order. Raises Unreadable."""
    return [_entry(entry) for entry in _entries(reply, "/admin/api/requests", "requests")]


def _entry(entry: Mapping[str, Any]) -> Entry:
    runner, status = entry.get("runner_id"), entry.get("status")
    return Entry(
        id=str(entry["id"]),
        model=_text(entry.get("model")),
        status=None if status is None else str(status),
        latency_ms=number(entry.get("latency_ms")),
        runner_id=None if runner is None else str(runner),
        wol_sent=entry.get("wol_sent") is True,
        at_s=read_time(entry.get("timestamp")),
    )


def read_time(value: object) -> float | None:
    """Seconds since 1970 of a time in ISO 8601, in UTC where no zone is given; else None."""
    match = TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{offset}")
    except ValueError:
        return None
    return whole.timestamp() + float(f"0{fraction or ''}")


def _entries(reply: wire.Reply, where: str, key: str) -> list[dict[str, Any]]:
    entries = content_of(reply, where).get(key)
    if not isinstance(entries, list):
        raise Unreadable(f"{where} has no list of {key}: {words(reply)}")
    if any(not isinstance(each, dict) or each.get("id") is None for each in entries):
        raise Unreadable(f"{where} has an entry without an id: {words(reply)}")
    return entries


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def admin_token(run: Run) -> str:
    """A token that may read the admin API; CannotCheck says why there is none."""
    if run.credentials.has_binary:
        token = run.token(role=ADMIN)
        assert token
        return token
    own = run.token()
    if own and ADMIN in (roles_in(own) or ()):
        return own
    raise CannotCheck("no admin token: --token-binary makes one")


class Admin:
    """Reads the admin API. `reason`: why it cannot be read at all, None while it can."""

    def __init__(self, run: Run, instrument: wire.Wire):
        self.run, self.instrument = run, instrument
        self.token: str | None = None
        self.reason: str | None = None
        try:
            self.token = admin_token(run)
        except CannotCheck as error:
            self.reason = str(error)

    def runners(self) -> list[Runner]:
        """Raises Unreadable."""
        return read_runners(self._get(RUNNERS))

    def log(self, page: int = 1, per_page: int = LOG_PAGE) -> list[Entry]:
        """The latest requests. Raises Unreadable."""
        return read_log(self._get(LOG.format(page=page, per_page=per_page)))

    def _get(self, path: str) -> wire.Reply:
        if self.reason is not None:
            raise Unreadable(self.reason)
        (reply,) = self.instrument.exchange([under(self.token, wire.Request("GET", path))])
        chat.show(self.run, reply)
        if reply.status in (401, 403, 404) or reply.failure is not None:
            self.reason = f"{path.partition('?')[0]} answered {outcome(reply, timed=False)}"
        return reply
