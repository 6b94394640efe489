"""make peers-clients: the table of other clients' figures beside ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from tools import clients
from tools.clients import Client, Reported, Work


def arguments(*argv: str) -> argparse.Namespace:
    return clients.build_parser().parse_args(["--streams", "2", *argv])


def rows(args: argparse.Namespace, without: list[str] | None = None) -> list[list[str]]:
    told = clients.table(args, [] if without is None else without)
    lines = [line for line in told if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def note(received_ms: float, *sent_ms: float) -> dict[str, Any]:
    sent_ns = [round((received_ms + at) * 1e6) for at in sent_ms]
    return {"received_ns": round(received_ms * 1e6), "sent_ns": sent_ns}


def test_percentiles_are_held_against_those_of_the_requests_that_were_measured() -> None:
    # the first one is that of a warm-up, which the client does not count
    notes = [note(1000, 100, 120), note(0, 900, 990), note(1001, 100, 140)]
    truth = {"requests": notes, "first_request_ns": 5_000_000_000}
    found = Reported(ttft_p50_ms=103.0, ttft_p99_ms=110.0, itl_p99_ms=39.8, requests=2)
    row = clients.row_of(found, truth, 2_000_000_000, 0.3, 40.0)
    assert row.ttft_p50_ms == pytest.approx(3) and row.ttft_p99_ms == pytest.approx(10)
    assert row.itl_p99_ms == pytest.approx(0)
    assert row.cpu_ms == pytest.approx(50_000) and row.first_s == 3.0 and row.peak_mb == 40.0


def test_a_row_for_ours_and_one_for_the_plainest_client() -> None:
    found = rows(arguments("--only", "benchmark.py", "plain threads"))
    assert [row[0] for row in found] == ["benchmark.py", "plain threads"]
    for row in found:
        assert len(row) == len(clients.COLUMNS) and row[1] == "2"
        assert all(cell.endswith(("µs", "ms")) for cell in row[2:5])
        assert all(float(cell.replace(",", "")) > 0 for cell in row[5:])


def test_a_client_that_cannot_be_installed_or_run_is_a_row_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Work) -> list[str]:
        return ["sh", "-c", "echo it needs a graphics card >&2; exit 1"]

    def reads(work: Work) -> Reported:
        return Reported(*map(float, (work.folder / "out.json").read_text().split()), requests=1)

    monkeypatch.setattr(clients, "HOME", tmp_path / "clients")
    absent = Client("absent", str(tmp_path / "absent.whl"), fails, reads)
    broken = Client("broken", None, fails, reads)
    args = arguments("--streams", "2", "3")
    args.only = [absent, broken]
    without: list[str] = []
    reasons = [row[2] for row in rows(args, without)]
    assert reasons[0].startswith("cannot be installed: ") and reasons[1] == reasons[0]
    assert capsys.readouterr().err.count("Installing") == 1  # once, not for each level
    assert not (tmp_path / "clients/absent").exists()
    assert reasons[2:] == ["no figures (FileNotFoundError): it needs a graphics card"] * 2
    assert without == [absent.label, "broken"]


def test_figures_that_cannot_be_compared_do_not_end_the_table() -> None:
    def reads(_: Work) -> Reported:
        return Reported(1.0, 1.0, None, requests=1)  # and it has sent none

    args = arguments()
    args.only = [Client("idle", None, lambda _: ["true"], reads)]
    assert [row[2].partition("(")[0] for row in rows(args)] == ["no figures "]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "ERROR: Ignored the following versions that require a different python version: "
            "1.1.3 Requires-Python >=3.11\nERROR: No matching distribution found for servebench",
            "Ignored the following versions that require a different python version: "
            "1.1.3 Requires-Python >=3.11",
        ),
        (
            "WARNING: Retrying\nERROR: No space left on device",
            "ERROR: No space left on device",
        ),
    ],
)
def test_the_reason_that_pip_gives(said: str, reason: str) -> None:
    assert clients.why_pip_failed(said) == reason[: clients.LINE]


def test_the_command_ends_with_1_where_a_client_has_no_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["clients.py", "--only", "plain threads", "--streams", "1"])
    assert clients.main() == 0
    monkeypatch.setattr(clients, "LIMIT_S", 0.01)
    assert clients.main() == 1
    told = capsys.readouterr()
    assert "did not end within" in told.out and "No figures of plain threads:" in told.err


def test_a_tokenizer_that_nobody_has_to_fetch(tmp_path: Path) -> None:
    place = clients.make_tokenizer(tmp_path)
    assert (place / "tokenizer.json").stat().st_size > 1000
    names = clients.byte_names()
    assert sorted(names.values()) == list(range(256)) and names["A"] == 65
