"""What every command says of answers that are not what it asked for: the server's own words, a web
page, and a model that was chosen by default and cannot chat."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import fault_walk
from helpers.hostile import DONE, HEAD, Answer, Call, Server, delta, response
from helpers.scripts import Finished, run_script

from reference.faults import FAULTS, Fault

APP = b"<!doctype html><html><head><title>Chat</title></head><body><div id=root></div></body>"
PAGE = response(200, APP, content_type="text/html")
LISTED = response(200, {"object": "list", "data": [{"id": f"m{n}"} for n in range(7)]})
REFUSED = response(400, {"error": {"message": '"m0" does not support chat', "type": "api_error"}})
GIVEN = {
    "benchmark.py": ("--inference-only", "--requests", 2),
    "test_openai_sdk.py": (),
    "test_scale_to_zero.py": ("--idle-timeout", 1),
    "test_queue.py": ("--max-concurrent", 1, "--max-queue", 1),
    "test_cors.py": ("--origin", "https://app.example"),
}
IN_200 = [fault for fault in FAULTS if fault.name.endswith("refused-in-200")]


def said(finished: Finished) -> str:
    """Both outputs on one line: checks are wrapped at 80 columns."""
    return " ".join(f"{finished.out} {finished.err}".split())


def test_there_is_such_a_fault_for_every_script_that_asks_for_streams() -> None:
    assert len({fault.script for fault in IN_200}) >= 7


@pytest.mark.parametrize("fault", IN_200, ids=lambda fault: fault.name)
def test_the_words_of_a_refusal_in_a_200_are_in_the_line(fault: Fault, tmp_path: Path) -> None:
    outcome = fault_walk.with_fault(fault, tmp_path, strictly=False)
    assert "out of memory" in said(outcome.finished), outcome.finished.out


@pytest.mark.parametrize("script", GIVEN)
def test_a_default_model_that_cannot_chat_decides_nothing(script: str, tmp_path: Path) -> None:
    with Server(chat=REFUSED, answers={"/v1/models": LISTED}) as server:
        finished = run_script(script, "--url", server.url, *GIVEN[script], results=tmp_path)
    line = 'the first of 7 listed models was asked, m0, and it cannot chat (400 "m0" does not'
    assert (finished.code, line in said(finished)) == (3, True), said(finished)
    assert "asking for m0, the first of 7 listed models" in said(finished)


@pytest.mark.parametrize("script", GIVEN)
def test_a_model_that_was_given_is_judged(script: str, tmp_path: Path) -> None:
    given = (*GIVEN[script], "--model", "m0")
    with Server(chat=REFUSED, answers={"/v1/models": LISTED}) as server:
        finished = run_script(script, "--url", server.url, *given, results=tmp_path)
    assert finished.code == 1, said(finished)


def only_here(call: Call) -> None:
    """A completion for who asks for one; an empty request is refused."""
    call.send(REFUSED if b"messages" not in call.body else response(500, {"detail": "no"}))


def test_a_web_page_is_no_list_and_no_probe(tmp_path: Path) -> None:
    pages: dict[str, Answer] = dict.fromkeys(("/ping", "/health", "/metrics", "/v1/models"), PAGE)
    with Server(chat=only_here, answers=pages) as server:
        few = ("--requests", 1, "--timeout", 5)
        finished = run_script("benchmark.py", "--url", server.url, *few, results=tmp_path)
        sdk = run_script("test_openai_sdk.py", "--url", server.url, "--only", "models")
        alone = run_script("benchmark.py", "--url", server.url, "--gateway-only", results=tmp_path)
    assert "there is no /ping: a web page answers with 200 (Chat)" in said(finished)
    assert "/v1/models is a web page (200), not a list of models: asking for" in said(finished)
    assert "a web page, Content-Type text/html, 'Chat'" in said(sdk)
    assert "AttributeError" not in sdk.everything
    assert alone.code == 3


def test_of_two_ids_the_odd_one_is_named(tmp_path: Path) -> None:
    chunks = [delta("a"), delta("b"), delta("c"), delta(reason="stop", id="other")]
    with Server(chat=HEAD + b"".join([*chunks, DONE])) as server:
        few = ("--inference-only", "--requests", 1)
        finished = run_script("benchmark.py", "--url", server.url, *few, results=tmp_path)
    assert "2 different ids in 4 chunks: 'c1' in 3, 'other' in the last" in said(finished)
