#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Can a web page on the allowed origin use the deployment, and no other page?

Sends what a browser would send for such a page (a preflight, a chat completion, a stream, requests
that fail) and reads the answers by the rules of the Fetch standard. Then it asks as pages that
must not be allowed: another site, look-alikes, another scheme or port, `null`.

PASS: the page can send its requests and read every answer; no other page can.
Cost: about 30 small requests, 12 of them preflights, and up to four answers of at most 4 tokens; 16
count for a key's rate limit. It wakes a sleeping worker.

Examples:
    # the page that should be allowed
    python3 test_cors.py --url https://host:8000 --api-key sk-key --origin https://app.example
    # and one that should not be, besides those made up by the script
    python3 test_cors.py --url https://host:8000 --origin https://app.example \\
        --denied-origin https://staging.app.example
    # a deployment without CORS_ORIGINS: no page at all
    python3 test_cors.py --url https://host:8000 --expect-disabled --origin https://app.example
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import common
from common import CannotCheck, Check, Exit, NoAccess, Run, Status
from livecheck.core.checks import failed, passed, undecided, warned, with_answers
from livecheck.core.json_value import number, quoted
from livecheck.core.options import option_type
from livecheck.core.text import counted, plural, shorten
from livecheck.gateway.plans import plan_cors
from livecheck.wire import chat, form
from livecheck.wire.access import no_access
from livecheck.wire.answer import ERROR_200, Answer
from livecheck.wire.asking import Asker, Cause, Stop, fetch, open_wire, reason_to_stop
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.wire import Request

CHECKS = (
    "preflight",
    "preflight_origin",
    "methods",
    "headers",
    "answer",
    "stream",
    "errors",
    "credentials",
    "others",
    "vary",
    "exposed",
    "sdk_headers",
    form.NAME,
    "disabled",
)
# the checks that need the model
OF_MODEL = (
    *("answer", "stream", "errors", "credentials", "others", "vary", "exposed", "disabled"),
    form.NAME,
)
ALLOWED = "allowed"  # the page of --origin; other pages are named after what is wrong with them
DENIED = "denied"
FOR_MODELS = "for models"  # the preflight for the list of models
OTHER_SITE = "other-site.example"  # belongs to nobody: RFC 2606 keeps .example out of the DNS
OTHER_PORT = 61443
LOCALHOST = "http://localhost:3000"  # where pages are that are being developed
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
# pages that some operators allow on purpose, although the one page is all that they name
MAYBE_ALLOWED = ("subdomain", "localhost")
LATE_MS = 1000.0  # for a preflight, which no model has to answer
FEWEST_PREFLIGHTS = 3  # of which not each is delayed by this machine
VALUE_LENGTH = 4000  # characters of a header's value: lists of names are long
QUOTED = 100  # characters of a header's value in a line of evidence
ALLOW_HEADERS = "Access-Control-Allow-Headers"
ALLOW_METHODS = "Access-Control-Allow-Methods"
EXPOSE_HEADERS = "Access-Control-Expose-Headers"
WRONG_KEY = "Bearer wrong-key"
NOT_THERE = "/v1/not-there"
# the headers that the openai package for JavaScript adds to every request
SDK_HEADERS = tuple(
    f"x-stainless-{name}"
    for name in "arch lang os package-version retry-count runtime runtime-version timeout".split()
)
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?")
ADDRESS = re.compile(r"\[.*\]|[0-9.]+")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
FAILURES = {Cause.SILENT: "timeout", Cause.FLOOD: "flood"}  # of the first contact
DEFAULT_PORTS = {("http", "80"), ("https", "443")}


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_cors)
    add = parser.add_argument_group("what to check").add_argument
    origin = option_type(parse_origin)
    add("--origin", type=origin, help="web page that should be allowed (or CORS_ORIGIN)")
    denied = "web page that should not be allowed (repeatable)"
    add("--denied-origin", type=origin, action="append", default=[], metavar="ORIGIN", help=denied)
    add("--expect-disabled", action="store_true", help="expect that no page is allowed at all")
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    return parser


# --- origins


def parse_origin(text: str) -> str:
    """The origin, if it is written as browsers write it: lower case, no path, no default port
    (RFC 6454, section 6.2). ValueError says how to write it."""
    plain = text.strip().rstrip("/").lower()
    match = ORIGIN.fullmatch(plain)
    if match is None or int(match[3] or 1) not in range(1, 65536):
        raise ValueError(f"{quoted(text)} is not an origin: write https://host or http://host:port")
    if (match[1], match[3]) in DEFAULT_PORTS:
        plain = f"{match[1]}://{match[2]}"
    if plain != text:
        raise ValueError(f"{quoted(text)} is not how browsers write it: write {plain}")
    return text


