#!/usr/bin/env python3
"""Does the deployment let in who may come in, give each role what it may have, and nobody else?

Asks with a valid credential, then with none, with broken headers and with what can be forged from
the valid one without a key (signature, payload, `alg`, `kid`), then with a token of each role. The
valid one is asked with again in between: a refusal only tells something while that is served.

PASS: the valid credential is served, every other one is refused with a clear status, and each role
may do what the guide says of it.
Cost: about 100 small requests for one token, 115 for all roles, 50 for an API key; up to 20 reach a
model, for an answer of at most 4 tokens, and count for a rate limit, as does each that is let in
wrongly. Two more go to the token's issuer for its public keys, without a credential, where the
deployment publishes none. It wakes a sleeping machine.

Examples:
    # what the token's own role may do, and what can be forged from it
    python3 test_auth.py --token YOUR_JWT_TOKEN
    # all roles; the command prints a token for --role ROLE
    python3 test_auth.py --token-binary ./get-token
    # the same for a model of your choice, when a machine may have to wake first
    python3 test_auth.py --token-binary ./get-token --model llama3:8b --timeout 180
    # a server with an API key instead of JWTs: what applies to it
    python3 test_auth.py --url http://host:8000 --api-key sk-key
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Run, Status
from livecheck.core.credentials import forms_of
from livecheck.core.text import shorten
from livecheck.fleet import forged_tokens
from livecheck.fleet import old_api as api
from livecheck.fleet.jwt import Jwt, read_jwt
from livecheck.fleet.old_api import ADMIN, CLASSES, SPECIFIC, Unreadable
from livecheck.fleet.public_keys import read_jwks
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import is_ok, is_rate_limit, ms, number, outcome, read_stream, words

CONTROL = "control"
FORGED = ("signature", "payload", "alg_none", "hmac", "header")  # from a JWT
REFUSED = ("no_credentials", "malformed", "scheme", *FORGED, "api_key")  # what must be
TASTES = ("bearer_case", "bare_token", "query_token")  # what one server takes and another does not
GOOD_TASTE = ("bearer_case",)  # what it should take
ROLES = ("user", "specific", "admin")
CHECKS = (CONTROL, *REFUSED, *TASTES, *ROLES, "echo", "cost")

OPEN_DOOR = "a completion"  # if that is had without a credential, anything is
PROMPT = "Say yes."
MAX_TOKENS = 4
AT_ONCE = 4
CONTROLS = 3
MOST_MODELS = 4  # asked for with the role for it: each may have to be loaded
MOST_KEYS = 2  # of a JWKS, when none has the token's kid
MOST_NAMED = 4  # variants in a line
ISSUER_TIMEOUT_S = 5.0  # another server, and not the one to be checked
WATCH_S = 2.0  # how long a sleeping fleet is watched after bad requests
LOG_PAGES = 4
WAIT_S = 2.0  # before the valid credential is asked with once more
MOST_WAIT_S = 10.0  # if the server says for how long
LEAST_ECHO = 8  # characters of the credential that are no coincidence
LEAST_NEAR = 16  # of one that is nearly the credential: half of it may be a word
ECHO_PIECE = 24  # of a longer one, from anywhere in it
ECHO_BYTES = 1 << 20  # of an answer, in which it is looked for

SCHEMES = ("Basic", "Token", "JWT")
DENIALS = frozenset({401, 403})
INVALID = frozenset({400, 401, 403})  # RFC 6750, section 3.1
MALFORMED = frozenset({400, 401, 403, 413, 431})
ABSENT = frozenset({400, 401, 403, 404, 405, 501})  # of an endpoint that need not be there
REDIRECTS = frozenset({301, 302, 303, 307, 308})  # from an admin page to its login
UNREACHED = ("connect", "tls")  # nothing was sent
JWKS = "/.well-known/jwks.json"
DISCOVERY = "/.well-known/openid-configuration"
ADMIN_PATHS = (api.RUNNERS, api.LOG.format(page=1, per_page=1))
OTHER_POSTS: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "yes", "max_tokens": 1},
    "/v1/embeddings": {"input": "yes"},
}
SCHEME_RULE = "RFC 9110, section 11.4"
CASE_RULE = "RFC 9110, section 11.1"
QUERY_RULE = "RFC 6750, section 2.3"
FULL_ACCESS = 'the guide says of the admin role: "Full access"'
NO_MODEL_WORDS = re.compile(r"no (runners?|models?)\b", re.IGNORECASE)
UNKNOWN_MODEL = re.compile(
    r"(invalid|unknown|no such) model|model\b.{0,60} (not (found|exist)|unknown)", re.IGNORECASE
)
REFUSAL_WORDS = re.compile(r"\b40[13]\b|unauthori[sz]ed|forbidden|denied", re.IGNORECASE)


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, timeout_s=30)
    add = parser.add_argument_group("what to check").add_argument
    text = "model that takes a role (default: the first listed)"
    add("--model", type=one_model, metavar="NAME", help=text)
    return parser


def one_model(text: str) -> str:
    """An argparse type: the name of a model, which takes a role, and not of a class."""
    if not api.is_concrete(text):
        raise argparse.ArgumentTypeError(f"{text!r} takes no role: name a model, not a class")
    return text


# --- measure: what is sent, and what is kept of the answer


@dataclass(frozen=True)
class Probe:
    """One request and how it may be refused. `may_close`: also by closing the connection, as HTTP
    servers do with bytes that no header may have."""

    group: str
    name: str
    request: wire.Request
    basis: str = ""
    allowed: frozenset[int] = DENIALS
    may_close: bool = False


@dataclass(frozen=True)
class Record:
    """What became of a probe; nothing in it is a credential."""

    group: str
    name: str
    basis: str
    path: str
    status: int | None
    error: str | None
    closed: bool  # no answer, but the connection's end: nothing let in, nothing told
    said: str  # the outcome in words
    answer_ms: float | None
    completes: bool  # 200 and a chat completion
    is_html: bool
    denied: bool  # permission refused, 400 or 403
    rate_limited: bool
    retry_after_s: float | None
    echoed: bool  # the answer repeats the credential
    sent_secret: bool
    allowed: list[int]
    may_close: bool

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300 and not self.is_page

    @property
    def is_page(self) -> bool:
        """The web page that some servers give for any path, for an endpoint that is not there."""
        return 404 in self.allowed and self.status == 200 and self.is_html

    @property
    def lacks_runner(self) -> bool:
        """There is none for what was asked for."""
        return self.status in (404, 500, 503) and NO_MODEL_WORDS.search(self.said) is not None

    @property
    def busy(self) -> bool:
        """As a proxy in front says it, when there are too many requests for it."""
        return self.status == 503 and not self.lacks_runner

    @property
    def says_nothing(self) -> bool:
        """Neither that it was let in nor that it was refused."""
        return self.rate_limited or self.busy or self.error in UNREACHED

    @property
    def refused(self) -> bool:
        """In one of the ways in which it may be."""
        answered = self.error is None and self.status in self.allowed
        return answered or self.is_page or (self.closed and self.may_close)


@dataclass(frozen=True)
class Identity:
    """A token that has a role, or the reason why there is none."""

    token: str | None = field(default=None, repr=False)
    reason: str | None = None
    essential: bool = False  # that there is none leaves open what the script exists for
    roles: frozenset[str] = frozenset()


@dataclass
class Seen:
    """All that was asked and answered; `stopped` says why the rest was not asked."""

    is_jwt: bool
    identities: dict[str, Identity]
    model: str = CLASSES[0]  # what is asked for with and without a valid credential
    records: list[Record] = field(default_factory=list)
    stopped: str | None = None
    limited: bool = False  # that was a limit on the number of requests
    unreachable: bool = False  # that was a connection that could not be opened
    expired: bool = False  # the token, during the run
    classless: str | None = None  # what was said to a class, where there are none
    models: list[str] = field(default_factory=list)
    models_problem: str | None = None
    public_keys: int = 0
    was_asleep: bool = False
    woken: list[str] = field(default_factory=list)  # while only bad requests had been sent
    unread: str | None = None  # why the request log could not be read
    charged: list[str] = field(default_factory=list)  # refusals in the log that reached a runner
    unserved: int = 0  # entries with a runner that no answer accounts for

    @property
    def who(self) -> str:
        """Who has the valid credential, in a line."""
        if not self.is_jwt:
            return "the API key"
        return "the basic user" if self.identities["user"].token else "a valid token"

    def of(self, group: str) -> list[Record]:
        return [record for record in self.records if record.group == group]

    def find(self, group: str, name: str) -> Record | None:
        """The latest of that name."""
        return next((each for each in reversed(self.of(group)) if each.name == name), None)

    def completed(self, group: str, name: str) -> bool:
        record = self.find(group, name)
        return record is not None and record.completes

    def stop_if(self, reply: wire.Reply) -> None:
        """Ask nothing more when there is reason to after this answer."""
        if self.stopped is None:
            self.stopped = reason_to_stop(reply)
            self.limited = self.stopped is not None and reply.status == 429
            self.unreachable = reply.failure is not None and reply.failure.kind in UNREACHED

    def served(self) -> bool:
        """Whether the valid credential was, at the last time of asking."""
        controls = self.of(CONTROL)
        return bool(controls) and controls[-1].completes

    def vouched(self, group: str) -> bool:
        """Whether the valid credential was served after this group, too."""
        last = max(n for n, record in enumerate(self.records) if record.group == group)
        after = next((r for r in self.records[last:] if r.group == CONTROL), None)
        return after is not None and after.completes


def make_record(probe: Probe, reply: wire.Reply) -> Record:
    failure, end_ns, t0_ns = reply.failure, reply.end_ns, reply.t0_ns
    return Record(
        group=probe.group,
        name=probe.name,
        basis=probe.basis,
        path=probe.request.path.partition("?")[0],
        status=reply.status if failure is None else None,
        error=failure.kind if failure else None,
        closed=failure is not None and failure.kind == "truncated" and not reply.reads,
        said=outcome(reply, timed=False) if failure or reply.status != 200 else "200",
        answer_ms=ms(end_ns - t0_ns) if end_ns and t0_ns and not failure else None,
        completes=is_completion(reply),
        is_html=is_html(reply),
        denied=api.is_denied(reply),
        rate_limited=reply.status == 429,
        retry_after_s=number(reply.message.header("retry-after")),
        echoed=is_echo(reply, LEAST_NEAR if probe.group == "api_key" else LEAST_ECHO),
        sent_secret=bool(probe.request.secret),
        allowed=sorted(probe.allowed),
        may_close=probe.may_close,
    )


def is_completion(reply: wire.Reply) -> bool:
    """A chat completion, be it without content: so few tokens may all be thoughts. As a stream,
    too: some servers know nothing else."""
    if (reply.message.header("content-type") or "").startswith("text/event-stream"):
        stream = read_stream(reply)
        return is_ok(reply) and bool(stream.output_ns or stream.finish_reason)
    try:
        choices = api.content_of(reply, reply.request.path).get("choices")
    except Unreadable:
        return False
    return isinstance(choices, list) and bool(choices)


def is_html(reply: wire.Reply) -> bool:
    kind = (reply.message.header("content-type") or "").lower()
    return kind.startswith("text/html") or (
        not kind and reply.body[:100].lstrip().lower().startswith((b"<!doctype", b"<html"))
    )


def is_echo(reply: wire.Reply, least: int) -> bool:
    """Whether the answer, head or body, has the credential in it, or a piece that tells of it."""
    secret = reply.request.secret or ""
    if len(secret) < least:
        return False
    size = min(ECHO_PIECE, len(secret))
    pieces = {
        form[at : at + size].lower()
        for form in forms_of(secret)
        for at in range(len(form) - size + 1)
    }
    raw = b"".join(reply.reads)
    # as it came, for the head; without its chunks
    for data in (raw, reply.message.body(raw)):
        text = data[:ECHO_BYTES].decode("latin-1").lower()
        if any(text[at : at + size] in pieces for at in range(len(text) - size + 1)):
            return True
    return False


# the requests


def completion(model: str, token: str | None, stream: bool = False) -> wire.Request:
    return api.under(token, chat.completion(model, PROMPT, MAX_TOKENS, stream))


def with_header(request: wire.Request, value: str, secret: str | None = None) -> wire.Request:
    """The same request with this for its Authorization header."""
    headers = {**request.headers, "authorization": value}
    return dataclasses.replace(request, headers=headers, secret=secret)


def models_to_try(seen: Seen) -> list[str]:
    """What may be guarded each in its own way: the classes, and a model by its name."""
    classes = [] if seen.classless else CLASSES
    return list(dict.fromkeys([seen.model, *classes, *seen.models[:1]]))


def completion_of(model: str) -> str:
    """What asking for it without a credential is called."""
    return f"{OPEN_DOOR} of {model}"


def without_credentials(seen: Seen) -> list[Probe]:
    """All that makes a model work, and the admin API."""

    def probe(name: str, request: wire.Request, allowed: frozenset[int] = DENIALS) -> Probe:
        return Probe("no_credentials", name, request, forged_tokens.BEARER_RULE, allowed)

    models = models_to_try(seen)
    found = [
        probe(OPEN_DOOR, completion(seen.model, None)),
        probe("a streamed completion", completion(seen.model, None, stream=True)),
        *(probe(completion_of(name), completion(name, None)) for name in models[1:]),
    ]
    for path, fields in OTHER_POSTS.items():
        for name in dict.fromkeys([models[0], models[-1]]):
            body = json.dumps({"model": name, **fields}).encode()
            text = path if name == models[0] else f"{path} of {name}"
            found.append(probe(text, wire.Request("POST", path, body), ABSENT))
    for path in ADMIN_PATHS:
        request = wire.Request("GET", path)
        found.append(probe(path.partition("?")[0], request, ABSENT | REDIRECTS))
    return found


def malformed_probes(model: str) -> list[Probe]:
    request = completion(model, None)
    plain = [
        Probe("malformed", each.name, with_header(request, each.token), each.rule, INVALID)
        for each in forged_tokens.malformed_headers()
    ]
    odd = [
        Probe("malformed", each.name, with_header(request, each.token), each.rule, MALFORMED, True)
        for each in forged_tokens.odd_headers()
    ]
    return plain + odd


def scheme_probes(model: str, token: str) -> list[Probe]:
    """The valid credential under a name that is not its own."""
    request = completion(model, None)
    named = {name: with_header(request, f"{name} {token}", token) for name in SCHEMES}
    return [
        Probe("scheme", f"{name} ...", each, SCHEME_RULE, INVALID) for name, each in named.items()
    ]


def taste_probes(model: str, token: str) -> list[Probe]:
    """The valid credential in places and spellings where servers differ."""
    request = completion(model, None)
    quoted = urllib.parse.quote(token, safe="")

    def in_query(name: str) -> wire.Request:
        path = f"{request.path}?{name}={quoted}"
        return dataclasses.replace(request, path=path, secret=token)

    return [
        *(
            Probe("bearer_case", word, with_header(request, f"{word} {token}", token), CASE_RULE)
            for word in ("bearer", "BEARER")
        ),
        Probe("bare_token", "no scheme", with_header(request, token, token), SCHEME_RULE, INVALID),
        *(
            Probe("query_token", f"?{name}=", in_query(name), QUERY_RULE, INVALID)
            for name in ("access_token", "token")
        ),
    ]


def forged_probes(group: str, model: str, variants: Iterable[forged_tokens.Forged]) -> list[Probe]:
    return [
        Probe(group, each.name, completion(model, each.token), each.rule, INVALID)
        for each in variants
    ]


def forged_elsewhere(seen: Seen, jwt: Jwt) -> list[Probe]:
    """What is forged for the highest roles, where they count: who verifies a token for a
    completion may only read it elsewhere."""
    edited, unsigned = forged_tokens.with_highest_roles(jwt)
    opened = {record.name for record in seen.of("no_credentials") if record.accepted}
    found = []
    if api.RUNNERS not in opened:  # else it needs no forging
        for group, each in (("payload", edited), ("alg_none", unsigned)):
            request = api.under(each.token, wire.Request("GET", api.RUNNERS))
            name = f"{each.name} at {api.RUNNERS}"
            found.append(Probe(group, name, request, each.rule, ABSENT | REDIRECTS))
    for model in models_to_try(seen)[1:]:
        if completion_of(model) not in opened:
            name, request = f"{edited.name} for {model}", completion(model, edited.token)
            found.append(Probe("payload", name, request, edited.rule, INVALID))
    return found


# asking


@dataclass
class Talk:
    """One run's conversation with the deployment."""

    run: Run
    instrument: wire.Wire
    seen: Seen
    token: str = field(repr=False)

    def send(self, probes: Sequence[Probe], at_once: int = AT_ONCE) -> None:
        """Send what --only and --skip leave, and keep what came back, also on an interruption."""
        probes = [each for each in probes if is_wanted(self.run.args, each.group)]
        if self.seen.stopped or not probes:
            return

        def on_reply(reply: wire.Reply) -> bool:
            show(self.run, probes[reply.index], reply)
            self.seen.stop_if(reply)
            return self.seen.stopped is not None

        for probe in probes:
            self.run.secrets.add(probe.request.secret or "")
        try:
            self.instrument.exchange([probe.request for probe in probes], at_once, on_reply)
        finally:
            pairs = zip(probes, self.instrument.replies, strict=False)
            self.seen.records += [make_record(probe, reply) for probe, reply in pairs]

    def get(self, path: str) -> wire.Reply:
        """Without a credential."""
        (reply,) = self.instrument.exchange([wire.Request("GET", path)])
        chat.show(self.run, reply)
        return reply


