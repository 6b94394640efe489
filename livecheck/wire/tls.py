"""TLS over a socket that is read with its receive times, and why it failed.

A module of its own, because to import Python's takes 7 ms, which only a run over TLS pays.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl

from livecheck.core.late_pattern import late_pattern
from livecheck.wire.connection import (
    CERTIFICATE_REFUSED,
    CERTIFICATE_WANTED,
    NO_HTTP_1,
    READ_SIZE,
    TLS_CLOSED,
    TLS_SILENT,
    Failure,
    Target,
)

# The alerts of a server about the certificate of a client (RFC 8446, section 6.2; RFC 5246, section
# 7.2), as OpenSSL names them
ABOUT_CERTIFICATE = late_pattern(
    "ALERT_(NO_CERTIFICATE|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_REVOKED"
    "|CERTIFICATE_EXPIRED|CERTIFICATE_UNKNOWN|UNKNOWN_CA|ACCESS_DENIED|CERTIFICATE_REQUIRED)"
)
HANDSHAKE, CERTIFICATE_REQUEST = 22, 13  # a type of TLS records; a type of messages in these


class Tls:
    """TLS over a socket that we read ourselves: an SSLSocket cannot give kernel receive times,
    because it has no recvmsg."""

    def __init__(self, context: ssl.SSLContext, host: str, has_certificate: bool = False):
        """`has_certificate`: whether the context has one for a server that asks for it."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._has_certificate = has_certificate
        self.closed = False  # the peer will not send anything more
        self.refusal: str | None = None  # what the peer said of our certificate, or of its absence

    def handshake(self, sock: socket.socket) -> None:
        """Needs a blocking socket with a time-out. Raises OSError (ssl.SSLError is one)."""
        received = b""
        try:
            while True:
                try:
                    self._object.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(self._outgoing.read())
                    data = self._receive(sock)
                    received += data
                    self._incoming.write(data)
            sock.sendall(self._outgoing.read())
        except (ssl.SSLError, ConnectionError) as error:
            if refusal := self._certificate_words(error, received):
                raise ClientCertificateError(refusal) from None
            raise

    @staticmethod
    def _receive(sock: socket.socket) -> bytes:
        try:
            data = sock.recv(READ_SIZE)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, TLS_SILENT) from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, TLS_CLOSED) from None
        return data

    def _certificate_words(self, error: OSError, received: bytes = b"") -> str | None:
        """What an error of TLS says about the client's certificate; None when nothing.

        Some servers do not name the certificate in their alert, or send none at all: then it counts
        that they asked for one in the handshake, which was `received`.
        """
        if isinstance(error, ssl.SSLCertVerificationError):  # it is ours, about the server's
            return None
        reason = tls_reason(error)
        about = ABOUT_CERTIFICATE.search(reason)
        asked = isinstance(error, ConnectionError) or "ALERT_HANDSHAKE_FAILURE" in reason
        if not about and not (asked and asks_for_certificate(received)):
            return None
        if not self._has_certificate:
            return CERTIFICATE_WANTED
        said = about[1].replace("_", " ").lower() if about else "without saying why"
        return f"{CERTIFICATE_REFUSED} ({said})"

    def take_unsent(self) -> bytes:
        """What TLS itself has to send after a read: a certificate that was asked for only now."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """The plain bytes of what has arrived. Sets `closed` when the peer has ended TLS."""
        self._incoming.write(data)
        plain = b""
        try:
            while piece := self._object.read(READ_SIZE):
                plain = plain + piece if plain else piece
                if not self._incoming.pending and not self._object.pending():
                    break  # all was read: to try it once more costs an exception
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:  # close_notify or an alert: nothing more will arrive
            self.closed = True
            # In TLS 1.3 a client learns only now that the server did not accept its handshake.
            self.refusal = self._certificate_words(error)
        return plain


class ClientCertificateError(OSError):
    """The server wants a client certificate, or not this one; the text says which."""


def tls_reason(error: OSError) -> str:
    """OpenSSL's name for an error, as `TLSV1_ALERT_UNKNOWN_CA`. Python does not know all names: of
    the others it has the words alone."""
    return (getattr(error, "reason", None) or str(error)).upper().replace(" ", "_")


def asks_for_certificate(received: bytes) -> bool:
    """Whether a server's part of a handshake has a CertificateRequest (RFC 5246, section 7.4.4).

    `received`: TLS records as they came. Those of TLS 1.3 are encrypted from there on.
    """
    messages, at = b"", 0
    while received[at : at + 1] == bytes([HANDSHAKE]):
        end = at + 5 + int.from_bytes(received[at + 3 : at + 5], "big")
        messages += received[at + 5 : end]
        at = end
    at = 0
    while at < len(messages):
        if messages[at] == CERTIFICATE_REQUEST:
            return True
        at += 4 + int.from_bytes(messages[at + 1 : at + 4], "big")
    return False


def tls_context(target: Target) -> ssl.SSLContext:
    """urllib3's settings, with the system's certificates, those that requests would use, and those
    of --ca-file. OpenSSL takes the system's from SSL_CERT_FILE and SSL_CERT_DIR, if they are set.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.set_alpn_protocols(["http/1.1"])
    if target.certificate:
        target.certificate.load(context)
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_default_certs()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    if target.ca_file:
        context.load_verify_locations(target.ca_file)
    return context


def explain(error: OSError) -> Failure | None:
    """Why there is no connection, if it is for TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure("tls", f"certificate not accepted: {error.verify_message}")
    if isinstance(error, ClientCertificateError):
        return Failure("tls", str(error))
    if isinstance(error, ssl.SSLError) and "NO_APPLICATION_PROTOCOL" in tls_reason(error):
        return Failure("tls", NO_HTTP_1)
    if isinstance(error, ssl.SSLError):
        return Failure("tls", f"TLS failed: {(error.reason or str(error)).replace('_', ' ')}")
    return None
