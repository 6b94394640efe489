"""A server that answers soundly, except where a behaviour spoils its answers.

with HostileServer(Gateway(KEY), behaviour) as server:
    run_script("benchmark.py", "--url", server.url)
    assert server.hits          # how often it has misbehaved

A behaviour decides which answers it spoils, and gets an `Exchange`: the request, the sound answer,
and the connection to say something else on. What happens before a request (a silent port, garbage
instead of TLS) is a behaviour of the connection. Sockets are real, with one thread a connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from helpers.hostile import Call, Server
from helpers.sound_answers import Fleet, Gateway, Left, Sound

REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized"}


@dataclass
class Exchange(Call):
    """A request, its sound answer, and how often the endpoint was asked before (`number`)."""

    sound: Sound = field(default_factory=lambda: Sound(""))
    number: int = 0
    secrets: Sequence[str] = ()
    elsewhere: str = ""  # the URL of another host
    pairs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return self.sound.endpoint

    @property
    def secret(self) -> str:
        """The credential that this request brought, else the first one that there is."""
        brought = self.headers.get("authorization", "").removeprefix("Bearer ")
        return brought if brought in self.secrets else self.secrets[0]

    def head(
        self,
        *lines: str | bytes,
        length: int | None = None,
        status: str | None = None,
        without: Sequence[str] = (),
    ) -> bytes:
        """The head of the sound answer with more lines, and without those of these names."""
        sound = self.sound
        first = status or f"{sound.status} {REASONS.get(sound.status, 'Scripted')}"
        own = {name: text for name, text in sound.headers.items() if name not in without}
        if length is not None:
            own["Content-Length"] = str(length)
        if "Connection" not in without:
            own["Connection"] = "close"
        parts: list[bytes] = [f"HTTP/1.1 {first}".encode()]
        parts += [f"{name}: {text}".encode("latin-1") for name, text in own.items()]
        parts += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
        return b"\r\n".join([*parts, b"", b""])

    def say(self, body: bytes, *lines: str | bytes, status: str | None = None) -> None:
        """The sound answer with another body."""
        self.send(self.head(*lines, length=len(body), status=status) + body)

    def say_soundly(self) -> None:
        """What a sound deployment says, at its pace."""
        sound = self.sound
        time.sleep(sound.first_s)
        if not sound.events:
            # a whole answer takes as long as its stream would
            is_body = self.method != "HEAD" and sound.status != 204
            length = len(sound.body) if sound.status != 204 else None
            self.send(self.head(length=length) + (sound.body if is_body else b""))
            return
        self.send(self.head("Transfer-Encoding: chunked"))
        for each in sound.events:
            self.send(b"%x\r\n%s\r\n" % (len(each), each))
            time.sleep(sound.gap_s)
        self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Behaviour(Protocol):
    """What is wrong with a server. `meet` is for the connection, before anything is read: True when
    that was all. `concerns` says which exchanges `act` spoils."""

    def meet(self, server: HostileServer, sock: socket.socket) -> bool: ...

    def concerns(self, exchange: Exchange) -> bool: ...

    def act(self, exchange: Exchange) -> None: ...


class HostileServer(Server):
    """A deployment with a behaviour. `began` are the times at which requests came."""

    def __init__(
        self,
        deployment: Gateway | Fleet,
        behaviour: Behaviour | None = None,
        secrets: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ):
        super().__init__(tls=tls)
        self.deployment, self.behaviour, self.secrets = deployment, behaviour, secrets
        self.hits = 0
        self.began: list[float] = []
        self.over = self._over
        self._asked: dict[str, int] = {}
        self._lock = threading.Lock()
        # Nobody may connect there: it is the target of redirects and the like. No thread accepts,
        # so that `was_led_away` finds a connection that came.
        self._elsewhere = socket.create_server(("127.0.0.1", 0))
        self._elsewhere.setblocking(False)
        self.elsewhere = f"http://127.0.0.1:{self._elsewhere.getsockname()[1]}"

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._elsewhere.close()

    @property
    def was_led_away(self) -> bool:
        """Whether somebody has connected to the other host."""
        try:
            self._elsewhere.accept()[0].close()
        except OSError:
            return False
        return True

    def _serve(self, sock: socket.socket) -> None:
        self.began.append(time.monotonic())
        with contextlib.suppress(OSError, Left), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.behaviour and self.behaviour.meet(self, sock):
                self.hits += 1
                return
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                stack.callback(sock.close)
            if exchange := self._read(sock):
                self.calls.append(exchange)
                with self.deployment.answer(exchange) as exchange.sound:
                    self._say(exchange)

    def _read(self, sock: socket.socket) -> Exchange | None:
        with sock.makefile("rb") as stream:
            line = stream.readline().decode("latin-1").split()
            if len(line) != 3:
                return None
            pairs = []
            while text := stream.readline().decode("latin-1").strip():
                name, _, value = text.partition(":")
                pairs.append((name.lower(), value.strip()))
            headers = dict(pairs)
            body = stream.read(int(headers.get("content-length", 0)))
        more = {"secrets": self.secrets, "elsewhere": self.elsewhere, "pairs": pairs}
        return Exchange(sock, line[0], line[1], headers, body, self._over, **more)  # type: ignore[arg-type]

    def _say(self, exchange: Exchange) -> None:
        with self._lock:
            exchange.number = self._asked.get(exchange.endpoint, 0)
            self._asked[exchange.endpoint] = exchange.number + 1
        if self.behaviour and self.behaviour.concerns(exchange):
            self.hits += 1
            self.behaviour.act(exchange)
        else:
            exchange.say_soundly()
