#!/usr/bin/env python3
"""Is every request answered by the model it asked for, and by no other?

Asks for classes (class:fast, class:big) and for models by their names, streamed and not, and reads
in the answers which model it was. Then it asks for a model and for a class that do not exist. With
--test-permissions it also asks in the name of a user without roles, with model:specific and with
admin.

PASS: a class gives content by a model that is listed, the two classes give different ones, a name
gives that model, and what does not exist is refused.
Cost: 6 requests for each model, 4 that have to fail, and up to 22 for the roles, one after the
other, with answers of at most 32 tokens. It wakes sleeping runners and may have models loaded.

Examples:
    # both classes
    python3 test_model_routing.py --token-binary ./get-token
    # one of them, with a token as it is
    python3 test_model_routing.py --model class:fast --token YOUR_TOKEN
    # a model by its name: the role model:specific is asked of the token binary
    python3 test_model_routing.py --model llama3:8b --token-binary ./get-token
    # the same, where its runner calls it something else
    python3 test_model_routing.py --model llama3:8b --token-binary ./get-token \\
        --alias llama3:8b=llama3-8b-q4.gguf
    # who may ask for what
    python3 test_model_routing.py --test-permissions --token-binary ./get-token
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Run, Status
from livecheck.core.text import shorten
from livecheck.fleet import old_api as api
from livecheck.fleet.old_api import ADMIN, CLASSES, SPECIFIC
from livecheck.wire import old_chat as chat
from livecheck.wire import sse, wire
from livecheck.wire.records import is_ok, is_rate_limit, ms, outcome, read_stream, timed_out, words

CHECKS = (
    "class",
    "classes_differ",
    "model",
    "listing",
    "stream",
    "unknown_model",
    "unknown_class",
    "role_none",
    "role_specific",
    "role_admin",
    "full_access",
)
OF_ROUTING = ("class", "classes_differ", "model", "listing", "stream")
ROUNDS = 3  # a class may have several models: each round asks once whole, once streamed
PROMPT = "Say yes."
MAX_TOKENS = 32  # some models think before they speak
UNKNOWN_MODEL = "no-such-model:0b"
UNKNOWN_CLASS = "class:no-such-class"
# what a request is for, if not for one of the roles
ROUTING, CONTROL, UNKNOWN = "routing", "control", "unknown"
NO_ROLE = "none"
ROLE_CHECKS = {NO_ROLE: "role_none", SPECIFIC: "role_specific", ADMIN: "role_admin"}
ADMIN_PATHS = (api.RUNNERS, api.LOG.format(page=1, per_page=1))
BY_NAME = 8  # models that model:specific is tried with: asking for one may have it loaded
TIMES = frozenset({"iat", "nbf", "exp", "jti", "auth_time"})  # claims that differ in any two JWTs
# a 503 that says so will not pass by itself; "no runner is free" may
NOBODY = re.compile(r"\bno (runner|model|deployment|backend)s?\b(?! (is |are )?(free|idle|ready))")
# listed beside the others, and no model to chat with
NOT_FOR_CHAT = re.compile(r"embed|rerank|whisper|(^|[/_-])(bge|clip|tts)([-_:]|$)", re.IGNORECASE)
LONGEST_NAME = 200  # of a model, in the results
SHOWN_NAME = 48  # of a model, in a line
SHOWN_NAMES = 6  # models in a line


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, timeout_s=60)
    add = parser.add_argument_group("what to check").add_argument
    add("--model", type=model_option, metavar="MODEL", help="class:X or a model's name")
    add(
        "--models",
        type=model_option,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="several of them (default class:fast class:big)",
    )
    add("--test-permissions", action="store_true", help="also who may ask for what")
    add(
        "--alias",
        type=alias_option,
        action="append",
        default=[],
        metavar="ASKED=ANSWERED",
        help="name that answers to ASKED carry (repeatable)",
    )
    return parser


def model_option(text: str) -> str:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no model: write class:fast or a name")
    return text


def alias_option(text: str) -> tuple[str, str]:
    asked, _, answered = (part.strip() for part in text.partition("="))
    if not (asked and answered):
        raise argparse.ArgumentTypeError(f"{text!r} is no alias: write ASKED=ANSWERED")
    return asked, answered


def models_to_ask(args: argparse.Namespace) -> list[str]:
    """What --model and --models name, each once; else both classes."""
    named = [*([args.model] if args.model else []), *args.models]
    return list(dict.fromkeys(named or CLASSES))


# --- measure


@dataclass(frozen=True)
class Probe:
    """A request for a model, or for a path of the admin API; `roles` are those in its token, None
    when that is an opaque key."""

    part: str  # ROUTING, UNKNOWN, or the role in whose name it is sent
    asked: str
    roles: list[str] | None
    request: wire.Request
    credential: int = 0  # which of the run's tokens, from 0


@dataclass(frozen=True)
class Record:
    """What became of a probe. `problem`: why it is no answer, None when it is one."""

    part: str
    asked: str
    roles: list[str] | None
    streamed: bool  # asked for as a stream
    status: int | None
    error: str | None  # the kind of failure when there is no whole answer
    problem: str | None
    models: list[str]  # the names that the answer gives its model: one, unless it is odd
    is_stream: bool  # it came as one
    denied: bool  # permission refused
    busy: str | None  # why it says nothing of the deployment
    answer_ms: float | None
    hidden: bool = False  # all its tokens went into reasoning that is not shown
    credential: int = 0  # which of the run's tokens it had, from 0

    @property
    def model(self) -> str | None:
        return self.models[0] if self.models else None

    @property
    def accepted(self) -> bool:
        """Whether the token was: a 429 or 5xx may come from what stands in front, and what is not
        there has no need to look at it."""
        said = self.status is not None and self.status < 500 and self.status not in (401, 429)
        return said and not is_path(self.asked)


@dataclass
class Seen:
    """All that was asked and answered; `stopped` says why the rest was not asked."""

    asked: list[str]
    aliases: dict[str, list[str]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)  # /v1/models, each time it was read
    unreadable: str | None = None  # why it could not be read
    no_token: dict[str, str] = field(default_factory=dict)  # for a model or role, and why
    stopped: str | None = None

    def find(self, part: str, *asked: str) -> list[Record]:
        """The records of a part, of all of it when nothing is named."""
        return [r for r in self.records if r.part == part and (not asked or r.asked in asked)]

    def served(self) -> bool:
        """Whether anything was answered at all: a refusal means nothing where all is refused."""
        return any(r.problem is None and not is_path(r.asked) for r in self.records)

    def was_accepted(self, credential: int) -> bool:
        return any(r.accepted for r in self.records if r.credential == credential)

    def is_expired(self, record: Record) -> bool:
        """Whether a 401 may say no more than that the token is no good (any more): it was good
        before and never since, or none of the run's tokens ever was."""
        same = [r for r in self.records if r.credential == record.credential]
        refused = next((at for at, r in enumerate(same) if r.status == 401), 0)
        if not self.was_accepted(record.credential):
            return not any(r.accepted for r in self.records)
        return not any(r.accepted for r in same[refused:])

    def thinks(self, asked: str) -> bool:
        """Whether a whole answer of the model had nothing but reasoning that is not shown."""
        return any(r.hidden for r in self.records if r.asked == asked and not r.streamed)

    @property
    def classes(self) -> list[str]:
        return [model for model in self.asked if not api.is_concrete(model)]

    @property
    def names(self) -> list[str]:
        return [model for model in self.asked if api.is_concrete(model)]

    @property
    def listed(self) -> list[str]:
        """Every model that was listed at some time: runners come and go meanwhile."""
        return list(dict.fromkeys(name for each in self.lists for name in each))

    @property
    def for_chat(self) -> list[str]:
        """Those of them that can be asked for an answer, as far as their names tell."""
        return [n for n in self.listed if api.is_concrete(n) and not NOT_FOR_CHAT.search(n)]

    def listed_as(self, model: str) -> str | None:
        """The listed name of the model that an answer names."""
        names = [model, *(asked for asked, others in self.aliases.items() if model in others)]
        return next((name for name in names if name in self.listed), None)

    def to_name(self) -> list[str]:
        """Models to ask for by name, those first that are known to answer."""
        known = [self.listed_as(r.model) for r in self.records if r.model and not r.problem]
        return list(dict.fromkeys([*filter(None, known), *self.for_chat, *self.names]))


