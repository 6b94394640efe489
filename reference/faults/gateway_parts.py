"""The parts of the two gateways that a fault may use or replace.

The protocols describe `reference.gateway.Gateway` and `reference.fleet.Fleet` for the faults, which
never import these. A part that is a `Callable` here is a method there; a fault replaces it by
assigning another function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from aiohttp import web

from ..engine import Engine
from ..fleet_registry import Registry, Waker
from ..fleet_routing import Place, Router
from ..request_log import RequestLog
from ..settings import GatewaySettings
from ..slots import Slots
from ..telemetry import Counters
from ..token_verifier import User, Verifier


class RateLimit(Protocol):
    """Allows each key `limit` requests in `window_s` seconds."""

    limit: int
    window_s: float

    def allows(self, key: str) -> bool: ...


class GgufGateway(Protocol):
    """The gateway of the profile "gateway".

    authorize: raises a refusal for a request without an accepted key.
    cors_headers: the CORS headers for an origin. add_headers: adds them and others to an answer.
    """

    settings: GatewaySettings
    keys: Sequence[bytes]
    engine: Engine
    slots: Slots
    counters: Counters
    rate_limit: RateLimit
    authorize: Callable[[web.BaseRequest], None]
    cors_headers: Callable[[str | None], dict[str, str]]
    add_headers: Callable[[web.BaseRequest, web.StreamResponse], None]


class FleetGateway(Protocol):
    """The gateway of the profile "fleet".

    verifier: finds the user of a token; `verifier.policy` has a field for each weakness.
    registry: `models` and `online`. router: `choose` and `wake_for`. waker: `send`, `packet`.
    log: `add` is called for each request that has ended.
    user: who sent a request. may_ask_specific, may_administer: what that user may do.
    check_admin: raises a refusal unless an administrator sent the request.
    resolve: the model that a request asks for, after the permissions were checked.
    answered_model: the model that the answer names.
    ask_engine: the answer for the request with these JSON fields.
    break_off: ends a stream whose runner has failed, with these words.
    """

    verifier: Verifier
    registry: Registry
    router: Router
    waker: Waker
    log: RequestLog
    user: Callable[[web.BaseRequest], User]
    may_ask_specific: Callable[[User], bool]
    may_administer: Callable[[User], bool]
    check_admin: Callable[[web.BaseRequest], None]
    resolve: Callable[[User, object], str]
    answered_model: Callable[[Place], str]
    ask_engine: Callable[[web.BaseRequest, dict[str, Any], Place], Awaitable[web.StreamResponse]]
    break_off: Callable[[web.BaseRequest, web.StreamResponse, str], Awaitable[None]]
