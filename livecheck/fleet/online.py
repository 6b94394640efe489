"""Who of the fleet is online: by the admin API where it can be read, and by /v1/models."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from livecheck.core.run import Run
from livecheck.core.text import listed, shorten
from livecheck.fleet import api
from livecheck.fleet.api import Runner, Unreadable
from livecheck.fleet.magic_packet import parse_mac
from livecheck.fleet.roles import is_concrete
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.asking import (
    Cause,
    Stop,
    open_wire,
    reason_to_stop,
    show,
    take_note,
)
from livecheck.wire.wire import Wire

NO_ADMIN_API = (401, 403, 404, 405, 501)
LATEST = ":latest"  # Ollama adds this tag to a name that has none
POLL_S = 0.5  # between two reads of who is online, while a request waits
OFTEN_S = 10.0  # this long; then every SLOW_POLL_S, to spare a limit of 100 requests a minute
SLOW_POLL_S = 2.0
JOIN_S = 0.1  # a read that hangs is not waited for longer than this
MAX_CHANGES = 100  # that are kept: a list that differs each time must not fill the memory


@dataclass(frozen=True)
class State:
    """Who was online at the time `at_ns`, on the clock of `time.perf_counter_ns`.

    runners: by the admin API; models: by /v1/models; None when the source was not read.
    error: what could not be read. stop: why it makes no sense to read it again at once.
    """

    at_ns: int
    runners: tuple[Runner, ...] | None = None
    models: tuple[str, ...] | None = None
    error: str | None = None
    stop: Stop | None = None

    @property
    def rate_limit(self) -> str | None:
        """What to say of the key's rate limit, when that answered."""
        return str(self.stop) if self.stop and self.stop.cause is Cause.RATE_LIMIT else None

    # Lists may be long, and these are asked again and again while a request waits.

    @cached_property
    def online(self) -> list[Runner]:
        return [runner for runner in self.runners or () if runner.is_online]

    @cached_property
    def known_models(self) -> set[str]:
        """Every model that either source names."""
        return set(self.models or ()).union(*(runner.models for runner in self.runners or ()))

    def online_for(self, model: str) -> list[str]:
        """The names of the runners that could answer a request for this model now; of the models,
        if there is no list of runners. Which models belong to a class is not known: for a class,
        everything that is online counts."""
        if self.runners is not None:
            return [runner.name for runner in self.online if may_serve(runner, model)]
        concrete = is_concrete(model)
        return [name for name in self.served_models if not concrete or is_same(name, model)]

    @cached_property
    def served_models(self) -> list[str]:
        """Those of /v1/models that a runner serves: some fleets list their classes too, whoever is
        online."""
        return list(filter(is_concrete, self.models or ()))

    def is_asleep(self, model: str) -> bool:
        return self.error is None and not self.online_for(model)

    @cached_property
    def _listed_names(self) -> frozenset[str]:
        return frozenset(name.removesuffix(LATEST) for name in self.models or ())

    def lists(self, model: str) -> bool:
        """Whether /v1/models lists it."""
        return model.removesuffix(LATEST) in self._listed_names

    def has_runner_for(self, model: str) -> bool:
        """Whether a runner that offers it is online; also true when the runners are not known."""
        return self.runners is None or any(may_serve(runner, model) for runner in self.online)

    @property
    def contradiction(self) -> str | None:
        if self.runners is None or self.models is None:
            return None
        if any(runner.models for runner in self.online) and not self.models:
            return f"{api.RUNNERS} shows {names(self.online)} online, but {chat.MODELS} is empty"
        if self.served_models and not self.online:
            models = listed(self.served_models)
            return f"{api.RUNNERS} shows no runner online, but {chat.MODELS} lists {models}"
        return None

    def words(self, model: str) -> str:
        others = bool(self.online or self.served_models) and not self.online_for(model)
        if self.runners is None:
            but = f", but not {shorten(model, 40)}" if others else ""
            return f"{chat.MODELS} lists {listed(self.served_models) or 'no model'}{but}"
        who = f": {names(self.online)}" if self.online else ""
        but = f"; none of them offers {shorten(model, 40)}" if self.online and others else ""
        count = f"{len(self.online)} of {len(self.runners)} runners online"
        return f"{api.RUNNERS} shows {count}{who}{but}"

    def record(self, start_ns: int) -> dict[str, Any]:
        """The state as it is saved; its time counts from `start_ns`."""
        online = [runner.name for runner in self.online]
        return {
            "kind": "state",
            "at_s": round((self.at_ns - start_ns) / 1e9, 4),
            "online": None if self.runners is None else api.first_names(online),
            "models": None if self.models is None else api.first_names(self.models),
            "error": self.error,
        }


def names(runners: Iterable[Runner]) -> str:
    return listed([runner.name for runner in runners])


def macs(runners: Iterable[Runner]) -> set[str]:
    """The MAC addresses of those runners that have one."""
    found = set()
    for runner in runners:
        with contextlib.suppress(ValueError):
            found.add(parse_mac(runner.mac or ""))
    return found


def may_serve(runner: Runner, model: str) -> bool:
    """Whether a runner offers this model; a runner that names no models may offer any."""
    if not is_concrete(model) or not runner.models:
        return True
    return runner.offers([model, model.removesuffix(LATEST), model + LATEST])


