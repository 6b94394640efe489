"""A parameter that a model refuses by its name is sent in another way, and only such a one."""

from __future__ import annotations

import json

import pytest
from helpers.hostile import HEAD, Call, Server, good_stream, response

from livecheck.wire import chat
from livecheck.wire.dialect import Dialect
from livecheck.wire.wire import Target, Wire

SENT = {"model": "m", "max_tokens": 8, "temperature": 0}


def openai_error(parameter: str | None, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "param": parameter}}).encode()


USE_NEW = openai_error(
    "max_tokens",
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
)
ONLY_DEFAULT = openai_error(
    "temperature", "'temperature' does not support 0. Only the default (1) value is supported."
)
FORBIDDEN = b'{"detail":[{"loc":["body","max_tokens"],"msg":"Extra inputs are not permitted"}]}'


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (USE_NEW, "max_tokens"),
        (FORBIDDEN, "max_tokens"),
        (openai_error(None, "max_tokens is deprecated"), "max_tokens"),
        (b"Unknown parameter: max_tokens", "max_tokens"),
        (ONLY_DEFAULT, "temperature"),
        (openai_error(None, "`temperature` must be strictly positive"), "temperature"),
        (openai_error("temperature", "bad value (0,1]"), "temperature"),
        (openai_error(None, "Temperature should be in (0.0, 2.0)"), "temperature"),
        # refusals for other reasons
        (
            openai_error("max_tokens", "Expected a value >= 16, but got 8 instead."),
            None,
        ),
        (
            openai_error(
                None,
                "'max_tokens' or 'max_completion_tokens' is too large: 8. This model's maximum "
                "context length is 4 tokens",
            ),
            None,
        ),
        (openai_error("messages", "Unsupported value, expected an array; see max_tokens"), None),
        (openai_error("stream_options", "Unsupported parameter"), None),
        (openai_error("max_tokens", "max_tokens must be less than 4"), None),
        (b"", None),
    ],
)
def test_a_refusal_is_about_a_name_when_it_says_so(body: bytes, refused: str | None) -> None:
    dialect, told = Dialect(), []
    dialect.tell = told.append
    assert dialect.learn(SENT, body) is (refused is not None)
    assert list(dialect.refused) == ([refused] if refused else [])
    assert len(told) == len(dialect.refused)


def test_what_was_refused_is_sent_in_another_way() -> None:
    dialect = Dialect()
    assert dialect.fields(SENT) == SENT
    dialect.learn(SENT, USE_NEW)
    dialect.learn(SENT, ONLY_DEFAULT)
    assert dialect.fields(SENT) == {"model": "m", "max_completion_tokens": 8}
    assert dialect.fields({"temperature": 1}) == {"temperature": 1}
    assert dialect.as_record() == {"max_tokens": "max_completion_tokens", "temperature": None}


def refuse_old(call: Call) -> None:
    call.send(response(400, USE_NEW) if "max_tokens" in call.fields else HEAD + good_stream())


@pytest.mark.parametrize("due_s", [None, [0.0, 0.01, 0.02]], ids=["closed loop", "open loop"])
def test_only_the_first_request_is_sent_twice(due_s: list[float] | None) -> None:
    with Server(chat=refuse_old) as server, Wire(Target(server.url), 5) as wire:
        request, seen = chat.completion("m", "p", 8), []
        replies = wire.exchange(
            [request] * 3, 1, lambda reply: seen.append(reply.index), due_s=due_s
        )
        assert [each.status for each in replies] == [200] * 3
        assert (seen, server.count()) == ([0, 1, 2], 4)
        assert [each.index for each in replies] == [0, 1, 2]


def refuse_seed(call: Call) -> None:
    refusal = response(400, b'{"detail":"Unsupported parameter: seed"}')
    call.send(refusal if "seed" in call.fields else HEAD + good_stream())


def test_a_seed_that_is_refused_is_left_out() -> None:
    with Server(chat=refuse_seed) as server, Wire(Target(server.url), 5) as wire:
        replies = wire.exchange([chat.completion("m", "p", 8, seed=1)] * 2)
        assert [each.status for each in replies] == [200] * 2
        assert wire.dialect.as_record() == {"seed": None} and server.count() == 3


@pytest.mark.parametrize("keep", [True, False])
def test_requests_that_are_in_flight_together_are_each_sent_again(keep: bool) -> None:
    with Server(chat=refuse_old) as server, Wire(Target(server.url), 5) as wire:
        replies = wire.exchange([chat.completion("m", "p", 8)] * 3, 3, keep=keep)
        assert [each.status for each in replies] == [200] * 3
        assert server.count() <= 6


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b'{"error": {"message": "bad"}}', 1),
        (USE_NEW, 2),  # it refuses whatever is sent
        (openai_error(None, "Unsupported: max_tokens, max_completion_tokens"), 2),
    ],
)
def test_a_request_is_sent_again_once_at_the_most(body: bytes, count: int) -> None:
    with Server(chat=response(400, body)) as server, Wire(Target(server.url), 5) as wire:
        (reply,) = wire.exchange([chat.completion("m", "p", 8)])
        assert (reply.status, server.count()) == (400, count)
