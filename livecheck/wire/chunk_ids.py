"""The ids of a stream's chunks: all chunks have one and the same, and which of them does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.text import shorten

ID_LENGTH = 30  # characters of an id in a line
MAX_LENGTH = 500  # characters of an id that are looked at
MOST_IDS = 5000  # different ids that are told apart
MOST_SHOWN = 2  # ids that differ from that of most chunks


@dataclass(slots=True)
class _Uses:
    """The chunks with one id: how many, the first and the last one (from 1), and whether all of
    them are about usage alone."""

    count: int = 0
    first: int = 0
    last: int = 0
    only_usage: bool = True


@dataclass
class Ids:
    """The ids of a stream, chunk by chunk. A chunk without an id counts under an empty one."""

    chunks: int = 0
    uses: dict[str, _Uses] = field(default_factory=dict)
    are_too_many: bool = False  # there were more ids, which are not told apart

    def add(self, chunk: Mapping[str, Any]) -> None:
        ident = chunk.get("id")
        only_usage = bool(chunk.get("usage")) and not chunk.get("choices")
        self.add_alike(ident if isinstance(ident, str) else "", 1, only_usage)

    def add_alike(self, ident: str, count: int, only_usage: bool = False) -> None:
        """So many chunks in a row with this id; each has a choice, unless it is `only_usage`."""
        ident = ident[:MAX_LENGTH]
        self.chunks += count
        uses = self.uses.get(ident)
        if uses is None:
            if len(self.uses) == MOST_IDS:
                self.are_too_many = True
                return
            uses = self.uses[ident] = _Uses()
        uses.count += count
        uses.first, uses.last = uses.first or self.chunks - count + 1, self.chunks
        uses.only_usage &= only_usage

    def forget(self, idents: Sequence[str]) -> None:
        """Take chunks at the beginning out, which have these ids: another sender has made them."""
        for ident in idents:
            if (uses := self.uses.get(ident)) is None:
                continue
            self.chunks, uses.count = self.chunks - 1, uses.count - 1
            if not uses.count:
                del self.uses[ident]
        for uses in self.uses.values():
            uses.first, uses.last = max(1, uses.first - len(idents)), uses.last - len(idents)

    @property
    def problem(self) -> str | None:
        """What is wrong with them all together; None when all chunks have the same id."""
        known, missing = [each for each in self.uses if each], self.uses.get("")
        if self.are_too_many:
            return f"more than {MOST_IDS:,} different ids in {self.chunks:,} chunks"
        if missing and len(known) < 2:
            where = f", {self._where('')}" if known else ""
            return f"{missing.count} of {self.chunks} chunks have no id{where}"
        if len(known) < 2:
            return None
        if len(known) == self.chunks:
            return f"{len(known)} different ids in {self.chunks} chunks: each has its own"
        usual = max(known, key=lambda each: self.uses[each].count)
        odd = sorted(
            (each for each in self.uses if each != usual), key=lambda i: self.uses[i].count
        )
        shown = [f"{_quoted(each)} in {self._where(each)}" for each in odd[:MOST_SHOWN]]
        more = f" and {len(odd) - MOST_SHOWN} more" if len(odd) > MOST_SHOWN else ""
        others = f"{_quoted(usual)} in {self.uses[usual].count}"
        count = f"{len(known)} different ids in {self.chunks} chunks"
        return f"{count}: {others}, {', '.join(shown)}{more}"

    def _where(self, ident: str) -> str:
        """Which chunks have this id, in words."""
        uses = self.uses[ident]
        if uses.only_usage and uses.count == 1:
            return "the chunk with the usage"
        if uses.count == 1:
            names = {1: "the first", self.chunks: "the last"}
            return names.get(uses.first, f"chunk {uses.first}")
        if uses.last - uses.first + 1 == uses.count:
            return f"chunks {uses.first} to {uses.last}"
        return f"{uses.count} of them, from chunk {uses.first} on"


def _quoted(ident: str) -> str:
    return repr(shorten(ident, ID_LENGTH)) if ident else "no id"
