"""The gateway's own overhead: probes of /ping and /health, each over a connection of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, failed, passed, skip, undecided, warned
from livecheck.core.json_value import pick
from livecheck.core.text import counted, duration, shorten
from livecheck.load import table
from livecheck.load.level import Session, stop_at_first
from livecheck.wire import chat, metrics
from livecheck.wire.answer import Answer, handshake_figures, ms
from livecheck.wire.asking import Asker, Stop, reason_to_stop
from livecheck.wire.health_cost import COUNT_S, is_long, says_it_asks, tokens_counted
from livecheck.wire.probe_limit import (
    PROBE_LIMIT_S,
    PROBE_RULE,
    blind_time_ms,
    is_slow_answer,
    probe_time_s,
)
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import Handshake, Target

KEPT_BYTES = 1 << 20  # of the answers to the probes of one endpoint, as they came
STARVED_MS = 0.5  # a probe with so much of it says nothing about the gateway
HEALTH, METRICS = "/health", "/metrics"
MISSING = (404, 405)  # statuses of a path that cannot be asked for with GET
PROBED = {"/ping": "ping", HEALTH: "health"}  # path -> name of its check and figures
# what only the guide's gateway says of itself
GATEWAY_FIGURES = (
    (HEALTH, ("gateway", "metrics")),
    (HEALTH, ("queue", "max_concurrent")),
    (METRICS, ("gateway", "queue_depth")),
)
LEAST_PROBES = 50  # with a level: fewer would replace the figures of the guide's 50 probes


# --- measure


def edge_sign(url: str, answers: Sequence[Answer]) -> str | None:
    """Why the TCP handshake may have ended at something in front of the gateway."""
    target = Target(url)
    if target.proxy:
        return f"the proxy {target.proxy.name} is in between"
    if target.host.endswith(".proxy.runpod.net"):
        return "RunPod's proxy answers the handshake"
    for answer in answers:
        for name in chat.EDGE_HEADERS:
            if answer.header(name):
                return f"an edge answers the handshake ({name} header)"
    return None


@dataclass
class Probes:
    """The probes of one endpoint.

    answers: at first that of the first contact. reason: why no more probes were sent.
    slow: how many answers came later than a platform waits; untimed: of how many more that cannot
    be told, because this program could not run.
    """

    path: str
    answers: list[Answer]
    reason: str | None = None
    slow: int = 0
    untimed: int = 0


def probe(session: Session, probes: Probes) -> None:
    """Ask for the path again and again, one at a time, each over a connection of its own.

    Where the first contact was silent, or flooded, or found no such path, its answer stays the only
    one. So it does where a probe is slow or costs inference, with that of one more probe. Else the
    probes replace it, also when they are interrupted.
    """
    first = probes.answers[0]
    if first.is_rate_limited:
        session.stopped = reason_to_stop(first)
    if first.is_costly or is_missing(first) or first.is_rate_limited:
        return
    if session.stopped:  # by a rate limit, when another endpoint was asked
        probes.answers.clear()
        return
    probes.reason = why_no_more(session, probes)
    if probes.reason:
        return
    probes.answers.clear()
    args, path = session.run.args, probes.path
    count = args.requests if args.gateway_only else max(args.requests, LEAST_PROBES)
    warmup = Asker(session.run, session.wire, stop_at_first)
    warmup.ask([chat.get(path)] * args.warmup, keep_alive=False, budget=KEPT_BYTES)
    asker = Asker(session.run, session.wire, stop_at_first)
    asker.stopped = warmup.limited
    label, requests = f"{path}: {count} probes", [chat.get(path)] * count
    keep = probes.answers.extend
    with Starvation() as starvation:
        asker.ask(
            requests, label=label, total=count, keep=keep, keep_alive=False, budget=KEPT_BYTES
        )
    session.stopped = asker.limited
    good = [answer for answer in probes.answers if answer.is_ok]
    path_s = min((PROBE_LIMIT_S, *map(probe_time_s, good))) if session.edge else 0.0
    blind_ms = [blind_time_ms(answer, starvation, session.wire.clock) for answer in good]
    paces = [is_slow_answer(a, blind, path_s) for a, blind in zip(good, blind_ms, strict=True)]
    probes.slow, probes.untimed = paces.count(True), paces.count(None)


def why_no_more(session: Session, probes: Probes) -> str | None:
    """Why another fifty probes would be a load: they cost inference, or are slow. None: they are
    not. A doubt is settled by one more probe, which is kept."""
    first, others = probes.answers[0], [*session.contact.values()]
    if not first.is_ok:
        return None
    if costs := says_it_asks(first):
        return costs
    path_s = min(probe_time_s(answer) for answer in others if answer.failure is None)
    is_counted = METRICS in session.contact and tokens_counted(session.contact[METRICS]) is not None
    is_doubtful = is_slow_answer(first) or (probes.path == HEALTH and is_long(first, path_s))
    return doubt(session, probes, path_s, is_counted) if is_counted or is_doubtful else None


def doubt(session: Session, probes: Probes, path_s: float, is_counted: bool) -> str | None:
    """What one more probe shows, with the deployment's count of tokens before and after it."""

    def ask(path: str) -> Answer:
        asker = Asker(
            session.run, session.wire, stop_at_first
        )  # each is asked, whatever came before
        return asker.ask([chat.get(path)], keep_alive=False)[0]

    before = tokens_counted(ask(METRICS)) if is_counted else None
    with Starvation() as starvation:
        answer = ask(probes.path)
    probes.answers.append(answer)
    spent = duration(answer.spent_ms)
    if before is not None:
        time.sleep(COUNT_S)  # some servers count when the answer is over
        after = tokens_counted(ask(METRICS)) or 0.0
        time.sleep(COUNT_S)
        # others may use the model just now; then nobody knows whose tokens they are
        if after > before and tokens_counted(ask(METRICS)) == after:
            return f"the deployment counted {after - before:g} tokens for one probe"
    blind_ms = blind_time_ms(answer, starvation, session.wire.clock)
    if is_slow_answer(answer, blind_ms, path_s if session.edge else 0.0):
        return f"it took {spent}: {PROBE_RULE}"
    if probes.path == HEALTH and before is None and is_long(answer, path_s + blind_ms / 1e3):
        fast = duration(path_s * 1e3)
        return f"it took {spent}, other answers {fast}: it may ask a model or a service each time"
    return None


