"""test_openai_sdk.py with the real SDK in its three majors; its verdicts on any answer."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from helpers.bench import SPARE_S
from helpers.hostile import Call, Server, error, hang
from helpers.scripts import Finished, start_script
from helpers.sdk import (
    DOCUMENT,
    KEY,
    MODEL,
    SDK,
    TOOL_CALL,
    capable,
    completion,
    logprob,
    only,
    run_sdk,
    say,
    statuses,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import test_openai_sdk as script
from common import Check, Status
from livecheck.gateway.openai_client import SdkCall
from livecheck.gateway.sdk_failures import MAY_BE_REFUSED
from livecheck.gateway.sdk_session import word_to_stop_at
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Reply, Request
from reference import Deployment, running

QUICK: dict[str, Any] = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1}
every_major = pytest.mark.parametrize("major", (1, 2, 3))


# --- sound deployments


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    with running(**QUICK, rate_limit=0) as deployment:
        yield deployment


SIM_IGNORES = {"stop", "n", "logprobs", "json_object", "json_schema", "tools"}
SIM_REFUSES = {"embeddings", "retrieve", "completions", "responses"}


@every_major
def test_a_sound_gateway_passes_with_every_major_of_the_sdk(major: int, sim: Deployment) -> None:
    finished = run_sdk(sim.url, key=sim.api_key, major=major)
    assert finished.code == 0, finished.out
    assert only("WARN", finished) == SIM_IGNORES
    assert only("SKIP", finished) == SIM_REFUSES | {"seed", "unicode"}
    client = finished.document(DOCUMENT)["client"]
    assert client["openai"].startswith(f"{major}.")
    assert client["http_library"].startswith("httpx2" if major == 3 else "httpx 0")
    assert max(map(len, finished.out.splitlines())) <= 80
    assert "Traceback" not in finished.everything


def test_the_engine_itself_passes_and_authentication_is_off_there(sim: Deployment) -> None:
    finished = run_sdk(sim.engine_url, "--only", *script.CONTRACT, key="")
    assert finished.code == 0
    assert finished.check(DOCUMENT, "wrong_key")["status"] == "SKIP"


def test_a_key_that_nobody_looks_at_is_a_warning(sim: Deployment) -> None:
    finished = run_sdk(sim.engine_url, "--only", "wrong_key")
    assert (finished.code, statuses(finished)) == (0, {"wrong_key": "WARN"})


def test_a_gateway_that_keeps_connections_and_asks_for_no_key_passes() -> None:
    with running(**QUICK, connection="keep-alive", auth_enabled=False) as deployment:
        finished = run_sdk(deployment.url, "--only", *script.CONTRACT, "async", key="")
        given_one = run_sdk(deployment.url, "--only", "wrong_key")
    assert finished.code == 0
    for each in (finished, given_one):  # /health says that it is meant to be so
        assert each.check(DOCUMENT, "wrong_key")["status"] == "SKIP"


@pytest.mark.timeout(300)
def test_the_real_engine_passes_through_the_gateway_and_without_it() -> None:
    brief = ("--max-tokens", 16, "--skip", "json_object", "tools")  # the longest answers
    with running(engine="llama", rate_limit=0) as deployment:
        judge_llama(run_sdk(deployment.url, *brief, key=deployment.api_key), "PASS")
        judge_llama(run_sdk(deployment.engine_url, *brief[:2], key=""), "SKIP")


def judge_llama(finished: Finished, wrong_key: str) -> None:
    assert finished.code == 0, finished.out
    passed = only("PASS", finished)
    assert {*script.CONTRACT, "answers"} - {"wrong_key"} <= passed
    assert {"stop", "n", "logprobs", "json_schema", "completions", "async"} <= passed
    assert finished.check(DOCUMENT, "embeddings")["evidence"]["status"] == 501
    assert finished.check(DOCUMENT, "wrong_key")["status"] == wrong_key


# --- a server that can do everything

PLANTED = {
    "OPENAI_API_KEY": "planted-key",
    "OPENAI_ADMIN_KEY": "planted-admin",
    "OPENAI_ORG_ID": "planted-organisation",
    "OPENAI_PROJECT_ID": "planted-project",
    "OPENAI_CUSTOM_HEADERS": "X-Planted: planted-header",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/planted",
    "OPENAI_WEBHOOK_SECRET": "planted-secret",
    "OPENAI_LOG": "debug",
    "AZURE_OPENAI_API_KEY": "planted-azure",
}


@every_major
def test_all_that_a_server_can_do_passes_and_no_openai_setting_reaches_it(major: int) -> None:
    with Server(everywhere=capable) as server:
        finished = run_sdk(server.url, major=major, env=PLANTED)
    assert finished.code == 0, finished.out
    assert set(statuses(finished).values()) == {"PASS"}, finished.out
    seen = [f"{call.path} {call.headers} {call.body!r}".lower() for call in server.calls]
    assert len(seen) == finished.document(DOCUMENT)["metrics"]["requests"] + 1
    assert not [each for each in seen if "planted" in each or "openai-" in each]
    assert "planted" not in finished.everything
    keys = {call.headers.get("authorization", "")[:16] for call in server.calls}
    assert keys == {f"Bearer {KEY}", "Bearer sk-wrong-", ""}  # wrong_key asks without one as well


def test_no_netrc_and_no_proxy_come_between(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password planted\n")
    env = {"http_proxy": "http://127.0.0.1:9", "NETRC": str(tmp_path / ".netrc")}
    with Server(everywhere=capable) as server:
        finished = run_sdk(server.url, "--only", "completion", "models", key=KEY, env=env)
    assert finished.code == 0
    assert {call.headers.get("authorization") for call in server.calls} == {f"Bearer {KEY}"}


def test_only_what_is_wanted_is_asked() -> None:
    with Server(everywhere=capable) as server:
        finished = run_sdk(server.url, "--only", "models", "retrieve")
    assert [unquote(call.path) for call in server.calls] == [
        "/v1/models",
        "/v1/models",
        f"/v1/models/{MODEL}",
    ]
    assert list(statuses(finished)) == ["models", "retrieve"]


def test_the_model_that_was_named_is_asked_for() -> None:
    with Server(everywhere=capable) as server:
        finished = run_sdk(server.url, "--only", "completion", "--model", "other")
    assert (finished.code, finished.document(DOCUMENT)["target"]["model"]) == (1, "other")
    assert "404 NotFoundError: no such model" in finished.out


# --- what keeps a check from being decided


def test_the_rate_limit_is_exit_3_and_ends_the_asking() -> None:
    with running(**QUICK, rate_limit=4) as deployment:
        finished = run_sdk(deployment.url, key=deployment.api_key)
    assert finished.code == 3
    assert set(statuses(finished).values()) == {"PASS", "SKIP"}
    first = finished.check(DOCUMENT, "wire")
    assert "rate limit" in first["detail"] and "Retry-After 60" in first["detail"]
    assert "not asked: the rate limit is reached" in finished.check(DOCUMENT, "tools")["detail"]
    assert finished.document(DOCUMENT)["metrics"]["requests"] == 4


def test_a_key_that_only_the_model_list_does_without_is_exit_3() -> None:
    def answer_chat(call: Call) -> None:
        call.send(error(401, "who are you", "invalid_api_key"))

    with Server(chat=answer_chat) as server:
        finished = run_sdk(server.url)
    assert finished.code == 3
    assert "the API key was refused (401" in finished.err


def test_what_was_decided_before_an_interruption_is_saved() -> None:
    def pause(call: Call) -> None:
        capable(call) if call.fields.get("stream") is None else hang(call)

    with Server(chat=pause) as server:
        with start_script(SDK, "--url", server.url, "--api-key", KEY, "--model", MODEL) as process:
            server.wait_for(2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    finished = Finished(process.returncode, out, err, Path("results").absolute())
    assert (finished.code, statuses(finished)) == (130, {"completion": "PASS"})
    requests = finished.document(DOCUMENT)["requests"]
    assert [each["error"] for each in requests] == [None, "interrupted"]
    assert "Traceback" not in finished.everything


def test_after_one_request_without_an_end_nothing_more_is_asked() -> None:
    with Server(chat=hang) as server:
        finished = run_sdk(server.url, "--timeout", 1)
    assert finished.code == 1
    assert only("FAIL", finished) == {"completion", "answers"}
    skipped = "not asked: POST /v1/chat/completions: not finished after 1 s"
    assert skipped in finished.check(DOCUMENT, "async")["detail"]
    assert server.count() == 1


# --- verdicts on answers that no deployment here gives

GOOD = completion({"max_tokens": 8})


def changed(**more: Any) -> dict[str, Any]:
    """A good answer whose one choice is changed."""
    return {**GOOD, "choices": [{**GOOD["choices"][0], **more}]}


def answered(status: int, body: bytes = b"") -> Answer:
    reply = Reply(0, Request("POST", "/v1/chat/completions"), t0_ns=0, end_ns=2_000_000)
    reply.message.status, reply.body = status, body
    return Answer(reply)


def called(status: int = 200, sent: bytes = b"", **more: Any) -> SdkCall:
    arguments = {"max_tokens": 64, "model": "m", **more.pop("arguments", {})}
    return SdkCall("", "", arguments, answered(status, sent), **more)


def saying(text: str, reason: str = "stop", **arguments: Any) -> SdkCall:
    message = {"role": "assistant", "content": text}
    return called(data=changed(message=message, finish_reason=reason), arguments=arguments)


def refused(status: int, error: str = "APIStatusError", body: Any = None) -> SdkCall:
    sent = json.dumps({"error": body}).encode()
    return called(status, sent, sdk_error=error, sdk_text="no", error_body=body)


def listing(models: int) -> Answer:
    return answered(200, json.dumps({"data": [{"id": "m"}] * models}).encode())


def judged(name: str, call: SdkCall) -> Check:
    """The verdict on a capability when all its calls end like this one."""
    several: dict[str, list[Any]] = {
        "embeddings": [call, call],
        "unknown_model": [call, listing(1)],
        "parameters": [{}, call],
    }
    found: Check = script.judge(name, several.get(name, [call]))
    return found


@pytest.mark.parametrize("name", MAY_BE_REFUSED)
def test_a_clear_refusal_is_a_skip_and_everything_else_a_fail(name: str) -> None:
    for status in (400, 404, 405, 422, 501):
        as_it_should = name == "unknown_model" and status in (400, 404, 422)
        expected = Status.PASS if as_it_should else Status.SKIP
        assert judged(name, refused(status)).status is expected
    for status in (403, 409, 418, 500, 502, 503):
        assert judged(name, refused(status)).status is Status.FAIL
    assert judged(name, called(sdk_error="TypeError", sdk_text="no")).status is Status.FAIL
    limited = refused(429, body={"code": "rate_limit_exceeded"})
    assert (judged(name, limited).status, judged(name, limited).essential) == (Status.SKIP, True)


def test_an_unknown_model_is_refused_or_anyone_answers() -> None:
    body = {"message": "no such model"}
    assert script.check_unknown_model(refused(404, body=body), listing(2)).status is Status.PASS
    for status in (400, 404, 422):  # whatever words it has
        assert script.check_unknown_model(refused(status), listing(2)).status is Status.PASS
    assert script.check_unknown_model(saying("hello"), listing(1)).status is Status.PASS
    assert script.check_unknown_model(saying("hello"), listing(2)).status is Status.WARN


STOP_CASES = [
    ("wave after", "stop", "PASS"),
    ("wave after", "length", "FAIL"),  # the same text, but not called stopped
    ("wave after wave", "stop", "FAIL"),
    ("wave after wave and on", "stop", "WARN"),
    ("something else", "length", "SKIP"),
    ("something else", "stop", "PASS"),
]


@pytest.mark.parametrize(("text", "reason", "status"), STOP_CASES)
def test_a_stop_text_ends_the_answer_and_is_not_in_it(text: str, reason: str, status: str) -> None:
    free = saying("one after two and more", "length")
    word = word_to_stop_at("one after two and more")
    assert word == "and"
    text = text.replace("wave after wave", "one after two and").replace(
        "wave after", "one after two"
    )
    assert script.check_stop(free, saying(text, reason, stop=[word])).status.value == status


def test_a_stream_that_alone_ignores_the_stop_text_fails() -> None:
    free, kept = saying("one two and more"), saying("one two", stop=["and"])
    ignores = saying("one two and more", stop=["and"])
    for found, status in (
        ((kept, kept), Status.PASS),
        ((kept, ignores), Status.FAIL),
        ((ignores, ignores), Status.WARN),
    ):
        assert script.check_stop(free, *found).status is status


def test_an_answer_too_short_to_stop_in_is_a_skip() -> None:
    assert word_to_stop_at("one two") is None
    assert script.check_stop(saying("one two")).status is Status.SKIP


SEEDS = [("a", "a", "b", "PASS"), ("a", "a", "a", "SKIP"), ("a", "b", "c", "WARN")]


@pytest.mark.parametrize(("one", "again", "other", "status"), SEEDS)
def test_equal_seeds_give_equal_answers(one: str, again: str, other: str, status: str) -> None:
    found = script.check_seed(saying(one), saying(again), saying(other))
    assert found.status.value == status


JSON_CASES = [
    ('{"zorble": "plimfet", "frint": false}', "stop", "PASS"),
    ('{"zorble": "plimfet", "frint": 0}', "stop", "FAIL"),
    ('{"zorble": "plimfet", "frint": true, "x": 1}', "stop", "FAIL"),
    ("[1]", "stop", "FAIL"),
    ('{"zorble": ', "length", "SKIP"),
    ('{"zorble": ', "stop", "FAIL"),
    ("[" * 5000, "stop", "FAIL"),
    ("The sea is blue.", "stop", "WARN"),
    ("", "length", "SKIP"),
]


@pytest.mark.parametrize(("text", "reason", "status"), JSON_CASES)
def test_a_schema_is_kept_ignored_or_broken(text: str, reason: str, status: str) -> None:
    assert script.check_json_schema(saying(text, reason)).status.value == status


def with_logprobs(*tokens: tuple[str, bytes], content: str) -> SdkCall:
    found = [{**logprob(""), "token": text, "bytes": [*code]} for text, code in tokens]
    message = {"role": "assistant", "content": content}
    return called(data=changed(message=message, logprobs={"content": found}))


def test_tokens_that_are_parts_of_a_character_join_by_their_bytes() -> None:
    smile = "🫠".encode()
    parts = [("\ufffd", smile[:2]), ("\ufffd", smile[2:])]
    assert script.check_logprobs(with_logprobs(*parts, content="🫠")).status is Status.PASS
    cut = with_logprobs((" a", b" a"), ("\ufffd", smile[:2]), content=" a")
    assert script.check_logprobs(cut).status is Status.PASS
    ended = with_logprobs((" a", b" a"), ("<|im_end|>", b"<|im_end|>"), content=" a")
    assert script.check_logprobs(ended).status is Status.PASS
    other = with_logprobs((" a", b" a"), (" b", b" b"), (" c", b" c"), content=" a")
    assert script.check_logprobs(other).status is Status.FAIL


@pytest.mark.parametrize("value", [0.1, math.nan, None, True, "-1"])
def test_what_is_no_logarithm_of_a_probability_is_a_fail(value: Any) -> None:
    given_answer = with_logprobs((" a", b" a"), content=" a")
    given_answer.data["choices"][0]["logprobs"]["content"][0]["logprob"] = value
    assert script.check_logprobs(given_answer).status is Status.FAIL


VECTORS = [
    ([0.1, 0.2], [0.1, 0.2], "PASS"),
    ([0.1, 0.2], [0.1, 0.2000001], "PASS"),
    ([1, 0], [1.0, 0.0], "PASS"),
    ([0.1, 0.2], [0.2, 0.1], "FAIL"),
    ([0.1, 0.2], [0.1], "FAIL"),
    ([0.0, 0.0], [0.0, 0.0], "FAIL"),
    ([0.1, math.nan], [0.1, math.nan], "FAIL"),
    ([10**400], [10**400], "FAIL"),
    ([], [], "FAIL"),
    ("AACAPg==", [0.25], "FAIL"),
]


@pytest.mark.parametrize(("one", "other", "status"), VECTORS)
def test_both_forms_of_an_embedding_are_the_same_vector(one: Any, other: Any, status: str) -> None:
    calls = [called(data={"data": [{"embedding": vector}]}) for vector in (one, other)]
    assert script.check_embeddings(*calls).status.value == status


def test_embeddings_that_only_floats_get_are_a_warning_the_other_way_round() -> None:
    good = called(data={"data": [{"embedding": [0.1]}]})
    assert script.check_embeddings(refused(400), good).status is Status.FAIL
    assert script.check_embeddings(good, refused(400)).status is Status.SKIP


def tools(whole: Any, parts: list[Any], reasons: tuple[str, str] = ("tool_calls",) * 2) -> str:
    """The verdict on a call that is whole and one that comes in parts."""
    message = {"role": "assistant", "tool_calls": whole}
    first = called(data=changed(message=message, finish_reason=reasons[0]))
    chunks = [{"choices": [{"delta": {"tool_calls": [part]}}]} for part in parts]
    chunks.append({"choices": [{"delta": {}, "finish_reason": reasons[1]}]})
    bare = called(data={"usage": {"prompt_tokens": 5}})
    return script.check_tools(first, called(chunks=chunks), bare).status.value


def part(arguments: str, name: str | None = None, index: Any = 0) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return {"index": index, "function": function, **({"id": f"call_{index}"} if name else {})}


def test_a_tool_is_called_alike_streamed_and_not() -> None:
    halves = [part('{"city": ', "get_weather"), part('"Paris"}')]
    assert tools([TOOL_CALL], halves) == "PASS"
    assert tools([TOOL_CALL], halves, ("stop", "stop")) == "WARN"
    assert tools([TOOL_CALL], halves, ("tool_calls", "stop")) == "FAIL"
    assert tools([TOOL_CALL], halves[:1], ("tool_calls", "length")) == "SKIP"
    assert tools([TOOL_CALL], halves[:1]) == "FAIL"
    assert tools([TOOL_CALL], [part('{"city": "Paris"}', "other")]) == "FAIL"
    assert tools([TOOL_CALL], [part('{"town": "Paris"}', "get_weather")]) == "FAIL"
    assert tools([{**TOOL_CALL, "id": ""}], halves) == "FAIL"
    assert tools([], []) == "SKIP"  # a longer prompt: the tool was there, the model did not call


def test_two_parallel_calls_are_kept_apart_by_their_index() -> None:
    parts = [part('{"city": ', "get_weather", 0), part('{"city": ', "get_weather", 1)]
    parts += [part('"Rome"}', index=1), part('"Paris"}', index=0)]
    assert tools([TOOL_CALL, TOOL_CALL], parts) == "PASS"


def test_a_reasoning_model_may_still_be_thinking_when_its_tokens_are_spent() -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "hm"}
    two = {**GOOD, "choices": [{"index": index, "message": message} for index in (0, 1)]}
    assert script.check_n(called(data=two)).status is Status.PASS
    thinking = with_logprobs((" hm", b" hm"), content="")
    thinking.data["choices"][0]["message"] = message
    assert script.check_logprobs(thinking).status is Status.PASS


def test_thoughts_without_content_ask_for_more_tokens() -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "hm"}
    found = script.check_completion(called(data=changed(message=message)))
    assert (found.status, "--max-tokens" in found.detail) == (Status.WARN, True)


DEEP: Any = []
for _ in range(3000):
    DEEP = [DEEP]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.builds(lambda: DEEP),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "message", "content", "tool_calls", "function", "usage"]
                + ["arguments", "name", "index", "id", "finish_reason", "data", "logprobs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(value=json_values)
def test_no_answer_however_odd_is_more_than_a_verdict(value: Any) -> None:
    whole = called(data=value, arguments={"stop": ["de"]})
    streamed = called(chunks=[value, value], chunk_ms=[1.0, 2.0])
    found = [script.check_completion(whole), script.check_models(whole)]
    found += [script.check_stream(streamed), script.check_usage(streamed)]
    found += [script.check_embeddings(whole, whole), script.check_seed(whole, whole, whole)]
    found += [script.check_stop(saying("a bc de"), whole), script.check_n(whole)]
    found += [script.check_logprobs(whole), script.check_json_schema(whole)]
    found += [script.check_tools(whole, streamed, whole), script.check_retrieve(whole)]
    found += [script.check_unknown_model(whole, listing(2)), script.check_completions(whole)]
    for check in found:
        json.dumps(check.evidence)
        assert len(check.detail) < 1000


def test_any_name_is_in_order_only_where_one_model_was_seen() -> None:
    def any_name(call: Call) -> None:
        if call.path == "/v1/models":
            call.send(error(500, "no list"))
        elif b"no-such-model" in call.body:
            say(call, completion({"max_tokens": 4}))
        else:
            capable(call)

    with Server(everywhere=any_name) as server:
        finished = run_sdk(server.url, "--only", "unknown_model", "--model", MODEL)
    found = finished.check(DOCUMENT, "unknown_model")
    assert found["status"] == "SKIP"
    assert "how many models there are is not known: 500 no list" in found["detail"]


def test_a_server_that_never_answers_responses_costs_one_timeout() -> None:
    """Whole, streamed, and with tools in both forms: after the first silence none is asked."""
    with Server(answers={"/v1/responses": hang}) as server:
        began_s = time.monotonic()
        finished = run_sdk(server.url, "--only", "responses", "--timeout", 2)
        spent_s = time.monotonic() - began_s
        count = server.count("/v1/responses")
    assert finished.code == 1 and statuses(finished)["responses"] == "FAIL", finished.everything
    assert count == 1 and spent_s < 2 + SPARE_S
