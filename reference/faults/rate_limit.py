"""The faults that test_rate_limit.py must notice, and sound limiters of other kinds."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from aiohttp import web

from ..hooks import Handler
from ..refusals import JsonRefusal
from ..telemetry import Counters
from .answers import MAX_TOKENS_REFUSED, NO_ROOM, change_json, change_status, instead
from .fault import Fault, Install, SoundVariant
from .gateway_parts import GgufGateway, RateLimit
from .planting import all_of, around, around_with_gateway, on_gateway

SCRIPT = "test_rate_limit.py"
LIMIT, WINDOW_S = 5, 1.0
# Longer windows: one in which a second more is still too early, and one of which a part is enough
# for requests that wait for a busy processor.
LONGER_S, LONG_S, LONGEST_S = 1.5, 2.0, 3.0
EARLY_S = 4.0  # a Retry-After of so much can be told from one that has been rounded up
ANSWERED_S = 0.1  # longer than it takes until ten requests at once have come
HOLDS = 3  # completions at once, where there are places for so many only
NGINX = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"
UNAVAILABLE = NGINX.format("503 Service Temporarily Unavailable")
TOO_MANY = NGINX.format("429 Too Many Requests")


# --- other limiters


class Sliding:
    """Never more than `limit` within `window_s`."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self.times_s: defaultdict[str, deque[float]] = defaultdict(deque)

    def allows(self, key: str) -> bool:
        now_s, times_s = time.monotonic(), self.times_s[key]
        while times_s and now_s - times_s[0] >= self.window_s:
            times_s.popleft()
        if len(times_s) >= self.limit:
            return False
        self.count(times_s, now_s)
        return True

    @property
    def is_full(self) -> bool:
        """Whether any key has reached its limit."""
        return any(len(times_s) >= self.limit for times_s in self.times_s.values())

    def count(self, times_s: deque[float], now_s: float) -> None:
        times_s.append(now_s)


class Charging(Sliding):
    """What is refused takes a place as well."""

    def allows(self, key: str) -> bool:
        is_allowed = super().allows(key)
        if not is_allowed:
            self.times_s[key].append(time.monotonic())
        return is_allowed


class CountsLate(Sliding):
    """It looks first and counts later, so that requests at the same time do not see each other."""

    def __init__(self, limit: int, window_s: float) -> None:
        super().__init__(limit, window_s)
        self.answered: list[tuple[deque[float], float]] = []

    def count(self, times_s: deque[float], now_s: float) -> None:
        self.answered.append((times_s, now_s))

    def count_answered(self) -> None:
        """Count what has been answered until now."""
        for times_s, now_s in self.answered:
            times_s.append(now_s)
        self.answered = []


