import pytest

from boxship.daemon.config import ConfigError, DaemonConfig
from boxship.daemon.listeners import addresses, tls_context
from boxship.http.listeners import Address


@pytest.mark.row("ENG-02")
def test_the_default_is_the_socket_in_the_exec_root():
    assert addresses(DaemonConfig()) == [Address("unix", "/run/boxship/boxship.sock")]
    assert addresses(DaemonConfig(hosts=("unix://",), exec_root="/e")) == [Address("unix", "/e/boxship.sock")]


@pytest.mark.row("ENG-03")
@pytest.mark.parametrize("host", ["tcp://0.0.0.0:2375", "tcp://127.0.0.1", "tcp://[::1]"])
@pytest.mark.parametrize("tls", [None, True])
def test_tcp_without_client_certificates_needs_an_explicit_word(host, tls):
    with pytest.raises(ConfigError, match=r"refusing to listen on tcp://.* without --tlsverify"):
        addresses(DaemonConfig(hosts=(host,), tls=tls))


@pytest.mark.row("ENG-03")
@pytest.mark.parametrize("setting", [{"tls": False}, {"tlsverify": False}])
def test_with_the_word_there_is_a_warning(setting, caplog):
    assert addresses(DaemonConfig(hosts=("tcp://0.0.0.0:2375",), **setting)) == [Address("tcp", "0.0.0.0", 2375)]
    assert "Binding to IP address without --tlsverify is insecure and gives root access" in caplog.text


@pytest.mark.row("ENG-03")
def test_tcp_with_client_certificates_needs_no_word(caplog):
    assert addresses(DaemonConfig(hosts=("tcp://0.0.0.0",), tlsverify=True)) == [Address("tcp", "0.0.0.0", 2376)]
    assert caplog.text == ""


def test_missing_certificates_are_named():
    assert tls_context(DaemonConfig()) is None
    with pytest.raises(ConfigError, match=r"invalid TLS configuration: .*tlscert /nope/cert.pem"):
        tls_context(DaemonConfig(tls=True, tlscert="/nope/cert.pem", tlskey="/nope/key.pem"))


def test_bad_hosts_are_named():
    with pytest.raises(ConfigError, match=r"invalid bind address \(ssh://x\)"):
        addresses(DaemonConfig(hosts=("ssh://x",)))
