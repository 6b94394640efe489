"""Who is online, and who came online: by the admin API and by /v1/models."""

from __future__ import annotations

import json

from helpers.wake import TOWER, runner, state

from livecheck.fleet import online
from livecheck.fleet.online import Changes, came_online


def test_who_came_online_is_told_by_like_and_like() -> None:
    before = state(0.0, (runner(), runner("tower", online=True)), ("m",))
    later = state(1.0, (runner(online=True), runner("tower", online=True)))
    assert came_online(before, later, "class:fast") == ["desk"]
    assert came_online(before, later, "other") == []
    assert came_online(before, state(1.0, None, ("m", "n")), "class:fast") == ["n"]
    assert came_online(before, state(1.0, error="503"), "class:fast") == []


def test_a_name_without_a_tag_is_the_latest() -> None:
    listed = state(9.0, None, ("llama3:latest",))
    assert listed.online_for("llama3") == ["llama3:latest"]
    assert not listed.is_asleep("llama3")


def test_a_state_that_could_not_be_read_is_not_sleep() -> None:
    assert not state(9.0, error="503").is_asleep("class:fast")
    assert state(9.0, (runner(),), ()).is_asleep("class:fast")


def test_the_two_sources_contradict_each_other() -> None:
    awake, asleep = runner("tower", online=True), runner()
    assert "/v1/models is empty" in (state(9.0, (awake,), ()).contradiction or "")
    assert "no runner online" in (state(9.0, (asleep,), ("m",)).contradiction or "")
    assert state(9.0, (awake, asleep), ("m",)).contradiction is None
    assert state(9.0, None, ("m",)).contradiction is None  # there is only one source
    # a class is listed whoever is online
    assert state(9.0, (asleep,), ("class:fast",)).contradiction is None
    assert state(9.0, None, ("class:fast",)).is_asleep("class:fast")


def test_only_changes_of_who_is_online_are_kept_and_long_lists_cut() -> None:
    names = tuple(f"m{n}" for n in range(10_000))
    changes = Changes(state(9.0, None, names), "class:fast", 0)
    same = [state(10.0 + n, None, names) for n in range(50)]
    fickle = [state(70.0 + n, None, (*names, f"new{n}")) for n in range(500)]
    for each in same + fickle:
        changes.add(each)
    assert len(changes.records) == online.MAX_CHANGES
    assert changes.newcomers and changes.newcomers.names == ["new0"]
    assert len(json.dumps(changes.records)) < 1_000_000


def test_a_mac_that_is_none_is_left_out() -> None:
    runners = [runner(mac="none"), runner(mac=None), runner(mac=TOWER.upper())]
    assert online.macs(runners) == {TOWER}
