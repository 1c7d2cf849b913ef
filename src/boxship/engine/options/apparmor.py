"""AppArmor profiles of containers: which one is meant, and loading the default one (apparmor.d(5), apparmor_parser(8))."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from importlib import resources

from boxship.base.errors import SystemFailure
from boxship.engine.observation.sysinfo import SysInfo
from boxship.engine.options.security import security_options
from boxship.spec.docker.container import HostConfig

DEFAULT_PROFILE = "docker-default"
UNCONFINED = "unconfined"
_PROFILES = "sys/kernel/security/apparmor/profiles"  # one line for each: "name (mode)"
_TIME_LIMIT = 60  # seconds


def profile(host: HostConfig, info: SysInfo) -> str:
    """Return the profile of a container, empty where there is no AppArmor."""
    if not info.apparmor:
        return ""
    chosen = [value for key, value in security_options(host) if key == "apparmor"]
    if chosen:
        return chosen[-1]
    return UNCONFINED if host.privileged else DEFAULT_PROFILE


def load(text: str) -> None:
    """Load profiles into the kernel, in place of those of the same names. Raises SystemFailure."""
    command: Sequence[str] = ("apparmor_parser", "--replace", "--skip-cache", "--quiet")
    try:
        result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SystemFailure(f"running `{command[0]}` failed: {exc}") from exc
    if result.returncode != 0:
        raise SystemFailure(f"running `{command[0]}` failed with output: {result.stderr.strip()}")


class DefaultProfile:
    """Keeps the profile ``docker-default`` loaded: updates of the host may unload it behind our back."""

    def __init__(self, *, root: str = "/", load: Callable[[str], None] = load) -> None:
        """``root`` is where /sys is looked up."""
        self._profiles = f"{root.rstrip('/')}/{_PROFILES}"
        self._load = load

    def ensure(self) -> None:
        """Load the profile unless it is there; blocking. Raises SystemFailure in Docker's words."""
        if self._is_loaded():
            return
        text = resources.files("boxship.engine.options").joinpath(f"{DEFAULT_PROFILE}.apparmor").read_text("utf-8")
        try:
            self._load(text)
        except SystemFailure as exc:
            raise SystemFailure(
                f"AppArmor enabled on system but the {DEFAULT_PROFILE} profile could not be loaded: {exc}"
            ) from exc

    def _is_loaded(self) -> bool:
        try:
            with open(self._profiles, encoding="utf-8") as file:
                return any(line.rpartition(" (")[0] == DEFAULT_PROFILE for line in file.read().splitlines())
        except OSError as exc:
            raise SystemFailure(
                f"Could not check if {DEFAULT_PROFILE} AppArmor profile was loaded: {exc.strerror}"
            ) from exc
