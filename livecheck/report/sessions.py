"""Which runs are repeats of one session. Pure.

A session is one occasion of measuring: one deployment, started once, on one machine in one state.
Runs of one session resemble each other more than those of different days, so what they differ by is
not what two releases may differ by. `run_all.py --repeat` writes a session's identifier into the
`run.json` of each of its runs. Runs of several commands within a few hours are one session as well:
whoever doubts a result and runs it again at once has not measured on another occasion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from livecheck.report.result_files import Folder

# From the first run of a session: the load of a shared machine changes with the time of the day.
SESSION = timedelta(hours=6)
NEVER = datetime.max.replace(tzinfo=timezone.utc)  # of a folder without any usable result


def session_numbers(folders: Sequence[Folder]) -> list[int]:
    """The number of each folder's session, from 1 for the oldest.

    A folder belongs to the session whose identifier its run.json has, or else to one that began
    less than SESSION before it. Without a time it is a session of its own.
    """
    sessions: list[Session] = []
    found = dict[int, int]()
    for index in sorted(range(len(folders)), key=lambda each: (began(folders[each]), each)):
        folder = folders[index]
        own = next((each for each in sessions if each.includes(folder)), None)
        if own is None:
            own = Session(len(sessions) + 1, began(folder), set())
            sessions.append(own)
        if folder.run:
            own.identifiers.add(folder.run.session)
        found[index] = own.number
    return [found[index] for index in range(len(folders))]


@dataclass
class Session:
    """Its number, when its first run began, and its identifiers in the files run.json."""

    number: int
    began: datetime
    identifiers: set[str]

    def includes(self, folder: Folder) -> bool:
        if folder.run and folder.run.session in self.identifiers:
            return True
        return self.began != NEVER and began(folder) - self.began < SESSION


def began(folder: Folder) -> datetime:
    return folder.started_at or NEVER


def are_repeats(one: Folder, other: Folder) -> bool:
    """Whether both are runs of one invocation of run_all.py."""
    return bool(one.run and other.run and one.run.session == other.run.session)
