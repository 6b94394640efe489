"""How exact are the figures that benchmark.py reports, and what does the whole process cost?

This runs benchmark.py as an operator does, against the server of tests/tools/accuracy.py, which
notes when it sends each event; beside it, in turn, it can run a client in C with kernel receive
times (the practical limit) and a plain one in Python (tests/tools/plain_client.py: aiohttp, times
after the read). Each is one process on one core, with a real-time priority if there is one.

    TTFT    reported TTFT - (first content sent - request received by the kernel)
    event   reported time of each event since its request - (sent - request received)
    ITL     reported time between two events - the time between their sends
    CPU     of the whole process, per 1,000 events with content
    start   from starting the process to its first connection

Linux only. Errors in µs, medians over the runs. With TLS the server has no kernel time of a
request, so that its own queue is in the error of the TTFT: compare it with the C client's, which
knows no TLS, or event times. A record and a row of the log are matched by the id of the answer.

Example:
    python tests/tools/whole_process.py --truth-server ./truth_server --c-client ./truth_client \
        --streams 64 256 1000 --runs 5 --cores 0 1 --priority 10
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.measured import Cost, run_measured  # noqa: E402

from livecheck.wire.metrics import percentile  # noqa: E402
from tools.accuracy import truth_server, write_log  # noqa: E402

Row = dict[str, Any]
Figures = dict[str, float]
LIMIT_S = 120.0
ERRORS = ("ttft", "event", "itl")
QUANTILES = (50, 99, 99.9)


def on_core(core: int | None, priority: int) -> list[str]:
    """The words before a command that bind it to a core and give it a real-time priority."""
    bound = [] if core is None else [which("taskset"), "-c", str(core)]
    return [*([which("chrt"), "-f", str(priority)] if priority else []), *bound]


def which(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return found


def command_of(
    client: str, args: argparse.Namespace, url: str, streams: int, out: Path
) -> list[str]:
    port = url.rsplit(":", 1)[1]
    words: Sequence[object]
    if client == "benchmark.py":
        words = (
            *(sys.executable, ROOT / "benchmark.py", "--url", url, "--inference-only"),
            *("--concurrency", streams, "--requests", streams * args.each, "--warmup", args.warmup),
            *("--max-tokens", args.tokens, "--results", out, "--no-verify-ssl", *args.more),
        )
    elif client == "C":
        words = (
            *(args.c_client, "--port", port, "--conc", streams, "--reqs", args.each),
            *("--tokens", args.tokens, "--ramp", 0, "--kts", "--out", out / "client.json"),
        )
    else:
        script = ROOT / "tests" / "tools" / "plain_client.py"
        words = (
            *(sys.executable, script, url, "--streams", streams, "--each", args.each),
            *("--tokens", args.tokens, "--out", out / "client.json"),
        )
    return [*on_core(args.cores[0] if args.cores else None, args.priority), *map(str, words)]


# --- what a client says, as (number of the request, event times since its sending in ns)

Said = tuple[int, list[int]]


def said_by_benchmark(path: Path) -> tuple[list[Said], dict[str, Any]]:
    document = json.loads(path.read_text())
    records = document["requests"]
    failed = [each["error_text"] for each in records if each["error"]]
    assert not failed, failed[0]
    said = [
        (int(each["answer_id"][-8:]), [round(time_ms * 1e6) for time_ms in each["event_ms"]])
        for each in records
    ]
    return said, document["metrics"]["client"]


def said_by_client(path: Path, log: Sequence[Row]) -> list[Said]:
    """What the C client and the plain one have written: `seq` has the number of each event."""
    kinds = {row["rid"]: row["kind"] for row in log}
    said = []
    for each in json.loads(path.read_text())["reqs"]:
        kind = kinds[each["rid"]]
        times = zip(each["seq"], each["t"], strict=True)
        said.append((each["rid"], [t - each["t0"] for seq, t in times if kind[seq] == "c"]))
    return said


def errors(said: Sequence[Said], log: Sequence[Row]) -> dict[str, list[float]]:
    """All errors in µs, by their name."""
    rows = {row["rid"]: row for row in log}
    found: dict[str, list[float]] = {name: [] for name in ERRORS}
    for rid, times in said:
        row = rows[rid]
        begun = row.get("krecv") or row["recv"]
        true = [
            sent - begun for kind, sent in zip(row["kind"], row["sent"], strict=True) if kind == "c"
        ]
        assert len(true) == len(times), f"{len(times)} events, {len(true)} were sent"
        found["ttft"].append((times[0] - true[0]) / 1e3)
        late = [(seen - was) / 1e3 for seen, was in zip(times, true, strict=True)]
        found["event"] += late
        found["itl"] += [abs(b - a) for a, b in zip(late, late[1:], strict=False)]
    return found


# --- one run


def run_once(client: str, args: argparse.Namespace, streams: int) -> Figures:
    server = on_core(args.cores[1] if args.cores else None, args.priority and args.priority + 1)
    flags = ["--ttft-ms", args.ttft_ms, "--itl-ms", args.itl_ms]
    flags += ["--ttft-jitter-ms", args.ttft_jitter_ms]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with truth_server(args.truth_server, args.tls, flags, server) as (url, log_file):
            words = command_of(client, args, url, streams, out)
            with (out / "shown").open("wb") as shown:
                cost = run_measured(words, shown, shown, LIMIT_S, out)
            assert cost.code == 0, (out / "shown").read_text()
            write_log(url)
            log = [json.loads(line) for line in log_file.read_text().splitlines()]
        return figures_of(client, out, log, cost, streams)


def figures_of(client: str, out: Path, log: list[Row], cost: Cost, streams: int) -> Figures:
    more: Figures = {}
    if client == "benchmark.py":
        said, about = said_by_benchmark(out / f"inference_c{streams}.json")
        more = {"merged": about["merged_reads"], "client_bound": about["client_bound"]}
    else:
        said = said_by_client(out / "client.json", log)
    found = errors(said, log)
    events = len(found["event"])
    return {
        **{f"{name} p{p:g}": percentile(found[name], p) for name in ERRORS for p in QUANTILES},
        "cpu_ms": cost.processor_s * 1e6 / events,
        "peak_mb": cost.memory_mb,
        "start_s": (min(row["accept"] for row in log) - cost.begun_ns) / 1e9,
        "spent_s": cost.spent_s,
        **more,
    }


# --- all runs


def median_of(runs: Sequence[Figures]) -> Figures:
    return {key: statistics.median(each[key] for each in runs) for key in runs[0]}


def lines(name: str, found: Figures) -> Iterator[str]:
    shown = []
    for each in ERRORS:
        values = (f"{found[f'{each} p{p:g}']:.1f}" for p in QUANTILES)
        shown.append(f"{each} {' / '.join(values)}")
    yield f"  {name:13} p50 / p99 / p99.9, µs: {', '.join(shown)}"
    more = f", {found['merged']:g} merged reads" if "merged" in found else ""
    more += ", client-bound" if found.get("client_bound") else ""
    yield (
        f"  {'':13} CPU {found['cpu_ms']:.1f} ms per 1,000 events, peak {found['peak_mb']:.0f} MB, "
        f"start {found['start_s']:.3f} s, {found['spent_s']:.1f} s in all{more}"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--truth-server", required=True, help="path of the built server")
    add("--tls", action="store_true", help="the server was built with TLS")
    add("--c-client", help="path of the built C client: run it, too")
    add("--plain", action="store_true", help="run the plain client, too")
    add("--streams", type=int, nargs="+", default=[64, 256, 1000], help="streams, level by level")
    add("--each", type=int, default=2, help="requests per stream, one by one")
    add("--tokens", type=int, default=128, help="events per request")
    add("--itl-ms", default="20", help="time between two events")
    add("--ttft-ms", default="100", help="time before the first event")
    add("--ttft-jitter-ms", default="0", help="by how much that differs, at most")
    add("--warmup", type=int, default=0, help="that of benchmark.py")
    add("--runs", type=int, default=1, help="of each client, in turn")
    add("--cores", type=int, nargs=2, help="core of the client and core of the server")
    add("--priority", type=int, default=0, help="real-time priority (chrt -f) of both")
    add("--more", nargs=argparse.REMAINDER, default=[], help="more options of benchmark.py, last")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    clients = ["benchmark.py", *(["C"] if args.c_client and not args.tls else [])]
    clients += ["plain"] if args.plain else []
    for streams in args.streams:
        runs: dict[str, list[Figures]] = {client: [] for client in clients}
        for _ in range(args.runs):
            for client in clients:
                runs[client].append(run_once(client, args, streams))
        print(f"{streams} streams, {'TLS' if args.tls else 'plain'}, median of {args.runs}")
        for client in clients:
            for line in lines(client, median_of(runs[client])):
                print(line, flush=True)


if __name__ == "__main__":
    main()
