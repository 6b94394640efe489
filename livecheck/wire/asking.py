"""Asking: send requests, keep every answer, and stop when more requests are useless.

A script makes one Asker for each way that it talks to the deployment. Whatever ends the asking, an
interruption as well, the answers that were begun are kept. Each reason to stop has one wording.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from livecheck.core.run import Run
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Reply, Request, Target, Wire


class Cause(Enum):
    """Why nothing more is sent, in a few words."""

    RATE_LIMIT = "the rate limit of the key is reached"
    CREDENTIAL = "the credential is refused"
    SILENT = "the server does not answer in time"
    FLOOD = "the server does not stop sending"
    UNREACHABLE = "no connection can be opened"
    USAGE = "the server refuses stream_options"
    FAILING = "every request fails"
    TIME = "the time for all levels is over"


COSTLY = (Cause.SILENT, Cause.FLOOD)  # each further request costs the whole timeout
OF_A_FAILURE = {
    "timeout": Cause.SILENT,
    "flood": Cause.FLOOD,
    "connect": Cause.UNREACHABLE,
    "tls": Cause.UNREACHABLE,
}


@dataclass(frozen=True)
class Stop:
    """The end of all asking: its cause, and one line with what was seen, where there is more."""

    cause: Cause
    text: str = ""

    def __str__(self) -> str:
        return self.text or self.cause.value


def reason_to_stop(
    answer: Answer, causes: Collection[Cause] = (Cause.RATE_LIMIT, *COSTLY)
) -> Stop | None:
    """Why no further request should be sent after this answer, among these causes."""
    if answer.is_rate_limited and Cause.RATE_LIMIT in causes:
        return Stop(Cause.RATE_LIMIT, rate_limit_words(answer))
    failure = answer.failure
    cause = OF_A_FAILURE.get(failure.kind) if failure else None
    if failure and cause and cause in causes:
        return Stop(cause, f"{answer.request.method} {answer.path}: {failure.text}")
    return None


def rate_limit_words(answer: Answer) -> str:
    """The line for a 429: what the server said of it, when to come back, and what to do."""
    said = "rate_limit_exceeded" if answer.is_rate_limited else answer.words
    wait = answer.shown_header("retry-after") or "none"
    limit = f"429 {said}".rstrip()
    return f"the rate limit is reached ({limit}, Retry-After {wait}): wait, or raise the limit"


def refused_credential(run: Run) -> str:
    """The line for a 401: which credential it is about, and what to do."""
    deployment = run.args.deployment
    kind, article = ("JWT", "a") if deployment.binary_variable else ("API key", "an")
    given = f"the {kind} was refused" if run.credentials.given else f"{article} {kind} is needed"
    option = "--token" if deployment.binary_variable else "--api-key"
    return f"{given} (401 from {run.url}): use {option} or set {deployment.token_variable}"


def unreachable(url: str, answer: Answer) -> str:
    """The line for a deployment that cannot be reached, and what to do."""
    failure = answer.failure
    hint = "is the server up? try --url"
    if failure and failure.kind == "truncated":
        hint = "does it speak HTTP there, or is it https?"
    if failure and failure.kind == "tls":
        hint = "is it plain http? try an http:// URL"
        if "certificate" in failure.text:
            hint = "--no-verify-ssl accepts any certificate"
    return f"cannot reach {url} ({failure.text if failure else 'no answer'}): {hint}"


def show(run: Run, answer: Answer, name: str | None = None) -> None:
    """A line for --verbose, the beginning of the answer for --debug."""
    what = name or f"{answer.request.method} {answer.request.path}"
    run.verbose(f"{what}: {answer.outcome(timed=True)}")
    run.debug(f"  {answer.body[:300]!r}")


def fetch(run: Run, wire: Wire, request: Request, name: str | None = None) -> Answer:
    """Send one request that no Asker has to keep."""
    answer = Answer(wire.exchange([request])[0])
    show(run, answer, name)
    return answer


@contextlib.contextmanager
def open_wire(
    run: Run, token: str | None = None, timeout_s: float | None = None, url: str | None = None
) -> Iterator[Wire]:
    """A wire to the deployment, or to another `url`, with the run's settings.

    `token` goes along with every request; the result files say which clock was used.
    """
    target = Target(url or run.url, token, verify=not run.args.no_verify_ssl)
    with Wire(target, run.args.timeout if timeout_s is None else timeout_s) as wire:
        run.client["clock"] = run.client["clock"] or wire.clock
        try:
            yield wire
        finally:
            if url is None:
                run.client["clock"] = wire.clock


class Asker:
    """Sends requests over one wire and keeps every answer in `answers`.

    `reason` says after each answer whether there is a reason to stop; once there is one, it stays
    in `stopped` and nothing more is sent.
    """

    def __init__(
        self, run: Run, wire: Wire, reason: Callable[[Answer], Stop | None] = reason_to_stop
    ):
        self.run, self.wire, self.reason = run, wire, reason
        self.answers: list[Answer] = []
        self.stopped: Stop | None = None

    def ask(
        self,
        requests: Iterable[Request],
        at_once: int = 1,
        *,
        label: str | None = None,
        total: int | None = None,
        keep: Callable[[list[Answer]], object] | None = None,
        name: Callable[[Answer], str] | None = None,
        keep_alive: bool = True,
        due_s: Iterable[float] | None = None,
    ) -> list[Answer]:
        """Send the requests, `at_once` in flight, and return the answers in the order of sending.

        `label`: shown as progress, with a step for each of `total` answers. `keep` gets the answers
        that were begun, also when the asking is interrupted. `name`: what --verbose calls a
        request. `keep_alive=False`: a new connection for each request. `due_s`: when each request
        of an open loop is due, as Wire.exchange has it.
        """
        made: dict[int, Answer] = {}
        progress = self.run.progress(label, total) if label else contextlib.nullcontext()
        with progress as step:

            def on_reply(reply: Reply) -> bool:
                answer = made[reply.index] = Answer(reply)
                return self._stops_after(answer, name(answer) if name else None, step)

            self.wire.replies = []
            answers: list[Answer] = []
            try:
                if self.stopped is None:
                    self.wire.exchange(requests, at_once, on_reply, keep_alive, due_s)
            finally:
                answers += [made.get(each.index) or Answer(each) for each in self.wire.replies]
                self.answers += answers
                if keep:
                    keep(answers)
        return answers

    def _stops_after(
        self, answer: Answer, name: str | None, step: Callable[[], object] | None
    ) -> bool:
        """Show an answer that has just ended. Whether it is the last one to ask for."""
        show(self.run, answer, name)
        self.stopped = self.stopped or self.reason(answer)
        if step:
            step()
        return self.stopped is not None
