"""What goes wrong with plugins, in Docker's words."""

from __future__ import annotations

from boxship.base.errors import NotFound, SystemFailure


class PluginNotFound(NotFound):
    """No directory of plugins knows the name."""

    def __init__(self, name: str, looked_for: str = "") -> None:
        """``looked_for`` is what comes before it in the sentence."""
        super().__init__(f'{looked_for}plugin "{name}" not found')


class PluginError(SystemFailure):
    """A plugin that is there does not do what it was asked."""


class PluginRefused(PluginError):
    """The plugin answered, and the answer is an error: nothing was done. ``status`` is HTTP's, 200 for an error inside."""

    def __init__(self, text: str, status: int = 200) -> None:
        super().__init__(text)
        self.status = status


class PluginUnreachable(PluginError):
    """The plugin gave no answer that can be used: whether something was done nobody knows."""
