#!/usr/bin/env python3
"""Can a web page on the allowed origin use the deployment, and no page elsewhere?

Sends what a browser would send for such a page (a preflight, a chat completion, a stream, requests
that fail) and reads the answers by the rules of the Fetch standard. Then it asks in the name of
pages that have no business there: another site, look-alikes, another scheme or port, `null`.

PASS: the page gets through and can read every answer; all others get nothing they could use.
Cost: about 25 small requests, 9 of them preflights, and up to four answers of at most 4 tokens; 14
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

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Exit, Run, Status
from livecheck.core.text import shorten
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import is_rate_limit, ms, number, words

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
    "disabled",
)
# those that need the model
OF_MODEL = ("answer", "stream", "errors", "credentials", "others", "vary", "exposed", "disabled")
ALLOWED = "allowed"  # the page of --origin; other pages are named for what is wrong with them
DENIED = "denied"
OTHER_SITE = "other-site.example"  # nobody's: RFC 2606 keeps .example out of the DNS
OTHER_PORT = 61443
LONGEST_VALUE = 4000  # of a header: lists of names are long
QUOTED = 100  # characters of it in a line of evidence
AT_ONCE = 4  # requests that do not reach the model
WRONG_KEY = "Bearer wrong-key"
NOT_THERE = "/v1/not-there"
# what the openai package for JavaScript sends along with every request
SDK_HEADERS = tuple(
    f"x-stainless-{name}"
    for name in "arch lang os package-version retry-count runtime runtime-version timeout".split()
)
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?")
ADDRESS = re.compile(r"\[.*\]|[0-9.]+")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
DEFAULT_PORTS = {("http", "80"), ("https", "443")}


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("what to check").add_argument
    add("--origin", type=origin_option, help="page that should be allowed (or CORS_ORIGIN)")
    add(
        "--denied-origin",
        type=origin_option,
        action="append",
        default=[],
        metavar="ORIGIN",
        help="page that should not be (repeatable)",
    )
    add("--expect-disabled", action="store_true", help="no page should be allowed at all")
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    return parser


# --- origins


def origin_option(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_origin(text: str) -> str:
    """The origin, if it is written as browsers write it: lower case, no path, no default port
    (RFC 6454, section 6.2). ValueError says how to write it."""
    plain = text.strip().rstrip("/").lower()
    match = ORIGIN.fullmatch(plain)
    if match is None or int(match[3] or 1) not in range(1, 65536):
        raise ValueError(f"{text!r} is no origin: write https://host or http://host:port")
    if (match[1], match[3]) in DEFAULT_PORTS:
        plain = f"{match[1]}://{match[2]}"
    if plain != text:
        raise ValueError(f"{text!r} is not how a browser says it: write {plain}")
    return text


def other_pages(origin: str, denied: Sequence[str]) -> list[tuple[str, str]]:
    """(what it is, origin) of pages that must not get in where `origin` may."""
    match = ORIGIN.fullmatch(origin)
    assert match
    scheme, host, port = match.groups()
    tail = f":{port}" if port else ""
    other = "https" if scheme == "http" else "http" if scheme == "https" else "https"
    pages = [("reflected", f"https://{OTHER_SITE}")]
    if not host.startswith("["):
        pages.append(("prefix", f"{scheme}://{host}.{OTHER_SITE}{tail}"))
    if port and int(port + "1") < 65536:
        pages.append(("prefix", f"{origin}1"))  # the origin's text, and one more digit
    if not ADDRESS.fullmatch(host):
        pages.append(("suffix", f"{scheme}://not{host}{tail}"))
        if "." in host:  # as a pattern that forgot to escape it
            pages.append(("dot", f"{scheme}://{host.replace('.', 'x', 1)}{tail}"))
    pages.append(("scheme", f"{other}://{host}{tail}"))
    pages.append(("port", f"{scheme}://{host}:{OTHER_PORT}"))
    pages.append(("null", "null"))
    pages += [(DENIED, each) for each in denied]
    return [page for page in pages if page[1] != origin]


# --- measure


@dataclass(frozen=True)
class Probe:
    """A request as a browser makes it for a page; `page` is ALLOWED or what is wrong with it."""

    name: str
    page: str
    request: wire.Request


@dataclass(frozen=True)
class Record:
    """What became of a probe. `headers` are those that CORS is about, each with all its values."""

    probe: str
    page: str
    origin: str
    method: str
    path: str
    status: int | None
    error: str | None
    error_text: str | None
    answer_ms: float | None
    rate_limited: bool
    headers: dict[str, list[str]]

    def values(self, name: str) -> list[str]:
        return self.headers.get(name, [])

    @property
    def allow_origin(self) -> list[str]:
        return self.values("access-control-allow-origin")

    @property
    def ok(self) -> bool:
        """An "ok status", as the Fetch standard has it."""
        return self.status is not None and 200 <= self.status < 300

    def is_event_stream(self) -> bool:
        return "".join(self.values("content-type")).lower().startswith("text/event-stream")


@dataclass
class Seen:
    """All that was asked and answered; `stopped` says why the rest was not asked."""

    origin: str
    records: list[Record] = field(default_factory=list)
    stopped: str | None = None

    def find(self, probe: str) -> Record | None:
        """The answer that the allowed page got."""
        found = (r for r in self.records if (r.probe, r.page) == (probe, ALLOWED))
        return next(found, None)

    def of_page(self, *probes: str) -> list[Record]:
        """The allowed page's answers to these probes; failed and rate-limited ones left out."""
        found = [self.find(probe) for probe in probes]
        return [r for r in found if r and r.error is None and not r.rate_limited]


