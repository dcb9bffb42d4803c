"""Plug-ins: attach modules to any model, detach them, save and load them, weight their edges, fold them."""

from mag2.plugin.attaching import (
    Attached,
    attach,
    attached,
    detach,
    disabled,
    insert,
    print_trainable_parameters,
)
from mag2.plugin.edge_weights import edge_weights_of, weightable
from mag2.plugin.feature_plug import FeaturePlug
from mag2.plugin.folding import fold
from mag2.plugin.placement import Placement
from mag2.plugin.places import submodule
from mag2.plugin.plug import Plug
from mag2.plugin.saving import load_plugin, save_plugin
from mag2.plugin.signature import n_texts_of
from mag2.plugin.starts import IdentityStart

__all__ = [
    "Attached",
    "FeaturePlug",
    "IdentityStart",
    "Placement",
    "Plug",
    "attach",
    "attached",
    "detach",
    "disabled",
    "edge_weights_of",
    "fold",
    "insert",
    "load_plugin",
    "n_texts_of",
    "print_trainable_parameters",
    "save_plugin",
    "submodule",
    "weightable",
]