def other_pages(origin: str, denied: Sequence[str]) -> list[tuple[str, str]]:
    """Pages that must not be allowed where `origin` is: (what is wrong with it, its origin)."""
    match = ORIGIN.fullmatch(origin)
    assert match
    scheme, host, port = match.groups()
    tail = f":{port}" if port else ""
    other = "https" if scheme == "http" else "http" if scheme == "https" else "https"
    pages = [("reflected", f"https://{OTHER_SITE}")]
    if not host.startswith("["):
        pages.append(("prefix", f"{scheme}://{host}.{OTHER_SITE}{tail}"))
    if port and int(port + "1") < 65536:
        pages.append(("prefix", f"{origin}1"))  # the text of the origin and one more digit
    if not ADDRESS.fullmatch(host):
        pages.append(("suffix", f"{scheme}://not{host}{tail}"))
        if "." in host:  # a pattern in which the dot is not escaped lets this one in
            pages.append(("dot", f"{scheme}://{host.replace('.', 'x', 1)}{tail}"))
    pages.append(("scheme", f"{other}://{host}{tail}"))
    pages.append(("port", f"{scheme}://{host}:{OTHER_PORT}"))
    pages.append(("null", "null"))
    if "." in host and not ADDRESS.fullmatch(host):
        pages.append(("subdomain", f"{scheme}://other.{host}{tail}"))
    if host not in LOCAL_HOSTS:
        pages.append(("localhost", LOCALHOST))
    pages += [(DENIED, each) for each in denied]
    return [page for page in pages if page[1] != origin]


# --- measure


@dataclass(frozen=True)
class Question:
    """A request as a browser makes it for a page; `page` is ALLOWED, or what is wrong with it."""

    name: str
    page: str
    request: Request


@dataclass(frozen=True)
class Asked:
    """A question and its answer."""

    question: Question
    answer: Answer

    @property
    def page(self) -> str:
        return self.question.page

    @property
    def origin(self) -> str:
        return self.question.request.headers["origin"] or ""

    @property
    def status(self) -> int | None:
        return self.answer.status

    @property
    def what(self) -> str:
        """What was asked, as in `POST /v1/chat/completions`."""
        return f"{self.question.request.method} {self.question.request.path}"

    @property
    def is_preflight(self) -> bool:
        return self.question.request.method == "OPTIONS"

    @property
    def error_text(self) -> str | None:
        """Why there is no success, in words."""
        if self.answer.failure:
            return self.answer.failure.text
        failed = (self.status or 0) >= 300
        return f"{self.status} {self.answer.words}".strip() if failed else None

    def values(self, name: str) -> list[str]:
        """All values of a header, in printable characters, without the credential."""
        headers = self.answer.reply.message.headers
        found = [value for each, value in headers if each.lower() == name.lower()]
        return [self.answer.shown(value, VALUE_LENGTH) for value in found]

    @property
    def allow_origin(self) -> list[str]:
        return self.values("access-control-allow-origin")

    @property
    def has_ok_status(self) -> bool:
        """Whether it has an "ok status", as the Fetch standard calls it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def headers(self) -> dict[str, list[str]]:
        """The headers that CORS is about, each with all its values."""
        names = (name.lower() for name, _ in self.answer.reply.message.headers)
        return {name: self.values(name) for name in names if CORS_HEADERS.fullmatch(name)}


CORS_HEADERS = re.compile(r"access-control-.*|vary|content-type|retry-after|location")


@dataclass
class Evidence:
    """All that was asked and answered; `stopped`: why the rest was not asked."""

    origin: str
    asked: list[Asked] = field(default_factory=list)
    stopped: Stop | None = None

    def find(self, name: str) -> Asked | None:
        """The question of that name that was asked for the allowed page."""
        found = (a for a in self.asked if (a.question.name, a.page) == (name, ALLOWED))
        return next(found, None)

    def answered(self, *names: str) -> list[Asked]:
        """Those of these questions to which the allowed page got an answer."""
        found = [self.find(name) for name in names]
        return [a for a in found if a and not (a.answer.failure or a.answer.is_rate_limited)]

    @property
    def others(self) -> list[Asked]:
        """What was answered to all other pages."""
        return [asked for asked in self.judged if asked.page != ALLOWED]

    @property
    def judged(self) -> list[Asked]:
        """All but the answer of a rate limit: a proxy gives that in the deployment's place."""
        return [asked for asked in self.asked if not asked.answer.is_rate_limited]


