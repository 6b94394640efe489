"""The Responses API by the SDK: what it is asked for, and what its answers say, whole and streamed.

The order of a stream's events, and whether its pieces are the whole, is `wire/responses.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.checks import Status
from livecheck.core.json_value import decode, pick, quoted
from livecheck.core.text import plural
from livecheck.gateway import same_text
from livecheck.gateway.answer_parts import usage_problems
from livecheck.gateway.openai_client import SdkCall
from livecheck.gateway.same_text import Said
from livecheck.gateway.sdk_questions import GET_WEATHER
from livecheck.wire import responses
from livecheck.wire.responses import Call, Reader

NAME = "responses"
FORMS = 2  # whole, and as a stream


@dataclass
class Told:
    """What a call says, in whichever form it came."""

    text: str = ""
    thoughts: str = ""
    calls: list[Call] = field(default_factory=list)
    status: str | None = None
    usage: Any = None
    problems: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    is_cut: bool = False  # it ended at the limit of its tokens

    @property
    def said(self) -> Said:
        return Said(self.thoughts, self.text, self.status)


def told_by(call: SdkCall) -> Told:
    found = of_stream(responses.read_events(call.chunks)) if is_stream(call) else of_whole(call)
    limit = call.arguments["max_output_tokens"]
    written = pick(found.usage, "output_tokens")
    is_full = isinstance(written, int) and written >= limit
    found.is_cut = found.status == "incomplete" or is_full
    counts = responses.as_chat_usage(found.usage if isinstance(found.usage, dict) else None)
    found.problems += [f"usage: {each}" for each in usage_problems(counts, limit)]
    if found.status == "completed" and not (found.text or found.calls or found.is_cut):
        found.problems.append(
            f"the response is empty: {len(found.thoughts)} characters of thoughts"
        )
    return found


def is_stream(call: SdkCall) -> bool:
    return bool(call.arguments.get("stream"))


def of_stream(reader: Reader) -> Told:
    whole = reader.whole
    return Told(
        reader.told(responses.TEXT),
        reader.told(responses.THOUGHTS),
        reader.calls,
        reader.end,
        whole.usage if whole else None,
        reader.problems,
        reader.oddities,
    )


def of_whole(call: SdkCall) -> Told:
    whole = responses.read_whole(call.data)
    found = Told(whole.text, whole.thoughts, whole.calls, whole.status, whole.usage)
    kind = pick(call.data, "object")
    if kind != "response":
        found.problems.append(f"object is {quoted(kind)}, not 'response'")
    if whole.status not in ("completed", "incomplete"):
        found.problems.append(f"status is {quoted(whole.status)}: {whole.error or 'no error'}")
    if not whole.has_output:
        found.problems.append("there is no list of output")
    return found


def findings(calls: Sequence[SdkCall]) -> tuple[list[str], list[str], str]:
    """Problems, doubts and what is good about all these calls, with and without a tool."""
    plain = [call for call in calls if "tools" not in call.arguments]
    with_tool = [told_by(call) for call in calls if "tools" in call.arguments]
    by_form = [(is_stream(call), told_by(call)) for call in plain]
    each = [found for _, found in by_form] + with_tool
    problems = [text for found in each for text in found.problems]
    doubts = [f"{text}: generated clients need it" for found in each for text in found.oddities[:2]]
    wholes = [found.said for streamed, found in by_form if not streamed]
    streams = [found.said for streamed, found in by_form if streamed]
    words = compare(wholes, streams, problems)
    words += f"; {of_tools(with_tool, problems)}"
    return list(dict.fromkeys(problems)), list(dict.fromkeys(map(without_count, doubts))), words


def without_count(text: str) -> str:
    """How many events had no such field is no news."""
    before, _, after = text.partition(" (")
    return before + (":" + after.partition(":")[2] if after else "")


def compare(wholes: Sequence[Said], streams: Sequence[Said], problems: list[str]) -> str:
    """Whether a stream says what the whole answer says; adds to `problems`."""
    if not (wholes and streams):
        return "only one form was asked for"
    if wholes[0] == streams[0]:
        count = plural(len(wholes[0].text), "character")
        return f"{count} and the status {wholes[0].finish}, the same with and without a stream"
    if min(len(wholes), len(streams)) < 2:
        return "the two forms differ, and were not asked for twice"
    status, words = same_text.compare(wholes, streams)
    if status is Status.FAIL:
        problems.append(words.replace("finish_reason", "status"))
    return words


def of_tools(found: Sequence[Told], problems: list[str]) -> str:
    """What came of the tool; adds to `problems`."""
    if not found:
        return "tools are refused, or were not asked for"
    if any(each.is_cut for each in found):
        return "of the tool nothing can be told: the response ended at its limit of tokens"
    if not any(each.calls for each in found):
        return "the model does not call the tool, although it must"
    for each in found:
        problems += [text for call in each.calls for text in call_problems(call)]
    names = [[call.name for call in each.calls] for each in found]
    if len(found) == FORMS and names[0] != names[1]:
        seen = f"{len(names[0])} calls without a stream, {len(names[1])} in the stream"
        problems.append(f"the calls differ: {seen}")
    return "the tool is called in the same way"


def call_problems(call: Call) -> list[str]:
    if call.name != GET_WEATHER["name"]:
        return [f"calls {quoted(call.name)}, which is not among the tools"]
    try:
        city = pick(decode(call.arguments), "city")
    except ValueError:
        return [f"arguments are not JSON: {quoted(call.arguments)}"]
    is_there = isinstance(city, str)
    return [] if is_there else [f"the city is missing in arguments: {quoted(call.arguments)}"]


def are_alike(calls: Sequence[SdkCall]) -> bool:
    """Whether the two forms say the same, so that nothing has to be asked again."""
    said = [told_by(call).said for call in calls]
    return len(set(said)) == 1
