"""Answers made by hand, for tests of what a script makes of them."""

from __future__ import annotations

from livecheck.wire.answer import Answer
from livecheck.wire.http1 import Message
from livecheck.wire.wire import Failure, Reply, Request


def answer_to(request: Request, response: bytes = b"", failure: str | None = None) -> Answer:
    """The answer of a server that sent these bytes within a millisecond.

    `failure`: a kind of failure, as "timeout", of a request that got no whole answer.
    """
    message = Message(request.method)
    message.feed(response)
    message.eof()
    reply = Reply(0, request, t0_ns=0, message=message, end_ns=1_000_000)
    reply.secret = (request.secret or "").encode()
    if response:
        reply.reads, reply.stamps_ns, reply.lag_ns = [response], [1_000_000], [0]
    if failure:
        reply.failure = Failure(failure, "as the test wants it")
    return Answer(reply)
