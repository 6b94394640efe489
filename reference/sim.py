"""A simulated engine without a model: the same tokens at the same times for every request.

The gateway runs it as `python -m reference.sim`. For a client of chat completions it behaves like
llama.cpp's server. Each word of the prompt counts as one token, and the answer repeats a fixed
list of words, one token each. Unknown fields of a request are ignored. With a skill (`skills/`) it
plays a model that can do what some requests ask for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from . import responses, skills
from .prefix_cache import PrefixCache, words_of
from .process import announce, end_with_parent, raise_descriptor_limit
from .sim_metrics import SimMetrics
from .skills.played import Played, Refused, spoken
from .slots import Slots
from .telemetry import TEXT_TYPE

MODEL = "sim"
WORDS = (" wave", " after", " wave", " the", " sea", " keeps", " its", " even", " time,")
SHUTDOWN_S = 0.5


@dataclass(frozen=True)
class Task:
    """What a request asks for. max_tokens is None when the request sets no limit."""

    fields: Mapping[str, Any]
    stream: bool
    include_usage: bool
    prompt: tuple[str, ...]
    max_tokens: int | None

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)


@dataclass
class Timeline:
    """When tokens are due: the first one `ttft_s` after the start, then one every `itl_s`.

    Due times are absolute, so a token that is sent late does not delay the tokens after it.
    """

    ttft_s: float
    itl_s: float
    started_s: float
    cached: int = 0  # tokens of the prompt that were not read again
    first_s: float = 0.0
    last_s: float = 0.0

    async def token(self, index: int) -> None:
        """Wait until token `index` is due and note when it was really sent."""
        due_s = self.started_s + self.ttft_s + index * self.itl_s
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        self.last_s = time.monotonic()
        if index == 0:
            self.first_s = self.last_s

    def timings(self, prompt_n: int, predicted_n: int) -> dict[str, float]:
        """The `timings` object of llama.cpp: when tokens were sent, not when they were due."""
        prompt_ms = (self.first_s - self.started_s) * 1e3
        predicted_ms = (self.last_s - self.first_s) * 1e3
        rate = predicted_n / predicted_ms * 1e3 if predicted_ms else 0.0
        return {
            "cache_n": self.cached,
            "prompt_n": prompt_n - self.cached,
            "prompt_ms": prompt_ms,
            "predicted_n": predicted_n,
            "predicted_ms": predicted_ms,
            "predicted_per_second": rate,
        }


# --- requests


def read_fields(body: bytes) -> dict[str, Any]:
    """The JSON object in a request body. Raises Refused."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise Refused(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Refused("the body must be a JSON object")
    return fields


def read_task(fields: dict[str, Any]) -> Task:
    """The task in a request. Raises Refused."""
    options = fields.get("stream_options")
    return Task(
        fields=fields,
        stream=fields.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        prompt=read_prompt(fields.get("messages")),
        max_tokens=read_limit(fields),
    )


def read_prompt(messages: object) -> tuple[str, ...]:
    """The tokens of the prompt. Raises Refused when `messages` is malformed."""
    if not isinstance(messages, list) or not messages:
        raise Refused("'messages' must be an array with at least one message")
    if not all(isinstance(message, dict) for message in messages):
        raise Refused("each of 'messages' must be an object")
    return tuple(itertools.chain.from_iterable(map(words_of, messages)))


