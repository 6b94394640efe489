"""All that was asked with good and bad credentials, and what was found out by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from livecheck.core.checks import telling
from livecheck.fleet import credential_questions as questions
from livecheck.fleet.api import CLASSES
from livecheck.fleet.credential_questions import Exchange
from livecheck.fleet.request_log import RefusalCost
from livecheck.fleet.roles import ADMIN, BASIC, SPECIFIC, Identity
from livecheck.wire.answer import Answer
from livecheck.wire.asking import Cause, Stop

CONTROL = "control"  # the group of the questions with the valid credential
ROLES = {"user": BASIC, "specific": SPECIFIC, "admin": ADMIN}


@dataclass
class Evidence:
    """All that was asked and answered. `stopped` says why the rest was not asked."""

    is_jwt: bool
    identities: dict[str, Identity]
    has_binary: bool = False  # then a role without a token is a defect of the token binary
    model: str = CLASSES[0]  # what is asked for with and without a valid credential
    exchanges: list[Exchange] = field(default_factory=list)
    stopped: Stop | None = None
    has_expired: bool = False  # the token, during the run
    no_classes: str | None = None  # what a server that knows no classes said of one
    models: list[str] = field(default_factory=list)
    models_problem: str | None = None
    public_keys: int = 0
    has_key_pair: bool = False  # by its header, the token is signed with a private key
    was_asleep: bool = False
    leaks: list[str] = field(default_factory=list)  # endpoints that show the valid credential
    woken: list[str] = field(default_factory=list)  # while only bad requests had been sent
    cost: RefusalCost = field(default_factory=RefusalCost)  # by the request log

    def settle(self, found: Sequence[Exchange], token: str) -> None:
        """Read in these what the checks need, and who shows the valid credential; then their bytes
        are let go of."""
        for each in found:
            if each.group == questions.ENDPOINTS and each.repeats(token):
                self.leaks.append(each.name)
            each.settle()

    @property
    def who(self) -> str:
        """Whose the valid credential is."""
        if not self.is_jwt:
            return "the API key"
        return "a valid token" if self.identities["user"].reason else "the basic user"

    def of(self, group: str) -> list[Exchange]:
        return [each for each in self.exchanges if each.group == group]

    def find(self, group: str, name: str) -> Exchange | None:
        """The latest one with this name."""
        return next((each for each in reversed(self.of(group)) if each.name == name), None)

    def completed(self, group: str, name: str) -> bool:
        found = self.find(group, name)
        return found is not None and found.completes

    @property
    def is_open(self) -> bool:
        """Whether anybody is let in, so that there is nothing to forge."""
        return self.completed("no_credentials", questions.COMPLETION)

    @property
    def is_cut_off(self) -> bool:
        """Whether the asking ended because no connection could be opened any more."""
        return self.stopped is not None and self.stopped.cause is Cause.UNREACHABLE

    @property
    def models_to_guard(self) -> list[str]:
        """What a server may protect separately: the classes, and a model by its name."""
        classes = [] if self.no_classes else CLASSES
        return list(dict.fromkeys([self.model, *classes, *self.models[:1]]))

    @property
    def is_served(self) -> bool:
        """Whether the valid credential was served the last time."""
        controls = self.of(CONTROL)
        return bool(controls) and controls[-1].completes

    def is_confirmed(self, group: str) -> bool:
        """Whether the valid credential was served after this group as well."""
        last = max(at for at, each in enumerate(self.exchanges) if each.group == group)
        after = next((each for each in self.exchanges[last:] if each.group == CONTROL), None)
        return after is not None and after.completes


def behind(name: str, evidence: Evidence) -> list[Answer]:
    """The answers that a check rests on: what was let in although it must not be or was refused
    wrongly, if there is any."""
    role, _, right = name.partition(":")
    asked = evidence.of(role)
    if right:
        names = {"classes": CLASSES, "models": evidence.models}.get(right, questions.ADMIN_PAGES)
        asked = [each for each in asked if each.name in names]
    elif name == CONTROL:
        asked = telling(asked, lambda each: not each.completes)
    else:
        asked = telling(asked, lambda each: not each.is_refused)
        asked = telling(asked, lambda each: each.reaches or each.is_accepted)
    return [each.answer for each in asked]


def is_treated_worse(evidence: Evidence, found: Exchange) -> bool:
    """Whether a role was told that no runner has a class, although another role was served it."""
    if found.group not in ROLES or found.name not in CLASSES or not found.lacks_runner:
        return False
    return any(evidence.completed(role, found.name) for role in ROLES)
