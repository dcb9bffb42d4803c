"""Performances as batches: ragged clip features, your own arrays, released datasets, and the simulator."""

from mag2.data.arrays_spec import ArraysSpec
from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.fisv import read_fisv
from mag2.data.fs1000 import read_fs1000
from mag2.data.isu import read_isu
from mag2.data.logo import read_logo
from mag2.data.performances import Batch, Dataset, Performances
from mag2.data.pickles import load_pickle
from mag2.data.reading import read_clips
from mag2.data.registry import DATASETS, SCALES, TARGETS, register
from mag2.data.rg import read_rg
from mag2.data.simulatable import SimulatableSpec
from mag2.data.simulate import simulate, simulate_fisv
from mag2.data.simulation import Simulation
from mag2.data.spec import DatasetSpec
from mag2.data.torch_dataset import TorchDataset, collate

__all__ = [
    "DATASETS",
    "SCALES",
    "TARGETS",
    "ArraysSpec",
    "Batch",
    "ClipFeatures",
    "DataError",
    "Dataset",
    "DatasetSpec",
    "Performances",
    "SimulatableSpec",
    "Simulation",
    "TorchDataset",
    "collate",
    "load_pickle",
    "read_clips",
    "read_fisv",
    "read_fs1000",
    "read_isu",
    "read_logo",
    "read_rg",
    "register",
    "simulate",
    "simulate_fisv",
]
