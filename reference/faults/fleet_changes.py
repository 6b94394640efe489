"""Changes to the fleet's gateway of which faults are made. The faults are in their modules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .. import magic_packet, tokens
from ..fleet_registry import Runner
from ..fleet_routing import Place
from ..hooks import Handler
from ..refusals import TextRefusal
from ..token_verifier import User
from .fault import Install
from .gateway_parts import FleetGateway
from .planting import on_gateway

Send = Callable[[FleetGateway, Runner], None]
WRONG_MAC = "02:00:5e:00:00:fe"  # no runner has it


def is_class(model: object) -> bool:
    return str(model).startswith("class:")


# --- tokens and roles


def policy(**changes: Any) -> Install:
    """A verifier with these fields of its policy changed; see `token_verifier.Policy`."""

    def change(fleet: FleetGateway) -> None:
        fleet.verifier.policy = dataclasses.replace(fleet.verifier.policy, **changes)

    return on_gateway(change)


def accept_public_key_as_secret(fleet: FleetGateway) -> None:
    """A token is also accepted when it is signed by HS256 with the public key (RFC 8725 2.1)."""
    secrets = (tokens.public_pem(fleet.verifier.key),)
    fleet.verifier.policy = dataclasses.replace(fleet.verifier.policy, hs256_secrets=secrets)


def decide(permission: str, decision: Callable[[User], bool]) -> Install:
    """Another decision for `may_ask_specific` or `may_administer`."""
    return on_gateway(lambda fleet: setattr(fleet, permission, decision))


# --- models and runners


def names_model(name: Callable[[Place], str]) -> Install:
    """Answers name this model, whichever it was."""
    return on_gateway(lambda fleet: setattr(fleet, "answered_model", name))


def resolves(change: Callable[[str], str]) -> Install:
    """After the permissions were checked, the model is changed to another one."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.resolve
        fleet.resolve = lambda user, model: change(original(user, model))

    return on_gateway(setup)


def refuses(status: int, text: str, applies: Callable[[User, str], object]) -> Install:
    """A refusal for the users and models for which `applies` is true."""

    def setup(fleet: FleetGateway) -> None:
        original = fleet.resolve

        def resolve(user: User, model: object) -> str:
            if applies(user, str(model)):
                raise TextRefusal(status, text)
            return original(user, model)

        fleet.resolve = resolve

    return on_gateway(setup)


def chooses(choice: Callable[[list[Runner], str], Runner | None]) -> Install:
    """Another choice among the online runners that can serve."""

    def choose(able: Any, wanted: str) -> Runner | None:
        return choice(list(able), wanted)

    return on_gateway(lambda fleet: setattr(fleet.router, "choose", choose))


# --- Wake-on-LAN


def sends(send: Send) -> Install:
    """`send` is called instead of sending the magic packet that wakes a runner."""
    return on_gateway(lambda fleet: setattr(fleet.waker, "send", functools.partial(send, fleet)))


def send_nothing(fleet: FleetGateway, runner: Runner) -> None:
    """No packet is sent, and the runner does not wake."""


def wake_without_packet(fleet: FleetGateway, runner: Runner) -> None:
    """The runner wakes, but no packet is seen here, as with a relay in another segment."""
    runner.tell_to_wake()


def send_to_wrong_mac(fleet: FleetGateway, runner: Runner) -> None:
    magic_packet.broadcast(magic_packet.build(WRONG_MAC), fleet.waker.port)


def send_malformed(fleet: FleetGateway, runner: Runner) -> None:
    """The packet repeats the MAC 15 times instead of 16."""
    magic_packet.broadcast(magic_packet.build(runner.mac)[:-6], fleet.waker.port)


def and_wake(send: Send) -> Send:
    """`send`, and the runner wakes although that packet does not wake it."""

    def send_and_wake(fleet: FleetGateway, runner: Runner) -> None:
        send(fleet, runner)
        runner.tell_to_wake()

    return send_and_wake


def send_packet_for_each_request(fleet: FleetGateway) -> None:
    """Every request that waits for a runner sends a packet of its own."""
    original = fleet.router.wake_for

    def wake_for(place: Place) -> None:
        waking = [each for each in fleet.registry.runners if fleet.waker.waking(each)]
        if not place.wol_sent and waking:
            fleet.waker.send(waking[0])
            place.wol_sent = True
        original(place)

    fleet.router.wake_for = wake_for  # type: ignore[method-assign]


def send_packet_needlessly(fleet: FleetGateway) -> None:
    """Every request that a runner serves at once sends a packet all the same."""
    original = fleet.router._assign

    def assign(place: Place, runner: Runner) -> None:
        fleet.waker.send(fleet.registry.runners[-1])
        place.wol_sent = True
        original(place, runner)

    fleet.router._assign = assign  # type: ignore[method-assign]


def send_to_all(fleet: FleetGateway, runner: Runner) -> None:
    """Every machine of the fleet is sent a packet."""
    for each in fleet.registry.runners:
        magic_packet.broadcast(magic_packet.build(each.mac), fleet.waker.port)


async def refuse_while_waking(
    fleet: FleetGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """The request that wakes a runner is refused instead of held."""
    fleet.user(request)
    if not fleet.registry.online:
        fleet.waker.wake(fleet.registry.runners[0])
        return web.Response(status=503, text="Runner is waking up, try again later")
    return await handler(request)


# --- lists


def lists_models(models: Callable[[FleetGateway], list[str]]) -> Install:
    """/v1/models lists these models instead of the true ones."""

    def setup(fleet: FleetGateway) -> None:
        fleet.registry.models = lambda: models(fleet)  # type: ignore[method-assign]

    return on_gateway(setup)
