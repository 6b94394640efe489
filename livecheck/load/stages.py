"""`--stages`: how many users there are, and for how long. Pure.

`8:30s 32:1m 8:30s` is 8 users for half a minute, then 32 for a minute, then 8 again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from livecheck.core.json_value import quoted
from livecheck.core.late_pattern import late_pattern

MOST_USERS = 100_000
MOST_STAGES = 1000
MOST_S = 7 * 86_400.0
STAGE = late_pattern(r"(\d{1,6}):(\d{1,9}(?:\.\d{1,9})?)(s|m|h)?")
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


@dataclass(frozen=True)
class Stage:
    """So many users for so long."""

    users: int
    duration_s: float


def parse_stages(text: str) -> list[Stage]:
    """The stages in the order of time, with spaces or commas between them. ValueError says which
    is wrong, and why."""
    stages = [parse_stage(word) for word in text.replace(",", " ").split()]
    if not stages:
        raise ValueError("no stage: write USERS:DURATION, as in 8:30s 32:1m")
    if len(stages) > MOST_STAGES:
        raise ValueError(f"{len(stages)} stages, the most is {MOST_STAGES}")
    if not any(stage.users for stage in stages):
        raise ValueError("no stage has a user")
    return stages


def parse_stage(word: str) -> Stage:
    match = STAGE.fullmatch(word)
    if not match:
        raise ValueError(f"{quoted(word)} is not USERS:DURATION, as in 8:30s")
    users, duration_s = int(match[1]), float(match[2]) * UNITS_S[match[3]]
    if users > MOST_USERS:
        raise ValueError(f"{users} users are too many, the most is {MOST_USERS}")
    if not 1 <= duration_s <= MOST_S:
        raise ValueError(f"{quoted(word)}: a stage takes from one second to a week")
    return Stage(users, duration_s)


def stage_at(stages: Sequence[Stage], spent_s: float) -> int | None:
    """How many users there are so long after the start; None when the last stage is over."""
    end_s = 0.0
    for stage in stages:
        end_s += stage.duration_s
        if spent_s < end_s:
            return stage.users
    return None