def make_record(probe: Probe, reply: wire.Reply, thinks: bool = False) -> Record:
    """`thinks`: the model is known to keep its reasoning to itself."""
    answer = api.Answer(problem=read_admin(probe.asked, reply))
    if not is_path(probe.asked):
        answer = api.read_answer(reply)
    hidden = answer.hidden or (thinks and is_cut_stream(reply))
    if hidden:
        answer = dataclasses.replace(answer, problem=None)
    failure, t0_ns, end_ns = reply.failure, reply.t0_ns, reply.end_ns
    return Record(
        part=probe.part,
        asked=probe.asked,
        roles=probe.roles,
        streamed=chat.wants_stream(probe.request),
        status=reply.status,
        error=failure.kind if failure else None,
        problem=answer.problem,
        models=[shorten(name, LONGEST_NAME) for name in names_in(reply, answer)],
        is_stream=api.is_stream(reply),
        denied=api.is_denied(reply),
        busy=reason_to_wait(reply),
        answer_ms=ms(end_ns - t0_ns) if t0_ns and end_ns and not failure else None,
        hidden=hidden,
        credential=probe.credential,
    )


def is_cut_stream(reply: wire.Reply) -> bool:
    """Whether it ended at max_tokens without a word; few streams count their tokens."""
    if not (is_ok(reply) and api.is_stream(reply)):
        return False
    stream = read_stream(reply)
    return stream.finish_reason == "length" and not stream.output_ns


def is_path(asked: str) -> bool:
    return asked in ADMIN_PATHS


def read_admin(path: str, reply: wire.Reply) -> str | None:
    """Why this tells nothing of the admin API, None when it does: a page for people, as some
    servers send for any path, is no entry to it."""
    read = api.read_runners if path == api.RUNNERS else api.read_log
    try:
        read(reply)
    except api.Unreadable as error:
        return str(error) if is_ok(reply) else outcome(reply, timed=False)
    return None


def names_in(reply: wire.Reply, answer: api.Answer) -> list[str]:
    """Every name that an answer gives its model; a stream gives one with each chunk."""
    if answer.problem is not None or not api.is_stream(reply):
        return [answer.model] if answer.model else []
    names = (name_in(event.data) for event in sse.events(reply.body)[0])
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def name_in(chunk: bytes) -> object:
    try:
        content = json.loads(chunk)
    except (ValueError, RecursionError):
        return None  # [DONE]
    return content.get("model") if isinstance(content, dict) else None


