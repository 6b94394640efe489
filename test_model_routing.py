#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Is every request answered by the model that it asked for, and by no other?

It asks for classes (class:fast, class:big) and for models by their names, streamed and not, and
reads in the answers which model each came from. Then it asks for a model and for a class that do
not exist. With --test-permissions it also asks with the token of a user without roles, with one of
model:specific and with one of admin.

PASS: a class is answered by a model that is listed, the two classes are answered by different
models, a name is answered by that model, and what does not exist is refused.
Cost: 6 requests for each model, 4 that must fail, and up to 22 for the roles, one after the other,
with answers of at most 32 tokens. It wakes sleeping runners, and models may have to be loaded.

Examples:
    # both classes
    python3 test_model_routing.py --token-binary ./get-token
    # one of them, with one token
    python3 test_model_routing.py --model class:fast --token YOUR_TOKEN
    # a model by its name: the token binary is asked for the role model:specific
    python3 test_model_routing.py --model llama3:8b --token-binary ./get-token
    # the same, where its runner calls the model something else
    python3 test_model_routing.py --model llama3:8b --token-binary ./get-token \\
        --alias llama3:8b=llama3-8b-q4.gguf
    # who may ask for what
    python3 test_model_routing.py --test-permissions --token-binary ./get-token
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import contextlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import common
from common import CannotCheck, Check, NoAccess, Run, Status
from livecheck.core.checks import skip, telling, undecided, with_answers
from livecheck.core.json_value import quoted
from livecheck.core.text import duration, listed, plural, shorten
from livecheck.fleet import api, roles
from livecheck.fleet.api import ADMIN_PATHS, CLASSES
from livecheck.fleet.findings import Finding, merge
from livecheck.fleet.model_answers import SHOWN_LENGTH, Exchange, Listing, Question
from livecheck.fleet.plans import ANSWER_TOKENS, MAX_MODELS, ROUNDS, plan_model_routing
from livecheck.fleet.roles import ADMIN, BASIC, SPECIFIC, Identities, in_words, is_concrete
from livecheck.wire import access, asking, chat, form, notices
from livecheck.wire.answer import Answer
from livecheck.wire.asking import COSTLY, Asker, Cause, Stop
from livecheck.wire.wire import Request

PROMPT = "Say yes."
UNKNOWN_MODEL = "no-such-model:0b"
UNKNOWN_CLASS = "class:no-such-class"
# what a question is for, unless it is for one of the roles
ROUTING, CONTROL, UNKNOWN = "routing", "control", "unknown"
NO_ROLE = "none"
ROLES = {NO_ROLE: BASIC, SPECIFIC: SPECIFIC, ADMIN: ADMIN}
ROLE_CHECKS = {NO_ROLE: "role_none", SPECIFIC: "role_specific", ADMIN: "role_admin"}
ROLES_OF_CHECKS = {check: role for role, check in ROLE_CHECKS.items()} | {"full_access": ADMIN}
ROUTING_CHECKS = ("class", "classes_differ", "model", "listing", "stream", form.NAME)
UNKNOWN_CHECKS = {"unknown_model": UNKNOWN_MODEL, "unknown_class": UNKNOWN_CLASS}
CHECKS = (*ROUTING_CHECKS, *UNKNOWN_CHECKS, *ROLE_CHECKS.values(), "full_access")
STOPPING = (Cause.RATE_LIMIT, Cause.UNREACHABLE, *COSTLY)
SHOWN_MODELS = 6  # in a line
NO_ADMIN_API = (404, 405, 501)  # statuses of a path that nobody serves
NO_MODEL = "no model is listed to ask for by name"
WIDTH = 80  # characters of a line


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, 60, plan=plan_model_routing)
    add = parser.add_argument_group("what to check").add_argument
    add("--model", type=roles.model_option, metavar="MODEL", help="class or model to ask for")
    several = "several classes or models (default class:fast class:big)"
    add("--models", type=roles.model_option, nargs="+", default=[], metavar="MODEL", help=several)
    add("--test-permissions", action="store_true", help="also check who may ask for what")
    alias = "name that the answers to ASKED carry (repeatable)"
    repeated: dict[str, Any] = {"action": "append", "default": []}
    add("--alias", type=alias_option, metavar="ASKED=ANSWERED", help=alias, **repeated)
    return parser


def alias_option(text: str) -> tuple[str, str]:
    asked, _, answered = (part.strip() for part in text.partition("="))
    if not (asked and answered):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not an alias: write ASKED=ANSWERED")
    return asked, answered


# --- measure