KEPT = re.compile(r"access-control-.*|vary|content-type|retry-after|location")


def clean(reply: wire.Reply, value: str) -> str:
    """A header's value in printable characters, of bounded length, without the credential."""
    blotted = reply.blotted(value.encode("latin-1", "replace")).decode("latin-1")
    return shorten(blotted, LONGEST_VALUE)


def make_record(probe: Probe, reply: wire.Reply) -> Record:
    headers: dict[str, list[str]] = {}
    for name, value in reply.message.headers:
        if KEPT.fullmatch(name.lower()):
            headers.setdefault(name.lower(), []).append(clean(reply, value))
    failure, first_ns = reply.failure, reply.first_byte_ns
    text = failure.text if failure else None
    if not failure and (reply.status or 0) >= 300:
        text = f"{reply.status} {words(reply)}".strip()
    return Record(
        probe=probe.name,
        page=probe.page,
        origin=probe.request.headers["origin"] or "",
        method=probe.request.method,
        path=probe.request.path,
        status=reply.status,
        error=failure.kind if failure else None,
        error_text=text,
        answer_ms=ms(first_ns - reply.t0_ns) if first_ns and reply.t0_ns else None,
        rate_limited=is_rate_limit(reply),
        headers=headers,
    )


def preflight(page: str, origin: str, more: Sequence[str] = ()) -> Probe:
    """What a browser asks before a POST with a key and JSON (Fetch standard, "CORS-preflight
    fetch"): the names sorted, no credentials."""
    names = sorted(["authorization", "content-type", *more])
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": ",".join(names),
        "authorization": None,
    }
    name = "sdk" if more else "preflight"
    return Probe(name, page, wire.Request("OPTIONS", chat.COMPLETIONS, headers=headers))


def get(name: str, page: str, origin: str, path: str) -> Probe:
    return Probe(name, page, wire.Request("GET", path, headers={"origin": origin}))


def post(
    name: str, page: str, origin: str, content: wire.Request, key: dict[str, str | None]
) -> Probe:
    headers = {**content.headers, "origin": origin, **key}
    return Probe(name, page, wire.Request("POST", content.path, content.body, headers))


def quick_probes(origin: str, others: Sequence[tuple[str, str]]) -> list[Probe]:
    """What does not reach the model."""
    probes = [
        preflight(ALLOWED, origin),
        preflight(ALLOWED, origin, SDK_HEADERS),
        get("models", ALLOWED, origin, chat.MODELS),
        get("404", ALLOWED, origin, NOT_THERE),
    ]
    for page, other in others:
        probes += [preflight(page, other), get("models", page, other, chat.MODELS)]
    return probes


