"""Asks what the SDK's check needs, with the SDK and at the wire, one request after the other."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Status, telling
from livecheck.core.credentials import NoAccess
from livecheck.core.json_value import as_line, pick
from livecheck.gateway import rhythm, same_text, sdk_responses
from livecheck.gateway.openai_client import CHAT, RESPONSES, OpenAIClient, SdkCall
from livecheck.gateway.rhythm import Paced
from livecheck.gateway.sdk_failures import MAY_BE_REFUSED, is_refusal
from livecheck.gateway.sdk_parameters import call_with_all
from livecheck.gateway.sdk_questions import (
    PROMPT,
    SHORT_TOKENS,
    Question,
    questions,
    to_chat,
)
from livecheck.wire import asking, chat, compression
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.model_choice import confirm_choice, model_to_ask
from livecheck.wire.proxy_doubt import confirm_passage
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import Request

MOST_LOOKED_AT = 4000  # characters of an answer in which a word to stop at is searched for


class Session:
    """Asks with the SDK and at the wire, one request after the other, until a reason to stop."""

    def __init__(
        self, asker: asking.Asker, client: OpenAIClient, listing: Answer, starvation: Starvation
    ) -> None:
        """`listing`: the answer of /v1/models at the first contact."""
        self.asker, self.client, self.listing = asker, client, listing
        self.starvation = starvation
        args = asker.run.args
        self.model = model_to_ask(asker.run, listing)
        self.stream = chat.completion(self.model, PROMPT, args.max_tokens)
        self.questions = questions(args.max_tokens)
        self.at_wire: dict[str, list[Answer]] = {}  # by check, in the order of sending
        asker.stopped = asking.reason_to_stop(listing, asking.COSTLY)

    def ask(
        self, check: str, asked: Sequence[Question] | None = None, key: str | None = None
    ) -> list[SdkCall]:
        """The calls for the questions of a check (or these), one after the other until one fails.

        The list is empty when there is a reason to stop. `key`: instead of the run's own. What a
        deployment refuses because it has no such thing, it refuses always: that is asked once more.
        """
        calls: list[SdkCall] = []
        for each in self.questions[check] if asked is None else asked:
            if self.asker.stopped or (calls and calls[-1].error):
                break
            model = {} if each.method == "models.list" else {"model": self.model}
            arguments = {**model, **each.arguments}
            call = self.client.ask(check, each.method, arguments, key, each.asynchronous)
            self._look_at(call, own_key=key is None)
            calls.append(call)
            if check in MAY_BE_REFUSED and is_refusal(call) and not self.asker.stopped:
                call.again = self.client.ask(check, each.method, arguments, key, each.asynchronous)
                self._look_at(call.again, own_key=key is None)
        return calls

    def ask_at_wire(self, check: str, *requests: Request) -> list[Answer]:
        """The answers to requests that do not go through the SDK; none with a reason to stop."""
        return self.asker.ask(requests, keep=self.at_wire.setdefault(check, []).extend)

    def behind(self, check: str) -> list[Answer]:
        """The answers that a check rests on: those of failed calls, if there are any."""
        calls = [call for call in self.client.calls if call.check == check]
        calls = telling(calls, lambda call: call.error)
        of_wire = self.at_wire.get("pacing", [])[:1] if check == "wire" else []
        at_wire = self.at_wire.get(check) or of_wire
        listing = [self.listing] if check == "models" else []
        return [*(call.answer for call in calls), *at_wire, *listing]

    def forget_bytes(self) -> None:
        """Keep of the answers at the wire what was read of them, and not the bytes."""
        for answers in self.at_wire.values():
            for answer in answers:
                answer.let_go()

    def paced(self, answer: Answer) -> Paced:
        return Paced(answer, self.starvation.of(answer), self.starvation.unseen_ms(answer))

    def _look_at(self, call: SdkCall, own_key: bool) -> None:
        run = self.asker.run
        run.verbose(f"{call.check}: {call.method}: {call.outcome}")
        run.debug(f"  {as_line(call.data or call.chunks[:3] or call.error_body)}")
        asking.recognise_limit(run, call.answer, alone=True)
        confirm_passage([call.answer])
        confirm_choice(run, [call.answer])
        self.asker.stopped = asking.reason_to_stop(call.answer)
        was_served = any(each.error is None for each in self.client.calls)
        if own_key and not was_served and not self.asker.stopped:
            if text := no_access(run, call.answer):
                raise NoAccess(text)


def ask_usage(session: Session) -> list[SdkCall]:
    """A stream; and the whole answer to the same prompt before it, if there was one."""
    calls = session.ask("usage")
    same = [each for each in session.client.calls if each.check == "completion" and not each.error]
    return [*calls, *same[-1:]] if calls else []


def ask_pacing(session: Session) -> list[Paced]:
    """Streams at the wire until the rhythm is clear; the one of the check `wire` is the first."""
    begun = list(map(session.paced, session.at_wire.get("wire", [])))
    return ask_until_clear(session, "pacing", session.stream, begun)


def ask_compressed(session: Session) -> list[Paced]:
    """The same, by a client that accepts compression, as the SDK and every browser do."""
    headers = {**session.stream.headers, "accept-encoding": compression.ACCEPTED}
    request = dataclasses.replace(session.stream, headers=headers)
    return ask_until_clear(session, "compressed", request, [])


def ask_until_clear(
    session: Session, check: str, request: Request, streams: list[Paced]
) -> list[Paced]:
    """These streams, and more of them until their rhythm is clear."""
    while not rhythm.is_decided([each.beat for each in streams]):
        if not (more := session.ask_at_wire(check, request)):
            break
        streams += map(session.paced, more)
    return streams


def ask_models(session: Session) -> list[SdkCall]:
    if session.listing.is_costly:  # a second one would cost as much time again
        return [SdkCall("models", "models.list", {}, session.listing)]
    return session.ask("models")


def ask_unicode(session: Session) -> list[SdkCall]:
    """The same line whole and as a stream, forced by a schema; without it where it is refused."""
    forced, free = session.questions["unicode"][:2], session.questions["unicode"][2:]
    calls = session.ask("unicode", forced)
    return session.ask("unicode", free) if calls and is_refusal(calls[-1]) else calls


def ask_same_text(session: Session) -> list[SdkCall]:
    """The same request in both forms; once more where they differ, to be sure of it."""
    calls = session.ask("same_text")
    if all(call.error is None for call in calls) and same_text_of(calls)[0] is Status.FAIL:
        calls += session.ask("same_text")
    return calls


def same_text_of(calls: Sequence[SdkCall]) -> same_text.Verdict:
    """Whether the streams among these calls say what the whole answers say."""
    said = [each.said for each in calls]
    wholes = [each for each, call in zip(said, calls, strict=True) if not is_stream(call)]
    streams = [each for each, call in zip(said, calls, strict=True) if is_stream(call)]
    if min(len(wholes), len(streams)) < 2:
        return Status.SKIP, "it was not asked often enough"
    return same_text.compare(wholes, streams)


def is_stream(call: SdkCall) -> bool:
    return bool(call.arguments.get("stream"))


@dataclass
class WrongKey:
    """How the deployment treats a key that is valid nowhere, and a request without any key.

    The last two are asked for only if the wrong key is served, or this run has a key of its own.
    """

    call: SdkCall
    is_key_given: bool  # whether this run has a key of its own
    status_without_key: int | None = None  # of the answer to a request without any key
    limited: str | None = None  # the words of a rate limit, where that answered this request
    is_served_without_key: bool = False  # whether that answer is a completion
    is_auth_enabled: Any = None  # what /health says of it


def ask_wrong_key(session: Session) -> list[WrongKey]:
    run = session.asker.run
    key = run.secrets.add(f"sk-wrong-{secrets.token_hex(16)}")
    found = [WrongKey(c, run.credentials.given) for c in session.ask("wrong_key", key=key)]
    is_served = bool(found) and found[0].call.error is None
    if found and (is_served or run.credentials.given):
        request = chat.completion(session.model, PROMPT, SHORT_TOKENS, stream=False)
        requests = [chat.with_credential(request, None), *([chat.get("/health")] * is_served)]
        for answer in session.ask_at_wire("wrong_key", *requests):
            if answer.path == "/health":
                found[0].is_auth_enabled = pick(answer.json, "authentication", "enabled")
            else:
                found[0].status_without_key = answer.status
                found[0].limited = (
                    asking.rate_limit_words(answer) if answer.is_rate_limited else None
                )
                found[0].is_served_without_key = answer.is_ok and answer.completion.has_output
    return found


def ask_bad_request(session: Session) -> list[SdkCall]:
    """The call with a mistake; and the one without it, which comes first, unless a completion was
    served before."""
    was_served = any(each.method == CHAT and each.error is None for each in session.client.calls)
    control = [] if was_served else session.ask("bad_request", [to_chat(PROMPT, SHORT_TOKENS)])
    calls = session.ask("bad_request")
    return [*calls, *control] if calls else []


def ask_embeddings(session: Session) -> list[SdkCall]:
    """As the SDK asks by itself (base64) and as floats, even when the first is refused."""
    asked = session.questions["embeddings"]
    return [call for each in asked for call in session.ask("embeddings", [each])]


def ask_stop(session: Session) -> list[SdkCall]:
    """The same answer again, whole and as a stream, with a word of the first to stop at."""
    calls = session.ask("stop")
    word = word_to_stop_at(calls[0].content) if calls else None
    if word is not None:
        limit = calls[0].arguments["max_tokens"]
        stop = [
            to_chat(PROMPT, limit, temperature=0, stop=[word], stream=stream)
            for stream in (False, True)
        ]
        calls += session.ask("stop", stop)
    return calls


def word_to_stop_at(text: str) -> str | None:
    """The last word whose first place has text before and after it; of a long text only the
    beginning is looked at."""
    text = text[:MOST_LOOKED_AT]
    for word in reversed(text.split()[:-1]):
        before, _, after = text.partition(word)
        if before.strip() and after.strip() and len(word) > 1:
            return word
    return None


def ask_unknown_model(session: Session) -> list[SdkCall | Answer]:
    """The call, and the list of models: the verdict depends on how many are listed."""
    calls = session.ask("unknown_model")
    return [*calls, session.listing] if calls else []


def ask_parameters(session: Session) -> list[Any]:
    """What was refused, and a call with all the parameters: another check's if possible."""
    found = call_with_all(session.client.calls)
    calls = [found] if found else session.ask("parameters")
    return [session.client.dialect.refused, *calls] if calls else []