def preflight(page: str, origin: str, more: Sequence[str] = ()) -> Question:
    """What a browser asks before a POST with a key and JSON (Fetch standard, "CORS-preflight
    fetch"): the names of the headers sorted, no credentials."""
    names = sorted(["authorization", "content-type", *more])
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": ",".join(names),
        "authorization": None,
    }
    name = "sdk" if more else "preflight"
    return Question(name, page, Request("OPTIONS", chat.COMPLETIONS, headers=headers))


def preflight_of_models(origin: str) -> Question:
    """What a browser asks before the page reads the list of models with a key: some proxies are
    configured for each path."""
    asked = preflight(ALLOWED, origin).request
    headers = {
        **asked.headers,
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
    }
    return Question(FOR_MODELS, ALLOWED, replace(asked, path=chat.MODELS, headers=headers))


def ask_as(page: str, origin: str, name: str, request: Request) -> Question:
    """The request as a browser sends it for a page on this origin."""
    return Question(name, page, replace(request, headers={**request.headers, "origin": origin}))


def short_questions(origin: str, others: Sequence[tuple[str, str]]) -> list[Question]:
    """Those that do not reach the model."""
    models = chat.get(chat.MODELS)
    questions = [preflight(ALLOWED, origin), preflight(ALLOWED, origin, SDK_HEADERS)]
    questions.append(preflight_of_models(origin))
    questions.append(ask_as(ALLOWED, origin, "models", models))
    questions.append(ask_as(ALLOWED, origin, "404", chat.get(NOT_THERE)))
    for page, other in others:
        questions += [preflight(page, other), ask_as(page, other, "models", models)]
    return questions


def model_questions(origin: str, others: Sequence[tuple[str, str]], model: str) -> list[Question]:
    """Those that reach the model, or would if they were accepted: one after the other."""
    whole = chat.completion(model, "Say yes.", 1, stream=False)
    stream = chat.completion(model, "Say yes.", 4)
    wrong_key = replace(whole, headers={**whole.headers, "authorization": WRONG_KEY})
    wrong = replace(whole, body=b'{"messages": "no list"}')
    requests = {"answer": whole, "stream": stream, "401": wrong_key, "400": wrong}
    questions = [ask_as(ALLOWED, origin, name, request) for name, request in requests.items()]
    # one other page is enough to see whether the engine's own CORS headers come through a stream
    return questions + [ask_as(page, other, "stream", stream) for page, other in others[:1]]


def ask(asker: Asker, evidence: Evidence, questions: Sequence[Question]) -> None:
    """Ask these questions; what was answered is in the evidence, also after an interruption.

    One after the other: a proxy may limit the requests at once, and a limit ends the asking.
    """

    def keep(answers: list[Answer]) -> None:
        evidence.asked += map(Asked, questions, answers)

    asker.ask([question.request for question in questions], keep=keep)
    evidence.stopped = asker.stopped


def ask_all(
    asker: Asker, evidence: Evidence, others: Sequence[tuple[str, str]], model: str
) -> None:
    run, origin = asker.run, evidence.origin
    short, long = short_questions(origin, others), model_questions(origin, others, model)
    with run.progress(f"{len(short)} preflights and other short requests", 2) as step:
        ask(asker, evidence, short)
        step()
        if any(run.wants(name) for name in OF_MODEL):
            ask(asker, evidence, long[:1])
            if text := refused_to_all(asker, evidence):
                raise NoAccess(text)
            ask(asker, evidence, long[1:])
        step()


def refused_to_all(asker: Asker, evidence: Evidence) -> str | None:
    """The line when the first completion was refused, and not because of the page that asks for
    it: some servers refuse an origin with a 403. Then the same is asked without one."""
    for asked in evidence.answered("answer"):
        text = no_access(asker.run, asked.answer)
        if text and asked.status == 403:
            headers = {**asked.question.request.headers, "origin": None}
            alone = fetch(asker.run, asker.wire, replace(asked.question.request, headers=headers))
            text = no_access(asker.run, alone)
        if text:
            return text
    return None


def find_origin(run: Run) -> str:
    """The page to ask for: --origin, else CORS_ORIGIN. Raises CannotCheck; ValueError when
    CORS_ORIGIN is not an origin."""
    origin: str | None = run.args.origin
    if origin is not None:
        return origin
    text = run.look_up("CORS_ORIGIN")
    if text is not None:
        try:
            return parse_origin(text)
        except ValueError as error:
            raise ValueError(f"CORS_ORIGIN: {error}") from None
    if run.args.expect_disabled:
        return f"https://app.{OTHER_SITE}"  # no page is to be allowed, so any page will do
    raise CannotCheck("which page should be allowed? give --origin or set CORS_ORIGIN")


