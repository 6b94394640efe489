"""What a server said in an error, whatever form it has: the words of an operator's first look.

Pure: JSON that was parsed, or text, goes in; a text comes out. The forms are those of OpenAI and of
what stands in front of it: FastAPI (`detail`, also as a list), RFC 9457 (`title`, `detail`), Spring
(`error` beside `message`), OAuth (RFC 6749: `error_description`), AWS (`Message`, `__type`), gRPC's
gateway and Google (`message`, also in a list), Cloudflare (`errors`), Apigee (`fault`), and web
pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from livecheck.core.json_value import decode, pick
from livecheck.core.late_pattern import late_pattern

MOST_PARTS = 3  # of a list of errors
DEEPEST = 6  # errors inside of errors
# Fields with the server's words, in lower case; the first one that has any is taken.
SAID = (
    *("message", "error_description", "error_message", "errormessage", "errmsg", "error_msg"),
    *("msg", "status_msg", "faultstring", "detail", "details", "description", "reason"),
)
# Fields in which an error may be, as an object, a list or a text.
HOLDERS = ("error", "errors", "exception", "fault", "base_resp", "err")
TITLES = ("error", "title")  # of an object with words: a short name of the error, if it is a text
# What is left to show when there are no words at all.
NAMES = ("code", "type", "status", "error_code", "errorcode", "__type", "errortype")
# In the place of a completion, an object with one of these and nothing of an answer is an error.
OF_ERRORS = (*SAID, *HOLDERS, "title")
OF_ANSWERS = ("choices", "data", "object", "id", "models", "embedding", "content", "usage")
NOTHING: tuple[Any, ...] = (None, False, "", {}, [])

# The beginning of a tag, of a comment, or of an element whose content is not shown; and the end of
# each. No expression here goes over the same text twice, however many beginnings have no end.
OPENING = late_pattern(r"<(!--|(?:script|style|title|svg)\b)?", re.I)
ENDS = {
    "": re.compile(">"),
    "!--": re.compile("-->"),
    **{name: re.compile(f"</{name}\\s*>", re.I) for name in ("script", "style", "title", "svg")},
}
TITLE = late_pattern(r"<title\b", re.I)
# an event's data, or llama.cpp's line about an error, at the beginning of a stream
FIRST_DATA = late_pattern(r"\s*(?:event:[^\r\n]*[\r\n]\s*)?(?:data|error): ?(.*)")


def error_in(content: object) -> Any:
    """The error in JSON that should be an answer; None when there is none.

    Some servers send `"error": null` with every answer, older ones of vLLM make the whole JSON the
    error, Google's API puts the error into a list, and OpenRouter puts that of the model's provider
    into the choice.
    """
    first = content[0] if isinstance(content, list) and len(content) == 1 else None
    for error in (
        *(pick(content, "error"), pick(first, "error")),
        pick(content, "choices", 0, "error"),
    ):
        if error not in NOTHING:
            return error
    return content if pick(content, "object") == "error" else None


def error_in_place_of_completion(content: object) -> Any:
    """The same where a completion was asked for: also the forms of frameworks (`detail`, `msg`),
    which elsewhere may be an answer."""
    if (error := error_in(content)) is not None or not isinstance(content, dict):
        return error
    names = {str(name).lower() for name, value in content.items() if value not in NOTHING}
    is_error = names.isdisjoint(OF_ANSWERS) and not names.isdisjoint(OF_ERRORS)
    return content if is_error else None


def words_of(content: object) -> str:
    """The words in the JSON of an error; the JSON itself where it has none that are known."""
    return _words(content, DEEPEST) or as_json(content)


def words_of_text(text: str) -> str:
    """The words in a body that is not JSON: of an event stream those of its first event."""
    found = FIRST_DATA.match(text)
    if found is None:
        return text
    return _inner_words(found[1], DEEPEST)


def _words(value: object, depth: int) -> str:
    if depth == 0:
        return ""
    if isinstance(value, str):
        return _inner_words(value, depth)
    if isinstance(value, list):
        parts = [_words(each, depth - 1) for each in value[:MOST_PARTS]]
        more = len(value) - MOST_PARTS
        return "; ".join(filter(None, parts)) + (f" and {more} more" if more > 0 else "")
    return _words_of_object(value, depth) if isinstance(value, dict) else ""


def _inner_words(text: str, depth: int) -> str:
    """A text as it is, unless it is the JSON of another server's error."""
    inner = text.strip()
    if inner.startswith(("{", "[")):
        try:
            return _words(decode(inner), depth - 1) or text
        except ValueError:
            return text
    return text


