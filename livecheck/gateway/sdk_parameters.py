"""Whether a model takes the parameters that nearly every application sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from livecheck.gateway.openai_client import SdkCall
from livecheck.wire.dialect import NEW, OLD, TEMPERATURE

INSTEAD = {OLD: f"takes {NEW}", TEMPERATURE: "is asked without it"}


def call_with_all(calls: Iterable[SdkCall]) -> SdkCall | None:
    """A call with all of them that was answered; None without one."""
    named = {OLD, TEMPERATURE}
    found = (each for each in calls if each.error is None and named <= set(each.arguments))
    return next(found, None)


def refused_words(refused: Mapping[str, str]) -> str:
    """What it means that these are refused; their values are what the server said."""
    told = "; ".join(f"{name} is refused ({said})" for name, said in refused.items())
    ways = ", ".join(INSTEAD[name] for name in refused)
    return f"{told}: an application that sends it fails; this model {ways}"
