"""Opens a result file and takes out of it what a report needs, within bounds for all of them.

Whatever lies in a folder may claim to be a result file. So it is opened only when it is a regular
file, read up to a limit, and kept without what no report shows. With these limits report.py takes
less than 200 MB and less than half a minute, whatever the files hold.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livecheck.core.exchanges import MAX_EXCHANGES
from livecheck.core.text import shorten
from livecheck.report.json_pieces import Pieces, Unusable

# Ten minutes at 50 streams of 50 tokens a second are 1.5 million event times: 18 MB.
MAX_BYTES = 32 << 20
MAX_FILES = 100  # in a folder; all scripts together save a dozen, and one for each level
# Of all folders of a report together: seven such levels. To read them takes 25 s.
MAX_BYTES_IN_ALL = 128 << 20
MAX_RECORDS = 100_000  # ten minutes at 50 streams of 1 s each are 30,000
MAX_CHECKS = 10_000  # a script has some 20
MAX_KEPT_BYTES = 4 << 20  # all but the requests; of a level it is 5 KB
MAX_EXCHANGE_BYTES = 3 << 20  # of what was asked and answered; 200 KB of a file that failed a lot
MAX_EVIDENCE = 800  # characters of the figures behind a failure
MAX_NAMES = 5  # of who is online
MB = 1 << 20


@dataclass
class Allowance:
    """How much of each may still be read."""

    bytes: int = MAX_BYTES_IN_ALL
    records: int = MAX_RECORDS
    checks: int = MAX_CHECKS
    kept_bytes: int = MAX_KEPT_BYTES
    exchange_bytes: int = MAX_EXCHANGE_BYTES

    def take(self, what: str, amount: int = 1) -> None:
        """Raise Unusable when there is no more left of it."""
        left = getattr(self, what) - amount
        if left < 0:
            raise Unusable(TOO_MUCH[what])
        setattr(self, what, left)


TOO_MUCH = {
    "bytes": f"with it the files of this report are over {MAX_BYTES_IN_ALL // MB} MB in all",
    "records": f"with it the files of this report hold over {MAX_RECORDS} requests in all",
    "checks": f"with it the files of this report hold over {MAX_CHECKS} checks in all",
    "kept_bytes": f"with it the files of this report hold over {MAX_KEPT_BYTES // MB} MB in all "
    "besides their requests",
}


class Record(Mapping[str, Any]):
    """A request of a result file, with the fields that a report uses, in little memory.

    What the file does not say is None; `in` and `get` tell whether it says it.
    """

    __slots__ = (  # noqa: RUF023
        *("path", "status", "step", "error", "excluded", "worker"),
        *("due_ms", "sent_ms", "ended_ms", "connect_ms", "ttfb_ms", "round_trip_ms"),
        *("ttft_ms", "tpot_ms", "e2e_ms", "tokens_per_s", "no_rate", "event_ms"),
        *("ttfa_ms", "thinking_tokens", "answer_tokens", "thinking_source"),
        *("draft_tokens", "draft_accepted_tokens", "output_events", "output_arrivals"),
        *("output_tokens", "shown_tokens", "prompt_tokens", "token_source"),
        *(
            "kind",
            "phase",
            "at_s",
            "spent_ms",
            "runner",
            "right",
            "crossed",
            "cancelled",
        ),  # for timelines
        *("online", "mac", "count"),
    )

    event_ms: Any
    online: Any

    def __init__(self, content: Mapping[str, Any]):
        for name in self.__slots__:
            if name in content:
                setattr(self, name, content[name])
        if isinstance(content.get("online"), list):  # as many runners as a fleet has
            self.online = [str(each)[:MAX_EVIDENCE] for each in content["online"][:MAX_NAMES]]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name, None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and hasattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def forget_events(self) -> None:
        self.event_ms = None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.__slots__ if hasattr(self, name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


# --- open


def read_file(path: Path, allowance: Allowance) -> bytes:
    """The content of a regular file. Raises Unusable; never waits for a pipe or a device."""
    try:
        check_regular(os.stat(path))  # first: to open some devices has an effect of its own
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        with open(os.open(path, flags), "rb", buffering=0) as file:
            about = os.fstat(file.fileno())  # it may be another one by now
            check_regular(about)
            return read_up_to(file, about.st_size, allowance)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise Unusable("not a regular file") from None
        raise Unusable(f"cannot be read ({error.strerror})") from None


def check_regular(about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise Unusable("not a regular file")


def read_up_to(file: Any, size: int, allowance: Allowance) -> bytes:
    """All of it; a file may be larger than it says, and grow while it is read."""
    parts, count = [], 0
    if size > MAX_BYTES:
        raise Unusable(f"too large to be a result file ({size / MB:.0f} MB)")
    while part := file.read(MB):
        allowance.take("bytes", len(part))
        parts.append(part)
        count += len(part)
        if count > MAX_BYTES:
            raise Unusable(f"too large to be a result file (over {MAX_BYTES // MB} MB)")
    return b"".join(parts)


# --- read


def read_document(path: Path, allowance: Allowance) -> dict[str, Any]:
    """The JSON object in a file: `requests` as records, of `levels` what tells their names.

    Raises Unusable.
    """
    data = read_file(path, allowance)
    if not data.strip():
        raise Unusable("empty: was the script ended before it could save?")
    pieces = Pieces(data)
    if pieces.next != "{":
        pieces.value()
        pieces.finish()
        raise Unusable("not a JSON object, as a result file is")
    content = read_members(pieces, allowance)
    pieces.finish()
    return content


def read_members(pieces: Pieces, allowance: Allowance) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key in pieces.members():
        if key == "requests" and pieces.next == "[":
            content[key] = list(read_records(pieces, allowance))
        elif key == "checks" and pieces.next == "[":
            content[key] = list(read_checks(pieces, allowance))
        elif key == "exchanges" and pieces.next == "[":
            content[key] = list(read_exchanges(pieces, allowance))
        elif key == "levels" and pieces.next == "[":
            content[key] = list(read_levels(pieces, allowance))
        else:
            value, size = pieces.value(), pieces.size
            if key in KEPT:
                allowance.take("kept_bytes", size)
                content[key] = value
    return content


KEPT = {
    *("schema_version", "script", "tool_version", "verdict", "exit_code", "interrupted", "error"),
    *("started_at", "duration_s", "target", "client", "options", "checks", "metrics", "requests"),
    *("command", "levels"),
    *("session", "repeat", "title", "url", "model", "deployment", "settings"),  # of run.json
}


def read_records(pieces: Pieces, allowance: Allowance) -> Iterator[Any]:
    for _ in pieces.items():
        allowance.take("records")
        found = pieces.value()
        yield Record(found) if isinstance(found, dict) else None


def read_checks(pieces: Pieces, allowance: Allowance) -> Iterator[Any]:
    for _ in pieces.items():
        allowance.take("checks")
        found = pieces.value()
        if isinstance(found, dict):  # the evidence is for other readers, apart from this word
            evidence = found.get("evidence")
            is_missing = isinstance(evidence, dict) and evidence.get("missing") is True
            found["evidence"] = {"missing": True} if is_missing else {}
            if evidence and found.get("status") in ("FAIL", "WARN"):
                figures = json.dumps(evidence, ensure_ascii=False)[: MAX_EVIDENCE + 1]
                found["evidence"]["shown"] = shorten(figures, MAX_EVIDENCE)
            allowance.take("kept_bytes", len(str(found)))
        yield found


def read_exchanges(pieces: Pieces, allowance: Allowance) -> Iterator[Any]:
    """What was asked and answered, as far as there is room for it: a verdict needs none of it."""
    for count in pieces.items():
        if count >= MAX_EXCHANGES or allowance.exchange_bytes <= 0:
            pieces.skip()
            continue
        found = pieces.value()
        allowance.exchange_bytes -= pieces.size
        yield found


def read_levels(pieces: Pieces, allowance: Allowance) -> Iterator[Any]:
    """Of each level what its name follows from: its requests are in its own file."""
    for count in pieces.items():
        if count == MAX_FILES:
            raise Unusable(f"it holds over {MAX_FILES} levels")
        if pieces.next != "{":
            pieces.skip()
            yield None
            continue
        level: dict[str, Any] = {}
        for key in pieces.members():
            if key in ("script", "metrics"):
                level[key] = pieces.value()
                allowance.take("kept_bytes", pieces.size)
            else:
                pieces.skip()
        yield level
