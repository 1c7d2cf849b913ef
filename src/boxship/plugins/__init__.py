"""Docker's plugins of the older kind: programs beside the engine that answer JSON over HTTP when they are asked.

Owns how they are found, spoken to and remembered, and nothing of what they do: volumes and networks know their own calls.

Words: a *plugin* is named by its socket or specification file; it *implements* interfaces ("VolumeDriver"), which it says
when it is *activated*; a *debt* is what a plugin holds for this engine, with the calls that give it back.
"""

from boxship.plugins.debts import Call, Ledger
from boxship.plugins.errors import PluginError, PluginNotFound, PluginRefused, PluginUnreachable
from boxship.plugins.service import PluginOptions, Plugins

__all__ = [
    "Call",
    "Ledger",
    "PluginError",
    "PluginNotFound",
    "PluginOptions",
    "PluginRefused",
    "PluginUnreachable",
    "Plugins",
]
