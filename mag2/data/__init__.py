"""Performances as batches: ragged clip features, the loaders of released layouts, and the simulator."""

from importlib import import_module
from pkgutil import iter_modules

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.fisv import read_fisv, simulate_fisv
from mag2.data.fs1000 import read_fs1000
from mag2.data.layout import DATASETS, Layout
from mag2.data.logo import read_logo
from mag2.data.performances import Batch, Dataset, Performances
from mag2.data.pickles import load_pickle
from mag2.data.reading import read_clips
from mag2.data.rg import read_rg
from mag2.data.simulate import simulate
from mag2.data.simulation import Simulation
from mag2.data.targets import SCALES, TARGETS

# Every file of this folder that has a `Layout` is a dataset.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "DATASETS",
    "SCALES",
    "TARGETS",
    "Batch",
    "ClipFeatures",
    "DataError",
    "Dataset",
    "Layout",
    "Performances",
    "Simulation",
    "load_pickle",
    "read_clips",
    "read_fisv",
    "read_fs1000",
    "read_logo",
    "read_rg",
    "simulate",
    "simulate_fisv",
]
