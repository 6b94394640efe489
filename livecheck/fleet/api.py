"""What the fleet says of itself: its models, its runners and its request log.

What a server sends is read into plain records. What cannot be read raises Unreadable, so that a
failed read is never taken for an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import as_line, number, pick, pick_list
from livecheck.core.late_pattern import late_pattern
from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet.roles import Identities, admin_token, is_concrete
from livecheck.wire import access, chat
from livecheck.wire.answer import Answer, text_or_none
from livecheck.wire.asking import fetch
from livecheck.wire.wire import Wire

CLASSES = ("class:fast", "class:big")
RUNNERS = "/admin/runners"
LOG_PAGE = 50  # requests on a page of the log
LOG = "/admin/api/requests?page={page}&per_page={per_page}"
ADMIN_PATHS = (RUNNERS, LOG.format(page=1, per_page=1))  # what shows whether a role may read it
# RFC 3339. Python 3.10 itself reads neither Z nor nine decimals, as Rust writes them.
TIME = late_pattern(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
TIME_LENGTH = 60  # characters of a time, with the spaces around it
NAME_LENGTH = 60  # characters that are shown of a name of the server's
# What a server lists is kept and compared, so both its number and its texts are bounded. A list
# with the usual fields of 10,000 entries would have more than 1 MB, which is a flood already.
MOST_ENTRIES = 10_000  # of any list
TEXT_LENGTH = 300  # characters of an id, a model's name or any other text
MOST_MODELS = 1000  # of one runner
MOST_NAMES = 100  # of a list, in a result file
STATUS_LENGTH = 40  # characters of what the log calls the status of a request


class Unreadable(Exception):
    """The server's answer does not say what was asked; the text says what came instead."""


def first_contact(run: Run, wire: Wire, token: str | None) -> Answer:
    """/v1/models with this token. CannotCheck when no server can be reached, or it refuses the
    credential."""
    return chat.first_contact(run, wire, [chat.with_credential(chat.get(chat.MODELS), token)])[0]


def no_access(run: Run, answer: Answer, model: str) -> str | None:
    """The line when this program is not let in; None when it is, and when a permission is refused
    for a model by its name: that is about the role."""
    return None if is_about_role(answer, model) else access.no_access(run, answer)


def is_about_role(answer: Answer, model: str) -> bool:
    """Whether a refusal is about who may ask for a model by its name."""
    return is_concrete(model) and answer.is_denied and not answer.is_page


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
    expect_few(data, chat.MODELS, "models")
    names = [short_text(pick(each, "id")) for each in data]
    if None in names:
        raise Unreadable(f"{chat.MODELS} lists a model without an id: {answer.words}")
    return [name for name in names if name]


def expect_few(entries: Collection[object], where: str, what: str) -> None:
    """Unreadable for a list that is longer than any true one."""
    if len(entries) > MOST_ENTRIES:
        many = f"{len(entries):,} {what}, and at most {MOST_ENTRIES:,} are read"
        raise Unreadable(f"{where} lists {many}")


def short_text(value: object) -> str | None:
    """A text of bounded length that is not empty; None for anything else."""
    text = text_or_none(value)
    return text[:TEXT_LENGTH] if text else None


def short_id(value: object) -> str:
    """An id as text of bounded length, whatever its type is."""
    return value[:TEXT_LENGTH] if isinstance(value, str) else as_line(value, TEXT_LENGTH)


def first_names(names: Sequence[str]) -> list[str]:
    """The first of these names for a result file, and how many more there are."""
    first = [shorten(name, 100) for name in names[:MOST_NAMES]]
    more = len(names) - MOST_NAMES
    return [*first, f"and {more} more"] if more > 0 else first


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
    models = (
        one.get("id") or one.get("name") if isinstance(one, dict) else one
        for one in found[:MOST_MODELS]
    )
    return Runner(
        id=short_id(entry["id"]),
        name=shorten(short_id(entry.get("name") or entry["id"]), NAME_LENGTH),
        machine_type=short_text(entry.get("machine_type")),
        is_online=entry.get("is_online") is True,
        models=frozenset(name for name in map(short_text, models) if name),
        mac=short_text(entry.get("mac_address")),
    )


def read_log(answer: Answer) -> list[LogEntry]:
    """A page of the request log, in the server's order. Raises Unreadable."""
    return [_log_entry(entry) for entry in _entries(answer, "/admin/api/requests", "requests")]


def _log_entry(entry: Mapping[str, Any]) -> LogEntry:
    runner, status = entry.get("runner_id"), entry.get("status")
    return LogEntry(
        id=short_id(entry["id"]),
        model=short_text(entry.get("model")),
        status=None if status is None else short_id(status)[:STATUS_LENGTH],
        latency_ms=number(entry.get("latency_ms")),
        runner_id=None if runner is None else short_id(runner),
        wol_sent=entry.get("wol_sent") is True,
        at_s=read_time(entry.get("timestamp")),
    )


def read_time(value: object) -> float | None:
    """Seconds since 1970 of a time in ISO 8601, in UTC where it names no zone; else None."""
    is_short = isinstance(value, str) and len(value) <= TIME_LENGTH
    match = TIME.fullmatch(value.strip()) if is_short and isinstance(value, str) else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        whole_s = datetime.fromisoformat(f"{day}T{clock}{offset}").timestamp()
    except (ValueError, OverflowError):  # such as the year 0, or 23:59 hours before the year 1
        return None
    return whole_s + float(f"0{fraction or ''}")


def _entries(answer: Answer, where: str, key: str) -> list[dict[str, Any]]:
    entries = content_of(answer, where).get(key)
    if not isinstance(entries, list):
        raise Unreadable(f"{where} has no list of {key}: {answer.words}")
    expect_few(entries, where, key)
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
        is_over = answer.status in (401, 403, 404) or answer.is_rate_limited
        if is_over or answer.failure is not None:
            self.reason = f"{answer.path} answered {answer.outcome()}"
        return answer
