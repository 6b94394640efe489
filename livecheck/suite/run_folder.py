"""The folder of one run: its name, its lock, run.json, and which earlier runs belong to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from livecheck.core.late_pattern import late_pattern
from livecheck.core.result_file import SCHEMA_VERSION, to_json, write_atomically
from livecheck.core.run import TOOL_VERSION

RUN = "run.json"
LATEST = "latest"
LOCK = ".lock"
SCRIPT = "run_all"
MAX_RUN_BYTES = 1 << 20  # of a run.json; one has some 10 KB
MAX_HEAD_BYTES = 64 << 10  # of a result file: what comes before its checks
MAX_RUNS = 10_000  # folders that are looked through
DONE, SKIPPED, NOT_RUN, INTERRUPTED = "done", "skipped", "not run", "interrupted"
HEAD = late_pattern(r'\s*"(\w+)": (.+?),?$')
WANTED = ("error", "no_access", "rate_limit_wait_s", "target")


@dataclass(frozen=True)
class SavedRun:
    """An earlier run. `content`: its run.json, which somebody may have changed by hand."""

    path: Path
    content: Mapping[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether every step was done that was to be done, and could be."""
        steps = self.content.get("steps")
        if not isinstance(steps, list) or self.content.get("ended_at") is None:
            return False
        return all(isinstance(e, dict) and e.get("state") in (DONE, SKIPPED) for e in steps)

    @property
    def is_passed(self) -> bool:
        return self.is_complete and self.content.get("verdict") == "pass"

    def is_like(self, deployment: Any, settings: Any) -> bool:
        mine = self.content.get("deployment"), self.content.get("settings")
        return mine == (as_saved(deployment), as_saved(settings))


def as_saved(value: Any) -> Any:
    """As it is read again from JSON: a tuple is a list then."""
    return json.loads(json.dumps(value))


# --- names


def folder_name(now: datetime, title: str) -> str:
    """`2026-11-30T0623Z-v1.0`, by time and then by title; safe for any file system."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", title).strip("-.")[:60].rstrip("-.")
    time = now.strftime("%Y-%m-%dT%H%M%SZ")
    return f"{time}-{plain}" if plain else time


class RunFolder:
    """A folder that this process, and the scripts that it starts, have for themselves."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, results: Path, name: str) -> RunFolder:
        """A new folder. Raises OSError when none can be made."""
        results.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100):
            path = results / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            folder = cls(path)
            folder.take()
            return folder
        raise FileExistsError(17, "a hundred runs have this name already", str(results / name))

    def take(self) -> bool:
        """Lock it. False when another run has it, or a script that a killed run has left."""
        import fcntl  # here: --help needs it nowhere, and Windows has none

        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    @property
    def kept_open(self) -> tuple[int, ...]:
        """The lock, for the scripts: it is held for as long as any of them runs."""
        return () if self._lock is None else (self._lock,)

    def release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
            os.close(self._lock)
            self._lock = None

    def save(self, content: Mapping[str, Any]) -> None:
        """Raises OSError."""
        about = {
            "schema_version": SCHEMA_VERSION,
            "script": SCRIPT,
            "tool_version": TOOL_VERSION,
        }
        write_atomically(self.path / RUN, to_json({**about, **content}))

    # the result files

    def documents(self) -> dict[str, int]:
        """The result files by name, each with the time of its last change in ns."""
        found = {}
        with os.scandir(self.path) as entries:
            for each in entries:
                if each.name.endswith(".json") and each.name != RUN and each.is_file():
                    found[each.name.removesuffix(".json")] = each.stat().st_mtime_ns
        return found

    def changed_since(self, before: Mapping[str, int]) -> list[str]:
        """The names of the result files that were written since then, in the order of writing."""
        after = self.documents()
        names = (name for name in after if before.get(name) != after[name])
        return sorted(names, key=lambda name: (after[name], name))

    def head(self, name: str) -> dict[str, Any]:
        """What a result file says before its checks, as far as it matters here."""
        found = {}
        with contextlib.suppress(OSError), (self.path / f"{name}.json").open("rb") as file:
            text = file.read(MAX_HEAD_BYTES).decode("utf-8", "replace")
            for line in text.split("\n"):
                match = HEAD.fullmatch(line)
                if match and match[1] in WANTED and match[1] not in found:
                    with contextlib.suppress(ValueError):
                        found[match[1]] = json.loads(match[2])
        return found


def point_latest(results: Path, folder: Path) -> None:
    """results/latest leads to this run; nothing happens where links cannot be made."""
    latest, scratch = results / LATEST, results / f".{LATEST}-{os.getpid()}"
    if latest.exists() and not latest.is_symlink():
        return  # somebody's own
    with contextlib.suppress(OSError):
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(folder.name, target_is_directory=True)
        os.replace(scratch, latest)


# --- earlier runs


def runs_in(results: Path) -> list[SavedRun]:
    """The runs of a results folder, the latest first."""
    found = [SavedRun(path.parent, content) for path, content in _run_files(results)]
    return sorted(found, key=lambda each: str(each.content.get("started_at")), reverse=True)


def _run_files(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    try:
        folders = [each for each in results.iterdir() if each.is_dir() and not each.is_symlink()]
    except OSError:
        return
    for folder in folders[:MAX_RUNS]:
        path = folder / RUN
        try:
            if path.stat().st_size > MAX_RUN_BYTES:
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict) and content.get("script") == SCRIPT:
            yield path, content


def baseline_of(
    runs: Sequence[SavedRun], deployment: Any, settings: Any, session: str
) -> list[SavedRun]:
    """The last passed run of the same deployment and settings, with the passed repeats of its
    session; none of this session itself."""
    alike = [
        each
        for each in runs
        if each.is_passed
        and each.content.get("session") != session
        and each.is_like(deployment, settings)
    ]
    return [e for e in alike if e.content.get("session") == alike[0].content.get("session")]


class NothingToResume(ValueError):
    """Why no run can be resumed, in one line."""


def interrupted_run(runs: Sequence[SavedRun], deployment: Any, settings: Any) -> SavedRun:
    """The latest run of this deployment that did not come to its end. Raises NothingToResume."""
    open_runs = [each for each in runs if not each.is_complete]
    if not open_runs:
        raise NothingToResume("there is no interrupted run to resume")
    saved = as_saved(deployment)
    mine = [each for each in open_runs if each.content.get("deployment") == saved]
    if not mine:
        other = open_runs[0]
        where = ", ".join(str(each) for each in (other.content.get("deployment") or {}).values())
        raise NothingToResume(f"the interrupted run {other.path} is of another deployment: {where}")
    (run, *_) = mine
    if not run.is_like(deployment, settings):
        what = difference(run.content.get("settings"), as_saved(settings))
        raise NothingToResume(f"the interrupted run {run.path} has other options: {what}")
    return run


def difference(before: Any, now: Any, name: str = "") -> str:
    """The first thing in which two settings differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in (*before, *now):
            if before.get(key) != now.get(key):
                return difference(before.get(key), now.get(key), f"{name} {key}".strip())
    return f"{name} was {json.dumps(before)[:80]} and is now {json.dumps(now)[:80]}"
