#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.31,<3",
#     "python-dotenv>=1.0,<2",
#     "openai>=1.60,<4",
#     "rich>=13.7,<16",
#     'tomli>=2,<3; python_version < "3.11"',
#     "scipy>=1.11,<2",
#     "matplotlib>=3.8,<4",
# ]
# ///
"""The whole live test with one command: is this deployment good enough to go on?

Runs the other scripts one after the other, in the order that makes sense: first what wakes nobody,
then what needs the deployment as it was found, then more and more load. Each is a process of its
own, with the command that an operator would have typed. At the end report.py judges the results,
beside the last run that passed, and writes a page that explains every verdict.

PASS: every script passed, and the report found nothing that is missing, too slow, or worse.
Cost: that of all scripts together; --plan says how much, and sends nothing. It wakes a sleeping
deployment, loads it, and waits until it has scaled to zero: by default a quarter of an hour.

Examples:
    # what would be sent, and how long would it take?
    python3 run_all.py --url https://host:8000 --plan
    # the live test of the guide
    python3 run_all.py --url https://host:8000 --api-key sk-key --title v1.0.0-rc.1
    # the same without the long wait, and with the web page that should be allowed
    python3 run_all.py --url https://host:8000 --skip test_scale_to_zero --origin https://app.example
    # everything as a file says it: deployment, options of each script, thresholds
    python3 run_all.py --config live_test.toml
    # go on where a run was interrupted
    python3 run_all.py --config live_test.toml --resume
    # three runs of one session, five minutes apart, to see how much they differ
    python3 run_all.py --config live_test.toml --repeat 3 --cooldown 300
    # the fleet: the scripts of the backend-inference guide
    python3 run_all.py --profile fleet --token-binary ./get-token
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from livecheck.core.checks import Exit, worst
from livecheck.core.credentials import check_token, token_of_stdin
from livecheck.core.json_value import quoted
from livecheck.core.options import (
    Parser,
    ca_file_option,
    option_type,
    seconds,
    whole_number,
)
from livecheck.core.redaction import Secrets
from livecheck.core.result_file import to_json, try_folder
from livecheck.core.run import missing
from livecheck.core.screen import Screen, open_streams
from livecheck.core.settings import GATEWAY, read_settings
from livecheck.core.text import one_line, visible
from livecheck.suite import estimates, plan_table, steps
from livecheck.suite.access import Finder
from livecheck.suite.commands import Command, left_out
from livecheck.suite.display import display_for
from livecheck.suite.live_test_toml import LiveTest, MistakeInConfig, message_for, read_live_test
from livecheck.suite.run_folder import NothingToResume
from livecheck.suite.session import Session, StillRunning, Wanted

MAX_REPEATS = 100
LONG_S = 15 * 60  # a run that takes longer says so first, on a terminal
# options of the command line that go to every script, and those that go to one
HANDED_ON = "timeout ca_file cert cert_key no_verify_ssl strict verbose debug".split()
OF_ONE = {"origin": "test_cors", "limit": "test_rate_limit"}


def build_parser() -> Parser:
    parser = Parser.from_manual(__file__, __doc__)
    add = parser.add_argument_group("what to run").add_argument
    profile = "scripts of the gateway's guide, of the fleet's, or both (default gateway)"
    add("--profile", choices=steps.PROFILES, help=profile)
    add("--config", type=Path, metavar="FILE", help="TOML file with all settings of a live test")
    add("--plan", action="store_true", help="show what this would send, and how long it takes")
    only = f"run only these: {', '.join(steps.NAMES)}"
    add("--only", nargs="+", type=as_step, metavar="SCRIPT", help=only)
    add("--skip", nargs="+", type=as_step, metavar="SCRIPT", help="leave these out")
    add("--origin", help="web page that should be allowed, for test_cors.py (or CORS_ORIGIN)")
    limit = "requests that the key may send in a minute, for test_rate_limit.py"
    add("--limit", type=whole_number(1), metavar="N", help=limit)
    repeats = "runs of this session (default 1)"
    add("--repeat", type=whole_number(1, MAX_REPEATS), default=1, metavar="K", help=repeats)
    add("--cooldown", type=pause, default=0.0, metavar="SECONDS", help="wait between two runs")
    add("--resume", action="store_true", help="go on where an interrupted run has stopped")

    add = parser.add_argument_group("what to judge").add_argument
    earlier = "earlier run to compare with (default: the last one that passed)"
    add("--baseline", type=Path, nargs="+", action="extend", metavar="DIR", help=earlier)
    add(
        "--title", type=as_title, help="release or environment, in the report and the folder's name"
    )
    add_shared(parser)
    return parser


def add_shared(parser: argparse.ArgumentParser) -> None:
    """The options that all scripts share. Without one, each script has its own default."""
    add = parser.add_argument_group("shared options").add_argument
    add("--url", metavar="URL", help=f"base URL of the deployment (or {GATEWAY.url_variable})")
    token = f"credential; - reads it from stdin (or {GATEWAY.token_variable})"
    add("--token", "--api-key", metavar="TOKEN", help=token)
    add("--token-binary", metavar="COMMAND", help="command that prints a token")
    timeout = "whole time of one request (default: each script's own)"
    add("--timeout", type=seconds, metavar="SECONDS", help=timeout)
    ca_file = "trust these authorities too, for TLS (PEM; or SSL_CERT_FILE)"
    add("--ca-file", type=option_type(ca_file_option), metavar="FILE", help=ca_file)
    add("--cert", metavar="FILE", help="client certificate for TLS, PEM")
    add("--cert-key", metavar="FILE", help="its key, if not in --cert")
    add("--no-verify-ssl", action="store_true", help="accept any TLS certificate")
    add("-v", "--verbose", action="store_true", help="show what the scripts print")
    add("--debug", action="store_true", help="show answers and tracebacks too")
    add("--output", choices=("text", "json"), default="text", help="form of the result on stdout")
    folder = "each run gets a folder of its own in it (default %(default)s)"
    add("--results", type=Path, default=Path("results"), metavar="DIR", help=folder)
    add("--strict", action="store_true", help="treat every WARN as a FAIL")


def as_step(text: str) -> str:
    name = text.removesuffix(".py")
    if not steps.is_step(name):
        raise argparse.ArgumentTypeError(f"unknown script {quoted(text)}: see --help")
    return name


def as_title(text: str) -> str | None:
    return visible(one_line(text))[:200] or None


def pause(text: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else seconds(text)


# --- what is to be run


def find_wanted(args: argparse.Namespace, secrets: Secrets) -> Wanted:
    """From the options, the file and the environment. ValueError for what cannot work."""
    live_test = read_live_test(args.config)
    check_thresholds(live_test)
    check_report(live_test, args.baseline or ())
    profile = args.profile or live_test.profile or steps.GATEWAY
    if profile == steps.ALL and (args.url or args.token or args.token_binary):
        raise ValueError(
            "--profile all is about two deployments: give their URLs and credentials in --config "
            "FILE, or in the environment"
        )
    look_up = read_settings()
    shared, own = given(args, HANDED_ON), given(args, OF_ONE)
    of_one = {OF_ONE[name]: {name: value} for name, value in own.items()}
    finder = Finder(args, live_test, shared, of_one, look_up, secrets, args.plan)
    only, skip = args.only or live_test.only, (*(args.skip or ()), *live_test.skip)
    known = steps.with_other_levels({*live_test.scripts, *only})
    commands = [finder.command(each) for each in steps.selected(known, profile, only, skip)]
    reasons = {each.step.name: left_out(each.step, each.options, look_up) for each in commands}
    gone = {name: why for name, why in reasons.items() if why is not None}
    running = [each for each in commands if each.step.name not in gone]
    if not running:
        raise ValueError("nothing is left to run: see --only and --skip")
    return Wanted(
        profile=profile,
        title=args.title or live_test.title,
        commands=commands,
        estimates=find_estimates(running, live_test),
        left_out=gone,
        results=args.results,
        repeats=args.repeat,
        cooldown_s=args.cooldown,
        baseline=args.baseline,
        thresholds=live_test.thresholds,
        report=live_test.report,
    )


def given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of these options that the command line has."""
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value not in (None, False)}


