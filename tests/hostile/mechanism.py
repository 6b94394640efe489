"""A way in which a server misbehaves, and the names of the places where it can do so."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers.hostile_server import Exchange, HostileServer

ALL = "all"  # every endpoint
LATER = "later"  # every endpoint, but not the first requests: the first contact succeeds
BODIES = ("models", "chat", "health", "metrics", "runners", "log", "jwks", "embeddings", "error")
STREAMS = ("stream",)
ANY = ("ping", *BODIES, *STREAMS, "preflight", "other", ALL, LATER)

Act = Callable[[Exchange], object]
Meet = Callable[[HostileServer, socket.socket], object]
Data = bytes | Callable[[], bytes]  # what is large is made when it is sent


def made(data: Data) -> bytes:
    return data if isinstance(data, bytes) else data()


@dataclass(frozen=True)
class Mechanism:
    """A way to misbehave. `breaks`: whether an endpoint that does so is broken for everybody.

    on: the endpoints where it makes sense. meet: it concerns the connection, not a request.
    everywhere: every command meets it at each of these endpoints. commands: how many commands meet
    it in the usual selection, because what it tries is the same code for all of them.
    """

    layer: str
    name: str
    act: Act | None = None
    on: Sequence[str] = ANY
    breaks: bool = False
    meet: Meet | None = None
    tls: Callable[[], ssl.SSLContext] | None = None
    in_body: bool = False  # only what the body says is wrong
    everywhere: bool = False
    commands: int = 3
    confirmed: bool = False  # one of the cases with which this table began
