"""plans.py of every kind of script: the estimates follow the options."""

from __future__ import annotations

import pytest
from helpers.scripts import load_script

from livecheck.core.plan import SPARE_REQUESTS, Plan
from livecheck.gateway.plans import MOST_PAGES, PREFLIGHTS


def plan_of(script: str, *arguments: str) -> Plan:
    args = load_script(script).build_parser().parse_args(list(arguments))
    plan: Plan = args.estimate(args)
    return plan


@pytest.mark.parametrize(
    ("script", "option"),
    [
        ("test_concurrency.py", "--concurrency 32"),
        ("test_concurrency.py", "--alone 500"),
        ("test_context.py", "--context 131072"),
        ("test_cors.py", "--denied-origin https://a.example"),
        ("test_openai_sdk.py", "--max-tokens 1000"),
        ("test_queue.py", "--max-concurrent 8 --max-queue 32"),
        ("test_queue.py", "--extra 20"),
        ("test_rate_limit.py", "--limit 500"),
        ("test_scale_to_zero.py", "--max-tokens 400"),
        ("test_tools.py", "--repeat 9"),
        ("test_model_routing.py", "--test-permissions"),
        ("test_wol.py", "--burst 8"),
        ("test_workload_routing.py", "--requests 40"),
        ("test_workload_routing.py", "--kill-command x --revive-command y"),
    ],
)
def test_more_is_asked_where_an_option_asks_for_more(script: str, option: str) -> None:
    usual, more = plan_of(script), plan_of(script, *option.split())
    assert more.tokens_at_most > usual.tokens_at_most or more.requests > usual.requests
    assert more.at_most_s >= usual.at_most_s


@pytest.mark.parametrize(
    ("script", "option", "seconds"),
    [
        ("test_scale_to_zero.py", "--idle-timeout 1800", 900),
        ("test_rate_limit.py", "--window 120", 120),
        ("test_queue.py", "--retry-after 65", 60),
    ],
)
def test_a_longer_wait_takes_longer(script: str, option: str, seconds: float) -> None:
    usual, more = plan_of(script), plan_of(script, *option.split())
    assert more.typical_s >= usual.typical_s + seconds - 1
    assert more.at_most_s >= usual.at_most_s + seconds


def test_a_check_of_preflights_alone_wakes_nobody() -> None:
    assert plan_of("test_cors.py", "--only", "preflight", "methods").wakes is None
    assert plan_of("test_cors.py").wakes
    assert plan_of("test_wol.py", "--only", "state").wakes is None


def test_what_only_the_deployment_knows_is_said() -> None:
    assert "assumed" in " ".join(plan_of("test_queue.py").notes)
    known = plan_of("test_queue.py", "--max-concurrent", "1", "--max-queue", "2")
    assert "assumed" not in " ".join(known.notes)


def test_the_checks_of_preflights_are_those_that_need_no_model() -> None:
    script = load_script("test_cors.py")
    assert set(script.CHECKS) - set(script.OF_MODEL) == set(PREFLIGHTS)


@pytest.mark.parametrize(
    "origin", ["https://app.example", "http://a.b.example:4000", "http://[::1]:9", "http://1.2.3.4"]
)
def test_there_are_never_more_other_pages_than_planned(origin: str) -> None:
    assert len(load_script("test_cors.py").other_pages(origin, ())) <= MOST_PAGES


# --- benchmark.py


def benchmark(arguments: str) -> Plan:
    return plan_of("benchmark.py", *arguments.split())


def test_probes_alone_wake_nobody_and_cost_no_tokens() -> None:
    plan = benchmark("--gateway-only --requests 5")
    assert (plan.wakes, plan.tokens_at_most) == (None, 0)


def test_each_level_has_its_requests_and_its_warm_up() -> None:
    one, two = (benchmark(f"--inference-only --concurrency {levels}") for levels in ("4", "4 8"))
    assert two.requests - one.requests == 10 + 8
    assert one.requests == SPARE_REQUESTS + 1 + 10 + 4 + 4  # and a second warm-up


def test_an_open_loop_takes_as_long_as_its_schedule() -> None:
    plan = benchmark("--inference-only --rate 5 --duration 60")
    assert 60 < plan.typical_s < 70
    assert 200 < plan.requests < 400


def test_how_much_a_closed_loop_sends_is_estimated_and_said() -> None:
    plan = benchmark("--inference-only --concurrency 2 --duration 60")
    assert "estimated" in " ".join(plan.notes)
    assert plan.at_most_s < 60 + 20 * 120


@pytest.mark.parametrize("load", ["--concurrency 2", "--rate 2"])
def test_a_search_ends_by_its_time(load: str) -> None:
    plan = benchmark(f"--inference-only --find-capacity --slo ttft_p95=1s --max-time 300 {load}")
    assert plan.typical_s < 310 and plan.at_most_s < 300 + 3 * 120
    assert plan.requests > 1000 and "overloads" in str(plan.wakes)
