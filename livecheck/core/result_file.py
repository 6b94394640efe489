"""The result files that a run leaves behind: written atomically, whatever happens."""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from livecheck.core.checks import VERDICTS, Check, Exit, Status, exit_code_of, worst
from livecheck.core.exchanges import Exchanges, Noted

SCHEMA_VERSION = 1


def to_json(document: Mapping[str, Any]) -> str:
    """One line for each key, and for each check and request: short, and `grep` and `diff` work."""
    return b"".join(_json_parts(document)).decode()


def to_json_bytes(document: Mapping[str, Any]) -> bytearray:
    """The same as UTF-8, made piece by piece: of 50 MB no second copy is needed. A list of objects
    may be an iterator, so that not all of them have to be there at once."""
    content = bytearray()
    for part in _json_parts(document):
        content += part
    return content


def _json_parts(document: Mapping[str, Any]) -> Iterator[bytes]:
    before = "{\n"
    for key, item in document.items():
        yield f"{before} {json.dumps(key)}: ".encode()
        before = ",\n"
        is_long = isinstance(item, Iterator) or (item and isinstance(item, list))
        entries = iter(item) if is_long else iter(())
        first = next(entries, None)
        if not isinstance(first, dict):
            yield _json_value([] if isinstance(item, Iterator) else item)
            continue
        yield b"[\n  " + _json_value(first)
        for entry in entries:
            yield b",\n  " + _json_value(entry)
        yield b"\n ]"
    yield b"\n}\n"


def _json_value(item: Any) -> bytes:
    text = json.dumps(item, ensure_ascii=False, allow_nan=False, default=list)  # of an array
    return text.encode("utf-8", "replace")  # a server's lone surrogates


def write_atomically(path: Path, content: str | bytes | bytearray) -> None:
    """The whole file or none of it, whatever happens meanwhile. Raises OSError."""
    if isinstance(content, str):
        content = content.encode("utf-8", "replace")
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    INTERRUPTION.postpone()  # it would leave the scratch file behind
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
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
        self.requests: list[dict[str, Any]] = []
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