def model_probes(origin: str, others: Sequence[tuple[str, str]], model: str) -> list[Probe]:
    """What does, or would if it were accepted: one after the other."""
    whole = chat.completion(model, "Say yes.", 1, stream=False)
    stream = chat.completion(model, "Say yes.", 4)
    wrong = wire.Request("POST", whole.path, b'{"messages": "no list"}', whole.headers)
    probes = [
        post("answer", ALLOWED, origin, whole, {}),
        post("stream", ALLOWED, origin, stream, {}),
        post("401", ALLOWED, origin, whole, {"authorization": WRONG_KEY}),
        post("400", ALLOWED, origin, wrong, {}),
    ]
    # one is enough: whether the engine's own CORS headers shine through a stream
    return probes + [post("stream", page, other, stream, {}) for page, other in others[:1]]


def send(
    run: Run, instrument: wire.Wire, seen: Seen, probes: Sequence[Probe], at_once: int
) -> None:
    """Send the probes and keep what came back, also when that is interrupted."""
    if seen.stopped:
        return

    def on_reply(reply: wire.Reply) -> bool:
        chat.show(run, reply)
        seen.stopped = seen.stopped or reason_to_stop(reply)
        return seen.stopped is not None

    try:
        instrument.exchange([probe.request for probe in probes], at_once, on_reply)
    finally:
        pairs = zip(probes, instrument.replies, strict=False)  # less answers, if it was stopped
        seen.records += [make_record(probe, reply) for probe, reply in pairs]


def reason_to_stop(reply: wire.Reply) -> str | None:
    """The rate limit is used up, or the server costs too much time or memory to go on."""
    if is_rate_limit(reply):
        wait = shorten(clean(reply, reply.message.header("retry-after") or "none"), QUOTED)
        return f"the key's rate limit (429 rate_limit_exceeded, Retry-After {wait})"
    if reply.failure and reply.failure.kind in ("timeout", "flood"):
        return f"{reply.request.method} {reply.request.path}: {reply.failure.text}"
    return None


def probe_all(
    run: Run, instrument: wire.Wire, seen: Seen, others: Sequence[tuple[str, str]], model: str
) -> None:
    quick, slow = quick_probes(seen.origin, others), model_probes(seen.origin, others, model)
    with run.progress(f"{len(quick)} preflights and other short requests", 2) as step:
        send(run, instrument, seen, quick, AT_ONCE)
        step()
        if any(run.wants(name) for name in OF_MODEL):
            send(run, instrument, seen, slow[:1], 1)
            if any(record.status == 401 for record in seen.of_page("answer")):
                raise CannotCheck(chat.refused_credential(run))
            send(run, instrument, seen, slow[1:], 1)
        step()


# --- judge: what a browser would do with it

Judge = Callable[[Seen], Check]


def blocked(record: Record) -> str | None:
    """Why a browser keeps the answer from the page, None if it does not (Fetch standard, "CORS
    check"): one header, and its value the origin, byte by byte, or `*`."""
    values = record.allow_origin
    if not values:
        return "no Access-Control-Allow-Origin"
    if len(values) > 1:
        return f"{len(values)} Access-Control-Allow-Origin headers ({brief(values)})"
    if values[0] in ("*", record.origin):
        return None
    if "," in values[0]:
        return f"Access-Control-Allow-Origin is a list ({brief(values)}), browsers take one value"
    return f"Access-Control-Allow-Origin is {brief(values)!r}, not {record.origin}"


def brief(values: Sequence[str]) -> str:
    """Header values as one can read them in a line."""
    return shorten(", ".join(values), QUOTED)


def listed(values: Sequence[str]) -> list[str] | None:
    """The names in a comma-separated header, in lower case; None if it is malformed."""
    names = [part.strip(" \t") for part in ",".join(values).split(",")]
    if not all(TOKEN.fullmatch(name) for name in names if name):
        return None
    return [name.lower() for name in names if name]


def undecided(name: str, reason: str) -> Check:
    return Check(name, Status.SKIP, reason, essential=True)


def without_answer(name: str, probe: str, seen: Seen) -> Check | None:
    """The verdict when a probe has no answer to judge."""
    record = seen.find(probe)
    if record is None or record.rate_limited:
        return undecided(name, f"not decided: {seen.stopped}")
    if record.error:
        text = f"{record.method} {record.path}: {record.error_text}"
        return Check(name, Status.FAIL, text, {"error": record.error})
    return None


