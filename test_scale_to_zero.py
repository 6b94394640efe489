#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Does an idle worker scale down while its health URL is probed, and does it wake when needed?

Sends a few requests, then sends none to the model and probes the health URL as a platform does,
until no worker is left; then it sends one more request. That no worker is left is proven by a count
of the workers (--workers-command, --runpod-endpoint) or, without one, by that request being cold.

PASS: the worker scaled down although its health URL was probed, the health URL always answered 200
within a second, and the next request woke a worker.
Cost: 6 answers of up to --max-tokens, 9 at most, and one cold start, which wakes a sleeping worker.
Without a worker count it waits for the whole --idle-timeout, by default a quarter of an hour. If
it is not proven that the worker scaled down, the wait is repeated; if the server is silent as well,
a run can take an hour.

Examples:
    # no worker count: wait longer than the idle timeout, then see whether the next request is cold
    python3 test_scale_to_zero.py --url https://host:8000 --api-key sk-key --idle-timeout 900
    # RunPod: its control plane counts the workers (RUNPOD_API_KEY), which shortens the wait
    python3 test_scale_to_zero.py --url https://id-8000.proxy.runpod.net --runpod-endpoint id
    # any other way to count workers; the command finds the URL in $INFERENCE_URL
    python3 test_scale_to_zero.py --url https://host:8000 \\
        --workers-command 'kubectl get pods -l app=llm --no-headers | wc -l'
    # behind RunPod's proxy, which cuts after 100 s of silence: is a cold start shorter?
    python3 test_scale_to_zero.py --url https://host:8000 --edge-idle 100
    # a first try: a short wait, which is not repeated without probes
    python3 test_scale_to_zero.py --url https://host:8000 --idle-timeout 120 --no-control
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import contextlib
import re
import statistics
import urllib.parse
from collections.abc import Sequence
from typing import Any

import common
from common import CannotCheck, Check, NoAccess, Run, Status
from livecheck.core.checks import telling, undecided, with_answers
from livecheck.core.credentials import check_token
from livecheck.core.options import option_type
from livecheck.core.settings import check_url
from livecheck.core.text import counted, plural
from livecheck.core.text import duration as show_ms
from livecheck.gateway.idle_wait import COLD, Session, wait_in_silence, watching
from livecheck.gateway.plans import (
    AFTER_REQUESTS,
    ANSWER_S,
    STAY_PROBES,
    WARM_REQUESTS,
    plan_scale_to_zero,
)
from livecheck.gateway.sleep_evidence import (
    COLD_FACTOR,
    ZERO_READINGS,
    Asked,
    Evidence,
    Probe,
    Trial,
    Wait,
    chats,
    is_cold,
    records,
    slept,
    split,
    zero_spans,
)
from livecheck.gateway.worker_count import (
    CommandSource,
    Reading,
    RunPodSource,
    Source,
    Workers,
    count_states,
    count_summary,
)
from livecheck.wire import chat, form, notices, silence
from livecheck.wire.access import no_access
from livecheck.wire.answer import Answer
from livecheck.wire.asking import hosts_of, open_wire, rate_limit_words, tell_proxy
from livecheck.wire.model_choice import model_to_ask
from livecheck.wire.other_scheme import said_of_scheme
from livecheck.wire.probe_limit import PROBE_LIMIT_S, PROBE_RULE, is_slow_answer, probe_time_s
from livecheck.wire.redirect import is_redirect, redirect_line
from livecheck.wire.wire import Target, Wire

CHECKS = (
    *("warm", "workers", "scale_down", "health", "undisturbed", "cold_start", "warm_again"),
    silence.NAME,
    form.NAME,
)
LIKE_WARM = 1.5  # a cold start within this many times the slowest warm TTFT is hard to believe
COMMAND_S = 30.0  # the same for the workers command
LONG_WAIT_S = 60.0  # before a longer wait the worst case is announced
RUNPOD_PROXY = ".proxy.runpod.net"
# RunPod's two control planes: RUNPOD_API_KEY is sent to these and nowhere else
RUNPOD_WORKERS = "https://api.runpod.io"
RUNPOD_HEALTH = "https://api.runpod.ai"


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_scale_to_zero)
    add = parser.add_argument_group("scale to zero").add_argument
    probed = "URL to probe, or a path of --url (default: /ping on its port 8001)"
    add("--health-url", type=health_location, metavar="URL", help=probed)
    for name, default, text in (
        ("--idle-timeout", 900.0, "longest wait for the scale-down"),
        ("--probe-interval", 5.0, "time between two probes"),
        ("--cold-start-timeout", 300.0, "whole time of a cold request"),
    ):
        text += " (default %(default)g)"
        add(name, type=common.seconds, default=default, metavar="SECONDS", help=text)
    longest = "longest answer, in tokens (default %(default)s)"
    add("--max-tokens", type=common.whole_number(1), default=16, metavar="N", help=longest)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed for chat)")
    runpod = "count workers with RunPod's APIs and RUNPOD_API_KEY"
    add("--runpod-endpoint", type=endpoint_id, metavar="ID", help=runpod)
    command = "shell command that prints the number of workers"
    add("--workers-command", metavar="COMMAND", help=command)
    add("--no-control", action="store_true", help="do not repeat the wait without probes")
    add("--edge-idle", type=common.seconds, metavar="SECONDS", help=silence.OPTION_HELP)
    return parser


