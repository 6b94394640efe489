"""Roles: which token stands for which role, and why a role has no token.

The payload of a token is read and not verified: it is the operator's own token. A token that does
not tell its roles, as an opaque key, is believed to have the role that the token binary was asked
for, unless the binary gives the same token without a role.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from livecheck.core.credentials import CannotCheck
from livecheck.core.json_value import pick, quoted
from livecheck.core.run import Run
from livecheck.core.text import shorten
from livecheck.fleet.jwt import claims

SPECIFIC = "model:specific"  # the role that may ask for a model by its name
ADMIN = "admin"
BASIC = None  # a basic user: no role at all
SPECIAL = frozenset({SPECIFIC, ADMIN})  # the roles that a basic user does not have
# claims that differ in any two tokens, also of one user and role
CHANGING_CLAIMS = frozenset({"iat", "nbf", "exp", "jti", "auth_time"})
ROLES_LENGTH = 60  # characters of a list of roles


def is_concrete(model: str) -> bool:
    """Whether this is the name of one model, and not of a class of them."""
    return not model.startswith("class:")


def model_option(text: str) -> str:
    """An argparse type: a class of models, or one by its name."""
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is not a model: write class:fast or a name"
        )
    return text


# --- what a token says


def lasting_claims(token: str) -> object:
    """What a token says apart from CHANGING_CLAIMS; an opaque key is its own and only claim."""
    found = claims(token)
    if not found:
        return token
    return {name: value for name, value in found.items() if name not in CHANGING_CLAIMS}


def roles_in(token: str) -> frozenset[str] | None:
    """The roles in a JWT's own payload; None when it says nothing of roles, as an opaque key.

    They are a list, or words in one text, and may be in `realm_access`, where Keycloak has them.
    """
    payload = claims(token) or {}
    roles = payload.get("roles", pick(payload, "realm_access", "roles"))
    if roles is None:
        return None
    names = roles.split() if isinstance(roles, str) else roles if isinstance(roles, list) else []
    return frozenset(map(str, names))


def in_words(roles: Iterable[str] | None) -> str:
    """Roles as one can read them in a line; None are those of a token that does not tell them."""
    if roles is None:
        return "unknown roles"
    return shorten(", ".join(sorted(roles)), ROLES_LENGTH) or "no role"


# --- which token stands for which role


@dataclass(frozen=True)
class Identity:
    """A token that stands for a role (BASIC: for none), or the reason why no token does.

    `roles`: those that the token tells; None when it tells none, so that its role is only believed.
    """

    role: str | None
    token: str | None = field(default=None, repr=False)
    roles: frozenset[str] | None = None
    reason: str | None = None

    def tells(self, role: str) -> bool:
        """Whether the token itself says that it has this role."""
        return role in (self.roles or ())


class Identities:
    """Finds a token for each role: one that the token binary makes, else the operator's own token.

    A token is made once, unless a fresh one is asked for: some live for seconds.
    """

    def __init__(self, run: Run):
        self.run = run
        self.can_make = run.credentials.has_binary  # a token for any role
        self._made: dict[str | None, str | CannotCheck] = {}

    def token(self, role: str | None = BASIC) -> str:
        """The token of a role, whatever it says; made once. CannotCheck when there is none."""
        if role not in self._made:
            try:
                self._made[role] = self.fresh_token(role)
            except CannotCheck as error:
                self._made[role] = error
        made = self._made[role]
        if isinstance(made, CannotCheck):
            raise made
        return made

    def fresh_token(self, role: str | None = BASIC) -> str:
        """A token of a role that is made now. Raises CannotCheck."""
        token = self.run.token(role=role)
        assert token  # the deployments that have roles need one
        return token

    def token_for(self, model: str) -> str:
        """The token to ask for this model with. Raises CannotCheck."""
        return self.token(role_for(self.run, model))

    def find(self, role: str | None, fresh: bool = False) -> Identity:
        """The token that stands for a role, or the reason why there is none."""
        try:
            asked = role if self.can_make else BASIC
            token = self.fresh_token(asked) if fresh else self.token(asked)
        except CannotCheck as error:
            return Identity(role, reason=str(error))
        reason = self._reason_against(role, token)
        return Identity(role, None if reason else token, roles_in(token), reason)

    def known(self, role: str | None) -> Identity:
        """The same, as far as it is known without making a token."""
        return Identity(role) if self.can_make and role not in self._made else self.find(role)

    def _reason_against(self, role: str | None, token: str) -> str | None:
        """Why a token does not stand for this role."""
        roles = roles_in(token)
        if roles is None:
            return self._reason_against_silent(role, token)
        held = in_words(roles)
        if role is BASIC:
            if roles.isdisjoint(SPECIAL):
                return None
            made = "the token that --token-binary gives without a role"
            return f"{made if self.can_make else 'the token'} is not a basic user's: it has {held}"
        if role in roles:
            return None
        if self.can_make:
            return f"asked for {role}, the token binary gave a token with {held}"
        return f"the token has {held}, not {role}: --token-binary makes one that has it"

    def _reason_against_silent(self, role: str | None, token: str) -> str | None:
        """The same for a token that does not tell its roles."""
        if not self.can_make:
            what = "an opaque API key" if claims(token) is None else "the token"
            return f"{what} says nothing about roles: use --token-binary"
        if role is not BASIC and lasting_claims(token) == lasting_claims(self.token()):
            return f"asked for {role}, the token binary gave the same token as without a role"
        return None

    def are_alike(self) -> bool:
        """Whether the tokens of any two roles say the same."""
        said = []
        for role in (BASIC, SPECIFIC, ADMIN):
            with contextlib.suppress(CannotCheck):
                said.append(lasting_claims(self.token(role)))
        return any(each in said[:at] for at, each in enumerate(said))


def role_for(run: Run, model: str) -> str | None:
    """The role to ask the token binary for, to ask for this model; None without a binary."""
    return SPECIFIC if is_concrete(model) and run.credentials.has_binary else BASIC


def admin_token(run: Run, identities: Identities | None = None) -> str:
    """A token that may read the admin API. CannotCheck says why there is none."""
    known = identities or Identities(run)
    if known.can_make:
        return known.token(ADMIN)
    own = known.token()
    if ADMIN in (roles_in(own) or ()):
        return own
    raise CannotCheck("no admin token: --token-binary makes one")


# --- what a role is tried with


def models_to_try(role: str | None, models: Sequence[str], most: int) -> list[str]:
    """The models that a role asks for by their names: several only for the role that may do so."""
    return list(models[: most if role == SPECIFIC else 1])