def reason_to_wait(reply: wire.Reply) -> str | None:
    """The rate limit is used up, or the deployment asks for another time."""
    wait = reply.message.header("retry-after")
    if reply.failure or reply.status not in (429, 503):
        return None
    after = shorten(reply.blotted((wait or "none").encode()).decode(), SHOWN_NAME)
    if is_rate_limit(reply):
        return f"the rate limit (429 rate_limit_exceeded, Retry-After {after})"
    said = words(reply)
    if not wait or (reply.status == 503 and NOBODY.search(said.lower())):
        return None
    text = f"{reply.status} {shorten(said, SHOWN_NAME)}".strip()
    return f"it is busy ({text}, Retry-After {after}): try again"


def reason_to_stop(reply: wire.Reply, part: str = ROUTING) -> str | None:
    """The rate limit is used up, or the server costs too much time or memory to go on. What does
    not exist may be held while the gateway wakes runners for it; others may be answered."""
    if is_rate_limit(reply):
        return reason_to_wait(reply)
    if part == UNKNOWN and timed_out(reply):
        return None
    if reply.failure and reply.failure.kind in ("timeout", "flood", "connect", "tls"):
        return f"{reply.request.path}: {outcome(reply, timed=False)}"
    return None


class Asker:
    """Sends one request after the other and keeps what came back, also when interrupted."""

    def __init__(self, run: Run, instrument: wire.Wire, seen: Seen):
        self.run, self.instrument, self.seen = run, instrument, seen
        self._tokens: dict[str | None, str | None] = {}
        self._sent: list[str | None] = []  # each credential once

    def token(self, role: str | None = None) -> str | None:
        """A token of that role, made once. CannotCheck when there is none to be had."""
        if role not in self._tokens:
            self._tokens[role] = self.run.token(role=role)
        return self._tokens[role]

    def token_for(self, model: str) -> str | None:
        """The credential to ask for this model with."""
        return self.token(api.role_for(self.run, model))

    def number_of(self, token: str | None) -> int:
        if token not in self._sent:
            self._sent.append(token)
        return self._sent.index(token)

    def list_models(self, reply: wire.Reply | None = None) -> None:
        """Read /v1/models, or the answer it already gave."""
        seen = self.seen
        if reply is None and not seen.stopped:
            request = api.under(self.token(), wire.Request("GET", chat.MODELS))
            (reply,) = self.instrument.exchange([request])
            chat.show(self.run, reply)
        if reply is None:
            return
        seen.stopped = seen.stopped or reason_to_stop(reply)
        if reason_to_wait(reply):
            return
        try:
            seen.lists.append(api.listed_models(reply))
        except api.Unreadable as error:
            seen.unreadable = str(error)

    def complete(self, part: str, token: str | None, model: str, stream: bool) -> Record | None:
        prompt = chat.unique(PROMPT)  # not out of a cache: that asks no model
        return self.send(part, token, model, chat.completion(model, prompt, MAX_TOKENS, stream))

    def send(
        self, part: str, token: str | None, asked: str, request: wire.Request
    ) -> Record | None:
        """None when nothing more is to be sent."""
        if self.seen.stopped:
            return None
        request = api.under(token, request)
        probe = Probe(part, asked, roles_of(token), request, self.number_of(token))
        kind = ", streamed" if chat.wants_stream(request) else ""
        self.run.verbose(f"{asked}{kind}, with {in_words(probe.roles)}:")
        try:
            self.instrument.exchange([request])
        finally:
            for reply in self.instrument.replies:
                chat.show(self.run, reply)
                thinks = self.seen.thinks(asked)
                self.seen.records.append(make_record(probe, reply, thinks))
                self.seen.stopped = reason_to_stop(reply, part)
        return self.seen.records[-1]


def roles_of(token: str | None) -> list[str] | None:
    roles = api.roles_in(token or "")
    return None if roles is None else sorted(roles)


def in_words(roles: Sequence[str] | None) -> str:
    if roles is None:
        return "unknown roles"
    return shorten(", ".join(roles), SHOWN_NAME) or "no role"


def ask_for(asker: Asker, model: str) -> None:
    """Ask for a model in rounds; no further round once one has brought no answer at all."""
    try:
        token = asker.token_for(model)
    except CannotCheck as error:
        asker.seen.no_token[model] = str(error)
        return
    for _ in range(ROUNDS):
        got = [asker.complete(ROUTING, token, model, stream) for stream in (False, True)]
        if all(record is None or record.problem for record in got):
            return


def ask_control(asker: Asker) -> None:
    """Ask for what may well be answered, until something is, if nothing was until now."""
    seen, tried = asker.seen, {record.asked for record in asker.seen.records}
    for model in dict.fromkeys([*seen.asked, *CLASSES, *seen.for_chat[:1]]):
        if seen.served():
            return
        with contextlib.suppress(CannotCheck):
            if model not in tried:
                asker.complete(CONTROL, asker.token_for(model), model, stream=False)


def ask_for_unknown(asker: Asker, model: str) -> None:
    ask_control(asker)
    try:
        token = asker.token_for(model)
    except CannotCheck as error:
        asker.seen.no_token[model] = str(error)
        return
    for stream in (False, True):
        record = asker.complete(UNKNOWN, token, model, stream)
        if record is None or record.error == "timeout":
            return  # one is enough


