"""Finds the base URL of the API, when it is not where it usually is.

The first contact asks for the list of models at the likeliest base; any answer but "there is no
such thing here" settles it, and nothing more is sent. Else the list is looked for at the other
bases that the URL may mean. A deployment may have no list at all: then an empty request for a
completion is sent to each. A server that has the endpoint refuses it at once, as the messages are
missing, and no model is asked.
"""

from __future__ import annotations

import dataclasses
import re

from livecheck.core.address import Address
from livecheck.core.credentials import CannotCheck, NoAccess
from livecheck.core.json_value import pick
from livecheck.core.late_pattern import late_pattern
from livecheck.core.run import Run
from livecheck.wire.access import LINES, Refusal, refusal_of
from livecheck.wire.answer import Answer
from livecheck.wire.asking import fetch, rate_limit_words
from livecheck.wire.redirect import is_redirect
from livecheck.wire.wire import Request, Wire

LOOK_S = 5.0  # for one look: a server that works on an empty request for longer has the endpoint
NO_ROUTE = late_pattern(rb"missing authentication token", re.IGNORECASE)  # AWS's API gateway, 403
ABOUT_A_MODEL = late_pattern(r"\bmodels?\b", re.IGNORECASE)  # a 404 may say that there is none


def find_base(
    run: Run, wire: Wire, listing: Answer, completions: str, option: str = "--url"
) -> Answer:
    """The answer to the request for the list of models, at the base that the API has.

    `listing`: that of the likeliest base. `completions`: the path of the endpoint. `option`: where
    the URL was given. CannotCheck with the URLs tried when there is no API at any of the bases, and
    when a rate limit ends the search.
    """
    address = wire.target.address
    if address is None:
        return listing
    found = listing if is_there(listing) else search(run, wire, listing, completions, option)
    if not address.is_usual:
        run.note(f"{option}: taking {address.base} as the base URL of the API")
    return found


def search(run: Run, wire: Wire, listing: Answer, completions: str, option: str) -> Answer:
    """Ask at the other bases for the list, then at all of them for a completion."""
    address = wire.target.address
    assert address
    listings = {address.base: listing}
    for base in address.bases[1:]:
        look = dataclasses.replace(listing.request, cancel_after_s=LOOK_S)
        listings[base] = answer = look_at(run, wire, address, base, look)
        if has_list(answer):
            return answer
    empty = {"content-type": "application/json"}
    request = dataclasses.replace(
        listing.request,
        method="POST",
        path=completions,
        body=b"{}",
        headers={**listing.request.headers, **empty},
        cancel_after_s=LOOK_S,
    )
    tried = []
    for base in address.bases:
        answer = look_at(run, wire, address, base, request)
        if takes_requests(answer):
            return listings[base]
        seen = answer.outcome() if is_redirect(answer) else answer.status or answer.outcome()
        tried.append(
            f"{address.base} ({'a web page' if answer.is_ok and answer.is_web_page else seen})"
        )
    address.base = address.bases[0]
    refusal = refusal_of(listing)
    if refusal in (Refusal.LOGIN, Refusal.EDGE):  # a page with status 200
        raise NoAccess(LINES[refusal](listing, str(address)))
    hint = "" if run.credentials.given else "; some servers say so to whoever has no key"
    text = nothing_there(tried, option) + hint
    raise NoAccess(listing.reply.proxy.in_words(text) if listing.reply.proxy else text)


def look_at(run: Run, wire: Wire, address: Address, base: str, request: Request) -> Answer:
    """The answer at this base, which stays the one in use. CannotCheck for a rate limit."""
    address.base = base
    answer = fetch(run, wire, request, f"{request.method} {base}{request.path.removeprefix('/v1')}")
    if answer.is_rate_limited:
        raise CannotCheck(rate_limit_words(answer))
    return answer


def nothing_there(tried: list[str], option: str) -> str:
    """The line for URLs at which there is no API."""
    return (
        f"there is no chat/completions below {', '.join(tried)}: "
        f"give the base URL of the API, as in {option} https://host/v1"
    )


# --- what an answer says


def is_page(answer: Answer) -> bool:
    """A page for people with status 200, as web sites send for any path, or nothing at all with
    status 200, as Caddy answers where no route is configured."""
    if answer.status == 200 and not answer.body.strip():
        return True
    looks_so = answer.content_type.startswith("text/html") or answer.is_web_page
    return answer.status == 200 and looks_so


def is_there(listing: Answer) -> bool:
    """Whether the answer for the list of models says that the API is here, or leaves it open."""
    if listing.failure is not None:
        return True
    is_unrouted = listing.status == 403 and NO_ROUTE.search(listing.body) is not None
    return not (listing.status == 404 or is_page(listing) or is_unrouted)


def has_list(answer: Answer) -> bool:
    """Whether it is a list of models, or refuses one for a reason other than its place."""
    if answer.status is None or not is_there(answer):
        return False
    if 200 <= answer.status < 300:
        return isinstance(pick(answer.json, "data"), list)
    return answer.status >= 400


def takes_requests(answer: Answer) -> bool:
    """Whether an empty request for a completion came to something that knows such requests."""
    if answer.status is None:  # it works on it, or broke the connection over it
        return not answer.failure or answer.failure.kind not in ("connect", "tls")
    if answer.status == 404:
        return isinstance(answer.json, dict) and bool(ABOUT_A_MODEL.search(answer.words))
    redirects = 300 <= answer.status < 400
    return is_there(answer) and not redirects and answer.status != 405
