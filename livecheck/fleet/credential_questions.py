"""Questions with good and bad credentials: what is sent, how it may be refused, what became of it.

Every function returns questions of one group and sends nothing.
"""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from livecheck.core.json_value import pick, pick_list
from livecheck.core.late_pattern import late_pattern
from livecheck.core.redaction import forms_of, pieces_of
from livecheck.fleet import engine_endpoints, forged_tokens, spellings
from livecheck.fleet.api import ADMIN_PATHS, CLASSES, RUNNERS
from livecheck.fleet.forged_tokens import Forged
from livecheck.fleet.jwt import Jwt
from livecheck.wire import chat
from livecheck.wire.answer import ERROR_200, Answer
from livecheck.wire.error_words import error_in
from livecheck.wire.wire import Request, Target

ENDPOINTS = "other_endpoints"  # the group of the questions about the endpoints of engines
COMPLETION = "a completion"  # the question without a credential that shows whether all is open
PROMPT = "Say yes."
MAX_TOKENS = 4
# parameters of a URL in which some servers take a credential
QUERY_NAMES = ("access_token", "token", "api_key", "key")
SCHEMES = ("Basic", "Token", "JWT")  # under which the valid credential must be refused
OTHER_POSTS: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "yes", "max_tokens": 1},
    "/v1/embeddings": {"input": "yes"},
}
ADMIN_PAGES = tuple(path.partition("?")[0] for path in ADMIN_PATHS)
SCHEME_RULE = "RFC 9110, section 11.4"
CASE_RULE = "RFC 9110, section 11.1"
QUERY_RULE = "RFC 6750, section 2.3"
TWICE_RULE = "RFC 9110, section 5.3"  # only a list may come in several lines

DENIALS = frozenset({401, 403})
INVALID = frozenset({400, 401, 403})  # RFC 6750, section 3.1
MALFORMED = frozenset({400, 401, 403, 413, 431})
ABSENT = frozenset({400, 401, 403, 404, 405, 501})  # of an endpoint that need not exist
REDIRECTS = frozenset({301, 302, 303, 307, 308})  # from a page of the admin API to its login
NOT_SENT = ("connect", "tls")  # kinds of failure
NO_RUNNER = late_pattern(r"no (runners?|models?)\b", re.IGNORECASE)
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
        return f"{ERROR_200}: {self.answer.words}" if self.is_error_200 else self.answer.outcome()

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

    @cached_property
    def is_html(self) -> bool:
        kind, start = self.answer.content_type, self.answer.body[:100].lstrip().lower()
        looks_so = start.startswith((b"<!doctype", b"<html"))
        return kind.startswith("text/html") or (not kind and looks_so)

    @cached_property
    def is_page(self) -> bool:
        """The answer that some servers send for any path, for an endpoint that need not exist: a
        web page; or, at a path of the admin API, a success without any list."""
        if 404 not in self.question.allowed or self.status != 200:
            return False
        is_admin = any(self.answer.path == each.partition("?")[0] for each in ADMIN_PATHS)
        content = self.answer.json
        parts = content.values() if isinstance(content, dict) else [content]
        is_bare = is_admin and not any(isinstance(each, list) for each in parts)
        return self.is_html or (is_bare and not self.is_error_200)

    @cached_property
    def is_error_200(self) -> bool:
        """A success by its status, and an error in its body: nothing is let in, nor refused."""
        return self.answer.is_ok and error_in(self.answer.json) is not None

    @property
    def is_accepted(self) -> bool:
        is_success = self.status is not None and 200 <= self.status < 300
        return is_success and not self.is_page and not self.is_error_200

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
        is_left = self.answer.reply.cancelled and self.question.request.cancel_after_s is not None
        if self.answer.is_rate_limited or self.is_busy or is_left:
            return True
        return self.error in NOT_SENT

    @cached_property
    def reaches(self) -> bool:
        """Whether it brings what needs a credential: a completion, or the list of the runners."""
        if self.completes:
            return True
        return self.answer.is_ok and isinstance(pick(self.answer.json, "runners"), list)

    def repeats(self, secret: str) -> bool:
        """Whether the answer has this credential in it, or a piece of it."""
        return has_echo(self.answer, NEAR_ECHO_LENGTH, secret)

    @cached_property
    def is_echo(self) -> bool:
        return has_echo(self.answer, NEAR_ECHO_LENGTH if self.group == "api_key" else ECHO_LENGTH)

    @cached_property
    def seen(self) -> engine_endpoints.Seen:
        """What it shows as the answer of an engine's endpoint."""
        return engine_endpoints.see(self.name, self.answer)

    def settle(self) -> None:
        """Work out what is asked of the body, and let it go: a run keeps hundreds of answers."""
        of_body = ["completes", "reaches", "is_html", "is_page", "is_error_200", "is_echo"]
        for name in [*of_body, *(["seen"] if self.group == ENDPOINTS else [])]:
            getattr(self, name)  # it is kept from now on
        self.answer.let_go()

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
            **answer.silence_figures,
            "completes": self.completes,
            "is_html": self.is_html,
            "denied": answer.is_denied,
            "rate_limited": answer.is_rate_limited,
            "retry_after_s": answer.retry_after_s,
            "echoed": self.is_echo,
            "sent_secret": bool(question.request.secret),
            "allowed": sorted(question.allowed),
            "may_close": question.may_close,
        }