def ask_as(asker: Asker, role: str) -> None:
    """What a role is tried with: both classes, models by their names, the admin API."""
    reason = reason_against(asker, role)
    if reason is not None:
        asker.seen.no_token[role] = reason
        return
    token = asker.token(role if role != NO_ROLE and asker.run.credentials.has_binary else None)
    names = asker.seen.to_name()[: BY_NAME if role == SPECIFIC else 1]
    for model in (*CLASSES, *names):
        asker.complete(role, token, model, stream=False)
    for path in ADMIN_PATHS:
        asker.send(role, token, path, wire.Request("GET", path))


def reason_against(asker: Asker, role: str) -> str | None:
    """Why the checks of a role cannot be done with the credentials at hand, None if they can."""
    args, has_binary = asker.run.args, asker.run.credentials.has_binary
    try:
        token = asker.token(role if role != NO_ROLE and has_binary else None)
    except CannotCheck as error:
        return str(error)
    roles = api.roles_in(token or "")
    if roles is None:  # the binary's word is taken for it
        if not (has_binary and (role != NO_ROLE or (args.token_binary and args.token is None))):
            return "the token says nothing of its roles: use --token-binary"
        return "the token binary's tokens are alike, whatever the role" if alike(asker) else None
    if role == NO_ROLE:
        more = roles & {SPECIFIC, ADMIN}
        return f"the token has the role {', '.join(sorted(more))}" if more else None
    if role in roles:
        return None
    whose = f"the token binary's token for {role}" if has_binary else "the token"
    hint = "" if has_binary else ": --token-binary makes one that has it"
    return f"{whose} has {in_words(roles_of(token))}, not {role}{hint}"


def alike(asker: Asker) -> bool:
    """Whether the token binary's tokens for two roles are the same, but for their times."""
    marks = []
    for role in (None, SPECIFIC, ADMIN):
        with contextlib.suppress(CannotCheck):
            token = asker.token(role) or ""
            told = {k: v for k, v in (api.claims(token) or {}).items() if k not in TIMES}
            marks.append(told or token)
    return any(mark in marks[:at] for at, mark in enumerate(marks))


def ask_all(asker: Asker) -> None:
    """Everything that is to be asked, and the list of models again: runners may have woken."""
    run, seen = asker.run, asker.seen
    tasks: list[tuple[Callable[[Asker, str], None], str]] = []
    if any(map(run.wants, OF_ROUTING)):
        tasks += [(ask_for, model) for model in seen.asked]
    if run.wants("unknown_model"):
        tasks.append((ask_for_unknown, UNKNOWN_MODEL))
    if run.wants("unknown_class"):
        tasks.append((ask_for_unknown, UNKNOWN_CLASS))
    label = f"asking for {', '.join(what for _, what in tasks) or 'the list of models'}"
    with run.progress(shorten(label, 80), len(tasks) + 1) as step:
        for task, what in tasks:
            task(asker, what)
            step()
            expect_credential(asker)
        asker.list_models()
        step()
    roles = [r for r in ROLE_CHECKS if run.args.test_permissions and wants_role(run, r)]
    if roles:
        with run.progress("asking as each role", len(roles)) as step:
            for role in roles:
                ask_as(asker, role)
                step()


def wants_role(run: Run, role: str) -> bool:
    return run.wants(ROLE_CHECKS[role]) or (role == ADMIN and run.wants("full_access"))


def expect_credential(asker: Asker) -> None:
    """CannotCheck when all that was said until now is that the credential is no good."""
    statuses = {record.status for record in asker.seen.records}
    if statuses == {401}:
        raise CannotCheck(chat.refused_credential(asker.run))


# --- judge


@dataclass(frozen=True)
class Finding:
    """What a part of a check came to."""

    status: Status
    text: str


WORST_FIRST = (Status.FAIL, Status.SKIP, Status.WARN, Status.PASS)


def merge(name: str, findings: Sequence[Finding], **about: Any) -> Check:
    """The check that its parts make: the worst of them, and of those that matter all words. An
    essential check is not decided while a part of it is not."""
    decided = [each for each in findings if each.status is not Status.SKIP]
    counted = findings if about.get("essential") or not decided else decided
    status = min((each.status for each in counted), key=WORST_FIRST.index)
    bad = [each for each in findings if each.status in (Status.FAIL, Status.WARN)]
    telling = bad if bad and status is not Status.SKIP else findings
    return Check(name, status, "; ".join(each.text for each in telling), **about)


def brief(names: Iterable[str]) -> str:
    """Names as one can read them in a line."""
    every = list(names)
    shown = [shorten(name, SHOWN_NAME) for name in every[:SHOWN_NAMES]]
    more = [f"{len(every) - SHOWN_NAMES} more"] if len(every) > SHOWN_NAMES else []
    return ", ".join([*shown, *more]) or "none"


def count(models: Sequence[str]) -> str:
    return "1 model" if len(models) == 1 else f"{len(models)} models"


def hint(record: Record) -> str:
    """What to do about a problem, as far as the record tells."""
    if record.error == "timeout":
        return "; a runner that has to wake may take longer: try --timeout 180"
    if not record.denied:
        return ""
    if not api.is_concrete(record.asked):
        return f"; any user may ask for a class, the token has {in_words(record.roles)}"
    if has_role(record):
        return f"; though the token has the role {SPECIFIC}"
    return f"; it takes the role {SPECIFIC}, the token has {in_words(record.roles)}"


