"""Users, tokens, rules and TLS of the registry, also against those who try the doors."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bcrypt
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness.registry_server import OCI_MANIFEST, Client, RegistryServer, digest_of

pytestmark = pytest.mark.system

USERS = {"ada": "lovelace", "bob": "builder", "eve": "drop"}
RULES = [
    {"repositories": ["public/*"], "users": ["anonymous"], "actions": ["pull"]},
    {"repositories": ["*"], "users": ["@admins"], "actions": ["*"]},
    {"repositories": ["team/*", "public/*"], "users": ["bob"], "actions": ["pull", "push"]},
    {"repositories": ["team/*"], "users": ["eve"], "actions": ["pull"]},
]


def write_users(path: Path) -> str:
    lines = [f"{user}:{bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()}" for user, secret in USERS.items()]
    path.write_text("\n".join(lines))
    return str(path)


def basic(user: str, secret: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret or USERS[user]}".encode()).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Passwords and rules."""
    path = write_users(tmp_path_factory.mktemp("users") / "htpasswd")
    config = {
        "auth": {"htpasswd": {"realm": "Test", "path": path}},
        "access": RULES,
        "groups": {"admins": ["ada"]},
    }
    server = RegistryServer(config)
    try:
        server.start()
        for repository in ("public/app", "team/app", "secret/app"):
            server.client(authorization=basic("ada")).push_image(repository, "v1")
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def issuing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Tokens of the registry's own."""
    path = write_users(tmp_path_factory.mktemp("users") / "htpasswd")
    config = {
        "auth": {"htpasswd": {"path": path}, "issuer": {"service": "test"}},
        "access": RULES,
        "groups": {"admins": ["ada"]},
    }
    server = RegistryServer(config)
    try:
        yield server.start()
    finally:
        server.close()


def pull(client: Client, repository: str) -> int:
    return client.call("GET", f"/v2/{repository}/manifests/v1").status


def begin(client: Client, repository: str) -> int:
    return client.call("POST", f"/v2/{repository}/blobs/uploads/").status


@pytest.mark.row("REG-13")
def test_without_a_password_there_is_a_challenge(guarded: RegistryServer) -> None:
    answer = guarded.client().call("GET", "/v2/")
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Test"'
    assert guarded.client(authorization=basic("bob")).call("GET", "/v2/").status == 200


@pytest.mark.parametrize("authorization", [basic("bob", "wrong"), basic("nobody", "x"), "Basic !!", "Basic Og=="])
def test_wrong_credentials_are_refused_everywhere(guarded: RegistryServer, authorization: str) -> None:
    client = guarded.client(authorization=authorization)
    assert client.call("GET", "/v2/").status == 401
    assert pull(client, "public/app") == 401


@pytest.mark.row("REG-09")
@pytest.mark.parametrize(
    ("user", "repository", "pulls", "pushes"),
    [
        ("", "public/app", 200, 401),
        ("", "team/app", 401, 401),
        ("eve", "team/app", 200, 403),
        ("eve", "secret/app", 403, 403),
        ("bob", "team/app", 200, 202),
        ("bob", "secret/app", 403, 403),
        ("ada", "secret/app", 200, 202),
    ],
)
def test_rules_say_who_may_pull_and_push(
    guarded: RegistryServer, user: str, repository: str, pulls: int, pushes: int
) -> None:
    client = guarded.client(authorization=basic(user) if user else "")
    assert (pull(client, repository), begin(client, repository)) == (pulls, pushes)


def test_deleting_is_a_right_of_its_own(guarded: RegistryServer) -> None:
    guarded.client(authorization=basic("ada")).push_image("team/old", "v1")
    path = "/v2/team/old/manifests/v1"
    assert guarded.client(authorization=basic("bob")).call("DELETE", path).status == 403
    assert guarded.client(authorization=basic("ada")).call("DELETE", path).status == 202


