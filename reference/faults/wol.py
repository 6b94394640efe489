"""The faults that test_wol.py must notice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .. import magic_packet
from ..fleet_registry import Runner
from ..hooks import Handler
from .answers import DETAIL_200, every_third_fails, never_answer, plain_text
from .fault import Fault, Install
from .fleet_changes import (
    and_wake,
    lists_models,
    names_model,
    refuse_while_waking,
    send_malformed,
    send_nothing,
    send_packet_for_each_request,
    send_packet_needlessly,
    send_to_all,
    send_to_wrong_mac,
    sends,
    wake_without_packet,
)
from .gateway_parts import FleetGateway
from .planting import all_of, around, around_with_gateway, on_events, on_gateway
from .streams import cut, no_content
from .thinking import HIDDEN_THOUGHTS

WOL = "test_wol.py"
ASLEEP = {"asleep": True, "wake_timeout": 3, "boot_ms": 300}
AWAKE = {"asleep": False}
SHORT_TIMEOUT = ("--timeout", "5")
LISTEN = (*SHORT_TIMEOUT, "--listen-wol", "{wol_port}")
NOBODY_LISTENS = "http://127.0.0.1:9"
PADDING = bytes(42)  # more than any password; some senders fill the packet to a fixed length

_wol = functools.partial(
    Fault, script=WOL, options=ASLEEP, arguments=SHORT_TIMEOUT, profile="fleet"
)
_heard = functools.partial(_wol, check="packet", arguments=LISTEN)


# --- which runners are reported online


Entry = dict[str, object]


def list_of_runners(fleet: FleetGateway, change: Callable[[Runner], Entry]) -> web.Response:
    """The answer of /admin/runners, with these fields changed for each runner."""
    runners = [{**each.as_dict(), **change(each)} for each in fleet.registry.runners]
    return web.json_response({"runners": runners, "total": len(runners)})


def lists_runners(change: Callable[[Runner], Entry]) -> Install:
    """/admin/runners reports these fields for each runner instead of the true ones."""

    async def wrapper(
        fleet: FleetGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        fleet.check_admin(request)
        return list_of_runners(fleet, change)

    return around_with_gateway("runners", wrapper)


def no_models(fleet: FleetGateway) -> list[str]:
    return []


def all_models(fleet: FleetGateway) -> list[str]:
    return sorted({model for runner in fleet.registry.runners for model in runner.models})


def no_models_before_first_request(fleet: FleetGateway) -> list[str]:
    """An error makes the list empty, and the first request repairs it."""
    return all_models(fleet) if fleet.log.entries else []


async def offline_before_first_request(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """/admin/runners reports runners as offline until the first request was served."""
    if fleet.log.entries:
        return await handler(request)
    fleet.check_admin(request)
    return list_of_runners(fleet, lambda runner: {"is_online": False})


def always_online(runner: Runner) -> Entry:
    """As if the machine had fallen asleep without disconnecting."""
    return {"is_online": True, "health": "healthy", "loaded_models": list(runner.models)}


async def engine_is_gone(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    """The chosen runner went away, and the gateway has not noticed it."""
    request["place"].runner.engine_url = NOBODY_LISTENS
    return await handler(request)


# --- the packets that are sent


def send_padded(fleet: FleetGateway, runner: Runner) -> None:
    magic_packet.broadcast(magic_packet.build(runner.mac) + PADDING, fleet.waker.port)


def send_malformed_then_good(fleet: FleetGateway, runner: Runner) -> None:
    send_malformed(fleet, runner)
    magic_packet.broadcast(magic_packet.build(runner.mac), fleet.waker.port)


# --- the log and the next request


def logs(change: Callable[[FleetGateway, dict[str, Any]], dict[str, Any] | None]) -> Install:
    """Entries of the request log are changed, or left out (None)."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.log.add

        def add(entry: dict[str, Any]) -> None:
            changed = change(fleet, entry)
            if changed is not None:
                original(changed)

        fleet.log.add = add  # type: ignore[method-assign]

    return on_gateway(setup)


