"""Questions for a model by its class or its name, and which model answered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import shorten
from livecheck.fleet import api, roles
from livecheck.wire import asking
from livecheck.wire.answer import Answer
from livecheck.wire.model_choice import may_chat, which_chat

MAX_NAME_LENGTH = 200  # characters of a model's name in the results
MOST_NAMES = 10  # that are kept of those that a stream gives its model
SHOWN_LENGTH = 48  # characters of a name, or of a server's words, in a line
# A 503 with such words will not pass by itself; one that says "no runner is free" may.
NO_RUNNER = late_pattern(
    r"\bno (runner|model|deployment|backend)s?\b(?! (is |are )?(free|idle|ready))", re.IGNORECASE
)


@dataclass
class Listing:
    """What /v1/models listed, each time that it was read. `problem`: why it could not be read."""

    lists: list[list[str]] = field(default_factory=list)
    chats: dict[str, bool] = field(default_factory=dict)  # whether a model can, as the list tells
    problem: str | None = None

    def read(self, answer: Answer) -> None:
        """Read an answer of /v1/models; that of a busy server says nothing."""
        if reason_busy(answer):
            return
        try:
            found = api.listed_models(answer)
        except api.Unreadable as error:
            self.problem = str(error)
            return
        self.lists.append(found)
        self.chats |= which_chat(answer)

    @property
    def known(self) -> dict[str, None]:
        """Every model that was listed at some time: runners come and go meanwhile."""
        return dict.fromkeys(name for each in self.lists for name in each)

    @property
    def names(self) -> list[str]:
        return list(self.known)

    @property
    def for_chat(self) -> list[str]:
        """Those of them that can chat, as far as the list tells."""
        named = [name for name in self.names if roles.is_concrete(name)]
        return [name for name in named if self.chats.get(name, may_chat(name))]


@dataclass(frozen=True)
class Question:
    """A request for a model, or for a path of the admin API.

    `part`: what it is asked for. `roles`: those that its token tells, None for an opaque key.
    `credential`: which of the run's tokens it has, from 0.
    """

    part: str
    asked: str
    roles: list[str] | None = None
    credential: int = 0

    @property
    def is_path(self) -> bool:
        return self.asked in api.ADMIN_PATHS


@dataclass(frozen=True)
class Exchange:
    """A question and what became of it.

    `is_thinker`: a whole answer of this model was nothing but reasoning that is not shown.
    """

    question: Question
    answer: Answer
    is_thinker: bool = False

    @property
    def asked(self) -> str:
        return self.question.asked

    @property
    def status(self) -> int | None:
        return self.answer.status

    @property
    def error(self) -> str | None:
        """The kind of failure when there is no whole answer."""
        return self.answer.failure_kind

    @property
    def answer_ms(self) -> float | None:
        return self.answer.answer_ms

    @property
    def is_hidden(self) -> bool:
        """Whether all tokens went into reasoning that is not shown. Few streams count their tokens:
        one that ends at max_tokens without a word is believed when the model is a thinker."""
        if self.question.is_path or not self.answer.is_ok:
            return False
        spent = self.answer.spent
        if spent is None or spent.is_shown:
            return False
        return spent.tokens is not None or self.is_thinker

    @cached_property
    def problem(self) -> str | None:
        """Why this is not an answer to the question; None when it is one."""
        if self.question.is_path:
            return problem_of_page(self.asked, self.answer)
        if self.answer.completion.is_hidden and not self.is_hidden:
            return "200, but without content"
        return self.answer.completion.problem

    @property
    def is_answered(self) -> bool:
        return self.problem is None

    @cached_property
    def models(self) -> list[str]:
        """Every name that the answer gives its model: one, unless the answer is odd."""
        if self.question.is_path:
            return []
        names = [self.answer.completion.model]
        if self.is_answered and self.answer.is_stream:
            names = [*self.answer.stream.models]
        return [shorten(name, MAX_NAME_LENGTH) for name in names[:MOST_NAMES] if name]

    @property
    def model(self) -> str | None:
        return self.models[0] if self.models else None

    @property
    def busy(self) -> str | None:
        return reason_busy(self.answer)

    @property
    def accepts_token(self) -> bool:
        """Whether the token was accepted. A 429 or 5xx may come from what stands in front, and what
        does not exist on the server needs no look at the token."""
        if self.status is None or self.question.is_path:
            return False
        return self.status < 500 and self.status not in (401, 429)

    @property
    def may_ask_by_name(self) -> bool:
        """Whether the token tells that it has the role for that."""
        return roles.SPECIFIC in (self.question.roles or ())

    def settle(self) -> None:
        """Work out what is asked of the body, and let it go: a run keeps some sixty answers."""
        for name in ("problem", "models"):
            getattr(self, name)  # it is kept from now on
        self.answer.let_go()

    def record(self) -> dict[str, Any]:
        return {
            "part": self.question.part,
            "asked": self.asked,
            "roles": self.question.roles,
            "streamed": self.answer.wants_stream,
            "status": self.status,
            "error": self.error,
            "problem": self.problem,
            "models": self.models,
            "is_stream": self.answer.is_stream,
            "denied": self.answer.is_denied,
            "busy": self.busy,
            "answer_ms": self.answer_ms,
            **self.answer.silence_figures,
            "hidden": self.is_hidden,
            "credential": self.question.credential,
        }


def reason_busy(answer: Answer) -> str | None:
    """Why an answer says nothing about the deployment: the rate limit, or it asks to come later."""
    if answer.failure or answer.status not in (429, 503):
        return None
    if answer.is_rate_limited:
        return asking.rate_limit_words(answer)
    wait = answer.shown_header("retry-after")
    if not wait or (answer.status == 503 and NO_RUNNER.search(answer.words)):
        return None
    said = f"{answer.status} {shorten(answer.words, SHOWN_LENGTH)}".strip()
    return f"it is busy ({said}, Retry-After {wait}): try again"


def problem_of_page(path: str, answer: Answer) -> str | None:
    """Why an answer tells nothing of the admin API; None when it does. A page for people, as some
    servers send for any path, does not."""
    read = api.read_runners if path == api.RUNNERS else api.read_log
    try:
        read(answer)
    except api.Unreadable as error:
        return str(error) if answer.is_ok else answer.outcome()
    return None
