"""One machine of the fleet. It sleeps until a magic packet comes, then it serves with an engine.

The gateway runs it as `python -m reference.fleet_runner`. While it is awake, it has an engine as
its child process and a TCP connection to the gateway:

* It sends lines of JSON: first `{"name": ..., "engine_url": ...}`, then `{}` as
  a heartbeat.
* The gateway may send the line `sleep`. The runner then stops its engine and disconnects. While
  it sleeps, it has nothing but a UDP socket.

The line `wake` on standard input wakes it without a packet, as a relay in another network segment
would.

SIGUSR1 kills it: its engine and its connection end at once, in the middle of whatever they do. Then
it does nothing, whatever packet comes, until SIGUSR2 revives it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from typing import Any

from . import engine, magic_packet, settings
from .process import Child, StartError, announce

HEARTBEAT_S = 1.0
RETRY_S = 0.2
WAKE = "wake"
SLEEP = "sleep"


class Runner:
    """Sleeps and serves by turns until its parent ends."""

    def __init__(self, args: argparse.Namespace, values: settings.EngineSettings) -> None:
        self.args = args
        self.settings = values
        self.wake = asyncio.Event()
        self.alive = asyncio.Event()  # cleared when it is killed
        self.alive.set()
        self.child: Child | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.announced = False

    def kill(self) -> None:
        self.alive.clear()
        if self.child is not None:
            self.child.kill()
        if self.writer is not None:
            self.writer.transport.abort()

    def revive(self) -> None:
        self.alive.set()

    async def wait_until_revived(self) -> None:
        if not self.alive.is_set():
            await self.alive.wait()
            await asyncio.sleep(self.args.boot_ms / 1e3)

    async def run(self) -> None:
        await magic_packet.Listener.start(self.args.wol_port, self.args.mac, self.wake.set)
        asleep = self.args.asleep
        while True:
            await self.wait_until_revived()
            if asleep:
                self.announce_once()
                await self.wake.wait()
                await asyncio.sleep(self.args.boot_ms / 1e3)
            try:
                asleep = await self.serve()
            except StartError as error:
                if not self.announced:
                    raise  # the parent shows it to the operator
                print(error, file=sys.stderr)
                asleep = True
                self.wake.clear()  # another packet is needed for another try

    def announce_once(self) -> None:
        if not self.announced:
            announce(f"udp://0.0.0.0:{self.args.wol_port}")
            self.announced = True

    async def serve(self) -> bool:
        """Run the engine and stay connected to the gateway.

        Returns True when the gateway said `sleep`, False when the engine or the gateway is gone.
        """
        module, arguments = engine.command(self.settings)
        name = f"the {self.settings.engine} engine"
        child = await Child.start(name, module, arguments, self.settings.start_timeout)
        self.child, writer = child, None
        try:
            if not self.alive.is_set():
                return False
            reader, writer = await asyncio.open_connection("127.0.0.1", self.args.gateway_port)
            self.writer = writer
            self.send(writer, **self.introduction(child.url))
            # The gateway answers with a line once it has registered this runner.
            if await reader.readline():
                self.announce_once()
            return await self.stay_connected(reader, writer, child)
        except OSError:
            await asyncio.sleep(RETRY_S)
            return False
        finally:
            self.child = self.writer = None
            await child.stop()
            # A packet that came while this runner was awake must not end the sleep that begins
            # now. The gateway sends the next one only after the connection has ended.
            self.wake.clear()
            if writer is not None:
                writer.close()

    def introduction(self, engine_url: str) -> dict[str, Any]:
        return {"name": self.args.name, "engine_url": engine_url}

    def send(self, writer: asyncio.StreamWriter, **fields: Any) -> None:
        writer.write(json.dumps(fields).encode() + b"\n")

    async def stay_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, child: Child
    ) -> bool:
        while child.alive:
            try:
                line = await asyncio.wait_for(reader.readline(), HEARTBEAT_S)
            except asyncio.TimeoutError:
                self.send(writer)
                continue
            if line.decode().strip() == SLEEP:
                return True
            if not line:
                await asyncio.sleep(RETRY_S)
                return False
        return False


def watch_parent(loop: asyncio.AbstractEventLoop, runner: Runner) -> None:
    """Exit when standard input ends, as every child does. A line `wake` on it wakes the runner."""

    def watch() -> None:
        with contextlib.suppress(OSError, RuntimeError):
            for line in sys.stdin:
                if line.strip() == WAKE:
                    loop.call_soon_threadsafe(runner.wake.set)
        os._exit(0)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


async def serve(args: argparse.Namespace) -> None:
    runner = Runner(args, settings.read(settings.EngineSettings, vars(args), {}))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(AttributeError, NotImplementedError):  # Windows has no such signals
        loop.add_signal_handler(signal.SIGUSR1, runner.kill)
        loop.add_signal_handler(signal.SIGUSR2, runner.revive)
    watch_parent(loop, runner)
    await runner.run()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.fleet_runner", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mac", required=True)
    parser.add_argument("--gateway-port", type=int, required=True)
    parser.add_argument("--wol-port", type=int, required=True)
    parser.add_argument("--boot-ms", type=float, default=0.0)
    parser.add_argument("--asleep", action="store_true")
    settings.add_options(parser, settings.EngineSettings)
    args = parser.parse_args(argv)
    try:
        asyncio.run(serve(args))
    except StartError as error:
        raise SystemExit(str(error)) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
