"""Clients that disconnect, one while it is served and one while it waits: does their place become
free again, and do those who stay get their answers?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from livecheck.core.text import counted, plural
from livecheck.gateway.burst import (
    JITTER_S,
    ended_s,
    first_output_s,
    first_rate_limited,
    last_event_s,
    sent_s,
)
from livecheck.gateway.bystanders import (
    GHOST_SHARE,
    LEAST_GHOST_S,
    Bystander,
    ended_suddenly,
    harm,
    idle_place,
    too_many_at_once,
)
from livecheck.gateway.contradictions import impossible_figures
from livecheck.gateway.queue_client import QueueClient
from livecheck.gateway.queue_state import merged
from livecheck.wire.answer import Answer
from livecheck.wire.background import Background

ATTEMPTS = 3  # each with answers twice as long, until they are long enough
SETTLE_S = 10.0  # for the requests of the steps before to end
FREE_S = 30.0  # after which the place of a client that disconnected counts as lost
NOTICE_S = 3.0  # for a server to notice it; llama.cpp looks after each token
HOLD_S = 0.005  # how often to look whether every place is taken
ASK_AGAIN_S = 1.0  # where only a request tells whether a place is free
LATEST_SHARE = 0.75  # of an answer, after which it may have been sent as a whole
LEAVE_SHARE = 0.4  # of an answer, after which a client disconnects beside others
STREAMED_BYTES = 1000  # the head and a few tokens of an answer


@dataclass
class Disconnection:
    """A client disconnected at `left_s`; whether its place became free.

    `free_s`: when the figures said so, if there are figures. `undecided`: why nothing can be said.
    `still_taken`: what showed that the place did not become free. `harm`: what it did to clients
    that stayed. `blind_s`: for how long this program could not run from `left_s` to `free_s`.
    """

    left_s: float = 0.0
    free_s: float | None = None
    undecided: str | None = None
    still_taken: str | None = None
    harm: str | None = None
    rate_limited: Answer | None = None
    blind_s: float = 0.0

    @property
    def is_free(self) -> bool:
        """Whether it went as planned, and nothing has shown that the place is still taken."""
        return not (self.undecided or self.still_taken or self.harm or self.rate_limited)

    @property
    def free_after_s(self) -> float | None:
        return None if self.free_s is None else self.free_s - self.left_s


@dataclass
class Disconnections:
    """All of them, as far as the run got. `beside_others`: one while it was served, beside others
    that were served or waited. `pair`: the answers to two requests that waited at the same time, in
    the order in which they were sent."""

    while_served: Disconnection | None = None
    beside_others: Disconnection | None = None
    while_waiting: Disconnection | None = None
    pair: list[Answer] = field(default_factory=list)


def measure_disconnections(client: QueueClient, found: Disconnections) -> None:
    """At the end, as many requests as there is room for show by use whether a place is lost."""
    while_served = found.while_served = Disconnection()
    disconnect_while_served(client, while_served)
    if while_served.still_taken or while_served.rate_limited:
        return
    last = while_served
    if client.limits.max_queue is not None:
        disconnect_while_waiting(client, found)
        last = found.while_waiting or last
    if last.is_free:
        found.beside_others = Disconnection()
        disconnect_beside_others(client, found.beside_others)
        if found.beside_others.is_free or found.beside_others.undecided:
            fill_every_place(client, last)


# --- while it is served


def disconnect_while_served(client: QueueClient, found: Disconnection) -> None:
    """A client that disconnects after a few tokens; again if the answer was too short for that."""
    for attempt in range(ATTEMPTS):
        found.undecided = still_busy(client) or too_long(client, attempt)
        if found.undecided:
            return
        leave_alone(client, found, 2**attempt)
        if not found.undecided:
            return


def leave_alone(client: QueueClient, found: Disconnection, factor: int) -> None:
    """A client disconnects after a few tokens of an answer that is `factor` times as long."""
    tokens, label = factor * client.args.max_tokens, "a client disconnects while it is served"
    request = client.request(tokens, cancel_at_bytes=STREAMED_BYTES)
    answer = client.send_one("left_streaming", request, label)
    found.left_s, found.rate_limited = ended_s(answer), first_rate_limited([answer])
    if found.rate_limited:
        return
    if answer.reply.cancelled and nearly_over(client, answer, factor, time.perf_counter()):
        found.undecided = "this program could not disconnect before the answer was nearly over"
    elif answer.reply.cancelled and answer.status == 200:
        # a gateway that does not notice works on until the answer would have ended
        last_end_s = found.left_s + factor * client.answer_s
        wait_until_free(client, found, last_end_s)
        if client.limits.max_queue is None and not client.watcher.tells:
            ask_until_free(client, found, last_end_s)
    elif answer.stream_error:
        said = f"{answer.stream_error.kind}: {answer.stream_error.text}"
        found.harm = f"a request got no complete answer, though nobody else was there ({said})"
    else:
        outcome = answer.outcome(timed=True)
        found.undecided = f"the answer ended before the client could disconnect ({outcome})"


def nearly_over(client: QueueClient, answer: Answer, factor: int, closed_s: float) -> bool:
    """Whether the gateway may have sent all of an answer before the client had disconnected: the
    bytes are noticed late, and the connection is closed later, when this program cannot run."""
    begun_s = first_output_s(answer) or sent_s(answer)
    is_long = answer.reply.body_size > LATEST_SHARE * factor * client.single.reply.body_size
    return is_long or closed_s - begun_s > LATEST_SHARE * factor * client.answer_s


def still_busy(client: QueueClient) -> str | None:
    """What the steps before have left in the deployment; None when nothing, or nothing tells."""
    watcher, now_s = client.watcher, time.perf_counter()
    if not watcher.tells:
        client.pause()
        return None
    last = watcher.whole_reading(now_s, SETTLE_S, lambda r: r.occupancy is None or r.is_idle)
    if last is None or last.occupancy is None or last.is_idle:
        return None
    served, waiting = last.occupancy
    return f"{served} served and {waiting} waiting are left from the steps before"


def wait_until_free(client: QueueClient, found: Disconnection, last_end_s: float) -> None:
    """Wait until the figures say that nobody is there, at most FREE_S after `last_end_s`."""
    watcher, begun_s = client.watcher, time.perf_counter()
    first = watcher.next_reading(client.args.timeout)
    if first and (wrong := impossible_figures([first])):
        found.harm = f"the figures are no counts any more: {', '.join(wrong)}"
        return
    if first is None or first.occupancy is None:
        client.pause()
        return
    free = watcher.wait_for(lambda reading: reading.is_idle, begun_s, NOTICE_S)
    if free is None:
        longest_s = max(0.0, last_end_s + FREE_S - time.perf_counter())
        client.run.note(f"waiting up to {longest_s:.0f} s for the place to become free")
        free = watcher.wait_for(lambda reading: reading.is_idle, begun_s, longest_s)
    if free is None:
        last = merged(watcher.readings, begun_s)
        served, waiting = (last and last.occupancy) or first.occupancy
        seen = f"still {served} served and {waiting} waiting"
        found.still_taken = f"{seen} {FREE_S:g} s after the last answer should have ended"
    elif found.free_s is None:
        became_free(client, found, free.ended_s)


def became_free(client: QueueClient, found: Disconnection, free_s: float) -> None:
    found.free_s, found.blind_s = free_s, client.blind_s(found.left_s, free_s)


def ask_until_free(client: QueueClient, found: Disconnection, last_end_s: float) -> None:
    """Where no figure tells it and nobody may wait: ask until somebody is served again, at most
    FREE_S after `last_end_s`."""
    while True:
        answer = client.send_one("left_after", client.short_request(), "another client comes")
        found.rate_limited = first_rate_limited([answer])
        if found.rate_limited:
            return
        if not answer.stream_error:
            became_free(client, found, sent_s(answer))
            return
        if time.perf_counter() > last_end_s + FREE_S:
            found.still_taken = f"{answer.stream_error.text}, {FREE_S:g} s later"
            return
        time.sleep(ASK_AGAIN_S)


# --- beside others


def disconnect_beside_others(client: QueueClient, found: Disconnection) -> None:
    """A client disconnects while it is served and others are served or wait beside it; again with
    longer answers if they were too short."""
    if client.limits.room < 2:
        return
    suspicions, reach = Suspicions(), 1
    for attempt in range(ATTEMPTS):
        found.undecided = still_busy(client) or too_long(client, attempt)
        if found.undecided:
            return
        factor = 2**attempt
        leaver, others = leave_beside_others(client, client.args.max_tokens * factor, reach)
        # a model that ends its answers by itself does not make them longer
        reach = 2 * reach if leaver.reply.cancelled else 1
        answers = [each.answer for each in others]
        found.left_s, found.undecided = ended_s(leaver), too_late(leaver, others)
        late_s = client.blind_s(found.left_s, found.left_s + factor * client.answer_s)
        if not found.undecided and nearly_over(client, leaver, factor, found.left_s + late_s):
            found.undecided = "this program could not disconnect before the answer was nearly over"
        found.rate_limited = first_rate_limited([leaver, *answers])
        if found.rate_limited:
            return
        found.harm = None if found.undecided else harm_to(client, others, found.left_s)
        if found.undecided:
            continue
        if found.harm or suspicions.settle(
            found, ended_suddenly(others, found.left_s, client.single)
        ):
            return


def leave_beside_others(
    client: QueueClient, tokens: int, reach: int
) -> tuple[Answer, list[Bystander]]:
    """As many requests for that many tokens as are served at once, and up to two that wait. The
    first one disconnects when it has LEAVE_SHARE of an answer `reach` times as long as usual."""
    limits = client.limits
    at_bytes = round(LEAVE_SHARE * client.single.reply.body_size * reach)
    requests = [client.request(tokens, cancel_at_bytes=max(STREAMED_BYTES, at_bytes))]
    requests += [client.request(tokens) for _ in range(limits.max_concurrent - 1)]
    client.run.note("a client disconnects while it is served, beside others")
    served = client.send_in_background("beside", requests)
    wait_until_begun(client, served, len(requests))
    lasts_s = tokens / client.args.max_tokens * client.answer_s
    short = client.short_request(cancel_after_s=FREE_S + 2 * lasts_s)
    waiting = client.send_in_background("beside_waiting", [short] * min(2, limits.may_wait(2)))
    leaver, *others = served.collect()
    return leaver, [
        *(Bystander(answer, tokens) for answer in others),
        *(Bystander(answer, client.short_tokens, waited=True) for answer in waiting.collect()),
    ]


def harm_to(client: QueueClient, stayed: Sequence[Bystander], left_s: float) -> str | None:
    """What a departure did to those who stayed, or that it let in too many."""
    answers = [each.answer for each in stayed]
    slack_s = client.round_trip_s + JITTER_S + client.late_ends_s(answers)
    return harm(stayed, left_s, client.single) or too_many_at_once(
        answers, client.limits.max_concurrent, slack_s
    )


def too_late(leaver: Answer, others: Sequence[Bystander]) -> str | None:
    """Why a departure beside these others says nothing."""
    left_s = ended_s(leaver)
    if not leaver.reply.cancelled or leaver.status != 200:
        return f"the answer ended before the client could disconnect ({leaver.outcome(timed=True)})"
    refused = [e.answer for e in others if is_refused(e.answer) and ended_s(e.answer) < left_s]
    if refused:
        return f"a client that should wait was refused ({refused[0].outcome(timed=True)})"
    if any(
        sent_s(each.answer) + JITTER_S > left_s if each.waited else ended_s(each.answer) < left_s
        for each in others
        if not each.answer.stream_error
    ):
        return "the answers were too short for a client to disconnect in between"
    return None


@dataclass
class Suspicions:
    """What may be the consequence of a departure or not: it counts when it is seen twice."""

    seen: int = 0

    def settle(self, found: Disconnection, suspicion: str | None) -> bool:
        """Whether this trial, which went as planned, is the last one. Until it is seen a second
        time, a suspicion leaves it undecided."""
        if suspicion is None:
            return True
        self.seen += 1
        if self.seen > 1:
            found.undecided, found.harm = None, f"{suspicion}, in {self.seen} trials"
        else:
            found.undecided = f"{suspicion}; that was seen only once"
        return self.seen > 1


def too_long(client: QueueClient, attempt: int) -> str | None:
    """Why there is no further attempt: the answers of it would take too long."""
    lasts_s = 2**attempt * client.answer_s
    if attempt == 0 or lasts_s < client.args.timeout / 2:
        return None
    return "the answers were too short, and longer ones take too long: give a larger --timeout"


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

    def bystanders(self, lengths: Sequence[int], short: int) -> list[Bystander]:
        """Those who stayed, with the tokens they asked for. One that came `behind` and was refused
        is not among them: the place was not free yet."""
        waiting = [*self.ahead, *([] if is_refused(self.behind) else [self.behind])]
        pairs = zip(self.holders, lengths, strict=False)
        served = [Bystander(answer, tokens) for answer, tokens in pairs]
        return served + [Bystander(answer, short, waited=True) for answer in waiting]

    @property
    def first_end_s(self) -> float:
        return min(map(last_event_s, self.holders))

    @property
    def undecided(self) -> str | None:
        """Why nothing can be said about the place of the leaver."""
        if any(each.stream_error and ended_s(each) < ended_s(self.leaver) for each in self.holders):
            return None  # what happened to it is said as harm
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
        both = both and not is_refused(self.behind)
        return [*self.ahead, self.behind] if both else []


def disconnect_while_waiting(client: QueueClient, found: Disconnections) -> None:
    """A client that disconnects in the queue; again with longer answers if they were too short."""
    suspicions = Suspicions()
    for attempt in range(ATTEMPTS):
        why_not = still_busy(client) or too_long(client, attempt)
        this = found.while_waiting = Disconnection(undecided=why_not)
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
        if this.rate_limited:
            break
        stayed = queued.bystanders(lengths, client.short_tokens)
        this.harm = harm_to(client, stayed, this.left_s)
        this.undecided = None if this.harm else queued.undecided or refused_on(client, queued, this)
        if this.harm or (
            not this.undecided
            and suspicions.settle(this, suspicion_of(client, queued, stayed, lengths))
        ):
            break
    found.pair = [] if this.undecided else queued.pair
    if this.is_free:
        wait_until_free(client, this, max(map(ended_s, queued.others)))


def refused_on(client: QueueClient, queued: QueuedClients, found: Disconnection) -> str | None:
    """Where no figure tells when the place was free: it was not as long as the next client was
    refused. HAProxy without `option abortonclose` keeps it until its turn has come. Why that says
    nothing yet: a server may take up to NOTICE_S to notice, and a client that was let in only when
    an answer had ended may have got the place of that one."""
    behind, was_refused = queued.behind, is_refused(queued.behind) or found.free_s is not None
    in_between = sent_s(behind) + JITTER_S < queued.first_end_s
    if client.watcher.tells or (in_between and not is_refused(behind)):
        return None
    if not was_refused and not client.limits.max_queue:
        return None  # there is no last place that the one who left could have kept
    if not was_refused:
        return "the answers were too short for another client to come in between"
    found.free_s, found.blind_s = min(sent_s(behind), queued.first_end_s), 0.0  # refused until then
    refused_s = found.free_after_s or 0.0
    if refused_s > NOTICE_S + client.round_trip_s:
        return None
    seen = f"the next client was refused for {refused_s:.1f} s, until an answer ended"
    return f"{seen}, and a server may take {NOTICE_S:g} s to notice: give a larger --max-tokens"


def holder_lengths(client: QueueClient, attempt: int) -> list[int]:
    """Tokens of the answers that hold every place. The first of several is shorter: the places
    become free one after the other, so that the order of those that wait can be seen."""
    count, tokens = client.limits.max_concurrent, client.args.max_tokens * 2**attempt
    return [max(8, tokens // 2) if count > 1 else tokens] + [tokens] * (count - 1)


def take_every_place(client: QueueClient, lengths: Sequence[int]) -> Background:
    """Requests for answers of these lengths, until all of them are served."""
    client.run.note(f"{plural(len(lengths), 'request')} to take every place")
    holders = client.send_in_background("holders", [client.request(each) for each in lengths])
    wait_until_begun(client, holders, len(lengths))
    return holders


def wait_until_begun(client: QueueClient, background: Background, count: int) -> None:
    """Wait until `count` of its requests are served. A lost place makes one of them wait: it gets
    as much time as any place to become free."""
    deadline_s = time.perf_counter() + min(client.args.timeout, FREE_S + client.answer_s)
    while background.begun < count and background.is_alive() and time.perf_counter() < deadline_s:
        time.sleep(HOLD_S)


def suspicion_of(
    client: QueueClient,
    queued: QueuedClients,
    stayed: Sequence[Bystander],
    lengths: Sequence[int],
) -> str | None:
    """What looks like a consequence of the departure, though it may also come by chance."""
    firsts_s = [first_output_s(each) or 0 for each in (client.single, *queued.holders)]
    begun_s = [sent_s(each) for each in (client.single, *queued.holders)]
    usual_s = max(first - begun for first, begun in zip(firsts_s, begun_s, strict=True))
    ghost_s = max(lengths) / client.args.max_tokens * client.answer_s
    free = idle_place(queued.holders, queued.ahead, queued.behind, usual_s)
    idle_s = free[1] - free[0] - client.blind_s(*free) if free else 0.0
    if idle_s > max(LEAST_GHOST_S, GHOST_SHARE * ghost_s):
        seen = f"a place was free for {idle_s:.2f} s before the next client got it"
        return f"{seen}, as if the one that had disconnected were served"
    return ended_suddenly(stayed, ended_s(queued.leaver), client.single)


def is_refused(answer: Answer) -> bool:
    return answer.failure is None and answer.status in (429, 503)


def queue_behind(
    client: QueueClient, holders: Background, lasts_s: float, found: Disconnection
) -> QueuedClients:
    """Three clients queue and the second one disconnects, while the holders have every place;
    about `lasts_s` after the beginning the first place becomes free. The second one asks for a long
    answer, so that it would be noticed if that were generated."""
    ahead = None
    if client.limits.may_wait(2) > 1:  # where only one may wait, that one is the leaver
        ahead = client.send_in_background("queued", [client.short_request()])
        time.sleep(min(0.3, lasts_s / 10) + client.round_trip_s)
    stays_s = min(1.0, lasts_s / 10) + client.round_trip_s
    tokens = round(lasts_s / max(client.answer_s, 1e-3) * client.args.max_tokens)
    request = client.request(max(8, tokens), cancel_after_s=stays_s)
    leaver = client.send_one("left_queued", request, "  a client disconnects in the queue")
    found.left_s = ended_s(leaver)
    others, longest_s = 1 if ahead else 0, min(NOTICE_S, lasts_s * 0.4)
    gone = client.watcher.wait_for(
        lambda r: r.occupancy is not None and r.occupancy[1] <= others, found.left_s, longest_s
    )
    if gone and not holders.answers:  # none of them has ended: it is the leaver that is gone
        became_free(client, found, gone.ended_s)
    behind = come_after(client, holders, found)
    return QueuedClients(holders.collect(), ahead.collect() if ahead else [], leaver, behind)


def come_after(client: QueueClient, holders: Background, found: Disconnection) -> Answer:
    """Another client that queues. Where no figure tells when the place of the one before is free,
    it comes again if it is refused, until one of those who were served before has ended."""
    if not client.watcher.tells:
        client.pause()
    attempts = 0
    while True:
        answer = client.send_one("queued_after", client.short_request(), "  another client comes")
        attempts += 1
        if client.watcher.tells or holders.answers or not is_refused(answer):
            break
        client.pause()
    if attempts > 1 and not is_refused(answer):
        became_free(client, found, sent_s(answer))
    return answer


def fill_every_place(client: QueueClient, found: Disconnection) -> None:
    """As many requests at once as there is room for: if a place is lost, one is not served."""
    requests = [client.short_request() for _ in range(client.limits.room)]
    label = f"{plural(len(requests), 'request')} at once, as many as there is room for"
    answers = client.send("refill", requests, label)
    errors = [answer.stream_error for answer in answers if answer.stream_error]
    if errors and not first_rate_limited(answers):
        count, texts = f"{len(errors)} of {len(requests)}", counted(e.text for e in errors)
        text = f"afterwards {count} at once were not served: {texts}"
        if any(map(is_refused, answers)) or any(answer.timed_out for answer in answers):
            found.still_taken = text
        else:
            found.harm = text
