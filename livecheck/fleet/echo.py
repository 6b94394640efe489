"""Whether an answer repeats the credential that was sent, which then gets into logs."""

from __future__ import annotations

from collections.abc import Iterator

from livecheck.core.credentials import forms_of
from livecheck.wire.answer import Answer

PIECE_LENGTH = 24  # characters of a longer credential, from anywhere in it
SEARCHED_BYTES = 1 << 20  # of an answer


def has_echo(answer: Answer, least: int) -> bool:
    """Whether head or body has the credential of the request in it, or a piece of it.

    `least`: characters that a credential must have to be looked for; a shorter one may be a word of
    the server's. Upper and lower case, base64 and the quoting of URLs, JSON and HTML are looked
    through.
    """
    secret = answer.request.secret or ""
    if len(secret) < least:
        return False
    size = min(PIECE_LENGTH, len(secret))
    forms = (form.lower() for form in forms_of(secret))
    sought = {piece for form in forms for piece in pieces(form, size)}
    raw = b"".join(answer.reply.reads)
    # The raw bytes have the head in them, the decoded body is not cut into chunks.
    texts = (
        data[:SEARCHED_BYTES].decode("latin-1") for data in (raw, answer.reply.message.body(raw))
    )
    return any(piece in sought for text in texts for piece in pieces(text.lower(), size))


def pieces(text: str, size: int) -> Iterator[str]:
    """Every part of this length, one by one: the text may be long."""
    return (text[at : at + size] for at in range(len(text) - size + 1))