def check_preflight(seen: Seen) -> Check:
    """Browsers send no credentials with a preflight, follow no redirect and want an ok status
    (Fetch standard, "CORS-preflight fetch", step 7)."""
    if missing := without_answer("preflight", "preflight", seen):
        return missing
    record = seen.of_page("preflight")[0]
    status, said = record.status or 0, f"{record.status} after {record.answer_ms or 0:.1f} ms"
    evidence = {"status": status, "answer_ms": record.answer_ms}
    if record.ok:
        return Check("preflight", Status.PASS, f"OPTIONS without a key: {said}", evidence)
    reason = "only 2xx lets the request follow"
    if 300 <= status < 400:
        reason = f"{record.error_text}; browsers do not follow it in a preflight"
    elif status in (401, 403):
        reason = "browsers send no key with a preflight"
    return Check("preflight", Status.FAIL, f"OPTIONS without a key: {said}: {reason}", evidence)


def accepted_preflight(name: str, seen: Seen) -> Record | Check:
    """The preflight's answer, if it is worth reading on."""
    if missing := without_answer(name, "preflight", seen):
        return missing if missing.status is Status.SKIP else undecided(name, missing.detail)
    record = seen.of_page("preflight")[0]
    return record if record.ok else undecided(name, f"the preflight was refused: {record.status}")


def check_preflight_origin(seen: Seen) -> Check:
    record = accepted_preflight("preflight_origin", seen)
    if isinstance(record, Check):
        return record
    problem = blocked(record)
    evidence = {"allow_origin": record.allow_origin}
    status = Status.FAIL if problem else Status.PASS
    return Check("preflight_origin", status, problem or record.allow_origin[0], evidence)


def check_methods(seen: Seen) -> Check:
    """POST is allowed. Browsers take it as read when the header is missing (it is a
    "CORS-safelisted method"), but a list without it says that it is not meant to be."""
    record = accepted_preflight("methods", seen)
    if isinstance(record, Check):
        return record
    values = record.values("access-control-allow-methods")
    text, names = brief(values), listed(values)
    evidence = {"allow_methods": values}
    if names is None:
        detail = f"Access-Control-Allow-Methods is no list: {text}"
        return Check("methods", Status.FAIL, detail, evidence)
    if not values:
        detail = "no Access-Control-Allow-Methods, and POST needs none"
        return Check("methods", Status.PASS, detail, evidence)
    if "post" in names or "*" in names:
        return Check("methods", Status.PASS, text, evidence)
    return Check("methods", Status.FAIL, f"POST is not among {text or 'none'}", evidence)


def check_headers(seen: Seen) -> Check:
    """`authorization` is covered by name, as `*` does not stand for it (Fetch standard,
    "CORS non-wildcard request-header name"), and `content-type` by name or `*`."""
    record = accepted_preflight("headers", seen)
    if isinstance(record, Check):
        return record
    values = record.values("access-control-allow-headers")
    text, names = brief(values) or "none", listed(values)
    evidence = {"allow_headers": values}
    if names is None:
        detail = f"Access-Control-Allow-Headers is no list: {text}"
        return Check("headers", Status.FAIL, detail, evidence)
    missing = [each for each in ("authorization", "content-type") if each not in names]
    if "*" in names:
        missing = [each for each in missing if each == "authorization"]
    if not missing:
        return Check("headers", Status.PASS, text, evidence)
    hint = "; * does not stand for authorization" if "*" in names else ""
    detail = f"{' and '.join(missing)} not covered by {text}{hint}"
    return Check("headers", Status.FAIL, detail, evidence)


def check_answer(seen: Seen) -> Check:
    return check_readable("answer", seen)


def check_stream(seen: Seen) -> Check:
    record = seen.find("stream")
    if record and record.status == 200 and not record.error and not record.is_event_stream():
        kind = brief(record.values("content-type")) or "no content type"
        return Check("stream", Status.FAIL, f"200, but no event stream: {kind}")
    return check_readable("stream", seen)


