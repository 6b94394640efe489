"""The run: exit codes, options, results, what is shown and what never is."""

from __future__ import annotations

from livecheck.core.interruption import Terminated

import argparse
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from helpers.probe import (
    FAIL,
    PASS,
    SKIP,
    TOKEN,
    URL,
    WARN,
    Body,
    Probe,
    judged,
    raising,
)
from helpers.scripts import ROOT, Finished, run_script, start_script

import common
from common import Check, Exit, Run, Status
from livecheck.core import result_file
from livecheck.core.checks import worst
from livecheck.core.result_file import levels_parts, to_json, write_atomically

# --- exit codes

ORDER = [Exit.INTERRUPTED, Exit.TERMINATED, Exit.USAGE, Exit.FAIL, Exit.UNDECIDED, Exit.OK]


@pytest.mark.parametrize("stronger", range(len(ORDER)))
@pytest.mark.parametrize("weaker", range(len(ORDER)))
def test_the_stronger_exit_code_wins_in_either_order(stronger: int, weaker: int) -> None:
    winner = ORDER[min(stronger, weaker)]
    assert worst([ORDER[stronger], ORDER[weaker]]) is winner
    assert worst([ORDER[weaker], ORDER[stronger]]) is winner


def test_no_codes_at_all_are_no_failure() -> None:
    assert worst([]) is Exit.OK


ESSENTIAL = Check("b", Status.SKIP, "could not", essential=True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (judged(PASS), 0),
        (judged(WARN), 0),
        (judged(PASS, SKIP), 0),
        (judged(PASS, FAIL), 1),
        (judged(FAIL, ESSENTIAL), 1),
        (judged(SKIP), 3),
        (judged(SKIP, SKIP), 3),
        (judged(PASS, ESSENTIAL), 3),
        (judged(WARN, ESSENTIAL), 3),
        (judged(), 3),
        (raising(common.CannotCheck("no answer")), 1),  # the FAIL before it counts
        (raising(ValueError("x")), 1),
        (raising(KeyboardInterrupt()), 130),  # 130 > 1
        (raising(Terminated()), 143),
    ],
)
def test_checks_make_the_exit_code(probe: Probe, body: Body, code: int) -> None:
    ended = probe(body)
    assert ended.code == code
    assert ended.document("probe")["exit_code"] == code
    assert "Traceback" not in ended.everything


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (judged(PASS), "pass"),
        (judged(FAIL), "fail"),
        (judged(SKIP), "undecided"),
        (raising(KeyboardInterrupt()), "interrupted"),
    ],
)
def test_the_document_names_the_verdict(probe: Probe, body: Body, verdict: str) -> None:
    assert probe(body).document("probe")["verdict"] == verdict


def test_the_worst_of_several_documents_is_the_exit_code(probe: Probe) -> None:
    def body(run: Run) -> None:
        for name, check in (("one", PASS), ("two", FAIL), ("three", SKIP)):
            run.document(name).add(Check(**vars(check)))

    ended = probe(body)
    assert ended.code == 1
    assert [ended.document(name)["exit_code"] for name in ("one", "two", "three")] == [0, 1, 3]


def test_cannot_check_is_exit_3_and_one_line(probe: Probe) -> None:
    def body(run: Run) -> None:
        raise common.CannotCheck("cannot reach it:\n try --url")

    ended = probe(body)
    assert (ended.code, ended.err) == (3, "probe.py: cannot reach it: try --url\n")
    assert ended.document("probe")["error"] == "cannot reach it: try --url"


def test_a_document_that_was_finished_is_not_marked_by_what_comes_later(probe: Probe) -> None:
    def body(run: Run) -> None:
        document = run.document("one")
        document.add(Check(**vars(PASS)))
        document.finish()
        run.document("two")
        raise KeyboardInterrupt

    ended = probe(body)
    assert ended.code == 130
    assert [ended.document(name)["interrupted"] for name in ("one", "two")] == [False, True]


