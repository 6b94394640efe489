#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Who is let in, what may each role do, and is everybody else refused?

It asks with a valid credential, with none, with broken headers, and with everything that can be
forged from the valid one without a key (signature, payload, `alg`, `kid`). Then it asks with a
token of each role. Last it asks without a credential for the same things in another way (other
spellings of the path, other methods, headers that only a proxy should set), and for the other
endpoints of inference engines. In between it asks with the valid credential again: a refusal only
means something while the valid credential is served.

PASS: the valid credential is served, every other one is refused with a clear status, and each role
may do what the guide says.
Cost: about 350 small requests with one token, 370 with all roles, 280 with an API key; 200 of them
have no credential and are asked last. Up to 22 reach a model, for an answer of at most 4 tokens,
and count for a rate limit; so does each one that is let in by mistake. Two more go to the issuer of
the token for its public keys, without a credential, when the deployment publishes none. It wakes a
sleeping machine.

Examples:
    # what the role of this token may do, and what can be forged from the token
    python3 test_auth.py --token YOUR_JWT_TOKEN
    # all roles; the command prints a token for --role ROLE
    python3 test_auth.py --token-binary ./get-token
    # the same with a model of your choice, when a machine may have to wake first
    python3 test_auth.py --token-binary ./get-token --model llama3:8b --timeout 180
    # a server with an API key instead of JWTs: only what applies to a key
    python3 test_auth.py --url http://host:8000 --api-key sk-key
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import contextlib
import itertools
import operator
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import common
from common import Check, NoAccess, Run, Status
from livecheck.core.checks import skip, undecided, with_answers
from livecheck.core.json_value import pick, quoted
from livecheck.core.text import plural, shorten
from livecheck.fleet import api, engine_endpoints, forged_tokens, roles
from livecheck.fleet import credential_questions as questions
from livecheck.fleet.api import CLASSES, Unreadable
from livecheck.fleet.credential_evidence import (
    CONTROL,
    ROLES,
    Evidence,
    behind,
    is_treated_worse,
)
from livecheck.fleet.credential_questions import ENDPOINTS, Exchange, Question
from livecheck.fleet.exchange_words import MAX_NAMED, NAME_LENGTH, counted, named, variants
from livecheck.fleet.findings import Finding, merge
from livecheck.fleet.jwt import claims, read_jwt
from livecheck.fleet.plans import AT_ONCE, MAX_KEYS, MAX_WAIT_S, NAMED, WAIT_S, WATCH_S, plan_auth
from livecheck.fleet.public_keys import find_public_keys
from livecheck.fleet.roles import ADMIN, SPECIFIC, Identities
from livecheck.wire import asking, chat
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.asking import COSTLY, Asker, Cause, Stop
from livecheck.wire.model_choice import first_for_chat, which_chat

FORGED = ("signature", "payload", "alg_none", "hmac", "header")  # from a JWT
REFUSED = ("no_credentials", "malformed", "scheme", *FORGED, "api_key")  # must be refused
# servers differ in these
OPTIONAL_FORMS = ("bearer_case", "bare_token", "query_token", "two_headers", "trailing_text")
ACCEPTED_FORMS = ("bearer_case",)  # those of them that a server should accept
WAYS_AROUND = ("other_paths", "other_methods", "proxy_headers")  # of a request, to its own answer
CHECKS = (CONTROL, *REFUSED, *OPTIONAL_FORMS, *WAYS_AROUND, ENDPOINTS, *ROLES, "echo", "cost")

TOGETHER = 20  # questions, before their answers are read and let go of
CONTROLS = 3  # in a run without the ways around
LEAST_PATIENCE_S = 10.0  # for an answer that need not come
PATIENCE = 5  # the same, in times of the slowest answer to the valid credential
USER_LENGTH = 200  # characters of the user's name in a token
MODEL_LENGTH = 40

FULL_ACCESS = 'the guide says of the admin role: "Full access"'
UNKNOWN_MODEL = re.compile(
    r"(invalid|unknown|no such) model|model\b.{0,60} (not (found|exist)|unknown)", re.IGNORECASE
)
# what to do when something is let in that must be refused, or the other way round
ADVICE = {
    "no_credentials": "is authentication switched on for every endpoint?",
    "malformed": "a header without a token must let nobody in",
    "scheme": "only the scheme Bearer may carry a bearer token",
    "signature": "verify the whole signature of every token",
    "payload": "verify the signature over the very bytes that are read",
    "alg_none": "the verifier must name the algorithms that it accepts",
    "hmac": "the verifier must name its algorithm, and a key must be random",
    "header": "a token must not say which key it is verified with",
    "api_key": "compare the whole key",
    "bearer_case": "the name of a scheme may be written in upper or lower case",
    "bare_token": "a credential must have its scheme in front of it",
    "query_token": "URLs end up in logs and histories",
    "two_headers": "another server on the way may judge by the first one: refuse such a request",
    "trailing_text": "compare the whole value of the header",
    "other_paths": "decide about the credential where the path is resolved, for every path",
    "other_methods": "ask every method for a credential but OPTIONS, and ignore overrides",
    "proxy_headers": "the proxy must remove these headers from what its clients send",
    ENDPOINTS: "guard every path of the engine, not only those of OpenAI's API",
}


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, 30, plan=plan_auth)
    add = parser.add_argument_group("what to check").add_argument
    text = "model to ask for by its name (default: the first listed)"
    add("--model", type=one_model, metavar="NAME", help=text)
    return parser


