"""What came of a request with tools: its calls, its text, its thoughts, and how it ended.

An answer is read when it has come, and its bytes are let go: a run asks for a hundred of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.json_value import decode, decode_or_none, number, pick, pick_text
from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import encodable, shorten
from livecheck.gateway.tool_calls import ToolCall, ToolCalls, streamed_tool_calls, whole_tool_calls
from livecheck.gateway.tool_questions import Scenario
from livecheck.gateway.tool_schema import schema_problem
from livecheck.wire import sse
from livecheck.wire.answer import Answer
from livecheck.wire.chunk_form import finish_meaning, means_length
from livecheck.wire.spoken import CLOSING, OPENING, content_in, thoughts_in, without_thoughts
from livecheck.wire.thoughts import Spent

MAX_ARGUMENTS = 16 << 10  # characters of a call's arguments; the longest that is asked for has 4 KB
MOST_CALLS = 8  # of an answer that are kept; two are asked for
KEPT_TEXT = 4096  # characters of the text of an answer
SHOWN_ARGUMENTS = 80  # characters of arguments in a record
OLD_CALL = b'"function_call"'
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
REFUSALS = (400, 404, 405, 415, 422, 501)  # statuses with which a server says that it cannot
# How servers say that a call in the conversation lacks the thoughts before it: a call that is made
# up has none.
ABOUT_THOUGHTS = late_pattern(
    rb"reasoning_content|thought_?signature|redacted_thinking|thinking block", re.IGNORECASE
)
# How the templates of models mark a call. None of these stands in a text by chance.
MARKERS = late_pattern(
    r"</?tool_calls?>|\[/?TOOL_CALLS?\]|\[/?AVAILABLE_TOOLS\]|<\|python_tag\|>|<\|/?tool_calls?\|>"
    r"|<\|?tool_call[s_a-z]*(begin|start|end|sep)\|?>|<[|｜]tool[▁_ ]calls?[▁_ ](begin|end)[|｜]>"
    r"|<[|｜]tool[▁_ ]sep[|｜]>|<function=|</function>|<function_calls>|<invoke name=|</invoke>"
    r"|<parameter=|<arg_key>|<arg_value>|<\|action_(start|end)\|>|<\|plugin\|>|functools\["
    r"|<\|(im_start|im_end|eom_id|eot_id|start_header_id|call|message|channel)\|>"
    r"|<(minimax|longcat|seed|hunyuan)[:_]tool_calls?>|<tool_code>|<start_function_call>"
    r"|<｜DSML｜|<\|END_ACTION\|>|<\|START_ACTION\|>",
)
# a call as bare JSON: {"name": "get_weather", "arguments": …
AS_JSON = late_pattern(r'\{\s*"(?:name|tool|function)"\s*:\s*"([\w.-]{1,80})"\s*,?\s*"?\w*')


@dataclass(frozen=True)
class ToolAnswer:
    """One answer, as far as it is judged.

    error: why there is no completion, None when there is one. is_refused: the server says that it
    cannot; wants_thoughts: without the thoughts before a call in the conversation. spent: all
    tokens went into thoughts. markers: of a call, in the text and in the thoughts, also those that
    stand at the beginning of the text. prompt_tokens: by the server's count. asked_id: of the call
    in the conversation. is_old_call: the call is in `function_call`, which `tool_calls` replaced.
    """

    scenario: Scenario
    streamed: bool
    status: int | None
    error: str | None = None
    is_refused: bool = False
    wants_thoughts: bool = False
    is_empty: bool = False
    content: str = ""
    thoughts: str = ""
    found: ToolCalls = field(default_factory=ToolCalls)
    finish_reason: str | None = None
    is_cut: bool = False
    spent: Spent | None = None
    markers: tuple[str, ...] = ()
    markers_in_thoughts: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    asked_id: str = ""
    spent_ms: float | None = None
    is_limit: bool = False
    is_old_call: bool = False
    answer: Answer | None = field(default=None, repr=False, compare=False)

    @property
    def calls(self) -> list[ToolCall]:
        return self.found.calls

    @property
    def is_usable(self) -> bool:
        """Whether it is a whole completion: not cut off, and not only thoughts."""
        return self.error is None and not self.is_cut and self.spent is None

    @property
    def meaning(self) -> str | None:
        """Its finish reason, in OpenAI's words."""
        return finish_meaning(self.finish_reason) if self.finish_reason else None

    @property
    def where(self) -> str:
        return f"{self.scenario.name}, {'streamed' if self.streamed else 'whole'}"

    @property
    def has_tags(self) -> bool:
        """Whether thoughts stand in the text, or a part of them."""
        return bool(OPENING.match(self.content) or CLOSING.search(self.content))

    @property
    def call_as_text(self) -> str | None:
        """The name of one of its tools in a call that is written as text; None without one."""
        found = (match[1] for match in AS_JSON.finditer(without_thoughts(self.content)))
        return next((name for name in found if name in self.scenario.schemas), None)

    @property
    def is_lost_in_thoughts(self) -> bool:
        """Whether the call that it should have stands in its thoughts only."""
        return bool(self.markers_in_thoughts and self.scenario.expected and not self.calls)

    @property
    def is_garbled(self) -> bool:
        """Whether its arguments have the character that stands in for bytes which are none. No
        question has it."""
        values = (text for call in self.calls for text in (call.arguments, plain(self, call)))
        return any(REPLACEMENT in text for text in values)

    # what depends on the model

    @property
    def is_right_tool(self) -> bool:
        """Whether it calls what fits: these tools and no other, or none."""
        return sorted(call.name for call in self.calls) == sorted(self.scenario.expected)

    @property
    def is_exact(self) -> bool:
        """Whether all calls have exactly the arguments that were asked for, in any order."""
        made = [canonical(arguments_of(self, call)) for call in self.calls]
        return sorted(made) == sorted(map(canonical, self.scenario.arguments or ()))

    def fits(self, call: ToolCall) -> bool:
        """Whether the arguments of this call keep the schema of its tool."""
        schema = self.scenario.schemas.get(call.name)
        value = arguments_of(self, call)
        return schema is not None and schema_problem(value, schema) is None


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def plain(answer: ToolAnswer, call: ToolCall) -> str:
    """The arguments without escapes, except for those that JSON needs."""
    return json.dumps(arguments_of(answer, call), ensure_ascii=False)


