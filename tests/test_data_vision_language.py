"""A fourth modality: the same clips in the space of a text encoder, read like the others, and simulated."""

import warnings

import numpy as np
import pytest
import torch

from mag2.alignment import clip_text_similarity, name_actions
from mag2.data import DataError, read_fisv, read_fs1000, read_logo, read_rg, simulate
from mag2.data.fisv import FisV
from mag2.data.fs1000 import FS1000
from mag2.data.logo import LOGO
from mag2.data.reading import read_clips
from mag2.data.rg import RG
from tests.test_data_fisv import same_bits
from tests.test_data_simulate import WIDTH, M, random_texts

READ = {
    "FS1000": read_fs1000,
    "Fis-V": read_fisv,
    "RG": read_rg,
    "LOGO": lambda folder, target, **options: read_logo(folder, **options),
}
TARGETS = {"FS1000": "PCS", "Fis-V": "TES", "RG": "Clubs", "LOGO": "score"}
SPECS = {spec.name: spec for spec in (FS1000(), FisV(), RG(), LOGO())}
# A simulated nuisance has rank 8: where the clips are wider than the texts, most actions can be named.
WIDE = {"visual": 48, "audio": 8}
each_form = pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name, spec in SPECS.items() for variant in spec.variants]
)


def simulation(name="FS1000", **options):
    widths = {key: width for key, width in WIDE.items() if key in SPECS[name].widths}
    sizes = {"train": 12, "test": 12, "length": (14, 20), "widths": widths, "aligned": True}
    return simulate(random_texts(), spec=SPECS[name], **{**sizes, **options})


@each_form
def test_what_is_written_reads_back_bit_for_bit(name, variant, tmp_path):
    simulated = simulation(name)
    simulated.write(tmp_path, variant)
    read = READ[name](tmp_path, TARGETS[name], clips=16)
    same_bits(simulated.dataset(TARGETS[name], clips=16), read)
    assert read.test.widths["vision_language"] == WIDTH
    again = READ[name](tmp_path, TARGETS[name], clips=16)  # from the store
    same_bits(again, read)


@each_form
def test_the_similarity_of_a_written_folder_names_what_was_planted(name, variant, tmp_path):
    simulated = simulation(name)
    simulated.write(tmp_path, variant)
    read = READ[name](tmp_path, TARGETS[name], clips=20)
    seen = read.test.batch(range(len(read.test))).vision_language
    planted = simulated.planted_actions("test", clips=20, target=TARGETS[name])
    similarity = clip_text_similarity(seen, random_texts().visual)  # texts as a user has them, not centred
    accuracy = name_actions(similarity, [str(i) for i in range(M)], planted=planted).accuracy
    assert accuracy > 0.6  # chance is 0.05


@each_form
def test_it_may_be_absent_left_out_or_elsewhere(name, variant, tmp_path):
    simulated = simulation(name)
    simulated.write(tmp_path / "data", variant)
    before = READ[name](tmp_path / "data", TARGETS[name])
    left_out = READ[name](tmp_path / "data", TARGETS[name], vision_language=None)
    assert left_out.train.batch([0]).vision_language is None
    assert "vision_language" not in left_out.train.widths
    assert left_out.fingerprint != before.fingerprint
    assert left_out.fingerprints.items() < before.fingerprints.items()
    place = next(path for path in (tmp_path / "data").iterdir() if "vision_language" in path.name)
    if name == "RG" and variant == "dict":
        place = tmp_path / "data" / "Clubs_vision_language.npy"
    place.rename(tmp_path / "clip")
    same_bits(READ[name](tmp_path / "data", TARGETS[name]), left_out)
    same_bits(READ[name](tmp_path / "data", TARGETS[name], vision_language=tmp_path / "clip"), before)


def test_a_modality_that_cuts_videos_short_makes_other_videos_of_them(tmp_path):
    simulation("FS1000").write(tmp_path)
    before = read_fs1000(tmp_path, "TES")
    file = next((tmp_path / "vision_language").iterdir())
    np.save(file, np.load(file)[:-1])
    with pytest.warns(UserWarning, match="different length"):
        after = read_fs1000(tmp_path, "TES")
    assert after.fingerprints["visual"] == before.fingerprints["visual"]
    assert after.fingerprints["videos"] != before.fingerprints["videos"]


def test_one_start_serves_all_modalities():
    """Aligned clips are a map of the visual ones, so a crop that began elsewhere would not be."""
    simulated = simulation(length=(60, 90))
    train = simulated.dataset("TES", clips=10).train
    for generator in (None, torch.Generator().manual_seed(3)):
        batch = train.batch(range(12), generator)
        mapped = batch.visual @ simulated.visual_map
        torch.testing.assert_close(batch.vision_language, mapped, atol=2e-3, rtol=0)  # rounded to the grid
    assert (batch.vision_language - mapped.roll(1, dims=1)).abs().max() > 1


