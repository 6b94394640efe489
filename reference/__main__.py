"""A deployment on loopback, to try the scripts and to test them.

Examples:
    python -m reference up                               # the gateway with a real model
    python -m reference up --engine sim --port 0         # without a model, on a free port
    MAX_CONCURRENT_REQUESTS=1 MAX_QUEUE_SIZE=2 python -m reference up
    python -m reference up --profile fleet               # the fleet with two runners
    python -m reference up --profile fleet --asleep true # ... which a magic packet wakes
    python -m reference up --fault stream-cut            # a deployment with a fault
    python -m reference faults                           # the faults that can be planted

`up` prints `export` lines for the shell in which you run the scripts, then "# ready". It runs
until Ctrl-C. The exit code is 0 after Ctrl-C or a signal to end, 1 when the deployment cannot
start, 2 for bad settings.
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
from typing import TYPE_CHECKING, Any, NoReturn

from . import settings
from .process import StartError

if TYPE_CHECKING:  # `hooks` and `faults` import aiohttp, which takes a while
    from .faults import ClosedDoor, Fault, SoundVariant

    Planted = Fault | SoundVariant | ClosedDoor
    from .hooks import Hooks

DeploymentContext = AbstractAsyncContextManager[Mapping[str, str]]


@dataclass(frozen=True)
class Profile:
    """One kind of deployment: the class of its settings and the function that runs it."""

    settings: type
    deploy: Callable[[Any, Hooks], DeploymentContext]


def profiles() -> dict[str, Profile]:
    return {
        "gateway": Profile(settings.GatewaySettings, deploy_gateway),
        "fleet": Profile(settings.FleetSettings, deploy_fleet),
    }


# A gateway is imported only when it is started: this takes a while, and wrong options are reported
# at once.


def deploy_gateway(values: settings.GatewaySettings, hooks: Hooks) -> DeploymentContext:
    from . import gateway

    return gateway.deploy(values, hooks)


def deploy_fleet(values: settings.FleetSettings, hooks: Hooks) -> DeploymentContext:
    from . import fleet

    return fleet.deploy(values, hooks)


# --- the command line


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong option in one line."""

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
    commands.add_parser("faults", help="list what can be planted")
    up = commands.add_parser("up", help="run a deployment", allow_abbrev=False)
    up.add_argument("--profile", choices=sorted(known), default=profile, help="kind of deployment")
    up.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME",
        help="fault or sound variant to plant, repeatable",
    )
    up.add_argument("--until-eof", action="store_true", help="also end when standard input ends")
    settings.add_options(up, known[profile].settings)
    return parser


def chosen_profile(argv: Sequence[str], known: Mapping[str, Profile]) -> str:
    """The profile that the command line names. The other options depend on it."""
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    early.add_argument("--profile", default="gateway")
    try:
        name = early.parse_known_args(argv)[0].profile
    except argparse.ArgumentError:
        return "gateway"  # the real parser will report the error
    return name if name in known else "gateway"


def chosen_faults(names: Sequence[str], profile: str) -> list[Planted]:
    """The faults, sound variants and closed doors with these names. Raises ValueError for a name
    that this profile does not have."""
    if not names:
        return []
    from .faults import CLOSED, FAULTS, SOUND

    faults = [fault for fault in FAULTS if fault.profile == profile]
    plantable: list[Planted] = [*SOUND, *CLOSED, *faults]
    known = {each.name: each for each in plantable}
    for name in names:
        if name not in known:
            raise ValueError(
                f"there is no fault {name!r} in profile {profile}, see: python -m reference faults"
            )
    return [known[name] for name in names]


# --- running


async def serve(deployment: DeploymentContext, hooks: Hooks) -> None:
    async with deployment as exported:
        environment = dict(exported)
        for export in hooks.exports:
            environment |= export(environment)
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value) if value else ''}")
        print("# ready: paste these lines into another shell; Ctrl-C ends this", flush=True)
        await asyncio.Event().wait()


async def serve_until_stopped(deployment: DeploymentContext, hooks: Hooks, until_eof: bool) -> None:
    """Serve until a signal, or with `until_eof` the end of standard input; then clean up."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in signals_to_end():
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt instead
            loop.add_signal_handler(number, stopped.set)
    if until_eof:
        threading.Thread(target=wait_for_eof, args=(loop, stopped), daemon=True).start()
    serving = asyncio.create_task(serve(deployment, hooks))
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    # It is cancelled only once: a second Ctrl-C must not interrupt the clean-up.
    if not serving.done():
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def signals_to_end() -> list[signal.Signals]:
    """The signals after which to clean up and end. SIGHUP is not one of them under `nohup`."""
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


def plant(faults: Sequence[Planted]) -> Hooks:
    """The hooks that a deployment gets, with these faults in them."""
    from .hooks import Hooks

    hooks = Hooks()
    for fault in faults:
        fault.install(hooks)
    return hooks


def up(args: argparse.Namespace, profile: Profile) -> int:
    try:
        faults = chosen_faults(args.fault, args.profile)
        values: Any = settings.read(profile.settings, vars(args), os.environ)
    except ValueError as error:
        print(f"reference: {error}", file=sys.stderr)
        return 2
    try:
        hooks = plant(faults)
        deployment = profile.deploy(values, hooks)
        asyncio.run(serve_until_stopped(deployment, hooks, args.until_eof))
    except (StartError, OSError) as error:
        print(f"reference: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        # Everything is cleaned up: a second Ctrl-C has nothing left to interrupt.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


def list_faults() -> int:
    from .faults import table

    try:
        print(table(), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    known = profiles()
    args = build_parser(known, chosen_profile(argv, known)).parse_args(argv)
    try:
        return list_faults() if args.command == "faults" else up(args, known[args.profile])
    except ImportError as error:
        print(f"reference: {error}: pip install -r requirements-dev.txt", file=sys.stderr)
        return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Ctrl-C before there was anything to end
        sys.exit(0)
