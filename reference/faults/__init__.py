"""The faults that can be planted in a deployment: what each breaks, and which check must notice.

There is a module for each script, named after it, with a table of faults: `ROWS`. A new fault is a
row there; docs/reference.md explains it step by step. The rows are made of the functions in
`planting` (how), `answers`, `streams` and `fleet_changes` (what).
"""

from __future__ import annotations

from . import (
    auth,
    benchmark,
    cors,
    model_routing,
    openai_sdk,
    queue,
    scale_to_zero,
    wol,
    workload_routing,
)
from .fault import Fault

__all__ = ["FAULTS", "Fault", "table"]

FAULTS: tuple[Fault, ...] = (
    *benchmark.ROWS,
    *cors.ROWS,
    *queue.ROWS,
    *scale_to_zero.ROWS,
    *openai_sdk.ROWS,
    *auth.ROWS,
    *model_routing.ROWS,
    *wol.ROWS,
    *workload_routing.ROWS,
)


def table() -> str:
    """The faults as text, one on a line, with the check that must notice each."""
    faults = sorted(FAULTS, key=lambda fault: (fault.profile, fault.script, fault.check))
    rows = [
        (each.name, f"{each.script} {each.check}: {each.status}", each.breaks) for each in faults
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {must:<{widths[1]}}  {what}" for name, must, what in rows
    )