@option_type
def health_location(text: str) -> str:
    """An argparse type: a whole URL or a path, without user, password or query."""
    check_url(f"http://target{text}" if text.startswith("/") else text)
    return text


def endpoint_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError("an endpoint id has only letters, digits, - and _")
    return text


def health_url(target: str, given: str | None) -> str:
    """The URL to probe: the `given` one, with the path `/ping` if it has none; else `/ping` on port
    8001 of the target, which RunPod's proxy has in the host name."""
    parts = urllib.parse.urlsplit(target)
    if given:
        joined = urllib.parse.urljoin(f"{parts.scheme}://{parts.netloc}", given)
        parts = urllib.parse.urlsplit(joined)
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/ping'}"
    host = parts.hostname or ""
    name = host.removesuffix(f"-8000{RUNPOD_PROXY}")
    if name != host:
        return f"{parts.scheme}://{name}-8001{RUNPOD_PROXY}/ping"
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:8001/ping"


# --- measure


def warm_up(session: Session) -> None:
    """The first request, which may be a cold start, and a few warm ones."""
    args = session.run.args
    session.run.note(f"sending {1 + WARM_REQUESTS} requests; the first one may be a cold start")
    first = session.ask("first", args.cold_start_timeout).answer
    if text := no_access(session.run, first):
        raise NoAccess(text)
    if first.is_rate_limited or first.timed_out:
        return  # more requests would only cost more time
    for _ in range(WARM_REQUESTS):
        if session.ask("warm", args.timeout).error:
            break


def attempt(session: Session, probed: bool) -> Trial:
    """Wait until there are no workers, probe for a while longer, then wake a worker."""
    args = session.run.args
    trial = Trial(Wait(session.evidence.now_s(), args.idle_timeout, probed))
    trial.warm_wait_ms = session.evidence.warm_wait_ms
    session.evidence.trials.append(trial)
    manner = "without probes (control)"
    if probed:
        manner = f"probing every {args.probe_interval:g} s"
        first, trial.cost = session.cost_of_a_probe()
        trial.wait.probes.append(first)
        if is_redirect(first.answer):  # told now, and not after a wait of minutes
            place = session.health_target
            line = redirect_line(place, first.answer, "--health-url", keeps_path=True)
            raise CannotCheck(line)
        trial.wait.started_s = session.evidence.now_s()
    if trial.cost:  # more of them would keep the worker awake, and cost as much as requests
        manner, trial.wait.probed, probed = "without probes, which cost inference", False, False
    until = "up to" if session.workers.sources else "all of"
    label = f"no requests to the model for {until} {args.idle_timeout:g} s, {manner}"
    wait_in_silence(session, trial.wait, label, lambda wait: wait.zero_s is not None)
    if trial.wait.zero_s is not None and probed:
        length_s = STAY_PROBES * args.probe_interval
        trial.stay = Wait(session.evidence.now_s(), length_s, probed)
        label = f"no workers: probing for another {length_s:g} s, which should wake none"
        wait_in_silence(session, trial.stay, label, lambda stay: stay.first_worker is not None)
    if not trial.wait.awake:
        trial.cold = wake(session)
    return trial


def wake(session: Session) -> Asked:
    """The request that should find no worker, watched by the worker count if there is one."""
    limit_s = session.run.args.cold_start_timeout
    session.run.note(f"sending one more request: up to {limit_s:g} s for a cold start")
    before = len(session.workers.readings)
    with watching(session):
        asked = session.ask(COLD, limit_s)
    sent_ns = asked.answer.sent_ns
    seen = next((r for r in session.workers.readings[before:] if r.count), None)
    if seen and sent_ns is not None:
        asked.worker_s = max(0.0, seen.at_s - (sent_ns - session.evidence.start_ns) / 1e9)
    return asked


