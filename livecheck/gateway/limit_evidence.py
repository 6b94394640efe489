"""What a run finds out about the rate limit of a key, and the plain facts that follow from it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from livecheck.core.json_value import number, pick
from livecheck.gateway.limit_kinds import Span, sound_kinds
from livecheck.gateway.retry_after import read_retry_after
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.asking import Stop
from livecheck.wire.prometheus import read_samples

# steps of a run, in their order
CONTACT = "contact"  # what was sent before the first step, as the list of models
ALONE = "alone"  # one after the other, until one is refused
NOW = "now"  # all at once after that, if none was refused
AROUND = "around"  # ways around the limit, each beside plain requests
OTHER = "other"  # with the other key
PROBES = "probes"  # /ping and /health
HALF = "half"  # half a window later
BURST = "burst"  # all at once, after a whole window
CONTROL = "control"  # one after that burst: is the limit reached now?
PRESS = "press"  # again, half a window after that burst
AGAIN = "again"  # another burst, after another window
RESTED = "rested"  # another one, after two windows of silence
EARLY = "early"  # half way to Retry-After
PROOF = "proof"  # after Retry-After
BURSTS = (BURST, AGAIN, RESTED)

PLAIN = "plain"  # the request as it is; others are named after what is different
COUNTERS = ("requests_total", "requests_success", "requests_error", "requests_authenticated")
PREFIX = "gateway_"  # of each name in Prometheus text
LATE = (504, 524)  # a proxy did not wait longer
SURPLUS = 5  # requests beyond the limit, at least
LEAST_MARGIN_S = 0.1
LEAST_PLACES = 1.5  # that a token bucket has got by then, so that it certainly has one


class Fate(Enum):
    """What a limiter has done with a request."""

    SERVED = "served"
    REFUSED = "refused"
    TROUBLE = "failed"  # neither: there is no whole answer, or an error of the server


def fate_of(answer: Answer) -> Fate:
    """A completion that finds the queue full has passed the limiter, and so has one for which the
    model needs more tokens than the one that is asked for."""
    status = answer.status
    if answer.failure is not None or status is None:
        return Fate.TROUBLE
    if status == 429:
        return Fate.REFUSED
    if is_full(answer) or answer.has_no_room:
        return Fate.SERVED
    if answer.looks_like_limit:
        return Fate.REFUSED
    if 200 <= status < 300:
        return Fate.TROUBLE if unreadable(answer) else Fate.SERVED
    return Fate.REFUSED if 400 <= status < 500 else Fate.TROUBLE


def is_full(answer: Answer) -> bool:
    """Whether it says, in words that are known, that too many are being served already."""
    if answer.status != 503 or answer.request.method != "POST" or answer.is_page:
        return False
    return not answer.names_rate_limit and answer.says_busy


def unreadable(answer: Answer) -> str | None:
    """Why a success is of no use; None where it is. Of another path nobody knows what it has."""
    if answer.failure is None and (answer.status or 0) < 300:
        if answer.coding_problem:
            return answer.coding_problem
        if answer.path in (chat.MODELS, chat.COMPLETIONS) and not isinstance(
            answer.json, (dict, list)
        ):
            return "no JSON"
    return None


@dataclass(frozen=True)
class Asked:
    """A request and its answer. `what`: PLAIN, or what is different about it. `turn`: the number of
    the exchange in which it was sent, alone or together with others."""

    step: str
    what: str
    turn: int
    answer: Answer

    @property
    def fate(self) -> Fate:
        return fate_of(self.answer)

    @property
    def span(self) -> Span:
        return Span((self.answer.sent_ns or 0) / 1e9, (self.answer.ended_ns or 0) / 1e9)

    @property
    def is_limit(self) -> bool:
        """Whether its answer has one of the forms in which limits refuse."""
        return self.answer.status == 429 or self.answer.looks_like_limit

    @property
    def outcome(self) -> str:
        """The status, or the kind of failure; equal ones are equal."""
        answer = self.answer
        problem = unreadable(answer) if self.fate is Fate.TROUBLE else None
        if problem:
            return f"{answer.status}, but {problem}"
        return answer.outcome() if answer.failure else f"{answer.status} {answer.words}".strip()


@dataclass(frozen=True)
class Proof:
    """One trial of a Retry-After: asked `waited_s` after the refusal that said `shown`.

    `later`: the answer a second later, where the first one was a refusal. `is_cut`: it says more
    than was waited for, because that is more than a window, or because the first one was served.
    """

    shown: str
    waited_s: float
    first: Asked
    later: Asked | None = None
    is_cut: bool = False

    @property
    def is_kept(self) -> bool:
        return self.first.fate is Fate.SERVED

    @property
    def is_nearly_kept(self) -> bool:
        return self.later is not None and self.later.fate is Fate.SERVED


@dataclass
class Evidence:
    """All that was asked and answered; `stopped`: why the rest was not asked.

    `is_slow`: one after the other they came too slowly to reach the limit. `earlier`: how many
    requests were sent that are not in `asked` and may have taken places: for the list of models,
    and what the model refused for a parameter. `before`, `after`: what
    /metrics said before the first request of the steps and after the last one; None: nothing.
    `at_rest`: what it said after that, on other connections.
    """

    limit: int
    window_s: float
    path: str = "/v1/models"
    asked: list[Asked] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    before: dict[str, float] | None = None
    after: dict[str, float] | None = None
    at_rest: list[dict[str, float]] = field(default_factory=list)
    is_slow: bool = False
    earlier: int = 1
    stopped: Stop | None = None

    @property
    def surplus(self) -> int:
        """How many requests are sent beyond the limit."""
        return max(SURPLUS, self.limit // 10)

    @property
    def margin_s(self) -> float:
        """What is waited for beyond a window: clocks and timers are not exact."""
        return max(LEAST_MARGIN_S, self.window_s / 50)

    @property
    def half_s(self) -> float:
        """After how long a window is tried that may be too short: less than half of it, so that
        the end of no fixed window comes both in this time after the first requests and in this
        time after the burst, which begins a window and a half after them."""
        return max(self.window_s / 4, self.window_s / 2 - self.margin_s)

    @property
    def reached_s(self) -> float:
        """When all had ended that is asked until the limit is reached, and while it is."""
        steps = (ALONE, NOW, AROUND, OTHER, PROBES)
        return last_end_s((each for each in self.asked if each.step in steps), 0.0)

    @property
    def reaching_s(self) -> float:
        """How long that took."""
        begun_s = min((each.span.sent_s for each in self.of(ALONE)), default=self.reached_s)
        return self.reached_s - begun_s

    def of(self, *steps: str, what: str | None = PLAIN) -> list[Asked]:
        """What was asked in these steps; `what` None: also what was not plain."""
        return [each for each in self.asked if each.step in steps and what in (None, each.what)]

    def count(self, step: str, fate: Fate = Fate.SERVED) -> int:
        """How many plain requests of a step have met this fate."""
        return sum(1 for each in self.of(step) if each.fate is fate)

    def has(self, step: str) -> bool:
        return bool(self.of(step))

    @property
    def of_key(self) -> list[Asked]:
        """All that was sent with the key, in any spelling, to what is limited."""
        return [each for each in self.asked if each.step not in (OTHER, PROBES)]

    @property
    def served_spans(self) -> list[Span]:
        """Those of the plain requests that were served."""
        return [e.span for e in self.of_key if e.what == PLAIN and e.fate is Fate.SERVED]

    @property
    def refusals(self) -> list[Asked]:
        return [e for e in self.of_key if e.what == PLAIN and e.fate is Fate.REFUSED]

    @property
    def troubles(self) -> list[Asked]:
        return [each for each in self.of_key if each.fate is Fate.TROUBLE]

    @property
    def is_early(self) -> bool:
        """Whether places came back before a whole window was over."""
        return self.count(HALF) > 0

    @property
    def kinds(self) -> list[str]:
        """The kinds of sound limiters that could have served what was served."""
        return sound_kinds(self.served_spans, self.limit, self.window_s, not self.is_no_bucket)

    @property
    def is_no_bucket(self) -> bool:
        """Whether requests were refused when a token bucket would have had a place again."""
        half = self.of(HALF)
        if not half or any(each.fate is not Fate.REFUSED for each in half):
            return False
        waited_s = min(each.span.sent_s for each in half) - self.reached_s
        return self.limit * waited_s / self.window_s >= LEAST_PLACES

    @property
    def others(self) -> bool | None:
        """Whether other clients were served meanwhile, by the deployment's own count; None: not
        known."""
        grown, total = self.growth("requests_success"), self.growth("requests_total")
        served, sent = self.count_success(), len(self.of_deployment) + self.earlier - 1
        if grown is None or grown < served or self.is_many:
            return None
        return grown > served or (total is not None and total > sent)

    def growth(self, name: str) -> float | None:
        """By how much a counter of /metrics has grown; None where it is not there."""
        if self.before is None or self.after is None:
            return None
        if name not in self.before or name not in self.after:
            return None
        return self.after[name] - self.before[name]

    @property
    def is_many(self) -> bool:
        """Whether /metrics is that of several gateways, each with its own count: it disagrees with
        itself when nothing is asked, or has fallen."""
        read = [each for each in (self.after, *self.at_rest) if each]
        names = ("requests_success", "requests_authenticated")
        differ = any(len({each.get(name) for each in read}) > 1 for name in names)
        return differ or any((self.growth(name) or 0) < 0 for name in COUNTERS)

    @property
    def is_in_front(self) -> bool:
        """Whether something in front of the gateway refuses: it did not count so many requests."""
        total = self.growth("requests_total")
        return total is not None and total < self.count_success() + self.count_limited()

    @property
    def is_of_guide(self) -> bool:
        """Whether the guide's gateway itself refuses, as its counters show. It promises the form of
        its refusals; others promise nothing."""
        is_known = self.growth("requests_total") is not None and not self.is_many
        return is_known and not self.is_in_front

    @property
    def of_deployment(self) -> list[Asked]:
        """What was sent to its API since `before`."""
        return [each for each in self.asked if each.step not in (CONTACT, PROBES)]

    @property
    def counted(self) -> list[Asked]:
        """What a counter of requests with an accepted key has to have counted."""
        return [each for each in self.of_deployment if each.answer.status not in (401, 403)]

    def is_of_load(self, asked: Asked) -> bool:
        """Whether trouble may come from so many requests at once, and tells nothing of the limit:
        a completion got a 503 beside others, or waited as long as so many take one by one."""
        beside = sum(1 for each in self.asked if each.turn == asked.turn)
        answer = asked.answer
        if asked.fate is not Fate.TROUBLE or beside < 2:
            return False
        if answer.status == 503 and answer.request.method == "POST" and answer.failure is None:
            return True
        alone = [e.span.ended_s - e.span.sent_s for e in self.of(ALONE) if e.fate is Fate.SERVED]
        if not alone or not (answer.timed_out or answer.status in LATE):
            return False
        return statistics.median(alone) * beside >= asked.span.ended_s - asked.span.sent_s

    def count_success(self) -> int:
        return sum(1 for each in self.counted if 200 <= (each.answer.status or 0) < 300)

    def count_limited(self) -> int:
        """How many requests a limit has refused."""
        return sum(1 for each in self.counted if each.is_limit)


def last_end_s(asked: Iterable[Asked], default: float) -> float:
    """When the last one of these had its answer."""
    return max((each.span.ended_s for each in asked), default=default)


def turns(asked: Sequence[Asked]) -> list[list[Asked]]:
    """The same, those of each exchange together."""
    numbers = dict.fromkeys(each.turn for each in asked)
    return [[each for each in asked if each.turn == number] for number in numbers]


def error_code(answer: Answer) -> Any:
    """The code that an error in OpenAI's form gives."""
    return pick(answer.json, "error", "code")


def read_counters(answer: Answer) -> dict[str, float] | None:
    """What /metrics counts of the requests, in either of its forms; None if it says nothing."""
    if not answer.is_ok:
        return None
    content = answer.json
    if isinstance(content, dict):
        source = pick(content, "gateway") or content
        named = {name: pick(source, name) for name in COUNTERS}
    else:
        samples = {each.name: each.value for each in read_samples(answer.body).samples}
        named = {name: samples.get(PREFIX + name) for name in COUNTERS}
    known = {name: number(value) for name, value in named.items()}
    return {name: value for name, value in known.items() if value is not None} or None


def said_wait_s(asked: Asked) -> float | None:
    """How long its Retry-After says to wait."""
    return read_retry_after(asked.answer).certain_s


def sure_and_possible(spans: Sequence[Span], start_s: float, end_s: float) -> tuple[int, int]:
    """How many of these requests were certainly decided on in that time, and how many may be."""
    sure = sum(1 for each in spans if each.sent_s >= start_s and each.ended_s <= end_s)
    possible = sum(1 for each in spans if each.ended_s >= start_s and each.sent_s <= end_s)
    return sure, possible
