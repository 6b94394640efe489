"""The proxy between this machine and a deployment: which one it is, and what it says itself.

The environment names it, by the rules of `requests`. A request to an http:// URL goes to the proxy
in the absolute form (RFC 9112, section 3.2.2), one to an https:// URL through a tunnel that the
proxy opens (CONNECT, RFC 9110, section 9.3.6). What the proxy refuses says nothing about the
deployment.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import sys
import time
import urllib.parse
from dataclasses import dataclass, field

from livecheck.core.credentials import CannotCheck
from livecheck.core.late_pattern import late_pattern
from livecheck.core.settings import is_loopback_host
from livecheck.core.text import shorten
from livecheck.wire.http1 import Message
from livecheck.wire.look_up import Unreachable

DEFAULT_PORT = 80  # as requests and curl's newer versions do for http:// without a port
WORDS_BYTES = 4096  # of a refusal
WORDS_S = 1.0  # how long the rest of a refusal may take
WORDS_LENGTH = 120  # characters of it that are shown
TAGS = late_pattern(r"<(script|style|title)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
# Statuses that a proxy sends itself and a deployment may send as well, when a request has reached
# it: not let through, the deployment not reached, not reached now, not in time.
DOUBTFUL = (403, 502, 503, 504)
# Statuses by which a proxy does not let a request through, whoever it is for (511: RFC 6585).
BARRED = (403, 407, 511)
NO_CONNECT = (501, 505)  # what servers say to a method that they do not know
# How an error shows that it is the proxy's own: headers (Squid's; RFC 9209 for Proxy-Status), and
# the names of proxies for clients in the Server header: they do not change that of other servers.
OWN_HEADERS = ("x-squid-error", "proxy-authenticate")
OWN_SERVERS = ("squid", "tinyproxy", "privoxy", "mitmproxy", "zscaler", "bluecoat", "mcafee")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, as the way to one target.

    `variable`: the setting that names it. `target`: host and port behind it. `forwards`: it gets
    the requests themselves, because the target has no TLS; else it opens a tunnel.
    """

    host: str
    port: int
    variable: str
    target: tuple[str, int]
    forwards: bool
    userinfo: str = field(default="", repr=False)  # as the URL has it, with its percent signs

    @property
    def name(self) -> str:
        """How messages call it: without user and password."""
        return f"{self.shown_host}:{self.port}"

    @property
    def shown_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def shown_target(self) -> str:
        host, port = self.target
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def secrets(self) -> list[str]:
        """What must not be shown of it."""
        password = urllib.parse.unquote(self.userinfo.partition(":")[2])
        found = [self.userinfo, password, (self.authorization or "").partition(" ")[2]]
        return [each for each in found if each]

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization; None without a user."""
        if not self.userinfo:
            return None
        user, _, password = self.userinfo.partition(":")
        both = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
        import base64

        return f"Basic {base64.b64encode(both.encode()).decode()}"

    def url(self, address: str | None = None) -> str:
        """The URL for another HTTP library, with user and password; by `address` if there is one
        that answers while others do not."""
        host = self.shown_host if address is None else address
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{f'{self.userinfo}@' if self.userinfo else ''}{host}:{self.port}"

    def in_words(self, text: str) -> str:
        """What went wrong, with the name of the proxy."""
        return text if self.name in text else f"{text} (through the proxy {self.name})"

    @property
    def advice(self) -> str:
        """What to do when it may be the proxy's fault."""
        return f"is {self.variable} right? no_proxy={self.target[0]} asks without a proxy"

    def own_words(self, message: Message, body: bytes) -> str | None:
        """The line for an answer that is the proxy's own; None: it is not, as far as it shows."""
        status = message.status or 0
        if status < 400 or not (status in (407, 511) or is_own(message)):
            return None
        return self.refusal(status, words_of(message, body))

    def refusal(self, status: int, words: str) -> str:
        """The line for what the proxy said instead of passing a request on to the target."""
        said = f"the proxy {self.name} answered {status} {words}".rstrip()
        if status == 407:
            if self.userinfo:
                return f"{said}: it refuses the user and password in {self.variable}"
            return f"{said}: put a user and password into {self.variable} (http://USER:PASSWORD@…)"
        if status in BARRED:
            return f"{said}: it does not let requests to {self.shown_target} through"
        if status >= 500 and status not in NO_CONNECT:
            return f"{said}: it does not reach {self.shown_target}"
        return f"{said}: is it a proxy?"


# --- which one


def find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that the settings of this machine ask for; None: there is none for this host.

    `http_proxy` or `https_proxy` by the scheme of the target, else `all_proxy`; in lower or upper
    case, the lower case first. This machine itself is never asked through a proxy, which would take
    it for its own machine. CannotCheck when it is one that cannot be used.
    """
    names_one = any(name.lower().endswith("_proxy") for name in os.environ)
    if is_loopback_host(host) or not (names_one or sys.platform in ("darwin", "win32")):
        return None
    import urllib.request  # here: it takes 9 ms, and few machines have a proxy

    settings = urllib.request.getproxies()
    kind = scheme if settings.get(scheme) else "all"
    url = settings.get(kind, "").strip()
    if not url or urllib.request.proxy_bypass(host):
        return None
    if is_excepted(host, port, settings.get("no", "")):
        return None
    return read_proxy(url, variable_of(kind), (host, port), scheme == "http")


def variable_of(kind: str) -> str:
    """The variable that it was read from, or the system's settings, on macOS and Windows."""
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's proxy")