def _words_of_object(fields: Mapping[str, Any], depth: int) -> str:
    """All that it says, each part once: "invalid_token: it has expired", "Bad Request: no field of
    that name"."""
    lower = {str(name).lower(): value for name, value in fields.items()}
    titles = [each for name in TITLES if isinstance(each := lower.get(name), str)]
    parts = [_inner_words(each, depth) for each in titles[:1]]
    parts += _first_words(lower, SAID, depth)
    parts += _first_words(lower, HOLDERS, depth)
    if parts and isinstance(where := lower.get("loc"), list):  # FastAPI: the place in the request
        parts.insert(0, ".".join(str(each) for each in where if isinstance(each, (str, int))))
    if parts:
        return ": ".join(_each_once(parts))
    named = [lower[name] for name in NAMES if lower.get(name) not in NOTHING]
    has_text = any(isinstance(each, str) and not each.isdigit() for each in named)
    if has_text and all(isinstance(each, (str, int)) for each in named):
        return " ".join(map(str, named))
    return _messages_of_fields(lower, depth)


def _first_words(fields: Mapping[str, Any], names: tuple[str, ...], depth: int) -> list[str]:
    """The words of the first of these fields that has any; none of them: an empty list."""
    found = (_words(fields[name], depth - 1) for name in names if name in fields)
    return [text for text in found if text][:1]


def _each_once(parts: list[str]) -> list[str]:
    """Those that are not a part of another one."""
    kept: list[str] = []
    for each in sorted(parts, key=len, reverse=True):
        if not any(each.lower() in other.lower() for other in kept):
            kept.append(each)
    return [each for each in dict.fromkeys(parts) if each in kept]


def _messages_of_fields(fields: Mapping[str, Any], depth: int) -> str:
    """The messages of a form: `{"model": ["is required"]}`, as ASP.NET and Django send them."""
    lists = [each for each in fields.values() if isinstance(each, list) and each]
    if not lists or len(lists) < len(fields) or not all(isinstance(e[0], str) for e in lists):
        return ""
    said = [f"{name}: {_words(each, depth - 1)}" for name, each in fields.items()]
    return "; ".join(said[:MOST_PARTS])


def as_json(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to show"


# --- pages


def is_web_page(body: bytes) -> bool:
    """Whether a body is HTML, whatever Content-Type says: some frameworks say text/html of a plain
    text."""
    start = re.sub(rb"^(\xef\xbb\xbf|\s|<!--.*?-->|<\?xml.*?\?>)+", b"", body[:4096], flags=re.S)
    return re.match(rb"<(!doctype\s+html|html|head|body|title)\b", start, re.I) is not None


def words_of_page(page: str, status: int | None = None) -> str:
    """The text of a web page; of one that has only a title, the title."""
    text = unescaped(without_tags(page)).strip() or unescaped(title_of(page)).strip()
    return text.removeprefix(f"{status} ") or page


def without_tags(page: str) -> str:
    """A page with a space in the place of each tag, comment, script and the like. What has a
    beginning and no end stays."""
    parts, at, endless = [], 0, set()
    for found in OPENING.finditer(page):
        if found.start() < at:
            continue
        for name in dict.fromkeys(((found[1] or "").lower(), "")):  # else it is a tag like others
            end = None if name in endless else ENDS[name].search(page, found.end())
            if end:
                parts += [page[at : found.start()], " "]
                at = end.end()
                break
            endless.add(name)  # nor will a later one find an end
    return "".join([*parts, page[at:]])


def title_of(page: str) -> str:
    """The text of the first title; empty when there is none, or it has no end."""
    begun = TITLE.search(page)
    tag = ENDS[""].search(page, begun.end()) if begun else None
    end = ENDS["title"].search(page, tag.end()) if tag else None
    return page[tag.end() : end.start()] if tag and end else ""


def unescaped(text: str) -> str:
    """The text with the characters that HTML writes as `&amp;` or `&#38;`."""
    try:
        import html

        return html.unescape(text)
    except ValueError:  # a number of thousands of digits, which Python refuses to read
        return text
