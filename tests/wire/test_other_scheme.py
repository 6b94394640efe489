"""A URL with the wrong one of http and https is told by what comes back."""

from __future__ import annotations

import pytest
from helpers.answers import answer

from livecheck.wire.other_scheme import said_of_scheme
from livecheck.wire.wire import Failure

PLAIN, SECURE = "http://host:8443", "https://host:8443"


@pytest.mark.parametrize(
    "text",
    ["TLS failed: WRONG VERSION NUMBER", "TLS failed: RECORD LAYER FAILURE"],
)
def test_https_to_a_port_without_tls_names_the_http_url(text: str) -> None:
    failed = answer(None, failure=Failure("tls", text))
    assert f"use {PLAIN}" in (said_of_scheme(SECURE, [failed, failed]) or "")
    assert said_of_scheme(SECURE, [failed, answer(200)]) is None


@pytest.mark.parametrize(
    "failure",
    [
        Failure("tls", "certificate not accepted: self-signed certificate"),
        Failure("tls", "TLS failed: TLSV1 ALERT PROTOCOL VERSION"),
        Failure("connect", "connection refused"),
    ],
)
def test_other_failures_say_nothing_of_the_scheme(failure: Failure) -> None:
    for url in (PLAIN, SECURE):
        assert said_of_scheme(url, [answer(None, failure=failure)]) is None
    assert said_of_scheme(PLAIN, [answer(400, {}, {"error": {"message": "bad model"}})]) is None
