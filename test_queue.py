#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Does the deployment queue what it can hold, and refuse the rest at once?

C is the number of requests that are served at once, Q the number that may wait; both are read from
/health or given by options. The steps: one request alone; C + Q + --extra requests at once, while
/ping, /health and /metrics are read; one request after Retry-After; a client that disconnects while
it is served, alone and beside others; a client that disconnects while it waits; and as many
requests at once as should fit.

PASS: exactly the surplus was refused, at once and as the guide promises (503, Retry-After, JSON);
all others were served completely; /health and /metrics gave the right figures; and the place of a
client that disconnected became free, without harm to those who stayed.
Cost: 4 * C + 2 * Q + --extra + 9 requests at most, and more when their answers do not overlap: then
a step is repeated, up to twice, with longer answers. 3 * C + Q + --extra + 3 of them ask for long
answers (--max-tokens). /ping, /health and /metrics are read up to 20 times per second. The script
wakes a sleeping worker and fills the queue: use it on a deployment that nobody else is using.

Examples:
    # limits read from /health
    python3 test_queue.py --url https://host:8000 --api-key sk-key
    # the guide's step 7: 4 at once, of which 1 is served, 2 wait and 1 is refused
    python3 test_queue.py --url https://host:8000 --max-concurrent 1 --max-queue 2
    # HAProxy and others, whose /health says nothing about a queue; none: there is no queue
    python3 test_queue.py --url http://host:8000 --max-concurrent 4 --max-queue none
    # a slow model: shorter answers, and more time for the last one in the queue
    python3 test_queue.py --url https://host:8000 --max-tokens 50 --timeout 600
    # behind nginx, which cuts after 60 s of silence: is that enough for the last one in the queue?
    python3 test_queue.py --url http://host:8000 --edge-idle 60
    # only what a pipeline has to know: the overflow
    python3 test_queue.py --url https://host:8000 --only refusals retry_after served
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Document, NoAccess, Run, Status
from livecheck.core.checks import undecided
from livecheck.core.json_value import pick, pick_text
from livecheck.core.text import counted, plural, shorten
from livecheck.gateway.burst import (
    JITTER_S,
    REFUSED_S,
    Burst,
    Limits,
    ended_s,
    first_output_s,
    last_event_s,
    most_at_once,
    sent_s,
    spent_s,
)
from livecheck.gateway.burst_timeline import timeline
from livecheck.gateway.contradictions import (
    contradiction,
    contradiction_in_a_row,
    falls,
    impossible_figures,
    lasting_contradiction,
)
from livecheck.gateway.disconnection import (
    ATTEMPTS,
    NOTICE_S,
    SETTLE_S,
    Disconnection,
    Disconnections,
    measure_disconnections,
)
from livecheck.gateway.plans import DISCONNECTING, IDLE_WAIT_S, plan_queue
from livecheck.gateway.queue_client import OF_BURST, QueueClient
from livecheck.gateway.queue_metrics import growth, metrics_problems, queue_depths
from livecheck.gateway.queue_state import (
    REQUESTS,
    Probe,
    Reading,
    Watcher,
    merged,
    speaks_of_queue,
    watch_target,
)
from livecheck.gateway.retry_after import read_retry_after
from livecheck.wire import chat, form, notices, silence
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.asking import open_wire, rate_limit_words
from livecheck.wire.health_cost import says_it_asks
from livecheck.wire.metrics import percentile
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.probe_limit import PROBE_LIMIT_S, PROBE_RULE, is_too_slow
from livecheck.wire.starvation import Starvation

BURST = (*OF_BURST, "health", "metrics", "probes")
CHECKS = ("limits", "idle", "single", *BURST, "retry", *DISCONNECTING, silence.NAME, form.NAME)

