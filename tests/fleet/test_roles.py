"""roles.py: which token stands for which role, and why there is none."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from livecheck.core.credentials import CannotCheck
from livecheck.fleet.jwt import segment
from livecheck.fleet.roles import (
    ADMIN,
    BASIC,
    SPECIFIC,
    Identities,
    admin_token,
    in_words,
    is_concrete,
    lasting_claims,
    models_to_try,
    roles_in,
)


def jwt_of(**claims: Any) -> str:
    return f"{segment({'alg': 'RS256'})}.{segment(claims)}.c2ln"


class Binary:
    """In place of a run: gives a token for each role, and counts how often it was asked."""

    def __init__(self, makes: bool = True, **tokens: str):
        self.tokens, self.calls = tokens, []
        self.credentials = argparse.Namespace(has_binary=makes)

    def token(self, role: str | None = None) -> str:
        self.calls.append(role)
        name = {None: "basic", SPECIFIC: "specific", ADMIN: "admin"}[role]
        if name not in self.tokens:
            raise CannotCheck(f"there is no role {name}")
        return self.tokens[name]


def identities(makes: bool = True, **tokens: str) -> tuple[Identities, Binary]:
    binary = Binary(makes, **tokens)
    return Identities(binary), binary  # type: ignore[arg-type]


USER = jwt_of(sub="me", roles=[])
NAMED = {"basic": USER, "specific": jwt_of(roles=[SPECIFIC]), "admin": jwt_of(roles=[ADMIN])}


# --- what a token says


@pytest.mark.parametrize(
    ("payload", "roles"),
    [
        ({"roles": ["a", "b"]}, {"a", "b"}),
        ({"roles": "a b"}, {"a", "b"}),
        ({"realm_access": {"roles": ["a"]}}, {"a"}),
        ({"roles": []}, set()),
        ({"roles": 7}, set()),
        ({"roles": None}, None),
        ({"sub": "me", "realm_access": "x"}, None),
    ],
)
def test_the_roles_of_a_token(payload: dict[str, Any], roles: set[str] | None) -> None:
    assert roles_in(jwt_of(**payload)) == roles


def test_an_opaque_key_says_nothing_of_roles() -> None:
    assert roles_in("sk-key") is None
    assert [in_words(each) for each in (None, [], ["b", "a"])] == [
        "unknown roles",
        "no role",
        "a, b",
    ]


@pytest.mark.parametrize("claim", ["iat", "nbf", "exp", "jti", "auth_time"])
def test_claims_that_change_make_no_other_token(claim: str) -> None:
    one, other = (jwt_of(sub="me", **{claim: value}) for value in (1, 2))
    assert lasting_claims(one) == lasting_claims(other)
    assert lasting_claims(one) != lasting_claims(jwt_of(sub="you", **{claim: 1}))
    assert lasting_claims("sk-a") != lasting_claims("sk-b")


# --- which token stands for which role


def test_each_role_has_the_token_that_is_made_for_it_once() -> None:
    known, binary = identities(**NAMED)
    for role, name in ((BASIC, "basic"), (SPECIFIC, "specific"), (ADMIN, "admin")):
        found = known.find(role)
        assert (found.token, found.reason) == (NAMED[name], None)
        assert known.find(role) == found
    assert binary.calls == [BASIC, SPECIFIC, ADMIN]
    assert known.find(ADMIN).tells(ADMIN)
    assert not known.find(SPECIFIC).tells(ADMIN)
    assert not [name for name, token in NAMED.items() if token in repr(known.find(ADMIN))]


def test_a_fresh_token_is_made_each_time_and_the_first_one_is_kept() -> None:
    known, binary = identities(**NAMED)
    known.find(SPECIFIC)
    binary.tokens["specific"] = jwt_of(roles=[SPECIFIC], jti=2)
    assert known.find(SPECIFIC, fresh=True).token == binary.tokens["specific"]
    assert known.find(SPECIFIC).token == NAMED["specific"]


def test_what_is_known_makes_no_token() -> None:
    known, binary = identities(**NAMED)
    assert known.known(ADMIN).token is None
    assert binary.calls == []
    known.find(ADMIN)
    assert known.known(ADMIN).token == NAMED["admin"]


def test_a_binary_that_gives_no_token_is_asked_once_and_its_words_are_the_reason() -> None:
    known, binary = identities(basic=USER)
    assert known.find(ADMIN).reason == known.find(ADMIN).reason == "there is no role admin"
    assert binary.calls.count(ADMIN) == 1


@pytest.mark.parametrize(
    ("role", "token", "reason"),
    [
        (ADMIN, USER, "asked for admin, the token binary gave a token with no role"),
        (SPECIFIC, jwt_of(roles=["x"]), "gave a token with x"),
        (SPECIFIC, "sk-basic", "gave the same token as without a role"),
        (SPECIFIC, "sk-specific", None),
        (BASIC, jwt_of(roles=[ADMIN]), "gives without a role is not a basic user's: it has admin"),
        (BASIC, jwt_of(roles=["reader"]), None),
        (BASIC, "sk-basic", None),
    ],
)
def test_a_token_that_was_made_stands_for_the_role_or_says_why_not(
    role: str | None, token: str, reason: str | None
) -> None:
    name = {SPECIFIC: "specific", ADMIN: "admin", BASIC: "basic"}[role]
    known, _ = identities(**{"basic": "sk-basic", name: token})
    found = known.find(role)
    assert (found.token is None) == (reason is not None)
    assert (reason or "") in (found.reason or "")


@pytest.mark.parametrize(
    ("token", "reasons"),
    [
        (USER, {SPECIFIC: "the token has no role, not model:specific", ADMIN: "not admin"}),
        (jwt_of(roles=[ADMIN]), {BASIC: "not a basic user's", SPECIFIC: "has admin, not model"}),
        (jwt_of(roles=[ADMIN, SPECIFIC]), {BASIC: "it has admin, model:specific"}),
        ("sk-key", dict.fromkeys((BASIC, SPECIFIC, ADMIN), "an opaque API key says nothing")),
        (jwt_of(sub="me"), dict.fromkeys((BASIC, SPECIFIC, ADMIN), "the token says nothing")),
    ],
)
def test_a_token_alone_stands_for_the_roles_that_it_tells(
    token: str, reasons: dict[str | None, str]
) -> None:
    known, binary = identities(makes=False, basic=token)
    for role in (BASIC, SPECIFIC, ADMIN):
        found = known.find(role)
        assert found.token == (None if role in reasons else token)
        assert reasons.get(role, "") in (found.reason or "")
    assert set(binary.calls) == {BASIC}


@pytest.mark.parametrize(
    ("tokens", "alike"),
    [
        ({"basic": "a", "specific": "b", "admin": "c"}, False),
        ({"basic": "a", "specific": "b", "admin": "b"}, True),
        ({"basic": jwt_of(sub="me", jti=1), "specific": jwt_of(sub="me", jti=2)}, True),
        ({"basic": "a"}, False),
    ],
)
def test_tokens_are_alike_when_two_of_them_say_the_same(
    tokens: dict[str, str], alike: bool
) -> None:
    known, _ = identities(**tokens)
    assert known.are_alike() == alike


# --- the token for a model, and for the admin API


def test_a_model_by_its_name_is_asked_for_with_the_role_for_it() -> None:
    known, _ = identities(**NAMED)
    assert (is_concrete("llama3:8b"), is_concrete("class:fast")) == (True, False)
    assert known.token_for("llama3:8b") == NAMED["specific"]
    assert known.token_for("class:fast") == USER


def test_the_admin_api_takes_a_token_that_was_made_or_tells_the_role() -> None:
    made = Binary(basic=USER, admin="sk-admin")
    assert admin_token(made) == "sk-admin"  # type: ignore[arg-type]
    own = Binary(makes=False, basic=NAMED["admin"])
    assert admin_token(own) == NAMED["admin"]  # type: ignore[arg-type]
    with pytest.raises(CannotCheck, match="no admin token"):
        admin_token(Binary(makes=False, basic=USER))  # type: ignore[arg-type]


def test_several_models_are_tried_by_name_with_the_role_for_that_only() -> None:
    models = ["a", "b", "c"]
    assert models_to_try(SPECIFIC, models, 2) == ["a", "b"]
    assert models_to_try(ADMIN, models, 2) == models_to_try(BASIC, models, 2) == ["a"]
    assert models_to_try(BASIC, [], 2) == []
