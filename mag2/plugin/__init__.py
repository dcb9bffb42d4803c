"""Lend modules to any model: attach and detach, save and load what was attached, and say how it was built."""

from mag2.plugin.attaching import Attached, attach, attached, detach, disabled, insert
from mag2.plugin.files import load_plugin, save_plugin
from mag2.plugin.lending import edge_weights_of
from mag2.plugin.plugs import FeaturePlug, Plug, submodule

__all__ = [
    "Attached",
    "FeaturePlug",
    "Plug",
    "attach",
    "attached",
    "detach",
    "disabled",
    "edge_weights_of",
    "insert",
    "load_plugin",
    "save_plugin",
    "submodule",
]
