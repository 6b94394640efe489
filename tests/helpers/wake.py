"""Wakes made by hand: what a run of test_wol.py is supposed to have found out."""

from __future__ import annotations

from typing import Any

from livecheck.fleet import api, magic_packet
from livecheck.fleet.magic_packet import Heard
from livecheck.fleet.online import Changes, State
from livecheck.fleet.wake_evidence import Evidence
from livecheck.wire import chat
from livecheck.wire.answer import Answer

from . import answers, hostile

DESK, TOWER = "02:00:5e:00:00:01", "02:00:5e:00:00:02"
NAS = "aa:bb:cc:00:00:01"  # a neighbour's
STREAM = {"content-type": "text/event-stream"}


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def state(at_s: float, *known: Any, **more: Any) -> State:
    return State(ns(at_s), *known, **more)


def runner(name: str = "desk", online: bool = False, mac: str | None = DESK) -> api.Runner:
    return api.Runner(name, name, None, online, frozenset({"m"}), mac)


def served(wait_s: float = 2.0, model: str | None = "m", sent_s: float = 10.0) -> Answer:
    """A streamed answer whose first output comes after `wait_s`, and its end a second later."""
    end_ms = 1e3 * (wait_s + 1)
    first = hostile.delta("hi", model=model)
    last = hostile.delta(reason="stop", model=model) + hostile.DONE
    return answers.answer(
        headers=STREAM,
        request=chat.completion("class:fast", "hi", 16),
        pieces=[(1e3 * wait_s, first), (end_ms, last)],
        sent_ns=ns(sent_s),
        spent_ms=end_ms,
    )


def failed(status: int = 500, words: str = "no") -> Answer:
    request = chat.completion("class:fast", "hi", 16)
    return answers.answer(status, {}, words.encode(), request=request, sent_ns=ns(10))


def asleep(model: str = "class:fast", **more: Any) -> Evidence:
    """A wake with nothing wrong with it; `states` were seen while the request waited."""
    good = {
        "before": state(9.0, (runner(),), ()),
        "states": [state(10.5, (runner(),)), state(11.5, (runner(online=True),))],
        "after": state(13.0, (runner(online=True),), ("m",)),
        "answers": [served()],
    }
    fields = {**good, **more}
    states, after = fields.pop("states"), fields["after"]
    changes = Changes(fields["before"], model, 0)
    for each in states:
        changes.add(each)
    if after:
        changes.look_for_newcomers(after)
    return Evidence(model, start_ns=0, changes=changes, **fields)


def heard(*at_s: float, mac: str = DESK) -> list[Heard]:
    return [Heard(ns(each), "192.0.2.7", magic_packet.Packet(102, mac)) for each in at_s]


def log_entries(count: int, **more: Any) -> list[api.LogEntry]:
    return [api.LogEntry(f"{n}", "m", "200", 1.0, None, False, **more) for n in range(count)]