@dataclass
class Evidence:
    """All that was asked and answered. `stopped` says why the rest was not asked."""

    asked: list[str]
    aliases: dict[str, list[str]] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    listing: Listing = field(default_factory=Listing)
    no_token: dict[str, str] = field(default_factory=dict)  # for a model or role, and why
    stopped: Stop | None = None

    def find(self, part: str, *asked: str) -> list[Exchange]:
        """The exchanges of a part; all of them when nothing is named."""
        of_part = [each for each in self.exchanges if each.question.part == part]
        return [each for each in of_part if not asked or each.asked in asked]

    def by_name(self, role: str) -> list[Exchange]:
        """Those of a role that asked for a model by its name."""
        found = [each for each in self.find(role) if not each.question.is_path]
        return [each for each in found if is_concrete(each.asked)]

    @property
    def is_served(self) -> bool:
        """Whether anything was answered: a refusal means nothing where everything is refused."""
        return any(each.is_answered and not each.question.is_path for each in self.exchanges)

    def of_credential(self, credential: int) -> list[Exchange]:
        return [each for each in self.exchanges if each.question.credential == credential]

    def is_token_refused(self, found: Exchange) -> bool:
        """Whether a 401 may only say that the token is not valid, or not any more: it was accepted
        before and never since, or no token of the run was ever accepted."""
        same = self.of_credential(found.question.credential)
        if not any(each.accepts_token for each in same):
            return not any(each.accepts_token for each in self.exchanges)
        refused = next((at for at, each in enumerate(same) if each.status == 401), 0)
        return not any(each.accepts_token for each in same[refused:])

    def is_thinker(self, asked: str) -> bool:
        """Whether a whole answer of the model was nothing but reasoning that is not shown."""
        of_model = [each for each in self.exchanges if each.asked == asked]
        return any(each.is_hidden and not each.answer.wants_stream for each in of_model)

    @property
    def classes(self) -> list[str]:
        return [model for model in self.asked if not is_concrete(model)]

    @property
    def names(self) -> list[str]:
        return [model for model in self.asked if is_concrete(model)]

    def listed_as(self, model: str) -> str | None:
        """The listed name of the model that an answer names."""
        names = [model, *(asked for asked, others in self.aliases.items() if model in others)]
        return next((name for name in names if name in self.listing.known), None)

    @property
    def to_name(self) -> list[str]:
        """Models to ask for by name, those first that are known to answer."""
        answered = [each.model for each in self.exchanges if each.model and each.is_answered]
        known = [name for name in map(self.listed_as, answered) if name]
        return list(dict.fromkeys([*known, *self.listing.for_chat, *self.names]))


class Conversation:
    """One run's questions, one after the other, and what they brought."""

    def __init__(self, asker: Asker, identities: Identities, evidence: Evidence):
        self.run, self.asker = asker.run, asker
        self.identities, self.evidence = identities, evidence
        self._sent: dict[str, int] = {}  # each credential, and which one it is

    def list_models(self) -> None:
        request = chat.with_credential(chat.get(chat.MODELS), self.identities.token())
        for answer in self.asker.ask([request]):
            self.evidence.listing.read(answer)
        self.evidence.stopped = self.asker.stopped

    def complete(self, part: str, token: str, model: str, stream: bool) -> Exchange | None:
        """Ask for a completion. The prompt is new: an answer from a cache would ask no model."""
        prompt = chat.unique(PROMPT)
        return self.ask(part, token, model, chat.completion(model, prompt, ANSWER_TOKENS, stream))

    def ask(self, part: str, token: str, asked: str, request: Request) -> Exchange | None:
        """Send a request, and keep the answer, also when interrupted. None when nothing more is to
        be sent."""
        request, told = chat.with_credential(request, token), roles.roles_in(token)
        number = self._sent.setdefault(token, len(self._sent))
        question = Question(part, asked, None if told is None else sorted(told), number)
        evidence, before = self.evidence, len(self.evidence.exchanges)

        def name(answer: Answer) -> str:
            return f"{asked}{', streamed' if answer.wants_stream else ''}, with {in_words(told)}"

        def keep(answers: list[Answer]) -> None:
            thinks = evidence.is_thinker(asked)
            found = [Exchange(question, answer, thinks) for answer in answers]
            evidence.exchanges += found
            for each in found:
                each.settle()

        for answer in self.asker.ask([request], keep=keep, name=name):
            if part == UNKNOWN and answer.timed_out:  # held while runners are woken for it?
                self.asker.stopped = None
        evidence.stopped = self.asker.stopped
        return evidence.exchanges[-1] if len(evidence.exchanges) > before else None

    def token_for(self, model: str) -> str | None:
        """The token to ask for this model with; None when there is none: the evidence says why."""
        try:
            return self.identities.token_for(model)
        except CannotCheck as error:
            self.evidence.no_token[model] = str(error)
            return None


