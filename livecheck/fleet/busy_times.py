"""When runners had requests, and when one had nothing to do while another had several.

A time span is a pair (start, end) in ms. Those of answers are on the clock of
`time.perf_counter_ns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from livecheck.wire import metrics
from livecheck.wire.answer import Answer, ms
from livecheck.wire.metrics import Span, percentile

# --- times of an answer


def sent_ms(answer: Answer) -> float:
    """When the request was sent; when it ended, if it was never sent."""
    return ms(answer.sent_ns or answer.ended_ns or 0)


def ended_ms(answer: Answer) -> float:
    return ms(answer.ended_ns or answer.sent_ns or 0)


def round_trip_ms(answer: Answer) -> float:
    """The network's part, as connecting took it; 0 where that is not known."""
    return ms((answer.handshake.rtt_ns or 0) if answer.handshake else 0)


def latency_ms(answer: Answer) -> float | None:
    """The whole time of a request that was answered; None for one that failed."""
    return answer.spent_ms if answer.completion.problem is None else None


def first_output_ms(answer: Answer) -> float | None:
    """From sending to the first output of a stream; None where that cannot be seen."""
    return answer.first_output_ms if answer.is_stream else None


def median_latency_ms(answers: Iterable[Answer]) -> float:
    latencies = [each for each in map(latency_ms, answers) if each is not None]
    return percentile(latencies or [0.0], 50)


def at_deployment(answer: Answer) -> Span:
    """When the deployment had the request: half a round trip less at each end."""
    half = round_trip_ms(answer) / 2
    start = sent_ms(answer) + half
    return start, max(start, ended_ms(answer) - half)


def waiting(answer: Answer) -> Span:
    """The part of it without output yet; the whole of it, where the output cannot be seen."""
    start, end = at_deployment(answer)
    first = first_output_ms(answer)
    return start, end if first is None else min(end, start + first)


# --- spans


def most_at_once(answers: Iterable[Answer]) -> int:
    """How many requests the deployment had at the same time, at most."""
    return metrics.most_at_once(map(at_deployment, answers))


def times_with(spans: Iterable[Span], least: int) -> list[Span]:
    """The times that at least `least` of the spans contain: separate spans, in order."""
    found, since = [], None
    for moment, count in metrics.counts_over_time(spans):
        if count >= least and since is None:
            since = moment
        elif count < least and since is not None:
            found.append((since, moment))
            since = None
    return [each for each in found if each[1] > each[0]]


def times_without(spans: Iterable[Span], whole: Span) -> list[Span]:
    """The times in `whole` that none of the spans contains."""
    busy = times_with(spans, 1)
    starts = [whole[0], *(end for _, end in busy)]
    ends = [*(start for start, _ in busy), whole[1]]
    return [each for each in zip(starts, ends, strict=True) if each[1] > each[0]]


def overlaps(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """The times in both. The spans of one list must not overlap each other."""
    return times_with([*some, *others], 2)


def length_without(span: Span, others: Sequence[Span]) -> float:
    """How long a span is without what the others have of it; they do not overlap each other."""
    inside = ((max(start, span[0]), min(end, span[1])) for start, end in others)
    return span[1] - span[0] - sum(end - start for start, end in inside if end > start)


# --- runners


@dataclass(frozen=True)
class Gap:
    """A runner without any request while another one had two or more. Times in ms.

    `request_ms`: what a request takes, by the median of all or of the busy runner, whichever is
    longer.
    """

    runner: str
    busy: str
    length_ms: float
    request_ms: float

    @property
    def in_requests(self) -> float:
        return self.length_ms / self.request_ms if self.request_ms else 0.0


def longest_gaps(
    served: Mapping[str, Sequence[Answer]],
    unknown: Sequence[Answer],
    queued: bool = False,
    blind: Sequence[Span] = (),
) -> list[Gap]:
    """For each runner and each other one the longest gap; of a runner that served nothing, only the
    longest of all, because there may be thousands of these.

    `served`: the answers by runner. `unknown`: answers that may be of any runner. `queued`: only
    while one of the busy runner's requests has no output yet. `blind`: when this program could not
    run, and so send no request either: nobody is idle then for the gateway's sake.
    """
    everyone = [*unknown, *(answer for own in served.values() for answer in own)]
    spans = list(map(at_deployment, everyone))
    whole = min(start for start, _ in spans), max(end for _, end in spans)
    usual_ms, found = median_latency_ms(everyone), []
    working = {name: own for name, own in served.items() if own}
    idle = {
        name: times_without(map(at_deployment, [*own, *unknown]), whole)
        for name, own in working.items()
    }
    always_idle = times_without(map(at_deployment, unknown), whole)
    of_idle: list[Gap] = []  # of a runner that served nothing: they are all alike
    for other, own in working.items():
        busy = times_with(map(at_deployment, own), 2)
        if queued:
            busy = overlaps(busy, times_with(map(waiting, own), 1))
        if not busy:
            continue
        request_ms = round(max(usual_ms, median_latency_ms(own)), 3)
        for runner in working.keys() - {other}:
            if (length_ms := longest(overlaps(idle[runner], busy), blind)) > 0:
                found.append(Gap(runner, other, round(length_ms, 3), request_ms))
        if (length_ms := longest(overlaps(always_idle, busy), blind)) > 0:
            of_idle.append(Gap("", other, round(length_ms, 3), request_ms))
    worst = max(of_idle, key=lambda gap: gap.in_requests, default=None)
    without_any = served.keys() - working.keys() if worst else ()
    return [*found, *(replace(worst, runner=name) for name in without_any if worst)]


def longest(spans: Iterable[Span], blind: Sequence[Span]) -> float:
    """The length of the longest of these, without the times that do not count; 0 without any."""
    return max((length_without(each, blind) for each in spans), default=0.0)
