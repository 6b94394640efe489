"""The table of hostile behaviours: what a server does wrong, at every layer, and to whom.

A `Mechanism` is a way to misbehave. A `Case` is a mechanism at an endpoint, against a command.
`cases()` makes the table: every mechanism meets some commands, others each time, at one of the
endpoints that both know, and the dangerous ones (`everywhere`) meet all at all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helpers.hostile_server import Exchange, HostileServer

from hostile import answer_mechanisms, wire_mechanisms
from hostile.commands import COMMANDS, SECRETS, Command
from hostile.judge import ENDS, SPARE_S, complaints
from hostile.mechanism import ALL, LATER, Mechanism
from hostile.run import Ended, Pythons, run_against

LIMIT_S = 90.0  # of one run; then it is killed


@dataclass(frozen=True)
class Case:
    """A mechanism at an endpoint, and the command that meets it."""

    mechanism: Mechanism
    endpoint: str
    command: Command
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        where = "" if self.mechanism.meet else f" @ {self.endpoint}"
        return f"{self.mechanism.layer}: {self.mechanism.name}{where}"

    @property
    def allowed(self) -> frozenset[int]:
        """The exit codes that are right: not 0 where what the command exists for is broken."""
        known = self.command.reads if self.mechanism.in_body else self.command.needs
        needed = self.endpoint in known or (self.endpoint == ALL and bool(known))
        needed = needed or (self.endpoint == LATER and self.command.asks_again)
        if self.endpoint == "preflight" and self.mechanism.layer == "framing":
            needed = False  # it is answered 204, which has no body
        return ENDS - {0} if self.mechanism.breaks and needed else ENDS

    def meet(self, server: HostileServer, sock: socket.socket) -> bool:
        if self.mechanism.meet is None:
            return False
        self.mechanism.meet(server, sock)
        return True

    def concerns(self, exchange: Exchange) -> bool:
        if self.mechanism.act is None:
            return False
        if self.endpoint == LATER:
            # the first of each endpoint is sound
            return exchange.number > 0
        return self.endpoint in (ALL, exchange.endpoint)

    def act(self, exchange: Exchange) -> None:
        assert self.mechanism.act
        self.mechanism.act(exchange)


def cases(of_all_commands: bool = False) -> Iterator[Case]:
    """The table; `of_all_commands`: each mechanism meets each command that knows its endpoints."""
    commands = list(COMMANDS.values())
    for number, mechanism in enumerate(mechanisms()):
        begin = number % len(commands)
        turned = [*commands[begin:], *commands[:begin]]
        able = [(each, endpoints_of(mechanism, each)) for each in turned]
        able = [(command, known) for command, known in able if known]
        is_for_all = of_all_commands or mechanism.everywhere or mechanism.confirmed
        for turn, (command, known) in enumerate(able if is_for_all else able[: mechanism.commands]):
            options = OPTIONS[(number + turn) % len(OPTIONS)]
            if mechanism.tls and mechanism.meet:
                options += ("--no-verify-ssl",)
            chosen = known if mechanism.everywhere else [known[(number + turn) % len(known)]]
            for endpoint in chosen:
                yield Case(mechanism, endpoint, command, options)


def endpoints_of(mechanism: Mechanism, command: Command) -> list[str]:
    """Where this command can meet it."""
    if mechanism.meet:
        return [ALL]
    return [each for each in mechanism.on if each in command.uses | {ALL, LATER}]


OPTIONS: tuple[tuple[str, ...], ...] = ((), ("-v",), ("--output", "json"), ("--debug",))


@functools.cache
def mechanisms() -> list[Mechanism]:
    """Every one; each has a name of its own."""
    found = [
        each for maker in (*wire_mechanisms.MAKERS, *answer_mechanisms.MAKERS) for each in maker()
    ]
    names = [(each.layer, each.name) for each in found]
    assert len(names) == len(set(names)), "every mechanism has a name of its own"
    return found


def by_name(name: str, command: str) -> Case:
    """The case that a failure names. ValueError if there is none."""
    mechanism_name, _, endpoint = name.partition(" @ ")
    for mechanism in mechanisms():
        if f"{mechanism.layer}: {mechanism.name}" == mechanism_name:
            return Case(mechanism, endpoint or ALL, COMMANDS[command])
    raise ValueError(f"there is no behaviour {name!r}")


def run_case(case: Case, pythons: Pythons, spare_s: float = SPARE_S) -> tuple[Ended, list[str]]:
    """How the run ended, and what is wrong with that."""
    tls = case.mechanism.tls() if case.mechanism.tls else None
    ended = run_against(case.command, case, pythons, LIMIT_S, case.options, tls)
    # a behaviour that never came to act says nothing about the exit code
    allowed = case.allowed if ended.hits else case.allowed | {0}
    return ended, complaints(ended, allowed, SECRETS, spare_s)


def with_options(case: Case, options: Sequence[str]) -> Case:
    return dataclasses.replace(case, options=tuple(options))
