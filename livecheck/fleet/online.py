"""Who of the fleet is online: by the admin API where it can be read, and by /v1/models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet import old_api as api
from livecheck.fleet.old_api import Runner, Unreadable
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import is_rate_limit, outcome

NO_ADMIN_API = (401, 403, 404, 405, 501)
LATEST = ":latest"  # Ollama's word for a name without a tag


@dataclass(frozen=True)
class State:
    """Who was online at one time, by the admin API (`runners`) and by /v1/models (`models`); None
    for a source that was not asked. `error`: what could not be read; `costly`: at what price;
    `limited`: by the key's rate limit, its Retry-After."""

    at_s: float
    runners: tuple[Runner, ...] | None = None
    models: tuple[str, ...] | None = None
    error: str | None = None
    costly: bool = False  # a hang or a flood
    limited: str | None = None

    @property
    def is_useless(self) -> bool:
        """Reading it again at once would be of no use."""
        return self.costly or self.limited is not None

    def says_as(self, other: State) -> bool:
        return (self.runners, self.models, self.error) == (
            other.runners,
            other.models,
            other.error,
        )

    @property
    def offered(self) -> set[str]:
        """Every model that either source names."""
        runners = self.runners or ()
        return set(self.models or ()).union(*(runner.models for runner in runners))

    @property
    def online(self) -> list[Runner]:
        return [runner for runner in self.runners or () if runner.is_online]

    def serving(self, model: str) -> list[str]:
        """Who could answer a request for this model now: runners, or models if only these show.
        For a class that is everyone: which models are in it is not to be seen."""
        if self.runners is not None:
            return [runner.name for runner in self.online if may_serve(runner, model)]
        concrete = api.is_concrete(model)
        return [name for name in self.models or () if not concrete or is_same(name, model)]

    def asleep(self, model: str) -> bool:
        return self.error is None and not self.serving(model)

    @property
    def contradiction(self) -> str | None:
        """What the two sources do not agree in."""
        if self.runners is None or self.models is None:
            return None
        if any(runner.models for runner in self.online) and not self.models:
            return f"{names(self.online)} online by {api.RUNNERS}, but {chat.MODELS} is empty"
        if self.models and not self.online:
            listed = listing(self.models)
            return f"no runner is online by {api.RUNNERS}, but {chat.MODELS} lists {listed}"
        return None


def may_serve(runner: Runner, model: str) -> bool:
    """Whether a runner offers this; one that does not say what it offers may."""
    if not api.is_concrete(model) or not runner.models:
        return True
    return runner.offers([model, model.removesuffix(LATEST), model + LATEST])


def is_same(name: str, other: str) -> bool:
    """Whether these are two names for one model."""
    return name.removesuffix(LATEST) == other.removesuffix(LATEST)


def names(runners: Sequence[Runner]) -> str:
    return listing([runner.name for runner in runners])


def listing(words: Sequence[str], most: int = 3) -> str:
    """A few words with commas, in a line of bounded length."""
    shown = ", ".join(shorten(word, 40) for word in words[:most])
    return f"{shown} and {len(words) - most} more" if len(words) > most else shown


def came_online(before: State, later: State, model: str) -> list[str]:
    """Who of those that could serve the model is online now and was not before."""
    if before.runners is not None and later.runners is not None:
        known = {runner.id for runner in before.online}
        came = [runner for runner in later.online if runner.id not in known]
        return [runner.name for runner in came if may_serve(runner, model)]
    if before.models is not None and later.runners is None:
        listed = set(before.models)
        return [name for name in later.serving(model) if name not in listed]
    return []


class Observer:
    """Reads who is online: the admin API where it can be read, and /v1/models.

    `reason`: why the admin API cannot be read, None while it can.
    """

    def __init__(
        self,
        run: Run,
        instrument: wire.Wire,
        now_s: Callable[[], float],
        token: str | None,
        admin: api.Admin,
    ):
        self.run, self.reason = run, admin.reason
        self._instrument, self._now_s = instrument, now_s
        self._token, self._admin_token = token, admin.token
        self._said: str | None = None
        self._read_last: dict[str, tuple[bytes, tuple[Any, ...]]] = {}

    def look(self) -> State:
        """Both sources."""
        return self._read(always_models=True)

    def glance(self) -> State:
        """The better one alone."""
        return self._read(always_models=False)

    def _read(self, always_models: bool) -> State:
        reply = None
        try:
            runners = models = None
            if self.reason is None:
                reply = self._get(api.RUNNERS, self._admin_token)
                self.reason = no_admin_api(reply)
                runners = None if self.reason else self._parse(reply, api.read_runners)
            if always_models or runners is None:
                reply = self._get(chat.MODELS, self._token)
                models = self._parse(reply, api.listed_models)
        except Unreadable as error:
            return self._failed(str(error), reply)
        return State(self._now_s(), runners, models)

    def _failed(self, error: str, reply: wire.Reply | None) -> State:
        failure = reply.failure if reply else None
        costly = failure is not None and failure.kind in ("timeout", "flood")
        limited = retry_after(reply) if reply and is_rate_limit(reply) else None
        return State(self._now_s(), error=error, costly=costly, limited=limited)

    def _parse(self, reply: wire.Reply, read: Callable[[wire.Reply], list[Any]]) -> tuple[Any, ...]:
        """The list in an answer; one that says what the last one said is not read again."""
        path = reply.request.path
        body, parsed = self._read_last.get(path, (b"", ()))
        if not body or body != reply.body or reply.status != 200 or reply.failure is not None:
            parsed = tuple(read(reply))
            self._read_last[path] = (reply.body, parsed)
        return parsed

    def _get(self, path: str, token: str | None) -> wire.Reply:
        (reply,) = self._instrument.exchange([api.under(token, wire.Request("GET", path))])
        said = f"{path}: {outcome(reply, timed=False)} {reply.body[:300]!r}"
        if said != self._said:  # what is read twice a second is shown when it changes
            self._said = said
            chat.show(self.run, reply)
        return reply


def retry_after(reply: wire.Reply) -> str:
    """When to come back, in the server's words."""
    return shorten(reply.message.header("retry-after") or "none", 40)


def no_admin_api(reply: wire.Reply) -> str | None:
    """Why there is no admin API to be read here: it says so, sends one to a login, or a web page
    stands in its place. A proxy's page about an error is none of these, but a failed read."""
    if reply.failure is not None or reply.status is None:
        return None
    kind = (reply.message.header("content-type") or "").lower()
    is_page = reply.status == 200 and kind.startswith("text/html")
    if reply.status in NO_ADMIN_API or 300 <= reply.status < 400 or is_page:
        return f"{api.RUNNERS} answered {outcome(reply, timed=False)}"
    return None
