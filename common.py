"""What every check script needs, and no more: options, credentials, checks, exit codes, results.

A script builds its parser with `new_parser`, opens `run(args)` and fills one or several documents:

    with common.run(args) as run:
        document = run.document("queue_behavior")
        document.add(Check("idle", Status.PASS, "0 active, 0 waiting"))
    return run.exit_code

`run` turns whatever happens inside into an exit code and one line, saves every document that was
begun, and keeps credentials out of all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import re
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from livecheck.core.credentials import HARMLESS, CannotCheck, Credentials, Secrets, check_token
from livecheck.core.result_file import (
    VERDICTS,
    Check,
    Document,
    Exit,
    Status,
    to_json,
    worst,
    write_atomically,
)
from livecheck.core.screen import Screen, open_streams, write_out
from livecheck.core.settings import (
    FLEET,
    GATEWAY,
    Deployment,
    check_url,
    is_loopback,
    read_settings,
)

__all__ = ["FLEET", "GATEWAY", "CannotCheck", "Check", "Document", "Exit", "Run", "Status"]

TOOL_VERSION = "0.1.0"
QUOTED = re.compile(r"'([^']*)'")
LONGEST_S = 1e6  # eleven days; a socket's timeout overflows somewhere beyond


class Terminated(BaseException):
    """SIGTERM, raised where KeyboardInterrupt would be."""


# --- options


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake costs one line, and a misplaced credential keeps its secret."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = [each.partition("=")[0] for each in unknown if each.startswith("-")]
            self.error(f"unknown option {names[0]}" if names else "an argument without its option")
        return parsed

    def error(self, message: str) -> NoReturn:
        message = QUOTED.sub(
            lambda found: found[0] if HARMLESS.fullmatch(found[1]) else "'…'", message
        )
        self.exit(int(Exit.USAGE), f"{self.prog}: {one_line(message)} (see --help)\n")


def one_line(text: str) -> str:
    return " ".join(text.split())


def whole_number(least: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small, the least is {least}")
        return value

    return parse


def seconds(text: str) -> float:
    """An argparse type: a positive number of seconds that clocks and sockets can count."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    if value > LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text} s is too long, the most is {LONGEST_S:g}")
    return value


def new_parser(
    file: str,
    doc: str | None,
    deployment: Deployment,
    checks: Sequence[str],
    timeout_s: float = 120,
) -> Parser:
    """A parser with the options all scripts share.

    `file` and `doc` are the script's `__file__` and docstring: what stands before "Examples:" is
    the description, the rest the epilog. `checks` are the names that --only and --skip take.
    """
    description, _, examples = (doc or "").partition("Examples:\n")
    parser = Parser(
        prog=Path(file).name,
        description=description.strip(),
        epilog="examples:\n" + examples.rstrip() if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(deployment=deployment, script=Path(file).stem)
    add_shared_options(parser, deployment, checks, timeout_s)
    return parser


def add_shared_options(
    parser: Parser, deployment: Deployment, checks: Sequence[str], timeout_s: float
) -> None:
    variable = deployment.url_variable
    default = f", default {deployment.default_url}" if deployment.default_url else ""
    add = parser.add_argument_group("shared options").add_argument
    add("--url", metavar="URL", help=f"deployment's base URL (or {variable}{default})")
    add(
        "--token",
        "--api-key",
        metavar="TOKEN",
        help=f"credential, - reads stdin (or {deployment.token_variable})",
    )
    add("--token-binary", metavar="COMMAND", help="command that prints a token")
    add(
        "--timeout",
        type=seconds,
        default=float(timeout_s),
        metavar="SECONDS",
        help="whole time of one request (default %(default)g)",
    )
    add("--no-verify-ssl", action="store_true", help="accept any TLS certificate")
    add("-v", "--verbose", action="store_true", help="show each request")
    add("--debug", action="store_true", help="show answers and tracebacks too")
    add("--output", choices=("text", "json"), default="text", help="form of stdout")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="where results go")
    names = ", ".join(checks)
    add("--only", nargs="+", choices=checks, metavar="CHECK", help=f"run only these: {names}")
    add("--skip", nargs="+", choices=checks, default=[], metavar="CHECK", help="leave these out")
    add("--strict", action="store_true", help="a WARN is a FAIL")


