"""request.py: the bytes of a request."""

from __future__ import annotations

from livecheck.wire.wire import Request, Target

TARGET = Target("http://host:8000/base", "the-token")


def lines(request: Request) -> list[str]:
    return request.encode(TARGET).decode("latin-1").split("\r\n")


def test_a_header_can_be_sent_twice() -> None:
    once = Request("GET", "/", headers={"authorization": "Bearer one"})
    twice = Request("GET", "/", headers=once.headers, repeated=[("authorization", "Bearer two")])
    assert [each for each in lines(once) if "Bearer" in each] == ["Authorization: Bearer one"]
    assert [each for each in lines(twice) if "Bearer" in each] == [
        "Authorization: Bearer one",
        "Authorization: Bearer two",
    ]


def test_a_raw_path_is_sent_as_it_is_and_any_other_behind_that_of_the_target() -> None:
    odd = "//x/%2e%2e\\y#z"
    assert lines(Request("GET", odd))[0] == f"GET /base{odd} HTTP/1.1"
    assert lines(Request("GET", odd, is_raw=True))[0] == f"GET {odd} HTTP/1.1"
    whole = Request("GET", "http://host:8000/x", is_raw=True)
    assert lines(whole)[0] == "GET http://host:8000/x HTTP/1.1"
