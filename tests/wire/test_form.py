"""The verdict on the form of completions, whole and streamed."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.answers import answer, event, streamed

from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.form import check_form

STREAM = chat.completion("m", "Hi", 8)
WHOLE = chat.completion("m", "Hi", 8, stream=False)
JSON = {"content-type": "application/json"}


def whole(finish: Any = "stop", **changes: Any) -> Answer:
    message = {"role": "assistant", "content": "Hello", **changes}
    one = {"index": 0, "message": message, "finish_reason": finish}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [one]}
    return answer(200, JSON, body, request=WHOLE)


def said(*answers: Answer) -> tuple[str, str]:
    check = check_form(answers)
    return check.status.value, check.detail


def test_sound_answers_pass() -> None:
    assert said(streamed(5, request=STREAM), whole()) == (
        "PASS",
        "2 completions in the form of OpenAI's API",
    )


def test_a_breach_fails_and_an_oddity_warns() -> None:
    assert said(whole("eos"))[0] == "WARN"
    assert said(whole("eos"), whole(content=["a"]))[0] == "FAIL"
    texts = ("The", "The sea", "The sea keeps", "The sea keeps its")
    status, words = said(streamed(5, request=STREAM, texts=texts))
    assert status == "FAIL"
    assert words == "said_twice: content: each of 4 pieces repeats the text before it (x1)"


@pytest.mark.parametrize(
    "failed",
    [
        whole("error"),
        whole(None),
        whole(""),
        streamed(None, request=STREAM),
        answer(200, {}, {"object": "list", "data": []}, request=chat.get(chat.MODELS)),
    ],
)
def test_what_failed_is_judged_elsewhere(failed: Answer) -> None:
    assert said(failed) == ("SKIP", "there is no completion to look at")


def test_events_that_are_called_json_are_a_stream_all_the_same() -> None:
    pieces = [(1.0, event({"content": "Hi"})), (2.0, event({}, "stop") + b"data: [DONE]\n\n")]
    found = answer(200, JSON, request=STREAM, pieces=pieces)
    assert found.is_stream and found.completion.problem is None
    assert said(found) == ("FAIL", "content_type: Content-Type is application/json (x1)")


def test_a_whole_answer_in_place_of_a_stream_has_the_form_of_a_whole_one() -> None:
    found = whole()
    found.reply.request = STREAM
    assert not found.is_stream
    assert said(found)[0] == "PASS"
