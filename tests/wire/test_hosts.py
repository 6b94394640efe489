"""Hosts with several addresses: refused ones cost nothing, silent ones little, and only once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.instrument import GET, IS_LINUX, kind, wait_until
from helpers.raw_server import RawServer, keep_answering

from livecheck.core.checks import Status
from livecheck.wire import look_up
from livecheck.wire.happy_eyeballs import Endpoint, interleaved
from livecheck.wire.hosts import Hosts
from livecheck.wire.wire import Reply, Target, Wire

NAME = "model.test"
HERE, SILENT, REFUSED = "127.0.0.1", "127.0.0.2", "127.0.0.3"

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="127.0.0.2 is an address of Linux alone")


class Names:
    """The look-up of NAME: what it finds, how long it takes, and how many of them there were."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.delay_s, self.asked = list(addresses), 0.0, 0
        self.error: OSError | None = None
        self._find = socket.getaddrinfo

    def __call__(self, host: str, port: Any, *args: Any, **options: Any) -> Any:
        if host != NAME or options.get("flags"):
            return self._find(host, port, *args, **options)
        self.asked += 1
        time.sleep(self.delay_s)
        if self.error:
            raise self.error
        return [e for a in self.addresses for e in self._find(a, port, *args, **options)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names(HERE)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


@contextlib.contextmanager
def silent(port: int, address: str = SILENT) -> Iterator[socket.socket]:
    """The address takes no connection at this port, and refuses none: its queue is full."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = socket.create_server((address, port), family=family, backlog=0)
        stack.enter_context(listener)
        for _ in range(3):
            filling = stack.enter_context(socket.socket(family))
            filling.setblocking(False)
            filling.connect_ex((address, port))
        yield listener


def ask(wire: Wire, count: int = 1, at_once: int = 1) -> list[Reply]:
    """Each request over a connection of its own."""
    return wire.exchange([GET] * count, at_once, keep=False)


def before_s(reply: Reply) -> float:
    assert reply.handshake is not None
    return reply.handshake.before_ns / 1e9


def target(server: RawServer) -> Target:
    return Target(f"http://{NAME}:{server.port}")


@pytest.mark.parametrize("address", [SILENT, "::1"])
def test_an_address_that_does_not_answer_costs_a_quarter_of_a_second_once(names, address):
    names.addresses = [address, HERE]
    with RawServer(keep_answering) as server, silent(server.port, address):
        with Wire(target(server), 30) as wire:
            replies = ask(wire, 4)
            check = wire.target.hosts.check()
    assert [reply.status for reply in replies] == [200] * 4
    assert 0.25 <= before_s(replies[0]) < 1
    assert all(before_s(reply) < 0.1 for reply in replies[1:])
    assert all(reply.handshake.connect_ns < 0.1e9 for reply in replies)  # of the one that answers
    assert check.status is Status.WARN
    shown = f"[{address}]" if ":" in address else address
    assert f"{NAME} has 2 addresses, and {shown} did not answer for 3.5 s" in check.detail
    assert check.detail.endswith("this run used 127.0.0.1")
    assert check.evidence["hosts"] == [
        {"host": NAME, "addresses": [address, HERE], "silent": [address]}
    ]


def test_many_connections_at_once_wait_together(names):
    names.addresses = [SILENT, HERE]
    with RawServer(keep_answering) as server, silent(server.port):
        with Wire(target(server), 30) as wire:
            started = time.monotonic()
            replies = ask(wire, 64, 32)
            assert time.monotonic() - started < 3
            check = wire.target.hosts.check()
    assert [reply.status for reply in replies] == [200] * 64
    assert check.detail.count("did not answer") == 1


def test_a_refused_address_costs_nothing_and_is_not_worth_a_warning(names):
    names.addresses = [REFUSED, "::1", HERE]
    with RawServer(keep_answering) as server, Wire(target(server), 5) as wire:
        replies = ask(wire, 3)
        assert wire.target.hosts.check() is None
    assert [reply.status for reply in replies] == [200] * 3
    assert all(before_s(reply) < 0.2 for reply in replies)


def test_a_slow_address_that_answers_in_the_end_is_not_called_silent(names):
    """It is watched after it has lost, and the warning waits for what becomes of it."""
    names.addresses = [SILENT, HERE]
    with RawServer(keep_answering) as server, silent(server.port) as listener:
        with Wire(target(server), 5) as wire:
            assert ask(wire)[0].status == 200
            threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
            check = wire.target.hosts.check()
    assert check is None


def test_after_an_interruption_nothing_is_waited_for(names):
    names.addresses = [SILENT, HERE]
    with RawServer(keep_answering) as server, silent(server.port):
        with Wire(target(server), 5) as wire:
            ask(wire)
            started = time.monotonic()
            assert wire.target.hosts.check(wait_s=0) is None
            assert time.monotonic() - started < 0.5
            assert wire.target.hosts.check(is_asked_for=True).status is Status.WARN


def test_the_check_passes_when_it_is_asked_for(names):
    with RawServer(keep_answering) as server, Wire(target(server), 5) as wire:
        ask(wire)
        check = wire.target.hosts.check(is_asked_for=True)
    assert check.status is Status.PASS and f"{NAME}:{server.port}" in check.detail


def test_the_address_that_worked_is_left_when_it_is_refused(names):
    names.addresses = [SILENT, HERE]
    with RawServer(keep_answering) as first:
        with silent(first.port) as listener, Wire(target(first), 5) as wire:
            assert ask(wire)[0].status == 200
            host = wire.target.hosts.at(NAME, first.port)
            assert host.way_round == HERE
            listener.close()
            wait_until(lambda: host._losses[SILENT].is_known.is_set())
            first.__exit__()
            with socket.create_server((SILENT, first.port)) as second:
                threading.Thread(target=accept_and_answer, args=(second,), daemon=True).start()
                assert ask(wire)[0].status == 200
    assert host.way_round is None  # the other one answers now


def accept_all(listener: socket.socket) -> None:
    """Make room for the SYN that is sent again after a second."""
    kept = []
    with contextlib.suppress(OSError):
        while True:
            kept.append(listener.accept())


def accept_and_answer(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_when_no_address_can_be_connected_to_the_reason_names_each(names):
    names.addresses = [SILENT, REFUSED]
    with RawServer(keep_answering) as server, silent(server.port):
        with Wire(target(server), 0.6) as wire:
            (reply,) = ask(wire)
            assert wire.target.hosts.check() is None  # the failure says it
    assert kind(reply) == "connect"
    assert reply.failure.text == "127.0.0.3: connection refused, 127.0.0.2 did not answer"
    names.addresses = [SILENT, "::1"]
    with RawServer(keep_answering) as server, silent(server.port), silent(server.port, "::1"):
        with Wire(target(server), 0.6) as wire:
            text = ask(wire)[0].failure.text
    assert text == "127.0.0.2 did not answer, [::1] did not answer"
    names.addresses = [REFUSED, "127.0.0.4"]
    with Wire(target(server), 5) as wire:
        assert ask(wire)[0].failure.text == "connection refused"


def test_a_single_address_that_does_not_answer_costs_the_timeout(names):
    names.addresses = [SILENT]
    with RawServer(keep_answering) as server, silent(server.port):
        with Wire(target(server), 0.4) as wire:
            started = time.monotonic()
            (reply,) = ask(wire)
    assert 0.4 <= time.monotonic() - started < 1
    assert reply.failure.text == "connecting timed out"


def test_a_look_up_that_hangs_costs_the_timeout_and_is_named(names):
    names.delay_s = 20
    with Wire(Target(f"http://{NAME}:9"), 0.3) as wire:
        started = time.monotonic()
        replies = ask(wire, 3, 3)
    assert 0.3 <= time.monotonic() - started < 1.5
    for reply in replies:
        assert kind(reply) == "connect"
        assert f"looking up {NAME} had not ended after 0.3 s" in reply.failure.text


def test_slow_look_ups_are_named_and_made_no_more_than_twice(names, monkeypatch):
    monkeypatch.setattr(look_up, "SLOW_S", 0.1)
    names.delay_s = 0.15
    with RawServer(keep_answering) as server, Wire(target(server), 5) as wire:
        replies = ask(wire, 5)
        check = wire.target.hosts.check()
    assert [reply.status for reply in replies] == [200] * 5
    assert names.asked == 2
    assert check.status is Status.WARN and f"looking up {NAME} took 0.1 s or more" in check.detail


def test_a_look_up_that_fails_or_hangs_after_others_is_named_and_holds_nothing_up(
    names, monkeypatch
):
    monkeypatch.setattr(look_up, "SLOW_S", 0.1)
    with RawServer(keep_answering) as server, Wire(target(server), 5) as wire:
        ask(wire)
        names.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        assert [reply.status for reply in ask(wire, 3)] == [200] * 3
        names.error, names.delay_s = None, 20
        started = time.monotonic()
        assert [reply.status for reply in ask(wire, 4)] == [200] * 4
        assert time.monotonic() - started < 1
        check = wire.target.hosts.check()
    assert f"3 of 6 look-ups of {NAME} failed (temporary failure" in check.detail
    assert f"looking up {NAME} took 0.1 s or more" in check.detail


def test_a_name_server_that_cannot_be_asked_is_not_called_an_unknown_host(names):
    names.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with Wire(Target(f"http://{NAME}:9"), 5) as wire:
        (reply,) = ask(wire)
    assert kind(reply) == "connect" and "does its name server answer?" in reply.failure.text


def test_one_slow_look_up_is_not_worth_a_warning(names, monkeypatch):
    """The name server had to ask another one first; so had all that asked at that moment."""
    monkeypatch.setattr(look_up, "SLOW_S", 0.1)
    names.delay_s = 0.15
    with RawServer(keep_answering) as server, Wire(target(server), 5) as wire:
        ask(wire, 4, 4)
        names.delay_s = 0
        ask(wire, 4)
        assert wire.target.hosts.check() is None
    assert names.asked == 8


def test_an_address_in_the_url_is_not_looked_up(names):
    with RawServer(keep_answering) as server, Wire(Target(server.url), 5) as wire:
        assert ask(wire)[0].status == 200
    assert names.asked == 0


def test_families_take_turns():
    def of(*addresses: str) -> list[Endpoint]:
        return [
            Endpoint(socket.AF_INET6 if ":" in each else socket.AF_INET, (each, 80))
            for each in addresses
        ]

    mixed = interleaved(of("::1", "::2", "::3", "10.0.0.1"))
    assert [each.address for each in mixed] == ["::1", "10.0.0.1", "::2", "::3"]
    only = of("10.0.0.2", "10.0.0.1")
    assert interleaved(only) == only


def test_hosts_are_known_by_name_and_port():
    known = Hosts()
    assert known.at("a", 1) is known.at("a", 1) is not known.at("a", 2)
    assert known.is_first_mention("a") and not known.is_first_mention("a")
    assert known.check() is None
