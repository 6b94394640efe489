"""What the SDK is asked for each check: prompts, schemas, tools and their limits in tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from livecheck.gateway import characters, same_text

PROMPT = "Write a short poem about the sea"
# OpenAI's own JSON mode demands the word JSON in the prompt; ours must not lead to JSON by chance
PROSE = "Write one sentence about the sea, in plain prose. JSON is not wanted."
WEATHER = "What is the weather in Paris? Use the tool."
NONSENSE_WORDS = ["quaxil", "plimfet"]  # names that no model writes by chance


def object_schema(**properties: Any) -> dict[str, Any]:
    """A JSON schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMA = object_schema(zorble={"type": "string", "enum": NONSENSE_WORDS}, frint={"type": "boolean"})
AS_JSON = {"type": "json_object"}
BY_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "zorbles", "strict": True, "schema": SCHEMA},
}
CITY = object_schema(city={"type": "string", "enum": ["Paris", "Rome"]})
GET_WEATHER = {"name": "get_weather", "description": "The weather in a city, now"}
TOOL = {"type": "function", "function": {**GET_WEATHER, "parameters": CITY}}
FLAT_TOOL = {"type": "function", **GET_WEATHER, "parameters": CITY}  # of the Responses API
SEEDS = (11, 11, 12)
TOP_LOGPROBS = 2
SHORT_TOKENS = 16  # for an answer that only has to be there; some servers take no fewer
STOP_TOKENS = 32  # for one with a word to stop at
DEFAULT_TOKENS = 64  # of --max-tokens; who raises it has a model that thinks before it answers
# at least; with a reasoning model --max-tokens gives more
JSON_TOKENS = 160  # a small model is not brief
TOOL_TOKENS = 64
LINE_TOKENS = 64  # a line with JSON around it, whose rare characters have several tokens each


@dataclass(frozen=True)
class Question:
    """A method of the SDK and its arguments; the model is added where it is missing."""

    method: str
    arguments: dict[str, Any]
    asynchronous: bool = False


def to_chat(prompt: str, max_tokens: int, asynchronous: bool = False, **more: Any) -> Question:
    messages = [{"role": "user", "content": prompt}]
    arguments = {"messages": messages, "max_tokens": max_tokens, **more}
    return Question("chat.completions.create", arguments, asynchronous)


def to_responses(prompt: str, max_tokens: int, stream: bool, **more: Any) -> Question:
    arguments = {"input": prompt, "max_output_tokens": max_tokens, "temperature": 0, **more}
    return Question("responses.create", {**arguments, "stream": stream})


def questions(max_tokens: int) -> dict[str, list[Question]]:
    """What the SDK is asked for each check; `max_tokens` is the option."""
    return contract_questions(max_tokens) | capability_questions(max_tokens)


def contract_questions(max_tokens: int) -> dict[str, list[Question]]:
    """Those for what every deployment has to do."""
    line_tokens = max(LINE_TOKENS, max_tokens)
    schemas: list[dict[str, Any]] = [{"response_format": characters.schema_of_sample()}, {}]
    with_usage = {"include_usage": True}
    return {
        "completion": [to_chat(PROMPT, max_tokens)],
        "stream": [to_chat(PROMPT, max_tokens, stream=True)],
        "usage": [to_chat(PROMPT, SHORT_TOKENS, stream=True, stream_options=with_usage)],
        # whole and as a stream; a server that refuses the schema is asked without it
        "unicode": [
            to_chat(characters.PROMPT, line_tokens, temperature=0, stream=stream, **schema)
            for schema in schemas
            for stream in (False, True)
        ],
        # not in turn: two different backends may serve every second request
        "same_text": [
            to_chat(same_text.PROMPT, line_tokens, temperature=0, stream=stream)
            for stream in (False, True, True, False)
        ],
        "models": [Question("models.list", {})],
        "wrong_key": [to_chat(PROMPT, SHORT_TOKENS)],
        "bad_request": [to_chat(PROMPT, SHORT_TOKENS, messages="not a list")],
    }


def capability_questions(max_tokens: int) -> dict[str, list[Question]]:
    """Those for what a deployment may be able to do.

    Short answers are enough for most of them, unless a model needs room to think.
    """
    room = max_tokens if max_tokens > DEFAULT_TOKENS else 0
    short, to_stop, legacy = max(SHORT_TOKENS, room), max(STOP_TOKENS, room), max(8, room)
    json_tokens, tool_tokens = max(JSON_TOKENS, max_tokens), max(TOOL_TOKENS, max_tokens)
    as_flat: dict[str, Any] = {"tools": [FLAT_TOOL], "tool_choice": "required"}
    logprobs: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    unknown_model = f"no-such-model-{secrets.token_hex(4)}"
    text, prompt = {"input": "test embedding input"}, {"prompt": "The sea is"}
    return {
        "embeddings": [  # the SDK asks for base64 by itself
            Question("embeddings.create", text),
            Question("embeddings.create", {**text, "encoding_format": "float"}),
        ],
        "stop": [to_chat(PROMPT, to_stop, temperature=0)],
        "n": [to_chat(PROMPT, short, n=2)],
        "seed": [to_chat(PROMPT, short, temperature=1, seed=seed) for seed in SEEDS],
        "logprobs": [to_chat(PROMPT, short, temperature=0, **logprobs)],
        "json_object": [to_chat(PROSE, json_tokens, temperature=0, response_format=AS_JSON)],
        "json_schema": [to_chat(PROSE, json_tokens, temperature=0, response_format=BY_SCHEMA)],
        "tools": tool_questions(tool_tokens),
        "unknown_model": [to_chat(PROMPT, SHORT_TOKENS, model=unknown_model)],
        "retrieve": [Question("models.retrieve", {})],
        "completions": [Question("completions.create", {**prompt, "max_tokens": legacy})],
        "async": [
            to_chat(PROMPT, max_tokens, asynchronous=True),
            to_chat(PROMPT, max_tokens, asynchronous=True, stream=True),
        ],
        "responses": [
            *(to_responses(same_text.PROMPT, short, stream) for stream in (False, True)),
            *(to_responses(WEATHER, tool_tokens, stream, **as_flat) for stream in (False, True)),
        ],
        "parameters": [to_chat(PROMPT, SHORT_TOKENS, temperature=0)],
    }


def tool_questions(max_tokens: int) -> list[Question]:
    """With a tool, both ways; then without it, which tells how long the prompt is."""
    tools: dict[str, Any] = {"temperature": 0, "tools": [TOOL], "tool_choice": "required"}
    return [
        to_chat(WEATHER, max_tokens, **tools),
        to_chat(WEATHER, max_tokens, stream=True, **tools),
        to_chat(WEATHER, SHORT_TOKENS, temperature=0),
    ]


def fits_schema(value: Any) -> bool:
    """Whether a value keeps SCHEMA."""
    if not isinstance(value, dict) or set(value) != {"zorble", "frint"}:
        return False
    return value["zorble"] in NONSENSE_WORDS and isinstance(value["frint"], bool)
