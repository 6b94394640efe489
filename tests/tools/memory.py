"""How much memory does a long level take? Runs benchmark.py against the reference's sim engine, and
prints what its process holds at some moments, its peak, and the size of the result file.

    python tests/tools/memory.py                                ten minutes at 50 streams
    python tests/tools/memory.py --duration 60 --at 10 30 60

Linux only: it reads VmRSS and VmHWM of /proc/PID/status.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from reference import running  # noqa: E402

MB = 1 << 20
DEPLOYMENT = {"engine": "sim", "ttft_ms": 100, "itl_ms": 15, "rate_limit": 0}


def memory_mb(pid: int) -> tuple[float, float] | None:
    """What a process holds in memory, and its peak; None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if line.startswith("Vm"))
    if "VmRSS" not in fields:
        return None
    rss_kb, peak_kb = (int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    return rss_kb / 1024, peak_kb / 1024


def watch(process: subprocess.Popen[bytes], moments_s: list[float]) -> None:
    begun_s, left = time.monotonic(), sorted(moments_s)
    peak_mb = 0.0
    while process.poll() is None:
        found = memory_mb(process.pid)
        spent_s = time.monotonic() - begun_s
        if found:
            peak_mb = max(peak_mb, found[1])
        if found and left and spent_s >= left[0]:
            print(f"{left.pop(0):6g} s: {found[0]:6.1f} MB, peak {found[1]:6.1f} MB", flush=True)
        time.sleep(0.05)
    spent_s = time.monotonic() - begun_s
    print(f"ended after {spent_s:.0f} s (exit {process.returncode}), peak {peak_mb:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concurrency", type=int, default=50, help="requests in flight")
    parser.add_argument("--duration", type=float, default=600, help="seconds")
    parser.add_argument("--max-tokens", type=int, default=64, help="length of an answer")
    parser.add_argument(
        "--at", type=float, nargs="+", default=[60, 300, 600], help="seconds after the start"
    )
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(**DEPLOYMENT, slots=args.concurrency) as deployment,
    ):
        command = [sys.executable, ROOT / "benchmark.py", "--inference-only", "--results", folder]
        command += ["--url", deployment.url, "--api-key", deployment.api_key]
        command += ["--concurrency", args.concurrency, "--duration", args.duration]
        command += ["--max-tokens", args.max_tokens]
        with subprocess.Popen(list(map(str, command)), cwd=folder) as process:
            watch(process, args.at)
        saved = Path(folder) / f"inference_c{args.concurrency}.json"
        requests = json.loads(saved.read_text())["requests"]
        print(f"{len(requests)} answers, {saved.stat().st_size / MB:.1f} MB in the result file")


if __name__ == "__main__":
    main()