reason_to_stop = partial(asking.reason_to_stop, causes=STOPPING)


def ask_for(talk: Conversation, model: str) -> None:
    """Ask for a model in rounds; no further round once one has brought no answer at all."""
    if (token := talk.token_for(model)) is None:
        return
    for _ in range(ROUNDS):
        got = [talk.complete(ROUTING, token, model, stream) for stream in (False, True)]
        if not any(each and each.is_answered for each in got):
            return


def ask_control(talk: Conversation) -> None:
    """If nothing was answered until now, ask for models that probably exist, until one answers."""
    evidence, tried = talk.evidence, {each.asked for each in talk.evidence.exchanges}
    for model in dict.fromkeys([*evidence.asked, *CLASSES, *evidence.listing.for_chat[:1]]):
        if evidence.is_served:
            return
        with contextlib.suppress(CannotCheck):
            if model not in tried:
                talk.complete(CONTROL, talk.identities.token_for(model), model, stream=False)


def ask_for_unknown(talk: Conversation, model: str) -> None:
    """Ask for what does not exist, whole and streamed; once when it is held until the timeout."""
    ask_control(talk)
    if (token := talk.token_for(model)) is None:
        return
    for stream in (False, True):
        found = talk.complete(UNKNOWN, token, model, stream)
        if found is None or found.answer.timed_out:
            return


def ask_as(talk: Conversation, name: str) -> None:
    """What a role is tried with: both classes, models by their names, the admin API."""
    role, evidence = ROLES[name], talk.evidence
    identity = talk.identities.find(role)
    reason = identity.reason or reason_against(talk, identity)
    if reason or not identity.token:
        evidence.no_token[name] = reason or "there is no token"
        return
    for model in (*CLASSES, *roles.models_to_try(role, evidence.to_name, MAX_MODELS)):
        talk.complete(name, identity.token, model, stream=False)
    for path in ADMIN_PATHS:
        talk.ask(name, identity.token, path, chat.get(path))


def reason_against(talk: Conversation, identity: roles.Identity) -> str | None:
    """Why a token that does not tell its roles is not taken for the role that was asked for."""
    if identity.roles is not None:
        return None
    args = talk.run.args
    if identity.role is BASIC and (args.token is not None or not args.token_binary):
        return "the token says nothing about roles: use --token-binary"
    alike = "the tokens of the token binary are alike, whatever the role"
    return alike if talk.identities.are_alike() else None


def ask_all(talk: Conversation) -> None:
    """Everything that is to be asked, and the list of models again: runners may have woken."""
    run = talk.run
    tasks: list[tuple[Callable[[Conversation, str], None], str]] = []
    if any(map(run.wants, ROUTING_CHECKS)):
        tasks += [(ask_for, model) for model in talk.evidence.asked]
    wanted = [model for check, model in UNKNOWN_CHECKS.items() if run.wants(check)]
    tasks += [(ask_for_unknown, model) for model in wanted]
    label = f"asking for {', '.join(what for _, what in tasks) or 'the list of models'}"
    with run.progress(shorten(label, WIDTH), len(tasks) + 1) as step:
        for task, what in tasks:
            task(talk, what)
            step()
            found = talk.evidence.exchanges
            if {each.status for each in found} == {401}:  # every answer until now
                raise NoAccess(access.refused_credential(run, found[0].answer))
        talk.list_models()
        step()
    names = [name for name, check in ROLE_CHECKS.items() if run.wants(check)]
    if run.wants("full_access") and ADMIN not in names:
        names.append(ADMIN)
    if names and run.args.test_permissions:
        with run.progress("asking as each role", len(names)) as step:
            for name in names:
                ask_as(talk, name)
                step()
    expect_access(talk)


def expect_access(talk: Conversation) -> None:
    """CannotCheck when nothing was answered, and every answer refuses this program. A 403 may be
    about the role alone: then a token with another one is let in, where such a token can be had."""
    evidence, run = talk.evidence, talk.run
    asked = [each for each in evidence.exchanges if not each.question.is_path]
    refused = [each for each in asked if not api.is_about_role(each.answer, each.asked)]
    lines = [access.no_access(run, each.answer) for each in refused]
    if evidence.is_served or not lines or None in lines:
        return
    if talk.identities.can_make and refused[0].status == 403:
        with contextlib.suppress(CannotCheck):
            token = talk.identities.token(ADMIN)
            found = talk.complete(CONTROL, token, refused[0].asked, stream=False)
            if found is None or found.is_answered:
                return
    raise NoAccess(str(lines[0]))


