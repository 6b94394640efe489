"""The places where a planted fault can take hold of a deployment. Without faults all are empty."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Wrapper = Callable[[Answer, web.BaseRequest], Awaitable[web.StreamResponse]]
Chunks = AsyncIterator[bytes]


class Reset(Exception):
    """Raised by a stream filter: break the client's connection with a TCP reset."""


@dataclass
class Hooks:
    """What faults have planted.

    around: wrappers of an answer, by its name: "all" (everything the gateway says), "health",
        "metrics", "models", "inference" (credentials, limits and queue included) and
        "backend" (what the engine said, behind all that). The GGUF gateway has "ping" besides;
        the fleet "runners" and "requests" (its admin API) and "jwks". In "backend" the fleet's
        `request["place"]` tells the runner and the model.
    head: changes the headers of a stream before they are sent.
    stream: changes the bytes of a stream on their way.
    setup: gets the finished gateway before it serves, to replace a part of it.

    What is worth replacing in the fleet's gateway (a `fleet.Fleet`):

    verifier.policy: what is asked of a token (`tokens.Policy`, a field for each weakness).
    user, may_ask_specific, may_administer: who sent a request, and what that user may do.
    resolve: what a request's `model` stands for. answered_model: the model an answer names.
    router.choose: which of the online runners serves. router.wake_for: whom a request wakes.
    waker.send, waker.packet: how a runner is woken. `Runner.tell_to_wake` wakes it unheard.
    registry.models, registry.online, Runner.as_dict, log.add: what lists and logs say.
    """

    around: dict[str, list[Wrapper]] = field(default_factory=lambda: defaultdict(list))
    head: list[Callable[[CIMultiDict[str]], None]] = field(default_factory=list)
    stream: list[Callable[[Chunks], Chunks]] = field(default_factory=list)
    setup: list[Callable[[Any], None]] = field(default_factory=list)

    def wrap(self, name: str, answer: Answer) -> Answer:
        for wrapper in self.around.get(name, ()):
            answer = functools.partial(wrapper, answer)
        return answer

    def filtered(self, chunks: Chunks) -> Chunks:
        for change in self.stream:
            chunks = change(chunks)
        return chunks
