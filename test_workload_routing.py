#!/usr/bin/env python3
"""Is the work spread over the runners, or does one of them do it all?

Sends one request alone, then --requests of them, --workers at once, finds out who served each, and
compares that with who could have. Who served is said by, first that tells: a response header, the
admin request log (which has no id to look for: ours are found by time, model and latency), the
answers' system_fingerprint, and last their model.

PASS: every request was served, and with several runners to choose from none got more than
--max-share of them while another was idle. Equal shares are not asked for: gateways prefer
machines, rightly.
Cost: --requests answers of at most --max-tokens and 1 before them (3 with --analyze-timing), each
over a connection of its own; up to about 30 short reads of the admin API, those of the log at most
--timeout in all. It wakes sleeping runners and loads them all: be alone on the fleet, or others'
requests may hide who served yours.

Examples:
    # 10 requests at once, as the guide has it
    python3 test_workload_routing.py --url https://host --token-binary ./get-token
    # enough of them to see shares
    python3 test_workload_routing.py --model class:fast --requests 40 --token-binary ./get-token
    # one after the other, to see where each goes
    python3 test_workload_routing.py --sequential --requests 15 --token-binary ./get-token
    # do they run at the same time, or wait for each other?
    python3 test_workload_routing.py --analyze-timing --token-binary ./get-token
    # a gateway that names the runner in a header of its own, as LiteLLM does; no admin API needed
    python3 test_workload_routing.py --runner-header x-litellm-model-id --expect-runners 2 \\
        --token sk-key
"""

from __future__ import annotations

import argparse
import bisect
import copy
import dataclasses
import math
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import common
from common import CannotCheck, Check, Run, Status
from livecheck.core.text import shorten
from livecheck.fleet import old_api as api
from livecheck.fleet.old_api import Entry, Runner
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.metrics import percentile
from livecheck.wire.records import is_rate_limit, ms, outcome, read_stream, status_kind

CHECKS = ("requests", "distribution", "expect_runners", "idle")
PROMPT = "Count from 1 to 30, in words."  # long enough an answer for requests to meet
# a header that tells of a runner by its very name
RUNNER_HEADERS = ("x-runner-id", "x-runner", "x-worker-id", "x-worker")
# and those that may as well tell of a proxy in front of all runners
PROXY_HEADERS = (
    "x-served-by",
    "x-backend",
    "x-backend-server",
    "x-upstream",
    "x-instance-id",
    "x-gateway-destination-endpoint-served",
)
# signs of a content delivery network, whose machines name themselves in X-Served-By
EDGE = re.compile(r"via|x-cache|x-timer|cf-ray|fastly-.*", re.IGNORECASE)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
ALONE_TIMES = 3  # requests one after the other, to know how long one takes
LAG_S = 5.0  # how long the log may take to show a request that has ended
POLL_S = 0.2
MORE_PAGES = 20  # of the log, beyond what our own requests fill
FAILED = re.compile(r"\b[45]\d\d\b|err|fail|time.?out|denied|refused|cancel", re.IGNORECASE)
CHANCE = 0.05  # a verdict that throwing dice would give more often than this is none
ALL_DIFFERENT = 4  # more answers than this, each another: not even --runner-header names runners
IDLE_SHARE = 0.5  # of a request: a runner that served too, without work for longer, was idle
FIT_MS, FIT_SHARE = 50.0, 0.1  # how well times in the log must fit ours, beside the latency
# how far off an entry of ours may be: the first of these within which there are enough
TOLERANCES_MS = (20.0, 50.0, 200.0)
NEIGHBOURS = 4  # requests that ended next, and may be taken for this one
Z_95 = 1.959964  # normal quantile of a 95 % interval
FLAT, LONE = 0.75, 1.5  # of those at once served together; served one by one
LONGEST_MODEL = 300  # characters of a name: it is compared with what runners offer
NAME, MODEL = 19, 17  # columns of the table

T = TypeVar("T")


def build_parser() -> common.Parser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, timeout_s=60)
    add = parser.add_argument_group("what to send, and to expect").add_argument
    number = common.whole_number(1)
    add("--model", default="class:fast", metavar="MODEL", help="what to ask for (%(default)s)")
    add("--requests", type=number, default=10, metavar="N", help="how many (default %(default)s)")
    add("--workers", type=number, default=10, metavar="N", help="at once (default %(default)s)")
    add("--sequential", action="store_true", help="one after the other; shares are not judged")
    add("--analyze-timing", action="store_true", help="did they run together, or wait?")
    add("--max-tokens", type=number, default=32, metavar="N", help="longest answer (%(default)s)")
    add("--runner-header", type=header_option, metavar="NAME", help="header that names the runner")
    add("--expect-runners", type=number, metavar="N", help="so many must have served")
    add(
        "--max-share",
        type=share_option,
        default=0.9,
        metavar="SHARE",
        help="most that one runner may get, 1: all (default %(default)s)",
    )
    return parser


def header_option(text: str) -> str:
    if not HEADER_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a header")
    return text.lower()


