"""The model that is asked where --model says none: one that can chat, and no silent guess."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from helpers.answers import answer

from livecheck.core.credentials import CannotCheck
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.model_choice import (
    CHOICE,
    can_chat,
    confirm_choice,
    entries_of,
    first_for_chat,
    model_to_ask,
)

JSON = {"content-type": "application/json"}


def listing(*names: str, status: int = 200, **hints: Any) -> Answer:
    """A list whose first model has these hints."""
    entries: list[dict[str, Any]] = [{"id": name, "object": "model"} for name in names]
    if entries:
        entries[0] |= hints
    return answer(status, JSON, {"object": "list", "data": entries}, request=chat.get(chat.MODELS))


class FakeRun(SimpleNamespace):
    def __init__(self, model: str | None = None):
        super().__init__(args=SimpleNamespace(model=model), notes={}, said=[])

    def note(self, text: str) -> None:
        self.said.append(text)


def asked(model: str, status: int, body: object) -> Answer:
    return answer(status, JSON, body, request=chat.completion(model, "Hello", 8))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
        ([{"id": "a"}, "b"], ["a", "b"]),  # Together's form
        ({"models": [{"name": "a"}, {"model": "b"}]}, ["a", "b"]),  # Ollama's
        ({"data": [{"id": 7}, {"id": ""}, None, {"id": "b"}]}, ["b"]),
        ({"data": "a"}, []),
        ("a", []),
        (None, []),
    ],
)
def test_a_list_may_have_several_forms(content: object, names: list[str]) -> None:
    assert [each["id"] for each in entries_of(answer(200, JSON, content))] == names


@pytest.mark.parametrize(
    ("entry", "chats"),
    [
        ({"id": "llama-3.1-8b"}, True),
        ({"id": "e5-mistral-7b"}, False),
        ({"id": "bge-m3:latest"}, False),
        ({"id": "nomic-embed-text"}, False),
        ({"id": "openai/whisper-large-v3"}, False),
        ({"id": "jina-reranker-v2"}, False),
        ({"id": "sentence-transformers/all-MiniLM-L6-v2"}, False),
        ({"id": "tts-1-hd"}, False),
        ({"id": "qwen2.5-omni-7b", "task": "generate"}, True),
        ({"id": "vectors", "capabilities": ["embedding"]}, False),
        ({"id": "vectors", "capabilities": {"embedding": True, "completion_chat": False}}, False),
        ({"id": "mistral", "capabilities": {"completion_chat": True, "audio": True}}, True),
        ({"id": "x", "type": "llm"}, True),
        ({"id": "x", "type": "embeddings"}, False),
        ({"id": "x", "mode": "audio_transcription"}, False),
        ({"id": "x", "pipeline_tag": "feature-extraction"}, False),
        ({"id": "x", "architecture": {"modality": "text+image->text"}}, True),
        ({"id": "gte-chat", "capabilities": ["completion"]}, True),
        ({"id": "vendor/phi-4"}, True),
        ({"id": "starcoder-base5"}, True),
    ],
)
def test_which_models_may_chat(entry: dict[str, Any], chats: bool) -> None:
    assert can_chat(entry) is chats


def test_the_first_that_may_chat_is_asked_and_that_is_said() -> None:
    run: Any = FakeRun()
    assert model_to_ask(run, listing("bge-m3", "llama", "qwen")) == "llama"
    assert run.said == [
        "asking for llama, the first that may chat of 3 listed models (--model chooses another)"
    ]


def test_the_first_is_asked_where_none_may_chat() -> None:
    assert first_for_chat(listing("bge-m3", "bge-large")) == "bge-m3"
    assert first_for_chat(listing()) is None


@pytest.mark.parametrize("names", [("a",), ("bge-m3",)])
def test_where_there_is_no_choice_nothing_is_said(names: tuple[str, ...]) -> None:
    run: Any = FakeRun()
    assert model_to_ask(run, listing(*names)) == names[0]
    assert run.said == []


def test_a_model_that_was_given_is_asked() -> None:
    run: Any = FakeRun("mine")
    assert (model_to_ask(run, listing("a", "b")), run.said) == ("mine", [])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (listing(), "lists no models"),
        (listing(status=404), "lists no models (404"),
        (answer(200, {}, b"<!doctype html><h1>Chat</h1>"), "is a web page"),
        (answer(200, {"content-encoding": "br"}, b"\x0b\x02\x80\x00"), "cannot decode br"),
        (answer(200, JSON, {"a": 1}), "is not a list of models"),
    ],
)
def test_a_guess_is_not_made_silently(found: Answer, words: str) -> None:
    run: Any = FakeRun()
    assert model_to_ask(run, found) == "local-model"
    assert words in run.said[0] and "asking for local-model" in run.said[0]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"error": {"message": '"a" does not support chat'}}),  # Ollama
        (400, {"object": "error", "message": "The model does not support Chat Completions API"}),
        (404, {"error": {"message": "This is not a chat model and thus not supported"}}),  # OpenAI
        (501, {"error": {"message": "This server does not support chat completions"}}),
        (400, {"error": "Model type 'embedding' is not llm"}),
        (422, {"detail": "only embedding requests are served"}),
        (500, {"error": {"message": "no chat template is defined for this tokenizer"}}),
        (200, {"error": {"message": "a is not a chat model"}}),
    ],
)
def test_a_choice_that_cannot_chat_is_not_the_fault_of_the_deployment(
    status: int, said: object
) -> None:
    run: Any = FakeRun()
    model_to_ask(run, listing("a", "b", "c"))
    with pytest.raises(CannotCheck, match="the first of 3 listed models was asked, a, and it"):
        confirm_choice(run, [asked("a", status, said)])


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [
        ("a", 500, {"error": {"message": "out of memory"}}),  # for another reason
        (
            "b",
            400,
            {"error": {"message": "b does not support chat"}},
        ),  # not the one that was chosen
        ("a", 429, {"error": {"message": "embedding quota"}}),
    ],
)
def test_another_failure_is_judged_as_ever(model: str, status: int, said: object) -> None:
    run: Any = FakeRun()
    model_to_ask(run, listing("a", "b"))
    confirm_choice(run, [asked(model, status, said)])


def test_a_model_that_has_chatted_can_chat() -> None:
    run: Any = FakeRun()
    model_to_ask(run, listing("a", "b"))
    confirm_choice(run, [asked("a", 200, {"choices": [{"message": {"content": "hi"}}]})])
    assert run.notes[CHOICE].has_chatted
    confirm_choice(run, [asked("a", 400, {"error": "does not support chat"})])


def test_the_only_model_is_the_deployments_own_choice() -> None:
    run: Any = FakeRun()
    model_to_ask(run, listing("bge-m3"))
    confirm_choice(run, [asked("bge-m3", 400, {"error": "does not support chat"})])


def test_a_guess_that_is_refused_decides_nothing_where_there_is_no_list() -> None:
    run: Any = FakeRun()
    model_to_ask(run, listing(status=404))
    with pytest.raises(CannotCheck, match="local-model is refused .404 no such model.: give"):
        confirm_choice(run, [asked("local-model", 404, {"error": "no such model"})])
