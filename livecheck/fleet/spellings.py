"""The same request in other spellings, all without a credential.

A server often decides in one place whether a request needs a credential, and in another place what
the request is for. If the two read it differently, there is a way past the first: a path that only
the second one normalises, a method that only the second one replaces, or a header by which a proxy
tells the server who was let in. A variant counts only if it brings what the plain request brings
with a credential, so that a server may answer it in any other way.

DELETE, TRACE and CONNECT are not tried, because they might change something. HEAD is not tried,
because its answer has no body that could show a completion.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from livecheck.wire.wire import Request

OPEN_PATH = "/health"  # what most servers let everybody read
OPEN_FOLDERS = ("public", "static", "docs", "health", "ping", "metrics")
HERE = "127.0.0.1"
HERE_AND_NEAR = (HERE, "10.0.0.1", "::1", "localhost")
ANY_USER = "admin"
ANY_EMAIL = "admin@example.com"

# where a proxy writes the address of its client
ADDRESSES = (
    *("x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip"),
    *("x-cluster-client-ip", "x-originating-ip", "x-remote-ip", "x-remote-addr"),
    *("x-custom-ip-authorization", "x-envoy-external-address"),
)
# where a proxy writes who was let in, after it has checked a login
USERS = (
    *("x-forwarded-user", "x-remote-user", "remote-user", "x-auth-request-user"),
    *("x-webauth-user", "x-authenticated-user", "x-authenticated-userid", "x-user", "x-user-id"),
    *("x-consumer-username", "x-vouch-user", "x-authentik-username", "tailscale-user-login"),
    *("x-ms-client-principal-name", "x-amzn-oidc-identity", "x-goog-authenticated-user-id"),
)
EMAILS = (
    *("x-forwarded-email", "x-auth-request-email", "x-authenticated-email"),
    *("cf-access-authenticated-user-email", "x-goog-authenticated-user-email"),
)
# where a proxy writes what was asked for before it changed the path
URLS = (
    *("x-original-url", "x-rewrite-url", "x-original-uri", "x-forwarded-uri", "x-forwarded-path"),
    *("x-forwarded-prefix", "x-envoy-original-path"),
)
HOSTS = ("host", "x-forwarded-host", "x-host", "x-forwarded-server")
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
# what says that a request comes from inside, or was checked before
MARKS: tuple[tuple[str, str], ...] = (
    ("forwarded", f"for={HERE};host=localhost;proto=https"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-method", "OPTIONS"),
    ("x-original-method", "OPTIONS"),
    ("x-forwarded-groups", ANY_USER),
    ("x-user-role", ANY_USER),
    ("x-envoy-internal", "true"),
    ("x-internal-request", "true"),
    ("x-internal", "true"),
    ("x-authenticated", "true"),
    ("x-admin", "true"),
    ("x-debug", "true"),
    ("x-ssl-client-verify", "SUCCESS"),
    ("x-client-verify", "SUCCESS"),
    ("x-middleware-subrequest", ":".join(["middleware"] * 5)),  # CVE-2025-29927
    ("user-agent", "kube-probe/1.31"),
    ("origin", "http://localhost"),
)
# Headers of one connection only, so that a proxy takes them away (RFC 9110, section 7.6.1).
DROPPED = ("authorization", "x-forwarded-for", "x-real-ip")
WRONG = "Bearer wrong"
# what a server may cut off, or take for the end of the path; the dot by a name of its own
ENDINGS = (
    *(".json", ";", ";x=1", f";{OPEN_PATH}", "%00", "%20", "%09", "%0a", "."),
    *("?", f"?{OPEN_PATH}", "?x=/public/", "%3f", "%3fx=1", "#", f"#{OPEN_PATH}", "%23"),
)
NAMED = {".": "a dot"}
# The ones that are also tried on a second page.
COMMON_PATHS = (
    "two slashes in front",
    "two slashes inside",
    "a slash at the end",
    "the last letter encoded",
    "a dot segment inside",
    "out of /public",
    "in capitals",
    "the last part in capitals",
    ".json at the end",
    ";x=1 at the end",
    "%00 at the end",
    "# at the end",
)
COMMON_HEADERS = (
    *("x-forwarded-for", "forwarded", "x-forwarded-user", "x-remote-user", "x-auth-request-user"),
    *("x-webauth-user", "x-auth-request-email", "x-original-url", "x-rewrite-url"),
    *("x-forwarded-host", "x-user-role", "x-admin", "x-internal-request"),
)


def encoded(letter: str) -> str:
    return f"%{ord(letter):02x}"


def other_paths(path: str, origin: str) -> dict[str, str]:
    """Other spellings of `path`, by what is different; each once.

    `path` has two parts or more. `origin` is the scheme and host for the absolute form.
    """
    found = {
        **other_slashes(path),
        **other_letters(path),
        **dot_segments(path),
        **capitals(path),
        **{f"{NAMED.get(ending, ending)} at the end": path + ending for ending in ENDINGS},
        **backslashes(path),
        "the absolute form": f"{origin}{path}",
    }
    names = {spelled: name for name, spelled in reversed(found.items())}
    return {name: spelled for name, spelled in found.items() if names[spelled] == name}


def other_slashes(path: str) -> dict[str, str]:
    first, rest = path[1:].split("/", 1)
    head, last = path.rsplit("/", 1)
    return {
        "two slashes in front": f"/{path}",
        "two slashes inside": f"/{first}//{rest}",
        "two slashes before the last part": f"{head}//{last}",
        "a slash at the end": f"{path}/",
        "two slashes at the end": f"{path}//",
    }


def other_letters(path: str) -> dict[str, str]:
    first, rest = path[1:].split("/", 1)
    head, last = path.rsplit("/", 1)
    return {
        "the first letter encoded": f"/{encoded(path[1])}{path[2:]}",
        "the last letter encoded": path[:-1] + encoded(path[-1]),
        "the last letter encoded twice": f"{path[:-1]}%25{encoded(path[-1])[1:]}",
        "a slash encoded": f"/{first}%2f{rest}",
        "the last slash encoded": f"{head}%2f{last}",
    }


def dot_segments(path: str) -> dict[str, str]:
    first, rest = path[1:].split("/", 1)
    return {
        "a dot segment in front": f"/.{path}",
        "a dot segment inside": f"/{first}/./{rest}",
        "a dot segment at the end": f"{path}/.",
        "out of its own folder": f"/{first}/..{path}",
        "back from below it": f"{path}/x/..",
        **{f"out of /{folder}": f"/{folder}/..{path}" for folder in OPEN_FOLDERS},
        "out of /health, dots encoded": f"{OPEN_PATH}/%2e%2e{path}",
        "out of /health, slash encoded": f"{OPEN_PATH}/..%2f{path[1:]}",
        "out of /health, with a semicolon": f"{OPEN_PATH}/..;{path}",
    }


def capitals(path: str) -> dict[str, str]:
    first, rest = path[1:].split("/", 1)
    head, last = path.rsplit("/", 1)
    return {
        "in capitals": path.upper(),
        "the first part in capitals": f"/{first.upper()}/{rest}",
        "the last part in capitals": f"{head}/{last.upper()}",
        "one capital": f"{head}/{last.capitalize()}",
    }


def backslashes(path: str) -> dict[str, str]:
    back = path.replace("/", "\\")
    return {
        "backslashes": f"/{back[1:]}",
        "a backslash in front": f"/{back[0]}{path[1:]}",
        "backslashes encoded": f"/{back[1:]}".replace("\\", "%5c"),
    }


def respelled(request: Request, paths: Mapping[str, str]) -> dict[str, Request]:
    changed = functools.partial(dataclasses.replace, request, is_raw=True)
    return {name: changed(path=path) for name, path in paths.items()}


def with_headers(request: Request, **headers: str) -> Request:
    """The same request with these headers as well; `x_real_ip` is X-Real-IP."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return dataclasses.replace(request, headers={**request.headers, **named})


