"""The faults that test_workload_routing.py must notice."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

from aiohttp import web

from ..fleet_registry import Runner
from ..hooks import Handler
from .answers import DETAIL_200, error_200, json_200, never_answer, plain_text
from .conditions import on_runner, only
from .fault import Fault, Install
from .fleet_changes import chooses
from .planting import all_of, around, nothing
from .thinking import HIDDEN_THOUGHTS

WORKLOAD = "test_workload_routing.py"
NO_CONTENT: dict[str, object] = {
    "object": "chat.completion",
    "model": "smollm2:135m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}}],
}
ON_TOWER = on_runner("tower")  # the second of two
# Gets the runners that can serve and the number of the request; gives a position in the list.
Choice = Callable[[Sequence[Runner], int], int]


# --- which runner serves


def serving(choice: Choice) -> Install:
    """Another choice of the runner for each request, whether that runner is free or not."""
    count = itertools.count()

    def choose(able: list[Runner], wanted: str) -> Runner:
        return able[choice(able, next(count))]

    return chooses(choose)


def only_first(able: Sequence[Runner], number: int) -> int:
    return 0


def all_but_last(able: Sequence[Runner], number: int) -> int:
    return number % (len(able) - 1)


def one_in(period: int) -> Choice:
    """The second runner gets one request in `period`."""
    return lambda able, number: int(number % period == period - 1)


def few_at_first(few: int, period: int) -> Choice:
    """Of each `period` requests, the second runner gets the first `few`. The very first request
    is sent alone and does not count."""
    return lambda able, number: int(0 < number % period <= few)


# --- what it answers


def refused_beyond(most: int) -> Install:
    """More requests at once than `most` are refused, where they should wait in a queue."""
    active = 0

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal active
        if active >= most:
            return web.Response(status=503, text="planted")
        active += 1
        try:
            return await handler(request)
        finally:
            active -= 1

    return around("inference", wrapper)


def not_found(*where: str) -> Install:
    """These parts of the admin API do not exist."""
    return all_of(*[plain_text(name, 404, "Not found") for name in where])


# --- the faults

_workload = functools.partial(Fault, script=WORKLOAD, profile="fleet")
_share = functools.partial(_workload, check="distribution")
_requests = functools.partial(_workload, check="requests")
_expect = functools.partial(_workload, check="expect_runners")

ROWS: tuple[Fault, ...] = (
    _share(
        "workload-one-runner",
        "one runner serves all requests, however many wait for it",
        install=serving(only_first),
    ),
    _share(
        "workload-one-runner-by-header",
        "one runner serves all requests; there is no request log, but a header names it",
        install=all_of(serving(only_first), not_found("requests")),
        options={"runner_header": "X-Served-By"},
    ),
    _share(
        "workload-skewed",
        "one request in 21 goes to the other runner; there is no admin API, but a header names it",
        install=all_of(serving(one_in(21)), not_found("requests", "runners")),
        options={"runner_header": "X-Backend"},
        arguments=("--requests", "20"),
    ),
    _requests(
        "workload-runner-fails",
        "one of two runners answers every request with a 500",
        install=only(ON_TOWER, plain_text("backend", 500)),
    ),
    _requests(
        "workload-runner-error-200",
        "one of two runners answers every request with an error and the status 200",
        install=only(ON_TOWER, error_200("backend")),
    ),
    _requests(
        "workload-refused-in-200",
        "one of two runners answers with the JSON of a framework's error, as an event stream",
        install=only(ON_TOWER, DETAIL_200),
    ),
    _requests(
        "workload-runner-mute",
        "one of two runners answers without content",
        install=only(ON_TOWER, json_200("backend", NO_CONTENT)),
    ),
    _requests(
        "workload-hidden-thoughts",
        "all tokens of the answers are thoughts that are not shown",
        status="WARN",
        install=HIDDEN_THOUGHTS,
    ),
    _requests(
        "workload-runner-hangs",
        "one of two runners never answers",
        install=only(ON_TOWER, around("backend", never_answer)),
        arguments=("--timeout", "2"),
    ),
    _requests(
        "workload-refuses",
        "requests are refused when there are more at once than slots",
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
        "requests are sent one after another, so fewer runners serve than expected",
        install=nothing,
        status="WARN",
        arguments=("--sequential", "--requests", "5", "--expect-runners", "2"),
    ),
    _workload(
        "workload-runner-idle",
        "one runner becomes idle while the other one has a queue",
        check="idle",
        install=serving(few_at_first(4, 41)),
        status="WARN",
        arguments=("--requests", "40"),
    ),
)