def test_views_of_frames_are_averaged_and_the_shorter_decides(tmp_path):
    simulation(length=(14, 14)).write(tmp_path)
    file = tmp_path / "vision_language" / "simulated_0001.npy"
    frames = np.random.default_rng(0).standard_normal((9, 3, WIDTH), dtype=np.float32)
    np.save(file, frames)
    with pytest.warns(UserWarning, match="1 of 24 videos of FS1000 .*vision_language.*by 5 clips at most"):
        train = read_fs1000(tmp_path, "TES", clips=14).train
    batch = train.batch([1])
    torch.testing.assert_close(batch.vision_language[0, :9], torch.from_numpy(frames.mean(1)))
    assert not batch.vision_language[0, 9:].any()
    assert not batch.visual[0, 9:].any()
    np.save(file, np.full((14, WIDTH), np.nan, np.float32))
    with pytest.raises(DataError, match=r"vision_language/simulated_0001\.npy .*NaN"):
        read_fs1000(tmp_path, "TES")


def test_a_batch_travels_with_all_it_has():
    batch = simulation().dataset("TES", clips=8).train.batch([0, 1]).to("cpu", torch.float16)
    assert batch.vision_language.dtype is batch.visual.dtype is torch.float16
    assert batch.label.dtype is torch.float32
    bare = simulation(aligned=False).dataset("TES", clips=8).train.batch([0]).to("cpu", torch.float16)
    assert bare.vision_language is None


def test_a_crop_may_have_another_length():
    train = simulation(length=(20, 20)).dataset("TES", clips=8).train
    assert train.batch([0, 1]).visual.shape[1] == 8
    whole = train.batch([0, 1], clips=20)
    assert torch.equal(whole.visual[:, 6:14], train.batch([0, 1]).visual)
    assert whole.vision_language.shape[1] == 20


@pytest.mark.parametrize("top1", [0.2, 0.4, 0.6])
def test_spoilt_features_name_the_requested_share(top1):
    simulated = simulation(test=60, top1=top1, length=(30, 40))
    seen = simulated.dataset("TES").test.batch(range(60)).vision_language
    planted = simulated.planted_actions("test")
    similarity = clip_text_similarity(seen, random_texts().visual)
    accuracy = name_actions(similarity, [str(i) for i in range(M)], planted=planted).accuracy
    assert accuracy == pytest.approx(top1, abs=0.01)
    assert simulated.top1 == pytest.approx(accuracy, abs=0.005)


def test_spoiling_changes_these_features_and_nothing_else(tmp_path):
    clean, spoilt = simulation(), simulation(top1=0.4)
    assert clean.top1 is None
    assert clean.features["vision_language"].digest != spoilt.features["vision_language"].digest
    assert clean.features["visual"].digest == spoilt.features["visual"].digest
    assert clean.scores == spoilt.scores
    again = simulation(top1=0.4)
    assert spoilt.features["vision_language"].digest == again.features["vision_language"].digest
    spoilt.write(tmp_path)
    assert f"names {spoilt.top1:.0%} of the planted actions" in (tmp_path / "SIMULATED.txt").read_text()
    assert "vision_language" not in simulation(aligned=False).features


def test_writing_over_an_older_simulation_takes_its_features_out(tmp_path):
    simulation().write(tmp_path)
    simulation(aligned=False).write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_fs1000(tmp_path, "TES").train.batch([0]).vision_language is None


def test_one_file_is_read_as_a_batch_of_one(tmp_path):
    frames = np.random.default_rng(0).standard_normal((5, 3, 4), dtype=np.float32)
    np.save(tmp_path / "mine.npy", frames)
    torch.testing.assert_close(read_clips(tmp_path / "mine.npy"), torch.from_numpy(frames.mean(1))[None])
    np.save(tmp_path / "flat.npy", frames[0, 0])
    for name, said in (("none.npy", "no feature file .*none.npy"), ("flat.npy", r"flat.npy .*shape \(4,\)")):
        with pytest.raises(DataError, match=f"^[^\n]*{said}[^\n]*$"):
            read_clips(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_read_may_be_written_to(tmp_path, dtype):
    """float32 comes from a read-only memory map: a write to that would end the interpreter."""
    np.save(tmp_path / "mine.npy", np.ones((5, 4), dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clips = read_clips(tmp_path / "mine.npy")
    clips.mul_(2)
    assert (clips == 2).all()
    assert (np.load(tmp_path / "mine.npy") == 1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"aligned": False, "top1": 0.5}, "simulate with aligned=True"),
        ({"top1": 0.01}, "a share above chance, 0.050"),
        ({"top1": 1.5}, "got 1.5"),
    ],
)
def test_what_cannot_be_spoilt_is_one_plain_sentence(options, said):
    with pytest.raises(ValueError, match=f"^[^\n]*{said}[^\n]*$"):
        simulation(**options)


def test_a_simulation_that_is_not_aligned_has_no_map_to_spoil():
    with pytest.raises(ValueError, match="simulate with aligned=True"):
        simulation(aligned=False).spoilt_map(0.5)
