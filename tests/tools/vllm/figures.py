"""Our figures beside vLLM's own, for the same requests. `make peers-vllm` runs this.

    python tests/tools/vllm/figures.py --requests 40 --concurrency 1 4

vLLM serves a model with random weights on a CPU and counts in histograms how long things took. For
each level the means of benchmark.py are compared with the means of the histograms. Exit code 1 if
one of them differs by more than 5 % and by more than 2 ms, which HTTP takes and vLLM cannot see.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
VLLM = ROOT / ".venv" / "vllm"
NAME = "tiny"
PROMPT = "Tell me of the sea, of ships and of the people who sail on them. " * 12
START_S = 600.0
SAME = 0.05
SAME_MS = 2.0  # the way through HTTP
ENVIRONMENT = {
    "LD_LIBRARY_PATH": str(VLLM / "stubs"),
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
SERVER = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "8"]


@dataclass(frozen=True)
class Figure:
    """A mean that both have: its name, our metric and their histogram."""

    name: str
    ours: str
    theirs: str


FIGURES = (
    Figure("TTFT", "ttft_ms", "time_to_first_token_seconds"),
    Figure("ITL", "itl_ms", "inter_token_latency_seconds"),
    Figure("E2E", "e2e_ms", "e2e_request_latency_seconds"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--max-tokens", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, vllm(Path(folder)) as url:
        benchmark(url, folder, 2, 8, args.max_tokens)  # so that nothing is loaded later
        same = [compare(url, folder, level, args) for level in args.concurrency]
    print("the figures are the same" if all(same) else "THE FIGURES DIFFER")
    return 0 if all(same) else 1


@contextlib.contextmanager
def vllm(folder: Path) -> Iterator[str]:
    """vLLM with a model made for it; its URL, when it serves."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    python, model, url = VLLM / "bin" / "python", folder / "model", f"http://127.0.0.1:{port}"
    environment = {**os.environ, **ENVIRONMENT, "HOME": str(folder)}
    subprocess.run([python, HERE / "model.py", model], env=environment, check=True)
    # not the command `vllm`, which asks for the version of a package of another name
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *SERVER]
    command += ["--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )
    try:
        wait_until_ready(url, server, log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    print("starting vLLM ...", flush=True)
    end_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5)
            return
        if server.poll() is not None or time.monotonic() > end_s:
            raise SystemExit(f"vLLM does not start:\n{log.read_text()[-3000:]}")
        time.sleep(1)


def benchmark(url: str, folder: str, level: int, requests: int, tokens: int) -> dict[str, Any]:
    """The document of one level."""
    numbers = {"concurrency": level, "requests": requests, "max-tokens": tokens, "warmup": 0}
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    target = ["--url", url, "--inference-only", "--prompt", PROMPT, "--results", folder]
    command = [sys.executable, ROOT / "benchmark.py", *target, *options]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"benchmark.py failed:\n{finished.stdout}{finished.stderr}")
    document: dict[str, Any] = json.loads((Path(folder) / f"inference_c{level}.json").read_text())
    return document


def read_metrics(url: str) -> dict[str, float]:
    """vLLM's counters by name, without their labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.findall(r"^vllm:(\w+)\{[^\n]*\} (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def compare(url: str, folder: str, level: int, args: argparse.Namespace) -> bool:
    """Print the figures of one level; whether they are the same."""
    before = read_metrics(url)
    document = benchmark(url, folder, level, args.requests, args.max_tokens)
    after = read_metrics(url)
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    ours = sum(record["output_tokens"] for record in document["requests"])
    theirs = round(grown["generation_tokens_total"])
    print(f"concurrency {level}: output tokens {ours} and {theirs}")
    same = [ours == theirs]
    for figure in FIGURES:
        own_ms = 1e3 * grown[f"{figure.theirs}_sum"] / grown[f"{figure.theirs}_count"]
        ours_ms = document["metrics"][figure.ours]["mean"]
        off_ms = abs(ours_ms - own_ms)
        same.append(off_ms <= max(SAME * own_ms, SAME_MS))
        print(f"  {figure.name:5} {ours_ms:9.2f} ms and {own_ms:9.2f} ms: {ours_ms / own_ms:.3f}")
    return all(same)


if __name__ == "__main__":
    sys.exit(main())
