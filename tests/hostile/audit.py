"""Runs a script, and writes down every connection, look-up and process that it begins.

python audit.py LOG SCRIPT ARGUMENT...

LOG gets a JSON list for each: the name of the event (docs.python.org/3/library/audit_events.html)
and the host, address or command. It is written before the event happens, whoever causes it: the
script, a package that it uses, or a package of that.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

TARGETS = {  # which argument of the event says where it goes
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
    "subprocess.Popen": 1,
    "os.system": 0,
    "os.exec": 0,
    "os.posix_spawn": 0,
    "webbrowser.open": 0,
}


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in TARGETS:
            target = arguments[TARGETS[event]]
            os.write(log, json.dumps([event, target], default=str).encode() + b"\n")

    sys.addaudithook(note)
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
