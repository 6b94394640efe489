"""credentials.py: the order of credentials, the token binary, and keeping credentials secret."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.scripts import Finished

import common
from common import FLEET, GATEWAY, Check, Run, Status
from livecheck.core import credentials
from livecheck.core.credentials import (
    CannotCheck,
    Credentials,
    Secrets,
    call_token_binary,
    check_token,
)

Token = Callable[..., Finished]
Binary = Callable[[str], str]
JWTS = [f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIi{name}.5ignature{name}" for name in ("Ann", "Bob", "Ann2")]
BOTH = [pytest.param(GATEWAY, id="gateway"), pytest.param(FLEET, id="fleet")]


@pytest.fixture
def binary(tmp_path: Path) -> Binary:
    """Write a token binary with this shell script as its body; its path."""

    def write(body: str) -> str:
        path = tmp_path / "get-token"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture
def token(capsys: pytest.CaptureFixture[str]) -> Token:
    """Run a script that asks for a token; `Finished.out` is a length and a hash of none."""

    def go(*arguments: str, deployment: common.Deployment = FLEET, **asked: str) -> Finished:
        parser = common.new_parser("probe.py", "", deployment, ())
        capsys.readouterr()
        found: list[str | None] = []
        try:
            args = parser.parse_args(["--url", "http://127.0.0.1:9", *arguments])
            with common.run(args) as run:
                found.append(run.token(**asked))
                run.document("probe").add(Check("a", Status.PASS, ""))
            code = int(run.exit_code)
        except SystemExit as end:
            code = int(end.code or 0)
        err = capsys.readouterr().err
        return Finished(code, str(found[0]) if found else "", err, Path("results").absolute())

    return go


# --- the order


def test_the_token_option_wins_over_binary_and_environment(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLEAI_TEST_TOKEN", "from-environment")
    assert token("--token", "from-option", "--token-binary", "echo b").out == "from-option"


def test_the_binary_option_wins_over_the_environment(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLEAI_TEST_TOKEN", "from-environment")
    assert token("--token-binary", "echo from-binary").out == "from-binary"


def test_the_binary_option_wins_over_the_gateways_environment_too(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERENCE_API_KEY", "from-environment")
    ended = token("--token-binary", "echo from-binary", deployment=GATEWAY)
    assert ended.out == "from-binary"


@pytest.mark.parametrize(
    ("deployment", "variable"), [(GATEWAY, "INFERENCE_API_KEY"), (FLEET, "SIMPLEAI_TEST_TOKEN")]
)
def test_the_environment_wins_over_dotenv(
    token: Token, monkeypatch: pytest.MonkeyPatch, deployment: common.Deployment, variable: str
) -> None:
    Path(".env").write_text(f"{variable}=from-dot$env\n")
    assert token(deployment=deployment).out == "from-dot$env"
    monkeypatch.setenv(variable, "from-environment")
    assert token(deployment=deployment).out == "from-environment"


def test_the_fleets_binary_may_come_from_the_environment(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_BINARY", "echo from-variable")
    assert token().out == "from-variable"
    assert token("--token-binary", "echo from-option").out == "from-option"


@pytest.mark.parametrize("asked", [{"role": "admin"}, {"user": "ann"}])
def test_a_role_or_user_comes_from_the_binary_only(token: Token, asked: dict[str, str]) -> None:
    ended = token("--token", "from-option", "--token-binary", "echo from-binary", **asked)
    assert ended.out.startswith("from-binary") or ended.code == 3
    ended = token("--token", "from-option", **asked)
    assert (ended.code, ended.out) == (3, "")
    assert "--token-binary" in ended.err


def test_a_role_uses_the_binary_beside_a_token(token: Token, binary: Binary) -> None:
    path = binary("echo from-binary")
    assert token("--token", "from-option", "--token-binary", path).out == "from-option"
    ended = token("--token", "from-option", "--token-binary", path, role="admin")
    assert ended.out == "from-binary"


def test_the_fleet_needs_a_token_and_names_every_way(token: Token) -> None:
    ended = token()
    assert ended.code == 3
    for way in ("No JWT token available", "--token", "--token-binary", "SIMPLEAI_TEST_TOKEN"):
        assert way in ended.err


def test_the_gateway_may_do_without(token: Token) -> None:
    assert (token(deployment=GATEWAY).code, token(deployment=GATEWAY).out) == (0, "None")


# --- the token option


def from_stdin(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What benchmark.py makes of `--token -`; nothing listens at its URL."""
    return subprocess.run(
        [sys.executable, str(Path(common.__file__).parent / "benchmark.py")]
        + ["--url", "http://127.0.0.1:9", "--token", "-", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_dash_reads_the_token_from_standard_input(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("  from-stdin \nnot this\n"))
    assert token("--token", "-").out == "from-stdin"


def test_a_dash_reads_a_real_pipe(token: Token) -> None:
    ended = from_stdin("from-stdin-1234\n")
    assert ended.returncode == 3  # nothing listens there, but the token was good
    assert "cannot reach" in ended.stderr


@pytest.mark.parametrize("text", ["", "\n", "two words\n", "sch\u00f6n\n"])
def test_a_bad_token_on_standard_input_is_exit_2_and_one_line(text: str) -> None:
    ended = from_stdin(text)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "standard input" in ended.stderr


@pytest.mark.parametrize("deployment", BOTH)
@pytest.mark.parametrize(
    "text", ["", " ", "a b", "a\nb", "a\r\nX: y", "\u00fcber", "a\x00b", "\x7f"]
)
def test_a_token_that_no_header_can_carry_is_exit_2(
    token: Token, deployment: common.Deployment, text: str
) -> None:
    ended = token("--token", text, deployment=deployment)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)


def test_api_key_is_another_name_for_token(token: Token) -> None:
    assert token("--api-key", "from-option", deployment=GATEWAY).out == "from-option"


def test_a_bad_token_is_not_repeated_in_the_complaint() -> None:
    with pytest.raises(ValueError) as caught:
        check_token("5ecret with spaces", "--token")
    assert "5ecret" not in str(caught.value)


# --- the token binary


def message(path: str, *arguments: str) -> str:
    with pytest.raises(CannotCheck) as caught:
        call_token_binary([path], arguments)
    return str(caught.value)


def test_a_failing_binary_shows_its_code_and_the_last_line_of_its_stderr(binary: Binary) -> None:
    text = message(binary("echo 5ecret; echo first >&2; echo 'no key file' >&2; exit 7"))
    assert "ended with 7: no key file" in text
    assert "first" not in text
    assert "5ecret" not in text


def test_what_a_failing_binary_printed_is_not_shown_by_its_stderr_either(binary: Binary) -> None:
    text = message(binary("echo 5ecret-token; echo 'cannot keep 5ecret-token' >&2; exit 1"))
    assert text.endswith("ended with 1: cannot keep [redacted]")


def test_what_looks_like_a_token_on_stderr_is_not_shown(binary: Binary) -> None:
    text = message(binary(f"echo 'bad {JWTS[0]}, {JWTS[1][:30]}, sk-5ecret-key.' >&2; exit 1"))
    assert text.endswith("ended with 1: bad [redacted], [redacted], [redacted]")


def test_a_binary_that_prints_without_end_is_ended(binary: Binary) -> None:
    begun = time.monotonic()
    assert "printed more than 64 KB" in message(binary("yes 5ecret"))
    assert time.monotonic() - begun < 10
    assert call_token_binary([binary("yes noise | head -c 300000 >&2; echo abc")], []) == "abc"


@pytest.mark.parametrize("credential", ["sk-short", JWTS[0], "0123456789abcdef0123456789abcdef"])
def test_a_credential_in_the_place_of_the_binary_is_not_shown(
    token: Token, monkeypatch: pytest.MonkeyPatch, credential: str
) -> None:
    ended = token("--token-binary", credential)
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert "cannot run the token binary" in ended.err
    assert credential not in ended.everything
    monkeypatch.setenv("TOKEN_BINARY", credential)
    assert credential not in token().everything


def test_a_failing_binary_with_nothing_on_stderr(binary: Binary) -> None:
    assert message(binary("exit 1")).endswith("ended with 1: nothing on stderr")


def test_the_end_of_a_token_that_is_not_known_is_not_shown(binary: Binary) -> None:
    text = message(binary("echo 'cannot refresh ...xY7bQ2mK9pLs: sealed' >&2; exit 1"))
    assert text.endswith("ended with 1: cannot refresh ...[redacted]: sealed")


def test_a_binary_that_floods_its_stderr_is_ended_at_once(binary: Binary) -> None:
    assert message(binary("exec yes >&2")).endswith("it printed more than 1 MB on stderr")


def test_control_characters_of_a_binary_are_spelled(token: Token, binary: Binary) -> None:
    ended = token("--token-binary", binary("printf '\\033[31mred\\007\\302\\233x' >&2; exit 1"))
    assert ended.err.endswith("ended with 1: \\x1b[31mred\\x07\\x9bx\n")
    assert ended.everything.replace("\n", "").isprintable()


def test_a_killed_binary(binary: Binary) -> None:
    assert "ended with -9" in message(binary("kill -9 $$"))


def test_a_binary_that_is_not_there() -> None:
    assert message("./nowhere").endswith("./nowhere: No such file or directory")


def test_a_path_with_a_mistake_in_it_is_named() -> None:
    assert "/opt/nowhere/get-token: No such file" in message("/opt/nowhere/get-token")


def test_a_binary_that_may_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("echo x")
    assert "Permission denied" in message(str(tmp_path / "plain"))


def test_a_binary_that_is_no_program(binary: Binary) -> None:
    path = Path(binary(""))
    path.write_text("no program at all")
    assert "Exec format error" in message(str(path))


def test_a_binary_that_prints_nothing(binary: Binary) -> None:
    assert "printed 0 lines" in message(binary("true"))


def test_a_binary_that_prints_several_lines(binary: Binary) -> None:
    text = message(binary("echo 5ecret-one; echo 5ecret-two"))
    assert "printed 2 lines" in text
    assert "5ecret" not in text


@pytest.mark.parametrize("printed", ["5ecret two", "5ecret\\ttwo", "5ecret-sch\\303\\266n"])
def test_a_binary_that_prints_what_is_no_token(binary: Binary, printed: str) -> None:
    text = message(binary(f"printf '{printed}\\n'"))
    assert "white space or non-ASCII" in text
    assert "5ecret" not in text


def test_a_binary_that_prints_bytes_which_are_no_text(binary: Binary) -> None:
    assert "non-ASCII" in message(binary("printf '\\377\\376abc'"))


def test_the_line_end_is_no_part_of_the_token(binary: Binary) -> None:
    for end in ("", "\\n", "\\r\\n", "\\n\\n"):
        assert call_token_binary([binary(f"printf 'abc{end}'")], []) == "abc"


def test_a_token_on_stdout_counts_whatever_is_on_stderr(binary: Binary) -> None:
    assert call_token_binary([binary("echo warning >&2; echo abc")], []) == "abc"


def test_a_binary_does_not_eat_the_scripts_standard_input(binary: Binary) -> None:
    command = [sys.executable, "-c", CALL, binary("cat; echo abc")]
    ended = subprocess.run(
        command, input="left\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "abc left\n"


CALL = f"""
import sys
sys.path.insert(0, {str(Path(common.__file__).parent)!r})
from livecheck.core import credentials
print(credentials.call_token_binary(sys.argv[1:], []), input())
"""


def gone(pid: int) -> bool:
    """Whether no such process runs; one that ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def soon(condition: Callable[[], bool], within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_a_hanging_binary_is_killed_with_its_grandchildren(
    binary: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "TOKEN_BINARY_TIMEOUT_S", 1.0)
    begun = time.monotonic()
    text = message(binary("sleep 300 & echo $$ $! > pids; wait"))
    assert 1 <= time.monotonic() - begun < 30
    assert "gave no token: it did not end within 1 s" in text
    pids = [int(word) for word in Path("pids").read_text().split()]
    assert len(pids) == 2
    assert soon(lambda: all(map(gone, pids)))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_a_child_that_holds_stdout_open_is_ended_and_the_token_is_read(binary: Binary) -> None:
    begun = time.monotonic()
    path = binary("sleep 300 & echo $! > pids; echo abc")
    assert call_token_binary([path], []) == "abc"
    assert time.monotonic() - begun < 10
    assert soon(lambda: gone(int(Path("pids").read_text())))


@pytest.mark.parametrize("role", [None, "model:specific"])
@pytest.mark.parametrize("user", [None, "ann b"])
def test_user_and_role_are_appended(binary: Binary, user: str | None, role: str | None) -> None:
    path = binary('for each; do echo "$each"; done > arguments; echo abc')
    Credentials(None, path + " token", True, Secrets()).token(role=role, user=user)
    asked = ["--user", user] if user else []
    asked += ["--role", role] if role else []
    assert Path("arguments").read_text().splitlines() == ["token", *asked]


def test_a_command_line_is_split_as_a_shell_would_but_not_interpreted(binary: Binary) -> None:
    path = binary('for each; do echo "$each"; done > arguments; echo abc')
    command = f"{path} 'one word' ; touch hacked $(touch hacked) `touch hacked` $HOME > x && y"
    Credentials(None, command, True, Secrets()).token()
    assert not Path("hacked").exists()
    assert Path("arguments").read_text().splitlines()[:3] == ["one word", ";", "touch"]


@pytest.mark.parametrize("command", ["", "  ", "'unfinished", "# comment", "\\"])
def test_a_command_that_cannot_be_read_is_exit_2(token: Token, command: str) -> None:
    if command == "# comment":  # shlex keeps it: a program called "#"
        assert token("--token-binary", command).code == 3
        return
    ended = token("--token-binary", command)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)


def test_a_failing_binary_is_exit_3_and_one_line(token: Token, binary: Binary) -> None:
    ended = token("--token-binary", binary("echo 'vault is sealed' >&2; exit 1"))
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert "vault is sealed" in ended.err


def test_the_binarys_arguments_are_in_nothing_that_is_shown_or_saved(
    token: Token, binary: Binary
) -> None:
    ended = token("--token-binary", binary("exit 1") + " --password 5ecret", "--debug")
    assert ended.code == 3
    assert "5ecret" not in ended.everything


@pytest.mark.parametrize("option", [True, False])
def test_the_binarys_token_is_redacted(
    binary: Binary, capsys: pytest.CaptureFixture[str], option: bool
) -> None:
    path = binary("echo 5ecret-from-binary")
    args = common.new_parser("probe.py", "", FLEET, ()).parse_args(["--token-binary", path])
    with common.run(args) as run:
        run.say(f"the server said {run.token(role='admin' if option else None)}")
    assert "5ecret" not in "".join(capsys.readouterr())


def test_a_token_in_the_environment_is_redacted_before_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFERENCE_API_KEY", "5ecret-key")
    args = common.new_parser("probe.py", "", GATEWAY, ()).parse_args(["--url", "http://[::1]:9"])

    def echo(run: Run) -> None:
        raise RuntimeError("the server said 5ecret-key")

    with common.run(args) as run:
        echo(run)
    assert "5ecret" not in "".join(capsys.readouterr())