def measure(run: Run) -> None:
    args, document = run.args, run.document("cors")
    try:
        evidence = Evidence(find_origin(run))
    except ValueError as error:
        run.stop(Exit.USAGE, str(error))
        return
    others = other_pages(evidence.origin, args.denied_origin)
    with open_wire(run, run.token()) as wire:
        asker = Asker(run, wire)
        (contact,) = chat.first_contact(run, wire, [chat.get(chat.MODELS)])
        model = model_to_ask(run, contact)
        run.target["model"] = model
        asker.stopped = evidence.stopped = reason_to_stop(contact)
        try:
            ask_all(asker, evidence, others, model)
        finally:
            document.requests = records(evidence)
            document.metrics = metrics(evidence)
    document.add(*judge(evidence, args.expect_disabled))
    run.show(lines(evidence, run.url), document.checks)


# --- judge: what a browser would do with the answers


def blocked(asked: Asked) -> str | None:
    """Why a browser keeps the answer from the page, None if it does not (Fetch standard, "CORS
    check"): there must be one header, and its value must be the origin, byte by byte, or `*`."""
    values = asked.allow_origin
    if not values:
        return "no Access-Control-Allow-Origin"
    if len(values) > 1:
        return f"{len(values)} Access-Control-Allow-Origin headers ({brief(values)})"
    if values[0] in ("*", asked.origin):
        return None
    if "," in values[0]:
        return f"Access-Control-Allow-Origin is a list ({brief(values)}), browsers take one value"
    return f"Access-Control-Allow-Origin is {brief(values)!r}, not {asked.origin}"


def brief(values: Sequence[str]) -> str:
    """Header values, short enough for a line."""
    return shorten(", ".join(values), QUOTED)


def names_in(values: Sequence[str]) -> list[str] | None:
    """The names in a comma-separated header, in lower case; None if it is malformed."""
    names = [part.strip(" \t") for part in ",".join(values).split(",")]
    if not all(TOKEN.fullmatch(name) for name in names if name):
        return None
    return [name.lower() for name in names if name]


def has_name(asked: Asked, header: str, name: str) -> bool:
    """Whether a header lists this name, or `*`."""
    return not {name, "*"}.isdisjoint(names_in(asked.values(header)) or ())


def without_answer(name: str, question: str, evidence: Evidence) -> Check | None:
    """The verdict when a question has no answer that could be judged."""
    asked = evidence.find(question)
    if asked is None or asked.answer.is_rate_limited:
        return undecided(name, f"not decided: {evidence.stopped}")
    if asked.answer.failure:
        facts = {"error": asked.answer.failure.kind}
        return failed(name, f"{asked.what}: {asked.error_text}", facts)
    return None


def check_first_contact(stopped: Stop) -> Check:
    """A server that is silent or floods at the first contact is asked nothing else."""
    return failed("answer", str(stopped), {"error": FAILURES[stopped.cause]})


def check_preflight(evidence: Evidence) -> Check:
    """Browsers send no credentials with a preflight, follow no redirect and want an ok status
    (Fetch standard, "CORS-preflight fetch", step 7)."""
    if missing := without_answer("preflight", "preflight", evidence):
        return missing
    asked = evidence.answered("preflight")[0]
    status, spent_ms = asked.status or 0, asked.answer.first_byte_ms
    said = f"OPTIONS without a key: {status} after {spent_ms or 0:.1f} ms"
    facts = {"status": status, "answer_ms": spent_ms}
    if asked.has_ok_status:
        return late_preflights(evidence, facts) or passed("preflight", said, facts)
    reason = "browsers send the request only after a 2xx"
    if 300 <= status < 400:
        reason = f"{asked.error_text}; browsers do not follow a redirect of a preflight"
    elif status in (401, 403):
        reason = "browsers send no key with a preflight"
    words = f" ({asked.answer.words})" if asked.answer.words and status >= 400 else ""
    return failed("preflight", f"{said}{words}: {reason}", facts)


