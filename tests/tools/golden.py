"""Writes down what every command says of the reference deployments, and finds what has changed.

For each command: its options, and for a sound deployment and some planted faults (simulated engine)
the exit code, the checks with their statuses, the keys of the result files, and the text with its
figures blanked out. A change of the code that is not meant to change any of it is tried like this:

    python tests/tools/golden.py write /tmp/before        # before the change
    python tests/tools/golden.py compare /tmp/before      # after it; exit 1 if something differs

A case that differs is run again, up to three times: a busy machine makes differences as well.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from reference import running  # noqa: E402
from reference.faults import FAULTS, Fault  # noqa: E402
from reference.faults.client_side import LOCUSTFILE, REPORT  # noqa: E402

SIM: dict[str, Any] = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
SLOWER: dict[str, Any] = {"engine": "sim", "ttft_ms": 20, "itl_ms": 4}
FAULTS_OF_A_SCRIPT = 12
TRIES = 3
AT_ONCE = 3
COMMANDS = (
    "benchmark.py",
    "report.py",
    "test_auth.py",
    "test_cors.py",
    "test_model_routing.py",
    "test_openai_sdk.py",
    "test_queue.py",
    "test_rate_limit.py",
    "test_scale_to_zero.py",
    "test_tools.py",
    "test_wol.py",
    "test_workload_routing.py",
)
FEW = "--requests 3 --max-tokens 8 --timeout 3"  # what the benchmark is given with any fault
# what figures, names made by chance and widths of a table are
BLANKS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{20,}\b|\b[0-9a-f]{8,}\b"), "#"),
    (re.compile(r"/tmp/[\w./-]+"), "/tmp/#"),
    (re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?"), "#"),
    (re.compile(r"[░█×]+"), "█"),
    (re.compile(r"#\*"), "#"),
    (re.compile(r"\n\s{4,}"), " "),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True)
class Case:
    """One run of a command. The arguments may name what the deployment exports: {health_url}."""

    name: str
    script: str
    arguments: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None


SOUND = (
    Case("benchmark", "benchmark.py", "--concurrency 1 4 --requests 8 --max-tokens 16", SLOWER),
    Case("benchmark_json", "benchmark.py", f"--output json {FEW}", SLOWER),
    Case("benchmark_open", "benchmark.py", "--rate 20 --requests 10 --max-tokens 8", SLOWER),
    Case("benchmark_slo", "benchmark.py", f"{FEW} --slo ttft_p50=500ms --slo e2e=5s", SLOWER),
    Case(
        "benchmark_capacity",
        "benchmark.py",
        "--find-capacity --max-level 2 --slo ttft_p95=2s --requests 3 --max-tokens 8",
        SLOWER,
    ),
    Case("benchmark_direct", "benchmark.py", "--direct-url {engine_url} --requests 20", SIM),
    Case("sdk", "test_openai_sdk.py", "", SLOWER),
    Case("sdk_verbose", "test_openai_sdk.py", "--only completion stream --verbose", SLOWER),
    Case(
        "scale",
        "test_scale_to_zero.py",
        "--health-url {health_url} --idle-timeout 2.5 --probe-interval 0.2 --max-tokens 4",
        {**SLOWER, "idle_timeout": 1, "load_ms": 800},
    ),
    Case(
        "queue",
        "test_queue.py",
        "--strict",
        {**SLOWER, "max_concurrent_requests": 1, "max_queue_size": 2},
    ),
    Case(
        "cors",
        "test_cors.py",
        "--origin https://app.example",
        {**SIM, "cors_origins": "https://app.example"},
    ),
    Case("cors_disabled", "test_cors.py", "--expect-disabled", SIM),
    Case("auth", "test_auth.py", "", {**SIM, "profile": "fleet"}),
    Case("auth_json", "test_auth.py", "--output json", {**SIM, "profile": "fleet"}),
    Case("routing", "test_model_routing.py", "--test-permissions", {**SIM, "profile": "fleet"}),
    Case(
        "wol",
        "test_wol.py",
        "--strict --wait-asleep 60 --listen-wol {wol_port} --burst 4 --timing",
        {**SIM, "profile": "fleet", "asleep": True, "idle_timeout": 2, "boot_ms": 1500},
    ),
    Case("wol_awake", "test_wol.py", "", {**SIM, "profile": "fleet"}),
    Case(
        "workload",
        "test_workload_routing.py",
        "--requests 20 --expect-runners 2 --analyze-timing",
        {**SLOWER, "profile": "fleet"},
    ),
    Case(
        "workload_one_by_one",
        "test_workload_routing.py",
        "--sequential --requests 5",
        {**SIM, "profile": "fleet"},
    ),
)


def fault_cases(every: bool) -> Iterator[Case]:
    """Some of each script's faults, from all over the list, or all of them."""
    by_script: dict[str, list[Fault]] = {}
    for fault in FAULTS:
        if fault.script in (LOCUSTFILE, REPORT):  # they are not run in this way
            continue
        by_script.setdefault(fault.script, []).append(fault)
    for script, faults in by_script.items():
        step = 1 if every else max(1, len(faults) // FAULTS_OF_A_SCRIPT)
        chosen = faults[::step] if every else faults[::step][:FAULTS_OF_A_SCRIPT]
        for fault in chosen:
            settings = {**SIM, "profile": fault.profile, **fault.options}
            arguments = " ".join(shlex.quote(str(each)) for each in fault.arguments)
            if script == "benchmark.py":
                arguments = f"{FEW} {arguments}"
            yield Case(f"fault {fault.name}", script, arguments, settings, fault.name)


# --- run a case


def run_case(case: Case) -> dict[str, Any]:
    """What a command makes of its deployment, in a form that is the same each time."""
    settings = dict(case.settings)
    settings.setdefault("profile", "gateway")
    if settings["profile"] == "gateway":
        settings.setdefault("rate_limit", 0)
    faults = [case.fault] if case.fault else []
    with tempfile.TemporaryDirectory() as folder, running(faults=faults, **settings) as deployment:
        exported = {"engine_url": "", **deployment.exported}
        arguments = shlex.split(case.arguments.format(**exported))
        if case.fault:
            credential = ["--api-key", exported.get("inference_api_key", "")]
            if "token_binary" in exported:
                credential = ["--token-binary", exported["token_binary"]]
            arguments = ["--url", deployment.url, *credential, *arguments]
        return run_command(case.script, arguments, Path(folder), deployment.environment)


def run_command(
    script: str, arguments: list[str], folder: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / script), "--results", "results", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    files = sorted((folder / "results").glob("*.json"))
    documents = {path.name: json.loads(path.read_text()) for path in files}
    is_json = "json" in arguments and "--output" in arguments
    return {
        "exit": done.returncode,
        "files": sorted(path.name for path in (folder / "results").glob("*")),
        "checks": {
            name: [[check["name"], status_of(check)] for check in document["checks"]]
            for name, document in documents.items()
        },
        "keys": {name: sorted(keys_of(document)) for name, document in documents.items()},
        "stdout": ["(JSON)"] if is_json else blanked(done.stdout),
        "stderr": blanked(done.stderr),
    }


def status_of(check: Mapping[str, Any]) -> str:
    """Whether the client kept up is about this machine, and may change from run to run."""
    return "PASS or WARN" if check["name"] == "client" else str(check["status"])


def keys_of(value: Any, at: str = "") -> set[str]:
    """The paths of all keys; those of evidence are only looked at one level deep."""
    if isinstance(value, list):
        return {key for each in value for key in keys_of(each, f"{at}[]")}
    if not isinstance(value, dict) or at.count("evidence") and not at.endswith("evidence"):
        return {at}
    return {key for name, each in value.items() for key in keys_of(each, f"{at}.{blank(name)}")}


def blank(text: str) -> str:
    for pattern, replacement in BLANKS:
        text = pattern.sub(replacement, text)
    return text


def blanked(text: str) -> list[str]:
    return [line.strip() for line in blank(text).splitlines()]


def options_of(script: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    usage = done.stdout.partition("\n\n")[0]
    return {"exit": done.returncode, "options": re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage)}


def report_of_everything() -> dict[str, Any]:
    """report.py on results that the other commands left, of the gateway's profile."""
    settings = {**SLOWER, "profile": "gateway", "rate_limit": 0, "max_concurrent_requests": 1}
    settings |= {"max_queue_size": 2, "cors_origins": "https://app.example"}
    with tempfile.TemporaryDirectory() as name, running(**settings) as deployment:
        folder, told = Path(name), {}
        for line in (
            f"benchmark.py {FEW}",
            "test_openai_sdk.py",
            "test_queue.py",
            "test_cors.py --origin https://app.example",
        ):
            script, *arguments = line.split()
            run_command(script, arguments, folder, deployment.environment)
        for form in ("text", "markdown", "json"):
            outputs = ["--output", form, "--html", "page.html", "--junit", "junit.xml"]
            command = [sys.executable, str(ROOT / "report.py"), "results", *outputs]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            shown = [] if form == "json" else blanked(done.stdout)
            keys = sorted(keys_of(json.loads(done.stdout))) if form == "json" else []
            told[form] = {"exit": done.returncode, "stdout": shown, "keys": keys}
        told["files"] = sorted(path.name for path in folder.glob("*.*"))
    return told


# --- write, compare


def all_cases(every: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for script in COMMANDS:
        found[f"options {script}"] = lambda script=script: options_of(script)  # type: ignore[misc]
    for case in (*SOUND, *fault_cases(every)):
        found[case.name] = lambda case=case: run_case(case)  # type: ignore[misc]
    found["report"] = report_of_everything
    return found


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{re.sub('[^a-z0-9]+', '_', name.lower())}.json"


def as_text(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def write(folder: Path, cases: Mapping[str, Callable[[], dict[str, Any]]]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, told in zip(cases, pool.map(lambda run: run(), cases.values()), strict=True):
            file_of(folder, name).write_text(as_text(told))
    print(f"{len(cases)} cases written to {folder}")
    return 0


def compare(folder: Path, cases: Mapping[str, Callable[[], dict[str, Any]]], brief: bool) -> int:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        compared = pool.map(lambda name: difference(folder, name, cases[name], brief), cases)
        changed = [each for each in compared if each]
    for text in changed:
        print(text)
    print(f"{len(changed)} of {len(cases)} cases differ from {folder}")
    return 1 if changed else 0


def difference(folder: Path, name: str, run: Callable[[], dict[str, Any]], brief: bool) -> str:
    """What differs each time, as a diff; an empty text when one run was the same."""
    path, text = file_of(folder, name), ""
    if not path.exists():
        return f"--- {name}: there is nothing to compare it with"
    before = without_words(path.read_text(), brief)
    for _ in range(TRIES):
        now = without_words(as_text(run()), brief)
        if now == before:
            return ""
        lines = difflib.unified_diff(before.splitlines(), now.splitlines(), name, "now", "", "", 1)
        text = "\n".join(lines)
    return text


def without_words(text: str, brief: bool) -> str:
    """With --brief only what no rewording may change: exit codes, checks, keys, options, files."""
    if not brief:
        return text
    told = json.loads(text)
    for part in (told, *(each for each in told.values() if isinstance(each, dict))):
        part.pop("stdout", None)
        part.pop("stderr", None)
    return as_text(told)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--brief", action="store_true", help="compare all but the words")
    parser.add_argument("--all-faults", action="store_true", help="every planted fault")
    parser.add_argument(
        "--case", metavar="TEXT", default="", help="only cases with this in the name"
    )
    parser.add_argument("--script", metavar="SCRIPT", help="only cases of this command")
    args = parser.parse_args()
    cases = all_cases(args.all_faults)
    if args.script:
        names = {
            case.name
            for case in (*SOUND, *fault_cases(args.all_faults))
            if case.script == args.script
        } | {f"options {args.script}"}
        cases = {name: run for name, run in cases.items() if name in names}
    cases = {name: run for name, run in cases.items() if args.case in name}
    if args.action == "write":
        return write(args.folder, cases)
    return compare(args.folder, cases, args.brief)


if __name__ == "__main__":
    sys.exit(main())
