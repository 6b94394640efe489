"""What a run finds out about waking a fleet, and the plain facts that follow from it.

Nothing here talks to a server, and nothing here is a verdict. Times in ns are on the clock of
`time.perf_counter_ns`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from livecheck.core.text import shorten
from livecheck.fleet.api import LOG_PAGE, LogEntry
from livecheck.fleet.magic_packet import Heard, WakePackets
from livecheck.fleet.online import (
    Changes,
    Newcomers,
    State,
    ids_of_others,
    is_same,
    macs,
    may_serve,
)
from livecheck.fleet.roles import is_concrete
from livecheck.wire.answer import Answer

MIN_WAKE_S = 1.0  # no machine wakes sooner, whatever the lists say
NOT_REFUSED = (408, 429)  # statuses from 300 to 499 that do not say the request itself was wrong


def is_served(answer: Answer) -> bool:
    return answer.completion.problem is None


def problem_of(answer: Answer) -> str:
    """What was wrong with an answer that did not serve the request."""
    problem = answer.completion.problem or "nothing"
    is_200 = answer.status == 200 and not problem.startswith("200")
    return f"200, but {problem}" if is_200 else problem


def first_output_ns(answer: Answer) -> int | None:
    """When the first output came; one that was not streamed came as a whole, at its end."""
    whole_ns = answer.ended_ns if is_served(answer) else None
    return answer.first_output_ns or whole_ns


def is_refused(answer: Answer) -> bool:
    """Whether the request itself was refused, so that no runner had to be woken for it."""
    status = answer.status or 0
    return answer.failure is None and 300 <= status < 500 and status not in NOT_REFUSED


@dataclass
class Evidence:
    """All that a run has found out: who was online before the requests that should wake a runner,
    meanwhile and after; the answers; the gateway's log; the packets that were heard."""

    model: str  # that was asked for
    expected_macs: Sequence[str] = ()
    start_ns: int = field(default_factory=time.perf_counter_ns)
    waited_s: float | None = None  # for the runners to fall asleep
    before: State | None = None
    changes: Changes | None = None  # of who is online, from the request on
    after: State | None = None
    answers: list[Answer] = field(default_factory=list)  # to the requests that should wake a runner
    warm: list[Answer] = field(default_factory=list)  # to the request after them
    no_admin: str | None = None  # why the admin API cannot be read
    log_before: list[LogEntry] | None = None
    log_after: list[LogEntry] | None = None
    no_log: str | None = None  # why the log cannot be read
    heard: list[Heard] | None = None  # None: nobody listened
    packets_before: int = 0  # the request
    other_datagrams: int = 0
    has_missed_packets: bool = False  # more came than can be heard, or kept

    # who was online

    @property
    def was_asleep(self) -> bool:
        return self.before is not None and self.before.is_asleep(self.model)

    @property
    def newcomers(self) -> Newcomers | None:
        """Who came online, and when at the latest. A runner that answered was online by then, even
        if the next look at the list came later."""
        found = self.changes.newcomers if self.changes else None
        first = self.first_served if self.was_asleep else None
        output_ns = first_output_ns(first) if first else None
        if found is None or output_ns is None:
            return found
        return found._replace(at_ns=min(found.at_ns, output_ns))

    # the answers

    @property
    def sent_ns(self) -> int | None:
        """When the first request was sent."""
        return min((a.sent_ns for a in self.answers if a.sent_ns is not None), default=None)

    def since_s(self, at_ns: int) -> float:
        """How long after the first request was sent."""
        return (at_ns - (self.start_ns if self.sent_ns is None else self.sent_ns)) / 1e9

    @property
    def by_another_model(self) -> list[Answer]:
        """Answers of another model than the one that was asked for by its name. A name that no list
        has does not count: it may be what the model calls itself."""
        if not is_concrete(self.model):
            return []
        states = [state for state in (self.before, self.after) if state]
        known: set[str] = set().union(*(state.known_models for state in states))

        def is_another(name: str | None) -> bool:
            if name is None or name not in known:
                return False
            return is_concrete(name) and not is_same(name, self.model)

        return [a for a in self.answers if is_served(a) and is_another(a.completion.model)]

    @property
    def served(self) -> list[Answer]:
        """Answers of the model that was asked for."""
        others = set(self.by_another_model)
        return [each for each in self.answers if is_served(each) and each not in others]

    @property
    def first_served(self) -> Answer | None:
        return min(self.served, key=lambda a: first_output_ns(a) or math.inf, default=None)

    @property
    def output_times_s(self) -> list[float]:
        """From the first request that was sent, as all phases, to the first output of each."""
        times_ns = map(first_output_ns, self.served)
        return [self.since_s(at_ns) for at_ns in times_ns if at_ns is not None]

    @property
    def first_output_s(self) -> float | None:
        return min(self.output_times_s, default=None)

    @property
    def slowest_output_s(self) -> float | None:
        return max(self.output_times_s, default=None)

    @property
    def warm_output_s(self) -> float | None:
        """From sending the request after the wake to its first output, if it was served."""
        for answer in filter(is_served, self.warm):
            output_ns, sent_ns = first_output_ns(answer), answer.sent_ns
            if output_ns is not None and sent_ns is not None:
                return (output_ns - sent_ns) / 1e9
        return None

    @property
    def models_that_answered(self) -> list[str]:
        """By name; an answer may also name no model, or the class that was asked for."""
        found = dict.fromkeys(answer.completion.model or "" for answer in self.served)
        return [model for model in found if model and is_concrete(model)]

    def is_listed(self, state: State) -> bool:
        """Whether everything that answered is listed and online, perhaps under another name."""
        models = self.models_that_answered
        if state.error is not None:
            return False
        if not models:
            return bool(state.models) and (state.runners is None or bool(state.online))
        return all(
            state.has_runner_for(model) if state.lists(model) else self.alias_of(model, state)
            for model in models
        )

    def alias_of(self, model: str, state: State) -> str | None:
        """What a model that is not listed may be another name of; None when nothing says so."""
        if self.model in (state.models or ()):
            return shorten(self.model, 40)
        at_once = (self.first_output_s or 0.0) < MIN_WAKE_S
        if is_same(model, self.model) and at_once and state.runners is None and state.models:
            return "one of these"
        return None

    # the log

    @property
    def log_entries(self) -> list[LogEntry]:
        """What came into the gateway's log since the request: its entry, and those of others that
        may be its entry. A runner that does not offer what answered served another request."""
        known = {entry.id for entry in self.log_before or ()}
        named = {answer.completion.model for answer in self.served} - {None, ""}
        runners = (self.after and self.after.runners) or ()
        others = ids_of_others(runners, {model for model in named if model})
        new = [entry for entry in self.log_after or () if entry.id not in known]
        return [entry for entry in new if entry.runner_id not in others]

    @property
    def is_wol_logged(self) -> bool:
        return self.wol_logged > 0

    @property
    def wol_logged(self) -> int:
        """How many entries say that a packet was sent for them."""
        return sum(entry.wol_sent for entry in self.log_entries)

    @property
    def own_wol_logged(self) -> int:
        """How many of the requests themselves must have sent one: entries beyond the number of
        requests are somebody else's."""
        return max(0, self.wol_logged - max(0, len(self.log_entries) - len(self.answers)))

    @property
    def is_log_complete(self) -> bool:
        """Whether the log was read, and has an entry for each request."""
        return self.no_log is None and len(self.log_entries) >= len(self.answers) > 0

    @property
    def shows_old_log(self) -> bool:
        """Whether the log's first page is full of old entries, and so cannot show a new one."""
        before, after = self.log_before or [], self.log_after or []
        if len(before) < LOG_PAGE or [e.id for e in before] != [e.id for e in after]:
            return False
        first_s, last_s = after[0].at_s, after[-1].at_s
        return first_s is None or last_s is None or first_s <= last_s

    def offline_runner(self, state: State) -> str | None:
        """A runner that served by the log, and is offline; None if the entries may be another's."""
        runners = {runner.id: runner for runner in state.runners or ()}
        if len(self.log_entries) != len(self.answers):
            return None
        served = [runners.get(entry.runner_id or "") for entry in self.log_entries]
        return next((runner.name for runner in served if runner and not runner.is_online), None)

    # the packets

    @property
    def packets(self) -> WakePackets:
        """Since the request: for the MACs that are expected, else for the runners of the model."""
        sent_ns = self.sent_ns
        runners = (self.before and self.before.runners) or ()
        targets = macs(runner for runner in runners if may_serve(runner, self.model))
        since = [p for p in self.heard or () if sent_ns is not None and p.at_ns >= sent_ns]
        return WakePackets(since, set(self.expected_macs) or targets)

    @property
    def shows_waking(self) -> bool:
        """Whether anything shows that a runner is being woken."""
        return bool(self.packets.heard) or self.is_wol_logged

    @property
    def strangers_woken(self) -> list[str]:
        """Machines of the fleet that were sent a packet although they do not offer the model."""
        runners = (self.before and self.before.runners) or ()
        others = [each for each in runners if not may_serve(each, self.model)]
        heard = {each.packet.mac for each in self.packets.well_formed}
        return [each.name for each in others if heard & macs([each])]

    @property
    def is_wake_needless(self) -> bool:
        """Whether the only request was answered so soon that the runner was awake, as it was
        listed. More requests at once may need more runners."""
        soon = self.first_output_s is not None and self.first_output_s < MIN_WAKE_S
        is_listed = self.before is not None and self.before.error is None and not self.was_asleep
        return is_listed and soon and len(self.answers) == 1
