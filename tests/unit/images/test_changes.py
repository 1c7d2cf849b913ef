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
        (["# comment\nCMD a \\\n b"], "cmd", ["/bin/sh", "-c", "a  b"]),
    ],
)
def test_an_instruction_changes_the_configuration(changes: list[str], field: str, value: object) -> None:
    assert getattr(apply(ContainerConfig(), changes), field) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
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
