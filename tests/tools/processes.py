"""How many streams do one and two processes of benchmark.py carry, and how exactly?

This runs benchmark.py with --processes against the server of tests/tools/accuracy.py, which notes
when the kernel had each request and when it sent each event. Requests are matched with its log by
the id that the server gives to an answer.

    TTFT     reported TTFT - (first content sent - request received by the kernel)
    event    reported time of each event since its request - (event sent - request received)
    carried  the p99 of both is at most --bound, and the level is not client-bound

Linux only. Errors in µs: the worst of the runs, since a level is carried each time or not at all.
`--cores` are those of benchmark.py, `--server-core` that of the server; where the two share one,
the server takes a part of it, and the figures say less than a machine with more cores would reach.

Example:
    python tests/tools/processes.py --truth-server ./truth_server --streams 500 1000 2000 \
        --processes 1 2 --cores 0,1 --server-core 0 --priority 10
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from livecheck.wire.metrics import percentile  # noqa: E402
from tools.accuracy import truth_server, write_log  # noqa: E402

Row = dict[str, Any]
LIMIT_S = 180.0


def prefix(cores: str | None, priority: int) -> list[str]:
    """The words before a command that bind it to cores and give it a real-time priority."""
    found = [which("taskset"), "-c", cores] if cores else []
    return [*found, which("chrt"), "-f", str(priority)] if priority else found


def which(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return found


def run_once(args: argparse.Namespace, processes: int, streams: int) -> Row:
    """One run of benchmark.py; its figures and errors."""
    pace = ["--itl-ms", f"{1000 / args.per_s:g}", "--ttft-ms", f"{args.ttft_ms:g}"]
    bound = args.cores if processes > 1 or not args.cores else args.cores.split(",")[-1]
    server = truth_server(args.truth_server, False, pace)
    with server as (url, log), tempfile.TemporaryDirectory() as folder:
        place_server(args, url)
        command = [
            *prefix(bound, args.priority),
            *(sys.executable, str(ROOT / "benchmark.py"), "--url", url, "--inference-only"),
            *("--concurrency", str(streams), "--requests", str(streams * args.each)),
            *("--max-tokens", str(args.tokens), "--processes", str(processes)),
            *("--results", folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        write_log(url)
        truth = {row["rid"]: row for row in map(json.loads, log.read_text().splitlines())}
        document = json.loads((Path(folder) / f"inference_c{streams}.json").read_text())
    ttft, event = errors_of(document["requests"], truth)
    client = document["metrics"]["client"]
    return {
        **{f"ttft p{p}": percentile(ttft, p) for p in (50, 99)},
        **{f"event p{p}": percentile(event, p) for p in (50, 99, 99.9)},
        "client_bound": client["client_bound"],
        "cpu_share": client["cpu_share"],
        "merged": client["merged_reads"],
        "events": len(event),
    }


def place_server(args: argparse.Namespace, url: str) -> None:
    """Bind the server, which is the newest process of that name, to its core."""
    port = url.rsplit(":", 1)[1]
    found = subprocess.run(
        [which("pgrep"), "-f", "-n", "--", f"--port {port}"], capture_output=True, text=True
    ).stdout.split()
    for pid in found[:1]:
        if args.server_core:
            subprocess.run(
                [which("taskset"), "-p", "-c", args.server_core, pid],
                stdout=subprocess.DEVNULL,
                check=True,
            )
        if args.priority:
            subprocess.run([which("chrt"), "-f", "-p", str(args.priority), pid], check=True)


def errors_of(records: Sequence[Row], truth: dict[int, Row]) -> tuple[list[float], list[float]]:
    """The errors of the TTFT and of the events, in µs."""
    ttft, event = [], []
    for record in records:
        row = truth[int(record["answer_id"].rpartition("-")[2])]
        received = row.get("krecv") or row["recv"]
        sent = [at for at, kind in zip(row["sent"], row["kind"], strict=True) if kind == "c"]
        assert len(sent) == len(record["event_ms"]), record["answer_id"]
        pairs = zip(record["event_ms"], sent, strict=True)
        found = [at_ms * 1e3 - (at_ns - received) / 1e3 for at_ms, at_ns in pairs]
        ttft.append(found[0])
        event += found
    return ttft, event


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--truth-server", required=True, help="path of the built server")
    add("--processes", type=int, nargs="+", default=[1, 2], help="for --processes, in turn")
    add("--streams", type=int, nargs="+", default=[500, 1000, 1500, 2000], help="in flight")
    add("--each", type=int, default=1, help="requests per stream")
    add("--tokens", type=int, default=128, help="events per request")
    add("--per-s", type=float, default=50, help="events of a stream per second")
    add("--ttft-ms", type=float, default=300, help="time before the first event")
    add("--runs", type=int, default=3)
    add("--bound", type=float, default=100, help="µs, of the p99")
    add("--cores", help="of benchmark.py, as taskset takes them; of one process the last one")
    add("--server-core")
    add("--priority", type=int, default=0, help="SCHED_FIFO, 0 for none")
    args = parser.parse_args()
    print("processes streams  TTFT p50     p99  event p50     p99   p99.9  CPU merged  carried")
    for processes in args.processes:
        for streams in args.streams:
            rows = [run_once(args, processes, streams) for _ in range(args.runs)]
            print(line_of(processes, streams, rows, args.bound), flush=True)


def line_of(processes: int, streams: int, rows: Sequence[Row], bound: float) -> str:
    worst = {key: max(row[key] for row in rows) for key in rows[0]}
    keys = ("ttft p50", "ttft p99", "event p50", "event p99", "event p99.9")
    times = [f"{worst[key]:9.0f}" for key in keys]
    carried = sum(
        max(row["ttft p99"], row["event p99"]) <= bound and not row["client_bound"] for row in rows
    )
    return (
        f"{processes:9} {streams:7} {''.join(times)} {worst['cpu_share']:4.0%} {worst['merged']:6}"
        f"  {carried} of {len(rows)}"
    )


if __name__ == "__main__":
    main()