# --- judge


def brief(names: Iterable[str]) -> str:
    """Names of models as one can read them in a line."""
    return listed(list(names), SHOWN_MODELS, SHOWN_LENGTH) or "none"


def hint(found: Exchange) -> str:
    if found.answer.timed_out:
        return "; a runner that has to wake may take longer: try --timeout 180"
    if not found.answer.is_denied:
        return ""
    held = in_words(found.question.roles)
    if not is_concrete(found.asked):
        return f"; any user may ask for a class, the token has {held}"
    if found.may_ask_by_name:
        return f"; but the token has the role {SPECIFIC}"
    return f"; it needs the role {SPECIFIC}, the token has {held}"


def wrong_for_class(found: Exchange, evidence: Evidence) -> str | None:
    """What is wrong with an answer to a class; None when nothing is."""
    if found.problem:
        return found.problem + hint(found)
    if found.model is None:
        return "the answer names no model"
    answered = brief([found.model])
    expected = evidence.aliases.get(found.asked)
    if expected:
        other = f"answered by {answered}, not by {brief(expected)} as --alias says"
        return None if found.model in expected else other
    if not is_concrete(found.model):
        text = f"the answer names {answered}: a class, not the model that was chosen"
        return f"{text}; if a model has that name here, use --alias {found.asked}={found.model}"
    if evidence.listing.names and evidence.listed_as(found.model) is None:
        text = f"answered by {answered}, which is not listed among {brief(evidence.listing.names)}"
        return f"{text}; if that is right, use --alias {brief([found.asked])}={answered}"
    return None


def wrong_for_name(found: Exchange, evidence: Evidence) -> str | None:
    """What is wrong with an answer to a model's name; None when nothing is."""
    if found.problem:
        is_unlisted = evidence.listing.lists and found.asked not in evidence.listing.known
        if is_unlisted and not found.answer.is_denied and found.status not in (None, 401):
            return f"{found.problem}; listed are {brief(evidence.listing.names)}"
        return found.problem + hint(found)
    if found.model is None:
        return "the answer names no model"
    known = (found.asked, *evidence.aliases.get(found.asked, ()))
    other = next((name for name in found.models if name not in known), None)
    if other is None:
        return None
    first = f"{brief([found.model])}, then by " if other != found.model else ""
    asked, answered = brief([found.asked]), brief([other])
    text = f"answered by {first}{answered}"
    return f"{text}; if these are the same, use --alias {asked}={answered}"


Wrong = Callable[[Exchange, Evidence], "str | None"]


def routed(model: str, evidence: Evidence, wrong: Wrong) -> Finding:
    name, whole = brief([model]), 2 * ROUNDS
    if model in evidence.no_token:
        return Finding(Status.SKIP, f"{name}: {evidence.no_token[model]}")
    asked = evidence.find(ROUTING, model)
    refused = [each for each in asked if each.status == 401 and evidence.is_token_refused(each)]
    decided = [each for each in asked if not each.busy and each not in refused]
    told = [(each, wrong(each, evidence)) for each in decided]
    good = [each for each, problem in told if problem is None]
    problems = Counter(problem for _, problem in told if problem)
    if problems:
        words = (f"{n} times {text}" if n > 1 else text for text, n in problems.items())
        count = f"{len(good)} of {len(asked)} good"
        return Finding(Status.FAIL, f"{name}: {count}: {', '.join(words)}")
    by = f" by {brief(dict.fromkeys(each.model or '' for each in good))}" if good else ""
    text = f"{name}: {len(good)} of {len(asked)} answered{by}"
    if not len(good) == len(asked) == whole:
        left = f"{text}, not decided" if asked else f"{name} not asked"
        return Finding(Status.SKIP, f"{left}: {reason_left(asked, evidence)}")
    text += notices.beside([each.answer for each in good], option=None)
    is_hidden = any(each.is_hidden for each in good)
    return Finding(Status.WARN if is_hidden else Status.PASS, text)


def reason_left(asked: Sequence[Exchange], evidence: Evidence) -> str:
    """Why there is no verdict on what was asked, or was not."""
    busy = next((each.busy for each in asked if each.busy), None)
    refused = [each for each in asked if each.status == 401]
    if busy or not refused:
        return busy or str(evidence.stopped or "not asked")
    held = next((in_words(each.question.roles) for each in refused if each.question.roles), None)
    return f"the token{f' with {held}' if held else ''} is refused (401)"


def check_class(evidence: Evidence) -> Check:
    return check_routing("class", evidence, evidence.classes, wrong_for_class)