def test_an_interruption_between_two_documents_is_told_by_a_third(probe: Probe) -> None:
    def body(run: Run) -> None:
        document = run.document("one")
        document.add(Check(**vars(PASS)))
        document.finish()
        raise KeyboardInterrupt

    levels = json.loads(probe(body, "--output", "json").out)["levels"]
    assert [each["exit_code"] for each in levels] == [0, 130]


def test_a_run_without_any_document_has_decided_nothing(probe: Probe) -> None:
    assert probe(lambda run: None).code == 3


def test_strict_makes_a_warning_a_failure_and_says_so(probe: Probe) -> None:
    ended = probe(judged(WARN), "--strict")
    assert ended.code == 1
    assert ended.check("probe", "a")["status"] == "FAIL"
    assert "--strict" in ended.check("probe", "a")["detail"]


def test_strict_leaves_a_skip_a_skip(probe: Probe) -> None:
    assert probe(judged(SKIP, PASS), "--strict").code == 0


# --- --only and --skip


def names(ended: Finished) -> list[str]:
    return [each["name"] for each in ended.document("probe")["checks"]]


TWO = judged(Check("a", Status.PASS, ""), Check("b", Status.FAIL, ""))


def test_only_leaves_out_all_others(probe: Probe) -> None:
    ended = probe(TWO, "--only", "a")
    assert (ended.code, names(ended)) == (0, ["a"])


def test_skip_leaves_out_what_it_names(probe: Probe) -> None:
    ended = probe(TWO, "--skip", "a")
    assert (ended.code, names(ended)) == (1, ["b"])


def test_nothing_left_by_only_and_skip_is_undecided(probe: Probe) -> None:
    assert probe(TWO, "--only", "a", "--skip", "a").code == 3


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_an_unknown_check_is_exit_2_and_one_line(probe: Probe, option: str) -> None:
    ended = probe(TWO, option, "c")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "'c'" in ended.err


def test_every_objective_belongs_to_the_slo_check(probe: Probe) -> None:
    ended = probe(judged(Check("slo:ttft_p50", Status.PASS, ""), PASS), "--only", "slo")
    assert names(ended) == ["slo:ttft_p50"]


# --- options


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "x", "", "1e300", "2e6"])
def test_a_timeout_that_cannot_be_is_exit_2_and_one_line(probe: Probe, text: str) -> None:
    ended = probe(judged(PASS), f"--timeout={text}")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)


def test_whole_numbers_have_a_least() -> None:
    parse = common.whole_number(1)
    assert parse("1") == 1
    for text in ("0", "-1", "1.5", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)
    with pytest.raises(argparse.ArgumentTypeError, match="the most is 1000000000000000"):
        parse("1" + "0" * 400)  # what a plan works out from it would be no float


def test_options_are_not_guessed_from_their_beginning(probe: Probe) -> None:
    assert probe(judged(PASS), "--time", "5").code == 2


@pytest.mark.parametrize("mistake", [["--tokn", TOKEN], [f"--tokn={TOKEN}"], [TOKEN]])
def test_a_mistyped_token_option_does_not_show_the_token(probe: Probe, mistake: list[str]) -> None:
    ended = probe(judged(PASS), *mistake)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert TOKEN not in ended.err


# --- results


