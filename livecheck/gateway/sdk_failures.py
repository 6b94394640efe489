"""Which requests of the SDK's check failed, and which of those failures are in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from livecheck.gateway import characters
from livecheck.gateway.openai_client import SdkCall
from livecheck.wire.answer import Answer
from livecheck.wire.chunk_form import means_length
from livecheck.wire.error_words import error_in

REFUSALS = (400, 404, 405, 422, 501)  # how a server says clearly that it cannot do something
# The checks of what a deployment may offer, and may refuse to do.
MAY_BE_REFUSED = (
    *("embeddings", "stop", "n", "seed", "logprobs", "json_object", "json_schema", "tools"),
    *("unknown_model", "retrieve", "completions"),
)
MUST_BE_REFUSED = ("wrong_key", "bad_request", "unknown_model")  # checks with such a request

AtWire = Mapping[str, Sequence[Answer]]  # the answers that did not go through the SDK, by check


def is_refusal(call: SdkCall) -> bool:
    return call.error is not None and call.answer.status in REFUSALS


def changed_its_mind(call: SdkCall) -> bool:
    """Whether a refused request was not refused when it was sent once more."""
    again = call.again
    return again is not None and not again.answer.is_excluded and not is_refusal(again)


def failed_requests(calls: Sequence[SdkCall], at_wire: AtWire, first: Answer) -> list[str]:
    """The check and the outcome of each request that failed and should not have.

    `first`: the model list at the first contact.
    """
    failed = []
    if not (first.is_ok and error_in(first.json) is None):
        failed.append(f"the first GET {first.path}: {first.outcome()}")
    for call in calls:
        if call.error and not is_in_order(call):
            failed.append(f"{call.check}: {call.outcome}")
        elif call.was_empty:
            failed.append(f"{call.check}: 200, but without content")
        elif call.unfinished:
            failed.append(f"{call.check}: {call.unfinished}")
    for check, answers in at_wire.items():
        streams = (answer for answer in answers if answer.wants_stream and not answer.is_excluded)
        failed += [f"{check}: {s.completion.problem}" for s in streams if s.completion.problem]
    return failed


def has_failed(call: SdkCall) -> bool:
    """Whether `failed_requests` names it."""
    is_bad = call.error is not None and not is_in_order(call)
    return is_bad or call.was_empty or call.unfinished is not None


def is_in_order(call: SdkCall) -> bool:
    """Whether a failure says nothing about the deployment, or is what should come of this call."""
    is_4xx = 400 <= (call.answer.status or 0) < 500
    if call.answer.is_excluded or (call.check in MUST_BE_REFUSED and is_4xx):
        return True
    may_be_refused = call.check in MAY_BE_REFUSED or "response_format" in call.arguments
    return may_be_refused and is_refusal(call) and not changed_its_mind(call)


def damaged_answers(calls: Sequence[SdkCall], at_wire: AtWire) -> list[str]:
    """The check of each answer that has lost a character."""
    damaged = [call.check for call in calls if call.is_damaged]
    for check, answers in at_wire.items():
        for stream in (answer.stream for answer in answers if answer.wants_stream):
            if characters.is_damaged(stream.text, means_length(stream.finish_reason)):
                damaged.append(check)
    return damaged
