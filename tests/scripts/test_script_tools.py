"""test_tools.py: what it says of calls, and of deployments that make none."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.answers import answer as made_answer
from helpers.http_server import QuietHandler, QuietServer
from helpers.scripts import Finished, run_script

import test_tools as script
from livecheck.core.checks import Status
from livecheck.gateway.tool_answers import ToolAnswer, markers_in, read_answer
from livecheck.gateway.tool_calls import DELTAS, GAPS, IDS, TYPE, Problem, ToolCall, ToolCalls
from livecheck.gateway.tool_questions import BY_NAME, LONG, LONG_BYTES, SCENARIOS
from livecheck.wire.asking import Cause, Stop
from livecheck.wire.shares import parse_bound
from reference import Deployment, running
from reference.process import ROOT

SIM = {"engine": "sim", "ttft_ms": 1, "itl_ms": 0, "rate_limit": 0, "output_tokens": 4}


def answer(name: str = "required", streamed: bool = False, **more: Any) -> ToolAnswer:
    about: dict[str, Any] = {"status": 200, "finish_reason": "stop", **more}
    return ToolAnswer(BY_NAME[name], streamed, **about)


def called(
    name: str = "required",
    streamed: bool = False,
    tools: str = "",
    arguments: str = '{"city": "Paris"}',
    problems: tuple[tuple[str, str], ...] = (),
    ids: str = "abcdef",
    **more: Any,
) -> ToolAnswer:
    names = tools.split() or BY_NAME[name].expected or ("get_weather",)
    calls = [ToolCall(each, arguments, own) for each, own in zip(names, ids, strict=False)]
    found = ToolCalls(calls, [Problem(*each) for each in problems])
    return answer(name, streamed, found=found, **{"finish_reason": "tool_calls", **more})


def verdict(check: str, *answers: ToolAnswer, **more: Any) -> str:
    judge = getattr(script, f"check_{check}")
    return str(judge(script.Evidence(list(answers), **more)).status.value)


# --- what the server does


@pytest.mark.parametrize(
    ("reason", "name", "expected"),
    [
        ("tool_calls", "choice", "PASS"),
        ("stop", "choice", "FAIL"),
        ("function_call", "choice", "FAIL"),
        ("TOOL_CALLS", "choice", "PASS"),  # `form` warns of that
        ("stop", "named", "PASS"),  # as OpenAI's own API
        ("stop", "required", "WARN"),
    ],
)
def test_the_finish_reason_beside_a_call(reason: str, name: str, expected: str) -> None:
    assert verdict("finish_reason", called(name, finish_reason=reason)) == expected


def test_a_finish_reason_of_calls_without_a_call_is_a_lost_call() -> None:
    assert verdict("finish_reason", answer(finish_reason="tool_calls")) == "FAIL"


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ('{"city": "Paris"}', "required", "PASS"),
        ('{"town": 1}', "required", "PASS"),  # the schema is the model's part
        ('{"city": "Paris"', "required", "FAIL"),
        ("{'city': 'Paris'}", "required", "FAIL"),
        ('{"city": NaN}', "required", "FAIL"),
        ("", "required", "FAIL"),
        ("null", "required", "FAIL"),
        ("", "empty", "PASS"),
        ("{}", "empty", "PASS"),
        ("null", "no_parameters", "PASS"),
        ('"{}"', "required", "WARN"),
        ("[1]", "required", "WARN"),
    ],
)
def test_arguments_are_a_json_object(arguments: str, name: str, expected: str) -> None:
    assert verdict("arguments", called(name, arguments=arguments)) == expected


def test_an_answer_that_is_cut_off_is_not_judged() -> None:
    cut = called("choice", arguments='{"ci', is_cut=True, finish_reason="length")
    for check in ("arguments", "finish_reason", "leaks", "deltas"):
        assert verdict(check, cut, called()) in ("PASS", "SKIP")
    assert verdict("calls", cut) == "SKIP"


@pytest.mark.parametrize(
    ("check", "kind", "expected"),
    [
        ("deltas", DELTAS, "FAIL"),
        ("deltas", GAPS, "WARN"),
        ("ids", IDS, "FAIL"),
        ("arguments", TYPE, "FAIL"),
    ],
)
def test_each_problem_of_a_call_is_judged(check: str, kind: str, expected: str) -> None:
    assert verdict(check, called(streamed=True, problems=((kind, "odd"),))) == expected


def test_deltas_without_an_index_make_no_call_and_are_judged() -> None:
    lost = answer(streamed=True, found=ToolCalls([], [Problem(DELTAS, "no index")]))
    assert verdict("deltas", lost) == "FAIL"


def test_an_id_comes_once_in_a_conversation() -> None:
    assert verdict("ids", called("two", ids="ab")) == "PASS"
    assert verdict("ids", called("two", ids="aa")) == "FAIL"
    assert verdict("ids", called("again", ids="a", asked_id="b")) == "PASS"
    assert verdict("ids", called("again", ids="a", asked_id="a")) == "FAIL"
    assert verdict("ids", called(ids="a", asked_id="a")) == "PASS"  # another conversation


def test_a_tool_choice_is_kept() -> None:
    assert verdict("tool_choice", called(), called("named"), answer("none")) == "PASS"
    assert verdict("tool_choice", called(), called("none")) == "FAIL"
    assert verdict("tool_choice", called(), called("named", tools="get_weather")) == "WARN"
    assert verdict("tool_choice", called(), answer("named")) == "WARN"
    assert verdict("tool_choice", answer()) == "SKIP"


def test_a_tool_that_is_not_there_is_called() -> None:
    assert verdict("known_tools", called(tools="get_time")) == "FAIL"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "[TOOL_CALLS]",
        "<|python_tag|>",
        "<|tool_calls_section_begin|>",
        "<|tool_call_end|>",
        "<\uff5ctool\u2581calls\u2581begin\uff5c>",
        "<function=get_weather>",
        '<invoke name="get_weather">',
        "<|channel|>",
        "<minimax:tool_call>",
    ],
)
def test_marks_of_calls_are_known(text: str) -> None:
    assert markers_in(f"So: {text} and on")


@pytest.mark.parametrize("text", ["a tool call", "<b>", "if a < b | c > d", "functions [1]", "x"])
def test_other_text_has_no_marks(text: str) -> None:
    assert not markers_in(text)


def test_a_part_of_a_call_in_the_text() -> None:
    as_json = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
    assert verdict("leaks", answer(content="It is sunny.")) == "PASS"
    assert verdict("leaks", answer(content="", markers=("<tool_call>",))) == "FAIL"
    assert verdict("leaks", answer(content=as_json)) == "WARN"
    assert verdict("leaks", answer(content=as_json.replace("get_weather", "Ada"))) == "PASS"


def test_calls_have_the_same_shape_in_streams() -> None:
    both = [called(streamed=streamed) for streamed in (False, True)]
    assert verdict("same_shape", *both) == "PASS"
    reason = dataclasses.replace(both[1], finish_reason="stop")
    assert verdict("same_shape", both[0], reason) == "FAIL"
    named = [
        called("named", s, finish_reason=r) for s, r in ((False, "stop"), (True, "tool_calls"))
    ]
    assert verdict("same_shape", *named) == "PASS"  # as vLLM did for a while
    lost = [answer(streamed=True), answer("choice", streamed=True)]
    assert verdict("same_shape", called(), *lost) == "PASS"
    assert verdict("same_shape", called(), called("choice"), *lost) == "WARN"  # may be chance
    assert verdict("same_shape", *[called(), called("choice"), *lost] * 3) == "FAIL"


def test_a_difference_now_and_then_may_be_chance() -> None:
    one, two = called("two", tools="get_weather"), called("two")
    streams = [dataclasses.replace(each, streamed=True) for each in (one, two)]
    assert verdict("same_shape", two, two, *streams) == "PASS"
    assert verdict("same_shape", two, streams[0]) == "PASS"
    assert verdict("same_shape", two, two, streams[0], streams[0]) == "WARN"
    assert verdict("same_shape", *[two] * 5, *[streams[0]] * 5) == "FAIL"
    thinking = called("thinking", thoughts="Which?")
    silent = dataclasses.replace(thinking, streamed=True, thoughts="")
    assert verdict("same_shape", *[thinking, silent] * 3) == "WARN"
    assert verdict("same_shape", *[thinking, silent] * 5) == "FAIL"
    assert verdict("same_shape", *[thinking, silent] * 5, called("thinking")) == "PASS"


@pytest.mark.parametrize("worse", [False, True])
def test_arguments_are_damaged_in_one_form(worse: bool) -> None:
    """Each is valid JSON; what a model does not write right in either form is its own affair."""
    good = [called(name, not worse) for name in ("required", "named", "choice")]
    bad = [
        dataclasses.replace(each, streamed=worse, found=ToolCalls([cut]))
        for each in good
        for cut in [ToolCall(each.calls[0].name, '{"city": "Pas"}', "a")]
    ]
    also_bad = [dataclasses.replace(each, streamed=not worse) for each in bad]
    assert verdict("same_shape", *good, *bad) == "PASS"
    assert verdict("same_shape", *[*good, *bad] * 3) == "FAIL"
    assert verdict("same_shape", *[*also_bad, *bad] * 3) == "PASS"
    half = [*good, *also_bad, *good, *bad, *bad, *also_bad]
    assert verdict("same_shape", *half) == "PASS"


@pytest.mark.parametrize("text", ["\N{REPLACEMENT CHARACTER}", "\\ufffd"])
def test_a_character_is_lost_in_the_arguments(text: str) -> None:
    garbled = [called("unicode", s, arguments=f'{{"text": "{text}"}}') for s in (False, True)]
    clear = [called("unicode", s, arguments='{"text": "x"}') for s in (False, True)]
    assert verdict("same_shape", *clear * 2) == "PASS"
    assert verdict("same_shape", *[garbled[1], clear[0]] * 2) == "FAIL"
    assert verdict("same_shape", *[garbled[0], clear[1]] * 2) == "FAIL"
    assert verdict("same_shape", *garbled * 2) == "WARN"
    assert verdict("same_shape", garbled[1], clear[0], *clear) == "WARN"  # once
    assert all("\N{REPLACEMENT CHARACTER}" not in each.prompt for each in SCENARIOS)


@pytest.mark.parametrize(
    "text",
    [
        "reasoning_content is missing in assistant tool call message at index 1",
        "The reasoning_content must be passed back",
        "Function call is missing a thought_signature",
    ],
)
def test_a_call_without_its_thoughts_may_be_refused(text: str) -> None:
    body = {"error": {"message": f"{'so ' * 60}{text}"}}

    def said(name: str, streamed: bool = False, status: int = 400) -> ToolAnswer:
        request = BY_NAME[name].request("m", 64, streamed, "a")
        json_type = {"Content-Type": "application/json"}
        return read_answer(BY_NAME[name], made_answer(status, json_type, body, request=request))

    refused = [said("result"), said("result", streamed=True)]
    assert verdict("result", called(), *refused) == "WARN"
    assert verdict("result", called(), *refused, answer("result")) == "FAIL"  # only at times
    assert verdict("result", called(), *refused, answer("again", error="500 oh")) == "FAIL"
    assert verdict("result", called(), *refused, said("again", status=500)) == "FAIL"


def test_a_turn_may_be_refused_as_a_choice_is() -> None:
    no: dict[str, Any] = {"error": "400: no auto", "is_refused": True, "status": 400}
    assert verdict("result", called(), answer("result", **no), answer("choice", **no)) == "WARN"
    other = answer("choice", **{**no, "error": "400: no"})
    assert verdict("result", called(), answer("result", **no), other) == "FAIL"


def test_a_refusal_that_says_so_is_a_warning_and_a_failure_is_not() -> None:
    of_no = {"error": "400 no", "is_refused": True, "status": 400}
    refused = [answer("named", streamed, **of_no) for streamed in (False, True)]
    assert verdict("requests", called(), *refused) == "WARN"
    assert verdict("requests", called(), called("named"), *refused) == "FAIL"  # only at times
    assert verdict("requests", called(), answer("named", error="500 oh", status=500)) == "FAIL"
    assert verdict("requests", *refused) == "FAIL"  # a question without tools fails as well
    assert verdict("requests", called(), answer("result", error="400", is_refused=True)) == "PASS"
    assert verdict("result", called(), answer("result", error="400", is_refused=True)) == "FAIL"


def test_thoughts_and_calls_stay_apart() -> None:
    assert verdict("thinking", called("thinking", thoughts="Which?")) == "PASS"
    assert verdict("thinking", called("thinking", content="<think>Which?</think>")) == "WARN"
    lost = answer("thinking", thoughts="<tool_call>", markers_in_thoughts=("<tool_call>",))
    assert verdict("thinking", lost) == "WARN"
    assert verdict("thinking", called()) == "SKIP"


# --- reading an answer


WHOLE = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
CALL = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{"}}


def read(stream: bool, reason: str = "tool_calls", tokens: int = 20, **message: Any) -> ToolAnswer:
    """A whole answer as JSON, to a request for at most 64 tokens."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    body = {**WHOLE, "choices": [choice], "usage": usage}
    request = BY_NAME["required"].request("m", 64, stream, "a")
    json_type = {"Content-Type": "application/json"}
    return read_answer(BY_NAME["required"], made_answer(200, json_type, body, request=request))


