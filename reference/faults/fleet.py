"""What the fleet's faults are made of; the faults themselves are in their scripts' modules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .. import magic, tokens
from ..fleet_routing import Place
from ..fleet_runners import Runner
from ..hooks import Answer, Hooks
from .parts import Install, around, instead

if TYPE_CHECKING:  # the gateway itself imports the faults
    from ..fleet import Fleet

Change = Callable[["Fleet", Answer, web.BaseRequest], Awaitable[web.StreamResponse]]
WRONG_MAC = "02:00:5e:00:00:fe"  # no runner has it


def on_fleet(change: Callable[[Fleet], None]) -> Install:
    """Change a part of the gateway before it serves."""
    return lambda hooks: hooks.setup.append(change)


def with_fleet(where: str, change: Change) -> Install:
    """`change` around an answer; its first argument is the gateway."""

    def install(hooks: Hooks) -> None:
        def setup(fleet: Fleet) -> None:
            around(where, functools.partial(change, fleet))(hooks)

        hooks.setup.append(setup)

    return install


def both(*installs: Install) -> Install:
    """All of these at once."""

    def install(hooks: Hooks) -> None:
        for each in installs:
            each(hooks)

    return install


def is_class(model: object) -> bool:
    return str(model).startswith("class:")


def plain(where: str, status: int, text: str = "planted") -> Install:
    """A plain-text error in the place of `where`."""
    return instead(where, status=status, text=text)


# --- tokens and roles


def policy(**changes: Any) -> Install:
    """A verifier with these fields of its policy changed."""

    def change(fleet: Fleet) -> None:
        fleet.verifier.policy = dataclasses.replace(fleet.verifier.policy, **changes)

    return on_fleet(change)


def hs256_with_public_key(fleet: Fleet) -> None:
    """The published key is good for HS256, too (RFC 8725 2.1)."""
    secrets = (tokens.public_pem(fleet.verifier.key),)
    fleet.verifier.policy = dataclasses.replace(fleet.verifier.policy, hs256_secrets=secrets)


def decide(permission: str, decision: Callable[[tokens.User], bool]) -> Install:
    """Another answer to `may_ask_specific` or `may_administer`."""
    return on_fleet(lambda fleet: setattr(fleet, permission, decision))


# --- models and runners


def names_model(name: Callable[[Place], str]) -> Install:
    """Answers name this model, whatever it was."""
    return on_fleet(lambda fleet: setattr(fleet, "answered_model", name))


def resolves(change: Callable[[str], str]) -> Install:
    """What a model was resolved to, permissions and all, is changed to something else."""

    def setup(fleet: Any) -> None:
        sound = fleet.resolve
        fleet.resolve = lambda user, model: change(sound(user, model))

    return on_fleet(setup)


def refuses(status: int, text: str, whom: Callable[[tokens.User, str], object]) -> Install:
    """A refusal for those users who ask for such a model."""

    def setup(fleet: Any) -> None:
        from ..fleet import Refusal  # it imports the faults itself

        sound = fleet.resolve

        def resolve(user: tokens.User, model: object) -> str:
            if whom(user, str(model)):
                raise Refusal(status, text)
            wanted: str = sound(user, model)
            return wanted

        fleet.resolve = resolve

    return on_fleet(setup)


def chooses(choice: Callable[[list[Runner], str], Runner | None]) -> Install:
    """Another choice among the online runners that can serve."""

    def setup(fleet: Any) -> None:
        fleet.router.choose = lambda able, wanted: choice(list(able), wanted)

    return on_fleet(setup)


# --- Wake-on-LAN


def sends(send: Callable[[Fleet, Runner], None]) -> Install:
    """Something else than the magic packet goes out to wake a runner."""

    def setup(fleet: Any) -> None:
        fleet.waker.send = functools.partial(send, fleet)

    return on_fleet(setup)


def no_packet(fleet: Fleet, runner: Runner) -> None:
    """Nothing is sent, and nothing wakes."""


def unheard(fleet: Fleet, runner: Runner) -> None:
    """It wakes, but no packet is heard here: a relay in its own segment."""
    runner.tell_to_wake()


def wrong_mac(fleet: Fleet, runner: Runner) -> None:
    magic.broadcast(magic.magic_packet(WRONG_MAC), fleet.waker.port)


def malformed(fleet: Fleet, runner: Runner) -> None:
    """15 repetitions of the MAC instead of 16."""
    magic.broadcast(magic.magic_packet(runner.mac)[:-6], fleet.waker.port)


def and_wakes(send: Callable[[Fleet, Runner], None]) -> Callable[[Fleet, Runner], None]:
    """`send`, and the runner wakes all the same."""

    def send_and_wake(fleet: Fleet, runner: Runner) -> None:
        send(fleet, runner)
        runner.tell_to_wake()

    return send_and_wake


def packet_each_request(fleet: Any) -> None:
    """Every request that waits for a runner sends a packet of its own."""
    sound = fleet.router.wake_for

    def wake_for(place: Place) -> None:
        if not place.wol_sent and any(map(fleet.waker.waking, fleet.registry.runners)):
            runner = next(filter(fleet.waker.waking, fleet.registry.runners))
            fleet.waker.send(runner)
        sound(place)

    fleet.router.wake_for = wake_for


async def refused_while_waking(
    fleet: Fleet, answer: Answer, request: web.BaseRequest
) -> web.StreamResponse:
    """The request that wakes a runner is refused instead of held."""
    fleet.user(request)
    if not fleet.registry.online:
        fleet.waker.wake(fleet.registry.runners[0])
        return web.Response(status=503, text="Runner is waking up, try again later")
    return await answer(request)
