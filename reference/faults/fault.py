"""One planted fault: what it breaks, how it is planted, and which check must notice it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..hooks import Hooks

Install = Callable[[Hooks], None]


@dataclass(frozen=True)
class Fault:
    """With this fault, `check` of `script` must come out as `status`. FAIL means exit code 1.

    breaks: what is wrong, as a clause ("the stream has no [DONE]").
    install: plants the fault in the hooks of a deployment.
    options: settings that the deployment needs for it, as keywords for `reference.running`.
    arguments: options of the script with which it notices the fault, and soon. They may name
        what the deployment exports, in lower case: "{wol_port}".
    profile: the kind of deployment, "gateway" or "fleet".
    """

    name: str
    breaks: str
    script: str
    check: str
    install: Install
    status: Literal["FAIL", "WARN"] = "FAIL"
    options: Mapping[str, object] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    profile: str = "gateway"
