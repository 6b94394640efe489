"""The faults that can be planted in a deployment: what each breaks, and which check must notice.

There is a module for each script, named after it, with a table of faults: `ROWS`. A new fault is a
row there; docs/reference.md explains it step by step. The rows are made of the functions in
`planting` (how), `answers`, `streams` and `fleet_changes` (what). `sound` has the deployments that
are only unusual: no check may fail there. `closed_doors` has those at which nothing can be checked.
"""

from __future__ import annotations

from . import (
    auth,
    auth_doors,
    benchmark,
    client_side,
    codings,
    completion_forms,
    concurrency,
    context,
    cors,
    dead_addresses,
    drifts,
    model_routing,
    openai_sdk,
    openai_sdk_failures,
    openai_sdk_text,
    parameters,
    queue,
    rarely_met,
    rate_limit,
    rates,
    responses_api,
    runner_losses,
    scale_to_zero,
    silences,
    tools,
    wol,
    workload_routing,
)
from .closed_doors import CLOSED
from .fault import ClosedDoor, Fault, SoundVariant
from .sound import SOUND

__all__ = ["CLOSED", "FAULTS", "SOUND", "ClosedDoor", "Fault", "SoundVariant", "table"]

FAULTS: tuple[Fault, ...] = (
    *benchmark.ROWS,
    *cors.ROWS,
    *queue.ROWS,
    *scale_to_zero.ROWS,
    *silences.ROWS,
    *openai_sdk.ROWS,
    *openai_sdk_failures.ROWS,
    *openai_sdk_text.ROWS,
    *responses_api.ROWS,
    *parameters.ROWS,
    *rarely_met.ROWS,
    *rates.ROWS,
    *drifts.ROWS,
    *client_side.ROWS,
    *rate_limit.ROWS,
    *auth.ROWS,
    *auth_doors.ROWS,
    *model_routing.ROWS,
    *wol.ROWS,
    *workload_routing.ROWS,
    *runner_losses.ROWS,
    *codings.ROWS,
    *dead_addresses.ROWS,
    *completion_forms.ROWS,
    *concurrency.ROWS,
    *context.ROWS,
    *tools.ROWS,
)


def table() -> str:
    """The faults as text, one on a line, with the check that must notice each; then what is
    unusual and sound, and what lets nobody in."""
    faults = sorted(FAULTS, key=lambda fault: (fault.profile, fault.script, fault.check))
    rows = [
        (each.name, f"{each.script} {each.check}: {each.status}", each.breaks) for each in faults
    ]
    rows += [(each.name, "sound", each.shows) for each in SOUND]
    rows += [(each.name, "exit 3", each.shows) for each in CLOSED]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {must:<{widths[1]}}  {what}" for name, must, what in rows
    )
