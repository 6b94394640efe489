"""The README and the pages under docs/ stay true: commands parse, options and checks are named,
links resolve, figures are defined."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_walk import SOUND_CASES
from helpers.scripts import ROOT, Finished, run_script
from tools.soak import settings_of

import test_tools
from common import OF_ALL_ANSWERS
from livecheck.core.plan import Plan
from livecheck.wire import metrics, shares
from reference import __main__ as reference_main
from reference import running

AT_ONCE = 4
MAX_LINES = 350
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
README = PAGES[ROOT / "README.md"]
EVERYTHING = "\n".join(PAGES.values())
SCRIPTS = sorted(
    path.name for path in ROOT.glob("*.py") if "\ndef build_parser(" in path.read_text()
)
WITH_CHECKS = [name for name in SCRIPTS if "new_parser(__file__" in (ROOT / name).read_text()]
FOREIGN = {"scripts/key_mgmt.py"}  # of the gateway's image
LOADS = {  # what one run of the benchmark does not show
    name: ("benchmark.py", f"--inference-only --max-tokens 4 {arguments}")
    for name, arguments in {
        "open loop": "--rate 50 --requests 10 --slo ttft=1s",
        "capacity": "--find-capacity --max-level 2 --slo ttft_p95=1s",
        "direct": "--direct-url {engine_url}",
    }.items()
}
EXPORTED = re.compile(r"\{\w+\}")
DYNAMIC = {  # figures whose keys are names of the server's, or kinds of error
    "errors",
    "token_sources",
    "models",
    "answered_by",
    "packets",
}

pytestmark = pytest.mark.sound
every_script = pytest.mark.parametrize("script", SCRIPTS)
every_check_script = pytest.mark.parametrize("script", WITH_CHECKS)


def module(script: str) -> Any:
    return importlib.import_module(script.removesuffix(".py"))


def page_of(script: str) -> str:
    """The page that explains a script."""
    return PAGES[ROOT / "docs" / f"{script.removesuffix('.py')}.md"]


def section(page: str, title: str) -> str:
    """The text under a heading."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert match, f"no section {title}"
    return match[1]


# --- commands