# --- metrics


def gateway_metrics(probes: Mapping[str, Sequence[Answer]], edge: str | None) -> dict[str, Any]:
    """Overhead in ms: each endpoint raw (t0 to first byte) and net of one network round trip.

    The round trip is that of the TCP handshake of the same connection; a gateway cannot be faster
    than 0. Probes that failed, or got a web page, are in none of the figures.
    """
    figures: dict[str, Any] = {"net_not_separable": edge}
    handshakes: list[Handshake] = []
    for path, answers in probes.items():
        good = [each for each in answers if each.is_ok and not each.is_web_page]
        raw = [(first_byte_ns(answer), round_trip_ns(answer)) for answer in good]
        net = [ms(max(0, spent - trip)) for spent, trip in raw if trip is not None]
        figures[f"{PROBED[path]}_ms"] = metrics.summary([ms(spent) for spent, _ in raw])
        figures[f"{PROBED[path]}_net_ms"] = metrics.summary([] if edge else net)
        handshakes += [answer.handshake for answer in good if answer.handshake]
    figures["connect_ms"] = metrics.summary([ms(each.connect_ns) for each in handshakes])
    tls = [ms(each.tls_ns) for each in handshakes if each.tls_ns is not None]
    figures["tls_ms"] = metrics.summary(tls)
    trips = [ms(each.rtt_ns) for each in handshakes if each.rtt_ns is not None]
    figures["round_trip_ms"] = metrics.summary(trips)
    return figures


