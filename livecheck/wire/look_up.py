"""The look-ups of a host's name: bounded in time, and remembered where they are slow or fail.

The system's look-up cannot be interrupted. With a name server that does not answer it takes many
seconds, and so does every connection of a client that looks the name up anew each time.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

from livecheck.core.text import plural
from livecheck.wire.happy_eyeballs import Endpoint

SLOW_S = 1.0  # a look-up that takes longer costs time that is worth a warning
NO_LOOK_UP = getattr(socket, "AI_NUMERICHOST", 0)  # the host is an address already


class Unreachable(OSError):
    """No connection; the text is for people as it is."""


class LookUps:
    """The look-ups of one name. Used by several threads at once."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self._port = name, port
        self.endpoints: list[Endpoint] = []  # of the last one that succeeded
        self._lock = threading.Lock()
        self._count = self._failed = 0
        self._reason = ""  # why the last one failed
        self._under_way = 0  # threads that wait for one
        self._slow_s: list[float] = []  # what slow ones took, of those that did not overlap
        self._slow_until_s = 0.0

    @property
    def is_under_way(self) -> bool:
        return self._under_way > 0

    def find(self, deadline_s: float, is_known: bool) -> list[Endpoint]:
        """The addresses of the name, in the order of preference. Raises OSError.

        `is_known`: an address that was found before answers. Then those are the result of a look-up
        that fails, or that has not ended after `SLOW_S`; and once two were slow, not both at the
        same time, no other is made.
        """
        with contextlib.suppress(socket.gaierror):
            self.endpoints = get_endpoints(self.name, self._port, NO_LOOK_UP)
            return self.endpoints
        if is_known and len(self._slow_s) > 1:
            return self.endpoints
        started_s = time.perf_counter()
        patience_s = max(0.0, deadline_s - started_s)
        result = self._wait_for_one(min(patience_s, SLOW_S) if is_known else patience_s)
        return self._note(started_s, result, is_known)

    def _wait_for_one(self, timeout_s: float) -> list[Endpoint] | Exception:
        """What a look-up finds, or why it fails."""
        found: queue.SimpleQueue[list[Endpoint] | Exception] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                found.put(get_endpoints(self.name, self._port))
            except Exception as error:
                found.put(error)

        threading.Thread(target=look_up, daemon=True).start()
        with self._lock:
            self._under_way += 1
        try:
            return found.get(timeout=timeout_s)
        except queue.Empty:
            return TimeoutError()
        finally:
            with self._lock:
                self._under_way -= 1

    def _note(
        self, started_s: float, result: list[Endpoint] | Exception, is_known: bool
    ) -> list[Endpoint]:
        """Keep in mind what came of a look-up; the addresses to use."""
        now_s = time.perf_counter()
        with self._lock:
            self._count += 1
            if now_s - started_s >= SLOW_S and started_s >= self._slow_until_s:
                self._slow_s.append(now_s - started_s)
                self._slow_until_s = now_s
            if not isinstance(result, Exception):
                self.endpoints = result
                return result
            if isinstance(result, OSError) and is_known:
                if not isinstance(result, TimeoutError):
                    self._failed, self._reason = self._failed + 1, look_up_error(result)
                return self.endpoints
        if isinstance(result, TimeoutError):
            raise Unreachable(late_words(self.name, now_s - started_s))
        raise result

    def findings(self) -> list[str]:
        """What an operator should know of them, each in one sentence."""
        found = []
        if len(self._slow_s) > 1:
            found.append(
                f"looking up {self.name} took {min(self._slow_s):.1f} s or more, several times: "
                "clients lose this time on each connection. Do its name servers answer for IPv4 "
                "and for IPv6 (dig A, dig AAAA)?"
            )
        if self._failed:
            found.append(
                f"{self._failed} of {plural(self._count, 'look-up')} of {self.name} failed "
                f"({self._reason}), although others succeeded: clients fail then"
            )
        return found


def get_endpoints(name: str, port: int, flags: int = 0) -> list[Endpoint]:
    """The addresses of a host. Raises socket.gaierror."""
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(Endpoint(int(each[0]), tuple(each[4])) for each in found))


def look_up_error(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def late_words(name: str, spent_s: float) -> str:
    """The line for a look-up that has not ended in time."""
    return f"looking up {name} had not ended after {spent_s:.1f} s: does its name server answer?"


def failed_words(name: str, error: socket.gaierror) -> str:
    """The line for a look-up that has failed: the name is not known, or could not be asked for."""
    if error.errno == socket.EAI_AGAIN:
        return f"looking up {name} failed ({look_up_error(error)}): does its name server answer?"
    return f"unknown host {name}"
