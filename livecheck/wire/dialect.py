"""What a model calls the parameters of a chat completion.

Some models refuse parameters that every client sends: `max_tokens`, in the place of which OpenAI's
reasoning models want `max_completion_tokens`, a `temperature` other than the default, and a `seed`.
A request that is refused so is asked once more the other way; what works is kept for the rest of
the run.
A refusal for any other reason is left alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from livecheck.core.json_value import decode, decode_or_none, pick
from livecheck.core.late_pattern import late_pattern
from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.wire.error_words import words_of
from livecheck.wire.request import Reply, Request

PATH = "/chat/completions"
REFUSED = (400, 422)  # statuses with which a server refuses a parameter
SEARCHED_BYTES = 4096  # of an error's body
SAID_LENGTH = 120  # characters of what the server said
OLD, NEW, TEMPERATURE, SEED = "max_tokens", "max_completion_tokens", "temperature", "seed"
# "too large" is not among these: that is about the value, and true of either name
UNSUPPORTED = late_pattern(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed"
    r"|forbidden|not accept|deprecated",
    re.I,
)
# for a temperature of 0 some servers say which values they take
BAD_VALUE = late_pattern(
    r"only|positive|greater|must|should|default|range|between|invalid|illegal", re.I
)


@dataclasses.dataclass
class Dialect:
    """The parameters that a model refused in this run, with the server's words for it.

    `tell` gets a line for the operator when another one is found.
    """

    tell: Callable[[str], object] = lambda _: None
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    _cold: set[float] = dataclasses.field(default_factory=set)  # temperatures that were refused
    _has_failed: bool = False  # the newer name was refused as well

    # what is sent

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a chat completion as this model takes them."""
        found = dict(fields)
        if self.renames and OLD in found:
            found[NEW] = found.pop(OLD)
        if found.get(TEMPERATURE) in self._cold:
            del found[TEMPERATURE]
        if SEED in self.refused:
            found.pop(SEED, None)
        return found

    @property
    def renames(self) -> bool:
        """Whether max_completion_tokens is sent in the place of max_tokens."""
        return OLD in self.refused and not self._has_failed

    def adapt(self, request: Request) -> Request:
        """The same request as this model takes it; only chat completions are changed."""
        fields = self._fields_of(request) if self.refused else None
        if fields is None or (changed := self.fields(fields)) == fields:
            return request
        return dataclasses.replace(request, body=json.dumps(changed).encode())

    @property
    def learnt(self) -> tuple[dict[str, str], set[float], bool]:
        """What is known of the model: for `adopt`, in another process."""
        return dict(self.refused), set(self._cold), self._has_failed

    def adopt(self, learnt: tuple[dict[str, str], set[float], bool]) -> None:
        """Take over what another process has learnt; nothing is told."""
        refused, cold, has_failed = learnt
        self.refused |= refused
        self._cold |= cold
        self._has_failed = self._has_failed or has_failed

    def as_record(self) -> dict[str, str | None]:
        """What was sent in the place of each refused parameter; None: it was left out."""
        return {name: NEW if name == OLD else None for name in self.refused}

    # what came back

    def refuses(self, reply: Reply) -> bool:
        """Whether this reply refuses a parameter that can be sent in another way from now on."""
        if reply.status not in REFUSED or reply.failure is not None:
            return False
        fields = self._fields_of(reply.request)
        body = reply.decoded.body if reply.decoded else reply.body
        return fields is not None and (self.learn(fields, body) or self._learn_seed(fields, body))

    def learn(self, fields: Mapping[str, Any], body: bytes) -> bool:
        """The same for the fields that were sent and the body of a 400 or 422."""
        text = body[:SEARCHED_BYTES].decode("utf-8", "replace")
        parameter = named_parameter(text)
        if NEW in fields and parameter in (NEW, None) and NEW in text and UNSUPPORTED.search(text):
            self._has_failed = True
            return False
        if OLD in fields and not self._has_failed and is_named(OLD, parameter, text):
            if UNSUPPORTED.search(text):
                return self._keep(OLD, text, f"asking with {NEW} instead")
        heat = fields.get(TEMPERATURE)
        if heat is not None and heat not in self._cold and is_named(TEMPERATURE, parameter, text):
            is_meant = parameter is not None or UNSUPPORTED.search(text) or BAD_VALUE.search(text)
            if is_meant:
                self._cold.add(heat)
                return self._keep(TEMPERATURE, text, "asking without it")
        return False

    def _learn_seed(self, fields: Mapping[str, Any], body: bytes) -> bool:
        """Whether a refusal is about the seed. Where the effect of one is checked (the SDK's
        script), a refusal of it is the answer."""
        text = body[:SEARCHED_BYTES].decode("utf-8", "replace")
        is_meant = is_named(SEED, named_parameter(text), text) and UNSUPPORTED.search(text)
        if SEED not in fields or SEED in self.refused or not is_meant:
            return False
        return self._keep(SEED, text, "asking without it")

    def _keep(self, name: str, text: str, instead: str) -> bool:
        if name not in self.refused:
            self.refused[name] = said_in(text)
            self.tell(f"note: the model refuses {name} ({self.refused[name]}): {instead}")
        return True

    @staticmethod
    def _fields_of(request: Request) -> dict[str, Any] | None:
        """The JSON of a request for a chat completion; None for any other request."""
        if request.body is None or not request.path.partition("?")[0].endswith(PATH):
            return None
        try:
            fields = json.loads(request.body)
        except ValueError:
            return None
        return fields if isinstance(fields, dict) else None


def of_run(run: Run) -> Dialect:
    """The one of the run's deployment. What is found stands in the results as well."""
    if run.dialect is None:
        run.dialect = of_server(run)
    found: Dialect = run.dialect
    return found


def of_server(run: Run) -> Dialect:
    """One for another server than the run's, or the first one of the run."""
    dialect = Dialect()

    def tell(line: str) -> None:
        run.note(line)
        if run.dialect is dialect:
            run.target["parameters"] = dialect.as_record()

    dialect.tell = tell
    return dialect


# --- read a refusal


def named_parameter(text: str) -> str | None:
    """The parameter that an error is about, as OpenAI's API names it; None when it does not."""
    name = pick(decode_or_none(text), "error", "param")
    return name if isinstance(name, str) else None


def is_named(name: str, parameter: str | None, text: str) -> bool:
    """Whether an error is about this parameter: by its own field, else by its words."""
    if parameter is not None:
        return parameter == name
    return re.search(rf"(?<![a-z_]){name}(?![a-z_])", text, re.I) is not None


def said_in(text: str) -> str:
    """The words of an error, on one line."""
    try:
        content = decode(text)
    except ValueError:
        content = text
    return shorten(words_of(content), SAID_LENGTH)
