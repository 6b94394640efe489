"""Output that only tells of progress: at the beginning of a stream, before the model has answered.

What stands in front of a model may write into the stream while the model is loaded, or while the
request waits. llama-swap (`sendLoadingState`) sends "llama-swap loading model: NAME", then a dot or
a joke now and then, as `reasoning_content` of chunks without an id. Others send a place in a queue,
dots, spaces or characters of no width as content. None of that is a token of the model.

No sign of it is certain alone, and a first token must never be taken for progress: a model may
think, and pause for seconds before it answers. So it takes two of these signs together: another
sender than that of the rest (the chunks have another id, or none); words for loading or waiting, or
nothing but dots; a long silence; a count of tokens that has no place for it. Only characters of no
width are enough by themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from livecheck.core.json_value import number, pick, pick_list, pick_text
from livecheck.core.text import plural, shorten
from livecheck.wire import progress_words, spoken

MOST = 2000  # events that are looked at: a quarter of an hour of llama-swap's dots and jokes
SILENCE_NS = 500_000_000  # a shorter silence may be the model's own
FACTOR = 8  # and it is so many times the usual time between two of the model's events
LONG_NS = 1_000_000_000  # the same after text that says little: a single row of dots, other words
LEAST_GAPS = 2  # of the model's events, to know what is usual
MAX_NAME = 500  # characters of an id or a model's name, as `sse` looks at them
SHOWN_LENGTH = 48  # characters of what was told
EDGES = " \t\r\n\u2501\u200b\u2060\ufeff"  # around it: lines, and what nobody can see
MOST_TEXT = 400  # characters of progress by the model's own id, before the first silence


class Said(NamedTuple):
    """An event that carries output. `ident`, `model`: what its chunk says, empty without one.
    `has_call`: it is a part of a tool call. `is_token`: the event must come from a model."""

    at_ns: int
    text: str
    ident: str = ""
    model: str = ""
    has_call: bool = False
    is_token: bool = False


def said_in(chunk: Mapping[str, Any], at_ns: int) -> Said:
    """What matters here of a chunk that carries output."""
    text, has_call = "", False
    is_token = bool(number(pick(chunk, "usage", "completion_tokens")))
    for choice in pick_list(chunk, "choices"):
        delta = pick(choice, "delta")
        text += spoken.thoughts_in(delta) + spoken.content_in(delta) + pick_text(choice, "text")
        has_call |= spoken.has_tool_call(delta)
        is_token |= bool(pick_list(choice, "logprobs", "content"))
        is_token |= bool(pick_text(choice, "finish_reason"))
    ident, model = (pick_text(chunk, name)[:MAX_NAME] for name in ("id", "model"))
    return Said(at_ns, text, ident, model, has_call, is_token or has_call)


class Whole(NamedTuple):
    """What is known of the whole stream.

    `ident`: the id of the last chunk with a choice that has one, which is the model's own.
    `tokens`: the server's count. `outputs`: how many events carry output. `end_ns`: when the last
    event came. `is_finished`: it came to an end, without an error.
    """

    ident: str
    tokens: float | None
    outputs: int
    end_ns: int
    is_finished: bool = True


def leading(said: Sequence[Said], whole: Whole) -> int:
    """How many events at the beginning only tell of progress; 0 for nearly every stream.

    `said`: the events that carry output, or the first of them.
    """
    return _Beginning(said, whole).count if said else 0


def is_plain(first: Said, output_ns: Sequence[int], whole: Whole) -> bool:
    """Whether nothing speaks for progress, by what is quickly looked at: so it is with nearly every
    stream, and `leading` would find none. `first`: its first event that carries output;
    `output_ns`: the times of all of them."""
    if progress_words.is_widthless(first.text) or first.ident != whole.ident:
        return False
    if whole.tokens is not None and whole.outputs > whole.tokens:
        return False
    # text of some length cannot be progress, so a silence after many events is of no account
    is_long = whole.end_ns - output_ns[-1] >= SILENCE_NS and len(output_ns) <= MOST
    gaps = map(operator.sub, output_ns[1:], output_ns)
    return not is_long and max(gaps, default=0) < SILENCE_NS


def shown(said: Sequence[Said]) -> str:
    """What these events told, printable and short."""
    return shorten("".join(each.text for each in said).strip(EDGES), SHOWN_LENGTH)


def words(count: int, text: str, is_followed: bool = True) -> str:
    """The line about so many events. `text`: what they told, printable and short. `is_followed`:
    a token came after them."""
    told = f": {text!r}" if text else ""
    if is_followed:
        return f"{plural(count, 'event')} before the first token only told of progress{told}"
    return f"{plural(count, 'event')} only told of progress, and no token followed{told}"


class _Beginning:
    """The beginning of a stream, and the signs in it. A `count` is of events from its first on."""

    def __init__(self, said: Sequence[Said], whole: Whole):
        self.said, self.whole = said, whole
        # no event is progress from the first on that must come from a model
        self.most = next((at for at, each in enumerate(said) if each.is_token), len(said))
        times = [each.at_ns for each in said] + [max(whole.end_ns, said[-1].at_ns)]
        self.gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        self.ends = list(accumulate(len(each.text) for each in said))

    @property
    def count(self) -> int:
        widthless = self._run(lambda each: progress_words.is_widthless(each.text))
        foreign = self._run(lambda each: self._is_foreign(each))
        own = foreign if self._is_foreign_progress(foreign) else self._own_progress()
        return self._extended(max(own, widthless))

    def _run(self, holds: Callable[[Said], bool]) -> int:
        """For how many events at the beginning this holds."""
        return next((at for at in range(self.most) if not holds(self.said[at])), self.most)

    # by another sender

    def _is_foreign(self, each: Said) -> bool:
        return bool(self.whole.ident) and each.ident != self.whole.ident

    def _is_foreign_progress(self, count: int) -> bool:
        """Whether these events, which another program has made, are progress."""
        if not count or len({each.ident for each in self.said[:count]}) > 1:
            return False  # a new id for each chunk is a fault of another kind
        if progress_words.begin(self._text_of(count)) or self._is_filling(count):
            return True
        if self._are_all_counted:
            return False
        if not self.said[0].ident:
            return self._has_silence(count) or self._is_uncounted(count)
        # A gateway that goes on with another server has tokens of both, and those come in a row.
        is_known = self._gaps_after(count) >= LEAST_GAPS
        return is_known and all(self._is_silent(at, count) for at in range(count))

    # with the model's own id

    def _own_progress(self) -> int:
        if over := self._uncounted:
            has_words = progress_words.begin(self._text_of(over))
            is_slow = self._is_silent(over - 1, over)
            is_long = is_slow and self.gaps[over - 1] >= LONG_NS
            if has_words or is_long or (self._is_filling(over) and self._has_silence(over)):
                return over
        for count in range(1, self.most + 1):
            if self.ends[count - 1] > MOST_TEXT:
                break
            is_silent = self.gaps[count - 1] >= SILENCE_NS and self._is_silent(count - 1, count)
            if is_silent and self._is_own_progress(count):
                # where no chunk has an id and none is the last, no model has begun to answer
                is_all = not (self.whole.ident or self.whole.is_finished)
                return self.most if is_all else count
        return 0

    def _is_own_progress(self, count: int) -> bool:
        """Whether these events, which are followed by a silence, are progress."""
        if progress_words.begin(self._text_of(count)):
            return True
        if not self._is_filling(count) or self._are_all_counted:
            return False
        if count > 1:  # the same again and again, each time before a silence
            is_same = len({each.text for each in self.said[:count]}) == 1
            return is_same and all(self._is_silent(at, count) for at in range(count))
        is_uncounted = self.whole.tokens is None and self.gaps[0] >= LONG_NS
        return is_uncounted and progress_words.are_dots(self.said[0].text)

    # signs

    def _text_of(self, count: int) -> str:
        return self._text[: self.ends[count - 1]] if count else ""

    @cached_property
    def _text(self) -> str:
        return "".join(each.text for each in self.said)

    @cached_property
    def _filling(self) -> int:
        """How many events at the beginning have nothing but dots, lines and spaces."""
        return self._run(lambda each: progress_words.is_filling(each.text))

    def _is_filling(self, count: int) -> bool:
        return 0 < count <= self._filling

    @property
    def _uncounted(self) -> int:
        """How many events more there are than tokens, by the server's count; 0: not known."""
        tokens = self.whole.tokens
        over = 0 if tokens is None else int(self.whole.outputs - tokens)
        return over if 0 < over <= self.most else 0

    def _is_uncounted(self, count: int) -> bool:
        """Whether the server's count has no place for these events, but for all others."""
        return 0 < self._uncounted <= count

    @property
    def _are_all_counted(self) -> bool:
        return self.whole.tokens is not None and self.whole.tokens >= self.whole.outputs

    def _is_silent(self, at: int, count: int) -> bool:
        """Whether a long silence follows on this event, by the pace of those after the first
        `count`."""
        rest = self.gaps[count:-1]
        usual = _median(rest) if rest else 0.0
        return self.gaps[at] >= max(SILENCE_NS, FACTOR * usual)

    def _has_silence(self, count: int) -> bool:
        return any(self._is_silent(at, count) for at in range(count))

    def _gaps_after(self, count: int) -> int:
        return len(self.gaps[count:-1])

    # what else belongs to it

    def _extended(self, count: int) -> int:
        """With the events after it that are more of the same."""
        known = {each.text for each in self.said[:count]}
        while 0 < count < self.most and self._is_more(count, known):
            count += 1
        return count

    def _is_more(self, at: int, known: set[str]) -> bool:
        """Whether this event goes on with the progress before it: with dots or words for it, with
        the word that it is over, or alone between two silences."""
        text, ident = self.said[at].text, self.said[at].ident
        if ident == self.whole.ident != self.said[at - 1].ident:
            return False  # the first of the model's own
        # a word alone may be the first token of an answer
        is_sentence = len(text.split()) > 1 or text.rstrip().endswith((".", "…", "!", "%"))
        if (is_sentence and progress_words.begin(text)) or progress_words.is_closing(text):
            return True
        if text.strip() and text in known:
            return True
        if not self._is_silent(at - 1, at):
            return False
        is_alone = self._is_silent(at, at + 1) and self._gaps_after(at + 1) >= LEAST_GAPS
        return is_alone or progress_words.are_more_dots(text)


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
