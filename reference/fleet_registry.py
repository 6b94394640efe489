"""The runners as the fleet's gateway sees them: which there are, which are online, waking them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from . import magic_packet
from .fleet_runner import HEARTBEAT_S, SLEEP, WAKE
from .process import Child
from .server import HOST

SILENCE_S = 5 * HEARTBEAT_S  # a runner without heartbeat for so long is treated as gone
IDLE_CHECK_S = 0.1
BIG = "big"
FAST = "fast"


def class_of(model: str) -> str:
    """The class that a model belongs to, taken from its name."""
    return BIG if model.endswith("-big") else FAST


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(eq=False)
class Runner:
    """One machine: what the gateway knows about it, and what it is doing.

    models: the models that it offers.
    engine_url: None while it is offline.
    leaving: it was told to sleep and serves nothing more.
    active: the number of requests that it serves now.
    latency_s: the duration of its last requests, smoothed.
    last_used_s: when it last came online or ended a request, on the monotonic clock.
    connected, disconnected: events to wait for.
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
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def online(self) -> bool:
        return self.engine_url is not None and not self.leaving

    def model_for(self, wanted: str) -> str | None:
        """Its model for `class:X` or for an exact id, None when it has no such model."""
        kind = wanted.removeprefix("class:") if wanted.startswith("class:") else None
        for model in self.models:
            if model == wanted or class_of(model) == kind:
                return model
        return None

    def tell_to_wake(self) -> None:
        """Wake it without a magic packet, as a relay in another network segment would."""
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
    """All runners, and the TCP port to which those that are awake are connected.

    on_change: called when a runner has connected or disconnected.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.runners = list(runners)
        self.on_change: Callable[[], None] = lambda: None
        for runner in self.runners:
            runner.disconnected.set()

    @property
    def online(self) -> list[Runner]:
        return [runner for runner in self.runners if runner.online]

    def models(self) -> list[str]:
        """The models of the runners that are online, each once."""
        return list(dict.fromkeys(model for runner in self.online for model in runner.models))

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Let runners connect while the block runs. Gives the port."""
        server = await asyncio.start_server(self._serve_connection, HOST, 0)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        finally:
            server.close()
            for runner in self.runners:
                if runner.writer is not None:
                    runner.writer.close()

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        runner: Runner | None = None
        try:
            while line := await asyncio.wait_for(reader.readline(), SILENCE_S):
                fields = json.loads(line)
                if runner is None:
                    runner = self.register(fields, writer)
                runner.last_heartbeat = utc_now()
        except (OSError, ValueError, RecursionError, asyncio.TimeoutError):
            pass  # a runner that disconnects or sends something malformed is offline
        finally:
            writer.close()
            if runner is not None:
                self.unregister(runner)

    def register(self, fields: object, writer: asyncio.StreamWriter) -> Runner:
        """The runner that connected. Raises ValueError if it is unknown or connected already."""
        known = fields if isinstance(fields, dict) else {}
        runner = next((each for each in self.runners if each.name == known.get("name")), None)
        engine_url = known.get("engine_url")
        if runner is None or runner.writer is not None or not isinstance(engine_url, str):
            raise ValueError("not a runner that is offline")
        runner.engine_url, runner.leaving = engine_url, False
        runner.last_used_s = time.monotonic()
        runner.writer = writer
        runner.disconnected.clear()
        runner.connected.set()
        writer.write(b"welcome\n")
        self.on_change()
        return runner

    def unregister(self, runner: Runner) -> None:
        runner.engine_url, runner.leaving, runner.writer = None, False, None
        runner.connected.clear()
        runner.disconnected.set()
        self.on_change()

    def put_to_sleep(self, runner: Runner) -> None:
        """Tell a runner to sleep. From now on it serves nothing."""
        if runner.writer is not None:
            runner.leaving = True
            runner.writer.write(f"{SLEEP}\n".encode())
            self.on_change()

    async def sleep_when_idle(self, idle_timeout_s: float) -> None:
        """Put idle runners to sleep. The gateway does it, because it knows their requests."""
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            for runner in self.online:
                idle_s = time.monotonic() - runner.last_used_s
                if not runner.active and idle_s >= idle_timeout_s:
                    self.put_to_sleep(runner)


class WakeFailed(Exception):
    """No runner has woken up. The client is told this text."""


class Waker:
    """Wakes runners. Each gets one packet, however many requests wait for it.

    on_failure: called with a runner that could not be woken, and with the reason.
    """

    def __init__(self, port: int, timeout_s: float) -> None:
        self.port = port
        self.timeout_s = timeout_s
        self.on_failure: Callable[[Runner, str], None] = lambda runner, reason: None
        self._wakes: dict[Runner, asyncio.Task[None]] = {}

    def waking(self, runner: Runner) -> bool:
        return runner in self._wakes

    def wake(self, runner: Runner) -> None:
        """Begin to wake a runner, unless this has begun already."""
        if not self.waking(runner):
            self._wakes[runner] = asyncio.create_task(self._wake(runner))

    async def _wake(self, runner: Runner) -> None:
        reason = ""
        try:
            await asyncio.wait_for(self._send_and_wait(runner), self.timeout_s)
        except asyncio.TimeoutError:
            reason = f"runner '{runner.name}' did not connect within {self.timeout_s:g} s"
        except OSError as error:
            reason = f"cannot send the packet to runner '{runner.name}': {error.strerror}"
        del self._wakes[runner]
        if reason:
            self.on_failure(runner, reason)

    async def _send_and_wait(self, runner: Runner) -> None:
        if runner.leaving:
            await runner.disconnected.wait()  # until then it would ignore the packet
        if not runner.online:
            self.send(runner)
            await runner.connected.wait()

    def send(self, runner: Runner) -> None:
        """Send the packet that wakes a runner."""
        magic_packet.broadcast(self.packet(runner), self.port)

    def packet(self, runner: Runner) -> bytes:
        return magic_packet.build(runner.mac)

    def close(self) -> None:
        for task in self._wakes.values():
            task.cancel()
