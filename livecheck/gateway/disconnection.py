"""Clients that disconnect, one while it is served and one while it waits: does their place become
free again?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from livecheck.core.text import counted, plural
from livecheck.gateway.burst import JITTER_S, ended_s, first_rate_limited, last_event_s, sent_s
from livecheck.gateway.queue_client import Background, QueueClient
from livecheck.wire.answer import Answer

ATTEMPTS = 3  # each with answers twice as long, until they are long enough
SETTLE_S = 10.0  # for the requests of the steps before to end
FREE_S = 30.0  # after which the place of a client that disconnected counts as lost
NOTICE_S = 3.0  # for a server to notice it; llama.cpp looks after each token
HOLD_S = 0.005  # how often to look whether every place is taken
STREAMED_BYTES = 1000  # the head and a few tokens of an answer


@dataclass
class Disconnection:
    """A client disconnected at `left_s`; whether its place became free.

    `free_s`: when the figures said so, if there are figures. `undecided`: why nothing can be said.
    `still_taken`: what showed that the place did not become free.
    """

    left_s: float = 0.0
    free_s: float | None = None
    undecided: str | None = None
    still_taken: str | None = None
    rate_limited: Answer | None = None

    @property
    def is_free(self) -> bool:
        """Whether it went as planned, and nothing has shown that the place is still taken."""
        return not (self.undecided or self.still_taken or self.rate_limited)

    @property
    def free_after_s(self) -> float | None:
        return None if self.free_s is None else self.free_s - self.left_s


@dataclass
class Disconnections:
    """The two of them, as far as the run got. `pair`: the answers to two requests that waited at
    the same time, in the order in which they were sent."""

    while_served: Disconnection | None = None
    while_waiting: Disconnection | None = None
    pair: list[Answer] = field(default_factory=list)


def measure_disconnections(client: QueueClient, found: Disconnections) -> None:
    """At the end, as many requests as there is room for show by use whether a place is lost."""
    while_served = found.while_served = Disconnection()
    disconnect_while_served(client, while_served)
    if while_served.still_taken or while_served.rate_limited:
        return
    disconnect_while_waiting(client, found)
    if found.while_waiting and found.while_waiting.is_free:
        fill_every_place(client, found.while_waiting)


# --- while it is served


def disconnect_while_served(client: QueueClient, found: Disconnection) -> None:
    """A client that disconnects after a few tokens."""
    found.undecided = still_busy(client)
    if found.undecided:
        return
    request = client.request(client.args.max_tokens, cancel_at_bytes=STREAMED_BYTES)
    answer = client.send_one("left_streaming", request, "a client disconnects while it is served")
    found.left_s = ended_s(answer)
    found.rate_limited = first_rate_limited([answer])
    if not answer.reply.cancelled or answer.status != 200:
        outcome = answer.outcome(timed=True)
        found.undecided = f"the answer ended before the client could disconnect ({outcome})"
    else:
        # a gateway that does not notice works on until the answer would have ended
        wait_until_free(client, found, found.left_s + client.answer_s)


def still_busy(client: QueueClient) -> str | None:
    """What the steps before have left in the deployment; None when nothing, or nothing tells."""
    watcher, now_s = client.watcher, time.perf_counter()
    if watcher.wait_for(lambda r: r.occupancy is None or r.is_idle, now_s, SETTLE_S):
        return None
    served, waiting = watcher.readings[-1].occupancy or (0, 0)
    return f"{served} served and {waiting} waiting are left from the steps before"


def wait_until_free(client: QueueClient, found: Disconnection, last_end_s: float) -> None:
    """Wait until the figures say that nobody is there, at most FREE_S after `last_end_s`."""
    watcher, begun_s = client.watcher, time.perf_counter()
    first = watcher.next_reading(client.args.timeout)
    if first is None or first.occupancy is None:
        return
    free = watcher.wait_for(lambda reading: reading.is_idle, begun_s, NOTICE_S)
    if free is None:
        longest_s = max(0.0, last_end_s + FREE_S - time.perf_counter())
        client.run.note(f"waiting up to {longest_s:.0f} s for the place to become free")
        free = watcher.wait_for(lambda reading: reading.is_idle, begun_s, longest_s)
    if free is None:
        served, waiting = watcher.readings[-1].occupancy or (0, 0)
        seen = f"still {served} served and {waiting} waiting"
        found.still_taken = f"{seen} {FREE_S:g} s after the last answer should have ended"
    elif found.free_s is None:
        found.free_s = free.ended_s


# --- while it waits


@dataclass
class QueuedClients:
    """`holders` took every place. Behind them waited `ahead` (if there was room for two), then
    `leaver`, which disconnected, and then `behind`."""

    holders: list[Answer]
    ahead: list[Answer]
    leaver: Answer
    behind: Answer

    @property
    def others(self) -> list[Answer]:
        return [*self.holders, *self.ahead, self.behind]

    @property
    def first_end_s(self) -> float:
        return min(map(last_event_s, self.holders))

    @property
    def undecided(self) -> str | None:
        """Why nothing can be said about the place of the leaver."""
        if not self.leaver.reply.cancelled:
            return f"the client did not wait ({self.leaver.outcome(timed=True)})"
        if self.leaver.first_output_ns is not None:
            return "the client was served at once, though every place was taken"
        if ended_s(self.leaver) > self.first_end_s:
            return "the answers were too short for a client to disconnect in between"
        return None

    @property
    def pair(self) -> list[Answer]:
        """The two that waited at the same time, in their order; [] when they did not."""
        both = self.ahead and sent_s(self.behind) + JITTER_S < self.first_end_s
        return [*self.ahead, self.behind] if both else []


def disconnect_while_waiting(client: QueueClient, found: Disconnections) -> None:
    """A client that disconnects in the queue; again with longer answers if they were too short."""
    for attempt in range(ATTEMPTS):
        this = found.while_waiting = Disconnection(undecided=still_busy(client))
        if this.undecided:
            return
        lengths = holder_lengths(client, attempt)
        holders = take_every_place(client, lengths)
        if holders.begun < len(lengths):
            this.undecided = f"only {holders.begun} of {len(lengths)} requests were served at once"
            before = found.while_served
            if before and not (before.undecided or before.rate_limited):
                # the figures said that the place of the first client was free, but nobody gets it
                before.still_taken = f"afterwards {this.undecided}"
            return
        lasts_s = min(lengths) / client.args.max_tokens * client.answer_s
        queued = queue_behind(client, holders, lasts_s, this)
        this.rate_limited = first_rate_limited([*queued.others, queued.leaver])
        this.undecided = queued.undecided
        if this.rate_limited or not this.undecided:
            break
    found.pair = [] if this.undecided else queued.pair
    if this.is_free:
        wait_until_free(client, this, max(map(ended_s, queued.others)))


def holder_lengths(client: QueueClient, attempt: int) -> list[int]:
    """Tokens of the answers that hold every place. The first of several is shorter: the places
    become free one after the other, so that the order of those that wait can be seen."""
    count, tokens = client.limits.max_concurrent, client.args.max_tokens * 2**attempt
    return [max(8, tokens // 2) if count > 1 else tokens] + [tokens] * (count - 1)


def take_every_place(client: QueueClient, lengths: Sequence[int]) -> Background:
    """Requests for answers of these lengths, until all of them are served."""
    client.run.note(f"{plural(len(lengths), 'request')} to take every place")
    holders = client.send_in_background("holders", [client.request(each) for each in lengths])
    # a lost place makes one of them wait: it gets as much time as any place to become free
    deadline_s = time.perf_counter() + min(client.args.timeout, FREE_S + client.answer_s)
    while holders.begun < len(lengths) and holders.is_alive() and time.perf_counter() < deadline_s:
        time.sleep(HOLD_S)
    return holders


def queue_behind(
    client: QueueClient, holders: Background, lasts_s: float, found: Disconnection
) -> QueuedClients:
    """Three clients queue and the second one disconnects, while the holders have every place;
    about `lasts_s` after the beginning the first place becomes free."""
    ahead = None
    if client.limits.max_queue != 1:  # where only one may wait, that one is the leaver
        ahead = client.send_in_background("queued", [client.short_request()])
        time.sleep(min(0.3, lasts_s / 10) + client.round_trip_s)
    stays_s = min(1.0, lasts_s / 10) + client.round_trip_s
    request = client.short_request(cancel_after_s=stays_s)
    leaver = client.send_one("left_queued", request, "  a client disconnects in the queue")
    found.left_s = ended_s(leaver)
    others, longest_s = 1 if ahead else 0, min(NOTICE_S, lasts_s * 0.4)
    gone = client.watcher.wait_for(
        lambda r: r.occupancy is not None and r.occupancy[1] <= others, found.left_s, longest_s
    )
    if gone and not holders.answers:  # none of them has ended: it is the leaver that is gone
        found.free_s = gone.ended_s
    behind = client.send_one("queued_after", client.short_request(), "  another client comes")
    return QueuedClients(holders.collect(), ahead.collect() if ahead else [], leaver, behind)


def fill_every_place(client: QueueClient, found: Disconnection) -> None:
    """As many requests at once as there is room for: if a place is lost, one is not served."""
    requests = [client.short_request() for _ in range(client.limits.room)]
    label = f"{plural(len(requests), 'request')} at once, as many as there is room for"
    answers = client.send("refill", requests, label)
    errors = [answer.stream_error for answer in answers if answer.stream_error]
    if errors and not first_rate_limited(answers):
        count, texts = f"{len(errors)} of {len(requests)}", counted(e.text for e in errors)
        found.still_taken = f"afterwards {count} at once were not served: {texts}"