def late_preflights(evidence: Evidence, facts: dict[str, Any]) -> Check | None:
    """A warning when even the fastest preflight is late: a busy client delays some of them, not
    each. None: at least one was not late, or there are too few to tell."""
    found = [asked.answer.first_byte_ms for asked in evidence.judged if asked.is_preflight]
    times_ms = [each for each in found if each is not None]
    if len(times_ms) < FEWEST_PREFLIGHTS or min(times_ms) <= LATE_MS:
        return None
    detail = f"even the fastest of {len(times_ms)} preflights took {min(times_ms) / 1e3:.1f} s: "
    detail += "a browser waits for one before it sends a request; do they wait for the model?"
    return warned("preflight", detail, {**facts, "fastest_ms": min(times_ms)})


def accepted_preflight(name: str, evidence: Evidence) -> Asked | Check:
    """The preflight, if it was accepted; else the verdict for a check that needs it."""
    if missing := without_answer(name, "preflight", evidence):
        return missing if missing.status is Status.SKIP else undecided(name, missing.detail)
    asked = evidence.answered("preflight")[0]
    if asked.has_ok_status:
        return asked
    return undecided(name, f"the preflight was refused: {asked.status}")


def check_preflight_origin(evidence: Evidence) -> Check:
    asked = accepted_preflight("preflight_origin", evidence)
    if isinstance(asked, Check):
        return asked
    facts = {"allow_origin": asked.allow_origin}
    if problem := blocked(asked):
        return failed("preflight_origin", problem, facts)
    return passed("preflight_origin", asked.allow_origin[0], facts)


def check_methods(evidence: Evidence) -> Check:
    """POST is allowed. A missing header allows it (POST is a "CORS-safelisted method"), but a list
    without POST says that it is not meant to be allowed."""
    asked = accepted_preflight("methods", evidence)
    if isinstance(asked, Check):
        return asked
    values = asked.values(ALLOW_METHODS)
    text, names, facts = brief(values), names_in(values), {"allow_methods": values}
    if names is None:
        return failed("methods", f"{ALLOW_METHODS} is not a list of names: {text}", facts)
    if not values:
        return passed("methods", f"no {ALLOW_METHODS}, and POST needs none", facts)
    if "post" in names or "*" in names:
        return passed("methods", text, facts)
    return failed("methods", f"POST is not among {text or 'none'}", facts)


def check_headers(evidence: Evidence) -> Check:
    """`authorization` is covered by name, as `*` does not stand for it (Fetch standard, "CORS
    non-wildcard request-header name"), and `content-type` by name or `*`."""
    asked = accepted_preflight("headers", evidence)
    if isinstance(asked, Check):
        return asked
    values = asked.values(ALLOW_HEADERS)
    text, names, facts = brief(values) or "none", names_in(values), {"allow_headers": values}
    if names is None:
        return failed("headers", f"{ALLOW_HEADERS} is not a list of names: {text}", facts)
    missing = [each for each in ("authorization", "content-type") if each not in names]
    if "*" in names:
        missing = [each for each in missing if each == "authorization"]
    if not missing:
        return passed("headers", text, facts)
    hint = "; * does not stand for authorization" if "*" in names else ""
    return failed("headers", f"{' and '.join(missing)} not covered by {text}{hint}", facts)


def check_answer(evidence: Evidence) -> Check:
    return check_success("answer", evidence)


def check_stream(evidence: Evidence) -> Check:
    asked = evidence.find("stream")
    if asked and asked.answer.is_ok:
        kind = asked.answer.content_type
        if not kind.startswith("text/event-stream"):
            other, shown = asked.answer.not_a_stream, brief(asked.values("content-type"))
            detail = f"200, but no event stream: {shown or 'no content type'}"
            return failed("stream", other.text if other else detail)
    return check_success("stream", evidence)


def check_success(name: str, evidence: Evidence) -> Check:
    """A completion succeeds, and the page can read it; so it is with the list of models."""
    if missing := without_answer(name, name, evidence):
        return missing
    asked = evidence.answered(name)[0]
    if asked.status == 503 and asked.values("retry-after"):
        wait = brief(asked.values("retry-after"))
        return undecided(name, f"the deployment is busy: 503, Retry-After {wait}; try again")
    if asked.status != 200:
        return failed(name, f"no answer to read: {asked.error_text or asked.status}")
    if asked.answer.says_error or asked.answer.is_web_page:
        what = ERROR_200 if asked.answer.says_error else "200, but a web page"
        return failed(name, f"no answer to read: {what}: {asked.answer.words}")
    models = [a for a in evidence.answered("models") if a.has_ok_status and name == "answer"]
    check = check_readable(name, [asked, *models])
    if models and check.status is Status.PASS and (problem := hidden_models(evidence)):
        return failed(name, problem, check.evidence)
    return check