def has_role(record: Record) -> bool:
    return SPECIFIC in (record.roles or ())


def wrong_for_class(record: Record, seen: Seen) -> str | None:
    """What is wrong with an answer to a class, None if nothing is."""
    if record.problem:
        return record.problem + hint(record)
    if record.model is None:
        return "the answer names no model"
    expected = seen.aliases.get(record.asked)
    if expected:
        named = f"answered by {brief([record.model])}, not by {brief(expected)} as --alias says"
        return None if record.model in expected else named
    if not api.is_concrete(record.model):
        return f"the answer names {brief([record.model])}: a class, not the model that it chose"
    if seen.listed and seen.listed_as(record.model) is None:
        answered = brief([record.model])
        text = f"answered by {answered}, not listed among {brief(seen.listed)}"
        return f"{text}; should it be: --alias {brief([record.asked])}={answered}"
    return None


def wrong_for_name(record: Record, seen: Seen) -> str | None:
    """What is wrong with an answer to a model's name, None if nothing is."""
    if record.problem:
        unlisted = seen.lists and record.asked not in seen.listed
        if unlisted and not record.denied and record.status not in (None, 401):
            return f"{record.problem}; listed are {brief(seen.listed)}"
        return record.problem + hint(record)
    if record.model is None:
        return "the answer names no model"
    known = (record.asked, *seen.aliases.get(record.asked, ()))
    other = next((name for name in record.models if name not in known), None)
    if other is None:
        return None
    begun = f"{brief([record.model])}, then by " if other != record.model else ""
    asked, answered = brief([record.asked]), brief([other])
    return f"answered by {begun}{answered}; should that be the same: --alias {asked}={answered}"


Wrong = Callable[[Record, Seen], "str | None"]


def routed(model: str, seen: Seen, wrong: Wrong) -> Finding:
    """What became of all requests for a model."""
    name = brief([model])
    if model in seen.no_token:
        return Finding(Status.SKIP, f"{name}: {seen.no_token[model]}")
    records = seen.find(ROUTING, model)
    undecided = [r for r in records if r.busy or (r.status == 401 and seen.is_expired(r))]
    decided = [(r, wrong(r, seen)) for r in records if r not in undecided]
    good = [record for record, problem in decided if problem is None]
    problems = Counter(problem for _, problem in decided if problem)
    by = brief(dict.fromkeys(record.model or "" for record in good))
    told = f"{name}: {len(good)} of {len(records)} answered" + (f" by {by}" if good else "")
    if problems:
        words = (f"{n} times {text}" if n > 1 else text for text, n in problems.items())
        return Finding(
            Status.FAIL, f"{name}: {len(good)} of {len(records)} good: {', '.join(words)}"
        )
    thoughts = sum(record.hidden for record in good)
    if len(good) == len(records) == 2 * ROUNDS and thoughts:
        text = f"{told}, {thoughts} times without a word: {MAX_TOKENS} tokens of reasoning?"
        return Finding(Status.WARN, text)
    if len(good) == len(records) == 2 * ROUNDS:
        return Finding(Status.PASS, told)
    left = f"{told}, not decided" if records else f"{name} not asked"
    return Finding(Status.SKIP, f"{left}: {reason_left(records, seen)}")


def reason_left(records: Sequence[Record], seen: Seen) -> str:
    """Why there is no verdict on what was asked, or was not."""
    roles = next((in_words(r.roles) for r in records if r.status == 401 and r.roles), None)
    whose = f"the token with {roles}" if roles else "the token"
    refused = f"{whose} is refused (401)" if any(r.status == 401 for r in records) else None
    busy = next((record.busy for record in records if record.busy), None)
    return busy or refused or seen.stopped or "not asked"


def check_class(seen: Seen) -> Check:
    findings = [routed(model, seen, wrong_for_class) for model in seen.classes]
    return merge("class", findings, evidence=answered_by(seen, seen.classes), essential=True)


def check_model(seen: Seen) -> Check:
    """Silently another model is the worst that routing can do."""
    findings = [routed(model, seen, wrong_for_name) for model in seen.names]
    return merge("model", findings, evidence=answered_by(seen, seen.names), essential=True)


def answered_by(seen: Seen, models: Iterable[str]) -> dict[str, Any]:
    """For each model that was asked for, how often which one answered."""
    return {model: dict(answers(seen, model)) for model in models}


def answers(seen: Seen, model: str) -> Counter[str]:
    found = (r for r in seen.find(ROUTING, model) if r.problem is None)
    return Counter(r.model or "(no name)" for r in found)


def check_classes_differ(seen: Seen) -> Check:
    """A class that is answered by what answers another one decides nothing."""
    name, got = "classes_differ", {model: set(answers(seen, model)) for model in seen.classes}
    got = {model: models for model, models in got.items() if models}
    evidence = {model: sorted(models) for model, models in got.items()}
    if len(got) < 2:
        return Check(name, Status.SKIP, "there are no answers to two classes", evidence)
    pairs = [(a, b) for a in got for b in got if a < b and not meant_alike(seen, a, b)]
    same = [(a, b) for a, b in pairs if got[a] == got[b]]
    shared = [(a, b) for a, b in pairs if got[a] & got[b]]
    if shared and len(seen.for_chat) < 2:
        detail = f"/v1/models lists {count(seen.for_chat)} to chat with: they cannot differ"
        return Check(name, Status.SKIP, detail, evidence)
    told = [f"{a} and {b} are both answered by {brief(sorted(got[a] & got[b]))}" for a, b in shared]
    if same:
        detail = f"{'; '.join(told)}, though {count(seen.for_chat)} are listed"
        return Check(name, Status.FAIL, detail, evidence)
    if shared:
        return Check(name, Status.WARN, f"{'; '.join(told)}, and by others", evidence)
    each = (f"{model} by {brief(sorted(models))}" for model, models in got.items())
    return Check(name, Status.PASS, ", ".join(each), evidence)


