"""Where a repository is looked for, as a table."""

from __future__ import annotations

import pytest

from boxship.base.errors import Forbidden, InvalidInput
from boxship.registry.client.auth import parse_challenges
from boxship.registry.client.hosts import RegistrySettings, endpoints, parse_mirror, parse_rules
from boxship.registry.client.proxies import proxy_for


def places(domain, path="a/b", **settings):
    return [(place.url, place.path) for place in endpoints(domain, path, RegistrySettings(**settings))]


@pytest.mark.row("ENG-18")
def test_the_registry_s_own_places():
    assert places("docker.io") == [("https://registry-1.docker.io", "a/b")]
    assert places("quay.test") == [("https://quay.test", "a/b")]
    assert places("localhost:5000") == [("https://localhost:5000", "a/b"), ("http://localhost:5000", "a/b")]
    assert places("10.1.2.3:5000", insecure=("10.1.0.0/16",))[1] == ("http://10.1.2.3:5000", "a/b")
    assert places("quay.test", insecure=("quay.test",))[1] == ("http://quay.test", "a/b")


@pytest.mark.row("REG-14")
def test_a_mirror_of_docker_hub_comes_first_and_gets_no_credentials_of_the_user():
    mirror, hub = endpoints("docker.io", "library/x", RegistrySettings(mirrors=("https://mirror.test",)))
    assert (mirror.url, mirror.credentials is not None and not mirror.credentials) == ("https://mirror.test", True)
    assert (hub.url, hub.credentials) == ("https://registry-1.docker.io", None)
    assert places("quay.test", mirrors=("https://mirror.test",)) == [("https://quay.test", "a/b")]


def test_the_longest_rule_decides_and_rewrites():
    rules = parse_rules(
        [
            {"prefix": "quay.test", "mirrors": ["https://one.test"]},
            {
                "prefix": "quay.test/a",
                "mirrors": [{"url": "https://two.test", "rewrite": "copy/of"}],
                "fallback": False,
            },
        ]
    )
    assert places("quay.test", "a/b", rules=rules) == [("https://two.test", "copy/of/b")]
    assert places("quay.test", "ab", rules=rules) == [("https://one.test", "ab"), ("https://quay.test", "ab")]


def test_a_rule_without_mirror_and_fallback_refuses():
    rules = parse_rules([{"prefix": "quay.test", "fallback": False}])
    with pytest.raises(Forbidden, match="must not be contacted"):
        places("quay.test", rules=rules)


@pytest.mark.parametrize(
    "rule", [{}, {"prefix": "a", "x": 1}, {"prefix": "a", "mirrors": ["ftp://x"]}, {"prefix": "a", "fallback": 1}]
)
def test_a_rule_that_makes_no_sense_is_refused(rule):
    with pytest.raises(InvalidInput):
        parse_rules([rule])


@pytest.mark.parametrize("url", ["ftp://m", "https://m/path", "https://u:p@m", "https://m?x=1", "m.test"])
def test_a_mirror_that_is_no_place_is_refused(url):
    with pytest.raises(InvalidInput, match="invalid mirror"):
        parse_mirror(url)


def test_challenges_are_read_with_commas_and_quotes_in_them():
    (found,) = parse_challenges(['Bearer realm="https://a.test/t",service="s, \\"x\\"",scope="repository:a:pull,push"'])
    assert found == ("bearer", "https://a.test/t", 's, "x"', "repository:a:pull,push")
    assert parse_challenges(["Negotiate abc"]) == []


def test_proxies_come_from_the_settings_then_the_environment_and_never_for_loopback():
    settings = RegistrySettings(http_proxy="http://p:1", no_proxy=".inner.test,10.0.0.0/8")
    assert proxy_for("http://x.test/v2/", settings, {}) == "http://p:1"
    assert proxy_for("http://a.inner.test/v2/", settings, {}) is None
    assert proxy_for("http://10.1.1.1/v2/", settings, {}) is None
    assert proxy_for("http://localhost:5000/v2/", settings, {}) is None
    assert proxy_for("https://x.test/", RegistrySettings(), {"https_proxy": "p:2"}) == "http://p:2"
    assert proxy_for("https://x.test/", RegistrySettings(), {"HTTPS_PROXY": "p:2", "NO_PROXY": "x.test"}) is None
