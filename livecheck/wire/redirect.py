"""Tells where a redirect leads, and which URL should have been given.

A redirect is not followed: the credential is for the given address only. As long as nothing was
served it is no verdict about the deployment, but a wrong address. What is advised must be a base
URL of the same kind: the target without the path that was asked for.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence

from livecheck.core.address import API, read_address
from livecheck.core.late_pattern import late_pattern
from livecheck.core.settings import check_url
from livecheck.wire.answer import Answer
from livecheck.wire.connection import Target

STATUSES = (301, 302, 303, 307, 308)
SHOWN = 100  # characters of a target
# paths and hosts of pages to log in: Authelia, Cloudflare Access, Keycloak, Okta, oauth2-proxy, …
LOGIN = late_pattern(
    r"(^|[/._-])(log-?in|sign-?in|sso|oauth2?|openid-connect|saml2?|adfs|cas|authenticate|authorize)"
    r"([/._-]|$)|cloudflareaccess\.com|(^|\.)(accounts|login|auth|sso|idp)\.",
    re.I,
)


def is_redirect(answer: Answer) -> bool:
    return answer.status in STATUSES


def moved(target: Target, answers: Sequence[Answer], api_path: str | None = None) -> str | None:
    """The line for an address that is redirected; None when it is not.

    `answers`: those of the first contact. What counts is the answer for the list of models
    (`api_path`); where that is not asked for, all must be redirects, or say that there is no such
    path: a deployment may well redirect a single one.
    """
    if listing := next((each for each in answers if each.path == api_path), None):
        return redirect_line(target, listing) if is_redirect(listing) else None
    found = [each for each in answers if is_redirect(each)]
    others = [each for each in answers if each not in found and each.status not in (404, 405)]
    return redirect_line(target, found[0]) if found and not others else None


def redirect_line(
    target: Target, answer: Answer, option: str = "--url", keeps_path: bool = False
) -> str:
    """What a redirect means for an operator, who gave the target with this option. `keeps_path`:
    what is given there is the whole URL that was asked for."""
    asked = answer.request.path.partition("?")[0]
    location = destination(target, answer)
    said = f"{answer.request.method} {asked} is redirected ({answer.status})"
    if location is None:
        said = f"{said} to no place that could be asked ({answer.words or 'no Location'})"
        return f"{said}: ask who runs it for the URL, and give it as {option}"
    parts = urllib.parse.urlsplit(location)
    more = "?…" if parts.query else ""
    said = f"{said} to {answer.shown(location.partition('?')[0], SHOWN)}{more}"
    url = url_to_use(location, "" if keeps_path else asked)
    if is_login(parts, asked):
        url = None
    if url is None and is_login(parts, asked):
        advice = "use a URL that takes a key, or let whatever stands in front leave the API out"
        return f"{said}, a page to log in: {advice}"
    if url is None:
        return f"{said}, which is not the same path of another address: give the API's as {option}"
    if not keeps_path and is_same(url, target):
        rule = "change the rule that redirects it"
        return f"{said}, which is the same address again: no other {option} helps, {rule}"
    if target.is_tls and parts.scheme == "http":
        cause = "does the proxy in front tell the server that it is asked by https?"
        return f"{said}, where a key would not be encrypted: {cause}"
    if parts.hostname != target.parts.hostname:
        return f"{said}, another host: if that is the deployment, give {option} {url}"
    return f"{said}: give {option} {url}"


def destination(target: Target, answer: Answer) -> str | None:
    """The URL that a redirect leads to; None when there is none that speaks HTTP."""
    location = answer.header("location")
    if not location or not location.isprintable():
        return None
    base = target.parts
    asked = f"{base.scheme}://{base.netloc}{target.path_of(answer.request.path)}"
    try:
        joined = urllib.parse.urljoin(asked, location.strip())
        parts = urllib.parse.urlsplit(joined)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return joined.partition("#")[0] if is_usable else None


def is_login(parts: urllib.parse.SplitResult, asked: str) -> bool:
    """Whether people log in there. Such a page is told where to come from, in its query."""
    if asked in urllib.parse.unquote(parts.query):
        return True
    place = f"{parts.hostname}{parts.path}"
    return not parts.path.endswith(asked) and LOGIN.search(place) is not None


def url_to_use(location: str, asked: str) -> str | None:
    """The base URL at which this path is the redirect's target; None when it is another path.

    One that ends with `/v1` may be given without it, and so it is here. ValueError never.
    """
    path = location.rstrip("/")
    endings = [asked, asked.removeprefix(API)] if asked.startswith(f"{API}/") else [asked]
    ending = next((each for each in endings if path.endswith(each)), None)
    if ending is None:
        return None
    try:
        return check_url(path.removesuffix(ending))
    except ValueError:  # it has a user, a query, or no host
        return None


def is_same(url: str, target: Target) -> bool:
    """Whether the URL means the address that was given, as far as requests go."""
    found = read_address(url)
    root = target.address.root if target.address else target.url
    bases = target.address.bases if target.address else (f"{target.url}{API}",)
    return found.root == root or found.bases[0] == bases[0]
