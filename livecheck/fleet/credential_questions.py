"""Questions with good and bad credentials: what is sent, how it may be refused, what became of it.

Every function returns questions of one group and sends nothing.
"""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from livecheck.core.credentials import forms_of
from livecheck.core.json_value import pick_list
from livecheck.fleet import forged_tokens
from livecheck.fleet.api import ADMIN_PATHS, CLASSES, RUNNERS
from livecheck.fleet.forged_tokens import Forged
from livecheck.fleet.jwt import Jwt
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.wire import Request

COMPLETION = "a completion"  # the question without a credential that shows whether all is open
PROMPT = "Say yes."
MAX_TOKENS = 4
SCHEMES = ("Basic", "Token", "JWT")  # under which the valid credential must be refused
OTHER_POSTS: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "yes", "max_tokens": 1},
    "/v1/embeddings": {"input": "yes"},
}
ADMIN_PAGES = tuple(path.partition("?")[0] for path in ADMIN_PATHS)
SCHEME_RULE = "RFC 9110, section 11.4"
CASE_RULE = "RFC 9110, section 11.1"
QUERY_RULE = "RFC 6750, section 2.3"

DENIALS = frozenset({401, 403})
INVALID = frozenset({400, 401, 403})  # RFC 6750, section 3.1
MALFORMED = frozenset({400, 401, 403, 413, 431})
ABSENT = frozenset({400, 401, 403, 404, 405, 501})  # of an endpoint that need not exist
REDIRECTS = frozenset({301, 302, 303, 307, 308})  # from a page of the admin API to its login
NOT_SENT = ("connect", "tls")  # kinds of failure
NO_RUNNER = re.compile(r"no (runners?|models?)\b", re.IGNORECASE)
ECHO_LENGTH = 8  # characters of a credential that are not in an answer by chance
NEAR_ECHO_LENGTH = 16  # of one that is nearly the credential: half of a key may be a word
PIECE_LENGTH = 24  # characters of a longer credential that are looked for, from anywhere in it
SEARCHED_BYTES = 1 << 20  # of an answer


@dataclass(frozen=True)
class Question:
    """One request and how it may be refused.

    `rule`: where it is said that it must be refused. `allowed`: the statuses that refuse it.
    `may_close`: closing the connection refuses it as well; HTTP servers do so with bytes that no
    header may have.
    """

    group: str
    name: str
    request: Request
    rule: str = ""
    allowed: frozenset[int] = DENIALS
    may_close: bool = False


