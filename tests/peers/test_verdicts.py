"""The scripts against servers of other makes: no sound set-up is accused, no broken one passes.

What is true of each set-up is seen in test_truths.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.peers import KEY, Peers
from helpers.scripts import Finished, run_script

SDK, BENCHMARK, QUEUE = "test_openai_sdk.py", "benchmark.py", "test_queue.py"
AUTH, CORS, SLEEP = "test_auth.py", "test_cors.py", "test_scale_to_zero.py"
LIMIT = "test_rate_limit.py"
ROUTING, WORKLOAD = "test_model_routing.py", "test_workload_routing.py"
STREAMS = "--only completion stream usage wire pacing compressed"
LEVEL = "--inference-only --requests 4 --max-tokens 60"
PAGE = "--origin https://app.example"
WITH_KEY = "--api-key {key}"
TRUSTING = "--ca-file {authority}"
LONG_ONE_AND_TWO = "--max-concurrent 1 --max-queue 2"
ONE_AND_TWO = f"{LONG_ONE_AND_TWO} --max-tokens 60"
BY_MODEL_ID = "--runner-header x-litellm-model-id"
PASS, WARN, FAIL, SKIP = "PASS", "WARN", "FAIL", "SKIP"


@dataclass(frozen=True)
class Case:
    """What one script must say of one set-up.

    arguments: {key}, {authority}, {client} and {http} (the URL with http:) are filled in.
    finds: the status of checks. A FAIL of any other check is a false accusation, unless it is in
    `also`: consequences of what is broken, which may or may not be seen.
    says: words on the screen, without regard to line ends. never: words that must not be there.
    """

    peer: str
    script: str
    arguments: str = ""
    code: int = 0
    finds: Mapping[str, str] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        what = " ".join(self.arguments.replace("--", "").split())
        return f"{self.peer}: {self.script.removesuffix('.py')} {what}".strip()


CASES = (
    # --- llama.cpp's own server
    Case("llama.open", SDK, f"{STREAMS} wrong_key --max-tokens 24", finds={"wrong_key": SKIP}),
    Case("llama.open", BENCHMARK, "--requests 4 --max-tokens 24", finds={"tokens": PASS}),
    Case("llama.open", AUTH, WITH_KEY, 1, {"no_credentials": FAIL}),
    Case("llama.key", SDK, f"{WITH_KEY} --max-tokens 16", finds={"wrong_key": PASS}),
    Case("llama.key", SDK, "", 3, says=("an API key is needed",)),
    Case("llama.key", AUTH, WITH_KEY, finds={"no_credentials": PASS, "bare_token": WARN}),
    # It lets every page in, and `*` does not stand for Authorization.
    Case(
        "llama.key", CORS, f"{PAGE} {WITH_KEY}", 1, {"others": FAIL, "vary": FAIL, "headers": FAIL}
    ),
    # --- nginx: streams
    Case("nginx.plain", SDK, finds={"stream": PASS, "pacing": PASS, "wrong_key": SKIP}),
    Case("nginx.http10", SDK, STREAMS, finds={"stream": PASS, "pacing": PASS}),
    Case("nginx.buffered", SDK, STREAMS, finds={"stream": PASS, "pacing": PASS}),
    Case("nginx.default", SDK, STREAMS, 1, {"pacing": FAIL, "compressed": FAIL}, ("blocks",)),
    Case("nginx.default", BENCHMARK, LEVEL, finds={"pacing": WARN, "client": PASS}),
    Case("nginx.gzip", SDK, STREAMS, 1, {"compressed": FAIL, "pacing": PASS}, ("gzip",)),
    Case("nginx.gzip_json", SDK, STREAMS, finds={"stream": PASS, "pacing": PASS}),
    Case("nginx.gzip_flushed", SDK, STREAMS, finds={"stream": PASS, "pacing": PASS}),
    Case("nginx.plain", BENCHMARK, LEVEL, finds={"requests": PASS, "stream": PASS}),
    Case("nginx.default", BENCHMARK, LEVEL, finds={"requests": PASS}),
    Case("nginx.dead", SDK, STREAMS, 1, dict.fromkeys(STREAMS.split()[1:], FAIL)),
    Case("nginx.dead", BENCHMARK, LEVEL, 1, {"requests": FAIL}),
    # --- nginx: limits
    Case("nginx.limit_req", SDK, WITH_KEY, 3, {"async": SKIP}, ("503", "nginx")),
    Case("nginx.limit_429", SDK, WITH_KEY, 3, {"async": SKIP, "bad_request": SKIP}, ("429",)),
    Case("nginx.limit_req", AUTH, WITH_KEY, 3, {"control": SKIP}, ("503",)),
    Case("nginx.limit_429", AUTH, WITH_KEY, 3, {"control": SKIP}, ("429",)),
    Case("nginx.cors_limited", CORS, f"{PAGE} {WITH_KEY}", 3, {"others": SKIP}, ("429",)),
    Case("nginx.limit_req", BENCHMARK, f"{LEVEL} {WITH_KEY} --requests 9", 3, {"requests": SKIP}),
    Case("nginx.limit_429", BENCHMARK, WITH_KEY, 3, {"requests": SKIP}, ("429",)),
    Case("nginx.limit_429", QUEUE, WITH_KEY, 3, says=("429",)),
    Case("nginx.limit_req", QUEUE, WITH_KEY, 3, says=("503",)),
    Case("nginx.limit_429", ROUTING, f"{WITH_KEY} --model sim", 3, {"unknown_model": SKIP}),
    Case("nginx.limit_429", WORKLOAD, f"{WITH_KEY} --model sim", 3, {"requests": SKIP}),
    Case(
        *("nginx.limit_429", SLEEP, f"{WITH_KEY} --health-url /health --idle-timeout 2"),
        *(3, {"scale_down": SKIP, "health": SKIP}, ("429",)),
    ),
    Case(
        *("nginx.limit_key", LIMIT, f"{WITH_KEY} --limit 8 --window 2", 1),
        {"at_once": PASS, "refusal": WARN, "retry_after": WARN, "probes": PASS, "dodges": FAIL},
        says=("bearer in lower case",),
    ),
    Case(
        *("nginx.limit_all", LIMIT, f"{WITH_KEY} --limit 8 --window 2", 0),
        {"at_once": PASS, "refusal": WARN, "retry_after": WARN, "probes": PASS, "dodges": PASS},
    ),
    Case("nginx.limit_conn", SDK, STREAMS, finds={"completion": PASS}),
    Case(
        *("nginx.limit_conn", QUEUE, ONE_AND_TWO, 1),
        {"refusals": FAIL, "error_body": FAIL, "retry_after": FAIL},
        also=frozenset(["left_queued"]),
    ),
    Case(
        *("nginx.limit_conn", QUEUE, "--max-concurrent 1 --max-queue none --max-tokens 60", 1),
        {"refusals": PASS, "error_body": FAIL, "retry_after": FAIL},
    ),
    # --- nginx: TLS
    Case("nginx.tls", SDK, STREAMS, 3, says=("certificate", "--ca-file")),
    Case("nginx.tls", SDK, f"{STREAMS} --ca-file {{authority}}", finds={"stream": PASS}),
    Case("nginx.tls", BENCHMARK, f"{LEVEL} --ca-file {{authority}}", finds={"requests": PASS}),
    Case("nginx.tls", BENCHMARK, LEVEL, environment={"SSL_CERT_FILE": "{authority}"}),
    Case("nginx.tls", SDK, STREAMS, environment={"SSL_CERT_FILE": "{authority}"}),
    Case("nginx.mtls", SDK, TRUSTING, 3, says=("asks for a client certificate", "--cert FILE")),
    Case("nginx.mtls", BENCHMARK, TRUSTING, 3, says=("asks for a client certificate",)),
    Case("nginx.mtls", SDK, f"{STREAMS} {TRUSTING} --cert {{client}}", finds={"stream": PASS}),
    Case("nginx.mtls", BENCHMARK, f"{LEVEL} {TRUSTING} --cert {{client}}"),
    *(
        Case("nginx.tls", script, f"--url {{http}} {more}", 3, says=("https://",))
        for script, more in (
            *((SDK, ""), (BENCHMARK, ""), (QUEUE, ""), (CORS, PAGE), (AUTH, WITH_KEY)),
            *((ROUTING, WITH_KEY), (WORKLOAD, WITH_KEY), (SLEEP, "--idle-timeout 1")),
        )
    ),
    # --- nginx: CORS
    Case("nginx.cors", CORS, f"{PAGE} {WITH_KEY}", 1, {"errors": FAIL}),
    Case("nginx.cors_always", CORS, f"{PAGE} {WITH_KEY}", finds={"errors": PASS, "others": PASS}),
    Case(
        *("nginx.auth_request", CORS, f"{PAGE} {WITH_KEY}", 1),
        {"preflight": FAIL, "answer": FAIL, "stream": FAIL, "errors": FAIL},
    ),
    # --- nginx: keys
    Case("nginx.auth_request", AUTH, WITH_KEY, finds={"no_credentials": PASS, "api_key": PASS}),
    Case("nginx.auth_request", SDK, f"{WITH_KEY} {STREAMS} wrong_key", finds={"wrong_key": PASS}),
    Case("nginx.auth_map", AUTH, WITH_KEY, 1, {"api_key": FAIL}),
    Case("nginx.auth_half", AUTH, WITH_KEY, 1, {"other_endpoints": FAIL}, ("/completion",)),
    *(
        Case("nginx.auth_basic", script, more, 3, says=("Basic",), never=("JWT", "key is needed"))
        for script, more in ((SDK, ""), (BENCHMARK, ""), (AUTH, WITH_KEY), (CORS, PAGE))
    ),
    # --- HAProxy
    Case("haproxy.plain", SDK, STREAMS, finds={"stream": PASS, "pacing": PASS}),
    Case(
        *("haproxy.queue", QUEUE, ONE_AND_TWO, 0),
        {"limits": SKIP, "health": SKIP, "metrics": SKIP, "refusals": PASS, "retry_after": PASS},
    ),
    Case("haproxy.queue", QUEUE, "", 3, says=("--max-concurrent", "--max-queue")),
    Case("haproxy.delayed", SDK, STREAMS, 1, {"pacing": FAIL, "compressed": FAIL}, ("blocks",)),
    Case("haproxy.delayed", BENCHMARK, LEVEL, finds={"pacing": WARN, "client": PASS}),
    Case("haproxy.queue_keeps", QUEUE, LONG_ONE_AND_TWO, finds={"left_queued": WARN}),
    Case("haproxy.queue_silent", QUEUE, ONE_AND_TWO, 1, {"retry_after": FAIL, "refusals": PASS}),
    Case(
        *("haproxy.queue_timeout", QUEUE, LONG_ONE_AND_TWO, 1),
        {"refusals": FAIL, "error_body": FAIL, "retry_after": FAIL},
        also=frozenset(["left_queued", "order", "refused_fast"]),
    ),
    # --- Caddy
    Case("caddy.plain", SDK, STREAMS, finds={"stream": PASS, "pacing": PASS}),
    Case("caddy.gzip", SDK, STREAMS, 1, {"compressed": FAIL, "pacing": PASS}, ("gzip",)),
    Case("caddy.key", AUTH, WITH_KEY, finds={"no_credentials": PASS, "api_key": PASS}),
    Case("caddy.key", SDK, f"{WITH_KEY} {STREAMS} wrong_key", finds={"wrong_key": PASS}),
    Case("caddy.key", SDK, "--api-key sk-another-key", 3, says=("API key was refused",)),
    # --- LiteLLM
    Case(
        *("litellm.proxy", SDK, f"{WITH_KEY} --model two", 1),
        {"wrong_key": FAIL, "stream": PASS, "bad_request": PASS},
    ),
    Case("litellm.proxy", SDK, f"{WITH_KEY} --model limited", 3, {"async": SKIP}, ("429",)),
    Case("litellm.proxy", ROUTING, f"{WITH_KEY} --model two", finds={"model": PASS}),
    Case(  # its router draws lots: of few requests all may go to one deployment
        "litellm.proxy",
        WORKLOAD,
        f"{WITH_KEY} --model two --requests 30 --expect-runners 2 {BY_MODEL_ID}",
        0,
        {"expect_runners": PASS},
    ),
    Case("litellm.proxy", BENCHMARK, f"{WITH_KEY} --model two {LEVEL}", finds={"requests": PASS}),
    Case(
        *("litellm.proxy", BENCHMARK, f"{WITH_KEY} --model two --gateway-only", 0),
        {"health": WARN, "ping": SKIP},
    ),
    Case("litellm.proxy", CORS, f"{WITH_KEY} --model two {PAGE}", 0, {"others": SKIP}),
    Case("litellm.proxy", AUTH, f"{WITH_KEY} --model two", 1, {"scheme": FAIL}),
)


def run(case: Case, peers: Peers, results: Path) -> Finished:
    with peers.running(case.peer) as peer:
        words = {
            "key": KEY,
            "authority": str(peer.authority),
            "client": str(peer.client),
            "http": peer.url.replace("https", "http", 1),
        }
        arguments = [each.format(**words) for each in shlex.split(case.arguments)]
        environment = {name: each.format(**words) for name, each in case.environment.items()}
        target = () if "--url" in arguments else ("--url", peer.url)
        return run_script(case.script, *target, *arguments, env=environment, results=results)


def statuses(finished: Finished) -> dict[str, set[str]]:
    """What all the saved documents say, by check."""
    found: dict[str, set[str]] = {}
    for file in finished.results.glob("*.json"):
        for check in finished.document(file.stem)["checks"]:
            found.setdefault(check["name"], set()).add(check["status"])
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_verdict_is_right(case: Case, peers: Peers, tmp_path: Path) -> None:
    finished = run(case, peers, tmp_path / "results")
    screen = " ".join((finished.out + finished.err).split())
    found = statuses(finished)
    assert finished.code == case.code, screen
    assert {name: found.get(name) for name in case.finds} == {
        name: {status} for name, status in case.finds.items()
    }, screen
    accused = {name for name, each in found.items() if FAIL in each}
    broken = {name for name, status in case.finds.items() if status == FAIL}
    assert broken <= accused <= broken | case.also, screen
    assert [words for words in case.says if words not in screen] == [], screen
    assert [words for words in case.never if words in screen] == [], screen
    assert KEY not in finished.everything and "Traceback" not in screen
