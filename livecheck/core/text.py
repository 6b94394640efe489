"""Text for people: other programs' words made harmless, figures and lists made short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from livecheck.core.late_pattern import late_pattern

LIMIT = 120  # characters of another program's words, unless the caller says otherwise
# Characters that are not seen themselves, but change how other text looks, or what a terminal does:
# control characters with all kinds of line ends, controls of the writing direction, characters
# without width, tags and selectors that hide text in other text, and halves of characters. Spaces
# of all widths, letters of all scripts and combining marks are not among them.
INVISIBLE = late_pattern(
    "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f"
    "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufeff\\uffa0\\ufff0-\\ufffb\\ufffe\\uffff"
    "\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]"
)


def encodable(text: str) -> str:
    r"""The same text in a form that can be encoded.

    A server may split a character into two halves, "\ud83d" in one event and "\ude00" in the next:
    they are joined. A half without its other half becomes a replacement character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def visible(text: str) -> str:
    r"""The text with every character of INVISIBLE written as \xNN, \uNNNN or \UNNNNNNNN.

    Two halves of a character that follow each other are joined; everything else is left as it is.
    """
    if INVISIBLE.search(text) is None:
        return text
    return INVISIBLE.sub(lambda found: _spelling(found[0]), _joined(text))


def _spelling(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def _joined(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def shorten(text: str, limit: int = LIMIT) -> str:
    """One line of at most `limit` visible characters. What a server says goes to a terminal."""
    line = visible(" ".join(text[: 4 * limit].split()))
    if not line.isprintable():  # characters without a meaning, or with a private one
        line = "".join(char if char.isprintable() else _spelling(char) for char in line)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def one_line(text: str) -> str:
    """The text with every run of white space replaced by one space."""
    return " ".join(text.split())


def counted(texts: Iterable[str], most: int = 3) -> str:
    """The most frequent of these texts, each once, with its count: `refused (x3); cut off (x1)`."""
    return "; ".join(f"{text} (x{count})" for text, count in Counter(texts).most_common(most))


def listed(words: Sequence[str], most: int = 3, limit: int = 40) -> str:
    """Some of these words with commas between them, each of at most `limit` characters."""
    shown = ", ".join(shorten(word, limit) for word in words[:most])
    return f"{shown} and {len(words) - most} more" if len(words) > most else shown


def plural(count: int, word: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """A share of 1 as `25 %`."""
    return f"{100 * share:.0f} %"


def duration(milliseconds: float | None) -> str:
    """A time with its unit: `4.2 ms`, `350 ms`, `1.25 s`; `-` when it is not known."""
    if milliseconds is None:
        return "-"
    if milliseconds >= 999.5:
        return f"{milliseconds / 1e3:.2f} s"
    return f"{milliseconds:.1f} ms" if milliseconds < 99.95 else f"{milliseconds:.0f} ms"


def figure(value: float | None) -> str:
    """At most six characters, as exact as that allows; `-` when it is not known."""
    if value is None:
        return "-"
    if abs(value) >= 999_999.5:
        return f"{value:.0e}"
    if isinstance(value, int):
        return str(value)
    digits = 2 if abs(value) < 100 else 1 if abs(value) < 10_000 else 0
    return f"{value:.{digits}f}"
