"""Wake-on-LAN's magic packet: six 0xFF, the machine's MAC 16 times, perhaps a password.

On loopback it is broadcast to 127.255.255.255, which every socket bound to the port hears, as
every machine of a LAN does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from .process import StartError

BROADCAST = "127.255.255.255"
SYNC = b"\xff" * 6
REPEATS = 16
PASSWORD_BYTES = (0, 6)  # SecureOn


def magic_packet(mac: str) -> bytes:
    return SYNC + mac_bytes(mac) * REPEATS


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def wakes(packet: bytes, mac: str) -> bool:
    """Whether this packet is a magic one for that MAC."""
    magic = magic_packet(mac)
    return packet.startswith(magic) and len(packet) - len(magic) in PASSWORD_BYTES


def broadcast(packet: bytes, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(packet, (BROADCAST, port))


def bind(port: int) -> socket.socket:
    """A UDP socket on a port that others may share; StartError when it cannot be had."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("", port))
    except OSError as error:
        sock.close()
        reason = "in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise StartError(f"UDP port {port}: {reason}, choose another with --wol-port") from None
    return sock


class Listener(asyncio.DatagramProtocol):
    """Calls `heard` for each magic packet with this MAC."""

    def __init__(self, mac: str, heard: Callable[[], None]) -> None:
        self.mac = mac
        self.heard = heard

    def datagram_received(self, data: bytes, addr: object) -> None:
        if wakes(data, self.mac):
            self.heard()

    @classmethod
    async def start(cls, port: int, mac: str, heard: Callable[[], None]) -> None:
        """Listen for as long as the loop runs."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: cls(mac, heard), sock=bind(port))


def free_port() -> int:
    with contextlib.closing(bind(0)) as sock:
        port: int = sock.getsockname()[1]
        return port
