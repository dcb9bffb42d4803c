"""Plug-ins: attach modules to any model, take them out, save and load them, weight their edges, fold them."""

from mag2.plugin.attaching import Attached, attach, attached, detach, disabled, insert
from mag2.plugin.edge_weights import edge_weights_of, weightable
from mag2.plugin.feature_plug import FeaturePlug
from mag2.plugin.folding import fold
from mag2.plugin.placement import Placement
from mag2.plugin.places import submodule
from mag2.plugin.plug import Plug
from mag2.plugin.residual import Residual
from mag2.plugin.saving import load_plugin, save_plugin
from mag2.plugin.signature import n_texts_of

__all__ = [
    "Attached",
    "FeaturePlug",
    "Placement",
    "Plug",
    "Residual",
    "attach",
    "attached",
    "detach",
    "disabled",
    "edge_weights_of",
    "fold",
    "insert",
    "load_plugin",
    "n_texts_of",
    "save_plugin",
    "submodule",
    "weightable",
]
