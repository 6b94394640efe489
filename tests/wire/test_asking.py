"""Asking keeps what was begun, stops when there is a reason to, and says it in one wording."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers.answers import answer
from helpers.hostile import HEAD, Server, good_stream, hang, in_turn, response

import common
from common import GATEWAY, Run
from livecheck.core.credentials import CannotCheck
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.asking import (
    Asker,
    Cause,
    Stop,
    open_wire,
    rate_limit_words,
    reason_to_stop,
    unreachable,
)
from livecheck.wire.connection import CERTIFICATE_REFUSED, CERTIFICATE_WANTED, NO_HTTP_1
from livecheck.wire.wire import Failure

LIMIT = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}


def run_against(url: str, *arguments: str) -> Iterator[Run]:
    parser = common.new_parser("probe.py", "", GATEWAY, ())
    with common.run(parser.parse_args(["--url", url, "--timeout", "1", *arguments])) as run:
        yield run


def asked(server: Server, count: int, at_once: int = 1, **how: Any) -> tuple[Asker, list[Answer]]:
    for run in run_against(server.url):
        with open_wire(run) as wire:
            asker = Asker(run, wire)
            requests = [chat.completion("m", "Hello", 8) for _ in range(count)]
            return asker, asker.ask(requests, at_once, **how)
    raise AssertionError


def test_all_answers_come_back_in_the_order_of_sending() -> None:
    kept: list[Answer] = []
    with Server(chat=HEAD + good_stream()) as server:
        asker, answers = asked(server, 5, at_once=2, keep=kept.extend)
    assert [each.reply.index for each in answers] == [0, 1, 2, 3, 4]
    assert answers == kept == asker.answers
    assert asker.stopped is None


def test_after_the_rate_limit_nothing_more_is_sent() -> None:
    with Server(chat=response(429, LIMIT)) as server:
        asker, answers = asked(server, 5)
        assert server.count("/v1/chat/completions") == 1
    assert asker.stopped and asker.stopped.cause is Cause.RATE_LIMIT
    assert len(answers) == 1 and asker.ask([chat.get("/")]) == []


def test_a_silent_server_costs_one_timeout() -> None:
    with Server(chat=hang) as server:
        asker, answers = asked(server, 5)
    assert asker.stopped and asker.stopped.cause is Cause.SILENT
    assert "POST /v1/chat/completions" in str(asker.stopped)
    assert len(answers) == 1


def test_what_was_begun_is_kept_when_the_asking_is_interrupted() -> None:
    kept: list[Answer] = []

    with Server(chat=HEAD + good_stream()) as server:
        for run in run_against(server.url):
            with open_wire(run) as wire:

                def reason(answer: Answer) -> Stop | None:
                    raise KeyboardInterrupt

                asker = Asker(run, wire, reason)
                requests = [chat.completion("m", "Hello", 8)] * 3
                with pytest.raises(KeyboardInterrupt):
                    asker.ask(requests, keep=kept.extend)
    assert len(kept) == 1 and kept == asker.answers


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("timeout", Cause.SILENT), ("flood", Cause.FLOOD), ("connect", Cause.UNREACHABLE)],
)
def test_a_failure_stops_only_for_the_causes_that_count(kind: str, cause: Cause) -> None:
    failed = answer(None, failure=Failure(kind, "why"))
    assert reason_to_stop(failed, (cause,)) == Stop(cause, "GET /: why")
    assert reason_to_stop(failed, (Cause.RATE_LIMIT,)) is None


def test_an_answer_is_no_reason_to_stop() -> None:
    for status in (200, 404, 500, 503):
        assert reason_to_stop(answer(status)) is None


def test_a_rate_limit_has_one_wording_with_what_to_do() -> None:
    told = rate_limit_words(answer(429, {"Retry-After": "60"}, LIMIT))
    assert "429 slow down, Retry-After 60" in told and "wait" in told
    assert "(429, without Retry-After)" in rate_limit_words(answer(429))


PAGE = b"""<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>
<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n<hr><center>nginx</center>
</body>\r\n</html>\r\n"""


@pytest.mark.parametrize(
    ("served", "at_once", "stops"), [(True, 1, True), (False, 1, False), (True, 2, False)]
)
def test_a_503_of_a_proxy_stops_only_when_it_was_alone_after_others_were_served(
    served: bool, at_once: int, stops: bool
) -> None:
    page = response(503, PAGE, content_type="text/html")
    with Server(chat=page) as server:
        for run in run_against(server.url):
            with open_wire(run) as wire:
                run.has_served = served
                asker = Asker(run, wire)
                answers = asker.ask([chat.completion("m", "p", 1)] * 3, at_once)
    assert bool(asker.stopped) is stops
    assert len(answers) == (1 if stops else 3)
    assert answers[0].is_excluded is stops
    if stops:
        assert "503 Service Temporarily Unavailable nginx, without Retry-After" in str(
            asker.stopped
        )


@pytest.mark.parametrize(
    ("failure", "hint"),
    [
        (Failure("connect", "the TLS handshake timed out"), "http:// URL"),
        (Failure("connect", "connection refused"), "is the server up?"),
        (Failure("truncated", "closed"), "--cert FILE"),
        (Failure("tls", "TLS failed"), "http:// URL"),
        (Failure("tls", "certificate not accepted"), "--no-verify-ssl"),
        (Failure("tls", CERTIFICATE_WANTED), "give --cert FILE"),
        (Failure("tls", f"{CERTIFICATE_REFUSED} (unknown ca)"), "that the server trusts"),
        (Failure("tls", NO_HTTP_1), "let it offer HTTP/1.1"),
    ],
)
def test_a_server_that_cannot_be_reached_says_what_to_try(failure: Failure, hint: str) -> None:
    assert hint in unreachable("https://host", answer(None, failure=failure))


def test_the_first_contact_ends_the_run_when_nobody_is_there() -> None:
    ended: list[str] = []
    for run in run_against("http://127.0.0.1:9"):
        with open_wire(run) as wire:
            try:
                chat.first_contact(run, wire, [chat.get("/ping"), chat.get(chat.MODELS)])
            except CannotCheck as error:
                ended.append(str(error))
    assert len(ended) == 1 and "cannot reach http://127.0.0.1:9" in ended[0]


@pytest.mark.parametrize("is_limit", [True, False])
def test_a_503_of_a_proxy_among_the_first_requests_is_a_limit_if_one_alone_gets_it_too(
    is_limit: bool,
) -> None:
    page = response(503, PAGE, content_type="text/html")
    listing = response(200, {"object": "list", "data": [{"id": "scripted"}]})
    models = in_turn(listing, page if is_limit else listing)
    with Server(answers={"/health": page, "/v1/models": models}) as server:
        for run in run_against(server.url):
            with open_wire(run) as wire:
                paths = ["/ping", "/health", chat.MODELS]
                try:
                    answers = chat.first_contact(run, wire, [chat.get(path) for path in paths])
                except CannotCheck as error:
                    assert is_limit and "may be a rate limit" in str(error)
                else:
                    assert not is_limit and [each.status for each in answers] == [200, 503, 200]


def test_progress_counts_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    with Server(chat=HEAD + good_stream()) as server:
        for run in run_against(server.url):

            class Bar:
                def __enter__(self) -> Any:
                    return lambda: steps.append(1)

                def __exit__(self, *_: object) -> None:
                    pass

            monkeypatch.setattr(run, "progress", lambda label, total: Bar())
            with open_wire(run) as wire:
                Asker(run, wire).ask([chat.get("/ping")] * 3, label="three probes", total=3)
    assert steps == [1, 1, 1]


def test_a_wire_is_opened_with_the_options_of_the_run() -> None:
    for run in run_against("http://127.0.0.1:9"):
        with open_wire(run) as wire:
            assert (wire.timeout_s, wire.target.url) == (1.0, "http://127.0.0.1:9")
            assert run.client["clock"] == wire.clock
