"""SIGINT (Ctrl-C), SIGTERM and SIGHUP, from the first line of a command to its last.

Every command imports this module before any other, and ends through `end_with`. Three phases:

- At first, as long as there is nothing to save, a signal ends the process at once: one line on
  stderr, exit code 130 (143 for the others), whatever is being imported at that moment.
- While a run measures (`attempt`), the first signal raises KeyboardInterrupt (Terminated) in it.
- While the run saves what it has, and after that, signals change nothing.

The handlers stay installed all the time. To ignore the signals instead would be simpler, but
CPython prints "ignored due to race condition" when one of them has just arrived.

What this module imports is imported before any signal is handled, so it is only what the
interpreter has in itself. (`signal` and `typing` would take some milliseconds.)
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn
else:
    import _signal as signal

# SIGHUP comes when the terminal is closed or its connection breaks: the usual end of a long run.
HANGUP = getattr(signal, "SIGHUP", None)
SIGNALS = (signal.SIGINT, signal.SIGTERM, *(() if HANGUP is None else (HANGUP,)))
# The exception is raised again if the run still measures after this time: something may have
# swallowed it. To close connections and to wait for threads takes less.
PATIENCE_S = 5.0
SOON_S = 0.02
EARLY, MEASURING, SAVING = "early", "measuring", "saving"


class Terminated(BaseException):
    """Raised on SIGTERM and SIGHUP, as KeyboardInterrupt is on SIGINT."""


class Interruption:
    """What has become of the signals of this process: there is one for each process, as there is
    one handler for each signal."""

    def __init__(self) -> None:
        self.phase = EARLY
        self.first: int | None = None  # the first signal that came
        self.is_handled = False  # whether the handlers are installed
        self._is_raised = False  # whether the exception is on its way
        self._postponed = 0  # how many callers want a signal to wait

    def begin(self) -> dict[int, Any]:
        """Install the handlers. Returns those that were there before.

        A shell starts a background job with SIGINT ignored, `nohup` a command with SIGHUP: so they
        stay.
        """
        previous: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in previous.items():
            if number == signal.SIGTERM or handler is not signal.SIG_IGN:
                signal.signal(number, self._arrived)
        if hasattr(signal, "SIGALRM"):
            previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._look_again)
        self.phase, self.first = EARLY, None
        self._is_raised, self._postponed = False, 0
        self.is_handled = True
        return previous

    def forked(self) -> None:
        """In a process that was just forked: its signals change nothing outside of `attempt`."""
        self.phase, self.first = SAVING, None
        self._is_raised, self._postponed = False, 0

    def attempt(self, work: Callable[[], object]) -> BaseException | None:
        """Do the work, which a signal interrupts. Returns what ended it early, None if nothing did.

        An exception may be raised between any two instructions, also in an `except` or `finally`
        clause. So it is raised only where this function is sure to catch it: inside `_do`.
        """
        self.phase = MEASURING
        try:
            self._do(work)
        except BaseException as error:
            return error
        finally:
            self.phase = SAVING
        return None

    def _do(self, work: Callable[[], object]) -> None:
        if self.first is not None:  # it came before the handler could raise in here
            raise self.exception()
        work()
        if self.first is not None:  # and was swallowed
            raise self.exception()

    def end(self, previous: dict[int, Any]) -> None:
        """The handlers are again those that `begin` has found."""
        self._set_alarm(0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        self.is_handled = False

    def postpone(self) -> None:
        """Until `resume`, a signal waits: something must not be left half done."""
        self._postponed += 1

    def resume(self) -> None:
        self._postponed -= 1
        if self.first is not None and self.phase is EARLY and not self._postponed:
            leave(self.first)

    def swallowed(self, error: BaseException | None) -> bool:
        """Whether it is our own exception, which Python could not pass on. It is raised again."""
        if not isinstance(error, (KeyboardInterrupt, Terminated)):
            return False
        self._set_alarm(SOON_S)
        return True

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self.first is None and self.phase is not SAVING:
            self.first = number
        if self.phase is EARLY and not self._postponed:
            leave(number)
        if self.phase is MEASURING and not self._is_raised:
            self._interrupt(frame)

    def _look_again(self, _number: int, frame: FrameType | None) -> None:
        if self.phase is MEASURING and self.first is not None:
            self._interrupt(frame)

    def _interrupt(self, frame: FrameType | None) -> None:
        """Raise the exception if it is sure to be caught there, else try again soon."""
        while frame and frame.f_code is not Interruption._do.__code__:
            frame = frame.f_back
        if frame is None or self._postponed:
            self._set_alarm(SOON_S)
            return
        self._is_raised = True
        self._set_alarm(PATIENCE_S)
        raise self.exception()

    def exception(self) -> BaseException:
        """What the first signal raises."""
        return KeyboardInterrupt() if self.first == signal.SIGINT else Terminated()

    def _set_alarm(self, after_s: float) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, after_s)


INTERRUPTION = Interruption()


def exit_code_of(number: int) -> int:
    """The exit code of a command that this signal has ended: a hang-up counts as a SIGTERM."""
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def leave(number: int) -> NoReturn:
    """End the process at once, because of this signal, with one line."""
    word = "interrupted" if number == signal.SIGINT else "terminated"
    if sys.stderr is not None:
        try:
            os.write(2, f"{os.path.basename(sys.argv[0])}: {word}\n".encode("utf-8", "replace"))
        except OSError:  # nobody reads it
            pass
    os._exit(exit_code_of(number))


def end_with(main: Callable[[], int]) -> NoReturn:
    """The last line of every command: call `main`, and end the process with its exit code.

    The process ends at once, because nothing may change the exit code any more: no second signal,
    no thread that does not end, no stream that cannot be written to.
    """
    if not INTERRUPTION.is_handled:
        begin_command()
    try:
        code: object = main()
    except SystemExit as end:  # --help, and mistakes on the command line
        code = end.code
    INTERRUPTION.phase = SAVING
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # nobody reads it, or there is none; whether that matters is decided by now
    os._exit(code if isinstance(code, int) else int(code is not None))


def begin_command() -> None:
    """From here on a signal never shows a trace, and the exit codes of other programs are known.

    Where SIGCHLD is ignored, as in a shell after `trap '' CHLD`, the system keeps no exit codes,
    and Python takes each of them for 0.
    """
    INTERRUPTION.begin()
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    other = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not INTERRUPTION.swallowed(unraisable.exc_value):
            other(unraisable)

    sys.unraisablehook = hook


def is_command() -> bool:
    """Whether this process is one of the commands in the folder above `livecheck/`.

    In all other processes that import them, tests above all, the handlers are left alone.
    """
    started = getattr(sys.modules.get("__main__"), "__file__", None)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return bool(started) and os.path.dirname(os.path.abspath(str(started))) == root


if is_command():
    begin_command()
