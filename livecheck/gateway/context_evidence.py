"""What a run finds out about a context, and the plain facts that follow from it. No verdicts here,
and nothing that talks to a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from livecheck.core.json_value import number, pick
from livecheck.gateway.context_prompt import Prompt
from livecheck.gateway.context_size import Promise, says_too_long
from livecheck.wire.answer import BUSY, WORDS_BYTES, Answer
from livecheck.wire.asking import Stop
from livecheck.wire.chunk_form import means_length
from livecheck.wire.decode_figures import cached_tokens
from livecheck.wire.spoken import content_in, thoughts_in
from livecheck.wire.token_rate import Counted, Rate

# The phases of a run, and the share of the context that a prompt of each has.
# A first one in a form that the server does not take, or does not count, is a PROBE.
PROBE, RATE, SHORT, HALF, LONG = "probe", "rate", "short", "half", "long"
TOGETHER, BEYOND = "together", "beyond"
SHARES = {SHORT: 0.1, HALF: 0.5, LONG: 0.95, TOGETHER: 0.5, BEYOND: 1.05}
ALONE = (SHORT, HALF, LONG)
USAGE = b"include_usage"
# Between two prefills: less may be anything else. A fast GPU reads 2,000 tokens in 50 ms.
LEAST_GROWTH_MS = 20.0
OF_SPREAD = 3.0  # and so many times what equally long prompts differ by
SAME_PACE = 0.6  # of the time per token up to half of the context, from there on


@dataclass(eq=False)
class Asked:
    """A prompt that was sent and its answer. `most`: the tokens that the answer may have."""

    phase: str
    prompt: Prompt
    most: int
    answer: Answer

    @property
    def share(self) -> float | None:
        return SHARES.get(self.phase)

    @property
    def message(self) -> Any:
        """Of an answer that is not streamed."""
        return pick(self.answer.json, "choices", 0, "message")

    @property
    def usage(self) -> dict[str, Any]:
        answer = self.answer
        found = answer.stream.usage if answer.is_stream else pick(answer.json, "usage")
        return found if isinstance(found, dict) else {}

    @property
    def timings(self) -> dict[str, Any]:
        """What llama.cpp's server says of its own work."""
        answer = self.answer
        found = answer.stream.timings if answer.is_stream else pick(answer.json, "timings")
        return found if isinstance(found, dict) else {}

    @cached_property
    def trouble(self) -> str | None:
        """Why there is no answer to look at; None when there is one, even an empty one."""
        answer = self.answer
        if answer.is_stream:
            error = answer.stream_error
            return None if error is None or error.kind == "empty" else error.text
        is_message = answer.is_ok and isinstance(self.message, dict) and not answer.says_error
        return None if is_message else answer.completion.problem or answer.outcome()

    @cached_property
    def counted(self) -> Counted | None:
        """The server's count of the prompt; None without one."""
        tokens = number(self.usage.get("prompt_tokens"))
        if self.trouble or not tokens:
            return None
        cached = cached_tokens(self.usage, self.timings) or 0.0
        return Counted(self.prompt.sentences, tokens, cached)

    @property
    def text(self) -> str:
        """All that was said, the thoughts as well: what is in these was read."""
        if self.answer.is_stream:
            return f"{self.answer.stream.text} {self.answer.stream.reasoning}"
        return f"{content_in(self.message)} {thoughts_in(self.message)}"

    @property
    def finish_reason(self) -> object:
        answer = self.answer
        if answer.is_stream:
            return answer.stream.finish_reason
        return pick(answer.json, "choices", 0, "finish_reason")

    @property
    def is_cut(self) -> bool:
        return means_length(self.finish_reason)

    @cached_property
    def found(self) -> tuple[bool | None, bool | None, bool | None]:
        """Which numbers were repeated: at the beginning, in the middle, at the end. None: the
        answer was cut before it could come to that one."""
        if self.trouble:
            return None, None, None
        found = self.prompt.found_in(self.text)
        last = max((place for place, is_there in enumerate(found) if is_there), default=-1)
        told = [
            None if self.is_cut and not is_there and place > last else is_there
            for place, is_there in enumerate(found)
        ]
        return told[0], told[1], told[2]

    @property
    def output_tokens(self) -> float:
        return number(self.usage.get("completion_tokens")) or 0.0

    @property
    def says_nothing(self) -> bool:
        """Whether the answer is empty: no text, no thoughts, none that are only counted."""
        return not (self.text.strip() or self.answer.spent)

    # how it was refused

    @property
    def is_refused(self) -> bool:
        """Whether it was refused for what it asks, with a 4xx or in an error event."""
        status = self.answer.status or 0
        is_error = bool(self.trouble) and status == 200 and says_too_long(self.answer)
        return self.answer.failure is None and (400 <= status < 500 or is_error)

    @property
    def refuses_usage(self) -> bool:
        """Whether it was refused because it asks for the count of tokens in a stream."""
        said = self.answer.body[:WORDS_BYTES].lower()
        return self.answer.status in (400, 422) and (b"stream_options" in said or USAGE in said)

    @property
    def is_busy(self) -> bool:
        """Whether the server has no room now: that says nothing about a context."""
        return self.answer.failure is None and self.answer.status in BUSY

    # times

    @property
    def prefill_ms(self) -> float | None:
        """Until the first token of a stream: the prefill, and the way there and back."""
        return self.answer.first_output_ms if self.answer.is_stream else None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens that were not in a cache, in that time."""
        counted, spent_ms = self.counted, self.prefill_ms
        if counted is None or not spent_ms:
            return None
        return round(max(0.0, counted.tokens - counted.cached) / spent_ms * 1e3, 1)

    @property
    def server_prefill_ms(self) -> float | None:
        return number(self.timings.get("prompt_ms"))

    @property
    def server_tokens_per_s(self) -> float | None:
        tokens, spent_ms = number(self.timings.get("prompt_n")), self.server_prefill_ms
        return round(tokens / spent_ms * 1e3, 1) if tokens and spent_ms else None

    @property
    def read_by_engine(self) -> float | None:
        """How many tokens the engine itself says that it has read or had in its cache."""
        read = number(self.timings.get("prompt_n"))
        return None if read is None else read + (number(self.timings.get("cache_n")) or 0.0)


@dataclass
class Evidence:
    """All that was asked. `said`: what the deployment says, where --context says something else.

    `rate`: how the server counts; None when it does not. `stalled`: the counts of the first prompts
    that should differ by more. `untold`: why deeper prompts were not sent. `stopped`: why nothing
    more was. `serves`: how many requests at once the deployment says that it serves.
    """

    promise: Promise
    said: Promise | None
    concurrency: int
    timeout_s: float
    asked: list[Asked] = field(default_factory=list)
    rate: Rate | None = None
    stalled: str | None = None
    untold: str | None = None
    stopped: Stop | None = None
    serves: int | None = None

    @property
    def size(self) -> int:
        return self.promise.tokens

    def of(self, *phases: str) -> list[Asked]:
        """Those of these phases, but for those that a rate limit or an interruption answered."""
        return [a for a in self.asked if a.phase in phases and not a.answer.is_excluded]

    def good(self, *phases: str) -> list[Asked]:
        return [asked for asked in self.of(*phases) if asked.trouble is None]

    def expected(self, asked: Asked) -> float:
        assert self.rate
        return self.rate.expected(asked.prompt.sentences)

    def lacking(self, asked: Asked) -> float:
        """Tokens that the count of this prompt is short of what was sent, beyond the error; 0 if
        that is less than a sentence."""
        counted = asked.counted
        return self.rate.lacking(counted) if self.rate and counted else 0.0

    # whether the text was read

    def is_read(self, asked: Asked) -> bool:
        """Whether the engine itself says that it has read the whole prompt."""
        read = asked.read_by_engine
        if read is None or self.rate is None:
            return False
        return not self.rate.lacking(Counted(asked.prompt.sentences, read))

    def are_read(self, asked: Sequence[Asked]) -> bool:
        """The same of all of these, if there are any."""
        return bool(asked) and all(map(self.is_read, asked))

    @property
    def prefill_grew(self) -> bool:
        """Whether the longest prompts took as much longer as their text is longer: what is thrown
        away takes no time."""
        times = [self._fastest(phase) for phase in ALONE]
        if None in times:
            return False
        (n_0, t_0), (n_1, t_1), (n_2, t_2) = (each for each in times if each)
        least_ms = max(LEAST_GROWTH_MS, OF_SPREAD * self._spread_ms)
        if t_1 - t_0 < least_ms or n_1 == n_0 or n_2 == n_1:
            return False
        return (t_2 - t_1) / (n_2 - n_1) >= SAME_PACE * (t_1 - t_0) / (n_1 - n_0)

    @property
    def _spread_ms(self) -> float:
        """By how much the two fastest prefills of a phase differ, at most."""
        phases = [sorted(a.prefill_ms for a in self.good(p) if a.prefill_ms) for p in ALONE]
        return max((times[1] - times[0] for times in phases if len(times) > 1), default=0.0)

    def _fastest(self, phase: str) -> tuple[int, float] | None:
        """The sentences and the time of the fastest prefill of this phase."""
        found = [(a.prompt.sentences, a.prefill_ms) for a in self.good(phase) if a.prefill_ms]
        return min(found, key=lambda each: each[1]) if found else None

    @property
    def edge(self) -> tuple[float, float] | None:
        """The distances from the end of a prompt, in sentences, between which the numbers begin to
        be lost: the farthest that was always found, the nearest that was always lost. None when
        there is no such edge: where a model is weak, it finds some that are farther than others
        that it loses."""
        seen = list(distances(self.good(SHORT, HALF, LONG)))
        found = [distance for distance, is_there in seen if is_there]
        lost = [distance for distance, is_there in seen if not is_there]
        if not found or not lost or max(found) >= min(lost):
            return None
        return max(found), min(lost)

    def longest_s(self, asked: Asked) -> float:
        """How long a sound server may take for a prompt, from the longest that it has answered
        alone: twice the time that grows with the square of the length, for each that may be in
        front of it."""
        done = [a for a in self.good(RATE, SHORT, HALF, LONG) if a.answer.spent_ms]
        if not done:
            return 0.0
        longest = max(done, key=lambda each: each.prompt.sentences)
        before = [a for a in done if a.prompt.sentences == longest.prompt.sentences]
        spent_s = max((a.answer.spent_ms or 0.0) / 1e3 for a in before)
        ratio = max(1.0, asked.prompt.sentences / longest.prompt.sentences)
        return 2 * spent_s * ratio**2 * (self.concurrency if asked.phase == TOGETHER else 1)


def distances(asked: Iterable[Asked]) -> Iterable[tuple[float, bool]]:
    """How many sentences each number is from the end of its prompt, and whether it was found."""
    for each in asked:
        count = each.prompt.sentences
        for distance, is_there in zip((count, count - count // 2, 0), each.found, strict=True):
            if is_there is not None:
                yield distance, is_there


def repeated(asked: Sequence[Asked], place: int) -> tuple[int, int]:
    """How often the number at this place was repeated, and in how many answers it could be."""
    told = [each.found[place] for each in asked if each.found[place] is not None]
    return sum(map(bool, told)), len(told)
