"""Dockerfile instructions of ``import --change``, with the results and refusals of Docker."""

import pytest

from boxship.base.errors import InvalidInput
from boxship.images.changes import apply
from boxship.spec.docker.container import ContainerConfig, HealthConfig


@pytest.mark.row("IMG-15")
@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        (['CMD ["sh", "-c"]'], "cmd", ["sh", "-c"]),
        (["CMD echo hi"], "cmd", ["/bin/sh", "-c", "echo hi"]),
        (["CMD [a"], "cmd", ["/bin/sh", "-c", "[a"]),
        (['SHELL ["/bin/bash", "-c"]', "CMD x"], "cmd", ["/bin/bash", "-c", "x"]),
        (['ENTRYPOINT ["/x"]'], "entrypoint", ["/x"]),
        (
            ['ENV A=b C="d e" F=g\\ h', "ENV A=z", "ENV OLD some value"],
            "env",
            ["A=z", "C=d e", "F=g h", "OLD=some value"],
        ),
        (["ENV A="], "env", ["A="]),
        (["ENV A='it\"s'"], "env", ['A=it"s']),
        (
            ["EXPOSE 80 90/udp", "expose 5-6/TCP"],
            "exposed_ports",
            {"80/tcp": {}, "90/udp": {}, "5/tcp": {}, "6/tcp": {}},
        ),
        (["LABEL a=b 'c d'=e"], "labels", {"a": "b", "c d": "e"}),
        (["ONBUILD RUN x"], "on_build", ["RUN x"]),
        (["USER 1000:1000"], "user", "1000:1000"),
        (["VOLUME /data", 'VOLUME ["/a b"]'], "volumes", {"/data": {}, "/a b": {}}),
        (["WORKDIR /a", "WORKDIR b/../c"], "working_dir", "/a/c"),
        (["STOPSIGNAL SIGINT"], "stop_signal", "SIGINT"),
        (["HEALTHCHECK NONE"], "healthcheck", HealthConfig(test=["NONE"])),
        (
            ["HEALTHCHECK --interval=5s --retries=2 CMD curl x"],
            "healthcheck",
            HealthConfig(test=["CMD-SHELL", "curl x"], interval=5 * 10**9, retries=2),
        ),
        (["CMD a\nUSER b"], "user", "b"),
        (["ENV A=1 B=2", "ENV A=3 C=$A-${B}"], "env", ["A=3", "B=2", "C=1-2"]),
        (["ENV A=", "ENV X=${A:-no} Y=${A:+yes} Z=$B"], "env", ["A=", "X=no", "Y=", "Z="]),
        (["ENV A=b", "ENV C='$A' D=\\$A E=\"$A \\x\""], "env", ["A=b", "C=$A", "D=$A", "E=b \\x"]),
        (["ENV P='80 90'", "EXPOSE $P/udp"], "exposed_ports", {"80/tcp": {}, "90/udp": {}}),
        (["ENV P=/a", 'VOLUME ["$P/b"]'], "volumes", {"/a/b": {}}),
        (["ENV P=/a", "WORKDIR $P/b"], "working_dir", "/a/b"),
        (["CMD a", 'ENTRYPOINT ["b"]'], "cmd", ["/bin/sh", "-c", "a"]),
        (["# comment\nCMD a \\\n b"], "cmd", ["/bin/sh", "-c", "a  b"]),
    ],
)
def test_an_instruction_changes_the_configuration(changes: list[str], field: str, value: object) -> None:
    assert getattr(apply(ContainerConfig(), changes), field) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "file with no instructions"),
        ("# nothing", "file with no instructions"),
        (
            'ENV A="x',
            'failed to process "\\"x": unexpected end of statement while looking for matching double-quote',
        ),
        ("USER ${}", 'failed to process "${}": syntax error: bad substitution'),
        ("USER ${A:?}", 'failed to process "${A:?}": A: is not allowed to be unset'),
        ("USER ${A", """failed to process "${A": missing ':' in substitution"""),
        ("USER ${A:-b", """failed to process "${A:-b": syntax error: missing '}'"""),
        ("USER ${A:=b}", 'failed to process "${A:=b}": unsupported modifier (=) in substitution'),
        ("FOO bar", "foo is not a valid change command"),
        ("RUN x", "run is not a valid change command"),
        ("COPY a b", "copy is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("LABEL a", "LABEL must have two arguments"),
        ("EXPOSE 99999999", "Invalid containerPort: 99999999"),
        ("EXPOSE 80/icmp", "Invalid proto: icmp"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("HEALTHCHECK foo", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=x CMD a", 'time: invalid duration "x"'),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("SHELL foo", "SHELL requires the arguments to be in JSON form"),
    ],
)
def test_a_bad_instruction_gets_dockers_words(change: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        apply(ContainerConfig(), [change])
    assert str(caught.value) == message


def test_a_new_entrypoint_takes_the_old_command_away_unless_a_command_came_with_it() -> None:
    old = ContainerConfig(entrypoint=["old"], cmd=["argument"])
    assert apply(old, ['ENTRYPOINT ["new"]']).cmd is None
    assert apply(old, ['CMD ["b"]', 'ENTRYPOINT ["new"]']).cmd == ["b"]
    assert apply(old, ["ENTRYPOINT []"]).cmd == ["argument"]
