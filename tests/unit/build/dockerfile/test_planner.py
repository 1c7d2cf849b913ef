"""Plans: what a build does, decided without doing it. Texts and configurations are those seen in dockerd 20.10."""

import asyncio
from collections.abc import Mapping

import pytest

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile import Base, DockerfileError, PlanOptions, parse, plan
from boxship.build.graph import Context, Copy, Download, Git, Image, MakeDirectory, Run, Scratch, WriteFile
from boxship.build.plan import SUMMARY, Plan
from boxship.spec.docker.container import ContainerConfig, HealthConfig

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Images:
    """Images that resolve, and which were asked for."""

    def __init__(self, configs: Mapping[str, ContainerConfig] | None = None) -> None:
        self._configs = configs or {}
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, reference: str, platform: str, name: str) -> Base:
        self.asked.append((reference, platform))
        config = self._configs.get(reference, ContainerConfig())
        return Base(id=f"id of {reference}", layers=("one",), config=config, platform=platform)


def made(text: str, options: PlanOptions | None = None, images: Images | None = None) -> Plan:
    return asyncio.run(plan(parse(text.encode()), options or PlanOptions(), images or Images()))


def operation(planned: Plan, kind: type) -> list:
    return [vertex.operation for vertex in planned.graph if isinstance(vertex.operation, kind)]


FULL = r"""ARG V=1
FROM bb AS build
ARG V
ARG D=/x$V
ENV A=b C="d e"
ENV K some value
RUN echo \
  # comment
  hi
RUN ["/bin/echo","a b"]
COPY --chown=1:2 a b $D/
ADD a /dst/
ADD a b ./
WORKDIR app
WORKDIR $A/c
EXPOSE 80 90/udp $V
EXPOSE 70-72
HEALTHCHECK --interval=90s --retries=3 CMD curl x
HEALTHCHECK --interval=500ms --timeout=1h5m CMD ["curl","x"]
HEALTHCHECK NONE
ENTRYPOINT ["/a","x\ty é"]
ENTRYPOINT []
ENTRYPOINT foo $A
CMD x $UNDEF
LABEL a=b "c d"=$UNDEFD e="x y"
VOLUME /v /w$A
VOLUME ["/y z"]
SHELL ["/bin/sh", "-e", "-c"]
RUN true
CMD z
MAINTAINER me $A
ONBUILD RUN true $A
USER 5$V
STOPSIGNAL 9
STOPSIGNAL SIGTERM
ENV X="a\$b" Y='c$A' Z=\"q
CMD []
"""
HISTORY = r"""/bin/sh -c #(nop)  ARG V
/bin/sh -c #(nop)  ARG D=/x1
/bin/sh -c #(nop)  ENV A=b C=d e
/bin/sh -c #(nop)  ENV K=some value
|2 D=/over V=1 /bin/sh -c echo   hi
|2 D=/over V=1 /bin/echo a b
/bin/sh -c #(nop) COPY --chown=1:2<summary> in /over/<end>
/bin/sh -c #(nop) ADD <summary> in /dst/<end>
/bin/sh -c #(nop) ADD <summary> in ./<end>
/bin/sh -c #(nop) WORKDIR /app
/bin/sh -c #(nop) WORKDIR /app/b/c
/bin/sh -c #(nop)  EXPOSE 1 80 90/udp
/bin/sh -c #(nop)  EXPOSE 70-72
/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "curl x"] "1m30s" "0s" "0s" '\x03'}
/bin/sh -c #(nop)  HEALTHCHECK &{["CMD" "curl" "x"] "500ms" "1h5m0s" "0s" '\x00'}
/bin/sh -c #(nop)  HEALTHCHECK &{["NONE"] "0s" "0s" "0s" '\x00'}
/bin/sh -c #(nop)  ENTRYPOINT ["/a" "x\ty é"]
/bin/sh -c #(nop)  ENTRYPOINT []
/bin/sh -c #(nop)  ENTRYPOINT ["/bin/sh" "-c" "foo $A"]
/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "x $UNDEF"]
/bin/sh -c #(nop)  LABEL a=b c d= e=x y
/bin/sh -c #(nop)  VOLUME [/v /wb]
/bin/sh -c #(nop)  VOLUME [/y z]
/bin/sh -e -c #(nop)  SHELL [/bin/sh -e -c]
|2 D=/over V=1 /bin/sh -e -c true
/bin/sh -e -c #(nop)  CMD ["/bin/sh" "-e" "-c" "z"]
/bin/sh -e -c #(nop)  MAINTAINER me $A
/bin/sh -e -c #(nop)  ONBUILD RUN true $A
/bin/sh -e -c #(nop)  USER 51
/bin/sh -e -c #(nop)  STOPSIGNAL 9
/bin/sh -e -c #(nop)  STOPSIGNAL SIGTERM
/bin/sh -e -c #(nop)  ENV X=a$b Y=c$A Z="q
/bin/sh -e -c #(nop)  CMD []
/bin/sh -e -c #(nop)  LABEL q=r s"""