def measure_all(session: Session) -> None:
    """All phases, and the control if the worker did not scale down."""
    args, evidence = session.run.args, session.evidence
    warm_up(session)
    limited = any(asked.answer.is_rate_limited for asked in evidence.asked)
    later = [name for name in CHECKS if name not in ("warm", form.NAME)]
    if not evidence.warm_ms or limited or not any(map(session.run.wants, later)):
        return
    if session.workers.sources:
        session.count()  # a source that says 0 while a worker must be awake proves nothing later
    announce(session)
    trial = attempt(session, probed=True)
    is_answered = trial.cost is None and (trial.wait.awake or trial.cold_ttft_ms > 0)
    if is_answered and not slept(trial, evidence.warm_ms) and not args.no_control:
        trial = attempt(session, probed=False)
    if trial.cold and not trial.cold.answer.is_rate_limited and trial.cold.error != "timeout":
        for _ in range(AFTER_REQUESTS):
            ttft_ms = session.ask("after", args.timeout).server_ttft_ms
            if ttft_ms is None or not is_cold(ttft_ms, evidence.warm_ms):
                break


def announce(session: Session) -> None:
    """Tell the operator how long it will take."""
    args, run = session.run.args, session.run
    stay_s = STAY_PROBES * args.probe_interval
    if not session.workers.sources:
        stay_s = 0.0
        text = "without a worker count nothing shows when the worker scales down, so the wait is "
        text += f"the whole {args.idle_timeout:g} s (--workers-command or --runpod-endpoint "
        run.note_wrapped(text + "shorten it)")
    if args.idle_timeout > LONG_WAIT_S:
        waits_s = (1 if args.no_control else 2) * (args.idle_timeout + args.cold_start_timeout)
        longest_s = waits_s + stay_s + AFTER_REQUESTS * args.timeout
        run.note(f"worst case from here: {longest_s / 60:.0f} minutes")


def sources_of(run: Run, stack: contextlib.ExitStack) -> list[Source]:
    """What can count workers here: the operator's own command first, then RunPod's APIs."""
    args = run.args
    found: list[Source] = []
    if args.workers_command:
        environment, timeout_s = {"INFERENCE_URL": run.url}, min(COMMAND_S, args.timeout)
        found.append(CommandSource(args.workers_command, timeout_s, environment))
        args.workers_command = "(given)"  # it may hold a credential, and options are saved
    if args.runpod_endpoint:
        key, name = runpod_key(run), args.runpod_endpoint
        for label, host, path, understand in (
            ("RunPod v2", RUNPOD_WORKERS, f"/v2/serverless/{name}/workers", count_summary),
            ("RunPod health", RUNPOD_HEALTH, f"/v2/{name}/health", count_states),
        ):
            # --no-verify-ssl is about the deployment, not about RunPod
            target = Target(host, key, ca_file=args.ca_file, hosts=hosts_of(run))
            tell_proxy(run, target, is_deployment=False)
            wire = Wire(target, min(ANSWER_S, args.timeout))
            found.append(RunPodSource(label, stack.enter_context(wire), path, understand))
    return found


def runpod_key(run: Run) -> str:
    key = run.look_up("RUNPOD_API_KEY")
    if key is None:
        raise CannotCheck("--runpod-endpoint needs RUNPOD_API_KEY in the environment or in .env")
    try:
        return run.secrets.add(check_token(key, "RUNPOD_API_KEY"))
    except ValueError as error:
        raise CannotCheck(str(error)) from None


def measure(run: Run) -> None:
    args, evidence, document = run.args, Evidence(), run.document("scale_to_zero")
    url = health_url(run.url, args.health_url)
    place = urllib.parse.urlsplit(url)
    with contextlib.ExitStack() as stack:
        workers = Workers(sources_of(run, stack))
        token = run.token()
        with open_wire(run, token) as first:  # closed here: an open connection may keep awake
            (listed,) = chat.first_contact(run, first, [chat.get(chat.MODELS)])
        model = stack.enter_context(open_wire(run, token))
        # no credential goes to the health URL, whoever's it is
        base, limit_s = f"{place.scheme}://{place.netloc}", min(ANSWER_S, args.timeout)
        health = stack.enter_context(open_wire(run, None, limit_s, base))
        run.target["model"] = model_to_ask(run, listed)
        session = Session(run, model, health, place.path, workers, evidence)
        try:
            measure_all(session)
        finally:
            document.requests = records(evidence)
            document.metrics = metrics(evidence, args, url)
    document.add(*judge(session, url))
    run.show(lines(evidence, url), document.checks)


# --- judge


def rate_limited(name: str, asked: Asked) -> Check:
    return undecided(name, rate_limit_words(asked.answer))


