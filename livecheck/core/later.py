"""Modules that are read when something of them is first used, and not when they are imported.

    with later():
        from livecheck.wire import sse

A command has modules that it needs after its first request, or not at all in most runs. To read one
takes a millisecond, and ten where Python may not keep compiled files; all of that would stand
before the first request. Only whole modules can be imported like this: a name out of one has to be
there at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


@contextlib.contextmanager
def later() -> Iterator[None]:
    """What is imported inside, and was not imported before, is read at its first use. That must not
    come from two threads at once."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is not None:
            return spec
        spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec
