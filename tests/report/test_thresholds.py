"""The guide's thresholds, those of a file, and what becomes of figures that are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.samples import gateway_folder, level, overhead, passed, queue, write_results

from livecheck.core.checks import Check, Status
from livecheck.report.result_files import read_folder
from livecheck.report.thresholds import Criterion, Verdict, judge_thresholds, read_thresholds
from livecheck.report.verdict import GATEWAY, REQUIRED


def toml_file(folder: Path, text: str) -> Path:
    path = folder / "verdict.toml"
    path.write_text(text)
    return path


def criteria(
    folder: Path, text: str = "", profile: str = "gateway", **results: Any
) -> dict[str, Criterion]:
    """The criteria for these results, by name."""
    thresholds = read_thresholds(toml_file(folder, text))
    found = read_folder(write_results(folder, **results))
    assert not found.problems
    judged = judge_thresholds(thresholds, found.files, thresholds.required or REQUIRED[profile])
    return {each.name: each for each in judged}


def verdicts(found: dict[str, Criterion]) -> dict[str, str]:
    return {name: each.verdict.value for name, each in found.items()}


# --- the guide's


def test_the_guide_s_thresholds_are_the_default(tmp_path: Path) -> None:
    found = criteria(tmp_path, gateway_overhead=overhead(), inference_c1=level(1))
    assert {name: each.target for name, each in found.items()} == {
        "/ping net of network p99": "≤ 5 ms",
        "c=1 TTFT p50": "≤ 500 ms",
        "c=1 TTFT p95": "≤ 1000 ms",
        "c=1 decode rate mean": "≥ 20 tok/s",
        "c=1 error rate": "0 %",
    }
    assert set(verdicts(found).values()) == {"PASS"}
    assert found["c=1 TTFT p50"].samples == 30


def test_the_guide_s_times_are_for_one_request_in_flight_and_errors_for_all_levels(
    tmp_path: Path,
) -> None:
    found = criteria(tmp_path, inference_c1=level(1), inference_c8=level(8, ttft_ms=5000))
    assert [name for name in found if name.startswith("c=8")] == ["c=8 error rate"]


@pytest.mark.parametrize(
    ("content", "missed"),
    [
        (level(1, ttft_ms=600), {"c=1 TTFT p50"}),
        (level(1, ttft_ms=480, noise=0.6, requests=60), {"c=1 TTFT p95"}),
        (level(1, tpot_ms=80), {"c=1 decode rate mean"}),
        (level(1, errors=["timeout"]), {"c=1 error rate"}),
    ],
)
def test_a_missed_threshold_fails(content: Any, missed: set[str], tmp_path: Path) -> None:
    found = criteria(tmp_path, gateway_overhead=overhead(), inference_c1=content)
    assert {name for name, verdict in verdicts(found).items() if verdict == "FAIL"} == missed


def test_ping_is_judged_net_of_the_network_and_the_measured_value_is_named(tmp_path: Path) -> None:
    found = criteria(tmp_path, gateway_overhead=overhead(ping_ms=9))["/ping net of network p99"]
    assert found.verdict is Verdict.FAIL
    assert found.detail.startswith("with the network 1") and " ms" in found.detail


def test_a_time_that_cannot_be_separated_from_the_network_is_undecided_and_says_why(
    tmp_path: Path,
) -> None:
    content = overhead(ping_ms=80, edge="RunPod's proxy answers the handshake")
    found = criteria(tmp_path, gateway_overhead=content)["/ping net of network p99"]
    assert found.verdict is Verdict.UNDECIDED
    assert "not separable" in found.detail and "RunPod's proxy" in found.detail
    assert "with the network" in found.detail


def test_a_time_that_is_short_enough_with_the_network_passes(tmp_path: Path) -> None:
    content = overhead(ping_ms=2, edge="a proxy is in between")
    found = criteria(tmp_path, gateway_overhead=content)["/ping net of network p99"]
    assert (found.verdict, found.detail) == (Verdict.PASS, "kept even with the network")


def test_a_missing_result_is_never_a_pass(tmp_path: Path) -> None:
    found = criteria(tmp_path, inference_c4=level(4))
    assert verdicts(found) == {
        "c=4 error rate": "PASS",
        "/ping net of network p99": "UNDECIDED",
        "c=1 TTFT p50": "UNDECIDED",
        "c=1 TTFT p95": "UNDECIDED",
        "c=1 decode rate mean": "UNDECIDED",
        "c=1 error rate": "UNDECIDED",
    }


def test_a_missing_endpoint_is_undecided_only_where_its_result_is_required(tmp_path: Path) -> None:
    skipped = Check("ping", Status.SKIP, "404: no such endpoint here (/ping)")
    content = overhead(probes=0, checks=(skipped, passed("health")))
    found = criteria(tmp_path, gateway_overhead=content)
    assert found["/ping net of network p99"].verdict is Verdict.UNDECIDED
    assert "404" in found["/ping net of network p99"].detail
    assert not criteria(tmp_path, profile="fleet", gateway_overhead=content)


def test_an_endpoint_that_a_deployment_does_not_promise_is_only_reported(tmp_path: Path) -> None:
    missing = Check("ping", Status.SKIP, "there is no /ping (404)", {"missing": True})
    content = overhead(probes=0, checks=(missing, passed("health")))
    found = criteria(tmp_path, gateway_overhead=content)["/ping net of network p99"]
    assert found.verdict is Verdict.REPORTED
    assert found.detail == "not promised by this deployment: there is no /ping (404)"
    assert not criteria(tmp_path, profile="fleet", gateway_overhead=content)
    wanted = "[gateway_overhead]\nping_net_p99 = '5ms'"
    found = criteria(tmp_path, wanted, gateway_overhead=content)["/ping net of network p99"]
    assert found.verdict is Verdict.UNDECIDED


# --- the deployment's own limits


@pytest.mark.parametrize(
    ("served", "waiting", "verdict"), [(1, 2, "REPORTED"), (1, 7, "FAIL"), (1, 0, "FAIL")]
)
def test_errors_are_judged_within_the_deployment_s_limits(
    served: int, waiting: int, verdict: str, tmp_path: Path
) -> None:
    refused = level(8, errors=["503"] * 5)
    limits = queue(served, waiting)
    found = criteria(tmp_path, inference_c8=refused, queue_behavior=limits)["c=8 error rate"]
    assert found.verdict.value == verdict
    assert found.value == "16.67 %"
    if verdict == "REPORTED":
        limits_in_words = "the deployment takes 3 (1 served at once, 2 waiting)"
        assert found.detail == f"not judged: 8 in flight, but {limits_in_words}"


def test_the_limits_of_another_deployment_do_not_count(tmp_path: Path) -> None:
    limits = queue(1, 2)
    limits["target"] = {**limits["target"], "url": "http://elsewhere:8000"}
    folder = write_results(tmp_path, inference_c8=level(8, errors=["503"]), queue_behavior=limits)
    thresholds = read_thresholds(toml_file(tmp_path, "same_target = false"))
    found = judge_thresholds(thresholds, read_folder(folder, one_target=False).files, ())
    assert [e.verdict for e in found if e.name == "c=8 error rate"] == [Verdict.FAIL]


def test_without_known_limits_every_level_is_judged(tmp_path: Path) -> None:
    found = criteria(tmp_path, inference_c8=level(8, errors=["503"]))
    assert found["c=8 error rate"].verdict is Verdict.FAIL


@pytest.mark.parametrize("section", ["inference", "inference_c8"])
def test_the_limits_excuse_no_error_from_a_threshold_of_the_file(
    section: str, tmp_path: Path
) -> None:
    results = {"inference_c8": level(8, errors=["503"] * 5), "queue_behavior": queue(1, 2)}
    text = f'[{section}]\nerror_rate = "1%"'
    assert criteria(tmp_path, text, **results)["c=8 error rate"].verdict is Verdict.FAIL


# --- percentiles of few samples


def test_a_percentile_of_few_samples_has_a_note(tmp_path: Path) -> None:
    text = '[inference_c1]\nttft_p99 = "1s"'
    found = criteria(tmp_path, text, inference_c1=level(1, requests=19))
    assert found["c=1 TTFT p95"].verdict is Verdict.PASS
    assert found["c=1 TTFT p95"].detail == "of 19 samples the p95 is close to the slowest"
    assert found["c=1 TTFT p50"].detail == ""
    found = criteria(tmp_path, text, inference_c1=level(1, requests=20))
    assert found["c=1 TTFT p95"].detail == ""
    assert found["c=1 TTFT p99"].detail == "of 20 samples the p99 is close to the slowest"


def test_a_percentile_of_fewer_than_five_samples_is_undecided(tmp_path: Path) -> None:
    found = criteria(tmp_path, inference_c1=level(1, requests=4))
    said = verdicts(found)
    assert said["c=1 TTFT p50"] == said["c=1 TTFT p95"] == "UNDECIDED"
    assert said["c=1 decode rate mean"] == said["c=1 error rate"] == "PASS"
    assert "4 samples are too few for a p50" in found["c=1 TTFT p50"].detail
    found = criteria(tmp_path, inference_c1=level(1, requests=5))
    assert found["c=1 TTFT p50"].verdict is Verdict.PASS


# --- the file


def test_a_file_changes_adds_and_removes_thresholds(tmp_path: Path) -> None:
    text = """
    [gateway_overhead]
    ping_net_p99 = false
    health_p50 = "1s"
    [inference]
    error_rate = "20%"
    e2e_p95 = "400ms"
    [inference_c1]
    ttft_p50 = "90 ms"
    tokens_per_s_mean = 10
    e2e_p95 = false
    """
    found = criteria(
        tmp_path,
        text,
        gateway_overhead=overhead(),
        inference_c1=level(1, errors=["timeout"]),
        inference_c4=level(4, tpot_ms=30),
    )
    assert verdicts(found) == {
        "/health p50": "PASS",
        "c=1 TTFT p50": "FAIL",
        "c=1 TTFT p95": "PASS",
        "c=1 decode rate mean": "PASS",
        "c=1 error rate": "PASS",
        "c=4 error rate": "PASS",
        "c=4 E2E latency p95": "FAIL",
    }


def test_a_threshold_of_the_file_needs_its_result(tmp_path: Path) -> None:
    found = criteria(tmp_path, '[inference_c16]\nttft_p95 = "2s"', inference_c1=level(1))
    assert found["c=16 TTFT p95"].verdict is Verdict.UNDECIDED
    assert "inference_c16.json" in found["c=16 TTFT p95"].detail


def test_a_file_can_say_which_results_are_required(tmp_path: Path) -> None:
    path = toml_file(tmp_path, 'required = ["inference_c1", "cors"]\nsame_target = false')
    thresholds = read_thresholds(path)
    assert thresholds.required == ("inference_c1", "cors")
    assert not thresholds.same_target
    assert read_thresholds(None).required is None and GATEWAY


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_p50 = 3", "unknown key ttft_p50"),
        ("[inference_c1]\nttft_p5 = 3", "[inference_c1] ttft_p5: unknown objective"),
        ("[inference_c1]\nttft_p5 = false", "[inference_c1] ttft_p5: unknown objective"),
        ("[inference_c1]\nttft_p50 = 500", "a time needs its unit"),
        ("[inference_c1]\nttft_p50 = [1]", "[inference_c1] ttft_p50 must be a number"),
        ("[inference_c1]\nttft_p50 = true", "[inference_c1] ttft_p50 must be a number"),
        ("[inference_c1]\nttft_p50 = nan", "[inference_c1] ttft_p50"),
        ("[inference_c1]\nttft = '1s'", "ttft needs a statistic, for example ttft_p95"),
        (
            "[inference_c1]\nping_p99 = '5ms'",
            "not measured there: it belongs in [gateway_overhead]",
        ),
        (
            "[gateway_overhead]\nttft_p50 = '5ms'",
            "not measured there: it belongs in [inference_c1]",
        ),
        ("[inference_c0x]\nttft_p50 = '5ms'", "unknown key inference_c0x"),
        ("[cors]\npreflight = 1", "unknown key cors"),
        ("inference = 3", "must be a section"),
        ("required = 'cors'", "required must be a list"),
        ("required = []", "required must be a list"),
        ("required = ['k6']", "required names k6"),
        ("same_target = 1", "same_target must be true or false"),
        ("[inference_c1\n", "is not TOML"),
        ("a = 1\na = 2", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        read_thresholds(toml_file(tmp_path, text))
    assert said in str(error.value) and "verdict.toml" in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    for path in (tmp_path / "nowhere.toml", tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(ValueError, match=str(path)):
            read_thresholds(path)


def test_a_good_run_keeps_every_threshold(tmp_path: Path) -> None:
    files = read_folder(gateway_folder(tmp_path)).files
    found = judge_thresholds(read_thresholds(None), files, GATEWAY)
    assert {each.verdict for each in found} == {Verdict.PASS}