async def answers_then_counts(
    gateway: Any, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    response = await handler(request)
    if response.status != 429:
        await asyncio.sleep(ANSWERED_S)
        gateway.rate_limit.count_answered()
    return response


class Rounds(Sliding):
    """`rounds`: how often the limit has been reached, after all places had been free."""

    rounds = 0

    def allows(self, key: str) -> bool:
        is_allowed, times_s = super().allows(key), self.times_s[key]
        if len(times_s) == 1 and is_allowed:
            self.begin_round(times_s)
        if len(times_s) == self.limit and is_allowed:
            self.rounds += 1
        return is_allowed

    def begin_round(self, times_s: deque[float]) -> None:
        """The first request is served, when all places are free."""


class FailsAtLast(Rounds):
    """What comes after a burst is over fails."""

    def begin_round(self, times_s: deque[float]) -> None:
        if self.rounds > 1:
            raise JsonRefusal(500, "planted", "server_error", "internal_error")


class Bystander(Rounds):
    """Another client takes two places of the first burst."""

    def __init__(self, limits: RateLimit, counters: Counters) -> None:
        super().__init__(limits.limit, limits.window_s)
        self.counters = counters

    def begin_round(self, times_s: deque[float]) -> None:
        if self.rounds == 1:
            times_s.extend([times_s[0]] * 2)
            self.rounds += 1
            self.counters.requests_total += 2
            self.counters.requests_success += 2


def beside_another(gateway: GgufGateway) -> None:
    gateway.rate_limit = Bystander(gateway.rate_limit, gateway.counters)


class Workers(Sliding):
    """Two processes, each with a count of its own."""

    def __init__(self, limit: int, window_s: float) -> None:
        super().__init__(limit, window_s)
        self.turns = itertools.cycle([Sliding(limit, window_s), Sliding(limit, window_s)])

    def allows(self, key: str) -> bool:
        return next(self.turns).allows(key)


class Shared(Sliding):
    """All keys together."""

    def allows(self, key: str) -> bool:
        return super().allows("")


class Fixed(Sliding):
    """`limit` in each window of the clock."""

    def allows(self, key: str) -> bool:
        number = time.time() // self.window_s
        times_s = self.times_s[key]
        if times_s and times_s[0] != number:
            times_s.clear()
        if len(times_s) >= self.limit:
            return False
        times_s.append(number)
        return True

    def wait_s(self) -> float:
        return self.window_s - time.time() % self.window_s


class Bucket(Sliding):
    """Places for `limit` at once, which come back one by one."""

    share = 1.0  # of the limit: how many at once

    def __init__(self, limit: int, window_s: float) -> None:
        super().__init__(limit, window_s)
        self.most = max(1.0, math.floor(limit * self.share))
        self.left: defaultdict[str, float] = defaultdict(lambda: self.most)
        self.seen_s: defaultdict[str, float] = defaultdict(time.monotonic)

    def allows(self, key: str) -> bool:
        now_s = time.monotonic()
        gained = (now_s - self.seen_s[key]) * self.limit / self.window_s
        self.left[key], self.seen_s[key] = min(self.most, self.left[key] + gained), now_s
        if self.left[key] < 1:
            return False
        self.left[key] -= 1
        return True

    def wait_s(self) -> float:
        return self.window_s / self.limit


class SmallBucket(Bucket):
    share = 0.6


class OfAddress(Bucket):
    """nginx's limit_req with a burst of `limit`: one more at once, whatever the key is."""

    def __init__(self, limit: int, window_s: float) -> None:
        super().__init__(limit, window_s)
        self.most = limit + 1.0

    def allows(self, key: str) -> bool:
        return super().allows("")


class Weighted(Sliding):
    """A counter for each window of the clock; the one before counts for the part that is still
    within a window from now."""

    def __init__(self, limit: int, window_s: float) -> None:
        super().__init__(limit, window_s)
        self.counts: defaultdict[tuple[str, int], int] = defaultdict(int)

    def allows(self, key: str) -> bool:
        number, share = divmod(time.time() / self.window_s, 1)
        now, before = (self.counts[key, int(number) - ago] for ago in (0, 1))
        if before * (1 - share) + now + 1 > self.limit:
            return False
        self.counts[key, int(number)] += 1
        return True


def limiter(make: Callable[[int, float], RateLimit]) -> Install:
    """The gateway limits its keys with this."""

    def change(gateway: GgufGateway) -> None:
        gateway.rate_limit = make(gateway.rate_limit.limit, gateway.rate_limit.window_s)

    return on_gateway(change)


async def says_wait(gateway: Any, handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    """Retry-After says when the next place is free."""
    response = await handler(request)
    if response.status == 429:
        response.headers["Retry-After"] = str(math.ceil(gateway.rate_limit.wait_s()))
    return response


def exact(make: Callable[[int, float], RateLimit]) -> Install:
    """The gateway limits its keys with this, and says exactly how long a client has to wait."""
    return all_of(limiter(make), around_with_gateway("all", says_wait))


def other_numbers(limits: float = 1, more: int = 0, windows: float = 1) -> Install:
    """The same limiter with another limit, or another window."""
    return limiter(lambda limit, window_s: Sliding(int(limit * limits) + more, window_s * windows))


# --- for whom the limit holds


class Named:
    """A limiter for parts of a key's requests."""

    def __init__(self, limits: RateLimit, part: str) -> None:
        self.limit, self.window_s = limits.limit, limits.window_s
        self._limits, self._part = limits, part

    def allows(self, key: str) -> bool:
        return self._limits.allows(f"{key} {self._part}")


def counted_by(part: Callable[[web.BaseRequest], str]) -> Install:
    """The requests of a key are counted apart, by this part of them."""

    def change(gateway: GgufGateway) -> None:
        authorize, limits = gateway.authorize, gateway.rate_limit

        def named(request: web.BaseRequest) -> None:
            gateway.rate_limit = Named(limits, part(request))
            authorize(request)

        gateway.authorize = named

    return on_gateway(change)


def counted_by_header(name: str) -> Install:
    return counted_by(lambda request: request.headers.get(name, ""))


async def reads_first(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    """The limit knows what is in the JSON."""
    request["fields"] = json.loads(await request.read() or b"{}")
    return await handler(request)


def also_takes_api_key(gateway: GgufGateway) -> None:
    """A key in X-Api-Key is accepted, and not limited."""
    authorize = gateway.authorize

    def other(request: web.BaseRequest) -> None:
        if request.headers.get("X-Api-Key", "").encode() not in gateway.keys:
            authorize(request)

    gateway.authorize = other


def limits_completions_only(gateway: GgufGateway) -> None:
    authorize, limits = gateway.authorize, gateway.rate_limit
    unlimited = Sliding(10**6, limits.window_s)

    def other(request: web.BaseRequest) -> None:
        gateway.rate_limit = limits if request.method == "POST" else unlimited
        authorize(request)

    gateway.authorize = other


async def limited_probe(
    gateway: Any, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    if gateway.rate_limit.is_full:
        return JsonRefusal(429, "slow down", "rate_limit_error", "rate_limit_exceeded").response()
    return await handler(request)


# --- refusals


def refusal(change: Callable[[web.Response], object]) -> Install:
    """Change every refusal of the limit."""
    return change_status(429, change)


def retry_after(value: Callable[[], str] | str) -> Install:
    def change(response: web.Response) -> None:
        response.headers["Retry-After"] = value if isinstance(value, str) else value()

    return refusal(change)


def no_retry_after(response: web.Response) -> None:
    response.headers.popall("Retry-After", None)


def page(status: int, text: str) -> Install:
    """As nginx refuses."""

    def change(response: web.Response) -> None:
        response.set_status(status)
        response.text, response.content_type = text, "text/html"
        no_retry_after(response)

    return refusal(change)


def plain_words(response: web.Response) -> None:
    response.text, response.content_type = "slow down", "text/plain"


def other_code(response: web.Response) -> None:
    fields = json.loads(response.text or "{}")
    fields["error"] |= {"type": "throttling_error", "code": "429"}
    response.text = json.dumps(fields)


def in_date() -> str:
    return formatdate(time.time() + WINDOW_S, usegmt=True)


def half_counted(fields: dict[str, Any]) -> None:
    fields["gateway"]["requests_success"] //= 2


def few_counted(fields: dict[str, Any]) -> None:
    fields["gateway"]["requests_success"] //= 16


def no_errors_counted(fields: dict[str, Any]) -> None:
    fields["gateway"]["requests_error"] = 0


def refusals_uncounted(fields: dict[str, Any]) -> None:
    """As where a proxy in front refuses: the gateway never sees those requests."""
    counters = fields["gateway"]
    counters["requests_total"] -= counters["requests_error"]
    counters["requests_error"] = 0


def of_proxy(status: int, text: str) -> Install:
    """A proxy in front refuses with its own page."""
    return all_of(page(status, text), change_json("metrics", refusals_uncounted))


def of_two_gateways() -> Callable[[dict[str, Any]], None]:
    """Each reading is that of another one than the reading before; the second one has served
    fewer requests."""
    turns = itertools.cycle([0, 3])

    def change(fields: dict[str, Any]) -> None:
        fewer = next(turns)
        for name in ("requests_total", "requests_success", "requests_authenticated"):
            fields["gateway"][name] -= fewer

    return change


# --- a deployment that has its own reasons


def holding(most: int, where: str, status: int) -> Install:
    """More requests than these at the same time get this status, in words that name no limit."""
    running = 0

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal running
        if running >= most:
            return JsonRefusal(status, "no server is free", "server_error", "503").response()
        running += 1
        try:
            await asyncio.sleep(ANSWERED_S)
            return await handler(request)
        finally:
            running -= 1

    return around(where, wrapper)


class StumblesOver(Sliding):
    """One key is refused by mistake, a single time, when it comes for the second time."""

    def __init__(self, key: str, limit: int, window_s: float) -> None:
        super().__init__(limit, window_s)
        self.key, self.number = key, 0

    def allows(self, key: str) -> bool:
        self.number += key == self.key
        is_mistake = key == self.key and self.number == 2
        return not is_mistake and super().allows(key)


def stumbles_over_other_key(gateway: GgufGateway) -> None:
    limits, other = gateway.rate_limit, gateway.keys[-1].decode()
    gateway.rate_limit = StumblesOver(other, limits.limit, limits.window_s)


# --- the table


def in_window(window_s: float, limit: int = LIMIT) -> dict[str, Any]:
    """The settings and the arguments for a window of this length."""
    return {
        "options": {"rate_limit": limit, "rate_window": window_s},
        "arguments": ("--limit", str(limit), "--window", f"{window_s:g}"),
    }


def _fault(
    name: str,
    breaks: str,
    check: str,
    install: Install,
    window_s: float = WINDOW_S,
    limit: int = LIMIT,
) -> Fault:
    return Fault(name, breaks, SCRIPT, check, install, **in_window(window_s, limit))


def _warn(
    name: str, breaks: str, check: str, install: Install, window_s: float = WINDOW_S
) -> Fault:
    return dataclasses.replace(_fault(name, breaks, check, install, window_s), status="WARN")


def _sound(
    name: str,
    shows: str,
    install: Install,
    window_s: float = WINDOW_S,
    arguments: tuple[str, ...] = (),
) -> SoundVariant:
    usual = in_window(window_s)
    given = (*usual["arguments"], *arguments)
    return SoundVariant(name, shows, (SCRIPT,), install, usual["options"], given)


COMPLETIONS = ("--path", "/v1/chat/completions")
NO_METRICS = instead("metrics", status=404)

ROWS: tuple[Fault, ...] = (
    _fault(
        "rate-unlimited",
        "there is no limit",
        check="one_by_one",
        install=limiter(lambda limit, window_s: Sliding(10**6, window_s)),
    ),
    _fault(
        "rate-error-500",
        "what is beyond the limit is a 500",
        check="one_by_one",
        install=refusal(lambda response: response.set_status(500)),
    ),
    _fault(
        "rate-double",
        "twice as many requests are served as the limit allows",
        check="one_by_one",
        install=other_numbers(limits=2),
    ),
    _fault(
        "rate-off-by-one",
        "one request more than the limit is served",
        check="at_once",
        install=other_numbers(more=1),
    ),
    _fault(
        "rate-workers",
        "two processes count for themselves, so that twice as many requests are served",
        check="at_once",
        install=limiter(Workers),
    ),
    _fault(
        "rate-race",
        "requests at the same time do not see each other",
        check="at_once",
        install=all_of(limiter(CountsLate), around_with_gateway("all", answers_then_counts)),
        window_s=LONG_S,
    ),
    _fault(
        "rate-burst-500",
        "requests at the same time fail with a 500",
        check="at_once",
        install=holding(HOLDS, "models", 500),
        window_s=LONG_S,
    ),
    _fault(
        "rate-lower",
        "the limit is half of the promised one",
        check="at_once",
        install=other_numbers(limits=0.5),
    ),
    _warn(
        "rate-small-burst",
        "a token bucket has fewer places at once than the limit promises",
        check="at_once",
        install=limiter(SmallBucket),
    ),
    _fault(
        "rate-short-window",
        "the window is a fifth as long",
        check="window",
        install=other_numbers(windows=1 / 5),
        window_s=LONGEST_S,
    ),
    _fault(
        "rate-long-window",
        "the window is twice as long",
        check="window",
        install=other_numbers(windows=2),
    ),
    _fault(
        "rate-403",
        "refusals are a 403",
        check="refusal",
        install=refusal(lambda response: response.set_status(403)),
    ),
    _fault(
        "rate-429-text",
        "the guide's gateway refuses in plain text",
        check="refusal",
        install=refusal(plain_words),
    ),
    _fault(
        "rate-other-code",
        "a refusal of the guide's gateway has the code 429",
        check="refusal",
        install=refusal(other_code),
    ),
    _warn(
        "rate-503-page",
        "a proxy refuses with a web page and a 503",
        check="refusal",
        install=of_proxy(503, UNAVAILABLE),
    ),
    _warn(
        "rate-429-page",
        "a proxy refuses with a web page and a 429",
        check="refusal",
        install=of_proxy(429, TOO_MANY),
    ),
    _warn(
        "rate-code-elsewhere",
        "a refusal of another gateway has the code 429",
        check="refusal",
        install=all_of(refusal(other_code), NO_METRICS),
    ),
    _fault(
        "rate-retry-soon",
        "Retry-After is a word",
        check="retry_after",
        install=retry_after("soon"),
    ),
    _fault(
        "rate-retry-false",
        "whoever comes back after Retry-After is refused again",
        check="retry_after",
        install=retry_after("0"),
        window_s=LONGER_S,
    ),
    _fault(
        "rate-retry-fraction",
        "Retry-After has a fraction",
        check="retry_after",
        install=retry_after("0.9"),
    ),
    _fault(
        "rate-retry-missing",
        "refusals of the guide's gateway have no Retry-After",
        check="retry_after",
        install=refusal(no_retry_after),
    ),
    _fault(
        "rate-retry-500",
        "whoever comes back after Retry-After gets a 500",
        check="retry_after",
        install=limiter(FailsAtLast),
    ),
    _warn(
        "rate-retry-rounded",
        "Retry-After is rounded down",
        check="retry_after",
        install=retry_after("0"),
    ),
    _warn(
        "rate-retry-long",
        "Retry-After is far longer than the window",
        check="retry_after",
        install=retry_after("30"),
    ),
    _warn(
        "rate-retry-window",
        "Retry-After is always a whole window, though a place comes back every second",
        check="retry_after",
        install=limiter(Bucket),
        window_s=EARLY_S,
    ),
    _warn(
        "rate-retry-elsewhere",
        "refusals of another gateway have no Retry-After",
        check="retry_after",
        install=all_of(refusal(no_retry_after), NO_METRICS),
    ),
    _fault(
        "rate-charged",
        "refused requests take places",
        check="charged",
        install=limiter(Charging),
        window_s=LONG_S,
    ),
    _warn(
        "rate-charged-uncounted",
        "refused requests take places, and nothing tells whether others use the key",
        check="charged",
        install=all_of(limiter(Charging), NO_METRICS),
        window_s=LONG_S,
    ),
    _fault(
        "rate-by-address",
        "requests with another X-Forwarded-For are counted apart",
        check="dodges",
        install=counted_by_header("X-Forwarded-For"),
    ),
    _fault(
        "rate-by-agent",
        "requests with another User-Agent are counted apart",
        check="dodges",
        install=counted_by_header("User-Agent"),
    ),
    _fault(
        "rate-by-spelling",
        "`bearer` and `Bearer` are counted apart",
        check="dodges",
        install=counted_by_header("Authorization"),
    ),
    _fault(
        "rate-by-cookie",
        "requests with another cookie are counted apart",
        check="dodges",
        install=counted_by_header("Cookie"),
    ),
    _fault(
        "rate-by-organization",
        "requests with another OpenAI-Organization are counted apart",
        check="dodges",
        install=counted_by_header("OpenAI-Organization"),
    ),
    _fault(
        "rate-by-url",
        "requests with another query in their URL are counted apart",
        check="dodges",
        install=counted_by(lambda request: request.path_qs),
    ),
    dataclasses.replace(
        _fault(
            "rate-by-user",
            "completions with another `user` in their JSON are counted apart",
            check="dodges",
            install=all_of(
                counted_by(lambda request: str(request["fields"].get("user"))),
                around("all", reads_first),
            ),
        ),
        arguments=(*in_window(WINDOW_S)["arguments"], "--path", "/v1/chat/completions"),
    ),
    _fault(
        "rate-by-original-address",
        "requests with another X-Original-Forwarded-For are counted apart",
        check="dodges",
        install=counted_by_header("X-Original-Forwarded-For"),
    ),
    _fault(
        "rate-api-key",
        "a key in X-Api-Key is accepted, and not limited",
        check="dodges",
        install=on_gateway(also_takes_api_key),
    ),
    _fault(
        "rate-shared",
        "all keys share one limit",
        check="other_key",
        install=limiter(Shared),
    ),
    _fault(
        "rate-ping",
        "/ping is refused as well",
        check="probes",
        install=all_of(limiter(Sliding), around_with_gateway("ping", limited_probe)),
    ),
    _fault(
        "rate-health",
        "/health is refused as well",
        check="probes",
        install=all_of(limiter(Sliding), around_with_gateway("health", limited_probe)),
    ),
    _fault(
        "rate-count-few",
        "/metrics counts one request of sixteen that are served",
        check="counters",
        install=change_json("metrics", few_counted),
        limit=20,
    ),
    _warn(
        "rate-count-served",
        "/metrics counts half of what is served",
        check="counters",
        install=change_json("metrics", half_counted),
    ),
    _warn(
        "rate-count-refused",
        "/metrics does not count refusals as errors",
        check="counters",
        install=change_json("metrics", no_errors_counted),
    ),
)

SOUND: tuple[SoundVariant, ...] = (
    _sound(
        "limit-fixed",
        "the limit's windows are those of the clock",
        install=exact(Fixed),
        window_s=LONGEST_S,
    ),
    _sound("limit-bucket", "the limit is a token bucket", install=exact(Bucket)),
    _sound(
        "limit-longer",
        "Retry-After is a whole window, which is true where the window slides",
        install=limiter(Sliding),
        window_s=EARLY_S,
    ),
    _sound(
        "limit-weighted",
        "the window before counts in part for the limit",
        install=limiter(Weighted),
    ),
    _sound(
        "limit-of-proxy",
        "a proxy limits by address, with web pages",
        install=all_of(limiter(OfAddress), of_proxy(503, UNAVAILABLE)),
        arguments=("--skip", "other_key"),
    ),
    _sound("limit-date", "Retry-After is a date", install=retry_after(in_date)),
    _sound(
        "limit-completions",
        "only completions are limited",
        install=on_gateway(limits_completions_only),
    ),
    _sound(
        "limit-bystander",
        "another client takes two places of the first burst",
        install=on_gateway(beside_another),
    ),
    _sound(
        "limit-of-slow-model",
        "so many completions at once are too much, as the server says in words of its own",
        install=holding(HOLDS, "backend", 503),
        window_s=LONG_S,
        arguments=(*COMPLETIONS, "--skip", "at_once"),
    ),
    _sound(
        "limit-of-thinker",
        "the model takes max_completion_tokens only, and a single one is not enough for it",
        install=all_of(
            instead(
                "backend",
                status=400,
                text=NO_ROOM,
                content_type="application/json",
            ),
            MAX_TOKENS_REFUSED,
        ),
        arguments=COMPLETIONS,
    ),
    _sound(
        "limit-stumbles",
        "the other key is refused once, and served when it comes again",
        install=on_gateway(stumbles_over_other_key),
    ),
    _sound(
        "limit-two-gateways",
        "two gateways answer in turn, each with its own /metrics",
        install=change_json("metrics", of_two_gateways()),
    ),
)