@pytest.mark.row("BLD-26")
def test_history_is_the_classic_builders_word_by_word() -> None:
    options = PlanOptions(build_args={"D": "/over", "HTTP_PROXY": "p", "NOPE": "1"}, labels={"q": "r s"})
    planned = made(FULL, options)
    texts = [step.created_by.replace(SUMMARY, "<summary>") for step in planned.target.steps[1:]]
    assert texts == HISTORY.replace("<end>", " ").splitlines()
    assert planned.unused_args == ("NOPE",)
    assert planned.total_steps == 36
    assert [step.text for step in planned.arguments] == ["ARG V=1"]
    assert (planned.target.steps[0].number, planned.target.steps[-1].number) == (2, 36)
    assert planned.target.steps[-1].text == "LABEL q=r s"
    assert planned.target.config == ContainerConfig(
        user="51",
        exposed_ports={f"{port}": {} for port in ("80/tcp", "90/udp", "1/tcp", "70/tcp", "71/tcp", "72/tcp")},
        env=[PATH, "A=b", "C=d e", "K=some value", "X=a$b", "Y=c$A", 'Z="q'],
        entrypoint=["/bin/sh", "-c", "foo $A"],
        cmd=[],
        volumes={"/v": {}, "/wb": {}, "/y z": {}},
        working_dir="/app/b/c",
        labels={"a": "b", "c d": "", "e": "x y", "q": "r s"},
        stop_signal="SIGTERM",
        healthcheck=HealthConfig(test=["NONE"], interval=5 * 10**8, timeout=3900 * 10**9, retries=3),
        on_build=["RUN true $A"],
        shell=["/bin/sh", "-e", "-c"],
    )
    assert [step.author for step in planned.target.steps if step.author] == ["me $A"]


def test_programs_see_arguments_and_proxies_but_the_history_only_what_was_declared() -> None:
    planned = made("FROM bb\nARG A=1\nENV A=2\nARG B=3\nRUN x\n", PlanOptions(build_args={"no_proxy": "n"}))
    (run,) = operation(planned, Run)
    assert run.env == (PATH, "A=2", "no_proxy=n", "B=3")
    assert run.uncounted_env == ("no_proxy",)
    assert planned.target.steps[-1].created_by == "|1 B=3 /bin/sh -c x"


@pytest.mark.row("BLD-15")
@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("ARG A=1\nFROM bb\nLABEL l=$A", {}, ""),
        ("ARG A=1\nFROM bb\nARG A\nLABEL l=$A", {}, "1"),
        ("ARG A=1\nFROM bb\nARG A=2\nLABEL l=$A", {}, "2"),
        ("ARG A=1\nFROM bb\nARG A=2\nLABEL l=$A", {"A": "3"}, "3"),
        ("FROM bb\nLABEL l=$A\nARG A=2", {"A": "3"}, ""),
        ("FROM bb\nARG A=2\nENV A=4\nLABEL l=$A", {"A": "3"}, "4"),
        ("FROM bb\nARG A=2 B=$A$A\nLABEL l=$B", {}, "22"),
        ("FROM bb AS a\nARG A=2\nFROM bb\nLABEL l=$A", {}, ""),
        ("FROM bb AS a\nARG A=2\nFROM a\nLABEL l=$A", {}, "2"),
        ("FROM bb\nARG A\nLABEL l=${A-unset}", {"A": None}, "unset"),
        ("FROM bb\nARG TARGETPLATFORM\nARG TARGETARCH TARGETVARIANT BUILDOS\nLABEL l=$TARGETPLATFORM-$TARGETVARIANT-$BUILDOS", {},
         "linux/arm/v7-v7-linux"),
        ("FROM bb\nLABEL l=$TARGETARCH", {}, ""),
        ("FROM bb\nLABEL l=$http_proxy", {"http_proxy": "p"}, "p"),
    ],
)  # fmt: skip
def test_an_argument_holds_where_the_reference_says(text: str, args: dict[str, str | None], expected: str) -> None:
    planned = made(text + "\n", PlanOptions(build_args=args, platform="linux/arm/v7"))
    assert planned.target.config.labels == {"l": expected}