def meant_alike(seen: Seen, one: str, other: str) -> bool:
    """Whether --alias says that one model answers both classes."""
    return bool(set(seen.aliases.get(one, ())) & set(seen.aliases.get(other, ())))


def check_listing(seen: Seen) -> Check:
    """A list that cannot be read is no empty one; an empty one cannot be true after an answer."""
    name, last = "listing", seen.lists[-1] if seen.lists else []
    evidence = {"models": seen.listed}
    if seen.unreadable is not None:
        return Check(name, Status.FAIL, seen.unreadable, evidence)
    if not seen.lists:
        return Check(name, Status.SKIP, f"not read: {seen.stopped or 'the deployment is busy'}")
    served = [r for r in seen.find(ROUTING) if r.problem is None]
    if served and not last:
        by = brief([served[-1].model or "a model"])
        detail = f"/v1/models lists nothing, though {by} has just answered"
        return Check(name, Status.FAIL, detail, evidence)
    if not last:
        return Check(name, Status.SKIP, "/v1/models lists nothing, and nothing has answered")
    unlisted = [model for model in seen.names if is_unlisted(model, seen)]
    if unlisted:
        detail = f"{brief(unlisted)} can be asked for, but is not listed among {brief(last)}"
        return Check(name, Status.WARN, detail, evidence)
    before = f" ({len(seen.lists[0])} at first)" if len(seen.lists[0]) != len(last) else ""
    return Check(name, Status.PASS, f"{count(last)}{before}: {brief(last)}", evidence)


def is_unlisted(model: str, seen: Seen) -> bool:
    """Whether it answers although it is not listed."""
    good = (r for r in seen.find(ROUTING, model) if wrong_for_name(r, seen) is None)
    return any(good) and model not in seen.listed


def check_stream(seen: Seen) -> Check:
    """Whoever asks for a stream gets one, and one model answers it from the first chunk on."""
    asked = [r for r in seen.find(ROUTING) if r.streamed and r.problem is None]
    if not asked:
        return Check("stream", Status.SKIP, "no stream was answered")
    whole = [record for record in asked if not record.is_stream]
    mixed = [record for record in asked if len(record.models) > 1]
    evidence = {"streams": len(asked), "whole": len(whole), "mixed": len(mixed)}
    if whole:
        detail = f"{len(whole)} of {len(asked)} answers to stream: true came in one piece, as JSON"
        return Check("stream", Status.WARN, detail, evidence)
    if mixed:
        detail = f"{len(mixed)} of {len(asked)} streams name several models, as "
        return Check("stream", Status.WARN, detail + brief(mixed[0].models), evidence)
    return Check("stream", Status.PASS, f"{len(asked)} streams, each of one model", evidence)


def check_unknown_model(seen: Seen) -> Check:
    return check_unknown("unknown_model", UNKNOWN_MODEL, seen)


def check_unknown_class(seen: Seen) -> Check:
    return check_unknown("unknown_class", UNKNOWN_CLASS, seen)


def check_unknown(name: str, asked: str, seen: Seen) -> Check:
    """What does not exist is refused, with whatever error."""
    records = seen.find(UNKNOWN, asked)
    if asked in seen.no_token:
        return Check(name, Status.SKIP, f"not decided: {seen.no_token[asked]}")
    if not records or any(record.busy or is_unsaid(record, seen) for record in records):
        return Check(name, Status.SKIP, f"not decided: {reason_left(records, seen)}")
    said = dict.fromkeys(r.problem or f"answered by {brief(r.models)}" for r in records)
    detail, evidence = f"{asked}: {' and '.join(said)}", {"statuses": [r.status for r in records]}
    wrong = [record for record in records if not is_refusal(record)]
    if not wrong:
        return refused(name, records, detail, seen)
    if all(record.error == "timeout" for record in wrong):
        detail += "; is a runner woken for it? a longer --timeout would show whether it is refused"
        return Check(name, Status.WARN, detail, evidence)
    if not all(record.problem is None for record in wrong):
        return Check(name, Status.FAIL, f"{detail}: that is no refusal", evidence)
    if not seen.classes and len(seen.listed) == 1:  # one server with one model, and no fleet
        detail += "; the only model that is listed answers to any name"
        return Check(name, Status.WARN, detail, evidence)
    kind = "model" if api.is_concrete(asked) else "class"
    return Check(name, Status.FAIL, f"{detail}, though there is no such {kind}", evidence)


def refused(name: str, records: Sequence[Record], detail: str, seen: Seen) -> Check:
    """The verdict on refusals only: they mean something where others are answered."""
    evidence = {"statuses": [record.status for record in records]}
    if not seen.served():
        detail += ": so is everything else, which decides nothing"
        return Check(name, Status.SKIP, detail, evidence, essential=True)
    if api.is_concrete(records[0].asked) and all(map(is_only_permission, records)):
        detail += f": the role {SPECIFIC} would show whether it is known"
        return Check(name, Status.SKIP, detail, evidence)
    return Check(name, Status.PASS, detail, evidence)


