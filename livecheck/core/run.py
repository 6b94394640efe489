"""One run of one script: its settings, its screen, its result files, and its end.

Whatever happens in a run becomes an exit code and one line, every result file that was begun is
saved, and no credential appears in any of it.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION, Terminated

import argparse
import contextlib
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from livecheck.core.address import Address, read_address
from livecheck.core.certificate import ClientCertificate, read_client_certificate
from livecheck.core.checks import VERDICTS, Check, Exit, worst
from livecheck.core.cleaning import Cleaner
from livecheck.core.credentials import (
    CannotCheck,
    Credentials,
    NoAccess,
    check_token,
    token_of_stdin,
)
from livecheck.core.exchanges import Noted
from livecheck.core.options import CREDENTIALS, Parser, is_wanted
from livecheck.core.redaction import Secrets
from livecheck.core.result_file import (
    Document,
    json_parts,
    levels_parts,
    try_folder,
    write_atomically,
)
from livecheck.core.screen import Screen, open_streams
from livecheck.core.settings import Deployment, is_in_clear, read_settings
from livecheck.core.text import one_line, plural

TOOL_VERSION = "0.1.0"
PAGE_BYTES = 1 << 16  # of a document that is printed


class Run(Screen):
    """One run of one script: its settings, its screen, its documents, its exit code."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.secrets = Secrets()
        super().__init__(self.secrets.redact, args.output, args.verbose, args.debug)
        self.documents: list[Document] = []
        self.exit_code = Exit.OK
        self.prepared: Any = None  # what the script's own check of its options returned
        self.noted = Noted()  # answers that failed, for checks that name none
        self.has_served = False  # whether the deployment has answered a request with success
        self.has_completed = False  # whether one of these was for a completion or the like
        self.rate_limit_wait_s: float | None = None  # until a reached rate limit may be over
        # checks about all answers together, which are judged when the run ends; and what they are
        # about (`OF_ALL_ANSWERS` in core/checks.py)
        self.late_checks: dict[str, Callable[[], Check | None]] = {}
        self.notes: dict[str, Any] = {}
        self.dialect: Any = None  # how the model's parameters are called: see wire/dialect.py
        self._warned = False
        self._saved: set[str] = set()  # names of files
        self._save_problems: set[str] = set()  # reasons that were told
        try:
            self.look_up = read_settings()
            self.address = self._find_address()
            for public in (self.url, self.args.url, getattr(args, "model", None)):
                if isinstance(public, str):
                    self.secrets.make_public(public)
            self.credentials = self._find_credentials()
            self.certificate = self._find_certificate()
            try_folder(args.results)
        except (ValueError, OSError) as error:
            Parser(prog=f"{args.script}.py").error(self.secrets.redact(str(error)))
        self.target: dict[str, Any] = {"url": self.url, "api_base": None}
        self.target |= {"model": None, "server": None}
        self.client: dict[str, Any] = {
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "clock": None,
        }

    @property
    def url(self) -> str:
        """The URL below which the deployment's own endpoints are, such as /health."""
        return self.address.root

    def _find_address(self) -> Address:
        deployment: Deployment = self.args.deployment
        text = self.args.url
        if text is None:
            text = self.look_up(deployment.url_variable) or deployment.default_url
        if text is None:
            raise ValueError(f"which deployment? give --url or set {deployment.url_variable}")
        return read_address(text)

    def _find_credentials(self) -> Credentials:
        """`--token` > `--token-binary` > the deployment's variables."""
        args, deployment = self.args, self.args.deployment
        token: str | None = args.token
        source = "--token"
        if token == "-":
            token, source = token_of_stdin(), "standard input"
        elif token is None and args.token_binary is None:
            token, source = self.look_up(deployment.token_variable), deployment.token_variable
        binary: str | None = args.token_binary
        if binary is None and deployment.binary_variable:
            binary = self.look_up(deployment.binary_variable)
        if token is not None:
            token = self.secrets.add(check_token(token.strip(), source))
        return Credentials(token, binary, deployment.needs_token, self.secrets)

    def _find_certificate(self) -> ClientCertificate | None:
        """The client certificate. The options and the variables are never mixed: a key belongs to
        its certificate."""
        args, deployment = self.args, self.args.deployment
        names = ("--cert", "--cert-key")
        file, key_file = args.cert, args.cert_key
        if file is None and key_file is None:
            names = (deployment.cert_variable, deployment.cert_key_variable)
            file, key_file = map(self.look_up, names)
        if not file:
            if key_file:
                raise ValueError(f"{names[1]} is given, but no certificate: give {names[0]}")
            return None
        try:
            return read_client_certificate(file, key_file)
        except ValueError as error:
            raise ValueError(f"{names[0]}: {error}") from None

    def wants(self, check: str) -> bool:
        """Whether --only and --skip leave this check in."""
        return is_wanted(self.args, check)

    def document(self, name: str, main: bool = True) -> Document:
        """Begin a result file. It is saved when the run ends, however the run ends."""
        document = Document(name, self.wants, self.args.strict, main, self.noted)
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

    def debug_trace(self, error: BaseException) -> None:
        """The traceback for --debug: only our own line ends are line ends."""
        import traceback

        for part in traceback.format_exception(error):
            for line in part.rstrip().split("\n") if part.startswith("  File ") else [part.strip()]:
                self.debug(line)

    # the end

    def end(self, error: BaseException | None) -> None:
        """Save everything, and set the exit code. `error` ended the run early."""
        if error is not None:
            if INTERRUPTION.first is not None:  # whatever a library has made of it
                error = INTERRUPTION.exception()
            self.stop(*reason_of(error, self), has_no_access=isinstance(error, NoAccess))
        self.close()

    def stop(self, code: Exit, error: str, has_no_access: bool = False) -> None:
        """End the run early: every unfinished document says why, in one line."""
        error = one_line(error)
        self.note_always(f"{self.args.script}.py: {error}")
        if all(document.finished for document in self.documents):
            self.document(self.args.script)  # without a document nothing could say why
        for document in self.documents:
            document.stop(code, error)
            document.has_no_access = has_no_access
        self.exit_code = code

    def close(self) -> None:
        """Save every document, print what --output json asks for, and set the exit code.

        Whatever fails in here is one line and exit 3; all files that can be saved are saved.
        """
        self.is_ending = True
        if not self.documents:
            self.document(self.args.script)  # an empty one: nothing was decided
        for document in self.documents:
            document.finish()
        with self._trouble_is_told(*self.documents):
            self._judge_all_answers()
        if self.stdout_problem:
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])
        self.exit_code = worst([self.exit_code, *(each.run_code for each in self.documents)])
        for document in self.documents:
            self._save_document(document)
        for each in self.documents:
            if each.requests and f"{each.name}.json" in self._saved:
                self.note_always(f"saved {self.args.results / each.name}.json")
        # with its last line already, which is shown after it: it may be that no log can be saved
        log = "\n".join([*self.lines, *self._verdict()]) + "\n"
        self._save({f"{each.name}.log": log for each in self.documents})
        for line in self._verdict():
            self.say_always(line)
        if self.args.output == "json":
            self._print_documents()

    def _save_document(self, document: Document) -> None:
        """Save it piece by piece: it may have 50 MB. If it cannot be made, less of it is saved."""
        name = f"{document.name}.json"

        def parts() -> Iterator[bytes]:
            with self._trouble_is_told(document):
                yield from json_parts(self._as_dict(document))
                return
            raise Unmade

        try:
            self._save({name: parts()})
        except Unmade:
            document.metrics, document.requests = {}, []
            self._save({name: json_parts(self._as_dict(document))})

    def _print_documents(self) -> None:
        """Print the content of the files, made once more."""
        main = [each for each in self.documents if each.main] or self.documents
        contents = map(self._as_dict, main)
        with self._trouble_is_told():
            parts = levels_parts(contents) if len(main) > 1 else json_parts(next(contents))
            for text in in_pages(parts):
                self.write_out(text)
        if self.stdout_problem:
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])

    def _judge_all_answers(self) -> None:
        """The checks that every script has, in every document."""
        found = [check for judge in self.late_checks.values() if (check := judge())]
        for document in self.documents:
            document.add(*found)
        for check in found:
            if self.wants(check.name):
                self.say_check(check)

    @contextlib.contextmanager
    def _trouble_is_told(self, *documents: Document) -> Iterator[None]:
        """What fails in the block is one line, and exit 3 for the run and for these documents."""
        try:
            yield
        except Exception as error:
            code, line = reason_of(error, self)
            self.note_always(f"{self.args.script}.py: {line}")
            for document in documents:
                document.spoil(code, line)
            self.exit_code = worst([self.exit_code, code])

    def _verdict(self) -> list[str]:
        """The last line of the result, which says what the exit code means; none without checks."""
        checks = {id(check): check for each in self.documents for check in each.checks}
        # a check that stands in several documents counts once
        counts = Counter(check.status for check in checks.values())
        parts = ", ".join(f"{count} {status.value}" for status, count in counts.items())
        word = VERDICTS[self.exit_code].upper()
        return [f"{word} (exit {int(self.exit_code)}): {parts}"] if counts else []

    def _as_dict(self, document: Document) -> dict[str, Any]:
        left_out = {"deployment", "script", "typed", "plan", "estimate"} | CREDENTIALS
        options = {k: plain(value) for k, value in vars(self.args).items() if k not in left_out}
        about = {
            "script": self.args.script,
            "tool_version": TOOL_VERSION,
            "target": self.target,
            "client": self.client,
            "command": self._command(),
            "options": options,
            "rate_limit_wait_s": self.rate_limit_wait_s,
        }
        return Cleaner(self.secrets).document(document.as_dict(about))

    def _command(self) -> str:
        """The line that repeats this run, without a credential, --only and --skip."""
        typed = getattr(self.args, "typed", ())
        return shlex.join(["python3", f"{self.args.script}.py", "--url", self.url, *typed])

    def _save(self, contents: Mapping[str, str | Iterable[bytes]]) -> None:
        """Save these files. Those that cannot be saved are told in one line for each reason."""
        failed: dict[str, list[str]] = {}
        for name, content in contents.items():
            try:
                write_atomically(self.args.results / name, content)
                self._saved.add(name)
            except Unmade:
                raise
            except Exception as error:
                reason = error.strerror if isinstance(error, OSError) else type(error).__name__
                failed.setdefault(reason or "unknown error", []).append(name)
        for reason, names in failed.items():
            self.exit_code = worst([self.exit_code, Exit.UNDECIDED])
            if reason not in self._save_problems:
                self._save_problems.add(reason)
                more = f" and {plural(len(names) - 1, 'other file')}" if len(names) > 1 else ""
                self.note_always(f"cannot save {self.args.results / names[0]}{more}: {reason}")


