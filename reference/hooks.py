"""The places where a planted fault can change a deployment. Without faults all of them are empty.

The gateways know these places and nothing about faults; the faults know these places and never
import a gateway. `python -m reference up --fault NAME` brings the two together.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Wrapper = Callable[[Handler, web.BaseRequest], Awaitable[web.StreamResponse]]
Chunks = AsyncIterator[bytes]


class ResetConnection(Exception):
    """Raised by a stream filter: the gateway ends the client's connection with a TCP reset."""


@dataclass
class Hooks:
    """What the planted faults have registered.

    around: wrappers of a handler, by the handler's name:
        "all": every answer of the gateway.
        "health", "metrics", "models": these endpoints.
        "inference": a chat completion, including credentials, limits and the queue.
        "backend": the engine's answer alone, after all of these.
        "ping": only in the GGUF gateway.
        "runners", "requests" (the admin API), "jwks": only in the fleet's gateway.
        In the fleet, `request["place"]` holds the runner and the model in "backend".
    stream_headers: change the headers of a stream before they are sent.
    stream_filters: change the bytes of a stream on their way to the client.
    setup: get the finished gateway before it serves, to replace a part of it. Which parts there
        are is written in `faults/gateway_parts.py`.
    exports: get what `up` is about to print, once the deployment serves, and give variables to
        print as well, or in the place of those.
    """

    around: dict[str, list[Wrapper]] = field(default_factory=lambda: defaultdict(list))
    stream_headers: list[Callable[[CIMultiDict[str]], None]] = field(default_factory=list)
    stream_filters: list[Callable[[Chunks], Chunks]] = field(default_factory=list)
    setup: list[Callable[[Any], None]] = field(default_factory=list)
    exports: list[Callable[[Mapping[str, str]], Mapping[str, str]]] = field(default_factory=list)

    def wrap(self, name: str, handler: Handler) -> Handler:
        """The handler inside its wrappers; the wrapper registered last is the outermost."""
        for wrapper in self.around.get(name, ()):
            handler = functools.partial(wrapper, handler)
        return handler

    def filtered(self, chunks: Chunks) -> Chunks:
        """The bytes of a stream after all filters."""
        for change in self.stream_filters:
            chunks = change(chunks)
        return chunks
