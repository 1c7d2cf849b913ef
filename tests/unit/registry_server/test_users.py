from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from boxship.base.errors import InvalidInput
from boxship.registry.server.htpasswd import Htpasswd, make_line, read_users
from boxship.registry.server.tokens import Issuer, Scope, Verifier, parse_scopes


def test_a_line_made_here_is_a_user_there(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(make_line("ada", "secret") + "\n")

    async def check() -> list[bool]:
        users = Htpasswd(str(path))
        tries = [
            ("ada", "secret"),
            ("ada", "secret"),
            ("ada", "Secret"),
            ("bob", "secret"),
            ("ada", ""),
            ("ada", "x" * 99),
        ]
        return [await users.check(*one) for one in tries]

    assert asyncio.run(check()) == [True, True, False, False, False, False]


@pytest.mark.parametrize("user", ["*", "anonymous", "@admins"])
def test_names_that_rules_read_otherwise_are_refused(user: str) -> None:
    with pytest.raises(InvalidInput, match="means something else"):
        read_users(f"{user}:$2b$10$x")
    with pytest.raises(InvalidInput):
        make_line(user, "secret")


@pytest.mark.parametrize("text", ["ada", ":x", "ada:{SHA}x", "ada:$apr1$x", "ada:plain"])
def test_other_hashes_than_bcrypt_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="line 1"):
        read_users(text)


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("a:b", "x"), ("a", ""), ("a", "x" * 73)])
def test_users_that_cannot_be_written_are_refused(user: str, password: str) -> None:
    with pytest.raises(InvalidInput):
        make_line(user, password)


def test_scopes_are_read_from_all_words() -> None:
    assert parse_scopes(["repository:a/b:pull,push registry:catalog:*", "nonsense", "repository(plugin):c:pull"]) == [
        Scope("repository", "a/b", frozenset(("pull", "push"))),
        Scope("registry", "catalog", frozenset("*")),
        Scope("repository(plugin)", "c", frozenset(("pull",))),
    ]


def test_a_token_holds_what_is_asked_and_allowed_and_survives_a_restart(tmp_path: Path) -> None:
    def make() -> Issuer:
        return Issuer(str(tmp_path / "key"), issuer="i", service="s", expiration=60)

    asked = [Scope("repository", "a", frozenset(("pull", "push"))), Scope("repository", "b", frozenset(("pull",)))]
    token = make().issue("ada", asked, lambda _user, scope: frozenset(("pull",)) if scope.name == "a" else frozenset())
    claims = make().verifier().verify(token["token"])
    assert (claims.user, claims.allowed("repository", "a"), claims.allowed("repository", "b")) == (
        "ada",
        {"pull"},
        frozenset(),
    )
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_asking_for_everything_gets_what_is_allowed(tmp_path: Path) -> None:
    issuer = Issuer(str(tmp_path / "key"), issuer="i", service="s", expiration=60)
    token = issuer.issue("ada", parse_scopes(["repository:a:*"]), lambda _user, _scope: frozenset(("pull", "push")))
    assert issuer.verifier().verify(token["token"]).allowed("repository", "a") == {"pull", "push"}


@pytest.mark.parametrize("algorithm", ["none", "HS256", "bogus"])
def test_algorithms_that_anybody_could_sign_with_are_refused(algorithm: str) -> None:
    with pytest.raises(InvalidInput, match="algorithm"):
        Verifier(issuer="i", service="s", keys=["x"], algorithms=[algorithm])
