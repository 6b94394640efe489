"""Run a deployment from Python, for the tests and for the demo."""

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
# The defaults of `running`: 0 picks a free port.
FREE_PORTS = {"gateway": {"port": 0, "health_port": 0}, "fleet": {"port": 0, "wol_port": 0}}


@dataclass(frozen=True)
class Deployment:
    """A running deployment of either profile.

    environment: the variables that `up` printed. The scripts read their settings from them.
    process: `python -m reference up`, the parent of all other processes.
    """

    environment: dict[str, str]
    process: subprocess.Popen[str]

    @property
    def exported(self) -> dict[str, str]:
        """`environment` with names in lower case, to put into a command: "{inference_url}"."""
        return {name.lower(): value for name, value in self.environment.items()}

    @property
    def url(self) -> str:
        """The base URL of the gateway, in both profiles."""
        return self.environment.get("SIMPLEAI_URL") or self.environment["INFERENCE_URL"]

    @property
    def api_key(self) -> str:
        """Gateway profile: the accepted key, "" when the deployment needs none."""
        return self.environment["INFERENCE_API_KEY"]

    @property
    def token(self) -> str:
        """Fleet profile: a token of a user without roles."""
        return self.environment["SIMPLEAI_TEST_TOKEN"]

    @property
    def token_binary(self) -> str:
        """Fleet profile: the command that prints other tokens. It needs `environment`."""
        return self.environment["TOKEN_BINARY"]

    @property
    def wol_port(self) -> int:
        """Fleet profile: the UDP port of the magic packets."""
        return int(self.environment["WOL_PORT"])

    @property
    def health_url(self) -> str:
        """Gateway profile: the health server."""
        return self.environment["HEALTH_URL"]

    @property
    def engine_url(self) -> str:
        """Gateway profile: the engine itself, without the gateway in front.

        It is valid until the engine is stopped for the first time because it is idle.
        """
        return self.environment["ENGINE_URL"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the deployment and wait for its end. Returns its exit code.

        Raises subprocess.TimeoutExpired, after killing it, when it does not end.
        """
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its children notice this and end too
            self.process.wait()
            raise


@contextlib.contextmanager
def running(
    engine: str = "sim",
    faults: Sequence[str] = (),
    profile: str = "gateway",
    **options: object,
) -> Iterator[Deployment]:
    """A deployment on free ports, ready to serve. It is stopped at the end, whatever happens.

    faults: names of faults to plant.
    options: settings by name, e.g. `max_queue_size=2`, `cors_origins=["https://a.example"]`.
    Settings in this process's environment are ignored. Raises StartError.
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
            # Kept open. If this process dies, the pipe ends, and the deployment ends too.
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
    """The exported variables, once the deployment has printed that it is ready.

    Raises StartError with the last line of its log when it ends before.
    """
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
