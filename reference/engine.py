"""The engine behind a gateway: a process that is stopped when idle and started on demand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from .process import Child, StartError
from .settings import EngineSettings

IDLE_CHECK_S = 0.1


def command(settings: EngineSettings) -> tuple[str, list[str]]:
    """The module to run as the engine, and its arguments."""
    names: tuple[str, ...]
    if settings.engine == "sim":
        names = ("slots", "ttft_ms", "itl_ms", "prefill_ms", "prefix_cache", "load_ms")
        names += ("output_tokens", "context_size", "endpoints", "skills")
    else:
        names = ("slots", "model_path", "context_size", "threads", "gpu_layers", "chat_template")
        names += ("endpoints",)
        names += ("draft_tokens", "thinking_tokens")
    arguments = []
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            values = value if isinstance(value, tuple) else (value,)
            arguments += ["--" + name.replace("_", "-"), *map(str, values)]
    return f"reference.{settings.engine}", arguments


class Engine:
    """One engine process. It is stopped after `idle_timeout_s` without use (0: never).

    on_start: called with the base URL each time when the engine has started.
    """

    def __init__(self, settings: EngineSettings, idle_timeout_s: float = 0.0) -> None:
        self.settings = settings
        self.idle_timeout_s = idle_timeout_s
        self.on_start: list[Callable[[str], Awaitable[None]]] = []
        self._child: Child | None = None
        self._changing = asyncio.Lock()
        self._starting: asyncio.Task[str] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._users = 0
        self._idle_since_s = time.monotonic()

    @property
    def url(self) -> str | None:
        """Base URL of the running engine, None while it is stopped, starting or dead."""
        return self._child.url if self._child is not None and self._child.alive else None

    async def __aenter__(self) -> Engine:
        await self.start()
        if self.idle_timeout_s:
            self._watcher = asyncio.create_task(self._stop_when_idle())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._watcher, self._starting):
            if task is not None and not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, StartError):
                    await task
        await self.stop()

    async def start(self) -> str:
        """Start the process unless it runs. Returns its base URL, raises StartError."""
        async with self._changing:
            if self.url is None:
                await self._stop_child()
                module, arguments = command(self.settings)
                name = f"the {self.settings.engine} engine"
                timeout_s = self.settings.start_timeout
                self._child = await Child.start(name, module, arguments, timeout_s)
                for hook in self.on_start:
                    await hook(self._child.url)
                self._idle_since_s = time.monotonic()
            assert self._child is not None
            return self._child.url

    async def stop(self) -> None:
        async with self._changing:
            await self._stop_child()

    async def _stop_child(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop()

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[str]:
        """Keep the engine running for a request; start it first if needed. Gives its base URL."""
        self._users += 1
        try:
            yield self.url or await self._start_shared()
        finally:
            self._users -= 1
            self._idle_since_s = time.monotonic()

    async def _start_shared(self) -> str:
        # Several requests may wait for one start. A client that leaves must not cancel it.
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self.start())
        return await asyncio.shield(self._starting)

    def _is_idle(self) -> bool:
        return not self._users and time.monotonic() - self._idle_since_s >= self.idle_timeout_s

    async def _stop_when_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            if self.url is None or not self._is_idle():
                continue
            async with self._changing:
                # A request may have come while this waited for the lock.
                if self._is_idle():
                    await self._stop_child()
