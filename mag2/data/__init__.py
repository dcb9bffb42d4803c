"""Performances as batches: ragged clip features, the loaders of released layouts, and the simulator."""

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.fisv import read_fisv, simulate_fisv
from mag2.data.fs1000 import read_fs1000
from mag2.data.layout import Layout
from mag2.data.logo import read_logo
from mag2.data.performances import Batch, Dataset, Performances
from mag2.data.pickles import load_pickle
from mag2.data.rg import read_rg
from mag2.data.simulate import Simulation, simulate
from mag2.data.targets import SCALES, TARGETS

__all__ = [
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
    "read_fisv",
    "read_fs1000",
    "read_logo",
    "read_rg",
    "simulate",
    "simulate_fisv",
]
