"""What a model with tools is asked: scenarios, their tools, and what a capable model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.wire.chat import Messages, completion
from livecheck.wire.wire import Request

Schema = dict[str, Any]
AUTO, NONE, REQUIRED = "auto", "none", "required"
LONG_BYTES = 4096  # of the long argument
LONG_TOKENS = 1536  # more, for it: a token has three to four characters of such a text
MORE_SAID = "The wind is light, from the west, and there are no clouds over the whole region."
CONTROL_TOKENS = 16  # of the answer without tools, of which only the length of the prompt counts
STATION = "QX-4817"  # only the result of the tool says this
# Nine letters and digits: the templates of Mistral's models take no other id. It stands in for that
# of the deployment's own call, where there is none.
SPARE_ID = "a1B2c3D4e"


def tool(name: str, about: str, required: Sequence[str] | None = None, **properties: Schema) -> Any:
    """A tool as it is sent; all its properties are required unless `required` names them."""
    needed = list(properties) if required is None else list(required)
    schema = {"type": "object", "properties": properties, "required": needed}
    return {"type": "function", "function": function(name, about, schema)}


def function(name: str, about: str, schema: Schema | None) -> dict[str, Any]:
    parameters = {} if schema is None else {"parameters": schema}
    return {"name": name, "description": about, **parameters}


def words(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


TEXT: Schema = {"type": "string"}
DAYS = words("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
GUEST = {"type": "object", "properties": {"name": TEXT, "phone": TEXT}, "required": ["name"]}
WEATHER = tool("get_weather", "The weather in a city, now", city=TEXT)
TIME = tool("get_time", "The local time in a city", city=TEXT)
SEARCH = tool("search_web", "Searches the web for a text", query=TEXT)
BOOK = tool(
    "book_table",
    "Books a table in the restaurant",
    guest=GUEST,
    seats={"type": "integer"},
    outside={"type": "boolean"},
)
PLAN = tool("plan_days", "Plans the training", days={"type": "array", "items": DAYS})
LIGHT = tool(
    "set_light",
    "Sets the light of a room",
    room=words("kitchen", "hall", "attic"),
    mode=words("off", "dim", "bright"),
)
NOTE = tool("save_note", "Saves a note with a text", text=TEXT)
TASKS = tool("list_tasks", "Lists the open tasks")
STATUS = {"type": "function", "function": function("get_status", "The status of the house", None)}
# quotation marks, a backslash and characters of two to four bytes, as they stand in JSON
RARE = "Grüße «ça va» \N{EM DASH} 龜 \N{MELTING FACE} 5\N{EURO SIGN} C:\\temp"
SENTENCE = "In line {:02} the sea keeps its time, wave after wave, and nobody counts."
LONG = "\n".join(SENTENCE.format(number) for number in range(LONG_BYTES // len(SENTENCE) + 2))


@dataclass(frozen=True, eq=False)  # each is itself only, and can be a key
class Scenario:
    """One question, its tools, and what a capable model answers.

    expected: the names of the tools that it calls, in any order; empty: it answers with text.
    arguments: exactly those of each call, in the same order; None: many are right.
    result: what the answer has to mention, because a tool has said it.
    previous: the arguments of the call that the conversation begins with; its tool is get_weather.
    """

    name: str
    prompt: str
    tools: Sequence[Any]
    expected: tuple[str, ...]
    arguments: tuple[Mapping[str, Any], ...] | None = None
    choice: Any = AUTO
    previous: str = ""
    follow_up: str = ""  # what the user says after the result
    more_tokens: int = 0
    result: str = ""

    @property
    def named(self) -> str | None:
        """The tool that `tool_choice` names."""
        return self.choice["function"]["name"] if isinstance(self.choice, dict) else None

    @property
    def is_forced(self) -> bool:
        return self.choice == REQUIRED or self.named is not None

    @property
    def schemas(self) -> dict[str, Schema]:
        """The schema of each tool's arguments, by its name."""
        functions = [each["function"] for each in self.tools]
        return {each["name"]: each.get("parameters", {"type": "object"}) for each in functions}

    def messages(self, call_id: str) -> Messages:
        """The conversation. `call_id`: of the call in it, where it has one."""
        asked: dict[str, Any] = {"role": "user", "content": self.prompt}
        if not self.previous:
            return [asked]
        made = {"name": "get_weather", "arguments": self.previous}
        calls = [{"id": call_id, "type": "function", "function": made}]
        said = f'{{"sky": "clear", "temperature_c": 17, "station": "{STATION}"}}'
        history: list[dict[str, Any]] = [
            asked,
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": call_id, "content": said},
        ]
        if not self.follow_up:
            return history
        answer = {"role": "assistant", "content": f"Clear, 17 degrees, says station {STATION}."}
        return [*history, answer, {"role": "user", "content": self.follow_up}]

    def request(
        self, model: str, max_tokens: int, stream: bool, call_id: str, is_greedy: bool = True
    ) -> Request:
        """`is_greedy`: at temperature 0, else at whatever the server takes without one: the same
        again would show nothing about the model."""
        return completion(
            model,
            self.messages(call_id),
            max_tokens + self.more_tokens,
            stream,
            tools=list(self.tools),
            tool_choice=self.choice,
            **({"temperature": 0} if is_greedy else {}),
        )


