"""A dataset of one's own: what its labels and the arguments of its reader must be, and when two specs are equal."""

import pickle

import numpy as np
import pytest

from mag2.data import DATASETS, DataError, DatasetSpec
from mag2.data.fisv import FisV
from mag2.data.labels import Example, LabelRow


class Vault(DatasetSpec):
    """Labels are given, not read from a file."""

    name, sport, clips = "Vault no. 1", "figure_skating", 4
    scales = {"score": 16.0}  # noqa: RUF012
    label_files = {"train": "train.txt", "test": "test.txt"}  # noqa: RUF012
    features = {"visual": ("first.npy", "video")}  # noqa: RUF012

    def __init__(self, train=(("a", 0.5),), test=(("b", 1.0),)):
        self.train, self.test = train, test

    def read_labels(self, files, target):
        splits = (("train", self.train), ("test", self.test))
        return tuple([Example(name, label, f"{files[split]} {name}") for name, label in rows] for split, rows in splits)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "video").mkdir()
    for name in "abc":
        np.save(tmp_path / "video" / f"{name}.npy", np.ones((3, 2), np.float32))
    return tmp_path


def test_what_it_does_not_say_is_common_to_all(folder):
    data = Vault().read(folder, "score")
    assert (data.name, data.target, data.train.clips, data.train.scale) == ("Vault no. 1", "score", 4, 16.0)
    assert data.train.names == ["a"]
    assert {path.name.split("-")[0] for path in (folder / ".mag2-cache").glob("*.npy")} == {"vaultno1"}
    assert Vault().feature_paths() == [*map(type(folder), ("first.npy", "video"))]


@pytest.mark.parametrize(
    ("spec", "arguments", "sentence"),
    [
        (Vault(train=()), {}, "the train split of Vault no. 1 for score has no videos: label one or more"),
        (Vault(test=(("b", 12.5),)), {}, "test.txt b gives 'b' the label 12.5, outside 0 to 1: divide the score"),
        (Vault(train=(("a", float("nan")),)), {}, "gives 'a' the label nan, outside 0 to 1"),
        (Vault(train=(("b", 0.5),)), {}, "names 'b', which is also in the other split"),
        (Vault(), {"target": "style"}, "Vault no. 1 has no target 'style': choose one of score"),
        (Vault(), {"label_files": {"val": "x"}}, "no label file of Vault no. 1 'val': there are train, test"),
        (Vault(), {"features": {"video": "x"}}, "no modality 'video': there are visual, audio, flow, vision_language"),
    ],
)
def test_what_does_not_fit_is_one_sentence(folder, spec, arguments, sentence):
    with pytest.raises(DataError) as caught:
        spec.read(folder, **{"target": "score", **arguments})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_specs_of_one_class_and_equal_attributes_are_equal():
    assert len({*DATASETS.values(), *(type(spec)() for spec in DATASETS.values())}) == len(DATASETS)
    assert Vault() == Vault() == pickle.loads(pickle.dumps(Vault()))
    assert Vault() != Vault(test=(("c", 1.0),))
    rows = (LabelRow("train.txt", 1, ("1", "2", "3")),)
    assert FisV(rows) == FisV(rows) != FisV()
    assert type("Other", (Vault,), {})() != Vault()
