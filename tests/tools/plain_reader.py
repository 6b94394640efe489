"""What does a Python client need at least? One that reads, and does nothing with what it reads.

epoll, one recvmsg for each event with the kernel's time, the clock, and one list.append: no
figures, no JSON, nothing saved. What benchmark.py needs beside that is its own. Linux only; without
TLS.

Example:
    taskset -c 0 python tests/tools/plain_reader.py http://127.0.0.1:9100 --streams 1000
"""

from __future__ import annotations

import argparse
import json
import resource
import select
import socket
import time
import urllib.parse

SO_TIMESTAMPNS = 35
END = b"0\r\n\r\n"  # of a chunked message


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="of a server that answers with chunked streams")
    parser.add_argument("--streams", type=int, default=1000, help="at once, one request each")
    parser.add_argument("--tokens", type=int, default=128, help="events of each stream")
    args = parser.parse_args()
    read(urllib.parse.urlsplit(args.url), args.streams, args.tokens)
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = (used.ru_utime + used.ru_stime, used.ru_stime)
    whole, system = (1e6 * each / (args.streams * args.tokens) for each in spent)
    print(f"CPU {whole:.1f} ms per 1,000 events, {system:.1f} of them the kernel's")


def read(url: urllib.parse.SplitResult, streams: int, tokens: int) -> None:
    fields = {"model": "m", "stream": True, "max_tokens": tokens, "messages": []}
    body = json.dumps(fields).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    ready = select.epoll()
    address = (url.hostname, url.port or 80)
    socks = [socket.create_connection(address) for _ in range(streams)]
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        ready.register(sock, select.EPOLLIN)
    readers = {sock.fileno(): (sock.recvmsg, []) for sock in socks}
    for sock in socks:
        sock.sendall(request)
    clock, left = time.perf_counter_ns, streams
    while left:
        for descriptor, _ in ready.poll():
            receive, kept = readers[descriptor]
            data, ancillary, _, _ = receive(65536, 64)
            kept.append((data, ancillary, clock()))
            if not data or data.endswith(END):
                ready.unregister(descriptor)
                left -= 1


if __name__ == "__main__":
    main()
