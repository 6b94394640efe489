"""The fleet's runners as the gateway sees them: who there is, who is online, how one is woken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from . import magic
from .fleet_runner import HEARTBEAT_S, SLEEP, WAKE
from .process import Child
from .server import HOST

SILENCE_S = 5 * HEARTBEAT_S  # then a runner counts as gone
IDLE_CHECK_S = 0.1
BIG = "big"
FAST = "fast"


def class_of(model: str) -> str:
    """The class a model belongs to, by its name."""
    return BIG if model.endswith("-big") else FAST


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(eq=False)
class Runner:
    """One machine: what is known of it, and what it is doing.

    models: what it offers. active: requests it serves. latency_s: of its last ones, smoothed.
    engine_url: None while it is offline. leaving: it was told to sleep and may serve no more.
    last_used_s: on the monotonic clock, when it last came online or ended a request.
    """

    id: str
    name: str
    machine_type: str
    mac: str
    models: tuple[str, ...]
    slots: int
    engine_url: str | None = None
    leaving: bool = False
    active: int = 0
    latency_s: float = 0.0
    last_heartbeat: str | None = None
    last_used_s: float = 0.0
    child: Child | None = None
    writer: asyncio.StreamWriter | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def online(self) -> bool:
        return self.engine_url is not None and not self.leaving

    def model_for(self, wanted: str) -> str | None:
        """Its model for `class:X` or an exact id, None when it has none."""
        kind = wanted.removeprefix("class:") if wanted.startswith("class:") else None
        for model in self.models:
            if model == wanted or class_of(model) == kind:
                return model
        return None

    def tell_to_wake(self) -> None:
        """Wake it without a magic packet, as a relay in its own segment would."""
        if self.child is not None:
            self.child.tell(WAKE)

    def as_dict(self) -> dict[str, object]:
        """Its entry in /admin/runners."""
        return {
            "id": self.id,
            "name": self.name,
            "machine_type": self.machine_type,
            "health": "healthy" if self.online else "offline",
            "loaded_models": list(self.models) if self.online else [],
            "available_models": list(self.models),
            "last_heartbeat": self.last_heartbeat,
            "mac_address": self.mac,
            "is_online": self.online,
        }


class Registry:
    """All runners, and the port where those that are awake are connected.

    changed: called when a runner came or went.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.runners = list(runners)
        self.changed: Callable[[], None] = lambda: None
        for runner in self.runners:
            runner.left.set()

    @property
    def online(self) -> list[Runner]:
        return [runner for runner in self.runners if runner.online]

    def models(self) -> list[str]:
        """The models of the runners that are online, each once."""
        return list(dict.fromkeys(model for runner in self.online for model in runner.models))

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Let runners connect; gives the port."""
        server = await asyncio.start_server(self._connected, HOST, 0)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        finally:
            server.close()
            for runner in self.runners:
                if runner.writer is not None:
                    runner.writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        runner: Runner | None = None
        try:
            while line := await asyncio.wait_for(reader.readline(), SILENCE_S):
                fields = json.loads(line)
                if runner is None:
                    runner = self._came(fields, writer)
                runner.last_heartbeat = utc_now()
        except (OSError, ValueError, RecursionError, asyncio.TimeoutError):
            pass  # a runner that breaks off, or talks nonsense, is offline
        finally:
            writer.close()
            if runner is not None:
                self._left(runner)

    def _came(self, fields: object, writer: asyncio.StreamWriter) -> Runner:
        """Who it is that connected; ValueError for nobody, and for one who is here already."""
        said = fields if isinstance(fields, dict) else {}
        runner = next((each for each in self.runners if each.name == said.get("name")), None)
        engine_url = said.get("engine_url")
        if runner is None or runner.writer is not None or not isinstance(engine_url, str):
            raise ValueError("no runner that was missing")
        runner.engine_url, runner.leaving = engine_url, False
        runner.last_used_s = time.monotonic()
        runner.writer = writer
        runner.left.clear()
        runner.came.set()
        writer.write(b"welcome\n")
        self.changed()
        return runner

    def _left(self, runner: Runner) -> None:
        runner.engine_url, runner.leaving, runner.writer = None, False, None
        runner.came.clear()
        runner.left.set()
        self.changed()

    def put_to_sleep(self, runner: Runner) -> None:
        """Tell it to sleep; from here on it serves nothing."""
        if runner.writer is not None:
            runner.leaving = True
            runner.writer.write(f"{SLEEP}\n".encode())
            self.changed()

    async def sleep_when_idle(self, idle_timeout_s: float) -> None:
        """The watch over idle runners: the gateway is who sees their requests."""
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            for runner in self.online:
                idle_s = time.monotonic() - runner.last_used_s
                if not runner.active and idle_s >= idle_timeout_s:
                    self.put_to_sleep(runner)


class WakeFailed(Exception):
    """No runner came; the text is what the client is told."""


class Waker:
    """Wakes runners, each with one packet however many requests wait for it.

    failed: called with the runner that could not be woken, and why.
    """

    def __init__(self, port: int, timeout_s: float) -> None:
        self.port = port
        self.timeout_s = timeout_s
        self.failed: Callable[[Runner, str], None] = lambda runner, reason: None
        self._wakes: dict[Runner, asyncio.Task[None]] = {}

    def waking(self, runner: Runner) -> bool:
        return runner in self._wakes

    def wake(self, runner: Runner) -> None:
        """See to it that it is being woken."""
        if not self.waking(runner):
            self._wakes[runner] = asyncio.create_task(self._wake(runner))

    async def _wake(self, runner: Runner) -> None:
        reason = ""
        try:
            await asyncio.wait_for(self._until_it_came(runner), self.timeout_s)
        except asyncio.TimeoutError:
            reason = f"runner '{runner.name}' did not connect within {self.timeout_s:g} s"
        except OSError as error:
            reason = f"cannot send the packet to runner '{runner.name}': {error.strerror}"
        del self._wakes[runner]
        if reason:
            self.failed(runner, reason)

    async def _until_it_came(self, runner: Runner) -> None:
        if runner.leaving:
            await runner.left.wait()  # before, it would not hear it
        if not runner.online:
            self.send(runner)
            await runner.came.wait()

    def send(self, runner: Runner) -> None:
        """Send what wakes it."""
        magic.broadcast(self.packet(runner), self.port)

    def packet(self, runner: Runner) -> bytes:
        return magic.magic_packet(runner.mac)

    def close(self) -> None:
        for task in self._wakes.values():
            task.cancel()