def has_echo(answer: Answer, least: int, secret: str | None = None) -> bool:
    """Whether head or body has the credential in it, or a piece of it.

    `least`: characters that a credential must have to be looked for; a shorter one may be a word of
    the server's. `secret`: the credential, if it is not the one of the request. Upper and lower
    case, base64 and the quoting of URLs, JSON and HTML are looked through.
    """
    secret = secret or answer.request.secret or ""
    if len(secret) < least:
        return False
    size = min(PIECE_LENGTH, len(secret))
    sought = {piece for form in forms_of(secret) for piece in pieces_of(form.lower(), size)}
    raw = bytes(answer.reply.raw)
    # The raw bytes have the head in them, the body is not cut into chunks, nor compressed.
    decoded = answer.reply.decoded
    bodies = {raw, answer.reply.message.body(raw), decoded.body if decoded else b""}
    texts = (data[:SEARCHED_BYTES].decode("latin-1") for data in bodies)
    return any(has_piece(text.lower(), sought, size) for text in texts)


def has_piece(text: str, sought: Collection[str], size: int) -> bool:
    """Whether one of these pieces of `size` characters is in the text, which may be long.

    Wherever a piece begins, it has a whole block in it of those that begin at every `step`: only
    where such a block belongs to a piece, the places around it are looked at. To find the blocks of
    all pieces takes longer than to look at every place of a text that is not very long.
    """
    if len(text) < 5 * len(sought):
        return any(piece in sought for piece in pieces_of(text, size))
    step = (size + 1) // 2
    blocks = {block for piece in sought for block in pieces_of(piece, step)}
    for at in range(0, len(text) - step + 1, step):
        if text[at : at + step] in blocks:
            around = text[max(0, at - size) : at + step + size]
            if any(piece in sought for piece in pieces_of(around, size)):
                return True
    return False


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
    one, two = (f"Bearer {forged_tokens.random_word()}" for _ in range(2))
    twice = dataclasses.replace(with_header(request, one), repeated=(("authorization", two),))
    found.append(Question("malformed", "two headers", twice, TWICE_RULE, INVALID))
    for name, value in forged_tokens.elsewhere().items():
        headers = {**request.headers, name: value}
        sent = dataclasses.replace(request, headers=headers)
        rule = forged_tokens.BEARER_RULE
        found.append(Question("malformed", f"a random word in {name.title()}", sent, rule, INVALID))
    path = f"{request.path}?api_key={forged_tokens.random_word()}"
    sent = dataclasses.replace(request, path=path)
    return [*found, Question("malformed", "a random word as ?api_key=", sent, QUERY_RULE, ABSENT)]


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
    for name in QUERY_NAMES:
        path = f"{request.path}?{name}={urllib.parse.quote(token, safe='')}"
        sent = dataclasses.replace(request, path=path, secret=token)
        found.append(Question("query_token", f"?{name}=", sent, QUERY_RULE, INVALID))
    return found


def two_headers(model: str, token: str) -> list[Question]:
    """A wrong credential and the valid one behind it, each in a header of its own.

    The other order is not asked: most servers read the first header, and nothing follows from it.
    """
    request = chat.with_credential(completion(model, None), token)
    wrong = forged_tokens.random_word()
    sent = with_header(request, f"Bearer {wrong}", token)
    sent = dataclasses.replace(sent, repeated=(("authorization", f"Bearer {token}"),))
    name = "a wrong one, then the valid one"
    return [Question("two_headers", name, sent, TWICE_RULE, INVALID)]


def trailing_text(model: str, token: str) -> list[Question]:
    """The valid credential with something behind or in front of it."""
    request, found = completion(model, None), []
    for each in forged_tokens.with_more_text(token):
        sent = with_header(request, each.token, token)
        has_odd_bytes = not each.token.isprintable()
        allowed = MALFORMED if has_odd_bytes else INVALID
        question = Question("trailing_text", each.name, sent, each.rule, allowed, has_odd_bytes)
        found.append(question)
    return found


# --- questions that have no credential, and another way to the same place


def in_passing(
    group: str, requests: Mapping[str, Request], within_s: float, of: str = ""
) -> list[Question]:
    """Questions of which only one thing is asked: do they bring what needs a credential?

    `within_s`: when to stop waiting for an answer: a server may wait for something that does not
    come.
    """
    return [
        Question(group, name + of, dataclasses.replace(request, cancel_after_s=within_s))
        for name, request in requests.items()
    ]


def other_spellings(
    model: str, target: Target, user: str | None, has_admin: bool, within_s: float
) -> dict[str, list[Question]]:
    """A completion, and a page of the admin API, by another path, method or header; by group.

    `target`: where both really are. `user`: a name that the server knows. `has_admin`: whether
    there is an admin API that wants a credential.
    """
    origin = f"{target.parts.scheme}://{target.parts.netloc.rpartition('@')[2]}"
    request = at_its_place(completion(model, None), target)
    paths = spellings.respelled(request, spellings.other_paths(request.path, origin))
    found = {
        "other_paths": in_passing("other_paths", paths, within_s),
        "other_methods": in_passing("other_methods", spellings.other_methods(request), within_s),
        "proxy_headers": in_passing(
            "proxy_headers", spellings.proxy_headers(request, user), within_s
        ),
    }
    if has_admin:
        page = at_its_place(chat.with_credential(chat.get(RUNNERS), None), target)
        of = f" ({RUNNERS})"
        paths, headers = spellings.common_paths(page, origin), spellings.common_headers(page)
        found["other_paths"] += in_passing("other_paths", paths, within_s, of)
        found["proxy_headers"] += in_passing("proxy_headers", headers, within_s, of)
    return found


def at_its_place(request: Request, target: Target) -> Request:
    """The request with its whole path at this target."""
    return dataclasses.replace(request, path=target.path_of(request.path), is_raw=True)


def other_endpoints(model: str, within_s: float) -> list[Question]:
    requests = {each.name: each.request for each in engine_endpoints.endpoints(model)}
    return in_passing(ENDPOINTS, requests, within_s)


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