def find_estimates(
    commands: Sequence[Command], live_test: LiveTest
) -> list[estimates.Estimate | None]:
    try:
        return estimates.estimates(commands)
    except estimates.MistakeInOptions as error:
        step, line = error.command.step, str(error).removesuffix(" (see --help)")
        raise message_for(line, live_test, (step.name, step.script)) or ValueError(line) from None


def check_thresholds(live_test: LiveTest) -> None:
    """Now, and not when everything has been measured."""
    from livecheck.report.thresholds import parse_thresholds

    try:
        parse_thresholds(live_test.thresholds)
    except ValueError as error:
        raise live_test.mistake(str(error), "thresholds") from None


def check_report(live_test: LiveTest, baseline: Sequence[Path]) -> None:
    """The same of what report.py is given; it says itself what is wrong with an option."""
    for path in baseline:
        if not path.is_dir():
            raise ValueError(f"--baseline {path} is not a folder")
    if live_test.report:
        import report

        options = live_test.report.items()
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options]
        report.build_parser().parse_args(words)


def read_token(args: argparse.Namespace) -> None:
    """--token - is read here, once, for all scripts."""
    if args.token is not None:
        source = "standard input" if args.token == "-" else "--token"
        token = token_of_stdin() if args.token == "-" else args.token
        args.token = check_token(token.strip(), source)