def check_model(evidence: Evidence) -> Check:
    """The worst fault of a router is to let another model answer, without saying so."""
    return check_routing("model", evidence, evidence.names, wrong_for_name)


def check_routing(name: str, evidence: Evidence, models: Sequence[str], wrong: Wrong) -> Check:
    findings = [routed(model, evidence, wrong) for model in models]
    facts = {model: dict(answers(evidence, model)) for model in models}
    return merge(name, findings, evidence=facts, essential=True)


def answers(evidence: Evidence, model: str) -> Counter[str]:
    """How often which model answered."""
    answered = [each for each in evidence.find(ROUTING, model) if each.is_answered]
    return Counter(each.model or "(no name)" for each in answered)


def check_classes_differ(evidence: Evidence) -> Check:
    """If the same models answer both classes, it makes no difference which class is asked for."""
    name, chat_models = "classes_differ", evidence.listing.for_chat
    found = {model: set(answers(evidence, model)) for model in evidence.classes}
    got = {model: models for model, models in found.items() if models}
    facts = {model: sorted(models) for model, models in got.items()}
    if len(got) < 2:
        return skip(name, "there are no answers to two classes", facts)
    aliases = {model: set(evidence.aliases.get(model, ())) for model in got}
    pairs = [(a, b) for a in got for b in got if a < b and not aliases[a] & aliases[b]]
    shared = [(a, b) for a, b in pairs if got[a] & got[b]]
    count = plural(len(chat_models), "model")
    if shared and len(chat_models) < 2:
        detail = f"/v1/models lists {count} that can chat: the classes cannot differ"
        return skip(name, detail, facts)
    told = [f"{a} and {b} are both answered by {brief(sorted(got[a] & got[b]))}" for a, b in shared]
    if any(got[a] == got[b] for a, b in shared):
        detail = f"{'; '.join(told)}, but /v1/models lists {count}"
        return Check(name, Status.FAIL, detail, facts)
    if shared:
        return Check(name, Status.WARN, f"{'; '.join(told)}, and by others", facts)
    each = (f"{model} by {brief(sorted(models))}" for model, models in got.items())
    return Check(name, Status.PASS, ", ".join(each), facts)


def check_listing(evidence: Evidence) -> Check:
    """An unreadable list is not an empty one. Just after an answer, an empty list is wrong."""
    name, lists = "listing", evidence.listing.lists
    last = lists[-1] if lists else []
    facts = {"models": api.first_names(evidence.listing.names)}
    if evidence.listing.problem is not None:
        return Check(name, Status.FAIL, evidence.listing.problem, facts)
    if not lists:
        return skip(name, f"the list was not read: {evidence.stopped or 'the deployment is busy'}")
    served = [each for each in evidence.find(ROUTING) if each.is_answered]
    if served and not last:
        by = brief([served[-1].model or "a model"])
        detail = f"/v1/models lists nothing, but {by} has just answered"
        return Check(name, Status.FAIL, detail, facts)
    if not last:
        return skip(name, "/v1/models lists nothing, and nothing has answered")
    unlisted = [model for model in evidence.names if is_unlisted(model, evidence)]
    if unlisted:
        detail = f"{brief(unlisted)} can be asked for, but is not listed among {brief(last)}"
        return Check(name, Status.WARN, detail, facts)
    before = f" ({len(lists[0])} at first)" if len(lists[0]) != len(last) else ""
    return Check(name, Status.PASS, f"{plural(len(last), 'model')}{before}: {brief(last)}", facts)


def is_unlisted(model: str, evidence: Evidence) -> bool:
    """Whether a model answers although it is not listed."""
    good = (wrong_for_name(each, evidence) is None for each in evidence.find(ROUTING, model))
    return model not in evidence.listing.known and any(good)


def check_stream(evidence: Evidence) -> Check:
    """Who asks for a stream gets one, and one model answers it from the first chunk to the last."""
    name, answered = "stream", [each for each in evidence.find(ROUTING) if each.is_answered]
    asked = [each for each in answered if each.answer.wants_stream]
    if not asked:
        return skip(name, "no stream was answered")
    whole = [each for each in asked if not each.answer.is_stream]
    mixed = [each for each in asked if len(each.models) > 1]
    facts = {"streams": len(asked), "whole": len(whole), "mixed": len(mixed)}
    if whole:
        detail = f"{len(whole)} of {len(asked)} answers to stream: true came in one piece, as JSON"
        return Check(name, Status.WARN, detail, facts).shown_by(each.answer for each in whole)
    if mixed:
        detail = f"{len(mixed)} of {len(asked)} streams name several models, such as "
        found = Check(name, Status.WARN, detail + brief(mixed[0].models), facts)
        return found.shown_by(each.answer for each in mixed)
    return Check(name, Status.PASS, f"{plural(len(asked), 'stream')}, each by one model", facts)