def check_warm(evidence: Evidence, url: str) -> Check:
    """The deployment answers: the first request and the warm ones."""
    found = evidence.of("first") + evidence.of("warm")
    limited = next((asked for asked in found if asked.answer.is_rate_limited), None)
    if limited:
        return rate_limited("warm", limited)
    failed = [asked for asked in found if asked.error]
    if failed:
        which = "the first request" if failed[0].phase == "first" else "a warm request"
        detail = f"{len(failed)} of {len(found)} failed, {which}: {failed[0].error_text}"
        if failed[0].phase == "first" and RUNPOD_PROXY in url:
            detail += "; RunPod sets max workers to 0 after 7 days without a request"
        return Check("warm", Status.FAIL, detail)
    if silence := next((asked.silence for asked in found if asked.silence), None):
        return undecided("warm", f"no first token to measure: {silence}")
    times, first = evidence.warm_ms, found[0].ttft_ms or 0.0
    detail = f"TTFT median {show_ms(statistics.median(times))} of {len(times)}"
    note = ", a cold start" if is_cold(first, times) else ""
    detail += f", slowest {show_ms(max(times))}; the first took {show_ms(first)}{note}"
    detail += notices.beside([asked.answer for asked in found])
    return Check("warm", Status.PASS, detail, {"ttft_ms": times, "first_ttft_ms": first})


def check_workers(readings: Sequence[Reading], sources: Sequence[Source]) -> Check:
    """The worker count can be read, and tells how many workers there are."""
    if not sources:
        detail = "no worker count: give --workers-command or --runpod-endpoint"
        return Check("workers", Status.SKIP, detail)
    problems = [
        f"{name}: {text}"
        for reading in readings
        for name, text in {**reading.errors, **reading.doubts}.items()
        if name in reading.errors or reading.count is None
    ]
    good = [reading for reading in readings if reading.count is not None]
    used = ", ".join(dict.fromkeys(reading.source or "" for reading in good)) or "nothing"
    evidence = {"readings": len(readings), "counted": len(good)}
    detail = f"{len(good)} of {len(readings)} readings gave a count, from {used}"
    if problems:
        return Check("workers", Status.WARN, f"{detail}; {counted(problems)}", evidence)
    return Check("workers", Status.PASS, detail, evidence)


def check_scale_down(trials: Sequence[Trial], warm_ms: Sequence[float]) -> Check:
    """No worker is awake after the wait, although the health URL was probed."""
    first, *controls = trials
    evidence = {"waited_s": round(first.wait.spent_s, 3)}
    asleep = slept(first, warm_ms)
    if asleep and first.cost:
        detail = f"{sleep_words(first, warm_ms)}; but it was not probed meanwhile: each probe is a "
        return undecided("scale_down", detail + "load, see health", evidence)
    if asleep:
        return Check("scale_down", Status.PASS, sleep_words(first, warm_ms), evidence)
    if asleep is None and not any(shows_awake(first, each, warm_ms) for each in controls):
        return undecided("scale_down", why_unknown(first, warm_ms), evidence)
    detail = awake_words(first, warm_ms)
    detail += "".join(control_words(control, warm_ms) for control in controls)
    return Check("scale_down", Status.FAIL, detail, evidence)


def shows_awake(first: Trial, control: Trial, warm_ms: Sequence[float]) -> bool:
    """Whether the wait without probes proves that the worker was awake after the one with them.

    It does if it was awake without probes too, for probes put nothing to sleep; and if it was a
    cold start, and so much later than the request after the first wait that this one was none.
    """
    asleep, fastest_ms = slept(control, warm_ms), min(warm_ms)
    later_ms = control.server_ttft_ms - fastest_ms
    is_slower = later_ms >= COLD_FACTOR * (first.cold_ttft_ms - fastest_ms)
    return asleep is False or (asleep is True and is_slower)


def why_unknown(trial: Trial, warm_ms: Sequence[float]) -> str:
    """Why nobody can tell whether the worker slept."""
    cold = trial.cold
    if cold and cold.answer.is_rate_limited:
        return rate_limit_words(cold.answer)
    if cold and cold.silence:
        return f"not decided: the next answer has no first token: {cold.silence}"
    if cold is None or cold.ttft_ms is None:
        return "not decided: no worker count, and the request that should have been cold failed"
    detail = f"cannot tell: after {trial.wait.limit_s:g} s without requests the first token took "
    detail += f"{show_ms(cold.ttft_ms)}, a warm one takes {show_ms(statistics.median(warm_ms))}: "
    if is_cold(cold.ttft_ms, warm_ms):
        return f"{detail}this program could not run for {show_ms(cold.blind_ms)} of it; run again"
    return (
        f"{detail}the worker is still awake, or it woke within "
        f"{show_ms(cold.ttft_ms - min(warm_ms))}; give a worker count (--workers-command or "
        "--runpod-endpoint)"
    )


