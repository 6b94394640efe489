"""How many workers a deployment has.

Two kinds of source can tell: RunPod's control planes, and a command of the operator's. A new way to
count workers is a class with `name`, `read` and `abandon`. A reading that failed is never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from livecheck.core.command_output import Command, NoOutput
from livecheck.core.json_value import number, pick
from livecheck.core.text import shorten
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Wire


class CannotRead(Exception):
    """A source gave no count. The text says why."""


class Source(Protocol):
    """Something that can tell how many workers there are.

    `read` returns the count, which is None when the states that the source reports do not decide
    it, and those states. It raises CannotRead or OSError.
    """

    name: str

    def read(self) -> tuple[int | None, dict[str, float]]: ...

    def abandon(self) -> None:
        """End a reading that is in progress in another thread."""


class CommandSource:
    """A command of the operator's that prints the number."""

    name = "the workers command"

    def __init__(self, command: str, timeout_s: float, environment: Mapping[str, str]):
        self._command = Command(command, timeout_s, environment)

    def read(self) -> tuple[int | None, dict[str, float]]:
        try:
            printed = self._command.run()
        except NoOutput as problem:
            raise CannotRead(f"it {problem}") from None
        except ValueError:  # a NUL in the command
            raise CannotRead("it is not a command") from None
        if printed.code != 0:
            text = f"it ended with exit code {printed.code}: {shorten(printed.last_words)}"
            raise CannotRead(text)
        count = printed.out.strip()
        if not (0 < len(count) < 10 and count.isascii() and count.isdigit()):
            raise CannotRead(f"it printed {shorten(printed.out, 40)!r}, not a number of workers")
        return int(count), {}

    def abandon(self) -> None:
        self._command.abandon()


class RunPodSource:
    """One of RunPod's control planes. `understand` turns its JSON into a count and states."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        path: str,
        understand: Callable[[Any], tuple[int | None, dict[str, float]]],
    ):
        self.name = name
        self._wire, self._path, self._understand = wire, path, understand

    def read(self) -> tuple[int | None, dict[str, float]]:
        answer = Answer(self._wire.exchange([chat.get(self._path)], keep=False)[0])
        if not answer.is_ok:
            raise CannotRead(answer.outcome(timed=True))
        if answer.json is None:
            raise CannotRead("200, but the answer is not JSON")
        try:
            return self._understand(answer.json)
        except Misread as error:
            raise CannotRead(f"200, but {error}") from None

    def abandon(self) -> None:
        """Nothing to do: its timeout is short."""


class Misread(ValueError):
    """An answer of a control plane that does not have the documented form."""


def states_in(content: Any, key: str) -> dict[str, float]:
    """The numbers in `content[key]`, under whatever names the server has for them."""
    table = pick(content, key)
    if not isinstance(table, dict):
        raise Misread(f"{key!r} is missing")
    found = {shorten(name, 30): number(value) for name, value in list(table.items())[:20]}
    return {name: value for name, value in found.items() if value is not None}


def count_summary(content: Any) -> tuple[int | None, dict[str, float]]:
    """RunPod's REST v2 `/workers`. It lists only workers that are not scaled down, so
    `summary.total` is the count; a worker that is `idle` there is awake and waits for work."""
    states = states_in(content, "summary")
    if "total" not in states:
        raise Misread("summary.total is missing")
    listed, total = content.get("workers"), int(states["total"])
    if isinstance(listed, list) and len(listed) != total:
        raise Misread(f"{len(listed)} workers are listed, but summary.total is {total}")
    return total, states


def count_states(content: Any) -> tuple[int | None, dict[str, float]]:
    """RunPod's `/health`. There are no workers when no state has any; a worker that is running or
    initializing is awake. RunPod's documents call `idle` both "scaled down" and "waiting for work",
    so idle workers alone decide nothing. A state that is missing proves nothing either."""
    states = states_in(content, "workers")
    if not {"idle", "running"} <= states.keys():
        raise Misread("workers.idle or workers.running is missing")
    if not any(states.values()):
        return 0, states
    awake = int(states["running"] + states.get("initializing", 0))
    return awake or None, states


@dataclass
class Reading:
    """What the sources said at one time. `count` is None when no source could tell."""

    at_s: float
    count: int | None = None
    source: str | None = None
    states: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    # why a source without an error tells nothing
    doubts: dict[str, str] = field(default_factory=dict)


class Workers:
    """Counts workers by the first source that can tell, and keeps every reading."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = sources
        self.readings: list[Reading] = []
        self.abandoned = False
        self._seen: set[str] = set()  # sources that have shown a worker

    def read(self, at_s: float) -> Reading:
        """Ask every source, so that all states are in the results."""
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
        if not self.abandoned:  # a reading that was ended from outside says nothing
            self.readings.append(reading)
        return reading

    def abandon(self, join: Callable[[], None]) -> None:
        """End a reading that is in progress in another thread, without keeping it.

        `join` waits for that thread.
        """
        self.abandoned = True
        for source in self.sources:
            source.abandon()
        join()
        self.abandoned = False

    def _take(self, reading: Reading, name: str, count: int | None) -> None:
        if count:
            self._seen.add(name)
        if count is None:
            reading.doubts[name] = "its states do not tell whether a worker is awake"
        elif name not in self._seen:
            # a command that looks in the wrong place says 0 always
            reading.doubts[name] = "it says 0, but has never shown a worker: this proves nothing"
        elif reading.count is None:
            reading.count, reading.source = count, name
