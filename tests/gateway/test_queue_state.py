"""What /health and /metrics say is read as figures, again and again, and disturbs nobody."""

from __future__ import annotations

import threading
import time

import pytest
from helpers.raw_server import Peer, RawServer, answer, keep_answering

from livecheck.gateway import queue_state
from livecheck.gateway.queue_state import Probe, Reading, Watcher
from livecheck.wire.wire import MAX_BYTES, Target, Wire


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b'{"queue": 5}', b'{"queue": {"active": "x"}}', b"[" * 10**5],
)
def test_a_figure_that_is_not_there_is_not_read(body: bytes) -> None:
    assert queue_state.read_health(body) == {}
    assert queue_state.counts(queue_state.metrics_json_said(body).figures) == {}
    assert queue_state.counts(queue_state.metrics_text_said(body).figures) == {}


def test_prometheus_text_is_read_with_labels_comments_and_time_stamps() -> None:
    text = (
        b"# HELP gateway_queue_depth requests waiting\n# TYPE gateway_queue_depth gauge\n"
        b'gateway_queue_depth{pod="a b"} 2.0 1700000000\n'
        b"gateway_queue_rejections 1\nother_queue_wait_seconds_total 9\n"
        b"gateway_queue_wait_seconds_total 1.5e0\ngateway_queue_depth_max NaN\n"
    )
    wanted = {"queue_depth": 2, "queue_rejections": 1, "queue_wait_seconds_total": 1.5}
    assert queue_state.counts(queue_state.metrics_text_said(text).figures) == wanted


def test_the_occupancy_comes_from_health_or_else_from_metrics() -> None:
    health = Probe(200, 1.0, {"active": 1, "waiting": 2})
    metrics = Probe(200, 1.0, {"requests_active": 3, "queue_depth": 4})
    assert Reading(0, 1, health=health, metrics_json=metrics).occupancy == (1, 2)
    assert Reading(0, 1, metrics_json=metrics).occupancy == (3, 4)
    assert Reading(0, 1).occupancy is None


def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(b" " * (4 * MAX_BYTES)))

    with RawServer(script) as server, Watcher(Target(server.url), 5) as watcher:
        reading = watcher.next_reading(5)
    assert reading and reading.health.trouble == "flood: more than 1 MB of answer"


def test_the_probes_need_no_key_where_the_deployment_asks_for_none() -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            heads.append(peer.heads[-1])
            peer.send(answer(b"{}"))

    with RawServer(script) as server, Wire(Target(server.url, "sk-key"), 5) as wire:
        with Watcher(queue_state.watch_target(wire), 5) as watcher:
            assert watcher.next_reading(5)
    assert heads and not any(b"authorization" in head.lower() for head in heads)


def test_a_health_that_costs_inference_is_not_asked_again() -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            heads.append(peer.heads[-1])
            peer.send(answer(b"{}"))

    with RawServer(script) as server, Wire(Target(server.url), 5) as wire:
        target = queue_state.watch_target(wire, spares_health=True)
        with Watcher(target, 5, spares_health=True) as watcher:
            reading = watcher.next_reading(5)
    assert reading and reading.ping.status == 200 and reading.health == queue_state.NOT_ASKED
    assert not any(b"/health" in head for head in heads)


def test_the_probes_get_the_key_where_it_is_needed() -> None:
    refusal = answer(b"{}", status="401 Unauthorized")
    with RawServer(lambda peer: keep_answering(peer, refusal)) as server:
        with Wire(Target(server.url, "sk-key"), 5) as wire:
            assert queue_state.watch_target(wire).token == "sk-key"


def test_a_hanging_probe_does_not_hold_up_the_end() -> None:
    asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        asked.set()
        peer.wait_gone(20)

    with RawServer(script) as server:
        with Watcher(Target(server.url), 60):
            assert asked.wait(20)
            begun = time.monotonic()
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("sick", ["/ping", "/health", "/metrics"])
def test_an_endpoint_that_is_silent_does_not_hold_up_the_others(sick: str) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            if sick.encode() in peer.heads[-1]:
                peer.wait_gone(20)
            else:
                peer.send(answer(b'{"queue": {"active": 1, "waiting": 0}}'))

    with RawServer(script) as server, Watcher(Target(server.url), 1) as watcher:
        whole = watcher.next_reading(5)
        begun_s = time.perf_counter()
        again = [watcher.next_reading(5) for _ in range(3)]
        assert time.perf_counter() - begun_s < 2  # nobody waits for it a second time
    assert whole and all(again)
    for name, request in queue_state.REQUESTS.items():
        probes: list[Probe] = [getattr(each, name) for each in [whole, *again] if each]
        is_sick = request.path == sick
        assert all(probe.is_asked for probe in probes)
        assert [probe.status for probe in probes] == [None if is_sick else 200] * 4
        assert all(bool(probe.trouble) == is_sick for probe in probes), probes


def test_a_slow_endpoint_has_readings_of_its_own() -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            time.sleep(0.6 if b"/ping" in peer.heads[-1] else 0)
            peer.send(answer(b"{}"))

    with RawServer(script) as server, Watcher(Target(server.url), 5) as watcher:
        time.sleep(2)
        readings = list(watcher.readings)
    of_ping = [each for each in readings if each.ping.is_asked]
    others = [each for each in readings if each.health.is_asked]
    assert 2 <= len(of_ping) <= 4 and not any(each.health.is_asked for each in of_ping)
    assert len(others) > 8 and all(each.ended_s - each.sent_s < 0.5 for each in others)
    assert all(each.ping.spent_ms and each.ping.spent_ms > 500 for each in of_ping)