def one_model(text: str) -> str:
    """An argparse type: the name of one model, which needs a role, and not of a class."""
    if not roles.is_concrete(text):
        raise argparse.ArgumentTypeError(f"{quoted(text)} needs no role: name a model, not a class")
    return text


# --- measure


@dataclass
class Conversation:
    """One run's questions: by which asker, with which tokens, and what they brought."""

    asker: Asker
    identities: Identities
    admin: api.Admin
    token: str = field(repr=False)
    evidence: Evidence

    @property
    def run(self) -> Run:
        return self.asker.run

    def ask(
        self,
        asked: Iterable[Question],
        at_once: int = AT_ONCE,
        keep_alive: bool = True,
        alone: bool = True,
    ) -> None:
        """Ask what --only and --skip leave, and keep the answers, also when interrupted.

        `alone`: so few of these reach the model that what refuses one for want of room is a proxy's
        limit. A 503 to a path that nobody serves is no such limit.
        """
        wanted = [each for each in asked if is_wanted(self.run.args, each.group)]
        for each in wanted:
            self.run.secrets.add(each.request.secret or "")
        for begin in range(0, len(wanted), TOGETHER):  # the bytes of so many answers are kept
            self._ask_some(wanted[begin : begin + TOGETHER], at_once, keep_alive, alone)

    def _ask_some(
        self, wanted: Sequence[Question], at_once: int, keep_alive: bool, alone: bool
    ) -> None:
        def name(answer: Answer) -> str:
            question = wanted[answer.reply.index]
            return f"{question.group}, {shorten(question.name)}"

        def keep(answers: list[Answer]) -> None:
            pairs = zip(wanted, answers, strict=False)  # the last ones may not have been sent
            found = [Exchange(question, answer) for question, answer in pairs]
            self.evidence.exchanges += found
            self.evidence.stopped = self.asker.stopped
            self.evidence.settle(found, self.token)

        requests = [each.request for each in wanted]
        self.asker.ask(requests, at_once, keep=keep, name=name, keep_alive=keep_alive, alone=alone)

    def get(self, path: str, token: str | None = None) -> Answer:
        """A page that is not part of what is checked: it is not kept, and stops nothing."""
        return asking.fetch(self.run, self.asker.wire, chat.with_credential(chat.get(path), token))


def is_wanted(args: argparse.Namespace, group: str) -> bool:
    """Whether --only and --skip leave this group in.

    Nothing can be said without the control; `echo` and `cost` are about all that is refused.
    """
    if group == CONTROL or common.is_wanted(args, group):
        return True
    about_all = not {"echo", "cost"}.isdisjoint(args.only or ())
    return about_all and group in REFUSED and group not in args.skip


def reason_to_stop(answer: Answer) -> Stop | None:
    """A connection that cannot be opened any more ends the asking, too."""
    return asking.reason_to_stop(answer, (Cause.RATE_LIMIT, *COSTLY, Cause.UNREACHABLE))


def ask_all(talk: Conversation) -> None:
    """The run's steps: each group of bad requests has the valid credential before and after it."""
    evidence = talk.evidence
    with talk.run.progress("asking with and without a valid credential", 6) as step:
        contact = api.first_contact(talk.run, talk.asker.wire, talk.token)
        evidence.stopped = talk.asker.stopped = reason_to_stop(contact)
        if evidence.stopped is None:
            ask_asleep(talk, contact)
        ask_control(talk)
        step()
        if not evidence.is_served:
            return
        find_models(talk, contact)
        before = len(evidence.exchanges)
        if talk.run.wants("cost"):
            evidence.cost.start(talk.admin)
        ask_plainly(talk)
        ask_control(talk)
        step()
        if evidence.is_served and not evidence.is_open:
            ask_forged(talk)
            talk.ask(questions.optional_forms(evidence.model, talk.token))
            talk.ask(questions.two_headers(evidence.model, talk.token))
            talk.ask(questions.trailing_text(evidence.model, talk.token))
            step()
            ask_control(talk)
        if talk.run.wants("cost") and not talk.asker.limited:
            read_cost(talk, evidence.exchanges[before:])
        step()
        if evidence.is_served:
            ask_roles(talk)
        step()
        if evidence.is_served and not evidence.is_open:
            ask_around(talk)
        if evidence.is_served and evidence.is_cut_off:
            ask_last(talk)
        step()


def ask_asleep(talk: Conversation, contact: Answer) -> None:
    """Before anything else: does a request that must be refused wake a sleeping fleet?"""
    evidence = talk.evidence
    evidence.was_asleep = api.lists_nothing(contact) and not names_online(talk)
    if not evidence.was_asleep or not talk.run.wants("cost"):
        return
    talk.run.note("no runner is online: first the requests that must not wake one")
    talk.ask(questions.without_credential(evidence.models_to_guard))
    if evidence.stopped is None and evidence.exchanges:
        time.sleep(WATCH_S)
        evidence.woken = names_online(talk)