def commands() -> Iterator[list[str]]:
    """The words of every command in a fenced block of shell or YAML."""
    for block in re.findall(r"```(?:bash|yaml)\n(.*?)```", EVERYTHING, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^\s*(- )?(run: )?", "", line)
            yield from simple_commands(re.sub(r"<([\w-]+)>", r"\1", line))


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line: what stands between `&&`, `;`, `|` and `>`."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # an apostrophe in YAML
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set("();<>|&"):
            if command:
                yield command[command[0] == "sudo" :]
            command = []
        elif command or not re.fullmatch(r"[A-Z_]+=\S*", word):
            command.append(word)


def python_commands() -> list[tuple[str, list[str]]]:
    """(script or -m, arguments) of what is run by Python."""
    found = [words for words in commands() if re.fullmatch(r"(\.venv/bin/)?python3?", words[0])]
    return [(words[1], words[2:]) for words in found]


@pytest.mark.parametrize(("script", "arguments"), python_commands())
def test_every_command_parses(script: str, arguments: list[str]) -> None:
    if script in SCRIPTS:
        module(script).build_parser().parse_args(arguments)
    elif (script, arguments[0]) == ("-m", "reference"):
        known = reference_main.profiles()
        profile = reference_main.chosen_profile(arguments[1:], known)
        reference_main.build_parser(known, profile).parse_args(arguments[1:])
    elif script != "-m":
        assert script in FOREIGN or (ROOT / script).exists()


def test_every_script_is_run_somewhere() -> None:
    assert set(SCRIPTS) <= {script for script, _ in python_commands()}


def test_every_make_target_and_requirements_file_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = [words[1] for words in commands() if words[0] == "make"]
    made += re.findall(r"`make ([\w-]+)`", EVERYTHING)
    assert made
    assert set(made) <= targets
    for name in re.findall(r"requirements[\w-]*\.txt", EVERYTHING):
        assert (ROOT / name).exists(), name


def test_every_bound_is_one() -> None:
    bounds = re.findall(r"--slo ([a-z]\w*=[^\s`]+)", EVERYTHING)
    assert len(bounds) > 4
    names = test_tools.RATES
    for bound in bounds:
        is_share = bound.startswith(names)
        shares.parse_bound(bound, names) if is_share else metrics.parse_objective(bound)


# --- what is there is named


@every_script
def test_every_option_is_mentioned(script: str) -> None:
    """A script's own options on its page, the shared ones in the README."""
    own = page_of(script)
    shared = all_options(module(WITH_CHECKS[0])) & all_options(module(WITH_CHECKS[1]))
    for option in all_options(module(script)) - {"-h", "--help", "--verbose"}:
        where = README if option in shared else own
        assert re.search(rf"{option}(?![\w-])", where), option


def all_options(script: Any) -> set[str]:
    parser: argparse.ArgumentParser = script.build_parser()
    return {name for action in parser._actions for name in action.option_strings}


@every_check_script
def test_every_check_is_explained(script: str) -> None:
    explained = page_of(script)
    checks = (*module(script).CHECKS, *OF_ALL_ANSWERS)
    assert [name for name in checks if not re.search(rf"`{name}\b", explained)] == []


@every_check_script
def test_the_sample_output_names_checks_that_exist(script: str) -> None:
    shown = re.findall(r"^(?:PASS|FAIL|WARN|SKIP)  (\w+)", page_of(script), re.MULTILINE)
    assert shown
    assert set(shown) <= set(module(script).CHECKS)


def test_every_module_is_named() -> None:
    """At the top level by its name, in the package as `wire/answer.py`."""
    named = [path.name for path in ROOT.glob("*.py")]
    package = ROOT / "livecheck"
    named += [
        str(path.relative_to(package))
        for path in package.glob("*/*.py")
        if path.name != "__init__.py"
    ]
    assert [name for name in named if f"`{name}`" not in EVERYTHING] == []


def test_every_script_has_a_page() -> None:
    assert [name for name in SCRIPTS if f"docs/{name.removesuffix('.py')}.md" not in README] == []


def test_files_they_name_exist() -> None:
    for name in re.findall(
        r"`((?:(?:tests|reference|docs|livecheck)/(?:\w+/)*)?[\w-]+\.(?:py|md))`", EVERYTHING
    ):
        folders = ("", "reference", "reference/faults", "tests", "tests/tools", "docs", "livecheck")
        places = [ROOT / each for each in folders]
        written = name in ("baseline_report.md", "PROJECT_LOG.md")  # by the report, by its readers
        assert written or any((place / name).exists() for place in places), name


# --- links


def anchors(page: str) -> set[str]:
    """Headings as GitHub links to them."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    found = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_resolve(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[path]):
        name, _, anchor = link.partition("#")
        if name.startswith("https:"):
            continue
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(PAGES[target]), link


# --- figures


def sound_run(script: str, arguments: str, results: Path) -> Finished:
    """The script against a deployment it is right for."""
    with running(**settings_of(SOUND_CASES[script])) as deployment:
        exported = deployment.exported
        words = shlex.split(arguments.format(**exported))
        return run_script(script, *words, env=deployment.environment, results=results)


def plan_of(script: str, arguments: str) -> Plan:
    """What --plan says of these arguments; a stand-in is put where they name what is exported."""
    parser = module(script).build_parser()
    words = EXPORTED.sub(lambda m: "9" if "port" in m[0] else "http://127.0.0.1:9", arguments)
    args = parser.parse_args(shlex.split(words))
    plan: Plan = args.estimate(args)
    return plan


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Finished]]]:
    """A sound run of each script, several at a time: most of each is waiting."""
    cases = {script: case for script, case in SOUND_CASES.items() if script in WITH_CHECKS}
    usual = {script: (script, case.arguments) for script, case in cases.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(sound_run, *run, tmp_path_factory.mktemp("results") / "of")
            for name, run in {**usual, **LOADS}.items()
        }


@pytest.mark.parametrize("run", [*WITH_CHECKS, *LOADS])
def test_a_sound_deployment_passes(run: str, runs: dict[str, Future[Finished]]) -> None:
    finished = runs[run].result()
    documents = [finished.document(path.stem) for path in finished.results.glob("*.json")]
    failed = [c for document in documents for c in document["checks"] if c["status"] == "FAIL"]
    assert (finished.code, failed) == (0, []), finished.out


@pytest.mark.parametrize("run", [*WITH_CHECKS, *LOADS])
def test_a_run_keeps_to_its_plan(run: str, runs: dict[str, Future[Finished]]) -> None:
    finished = runs[run].result()
    documents = [finished.document(path.stem) for path in finished.results.glob("*.json")]
    sent = [each for document in documents for each in document["requests"]]
    sent = [each for each in sent if each.get("kind") != "workers"]  # read from elsewhere
    took_s = sum(document["duration_s"] for document in documents)
    script, arguments = LOADS.get(run) or (run, SOUND_CASES[run].arguments)
    plan = plan_of(script, arguments)
    assert len(sent) <= plan.requests
    assert took_s <= plan.at_most_s
    # the simulated model is faster than the one that a plan is made for
    assert took_s / 3 <= plan.typical_s <= plan.at_most_s


@pytest.mark.parametrize("run", [*WITH_CHECKS, *LOADS])
def test_every_key_of_the_results_is_defined(run: str, runs: dict[str, Future[Finished]]) -> None:
    finished = runs[run].result()
    names = [path.stem for path in finished.results.glob("*.json")]
    assert names
    keys = {key for name in names for key in keys_of(finished.document(name))}
    assert [key for key in sorted(keys) if not re.search(rf"[`.]{key}`", EVERYTHING)] == []


def keys_of(document: dict[str, Any]) -> Iterator[str]:
    """The document's own keys, those of its figures and of its request records."""
    yield from document
    for record in document["requests"]:
        yield from record
    for check in document["checks"]:
        yield from check
        yield from check["evidence"] if document["script"] == "benchmark" else ()
    yield from figures_in(document["metrics"])
    yield from document["client"]


def figures_in(figures: dict[str, Any]) -> Iterator[str]:
    for key, value in figures.items():
        yield key
        inner = value[0] if isinstance(value, list) and value else value
        if not isinstance(inner, dict) or "p50" in inner:
            continue
        named = inner.values() if key in DYNAMIC else [inner]
        for each in named:
            yield from figures_in(each) if isinstance(each, dict) else ()


def test_every_row_label_of_the_text_is_explained(runs: dict[str, Future[Finished]]) -> None:
    out = runs["benchmark.py"].result().out
    rows = re.findall(r"^  +([A-Za-z/][\w /']*?)(?: \[[^\]]*\])?  +", out, re.MULTILINE)
    assert len(rows) > 15
    assert [label for label in rows if label not in EVERYTHING] == []


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq")
def test_the_jq_lines_find_something(runs: dict[str, Future[Finished]], tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(runs["benchmark.py"].result().results)
    (tmp_path / "results" / "failed.json").write_text(
        '{"checks": [{"status": "FAIL", "name": "it", "detail": "failed"}]}'
    )
    lines = re.findall(r"^jq .*$", README, re.MULTILINE)
    assert lines
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() not in ("", "null"), line


def test_the_exit_codes_are_all_there() -> None:
    from livecheck.core.checks import Exit

    table = section(README, "Exit codes and pipelines")
    for code in Exit:
        assert re.search(rf"^\|[^|]*\b{int(code)}\b", table, re.MULTILINE), code


def test_the_readme_is_short() -> None:
    assert README.count("\n") < MAX_LINES
