"""Folders of result files that are damaged, that lie, that are huge, or that carry strange text.

`DAMAGES` is a table: a name, and what is done to a folder of good results. Every damage is to a
required result, or to the folder itself, so that the report may not pass. `HUGE` are damages that
take seconds, and room on the disk. `run_damaged(damage, folder)` runs report.py as a process, with
the report as text, Markdown, HTML and JUnit. It returns complaints: [] when it ended in time, with
a true exit code, in little memory, and with nothing in its output that does not belong there.
`mutations` does one random thing to a folder of good results.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from helpers.measured import Cost, run_measured
from helpers.samples import fleet_folder, gateway_folder, level, overhead, queue, result
from helpers.scripts import ROOT
from livecheck.core.text import INVISIBLE

MOST_MEMORY_MB = 200
MOST_SECONDS = 30
ENDS = {0, 1, 2, 3}
NOT_GOOD = frozenset({1, 3})
PLAIN = "inference_c1.json"  # the file that is damaged, unless a damage says otherwise
Content = dict[str, Any]


@dataclass(frozen=True)
class Damage:
    """name: what is wrong. plant: does it to a folder of good results. codes: allowed exit codes.

    names_file: whether a line of the report has to name the file.
    """

    name: str
    plant: Callable[[Path], object]
    codes: frozenset[int] = NOT_GOOD
    names_file: bool = True


# --- how a file is damaged


def holding(data: bytes | str) -> Callable[[Path], object]:
    """The file holds these bytes alone."""
    content = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    return lambda folder: (folder / PLAIN).write_bytes(content)


def repeated(head: str, part: str, size: int, tail: str) -> Callable[[Path], object]:
    """The file holds a part again and again, up to this size in bytes."""

    def plant(folder: Path) -> None:
        with (folder / PLAIN).open("w") as file:
            file.write(head)
            block = part * (65536 // len(part) + 1)
            for _ in range(size // len(block)):
                file.write(block)
            file.write(part + tail)

    return plant


def changed(**values: Any) -> Callable[[Path], object]:
    """Some of the keys of the document have other values."""
    return edited(lambda content: content.update(values))


def edited(edit: Callable[[Content], object]) -> Callable[[Path], object]:
    def plant(folder: Path) -> None:
        content = json.loads((folder / PLAIN).read_text())
        edit(content)
        (folder / PLAIN).write_text(json.dumps(content))

    return plant


def as_text(edit: Callable[[str], str]) -> Callable[[Path], object]:
    def plant(folder: Path) -> None:
        text = edit((folder / PLAIN).read_text())
        (folder / PLAIN).write_bytes(text.encode("utf-8", "surrogatepass"))

    return plant


def in_its_place(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something that is not a regular file."""

    def plant(folder: Path) -> None:
        (folder / PLAIN).unlink()
        make(folder / PLAIN)

    return plant


def socket_at(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("a pipe"))
    path.symlink_to("a pipe")


def many_files(count: int) -> Callable[[Path], object]:
    def plant(folder: Path) -> None:
        for index in range(count):
            (folder / f"file_{index}.json").touch()

    return plant


def other_case(folder: Path) -> None:
    shutil.copy(folder / PLAIN, folder / "Inference_C1.json")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("{}")


def many_levels(folder: Path) -> None:
    """Files that are small each, and too many requests together."""
    text = json.dumps(level(1, requests=20_000))
    for count in (1, 2, 3, 4, 5, 6):
        content = text.replace('"concurrency": 1,', f'"concurrency": {count},')
        content = content.replace('"concurrency": [1, 4, 8, 1]', f'"concurrency": [{count}]')
        (folder / f"inference_c{count}.json").write_text(content)


CHECK = {"name": "requests", "status": "PASS", "detail": "x", "evidence": {}, "essential": False}
REQUEST = json.dumps(level(1, requests=1)["requests"][0] | {"event_ms": []})


def with_checks(count: int) -> Callable[[Path], object]:
    return changed(checks=[CHECK] * count)


