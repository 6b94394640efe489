"""engine_metrics.py: what the /metrics of inference servers say."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from livecheck.wire import engine_metrics
from livecheck.wire.engine_metrics import Histogram, grown, needed, quantile, read
from livecheck.wire.prometheus import read_samples
from reference.sim_metrics import SimMetrics
from reference.slots import Slots

# The figures of llama.cpp's own server after one answer of 16 tokens, 15 drafted for it.
LLAMA = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 36
# TYPE llamacpp:tokens_predicted_seconds_total counter
llamacpp:tokens_predicted_seconds_total 0.844701
# TYPE llamacpp:spec_decode_num_draft_tokens_total counter
llamacpp:spec_decode_num_draft_tokens_total 15
# TYPE llamacpp:spec_decode_num_accepted_tokens_total counter
llamacpp:spec_decode_num_accepted_tokens_total 9
# TYPE llamacpp:spec_decode_num_drafts_total counter
llamacpp:spec_decode_num_drafts_total 5
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 17.7578
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
# TYPE llamacpp:spec_decode_num_accepted_tokens_per_pos_total counter
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 5
"""
TWO_ENGINES = b"""\
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e+09
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 100.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 60.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1",model_name="m"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="m"} 3.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.5
vllm:time_to_first_token_seconds_sum{engine="1",model_name="m"} 0.1
"""


def of_sim(ttfts_s: tuple[float, ...] = (0.05, 0.05, 0.3)) -> bytes:
    sim = SimMetrics(Slots(8, 0), "sim")
    for each in ttfts_s:
        sim.count(each, 16)
    return sim.as_text()


def test_what_llama_cpp_says() -> None:
    found = read(needed(LLAMA))
    assert found is not None and found.engine == "llama.cpp" and found.ttft is None
    assert found.figures == {
        "running_requests": 3,
        "waiting_requests": 1,
        "draft_tokens": 15,
        "draft_accepted_tokens": 9,
    }


def test_what_several_engines_say_is_added_up_and_the_fullest_cache_counts() -> None:
    found = read(needed(TWO_ENGINES))
    assert found is not None and found.engine == "vLLM"
    assert found.figures == {
        "running_requests": 7,
        "waiting_requests": 0,
        "cache_usage": 0.75,
        "preemptions": 2,
        "draft_tokens": 100,
        "draft_accepted_tokens": 60,
    }
    assert found.ttft == Histogram([0.1, math.inf], [4.0, 5.0], 0.6)


def test_an_engine_is_believed_before_its_gateway() -> None:
    found = read(needed(b"gateway_queue_depth 3\n" + LLAMA))
    assert found is not None and found.figures["waiting_requests"] == 1
    alone = read(needed(b"gateway_queue_depth 3\ngateway_requests_active 2\n"))
    assert alone is not None and alone.engine == "the gateway"
    assert alone.figures == {"waiting_requests": 3, "running_requests": 2}


@pytest.mark.parametrize("text", [LLAMA, TWO_ENGINES, of_sim()], ids=["llama", "two", "sim"])
def test_a_servers_text_is_read_as_prometheus_own_package_does(text: bytes) -> None:
    ours = read_samples(text)
    theirs = [s for each in text_string_to_metric_families(text.decode()) for s in each.samples]
    assert ours.problem is None
    assert {(s.name, *s.labels.items(), s.value) for s in ours.samples} == {
        (s.name, *s.labels.items(), s.value) for s in theirs
    }
    whole, lines = read(text), read(needed(text))
    assert whole == lines is not None  # what is taken out is all that is needed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        b'{"gateway": {"queue_depth": 1}}',
        b"vllm:num_requests_running{",
        b"vllm:num_requests_running NaN\n",
        b"vllm:num_requests_running -1\n",
        b"vllm:num_requests_running 1e300\n",
        b"vllm:kv_cache_usage_perc 87\n",  # it is a share, whatever its name says
        b"xvllm:num_requests_running 1\nvllm:num_requests_running_more 1\n",
        b"\xff\xfe\x00" * 1000,
        b'vllm:time_to_first_token_seconds_bucket{le="0.1"} 1\n',  # without its end
        b'vllm:time_to_first_token_seconds_bucket{le="none"} 1\n',
    ],
)
def test_what_says_nothing_is_none(body: bytes) -> None:
    assert read(needed(body)) in (None, engine_metrics.Reading("vLLM"))


@pytest.mark.parametrize(
    "body",
    [
        b"vllm:num_requests_running 1\n" * 40_000,
        b"vllm:num_requests_running{" * 40_000,
        b"vllm:num_requests_running{" + b'a="' * 300_000,
        b"\n" * 1_000_000,
        b"vllm:" * 200_000,
    ],
)
def test_a_megabyte_of_anything_costs_little(body: bytes) -> None:
    began_s = time.process_time()
    lines = needed(body)
    assert time.process_time() - began_s < 0.5
    assert len(lines) <= engine_metrics.MOST_LINES * (engine_metrics.LINE_BYTES + 100)


# --- histograms


def histogram(*counts: float) -> Histogram:
    return Histogram([0.02, 0.04, 0.06, math.inf], counts, 1.0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 10, 10, 10), (0.03, 0.02, 0.04)),
        ((10, 10, 10, 10), (0.01, 0.0, 0.02)),
        ((4, 8, 10, 10), (0.025, 0.02, 0.04)),
        ((5, 5, 10, 10), (0.02, 0.0, 0.02)),
        ((1, 1, 1, 10), (None, 0.06, None)),
    ],
)
def test_a_quantile_lies_in_its_bucket(counts: tuple[float, ...], expected: Any) -> None:
    assert quantile(histogram(*counts), 0.5) == pytest.approx(expected)


def test_nothing_has_no_quantile() -> None:
    with pytest.raises(ValueError):
        quantile(histogram(0, 0, 0, 0), 0.5)


def test_what_a_level_adds_is_the_difference() -> None:
    found = grown(histogram(1, 2, 3, 4), histogram(1, 12, 13, 14))
    assert found is not None and list(found.counts) == [0, 10, 10, 10]
    assert grown(histogram(1, 2, 3, 4), histogram(0, 0, 0, 1)) is None  # it was started anew
    assert grown(histogram(1, 2, 3, 4), Histogram([math.inf], [9], 1.0)) is None
