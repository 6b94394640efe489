"""--self-check: how wrong this program's figures are, on this machine and at this concurrency.

Before the levels, a copy of benchmark.py measures the truth server (`reference/truth.py`) on
loopback, for some seconds and with as many requests in flight as each level will have. The
difference between what it reports and what was true limits what the level's figures can mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livecheck.load import table
from livecheck.load.arrivals import Load
from livecheck.wire import client_error

if TYPE_CHECKING:  # it imports what takes a while, and no other run needs
    from livecheck.load.truth_trial import Trial

SERVER = Path(__file__).resolve().parents[2] / "reference" / "truth.py"
LEAST_REQUESTS = 8
MOST_IN_FLIGHT = 1000  # the truth server is exact up to here
MOST_PER_S = 20_000  # events of all streams together, for the same reason
ITL_MS = 10.0
TTFT_MS = 50.0
TOKENS = 32
TYPICAL_S, LONGEST_S = 4.0, 30.0  # of one trial
MISSING = (
    "--self-check needs the folder reference/ beside benchmark.py: copy it there too, or leave "
    "the option out"
)


def is_possible() -> bool:
    """Whether the truth server is here: a copied script may be without it."""
    return SERVER.is_file()


def in_flight(load: Load) -> int:
    """How many requests a level can have in flight, as far as they can be checked."""
    return min(load.concurrency, load.planned or load.concurrency, MOST_IN_FLIGHT)


def concurrencies(loads: Sequence[Load], most: float | None = None) -> list[int]:
    """At which concurrencies to check; `most`: the highest level of a search."""
    if most is not None and not loads[0].is_open:
        return [min(int(most), MOST_IN_FLIGHT)]
    return list(dict.fromkeys(map(in_flight, loads)))


def trial_at(concurrency: int, tls: bool, processes: int | None = None) -> Trial:
    """`processes`: what --processes says; one request in flight cannot be divided."""
    from livecheck.load.truth_trial import Trial

    itl_ms = max(ITL_MS, concurrency * 1e3 / MOST_PER_S)
    requests = max(LEAST_REQUESTS, concurrency)
    count = processes and min(processes, concurrency)
    options = ("--processes", str(count)) if count and concurrency > 1 else ()
    pace = (TOKENS, TTFT_MS, itl_ms)
    return Trial(concurrency, requests, *pace, tls, options=options, timeout_s=LONGEST_S)


def measure(
    numbers: Sequence[int], tls: bool, processes: int | None, tell: Callable[[str], object]
) -> dict[int, dict[str, Any]]:
    """The figures of the check at each of these concurrencies. `tell` gets a line before each."""
    found = {}
    for number in numbers:
        tell(f"self-check: this program against a server with known times, {number} in flight")
        found[number] = figures_at(trial_at(number, tls, processes), processes or 1)
    return found


def figures_at(trial: Trial, processes: int = 1) -> dict[str, Any]:
    """The figures of one trial; without figures, `problem` says why."""
    from livecheck.load import truth_trial

    errors, is_bound, problem, by_kernel = client_error.Errors(), None, None, None
    try:
        outcome = truth_trial.run(trial, *truth_trial.separate_processors(processes))
        errors = client_error.compare(outcome.document["requests"], outcome.truth["requests"])
        is_bound = outcome.document["metrics"]["client"]["client_bound"]
        by_kernel = all(note["is_stamped"] for note in outcome.truth["requests"])
        if not errors.ttft_ms:
            problem = f"none of its {errors.unmatched + errors.inexact} requests can be compared"
    except truth_trial.TrialError as error:
        problem = str(error)
    except (KeyError, TypeError):  # it ended early, so that its document is not whole
        problem = "the trial has ended early"
    return {
        "concurrency": trial.concurrency,
        "tls": trial.tls,
        "tokens_per_s": round(1e3 / trial.itl_ms, 1),
        "ttft_error_ms": client_error.summary(errors.ttft_ms),
        "event_error_ms": client_error.summary(errors.event_ms),
        "not_compared": errors.unmatched + errors.inexact,
        "client_bound": is_bound,
        "kernel_times": by_kernel,
        "problem": problem,
    }


def lines(checks: Mapping[int, dict[str, Any]]) -> list[str]:
    """What they came to, as lines of the text."""
    words = (client_error.words({client_error.KEY: each}) for each in checks.values())
    return [line for each in words for line in table.entry("client error", each or "")]


def for_level(
    checks: Mapping[int, dict[str, Any]], load: Load, most_in_flight: int | None = None
) -> dict[str, Any]:
    """What to add to the `client` figures of a level: the check at its concurrency, or else at the
    next higher one; nothing without --self-check. `most_in_flight`: how many an open loop had,
    which is known when it is over."""
    if not checks:
        return {}
    number = in_flight(load)
    found = checks[min((each for each in checks if each >= number), default=max(checks))]
    return {client_error.KEY: found | {"level_in_flight": most_in_flight}}
