"""The other endpoints of inference engines, and how to tell what came without a credential.

A gateway that guards `/v1` only leaves open what the engine behind it serves elsewhere; vLLM with
`--api-key` does so itself. WORKING lists the endpoints that make a model work, TELLING those that
tell something of the system or of other people's requests.

What could change a state is not in these tables (loading, sleeping, resetting, adapters, spending
limits), nor what would cost a lot (images, speech). `/v1/models`, `/health`, `/ping`, `/version`
and the like are meant to be open.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from livecheck.core.json_value import decode, pick_list
from livecheck.core.late_pattern import late_pattern
from livecheck.wire import sse
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Request

MESSAGES = [{"role": "user", "content": "Say yes."}]
CHAT = {"messages": MESSAGES, "max_tokens": 1, "stream": False}
PROMPT = {"prompt": "yes", "max_tokens": 1, "stream": False}
OLLAMA = {"stream": False, "options": {"num_predict": 1}}
TGI = {"inputs": "yes", "parameters": {"max_new_tokens": 1}}
SGLANG = {"text": "yes", "sampling_params": {"max_new_tokens": 1}, "stream": False}
LLAMA = {"prompt": "yes", "n_predict": 1, "max_tokens": 1, "stream": False}
TOKENS = {"token_ids": [1, 2], "sampling_params": {"max_tokens": 1}, "stream": False}
EMBEDDED = {"input": "yes", "content": "yes", "inputs": "yes", "prompt": "yes"}
PAIR = {"text_1": "yes", "text_2": "no", "query": "yes", "documents": ["no"], "texts": ["no"]}
GAP = {"input_prefix": "a = ", "input_suffix": "\n", "n_predict": 1, "stream": False}
TEXT = {"content": "yes", "prompt": "yes", "inputs": "yes"}
MODEL = "{model}"  # in a path: the model that is asked for

# (path, what is sent, whose it is). A server that has not got it answers 404 or 405.
WORKING: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("/chat/completions", CHAT, ""),
    ("/openai/v1/chat/completions", CHAT, ""),
    ("/api/v1/chat/completions", CHAT, ""),
    ("/api/v0/chat/completions", CHAT, "LM Studio"),
    ("/api/chat/completions", CHAT, "Open WebUI"),
    ("/v1beta/openai/chat/completions", CHAT, ""),
    (f"/engines/{MODEL}/chat/completions", CHAT, "LiteLLM"),
    (f"/openai/deployments/{MODEL}/chat/completions", CHAT, "LiteLLM"),
    ("/invocations", CHAT, "vLLM"),
    ("/inference/v1/generate", TOKENS, "vLLM"),
    ("/completions", LLAMA, ""),
    ("/completion", LLAMA, "llama.cpp"),
    ("/infill", GAP, "llama.cpp"),
    ("/generate", PROMPT, "vLLM"),
    ("/generate", TGI, "TGI"),
    ("/generate", SGLANG, "SGLang"),
    ("/generate_stream", TGI, "TGI"),
    ("/", TGI, "TGI"),
    ("/v1/messages", CHAT, "Anthropic's API"),
    ("/messages", CHAT, "Anthropic's API"),
    ("/v1/responses", {"input": "yes", "max_output_tokens": 16}, ""),
    ("/responses", {"input": "yes", "max_output_tokens": 16}, ""),
    ("/api/chat", {"messages": MESSAGES, **OLLAMA}, "Ollama"),
    ("/api/generate", {"prompt": "yes", **OLLAMA}, "Ollama"),
    ("/api/embed", {"input": "yes"}, "Ollama"),
    ("/api/embeddings", {"prompt": "yes"}, "Ollama"),
    ("/api/v1/generate", {"prompt": "yes", "max_length": 1}, "KoboldCpp"),
    (f"/v2/models/{MODEL}/generate", {"text_input": "yes", "max_tokens": 1}, "Triton"),
    ("/embedding", EMBEDDED, "llama.cpp"),
    ("/embeddings", EMBEDDED, ""),
    ("/embed", EMBEDDED, "TEI"),
    ("/encode", {"text": "yes"}, "SGLang"),
    ("/pooling", {"input": "yes"}, "vLLM"),
    ("/classify", {"input": "yes", "text": "yes"}, "vLLM"),
    ("/score", PAIR, "vLLM"),
    ("/v1/score", PAIR, "vLLM"),
    ("/rerank", PAIR, ""),
    ("/reranking", PAIR, "llama.cpp"),
    ("/v1/rerank", PAIR, ""),
    ("/v2/rerank", PAIR, "vLLM"),
)
# (method, path, what is sent, keys of which at least one is in the answer, what it tells)
TELLING: tuple[tuple[str, str, Mapping[str, Any] | None, tuple[str, ...], str], ...] = (
    ("GET", "/slots", None, ("n_ctx", "is_processing", "prompt"), "the requests that run"),
    (
        *("GET", "/props", None),
        ("default_generation_settings", "total_slots", "chat_template"),
        "the engine's settings",
    ),
    (
        *("GET", "/server_info", None),
        ("server_args", "vllm_config", "model_path", "tp_size", "internal_states"),
        "the engine's settings",
    ),
    (
        *("GET", "/get_server_info", None),
        ("server_args", "model_path", "tp_size", "internal_states"),
        "the engine's settings",
    ),
    ("GET", "/get_model_info", None, ("model_path", "tokenizer_path"), "the engine's settings"),
    ("GET", "/info", None, ("model_id", "max_concurrent_requests"), "the engine's settings"),
    ("GET", "/api/ps", None, ("size_vram", "expires_at"), "which models are loaded"),
    ("POST", "/api/show", {}, ("modelfile", "model_info", "template"), "how a model is made"),
    ("GET", "/model/info", None, ("litellm_params", "model_info"), "the models behind the proxy"),
    ("GET", "/key/list", None, ("keys",), "the keys"),
    ("GET", "/v1/files", None, ("filename", "purpose"), "other people's files"),
    (
        *("GET", "/v1/batches", None),
        ("input_file_id", "completion_window"),
        "other people's requests",
    ),
    ("GET", "/spend/logs", None, ("spend", "request_id"), "other people's requests"),
    ("GET", "/debug/vars", None, ("cmdline", "memstats"), "the server's process"),
    ("GET", "/actuator/env", None, ("propertySources",), "the server's environment"),
    ("POST", "/tokenize", TEXT, ("tokens", "count", "start"), "it computes for anybody"),
    (
        *("POST", "/detokenize", {"tokens": [1, 2], "ids": [1, 2]}),
        ("content", "prompt", "text"),
        "it computes for anybody",
    ),
    (
        *("POST", "/apply-template", {"messages": MESSAGES}),
        ("prompt",),
        "it computes for anybody",
    ),
)
METRICS = "/metrics"
# Labels of Prometheus by which a figure is about one client: LiteLLM has most of them.
PRIVATE_LABELS = late_pattern(
    rb"[{,]\s*((?:end_)?user(?:_id|_email|_alias)?|(?:hashed_)?api_key(?:_hash|_alias)?|"
    rb"team(?:_id|_alias)?|client_ip|email)=\"(?!none\"|\"|default)[^\"]",
    re.IGNORECASE,
)
LARGEST_BYTES = 1 << 20  # of an answer: a log may be long
MOST_LINES = 100  # of an answer, in which a model's work is looked for
MOST_KEYS = 1000  # of an object
NOTHING = "a path that does not exist"


@dataclass(frozen=True)
class Endpoint:
    """One endpoint to ask. `keys`: what shows that the answer is the engine's; for one that makes a
    model work there are none, because `has_worked` knows the answers of all of them."""

    name: str
    request: Request
    keys: tuple[str, ...] = ()
    tells: str = ""


def post(path: str, fields: Mapping[str, Any], model: str) -> Request:
    body = json.dumps({"model": model, **fields}).encode()
    where = path.replace(MODEL, urllib.parse.quote(model, safe=""))
    return Request("POST", where, body, cancel_at_bytes=LARGEST_BYTES)


def endpoints(model: str) -> list[Endpoint]:
    """All of them, and one path that does not exist: what it answers is no endpoint's answer."""
    unknown = f"/{secrets.token_hex(6)}/completions"
    found = [Endpoint(NOTHING, post(unknown, {**CHAT, **LLAMA}, model))]
    for path, fields, whose in WORKING:
        name = f"POST {path}" + (f" ({whose})" if whose else "")
        found.append(Endpoint(name, post(path, fields, model)))
    for method, path, sent, keys, tells in TELLING:
        get = Request("GET", path, cancel_at_bytes=LARGEST_BYTES)
        request = get if sent is None else post(path, sent, model)
        found.append(Endpoint(f"{method} {path}", request, keys, tells))
    figures = Request("GET", METRICS, None, {"accept": "text/plain"}, None, LARGEST_BYTES)
    return [*found, Endpoint(f"GET {METRICS}", figures)]


