"""What can be planted in a deployment: a fault, a variant that is sound all the same, or a closed
door, behind which nothing can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..hooks import Hooks

Install = Callable[[Hooks], None]

# The scripts that meet what concerns each kind of deployment as a whole.
OF_WORDS = ("test_concurrency.py", "test_context.py")  # they judge the words of an answer
GATEWAY = (
    "benchmark.py",
    "test_openai_sdk.py",
    "test_tools.py",
    "test_scale_to_zero.py",
    "test_queue.py",
    "test_cors.py",
    *OF_WORDS,
)
FLEET = ("test_auth.py", "test_model_routing.py", "test_wol.py", "test_workload_routing.py")


@dataclass(frozen=True)
class Fault:
    """With this fault, `check` of `script` must come out as `status`. The exit code is then 1 for a
    FAIL, 0 for a WARN, and 3 for a SKIP, which stands for what cannot be decided.

    breaks: what is wrong, as a clause ("the stream has no [DONE]").
    install: plants the fault in the hooks of a deployment.
    options: settings that the deployment needs for it, as keywords for `reference.running`.
    arguments: options of the script with which it notices the fault, and soon. They may name
        what the deployment exports, in lower case: "{wol_port}".
    profile: the kind of deployment, "gateway" or "fleet".
    says: what the line of the check must have in it.
    measured_by: for report.py, whose checks are "thresholds:" and the name of a criterion: the
        script whose results it judges, with its options.
    """

    name: str
    breaks: str
    script: str
    check: str
    install: Install
    status: Literal["FAIL", "WARN", "SKIP"] = "FAIL"
    options: Mapping[str, object] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    profile: str = "gateway"
    says: str = ""
    measured_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class SoundVariant:
    """A sound deployment that is unusual in one way. Nothing fails, and the exit code is 0.

    shows: what is unusual, as a clause ("lines of a stream end with CR LF").
    scripts: those that meet it. Each runs against the deployment that it is for.
    install, options, arguments: as for a fault; the arguments are added to the usual ones.
    """

    name: str
    shows: str
    scripts: tuple[str, ...]
    install: Install
    options: Mapping[str, object] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClosedDoor:
    """A deployment that lets the scripts in nowhere: nothing is judged, and the exit code is 3.

    shows: what refuses, as a clause ("every answer is a 403 of an edge").
    scripts: those that meet it.
    says: what the one line of the script must have in it.
    install, options, arguments: as for a sound variant.
    """

    name: str
    shows: str
    scripts: tuple[str, ...]
    says: str
    install: Install
    options: Mapping[str, object] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