@pytest.mark.row("BLD-24")
def test_stages_that_do_not_matter_are_left_out_and_their_images_not_asked_for() -> None:
    images = Images()
    text = (
        "FROM one AS a\nRUN a\nFROM two AS b\nRUN b\nFROM three\nCOPY --from=A /x /\nRUN --mount=from=0,target=/m y\n"
    )
    planned = made(text, images=images)
    assert images.asked == [("one", "linux/amd64"), ("three", "linux/amd64")]
    assert [stage.index for stage in planned.stages] == [0, 2]
    assert planned.total_steps == 7
    assert [step.number for step in planned.target.steps] == [5, 6, 7]
    only = made(text, PlanOptions(target="B"))
    assert ([stage.index for stage in only.stages], only.total_steps) == ([1], 4)
    assert made(text, PlanOptions(target="0")).target.name == "a"


@pytest.mark.row("BLD-08")
def test_from_takes_variables_platforms_earlier_stages_and_nothing() -> None:
    images = Images()
    text = (
        "ARG T=1\nFROM --platform=$BUILDPLATFORM bb:${T:-2} AS a\nRUN x\nFROM a AS b\nFROM scratch\nCOPY --from=b / /\n"
    )
    planned = made(text, PlanOptions(platform="linux/arm64", build_args={"T": "7"}), images)
    assert images.asked == [("bb:7", "linux/amd64")]
    assert [stage.platform for stage in planned.stages] == ["linux/amd64", "linux/amd64", "linux/arm64"]
    assert planned.stages[1].base == ""
    assert planned.stages[1].result == planned.stages[0].result
    assert planned.target.base == ""
    assert isinstance(planned.graph[planned.target.steps[0].vertex].operation, Scratch)


@pytest.mark.row("BLD-23")
def test_triggers_of_the_base_image_run_after_from_and_are_not_inherited() -> None:
    base = ContainerConfig(on_build=["ARG W=1", "RUN make $W", "COPY . /src"], env=["PATH=/p"])
    planned = made("FROM bb\nRUN x\n", PlanOptions(build_args={"W": "2"}), Images({"bb": base}))
    assert [(step.number, step.text, step.is_trigger) for step in planned.target.steps] == [
        (1, "FROM bb", False),
        (1, "ARG W=1", True),
        (1, "RUN make $W", True),
        (1, "COPY . /src", True),
        (2, "RUN x", False),
    ]
    assert planned.target.steps[2].created_by == "|1 W=2 /bin/sh -c make $W"
    assert planned.target.config.on_build is None
    assert planned.unused_args == ()


def test_a_trigger_that_is_none_is_refused_at_from() -> None:
    with pytest.raises(DockerfileError, match="ONBUILD isn't allowed as an ONBUILD trigger") as caught:
        made("# x\nFROM bb\n", images=Images({"bb": ContainerConfig(on_build=["ONBUILD RUN x"])}))
    assert caught.value.line == 2


@pytest.mark.row("BLD-20")
def test_a_new_entrypoint_takes_the_base_images_command_away() -> None:
    images = Images({"bb": ContainerConfig(cmd=["old"], entrypoint=["old"])})
    assert made('FROM bb\nENTRYPOINT ["e"]\n', images=images).target.config.cmd is None
    assert made('FROM bb\nCMD ["c"]\nENTRYPOINT ["e"]\n', images=images).target.config.cmd == ["c"]
    assert made('FROM bb\nCMD ["c"]\n', images=images).target.config.entrypoint == ["old"]


def test_copy_reads_contexts_stages_images_and_texts() -> None:
    planned = made(
        "FROM bb AS a\nFROM bb\nWORKDIR /w\nCOPY --exclude=*.a --parents --chmod=755 ./x/./y *.c .\nCOPY --from=a x /y\n"
        "COPY --from=other:1 /x /z/\nCOPY --from=ctx f /f\nCOPY <<E g /t/\n$Z\nE\n",
        PlanOptions(contexts={"ctx": "local"}),
    )
    copies = operation(planned, Copy)
    assert (copies[0].sources, copies[0].target) == (("/x/./y", "/*.c"), "/w/")
    assert (copies[0].parents, copies[0].exclude, copies[0].chmod) == (True, ("*.a",), "755")
    assert [each.target for each in copies[1:]] == ["/y", "/z/", "/f", "/t/"]
    assert operation(planned, WriteFile) == [WriteFile(path="/t/E", data=b"\n")]
    assert [each.name for each in operation(planned, Context)] == ["", "ctx"]
    assert [each.reference for each in operation(planned, Image)] == ["bb", "other:1"]
    assert operation(planned, MakeDirectory) == [MakeDirectory(path="/w")]
    assert [step.number for step in planned.target.steps] == [2, 3, 4, 5, 6, 7, 8, 8]