def read_limit(fields: dict[str, Any]) -> int | None:
    """The most tokens that the answer may have, None without a limit. Raises Refused."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = fields.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise Refused(f"'{name}' must be a whole number of at least 1")
        return limit
    return None


# --- answers


def error(status: int, message: str, kind: str, **more: Any) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": None, "code": status, **more}}
    return web.json_response(body, status=status)


def event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


def usage(prompt_n: int, predicted_n: int, cached_n: int | None = None) -> dict[str, Any]:
    """`cached_n`: None where there is no cache."""
    cached = {} if cached_n is None else {"prompt_tokens_details": {"cached_tokens": cached_n}}
    return {
        "prompt_tokens": prompt_n,
        "completion_tokens": predicted_n,
        "total_tokens": prompt_n + predicted_n,
        **cached,
    }


class Sim:
    """The engine. It serves `slots` requests at once, each on its own time line."""

    def __init__(
        self,
        slots: int,
        ttft_s: float,
        itl_s: float,
        output_tokens: int,
        context_size: int = 8192,
        skills: Sequence[str] = (),
        prefill_ms: float = 0.0,
        prefix_cache: int = 0,
        endpoints: Sequence[str] = (),
    ) -> None:
        self.slots = Slots(slots, max_waiting=0)
        self.skills = skills
        # of each slot, as with llama.cpp; None: whatever comes has room
        self.context = context_size // slots if "context" in skills else None
        self.ttft_s = ttft_s
        self.itl_s = itl_s
        self.output_tokens = output_tokens
        self.prefill_s = prefill_ms / 1e6  # of a token
        self.cache = PrefixCache(prefix_cache)
        self.endpoints = endpoints
        self._numbers = itertools.count(1)
        self.metrics = SimMetrics(self.slots, MODEL)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.answer_metrics)
        if self.context is not None:
            app.router.add_get("/props", self.props)
        app.router.add_post("/v1/chat/completions", self.chat)
        if responses.RESPONSES in self.endpoints:
            app.router.add_post("/v1/responses", self.respond)
        if responses.EMBEDDINGS in self.endpoints:
            app.router.add_post("/v1/embeddings", self.embed)
        app.router.add_route("*", "/{path:.*}", self.not_found)
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def answer_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.as_text(), headers={"Content-Type": TEXT_TYPE})

    async def models(self, request: web.Request) -> web.Response:
        model: dict[str, Any] = {
            "id": MODEL,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "sim",
        }
        if self.context is not None:
            model["meta"] = {"n_ctx": self.context}
        return web.json_response({"object": "list", "data": [model]})

    async def props(self, request: web.Request) -> web.Response:
        settings = {"n_ctx": self.context}
        content = {"default_generation_settings": settings, "total_slots": self.slots.max_active}
        return web.json_response(content)

    async def not_found(self, request: web.Request) -> web.Response:
        return error(404, "File Not Found", "not_found_error")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            task = read_task(read_fields(await request.read()))
            played = self._answer(task)
        except Refused as problem:
            return error(400, str(problem), problem.kind, **problem.more)
        arrived_s = time.monotonic()
        async with self.slots.place():
            timeline = self._timeline(task)
            if task.stream:
                response = await self._stream(request, task, timeline, played)
            else:
                response = await self._whole(task, timeline, played)
            self.metrics.count(timeline.first_s - arrived_s, len(played.deltas))
            self.cache.add((*task.prompt, *words_of(played.message)))
            return response

    async def respond(self, request: web.Request) -> web.StreamResponse:
        try:
            task = read_task(responses.as_chat(read_fields(await request.read())))
            played = self._answer(task)
        except Refused as problem:
            return error(400, str(problem), problem.kind, **problem.more)
        async with self.slots.place():
            timeline, found = self._timeline(task), responses.Response(MODEL, played)
            if task.stream:
                response = await self._tell(request, task, timeline, found)
            else:
                for index in range(len(played.deltas)):
                    await timeline.token(index)
                counts = self._usage(task, len(played.deltas), timeline)
                response = web.json_response(found.whole(counts))
            self.cache.add((*task.prompt, *words_of(played.message)))
            return response

    async def _tell(
        self, request: web.Request, task: Task, timeline: Timeline, found: responses.Response
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(found.begin())
        for index, events in enumerate(found.deltas()):
            await timeline.token(index)
            await response.write(events)
        counts = self._usage(task, len(found.played.deltas), timeline)
        await response.write(found.end(counts))
        return response

    async def embed(self, request: web.Request) -> web.Response:
        """Vectors after `ttft_s`, and the time to read all inputs."""
        try:
            found = responses.embeddings(MODEL, read_fields(await request.read()))
        except Refused as problem:
            return error(400, str(problem), problem.kind, **problem.more)
        async with self.slots.place():
            tokens = found["usage"]["prompt_tokens"]
            await asyncio.sleep(self.ttft_s + tokens * self.prefill_s)
            return web.json_response(found)

    def _timeline(self, task: Task) -> Timeline:
        cached = self.cache.cached(task.prompt)
        ttft_s = self.ttft_s + (task.prompt_tokens - cached) * self.prefill_s
        return Timeline(ttft_s, self.itl_s, time.monotonic(), cached)

    def _usage(self, task: Task, count: int, timeline: Timeline) -> dict[str, Any]:
        return usage(task.prompt_tokens, count, timeline.cached if self.cache.is_there else None)

    def _answer(self, task: Task) -> Played:
        """What a skill answers, else the words. Raises Refused."""
        limit = self.output_tokens if task.max_tokens is None else task.max_tokens
        if self.context is not None:
            limit = min(limit, skills.context.room_in(self.context, task.prompt_tokens))
        if played := skills.play(self.skills, task.fields, limit):
            return played
        count = min(limit, self.output_tokens)
        tokens = [WORDS[index % len(WORDS)] for index in range(count)]
        return spoken(tokens, "stop" if count == self.output_tokens else "length")

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{next(self._numbers):08d}",
            "object": kind,
            "created": int(time.time()),
            "model": MODEL,
            "system_fingerprint": "sim",
        }

    async def _whole(self, task: Task, timeline: Timeline, played: Played) -> web.Response:
        count = len(played.deltas)
        for index in range(count):
            await timeline.token(index)
        choice = {"index": 0, "message": played.message, "finish_reason": played.finish_reason}
        return web.json_response(
            {
                **self._envelope("chat.completion"),
                "choices": [choice],
                "usage": self._usage(task, count, timeline),
                "timings": timeline.timings(task.prompt_tokens, count),
            }
        )

    async def _stream(
        self, request: web.Request, task: Task, timeline: Timeline, played: Played
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        envelope = self._envelope("chat.completion.chunk")

        def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return event({**envelope, "choices": [choice], **more})

        count, reason = len(played.deltas), played.finish_reason
        for index, delta in enumerate(played.deltas):
            content = chunk(delta)
            if index == 0:
                # As with llama.cpp, the role is sent together with the first token.
                content = chunk({"role": "assistant", "content": None}) + content
            await timeline.token(index)
            await response.write(content)
        timings = timeline.timings(task.prompt_tokens, count)
        if task.include_usage:
            counts = self._usage(task, count, timeline)
            tail = chunk({}, reason)
            tail += event({**envelope, "choices": [], "usage": counts, "timings": timings})
        else:
            tail = chunk({}, reason, timings=timings)
        await response.write(tail + b"data: [DONE]\n\n")
        return response


# --- process


async def serve(args: argparse.Namespace) -> None:
    started_s = time.monotonic()
    times_s = args.ttft_ms / 1e3, args.itl_ms / 1e3
    sim = Sim(
        args.slots,
        *times_s,
        args.output_tokens,
        args.context_size,
        args.skills,
        args.prefill_ms,
        args.prefix_cache,
        args.endpoints,
    )
    # When a client leaves, its handler is cancelled, and this frees its slot.
    runner = web.AppRunner(
        sim.application(), handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    await asyncio.sleep(args.load_ms / 1e3 - (time.monotonic() - started_s))
    site = web.TCPSite(runner, "127.0.0.1", args.port, backlog=4096)
    await site.start()
    announce(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.sim", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--ttft-ms", type=float, default=50.0)
    parser.add_argument("--itl-ms", type=float, default=20.0)
    parser.add_argument("--prefill-ms", type=float, default=0.0)
    parser.add_argument("--prefix-cache", type=int, default=0)
    parser.add_argument("--load-ms", type=float, default=0.0)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--context-size", type=int, default=8192)
    parser.add_argument("--endpoints", nargs="*", choices=responses.ENDPOINTS, default=())
    parser.add_argument("--skills", nargs="*", choices=sorted(skills.SKILLS), default=())
    args = parser.parse_args(argv)
    end_with_parent()
    raise_descriptor_limit()
    asyncio.run(serve(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