def takes_nothing(answer: ToolAnswer, call: ToolCall) -> bool:
    """Whether the called tool needs no arguments."""
    schema = answer.scenario.schemas.get(call.name, {})
    return not schema.get("required")


def arguments_of(answer: ToolAnswer, call: ToolCall) -> Any:
    """The arguments as a value; None when they are not JSON. A tool that needs none may be called
    with an empty text, or with null: that is the empty object."""
    if takes_nothing(answer, call) and call.arguments.strip() in ("", "null"):
        return {}
    try:
        return decode(call.arguments, allow_nan=False)
    except ValueError:
        return None


# --- reading an answer


def read_answer(scenario: Scenario, answer: Answer, asked_id: str = "") -> ToolAnswer:
    """What an answer says. It has ended, and its bytes are still there."""
    streamed, spent, problem = answer.wants_stream, answer.spent, problem_of(answer)
    about: dict[str, Any] = {
        "scenario": scenario,
        "streamed": streamed,
        "status": answer.status,
        "asked_id": asked_id,
        "spent_ms": answer.spent_ms,
        "is_limit": answer.is_rate_limited,
        "answer": answer,
    }
    is_empty = says_nothing(answer)
    if problem is not None and not is_empty and spent is None:
        is_refused = answer.failure is None and answer.status in REFUSALS
        wants_thoughts = is_refused and ABOUT_THOUGHTS.search(answer.body) is not None
        return ToolAnswer(
            **about, error=problem, is_refused=is_refused, wants_thoughts=wants_thoughts
        )
    read = read_stream if answer.is_stream else read_whole
    content, thoughts, found, reason, usage = read(answer)
    text = without_thoughts(content)
    found.calls = [shortened(call) for call in found.calls[:MOST_CALLS]]
    return ToolAnswer(
        **about,
        is_empty=is_empty,
        content=content[:KEPT_TEXT],
        thoughts=thoughts[:KEPT_TEXT],
        found=found,
        finish_reason=reason,
        is_cut=ends_at_limit(reason, usage, answer.most_tokens),
        spent=spent,
        markers=markers_in(text),
        markers_in_thoughts=markers_in(thoughts + content.removesuffix(text)),
        prompt_tokens=whole_number(pick(usage, "prompt_tokens")),
        is_old_call=not found.calls and has_old_call(answer),
    )


