"""What a magic packet is, what is wrong with those that are not, and hearing them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from helpers.instrument import wait_until
from helpers.wake import DESK, NAS, TOWER, heard
from hypothesis import given
from hypothesis import strategies as st

from livecheck.fleet import magic_packet
from livecheck.fleet.magic_packet import Heard, Packet, WakePackets
from reference.magic_packet import BROADCAST

GOOD = bytes.fromhex(DESK.replace(":", ""))
WHOLE = magic_packet.SYNC + GOOD * 16


@pytest.mark.parametrize("password", [b"", b"\x01\x02\x03\x04", b"secret"])
def test_a_magic_packet_is_read(password: bytes) -> None:
    found = magic_packet.parse(WHOLE + password)
    assert found == Packet(len(WHOLE + password), DESK, has_password=bool(password))


@pytest.mark.parametrize(
    ("payload", "mac", "words"),
    [
        (b"\x00" * 14 + WHOLE, DESK, "begins after 14"),
        (WHOLE + bytes(42), DESK, "42 more bytes"),
        (WHOLE[:-6], None, "15 times"),
        (magic_packet.SYNC + GOOD, None, "1 times"),
        (magic_packet.SYNC + b"ab", None, "no MAC"),
        (b"\xff" * 5 + GOOD * 16, None, "5 bytes 0xFF"),
        (magic_packet.SYNC + DESK.encode() * 16, None, "times, not 16"),
        (bytes(102), None, "0 bytes 0xFF"),
        (magic_packet.SYNC + bytes(96), None, "no machine has its MAC"),
        (b"\xff" * 102, None, "no machine has its MAC"),
    ],
)
def test_what_is_wrong_with_a_packet_is_said(payload: bytes, mac: str | None, words: str) -> None:
    found = magic_packet.parse(payload)
    assert found and found.mac == mac
    assert words in f"{found.problem} {found.oddity}"
    assert bool(found.problem) != bool(mac)


def test_other_datagrams_are_none() -> None:
    assert [magic_packet.parse(each) for each in (b"", b"hello", b"\xff", bytes(500))] == [None] * 4


@given(st.binary(min_size=6, max_size=6).filter(lambda mac: mac not in magic_packet.NO_MACHINES))
def test_every_mac_is_found_even_one_that_looks_like_the_beginning(mac: bytes) -> None:
    found = magic_packet.parse(magic_packet.SYNC + mac * 16)
    assert found and found.problem is None
    assert found.mac == mac.hex(":")


@given(st.binary(max_size=300) | st.binary(max_size=120).map(lambda rest: magic_packet.SYNC + rest))
def test_no_datagram_is_too_strange(payload: bytes) -> None:
    found = magic_packet.parse(payload)
    assert found is None or bool(found.mac) != bool(found.problem)


@pytest.mark.parametrize("text", [DESK, "02-00-5E-00-00-01", "0200.5e00.0001", "02005E000001"])
def test_a_mac_is_read_in_its_usual_spellings(text: str) -> None:
    assert magic_packet.parse_mac(text) == DESK


def test_two_listeners_share_a_port_and_both_hear_a_broadcast() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    with magic_packet.listen(port) as one, magic_packet.listen(port) as other:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            before_ns = time.perf_counter_ns()
            for payload in (WHOLE, b"something else"):
                sock.sendto(payload, (BROADCAST, port))
        deadline = time.monotonic() + 5
        while not (one.other_datagrams and other.other_datagrams):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for listener in (one, other):
        (found,) = listener.heard
        assert (found.packet.mac, found.sender) == (DESK, "127.0.0.1")
        assert listener.other_datagrams == 1
        assert before_ns < found.at_ns < before_ns + 5e9


def test_packets_that_were_forgotten_leave_room() -> None:
    with magic_packet.listen(0) as listener:
        listener.heard, listener.count = [Heard(0, "x", Packet(102, NAS))] * 1000, 1200
        listener.forget()
        assert (listener.heard, listener.forgotten) == ([], 1200)


def test_packets_for_one_machine_are_counted_from_the_first_one_for_it() -> None:
    packets = heard(10.0, 10.9, 11.1) + heard(10.5, 11.4, mac=TOWER) + heard(10.0, mac=NAS)
    counted = WakePackets(packets, {DESK, TOWER}).sent_together(within_s=1.0)
    assert counted == {DESK: 2, TOWER: 2}


def test_where_nobody_knows_whom_to_wake_any_machine_is_right() -> None:
    malformed = Heard(0, "x", Packet(96, problem="too short"))
    packets = WakePackets([*heard(10.0, mac=NAS), malformed], set())
    assert packets.for_targets == packets.well_formed == heard(10.0, mac=NAS)
    assert packets.malformed == [malformed]


FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
data = bytes.fromhex(sys.argv[2])
while True:
    sock.sendto(data, ("127.0.0.1", int(sys.argv[1])))
"""


@contextlib.contextmanager
def flood(port: int, payload: bytes) -> Iterator[None]:
    """As many of these datagrams as another process can send."""
    command = [sys.executable, "-c", FLOOD, str(port), payload.hex()]
    with subprocess.Popen(command) as sender:
        try:
            yield
        finally:
            sender.kill()


def worked_s(seconds: float) -> float:
    """How long this program works in so many seconds in which it only waits."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


@pytest.mark.parametrize(
    "payload",
    [
        WHOLE,
        b"no packet",
        (b"\xff" * 101 + b"\0") * 80,  # sixteen repeats nearly everywhere
        bytes(8000),
    ],
    ids=["packets", "others", "nearly packets", "zeros"],
)
def test_a_flood_of_datagrams_takes_little_time_and_memory(payload: bytes) -> None:
    with magic_packet.listen(0) as listener, flood(listener._sock.getsockname()[1], payload):
        assert wait_until(lambda: listener.has_missed)
        assert worked_s(1.0) < 0.6  # of one processor; 0.2 where nothing else runs
        assert len(listener.heard) <= magic_packet.MAX_OF_MAC
        assert listener.has_missed
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 2.0


def test_a_flood_for_one_machine_does_not_hide_the_packet_for_another() -> None:
    with magic_packet.listen(0) as listener:
        for mac in (*[GOOD] * (magic_packet.MAX_OF_MAC + 5), bytes(5) + b"\1"):
            listener._take(magic_packet.parse(magic_packet.SYNC + mac * 16), "192.0.2.7")
        assert listener.heard[-1].packet.mac == "00:00:00:00:00:01"
        assert listener.has_missed
        listener.forget()
        assert not listener.has_missed and not listener.heard


@pytest.mark.parametrize("size", [0, 1, 6, 12, 101, 9216, 65507])
def test_a_datagram_of_any_size_is_read_in_milliseconds(size: int) -> None:
    for fill in (b"\xff", b"\0", b"\xff" * 101 + b"\0", b"\xff" * 6 + b"\0"):
        payload = (fill * (size // len(fill) + 1))[:size]
        begun_s = time.process_time()
        magic_packet.parse(payload)
        assert time.process_time() - begun_s < 0.1  # it was a quarter of a second