def names_online(talk: Conversation) -> list[str]:
    """The runners that are online; the models that are listed, where runners cannot be read."""
    with contextlib.suppress(Unreadable):
        if talk.admin.reason is None:
            return [runner.name for runner in talk.admin.runners() if runner.is_online]
    with contextlib.suppress(Unreadable):
        return api.listed_models(talk.get(chat.MODELS))
    return []


def ask_control(talk: Conversation) -> None:
    """Ask with the valid credential. Where classes are unknown, ask for the first listed model; a
    busy server is asked twice. CannotCheck when the credential is refused the first time."""
    evidence = talk.evidence
    is_first = not evidence.of(CONTROL)
    found = try_control(talk)
    if is_first and found and is_about_classes(evidence, found) and (model := first_name(talk)):
        file_under(evidence, "class", found)
        evidence.no_classes, evidence.model = found.said, model
        found = try_control(talk)
    if found and found.is_busy and not talk.asker.stopped:
        time.sleep(min(found.answer.retry_after_s or WAIT_S, MAX_WAIT_S))
        file_under(evidence, "busy", found)
        found = try_control(talk)
    refusal = no_access(talk.run, found.answer) if found else None
    if found is None or (refusal is None and found.status != 401):
        return
    evidence.has_expired = is_expired(talk.token)
    if is_first and refusal:
        hint = "; its own exp is in the past" if evidence.has_expired else ""
        raise NoAccess(refusal + hint)


def file_under(evidence: Evidence, group: str, found: Exchange) -> None:
    """Give the last exchange another group: it does not count as a control."""
    question = replace(found.question, group=group)
    evidence.exchanges[-1] = Exchange(question, found.answer)


def is_expired(token: str) -> bool:
    """By this machine's clock."""
    expiry = (claims(token) or {}).get("exp")
    return isinstance(expiry, (int, float)) and expiry <= time.time()


def try_control(talk: Conversation) -> Exchange | None:
    """None when nothing more is asked."""
    evidence = talk.evidence
    before = len(evidence.of(CONTROL))
    name = "later" if before else "before"
    talk.ask([Question(CONTROL, name, questions.completion(evidence.model, talk.token))], 1)
    controls = evidence.of(CONTROL)
    return controls[-1] if len(controls) > before else None


def ask_last(talk: Conversation) -> None:
    """Ask with the valid credential once more, although nothing else is asked any more: has this
    machine been locked out?"""
    reason = talk.asker.stopped
    time.sleep(WAIT_S)
    talk.asker.stopped = None
    try_control(talk)
    talk.evidence.stopped = talk.asker.stopped = reason


def is_about_classes(evidence: Evidence, found: Exchange) -> bool:
    """Whether this answer may mean that the server knows no classes. Some servers refuse a key
    with a 401 when it asks for a model that this key must not use."""
    if found.status == 404:
        return True
    if evidence.is_jwt:
        named = CLASSES[0] in found.said or pick(found.answer.json, "error", "param") == "model"
        says_so = named or UNKNOWN_MODEL.search(found.said) is not None
        return found.status in (400, 422) and says_so and not found.answer.is_denied
    return found.status in (400, 401) and not found.answer.is_denied


def first_name(talk: Conversation) -> str | None:
    """The model of --model, else the first that is listed and may chat."""
    named: str | None = talk.run.args.model
    return named or first_for_chat(talk.get(chat.MODELS, talk.token))


def find_models(talk: Conversation, contact: Answer) -> None:
    """The models to ask for by name: that of --model, or those that are listed now."""
    evidence, listed = talk.evidence, []
    try:
        listed = api.listed_models(contact)
        if not listed:  # all runners were asleep then
            contact = talk.get(chat.MODELS, talk.token)
            listed = api.listed_models(contact)
        named = [name for name in listed if roles.is_concrete(name)]
        chats = which_chat(contact)
        evidence.models = ([each for each in named if chats.get(each)] or named)[:NAMED]
    except Unreadable as error:
        evidence.models_problem = str(error)
    if named := talk.run.args.model:
        evidence.models = [named]
        if listed and named not in listed:
            evidence.models_problem = f"{chat.MODELS} does not list {shorten(named, MODEL_LENGTH)}"


def ask_plainly(talk: Conversation) -> None:
    """Ask what needs no forging: without a credential, with broken headers and other schemes."""
    evidence = talk.evidence
    asked = {each.name for each in evidence.of("no_credentials")}  # while all runners were asleep
    unasked = questions.without_credential(evidence.models_to_guard)
    talk.ask(each for each in unasked if each.name not in asked)
    if not evidence.is_open:
        talk.ask(questions.malformed(evidence.model))
        talk.ask(questions.other_schemes(evidence.model, talk.token))


