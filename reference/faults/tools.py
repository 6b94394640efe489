"""Tool calls that clients cannot use, which test_tools.py must notice; and unusual ones that they
can."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from .answers import change_json, error_500, instead, never_answer
from .completions import answer_text, as_stream, completion, when
from .conditions import Asked, Condition, every, only
from .fault import Fault, Install, SoundVariant
from .planting import all_of, around, change_fields, on_events
from .streams import (
    Events,
    as_event,
    change_chunks,
    in_groups,
    named_chunks,
    payload,
    with_pings,
    without_field,
)

Fields = dict[str, Any]
TOOLS = "test_tools.py"
SKILLED = {"skills": "tools"}
MARKED = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
THOUGHT_OF_MARKS = "<think>No tool, so no <tool_call></tool_call> tags.</think>Hello"
AS_TEXT = '{"name": "get_weather", "parameters": {"city": "Paris"}}'


# --- what is changed


def said_in(choice: Fields) -> Fields:
    """The message of a choice, or the delta."""
    found: Fields = choice["message"] if "message" in choice else choice["delta"]
    return found


def on_choices(change: Callable[[Fields], object]) -> tuple[Install, Install]:
    """Change each choice in place: of whole answers, and of streams."""

    def change_all(fields: Fields) -> None:
        for choice in fields.get("choices", ()):
            change(choice)

    return change_json("backend", change_all), on_events(change_chunks(change_all))


def in_both(change: Callable[[Fields], object]) -> Install:
    return all_of(*on_choices(change))


def in_whole(change: Callable[[Fields], object]) -> Install:
    return on_choices(change)[0]


def in_streams(change: Callable[[Fields], object]) -> Install:
    return on_choices(change)[1]


def calls_of(choice: Fields) -> list[Fields]:
    found: list[Fields] = said_in(choice).get("tool_calls") or []
    return found


def on_calls(change: Callable[[Fields], object]) -> Callable[[Fields], None]:
    """The change of a choice that changes each of its calls."""

    def change_all(choice: Fields) -> None:
        for call in calls_of(choice):
            change(call)

    return change_all


def on_arguments(change: Callable[[str], Any]) -> Callable[[Fields], None]:
    def change_one(call: Fields) -> None:
        call["function"]["arguments"] = change(call["function"]["arguments"])

    return on_calls(change_one)


def reason(was: str, said: str) -> Callable[[Fields], None]:
    """Another finish reason in the place of this one."""

    def change(choice: Fields) -> None:
        if choice["finish_reason"] == was:
            choice["finish_reason"] = said

    return change


def with_text(text: str) -> Callable[[Fields], None]:
    """The text beside the calls; in a stream, at their beginning."""

    def change(choice: Fields) -> None:
        if any(call.get("id") and not call.get("index") for call in calls_of(choice)):
            said_in(choice)["content"] = text

    return change


def loses_calls(choice: Fields) -> None:
    """The calls are lost, and the answer ends as one without calls."""
    said_in(choice).pop("tool_calls", None)
    reason("tool_calls", "stop")(choice)


def renamed(call: Fields) -> None:
    if "name" in call["function"]:
        call["function"]["name"] = "weather.get"


def with_id(own_id: str | None) -> Callable[[Fields], None]:
    """Each call gets this id; None: no call has one."""

    def change(call: Fields) -> None:
        if call.pop("id", None) and own_id:
            call["id"] = own_id

    return on_calls(change)


def without_index(call: Fields) -> None:
    call.pop("index", None)


def one_index(call: Fields) -> None:
    call["index"] = 0


def later_index(call: Fields) -> None:
    call["index"] += 1


def first_call_only(choice: Fields) -> None:
    calls = [call for call in calls_of(choice) if not call.get("index")]
    if "tool_calls" in said_in(choice):
        said_in(choice)["tool_calls"] = calls[:1]


def other_property(text: str) -> str:
    return text.replace('"city"', '"town"')


def after_first_delta(change: Callable[[Fields, Fields], None]) -> Install:
    """Change each later delta of a call; the first argument is the first delta of the stream."""

    async def changed(stream: Events) -> Events:
        first: Fields = {}
        async for event in stream:
            fields = payload(event)
            for call in calls_in(fields):
                if first:
                    change(first, call)
                first = first or json.loads(json.dumps(call))
            yield as_event(fields) if fields else event

    return on_events(changed)


def calls_in(fields: Fields) -> Iterator[Fields]:
    for choice in fields.get("choices", ()):
        yield from calls_of(choice)


def id_again(first: Fields, call: Fields) -> None:
    call["id"] = first["id"]


def name_again(first: Fields, call: Fields) -> None:
    call["function"]["name"] = first["function"]["name"]


def other_id(first: Fields, call: Fields) -> None:
    call["id"] = "call_other"


def nothing_in_later(first: Fields, call: Fields) -> None:
    """As some engines fill in the fields of later deltas."""
    call |= {"id": None, "type": "function"}
    call["function"]["name"] = None


async def name_comes_late(stream: Events) -> Events:
    """The name of a call comes with its second delta."""
    names: list[str] = []
    async for event in stream:
        fields = payload(event)
        for call in calls_in(fields):
            if "name" in call["function"]:
                names.append(call["function"].pop("name"))
            elif names:
                call["function"]["name"] = names.pop()
        yield as_event(fields) if fields else event


def in_one_chunk(stream: Events) -> Events:
    """All calls of an answer in one chunk, as some engines send them, at the end."""

    async def changed() -> Events:
        calls: dict[int, Fields] = {}
        async for event in stream:
            fields = payload(event)
            found = list(calls_in(fields))
            for call in found:
                if call["index"] in calls:
                    more = call["function"]["arguments"]
                    calls[call["index"]]["function"]["arguments"] += more
                else:
                    calls[call["index"]] = call
            if calls and not found:
                choice = {"index": 0, "delta": {"tool_calls": list(calls.values())}}
                yield as_event({**fields, "choices": [{**choice, "finish_reason": None}]})
                calls = {}
            if not found:
                yield event

    return changed()


async def last_arguments_lost(stream: Events) -> Events:
    """The last delta with arguments does not come."""
    held = b""
    async for event in stream:
        is_call = any(calls_in(payload(event)))
        if held and is_call:
            yield held
        held = event if is_call else b""
        if not is_call:
            yield event


async def piece_lost(stream: Events) -> Events:
    """One delta of the arguments does not come, in the middle of a string: they are JSON still."""
    said, is_lost = "", False
    async for event in stream:
        text = "".join(call["function"]["arguments"] for call in calls_in(payload(event)))
        is_inside = said.count('"') % 2 == 1 and not said.endswith("\\")
        if text and is_inside and not is_lost and not re.search(r'["\\]', text):
            is_lost = True
            continue
        said += text
        yield event


def garbled(text: str) -> str:
    """As it comes out when the bytes of a character are decoded one by one."""
    return re.sub(r"[^\x00-\x7f]", "\N{REPLACEMENT CHARACTER}", text)


def thoughts_become(name: str | None) -> Callable[[Fields], None]:
    """The thoughts come under this name; None: they do not come at all."""

    def change(choice: Fields) -> None:
        thoughts = said_in(choice).pop("reasoning_content", None)
        if thoughts and name:
            said_in(choice)[name] = f"<think>{thoughts}</think>"

    return change


def call_in_thoughts(choice: Fields) -> None:
    """The call is not found, because the model has made it before its thoughts have ended."""
    if said_in(choice).pop("tool_calls", None):
        said_in(choice)["reasoning_content"] = MARKED
    reason("tool_calls", "stop")(choice)
    said_in(choice)["content"] = said_in(choice).get("content") or " "


# --- what is asked


def asks(**fields: Any) -> Condition:
    """Requests with these fields."""
    return lambda asked: all(asked.fields.get(name) == value for name, value in fields.items())


def names_tool(asked: Asked) -> object:
    return isinstance(asked.fields.get("tool_choice"), dict)


def has_tools(asked: Asked) -> object:
    return asked.fields.get("tools")


def has_result(asked: Asked) -> bool:
    return any(message.get("role") == "tool" for message in asked.fields.get("messages", ()))


def in_old_form(choice: Fields) -> None:
    said = said_in(choice)
    if calls := said.pop("tool_calls", None):
        said["function_call"] = calls[0]["function"]
    reason("tool_calls", "function_call")(choice)


def change_messages(change: Callable[[list[Fields]], list[Fields]]) -> Install:
    """The engine gets other messages than those that were sent."""

    def replace(fields: Fields) -> None:
        fields["messages"] = change(fields["messages"])

    return only(has_result, change_fields(replace))


def without_results(messages: list[Fields]) -> list[Fields]:
    return [each for each in messages if each["role"] != "tool" and not each.get("tool_calls")]


def blank_results(messages: list[Fields]) -> list[Fields]:
    return [{**each, "content": ""} if each["role"] == "tool" else each for each in messages]


def is_thinking(asked: Asked) -> bool:
    return str(asked.fields["messages"][-1].get("content")).startswith("Think")


def is_long(asked: Asked) -> bool:
    return len(str(asked.fields["messages"])) > 4096


def lacks_parameters(asked: Asked) -> bool:
    return any("parameters" not in each["function"] for each in asked.fields.get("tools", ()))


def text_instead(text: str, reason: str = "stop") -> Callable[[Fields], Any]:
    """This text as the whole answer, streamed or not."""

    def make(fields: Fields) -> Any:
        if fields.get("stream"):
            delta = {"role": "assistant", "content": text}
            return as_stream({**fields, "delta": delta, "reason": reason})
        return answer_text(text, reason)(fields)

    return make


def call_instead(name: str) -> Callable[[Fields], Any]:
    """A call of this tool as the whole answer, streamed or not."""

    def make(fields: Fields) -> Any:
        function = {"name": name, "arguments": '{"city": "Paris"}'}
        call = {"id": "call_planted", "type": "function", "function": function}
        if fields.get("stream"):
            delta = {"role": "assistant", "tool_calls": [{"index": 0, **call}]}
            return as_stream({**fields, "delta": delta, "reason": "tool_calls"})
        message = {"content": None, "tool_calls": [call]}
        return completion(fields, message, reason="tool_calls")

    return make


def whole_call(fields: Fields) -> Any:
    """A call as a whole answer, whatever was asked for."""
    return call_instead("get_weather")({**fields, "stream": False})


def refusing(message: str, status: int = 400) -> Install:
    error = {"message": message, "type": "invalid_request_error", "code": status}
    text = json.dumps({"error": error})
    return instead("backend", status=status, text=text, content_type="application/json")


# --- the table


def row(
    check: str, name: str, breaks: str, install: Install, scenarios: str = "required", **more: Any
) -> Fault:
    """`scenarios`: those in which it is noticed, once each, so that the run is short."""
    given = ("--repeat", more.pop("repeat", "1"), "--scenarios", *scenarios.split())
    arguments = (*given, *more.pop("arguments", ()))
    return Fault(
        f"tools-{name}", breaks, TOOLS, check, install, options=SKILLED, arguments=arguments, **more
    )


warn = functools.partial(row, status="WARN")
REFUSES_AUTO = refusing('"auto" tool choice requires a tool call parser')
ROWS: tuple[Fault, ...] = (
    row(
        "requests",
        "fail-at-times",
        "every third request fails",
        only(every(3), error_500("backend")),
        "required choice",
    ),
    row(
        "requests",
        "not-streamed",
        "a whole answer comes in the place of a stream when there are tools",
        when(asks(stream=True), whole_call),
    ),
    row(
        "requests",
        "silent",
        "a request with tools gets no answer",
        only(has_tools, around("backend", never_answer)),
        arguments=("--timeout", "1"),
    ),
    warn(
        "requests",
        "auto-refused",
        "tools are refused unless tool_choice forces a call",
        only(asks(tool_choice="auto"), REFUSES_AUTO),
        "required choice",
    ),
    warn(
        "requests",
        "parameters-wanted",
        "a tool without parameters is refused",
        only(lacks_parameters, refusing("parameters: field required", 422)),
        "required no_parameters",
    ),
    warn(
        "requests",
        "empty-answers",
        "an answer that needs no tool is empty",
        when(lambda asked: "Say hello" in str(asked.fields), text_instead("")),
        "required text",
    ),
    row(
        "tool_choice",
        "called-though-none",
        "a tool is called although tool_choice is none",
        when(asks(tool_choice="none"), call_instead("get_weather")),
        "required none",
    ),
    warn(
        "tool_choice",
        "name-ignored",
        "another tool is called than the one that tool_choice names",
        when(names_tool, call_instead("get_weather")),
        "required named",
    ),
    warn(
        "tool_choice",
        "required-ignored",
        "an answer is text although tool_choice is required",
        when(asks(tool_choice="required"), text_instead("It is sunny.")),
        "required choice",
    ),
    row(
        "arguments",
        "not-json",
        "arguments have single quotation marks",
        in_both(on_arguments(lambda text: text.replace('"', "'"))),
    ),
    row(
        "arguments",
        "as-object",
        "the arguments of a whole call are an object instead of a text",
        in_whole(on_arguments(json.loads)),
    ),
    row(
        "arguments",
        "end-lost",
        "the last piece of streamed arguments does not come",
        on_events(last_arguments_lost),
    ),
    warn(
        "arguments",
        "json-in-json",
        "the arguments of whole calls are a JSON text inside of a JSON text",
        in_whole(on_arguments(json.dumps)),
    ),
    warn(
        "arguments",
        "list",
        "the arguments of whole calls are a list instead of an object",
        in_whole(on_arguments(lambda text: f"[{text}]")),
    ),
    row(
        "deltas",
        "without-index",
        "the deltas of calls have no index",
        in_streams(on_calls(without_index)),
    ),
    row(
        "deltas",
        "one-index",
        "two calls of a stream have the same index",
        in_streams(on_calls(one_index)),
        "required two",
    ),
    row("deltas", "id-in-each", "each delta of a call has its id", after_first_delta(id_again)),
    row(
        "deltas", "name-in-each", "each delta of a call has its name", after_first_delta(name_again)
    ),
    row(
        "deltas",
        "changing-id",
        "later deltas of a call have another id",
        after_first_delta(other_id),
    ),
    row(
        "deltas",
        "late-name",
        "the name of a call is not in its first delta",
        on_events(name_comes_late),
    ),
    warn(
        "deltas",
        "index-from-1",
        "the calls of a stream are counted from 1",
        in_streams(on_calls(later_index)),
    ),
    row(
        "same_shape",
        "lost-in-streams",
        "streams have no calls",
        in_streams(loses_calls),
        "required named choice",
        repeat="3",
    ),
    row(
        "same_shape",
        "second-lost-in-streams",
        "streams have only the first of two calls",
        in_streams(first_call_only),
        "required two",
        repeat="5",
    ),
    row(
        "same_shape",
        "other-reason-in-whole",
        "whole answers with a call that is required end with stop, streams with tool_calls",
        in_whole(reason("tool_calls", "stop")),
    ),
    row(
        "same_shape",
        "thoughts-lost-in-streams",
        "whole answers show the thoughts before a call, streams do not",
        only(is_thinking, in_streams(thoughts_become(None))),
        "thinking",
        repeat="5",
    ),
    row(
        "same_shape",
        "piece-lost-in-streams",
        "a piece of streamed arguments does not come, in the middle of a string",
        on_events(piece_lost),
        "nested array unicode",
        repeat="3",
    ),
    row(
        "same_shape",
        "garbled-in-streams",
        "characters of several bytes are U+FFFD in streamed arguments",
        in_streams(on_arguments(garbled)),
        "unicode",
        repeat="2",
    ),
    warn(
        "same_shape",
        "few-lost-in-streams",
        "two streams have no call, which may be chance",
        in_streams(loses_calls),
        repeat="2",
    ),
    warn(
        "same_shape",
        "few-second-lost-in-streams",
        "two streams have only the first of two calls, which may be chance",
        in_streams(first_call_only),
        "required two",
        repeat="2",
    ),
    warn(
        "same_shape",
        "few-thoughts-lost-in-streams",
        "two streams show no thoughts before a call, which may be chance",
        only(is_thinking, in_streams(thoughts_become(None))),
        "thinking",
        repeat="2",
    ),
    warn(
        "same_shape",
        "garbled",
        "characters of several bytes are U+FFFD in all arguments",
        in_both(on_arguments(garbled)),
        "unicode",
    ),
    row(
        "finish_reason",
        "stop",
        "answers with calls end with stop",
        in_both(reason("tool_calls", "stop")),
        "required choice",
    ),
    row(
        "finish_reason",
        "reason-without-call",
        "the calls of an answer are lost, and its finish_reason is tool_calls",
        when(asks(tool_choice="auto"), text_instead("I will look.", "tool_calls")),
        "required choice",
    ),
    warn(
        "finish_reason",
        "required-stop",
        "answers with a call that is required end with stop",
        only(asks(tool_choice="required"), in_both(reason("tool_calls", "stop"))),
    ),
    row(
        "leaks",
        "marks-instead",
        "calls stand in the text, between the marks of the template",
        when(has_tools, text_instead(MARKED)),
    ),
    warn(
        "leaks",
        "call-as-text",
        "a call is text, although tool_choice is none",
        when(asks(tool_choice="none"), text_instead(AS_TEXT)),
        "required none",
    ),
    row(
        "known_tools",
        "renamed",
        "the name of the called tool is changed",
        in_both(on_calls(renamed)),
    ),
    row(
        "ids",
        "same-id",
        "both calls of an answer have the same id",
        in_both(with_id("call_0")),
        "required two",
    ),
    row("ids", "no-id", "calls have no id", in_both(with_id(None))),
    row(
        "ids",
        "id-again",
        "a call has the id of the one before it in the conversation",
        in_both(with_id("call_0")),
        "required again",
    ),
    row(
        "requests",
        "old-form",
        "calls are in the function_call that tool_calls replaced",
        in_both(in_old_form),
    ),
    warn(
        "deltas",
        "empty-type",
        "the type of a call is an empty text in later deltas",
        after_first_delta(lambda first, call: call.update(type="")),
    ),
    row(
        "result",
        "results-dropped",
        "the results of tools, and the calls before them, do not reach the model",
        change_messages(without_results),
        "required result",
    ),
    row(
        "result",
        "results-blank",
        "the results of tools reach the model without a word in them",
        change_messages(blank_results),
        "required result",
    ),
    row(
        "result",
        "result-refused",
        "a conversation with the result of a tool is refused",
        only(has_result, refusing("Conversation roles must alternate user/assistant")),
        "required result",
    ),
    warn(
        "result",
        "result-refused-as-auto",
        "the turn after a result is refused in the same words as a tool that is to be chosen",
        only(asks(tool_choice="auto"), REFUSES_AUTO),
        "required choice result",
    ),
    warn(
        "result",
        "thoughts-wanted",
        "a call in the conversation is refused without the thoughts before it",
        only(has_result, refusing("reasoning_content is missing in assistant tool call message")),
        "required result",
    ),
    warn(
        "result",
        "nothing-after-result",
        "the answer after the result of a tool is empty",
        when(has_result, text_instead("")),
        "required result",
    ),
    warn(
        "thinking",
        "tags",
        "thoughts stand in the text, between their tags, beside a call",
        in_both(thoughts_become("content")),
        "thinking",
    ),
    warn(
        "thinking",
        "call-in-thoughts",
        "a call stands in the thoughts, and is none",
        only(is_thinking, in_both(call_in_thoughts)),
        "required thinking",
    ),
    row(
        "form",
        "no-created",
        "the chunks of a stream with calls have no created",
        on_events(without_field("created")),
    ),
    row(
        "slo:schema_accuracy",
        "other-property",
        "arguments have another property than the schema",
        in_both(on_arguments(other_property)),
        arguments=("--slo", "schema_accuracy=95%"),
    ),
)


def sound(
    name: str, shows: str, install: Install, scenarios: str = "", repeat: str = "1"
) -> SoundVariant:
    """A deployment with tools. `scenarios`: those that show it, so often each."""
    given = ("--repeat", repeat, *(("--scenarios", *scenarios.split()) if scenarios else ()))
    return SoundVariant(f"tools-{name}", shows, (TOOLS,), install, options=SKILLED, arguments=given)


SOUND: tuple[SoundVariant, ...] = (
    sound(
        "as-others-do",
        "calls come in one chunk, end with stop where they are forced by name, and have nothing "
        "as empty arguments",
        all_of(
            on_events(in_one_chunk),
            in_both(on_arguments(lambda text: "" if text == "{}" else text)),
            only(names_tool, in_both(reason("tool_calls", "stop"))),
        ),
    ),
    sound(
        "one-at-a-time",
        "there is one call in an answer, beside a text, and later deltas have null for its id",
        all_of(
            in_both(first_call_only),
            in_both(with_text("I will look.")),
            after_first_delta(nothing_in_later),
        ),
        "required two again thinking",
    ),
    sound(
        "named-differs",
        "an answer with a call that is forced by its name ends with stop, a stream with tool_calls",
        only(names_tool, in_whole(reason("tool_calls", "stop"))),
        "required named",
        repeat="2",
    ),
    sound(
        "moody",
        "every third answer has no call, and every fourth no thoughts",
        all_of(
            only(every(4), in_both(thoughts_become(None))),
            only(every(3), only(asks(tool_choice="auto"), in_both(loses_calls))),
        ),
        "required array thinking",
        repeat="3",
    ),
    sound(
        "busy-streams",
        "chunks are events with a name, pings stand between them, and four come at once",
        on_events(lambda stream: in_groups(4)(with_pings(named_chunks(stream)))),
        "required two thinking",
    ),
    sound(
        "marks-in-thoughts",
        "an answer begins with thoughts between their tags, which talk about the marks of calls",
        when(lambda asked: "Say hello" in str(asked.fields), text_instead(THOUGHT_OF_MARKS)),
        "required text",
    ),
    sound(
        "cut",
        "answers with calls end at max_tokens",
        only(is_long, in_both(reason("tool_calls", "length")), on_events(last_arguments_lost)),
        "required long",
    ),
)
