"""A fleet of which a runner dies while requests run: what its gateway may do wrong then.

The runner is killed and revived by signals to its process (`fleet_runner`), as an operator's
commands do it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from ..fleet_registry import Registry, Runner
from ..hooks import Handler
from ..refusals import TextRefusal
from ..server import abort_stream
from .fault import Fault, Install, SoundVariant
from .fleet_changes import chooses
from .gateway_parts import FleetGateway
from .planting import all_of, around, around_with_gateway, nothing, on_gateway
from .workload_routing import not_found

KILL = ("--kill-command", "kill -USR1 {runner_pid_tower}")
REVIVE = ("--revive-command", "kill -USR2 {runner_pid_tower}")
LOSS = (*KILL, *REVIVE, "--settle", "1", "--revive-timeout", "20", "--timeout", "10")
LATER = (*LOSS, "--settle", "3")  # it has been noticed until then
SLOW = {"ttft_ms": 20, "itl_ms": 5}  # so that streams are in their middle when the runner dies
NOTICED_S = 1.0
PAUSE_S = 0.01
SLEEPS_LATER_S = 0.5


# --- what becomes of a stream of the dead runner


def breaks_off(end: Callable[[web.BaseRequest, web.StreamResponse], Any]) -> Install:
    """Another end of a stream whose runner has failed."""

    async def break_off(request: web.BaseRequest, stream: web.StreamResponse, said: str) -> None:
        await end(request, stream)

    return on_gateway(lambda fleet: setattr(fleet, "break_off", break_off))


async def abort(request: web.BaseRequest, stream: web.StreamResponse) -> None:
    abort_stream(request)


async def end_well(request: web.BaseRequest, stream: web.StreamResponse) -> None:
    await stream.write_eof()


async def hang(request: web.BaseRequest, stream: web.StreamResponse) -> None:
    await asyncio.Event().wait()


# --- what becomes of a request that the dead runner should have had


async def close(request: web.BaseRequest) -> web.StreamResponse:
    """The connection is closed without a byte."""
    abort_stream(request)


async def error_as_success(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"error": {"message": "the runner died", "code": 500}})


def answers_refused(answer: Handler) -> Install:
    """The gateway notices after a while that a runner has died; this is its answer until then."""

    async def backend(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except TextRefusal:
            return await answer(request)

    return all_of(on_gateway(notice_late), around("backend", backend))


async def ask_another(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """The gateway learns of a dead runner when a request to it fails, and asks another runner."""
    try:
        return await handler(request)
    except TextRefusal:
        for runner in fleet.registry.runners:
            if runner.writer is None:
                Registry.unregister(fleet.registry, runner)
        return await handler(request)


def refuse_a_part() -> Install:
    """As long as a runner is gone, every other request is a 502, and goes to no runner."""
    numbers = itertools.count()

    async def wrapper(
        fleet: FleetGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        is_one_gone = len(fleet.registry.online) < len(fleet.registry.runners)
        if is_one_gone and next(numbers) % 2:
            return web.Response(status=502, text="bad gateway")
        return await handler(request)

    return around_with_gateway("inference", wrapper)


# --- who is online


def let_another_sleep(fleet: FleetGateway) -> None:
    """When a runner dies, another one that has nothing to do goes to sleep soon after."""
    registry, sleepers = fleet.registry, set[str]()

    def unregister(runner: Runner) -> None:
        Registry.unregister(registry, runner)
        if not sleepers:
            sleepers.add(runner.name)
            asyncio.get_running_loop().create_task(put_to_sleep(registry, runner))

    registry.unregister = unregister  # type: ignore[method-assign]


async def put_to_sleep(registry: Registry, dead: Runner) -> None:
    other = [each for each in registry.online if each is not dead][-1]
    other.leaving = True
    while other.active:
        await asyncio.sleep(PAUSE_S)
    await asyncio.sleep(SLEEPS_LATER_S)
    registry.put_to_sleep(other)


def keep_registered(fleet: FleetGateway) -> None:
    """A runner that has disconnected stays online for the gateway; it may connect again."""

    def unregister(runner: Runner) -> None:
        runner.writer = None

    fleet.registry.unregister = unregister  # type: ignore[method-assign]


def notice_late(fleet: FleetGateway) -> None:
    """The gateway notices after a while that a runner has disconnected."""
    registry, kept = fleet.registry, Registry.unregister

    def unregister(runner: Runner) -> None:
        runner.writer = None

        def notice() -> None:
            if runner.writer is None:  # it has not come back meanwhile
                kept(registry, runner)

        asyncio.get_running_loop().call_later(NOTICED_S, notice)

    registry.unregister = unregister  # type: ignore[method-assign]


def refuse_return(fleet: FleetGateway) -> None:
    """A runner that has been online once is not let in again."""
    registry, seen = fleet.registry, set[str]()

    def register(fields: Any, writer: asyncio.StreamWriter) -> Runner:
        if fields["name"] in seen:
            raise ValueError("planted")
        seen.add(fields["name"])
        return Registry.register(registry, fields, writer)

    registry.register = register  # type: ignore[method-assign]


def unused_after_return(hooks: Any) -> None:
    """A runner that has come back is online, but gets nothing to do."""
    back = set[str]()

    def setup(fleet: FleetGateway) -> None:
        registry = fleet.registry

        def unregister(runner: Runner) -> None:
            back.add(runner.name)
            Registry.unregister(registry, runner)

        registry.unregister = unregister  # type: ignore[method-assign]

    def choose(able: Sequence[Runner], wanted: str) -> Runner | None:
        free = [each for each in able if each.name not in back and each.active < each.slots]
        return min(free, key=lambda each: each.active, default=None)

    on_gateway(setup)(hooks)
    chooses(choose)(hooks)


_loss = functools.partial(
    Fault, script="test_workload_routing.py", profile="fleet", options=SLOW, arguments=LOSS
)

ROWS: tuple[Fault, ...] = (
    _loss(
        "runner-dies-stream-cut",
        "when a runner dies, its streams are cut off",
        check="clean_errors",
        install=breaks_off(abort),
    ),
    _loss(
        "runner-dies-stream-ends-well",
        "when a runner dies, its streams end as if they were complete",
        check="clean_errors",
        install=breaks_off(end_well),
    ),
    _loss(
        "runner-dies-stream-hangs",
        "when a runner dies, its streams never end",
        check="clean_errors",
        install=breaks_off(hang),
        arguments=(*LOSS[:-1], "4"),
    ),
    _loss(
        "runner-dies-closed",
        "when a runner dies, connections are closed without an answer",
        check="clean_errors",
        install=answers_refused(close),
        arguments=LATER,
        says="closed",
    ),
    _loss(
        "runner-dies-error-as-200",
        "when a runner dies, the error is a 200 with JSON in the place of a stream",
        check="clean_errors",
        install=answers_refused(error_as_success),
        arguments=LATER,
    ),
    _loss(
        "runner-gone-not-served",
        "as long as a runner is gone, every other request is a 502",
        check="rerouted",
        install=refuse_a_part(),
        says="were not served",
    ),
    _loss(
        "dead-runner-kept",
        "a dead runner goes on getting requests",
        check="rerouted",
        install=on_gateway(keep_registered),
        says="went to tower",
    ),
    _loss(
        "revived-runner-refused",
        "a runner that was revived is not let in again",
        check="revived",
        install=on_gateway(refuse_return),
        arguments=(*LOSS, "--revive-timeout", "3"),
    ),
    _loss(
        "revived-runner-unused",
        "a runner that was revived gets no requests",
        check="revived",
        status="WARN",
        install=unused_after_return,
    ),
)

SOUND: tuple[SoundVariant, ...] = (
    SoundVariant(
        "runner-dies",
        "a runner dies, and its streams end with an error event",
        ("test_workload_routing.py",),
        nothing,
        options=SLOW,
        arguments=LOSS,
    ),
    SoundVariant(
        "runner-dies-noticed-late",
        "a runner dies, and for a second requests to it are refused",
        ("test_workload_routing.py",),
        on_gateway(notice_late),
        options=SLOW,
        arguments=LATER,
    ),
    SoundVariant(
        "runner-dies-another-is-asked",
        "a runner dies; when a request to it fails, the gateway asks another one",
        ("test_workload_routing.py",),
        all_of(on_gateway(keep_registered), around_with_gateway("inference", ask_another)),
        options=SLOW,
        arguments=LOSS,
    ),
    SoundVariant(
        "runner-dies-another-sleeps",
        "a runner dies, and soon after another one falls asleep",
        ("test_workload_routing.py",),
        on_gateway(let_another_sleep),
        options={**SLOW, "runners": 3},
        arguments=LOSS,
    ),
    SoundVariant(
        "runner-dies-named-by-header",
        "a runner dies; a header names who served, and there is no admin API",
        ("test_workload_routing.py",),
        not_found("requests", "runners"),
        options={**SLOW, "runner_header": "X-Runner"},
        arguments=LOSS,
    ),
)