@dataclass(frozen=True)
class Exchange:
    """A question and what became of it."""

    question: Question
    answer: Answer

    @property
    def group(self) -> str:
        return self.question.group

    @property
    def name(self) -> str:
        return self.question.name

    @property
    def status(self) -> int | None:
        """The status of a whole answer."""
        return None if self.answer.failure else self.answer.status

    @property
    def error(self) -> str | None:
        """The kind of failure when there is no whole answer."""
        return self.answer.failure_kind

    @property
    def said(self) -> str:
        return self.answer.outcome()

    @property
    def answer_ms(self) -> float | None:
        return self.answer.answer_ms

    @property
    def is_closed(self) -> bool:
        """Whether the connection was closed without a byte: nothing is let in, nothing is told."""
        return self.answer.is_closed_at_once

    @cached_property
    def completes(self) -> bool:
        """Whether this is a chat completion.

        It may be without content: so few tokens may all be thoughts. It may be a stream that was
        not asked for: some servers can do nothing else.
        """
        if not self.answer.is_ok:
            return False
        if self.answer.content_type.startswith("text/event-stream"):
            return bool(self.answer.stream.output_ns or self.answer.stream.finish_reason)
        return bool(pick_list(self.answer.json, "choices"))

    @property
    def is_html(self) -> bool:
        kind, start = self.answer.content_type, self.answer.body[:100].lstrip().lower()
        looks_so = start.startswith((b"<!doctype", b"<html"))
        return kind.startswith("text/html") or (not kind and looks_so)

    @property
    def is_page(self) -> bool:
        """The web page that some servers send for any path, for an endpoint that need not exist."""
        return 404 in self.question.allowed and self.status == 200 and self.is_html

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300 and not self.is_page

    @property
    def is_refused(self) -> bool:
        """Whether it was refused in one of the ways in which it may be."""
        if self.is_closed:
            return self.question.may_close
        return self.status in self.question.allowed or self.is_page

    @property
    def lacks_runner(self) -> bool:
        """Whether the fleet has no runner for what was asked for."""
        return self.status in (404, 500, 503) and NO_RUNNER.search(self.said) is not None

    @property
    def is_busy(self) -> bool:
        """A 503, as a proxy in front sends when it gets too many requests."""
        return self.status == 503 and not self.lacks_runner

    @property
    def says_nothing(self) -> bool:
        """Whether it was neither let in nor refused."""
        return self.answer.status == 429 or self.is_busy or self.error in NOT_SENT

    @cached_property
    def is_echo(self) -> bool:
        return has_echo(self.answer, NEAR_ECHO_LENGTH if self.group == "api_key" else ECHO_LENGTH)

    def record(self) -> dict[str, Any]:
        """The exchange as it is saved; nothing in it is a credential."""
        question, answer = self.question, self.answer
        return {
            "group": question.group,
            "name": question.name,
            "basis": question.rule,
            "path": answer.path,
            "status": self.status,
            "error": self.error,
            "closed": self.is_closed,
            "said": self.said,
            "answer_ms": self.answer_ms,
            "completes": self.completes,
            "is_html": self.is_html,
            "denied": answer.is_denied,
            "rate_limited": answer.status == 429,
            "retry_after_s": answer.retry_after_s,
            "echoed": self.is_echo,
            "sent_secret": bool(question.request.secret),
            "allowed": sorted(question.allowed),
            "may_close": question.may_close,
        }


def has_echo(answer: Answer, least: int) -> bool:
    """Whether head or body has the credential of the request in it, or a piece of it.

    `least`: characters that a credential must have to be looked for; a shorter one may be a word of
    the server's. Upper and lower case, base64 and the quoting of URLs, JSON and HTML are looked
    through.
    """
    secret = answer.request.secret or ""
    if len(secret) < least:
        return False
    size = min(PIECE_LENGTH, len(secret))
    forms = (form.lower() for form in forms_of(secret))
    sought = {piece for form in forms for piece in pieces(form, size)}
    raw = b"".join(answer.reply.reads)
    # The raw bytes have the head in them, the decoded body is not cut into chunks.
    bodies = (raw, answer.reply.message.body(raw))
    texts = (data[:SEARCHED_BYTES].decode("latin-1") for data in bodies)
    return any(piece in sought for text in texts for piece in pieces(text.lower(), size))


def pieces(text: str, size: int) -> Iterator[str]:
    """Every part of this length, one by one: the text may be long."""
    return (text[at : at + size] for at in range(len(text) - size + 1))


# --- requests


def completion(model: str, token: str | None, stream: bool = False) -> Request:
    return chat.with_credential(chat.completion(model, PROMPT, MAX_TOKENS, stream), token)


def with_header(request: Request, value: str, secret: str | None = None) -> Request:
    """The same request with this Authorization header."""
    headers = {**request.headers, "authorization": value}
    return dataclasses.replace(request, headers=headers, secret=secret)


def admin_requests(token: str | None) -> dict[str, Request]:
    found = [chat.with_credential(chat.get(path), token) for path in ADMIN_PATHS]
    return dict(zip(ADMIN_PAGES, found, strict=True))


# --- questions


def of_role(group: str, token: str, models: Sequence[str]) -> list[Question]:
    """What a role is tried with: the classes, these models by their names, the admin API."""
    asked = {model: completion(model, token) for model in (*CLASSES, *models)}
    pages = admin_requests(token)
    return [
        *(Question(group, name, request) for name, request in asked.items()),
        *(Question(group, name, request, allowed=ABSENT) for name, request in pages.items()),
    ]


