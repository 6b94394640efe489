"""test_context.py: its rules on answers made by hand, and the script where a table has no row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from helpers.answers import answer, streamed
from helpers.scripts import SavedAs, run_script

import test_context as context
from common import Status
from livecheck.gateway.context_evidence import (
    BEYOND,
    HALF,
    LONG,
    RATE,
    SHORT,
    TOGETHER,
    Asked,
    Evidence,
)
from livecheck.gateway.context_prompt import Prompt, make_prompt
from livecheck.gateway.context_size import (
    Promise,
    limits_named,
    promise_of_models,
    promise_of_props,
    says_too_long,
)
from livecheck.wire import chat
from livecheck.wire.asking import Cause, Stop
from livecheck.wire.token_rate import Counted, find_rate, stalls
from livecheck.wire.wire import Failure
from reference import running

SCRIPT = "test_context.py"
SAVED = SavedAs("context")
QUICK = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1, "slots": 4, "context_size": 4096}
LLAMA_S = 250  # for a run on a real model, beside other tests
SIZE, BASE, EACH = 1000, 80, 9  # tokens: of the context, of a prompt without sentences, of each
LENGTHS = {RATE: 16, SHORT: 8, HALF: 46, LONG: 96, TOGETHER: 46, BEYOND: 108}
FAR_RATE = Counted(64, BASE + 64 * EACH)
TOO_LONG = {"error": {"message": "the prompt exceeds the context size (1000 tokens)", "code": 400}}


def prompt_of(phase: str) -> Prompt:
    return make_prompt(LENGTHS[phase], random.Random(1))


def asked(
    phase: str,
    found: str = "+++",
    tokens: float | None = None,
    ttft_ms: float = 10.0,
    read: float | None = None,
) -> Asked:
    """A prompt that was answered. `found`: which numbers are repeated; `tokens`: the server's
    count, else the right one; `read`: how many tokens the engine says that it has read."""
    prompt = prompt_of(phase)
    said = [each for each, mark in zip(prompt.numbers, found, strict=True) if mark == "+"]
    counted = BASE + EACH * prompt.sentences if tokens is None else tokens
    usage = {"prompt_tokens": counted, "completion_tokens": 9, "total_tokens": counted + 9}
    request = chat.completion("m", prompt.text, 64)
    made = streamed(ttft_ms, texts=["The", f" numbers: {said}"], usage=usage, request=request)
    if read is not None:
        made.stream.timings = {"prompt_n": read, "prompt_ms": ttft_ms}
    return Asked(phase, prompt, 64, made)


def wordless(phase: str, reason: str, tokens: int) -> Asked:
    """A stream without text, of which so many tokens are counted."""
    prompt = prompt_of(phase)
    counted = BASE + EACH * prompt.sentences
    usage = {"prompt_tokens": counted, "completion_tokens": tokens}
    usage["total_tokens"] = counted + tokens
    request = chat.completion("m", prompt.text, 64)
    made = streamed(10.0, texts=[], usage=usage, request=request)
    made.stream.finish_reason = reason
    return Asked(phase, prompt, 64, made)


def refused(phase: str, status: int, body: Any, failure: Failure | None = None) -> Asked:
    prompt = prompt_of(phase)
    request = chat.completion("m", prompt.text, 64)
    made = answer(None if failure else status, {}, body, request=request, failure=failure)
    return Asked(phase, prompt, 64, made)


def evidence(*more: Asked, timeout_s: float = 60.0) -> Evidence:
    """What a sound deployment and a good model give; `more` in the place of the same phases."""
    phases = {each.phase for each in more}
    usual = [asked(phase) for phase in (SHORT, SHORT, HALF, HALF, LONG) if phase not in phases]
    usual += [asked(TOGETHER) for _ in range(2) if TOGETHER not in phases]
    if BEYOND not in phases:
        usual.append(refused(BEYOND, 400, TOO_LONG))
    found = Evidence(Promise(SIZE, "--context"), None, 2, timeout_s, [*usual, *more])
    found.rate = find_rate([Counted(8, BASE + 8 * EACH), Counted(36, BASE + 36 * EACH), FAR_RATE])
    return found


# --- the count


def test_a_sound_deployment_passes_every_check() -> None:
    found = {check.name: check.status for check in context.judge(evidence())}
    assert set(found.values()) == {Status.PASS}, found


@pytest.mark.parametrize("seed", range(20))
def test_a_count_that_is_off_by_two_tokens_is_no_cut(seed: int) -> None:
    """Tokenizers cut the numbers of one prompt into more tokens than those of another."""
    chance = random.Random(seed)
    counts = [Counted(n, BASE + EACH * n + chance.choice((-1, 0, 1))) for n in (36, 8, 64)]
    rate = find_rate(counts)
    assert rate
    for sentences in (100, 1_000, 14_000):
        off = chance.choice((-2, 0, 2))
        assert not rate.lacking(Counted(sentences, BASE + EACH * sentences + off))


@pytest.mark.parametrize("tokens", [500, 800, 920])
def test_a_cut_prompt_is_a_fail(tokens: int) -> None:
    check = context.check_taken(evidence(asked(LONG, tokens=tokens)))
    assert check.status is Status.FAIL and f"{tokens} are counted" in check.detail


def test_less_than_a_sentence_is_not_missing() -> None:
    found = evidence(asked(LONG, tokens=930))  # 944 were sent, ±6.3
    assert context.check_taken(found).status is Status.PASS


def test_tokens_of_a_cache_that_are_counted_apart_are_no_cut() -> None:
    rate = evidence().rate
    assert rate and not rate.lacking(Counted(96, BASE + 96 * EACH - 200, cached=200))


def test_a_cache_that_the_first_prompt_fills_does_not_blur_the_rate() -> None:
    counted_in = [Counted(36, 404), Counted(8, 152, 24), Counted(64, 656, 24)]
    apart = [Counted(36, 404), Counted(8, 128, 24), Counted(64, 632, 24)]
    for counts, unseen in ((counted_in, 0), (apart, 24)):
        rate = find_rate(counts)
        assert rate and (rate.per_sentence, rate.error, rate.unseen) == (9, 2, unseen)


def test_counts_that_stop_growing_are_those_of_a_cut_prompt() -> None:
    cut = [Counted(36, 201), Counted(8, 98), Counted(64, 201)]
    assert find_rate(cut) is None and stalls(cut)
    constant = [Counted(36, 12), Counted(8, 12), Counted(64, 12)]
    assert find_rate(constant) is None and not stalls(constant)  # it counts nothing


def test_a_server_that_counts_nothing_is_not_judged() -> None:
    assert find_rate([]) is None and not stalls([])
    found = evidence(asked(LONG, tokens=0))
    check = context.check_taken(found)
    assert check.status is Status.SKIP and check.essential
    found.asked, found.rate, found.untold = [], None, "the server does not count"
    assert all(each.status in (Status.SKIP, Status.PASS) for each in context.judge(found))


# --- a prompt without an answer


def silent(phase: str) -> Asked:
    return refused(phase, 0, b"", Failure("timeout", "not finished after 60 s"))


def test_silence_is_a_fail_only_where_there_was_time_enough() -> None:
    assert context.check_taken(evidence(silent(LONG))).status is Status.FAIL
    slow = [asked(HALF, ttft_ms=40_000)] * 2  # the long one may take four times as long
    check = context.check_taken(evidence(silent(LONG), *slow))
    assert check.status is Status.SKIP and check.essential and "--timeout" in check.detail


@pytest.mark.parametrize(
    ("status", "expected"), [(503, Status.SKIP), (500, Status.FAIL), (400, Status.FAIL)]
)
def test_a_busy_deployment_is_not_judged(status: int, expected: Status) -> None:
    for phase, check in ((LONG, context.check_taken), (TOGETHER, context.check_together)):
        one = refused(phase, status, {"error": {"message": "planted"}})
        assert check(evidence(one, one)).status is expected


def test_a_rate_limit_decides_nothing() -> None:
    found = evidence(refused(LONG, 429, b""), refused(BEYOND, 429, b""))
    found.stopped = Stop(Cause.RATE_LIMIT, "the rate limit is reached")
    for check in (context.check_taken(found), context.check_beyond(found)):
        assert check.status is Status.SKIP and check.essential and "rate limit" in check.detail


# --- what is remembered


def test_a_sharp_edge_is_a_dropped_beginning() -> None:
    check = context.check_remembered(evidence(*[asked(LONG, "-++") for _ in range(3)]))
    assert check.status is Status.FAIL and "the beginning is dropped" in check.detail


def test_a_weak_model_is_not_accused() -> None:
    lost = [asked(LONG, "-++") for _ in range(3)]
    # it overlooks numbers that are nearer to the end than others that it finds
    check = context.check_remembered(evidence(*lost, asked(HALF, "+-+"), asked(HALF)))
    assert check.status is Status.WARN and "the model is weak" in check.detail
    # the engine has read all of the text
    read = [asked(LONG, "-++", read=BASE + 96 * EACH) for _ in range(3)]
    assert "timings" in context.check_remembered(evidence(*read)).detail
    # the text took its time
    slow = [asked(LONG, "-++", ttft_ms=2_000) for _ in range(3)]
    slow += [asked(HALF, ttft_ms=1_000)] * 2
    check = context.check_remembered(evidence(*slow))
    assert check.status is Status.WARN and "prefill" in check.detail


@pytest.mark.parametrize(
    ("half_ms", "long_ms", "status"),
    [
        ((55.0, 56.0), 105.0, Status.WARN),  # a fast GPU
        ((55.0, 75.0), 105.0, Status.FAIL),  # equal prompts differ by as much
        ((55.0, 56.0), 58.0, Status.FAIL),
        ((15.0, 15.0), 25.0, Status.FAIL),  # that may be anything
    ],
)
def test_a_prefill_of_few_milliseconds_counts_where_it_is_steady(
    half_ms: tuple[float, ...], long_ms: float, status: Status
) -> None:
    short = [asked(SHORT, ttft_ms=each) for each in (10.0, 10.5)]
    half = [asked(HALF, ttft_ms=each) for each in half_ms]
    lost = [asked(LONG, "-++", ttft_ms=long_ms) for _ in range(3)]
    assert context.check_remembered(evidence(*lost, *half, *short)).status is status


def test_the_prefill_of_a_cut_text_does_not_excuse_it() -> None:
    lost = [asked(LONG, "-++", ttft_ms=1_050) for _ in range(3)]
    check = context.check_remembered(evidence(*lost, *[asked(HALF, ttft_ms=1_000)] * 2))
    assert check.status is Status.FAIL


def test_a_model_that_cannot_repeat_short_texts_shows_nothing() -> None:
    found = evidence(asked(SHORT, "-++"), asked(SHORT, "+++"), *[asked(LONG, "-++")] * 3)
    check = context.check_remembered(found)
    assert check.status is Status.SKIP and "small model" in check.detail


def test_thoughts_that_take_all_tokens_leave_it_undecided() -> None:
    check = context.check_remembered(evidence(*[wordless(SHORT, "length", 64)] * 2))
    assert check.status is Status.SKIP and check.essential and "--max-tokens" in check.detail


def test_a_loss_that_only_load_brings_is_a_fail() -> None:
    lost = [asked(TOGETHER, "-++")] * 4
    check = context.check_together(evidence(*lost, *[asked(HALF)] * 5))
    assert check.status is Status.FAIL and "under load" in check.detail
    read = [asked(TOGETHER, "-++", read=BASE + 46 * EACH)] * 4
    assert context.check_together(evidence(*read, *[asked(HALF)] * 5)).status is Status.WARN


def test_a_loss_that_may_be_chance_is_no_fail() -> None:
    check = context.check_together(evidence(*[asked(TOGETHER, "-++")] * 2))
    assert check.status is Status.WARN and "may be too weak" in check.detail
    some = [asked(TOGETHER, "-++")] * 4 + [asked(TOGETHER)] * 4
    assert context.check_together(evidence(*some, *[asked(HALF)] * 6)).status is Status.WARN
    unsure = [asked(TOGETHER, "-++")] * 2 + [asked(HALF)] * 2 + [asked(HALF, "-++")]
    check = context.check_together(evidence(*unsure))
    assert check.status is Status.WARN and "alone by 2 of 3" in check.detail


@pytest.mark.parametrize("shown", ["---", "-++"])
def test_what_a_weak_model_cannot_show_is_not_decided(shown: str) -> None:
    """Unless the engine itself says that it has read all of it."""
    for phase, check in ((TOGETHER, context.check_together), (LONG, context.check_remembered)):
        weak = [asked(SHORT, shown)] * 2 + [asked(HALF, shown)] * 2
        found = check(evidence(*weak, asked(phase, shown), asked(phase, shown)))
        assert found.status is Status.SKIP and found.essential, found
        tokens = BASE + EACH * LENGTHS[phase]
        found = check(evidence(*weak, *[asked(phase, shown, read=tokens)] * 2))
        assert found.status is Status.SKIP and not found.essential, found
        assert "the engine has read all of it" in found.detail
    lost_alone = [asked(TOGETHER, "-++")] * 2 + [asked(HALF, "-++")] * 2
    assert context.check_together(evidence(*lost_alone)).status is Status.SKIP


# one of two at once is lost each time: to show that it is not chance would cost twelve contexts
@pytest.mark.parametrize(
    ("lost", "kept", "more"),
    [(0, 8, None), (2, 0, 3), (3, 1, 4), (8, 0, 0), (1, 2, None), (1, 1, None)],
)
def test_more_is_asked_only_where_it_can_decide(lost: int, kept: int, more: int | None) -> None:
    found = evidence(*[asked(TOGETHER, "-++")] * lost, *[asked(TOGETHER)] * kept)
    assert context.more_alone(found) == more
    if more is None:
        return
    found.asked += [asked(HALF)] * more + found.of(TOGETHER)
    assert context.check_together(found).status is Status.FAIL
    assert context.more_alone(found) is None


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (("length",), Status.FAIL),
        (("stop",), Status.WARN),
        (("length", "stop"), Status.WARN),
        (("length", ""), Status.WARN),
    ],
)
def test_a_model_that_ends_at_once_has_room(reasons: tuple[str, ...], expected: Status) -> None:
    found = [wordless(LONG, reason, 0) if reason else asked(LONG) for reason in reasons]
    assert context.check_room(evidence(*found)).status is expected


def test_a_number_is_found_however_it_is_written() -> None:
    prompt = Prompt("", 8, ("5185", "6874", "9684"))
    assert prompt.found_in("5,185, 6 874 and **9684**.") == (True, True, True)
    assert prompt.found_in("51850 and 6874") == (False, True, False)


def test_what_a_cut_answer_did_not_come_to_is_not_lost() -> None:
    one = asked(LONG, "+--")
    one.answer.stream.finish_reason = "length"
    assert one.found == (True, None, None)


# --- beyond the context


def cut_by_length(phase: str, found: str) -> Asked:
    one = asked(phase, found)
    one.answer.stream.finish_reason = "length"
    return one


def test_a_beginning_that_is_lost_beyond_is_compared_with_the_longest() -> None:
    lost = asked(BEYOND, "-++")
    assert context.check_beyond(evidence(lost)).status is Status.FAIL
    weak = evidence(lost, asked(LONG, "-++"), asked(LONG))
    assert context.check_beyond(weak).status is Status.WARN


@pytest.mark.parametrize(
    ("found", "expected"), [("--+", Status.FAIL), ("-+-", Status.WARN), ("---", Status.PASS)]
)
def test_a_cut_answer_does_not_hide_a_lost_beginning(found: str, expected: Status) -> None:
    assert context.check_beyond(evidence(cut_by_length(BEYOND, found))).status is expected


def test_more_than_promised_is_not_a_fault() -> None:
    check = context.check_beyond(evidence(asked(BEYOND)))
    assert check.status is Status.PASS and "more than promised" in check.detail


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 1000 tokens. However, you requested 1100 tokens",
        "request (2230 tokens) exceeds the available context size (2048 tokens)",
        "Input length (1100) exceeds the maximum allowed length",
        "prompt is too long: 1100 tokens > 1000 maximum",
        "The input token count (1100) exceeds the maximum number of tokens allowed (1000).",
        "`inputs` tokens + `max_new_tokens` must be <= 1000. Given: 1100 `inputs` tokens and 64 "
        "`max_new_tokens`",
        "The input (1100 tokens) is longer than the model's context length (1000 tokens).",
        "Requested tokens (1100) exceed context window of 1000",
        "Prompt length 1100 is greater than max_seq_len 1000",
        "Prompt contains 1100 tokens, too large for model with 1000 maximum context length",
        "litellm.ContextWindowExceededError",
        "Range of input length should be [1, 1000]",
        "Please reduce the length of the messages or completion.",
        "the request exceeds the available context size, try increasing it",
        "Trying to keep the first 1100 tokens when context overflows",
        "the body exceeds 5000 bytes",
        "Payload Too Large",
    ],
)
def test_a_refusal_that_names_the_limit_passes(words: str) -> None:
    one = refused(BEYOND, 400, {"error": {"message": words}})
    assert says_too_long(one.answer)
    assert context.check_beyond(evidence(one)).status is Status.PASS


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_without_a_reason_is_a_warning(status: int) -> None:
    for words in WITHOUT_REASON:
        one = refused(BEYOND, status, {"error": {"message": words}})
        assert context.check_beyond(evidence(one)).status is Status.WARN, words


WITHOUT_REASON = (
    *("", "bad request", "invalid JSON", "the model is not loaded", "no context is available"),
    "an error in the context of this request",
)


def test_a_refusal_says_what_it_names() -> None:
    named = refused(BEYOND, 400, TOO_LONG)
    assert "it names the limit of 1000" in context.check_beyond(evidence(named)).detail
    page = b"<html><title>413 Request Entity Too Large</title><hr>nginx</html>"
    found = context.check_beyond(evidence(refused(BEYOND, 413, page)))
    assert found.status is Status.PASS and "says that the prompt is too long" in found.detail


# --- what is promised


@pytest.mark.parametrize(("said", "expected"), [(900, Status.WARN), (1100, Status.PASS)])
def test_only_less_than_the_option_says_is_a_warning(said: int, expected: Status) -> None:
    found = evidence()
    found.said = Promise(said, "/v1/models")
    assert context.check_promise(found).status is expected


@pytest.mark.parametrize(
    ("entry", "tokens"),
    [
        ({"meta": {"n_ctx": 512, "n_ctx_train": 8192}}, 512),
        ({"meta": {"n_ctx_train": 8192}}, None),
        ({"max_model_len": 32768}, 32768),
        ({"loaded_context_length": 4096, "max_context_length": 131072}, 4096),
        ({"context_length": "16384"}, 16384),
        ({"max_model_len": None}, None),
        ({"max_model_len": -1, "n_ctx": [1]}, None),
    ],
)
def test_the_promise_is_what_one_request_may_have(entry: Any, tokens: int | None) -> None:
    listing = answer(200, {}, {"data": [{"id": "other", "n_ctx": 1}, {"id": "m", **entry}]})
    found = promise_of_models(listing, "m")
    assert (found.tokens if found else None) == tokens


def test_props_name_the_context_of_one_slot() -> None:
    props = answer(200, {}, {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 4})
    found = promise_of_props(props)
    assert found and found.tokens == 2048
    assert promise_of_props(answer(404, {}, {"n_ctx": 1})) is None


def test_a_whole_part_of_the_context_is_a_hint_at_slots() -> None:
    said = answer(400, {}, {"error": {"message": "exceeds (1,024 tokens), 2042 were sent"}})
    assert limits_named(said) == [1024, 2042]
    assert "divided by 4" in context.divided(4096, limits_named(said))
    assert context.divided(4096, [1000]) == ""


# --- the script


@pytest.mark.timeout(600)
def test_llama_cpp_keeps_the_context_of_a_slot_and_has_no_more(tmp_path: Path) -> None:
    """It divides its context by the slots. What SmolLM2 remembers decides nothing here."""
    with running(engine="llama", rate_limit=0, slots=2, context_size=1024) as deployment:
        target = ("--url", deployment.url, "--api-key", deployment.api_key)
        sound = run_script(
            SCRIPT, *target, "--concurrency", 2, results=tmp_path / "slot", timeout_s=LLAMA_S
        )
        size = ("--context", 1024, "--skip", "together")
        divided = run_script(SCRIPT, *target, *size, results=tmp_path / "all", timeout_s=LLAMA_S)
    assert sound.code == 0, sound.out
    assert SAVED.only("PASS", sound) >= {"promise", "taken", "room", "beyond", "form"}, sound.out
    assert divided.code == 1 and SAVED.only("FAIL", divided) == {"taken"}, divided.out
    assert "1024 divided by 2" in " ".join(divided.out.split())


def test_it_asks_for_the_context_where_nobody_says_it(tmp_path: Path) -> None:
    with running(**QUICK, rate_limit=0) as deployment:
        target = ("--url", deployment.url, "--api-key", deployment.api_key)
        finished = run_script(SCRIPT, *target, results=tmp_path)
    assert finished.code == 3 and "give --context" in finished.err


def test_a_reached_rate_limit_is_exit_3(tmp_path: Path) -> None:
    with running(**QUICK, skills="context", rate_limit=8) as deployment:
        target = ("--url", deployment.url, "--api-key", deployment.api_key)
        finished = run_script(SCRIPT, *target, results=tmp_path)
    assert finished.code == 3, finished.out
    assert not SAVED.only("FAIL", finished)
    saved = json.loads((tmp_path / "context.json").read_text())
    assert [each["rate_limited"] for each in saved["requests"]].count(True) == 1
