"""What the answer of a health URL, and a count of tokens, say of its cost."""

from __future__ import annotations

import pytest
from helpers import answers

from livecheck.wire.health_cost import is_long, says_it_asks, tokens_counted


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"healthy_endpoints": [{"model": "a"}], "unhealthy_endpoints": []}, "1 model as"),
        ({"healthy_endpoints": [], "unhealthy_endpoints": [{}, {}]}, "2 models as"),
        ({"usage": {"completion_tokens": 3}}, "usage"),
        ({"healthy_endpoints": [], "unhealthy_endpoints": []}, None),
        ({"status": "ok", "backend": {"status": "running"}}, None),
        ({"healthy_endpoints": 3, "usage": "low"}, None),
        ([], None),
    ],
)
def test_the_words_that_mean_that_models_were_asked(body: object, words: str | None) -> None:
    said = says_it_asks(answers.answer(200, body=body))
    assert (said is not None and words in said) if words else said is None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (b'vllm:generation_tokens_total{model_name="m",engine="0"} 12.0\n', 12),
        (b"llamacpp:prompt_tokens_total 3\nllamacpp:tokens_predicted_total 4\n", 7),
        (b'litellm_output_tokens_metric_total{a="}"} 1.5e3\n', 1500),
        (b"vllm:request_generation_tokens_sum 8\n", 8),
        (b"# HELP vllm:generation_tokens_total tokens\n", None),
        (b"llamacpp:predicted_tokens_seconds 17.2\nqueue_depth 3\n", None),  # no counter
        (b'{"gateway": {"queue_depth": 0}}', None),
    ],
)
def test_the_counters_of_tokens(text: bytes, tokens: float | None) -> None:
    assert tokens_counted(answers.answer(200, body=text)) == tokens
    assert tokens_counted(answers.answer(503, body=text)) is None


def test_an_answer_is_long_beside_one_that_costs_nothing() -> None:
    assert is_long(answers.answer(spent_ms=150.0), path_s=0.04)
    assert not is_long(answers.answer(spent_ms=150.0), path_s=0.06)
