"""Imports modules, then forks a process for each launcher that connects; see `warm_python`.

python server.py LAUNCHER ROOT MODULE...

It ends with its standard input. When a launcher is gone, its process is killed.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import marshal
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

MAX_START_BYTES = 2**20
STREAMS = 3


@dataclass
class Start:
    """How a process is to be started; `streams` become its standard streams."""

    arguments: list[str]
    folder: str
    environment: dict[bytes, bytes]
    streams: array.array[int] = field(default_factory=lambda: array.array("i"))


@dataclass
class Process:
    """A forked process, the connection of its launcher, and a descriptor that tells its end."""

    pid: int
    launcher: socket.socket
    end: int

    def close(self) -> None:
        self.launcher.close()
        os.close(self.end)


class Server:
    def __init__(self, address: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(address)
        self.listener.listen(128)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.processes: dict[int, Process] = {}

    def serve(self) -> Start | None:
        """Serve until standard input ends: None. In a forked process: how it is to go on."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    for process in self.processes.values():
                        os.kill(process.pid, signal.SIGKILL)
                    return None
                if key.fileobj is self.listener:
                    if start := self.fork():
                        return start
                elif key.data in self.processes:
                    self.end(self.processes.pop(key.data))

    def fork(self) -> Start | None:
        """Fork for the next launcher. Only the forked process gets a Start."""
        launcher, _ = self.listener.accept()
        start = receive_start(launcher)
        pid = os.fork()
        if pid == 0:
            launcher.close()
            self.close()
            return start
        for stream in start.streams:
            os.close(stream)
        process = Process(pid, launcher, os.pidfd_open(pid))
        self.processes[pid] = process
        self.selector.register(launcher, selectors.EVENT_READ, pid)
        self.selector.register(process.end, selectors.EVENT_READ, pid)
        with contextlib.suppress(OSError):
            launcher.send(str(pid).encode())
        return None

    def end(self, process: Process) -> None:
        """The process has ended, or its launcher has: then the process is killed."""
        with contextlib.suppress(ProcessLookupError):
            # It has no effect on one that has ended, which is not reaped yet.
            os.kill(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        with contextlib.suppress(OSError):
            code = os.waitstatus_to_exitcode(status)
            process.launcher.send(f"{code} {usage.ru_maxrss}".encode())
        self.selector.unregister(process.launcher)
        self.selector.unregister(process.end)
        process.close()

    def close(self) -> None:
        self.selector.close()
        self.listener.close()
        for process in self.processes.values():
            process.close()


def receive_start(launcher: socket.socket) -> Start:
    space = socket.CMSG_SPACE(STREAMS * array.array("i").itemsize)
    data, ancillary, *_ = launcher.recvmsg(MAX_START_BYTES, space)
    start = Start(*marshal.loads(data))
    start.streams.frombytes(ancillary[0][2])
    return start


def become(start: Start, launcher: str) -> None:
    """Take over what the launcher was started with."""
    os.setsid()
    os.chdir(start.folder)
    os.environ.clear()
    os.environb.update(start.environment)
    for number, stream in enumerate(start.streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.executable = launcher
    for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if (own := Path(folder) / "sitecustomize.py").is_file():  # as at the start of any Python
            runpy.run_path(str(own))


def run(arguments: list[str], root: str) -> None:
    """Run a module (`-m`) or a script."""
    if arguments[0] == "-m":
        name = arguments[1]
        sys.argv, sys.path[0] = arguments[1:], root
        sys.modules.pop(name, None)  # it is run as __main__, and may not be there twice
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def run_and_exit(arguments: list[str], root: str) -> None:
    """As `run`, but then the process ends at once.

    Python's own clean-up of all modules would touch all shared memory and so copy it: this would
    take more time than everything else. What a program itself registered with `atexit` is called.
    """
    code = 1

    def end_at_once() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
        os._exit(code)

    atexit.register(end_at_once)  # as the first one, so it is called last
    try:
        run(arguments, root)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def main() -> None:
    launcher, root, *modules = sys.argv[1:]
    sys.path[0] = root
    for name in modules:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a forked process would lack the other threads"
    server = Server(f"{launcher}.socket")
    print("ready", flush=True)
    # What is there now is never collected: this keeps its memory shared with the processes.
    gc.collect()
    gc.freeze()
    if start := server.serve():
        become(start, launcher)
        run_and_exit(start.arguments, root)


if __name__ == "__main__":
    main()