def ask_forged(talk: Conversation) -> None:
    evidence, jwt = talk.evidence, read_jwt(talk.token)
    model = evidence.model
    if jwt is None:
        talk.ask(questions.with_forged("api_key", model, forged_tokens.from_key(talk.token)))
        return
    keys: list[dict[str, Any]] = []
    if talk.run.wants("hmac") and not evidence.stopped:
        keys = find_public_keys(talk.run, talk.asker.wire, jwt)[:MAX_KEYS]
    evidence.public_keys = len(keys)
    evidence.has_key_pair = str(jwt.header.get("alg"))[:2] in ("RS", "PS", "ES", "Ed")
    second = talk.identities.find(ADMIN).token if evidence.has_binary else None
    source = forged_tokens.Source(jwt, read_jwt(second or ""))
    forged = forged_tokens.from_jwt(source, keys)
    for group in FORGED:
        of_group = [each for each in forged if each.group == group]
        talk.ask(questions.with_forged(group, model, of_group))
    is_open = {each.name for each in evidence.of("no_credentials") if each.is_accepted}
    talk.ask(questions.forged_elsewhere(jwt, evidence.models_to_guard[1:], is_open))


def ask_roles(talk: Conversation) -> None:
    evidence = talk.evidence
    if evidence.no_classes:
        return
    for name, role in ROLES.items():
        if not talk.run.wants(name):
            continue
        identity = evidence.identities[name]
        if evidence.has_binary and not identity.reason:  # some tokens live for seconds
            identity = evidence.identities[name] = talk.identities.find(role, fresh=True)
        if identity.token:
            models = roles.models_to_try(role, evidence.models, NAMED)
            talk.ask(questions.of_role(name, identity.token, models), 1)
    # A runner may have come meanwhile: only a role that is told so twice is at a disadvantage.
    again = [each.question for each in evidence.exchanges if is_treated_worse(evidence, each)]
    talk.ask(again, 1)


def ask_around(talk: Conversation) -> None:
    """Ask without a credential in every other way, after all that needs a verdict more: so many
    refusals may end in a rate limit."""
    evidence, args = talk.evidence, talk.run.args
    controls = [each.answer_ms or 0.0 for each in evidence.of(CONTROL)]
    patience_s = max(LEAST_PATIENCE_S, PATIENCE * max(controls) / 1e3)
    within_s = min(0.9 * args.timeout, patience_s)  # before it counts as a silent server
    page = evidence.find("no_credentials", api.RUNNERS)
    has_admin = page is not None and page.status in questions.DENIALS
    ways = questions.other_spellings(
        evidence.model, talk.asker.wire.target, known_user(talk.token), has_admin, within_s
    )
    ways[ENDPOINTS] = questions.other_endpoints(evidence.model, within_s)
    for groups in (WAYS_AROUND, (ENDPOINTS,)):
        wanted = [group for group in groups if is_wanted(args, group)]
        for group in wanted:
            # after a body that a method should not have, the next request may be misread
            talk.ask(ways[group], keep_alive=group != "other_methods", alone=False)
            ask_busy_again(talk, group)
        if wanted:
            ask_control(talk)


def known_user(token: str) -> str | None:
    """The name of the user in a JWT, if it can stand in a header."""
    user = (claims(token) or {}).get("sub")
    can_stand = isinstance(user, str) and user.isascii() and user.isprintable() and user.strip()
    return user[:USER_LENGTH] if can_stand and isinstance(user, str) else None


def ask_busy_again(talk: Conversation, group: str) -> None:
    """One by one: a proxy's limit answers 503 to too many requests at once."""
    if busy := [each.question for each in talk.evidence.of(group) if each.is_busy]:
        time.sleep(WAIT_S)
        talk.ask(busy, 1, alone=False)


def read_cost(talk: Conversation, since: Sequence[Exchange]) -> None:
    """What the log tells of the refusals among these exchanges."""
    sent = [each for each in since if each.answer.path == chat.COMPLETIONS]
    refused = [each for each in sent if each.status in questions.INVALID]
    served = [each for each in sent if each.is_accepted]
    talk.evidence.cost.finish(len(refused), len(served))


# --- judge


def check_control(evidence: Evidence) -> Check:
    """The valid credential is served before, between and after the other requests."""
    controls, stopped = evidence.of(CONTROL), evidence.stopped
    failed = next((each for each in controls if not each.completes), None)
    facts = {"model": evidence.model, "answer_ms": [each.answer_ms for each in controls]}
    if failed and not failed.answer.is_rate_limited:
        check = failed_control(evidence, failed)
        check.evidence = facts
        return check
    if stopped and not evidence.exchanges and stopped.cause is not Cause.RATE_LIMIT:
        return Check(CONTROL, Status.FAIL, stopped.text)  # a server that hangs or floods
    if not controls or (stopped and len(controls) < CONTROLS):
        return undecided(CONTROL, f"not decided: {stopped}")
    times = ", ".join(f"{each.answer_ms:.1f}" for each in controls if each.answer_ms)
    when = "before, between and after" if len(controls) >= CONTROLS else "before and after"
    detail = f"{evidence.model} for {evidence.who}: {len(controls)} x 200 in {times} ms"
    return Check(CONTROL, Status.PASS, f"{detail}, {when} the other requests", facts)