def is_wanted(args: argparse.Namespace, group: str) -> bool:
    """By --only and --skip. Nothing can be said without the control; `echo` and `cost` are about
    all that is refused."""
    if group == CONTROL or common.is_wanted(args, group):
        return True
    about_all = not {"echo", "cost"}.isdisjoint(args.only or ())
    return about_all and group in REFUSED and group not in args.skip


def show(run: Run, probe: Probe, reply: wire.Reply) -> None:
    """A line for --verbose, the beginning of the answer for --debug."""
    run.verbose(f"{probe.group}, {shorten(probe.name)}: {outcome(reply)}")
    run.debug(f"  {reply.body[:300]!r}")


def reason_to_stop(reply: wire.Reply) -> str | None:
    """A limit is reached, or the server costs too much time or memory to go on."""
    if reply.status == 429:
        code = " rate_limit_exceeded" if is_rate_limit(reply) else f" {words(reply)}".rstrip()
        wait = shorten(reply.message.header("retry-after") or "none", 40)
        return f"the rate limit (429{code}, Retry-After {wait})"
    if reply.failure and reply.failure.kind in ("timeout", "flood", *UNREACHED):
        path = reply.request.path.partition("?")[0]
        return f"{reply.request.method} {path}: {reply.failure.text}"
    return None


