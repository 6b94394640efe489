"""Result files as the scripts save them, for the tests of the report."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from livecheck.core.checks import Check, Exit, Status
from livecheck.core.result_file import Document, to_json
from livecheck.wire import metrics

START = datetime.now(timezone.utc)
RUNS = itertools.count()  # each run is 10 ms older than the one before: no two start together
URL = "http://127.0.0.1:8000"
GATEWAY_SCRIPTS = {
    "openai_sdk_test": "test_openai_sdk",
    "scale_to_zero": "test_scale_to_zero",
    "queue_behavior": "test_queue",
    "cors": "test_cors",
    "concurrency": "test_concurrency",
    "tools": "test_tools",
}
FLEET_SCRIPTS = {
    "auth": "test_auth",
    "model_routing": "test_model_routing",
    "workload_routing": "test_workload_routing",
    "wol": "test_wol",
}
SCRIPTS = GATEWAY_SCRIPTS | FLEET_SCRIPTS
NOT_MEASURED = (  # of a request that failed
    "ttft_ms",
    "e2e_ms",
    "tpot_ms",
    "tokens_per_s",
    "output_tokens",
    "token_source",
    "cached_tokens",
    "tls_ms",
    "retry_after_s",
    "server_tokens_per_s",
)


def script_result(
    script: str,
    name: str,
    checks: Sequence[Check],
    figures: Mapping[str, Any] | None = None,
    requests: Sequence[dict[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
    stopped: tuple[Exit, str] | None = None,
    age: timedelta = timedelta(minutes=5),
    **about: Any,
) -> dict[str, Any]:
    """The content of a result file, made by the class that the scripts use."""
    document = Document(name, lambda _: True, strict=False)
    document.add(*checks)
    document.metrics, document.requests = dict(figures or {}), list(requests)
    if stopped:
        document.stop(*stopped)
    document.finish()
    shared = {
        "script": script,
        "tool_version": "0.1.0",
        "target": {"url": URL, "model": "sea-7b", "server": None},
        "client": {"python": "3.11.7", "platform": "Linux", "clock": "kernel"},
        "options": {"only": None, "skip": [], **(options or {})},
        **about,
    }
    content = json.loads(to_json(document.as_dict(shared)))
    started = START - age - timedelta(milliseconds=10 * next(RUNS))
    return content | {"started_at": started.isoformat(timespec="milliseconds")}


def passed(name: str = "all") -> Check:
    return Check(name, Status.PASS, "as it should be")


def failed(name: str = "all", detail: str = "not as it should be") -> Check:
    return Check(name, Status.FAIL, detail)


def result(name: str, *checks: Check, **more: Any) -> dict[str, Any]:
    """The result of a script that measures no performance."""
    return script_result(SCRIPTS[name], name, checks or (passed(),), **more)


def queue(served: int, waiting: int, *checks: Check, **more: Any) -> dict[str, Any]:
    """queue_behavior.json of a deployment with these limits."""
    figures = {"max_concurrent": served, "max_queue": waiting, "served": served + waiting}
    return result("queue_behavior", *checks, figures=figures, **more)


def overhead(
    ping_ms: float = 1.0, edge: str | None = None, probes: int = 50, **more: Any
) -> dict[str, Any]:
    """gateway_overhead.json. The network takes 0.2 ms of each probe, unless an edge hides that."""
    chance = random.Random(1)
    records, figures = [], {"net_not_separable": edge}
    for path, name in (("/ping", "ping"), ("/health", "health")):
        own = [probe(path, ping_ms * chance.lognormvariate(0, 0.1)) for _ in range(probes)]
        raw = [each["ttfb_ms"] for each in own]
        net = [] if edge else [each["ttfb_ms"] - each["round_trip_ms"] for each in own]
        figures |= {f"{name}_ms": metrics.summary(raw), f"{name}_net_ms": metrics.summary(net)}
        records += own
    checks = more.pop("checks", (passed("ping"), passed("health")))
    return script_result(
        "benchmark", "gateway_overhead", checks, {"gateway": figures}, records, **more
    )


def probe(path: str, spent_ms: float) -> dict[str, Any]:
    times = {"ttfb_ms": round(spent_ms, 4), "round_trip_ms": 0.2}
    return {"path": path, "status": 200, "error": None, **times}


def level(
    concurrency: int = 1,
    requests: int = 30,
    ttft_ms: float = 100.0,
    tpot_ms: float = 8.0,
    noise: float = 0.02,
    errors: Sequence[str] = (),
    seed: int = 1,
    **more: Any,
) -> dict[str, Any]:
    """inference_c<N>.json with lognormal times; the first requests failed with these errors."""
    chance = random.Random(seed)
    records = []
    for index in range(requests):
        factors = chance.lognormvariate(0, noise), chance.lognormvariate(0, noise)
        sent_ms, error = index * (ttft_ms + 16 * tpot_ms), errors[index : index + 1]
        if error:
            records.append(failed_record(index, sent_ms, error[0]))
        else:
            records.append(record(index, sent_ms, ttft_ms * factors[0], tpot_ms * factors[1]))
    figures = {"concurrency": concurrency, "prompt": "unique", **metrics.level_metrics(records)}
    figures["client"] = {"client_bound": more.pop("client_bound", False)}
    options = {"concurrency": [1, 4, 8, concurrency], "prompt": "Hi", "max_tokens": 16}
    return script_result(
        "benchmark",
        f"inference_c{concurrency}",
        more.pop("checks", None) or [(failed if errors else passed)("requests")],
        figures,
        records,
        options | more.pop("options", {}),
        **more,
    )


def failed_record(index: int, sent_ms: float, error: str) -> dict[str, Any]:
    """A request without an answer; a status as error came as that status."""
    return {
        "index": index,
        "status": int(error) if error.isdigit() else 200,
        "error": error,
        "error_text": "no",
        "excluded": False,
        "sent_ms": sent_ms,
        "ended_ms": sent_ms + 1.0,
        **dict.fromkeys(NOT_MEASURED),
        "prompt_tokens": 9,
        "connect_ms": 0.1,
        "event_ms": [],
    }


def record(index: int, sent_ms: float, ttft_ms: float, gap_ms: float) -> dict[str, Any]:
    """A request whose answer came in 16 events with equal gaps."""
    times = [round(ttft_ms + gap_ms * i, 4) for i in range(16)]
    decode_ms = times[-1] - times[0]
    return failed_record(index, sent_ms, "200") | {
        "error": None,
        "error_text": None,
        "ended_ms": sent_ms + times[-1],
        "ttft_ms": times[0],
        "e2e_ms": times[-1],
        "tpot_ms": decode_ms / 15,
        "tokens_per_s": round(15e3 / decode_ms, 3),
        "output_tokens": 16,
        "token_source": "usage",
        "event_ms": times,
    }


def write_results(folder: Path, **results: Any) -> Path:
    """Results (or texts) as `<name>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in results.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder


def gateway_folder(folder: Path, **others: Any) -> Path:
    """All that the gateway profile requires, and all of it good; None leaves a result out."""
    results = {
        "gateway_overhead": overhead(),
        "inference_c1": level(1),
        "inference_c4": level(4, ttft_ms=200, seed=4),
        "openai_sdk_test": result("openai_sdk_test"),
        "scale_to_zero": result("scale_to_zero"),
        "queue_behavior": queue(1, 0),
    } | others
    return write_results(folder, **{k: v for k, v in results.items() if v is not None})


def fleet_folder(folder: Path, **others: Any) -> Path:
    """All that the fleet profile requires, and all of it good."""
    return write_results(folder, **({name: result(name) for name in FLEET_SCRIPTS} | others))
