"""Tells a URL with the wrong one of http and https, and the URL that should have been given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from livecheck.core.late_pattern import late_pattern
from livecheck.wire.answer import Answer
from livecheck.wire.connection import Target, connect

# What servers say in a 400 to a plain request at their TLS port: nginx and the load balancers of
# AWS and Cloudflare; Go and so Caddy; Apache; Tomcat.
SAID = late_pattern(
    rb"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server"
    rb"|plain HTTP to an SSL-enabled|combination of host and port requires TLS",
    re.IGNORECASE,
)
# OpenSSL's reasons when what comes back is not TLS; later versions have other names for them
NO_TLS = late_pattern("WRONG VERSION NUMBER|RECORD LAYER FAILURE|PACKET LENGTH TOO LONG")
ALERT = b"\x15\x03"  # how a TLS record begins that says why the handshake ended (RFC 8446, 5.1)
HANDSHAKE_S = 3.0


def wrong_scheme(target: Target, answers: Sequence[Answer]) -> str | None:
    """The line for a deployment that is asked in plain http and speaks https; None: it is not so.

    `answers`: those of the first contact. Where a server closed every connection without a byte,
    one TLS handshake without a credential shows whether it speaks TLS.
    """
    if target.is_tls or not answers:
        return None
    if text := said_of_scheme(target.url, answers):
        return text
    if all(answer.is_closed_at_once for answer in answers) and speaks_tls(target):
        return f"{target.url} speaks TLS (a TLS handshake succeeds there): use {other(target.url)}"
    return None


def said_of_scheme(url: str, answers: Sequence[Answer]) -> str | None:
    """The line for a URL with the wrong one of http and https, by the answers alone; None when they
    do not say so."""
    if url.startswith("https:"):
        failures = [answer.failure for answer in answers]
        reasons = {each.text for each in failures if each and NO_TLS.search(each.text)}
        if reasons and all(each and each.text in reasons for each in failures):
            return f"{url} does not speak TLS ({min(reasons)}): use {other(url)}"
        return None
    for answer in answers:
        if answer.status == 400 and SAID.search(answer.body[:4096]):
            return f"{url} speaks TLS (400 {answer.words}): use {other(url)}"
        if answer.reply.raw.startswith(ALERT):
            return f"{url} speaks TLS (it answered with a TLS alert): use {other(url)}"
    return None


def other(url: str) -> str:
    """The same URL with the other one of http and https."""
    scheme, _, rest = url.partition(":")
    return f"{'http' if scheme == 'https' else 'https'}:{rest}"


def speaks_tls(target: Target) -> bool:
    """Whether a TLS handshake succeeds there, or fails in a way that only TLS has."""
    import ssl

    from livecheck.wire.tls import ClientCertificateError, tls_context

    secure = Target(other(target.url), verify=False, hosts=target.hosts)
    try:
        connect(secure, tls_context(secure), HANDSHAKE_S, kernel_stamps=False).close()
    except ClientCertificateError:
        return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True