# who asks


def find_identities(run: Run, own: str, admin: api.Admin) -> dict[str, Identity]:
    """For each role a token that has it: made for it, or the operator's if its payload says so."""
    if run.credentials.has_binary:
        found = Identity(admin.token, admin.reason, essential=True)
        as_admin = with_role(found, ADMIN, own) if admin.token else found
        # the other is made when it is needed: some tokens live for seconds
        return {"user": as_user(own, True), "specific": Identity(), "admin": as_admin}
    roles = api.roles_in(own)
    if roles is None:
        what = "an opaque API key" if api.claims(own) is None else "the token"
        unknown = Identity(reason=f"{what} says nothing about roles: use --token-binary")
        return dict.fromkeys(ROLES, unknown)
    lacking = Identity(reason="the token has not this role: --token-binary makes one that has")
    holder = Identity(own, roles=roles)
    return {
        "user": as_user(own),
        "specific": holder if SPECIFIC in roles else lacking,
        "admin": holder if ADMIN in roles else lacking,
    }


def as_user(own: str, made: bool = False) -> Identity:
    """`made`: by the token binary, which could make one without roles."""
    roles = api.roles_in(own) or frozenset()
    if not roles & {SPECIFIC, ADMIN}:
        return Identity(own, roles=roles)
    whose = "what --token-binary gives without a role" if made else "the token given"
    text = shorten(", ".join(sorted(roles)), 60)
    reason = f"{whose} is not a basic user's: its roles are {text}"
    return Identity(reason=reason, essential=made)


