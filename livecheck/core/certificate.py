"""The client certificate of `--cert`, for servers that ask for one (mutual TLS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from livecheck.core.json_value import quoted

if TYPE_CHECKING:
    import ssl

MAX_FILE = 1 << 20  # bytes that are looked at; no chain of certificates is that long
HOW_TO_DECRYPT = "write it without a password (openssl pkey -in FILE -out NEW)"


class ClientCertificate(NamedTuple):
    """The paths of the PEM files with the certificate and with its key; None: in the same file."""

    file: str
    key_file: str | None = None

    def load(self, context: ssl.SSLContext) -> None:
        """Raises OSError (ssl.SSLError is one); ValueError when the key is encrypted."""
        context.load_cert_chain(self.file, self.key_file, password=_no_password)


def read_client_certificate(file: str, key_file: str | None) -> ClientCertificate:
    """The client certificate in these files. ValueError says what is wrong with them."""
    import ssl

    if b" CERTIFICATE-----" not in _content(file):
        raise ValueError(f"{quoted(file)} has no certificate in PEM form")
    if b"PRIVATE KEY-----" not in _content(key_file or file):
        if key_file is None:
            raise ValueError(f"{quoted(file)} has no private key: give it with --cert-key FILE")
        raise ValueError(f"{quoted(key_file)} has no private key in PEM form")
    found = ClientCertificate(file, key_file)
    try:
        found.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"the key does not belong to the certificate in {quoted(file)}"
            ) from None
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ValueError(f"cannot use {quoted(file)}: {reason}") from None
    return found


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(MAX_FILE)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else "that is not a path"
        raise ValueError(f"cannot read {quoted(file)}: {reason}") from None


def _no_password() -> NoReturn:
    """OpenSSL would ask for the password on the terminal."""
    raise ValueError(f"the key is encrypted: {HOW_TO_DECRYPT}")
