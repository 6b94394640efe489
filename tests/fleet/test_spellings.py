"""spellings.py: each variant is one of a kind, goes to the same server, and has no credential."""

from __future__ import annotations

import pytest

from livecheck.core.address import read_address
from livecheck.fleet import credential_questions as questions
from livecheck.fleet import spellings
from livecheck.fleet.api import RUNNERS
from livecheck.wire import chat
from livecheck.wire.wire import Request, Target

ORIGIN = "https://host:8443"
POST = chat.with_credential(chat.completion("m", "x", 1, stream=False), None)


@pytest.mark.parametrize("path", [chat.COMPLETIONS, "/admin/runners"])
def test_every_path_is_another_spelling(path: str) -> None:
    found = spellings.other_paths(path, ORIGIN)
    assert len(set(found.values())) == len(found)
    assert path not in found.values()
    for each in found.values():
        assert each.isascii() and each.isprintable() and " " not in each
    assert set(spellings.COMMON_PATHS) <= set(found)


def test_only_the_absolute_form_names_a_host_and_it_is_the_targets() -> None:
    found = spellings.respelled(POST, spellings.other_paths(POST.path, ORIGIN))
    named = {name for name, each in found.items() if not each.path.startswith("/")}
    assert named == {"the absolute form"}
    target = Target(f"{ORIGIN}/other", "the-token")
    lines = {name: each.encode(target).split(b"\r\n")[0] for name, each in found.items()}
    assert lines["the absolute form"] == b"POST https://host:8443/v1/chat/completions HTTP/1.1"
    assert lines["a slash at the end"] == b"POST /v1/chat/completions/ HTTP/1.1"


def test_the_completions_are_asked_for_where_they_are() -> None:
    address = read_address("https://host/api/paas/v4")
    target = Target(address.root, address=address)
    ways = questions.other_spellings("m", target, None, True, 10)
    sent = [
        each.request.encode(target).split(b"\r\n")[0] for group in ways.values() for each in group
    ]
    assert b"POST //api/paas/v4/chat/completions HTTP/1.1" in sent
    assert b"PUT /api/paas/v4/chat/completions HTTP/1.1" in sent
    assert f"GET /{target.path_of(RUNNERS)} HTTP/1.1".encode() in sent
    assert not [line for line in sent if b"/v1/" in line]


def all_requests() -> dict[str, Request]:
    return {**spellings.other_methods(POST), **spellings.proxy_headers(POST, "ann-the-user")}


def test_no_variant_carries_the_credential_and_no_name_the_user() -> None:
    for name, request in all_requests().items():
        assert "ann-the-user" not in name
        sent = request.encode(Target(ORIGIN, "the-token"))
        assert b"the-token" not in sent
        assert sent.endswith(POST.body or b"")
    assert any(b"ann-the-user" in each.encode(Target(ORIGIN)) for each in all_requests().values())


def test_no_method_that_may_change_something_is_used() -> None:
    methods = {each.method for each in all_requests().values()}
    assert methods == {"GET", "PUT", "PATCH", "QUERY", "OPTIONS", "POST", "post", "Post"}


def test_the_likeliest_headers_are_among_all_of_them() -> None:
    names = {name for name, _ in spellings.header_lines(None)}
    assert set(spellings.COMMON_HEADERS) <= names
    page = spellings.common_headers(Request("GET", "/admin/runners"))
    assert "X-Forwarded-User: admin" in page
    assert len(page) < 30