def made_now(run: Run, role: str, before: Identity, own: str) -> Identity:
    """A fresh token, where one can be made and was not refused `before`."""
    if not run.credentials.has_binary or before.reason:
        return before
    name = {"specific": SPECIFIC, "admin": ADMIN}.get(role)
    try:
        token = run.token(role=name)
    except CannotCheck as error:
        return Identity(reason=str(error), essential=True)
    if name is None:
        return as_user(token or "", True)
    return with_role(Identity(token, essential=True), name, own)


def with_role(identity: Identity, role: str, own: str) -> Identity:
    """The same, unless the token's own payload says that the role was not given, or it is the one
    that is given without a role."""
    roles = api.roles_in(identity.token or "")
    if roles is None and lasting(identity.token or "") == lasting(own):
        reason = f"asked for {role}, the token binary gave the token that it gives without a role"
        return Identity(reason=reason, essential=True)
    if roles is not None and role not in roles:
        text = shorten(", ".join(sorted(roles)), 60) or "none"
        reason = f"asked for {role}, the token binary gave a token with these roles: {text}"
        return Identity(reason=reason, essential=True)
    return dataclasses.replace(identity, roles=roles or frozenset())


def lasting(token: str) -> object:
    """What a token says but for its times and number; an opaque one says itself."""
    claims = api.claims(token)
    passing = ("exp", "iat", "nbf", "jti")
    return {k: v for k, v in claims.items() if k not in passing} if claims else token


# the run's steps


def ask_all(talk: Talk, admin: api.Admin) -> None:
    run, seen = talk.run, talk.seen
    with run.progress("asking with and without a valid credential", 5) as step:
        contact = api.meet(run, talk.instrument, talk.token)
        seen.stop_if(contact)
        if seen.stopped is None:
            ask_asleep(talk, admin, contact)
        ask_control(talk)
        step()
        if not seen.served():
            return
        find_models(talk, contact)
        known, before = read_ids(talk, admin), len(seen.records)
        ask_plainly(talk)
        ask_control(talk)
        step()
        if seen.served() and not let_in(seen):
            ask_forged(talk)
            talk.send(taste_probes(seen.model, talk.token))
            step()
            ask_control(talk)
        read_charged(talk, admin, known, before)
        step()
        if seen.served():
            ask_roles(talk)
        if seen.served() and seen.unreachable:
            ask_last(talk)
        step()


def let_in(seen: Seen) -> bool:
    """Whether anybody is, so that there is nothing to forge."""
    return seen.completed("no_credentials", OPEN_DOOR)


def ask_asleep(talk: Talk, admin: api.Admin, contact: wire.Reply) -> None:
    """Before anything else: whether a request that has to be refused wakes a sleeping fleet."""
    talk.seen.was_asleep = is_asleep(talk, admin, contact)
    if not talk.seen.was_asleep or not talk.run.wants("cost"):
        return
    talk.run.note("no runner is online: first what must not wake one")
    talk.send(without_credentials(talk.seen))
    if talk.seen.stopped is None and talk.seen.records:
        time.sleep(WATCH_S)
        talk.seen.woken = online(talk, admin)


def is_asleep(talk: Talk, admin: api.Admin, contact: wire.Reply) -> bool:
    """Nothing is online, as far as can be read: by the list of models, then by the runners."""
    try:
        return not api.listed_models(contact) and not online(talk, admin)
    except Unreadable:
        return False


def online(talk: Talk, admin: api.Admin) -> list[str]:
    """The names of what is: runners, or models where runners cannot be read."""
    try:
        if admin.reason is None:
            return [runner.name for runner in admin.runners() if runner.is_online]
    except Unreadable:
        pass
    try:
        return api.listed_models(talk.get(chat.MODELS))
    except Unreadable:
        return []


def ask_control(talk: Talk) -> None:
    """The valid credential; where classes are unknown, for the first model that is listed.
    CannotCheck if it is refused at the first time."""
    seen = talk.seen
    is_first = not seen.of(CONTROL)
    record = try_control(talk)
    if is_first and record and is_classless(seen, record) and (model := first_name(talk)):
        seen.records[-1] = dataclasses.replace(record, group="class")
        seen.classless, seen.model = record.said, model
        record = try_control(talk)
    if record and record.busy:
        time.sleep(min(record.retry_after_s or WAIT_S, MOST_WAIT_S))
        seen.records[-1] = dataclasses.replace(record, group="busy")
        record = try_control(talk)
    if record is None or record.status != 401:
        return
    seen.expired = is_expired(talk.token)
    if is_first:
        hint = "; its own exp is in the past" if seen.expired else ""
        raise CannotCheck(chat.refused_credential(talk.run) + hint)


def is_expired(token: str) -> bool:
    """By this machine's clock."""
    expiry = (api.claims(token) or {}).get("exp")
    return isinstance(expiry, (int, float)) and expiry <= time.time()


def try_control(talk: Talk) -> Record | None:
    """None when nothing is asked any more."""
    before = len(talk.seen.of(CONTROL))
    name = "later" if before else "before"
    talk.send([Probe(CONTROL, name, completion(talk.seen.model, talk.token))], 1)
    controls = talk.seen.of(CONTROL)
    return controls[-1] if len(controls) > before else None


def ask_last(talk: Talk) -> None:
    """Once more, though nothing else is asked any more: is the valid credential locked out?"""
    seen, reason = talk.seen, talk.seen.stopped
    time.sleep(WAIT_S)
    seen.stopped = None
    try_control(talk)
    seen.stopped = reason


def is_classless(seen: Seen, record: Record) -> bool:
    """Whether this may say that nobody there knows classes: a server of another kind. Some keep a
    key from models that are not its own with a 401."""
    if record.status == 404:
        return True
    if seen.is_jwt:
        return record.status == 400 and UNKNOWN_MODEL.search(record.said) is not None
    return record.status in (400, 401) and not record.denied


def first_name(talk: Talk) -> str | None:
    """The model of --model, else the first that is listed."""
    named: str | None = talk.run.args.model
    return named or chat.first_model(ask_models(talk))


