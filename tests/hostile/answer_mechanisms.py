"""What servers do wrong in what they say: errors, headers, JSON, streams, figures, long lists."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from functools import partial

from helpers.hostile_server import Exchange

from hostile import payloads
from hostile.mechanism import ALL, BODIES, STREAMS, Act, Data, Mechanism, made


def refusals() -> Iterator[Mechanism]:
    """Errors with harmful words, in all forms in which servers write them."""
    forms: dict[str, Callable[[str], bytes]] = {
        "OpenAI": lambda text: as_json(error=dict(message=text, type=text, code=text, param=text)),
        "detail": lambda text: as_json(detail=text, title=text),
        "list": lambda text: as_json(detail=[dict(msg=text, loc=[text], type=text)]),
        "text": lambda text: text.encode("utf-8", "replace"),
        "HTML": lambda text: f"<html><title>{text}</title>{text}".encode("utf-8", "replace"),
    }
    statuses = ("400 No", "401 Who", "403 No", "404 What", "408 Slow", "413 Big", "422 Odd")
    statuses += ("429 Slow", "451 No", "500 Oh", "502 Bad", "503 Busy", "504 Slow", "599 Odd")
    harmful = list(payloads.HARMFUL.items())
    for number, status in enumerate(statuses):
        for turn, (form, write) in enumerate(forms.items()):
            name, text = harmful[(number + turn) % len(harmful)]

            def act(exchange: Exchange, body: bytes = write(text), status: str = status) -> None:
                exchange.say(body, "Retry-After: 1", status=status)

            yield Mechanism(
                "error", f"{status[:3]} in {form}, {name}", act, breaks=True, commands=2
            )
    for kind in payloads.FLOODS:
        status = statuses[len(kind) % len(statuses)]

        def floods(exchange: Exchange, kind: str = kind, status: str = status) -> None:
            exchange.say(payloads.flood(kind), status=status)

        yield Mechanism("error", f"{status[:3]} with 31 MB of {kind}", floods, breaks=True)


def as_json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


VALUES = {
    "ESC": b"\x1b[31m5\x07",
    "C1": "\x9b31m5\u0090".encode(),
    "C1 bytes": b"\x9b31m5\x84",
    "direction": "\u202e5\u2066".encode(),
    "60 KB": b"5" * 60_000,
    "10**400": b"1" + b"0" * 400,
    "negative": b"-5",
    "words": b"soon",
    "a date": b"Fri, 31 Dec 9999 23:59:59 GMT",
    "a bad date": b"Fri, 99 Zzz 0000 99:99:99 GMT",
    "NaN": b"nan",
}
PLACES = {  # a header, and the status that it comes with, if not that of the sound answer
    "Retry-After": "503 Busy",
    "Retry-After of a limit": "429 Slow",
    "Content-Type": "",
    "Content-Type of an error": "500 Oh",
    "Server": "",
    "WWW-Authenticate": "401 Who",
    "X-Request-Id": "500 Oh",
    "Access-Control-Allow-Origin": "",
    "X-Runner-Id": "",
    "Via": "502 Bad",
    "X-RateLimit-Remaining": "429 Slow",
    "Allow": "405 No",
    "Set-Cookie": "403 No",
}


def with_header(header: str, value: bytes, status: str) -> Act:
    """The sound answer with this header, or an error with it."""

    def act(exchange: Exchange) -> None:
        content = exchange.sound.content if not status else b"no"
        head = exchange.head(
            header.encode() + b": " + value,
            length=len(content),
            status=status or None,
            without=(header,),
        )
        exchange.send(head + content)

    return act


def headers() -> Iterator[Mechanism]:
    """Harmful words in headers, and what a run shows of them."""
    for number, (place, status) in enumerate(PLACES.items()):
        for turn, (name, value) in enumerate(VALUES.items()):
            is_about_time = place.startswith("Retry-After")
            if not is_about_time and (turn > 4 or (number + turn) % 2):
                continue
            act = with_header(place.split(" ")[0], value, status)
            yield Mechanism("header", f"{place} with {name}", act, breaks=bool(status), commands=2)


# --- what answers say


def bodies() -> Iterator[Mechanism]:
    for kind in payloads.FLOODS:
        yield Mechanism(
            "JSON",
            f"31 MB of {kind}",
            lambda e, kind=kind: e.say(payloads.flood(kind)),  # type: ignore[misc]
            breaks=True,
            everywhere=kind in ("empty lists", "models"),
            on=(*BODIES, *STREAMS, "ping", ALL),
            confirmed=kind in ("empty lists", "models", "text"),
        )
    for name, body in payloads.SMALL_BODIES.items():
        yield Mechanism(
            "JSON",
            name,
            lambda e, body=body: e.say(body),  # type: ignore[misc]
            on=(*BODIES, *STREAMS, ALL),
            in_body=True,
            breaks=name not in HARMLESS_BODIES,
        )


# JSON is read in any of these encodings; and models may be many.
HARMLESS_BODIES = (*("BOM", "UTF-16", "UTF-32", "a key twice", "100,000 models", "1 MB of a name"),)


def values() -> Iterator[Mechanism]:
    """A sound answer with one kind of value replaced, in whole answers and in events."""
    raws = list(payloads.RAW_VALUES.items())
    for name, raw in raws:
        for kind, wanted in (("texts", payloads.is_text), ("numbers", payloads.is_number)):
            act = spoiled(raw, wanted)
            yield Mechanism("JSON values", f"{name} for {kind}", act, on=(*BODIES, *STREAMS))
    for number, (key, endpoints) in enumerate(KEYS.items()):
        for name, raw in raws[number % 3 :: 3]:
            act = spoiled(raw, payloads.is_under(key))
            yield Mechanism(
                "JSON values", f"{name} for {key}", act, on=tuple(endpoints.split()), commands=1
            )


KEYS = {  # and where they are
    "id": "models stream chat runners log",
    "object": "models stream chat",
    "created": "models stream chat",
    "model": "stream chat log",
    "index": "stream chat embeddings",
    "content": "stream chat",
    "role": "stream chat",
    "finish_reason": "stream chat",
    "completion_tokens": "stream chat",
    "prompt_tokens": "stream chat",
    "total_tokens": "stream chat embeddings",
    "system_fingerprint": "stream chat",
    "name": "runners",
    "is_online": "runners",
    "health": "runners",
    "mac_address": "runners",
    "total": "runners log",
    "timestamp": "log",
    "latency_ms": "log",
    "status": "log health",
    "runner_id": "log",
    "wol_sent": "log",
    "max_concurrent": "health",
    "max_queue_size": "health",
    "active": "health",
    "queue_depth": "health metrics",
    "queue_rejections": "health metrics",
    "requests_active": "metrics",
    "message": "error",
    "code": "error",
    "kid": "jwks",
    "n": "jwks",
    "e": "jwks",
    "kty": "jwks",
}


def spoiled(raw: bytes, wanted: Callable[[object, object], bool]) -> Act:
    """The sound answer with `raw` for the wanted values."""

    def act(exchange: Exchange) -> None:
        exchange.say(spoil(exchange.sound.content, raw, wanted))

    return act


def spoil(content: bytes, raw: bytes, wanted: Callable[[object, object], bool]) -> bytes:
    if content.startswith(b"data: "):
        events = content.split(b"\n\n")
        return b"\n\n".join(
            b"data: " + payloads.replaced(each[6:], raw, wanted) if b"{" in each else each
            for each in events
        )
    try:
        return payloads.replaced(content, raw, wanted)
    except (ValueError, AttributeError, TypeError):  # Prometheus text, or nothing
        return content


CONTENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def small_events() -> Iterator[Mechanism]:
    """Streams of very many events."""
    for kind in payloads.SMALL_EVENTS:

        def many(exchange: Exchange, kind: str = kind) -> None:
            exchange.send(exchange.head(), payloads.small_events(kind))

        def many_and_sound(exchange: Exchange, kind: str = kind) -> None:
            sound = exchange.sound.content
            exchange.send(exchange.head(), sound[:200], payloads.small_events(kind), sound)

        yield Mechanism(
            "SSE",
            f"a million {kind}",
            many,
            on=STREAMS,
            breaks=True,
            confirmed=kind == "empty data lines",
        )
        yield Mechanism("SSE", f"a million {kind} within", many_and_sound, on=STREAMS)


def endless_streams() -> Iterator[Mechanism]:
    def endless(piece: bytes) -> Act:
        def act(exchange: Exchange) -> None:
            exchange.send(exchange.head(), *exchange.sound.events[:2])
            while not exchange.over.is_set():
                exchange.send(piece)

        return act

    yield Mechanism("SSE", "content for ever", endless(CONTENT * 500), on=STREAMS, breaks=True)
    yield Mechanism("SSE", "comments for ever", endless(b": \n\n" * 5000), on=STREAMS, breaks=True)
    yield Mechanism("SSE", "a line for ever", endless(b"x" * 50_000), on=STREAMS, breaks=True)


LONG_TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'


def odd_streams() -> Iterator[Mechanism]:
    """Events that are too large, or are not what they should be."""

    def says(*parts: Data) -> Act:
        return lambda exchange: exchange.send(exchange.head(), *map(made, parts))

    for name, parts in {
        "an event of 31 MB": (lambda: LONG_TEXT % payloads.flood("text"),),
        "an event of 31 MB of lists": (
            lambda: b"data: " + payloads.flood("empty lists") + b"\n\n",
        ),
        "31 MB of content": (lambda: LONG_TEXT % (b"word " * 200) * 29_000,),
        "5 MB of content": (lambda: LONG_TEXT % (b"word " * 200) * 4_800,),
        "a tool call of 5 MB": (
            b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"',
            lambda: b"[" * 5_000_000,
            b'"}}]}}]}\n\n',
        ),
        "nothing": (b"",),
        "only DONE": (b"data: [DONE]\n\n",),
        "no DONE": (CONTENT * 3,),
        "only CRs": ((CONTENT * 3).replace(b"\n", b"\r"),),
        "a BOM in each event": (b"\xef\xbb\xbf".join([CONTENT] * 4),),
        "invalid UTF-8": (CONTENT.replace(b'"a"', b'"\xc3\x28\xff"') * 5,),
        "NUL bytes": (CONTENT.replace(b"a", b"\0") * 5,),
        "deep events": (b"data: " + b"[" * 100_000 + b"\n\n",) * 3,
        "an event of UTF-16": (CONTENT.decode().encode("utf-16"),),
        "100,000 choices": (b'data: {"choices":[' + b"{}," * 100_000 + b"{}]}\n\n",) * 2,
        "100,000 logprobs": (
            b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":['
            + b"{}," * 100_000
            + b"{}]}}]}\n\n",
        ),
        "an error with ESC": (b'data: {"error":{"message":"\\u001b[31m","code":"\\u202e"}}\n\n',),
        "an error of 900 KB": (b'data: {"error":{"message":"' + b"\\u001b" * 150_000 + b'"}}\n\n',),
        "event names with ESC": (b"event: \x1b[31m\x9b\ndata: {}\n\n",),
        "an answer that is whole": (b'{"choices":[{"message":{"content":"a"}}]}',),
        "garbage": (bytes(range(256)) * 100,),
    }.items():
        yield Mechanism("SSE", name, says(*parts), on=STREAMS, breaks=True)


Cut = Callable[[str], str]
PIECES: dict[str, Cut] = {
    "whole": lambda secret: secret,
    "its last 12": lambda secret: secret[-12:],
    "its first 8": lambda secret: secret[:8],
    "8 of its middle": lambda secret: secret[len(secret) // 2 :][:8],
    "its last 8": lambda secret: secret[-8:],
    "its end in upper case": lambda secret: secret[-14:].upper(),
    "a piece after 200 letters": lambda secret: "y" * 195 + secret[-12:],
}
REFUSALS = ("500 Oh", "403 No", "400 Bad", "429 Slow", "503 Busy", "404 No", "422 X")


def say_in_texts(exchange: Exchange, cut: Cut) -> None:
    raw = f'"x {cut(exchange.secret)} y"'.encode()
    exchange.say(spoil(exchange.sound.content, raw, payloads.is_text))


def say_as_names(exchange: Exchange, cut: Cut) -> None:
    raw = f'"{cut(exchange.secret)}"'.encode()
    names = ("id", "name", "model", "system_fingerprint", "runner_id", "finish_reason")
    exchange.say(spoil(exchange.sound.content, raw, lambda key, value: key in names))


def say_in_error(exchange: Exchange, cut: Cut, status: str) -> None:
    code = cut(exchange.secret)
    error = dict(message=f"you sent {code}, no", code=code, type=code)
    exchange.say(as_json(error=error), status=status)


def say_in_headers(exchange: Exchange, cut: Cut) -> None:
    said = cut(exchange.secret)
    names = ("Server", "X-Request-Id", "Retry-After", "X-Runner-Id", "Via", "Set-Cookie")
    lines = [f"{each}: {said}" for each in (*names, "WWW-Authenticate", "Location")]
    status = None if len(said) % 2 else "503 Busy"
    exchange.say(exchange.sound.content, *lines, status=status)


def say_as_type(exchange: Exchange, cut: Cut) -> None:
    content = exchange.sound.content
    line = f"Content-Type: text/{cut(exchange.secret)}"
    head = exchange.head(line, length=len(content), without=("Content-Type",))
    exchange.send(head + content)


def secrets() -> Iterator[Mechanism]:
    """The credential, whole and in pieces, wherever a server can say something."""
    answers = (*BODIES, *STREAMS)
    for (name, cut), status in zip(PIECES.items(), REFUSALS, strict=True):
        in_texts, as_names, in_headers, as_type = (
            partial(say, cut=cut)
            for say in (say_in_texts, say_as_names, say_in_headers, say_as_type)
        )
        in_error = partial(say_in_error, cut=cut, status=status)
        is_named = dict(confirmed=name == "its last 12")
        yield Mechanism("secrets", f"{name} in every text", in_texts, on=answers)
        yield Mechanism("secrets", f"{name} as names", as_names, on=answers, **is_named)
        yield Mechanism("secrets", f"{name} in an error", in_error, breaks=True, **is_named)
        yield Mechanism("secrets", f"{name} in headers", in_headers, **is_named)
        yield Mechanism("secrets", f"{name} as the type", as_type, on=(*answers, "ping"))


def metrics() -> Iterator[Mechanism]:
    """Prometheus text."""
    line = b"gateway_queue_depth 0\n"
    for name, body in {
        "1 MB of open braces": b"a{\n" * 330_000,
        "1 MB of open braces in a line": b"a{" * 500_000,
        "1 MB of open quotes": b'a{b="' * 200_000,
        "1 MB of labels": b"a{" + b'b="c",' * 160_000 + b"} 1\n",
        "1 MB of backslashes": b'a{b="' + b"\\" * 1_000_000 + b'"} 1\n',
        "1 MB of spaces": b"a" + b" " * 1_000_000 + b"1\n",
        "100,000 samples": line * 45_000,
        "huge figures": b"gateway_queue_depth 1e999\ngateway_queue_rejections NaN\n",
        "4,300 digits": b"gateway_queue_depth " + b"9" * 4300 + b"\n",
        "harmful names": b"gateway_\x1b[31m 5\ngateway_queue_depth \x1b[31m\n\xff\xfe 1\n",
        "negative figures": b"gateway_queue_depth -5\ngateway_requests_active -1\n",
        "other digits": "gateway_queue_depth \u0665\n".encode(),
    }.items():
        yield Mechanism(
            "metrics",
            name,
            lambda e, body=body: e.say(body),  # type: ignore[misc]
            on=("metrics",),
            confirmed=name == "1 MB of open braces",
        )


def lists() -> Iterator[Mechanism]:
    """Long lists of what a fleet or a gateway has; each is as long as its answer may be."""
    makers: dict[str, tuple[str, Callable[[int], dict[str, object]], str]] = {
        "runners": ("runners", runner, "runners"),
        "models": ("models", lambda n: {"id": f"model-{n}", "object": "model"}, "data"),
        "log entries": ("log", entry, "requests"),
        "public keys": ("jwks", lambda n: {"kty": "RSA", "kid": f"{n}", "n": "AQAB"}, "keys"),
    }
    for name, (endpoint, make, key) in makers.items():
        for count in (3_000, 100_000):
            yield Mechanism(
                "lists",
                f"{count:,} {name}",
                listing(make, key, count),
                on=(endpoint,),
                confirmed=(name, count) == ("runners", 100_000),
            )

    def never_ending_pages(exchange: Exchange) -> None:
        exchange.say(as_json(requests=[entry(n) for n in range(50)], total=10**9, page=1))

    yield Mechanism("lists", "a log without an end", never_ending_pages, on=("log",))

    def empty_admin(exchange: Exchange) -> None:
        exchange.say(b"", status="200 OK")

    yield Mechanism(
        "lists",
        "an admin API that says 200 to all",
        empty_admin,
        on=("runners", "log", "error"),
        confirmed=True,
    )


def runner(number: int) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "name": f"desk{number}",
        "health": "healthy",
        "loaded_models": ["small:1b"],
        "available_models": ["small:1b", "big:7b"],
        "mac_address": "02:00:5e:00:00:01",
        "is_online": number % 2 == 0,
    }


def entry(number: int) -> dict[str, object]:
    return {
        "id": f"e{number}",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "model": "small:1b",
        "status": 200,
        "latency_ms": number,
        "runner_id": f"r{number % 7}",
        "wol_sent": False,
    }


def listing(make: Callable[[int], dict[str, object]], key: str, count: int) -> Act:
    @functools.cache
    def body() -> bytes:
        return as_json(**{key: [make(number) for number in range(count)], "total": count})

    return lambda exchange: exchange.say(body())


MAKERS = (
    *(refusals, headers, bodies, values),
    *(small_events, endless_streams, odd_streams),
    *(secrets, metrics, lists),
)
