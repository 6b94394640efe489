"""The gateway's own overhead: probes of /ping and /health, each over a connection of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from livecheck.core.checks import Check, Status
from livecheck.load import table
from livecheck.load.level import Session, is_costly
from livecheck.wire import metrics, wire
from livecheck.wire import old_chat as chat
from livecheck.wire.records import counted_words, is_ok, ms, outcome

PROBED = {"/ping": "ping", "/health": "health"}  # path -> its check and the name of its figures
LEAST_PROBES = 50  # beside a level: fewer would replace the guide's 50 by a poorer figure


# --- measure


def edge(url: str, replies: Sequence[wire.Reply]) -> str | None:
    """Signs that the TCP handshake ended at something in front of the gateway."""
    if wire.Target(url).proxy:
        return "a proxy is in between"
    if (wire.Target(url).host).endswith(".proxy.runpod.net"):
        return "RunPod's proxy answers the handshake"
    for reply in replies:
        for name in chat.EDGES:
            if reply.message.header(name):
                return f"an edge answers the handshake ({name} header)"
    return None


def probe(session: Session, path: str) -> list[wire.Reply]:
    """Ask for `path` again and again, one at a time, each over a connection of its own."""
    args, instrument = session.run.args, session.instrument
    count = args.requests if args.gateway_only else max(args.requests, LEAST_PROBES)
    request = wire.Request("GET", path)
    instrument.exchange([request] * args.warmup, keep=False, on_reply=is_costly)
    instrument.replies = []
    with session.run.progress(f"{path}: {count} probes", count) as step:

        def on_reply(reply: wire.Reply) -> bool:
            step()
            chat.show(session.run, reply)
            return is_costly(reply)

        return instrument.exchange([request] * count, keep=False, on_reply=on_reply)


# --- metrics


def gateway_metrics(probes: dict[str, list[wire.Reply]], edge: str | None) -> dict[str, Any]:
    """Overhead in ms: each endpoint raw (t0 to first byte) and net of one network round trip.

    The round trip is that of the very connection's TCP handshake; a gateway cannot be faster
    than 0. Probes that failed are in none of it.
    """
    figures: dict[str, Any] = {"net_not_separable": edge}
    shakes: list[wire.Handshake] = []
    for path, replies in probes.items():
        good = [reply for reply in replies if is_ok(reply)]
        raw = [(first_byte(reply), round_trip(reply)) for reply in good]
        net = [ms(max(0, spent - trip)) for spent, trip in raw if trip is not None]
        figures[f"{PROBED[path]}_ms"] = metrics.summary([ms(spent) for spent, _ in raw])
        figures[f"{PROBED[path]}_net_ms"] = metrics.summary([] if edge else net)
        shakes += [reply.handshake for reply in good if reply.handshake]
    figures["connect_ms"] = metrics.summary([ms(shake.connect_ns) for shake in shakes])
    figures["tls_ms"] = metrics.summary([ms(s.tls_ns) for s in shakes if s.tls_ns is not None])
    trips = [ms(shake.rtt_ns) for shake in shakes if shake.rtt_ns is not None]
    figures["round_trip_ms"] = metrics.summary(trips)
    return figures


def first_byte(reply: wire.Reply) -> int:
    return (reply.first_byte_ns or 0) - (reply.t0_ns or 0)


def round_trip(reply: wire.Reply) -> int | None:
    return reply.handshake.rtt_ns if reply.handshake else None


def probe_record(reply: wire.Reply) -> dict[str, Any]:
    answered = reply.status is not None and reply.t0_ns is not None
    shake = reply.handshake
    return {
        "path": reply.request.path,
        "status": reply.status,
        "error": reply.failure.text if reply.failure else None,
        "ttfb_ms": ms(first_byte(reply)) if answered else None,
        "connect_ms": ms(shake.connect_ns) if shake else None,
        "tls_ms": ms(shake.tls_ns) if shake and shake.tls_ns is not None else None,
        "round_trip_ms": ms(shake.rtt_ns) if shake and shake.rtt_ns is not None else None,
    }


# --- judge


def check_probes(path: str, replies: Sequence[wire.Reply], figures: dict[str, Any]) -> Check:
    """Every probe answered 200."""
    name = PROBED[path]
    failed = [reply for reply in replies if not is_ok(reply)]
    figure = {key: figures[f"{name}{key}"]["p99"] for key in ("_ms", "_net_ms")}
    evidence = {"probes": len(replies), "failed": len(failed)}
    evidence |= {"p99_ms": figure["_ms"], "p99_net_ms": figure["_net_ms"]}
    if replies and all(reply.status == 404 for reply in replies):
        return Check(name, Status.SKIP, f"404: no such endpoint here ({path})", evidence)
    if failed:
        said = counted_words(outcome(reply, timed=False) for reply in failed)
        detail = f"{len(failed)} of {len(replies)} probes failed: {said}"
        return Check(name, Status.FAIL, detail, evidence)
    detail = f"{len(replies)} of {len(replies)} answered 200, p99 {figure['_ms']:.2f} ms"
    if figure["_net_ms"] is not None:
        detail += f", net of the network {figure['_net_ms']:.2f} ms"
    return Check(name, Status.PASS, detail, evidence)


# --- report


def gateway_lines(figures: dict[str, Any], counts: dict[str, int]) -> list[str]:
    each = ", ".join(f"{count} x {path}" for path, count in counts.items())
    lines = [f"Gateway overhead, each probe over its own connection: {each}", table.header()]
    for path in counts:
        summary, net = (figures[f"{PROBED[path]}{key}"] for key in ("_ms", "_net_ms"))
        if not summary["n"]:
            lines.append(f"  {path}: no answer to measure")
            continue
        lines.append(table.row(f"{path} [ms]", summary))
        lines += table.optional_row("  net of network", net)
    lines.append(table.row("connect [ms]", figures["connect_ms"]))
    lines += table.optional_row("TLS [ms]", figures["tls_ms"])
    lines.append(table.row("round trip [ms]", figures["round_trip_ms"]))
    if figures["net_not_separable"]:
        lines += table.entry("net of network", f"not separable: {figures['net_not_separable']}")
    return lines + table.footnote(*(figures[f"{PROBED[path]}_ms"] for path in counts))
