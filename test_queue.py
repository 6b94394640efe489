#!/usr/bin/env python3
"""Does the deployment queue what it can hold, and refuse the rest at once?

C is the number of requests that are served at once, Q the number that may wait; both are read from
/health or given by options. The steps: one request alone; C + Q + --extra requests at once, while
/ping, /health and /metrics are read; one request after Retry-After; a client that disconnects while
it is served; a client that disconnects while it waits; and as many requests at once as should fit.

PASS: exactly the surplus was refused, at once and as the guide promises (503, Retry-After, JSON);
all others were served completely; /health and /metrics gave the right figures; and the place of a
client that disconnected became free.
Cost: 3 * C + 2 * Q + --extra + 7 requests at most, and more when their answers do not overlap: then
a step is repeated, up to twice, with longer answers. 2 * C + Q + --extra + 2 of them ask for long
answers (--max-tokens). /ping, /health and /metrics are read up to 20 times per second. The script
wakes a sleeping worker and fills the queue: use it on a deployment that nobody else is using.

Examples:
    # limits read from /health
    python3 test_queue.py --url https://host:8000 --api-key sk-key
    # the guide's step 7: 4 at once, of which 1 is served, 2 wait and 1 is refused
    python3 test_queue.py --url https://host:8000 --max-concurrent 1 --max-queue 2
    # a slow model: shorter answers, and more time for the last one in the queue
    python3 test_queue.py --url https://host:8000 --max-tokens 50 --timeout 600
    # only what a pipeline has to know: the overflow
    python3 test_queue.py --url https://host:8000 --only refusals retry_after served
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.checks import undecided
from livecheck.core.json_value import pick, pick_text
from livecheck.core.text import counted, plural, shorten
from livecheck.gateway.burst import (
    JITTER_S,
    Burst,
    Limits,
    ended_s,
    first_output_s,
    last_event_s,
    most_at_once,
    sent_s,
    spent_s,
)
from livecheck.gateway.disconnection import (
    NOTICE_S,
    Disconnection,
    Disconnections,
    measure_disconnections,
)
from livecheck.gateway.queue_client import QueueClient
from livecheck.gateway.queue_state import METRICS, Probe, Reading, Watcher, watch_target
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.asking import open_wire, rate_limit_words, refused_credential
from livecheck.wire.metrics import percentile

OVERFLOW = ("refusals", "retry_after", "error_body", "refused_fast", "served", "concurrency")
BURST = ("burst", *OVERFLOW, "health", "metrics", "probes")
DISCONNECTING = ("left_streaming", "left_queued", "order")
CHECKS = ("limits", "idle", "single", *BURST, "retry", *DISCONNECTING)

IDLE_WAIT_S = 60.0  # for the requests of others to end, before the first one of ours
ATTEMPTS = 3  # each with answers twice as long, until they overlap
REFUSED_S = 1.0  # a refusal needs no model: one that takes longer has waited as well
SETTLE_S = 10.0  # for the gauges to be 0 again, after the last answer
SLOW_MS = 500.0  # beyond its time when idle, for a probe: half of what Kubernetes allows
WAIT_SHARE = 0.2  # allowed error of queue_wait_seconds_total against the waits seen from here
MOST_AT_ONCE = 1000  # requests
BAR_WIDTH = 52  # columns of the timeline


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    group = parser.add_argument_group("what to expect and what to send")

    def add(option: str, least: int, default: int | None, text: str, metavar: str = "N") -> None:
        kind = common.whole_number(least)
        group.add_argument(option, type=kind, default=default, metavar=metavar, help=text)

    add("--max-concurrent", 1, None, "requests served at once (default: from /health)")
    add("--max-queue", 0, None, "requests that may wait; 0: no limit (default: from /health)")
    add("--retry-after", 0, 5, "what Retry-After must say (default %(default)s)", "SECONDS")
    add("--extra", 1, 1, "requests beyond those that fit (default %(default)s)")
    add("--max-tokens", 1, 200, "tokens of a long answer (default %(default)s)")
    group.add_argument(
        "--model", metavar="NAME", help="model to ask for (default: the first listed)"
    )
    return parser


# --- measure


def has_no_health(health: Answer) -> bool:
    """Whether the deployment answers that it has no /health."""
    return health.failure is None and 400 <= (health.status or 0) < 500


def find_limits(args: argparse.Namespace, health: Answer) -> Limits | None:
    """C and Q as the options say them, else /health; None when neither tells both.

    CannotCheck when there is no /health that could tell.
    """
    announced = Limits.announced_by(health)
    concurrent, queue = args.max_concurrent, args.max_queue
    if announced:
        concurrent = announced.max_concurrent if concurrent is None else concurrent
        queue = announced.max_queue if queue is None else queue
    if concurrent is not None and queue is not None:
        return Limits(concurrent, queue)
    if has_no_health(health):
        raise CannotCheck(
            f"the limits are not known, because /health answered {health.status}: "
            "give --max-concurrent and --max-queue"
        )
    return None


@dataclass
class Evidence:
    """What a run has found out besides the answers, which the client keeps."""

    burst: Burst | None = None
    disconnections: Disconnections = field(default_factory=Disconnections)


def wait_until_idle(client: QueueClient, longest_s: float) -> Reading | None:
    """The first reading that says that nobody is there; when it cannot say, just the first one.

    CannotCheck when somebody is there all that time.
    """
    watcher, begun_s = client.watcher, time.perf_counter()
    first = watcher.next_reading(client.args.timeout)
    if first is None or first.occupancy is None or first.is_idle:
        return first
    client.run.note(f"waiting up to {longest_s:g} s until the deployment is idle")
    found = watcher.wait_for(lambda reading: reading.is_idle, begun_s, longest_s)
    if found is None:
        served, waiting = watcher.readings[-1].occupancy or first.occupancy
        raise CannotCheck(
            f"not idle in {longest_s:g} s: {served} served and {waiting} waiting, which are not "
            "requests of this script: find out who sends them, or try again later"
        )
    return found


def measure_single(client: QueueClient) -> Answer:
    """One request alone: how long an answer takes, and the way to the gateway."""
    watcher = client.watcher
    answer = client.send_one("single", client.request(client.args.max_tokens), "one request")
    if answer.status == 401:
        raise CannotCheck(refused_credential(client.run))
    start_s = first_output_s(answer)
    if start_s is not None:
        client.answer_s = last_event_s(answer) - start_s
    client.round_trip_s = round_trip_s(watcher.readings, answer)
    watcher.interval_s = min(1.0, max(0.05, client.answer_s / 20))
    return answer


def round_trip_s(readings: Sequence[Reading], answer: Answer) -> float:
    """To the gateway and back. A proxy in front answers the handshake itself, but not /ping."""
    pings = times_ms([reading.ping for reading in readings if not reading.ping.trouble])
    shake = answer.handshake
    network_s = (shake.rtt_ns or shake.connect_ns) / 1e9 if shake else 0.0
    return max(network_s, percentile(pings, 50) / 1e3 if pings else 0.0)


def measure_burst(client: QueueClient, evidence: Evidence) -> Burst:
    """C + Q + --extra at once, and again with longer answers until they overlap; the last time
    counts."""
    args = client.args
    count = client.limits.at_once(args.extra)
    lasts_s = expected_duration_s(client, count)
    for attempt in range(ATTEMPTS):
        factor = 2**attempt
        before = wait_until_idle(client, SETTLE_S)
        requests = [client.request(args.max_tokens * factor) for _ in range(count)]
        label = f"{count} requests at once, about {lasts_s * factor:.0f} s"
        burst = evidence.burst = gather(client, client.send("burst", requests, label), before)
        burst.attempts = attempt + 1
        if burst.rate_limited or burst.failed or burst.overlapped:
            break
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
    begin_s, end_s = min(map(sent_s, answers)), max(map(ended_s, answers))
    after = watcher.wait_for(lambda reading: reading.is_at_rest, end_s, SETTLE_S)
    readings = list(watcher.readings)
    return Burst(
        client.limits,
        client.args.extra,
        answers,
        client.round_trip_s,
        readings=[r for r in readings if r.ended_s >= begin_s and r.sent_s <= end_s],
        before=before,
        after=after or (readings[-1] if readings else None),
        quiet=[each for each in readings if each.ended_s <= sent_s(first)],
    )


def measure_retry(client: QueueClient, burst: Burst) -> Answer:
    """One request, as soon as a refused client may come again."""
    refusal = max(burst.refused, key=ended_s)
    announced_s, expected_s = retry_after_s(refusal), client.args.retry_after
    wait_s = expected_s if announced_s is None else min(announced_s, expected_s)
    left_s = ended_s(refusal) + wait_s - time.perf_counter()
    if left_s > 0:
        client.run.note(f"waiting {left_s:.1f} s, as Retry-After says")
        time.sleep(left_s)
    return client.send_one("retry", client.short_request(), "one request again")


def retry_after_s(answer: Answer) -> int | None:
    """The header's value if it is a valid number of seconds (RFC 9110, section 10.2.3)."""
    text = answer.header("retry-after") or ""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


