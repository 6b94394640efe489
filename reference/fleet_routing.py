"""Who serves a request: the least busy runner, then the class's machine type, then latency.

BACKENDS.md tells of a preferred machine type, and of queue depth and latency that are weighed
against it, not how. What must hold is that no runner idles while another has a queue. So how busy
a runner is comes first: its requests share one machine, and a second one there would wait for
the first while a whole machine does nothing. The type decides between runners that are equally
busy: requests one after another all go to it.

Requests that no runner has a place for wait here, in order, and go to the first place that
becomes free.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from .fleet_runners import Registry, Runner, WakeFailed, Waker

PREFERRED_TYPE = {"class:fast": "desktop", "class:big": "gpu"}
SMOOTHING = 0.3  # weight of the newest latency in a runner's figure


@dataclass(eq=False)
class Place:
    """A request's place: in the queue until `runner` is set.

    wanted: `class:X` or an exact id. model: what it was resolved to.
    wol_sent: a runner was woken for it.
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
        registry.changed = self.look
        waker.failed = self._give_up

    @property
    def active(self) -> int:
        return sum(runner.active for runner in self.registry.runners)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def knows(self, wanted: str) -> bool:
        """Whether any runner, online or not, could serve this."""
        return any(runner.model_for(wanted) for runner in self.registry.runners)

    @contextlib.asynccontextmanager
    async def hold(self, place: Place) -> AsyncIterator[Runner]:
        """Wait for a runner, and have it for as long as the request takes; or WakeFailed."""
        self._queue.append(place)
        try:
            self.look()
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
        self.look()

    def look(self) -> None:
        """Give places to those who wait, first come first served, and wake whom they need."""
        for place in list(self._queue):
            able = [each for each in self.registry.online if each.model_for(place.wanted)]
            if not able:
                self.wake_for(place)
                continue
            runner = self.choose(able, place.wanted)
            if runner is not None:
                self._give(place, runner)

    def _give(self, place: Place, runner: Runner) -> None:
        self._queue.remove(place)
        runner.active += 1
        place.runner, place.model = runner, runner.model_for(place.wanted) or place.wanted
        if not place.turn.done():
            place.turn.set_result(None)

    def choose(self, able: Sequence[Runner], wanted: str) -> Runner | None:
        """The least busy of these online runners, of equals one of the preferred type, of those
        the quickest; None when all are full and the request has to wait."""
        free = [runner for runner in able if runner.active < runner.slots]
        kind = PREFERRED_TYPE.get(wanted)
        return min(
            free,
            key=lambda each: (each.active, each.machine_type != kind, each.latency_s),
            default=None,
        )

    def wake_for(self, place: Place) -> None:
        """See to it that a sleeping runner wakes for this request; one is enough."""
        able = [each for each in self.registry.runners if each.model_for(place.wanted)]
        if not any(map(self.waker.waking, able)):
            kind = PREFERRED_TYPE.get(place.wanted)
            self.waker.wake(min(able, key=lambda runner: runner.machine_type != kind))
        place.wol_sent = True

    def _give_up(self, runner: Runner, reason: str) -> None:
        """It did not wake: who waited for it, and has nobody else, is told so."""
        for place in list(self._queue):
            able = [each for each in self.registry.runners if each.model_for(place.wanted)]
            if runner not in able or any(each.online for each in able):
                continue
            if not any(map(self.waker.waking, able)) and not place.turn.done():
                self._queue.remove(place)
                place.turn.set_exception(WakeFailed(reason))
