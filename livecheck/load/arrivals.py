"""What a level sends, and when: closed and open loops, arrivals on a schedule, prompts from a file.

Pure: no network, and no clock except the one that ends a duration.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from livecheck.core.options import MOST
from livecheck.core.text import shorten

POISSON, CONSTANT = "poisson", "constant"
CHAT, RESPONSES, EMBEDDINGS = "chat", "responses", "embeddings"  # endpoints that are measured
# The seed of a typical pattern: its first 5, 10 … 1,000 arrivals take as long as they should within
# 8 %, and at 80 % of the capacity of a queue they wait as long as the theory says, within 11 %.
SEED = 2322
MOST_BYTES = 1 << 30  # of a file of prompts; a device may have no end
MOST_PROMPTS = 1_000_000

Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Load:
    """One level: how requests are sent (`rate_per_s`: open loop), and how many or how long."""

    concurrency: int  # requests in flight; in an open loop the most of them
    requests: int | None
    duration_s: float | None = None
    rate_per_s: float | None = None
    arrivals: str = POISSON
    seed: int = SEED
    depth: int | None = None  # tokens of each prompt, where these are made for it
    turns: int | None = None  # of each conversation
    precision: float | None = None  # it ends when its medians are as exact as that, if not before
    endpoint: str = CHAT
    batch: int | None = None  # inputs of each request for embeddings

    @property
    def is_open(self) -> bool:
        return self.rate_per_s is not None

    @property
    def name(self) -> str:
        """The name of its result file."""
        if self.batch is not None:
            return f"embeddings_c{self.concurrency}_b{self.batch}"
        other = "" if self.endpoint == CHAT else f"_{self.endpoint}"
        if self.is_open:
            return f"inference_r{self.rate_per_s:g}{other}"
        deep = "" if self.depth is None else f"_d{self.depth}"
        turns = "" if self.turns is None else f"_t{self.turns}"
        return f"inference_c{self.concurrency}{deep}{turns}{other}"

    @property
    def title(self) -> str:
        other = "" if self.endpoint == CHAT else f", {self.endpoint}"
        if self.is_open:
            return f"{self.rate_per_s:g} requests/s{other}"
        if self.batch is not None:
            other += f", batches of {self.batch}"
        deep = "" if self.depth is None else f", depth {self.depth}"
        turns = "" if self.turns is None else f", {self.turns} turns"
        return f"concurrency {self.concurrency}{deep}{turns}{other}"

    def amount(self, what: str) -> str:
        """How many or how long, in words."""
        if self.duration_s is None:
            return f"{self.planned} {what}"
        if self.precision is None:
            return f"{what} for {self.duration_s:g} s"
        return f"{what} until ±{100 * self.precision:.3g} %, for at most {self.duration_s:g} s"

    @property
    def planned(self) -> int | None:
        """How many requests it has; None when only its duration decides."""
        return self.requests if self.due_s is None else len(self.due_s)

    @cached_property
    def due_s(self) -> list[float] | None:
        """When the requests of an open loop are due, in seconds after its start."""
        if self.rate_per_s is None:
            return None
        times, end_s = arrival_times(self.rate_per_s, self.arrivals, self.seed), self.duration_s
        if end_s is None:
            return list(itertools.islice(times, self.requests))
        return list(itertools.takewhile(lambda due: due < end_s, times))

    def numbers(self) -> Iterator[int]:
        """0, 1, 2 … for each request, as long as another one may be sent."""
        if self.planned is not None:
            yield from range(self.planned)
        else:
            end_s = time.perf_counter() + (self.duration_s or 0)
            yield from itertools.takewhile(lambda _: time.perf_counter() < end_s, itertools.count())


def arrival_times(rate_per_s: float, arrivals: str = POISSON, seed: int = SEED) -> Iterator[float]:
    """When requests are due, in seconds after the start, without end; the first is due at 0.

    Poisson: exponential gaps, as with many users who act independently of each other. The same seed
    gives the same pattern at any rate, only faster or slower.
    """
    import random

    chance, due_s = random.Random(seed), 0.0
    for number in itertools.count(1):
        yield due_s
        if arrivals == CONSTANT:
            due_s = number / rate_per_s
        else:
            due_s += chance.expovariate(1) / rate_per_s


# --- prompts


@dataclass(frozen=True)
class Prompt:
    """The messages, and the longest answer in tokens if this prompt has its own."""

    messages: Messages
    max_tokens: int | None = None

    def unique(self) -> Messages:
        """The messages, the first text of which begins with a short line that no cache has seen."""
        line = f"[{os.urandom(4).hex()}]\n"
        messages = [dict(message) for message in self.messages]
        for message in messages:
            content = message.get("content")
            if isinstance(content, str):
                message["content"] = line + content
                return messages
            if isinstance(content, list):
                message["content"] = [{"type": "text", "text": line}, *content]
                return messages
        return messages


def question(text: str) -> Prompt:
    return Prompt([{"role": "user", "content": text}])


def read_prompts(path: Path) -> list[Prompt]:
    """One prompt per line, or one JSON object per line if the first line begins with `{`.

    ValueError says which line is wrong, and why.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES >> 20} MB")
    if data.count(b"\n") > MOST_PROMPTS:  # each of them takes some hundreds of bytes more
        raise ValueError(f"{path} has more than {MOST_PROMPTS:,} lines")
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1].strip():
        lines.pop()  # there is nothing behind the end of the last line
    if not lines:
        raise ValueError(f"{path} is empty")
    read = read_object if lines[0].lstrip().startswith(b"{") else question
    return [read_line(read, path, number, line) for number, line in enumerate(lines, 1)]


def read_line(read: Any, path: Path, number: int, line: bytes) -> Prompt:
    try:
        text = line.decode().strip()
        if not text:
            raise ValueError("it is empty")
        prompt: Prompt = read(text)
    except UnicodeDecodeError:
        raise ValueError(f"{path}, line {number}: it is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
    return prompt


def read_object(text: str) -> Prompt:
    """A prompt from `{"messages": […], "max_tokens": N}`."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    messages, most = fields.get("messages"), fields.get("max_tokens")
    if others := sorted(set(fields) - {"messages", "max_tokens"}):
        raise ValueError(
            f"{shorten(others[0], 40)} cannot be sent: only messages and max_tokens can"
        )
    if not (isinstance(messages, list) and messages):
        raise ValueError("messages must be a list with a message in it")
    if not all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in messages):
        raise ValueError("each message must be an object with a role")
    is_count = isinstance(most, int) and not isinstance(most, bool) and 1 <= most <= MOST
    if most is not None and not is_count:
        raise ValueError(f"max_tokens must be a whole number from 1 to {MOST}")
    return Prompt(messages, most)
