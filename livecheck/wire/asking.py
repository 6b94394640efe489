"""Asking: send requests, keep every answer, and stop when more requests are useless.

A script makes one Asker for each way that it talks to the deployment. Whatever ends the asking, an
interruption as well, the answers that were begun are kept. Each reason to stop has one wording.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from livecheck.core.address import Address
from livecheck.core.checks import ADDRESSES, Check
from livecheck.core.run import Run
from livecheck.wire import dialect
from livecheck.wire.answer import Answer
from livecheck.wire.coding_check import note_coding
from livecheck.wire.condensing import Condenser
from livecheck.wire.connection import (
    CERTIFICATE_REFUSED,
    CERTIFICATE_WANTED,
    NO_HTTP_1,
    TLS_CLOSED,
    TLS_SILENT,
)
from livecheck.wire.error_words import error_in
from livecheck.wire.hosts import WATCHED_S, Hosts
from livecheck.wire.model_choice import confirm_choice
from livecheck.wire.proxy_doubt import confirm_passage
from livecheck.wire.spool import Spool
from livecheck.wire.wire import Reply, Request, Target, Wire


class Cause(Enum):
    """Why nothing more is sent, in a few words."""

    RATE_LIMIT = "a rate limit is reached"
    CREDENTIAL = "this program is not let in"
    SILENT = "the server does not answer in time"
    FLOOD = "the server does not stop sending"
    UNREACHABLE = "no connection can be opened"
    USAGE = "the server refuses stream_options"
    FAILING = "every request fails"
    TIME = "the time for all levels is over"
    ENDPOINT = "the server has no such endpoint"


LIMIT_WINDOW_S = 60.0  # of a rate limit that does not say when it is over: most count by the minute
SERVED = range(200, 300)  # statuses of a request that the deployment has served
# As long as nothing was completed, so many of the first answers of an exchange stay whole: they may
# tell why nothing can be.
MOST_WHOLE = 1000
GONE = Reply(-1, Request("", ""))  # in the place of a reply of which only the extract is kept

COSTLY = (Cause.SILENT, Cause.FLOOD)  # each further request costs the whole timeout
OF_A_FAILURE = {
    "timeout": Cause.SILENT,
    "flood": Cause.FLOOD,
    "connect": Cause.UNREACHABLE,
    "tls": Cause.UNREACHABLE,
}


UP = "is the server up? try --url"
PLAIN = "is it plain http? try an http:// URL"
HINTS = {"truncated": "does it speak HTTP there, or is it https?", "tls": PLAIN}  # by kind
HINTS_BY_WORDS = {  # what a failure says, and what to do; the first that fits
    CERTIFICATE_WANTED: "give --cert FILE",
    CERTIFICATE_REFUSED: "give --cert FILE with one of an authority that the server trusts",
    "certificate not accepted": "--ca-file FILE or SSL_CERT_FILE trusts a private CA, "
    "--no-verify-ssl accepts any certificate",
    NO_HTTP_1: "let it offer HTTP/1.1 too, or use a proxy in front that does",
    TLS_CLOSED: PLAIN,
    TLS_SILENT: PLAIN,
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


def recognise_limit(run: Run, answer: Answer, alone: bool) -> None:
    """Note whether a 503 is about this request, or may be the limit of a proxy; and whether the
    deployment has served anything until now.

    `alone`: no other request of the run was in flight. A proxy that limits the rate of requests
    refuses with a 503 and a page of its own (nginx's default), and so it does when the server
    behind it went away. After other requests of the run were served, a single one cannot tell the
    two apart. A deployment that has served nothing in this run is broken, whatever it sends.
    """
    answer.may_be_limit = alone and run.has_served and answer.looks_like_limit
    if answer.is_rate_limited:
        wait_s = answer.retry_after_s
        run.rate_limit_wait_s = LIMIT_WINDOW_S if wait_s is None else wait_s
    is_served = answer.failure is None and answer.status in SERVED
    run.has_served = run.has_served or is_served
    if is_served and answer.request.method == "POST" and not run.has_completed:
        found = answer.stream_error if answer.is_stream else error_in(answer.json)
        run.has_completed = found is None


def take_note(run: Run, answer: Answer, alone: bool) -> None:
    """What is noted of each answer as it comes; `alone` as for `recognise_limit`."""
    recognise_limit(run, answer, alone)
    note_coding(run, answer)


def note_failures(run: Run, answers: Iterable[Answer]) -> None:
    """Note those that failed whatever was asked, for checks that name no answer. Not while requests
    run: what is kept of an answer takes time."""
    for answer in answers:
        if answer.failure is not None or (answer.status or 0) >= 500:
            run.noted.add(answer)


def rate_limit_words(answer: Answer) -> str:
    """The line for a reached rate limit: what the server said, when to come back, what to do."""
    wait = answer.shown_header("retry-after")
    limit = f"{answer.status} {answer.words}".rstrip()
    limit = f"{limit}, Retry-After {wait}" if wait else f"{limit}, without Retry-After"
    if answer.status == 429:
        return f"the rate limit is reached ({limit}): wait, or raise the limit"
    return (
        f"a single request was refused after others were served ({limit}), which may be a rate "
        "limit: look at the proxy's limits (limit_req, limit_conn, maxconn), or whether the server "
        "behind the proxy went away"
    )


def unreachable(url: str, answer: Answer) -> str:
    """The line for a deployment that cannot be reached, and what to do."""
    failure = answer.failure
    if failure is None:
        return f"cannot reach {url} (no answer): {UP}"
    hint = HINTS.get(failure.kind, UP)
    if failure.kind == "truncated" and url.startswith("https:"):
        hint = "it closed the connection after the TLS handshake: does it ask for a client "
        hint += "certificate (--cert FILE)?"
    hint = next((text for words, text in HINTS_BY_WORDS.items() if words in failure.text), hint)
    if answer.reply.proxy and failure.kind != "tls":
        hint = answer.reply.proxy.advice
    return f"cannot reach {url} ({failure.text}): {hint}"


def show(run: Run, answer: Answer, name: str | None = None) -> None:
    """A line for --verbose, the beginning of the answer for --debug."""
    what = name or f"{answer.request.method} {answer.request.path}"
    run.verbose(f"{what}: {answer.outcome(timed=True)}")
    if run.args.debug:  # else the body of each answer would be kept a second time
        run.debug(f"  {answer.body[:300]!r}")


def fetch(run: Run, wire: Wire, request: Request, name: str | None = None) -> Answer:
    """Send one request that no Asker has to keep."""
    answer = Answer(wire.exchange([request])[0])
    take_note(run, answer, alone=True)
    answer.read_if_large()
    note_failures(run, [answer])
    show(run, answer, name)
    confirm_passage([answer])
    return answer


@contextlib.contextmanager
def open_wire(
    run: Run,
    token: str | None = None,
    timeout_s: float | None = None,
    url: str | Address | None = None,
) -> Iterator[Wire]:
    """A wire to the deployment, or to another `url`, with the run's settings.

    `token` goes along with every request; the result files say which clock was used. The client
    certificate of --cert is for the origin of --url only.
    """
    address = run.address if url is None else url if isinstance(url, Address) else None
    base = url if isinstance(url, str) else address.root if address else run.url
    verify, ca_file = not run.args.no_verify_ssl, run.args.ca_file
    own = base.split("/")[:3] == run.url.split("/")[:3]  # no other origin is shown a certificate
    certificate = run.certificate if own else None
    target = Target(base, token, verify, ca_file, address, hosts_of(run), certificate)
    tell_proxy(run, target, is_deployment=url is None)
    limit_s = run.args.timeout if timeout_s is None else timeout_s
    speaks = dialect.of_run(run) if url is None else dialect.of_server(run)
    with Wire(target, limit_s, dialect=speaks) as wire:
        run.client["clock"] = run.client["clock"] or wire.clock
        try:
            yield wire
        finally:
            if url is None:
                run.client["clock"] = wire.clock


def hosts_of(run: Run) -> Hosts:
    """What the run knows of the hosts that it connects to."""
    hosts: Hosts = run.notes.setdefault(ADDRESSES, Hosts())

    def judge() -> Check | None:
        wait_s = 0.0 if run.exit_code.is_interruption else WATCHED_S  # Ctrl-C: no time to lose
        return hosts.check(ADDRESSES in (run.args.only or ()), wait_s)

    run.late_checks[ADDRESSES] = judge
    return hosts


def tell_proxy(run: Run, target: Target, is_deployment: bool) -> None:
    """Say, once for each target, that a proxy lies in between; its password is not to be shown.
    CannotCheck when the proxy cannot be used."""
    proxy = target.proxy
    if proxy is None:
        return
    for secret in proxy.secrets:
        run.secrets.add(secret)
    if is_deployment:
        run.target["proxy"] = proxy.name
    if target.hosts.is_first_mention(target.host_and_port):
        run.note(
            f"{target.host_and_port} is asked through the proxy {proxy.name} of {proxy.variable}"
        )


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
        self._made: dict[int, Answer] = {}  # of the latest exchange, by index
        self._last: set[int] = set()  # indices of those that ended when it was stopped, or later

    @property
    def limited(self) -> Stop | None:
        """The reason to stop, if it is a rate limit."""
        is_limit = self.stopped is not None and self.stopped.cause is Cause.RATE_LIMIT
        return self.stopped if is_limit else None

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
        alone: bool | None = None,
        budget: int | None = None,
        spool: Spool | None = None,
    ) -> list[Answer]:
        """Send the requests, `at_once` in flight, and return the answers in the order of sending.

        `label`: shown as progress, with a step for each of `total` answers. `keep` gets the answers
        that were begun, also when the asking is interrupted. `name`: what --verbose calls a
        request. `keep_alive=False`: a new connection for each request. `due_s`: when each request
        of an open loop is due, as Wire.exchange has it. `alone`: whether no other request of the
        run is in flight with each of these; None: when they are sent one by one. `budget`: how many
        bytes the answers may have before those that have ended are condensed. `spool`: gets these,
        which are not among the answers that are returned and kept. CannotCheck when the model that
        was chosen for the run cannot chat, or when a proxy bars a request.
        """
        condenser = None if budget is None else self._condenser(budget, spool)
        send = functools.partial(self._send, requests, at_once, keep_alive, due_s, condenser)
        single = at_once == 1 and due_s is None if alone is None else alone
        progress = self.run.progress(label, total) if label else contextlib.nullcontext()
        with progress as step:

            def on_answer(answer: Answer) -> bool:
                called = name(answer) if name else None
                return self._take(answer, single, called, step, condenser)

            answers = self._answers_of(send, on_answer, keep)
        confirm_passage(answers)
        confirm_choice(self.run, answers)
        return answers

    def _send(
        self,
        requests: Iterable[Request],
        at_once: int,
        keep_alive: bool,
        due_s: Iterable[float] | None,
        condenser: Condenser | None,
        on_reply: Callable[[Reply], bool],
    ) -> None:
        spare = condenser.work if condenser else None
        self.wire.exchange(requests, at_once, on_reply, keep_alive, due_s, spare)
        if condenser:
            condenser.finish()

    def _condenser(self, budget: int, spool: Spool | None) -> Condenser:
        if spool is None:
            return Condenser(budget)
        return Condenser(budget, functools.partial(self._spool, spool), spool.look, spool.is_eager)

    def _answers_of(
        self,
        send: Callable[[Callable[[Reply], bool]], None],
        on_answer: Callable[[Answer], bool],
        keep: Callable[[list[Answer]], object] | None,
    ) -> list[Answer]:
        """What came of one exchange. All that was begun is kept, also when it is interrupted."""
        self._made, self._last = {}, set()
        made = self._made

        def on_reply(reply: Reply) -> bool:
            answer = made[reply.index] = Answer(reply)
            return on_answer(answer)

        self.wire.replies = []
        answers: list[Answer] = []
        try:
            if self.stopped is None:
                send(on_reply)
        finally:
            left = [each for each in self.wire.replies if each is not GONE]
            answers += [made.get(each.index) or Answer(each) for each in left]
            self.answers += answers
            note_failures(self.run, answers)
            if keep:
                keep(answers)
        return answers

    def _spool(self, spool: Spool, answer: Answer) -> None:
        """Put what is needed of a condensed answer into the spool, and forget the rest, unless the
        answer may tell why the asking was ended, or in vain."""
        index, is_good = answer.reply.index, answer.stream_error is None
        is_early = index < MOST_WHOLE and not self.run.has_completed
        if index in self._last or answer.is_barred or (is_early and not is_good):
            return
        if is_good:
            confirm_choice(self.run, [answer])  # takes note that the model can chat
        note_failures(self.run, [answer])
        spool.add(answer)
        self.wire.replies[index] = GONE
        self._made.pop(index, None)

    def _take(
        self,
        answer: Answer,
        alone: bool,
        name: str | None,
        step: Callable[[], object] | None,
        condenser: Condenser | None,
    ) -> bool:
        """Take in an answer that has just ended, and show it. Whether it is the last one to ask
        for."""
        take_note(self.run, answer, alone)
        if condenser is None:
            answer.read_if_large()
        show(self.run, answer, name)
        self.stopped = self.stopped or self.reason(answer)
        if self.stopped:
            self._last.add(answer.reply.index)
        if step:
            step()
        if condenser:
            condenser.add(answer)
        return self.stopped is not None
