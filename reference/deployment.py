"""Run a deployment from Python: for tests and for the demo."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from .process import ROOT, StartError
from .settings import FleetSettings, GatewaySettings, without_settings

STOP_TIMEOUT_S = 15.0
SETTINGS = {"gateway": GatewaySettings, "fleet": FleetSettings}
# What `running` chooses unless told otherwise: ports nobody else has.
FREE_PORTS = {"gateway": {"port": 0, "health_port": 0}, "fleet": {"port": 0, "wol_port": 0}}


@dataclass(frozen=True)
class Deployment:
    """A running deployment of either profile.

    environment: the variables `up` printed; the scripts read their settings from these.
    process: `python -m reference up`, the parent of all others.
    """

    environment: dict[str, str]
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The gateway, of whichever profile."""
        return self.environment.get("SIMPLEAI_URL") or self.environment["INFERENCE_URL"]

    @property
    def api_key(self) -> str:
        """The accepted key; "" when the deployment asks for none."""
        return self.environment["INFERENCE_API_KEY"]

    @property
    def token(self) -> str:
        """Fleet: a token of a user without roles."""
        return self.environment["SIMPLEAI_TEST_TOKEN"]

    @property
    def token_binary(self) -> str:
        """Fleet: the command that gives other tokens; it needs `environment`."""
        return self.environment["TOKEN_BINARY"]

    @property
    def wol_port(self) -> int:
        """Fleet: the UDP port of the magic packets."""
        return int(self.environment["WOL_PORT"])

    @property
    def health_url(self) -> str:
        return self.environment["HEALTH_URL"]

    @property
    def engine_url(self) -> str:
        """The engine itself, past the gateway; valid until it first stops for idleness."""
        return self.environment["ENGINE_URL"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it to end and wait; its exit code. By force when it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its children notice that and end too
            self.process.wait()
            raise


@contextlib.contextmanager
def running(
    engine: str = "sim",
    faults: Sequence[str] = (),
    profile: str = "gateway",
    **options: object,
) -> Iterator[Deployment]:
    """A deployment on free ports that is ready; stopped at the end, whatever happens.

    options: settings by name, e.g. `max_queue_size=2`, `cors_origins=["https://a.example"]`.
    Settings in this process's environment do not count. StartError when it cannot start.
    """
    settings = {"engine": engine, **FREE_PORTS[profile], **options}
    command = [sys.executable, "-m", "reference", "up", "--until-eof", "--profile", profile]
    for fault in faults:
        command += ["--fault", fault]
    for name, value in settings.items():
        command.append(f"--{name.replace('_', '-')}={as_text(value)}")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=without_settings(SETTINGS[profile]),
            # Held open: should this process die, the deployment sees its end and goes too.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        deployment: Deployment | None = None
        try:
            deployment = Deployment(wait_until_ready(process, log), process)
            yield deployment
        finally:
            (deployment or Deployment({}, process)).stop()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def as_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def wait_until_ready(process: subprocess.Popen[str], log: IO[str]) -> dict[str, str]:
    """The exported variables, once the deployment says that it is ready."""
    environment: dict[str, str] = {}
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("# ready"):
            return environment
        if line.startswith("export "):
            name, _, value = line[len("export ") :].strip().partition("=")
            environment[name] = "".join(shlex.split(value))
    code = process.wait()
    log.seek(0)
    last = (log.read().strip().splitlines() or [f"exit code {code}"])[-1]
    raise StartError(last)
