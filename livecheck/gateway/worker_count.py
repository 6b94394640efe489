"""How many workers a deployment has, asked of whatever can tell: RunPod's two control planes, or a
command of the operator's. A reading that failed is never a zero.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from livecheck.core.text import shorten
from livecheck.wire import wire
from livecheck.wire.records import number, outcome


class CannotRead(Exception):
    """A source gave no count; the text says why."""


class Source(Protocol):
    """Something that can tell how many workers there are.

    `read` gives the count, None when the source's states do not decide it, and the raw states.
    """

    name: str

    def read(self) -> tuple[int | None, dict[str, float]]: ...

    def abandon(self) -> None:
        """Give up a reading that is under way in another thread."""


class CommandSource:
    """The operator's own command."""

    name = "the workers command"

    def __init__(self, command: str, timeout_s: float, environment: Mapping[str, str]):
        self._command, self._timeout_s = command, timeout_s
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def read(self) -> tuple[int | None, dict[str, float]]:
        self._process = process = subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **self._environment},
            start_new_session=True,  # so that what the shell started ends with it
        )
        try:
            out, err = process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            raise CannotRead(f"no count within {self._timeout_s:g} s") from None
        finally:
            self.abandon()
            process.wait()
            self._process = None
        if process.returncode != 0:
            last = (err.strip().splitlines() or ["nothing on stderr"])[-1]
            raise CannotRead(f"ended with {process.returncode}: {shorten(last)}")
        if not re.fullmatch(r"[0-9]{1,9}", out.strip(), re.ASCII):
            raise CannotRead(f"printed {shorten(out, 40)!r}, not a number of workers")
        return int(out), {}

    def abandon(self) -> None:
        process = self._process
        if process:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


class RunPodSource:
    """One of RunPod's control planes; `understand` turns its JSON into count and states."""

    def __init__(
        self,
        name: str,
        instrument: wire.Wire,
        path: str,
        understand: Callable[[Any], tuple[int | None, dict[str, float]]],
    ):
        self.name = name
        self._instrument, self._path, self._understand = instrument, path, understand

    def read(self) -> tuple[int | None, dict[str, float]]:
        request = wire.Request("GET", self._path, headers={"accept": "application/json"})
        reply = self._instrument.exchange([request], keep=False)[0]
        if reply.failure or reply.status != 200:
            raise CannotRead(outcome(reply))
        try:
            return self._understand(json.loads(reply.body))
        except (ValueError, RecursionError) as error:
            why = str(error) if isinstance(error, Misread) else "no JSON"
            raise CannotRead(f"200, but {why}") from None

    def abandon(self) -> None:
        """Its time is short anyway."""


class Misread(ValueError):
    """An answer of a control plane that is not of the documented form."""


def states_in(content: Any, key: str) -> dict[str, float]:
    """The numbers in `content[key]`, whatever they are called."""
    table = content.get(key) if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise Misread(f"without {key!r}")
    found = {shorten(name, 30): number(value) for name, value in list(table.items())[:20]}
    return {name: value for name, value in found.items() if value is not None}


def count_summary(content: Any) -> tuple[int | None, dict[str, float]]:
    """RunPod's REST v2 `/workers`: it lists only workers that are not scaled down, so
    `summary.total` is the count; `idle` there is awake and polling for work."""
    states = states_in(content, "summary")
    if "total" not in states:
        raise Misread("without summary.total")
    listed = content.get("workers")
    total = int(states["total"])
    if isinstance(listed, list) and len(listed) != total:
        raise Misread(f"{len(listed)} workers listed, summary.total {total}")
    return total, states


def count_states(content: Any) -> tuple[int | None, dict[str, float]]:
    """RunPod's `/health`: nothing in any state is zero; running or initializing is not. Its
    documents call `idle` both scaled down and waiting for work, so idle alone decides nothing,
    and a state that is missing is no proof that nobody is in it."""
    states = states_in(content, "workers")
    if not {"idle", "running"} <= states.keys():
        raise Misread("without workers.idle and workers.running")
    if not any(states.values()):
        return 0, states
    awake = int(states["running"] + states.get("initializing", 0))
    return awake or None, states


@dataclass
class Reading:
    """What the sources said at one time. `count`: None when none of them could tell."""

    at_s: float
    count: int | None = None
    source: str | None = None
    states: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)  # no error, but no use either


class Workers:
    """The number of workers, from the first source that can tell."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = sources
        self.readings: list[Reading] = []
        self.abandoned = False
        self._seen: set[str] = set()  # sources that have shown a worker

    def read(self, at_s: float) -> Reading:
        """Ask every source, so that all states are on record."""
        reading = Reading(at_s)
        for source in self.sources:
            if self.abandoned:
                break
            try:
                count, states = source.read()
            except (CannotRead, OSError) as error:
                reading.errors[source.name] = str(error)
                continue
            if states:
                reading.states[source.name] = states
            self._take(reading, source.name, count)
        if not self.abandoned:  # what failed because it was given up is no failure
            self.readings.append(reading)
        return reading

    def abandon(self, join: Callable[[], None]) -> None:
        """End a reading that is under way in another thread, unrecorded; `join` waits for it."""
        self.abandoned = True
        for source in self.sources:
            source.abandon()
        join()
        self.abandoned = False

    def _take(self, reading: Reading, name: str, count: int | None) -> None:
        if count:
            self._seen.add(name)
        if count is None:
            reading.doubts[name] = "its states do not tell awake from asleep"
        elif name not in self._seen:
            # a command that looks in the wrong place always says 0
            reading.doubts[name] = "0, but it has never shown a worker: no proof of anything"
        elif reading.count is None:
            reading.count, reading.source = count, name
