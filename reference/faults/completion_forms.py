"""Completions that no command may pass, whatever it asks them for: given up, or of another form.

benchmark.py and test_openai_sdk.py have more of them, in their own modules.
"""

from __future__ import annotations

from typing import Any, Literal

from .answers import change_json
from .cors import CORS, ORIGIN
from .fault import Fault, Install
from .model_routing import SCRIPT as ROUTING
from .openai_sdk import finished
from .planting import on_events
from .scale_to_zero import SCRIPT as SCALE
from .scale_to_zero import SLEEPY, WITHOUT_CONTROL
from .stream_texts import cumulative, reason_first
from .streams import done_twice, finish, no_done, without_field
from .wol import ASLEEP, SHORT_TIMEOUT, WOL
from .workload_routing import WORKLOAD

FORM = "form"
# For each script: the check that must notice an answer that failed, and what a fault needs.
FLEET: dict[str, Any] = {"profile": "fleet"}
QUEUE_OF_TWO = {"max_concurrent_requests": 1, "max_queue_size": 2}
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "test_queue.py": ("single", {"options": QUEUE_OF_TWO, "arguments": ("--max-tokens", "16")}),
    SCALE: ("warm", {"options": SLEEPY, "arguments": WITHOUT_CONTROL}),
    ROUTING: ("class", FLEET),
    WORKLOAD: ("requests", {**FLEET, "arguments": ("--requests", "4")}),
    WOL: ("request", {**FLEET, "options": ASLEEP, "arguments": SHORT_TIMEOUT}),
}
OF_CORS: dict[str, Any] = {"options": {"cors_origins": ORIGIN}, "arguments": ("--origin", ORIGIN)}


def named(script: str, name: str) -> str:
    return f"{script.removeprefix('test_').removesuffix('.py').replace('_', '-')}-{name}"


def failing(name: str, breaks: str, install: Install) -> list[Fault]:
    """A fault that makes requests fail, for each script: only that check is run, to be quick."""
    rows = []
    for script, (check, needs) in SCRIPTS.items():
        arguments = (*needs.get("arguments", ()), "--only", check)
        more = {**needs, "arguments": arguments}
        rows.append(Fault(named(script, name), breaks, script, check, install, **more))
    return rows


def odd(
    name: str, breaks: str, install: Install, status: Literal["FAIL", "WARN"] = "FAIL"
) -> list[Fault]:
    """A fault in the form of answers that can be read all the same, for each script."""
    rows = []
    every = {script: needs for script, (_, needs) in SCRIPTS.items()} | {CORS: OF_CORS}
    for script, needs in every.items():
        more = {**needs, "arguments": (*needs.get("arguments", ()), "--only", FORM)}
        rows.append(Fault(named(script, name), breaks, script, FORM, install, status, **more))
    return rows


ROWS: tuple[Fault, ...] = (
    *failing("given-up", "streams end with the finish_reason abort", on_events(finish("abort"))),
    *failing(
        "reason-first",
        "the finish_reason of a stream comes with its first text, and none at its end",
        on_events(reason_first),
    ),
    Fault(
        "model-routing-whole-given-up",
        "whole answers have the finish_reason error",
        ROUTING,
        "class",
        change_json("backend", finished("error")),
        arguments=("--only", "class"),
        **FLEET,
    ),
    *odd(
        "cumulative",
        "each event of a stream has all the text before it once more",
        on_events(cumulative),
    ),
    *odd("form", "the chunks of a stream have no created", on_events(without_field("created"))),
    *odd("no-done", "streams have no [DONE]", on_events(no_done)),
    *odd("done-twice", "streams end with [DONE] twice", on_events(done_twice), "WARN"),
    *odd("eos", "streams end with the finish_reason eos", on_events(finish("eos")), "WARN"),
    Fault(
        "model-routing-eos-whole",
        "whole answers have the finish_reason eos",
        ROUTING,
        FORM,
        change_json("backend", finished("eos")),
        "WARN",
        arguments=("--only", FORM),
        **FLEET,
    ),
)