def sleep_words(trial: Trial, warm_ms: Sequence[float]) -> str:
    wait = trial.wait
    if wait.zero_s is not None:
        source = wait.readings[-1].source
        return f"0 workers after {wait.zero_s:.1f} s, {ZERO_READINGS} readings in a row ({source})"
    took = f"the next first token took {compared_to_warm(trial.cold_ttft_ms, warm_ms)}"
    if trial.waited_as_cold and trial.cold:
        took += f" ({show_ms(trial.cold.wait_ms)} of it before the prefill)"
    return f"scaled down within {wait.limit_s:g} s: {took}; only a worker count could tell when"


def awake_words(trial: Trial, warm_ms: Sequence[float]) -> str:
    wait = trial.wait
    if wait.awake:
        counts = [reading.count for reading in wait.readings if reading.count is not None]
        if zeros := counts.count(0):
            detail = f"never stayed at 0 workers in {wait.limit_s:g} s: {zeros} of {len(counts)} "
            return detail + f"readings were 0, but never {ZERO_READINGS} in a row"
        detail = f"after {wait.limit_s:g} s without requests still {plural(counts[-1], 'worker')}"
        return detail + f" ({len(counts)} readings, none 0)"
    took, fastest = trial.cold_ttft_ms, min(warm_ms)
    if trial.waited_as_warm and trial.cold and trial.cold.wait_ms and trial.warm_wait_ms:
        took, fastest = trial.cold.wait_ms, trial.warm_wait_ms
        what = "the request waited {}, without its prefill; the fastest warm one {}"
    else:
        what = "the first token took {}; the fastest warm one {}"
    told = what.format(show_ms(took), show_ms(fastest))
    return f"after {wait.limit_s:g} s without requests {told}: the worker is still awake"


def control_words(control: Trial, warm_ms: Sequence[float]) -> str:
    """Whether the probes kept the worker awake."""
    asleep, seen, limit_s = slept(control, warm_ms), control.wait.zero_s, control.wait.limit_s
    if asleep is None:
        return "; the wait without probes decided nothing"
    if not asleep:
        return f"; without probes it did not scale down in {limit_s:g} s either"
    when = f"after {seen:.1f} s" if seen is not None else f"within {limit_s:g} s"
    if seen is None:
        when += f" (first token {show_ms(control.cold_ttft_ms)})"
    return f"; without probes it scaled down {when}: the probes keep it awake"


def check_health(trials: Sequence[Trial], url: str) -> Check:
    """The health URL answers 200 whenever it is probed, with and without workers, and soon."""
    zero = zero_spans(trials)
    probes = [probe for trial in trials for probe in trial.probes]
    paces = pace_of(probes, url)
    slow = [probe for probe, is_slow in zip(probes, paces, strict=True) if is_slow]
    limited = next((each.answer for each in probes if each.answer.is_rate_limited), None)
    bad = [each for each in probes if not (each.answer.is_ok or each.answer.is_rate_limited)]
    at_zero = [probe for probe in bad + slow if any(a < probe.at_s <= b for a, b in zero)]
    excused = [probe for probe in at_zero if answered_by_platform(probe.answer, url)]
    good = [probe for probe in probes if probe.answer.is_ok]
    slowest_ms = max((probe_time_s(probe.answer) * 1e3 for probe in good), default=None)
    evidence: dict[str, Any] = {"probes": len(probes), "failed": len(bad), "slow": len(slow)}
    evidence |= {"failed_at_zero": len(at_zero) if zero else None, "slowest_ms": slowest_ms}
    if wrong := said_of_scheme(url, [probe.answer for probe in probes]):
        return undecided("health", f"--health-url: {wrong}", evidence)
    if any(probe not in excused for probe in bad):
        return Check("health", Status.FAIL, failure_words(probes, bad, at_zero, url), evidence)
    if slow:
        return Check("health", Status.FAIL, slow_words(probes, slow, at_zero), evidence)
    if limited:
        return undecided("health", rate_limit_words(limited), evidence)
    if doubt := health_doubt(probes, good, excused, trials[0].cost):
        return Check("health", Status.WARN, doubt, evidence)
    detail = f"{len(probes)} probes, all 200, slowest {show_ms(slowest_ms)}"
    if untimed := paces.count(None):
        detail += f"; {untimed} of them took more than {PROBE_LIMIT_S:g} s while this program "
        detail += "could not run: run it where the machine is less busy"
        return undecided("health", detail, evidence)
    return Check("health", Status.PASS, detail, evidence)