def test_the_catalogue_shows_what_the_caller_may_pull(guarded: RegistryServer) -> None:
    names = guarded.client(authorization=basic("eve")).call("GET", "/v2/_catalog").json["repositories"]
    assert "team/app" in names
    assert "secret/app" not in names


def test_the_pages_show_what_the_caller_may_pull(guarded: RegistryServer) -> None:
    text = guarded.client().call("GET", "/").body.decode()
    assert "public/app" in text
    assert "secret" not in text
    assert guarded.client().call("GET", "/r/secret/app").status == 401
    assert guarded.client(authorization=basic("eve")).call("GET", "/r/secret/app").status == 403


def test_a_blob_is_not_mounted_from_where_the_caller_may_not_read(guarded: RegistryServer) -> None:
    guarded.client(authorization=basic("ada")).push_blob("secret/app", b"the secret")
    digest = digest_of(b"the secret")
    client = guarded.client(authorization=basic("bob"))
    path = "/v2/team/app/blobs/uploads/"
    assert client.call("POST", path, mount=digest, **{"from": "secret/app"}).status == 202
    assert client.call("POST", path, mount=digest).status == 202
    assert client.call("GET", f"/v2/team/app/blobs/{digest}").status == 404


def test_an_upload_belongs_to_its_user(guarded: RegistryServer) -> None:
    location = (
        guarded.client(authorization=basic("bob")).call("POST", "/v2/team/app/blobs/uploads/").headers["Location"]
    )
    ada = guarded.client(authorization=basic("ada"))
    assert ada.call("PATCH", location, b"x").status == 404
    assert ada.call("DELETE", location).status == 404


@pytest.mark.parametrize(
    "path", ["/v2/..%2f..%2fetc/manifests/v1", "/v2/team/app/blobs/uploads/..%2f..%2fx", "/v2/%00/tags/list"]
)
def test_paths_that_lead_elsewhere_lead_nowhere(guarded: RegistryServer, path: str) -> None:
    assert 400 <= guarded.client(authorization=basic("ada")).call("GET", path).status < 500


def test_the_file_of_users_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    server = RegistryServer({"auth": {"htpasswd": {"path": write_users(path)}}})
    try:
        client = server.start().client(authorization=basic("bob"))
        assert client.call("GET", "/v2/").status == 200
        path.write_text(path.read_text().splitlines()[0])
        assert client.call("GET", "/v2/").status == 401
    finally:
        server.close()


# tokens of the registry's own


def ask(server: RegistryServer, *scopes: str, user: str = "") -> Any:
    query = "&".join(f"scope={quote(scope)}" for scope in scopes)
    client = server.client(authorization=basic(user) if user else "")
    return client.call("GET", f"/token?service=test&{query}")


def bearer(answer: Any) -> str:
    return f"Bearer {answer.json['token']}"


@pytest.mark.row("REG-13")
def test_a_challenge_leads_to_a_token_that_pushes_and_pulls(issuing: RegistryServer) -> None:
    answer = issuing.client().call("POST", "/v2/team/new/blobs/uploads/")
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge == f'Bearer realm="{issuing.url}/token",service="test",scope="repository:team/new:pull,push"'
    token = bearer(ask(issuing, "repository:team/new:pull,push", user="bob"))
    client = issuing.client(authorization=token)
    client.push_image("team/new", "v1")
    assert pull(client, "team/new") == 200
    assert pull(client, "secret/app") == 403


def test_a_token_grants_no_more_than_the_rules(issuing: RegistryServer) -> None:
    token = ask(issuing, "repository:team/app:pull,push,delete", user="eve").json["token"]
    access = jwt.decode(token, options={"verify_signature": False})["access"]
    assert access == [{"type": "repository", "name": "team/app", "actions": ["pull"]}]


def test_nobody_in_particular_gets_a_token_for_public_things(issuing: RegistryServer) -> None:
    ada = bearer(ask(issuing, "repository:public/app:pull,push", user="ada"))
    issuing.client(authorization=ada).push_image("public/app", "v1")
    anonymous = bearer(ask(issuing, "repository:public/app:pull", "repository:team/app:pull"))
    assert pull(issuing.client(authorization=anonymous), "public/app") == 200
    assert pull(issuing.client(authorization=anonymous), "team/app") == 401


