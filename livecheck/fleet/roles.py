"""Roles, and the tokens that carry them.

Nothing is verified here: this reads the operator's own tokens, to know which role a request has.
"""

from __future__ import annotations

from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.fleet.jwt import claims

SPECIFIC = "model:specific"  # the role that may ask for a model by its name
ADMIN = "admin"
# claims that differ in any two tokens, also of one user and role
CHANGING_CLAIMS = frozenset({"iat", "nbf", "exp", "jti", "auth_time"})


def is_concrete(model: str) -> bool:
    """Whether this is the name of one model, and not of a class of them."""
    return not model.startswith("class:")


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
    realm = payload.get("realm_access")
    roles = payload.get("roles", realm.get("roles") if isinstance(realm, dict) else None)
    if roles is None:
        return None
    names = roles.split() if isinstance(roles, str) else roles if isinstance(roles, list) else []
    return frozenset(map(str, names))


def role_for(run: Run, model: str) -> str | None:
    """The role to ask the token binary for, to ask for this model; None without a binary."""
    return SPECIFIC if is_concrete(model) and run.credentials.has_binary else None


def token_for(run: Run, model: str) -> str | None:
    """The credential to ask for this model with. Raises CannotCheck."""
    return run.token(role=role_for(run, model))


def admin_token(run: Run) -> str:
    """A token that may read the admin API. CannotCheck says why there is none."""
    if run.credentials.has_binary:
        token = run.token(role=ADMIN)
        assert token
        return token
    own = run.token()
    if own and ADMIN in (roles_in(own) or ()):
        return own
    raise CannotCheck("no admin token: --token-binary makes one")