def read_proxy(url: str, variable: str, target: tuple[str, int], forwards: bool) -> Proxy:
    """The proxy of this URL. CannotCheck when it cannot be used; the URL is not repeated, because
    it may have a password in it."""
    advice = f"use an http:// proxy, or no_proxy={target[0]} to ask without one"
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        name, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        name, port = None, 0
    if not name or not name.isprintable():
        raise CannotCheck(f"{variable} is not the URL of a proxy, as in http://host:3128: {advice}")
    if parts.scheme.startswith("socks"):
        raise CannotCheck(f"{variable} names a SOCKS proxy, which is not supported here: {advice}")
    if parts.scheme != "http":
        raise CannotCheck(
            f"{variable} begins with {shorten(parts.scheme, 20)}://, so the proxy itself would be "
            f"asked over {shorten(parts.scheme, 20)}, which is not supported here: {advice}"
        )
    return Proxy(name, port, variable, target, forwards, parts.netloc.rpartition("@")[0])


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether `no_proxy` names this host: the entries have commas or blanks between them.

    `*` is every host. A name is that host and all below it, with or without a dot (or `*.`) at its
    beginning. An address is that address, and with a slash a network (`10.0.0.0/8`, `fd00::/8`);
    names are not looked up for these. An entry may have a port (`host:8000`, `[::1]:8000`).
    """
    return any(is_named(host.lower(), port, each) for each in re.split(r"[\s,]+", exceptions))


def is_named(host: str, port: int, entry: str) -> bool:
    """Whether an entry of no_proxy names this host, whose name is in lower case."""
    if entry in ("", "*"):
        return entry == "*"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    name, entry_port = split_port(entry.lower())
    if entry_port not in ("", str(port)):
        return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def split_port(entry: str) -> tuple[str, str]:
    """An entry's host and its port, which is empty where there is none."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (name, port)  # an IPv6 address without brackets


# --- what it says


def is_own(message: Message) -> bool:
    """Whether an error is the proxy's own and not the deployment's, by its headers."""
    if any(message.header(name) is not None for name in OWN_HEADERS):
        return True
    if "error=" in ",".join(message.headers_all("proxy-status")).lower():
        return True
    if (message.header("server") or "").lower().startswith(OWN_SERVERS):
        return True
    names = [name.lower() for name, _ in message.headers]
    return message.status in DOUBTFUL and any(name.startswith("proxy-") for name in names)


def words_of(message: Message, body: bytes) -> str:
    """What an error of a proxy says: its own name for the error, which Squid's pages hide behind a
    long text, and the text of its page, else the reason in the status line."""
    text = TAGS.sub(" ", body[:WORDS_BYTES].decode("utf-8", "replace"))
    text = " ".join(text.split()).removeprefix(f"{message.status} ") or message.reason
    named = message.header("x-squid-error") or message.header("proxy-status")
    return shorten(f"{named}, {text}" if named else text, WORDS_LENGTH)


def open_tunnel(sock: socket.socket, proxy: Proxy, deadline_s: float) -> None:
    """Have the proxy connect this socket to the target. Raises OSError.

    The socket blocks afterwards, with a time-out.
    """
    lines = [f"CONNECT {proxy.shown_target} HTTP/1.1", f"Host: {proxy.shown_target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        set_time_left(sock, deadline_s)
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        # HEAD: an answer to CONNECT with a 2xx has no body (RFC 9110, section 9.3.6)
        message, read = Message("HEAD"), b""
        while not message.complete and message.error is None:
            set_time_left(sock, deadline_s)
            data = sock.recv(WORDS_BYTES)
            read += data
            message.feed(data) if data else message.eof()
        if message.status and 200 <= message.status < 300:
            return
        body = read_rest(sock, read, deadline_s)
    except TimeoutError:
        raise Unreachable(f"the proxy {proxy.name} did not answer to CONNECT in time") from None
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Unreachable(f"the proxy {proxy.name} broke the connection off ({words})") from None
    if not read:
        raise Unreachable(f"the proxy {proxy.name} closed the connection instead of an answer")
    if message.status is None:
        raise Unreachable(f"the proxy {proxy.name} does not speak HTTP ({message.error})")
    raise Unreachable(proxy.refusal(message.status, words_of(message, body)))


def read_rest(sock: socket.socket, read: bytes, deadline_s: float) -> bytes:
    """The body of a refusal, as far as it comes soon. `read`: what has come so far."""
    message, size = Message("GET"), len(read)
    soon_s = min(deadline_s, time.perf_counter() + WORDS_S)
    reads = [read]
    with contextlib.suppress(OSError):  # what has come is enough
        while not message.feed(reads[-1]) and message.error is None and size < 2 * WORDS_BYTES:
            set_time_left(sock, soon_s)
            data = sock.recv(WORDS_BYTES)
            if not data:
                break
            reads.append(data)
            size += len(data)
    return message.body(b"".join(reads))


def set_time_left(sock: socket.socket, deadline_s: float) -> None:
    """Let the next step on the socket take no longer than that. Raises TimeoutError."""
    left_s = deadline_s - time.perf_counter()
    if left_s <= 0:
        raise TimeoutError("the time is over")
    sock.settimeout(left_s)
