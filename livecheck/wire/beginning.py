"""The first output events of a stream, until its end tells whether a model has written them. Pure.

Whether they only told of progress can be told at the end (`progress.py`), and of nearly every
stream at once. So those that were read by a pattern are kept together, and looked at one by one
only where something speaks for progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from livecheck.wire import progress
from livecheck.wire.progress import Said, Whole

Parts = tuple[int, int]  # of text and of thoughts


class _Event(NamedTuple):
    """`problems`: what is wrong with the form of its chunk. `parts`: how many there are by then."""

    said: Said
    problems: list[str]
    parts: Parts


class _Alike(NamedTuple):
    """Events in a row of one sender, with a text and nothing else. `before`: the parts before."""

    times_ns: Sequence[int]
    texts: Sequence[str]
    ident: str
    model: str
    is_thought: bool
    before: Parts

    def events(self) -> Iterator[_Event]:
        texts, thoughts = self.before
        model = self.model[: progress.MAX_NAME]
        for n, (at_ns, text) in enumerate(zip(self.times_ns, self.texts, strict=True), 1):
            parts = (texts, thoughts + n) if self.is_thought else (texts + n, thoughts)
            yield _Event(Said(at_ns, text, self.ident, model), [], parts)


class Beginning:
    """Up to `progress.MOST` events, or a few more."""

    __slots__ = ("_left", "_rows")

    def __init__(self) -> None:
        self._rows: list[_Event | _Alike] = []
        self._left = progress.MOST

    @property
    def has_room(self) -> bool:
        return self._left > 0

    def add(self, said: Said, problems: list[str], parts: Parts) -> None:
        self._rows.append(_Event(said, problems, parts))
        self._left -= 1

    def add_alike(
        self,
        times_ns: Sequence[int],
        texts: Sequence[str],
        sender: tuple[str, str],
        is_thought: bool,
        before: Parts,
    ) -> None:
        """`sender`: the id and the model of the chunks."""
        if self.has_room:
            self._rows.append(_Alike(times_ns, texts, *sender, is_thought, before))
            self._left -= len(texts)

    def leading(self, output_ns: Sequence[int], whole: Whole) -> int:
        """How many of them only tell of progress. `output_ns`: the times of all output events."""
        if not self._rows:
            return 0
        first = next(self._each(self._rows[:1])).said
        if progress.is_plain(first, output_ns, whole):
            return 0
        return progress.leading([each.said for each in self.events], whole)

    @property
    def events(self) -> list[_Event]:
        return list(islice(self._each(self._rows), progress.MOST))

    @staticmethod
    def _each(rows: Sequence[_Event | _Alike]) -> Iterator[_Event]:
        for row in rows:
            if isinstance(row, _Event):
                yield row
            else:
                yield from row.events()
