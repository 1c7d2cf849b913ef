"""Dockerfiles of strangers: whatever they hold, they are planned or refused, and never seen as anything else."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile import Base, DockerfileError, PlanOptions, parse, plan
from boxship.build.graph import decode, encode
from boxship.spec.docker.container import ContainerConfig

LINES = [
    "# check=error=true",
    "# escape=`",
    "ARG A=1 B=$A",
    "FROM bb AS one",
    "FROM one",
    "FROM --platform=$BUILDPLATFORM scratch AS two",
    "RUN x \\",
    "RUN --mount=type=cache,target=$A,id=${B:-c} --mount=from=one,target=/o,rw y",
    "RUN --mount=type=secret,id=s,env=E --network=none <<A <<-B cat",
    "A",
    "\tB",
    "COPY --from=one --chown=$A --parents a/./b* ../c /d/",
    "COPY <<A d $B/",
    "ADD --checksum=sha256:aa https://h.test/%2e%2e/x git@h.test:a#r:../s /d",
    "ADD --unpack a.tar .",
    "ENV A=${A#*/} C='$A",
    "ENV D ${D:?no}",
    'LABEL "a b"=c d=${X//?/yy}',
    "EXPOSE 1-3/tcp 99999 1.2.3.4:5:6/UDP",
    'HEALTHCHECK --interval=5s --retries=9999999 CMD ["a"]',
    "ONBUILD COPY --from=two x y",
    'SHELL ["a", "\\ud800"]',
    'VOLUME ["/a", ""]',
    "WORKDIR ../$A/..",
    "STOPSIGNAL $A",
    "USER a:b",
    "ENTRYPOINT []",
    "CMD",
    "MAINTAINER \x00",
]
TRIGGERS = ["RUN x", "COPY --from=one a b", "ONBUILD x", "\\", "RUN <<A", ""]


def planned(data: bytes, triggers: list[str]) -> None:
    async def resolve(reference: str, platform: str, name: str) -> Base:
        config = ContainerConfig(on_build=triggers, env=["A", "=b", "P=q"])
        return Base(id=reference, layers=("l",), config=config, platform=platform)

    try:
        made = asyncio.run(plan(parse(data), PlanOptions(build_args={"A": "$A", "B": None}, no_cache=True), resolve))
    except DockerfileError as exc:
        assert str(exc)
    except InvalidInput as exc:
        assert "check option" in str(exc)  # a directive that means nothing has no instruction to be shown at
    else:
        assert len(decode(encode(made.graph))) == len(made.graph)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=14), st.lists(st.sampled_from(TRIGGERS), max_size=2))
def test_any_lines_are_planned_or_refused(lines: list[str], triggers: list[str]) -> None:
    planned("\n".join(["FROM bb AS one", *lines, ""]).encode(), triggers)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=6), st.data())
def test_damaged_lines_are_planned_or_refused(lines: list[str], data: st.DataObject) -> None:
    text = bytearray("\n".join(["FROM bb", *lines]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not text:
            break
    planned(bytes(text), [])