def ask_models(talk: Talk) -> wire.Reply:
    request = api.under(talk.token, wire.Request("GET", chat.MODELS))
    (reply,) = talk.instrument.exchange([request])
    chat.show(talk.run, reply)
    return reply


def find_models(talk: Talk, contact: wire.Reply) -> None:
    """The models to ask for by name: the operator's, or those that are listed now."""
    seen = talk.seen
    try:
        listed = api.listed_models(contact)
        if not listed:  # all were asleep
            listed = api.listed_models(ask_models(talk))
        seen.models = [name for name in listed if api.is_concrete(name)][:MOST_MODELS]
    except Unreadable as error:
        listed, seen.models_problem = [], str(error)
    if named := talk.run.args.model:
        seen.models = [named]
        if listed and named not in listed:
            seen.models_problem = f"{chat.MODELS} does not list {shorten(named, 40)}"


def ask_plainly(talk: Talk) -> None:
    """What needs no valid token to be made of, and the token under other schemes."""
    model = talk.seen.model
    asked = {record.name for record in talk.seen.of("no_credentials")}  # while all were asleep
    talk.send([each for each in without_credentials(talk.seen) if each.name not in asked])
    if not let_in(talk.seen):
        talk.send(malformed_probes(model))
        talk.send(scheme_probes(model, talk.token))


def ask_forged(talk: Talk) -> None:
    """What can be made from the valid credential without a key."""
    model, jwt = talk.seen.model, read_jwt(talk.token)
    if jwt is None:
        talk.send(forged_probes("api_key", model, forged_tokens.from_key(talk.token)))
        return
    keys = find_public_keys(talk, jwt) if talk.run.wants("hmac") else []
    talk.seen.public_keys = len(keys)
    others = (each.token for each in talk.seen.identities.values())
    other = next((each for each in others if each and each != talk.token), None)
    source = forged_tokens.Source(jwt, read_jwt(other) if other else None)
    forged = forged_tokens.from_jwt(source, keys)
    for group in FORGED:
        talk.send(forged_probes(group, model, [each for each in forged if each.group == group]))
    talk.send(forged_elsewhere(talk.seen, jwt))


def find_public_keys(talk: Talk, jwt: Jwt) -> list[dict[str, Any]]:
    """From the deployment's own JWKS, else from the token's issuer; no credential is sent."""
    if talk.seen.stopped:
        return []
    kid = jwt.header.get("kid")
    reply = talk.get(JWKS)
    keys = read_jwks(reply.body, kid) if is_ok(reply) else []
    issuer = jwt.payload.get("iss")
    if not keys and isinstance(issuer, str):
        keys = read_jwks(ask_issuer(talk.run, issuer.rstrip("/")), kid)
    return keys[:MOST_KEYS]


def ask_issuer(run: Run, issuer: str) -> bytes:
    """The JWKS that an OpenID provider names (OpenID Connect Discovery, section 4); b"" if none."""
    found = get_elsewhere(run, issuer + DISCOVERY)
    try:
        where = api.content_of(found, DISCOVERY).get("jwks_uri") if found else None
    except Unreadable:
        where = None
    reply = get_elsewhere(run, where if isinstance(where, str) else issuer + JWKS)
    return reply.body if reply and is_ok(reply) else b""


def get_elsewhere(run: Run, url: str) -> wire.Reply | None:
    """GET without a credential; None for what is no URL."""
    if not all(0x21 <= ord(character) <= 0x7E for character in url) or "@" in url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        parts.netloc.encode("idna")
    except ValueError:  # a UnicodeError is one
        return None
    if not usable:
        return None
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    target = wire.Target(f"{parts.scheme}://{parts.netloc}", None, not run.args.no_verify_ssl)
    with wire.Wire(target, min(ISSUER_TIMEOUT_S, run.args.timeout)) as instrument:
        (reply,) = instrument.exchange([wire.Request("GET", path or "/")])
    run.verbose(f"GET {shorten(url)}: {outcome(reply)}")
    return reply


def ask_roles(talk: Talk) -> None:
    """What each role may do, one request at a time."""
    seen = talk.seen
    if seen.classless:
        return
    for role in ROLES:
        if not talk.run.wants(role):
            continue
        identity = seen.identities[role] = made_now(
            talk.run, role, seen.identities[role], talk.token
        )
        if identity.token is None:
            continue
        models = seen.models if role == "specific" else seen.models[:1]
        probes = [role_probe(seen, role, name) for name in [*CLASSES, *models]]
        for path in ADMIN_PATHS:
            request = api.under(identity.token, wire.Request("GET", path))
            probes.append(Probe(role, path.partition("?")[0], request, allowed=ABSENT))
        talk.send(probes, 1)
    # a runner may have come meanwhile: only who is told twice that there is none is refused
    talk.send([role_probe(seen, r.group, r.name) for r in seen.records if is_odd(seen, r)], 1)


def role_probe(seen: Seen, role: str, model: str) -> Probe:
    return Probe(role, model, completion(model, seen.identities[role].token))


def is_odd(seen: Seen, record: Record) -> bool:
    """Whether a role was told that no runner has a class, though another was served it."""
    served = any(seen.completed(role, record.name) for role in ROLES)
    return record.group in ROLES and record.name in CLASSES and record.lacks_runner and served


# what refusals cost


def read_ids(talk: Talk, admin: api.Admin) -> set[str]:
    """The newest entries of the request log, before the bad requests."""
    if not talk.run.wants("cost"):
        return set()
    try:
        return {entry.id for entry in admin.log()}
    except Unreadable as error:
        talk.seen.unread = str(error)
        return set()


def read_charged(talk: Talk, admin: api.Admin, known: set[str], before: int) -> None:
    """Entries since then that tell of a refusal which came as far as a runner. `before`: the
    number of records then."""
    seen = talk.seen
    if not talk.run.wants("cost") or seen.unread:
        return
    found: list[api.Entry] = []
    try:
        for page in range(1, LOG_PAGES + 1):
            fresh = [entry for entry in admin.log(page) if entry.id not in known]
            found += fresh
            if len(fresh) < api.LOG_PAGE:
                break
    except Unreadable as error:
        seen.unread = str(error)
        return
    seen.charged = [told for entry in found if (told := charge(entry))]
    seen.unserved = unserved(found, seen.records[before:])


def unserved(entries: Sequence[api.Entry], records: Sequence[Record]) -> int:
    """Entries with a runner beyond the requests that were served, whatever their status is called;
    0 while they may be somebody else's: fewer than half of what was refused."""
    sent = [record for record in records if record.path == chat.COMPLETIONS]
    refused = sum(record.status in INVALID for record in sent)
    reached = {entry.id for entry in entries if entry.runner_id or entry.wol_sent}
    beyond = len(reached) - sum(record.accepted for record in sent)
    return beyond if refused and beyond >= refused / 2 else 0


