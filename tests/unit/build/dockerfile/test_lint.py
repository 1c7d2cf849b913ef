"""The rules of Docker's reference: what each finds, in its words, and how a file turns them off."""

import asyncio

import pytest

from boxship.base.errors import InvalidInput
from boxship.build.dockerfile import Base, DockerfileError, PlanOptions, parse, plan
from boxship.build.dockerfile.lint import Settings
from boxship.build.plan import Warning as Finding
from boxship.spec.docker.container import ContainerConfig
from boxship.spec.docker.ignorefile import Patterns


def findings(text: str, **options: object) -> list[Finding]:
    async def resolve(reference: str, platform: str, name: str) -> Base:
        config = ContainerConfig(env=["KNOWN=1"])
        return Base(id=reference, layers=(), config=config, platform="linux/amd64")

    planned = asyncio.run(plan(parse(text.encode()), PlanOptions(**options), resolve))
    return list(planned.warnings)


@pytest.mark.row("BLD-33")
@pytest.mark.parametrize(
    ("text", "rule", "message", "line"),
    [
        ("FROM bb AS Build\n", "StageNameCasing", "Stage name 'Build' should be lowercase", 1),
        ("FROM bb as build\n", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match", 1),
        ("FROM bb\nRUN a \\\n\n b\n", "NoEmptyContinuation", "Empty continuation line", 3),
        (
            "FROM bb\nRUN a\nrun b\n",
            "ConsistentInstructionCasing",
            "Command 'run' should match the case of the command majority (uppercase)",
            3,
        ),
        (
            "from bb\nrun a\nRun b\n",
            "ConsistentInstructionCasing",
            "Command 'Run' should match the case of the command majority (lowercase)",
            3,
        ),
        (
            "FROM bb AS a\nFROM bb AS a\n",
            "DuplicateStageName",
            'Duplicate stage name "a", stage names should be unique',
            2,
        ),
        (
            "FROM bb AS scratch\n",
            "ReservedStageName",
            'Stage name should not use the same name as reserved stage "scratch"',
            1,
        ),
        (
            "FROM bb\nCMD a\n",
            "JSONArgsRecommended",
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            2,
        ),
        (
            "FROM bb\nENTRYPOINT a\n",
            "JSONArgsRecommended",
            "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
            2,
        ),
        (
            "FROM bb\nMAINTAINER me\n",
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label",
            2,
        ),
        (
            "ARG VER=1\nFROM bb:${VAR}x\n",
            "UndefinedArgInFrom",
            "FROM argument 'VAR' is not declared (did you mean VER?)",
            2,
        ),
        (
            "FROM bb\nWORKDIR app\n",
            "WorkdirRelativePath",
            'Relative workdir "app" can have unexpected results if the base image changes',
            2,
        ),
        ("FROM bb\nCOPY $foo .\n", "UndefinedVar", "Usage of undefined variable '$foo'", 2),
        (
            "FROM bb\nLABEL a=$KNOWM\n",
            "UndefinedVar",
            "Usage of undefined variable '$KNOWM' (did you mean $KNOWN?)",
            2,
        ),
        (
            'FROM bb\nCMD ["a"]\nCMD ["b"]\n',
            "MultipleInstructionsDisallowed",
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            2,
        ),
        (
            "FROM bb\nENV a b\n",
            "LegacyKeyValueFormat",
            '"ENV key=value" should be used instead of legacy "ENV key value" format',
            2,
        ),
        (
            "FROM --platform=$TARGETPLATFORM bb\n",
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            1,
        ),
        (
            "FROM bb\nENV AWS_SECRET=x\n",
            "SecretsUsedInArgOrEnv",
            'Do not use ARG or ENV instructions for sensitive data (ENV "AWS_SECRET")',
            2,
        ),
        (
            "ARG TAG\nFROM bb:${TAG}\n",
            "InvalidDefaultArgInFrom",
            "Default value for ARG bb:${TAG} results in empty or invalid base image name",
            2,
        ),
        (
            "FROM --platform=linux/amd64 bb\n",
            "FromPlatformFlagConstDisallowed",
            'FROM --platform flag should not use constant value "linux/amd64"',
            1,
        ),
        (
            "# check=experimental=all\nFROM bb\nCOPY src/tmp /\n",
            "CopyIgnoredFile",
            'Attempting to Copy file "src/tmp" that is excluded by .dockerignore',
            3,
        ),
        (
            "# check=experimental=InvalidDefinitionDescription\nFROM bb\n# what it is\nARG v=1\n",
            "InvalidDefinitionDescription",
            "Comment for ARG should follow the format: `# v <description>`",
            4,
        ),
        (
            "FROM bb\nEXPOSE 80/TcP\n",
            "ExposeProtoCasing",
            "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
            2,
        ),
        (
            "FROM bb\nEXPOSE 127.0.0.1:80:81\n",
            "ExposeInvalidFormat",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:81'",
            2,
        ),
        (
            "FROM --platform=$BUILDPLATFORM bb\n",
            "BaseImagePlatformMismatch",
            'Base image bb was pulled with platform "linux/amd64", expected "linux/arm64" for current build',
            1,
        ),
    ],
)
def test_a_rule_finds_what_it_is_for(text: str, rule: str, message: str, line: int) -> None:
    build_platform = "linux/arm64" if rule == "BaseImagePlatformMismatch" else "linux/amd64"
    args = {"TAG": "1"}
    found = findings(text, ignored=Patterns.parse(b"*/tmp"), build_platform=build_platform, build_args=args)
    assert [(each.rule, each.message, each.line) for each in found] == [(rule, message, line)]


def test_a_finding_names_the_page_about_its_rule() -> None:
    (found,) = findings("FROM bb\nCMD a\n")
    assert found.url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"


@pytest.mark.parametrize(
    "text",
    [
        'FROM bb AS build\nSHELL ["/bin/bash", "-c"]\nCMD a\n',
        "FROM bb AS a\nWORKDIR /app\nWORKDIR b\nFROM a\nWORKDIR c\n",
        'FROM bb\nCMD ["a"]\nHEALTHCHECK CMD x\nFROM bb\nCMD ["b"]\n',
        "FROM bb\nENV PUBLIC_KEY=1 KEYBOARD=2\nARG MONKEY\n",
        "FROM --platform=$BUILDPLATFORM bb AS a\nFROM --platform=linux/amd64 bb AS build_amd64\n",
        "ARG T=1\nFROM bb:$T\nARG X\nLABEL a=${X:-} b=$PATH c=$KNOWN\n",
        "FROM bb\n# v what it is\nARG v\n# note\n\nARG w\nEXPOSE 80/tcp 81\n",
        "ARG TAG=latest\nFROM bb:$TAG\n",
        "FROM bb\nCOPY src/other http.txt /d/\nCOPY --from=bb src/tmp /\n",
    ],
)
def test_a_good_file_has_no_findings(text: str) -> None:
    assert findings(f"# check=experimental=all\n{text}", ignored=Patterns.parse(b"*/tmp")) == []


def test_a_file_turns_rules_off() -> None:
    text = "FROM bb as B\nMAINTAINER me\n"
    assert [each.rule for each in findings(f"# check=skip=StageNameCasing,FromAsCasing\n{text}")] == [
        "MaintainerDeprecated"
    ]
    assert findings(f"# check=skip=all\n{text}") == []
    assert findings(text, build_args={"BUILDKIT_DOCKERFILE_CHECK": "skip=all"}) == []


def test_findings_fail_the_build_when_the_file_says_so() -> None:
    text = "# check=skip=FromAsCasing;error=true\nFROM bb as B\nMAINTAINER me\n"
    with pytest.raises(DockerfileError, match="lint violation found for rules: StageNameCasing, MaintainerDeprecated"):
        findings(text)
    assert len(findings(text, check_only=True)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skp=all", 'invalid check option "skp"'),
        ("skip", 'invalid check option "skip"'),
        ("error=perhaps", "failed to parse check option error=perhaps"),
    ],
)
def test_a_directive_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.parse(text)
    assert str(caught.value) == message
