"""How exact are the figures of other clients, and ours, for the same work? `make peers-clients`

Each client runs on one processor against the truth server (reference/truth.py) on another one, and
asks for the same number of streams, requests and tokens. What it reports is compared with what was
true: the p50 and the p99 of its TTFT with those of the true TTFTs, and the p99 of its ITL with that
of all true gaps. Percentiles are compared, not single requests, because not every client saves
these. A client that cannot be installed or run is a row with the reason; the other rows are made
all the same, the last line names it, and the exit code is 1.

    TTFT, ITL    reported percentile minus true percentile
    CPU          processor time of the client with all its processes, for each 1,000 events, in ms
    first        from its start to its first request, in s
    MB           its peak of memory, all processes together (looked at twice a second)

Each client is installed from the package index into an environment of its own, below .venv/clients
(8 GB together, most of it guidellm's).

Example:
    python tests/tools/clients.py --streams 64 256 --only benchmark.py servebench
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = map(str, (ROOT, ROOT / "tests"))

from helpers.plain_client import family, rss_mib  # noqa: E402

from livecheck.load.truth_trial import (  # noqa: E402
    Trial,
    TrialError,
    ask,
    process,
    separate_processors,
    truth_server,
    wait,
)
from livecheck.wire.client_error import true_ms  # noqa: E402
from livecheck.wire.metrics import percentile  # noqa: E402
from tools.fidelity import machine, new_parser  # noqa: E402

HOME = ROOT / ".venv" / "clients"
STREAMS = (64, 256, 1000)
MOST_PER_S = 20_000  # events of all streams together: more than that is too much for most clients
TTFT_MS, ITL_MS, TOKENS, PER_STREAM = 100.0, 20.0, 64, 2
LIMIT_S = 180.0  # for one client at one level
LOOK_S = 0.5
LINE = 100  # characters of a reason


@dataclass(frozen=True)
class Reported:
    """What a client says; None: it says nothing of that. `requests`: how many it measured."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p99_ms: float | None
    requests: int


@dataclass(frozen=True)
class Work:
    """One run: where, what, and the folder that the client may write to."""

    url: str
    trial: Trial
    folder: Path

    @property
    def counts(self) -> tuple[str, str, str]:
        """Streams, requests and tokens, for a command line."""
        return str(self.trial.concurrency), str(self.trial.requests), str(self.trial.tokens)


@dataclass(frozen=True)
class Client:
    """`package`: what pip installs; None: it is ours. `remark`: about its figures."""

    name: str
    package: str | None
    command: Callable[[Work], Sequence[str]]
    read: Callable[[Work], Reported]
    remark: str = ""

    @property
    def label(self) -> str:
        return (self.package or self.name).replace("==", " ")


def reported(ttft_ms: Sequence[float], gaps_ms: Sequence[float]) -> Reported:
    """The percentiles that follow from single requests."""
    itl = percentile(gaps_ms, 99) if gaps_ms else None
    return Reported(percentile(ttft_ms, 50), percentile(ttft_ms, 99), itl, len(ttft_ms))


# --- the clients: how each is started, and where it says what


def ours(work: Work) -> list[str]:
    streams, requests, tokens = work.counts
    load = ("--concurrency", streams, "--requests", requests, "--max-tokens", tokens)
    where = ("--url", work.url, "--results", str(work.folder), "--inference-only")
    return [sys.executable, str(ROOT / "benchmark.py"), *where, *load, "--processes", "1"]


def read_ours(work: Work) -> Reported:
    document = json.loads((work.folder / f"inference_c{work.trial.concurrency}.json").read_text())
    figures = document["metrics"]
    ttft, itl = figures["ttft_ms"], figures["itl_ms"]
    return Reported(ttft["p50"], ttft["p99"], itl["p99"], figures["succeeded"])


