"""The servers in front, and the engines behind them, started when a test asks for one."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import trustme

from reference import Deployment, running

from .peer_programs import free_port, start
from .scripts import ROOT

KEY = "sk-peer-0123456789abcdefABCDEF"
USER, PASSWORD = "operator", "correct-horse"
SIM = {
    "engine": "sim",
    "ttft_ms": 40,
    "itl_ms": 8,
    "slots": 8,
    "rate_limit": 0,
    "output_tokens": 2000,
}


@dataclass(frozen=True)
class Peer:
    """One way to set up one of the servers, running."""

    url: str
    authority: Path  # the certificate of the authority that signs the servers' certificates
    client: Path  # a client's certificate of the same authority


class Peers:
    """Starts what a test asks for. Engines and LiteLLM start slowly: they run until the end."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.authority, self.client = folder / "authority.pem", folder / "client.pem"

    @cached_property
    def sim(self) -> Deployment:
        return self._stack.enter_context(running(**SIM, api_keys=KEY))

    @cached_property
    def llama(self) -> str:
        return self._llama()

    @cached_property
    def llama_with_key(self) -> str:
        return self._llama("--api-key", KEY)

    def _llama(self, *arguments: str) -> str:
        """The URL of llama.cpp's own server with one model."""
        command = [sys.executable, "-m", "reference.llama", "--slots", "4", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        return process.stdout.readline().removeprefix("listening ").strip()

    @cached_property
    def _litellm(self) -> dict[str, int]:
        return self._stack.enter_context(start("litellm", self._values()))

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[Peer]:
        """The server `nginx.gzip` is the one named gzip in nginx.conf."""
        program, _, server = name.partition(".")
        scheme = "https" if server in ("tls", "mtls") else "http"
        files = (self.authority, self.client)
        if program == "llama":
            url = self.llama_with_key if server == "key" else self.llama
            yield Peer(url, *files)
        elif program == "litellm":
            yield Peer(f"http://127.0.0.1:{self._litellm[server]}", *files)
        else:
            with start(program, self._values(llama=server == "auth_half")) as ports:
                yield Peer(f"{scheme}://127.0.0.1:{ports[server]}", *files)

    def _values(self, llama: bool = False) -> dict[str, str]:
        closed = f"127.0.0.1:{free_port()}"
        return {
            "engine": host(self.sim.engine_url),
            "gateway": host(self.sim.url),
            "llama": host(self.llama) if llama else closed,
            "closed": closed,
            "key": KEY,
            "certificate": str(self._certificate),
            "authority": str(self.authority),
            "passwords": str(self._passwords),
        }

    @cached_property
    def _certificate(self) -> Path:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        path = self._folder / "server.pem"
        for name, file in (("127.0.0.1", path), ("client.example", self.client)):
            authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(file))
        return path

    @cached_property
    def _passwords(self) -> Path:
        path = self._folder / "passwords"
        path.write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        return path


def host(url: str) -> str:
    return url.partition("://")[2].rstrip("/")


def basic() -> str:
    """The value of the Authorization header that nginx's auth_basic accepts."""
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
