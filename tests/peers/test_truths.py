"""What each server really does, seen with plain requests: what the verdicts must agree with."""

from __future__ import annotations

import ssl
import threading
import time

import pytest
from helpers.peer_client import CHAT, Seen, ask, at_once, leave_early
from helpers.peers import KEY, Peers, basic

BEARER = {"Authorization": f"Bearer {KEY}"}
WRONG = {"Authorization": "Bearer sk-peer-wrong"}
GZIP = {"Accept_Encoding": "gzip"}
ORIGIN = {"Origin": "https://app.example"}
TOKENS = 60  # of a stream: half a second
FLOWS_S = 0.3
HELD_S = 0.1


def stream(peers: Peers, name: str, **headers: str) -> Seen:
    with peers.running(name) as peer:
        seen = ask(peer.url, tokens=TOKENS, stream=True, trust=peer.authority, **headers)
    assert seen.status == 200 and seen.text.rstrip().endswith("data: [DONE]"), str(seen.headers)
    return seen


# --- streams


@pytest.mark.parametrize(
    "name",
    [
        *("nginx.plain", "nginx.http10", "nginx.buffered", "nginx.gzip_json", "nginx.gzip_flushed"),
        *("nginx.tls", "haproxy.plain", "caddy.plain"),
    ],
)
def test_a_stream_flows(peers: Peers, name: str) -> None:
    assert stream(peers, name).spread_s > FLOWS_S
    assert stream(peers, name, **GZIP).spread_s > FLOWS_S


@pytest.mark.parametrize("name", ["nginx.gzip", "caddy.gzip"])
def test_a_stream_is_held_back_from_clients_that_accept_gzip(peers: Peers, name: str) -> None:
    assert stream(peers, name).spread_s > FLOWS_S
    held = stream(peers, name, **GZIP)
    assert held.headers["Content-Encoding"] == "gzip"
    assert held.spread_s < HELD_S


@pytest.mark.parametrize("name", ["nginx.default", "haproxy.delayed"])
def test_some_defaults_pass_a_stream_on_in_a_few_large_pieces(peers: Peers, name: str) -> None:
    seen = stream(peers, name)
    assert seen.arrivals < TOKENS / 6
    assert seen.pieces_s[0] > 0.1  # the first token was there after 40 ms


# --- limits


def test_nginx_refuses_requests_above_the_rate_with_503_and_html(peers: Peers) -> None:
    with peers.running("nginx.limit_req") as peer:
        seen = [ask(peer.url, **BEARER) for _ in range(8)]
    assert [each.status for each in seen] == [200] * 6 + [503] * 2
    assert "<html>" in seen[-1].text and seen[-1].headers["Retry-After"] is None


def test_nginx_can_refuse_them_with_429_and_html(peers: Peers) -> None:
    with peers.running("nginx.limit_429") as peer:
        seen = [ask(peer.url, **BEARER) for _ in range(8)]
    assert [each.status for each in seen] == [200] * 6 + [429] * 2
    assert "<html>" in seen[-1].text and seen[-1].headers["Retry-After"] is None


def test_limit_conn_has_no_queue(peers: Peers) -> None:
    with peers.running("nginx.limit_conn") as peer:
        seen = at_once(3, peer.url, tokens=TOKENS)
    assert [each.status for each in seen] == [200, 503, 503]
    assert seen[1].pieces_s[0] < HELD_S


def test_haproxy_lets_two_wait_and_refuses_the_next_at_once(peers: Peers) -> None:
    with peers.running("haproxy.queue") as peer:
        seen = at_once(5, peer.url, tokens=TOKENS)
        again = ask(peer.url)
    assert [each.status for each in seen] == [200, 200, 200, 503, 503]
    assert seen[1].pieces_s[-1] > seen[0].pieces_s[-1] + FLOWS_S  # it waited
    assert seen[3].pieces_s[0] < HELD_S
    assert seen[3].headers["Retry-After"] == "5"
    assert seen[3].json["error"]["code"] == "queue_full"
    assert again.status == 200


@pytest.mark.parametrize("name, keeps", [("haproxy.queue", False), ("haproxy.queue_keeps", True)])
def test_by_default_haproxy_keeps_the_place_of_a_client_that_left(
    peers: Peers, name: str, keeps: bool
) -> None:
    with peers.running(name) as peer:
        running = threading.Thread(target=ask, args=(peer.url,), kwargs={"tokens": 6 * TOKENS})
        running.start()
        time.sleep(0.3)
        leave_early(peer.url, after_s=0.3)
        time.sleep(0.5)  # until HAProxy has noticed it
        seen = at_once(2, peer.url)
        running.join()
    assert [each.status for each in seen] == [200, 503 if keeps else 200]


