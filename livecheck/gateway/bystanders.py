"""Clients that stay while another one disconnects: are their answers what they would have been?

A gateway that handles a departure badly ends the wrong answer, refuses somebody who waits, gives a
client the answer of another one, frees a place twice, or serves the client that is not there any
more. All times are seconds on the clock of `time.perf_counter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from livecheck.core.text import counted
from livecheck.gateway.burst import (
    ended_s,
    first_output_s,
    last_event_s,
    most_at_once,
    sent_s,
    spent_s,
)
from livecheck.wire.answer import Answer
from livecheck.wire.chunk_form import means_length
from livecheck.wire.token_counts import count_tokens

SUDDEN_S = 0.5  # between a departure and an end that may be its consequence
MORE_TOKENS = 2  # than it was asked for: some servers count one more
GHOST_SHARE = 0.25  # of the answer that the departed client had asked for
LEAST_GHOST_S = 0.3  # by which the first token of one answer is later than that of another


@dataclass(frozen=True)
class Bystander:
    """A client that stayed: its answer, how many tokens it had asked for, and whether it `waited`
    (or was being served) when the other one disconnected."""

    answer: Answer
    tokens: int
    waited: bool = False

    @property
    def name(self) -> str:
        return "a client that waited" if self.waited else "a client that was being served"


def harm(bystanders: Sequence[Bystander], left_s: float, usual: Answer) -> str | None:
    """What went wrong for those who stayed; None when all was well. `usual`: the answer to a single
    client."""
    wrong = [(each, text) for each in bystanders if (text := what_is_wrong(each))]
    if wrong:
        after_s = min(ended_s(each.answer) for each, _ in wrong) - left_s
        texts = counted(text for _, text in wrong)
        if after_s < 0:
            return f"{texts}, before another client disconnected"
        return f"{texts}, {after_s:.2f} s after another client had disconnected"
    if any(changes_id(each.answer) for each in bystanders) and not changes_id(usual):
        return "a client that stayed got events with the id of another answer in its stream"
    return None


def what_is_wrong(bystander: Bystander) -> str | None:
    """Why its answer is not what it had asked for, in one clause."""
    answer, error = bystander.answer, bystander.answer.stream_error
    if answer.is_rate_limited:
        return None
    if answer.reply.cancelled:
        return f"{bystander.name} got no complete answer in {spent_s(answer):.0f} s"
    if error:
        return f"{bystander.name} got no complete answer ({error.kind}: {error.text})"
    count = tokens_of(answer) or 0
    if count > 1.05 * bystander.tokens + MORE_TOKENS:
        return f"{bystander.name} asked for {bystander.tokens} tokens and got {count}"
    return None


def tokens_of(answer: Answer) -> int | None:
    """The tokens of its answer, where the server counts them."""
    found = count_tokens(answer.stream)
    if found.source == "events":
        return None
    return found.counted if found.shown is None else found.shown


def changes_id(answer: Answer) -> bool:
    """Whether the events of its stream have more than one id; empty ones do not count, and neither
    do those of events that only tell of progress."""
    return answer.stream.ids > 1


def ended_suddenly(bystanders: Sequence[Bystander], left_s: float, usual: Answer) -> str | None:
    """A complete answer that ended as soon as the other client had disconnected, long before it had
    the tokens that it was asked for, though an answer to a single client (`usual`) had all of them.
    A model may also end so by itself: a second trial tells.
    """
    if not means_length(usual.stream.finish_reason):
        return None
    for each in bystanders:
        answer, count = each.answer, tokens_of(each.answer) or len(each.answer.stream.output_ns)
        after_s = last_event_s(answer) - left_s
        if not answer.stream_error and count < 0.9 * each.tokens and 0 <= after_s <= SUDDEN_S:
            return (
                f"{each.name} got {count} of {each.tokens} tokens, and its answer ended "
                f"{after_s:.2f} s after another client had disconnected"
            )
    return None


def too_many_at_once(answers: Sequence[Answer], allowed: int, slack_s: float) -> str | None:
    """Whether more were generated at once than are allowed; see `check_concurrency`."""
    starts = [(first_output_s(answer), last_event_s(answer)) for answer in answers]
    most = most_at_once([(start + slack_s, end) for start, end in starts if start is not None])
    if most <= allowed:
        return None
    return f"afterwards {most} answers were generated at once, {allowed} allowed"


def idle_place(
    holders: Sequence[Answer], ahead: Sequence[Answer], behind: Answer, usual_s: float
) -> tuple[float, float] | None:
    """From when to when the place that `behind` waited for was given to nobody that is there.

    `holders` had every place, then `ahead` was served, then `behind`, which had come after the
    client that disconnected. `usual_s`: from sending to the first token.
    """
    start_s = first_output_s(behind)
    if start_s is None or behind.stream_error:
        return None
    ends_s = sorted(map(last_event_s, [*holders, *ahead]))
    free_s = max(ends_s[len(ahead)], sent_s(behind)) + usual_s
    return (free_s, start_s) if free_s < start_s else None
