"""What befalls a Python program that is started with this folder in PYTHONPATH: not the deployment
is at fault, but the machine that the program runs on.

REFERENCE_CANNOT_RUN=0.6   for this share of each tenth of a second neither it nor what it forks can
                           run, as behind other programs on a busy machine
REFERENCE_KILLS_AFTER=3    so many seconds after it has forked them, one of its processes is killed
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from _thread import start_new_thread

PERIOD_S = 0.1
SHARE = float(os.environ.get("REFERENCE_CANNOT_RUN", 0))
KILLS_AFTER_S = float(os.environ.get("REFERENCE_KILLS_AFTER", 0))
sleep = time.sleep  # gevent puts another one in its place


def hold_up() -> None:
    """Sleep in C and keep the interpreter meanwhile: no other thread runs, no processor is used."""
    usleep = ctypes.PyDLL(None).usleep
    while True:
        usleep(int(SHARE * PERIOD_S * 1e6))
        sleep((1 - SHARE) * PERIOD_S)


def start() -> None:
    start_new_thread(hold_up, ())


def kill_later() -> None:
    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, KILLS_AFTER_S)


def kill(*_: object) -> None:
    """The first one that takes the token out of the pipe is killed."""
    with contextlib.suppress(BlockingIOError):
        os.read(token, 1)
        os.kill(os.getpid(), signal.SIGKILL)


if SHARE:
    start()
    os.register_at_fork(after_in_child=start)
if KILLS_AFTER_S:
    token, entrance = os.pipe()
    os.set_blocking(token, False)
    os.write(entrance, b"1")
    os.register_at_fork(after_in_child=kill_later)
