"""What is new in the request log, and which entry is about which of our requests."""

from __future__ import annotations

import argparse
import itertools
import random
import time

import pytest
from helpers.fleet_answers import MODEL, entry, failed, served
from helpers.hostile import Call, Server, response

from livecheck.fleet import api, request_log
from livecheck.fleet.request_log import Finish, Found, LogReader, find_requests
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Target, Wire

ALONE = served(0, 100)


def runners(found: Found | None) -> list[str | None]:
    """Who served each request, in their order."""
    assert found is not None
    return [each.runner_id for _, each in sorted(found.entries.items())]


# --- read


def test_of_a_log_with_huge_pages_only_so_many_entries_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_log, "LAG_S", 0.5)
    numbers = itertools.count()

    def serve(call: Call) -> None:
        page = [{"id": f"e{next(numbers)}"} for _ in range(4000)]
        call.send(response(200, {"requests": page}))

    with Server(everywhere=serve) as server, Wire(Target(server.url, None), 5) as wire:
        run = argparse.Namespace(
            credentials=argparse.Namespace(has_binary=True),
            args=argparse.Namespace(debug=False),
            has_served=True,
            notes={},
            late_checks={},
            token=lambda role: "any-token",
            verbose=lambda text: None,
            debug=lambda text: None,
        )
        reader = LogReader(api.Admin(run, wire))  # type: ignore[arg-type]
        assert len(reader.wait_for(10, {MODEL})) == 1010


def test_requests_that_have_not_ended_are_not_counted() -> None:
    ended = entry(1, 500.0, 98, "a")
    assert request_log.is_over(ended)
    assert request_log.is_over(entry(2, 500.0, 98, None, status="500"))
    for fields in ({"runner": None}, {"latency_ms": None}, {"at_s": None}):
        given = {"number": 3, "at_s": 500.0, "latency_ms": 98, "runner": "a", **fields}
        assert not request_log.is_over(entry(**given))  # type: ignore[arg-type]
    later = entry(4, 501.0, None, None, status=None)  # type: ignore[arg-type]
    assert request_log.latest([later, ended], {MODEL}) == ended


# --- find our requests


def test_entries_of_others_are_told_by_time_and_latency() -> None:
    answers = [served(1000.0 * (n + 1), 1000.0 * (n + 1) + 100) for n in range(4)]
    ours = [entry(n + 1, 501.0 + n, 98, "ab"[n % 2]) for n in range(4)]
    others = [entry(7, 501.5, 98, "b"), entry(8, 502.0, 500, "b")]
    found = find_requests(answers, [*others, *ours], ALONE, entry(0, 500.0, 98, "a"))
    assert runners(found) == ["a", "b", "a", "b"]
    assert found and found.similar == {each.id for each in ours}


def test_an_entry_that_looks_like_ours_is_similar() -> None:
    answers = [served(1000, 1100), served(2000, 2100)]
    ours = [entry(1, 501.0, 100, "a"), entry(2, 502.0, 100, "a")]
    other = entry(3, 501.015, 110, "b")
    found = find_requests(answers, [*ours, other], ALONE, entry(0, 500.0, 100, "a"))
    assert runners(found) == ["a", "a"]
    assert found and found.similar == {"e1", "e2", "e3"}


def test_where_one_of_ours_is_far_off_others_may_be_it() -> None:
    """On a busy machine the times of an entry and of its request may be far apart."""
    answers = [served(1000, 1100), served(2000, 2100)]
    entries = [entry(1, 501.0, 100, "a"), entry(2, 502.1, 160, "a"), entry(3, 501.9, 50, "b")]
    found = find_requests(answers, entries, ALONE, entry(0, 500.0, 100, "a"))
    assert found and found.similar == {"e1", "e2", "e3"}


def test_of_two_that_end_together_the_latency_tells_which_is_which() -> None:
    answers = [served(1000, 2000), served(1900, 2001), served(1800, 2100)]
    entries = [
        entry(1, 501.0, 1001, "a"),
        entry(2, 501.9, 100, "b"),
        entry(3, 501.8, 300, "c"),
    ]
    assert runners(find_requests(answers, entries, ALONE, entry(0, 500.0, 100, "a"))) == [
        "a",
        "b",
        "c",
    ]


def test_what_failed_is_paired_with_what_failed() -> None:
    answers: list[Answer] = [served(200, 300) for _ in range(3)]
    answers += [failed(200, 300) for _ in range(3)]
    entries = [entry(n + 1, 1000.2, 100, "a") for n in range(3)]
    entries += [entry(n + 1, 1000.2, 100, "b", status="500") for n in range(3, 6)]
    found = find_requests(answers, entries[::-1], ALONE, entry(0, 1000.0, 100, "a"))
    assert runners(found) == ["a", "a", "a", "b", "b", "b"]


def test_a_log_whose_times_are_of_something_else_is_not_believed() -> None:
    """Here the latency ends at the first output, which no known gateway means by it."""
    spans = [(0.0, 10.0, 900.0), (0.0, 400.0, 500.0), (600.0, 30.0, 700.0)]
    answers = [served(2000 + sent, 2000 + sent + end, first) for sent, first, end in spans]
    entries = [
        entry(n + 1, 52.0 + sent / 1e3, first, "abc"[n]) for n, (sent, first, _) in enumerate(spans)
    ]
    alone = served(0, 1000)
    assert find_requests(answers, entries[::-1], alone, entry(0, 50.0, 10, "a")) is None


def test_pairs_have_the_least_sum_of_differences() -> None:
    numbers = random.Random(7)
    for _ in range(200):
        short = [numbers.randint(0, 30) for _ in range(numbers.randint(0, 4))]
        long = [numbers.randint(0, 30) for _ in range(numbers.randint(len(short), 6))]
        best = min(
            sum(abs(a - b) for a, b in zip(short, some, strict=True))
            for some in itertools.permutations(long, len(short))
        )
        for mine, theirs in ((short, long), (long, short)):
            pairs = request_log.align(mine, theirs)
            assert sum(abs(mine[a] - theirs[b]) for a, b in pairs) == best
            assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(short)


def test_thousands_of_requests_are_matched_in_seconds() -> None:
    numbers = random.Random(7)
    ours = [Finish(50.0 * n, numbers.uniform(100, 900), failed=False) for n in range(4000)]
    theirs = [each._replace(at_ms=each.at_ms + numbers.random()) for each in ours]
    theirs += [Finish(2e5 * numbers.random(), 300.0, failed=False) for _ in range(100)]
    begun = time.monotonic()
    assert len(request_log.similar(ours, theirs)) < 4050
    pairs = request_log.exchanged(request_log.pair(ours, theirs), ours, theirs)
    assert sum(a == b for a, b in pairs.items()) > 3980
    assert time.monotonic() - begun < 5