def health_doubt(
    probes: Sequence[Probe], good: Sequence[Probe], excused: Sequence[Probe], cost: str | None
) -> str | None:
    """What an operator should know of a health URL that works. `excused`: the platform's proxy
    answered in its place. `cost`: why probes cost inference."""
    if excused:
        detail = f"{len(excused)} of {len(probes)} probes, all at zero workers, were answered by "
        return f"{detail}the platform's proxy: {probe_words(excused)}"
    if cost:
        detail = f"each probe is a load: {cost}; after {plural(len(probes), 'probe')} no more were "
        return f"{detail}sent: give a --health-url that does not ask the model"
    odd = [each.answer for each in good if each.answer.body.strip() not in (b"", b"pong")]
    if odd and odd[0].is_web_page:
        page = (
            f"200, but a web page ({odd[0].words!r}), as web sites send for any path: it does not "
        )
        return f"{page}tell whether a worker is healthy; is --health-url right?"
    return f"200, but the body is neither empty nor pong: {odd[0].words!r}" if odd else None


def pace_of(probes: Sequence[Probe], url: str) -> list[bool | None]:
    """Of each probe, whether its whole answer came too late; None: this program cannot tell.

    Behind a proxy the way to the server is longer than the round trip of the connection. The
    fastest probe shows how long, up to the time that is allowed to the server itself.
    """
    good = [probe.answer for probe in probes if probe.answer.is_ok]
    path_s = min((PROBE_LIMIT_S, *map(probe_time_s, good)))
    is_edge = is_behind_edge(url, good) or any(answer.reply.proxy for answer in good)
    return [
        probe.answer.is_ok
        and is_slow_answer(probe.answer, probe.blind_ms, path_s if is_edge else 0.0)
        for probe in probes
    ]


def failure_words(
    probes: Sequence[Probe], bad: Sequence[Probe], at_zero: Sequence[Probe], url: str
) -> str:
    """How many probes failed, when, and how."""
    detail = f"{len(bad)} of {len(probes)} probes of {url} failed: {probe_words(bad)}"
    if count := sum(probe in at_zero for probe in bad):
        detail += f"; {count} of them at zero workers"
    detail += when_words(probes, bad)
    failures = [probe.answer.failure for probe in probes]
    if all(failure and failure.kind == "connect" for failure in failures):
        detail += "; no server listens there: is --health-url right?"
    return detail


def when_words(probes: Sequence[Probe], bad: Sequence[Probe]) -> str:
    """Whether the health URL went away in the middle, and whether it came back."""
    first, last = probes.index(bad[0]), probes.index(bad[-1])
    if not first or len(bad) < 2 or last - first + 1 != len(bad):
        return ""
    back = "the later ones were good" if last + 1 < len(probes) else "none was good after that"
    return f"; they follow each other, the first {bad[0].at_s:.1f} s after the start: {back}"


def slow_words(probes: Sequence[Probe], slow: Sequence[Probe], at_zero: Sequence[Probe]) -> str:
    """How many answers of 200 came too late, and when."""
    slowest = show_ms(max(probe_time_s(probe.answer) for probe in slow) * 1e3)
    detail = f"{len(slow)} of {len(probes)} probes took more than {PROBE_LIMIT_S:g} s, the slowest "
    detail += slowest
    if count := sum(probe in at_zero for probe in slow):
        detail += f", {count} of them at zero workers"
    return f"{detail}: {PROBE_RULE}, and restarts what does not answer"


def is_behind_edge(url: str, answers: Sequence[Answer]) -> bool:
    """Whether something stands in front of the deployment that answers connections for it."""
    if (urllib.parse.urlsplit(url).hostname or "").endswith(RUNPOD_PROXY):
        return True
    return any(answer.header(name) for answer in answers for name in chat.EDGE_HEADERS)


def answered_by_platform(answer: Answer, url: str) -> bool:
    """Whether what answered stands in front of the deployment, and needs no worker for it."""
    is_whole = answer.status is not None and answer.failure is None
    return is_whole and not answer.is_ok and is_behind_edge(url, [answer])


def probe_words(probes: Sequence[Probe]) -> str:
    answers = [probe.answer for probe in probes]
    return counted(a.failure.text if a.failure else a.outcome() for a in answers)


def check_undisturbed(trial: Trial) -> Check:
    """While there are no workers, probing the health URL wakes none."""
    name, stay, awake = "undisturbed", trial.stay, trial.wait.awake
    if trial.cost or stay is None:
        reason = "the worker did not scale down" if awake else "no worker count proved zero"
        reason = "each probe is a load" if trial.cost else reason
        return Check(name, Status.SKIP, f"not tried: {reason}")
    probes = len(stay.probes)
    if again := stay.first_worker:
        after_s = again.at_s - stay.started_s
        detail = f"{plural(again.count or 0, 'worker')} again {after_s:.1f} s and {probes} probes "
        detail += "after zero was proven, though this script sent no request to the model"
        return Check(name, Status.FAIL, detail)
    if all(reading.count is None for reading in stay.readings):
        detail = "the worker count could not be read after zero was proven"
        return Check(name, Status.SKIP, detail)
    detail = f"still 0 workers after another {probes} probes in {stay.spent_s:.1f} s"
    return Check(name, Status.PASS, detail)