def fair_metrics(session: Session, probes: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    """The same figures from the probes alone during which this program could run all the time."""
    seen = {
        path: [each for each in answers if session.starvation.of(each) < STARVED_MS]
        for path, answers in probes.items()
    }
    return gateway_metrics(seen, session.edge)


def first_byte_ns(answer: Answer) -> int:
    return (answer.reply.first_byte_ns or 0) - (answer.sent_ns or 0)


def round_trip_ns(answer: Answer) -> int | None:
    return answer.handshake.rtt_ns if answer.handshake else None


def probe_record(answer: Answer) -> dict[str, Any]:
    trip_ns = round_trip_ns(answer)
    return {
        "path": answer.request.path,
        "status": answer.status,
        "error": answer.failure.text if answer.failure else None,
        "ttfb_ms": answer.first_byte_ms if answer.status is not None else None,
        **handshake_figures(answer.handshake),
        "round_trip_ms": ms(trip_ns) if trip_ns is not None else None,
    }


# --- judge


def check_probes(
    probes: Probes, figures: Mapping[str, Any], gateway: str | None, stopped: Stop | None = None
) -> Check:
    """Every probe answered 200, soon and without inference.

    `gateway`: what shows that this is the guide's gateway, which has both endpoints. `stopped`: why
    no more of them were sent.
    """
    name, answers = PROBED[probes.path], probes.answers
    counted_ones = [answer for answer in answers if not answer.is_rate_limited]
    outcomes = [probe_words(a) for a in counted_ones if not a.is_ok or a.is_web_page]
    p99_ms, p99_net_ms = figures[f"{name}_ms"]["p99"], figures[f"{name}_net_ms"]["p99"]
    evidence = {"probes": len(answers), "failed": len(outcomes), "slow": probes.slow}
    evidence |= {"p99_ms": p99_ms, "p99_net_ms": p99_net_ms}
    if answers and all(map(is_missing, answers)):
        return check_missing(answers[0], evidence, gateway)
    if outcomes:
        detail = f"{len(outcomes)} of {len(answers)} probes failed: {counted(outcomes)}"
        bad = (a for a in counted_ones if not a.is_ok or a.is_web_page)
        return failed(name, detail, evidence).shown_by(bad)
    if stopped and (not answers or len(counted_ones) < len(answers)):
        return undecided(name, str(stopped), evidence)
    if probes.reason:
        detail = f"each probe is a load: {probes.reason}; not probed again after {len(answers)}"
        return warned(name, detail, evidence).shown_by(answers)
    if probes.slow:
        detail = f"{probes.slow} of {len(answers)} probes took more than {PROBE_LIMIT_S:g} s, p99 "
        check = warned(name, f"{detail}{duration(p99_ms)}: {PROBE_RULE}", evidence)
        slowest = sorted(answers, key=lambda each: each.spent_ms or 0.0, reverse=True)
        return check.shown_by(slowest)
    detail = f"{len(answers)} of {len(answers)} answered 200, p99 {p99_ms:.2f} ms"
    if p99_net_ms is not None:
        detail += f", net of the network {p99_net_ms:.2f} ms"
    if probes.untimed:
        detail += f"; {probes.untimed} took long, but this program could not run meanwhile"
    return passed(name, detail, evidence)


def is_missing(answer: Answer) -> bool:
    """Whether there is no such endpoint. A web site answers any path with a page of its own."""
    return answer.status in MISSING or (answer.is_ok and answer.is_web_page)


def probe_words(answer: Answer) -> str:
    is_page = answer.is_ok and answer.is_web_page
    return f"200, but a web page: {answer.words}" if is_page else answer.outcome()


def check_missing(answer: Answer, evidence: dict[str, Any], gateway: str | None) -> Check:
    """There is no such endpoint. A deployment that is not the guide's does not promise it."""
    path, seen = answer.path, f"there is no {answer.path} ({answer.status})"
    if answer.is_web_page and answer.is_ok:
        seen = f"there is no {path}: a web page answers with 200 ({shorten(answer.words, 60)})"
    if gateway:
        detail = f"{seen}, but this is the guide's gateway, which has one: "
        return failed(PROBED[path], detail + gateway, evidence).shown_by([answer])
    evidence |= {"missing": True}
    if answer.is_ok:
        detail = f"{seen}, and a platform that probes it sees no failure"
        return warned(PROBED[path], detail, evidence).shown_by([answer])
    return skip(PROBED[path], seen, evidence)


def guides_gateway(contact: Mapping[str, Answer]) -> str | None:
    """What shows that this is the guide's gateway: figures that it gives of itself. None if
    nothing does."""
    for path, keys in GATEWAY_FIGURES:
        answer = contact.get(path)
        if answer and answer.is_ok and pick(answer.json, *keys) is not None:
            return f"{path} has {'.'.join(keys)}"
    return None


# --- show


def gateway_lines(figures: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    each = ", ".join(f"{count} x {path}" for path, count in counts.items())
    lines = [f"Gateway overhead, each probe over its own connection: {each}", table.header()]
    for path in counts:
        summary, net = (figures[f"{PROBED[path]}{key}"] for key in ("_ms", "_net_ms"))
        if not summary["n"]:
            lines.append(f"  {path}: there was no answer to measure")
            continue
        lines.append(table.row(f"{path} [ms]", summary))
        lines += table.optional_row("  net of network", net)
    lines.append(table.row("connect [ms]", figures["connect_ms"]))
    lines += table.optional_row("TLS [ms]", figures["tls_ms"])
    lines.append(table.row("round trip [ms]", figures["round_trip_ms"]))
    if figures["net_not_separable"]:
        lines += table.entry("net of network", f"not separable: {figures['net_not_separable']}")
    return lines + table.footnote(*(figures[f"{PROBED[path]}_ms"] for path in counts))
