"""Real programmes and scores, simulated features: what is real stays as it is, and everything says what is not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mag2.data import DATASETS, DataError, simulate, simulate_fisv
from mag2.data.fisv_programmes import FisVProgrammes, read_elements
from mag2.data.isu_simulated import SimulatedISU
from mag2.metrics import spearman
from mag2.programmes import execution_of, read_performances, train_and_test
from mag2.texts import TextFeatures
from mag2.training.dataset_providers import simulation_provider
from mag2.vocabulary import actions_of
from tests.test_data_simulate import SMALL

TEXTS = TextFeatures.for_sport("figure_skating_elements")
NAMES = actions_of("figure_skating_elements")
REAL = Path(__file__).parents[2] / "shared" / "fisv"
REAL_ONLY = pytest.mark.skipif(not (REAL / "elements.csv").is_file(), reason="no real elements in ../shared/fisv")


@pytest.fixture(scope="module")
def simulation():
    return simulate(TEXTS, spec=SimulatedISU(segment="short"), train=60, test=30, length=(30, 40), widths=SMALL)


def by_id():
    return {each.id: each for each in read_performances()}


def shown(simulation, video):
    """The actions that a video shows, in their order, with the execution of each."""
    action, q = simulation.action[video], simulation.q[video]
    starts = [i for i in range(len(action)) if i == 0 or (action[i], q[i]) != (action[i - 1], q[i - 1])]
    return [(NAMES[action[i]], float(q[i])) for i in starts if action[i] >= 0]


def without_repeats(pairs):
    return [pair for i, pair in enumerate(pairs) if i == 0 or pair != pairs[i - 1]]


def test_names_scores_and_split_are_the_real_ones(simulation):
    performances = by_id()
    train, test = train_and_test(read_performances(segment="short"))
    assert len(simulation.names) == 90
    assert set(simulation.names[:60]) <= {each.id for each in train}
    assert set(simulation.names[60:]) <= {each.id for each in test}
    for target in ("TES", "PCS", "IN"):
        dataset = simulation.dataset(target, clips=24)
        assert dataset.simulated
        real = torch.tensor([performances[name].label(target) for name in dataset.test.names])
        assert torch.allclose(dataset.test.label.double(), real.double(), atol=1e-6)


def test_actions_order_and_execution_are_the_real_ones(simulation):
    performances = by_id()
    for video, name in enumerate(simulation.names):
        real = [
            (action, execution_of(element.notation, element.goe))
            for element in performances[name].elements
            for action in element.notation.actions
        ]
        assert without_repeats(shown(simulation, video)) == without_repeats(real)


def test_music_fits_more_where_interpretation_is_ahead():
    simulation = simulate(TEXTS, spec=SimulatedISU(), train=None, test=1, length=(30, 40), widths=SMALL)
    performances = [by_id()[name] for name in simulation.names]
    ahead = [each.IN - (each.SS + each.TR + each.PE + each.CO) / 4 for each in performances]
    fitting = [float(fit[fit >= 0].mean()) for fit in simulation.fit]
    assert spearman(np.array(fitting), np.array(ahead)) > 0.6


def test_the_same_seed_draws_the_same_features(simulation):
    again = simulate(TEXTS, spec=SimulatedISU(segment="short"), train=60, test=30, length=(30, 40), widths=SMALL)
    other = simulate(
        TEXTS, spec=SimulatedISU(segment="short"), train=60, test=30, length=(30, 40), widths=SMALL, seed=1
    )
    for key in SMALL:
        assert again.features[key].digest == simulation.features[key].digest != other.features[key].digest
    assert other.scores == simulation.scores


def test_what_is_written_says_what_is_real_and_reads_back(simulation, tmp_path):
    simulation.write(tmp_path / "ISU")
    note = (tmp_path / "ISU" / "SIMULATED.txt").read_text(encoding="utf-8")
    assert note.startswith("SIMULATED: real programmes and scores, simulated features.")
    assert "those of ISU short" in note
    read = simulation.spec.read(tmp_path / "ISU", "PCS", clips=20)
    assert read.simulated
    assert read.fingerprint == simulation.dataset("PCS", clips=20).fingerprint


def test_a_short_video_has_a_clip_of_every_action():
    simulation = simulate(TEXTS, spec=SimulatedISU(), train=20, test=20, length=(1, 1), widths=SMALL)
    for video in range(40):
        assert (simulation.action[video] >= 0).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: simulate(TextFeatures.for_sport("figure_skating"), spec=SimulatedISU(), widths=SMALL),
            "ISU-simulated is made of the 96 actions of figure_skating_elements, got texts of 42: give",
        ),
        (lambda: simulate(TEXTS, spec=DATASETS["FS1000"], train=None), "FS1000 is drawn: say how many videos"),
        (lambda: simulate_fisv(TEXTS, elements=True), "give the folder of their labels too"),
        (lambda: simulate(TEXTS, spec=SimulatedISU(discipline="women")), "ISU has no discipline 'women'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@REAL_ONLY
def test_every_element_of_the_fis_v_videos_is_read():
    elements = read_elements(REAL / "elements.csv")
    assert len(elements) == 500
    assert {len(each) for each in elements.values()} == {7}
    assert {action for each in elements.values() for element in each for action in element.actions} <= set(NAMES)


@REAL_ONLY
def test_fis_v_has_its_real_programmes_where_their_elements_are_there():
    provider = simulation_provider("Fis-V", labels=REAL)
    assert isinstance(provider.spec, FisVProgrammes)
    train, test = provider.spec.programmes()
    assert (len(train), len(test)) == (400, 100)
    simulation = simulate_fisv(TEXTS, labels=REAL, elements=True, length=(20, 30), widths=SMALL)
    assert simulation.names[:3] == [row.name for row in train[:3]]
    real = [(a, e.execution) for e in train[0].elements for a in e.actions]
    assert without_repeats(shown(simulation, 0)) == without_repeats(real)
    assert simulation.scores["TES"][0] == train[0].scores["TES"]


def label_folder(tmp_path, elements):
    (tmp_path / "train.txt").write_text("1 30 25 0\n2 20 22 0\n")
    (tmp_path / "test.txt").write_text("3 28 24 0\n")
    (tmp_path / "elements.csv").write_text("video,number,code,base_value,goe\n" + elements)
    return tmp_path


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ("1,1,3Lz,5.9,0.7\n2,1,4Q,5,1\n", r"elements.csv line 3 has an unknown .*4Q"),
        ("1,1,3Lz,5.9,x\n", r"elements.csv line 2 has 'x' as its goe: write a number"),
        ("1,1,3Lz,5.9,0.7\n2,1,3F,5.3,0.7\n", r"test.txt line 1 names '3', and .*elements.csv has no elements of it"),
    ],
)
def test_faults_of_the_elements_name_the_line(tmp_path, elements, sentence):
    with pytest.raises(DataError, match=sentence):
        FisVProgrammes.with_elements(label_folder(tmp_path, elements))