def charge(entry: api.Entry) -> str | None:
    """What a refused request cost, None for others: what failed may be somebody else's."""
    if not REFUSAL_WORDS.search(entry.status or ""):
        return None
    if entry.wol_sent:
        return f"a {entry.status} with wol_sent"
    return f"a {entry.status} with runner {entry.runner_id}" if entry.runner_id else None


# --- judge


def undecided(name: str, reason: str) -> Check:
    return Check(name, Status.SKIP, reason, essential=True)


def named(records: Sequence[Record]) -> str:
    """Some of them in a line; those with one outcome and one rule together."""
    groups: dict[str, list[str]] = {}
    for record in records[:MOST_NAMED]:
        why = f"{record.said}; {record.basis}" if record.basis else record.said
        groups.setdefault(why, []).append(shorten(record.name, 60))
    texts = [f"{', '.join(names)} ({why})" for why, names in groups.items()]
    more = f"; and {len(records) - MOST_NAMED} more" if len(records) > MOST_NAMED else ""
    return "; ".join(texts) + more


def counted(records: Sequence[Record]) -> str:
    """How often each outcome was seen."""
    counts = Counter(str(r.status) if r.error is None else "closed" for r in records)
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common())


def evidence(records: Sequence[Record]) -> dict[str, Any]:
    kept = ("name", "status", "error", "basis")
    return {"variants": [{key: vars(record)[key] for key in kept} for record in records]}


def check_control(seen: Seen) -> Check:
    """The valid credential is served, before, in between and after."""
    records = seen.of(CONTROL)
    failed = next((record for record in records if not record.completes), None)
    facts = {"model": seen.model, "answer_ms": [record.answer_ms for record in records]}
    if failed and not failed.rate_limited:
        check = failed_control(seen, failed)
        check.evidence = facts
        return check
    if seen.stopped and not seen.records and not seen.limited:
        return Check(CONTROL, Status.FAIL, seen.stopped)  # a server that hangs or floods
    if not records or (seen.stopped and len(records) < CONTROLS):
        return undecided(CONTROL, f"not decided: {seen.stopped}")
    times = ", ".join(f"{record.answer_ms:.1f}" for record in records if record.answer_ms)
    when = "before, between and after" if len(records) == CONTROLS else "before and after"
    detail = f"{seen.model} for {seen.who}: {len(records)} x 200, {when} the others"
    return Check(CONTROL, Status.PASS, f"{detail}, in {times} ms", facts)


def failed_control(seen: Seen, failed: Record) -> Check:
    if seen.expired:
        return undecided(CONTROL, "the token expired while it was tried: use a fresh one")
    if failed is seen.of(CONTROL)[0]:
        hint = "; --timeout 180 if a machine has to wake first" if failed.error == "timeout" else ""
        said = "200, but no chat completion" if failed.status == 200 else failed.said
        what = "gets no answer from" if failed.error else "is refused"
        detail = f"{seen.who} {what} {seen.model}: {said}{hint}"
        return Check(CONTROL, Status.FAIL, detail)
    bad = sum(record.group in (*REFUSED, *TASTES) for record in seen.records)
    detail = f"{seen.who} was served {seen.model} before, but no more after {bad} other requests: "
    return Check(CONTROL, Status.FAIL, detail + failed.said)


def too_late(records: Sequence[Record]) -> str | None:
    """The words for those that are no refusal: there was no answer in time."""
    late = [record for record in records if record.error == "timeout"]
    if not late:
        return None
    return f"no answer in time: {named(late)}; try --timeout 180 if a model has to load first"


def without_verdict(name: str, seen: Seen) -> Check | None:
    """Why refusals say nothing, if they do not."""
    records = seen.of(name)
    if records and seen.vouched(name):
        return None
    if seen.stopped:
        return undecided(name, f"not decided: {seen.stopped}")
    if not records and let_in(seen):
        return undecided(name, "not asked: anybody is let in without a credential")
    if not records:
        return undecided(name, "not asked: the valid credential is served no more")
    reason = f"{len(records)} refusals prove nothing: the valid credential is served no more"
    return undecided(name, reason)


# what to do about a variant that should not have been accepted, or refused
ADVICE = {
    "no_credentials": "is authentication switched on for every endpoint?",
    "malformed": "a header without a token lets nobody in",
    "scheme": "only Bearer carries a bearer token",
    "signature": "verify the whole signature of every token",
    "payload": "verify the signature over the very bytes that are read",
    "alg_none": "the verifier has to name the algorithms that it takes",
    "hmac": "the verifier has to name its algorithm, and a key must be random",
    "header": "a token does not say which key it is verified with",
    "api_key": "compare the whole key as it is",
    "bearer_case": "the name of a scheme has no case",
    "bare_token": "a credential has its scheme before it",
    "query_token": "URLs end up in logs and histories",
}


def check_refused(name: str, seen: Seen) -> Check:
    """All of these are refused, and in a way that tells a client what is wrong."""
    if not_for := not_applicable(name, seen):
        return not_for
    records = seen.of(name)
    accepted = [record for record in records if record.accepted]
    wrong = [r for r in records if not (r.refused or r.accepted or r.says_nothing)]
    if seen.unreachable and records and not seen.vouched(name):
        wrong = [r for r in wrong if r.error is None]  # cut off with everything else
    facts = evidence(records)
    if accepted:
        detail = f"{len(accepted)} of {len(records)} variants accepted: {named(accepted)}: "
        return Check(name, Status.FAIL, detail + ADVICE[name], facts)
    if wrong:
        allowed = ", ".join(map(str, wrong[0].allowed))
        detail = f"{len(records)} variants, none accepted, but {len(wrong)} not answered with one "
        return Check(name, Status.FAIL, f"{detail}of {allowed}: {named(wrong)}", facts)
    if missing := without_verdict(name, seen):
        return missing
    if silent := [record for record in records if record.says_nothing]:
        detail = f"{len(silent)} of {len(records)} variants not decided: {named(silent)}"
        return undecided(name, detail)
    detail = f"{len(records)} variants refused, none accepted: {counted(records)}"
    return Check(name, Status.PASS, detail + remark(name, seen), facts)


def not_applicable(name: str, seen: Seen) -> Check | None:
    if name == "api_key" and seen.is_jwt:
        return Check(name, Status.SKIP, "the credential is a JWT, no opaque key")
    if name in FORGED and not seen.is_jwt:
        return Check(name, Status.SKIP, "an opaque API key: there is no JWT to forge from")
    return None


