"""An answer that was condensed says the same as before, and holds hardly any bytes."""

from __future__ import annotations

import copy
import gzip
import json
from typing import Any

import pytest
from helpers.hostile import HEAD, Server, good_stream, response

import common
from common import GATEWAY
from livecheck.load.client_delay import client_metrics
from livecheck.wire import chat, metrics
from livecheck.wire.answer import WORDS_BYTES, Answer
from livecheck.wire.asking import Asker, open_wire
from livecheck.wire.condensing import Condenser
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import KERNEL_CLOCK

LONG = "a very long word of the server's " * 1000
PACKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
PACKED += b"Connection: close\r\n\r\n" + gzip.compress(good_stream())
SERVERS = {
    "a good stream": HEAD + good_stream(),
    "a long stream": HEAD + good_stream(3000),
    "a stream that is cut off": HEAD + good_stream()[:-80],
    "a compressed stream": PACKED,
    "nothing": HEAD,
    "a stream with an error": HEAD + b'data: {"error": {"message": "no"}}\n\n',
    "an error": response(500, {"error": {"message": LONG}}),
    "a rate limit": response(429, {"error": {"message": "slow down"}}),
    "a page": response(200, f"<html><title>{LONG}</title></html>".encode()),
    "a whole answer": response(200, {"choices": [{"message": {"content": LONG}}]}),
    "bytes": HEAD + bytes(range(256)) * 300,
}


def asked(server: Server, count: int, at_once: int = 1, **how: Any) -> list[Answer]:
    """The answers of an Asker, which stops for nothing."""
    arguments = common.new_parser("probe.py", "", GATEWAY, ()).parse_args(["--url", server.url])
    with common.run(arguments) as run, open_wire(run) as wire:
        requests = [chat.completion("m", "Hello", 8) for _ in range(count)]
        return Asker(run, wire, lambda _: None).ask(requests, at_once, **how)
    raise AssertionError


def facts(answers: list[Answer]) -> dict[str, Any]:
    """All that a level makes of its answers, and what they say of themselves."""
    records = [each.record(1) for each in answers]
    with Starvation() as starvation:
        pass
    figures = metrics.level_metrics(records)
    return {
        "records": json.loads(json.dumps(records, default=list)),
        "figures": figures,
        "client": client_metrics(answers, KERNEL_CLOCK, figures, starvation),
        "said": [(each.outcome(), each.is_web_page, each.is_page) for each in answers],
        "words": [each.words for each in answers if each.stream_error],
        "problems": [(each.reply.decoded or (0, 0))[2:] for each in answers],
    }


@pytest.mark.parametrize("name", SERVERS)
def test_a_condensed_answer_says_what_it_said_before(name: str) -> None:
    with Server(chat=SERVERS[name]) as server:
        answers = asked(server, 1)
    before = facts([Answer(copy.copy(each.reply)) for each in answers])
    again = [Answer(copy.copy(each.reply)) for each in answers]
    for answer in again:
        answer.condense()
        assert len(answer.body) <= WORDS_BYTES and not answer.stream.text
        assert len(answer.reply.raw) <= WORDS_BYTES
    assert facts(again) == before


def test_an_exchange_within_its_budget_reads_no_answer_before_its_end() -> None:
    with Server(chat=HEAD + good_stream()) as server:
        answers = asked(server, 6, at_once=2, budget=1 << 20)
    assert not any(answer.reply.is_condensed for answer in answers)


def test_an_exchange_beyond_its_budget_lets_go_of_the_oldest_answers() -> None:
    with Server(chat=HEAD + good_stream(200)) as server:
        answers = asked(server, 8, at_once=2, budget=0)
    assert all(answer.reply.is_condensed for answer in answers)
    assert all(answer.stream_error is None for answer in answers)


def test_a_step_is_not_done_while_something_is_to_be_read_unless_memory_cannot_wait() -> None:
    with Server(chat=HEAD + good_stream()) as server:
        answers = asked(server, 5)
    measured = Condenser(1 << 30)
    for answer in answers:
        measured.add(answer)
    condenser = Condenser(int(0.95 * measured._size))
    for answer in answers:
        condenser.add(answer)
    assert condenser.work(is_urgent=True)  # there is some to do, which was not done
    assert not any(answer.reply.is_condensed for answer in answers)
    assert condenser.work(is_urgent=False)
    condenser.finish()
    assert answers[0].reply.is_condensed
    eager = Condenser(0)
    eager.add(answers[-1])
    eager.work(is_urgent=True)
    assert not eager._waiting  # it was begun


def test_an_eager_condenser_reads_each_answer_whenever_there_is_time() -> None:
    with Server(chat=HEAD + good_stream()) as server:
        answers = asked(server, 3)
    seen: list[Answer] = []
    condenser = Condenser(1 << 30, look=seen.append, is_eager=True)
    for count, answer in enumerate(answers, 1):
        condenser.add(answer)
        assert condenser.work(is_urgent=True), "there is some to do, which can wait"
        assert len(seen) == count - 1
        while condenser.work(is_urgent=False):
            pass
        assert seen == answers[:count]
        assert not condenser.work(is_urgent=True)