# --- judge


def rate_limited(name: str, answer: Answer) -> Check:
    evidence = {"retry_after": answer.shown_header("retry-after")}
    return undecided(name, rate_limit_words(answer), evidence)


def check_limits(health: Answer, limits: Limits | None) -> Check:
    """/health announces the limits, and they are the expected ones."""
    announced, evidence, status = Limits.announced_by(health), {}, Status.FAIL
    if has_no_health(health):
        status, detail = Status.SKIP, f"{limits}, as the options say; there is no /health"
    elif not health.is_ok:
        detail = f"/health: {health.outcome(timed=True)}"
    elif announced is None:
        detail = "/health answers 200 without queue.max_concurrent and queue.max_queue_size"
    elif limits != announced:
        detail = f"/health announces {announced}; expected: {limits}"
    else:
        status, detail, evidence = Status.PASS, str(limits), dataclasses.asdict(announced)
    return Check("limits", status, detail, evidence)


def check_idle(reading: Reading | None) -> Check:
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
    return [*checks, check_health(burst), check_metrics(burst), check_probes(burst)]


def check_burst(burst: Burst) -> Check:
    """The requests were in flight together, so what became of them says something."""
    count = len(burst.answers)
    if burst.rate_limited:
        return rate_limited("burst", burst.rate_limited)
    if not burst.is_conclusive:
        detail = (
            f"after {plural(burst.attempts, 'attempt')} the {count} requests were in flight "
            f"together for only {max(0.0, burst.overlap_s):.2f} s: give a larger --max-tokens"
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
    status = Status.PASS if slowest_s <= REFUSED_S + burst.round_trip_s else Status.FAIL
    detail = f"refused after at most {slowest_s * 1e3:.0f} ms, {REFUSED_S:g} s allowed"
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
    slack_s = burst.round_trip_s + JITTER_S
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
    if not told:
        return check_health_without_figures(burst)
    limits, accepted = burst.limits, len(burst.accepted)
    wanted = (min(accepted, limits.max_concurrent), limits.waiting(accepted))
    active, waiting = (int(max(r.health.values[n] for r in told)) for n in ("active", "waiting"))
    evidence = {"readings": len(told), "active": active, "waiting": waiting}
    detail = f"up to {active} active and {waiting} waiting in {plural(len(told), 'reading')}"
    rest = burst.after.health.values if burst.after else {}
    status = Status.FAIL
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
    probes = [reading.health for reading in burst.readings if reading.health.trouble]
    if probes and all(probe.is_missing for probe in probes):
        return Check("health", Status.SKIP, "there is no /health here")
    seen = probes[0].trouble if probes else "200 without queue.active and queue.waiting"
    return Check("health", Status.FAIL, f"/health during the burst: {seen}")


def check_metrics(burst: Burst) -> Check:
    """Both forms of /metrics have the queue's three figures, and they are right."""
    before, after = burst.before, burst.after
    if before is None or after is None:
        return Check("metrics", Status.FAIL, "/metrics was not answered at all")
    if after.metrics_json.status == 404 and after.health.status == 404:
        return Check("metrics", Status.SKIP, "there is neither /metrics nor /health here")
    problems = [
        *form_problems("JSON", before.metrics_json, after.metrics_json, burst),
        *form_problems("Prometheus", before.metrics_text, after.metrics_text, burst),
        *(disagreements(before) or disagreements(after)),
    ]
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


def growth(before: Probe, after: Probe) -> dict[str, float]:
    return {name: after.values[name] - before.values[name] for name in METRICS}


def queue_depths(form: str, readings: Sequence[Reading]) -> list[float]:
    probes = [each.metrics_json if form == "JSON" else each.metrics_text for each in readings]
    return [each.values["queue_depth"] for each in probes if "queue_depth" in each.values]


def form_problems(form: str, before: Probe, after: Probe, burst: Burst) -> list[str]:
    """What one form lacks, or what is wrong in it."""
    if after.trouble:
        return [f"{form}: {after.trouble}"]
    missing = [name for name in METRICS if name not in before.values or name not in after.values]
    if missing:
        return [f"{form} lacks {', '.join(missing)}"]
    problems, grown = [], growth(before, after)
    refused = sum(1 for answer in burst.refused if answer.status == 503)
    if (seen := grown["queue_rejections"]) != refused:
        problems.append(f"{form}: queue_rejections +{seen:g}, expected +{refused}")
    waited_s, seen_s = grown["queue_wait_seconds_total"], sum(burst.waits_s)
    allowed_s = WAIT_SHARE * seen_s + (JITTER_S + burst.round_trip_s) * (1 + len(burst.waits_s))
    if abs(waited_s - seen_s) > allowed_s:
        said = f"{form}: queue_wait_seconds_total +{waited_s:.2f}"
        problems.append(f"{said}, expected about +{seen_s:.2f}")
    if left := after.values["queue_depth"]:
        problems.append(f"{form}: queue_depth still {left:g}, {SETTLE_S:g} s after the last answer")
    waiting = burst.limits.waiting(len(burst.accepted))
    depths = queue_depths(form, burst.readings_while_full)
    if depths and max(depths) != waiting:
        problems.append(f"{form}: queue_depth {max(depths):g} while {waiting} waited")
    return problems


def disagreements(reading: Reading) -> list[str]:
    """Where the two forms differ, though asked at the same moment and with nobody there."""
    found = []
    for name in METRICS:
        one, other = (p.values.get(name) for p in (reading.metrics_json, reading.metrics_text))
        if one is not None and other is not None and abs(one - other) > 0.01 + 1e-3 * one:
            found.append(f"{name} is {one:g} in JSON and {other:g} in Prometheus text")
    return found


def check_probes(burst: Burst) -> Check:
    """/ping and /health were about as quick as without the burst."""
    problems, parts, evidence = [], [], {}
    for name in ("ping", "health"):
        probes: list[Probe] = [getattr(reading, name) for reading in burst.readings]
        quiet: list[Probe] = [getattr(reading, name) for reading in burst.quiet]
        bad = [probe.trouble for probe in probes if probe.trouble and not probe.is_missing]
        if bad:
            problems.append(f"/{name} failed {len(bad)} of {len(probes)} times: {bad[0]}")
        elif spent := times_ms(probes):
            usual, now = percentile(times_ms(quiet) or [0], 50), percentile(spent, 90)
            evidence[f"{name}_p90_ms"] = round(now, 2)
            parts.append(f"/{name} p90 {now:.1f} ms ({usual:.1f} ms when idle)")
            if now - usual > SLOW_MS:
                problems.append(f"/{name} is slow: p90 {now:.0f} ms, {usual:.1f} ms when idle")
    status = Status.WARN if problems else Status.PASS if parts else Status.SKIP
    detail = "; ".join(problems or parts) or "no probe was answered"
    return Check("probes", status, detail, evidence)


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
        check_left("left_streaming", found.while_served, trip_s),
        check_left("left_queued", found.while_waiting, trip_s),
        check_order(found.pair, client.limits, trip_s + JITTER_S),
    ]


