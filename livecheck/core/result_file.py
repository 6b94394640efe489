"""The result files that a run leaves behind: written atomically, whatever happens."""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from livecheck.core.checks import VERDICTS, Check, Exit, Status, exit_code_of, worst
from livecheck.core.exchanges import Exchanges, Noted

SCHEMA_VERSION = 1
BUFFER_BYTES = 1 << 18  # of a file that is written piece by piece

Marks = tuple[str, str, str]  # what stands before, between and after the parts of a value


def to_json(document: Mapping[str, Any]) -> str:
    """One line for each key, and for each check and request: short, and `grep` and `diff` work."""
    return b"".join(json_parts(document)).decode()


def json_parts(document: Mapping[str, Any]) -> Iterator[bytes]:
    """The same as UTF-8, piece by piece, so that of 50 MB nothing has to be kept. A list of objects
    may be an iterator."""
    yield from _object_parts(document, ("{\n ", ",\n ", "\n}\n"), ("[\n  ", ",\n  ", "\n ]"))


def levels_parts(documents: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Several documents as one with the key `levels`, each of them on a line."""
    before = b'{\n "levels": [\n  '
    for document in documents:
        yield before
        yield from _object_parts(document, ("{", ", ", "}"), ("[", ", ", "]"))
        before = b",\n  "
    yield b"\n ]\n}\n"


def _object_parts(
    document: Mapping[str, Any], marks: Marks, marks_of_list: Marks
) -> Iterator[bytes]:
    """An object, of which each entry of a list of objects is a piece of its own."""
    start, between, end = marks
    before = start
    for key, item in document.items():
        yield f"{before}{json.dumps(key)}: ".encode()
        before = between
        if isinstance(item, Iterator) or (isinstance(item, list) and item):
            yield from _list_parts(item, *marks_of_list)
        else:
            yield _json_value(item)
    yield end.encode()


def _list_parts(item: Iterable[Any], start: str, between: str, end: str) -> Iterator[bytes]:
    entries = iter(item)
    first = next(entries, None)
    if not isinstance(first, dict):  # short, or empty
        yield _json_value(item if isinstance(item, list) else [])
        return
    yield start.encode() + _json_value(first)
    for entry in entries:
        yield between.encode() + _json_value(entry)
    yield end.encode()


def _json_value(item: Any) -> bytes:
    text = _ENCODE(item)
    return text.encode("utf-8", "replace")  # a server's lone surrogates


# `default`: of an array
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=list).encode


def write_atomically(path: Path, content: str | Iterable[bytes]) -> None:
    """The whole file or none of it, whatever happens meanwhile. Raises OSError, and what the making
    of the content raises, if that comes piece by piece."""
    parts = [content.encode("utf-8", "replace")] if isinstance(content, str) else content
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    INTERRUPTION.postpone()  # it would leave the scratch file behind
    try:
        with scratch.open("wb", buffering=BUFFER_BYTES) as file:
            file.writelines(parts)
        os.replace(scratch, path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        INTERRUPTION.resume()


def try_folder(folder: Path) -> None:
    """Find out before anything is sent whether results can be saved there. ValueError: they
    cannot."""
    INTERRUPTION.postpone()  # it would leave a file behind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{os.getpid()}-{os.urandom(4).hex()}.try"
        write_atomically(trial, "")
        trial.unlink()
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"cannot write to {folder} ({reason}): use --results DIR") from None
    finally:
        INTERRUPTION.resume()


def write_file(path: Path, text: str) -> None:
    """Atomically into a regular file; a link, a pipe or a device is kept, and written to.

    Raises OSError, also when nobody reads the pipe: to wait for a reader would hang the command.
    """
    if not path.is_symlink() and (path.is_file() or not path.exists()):
        write_atomically(path, text)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
    with open(os.open(path, flags, 0o666), "w", encoding="utf-8", errors="replace") as target:
        os.set_blocking(target.fileno(), True)
        target.write(text)


class Document:
    """One result file in the making: checks, metrics and a record for each request.

    `wants` says whether --only and --skip leave a check in; `main`: --output json prints it.
    `is_incidental`: the deployment does not promise what it is about, so that the run is decided
    without it; its own verdict is still that nothing was decided. `has_no_access`: it ended because
    nothing answers, or nobody is let in, so that the other commands would say the same.
    """

    def __init__(
        self,
        name: str,
        wants: Callable[[str], bool],
        strict: bool,
        main: bool = True,
        noted: Noted | None = None,
    ):
        self.name, self.main = name, main
        self.exchanges = Exchanges(noted or Noted())
        self.checks: list[Check] = []
        self.metrics: dict[str, Any] = {}
        self.requests: Sequence[Any] = []  # mappings
        self.finished = self.is_incidental = self.has_no_access = False
        self._wants, self._strict = wants, strict
        self._stopped: tuple[Exit, str] | None = None
        self._duration_s = 0.0
        self.start()

    def start(self) -> None:
        """`started_at` and `duration_s` count from now on."""
        self._started_at = datetime.now(timezone.utc)
        self._started_ns = time.perf_counter_ns()

    def add(self, *checks: Check) -> None:
        """Take checks in, as --only, --skip and --strict want it."""
        wanted = [check for check in checks if self._wants(check.name)]
        for check in wanted:
            if check.status is Status.WARN and self._strict:
                check.status = Status.FAIL
                check.detail += " (a warning, but --strict)"
        self.checks += wanted
        self.exchanges.take(wanted)

    def finish(self) -> None:
        """All was measured and judged: what happens later does not touch this document."""
        if not self.finished:
            self._duration_s = (time.perf_counter_ns() - self._started_ns) / 1e9
            self.finished = True

    def stop(self, code: Exit, error: str) -> None:
        """The run ended before its time, and this document with it, unless it was finished."""
        if not self.finished:
            self._stopped = code, error
            self.finish()

    def spoil(self, code: Exit, error: str) -> None:
        """Something failed after all was measured: nothing of it may be taken for a pass."""
        self._stopped = self._stopped or (code, error)

    @property
    def exit_code(self) -> Exit:
        early = [self._stopped[0]] if self._stopped else []
        return worst([*early, exit_code_of(self.checks)])

    @property
    def run_code(self) -> Exit:
        """What it means for the exit code of the run."""
        code = self.exit_code
        return Exit.OK if self.is_incidental and code is Exit.UNDECIDED else code

    def as_dict(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The file's content; `about` is what all documents of a run share."""
        code = self.exit_code
        return {
            "schema_version": SCHEMA_VERSION,
            "script": about["script"],
            "tool_version": about["tool_version"],
            "verdict": VERDICTS[code],
            "exit_code": int(code),
            "interrupted": code.is_interruption,
            "error": self._stopped[1] if self._stopped else None,
            "no_access": self.has_no_access,
            "started_at": self._started_at.isoformat(timespec="milliseconds"),
            "duration_s": round(self._duration_s, 3),
            **about,
            "checks": [as_saved(check) for check in self.checks],
            "exchanges": self.exchanges.as_list(self._started_ns),
            "metrics": self.metrics,
            "requests": self.requests,
        }


def as_saved(check: Check) -> dict[str, Any]:
    """A check without its exchanges, which several checks may share."""
    return {key: value for key, value in vars(check).items() if key != "exchanges"}
