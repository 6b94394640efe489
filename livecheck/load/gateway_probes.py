"""The gateway's own overhead: probes of /ping and /health, each over a connection of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.checks import Check, Status, failed, passed
from livecheck.core.text import counted
from livecheck.load import table
from livecheck.load.level import Session, stop_at_first
from livecheck.wire import chat, metrics
from livecheck.wire.answer import Answer, handshake_figures, ms
from livecheck.wire.asking import Asker
from livecheck.wire.wire import Handshake, Target

PROBED = {"/ping": "ping", "/health": "health"}  # path -> name of its check and figures
LEAST_PROBES = 50  # with a level: fewer would replace the figures of the guide's 50 probes


# --- measure


def edge_sign(url: str, answers: Sequence[Answer]) -> str | None:
    """Why the TCP handshake may have ended at something in front of the gateway."""
    target = Target(url)
    if target.proxy:
        return "a proxy is in between"
    if target.host.endswith(".proxy.runpod.net"):
        return "RunPod's proxy answers the handshake"
    for answer in answers:
        for name in chat.EDGE_HEADERS:
            if answer.header(name):
                return f"an edge answers the handshake ({name} header)"
    return None


def probe(session: Session, path: str, answers: list[Answer]) -> None:
    """Ask for `path` again and again, one at a time, each over a connection of its own.

    `answers` holds the answer of the first contact. Where that was silent, or flooded, or found no
    such path, it stays the only one; else the probes replace it, also when they are interrupted.
    """
    if answers[0].is_costly or answers[0].status == 404:
        return
    answers.clear()
    args = session.run.args
    count = args.requests if args.gateway_only else max(args.requests, LEAST_PROBES)
    warmup = Asker(session.run, session.wire, stop_at_first)
    warmup.ask([chat.get(path)] * args.warmup, keep_alive=False)
    asker = Asker(session.run, session.wire, stop_at_first)
    label, requests = f"{path}: {count} probes", [chat.get(path)] * count
    asker.ask(requests, label=label, total=count, keep=answers.extend, keep_alive=False)


# --- metrics


def gateway_metrics(probes: Mapping[str, Sequence[Answer]], edge: str | None) -> dict[str, Any]:
    """Overhead in ms: each endpoint raw (t0 to first byte) and net of one network round trip.

    The round trip is that of the TCP handshake of the same connection; a gateway cannot be faster
    than 0. Probes that failed are in none of the figures.
    """
    figures: dict[str, Any] = {"net_not_separable": edge}
    handshakes: list[Handshake] = []
    for path, answers in probes.items():
        good = [answer for answer in answers if answer.is_ok]
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


def check_probes(path: str, answers: Sequence[Answer], figures: Mapping[str, Any]) -> Check:
    """Every probe answered 200."""
    name = PROBED[path]
    outcomes = [answer.outcome() for answer in answers if not answer.is_ok]
    p99_ms, p99_net_ms = figures[f"{name}_ms"]["p99"], figures[f"{name}_net_ms"]["p99"]
    evidence = {"probes": len(answers), "failed": len(outcomes)}
    evidence |= {"p99_ms": p99_ms, "p99_net_ms": p99_net_ms}
    if answers and all(answer.status == 404 for answer in answers):
        return Check(name, Status.SKIP, f"404: there is no {path} here", evidence)
    if outcomes:
        detail = f"{len(outcomes)} of {len(answers)} probes failed: {counted(outcomes)}"
        return failed(name, detail, evidence)
    detail = f"{len(answers)} of {len(answers)} answered 200, p99 {p99_ms:.2f} ms"
    if p99_net_ms is not None:
        detail += f", net of the network {p99_net_ms:.2f} ms"
    return passed(name, detail, evidence)


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