def servebench(work: Work) -> list[str]:
    streams, requests, tokens = work.counts
    load = ("--concurrency", streams, "--num-requests", requests, "--output-len", tokens)
    more = ("--input-len", "16", "--out", str(work.folder / "out.json"))
    return [
        program("servebench"),
        "run",
        "--url",
        f"{work.url}/v1",
        "--model",
        "truth",
        *load,
        *more,
    ]


def read_servebench(work: Work) -> Reported:
    (level,) = json.loads((work.folder / "out.json").read_text())["levels"]
    good = [each for each in level["requests"] if each["ok"]]
    gaps = [gap * 1e3 for each in good for gap in gaps_of(each["chunk_times"])]
    return reported([each["ttft"] * 1e3 for each in good], gaps)


def guidellm(work: Work) -> list[str]:
    streams, requests, tokens = work.counts
    tokenizer = make_tokenizer(work.folder)
    return [
        *("env", "HF_HUB_OFFLINE=1", program("guidellm"), "run", "--disable-console"),
        *("--backend", f"kind=openai_http,target={work.url},model=truth"),
        *("--profile", f"kind=concurrent,streams={streams}"),
        *("--constraint", f"kind=max_requests,count={requests}"),
        *("--tokenizer", f"kind=hf_auto,model={tokenizer}"),
        *("--data", f"kind=synthetic_text,prompt_tokens=16,output_tokens={tokens}"),
        *("--output", f"kind=json,path={work.folder / 'out.json'}"),
    ]


def read_guidellm(work: Work) -> Reported:
    (level,) = json.loads((work.folder / "out.json").read_text())["benchmarks"]
    ttft, itl = (
        level["metrics"][f"{name}_ms"]["successful"]
        for name in ("time_to_first_token", "inter_token_latency")
    )
    return Reported(
        ttft["percentiles"]["p50"],
        ttft["percentiles"]["p99"],
        itl["percentiles"]["p99"],
        ttft["count"],
    )


def aiperf(work: Work) -> list[str]:
    streams, requests, tokens = work.counts
    return [
        *(program("aiperf"), "profile", "--model", "truth", "--url", work.url, "--streaming"),
        *("--endpoint-type", "chat", "--concurrency", streams, "--request-count", requests),
        *("--output-tokens-mean", tokens, "--synthetic-input-tokens-mean", "16"),
        *("--tokenizer", str(make_tokenizer(work.folder)), "--use-server-token-count"),
        *("--use-legacy-max-tokens", "--ui-type", "none", "--artifact-dir", str(work.folder)),
    ]


def read_aiperf(work: Work) -> Reported:
    rows = (work.folder / "profile_export.jsonl").read_text().splitlines()
    measured = [row["metrics"] for row in map(json.loads, rows)]
    good = [each for each in measured if "time_to_first_token" in each]
    gaps = [gap for each in good for gap in each["inter_chunk_latency"]["value"]]
    return reported([each["time_to_first_token"]["value"] for each in good], gaps)


def plain(work: Work) -> list[str]:
    file = str(ROOT / "tests/tools/plain_threads.py")
    return [sys.executable, file, work.url, "truth", *work.counts, str(work.folder / "out.json")]


def read_plain(work: Work) -> Reported:
    found = json.loads((work.folder / "out.json").read_text())
    return reported(found["ttft_ms"], found["gaps_ms"])


CLIENTS = (
    Client("benchmark.py", None, ours, read_ours),
    Client("servebench", "servebench==1.1.3", servebench, read_servebench),
    Client(
        "guidellm",
        "guidellm==0.8.1",
        guidellm,
        read_guidellm,
        "its ITL is the mean gap of each request",
    ),
    Client("aiperf", "aiperf==0.13.0", aiperf, read_aiperf),
    Client("plain threads", None, plain, read_plain),
)


def gaps_of(times: Sequence[float]) -> list[float]:
    return [later - sooner for sooner, later in zip(times, times[1:], strict=False)]


def program(name: str) -> str:
    return str(HOME / name / "bin" / name)


