"""One run of one script: its settings, its screen, its result files, and its end.

Whatever happens in a run becomes an exit code and one line, every result file that was begun is
saved, and no credential appears in any of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from livecheck.core.checks import VERDICTS, Check, Exit, worst
from livecheck.core.credentials import CannotCheck, Credentials, Secrets, check_token
from livecheck.core.options import Parser, is_wanted
from livecheck.core.result_file import Document, to_json, write_atomically
from livecheck.core.screen import Screen, open_streams, write_out
from livecheck.core.settings import Deployment, check_url, is_in_clear, read_settings
from livecheck.core.text import one_line

TOOL_VERSION = "0.1.0"


class Terminated(BaseException):
    """Raised on SIGTERM, as KeyboardInterrupt is on SIGINT."""


class Run(Screen):
    """One run of one script: its settings, its screen, its documents, its exit code."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.secrets = Secrets()
        super().__init__(self.secrets.redact, args.output, args.verbose, args.debug)
        self.documents: list[Document] = []
        self.exit_code = Exit.OK
        self.prepared: Any = None  # what the script's own check of its options returned
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
        """Find out before anything is sent whether the results can be saved."""
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
        """Whether --only and --skip leave this check in."""
        return is_wanted(self.args, check)

    def document(self, name: str, main: bool = True) -> Document:
        """Begin a result file. It is saved when the run ends, however the run ends."""
        document = Document(name, self.wants, self.args.strict, main)
        self.documents.append(document)
        return document

    def token(self, role: str | None = None, user: str | None = None) -> str | None:
        """A credential, None where the deployment needs none. Raises CannotCheck.

        The first time that it will cross a network unencrypted, a warning is printed.
        """
        token = self.credentials.token(role, user)
        if token and is_in_clear(self.url) and not self._warned:
            self._warned = True
            self.note(f"warning: the token goes to {self.url} unencrypted: use https")
        return token

    def decide(self, document: Document, *checks: Check) -> None:
        """Add the checks to the document, and show at once those that --only and --skip leave."""
        known = len(document.checks)
        document.add(*checks)
        for check in document.checks[known:]:
            self.say_check(check)

    # the end

    def stop(self, code: Exit, error: str) -> None:
        """End the run early: every unfinished document says why, in one line."""
        error = one_line(error)
        self.note(f"{self.args.script}.py: {error}")
        if all(document.finished for document in self.documents):
            self.document(self.args.script)  # without a document nothing could say why
        for document in self.documents:
            document.stop(code, error)
        self.exit_code = code

    def close(self) -> None:
        """Save every document, print what --output json asks for, and set the exit code."""
        if not self.documents:
            self.document(self.args.script)  # an empty one: nothing was decided
        for document in self.documents:
            document.finish()
        self.exit_code = worst([self.exit_code, *(each.exit_code for each in self.documents)])
        contents = [(each, self._as_dict(each)) for each in self.documents]
        texts = {each.name: to_json(content) for each, content in contents}
        for each in self.documents:
            path = self.args.results / f"{each.name}.json"
            if self._save(path, texts[each.name]) and each.requests:
                self.note(f"saved {path}")
        self._finally(self._say_verdict)
        for name in texts:
            self._save(self.args.results / f"{name}.log", "\n".join(self.lines) + "\n")
        if self.args.output == "json":
            main = [content for each, content in contents if each.main]
            shown = main or [content for _, content in contents]
            text = to_json(shown[0] if len(shown) == 1 else {"levels": shown})
            self._finally(lambda: write_out(text))

    def _finally(self, write: Callable[[], None]) -> None:
        """Write the last lines to stdout. When that fails, the results are saved all the same."""
        try:
            write()
        except BrokenPipeError:
            pass  # the reader has closed the pipe; the files are saved
        except OSError as error:
            self.note(f"cannot write to standard output: {error.strerror}")
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])

    def _say_verdict(self) -> None:
        """The last line of the result says what the exit code means."""
        checks = {id(check): check for each in self.documents for check in each.checks}
        # a check that stands in several documents counts once
        if counts := Counter(check.status for check in checks.values()):
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
    """The value of an option in a form that JSON has; other types as text."""
    if isinstance(option, (list, tuple)):
        return [plain(each) for each in option]
    return option if option is None or isinstance(option, (bool, int, float)) else str(option)


@contextlib.contextmanager
def run(args: argparse.Namespace) -> Iterator[Run]:
    """Open a run. When the block is left, everything is saved and `exit_code` is set.

    Raises nothing but SystemExit: 2 for settings that cannot work, before anything is sent.
    """
    open_streams(args.output)
    this = _open_run(args)
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, _raise_terminated)
    if previous[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, _raise_interrupted)
    try:
        yield this
    except (Exception, KeyboardInterrupt, Terminated) as error:
        this.stop(*reason_of(error, this))
    finally:
        _ignore_signals()
        this.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _open_run(args: argparse.Namespace) -> Run:
    try:
        return Run(args)
    except KeyboardInterrupt:  # while a token was awaited on standard input
        raise SystemExit(int(Exit.INTERRUPTED)) from None
    except ModuleNotFoundError as error:
        print(f"{args.script}.py: {missing(error)}", file=sys.stderr)
        raise SystemExit(int(Exit.UNDECIDED)) from None


def reason_of(error: BaseException, this: Run) -> tuple[Exit, str]:
    """What an exception that ended the run means: its exit code, and one line for it."""
    if isinstance(error, CannotCheck):
        return Exit.UNDECIDED, str(error)
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, "interrupted: what was measured until now is saved"
    if isinstance(error, Terminated):
        return Exit.TERMINATED, "terminated: what was measured until now is saved"
    if isinstance(error, BrokenPipeError):  # as by `| head`
        return Exit.UNDECIDED, "standard output was closed before the end"
    if isinstance(error, ModuleNotFoundError):
        return Exit.UNDECIDED, missing(error)
    this.debug(traceback.format_exc())
    what = this.secrets.redact(one_line(f"{type(error).__name__}: {error}"))[:300]
    return Exit.UNDECIDED, f"unexpected {what} (--debug shows where)"


def _ignore_signals() -> None:
    """From here on a second Ctrl-C cannot prevent the results from being saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _raise_interrupted(_number: int, _frame: object) -> NoReturn:
    _ignore_signals()
    raise KeyboardInterrupt


def _raise_terminated(_number: int, _frame: object) -> NoReturn:
    _ignore_signals()
    raise Terminated


def missing(error: ModuleNotFoundError, file: str = "requirements.txt") -> str:
    """The line for a package that is not installed; `file` names all that are needed."""
    return f"no module {error.name}: pip install -r {file}"
