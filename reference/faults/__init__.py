"""Faults that can be planted in a deployment: what each breaks, and who must notice.

A new fault is one row in its script's module here, made of `parts`; a new script one module and
its name below.
"""

from __future__ import annotations

from . import auth, benchmark, cors, model_routing, queue, scale, sdk, wol, workload
from .parts import Fault, events

__all__ = ["FAULTS", "Fault", "events", "table"]

FAULTS: tuple[Fault, ...] = (
    *benchmark.ROWS,
    *cors.ROWS,
    *queue.ROWS,
    *scale.ROWS,
    *sdk.ROWS,
    *auth.ROWS,
    *model_routing.ROWS,
    *wol.ROWS,
    *workload.ROWS,
)


def table() -> str:
    """The faults as text, one a line, with the check that must notice each."""
    width = max(len(fault.name) for fault in FAULTS)
    rows = []
    for fault in sorted(FAULTS, key=lambda fault: (fault.profile, fault.script, fault.check)):
        must = f"{fault.script} {fault.check}: {fault.status}"
        rows.append(f"{fault.name:<{width}}  {must:<30}  {fault.breaks}")
    return "\n".join(rows)