def check_left(name: str, found: Disconnection | None, round_trip_s: float) -> Check:
    """A client that disconnected does not keep its place."""
    if found and found.rate_limited:
        return rate_limited(name, found.rate_limited)
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
        status = Status.WARN
        detail = f"the place became free late: after {late_s:.1f} s, {NOTICE_S:g} s allowed"
    return Check(name, status, detail, {"free_after_s": round(late_s, 3)})


def check_order(pair: Sequence[Answer], limits: Limits, slack_s: float) -> Check:
    """Of two in the queue the one that came first was served first."""
    if limits.max_queue == 1:
        return Check(
            "order", Status.SKIP, "Q is 1: only one request may wait, so there is no order"
        )
    served = [answer for answer in pair if not answer.stream_error]
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


def lines(burst: Burst) -> list[str]:
    """A bar for each request: waiting, generating, refused; those served first are on top."""
    begun_s = burst.first_sent_s
    span_s = max(map(ended_s, burst.answers)) - begun_s or 1e-9

    def column(time_s: float) -> int:
        return min(BAR_WIDTH, max(0, round((time_s - begun_s) / span_s * BAR_WIDTH)))

    def line(answer: Answer, bar: str, word: str) -> str:
        return f"{answer.reply.index + 1:>4} {bar[: BAR_WIDTH + 1]:<{BAR_WIDTH + 1}} {word}"

    shown = [f"{len(burst.answers)} at once, {span_s:.2f} s: ░ waiting  █ generating  × refused"]
    for answer in sorted(burst.accepted, key=lambda a: (begin_s(a), a.reply.index)):
        start, end = column(begin_s(answer)), column(last_event_s(answer))
        bar = "░" * start + ("█" * max(1, end - start) if first_output_s(answer) else "")
        error = answer.stream_error
        word = error.kind if error else f"{answer.status} {spent_s(answer):.2f} s"
        shown.append(line(answer, bar, word))
    for answer in burst.refused:
        bar = "░" * max(0, column(ended_s(answer)) - 1) + "×"
        shown.append(line(answer, bar, f"{answer.status} {spent_s(answer) * 1e3:.0f} ms"))
    return shown


