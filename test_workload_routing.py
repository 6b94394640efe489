#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31,<3", "python-dotenv>=1.0,<2", "rich>=13.7,<16"]
# ///
"""Is the work spread over the runners, or does one of them do it all?

Sends one request alone, then --requests of them, --workers at once. Then it finds out which runner
served each of them, and compares that with which runners could have served. It uses the first of
these sources that tells it: a response header, the request log of the admin API, the answers'
system_fingerprint, the answers' model. The log does not name our requests, so they are found by
time and latency.

PASS: every request was served, and no runner got more than --max-share of them while another one
was idle. Equal shares are not required, because a gateway may rightly prefer some machines.
Cost: --requests answers of at most --max-tokens, and 1 before them (3 with --analyze-timing), each
over a connection of its own; up to about 30 short reads of the admin API, and reading its log takes
at most --timeout in total. It wakes sleeping runners and loads them all. Nobody else should use the
fleet meanwhile, because other requests may look like these in the log. With --kill-command a runner
dies, and requests go on, at most 10 per second, until it has come back.

Examples:
    # 10 requests at once, as in the guide
    python3 test_workload_routing.py --url https://host --token-binary ./get-token
    # enough requests to judge shares
    python3 test_workload_routing.py --model class:fast --requests 40 --token-binary ./get-token
    # one after the other, to see where each goes
    python3 test_workload_routing.py --sequential --requests 15 --token-binary ./get-token
    # what becomes of the requests when a runner dies, and does it come back?
    python3 test_workload_routing.py --token-binary ./get-token --settle 5 \\
        --kill-command 'ssh tower systemctl kill -s KILL runner' \\
        --revive-command 'ssh tower systemctl start runner'
    # do they run at the same time, or wait for each other?
    python3 test_workload_routing.py --analyze-timing --token-binary ./get-token
    # a gateway that names the runner in a header of its own, as LiteLLM does; no admin API needed
    python3 test_workload_routing.py --runner-header x-litellm-model-id --expect-runners 2 \\
        --token sk-key
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import common
from common import CannotCheck, Check, NoAccess, Run, Status
from livecheck.core.checks import skip, telling, undecided
from livecheck.core.json_value import quoted
from livecheck.core.options import positive_number
from livecheck.core.text import counted, duration, listed, percent, plural, shorten
from livecheck.fleet import api, attribution, roles, runner_loss
from livecheck.fleet import busy_times as times
from livecheck.fleet.api import NAME_LENGTH
from livecheck.fleet.attribution import Attribution, KnownRunners, Requests, succeeded
from livecheck.fleet.plans import ALONE_TIMES, plan_workload
from livecheck.fleet.request_log import LogReader, RequestLog, clock_ahead_ms, latest
from livecheck.fleet.request_timing import Timing, find_timing, timing_lines
from livecheck.fleet.runner_loss import Loss, Pace, RunnerLoss, Source, rounded
from livecheck.wire import chat, form, notices
from livecheck.wire.answer import Answer, ms, status_kind
from livecheck.wire.asking import Asker, Stop, open_wire, reason_to_stop
from livecheck.wire.metrics import Span, percentile
from livecheck.wire.shares import Share
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import Request, Wire

OF_LOSS = ("clean_errors", "rerouted", "revived")
CHECKS = ("requests", "distribution", "expect_runners", "idle", *OF_LOSS, form.NAME)
PROMPT = "Count from 1 to 30, in words."  # the answer is long enough for requests to overlap
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
CHANCE = 0.05  # a result that pure chance gives more often than this is not a verdict
STARVED = "this program could not run meanwhile: repeat it on a less busy machine"
IDLE_SHARE = 0.5  # of a request: a runner that also served was idle, if it had no work for longer
NAME, MODEL = 19, 17  # columns of the table
MOST_IDLE_ROWS = 20  # runners that served nothing, in the table and in a line

T = TypeVar("T")


def build_parser() -> common.Parser:
    parser = common.new_parser(__file__, __doc__, common.FLEET, CHECKS, 60, plan=plan_workload)
    add = parser.add_argument_group("what to send, and what to expect").add_argument
    number = common.whole_number(1)
    of_default = "(default %(default)s)"
    model = f"class or model to ask for {of_default}"
    add("--model", default="class:fast", metavar="MODEL", help=model)
    add("--requests", type=number, default=10, metavar="N", help=f"requests to send {of_default}")
    at_once = f"requests in flight at once {of_default}"
    add("--workers", type=number, default=10, metavar="N", help=at_once)
    add("--sequential", action="store_true", help="send one after the other; shares are not judged")
    add("--analyze-timing", action="store_true", help="show whether the requests ran in parallel")
    longest = f"longest answer, in tokens {of_default}"
    add("--max-tokens", type=number, default=32, metavar="N", help=longest)
    header = "response header that names the runner"
    add("--runner-header", type=header_option, metavar="NAME", help=header)
    add("--expect-runners", type=number, metavar="N", help="how many runners must have served")
    share, most = positive_number(1), f"most that one runner may get; 1 allows all {of_default}"
    add("--max-share", type=share, default=0.9, metavar="SHARE", help=most)
    add_loss_options(parser)
    return parser


def add_loss_options(parser: common.Parser) -> None:
    add = parser.add_argument_group("a runner that dies").add_argument
    kill = "shell command that kills a runner, while requests run"
    add("--kill-command", metavar="COMMAND", help=kill)
    add("--revive-command", metavar="COMMAND", help="shell command that revives it")
    settle = "time after the kill; no request sent later may fail (default %(default)g)"
    add("--settle", type=common.seconds, default=10.0, metavar="SECONDS", help=settle)
    longest = "longest time to come back, from the revival on (default %(default)g)"
    add("--revive-timeout", type=common.seconds, default=300.0, metavar="SECONDS", help=longest)


def header_option(text: str) -> str:
    if not HEADER_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not the name of a header")
    return text.lower()


def check_options(args: argparse.Namespace) -> tuple[str, str] | None:
    """The commands that kill and revive a runner, which are not saved: a credential may be in them.
    ValueError for options that do not go together."""
    if (args.expect_runners or 0) > args.requests:
        raise ValueError("--expect-runners N needs at least N --requests")
    if "expect_runners" in (args.only or ()) and not args.expect_runners:
        raise ValueError("--only expect_runners needs --expect-runners N")
    kill, revive = args.kill_command, args.revive_command
    if bool(kill) != bool(revive):
        raise ValueError("--kill-command and --revive-command need each other")
    if not kill:
        if asked := set(OF_LOSS) & set(args.only or ()):
            raise ValueError(f"--only {min(asked)} needs --kill-command and --revive-command")
        return None
    args.kill_command = args.revive_command = "(given)"
    return kill, revive


# --- measure


@dataclass
class Evidence:
    """All that a run has found out.

    stopped: why the rest was not asked. unread: why the admin API could not be read. log: None
    when the log could not be read. attribution: who served the measured requests.
    """

    args: argparse.Namespace
    requests: Requests
    stopped: Stop | None = None
    known: KnownRunners = field(default_factory=KnownRunners)
    unread: str | None = None
    log: RequestLog | None = None
    attribution: Attribution = field(default_factory=lambda: Attribution("nothing", ()))
    blind: Sequence[Span] = ()  # when this program could not run, in ms
    loss: Loss | None = None  # of a runner, with --kill-command

    @property
    def measured(self) -> list[Answer]:
        return self.requests.measured

    @property
    def served(self) -> list[Answer]:
        return succeeded(self.requests.measured)

    @property
    def alone(self) -> Answer | None:
        """The last of those sent alone, because the first may have had to wake a runner."""
        return next(iter(self.requests.alone[::-1]), None)

    @property
    def at_once(self) -> int:
        return 1 if self.args.sequential else min(self.args.workers, self.args.requests)

    @cached_property
    def able(self) -> list[str]:
        """The runners online that offer what was served. Asked for when all was answered."""
        offering = self.known.offering(self.requests.models)
        return [self.known.label(runner.id) for runner in offering]

    @property
    def candidates(self) -> int:
        """How many runners there were to choose from."""
        return max(len(self.attribution.counts), len(self.able))

    @property
    def names(self) -> list[str]:
        """Those who served, the busiest first, and those who could have."""
        counts = self.attribution.counts
        online = {self.known.label(runner.id) for runner in self.known.online or ()}
        # where the source has other names for the runners, those who served would count twice
        able = sorted(self.able) if counts.keys() <= online else []
        return [*dict.fromkeys([*sorted(counts, key=lambda name: -counts[name]), *able])]

    @property
    def shown_names(self) -> list[str]:
        """The same, but of those who served nothing only some: there may be thousands."""
        return self.names[: len(self.attribution.counts) + MOST_IDLE_ROWS]

    def answers_of(self, runner: str | None) -> list[Answer]:
        """The measured answers of this runner; None: those that could not be attributed."""
        return self.answers_by_runner().get(runner, [])

    def answers_by_runner(self) -> dict[str | None, list[Answer]]:
        """The measured answers of each runner that served any; None as for `answers_of`."""
        found: dict[str | None, list[Answer]] = {}
        for answer, runner in zip(self.measured, self.attribution.runners, strict=True):
            found.setdefault(runner, []).append(answer)
        return found

    def gaps(self, queued: bool = False, blind: Sequence[Span] | None = None) -> list[times.Gap]:
        """The longest times without work for each runner, as `times.longest_gaps` has them; in
        these no time counts in which this program could not run, unless `blind` says otherwise."""
        own = self.answers_by_runner()
        served = {name: own.get(name, []) for name in self.names}
        spans = self.blind if blind is None else blind
        return times.longest_gaps(served, self.answers_of(None), queued, spans)

    def consult(self, read: Callable[[], T]) -> T | None:
        """What the admin API says; None when it cannot be read, which `unread` then explains."""
        try:
            return read()
        except api.Unreadable as error:
            self.unread = self.unread or str(error)
            return None


def measure(run: Run) -> None:
    document = run.document("workload_routing")
    run.target["model"] = run.args.model
    evidence = Evidence(run.args, Requests(run.args.model))
    try:
        with open_wire(run) as wire, Starvation() as starvation:
            ask_all(run, wire, evidence)
            evidence.blind = [(ms(begun), ms(ended)) for begun, ended in starvation.spans()]
    finally:
        document.requests = records(evidence)  # kept, should the rest be interrupted
        evidence.attribution = attribution.attribute(
            evidence.requests, evidence.known, evidence.log, run.args.runner_header
        )
        timing = find_timing(evidence.served, evidence.alone)
        document.requests = records(evidence)
        document.metrics = metrics(evidence, timing)
    document.add(*judge(evidence))
    run.show(lines(evidence, timing, run.url), document.checks)


def ask_all(run: Run, wire: Wire, evidence: Evidence) -> None:
    """The first contact, one request alone, then many together; who is online, and the log."""
    args, requests = run.args, evidence.requests
    token = run.token(role=roles.role_for(run, args.model))
    contact = api.first_contact(run, wire, token)
    asker = Asker(run, wire)
    evidence.stopped = asker.stopped = reason_to_stop(contact)
    if evidence.stopped:
        return
    admin = api.Admin(run, wire)
    log = LogReader(admin)
    evidence.consult(log.ignore_present)
    rounds = ALONE_TIMES if args.analyze_timing and not args.sequential else 1
    for _ in range(rounds):
        ask(asker, evidence, token, requests.sent_alone, 1, "alone")
        expect_service(run, requests.sent_alone[-1], api.lists_nothing(contact))
        if evidence.stopped or requests.sent_alone[-1].completion.problem:
            return
    models = {args.model, *requests.models}
    entries = evidence.consult(lambda: log.wait_for(rounds, models))
    if entries is not None:
        evidence.log = RequestLog(latest(entries, models))
    before = evidence.consult(admin.runners)
    ask(asker, evidence, token, requests.sent_together, args.requests, how_many(evidence))
    if asker.limited:
        return
    if evidence.log and evidence.log.alone:
        models, count = models | requests.models, len(requests.measured)
        evidence.log.entries = evidence.consult(lambda: log.wait_for(count, models)) or []
    evidence.known = attribution.compare(before, evidence.consult(admin.runners))
    if run.prepared and evidence.served:
        lose_a_runner(run, wire, evidence, token, admin, log)


def lose_a_runner(
    run: Run, wire: Wire, evidence: Evidence, token: str | None, admin: api.Admin, log: LogReader
) -> None:
    """Kill a runner in the middle of more requests, and revive it."""
    args, requests, known = run.args, evidence.requests, evidence.known
    evidence.attribution = attribution.attribute(requests, known, evidence.log, args.runner_header)
    ahead_ms = None
    if evidence.alone and evidence.log and evidence.log.alone:
        ahead_ms = clock_ahead_ms(evidence.alone, evidence.log.alone)
    header = attribution.naming_header(requests, known, args.runner_header)
    source = Source(known, header, log, ahead_ms)
    served_before = frozenset(evidence.attribution.counts)
    evidence.loss = Loss(args.settle, args.revive_timeout, served_before)
    timing = find_timing(evidence.served, evidence.alone)
    wall_s = timing.wall_ms / 1e3 if timing else 0.0
    pace = Pace.after(len(evidence.served), wall_s, evidence.at_once, evidence.candidates)
    run.note_wrapped(
        f"killing a runner, and reviving it after {args.settle:g} s or more; meanwhile "
        f"{plural(pace.at_once, 'request')} at once, then {pace.per_s:.2g} per second"
    )
    kill, revive = run.prepared
    sender = RunnerLoss(run, wire, admin, source, evidence.loss)
    sender.measure(kill, revive, lambda: questions(args, token, 1)[0], pace)


def ask(
    asker: Asker, evidence: Evidence, token: str | None, answers: list[Answer], count: int, how: str
) -> None:
    """Send `count` requests. What was begun is added to `answers`, also when interrupted."""
    model = evidence.args.model
    asker.ask(
        questions(evidence.args, token, count),
        min(count, evidence.at_once),
        label=shorten(f"{plural(count, 'request')} to {model}, {how}", 80),
        total=count,
        keep=answers.extend,
        keep_alive=False,  # some balancers choose a runner for each connection
    )
    if asker.stopped is None:
        asker.stopped = chat.confirm_limit(asker.run, asker.wire, answers, token)
    evidence.stopped = asker.stopped


def questions(args: argparse.Namespace, token: str | None, count: int) -> list[Request]:
    """Their prompts differ: some gateways choose the runner that has a prompt in its cache."""
    prompts = [chat.unique(PROMPT) for _ in range(count)]
    requests = [chat.completion(args.model, prompt, args.max_tokens) for prompt in prompts]
    return [chat.with_credential(request, token) for request in requests]


def how_many(evidence: Evidence) -> str:
    return "one after the other" if evidence.at_once == 1 else f"{evidence.at_once} at once"


def expect_service(run: Run, answer: Answer, asleep: bool) -> None:
    """CannotCheck when the first request failed for a reason that is not the fleet's fault: a
    refused credential, a missing role, a timeout too short to wake a runner."""
    args = run.args
    if text := api.no_access(run, answer, args.model):
        raise NoAccess(text)
    if roles.is_concrete(args.model) and answer.is_denied and not run.credentials.has_binary:
        hint = f"this needs the role {roles.SPECIFIC} (--token-binary); or use --model class:fast"
        raise CannotCheck(f"{args.model}: {answer.outcome()}: {hint}")
    if asleep and answer.timed_out:
        hint = "allow more time (--timeout 180), or wake it first (test_wol.py)"
        raise CannotCheck(f"the fleet slept and did not wake in {args.timeout:g} s: {hint}")


# --- judge


def judge(evidence: Evidence) -> list[Check]:
    checks = [check_requests(evidence), check_distribution(evidence)]
    if evidence.args.expect_runners:
        checks.append(check_expect_runners(evidence))
    checks.append(check_idle(evidence))
    if evidence.args.kill_command:
        checks += judge_loss(evidence)
    asked = [*evidence.requests.sent_alone, *evidence.requests.sent_together]
    lost = evidence.loss.answers if evidence.loss else []
    for check in checks:
        shown = lost if check.name in OF_LOSS else asked
        wrong = telling(shown, lambda each: each.completion.problem)
        check.shown_by(wrong)
    return [*checks, form.check_form([*asked, *lost])]


def check_requests(evidence: Evidence) -> Check:
    """Each request was answered with content; those that were sent alone count as well."""
    asked = [*evidence.requests.alone, *evidence.measured]
    failed = Counter(failures(evidence, asked))
    numbers = {"requests": len(asked), "failed": failed.total()}
    if failed:
        texts = "; ".join(f"{n} x {text}" if n > 1 else text for text, n in failed.most_common())
        rest = "" if evidence.measured else "; no other request was sent"
        detail = f"{failed.total()} of {len(asked)} failed: {texts}{rest}"
        return Check("requests", Status.FAIL, detail, numbers)
    sent = len(evidence.requests.sent_alone) + len(evidence.requests.sent_together)
    if evidence.stopped and sent > len(asked):
        reason = f"{len(asked)} answered, the rest not asked: {evidence.stopped}"
        return undecided("requests", reason)
    if evidence.stopped:
        return Check("requests", Status.FAIL, f"no request was sent: {evidence.stopped}", numbers)
    return check_content(asked, numbers)


def check_content(asked: Sequence[Answer], numbers: dict[str, Any]) -> Check:
    """The verdict on requests that were all answered: is there content in the answers?"""
    silent = notices.silent(asked)
    detail = f"{len(asked) - len(silent)} of {len(asked)} answered with content"
    detail += notices.beside(asked)
    if notices.unexplained(asked):
        return undecided("requests", f"cannot tell: {detail}", numbers)
    status = Status.WARN if silent else Status.PASS
    return Check("requests", status, detail, numbers)


def failures(evidence: Evidence, answers: Sequence[Answer]) -> list[str]:
    """The words for each failure, and by which runner it was, where that is known."""
    served_by = dict(zip(evidence.measured, evidence.attribution.runners, strict=True))
    failed = [(each.completion.problem, served_by.get(each)) for each in answers]
    return [f"{said} (by {runner})" if runner else said for said, runner in failed if said]


def check_distribution(evidence: Evidence) -> Check:
    """No runner got more than --max-share, if there were several and work for more than one."""
    served_by, total = evidence.attribution, len(evidence.measured)
    if reason := cannot_tell(evidence):
        return undecided("distribution", reason)
    if evidence.args.sequential:
        reason = f"reported, but not judged: one at a time ({shares(evidence)})"
        return skip("distribution", reason)
    top, limit = served_by.busiest, evidence.args.max_share
    least, most = served_by.bounds(top)
    numbers = {"runner": top, "requests": served_by.counts[top], "of": total, "max_share": limit}
    numbers |= {"runners_to_choose_from": evidence.candidates}
    if most / total <= limit:
        detail = f"{shares(evidence)}; {evidence.at_once} at once"
        return Check("distribution", Status.PASS, detail, numbers)
    if least / total <= limit:
        reason = f"{top} served between {least} and {most} of {total}: {unclear(served_by)}"
        return undecided("distribution", reason)
    if reason := why_one_may_serve_most(evidence, top):
        return undecided("distribution", reason)
    if not (idle := idle_runners(evidence, top)):
        if idle_runners(evidence, top, blind=()):
            return undecided("distribution", f"{shares(evidence)}, but {STARVED}")
        return Check("distribution", Status.PASS, never_idle(evidence, top), numbers)
    numbers["idle"] = api.first_names(idle)
    return Check("distribution", Status.FAIL, over_share(evidence, top), numbers)


def cannot_tell(evidence: Evidence) -> str | None:
    """Why nothing can be said of who served."""
    served_by, asked = evidence.attribution, evidence.args.requests
    if len(evidence.measured) < asked and evidence.stopped:
        return f"{len(evidence.measured)} of {plural(asked, 'request')}: {evidence.stopped}"
    if not evidence.served:
        return "no request was served"
    if not served_by.counts:
        return f"nothing tells who served ({evidence.unread or 'no source'})"
    if served_by.doubt and len(served_by.counts) > 1:
        seen = f"{shares(evidence)} according to {served_by.source}"
        return f"{seen}, but {served_by.doubt}{better_source(evidence)}"
    if served_by.limits and len(served_by.counts) == 1:
        (name,) = served_by.counts
        seen = f"{name} served all according to {served_by.source}"
        return f"{seen}, but {served_by.limits}{better_source(evidence)}"
    return None


def better_source(evidence: Evidence) -> str:
    hint = "use --runner-header, if a header names the runner"
    if evidence.log and evidence.log.alone:
        return f": {hint}"
    if evidence.log:
        return f": the request log does not show our requests; {hint}"
    why = f" ({evidence.unread})" if evidence.unread else ""
    return f": the request log would tell{why}; or {hint}"


def unclear(served_by: Attribution) -> str:
    """Why a count is only known between two bounds."""
    reasons = []
    if served_by.unknown:
        reasons.append(f"{served_by.unknown} could not be attributed")
    if served_by.similar:
        count = served_by.similar.total()
        reasons.append(f"others' requests that look the same in the log: {count}")
    return f"{' and '.join(reasons)}: try again when the fleet is quiet"


def why_one_may_serve_most(evidence: Evidence, top: str) -> str | None:
    """Why it may be right that one runner served so many."""
    served_by, total = evidence.attribution, len(evidence.measured)
    if served_by.limits:
        return f"{shares(evidence)}, but {served_by.limits}{better_source(evidence)}"
    if evidence.candidates < 2:
        return why_no_other_is_known(evidence, top)
    chance = evidence.candidates ** (1 - total)  # that all go to the same one
    if chance > CHANCE:
        text = f"{top} served {total}, which happens by chance in {percent(chance)} of runs with "
        return f"{text}{evidence.candidates} runners: use --requests 10 or more"
    if times.most_at_once(evidence.answers_of(top)) < 2:
        hint = "use more --max-tokens" if evidence.at_once > 1 else "use --workers 2 or more"
        return f"{top} never had two requests at once, so no other was needed: {hint}"
    others = served_by.others
    share = (served_by.counts[top] + others[top]) / (total + others.total())
    if share <= evidence.args.max_share:
        busy = f"the others had {plural(others.total() - others[top], 'request')} of others"
        text = f"{top} served {served_by.counts[top]} of {total}, but {busy}"
        return f"{text}: try again when the fleet is quiet"
    return None


def why_no_other_is_known(evidence: Evidence, top: str) -> str:
    """Why no other runner is known that could have served."""
    known, models = evidence.known, evidence.requests.models
    if known.online is None:
        why = f"nothing tells whether there are others ({evidence.unread or 'no admin API'})"
        return f"{top} served all, and {why}: --expect-runners N tells how many there are"
    names = shorten(", ".join(sorted(models)))
    if not evidence.able:
        why = f"no runner is listed with {names}"
        return f"{top} served all, and {why}: --expect-runners N tells how many there are"
    text = f"nothing to distribute: {top} is the only runner online"
    if others := len(known.online) - 1:
        hint = "use --expect-runners N if they should share"
        text += f" with {names} (with other models: {others}; {hint})"
    if asleep := [runner.name for runner in known.offline if runner.offers(models)]:
        text += f"; offline: {listed(asleep, MOST_IDLE_ROWS, NAME_LENGTH)}"
    return text


def idle_runners(evidence: Evidence, top: str, blind: Sequence[Span] | None = None) -> list[str]:
    """Who was idle while this runner had two requests; `?` for each whose name is not known.
    `blind`: as for `Evidence.gaps`."""
    names, counts = evidence.names, evidence.attribution.counts
    idle = {name for name in names if not counts[name]}
    gaps = [gap for gap in evidence.gaps(blind=blind) if gap.in_requests > IDLE_SHARE]
    idle |= {gap.runner for gap in gaps if gap.busy == top}
    nameless = ["?"] * (evidence.candidates - len(names))
    return [*(name for name in names if name in idle), *nameless]


def never_idle(evidence: Evidence, top: str) -> str:
    """The line for a large share that is right: the others are slower, and had work."""
    others = [name for name in evidence.shown_names if name != top]
    served = {name: evidence.answers_of(name) for name in (top, *others)}
    medians = [f"{name} {duration(times.median_latency_ms(own))}" for name, own in served.items()]
    text = f"{shares(evidence)}; above {percent(evidence.args.max_share)}, but "
    text += f"{' and '.join(others)} had work while {top} had two or more"
    return f"{text} (latency p50: {', '.join(medians)})"


def over_share(evidence: Evidence, top: str) -> str:
    """The line of a FAIL: who got how much, who did not, and whether requests had to wait."""
    total, count = len(evidence.measured), evidence.attribution.counts[top]
    others = [name for name in evidence.shown_names if name != top]
    text = f"{top} got {count} of {total} ({percent(count / total)}, at most "
    text += f"{percent(evidence.args.max_share)} allowed), though "
    nameless = f"{evidence.candidates} runners with that model were online"
    text += f"{' and '.join(others)} could have served" if others else nameless
    waits = [times.first_output_ms(answer) for answer in evidence.answers_of(top)]
    waited = max((wait for wait in waits if wait is not None), default=None)
    usual = times.first_output_ms(evidence.alone) if evidence.alone else None
    spent = times.latency_ms(evidence.alone) if evidence.alone else None
    if waited is None or usual is None or spent is None:
        return text
    if waited > usual + spent:
        text += f"; they queued there: first output after up to {duration(waited)}, alone after "
        return text + duration(usual)
    return f"{text}; no request had to wait there (--max-share 1, if this runner is preferred)"


def shares(evidence: Evidence) -> str:
    total, counts = len(evidence.measured), evidence.attribution.counts.most_common()
    parts = [f"{name} {count} ({percent(count / total)})" for name, count in counts]
    if evidence.attribution.unknown:
        parts.append(f"unknown {evidence.attribution.unknown}")
    return ", ".join(parts)


def check_expect_runners(evidence: Evidence) -> Check:
    served_by, wanted = evidence.attribution, evidence.args.expect_runners
    if reason := cannot_tell(evidence):
        return undecided("expect_runners", reason)
    count = len(served_by.counts)
    numbers = {"runners": count, "expected": wanted}
    detail = f"{count} of {wanted} expected runners served: {shares(evidence)}"
    if served_by.surely_served >= wanted:
        return Check("expect_runners", Status.PASS, detail, numbers)
    if served_by.limits:
        reason = f"{detail}, but {served_by.limits}{better_source(evidence)}"
        return undecided("expect_runners", reason)
    if len({*served_by.counts, *served_by.similar}) + served_by.unknown >= wanted:
        return undecided("expect_runners", f"{detail}; {unclear(served_by)}")
    if evidence.known.online is not None:
        offline = len(evidence.known.offline)
        detail += f"; {len(evidence.able)} online with that model, {offline} offline"
    if evidence.args.sequential:
        detail += "; one at a time, a preferred runner may serve them all"
        return Check("expect_runners", Status.WARN, detail, numbers)
    if times.most_at_once(evidence.measured) < 2:
        reason = f"{detail}; there were never two requests at once: use --workers 2 or more"
        return undecided("expect_runners", reason)
    return Check("expect_runners", Status.FAIL, detail, numbers)


def check_idle(evidence: Evidence) -> Check:
    """No runner is idle while another one has a queue, whatever the gateway prefers.

    How many requests a runner serves at once cannot be seen from here. So it is a queue where a
    request has no output yet, and a warning when the other was idle for longer than a request.
    """
    served_by = evidence.attribution
    reason = cannot_tell(evidence) or served_by.limits
    if evidence.at_once < 2:
        reason = "one request at a time: no runner had two"
    elif not reason and len(evidence.names) < 2:
        reason = "no other runner is known that could have served"
    elif not reason and served_by.similar:
        reason = unclear(served_by)
    if reason:
        return skip("idle", reason)
    worst, raw = longest_idle(evidence), longest_idle(evidence, blind=())
    if raw and raw.in_requests > 1 and (worst is None or worst.in_requests <= 1):
        return skip("idle", f"{raw.runner} had no request while {raw.busy} had two, but {STARVED}")
    if worst is None or worst.length_ms < 1:
        return Check("idle", Status.PASS, "no runner was idle while another had two requests")
    numbers = dataclasses.asdict(worst)
    detail = f"{worst.runner} was idle for {duration(worst.length_ms)} while {worst.busy} had two "
    detail += f"or more requests; a request took {duration(worst.request_ms)} (median)"
    if worst.in_requests <= 1:
        return Check("idle", Status.PASS, f"at the most, {detail}", numbers)
    hint = "use --skip idle if that is intended"
    return Check("idle", Status.WARN, f"{detail}; {hint}", numbers)


def longest_idle(evidence: Evidence, blind: Sequence[Span] | None = None) -> times.Gap | None:
    """The longest time in which a runner had nothing to do while another one had a queue."""
    others = evidence.attribution.others
    gaps = [gap for gap in evidence.gaps(True, blind) if not others[gap.runner]]
    return max(gaps, key=lambda gap: gap.in_requests, default=None)


# a runner that dies


def judge_loss(evidence: Evidence) -> list[Check]:
    loss = evidence.loss
    if loss is None:
        why = evidence.stopped or "no request was served before"
        return [undecided(name, f"not tried: {why}") for name in OF_LOSS]
    if reason := nothing_lost(loss):
        return [undecided(name, reason) for name in OF_LOSS]
    return [check_clean_errors(loss), check_rerouted(loss), check_revived(loss)]


def nothing_lost(loss: Loss) -> str | None:
    """Why nothing can be said of a runner that dies."""
    if loss.limited or loss.killed is None:
        return loss.limited or "not tried: it was interrupted"
    if loss.killed.problem:
        return f"not tried: the kill command {loss.killed.problem}"
    if loss.dead or loss.hit:
        return None
    seen = f"according to {loss.source}" if loss.source else "as far as can be seen"
    return f"no runner died, {seen}: does --kill-command kill a runner that serves --model?"


def check_clean_errors(loss: Loss) -> Check:
    """Each request got a whole answer, or an error that every client takes for one, in time."""
    count, hit = plural(len(loss.answers), "request"), loss.hit
    unclean = [each for each in hit if not runner_loss.is_clean_error(each)]
    numbers = {"requests": len(loss.answers), "hit": len(hit), "unclean": len(unclean)}
    if unclean:
        detail = f"{len(unclean)} of {count} got neither a whole answer nor a clean error: "
        detail += problems(unclean)
        return Check("clean_errors", Status.FAIL, detail, numbers)
    detail = f"none of {count} was hit"
    if hit:
        detail = f"{len(hit)} of {count} were hit, each with a clean error: {problems(hit)}"
    return Check("clean_errors", Status.PASS, detail, numbers)


def problems(answers: Sequence[Answer]) -> str:
    return counted(str(each.completion.problem) for each in answers)


def check_rerouted(loss: Loss) -> Check:
    """From --settle on no request reaches the dead runner, and all are served by the others."""
    late, visits, settle = loss.late, loss.late_visits, f"{loss.settle_s:g} s after the kill"
    failed = [each for each in late if each in loss.hit]
    numbers = {"late": len(late), "late_visits": len(visits), "late_failed": len(failed)}
    if visits:
        last_s = max(each.sent_s for each in visits) - loss.killed_s
        detail = f"{plural(len(visits), 'request')} went to {listed(loss.dead)} later than {settle}"
        detail += f", the last one {last_s:.1f} s after it"
        return Check("rerouted", Status.FAIL, detail, numbers)
    if failed:
        detail = f"{len(failed)} of {len(late)} that were sent later than {settle} were not served"
        detail += f": {problems(failed)}"
        if all(each.status == 503 for each in failed):  # they had no room, or no runner was known
            detail += "; the others may be too few for so many, and none is known to have gone to "
            return undecided("rerouted", f"{detail}a dead runner", numbers)
        return Check("rerouted", Status.FAIL, detail, numbers)
    if not late:
        return undecided("rerouted", f"no request was sent later than {settle}", numbers)
    detail = f"all {len(late)} that were sent later than {settle} were served"
    if loss.last_hit_s is not None:
        detail += f"; no more were hit after {loss.last_hit_s:.2f} s"
    return Check("rerouted", Status.PASS, detail, numbers)


def check_revived(loss: Loss) -> Check:
    """The runner serves again after its revival."""
    online_s, served_s, name = loss.online_again_s, loss.served_again_s, "revived"
    numbers = {"online_again_s": rounded(online_s), "served_again_s": rounded(served_s)}
    if not loss.dead:
        reason = "not known which runner was killed: neither the admin API nor a header tells"
        return undecided(name, reason, numbers)
    if loss.revived is None or loss.revived.problem:
        problem = loss.revived.problem if loss.revived else "was not run"
        return undecided(name, f"the revive command {problem}", numbers)
    who, after = listed(loss.dead), "after the revive command began"
    if served_s is not None:
        online = "" if online_s is None else f"online {online_s:.1f} s and "
        detail = f"{who} serves again: {online}sent a request {served_s:.1f} s {after}"
        return Check(name, Status.PASS, detail, numbers)
    if online_s is None:
        detail = f"{who} did not come back within {loss.revive_s:g} s {after}"
        return Check(name, Status.FAIL, detail, numbers)
    online = f"{who} is online again, {online_s:.1f} s {after}"
    if loss.source is None:
        return Check(name, Status.PASS, f"{online}; nothing tells whether it serves", numbers)
    detail = f"{online}, but got none of {plural(loss.sent_since_online, 'request')} since"
    return Check(name, Status.WARN, detail, numbers)


# --- show


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    """What each runner served; `runner` is None for what could not be attributed."""
    names: list[str | None] = [*evidence.shown_names]
    if evidence.attribution.unknown:
        names.append(None)
    own = evidence.answers_by_runner()
    return [row(name, own.get(name, []), len(evidence.measured)) for name in names]


def row(runner: str | None, answers: Sequence[Answer], total: int) -> dict[str, Any]:
    latencies = [each for each in map(times.latency_ms, answers) if each is not None]
    low, high = Share(len(answers), total).interval or (None, None)
    models = {attribution.model_of(answer) for answer in answers}
    return {
        "runner": runner,
        "models": sorted(model for model in models if model),
        "requests": len(answers),
        "share": round(len(answers) / total, 4) if total else None,
        "share_low": None if low is None else round(low, 4),
        "share_high": None if high is None else round(high, 4),
        "latency_p50_ms": round(percentile(latencies, 50), 3) if latencies else None,
        "latency_p95_ms": round(percentile(latencies, 95), 3) if latencies else None,
        "errors": len(answers) - len(succeeded(answers)),
    }


def row_line(row: dict[str, Any]) -> str:
    share = interval = "-"
    if row["share"] is not None:
        share = percent(row["share"])
        interval = f"{100 * row['share_low']:.0f} - {percent(row['share_high'])}"
    name = shorten(row["runner"] or "not known", NAME - 1)
    model = shorten(", ".join(row["models"]) or "-", MODEL - 1)
    text = f"  {name:{NAME}}{model:{MODEL}}{row['requests']:>4}{share:>6}{interval:>12}"
    text += f"{duration(row['latency_p50_ms']):>8}{duration(row['latency_p95_ms']):>8}"
    return f"{text}{row['errors']:>4}"


def lines(evidence: Evidence, timing: Timing | None, url: str) -> list[str]:
    served_by, own = evidence.attribution, evidence.args.runner_header
    total = len(evidence.measured)
    if not total:
        return []
    text = f"{plural(total, 'request')} to {evidence.args.model} at {url}, {how_many(evidence)}"
    shown = [shorten(text, 80), f"  who served is told by {served_by.source}"]
    if served_by.limits:
        shown.append(f"    {served_by.limits}")
    if own and not any(answer.header(own) for answer in evidence.served):
        shown.append(f"    no answer has the header {shorten(own.title(), 50)}")
    elif own and not attribution.may_name_runners(own, evidence.requests, evidence.known, own):
        shown.append(f"    {shorten(own.title(), 50)} is different on each answer")
    if evidence.unread:
        shown.append("    " + shorten(f"the admin API could not be read: {evidence.unread}", 76))
    if others := served_by.others.total():
        shown.append(f"    {plural(others, 'request')} of others came in at the same time")
    head = f"  {'runner':{NAME}}{'model':{MODEL}}{'n':>4}{'share':>6}{'95 %':>12}"
    shown.append(f"{head}{'p50':>8}{'p95':>8}{'err':>4}")
    shown += map(row_line, rows(evidence))
    if more := len(evidence.names) - len(evidence.shown_names):
        shown.append(f"  and {plural(more, 'other runner')} online with that model")
    if timing and evidence.args.analyze_timing:
        alone, at_once = evidence.requests.alone, evidence.at_once
        shown += timing_lines(timing, evidence.served, alone, at_once, served_by)
    return shown + (runner_loss.loss_lines(evidence.loss) if evidence.loss else [])


def metrics(evidence: Evidence, timing: Timing | None) -> dict[str, Any]:
    served_by = evidence.attribution
    return {
        "source": served_by.source,
        "source_limits": served_by.limits,
        "admin_api": evidence.unread or "read",
        "concurrency": evidence.at_once,
        "requests": len(evidence.measured),
        "succeeded": len(evidence.served),
        "alone_ms": times.latency_ms(evidence.alone) if evidence.alone else None,
        "wall_s": round(timing.wall_ms / 1e3, 6) if timing else None,
        "effective_parallelism": timing.parallelism if timing else None,
        "served_together": timing.together if timing else None,
        "timing": timing.kind if timing else None,
        "runners": rows(evidence),
        "requests_of_others": dict(served_by.others.most_common(MOST_IDLE_ROWS)),
        "not_attributed": served_by.unknown,
        "loss": runner_loss.loss_figures(evidence.loss) if evidence.loss else None,
    }


def records(evidence: Evidence) -> list[dict[str, Any]]:
    """Each request as it is saved. Its times count from when the first one was sent."""
    requests, own = evidence.requests, evidence.args.runner_header
    alone, together = requests.sent_alone, requests.sent_together
    phases = ["alone"] * len(alone) + ["measured"] * len(together)
    answers = [*alone, *together, *(evidence.loss.answers if evidence.loss else [])]
    phases += ["loss"] * (len(answers) - len(phases))
    start_ms = min(map(times.sent_ms, answers), default=0.0)
    runners = dict(zip(requests.measured, evidence.attribution.runners, strict=False))
    return [
        {
            "index": index,
            "phase": phases[index],
            "status": answer.status,
            "error": kind_of(answer) if answer.completion.problem else None,
            "error_text": answer.completion.problem,
            "excluded": answer.is_excluded,
            "sent_ms": round(times.sent_ms(answer) - start_ms, 4) if answer.sent_ns else None,
            "ended_ms": round(times.ended_ms(answer) - start_ms, 4),
            "ttft_ms": times.first_output_ms(answer),
            "e2e_ms": times.latency_ms(answer),
            "round_trip_ms": times.round_trip_ms(answer),
            **answer.silence_figures,
            "model": attribution.model_of(answer),
            "system_fingerprint": attribution.fingerprint_of(answer),
            "headers": attribution.naming_headers(answer, own),
            "edge": attribution.edge_of(answer),
            "runner": runners.get(answer),
        }
        for index, answer in enumerate(answers)
    ]


def kind_of(answer: Answer) -> str:
    if answer.failure is not None:
        return answer.failure.kind
    return "malformed" if answer.status == 200 else status_kind(answer.status or 0)


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv, prepare=check_options)


if __name__ == "__main__":
    interruption.end_with(main)
