"""A burst as text: a bar for each of its requests, on one axis of time."""

from __future__ import annotations

from livecheck.gateway.burst import Burst, ended_s, first_output_s, last_event_s, spent_s
from livecheck.wire.answer import Answer

BAR_WIDTH = 52  # columns


def timeline(burst: Burst) -> list[str]:
    """A bar for each request: waiting, generating, refused; those served first are on top."""
    begun_s = burst.first_sent_s
    span_s = max(map(ended_s, burst.answers)) - begun_s or 1e-9

    def column(time_s: float) -> int:
        return min(BAR_WIDTH, max(0, round((time_s - begun_s) / span_s * BAR_WIDTH)))

    def line(answer: Answer, bar: str, word: str) -> str:
        return f"{answer.reply.index + 1:>4} {bar[: BAR_WIDTH + 1]:<{BAR_WIDTH + 1}} {word}"

    shown = [f"{len(burst.answers)} at once, {span_s:.2f} s: ░ waiting  █ generating  × refused"]
    for answer in sorted(burst.accepted, key=lambda a: (begin_s(a), a.reply.index)):
        start, end = column(begin_s(answer)), column(last_event_s(answer))
        bar = "░" * start + ("█" * max(1, end - start) if first_output_s(answer) else "")
        error = answer.stream_error
        word = error.kind if error else f"{answer.status} {spent_s(answer):.2f} s"
        shown.append(line(answer, bar, word))
    for answer in burst.refused:
        bar = "░" * max(0, column(ended_s(answer)) - 1) + "×"
        shown.append(line(answer, bar, f"{answer.status} {spent_s(answer) * 1e3:.0f} ms"))
    return shown


def begin_s(answer: Answer) -> float:
    """Its first token; of an answer without tokens, its end."""
    return first_output_s(answer) or ended_s(answer)
