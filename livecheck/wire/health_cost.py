"""Whether a health URL costs inference, by what can be seen from outside.

LiteLLM's `/health` asks every model that it has for a completion (its documentation, "Health
Checks"): fifty probes of it are fifty completions. Three things show that: the words of the answer,
the deployment's own count of tokens in `/metrics`, before and after a probe, and the time that the
answer took.
"""

from __future__ import annotations

from livecheck.core.json_value import number, pick, pick_list
from livecheck.core.text import plural
from livecheck.wire.answer import Answer
from livecheck.wire.prometheus import read_samples

# Lists in the answer of a proxy that has asked its models one by one, as LiteLLM names them.
ASKED = ("healthy_endpoints", "unhealthy_endpoints")
# What the name of a counter of tokens has in it, and how it ends: vllm:generation_tokens_total,
# llamacpp:tokens_predicted_total, litellm_output_tokens_metric_total, …_tokens_sum
TOKENS = ("token_", "tokens_")
TOTALS = ("_total", "_sum")
COUNT_S = 0.2  # after an answer, until its tokens are counted
COSTLY_S = 0.1  # a gateway that only asks its engine whether it lives needs a tenth of that


def says_it_asks(answer: Answer) -> str | None:
    """Why the words of this answer mean that it cost an answer of a model; None if they do not."""
    content = answer.json
    found = {name: pick_list(content, name) for name in ASKED}
    if count := sum(map(len, found.values())):
        named = " and ".join(f"`{name}`" for name in found if found[name])
        return f"its answer lists {plural(count, 'model')} as {named}, and it asks each of them"
    if number(pick(content, "usage", "completion_tokens")):
        return "its answer has the `usage` of a completion"
    return None


def tokens_counted(metrics: Answer) -> float | None:
    """All tokens that the deployment has counted, by its Prometheus text; None without a count."""
    if not metrics.is_ok:
        return None
    samples = read_samples(metrics.body).samples
    counters = (value for name, _, value in samples if counts_tokens(name))
    figures = [figure for value in counters if (figure := number(value)) is not None]
    return sum(figures) if figures else None


def counts_tokens(name: str) -> bool:
    """Whether a metric of this name is a counter of tokens."""
    stem = name.removesuffix("total").removesuffix("sum")
    return name.endswith(TOTALS) and any(stem.find(word, 1) > 0 for word in TOKENS)


def is_long(answer: Answer, path_s: float) -> bool:
    """Whether an answer took so much longer than `path_s`, the time of one that costs nothing, that
    it may have asked a model."""
    return (answer.spent_ms or 0.0) / 1e3 - path_s >= COSTLY_S
