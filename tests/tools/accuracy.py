"""How exact are the times that livecheck/wire measures?

This compares them with the times of a server that notes when it sends each event. pytest does not
collect this file, because that server has to be built from C first. It writes one JSON line for
each request: its number (rid), when it was received (krecv by the kernel, else recv), and for each
event its kind and when it was sent (CLOCK_MONOTONIC, ns). Its answers have a header X-Request-Id.

    event time   when an event was received - when it was sent, for each event with content
    TTFT         (first content received - t0) - (first content sent - request received)

Example:
    python tests/tools/accuracy.py --truth-server ./truth_server --streams 64 256
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from livecheck.wire import sse, wire
from livecheck.wire.metrics import percentile


@contextlib.contextmanager
def truth_server(
    binary: str, tls: bool, arguments: Sequence[str], before: Sequence[str] = ()
) -> Iterator[tuple[str, Path]]:
    """Run the server on a free port. Gives its URL and its log file. `before`: words that stand
    before its command."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        log = Path(folder) / "truth.jsonl"
        command = [*before, binary, "--port", str(port), "--log", str(log), *arguments]
        if tls:
            import trustme

            cert = trustme.CA().issue_cert("127.0.0.1")
            cert.private_key_pem.write_to_path(f"{folder}/key.pem")
            cert.cert_chain_pems[0].write_to_path(f"{folder}/cert.pem")
            command += ["--cert", f"{folder}/cert.pem", "--key", f"{folder}/key.pem"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not accepts(port):
                time.sleep(0.02)
            yield f"{'https' if tls else 'http'}://127.0.0.1:{port}", log
        finally:
            process.terminate()
            process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def request_streams(
    url: str, streams: int, each: int, tokens: int, stamps: bool
) -> list[wire.Reply]:
    body = json.dumps(
        {
            "model": "truth",
            "messages": [{"role": "user", "content": "Write a short poem about the sea"}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    request = wire.Request("POST", "/v1/chat/completions", body)
    with wire.Wire(wire.Target(url, verify=False), 120, kernel_stamps=stamps) as instrument:
        return instrument.exchange([request] * (streams * each), streams)


def compare(replies: Sequence[wire.Reply], log: Path) -> tuple[list[float], list[float]]:
    """The errors of the event times and those of the TTFT, in microseconds."""
    truth = {row["rid"]: row for row in map(json.loads, log.read_text().splitlines())}
    events, ttfts = [], []
    for reply in replies:
        assert reply.failure is None and reply.t0_ns is not None, reply.failure
        row = truth[int(reply.message.header("x-request-id") or 0)]
        arrivals = [event.time_ns for event in sse.events(reply.body, reply.marks)[0]]
        content = [index for index, kind in enumerate(row["kind"]) if kind == "c"]
        events += [(arrivals[i] - row["sent"][i]) / 1e3 for i in content]
        true_ttft = row["sent"][content[0]] - (row.get("krecv") or row["recv"])
        ttfts.append((arrivals[content[0]] - reply.t0_ns - true_ttft) / 1e3)
    return events, ttfts


def summary_line(label: str, values: Sequence[float]) -> str:
    shown = (f"p{p:g} {percentile(values, p):8.1f}" for p in (50, 99, 99.9))
    return f"  {label:18} {'  '.join(shown)}  max {max(values):8.1f}  n {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--truth-server", required=True, help="path of the built server")
    parser.add_argument("--tls", action="store_true", help="the server was built with TLS")
    parser.add_argument(
        "--streams", type=int, nargs="+", default=[64, 256], help="concurrent streams, run by run"
    )
    parser.add_argument("--each", type=int, default=2, help="requests per stream, one by one")
    parser.add_argument("--tokens", type=int, default=128, help="events per request")
    parser.add_argument("--itl-ms", default="20", help="time between two events")
    parser.add_argument("--ttft-ms", default="100", help="time before the first event")
    parser.add_argument(
        "--no-stamps", action="store_true", help="do not use the kernel's receive times"
    )
    args = parser.parse_args()
    arguments = ["--itl-ms", args.itl_ms, "--ttft-ms", args.ttft_ms]
    for streams in args.streams:
        with truth_server(args.truth_server, args.tls, arguments) as (url, log):
            before_s = time.process_time()
            replies = request_streams(url, streams, args.each, args.tokens, not args.no_stamps)
            cpu_s = time.process_time() - before_s
            write_log(url)
            events, ttfts = compare(replies, log)
        reads = sum(len(reply.reads) for reply in replies)
        print(f"{streams} streams, {'TLS' if args.tls else 'plain'}, errors in µs")
        print(summary_line("event time", events))
        print(summary_line("TTFT", ttfts))
        cpu_ms = cpu_s / len(events) * 1e6
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"  receive CPU {cpu_ms:.1f} ms per 1,000 events, {reads} reads, peak {peak_mb:.0f} MB"
        )


def write_log(url: str) -> None:
    """Make the server write its log."""
    with wire.Wire(wire.Target(url, verify=False), 10) as instrument:
        instrument.exchange([wire.Request("GET", "/truth/dump")])


if __name__ == "__main__":
    main()
