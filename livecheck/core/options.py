"""The command line: a parser that reports a mistake in one line, and the types of its options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from livecheck.core.checks import Exit
from livecheck.core.cleaning import clean_line
from livecheck.core.credentials import HARMLESS
from livecheck.core.json_value import QUOTED_LENGTH, quoted
from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import one_line, shorten

LONGEST_WORD = 120  # of a line about a mistake: the path of a file may be that long
WORD = late_pattern(r"\S+")
QUOTED = late_pattern(r"""(['"])(.*?)\1""")
MOST = 10**15  # of anything that is counted; what is worked out from it is still a float
MAX_SECONDS = 1e6  # eleven days; the timeout of a socket overflows somewhere beyond

CREDENTIALS = {"token", "token_binary", "direct_key", "other_key"}  # never saved
# What is left out of the line that repeats a run: the URL, which is shown as it was understood,
# credentials, where the output goes, and which checks were chosen.
NOT_REPEATED = {"url", "verbose", "debug", "output", "results", "only", "skip", "plan"}
NOT_REPEATED |= CREDENTIALS
# Commands of the operator's, in which a credential may stand: in that line they are COMMAND.
HIDDEN_VALUES = {"workers_command", "kill_command", "revive_command"}

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is reported in one line, with exit code 2.

    A credential in the wrong place is not repeated in that line.
    """

    @classmethod
    def from_manual(cls, file: str, doc: str | None) -> Parser:
        """A parser for the command in `file`, whose docstring is its manual.

        The text before "Examples:" becomes the description of --help, the rest its epilog.
        """
        description, _, examples = (doc or "").partition("Examples:\n")
        return cls(
            prog=Path(file).name,
            description=description.strip(),
            epilog="examples:\n" + examples.rstrip() if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = [each.partition("=")[0] for each in unknown if each.startswith("-")]
            self.error(f"unknown option {names[0]}" if names else "an argument without its option")
        parsed.typed = self._repeatable(sys.argv[1:] if args is None else args)
        return parsed

    def _repeatable(self, words: Sequence[str]) -> list[str]:
        """These words of a command line without the options of NOT_REPEATED and their values, and
        without the values of HIDDEN_VALUES."""
        kept, is_kept = [], True
        for word in words:
            option = word.partition("=")[0]
            if action := self._option_string_actions.get(option):
                is_kept = action.dest not in NOT_REPEATED | HIDDEN_VALUES
                if action.dest in HIDDEN_VALUES:
                    kept += [option, "COMMAND"]
            if is_kept:
                kept.append(word)
        return kept

    def error(self, message: str) -> NoReturn:
        shown = QUOTED.sub(lambda m: m[0] if HARMLESS.fullmatch(m[2]) else "'…'", one_line(message))
        shown = WORD.sub(lambda m: shorten(m[0], LONGEST_WORD), shown)
        line = clean_line(shown, str)
        self.exit(int(Exit.USAGE), f"{self.prog}: {line} (see --help)\n")


def whole_number(least: int, most: int = MOST) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(
                f"{shorten(text, QUOTED_LENGTH)} is too small, the least is {least}"
            )
        if value > most:
            raise argparse.ArgumentTypeError(
                f"{shorten(text, QUOTED_LENGTH)} is too large, the most is {most}"
            )
        return value

    return parse


def positive_number(most: float) -> Callable[[str], float]:
    """An argparse type: a number above 0, and at most `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number") from None
        if not 0 < value <= most:  # NaN is not in that range either
            raise argparse.ArgumentTypeError(
                f"{shorten(text, QUOTED_LENGTH)} is not above 0 and at most {most:g}"
            )
        return value

    return parse


seconds = positive_number(MAX_SECONDS)  # an argparse type


def option_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type from a function whose ValueError says what is wrong with the text."""

    def parse_option(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def ca_file_option(text: str) -> str:
    """The path of a file with certificates of authorities. ValueError when it has none to use."""
    import ssl  # here: --help needs it only where the option is given

    try:
        ssl.create_default_context(cafile=text)
    except ssl.SSLError:
        raise ValueError(f"{quoted(text)} has no certificate in PEM form") from None
    except OSError as error:
        raise ValueError(f"cannot read {quoted(text)}: {error.strerror}") from None
    return text


def is_wanted(args: argparse.Namespace, check: str) -> bool:
    """Whether --only and --skip leave this check in; `slo:ttft_p50` belongs to `slo`."""
    name = check.partition(":")[0]
    return (args.only is None or name in args.only) and name not in args.skip
