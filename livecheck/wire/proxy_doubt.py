"""Whether a proxy or the deployment behind it has answered."""

from __future__ import annotations

from collections.abc import Sequence

from livecheck.core.credentials import CannotCheck
from livecheck.wire.answer import Answer
from livecheck.wire.connection import Target


def doubt_of_proxy(target: Target, answers: Sequence[Answer]) -> str | None:
    """The line for answers that may all be those of the proxy itself; None: the deployment has
    answered, or there is no proxy that gets the requests.

    A proxy that gets the requests can answer in the place of the deployment: with an error of its
    own, with garbage, or not at all. Where no answer is better than that, nothing can be said about
    the deployment.
    """
    proxy = target.proxy
    if proxy is None or not proxy.forwards or not answers:
        return None
    if not all(answer.failure or answer.has_form_of_proxy for answer in answers):
        return None
    seen = answers[0].outcome()
    return (
        f"cannot tell {proxy.name}, the proxy, from {target.url} behind it ({seen}): {proxy.advice}"
    )


def confirm_passage(answers: Sequence[Answer]) -> None:
    """CannotCheck when a proxy did not let one of these requests through."""
    for answer in answers:
        if answer.is_barred and answer.failure and answer.reply.proxy:
            raise CannotCheck(f"{answer.failure.text}; {answer.reply.proxy.advice}")
