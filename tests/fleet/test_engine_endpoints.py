"""engine_endpoints.py: what the engines really answer is work or information; nothing else is."""

from __future__ import annotations

import json

import pytest
from helpers.answers import answer_to
from helpers.hostile import response

from livecheck.fleet import engine_endpoints
from livecheck.fleet.engine_endpoints import METRICS, NOTHING, Findings, findings, see
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Request

CHOICES = {"choices": [{"index": 0, "text": "-", "finish_reason": "length"}]}
OLLAMA = {"model": "m", "response": "yes", "done": False}


def answered(body: object, status: int = 200, kind: str = "application/json") -> Answer:
    return answer_to(Request("POST", "/x"), response(status, body, content_type=kind))


def found(**answers: Answer) -> Findings:
    """`completion=` is the answer of the endpoint whose name ends in "/completion (llama.cpp)"."""
    ends = {
        "completion": "POST /completion (llama.cpp)",
        "slots": "GET /slots",
        "metrics": f"GET {METRICS}",
        "nothing": NOTHING,
        "tokenize": "POST /tokenize",
    }
    return findings({ends[name]: see(ends[name], answer) for name, answer in answers.items()})


@pytest.mark.parametrize(
    "body",
    [
        CHOICES,
        {"choices": [{"token_ids": [5]}]},
        {"content": "-", "stop": True, "tokens_predicted": 1},
        {"generated_text": " yes"},
        [{"generated_text": " yes"}],
        {"text": " yes", "meta_info": {"id": "1"}},
        {"text": ["yes yes"]},
        {"results": [{"text": " yes"}]},
        {"model_name": "m", "text_output": "yes"},
        {"type": "message", "content": [{"type": "text", "text": "I"}]},
        {"object": "response", "output": [{"type": "message", "content": []}]},
        {"message": {"role": "assistant", "content": ""}, "done": True},
        OLLAMA,
        {"data": [{"embedding": [0.5], "index": 0}]},
        {"embeddings": [[0.1, 0.2]]},
        {"embedding": [0.1]},
        [{"index": 0, "embedding": [[0.1]]}],
        [[0.1, 0.2]],
        {"data": [{"index": 0, "score": 0.1}]},
        {"results": [{"index": 0, "relevance_score": 0.1}]},
        [{"index": 0, "score": 0.9}],
        {"data": [{"label": "a", "probs": [0.1, 0.9]}]},
    ],
)
def test_what_a_model_made_is_recognised(body: object) -> None:
    assert found(completion=answered(body)).working


def test_events_and_lines_are_read_one_by_one() -> None:
    event = b'data:{"index":1,"token":{"id":5,"text":" yes"},"generated_text":null}\n\n'
    assert found(completion=answered(event, kind="text/event-stream")).working
    lines = b"\n".join(json.dumps(each).encode() for each in (OLLAMA, OLLAMA))
    assert found(completion=answered(lines, kind="application/x-ndjson")).working


@pytest.mark.parametrize(
    "answer",
    [
        answered(CHOICES, 401),
        answered({"error": {"message": "no key"}, "content": "", "stop": True}),
        answered({"object": "list", "data": [{"id": "m", "object": "model"}]}),
        answered({"status": "ok", "version": "1"}),
        answered({"detail": "Not Found"}),
        answered({"response": "nothing here"}),
        answered({"choices": []}),
        answered([]),
        answered(b"<!doctype html><html>App</html>", kind="text/html"),
        answered(b"pong", kind="text/plain"),
        answered(b""),
    ],
)
def test_anything_else_is_not(answer: Answer) -> None:
    assert found(completion=answer, slots=answer, tokenize=answer) == Findings([], {}, False)


def test_what_any_path_answers_is_no_endpoints_answer() -> None:
    same = answered({"content": "nothing here", "stop": True})
    assert not found(nothing=same, completion=same).working
    assert found(nothing=answered(CHOICES), completion=answered(CHOICES)).working == [NOTHING]


def test_information_is_told_apart_from_figures() -> None:
    slots = answered([{"id": 0, "n_ctx": 4096, "is_processing": True}])
    assert found(slots=slots).telling == {"GET /slots": "the requests that run"}
    plain = b'# TYPE a gauge\nllama:requests 3\nvllm:x{model_name="m",le="0.1"} 1.0\n'
    assert found(metrics=answered(plain, kind="text/plain")) == Findings([], {}, True)
    for label in (b"end_user", b"hashed_api_key", b"user_email", b"team_alias"):
        private = b'spend_total{model="m",%b="ann"} 0.5\n' % label
        assert label.decode() in str(found(metrics=answered(private, kind="text/plain")).telling)
    unset = b'spend_total{end_user="None",user="default_user_id",team=""} 0.5\n'
    assert not found(metrics=answered(unset, kind="text/plain")).telling


def test_no_endpoint_that_is_asked_changes_a_state() -> None:
    asked = engine_endpoints.endpoints("a/b c")
    assert len({each.name for each in asked}) == len(asked)
    words = ("load", "sleep", "wake", "reset", "flush", "pull", "delete", "push", "copy", "abort")
    words += ("shutdown", "terminate", "update", "lora", "profile", "scale", "generate_key")
    for each in asked:
        assert each.request.method in ("GET", "POST")
        assert not any(word in each.request.path.split("/") for word in words)
        assert " " not in each.request.path
