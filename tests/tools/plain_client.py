"""A plain client, to be measured beside benchmark.py: what a benchmark script usually does.

One task of asyncio for each stream, aiohttp, the time taken when a line has been read, and each
event decoded at once. It is told to `tests/tools/whole_process.py`, which runs it, what it saw:
{"reqs": [{"rid", "t0", "seq", "t"}]}, times of `time.perf_counter_ns`.

    python tests/tools/plain_client.py http://127.0.0.1:9100 --streams 256 --out client.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp


async def stream(session: aiohttp.ClientSession, url: str, tokens: int) -> dict[str, Any]:
    body = {
        "model": "truth",
        "messages": [{"role": "user", "content": "Write a short poem about the sea"}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    numbers, times = [], []
    t0 = time.perf_counter_ns()
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        async for line in response.content:
            now_ns = time.perf_counter_ns()
            if line.startswith(b"data: {"):
                numbers.append(json.loads(line[6:])["x_seq"])
                times.append(now_ns)
        rid = int(response.headers["X-Request-Id"])
    return {"rid": rid, "t0": t0, "seq": numbers, "t": times}


async def user(
    session: aiohttp.ClientSession, url: str, args: argparse.Namespace, found: list[dict[str, Any]]
) -> None:
    for _ in range(args.each):
        found.append(await stream(session, url, args.tokens))


async def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    connector = aiohttp.TCPConnector(limit=0, ssl=False)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        users = [user(session, args.url, args, found) for _ in range(args.streams)]
        await asyncio.gather(*users)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=64, help="requests in flight")
    parser.add_argument("--each", type=int, default=1, help="requests per stream, one by one")
    parser.add_argument("--tokens", type=int, default=128, help="events per request")
    parser.add_argument("--out", type=Path, required=True, help="file for what was seen")
    args = parser.parse_args()
    args.out.write_text(json.dumps({"reqs": asyncio.run(run(args))}))


if __name__ == "__main__":
    main()