def remark(name: str, seen: Seen) -> str:
    if name != "hmac":
        return ""
    return "" if seen.public_keys else "; no JWKS was found, so not tried with the public key"


def check_taste(name: str, seen: Seen) -> Check:
    """Works or does not; what an operator wants to know of it."""
    records = seen.of(name)
    silent = [record for record in records if record.says_nothing]
    broken = [r for r in records if r not in silent and (r.error or (r.status or 0) >= 500)]
    if broken:
        return Check(name, Status.FAIL, f"no proper answer: {named(broken)}", evidence(records))
    odd = [r for r in records if r.accepted != (name in GOOD_TASTE) and r not in silent]
    word = "refused" if name in GOOD_TASTE else "accepted"
    if odd and (odd[0].accepted or seen.vouched(name)):
        detail = f"{word}: {named(odd)}: {ADVICE[name]}"
        return Check(name, Status.WARN, detail, evidence(records))
    if missing := without_verdict(name, seen):
        return missing
    if silent:
        return undecided(name, f"not decided: {named(silent)}")
    word = "accepted" if name in GOOD_TASTE else "refused"
    return Check(name, Status.PASS, f"{word}: {counted(records)}", evidence(records))


# what a role may do


def check_roles(role: str, seen: Seen) -> list[Check]:
    identity = seen.identities[role]
    if identity.reason:
        return [Check(role, Status.SKIP, identity.reason, essential=identity.essential)]
    if seen.classless:
        reason = f"no fleet with classes and roles ({CLASSES[0]}: {seen.classless})"
        return [Check(role, Status.SKIP, reason)]
    if not seen.of(role):
        reason = seen.stopped or "the valid credential is served no more"
        return [undecided(role, f"not asked: {reason}")]
    rights = RIGHTS[role]
    if ADMIN in identity.roles and role != "admin":  # one token for both
        rights = {what: right for what, right in rights.items() if what != "admin_api"}
    return [check_right(f"{role}:{what}", right, role, seen) for what, right in rights.items()]


def check_right(name: str, right: Right, role: str, seen: Seen) -> Check:
    """The verdict on one right of a role, if there are answers to judge."""
    found = [seen.find(role, each) for each in right.asked(seen)]
    records = [record for record in found if record is not None]
    silent = [record for record in records if record.says_nothing]
    if silent or not records:
        said = named(silent) if silent else seen.models_problem
        reason = seen.stopped or said or f"{chat.MODELS} lists no model to ask for"
        return undecided(name, f"not decided: {reason}")
    status, detail = right.judge(records, seen, role)
    return Check(name, status, detail, statuses(records))


def statuses(records: Sequence[Record]) -> dict[str, Any]:
    return {record.name: record.status or record.error for record in records}


Verdict = tuple[Status, str]


def judge_classes(records: Sequence[Record], seen: Seen, role: str) -> Verdict:
    """Every authenticated user may use the classes."""
    failed = [record for record in records if not record.completes]
    if not failed:
        return Status.PASS, f"{' and '.join(CLASSES)}: 200"
    if all(record.lacks_runner and not is_odd(seen, record) for record in failed):
        return Status.SKIP, f"no runner to ask: {named(failed)}"
    refused = f"the {role} role is refused {named(failed)}"
    others = "; other roles are served it" if any(is_odd(seen, each) for each in failed) else ""
    return Status.FAIL, too_late(failed) or refused + others


def judge_models(records: Sequence[Record], seen: Seen, role: str) -> Verdict:
    """The role model:specific gives any model that is listed."""
    failed = [record for record in records if not record.completes]
    if not failed:
        served = ", ".join(shorten(record.name, 40) for record in records)
        return Status.PASS, f"{served}: 200"
    hint = f"; {seen.models_problem}" if seen.models_problem else ""
    refused = f"refused in spite of the role {SPECIFIC}: {named(failed)}{hint}"
    return Status.FAIL, too_late(failed) or refused


def judge_no_models(records: Sequence[Record], seen: Seen, role: str) -> Verdict:
    """Without the role no model may be asked for by name."""
    record, model = records[0], shorten(records[0].name, 40)
    if record.accepted:
        return Status.FAIL, f"{model} is served to a user without the role {SPECIFIC}"
    if record.denied:
        return Status.PASS, f"{model} refused: {record.said}"
    return Status.FAIL, f'{model}: {record.said}, where 400 with "permission" or 403 is due'


def judge_admin_model(records: Sequence[Record], seen: Seen, role: str) -> Verdict:
    """A model by name, for an admin: the guide and the gateway do not agree."""
    record, model = records[0], shorten(records[0].name, 40)
    if record.completes:
        return Status.PASS, f"{model}: 200"
    if record.denied and SPECIFIC not in seen.identities[role].roles:
        detail = f"{model} refused to the admin role ({record.said}), though {FULL_ACCESS}"
        return Status.WARN, detail
    return Status.FAIL, too_late(records) or f"{model}: {record.said}"


def is_absent(record: Record) -> bool:
    """No such endpoint; or a web page, with a login of its own."""
    return record.status == 404 or record.is_page or record.status in REDIRECTS


def judge_endpoints(records: Sequence[Record], seen: Seen, role: str) -> Verdict:
    """An admin may use the admin API."""
    failed = [record for record in records if not record.accepted]
    if not failed:
        return Status.PASS, counted(records)
    if all(is_absent(record) for record in failed):
        return Status.SKIP, f"no admin API: {named(failed)}"
    return Status.FAIL, f"the admin role: {named(failed)}"


def judge_no_endpoints(records: Sequence[Record], seen: Seen, role: str) -> Verdict:
    """Nobody else may."""
    opened = [record for record in records if record.accepted]
    if opened:
        return Status.FAIL, f"open to a token without the role {ADMIN}: {named(opened)}"
    refused = [r for r in records if r.error is None and (r.status in DENIALS or r.denied)]
    wrong = [r for r in records if r not in refused and not is_absent(r)]
    if wrong:
        return Status.FAIL, f"{named(wrong)}, where 401 or 403 is due"
    if not refused:
        return Status.SKIP, f"no admin API: {named(records)}"
    return Status.PASS, f"refused: {counted(records)}"


@dataclass(frozen=True)
class Right:
    """What was asked for it, and what the answers must be."""

    asked: Callable[[Seen], Sequence[str]]
    judge: Callable[[Sequence[Record], Seen, str], Verdict]


def admin_paths(seen: Seen) -> list[str]:
    return [path.partition("?")[0] for path in ADMIN_PATHS]


