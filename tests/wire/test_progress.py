"""Output that only tells of progress is not a token, and a first token is never taken for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.wire import progress, progress_words, sse
from livecheck.wire.progress import Said, Whole

OWN = "chatcmpl-1"
WORDS = ("The", " sea", " is", " wide", " and", " deep")
Event = tuple[float, Any]  # when it comes, in s, and its JSON or its data


def chunk(delta: dict[str, Any], ident: str = OWN, reason: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    fields = {"id": ident, "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**fields, "choices": [choice], **more}


def said(at_s: float, text: str, ident: str = OWN, name: str = "content") -> Event:
    return at_s, chunk({name: text}, ident)


def bare(at_s: float, text: str) -> Event:
    """As llama-swap sends it: no id, no model, nothing but the text."""
    return at_s, {"choices": [{"delta": {"reasoning_content": text}}]}


def answered(at_s: float, usage: int | None = None, gap_s: float = 0.02) -> list[Event]:
    """What the model says from then on, and the end."""
    events: list[Event] = [said(at_s + n * gap_s, word) for n, word in enumerate(WORDS)]
    end_s = at_s + len(WORDS) * gap_s
    events.append((end_s, chunk({}, reason="stop")))
    if usage is not None:
        events.append((end_s, {**chunk({}), "choices": [], "usage": {"completion_tokens": usage}}))
    return [*events, (end_s, b"[DONE]")]


def read(events: Sequence[Event]) -> sse.Stream:
    body, marks = b"", []
    for at_s, each in events:
        data = each if isinstance(each, bytes) else json.dumps(each).encode()
        body += b"data: " + data + b"\n\n"
        marks.append((len(body), int(at_s * 1e9)))
    return sse.read_stream("text/event-stream", body, marks)


LLAMA_SWAP = [
    *(bare(0.001, text) for text in ("━━━━━", "\n")),
    *(bare(0.07 * n, t) for n, t in enumerate(("llama", "-swap", " load", "ing m", "odel: q\n"))),
    *(bare(1 + 0.75 * n, ".") for n in range(4)),
    *(bare(4.1, text) for text in ("\n", "Defro", "sting", " ")),
    *(bare(5.1, text) for text in ("\n", "Done!", " (5.0", "0s)", "\n", "━━━━━", "\n", " ", "\n")),
]

TOLD: dict[str, tuple[Sequence[Event], int]] = {
    "llama-swap": ([*LLAMA_SWAP, *answered(5.3)], len(LLAMA_SWAP)),
    "words, a silence": ([said(0, "Loading model..."), *answered(3)], 1),
    "words as reasoning": ([said(0, "Loading model", name="reasoning"), *answered(3)], 1),
    "words that nobody counts": ([said(0, "Loading model..."), *answered(0.1, usage=6)], 1),
    "unknown words, a silence, and a count": ([said(0, "Brewing"), *answered(3, usage=6)], 1),
    "words in pieces": (
        [said(0, "Load"), said(0.02, "ing the"), said(0.04, " model"), *answered(2)],
        3,
    ),
    "words of another id": ([said(0, "Position in queue: 2", "q"), *answered(0.1)], 1),
    "places in a queue": (
        [said(0, "Position in queue: 2\n"), said(2, "Position in queue: 1\n"), *answered(4)],
        2,
    ),
    "jokes in between": (
        [
            *(said(0, "Loading model"), said(3, "Almost there"), said(6, "Model loaded!\n")),
            *answered(6.2),
        ],
        3,
    ),
    "words, then an answer that begins with one of them": (
        [said(0, "Loading model..."), said(3, "Starting"), *answered(3.02)],
        1,
    ),
    "dots": ([*(said(n, ".") for n in range(4)), *answered(3.1)], 4),
    "one row of dots": ([said(0, "..."), *answered(8)], 1),
    "spaces": ([*(said(n, " ") for n in range(4)), *answered(3.9)], 4),
    "characters of no width": ([said(0, "\u200b"), *answered(0.1)], 1),
    "an unknown joke without an id": ([bare(0, "Reticulating splines"), *answered(3)], 1),
    "an unknown joke of another id": ([said(0, "Almost there", "x"), *answered(3)], 1),
    "no ids at all": (
        [(0, bare(0, "Loading model")[1]), *((t, bare(t, "so")[1]) for t in (4, 4.1, 4.2))]
        + [(5.0, b"[DONE]")],
        1,
    ),
    "nothing after it": ([said(0, "Loading model"), said(3, "."), (9.0, {"error": "no"})], 2),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_only_tells_of_progress_is_not_output(name: str) -> None:
    events, count = TOLD[name]
    stream, rest = read(events), read(events[count:])
    assert stream.progress == count
    assert stream.output_ns == rest.output_ns
    assert len(stream.output_ends) == len(rest.output_ends)
    assert stream.output_sizes == rest.output_sizes
    assert (stream.text, stream.reasoning) == (rest.text, rest.reasoning)
    assert any(each.kind == "progress" for each in stream.form)


SOUND: dict[str, Sequence[Event]] = {
    "an ordinary answer": answered(0.1),
    "the first token, then a pause": [said(0, "Well"), *answered(3)],
    "thoughts, then a pause for a tool": [
        *(
            said(0.02 * n, t, name="reasoning_content")
            for n, t in enumerate(("Let", " me", " see"))
        ),
        *answered(3.1),
    ],
    "thinking by its name": [said(0, "Thinking Process:\n", name="reasoning"), *answered(3)],
    "thoughts that speak of loading": [
        *(said(0, "We need the model", name="reasoning"), said(0.02, " to load", name="reasoning")),
        *answered(3.1),
    ],
    "an answer about loading": [said(0, "Loading"), said(0.02, " model..."), *answered(0.04)],
    "a line break, then a pause": [said(0, "\n"), *answered(3)],
    "dots at the beginning": [said(0, "..."), *answered(0.02)],
    "dots that are counted": [said(0, "..."), *answered(8, usage=7)],
    "a pause, and unknown words that are counted": [said(0, "Brewing"), *answered(3, usage=7)],
    "a short pause, and one token too few": [said(0, "Well"), *answered(0.7, usage=6)],
    "a slow model": answered(1, gap_s=1.0),
    "a slow model that begins with spaces": [said(0, " "), said(1, " "), *answered(2, gap_s=1.0)],
    "another server goes on": [
        *(said(0.02 * n, text, "other") for n, text in enumerate(("Let", " me", " see"))),
        *answered(3.1),
    ],
    "thoughts of another server": [
        *(
            said(0.02 * n, text, "other")
            for n, text in enumerate(("We", " see:\n", "Loading model"))
        ),
        *answered(3.1),
    ],
    "an id for each chunk": [
        *((float(n), chunk({"content": "so"}, f"c{n}")) for n in range(5)),
        (5.0, b"[DONE]"),
    ],
    "a first chunk without an id, which is counted": [bare(0, "Let me"), *answered(3, usage=7)],
    "an end with an id of its own": [
        *answered(0.1)[:-2],
        *(said(0.3, " Loading"), said(0.32, " model:\nLoading model\n")),
        (0.5, chunk({}, "other", reason="stop")),
        (0.5, b"[DONE]"),
    ],
    "no ids, and slow": [(float(n), bare(n, "so")[1]) for n in range(6)],
    "words that the server counts as a token": [
        (0, chunk({"content": "Loading model..."}, usage={"completion_tokens": 1})),
        *answered(3),
    ],
    "words with log probabilities": [
        (
            0,
            {
                **chunk({}),
                "choices": [
                    {
                        "index": 0,
                        "delta": {"content": "Loading model"},
                        "logprobs": {"content": [{"token": "Loading model", "logprob": -1}]},
                    }
                ],
            },
        ),
        *answered(3),
    ],
}


@pytest.mark.parametrize("name", SOUND)
def test_a_first_token_is_never_taken_for_progress(name: str) -> None:
    stream = read(SOUND[name])
    assert (stream.progress, stream.progress_text) == (0, "")
    assert stream.output_ns[0] == int(next(at_s for at_s, _ in SOUND[name]) * 1e9)


def test_the_line_says_what_was_told_and_how_often() -> None:
    found = read(TOLD["llama-swap"][0])
    (line,) = (each.text for each in found.form if each.kind == "progress")
    assert line.startswith(f"{len(LLAMA_SWAP)} events before the first token only told of progress")
    assert "llama-swap loading model: q" in line
    (failed,) = (e.text for e in read(TOLD["nothing after it"][0]).complaints if e.kind == "empty")
    assert "2 events only told of progress, and no token followed: 'Loading model.'" in failed


def test_who_tells_of_progress_is_not_the_model_that_answers() -> None:
    told = {**chunk({"content": "Loading model"}, "x"), "model": "the-gateway"}
    stream = read([(0, told), *answered(2)])
    assert (stream.model, stream.models, stream.ids) == ("m", ["m"], 1)


def test_an_hour_of_progress_is_still_progress() -> None:
    dots: list[Event] = [bare(n, ".") for n in range(1500)]
    assert read([bare(0, "Loading model"), *dots, *answered(1500.2)]).progress == 1501


@pytest.mark.parametrize(
    "text",
    [
        *("loading model…", "Loading model, please wait...", "The model is still loading"),
        *("Starting llama-server", "Waking up the runner", "Waiting for a free GPU", "Cold start"),
        *("Waiting in queue", "Queue position: 3", "You are #3 in line", "3 requests ahead of you"),
        *("Please wait", "Warming up...", "Loading: 40%", "[gateway] Queued", "Queued (2 ahead)"),
        *("[llama-swap] Swapping backend process to: D", "Spinning up a worker", "正在加载模型"),
        *("Your request is queued", "Provisioning GPU...", "Modell wird geladen", "排队中"),
        *("[1/3] Loading checkpoint shards", "Your request is being processed"),
    ],
)
def test_words_for_loading_and_waiting(text: str) -> None:
    assert progress_words.begin(text) and progress_words.begin(f"━━━\n{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        *("The sea is wide", "Okay, let me think about the model", "Waiting for you by the shore"),
        *("Starting with the model of the problem, we", "The machine that the user is running"),
        *("In the queue of waves", "one two three", "Starting with one", "First, I need to"),
    ],
)
def test_words_that_are_none_of_them(text: str) -> None:
    assert not progress_words.begin(text)


one_said = st.builds(
    lambda gap_s, text, ident: (gap_s, text, ident),
    st.sampled_from([0.0, 0.02, 0.02, 0.02, 0.49, 0.5, 3.0]),
    st.sampled_from([".", " ", "\u200b", "Loading model", "Queue: 2", "The", " sea", "x" * 300]),
    st.sampled_from([OWN, OWN, OWN, "", "other"]),
)


@settings(max_examples=500, deadline=None, database=None)
@given(
    events=st.lists(one_said, min_size=1, max_size=8),
    over=st.sampled_from([None, -1, 0, 0, 1]),
    last_s=st.sampled_from([0.0, 0.02, 1.0]),
    is_finished=st.booleans(),
)
def test_where_nothing_speaks_for_progress_there_is_none(
    events: list[tuple[float, str, str]], over: int | None, last_s: float, is_finished: bool
) -> None:
    at_ns, told = 0, []
    for gap_s, text, ident in events:
        at_ns += int(gap_s * 1e9)
        told.append(Said(at_ns, text, ident, "m"))
    tokens = None if over is None else float(len(told) - over)
    ident = next((each.ident for each in reversed(told) if each.ident), "")
    whole = Whole(ident, tokens, len(told), at_ns + int(last_s * 1e9), is_finished)
    if progress.is_plain(told[0], [each.at_ns for each in told], whole):
        assert progress.leading(told, whole) == 0
