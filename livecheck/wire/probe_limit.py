"""How long a health URL may take to answer: one rule for every script that probes one.

Kubernetes gives up on a probe after one second, unless it is told otherwise (`timeoutSeconds`,
https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/), and restarts
the container after three of them. Other platforms allow more: an answer that comes within a second
is quick enough for all of them.
"""

from __future__ import annotations

from livecheck.wire.answer import Answer
from livecheck.wire.clock import USER_CLOCK
from livecheck.wire.starvation import Starvation

PROBE_LIMIT_S = 1.0
PROBE_RULE = "Kubernetes gives up on a probe after 1 s by default"
SENDING_NS = 1_000_000  # sending a probe takes far less


def is_too_slow(spent_s: float, network_s: float = 0.0) -> bool:
    """Whether a probe that got its answer `spent_s` seconds after it was sent would have been given
    up. `network_s` is the round trip from here to the server, which a platform's probe does not
    have; the caller must know that the time is not its own lag."""
    return spent_s - network_s > PROBE_LIMIT_S


def probe_time_s(answer: Answer) -> float:
    """From sending a probe to the end of its answer: Kubernetes waits for the body as well."""
    return (answer.spent_ms or 0.0) / 1e3


def is_slow_answer(answer: Answer, blind_ms: float = 0.0, path_s: float = 0.0) -> bool | None:
    """Whether a whole answer came too late for a probe. None: this program cannot tell, because it
    could not run for `blind_ms` of that time (`Starvation.of`).

    The round trip of its own connection is allowed, or `path_s` if that is longer: the time to a
    server that has something else in front of it.
    """
    trip_ns = answer.handshake.rtt_ns if answer.handshake else None
    spent_s, network_s = probe_time_s(answer), max(path_s, (trip_ns or 0) / 1e9)
    if not is_too_slow(spent_s, network_s):
        return False
    return True if is_too_slow(spent_s, network_s + blind_ms / 1e3) else None


def blind_time_ms(answer: Answer, starvation: Starvation, clock: str) -> float:
    """For how long of an answer's time this program could not run, where that matters.

    The kernel stamps what it receives also while nobody reads it. Then only a program that could
    not run when it was about to send the probe has measured itself. `clock`: that of the wire.
    """
    sent_ns = answer.sent_ns or 0
    is_stamped = clock != USER_CLOCK
    if is_stamped and starvation.between_ms(sent_ns, sent_ns + SENDING_NS) < SENDING_NS / 2e6:
        return 0.0
    return starvation.of(answer)
