"""What is said of a level whose figures are about this program, and what would help. Pure.

The figures come from `client` in the metrics of a level, also as a result file has them, so that
anything may stand in the place of a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.wire.metrics import SCALARS, Objective

# Bytes that were read together with later ones have lain there for longer than the kernel tells:
# since the look before, at most. One look takes about as long as another.
LOOKS = 2
MORE = ", or with workers that are less busy"


def is_client_bound(figures: Mapping[str, Any]) -> bool:
    client = figures.get("client")
    return isinstance(client, Mapping) and client.get("client_bound") is True


def words(figures: Mapping[str, Any]) -> str:
    """Why a level is not judged, and what to do; "" when it can be judged."""
    if not is_client_bound(figures):
        return ""
    return f"the level is client-bound: {advice(figures)}"


def advice(figures: Mapping[str, Any]) -> str:
    """What to do about a client that was too slow: so many processes, or workers of Locust where
    these have measured the level, or another machine."""
    needed, cores = (_whole(figures["client"].get(key)) for key in ("processes_needed", "cores"))
    if figures.get("workers"):
        return f"measure it with {needed or 'more'} workers" + ("" if needed else MORE)
    if needed is None:
        return "measure it with a faster client, or one that is less busy"
    if cores is None or needed <= cores:
        return f"measure it with --processes {needed}"
    return f"measure it with --processes {needed}, on a machine with as many cores (here {cores})"


def may_be_own_doing(
    wanted: Objective,
    figures: Mapping[str, Any],
    value: float | None,
    values: Sequence[float | None] = (),
) -> bool:
    """Whether a bound that a client-bound level misses may be missed by this program's own delay.

    `values`: of a bound for every request, those of the requests; None for one that has no such
    figure, which no delay explains. Errors are the server's. Times get longer by a delay; rates get
    lower by its share of the time in which the tokens came.
    """
    if wanted.name == "error_rate" or not is_client_bound(figures) or None in values:
        return False
    own = figures["client"].get("own_delay_ms")
    if not isinstance(own, (int, float)):
        return True
    delay_ms = LOOKS * own + (_late_ms(figures) if wanted.name in SCALARS else 0.0)
    own_values = [each for each in (values if wanted.per_request else (value,)) if each is not None]
    if wanted.upper:
        without = [each - delay_ms for each in own_values]
    else:
        without = [each * _faster(figures, delay_ms) for each in own_values]
    return bool(without) and all(map(wanted.holds, without))


def _late_ms(figures: Mapping[str, Any]) -> float:
    """By how much later than possible this program sent the requests of a closed loop. That is in
    no time, because times count from the send, but in every throughput."""
    late = (figures["client"].get("send_lag_ms") or {}).get("p99")
    return late if late is not None and figures.get("load_model") == "closed loop" else 0.0


def _faster(figures: Mapping[str, Any], delay_ms: float) -> float:
    """By which factor the tokens of an answer may have come faster."""
    e2e_ms, ttft_ms = figures["e2e_ms"]["p50"], figures["ttft_ms"]["p50"]
    if e2e_ms is None or ttft_ms is None or e2e_ms - ttft_ms <= delay_ms:
        return math.inf
    return float((e2e_ms - ttft_ms) / (e2e_ms - ttft_ms - delay_ms))


def _whole(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) else None
