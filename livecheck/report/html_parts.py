"""The parts that the report's page is made of: text that stays text, tables, sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape as escape_html

from livecheck.report import words


def escape(raw: str, most: int = words.MAX_SHOWN) -> str:
    """A text that a browser shows as it is, whatever it holds, also within an attribute."""
    return escape_html(words.shown(raw, most))


def page(title: str, style: str, body: Iterable[str]) -> Iterator[str]:
    """A whole page, which loads nothing from elsewhere."""
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{style}</style></head><body>"
    yield from body
    yield "</body></html>"


def fact_list(facts: Mapping[str, str]) -> Iterator[str]:
    yield "<dl>"
    for name, value in facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"


def section(heading: str, content: Iterable[str]) -> Iterator[str]:
    """A part of the page, unless there is nothing in it."""
    parts = list(content)
    if parts:
        yield f"<section><h2>{escape(heading)}</h2>"
        yield from parts
        yield "</section>"


def wide_table(heads: str, rows: Iterable[str]) -> Iterator[str]:
    """A table that scrolls by itself where it is too wide. Without rows there is none."""
    found = list(rows)
    if found:
        yield f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>'
        yield from found
        yield "</tbody></table></div>"


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of texts."""
    heads = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    cells = ("".join(f"<td>{escape(each)}</td>" for each in row) for row in rows)
    yield from wide_table(heads, (f"<tr>{each}</tr>" for each in cells))


def folded(summary: str, content: Iterable[str], kind: str = "") -> Iterator[str]:
    """What a reader opens. summary: a text."""
    name = f' class="{kind}"' if kind else ""
    yield f"<details{name}><summary>{escape(summary)}</summary>"
    yield from content
    yield "</details>"


def bullets(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in lines) + "</ul>"
