"""What every page of a report has to keep."""

from __future__ import annotations

import re
from html.parser import HTMLParser


def is_self_contained(page: str) -> bool:
    """Whether it loads nothing from elsewhere."""
    return not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)


class Balance(HTMLParser):
    """Fails where a tag is closed that is not the one opened last; `open` has those not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_every_tag_is_closed(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
