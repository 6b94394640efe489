"""The fleet's scripts against servers that list too much: they end soon, in little memory.

What a list may have is bounded by a megabyte (tests/wire); these are lists of that size that are
much work, and answers that were kept by the hundred.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import hostile
from helpers.hostile import CHAT, Call, Server, response
from helpers.measured import Cost, run_measured
from helpers.scripts import ROOT

from livecheck.fleet import api

MOST_MB = 200
SIZE = (1 << 20) - 2000  # bytes of a body, just below what counts as a flood
SCRIPTS = {
    "test_auth.py": (),
    "test_model_routing.py": ("--test-permissions",),
    "test_workload_routing.py": (),
    "test_wol.py": (),
}
MODEL = "scripted"
RUNNERS, LOG = "/admin/runners", "/admin/api/requests"
NESTED = b"[" + b"[]," * (SIZE // 3) + b"[]]"


class Ended(NamedTuple):
    """How a run ended, what it showed, and how many bytes it saved."""

    cost: Cost
    shown: str
    saved: int


def filled(begin: bytes, entry: Callable[[int], bytes], end: bytes) -> bytes:
    """A list of as many entries as there is room for."""
    parts, size = [], len(begin) + len(end)
    while size < SIZE:
        parts.append(entry(len(parts)))
        size += len(parts[-1]) + 1
    return begin + b",".join(parts) + end


def as_json(body: bytes, status: int = 200) -> bytes:
    return response(status, body, content_type="application/json")


def chat(call: Call) -> None:
    """A completion for everybody who brings a credential; other models do not exist."""
    fields = call.fields
    model = {"class:fast": MODEL, "class:big": "other"}.get(fields["model"], fields["model"])
    if "authorization" not in call.headers:
        call.send(hostile.error(401, "no"))
    elif model.startswith(("no-such", "class:")):
        call.send(hostile.error(404, "there is no such model"))
    elif fields.get("stream"):
        first = hostile.delta(model=model) + hostile.delta("yes", model=model)
        last = hostile.delta(reason="stop", model=model) + hostile.usage(1) + hostile.DONE
        call.send(hostile.HEAD + first + last)
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}}
        choices = [{**choice, "finish_reason": "stop"}]
        call.send(
            as_json(json.dumps({**hostile.WHOLE, "model": model, "choices": choices}).encode())
        )


SOUND = {
    CHAT: chat,
    "/v1/models": response(200, {"data": [{"id": MODEL}, {"id": "other"}]}),
    RUNNERS: response(200, {"runners": [{"id": "a", "is_online": True, "models": []}]}),
    LOG: response(200, {"requests": []}),
}


def server(answers: dict[str, bytes]) -> Server:
    """A fleet with these answers, by path without its query; `*` is that of all other paths."""

    def answer(call: Call) -> None:
        known = {**SOUND, **answers}
        found = known.get(call.path.partition("?")[0]) or known.get("*", response(404))
        found(call) if callable(found) else call.send(found)

    return Server(everywhere=answer)


def token(roles: list[str]) -> str:
    parts = ({"alg": "RS256"}, {"sub": "me", "roles": roles, "exp": 4102444800}, "signature")
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join(encoded).decode()


def run(script: str, fleet: Server, limit_s: float) -> Ended:
    tokens = {role: token([role] if role else []) for role in ("", "admin", "model:specific")}
    asked = "dict(zip(sys.argv, sys.argv[1:])).get('--role', '')"
    Path("get-token").write_text(f"#!{sys.executable}\nimport sys\nprint({tokens!r}[{asked}])\n")
    Path("get-token").chmod(0o700)
    target = ("--url", fleet.url, "--token-binary", "./get-token", "--timeout", "10")
    command = [sys.executable, str(ROOT / script), *target, *SCRIPTS[script]]
    with fleet, open("shown", "wb") as shown:
        cost = run_measured(command, shown, shown, limit_s, Path())
    saved = sum(path.stat().st_size for path in Path("results").glob("*"))
    return Ended(cost, Path("shown").read_text(), saved)


AUTH, ROUTING, WORKLOAD, WOL = SCRIPTS
ONLINE = filled(b'{"runners":[', lambda n: b'{"id":%d,"is_online":true}' % n, b"]}")
ENTRIES = filled(b'{"requests":[', lambda n: b'{"id":%d}' % n, b"]}")
MODELS = filled(b'{"data":[', lambda n: b'{"id":"m%d"}' % n, b"]}")
LONG_ID = json.dumps({"data": [{"id": "x" * SIZE}]}).encode()
LISTS = {  # what is too long, where it comes, and which scripts read it
    "runners": ({RUNNERS: as_json(ONLINE)}, (WORKLOAD, WOL)),
    "log entries": ({LOG: as_json(ENTRIES)}, (AUTH, WOL)),
    "models": ({"/v1/models": as_json(MODELS)}, (ROUTING,)),
    "a long id": ({"/v1/models": as_json(LONG_ID)}, (AUTH, ROUTING)),
    "nested lists": (dict.fromkeys((RUNNERS, LOG, "*"), as_json(NESTED)), (ROUTING,)),
    "nested errors": ({CHAT: as_json(NESTED, 500)}, (ROUTING,)),
}


@pytest.mark.parametrize(
    ("name", "script"), [(name, script) for name, (_, who) in LISTS.items() for script in who]
)
def test_a_list_without_an_end_costs_little(name: str, script: str) -> None:
    ended = run(script, server(LISTS[name][0]), limit_s=120)
    assert ended.cost.code in (0, 1, 3), ended.shown
    assert ended.cost.memory_mb < MOST_MB
    assert "Traceback" not in ended.shown and "unexpected" not in ended.shown
    assert len(ended.shown) < 20_000 and ended.saved < 400_000


def test_more_runners_than_any_fleet_has_are_not_read() -> None:
    body = {"runners": [{"id": n} for n in range(api.MOST_ENTRIES + 1)]}
    run("test_workload_routing.py", server({RUNNERS: response(200, body)}), limit_s=60)
    saved = Path("results/workload_routing.json").read_text()
    assert "10,001 runners, and at most 10,000 are read" in saved