KEYS = {f"{method} {path}": keys for method, path, _, keys, _ in TELLING}


# --- what came


@dataclass(frozen=True)
class Findings:
    """What is open. `working`: the names of endpoints for which a model works. `telling`: what an
    endpoint tells, by its name. `has_figures`: the metrics can be read by anybody."""

    working: list[str]
    telling: dict[str, str]
    has_figures: bool


@dataclass(frozen=True)
class Seen:
    """What the answer of one endpoint shows. `works`: a model has worked for it. `tells`: it has
    the keys that tell something. `label`: by which its figures are about single clients. `form`:
    what it is recognised by when a server has one answer for any path; None: not a success."""

    works: bool = False
    tells: bool = False
    label: str | None = None
    has_figures: bool = False
    form: object = None


def see(name: str, answer: Answer) -> Seen:
    """What an answer to one of `endpoints` shows, by the name of the endpoint."""
    works = is_completion if name == NOTHING else has_worked
    keys = KEYS.get(name, ())
    figures = name == f"GET {METRICS}"
    return Seen(
        works=not keys and works(answer),
        tells=bool(keys) and tells_something(answer, keys),
        label=names_clients(answer) if figures else None,
        has_figures=figures and has_figures(answer),
        form=form_of(answer),
    )


def findings(seen: Mapping[str, Seen]) -> Findings:
    """What these show, by the names of `endpoints`, to requests without a credential."""
    nothing, figures = seen.get(NOTHING), seen.get(f"GET {METRICS}", Seen())
    known = {each.name: each for each in endpoints("")}
    working, telling = [], {}
    for name, found in seen.items():
        if name != NOTHING and nothing and found.form is not None and found.form == nothing.form:
            continue
        if found.tells:
            telling[name] = known[name].tells
        elif found.works:
            working.append(name)
    if figures.label:
        telling[f"GET {METRICS}"] = f"figures of single clients, by the label {figures.label}"
    return Findings(working, telling, figures.has_figures)


