"""Interrupts each command at random moments, and counts what is not as it is promised.

python tests/tools/signals.py [--tries 200] [COMMAND...]
"""

from __future__ import annotations

import argparse
import collections
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.hostile_server import HostileServer  # noqa: E402
from helpers.signals import Outcome, interrupt  # noqa: E402
from hostile.commands import COMMANDS, SECRETS  # noqa: E402
from hostile.run import environment_of, words_of  # noqa: E402

INT, TERM = signal.SIGINT, signal.SIGTERM
WAYS = ((INT,), (TERM,), (INT, INT), (TERM, TERM), (INT, TERM), (TERM, INT))


def one_try(name: str, moment_s: float, signals: tuple[int, ...]) -> Outcome:
    """One run against a sound deployment."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if name == "report":
            (folder / "results").mkdir()
            return interrupt(["report.py"], moment_s, signals, folder, environment_of(folder))
        command = COMMANDS[name]
        with HostileServer(command.deploy(folder), None, SECRETS) as server:
            words = words_of(command, server, folder)
            words[0] = command.script
            place_of = words.index("--results")
            del words[place_of : place_of + 2]
            return interrupt(words, moment_s, signals, folder, environment_of(folder))


def length_s(name: str) -> float:
    """How long the command takes when nothing is sent."""
    began_s = time.monotonic()
    one_try(name, 120.0, ())
    return time.monotonic() - began_s


def measure(name: str, tries: int, seed: int) -> int:
    """The number of tries in which something was not as it is promised."""
    longest_s = length_s(name)
    chance = random.Random(f"{name} {seed}")
    codes: collections.Counter[str] = collections.Counter()
    bad, slowest_s = 0, 0.0
    for number in range(tries):
        # some more while the command starts: its imports, its settings, its first request
        moment_s = chance.uniform(0, 0.5 if chance.random() < 0.25 else longest_s)
        signals = WAYS[number % len(WAYS)]
        outcome = one_try(name, moment_s, signals)
        kind = " early" if outcome.was_early else " over" if outcome.was_over else ""
        codes[f"{outcome.code}{kind}"] += 1
        slowest_s = max(slowest_s, outcome.spent_s)
        if problems := outcome.problems():
            bad += 1
            print(f"{name}, {moment_s:.3f} s, {signals}: {problems}", flush=True)
            print(outcome.err[-1500:], flush=True)
    slowest = f"at the slowest {slowest_s:.2f} s after the signal"
    shown = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
    print(f"{name:22} {bad} of {tries} bad, {slowest}; {shown}", flush=True)
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description="Interrupt each command at random moments.")
    parser.add_argument("commands", nargs="*", default=[*COMMANDS, "report"])
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    # A shell that starts this in the background lets it ignore SIGINT, and its commands with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bad = sum(measure(name, args.tries, args.seed) for name in args.commands)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