def test_named_contexts_stand_in_for_images() -> None:
    images = Images()
    planned = made(
        "FROM bb\nCOPY --from=x a /\n", PlanOptions(contexts={"bb": "docker-image://other", "x": "dir"}), images
    )
    assert images.asked == [("other", "linux/amd64")]
    assert [each.name for each in operation(planned, Context)] == ["x"]


@pytest.mark.row("BLD-12")
def test_add_reads_urls_and_repositories() -> None:
    checksum = "sha256:" + "a" * 64
    planned = made(
        f"FROM bb\nADD --checksum={checksum} https://x.test/d/a%20b.tar?q=1 /d/\nADD http://x.test/ /f\n"
        "ADD https://x.test/r.git#v1:sub/dir /r/\nADD --keep-git-dir git@x.test:o/r /s\nADD --unpack=false a.tar /\n"
    )
    assert operation(planned, Download) == [
        Download(url="https://x.test/d/a%20b.tar?q=1", name="a b.tar", checksum=checksum),
        Download(url="http://x.test/", name="f"),
    ]
    assert operation(planned, Git) == [
        Git(url="https://x.test/r.git", ref="v1", directory="sub/dir"),
        Git(url="git@x.test:o/r", keep_git_dir=True),
    ]
    assert [each.unpack for each in operation(planned, Copy)] == [False] * 5


@pytest.mark.row("BLD-10")
def test_run_mounts_have_dockers_defaults() -> None:
    planned = made(
        "FROM bb\nWORKDIR /w\nARG ID=k\n"
        "RUN --mount=target=.  --mount=type=bind,from=img,source=/a/../b,target=/b,rw"
        " --mount=type=cache,target=c,sharing=locked,mode=0700,uid=3"
        " --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=$ID --mount=type=secret,id=e,env=E,required"
        " --mount=type=secret,source=s,target=/x/y --mount=type=ssh x\n"
    )
    (run,) = operation(planned, Run)
    shown = [(each.type, each.target, each.input, each.source, each.read_only, each.id) for each in run.mounts]
    assert shown == [
        ("bind", "/w", 1, "/", True, ""),
        ("bind", "/b", 2, "/b", False, ""),
        ("cache", "/w/c", -1, "/", False, "/w/c"),
        ("tmpfs", "/t", -1, "", False, ""),
        ("secret", "/run/secrets/k", -1, "", True, "k"),
        ("secret", "", -1, "", True, "e"),
        ("secret", "/x/y", -1, "", True, "s"),
        ("ssh", "/run/buildkit/ssh_agent.7", -1, "", True, "default"),
    ]
    assert (run.mounts[2].sharing, run.mounts[2].mode, run.mounts[2].uid) == ("locked", 0o700, 3)
    assert (run.mounts[3].size, run.mounts[5].env, run.mounts[5].required) == (1 << 20, "E", True)


def test_heredocs_of_run_go_to_the_shell_or_to_their_own_interpreter() -> None:
    planned = made(
        "FROM bb\nRUN <<E\na\n$b\nE\nRUN cat <<E > /x\nhi\nE\nRUN <<-E\n\t#!/bin/awk -f\n\tx\nE\nRUN <<E\n#!/bin/x\nE\n"
    )
    runs = operation(planned, Run)
    assert runs[0].args == ("/bin/sh", "-c", "a\n$b\n")
    assert runs[1].args == ("/bin/sh", "-c", "cat <<E > /x\nhi\nE")
    assert runs[2].args == ("/bin/sh", "-c", "#!/bin/awk -f\nx\n")
    assert runs[3].args == ("/dev/pipes/E",)
    assert runs[3].mounts[0].target == "/dev/pipes"
    assert operation(planned, WriteFile) == [WriteFile(path="/E", data=b"#!/bin/x\n", chmod="0755")]


def test_network_security_and_devices_are_passed_on() -> None:
    planned = made(
        "FROM bb\nRUN --network=host --security=insecure --device=d=x a\nRUN b\n", PlanOptions(network="none")
    )
    first, second = operation(planned, Run)
    assert (first.network, first.security, first.devices) == ("host", "insecure", ("d=x",))
    assert (second.network, second.security) == ("none", "sandbox")