ANY_CLASS = Right(lambda seen: CLASSES, judge_classes)
NO_ADMIN = Right(admin_paths, judge_no_endpoints)
RIGHTS = {
    "user": {
        "classes": ANY_CLASS,
        "models": Right(lambda seen: seen.models[:1], judge_no_models),
        "admin_api": NO_ADMIN,
    },
    "specific": {
        "classes": ANY_CLASS,
        "models": Right(lambda seen: seen.models, judge_models),
        "admin_api": NO_ADMIN,
    },
    "admin": {
        "classes": ANY_CLASS,
        "models": Right(lambda seen: seen.models[:1], judge_admin_model),
        "admin_api": Right(admin_paths, judge_endpoints),
    },
}


# what refusals tell, and what they cost


def refusals(seen: Seen) -> list[Record]:
    """What was not let in, for want of a valid credential or of a role."""
    tried = [r for r in seen.records if r.group in (*REFUSED, *TASTES, *ROLES)]
    return [r for r in tried if not (r.accepted or r.says_nothing) and r.error is None]


def check_echo(seen: Seen) -> Check:
    """A refusal does not repeat what was sent: it ends up in logs and on screens."""
    asked = [record for record in refusals(seen) if record.sent_secret]
    if not asked:
        return Check("echo", Status.SKIP, "no credential was refused")
    echoed = [record for record in asked if record.echoed]
    if echoed:
        which = ", ".join(f"{r.group}, {r.name} ({r.status})" for r in echoed[:MOST_NAMED])
        detail = f"{len(echoed)} of {len(asked)} refusals repeat the credential, as: {which}"
        return Check("echo", Status.FAIL, detail)
    detail = f"none of {len(asked)} refusals repeats the credential"
    return Check("echo", Status.PASS, detail)


def check_cost(seen: Seen) -> Check:
    """A refusal takes no place in a queue and wakes no machine."""
    if seen.woken:
        names = shorten(", ".join(seen.woken), 60)
        detail = f"all runners slept; after requests without a valid credential awake: {names}"
        return Check("cost", Status.WARN, detail, {"woken": seen.woken})
    if seen.charged:
        examples = ", ".join(dict.fromkeys(seen.charged[:MOST_NAMED]))
        detail = f"{len(seen.charged)} refusals in the request log came to a runner: {examples}"
        return Check("cost", Status.WARN, detail, {"charged": len(seen.charged)})
    if seen.unserved:
        detail = f"{seen.unserved} entries of the request log have a runner, but were not served: "
        detail += "as many as half of the refusals, or more"
        return Check("cost", Status.WARN, detail, {"unserved": seen.unserved})
    if seen.unread and not seen.was_asleep:
        return Check("cost", Status.SKIP, f"the request log cannot be read: {seen.unread}")
    if not refusals(seen):
        return Check("cost", Status.SKIP, "nothing was refused")
    parts = ["woke no runner" if seen.was_asleep else "waking not tried: runners were online"]
    if not seen.unread:
        parts.insert(0, "none in the request log came to a runner")
    return Check("cost", Status.PASS, f"{spent(seen)}: {'; '.join(parts)}")


def spent(seen: Seen) -> str:
    times = [record.answer_ms for record in refusals(seen) if record.answer_ms is not None]
    if not times:
        return "0 refusals"
    middle = statistics.median(times)
    return f"{len(times)} refusals in {middle:.1f} ms (median; the slowest {max(times):.1f} ms)"


def judge_all(seen: Seen) -> list[Check]:
    control = check_control(seen)
    if not seen.of(CONTROL) or not seen.of(CONTROL)[0].completes:
        return [control, *hopeless(seen)]
    checks = [control, *(check_refused(name, seen) for name in REFUSED)]
    checks += [check_taste(name, seen) for name in TASTES]
    for role in ROLES:
        checks += check_roles(role, seen)
    return [*checks, check_echo(seen), check_cost(seen)]


def hopeless(seen: Seen) -> list[Check]:
    """All else, when the valid credential was not served at all."""
    why = next((f" ({record.said})" for record in seen.of(CONTROL)), "")
    reason = f"not asked: a refusal proves nothing while the valid credential is not served{why}"
    return [Check(name, Status.SKIP, reason) for name in CHECKS if name != CONTROL]


# --- report


def metrics(seen: Seen) -> dict[str, Any]:
    times = [record.answer_ms for record in refusals(seen) if record.answer_ms is not None]
    return {
        "requests": len(seen.records),
        "refusals": len(refusals(seen)),
        "refusal_ms_p50": round(statistics.median(times), 3) if times else None,
        "refusal_ms_max": max(times, default=None),
        "control_ms": [record.answer_ms for record in seen.of(CONTROL)],
        "public_keys": seen.public_keys,
    }


def lines(seen: Seen, url: str) -> list[str]:
    """Who was given what: a row for each role, a column for what was asked for."""
    rows = [shorten(f"Asked of {url}: {len(seen.records)} requests", 80)]
    model = seen.models[0] if seen.models else "a model"
    columns = [*CLASSES, model, api.RUNNERS]
    table = [role_row(seen, role, columns) for role in ROLES if seen.of(role)]
    if not table:
        return rows
    heads = "".join(f"  {shorten(each, 15):>15}" for each in columns)
    return [*rows, "", f"  {'':8}{heads}", *table]


def role_row(seen: Seen, role: str, columns: Sequence[str]) -> str:
    found = [seen.find(role, name) for name in columns]
    cells = [str(record.status or record.error) if record else "-" for record in found]
    return f"  {role:8}" + "".join(f"  {cell:>15}" for cell in cells)


def shown(checks: Sequence[Check]) -> list[Check]:
    """The checks for the screen: those in a row that were skipped for one reason on one line."""
    found: list[Check] = []
    for check in checks:
        last = found[-1] if found else None
        if last and (last.status, last.detail) == (check.status, check.detail):
            found[-1] = dataclasses.replace(last, name=f"{last.name}, {check.name}")
        else:
            found.append(check)
    return found


# --- run


def measure(run: Run) -> None:
    args, document = run.args, run.document("auth")
    token = run.token()
    assert token  # the fleet needs one
    target = wire.Target(run.url, None, verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        admin = api.Admin(run, instrument)
        seen = Seen(read_jwt(token) is not None, find_identities(run, token, admin))
        run.target["model"] = seen.model
        try:
            ask_all(Talk(run, instrument, seen, token), admin)
        finally:
            run.target["model"] = seen.model
            document.requests = [vars(record) for record in seen.records]
            document.metrics = metrics(seen)
    document.add(*judge_all(seen))
    for line in [*lines(seen, run.url), ""]:
        run.say(line)
    for check in shown(document.checks):
        run.say_check(check)
    run.say()


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
