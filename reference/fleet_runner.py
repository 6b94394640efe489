"""One machine of the fleet: asleep until a magic packet comes, then an engine that is registered.

Run by the gateway as `python -m reference.fleet_runner`. Awake, it has an engine as its child
and a TCP connection to the gateway with a line of JSON now and then:

* first what it is: `{"name": ..., "engine_url": ..., "models": [...]}`, then `{}` as a heartbeat;
* the gateway may say `sleep`. The runner then stops its engine, hangs up, and is asleep: it
  holds nothing but a UDP socket.

A line `wake` on standard input wakes it without a packet: a relay in another segment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import threading
from typing import Any

from . import engine, magic, settings
from .process import Child, StartError, announce

HEARTBEAT_S = 1.0
RETRY_S = 0.2
WAKE = "wake"
SLEEP = "sleep"


class Runner:
    """Sleeps and serves in turn, until its parent ends."""

    def __init__(self, args: argparse.Namespace, values: settings.EngineSettings) -> None:
        self.args = args
        self.settings = values
        self.packet = asyncio.Event()
        self.announced = False

    async def run(self) -> None:
        await magic.Listener.start(self.args.wol_port, self.args.mac, self.packet.set)
        asleep = self.args.asleep
        while True:
            if asleep:
                self.ready()
                await self.packet.wait()
                await asyncio.sleep(self.args.boot_ms / 1e3)
            try:
                asleep = await self.serve()
            except StartError as error:
                if not self.announced:
                    raise  # the parent passes it on to the operator
                print(error, file=sys.stderr)
                asleep = True
                self.packet.clear()  # it takes another packet to try again

    def ready(self) -> None:
        if not self.announced:
            announce(f"udp://0.0.0.0:{self.args.wol_port}")
            self.announced = True

    async def serve(self) -> bool:
        """Be awake: until the gateway says sleep (true), or the engine or the gateway is gone."""
        module, arguments = engine.command(self.settings)
        name = f"the {self.settings.engine} engine"
        child = await Child.start(name, module, arguments, self.settings.start_timeout)
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.args.gateway_port)
            self.say(writer, **self.introduction(child.url))
            # The gateway's word that it knows us.
            if await reader.readline():
                self.ready()
            return await self.stay(reader, writer, child)
        except OSError:
            await asyncio.sleep(RETRY_S)
            return False
        finally:
            await child.stop()
            # A packet that came while we were awake is not for the sleep that begins now. The
            # gateway sends the next one when it sees the connection end: after this.
            self.packet.clear()
            if writer is not None:
                writer.close()

    def introduction(self, engine_url: str) -> dict[str, Any]:
        return {
            "name": self.args.name,
            "engine_url": engine_url,
            "models": self.args.models.split(","),
        }

    def say(self, writer: asyncio.StreamWriter, **fields: Any) -> None:
        writer.write(json.dumps(fields).encode() + b"\n")

    async def stay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, child: Child
    ) -> bool:
        while child.alive:
            try:
                line = await asyncio.wait_for(reader.readline(), HEARTBEAT_S)
            except asyncio.TimeoutError:
                self.say(writer)
                continue
            if line.decode().strip() == SLEEP:
                return True
            if not line:
                await asyncio.sleep(RETRY_S)
                return False
        return False


def obey_parent(loop: asyncio.AbstractEventLoop, runner: Runner) -> None:
    """End with standard input, as every child does; `wake` on it wakes."""

    def watch() -> None:
        with contextlib.suppress(OSError, RuntimeError):
            for line in sys.stdin:
                if line.strip() == WAKE:
                    loop.call_soon_threadsafe(runner.packet.set)
        os._exit(0)

    threading.Thread(target=watch, name="obey-parent", daemon=True).start()


async def serve(args: argparse.Namespace) -> None:
    runner = Runner(args, settings.read(settings.EngineSettings, vars(args), {}))
    obey_parent(asyncio.get_running_loop(), runner)
    await runner.run()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.fleet_runner", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mac", required=True)
    parser.add_argument("--models", required=True)
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
