"""What a level sends and when (arrivals.py), which levels a search tries (capacity.py), what a pair
of ways costs (gateway_cost.py), which options go together (level_plan.py): without a network."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

import benchmark
from common import Status
from livecheck.load import arrivals, capacity, gateway_cost
from livecheck.load.arrivals import (
    CONSTANT,
    POISSON,
    Load,
    Prompt,
    arrival_times,
    question,
    read_prompts,
)
from livecheck.load.capacity import Search, Trial
from livecheck.load.level_plan import find_scope
from livecheck.wire import metrics

# --- arrivals


def some(count: int, *args: Any) -> list[float]:
    return list(itertools.islice(arrival_times(*args), count))


def test_constant_arrivals_are_evenly_spaced_without_drift() -> None:
    times = some(100_001, 3.0, CONSTANT)
    assert times[:4] == [0, 1 / 3, 2 / 3, 1]
    assert times[-1] == 100_000 / 3


def test_poisson_arrivals_have_exponential_gaps() -> None:
    times = some(50_001, 4.0, POISSON, 7)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[0] == 0 and min(gaps) >= 0
    assert statistics.mean(gaps) == pytest.approx(0.25, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(0.25, rel=0.03)
    for seconds in (0.05, 0.25, 0.75):
        share = sum(gap > seconds for gap in gaps) / len(gaps)
        assert share == pytest.approx(math.exp(-4 * seconds), abs=0.01)


def test_the_same_seed_is_the_same_pattern_at_any_rate() -> None:
    assert some(9, 2.0, POISSON, 3) == some(9, 2.0, POISSON, 3)
    assert some(9, 2.0, POISSON, 3) != some(9, 2.0, POISSON, 4)
    slow, fast = some(9, 2.0, POISSON, 3), some(9, 20.0, POISSON, 3)
    assert [10 * time for time in fast] == pytest.approx(slow)


def test_a_level_is_as_long_as_its_requests_or_its_duration() -> None:
    by_count = Load(8, requests=5, rate_per_s=2.0)
    assert len(by_count.due_s or []) == by_count.planned == 5
    by_time = Load(8, requests=None, duration_s=10, rate_per_s=2.0, arrivals=CONSTANT)
    assert by_time.due_s and by_time.due_s[-1] == 9.5 and by_time.planned == 20
    assert list(by_time.numbers()) == list(range(20))
    closed = Load(8, requests=None, duration_s=10)
    assert closed.planned is None and closed.due_s is None
    assert list(Load(8, requests=3).numbers()) == [0, 1, 2]
    assert list(Load(8, requests=None, duration_s=1e-9).numbers()) == []


def test_levels_are_named_after_what_makes_them() -> None:
    assert Load(4, 10).name == "inference_c4"
    rates = {1.0: "r1", 2.5: "r2.5", 0.05: "r0.05", 10_000.0: "r10000"}
    for rate, name in rates.items():
        assert Load(1000, 10, rate_per_s=rate).name == f"inference_{name}"


# --- prompts


def written(content: str | bytes) -> Path:
    path = Path("prompts")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_line_is_a_prompt() -> None:
    found = read_prompts(written('Hello\r\n  {"no": json}\nÜber den Wolken'))
    assert found == [question("Hello"), question('{"no": json}'), question("Über den Wolken")]


def test_a_file_that_begins_with_a_brace_is_json_a_line() -> None:
    messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    lines = [{"messages": messages}, {"messages": messages[1:], "max_tokens": 7}]
    text = "\ufeff" + "\n".join(map(json.dumps, lines)) + "\n"
    assert read_prompts(written(text)) == [Prompt(messages), Prompt(messages[1:], 7)]


GOOD = '{"messages": [{"role": "user", "content": "Hi"}]}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("one\n\nthree\n", "line 2: it is empty"),
        (b"one\n\xff\xfe\n", "line 2: it is not UTF-8"),
        (GOOD + "\n{oops\n", "line 2: it is not JSON"),
        (GOOD + "\n[1]\n", "line 2: it is not a JSON object"),
        (GOOD + "\nplain\n", "line 2: it is not JSON"),
        (GOOD + "\n" + '{"messages": ' + "[" * 100_000, "line 2: it is not JSON"),
        ("{}\n", "line 1: messages must be"),
        ('{"messages": []}', "line 1: messages must be"),
        ('{"messages": "Hi"}', "line 1: messages must be"),
        ('{"messages": ["Hi"]}', "line 1: each message"),
        ('{"messages": [{"content": "Hi"}]}', "line 1: each message"),
        (GOOD.replace("}]}", '}], "max_tokens": 0}'), "line 1: max_tokens"),
        (GOOD.replace("}]}", '}], "max_tokens": true}'), "line 1: max_tokens"),
        (GOOD.replace("}]}", '}], "max_tokens": 1%s}' % ("0" * 400)), "line 1: max_tokens"),
        (GOOD.replace("}]}", '}], "max_tokens": "9"}'), "line 1: max_tokens"),
        (GOOD.replace("}]}", '}], "temperature": 0}'), "line 1: temperature cannot be sent"),
        (
            GOOD.replace("}]}", '}], "%s": 0}' % ("a b" * 9999)),
            r"line 1: a ba b.{20,40}\.\.\. cannot be",
        ),
    ],
)
def test_a_broken_prompt_file_names_the_line(content: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_prompts(written(content))


def test_a_prompt_file_that_is_not_there_or_no_file() -> None:
    for path in (Path("nothing"), Path(".")):
        with pytest.raises(ValueError, match="cannot read"):
            read_prompts(path)


def test_a_prompt_file_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="/dev/zero has more than 1 MB"):
        read_prompts(Path("/dev/zero"))


def test_a_prompt_file_has_a_bound_of_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `<(yes)` has none: half a million of them are in a megabyte."""
    monkeypatch.setattr(arrivals, "MOST_PROMPTS", 3)
    assert len(read_prompts(written("a\n" * 3))) == 3
    with pytest.raises(ValueError, match="more than 3 lines"):
        read_prompts(written("a\n" * 4))


