"""The commands that are run against hostile servers, each with the deployment that is sound for it.

A `Command` is a script with options that make its run short. `uses` are the endpoints that it asks
(`Sound.endpoint` in helpers/sound_answers.py), and `needs` those without which it must not end with
exit code 0: what the script exists for is asked there. Of these it `reads` what the body says.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.sound_answers import ADMIN, ORIGIN, SPECIFIC, Fleet, Gateway, Places

TIMEOUT_S = 2.0  # of each request: short, because most hostile servers cost just that


def random_text(count: int, seed: int) -> str:
    """Letters and digits, none of which stand together by chance anywhere else."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=count))


def as_jwt(roles: list[str], seed: int, issuer: str) -> str:
    """A token in the form of a JWT. Its signature is random: the deployment only compares."""
    now = 4_000_000_000
    claims = {"iss": issuer, "sub": random_text(12, seed), "exp": now, "roles": roles}
    parts = ({"alg": "RS256", "kid": random_text(20, 7), "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join(encoded).decode() + "." + random_text(342, seed + 1)


KEY = "sk-" + random_text(45, 1)
ISSUER = "http://127.0.0.1:9"  # nobody listens there
BASIC_TOKEN = as_jwt([], 11, ISSUER)
SPECIFIC_TOKEN = as_jwt([SPECIFIC], 13, ISSUER)
ADMIN_TOKEN = as_jwt([ADMIN], 15, ISSUER)
TOKENS = {
    BASIC_TOKEN: frozenset[str](),
    SPECIFIC_TOKEN: frozenset({SPECIFIC}),
    ADMIN_TOKEN: frozenset({ADMIN}),
}
SECRETS = (KEY, *TOKENS)
MODULUS = base64.urlsafe_b64encode(random.Random(3).randbytes(256)).rstrip(b"=").decode()
PUBLIC_KEY = {"kty": "RSA", "e": "AQAB", "n": MODULUS, "kid": random_text(20, 7), "alg": "RS256"}
TOKEN_BINARY = f"""#!/bin/sh
case "$*" in
*{SPECIFIC}*) echo {SPECIFIC_TOKEN} ;;
*{ADMIN}*) echo {ADMIN_TOKEN} ;;
*) echo {BASIC_TOKEN} ;;
esac
"""


@dataclass(frozen=True)
class Command:
    """A script, its options ({url}, {workers} and {binary} are filled in), and its deployment.

    asks_again: the same question is asked several times, so that the first good answer is not all.
    own_wait_s: the longest time that it waits by itself, between two requests, for example until a
    worker sleeps.
    """

    name: str
    script: str
    options: str
    deploy: Callable[[Path], Gateway | Fleet]
    uses: frozenset[str]
    needs: frozenset[str]
    reads: frozenset[str]
    asks_again: bool
    own_wait_s: float = 0.0

    @property
    def is_fleet(self) -> bool:
        return "--token-binary" in self.options


def gateway(**settings: object) -> Callable[[Path], Gateway]:
    return lambda folder: Gateway(KEY, **settings)  # type: ignore[arg-type]


def fleet(**settings: object) -> Callable[[Path], Fleet]:
    return lambda folder: Fleet(TOKENS, keys=[PUBLIC_KEY], **settings)  # type: ignore[arg-type]


def queueing(folder: Path) -> Gateway:
    return Gateway(KEY, Places(1, 1), gap_s=0.006)


def sleeping(folder: Path) -> Gateway:
    return Gateway(KEY, idle_s=0.6, load_s=0.8, workers=folder / "workers")


def command(
    name: str,
    options: str,
    deploy: Callable[[Path], Gateway | Fleet],
    uses: str,
    needs: str,
    reads: str,
    asks_again: bool = True,
    own_wait_s: float = 0.0,
) -> Command:
    words = [frozenset(each.split()) for each in (uses, needs, reads)]
    return Command(name, f"{name}.py", options, deploy, *words, asks_again, own_wait_s)


BINARY = "--token-binary {binary}"
COMMANDS = {
    each.name: each
    for each in (
        command(
            "benchmark",
            f"--api-key {KEY} --requests 3 --max-tokens 8",
            gateway(),
            "ping health models stream",
            "ping health stream",
            "stream",
        ),
        command(
            "test_openai_sdk",
            f"--api-key {KEY}",
            gateway(),
            "models chat stream embeddings error other",
            "chat stream",
            "chat stream",
        ),
        command(
            "test_queue",
            f"--api-key {KEY} --max-tokens 24 --retry-after 1",
            queueing,
            "ping health metrics models stream error",
            "health stream error",
            "health stream",
            own_wait_s=15,
        ),
        command(
            "test_scale_to_zero",
            f"--api-key {KEY} --health-url {{url}}/ping --idle-timeout 1.5 --probe-interval 0.1"
            " --cold-start-timeout 3 --max-tokens 4 --no-control",
            sleeping,
            "ping models stream",
            "ping stream",
            "stream",
            own_wait_s=3,
        ),
        command(
            "test_cors",
            f"--api-key {KEY} --origin {ORIGIN}",
            gateway(),
            "preflight models chat stream error other",
            "preflight chat",
            "",
            asks_again=False,
        ),
        command(
            "test_concurrency",
            f"--api-key {KEY} --concurrency 2 --alone 4 --max-tokens 24",
            gateway(),
            "models chat stream error",
            "chat stream",
            "chat stream",
        ),
        command(
            "test_tools",
            f"--api-key {KEY} --repeat 1 --scenarios required two again",
            gateway(),
            "models chat stream",
            "chat stream",
            "chat stream",
        ),
        command(
            "test_rate_limit",
            f"--api-key {KEY} --limit 5 --window 1",
            gateway(limit=5),
            "ping health metrics models error",
            "models",
            "",
            own_wait_s=3,
        ),
        command(
            "test_context",
            f"--api-key {KEY} --context 1024 --concurrency 2",
            gateway(),
            "models stream other",
            "stream",
            "stream",
        ),
        command(
            "test_auth",
            BINARY,
            fleet(),
            "models chat stream runners log jwks error other",
            "chat",
            "",
        ),
        command(
            "test_model_routing",
            f"{BINARY} --test-permissions --skip full_access",
            fleet(),
            "models chat stream runners log error",
            "chat stream",
            "chat stream",
        ),
        command(
            "test_workload_routing",
            f"{BINARY} --requests 6 --workers 6",
            fleet(),
            "models stream runners log",
            "stream",
            "stream",
        ),
        command(
            "test_wol",
            BINARY,
            fleet(asleep=True),
            "models stream runners log",
            "stream",
            "stream",
            asks_again=False,
            own_wait_s=3,
        ),
    )
}
