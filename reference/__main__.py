"""A deployment on loopback, to try the scripts against and to test them with.

Examples:
    python -m reference up                               # the gateway with a real model
    python -m reference up --engine sim --port 0         # no model, a free port
    MAX_CONCURRENT_REQUESTS=1 MAX_QUEUE_SIZE=2 python -m reference up
    python -m reference up --profile fleet               # the router and two runners
    python -m reference up --profile fleet --asleep true # ... which a magic packet wakes
    python -m reference up --fault stream-cut            # a deployment that is broken
    python -m reference faults                           # what can be broken

`up` prints `export` lines for the shell that is to use it, then "# ready", and runs until
Ctrl-C. Exit code 0 after Ctrl-C or a signal to end, 1 when it cannot start, 2 for bad settings.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from . import settings
from .process import StartError

Deploy = Callable[[Any, Sequence[Any]], AbstractAsyncContextManager[Mapping[str, str]]]


@dataclass(frozen=True)
class Profile:
    """One kind of deployment: its settings class and the function that runs it."""

    settings: type
    deploy: Deploy


def profiles() -> dict[str, Profile]:
    from . import fleet, gateway  # late: aiohttp takes a while to import

    return {
        "gateway": Profile(settings.GatewaySettings, gateway.deploy),
        "fleet": Profile(settings.FleetSettings, fleet.deploy),
    }


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"reference: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)


def build_parser(known: Mapping[str, Profile], profile: str) -> OneLineParser:
    parser = OneLineParser(
        prog="python -m reference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="up|faults")
    commands.add_parser("faults", help="list the faults that can be planted")
    up = commands.add_parser("up", help="run a deployment", allow_abbrev=False)
    up.add_argument("--profile", choices=sorted(known), default=profile, help="kind of deployment")
    up.add_argument("--fault", action="append", default=[], metavar="NAME", help="repeatable")
    up.add_argument("--until-eof", action="store_true", help="also end when standard input ends")
    settings.add_options(up, known[profile].settings)
    return parser


def chosen_profile(argv: Sequence[str], known: Mapping[str, Profile]) -> str:
    """The profile named on the command line: it decides which other options there are."""
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    early.add_argument("--profile", default="gateway")
    try:
        name = early.parse_known_args(argv)[0].profile
    except argparse.ArgumentError:
        return "gateway"  # the real parser will say what is wrong
    return name if name in known else "gateway"


def chosen_faults(names: Sequence[str], profile: str) -> list[Any]:
    from .faults import FAULTS

    known = {fault.name: fault for fault in FAULTS if fault.profile == profile}
    for name in names:
        if name not in known:
            raise ValueError(f"no fault {name!r} in profile {profile}: python -m reference faults")
    return [known[name] for name in names]


# --- running


async def serve(deployment: AbstractAsyncContextManager[Mapping[str, str]]) -> None:
    async with deployment as environment:
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value) if value else ''}")
        print("# ready: paste these lines into another shell; Ctrl-C ends this", flush=True)
        await asyncio.Event().wait()


async def serve_until_stopped(
    deployment: AbstractAsyncContextManager[Mapping[str, str]], until_eof: bool
) -> None:
    """Serve until a signal to end or (asked for) the end of standard input, then clean up."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in signals_to_end():
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt instead
            loop.add_signal_handler(number, stopped.set)
    if until_eof:
        threading.Thread(target=wait_for_eof, args=(loop, stopped), daemon=True).start()
    serving = asyncio.create_task(serve(deployment))
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    # Not cancelled twice: a second Ctrl-C must not interrupt the cleaning up.
    if not serving.done():
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def signals_to_end() -> list[signal.Signals]:
    """Those after which there is something to clean up. `nohup` wants SIGHUP ignored."""
    known = signal.Signals.__members__
    names = ["SIGINT", "SIGTERM", "SIGQUIT"]
    if "SIGHUP" in known and signal.getsignal(known["SIGHUP"]) is not signal.SIG_IGN:
        names.append("SIGHUP")
    return [known[name] for name in names if name in known]


def wait_for_eof(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stopped.set)


def up(args: argparse.Namespace, profile: Profile) -> int:
    try:
        faults = chosen_faults(args.fault, args.profile)
        values: Any = settings.read(profile.settings, vars(args), os.environ)
    except ValueError as error:
        print(f"reference: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve_until_stopped(profile.deploy(values, faults), args.until_eof))
    except (StartError, OSError) as error:
        print(f"reference: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        # All is cleaned up: a second, impatient Ctrl-C has nothing left to interrupt.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        known = profiles()
    except ImportError as error:
        print(f"reference: {error}: pip install -r requirements-dev.txt", file=sys.stderr)
        return 1
    args = build_parser(known, chosen_profile(argv, known)).parse_args(argv)
    if args.command == "faults":
        from .faults import table

        print(table())
        return 0
    return up(args, known[args.profile])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to end
        sys.exit(0)
