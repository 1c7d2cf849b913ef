"""Flags, daemon.json, and what happens when they disagree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxship.daemon import config as configuration
from boxship.daemon.config import ConfigError, DaemonConfig, ignored, load, reload, without_effect
from boxship.daemon.flags import UsageError, parse, usage
from boxship.daemon.options import BY_KEY, OPTIONS
from boxship.daemon.wiring import network_options


@pytest.fixture
def configure(tmp_path):
    """Load the configuration of these arguments and of this daemon.json."""

    def loading(*arguments, file=None):
        path = tmp_path / "daemon.json"
        path.write_text(file if isinstance(file, str) else json.dumps(file or {}))
        return load(parse(["--config-file", str(path), *arguments])), str(path)

    return loading


def test_every_option_has_a_field_or_is_ignored():
    fields = set(DaemonConfig.__struct_fields__)
    assert {option.field for option in OPTIONS if option.field} == fields
    assert all(option.flag or option.key for option in OPTIONS)


def test_options_that_nothing_follows_are_told(configure):
    file = {"fixed-cidr-v6": "fd00::/64", "exec-opts": ["native.cgroupdriver=systemd"]}
    config, _ = configure("--metrics-addr", "127.0.0.1:9323", "--debug", file=file)
    assert without_effect(config) == ["native.cgroupdriver=systemd", "fixed-cidr-v6", "metrics-addr"]


@pytest.mark.parametrize(
    "arguments",
    [["--plugin-wait", "-1"], ["--exec-opt", "native.bogus=1"]],
)
def test_what_must_not_be_passed_over_is_refused(configure, arguments):
    with pytest.raises(ConfigError, match=r"invalid plugin wait|invalid exec option"):
        configure(*arguments)


@pytest.mark.row("ENG-05")
def test_every_flag_has_a_key_but_the_one_that_names_the_file():
    assert [option.flag for option in OPTIONS if option.key is None] == ["config-file"]


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["--debug"], {"debug": True}),
        (["-D"], {"debug": True}),
        (["--debug=false"], {"debug": False}),
        (["-l", "warn"], {"log-level": "warn"}),
        (["-Dlwarn"], {"debug": True, "log-level": "warn"}),
        (["-Dl", "warn"], {"debug": True, "log-level": "warn"}),
        (["-l=warn"], {"log-level": "warn"}),
        (["-H", "fd://", "--host=tcp://x"], {"host": ("fd://", "tcp://x")}),
        (["--mtu", "1400"], {"mtu": 1400}),
        (["--log-opt", "a=b", "--log-opt=c=d"], {"log-opt": {"a": "b", "c": "d"}}),
        (["--default-shm-size", "64m"], {"default-shm-size": 64 << 20}),
        (["--default-ulimit", "nofile=1:2"], {"default-ulimit": {"nofile": (1, 2)}}),
        (["--default-ulimit", "core=-1"], {"default-ulimit": {"core": (-1, -1)}}),
        (["--add-runtime", "crun=/bin/crun"], {"add-runtime": {"crun": {"path": "/bin/crun", "runtimeArgs": []}}}),
        (["--default-address-pool", "base=10.0.0.0/8,size=24"], {"default-address-pool": (("10.0.0.0/8", 24),)}),
        (["--data-root", "/a", "--data-root", "/b"], {"data-root": "/b"}),
    ],
)
def test_flags(arguments, values):
    assert parse(arguments).values == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-l"], "flag needs an argument: 'l' in -l"),
        (["--mtu"], "flag needs an argument: --mtu"),
        (["--mtu=x"], 'invalid argument "x" for "--mtu" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (
            ["--debug=maybe"],
            'invalid argument "maybe" for "-D, --debug" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["foo"], "accepts no argument(s)."),
        (["--", "foo"], "accepts no argument(s)."),
    ],
)
def test_bad_flags_in_dockers_words(arguments, message):
    with pytest.raises(UsageError) as caught:
        parse(arguments)
    assert str(caught.value) == message


@given(st.lists(st.text(alphabet="-=DHlpx:/ab1", max_size=8), max_size=4))
def test_any_arguments_parse_or_are_a_usage_error(arguments):
    try:
        parse(arguments)
    except UsageError:
        pass


def test_help_names_every_flag():
    text = usage("boxshipd")
    for option in OPTIONS:
        assert option.flag is None or option.help == "Ignored" or f"--{option.flag} " in text


@pytest.mark.row("ENG-05")
def test_the_file_gives_what_the_flags_do_not(configure):
    config, _ = configure("--mtu", "1400", file={"debug": True, "labels": ["a=b"], "data-root": "/d"})
    assert (config.mtu, config.debug, config.labels, config.data_root) == (1400, True, ("a=b",), "/d")


@pytest.mark.row("ENG-05")
def test_an_option_in_both_places_is_refused_by_name(configure):
    with pytest.raises(ConfigError) as caught:
        configure(
            *("-D", "-H", "unix:///x", "-H", "tcp://y", "--label", "x=y", "--mtu", "1500"),
            *("--log-opt", "max-size=2m", "--default-ulimit", "nofile=1:2"),
            file={
                "hosts": ["unix:///tmp/dk/s"],
                "labels": ["a=b"],
                "mtu": 1400,
                "log-opts": {"max-size": "1m"},
                "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}},
                "debug": True,
            },
        )
    # Compared with dockerd 20.10, word for word.
    assert str(caught.value).partition(": ")[2] == (
        "the following directives are specified both as a flag and in the configuration file: "
        "debug: (from flag: true, from file: true), "
        "default-ulimits: (from flag: [nofile=1:2], from file: map[nofile:map[Hard:2 Name:nofile Soft:1]]), "
        "hosts: (from flag: [unix:///x tcp://y], from file: [unix:///tmp/dk/s]), "
        "labels: (from flag: [x=y], from file: [a=b]), "
        "log-opts: (from flag: map[max-size:2m], from file: map[max-size:1m]), "
        "mtu: (from flag: 1500, from file: 1400)"
    )


def test_runtimes_of_both_places_add_up(configure):
    config, _ = configure(
        "--add-runtime",
        "a=/a",
        "--default-runtime",
        "b",
        file={"runtimes": {"b": {"path": "/b", "runtimeArgs": ["-x"]}}},
    )
    assert config.runtimes == {"a": {"path": "/a", "runtimeArgs": []}, "b": {"path": "/b", "runtimeArgs": ["-x"]}}


@pytest.mark.row("ENG-05")
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"foo": 1, "bar": 2}, "the following directives don't match any configuration option: bar, foo"),
        ({"debug": "x"}, "debug: json: cannot unmarshal string into Go value of type bool"),
        ({"mtu": True}, "mtu: json: cannot unmarshal bool into Go value of type int"),
        ({"hosts": "x"}, "hosts: json: cannot unmarshal string into Go value of type []string"),
        ({"labels": ["x"]}, "configuration validation from file failed: bad attribute format: x"),
        (
            {"max-concurrent-downloads": -1},
            "configuration validation from file failed: invalid max concurrent downloads: -1",
        ),
        ("[]", "the file does not hold a JSON object"),
        ("{bad", "invalid JSON: "),
        ("[" * 100_000, "invalid JSON: "),
    ],
)
def test_bad_files_are_named(configure, tmp_path, file, message):
    with pytest.raises(ConfigError) as caught:
        configure(file=file)
    start = f"unable to configure the Docker daemon with file {tmp_path}/daemon.json: {message}"
    assert str(caught.value).startswith(start)


def test_a_missing_file_is_an_error_only_if_it_was_asked_for(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"with file /nope: open /nope: no such file or directory"):
        load(parse(["--config-file", "/nope"]))
    monkeypatch.setattr(configuration, "CONFIG_FILE", str(tmp_path / "none"))
    assert load(parse([])).hosts == ("unix:///run/boxship/boxship.sock",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--default-runtime", "x"], "specified default runtime 'x' does not exist"),
        (["-l", "loud"], "invalid logging level: loud"),
        (["--log-format", "xml"], "invalid log format: xml"),
        (["--label", "x"], "bad attribute format: x"),
        (["--mtu", "-1"], "invalid default MTU: -1"),
        (
            ["--firewall-policy", "mine"],
            'invalid firewall policy: mine: use "publish" or "respect-host"',
        ),
    ],
)
def test_bad_settings(configure, arguments, message):
    with pytest.raises(ConfigError) as caught:
        configure(*arguments)
    assert str(caught.value) == message


def test_ports_without_an_address_are_published_where_the_operator_says(configure):
    def published(*arguments):
        return network_options(configure(*arguments)[0]).ip

    assert published() == "0.0.0.0"
    assert published("--publish-on-loopback") == "127.0.0.1"
    assert published("--publish-on-loopback", "--ip", "192.0.2.1") == "192.0.2.1"


def test_the_firewall_policy_comes_from_the_file(configure):
    assert network_options(configure(file={"firewall-policy": "respect-host"})[0]).respect_host
    assert not network_options(configure()[0]).respect_host


@pytest.mark.row("ENG-08")
def test_roots_are_absolute(configure, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config, _ = configure("--data-root", "d", "--exec-root", "../e")
    assert (config.data_root, config.exec_root) == (str(tmp_path / "d"), str(tmp_path.parent / "e"))


@pytest.mark.row("ENG-18")
def test_registry_settings(configure):
    config, _ = configure(
        *("--insecure-registry", "10.0.0.0/8", "--registry-mirror", "https://m", "--max-concurrent-downloads", "7"),
        file={"proxies": {"http-proxy": "http://p", "no-proxy": "localhost"}},
    )
    assert (config.insecure_registries, config.registry_mirrors) == (("10.0.0.0/8",), ("https://m",))
    assert (config.max_concurrent_downloads, config.http_proxy, config.no_proxy) == (7, "http://p", "localhost")


@pytest.mark.row("ENG-19")
def test_metrics_and_experimental(configure):
    config, _ = configure(file={"experimental": True, "metrics-addr": "0.0.0.0:9323"})
    assert (config.experimental, config.metrics_addr) == (True, "0.0.0.0:9323")


def test_flags_without_meaning_are_accepted():
    flags = parse(["--containerd", "/x", "--containerd-namespace=moby", "--debug"])
    assert ignored(flags) == ["containerd", "containerd-namespace"]
    assert load(flags).debug is True


@pytest.mark.row("ENG-04")
def test_tls_files_have_defaults(configure, monkeypatch):
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certs")
    config, _ = configure("--tlsverify")
    assert (config.tlscacert, config.tlscert, config.tlskey) == ("/certs/ca.pem", "/certs/cert.pem", "/certs/key.pem")
    assert configure("--tls")[0].tlscacert is None
    assert configure()[0].tlscert is None


@pytest.mark.row("ENG-06")
def test_reload_takes_reloadable_keys_only(tmp_path):
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"debug": False, "labels": ["a=b"], "mtu": 1400}))
    flags = parse(["--config-file", str(path), "--live-restore"])
    config = load(flags)
    path.write_text(json.dumps({"debug": True, "mtu": 9000, "shutdown-timeout": 3}))
    changed = reload(config, flags)
    assert (changed.debug, changed.labels, changed.shutdown_timeout) == (True, (), 3)
    assert (changed.mtu, changed.live_restore) == (1400, True)


@pytest.mark.row("ENG-06")
def test_a_reload_that_fails_says_why(tmp_path):
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    flags = parse(["--config-file", str(path), "--debug"])
    config = load(flags)
    path.write_text('{"debug": true}')
    with pytest.raises(ConfigError, match="specified both as a flag and in the configuration file: debug"):
        reload(config, flags)


def test_reloadable_keys_are_those_of_docker_and_our_own():
    assert {option.key for option in OPTIONS if option.reload} == {
        "builder", "debug", "default-runtime", "features", "image-gc", "insecure-registries", "labels", "live-restore",
        "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "registry-mirror-rules", "registry-mirrors",
        "runtimes", "shutdown-timeout",
    }  # fmt: skip


@given(st.sampled_from(sorted(BY_KEY)), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2), max_leaves=5))  # fmt: skip
def test_any_value_of_a_key_is_taken_or_refused(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({key: value}))
    try:
        load(parse(["--config-file", str(path)]))
    except ConfigError as error:
        assert str(error)
