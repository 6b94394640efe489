"""The plainest client of a streamed API: a thread for each request in flight, http.client, and the
time after each line that was read. What `clients.py` compares the others with.

    python tests/tools/plain_threads.py URL MODEL STREAMS REQUESTS TOKENS FILE

FILE gets {"ttft_ms": [...], "gaps_ms": [...], "failed": 0}.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

PROMPT = "Write a short poem about the sea"


class Client:
    def __init__(self, url: str, model: str, tokens: int, requests: int) -> None:
        self.parts = urlsplit(url)
        message = [{"role": "user", "content": PROMPT}]
        fields = {"model": model, "messages": message, "max_tokens": tokens, "stream": True}
        self.body = json.dumps(fields).encode()
        self.left = iter(range(requests))
        self.lock = threading.Lock()
        self.ttft_ms: list[float] = []
        self.gaps_ms: list[float] = []
        self.failed = 0

    def work(self) -> None:
        connection = http.client.HTTPConnection(self.parts.hostname or "", self.parts.port)
        while True:
            with self.lock:
                if next(self.left, None) is None:
                    return
            try:
                self.ask(connection)
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> None:
        began_s = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", self.body)
        times = []
        for line in connection.getresponse():
            now_s = time.perf_counter()
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    times.append(now_s)
        self.ttft_ms.append((times[0] - began_s) * 1e3)
        self.gaps_ms += [(b - a) * 1e3 for a, b in zip(times, times[1:], strict=False)]


def main() -> None:
    url, model, streams, requests, tokens, file = sys.argv[1:]
    client = Client(url, model, int(tokens), int(requests))
    threads = [threading.Thread(target=client.work) for _ in range(int(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {name: getattr(client, name) for name in ("ttft_ms", "gaps_ms", "failed")}
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
