"""The fleet's request log, as `/admin/api/requests` shows it."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

MAX_ENTRIES = 1000


class RequestLog:
    """The last requests, newest first."""

    def __init__(self) -> None:
        self.entries: deque[dict[str, Any]] = deque(maxlen=MAX_ENTRIES)

    def add(self, entry: dict[str, Any]) -> None:
        self.entries.appendleft(entry)

    def page(self, number: int, per_page: int) -> dict[str, Any]:
        """One page as the admin API answers it; `number` counts from 1."""
        first = (number - 1) * per_page
        return {
            "requests": list(itertools.islice(self.entries, first, first + per_page)),
            "total": len(self.entries),
            "page": number,
            "per_page": per_page,
        }
