"""A server in front of a deployment that serves a number of requests and refuses all others.

It does what a proxy's rate limit does whose time is not over before the test is.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from helpers.http_server import QuietHandler, QuietServer
from reference import Deployment

NGINX = """<html>\r
<head><title>{0}</title></head>\r
<body>\r
<center><h1>{0}</h1></center>\r
<hr><center>nginx</center>\r
</body>\r
</html>\r
"""
LITELLM = (
    '{"error":{"message":"Rate limit exceeded for api_key. Limit type: requests.",'
    '"type":"throttling_error","param":null,"code":"429"}}'
)
# name -> status, headers, body
REFUSALS: dict[str, tuple[int, dict[str, str], str]] = {
    "litellm": (429, {"Content-Type": "application/json", "Retry-After": "42"}, LITELLM),
    "nginx-429": (429, {"Content-Type": "text/html"}, NGINX.format("429 Too Many Requests")),
    "empty-429": (429, {}, ""),
    "text-429": (429, {"Content-Type": "text/plain"}, "slow down"),
    "nginx-503": (
        503,
        {"Content-Type": "text/html"},
        NGINX.format("503 Service Temporarily Unavailable"),
    ),
}


class Limiter(QuietServer):
    """`allowed` requests go to the server at `url`; `refused` counts the others."""

    def __init__(self, url: str, allowed: int, refusal: str) -> None:
        super().__init__(Front)
        parts = urlsplit(url)
        self.upstream = (parts.hostname, parts.port)
        self.refusal, self.left, self.refused = REFUSALS[refusal], allowed, 0
        self.paths: list[str] = []  # of what was refused
        self._lock = threading.Lock()

    def allows(self, path: str) -> bool:
        """Whether one more request is served; if not, it is counted."""
        with self._lock:
            if self.left > 0:
                self.left -= 1
                return True
            self.refused += 1
            self.paths.append(path)
            return False


class Front(QuietHandler):
    """One request of a connection, which is closed after it."""

    server: Limiter

    def handle_one_request(self) -> None:
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.allows(self.path):
            self.forward(body)
        else:
            self.refuse()

    def refuse(self) -> None:
        status, headers, text = self.server.refusal
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())

    def forward(self, body: bytes) -> None:
        """Send the request on, and what comes back, byte for byte, until either side closes."""
        del self.headers["Connection"]
        self.headers["Connection"] = "close"
        lines = [self.requestline, *(f"{name}: {text}" for name, text in self.headers.items())]
        with contextlib.suppress(OSError), socket.create_connection(self.server.upstream) as there:
            there.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            while self.connection not in (
                readable := select.select([there, self.connection], [], [])[0]
            ):
                if not readable or not (piece := there.recv(65536)):
                    return
                self.connection.sendall(piece)


@contextlib.contextmanager
def limited(
    deployment: Deployment, allowed: int, refusal: str
) -> Iterator[tuple[Deployment, Limiter]]:
    """The deployment as it is seen through a limiter, as long as the block lasts."""
    with Limiter(deployment.url, allowed, refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = ("INFERENCE_URL", "SIMPLEAI_URL")
        urls = {name: server.url for name in names if name in deployment.environment}
        try:
            yield Deployment({**deployment.environment, **urls}, deployment.process), server
        finally:
            server.shutdown()