def check_unknown(name: str, evidence: Evidence) -> Check:
    """What does not exist is refused, with any error."""
    asked = UNKNOWN_CHECKS[name]
    found = evidence.find(UNKNOWN, asked)
    if asked in evidence.no_token:
        return skip(name, f"not decided: {evidence.no_token[asked]}")
    if not found or any(each.busy or is_only_token_refused(each, evidence) for each in found):
        return skip(name, f"not decided: {reason_left(found, evidence)}")
    said = dict.fromkeys(each.problem or f"answered by {brief(each.models)}" for each in found)
    detail, facts = f"{asked}: {' and '.join(said)}", {"statuses": [each.status for each in found]}
    wrong = [each for each in found if each.error or (each.status or 0) < 400]
    if not wrong:
        return check_refusals(name, found, detail, evidence)
    if all(each.answer.timed_out for each in wrong):
        detail += "; is a runner woken for it? a longer --timeout would show whether it is refused"
        return Check(name, Status.WARN, detail, facts)
    if not all(each.is_answered for each in wrong):
        return Check(name, Status.FAIL, f"{detail}: that is not a refusal", facts)
    if not evidence.classes and len(evidence.listing.names) == 1:  # not a fleet: one model only
        detail += "; the only model that is listed answers to any name"
        return Check(name, Status.WARN, detail, facts)
    kind = "model" if is_concrete(asked) else "class"
    return Check(name, Status.FAIL, f"{detail}, but there is no such {kind}", facts)


def check_refusals(name: str, found: Sequence[Exchange], detail: str, evidence: Evidence) -> Check:
    """The verdict on refusals only: they mean something where other requests are answered."""
    facts = {"statuses": [each.status for each in found]}
    if not evidence.is_served:
        detail += ": everything else is refused as well, which decides nothing"
        return undecided(name, detail, facts)
    unknown = [
        each for each in found if not each.answer.is_denied or may_name_models(each, evidence)
    ]
    if is_concrete(found[0].asked) and not unknown:  # the model was not even looked for
        detail += f": only a token with the role {SPECIFIC} shows whether the model is known"
        return skip(name, detail, facts)
    return Check(name, Status.PASS, detail, facts)


def may_name_models(found: Exchange, evidence: Evidence) -> bool:
    """Whether its token may ask for a model by its name: it says so, or has been served one."""
    same = evidence.of_credential(found.question.credential)
    served = any(is_concrete(each.asked) and each.is_answered for each in same if each != found)
    return found.may_ask_by_name or served


def is_only_token_refused(found: Exchange, evidence: Evidence) -> bool:
    """Whether a 401 is about the token; some servers refuse what is unknown to them so as well."""
    if found.status != 401:
        return False
    same = evidence.of_credential(found.question.credential)
    return evidence.is_token_refused(found) or not any(each.accepts_token for each in same)


# the roles


def may_classes(evidence: Evidence, role: str) -> list[Finding]:
    """Any user may ask for a class; whether it has a model is not a question of permission."""
    findings = []
    for each in evidence.find(role, *CLASSES):
        if each.is_answered:
            findings.append(Finding(Status.PASS, f"{each.asked} answered"))
        elif each.answer.is_denied or each.error or each.status == 401:
            findings.append(Finding(Status.FAIL, f"{each.asked} is refused: {each.problem}"))
        else:
            reason = each.busy or each.problem
            findings.append(Finding(Status.SKIP, f"{each.asked} not decided: {reason}"))
    return findings


def may_not_name(evidence: Evidence) -> Finding:
    """Without a role no model by its name: 400 "permission" or 403."""
    found = next(iter(evidence.by_name(NO_ROLE)), None)
    if found is None:
        return Finding(Status.SKIP, NO_MODEL)
    asked, said = brief([found.asked]), found.problem or "answered"
    if found.busy:
        return Finding(Status.SKIP, f"{asked} not decided: {found.busy}")
    if found.is_answered or found.error:
        return Finding(Status.FAIL, f"{asked} is not refused: {said}")
    if found.answer.is_denied:
        return Finding(Status.PASS, f"{asked} refused with {found.status}")
    status = Status.WARN if evidence.is_served else Status.SKIP  # where all fails, it means nothing
    return Finding(status, f"{asked} fails, but not because of a permission: {said}")


