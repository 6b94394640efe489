"""The configuration of a live test: the example, and mistakes, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.scripts import ROOT

from livecheck.report.thresholds import parse_thresholds
from livecheck.suite.live_test_toml import (
    LiveTest,
    MistakeInConfig,
    find_line,
    message_for,
    read_live_test,
)

EXAMPLE = ROOT / "live_test.toml"


def read(tmp_path: Path, text: str) -> LiveTest:
    path = tmp_path / "live_test.toml"
    path.write_text(text)
    return read_live_test(path)


def mistake(tmp_path: Path, text: str) -> str:
    with pytest.raises(MistakeInConfig) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert "\n" not in said
    return said.partition("live_test.toml")[2]


def test_the_example_can_be_read_and_has_a_comment_for_everything() -> None:
    example = read_live_test(EXAMPLE)
    assert (example.title, example.profile) == ("v1.0.0-rc.1", "gateway")
    assert example.scripts["test_queue"] == {"max_concurrent": 1, "max_queue": 2}
    assert example.deployments["gateway"]["api_key_variable"] == "INFERENCE_API_KEY"
    parse_thresholds(example.thresholds)
    assert example.text.count("#") > 15


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('titel = "x"\n', 1, "unknown key titel: known are title, profile"),
        ('\nprofile = "both"\n', 2, "profile must be one of gateway, fleet, all"),
        ('title = "x"\nskip = ["test_qeue"]\n', 2, "skip names an unknown script test_qeue"),
        ("[script.test_qeue]\nextra = 1\n", 1, "unknown script test_qeue"),
        ("[script.test_queue]\nextra = 1\n  max-queue = 1\n", 3, "not the name of an option"),
        ("[script.test_queue]\nextra = {a = 1}\n", 2, "extra must be a text, a number"),
        ("[gateway]\n[script.test_queue]\nresults = 'x'\n", 3, "results is decided by run_all.py"),
        ("[fleet]\nurl = 8000\n", 2, "url must be a text"),
        ("[report]\ngpu = 'x'\nmargn = 5\n", 3, "unknown key margn: known are margin"),
        ("[gateway]\napi_key_variable = 'not a name'\n", 2, "must be the name of a variable"),
        ("[gateway]\nurl = 'x'\napi_key = 'k'\n", 3, "a credential may not stand here"),
        ("title = 'x'\n\n[gateway]\nmodel = 'sk-abcdefghijkl'\n", 4, "a credential may not stand"),
        ("[script]\ntest_cors.origin = ['eyJhbGciOi.abc.def']\n", 2, "a credential may not stand"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    said = mistake(tmp_path, text)
    assert said.startswith(f", line {line}: ") and words in said
    assert "abcdefgh" not in said and "eyJ" not in said


def test_what_is_not_toml_is_a_mistake_too(tmp_path: Path) -> None:
    assert "is not TOML" in mistake(tmp_path, "title = \n")
    with pytest.raises(MistakeInConfig, match="cannot read"):
        read_live_test(tmp_path / "missing.toml")


def test_a_key_is_found_where_it_stands() -> None:
    text = "[a.b]\nx = 1\n[script.'test_queue']\nextra = 1\n[script]\ntest_cors.origin = 'x'\n"
    assert find_line(text, ("script", "test_queue", "extra")) == 4
    assert find_line(text, ("script", "test_cors", "origin")) == 6
    assert find_line(text, ("script", "test_queue")) == 3
    assert find_line(text, ("script", "test_queue", "other")) is None


def test_a_scripts_own_words_about_an_option_are_said_at_its_line(tmp_path: Path) -> None:
    found = read(tmp_path, "[script.test_queue]\nextra = 1\nmax_queu = 2\n")
    said = "test_queue.py: unknown option --max-queu"
    names = ("test_queue", "test_queue")
    assert str(message_for(said, found, names)).endswith(f"live_test.toml, line 3: {said}")
    assert message_for("test_queue.py: something else", found, names) is None