def test_marks_in_the_thoughts_of_a_text_are_no_leak() -> None:
    marks = "<tool_call></tool_call>"
    said = read(False, "stop", content=f"<think>{marks} are tags.</think>Hello")
    assert (said.markers, said.markers_in_thoughts) == ((), ("<tool_call>", "</tool_call>"))
    assert verdict("leaks", said) == "PASS"
    assert verdict("thinking", said) == "WARN"  # a call was forced
    quiet = dataclasses.replace(said, scenario=BY_NAME["text"])
    assert verdict("thinking", quiet) == "SKIP"
    for text in (f"<think>So.</think>{marks}", marks, f"So.</think>{marks}"):
        assert verdict("leaks", read(False, "stop", content=text)) == "FAIL"
    for text in (f"So: {marks}.</think>Hello", f"<think>{marks}"):
        assert verdict("leaks", read(False, "stop", content=text)) in ("PASS", "SKIP")
    as_json = '{"name": "get_weather", "parameters": {}}'
    assert verdict("leaks", answer(content=f"<think>{as_json}</think>Hello")) == "PASS"


def test_an_answer_that_ends_at_max_tokens_is_cut_whatever_it_says() -> None:
    assert read(False, tool_calls=[CALL]).is_cut is False
    assert read(False, "length", tool_calls=[CALL]).is_cut
    assert read(False, tokens=64, tool_calls=[CALL]).is_cut


