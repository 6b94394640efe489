"""Runs every command against every hostile behaviour that concerns it, and judges each run.

    python tests/tools/hostile.py                          the usual selection
    python tests/tools/hostile.py --all                    every behaviour with every command
    python tests/tools/hostile.py test_queue               one command
    python tests/tools/hostile.py test_queue --only 'metrics: 1 MB of open braces @ metrics'
    python tests/tools/hostile.py --layer SSE --at-once 4

A failure is one line: the command, the behaviour, what was wrong, and how to repeat it. The last
line counts: runs, failures, seconds, and the highest peak of memory. Exit code 1 if any run failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile.behaviours import Case, by_name, cases, run_case, with_options  # noqa: E402
from hostile.commands import COMMANDS  # noqa: E402
from hostile.judge import SPARE_S, TOO_LATE  # noqa: E402
from hostile.run import Ended, Pythons  # noqa: E402

AT_ONCE = 6  # most runs wait for a time-out


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--only", metavar="BEHAVIOUR", help="this one, as a failure names it")
    parser.add_argument("--all", action="store_true", help="every behaviour with every command")
    parser.add_argument("--layer", help="only the behaviours of this layer")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="runs at once")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each n-th case")
    spare = "beyond --timeout, for each request (default %(default)g); more where others compute"
    parser.add_argument("--spare", type=float, default=SPARE_S, metavar="SECONDS", help=spare)
    parser.add_argument("--options", default="", help="options for the command, with --only")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each run")
    parser.add_argument("--show", action="store_true", help="show what the command printed")
    return parser


def chosen(args: argparse.Namespace) -> list[Case]:
    names = args.commands or list(COMMANDS)
    if args.only:
        options = args.options.split()
        return [with_options(by_name(args.only, name), options) for name in names]
    found = [each for each in cases(args.all) if each.command.name in names]
    if args.layer:
        found = [each for each in found if each.mechanism.layer == args.layer]
    return found[:: args.every]


def in_words(case: Case, found: Sequence[str]) -> str:
    options = f" --options='{' '.join(case.options)}'" if case.options else ""
    again = f"tests/tools/hostile.py {case.command.name} --only '{case.name}'{options}"
    return f"FAIL {'; '.join(found)}: {again}"


class Totals:
    """What came of all runs."""

    def __init__(self) -> None:
        self.failed, self.most_mb = 0, 0.0
        self.layers = Counter[str]()

    def take(self, case: Case, ended: Ended, found: Sequence[str], verbose: bool) -> None:
        self.failed += bool(found)
        self.most_mb = max(self.most_mb, ended.memory_mb)
        if found:
            print(in_words(case, found), flush=True)
        elif verbose:
            cost = f"{ended.spent_s:5.1f} s {ended.memory_mb:4.0f} MB"
            print(f"ok   {cost} exit {ended.code} {case.command.name}: {case.name}")


def run_all(wanted: Sequence[Case], pythons: Pythons, args: argparse.Namespace) -> Totals:
    """All of them, several at once. One that came too late beside others is made once more alone,
    because they share the processors."""
    totals = Totals()
    late: list[Case] = []
    with ThreadPoolExecutor(args.at_once) as pool:
        runs = {pool.submit(run_case, case, pythons, args.spare): case for case in wanted}
        for run in as_completed(runs):
            case, (ended, found) = runs[run], run.result()
            totals.layers[case.mechanism.layer] += 1
            if args.show:
                print(ended.out.decode(errors="replace"), ended.err.decode(errors="replace"))
            if found and all(TOO_LATE in each for each in found) and args.at_once > 1:
                late.append(case)
            else:
                totals.take(case, ended, found, args.verbose)
    for case in late:
        print(f"late beside others, made once more alone: {case.command.name}: {case.name}")
        totals.take(case, *run_case(case, pythons, args.spare), args.verbose)
    return totals


def main() -> int:
    args = build_parser().parse_args()
    wanted, began_s = chosen(args), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Pythons(Path(folder)) as pythons:
        for name in {case.command.script for case in wanted}:
            pythons.of(name)
        totals = run_all(wanted, pythons, args)
    kinds = ", ".join(f"{count} {layer}" for layer, count in totals.layers.items())
    print(f"{len(wanted)} runs ({kinds})")
    spent_s = time.monotonic() - began_s
    print(f"{totals.failed} failed, {spent_s:.0f} s, at most {totals.most_mb:.0f} MB")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
