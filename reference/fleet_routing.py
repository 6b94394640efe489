"""Which runner serves a request: the least busy one, then the preferred machine type, then latency.

The real gateway prefers a machine type for each class and weighs it against queue depth and
latency; how it does so is not documented. It must not let a runner idle while another one has a
queue, so here the least busy runner comes first. The machine type decides between runners that
are equally busy: requests that are sent one after another all go to the preferred type.

Requests that find no free place wait here in order. The first of them gets the next free place.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from .fleet_registry import Registry, Runner, WakeFailed, Waker

PREFERRED_TYPE = {"class:fast": "desktop", "class:big": "gpu"}
SMOOTHING = 0.3  # weight of the newest latency in a runner's figure


@dataclass(eq=False)
class Place:
    """A request's place. It is in the queue until `runner` is set.

    wanted: `class:X` or the exact id of a model. model: the model it was resolved to.
    wol_sent: whether a runner was woken for this request.
    """

    wanted: str
    model: str = ""
    runner: Runner | None = None
    wol_sent: bool = False
    turn: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Router:
    """Gives each request a runner, waking one when none that could serve it is online."""

    def __init__(self, registry: Registry, waker: Waker) -> None:
        self.registry = registry
        self.waker = waker
        self._queue: deque[Place] = deque()
        registry.on_change = self.assign_waiting
        waker.on_failure = self._fail_waiting

    @property
    def active(self) -> int:
        return sum(runner.active for runner in self.registry.runners)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def knows(self, wanted: str) -> bool:
        """Whether any runner, online or not, has this model or class."""
        return any(runner.model_for(wanted) for runner in self.registry.runners)

    @contextlib.asynccontextmanager
    async def hold(self, place: Place) -> AsyncIterator[Runner]:
        """Wait for a runner and hold a place there while the block runs.

        Raises WakeFailed when no runner could be woken.
        """
        self._queue.append(place)
        try:
            self.assign_waiting()
            await place.turn
            assert place.runner is not None
            started_s = time.monotonic()
            yield place.runner
            took_s = time.monotonic() - started_s
            place.runner.latency_s += SMOOTHING * (took_s - place.runner.latency_s)
        finally:
            self._leave(place)

    def _leave(self, place: Place) -> None:
        if place in self._queue:
            self._queue.remove(place)
        if place.runner is not None:
            place.runner.active -= 1
            place.runner.last_used_s = time.monotonic()
        self.assign_waiting()

    def assign_waiting(self) -> None:
        """Give free places to waiting requests, in order, and wake the runners that they need."""
        for place in list(self._queue):
            able = [each for each in self.registry.online if each.model_for(place.wanted)]
            if not able:
                self.wake_for(place)
                continue
            runner = self.choose(able, place.wanted)
            if runner is not None:
                self._assign(place, runner)

    def _assign(self, place: Place, runner: Runner) -> None:
        self._queue.remove(place)
        runner.active += 1
        place.runner, place.model = runner, runner.model_for(place.wanted) or place.wanted
        if not place.turn.done():
            place.turn.set_result(None)

    def choose(self, able: Sequence[Runner], wanted: str) -> Runner | None:
        """The least busy of these online runners; among equals, one of the preferred type; among
        those, the one with the lowest latency. None when all are full: the request waits."""
        free = [runner for runner in able if runner.active < runner.slots]
        kind = PREFERRED_TYPE.get(wanted)
        return min(
            free,
            key=lambda each: (each.active, each.machine_type != kind, each.latency_s),
            default=None,
        )

    def wake_for(self, place: Place) -> None:
        """Wake one sleeping runner for this request, unless one that can serve it is waking."""
        able = [each for each in self.registry.runners if each.model_for(place.wanted)]
        if not any(map(self.waker.waking, able)):
            kind = PREFERRED_TYPE.get(place.wanted)
            self.waker.wake(min(able, key=lambda runner: runner.machine_type != kind))
            place.wol_sent = True

    def _fail_waiting(self, runner: Runner, reason: str) -> None:
        """This runner did not wake: fail the requests that no other runner can serve."""
        for place in list(self._queue):
            able = [each for each in self.registry.runners if each.model_for(place.wanted)]
            if runner not in able or any(each.online for each in able):
                continue
            if not any(map(self.waker.waking, able)) and not place.turn.done():
                self._queue.remove(place)
                place.turn.set_exception(WakeFailed(reason))
