"""Where a redirect leads, and which URL should have been given."""

from __future__ import annotations

import pytest
from helpers.answers import answer

from livecheck.core.address import read_address
from livecheck.wire.redirect import destination, is_redirect, moved, redirect_line
from livecheck.wire.wire import Request, Target

GIVEN = "http://host:8000"
MODELS = "/v1/models"


def target(url: str = GIVEN) -> Target:
    address = read_address(url)
    return Target(address.root, address=address)


def told(location: str | None, given: str = GIVEN, path: str = MODELS, status: int = 308) -> str:
    headers = {} if location is None else {"Location": location}
    return redirect_line(target(given), answer(status, headers, request=Request("GET", path)))


@pytest.mark.parametrize(
    ("given", "path", "location", "url"),
    [
        (GIVEN, MODELS, "https://host/v1/models", "https://host"),
        (GIVEN, MODELS, "https://host:8443/llm/v1/models", "https://host:8443/llm"),
        (GIVEN, MODELS, "https://host/v1/models/", "https://host"),
        (GIVEN, MODELS, "//host:9000/v1/models", "http://host:9000"),
        (GIVEN, MODELS, "/api/v1/models", f"{GIVEN}/api"),
        (f"{GIVEN}/v1", MODELS, "https://host/v1/models", "https://host"),
        (f"{GIVEN}/api/paas/v4", MODELS, "https://host/api/paas/v4/models", None),
        (GIVEN, "/ping", "https://host/ping", "https://host"),
        (f"{GIVEN}/llm", "/ping", "https://host/llm/ping", "https://host/llm"),
        ("https://[::1]:8000", MODELS, "https://[::1]:9000/v1/models", "https://[::1]:9000"),
    ],
)
def test_the_path_that_was_asked_for_is_taken_off(
    given: str, path: str, location: str, url: str | None
) -> None:
    expected = url or "https://host/api/paas/v4"
    assert told(location, given, path).endswith(f": give --url {expected}")


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("https://other.example/v1/models", "another host: if that is the deployment, give --url "),
        ("/login", "a page to log in"),
        ("/oauth2/start?rd=%2Fv1%2Fmodels", "a page to log in"),
        ("https://portal.example/?next=/v1/models", "a page to log in"),
        ("https://login.example/?to=/v1/models", "a page to log in"),
        ("https://team.cloudflareaccess.com/cdn-cgi/access/login/host", "a page to log in"),
        ("/v1/models/", "the same address again"),
        ("/v1/models", "the same address again"),
        ("/ui/", "not the same path of another address"),
        ("https://user:word@host/v1/models", "not the same path of another address"),
        ("ftp://host/v1/models", "no place that could be asked"),
        ("https://[broken", "no place that could be asked"),
        ("https://host:99999/v1/models", "no place that could be asked"),
        (None, "no place that could be asked"),
    ],
)
def test_other_targets_are_named_for_what_they_are(location: str | None, says: str) -> None:
    line = told(location)
    assert says in line
    assert line.startswith("GET /v1/models is redirected (308) to ")


def test_a_key_is_not_sent_into_the_open() -> None:
    line = told("http://host/v1/models", "https://host")
    assert "would not be encrypted" in line and "give" not in line


def test_a_query_is_not_shown() -> None:
    assert "secret" not in told("https://login.example/?state=secret")
    assert "login.example/?…" in told("https://login.example/?state=secret")


def test_a_health_url_is_given_whole() -> None:
    probe = answer(301, {"Location": "https://host:8001/ping"}, request=Request("GET", "/ping"))
    line = redirect_line(Target("http://host:8001"), probe, "--health-url", keeps_path=True)
    assert line.endswith("give --health-url https://host:8001/ping")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_these_statuses_are_redirects(status: int) -> None:
    assert is_redirect(answer(status, {"Location": "/"}))
    assert not is_redirect(answer(304, {"Location": "/"}))


def of(path: str, status: int) -> object:
    headers = {"Location": f"https://host{path}"} if 300 <= status < 400 else {}
    return answer(status, headers, request=Request("GET", path))


@pytest.mark.parametrize(
    ("answers", "is_moved"),
    [
        ([of(MODELS, 308), of("/ping", 200)], True),
        ([of(MODELS, 200), of("/metrics", 307)], False),  # it wants a slash at the end
        ([of("/ping", 308), of("/health", 308)], True),
        ([of("/ping", 308), of("/health", 404)], True),
        ([of("/ping", 308), of("/health", 200)], False),
        ([of("/ping", 404)], False),
    ],
)
def test_an_address_has_moved_when_its_api_has_or_everything(
    answers: list[object], is_moved: bool
) -> None:
    assert (moved(target(), answers, MODELS) is not None) is is_moved  # type: ignore[arg-type]


def test_a_relative_target_is_resolved() -> None:
    found = answer(307, {"Location": "models/"}, request=Request("GET", MODELS))
    assert destination(target(), found) == f"{GIVEN}/v1/models/"
