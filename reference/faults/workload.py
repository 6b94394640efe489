"""What test_workload_routing.py must notice."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Sequence

from aiohttp import web

from ..fleet_runners import Runner
from ..hooks import Answer
from .fleet import both, chooses
from .parts import Fault, Install, around, never, nothing

WORKLOAD = "test_workload_routing.py"
NO_CONTENT: dict[str, object] = {"object": "chat.completion", "model": "smollm2:135m"}
NO_CONTENT |= {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}}]}
Choice = Callable[[Sequence[Runner], int], int]


# --- who serves


def serving(choice: Choice) -> Install:
    """The place in the list of the runner for the n-th request, whether it is free or not."""
    count = itertools.count()

    def choose(able: list[Runner], wanted: str) -> Runner:
        return able[choice(able, next(count))]

    return chooses(choose)


def only_first(able: Sequence[Runner], number: int) -> int:
    return 0


def all_but_last(able: Sequence[Runner], number: int) -> int:
    return number % (len(able) - 1)


def one_in(period: int) -> Choice:
    """The second one gets the last of so many."""
    return lambda able, number: int(number % period == period - 1)


def few_at_first(few: int, period: int) -> Choice:
    """The second one gets the first few of so many, but for the one that is sent alone."""
    return lambda able, number: int(0 < number % period <= few)


# --- what becomes of it


def by_runner(name: str, instead: Callable[[], web.Response] | None) -> Install:
    """What this runner answers; None: it does not."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        if request["place"].runner.name != name:
            return await answer(request)
        return instead() if instead else await never(answer, request)

    return around("backend", wrapper)


def refused_beyond(most: int) -> Install:
    """Requests above so many at once are refused at the door, where a queue should be."""
    active = 0

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal active
        if active >= most:
            return web.Response(status=503, text="planted")
        active += 1
        try:
            return await answer(request)
        finally:
            active -= 1

    return around("inference", wrapper)


def unreadable(*where: str) -> Install:
    """These parts of the admin API do not exist."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0)
        return web.Response(status=404, text="Not found")

    return both(*[around(name, wrapper) for name in where])


# --- the faults

_workload = functools.partial(Fault, script=WORKLOAD, profile="fleet")
_share = functools.partial(_workload, check="distribution")
_requests = functools.partial(_workload, check="requests")
_expect = functools.partial(_workload, check="expect_runners")

ROWS: tuple[Fault, ...] = (
    _share(
        "workload-one-runner",
        "one runner serves all, however many wait for it",
        install=serving(only_first),
    ),
    _share(
        "workload-one-runner-by-header",
        "one runner serves all: a header tells, there is no request log",
        install=both(serving(only_first), unreadable("requests")),
        options={"runner_header": "X-Served-By"},
    ),
    _share(
        "workload-skewed",
        "one request in 21 goes to the other runner: a header tells, there is no admin API",
        install=both(serving(one_in(21)), unreadable("requests", "runners")),
        options={"runner_header": "X-Backend"},
        arguments=("--requests", "20"),
    ),
    _requests(
        "workload-runner-fails",
        "one of two runners fails at each request",
        install=by_runner("tower", lambda: web.Response(status=500, text="planted")),
    ),
    _requests(
        "workload-runner-mute",
        "one of two runners answers without content",
        install=by_runner("tower", lambda: web.json_response(NO_CONTENT)),
    ),
    _requests(
        "workload-runner-hangs",
        "one of two runners never answers",
        install=by_runner("tower", None),
        arguments=("--timeout", "2"),
    ),
    _requests(
        "workload-refuses",
        "more requests at once than there are slots are refused",
        install=refused_beyond(4),
    ),
    _expect(
        "workload-runner-left-out",
        "the third runner is never used",
        install=serving(all_but_last),
        options={"runners": 3},
        arguments=("--expect-runners", "3"),
    ),
    _expect(
        "workload-fewer-one-by-one",
        "one at a time, fewer runners serve than were expected",
        install=nothing,
        status="WARN",
        arguments=("--sequential", "--requests", "5", "--expect-runners", "2"),
    ),
    _workload(
        "workload-runner-idle",
        "a runner is idle from some moment on, while the other has a queue",
        check="idle",
        install=serving(few_at_first(4, 41)),
        status="WARN",
        arguments=("--requests", "40"),
    ),
)
