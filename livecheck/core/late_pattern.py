"""Regular expressions that are compiled when they are first used.

There are a hundred of them in the modules that a command needs before it sends its first request,
and most runs use a few: to compile all takes a quarter of the time of the start.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


def late_pattern(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` gives; a mistake in the pattern shows only when it is used."""
    return cast("re.Pattern[AnyStr]", _Late(pattern, flags))


class _Late:
    def __init__(self, pattern: str | bytes, flags: int):
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        pattern, flags = self._source
        found = getattr(re.compile(pattern, flags), name)
        setattr(self, name, found)  # from now on it is there without a detour
        return found