def check_readable(name: str, seen: Seen) -> Check:
    """A completion that succeeds, and that the page can read; so is the list of models."""
    if missing := without_answer(name, name, seen):
        return missing
    record = seen.of_page(name)[0]
    if record.status == 503 and record.values("retry-after"):
        wait = brief(record.values("retry-after"))
        return undecided(name, f"the deployment is busy: 503, Retry-After {wait}; try again")
    if record.status != 200:
        return Check(name, Status.FAIL, f"no answer to read: {record.error_text or record.status}")
    models = [each for each in seen.of_page("models") if each.ok and name == "answer"]
    return check_all_readable(name, [record, *models])


def check_errors(seen: Seen) -> Check:
    """The page can read why a request failed: else all it sees is "Failed to fetch"."""
    probes = ("401", "404", "400")
    for probe in probes:
        if missing := without_answer("errors", probe, seen):
            return missing
    found = seen.of_page(*probes)
    errors = [record for record in found if (record.status or 0) >= 300]
    none = [f"no {record.probe}" for record in found if record not in errors]
    if not errors:
        return Check("errors", Status.SKIP, f"no request could be made to fail: {', '.join(none)}")
    check = check_all_readable("errors", errors)
    if none:
        check.detail += f" ({', '.join(none)} to be had: the request succeeded)"
    return check


def check_all_readable(name: str, records: Sequence[Record]) -> Check:
    problems = [f"{r.status} to {r.method} {r.path}: {blocked(r)}" for r in records if blocked(r)]
    evidence = {f"{r.probe}": {"status": r.status, "allow_origin": r.allow_origin} for r in records}
    if problems:
        return Check(name, Status.FAIL, "; ".join(problems), evidence)
    statuses = ", ".join(f"{r.status} to {r.method} {r.path}" for r in records)
    value = " or ".join(sorted({r.allow_origin[0] for r in records}))
    return Check(name, Status.PASS, f"{statuses}: {value}", evidence)


def check_credentials(seen: Seen) -> Check:
    """`*` and credentials exclude each other (Fetch standard, "CORS check"): browsers refuse."""
    allowing = [r for r in seen.records if "true" in r.values("access-control-allow-credentials")]
    both = [r for r in allowing if "*" in r.allow_origin]
    if both:
        where = f"{len(both)} answers, as {both[0].status} to {both[0].method} {both[0].path}"
        detail = f"Access-Control-Allow-Origin * together with credentials in {where}"
        return Check("credentials", Status.FAIL, detail)
    if not seen.of_page("preflight", "answer", "stream"):
        return undecided("credentials", "no answer to judge")
    if allowing:
        detail = f"allowed in {len(allowing)} answers, never together with *"
        return Check("credentials", Status.PASS, detail)
    return Check("credentials", Status.PASS, f"none allowed in {len(seen.records)} answers")


def is_public(seen: Seen) -> bool:
    """Whether any page may, by configuration: `*` on all that the allowed page got."""
    got = [record.allow_origin for record in seen.records if record.page == ALLOWED]
    values = [value for each in got for value in each]
    return bool(values) and set(values) == {"*"}


def check_others(seen: Seen) -> Check:
    """A page elsewhere is let in nowhere: no preflight of its passes, no answer can be read."""
    others = [record for record in seen.records if record.page != ALLOWED]
    public = is_public(seen)
    if public:
        others = [record for record in others if record.page == DENIED]
        if not others:
            reason = "every page is allowed (*): no other to keep out"
            return Check("others", Status.SKIP, reason)
    asked = len({record.origin for record in others})
    let_in: dict[str, list[str]] = {}
    for record in others:
        if blocked(record) is None:
            let_in.setdefault(f"{record.origin} ({record.page})", []).append(record.probe)
    evidence = {"asked": asked, "let_in": let_in}
    if let_in:
        named = "; ".join(f"{name} on {', '.join(probes)}" for name, probes in let_in.items())
        detail = f"{len(let_in)} of {asked} other pages are let in: {named}"
        return Check("others", Status.FAIL, detail, evidence)
    failed = [record for record in others if record.error]
    if failed:
        detail = f"{failed[0].method} {failed[0].path} as {failed[0].origin}: "
        detail += failed[0].error_text or ""
        return Check("others", Status.FAIL, detail, evidence)
    if seen.stopped:
        return undecided("others", f"not decided: {seen.stopped}")
    detail = f"{asked} other pages get nothing in {len(others)} answers"
    return Check("others", Status.PASS, detail, evidence)