def hidden_models(evidence: Evidence) -> str | None:
    """Why the page cannot ask for the list of models, though it could read it: its preflight has a
    fault that the one for completions does not have."""
    (first,) = evidence.answered("preflight")[:1] or (None,)
    for asked in evidence.answered(FOR_MODELS):
        reason = preflight_problem(asked)
        if reason and (first is None or preflight_problem(first) is None):
            return f"the preflight for GET {asked.answer.path}: {reason}"
    return None


def preflight_problem(asked: Asked) -> str | None:
    """Why a browser sends nothing after this preflight, None if it sends a request with a key."""
    if not asked.has_ok_status:
        return f"{asked.status}, which is not a 2xx"
    if "authorization" not in (names_in(asked.values(ALLOW_HEADERS)) or ()):
        return blocked(asked) or "authorization is not among the allowed headers"
    return blocked(asked)


def check_errors(evidence: Evidence) -> Check:
    """The page can read why a request failed; else all that it sees is "Failed to fetch"."""
    questions = ("401", "404", "400")
    for question in questions:
        if missing := without_answer("errors", question, evidence):
            return missing
    found = evidence.answered(*questions)
    errors = [asked for asked in found if (asked.status or 0) >= 300]
    others = [f"no {asked.question.name}" for asked in found if asked not in errors]
    if not errors:
        detail = f"no request could be made to fail: {', '.join(others)}"
        return Check("errors", Status.SKIP, detail)
    check = check_readable("errors", errors)
    if others:
        check.detail += f" ({', '.join(others)}: the request succeeded)"
    return check


def check_readable(name: str, found: Sequence[Asked]) -> Check:
    """The page can read all of these answers."""
    kept_back = [a for a in found if blocked(a)]
    problems = [f"{a.status} to {a.what}: {blocked(a)}" for a in kept_back]
    facts = {a.question.name: {"status": a.status, "allow_origin": a.allow_origin} for a in found}
    if problems:
        return failed(name, "; ".join(problems), facts).shown_by(a.answer for a in kept_back)
    statuses = ", ".join(f"{a.status} to {a.what}" for a in found)
    value = " or ".join(sorted({a.allow_origin[0] for a in found}))
    return passed(name, f"{statuses}: {value}", facts)


def check_credentials(evidence: Evidence) -> Check:
    """`*` and credentials exclude each other (Fetch standard, "CORS check"): browsers refuse."""
    allowing = [
        a for a in evidence.judged if "true" in a.values("access-control-allow-credentials")
    ]
    both = [asked for asked in allowing if "*" in asked.allow_origin]
    if both:
        where = f"{plural(len(both), 'answer')}, as {both[0].status} to {both[0].what}"
        detail = f"Access-Control-Allow-Origin * together with credentials in {where}"
        return failed("credentials", detail).shown_by(asked.answer for asked in both)
    if evidence.stopped:
        return undecided("credentials", f"not decided: {evidence.stopped}")
    if not evidence.answered("preflight", "answer", "stream"):
        return undecided("credentials", "there is no answer to judge")
    if allowing:
        where = plural(len(allowing), "answer")
        return passed("credentials", f"allowed in {where}, never together with *")
    return passed("credentials", f"not allowed in any of {len(evidence.judged)} answers")


def is_public(evidence: Evidence) -> bool:
    """Whether every page is allowed by configuration: `*` in all that the allowed page got."""
    got = [asked.allow_origin for asked in evidence.judged if asked.page == ALLOWED]
    values = [value for each in got for value in each]
    return bool(values) and set(values) == {"*"}


def check_others(evidence: Evidence) -> Check:
    """Another page is let in nowhere: its preflights do not pass, it can read no answer."""
    others = evidence.others
    if is_public(evidence):
        others = [asked for asked in others if asked.page == DENIED]
        if not others:
            reason = "every page is allowed (*): there is no other page to keep out"
            return Check("others", Status.SKIP, reason)
    count = len({asked.origin for asked in others})
    let_in: dict[str, list[str]] = {}
    for asked in others:
        if blocked(asked) is None:
            let_in.setdefault(f"{asked.origin} ({asked.page})", []).append(asked.question.name)
    facts = {"asked": count, "let_in": let_in}
    if let_in:
        named = "; ".join(f"{page} on {', '.join(names)}" for page, names in let_in.items())
        detail = f"{len(let_in)} of {count} other pages are let in: {named}"
        read = [asked for asked in others if blocked(asked) is None]
        verdict = failed
        if all(asked.page in MAYBE_ALLOWED for asked in read):
            verdict, detail = warned, f"{detail}; right only if they are meant to be let in"
        return verdict("others", detail, facts).shown_by(asked.answer for asked in read)
    for asked in others:
        if asked.answer.failure:
            return failed("others", f"{asked.what} as {asked.origin}: {asked.error_text}", facts)
    if evidence.stopped:
        return undecided("others", f"not decided: {evidence.stopped}")
    detail = f"none of {count} other pages is let in ({len(others)} answers)"
    return passed("others", detail, facts)