def contents(answer: Answer) -> Iterator[Any]:
    """The JSON of an answer: that of its body, else of each of the first events or lines in it."""
    if answer.json is not None:
        yield answer.json
        return
    is_stream = answer.content_type.startswith("text/event-stream")
    events = [each.data for each in sse.events(answer.body)[0][:MOST_LINES]] if is_stream else []
    for text in events or answer.body.split(b"\n", MOST_LINES)[:MOST_LINES]:
        try:
            yield decode(text)
        except ValueError:
            continue


def is_completion(answer: Answer) -> bool:
    """Whether it is one by OpenAI's API, whatever its status is."""
    return any(map(has_choices, contents(answer)))


def has_worked(answer: Answer) -> bool:
    """Whether a model has worked for this answer: generated text, embeddings or scores."""
    return answer.is_ok and any(map(is_work, contents(answer)))


def is_work(content: Any) -> bool:
    """Whether this is the answer of one of the engines' endpoints that make a model work."""
    if isinstance(content, list):
        first = content[0] if content else None
        is_scored = isinstance(first, dict) and isinstance(first.get("score"), float)
        return is_scored or is_vector(content) or (isinstance(first, dict) and is_work(first))
    if not isinstance(content, dict) or "error" in content:
        return False
    texts = ("generated_text", "text_output", "response", "text", "content")
    marks = {"done", "stop", "meta_info", "tokens_predicted", "generated_text", "text_output"}
    if marks & content.keys() and any(isinstance(content.get(name), str) for name in texts):
        return True
    if isinstance(content.get("message"), dict) and "done" in content:  # Ollama
        return True
    if "token" in content and isinstance(content["token"], dict):  # an event of TGI
        return True
    is_list_of_texts = content.keys() == {"text"} and isinstance(content["text"], list)
    return is_list_of_texts or any(map(is_result, lists_of_results(content)))