def check_cold_start(trials: Sequence[Trial], warm_ms: Sequence[float], limit_s: float) -> Check:
    """A request is answered within its limit although no worker was awake."""
    trial, name = trials[-1], "cold_start"
    cold, asleep = trial.cold, slept(trial, warm_ms)
    if cold is None:
        detail = "the worker did not scale down: there is no cold start to measure"
        return Check(name, Status.SKIP, detail)
    if cold.answer.is_rate_limited:
        return rate_limited(name, cold)
    if cold.error == "timeout" and cold.answer.first_output_ms is None:
        detail = f"no first token within the limit of {limit_s:g} s (--cold-start-timeout)"
        return Check(name, Status.FAIL, detail)
    if cold.silence:
        return undecided(name, f"no first token to measure: {cold.silence}")
    if cold.ttft_ms is None:
        detail = f"the request that should wake a worker failed: {cold.error_text}"
        return Check(name, Status.FAIL, detail)
    if not asleep or (trial.stay and trial.stay.first_worker):
        was = (
            "nobody can tell whether a worker was awake" if asleep is None else "a worker was awake"
        )
        return Check(name, Status.SKIP, f"{was}: the first token took {show_ms(cold.ttft_ms)}")
    evidence = {"cold_start_s": round(cold.ttft_ms / 1e3, 4), **split(cold)}
    detail = f"first token after {compared_to_warm(cold.ttft_ms, warm_ms)} (limit {limit_s:g} s)"
    if told := notices.of_progress([cold.answer]):
        detail += f"; {told}"
    if cold.ttft_ms < LIKE_WARM * max(warm_ms) and not trial.waited_as_cold:
        detail += ": as fast as a warm one; does the count see the workers of this deployment?"
        return Check(name, Status.WARN, detail, evidence)
    return Check(name, Status.PASS, detail, evidence)


def compared_to_warm(ttft_ms: float, warm_ms: Sequence[float]) -> str:
    """A first token's time, and how it compares to a warm one's."""
    return f"{show_ms(ttft_ms)}, {ttft_ms / statistics.median(warm_ms):.1f} x warm"


def check_warm_again(evidence: Evidence) -> Check:
    """After the cold start the worker stays awake: the next request is warm."""
    found = evidence.of("after")
    if not found:
        return Check("warm_again", Status.SKIP, "there was no cold start before")
    last = found[-1]
    if last.answer.is_rate_limited:
        return rate_limited("warm_again", last)
    if last.silence:
        return undecided("warm_again", f"no first token to measure: {last.silence}")
    times = ", ".join(show_ms(asked.ttft_ms) for asked in found)
    times += f", warm was {show_ms(statistics.median(evidence.warm_ms))}"
    if last.ttft_ms is None or last.server_ttft_ms is None:
        detail = f"request {len(found)} after the cold one failed: {last.error_text}"
        return Check("warm_again", Status.FAIL, detail)
    if is_cold(last.server_ttft_ms, evidence.warm_ms):
        return Check("warm_again", Status.FAIL, f"cold again: first tokens after {times}")
    if len(found) > 1:
        detail = f"only request {len(found)} was warm: first tokens after {times}"
        return Check("warm_again", Status.WARN, detail)
    return Check("warm_again", Status.PASS, f"first token after {times}")


def behind(name: str, evidence: Evidence, url: str) -> list[Answer]:
    """The answers that a check rests on: those that failed or came late, if there are any."""
    cold = [trial.cold for trial in evidence.trials if trial.cold]
    found = {"warm": evidence.of("first") + evidence.of("warm"), "warm_again": evidence.of("after")}
    found |= {"scale_down": cold, "cold_start": cold}
    if name in found:
        return [each.answer for each in telling(found[name], lambda asked: asked.error)]
    if name != "health":
        return []
    probes = [probe for trial in evidence.trials for probe in trial.probes]
    paces = zip(probes, pace_of(probes, url), strict=True)
    shown = [probe.answer for probe, is_slow in paces if is_slow or not probe.answer.is_ok]
    return shown or [probe.answer for probe in probes[-1:]]


def judge(session: Session, url: str) -> list[Check]:
    """All verdicts that the evidence allows, with the answers behind them."""
    evidence = session.evidence
    return with_answers(judge_all(session, url), lambda name: behind(name, evidence, url))