def failed_control(evidence: Evidence, failed: Exchange) -> Check:
    who, model = evidence.who, evidence.model
    if evidence.has_expired:
        return undecided(CONTROL, "the token expired during the run: use a fresh one")
    if failed is evidence.of(CONTROL)[0]:
        late = "; try --timeout 180 if a machine has to wake first"
        said = "200, but no chat completion" if failed.status == 200 else failed.said
        what = "gets no answer from" if failed.error else "is refused"
        hint = late if failed.error == "timeout" else ""
        return Check(CONTROL, Status.FAIL, f"{who} {what} {model}: {said}{hint}")
    groups = (*REFUSED, *OPTIONAL_FORMS, *WAYS_AROUND, ENDPOINTS)
    bad = sum(each.group in groups for each in evidence.exchanges)
    detail = f"{who} was served {model} before, but no longer after {bad} other requests: "
    before = evidence.exchanges[: evidence.exchanges.index(failed)]
    if failed.status == 403 and any(each.group in WAYS_AROUND for each in before):
        hint = "; a firewall may have locked this machine out for unusual paths and headers: leave "
        hint += f"them out with --skip {' '.join(WAYS_AROUND)} {ENDPOINTS}"
        return undecided(CONTROL, detail + failed.said + hint)
    return Check(CONTROL, Status.FAIL, detail + failed.said)


def why_no_verdict(name: str, evidence: Evidence) -> str | None:
    """Why refusals of a group mean nothing; None when they do."""
    asked = evidence.of(name)
    if asked and evidence.is_confirmed(name):
        return None
    if evidence.stopped:
        return f"not decided: {evidence.stopped}"
    if not asked and evidence.is_open:
        return "not asked: anybody is let in without a credential"
    if not asked:
        return "not asked: the valid credential is no longer served"
    return f"{len(asked)} refusals prove nothing: the valid credential is no longer served"


def check_refused(name: str, evidence: Evidence) -> Check:
    """All of these are refused, and in a way that tells a client what is wrong."""
    if name == "api_key" and evidence.is_jwt:
        return skip(name, "the credential is a JWT, not an opaque key")
    if name in FORGED and not evidence.is_jwt:
        return skip(name, "the credential is an opaque API key: there is no JWT to forge from")
    asked = evidence.of(name)
    facts = variants(asked)
    if accepted := [each for each in asked if each.is_accepted]:
        count = f"{len(accepted)} of {len(asked)} variants accepted"
        return Check(name, Status.FAIL, f"{count}: {named(accepted)}: {ADVICE[name]}", facts)
    if wrong := refused_wrongly(name, evidence):
        allowed = ", ".join(map(str, sorted(wrong[0].question.allowed)))
        detail = f"{len(asked)} variants, none accepted, but {len(wrong)} not answered with one "
        return Check(name, Status.FAIL, f"{detail}of {allowed}: {named(wrong)}", facts)
    if reason := why_no_verdict(name, evidence):
        return undecided(name, reason)
    if silent := [each for each in asked if each.says_nothing]:
        detail = f"{len(silent)} of {len(asked)} variants not decided: {named(silent)}"
        return undecided(name, detail)
    detail = f"{len(asked)} variants refused, none accepted: {counted(asked)}"
    if name == "hmac" and not evidence.public_keys and evidence.has_key_pair:
        why = "no JWKS was found, so no public key was tried as the secret"
        return skip(name, f"not decided: {detail}; {why}", facts)
    return Check(name, Status.PASS, detail, facts)


def refused_wrongly(name: str, evidence: Evidence) -> list[Exchange]:
    """Those that were neither let in nor refused as they should be."""
    told = [each for each in evidence.of(name) if not each.says_nothing]
    wrong = [each for each in told if not (each.is_refused or each.is_accepted)]
    is_cut_off = evidence.is_cut_off and evidence.exchanges[-1].error in questions.NOT_SENT
    if not wrong or not is_cut_off or evidence.is_confirmed(name):
        return wrong
    return [each for each in wrong if each.error is None]  # the others were cut off with all else


def check_form(name: str, evidence: Evidence) -> Check:
    """A form of the credential is accepted or not: an operator would want to know."""
    asked, must_accept = evidence.of(name), name in ACCEPTED_FORMS
    facts, (good, bad) = variants(asked), ("accepted", "refused")
    if not must_accept:
        good, bad = bad, good
    silent = [each for each in asked if each.says_nothing]
    told = [each for each in asked if not each.says_nothing]
    proper = [each for each in told if each.is_refused or each.error is None]
    if broken := [each for each in told if each not in proper or (each.status or 0) >= 500]:
        return Check(name, Status.FAIL, f"no proper answer: {named(broken)}", facts)
    odd = [each for each in told if each.is_accepted != must_accept]
    if odd and (odd[0].is_accepted or evidence.is_confirmed(name)):
        # Nothing but the token may be in the header: RFC 7519, section 7.2; RFC 6750, section 2.1.
        status = Status.FAIL if name == "trailing_text" else Status.WARN
        return Check(name, status, f"{bad}: {named(odd)}: {ADVICE[name]}", facts)
    if reason := why_no_verdict(name, evidence):
        return undecided(name, reason)
    if silent:
        return undecided(name, f"not decided: {named(silent)}")
    return Check(name, Status.PASS, f"{good}: {counted(asked)}", facts)


# what is had without a credential in another way


