"""What can go wrong with the programs that measure: they get no processor, or one is killed. And
the rows of those that do not measure alone: Locust's workers, and report.py, which judges the
results of another script.

A deployment cannot take a processor from its clients, nor kill one. So what `up` prints starts them
with `reference/clients/`, which does it.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ..hooks import Hooks
from .answers import error_500, every_third_fails, json_200
from .conditions import every, only
from .fault import Fault, Install
from .planting import around, late, nothing, on_events
from .rates import BENCHMARK, LEVEL
from .streams import cut, no_done

CLIENTS = Path(__file__).parents[1] / "clients"
LOCUSTFILE, REPORT = "locustfile.py", "report.py"
BUSY = "the program that measures cannot run for more than half of the time"
SHARE = 0.6  # of the time, in which it cannot
KILLED_S = 6  # after the workers are there: they begin within one to three
PING_S = 0.02


def befalls(**variables: object) -> Install:
    """This befalls the programs that measure; `variables`: see `reference/clients/`."""
    given = {name: str(value) for name, value in variables.items()}

    def install(hooks: Hooks) -> None:
        hooks.exports.append(lambda _: {"PYTHONPATH": str(CLIENTS), **given})

    return install


cannot_run = befalls(REFERENCE_CANNOT_RUN=SHARE)

FEW = ("--inference-only", "--requests", "4", "--max-tokens", "16", "--timeout", "10")
SHORT_LEVEL = ("--inference-only", "--requests", "5", "--max-tokens", "8", "--timeout", "10")
OF_C1 = "thresholds:c=1"
TOKENS = ("--max-tokens", "16")
OTHER_MODEL = json_200("models", {"object": "list", "data": [{"id": "other", "object": "model"}]})

_starved = functools.partial(
    Fault, script=BENCHMARK, install=cannot_run, options={"ttft_ms": 20, "itl_ms": 5}
)
_report = functools.partial(
    Fault, script=REPORT, install=nothing, measured_by=(BENCHMARK, *SHORT_LEVEL)
)
_locust = functools.partial(
    Fault,
    script=LOCUSTFILE,
    install=nothing,
    options={"ttft_ms": 40, "itl_ms": 10},
    arguments=TOKENS,
)

ROWS: tuple[Fault, ...] = (
    _starved(
        "client-starved",
        BUSY,
        check="client",
        status="WARN",
        arguments=LEVEL,
        says="client-bound",
    ),
    _starved(
        "client-starved-slo",
        f"{BUSY}, and an objective is missed by that",
        check="slo:e2e_p50",
        status="SKIP",
        arguments=(*LEVEL, "--slo", "e2e_p50=150ms"),
        says="this program could not run",
    ),
    _starved(
        "client-starved-capacity",
        f"{BUSY}, so that a level has fewer requests in flight than it asks for",
        check="capacity",
        status="SKIP",
        arguments=(*FEW, "--find-capacity", "--slo", "ttft_p50=10s", "--max-level", "2"),
        says="this program could not run",
    ),
    _report(
        "report-client-bound",
        BUSY,
        check=f"{OF_C1} TTFT p50",
        install=cannot_run,
        options={"ttft_ms": 20, "itl_ms": 5},
        measured_by=(BENCHMARK, *LEVEL),
        status="SKIP",
        says="client-bound",
    ),
    _report(
        "report-ttft",
        "the first token needs 600 ms",
        check=f"{OF_C1} TTFT p50",
        options={"ttft_ms": 600},
    ),
    _report(
        "report-ttft-p95",
        "the first token needs more than a second",
        check=f"{OF_C1} TTFT p95",
        options={"ttft_ms": 1100},
    ),
    _report(
        "report-decode-rate",
        "a token comes every 70 ms",
        check=f"{OF_C1} decode rate mean",
        options={"itl_ms": 70},
    ),
    _report(
        "report-errors",
        "every third answer is a 500",
        check=f"{OF_C1} error rate",
        install=every_third_fails,
    ),
    _report(
        "report-ping",
        "/ping needs 20 ms",
        check="thresholds:/ping net of network p99",
        install=around("ping", late(PING_S)),
        measured_by=(BENCHMARK, "--gateway-only", "--requests", "20"),
    ),
    _locust(
        "worker-killed",
        "a worker is killed while it measures, so that requests are lost",
        check="workers",
        status="SKIP",
        install=befalls(REFERENCE_KILLS_AFTER=KILLED_S),
        says="ended without a word",
    ),
    _locust(
        "workers-several-models",
        "the list of models begins with another one each time",
        check="workers",
        status="WARN",
        install=only(every(2), OTHER_MODEL),
        says="give --model",
    ),
    _locust("locust-500", "every answer is a 500", check="requests", install=error_500("backend")),
    _locust(
        "locust-some-fail",
        "every third answer is a 500, and half of them may fail",
        check="requests",
        status="WARN",
        install=every_third_fails,
        arguments=(*TOKENS, "--slo", "error_rate=50%"),
    ),
    _locust(
        "locust-cut", "streams end after a few tokens", check="requests", install=on_events(cut)
    ),
    _locust("locust-no-done", "streams have no [DONE]", check="stream", install=on_events(no_done)),
    _locust(
        "locust-client-starved",
        "the workers cannot run for more than half of the time",
        check="client",
        status="WARN",
        install=cannot_run,
        says="client-bound: worker",
    ),
    _locust(
        "locust-slo",
        "the first token needs longer than the objective allows",
        check="slo:ttft_p50",
        options={"ttft_ms": 400, "itl_ms": 10},
        arguments=(*TOKENS, "--slo", "ttft_p50=50ms"),
    ),
)
