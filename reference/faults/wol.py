"""What test_wol.py must notice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .. import magic
from ..hooks import Answer
from .fleet import (
    and_wakes,
    both,
    malformed,
    names_model,
    no_packet,
    on_fleet,
    packet_each_request,
    plain,
    refused_while_waking,
    sends,
    unheard,
    with_fleet,
    wrong_mac,
)
from .parts import Fault, Install, cut, every_third, never, no_content, on_events

if TYPE_CHECKING:
    from ..fleet import Fleet
    from ..fleet_runners import Runner

WOL = "test_wol.py"
ASLEEP = {"asleep": True, "wake_timeout": 3, "boot_ms": 300}
AWAKE = {"asleep": False}
QUICK = ("--timeout", "5")
LISTEN = (*QUICK, "--listen-wol", "{wol_port}")
DEAD_END = "http://127.0.0.1:9"  # nobody listens there
PADDING = bytes(42)  # to the length that some senders think a frame must have

_wol = functools.partial(Fault, script=WOL, options=ASLEEP, arguments=QUICK, profile="fleet")
_heard = functools.partial(_wol, check="packet", arguments=LISTEN)


# --- who is said to be online


def listed(change: Callable[[Runner], dict[str, object]]) -> Install:
    """/admin/runners tells this of its runners besides."""

    def setup(fleet: Fleet) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            fleet._check_admin(request)
            runners = [{**each.as_dict(), **change(each)} for each in fleet.registry.runners]
            return web.json_response({"runners": runners, "total": len(runners)})

        fleet._say_runners = answer  # type: ignore[method-assign]

    return on_fleet(setup)


def lists_models(models: Callable[[Fleet], list[str]]) -> Install:
    """/v1/models lists these instead."""

    def setup(fleet: Any) -> None:
        fleet.registry.models = lambda: models(fleet)

    return on_fleet(setup)


def none(fleet: Fleet) -> list[str]:
    return []


def all_of_them(fleet: Fleet) -> list[str]:
    return sorted({model for runner in fleet.registry.runners for model in runner.models})


def none_until_asked(fleet: Fleet) -> list[str]:
    """Empty by an error that the first request mends."""
    return all_of_them(fleet) if fleet.log.entries else []


def offline_until_asked(fleet: Any) -> None:
    """/admin/runners learns only from the first request who is online."""
    sound = fleet._say_runners

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if fleet.log.entries:
            listed_now: web.StreamResponse = await sound(request)
            return listed_now
        fleet._check_admin(request)
        runners = [{**each.as_dict(), "is_online": False} for each in fleet.registry.runners]
        return web.json_response({"runners": runners, "total": len(runners)})

    fleet._say_runners = answer


def online_for_ever(runner: Runner) -> dict[str, object]:
    """A machine that fell asleep without signing off."""
    return {"is_online": True, "health": "healthy", "loaded_models": list(runner.models)}


async def gone_engine(fleet: Fleet, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    """The runner that was chosen went away, and nobody noticed."""
    request["place"].runner.engine_url = DEAD_END
    return await answer(request)


# --- what goes out


def padded(fleet: Fleet, runner: Runner) -> None:
    magic.broadcast(magic.magic_packet(runner.mac) + PADDING, fleet.waker.port)


def twice(fleet: Fleet, runner: Runner) -> None:
    """A broken packet, then a good one."""
    malformed(fleet, runner)
    magic.broadcast(magic.magic_packet(runner.mac), fleet.waker.port)


# --- the log, and the request after it


def logs(change: Callable[[Fleet, dict[str, Any]], dict[str, Any] | None]) -> Install:
    """Entries of the request log are changed, or left out."""

    def setup(fleet: Any) -> None:
        sound = fleet.log.add

        def add(entry: dict[str, Any]) -> None:
            changed = change(fleet, entry)
            if changed is not None:
                sound(changed)

        fleet.log.add = add

    return on_fleet(setup)


async def refuses_warm(
    fleet: Fleet, answer: Answer, request: web.BaseRequest
) -> web.StreamResponse:
    """The token is good for one request."""
    if fleet.log.entries:
        return web.Response(status=401, text="Token expired")
    return await answer(request)


async def fails_warm(fleet: Fleet, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    """The request that wakes is served, the next one is not."""
    if fleet.log.entries:
        return web.Response(status=500, text="planted")
    return await answer(request)


ROWS: tuple[Fault, ...] = (
    # who is online
    _wol(
        "wol-admin-500",
        "/admin/runners is a 500",
        check="state",
        install=plain("runners", 500),
    ),
    _wol(
        "wol-models-500",
        "/v1/models is a 500",
        check="state",
        install=plain("models", 500),
    ),
    _wol(
        "wol-models-empty",
        "/v1/models is empty by an error while runners are online",
        check="state",
        status="WARN",
        options=AWAKE,
        install=lists_models(none_until_asked),
        arguments=(*QUICK, "--allow-awake"),
    ),
    # the request
    _wol(
        "wol-not-held",
        "the request that wakes a runner is refused instead of held",
        check="request",
        install=with_fleet("inference", refused_while_waking),
    ),
    _wol(
        "wol-hangs",
        "a request to a sleeping fleet is never answered",
        check="request",
        install=lambda hooks: hooks.around["inference"].append(never),
    ),
    _wol(
        "wol-no-content",
        "the request that wakes is answered without content",
        check="request",
        install=on_events(no_content),
    ),
    _wol(
        "wol-cut",
        "the answer of the request that wakes is cut off",
        check="request",
        install=on_events(cut),
    ),
    _wol(
        "wol-third-lost",
        "of the requests that wait for a runner every third is lost",
        check="request",
        install=every_third,
        arguments=(*QUICK, "--burst", "4"),
    ),
    _wol(
        "wol-stale-ready",
        "runners are gone, but still listed online and asked",
        check="request",
        options=AWAKE,
        install=with_fleet("backend", gone_engine),
    ),
    _wol(
        "wol-other-model",
        "a model that sleeps is answered for by another one",
        check="request",
        install=names_model(lambda place: "smollm2:135m"),
        arguments=(*QUICK, "--model", "smollm2:135m-big"),
    ),
    # the wake
    _wol("wol-no-packet", "no packet is sent", check="wake", install=sends(no_packet)),
    _wol(
        "wol-list-empty",
        "/v1/models is empty by an error, and nothing else tells who is online",
        check="wake",
        status="WARN",
        options=AWAKE,
        install=both(lists_models(none_until_asked), plain("runners", 404)),
    ),
    _wol(
        "wol-stale-list",
        "runners are asleep, but still listed online",
        check="wake",
        status="WARN",
        install=both(listed(online_for_ever), lists_models(all_of_them)),
        arguments=LISTEN,
    ),
    _wol(
        "wol-stale-offline",
        "runners are online, but not listed so before the first request",
        check="wake",
        status="WARN",
        options=AWAKE,
        install=both(on_fleet(offline_until_asked), lists_models(none_until_asked)),
    ),
    _wol(
        "wol-lists-sleepers",
        "/v1/models lists the models of runners that sleep",
        check="wake",
        status="WARN",
        options={**ASLEEP, "boot_ms": 1200, "wake_timeout": 4},
        install=lists_models(all_of_them),
    ),
    # afterwards
    _wol(
        "wol-not-listed",
        "/v1/models stays empty after the wake",
        check="registered",
        install=lists_models(none),
    ),
    _wol(
        "wol-not-online",
        "/admin/runners stays offline after the wake",
        check="registered",
        install=listed(lambda runner: {"is_online": False}),
    ),
    _wol(
        "wol-nameless",
        "the answer names no model, and nobody is listed after it",
        check="registered",
        install=both(names_model(lambda place: "class:fast"), lists_models(none)),
    ),
    _wol(
        "wol-wrong-runner",
        "the log says that a runner served which still sleeps",
        check="registered",
        install=logs(lambda fleet, entry: {**entry, "runner_id": fleet.registry.runners[-1].id}),
    ),
    _wol(
        "wol-not-logged",
        "the log does not know that a packet was sent",
        check="wol_sent",
        status="WARN",
        install=logs(lambda fleet, entry: {**entry, "wol_sent": False}),
    ),
    _wol(
        "wol-no-log",
        "the request is not in the log",
        check="wol_sent",
        status="WARN",
        install=logs(lambda fleet, entry: None),
    ),
    # the packet
    _heard("wol-no-packet-heard", "no packet is sent, and one listens", install=sends(no_packet)),
    _heard("wol-wrong-mac", "the packet is for another machine", install=sends(wrong_mac)),
    _heard(
        "wol-wrong-mac-woken",
        "a packet for a stranger is all that is heard, and the runner wakes all the same",
        status="WARN",
        install=sends(and_wakes(wrong_mac)),
    ),
    _heard("wol-malformed", "the MAC stands 15 times in the packet", install=sends(malformed)),
    _heard(
        "wol-also-malformed",
        "a malformed packet goes before the good one",
        status="WARN",
        install=sends(twice),
    ),
    _heard(
        "wol-padded",
        "the packet is longer than any with a password",
        status="WARN",
        install=sends(and_wakes(padded)),
    ),
    _heard(
        "wol-unheard",
        "the runner wakes, but no packet is heard here: a relay in its own segment",
        status="WARN",
        install=sends(unheard),
    ),
    _heard(
        "wol-packet-each",
        "every request that waits sends a packet of its own",
        check="woken_once",
        status="WARN",
        install=on_fleet(packet_each_request),
        arguments=(*LISTEN, "--burst", "4"),
    ),
    # the time
    _wol(
        "wol-warm-401",
        "the token has ended when the second request comes",
        check="timing",
        status="WARN",
        install=with_fleet("inference", refuses_warm),
        arguments=(*QUICK, "--timing"),
    ),
    _wol(
        "wol-fails-warm",
        "the request after the one that wakes is a 500",
        check="timing",
        install=with_fleet("inference", fails_warm),
        arguments=(*QUICK, "--timing"),
    ),
)
