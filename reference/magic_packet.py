"""Wake-on-LAN's magic packet: six bytes 0xFF, the machine's MAC 16 times, perhaps a password.

On loopback it is broadcast to 127.255.255.255. Every socket bound to the port receives it there,
as every machine of a LAN does.
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
PASSWORD_BYTES = (0, 6)  # without a password, or with one of 6 bytes ("SecureOn")


def build(mac: str) -> bytes:
    """The packet for a MAC such as 02:00:5e:00:00:01, without a password."""
    return SYNC + bytes.fromhex(mac.replace(":", "")) * REPEATS


def wakes(packet: bytes, mac: str) -> bool:
    """Whether this packet wakes the machine with that MAC."""
    expected = build(mac)
    return packet.startswith(expected) and len(packet) - len(expected) in PASSWORD_BYTES


def broadcast(packet: bytes, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(packet, (BROADCAST, port))


def bind(port: int) -> socket.socket:
    """A UDP socket on a port that others may share. Raises StartError when that fails."""
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
    """Calls `on_packet` for each magic packet with this MAC."""

    def __init__(self, mac: str, on_packet: Callable[[], None]) -> None:
        self.mac = mac
        self.on_packet = on_packet

    def datagram_received(self, data: bytes, addr: object) -> None:
        if wakes(data, self.mac):
            self.on_packet()

    @classmethod
    async def start(cls, port: int, mac: str, on_packet: Callable[[], None]) -> None:
        """Listen as long as the event loop runs."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: cls(mac, on_packet), sock=bind(port))


def free_port() -> int:
    with contextlib.closing(bind(0)) as sock:
        port: int = sock.getsockname()[1]
        return port
