"""Asks what a rate limit has to show, step by step, and keeps every answer.

A step that sends requests all at once waits first, until all that was served with the key is older
than a window: then a sound limiter has all its places free, whatever kind it is.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from livecheck.core.run import Run
from livecheck.core.text import plural
from livecheck.gateway.limit_evidence import (
    AGAIN,
    ALONE,
    AROUND,
    BURST,
    BURSTS,
    EARLY,
    HALF,
    NOW,
    OTHER,
    PLAIN,
    PRESS,
    PROBES,
    PROOF,
    RESTED,
    Asked,
    Evidence,
    Fate,
    Proof,
    last_end_s,
    read_counters,
)
from livecheck.gateway.retry_after import read_retry_after
from livecheck.wire import chat
from livecheck.wire.answer import LARGE_BYTES, Answer
from livecheck.wire.asking import COSTLY, Asker, Stop, fetch, reason_to_stop
from livecheck.wire.wire import Request, Wire

IN_A_ROW = 3  # refusals one after the other: the limit is reached
SLOW_SHARE = 0.8  # of a window: what was not refused until then never will be, one after the other
AT_HALF = 5  # requests half a window later, at most
EACH = (2, 4)  # requests of each kind, where ways around the limit are tried: least and most
AROUND_TRIES = 3  # of a way around
TRIES = 2
LEAST_HALVED_S = 3.0  # a Retry-After of whose half something can be said:
ROUNDED_UP_S = 1.0  # so much longer than necessary is one that has been rounded up
OTHER_TRIES = 3
READINGS = 6  # of /metrics at rest, each on a connection of its own
PINGS = 3
SHIFT = 1 / 3  # of a window: a burst that comes so much later meets no fixed window's end again
LATE_S = 1.0  # how much later than Retry-After a request is tried that was refused at its time
MOST_BYTES = 16 << 20  # of the answers of a burst, before they are condensed
COUNTED_S = 0.3  # until everything is counted that was answered


class Ended(Exception):
    """There is a reason to send nothing more; it is in `Evidence.stopped`."""


class LimitSession:
    """`question` makes the request whose limit is tried; `ways`: other forms of it, by name."""

    def __init__(
        self,
        run: Run,
        wire: Wire,
        evidence: Evidence,
        question: Callable[[], Request],
        ways: Mapping[str, Callable[[Request], Request]],
        other_key: str | None = None,
    ):
        self.run, self.wire, self.evidence = run, wire, evidence
        self.question, self.ways, self.other_key = question, ways, other_key
        self._asker = Asker(run, wire, lambda answer: reason_to_stop(answer, COSTLY))
        self._turn = 0

    # one exchange

    def ask(self, step: str, requests: Sequence[tuple[str, Request]]) -> list[Asked]:
        """Send these at once, each with its name. Raises Ended."""
        self._turn += 1
        kept: list[Asked] = []

        def keep(answers: list[Answer]) -> None:
            names = (name for name, _ in requests)
            kept.extend(
                Asked(step, name, self._turn, each)
                for name, each in zip(names, answers, strict=False)
            )
            self.evidence.asked += kept
            for answer in answers:
                if answer.reply.size > LARGE_BYTES:
                    answer.condense()

        sent = [request for _, request in requests]
        self._asker.ask(sent, len(sent), keep=keep, budget=MOST_BYTES)
        if self._asker.stopped:
            self._end(self._asker.stopped)
        return kept

    def one(self, step: str) -> Asked:
        return self.ask(step, [(PLAIN, self.question())])[0]

    def together(self, step: str, count: int) -> list[Asked]:
        return self.ask(step, [(PLAIN, self.question()) for _ in range(count)])

    def _end(self, stop: Stop) -> None:
        self.evidence.stopped = stop
        raise Ended

    # the steps

    def ask_alone(self) -> None:
        """One after the other, until the limit is reached or should have been."""
        evidence, limit, window_s = self.evidence, self.evidence.limit, self.evidence.window_s
        begun_s, row = time.perf_counter(), 0
        with self.run.progress(f"requests to {evidence.path}, one after the other", limit) as step:
            while row < IN_A_ROW:
                row = row + 1 if self.one(ALONE).fate is not Fate.SERVED else 0
                step()
                spent_s = time.perf_counter() - begun_s
                refilled = math.ceil(limit * spent_s / window_s)
                if evidence.count(ALONE) >= limit + refilled + evidence.surplus:
                    return
                if spent_s > SLOW_SHARE * window_s and not evidence.count(ALONE, Fate.REFUSED):
                    evidence.is_slow = True
                    return

    def ask_around(self) -> None:
        """Each way around the limit, at once with plain requests, in any order: a place that
        becomes free meanwhile goes to any of them. What looks like a way around is tried again."""
        each = each_around(self.evidence.limit)
        for name, change in self.ways.items():
            for number in range(AROUND_TRIES):
                requests = [(name, change(self.question())) for _ in range(each)]
                requests += [(PLAIN, self.question()) for _ in range(each)]
                random.shuffle(requests)
                if not is_let_around(self.ask(AROUND, requests), number, self.evidence.limit):
                    break

    def ask_other(self) -> Asked:
        """With the other key."""
        assert self.other_key is not None
        request = chat.with_credential(self.question(), self.other_key)
        return self.ask(OTHER, [("other key", request)])[0]

    def ask_other_again(self) -> None:
        """With the other key, while this one is refused: a single answer may be an accident."""
        pause_s = min(LATE_S, self.evidence.window_s / 20)
        for number in range(OTHER_TRIES):
            if number:
                time.sleep(pause_s)
            if self.ask_other().fate is Fate.SERVED:
                return

    def ask_probes(self) -> None:
        """/ping and /health as a platform asks them: without a credential."""
        for path in ("/ping",) * PINGS + ("/health",):
            self.ask(PROBES, [(path, chat.with_credential(chat.get(path), None))])

    def ask_at_half(self) -> None:
        """Nearly half a window later: a few requests, which are refused where the window is one
        that slides."""
        evidence = self.evidence
        due_s = evidence.reached_s + evidence.half_s
        first_s = min(each.span.sent_s for each in evidence.of(ALONE))
        first_back_s = first_s + evidence.window_s - 2 * evidence.margin_s
        if evidence.reached_s < first_back_s:  # before the first place comes back
            due_s = min(due_s, first_back_s)
        self._wait(due_s, "no place is free yet: are requests still refused?")
        self.together(HALF, max(1, min(AT_HALF, evidence.limit // 2)))

    def ask_burst(self, step: str = BURST, windows: float = 1.0) -> None:
        """All at once, when all places have been free for so many windows.

        The refusals half a window later are the only ones within a window before the first burst:
        if refusals take places, just so many are missing.
        """
        evidence = self.evidence
        last_s = max(evidence.reached_s, last_end_s(self._taken(), 0.0))
        if step != BURST:
            last_s = last_end_s(evidence.of_key, last_s)
        due_s = last_s + windows * evidence.window_s + evidence.margin_s
        count = evidence.limit + evidence.surplus
        self._wait(due_s, f"then {count} requests at once")
        self.together(step, count)

    def ask_at_once_now(self) -> None:
        """The same without waiting, where no limit was met one after the other."""
        self.together(NOW, self.evidence.limit + self.evidence.surplus)

    def press(self) -> None:
        """As many again, nearly half a window after the burst: that is more than a bucket has then,
        and more than a fixed window serves that has turned over after the first requests, too."""
        evidence = self.evidence
        first_s = min(each.span.sent_s for each in evidence.of(BURST))
        wait_s = max(evidence.window_s / 4, evidence.half_s - evidence.reaching_s)
        self._wait(first_s + wait_s, f"then {evidence.limit} requests at once")
        self.together(PRESS, evidence.limit)

    def repeat_bursts(self) -> None:
        """Another burst where the first one has served more or less than the limit: whoever is
        right does not repeat that."""
        evidence, limit = self.evidence, self.evidence.limit
        served = evidence.count(BURST)
        if served > limit and evidence.kinds:
            self.ask_burst(AGAIN, 1 + SHIFT)
        elif served < limit and not evidence.count(BURST, Fate.TROUBLE):
            self.ask_burst(AGAIN)
            if evidence.count(AGAIN) < limit:
                self.ask_burst(RESTED, 2)

    def prove_retry_after(self) -> None:
        """Ask again when the last refusal says so, and a second time if that was refused."""
        for _ in range(TRIES):
            refused = self._last_refusal() or self.one(PROOF)
            if refused.fate is not Fate.REFUSED or not self._prove(refused):
                return

    def _last_refusal(self) -> Asked | None:
        """The last refusal, if nothing was sent after it."""
        asked = self.evidence.of_key
        last = [each for each in asked if each.turn == asked[-1].turn]
        refused = [each for each in last if each.fate is Fate.REFUSED and each.what == PLAIN]
        return max(refused, key=lambda each: each.span.ended_s, default=None)

    def _prove(self, refused: Asked) -> bool:
        """Wait as long as this refusal says; whether another trial is needed."""
        found, evidence = read_retry_after(refused.answer), self.evidence
        if found.wait_s is None or found.certain_s is None:
            return False
        said = found.shown or ""
        if early := self._come_early(refused, found.wait_s):
            evidence.proofs.append(Proof(said, found.wait_s / 2, early, is_cut=True))
            return False
        most_s = evidence.window_s + evidence.margin_s
        is_cut = found.wait_s > most_s + ROUNDED_UP_S
        waited_s = most_s if is_cut else found.certain_s
        self._wait(refused.span.ended_s + waited_s, "then one request, as Retry-After says")
        first = self.one(PROOF)
        later = None
        if first.fate is Fate.REFUSED and not is_cut:
            self._wait(refused.span.ended_s + waited_s + LATE_S, "a second more")
            later = self.one(PROOF)
        evidence.proofs.append(Proof(said, waited_s, first, later, is_cut))
        return first.fate is Fate.REFUSED and not is_cut

    def _come_early(self, refused: Asked, wait_s: float) -> Asked | None:
        """The answer to a request after half of that time, if it was served: who waits as told
        waits twice as long as necessary.

        Not tried where rounding up makes up so much of it, nor when the first place of a sliding
        window comes back by then: the guide's gateway always says a whole window, and a key that
        several clients use gets places back at any time.
        """
        evidence, due_s = self.evidence, refused.span.ended_s + wait_s / 2
        taken = [each.span.sent_s for each in self._taken() if each.turn == refused.turn]
        back_s = min(taken, default=0.0) + evidence.window_s
        if wait_s < LEAST_HALVED_S or due_s + evidence.margin_s > back_s:
            return None
        self._wait(due_s, f"then one request, half way to Retry-After {wait_s:g}")
        early = self.one(EARLY)
        is_told_apart = early.span.ended_s - refused.span.sent_s < wait_s - ROUNDED_UP_S
        return early if early.fate is Fate.SERVED and is_told_apart else None

    # the deployment's own count

    def read_counters(self) -> dict[str, float] | None:
        answer = fetch(self.run, self.wire, METRICS)
        return read_counters(answer)

    def read_counters_at_last(self) -> None:
        """What is counted now, as soon as all is counted that was served."""
        evidence = self.evidence
        if evidence.before is None:
            return
        due_s = time.perf_counter() + COUNTED_S
        while True:
            evidence.after = self.read_counters()
            grown = evidence.growth("requests_success")
            late = time.perf_counter() > due_s
            if late or grown is None or grown >= evidence.count_success():
                break
            time.sleep(COUNTED_S / 3)
        answers = [Answer(each) for each in self.wire.exchange([METRICS] * READINGS, keep=False)]
        evidence.at_rest = [each for each in map(read_counters, answers) if each]

    # waiting

    def _taken(self) -> list[Asked]:
        """What has taken a place, or may have."""
        return [each for each in self.evidence.of_key if each.fate is not Fate.REFUSED]

    def _wait(self, due_s: float, why: str) -> None:
        left_s = due_s - time.perf_counter()
        if left_s <= 0:
            return
        label = f"waiting {duration_words(round(left_s, 1))}: {why}"
        with self.run.progress(label, math.ceil(left_s)) as step:
            while (left_s := due_s - time.perf_counter()) > 0:
                time.sleep(min(1.0, left_s))
                step()


def each_around(limit: int) -> int:
    """How many requests of each kind are sent at once, where a way around the limit is tried: as
    few as a limit of its own lets pass, so that all of them are served at each try."""
    least, most = EACH
    return max(least, min(most, limit // AROUND_TRIES))


def is_let_around(asked: Sequence[Asked], number: int, limit: int) -> bool:
    """Whether the changed requests of a try were served, and none of the plain ones beside them.

    `number` of the try, from 0. In a later one, a small limit that the way around has for itself
    may be used up already, so that a single request is enough.
    """
    changed = [each.fate is Fate.SERVED for each in asked if each.what != PLAIN]
    plain = [each.fate is Fate.REFUSED for each in asked if each.what == PLAIN]
    may_be_used_up = number > 0 and limit < len(changed) * AROUND_TRIES
    is_served = any(changed) if may_be_used_up else all(changed)
    return bool(changed) and is_served and all(plain)


METRICS = Request("GET", "/metrics", headers={"accept": "application/json"})


# --- ways around a limit


def _address() -> str:
    """One of those that are kept for documentation (RFC 5737): they belong to nobody."""
    return f"198.51.100.{random.randrange(1, 255)}"


def _word() -> str:
    return f"{random.randrange(1 << 32):08x}"


def with_query(request: Request) -> Request:
    joint = "&" if "?" in request.path else "?"
    return dataclasses.replace(request, path=f"{request.path}{joint}v={_word()}")


def with_user(request: Request) -> Request:
    """As LiteLLM counts for each end user."""
    fields = json.loads(request.body or b"{}")
    return dataclasses.replace(request, body=json.dumps({**fields, "user": _word()}).encode())


def with_headers(**headers: Callable[[], str]) -> Callable[[Request], Request]:
    def change(request: Request) -> Request:
        more: dict[str, Any] = {name.replace("_", "-"): make() for name, make in headers.items()}
        return _changed(request, {**request.headers, **more})

    return change


def _changed(request: Request, headers: Mapping[str, str | None], secret: str = "") -> Request:
    return dataclasses.replace(request, headers=headers, secret=secret or request.secret)


def ways_around(
    token: str | None, is_short: bool = True
) -> dict[str, Callable[[Request], Request]]:
    """Other forms of a request, which the same limit has to hold for. `is_short`: the request has
    no JSON that names a model."""
    found: dict[str, Callable[[Request], Request]] = {
        "X-Forwarded-For": with_headers(x_forwarded_for=_address),
        "other headers of an address": with_headers(
            x_real_ip=_address,
            true_client_ip=_address,
            cf_connecting_ip=_address,
            x_client_ip=_address,
            x_cluster_client_ip=_address,
            x_original_forwarded_for=_address,
            forwarded=lambda: f"for={_address()}",
        ),
        "another User-Agent": with_headers(user_agent=lambda: f"curl/8.{random.randrange(99)}"),
        "another cookie or another name of the client": with_headers(
            cookie=lambda: f"session={_word()}",
            openai_organization=lambda: f"org-{_word()}",
            openai_project=lambda: f"proj_{_word()}",
            x_session_id=_word,
            x_user_id=_word,
            x_request_id=_word,
            idempotency_key=_word,
        ),
        "another query in the URL": with_query,
    }
    if not is_short:
        found["another `user` in the JSON"] = with_user
    if token:
        forms: dict[str, dict[str, str | None]] = {
            "bearer in lower case": {"authorization": f"bearer {token}"},
            "BEARER in capitals": {"authorization": f"BEARER {token}"},
            "two blanks before the key": {"authorization": f"Bearer  {token}"},
            "X-Api-Key": {"x-api-key": token, "authorization": None},
            "Api-Key": {"api-key": token, "authorization": None},
        }
        for name, headers in forms.items():
            found[name] = _with_key(headers, token)
    return found


def _with_key(headers: Mapping[str, str | None], token: str) -> Callable[[Request], Request]:
    return lambda request: _changed(request, {**request.headers, **headers}, token)


def cost_words(limit: int, surplus: int, window_s: float) -> str:
    """What a run costs, in advance."""
    least_s, most_s = 2 * window_s, 6 * window_s
    count = 3 * (limit + surplus)
    return (
        f"this takes about {duration_words(least_s)}, at most {duration_words(most_s)}, and the "
        f"time of about {plural(count, 'request')}; meanwhile the key cannot be used for anything "
        "else"
    )


def duration_words(seconds: float) -> str:
    """`40 s`, `2 min`, `2 min 5 s`."""
    whole = round(seconds)
    if whole < 90:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def count_of_bursts(evidence: Evidence) -> dict[str, int]:
    """How many were served in each burst that there was."""
    return {step: evidence.count(step) for step in BURSTS if evidence.has(step)}
