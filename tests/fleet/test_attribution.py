"""Who served a request: by header, request log, fingerprint and model."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.fleet_answers import MODEL, entry, failed, served

from livecheck.fleet import attribution
from livecheck.fleet.api import Runner
from livecheck.fleet.attribution import Attribution, KnownRunners, Requests
from livecheck.fleet.request_log import RequestLog


def runner(name: str, online: bool = True, models: str = MODEL) -> Runner:
    return Runner(name, f"runner {name}", None, online, frozenset({models}), None)


# --- the runners that are known


def test_who_was_online_only_once_is_neither_online_nor_offline() -> None:
    before = [runner("a"), runner("b", online=False), runner("c"), runner("d", online=False)]
    after = [runner("a"), runner("b", online=False), runner("c", online=False), runner("d")]
    known = attribution.compare(before, after)
    assert known.online is not None
    groups = (known.online, known.offline, known.changed)
    assert [[each.id for each in group] for group in groups] == [["a"], ["b"], ["c", "d"]]
    assert attribution.compare(before, None) == KnownRunners()


def test_a_runner_is_called_by_its_name_unless_two_have_it() -> None:
    same = Runner("c", "runner b", None, True, frozenset(), None)
    known = KnownRunners([runner("a"), runner("b")], [same])
    assert [known.label(each) for each in ("a", "b", "c", "x")] == ["runner a", "b", "c", "x"]
    assert known.are_all(["a", "runner b"]) and not known.are_all(["a", "x"])


# --- the log


def test_others_requests_are_counted_by_runner_and_other_models_too() -> None:
    requests = Requests("class:fast", [served(0, 100)])
    requests.sent_together = [served(1000.0 * (n + 1), 1000.0 * (n + 1) + 100) for n in range(4)]
    ours = [entry(n + 1, 501.0 + n, 98, "ab"[n % 2]) for n in range(4)]
    others = [entry(7, 501.5, 98, "b"), entry(8, 502.0, 500, "b"), entry(9, 503, 98, None)]
    other_model = entry(10, 501.0, 98, "b", model="large:70b")
    log = RequestLog(entry(0, 500.0, 98, "a"), [*others, *ours, other_model])
    found = attribution.by_log(requests, KnownRunners(), log)
    assert found is not None
    assert found.runners == ("a", "b", "a", "b")
    assert (found.others, found.similar) == (Counter(b=3), Counter())


def test_failures_are_attributed_to_the_runner_that_failed() -> None:
    requests = Requests("class:fast", [served(0, 100)])
    requests.sent_together = [served(200, 300), failed(200, 300)]
    entries = [entry(1, 1000.2, 100, "b", status="500"), entry(2, 1000.2, 100, "a")]
    log = RequestLog(entry(0, 1000.0, 100, "a"), entries)
    found = attribution.attribute(requests, KnownRunners(), log, None)
    assert (found.source, found.runners) == ("the request log", ("a", "b"))


def test_a_log_without_the_lone_request_tells_nothing() -> None:
    requests = Requests("class:fast", [served(0, 100)], [served(200, 300)])
    log = RequestLog(None, [entry(1, 1000.2, 100, "a")])
    assert attribution.by_log(requests, KnownRunners(), log) is None


# --- fingerprint and model


@pytest.mark.parametrize(
    ("marks", "models", "online", "source", "doubt"),
    [
        (["f", "g"] * 5, ["m"] * 10, 2, "system_fingerprint", None),
        (["f", "g"] * 5, ["m", "n"] * 5, 2, "system_fingerprint", "a alone could have given"),
        (["f", "g", "h"], ["m"] * 3, 2, "the answer's model", "a alone could have given"),
        (["f", "g"] * 5, ["m"] * 10, 1, "the answer's model, which one runner offers", None),
        (["f", "g"] * 5, ["x"] * 10, 1, "system_fingerprint", "does not show two runners"),
    ],
)
def test_fingerprints_that_one_runner_could_make_leave_a_doubt(
    marks: list[str], models: list[str], online: int, source: str, doubt: str | None
) -> None:
    requests = Requests("class:fast")
    requests.sent_together = [
        served(0, 100, fingerprint=mark, model=model)
        for mark, model in zip(marks, models, strict=True)
    ]
    known = [Runner(name, name, None, True, frozenset("mn"), None) for name in "ab"[:online]]
    found = attribution.attribute(requests, KnownRunners(known), None, None)
    assert found.source == source
    assert (found.doubt is None) == (doubt is None)
    assert (doubt or "") in (found.doubt or "")


# --- counts


@pytest.mark.parametrize(
    ("counts", "similar", "surely"),
    [("aaabb", "", 2), ("aaabb", "b", 2), ("aaaab", "b", 2), ("aaaab", "a", 1), ("ab", "abc", 1)],
)
def test_what_may_be_others_does_not_count_as_served(
    counts: str, similar: str, surely: int
) -> None:
    found = Attribution("the log", tuple(counts), similar=Counter(similar))
    # of all that look like ours, as many as are others' may be the smaller runners'
    assert found.surely_served == surely