def begin_s(answer: Answer) -> float:
    """Its first token; of an answer without tokens, its end."""
    return first_output_s(answer) or ended_s(answer)


def metrics(client: QueueClient, evidence: Evidence) -> dict[str, Any]:
    """What the run has measured, for the result file."""

    def free_after_s(found: Disconnection | None) -> float | None:
        free_s = found.free_after_s if found else None
        return None if free_s is None else round(free_s, 3)

    return {
        "round_trip_ms": round(client.round_trip_s * 1e3, 3),
        "answer_s": round(client.answer_s, 3),
        "looks": len(client.watcher.readings),
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
        health, models = chat.first_contact(run, wire, requests)
        limits = find_limits(run.args, health)
        checked = check_limits(health, limits)
        run.decide(document, checked)
        if limits is None:
            end_early(run, document, checked)
            return
        if limits.at_once(run.args.extra) > MOST_AT_ONCE:
            raise CannotCheck(f"{limits}: this script sends at most {MOST_AT_ONCE} at once")
        model = chat.model_to_ask(run, models)
        run.target["model"] = model
        with Watcher(watch_target(wire), run.args.timeout) as watcher:
            client = QueueClient(run, wire, watcher, limits, model)
            go_through_steps(client, document)


def go_through_steps(client: QueueClient, document: Document) -> None:
    """Measure and judge; what was found out is saved, also when this is interrupted."""
    evidence = Evidence()
    try:
        decide_step_by_step(client, document, evidence)
    finally:
        document.requests = client.records()
        document.metrics = metrics(client, evidence)
    if evidence.burst:
        for line in ("", *lines(evidence.burst), ""):
            client.run.say(line)


def decide_step_by_step(client: QueueClient, document: Document, evidence: Evidence) -> None:
    """Each step is judged, and its checks are shown, before the next one is measured."""
    run, args = client.run, client.args
    wanted = {name for name in CHECKS if run.wants(name)}
    run.decide(document, check_idle(wait_until_idle(client, IDLE_WAIT_S)))
    if wanted <= {"limits", "idle"}:
        return
    checked = check_single(measure_single(client))
    run.decide(document, checked)
    if checked.status is not Status.PASS:
        end_early(run, document, checked)
        return
    if wanted & {*BURST, "retry"}:
        burst = measure_burst(client, evidence)
        checks = judge_burst(burst, args.retry_after)
        run.decide(document, *checks)
        if not burst.is_conclusive:
            end_early(run, document, checks[0])
            return
        if burst.refused and run.wants("retry"):
            again = measure_retry(client, burst)
            run.decide(document, check_retry(again, args.retry_after))
    if wanted & set(DISCONNECTING):
        measure_disconnections(client, evidence.disconnections)
        run.decide(document, *judge_disconnections(client, evidence.disconnections))


def end_early(run: Run, document: Document, cause: Check) -> None:
    """The checks after `cause` cannot be tried. It stands for them, unless it was left out by
    --only or --skip: then each of them says why."""
    if not run.wants(cause.name):
        reason, names = f"not tried: {cause.detail}", CHECKS[CHECKS.index(cause.name) + 1 :]
        run.decide(document, *[undecided(n, reason) for n in names])


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    sys.exit(main())
