"""The health server: a process of its own that knows nothing about the gateway and the engine.

It answers every GET with 200 and an empty body. A probe of it can therefore never wake the engine.
"""

from __future__ import annotations

import argparse
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from .process import announce, end_with_parent

IDLE_CONNECTION_S = 10


class HealthHandler(BaseHTTPRequestHandler):
    timeout = IDLE_CONNECTION_S
    protocol_version = "HTTP/1.1"
    server_version = "reference-health"
    sys_version = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: probes come every few seconds for hours."""


class HealthServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_port = False  # some Pythons set it, and then two servers could share the port

    def server_bind(self) -> None:
        # The base class looks up the host's name, which takes seconds where DNS is slow.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.health_server", description=__doc__)
    parser.add_argument("--port", type=int, default=8001, help="0 picks a free one (8001)")
    port = parser.parse_args(argv).port
    end_with_parent()
    try:
        server = HealthServer(("127.0.0.1", port), HealthHandler)
    except OSError as error:
        hint = "choose another with --health-port"
        raise SystemExit(f"port {port}: {error.strerror}, {hint}") from None
    announce(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
