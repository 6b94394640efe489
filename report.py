#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["scipy>=1.11,<2", "matplotlib>=3.8,<4", 'tomli>=2,<3; python_version < "3.11"']
# ///
"""Is this deployment good enough to go on, and is it as fast as the last one was?

Reads what the other scripts saved, judges it by the guide's thresholds or by yours, compares the
figures with those of a baseline, and writes RESULTS_DIR/baseline_report.md.

PASS: every required result is there, complete, not too old, and of one deployment; every script
passed, every threshold was kept, and nothing is worse than the baseline by --margin.
Cost: none. It sends no request to any server.

Examples:
    # step 8 of the guide: judge everything in results/, and write the report
    python3 report.py --gpu L40S --quant Q4_K_M --title v1.0.0-rc.1
    # this release against the last one; runs of several days show the spread between sessions
    python3 report.py results --baseline results-v1.0-a --baseline results-v1.0-b
    # thresholds of your own, a page to look at, and a file for the CI server
    python3 report.py --thresholds verdict.toml --html report.html --junit junit.xml
    # all releases in order of time, with the changes of their figures marked
    python3 report.py --history results --html history.html
"""

from __future__ import annotations

import livecheck.core.interruption as interruption

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from livecheck.core.checks import Exit, worst
from livecheck.core.options import Parser, positive_number
from livecheck.core.result_file import to_json, write_file
from livecheck.core.run import missing
from livecheck.core.screen import Screen, open_streams, write_out
from livecheck.core.text import one_line, visible
from livecheck.report import (
    history,
    history_page,
    history_text,
    html,
    junit,
    markdown,
    text,
    verdict,
    words,
)
from livecheck.report.documents import Allowance
from livecheck.report.result_files import read_folder
from livecheck.report.thresholds import MistakeInThresholds, Thresholds, read_thresholds

RESULTS = Path("results")  # where the scripts save by default
MARKDOWN = "baseline_report.md"  # the guide's name for it
MAX_NAME = 200  # characters of --title, --gpu, --model-name and --quant
MAX_PERCENT, MAX_HOURS = 1000.0, 1e6
T = TypeVar("T")


def build_parser() -> Parser:
    parser = Parser.from_manual(__file__, __doc__)
    add = parser.add_argument_group("what to judge, and by what").add_argument
    folder = "folder with the result files (default %(default)s)"
    add("results", nargs="?", type=Path, default=RESULTS, metavar="RESULTS_DIR", help=folder)
    earlier = "results of an earlier run to compare with (repeatable)"
    add(
        "--baseline", type=Path, nargs="+", action="extend", default=[], metavar="DIR", help=earlier
    )
    history = "show the releases in these folders in order of time, instead of judging one"
    add("--history", type=Path, nargs="+", action="extend", default=[], metavar="DIR", help=history)
    profile = "which results are required (default: decided by the files)"
    add("--profile", choices=sorted(verdict.REQUIRED), help=profile)
    thresholds = "TOML file that changes the guide's thresholds"
    add("--thresholds", type=Path, metavar="FILE", help=thresholds)
    percent, hours = positive_number(MAX_PERCENT), positive_number(MAX_HOURS)
    margin = "how much worse than the baseline is too much (default %(default)g)"
    add("--margin", type=percent, default=5.0, metavar="PERCENT", help=margin)
    spread = "how much sessions may differ, until several show it (default %(default)g)"
    add("--session-spread", type=percent, default=5.0, metavar="PERCENT", help=spread)
    unclear = "do not judge what too little data cannot show"
    add("--allow-unclear", action="store_true", help=unclear)
    age = "refuse results older than this (default %(default)g)"
    add("--max-age", type=hours, default=72.0, metavar="HOURS", help=age)

    add = parser.add_argument_group("what to write").add_argument
    add("--html", type=Path, metavar="FILE", help="write a page with plots, all in one file")
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML, a suite for each result")
    forms = ("text", "json", "markdown")
    add("--output", choices=forms, default="text", help="form of the report on stdout")
    add("--title", type=as_name, help="release or environment (default: the model)")
    add("--gpu", type=as_name, help="name of the GPU in the report")
    asked = "name of the model (default: the one asked for)"
    add("--model-name", type=as_name, metavar="MODEL", help=asked)
    add("--quant", type=as_name, help="quantization of the model in the report")
    return parser


def as_name(option: str) -> str | None:
    return visible(one_line(option))[:MAX_NAME] or None


# --- judge


def judge(args: argparse.Namespace, thresholds: Thresholds) -> verdict.Report:
    """Read all folders, and decide."""
    settings = verdict.Settings(
        profile=args.profile,
        margin=args.margin / 100,
        session_spread=args.session_spread / 100,
        allow_unclear=args.allow_unclear,
        max_age_h=args.max_age,
        gpu=args.gpu,
        model=args.model_name,
        quant=args.quant,
        title=args.title,
    )
    paths = (args.results, *args.baseline)
    allowance = Allowance()  # one for all folders: so much fits into the memory
    folder, *baselines = (
        read_folder(each, thresholds.same_target, args.max_age, allowance) for each in paths
    )
    return verdict.build(folder, baselines, thresholds, settings, datetime.now(timezone.utc))