def wants(args: argparse.Namespace, check: str) -> bool:
    """Whether --only and --skip leave this check in; `slo:ttft_p50` belongs to `slo`."""
    name = check.partition(":")[0]
    return (args.only is None or name in args.only) and name not in args.skip


# --- run


class Run(Screen):
    """One run of one script: its settings, its screen, its documents, its exit code."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.secrets = Secrets()
        super().__init__(self.secrets.redact, args.output, args.verbose, args.debug)
        self.documents: list[Document] = []
        self.exit_code = Exit.OK
        self._warned = False
        try:
            self.look_up = read_settings()
            self.url = self._find_url()
            self.credentials = self._find_credentials()
            self._try_results()
        except (ValueError, OSError) as error:
            Parser(prog=f"{args.script}.py").error(self.secrets.redact(str(error)))
        self.target: dict[str, Any] = {"url": self.url, "model": None, "server": None}
        self.client: dict[str, Any] = {
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "clock": None,
        }

    def _try_results(self) -> None:
        """Know before anything is sent that the results can be saved."""
        folder: Path = self.args.results
        try:
            folder.mkdir(parents=True, exist_ok=True)
            trial = folder / f".{os.getpid()}.try"
            write_atomically(trial, "")
            trial.unlink()
        except OSError as error:
            reason = error.strerror
            raise ValueError(f"cannot write to {folder} ({reason}): use --results DIR") from None

    def _find_url(self) -> str:
        deployment: Deployment = self.args.deployment
        text = self.args.url
        if text is None:
            text = self.look_up(deployment.url_variable) or deployment.default_url
        if text is None:
            raise ValueError(f"which deployment? give --url or set {deployment.url_variable}")
        return check_url(text)

    def _find_credentials(self) -> Credentials:
        """`--token` > `--token-binary` > the deployment's variables."""
        args, deployment = self.args, self.args.deployment
        token: str | None = args.token
        source = "--token"
        if token == "-":
            token, source = sys.stdin.readline() if sys.stdin else "", "standard input"
        elif token is None and args.token_binary is None:
            token, source = self.look_up(deployment.token_variable), deployment.token_variable
        binary: str | None = args.token_binary
        if binary is None and deployment.binary_variable:
            binary = self.look_up(deployment.binary_variable)
        if token is not None:
            token = self.secrets.add(check_token(token.strip(), source))
        return Credentials(token, binary, deployment.needs_token, self.secrets)

    def wants(self, check: str) -> bool:
        return wants(self.args, check)

    def document(self, name: str, main: bool = True) -> Document:
        """Begin a result file. It is saved when the run ends, however that comes about."""
        document = Document(name, self.wants, self.args.strict, main)
        self.documents.append(document)
        return document

    def token(self, role: str | None = None, user: str | None = None) -> str | None:
        """A credential; says so, once, when it will cross a network in the clear."""
        token = self.credentials.token(role, user)
        in_clear = self.url.startswith("http:") and not is_loopback(self.url)
        if token and in_clear and not self._warned:
            self._warned = True
            self.note(f"warning: the token goes to {self.url} unencrypted: use https")
        return token

    # the end

    def stop(self, code: Exit, error: str) -> None:
        """The run ends before its time: every unfinished document says why, in one line."""
        error = one_line(error)
        self.note(f"{self.args.script}.py: {error}")
        if all(document.finished for document in self.documents):
            self.document(self.args.script)  # to say so at all
        for document in self.documents:
            document.stop(code, error)
        self.exit_code = code

    def close(self) -> None:
        """Save every document, print what --output json asks for, settle the exit code."""
        if not self.documents:
            self.document(self.args.script)  # nothing was decided
        for document in self.documents:
            document.finish()
        self.exit_code = worst([self.exit_code, *(each.exit_code for each in self.documents)])
        texts = {each.name: to_json(self._as_dict(each)) for each in self.documents}
        for each in self.documents:
            path = self.args.results / f"{each.name}.json"
            if self._save(path, texts[each.name]) and each.requests:
                self.note(f"saved {path}")
        self._finally(self._say_verdict)
        for name in texts:
            self._save(self.args.results / f"{name}.log", "\n".join(self.lines) + "\n")
        if self.args.output == "json":
            main = [each for each in self.documents if each.main] or self.documents
            whole = {"levels": [self._as_dict(each) for each in main]}
            text = texts[main[0].name] if len(main) == 1 else to_json(whole)
            self._finally(lambda: write_out(text))

    def _finally(self, write: Callable[[], None]) -> None:
        """The last words to stdout. That they are not heard must not cost the results."""
        try:
            write()
        except BrokenPipeError:
            pass  # the reader had enough, the files are safe
        except OSError as error:
            self.note(f"cannot write to standard output: {error.strerror}")
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])

    def _say_verdict(self) -> None:
        """The last line of the result: what the exit code stands for."""
        checks = {id(check): check for each in self.documents for check in each.checks}
        counts = Counter(check.status for check in checks.values())  # each check once
        if counts:
            parts = (f"{count} {status.value}" for status, count in counts.items())
            word = VERDICTS[self.exit_code].upper()
            self.say(f"{word} (exit {int(self.exit_code)}): {', '.join(parts)}")

    def _as_dict(self, document: Document) -> dict[str, Any]:
        hidden = {"deployment", "script", "token", "token_binary", "direct_key"}
        options = {key: plain(value) for key, value in vars(self.args).items() if key not in hidden}
        about = {
            "script": self.args.script,
            "tool_version": TOOL_VERSION,
            "target": self.target,
            "client": self.client,
            "options": options,
        }
        redacted: dict[str, Any] = self.secrets.redact_all(document.as_dict(about))
        return redacted

    def _save(self, path: Path, text: str) -> bool:
        try:
            write_atomically(path, text)
        except OSError as error:
            self.note(f"cannot save {path}: {error.strerror}")
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])
            return False
        return True