NO_QUEUE = "none"  # as --max-queue: what is not served at once is refused
MOST_AT_ONCE = 1000  # requests


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_queue)
    group = parser.add_argument_group("what to expect and what to send")

    def add(option: str, least: int, default: int | None, text: str, metavar: str = "N") -> None:
        kind = common.whole_number(least)
        group.add_argument(option, type=kind, default=default, metavar=metavar, help=text)

    add("--max-concurrent", 1, None, "requests served at once (default: from /health)")
    waiting = "requests that may wait; 0: no limit; none: there is no queue (default: from /health)"
    group.add_argument("--max-queue", type=queue_size, metavar="N", help=waiting)
    add("--retry-after", 0, 5, "what Retry-After must say (default %(default)s)", "SECONDS")
    add("--extra", 1, 1, "requests beyond those that fit (default %(default)s)")
    add("--max-tokens", 1, 200, "tokens of a long answer (default %(default)s)")
    own, edge = group.add_argument, silence.OPTION_HELP
    own("--edge-idle", type=common.seconds, metavar="SECONDS", help=edge)
    own("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    return parser


def queue_size(text: str) -> int | str:
    """An argparse type: a whole number, or NO_QUEUE."""
    return NO_QUEUE if text.lower() == NO_QUEUE else common.whole_number(0)(text)


# --- measure


def has_no_health(health: Answer) -> bool:
    """Whether the deployment answers that it has no /health."""
    return health.failure is None and 400 <= (health.status or 0) < 500


def find_limits(args: argparse.Namespace, health: Answer, of_guide: bool) -> Limits | None:
    """C and Q as the options say them, else /health; None when neither tells both.

    CannotCheck when nothing promises that /health tells them: it is not there, or not `of_guide`.
    """
    announced = Limits.announced_by(health)
    concurrent, queue = args.max_concurrent, args.max_queue
    if announced:
        concurrent = announced.max_concurrent if concurrent is None else concurrent
        queue = announced.max_queue if queue is None else queue
    if concurrent is not None and queue is not None:
        return Limits(concurrent, None if queue == NO_QUEUE else queue)
    if not of_guide and (health.is_ok or has_no_health(health)):
        page = ", a web page" if health.is_web_page else ""
        raise CannotCheck(
            f"the limits are not known, because /health ({health.status}{page}) says nothing about "
            "a queue: give --max-concurrent and --max-queue"
        )
    return None


@dataclass
class Evidence:
    """What a run has found out besides the answers, which the client keeps."""

    burst: Burst | None = None
    disconnections: Disconnections = field(default_factory=Disconnections)


def wait_until_idle(client: QueueClient, longest_s: float) -> Reading | None:
    """The first reading that says that nobody is there; when it cannot say, just the first one; or
    one that ends a time in which the figures cannot be true.

    CannotCheck when somebody is there all that time.
    """

    def is_over(reading: Reading) -> bool:
        seen = [r for r in list(watcher.readings) if begun_s <= r.sent_s <= reading.sent_s]
        return reading.is_idle or bool(lasting_contradiction(seen, client.limits))

    watcher, begun_s = client.watcher, time.perf_counter()
    first = watcher.next_reading(client.args.timeout)
    if first is None or first.occupancy is None:
        client.pause()
        return first
    if first.is_idle:
        return first
    client.run.note(f"waiting up to {longest_s:g} s until the deployment is idle")
    found = watcher.wait_for(is_over, begun_s, longest_s)
    if found is None:
        last = merged(watcher.readings, begun_s)
        served, waiting = (last and last.occupancy) or first.occupancy
        raise CannotCheck(
            f"not idle in {longest_s:g} s: {served} served and {waiting} waiting, which are not "
            "requests of this script: find out who sends them, or try again later"
        )
    return watcher.whole_reading(found.sent_s, client.args.timeout) or found


def idle_or_untrue(client: QueueClient) -> tuple[Reading | None, str | None]:
    """The reading before the first request, and what it says that cannot be true.

    Others that wait although a place is free may wait for a sleeping model. So a request of ours
    comes after them: when it has been served, nobody can have waited all that time.
    """
    reading = wait_until_idle(client, IDLE_WAIT_S)
    if reading is None or contradiction(reading, client.limits) is None:
        return reading, None
    client.run.note("the figures contradict themselves: sending a request to see whether it waits")
    answer = client.send_one("idle", client.request(client.args.max_tokens), "one request")
    if answer.stream_error:
        said = f"a request got no answer either ({answer.outcome(timed=True)})"
        raise CannotCheck(f"{contradiction(reading, client.limits)}; {said}")
    reading = wait_until_idle(client, IDLE_WAIT_S)
    if reading is None or contradiction(reading, client.limits) is None:
        return reading, None
    until = [each for each in client.watcher.readings if each.sent_s <= reading.sent_s]
    untrue = lasting_contradiction(until, client.limits)
    return reading, f"{untrue}, also after a request of this script was served"


def left_by_nobody(client: QueueClient, idle: Reading | None) -> str | None:
    """Why the figures are wrong that still say, after the first request, that somebody is served or
    waits: nobody else has come since they said `idle`, as the gateway counts. Else None."""
    before, watcher = client.requests_total(idle), client.watcher
    if before is None or watcher.wait_for(lambda r: r.is_idle, time.perf_counter(), SETTLE_S):
        return None
    last = merged(watcher.readings, ended_s(client.single)) or watcher.readings[-1]
    after, ours = client.requests_total(last), sum(len(step.answers) for step in client.steps)
    if last.occupancy is None or after is None or after - before > ours:
        return None
    served, waiting = last.occupancy
    seen = f"{served} served and {waiting} waiting, {SETTLE_S:g} s after the last answer"
    return f"still {seen}, though nobody else has come: requests_total +{after - before:g}"


def measure_single(client: QueueClient) -> Answer:
    """One request alone: how long an answer takes, and the way to the gateway."""
    watcher = client.watcher
    client.choose_endpoints()
    answer = client.send_one("single", client.request(client.args.max_tokens), "one request")
    if text := no_access(client.run, answer):
        raise NoAccess(text)
    if notices.silent([answer]):
        raise CannotCheck(f"no first token to measure: {notices.of_thoughts([answer])}")
    start_s = first_output_s(answer)
    if start_s is not None:
        client.answer_s = last_event_s(answer) - start_s
    quiet = [reading for reading in watcher.readings if reading.ended_s <= sent_s(answer)]
    client.round_trip_s = round_trip_s(quiet, answer)
    watcher.interval_s = min(1.0, max(0.05, client.answer_s / 20))
    client.give_up_probing(during([answer], watcher.readings))
    return answer


def during(answers: Sequence[Answer], readings: Sequence[Reading]) -> list[Reading]:
    """The readings from the first sending of these answers to their last end."""
    begin_s, end_s = min(map(sent_s, answers)), max(map(ended_s, answers))
    return [each for each in readings if each.ended_s >= begin_s and each.sent_s <= end_s]


def round_trip_s(readings: Sequence[Reading], answer: Answer) -> float:
    """To the gateway and back. A proxy in front answers the handshake itself, but not /ping. Of a
    gateway whose /ping is slow or silent, another endpoint tells it."""
    probes = [[getattr(each, name) for each in readings] for name in REQUESTS]
    spent_ms = [times_ms([each for each in row if each.status == 200]) for row in probes]
    fastest_ms = min((percentile(times, 50) for times in spent_ms if times), default=0.0)
    shake = answer.handshake
    network_s = (shake.rtt_ns or shake.connect_ns) / 1e9 if shake else 0.0
    return max(network_s, fastest_ms / 1e3)


def measure_burst(client: QueueClient, evidence: Evidence) -> Burst:
    """C + Q + --extra at once, and again with longer answers until they overlap; the last time
    counts."""
    args = client.args
    count = client.limits.at_once(args.extra)
    lasts_s = expected_duration_s(client, count)
    factor = 1
    for attempt in range(ATTEMPTS):
        before = wait_until_idle(client, SETTLE_S)
        requests = [client.request(args.max_tokens * factor) for _ in range(count)]
        label = f"{count} requests at once, about {lasts_s * factor:.0f} s"
        burst = evidence.burst = gather(client, client.send("burst", requests, label), before)
        burst.attempts = attempt + 1
        if burst.may_be_limited:
            if not client.watcher.tells:
                client.pause()
            burst.later = client.send_one("later", client.short_request(), "one request afterwards")
        if burst.rate_limited:
            break
        if client.give_up_probing(burst.readings) or burst.slow_by_own_lag:
            continue  # probes took places, or this program could not look: the same once more
        if burst.failed or burst.overlapped or 2 * factor * lasts_s > args.timeout:
            break
        factor *= 2
    return burst


def expected_duration_s(client: QueueClient, count: int) -> float:
    """How long the last one in the queue waits for its whole answer; CannotCheck if too long."""
    rounds = math.ceil(count / client.limits.max_concurrent)
    lasts_s: float = rounds * client.answer_s
    if lasts_s > client.args.timeout:
        raise CannotCheck(
            f"the last of {count} requests would take about {lasts_s:.0f} s, but --timeout is "
            f"{client.args.timeout:g} s: give a larger --timeout or a smaller --max-tokens"
        )
    return lasts_s


def gather(client: QueueClient, answers: list[Answer], before: Reading | None) -> Burst:
    """The answers, and the readings until the gauges are at rest again."""
    watcher, first = client.watcher, client.steps[0].answers[0]
    quiet = [each for each in list(watcher.readings) if each.ended_s <= sent_s(first)]
    most = max((each.requests_active for each in quiet), default=0)
    after = watcher.whole_reading(
        max(map(ended_s, answers)),
        SETTLE_S,
        lambda r: r.is_at_rest and r.requests_active <= most,
    )
    readings = [client.with_lag(each) for each in list(watcher.readings)]
    return Burst(
        client.limits,
        client.args.extra,
        answers,
        client.round_trip_s,
        falls=falls(readings),
        late_ends_s=client.late_ends_s(answers),
        blind_s=client.blind_times_s(answers),
        readings=during(answers, readings),
        before=before,
        after=after,
        quiet=quiet,
        of_guide=client.of_guide,
        probe_limit=watcher.limit,
        health_cost=client.health_cost,
        in_queue=client.probes_in_queue,
    )


def time_to_retry(burst: Burst, expected_s: int) -> tuple[int, str]:
    """How long after the last refusal a client may come again, in s, and who says so."""
    announced_s = retry_after_s(max(burst.refused, key=ended_s))
    if announced_s is None:
        return expected_s, "as --retry-after says: the refusal has no valid Retry-After"
    if announced_s > expected_s:
        return expected_s, f"as --retry-after says, and not {announced_s} s as the refusal says"
    return announced_s, "as Retry-After says"


def measure_retry(client: QueueClient, burst: Burst) -> Answer:
    """One request, as soon as a refused client may come again."""
    wait_s, why = time_to_retry(burst, client.args.retry_after)
    left_s = max(map(ended_s, burst.refused)) + wait_s - time.perf_counter()
    if left_s > 0:
        client.run.note(f"waiting {left_s:.1f} s, {why}")
        time.sleep(left_s)
    return client.send_one("retry", client.short_request(), "one request again")


def retry_after_s(answer: Answer) -> int | None:
    """The header's value if it is a valid number of seconds (RFC 9110, section 10.2.3)."""
    found = read_retry_after(answer)
    if found.wait_s is None or found.is_date or not found.is_valid:
        return None
    return int(found.wait_s)


# --- judge


def rate_limited(name: str, answer: Answer) -> Check:
    evidence = {"retry_after": answer.shown_header("retry-after")}
    return undecided(name, rate_limit_words(answer), evidence)


def check_limits(health: Answer, limits: Limits | None, of_guide: bool) -> Check:
    """/health announces the limits, and they are the expected ones."""
    announced, evidence, status = Limits.announced_by(health), {}, Status.FAIL
    if not of_guide and (health.is_ok or has_no_health(health)):
        said = "says nothing about a queue" if health.is_ok else f"is not there ({health.status})"
        status, detail = Status.SKIP, f"{limits}, as the options say; /health {said}"
    elif not health.is_ok:
        detail = f"/health: {health.outcome(timed=True)}"
    elif announced is None:
        detail = "/health answers 200 without queue.max_concurrent and queue.max_queue_size"
    elif limits != announced:
        detail = f"/health announces {announced}; expected: {limits}"
    else:
        status, detail, evidence = Status.PASS, str(limits), dataclasses.asdict(announced)
    return Check("limits", status, detail, evidence).shown_by([health])


def check_idle(reading: Reading | None, untrue: str | None) -> Check:
    if reading and (wrong := impossible_figures([reading])):
        untrue = f"{', '.join(wrong)}, which cannot be a count"
    if untrue:
        return Check("idle", Status.FAIL, untrue, reading.figures if reading else {})
    if reading is None or reading.occupancy is None:
        detail = "neither /health nor /metrics says how many requests there are"
        return Check("idle", Status.SKIP, detail)
    return Check("idle", Status.PASS, "0 served and 0 waiting before the first request")


def check_single(answer: Answer) -> Check:
    error = answer.stream_error
    if answer.is_rate_limited:
        return rate_limited("single", answer)
    if error:
        return Check("single", Status.FAIL, f"{error.kind}: {error.text}")
    ttft_s = (first_output_s(answer) or 0) - sent_s(answer)
    detail = f"200, complete after {spent_s(answer):.2f} s, the first token after {ttft_s:.2f} s"
    detail += notices.beside([answer])
    return Check("single", Status.PASS, detail, {"e2e_s": round(spent_s(answer), 3)})


def judge_burst(burst: Burst, expected_retry_after_s: int) -> list[Check]:
    """Every check of the burst; only the first one when it says nothing about the queue."""
    checks = [check_burst(burst)]
    if not burst.is_conclusive:
        return checks
    checks.append(check_refusals(burst))
    if burst.refused:
        checks += [check_retry_after(burst, expected_retry_after_s)]
        checks += [check_error_body(burst), check_refused_fast(burst)]
    else:
        names = ("retry_after", "error_body", "refused_fast", "retry")
        checks += [Check(name, Status.SKIP, "no request was refused") for name in names]
    checks += [check_served(burst), check_concurrency(burst)]
    if limit := burst.probe_limit:
        return [*checks, *(undecided(name, limit) for name in ("health", "metrics", "probes"))]
    return [*checks, check_health(burst), check_metrics(burst), check_probes(burst)]


def check_burst(burst: Burst) -> Check:
    """The requests were in flight together, so what became of them says something."""
    count = len(burst.answers)
    if burst.rate_limited:
        return rate_limited("burst", burst.rate_limited)
    if not burst.is_conclusive:
        detail = (
            f"after {plural(burst.attempts, 'attempt')} the {count} requests were in flight "
            f"together for only {max(0.0, burst.overlap_s):.2f} s: give a larger --max-tokens "
            "(and --timeout, if the answers take that long)"
        )
        return undecided("burst", detail)
    skew_ms = (burst.all_sent_s - burst.first_sent_s) * 1e3
    detail = f"{count} requests were sent within {skew_ms:.1f} ms"
    if burst.served:
        detail += f", all in flight together for {max(0.0, burst.overlap_s):.2f} s"
    return Check("burst", Status.PASS, detail)


def check_refusals(burst: Burst) -> Check:
    statuses = [str(answer.status) for answer in burst.refused]
    expected = burst.expected_refusals
    detail = f"{len(statuses)} of {plural(len(burst.answers), 'request')} refused"
    detail += f": {counted(statuses)}" if statuses else ""
    evidence, status = {"expected": expected, "refused": dict(Counter(statuses))}, Status.PASS
    if len(statuses) != expected or set(statuses) - {"503"}:
        status = Status.FAIL
        detail += f"; expected: {f'{expected} with 503' if expected else 'none'}"
    return Check("refusals", status, detail, evidence)


def check_retry_after(burst: Burst, expected_s: int) -> Check:
    values = [str(answer.shown_header("retry-after")) for answer in burst.refused]
    evidence = {"expected_s": expected_s, "values": dict(Counter(values))}
    invalid = [answer for answer in burst.refused if retry_after_s(answer) is None]
    status, detail = Status.PASS, f"Retry-After {counted(values)}"
    if invalid:
        text = invalid[0].shown_header("retry-after")
        seen = "no Retry-After" if text is None else f"Retry-After {text!r}"
        detail = f"{seen} in {len(invalid)} of {plural(len(values), 'refusal')}"
        status, detail = Status.FAIL, f"{detail}, expected {expected_s} (whole seconds)"
    elif any(retry_after_s(answer) != expected_s for answer in burst.refused):
        status, detail = Status.FAIL, f"{detail}, expected {expected_s}"
    return Check("retry_after", status, detail, evidence)


def check_error_body(burst: Burst) -> Check:
    """Each refusal has the JSON of OpenAI's error answers, and says that it is JSON."""
    for answer in burst.refused:
        if not pick_text(answer.json, "error", "message"):
            said = shorten(answer.body[:400].decode("utf-8", "replace"), 60)
            detail = f"a {answer.status} without JSON that has error.message: {said!r}"
            return Check("error_body", Status.FAIL, detail)
    first = burst.refused[0]
    if "json" not in first.content_type:
        kind = first.shown_header("content-type") or "missing"
        return Check("error_body", Status.WARN, f"JSON, but Content-Type is {kind}")
    code = first.shown(str(pick(first.json, "error", "code")))
    return Check("error_body", Status.PASS, f"JSON, code {code}: {first.words}")


def check_refused_fast(burst: Burst) -> Check:
    slowest_s = max(map(spent_s, burst.refused))
    status = Status.FAIL if burst.late_refusals else Status.PASS
    detail = f"refused after at most {slowest_s * 1e3:.0f} ms, {REFUSED_S:g} s allowed"
    if burst.slow_by_own_lag and not burst.late_refusals:
        detail += ", but this program itself could not run for most of that time: try again"
        status = Status.SKIP
    return Check("refused_fast", status, detail, {"slowest_ms": round(slowest_s * 1e3, 1)})


def check_served(burst: Burst) -> Check:
    count = len(burst.accepted)
    detail = f"{len(burst.served)} of {count} accepted requests were served completely"
    errors = [answer.stream_error for answer in burst.failed if answer.stream_error]
    if errors:
        texts = counted(f"{error.kind}: {error.text}" for error in errors)
        return Check("served", Status.FAIL, f"{detail}; {texts}")
    if not count:
        return Check("served", Status.FAIL, "no request was accepted")
    last_s, queued = max(map(spent_s, burst.accepted)), burst.limits.waiting(count)
    detail += f", {queued} of them from the queue, the last after {last_s:.2f} s"
    return Check("served", Status.PASS, detail)


def check_concurrency(burst: Burst) -> Check:
    """Never more than C at once, as far as their tokens show. Within a round trip the beginning of
    one answer may overtake the end of another: that is not counted."""
    slack_s = burst.round_trip_s + JITTER_S + burst.late_ends_s
    starts = [(first_output_s(answer), last_event_s(answer)) for answer in burst.accepted]
    most = most_at_once([(start + slack_s, end) for start, end in starts if start is not None])
    allowed = burst.limits.max_concurrent
    evidence = {"at_once": most, "allowed": allowed}
    status, detail = Status.PASS, f"{most} at once, {allowed} allowed"
    if most > allowed:
        status, detail = Status.FAIL, f"{most} were generated at once, {allowed} allowed"
    elif not most:
        status = Status.SKIP
        detail = "not known how many at once, because each answer came in one piece"
    return Check("concurrency", status, detail, evidence)


def check_health(burst: Burst) -> Check:
    """/health said how many were served and waited, and then that nobody is left."""
    told = [r for r in burst.readings if {"active", "waiting"} <= set(r.health.values)]
    untrue = impossible_figures(burst.readings) or contradiction_in_a_row(told, burst.limits)
    if untrue:
        text = untrue if isinstance(untrue, str) else ", ".join(untrue)
        return Check("health", Status.FAIL, f"during the burst: {text}")
    if not told:
        return check_health_without_figures(burst)
    limits, accepted = burst.limits, len(burst.accepted)
    wanted = (min(accepted, limits.max_concurrent), limits.waiting(accepted))
    active, waiting = (int(max(r.health.values[n] for r in told)) for n in ("active", "waiting"))
    evidence = {"readings": len(told), "active": active, "waiting": waiting}
    detail = f"up to {active} active and {waiting} waiting in {plural(len(told), 'reading')}"
    status, rest = Status.FAIL, burst.after.health.values if burst.after else {}
    if active > wanted[0] or waiting > wanted[1]:
        detail += f", expected at most {wanted[0]} and {wanted[1]}"
    elif (active, waiting) != wanted:
        in_time = any(reading in burst.readings_while_full for reading in told)
        status = Status.FAIL if in_time else Status.SKIP
        detail += f", expected {wanted[0]} and {wanted[1]}"
    elif rest.get("active") or rest.get("waiting"):
        left = f"{rest.get('active'):g} active and {rest.get('waiting'):g} waiting"
        detail = f"still {left}, {SETTLE_S:g} s after the last answer"
    else:
        status, detail = Status.PASS, f"{detail}, 0 and 0 afterwards"
    return Check("health", status, detail, evidence, essential=status is Status.SKIP)


def check_health_without_figures(burst: Burst) -> Check:
    if not burst.of_guide:
        return Check("health", Status.SKIP, "/health says nothing about a queue")
    readings = [*burst.readings, *([burst.after] if burst.after else [])]
    probes = [each.health for each in readings if each.health.is_asked and each.health.trouble]
    seen = probes[0].trouble if probes else "200 without queue.active and queue.waiting"
    return Check("health", Status.FAIL, f"/health during the burst: {seen}")


def check_metrics(burst: Burst) -> Check:
    """Both forms of /metrics have the queue's three figures, and they are right."""
    before, after = burst.before, burst.after
    if not burst.of_guide:
        return Check("metrics", Status.SKIP, "/metrics says nothing about a queue")
    if before is None or after is None:
        return Check("metrics", Status.FAIL, "/metrics was not answered at all")
    problems = metrics_problems(burst, before, after, SETTLE_S)
    evidence = {"before": before.metrics_json.values, "after": after.metrics_json.values}
    if problems:
        return Check("metrics", Status.FAIL, "; ".join(problems), evidence)
    grown = growth(before.metrics_json, after.metrics_json)
    depths = queue_depths("JSON", burst.readings) + queue_depths("Prometheus", burst.readings)
    detail = (
        f"both forms: queue_depth {max(depths, default=0):g}, then 0; queue_rejections "
        f"+{grown['queue_rejections']:g}; queue_wait_seconds_total "
        f"+{grown['queue_wait_seconds_total']:.2f} "
        f"({sum(burst.waits_s):.2f} s measured by this script)"
    )
    return Check("metrics", Status.PASS, detail, evidence)


def check_probes(burst: Burst) -> Check:
    """/ping and /health came in time for a platform's probe, though the queue was full."""
    problems, parts, evidence = [], [], {}
    missing: list[str] = []
    readings = burst.in_queue or burst.readings
    for name in ("ping", "health"):
        probes: list[Probe] = [getattr(reading, name) for reading in readings]
        probes = [probe for probe in probes if probe.is_asked]
        quiet: list[Probe] = [getattr(reading, name) for reading in burst.quiet]
        bad = [probe.trouble for probe in probes if probe.trouble and not probe.is_missing]
        if name == "health" and burst.health_cost:
            problems.append(f"/health is a load, and was asked once: {burst.health_cost}")
        elif not probes:
            last = getattr(burst.after, name) if burst.after else None
            if last and last.is_asked and last.trouble and not last.is_missing:
                problems.append(f"/{name} was asked and did not answer: {last.trouble}")
        elif all(probe.is_missing for probe in probes):
            # only the guide's gateway promises both
            found = problems if burst.of_guide else missing
            found.append(f"there is no /{name} ({probes[0].answered_by})")
        elif bad:
            problems.append(f"/{name} failed {len(bad)} of {len(probes)} times: {bad[0]}")
        elif spent := times_ms(probes):
            usual, now = percentile(times_ms(quiet) or [0], 50), percentile(spent, 90)
            evidence[f"{name}_p90_ms"] = round(now, 2)
            parts.append(f"/{name} p90 {now:.1f} ms ({usual:.1f} ms when idle)")
            if late := late_probes(readings, name, burst.round_trip_s):
                problems.append(f"/{name} {late}; {PROBE_RULE}")
    if burst.in_queue:
        shown = problems or parts  # it is a problem, even where none of them came too late
        problems = [*shown, "they wait in the queue, or are refused, as completions are"]
    status = Status.WARN if problems else Status.PASS if parts else Status.SKIP
    detail = "; ".join((problems or parts) + missing) or "no probe was answered"
    return Check("probes", status, detail, evidence)


def late_probes(readings: Sequence[Reading], name: str, round_trip_s: float) -> str | None:
    """The probes that a platform would have given up, if they are one in ten or three in a row,
    which restarts a container. The time in which this program could not run does not count."""
    probes: list[tuple[Probe, float]] = [(getattr(each, name), each.blind_ms) for each in readings]
    probes = [pair for pair in probes if pair[0].is_asked]
    late = [
        is_too_slow(((probe.spent_ms or 0) - blind_ms) / 1e3, round_trip_s)
        for probe, blind_ms in probes
    ]
    in_a_row = any(all(late[start : start + 3]) for start in range(len(late) - 2))
    if not in_a_row and sum(late) < max(1, len(late) / 10):
        return None
    slowest_s = max(times_ms([probe for probe, _ in probes])) / 1e3
    count = f"{sum(late)} of {len(late)} probes"
    return f"took longer than {PROBE_LIMIT_S:g} s in {count}, up to {slowest_s:.1f} s"


def times_ms(probes: Sequence[Probe]) -> list[float]:
    return [probe.spent_ms for probe in probes if probe.spent_ms is not None]


def check_retry(answer: Answer, wait_s: int) -> Check:
    if answer.is_rate_limited:
        return rate_limited("retry", answer)
    if answer.stream_error:
        detail = f"not served {wait_s} s after the refusal, although it was the only request"
        return Check("retry", Status.FAIL, f"{detail}: {answer.stream_error.text}")
    detail = f"served after {spent_s(answer):.2f} s, {wait_s} s or more after the refusal"
    return Check("retry", Status.PASS, detail)


def judge_disconnections(client: QueueClient, found: Disconnections) -> list[Check]:
    trip_s = client.round_trip_s
    return [
        check_left_streaming(found, trip_s),
        check_left_queued(found, client.limits, trip_s),
        check_order(found.pair, client.limits, trip_s + JITTER_S + client.late_ends_s(found.pair)),
    ]


def check_left_streaming(found: Disconnections, round_trip_s: float) -> Check:
    """Alone, and beside others: what is worse counts."""
    alone = check_left("left_streaming", found.while_served, round_trip_s)
    beside = found.beside_others
    if alone.status not in (Status.PASS, Status.WARN) or beside is None or beside.is_free:
        return alone
    return check_left("left_streaming", beside, round_trip_s)


def check_left_queued(found: Disconnections, limits: Limits, round_trip_s: float) -> Check:
    if limits.max_queue is None:
        return Check("left_queued", Status.SKIP, "no request may wait")
    return check_left("left_queued", found.while_waiting, round_trip_s)


def check_left(name: str, found: Disconnection | None, round_trip_s: float) -> Check:
    """A client that disconnected does not keep its place, and nobody else suffers from it."""
    if found and found.rate_limited:
        return rate_limited(name, found.rate_limited)
    if found and found.harm:
        return Check(name, Status.FAIL, found.harm)
    if found and found.still_taken:
        return Check(name, Status.FAIL, f"the place did not become free: {found.still_taken}")
    if found is None or found.undecided:
        reason = found.undecided if found else "the step before failed"
        return undecided(name, f"not tried: {reason}")
    late_s = found.free_after_s
    if late_s is None:
        detail = "the place was used again (no figure says when it became free)"
        return Check(name, Status.PASS, detail)
    status, detail = Status.PASS, f"the place was free again after {late_s:.2f} s"
    if late_s > NOTICE_S + round_trip_s:
        is_own_lag = late_s - found.blind_s <= NOTICE_S + round_trip_s
        status = Status.SKIP if is_own_lag else Status.WARN
        detail = f"the place became free late: after {late_s:.1f} s, {NOTICE_S:g} s allowed"
        if is_own_lag:
            detail += f", but this program itself could not run for {found.blind_s:.1f} s of it"
    return Check(name, status, detail, {"free_after_s": round(late_s, 3)})


def check_order(pair: Sequence[Answer], limits: Limits, slack_s: float) -> Check:
    """Of two in the queue the one that came first was served first."""
    if limits.may_wait(2) < 2:
        why = "only one request may wait" if limits.max_queue else "no request may wait"
        return Check("order", Status.SKIP, f"{why}, so there is no order")
    served = [answer for answer in pair if not answer.stream_error]
    if len(served) < len(pair):
        error = next(answer.stream_error for answer in pair if answer.stream_error)
        return Check("order", Status.FAIL, f"one of two that waited was not served: {error.text}")
    begun = [start for start in map(first_output_s, served) if start is not None]
    if len(begun) < 2:
        return Check("order", Status.SKIP, "no two requests waited at the same time")
    first, second = begun
    apart = f"{abs(second - first):.2f} s"
    if second < first - slack_s:
        detail = f"not first in, first out: the one that came second began {apart} earlier"
        return Check("order", Status.WARN, detail)
    return Check("order", Status.PASS, f"first in, first out: they began {apart} apart")


# --- show


def metrics(client: QueueClient, evidence: Evidence) -> dict[str, Any]:
    """What the run has measured, for the result file."""

    def free_after_s(found: Disconnection | None) -> float | None:
        free_s = found.free_after_s if found else None
        return None if free_s is None else round(free_s, 3)

    return {
        "round_trip_ms": round(client.round_trip_s * 1e3, 3),
        "answer_s": round(client.answer_s, 3),
        "looks": len(client.watcher.readings),
        **silence.summary_of(client.records()),
        **(burst_figures(evidence.burst) if evidence.burst else {}),
        "left_streaming_free_after_s": free_after_s(evidence.disconnections.while_served),
        "left_queued_free_after_s": free_after_s(evidence.disconnections.while_waiting),
    }


def burst_figures(burst: Burst) -> dict[str, Any]:
    return {
        **dataclasses.asdict(burst.limits),
        "served": len(burst.served),
        "refused": len(burst.refused),
        "failed": len(burst.failed),
        "attempts": burst.attempts,
        "overlap_s": round(burst.overlap_s, 3) if burst.served else None,
        "queue_wait_s": [round(wait_s, 3) for wait_s in burst.waits_s],
        "readings": [
            {
                "sent_ms": round((reading.sent_s - burst.first_sent_s) * 1e3, 3),
                "ping_ms": reading.ping.spent_ms,
                "health_ms": reading.health.spent_ms,
                "active": reading.health.values.get("active"),
                "waiting": reading.health.values.get("waiting"),
                "queue_depth": reading.metrics_json.values.get("queue_depth"),
            }
            for reading in burst.readings
        ],
    }


# --- main


def measure(run: Run) -> None:
    """The whole run: the limits, then the steps."""
    document = run.document("queue_behavior")
    with open_wire(run, run.token()) as wire:
        requests = [chat.get("/health"), chat.get(chat.MODELS)]
        requests += [REQUESTS[name] for name in ("metrics_json", "metrics_text")]
        health, models, *figures = chat.first_contact(run, wire, requests)
        of_guide = speaks_of_queue(health, *figures)
        limits = find_limits(run.args, health, of_guide)
        checked = check_limits(health, limits, of_guide)
        run.decide(document, checked)
        if limits is None:
            end_early(run, document, checked)
            return
        if limits.at_once(run.args.extra) > MOST_AT_ONCE:
            raise CannotCheck(f"{limits}: this script sends at most {MOST_AT_ONCE} at once")
        model = model_to_ask(run, models)
        run.target["model"] = model
        cost = says_it_asks(health)
        watching = Watcher(watch_target(wire, bool(cost)), run.args.timeout, bool(cost))
        with Starvation() as starvation, watching as watcher:
            client = QueueClient(run, wire, watcher, limits, model, starvation)
            client.of_guide, client.health_cost = of_guide, cost
            go_through_steps(client, document)


def go_through_steps(client: QueueClient, document: Document) -> None:
    """Measure and judge; what was found out is saved, also when this is interrupted."""
    evidence = Evidence()
    try:
        decide_step_by_step(client, document, evidence)
        if not any(check.name == form.NAME for check in document.checks):
            client.decide(document, *judge_all(client))
    finally:
        document.requests = client.records()
        document.metrics = metrics(client, evidence)
    if evidence.burst:
        told = f"longest silence: {silence.words(silence.summary_of(document.requests))}"
        for line in ("", *timeline(evidence.burst), told, ""):
            client.run.say(line)


def judge_all(client: QueueClient) -> list[Check]:
    """What is said of the answers of all steps together."""
    answers = [answer for step in client.steps for answer in step.answers]
    checks, patience_s = [form.check_form(answers)], client.args.edge_idle
    if patience_s is not None:
        records = client.records()
        seen = silence.lost_words(records, patience_s)
        checks.insert(0, silence.check_edge(records, patience_s, seen))
    return checks


def decide_step_by_step(client: QueueClient, document: Document, evidence: Evidence) -> None:
    """Each step is judged, and its checks are shown, before the next one is measured."""
    run, args = client.run, client.args
    wanted = {name for name in CHECKS if run.wants(name)}
    wanted -= set() if args.edge_idle else {silence.NAME}
    idle, untrue = idle_or_untrue(client)
    checked = check_idle(idle, untrue)
    client.decide(document, checked)
    if checked.status is Status.FAIL:
        end_early(run, document, checked)
        return
    if wanted <= {"limits", "idle"}:
        return
    checked = check_single(measure_single(client))
    client.decide(document, checked)
    if checked.status is not Status.PASS:
        end_early(run, document, checked)
        return
    if left := left_by_nobody(client, idle):
        checked = Check("health", Status.FAIL, left)
        client.decide(document, checked)
        end_early(run, document, checked)
        return
    if wanted & {*BURST, "retry", silence.NAME}:
        burst = measure_burst(client, evidence)
        checks = judge_burst(burst, args.retry_after)
        client.decide(document, *checks)
        if not burst.is_conclusive:
            end_early(run, document, checks[0])
            return
        if burst.refused and run.wants("retry"):
            again = measure_retry(client, burst)
            client.decide(document, check_retry(again, time_to_retry(burst, args.retry_after)[0]))
    if wanted & set(DISCONNECTING):
        measure_disconnections(client, evidence.disconnections)
        client.decide(document, *judge_disconnections(client, evidence.disconnections))


def end_early(run: Run, document: Document, cause: Check) -> None:
    """The checks after `cause` cannot be tried. It stands for them, unless it was left out by
    --only or --skip: then each of them says why."""
    if not run.wants(cause.name):
        reason, names = f"not tried: {cause.detail}", CHECKS[CHECKS.index(cause.name) + 1 :]
        left_out = () if run.args.edge_idle else (silence.NAME,)
        run.decide(document, *[undecided(n, reason) for n in names if n not in left_out])


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare=silence.check_option)


if __name__ == "__main__":
    interruption.end_with(main)