def ask_responses(session: Session) -> list[Any]:
    """A text whole and as a stream, once more where they differ; then a call of a tool, in both
    forms. What is refused of the latter is left out. A text: why nothing is asked."""
    if not session.client.has(RESPONSES):
        return [f"openai {session.client.version} has no responses: use 1.66 or later"]
    plain, with_tool = (
        session.questions[sdk_responses.NAME][:2],
        session.questions[sdk_responses.NAME][2:],
    )
    calls = session.ask(sdk_responses.NAME, plain)
    if len(calls) < len(plain) or calls[-1].error:
        return calls
    if not sdk_responses.are_alike(calls):
        calls += session.ask(sdk_responses.NAME, plain[::-1])
    tools = session.ask(sdk_responses.NAME, with_tool)
    return calls + [call for call in tools if not is_refusal(call)]


# checks for which it is not enough to ask their questions one after the other
ASK: dict[str, Callable[[Session], Sequence[Any]]] = {
    "responses": ask_responses,
    "wire": lambda session: session.ask_at_wire("wire", session.stream),
    "pacing": ask_pacing,
    "compressed": ask_compressed,
    "unicode": ask_unicode,
    "same_text": ask_same_text,
    "models": ask_models,
    "wrong_key": ask_wrong_key,
    "bad_request": ask_bad_request,
    "embeddings": ask_embeddings,
    "stop": ask_stop,
    "usage": ask_usage,
    "unknown_model": ask_unknown_model,
    "parameters": ask_parameters,
}
