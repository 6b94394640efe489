"""What a long level keeps of its answers: the same as of a short one, and hardly any memory."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import tempfile
import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import pytest
from helpers.answers import SENT_NS, answer, event
from helpers.hostile import HEAD, Server, good_stream

import common
from common import GATEWAY
from livecheck.core.result_file import json_parts
from livecheck.load.arrivals import Load
from livecheck.load.client_delay import client_metrics
from livecheck.load.level import Level
from livecheck.wire import chat, metrics, spool
from livecheck.wire.answer import Answer, Extract
from livecheck.wire.asking import Asker, Cause, Stop, open_wire
from livecheck.wire.condensing import Condenser
from livecheck.wire.spool import Spool
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import KERNEL_CLOCK, Failure

CHAT = chat.completion("m", "hi", 100)
EVENTS = {"content-type": "text/event-stream"}
OF_OURS = tracemalloc.Filter(True, "*/livecheck/*")  # not what the server of the test keeps
SAID = "a word of the server's own"


@pytest.fixture(autouse=True)
def with_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also few extracts are in a file."""
    monkeypatch.setattr(spool, "FEW_BYTES", 0)


def stream(index: int, *, group: int = 1, due: bool = False, finish: str = "stop") -> Answer:
    """A good stream of 24 events, `group` of them in a read."""
    reads = [(10.1 + 7.3 * n, event({"content": "a"}) * group) for n in range(24 // group)]
    last = event({}, finish, usage={"completion_tokens": 24, "prompt_tokens": 8})
    pieces = [*reads, (200.0, last + b"data: [DONE]\n\n")]
    sent_ns = SENT_NS + 1_234_567 * index
    found = answer(
        200,
        EVENTS,
        request=CHAT,
        pieces=pieces,
        spent_ms=200.0,
        sent_ns=sent_ns,
        index=index,
    )
    found.reply.lag_ns = array("q", range(1000 * index, 1000 * index + len(found.reply.lag_ns)))
    found.reply.late_ns = 7000 + index
    found.reply.due_ns = sent_ns - 5_000_000 if due else None
    return found


def made(due: bool = False) -> list[Answer]:
    """Answers of every kind that a level may have."""
    headers = {"retry-after": "5"}
    error = {"error": {"message": SAID}}
    lost = Failure("truncated", SAID)
    others = [
        answer(503, headers, error, request=CHAT),
        answer(200, EVENTS, event({"content": "a"}), request=CHAT, failure=lost),
        answer(None, request=CHAT, failure=Failure("connect", SAID), sent_ns=None),
        answer(200, EVENTS, event({"content": SAID}) + b"data: {no\n\n", request=CHAT),
    ]
    streams = [
        stream(n, group=1 + n % 3, due=due, finish="stop" if n % 2 else "length") for n in range(8)
    ]
    answers = [*streams, *others]
    for index, each in enumerate(answers):
        each.reply.index = index
        each.reply.due_ns = SENT_NS - 5 if due else None
    return answers


def spooled(answers: list[Answer], folder: Path, order: int = 1) -> Spool:
    """These answers, condensed in the order in which they ended."""
    kept = Spool(folder, pytest.fail)
    condenser = Condenser(0, kept.add)
    for each in answers[::order]:
        condenser.add(each)
    condenser.finish()
    return kept


def as_compared(extract: Extract) -> dict[str, Any]:
    content = dataclasses.asdict(extract)
    return {key: list(each) if isinstance(each, array) else each for key, each in content.items()}


def document(level: Level, starvation: Starvation) -> bytes:
    """What is saved of a level."""
    records = level.records(starvation)
    figures = metrics.level_metrics(records)
    figures["client"] = client_metrics(level.all_answers(), KERNEL_CLOCK, figures, starvation)
    return b"".join(json_parts({"metrics": figures, "requests": [dict(each) for each in records]}))


def level_of(answers: list[Answer], kept: Spool | None = None) -> Level:
    return Level(Load(4, len(answers)), answers=answers, spool=kept)


def test_an_extract_comes_out_of_the_file_as_it_went_in(tmp_path: Path) -> None:
    kept = spooled(made(), tmp_path)
    for index, each in enumerate(made()):
        assert as_compared(kept.extract(index)) == as_compared(each.extract)
        assert kept.event_ms(index) == each.figures["event_ms"]


def test_a_lag_of_more_than_four_seconds_is_kept_whole(tmp_path: Path) -> None:
    """As of a client that was stopped for ten seconds."""
    (found, *_) = made()
    found.reply.lag_ns[-1] = 10**10
    kept = spooled([found], tmp_path)
    assert max(found.reply.lag_ns) == max(kept.extract(found.index).lag_ns) == 10**10


@pytest.mark.parametrize("due", [False, True], ids=["closed loop", "open loop"])
def test_a_level_is_saved_as_the_same_bytes_whichever_way_it_was_kept(
    tmp_path: Path, due: bool
) -> None:
    with Starvation() as starvation:
        pass
    whole = document(level_of(made(due)), starvation)
    answers = made(due)
    in_file = level_of([], spooled(answers, tmp_path, order=-1))
    assert document(in_file, starvation) == whole
    # interrupted: some were not condensed yet, one is in both
    answers = made(due)
    partly = level_of(answers[3:], spooled(made(due)[:4], tmp_path))
    assert document(partly, starvation) == whole
    assert len(json.loads(whole)["requests"]) == len(answers)


def test_no_word_of_the_server_is_in_the_file_and_the_file_has_no_name(tmp_path: Path) -> None:
    kept = spooled(made(), tmp_path)
    assert kept._file and not list(tmp_path.iterdir())
    kept._file.seek(0)
    content = kept._file.read()
    assert len(content) > 1000 and b"word" not in content and b"503" not in content
    assert SAID in kept.extract(8).figures["error_text"]


@pytest.mark.parametrize("after", [0, 3])
def test_a_full_disk_is_told_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    class Full:
        def __init__(self, **how: Any) -> None:
            if not after:
                raise OSError(28, os.strerror(28))
            self.file, self.left = (
                open(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR), "r+b", 0),
                after,
            )
            self.seek, self.read, self.close = self.file.seek, self.file.read, self.file.close

        def write(self, data: bytes) -> int:
            self.left -= 1
            return self.file.write(data if self.left >= 0 else data[:10])

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    told: list[str] = []
    kept = Spool(tmp_path, told.append)
    condenser = Condenser(0, kept.add)
    for each in made():
        condenser.add(each)
    condenser.finish()
    assert len(told) == 1 and "stays in memory" in told[0]
    assert len(kept._kept) == len(made()) - after
    for index, each in enumerate(made()):
        assert as_compared(kept.extract(index)) == as_compared(each.extract)


def asked(
    server: Server, count: int, kept: Spool, on_answer: Any = lambda _: None, keep: Any = None
) -> list[Answer]:
    """The answers that stay whole. `keep` is called when all have ended and nothing is let go."""
    arguments = common.new_parser("probe.py", "", GATEWAY, ()).parse_args(["--url", server.url])
    found: list[Answer] = []
    with common.run(arguments) as run, open_wire(run) as wire:
        requests = (chat.completion("m", "Hello", 8) for _ in range(count))
        asker = Asker(run, wire, on_answer)
        asker.ask(requests, 2, keep=keep or found.extend, budget=0, spool=kept)
    return found


def test_the_memory_of_a_long_level_does_not_grow(tmp_path: Path) -> None:
    """Whole, each answer would take 6,800 bytes: at 50 streams 150 MB in ten minutes."""
    held = {}

    def note(_: list[Answer]) -> None:
        gc.collect()
        ours = tracemalloc.take_snapshot().filter_traces([OF_OURS])
        held[len(list(kept))] = sum(each.size for each in ours.statistics("filename"))

    with Server(chat=HEAD + good_stream(8)) as server:
        for count in (5, 20, 120):
            tracemalloc.start()
            try:
                kept = Spool(tmp_path, pytest.fail)
                asked(server, count, kept, keep=note)
            finally:
                tracemalloc.stop()
    assert list(held) == [5, 20, 120]
    assert (held[120] - held[20]) / 100 < 50


def test_an_interrupted_exchange_loses_no_answer(tmp_path: Path) -> None:
    kept, numbers = Spool(tmp_path, pytest.fail), iter(range(100))

    def interrupt(_: Answer) -> None:
        if next(numbers) == 7:
            raise KeyboardInterrupt

    with Server(chat=HEAD + good_stream()) as server:
        left = asked(server, 50, kept, interrupt)
    assert left and list(kept)
    assert sorted([*kept, *(each.reply.index for each in left)]) == list(range(9))


def test_what_ended_the_asking_stays_whole(tmp_path: Path) -> None:
    kept, numbers = Spool(tmp_path, pytest.fail), iter(range(100))
    with Server(chat=HEAD + good_stream()) as server:
        left = asked(server, 50, kept, lambda _: Stop(Cause.TIME) if next(numbers) == 7 else None)
    assert [each.reply.index for each in left][-1] == 8 and len(left) == 2
    assert len(list(kept)) == 7