def problem_of(answer: Answer) -> str | None:
    """Why it is not the completion that was asked for; None when it is. Some servers ignore
    `stream` when there are tools, and send the whole answer: who reads a stream sees nothing."""
    problem = answer.completion.problem
    is_other = problem is None and answer.wants_stream and not answer.is_stream
    return answer.stream_error.text if is_other and answer.stream_error else problem


def says_nothing(answer: Answer) -> bool:
    """Whether it is a completion that ended well, and has neither text nor calls nor thoughts."""
    if not answer.is_ok or answer.spent:
        return False
    if answer.is_stream:
        return answer.stream_error is not None and answer.stream_error.kind == "empty"
    found = answer.completion
    return not found.has_output and isinstance(pick(answer.json, "choices", 0, "message"), dict)


def ends_at_limit(reason: str | None, usage: object, limit: float | None) -> bool:
    """Whether it ended at max_tokens. Some servers say `tool_calls` then: the count tells."""
    count = number(pick(usage, "completion_tokens"))
    return means_length(reason) or (count is not None and limit is not None and count >= limit)


Parts = tuple[str, str, ToolCalls, str | None, Any]


def read_whole(answer: Answer) -> Parts:
    choice = pick(answer.json, "choices", 0)
    message = pick(choice, "message")
    reason = pick_text(choice, "finish_reason") or None
    calls = whole_tool_calls(message)
    return content_in(message), thoughts_in(message), calls, reason, pick(answer.json, "usage")


def read_stream(answer: Answer) -> Parts:
    stream = answer.stream
    calls = streamed_tool_calls(chunks_of(answer))
    return stream.text, stream.reasoning, calls, stream.finish_reason, stream.usage


def chunks_of(answer: Answer) -> Iterator[Any]:
    """The chunks of a stream that is no flood, one by one: only one is kept as JSON."""
    for event in sse.events(answer.body)[0]:
        if b"tool_calls" in event.data:
            yield decode_or_none(event.data)


def has_old_call(answer: Answer) -> bool:
    """Whether there is a call in the form that OpenAI's API had before `tools`."""
    if OLD_CALL not in answer.body:
        return False
    said: Iterable[Any] = [pick(answer.json, "choices", 0, "message")]
    if answer.is_stream:
        events = (each.data for each in sse.events(answer.body)[0] if OLD_CALL in each.data)
        said = (pick(decode_or_none(data), "choices", 0, "delta") for data in events)
    return any(isinstance(pick(each, "function_call"), dict) for each in said)


def shortened(call: ToolCall) -> ToolCall:
    """The same call, what is too long of it cut off, so that it is no JSON any more."""
    name, own_id = encodable(call.name[:200]), encodable(call.id[:200])
    return ToolCall(name, encodable(call.arguments[:MAX_ARGUMENTS]), own_id)


def markers_in(text: str) -> tuple[str, ...]:
    """The marks of calls in a text, each once."""
    return tuple(dict.fromkeys(match[0] for match in MARKERS.finditer(text)))[:5]


def tokens_of(answer: Answer) -> int | None:
    """The tokens of the prompt of a whole answer, by the server's count."""
    return whole_number(pick(answer.json, "usage", "prompt_tokens"))


def whole_number(value: object) -> int | None:
    figure = number(value)
    return None if figure is None else int(figure)


# --- as it is saved


def record(answer: ToolAnswer) -> dict[str, Any]:
    return {
        "scenario": answer.scenario.name,
        "streamed": answer.streamed,
        "status": answer.status,
        "error": answer.error,
        "finish_reason": answer.finish_reason,
        "cut": answer.is_cut,
        "calls": [
            {
                "name": shorten(call.name, 60),
                "arguments": shorten(call.arguments, SHOWN_ARGUMENTS),
                "fits_schema": answer.fits(call),
            }
            for call in answer.calls
        ],
        "content_characters": len(answer.content),
        "thought_characters": len(answer.thoughts),
        "prompt_tokens": answer.prompt_tokens,
        "spent_ms": answer.spent_ms,
        **(answer.answer.silence_figures if answer.answer else {}),
    }