def other_methods(post: Request) -> dict[str, Request]:
    """The POST by other methods, with its body, and under headers that name another method."""

    def by(method: str, **headers: str) -> Request:
        return dataclasses.replace(with_headers(post, **headers), method=method)

    found = {each: by(each) for each in ("GET", "PUT", "PATCH", "QUERY", "OPTIONS", "post", "Post")}
    for header in OVERRIDES:
        key = header.replace("-", "_")
        found[f"GET, {header.title()}: POST"] = by("GET", **{key: "POST"})
        for method in ("OPTIONS", "GET"):
            found[f"POST, {header.title()}: {method}"] = by("POST", **{key: method})
    found["OPTIONS, X-Http-Method-Override: POST"] = by("OPTIONS", x_http_method_override="POST")
    for method in ("GET", "OPTIONS"):
        path = f"{post.path}?_method={'POST' if method == 'GET' else method}"
        sent = by("GET" if method == "GET" else "POST")
        found[f"{sent.method}, {path.partition('?')[2]}"] = dataclasses.replace(sent, path=path)
    found["POST with the headers of a preflight"] = by(
        "POST", origin="http://localhost", access_control_request_method="POST"
    )
    return found


def header_lines(user: str | None) -> list[tuple[str, str]]:
    """The headers that only a proxy should set, one for each request.

    `user`: a name that the server knows, in place of `ANY_USER`.
    """
    return [
        *(("x-forwarded-for", address) for address in HERE_AND_NEAR),
        *((name, HERE) for name in ADDRESSES),
        *((name, user or ANY_USER) for name in USERS),
        *((name, ANY_EMAIL) for name in EMAILS),
        *((name, OPEN_PATH) for name in URLS),
        *((name, "localhost") for name in HOSTS),
        *MARKS,
    ]


def proxy_headers(request: Request, user: str | None = None) -> dict[str, Request]:
    """The request with each of the headers that only a proxy should set.

    The names do not contain `user`, which comes from a credential.
    """
    found = {}
    for name, value in header_lines(user):
        shown = "the user of the token" if user and value == user else value
        found[f"{name.title()}: {shown}"] = with_headers(request, **{name: value})
    for name in ("x-original-url", "x-rewrite-url"):
        moved = dataclasses.replace(request, path=OPEN_PATH, is_raw=False)
        found[f"{OPEN_PATH} with {name.title()}"] = with_headers(moved, **{name: request.path})
    for name in DROPPED:
        value = WRONG if name == "authorization" else HERE
        sent = with_headers(request, **{name: value, "connection": f"close, {name}"})
        found[f"Connection: close, {name}"] = sent
    return found


def common_paths(request: Request, origin: str) -> dict[str, Request]:
    """The likeliest other spellings of another page."""
    found = other_paths(request.path, origin)
    return respelled(request, {name: found[name] for name in COMMON_PATHS})


def common_headers(request: Request) -> dict[str, Request]:
    """The likeliest of the headers, for another page."""
    found = proxy_headers(request)
    return {
        name: each
        for name, each in found.items()
        if name.partition(":")[0].lower() in COMMON_HEADERS
    }
