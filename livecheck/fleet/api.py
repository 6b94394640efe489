"""What the fleet says of itself: its models, its runners and its request log.

What a server sends is read into plain records. What cannot be read raises Unreadable, so that a
failed read is never taken for an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import pick, pick_list
from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet.roles import Identities, admin_token
from livecheck.wire import chat
from livecheck.wire.answer import Answer, number, text_or_none
from livecheck.wire.asking import fetch
from livecheck.wire.wire import Wire

CLASSES = ("class:fast", "class:big")
RUNNERS = "/admin/runners"
LOG_PAGE = 50  # requests on a page of the log
LOG = "/admin/api/requests?page={page}&per_page={per_page}"
ADMIN_PATHS = (RUNNERS, LOG.format(page=1, per_page=1))  # what shows whether a role may read it
# RFC 3339. Python 3.10 itself reads neither Z nor nine decimals, as Rust writes them.
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
NAME_LENGTH = 60  # characters that are shown of a name of the server's


class Unreadable(Exception):
    """The server's answer does not say what was asked; the text says what came instead."""


def first_contact(run: Run, wire: Wire, token: str | None) -> Answer:
    """/v1/models with this token. CannotCheck when no server can be reached, or it refuses the
    credential."""
    return chat.first_contact(run, wire, [chat.with_credential(chat.get(chat.MODELS), token)])[0]


# --- read


def content_of(answer: Answer, where: str) -> dict[str, Any]:
    """The JSON object in an answer. Unreadable says what is there in its place."""
    if not answer.is_ok:
        raise Unreadable(f"{where} answered {answer.outcome()}")
    if not isinstance(answer.json, dict):
        raise Unreadable(f"{where} answered without a JSON object: {answer.words}")
    return answer.json


def listed_models(answer: Answer) -> list[str]:
    """The ids of /v1/models, in its order; [] when it says that there are none."""
    data = content_of(answer, chat.MODELS).get("data")
    if not isinstance(data, list):
        raise Unreadable(f"{chat.MODELS} has no list of models: {answer.words}")
    names = [text_or_none(pick(each, "id")) for each in data]
    if None in names:
        raise Unreadable(f"{chat.MODELS} lists a model without an id: {answer.words}")
    return [name for name in names if name]


def lists_nothing(answer: Answer) -> bool:
    """Whether /v1/models says that there are no models, so that no runner is online."""
    try:
        return not listed_models(answer)
    except Unreadable:
        return False


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
class LogEntry:
    """One request in the gateway's own log."""

    id: str
    model: str | None
    status: str | None
    latency_ms: float | None
    runner_id: str | None
    wol_sent: bool
    at_s: float | None = None  # its timestamp, in seconds since 1970 by the server's clock


def read_runners(answer: Answer) -> list[Runner]:
    """All runners that the gateway knows, asleep or not. Raises Unreadable."""
    return [_runner(entry) for entry in _entries(answer, RUNNERS, "runners")]


def _runner(entry: Mapping[str, Any]) -> Runner:
    found = [*pick_list(entry, "loaded_models"), *pick_list(entry, "available_models")]
    models = (one.get("id") or one.get("name") if isinstance(one, dict) else one for one in found)
    return Runner(
        id=str(entry["id"]),
        name=shorten(str(entry.get("name") or entry["id"]), NAME_LENGTH),
        machine_type=text_or_none(entry.get("machine_type")),
        is_online=entry.get("is_online") is True,
        models=frozenset(model for model in models if isinstance(model, str)),
        mac=text_or_none(entry.get("mac_address")),
    )


def read_log(answer: Answer) -> list[LogEntry]:
    """A page of the request log, in the server's order. Raises Unreadable."""
    return [_log_entry(entry) for entry in _entries(answer, "/admin/api/requests", "requests")]


def _log_entry(entry: Mapping[str, Any]) -> LogEntry:
    runner, status = entry.get("runner_id"), entry.get("status")
    return LogEntry(
        id=str(entry["id"]),
        model=text_or_none(entry.get("model")),
        status=None if status is None else str(status),
        latency_ms=number(entry.get("latency_ms")),
        runner_id=None if runner is None else str(runner),
        wol_sent=entry.get("wol_sent") is True,
        at_s=read_time(entry.get("timestamp")),
    )


def read_time(value: object) -> float | None:
    """Seconds since 1970 of a time in ISO 8601, in UTC where it names no zone; else None."""
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


def _entries(answer: Answer, where: str, key: str) -> list[dict[str, Any]]:
    entries = content_of(answer, where).get(key)
    if not isinstance(entries, list):
        raise Unreadable(f"{where} has no list of {key}: {answer.words}")
    if any(not isinstance(each, dict) or each.get("id") is None for each in entries):
        raise Unreadable(f"{where} has an entry without an id: {answer.words}")
    return entries


# --- the admin API


class Admin:
    """Reads the admin API. `reason`: why it cannot be read at all; None while it can.

    `identities`: the run's tokens, for a script that asks with them as well.
    """

    def __init__(self, run: Run, wire: Wire, identities: Identities | None = None):
        self.run, self.wire = run, wire
        self.token: str | None = None
        self.reason: str | None = None
        try:
            self.token = admin_token(run, identities)
        except CannotCheck as error:
            self.reason = str(error)

    def runners(self) -> list[Runner]:
        """Raises Unreadable."""
        return read_runners(self._get(RUNNERS))

    def log(self, page: int = 1, per_page: int = LOG_PAGE) -> list[LogEntry]:
        """The latest requests. Raises Unreadable."""
        return read_log(self._get(LOG.format(page=page, per_page=per_page)))

    def _get(self, path: str) -> Answer:
        if self.reason is not None:
            raise Unreadable(self.reason)
        answer = fetch(self.run, self.wire, chat.with_credential(chat.get(path), self.token))
        if answer.status in (401, 403, 404) or answer.failure is not None:
            self.reason = f"{answer.path} answered {answer.outcome()}"
        return answer
