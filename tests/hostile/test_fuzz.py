"""Any JSON, in the place of what a server should say, is read without an exception and in time.

Hypothesis makes the documents: sound ones in which values are replaced, moved and deleted, and
documents of any other form. HOSTILE_EXAMPLES is how many examples each test tries (`make hostile`
sets more than the suite takes time for).
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from helpers.answers import answer
from helpers.sound_answers import Gateway, completion, embedding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile.answer_mechanisms import entry, runner
from hostile.commands import PUBLIC_KEY
from livecheck.core import json_value
from livecheck.core.text import shorten
from livecheck.fleet import api, jwt, public_keys, roles
from livecheck.gateway import answer_parts, queue_state, sdk_output, tool_calls, worker_count
from livecheck.wire import chat, error_words, model_choice
from livecheck.wire.answer import Answer

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))
LONGEST_S = 2.0  # of one example on a busy machine; most take a millisecond
STREAM = {"content-type": "text/event-stream"}
AS_JSON = {"content-type": "application/json"}
QUESTION = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- documents

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "\x1b[31m", "\u202e", "\ud800", "stop", "length", "m", "NaN", "1e999", "9" * 4300]
)
NUMBERS = (
    st.integers(-(10**25), 10**25)
    | st.floats()
    | st.sampled_from([0, -1, 10**4299, 1e308, 2**63, -0.0])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [path, *(each for key, item in items for each in places_in(item, (*path, key)))]


@st.composite
def spoiled(draw: st.DrawFn, sound: Any) -> Any:
    """A sound document in which up to three values are replaced, deleted or doubled."""
    document = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places_in(document)))
        if not path:
            continue
        container = document
        for key in path[:-1]:
            container = container[key]
        how = draw(st.sampled_from(["replace", "replace", "delete", "double", "nest"]))
        if how == "replace":
            container[path[-1]] = draw(VALUES)
        elif how == "delete":
            del container[path[-1]]
        elif how == "nest":
            container[path[-1]] = [container[path[-1]]]
        elif isinstance(container, list):
            container.append(container[path[-1]])
    return document


def dumped(document: Any) -> bytes:
    """As JSON. Servers also send what is none: NaN and lone surrogates."""
    return json.dumps(document).encode()


def bodies(sound: Any) -> st.SearchStrategy[bytes]:
    """Bodies that look like this one, of any other form, or no JSON at all."""
    return (
        spoiled(sound).map(dumped)
        | spoiled(sound).map(dumped)
        | VALUES.map(dumped)
        | st.binary(max_size=60)
        | st.tuples(spoiled(sound).map(dumped), st.integers(0, 300)).map(lambda p: p[0][: p[1]])
    )


def in_time(read: Callable[[], object]) -> None:
    started_s = time.perf_counter()
    read()
    assert time.perf_counter() - started_s < LONGEST_S


# --- what is sound

GATEWAY = Gateway("k")
HEALTH: Any = GATEWAY._health()
WHOLE: Any = json.loads(completion(QUESTION, "m", "f", 0, 0).body)
CHUNKS: Any = [
    json.loads(part[6:])
    for each in completion(
        {**QUESTION, "stream": True, "stream_options": {"include_usage": True}}, "m", "f", 0, 0
    ).events
    for part in each.split(b"\n\n")
    if part.startswith(b"data: {")
]
CHUNKS[1]["choices"][0]["delta"]["tool_calls"] = [
    {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
]
CHUNKS[1]["timings"] = {"predicted_n": 4, "predicted_ms": 3.0, "prompt_ms": 1.0, "cache_n": 0}
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "us"}] * 2}
RUNNERS = {"runners": [runner(0), runner(1)], "total": 2}
LOG = {"requests": [entry(0), entry(1)], "total": 2, "page": 1, "per_page": 50}
FIELDS = {"message": "no", "type": "t", "code": "c", "param": None}
ERRORS = {"error": FIELDS, "detail": [{"msg": "no", "loc": ["a"], "type": "t"}], "message": "no"}
CLAIMS = {"iss": "i", "sub": "s", "exp": 1, "roles": ["admin"], "realm_access": {"roles": ["a"]}}
WORKERS = {"workers": {"idle": 0, "running": 1, "initializing": 0}, "summary": {"total": 1}}


def answered(body: bytes, status: int = 200, headers: Mapping[str, str] = AS_JSON) -> Answer:
    return answer(status, headers, body, request=chat.completion("m", "hi", 4))


def look_at(found: Answer) -> None:
    """Everything that any script asks of an answer."""
    completion = found.completion
    _ = (completion.problem, completion.model, found.words, found.outcome(timed=True))
    _ = (found.is_ok, found.is_rate_limited, found.is_denied, found.is_web_page, found.json)
    _ = (found.first_output_ms, found.answer_ms, found.retry_after_s, found.spent_ms)
    record = found.record(0)
    json.dumps(record, default=str)
    model_choice.first_for_chat(found)
    model_choice.why_none(found)


# --- the tests


@fuzz
@given(body=bodies(WHOLE), status=st.sampled_from([200, 200, 400, 404, 429, 500, 503]))
def test_a_completion(body: bytes, status: int) -> None:
    in_time(lambda: look_at(answered(body, status)))


@fuzz
@given(body=bodies(ERRORS), status=st.sampled_from([200, 400, 401, 403, 429, 500]))
def test_an_error(body: bytes, status: int) -> None:
    in_time(lambda: look_at(answered(body, status)))
    in_time(lambda: error_words.words_of_text(body.decode("utf-8", "replace")))


@st.composite
def streamed(draw: st.DrawFn) -> bytes:
    """Events, most of them of JSON, with lines as servers separate them."""
    lines = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    parts = draw(st.lists(spoiled(CHUNKS).map(dumped_events) | bodies(CHUNKS[1]), max_size=4))
    field = draw(st.sampled_from([b"data: ", b"data:", b"", b"event: x", b"id: \0", b": "]))
    end = draw(st.sampled_from([b"data: [DONE]", b"", b"data: ", b"\xff"]))
    return (lines * 2).join([*(field + part for part in parts), end, b""])


def dumped_events(chunks: Any) -> bytes:
    found = chunks if isinstance(chunks, list) else [chunks]
    return b"\n\ndata: ".join(map(dumped, found))


@fuzz
@given(body=streamed())
def test_a_stream(body: bytes) -> None:
    in_time(lambda: look_at(answered(body, headers=STREAM)))


@fuzz
@given(body=bodies(MODELS))
def test_a_list_of_models(body: bytes) -> None:
    found = answered(body)
    in_time(lambda: look_at(found))
    in_time(lambda: readable(api.listed_models, found))
    in_time(lambda: model_choice.entries_of(found))


def readable(read: Callable[[Answer], object], found: Answer) -> object:
    """What `read` says, which may be that the answer cannot be read."""
    try:
        return read(found)
    except api.Unreadable as error:
        return shorten(str(error))


@fuzz
@given(body=bodies(RUNNERS))
def test_the_runners(body: bytes) -> None:
    in_time(lambda: readable(api.read_runners, answered(body)))


@fuzz
@given(body=bodies(LOG))
def test_the_log(body: bytes) -> None:
    in_time(lambda: readable(api.read_log, answered(body)))


@fuzz
@given(body=bodies({"keys": [dict(PUBLIC_KEY), {**PUBLIC_KEY, "x5c": ["AA=="], "crv": "P-256"}]}))
def test_public_keys(body: bytes) -> None:
    def read() -> None:
        for jwk in public_keys.read_jwks(body):
            if public_keys.is_usable(jwk):
                public_keys.public_key(jwk)
                public_keys.key_forms(jwk)

    in_time(read)


@fuzz
@given(head=bodies({"alg": "RS256", "kid": "k", "typ": "JWT"}), body=bodies(CLAIMS))
def test_a_token(head: bytes, body: bytes) -> None:
    token = ".".join([jwt.to_base64url(head), jwt.to_base64url(body), "c2ln"])
    in_time(lambda: roles.roles_in(token))
    in_time(lambda: roles.in_words(roles.roles_in(token)))
    in_time(lambda: roles.lasting_claims(token))
    in_time(lambda: jwt.read_jwt(token))


@fuzz
@given(body=bodies(HEALTH), name=st.sampled_from(sorted(queue_state.REQUESTS)))
def test_health_and_metrics(body: bytes, name: str) -> None:
    in_time(lambda: queue_state.read_probe(name, answered(body)))


LINES = st.lists(
    st.sampled_from(
        [
            *("gateway_queue_depth 1", "gateway_queue_depth{", 'a{b="c",d="e\\', "a{} 1 2 3"),
            *("# TYPE gateway_queue_depth gauge", "# HELP", "gateway_requests_total NaN", "}", '"'),
        ]
    )
    | st.text(max_size=20),
    max_size=12,
)


@fuzz
@given(lines=LINES, times=st.integers(1, 2000))
def test_prometheus_text(lines: list[str], times: int) -> None:
    body = ("\n".join(lines) * times).encode("utf-8", "replace")[: 1 << 20]
    in_time(lambda: queue_state.read_probe("metrics_text", answered(body)))


@fuzz
@given(content=spoiled(WORKERS) | VALUES)
def test_workers(content: Any) -> None:
    def read(count: Callable[[Any], object]) -> None:
        try:
            count(content)
        except worker_count.Misread as error:
            shorten(str(error))

    in_time(lambda: read(worker_count.count_summary))
    in_time(lambda: read(worker_count.count_states))


class Part:
    """What the openai package makes of JSON: attributes, of any type when a server sends that."""

    def __init__(self, fields: Mapping[str, Any]):
        self.__dict__.update({key: as_part(value) for key, value in fields.items()})

    def __getattr__(self, name: str) -> None:
        return None


def as_part(value: Any) -> Any:
    if isinstance(value, dict):
        return Part(value)
    return [as_part(each) for each in value] if isinstance(value, list) else value


@fuzz
@given(chunks=spoiled(CHUNKS), whole=spoiled(WHOLE))
def test_what_the_sdk_has_read(chunks: Any, whole: Any) -> None:
    parts = [as_part(each) for each in chunks] if isinstance(chunks, list) else []
    found = [each for each in parts if answer_parts.is_chunk(each)]

    def read() -> None:
        sdk_output.progress_in(found, [1.0] * len(found))
        tool_calls.streamed_tool_calls(found)
        answer_parts.without_choices(found)
        answer_parts.usage_problems(as_part(whole).usage if isinstance(whole, dict) else None, 4)

    in_time(read)


@fuzz
@given(vector=spoiled(embedding({})["data"][0]["embedding"]) | VALUES)
def test_a_vector(vector: Any) -> None:
    in_time(lambda: answer_parts.vector_problem(vector))


@fuzz
@given(body=bodies(ERRORS), status=st.sampled_from([301, 401, 403, 404, 407, 511]))
def test_why_nobody_is_let_in(body: bytes, status: int) -> None:
    in_time(lambda: look_at(answered(body, status, {"location": "http://[::1", **AS_JSON})))


@fuzz
@given(value=VALUES)
def test_values_and_texts(value: Any) -> None:
    in_time(lambda: shorten(str(value)))
    in_time(lambda: json_value.number(value))
    in_time(lambda: json_value.pick(value, "a", "b"))
    in_time(lambda: json_value.decode(dumped(value)))


@fuzz
@given(data=st.binary(max_size=200) | VALUES.map(dumped))
def test_the_reader_of_foreign_json(data: bytes) -> None:
    try:
        json_value.decode(data)
    except ValueError as error:
        str(error)
