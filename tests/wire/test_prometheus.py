"""Prometheus text is read as Prometheus reads it, and as fast, whatever the text is."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from livecheck.wire.prometheus import read_samples

MEGABYTE = 1 << 20
# the machine may be busy
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def by_prometheus(text: str) -> list[tuple[str, dict[str, str], float]]:
    """What the package of Prometheus reads, in the order of the lines; ValueError if it cannot."""
    samples = []
    for line in text.split("\n"):  # one by one: it renames the counters of a family
        for family in text_string_to_metric_families(line):
            samples += [(s.name, s.labels, float(s.value)) for s in family.samples]
    return samples


def same(ours: list[tuple[str, dict[str, str], float]], theirs: object) -> bool:
    return repr(ours) == repr(theirs)  # NaN is not equal to itself


names = st.from_regex(r"[a-z_:][a-z0-9_:]{0,8}", fullmatch=True)
label_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
blanks = st.sampled_from(["", " ", "  "])
label_values = st.text('ab{}",=\\# \té\u2028', max_size=12)
figures = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats().map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", "1e5", "2.", ".5", "1E-3"]),
)


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@st.composite
def sample_lines(draw: st.DrawFn) -> str:
    labels = draw(st.dictionaries(label_names, label_values, max_size=3))
    gap = draw(blanks)
    inner = f"{gap},{gap}".join(f"{k}{gap}={gap}{quoted(v)}" for k, v in labels.items())
    braces = f"{{{gap}{inner}{draw(st.sampled_from(['', ',']))}}}" if inner else ""
    braces = braces or draw(st.sampled_from(["", "{}"]))
    stamp = draw(st.sampled_from(["", " 1700000000000", " -5"]))
    return f"{draw(names)}{braces} {draw(figures)}{stamp}"


comments = st.sampled_from(
    ["", "# a comment", "# TYPE a_b counter", "# HELP a_b what { it } is", "#", "# HELP a_b"]
)
texts = st.lists(st.one_of(sample_lines(), comments), max_size=6).map("\n".join)


@patient
@given(texts)
def test_what_prometheus_writes_is_read_as_its_own_package_does(text: str) -> None:
    found = read_samples(text.encode())
    assert found.problem is None
    assert same([tuple(each) for each in found.samples], by_prometheus(text))


@patient
@given(texts, st.integers(0, 200), st.text('a{}=",\\ \t#1-.N', max_size=3), st.integers(0, 3))
def test_a_damaged_text_is_refused_or_read_as_its_own_package_does(
    text: str, at: int, more: str, less: int
) -> None:
    damaged = text[:at] + more + text[at + less :]
    found = read_samples(damaged.encode())
    if found.problem is None and " # {" not in damaged and "infin" not in damaged.lower():
        assert same([tuple(each) for each in found.samples], by_prometheus(damaged))


@patient
@given(st.binary(max_size=300))
def test_bytes_of_any_kind_raise_nothing(body: bytes) -> None:
    read_samples(body)


def test_everything_that_a_line_may_have() -> None:
    text = (
        "# HELP a_total what it\\n is\n# TYPE a_total counter\n\n"
        'a_total{path="C:\\\\x\\n",said="\\"{a,b}\\" # {"} 1.5 1700000000000\r\n'
        'b_bucket{le="+Inf"} 7 # {trace_id="x"} 0.5 1.0\n'
        'c NaN\n\td\t-Inf\n{"e.f", g="h"} 2\n# EOF\nnot read any more\n'
    )
    found = read_samples(text.encode())
    assert found.problem is None
    assert [sample.name for sample in found.samples] == ["a_total", "b_bucket", "c", "d", "e.f"]
    assert found.samples[0].labels == {"path": "C:\\x\n", "said": '"{a,b}" # {'}
    assert math.isnan(found.samples[2].value) and found.samples[3].value == -math.inf


@pytest.mark.parametrize(
    "line",
    [
        *("a{", "a{}", "a", "a 1 2 3", "a b", "a{b=c} 1", 'a{b="c} 1', 'a{b="c"', "{} 1", "1 a"),
        *('a{b="c",b="d"} 1', 'a{b="c" d="e"} 1', "a{,} 1", 'a{"b"} 1', "a 1_0", "a ١", "a-b 1"),
        *(
            "# TYPE a",
            "# TYPE a kind",
            "# TYPE",
            "# HELP 1a x",
            "a 1 # x",
            "a " + "1" * 100,
            "<html>",
            '{"a": 1}',
        ),
    ],
)
def test_a_line_that_is_none_ends_the_reading(line: str) -> None:
    found = read_samples(f"good 1\n{line}\nnever 2\n".encode())
    assert [sample.name for sample in found.samples] == ["good"]
    assert found.problem and found.problem.startswith("line 2 cannot be read"), found


@pytest.mark.parametrize(
    "text",
    [
        *("a{\n", "a{", "a{,", 'a{b="', "a{b=", '"', "\\", "{", "}", "\n", "#\n", "# TYPE a b\n"),
        *(
            "# HELP ",
            "a 1 # {",
            "a\t",
            "a 1 ",
            "a{}",
            "a 1\n",
            'a{b="c"} 1\n',
            "1",
            "a" * 999 + "\n",
        ),
    ],
)
@pytest.mark.parametrize("head, tail", [("", ""), ('a{b="', '"} 1'), ("a{", "} 1"), ("a 1 # ", "")])
def test_a_megabyte_of_anything_is_read_in_a_second_or_two(text: str, head: str, tail: str) -> None:
    body = (head + text * (MEGABYTE // len(text)) + tail).encode()
    begun = time.process_time()
    read_samples(body)
    assert time.process_time() - begun < 4, repr(text)


def test_twice_the_text_takes_twice_the_time() -> None:
    def spent_s(count: int) -> float:
        body = ("a{" + ",".join(f'l{n}="x\\""' for n in range(count)) + "} 1").encode()
        begun = time.process_time()
        assert len(read_samples(body).samples[0].labels) == count
        return time.process_time() - begun

    spent_s(1000)
    assert spent_s(160_000) < 10 * max(spent_s(40_000), 0.05)
