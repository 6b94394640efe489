"""Which scripts a live test runs, in which order, and with which options. Data, and a selection.

The order: first what wakes nobody, then what needs the deployment as it was found, then more and
more load. The idle wait of scale-to-zero comes when nothing else is left that would disturb it, or
would be slowed by the cold start after it. The rate limit is last: afterwards the key is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.late_pattern import late_pattern

GATEWAY, FLEET, ALL = "gateway", "fleet", "all"
PROFILES = (GATEWAY, FLEET, ALL)
BENCHMARK = "benchmark"
# A level that the operator adds, under its result's name: requests in flight, or per second. The
# former may have prompts of a wanted length.
OTHER_LEVEL = late_pattern(
    r"inference_(?:c([1-9]\d{0,5})(?:_d([1-9]\d{1,6}))?(?:_t([1-9]\d{0,2}))?"
    r"|r(\d{1,6}(?:\.\d{1,3})?))(_responses)?"
)
LAST_LEVEL = "inference_c8"  # the operator's own levels come after it

POEM = {
    "inference_only": True,
    "prompt": "Write a short poem about the sea",
    "max_tokens": 128,
    "warmup": 2,
}
CLASSES = ["class:fast", "class:big"]
# Options that give way to one of the operator's, or of a table that is about fewer scripts, which
# says the same in another way.
GIVE_WAY = {
    "prompt_file": ("prompt",),
    "requests": ("duration", "precision"),
    "duration": ("requests", "precision"),
    "precision": ("requests", "duration"),
    "model": ("models",),
    "inference_only": ("gateway_only",),
}


@dataclass(frozen=True)
class Step:
    """One command of the live test.

    name: as in --only and `[script.NAME]`: the script's, or for benchmark.py the result's.
    options: those of the guide, by name ("max_tokens"); True is an option without a value.
    needs: an option without which the step is left out; variable: where else it may come from;
    hint: what to give, in words. "" for what nobody misses. saves: see `result`.
    """

    name: str
    script: str
    profile: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None
    variable: str | None = None
    hint: str = ""
    saves: str | None = None

    @property
    def result(self) -> str:
        """The name of the result file that it leaves behind."""
        return self.saves or self.name.removeprefix("test_")


def level(name: str, **options: Any) -> Step:
    return Step(name, BENCHMARK, GATEWAY, {**POEM, **options})


STEPS = (
    Step(
        "gateway_overhead",
        BENCHMARK,
        GATEWAY,
        {"gateway_only": True, "requests": 50, "warmup": 5},
    ),
    Step("test_openai_sdk", "test_openai_sdk", GATEWAY, saves="openai_sdk_test"),
    Step(
        "test_cors",
        "test_cors",
        GATEWAY,
        needs="origin",
        variable="CORS_ORIGIN",
        hint="--origin ORIGIN, the web page that should be allowed,",
    ),
    Step("test_tools", "test_tools", GATEWAY),
    level("inference_c1", concurrency=1, requests=10),
    level("inference_c4", concurrency=4, requests=20),
    level(
        "inference_c8",
        prompt="Explain quantum computing in simple terms",
        max_tokens=256,
        concurrency=8,
        requests=30,
        warmup=3,
    ),
    Step("gateway_cost", BENCHMARK, GATEWAY, {"inference_only": True}, needs="direct_url"),
    Step("test_context", "test_context", GATEWAY),
    Step("test_concurrency", "test_concurrency", GATEWAY),
    Step("test_queue", "test_queue", GATEWAY, saves="queue_behavior"),
    Step("test_scale_to_zero", "test_scale_to_zero", GATEWAY),
    Step(
        "test_rate_limit",
        "test_rate_limit",
        GATEWAY,
        needs="limit",
        hint="--limit N, the requests that the key may send in a minute,",
    ),
    # Waking comes first, while the fleet may still be asleep.
    Step("test_wol", "test_wol", FLEET),
    Step("test_auth", "test_auth", FLEET),
    Step("test_model_routing", "test_model_routing", FLEET, {"models": CLASSES}),
    Step("test_workload_routing", "test_workload_routing", FLEET, {"requests": 20}),
)
# What the name of a level says, and so the name of its result file; and a name that says it. An
# operator's own level may also measure what has no such name: embeddings, or the capacity.
OF_THE_NAME = {
    "concurrency": "inference_c16",
    "rate": "inference_r5",
    "depth": "inference_c1_d8000",
    "turns": "inference_c4_t5",
}
OF_THE_GUIDES_NAMES = {"endpoint": "inference_c1_responses", "find_capacity": "inference_c2"}
SCRIPTS = tuple(dict.fromkeys(each.script for each in STEPS))
NAMES = tuple(dict.fromkeys(name for each in STEPS for name in (each.script, each.name)))


def is_step(name: str) -> bool:
    """Whether --only, --skip or a table of the configuration may name it."""
    return name in NAMES or OTHER_LEVEL.fullmatch(name) is not None


def with_other_levels(names: Collection[str]) -> list[Step]:
    """All steps, in order, and a level of benchmark.py for each name of one that is not there."""
    known = {each.name for each in STEPS}
    others = sorted(set(names) - known - set(NAMES), key=load_of)
    steps: list[Step] = []
    for each in STEPS:
        steps.append(each)
        if each.name == LAST_LEVEL:
            steps += [other_level(name) for name in others]
    return steps


def other_level(name: str) -> Step:
    match = OTHER_LEVEL.fullmatch(name)
    assert match
    other: dict[str, Any] = {"endpoint": "responses"} if match[5] else {}
    if match[1]:
        work = {"depth": match[2], "turns": match[3]}
        own = other | {option: int(value) for option, value in work.items() if value}
        return level(name, concurrency=int(match[1]), requests=max(10, 4 * int(match[1])), **own)
    return level(name, rate=float(match[4]), duration=60, **other)


def load_of(name: str) -> tuple[bool, int, int, float]:
    """Closed loops come before open ones, less load before more."""
    match = OTHER_LEVEL.fullmatch(name)
    assert match
    work = int(match[2] or 0), int(match[3] or 0)
    return match[1] is None, *work, float(match[1] or match[4])


def selected(
    steps: Sequence[Step], profile: str, only: Collection[str], skip: Collection[str]
) -> list[Step]:
    """Those of the profile that --only and --skip leave, by the script's name or the step's own."""
    return [
        each
        for each in steps
        if profile in (each.profile, ALL)
        and (not only or {each.name, each.script} & set(only))
        and not {each.name, each.script} & set(skip)
    ]


def options_of(step: Step, *others: Mapping[str, Any]) -> dict[str, Any]:
    """The guide's options, changed by each of the others in turn; False takes an option away."""
    options = dict(step.options)
    for changes in others:
        options = changed(options, changes)
    return {name: value for name, value in options.items() if value is not False}


def makes_another_level(step: Step, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first option with which a level would measure, and save, something else than its name
    says, and an example of a name for that; None when there is none."""
    if not OTHER_LEVEL.fullmatch(step.name):
        return None
    named = OF_THE_NAME | (OF_THE_GUIDES_NAMES if step in STEPS else {})
    found = (each for each in named.items() if options.get(each[0]) != step.options.get(each[0]))
    return next(found, None)


def changed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the changes; what cannot stand beside one of these gives way."""
    gone = {other for name in changes for other in GIVE_WAY.get(name, ())}
    return {name: value for name, value in options.items() if name not in gone} | {**changes}
