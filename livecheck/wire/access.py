"""Tells why a deployment does not let this program in, and what its operator can do about that.

As long as nothing was served, such an answer is no verdict about the deployment: the run ends with
exit code 3 and one line. Many things stand in front of a model and refuse in its place: an edge, a
proxy, a page to log in. Each of them wants something else to be done.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from livecheck.core.json_value import pick
from livecheck.core.late_pattern import late_pattern
from livecheck.core.run import Run
from livecheck.wire.answer import WORDS_BYTES, Answer
from livecheck.wire.connection import CERTIFICATE_REFUSED, CERTIFICATE_WANTED
from livecheck.wire.error_words import error_in
from livecheck.wire.http1 import HTTP_2


class Refusal(Enum):
    """What refuses, or what it is about."""

    CERTIFICATE = "a client certificate is asked for"
    PROTOCOL = "HTTP/1.1 is not spoken"
    PROXY = "a proxy on the way asks for a password"
    LOGIN = "people have to log in"
    EDGE = "an edge or a firewall refuses"
    ACCOUNT = "the account may not use it now"
    REGION = "it may not be used from here"
    CREDENTIAL = "the credential is missing or refused"


# nginx (ngx_http_ssl_module's 495 and 496), Apache, IIS (403.7), Envoy, Cloudflare
WANTS_CERTIFICATE = late_pattern(
    r"no required (ssl|tls) certificate|ssl certificate required|403\.7\b"
    r"|client certificate (is )?(required|needed|missing|was not)"
    r"|(requires|provide) an? (valid )?client certificate",
    re.I,
)
BAD_CERTIFICATE = late_pattern(r"the ssl certificate error|invalid client certificate", re.I)
ALPN = late_pattern(r"unknown alpn protocol", re.I)  # Node's HTTP/2 server
HTTP_2_NAME = late_pattern(r"\bh2c?\b|HTTP/2", re.I)
# OpenAI, Anthropic, DeepSeek, OpenRouter, Google
ABOUT_MONEY = late_pattern(
    r"insufficient.{0,12}(quota|credit|balance|funds)|billing|payment|credit balance"
    r"|exceeded your current quota",
    re.I,
)
ABOUT_PLACE = late_pattern(
    r"(country|region|territory|location).{0,40}not (supported|available)", re.I
)
PLACE_CODE = late_pattern(r"unsupported_country|not available in your (country|region)", re.I)
# Cloudflare's short form, and the pages of other edges that are sent as plain text
EDGE_TEXT = late_pattern(r"^error code: 1\d\d\d$|attention required|cf-error|just a moment", re.I)
# headers of a challenge or a block, whatever its status: Cloudflare, AWS WAF (202, 405)
EDGE_HEADERS = ("cf-mitigated", "x-amzn-waf-action")
# what firewalls write into pages of any status, also 200: ModSecurity, Imperva, F5, Akamai, Sucuri
FIREWALL = late_pattern(
    r"mod_security|incapsula incident|the requested url was rejected|errors\.edgesuite\.net"
    r"|sucuri website firewall",
    re.I,
)
EDGE_SERVERS = late_pattern(
    r"cloudflare|cloudfront|akamai|awselb|imperva|incapsula|sucuri|fastly|varnish|big-?ip|ddos-guard",
    re.I,
)
# LiteLLM without a database ("No connected db."), Google ("API key not valid"), and many others
ABOUT_CREDENTIAL = late_pattern(
    r"api[ _-]?key|no connected db|authenticat|unauthori[sz]ed|credential"
    r"|(invalid|missing|expired|bad|no|wrong) (access |auth |bearer |jwt |proxy server )?token\b"
    r"|authorization (header|failed|required)|access denied|not logged in",
    re.I,
)
# a field for a password, or a title, as no API has them
LOGIN_PAGE = late_pattern(
    r"type=[\"']?password|<title>[^<]{0,60}\b(log ?-?in|sign ?-?in|single sign-on)\b", re.I
)
DENYING = (401, 403)
USER_AGENT_ADVICE = "let it pass this machine and the User-Agent live-inference-checks"


def refusal_of(answer: Answer) -> Refusal | None:
    """What refuses the request, if it is not the deployment's own verdict on it; None: nothing.

    A reached rate limit is none of these, and neither is the fleet's 400 "Permission denied": it is
    about a role.
    """
    if answer.failure is not None and answer.status is None:
        is_http_2 = answer.failure.text.startswith(HTTP_2)
        return Refusal.PROTOCOL if is_http_2 else None
    if answer.is_rate_limited or answer.status is None:
        return None
    text = answer.body[:WORDS_BYTES].decode("utf-8", "replace").strip()
    is_blocked = any(map(answer.header, EDGE_HEADERS))
    if is_blocked or (answer.is_page and FIREWALL.search(text)):
        return Refusal.EDGE
    if answer.status < 300:
        return _in_a_success(answer, text)
    return _of_anything(answer, text) or (
        _of_a_denial(answer, text) if answer.status in DENYING else None
    )


def _in_a_success(answer: Answer, text: str) -> Refusal | None:
    """A 200 whose body is a page to log in, or an error about the credential."""
    if answer.is_page:
        return Refusal.LOGIN if LOGIN_PAGE.search(text) else None
    if answer.wants_stream and not answer.stream.output_ns:
        events = [each.text for each in answer.stream.complaints if each.kind == "error_event"]
        if events:
            return Refusal.CREDENTIAL if ABOUT_CREDENTIAL.search(events[0]) else None
    error = error_in(answer.json)
    if error is None:
        return None
    codes = {str(pick(error, name) or pick(answer.json, name)) for name in ("code", "status")}
    denied = codes.intersection(map(str, DENYING))
    return Refusal.CREDENTIAL if denied or ABOUT_CREDENTIAL.search(text) else None


def _of_anything(answer: Answer, text: str) -> Refusal | None:
    """What is told by the status alone, or by words that have no other meaning."""
    status = answer.status or 0
    if status in (400, 403) and (WANTS_CERTIFICATE.search(text) or BAD_CERTIFICATE.search(text)):
        return Refusal.CERTIFICATE
    if status in (426, 505) or (status in (400, 403) and ALPN.search(text)):
        return Refusal.PROTOCOL
    if status == 511 or (status in DENYING and LOGIN_PAGE.search(text)):
        return Refusal.LOGIN
    if status == 400 and not answer.is_page and ABOUT_CREDENTIAL.search(text):
        return Refusal.CREDENTIAL
    return {402: Refusal.ACCOUNT, 407: Refusal.PROXY, 451: Refusal.REGION}.get(status)


def _of_a_denial(answer: Answer, text: str) -> Refusal:
    """What a 401 or a 403 is about."""
    if answer.status == 403:
        if answer.is_page or EDGE_TEXT.search(text):
            return Refusal.EDGE
        if ABOUT_MONEY.search(text):
            return Refusal.ACCOUNT
        if ABOUT_PLACE.search(text) or PLACE_CODE.search(text):
            return Refusal.REGION
    return Refusal.CREDENTIAL


# --- the line


def no_access(run: Run, answer: Answer) -> str | None:
    """The line that ends the run after this answer; None when the run goes on.

    After a completion was served, a refusal is the deployment's own affair and is judged as any
    other answer. A 401 is the caller's to decide: a credential may expire during a run.
    """
    if run.has_completed and answer.status != 401:
        return None
    refusal = refusal_of(answer)
    if refusal is Refusal.CREDENTIAL:
        return refused_credential(run, answer)
    return LINES[refusal](answer, run.url) if refusal else None


def said_by(answer: Answer, url: str) -> str:
    """`403 from https://host: the server's words`."""
    words = f": {answer.words}" if answer.words else ""
    return f"{answer.status} from {url}{words}"


def _certificate(answer: Answer, url: str) -> str:
    text = answer.body[:WORDS_BYTES].decode("utf-8", "replace")
    if BAD_CERTIFICATE.search(text):
        advice = "give --cert FILE with one of an authority that the server trusts"
        return f"{CERTIFICATE_REFUSED} ({said_by(answer, url)}): {advice}"
    return f"{CERTIFICATE_WANTED} ({said_by(answer, url)}): give --cert FILE"


def _protocol(answer: Answer, url: str) -> str:
    advice = "let it offer HTTP/1.1 too, or use a proxy in front of it that does"
    if answer.failure and answer.status is None:
        return f"{url} speaks HTTP/2 only ({answer.failure.text}): {advice}"
    wanted = answer.shown_header("upgrade")
    said = said_by(answer, url) + (f", Upgrade: {wanted}" if wanted else "")
    text = answer.body[:WORDS_BYTES].decode("utf-8", "replace")
    is_http_2 = answer.status == 505 or HTTP_2_NAME.search(f"{wanted or ''} {text}")
    if is_http_2:
        return f"the server does not take HTTP/1.1, and may speak HTTP/2 only ({said}): {advice}"
    return f"the server wants another protocol than HTTP/1.1 ({said}): {advice}"


def _proxy(answer: Answer, url: str) -> str:
    return (
        f"a proxy on the way asks for its own user and password ({said_by(answer, url)}): give "
        "them in its URL, as in HTTPS_PROXY=http://user:password@proxy:3128"
    )


def _login(answer: Answer, url: str) -> str:
    return (
        f"a page to log in answers in the place of the API ({said_by(answer, url)}): use a URL "
        "that takes a key, or let whatever stands in front leave the API out"
    )


def _edge(answer: Answer, url: str) -> str:
    server = answer.shown_header("server") or ""
    who, key = f"an edge ({server})", ""
    if not EDGE_SERVERS.search(server):
        # a web server may look at the key itself, and refuse a wrong one with its own page
        who, key = f"a web server or firewall ({server or 'unnamed'})", "is the key right? Else "
    return (
        f"{who} in front of the API refuses this program, and the API did not answer "
        f"({said_by(answer, url)}): {key}{USER_AGENT_ADVICE}, or use a URL that does not go "
        "through it"
    )


def _account(answer: Answer, url: str) -> str:
    return (
        f"the account behind the key may not use it now ({said_by(answer, url)}): look at its "
        "credit, its plan and its quota"
    )


def _region(answer: Answer, url: str) -> str:
    return (
        f"the deployment may not be used from here ({said_by(answer, url)}): run this where, and "
        "with an account for which, it is offered"
    )


LINES: dict[Refusal, Callable[[Answer, str], str]] = {
    Refusal.CERTIFICATE: _certificate,
    Refusal.PROTOCOL: _protocol,
    Refusal.PROXY: _proxy,
    Refusal.LOGIN: _login,
    Refusal.EDGE: _edge,
    Refusal.ACCOUNT: _account,
    Refusal.REGION: _region,
}


def refused_credential(run: Run, answer: Answer) -> str:
    """The line for a missing or refused credential: which one it is about, and what to do."""
    deployment, credentials = run.args.deployment, run.credentials
    if realm := basic_realm(answer):
        return (
            f"HTTP Basic authentication is asked for (401 from {run.url}, realm {realm}): a proxy "
            "in front wants its own user and password. These scripts send a bearer token only: "
            "use a URL that does not go through it, or let the proxy leave the API out"
        )
    kind, article = ("JWT", "a") if deployment.binary_variable else ("API key", "an")
    given = f"{article} {kind} is needed"
    if credentials.given:
        given = f"the {credentials.kind} was refused"
        given += ", or may not do this" if answer.status == 403 else ""
    option = "--token" if deployment.binary_variable else "--api-key"
    said = said_by(answer, run.url)
    return f"{given} ({said}): use {option} or set {deployment.token_variable}"


def basic_realm(answer: Answer) -> str | None:
    """The realm in quotes, when the answer asks for Basic authentication and for nothing else that
    could be given (RFC 9110, section 11.6.1)."""
    headers = answer.reply.message.headers
    challenges = [value for name, value in headers if name.lower() == "www-authenticate"]
    schemes = [value.split(None, 1)[0].lower() for value in challenges if value.strip()]
    if answer.status != 401 or not schemes or any(scheme != "basic" for scheme in schemes):
        return None
    if "bearer" in ", ".join(challenges).lower().split():
        return None
    found = re.search(r'realm="([^"]*)"', challenges[0], re.IGNORECASE)
    return f'"{answer.shown(found[1])}"' if found else "without a name"
