"""Folders as people download them: each is read as it is, found by its content, or refused with what would do."""

import logging
import pickle
import shutil

import numpy as np
import pytest
import torch

from mag2.data import DATASETS, DataError, read_fisv, read_fs1000, read_logo, read_rg, simulate, simulate_fisv
from mag2.data.performances import crop_starts
from mag2.training.dataset_providers import FolderProvider
from tests.test_data_rg import random_texts

WIDTHS = {"visual": 12, "audio": 10, "flow": 8}
SIZES = {"train": 8, "test": 6, "length": (7, 9)}


@pytest.fixture(scope="module")
def texts():
    return random_texts()


@pytest.fixture(scope="module")
def rg(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rg")
    sizes = SIZES | {"train": 12, "test": 8}
    simulation = simulate(texts, sport="rhythmic_gymnastics", widths=WIDTHS, **sizes)
    simulation.write(folder / "dict", "dict")
    simulation.write(folder / "files", "files")
    return folder


@pytest.fixture(scope="module")
def fisv(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fisv")
    simulation = simulate_fisv(texts, widths=WIDTHS, **SIZES)
    simulation.write(folder / "dict", "dict")
    simulation.write(folder / "files", "files")
    return folder


@pytest.fixture
def pamfn(rg, fisv, tmp_path):
    """PAMFN's repository: labels in a folder for each dataset, features in one for both."""
    data = tmp_path / "PAMFN" / "data"
    (data / "features").mkdir(parents=True)
    for name, folder in (("RG", rg / "dict"), ("FISV", fisv / "dict")):
        (data / name).mkdir()
        for file in folder.glob("*.txt"):
            if file.name != "SIMULATED.txt":
                shutil.copy(file, data / name)
        for file in folder.glob("*.npy"):
            shutil.copy(file, data / "features")
    shutil.copy(rg / "dict" / "SIMULATED.txt", data)
    return data


def equal(left, right):
    """Two datasets with the same videos, labels and features."""
    assert left.fingerprints == right.fingerprints
    assert left.simulated == right.simulated


@pytest.mark.parametrize("start", ["..", ".", "RG"])
def test_pamfns_folder_is_read_from_anywhere_in_it(pamfn, rg, start):
    for apparatus in ("Ball", "Ribbon"):
        found = DATASETS["RG"].read(pamfn / start, apparatus)
        equal(found, read_rg(rg / "dict", apparatus))


@pytest.mark.parametrize("start", ["..", ".", "FISV"])
def test_labels_of_two_datasets_of_one_name_are_told_apart(pamfn, fisv, start):
    equal(read_fisv(pamfn / start, "PCS"), read_fisv(fisv / "dict", "PCS"))


@pytest.mark.parametrize("name", ["RG", "Fis-V"])
def test_the_folder_of_gdlt_cofinal_and_qtd_has_video_alone(rg, fisv, tmp_path, name):
    folder, target = {"RG": (rg, "Hoop"), "Fis-V": (fisv, "TES")}[name]
    for split in ("train.txt", "test.txt"):
        shutil.copy(folder / "files" / split, tmp_path)
    shutil.copytree(folder / "files" / "video", tmp_path / "swintx_avg_fps25_clip32")
    found = DATASETS[name].read(tmp_path, target, needs=("visual",))
    assert set(found.train.widths) == {"visual"}
    whole = DATASETS[name].read(folder / "files", target)
    assert found.fingerprints["visual"] == whole.fingerprints["visual"]
    assert found.train.names == whole.train.names
    with pytest.raises(DataError, match=r"audio features there or name their place; layouts that would do: .*swintx"):
        DATASETS[name].read(tmp_path, target)


def test_logos_folder_is_read_and_not_cropped(texts, tmp_path, caplog):
    simulation = simulate(texts, sport="artistic_swimming", widths={"visual": 12}, train=5, test=4, length=(9, 9))
    simulation.write(tmp_path / "usual")
    released = tmp_path / "released"
    (released / "LOGO Anno&Split").mkdir(parents=True)
    for file in (tmp_path / "usual").glob("*.pkl"):
        shutil.copy(file, released / "LOGO Anno&Split")
    shutil.copytree(tmp_path / "usual" / "video", released / "logo_feats")
    with caplog.at_level(logging.INFO, "mag2"):
        found = read_logo(released)
    assert found.train.clips == 9
    assert "all videos of LOGO have 9 clips: they are not cropped" in caplog.text
    assert torch.equal(found.train.batch([0]).visual[0], simulation.features["visual"].video(0))
    assert found.fingerprints == read_logo(tmp_path / "usual").fingerprints
    assert not found.simulated, "what says so was not copied"
    assert read_logo(released, clips=4).train.clips == 4


def test_logo_is_cropped_to_160_where_lengths_differ(texts, tmp_path):
    simulate(texts, sport="artistic_swimming", widths={"visual": 12}, train=5, test=4, length=(6, 9)).write(tmp_path)
    assert read_logo(tmp_path).train.clips == 160


@pytest.fixture
def skating(texts, tmp_path):
    """FS1000 as Skating-Mixer's repository has it: folders of the user's own names."""
    simulation = simulate(texts, widths={"visual": 12, "audio": 10}, **SIZES)
    simulation.write(tmp_path / "usual", "K15")
    mine = tmp_path / "mine"
    (mine / "annotations").mkdir(parents=True)
    shutil.copytree(tmp_path / "usual" / "video", mine / "a")
    shutil.copytree(tmp_path / "usual" / "audio", mine / "b")
    for ours, theirs in (("train_fs1000_new.txt", "train_fs800.txt"), ("val_fs1000_new.txt", "val_fs800.txt")):
        shutil.copy(tmp_path / "usual" / ours, mine / "annotations" / theirs)
    return tmp_path


def test_fs1000s_folders_are_told_apart_by_the_shape_of_their_features(skating):
    equal_but_simulated(read_fs1000(skating / "mine", "TES"), read_fs1000(skating / "usual", "TES"))


def equal_but_simulated(left, right):
    assert left.fingerprints == right.fingerprints


def test_the_newest_label_files_go_first(skating):
    mine = skating / "mine" / "annotations"
    for split in ("train", "val"):
        shutil.copy(mine / f"{split}_fs800.txt", mine / f"{split}_fs1000_new.txt")
        (mine / f"{split}_fs800.txt").write_text("not labels\n")
    assert len(read_fs1000(skating / "mine", "PE").train) == SIZES["train"]


def test_two_folders_that_nothing_tells_apart_are_refused_and_named(skating):
    mine = skating / "mine"
    for file in (mine / "a").glob("*.npy"):
        np.save(file, np.load(file).mean(axis=1))
    with pytest.raises(DataError, match=r"/a and .*/b hold features of these videos, and neither name nor shape"):
        read_fs1000(mine, "TES")
    (mine / "b").rename(mine / "vggish_features")
    assert read_fs1000(mine, "TES").train.widths == {"visual": 12, "audio": 10}


def test_two_places_of_one_modality_are_refused_and_one_may_be_named(skating):
    mine = skating / "mine"
    shutil.copytree(mine / "a", mine / "copy")
    with pytest.raises(DataError, match="both hold visual features of these videos: name one of them"):
        read_fs1000(mine, "TES")
    spec = DATASETS["FS1000"]
    assert spec.read(mine, "TES", features={"visual": mine / "copy", "audio": mine / "b"}).train.widths["visual"] == 12


def test_labels_and_features_may_lie_apart(skating):
    apart = skating / "elsewhere"
    (skating / "mine" / "annotations").rename(apart)
    spec = DATASETS["FS1000"]
    with pytest.raises(DataError, match=r"there is no label file .*layouts that would do: .*train_fs800.txt"):
        spec.read(skating / "mine", "TES")
    by_labels = spec.read(skating / "mine", "TES", label_folder=apart)
    by_features = spec.read(apart, "TES", feature_folder=skating / "mine")
    usual = spec.read(skating / "usual", "TES")
    assert by_labels.fingerprints == by_features.fingerprints == usual.fingerprints
    with pytest.raises(DataError, match=r"there is no folder .*nowhere for the labels of FS1000"):
        spec.read(skating / "mine", "TES", label_folder=skating / "nowhere")


def test_audio_may_be_missing_where_nobody_needs_it(skating, caplog):
    shutil.rmtree(skating / "mine" / "b")
    with caplog.at_level(logging.INFO, "mag2"):
        found = DATASETS["FS1000"].read(skating / "mine", "TES", needs=("visual",))
    assert found.train.widths == {"visual": 12}
    assert "FS1000: no audio features found; it is read without them" in caplog.text


@pytest.mark.parametrize("name", ["RG", "Fis-V", "FS1000"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("separator", ["\t", " ", " \t "])
def test_labels_are_split_at_tabs_or_blanks_with_a_header_or_not(
    rg, fisv, skating, tmp_path, caplog, name, header, separator
):
    folder, target = {"RG": (rg / "dict", "Ball"), "Fis-V": (fisv / "dict", "TES")}.get(
        name, (skating / "usual", "TES")
    )
    usual = DATASETS[name].read(folder, target)
    columns = {"RG": "Video name\tDifficulty score\tExecution\tTotal", "Fis-V": "#video\tTES\tPCS\tdeduction"}
    labels = tmp_path / "labels"
    labels.mkdir()
    for file in folder.glob("*.txt"):
        rows = [row.split() for row in file.read_text().splitlines() if any(c.isdigit() for c in row)]
        lines = [columns.get(name, "name\tTES\tPCS\tSS\tTR\tPE\tCO\tIN\tfactor")] * header
        if file.name != "SIMULATED.txt":
            (labels / file.name).write_text("\n".join([*lines, *map(separator.join, rows)]) + "\n")
    with caplog.at_level(logging.INFO, "mag2"):
        found = DATASETS[name].read(folder, target, label_folder=labels)
    assert found.train.names == usual.train.names
    assert torch.equal(found.test.label, usual.test.label)
    said = "line 1 is a header" if header else "no header, line 1 is a video"
    assert sum(said in record.getMessage() for record in caplog.records) == 2


def test_what_is_found_below_a_simulated_folder_says_that_it_is_simulated(pamfn):
    assert read_fisv(pamfn / "FISV", "TES").simulated
    (pamfn / "SIMULATED.txt").unlink()
    assert not read_fisv(pamfn / "FISV", "TES").simulated


def test_simulated_logo_has_what_the_released_repository_reads(texts, tmp_path):
    simulation = simulate(texts, sport="artistic_swimming", widths={"visual": 12}, train=5, test=4, length=(9, 9))
    simulation.write(tmp_path)
    formations = pickle.loads((tmp_path / "formation_dict.pkl").read_bytes())
    annotations = pickle.loads((tmp_path / "anno_dict.pkl").read_bytes())
    assert formations.keys() == annotations.keys()
    assert {len(each) for each in formations.values()} == {9}
    assert DATASETS["LOGO"].length[0] == DATASETS["LOGO"].length[1], "all of one length, as released"


def test_simulated_fs1000_has_fifteen_views_of_a_clip_on_request(skating):
    files = sorted((skating / "usual" / "video").glob("*.npy"))
    views = np.load(files[0])
    assert views.shape[1:] == (15, 12)
    assert np.unique(views[0], axis=0).shape[0] == 15
    assert len(read_fs1000(skating / "usual", "TES").train) == SIZES["train"]


def uneven(tmp_path, lengths):
    """FS1000 with one video of so many video and audio clips; clip i is i everywhere."""
    for split, name in (("train", "a"), ("val", "b")):
        (tmp_path / f"{split}_fs1000_new.txt").write_text(f"{name} 50 30 5 5 5 5 5 1\n")
        for modality, length in zip(("video", "audio"), lengths, strict=True):
            (tmp_path / modality).mkdir(exist_ok=True)
            clips = np.arange(length, dtype=np.float32)[:, None].repeat(3, axis=1)
            np.save(tmp_path / modality / f"{name}.npy", 1 + clips)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*of different length")
def test_released_crops_begin_by_the_videos_length(tmp_path):
    folder = uneven(tmp_path, (103, 100))
    for crops, first in (("shortest", 2), ("released", 4)):
        batch = read_fs1000(folder, "TES", crops=crops).test.batch([0])
        assert batch.visual[0, :, 0].tolist() == [1 + first + i for i in range(95)]
        assert batch.audio[0, :, 0].tolist() == [1 + first + i for i in range(95)]


@pytest.mark.filterwarnings("ignore:.*of different length")
def test_released_crops_pad_what_ends_early_and_keep_what_goes_on(tmp_path):
    folder = uneven(tmp_path, (90, 93))
    batch = read_fs1000(folder, "TES", crops="released").test.batch([0])
    assert batch.visual[0, :, 0].tolist() == [*range(1, 91), 0, 0, 0, 0, 0]
    assert batch.audio[0, :, 0].tolist() == [*range(1, 94), 0, 0]
    batch = read_fs1000(folder, "TES").test.batch([0])
    assert batch.audio[0, :, 0].tolist() == [*range(1, 91), 0, 0, 0, 0, 0]


def test_random_released_crops_never_take_the_last_start():
    lengths = np.full(2000, 9)
    generator = torch.Generator().manual_seed(0)
    assert set(crop_starts(lengths, 6, generator, last=False).tolist()) == {0, 1, 2}
    assert set(crop_starts(lengths, 6, generator).tolist()) == {0, 1, 2, 3}
    assert set(crop_starts(lengths, 9, generator, last=False).tolist()) == {0}


@pytest.mark.filterwarnings("ignore:.*of different length")
def test_datasets_that_are_cropped_in_two_ways_have_two_fingerprints(tmp_path):
    folder = uneven(tmp_path, (103, 100))
    one, other = (read_fs1000(folder, "TES", crops=crops) for crops in ("shortest", "released"))
    assert one.fingerprints["videos"] != other.fingerprints["videos"]
    with pytest.raises(ValueError, match="unknown crops 'middle'; there are shortest, released"):
        read_fs1000(folder, "TES", crops="middle")


@pytest.mark.filterwarnings("ignore:.*of different length")
def test_a_subset_is_cropped_as_the_whole(tmp_path):
    split = read_fs1000(uneven(tmp_path, (103, 100)), "TES", crops="released").test
    assert torch.equal(split.subset([0]).batch([0]).visual, split.batch([0]).visual)


@pytest.mark.parametrize(
    ("name", "of", "said"),
    [
        ("FS1000", "rg/dict", "has the label files of RG, not those of FS1000: give the folder of FS1000, or name"),
        (
            "Fis-V",
            "rg/files",
            r"has the label files of RG, not those of Fis-V \(.*a video of Fis-V is a number\): give",
        ),
        ("RG", "fisv/files", r"has the label files of Fis-V, not those of RG \(.*a name begins with Ball_"),
        ("ISU-simulated", "skating/usual", "has the label files of FS1000, not those of ISU-simulated: give"),
    ],
)
def test_the_folder_of_another_dataset_is_refused_by_both_names(rg, fisv, skating, name, of, said):
    """Also where names and columns of files are such that it could be read, RG's as Fis-V's for example."""
    folders = {"rg": rg, "fisv": fisv, "skating": skating}
    fixture, _, below = of.partition("/")
    with pytest.raises(DataError, match=said) as caught:
        FolderProvider(DATASETS[name], folders[fixture] / below).dataset(DATASETS[name].targets[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_folder_without_labels_is_refused_with_what_is_looked_for_and_what_is_there(tmp_path, name):
    spec = DATASETS[name]
    folder, file = tmp_path / "notes", tmp_path / "notes" / "read.me"
    for entries, held in (((), "nothing"), (("a.txt", "read.me"), "a.txt, read.me")):
        folder.mkdir(exist_ok=True)
        for entry in entries:
            (folder / entry).touch()
        with pytest.raises(DataError, match=rf"no label file .* of {name}, and {folder} holds {held}: put it there"):
            spec.read(folder, spec.targets[0])
    with pytest.raises(DataError, match=rf"read\.me is a file: give the folder of {name}, which holds "):
        spec.read(file, spec.targets[0])


def test_a_fault_of_the_datasets_own_folder_is_said_as_it_is(fisv, tmp_path):
    shutil.copytree(fisv / "files", tmp_path / "mine")
    labels = tmp_path / "mine" / "train.txt"
    labels.write_text(labels.read_text() + "999 many 20 0\n")
    with pytest.raises(DataError, match=r"train\.txt line \d+ has 'many' as its TES") as caught:
        FolderProvider(DATASETS["Fis-V"], tmp_path / "mine").dataset("TES")
    assert "label files of" not in str(caught.value)
