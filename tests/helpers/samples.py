"""Result files as the scripts save them, for the tests of what reads them again."""

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

NUMBERS = itertools.count()  # no two runs begin at the same moment
URL = "http://127.0.0.1:8000"
GATEWAY_SCRIPTS = {
    "openai_sdk_test": "test_openai_sdk",
    "scale_to_zero": "test_scale_to_zero",
    "queue_behavior": "test_queue",
    "cors": "test_cors",
}
FLEET_SCRIPTS = {
    "auth": "test_auth",
    "model_routing": "test_model_routing",
    "workload_routing": "test_workload_routing",
    "wol": "test_wol",
}
SCRIPTS = GATEWAY_SCRIPTS | FLEET_SCRIPTS


def finished(
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
    """A document, made by the very class that the scripts use."""
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
    begun = datetime.now(timezone.utc) - age - timedelta(milliseconds=10 * next(NUMBERS))
    return content | {"started_at": begun.isoformat(timespec="milliseconds")}


def passed(name: str = "all") -> Check:
    return Check(name, Status.PASS, "as it should be")


def failed(name: str = "all", detail: str = "not as it should be") -> Check:
    return Check(name, Status.FAIL, detail)


def checked(name: str, *checks: Check, **more: Any) -> dict[str, Any]:
    """The document of a script that measures no performance."""
    return finished(SCRIPTS[name], name, checks or (passed(),), **more)


def queue(served: int, waiting: int, *checks: Check, **more: Any) -> dict[str, Any]:
    figures = {"max_concurrent": served, "max_queue": waiting, "served": served + waiting}
    return checked("queue_behavior", *checks, figures=figures, **more)


def gateway(
    ping_ms: float = 1.0, edge: str | None = None, probes: int = 50, **more: Any
) -> dict[str, Any]:
    """gateway_overhead.json; the network takes 0.2 ms of each probe."""
    chance = random.Random(1)
    rows, figures = [], {"net_not_separable": edge}
    for path, name in (("/ping", "ping"), ("/health", "health")):
        own = [probe(path, ping_ms * chance.lognormvariate(0, 0.1)) for _ in range(probes)]
        raw = [row["ttfb_ms"] for row in own]
        net = [] if edge else [row["ttfb_ms"] - row["round_trip_ms"] for row in own]
        figures |= {f"{name}_ms": metrics.summary(raw), f"{name}_net_ms": metrics.summary(net)}
        rows += own
    checks = more.pop("checks", (passed("ping"), passed("health")))
    return finished("benchmark", "gateway_overhead", checks, {"gateway": figures}, rows, **more)


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
    """inference_c<N>.json of lognormal records; the first ones failed with these errors."""
    chance = random.Random(seed)
    rows = [
        row(index, ttft_ms, tpot_ms, noise, chance, errors[index : index + 1])
        for index in range(requests)
    ]
    figures = {"concurrency": concurrency, "prompt": "unique", **metrics.level_metrics(rows)}
    figures["client"] = {"client_bound": more.pop("client_bound", False)}
    checks = more.pop("checks", None) or (failed if errors else passed)("requests")
    return finished(
        "benchmark",
        f"inference_c{concurrency}",
        checks if isinstance(checks, (list, tuple)) else (checks,),
        figures,
        rows,
        {"concurrency": [1, 4, 8, concurrency], "prompt": "Hi", "max_tokens": 16}
        | more.pop("options", {}),
        **more,
    )


def row(
    index: int,
    ttft_ms: float,
    tpot_ms: float,
    noise: float,
    chance: random.Random,
    error: Sequence[str],
) -> dict[str, Any]:
    first = ttft_ms * chance.lognormvariate(0, noise)
    gap = tpot_ms * chance.lognormvariate(0, noise)
    times = [] if error else [round(first + gap * i, 4) for i in range(16)]
    decode_ms = times[-1] - times[0] if times else None
    sent_ms = index * (ttft_ms + 16 * tpot_ms)
    return {
        "index": index,
        "status": int(error[0]) if error and error[0].isdigit() else 200,
        "error": error[0] if error else None,
        "error_text": "no" if error else None,
        "excluded": False,
        "sent_ms": sent_ms,
        "ended_ms": sent_ms + (times[-1] if times else 1.0),
        "ttft_ms": times[0] if times else None,
        "e2e_ms": times[-1] if times else None,
        "tpot_ms": decode_ms / 15 if decode_ms else None,
        "tokens_per_s": round(15e3 / decode_ms, 3) if decode_ms else None,
        "output_tokens": 16 if times else None,
        "token_source": "usage" if times else None,
        "prompt_tokens": 9,
        "cached_tokens": None,
        "connect_ms": 0.1,
        "tls_ms": None,
        "retry_after_s": None,
        "server_tokens_per_s": None,
        "event_ms": times,
    }


def write(folder: Path, **documents: Any) -> Path:
    """Documents (or texts) as `<name>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in documents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder


def sound(folder: Path, **others: Any) -> Path:
    """Everything that the gateway profile requires, all of it good; None leaves one out."""
    documents = {
        "gateway_overhead": gateway(),
        "inference_c1": level(1),
        "inference_c4": level(4, ttft_ms=200, seed=4),
        "openai_sdk_test": checked("openai_sdk_test"),
        "scale_to_zero": checked("scale_to_zero"),
        "queue_behavior": queue(1, 0),
    } | others
    return write(folder, **{k: v for k, v in documents.items() if v is not None})


def fleet(folder: Path, **others: Any) -> Path:
    """Everything that the fleet profile requires, all of it good."""
    return write(folder, **({name: checked(name) for name in FLEET_SCRIPTS} | others))