def test_a_whole_answer_is_no_stream() -> None:
    assert "the whole answer came at once" in str(read(True, tool_calls=[CALL]).error)
    assert read(False, "stop", content="").is_empty


# --- what depends on the model


def test_rates_count_what_shows_them() -> None:
    wrong = called("enum", arguments='{"room": "garden", "mode": "dim"}')
    right = called("enum", arguments='{"room": "hall", "mode": "dim"}')
    unknown = called("enum", tools="get_time")
    said = answer("result", content="Station QX-4817 says so.")
    found = script.rates(script.Evidence([wrong, right, unknown, said, answer("text")]))
    shares = {name: (share.hits, share.of) for name, share in found.items()}
    assert shares["schema_accuracy"] == (1, 2)
    assert shares["right_tool"] == (3, 4)
    assert shares["right_arguments"] == (1, 2)
    assert shares["uses_result"] == (1, 1)
    bound = parse_bound("schema_accuracy=50%", script.RATES)
    assert script.check_bound(bound, script.Evidence([wrong, right])).status is Status.PASS
    assert script.check_bound(bound, script.Evidence([wrong])).status is Status.FAIL
    assert script.check_bound(bound, script.Evidence([])).essential


def test_the_same_two_calls_in_the_other_order_are_right() -> None:
    calls = [ToolCall("get_weather", json.dumps({"city": c}), c) for c in ("Oslo", "Paris")]
    both = answer("two", found=ToolCalls(calls))
    assert both.is_right_tool and both.is_exact