def control(model: str) -> Request:
    """The question of `required` without its tool: how long is the prompt then?"""
    return completion(model, BY_NAME["required"].prompt, CONTROL_TOKENS, False, temperature=0)


def with_longer_result(model: str, call_id: str) -> Request:
    """The conversation of `result`, in which the tool says more: how long is the prompt then?"""
    scenario = BY_NAME["result"]
    *before, said = scenario.messages(call_id)
    messages = [*before, {**said, "content": f"{said['content']} {MORE_SAID}"}]
    about = {"tools": list(scenario.tools), "tool_choice": scenario.choice, "temperature": 0}
    return completion(model, messages, CONTROL_TOKENS, False, **about)


THREE = (WEATHER, TIME, SEARCH)
PARIS, OSLO = {"city": "Paris"}, {"city": "Oslo"}
HISTORY = "What is the weather in Paris, and which station says so? Use the tool."
PREVIOUS = '{"city": "Paris"}'
SCENARIOS = (
    Scenario(
        "required",
        "What is the weather in Paris? Use the tool.",
        (WEATHER,),
        ("get_weather",),
        (PARIS,),
        choice=REQUIRED,
    ),
    Scenario(
        "named",  # not the one that fits best: who ignores the choice calls get_weather
        "What is the weather in Paris?",
        THREE,
        ("get_time",),
        (PARIS,),
        choice={"type": "function", "function": {"name": "get_time"}},
    ),
    Scenario("choice", "What time is it in Paris now? Use a tool.", THREE, ("get_time",), (PARIS,)),
    Scenario(
        "two",
        "What is the weather in Paris and in Oslo? Call the tool for both cities at once.",
        (WEATHER,),
        ("get_weather", "get_weather"),
        (PARIS, OSLO),
    ),
    Scenario("text", "Say hello in one short sentence. You need no tool for it.", THREE, ()),
    Scenario("none", "What is the weather in Paris?", (WEATHER,), (), choice=NONE),
    Scenario(
        "nested",
        'Book a table outside with 4 seats. The guest has the name "Ada" and the phone "555 0100".',
        (BOOK,),
        ("book_table",),
        ({"guest": {"name": "Ada", "phone": "555 0100"}, "seats": 4, "outside": True},),
    ),
    Scenario(
        "array",
        "Plan the training for these days: Monday, Wednesday and Friday. Use the tool.",
        (PLAN,),
        ("plan_days",),
        ({"days": ["monday", "wednesday", "friday"]},),
    ),
    Scenario(
        "enum",
        "Set the light in the hall to dim. Use the tool.",
        (LIGHT,),
        ("set_light",),
        ({"room": "hall", "mode": "dim"},),
    ),
    Scenario(
        "unicode",
        f'Save a note with exactly this text: "{RARE}"',
        (NOTE,),
        ("save_note",),
        ({"text": RARE},),
    ),
    Scenario("empty", "List my open tasks. Use the tool.", (TASKS,), ("list_tasks",), ({},)),
    Scenario(
        "no_parameters", "Give me the status. Use the tool.", (STATUS,), ("get_status",), ({},)
    ),
    Scenario("result", HISTORY, (WEATHER,), (), previous=PREVIOUS, result=STATION),
    Scenario(
        "again",
        HISTORY,
        (WEATHER,),
        ("get_weather",),
        (OSLO,),
        previous=PREVIOUS,
        follow_up="And what is the weather in Oslo? Use the tool again.",
    ),
    Scenario(
        "thinking",
        "Think about which of the tools fits, then call it: what time is it in Paris?",
        THREE,
        ("get_time",),
        (PARIS,),
    ),
    Scenario(
        "long",
        f'Save a note with exactly this text, all of it: "{LONG}"',
        (NOTE,),
        ("save_note",),
        ({"text": LONG},),
        more_tokens=LONG_TOKENS,
    ),
)
BY_NAME = {each.name: each for each in SCENARIOS}
NAMES = tuple(BY_NAME)
# With these it shows first whether there are any calls at all.
FIRST = ("required", "named", "choice")
# the turn after a result
AFTER = ("result", "again")
