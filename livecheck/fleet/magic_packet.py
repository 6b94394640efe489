"""Wake-on-LAN's magic packet: what one looks like, and which ones are sent on this network.

Six 0xFF, then the machine's MAC address sixteen times, then perhaps a SecureOn password (AMD
publication 20213, "Magic Packet Technology"). Network cards find this anywhere in a frame; senders
put nothing else into the datagram.
"""

from __future__ import annotations

import errno
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import quoted
from livecheck.core.late_pattern import late_pattern

PORT = 9
SYNC = b"\xff" * 6
REPEATS = 16
SIZE = len(SYNC) + 6 * REPEATS
PASSWORD_SIZES = (0, 4, 6)  # 0: there is no password
NO_MACHINES = (b"\x00" * 6, b"\xff" * 6)  # MACs that no machine has
MAX_DATAGRAM = 65536  # bytes
SEARCHED_BYTES = 9216  # of a datagram: no frame is longer, and network cards look into one
# A sender that floods the port must not fill the memory, nor hide the packets for other machines.
MAX_KEPT, MAX_OF_MAC = 2000, 1000  # packets in all, and for one MAC address
MAX_NAMED = 20  # MAC addresses in a result file
TICK_S = 0.2  # how long it takes to stop listening
JOIN_S = 1.0  # it is not waited for longer than this
# It must not keep the program from reading its answers either: of each window, datagrams get this
# much time, which is enough for 30,000 in a second. What comes above that waits, or gets lost.
WINDOW_S, WORK_S = 0.05, 0.01
RECEIVE_S = 3e-6  # to receive one
WHOLE = late_pattern(rb"\xff{6}(.{6})\1{15}", re.DOTALL)
MAC = late_pattern(r"[0-9a-f]{12}|[0-9a-f]{4}(\.[0-9a-f]{4}){2}|[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
# Linux shares a port by SO_REUSEADDR alone, and with SO_REUSEPORT it would split unicast packets
# between the listeners; macOS and the BSDs need both options; Windows does not have SO_REUSEPORT.
SHARE_PORT = (
    ("SO_REUSEADDR",) if sys.platform in ("linux", "win32") else ("SO_REUSEADDR", "SO_REUSEPORT")
)


@dataclass(frozen=True)
class Packet:
    """A datagram that is a magic packet, or was meant to be one.

    mac: of the machine that it wakes; None: it wakes none. problem: why it wakes none. oddity: why
    some network cards or switches may ignore it. The password itself is not kept.
    """

    size: int  # bytes
    mac: str | None = None
    has_password: bool = False
    problem: str | None = None
    oddity: str | None = None


@dataclass(frozen=True)
class Heard:
    """A packet that was heard, when (on the clock of perf_counter_ns), and its sender's address."""

    at_ns: int
    sender: str
    packet: Packet

    @property
    def words(self) -> str:
        password = " with a password" if self.packet.has_password else ""
        return f"{self.packet.size} bytes{password} from {self.sender}"

    def record(self, start_ns: int) -> dict[str, Any]:
        """The packet as it is saved; its time counts from `start_ns`."""
        at_s = round((self.at_ns - start_ns) / 1e9, 4)
        return {"kind": "packet", "at_s": at_s, "sender": self.sender, **vars(self.packet)}


def parse_mac(text: str) -> str:
    """A MAC address as 02:00:5e:00:00:01, from any of the usual spellings. Raises ValueError."""
    plain = text.strip().lower()
    if not MAC.fullmatch(plain):
        raise ValueError(f"{quoted(text)} is not a MAC address: write it as 02:00:5e:00:00:01")
    return bytes.fromhex(re.sub("[:.-]", "", plain)).hex(":")


def parse(payload: bytes) -> Packet | None:
    """What a datagram is to a sleeping machine; None when it does not resemble a magic packet."""
    size, payload = len(payload), payload[:SEARCHED_BYTES]
    if found := WHOLE.search(payload):
        return _whole_packet(size, found.start(), found[1])
    if SYNC in payload or payload[:2] == SYNC[:2] or size - SIZE in PASSWORD_SIZES:
        return Packet(size, problem=_problem(payload))
    return None


def _whole_packet(size: int, start: int, mac: bytes) -> Packet:
    if mac in NO_MACHINES:
        return Packet(size, problem=f"no machine has its MAC address {mac.hex(':')}")
    after = size - start - SIZE
    if start:
        return Packet(size, mac.hex(":"), oddity=f"it begins after {start} other bytes")
    if after not in PASSWORD_SIZES:
        oddity = f"{after} more bytes follow, but a password has 4 or 6"
        return Packet(size, mac.hex(":"), oddity=oddity)
    return Packet(size, mac.hex(":"), has_password=after > 0)


def _problem(payload: bytes) -> str:
    """Where it differs from a magic packet."""
    start = payload.find(SYNC)
    if start < 0:
        count = len(payload) - len(payload.lstrip(b"\xff"))
        return f"it begins with {count} bytes 0xFF, not 6"
    rest = payload[start + 6 :]
    mac = rest[:6]
    if len(mac) < 6:
        return "no MAC address follows the six 0xFF"
    count = next(n for n in range(REPEATS + 1) if not rest.startswith(mac * (n + 1)))
    return f"it has the MAC address {mac.hex(':')} {count} times, not {REPEATS} times"


# --- listen


class Listener:
    """Hears magic packets on a UDP port, in a thread, from `with` to its end.

    It shares the port with other programs that share it as well. `count`: all packets, also those
    that were not kept; `forgotten`: those before the last call of `forget`; `other_datagrams`: what
    was something else; `has_missed`: since then more came than can be read, or than is kept. Raises
    OSError when the port cannot be used.
    """

    def __init__(self, port: int = PORT):
        self.heard: list[Heard] = []
        self.count = self.forgotten = self.other_datagrams = 0
        self.has_missed = False
        self._kept: Counter[str | None] = Counter()  # by MAC address
        self._sock = open_socket(port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(JOIN_S)
        self._sock.close()

    def forget(self) -> None:
        """Drop the packets that came until now, to have room for those that follow."""
        self._kept = Counter()
        self.heard, self.forgotten, self.has_missed = [], self.count, False

    def _listen(self) -> None:
        window_s, worked_s = time.perf_counter(), 0.0
        while not self._over.is_set():
            try:
                payload, sender = self._sock.recvfrom(MAX_DATAGRAM)
            except TimeoutError:
                continue
            except OSError:  # Windows reports here that an earlier datagram was refused
                self._over.wait(TICK_S)
                continue
            begun_s = time.perf_counter()
            self._take(parse(payload), sender[0])
            if begun_s - window_s >= WINDOW_S:
                window_s, worked_s = begun_s, 0.0
            worked_s += time.perf_counter() - begun_s + RECEIVE_S
            if worked_s >= WORK_S:
                self.has_missed = True
                self._over.wait(window_s + WINDOW_S - begun_s)

    def _take(self, packet: Packet | None, sender: str) -> None:
        if packet is None:
            self.other_datagrams += 1
            return
        self.count += 1
        if self._kept[packet.mac] >= MAX_OF_MAC or len(self.heard) >= MAX_KEPT:
            self.has_missed = True
            return
        self._kept[packet.mac] += 1
        self.heard.append(Heard(time.perf_counter_ns(), sender, packet))


def open_socket(port: int) -> socket.socket:
    """A UDP socket that hears broadcasts on this port. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for option in (*SHARE_PORT, "SO_BROADCAST"):
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        sock.bind(("", port))
        sock.settimeout(TICK_S)
    except OSError:
        sock.close()
        raise
    return sock


def listen(port: int) -> Listener:
    """A listener on this port. CannotCheck says why the port cannot be used, and what to do."""
    try:
        return Listener(port)
    except OSError as error:
        hint = "does another program use the port without sharing it?"
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "ports below 1024 need root: use sudo, or "
            hint += f"sysctl net.ipv4.ip_unprivileged_port_start={port}"
        reason = (error.strerror or str(error)).lower()
        raise CannotCheck(f"cannot listen on UDP port {port} ({reason}): {hint}") from None


# --- count


@dataclass(frozen=True)
class WakePackets:
    """The packets that were heard since a request was sent, and the MACs of the machines that it
    should wake. An empty `targets` means that these are not known: then any MAC is right."""

    heard: Sequence[Heard]
    targets: Collection[str]

    @property
    def well_formed(self) -> list[Heard]:
        return [each for each in self.heard if each.packet.mac]

    @property
    def malformed(self) -> list[Heard]:
        return [each for each in self.heard if each.packet.problem]

    @property
    def for_targets(self) -> list[Heard]:
        """Well-formed packets for a machine that should wake."""
        targets = self.targets
        return [each for each in self.well_formed if not targets or each.packet.mac in targets]

    def sent_together(self, within_s: float) -> Counter[str]:
        """How many came for each target within this time of the first one for it."""
        first_ns: dict[str | None, int] = {}
        for each in self.for_targets:
            first_ns.setdefault(each.packet.mac, each.at_ns)
        within_ns = within_s * 1e9
        return by_mac(e for e in self.for_targets if e.at_ns <= first_ns[e.packet.mac] + within_ns)


def named_counts(packets: Iterable[Heard]) -> dict[str, int]:
    """The same for a result file: of the most frequent ones."""
    return dict(by_mac(packets).most_common(MAX_NAMED))


def by_mac(packets: Iterable[Heard]) -> Counter[str]:
    return Counter(each.packet.mac for each in packets if each.packet.mac)
