"""Flags of ``build``."""

from __future__ import annotations

from boxship.cli.building.calls import parse_call
from boxship.cli.flags import Flag
from boxship.cli.options.checks import check_host, check_label, check_ulimit
from boxship.cli.reference import parse
from boxship.cli.units import parse_size, parse_swap


def check_tag(text: str) -> str:
    """Return the name of an image to be made. Raises ValueError in Docker's words."""
    parse(text)
    return text


def check_progress(text: str) -> str:
    """Return how a build is shown. Raises ValueError."""
    if text not in ("auto", "plain", "tty", "quiet", "rawjson"):
        raise ValueError(f"invalid progress mode {text}")
    return text


def check_call(text: str) -> str:
    """Return what is to be done with the Dockerfile. Raises ValueError."""
    parse_call(text)
    return text


FLAGS = (
    Flag("add-host", "list", 'Add a custom host-to-IP mapping ("host:ip")', check=check_host),
    Flag("allow", "list", 'Allow extra privileged entitlement (e.g., "network.host", "security.insecure")'),
    Flag("attest", "list", 'Attestation parameters (format: "type=sbom", "type=provenance,mode=max")'),
    Flag("build-arg", "list", "Set build-time variables"),
    Flag("build-context", "list", "Additional build contexts (e.g., name=path)"),
    Flag("cache-from", "list", 'External cache sources (e.g., "user/app:cache", "type=registry,ref=user/app:cache")'),
    Flag("cache-to", "list", 'Cache export destinations (e.g., "type=inline")'),
    Flag(
        "call",
        "string",
        'Set method for evaluating build ("check", "outline", "targets")',
        default="build",
        shown='(default "build")',
        check=check_call,
    ),
    Flag("cgroup-parent", "string", 'Set the parent cgroup for the "RUN" instructions during build'),
    Flag("check", "bool", 'Shorthand for "--call=check"'),
    Flag("compress", "bool", "Compress the build context using gzip"),
    Flag("cpu-period", "int", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
    Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("debug", "bool", "Open a shell in a step that fails, then let it run again"),
    Flag("disable-content-trust", "bool", "Skip image verification", default=True, shown="(default true)"),
    Flag("file", "string", 'Name of the Dockerfile (Default is "PATH/Dockerfile")', short="f"),
    Flag("force-rm", "bool", "Always remove intermediate containers"),
    Flag("iidfile", "string", "Write the image ID to the file"),
    Flag("isolation", "string", "Container isolation technology"),
    Flag("label", "list", "Set metadata for an image", check=check_label),
    Flag("load", "bool", 'Shorthand for "--output=type=docker"'),
    Flag("memory", "bytes", "Memory limit", short="m", check=parse_size),
    Flag(
        "memory-swap",
        "bytes",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
        check=parse_swap,
    ),
    Flag("metadata-file", "string", "Write build result metadata to a file"),
    Flag(
        "network",
        "string",
        "Set the networking mode for the RUN instructions during build",
        default="default",
        shown='(default "default")',
    ),
    Flag("no-cache", "bool", "Do not use cache when building the image"),
    Flag("no-cache-filter", "strings", "Do not cache specified stages"),
    Flag("output", "list", 'Output destination (format: "type=local,dest=path")', short="o"),
    Flag("platform", "string", "Set platform if server is multi-platform capable"),
    Flag(
        "progress",
        "string",
        'Set type of progress output ("auto", "plain", "tty", "quiet", "rawjson")',
        default="auto",
        shown='(default "auto")',
        check=check_progress,
    ),
    Flag("provenance", "string", 'Shorthand for "--attest=type=provenance"'),
    Flag("pull", "bool", "Always attempt to pull a newer version of the image"),
    Flag("push", "bool", 'Shorthand for "--output=type=registry"'),
    Flag("quiet", "bool", "Suppress the build output and print image ID on success", short="q"),
    Flag("rm", "bool", "Remove intermediate containers after a successful build", default=True, shown="(default true)"),
    Flag("sbom", "string", 'Shorthand for "--attest=type=sbom"'),
    Flag("secret", "list", 'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")'),
    Flag("security-opt", "strings", "Security options"),
    Flag("shm-size", "bytes", 'Size of "/dev/shm"', check=parse_size),
    Flag("squash", "bool", "Squash newly built layers into a single new layer"),
    Flag("ssh", "list", 'SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")'),
    Flag("tag", "list", 'Name and optionally a tag in the "name:tag" format', short="t", check=check_tag),
    Flag("target", "string", "Set the target build stage to build."),
    Flag("ulimit", "ulimit", "Ulimit options", shown="(default [])", check=check_ulimit),
    Flag("why", "bool", "Say for each step why the cache did not have it"),
)