def make_tokenizer(folder: Path) -> Path:
    """A tokenizer with a token for each byte, for clients that make their prompts with one: nothing
    has to be fetched for it."""
    place = folder / "tokenizer"
    place.mkdir(exist_ok=True)
    ends = {"id": 256, "content": "<end>", "special": True, "normalized": False}
    ends |= {"single_word": False, "lstrip": False, "rstrip": False}
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    by_bytes |= {"use_regex": True}
    model = {"type": "BPE", "vocab": byte_names() | {"<end>": 256}, "merges": []}
    whole = {"version": "1.0", "added_tokens": [ends], "model": model}
    whole |= {"pre_tokenizer": by_bytes, "decoder": by_bytes}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 100_000}
    kind |= {f"{name}_token": "<end>" for name in ("eos", "bos", "pad")}
    about = {"model_type": "gpt2", "vocab_size": 257, "bos_token_id": 256, "eos_token_id": 256}
    files = {"tokenizer.json": whole, "tokenizer_config.json": kind, "config.json": about}
    for name, content in files.items():
        (place / name).write_text(json.dumps(content))
    return place


def byte_names() -> dict[str, int]:
    """The character that stands for each byte in the vocabulary of a byte-level tokenizer."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {chr(byte): byte for byte in printable}
    return names | {chr(256 + place): byte for place, byte in enumerate(others)}


# --- install and measure


@functools.cache
def why_not_installed(client: Client) -> str | None:
    """Installs a client, if need be; the reason why it cannot be. It is tried once, not for each
    level, as it may take minutes to fail."""
    place = HOME / client.name
    if client.package is None or (place / "ready").exists():
        return None
    print(f"Installing {client.package} into {place} (once) ...", file=sys.stderr, flush=True)
    pip = [str(place / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--quiet", "--only-binary", ":all:", client.package]
    for command in ([sys.executable, "-m", "venv", "--clear", str(place)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(place, ignore_errors=True)  # gigabytes that the next one may need
            return f"cannot be installed: {why_pip_failed(done.stderr or done.stdout)}"
    (place / "ready").touch()
    return None


def why_pip_failed(said: str) -> str:
    """Its last line; that no version is for this Python stands before it."""
    unfit = [line for line in said.splitlines() if "Requires-Python" in line]
    return last_line(unfit[0].removeprefix("ERROR: ") if unfit else said)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["it says nothing"])[-1][:LINE]


@dataclass(frozen=True)
class Row:
    """One run of a client; errors in ms."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p99_ms: float | None
    cpu_ms: float | None
    first_s: float | None
    peak_mb: float | None


def measure(client: Client, trial: Trial) -> Row:
    """Raises TrialError with the reason why there is no row."""
    server_on, client_on = separate_processors()
    client_on = {min(client_on)} if client_on else None
    with (
        tempfile.TemporaryDirectory(prefix="clients-") as name,
        truth_server(trial, name, server_on) as url,
        tempfile.TemporaryFile() as said,
    ):
        work = Work(url, trial, Path(name))
        command = client.command(work)
        started_ns = time.perf_counter_ns()
        out = {"stdout": said.fileno(), "stderr": said.fileno()}
        with process(command, name, client_on, **out) as running, Memory(running.pid) as memory:
            cpu_s, peak_mb = wait(running, LIMIT_S)
        try:
            found, truth = client.read(work), ask(f"{url}/truth")
            peak_mb = max(peak_mb or 0, memory.peak_mb) or None
            return row_of(found, truth, started_ns, cpu_s, peak_mb)
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
            said.seek(0)
            told = last_line(said.read().decode(errors="replace"))
            raise TrialError(f"no figures ({type(error).__name__}): {told}") from None


