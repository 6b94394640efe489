"""The openai package's three majors, and a server that can do all that the SDK's check asks for."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from helpers.hostile import DONE, HEAD, Call, delta, error, event, response
from helpers.scripts import ROOT, Finished, SavedAs, run_script
from livecheck.core.json_value import pick
from livecheck.gateway import characters
from reference import responses
from reference.skills.played import Played

SDK = "test_openai_sdk.py"
DOCUMENT = "openai_sdk_test"
SAVED = SavedAs(DOCUMENT)
statuses, only = SAVED.statuses, SAVED.only
KEY = "sk-right"


def sdk_folder(major: int) -> Path:
    """The newest SDK of that major, as `make sdks` puts it; made here when it is not there."""
    folder = ROOT / ".venv" / f"sdk-{major}"
    if not folder.exists():
        scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        command = [*pip, "--target", str(scratch), f"openai<{major + 1}"]
        try:
            subprocess.run(command, check=True, timeout=170)
            with contextlib.suppress(OSError):  # another worker was faster
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def run_sdk(url: str, *arguments: object, key: str = KEY, **options: Any) -> Finished:
    major = options.pop("major", None)
    env = {"PYTHONPATH": str(sdk_folder(major))} if major else {}
    env |= options.pop("env", {})
    given_key = ("--api-key", key) if key else ()
    return run_script(SDK, "--url", url, *given_key, *arguments, env=env, **options)


# --- a server that can do everything

MODEL = "org/tiny-model"
WORDS = "the sea keeps its own time, wave after wave after every single wave".split()
VECTOR = [0.25, -0.5, 0.125]


def capable(call: Call) -> None:
    """Does all that is asked of it, and refuses properly."""
    path, key = unquote(call.path), call.headers.get("authorization", "")
    listed = {"id": MODEL, "object": "model", "created": 1, "owned_by": "us"}
    if key != f"Bearer {KEY}":
        return call.send(error(401, "wrong key", "invalid_api_key"))
    if path == "/v1/models":
        return say(call, {"object": "list", "data": [listed]})
    if path == f"/v1/models/{MODEL}":
        return say(call, listed)
    if path == "/v1/embeddings":
        return say(call, embedding(call.fields))
    if path == "/v1/completions":
        one = {"index": 0, "text": " vast", "finish_reason": "length"}
        return say(call, {"id": "c", "object": "text_completion", "choices": [one]})
    fields = call.fields
    if path == "/v1/responses":
        return respond(call, fields)
    if not isinstance(fields["messages"], list):
        return call.send(error(400, "messages must be a list"))
    if fields["model"] != MODEL:
        return call.send(error(404, "no such model", "model_not_found"))
    if fields.get("stream"):
        return stream(call, fields)
    return say(call, completion(fields))


def respond(call: Call, fields: dict[str, Any]) -> None:
    """A response, as the simulated engine tells it."""
    text = " ".join(WORDS)
    deltas = [{"content": text}]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if fields.get("tools"):
        arguments = {"function": TOOL_CALL["function"]}
        deltas = [{"tool_calls": [{"index": 0, "id": TOOL_CALL["id"], **arguments}]}]
        message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
    told = responses.Response(MODEL, Played(deltas, message, "stop"))
    counts = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    if not fields.get("stream"):
        return say(call, told.whole(counts))
    call.send(HEAD, told.begin(), *told.deltas(), told.end(counts))


def say(call: Call, fields: object) -> None:
    call.send(response(200, fields, content_type="application/json"))


def embedding(fields: dict[str, Any]) -> dict[str, Any]:
    packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
    vector: Any = packed if fields.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "model": MODEL, "data": data, "usage": usage}


def usage_of(fields: dict[str, Any], output: int) -> dict[str, int]:
    prompt = 20 if fields.get("tools") else 9
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


def completion(fields: dict[str, Any]) -> dict[str, Any]:
    turn = (fields.get("seed") or 0) % len(WORDS)
    words = (WORDS[turn:] + WORDS[:turn])[: fields["max_tokens"]]
    text, reason = " ".join(words), "length"
    if fields.get("stop"):
        text, reason = text.partition(fields["stop"][0])[0], "stop"
    if fields.get("response_format"):
        text, reason = by_schema(fields), "stop"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if fields.get("tools"):
        message, reason = {"role": "assistant", "tool_calls": [TOOL_CALL]}, "tool_calls"
    one = {"message": message, "finish_reason": reason}
    if fields.get("logprobs"):
        one["logprobs"] = {"content": [logprob(word) for word in words]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": index, **one} for index in range(fields.get("n") or 1)],
        "usage": usage_of(fields, len(words)),
    }


def by_schema(fields: dict[str, Any]) -> str:
    """The only JSON that the schema of the check `unicode` allows, else that of `json_schema`."""
    is_line = pick(fields, "response_format", "json_schema", "name") == "line"
    if is_line:
        return json.dumps({characters.FIELD: characters.SAMPLE}, ensure_ascii=False)
    return '{"zorble": "quaxil", "frint": true}'


def logprob(word: str) -> dict[str, Any]:
    token = f" {word}"
    one = {"token": token, "logprob": -0.5, "bytes": list(token.encode())}
    return {**one, "top_logprobs": [one, one]}


def stream(call: Call, fields: dict[str, Any]) -> None:
    more: Any = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
    }
    words, reason = WORDS[: fields["max_tokens"]], "length"
    if fields.get("stop"):
        words, reason = " ".join(words).partition(fields["stop"][0])[0].split(), "stop"
    pieces = [delta(**more), *(delta(f" {word}", **more) for word in words)]
    if fields.get("response_format"):
        pieces = [delta(**more), *(delta(letter, **more) for letter in by_schema(fields))]
        reason = "stop"
    if fields.get("tools"):
        one = {
            "index": 0,
            "delta": {"role": "assistant", "tool_calls": [{"index": 0, **TOOL_CALL}]},
        }
        pieces, reason = (
            [event({**more, "choices": [{**one, "finish_reason": None}]})],
            "tool_calls",
        )
    pieces.append(delta(reason=reason, **more))
    if fields.get("stream_options"):
        pieces.append(event({**more, "choices": [], "usage": usage_of(fields, len(words))}))
    call.send(HEAD, *pieces, DONE, gap_s=0.003)