def is_unsaid(record: Record, seen: Seen) -> bool:
    """Whether only the token was refused; some servers refuse what is unknown to them so, too."""
    good = seen.was_accepted(record.credential) and not seen.is_expired(record)
    return record.status == 401 and not good


def is_refusal(record: Record) -> bool:
    return record.error is None and (record.status or 0) >= 400


def is_only_permission(record: Record) -> bool:
    """Whether the model was not even looked for."""
    return record.denied and not has_role(record)


# the roles


def may_classes(seen: Seen, role: str) -> list[Finding]:
    """Any user may ask for a class; whether it has a model is no question of permission."""
    findings = []
    for record in seen.find(role, *CLASSES):
        if record.problem is None:
            findings.append(Finding(Status.PASS, f"{record.asked} yes"))
        elif record.denied or record.error or record.status == 401:
            findings.append(Finding(Status.FAIL, f"{record.asked} is refused: {record.problem}"))
        else:
            reason = record.busy or record.problem
            findings.append(Finding(Status.SKIP, f"{record.asked} not decided: {reason}"))
    return findings


def by_name(seen: Seen, role: str) -> list[Record]:
    return [r for r in seen.find(role) if api.is_concrete(r.asked) and not is_path(r.asked)]


def may_not_name(seen: Seen) -> Finding:
    """Without a role no model by its name: 400 "permission" or 403."""
    record = next(iter(by_name(seen, NO_ROLE)), None)
    if record is None:
        return Finding(Status.SKIP, "no model is listed to ask for by name")
    asked, said = brief([record.asked]), record.problem or "answered"
    if record.busy:
        return Finding(Status.SKIP, f"{asked} not decided: {record.busy}")
    if record.problem is None or record.error:
        return Finding(Status.FAIL, f"{asked} is not refused: {said}")
    if record.denied:
        return Finding(Status.PASS, f"{asked} refused with {record.status}")
    status = Status.WARN if seen.served() else Status.SKIP  # where all fails, it means nothing
    return Finding(status, f"{asked} fails, but not for want of permission: {said}")


def may_name(seen: Seen) -> list[Finding]:
    """With model:specific any listed model, and that one."""
    findings = []
    for record in by_name(seen, SPECIFIC):
        asked, wrong = brief([record.asked]), wrong_for_name(record, seen)
        if wrong is None:
            findings.append(Finding(Status.PASS, f"{asked} yes"))
        elif record.busy:
            findings.append(Finding(Status.SKIP, f"{asked} not decided: {record.busy}"))
        elif record.denied or record.error or record.problem is None or record.status == 401:
            findings.append(Finding(Status.FAIL, f"{asked}: {wrong}"))
        else:
            text = f"{asked} is listed, but cannot be asked for: {wrong}"
            findings.append(Finding(Status.WARN if seen.served() else Status.SKIP, text))
    return [*findings, tried_of_listed(seen)]


def tried_of_listed(seen: Seen) -> Finding:
    """How many that was; by itself it decides nothing."""
    tried, listed = {r.asked for r in by_name(seen, SPECIFIC)}, set(seen.for_chat)
    if not tried:
        return Finding(Status.SKIP, "no model is listed to ask for by name")
    text = f"{len(tried & listed)} of {len(listed)} listed models asked for by name"
    return Finding(Status.SKIP, text)


def may_administer(seen: Seen, role: str) -> list[Finding]:
    """The admin API: for admin, and for nobody else."""
    findings = []
    for record in seen.find(role, *ADMIN_PATHS):
        if role == SPECIFIC and ADMIN in (record.roles or ()):
            continue  # it may, as the other
        path, refused = record.asked.partition("?")[0], record.denied or record.status == 401
        if record.problem is None:
            granted = Status.PASS if role == ADMIN else Status.FAIL
            findings.append(Finding(granted, f"{path} {'yes' if role == ADMIN else 'is open'}"))
        elif refused:
            closed = Status.FAIL if role == ADMIN else Status.PASS
            findings.append(Finding(closed, f"{path} refused with {record.status}"))
        elif record.error:
            findings.append(Finding(Status.FAIL, f"{path}: {record.problem}"))
        else:
            findings.append(Finding(Status.SKIP, f"{path} not decided: {record.problem}"))
    return findings


def undecided_role(seen: Seen, role: str) -> Check | None:
    """The verdict when nothing can be said about a role."""
    name, records = ROLE_CHECKS[role], seen.find(role)
    if role in seen.no_token:
        return Check(name, Status.SKIP, seen.no_token[role])
    if not records:
        return Check(name, Status.SKIP, f"not asked: {seen.stopped}")
    said = f"the token {'without roles' if role == NO_ROLE else f'for {role}'} is refused (401)"
    if all(record.status == 401 for record in records if not is_path(record.asked)):
        if any(seen.is_expired(record) for record in records):
            return Check(name, Status.SKIP, said, essential=True)
        return Check(name, Status.FAIL, f"{said}, though another one is not")
    return None


def check_role_none(seen: Seen) -> Check:
    findings = [*may_classes(seen, NO_ROLE), may_not_name(seen), *may_administer(seen, NO_ROLE)]
    return undecided_role(seen, NO_ROLE) or merge("role_none", findings)