def test_a_failing_write_leaves_the_old_file_and_no_scratch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "x.json").write_text("old")
    monkeypatch.setattr(result_file.os, "replace", full)
    with pytest.raises(OSError):
        write_atomically(tmp_path / "x.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "old"


def test_a_result_is_never_seen_half_written(tmp_path: Path) -> None:
    target, big = tmp_path / "x.json", "x" * 3_000_000
    write_atomically(target, big)
    with target.open() as reader:
        write_atomically(target, "short")
        assert len(reader.read()) == len(big)


def test_results_that_cannot_be_saved_are_exit_3_and_said(probe: Probe) -> None:
    Path("results/probe.json").mkdir(parents=True)
    ended = probe(judged(PASS))
    assert ended.code == 3
    assert "cannot save results/probe.json: Is a directory" in ended.err
    assert sorted(path.name for path in ended.results.iterdir()) == ["probe.json", "probe.log"]


def test_the_last_line_has_the_exit_code_of_a_run_whose_log_cannot_be_saved(probe: Probe) -> None:
    Path("results/probe.log").mkdir(parents=True)
    ended = probe(judged(PASS))
    assert (ended.code, ended.out.splitlines()[-1]) == (3, "UNDECIDED (exit 3): 1 PASS")
    assert "PASS (exit 0)" not in ended.out


def test_the_log_has_the_last_line_too(probe: Probe) -> None:
    ended = probe(judged(PASS))
    assert Path("results/probe.log").read_text().splitlines()[-1] == ended.out.splitlines()[-1]


def test_a_failure_stays_exit_1_when_it_cannot_be_saved(probe: Probe) -> None:
    Path("results/probe.json").mkdir(parents=True)
    assert probe(judged(FAIL)).code == 1


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nowhere"])
def test_an_unwritable_results_folder_is_exit_2_before_anything_is_sent(
    probe: Probe, folder: str
) -> None:
    Path("file").write_text("")
    sent: list[int] = []
    ended = probe(lambda run: sent.append(1), "--results", folder)
    assert (ended.code, sent, len(ended.err.splitlines())) == (2, [], 1)
    assert "--results" in ended.err


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no user ids here")
def test_a_folder_without_write_permission_is_exit_2(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # who may write everywhere, but for what the kernel keeps to itself
        folder = Path("/proc")
    else:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
    ended = run_script("benchmark.py", "--url", URL, "--results", folder)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)


def test_a_new_results_folder_is_made_and_left_tidy(probe: Probe) -> None:
    assert probe(judged(PASS), "--results", "new/er").code == 0
    assert sorted(path.name for path in Path("new/er").iterdir()) == ["probe.json", "probe.log"]


def test_the_log_is_what_was_on_the_screen(probe: Probe) -> None:
    def body(run: Run) -> None:
        judged(PASS)(run)
        run.note("a note")
        run.say("a result")

    ended = probe(body)
    log = (ended.results / "probe.log").read_text().splitlines()
    assert log[:2] == ["a note", "a result"]
    assert sorted(log) == sorted(ended.out.splitlines() + ended.err.splitlines())


def test_the_document_has_every_key_of_the_design(probe: Probe) -> None:
    document = probe(judged(PASS), "--token", TOKEN).document("probe")
    wanted = "schema_version script tool_version verdict exit_code started_at duration_s target "
    wanted += "client options checks metrics requests"
    assert set(wanted.split()) <= set(document)
    assert {"url", "model", "server"} <= set(document["target"])
    assert {"python", "platform", "clock"} <= set(document["client"])
    assert not {"token", "token_binary"} & set(document["options"])
    assert document["started_at"].endswith("+00:00")


def test_json_never_has_a_nan_but_null(probe: Probe) -> None:
    def body(run: Run) -> None:
        document = run.document("probe")
        document.add(Check("a", Status.PASS, "", {"x": [math.nan, math.inf, 1.5]}))
        document.metrics = {"y_ms": -math.inf}

    text = (probe(body).results / "probe.json").read_text()
    loaded = json.loads(text, parse_constant=pytest.fail)
    assert loaded["checks"][0]["evidence"] == {"x": [None, None, 1.5]}
    assert loaded["metrics"] == {"y_ms": None}


def test_to_json_refuses_a_nan() -> None:
    with pytest.raises(ValueError):
        to_json({"x": math.nan})


def test_json_has_a_line_for_each_request() -> None:
    text = to_json({"a": 1, "requests": [{"n": 1}, {"n": 2}], "checks": []})
    assert text.splitlines()[2:5] == [' "requests": [', '  {"n": 1},', '  {"n": 2}']
    assert json.loads(text) == {"a": 1, "requests": [{"n": 1}, {"n": 2}], "checks": []}


def test_several_documents_are_printed_as_they_would_be_as_one() -> None:
    documents = [{"a": 1.5, "requests": [{"n": [1, "é"]}, {}], "checks": [], "x": [1]}, {"a": None}]
    lazy = [{**documents[0], "requests": iter(documents[0]["requests"])}, {"a": None}]
    text = b"".join(levels_parts(lazy)).decode()
    assert text == to_json({"levels": documents})


def test_a_document_that_fails_in_the_middle_is_saved_without_its_requests(probe: Probe) -> None:
    class Broken(dict[str, object]):
        def items(self) -> NoReturn:
            raise ArithmeticError("lost")

    def body(run: Run) -> None:
        document = run.document("probe")
        document.add(PASS)
        document.requests = [{"n": 1}, Broken(), {"n": 3}]

    for output in ("text", "json"):
        ended = probe(body, "--output", output)
        assert (ended.code, ended.err.count("unexpected ArithmeticError")) == (3, 1)
        assert (ended.document("probe")["requests"], ended.document("probe")["exit_code"]) == (
            [],
            3,
        )
    assert json.loads(ended.out) == ended.document("probe")


def test_a_status_is_saved_as_its_word_with_a_token_and_without(probe: Probe) -> None:
    for token in ([], ["--token", TOKEN]):
        assert probe(judged(PASS), *token).check("probe", "a")["status"] == "PASS"


def test_options_of_any_kind_can_be_saved(probe: Probe) -> None:
    def body(run: Run) -> None:
        run.args.extra = [Path("x"), {1: object}, None, 2.5]
        judged(PASS)(run)

    saved = probe(body).document("probe")["options"]["extra"]
    assert (saved[0], saved[2:]) == ("x", [None, 2.5])


# --- stdout


def test_json_on_stdout_is_the_very_document_of_the_file(probe: Probe) -> None:
    ended = probe(judged(PASS), "--output", "json")
    assert ended.out == (ended.results / "probe.json").read_text()


def test_several_documents_are_one_on_stdout(probe: Probe) -> None:
    def body(run: Run) -> None:
        run.document("aside", main=False).add(Check(**vars(PASS)))
        for name in ("one", "two"):
            run.document(name).add(Check(**vars(PASS)))

    ended = probe(body, "--output", "json")
    documents = [ended.document("one"), ended.document("two")]
    assert json.loads(ended.out) == {"levels": documents}


def test_a_side_document_is_shown_when_there_is_no_other(probe: Probe) -> None:
    def body(run: Run) -> None:
        run.document("aside", main=False).add(Check(**vars(FAIL)))

    assert json.loads(probe(body, "--output", "json").out)["verdict"] == "fail"


@pytest.mark.parametrize(
    "body", [judged(), raising(ValueError("x")), raising(KeyboardInterrupt()), lambda run: None]
)
def test_json_is_one_document_however_the_run_ends(probe: Probe, body: Body) -> None:
    ended = probe(body, "--output", "json")
    assert json.loads(ended.out)["exit_code"] == ended.code


def test_a_check_line_is_no_wider_than_80_columns(probe: Probe) -> None:
    def body(run: Run) -> None:
        run.say_check(Check("a", Status.PASS, "word " * 60))

    assert max(map(len, probe(body).out.splitlines())) <= 80


def test_no_colour_where_there_is_no_terminal(probe: Probe) -> None:
    assert "\033" not in probe(lambda run: run.say_check(PASS)).out


# --- redaction

SHAPES = [
    TOKEN,
    urllib.parse.quote(TOKEN),
    urllib.parse.quote(TOKEN, safe=""),
    re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(TOKEN, safe="")),
    json.dumps(TOKEN)[1:-1],
    json.dumps(TOKEN)[1:-1].replace("/", "\\/"),
    TOKEN[:-3],
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_credential_is_in_nothing_that_is_shown_or_saved(probe: Probe, shape: str) -> None:
    def body(run: Run) -> None:
        document = run.document("probe")
        document.add(Check("a", Status.PASS, shape, {shape: [shape]}))
        document.metrics = {"x": {shape: shape}}
        document.requests = [{"error": shape}]
        run.target["server"] = shape
        run.say(shape)
        run.note(shape)
        run.say_check(document.checks[0])
        raise ValueError(f"echo\n{'x' * 250} {shape}")

    for output in ("text", "json"):
        ended = probe(body, "--token", TOKEN, "--debug", "--output", output)
        assert "[redacted]" in ended.err
        assert "Traceback" in ended.err
        assert "5ecret" not in ended.everything


def test_a_token_in_the_prompt_of_the_options_is_not_saved(probe: Probe) -> None:
    def body(run: Run) -> None:
        run.args.prompt = f"who am I, {TOKEN}?"
        judged(PASS)(run)

    assert "5ecret" not in probe(body, "--token", TOKEN).everything


def test_http_to_another_host_warns_about_the_token(probe: Probe) -> None:
    ended = probe(lambda run: run.token(), "--token", TOKEN, "--url", "http://example.org")
    assert "unencrypted" in ended.err


@pytest.mark.parametrize("url", ["https://example.org", "http://localhost:1", "http://[::1]:1"])
def test_https_and_loopback_do_not_warn(probe: Probe, url: str) -> None:
    ended = probe(lambda run: run.token(), "--token", TOKEN, "--url", url)
    assert "unencrypted" not in ended.err


def test_no_token_no_warning(probe: Probe) -> None:
    ended = probe(lambda run: run.token(), "--url", "http://example.org")
    assert "unencrypted" not in ended.err


# --- the unexpected


def test_an_unexpected_error_is_one_line_and_exit_3(probe: Probe) -> None:
    def body(run: Run) -> None:
        raise RuntimeError("one\ntwo")

    ended = probe(body)
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert "unexpected RuntimeError: one two (--debug shows where)" in ended.err


def test_debug_shows_the_trace_of_an_unexpected_error(probe: Probe) -> None:
    def body(run: Run) -> None:
        raise RuntimeError("one")

    ended = probe(body, "--debug")
    assert "Traceback" in ended.err
    assert "in body" in ended.err


def test_a_missing_module_is_named_with_the_remedy(probe: Probe) -> None:
    def body(run: Run) -> None:
        import not_there_at_all  # type: ignore[import-not-found]  # noqa: F401

    ended = probe(body)
    assert ended.code == 3
    assert "no module not_there_at_all: pip install -r requirements.txt" in ended.err


# --- as a process: signals and pipes

SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
import common
from common import Check, Status
from livecheck.core import interruption

def measure(run):
    document = run.document("probe")
    document.add(Check("a", Status.PASS, "seen"))
    document.requests.append({{"n": 1}})
{body}

def main():
    parser = common.new_parser(__file__, "Does it?", common.GATEWAY, ("a",))
    return common.main(parser, measure)

interruption.end_with(main)
"""
WAIT = """
try:
    run.note("ready")
    time.sleep(60)
finally:
    run.note("tidying")
    time.sleep(0.5)
    document.metrics["tidied"] = True
"""
TALK = "for number in range(20000): run.say(f'line {number} \\ud800')"


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Write a script with this body; its path."""

    def write(body: str) -> str:
        indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
        path = tmp_path / "probe.py"
        path.write_text(SCRIPT.format(root=str(ROOT), body=indented))
        return str(path)

    return write


def signalled(script: str, number: int, times: int = 1) -> Finished:
    with start_script(script, "--url", URL) as process:
        assert process.stderr
        early = process.stderr.readline()
        assert early == "ready\n", early
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    return Finished(process.returncode, out, early + err, Path("results").absolute())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_saved_and_marked_so(
    script: Callable[[str], str], number: int, code: int
) -> None:
    ended = signalled(script(WAIT), number)
    document = ended.document("probe")
    assert ended.code == document["exit_code"] == code
    assert (document["interrupted"], document["verdict"]) == (True, "interrupted")
    assert document["requests"] == [{"n": 1}]
    assert "Traceback" not in ended.everything


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_impatient_second_signal_costs_nothing(
    script: Callable[[str], str], number: int, code: int
) -> None:
    ended = signalled(script(WAIT), number, times=3)
    assert ended.code == code
    assert ended.document("probe")["metrics"] == {"tidied": True}
    assert "Traceback" not in ended.everything


def test_ctrl_c_while_a_token_is_awaited_is_130_and_one_line(
    script: Callable[[str], str],
) -> None:
    path = script("pass")
    with start_script(
        path, "--url", URL, "--token", "-", stdin=subprocess.PIPE, env={"PYTHONVERBOSE": ""}
    ) as process:
        wait_until_reading(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "probe.py: interrupted\n")


def test_a_token_that_never_ends_is_not_read_for_ever(script: Callable[[str], str]) -> None:
    with Path("/dev/zero").open() as endless:
        path = script("pass")
        process = start_script(path, "--url", URL, "--token", "-", stdin=endless)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the token from standard input has more than 64 KB" in err


def wait_until_reading(pid: int) -> None:
    """Until the process sleeps in a read of its standard input, a pipe."""
    for _ in range(600):
        time.sleep(0.05)
        try:
            called = Path(f"/proc/{pid}/syscall").read_text().split()
        except OSError:
            time.sleep(2)
            return
        if called[:2] == ["0", "0x0"] or called[0] == "63":
            return


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """As in a terminal; `{}` stands for the interpreter."""
    command = command.replace("{}", shlex.quote(sys.executable))
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )


def test_head_ends_the_run_without_a_traceback(script: Callable[[str], str]) -> None:
    ended = shell(f"{{}} {script(TALK)} --url {URL} | head -1; echo ${{PIPESTATUS[0]}}")
    assert ended.stdout == "line 0 \\ud800\n3\n"
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_head_of_both_streams_does_not_cost_the_results(script: Callable[[str], str]) -> None:
    ended = shell(f"({{}} {script(TALK)} --url {URL}; echo $? > code) 2>&1 | head -1; sleep 0.1")
    assert Path("code").read_text() == "3\n"
    assert Path("results/probe.log").exists()
    assert ended.stdout == "line 0 \\ud800\n"


def test_json_cut_by_head_keeps_the_exit_code(script: Callable[[str], str]) -> None:
    path = script("document.metrics['x'] = ['y' * 100] * 5000")
    command = f"{{}} {path} --url {URL} --output json | head -c 1; echo; echo ${{PIPESTATUS[0]}}"
    ended = shell(command)
    assert (ended.stdout, "Exception ignored" in ended.stderr) == ("{\n0\n", False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_full_disk_behind_stdout_is_said_and_exit_3(
    script: Callable[[str], str], output: str
) -> None:
    ended = shell(f"{{}} {script('run.say()')} --url {URL} --output {output} > /dev/full")
    assert ended.returncode == 3
    assert "No space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert Path("results/probe.json").stat().st_size > 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_standard_streams_do_not_matter(script: Callable[[str], str], closed: str) -> None:
    path = script("run.say_check(document.checks[0]); run.note('x')")
    ended = shell(f"{{}} {path} --url {URL} {closed}")
    assert (ended.returncode, ended.stderr.replace("x\n", "").strip()[:5]) in [
        (0, ""),
        (0, "saved"),
    ]
    assert json.loads(Path("results/probe.json").read_text())["verdict"] == "pass"


def test_redirection_onto_the_scripts_own_result_works(script: Callable[[str], str]) -> None:
    path = script("pass")
    Path("results").mkdir()
    ended = shell(f"{{}} {path} --url {URL} --output json > results/probe.json")
    assert ended.returncode == 0
    assert json.loads(Path("results/probe.json").read_text())["verdict"] == "pass"
    assert sorted(path.name for path in Path("results").iterdir()) == ["probe.json", "probe.log"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_character_can_be_shown_in_any_locale(
    script: Callable[[str], str], encoding: str
) -> None:
    path = script(
        "document.metrics['x'] = run.say('\\ud800 \\u2713 \\U0001f600') or '\\ud800 \\u2713'"
    )
    for output in ("text", "json"):
        ended = run_script(
            path, "--url", URL, "--output", output, env={"PYTHONIOENCODING": encoding}
        )
        assert (ended.code, "Traceback" in ended.err) == (0, False)
    assert json.loads(ended.out)["metrics"] == {"x": "\\ud800 \u2713"}
    assert ended.document("probe")["metrics"] == {"x": "\\ud800 \u2713"}