# --- write


def write(report: verdict.Report, args: argparse.Namespace, screen: Screen) -> Exit:
    """Every file that was asked for, and stdout; UNDECIDED when one cannot be written."""
    own = args.results / MARKDOWN if args.results.is_dir() else None
    wanted = [(own, markdown.text), (args.junit, junit.text), (args.html, html.text)]
    problems = [save(screen, path, form, report) for path, form in wanted if path]
    return told(screen, [*problems, show(in_form(report, args.output))])


def told(screen: Screen, problems: Sequence[str | None]) -> Exit:
    failures = [each for each in problems if each]
    for each in failures:  # shown after the verdict, because they change the exit code
        screen.note(f"report.py: {each}: exit {int(Exit.UNDECIDED)}")
    return Exit.UNDECIDED if failures else Exit.OK


def save(screen: Screen, path: Path, form: Callable[[T], str], content: T) -> str | None:
    """Write a file and say so. Returns why it could not be written, None when it was."""
    try:
        write_file(path, form(content))
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    screen.note(f"saved {path}")
    return None


def in_form(report: verdict.Report, output: str) -> str:
    if output == "json":
        return to_json(verdict.as_dict(report))
    if output == "markdown":
        return markdown.text(report)
    return "\n".join(text.lines(report)) + "\n"


def show(shown: str) -> str | None:
    """Print the report. Returns why it could not be printed, None when it was."""
    try:
        write_out(shown)
    except BrokenPipeError:
        return None  # the reader has seen enough, as `head` does
    except OSError as error:
        return f"cannot write to standard output: {error.strerror}"
    return None


# --- the history


def show_history(args: argparse.Namespace, thresholds: Thresholds, screen: Screen) -> Exit:
    """Write the page and print the history. It judges nothing."""
    found = history.read_history(args.history, thresholds, args.margin / 100, args.title)
    problem = save(screen, args.html, history_page.text, found) if args.html else None
    return told(screen, [problem, show(history_in_form(found, args.output))])


def history_in_form(found: history.History, output: str) -> str:
    if output == "json":
        return to_json(history_text.as_dict(found))
    if output == "markdown":
        return history_text.markdown_text(found)
    return "\n".join(map(words.shown, history_text.lines(found))) + "\n"


def option_without_use(args: argparse.Namespace) -> str | None:
    """An option about one run, which a history does not judge."""
    others = {"RESULTS_DIR": args.results != RESULTS, "--baseline": bool(args.baseline)}
    others |= {"--junit": args.junit is not None, "--profile": args.profile is not None}
    return next((name for name, is_given in others.items() if is_given), None)


# --- the command


def run(args: argparse.Namespace) -> Exit:
    thresholds = read_thresholds(args.thresholds)
    open_streams("text" if args.output == "text" else "json")  # JSON and Markdown are UTF-8
    # there is no credential in result files, so nothing has to be hidden
    screen = Screen(redact=words.shown, output=args.output, verbose=False, debug=False)
    if args.history:
        return show_history(args, thresholds, screen)
    report = judge(args, thresholds)
    return worst([report.exit_code, write(report, args, screen)])


def main(argv: Sequence[str] | None = None) -> int:
    """The end differs from that of the other scripts: nothing is sent, and no result is saved."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.history and (name := option_without_use(args)):
        parser.error(f"{name} is about one run: leave it out with --history")
    codes: list[Exit] = []
    error = interruption.INTERRUPTION.attempt(lambda: codes.append(run(args)))
    if error is None:
        return codes[0]
    if interruption.INTERRUPTION.first is not None:  # whatever a library has made of it
        error = interruption.INTERRUPTION.exception()
    if isinstance(error, (MistakeInThresholds, history.NoHistory)):
        parser.error(words.shown(str(error)[:300]))
    code, why = meaning_of(error)
    Screen(words.shown, args.output, verbose=False, debug=False).note(f"report.py: {why}")
    return code


def meaning_of(error: BaseException) -> tuple[Exit, str]:
    """The exit code of a report that has ended early, and why, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, "interrupted"
    if isinstance(error, interruption.Terminated):
        return Exit.TERMINATED, "terminated"
    if isinstance(error, ModuleNotFoundError):  # tomli, before Python 3.11
        return Exit.UNDECIDED, missing(error)
    # a traceback would be a bug too: one line, and exit 3
    return Exit.UNDECIDED, one_line(f"unexpected {type(error).__name__}: {error}")[:300]


if __name__ == "__main__":
    interruption.end_with(main)
