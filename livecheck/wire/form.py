"""The verdict on the form of completions: one rule for every command that asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from livecheck.core.checks import Check, failed, passed, skip, warned
from livecheck.core.later import later
from livecheck.core.text import counted, plural
from livecheck.wire.answer import Answer
from livecheck.wire.chat import COMPLETIONS

with later():
    from livecheck.wire import sse

NAME = "form"


def check_form(answers: Iterable[Answer]) -> Check:
    """Do the completions among these answers have the form that OpenAI's API promises?

    One that failed is judged elsewhere.
    """
    asked = [each for each in answers if each.path == COMPLETIONS]
    good = [each for each in asked if each.completion.problem is None]
    if not good:
        return skip(NAME, "there is no completion to look at")
    found = [complaint for each in good for complaint in each.form]
    evidence = {"completions": len(good), "complaints": len(found)}
    words = f"{plural(len(good), 'completion')} in the form of OpenAI's API"
    check = judge(NAME, [f"{each.kind}: {each.text}" for each in found], words, evidence)
    odd = [each for each in good if each.form]
    odd.sort(key=is_only_odd)
    return check.shown_by(odd)


def is_only_odd(answer: Answer) -> bool:
    """Whether it has oddities, and no breach."""
    return all(each.kind in sse.ODDITIES for each in answer.form)


def judge(name: str, found: Sequence[str], good: str, evidence: dict[str, Any]) -> Check:
    """The verdict on findings, each as `kind: words`; PASS with the words of `good`.

    FAIL: a breach of the protocol, so that some client fails or loses text. WARN: only oddities.
    """
    breaches = [text for text in found if text.partition(":")[0] not in sse.ODDITIES]
    if breaches:
        return failed(name, counted(breaches), evidence)
    return warned(name, counted(found), evidence) if found else passed(name, good, evidence)
