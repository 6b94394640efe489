"""What every check script imports first: its options, its run, its exit code.

    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, plan=plan_queue)
    ...
    def measure(run: Run) -> None:
        document = run.document("queue_behavior")
        run.decide(document, Check("idle", Status.PASS, "0 active, 0 waiting"))

    def main(argv: Sequence[str] | None = None) -> int:
        return common.main(build_parser(), measure, argv)

Whatever happens inside `measure` becomes an exit code and one line; every result file that was
begun is saved, and no credential appears in any of it (livecheck/core/run.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from livecheck.core.checks import OF_ALL_ANSWERS, Check, Exit, Status
from livecheck.core.credentials import CannotCheck, NoAccess
from livecheck.core.options import (
    Parser,
    ca_file_option,
    is_wanted,
    option_type,
    seconds,
    whole_number,
)
from livecheck.core.plan import Plan, show
from livecheck.core.result_file import Document
from livecheck.core.run import Run, run, run_to_end
from livecheck.core.settings import FLEET, GATEWAY, Deployment

__all__ = [
    "FLEET",
    "GATEWAY",
    "OF_ALL_ANSWERS",
    "CannotCheck",
    "Check",
    "Document",
    "Exit",
    "NoAccess",
    "Parser",
    "Run",
    "Status",
    "is_wanted",
    "main",
    "new_parser",
    "run",
    "seconds",
    "whole_number",
]


def new_parser(
    file: str,
    doc: str | None,
    deployment: Deployment,
    checks: Sequence[str],
    timeout_s: float = 120,
    *,
    plan: Callable[[argparse.Namespace], Plan] = lambda _: Plan(),
) -> Parser:
    """A parser with the options that all scripts share.

    `file` and `doc` are the script's `__file__` and docstring: the text before "Examples:" becomes
    the description of --help, the rest its epilog. `checks` are the names that --only and --skip
    take, besides those that every script has. `plan` estimates from the options what a run would
    send, for --plan.
    """
    parser = Parser.from_manual(file, doc)
    parser.set_defaults(deployment=deployment, script=Path(file).stem, estimate=plan)
    add = parser.add_argument_group("shared options").add_argument
    add_access(add, deployment, timeout_s)
    add_output(add)
    add_choice(add, (*checks, *OF_ALL_ANSWERS))
    return parser


def add_access(add: Callable[..., object], deployment: Deployment, timeout_s: float) -> None:
    """Where the deployment is, how it is reached, and the credential."""
    variable = deployment.url_variable
    default = f", default {deployment.default_url}" if deployment.default_url else ""
    add("--url", metavar="URL", help=f"base URL of the deployment (or {variable}{default})")
    token = f"credential; - reads it from stdin (or {deployment.token_variable})"
    add("--token", "--api-key", metavar="TOKEN", help=token)
    add("--token-binary", metavar="COMMAND", help="command that prints a token")
    timeout = "whole time of one request (default %(default)g)"
    add("--timeout", type=seconds, default=float(timeout_s), metavar="SECONDS", help=timeout)
    ca_file = "trust these authorities too, for TLS (PEM; or SSL_CERT_FILE)"
    add("--ca-file", type=option_type(ca_file_option), metavar="FILE", help=ca_file)
    cert = f"client certificate for TLS, PEM (or {deployment.cert_variable})"
    add("--cert", metavar="FILE", help=cert)
    key = f"its key, if not in --cert (or {deployment.cert_key_variable})"
    add("--cert-key", metavar="FILE", help=key)
    add("--no-verify-ssl", action="store_true", help="accept any TLS certificate")


def add_output(add: Callable[..., object]) -> None:
    """What is shown, and where results go."""
    add("-v", "--verbose", action="store_true", help="show each request")
    add("--debug", action="store_true", help="show answers and tracebacks too")
    add("--output", choices=("text", "json"), default="text", help="form of the result on stdout")
    folder = "folder for the result files (default %(default)s)"
    add("--results", type=Path, default=Path("results"), metavar="DIR", help=folder)


def add_choice(add: Callable[..., object], checks: Sequence[str]) -> None:
    """Which checks are run, and how strictly they are judged."""
    names = ", ".join(checks)
    add("--only", nargs="+", choices=checks, metavar="CHECK", help=f"run only these: {names}")
    add("--skip", nargs="+", choices=checks, default=[], metavar="CHECK", help="leave these out")
    add("--plan", action="store_true", help="show what this would send, and how long it takes")
    add("--strict", action="store_true", help="treat every WARN as a FAIL")


def main(
    parser: argparse.ArgumentParser,
    measure: Callable[[Run], None],
    argv: Sequence[str] | None = None,
    prepare: Callable[[argparse.Namespace], Any] | None = None,
) -> int:
    """The end of every script: parse the command line, run, and return the exit code.

    `prepare` checks the options against each other before anything is sent; its ValueError is a
    mistake on the command line. What it returns is `run.prepared`. With --plan nothing is run.
    """
    args = parser.parse_args(argv)
    try:
        prepared = prepare(args) if prepare else None
    except ValueError as error:
        parser.error(str(error))
    if args.plan:
        args.prepared = prepared
        return int(show(args.script, args.estimate(args), args.output))
    return int(run_to_end(args, measure, prepared))