@pytest.mark.row("BLD-06")
def test_no_cache_is_for_all_stages_or_for_those_named() -> None:
    text = "FROM bb AS a\nRUN x\nFROM a\nRUN y\n"
    runs = [
        vertex.uncached
        for vertex in made(text, PlanOptions(no_cache_filter=("A",))).graph
        if isinstance(vertex.operation, Run)
    ]
    assert runs == [True, False]
    everything = made(text, PlanOptions(no_cache=True)).graph
    assert [vertex.uncached for vertex in everything if isinstance(vertex.operation, Run)] == [True, True]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("CMD x\n", "no build stage in current context", 1),
        ("ARG A\nCMD x\n", "no build stage in current context", 2),
        ("FROM ${X}\n", "base name (${X}) should not be blank", 1),
        ("FROM bb\nCOPY ../x /\n", "COPY failed: forbidden path outside the build context: ../x ()", 2),
        ("FROM bb\nADD a/../../x /\n", "ADD failed: forbidden path outside the build context: a/../../x ()", 2),
        (
            "FROM bb\nCOPY a b x\n",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
            2,
        ),
        ("FROM bb\nCOPY --from=5 a /\n", "invalid from flag value 5: index out of bounds", 2),
        ("FROM bb\nCOPY --from=0 a /\n", "invalid from flag value 0: refers to current build stage", 2),
        ("FROM bb\nSTOPSIGNAL FOO\n", "Invalid signal: FOO", 2),
        ("FROM bb\nEXPOSE foo\n", "Invalid containerPort: foo", 2),
        ("FROM bb\nEXPOSE 80/foo\n", "Invalid proto: foo", 2),
        ("FROM bb\nUSER ${A:?msg}\n", 'failed to process "${A:?msg}": A: msg', 2),
        ("FROM bb\nRUN --mount=type=foo x\n", 'unsupported mount type "foo"', 2),
        ("FROM bb\nRUN --mount=type=cahce,target=/x y\n", 'unsupported mount type "cahce" (did you mean cache?)', 2),
        ("FROM bb\nRUN --mount=type=secret x\n", "invalid secret mount. one of source, target required", 2),
        ("FROM bb\nRUN --mount=type=bind,target=/x,required x\n", "unexpected key 'required' for mount type 'bind'", 2),
        ("FROM bb\nRUN --mount=type=tmpfs,target=/x,mode=1 x\n", 'mode not allowed for "tmpfs" type mounts', 2),
        ("FROM bb\nADD --checksum=x a /\n", "checksum can't be specified for non-HTTP(S) & non-Git sources", 2),
        ("FROM bb\nADD --checksum=x http://a.test/b /\n", "invalid checksum digest format: x", 2),
        ("FROM bb\nADD http://a.test/..%2f /d/\n", "cannot determine filename from url: http://a.test/..%2f", 2),
        ("FROM bb\nADD https://a.test/r.git#x:../y /d/\n", "subdir not allowed to leave the repository: ../y", 2),
        ("FROM bb\nADD https://a.test/r.git#--upload-pack=x /d/\n", "invalid Git reference '--upload-pack=x'", 2),
    ],
)
@pytest.mark.row("BLD-11")
def test_what_cannot_be_planned_is_refused_with_its_line(text: str, message: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        made(text)
    assert (str(caught.value), caught.value.line) == (message, line)


def test_a_target_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="failed to reach build target foo in Dockerfile"):
        made("FROM bb\n", PlanOptions(target="foo"))


def test_undefined_variables_are_findings() -> None:
    planned = made("FROM b$X\nARG name\nLABEL a=$nmae b=${y:-z}\n", images=Images())
    assert [(found.rule, found.message, found.line) for found in planned.warnings] == [
        ("UndefinedArgInFrom", "FROM argument 'X' is not declared", 1),
        ("UndefinedVar", "Usage of undefined variable '$nmae'", 3),
    ]


def test_steps_cannot_keep_settings_without_end() -> None:
    with pytest.raises(DockerfileError, match="too many variables, labels, ports and volumes"):
        made("FROM bb\nENV " + "".join(f"v{n}=1 " for n in range(3000)) + "\n" + "CMD x\n" * 700)


def test_a_chain_of_many_stages_is_planned() -> None:
    text = "FROM bb AS s0\n" + "".join(f"FROM s{index} AS s{index + 1}\nRUN {index}\n" for index in range(1500))
    assert len(made(text).stages) == 1501