def plain(option: Any) -> Any:
    """An option's value as JSON has it; whatever else it is, as it was written."""
    if isinstance(option, (list, tuple)):
        return [plain(each) for each in option]
    return option if option is None or isinstance(option, (bool, int, float)) else str(option)


@contextlib.contextmanager
def run(args: argparse.Namespace) -> Iterator[Run]:
    """Open a run; on leaving, everything is saved and `exit_code` is settled.

    Raises nothing but SystemExit(2): settings that cannot work, before anything is sent.
    """
    open_streams(args.output)
    try:
        this = Run(args)
    except KeyboardInterrupt:  # while a token was awaited on standard input
        raise SystemExit(int(Exit.INTERRUPTED)) from None
    except ModuleNotFoundError as error:
        print(f"{args.script}.py: {missing(error)}", file=sys.stderr)
        raise SystemExit(int(Exit.UNDECIDED)) from None
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, _raise_terminated)
    if previous[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, _raise_interrupted)
    try:
        yield this
    except CannotCheck as error:
        this.stop(Exit.UNDECIDED, str(error))
    except KeyboardInterrupt:
        this.stop(Exit.INTERRUPTED, "interrupted: what was measured until now is saved")
    except Terminated:
        this.stop(Exit.TERMINATED, "terminated: what was measured until now is saved")
    except BrokenPipeError:  # `| head` had enough
        this.stop(Exit.UNDECIDED, "standard output was closed before the end")
    except ModuleNotFoundError as error:
        this.stop(Exit.UNDECIDED, missing(error))
    except Exception as error:  # a traceback is a bug in itself: one line, and exit 3
        if args.debug:
            this.note(traceback.format_exc())
        what = this.secrets.redact(one_line(f"{type(error).__name__}: {error}"))[:300]
        this.stop(Exit.UNDECIDED, f"unexpected {what} (--debug shows where)")
    finally:
        _ignore_signals()
        this.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """A second Ctrl-C does not cost the results."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _raise_interrupted(_number: int, _frame: object) -> NoReturn:
    _ignore_signals()
    raise KeyboardInterrupt


def _raise_terminated(_number: int, _frame: object) -> NoReturn:
    _ignore_signals()
    raise Terminated


def missing(error: ModuleNotFoundError) -> str:
    return f"no module {error.name}: pip install -r requirements.txt"