def check_vary(seen: Seen) -> Check:
    """Caches must not hand one page's answer to another (Fetch standard, "CORS protocol and HTTP
    caches"). Preflights are not cached by them (RFC 9110, section 9.3.7)."""
    answers = seen.of_page("answer", "stream", "models", "401", "404", "400")
    specific = [r for r in answers if seen.origin in r.allow_origin]
    if not specific:
        reason = "every page is allowed (*)" if is_public(seen) else "no answer carries the origin"
        return Check("vary", Status.SKIP, f"{reason}: nothing varies")
    lacking = [r for r in specific if not {"origin", "*"} & set(listed(r.values("vary")) or ())]
    if not lacking:
        return Check("vary", Status.PASS, f"Vary: Origin on all {len(specific)} answers")
    detail = f"no Vary: Origin on {len(lacking)} of {len(specific)} answers that carry the origin"
    detail += f", as {lacking[0].status} to {lacking[0].method} {lacking[0].path}"
    if is_static(seen):
        detail += "; harmless while all pages are sent this same origin, not with a second one"
        return Check("vary", Status.WARN, detail)
    return Check("vary", Status.FAIL, f"{detail}: a cache may give it to another page")


def is_static(seen: Seen) -> bool:
    """Whether other pages were sent the very same origin, as by a fixed header."""
    sent = [r.allow_origin for r in seen.records if r.page != ALLOWED and not r.error]
    return bool(sent) and all(values == [seen.origin] for values in sent)


def check_exposed(seen: Seen) -> Check:
    """A page can see how long to wait (Fetch standard, "CORS-safelisted response-header name":
    Retry-After is none of them)."""
    readable = [r for r in seen.of_page("401", "404", "400", "answer") if blocked(r) is None]
    if not readable:
        return Check("exposed", Status.SKIP, "no answer that the page could read")
    hidden = [
        r
        for r in readable
        if not {"retry-after", "*"} & set(listed(r.values("access-control-expose-headers")) or ())
    ]
    if not hidden:
        return Check("exposed", Status.PASS, f"Retry-After, on {len(readable)} answers")
    said = brief(hidden[0].values("access-control-expose-headers")) or "none"
    detail = f"Retry-After is not in Access-Control-Expose-Headers ({said}) of {len(hidden)} of "
    detail += f"{len(readable)} answers: a page that is refused cannot see how long to wait"
    return Check("exposed", Status.WARN, detail)


def check_sdk_headers(seen: Seen) -> Check:
    """The openai package for JavaScript can be used as it is."""
    accepted = accepted_preflight("sdk_headers", seen)
    record = next(iter(seen.of_page("sdk")), None)
    if isinstance(accepted, Check) or blocked(accepted) or record is None:
        return Check("sdk_headers", Status.SKIP, "no preflight that was accepted")
    if not record.ok or blocked(record):
        detail = f"a preflight that asks for x-stainless-* is refused: {record.status}"
        return Check("sdk_headers", Status.WARN, detail)
    names = listed(record.values("access-control-allow-headers")) or []
    missing = [] if "*" in names else [each for each in SDK_HEADERS if each not in names]
    if not missing:
        return Check("sdk_headers", Status.PASS, f"all {len(SDK_HEADERS)} x-stainless-* covered")
    detail = f"{len(missing)} of {len(SDK_HEADERS)} x-stainless-* headers are not covered, as "
    detail += f"{missing[0]}: browsers block the JavaScript SDK, unless told to leave them out"
    return Check("sdk_headers", Status.WARN, detail, {"missing": missing})


