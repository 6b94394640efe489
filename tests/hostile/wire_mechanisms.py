"""What servers do wrong below what they say: TCP, TLS, the head, framing, codings, redirects."""

from __future__ import annotations

import functools
import gzip
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import trustme
from helpers.hostile_server import Exchange, HostileServer

from hostile import payloads
from hostile.mechanism import ALL, ANY, BODIES, LATER, STREAMS, Act, Data, Mechanism, Meet, made

# --- TCP


def connections() -> Iterator[Mechanism]:
    """Before a request is read."""

    def says(data: bytes, then_waits: bool = False) -> Meet:
        def meet(server: HostileServer, sock: socket.socket) -> None:
            sock.sendall(data)
            if then_waits:
                server.over.wait()

        return meet

    def silent(server: HostileServer, sock: socket.socket) -> None:
        server.over.wait()

    def drips(server: HostileServer, sock: socket.socket) -> None:
        while not server.over.wait(0.3):
            sock.sendall(b"H")

    def resets(server: HostileServer, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def half_closes(server: HostileServer, sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        server.over.wait()

    for name, meet in {
        "accepts and is silent": silent,
        "closes at once": says(b""),
        "resets at once": resets,
        "half closes, then is silent": half_closes,
        "a letter now and then": drips,
        "SSH": says(b"SSH-2.0-OpenSSH_9.6\r\n", True),
        "SMTP": says(b"220 mail.example ESMTP\r\n", True),
        "TLS on a plain port": says(b"\x15\x03\x01\x00\x02\x02\x46"),
        "HTTP/2": says(b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64\0\4\0\xff\xff\xff" * 3),
        "31 MB of garbage": lambda server, sock: sock.sendall(payloads.flood("text")),
        "31 MB of lines": lambda server, sock: sock.sendall(payloads.flood("lines")),
        "answers before it is asked": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    }.items():
        yield Mechanism("TCP", name, meet=meet, breaks=True)


@functools.cache
def certified(name: str = "127.0.0.1", days: int = 30) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody trusts; negative days: an old one."""
    until = datetime.now(timezone.utc) + timedelta(days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(name, not_after=until).configure_cert(context)
    return context


def before_tls(data: Data, waits: bool = False) -> Meet:
    """Says this in the place of a handshake."""

    def meet(server: HostileServer, sock: socket.socket) -> None:
        sock.recv(1 << 16)  # the client's hello
        sock.sendall(made(data))
        if waits:
            server.over.wait()

    return meet


def in_tls(data: Data, waits: bool = False, piece_s: float = 0.0) -> Meet:
    """Says this after the handshake; `piece_s`: byte by byte, with such pauses."""

    def meet(server: HostileServer, sock: socket.socket) -> None:
        whole = made(data)
        pieces = [whole[at : at + 1] for at in range(len(whole))] if piece_s else [whole]
        with certified().wrap_socket(sock, server_side=True) as inner:
            for each in pieces:
                inner.sendall(each)
                time.sleep(piece_s)
            if waits:
                server.over.wait()

    return meet


def drips_the_handshake(server: HostileServer, sock: socket.socket) -> None:
    sock.sendall(b"\x16\x03\x03\x40\x00")
    while not server.over.wait(0.3):
        sock.sendall(b"\2")


def tls_connections() -> Iterator[Mechanism]:
    """What stands in the place of TLS, or is wrong with it."""
    record = b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" + b"x" * 0x3FFC
    for name, meet in {
        "plain HTTP": before_tls(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        "garbage": before_tls(b"\x16\x03\x03garbage" * 100),
        "silent in the handshake": before_tls(b"", True),
        "closes in the handshake": before_tls(b""),
        "an alert": before_tls(b"\x15\x03\x03\x00\x02\x02\x28"),
        "a million warnings": before_tls(lambda: b"\x15\x03\x03\x00\x02\x01\x5a" * 1_000_000),
        "31 MB of handshake": before_tls(lambda: record * 2000, True),
        "drips the handshake": drips_the_handshake,
        "closes after the handshake": in_tls(b""),
        "silent after the handshake": in_tls(b"", True),
        "garbage after the handshake": in_tls(b"garbage" * 1000),
        "no farewell": in_tls(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{}"),
        "drips in TLS": in_tls(b"HTTP/1.1 200 OK\r\n" * 4, True, 0.3),
        "a flood in TLS": in_tls(lambda: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (40 << 20)),
    }.items():
        yield Mechanism("TLS", name, meet=meet, breaks=True, tls=certified)


def certificates() -> Iterator[Mechanism]:
    """What no client has a reason to trust."""
    for name, context in {
        "an unknown authority": certified,
        "an old certificate": lambda: certified(days=-1),
        "another name": lambda: certified("other.example"),
    }.items():
        yield Mechanism("TLS", name, lambda e: e.say_soundly(), breaks=True, tls=context, on=(ALL,))


def cut(exchange: Exchange) -> bytes:
    """The whole sound answer, with the length of a longer one."""
    content = exchange.sound.content or b"{}"
    return exchange.head(length=len(content) + 100) + content


def sends(begin: Callable[[Exchange], bytes], then: Act) -> Act:
    def act(exchange: Exchange) -> None:
        exchange.send(begin(exchange))
        then(exchange)

    return act


def drips(piece: bytes) -> Act:
    """A piece now and then, so that no read takes long, and there is no end."""

    def act(exchange: Exchange) -> None:
        while not exchange.over.wait(0.3):
            exchange.send(piece)

    return act


def half_closes(exchange: Exchange) -> None:
    exchange.sock.shutdown(socket.SHUT_WR)
    exchange.wait()


def endings() -> Iterator[Mechanism]:
    """A request was read, and the answer comes not at all, or not to its end."""
    resets, waits = Exchange.reset, Exchange.wait
    for name, act in {
        "never answers": waits,
        "closes without a byte": lambda exchange: None,
        "half closes": half_closes,
        "resets without a byte": resets,
        "resets after the head": sends(lambda e: e.head(length=10), resets),
        "resets in the body": sends(cut, resets),
        "closes in the head": lambda exchange: exchange.send(exchange.head()[:-9]),
        "closes in the body": lambda exchange: exchange.send(cut(exchange)),
        "silent after the head": sends(lambda e: e.head(length=10), waits),
        "silent in the head": sends(lambda e: e.head()[:-9], waits),
        "silent before the end": sends(cut, waits),
        "silent in a chunk": sends(
            lambda e: e.head("Transfer-Encoding: chunked") + b"5\r\nab", waits
        ),
        "drips the head": sends(lambda e: b"HTTP/1.1 200 OK\r\n", drips(b"x")),
        "drips the body": sends(lambda e: cut(e)[: len(cut(e)) // 2], drips(b" ")),
    }.items():
        yield Mechanism("TCP", name, act, breaks=True)
    yield Mechanism(
        "TCP",
        "answers and never closes",
        sends(lambda e: e.head() + e.sound.content, waits),
        breaks=True,
        on=tuple(each for each in ANY if each not in ("stream", "ping", "preflight", ALL, LATER)),
    )


# --- HTTP


def status_lines() -> Iterator[Mechanism]:
    def begins(line: bytes) -> Act:
        return lambda exchange: exchange.send(
            line + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        )

    for name, line in {
        "a status of two digits": b"HTTP/1.1 99 Odd",
        "a status in words": b"HTTP/1.1 fine",
        "a status of four digits": b"HTTP/1.1 2000 OK",
        "a negative status": b"HTTP/1.1 -200 OK",
        "no version": b"200 OK",
        "another version": b"HTTP/9.9 200 OK",
        "another protocol": b"ICY 200 OK",
        "RTSP": b"RTSP/1.0 200 OK",
        "ESC in the status line": b"HTTP/1.1 500 \x1b[31mred\x9b\x07",
        "a status line of 1 MB": b"HTTP/1.1 500 " + b"x" * (1 << 20),
        "NUL in the status line": b"HTTP/1.1 \x00200 OK",
        "an empty status line": b"\r\n\r\n",
    }.items():
        yield Mechanism("HTTP head", name, begins(line), breaks=True)


def header_lines() -> Iterator[Mechanism]:
    def with_lines(*lines: bytes) -> Act:
        def act(exchange: Exchange) -> None:
            content = exchange.sound.content
            exchange.send(exchange.head(*lines, length=len(content)) + content)

        return act

    yield Mechanism(
        "HTTP head", "a million lines", with_lines(b"\r\n".join([b"X: y"] * 1_000_000)), breaks=True
    )
    yield Mechanism(
        "HTTP head", "a line of 1 MB", with_lines(b"X: " + b"y" * (1 << 20)), breaks=True
    )
    yield Mechanism(
        "HTTP head", "a line of 31 MB", lambda e: e.send(b"HTTP/1.1 200 OK\r\nX: ", flood_text())
    )
    for name, more in {
        "folded lines": b"X-Fold: a\r\n b\r\n\tc",
        "a line without a colon": b"nonsense",
        "a name with a space": b"X Y: z",
        "NUL in a line": b"X: a\0b",
        "8-bit letters": b"X: \xff\xfe\x80\xc3\x28",
        "a line of CRs": b"X: a\rb\rc",
        "1,000 cookies": b"\r\n".join([b"Set-Cookie: a=b; Path=/"] * 50),
        "an empty name": b": x",
    }.items():
        yield Mechanism("HTTP head", name, with_lines(more))


def interim_answers() -> Iterator[Mechanism]:
    def interim(line: bytes, count: int) -> Act:
        return lambda exchange: (exchange.send(line * count), exchange.say_soundly())

    def interim_for_ever(exchange: Exchange) -> None:
        while not exchange.over.is_set():
            exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)

    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    yield Mechanism("HTTP head", "three interim answers", interim(early, 3))
    yield Mechanism("HTTP head", "100,000 interim answers", interim(early, 100_000))
    yield Mechanism("HTTP head", "interim answers for ever", interim_for_ever, breaks=True)


def other_heads() -> Iterator[Mechanism]:
    """Those of other versions, and more than one."""
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"
    yield Mechanism("HTTP head", "101", lambda e: e.send(switching), breaks=True)
    yield Mechanism(
        "HTTP head", "HTTP/0.9", lambda e: e.send(e.sound.content or b"ok"), breaks=True
    )
    yield Mechanism(
        "HTTP head",
        "line ends without CR",
        lambda e: e.send(
            e.head(length=len(e.sound.content)).replace(b"\r\n", b"\n") + e.sound.content
        ),
    )
    yield Mechanism(
        "HTTP head",
        "HTTP/1.0",
        lambda e: e.send(e.head().replace(b"HTTP/1.1", b"HTTP/1.0") + e.sound.content),
    )
    yield Mechanism(
        "HTTP head", "two answers", lambda e: (e.say(e.sound.content), e.say(b"and another one"))
    )


def flood_text() -> bytes:
    return payloads.flood("text")


# A preflight is answered with 204, where a length means nothing.
WITH_BODY = tuple(each for each in ANY if each != "preflight")


def lengths() -> Iterator[Mechanism]:
    def with_length(*values: str, body: bytes | None = None) -> Act:
        def act(exchange: Exchange) -> None:
            content = exchange.sound.content if body is None else body
            lines = [f"Content-Length: {value}" for value in values]
            exchange.send(exchange.head(*lines) + content)

        return act

    for name, values in {
        "negative": ("-1",),
        "in words": ("many",),
        "with a sign": ("+5",),
        "hexadecimal": ("0x10",),
        "with a comma": ("5, 7",),
        "in other digits": ("\xb2",),
        "two of them": ("5", "700"),
        "of 30 digits": ("1" + "0" * 30,),
        "of 5,000 digits": ("9" * 5000,),
        "of 1 TB": ("1000000000000",),
        "empty": ("",),
    }.items():
        act = with_length(*values)
        yield Mechanism("framing", f"a length {name}", act, breaks=True, on=WITH_BODY)
    yield Mechanism("framing", "a length of 0", with_length("0"))
    yield Mechanism("framing", "a length too short", with_length("3"))


def transfer_codings() -> Iterator[Mechanism]:
    def coded(*lines: str) -> Act:
        def act(exchange: Exchange) -> None:
            content = exchange.sound.content
            exchange.send(
                exchange.head(*lines) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
            )

        return act

    for name, lines in {
        "a length and chunks": ("Content-Length: 5", "Transfer-Encoding: chunked"),
        "chunked twice": ("Transfer-Encoding: chunked, chunked",),
        "chunked in two lines": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        "an unknown transfer coding": ("Transfer-Encoding: xchunked",),
        "gzip as a transfer coding": ("Transfer-Encoding: gzip, chunked",),
        "chunked not last": ("Transfer-Encoding: chunked, gzip",),
    }.items():
        yield Mechanism("framing", name, coded(*lines))


LAST_CHUNK = b"0\r\n\r\n"


def says_in_chunks(*parts: Data) -> Act:
    head = "Transfer-Encoding: chunked"
    return lambda exchange: exchange.send(exchange.head(head), *map(made, parts))


def odd_chunks() -> Iterator[Mechanism]:
    for name, data in {
        "a negative size": b"-5\r\nhello\r\n" + LAST_CHUNK,
        "a size in words": b"zz\r\nhello\r\n" + LAST_CHUNK,
        "a size of 2**64": b"ffffffffffffffff\r\nhello",
        "a size of 2**63": b"7fffffffffffffff\r\nhello",
        "a size of 1,000 digits": b"1" * 1000 + b"\r\nhello",
        "a size of 1 MB of zeros": b"0" * (1 << 20) + b"5\r\nhello\r\n" + LAST_CHUNK,
        "a size with 0x": b"0x5\r\nhello\r\n" + LAST_CHUNK,
        "a size with an underscore": b"1_0\r\n" + b"x" * 16 + b"\r\n" + LAST_CHUNK,
        "no line end after a chunk": b"5\r\nhello5\r\nhello" + LAST_CHUNK,
        "no last chunk": b"5\r\nhello\r\n",
        "an extension of 1 MB": b"5;x=" + b"y" * (1 << 20) + b"\r\nhello\r\n" + LAST_CHUNK,
        "a million trailers": lambda: b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n",
        "an endless size line": b"5" * (2 << 20),
        "only empty lines": b"\r\n" * 100_000,
    }.items():
        yield Mechanism("framing", name, says_in_chunks(data), breaks=True)


def many_chunks() -> Iterator[Mechanism]:
    def in_bytes(exchange: Exchange) -> None:
        content = exchange.sound.content + b" " * 300_000
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in content)
        exchange.send(exchange.head("Transfer-Encoding: chunked") + pieces + LAST_CHUNK)

    yield Mechanism("framing", "300,000 chunks of a byte", in_bytes, on=(*BODIES, *STREAMS))
    yield Mechanism(
        "framing",
        "a million chunks of a byte",
        says_in_chunks(lambda: b"1\r\n \r\n" * 1_500_000, LAST_CHUNK),
        breaks=True,
        on=(*BODIES, *STREAMS, ALL),
    )

    def with_extras(exchange: Exchange) -> None:
        content = exchange.sound.content
        chunk = b"%X ; a=b ; c\r\n%s\r\n" % (len(content), content) if content else b""
        end = b"0;end\r\nX-Trailer: \x1b[31m\r\nContent-Length: 5\r\n\r\nafter the end"
        exchange.send(exchange.head("Transfer-Encoding: chunked") + chunk + end)

    yield Mechanism("framing", "extensions and trailers", with_extras)


def codings() -> Iterator[Mechanism]:
    def coded(name: str, body: Callable[[Exchange], bytes]) -> Act:
        return lambda exchange: exchange.say(body(exchange), f"Content-Encoding: {name}")

    gigabyte = 1 << 30
    table: dict[str, tuple[str, Callable[[Exchange], bytes], bool]] = {
        "a bomb of 64 MB": ("gzip", lambda e: payloads.bomb(64 << 20), True),
        "a bomb of 1 GB": ("gzip", lambda e: payloads.bomb(gigabyte), True),
        "a bomb in a bomb": ("gzip, gzip", lambda e: payloads.bomb(gigabyte, 2), True),
        "a bomb in three": ("gzip, gzip, gzip", lambda e: payloads.bomb(gigabyte, 3), True),
        "x-gzip and gzip": ("x-gzip, gzip", lambda e: payloads.bomb(64 << 20, 2), True),
        "gzip garbage": ("gzip", lambda e: b"\x1f\x8b garbage" * 50, True),
        "not gzip": ("gzip", lambda e: e.sound.content or b"ok", True),
        "half gzip": ("gzip", lambda e: payloads.bomb(1 << 20)[:500], True),
        "deflate garbage": ("deflate", lambda e: b"\x78\x9c garbage", True),
        "br garbage": ("br", lambda e: b"\x0b garbage" * 9, True),
        "zstd garbage": ("zstd", lambda e: b"\x28\xb5\x2f\xfd garbage", True),
        "an unknown coding": ("snappy", lambda e: b"garbage", True),
        "ESC as a coding": ("\x1b[31mgzip", lambda e: b"garbage", True),
        "1,000 codings": (", ".join(["gzip"] * 1000), lambda e: payloads.bomb(1 << 20), True),
        "10,000 empty members": ("gzip", lambda e: gzip_of(b"") * 10_000, True),
        "gzip that is right": ("gzip", lambda e: gzip_of(e.sound.content), False),
        "gzip twice that is right": (
            "gzip, gzip",
            lambda e: gzip_of(gzip_of(e.sound.content)),
            False,
        ),
        "identity": ("identity", lambda e: e.sound.content, False),
    }
    for name, (coding, body, breaks) in table.items():
        yield Mechanism(
            "coding",
            name,
            coded(coding, body),
            breaks=breaks,
            on=(*BODIES, *STREAMS, ALL),
            confirmed=name == "a bomb in a bomb",
        )


def gzip_of(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def redirects() -> Iterator[Mechanism]:
    targets: dict[str, Callable[[Exchange], str]] = {
        "to another host": lambda e: f"{e.elsewhere}{e.path}",
        "to another host with the credential": lambda e: f"{e.elsewhere}/?key={e.secret}",
        "to another host without a scheme": lambda e: e.elsewhere.removeprefix("http:") + "/x",
        "to a file": lambda e: "file:///etc/passwd",
        "to itself": lambda e: e.path,
        "to a path with ESC": lambda e: "/\x1b[31mred\x9b",
        "to a long path": lambda e: "/" + "a" * 50_000,
        "to JavaScript": lambda e: "javascript:alert(1)",
        "to nowhere": lambda e: "",
        "to a bad URL": lambda e: "http://[::1:80/\xff",
        "to the end of the credential": lambda e: f"/x?y={e.secret[-12:]}",
        "to a user and password": lambda e: f"http://user:{e.secret[:20]}@127.0.0.1:9/",
    }
    for name, target in targets.items():
        for status in ("302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
            if status[:3] != "302" and name not in list(targets)[:2]:
                continue

            def act(
                exchange: Exchange, target: Callable[[Exchange], str] = target, status: str = status
            ) -> None:
                exchange.say(b"", b"Location: " + target(exchange).encode(), status=status)

            yield Mechanism("redirect", f"{status[:3]} {name}", act, breaks=True)
    for status in ("300 Multiple", "304 Not Modified", "305 Use Proxy"):
        yield Mechanism("redirect", status, lambda e, s=status: e.say(b"", status=s), breaks=True)  # type: ignore[misc]


MAKERS = (
    *(connections, tls_connections, certificates, endings),
    *(status_lines, header_lines, interim_answers, other_heads),
    *(lengths, transfer_codings, odd_chunks, many_chunks, codings, redirects),
)
