"""Faults that only some requests meet: `only(every(3), error_500("backend"))`."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from ..hooks import Chunks, Handler, Hooks, Wrapper
from .fault import Install

PLACES = "all health metrics models inference backend ping runners requests jwks".split()


@dataclass(frozen=True)
class Asked:
    """A request that comes to the place where a fault is planted.

    number: of the request among all that come to this place, from 1.
    fields: the JSON object in its body; empty if there is none.
    """

    request: web.BaseRequest
    number: int
    fields: dict[str, Any]


Condition = Callable[[Asked], object]


def only(condition: Condition, *installs: Install) -> Install:
    """Plant these faults for those requests alone for which `condition` is true.

    Of a fault in streams, the condition is decided at the place "backend". It can be nested:
    `only(streams, only(every(3), …))` is every third of the streams. A part of the gateway that a
    fault replaces (`on_gateway`) is replaced for every request.
    """

    def install(hooks: Hooks) -> None:
        faulty = Hooks()
        for each in installs:
            each(faulty)
        hooks.setup.extend(faulty.setup)
        for where in PLACES:  # all of them, because a setup plants only when the gateway is there
            hooks.around[where].append(_either(where, condition, faulty))
        hooks.stream_headers.append(functools.partial(_change_headers, faulty))
        hooks.stream_filters.append(functools.partial(_filtered, faulty))

    return install


# --- conditions


def every(period: int) -> Condition:
    return lambda asked: asked.number % period == 0


def after(count: int) -> Condition:
    """All except the first `count`."""
    return lambda asked: asked.number > count


def number_is(number: int) -> Condition:
    return lambda asked: asked.number == number


def streams(asked: Asked) -> bool:
    return asked.fields.get("stream") is True


def no_streams(asked: Asked) -> bool:
    return not streams(asked)


def given(name: str) -> Condition:
    """Those whose JSON has this field."""
    return lambda asked: name in asked.fields


def on_path(path: str) -> Condition:
    return lambda asked: asked.request.path == path


def on_runner(name: str) -> Condition:
    """Those that the fleet's runner of this name serves; only at the place "backend"."""
    return lambda asked: asked.request["place"].runner.name == name


def header_has(name: str, part: str) -> Condition:
    """Those with a header that has this part, whatever its case."""
    return lambda asked: part.lower() in asked.request.headers.get(name, "").lower()


# --- mechanism

_met: contextvars.ContextVar[tuple[Hooks, ...]] = contextvars.ContextVar("met", default=())


def _either(where: str, condition: Condition, faulty: Hooks) -> Wrapper:
    """The wrapper of one place: the faulty hooks, or the handler alone."""
    count = itertools.count(1)

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        has_streams = where == "backend" and (faulty.stream_filters or faulty.stream_headers)
        if not (faulty.around.get(where) or has_streams):
            return await handler(request)
        asked = Asked(request, next(count), await _fields(request))
        if not condition(asked):
            return await handler(request)
        token = _met.set((*_met.get(), faulty))
        try:
            return await faulty.wrap(where, handler)(request)
        finally:
            _met.reset(token)  # the next request of a kept connection has the same context

    return wrapper


def _is_met(faulty: Hooks) -> bool:
    return any(each is faulty for each in _met.get())


def _change_headers(faulty: Hooks, headers: CIMultiDict[str]) -> None:
    if _is_met(faulty):
        for change in faulty.stream_headers:
            change(headers)


def _filtered(faulty: Hooks, chunks: Chunks) -> Chunks:
    return faulty.filtered(chunks) if _is_met(faulty) else chunks


async def _fields(request: web.BaseRequest) -> dict[str, Any]:
    with contextlib.suppress(ValueError, web.HTTPException):
        if isinstance(found := json.loads(await request.read() or b"{}"), dict):
            return found
    return {}