def check_role_specific(seen: Seen) -> Check:
    findings = [*may_classes(seen, SPECIFIC), *may_name(seen), *may_administer(seen, SPECIFIC)]
    return undecided_role(seen, SPECIFIC) or merge("role_specific", findings)


def check_role_admin(seen: Seen) -> Check:
    undecided = undecided_role(seen, ADMIN)
    findings = [*may_classes(seen, ADMIN), *may_administer(seen, ADMIN)]
    return undecided or merge("role_admin", findings)


def check_full_access(seen: Seen) -> Check:
    """The guide grants admin "full access"; the fleet's gateway grants models to the other role."""
    name, record = "full_access", next(iter(by_name(seen, ADMIN)), None)
    undecided = undecided_role(seen, ADMIN)
    if undecided or record is None:
        detail = undecided.detail if undecided else "no model is listed to ask for by name"
        return Check(name, Status.SKIP, detail)
    asked = brief([record.asked])
    if has_role(record):
        return Check(name, Status.SKIP, f"the token has the role {SPECIFIC} as well")
    if record.problem is None:
        return Check(name, Status.PASS, f"admin may ask for {asked}")
    if record.denied:
        detail = f"admin may not ask for {asked} ({record.status}), though the guide says "
        return Check(name, Status.WARN, detail + '"admin role: Full access"')
    return Check(name, Status.SKIP, f"{asked} not decided: {record.busy or record.problem}")


def judges(seen: Seen, permissions: bool) -> list[Callable[[Seen], Check]]:
    """Those checks that what was asked for can decide."""
    chosen: list[Callable[[Seen], Check]] = []
    chosen += [check_class] if seen.classes else []
    chosen += [check_classes_differ] if len(seen.classes) > 1 else []
    chosen += [check_model] if seen.names else []
    chosen += [check_listing, check_stream, check_unknown_model, check_unknown_class]
    if permissions:
        chosen += [check_role_none, check_role_specific, check_role_admin, check_full_access]
    return chosen


# --- report


def figures(records: Sequence[Record]) -> dict[str, Any]:
    """How a group of requests went; the first answer's time apart, as a runner may have woken."""
    times = [r.answer_ms for r in records if r.problem is None and r.answer_ms is not None]
    return {
        "requests": len(records),
        "answered": sum(record.problem is None for record in records),
        "answered_by": dict(Counter(r.model for r in records if r.problem is None and r.model)),
        "first_ms": times[0] if times else None,
        "p50_ms": round(statistics.median(times), 4) if times else None,
    }


def metrics(seen: Seen) -> dict[str, Any]:
    return {
        "listed": seen.listed,
        "models": {model: figures(seen.find(ROUTING, model)) for model in seen.asked},
    }


def lines(seen: Seen, url: str) -> list[str]:
    """A line for each thing that was asked for, by whom."""
    rows = [shorten(f"Model routing at {url}", 80)]
    rows.append(f"  {'asked for':25}answered     first      p50  by")
    for part in (ROUTING, CONTROL, UNKNOWN, *ROLE_CHECKS):
        records = seen.find(part)
        if records and part in ROLE_CHECKS:
            rows.append(heading(part, records[0].roles))
        for asked in dict.fromkeys(record.asked for record in records):
            rows.append(line(asked, [r for r in records if r.asked == asked]))
    return rows


def heading(role: str, roles: Sequence[str] | None) -> str:
    """In whose name the requests below were sent, and what else the token says."""
    name = "no role" if role == NO_ROLE else role
    known = in_words(roles)
    return f"With {name}" if known == name else f"With {name} (the token has {known})"


def line(asked: str, records: Sequence[Record]) -> str:
    found = figures(records)
    name = shorten(asked.partition("?")[0], 26)
    start = f"  {name:27}{found['answered']:>5}/{found['requests']}  "
    if not found["answered"]:
        return start + shorten(records[0].problem or "-", 80 - len(start))
    first, p50 = (
        "-" if each is None else f"{each:.0f} ms" if each < 1e4 else f"{each / 1e3:.1f} s"
        for each in (found["first_ms"], found["p50_ms"])
    )
    start += f"{first:>8}{p50:>9}  "
    problems = dict.fromkeys(r.problem for r in records if r.problem)
    by = ", ".join([*found["answered_by"], *filter(None, problems)])
    return start + shorten(by or "-", 80 - len(start))


# --- run


def measure(run: Run) -> None:
    args, document = run.args, run.document("model_routing")
    seen = Seen(models_to_ask(args))
    for asked, answered in args.alias:
        seen.aliases.setdefault(asked, []).append(answered)
    run.target["model"] = ", ".join(seen.asked)
    with wire.Wire(
        wire.Target(run.url, None, verify=not args.no_verify_ssl), args.timeout
    ) as wired:
        run.client["clock"] = wired.clock
        asker = Asker(run, wired, seen)
        try:
            asker.list_models(api.meet(run, wired, asker.token()))
            ask_all(asker)
        finally:
            document.requests = [vars(record) for record in seen.records]
            document.metrics = metrics(seen)
    chosen = judges(seen, args.test_permissions)
    document.add(*(judge(seen) for judge in chosen))
    run.show(lines(seen, run.url), document)
    if not document.checks:
        run.note("nothing to check: --only and --skip leave none of the checks (see --help)")


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