def test_a_wrong_password_gets_no_token(issuing: RegistryServer) -> None:
    client = issuing.client(authorization=basic("bob", "wrong"))
    assert client.call("GET", "/token?service=test").status == 401


def test_a_password_is_posted_for_a_token(issuing: RegistryServer) -> None:
    body = f"grant_type=password&service=test&username=bob&password={USERS['bob']}&scope=repository:team/x:pull"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = issuing.client().call("POST", "/token", body, headers)
    assert answer.status == 200
    assert answer.json["access_token"] == answer.json["token"]


# tokens of another issuer


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RegistryServer, ec.EllipticCurvePrivateKey]]:
    """A registry that believes somebody else's key."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [{**public, "use": "sig", "alg": "ES256"}]}))
    token = {"realm": "https://issuer.test/token", "service": "here", "issuer": "there", "jwks": str(path)}
    server = RegistryServer({"auth": {"token": token}})
    try:
        yield server.start(), key
    finally:
        server.close()


def claims(**changes: Any) -> dict[str, Any]:
    access = [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}]
    return {"iss": "there", "aud": "here", "sub": "x", "exp": int(time.time()) + 300, "access": access, **changes}


def test_a_foreign_token_counts_for_what_it_says(foreign: tuple[RegistryServer, ec.EllipticCurvePrivateKey]) -> None:
    server, key = foreign
    client = server.client(authorization=f"Bearer {jwt.encode(claims(), key, algorithm='ES256')}")
    client.push_image("a/b", "v1")
    assert client.call("GET", "/v2/a/b/manifests/v1", headers={"Accept": OCI_MANIFEST}).status == 200
    answer = client.call("GET", "/v2/c/manifests/v1")
    assert answer.status == 401
    assert (
        'realm="https://issuer.test/token",service="here",scope="repository:c:pull"'
        in answer.headers["WWW-Authenticate"]
    )
    assert client.call("DELETE", "/v2/a/b/manifests/v1").status == 401


@pytest.mark.parametrize(
    "changes",
    [{"iss": "me"}, {"aud": "elsewhere"}, {"exp": 1}, {"nbf": 9_999_999_999}, {"exp": None}, {"access": "all"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_token_with_wrong_claims_counts_for_nothing(
    foreign: tuple[RegistryServer, ec.EllipticCurvePrivateKey], changes: dict[str, Any]
) -> None:
    server, key = foreign
    document = {name: value for name, value in claims(**changes).items() if value is not None}
    client = server.client(authorization=f"Bearer {jwt.encode(document, key, algorithm='ES256')}")
    assert client.call("GET", "/v2/").status == 401


def test_tokens_that_nobody_signed_count_for_nothing(
    foreign: tuple[RegistryServer, ec.EllipticCurvePrivateKey],
) -> None:
    server, key = foreign
    stranger = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    confused = head + b"." + body
    signature = base64.urlsafe_b64encode(hmac.digest(public, confused, hashlib.sha256)).rstrip(b"=")
    for token in (
        jwt.encode(claims(), None, algorithm="none"),
        jwt.encode(claims(), stranger, algorithm="ES256"),
        (confused + b"." + signature).decode(),
        "a.b.c",
    ):
        assert server.client(authorization=f"Bearer {token}").call("GET", "/v2/").status == 401


# TLS


@pytest.mark.row("REG-13")
def test_tls_with_a_certificate_of_one_s_own_authority(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request.split(), *names.split(), *files], check=True, capture_output=True)
    server = RegistryServer({"http": {"tls": {"certificate": str(certificate), "key": str(key)}}})
    try:
        client = server.start().client(cafile=str(certificate))
        client.push_image("a", "v1", [b"x" * 300_000])
        assert client.call("GET", f"/v2/a/blobs/{digest_of(b'x' * 300_000)}").body == b"x" * 300_000
    finally:
        server.close()
