"""Which requests of the SDK's check failed, and which of those failures are in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from livecheck.gateway import characters
from livecheck.gateway.openai_client import SdkCall
from livecheck.wire.answer import Answer
from livecheck.wire.chunk_form import means_length
from livecheck.wire.error_words import error_in

REFUSALS = (400, 404, 405, 422, 501)  # how a server says clearly that it cannot do something
# The checks of what a deployment may offer, and may refuse to do.
MAY_BE_REFUSED = (
    *("embeddings", "stop", "n", "seed", "logprobs", "json_object", "json_schema", "tools"),
    *("unknown_model", "retrieve", "completions", "responses"),
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
    failed += [f"{call.check}: {why}" for call in calls if (why := why_failed(call))]
    for check, stream in streams_of(at_wire):
        if why := why_stream_failed(stream):
            failed.append(f"{check}: {why}")
    return failed


def why_failed(call: SdkCall) -> str | None:
    """What went wrong with a call that should have been served."""
    if call.error and not is_in_order(call):
        return call.outcome
    return "200, but without content" if call.was_empty else call.unfinished


def why_stream_failed(stream: Answer) -> str | None:
    return None if stream.is_excluded else stream.completion.problem


def streams_of(at_wire: AtWire) -> Iterator[tuple[str, Answer]]:
    """The streams that did not go through the SDK, each with its check."""
    for check, answers in at_wire.items():
        yield from ((check, answer) for answer in answers if answer.wants_stream)


def behind_failures(calls: Sequence[SdkCall], at_wire: AtWire) -> list[Answer]:
    """The answers that failed, and those that have lost a character."""
    found = [call.answer for call in calls if why_failed(call) or call.is_damaged]
    streams = [stream for _, stream in streams_of(at_wire)]
    return found + [each for each in streams if why_stream_failed(each) or is_damaged(each)]


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
    return damaged + [check for check, stream in streams_of(at_wire) if is_damaged(stream)]


def is_damaged(answer: Answer) -> bool:
    stream = answer.stream
    return characters.is_damaged(stream.text, means_length(stream.finish_reason))
