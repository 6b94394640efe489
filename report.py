#!/usr/bin/env python3
"""Is this deployment good enough to go on, and is it as fast as the last one was?

Reads what the other scripts saved, judges it by the guide's thresholds or your own, compares the
figures with those of a baseline, and writes RESULTS_DIR/baseline_report.md.

PASS: every required result is there, of one deployment, whole and not too old; every script passed,
every threshold was kept, and nothing is worse than the baseline by --margin.
Cost: none, it asks no server anything.

Examples:
    # step 8 of the guide: everything in results/, judged and written down
    python3 report.py --gpu L40S --quant Q4_K_M --title v1.0.0-rc.1
    # this release against the last one; several baseline runs tell the spread between runs
    python3 report.py results --baseline results-v1.0-a --baseline results-v1.0-b
    # thresholds of your own, a page to look at, a file for the CI server
    python3 report.py --thresholds verdict.toml --html report.html --junit junit.xml
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from livecheck.core.checks import Exit, worst
from livecheck.core.options import Parser
from livecheck.core.result_file import to_json, write_atomically
from livecheck.core.run import missing
from livecheck.core.screen import Screen, open_streams, write_out
from livecheck.core.text import one_line
from livecheck.report import junit, markdown, verdict
from livecheck.report import text as text_report
from livecheck.report.result_files import read_folder
from livecheck.report.thresholds import Thresholds, read_thresholds

MARKDOWN = "baseline_report.md"
LONGEST = 200  # characters of a name on the report
MOST_PERCENT, MOST_HOURS = 1000.0, 1e6


def build_parser() -> Parser:
    description, _, examples = (__doc__ or "").partition("Examples:\n")
    parser = Parser(
        prog="report.py",
        description=description.strip(),
        epilog="examples:\n" + examples.rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what to judge, and by what").add_argument
    folder = "where the scripts saved their results (default %(default)s)"
    add(
        "results", nargs="?", type=Path, default=Path("results"), metavar="RESULTS_DIR", help=folder
    )
    baseline = "results of an earlier run to compare with (repeatable)"
    add(
        "--baseline",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help=baseline,
    )
    profile = "results that are required (default: of the deployment whose files are there)"
    add("--profile", choices=sorted(verdict.REQUIRED), help=profile)
    add("--thresholds", type=Path, metavar="FILE", help="TOML file that changes the guide's")
    margin = "how much worse than the baseline matters (default %(default)g)"
    add("--margin", type=number(MOST_PERCENT), default=5.0, metavar="PERCENT", help=margin)
    age = "of the oldest result (default %(default)g)"
    add("--max-age", type=number(MOST_HOURS), default=72.0, metavar="HOURS", help=age)
    add = parser.add_argument_group("what to write").add_argument
    add("--html", type=Path, metavar="FILE", help="a page with plots, in one file")
    add("--junit", type=Path, metavar="FILE", help="a suite for each script, a case for each check")
    add("--output", choices=("text", "json", "markdown"), default="text", help="form of stdout")
    add("--title", metavar="TITLE", help="release or environment (default: the model)")
    add("--gpu", help="GPU as the report should name it")
    add("--model-name", metavar="MODEL", help="model, likewise (default: what was asked for)")
    add("--quant", help="quantisation, likewise")
    return parser


def number(most: float) -> Callable[[str], float]:
    """An argparse type: a positive number."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (math.isfinite(value) and 0 < value <= most):
            raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {most:g}")
        return value

    return parse


# --- judge


def judge(args: argparse.Namespace, thresholds: Thresholds) -> verdict.Report:
    """Read all folders and decide."""
    names = (args.gpu, args.model_name, args.quant, args.title)
    gpu, model, quant, title = (
        " ".join(each.split())[:LONGEST] if each else None for each in names
    )
    settings = verdict.Settings(
        profile=args.profile,
        margin=args.margin / 100,
        max_age_h=args.max_age,
        gpu=gpu,
        model=model,
        quant=quant,
        title=title,
    )
    about = thresholds.same_target, args.max_age
    folder = read_folder(args.results, *about)
    baselines = [read_folder(path, *about) for path in args.baseline]
    return verdict.build(folder, baselines, thresholds, settings, datetime.now(timezone.utc))


# --- write


def write(report: verdict.Report, args: argparse.Namespace, screen: Screen) -> Exit:
    """Every file that was asked for, and stdout; UNDECIDED when one of them could not be."""
    wanted: list[tuple[Path, Callable[[verdict.Report], str]]] = []
    if args.results.is_dir():
        wanted.append((args.results / MARKDOWN, markdown.text))  # by the guide's name
    if args.junit:
        wanted.append((args.junit, junit.text))
    if args.html:
        wanted.append((args.html, page_of))
    tried = [save(screen, path, partial(make, report)) for path, make in wanted]
    shown = show(report, args.output, screen)
    failures = [each for each in tried if each]
    for each in failures:  # below the gate line, which they outweigh
        screen.note(f"report.py: {each}: exit {int(Exit.UNDECIDED)}")
    return Exit.OK if shown and not failures else Exit.UNDECIDED


def save(screen: Screen, path: Path, make: Callable[[], str]) -> str | None:
    """Write a file and say so; else why it could not be written."""
    try:
        put(path, make())
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    except ModuleNotFoundError as error:
        return f"no {path}: no module {error.name}: {verdict.INSTALL}"
    screen.note(f"saved {path}")
    return None


def put(path: Path, text: str) -> None:
    """Into a regular file in one piece; a link, a pipe or a device is written through."""
    if not path.is_symlink() and (path.is_file() or not path.exists()):
        write_atomically(path, text)
        return
    # a pipe that nobody reads is an error, and none to wait for
    waiting = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
    with open(os.open(path, waiting, 0o666), "w", encoding="utf-8", errors="replace") as target:
        os.set_blocking(target.fileno(), True)
        target.write(text)


def page_of(report: verdict.Report) -> str:
    from livecheck.report import html  # it needs matplotlib

    return html.text(report)


def show(report: verdict.Report, output: str, screen: Screen) -> bool:
    """The report on stdout. Whether it went out, or nobody wanted to read to the end."""
    if output == "json":
        text = to_json(verdict.as_dict(report))
    elif output == "markdown":
        text = markdown.text(report)
    else:
        text = "\n".join(text_report.lines(report)) + "\n"
    try:
        write_out(text)
    except BrokenPipeError:
        return True
    except OSError as error:
        screen.note(f"report.py: cannot write to standard output: {error.strerror}")
        return False
    return True


def run(args: argparse.Namespace, thresholds: Thresholds) -> Exit:
    open_streams("text" if args.output == "text" else "json")  # JSON and Markdown are UTF-8
    screen = Screen(str, args.output, verbose=False, debug=False)
    try:
        report = judge(args, thresholds)
        return worst([report.exit_code, write(report, args, screen)])
    except Exception as error:  # a traceback is a bug in itself: one line, and exit 3
        what = one_line(f"{type(error).__name__}: {error}")[:300]
        screen.note(f"report.py: unexpected {what}")
        return Exit.UNDECIDED


def decide(args: argparse.Namespace) -> Exit:
    """Everything after the command line. ValueError says what is wrong with the thresholds."""
    try:
        thresholds = read_thresholds(args.thresholds)
    except ModuleNotFoundError as error:
        print(f"report.py: {missing(error)}", file=sys.stderr)
        return Exit.UNDECIDED
    return run(args, thresholds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        return decide(args)
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