def may_name(evidence: Evidence) -> list[Finding]:
    """With model:specific any listed model, answered by that one; and how many were tried."""
    findings, found = [], evidence.by_name(SPECIFIC)
    for each in found:
        asked, wrong = brief([each.asked]), wrong_for_name(each, evidence)
        if wrong is None:
            findings.append(Finding(Status.PASS, f"{asked} answered"))
        elif each.busy:
            findings.append(Finding(Status.SKIP, f"{asked} not decided: {each.busy}"))
        elif each.answer.is_denied or each.error or each.is_answered or each.status == 401:
            findings.append(Finding(Status.FAIL, f"{asked}: {wrong}"))
        else:
            text = f"{asked} is listed, but cannot be asked for: {wrong}"
            findings.append(Finding(Status.WARN if evidence.is_served else Status.SKIP, text))
    tried, all_listed = {each.asked for each in found}, set(evidence.listing.for_chat)
    count = f"{len(tried & all_listed)} of {len(all_listed)} listed models asked for by name"
    return [*findings, Finding(None, count) if tried else Finding(Status.SKIP, NO_MODEL)]


def may_administer(evidence: Evidence, role: str) -> list[Finding]:
    """The admin API is for admin and nobody else. A token that has admin as well proves nothing."""
    pages = evidence.find(role, *ADMIN_PATHS)
    alone = [each for each in pages if ADMIN not in (each.question.roles or ())]
    if role == ADMIN and pages and all(map(is_absent, pages)):
        return [Finding(Status.SKIP, f"there is no admin API ({pages[0].status}): not decided")]
    return [judge_page(each, role) for each in (pages if role == ADMIN else alone)]


def judge_page(found: Exchange, role: str) -> Finding:
    path, is_admin = found.asked.partition("?")[0], role == ADMIN
    if found.is_answered:
        if is_admin:
            return Finding(Status.PASS, f"{path} answered")
        return Finding(Status.FAIL, f"{path} is answered, expected 401 or 403")
    if found.answer.is_denied or found.status == 401:
        status = Status.FAIL if is_admin else Status.PASS
        return Finding(status, f"{path} refused with {found.status}")
    if found.error:
        return Finding(Status.FAIL, f"{path}: {found.problem}")
    if is_absent(found):
        what = "a web page" if found.status == 200 else found.status
        return Finding(None, f"there is no {path} ({what})")
    return Finding(Status.SKIP, f"{path} not decided: {found.problem}")


def is_absent(found: Exchange) -> bool:
    """Whether there is no admin API at all: nothing that could be open to the wrong role."""
    return found.status in NO_ADMIN_API or (found.status == 200 and found.answer.is_web_page)


def undecided_role(evidence: Evidence, role: str) -> Check | None:
    """The verdict when nothing can be said about what a role may do."""
    name, found = ROLE_CHECKS[role], evidence.find(role)
    if role in evidence.no_token:
        return skip(name, evidence.no_token[role])
    if not found:
        return skip(name, f"not asked: {evidence.stopped}")
    said = f"the token {'without roles' if role == NO_ROLE else f'for {role}'} is refused (401)"
    if not all(each.status == 401 for each in found if not each.question.is_path):
        return None
    if any(evidence.is_token_refused(each) for each in found):
        return undecided(name, said)
    return Check(name, Status.FAIL, f"{said}, but another one is not")


def check_role(role: str, evidence: Evidence) -> Check:
    """Classes are for everybody, models by their names for one role, the admin API for another."""
    named = [may_not_name(evidence)] if role == NO_ROLE else []
    named += may_name(evidence) if role == SPECIFIC else []
    findings = [*may_classes(evidence, role), *named, *may_administer(evidence, role)]
    return undecided_role(evidence, role) or merge(ROLE_CHECKS[role], findings)


def check_full_access(evidence: Evidence) -> Check:
    """The guide grants admin "full access"; the fleet's gateway grants models to another role."""
    name, found = "full_access", next(iter(evidence.by_name(ADMIN)), None)
    if open_question := undecided_role(evidence, ADMIN):
        return skip(name, open_question.detail)
    if found is None:
        return skip(name, NO_MODEL)
    asked = brief([found.asked])
    if found.may_ask_by_name:
        return skip(name, f"the token has the role {SPECIFIC} as well")
    if found.is_answered:
        return Check(name, Status.PASS, f"admin may ask for {asked}")
    if found.answer.is_denied:
        detail = f"admin may not ask for {asked} ({found.status}), but the guide says "
        return Check(name, Status.WARN, detail + '"admin role: Full access"')
    return skip(name, f"{asked} not decided: {found.busy or found.problem}")