def check_disabled(seen: Seen) -> Check:
    """No answer says anything about CORS."""
    said = {
        name: record
        for record in seen.records
        for name in record.headers
        if name.startswith("access-control-")
    }
    if said:
        name, record = next(iter(said.items()))
        detail = f"{', '.join(sorted(said))} though CORS should be off, as {name}: "
        detail += (
            f"{brief(record.headers[name])} on {record.status} to {record.method} {record.path}"
        )
        detail += f" for {record.origin}"
        return Check("disabled", Status.FAIL, detail, {"headers": sorted(said)})
    for probe in ("preflight", "answer", "stream"):
        if missing := without_answer("disabled", probe, seen):
            return missing
    failed = [r for r in seen.of_page("answer", "stream") if r.status != 200]
    if failed:
        return Check("disabled", Status.FAIL, f"no answer to read: {failed[0].error_text}")
    detail = f"no Access-Control-* header in {len(seen.records)} answers to "
    return Check("disabled", Status.PASS, detail + f"{len({r.origin for r in seen.records})} pages")


JUDGES: tuple[Judge, ...] = (
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
)


# --- report


def metrics(seen: Seen) -> dict[str, Any]:
    """What the deployment says of itself, as far as it was asked."""
    found = seen.find("preflight")
    ages = found.values("access-control-max-age") if found else []
    return {
        "probes": len(seen.records),
        "other_pages": len({r.origin for r in seen.records if r.page != ALLOWED}),
        "allow_origin": found.allow_origin if found else [],
        "max_age_s": number(ages[0]) if ages else None,
        "preflight_ms": found.answer_ms if found else None,
    }


def lines(seen: Seen, url: str) -> list[str]:
    """A line for each answer to the allowed page, one for each other page."""
    rows = [
        shorten(f"As {seen.origin} at {url}", 80),
        f"  {'':41}status  Access-Control-Allow-Origin",
    ]
    for record in seen.records:
        if record.page == ALLOWED:
            got = " and ".join(record.allow_origin) or "-"
            what = f"{record.probe:11}{record.method} {record.path}"
            rows.append(f"  {what:43}{record.status or record.error:>4}  {shorten(got, 29)}")
    others = [record for record in seen.records if record.page != ALLOWED]
    if others:
        rows.append("As other pages: the status of a preflight, of /v1/models, of a stream")
    for page, origin in dict.fromkeys((record.page, record.origin) for record in others):
        same = [r for r in others if (r.page, r.origin) == (page, origin)]
        statuses = " ".join(str(r.status or r.error) for r in same)
        verdict = "let in" if any(blocked(r) is None for r in same) else "nothing"
        rows.append(f"  {page:11}{shorten(origin, 43):44}{statuses:12} {verdict}")
    return rows


# --- run


def find_origin(run: Run) -> str:
    """The page to ask for. ValueError: CORS_ORIGIN is no origin."""
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
        return f"https://app.{OTHER_SITE}"  # no page is to be allowed, so any will do
    raise CannotCheck("which page should be allowed? give --origin or set CORS_ORIGIN")


def check_contact(contact: wire.Reply, seen: Seen) -> Check | None:
    """A server that hangs or floods at the first contact is asked nothing else."""
    seen.stopped = reason_to_stop(contact)
    if seen.stopped and contact.failure:
        return Check("answer", Status.FAIL, seen.stopped, {"error": contact.failure.kind})
    return None


def measure(run: Run) -> None:
    args, document = run.args, run.document("cors")
    try:
        seen = Seen(find_origin(run))
    except ValueError as error:
        run.stop(Exit.USAGE, str(error))
        return
    others = other_pages(seen.origin, args.denied_origin)
    target = wire.Target(run.url, run.token(), verify=not args.no_verify_ssl)
    with wire.Wire(target, args.timeout) as instrument:
        run.client["clock"] = instrument.clock
        contact = chat.meet(run, instrument, [chat.MODELS])[chat.MODELS]
        hopeless = check_contact(contact, seen)
        model = args.model or chat.first_model(contact) or chat.UNKNOWN_MODEL
        run.target["model"] = model
        try:
            probe_all(run, instrument, seen, others, model)
        finally:
            document.requests = [vars(record) for record in seen.records]
            document.metrics = metrics(seen)
    judges = (check_disabled,) if args.expect_disabled else JUDGES
    document.add(*([hopeless] if hopeless else [judge(seen) for judge in judges]))
    run.show(lines(seen, run.url), document)


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        measure(run)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