async def refuse_second_request(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """The token expires after one request."""
    if fleet.log.entries:
        return web.Response(status=401, text="Token expired")
    return await handler(request)


async def fail_second_request(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    if fleet.log.entries:
        return web.Response(status=500, text="planted")
    return await handler(request)


ROWS: tuple[Fault, ...] = (
    # which runners are online
    _wol(
        "wol-admin-500",
        "/admin/runners is a 500",
        check="state",
        install=plain_text("runners", 500),
    ),
    _wol(
        "wol-models-500",
        "/v1/models is a 500",
        check="state",
        install=plain_text("models", 500),
    ),
    _wol(
        "wol-models-empty",
        "/v1/models is empty because of an error while runners are online",
        check="state",
        status="WARN",
        options=AWAKE,
        install=lists_models(no_models_before_first_request),
        arguments=(*SHORT_TIMEOUT, "--allow-awake"),
    ),
    # the request
    _wol(
        "wol-not-held",
        "the request that wakes a runner is refused instead of held",
        check="request",
        install=around_with_gateway("inference", refuse_while_waking),
    ),
    _wol(
        "wol-hangs",
        "a request to a sleeping fleet is never answered",
        check="request",
        install=around("inference", never_answer),
    ),
    _wol(
        "wol-refused-in-200",
        "the answer to that request is a 200 with the JSON of a framework's error",
        check="request",
        install=DETAIL_200,
    ),
    _wol(
        "wol-no-content",
        "the answer to the request that wakes a runner has no content",
        check="request",
        install=on_events(no_content),
    ),
    _wol(
        "wol-hidden-thoughts",
        "all tokens of the answer are thoughts that are not shown",
        check="request",
        status="WARN",
        install=HIDDEN_THOUGHTS,
    ),
    _wol(
        "wol-cut",
        "the answer to the request that wakes a runner is cut off",
        check="request",
        install=on_events(cut),
    ),
    _wol(
        "wol-third-lost",
        "every third request that waits for a runner gets a 500",
        check="request",
        install=every_third_fails,
        arguments=(*SHORT_TIMEOUT, "--burst", "4"),
    ),
    _wol(
        "wol-stale-ready",
        "runners are gone, but still listed as online, and requests are sent to them",
        check="request",
        options=AWAKE,
        install=around("backend", engine_is_gone),
    ),
    _wol(
        "wol-other-model",
        "a request for a sleeping model is answered by another model",
        check="request",
        install=names_model(lambda place: "smollm2:135m"),
        arguments=(*SHORT_TIMEOUT, "--model", "smollm2:135m-big"),
    ),
    # the wake
    _wol("wol-no-packet", "no packet is sent", check="wake", install=sends(send_nothing)),
    _wol(
        "wol-list-empty",
        "/v1/models is empty because of an error, and there is no /admin/runners",
        check="wake",
        status="WARN",
        options=AWAKE,
        install=all_of(lists_models(no_models_before_first_request), plain_text("runners", 404)),
    ),
    _wol(
        "wol-stale-list",
        "runners are asleep, but still listed as online",
        check="wake",
        status="WARN",
        install=all_of(lists_runners(always_online), lists_models(all_models)),
        arguments=LISTEN,
    ),
    _wol(
        "wol-stale-offline",
        "runners are online, but listed as offline before the first request",
        check="wake",
        status="WARN",
        options=AWAKE,
        install=all_of(
            around_with_gateway("runners", offline_before_first_request),
            lists_models(no_models_before_first_request),
        ),
    ),
    _wol(
        "wol-lists-sleepers",
        "/v1/models lists the models of sleeping runners",
        check="wake",
        status="WARN",
        options={**ASLEEP, "boot_ms": 1200, "wake_timeout": 4},
        install=lists_models(all_models),
    ),
    # afterwards
    _wol(
        "wol-not-listed",
        "/v1/models stays empty after the wake",
        check="registered",
        install=lists_models(no_models),
    ),
    _wol(
        "wol-not-online",
        "/admin/runners reports all runners as offline after the wake",
        check="registered",
        install=lists_runners(lambda runner: {"is_online": False}),
    ),
    _wol(
        "wol-nameless",
        "the answer names no model, and no model is listed after it",
        check="registered",
        install=all_of(names_model(lambda place: "class:fast"), lists_models(no_models)),
    ),
    _wol(
        "wol-wrong-runner",
        "the log names a runner that still sleeps as the one that served",
        check="registered",
        install=logs(lambda fleet, entry: {**entry, "runner_id": fleet.registry.runners[-1].id}),
    ),
    _wol(
        "wol-not-logged",
        "the log says that no packet was sent",
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
    _heard(
        "wol-no-packet-heard",
        "no packet is sent, while the script listens for it",
        install=sends(send_nothing),
    ),
    _heard("wol-wrong-mac", "the packet is for another machine", install=sends(send_to_wrong_mac)),
    _heard(
        "wol-wrong-mac-woken",
        "the packet is for another machine, but the runner wakes all the same",
        status="WARN",
        install=sends(and_wake(send_to_wrong_mac)),
    ),
    _heard(
        "wol-malformed",
        "the packet has the MAC 15 times instead of 16",
        install=sends(send_malformed),
    ),
    _heard(
        "wol-also-malformed",
        "a malformed packet is sent before the good one",
        status="WARN",
        install=sends(send_malformed_then_good),
    ),
    _heard(
        "wol-padded",
        "the packet is longer than any with a password",
        status="WARN",
        install=sends(and_wake(send_padded)),
    ),
    _heard(
        "wol-unheard",
        "the runner wakes, but no packet arrives here, as with a relay in another segment",
        status="WARN",
        install=sends(wake_without_packet),
    ),
    _heard(
        "wol-packet-each",
        "every waiting request sends a packet of its own",
        check="woken_once",
        status="WARN",
        install=on_gateway(send_packet_for_each_request),
        arguments=(*LISTEN, "--burst", "4"),
    ),
    _wol(
        "wol-logged-each",
        "every waiting request sends a packet of its own, as the log alone shows",
        check="woken_once",
        status="WARN",
        install=on_gateway(send_packet_for_each_request),
        arguments=(*SHORT_TIMEOUT, "--burst", "4"),
    ),
    _heard(
        "wol-wakes-others",
        "a machine that does not offer the model is woken as well",
        status="WARN",
        options={**ASLEEP, "models": "desk=small:1b;tower=small:1b,big:8b"},
        install=sends(send_to_all),
        arguments=(*LISTEN, "--model", "big:8b"),
    ),
    _wol(
        "wol-needless-logged",
        "a request is served at once by a runner that is awake, and sends a packet all the same",
        check="wol_sent",
        status="WARN",
        options=AWAKE,
        install=on_gateway(send_packet_needlessly),
        arguments=(*SHORT_TIMEOUT, "--allow-awake"),
    ),
    _heard(
        "wol-needless-heard",
        "a packet for a request that an awake runner serves at once is heard on the network",
        status="WARN",
        options=AWAKE,
        install=on_gateway(send_packet_needlessly),
        arguments=(*LISTEN, "--allow-awake"),
    ),
    # the time
    _wol(
        "wol-warm-401",
        "the token has expired when the second request comes",
        check="timing",
        status="WARN",
        install=around_with_gateway("inference", refuse_second_request),
        arguments=(*SHORT_TIMEOUT, "--timing"),
    ),
    _wol(
        "wol-fails-warm",
        "the request after the one that wakes a runner is a 500",
        check="timing",
        install=around_with_gateway("inference", fail_second_request),
        arguments=(*SHORT_TIMEOUT, "--timing"),
    ),
)