def latest(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """The last one with each name: a busy server was asked again."""
    return list({each.name: each for each in exchanges}.values())


def check_way_around(name: str, evidence: Evidence) -> Check:
    """Another spelling of a request brings nothing that the plain one needs a credential for."""
    asked = latest(evidence.of(name))
    let_in = [each for each in asked if each.reaches]
    facts = {"let_in": [each.name for each in let_in], **variants(asked)}
    if let_in:
        detail = f"{len(let_in)} of {len(asked)} variants let in without a credential: "
        return Check(name, Status.FAIL, f"{detail}{named(let_in)}: {ADVICE[name]}", facts)
    if reason := why_undecided(name, evidence):
        return undecided(name, reason, facts)
    detail = f"{len(asked)} variants without a credential, none let in: {counted(asked)}"
    return Check(name, Status.PASS, detail, facts)


def why_undecided(name: str, evidence: Evidence) -> str | None:
    """Why it does not mean anything that nobody was let in; None when it does."""
    if reason := why_no_verdict(name, evidence):
        return reason
    asked = latest(evidence.of(name))
    if silent := [each for each in asked if each.says_nothing]:
        return f"{len(silent)} of {len(asked)} variants not decided: {named(silent)}"
    return None


def check_endpoints(name: str, evidence: Evidence) -> Check:
    """The endpoints that engines have beside OpenAI's want the credential as well."""
    asked = latest(evidence.of(name))
    found = engine_endpoints.findings({each.name: each.seen for each in asked})
    facts = {"working": found.working, "telling": found.telling, "leaks": evidence.leaks}
    facts |= {"body_refused": [each.name for each in asked if each.status in (400, 422)]}
    open_ones = [*found.working, *(f"{each} ({what})" for each, what in found.telling.items())]
    listed = "; ".join(open_ones[:MAX_NAMED])
    listed += f"; and {len(open_ones) - MAX_NAMED} more" if len(open_ones) > MAX_NAMED else ""
    if evidence.leaks:
        which = ", ".join(evidence.leaks[:MAX_NAMED])
        return Check(name, Status.FAIL, f"the valid credential is shown to anybody: {which}", facts)
    if open_ones:
        status = Status.FAIL if found.working else Status.WARN
        what = "a model works" if found.working else "something is told"
        detail = f"{what} without a credential: {listed}: {ADVICE[name]}"
        return Check(name, status, detail, facts)
    if reason := why_undecided(name, evidence):
        return undecided(name, reason, facts)
    detail = f"{len(asked)} endpoints of engines, none of them works or tells anything without "
    detail += f"a credential: {counted(asked)}"
    if found.has_figures:
        detail += f"; {engine_endpoints.METRICS} is open, and has figures of no single client"
    return Check(name, Status.PASS, detail, facts)


# what a role may do


def late(exchanges: Sequence[Exchange]) -> str | None:
    """The words for answers that did not come in time: these are not refusals."""
    if slow := [each for each in exchanges if each.error == "timeout"]:
        return f"no answer in time: {named(slow)}; try --timeout 180 if a model has to load first"
    return None


def judge_classes(asked: Sequence[Exchange], evidence: Evidence, role: str) -> Finding:
    """Every authenticated user may use the classes."""
    failed = [each for each in asked if not each.completes]
    if not failed:
        return Finding(Status.PASS, f"{' and '.join(CLASSES)}: 200")
    odd = [each for each in failed if is_treated_worse(evidence, each)]
    if all(each.lacks_runner for each in failed) and not odd:
        return Finding(Status.SKIP, f"no runner has it: {named(failed)}")
    others = "; other roles are served the class" if odd else ""
    refused = f"the {role} role is refused {named(failed)}{others}"
    return Finding(Status.FAIL, late(failed) or refused)


def judge_models(asked: Sequence[Exchange], evidence: Evidence, role: str) -> Finding:
    """The role model:specific may ask for any model that is listed."""
    failed = [each for each in asked if not each.completes]
    if not failed:
        served = ", ".join(shorten(each.name, MODEL_LENGTH) for each in asked)
        return Finding(Status.PASS, f"{served}: 200")
    hint = f"; {evidence.models_problem}" if evidence.models_problem else ""
    refused = f"refused although the token has the role {SPECIFIC}: {named(failed)}{hint}"
    return Finding(Status.FAIL, late(failed) or refused)


def judge_no_models(asked: Sequence[Exchange], evidence: Evidence, role: str) -> Finding:
    """Without the role no model may be asked for by its name."""
    first, model = asked[0], shorten(asked[0].name, MODEL_LENGTH)
    if first.is_accepted:
        return Finding(Status.FAIL, f"{model} is served to a user without the role {SPECIFIC}")
    if first.answer.is_denied:
        return Finding(Status.PASS, f"{model} refused: {first.said}")
    said = f"asked for {model}: {first.said}"
    return Finding(Status.FAIL, f'{said}, expected 400 with "permission" or 403')


def judge_admin_model(asked: Sequence[Exchange], evidence: Evidence, role: str) -> Finding:
    """A model by its name, for an admin: the guide and the gateway do not agree on this."""
    first, model = asked[0], shorten(asked[0].name, MODEL_LENGTH)
    if first.completes:
        return Finding(Status.PASS, f"{model}: 200")
    if first.answer.is_denied and not evidence.identities[role].tells(SPECIFIC):
        text = f"{model} refused to the admin role ({first.said}), but {FULL_ACCESS}"
        return Finding(Status.WARN, text)
    return Finding(Status.FAIL, late(asked) or f"{model}: {first.said}")


def is_absent(found: Exchange) -> bool:
    """Whether there is no such endpoint, or a web page with a login of its own."""
    return found.status == 404 or found.is_page or found.status in questions.REDIRECTS


def judge_admin_api(asked: Sequence[Exchange], evidence: Evidence, role: str) -> Finding:
    failed = [each for each in asked if not each.is_accepted]
    if not failed:
        return Finding(Status.PASS, counted(asked))
    if all(map(is_absent, failed)):
        return Finding(Status.SKIP, f"there is no admin API: {named(failed)}")
    return Finding(Status.FAIL, f"refused to the admin role: {named(failed)}")


def judge_no_admin_api(asked: Sequence[Exchange], evidence: Evidence, role: str) -> Finding:
    """Nobody else may use it."""
    if opened := [each for each in asked if each.is_accepted]:
        return Finding(Status.FAIL, f"open to a token without the role {ADMIN}: {named(opened)}")
    refused = [each for each in asked if each.status in questions.DENIALS or each.answer.is_denied]
    if wrong := [each for each in asked if each not in refused and not is_absent(each)]:
        return Finding(Status.FAIL, f"{named(wrong)}, expected 401 or 403")
    if not refused:
        return Finding(Status.SKIP, f"there is no admin API: {named(asked)}")
    return Finding(Status.PASS, f"refused: {counted(asked)}")


Judge = Callable[[Sequence[Exchange], Evidence, str], Finding]
RIGHTS: Mapping[str, Mapping[str, Judge]] = {
    "user": {"classes": judge_classes, "models": judge_no_models, "admin_api": judge_no_admin_api},
    "specific": {"classes": judge_classes, "models": judge_models, "admin_api": judge_no_admin_api},
    "admin": {"classes": judge_classes, "models": judge_admin_model, "admin_api": judge_admin_api},
}


def check_role(name: str, evidence: Evidence) -> list[Check]:
    identity = evidence.identities[name]
    if identity.reason:
        return [Check(name, Status.SKIP, identity.reason, essential=evidence.has_binary)]
    if evidence.no_classes:
        said = f"{CLASSES[0]}: {evidence.no_classes}"
        return [skip(name, f"this server has no classes and roles ({said})")]
    if not evidence.of(name):
        reason = evidence.stopped or "the valid credential is no longer served"
        return [undecided(name, f"not asked: {reason}")]
    has_both_roles = identity.tells(ADMIN) and name != "admin"
    rights = [right for right in RIGHTS[name] if right != "admin_api" or not has_both_roles]
    return [check_right(name, right, evidence) for right in rights]


def check_right(role: str, right: str, evidence: Evidence) -> Check:
    """The verdict on one right of a role, when there are answers to judge."""
    name = f"{role}:{right}"
    names = {"classes": CLASSES, "models": evidence.models, "admin_api": questions.ADMIN_PAGES}
    found = [evidence.find(role, each) for each in names[right]]
    asked = [each for each in found if each is not None]
    silent = [each for each in asked if each.says_nothing]
    if silent or not asked:
        said = named(silent) if silent else evidence.models_problem
        reason = evidence.stopped or said or f"{chat.MODELS} lists no model to ask for"
        return undecided(name, f"not decided: {reason}")
    finding = RIGHTS[role][right](asked, evidence, role)
    statuses = {each.name: each.status or each.error for each in asked}
    return merge(name, [finding], evidence=statuses)


# what refusals tell, and what they cost


def refusals(evidence: Evidence) -> list[Exchange]:
    """What was not let in, without a valid credential or without a role."""
    groups = (*REFUSED, *OPTIONAL_FORMS, *ROLES)
    tried = [each for each in evidence.exchanges if each.group in groups]
    return [each for each in tried if not (each.is_accepted or each.says_nothing or each.error)]


def check_echo(evidence: Evidence) -> Check:
    """A refusal does not repeat what was sent: it ends up in logs and on screens."""
    asked = [each for each in refusals(evidence) if each.question.request.secret]
    if not asked:
        return skip("echo", "no credential was refused")
    # A header that is not allowed in HTTP is refused by the server's HTTP library, before anything
    # of the deployment sees it; aiohttp's shows it to the client.
    if echoes := [each for each in asked if each.is_echo and not each.question.may_close]:
        which = [f"{each.group}, {each.name} ({each.status})" for each in echoes[:MAX_NAMED]]
        detail = f"{len(echoes)} of {len(asked)} refusals repeat the credential, such as: "
        shown = (each.answer for each in echoes)
        return Check("echo", Status.FAIL, detail + ", ".join(which)).shown_by(shown)
    return Check("echo", Status.PASS, f"none of {len(asked)} refusals repeats the credential")


def check_cost(evidence: Evidence) -> Check:
    """A refusal takes no place in a queue and wakes no machine."""
    name, cost = "cost", evidence.cost
    if evidence.woken:
        names = shorten(", ".join(evidence.woken), NAME_LENGTH)
        detail = f"all runners slept; requests without a valid credential have woken {names}"
        return Check(name, Status.WARN, detail, {"woken": evidence.woken})
    if count := len(cost.charged):
        examples = ", ".join(dict.fromkeys(cost.charged[:MAX_NAMED]))
        detail = f"{plural(count, 'refusal')} in the request log reached a runner: {examples}"
        return Check(name, Status.WARN, detail, {"charged": count})
    if count := cost.unserved:
        detail = f"{count} entries of the request log have a runner, but were not served: "
        detail += "as many as half of the refusals, or more"
        return Check(name, Status.WARN, detail, {"unserved": count})
    if cost.problem and not evidence.was_asleep:
        return skip(name, f"the request log cannot be read: {cost.problem}")
    if not refusals(evidence):
        return skip(name, "nothing was refused")
    none = "none of them in the request log reached a runner, or sent a packet to wake one"
    parts = [] if cost.problem else [none]
    parts += ["no runner was woken"] if evidence.was_asleep else []
    return Check(name, Status.PASS, f"{spent(evidence)}: {'; '.join(parts)}")


def refusal_times(evidence: Evidence) -> list[float]:
    return [each.answer_ms for each in refusals(evidence) if each.answer_ms is not None]


def spent(evidence: Evidence) -> str:
    times = refusal_times(evidence)
    if not times:
        return "0 refusals"
    count, middle = plural(len(times), "refusal"), statistics.median(times)
    return f"{count} in {middle:.1f} ms (median; the slowest {max(times):.1f} ms)"


def judge(evidence: Evidence) -> list[Check]:
    control = check_control(evidence)
    controls = evidence.of(CONTROL)
    if not controls or not controls[0].completes:
        why = f" ({controls[0].said})" if controls else ""
        reason = f"not asked: the valid credential is not served{why}, so a refusal means nothing"
        others = [skip(name, reason) for name in CHECKS if name != CONTROL]
        return with_answers([control, *others], lambda name: behind(name, evidence))
    checks = [control, *(check_refused(name, evidence) for name in REFUSED)]
    checks += [check_form(name, evidence) for name in OPTIONAL_FORMS]
    checks += [check_way_around(name, evidence) for name in WAYS_AROUND]
    checks.append(check_endpoints(ENDPOINTS, evidence))
    for name in ROLES:
        checks += check_role(name, evidence)
    checks += [check_echo(evidence), check_cost(evidence)]
    return with_answers(checks, lambda name: behind(name, evidence))


# --- show


def metrics(evidence: Evidence) -> dict[str, Any]:
    times = refusal_times(evidence)
    return {
        "credential": "jwt" if evidence.is_jwt else "api_key",
        "requests": len(evidence.exchanges),
        "refusals": len(refusals(evidence)),
        "refusal_ms_p50": round(statistics.median(times), 3) if times else None,
        "refusal_ms_max": max(times, default=None),
        "control_ms": [each.answer_ms for each in evidence.of(CONTROL)],
        "public_keys": evidence.public_keys,
    }


def lines(evidence: Evidence, url: str) -> list[str]:
    """Who was given what: a row for each role, a column for what was asked for."""
    rows = [shorten(f"Asked {url}: {len(evidence.exchanges)} requests", 80)]
    asked_as = [role for role in ROLES if evidence.of(role)]
    columns = [*CLASSES, evidence.models[0] if evidence.models else "a model", api.RUNNERS]
    if asked_as:
        heads = "".join(f"  {shorten(each, 15):>15}" for each in columns)
        rows += ["", f"  {'':8}{heads}"]
    for role in asked_as:
        found = [evidence.find(role, name) for name in columns]
        cells = [str(each.status or each.error) if each else "-" for each in found]
        rows.append(f"  {role:8}" + "".join(f"  {cell:>15}" for cell in cells))
    return rows


def shown(checks: Sequence[Check]) -> list[Check]:
    """The checks for the screen: those in a row that were skipped for one reason on one line."""
    groups = itertools.groupby(checks, key=operator.attrgetter("status", "detail"))
    alike = [list(group) for _, group in groups]
    return [replace(each[0], name=", ".join(check.name for check in each)) for each in alike]


# --- main


def measure(run: Run) -> None:
    document, identities = run.document("auth"), Identities(run)
    token = identities.token()
    with asking.open_wire(run) as wire:
        admin = api.Admin(run, wire, identities)
        found = {name: identities.known(role) for name, role in ROLES.items()}
        evidence = Evidence(read_jwt(token) is not None, found, identities.can_make)
        run.target["model"] = evidence.model
        talk = Conversation(Asker(run, wire, reason_to_stop), identities, admin, token, evidence)
        try:
            ask_all(talk)
        finally:
            run.target["model"] = evidence.model
            document.requests = [each.record() for each in evidence.exchanges]
            document.metrics = metrics(evidence)
    document.add(*judge(evidence))
    run.show(lines(evidence, run.url), shown(document.checks))


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
