"""How credentials stay out of everything that is shown or saved, whole and in pieces."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 4  # replacing shorter strings would shred the text and hide nothing
PIECE_LENGTH = 8  # of a secret, from anywhere in it: less is a coincidence too often
MAX_SHIFTED = 300  # characters of a secret that is looked for inside of longer text in base64
# Words that every result is made of. A part of a credential that is a part of one of them says
# nothing about it, and without it nothing could be read where the credential is, for example,
# "local-model-key" or "test-inference-requests". The credential as a whole is hidden all the same.
ORDINARY = """
    local-model benchmark gateway_overhead inference_c inference_r openai_sdk_test scale_to_zero
    test_openai_sdk test_scale_to_zero queue_behavior test_queue model_routing test_model_routing
    workload_routing test_workload_routing test_auth test_cors test_wol content_encoding addresses
    test_concurrency test_context
    test_concurrency
    test_rate_limit
    inference deployment requests responses answered unanswered completion completions
    chat.completion
    chat/completions connection connections credential credentials authorization authentication
    unauthorized forbidden permission permissions expected unexpected interrupted terminated
    undecided streaming streamed concurrency concurrent throughput percentile temperature
    max_tokens prompt_tokens completion_tokens total_tokens tokens_per_s output_tokens finish_reason
    application/json text/event-stream content-type retry-after access-control-allow-origin
    rate_limited rate_limit_exceeded invalid_request_error invalid_api_key authentication_error
    measured seconds milliseconds available unavailable reachable unreachable different embedding
    embeddings http://localhost https://localhost http://127.0.0.1 https://127.0.0.1 started_at
    schema_version tool_version duration_s api_key internal production development
"""


class Secrets:
    """Every credential of this run, and what was forged from one: `redact` takes them out.

    `public`: what the operator has given besides, such as the URL. Parts of a credential that are
    in it are no secret, unless all of the credential is.
    """

    def __init__(self, public: Iterable[str] = ()) -> None:
        self._pieces: set[str] = set()  # of PIECE_LENGTH, in lower case
        self._wholes: set[str] = set()  # those of which some pieces are ordinary, in lower case
        self._short: set[str] = set()  # shorter than a piece, as they are
        self._ordinary = {each for word in ORDINARY.split() for each in pieces_of(word)}
        self._public: list[str] = []
        for text in public:
            self.make_public(text)

    def make_public(self, text: str) -> None:
        """Before `add`."""
        self._public.append(lowered(text))

    def add(self, secret: str) -> str:
        whole = lowered(secret)
        public = {
            each for text in self._public if whole not in text for each in pieces_of(text)
        } | self._ordinary
        for form in forms_of(secret):
            if len(form) < PIECE_LENGTH:
                if len(form) >= MIN_SECRET_LENGTH:
                    self._short.add(form)
                continue
            found = set(pieces_of(lowered(form)))
            if not found.isdisjoint(public):
                self._wholes.add(lowered(form))
            self._pieces |= found - public
        return secret

    def redact(self, text: str, least: int = MIN_SECRET_LENGTH) -> str:
        """The text without any piece of a secret. `least`: runs of fewer characters are left."""
        shown, start = [], 0
        for begin, end in merged(self._found(text)):
            if end - begin >= least:
                shown += [text[start:begin], REDACTED]
                start = end
        return "".join([*shown, text[start:]]) if shown else text

    def _found(self, text: str) -> list[tuple[int, int]]:
        """Where pieces of secrets begin and end. The time grows with the length of the text."""
        line, pieces, size = lowered(text), self._pieces, PIECE_LENGTH
        found = [
            (at, at + size) for at in range(len(line) - size + 1) if line[at : at + size] in pieces
        ]
        for whole in self._wholes:
            found += occurrences(whole, line)
        for whole in self._short:
            found += occurrences(whole, text)
        return found


def pieces_of(text: str, size: int = PIECE_LENGTH) -> Iterator[str]:
    """Every part of this length, one by one."""
    return (text[at : at + size] for at in range(len(text) - size + 1))


def occurrences(word: str, text: str) -> Iterator[tuple[int, int]]:
    at = text.find(word)
    while at >= 0:
        yield at, at + len(word)
        at = text.find(word, at + 1)


def merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same places in order; those that touch each other are one."""
    begin = end = -1
    for start, stop in sorted(spans):
        if start > end:
            if end > begin:
                yield begin, end
            begin = start
        end = max(end, stop)
    if end > begin:
        yield begin, end


def lowered(text: str) -> str:
    """In lower case, with as many characters as before: "İ" alone would become two."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(each.lower() if each.isascii() else each for each in text)


def forms_of(secret: str) -> set[str]:
    """How a server or a library may write it; upper and lower case are the reader's business."""
    import html  # here: a run without a credential does not need it

    quoted = [urllib.parse.quote(secret, safe="/"), urllib.parse.quote(secret, safe="")]
    lower = [re.sub("%..", lambda match: match[0].lower(), form) for form in quoted]
    as_json = json.dumps(secret)[1:-1]
    # as Go writes JSON and HTML
    as_go = re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", as_json)
    as_html = html.escape(secret)
    forms = {secret, *quoted, *lower, as_json, as_json.replace("/", "\\/"), as_go, as_html}
    forms.add(as_html.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"))
    if len(secret) >= PIECE_LENGTH:
        forms |= in_base64(secret)
    return forms


def in_base64(secret: str) -> set[str]:
    """The secret in base64, alone or behind other text, as in `user:secret`.

    Three bytes are four characters, so there are three ways. The characters at the beginning depend
    on what is before them, and are left out.
    """
    shifts = range(3 if len(secret) <= MAX_SHIFTED else 1)
    data = secret.encode()
    found = set()
    for shift in shifts:
        whole = base64.b64encode(b"\0" * shift + data).decode().rstrip("=")
        part = whole[(0, 2, 3)[shift] :]
        found |= {part, part.translate(str.maketrans("+/", "-_"))}
    return found