def check_vary(evidence: Evidence) -> Check:
    """Caches must not give the answer for one page to another (Fetch standard, "CORS protocol and
    HTTP caches"). They do not keep preflights (RFC 9110, section 9.3.7)."""
    answers = evidence.answered("answer", "stream", "models", "401", "404", "400")
    specific = [asked for asked in answers if evidence.origin in asked.allow_origin]
    if not specific:
        public = is_public(evidence)
        reason = "every page is allowed (*)" if public else "no answer carries the origin"
        return Check("vary", Status.SKIP, f"{reason}: nothing varies")
    lacking = [asked for asked in specific if not has_name(asked, "vary", "origin")]
    if not lacking:
        return passed("vary", f"Vary: Origin on all {len(specific)} answers")
    shown = [asked.answer for asked in lacking]
    detail = f"no Vary: Origin on {len(lacking)} of {len(specific)} answers that carry the origin"
    detail += f", as {lacking[0].status} to {lacking[0].what}"
    if is_static(evidence):
        detail += "; harmless while all pages are sent this same origin, not with a second one"
        return warned("vary", detail).shown_by(shown)
    return failed("vary", f"{detail}: a cache may give it to another page").shown_by(shown)


def is_static(evidence: Evidence) -> bool:
    """Whether other pages were sent the very same origin, as by a fixed header."""
    sent = [asked.allow_origin for asked in evidence.others if not asked.answer.failure]
    return bool(sent) and all(values == [evidence.origin] for values in sent)


def check_exposed(evidence: Evidence) -> Check:
    """A page can see how long to wait (Fetch standard, "CORS-safelisted response-header name":
    Retry-After is not one of them)."""
    found = evidence.answered("401", "404", "400", "answer")
    readable = [asked for asked in found if blocked(asked) is None]
    if not readable:
        return Check("exposed", Status.SKIP, "there is no answer that the page could read")
    hidden = [asked for asked in readable if not has_name(asked, EXPOSE_HEADERS, "retry-after")]
    if not hidden:
        return passed("exposed", f"Retry-After, on {len(readable)} answers")
    said = brief(hidden[0].values(EXPOSE_HEADERS)) or "none"
    detail = f"Retry-After is not in {EXPOSE_HEADERS} ({said}) of {len(hidden)} of "
    detail += f"{len(readable)} answers: a page that is refused cannot see how long to wait"
    return warned("exposed", detail).shown_by(asked.answer for asked in hidden)


def check_sdk_headers(evidence: Evidence) -> Check:
    """The openai package for JavaScript can be used as it is."""
    accepted = accepted_preflight("sdk_headers", evidence)
    asked = next(iter(evidence.answered("sdk")), None)
    if isinstance(accepted, Check) or blocked(accepted) or asked is None:
        return Check("sdk_headers", Status.SKIP, "no preflight was accepted")
    if not asked.has_ok_status or blocked(asked):
        detail = f"a preflight that asks for x-stainless-* is refused: {asked.status}"
        return warned("sdk_headers", detail)
    names = names_in(asked.values(ALLOW_HEADERS)) or []
    missing = [] if "*" in names else [each for each in SDK_HEADERS if each not in names]
    if not missing:
        return passed("sdk_headers", f"all {len(SDK_HEADERS)} x-stainless-* covered")
    detail = f"{len(missing)} of {len(SDK_HEADERS)} x-stainless-* headers are not covered, as "
    detail += f"{missing[0]}: browsers block the JavaScript SDK, unless it is told to omit them"
    return warned("sdk_headers", detail, {"missing": missing})


