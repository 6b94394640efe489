"""Where each step finds its deployment and its credential: options, live_test.toml, environment.

A table of one script is about that script alone, so it wins over everything. Then come the options
of run_all.py, then the table of the deployment, then what the scripts themselves read.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from livecheck.core import settings
from livecheck.core.address import read_address
from livecheck.core.credentials import Credentials, check_token
from livecheck.core.redaction import Secrets
from livecheck.suite.commands import Access, Command
from livecheck.suite.live_test_toml import (
    NAME,
    SPECIAL,
    TOKEN_COMMAND,
    VARIABLES,
    LiveTest,
    Options,
)
from livecheck.suite.steps import (
    FLEET,
    GATEWAY,
    Step,
    changed,
    makes_another_level,
    options_of,
)

DEPLOYMENTS = {GATEWAY: settings.GATEWAY, FLEET: settings.FLEET}


@dataclass(frozen=True)
class Finder:
    """Finds what the steps need. `shared`: the options of run_all.py that it hands on to every
    script, by name; `of_one`: those that it hands on to one.

    is_plan: nothing will be sent, so that neither a URL nor a credential is missed.
    """

    args: argparse.Namespace
    live_test: LiveTest
    shared: Options
    of_one: Mapping[str, Options]
    look_up: Callable[[str], str | None]
    secrets: Secrets
    is_plan: bool

    def command(self, step: Step) -> Command:
        """Raises ValueError for a URL or a credential that cannot be used, or is missing, and for
        options that do not fit the step."""
        own = self.own_options(step)
        table = self.live_test.deployments.get(step.profile, {})
        options = options_of(step, table, self.shared, own)
        self.check_level(step, options)
        access = self.access(step, own, table)
        kept = {name: value for name, value in options.items() if name not in (*SPECIAL, "url")}
        return Command(step, access, kept)

    def check_level(self, step: Step, options: Options) -> None:
        """Two steps must not save the same file, nor a step another level's."""
        if not (found := makes_another_level(step, options)):
            return
        option, example = found
        words = f"with this {option}, {step.name} would measure another level: write a table with "
        words += f"the name of that level, as [script.{example}]"
        scripts = self.live_test.scripts
        tables = [name for name in (step.name, step.script) if option in scripts.get(name, {})]
        keys = ("script", tables[0]) if tables else (step.profile,)
        raise self.live_test.mistake(words, *keys, option)

    def own_options(self, step: Step) -> dict[str, Any]:
        """Those of the step's tables, the script's first."""
        found: dict[str, Any] = {}
        for name in dict.fromkeys((step.script, step.name)):
            found = changed(found, self.live_test.scripts.get(name, {}))
        return changed(found, self.of_one.get(step.script, {}))

    def access(self, step: Step, own: Options, table: Options) -> Access:
        deployment = DEPLOYMENTS[step.profile]
        url = own.get("url") or self.args.url or table.get("url")
        url = url or self.look_up(deployment.url_variable) or deployment.default_url
        if url is None and not self.is_plan:
            raise ValueError(f"which deployment? give --url or set {deployment.url_variable}")
        if url is not None:
            read_address(url)  # ValueError says what is wrong with it
            self.secrets.make_public(url)
        environment, binary, shown = self.credential(step.profile, own, table)
        return Access(url, table.get(NAME), environment, binary, shown)

    def credential(
        self, profile: str, own: Options, table: Options
    ) -> tuple[Mapping[str, str], str | None, str]:
        """What the script gets in its environment, and the command that prints a token."""
        if any(key in own for key in (*VARIABLES, TOKEN_COMMAND)):
            return self.named(profile, own)
        if self.args.token is not None or self.args.token_binary is not None:
            shown = '"$TOKEN_BINARY"'
            return (*self.given(profile, self.args.token, self.args.token_binary), shown)
        return self.named(profile, table)

    def named(self, profile: str, table: Options) -> tuple[Mapping[str, str], str | None, str]:
        """The credential that a table names. The file has no credential in it: it can be shown."""
        variable = next((table[key] for key in VARIABLES if key in table), None)
        token, command = None, table.get(TOKEN_COMMAND)
        if variable is not None:
            token = self.look_up(variable)
            if token is None and not self.is_plan:
                raise ValueError(f"the variable {variable} is not set: it should have a credential")
            if token is not None:
                check_token(token, variable)
        shown = shlex.quote(command) if command else ""
        return (*self.given(profile, token, command), shown)

    def given(
        self, profile: str, token: str | None, binary: str | None
    ) -> tuple[dict[str, str], str | None]:
        """As an option --token would: it wins over the command, which then is for roles only."""
        deployment = DEPLOYMENTS[profile]
        Credentials(token, binary, deployment.needs_token, self.secrets)  # ValueError: the command
        if token is None:
            known = self.look_up(deployment.token_variable)
            if known is not None:
                self.secrets.add(known)
            return {}, binary
        self.secrets.add(token)
        environment = {deployment.token_variable: token}
        if binary and deployment.binary_variable:
            environment[deployment.binary_variable] = binary
        return environment, None
