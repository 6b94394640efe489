"""A wrong word of the user's is repeated in a short line that no terminal acts on."""

import contextlib
import importlib
import io
from pathlib import Path

import pytest

from livecheck.core.text import INVISIBLE
from livecheck.core.toml_file import UnreadableToml, read_toml
from livecheck.report.thresholds import MistakeInThresholds, read_thresholds
from tests.helpers.scripts import ROOT

SCRIPTS = ["benchmark", "report", "run_all", *sorted(p.stem for p in ROOT.glob("test_*.py"))]
MANY = 10_000
ODD = "\x1b[31m\a\u202e"  # what a terminal acts on
WORDS = [
    "x" * MANY,
    "1" * MANY,
    "1" * 4000,  # Python reads it as a number
    "0." + "0" * MANY + "1",
    "ttft_p50=" + "1" * MANY + "ms",
    "ttft_p50=5" + "q" * MANY,
    "q" * MANY + "=5%",
    "http://" + "x" * MANY,
    "http://host:" + "9" * MANY,
    "x " * MANY,
    "it's " + "x" * MANY,
    ODD * (MANY // 6),
    f"it's {ODD}" * (MANY // 10),
]


def line_about(parser, argv):
    """What the parser says about this command line; "" when it takes it."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        parser.parse_args(argv)
    return said.getvalue()


def check_line(line, most):
    assert len(line) <= most, line
    assert not INVISIBLE.search(line.removesuffix("\n")), ascii(line)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_word_gives_a_short_harmless_line(script):
    parser = importlib.import_module(script).build_parser()
    options = [a for a in parser._actions if a.option_strings and a.nargs != 0]
    assert options
    for action in options:
        name = action.option_strings[-1]
        most = 220 + sum(len(str(each)) + 4 for each in action.choices or ())
        if name == "--slo":  # it lists all objectives that there are
            most += len(line_about(parser, [name, "none=1"]))
        for word in WORDS:
            check_line(line_about(parser, [f"{name}={word}"]), most)


@pytest.mark.parametrize(
    "content",
    [
        "{word} = 1",
        "[{word}]",
        "[gateway_overhead]\n{word} = 1",
        "[gateway_overhead]\nping_p99 = '{word}'",
        "[gateway_overhead]\n{word} = []",
        "required = ['{word}']",
        "[{word}]\n[{word}]",
    ],
)
def test_a_wrong_word_in_thresholds_gives_a_short_line(tmp_path: Path, content):
    file = tmp_path / "t.toml"
    file.write_text(content.format(word="x" * MANY))
    with pytest.raises(MistakeInThresholds) as error:
        read_thresholds(file)
    known = 400 if "unknown objective" in str(error.value) else 0
    assert len(str(error.value)) <= len(str(file)) + 200 + known


def test_what_the_reader_of_toml_repeats_is_short(tmp_path: Path):
    file = tmp_path / "t.toml"
    file.write_text("[a]\n[a]".replace("a", "x" * MANY))
    with pytest.raises(UnreadableToml) as error:
        read_toml(file)
    assert len(str(error.value)) <= len(str(file)) + 200
