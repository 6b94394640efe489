"""Reads Prometheus text: the samples of a /metrics, and the first line that is not one. Pure.

The format is that of https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based
format), with the exemplars and the `# EOF` of OpenMetrics 1.0 and the quoted names of Prometheus 3.
A line that Prometheus would not take ends the reading, as it ends a scrape.

Every character is looked at a fixed number of times, whatever the text is. The parser of the
package prometheus_client takes 9 s for a megabyte of escaped quotes, and four times as long for
twice as many; a regular expression for a whole line takes minutes for a megabyte of open braces.
"""

from __future__ import annotations

from typing import NamedTuple

from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import shorten

NAME = late_pattern(r"[A-Za-z_:][A-Za-z0-9_:]*")  # of a metric; of a label without the colon
BLANKS = " \t"
# of both formats
TYPES = (
    *("counter", "gauge", "histogram", "gaugehistogram", "summary"),
    *("untyped", "unknown", "info", "stateset"),
)
FIGURE_LENGTH = 64  # characters; the longest exact decimal form of a usual number has 25
SHOWN = 40  # characters of a line that cannot be read
ESCAPED = {"\\": "\\", '"': '"', "n": "\n"}


class Sample(NamedTuple):
    """One line with a figure. A `value` may be NaN or infinite."""

    name: str
    labels: dict[str, str]
    value: float


class Exposition(NamedTuple):
    """What a /metrics says: its samples up to the end, or up to the line that has a `problem`."""

    samples: list[Sample]
    problem: str | None = None


def read_samples(body: bytes) -> Exposition:
    """All samples of a Prometheus text. It does not raise, whatever the bytes are."""
    samples: list[Sample] = []
    for number, line in enumerate(body.decode("utf-8", "replace").split("\n"), start=1):
        text = line.strip(BLANKS + "\r")
        if text == "# EOF":
            break
        try:
            if text.startswith("#"):
                check_comment(text)
            elif text:
                samples.append(read_sample(text))
        except ValueError as error:
            shown = repr(shorten(text[: 2 * SHOWN], SHOWN))
            return Exposition(samples, f"line {number} cannot be read ({error}): {shown}")
    return Exposition(samples)


def check_comment(text: str) -> None:
    """ValueError for a TYPE or HELP line that has no valid name, or no type."""
    words = text[:1000].split(None, 3)
    if words[0] != "#" or len(words) < 2 or words[1] not in ("TYPE", "HELP"):
        return  # an ordinary comment
    name = words[2] if len(words) > 2 else ""
    if not name.startswith('"') and not NAME.fullmatch(name):
        raise ValueError(f"{words[1]} without a name")
    if words[1] == "TYPE" and (len(words) < 4 or words[3] not in TYPES):
        raise ValueError("TYPE without a type")


def read_sample(text: str) -> Sample:
    """The line of one sample, without blanks around it. ValueError says what is wrong with it."""
    found = NAME.match(text)
    name, at = (found[0], found.end()) if found else ("", 0)
    after = skip_blanks(text, at)
    labels: dict[str, str] = {}
    if text[after : after + 1] == "{":
        quoted, labels, at = read_labels(text, after + 1)
        if bool(name) == bool(quoted):
            raise ValueError("two names" if name else "no name")
        name = name or quoted
    elif not name:
        raise ValueError("no name")
    elif after == at:
        raise ValueError("no value")
    return Sample(name, labels, read_figures(text[at:]))


def read_labels(text: str, at: int) -> tuple[str, dict[str, str], int]:
    """The quoted name of the metric, if there is one; the labels; and where the text goes on."""
    metric, labels = "", dict[str, str]()
    while True:
        at = skip_blanks(text, at)
        if text[at : at + 1] == "}":
            return metric, labels, at + 1
        name, at, is_quoted = read_label_name(text, at)
        at = skip_blanks(text, at)
        if text[at : at + 1] == "=":
            if name in labels:
                raise ValueError("a label twice")
            labels[name], at = read_quoted(text, skip_blanks(text, at + 1))
        elif is_quoted and not metric and not labels:
            metric = name
        else:
            raise ValueError("a label without a value")
        at = skip_blanks(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "}":
            raise ValueError("no end of the labels")


def read_label_name(text: str, at: int) -> tuple[str, int, bool]:
    """A name, where it ends, and whether it is in quotes."""
    if text[at : at + 1] == '"':
        name, end = read_quoted(text, at)
        return name, end, True
    found = NAME.match(text, at)
    if found is None or ":" in found[0]:
        raise ValueError("a label without a name")
    return found[0], found.end(), False


def read_quoted(text: str, at: int) -> tuple[str, int]:
    """The text in quotes that begins here, and where it ends."""
    if text[at : at + 1] != '"':
        raise ValueError("a value without quotes")
    parts: list[str] = []
    at += 1
    while (end := text.find('"', at)) >= 0:
        piece = text[at:end]
        at = end + 1
        escapes = len(piece) - len(piece.rstrip("\\"))
        parts.append(piece)
        if escapes % 2 == 0:
            return unescape('"'.join(parts)), at
    raise ValueError("a quote without an end")


def unescape(text: str) -> str:
    r"""The text with \\, \" and \n as what they stand for; another backslash stays as it is."""
    first, *rest = text.split("\\")
    parts, is_taken = [first], False  # whether the backslash before a piece belongs to the last one
    for piece in rest:
        if is_taken:
            parts.append(piece)
            is_taken = False
        elif not piece:  # a second backslash follows at once
            parts.append("\\")
            is_taken = True
        else:
            known = ESCAPED.get(piece[0])
            parts.append("\\" + piece if known is None else known + piece[1:])
    return "".join(parts)


def read_figures(text: str) -> float:
    """The value of a sample; a time and an exemplar may follow it."""
    plain, mark, exemplar = text.partition(" # ")
    words = plain[: 4 * FIGURE_LENGTH].split()
    if not 1 <= len(words) <= 2 or len(plain.strip(BLANKS)) > 3 * FIGURE_LENGTH:
        raise ValueError("not one value" if words else "no value")
    value, *_ = [read_figure(word) for word in words]
    if mark:
        exemplar = exemplar.lstrip(BLANKS)
        if not exemplar.startswith("{"):
            raise ValueError("no exemplar after the #")
        _, _, end = read_labels(exemplar, 1)
        read_figures(exemplar[end:].replace("#", "?"))
    return value


def read_figure(word: str) -> float:
    """A number as Go writes it; Python alone takes underscores and the digits of other scripts."""
    if len(word) > FIGURE_LENGTH or not word.isascii() or "_" in word:
        raise ValueError("not a number")
    try:
        return float(word)
    except ValueError:
        raise ValueError("not a number") from None


def skip_blanks(text: str, at: int) -> int:
    """The first place from here on that is no blank."""
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    return at