def share_option(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: above 0, at most 1")
    return value


# --- measure

ALONE, MEASURED = "alone", "measured"


@dataclass(frozen=True)
class Record:
    """What became of a request. Times in ms, from when the run's first one was sent."""

    index: int
    phase: str
    status: int | None
    error: str | None
    error_text: str | None
    excluded: bool  # says nothing of the deployment: rate limit, interrupted
    sent_ms: float | None
    ended_ms: float
    ttft_ms: float | None
    e2e_ms: float | None
    round_trip_ms: float
    model: str | None
    system_fingerprint: str | None
    headers: dict[str, str]  # those that may name who served
    edge: str | None = None  # the header of a content delivery network
    runner: str | None = None  # who served, once that is known

    @property
    def spent_ms(self) -> float:
        return self.ended_ms - (self.ended_ms if self.sent_ms is None else self.sent_ms)


@dataclass
class Seen:
    """All that was asked, answered and read; `stopped` says why the rest was not asked.

    runners: those online before and after, None when that cannot be read; offline: those that were
    not, changed: the rest. unread: why something could not be read. has_log: the log could be;
    first: the last lone request in it; entries: what came into it afterwards.
    """

    args: argparse.Namespace
    records: list[Record] = field(default_factory=list)
    stopped: str | None = None
    runners: list[Runner] | None = None
    offline: list[Runner] = field(default_factory=list)
    changed: list[Runner] = field(default_factory=list)
    unread: str | None = None
    has_log: bool = False
    first: Entry | None = None
    entries: list[Entry] = field(default_factory=list)

    def of_phase(self, phase: str) -> list[Record]:
        return [r for r in self.records if r.phase == phase and not r.excluded]

    @property
    def measured(self) -> list[Record]:
        return self.of_phase(MEASURED)

    @property
    def served(self) -> list[Record]:
        return [record for record in self.measured if record.error is None]

    @property
    def answered(self) -> list[Record]:
        """Also those that were sent alone."""
        return [record for record in self.of_phase(ALONE) + self.measured if record.error is None]

    @property
    def alone(self) -> Record | None:
        """The last of those sent alone: the first may have had to wake somebody."""
        return next(iter(self.of_phase(ALONE)[::-1]), None)

    @property
    def workers(self) -> int:
        return 1 if self.args.sequential else min(self.args.workers, self.args.requests)

    @property
    def models(self) -> set[str]:
        """The models that answered."""
        return {r.model for r in self.records if r.model and r.error is None}

    @property
    def able(self) -> list[Runner] | None:
        """The runners online that offer what was served; None when that is not known."""
        return None if self.runners is None else [r for r in self.runners if r.offers(self.models)]

    @property
    def listed(self) -> list[Runner]:
        """All that the admin API tells of."""
        return [*(self.runners or ()), *self.offline, *self.changed]

    def label(self, text: str) -> str:
        """How a runner is called here, whether `text` is its id or its name."""
        known = {each.id: each.name for each in self.listed}
        name = known.get(text, text)
        unique = list(known.values()).count(name) < 2
        return shorten(name if unique else text, api.NAME_LENGTH)

    def is_runner(self, text: str) -> bool:
        """Whether this is the id or the name of a runner."""
        return any(text in (each.id, each.name) for each in self.listed)


def make_record(reply: wire.Reply, phase: str, headers: Sequence[str], start_ns: int) -> Record:
    answer, t0_ns, failure = api.read_answer(reply), reply.t0_ns, reply.failure
    end_ns = reply.end_ns or t0_ns or start_ns
    output = read_stream(reply).output_ns if api.is_stream(reply) else []
    named = {name: reply.message.header(name) for name in headers}
    return Record(
        index=reply.index,
        phase=phase,
        status=reply.status,
        error=kind_of(reply) if answer.problem else None,
        error_text=answer.problem,
        excluded=is_rate_limit(reply) or (failure is not None and failure.kind == "interrupted"),
        sent_ms=ms(t0_ns - start_ns) if t0_ns else None,
        ended_ms=ms(end_ns - start_ns),
        ttft_ms=ms(output[0] - t0_ns) if output and t0_ns else None,
        e2e_ms=ms(end_ns - t0_ns) if t0_ns and not answer.problem else None,
        round_trip_ms=ms((reply.handshake.rtt_ns or 0) if reply.handshake else 0),
        model=shorten(answer.model, LONGEST_MODEL) if answer.model else None,
        system_fingerprint=shorten(answer.fingerprint) if answer.fingerprint else None,
        headers={name: clean(reply, value) for name, value in named.items() if value},
        edge=next((name for name, _ in reply.message.headers if EDGE.fullmatch(name)), None),
    )


def kind_of(reply: wire.Reply) -> str:
    if reply.failure is not None:
        return reply.failure.kind
    return "malformed" if reply.status == 200 else status_kind(reply.status or 0)


def clean(reply: wire.Reply, value: str) -> str:
    """A header's value in printable characters, without the credential."""
    blotted = reply.blotted(value.encode("latin-1", "replace")).decode("latin-1")
    return shorten(blotted, api.NAME_LENGTH)


def reason_to_stop(reply: wire.Reply) -> str | None:
    """The rate limit is used up, or the server costs too much time or memory to go on."""
    if is_rate_limit(reply):
        wait = clean(reply, reply.message.header("retry-after") or "none")
        return f"the rate limit (429 rate_limit_exceeded, Retry-After {wait})"
    if reply.failure and reply.failure.kind in ("timeout", "flood"):
        return f"{reply.request.path}: {outcome(reply, timed=False)}"
    return None


class Book:
    """The gateway's request log, as far as it is new. Reading it takes --timeout, all in all."""

    def __init__(self, admin: api.Admin):
        self._admin = admin
        self._left_s: float = admin.instrument.timeout_s
        self._known: set[str] = set()

    def mark(self) -> None:
        """What is there by now is not new any more. Raises Unreadable."""
        self._known |= {entry.id for entry in self._page(1)}

    def wait_for(self, count: int, models: Iterable[str]) -> list[Entry]:
        """The new entries, once so many for these models are there, and no more of them are
        coming; or after LAG_S. They are not new any more then. Raises Unreadable."""
        deadline_s, before = time.perf_counter() + LAG_S, -1
        while True:
            new = self._read(count)
            finished = sum(is_for(entry, models) and is_over(entry) for entry in new)
            settled = before == finished >= count
            if settled or time.perf_counter() > deadline_s:
                self._known |= {entry.id for entry in new}
                return new
            before = finished
            time.sleep(POLL_S)

    def _read(self, count: int) -> list[Entry]:
        """Page by page, the latest first, until one has something known on it."""
        found: dict[str, Entry] = {}
        most = count + MORE_PAGES * api.LOG_PAGE
        for page in range(1, MORE_PAGES + count // api.LOG_PAGE + 1):
            entries = self._page(page)
            new = {entry.id: entry for entry in entries if entry.id not in self._known}
            is_last = len(new) < len(entries) or not new.keys() - found.keys()
            found |= new
            if is_last or len(found) >= most:
                break
        return list(found.values())[:most]

    def _page(self, page: int) -> list[Entry]:
        """Raises Unreadable, also when all the reading takes too long."""
        instrument, begun_s = self._admin.instrument, time.perf_counter()
        usual_s, instrument.timeout_s = instrument.timeout_s, max(0.001, self._left_s)
        try:
            return self._admin.log(page)
        except api.Unreadable as error:
            if time.perf_counter() - begun_s < self._left_s:
                raise
            text = f"the admin log took more than {usual_s:g} s to read"
            raise api.Unreadable(text) from error
        finally:
            instrument.timeout_s = usual_s
            self._left_s -= time.perf_counter() - begun_s


def is_for(entry: Entry, models: Iterable[str]) -> bool:
    return entry.model is None or entry.model in models


def has_failed(entry: Entry) -> bool:
    return bool(FAILED.search(entry.status or ""))


def is_over(entry: Entry) -> bool:
    return entry.latency_ms is not None and (entry.runner_id is not None or has_failed(entry))


class Sender:
    """Sends the requests of this run and keeps what came back, also when interrupted."""

    def __init__(self, run: Run, instrument: wire.Wire, seen: Seen, token: str | None):
        self.run, self.instrument, self.seen, self.token = run, instrument, seen, token
        self.headers = header_names(run.args.runner_header)
        self.start_ns = 0  # when the first of all was sent

    def send(self, count: int, at_once: int, phase: str) -> wire.Reply | None:
        """The last answer; nothing more is begun once there is a reason to stop."""
        seen, args = self.seen, self.run.args
        # unique: some gateways send a prompt to whoever has its beginning in the cache
        prompts = [chat.unique(PROMPT) for _ in range(count)]
        bodies = [chat.completion(args.model, each, args.max_tokens) for each in prompts]
        how = "one after the other" if at_once == 1 else f"{at_once} at once"
        label = f"{requests(count)} to {args.model}, {how}"
        if phase == ALONE:
            label = f"one request to {args.model} alone"
        with self.run.progress(shorten(label, 80), count) as step:

            def on_reply(reply: wire.Reply) -> bool:
                chat.show(self.run, reply)
                seen.stopped = seen.stopped or reason_to_stop(reply)
                step()
                return seen.stopped is not None

            try:
                sent = [api.under(self.token, request) for request in bodies]
                # each on a connection of its own: some balancers go by connection
                self.instrument.exchange(sent, at_once, on_reply, keep=False)
            finally:
                for reply in self.instrument.replies:
                    self.start_ns = self.start_ns or reply.t0_ns or 0
                    record = make_record(reply, phase, self.headers, self.start_ns)
                    seen.records.append(dataclasses.replace(record, index=len(seen.records)))
        return next(iter(self.instrument.replies[::-1]), None)

    def consult(self, read: Callable[[], T], otherwise: T) -> T:
        """What the admin API says; why it does not is kept."""
        try:
            return read()
        except api.Unreadable as error:
            self.seen.unread = self.seen.unread or str(error)
            return otherwise


def is_asleep(reply: wire.Reply) -> bool:
    """No model is listed: no runner is online."""
    try:
        return not api.listed_models(reply)
    except api.Unreadable:
        return False  # that is not known


def expect_service(run: Run, reply: wire.Reply | None, asleep: bool) -> None:
    """CannotCheck when the first request was not served for want of a role or of patience."""
    args = run.args
    if reply is None:
        return
    if reply.status == 401:
        raise CannotCheck(chat.refused_credential(run))
    concrete = api.is_concrete(args.model)
    if concrete and api.is_denied(reply) and not run.credentials.has_binary:
        hint = f"it takes the role {api.SPECIFIC} (--token-binary), or --model class:fast"
        raise CannotCheck(f"{args.model}: {outcome(reply, timed=False)}: {hint}")
    if asleep and reply.failure and reply.failure.kind == "timeout":
        hint = "give it more (--timeout 180), or wake it before (test_wol.py)"
        raise CannotCheck(f"the fleet slept and did not wake in {args.timeout:g} s: {hint}")


def ask_all(run: Run, instrument: wire.Wire, seen: Seen) -> None:
    args, token = run.args, api.token_for(run, run.args.model)
    contact = api.meet(run, instrument, token)
    seen.stopped = reason_to_stop(contact)
    if seen.stopped:
        return
    sender, admin = Sender(run, instrument, seen, token), api.Admin(run, instrument)
    book = Book(copy.copy(admin))  # one may be readable without the other
    sender.consult(book.mark, None)
    times = ALONE_TIMES if args.analyze_timing and not args.sequential else 1
    for _ in range(times):
        reply = sender.send(1, 1, ALONE)
        expect_service(run, reply, is_asleep(contact))
        if seen.stopped or seen.records[-1].error:
            return
    models = {args.model, *seen.models}
    nothing: list[Entry] = []
    entries = sender.consult(lambda: book.wait_for(times, models), None)
    seen.has_log = entries is not None
    seen.first = latest([entry for entry in entries or () if is_for(entry, models)], seen.alone)
    before = sender.consult(admin.runners, None)
    sender.send(args.requests, seen.workers, MEASURED)
    if seen.first is not None:
        models |= seen.models
        wanted = len(seen.measured)
        seen.entries = sender.consult(lambda: book.wait_for(wanted, models), nothing)
    note_runners(seen, before, sender.consult(admin.runners, None))


def latest(entries: Sequence[Entry], record: Record | None) -> Entry | None:
    """The entry of the last lone request: the latest, or without times the most alike."""
    if not entries or record is None:
        return None
    if all(entry.at_s is not None for entry in entries):
        return max(entries, key=lambda entry: entry.at_s or 0.0)
    return min(entries, key=lambda entry: abs((entry.latency_ms or 0.0) - record.spent_ms))


def note_runners(
    seen: Seen, before: Sequence[Runner] | None, after: Sequence[Runner] | None
) -> None:
    """Who was online all the time, and who at no time."""
    if before is None or after is None:
        return
    online = [{runner.id for runner in each if runner.is_online} for each in (before, after)]
    seen.runners = [runner for runner in after if all(runner.id in ids for ids in online)]
    seen.offline = [runner for runner in after if not any(runner.id in ids for ids in online)]
    settled = [*seen.runners, *seen.offline]
    seen.changed = [runner for runner in after if runner not in settled]


# --- who served


@dataclass(frozen=True)
class Source:
    """Who served, as far as something tells.

    runners: by measured request, None where it does not tell. limits: what cannot be told from it;
    None when each name stands for one runner. doubt: why even different names may be of one.
    others: requests of others in the same time, by runner; rivals: those of them that could be
    ours, and ours theirs.
    """

    name: str
    runners: tuple[str | None, ...]
    limits: str | None = None
    others: Counter[str] = field(default_factory=Counter)
    rivals: Counter[str] = field(default_factory=Counter)
    doubt: str | None = None

    @property
    def counts(self) -> Counter[str]:
        return Counter(runner for runner in self.runners if runner is not None)

    @property
    def unknown(self) -> int:
        return self.runners.count(None)


def find_source(seen: Seen) -> Source:
    """The first source that names runners; else the first that tells at least two apart."""
    log = by_log(seen)
    found = [each for each in (by_header(seen), log, by_fingerprint(seen), by_model(seen)) if each]
    exact = [source for source in found if source.limits is None]
    several = [source for source in found if len(source.counts) > 1]
    nothing = Source("nothing", (None,) * len(seen.measured), "nothing tells who served")
    source = [*exact, *several, *found, nothing][0]
    if log and source is not log and all(map(seen.is_runner, source.counts)):
        return dataclasses.replace(source, others=log.others)
    return source


def by_header(seen: Seen) -> Source | None:
    """The operator's own header, else the one on the most answers, of equal ones the first."""
    own = seen.args.runner_header
    counts = Counter(name for record in seen.served for name in record.headers)
    found = [name for name in header_names(own) if counts[name] and may_name_runners(seen, name)]
    if not found:
        return None
    name = max(found, key=lambda each: (each == own, counts[each]))
    values = [record.headers.get(name) for record in seen.measured]
    known = {value for value in values if value}
    trusted = name in (own, *RUNNER_HEADERS) or len(known) > 1 or all(map(seen.is_runner, known))
    labels = tuple(seen.label(value) if value else None for value in values)
    limits = None if trusted else "it may name something in front of them"
    return Source(f"the header {name.title()}", labels, limits)


def header_names(own: str | None) -> list[str]:
    return [*dict.fromkeys([*([own] if own else []), *RUNNER_HEADERS, *PROXY_HEADERS])]


def may_name_runners(seen: Seen, name: str) -> bool:
    """Whether these may be runners: where the admin API lists those, only what it lists; never
    the machines of a network in front, nor what is new on each answer, a request's number."""
    values = [record.headers[name] for record in seen.answered if name in record.headers]
    if all(map(seen.is_runner, values)):
        return True
    is_own, differ = name == seen.args.runner_header, len(set(values)) == len(values)
    if differ and len(values) > (ALL_DIFFERENT if is_own else 1):
        return False
    if name == "x-served-by" and not is_own and any(record.edge for record in seen.answered):
        return False
    return is_own or seen.runners is None


def by_fingerprint(seen: Seen) -> Source | None:
    marks = [record.system_fingerprint for record in seen.answered]
    if None in marks or len(set(marks)) == len(marks):
        return None  # some servers make one up for each answer
    marked = tuple(record.system_fingerprint for record in seen.measured)
    limits = "runners of the same build and settings cannot be told apart"
    pairs = {(record.system_fingerprint, record.model) for record in seen.answered}
    doubt = None
    if len(pairs) == len(set(marks)) == len(seen.models):  # it goes with the model
        doubt = one_for_all(seen)
    if seen.runners is not None and len(seen.runners) < 2:
        doubt = "the admin API shows no two runners online"
    return Source("system_fingerprint", marked, limits, doubt=doubt)


def by_model(seen: Seen) -> Source | None:
    """The model that answered; it stands for a runner where only one offers it."""
    models = [record.model for record in seen.measured]
    if not any(models):
        return None
    offering = {m: [r for r in seen.runners or () if r.offers([m])] for m in models if m}
    if all(len(runners) == 1 for runners in offering.values()):
        only = {model: seen.label(runners[0].id) for model, runners in offering.items()}
        labels = tuple(only[model] if model else None for model in models)
        return Source("the answer's model, which one runner offers", labels)
    limits = "runners with the same model cannot be told apart"
    return Source("the answer's model", tuple(models), limits, doubt=one_for_all(seen))


def one_for_all(seen: Seen) -> str | None:
    """Why the models that answered may all have been one runner's."""
    if seen.runners is not None and len(seen.runners) < 2:
        return "the admin API shows no two runners online"
    runners = seen.runners or ()
    listed = {model for model in seen.models if any(each.offers([model]) for each in runners)}
    able = [seen.label(each.id) for each in runners if listed <= each.models]
    return f"{able[0]} alone could have been all of them" if able else None


# the admin log


@dataclass(frozen=True)
class Clue:
    """A time in an entry, and the same one as seen from here; None where it is missing.

    is_moment: it is on the server's clock, not a duration. lasted: what its latency is of ours.
    """

    theirs: Callable[[Entry], float | None]
    ours: Callable[[Record], float | None]
    lasted: Callable[[Record], float | None]
    is_moment: bool


def at_ms(entry: Entry) -> float | None:
    return None if entry.at_s is None else entry.at_s * 1e3


def at_and_latency_ms(entry: Entry) -> float | None:
    at = at_ms(entry)
    return None if at is None or entry.latency_ms is None else at + entry.latency_ms


def first_output_ms(record: Record) -> float | None:
    sent, ttft = record.sent_ms, record.ttft_ms
    return None if sent is None or ttft is None else sent + ttft


def ended_ms(record: Record) -> float:
    return record.ended_ms


def spent_ms(record: Record) -> float:
    return record.spent_ms


def ttft_ms(record: Record) -> float | None:
    return record.ttft_ms


def latency_ms(entry: Entry) -> float | None:
    return entry.latency_ms


# what a log's time and latency may be of: it does not say
CLUES = (
    Clue(at_and_latency_ms, ended_ms, spent_ms, is_moment=True),  # the begin, the whole
    Clue(at_ms, ended_ms, spent_ms, is_moment=True),  # the end, the whole
    Clue(at_and_latency_ms, first_output_ms, ttft_ms, is_moment=True),  # until the first output
    Clue(latency_ms, spent_ms, spent_ms, is_moment=False),
    Clue(latency_ms, ttft_ms, ttft_ms, is_moment=False),
)


def by_log(seen: Seen) -> Source | None:
    """Our requests among the new entries of the log."""
    models = {seen.args.model, *seen.models}
    fit = best_fit(seen, [each for each in seen.entries if is_for(each, models) and is_over(each)])
    if fit is None:
        return None
    found = [fit.pairs.get(record.index) for record in seen.measured]
    labels = [seen.label(each.runner_id) if each and each.runner_id else None for each in found]
    if not any(labels):
        return None
    ours = {entry.id for entry in fit.pairs.values()}
    others, rivals = Counter[str](), Counter[str]()
    for entry in seen.entries:
        if entry.id not in ours and entry.runner_id:
            others[seen.label(entry.runner_id)] += 1
            rivals[seen.label(entry.runner_id)] += entry in fit.alike
    return Source("the admin log", tuple(labels), None, others, +rivals)


@dataclass(frozen=True)
class Fit:
    """Entries of the log by the index of our request. `alike`: those that could be ours at all;
    `off_ms`: how far off the times are, by the median."""

    pairs: dict[int, Entry]
    alike: set[Entry]
    off_ms: float


def best_fit(seen: Seen, entries: Sequence[Entry]) -> Fit | None:
    """By the clue that fits best. Moments tell more than durations, as long as they fit."""
    if not (seen.measured and entries):
        return None
    limit_ms = max(FIT_MS, FIT_SHARE * statistics.median(map(spent_ms, seen.measured)))
    fits = [(clue, fit) for clue in CLUES if (fit := lay_over(seen, entries, clue))]
    moments = [fit for clue, fit in fits if clue.is_moment and fit.off_ms <= limit_ms]
    durations = [fit for clue, fit in fits if not clue.is_moment]
    return min(moments or durations, key=lambda fit: fit.off_ms, default=None)


def lay_over(seen: Seen, entries: Sequence[Entry], clue: Clue) -> Fit | None:
    """None when the log does not have this clue, or we have not."""
    shift = lag = 0.0
    if seen.first and seen.alone:  # the same request in both
        lag = (clue.lasted(seen.alone) or 0.0) - (seen.first.latency_ms or 0.0)
        if clue.is_moment:
            shift = (clue.theirs(seen.first) or 0.0) - (clue.ours(seen.alone) or 0.0)
    ours = [Ours(when, r) for r in seen.measured if (when := clue.ours(r)) is not None]
    theirs = [Theirs(t - shift, e) for e in entries if (t := clue.theirs(e)) is not None]
    if len(theirs) < len(entries) or len(ours) < len(seen.served):
        return None

    def lasted(record: Record) -> float:
        return (clue.lasted(record) or 0.0) - lag

    near = alike(ours, theirs, lasted)
    pairs = exchanged(match(ours, near), ours, near, lasted)
    own = {each.record.index: each.when for each in ours}
    their = {each.entry.id: each.when for each in near}
    off = [abs(own[index] - their[entry.id]) for index, entry in pairs.items()]
    return Fit(pairs, {each.entry for each in near}, statistics.median(off)) if off else None


class Ours(NamedTuple):
    """A request of ours, and the time it is to be found by (ms)."""

    when: float
    record: Record


class Theirs(NamedTuple):
    """An entry, and the same time by our clock (ms)."""

    when: float
    entry: Entry


def alike(
    ours: Sequence[Ours], theirs: Sequence[Theirs], lasted: Callable[[Record], float]
) -> Sequence[Theirs]:
    """Those that could be ours: time and latency are about those of one of ours."""
    ordered = sorted(ours, key=lambda each: each.when)
    times = [each.when for each in ordered]
    for within_ms in TOLERANCES_MS:

        def is_alike(each: Theirs, within_ms: float = within_ms) -> bool:
            first = bisect.bisect_left(times, each.when - within_ms)
            last = bisect.bisect_right(times, each.when + within_ms)
            latency = each.entry.latency_ms or 0.0
            near = ordered[first:last]
            return any(abs(lasted(one.record) - latency) <= within_ms for one in near)

        found = [each for each in theirs if is_alike(each)]
        if len(found) >= len(ours):
            return found
    return theirs


def match(ours: Sequence[Ours], theirs: Sequence[Theirs]) -> dict[int, Entry]:
    """Entries by the index of the request they are most likely about: what succeeded with what
    succeeded first, then what failed, then the rest."""
    pairs: dict[int, Entry] = {}
    for good, bad in ((True, False), (False, True), (True, True)):
        taken = {entry.id for entry in pairs.values()}
        mine = [e for e in ours if e.record.index not in pairs]
        mine = [e for e in mine if (bad if e.record.error else good)]
        left = [e for e in theirs if e.entry.id not in taken]
        left = [e for e in left if (bad if has_failed(e.entry) else good)]
        for a, b in align([each.when for each in mine], [each.when for each in left]):
            pairs[mine[a].record.index] = left[b].entry
    return pairs


def exchanged(
    pairs: dict[int, Entry],
    ours: Sequence[Ours],
    theirs: Sequence[Theirs],
    lasted: Callable[[Record], float],
) -> dict[int, Entry]:
    """Of requests that ended about together, those the other way round whose latencies say so."""
    own = {each.record.index: each for each in ours}
    their = {each.entry.id: each.when for each in theirs}
    found = dict(pairs)

    def off(index: int, entry: Entry) -> float:
        time_off = abs(own[index].when - their[entry.id])
        return time_off + abs(lasted(own[index].record) - (entry.latency_ms or 0.0))

    order = sorted(pairs, key=lambda index: own[index].when)
    for n, one in enumerate(order):
        for other in order[n + 1 : n + 1 + NEIGHBOURS]:
            a, b = found[one], found[other]
            is_alike = (own[one].record.error is None) == (own[other].record.error is None)
            if is_alike and off(one, b) + off(other, a) < off(one, a) + off(other, b):
                found[one], found[other] = b, a
    return found


def align(mine: Sequence[float], theirs: Sequence[float]) -> list[tuple[int, int]]:
    """Indices of both, paired so that the sum of differences is least, all of the shorter one.

    Sorted, pairs that cross are never better: the n-th of the shorter goes with the n-th of the
    longer or one of as many after it as are to be left out. Each row needs only the row before.
    """
    if len(mine) > len(theirs):
        return [(a, b) for b, a in align(theirs, mine)]
    rows = sorted(range(len(mine)), key=mine.__getitem__)
    columns = sorted(range(len(theirs)), key=theirs.__getitem__)
    spare = len(columns) - len(rows)
    best, taken = [0.0] * (spare + 1), []  # by how many may have been left out so far
    for n, row in enumerate(rows):
        sums, marks, least = [], bytearray(spare + 1), math.inf
        for left_out in range(spare + 1):
            paired = best[left_out] + abs(mine[row] - theirs[columns[n + left_out]])
            if paired < least:
                least, marks[left_out] = paired, 1
            sums.append(least)
        best = sums
        taken.append(marks)
    pairs, left_out = [], spare
    for n in reversed(range(len(rows))):
        left_out = taken[n].rindex(1, 0, left_out + 1)
        pairs.append((rows[n], columns[n + left_out]))
    return pairs


# --- judge


@dataclass(frozen=True)
class Case:
    """What is judged: the answers, and who gave them."""

    seen: Seen
    source: Source

    @property
    def roster(self) -> list[str]:
        """Those who served, and those who could have."""
        able = [self.seen.label(runner.id) for runner in self.seen.able or ()]
        counts = self.source.counts
        if not set(counts) <= {self.seen.label(each.id) for each in self.seen.runners or ()}:
            able = []  # the source has other names for them
        return [*dict.fromkeys([*sorted(counts, key=lambda name: -counts[name]), *sorted(able)])]

    @property
    def candidates(self) -> int:
        """How many runners there were to choose from."""
        return max(len(self.source.counts), len(self.seen.able or ()))

    def of(self, runner: str | None) -> list[Record]:
        pairs = zip(self.seen.measured, self.source.runners, strict=True)
        return [record for record, served in pairs if served == runner]


def undecided(name: str, reason: str) -> Check:
    return Check(name, Status.SKIP, reason, essential=True)


def check_requests(case: Case) -> Check:
    """Each was answered with content: also the one that was sent alone before."""
    seen = case.seen
    failed = Counter(failures(case, seen.of_phase(ALONE)) + failures(case, seen.measured))
    asked = len(seen.of_phase(ALONE)) + len(seen.measured)
    evidence = {"requests": asked, "failed": failed.total()}
    if failed:
        told = "; ".join(f"{n} x {text}" if n > 1 else text for text, n in failed.most_common())
        rest = "" if seen.measured else "; nothing else was asked"
        detail = f"{failed.total()} of {asked} failed: {told}{rest}"
        return Check("requests", Status.FAIL, detail, evidence)
    if seen.stopped and any(record.excluded for record in seen.records):
        return undecided("requests", f"{asked} answered, the rest not asked: {seen.stopped}")
    if seen.stopped:
        return Check("requests", Status.FAIL, f"nothing was asked: {seen.stopped}", evidence)
    detail = f"{asked} of {asked} answered with content"
    return Check("requests", Status.PASS, detail, evidence)


def failures(case: Case, records: Sequence[Record]) -> list[str]:
    """The words for each failure, and by whom."""
    measured = (record.index for record in case.seen.measured)
    by = dict(zip(measured, case.source.runners, strict=True))
    told = ((r.error_text, by.get(r.index)) for r in records if r.error)
    return [f"{text} (by {runner})" if runner else str(text) for text, runner in told]


def check_distribution(case: Case) -> Check:
    """None got more than --max-share, if there were several and they had anything to share."""
    seen, source = case.seen, case.source
    if reason := cannot_tell(case):
        return undecided("distribution", reason)
    if seen.args.sequential:
        reason = f"reported, not judged: one at a time ({shares(case)})"
        return Check("distribution", Status.SKIP, reason)
    top, count = source.counts.most_common(1)[0]
    total, limit = len(seen.measured), seen.args.max_share
    evidence = {"runner": top, "requests": count, "of": total, "max_share": limit}
    evidence |= {"runners_to_choose_from": case.candidates}
    surely = max(0, count - (source.rivals.total() - source.rivals[top]))
    perhaps = min(total, count + source.rivals[top] + source.unknown)
    if perhaps / total <= limit:
        detail = f"{shares(case)}; {seen.workers} at once"
        return Check("distribution", Status.PASS, detail, evidence)
    if surely / total <= limit:
        reason = f"{top} served between {surely} and {perhaps} of {total}: {unclear(source)}"
        return undecided("distribution", reason)
    if reason := is_excused(case, top):
        return undecided("distribution", reason)
    if not (idle := idle_beside(case, top)):
        return Check("distribution", Status.PASS, never_idle(case, top), evidence)
    evidence["idle"] = idle
    return Check("distribution", Status.FAIL, over_share(case, top), evidence)


def cannot_tell(case: Case) -> str | None:
    """Why nothing can be said of who served."""
    seen, source = case.seen, case.source
    if len(seen.measured) < seen.args.requests and seen.stopped:
        return f"{len(seen.measured)} of {requests(seen.args.requests)}: {seen.stopped}"
    if not seen.served:
        return "no request was served"
    if not source.counts:
        return f"nothing tells who served ({seen.unread or 'no source'})"
    if source.doubt and len(source.counts) > 1:
        told = f"{shares(case)}, as {source.name} tells, but {source.doubt}"
        return told + better_source(seen)
    if source.limits and len(source.counts) == 1:
        (name,) = source.counts
        return f"all by {name}, as {source.name} tells, and {source.limits}{better_source(seen)}"
    return None


def better_source(seen: Seen) -> str:
    """What to do to know more."""
    if seen.first is not None:
        return ": --runner-header would tell"
    if seen.has_log:
        return ": the admin log does not show our requests; --runner-header would tell"
    why = f" ({seen.unread})" if seen.unread else ""
    return f": the admin log would tell{why}, or --runner-header"


def unclear(source: Source) -> str:
    reasons = []
    if source.unknown:
        reasons.append(f"{source.unknown} could not be attributed")
    if source.rivals:
        reasons.append(f"others' requests that look the same in the log: {source.rivals.total()}")
    return f"{' and '.join(reasons)}: try again when it is quiet"


def is_excused(case: Case, top: str) -> str | None:
    """Why it may be right that one runner served so many."""
    seen, source = case.seen, case.source
    total, candidates = len(seen.measured), case.candidates
    if source.limits:
        return f"{shares(case)}, but {source.limits}{better_source(seen)}"
    if candidates < 2:
        return alone_because(seen, top)
    chance = candidates ** (1 - total)  # of all by the same one
    if chance > CHANCE:
        text = f"{total} by {top}, as by chance in {percent(chance)} of runs with {candidates}"
        return f"{text} runners: use --requests 10 or more"
    if most_at_once(case.of(top)) < 2:
        hint = "use --workers 2 or more" if seen.workers < 2 else "use more --max-tokens"
        return f"{top} never had two requests at once, so another was never needed: {hint}"
    everyone = total + source.others.total()
    if (source.counts[top] + source.others[top]) / everyone <= seen.args.max_share:
        busy = f"the others had {requests(source.others.total() - source.others[top])} of others"
        return f"{top} served {source.counts[top]} of {total}, but {busy}: try when it is quiet"
    return None


def alone_because(seen: Seen, top: str) -> str:
    """Why nobody but this runner is known that could have served."""
    if seen.runners is None:
        reason = f"nothing tells whether there are others ({seen.unread or 'no admin API'})"
        return f"all by {top}, and {reason}: --expect-runners N says so"
    models = shorten(", ".join(sorted(seen.models)))
    if not seen.able:
        return f"all by {top}, and no runner lists {models}: --expect-runners N says how many do"
    told, others = "the only runner online", len(seen.runners) - 1
    if others:
        told = f"the only one online with {models}"
        told += f" (with other models: {others}; --expect-runners N, if they should share)"
    if asleep := [runner.name for runner in seen.offline if runner.offers(seen.models)]:
        told += f"; offline: {', '.join(asleep)}"
    return f"nothing to distribute: {top} is {told}"


def idle_beside(case: Case, top: str) -> list[str]:
    """Who was idle while this one had two or more; `?` for one that has another name here."""
    unused = [name for name in case.roster if not case.source.counts[name]]
    known = set(unused)
    known |= {gap.runner for gap in gaps(case) if gap.busy == top and gap.excess > IDLE_SHARE}
    nameless = ["?"] * (case.candidates - len(case.roster))
    return [*(name for name in case.roster if name in known), *nameless]


def never_idle(case: Case, top: str) -> str:
    """The line for a large share that is right: the others are slower, and had work."""
    others = [name for name in case.roster if name != top]
    times = [f"{name} {told_ms(middle_ms(case.of(name)))}" for name in (top, *others)]
    text = f"{shares(case)}; above {percent(case.seen.args.max_share)}, but {' and '.join(others)}"
    return f"{text} had work while {top} had two or more (latency p50: {', '.join(times)})"


def over_share(case: Case, top: str) -> str:
    """The line of a FAIL: who got how much, who did not, and whether it had to wait there."""
    seen, source = case.seen, case.source
    total, others = len(seen.measured), [name for name in case.roster if name != top]
    served = source.counts[top]
    text = f"{top} got {served} of {total} ({percent(served / total)}, at most "
    text += f"{percent(seen.args.max_share)} allowed), though "
    if others:
        text += f"{' and '.join(others)} could have"
    else:
        text += f"{case.candidates} runners with that model were online"
    waited, alone = slowest_start_ms(case.of(top)), seen.alone
    if waited is None or alone is None or alone.ttft_ms is None or alone.e2e_ms is None:
        return text
    if waited > alone.ttft_ms + alone.e2e_ms:
        text += f"; they queued there: first output after up to {told_ms(waited)}, alone after "
        return text + told_ms(alone.ttft_ms)
    return f"{text}; none had to wait there (--max-share 1, if it is preferred on purpose)"


def slowest_start_ms(records: Sequence[Record]) -> float | None:
    return max((r.ttft_ms for r in records if r.ttft_ms is not None), default=None)


def shares(case: Case) -> str:
    total = len(case.seen.measured)
    parts = [f"{name} {n} ({percent(n / total)})" for name, n in case.source.counts.most_common()]
    if case.source.unknown:
        parts.append(f"unknown {case.source.unknown}")
    return ", ".join(parts)


def requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def told_ms(value: float | None) -> str:
    """A time in few characters."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1e3:.2f} s"


Span = tuple[float, float]


def span(record: Record) -> Span:
    """When the request was with the deployment: without half a round trip at each end."""
    half, sent = record.round_trip_ms / 2, record.ended_ms - record.spent_ms
    return sent + half, max(sent + half, record.ended_ms - half)


def wait(record: Record) -> Span:
    """Until its first output; until the end, where that cannot be seen."""
    start, end = span(record)
    return start, end if record.ttft_ms is None else min(end, start + record.ttft_ms)


def levels(spans: Iterable[Span]) -> list[tuple[float, int]]:
    """(time, how many from then on), in the order of time."""
    steps = sorted(step for start, end in spans for step in ((start, 1), (end, -1)))
    found, level = [], 0
    for moment, step in steps:  # at the same moment ends come first
        level += step
        found.append((moment, level))
    return found


def most_at_once(records: Iterable[Record]) -> int:
    return max((level for _, level in levels([span(record) for record in records])), default=0)


def times_with(spans: Iterable[Span], least: int) -> list[Span]:
    """When at least so many of them were in progress."""
    found, since = [], None
    for moment, level in levels(spans):
        if level >= least and since is None:
            since = moment
        elif level < least and since is not None:
            found.append((since, moment))
            since = None
    return [each for each in found if each[1] > each[0]]


def check_expect_runners(case: Case) -> Check:
    """As many served as were expected."""
    seen, source, wanted = case.seen, case.source, case.seen.args.expect_runners
    if reason := cannot_tell(case):
        return undecided("expect_runners", reason)
    known = len(source.counts)
    evidence = {"runners": known, "expected": wanted}
    detail = f"{known} of {wanted} expected served: {shares(case)}"
    if surely_served(source) >= wanted:
        return Check("expect_runners", Status.PASS, detail, evidence)
    if source.limits:
        return undecided("expect_runners", f"{detail}, but {source.limits}{better_source(seen)}")
    if len({*source.counts, *source.rivals}) + source.unknown >= wanted:
        return undecided("expect_runners", f"{detail}; {unclear(source)}")
    if seen.able is not None:
        detail += f"; {len(seen.able)} online with that model, {len(seen.offline)} offline"
    if seen.args.sequential:
        detail += "; one at a time, a preferred one may do it all"
        return Check("expect_runners", Status.WARN, detail, evidence)
    if most_at_once(seen.measured) < 2:
        return undecided("expect_runners", f"{detail}; never two at once: use --workers 2 or more")
    return Check("expect_runners", Status.FAIL, detail, evidence)


def surely_served(source: Source) -> int:
    """How many runners served, whichever requests that look like ours are others'."""
    left, several = source.rivals.total(), 0
    for count in sorted((source.counts + source.rivals).values()):
        several += count > left
        left = max(0, left - count)
    return several


@dataclass(frozen=True)
class Gap:
    """A runner with nothing to do, while another had two or more. Times in ms."""

    runner: str
    busy: str
    length_ms: float
    request_ms: float  # what one takes, by the median

    @property
    def excess(self) -> float:
        return self.length_ms / self.request_ms if self.request_ms else 0.0


def check_idle(case: Case) -> Check:
    """What any routing has to hold: no runner is idle while another has a queue. From here slots
    cannot be seen, so it is a warning, and of waits that are longer than a request; and a queue is
    only where a request has no output yet."""
    seen, source = case.seen, case.source
    reason = cannot_tell(case) or source.limits
    if seen.workers < 2:
        reason = "one at a time: no other had two"
    elif not reason and len(case.roster) < 2:
        reason = "no other runner is known that could have served"
    elif not reason and source.rivals:
        reason = unclear(source)
    if reason:
        return Check("idle", Status.SKIP, reason)
    unused = [gap for gap in gaps(case, queued=True) if not source.others[gap.runner]]
    worst = max(unused, key=lambda gap: gap.excess, default=None)
    if worst is None or worst.length_ms < 1:
        return Check("idle", Status.PASS, "no runner was idle while another had two requests")
    evidence = dataclasses.asdict(worst)
    detail = f"{worst.runner} idle for {told_ms(worst.length_ms)} while {worst.busy} had two or "
    detail += f"more; a request took {told_ms(worst.request_ms)} (median)"
    if worst.excess <= 1:
        return Check("idle", Status.PASS, f"at the most {detail}", evidence)
    return Check("idle", Status.WARN, f"{detail}; --skip idle, if that is meant", evidence)


def gaps(case: Case, queued: bool = False) -> list[Gap]:
    """For each runner and each other one the longest; `queued`: while one waited there."""
    spans = {name: [span(record) for record in case.of(name)] for name in case.roster}
    unknown = [span(record) for record in case.of(None)]  # anybody's
    everyone = [*unknown, *(each for those in spans.values() for each in those)]
    whole = min(start for start, _ in everyone), max(end for _, end in everyone)
    usual_ms = middle_ms(case.seen.served)
    found = []
    for other, own in spans.items():
        busy = times_with(own, 2)
        if queued:
            busy = overlaps(busy, times_with(map(wait, case.of(other)), 1))
        # on a slower machine, a request takes as long as it takes there
        request_ms = round(max(usual_ms, middle_ms(case.of(other))), 3)
        for runner in spans.keys() - {other}:
            idle = between(times_with([*spans[runner], *unknown], 1), whole)
            length = max((end - start for start, end in overlaps(idle, busy)), default=0.0)
            if length > 0:
                found.append(Gap(runner, other, round(length, 3), request_ms))
    return found


def middle_ms(records: Sequence[Record]) -> float:
    return percentile([r.e2e_ms for r in records if r.e2e_ms is not None] or [0.0], 50)


def between(spans: Sequence[Span], whole: Span) -> list[Span]:
    """The times in `whole` that are in none of the spans, which are in order."""
    starts = [whole[0], *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), whole[1]]
    return [each for each in zip(starts, ends, strict=True) if each[1] > each[0]]


def overlaps(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """The times in both; each are in order."""
    found, n = [], 0
    for start, end in some:
        while n < len(others) and others[n][1] <= start:
            n += 1
        for k in range(n, len(others)):
            if others[k][0] >= end:
                break
            found.append((max(start, others[k][0]), min(end, others[k][1])))
    return found


def judge(case: Case) -> list[Check]:
    checks = [check_requests(case), check_distribution(case)]
    if case.seen.args.expect_runners:
        checks.append(check_expect_runners(case))
    return [*checks, check_idle(case)]


# --- report


@dataclass(frozen=True)
class Timing:
    """How the requests ran beside each other.

    parallelism: sum of latencies / wall time. together: about so many of the `wave`, which were
    all sent before the first of them ended, were served at the same time; None if too few.
    """

    wall_ms: float
    parallelism: float
    wave: int
    together: float | None

    @property
    def kind(self) -> str:
        if self.together is None:
            return "unknown"
        if self.together >= FLAT * self.wave:
            return "parallel"
        return "queued" if self.together < LONE else "mixed"


def find_timing(case: Case) -> Timing | None:
    served = case.seen.served
    if not served:
        return None
    wall_ms = max(r.ended_ms for r in served) - min(r.sent_ms or 0.0 for r in served)
    parallelism = sum(r.e2e_ms or 0.0 for r in served) / wall_ms if wall_ms else 1.0
    first_end = min(r.ended_ms for r in served)
    wave = [r for r in served if (r.sent_ms or 0.0) < first_end]
    return Timing(wall_ms, round(parallelism, 2), len(wave), served_together(wave, case.seen.alone))


def served_together(wave: Sequence[Record], alone: Record | None) -> float | None:
    """How many were served at a time: as many as there are, if the last one's first output did
    not come later than the first one's; half of them, if it waited for one whole request."""
    if len(wave) < 3:
        return None
    starts = [r.ttft_ms for r in wave if r.ttft_ms is not None]
    if len(starts) == len(wave):
        decode_ms = statistics.median((r.e2e_ms or 0.0) - (r.ttft_ms or 0.0) for r in wave)
        request_ms, waited_ms = min(starts) + decode_ms, max(starts) - min(starts)
    else:  # not streamed: the wait is in the whole
        lengths = [r.e2e_ms or 0.0 for r in wave]
        request_ms = (alone.e2e_ms if alone else None) or min(lengths)
        waited_ms = max(lengths) - min(lengths)
    rounds = 1 + waited_ms / request_ms if request_ms else 1.0
    return round(len(wave) / rounds, 2)


def timing_lines(case: Case, timing: Timing | None) -> list[str]:
    seen = case.seen
    if timing is None:
        return []
    text = f"  effective parallelism {timing.parallelism:.1f} of {seen.workers}: the latencies of "
    lines = [f"{text}{requests(len(seen.served))} in {told_ms(timing.wall_ms)}"]
    lines += [f"  {'by position':14}{'n':>4}{'first output p50':>20}{'latency p50':>16}"]
    if seen.alone is not None:
        lines.append(position_line("alone", [r for r in seen.of_phase(ALONE) if not r.error]))
    third = max(1, math.ceil(len(seen.served) / 3))
    for start in range(0, len(seen.served), third):
        part = seen.served[start : start + third]
        lines.append(position_line(f"{start + 1} to {start + len(part)}", part))
    return [*lines, f"  {conclusion(case, timing)}"]


def position_line(label: str, records: Sequence[Record]) -> str:
    starts = [r.ttft_ms for r in records if r.ttft_ms is not None]
    start = percentile(starts, 50) if starts else None
    return f"  {label:14}{len(records):>4}{told_ms(start):>20}{told_ms(middle_ms(records)):>16}"


def conclusion(case: Case, timing: Timing) -> str:
    """What the times say."""
    if case.seen.workers < 2:
        return "one at a time: nothing ran beside anything"
    if timing.together is None:
        return f"{timing.wave} at once are too few to tell whether they waited for each other"
    if timing.kind == "parallel":
        return f"served in parallel: of the first {timing.wave}, none waited for another"
    if timing.kind == "mixed":
        about = f"about {timing.together:.0f} at a time"
        return f"mixed: of the first {timing.wave}, {about}, the others waited"
    counts = case.source.counts
    if len(counts) == 1 and case.source.limits is None:
        return f"queued on one runner ({next(iter(counts))}): one after the other"
    many = f", though {len(counts)} runners served" if len(counts) > 1 else ""
    return f"queued: one after the other{many}"


@dataclass(frozen=True)
class Row:
    """One runner's part, `runner` None for what could not be attributed. Times in ms."""

    runner: str | None
    models: list[str]
    requests: int
    share: float | None
    share_low: float | None  # 95 % interval
    share_high: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    errors: int


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, 1927); it holds at 0 and 1 as well."""
    share, square = count / total, Z_95 * Z_95
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    half *= Z_95 / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def rows(case: Case) -> list[Row]:
    names: list[str | None] = [*case.roster, *([None] if case.source.unknown else [])]
    return [make_row(name, case.of(name), len(case.seen.measured)) for name in names]


def make_row(name: str | None, records: Sequence[Record], total: int) -> Row:
    latencies = [record.e2e_ms for record in records if record.e2e_ms is not None]
    low, high = wilson(len(records), total) if total else (None, None)
    return Row(
        runner=name,
        models=sorted({record.model for record in records if record.model}),
        requests=len(records),
        share=round(len(records) / total, 4) if total else None,
        share_low=None if low is None else round(low, 4),
        share_high=None if high is None else round(high, 4),
        latency_p50_ms=round(percentile(latencies, 50), 3) if latencies else None,
        latency_p95_ms=round(percentile(latencies, 95), 3) if latencies else None,
        errors=sum(record.error is not None for record in records),
    )


def row_line(row: Row) -> str:
    interval = "-"
    if row.share_low is not None and row.share_high is not None:
        interval = f"{100 * row.share_low:.0f} - {percent(row.share_high)}"
    share = "-" if row.share is None else percent(row.share)
    name = shorten(row.runner or "not known", NAME - 1)
    model = shorten(", ".join(row.models) or "-", MODEL - 1)
    text = f"  {name:{NAME}}{model:{MODEL}}{row.requests:>4}{share:>6}{interval:>12}"
    times = f"{told_ms(row.latency_p50_ms):>8}{told_ms(row.latency_p95_ms):>8}"
    return f"{text}{times}{row.errors:>4}"


def metrics(case: Case, timing: Timing | None) -> dict[str, Any]:
    seen, source = case.seen, case.source
    return {
        "source": source.name,
        "source_limits": source.limits,
        "admin_api": seen.unread or "read",
        "concurrency": seen.workers,
        "requests": len(seen.measured),
        "succeeded": len(seen.served),
        "alone_ms": seen.alone.e2e_ms if seen.alone else None,
        "wall_s": round(timing.wall_ms / 1e3, 6) if timing else None,
        "effective_parallelism": timing.parallelism if timing else None,
        "served_together": timing.together if timing else None,
        "timing": timing.kind if timing else None,
        "runners": [dataclasses.asdict(row) for row in rows(case)],
        "requests_of_others": dict(source.others),
        "not_attributed": source.unknown,
    }


def lines(case: Case, timing: Timing | None, url: str) -> list[str]:
    """Who served what, as a table."""
    seen, source = case.seen, case.source
    if not seen.measured:
        return []
    how = "one after the other" if seen.workers < 2 else f"{seen.workers} at once"
    text = f"{requests(len(seen.measured))} to {seen.args.model} at {url}, {how}"
    told = [shorten(text, 80), f"  who served is told by {source.name}"]
    if source.limits:
        told.append(f"    {source.limits}")
    own = seen.args.runner_header
    if own and not any(own in record.headers for record in seen.served):
        told.append(f"    {shorten(own.title(), 60)} is on no answer")
    elif own and not may_name_runners(seen, own):
        told.append(f"    {shorten(own.title(), 50)} is another on each answer")
    if seen.unread:
        told.append("    " + shorten(f"not read: {seen.unread}", 76))
    if source.others:
        told.append(f"    {requests(source.others.total())} of others came in the same time")
    head = f"  {'runner':{NAME}}{'model':{MODEL}}{'n':>4}{'share':>6}{'95 %':>12}"
    told.append(f"{head}{'p50':>8}{'p95':>8}{'err':>4}")
    told += map(row_line, rows(case))
    return [*told, *(timing_lines(case, timing) if seen.args.analyze_timing else [])]


# --- run


def measure(run: Run) -> None:
    args, document = run.args, run.document("workload_routing")
    seen = Seen(args)
    run.target["model"] = args.model
    target = wire.Target(run.url, None, verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        try:
            ask_all(run, instrument, seen)
        finally:
            # first of all what was measured: who served may take a while to find out
            document.requests = [vars(record) for record in seen.records]
            case = Case(seen, find_source(seen))
            timing = find_timing(case)
            document.requests = saved(case)
            document.metrics = metrics(case, timing)
    document.add(*judge(case))
    run.show(lines(case, timing, run.url), document)


def saved(case: Case) -> list[dict[str, Any]]:
    """A record for each request, with who served it."""
    measured = (record.index for record in case.seen.measured)
    by = dict(zip(measured, case.source.runners, strict=True))
    return [vars(dataclasses.replace(r, runner=by.get(r.index))) for r in case.seen.records]


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.expect_runners or 0) > args.requests:
        parser.error(f"--expect-runners {args.expect_runners} takes at least as many --requests")
    if "expect_runners" in (args.only or ()) and not args.expect_runners:
        parser.error("--only expect_runners takes --expect-runners N")
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