def completion_of(model: str) -> str:
    """What it is called to ask for this model without a credential."""
    return f"{COMPLETION} of {model}"


def without_credential(models: Sequence[str]) -> list[Question]:
    """Everything that makes a model work, and the admin API.

    `models`: what a server may guard each in its own way; the first is asked for in every way.
    """
    group, rule, first = "no_credentials", forged_tokens.BEARER_RULE, models[0]
    named = {
        COMPLETION: completion(first, None),
        "a streamed completion": completion(first, None, stream=True),
        **{completion_of(name): completion(name, None) for name in models[1:]},
    }
    others = {}
    for path, fields in OTHER_POSTS.items():
        for name in dict.fromkeys([first, models[-1]]):
            body = json.dumps({"model": name, **fields}).encode()
            others[path if name == first else f"{path} of {name}"] = Request("POST", path, body)
    pages = admin_requests(None)
    return [
        *(Question(group, name, each, rule) for name, each in named.items()),
        *(Question(group, name, each, rule, ABSENT) for name, each in others.items()),
        *(Question(group, name, each, rule, ABSENT | REDIRECTS) for name, each in pages.items()),
    ]


def malformed(model: str) -> list[Question]:
    """Headers without a usable token, and headers that the HTTP layer itself may refuse."""
    request, found, odd = completion(model, None), [], forged_tokens.odd_headers()
    for each in [*forged_tokens.malformed_headers(), *odd]:
        sent, allowed = with_header(request, each.token), MALFORMED if each in odd else INVALID
        found.append(Question("malformed", each.name, sent, each.rule, allowed, each in odd))
    return found


def other_schemes(model: str, token: str) -> list[Question]:
    """The valid credential under a scheme that is not its own."""
    request, found = completion(model, None), []
    for name in SCHEMES:
        sent = with_header(request, f"{name} {token}", token)
        found.append(Question("scheme", f"{name} ...", sent, SCHEME_RULE, INVALID))
    return found


def optional_forms(model: str, token: str) -> list[Question]:
    """The valid credential in the places and spellings in which servers differ."""
    request, found = completion(model, None), []
    for word in ("bearer", "BEARER"):
        sent = with_header(request, f"{word} {token}", token)
        found.append(Question("bearer_case", word, sent, CASE_RULE))
    bare = with_header(request, token, token)
    found.append(Question("bare_token", "without a scheme", bare, SCHEME_RULE, INVALID))
    for name in ("access_token", "token"):
        path = f"{request.path}?{name}={urllib.parse.quote(token, safe='')}"
        sent = dataclasses.replace(request, path=path, secret=token)
        found.append(Question("query_token", f"?{name}=", sent, QUERY_RULE, INVALID))
    return found


def with_forged(group: str, model: str, forged: Iterable[Forged]) -> list[Question]:
    return [
        Question(group, each.name, completion(model, each.token), each.rule, INVALID)
        for each in forged
    ]


def forged_elsewhere(jwt: Jwt, models: Sequence[str], is_open: Collection[str]) -> list[Question]:
    """Tokens forged for the highest roles, where these count: a server that verifies a token for a
    completion may merely read it elsewhere.

    `is_open`: the names of what anybody may do without a credential; that needs no forged token.
    """
    edited, unsigned = forged_tokens.with_highest_roles(jwt)
    found = []
    for each in (edited, unsigned) if RUNNERS not in is_open else ():
        request = chat.with_credential(chat.get(RUNNERS), each.token)
        name = f"{each.name} at {RUNNERS}"
        found.append(Question(each.group, name, request, each.rule, ABSENT | REDIRECTS))
    for model in models:
        if completion_of(model) not in is_open:
            name, request = f"{edited.name} for {model}", completion(model, edited.token)
            found.append(Question("payload", name, request, edited.rule, INVALID))
    return found
