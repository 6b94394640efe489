"""What a reader of the page opens beside a failure or a warning: the requests behind it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from livecheck.core.checks import OF_ALL_ANSWERS, Check, Status
from livecheck.core.exchanges import NAMED
from livecheck.core.settings import FLEET, GATEWAY
from livecheck.core.text import duration
from livecheck.report.exchanges import MAX_LINE, Exchange
from livecheck.report.html_parts import escape, folded
from livecheck.report.result_files import ResultFile
from livecheck.report.timeline import Strip, strip

MAX_PAGE = 1500  # exchanges on a page; after them a check says where its own are
# Names that --only does not take alone: of all scripts, and of benchmark.py, for which they leave
# nothing to measure.
LATE_CHECKS = ("slo",)
LATE_IN_BENCHMARK = ("edge_idle", *OF_ALL_ANSWERS)


class Shown:
    """Shows the evidence of checks; each exchange once on a page, and a link to it after that."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], str] = {}
        self._strips = 0

    def evidence(self, file: ResultFile, check: Check) -> Iterator[str]:
        """What a reader opens beside a failure or a warning."""
        if check.status not in (Status.FAIL, Status.WARN):
            return
        own = [each for each in file.exchanges if check.name in each.checks]
        summary = f"Evidence: {request_words(len(own))}"
        yield from folded(summary, self._content(file, check, own), "evidence")

    def _content(self, file: ResultFile, check: Check, own: Sequence[Exchange]) -> Iterator[str]:
        if command := command_for(file, check):
            about = (
                f"Repeat just this; put the credential, if one is needed, into {variable(file)}:"
            )
            yield f"<p>{about} <code>{escape(command)}</code></p>"
        if figures := check.evidence.get("shown"):
            yield f"<p>Figures: <code>{escape(str(figures))}</code></p>"
        if not own:
            yield f"<p>{escape(why_none(file))}</p>"
            return
        if any(each.checks[check.name] != NAMED for each in own):
            yield "<p>The check names no request. These failed while it was measured:</p>"
        chosen = Strip(
            [(each.number, each.at_ms, each.spent_ms, each.outcome) for each in own],
            [each.at_ms for each in file.exchanges if each.at_ms is not None],
            file.duration_s * 1e3,
        )
        self._strips += 1
        yield from strip(chosen, f"when-{self._strips}")
        for each in own:
            yield from self._once(file, check, each)

    def _once(self, file: ResultFile, check: Check, each: Exchange) -> Iterator[str]:
        key = (file.name, each.number)
        place = self._places.get(key)
        if place is None and len(self._places) < MAX_PAGE:
            self._places[key] = check.name
            yield f'<article class="exchange" id="{anchor(file)}-x{each.number}">'
            yield from exchange_parts(each)
            yield "</article>"
            return
        line = f"{each.number}. {each.asked}: {each.outcome}"
        if place is None:
            yield f"<p>{escape(line)} (in {escape(file.name)}.json)</p>"
            return
        to = f'<a href="#{anchor(file)}-x{each.number}">shown at {escape(place)}</a>'
        yield f"<p>{escape(line)}, {to}</p>"


def request_words(count: int) -> str:
    return {0: "figures", 1: "the request behind it"}.get(
        count, f"{count} of the requests behind it"
    )


def why_none(file: ResultFile) -> str:
    if file.has_exchanges:
        return "The check names no request: it rests on figures, which the result file has."
    return "This result file was saved without requests and answers."


def command_for(file: ResultFile, check: Check) -> str:
    """The line that repeats what this check needs. The credential has to be added."""
    name = check.name.partition(":")[0]
    late = LATE_CHECKS + (LATE_IN_BENCHMARK if file.script == "benchmark" else ())
    more = "" if name in late else f" --only {shlex.quote(name)}"
    return file.command + more if file.command else ""


def variable(file: ResultFile) -> str:
    """The environment variable for the credential of the deployment that the file is about."""
    return (FLEET if file.kind.fleet else GATEWAY).token_variable


def anchor(file: ResultFile) -> str:
    return f"f-{anchor_of(file.name)}"


def anchor_of(name: str) -> str:
    """A part of an id: no two names that the scripts give have the same."""
    return "".join(
        char if char.isalnum() and char.isascii() else f"_{ord(char):x}" for char in name
    )


def exchange_parts(each: Exchange) -> Iterator[str]:
    kind = (
        "good" if each.status is not None and each.status < 400 and not each.error_text else "bad"
    )
    yield f'<h4><span class="muted">{each.number}.</span> <code>{escape(each.asked)}</code> '
    yield f'<span class="{kind} wrap">{escape(each.outcome)}</span> '
    yield f'<span class="muted">{escape(when_words(each))}</span></h4>'
    yield from pairs("Header fields that were sent", each.sent_headers)
    if each.question is not None:
        yield from text_block("What was sent", each.question)
    yield from pairs("Header fields of the answer", each.headers)
    if each.answer_bytes:
        label = f"The answer, {size_words(each)}"
        yield from text_block(label, each.answer or ["(its text was read, and not kept)"])
    elif each.status is not None:
        yield '<p class="muted">The answer has no body.</p>'


def when_words(each: Exchange) -> str:
    if each.at_ms is None:
        return "not sent"
    when = f"sent at {each.at_ms / 1e3:.3f} s"
    if each.at_ms < 0:
        when = f"sent {duration(-each.at_ms)} before the measurement began"
    return (
        f"{when}, first byte after {duration(each.first_byte_ms)}" if each.first_byte_ms else when
    )


def size_words(each: Exchange) -> str:
    shown = sum(len(line) + 1 for line in each.answer)
    size = each.answer_bytes or 0
    part = "" if shown >= size else " in all; this is its beginning"
    return f"{size} bytes{part}" if each.answer else f"{size} bytes"


def pairs(label: str, found: Mapping[str, str]) -> Iterator[str]:
    if found:
        lines = (f"<b>{escape(name)}</b>: {escape(value)}" for name, value in found.items())
        yield f'<p class="fields"><span class="muted">{label}</span><br>{"<br>".join(lines)}</p>'


def text_block(label: str, lines: Sequence[str]) -> Iterator[str]:
    """A text as it is; who has no mouse can scroll in it as well."""
    text = "\n".join(escape(line, MAX_LINE) for line in lines)
    yield f'<p class="muted label">{escape(label)}</p>'
    yield f'<pre tabindex="0" role="region" aria-label="{escape(label)}">{text}</pre>'