# --- the command


def run_session(session: Session) -> int:
    """Run, and report what there is, also after a signal."""
    error = interruption.INTERRUPTION.attempt(session.run)
    code = Exit.OK
    if interruption.INTERRUPTION.first is not None:  # whatever a library has made of it
        code = Exit(interruption.exit_code_of(interruption.INTERRUPTION.first))
        session.interrupt(code)
        session.screen.note_always("run_all.py: interrupted: what was measured until now is saved")
    elif error is not None:
        session.abandon()
        session.screen.note_always(f"run_all.py: {why(error)}")
        code = Exit.UNDECIDED
    code = worst([code, session.exit_code])
    session.show(code)
    if session.screen.stdout_problem:
        code = worst([code, Exit.UNDECIDED])
    return int(code)


def why(error: BaseException) -> str:
    if isinstance(error, StillRunning):
        return str(error)
    if isinstance(error, OSError):
        where = error.filename or "the folder of the run"  # a write does not tell
        return f"cannot write to {where} ({error.strerror}): use --results DIR"
    return one_line(f"unexpected {type(error).__name__}: {error}")[:300]


def show_plan(wanted: Wanted, screen: Screen, output: str) -> int:
    if output == "json":
        screen.write_out(to_json(plan_table.as_dict(wanted)))
    else:
        for line in plan_table.lines(wanted):
            screen.say(line)
    return int(Exit.UNDECIDED if screen.stdout_problem else Exit.OK)


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    open_streams(args.output)
    secrets = Secrets()
    screen = Screen(secrets.redact, args.output, args.verbose or args.debug, args.debug)
    try:
        read_token(args)
        wanted = find_wanted(args, secrets)
        if args.plan:
            return show_plan(wanted, screen, args.output)
        is_terminal = sys.stderr.isatty() and not args.verbose and not args.debug
        session = Session(wanted, screen, lambda: display_for(screen, is_terminal))
        session.prepare(args.resume)
        try_folder(args.results)
    except (MistakeInConfig, NothingToResume, ValueError) as error:
        parser.error(secrets.redact(str(error)))
    except ModuleNotFoundError as error:
        print(f"run_all.py: {missing(error)}", file=sys.stderr)
        return int(Exit.UNDECIDED)
    for line in plan_table.before(wanted, LONG_S if sys.stderr.isatty() else None):
        screen.note(line)
    code = run_session(session)
    if args.output == "json":
        screen.write_out(to_json(session.as_dict()))
    return code


if __name__ == "__main__":
    interruption.end_with(main)