def check_disabled(evidence: Evidence) -> Check:
    """No answer has a header about CORS."""
    names = [(name, asked) for asked in evidence.judged for name in asked.headers]
    found = {name: asked for name, asked in names if name.startswith("access-control-")}
    if found:
        name, asked = next(iter(found.items()))
        detail = f"{', '.join(sorted(found))} though CORS should be off, as {name}: "
        detail += f"{brief(asked.headers[name])} on {asked.status} to {asked.what}"
        check = failed("disabled", f"{detail} for {asked.origin}", {"headers": sorted(found)})
        return check.shown_by(each.answer for each in found.values())
    for question in ("preflight", "answer", "stream"):
        if missing := without_answer("disabled", question, evidence):
            return missing
    for asked in evidence.answered("answer", "stream"):
        if asked.status != 200:
            return failed("disabled", f"no answer to read: {asked.error_text}")
    count, pages = len(evidence.judged), len({asked.origin for asked in evidence.judged})
    return passed("disabled", f"no Access-Control-* header in {count} answers to {pages} pages")


def check_form(evidence: Evidence) -> Check:
    """The page's own code has to read the answers, too. No other check here looks into them."""
    answers = [asked.answer for asked in evidence.judged if asked.answer.path == chat.COMPLETIONS]
    bad = [each.completion.problem for each in answers if each.is_ok and each.completion.has_output]
    if problems := list(filter(None, bad)):
        check = failed(form.NAME, counted(problems), {"completions": len(answers)})
        return check.shown_by(each for each in answers if each.completion.problem)
    return form.check_form(answers)


OF_CHECK = {  # where the question has another name
    "preflight_origin": "preflight",
    "methods": "preflight",
    "headers": "preflight",
    "sdk_headers": "sdk",
    "errors": "401",
    "disabled": "answer",
}
JUDGES = (
    check_preflight,
    check_preflight_origin,
    check_methods,
    check_headers,
    check_answer,
    check_stream,
    check_errors,
    check_credentials,
    check_others,
    check_vary,
    check_exposed,
    check_sdk_headers,
    check_form,
)


def judge(evidence: Evidence, expect_disabled: bool) -> list[Check]:
    stopped = evidence.stopped
    if not evidence.asked and stopped and stopped.cause in FAILURES:
        return [check_first_contact(stopped)]
    judges = (check_disabled,) if expect_disabled else JUDGES
    return with_answers((check(evidence) for check in judges), lambda name: behind(name, evidence))


def behind(name: str, evidence: Evidence) -> list[Answer]:
    """The answer to the question of the allowed page that a check is about, if it is about one."""
    asked = evidence.find(OF_CHECK.get(name, name))
    return [] if asked is None else [asked.answer]


# --- show


def metrics(evidence: Evidence) -> dict[str, Any]:
    """What the deployment says of itself, as far as it was asked."""
    asked = evidence.find("preflight")
    ages = asked.values("access-control-max-age") if asked else []
    return {
        "probes": len(evidence.asked),
        "other_pages": len({each.origin for each in evidence.others}),
        "allow_origin": asked.allow_origin if asked else [],
        "max_age_s": number(ages[0]) if ages else None,
        "preflight_ms": asked.answer.first_byte_ms if asked else None,
    }


def records(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            "probe": asked.question.name,
            "page": asked.page,
            "origin": asked.origin,
            "method": asked.question.request.method,
            "path": asked.question.request.path,
            "status": asked.status,
            "error": asked.answer.failure_kind,
            "error_text": asked.error_text,
            "answer_ms": asked.answer.first_byte_ms,
            **asked.answer.silence_figures,
            "rate_limited": asked.answer.is_rate_limited,
            "headers": asked.headers,
        }
        for asked in evidence.asked
    ]


def outcome(asked: Asked) -> str:
    """The status of an answer, or the kind of failure in its place."""
    return str(asked.status or asked.answer.failure_kind)


def lines(evidence: Evidence, url: str) -> list[str]:
    """A line for each answer to the allowed page, and one for each other page."""
    rows = [shorten(f"As {evidence.origin} at {url}", 80)]
    rows.append(f"  {'':41}status  Access-Control-Allow-Origin")
    for asked in evidence.asked:
        if asked.page == ALLOWED:
            got = " and ".join(asked.allow_origin) or "-"
            what = f"{asked.question.name:11}{asked.what}"
            rows.append(f"  {what:43}{outcome(asked):>4}  {shorten(got, 29)}")
    if evidence.others:
        rows.append("As other pages: the status of a preflight, of /v1/models, of a stream")
    for page, origin in dict.fromkeys((asked.page, asked.origin) for asked in evidence.others):
        same = [a for a in evidence.others if (a.page, a.origin) == (page, origin)]
        verdict = "let in" if any(blocked(a) is None for a in same) else "not let in"
        statuses = " ".join(map(outcome, same))
        rows.append(f"  {page:11}{shorten(origin, 43):44}{statuses:12} {verdict}")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    interruption.end_with(main)
