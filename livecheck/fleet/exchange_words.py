"""Exchanges in the line of a check: which ones, and how many of which kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from livecheck.core.text import shorten
from livecheck.fleet.credential_questions import Exchange

MAX_NAMED = 4  # variants in a line
NAME_LENGTH = 60  # characters of a name in a line


def named(exchanges: Sequence[Exchange]) -> str:
    """Some of them in a line; those with the same answer and rule together."""
    groups: dict[str, list[str]] = {}
    for each in exchanges[:MAX_NAMED]:
        rule = each.question.rule
        why = f"{each.said}; {rule}" if rule else each.said
        groups.setdefault(why, []).append(shorten(each.name, NAME_LENGTH))
    texts = [f"{', '.join(names)} ({why})" for why, names in groups.items()]
    more = f"; and {len(exchanges) - MAX_NAMED} more" if len(exchanges) > MAX_NAMED else ""
    return "; ".join(texts) + more


def counted(exchanges: Sequence[Exchange]) -> str:
    counts = Counter(str(each.status) if each.error is None else "closed" for each in exchanges)
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common())


def variants(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    return {"variants": [variant(each) for each in exchanges]}


def variant(asked: Exchange) -> dict[str, Any]:
    rule = asked.question.rule
    return {"name": asked.name, "status": asked.status, "error": asked.error, "basis": rule}