def row_of(
    found: Reported,
    truth: Mapping[str, Any],
    started_ns: int,
    cpu_s: float | None,
    peak_mb: float | None,
) -> Row:
    """What the client says, minus what was true of the requests that it measured: the last ones,
    as those of a warm-up come first."""
    notes = sorted(truth["requests"], key=lambda note: note["received_ns"])
    true = [true_ms(note) for note in notes[-found.requests :]]
    events = sum(len(note["sent_ns"]) for note in notes)
    first = [times[0] for times in true]
    gaps = [gap for times in true for gap in gaps_of(times)]
    itl_ms = found.itl_p99_ms
    return Row(
        found.ttft_p50_ms - percentile(first, 50),
        found.ttft_p99_ms - percentile(first, 99),
        None if itl_ms is None else itl_ms - percentile(gaps, 99),
        None if cpu_s is None else cpu_s / events * 1e6,
        (truth["first_request_ns"] - started_ns) / 1e9,
        peak_mb,
    )


class Memory(threading.Thread):
    """Watches how much memory a process and its descendants have together."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._ended = pid, threading.Event()
        self.peak_mb = 0.0

    def run(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self.peak_mb = max(self.peak_mb, rss_mib(family(self._pid)))
            except OSError:  # one of them has just ended, or there is no /proc
                continue

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


# --- show

COLUMNS = ("client", "streams", "TTFT p50", "TTFT p99", "ITL p99", "CPU", "first", "MB")


def table(args: argparse.Namespace, without: list[str]) -> Iterator[str]:
    """The table in Markdown, line by line as it is measured. `without`: the labels of clients of
    which there are no figures at some level are added to it."""
    yield f"Reported minus true: {date.today()}, {machine()}"
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|" + "---|" * len(COLUMNS)
    for client in args.only:
        for streams in args.streams:
            try:
                cells = cells_of(client, streams, args.repeat)
            except TrialError as error:
                cells = [str(error).replace("|", "/"), *[""] * (len(COLUMNS) - 3)]
                without += [client.label] * (client.label not in without)
            yield f"| {' | '.join((client.label, f'{streams:,}', *cells))} |"
    yield ""
    for client in args.only:
        if client.remark:
            yield f"{client.label}: {client.remark}."


def cells_of(client: Client, streams: int, repeat: int) -> list[str]:
    """Medians over the runs. Raises TrialError."""
    itl_ms = max(ITL_MS, streams * 1e3 / MOST_PER_S)
    trial = Trial(streams, PER_STREAM * streams, TOKENS, TTFT_MS, itl_ms, timeout_s=LIMIT_S)
    if reason := why_not_installed(client):
        raise TrialError(reason)
    rows = [measure(client, trial) for _ in range(repeat)]

    def median(name: str) -> float | None:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        return statistics.median(known) if known else None

    times = [time_words(median(name)) for name in ("ttft_p50_ms", "ttft_p99_ms", "itl_p99_ms")]
    return [
        *times,
        plain_number(median("cpu_ms"), 0),
        *(plain_number(median(name), digits) for name, digits in (("first_s", 2), ("peak_mb", 0))),
    ]


def time_words(value_ms: float | None) -> str:
    if value_ms is None:
        return "-"
    if abs(value_ms) < 1:
        return f"{value_ms * 1e3:+.0f} µs"
    return f"{value_ms:+,.1f} ms" if abs(value_ms) < 100 else f"{value_ms:+,.0f} ms"


def plain_number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def named(name: str) -> Client:
    known = {client.name: client for client in CLIENTS}
    if name not in known:
        raise argparse.ArgumentTypeError(f"there is no {name!r} among {', '.join(known)}")
    return known[name]


def build_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, STREAMS)
    names = ", ".join(client.name for client in CLIENTS)
    parser.add_argument(
        "--only", type=named, nargs="+", default=CLIENTS, metavar="CLIENT", help=f"of {names}"
    )
    return parser


def main() -> int:
    # so that what was started is ended too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("NO_COLOR", "1")
    without: list[str] = []
    for text in table(build_parser().parse_args(), without):
        print(text, flush=True)
    if without:
        print(f"No figures of {', '.join(without)}: the rows say why", file=sys.stderr)
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main())