class Unmade(Exception):
    """The content of a file cannot be made; that was told."""


def in_pages(parts: Iterable[bytes]) -> Iterator[str]:
    """The parts as text, many of them together."""
    page = bytearray()
    for part in parts:
        page += part
        if len(page) > PAGE_BYTES:
            yield page.decode()
            page.clear()
    yield page.decode()


def plain(option: Any) -> Any:
    """The value of an option in a form that JSON has; other types as text."""
    if isinstance(option, (list, tuple)):
        return [plain(each) for each in option]
    return option if option is None or isinstance(option, (bool, int, float)) else str(option)


@contextlib.contextmanager
def run(args: argparse.Namespace) -> Iterator[Run]:
    """Open a run. When the block is left, everything is saved and `exit_code` is set.

    Raises nothing but SystemExit: 2 for settings that cannot work, before anything is sent. Signals
    are left alone: `run_to_end` is for commands.
    """
    this = open_run(args)
    error: BaseException | None = None
    try:
        yield this
    except (Exception, KeyboardInterrupt, Terminated) as caught:
        error = caught
    finally:
        this.end(error)


def run_to_end(args: argparse.Namespace, measure: Callable[[Run], object], prepared: Any) -> Exit:
    """Open a run, measure, and save everything, also when a signal comes. Returns the exit code.

    Raises nothing but SystemExit, as `run`. `prepared`: see `Run.prepared`.
    """
    this = open_run(args)
    this.prepared = prepared
    previous = {} if INTERRUPTION.is_handled else INTERRUPTION.begin()
    try:
        this.end(INTERRUPTION.attempt(lambda: measure(this)))
    finally:
        if previous:  # not in a process of its own
            INTERRUPTION.end(previous)
    return this.exit_code


def open_run(args: argparse.Namespace) -> Run:
    """Raises SystemExit for settings that cannot work."""
    open_streams(args.output)
    try:
        return Run(args)
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
    if isinstance(error, ModuleNotFoundError):
        return Exit.UNDECIDED, missing(error)
    this.debug_trace(error)
    what = this.secrets.redact(one_line(f"{type(error).__name__}: {error}"))[:300]
    return Exit.UNDECIDED, f"unexpected {what} (--debug shows where)"


def missing(error: ModuleNotFoundError, file: str = "requirements.txt") -> str:
    """The line for a package that is not installed; `file` names all that are needed."""
    return f"no module {error.name}: pip install -r {file}"