def behind(name: str, evidence: Evidence) -> list[Answer]:
    """The answers that a check rests on: those that are not as they should be, if there are any."""
    if name in UNKNOWN_CHECKS:
        found = evidence.find(UNKNOWN, UNKNOWN_CHECKS[name])
    elif name in ROLES_OF_CHECKS:
        found = evidence.find(ROLES_OF_CHECKS[name])
    elif name == "class":
        found = evidence.find(ROUTING, *evidence.classes)
        found = telling(found, lambda each: wrong_for_class(each, evidence))
    elif name == "model":
        found = evidence.find(ROUTING, *evidence.names)
        found = telling(found, lambda each: wrong_for_name(each, evidence))
    else:
        found = evidence.find(ROUTING)
    return [each.answer for each in found]


def judge(evidence: Evidence, permissions: bool) -> list[Check]:
    """Those checks that can be decided by what was asked for."""
    checks = [check_class(evidence)] if evidence.classes else []
    checks += [check_classes_differ(evidence)] if len(evidence.classes) > 1 else []
    checks += [check_model(evidence)] if evidence.names else []
    checks += [check_listing(evidence), check_stream(evidence)]
    checks.append(form.check_form(each.answer for each in evidence.exchanges))
    checks += [check_unknown(name, evidence) for name in UNKNOWN_CHECKS]
    if permissions:
        checks += [check_role(role, evidence) for role in ROLES]
        checks.append(check_full_access(evidence))
    return with_answers(checks, lambda name: behind(name, evidence))


# --- show


def figures(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    """How a group of requests went. The first time stands alone: a runner may have woken in it."""
    answered = [each for each in exchanges if each.is_answered]
    times = [each.answer_ms for each in answered if each.answer_ms is not None]
    return {
        "requests": len(exchanges),
        "answered": len(answered),
        "answered_by": dict(Counter(each.model for each in answered if each.model)),
        "first_ms": times[0] if times else None,
        "p50_ms": round(statistics.median(times), 4) if times else None,
    }


def metrics(evidence: Evidence) -> dict[str, Any]:
    models = {model: figures(evidence.find(ROUTING, model)) for model in evidence.asked}
    return {"listed": api.first_names(evidence.listing.names), "models": models}


def lines(evidence: Evidence, url: str) -> list[str]:
    """A line for each thing that was asked for, by whom."""
    rows = [shorten(f"Model routing at {url}", WIDTH)]
    rows.append(f"  {'asked for':25}answered     first      p50  by")
    for part in (ROUTING, CONTROL, UNKNOWN, *ROLES):
        found = evidence.find(part)
        if found and part in ROLES:
            rows.append(heading(part, found[0].question.roles))
        for asked in dict.fromkeys(each.asked for each in found):
            rows.append(row(asked, [each for each in found if each.asked == asked]))
    return rows


def heading(role: str, told: Sequence[str] | None) -> str:
    """With which token the requests below were sent, and what else the token says."""
    name = "no role" if role == NO_ROLE else role
    known = in_words(told)
    return f"With {name}" if known == name else f"With {name} (the token has {known})"


def row(asked: str, exchanges: Sequence[Exchange]) -> str:
    found = figures(exchanges)
    name = shorten(asked.partition("?")[0], 26)
    start = f"  {name:27}{found['answered']:>5}/{found['requests']}  "
    if not found["answered"]:
        return start + shorten(exchanges[0].problem or "-", WIDTH - len(start))
    start += f"{duration(found['first_ms']):>8} {duration(found['p50_ms']):>8}  "
    problems = dict.fromkeys(each.problem for each in exchanges if each.problem)
    by = ", ".join([*found["answered_by"], *problems])
    return start + shorten(by or "-", WIDTH - len(start))


# --- main


def measure(run: Run) -> None:
    args, document, identities = run.args, run.document("model_routing"), Identities(run)
    named = [*([args.model] if args.model else []), *args.models]
    evidence = Evidence(list(dict.fromkeys(named or CLASSES)))
    for asked, answered in args.alias:
        evidence.aliases.setdefault(asked, []).append(answered)
    run.target["model"] = ", ".join(evidence.asked)
    with asking.open_wire(run) as wire:
        talk = Conversation(Asker(run, wire, reason_to_stop), identities, evidence)
        try:
            contact = api.first_contact(run, wire, identities.token())
            evidence.listing.read(contact)
            evidence.stopped = talk.asker.stopped = reason_to_stop(contact)
            ask_all(talk)
        finally:
            document.requests = [each.record() for each in evidence.exchanges]
            document.metrics = metrics(evidence)
    document.add(*judge(evidence, args.test_permissions))
    run.show(lines(evidence, run.url), document.checks)
    if not document.checks:
        run.note("there is nothing to check: --only and --skip leave no check (see --help)")


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
