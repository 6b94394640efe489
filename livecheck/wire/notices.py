"""What an operator should know of several answers besides whether they succeeded. Pure.

All commands say it in the same words: output that only told of progress, and tokens that all went
into thoughts.
"""

from __future__ import annotations

from collections.abc import Sequence

from livecheck.wire import progress
from livecheck.wire.answer import Answer
from livecheck.wire.thoughts import OPTION


def of_progress(answers: Sequence[Answer]) -> str | None:
    """The line about output that only told of progress; None when there was none."""
    found = [answer for answer in answers if answer.stream.progress]
    if not found:
        return None
    stream = found[0].stream
    text = progress.words(stream.progress, stream.progress_text, bool(stream.output_ns))
    return text if len(answers) == 1 else f"in {len(found)} of {len(answers)} answers, {text}"


def of_thoughts(answers: Sequence[Answer], option: str | None = OPTION) -> str | None:
    """The line about answers that are nothing but thoughts; None when there are none. `option`: of
    the command, to raise."""
    found = [spent for answer in answers if (spent := answer.spent)]
    if not found:
        return None
    text = min(found, key=lambda spent: spent.is_certain).words(option)
    return text if len(answers) == 1 else f"in {len(found)} of {len(answers)} answers, {text}"


def beside(answers: Sequence[Answer], option: str | None = OPTION) -> str:
    """Both lines, to be added to a verdict; empty when there is nothing to say."""
    found = of_progress(answers), of_thoughts(answers, option)
    return "".join(f"; {text}" for text in found if text)


def silent(answers: Sequence[Answer]) -> list[Answer]:
    """Those that show no token, because all of them went into thoughts."""
    return [answer for answer in answers if answer.spent and not answer.spent.is_shown]


def unexplained(answers: Sequence[Answer]) -> list[Answer]:
    """Those of them of which nothing says that there were tokens at all."""
    return [each for each in silent(answers) if each.spent and each.spent.tokens is None]