def has_choices(content: Any) -> bool:
    """Whether this is a completion by OpenAI's API, which no server gives by chance."""
    choices = pick_list(content, "choices")
    return bool(choices) and is_result(choices[0])


def lists_of_results(content: Mapping[str, Any]) -> list[Any]:
    """The first entry of each list in which engines return results."""
    names = ("choices", "data", "results", "output", "outputs", "embedding", "embeddings")
    lists = [content.get(name) for name in names]
    if content.get("type") == "message":  # Anthropic's API
        lists.append(content.get("content"))
    return [each[0] for each in lists if isinstance(each, list) and each]


def is_result(entry: Any) -> bool:
    """Whether an entry of a list is something that a model has made: text, a vector, a score."""
    if isinstance(entry, dict):
        made = {"message", "text", "token_ids", "delta", "embedding", "score", "relevance_score"}
        made |= {"probs", "content", "data"}
        return not made.isdisjoint(entry)
    return is_figure(entry) or is_vector(entry)


def is_vector(value: Any) -> bool:
    """A list of numbers, or of such lists."""
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return isinstance(value, list) and bool(value) and all(map(is_figure, value))


def is_figure(value: Any) -> bool:
    return isinstance(value, float)


def tells_something(answer: Answer, keys: Collection[str]) -> bool:
    """Whether the answer has one of these keys: at its top, or in an entry of a list."""
    if not answer.is_ok:
        return False
    content = answer.json
    if isinstance(content, dict):
        lists = [each for each in content.values() if isinstance(each, list)]
        entries = [content, *(each[0] for each in lists if each)]
    else:
        entries = content[:1] if isinstance(content, list) else []
    found = [each for each in entries if isinstance(each, dict)]
    return any(not each.keys().isdisjoint(keys) for each in found)


def form_of(answer: Answer) -> object:
    """What two answers of one form have in common, as those of a server that has one for any path:
    the keys of an object, else the whole body. None: it is not a success."""
    if not answer.is_ok:
        return None
    content = answer.json
    if isinstance(content, dict):
        return frozenset(list(content)[:MOST_KEYS])
    return hashlib.sha256(answer.body).digest()


def names_clients(answer: Answer) -> str | None:
    """The label by which figures are about single clients; None when there is none."""
    found = PRIVATE_LABELS.search(answer.body) if answer.status == 200 else None
    return found[1].decode().lower() if found else None


def has_figures(answer: Answer) -> bool:
    """Whether there are figures in it, as Prometheus reads them or as JSON."""
    if answer.status != 200 or answer.content_type.startswith("text/html"):
        return False
    is_text = re.search(rb"^[a-zA-Z_:][\w:]*(\{.*\})? [-+\d.]", answer.body, re.MULTILINE)
    return is_text is not None or isinstance(answer.json, dict)