def test_the_unique_line_begins_the_first_text() -> None:
    system = {"role": "system", "content": "Be brief"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    one, other = Prompt([system, parts]).unique(), Prompt([system, parts]).unique()
    assert one[0]["content"].endswith("]\nBe brief") and one[1] == parts
    assert one != other and system["content"] == "Be brief"
    content = Prompt([parts]).unique()[0]["content"]
    assert [each["type"] for each in content] == ["text", "text"] and content[1]["text"] == "Hi"
    assert Prompt([{"role": "tool", "content": None}]).unique()[0]["content"] is None


# --- options

URL = ["--url", "http://127.0.0.1:9"]
SLO = ["--slo", "ttft_p95=1s"]


def plan_of(*arguments: str) -> tuple[Any, Any]:
    args = benchmark.build_parser().parse_args([*URL, *arguments])
    return args, find_scope(args)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate", "2", "--concurrency", "1", "2"), "--rate takes one --concurrency"),
        (("--arrivals", "constant"), "needs --rate"),
        (("--seed", "0"), "needs --rate"),
        (("--max-level", "8"), "needs --find-capacity"),
        (("--max-time", "8"), "needs --find-capacity"),
        (("--find-capacity",), "needs an --slo"),
        (
            ("--find-capacity", "--rate", "2", "--slo", "itl_p50=1s"),
            "an --slo on ttft, ttfa or e2e",
        ),
        (("--find-capacity", "--slo", "requests_per_s=5"), "a bound on throughput"),
        (("--rate", "9000", "--duration", "1000"), "more than 1000000 requests"),
        (("--find-capacity", "--concurrency", "1", "2", *SLO), "one level"),
        (("--find-capacity", "--rate", "1", "2", *SLO), "one level"),
        (("--find-capacity", "--concurrency", "8", "--max-level", "4", *SLO), "at least 8"),
        (("--find-capacity", "--max-level", "4.5", *SLO), "--max-level"),
        (("--direct-key", "sk-1"), "needs --direct-url"),
        (("--direct-url", "http://h", "--concurrency", "4"), "at concurrency 1"),
        (("--direct-url", "http://h", "--rate", "4"), "at concurrency 1"),
        (("--direct-url", "http://h", "--find-capacity", *SLO), "at concurrency 1"),
        (("--direct-url", "http://h", "--direct-key", "two words"), "--direct-key"),
        (("--gateway-only", "--rate", "1"), "--gateway-only"),
        (("--gateway-only", "--duration", "1"), "--gateway-only"),
        (("--gateway-only", "--direct-url", "http://h"), "--gateway-only"),
        (("--only", "slo"), "leave nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_contradict_each_other_are_said(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan_of(*arguments)


def test_without_the_new_options_the_levels_are_as_they_were() -> None:
    args, plan = plan_of("--concurrency", "4", "1", "4", "--requests", "3")
    assert plan.loads == [Load(4, 4), Load(1, 3)]
    assert plan.prompts == [question("Write a short poem about the sea")]
    assert plan.probes == ["/ping", "/health"]
    assert (args.arrivals, args.seed, args.max_level, args.max_time) == (None, None, None, None)


def test_an_open_loop_has_a_ceiling_nobody_meets_unless_it_is_given() -> None:
    _, plan = plan_of("--rate", "2", "0.5", "2.0")
    assert plan.loads == [Load(1000, 10, None, rate) for rate in (2.0, 0.5)]
    args, plan = plan_of("--rate", "2", "--concurrency", "1", "--duration", "5", "--seed", "3")
    assert plan.loads == [Load(1, None, 5.0, 2.0, POISSON, 3)]
    assert (args.arrivals, args.seed) == ("poisson", 3)


def test_a_comparison_has_pairs_enough_for_an_interval() -> None:
    assert plan_of("--direct-url", "http://h")[1].loads == [Load(1, gateway_cost.LEAST_PAIRS)]
    assert plan_of("--direct-url", "http://h", "--requests", "99")[1].loads == [Load(1, 99)]


# --- the search


def found(search: Search, limit: float) -> Search:
    """What it does with a deployment that keeps its objectives up to this level."""
    while (level := search.next_level()) is not None:
        broken = {} if level <= limit else {"ttft_p95": "TTFT p95 0.9 s"}
        search.trials.append(Trial(level, {}, broken, {"ttft_p95": "TTFT p95 0.4 s ≤ 0.5 s"}))
        assert len(search.trials) < 50
    return search


@pytest.mark.parametrize("limit", range(1, 64))
@pytest.mark.parametrize("start", [1, 3, 8, 64])
def test_the_search_finds_the_highest_level_that_holds(limit: int, start: int) -> None:
    search = found(Search(start, 64, whole=True), limit)
    assert search.kept and search.broken
    assert search.kept.level <= limit < search.broken.level
    assert search.broken.level - search.kept.level <= max(1, 0.05 * limit)
    levels = [trial.level for trial in search.trials]
    assert len(set(levels)) == len(levels) <= Search(start, 64, True).most_levels()


@pytest.mark.parametrize("limit", [0.07, 0.3, 1, 7.77, 31, 63])
def test_rates_are_found_to_five_per_cent(limit: float) -> None:
    search = found(Search(1, 64, whole=False), limit)
    assert search.kept and search.broken
    assert search.kept.level <= limit < search.broken.level <= 1.06 * search.kept.level
    assert len(search.trials) <= Search(1, 64, False).most_levels() < 15


def test_a_limit_below_every_level_and_one_above_them_all() -> None:
    none = capacity.check_capacity(found(Search(8, 64, whole=True), 0.5))
    assert none.status is Status.FAIL
    assert none.detail == "no level keeps the SLOs: at 1: TTFT p95 0.9 s"
    assert found(Search(1, 64, whole=False), 0).next_level() is None
    beyond = capacity.check_capacity(found(Search(1, 48, whole=True), 99))
    assert beyond.status is Status.PASS and beyond.evidence["capacity"] == 48
    assert "48, the highest tried" in beyond.detail and "--max-level" in beyond.detail


def test_the_verdict_names_the_level_the_figures_and_the_next_level() -> None:
    check = capacity.check_capacity(found(Search(1, 64, whole=True), 6))
    assert check.status is Status.PASS
    assert check.detail == (
        "highest level that keeps the SLOs: 6 (TTFT p95 0.4 s ≤ 0.5 s); at 7: TTFT p95 0.9 s"
    )
    assert check.evidence == {"capacity": 6, "broken_at": 7, "levels": 6}


def test_a_search_that_was_ended_is_a_warning_or_undecided() -> None:
    search = Search(1, 64, True, [Trial(4, {}, {}, {"e2e": "fine"})], ended="the time is over")
    check = capacity.check_capacity(search)
    assert check.status is Status.WARN and "at 4 at least (fine); the time" in check.detail
    search.trials.append(Trial(8, {}, {"requests": "8 of 8 failed"}, {}))
    assert "the levels between were not tried" in capacity.check_capacity(search).detail
    search.is_undecided = True
    assert capacity.check_capacity(search).status is Status.SKIP
    nothing = capacity.check_capacity(Search(1, 64, True, ended="the time is over"))
    assert (nothing.status, nothing.essential) == (Status.SKIP, True)


@pytest.mark.parametrize(
    ("text", "value", "words"),
    [
        ("ttft_p95=500ms", 412.3, "TTFT p95 0.412 s ≤ 0.5 s"),
        ("ttft_p95=500ms", 731.0, "TTFT p95 0.731 s"),
        ("itl_p50=50ms", 41.26, "ITL p50 41.3 ms ≤ 50 ms"),
        ("error_rate=1%", 0.005, "error_rate 0.5 % ≤ 1 %"),
        ("output_tokens_per_s=20", 31.0, "output_tokens_per_s 31 tok/s ≥ 20 tok/s"),
        ("ttft=2s", 0.975, "TTFT ≤ 2 s in 97.5%"),
        ("e2e_p99=2s", None, "E2E p99 not measured"),
    ],
)
def test_figures_in_words(text: str, value: float | None, words: str) -> None:
    assert capacity.figure_words(metrics.parse_objective(text), value) == words


# --- what a way costs


def record(ttft: float, e2e: float = 100.0, rate: float = 50.0, **more: Any) -> dict[str, Any]:
    base = {"error": None, "ttft_ms": ttft, "e2e_ms": e2e, "tokens_per_s": rate}
    return base | {"output_tokens": 8} | more


def test_the_cost_is_the_median_of_the_pairs_differences() -> None:
    """Not the difference of the medians: what both of a pair share is taken off."""
    slow = [record(10 + 7 * number) for number in range(9)]
    quick = [record(10 + 7 * number - 5) for number in range(9)]
    cost = gateway_cost.cost_metrics(slow, quick)["ttft_ms"]
    assert (cost["cost"], cost["n"]) == (5, 9)
    spare = gateway_cost.ACCURACY_MS
    assert (cost["low"], cost["high"]) == pytest.approx((5 - spare, 5 + spare))
    assert cost["gateway"] - cost["direct"] == 5


def test_failed_requests_and_answers_of_other_lengths_are_no_pairs() -> None:
    here = [record(5), record(5, error="timeout"), record(5), record(None, rate=None)]
    there = [record(3), record(3), record(3, output_tokens=9), record(3)]
    cost = gateway_cost.cost_metrics([*here, record(9)], there)
    assert {key: each["n"] for key, each in cost.items()} == {
        "ttft_ms": 2,
        "e2e_ms": 2,
        "tokens_per_s": 2,
    }
    assert cost["ttft_ms"]["low"] is None, "no interval from two"
    empty = gateway_cost.cost_metrics([], [])["ttft_ms"]
    assert empty == dict.fromkeys(("gateway", "direct", "cost", "low", "high"), None) | {"n": 0}


@pytest.mark.parametrize("count", [20, 50])
def test_the_interval_holds_the_true_median_in_95_of_100_cases(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_cost, "RESAMPLES", 600)  # quick, and exact enough
    chance, cases, held = random.Random(5), 400, 0
    for _ in range(cases):
        # heavy tails, as where a machine is busy now and then
        low, high = gateway_cost.interval([5 + chance.gauss(0, 1) ** 3 for _ in range(count)])
        held += low <= 5 <= high
    assert 0.92 <= held / cases <= 0.985


def test_the_interval_of_the_same_values_is_the_same() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0]
    assert gateway_cost.interval(values) == gateway_cost.interval(values)


def test_too_few_pairs_decide_nothing_and_failures_of_the_other_side_are_said() -> None:
    good = [record(10.0 + number) for number in range(8)]
    cost = gateway_cost.cost_metrics(good, [record(9.0 + number) for number in range(8)])
    assert gateway_cost.check_cost(cost, 8, [], None).status is Status.PASS
    failed = [{"error": "5xx", "error_text": "500 oom"}]
    warned = gateway_cost.check_cost(cost, 9, failed, None)
    assert warned.status is Status.WARN and "1 of 9 requests to the inference" in warned.detail
    few = gateway_cost.check_cost(gateway_cost.cost_metrics(good[:3], good[:3]), 4, failed, None)
    assert (few.status, few.essential) == (Status.SKIP, True)
    assert "3 pairs" in few.detail and "500 oom" in few.detail


def test_a_level_that_only_the_client_broke_is_tried_again_and_then_ends_the_search() -> None:
    search = Search(start=2, most=8, whole=True)
    for _ in range(capacity.MOST_REPEATS):
        search.repeat(2)
        assert (search.next_level(), search.ended) == (2, None)
    search.repeat(2)
    check = capacity.check_capacity(search)
    assert (check.status, check.essential) == (Status.SKIP, True)
    assert "this program could not run" in check.detail


def test_the_plan_reads_a_pipe_of_prompts_once(capsys: pytest.CaptureFixture[str]) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"say hi\n")
    os.close(write_end)
    pipe = f"/dev/fd/{read_end}"
    assert benchmark.main(["--url", "http://h:1", "--plan", "--prompt-file", pipe]) == 0
    os.close(read_end)
    assert "longest time" in capsys.readouterr().out
