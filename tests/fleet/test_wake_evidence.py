"""The facts that follow from what a run saw of a wake."""

from __future__ import annotations

import dataclasses

from helpers.wake import TOWER, asleep, failed, log_entries, runner, served, state

from livecheck.fleet import api
from livecheck.fleet.wake_evidence import is_refused, problem_of


def test_an_entry_of_a_runner_without_the_model_is_anothers() -> None:
    other = dataclasses.replace(runner("tower", True, TOWER), models=frozenset({"x"}))
    after = state(13.0, (runner(online=True), other), ("m", "x"))
    ours, theirs = log_entries(2)
    log = [
        dataclasses.replace(ours, runner_id="desk"),
        dataclasses.replace(theirs, runner_id="tower"),
    ]
    evidence = asleep(after=after, log_before=[], log_after=log)
    assert [entry.runner_id for entry in evidence.log_entries] == ["desk"]


def test_phases_of_a_burst_count_from_its_first_request() -> None:
    late = served(1.1, sent_s=10.4)  # its first output: 11.5
    seen = [state(11.7, (runner(online=True),))]
    evidence = asleep(answers=[served(9.0), late], states=seen)
    assert (evidence.first_output_s, evidence.slowest_output_s) == (1.5, 9.0)
    assert evidence.first_served is late
    assert evidence.newcomers and evidence.since_s(evidence.newcomers.at_ns) == 1.5


def test_what_answered_is_listed_or_an_alias_says_why_not() -> None:
    evidence, at = asleep(), (runner(online=True),)
    assert evidence.is_listed(state(13.0, at, ("m",)))
    assert not evidence.is_listed(state(13.0, at, ("n",)))
    assert not evidence.is_listed(state(13.0, (runner(),), ("m",)))
    assert not evidence.is_listed(state(13.0, error="503"))
    assert asleep("big", answers=[served(model="big-q4")]).is_listed(state(13.0, at, ("big",)))
    nameless = asleep(answers=[served(model=None)])
    assert nameless.is_listed(state(13.0, at, ("n",)))
    assert not nameless.is_listed(state(13.0, at, ()))


def test_a_refusal_needs_no_wake_but_a_failure_may() -> None:
    assert [is_refused(failed(status)) for status in (302, 400, 404)] == [True] * 3
    assert [is_refused(failed(status)) for status in (408, 429, 500)] == [False] * 3
    assert not is_refused(served())
    assert problem_of(failed(400, "no such model")) == "400 no such model"


def test_a_full_page_that_shows_the_same_old_entries_hides_new_ones() -> None:
    full = log_entries(api.LOG_PAGE, at_s=1.0)
    assert asleep(log_before=full, log_after=full).shows_old_log
    newest = [dataclasses.replace(e, at_s=99.0 - n) for n, e in enumerate(full)]
    assert not asleep(log_before=newest, log_after=newest).shows_old_log
    assert not asleep(log_before=full[1:], log_after=full[1:]).shows_old_log
