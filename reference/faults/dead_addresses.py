"""Names with several addresses, of which one does not answer: the clients wait, in every script.

A deployment cannot plant this by itself, because it lies in the clients' look-up of the name. So
what `up` prints gives the name `model.test` to the deployment, and its addresses to the scripts
(`reference/names/`).
"""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from ..hooks import Hooks
from .fault import FLEET, Fault, Install, SoundVariant

NAME = "model.test"
HERE, SILENT, UNUSED = "127.0.0.1", "127.0.0.2", "127.0.0.3"
FILLING = 3  # connections that fill the queue of a listener; Linux takes one more than its backlog
NAMES = Path(__file__).parents[1] / "names"

# What each script is given so that it is done soon, and the settings of a deployment for it.
ARGUMENTS = {
    "benchmark.py": "--inference-only",
    "test_openai_sdk.py": "--only completion stream models addresses",
    "test_scale_to_zero.py": "--health-url {health_url} --idle-timeout 2.5 --probe-interval 0.2 "
    "--max-tokens 4",
    "test_queue.py": "",
    "test_concurrency.py": "--alone 4 --concurrency 2",
    "test_context.py": "--only taken addresses",
    "test_tools.py": "--repeat 1 --scenarios required",
    "test_cors.py": "--origin https://app.example",
    "test_rate_limit.py": "--limit 5 --window 1 --only probes addresses",
    "test_auth.py": "--only no_credentials malformed user addresses",
    "test_model_routing.py": "--only class addresses",
    "test_wol.py": "--only state addresses",
    "test_workload_routing.py": "--requests 4",
}
OPTIONS: dict[str, dict[str, object]] = {
    "test_scale_to_zero.py": {"idle_timeout": 1, "load_ms": 800},
    "test_queue.py": {
        "max_concurrent_requests": 1,
        "max_queue_size": 2,
        "output_tokens": 1600,
    },
    "test_concurrency.py": {"skills": "repeat"},
    "test_context.py": {"skills": "context"},
    "test_tools.py": {"skills": "tools"},
    "test_cors.py": {"cors_origins": "https://app.example"},
    "test_rate_limit.py": {"rate_limit": 5, "rate_window": 1},
}


def named(*addresses: str, dead: str | None = None) -> Install:
    """The deployment is at a name with these addresses, looked up in this order. `dead`: the one
    that takes no connection, and refuses none."""

    def export(environment: Mapping[str, str]) -> dict[str, str]:
        variable = "SIMPLEAI_URL" if "SIMPLEAI_URL" in environment else "INFERENCE_URL"
        port = urllib.parse.urlsplit(environment[variable]).port
        assert port
        if dead:
            do_not_answer(dead, port)
        return {
            variable: f"http://{NAME}:{port}",
            "REFERENCE_NAMES": f"{NAME}={','.join(addresses)}",
            "PYTHONPATH": str(NAMES),
        }

    def install(hooks: Hooks) -> None:
        hooks.exports.append(export)

    return install


_kept: list[socket.socket] = []  # open until the deployment ends


def do_not_answer(address: str, port: int) -> None:
    """Listen there, with a queue that is full: the system drops what is to open a connection."""
    listener = socket.create_server((address, port), backlog=0)
    _kept.append(listener)
    for _ in range(FILLING):
        filling = socket.socket()
        filling.setblocking(False)
        filling.connect_ex((address, port))
        _kept.append(filling)


def _row(script: str) -> Fault:
    return Fault(
        f"dead-address-{script.removesuffix('.py').removeprefix('test_').replace('_', '-')}",
        "the first of two addresses does not answer",
        script,
        "addresses",
        named(SILENT, HERE, dead=SILENT),
        "WARN",
        OPTIONS.get(script, {}),
        tuple(ARGUMENTS[script].split()),
        "fleet" if script in FLEET else "gateway",
    )


ROWS: tuple[Fault, ...] = (
    *map(_row, ARGUMENTS),
    Fault(
        "slow-look-up",
        "each look-up of the name takes more than a second",
        "benchmark.py",
        "addresses",
        named("+1.2", HERE),
        "WARN",
        arguments=("--gateway-only",),
    ),
)

SOUND: tuple[SoundVariant, ...] = (
    SoundVariant(
        "refused-address",
        "the first of two addresses is refused, as that of localhost often is",
        tuple(ARGUMENTS),
        named(UNUSED, HERE),
    ),
)
