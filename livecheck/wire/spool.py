"""Keeps what a long level needs of its answers in a file without a name, not in memory.

Of an answer that was read, some numbers and the times of its events are left (`Extract`). They are
written into a temporary file that has no name from the beginning, or loses it at once: it is gone
when this process is, however that ends. What a server says is not written there, because it may
contain a piece of a credential: texts stay in memory, each one once. Few answers stay in memory.

When the file cannot be written (the disk is full, or a quota is reached), the numbers are kept in
memory, and nothing that was measured is lost.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import dataclasses
import marshal
import weakref
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from livecheck.wire.answer import Answer, Extract, Timed
from livecheck.wire.request import lags_array
from livecheck.wire.silence import Silence

FEW_BYTES = 1 << 20  # of the extracts; there is no file for fewer
NOWHERE = -1  # the place of an answer that is not in the file
NUMBERS = tuple(each.name for each in dataclasses.fields(Extract))[:8]  # all before `silence`
TIMES = "event_ms"  # the figure that is as long as the answer


class Spool:
    """The extracts of the answers of one level, by their index.

    `folder`: where the file is made, with the first answer. `tell` gets one line when it cannot be
    written. `look` sees each answer when it was read and its bytes are still there. `is_eager`: it
    gets each answer whenever there is time, and not only when they are too many.
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str], object],
        look: Callable[[Answer], object] | None = None,
        is_eager: bool = False,
    ):
        self._folder, self._tell, self.look, self.is_eager = folder, tell, look, is_eager
        self._file: IO[bytes] | None = None
        self._has_failed = False
        self._end = 0  # of the file
        # where the bytes of each answer begin, and how many there are: 12 bytes for an answer
        self._starts, self._sizes = array("q"), array("I")
        self._kept: dict[int, bytes] = {}  # what is not in the file
        self._kept_bytes = 0
        self._texts: list[Any] = []
        self._numbers: dict[Any, int] = {}  # of the texts
        self.begun_ns: int | None = None  # when the first of the requests began

    def add(self, answer: Answer) -> None:
        """Keep the extract of an answer that was condensed."""
        self.keep(answer.extract)

    def keep(self, found: Extract) -> None:
        data = self._packed(found)
        start = self._written(data)
        missing = found.index + 1 - len(self._starts)
        self._starts.extend([NOWHERE] * missing)
        self._sizes.extend([0] * missing)
        if start is None:
            self._kept[found.index] = data
            self._kept_bytes += len(data)
        self._sizes[found.index] = len(data)
        self._starts[found.index] = NOWHERE if start is None else start
        if found.begun_ns is not None:
            earliest_ns = found.begun_ns if self.begun_ns is None else self.begun_ns
            self.begun_ns = min(found.begun_ns, earliest_ns)

    def __iter__(self) -> Iterator[int]:
        """The indices of the answers that are kept here, in ascending order."""
        return (index for index, size in enumerate(self._sizes) if size)

    def extract(self, index: int) -> Extract:
        """What was kept of an answer. Raises OSError when the file cannot be read."""
        row, silence, keys, values, times, lags, merged, code = self._unpacked(index)
        figures = dict(zip(self._texts[keys], map(self._restored, values), strict=True))
        figures[TIMES] = array("d", times)
        if silence is not None:
            start_ns, end_ns, phase = silence
            silence = Silence(start_ns, end_ns, self._texts[phase])
        return Extract(
            **dict(zip(NUMBERS, row, strict=True)),
            silence=silence,
            lag_ns=array(code, lags),
            merged_lags_ns=array("q", merged),
            figures=figures,
        )

    def event_ms(self, index: int) -> array[float]:
        """The times of the output events of an answer alone."""
        return array("d", self._unpacked(index)[4])

    def times_later(self, answer: Timed) -> array[float] | partial[array[float]]:
        """The times of its output events; of an extract from here, a call that reads them."""
        if isinstance(answer, Answer):
            found: array[float] = answer.figures[TIMES]
            return found
        return partial(self.event_ms, answer.index)

    # the form in which it is kept: a tuple of numbers, with a text replaced by (its number,)

    def _packed(self, found: Extract) -> bytes:
        row = tuple(getattr(found, name) for name in NUMBERS)
        silence = None
        if found.silence is not None:
            start_ns, end_ns, phase = found.silence
            silence = start_ns, end_ns, self._number_of(phase)
        keys = self._number_of(tuple(found.figures))
        figures = {**found.figures, TIMES: None}
        values = tuple(map(self._replaced, figures.values()))
        lags = lags_array(found.lag_ns)
        arrays = found.figures[TIMES], lags, array("q", found.merged_lags_ns)
        packed = (each.tobytes() for each in arrays)
        return marshal.dumps((row, silence, keys, values, *packed, lags.typecode))

    def _unpacked(self, index: int) -> Any:
        data = self._kept.get(index)
        if data is None:
            assert self._file
            self._file.seek(self._starts[index])
            data = self._file.read(self._sizes[index])
        return marshal.loads(data)  # noqa: S302  (our own file, which has no name)

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, list):  # of texts
            value = tuple(value)
        return (self._number_of(value),) if isinstance(value, (str, tuple)) else value

    def _restored(self, value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        text = self._texts[value[0]]
        return list(text) if isinstance(text, tuple) else text

    def _number_of(self, text: str | tuple[str, ...]) -> int:
        found = self._numbers.get(text)
        if found is None:
            found = len(self._texts)
            self._texts.append(text)
            self._numbers[text] = found
        return found

    # the file

    def _written(self, data: bytes) -> int | None:
        """Where in the file the bytes are now; None when it does not take them."""
        if self._has_failed or self._kept_bytes + len(data) <= FEW_BYTES:
            return None
        try:
            file = self._file or self._opened()
            file.seek(self._end)
            if file.write(data) != len(data):
                raise OSError(0, "there is no more room")
        except OSError as error:
            self._has_failed = True
            why = f"cannot write a temporary file to {self._folder} ({error.strerror})"
            self._tell(f"{why}: what is measured stays in memory until the end")
            return None
        start, self._end = self._end, self._end + len(data)
        return start

    def _opened(self) -> IO[bytes]:
        import tempfile

        INTERRUPTION.postpone()  # where files cannot be made without a name, one would be left
        try:
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)
            self._file = file
            weakref.finalize(self, file.close)
        finally:
            INTERRUPTION.resume()
        return file
