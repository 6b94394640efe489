"""What a run learns about the hosts that it connects to: their addresses, and which of them answer.

A client that tries one address after the other waits on every connection for an address that does
not answer. Here such an address is met once. From then on it is tried last, so it costs nothing
more, and at the end of the run a warning names it. So it is with look-ups that are slow or fail.
"""

from __future__ import annotations

import selectors
import threading
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.checks import ADDRESSES, Check, passed, warned
from livecheck.core.text import listed
from livecheck.wire import happy_eyeballs
from livecheck.wire.happy_eyeballs import Attempt, Endpoint, Failed, Race
from livecheck.wire.look_up import LookUps, Unreachable

# An address that another one has overtaken is watched for so long. Linux and others send their SYN
# again after one second and after three: an address that is only slow, or far away over a network
# that loses packets, has answered by then.
WATCHED_S = 3.5
LOST_S = 1.0  # a failure that takes longer costs time that is worth a warning


@dataclass
class Loss:
    """An address that lost the race; `is_known` is set when it is known how it would have ended."""

    endpoint: Endpoint
    spent_s: float = 0.0
    error: OSError | None = None
    has_answered: bool = False
    is_known: threading.Event = field(default_factory=threading.Event)

    def words(self) -> str | None:
        """How it keeps clients waiting; None: it does not, it is only slower than another one."""
        if not self.is_known.is_set() or self.has_answered or self.spent_s < LOST_S:
            return None
        shown = self.endpoint.shown
        if self.error:
            reason = (self.error.strerror or str(self.error)).lower()
            return f"{shown} failed only after {self.spent_s:.1f} s ({reason})"
        return f"{shown} did not answer for {self.spent_s:.1f} s"


class Host:
    """One host and port, as far as the run knows it. Used by several threads at once."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port, self.look_ups = name, port, LookUps(name, port)
        self._lock = threading.Lock()
        self._working: Endpoint | None = None  # the last one that answered
        self._losses: dict[str, Loss] = {}

    @property
    def way_round(self) -> str | None:
        """The address that answers, when there is another one that does not; else None."""
        with self._lock:
            return self._working.address if self._losses and self._working else None

    def connect(self, deadline_s: float) -> Attempt:
        """The connection to the first address that answers. Raises OSError."""
        endpoints = self.look_ups.find(deadline_s, is_known=self._working is not None)
        with self._lock:
            order = happy_eyeballs.interleaved(endpoints)
            order.sort(key=lambda each: each.address in self._losses)
        race = happy_eyeballs.race(order, deadline_s)
        if race.winner is None:
            race.close()
            with self._lock:
                self._working = None  # what was found before is no longer good enough
            raise why_none(race)
        self._learn(race, race.winner)
        return race.winner

    # its addresses

    def _learn(self, race: Race, winner: Attempt) -> None:
        """Keep in mind which address answered, and which ones kept us waiting."""
        with self._lock:
            self._working = winner.endpoint
            self._losses.pop(winner.endpoint.address, None)
        for failed in race.failed:
            self._note_late_failure(failed)
        for attempt in race.pending:
            # One that began just before the end of the race has had no time to answer.
            if attempt.spent_s < happy_eyeballs.ATTEMPT_DELAY_S or not self._watch(attempt):
                attempt.sock.close()

    def _note_late_failure(self, failed: Failed) -> None:
        if failed.spent_s < happy_eyeballs.ATTEMPT_DELAY_S:
            return  # it cost nothing: the next attempt began at once, or nearly so
        loss = Loss(failed.endpoint, failed.spent_s, failed.error)
        loss.is_known.set()
        with self._lock:
            self._losses.setdefault(failed.endpoint.address, loss)

    def _watch(self, attempt: Attempt) -> bool:
        """Find out in the background whether it answers at all; False: that is known, or being
        found out."""
        with self._lock:
            if attempt.endpoint.address in self._losses:
                return False
            loss = self._losses[attempt.endpoint.address] = Loss(attempt.endpoint)
        threading.Thread(target=watch, args=(attempt, loss), daemon=True).start()
        return True

    def findings(self, wait_s: float) -> list[str]:
        """What an operator should know of it, each in one sentence. Waits for what is not known
        yet, `wait_s` at most."""
        with self._lock:
            losses, found = list(self._losses.values()), []
        for loss in losses:
            loss.is_known.wait(wait_s)
        if lost := [words for words in (loss.words() for loss in losses) if words]:
            count = len({each.address for each in self.look_ups.endpoints})
            used = f"; this run used {self._working.shown}" if self._working else ""
            found.append(
                f"{self.name} has {count} addresses, and {listed(lost, limit=120)}: clients that "
                "try one address after the other, as the openai package does, lose this time or "
                "more on each connection. Let the address answer, or take it out of the records "
                f"of the name{used}"
            )
        return found + self.look_ups.findings()

    def evidence(self) -> dict[str, Any]:
        with self._lock:
            silent = [each.endpoint.address for each in self._losses.values() if each.words()]
            addresses = list(dict.fromkeys(each.address for each in self.look_ups.endpoints))
        return {"host": self.name, "addresses": addresses, "silent": silent}


def watch(attempt: Attempt, loss: Loss) -> None:
    """Wait for the end of an attempt that has lost, at most until `WATCHED_S` after its begin."""
    try:
        with happy_eyeballs.Selector() as selector:
            selector.register(attempt.sock, selectors.EVENT_WRITE)
            if selector.select(max(0.0, WATCHED_S - attempt.spent_s)):
                loss.error = attempt.error()
                loss.has_answered = loss.error is None
        loss.spent_s = attempt.spent_s
    finally:
        attempt.sock.close()
        loss.is_known.set()


def why_none(race: Race) -> OSError:
    """Why none of the addresses could be connected to."""
    if len(race.pending) == 1 and not race.failed:
        return TimeoutError("connecting timed out")
    if len({str(each.error) for each in race.failed}) == 1 and not race.pending:
        return race.failed[0].error
    words = [f"{each.endpoint.shown}: {each.error.strerror}" for each in race.failed]
    words += [f"{each.endpoint.shown} did not answer" for each in race.pending]
    return Unreachable(listed(words, limit=120).lower())


class Hosts:
    """The hosts that a run connects to. Used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], Host] = {}
        self._mentioned: set[str] = set()

    def at(self, name: str, port: int) -> Host:
        """What is known of this host and port; always the same object."""
        with self._lock:
            return self._hosts.setdefault((name, port), Host(name, port))

    def is_first_mention(self, what: str) -> bool:
        """Whether this is asked for the first time: what a run says of a host it says once."""
        with self._lock:
            is_first = what not in self._mentioned
            self._mentioned.add(what)
        return is_first

    def check(self, is_asked_for: bool = False, wait_s: float = WATCHED_S) -> Check | None:
        """WARN: a client waits on its connections. None where there is nothing to say.

        `wait_s`: how long to wait for what becomes of an address that is still watched.
        """
        with self._lock:
            hosts = list(self._hosts.values())
        slow = [(host, text) for host in hosts for text in host.findings(wait_s)]
        if slow:
            about = [host.evidence() for host in dict(slow)]
            return warned(ADDRESSES, "; ".join(text for _, text in slow), {"hosts": about})
        if not is_asked_for:
            return None
        names = listed([f"{host.name}:{host.port}" for host in hosts])
        return passed(ADDRESSES, f"no connection to {names} had to wait for another address")
