"""How many cores this program may use, and whether it can be divided into several processes."""

from __future__ import annotations

import os
import time

SHARED_CLOCK = "clock_gettime(CLOCK_MONOTONIC)"


def cores() -> int:
    """The cores that this program may use; 1 where it cannot be divided."""
    if not can_divide():
        return 1
    return len(os.sched_getaffinity(0))


def can_divide() -> bool:
    """Whether processes can be forked, and read a clock that all of them share."""
    is_shared = time.get_clock_info("perf_counter").implementation == SHARED_CLOCK
    return is_shared and hasattr(os, "fork") and hasattr(os, "sched_getaffinity")
