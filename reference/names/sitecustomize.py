"""Gives host names addresses, for a Python program that is started with this folder in PYTHONPATH.

REFERENCE_NAMES="model.test=127.0.0.2,127.0.0.1 slow.test=+2.5,127.0.0.1"

So a name can have several addresses, of which one does not answer, without the rights of an
administrator. A number after a plus sign is how many seconds the look-up of the name takes.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

_find: Any = socket.getaddrinfo


def _read(text: str) -> dict[str, list[str]]:
    pairs = (entry.partition("=") for entry in text.split())
    return {name: addresses.split(",") for name, _, addresses in pairs}


NAMES = _read(os.environ.get("REFERENCE_NAMES", ""))


def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in NAMES or flags & socket.AI_NUMERICHOST:
        return list(_find(host, port, family, type, proto, flags))
    found: list[Any] = []
    for address in NAMES[name]:
        if address.startswith("+"):
            time.sleep(float(address))
            continue
        is_ipv6 = ":" in address
        if family in (0, socket.AF_INET6 if is_ipv6 else socket.AF_INET):
            found += _find(address, port, family, type, proto, flags)
    return found


if NAMES:
    socket.getaddrinfo = getaddrinfo