def judge_all(session: Session, url: str) -> list[Check]:
    """All verdicts that the evidence allows."""
    evidence, limit_s = session.evidence, session.run.args.cold_start_timeout
    warm = check_warm(evidence, session.run.url)
    trials = evidence.trials
    of_form = form.check_form(asked.answer for asked in evidence.asked)
    of_all = [*check_edge(evidence, session.run.args.edge_idle), of_form]
    if not trials:
        return [warm, *of_all]
    awake_ms = evidence.awake_ms
    return [
        warm,
        check_workers(evidence.readings, session.workers.sources),
        check_scale_down(trials, awake_ms),
        check_health(trials, url),
        check_undisturbed(trials[0]),
        check_cold_start(trials, awake_ms, limit_s),
        check_warm_again(evidence),
        *of_all,
    ]


def check_edge(evidence: Evidence, patience_s: float | None) -> list[Check]:
    """The edge of --edge-idle, if there is one, would have cut no answer; in a cold start the
    client behind it would have had to ask once more."""
    if patience_s is None:
        return []
    asked = chats(evidence)
    seen = silence.lost_words(asked, patience_s)
    cold = [each for each in asked if each["silence_phase"] == silence.COLD and each["ttft_ms"]]
    if seen and cold:
        seen += f"; one that asks again finds the worker {show_ms(cold[-1]['ttft_ms'])} after its "
        seen += "first request at the earliest"
    return [silence.check_edge(asked, patience_s, seen)]


# --- show


def row(label: str, value: str, note: str = "") -> str:
    return f"  {label:22}{value:>10}  {note}".rstrip()


def trial_lines(trial: Trial, warm_ms: Sequence[float]) -> list[str]:
    wait = trial.wait
    title = "wait, probed" if wait.probed else "wait, not probed"
    seen = f"{len(wait.probes)} probes, {len(wait.readings)} worker counts"
    lines = [row(title, f"{wait.spent_s:.1f} s", f"of at most {wait.limit_s:g} s; {seen}")]
    if wait.zero_s is not None:
        lines.append(row("  zero workers after", f"{wait.zero_s:.1f} s", "without requests"))
    if trial.stay:
        seen = f"{len(trial.stay.probes)} probes"
        lines.append(row("  probed at zero", f"{trial.stay.spent_s:.1f} s", seen))
    if trial.cold:
        lines += cold_lines(trial.cold, slept(trial, warm_ms))
    return lines


SPLIT = (
    ("connect_ms", "  connect", "before the request, not part of its TTFT"),
    ("tls_ms", "  TLS", "before the request, not part of its TTFT"),
    ("worker_ms", "  a worker is counted", "by the worker count, at the latest"),
    ("first_byte_ms", "  first byte", "of the head of the answer"),
    ("server_prompt_ms", "  prefill", "as the server says"),
)


def cold_lines(cold: Asked, asleep: bool | None) -> list[str]:
    if cold.ttft_ms is None:
        return [row("next request", "failed")]
    parts = split(cold) if asleep else {}
    lines = [row("next request, TTFT", show_ms(cold.ttft_ms))]
    for key, label, note in SPLIT:
        if parts.get(key) is not None:
            lines.append(row(label, show_ms(parts[key]), note))
    return lines


def lines(evidence: Evidence, url: str) -> list[str]:
    rows, warm_ms = [f"Scale to zero, probing {url}"], evidence.warm_ms
    if warm_ms:
        rows += [row("warm TTFT", show_ms(statistics.median(warm_ms)), f"median of {len(warm_ms)}")]
    for trial in evidence.trials:
        rows += trial_lines(trial, warm_ms)
    times = [asked.ttft_ms for asked in evidence.of("after") if asked.ttft_ms is not None]
    rows += [row("request after it, TTFT", show_ms(each)) for each in times]
    told = silence.summary_of(chats(evidence))
    return rows + [f"  {'longest silence':22}{silence.words(told):>10}"]


def metrics(evidence: Evidence, args: argparse.Namespace, url: str) -> dict[str, Any]:
    warm_ms, trials = evidence.warm_ms, evidence.trials
    cold = next((t.cold for t in reversed(trials) if t.cold and slept(t, warm_ms)), None)
    after = evidence.of("after")
    return {
        "health_url": url,
        "idle_timeout_s": args.idle_timeout,
        "warm_ttft_ms": statistics.median(warm_ms) if warm_ms else None,
        "scale_down_s": next((round(t.wait.zero_s, 3) for t in trials if t.wait.zero_s), None),
        "control": len(trials) > 1,
        "cold_start_s": round(cold.ttft_ms / 1e3, 4) if cold and cold.ttft_ms is not None else None,
        "cold_start": split(cold) if cold else None,
        "after_ttft_ms": after[-1].ttft_ms if after else None,
        **silence.summary_of(chats(evidence)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare=silence.check_option)


if __name__ == "__main__":
    interruption.end_with(main)