def test_haproxy_refuses_who_has_waited_too_long(peers: Peers) -> None:
    with peers.running("haproxy.queue_timeout") as peer:
        seen = at_once(4, peer.url, tokens=3 * TOKENS)
    assert [each.status for each in seen][:2] == [200, 503]
    assert 0.8 < seen[1].pieces_s[0] < 3


def test_litellm_calls_its_spent_limit_throttling(peers: Peers) -> None:
    with peers.running("litellm.proxy") as peer:
        seen = [ask(peer.url, model="limited", **BEARER) for _ in range(4)]
    assert [each.status for each in seen][-1] == 429
    assert seen[-1].json["error"]["type"] == "throttling_error"


# --- TLS


def test_the_certificate_is_of_a_private_authority(peers: Peers) -> None:
    with peers.running("nginx.tls") as peer:
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(peer.url)
        assert ask(peer.url, trust=peer.authority).status == 200
        plain = ask(peer.url.replace("https", "http"))
    assert plain.status == 400 and "plain HTTP request was sent to HTTPS port" in plain.text


def test_without_a_certificate_of_the_client_it_is_a_page(peers: Peers) -> None:
    with peers.running("nginx.mtls") as peer:
        seen = ask(peer.url, trust=peer.authority)
    assert seen.status == 400 and "No required SSL certificate was sent" in seen.text


# --- CORS


@pytest.mark.parametrize("name, on_errors", [("nginx.cors", False), ("nginx.cors_always", True)])
def test_cors_headers_on_errors_need_always(peers: Peers, name: str, on_errors: bool) -> None:
    with peers.running(name) as peer:
        good = ask(peer.url, **ORIGIN, **BEARER)
        bad = ask(peer.url, **ORIGIN, **WRONG)
        preflight = ask(peer.url, method="OPTIONS", **ORIGIN)
    allowed = "Access-Control-Allow-Origin"
    assert (good.status, good.headers[allowed]) == (200, ORIGIN["Origin"])
    assert (preflight.status, preflight.headers[allowed]) == (204, ORIGIN["Origin"])
    assert bad.status == 401
    assert (bad.headers[allowed] == ORIGIN["Origin"]) == on_errors


@pytest.mark.parametrize("name", ["nginx.auth_request", "nginx.auth_basic"])
def test_a_guard_in_nginx_stops_preflights_too(peers: Peers, name: str) -> None:
    with peers.running(name) as peer:
        assert ask(peer.url, method="OPTIONS", **ORIGIN).status == 401


# --- keys


@pytest.mark.parametrize(
    "name", ["nginx.auth_request", "nginx.auth_map", "nginx.auth_half", "caddy.key", "llama.key"]
)
def test_a_key_is_needed(peers: Peers, name: str) -> None:
    with peers.running(name) as peer:
        assert ask(peer.url).status == 401
        assert ask(peer.url, **WRONG).status == 401
        assert ask(peer.url, **BEARER).status == 200


def test_a_map_in_nginx_takes_the_key_in_other_letters(peers: Peers) -> None:
    with peers.running("nginx.auth_map") as peer:
        assert ask(peer.url, Authorization=BEARER["Authorization"].upper()).status == 200


def test_the_engines_other_doors_are_open_where_only_v1_is_guarded(peers: Peers) -> None:
    with peers.running("nginx.auth_half") as peer:
        seen = ask(peer.url, "/chat/completions", method="POST")
        assert ask(peer.url, "/tokenize", method="POST").status == 400  # no body
        assert ask(peer.url, "/props").status == 200
    assert seen.status != 401


def test_auth_basic_asks_for_a_password(peers: Peers) -> None:
    with peers.running("nginx.auth_basic") as peer:
        refused = ask(peer.url)
        assert ask(peer.url, Authorization=basic()).status == 200
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic")


def test_litellm_without_a_database_does_not_know_a_wrong_key(peers: Peers) -> None:
    with peers.running("litellm.proxy") as peer:
        assert ask(peer.url, model="two", **BEARER).status == 200
        wrong = ask(peer.url, model="two", **WRONG)
        assert ask(peer.url, model="two", Authorization=f"Basic {KEY}").status == 200
        nothing = ask(peer.url, CHAT, model="two")
    assert wrong.status == 400 and "No connected db" in wrong.text
    assert nothing.status >= 400


def test_litellm_has_two_deployments_of_one_name(peers: Peers) -> None:
    with peers.running("litellm.proxy") as peer:
        seen = [ask(peer.url, model="two", **BEARER) for _ in range(12)]
    assert {each.headers["x-litellm-model-id"] for each in seen} == {"first", "second"}
    assert {each.json["model"] for each in seen} == {"two"}


def test_litellms_health_asks_every_model(peers: Peers) -> None:
    with peers.running("litellm.proxy") as peer:
        told = ask(peer.url, "/health", **BEARER).json
        assert ask(peer.url, "/health/liveliness").status == 200
    assert told["healthy_count"] == 3