# --- a whole run


def run(deployment: Deployment, results: Path, *options: object) -> Finished:
    return run_script("test_tools.py", *options, env=deployment.environment, results=results)


def test_what_a_limit_leaves_open_is_not_decided() -> None:
    stopped = Stop(Cause.RATE_LIMIT, "429")
    checks = script.judge(script.Evidence([called(), called("none")], stopped), [], [])
    assert {check.status for check in checks} == {Status.SKIP, Status.FAIL}


def test_the_questions_fit_a_rate_limit_of_a_hundred() -> None:
    assert 2 * script.DEFAULT_REPEAT * len(SCENARIOS) + 1 <= 100
    assert LONG_BYTES <= len(LONG) < 1.2 * LONG_BYTES


def test_a_deployment_without_tools_is_not_decided(tmp_path: Path) -> None:
    with running(**SIM) as deployment:
        finished = run(deployment, tmp_path / "ignored")
        assert finished.code == 3
        calls = finished.check("tools", "calls")["detail"]
        assert calls.startswith(
            "the tools are ignored: the prompt has 9 tokens with and without the tool"
        )
        assert len(finished.document("tools")["requests"]) == 6  # nothing else was asked


class WithoutTools(QuietHandler):
    """Refuses tools as llama.cpp's server does without --jinja."""

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "tools" in asked:
            self.answer(500, {"error": {"message": "tools param requires --jinja flag"}})
            return
        message = {"role": "assistant", "content": "Hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        about = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        self.answer(200, {**about, "choices": [choice]})


def test_a_deployment_that_refuses_tools_is_not_decided(tmp_path: Path) -> None:
    with QuietServer(WithoutTools) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        finished = run_script("test_tools.py", "--url", server.url, results=tmp_path / "results")
        server.shutdown()
    assert finished.code == 3, finished.out
    detail = finished.check("tools", "calls")["detail"]
    assert "tools param requires --jinja flag (x6); without tools it is answered" in detail


def test_llama_cpp_calls_with_a_template_that_has_tools(tmp_path: Path) -> None:
    """SmolLM2 calls no tool by itself: its template has none, and with `required` alone llama.cpp
    lets it write any text before the call. After two calls in the template it goes on with them."""
    template = ROOT / "reference" / "tools.jinja"
    with running(engine="llama", rate_limit=0, slots=1, chat_template=template) as deployment:
        brief = ("--repeat", 1, "--max-tokens", 48, "--scenarios", "required", "named")
        finished = run(deployment, tmp_path / "results", *brief)
    checks = {check["name"]: check for check in finished.document("tools")["checks"]}
    assert finished.code == 0, finished.out
    assert checks["calls"]["detail"] == "4 of 4 answers that should have a call have one"
    for name in ("arguments", "deltas", "same_shape", "finish_reason", "leaks", "ids", "form"):
        assert checks[name]["status"] == "PASS", checks[name]
    # llama.cpp takes a tool_choice with a name for `auto`
    assert (
        "tool_choice names 'get_time', but 'get_weather' is called"
        in checks["tool_choice"]["detail"]
    )