FAIL = CHECK | {"status": "FAIL"}
DAMAGES = (
    # what lies there
    Damage("a pipe", in_its_place(os.mkfifo)),
    Damage("a link to a pipe", in_its_place(link_to_pipe)),
    Damage("a device", in_its_place(lambda path: path.symlink_to("/dev/zero"))),
    Damage("a terminal", in_its_place(lambda path: path.symlink_to("/dev/tty"))),
    Damage("a socket", in_its_place(socket_at)),
    Damage("a folder", in_its_place(Path.mkdir)),
    Damage("a dangling link", in_its_place(lambda path: path.symlink_to("nowhere"))),
    Damage("a link to itself", in_its_place(lambda path: path.symlink_to(path.name))),
    Damage("a process's memory", in_its_place(lambda path: path.symlink_to("/proc/self/mem"))),
    Damage("gone", in_its_place(lambda path: None)),
    Damage("a folder that is gone", gone, names_file=False),
    Damage("a folder that is a file", a_file, names_file=False),
    Damage("the name in another case", other_case, names_file=False),
    Damage("a thousand files", many_files(1000), names_file=False),
    # what is no JSON
    Damage("empty", holding(b"")),
    Damage("blank", holding(b" \n\t\r\n")),
    Damage("nothing but NUL", holding(bytes(1000))),
    Damage("UTF-16", as_text(lambda text: "\ufeff" + "\0".join(text))),
    Damage("invalid UTF-8", holding(b'{"schema_version": 1, "script": "\xff\xfe"}')),
    Damage("half of it", as_text(lambda text: text[: len(text) // 2])),
    Damage("all but the last character", as_text(lambda text: text.rstrip()[:-1])),
    Damage("something behind it", as_text(lambda text: text + " x")),
    Damage("twice the document", as_text(lambda text: text + text)),
    Damage("HTML", holding("<html>")),
    Damage("a list", holding("[]")),
    Damage("a number", holding("12")),
    Damage("null", holding("null")),
    Damage("an empty object", holding("{}")),
    Damage("a quotation mark", holding('"')),
    Damage("a brace", holding("{")),
    # what is not a value
    Damage("NaN", as_text(lambda text: text.replace('"duration_s": ', '"duration_s": NaN, "x": '))),
    Damage("1e999", as_text(lambda text: text.replace('"index": 0', '"index": 1e999'))),
    Damage("4300 digits", as_text(lambda text: text.replace('"index": 0', f'"i": {"9" * 4300}'))),
    Damage("-1e300", as_text(lambda text: text.replace('"index": 0', '"index": -1e300'))),
    Damage("a key twice", as_text(lambda text: text.replace("{", '{"script": "benchmark", ', 1))),
    # what lies
    Damage("no word of an early end", edited(lambda content: content.pop("error"))),
    Damage("pass beside a FAIL", edited(lambda content: content["checks"].append(FAIL))),
    Damage("pass without checks", changed(checks=[])),
    Damage("pass and exit code 1", changed(exit_code=1)),
    Damage("pass and exit code true", changed(exit_code=False)),
    Damage("fail and exit code 0", changed(verdict="fail")),
    Damage("PASS in capitals", changed(verdict="PASS")),
    Damage("another script", changed(script="test_cors")),
    Damage("a foreign script", changed(script="k6")),
    Damage("the report's own", changed(script="report")),
    Damage(
        "a list of levels", edited(lambda content: (content.clear(), content.update(levels=[])))
    ),
    Damage("a future form", changed(schema_version=2)),
    Damage("form true", changed(schema_version=True)),
    Damage("form 1.5", changed(schema_version=1.5)),
    Damage("the year 9999", changed(started_at="9999-12-31T23:59:59.999+00:00")),
    Damage("the year 9999 in another zone", changed(started_at="9999-12-31T23:59:59-23:59")),
    Damage("the year 1", changed(started_at="0001-01-01T00:00:00+23:59")),
    Damage("a time without zone", changed(started_at="2026-01-01T00:00:00")),
    Damage("a time of words", changed(started_at="now")),
    Damage("a time of 1 MB", changed(started_at="2" * 1_000_000)),
    Damage("a negative time", edited(lambda content: content["requests"][0].update(ttft_ms=-1))),
    Damage("a time of text", edited(lambda content: content["requests"][0].update(ttft_ms="5"))),
    Damage(
        "a time that is true", edited(lambda content: content["requests"][0].update(ttft_ms=True))
    ),
    Damage(
        "an event of text", edited(lambda content: content["requests"][0]["event_ms"].append("5"))
    ),
    Damage("an event that is true", edited(lambda c: c["requests"][0]["event_ms"].append(True))),
    Damage("a faster median", edited(lambda content: content["metrics"]["ttft_ms"].update(p50=1))),
    Damage("another target", changed(target={"url": "http://elsewhere:1", "model": "sea-7b"})),
    Damage("another version", changed(tool_version="9.9")),
    # what is too much, and small enough for every test run
    Damage(
        "a check name of 1 MB",
        edited(lambda c: c["checks"][0].update(name="x" * 1_000_000)),
        frozenset({0, 3}),
        False,
    ),
    Damage("a hundred nested objects", changed(target=json.loads('{"a":' * 100 + "1" + "}" * 100))),
    Damage("20000 checks", with_checks(20_000)),
)
MB = 1 << 20
HUGE = (
    Damage("200 MB of lists", repeated('{"a": [', "[],", 200 * MB, "[]]}")),
    Damage("30 MB of lists", repeated('{"a": [', "[],", 30 * MB, "[]]}")),
    Damage("30 MB of lists at the top", repeated("[", "[],", 30 * MB, "[]]")),
    Damage("30 MB of objects in a list", repeated('{"requests": [', "{},", 30 * MB, "{}]}")),
    Damage("30 MB of checks", repeated('{"checks": [', "{},", 30 * MB, "{}]}")),
    Damage("30 MB of levels", repeated('{"levels": [', "{},", 30 * MB, "{}]}")),
    Damage("30 MB of lists in a level", repeated('{"levels": [{"a": [', "[],", 30 * MB, "[]]}]}")),
    Damage("30 MB of nested objects", repeated("", '{"a":', 30 * MB, "1")),
    Damage("30 MB of brackets", repeated("", "[", 30 * MB, "1")),
    Damage("30 MB of text", repeated('{"a": "', "x", 30 * MB, '"}')),
    Damage("30 MB of escapes", repeated('{"a": "', '\\"', 30 * MB, '"}')),
    Damage("30 MB of an open text", repeated('{"a": "', "\\\\", 30 * MB, "")),
    Damage("30 MB of digits", repeated('{"a": ', "9", 30 * MB, "}")),
    Damage("30 MB of faces", repeated('{"a": "', "\U0001f600", 30 * MB, '"}')),
    Damage("30 MB of blanks", repeated("", " ", 30 * MB, "")),
    Damage("30 MB of line ends", repeated("{", "\n", 30 * MB, '"a": 1')),
    Damage("30 MB of numbers", repeated('{"event_ms": [', "1.5,", 30 * MB, "1]}")),
    Damage("30 MB of commas", repeated('{"a": [', ",", 30 * MB, "]}")),
    Damage("a million keys", holding("{" + ",".join(f'"{i}":1' for i in range(10**6)) + "}")),
    Damage(
        "a million keys further in",
        holding('{"a":{' + ",".join(f'"{i}":1' for i in range(10**6)) + "}}"),
    ),
    Damage("a hole of 10 GB", lambda folder: os.truncate(folder / PLAIN, 10 << 30)),
    Damage(
        "30 MB of good checks", repeated('{"checks": [', f"{json.dumps(CHECK)},", 30 * MB, "{}]}")
    ),
    Damage("30 MB of good requests", repeated('{"requests": [', f"{REQUEST},", 30 * MB, "{}]}")),
    Damage("too many requests together", many_levels, names_file=False),
    Damage("a hundred thousand files", many_files(100_000), names_file=False),
)


# --- run


def good_folder(folder: Path) -> Path:
    """Good results of all scripts, with few requests."""
    small = {"gateway_overhead": overhead(probes=5), "queue_behavior": queue(1, 0)}
    levels = {"inference_c1": level(1, requests=8), "inference_c4": level(4, requests=8, seed=4)}
    return fleet_folder(gateway_folder(folder, **small, **levels, cors=result("cors")))


def run_damaged(damage: Damage, folder: Path) -> list[str]:
    """Plant the damage in an empty folder, and run report.py on it. Returns complaints."""
    results, forms = good_folder(folder / "results"), folder / "forms"
    forms.mkdir()
    damage.plant(results)
    more = ("--html", forms / "page.html", "--junit", forms / "junit.xml")
    complaints = list(judge(run_report(forms, results, *more), damage))
    written = [*forms.glob("*.html"), *forms.glob("*.xml"), *results.glob("*.md")]
    for path in written:
        complaints += [f"{path.name}: {each}" for each in strange_text(path.read_text())]
    return complaints


class Ended(NamedTuple):
    """How report.py ended; the clock's time says little on a busy machine."""

    cost: Cost
    out: str
    err: str

    @property
    def code(self) -> int | None:
        return self.cost.code


def run_report(scratch: Path, *arguments: object) -> Ended:
    """report.py as a process of its own."""
    with (scratch / "out").open("w+b") as out, (scratch / "err").open("w+b") as err:
        command = [sys.executable, ROOT / "report.py", *arguments]
        cost = run_measured(command, out, err, 4 * MOST_SECONDS, scratch)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
    return Ended(cost, *texts)


def judge(ended: Ended, damage: Damage) -> Iterator[str]:
    cost = ended.cost
    if cost.code not in damage.codes:
        yield f"exit {cost.code}, allowed {sorted(damage.codes)}"
    if cost.processor_s > MOST_SECONDS:
        yield f"{cost.processor_s:.0f} s"
    if cost.memory_mb > MOST_MEMORY_MB:
        yield f"{cost.memory_mb:.0f} MB at the peak"
    if damage.names_file and PLAIN.removesuffix(".json") not in ended.out.replace("\\_", "_"):
        yield "does not name the file"
    if len(ended.out) > 100_000:
        yield f"{len(ended.out)} characters on stdout"
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        yield from (f"{name}: {each}" for each in strange_text(text))


def strange_text(text: str) -> Iterator[str]:
    """What must not be in any output."""
    for word in ("Traceback", "unexpected", "Error:", "<script>alert"):
        if word in text:
            yield f"has {word!r}"
    if match := INVISIBLE.search(text.replace("\n", "")):
        yield f"has {match[0]!r}"


# --- random damages

STRANGE = (None, True, False, -1, 0, 1, 1e14, 0.5, "", "x", "PASS", [], {}, [1], {"a": 1}, [None])


def mutations(chance: random.Random, folder: Path) -> Path:
    """Do one random thing to one result file of the folder. Returns its path."""
    path = chance.choice(sorted(folder.glob("*.json")))
    text = path.read_text()
    kind = chance.randrange(8)
    if kind == 0:
        text = text[: chance.randrange(len(text))]
    elif kind == 1:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice('",:{}[]0-eE\\\0\x1b\ud800é') + text[at + 1 :]
    else:
        text = json.dumps(with_one_change(json.loads(text), chance))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def with_one_change(content: Any, chance: random.Random) -> Any:
    """One thing in it is missing, doubled, or replaced by something strange."""
    *way, last = chance.choice(list(places(content)))
    inside = content
    for key in way:
        inside = inside[key]
    kind = chance.randrange(4)
    if kind == 0:
        del inside[last]
    elif kind == 1 and isinstance(inside, list):
        inside.insert(last, inside[last])
    elif kind == 2 and isinstance(inside[last], (int, float)):
        inside[last] = chance.choice((-inside[last], inside[last] * 2, str(inside[last]), 1e300))
    else:
        inside[last] = chance.choice(STRANGE)
    return content


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a document."""
    if place:
        yield place
    if isinstance(value, (dict, list)):
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            yield from places(child, (*place, key))


# --- strange text

MARK = (
    "\x1b[31m\x9b2J\u202eX\u2028\n# | `x` **b** <script>alert(1)</script> "
    "[a](javascript:alert(1)) &lt;\0"
)
IN_A_NAME = MARK.replace("/", "").replace("\0", "")  # as a part of a file's name


def strings(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every text in a document, and to every key: that of a key ends with None."""
    if isinstance(value, str):
        yield place
    if isinstance(value, (dict, list)):
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            if isinstance(value, dict):
                yield (*place, key, None)
            yield from strings(child, (*place, key))


def with_mark(content: Any, place: tuple[Any, ...]) -> Any:
    """A copy with the mark at the end of this text, or of this key."""
    if not place:
        return f"{content}{MARK}"
    key, *rest = place
    if rest == [None]:
        return {(f"{name}{MARK}" if name == key else name): each for name, each in content.items()}
    copied = content.copy()
    copied[key] = with_mark(content[key], tuple(rest))
    return copied
