"""Wake-on-LAN's magic packet: what one looks like, and which ones pass by on this network.

Six 0xFF, then the machine's MAC sixteen times, then perhaps a SecureOn password (AMD publication
20213, "Magic Packet Technology"). Cards find it anywhere in a frame; senders put nothing else in.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from dataclasses import dataclass

PORT = 9
SYNC = b"\xff" * 6
REPEATS = 16
SIZE = len(SYNC) + 6 * REPEATS
PASSWORDS = (0, 4, 6)  # bytes of a password, if there is one
NOBODYS = (b"\x00" * 6, b"\xff" * 6)
LONGEST = 65536  # bytes of a datagram
KEPT = 1000  # packets; whoever floods the port shall not fill the memory
TICK_S = 0.2  # how long it takes to stop listening
MAC = re.compile(r"[0-9a-f]{12}|[0-9a-f]{4}(\.[0-9a-f]{4}){2}|[0-9a-f]{2}([:-][0-9a-f]{2}){5}")


@dataclass(frozen=True)
class Packet:
    """A datagram that is a magic packet, or was meant to be one.

    mac: whom it wakes, None when nobody. problem: why it wakes nobody. oddity: why some cards or
    switches may not take it, though it is one. A password is not kept: it is one.
    """

    size: int
    mac: str | None = None
    has_password: bool = False
    problem: str | None = None
    oddity: str | None = None


@dataclass(frozen=True)
class Heard:
    """A packet that came, when (perf_counter_ns) and from which address."""

    at_ns: int
    sender: str
    packet: Packet


def parse_mac(text: str) -> str:
    """A MAC as 02:00:5e:00:00:01, from any of the usual spellings. ValueError: it is none."""
    plain = text.strip().lower()
    if not MAC.fullmatch(plain):
        raise ValueError("no MAC address: write 02:00:5e:00:00:01")
    return spell(bytes.fromhex(re.sub("[:.-]", "", plain)))


def spell(mac: bytes) -> str:
    return mac.hex(":")


def parse(payload: bytes) -> Packet | None:
    """What a datagram is to a sleeping machine; None for one that has nothing of a magic packet."""
    size, start = len(payload), payload.find(SYNC)
    while start >= 0:
        mac = payload[start + 6 : start + 12]
        if len(mac) == 6 and payload.startswith(mac * REPEATS, start + 6):
            return _magic(size, start, mac)
        start = payload.find(SYNC, start + 1)
    if SYNC in payload or payload[:2] == SYNC[:2] or size - SIZE in PASSWORDS:
        return Packet(size, problem=_problem(payload))
    return None


def _magic(size: int, start: int, mac: bytes) -> Packet:
    if mac in NOBODYS:
        return Packet(size, problem=f"it is for {spell(mac)}, which is no machine's MAC")
    after = size - start - SIZE
    if start:
        return Packet(size, spell(mac), oddity=f"it begins after {start} other bytes")
    if after not in PASSWORDS:
        return Packet(size, spell(mac), oddity=f"{after} more bytes follow, a password has 4 or 6")
    return Packet(size, spell(mac), has_password=after > 0)


def _problem(payload: bytes) -> str:
    """Where it stops being a magic packet."""
    start = payload.find(SYNC)
    if start < 0:
        count = len(payload) - len(payload.lstrip(b"\xff"))
        return f"{count} bytes 0xFF at its start, not 6"
    rest = payload[start + 6 :]
    mac = rest[:6]
    if len(mac) < 6:
        return "no MAC follows the six 0xFF"
    count = next(n for n in range(REPEATS + 1) if not rest.startswith(mac * (n + 1)))
    return f"{spell(mac)} stands there {count} times, not {REPEATS}"


class Listener:
    """Hears magic packets on a UDP port, in a thread, from `with` to its end.

    It shares the port with others that do the same. `others` counts the datagrams that were
    something else, `count` all packets, `earlier` those that were forgotten. OSError when the port
    cannot be had.
    """

    def __init__(self, port: int = PORT):
        self.port, self.others, self.count, self.earlier = port, 0, 0, 0
        self.heard: list[Heard] = []
        self._over = threading.Event()

    def __enter__(self) -> Listener:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            for option in ("SO_REUSEADDR", "SO_BROADCAST", *_REUSE_PORT):
                self._sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
            self._sock.bind(("", self.port))
            self._sock.settimeout(TICK_S)
        except OSError:
            self._sock.close()
            raise
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def forget(self) -> None:
        """Drop what came until now but its number, so that there is room for what comes."""
        self.heard, self.earlier = [], self.count

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._sock.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                payload, sender = self._sock.recvfrom(LONGEST)
            except TimeoutError:
                continue
            except OSError:  # Windows reports there that an earlier datagram was refused
                time.sleep(TICK_S)
                continue
            packet = parse(payload)
            if packet is None:
                self.others += 1
                continue
            self.count += 1
            if len(self.heard) < KEPT:
                self.heard.append(Heard(time.perf_counter_ns(), sender[0], packet))


# elsewhere than on Linux it takes this, too, to share a port; there it would split unicast packets
_REUSE_PORT = ("SO_REUSEPORT",) if sys.platform != "linux" and sys.platform != "win32" else ()