def ids_of_others(runners: Iterable[Runner], models: Collection[str]) -> set[str]:
    """The ids of the runners that offer none of these models."""
    if not models or not all(map(is_concrete, models)):
        return set()
    spelled = [name.removesuffix(LATEST) for name in models]
    wanted = {*models, *spelled, *(name + LATEST for name in spelled)}
    return {each.id for each in runners if each.models and not each.offers(wanted)}


def is_same(name: str, other: str) -> bool:
    """Whether these are two names of one model."""
    return name.removesuffix(LATEST) == other.removesuffix(LATEST)


# --- what changed


class Newcomers(NamedTuple):
    """Who came online, and when that was first seen."""

    at_ns: int
    names: list[str]


def came_online(before: State, later: State, model: str) -> list[str]:
    """Who could serve the model, is online now, and was not before."""
    if before.runners is not None and later.runners is not None:
        known = {runner.id for runner in before.online}
        came = [runner for runner in later.online if runner.id not in known]
        return [runner.name for runner in came if may_serve(runner, model)]
    if before.models is not None and later.runners is None:
        known = set(before.models)
        return [name for name in later.online_for(model) if name not in known]
    return []


class Changes:
    """How who is online changed since `before`, and who came online that could serve `model`.

    It keeps records of the changes, not the states: their lists may be long.
    """

    def __init__(self, before: State, model: str, start_ns: int):
        self.records: list[dict[str, Any]] = []
        self.newcomers: Newcomers | None = None
        self._before, self._model, self._start_ns = before, model, start_ns
        self._latest: State | None = None

    def add(self, state: State) -> None:
        """Add a state, if it differs from the last one."""
        if self._latest and dataclasses.replace(self._latest, at_ns=state.at_ns) == state:
            return
        self._latest = state
        if len(self.records) < MAX_CHANGES:
            self.records.append(state.record(self._start_ns))
        self.look_for_newcomers(state)

    def look_for_newcomers(self, state: State) -> None:
        if self.newcomers is None:
            came = came_online(self._before, state, self._model)
            self.newcomers = Newcomers(state.at_ns, came) if came else None


# --- read it


class Observer:
    """Reads who is online: from the admin API where it can be read, and from /v1/models.

    `no_admin`: why the admin API cannot be read; None while it can.
    """

    def __init__(self, run: Run, wire: Wire, token: str | None, admin: api.Admin):
        self.run, self.no_admin = run, admin.reason
        self._wire, self._token, self._admin = wire, token, admin
        self._shown = ""
        self._last: dict[str, tuple[bytes, tuple[Any, ...]]] = {}  # body and list, by path

    @contextlib.contextmanager
    def watching(self, see: Callable[[State], None]) -> Iterator[None]:
        """Until the block is left, read in a thread who is online; `see` gets each state."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over, see), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(JOIN_S)

    def _watch(self, over: threading.Event, see: Callable[[State], None]) -> None:
        slower_s = time.monotonic() + OFTEN_S
        with open_wire(self.run, timeout_s=self._wire.timeout_s) as wire:
            observer = Observer(self.run, wire, self._token, self._admin)
            observer.no_admin = self.no_admin
            while not over.wait(POLL_S if time.monotonic() < slower_s else SLOW_POLL_S):
                state = observer.read(always_models=False)
                if over.is_set():
                    return
                see(state)
                if state.stop:
                    return

    def read(self, always_models: bool = True) -> State:
        """From both sources; else from /v1/models only where there is no admin API."""
        answer = None
        try:
            runners = models = None
            if self.no_admin is None:
                answer = self._get(api.RUNNERS, self._admin.token)
                self.no_admin = no_admin_api(answer)
                runners = None if self.no_admin else self._list(answer, api.read_runners)
            if always_models or runners is None:
                answer = self._get(chat.MODELS, self._token)
                models = self._list(answer, api.listed_models)
        except Unreadable as error:
            stop = reason_to_stop(answer) if answer else None
            return State(time.perf_counter_ns(), error=str(error), stop=stop)
        return State(time.perf_counter_ns(), runners, models)

    def _list(self, answer: Answer, read: Callable[[Answer], list[Any]]) -> tuple[Any, ...]:
        """The list in an answer. A body that is the same as the last one is not parsed again."""
        body, found = self._last.get(answer.path, (b"", ()))
        if not body or body != answer.body or not answer.is_ok:
            found = tuple(read(answer))
            self._last[answer.path] = (answer.body, found)
        return found

    def _get(self, path: str, token: str | None) -> Answer:
        request = chat.with_credential(chat.get(path), token)
        answer = Answer(self._wire.exchange([request])[0])
        take_note(self.run, answer, alone=True)
        said = f"{path}: {answer.outcome()} {answer.body[:300]!r}"
        if said != self._shown:  # what is read twice a second is shown only when it changes
            self._shown = said
            show(self.run, answer)
        return answer


def no_admin_api(answer: Answer) -> str | None:
    """Why there is no admin API here: the status says so, it redirects to a login, or a web page
    is in its place. A proxy's page about an error is none of these: that read has failed."""
    if answer.failure is not None or answer.status is None:
        return None
    is_html = answer.content_type.startswith("text/html") or answer.is_web_page
    is_page = answer.status == 200 and is_html
    if answer.status in NO_ADMIN_API or 300 <= answer.status < 400 or is_page:
        return f"{api.RUNNERS} answered {answer.outcome()}"
    return None
